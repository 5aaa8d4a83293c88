//! `clusterctl render`: what it writes, where, and what the real programs say of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clusterctl::core::specfile;
use serde_json::Value as Json;

use crate::support::{Answer, answer, binary};

/// In a folder of the test's own, with the machine's own cache of programs.
fn render(dir: &Path, args: &[&str]) -> Answer {
    let mut command = binary();
    command.current_dir(dir).arg("render").args(args);
    answer(command)
}

/// With no program but what `path` has.
fn without_programs(dir: &Path, args: &[&str], path: &Path) -> Answer {
    let mut command = binary();
    command.current_dir(dir).arg("render").args(args);
    command.env("CLUSTERCTL_CACHE_DIR", dir.join("cache")).env("PATH", path);
    answer(command)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A spec in `dir` with these templates in place of ours.
fn with_templates(dir: &Path, templates: &[(&str, String)]) {
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\ntemplates = \"mine\"\n";
    fs::write(dir.join("cluster.toml"), text).unwrap();
    for (name, text) in templates {
        let path = dir.join("mine").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// One of our templates with a change in it.
fn spoilt(name: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name)).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    text.replacen(from, to, 1)
}

/// A line for each thing to place: its role, mode, owner and path.
fn placed(document: &Json) -> String {
    let mut lines = Vec::new();
    for kind in ["dirs", "programs", "files"] {
        for one in document[kind].as_array().unwrap() {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            let whose = format!("{}:{}", text("owner"), text("group"));
            lines.push(format!("{:<6} {} {whose:<27} {}", text("role"), text("mode"), text("path")));
        }
    }
    lines.join("\n")
}

#[test]
fn everything_is_placed_for_both_presets_and_inits() {
    for preset in ["classic", "current"] {
        for init in ["systemd", "upstart", "upstart-0.6.5"] {
            let args = ["--preset", preset, "--init", init, "--output", "json"];
            let document = render(folder().path(), &args).expect(0).json();
            insta::assert_snapshot!(format!("placed_{preset}_{init}"), placed(&document));
        }
    }
}

#[test]
fn the_presets_choose_their_times_init() {
    let init = |preset| {
        let document = render(folder().path(), &["--preset", preset, "--output", "json"]).expect(0).json();
        document["init"].as_str().unwrap().to_owned()
    };
    assert_eq!((init("classic").as_str(), init("current").as_str()), ("Upstart 0.6.5", "systemd"));
}

#[test]
fn the_document_is_enough_to_place_everything() {
    let document = render(folder().path(), &["--role", "server", "--output", "json"]).expect(0).json();
    let units: Vec<&str> =
        document["units"].as_array().unwrap().iter().map(|it| it["unit"].as_str().unwrap()).collect();
    assert_eq!(units, ["consul", "node_exporter", "prometheus"]);
    let owners: Vec<&str> = ["files", "dirs", "programs"]
        .iter()
        .flat_map(|kind| document[kind].as_array().unwrap())
        .flat_map(|it| [it["owner"].as_str().unwrap(), it["group"].as_str().unwrap()])
        .filter(|owner| *owner != "root")
        .collect();
    let users = document["users"].as_array().unwrap();
    assert!(!owners.is_empty());
    for owner in owners {
        assert!(users.iter().any(|user| user["name"] == owner), "nobody makes the user {owner}");
    }
    let consul = &document["programs"][0];
    let archive = "https://releases.hashicorp.com/consul/1.22.7/consul_1.22.7_linux_amd64.zip";
    assert_eq!((consul["program"].as_str(), consul["archives"]["amd64"].as_str()), (Some("consul"), Some(archive)));
    assert!(document["files"].as_array().unwrap().iter().all(|file| file["role"] == "server"));
}

#[test]
fn two_runs_give_the_same_bytes() {
    let dir = folder();
    let labels: String = (0..40).map(|n| format!("l{n} = \"v\", ")).collect();
    let services: String = (0..10)
        .map(|n| format!("[[service]]\nname = \"s{n}\"\nport = 80\ntags = [\"z\", \"a\", \"m{n}\"]\nmetrics = {{}}\n"))
        .collect();
    let text = format!(
        "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[prometheus]\nexternal_labels = {{ {} }}\n{services}",
        labels.trim_end_matches(", ")
    );
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    for args in [&[][..], &["--output", "json"], &["--preset", "classic", "--init", "upstart"]] {
        let first = render(dir.path(), args).expect(0).stdout;
        assert!(first.contains("service-s9.json"));
        for _ in 0..4 {
            assert!(render(dir.path(), args).expect(0).stdout == first, "{args:?}: two runs differ");
        }
    }
}

#[test]
fn a_folder_is_laid_out_as_the_hosts_are() {
    let dir = folder();
    let first = render(dir.path(), &["--out", "image"]).expect(0);
    let listed: Vec<&str> = first.stdout.lines().collect();
    assert!(listed.is_sorted() && listed.contains(&"server/etc/prometheus/prometheus.yml"), "{first}");
    let image = dir.path().join("image");
    let mode = |path: &str| fs::metadata(image.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("server/etc/consul.d/consul.json"), 0o640);
    assert_eq!(mode("node/etc/systemd/system/consul.service"), 0o644);
    assert_eq!(mode("node/var/lib/consul"), 0o750);
    let changed = |path: &str| fs::metadata(image.join(path)).unwrap().modified().unwrap();

    // A second run finds all of it as it should be.
    let before = changed("server/etc/prometheus/prometheus.yml");
    fs::write(image.join("server/etc/mine"), "mine").unwrap();
    let again = render(dir.path(), &["--out", "image"]).expect(0);
    assert_eq!(again.stdout, first.stdout);
    assert!(again.stderr.contains("0 new or changed, 0 removed"), "{again}");
    assert_eq!(changed("server/etc/prometheus/prometheus.yml"), before);

    // What is no longer written goes; what others put there stays.
    let node = render(dir.path(), &["--out", "image", "--role", "node"]).expect(0);
    assert!(node.stdout.lines().all(|path| path.starts_with("node/")), "{node}");
    assert!(!image.join("server/etc/consul.d").exists());
    assert_eq!(fs::read_to_string(image.join("server/etc/mine")).unwrap(), "mine");
}

#[test]
fn a_folder_of_others_is_refused() {
    let dir = folder();
    fs::create_dir(dir.path().join("theirs")).unwrap();
    fs::write(dir.path().join("theirs/file"), "theirs").unwrap();
    let refused = render(dir.path(), &["--out", "theirs"]).expect(1);
    assert!(refused.stderr.contains("did not write what is in it"), "{refused}");
    assert_eq!(fs::read_dir(dir.path().join("theirs")).unwrap().count(), 1);
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[alertmanager]\n";
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let refused = render(dir.path(), &["--use", "prometheus=1.0.0"]).expect(64);
    assert!(refused.stdout.is_empty(), "{refused}");
    for part in ["cannot be told of an Alertmanager", "take Prometheus 1.4.0 or newer"] {
        assert!(refused.stderr.contains(part), "{refused}");
    }
    for wrong in [["--use", "consul=0.5.1"], ["--use", "consul"], ["--init", "openrc"], ["--join", "shop.example"]] {
        render(dir.path(), &wrong).expect(64);
    }
}

#[test]
fn the_spec_counts_and_the_command_line_has_the_last_word() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[versions]\nconsul = \"1.8.7\"\n\
                [[service]]\nname = \"web\"\nport = 80\n";
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let args = ["--preset", "classic", "--use", "node_exporter=1.5.0", "--join", "10.0.0.1", "--output", "json"];
    let document = render(dir.path(), &args).expect(0).json();
    let versions = &document["versions"];
    assert_eq!(
        [&versions["consul"], &versions["prometheus"], &versions["node_exporter"]],
        ["1.8.7", "0.14.0", "1.5.0"],
        "{versions}"
    );
    let text = |role: &str, path: &str| {
        let files = document["files"].as_array().unwrap();
        let found = files.iter().find(|file| file["role"] == role && file["path"] == path);
        found.unwrap_or_else(|| panic!("no {path}"))["text"].as_str().unwrap().to_owned()
    };
    assert!(text("node", "/etc/consul.d/consul.json").contains("\"retry_join\": [\"10.0.0.1\"]"));
    assert!(text("node", "/etc/consul.d/service-web.json").contains("\"web\""));
    // Who names a cluster does not mean the one of the spec that lies here.
    let other = render(dir.path(), &["--cluster", "other", "--output", "json"]).expect(0).json();
    assert_eq!((other["cluster"].as_str(), other["versions"]["consul"].as_str()), (Some("other"), Some("1.22.7")));
}

/// Every check ran and was passed. The programs are in the cache once scripts/programs has run.
#[track_caller]
fn all_pass(dir: &Path, args: &[&str]) -> Vec<String> {
    let mut all = vec!["--check", "--output", "json"];
    all.extend(args);
    let answer = render(dir, &all).expect(0);
    let checks = answer.json()["checks"].as_array().unwrap().clone();
    for check in &checks {
        assert!(check["result"] == "passed" && check["complaints"].is_null(), "{args:?}: {check}\n{}", answer.stderr);
    }
    checks
        .iter()
        .map(|check| format!("{} {}", check["role"].as_str().unwrap(), check["title"].as_str().unwrap()))
        .collect()
}

#[test]
fn current_passes_every_check_with_both_discoveries() {
    let titles = all_pass(folder().path(), &[]);
    for title in ["server consul validate", "server promtool check config", "node systemd-analyze verify"] {
        assert!(titles.iter().any(|it| it == title), "{title}: {titles:?}");
    }
    let titles = all_pass(folder().path(), &["--discovery", "consul-template"]);
    for title in [
        "server consul-template -once -dry, two hosts in Consul",
        "server promtool check config of what is rendered with two hosts in Consul",
        "server sh -n /usr/local/lib/clusterctl/reload-prometheus",
    ] {
        assert!(titles.iter().any(|it| it == title), "{title}: {titles:?}");
    }
}

#[test]
fn upstart_passes_every_check() {
    let titles = all_pass(folder().path(), &["--init", "upstart-0.6.5"]);
    assert!(titles.iter().any(|it| it == "server Upstart 0.6.5 /etc/init/consul.conf"), "{titles:?}");
    all_pass(folder().path(), &["--init", "upstart", "--discovery", "consul-template"]);
}

/// `scripts/programs --older` puts them into the cache.
#[test]
fn a_mixture_of_versions_passes_every_check() {
    let versions = ["--use", "consul=1.8.7", "--use", "prometheus=2.42.0", "--use", "node_exporter=1.5.0"];
    all_pass(folder().path(), &versions);
    let mut by_template = versions.to_vec();
    by_template.extend(["--discovery", "consul-template", "--use", "consul-template=0.10.0"]);
    all_pass(folder().path(), &by_template);
}

#[test]
fn classic_passes_what_can_run_and_says_what_cannot() {
    let answer = render(folder().path(), &["--preset", "classic", "--check", "--output", "json"]).expect(0);
    let document = answer.json();
    let checks = document["checks"].as_array().unwrap();
    let result = |title: &str| checks.iter().find(|check| check["title"] == title).map(|check| check["result"].clone());
    assert_eq!(result("Upstart 0.6.5 /etc/init/prometheus.conf"), Some("passed".into()));
    assert_eq!(result("sh -n /usr/local/lib/clusterctl/find-leader"), Some("passed".into()));
    // Nothing reads these files but Prometheus itself.
    assert_eq!(result("promtool"), Some("not-run".into()));
    assert!(checks.iter().all(|check| check["result"] != "failed"), "{answer}");
    assert!(answer.stderr.contains("Prometheus 0.14.0 comes without promtool"), "{answer}");
}

#[test]
fn a_version_that_reads_the_same_may_judge_and_it_is_said() {
    let answer = render(folder().path(), &["--check", "--role", "node", "--use", "consul=1.22.1"]).expect(0);
    assert!(
        answer.stderr.contains("consul validate was run by consul 1.22.7, which reads the same as 1.22.1"),
        "{answer}"
    );
}

#[test]
fn without_programs_nothing_fails_and_each_missing_one_is_named() {
    let (dir, empty) = (folder(), folder());
    let answer = without_programs(dir.path(), &["--check"], empty.path()).expect(0);
    for part in [
        "consul validate could not run: consul 1.22.7 is neither in the cache nor on PATH",
        "promtool check config could not run: promtool 3.13.3 is neither in the cache nor on PATH",
        "systemd-analyze verify could not run: systemd-analyze is not on PATH",
    ] {
        assert!(answer.stderr.contains(part), "{part}\n{answer}");
    }
}

#[test]
fn a_program_on_path_judges_where_the_cache_has_none() {
    let (dir, bin) = (folder(), folder());
    let consul = cached("consul/1.22.7", "consul.gz");
    let to = bin.path().join("consul");
    let mut packed = flate2::read::GzDecoder::new(fs::File::open(consul).unwrap());
    std::io::copy(&mut packed, &mut fs::File::create(&to).unwrap()).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    let answer = without_programs(dir.path(), &["--check", "--role", "node", "--output", "json"], bin.path()).expect(0);
    let document = answer.json();
    let consul = document["checks"].as_array().unwrap().iter().find(|check| check["title"] == "consul validate");
    assert_eq!(consul.unwrap()["result"], "passed", "{answer}");
}

/// A file that scripts/programs put into the cache.
fn cached(program: &str, file: &str) -> PathBuf {
    let cache = match (std::env::var_os("CLUSTERCTL_CACHE_DIR"), std::env::var_os("XDG_CACHE_HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(folder)) => PathBuf::from(folder).join("clusterctl"),
        (None, None) => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/clusterctl"),
    };
    let arch = clusterctl::model::artifact::Arch::from_machine(std::env::consts::ARCH).unwrap();
    let path = cache.join("artifacts").join(program).join(arch.as_str()).join(file);
    assert!(path.exists(), "{} is not there: run scripts/programs", path.display());
    path
}

/// The checks are worth something: each program refuses what it should, in its own words.
#[test]
fn a_spoilt_template_fails_with_the_programs_words() {
    let cases: [(&str, &str, &str, &[&str], &str); 6] = [
        ("consul/agent.json", "\"data_dir\"", "\"data_dri\"", &[], "data_dri"),
        (
            "consul/agent.json",
            "\"log_level\"",
            "\"a\": 1, \"log_level\"",
            &["--use", "consul=1.8.7"],
            "invalid config key a",
        ),
        ("prometheus/prometheus.yml", "scrape_interval", "scrape_intervall", &[], "field scrape_intervall not found"),
        ("prometheus/cluster.rules.yml", "expr: up == 0", "expr: up ==", &[], "parse error"),
        (
            "systemd/consul.service",
            "ExecStart={{ program",
            "ExecStart=/does/not/exist {{ program",
            &[],
            "/does/not/exist",
        ),
        (
            "consul-template/reload-prometheus.sh",
            "refuse() {",
            "refuse() { (",
            &["--discovery", "consul-template"],
            "yntax error",
        ),
    ];
    for (name, from, to, args, words) in cases {
        let dir = folder();
        with_templates(dir.path(), &[(name, spoilt(name, from, to))]);
        let mut all = vec!["--check", "--out", "image"];
        all.extend(args);
        let answer = render(dir.path(), &all).expect(1);
        assert!(answer.stderr.contains(words), "{name}: {answer}");
        assert!(!dir.path().join("image").exists(), "{name}: spoilt files were written");
    }
}

#[test]
fn what_consul_template_makes_is_judged_too() {
    let template = "prometheus/prometheus.yml";
    for (from, to, words) in [
        ("{{range service", "{{range servise", "function \"servise\" not defined"),
        (
            "          instance: {{printf \"%q\" .Node}}",
            "          instance {{printf \"%q\" .Node}}",
            "mapping values are not allowed",
        ),
    ] {
        let dir = folder();
        with_templates(dir.path(), &[(template, spoilt(template, from, to))]);
        let answer = render(dir.path(), &["--check", "--role", "server", "--discovery", "consul-template"]).expect(1);
        assert!(answer.stderr.contains(words), "{words}: {answer}");
    }
}

/// Upstart itself would only say "Unknown job".
#[test]
fn a_spoilt_upstart_job_is_refused() {
    let dir = folder();
    let job = "# {{ cluster }}\ndescription \"mine\"\nstart onn runlevel [2345]\nexec {{ program | sh }}\n";
    with_templates(dir.path(), &[("upstart/node_exporter.conf", job.to_owned())]);
    let answer = render(dir.path(), &["--init", "upstart"]).expect(1);
    assert!(answer.stderr.contains("upstart/node_exporter.conf") && answer.stderr.contains("line 3"), "{answer}");
}

/// A job's scripts are the shell's to read.
#[test]
fn a_spoilt_script_in_an_upstart_job_fails() {
    let dir = folder();
    let job = "# {{ cluster }}\ndescription \"mine\"\nstart on runlevel [2345]\nscript\n    if true; do\nend script\n";
    with_templates(dir.path(), &[("upstart/node_exporter.conf", job.to_owned())]);
    let answer = render(dir.path(), &["--init", "upstart", "--check", "--role", "node"]).expect(1);
    assert!(answer.stderr.contains("sh -n /etc/init/node_exporter.conf, script 1"), "{answer}");
}

#[test]
fn a_spec_of_ones_own_hosts_knows_the_servers() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"inventory\"\n[[host]]\nname = \"a\"\nrole = \"server\"\n\
                address = \"10.0.0.1\"\n";
    specfile::parse(text, "cluster.toml").unwrap();
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let answer = render(dir.path(), &["--role", "node"]).expect(0);
    assert!(answer.stdout.contains("\"retry_join\": [\"10.0.0.1\"]"), "{answer}");
    fs::write(dir.path().join("cluster.toml"), text.replace("10.0.0.1", "shop.example")).unwrap();
    let answer = render(dir.path(), &["--role", "node"]).expect(64);
    assert!(answer.stderr.contains("`--join ADDRESS`"), "{answer}");
}
