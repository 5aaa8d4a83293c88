//! Rendered files, judged by the programs that read them: Consul, Prometheus' promtool, systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clusterctl::core::render::{Peer, Renderer, Subject};
use clusterctl::core::specfile;
use clusterctl::model::artifact::{Arch, Artifact, Executable};
use clusterctl::model::file::{FileSource, Wanted, Word};
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::HostName;
use clusterctl::model::spec::Spec;
use clusterctl::model::version::{Preset, Program};
use clusterctl::world::artifacts::Cache;

use crate::support::put_program;

/// What is in the cache for this machine's processor.
fn cached() -> Vec<Artifact> {
    let cache = std::env::var_os("CLUSTERCTL_CACHE_DIR").map_or_else(
        || match std::env::var_os("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder).join("clusterctl"),
            None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/clusterctl"),
        },
        PathBuf::from,
    );
    let here = Arch::from_machine(std::env::consts::ARCH);
    let listed = Cache::open(cache.join("artifacts")).unwrap().list().unwrap();
    listed.into_iter().filter(|artifact| Some(artifact.id.arch) == here).collect()
}

/// The programs that scripts/programs put into the cache, in the spec's versions.
pub fn artifacts(spec: &Spec) -> BTreeMap<Program, Artifact> {
    let wanted = spec.releases(Role::Server);
    let found: BTreeMap<Program, Artifact> = cached()
        .into_iter()
        .filter(|artifact| wanted.contains(&(artifact.id.program, &artifact.id.version)))
        .map(|artifact| (artifact.id.program, artifact))
        .collect();
    assert_eq!(found.len(), wanted.len(), "not all of {wanted:?} are in the cache: run scripts/programs [--older]");
    found
}

/// Unpacks the executables of a program into a folder.
pub fn unpack(program: Program, version: &str, folder: &Path) {
    let artifact = cached().into_iter().find(|a| a.id.program == program && a.id.version.to_string() == version);
    let artifact = artifact.unwrap_or_else(|| {
        panic!("{program} {version} is not in the cache: run scripts/programs, and scripts/programs --older")
    });
    for executable in &artifact.executables {
        unpack_to(executable, &folder.join(&executable.name));
    }
}

fn unpack_to(executable: &Executable, path: &Path) {
    let mut bytes = Vec::new();
    let gz = fs::File::open(&executable.gzip.path).unwrap();
    flate2::read::GzDecoder::new(gz).read_to_end(&mut bytes).unwrap();
    put_program(path, bytes);
}

/// A folder laid out as the host would be, programs included.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn of(wanted: &Wanted) -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        for file in &wanted.files {
            let path = tree.at(file.path.as_str());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match &file.source {
                FileSource::Text(text) => fs::write(&path, text).unwrap(),
                FileSource::Executable(executable) => unpack_to(executable, &path),
            }
        }
        // systemd looks for what a unit starts; the units name the paths of a real host.
        for unit in fs::read_dir(tree.at("/etc/systemd/system")).unwrap() {
            let path = unit.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let here = tree.at("/usr/local/bin").display().to_string();
            fs::write(&path, text.replace("/usr/local/bin", &here)).unwrap();
        }
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Runs every check that would run on the host.
    fn check(&self, wanted: &Wanted) {
        assert!(wanted.checks.len() >= 2);
        for check in &wanted.checks {
            let words: Vec<String> = check
                .argv
                .iter()
                .map(|word| match word {
                    Word::Plain(word) => word.clone(),
                    Word::Shadow(path) | Word::Program(path) => self.at(path.as_str()).display().to_string(),
                })
                .collect();
            let output =
                Command::new(&words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{words:?}: {e}"));
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success(), "{}: {said}", check.title);
            for complaint in &check.complaints {
                assert!(!said.contains(complaint), "{} complains: {said}", check.title);
            }
        }
    }
}

fn peers(ipv6: bool) -> Vec<Peer> {
    let peer = |name: &str, role, last: u8| Peer {
        name: HostName::new(name).unwrap(),
        role,
        address: if ipv6 {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)])
        } else {
            IpAddr::from([10, 0, 0, last])
        },
    };
    vec![
        peer("shop-server-1", Role::Server, 1),
        peer("shop-server-2", Role::Server, 2),
        peer("shop-server-3", Role::Server, 3),
        peer("shop-node-1", Role::Node, 4),
    ]
}

fn check(spec: &Spec) {
    let (renderer, artifacts) = (Renderer::new(&BTreeMap::new()).unwrap(), artifacts(spec));
    for ipv6 in [false, true] {
        let peers = peers(ipv6);
        for host in [&peers[0], &peers[3]] {
            let wanted = renderer.wanted(spec, &Subject::of(host, &peers, Init::Systemd), &artifacts).unwrap();
            Tree::of(&wanted).check(&wanted);
        }
    }
}

fn spec(text: &str) -> Spec {
    specfile::parse(&format!("[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n{text}"), "cluster.toml").unwrap()
}

#[test]
fn the_default_spec_passes_its_programs_checks() {
    check(&spec(""));
    check(&spec(
        "[prometheus]\ndiscovery = \"consul-template\"\n[alertmanager]\nwebhooks = [\"http://hook.example/a?b='c'\"]",
    ));
}

/// The oldest versions that can be had: another dialect of each program, judged by those programs themselves.
#[test]
fn older_versions_pass_their_programs_checks() {
    let older = "[versions]\nconsul = \"1.8.7\"\nconsul_template = \"0.10.0\"\nprometheus = \"2.42.0\"\n\
                 node_exporter = \"1.5.0\"\n";
    for discovery in ["consul-sd", "consul-template"] {
        check(&spec(&format!(
            "{older}[prometheus]\ndiscovery = \"{discovery}\"\nexternal_labels = {{ a = \"$HOME\" }}\n\
             [[service]]\nname = \"web\"\nport = 80\nroles = [\"server\", \"node\"]\n\
             check = {{ args = [\"/bin/echo\", \"it's\"] }}\nmetrics = {{ port = 81, unhealthy = \"skip\" }}\n"
        )));
    }
}

#[test]
fn hostile_values_pass_their_programs_checks() {
    let hostile = r#"'it''s "quoted" $HOME ${x} $1 %n %% {{ x }} # \ `id` ; é 日本 - [x] & * ! | >'"#.replace("''", "");
    check(&spec(&format!(
        "[prometheus]\nexternal_labels = {{ a = {hostile}, b = \"\", c = \"yes\", d = \"1e3\" }}\n\
         [[service]]\nname = \"web\"\nport = 80\ntags = [{hostile}, \"true\", \"null\"]\nroles = [\"server\", \"node\"]\n\
         check = {{ args = [\"/bin/echo\", {hostile}] }}\nmetrics = {{ path = \"/m/%20&'{{x}}'\", port = 9200 }}\n\
         [[service]]\nname = \"api\"\nport = 81\nroles = [\"server\", \"node\"]\ncheck = {{ http = \"http://127.0.0.1:81/?a=%22&b='c'\" }}\n\
         metrics = {{}}\n[[service]]\nname = \"db\"\ncheck = {{ tcp = \"[::1]:5432\", interval = \"90s\" }}\n"
    )));
}

/// The checks are worth something: each program refuses what it should.
#[test]
fn the_programs_refuse_what_is_wrong() {
    let (renderer, peers, spec) = (Renderer::new(&BTreeMap::new()).unwrap(), peers(false), spec(""));
    let subject = Subject::of(&peers[0], &peers, Init::Systemd);
    let wanted = renderer.wanted(&spec, &subject, &artifacts(&spec)).unwrap();
    let spoil: [(&str, &str, &str); 3] = [
        ("/etc/consul.d/consul.json", "\"bind_addr\"", "\"bind_adr\""),
        ("/etc/prometheus/prometheus.yml", "scrape_interval", "scrape_intervall"),
        ("/etc/systemd/system/consul.service", "ExecStart=", "ExecStart=/does/not/exist "),
    ];
    for (path, from, to) in spoil {
        let tree = Tree::of(&wanted);
        let text = fs::read_to_string(tree.at(path)).unwrap();
        assert!(text.contains(from), "{path}");
        fs::write(tree.at(path), text.replacen(from, to, 1)).unwrap();
        let refused = std::panic::catch_unwind(|| tree.check(&wanted)).is_err();
        assert!(refused, "{path} with {to} was accepted");
    }
}

/// scripts/programs builds and fetches the versions that are installed by default.
#[test]
fn the_script_and_the_code_name_the_same_versions() {
    let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/programs")).unwrap();
    let named: BTreeSet<&str> = script.lines().filter(|line| line.contains('=')).collect();
    let versions = Preset::Current.versions();
    for (program, version) in Program::ALL.into_iter().filter_map(|program| Some((program, versions.get(program)?))) {
        let line = format!("{}={version}", program.as_str().to_uppercase().replace('-', "_"));
        assert!(named.contains(line.as_str()), "scripts/programs has no line {line}");
    }
}
