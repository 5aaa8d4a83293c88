//! `ami provision --local` on a machine whose init system does not run: a chroot over the sandbox's base tree. A
//! Dockerfile's step is no other. Needs root and what docs/sandbox.md lists.

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

/// Gives a chroot over the base tree, which keeps nothing of what happens in it: mounts and processes go with their
/// namespaces. `$1` is a folder for it, `$2` the tree, `$3` the binary, `$4` the folder of the spec, `$5` the cache, and
/// `$6` what runs in it.
const CHROOT: &str = r#"
set -eu
mount -t tmpfs none "$1"
mkdir "$1/new" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=$2,upperdir=$1/new,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
mkdir -p "$1/root/opt/spec" "$1/root/opt/cache/artifacts"
cp "$3" "$1/root/opt/clusterctl"
mount --bind "$4" "$1/root/opt/spec"
mount --bind "$5" "$1/root/opt/cache/artifacts"
exec chroot "$1/root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    NO_COLOR=1 CLUSTERCTL_CACHE_DIR=/opt/cache sh -c "$6" 2>&1
"#;

/// Runs a script in such a chroot; its status and all that it says.
fn in_chroot(base: &Path, folder: &Path, script: &str) -> (i32, String) {
    let cache = std::env::var_os("CLUSTERCTL_CACHE_DIR").map(PathBuf::from);
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let cache = cache.unwrap_or_else(|| home.join(".cache/clusterctl")).join("artifacts");
    let place = tempfile::tempdir().unwrap();
    libraries(folder);
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", CHROOT, "chroot"])
        .args([place.path(), base, Path::new(binary().get_program()), folder, &cache])
        .arg(script)
        .output()
        .expect("this test needs unshare, of util-linux");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// The binary's own libraries, its loader among them: what is built here may not run with those of an older system.
fn libraries(folder: &Path) {
    let to = folder.join("lib");
    std::fs::create_dir_all(&to).unwrap();
    let output = Command::new("ldd").arg(binary().get_program()).output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut paths = line.split_whitespace().filter(|word| word.starts_with('/'));
        if let Some(path) = paths.next_back() {
            std::fs::copy(path, to.join(Path::new(path).file_name().unwrap())).unwrap();
        }
    }
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
    assert!(is_root(), "this test mounts and makes chroots: run it as root (scripts/test does)");
    let base = base();
    let dir = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n[ec2]\nssh_from = [\"192.0.2.1\"]\n\n[[service]]\nname = \"web\"\nport = 80\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    // What is built here may need newer libraries than the tree has.
    let provision = "/opt/spec/lib/ld-linux-*.so.? --library-path /opt/spec/lib /opt/clusterctl ami provision --local -f /opt/spec/cluster.toml";

    let script = format!("set -e; {provision}; echo ---; {provision} --output json 2>/dev/null; echo ---; {LOOK}");
    let (status, said) = in_chroot(&base, dir.path(), &script);
    assert_eq!(status, 0, "{said}");
    let parts: Vec<&str> = said.split("---\n").collect();
    assert!(parts[0].contains("a node of shop: ") && parts[0].contains("nothing was started"), "{said}");
    // The second time only the label's time is another.
    let again: serde_json::Value = serde_json::from_str(parts[1]).unwrap_or_else(|error| panic!("{error}: {said}"));
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
    let (status, said) = in_chroot(&base, dir.path(), &script);
    assert!(status == 1 && said.contains("--init"), "{status}: {said}");
    let (status, said) = in_chroot(&base, dir.path(), &provision.replace(" -f /opt/spec/cluster.toml", ""));
    assert!(status == 64 && said.contains("needs the spec"), "{status}: {said}");
}
