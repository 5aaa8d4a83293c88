//! `ami provision --local` on a machine whose init system does not run: a container over the sandbox's base tree, as a
//! Dockerfile's step or a chroot has it. Needs root and systemd-nspawn.

use std::path::{Path, PathBuf};
use std::process::Command;

use clusterctl::model::event::Events;
use clusterctl::model::name::ClusterName;
use clusterctl::world::cloud::Cloud as _;
use clusterctl::world::cloud::sandbox::Sandbox;

use crate::support::{binary, is_root};

const BASE: &str = "/var/tmp/clusterctl-test-base";

/// The sandbox's base tree, which any test builds that comes first.
fn base() -> PathBuf {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let cluster = ClusterName::new("provision").unwrap();
    let sandbox = Sandbox::open_with_base(cluster, root.path().to_owned(), PathBuf::from(BASE)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sandbox.prepare(&Events::silent())).unwrap();
    let trees = std::fs::read_dir(BASE).unwrap().flatten().map(|entry| entry.path());
    let tree = |path: &PathBuf| path.join("etc/os-release").exists() || path.join("usr/lib/os-release").exists();
    let mut trees: Vec<PathBuf> = trees.filter(tree).collect();
    trees.sort();
    trees.pop().expect("the base tree was built just now")
}

/// Runs a script in a container that has the base tree for itself until it ends, with the binary, its programs' cache
/// and the spec's folder in it. Its libraries are this machine's: what is built here need not run on an older system.
fn in_container(base: &Path, folder: &Path, script: &str) -> (i32, String) {
    let cache = std::env::var_os("CLUSTERCTL_CACHE_DIR").map(PathBuf::from);
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let cache = cache.unwrap_or_else(|| home.join(".cache/clusterctl"));
    let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
    let output = Command::new("systemd-nspawn")
        .args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--pipe", "--machine=provision-it"])
        .arg(format!("--directory={}", base.display()))
        .arg(bind(Path::new(binary().get_program()), "/opt/clusterctl"))
        .arg(bind(&libraries(folder), "/opt/lib"))
        .arg(bind(&cache.join("artifacts"), "/opt/cache/artifacts"))
        .arg(bind(folder, "/opt/spec"))
        .args(["--setenv=CLUSTERCTL_CACHE_DIR=/opt/cache", "--setenv=HOME=/root", "--setenv=NO_COLOR=1"])
        .args(["sh", "-c", script])
        .output()
        .expect("this test needs systemd-nspawn");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// The binary's own libraries, its loader among them.
fn libraries(folder: &Path) -> PathBuf {
    let to = folder.join("lib");
    std::fs::create_dir_all(&to).unwrap();
    let output = Command::new("ldd").arg(binary().get_program()).output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let paths = line.split_whitespace().filter(|word| word.starts_with('/'));
        if let Some(path) = paths.last() {
            std::fs::copy(path, to.join(Path::new(path).file_name().unwrap())).unwrap();
        }
    }
    to
}

/// What the script prints of the machine afterwards.
const LOOK: &str = "
for unit in consul node_exporter; do
    echo \"$unit $(systemctl is-enabled $unit.service)\"
done
stat -c '%n %a %U:%G' /usr/local/bin/consul /usr/local/bin/node_exporter /etc/consul.d/consul.json
cat /etc/clusterctl/image.json
echo
ps -e -o comm= | sort -u | tr '\\n' ' '
";

#[test]
fn a_machine_that_does_not_run_is_installed_and_nothing_starts() {
    assert!(is_root(), "this test makes containers: run it as root (scripts/test does)");
    let base = base();
    let dir = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n[ec2]\nssh_from = [\"192.0.2.1\"]\n\n[[service]]\nname = \"web\"\nport = 80\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    // What is built here may need newer libraries than the tree has.
    let provision = "/opt/lib/ld-linux-*.so.? --library-path /opt/lib /opt/clusterctl ami provision --local -f /opt/spec/cluster.toml";

    let script = format!("set -e; {provision}; echo ---; {provision} --output json; echo ---; {LOOK}");
    let (status, said) = in_container(&base, dir.path(), &script);
    assert_eq!(status, 0, "{said}");
    let parts: Vec<&str> = said.split("---\n").collect();
    assert!(parts[0].contains("a node of shop: ") && parts[0].contains("nothing was started"), "{said}");
    // The second time only the label's time is another.
    let again: serde_json::Value =
        serde_json::from_str(&parts[1][parts[1].find('{').unwrap()..=parts[1].rfind('}').unwrap()])
            .unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(again["result"] == "unchanged" || again["changes"] == 1, "{said}");
    for line in [
        "consul enabled",
        "node_exporter enabled",
        "/usr/local/bin/consul 755 root:root",
        "/usr/local/bin/node_exporter 755 root:root",
        "/etc/consul.d/consul.json 640 root:consul",
        "\"cluster\": \"shop\"",
        "\"role\": \"node\"",
    ] {
        assert!(parts[2].contains(line), "no {line}: {said}");
    }
    let running = parts[2].lines().last().unwrap();
    assert!(running.contains("ps") && !running.contains("consul") && !running.contains("node_exporter"), "{running}");

    let script = format!("rm -f /usr/lib/systemd/systemd; {provision}");
    let (status, said) = in_container(&base, dir.path(), &script);
    assert!(status == 1 && said.contains("--init"), "{status}: {said}");
    let (status, said) = in_container(&base, dir.path(), &provision.replace(" -f /opt/spec/cluster.toml", ""));
    assert!(status == 64 && said.contains("needs the spec"), "{status}: {said}");
}
