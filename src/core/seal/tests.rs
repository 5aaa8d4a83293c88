use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::{SCRIPT, command, script};

const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];

/// Files of one machine alone, which are gone afterwards.
const GOES: [&str; 40] = [
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "root/.ssh/authorized_keys",
    "home/admin/.ssh/authorized_keys",
    "home/admin/.ssh/authorized_keys2",
    "home/two words/.ssh/authorized_keys",
    "srv/people/eve/.ssh/authorized_keys",
    "root/.bash_history",
    "root/.aws/credentials",
    "home/admin/.ash_history",
    "home/admin/.aws/config",
    "home/admin/.lesshst",
    "var/lib/consul/node-id",
    "var/lib/consul/.hidden",
    "var/lib/consul/serf/local.keyring",
    "etc/consul.d/boot.json",
    "etc/consul.d/boot.json.clusterctl-new",
    "etc/clusterctl/boot",
    "var/lib/prometheus/wal/00000001",
    "var/lib/alertmanager/nflog",
    "var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
    "var/log/syslog.1",
    "var/log/syslog.2.gz",
    "var/log/messages-20260101",
    "var/lib/cloud/instances/i-0/user-data.txt",
    "var/lib/cloud/data/instance-id",
    "var/lib/cloud/instance/obj.pkl",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
    "var/lib/dhcp/dhclient.eth0.leases",
    "var/lib/NetworkManager/internal-1-eth0.lease",
    "etc/udev/rules.d/70-persistent-net.rules",
    "tmp/a file",
    "tmp/.X11-unix/X0",
    "tmp/..odd",
    "var/tmp/x",
    "var/lib/clusterctl/stage.12/f/1",
    "var/lib/clusterctl/lock",
    "var/lib/clusterctl/pending",
    "var/lib/clusterctl/staged",
];

/// What every host of the image has as it is.
const STAYS: [&str; 16] = [
    "etc/passwd",
    "etc/ssh/sshd_config",
    "etc/consul.d/consul.json",
    "etc/clusterctl/image.json",
    "etc/prometheus/prometheus.yml",
    "var/lib/clusterctl/manifest",
    "var/lib/clusterctl/programs",
    "var/lib/cloud/seed/nocloud/user-data",
    "home/admin/.bashrc",
    "home/admin/.ssh/config",
    "home/admin/history",
    "root/.profile",
    "usr/local/bin/consul",
    "var/lib/dbus/other",
    "srv/data",
    "var/lib/other/tmp/x",
];

/// They stand there empty afterwards.
const EMPTIED: [&str; 4] = ["etc/machine-id", "var/log/syslog", "var/log/wtmp", "var/log/app/app.log"];

struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for path in GOES.iter().chain(&STAYS).chain(&EMPTIED) {
            tree.put(path, "text\n");
        }
        tree.put(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\neve:x:1001:1001::/srv/people/eve:/bin/sh\nd:x:2:2::/:/bin/false\n",
        );
        tree.put("var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n");
        fs::set_permissions(tree.at("var/log/syslog"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(tree.at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }

    fn clear(&self, shell: &[&str]) -> Output {
        let root = self.0.path().to_str().unwrap();
        assert!(root.len() > 4 && self.0.path().is_absolute(), "never this machine's own files");
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, script(root).as_bytes()).unwrap();
        drop(pipe);
        child.wait_with_output().unwrap()
    }

    fn clears(&self, shell: &[&str]) {
        let output = self.clear(shell);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{shell:?}: {output:?}");
    }

    /// Every path with its mode, owner and text.
    fn all(&self) -> BTreeMap<PathBuf, String> {
        fn walk(at: &Path, into: &mut BTreeMap<PathBuf, String>) {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                let about = fs::symlink_metadata(&path).unwrap();
                let text = if about.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
                into.insert(path.clone(), format!("{:o} {} {text}", about.mode(), about.uid()));
                if about.is_dir() {
                    walk(&path, into);
                }
            }
        }
        let mut all = BTreeMap::new();
        walk(self.0.path(), &mut all);
        all
    }
}

#[test]
fn what_is_one_machines_alone_is_gone_and_all_else_stays() {
    for shell in SHELLS {
        let tree = Tree::new();
        let before = tree.all();
        tree.clears(shell);
        for path in GOES {
            assert!(!tree.at(path).exists(), "{shell:?}: {path}");
        }
        for path in STAYS {
            assert_eq!(tree.all().get(&tree.at(path)), before.get(&tree.at(path)), "{shell:?}: {path}");
        }
        for path in EMPTIED {
            let text = fs::read_to_string(tree.at(path)).unwrap_or_else(|error| panic!("{shell:?}: {path}: {error}"));
            assert_eq!(text, "", "{shell:?}: {path}");
        }
        for folder in ["tmp", "var/tmp", "var/lib/consul", "var/lib/prometheus", "var/log/journal", "home/admin/.ssh"] {
            assert_eq!(tree.all().get(&tree.at(folder)), before.get(&tree.at(folder)), "{shell:?}: {folder}");
        }
        assert_eq!(before[&tree.at("var/log/syslog")].replace("text\n", ""), tree.all()[&tree.at("var/log/syslog")]);
        assert_eq!(fs::read_link(tree.at("var/lib/dbus/machine-id")).unwrap(), Path::new("/etc/machine-id"));
        // Once more changes nothing.
        let cleared = tree.all();
        tree.clears(shell);
        assert_eq!(tree.all(), cleared, "{shell:?}");
    }
}

/// A machine without systemd makes its id anew where the file is gone.
#[test]
fn nothing_need_be_there() {
    for shell in SHELLS {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.clears(shell);
        assert_eq!(tree.all().len(), 0, "{shell:?}");
        tree.put("var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n");
        tree.clears(shell);
        assert!(fs::symlink_metadata(tree.at("var/lib/dbus/machine-id")).is_err(), "{shell:?}");
    }
}

/// Whoever could write on the builder could have put a link anywhere.
#[test]
fn links_lead_nowhere() {
    for shell in SHELLS {
        let tree = Tree::new();
        let outside = tempfile::tempdir().unwrap();
        for name in ["authorized_keys", "syslog", "inside/x", ".bash_history"] {
            fs::create_dir_all(outside.path().join(name).parent().unwrap()).unwrap();
            fs::write(outside.path().join(name), "precious").unwrap();
        }
        fs::remove_dir_all(tree.at("home/admin")).unwrap();
        symlink(outside.path(), tree.at("home/admin")).unwrap();
        fs::create_dir_all(tree.at("home/mallory")).unwrap();
        symlink(outside.path(), tree.at("home/mallory/.ssh")).unwrap();
        fs::remove_file(tree.at("var/log/syslog")).unwrap();
        symlink(outside.path().join("syslog"), tree.at("var/log/syslog")).unwrap();
        fs::remove_dir_all(tree.at("var/tmp")).unwrap();
        symlink(outside.path().join("inside"), tree.at("var/tmp")).unwrap();
        symlink(outside.path().join("inside"), tree.at("tmp/link")).unwrap();
        tree.clears(shell);
        for name in ["authorized_keys", "syslog", "inside/x", ".bash_history"] {
            assert_eq!(fs::read_to_string(outside.path().join(name)).unwrap(), "precious", "{shell:?}: {name}");
        }
        assert!(fs::symlink_metadata(tree.at("tmp/link")).is_err());
    }
}

/// It goes on, and says at its end that it is no image yet.
#[test]
fn what_failed_is_said() {
    // Busybox takes its own `rm` before any other.
    for shell in SHELLS.into_iter().filter(|shell| shell[0] != "busybox") {
        let tree = Tree::new();
        let bin = tempfile::tempdir().unwrap();
        let rm = "#!/bin/sh\ncase \"$*\" in *ssh_host*) echo \"rm: cannot remove it\" >&2; exit 1 ;; esac\nexec /bin/rm \"$@\"\n";
        fs::write(bin.path().join("rm"), rm).unwrap();
        fs::set_permissions(bin.path().join("rm"), fs::Permissions::from_mode(0o755)).unwrap();
        let root = tree.0.path().to_str().unwrap();
        let text = script(root).replace("\nPATH=", &format!("\nPATH={}:", bin.path().display()));
        let mut child = Command::new(shell[0]);
        child.args(&shell[1..]).arg("-c").arg(text);
        let output = child.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{shell:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "seal: SSH host keys not cleared: rm: cannot remove it\n", "{shell:?}");
        assert!(!tree.at("root/.aws/credentials").exists() && !tree.at("tmp/a file").exists(), "it went on");
    }
}

#[test]
fn the_command_is_for_the_whole_machine() {
    let (line, stdin) = command();
    assert_eq!(line, "sh -s");
    assert!(String::from_utf8(stdin).unwrap().starts_with("root=''\n#"));
    // An odd prefix is a path, and nothing else.
    assert!(script("/a b'; reboot").starts_with("root=\"/a b'; reboot\"\n"));
}

#[test]
fn the_script_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seal"), format!("#!/bin/sh\n{SCRIPT}")).unwrap();
    let output = Command::new("shellcheck").args(["--shell=sh", "--norc"]).arg(dir.path().join("seal")).output();
    let output = output.expect("shellcheck is not installed: scripts/install-needs tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
