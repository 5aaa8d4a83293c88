//! A real host that boots with Upstart, on this machine and on a network of its own. Needs root and what
//! `scripts/install-needs upstart` installs; the first one builds the tree that all share.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostId, HostState, Role, SshTarget};
use clusterctl::model::name::HostName;
use clusterctl::world::remote::ssh::{SshConnector, SshSettings, UnknownKey};
use clusterctl::world::remote::{Connector as _, Remote};
use tokio_util::sync::CancellationToken;

pub struct Machine {
    /// A folder of this test's own: the host's changes, its keys, its console.
    dir: tempfile::TempDir,
    bridge: String,
    /// Among those of all tests that run now.
    number: u32,
    nspawn: Option<Child>,
}

/// The machines of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said} (root? scripts/install-needs upstart)", args.join(" "));
}

/// The tree of scripts/upstart-base, built where it is not there.
fn base() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/upstart-base");
    assert!(Command::new(&script).status().unwrap().success(), "scripts/upstart-base failed; it says why");
    let output = Command::new(&script).arg("--path").output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

impl Machine {
    pub fn new() -> Self {
        let base = base();
        let dir = tempfile::Builder::new().prefix("clusterctl-upstart-").tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for folder in ["upper", "work", "root"] {
            fs::create_dir(at(folder)).unwrap();
        }
        // The host's own users walk through it.
        run("chmod", &["755", &dir.path().display().to_string(), &at("upper")]);
        let layers = format!("lowerdir={},upperdir={},workdir={}", base.display(), at("upper"), at("work"));
        run("mount", &["-t", "overlay", "overlay", "-o", &layers, &at("root")]);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("ccu{}x{count}", std::process::id());
        let machine = Self { dir, bridge, number: std::process::id() * 4 + count, nspawn: None };
        run("ip", &["link", "add", &machine.bridge, "type", "bridge"]);
        run("ip", &["addr", "add", &format!("{}/30", machine.ours()), "dev", &machine.bridge]);
        run("ip", &["link", "set", &machine.bridge, "up"]);
        machine.put("etc/clusterctl-address", &format!("{}/30\n", machine.address()));
        machine.put("etc/hosts", "127.0.0.1 localhost old-1\n");
        let key = machine.at("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]);
        let host_key = machine.at("root/etc/ssh/ssh_host_ed25519_key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", host_key.to_str().unwrap()]);
        machine.put("root/.ssh/authorized_keys", &fs::read_to_string(machine.at("key.pub")).unwrap());
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A file of the host's, from outside.
    pub fn file(&self, path: &str) -> PathBuf {
        self.at("root").join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.file(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// One of 16384 networks of four addresses.
    fn network(&self) -> [u8; 4] {
        let number = (self.number % (1 << 14)) << 2;
        [10, 78, (number >> 8) as u8, (number & 0xff) as u8]
    }

    fn ours(&self) -> IpAddr {
        let [a, b, c, d] = self.network();
        IpAddr::from([a, b, c, d + 1])
    }

    pub fn address(&self) -> IpAddr {
        let [a, b, c, d] = self.network();
        IpAddr::from([a, b, c, d + 2])
    }

    pub fn boot(&mut self) {
        assert!(self.nspawn.is_none());
        let console = fs::File::options().create(true).append(true).open(self.at("console")).unwrap();
        let child = Command::new("systemd-nspawn")
            .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--settings=no", "--resolv-conf=off"])
            .args(["--timezone=off", "--link-journal=no", "--console=pipe"])
            .arg(format!("--machine={}", self.bridge))
            .arg("--hostname=old-1")
            .arg(format!("--directory={}", self.at("root").display()))
            .arg(format!("--network-bridge={}", self.bridge))
            .stdin(Stdio::null())
            .stderr(console.try_clone().unwrap())
            .stdout(console)
            .spawn()
            .expect("scripts/install-needs upstart");
        self.nspawn = Some(child);
    }

    /// Waits until the host has shut itself down.
    pub fn wait_for_its_end(&mut self) {
        let mut child = self.nspawn.take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                self.nspawn = Some(child);
                panic!("it does not shut down: {}", self.console());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn console(&self) -> String {
        fs::read_to_string(self.at("console")).unwrap_or_default()
    }

    /// The private key that logs root in, and the host's own public key.
    pub fn ssh(&self) -> (PathBuf, String) {
        let key = fs::read_to_string(self.file("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
        (self.at("key"), key.trim().to_owned())
    }

    pub async fn connect(&self) -> Arc<dyn Remote> {
        let host = Host {
            id: HostId("old-1".to_owned()),
            name: HostName::new("old-1").unwrap(),
            role: Role::Server,
            state: HostState::Running,
            private_address: Some(self.address()),
            ssh: SshTarget {
                host: self.address().to_string(),
                user: Some("root".to_owned()),
                key: Some(self.at("key")),
                ..SshTarget::default()
            },
            host_keys: vec![fs::read_to_string(self.file("etc/ssh/ssh_host_ed25519_key.pub")).unwrap()],
            tags: BTreeMap::new(),
        };
        let settings = SshSettings {
            known_hosts: self.at("known_hosts"),
            ssh_config: None,
            home: self.at("home"),
            default_user: "root".to_owned(),
            sudo_password: None,
            unknown_key: UnknownKey::Refuse,
            cancel: CancellationToken::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let connected = SshConnector::new(settings).connect(&host, deadline, &Events::silent()).await;
        connected.unwrap_or_else(|error| panic!("{error}: {}", self.console()))
    }
}

/// The host's processes end with the first of them, which is a child of systemd-nspawn and would outlive it.
fn end(nspawn: &mut Child) {
    let parent = nspawn.id().to_string();
    let deadline = Instant::now() + Duration::from_secs(20);
    while nspawn.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output();
        let pids = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let _ = Command::new("kill").arg("-KILL").args(pids.split_whitespace()).stderr(Stdio::null()).status();
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = nspawn.kill();
    let _ = nspawn.wait();
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.nspawn.take() {
            end(&mut child);
        }
        let root = self.at("root").display().to_string();
        let mut tries = 0;
        while !Command::new("umount").arg(&root).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) && tries < 50
        {
            tries += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).status();
        assert!(tries < 50 || std::thread::panicking(), "{root} is still mounted");
    }
}
