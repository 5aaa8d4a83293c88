//! An sshd for tests of what connects to one, with keys of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostId, HostState, Role, SshTarget};
use clusterctl::model::name::HostName;
use clusterctl::world::remote::ssh::{SshConnector, SshSettings, UnknownKey};
use clusterctl::world::remote::{Command, ConnectError, Connector as _, Remote};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::is_root;

/// An sshd on a port of its own; ends with the test.
pub struct Sshd {
    dir: TempDir,
    pub port: u16,
    child: Option<Child>,
    /// More lines of its configuration.
    more: String,
}

pub fn keygen(path: &Path, kind: &str, passphrase: &str) -> String {
    let _ = fs::remove_file(path);
    let made = Process::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status();
    assert!(made.expect("ssh-keygen is installed").success());
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

impl Sshd {
    pub fn start() -> Self {
        Self::start_with("")
    }

    pub fn start_with(more: &str) -> Self {
        assert!(is_root(), "sshd must be able to become another user: run this as root (scripts/test does)");
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let user_key = keygen(&dir.path().join("user"), "ed25519", "");
        fs::write(dir.path().join("authorized"), user_key + "\n").unwrap();
        keygen(&dir.path().join("host"), "ed25519", "");
        let mut sshd = Self { dir, port, child: None, more: more.to_owned() };
        sshd.run();
        sshd
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&mut self) {
        fs::create_dir_all("/run/sshd").unwrap();
        let folder = self.dir.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n\
             AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\n{}",
            self.port, self.more
        );
        fs::write(self.path("config"), config).unwrap();
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Process::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("openssh-server is installed (scripts/install-needs tests)");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "sshd: {}", fs::read_to_string(self.path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn host_key(&self) -> String {
        fs::read_to_string(self.path("host.pub")).unwrap().trim().to_owned()
    }

    pub fn host(&self) -> Host {
        Host {
            id: HostId("i-0001".to_owned()),
            name: HostName::new("web-1").unwrap(),
            role: Role::Node,
            state: HostState::Running,
            private_address: None,
            ssh: SshTarget {
                host: "127.0.0.1".to_owned(),
                port: Some(self.port),
                user: Some("root".to_owned()),
                key: Some(self.path("user")),
                ..SshTarget::default()
            },
            host_keys: vec![self.host_key()],
            tags: BTreeMap::new(),
        }
    }

    pub fn settings(&self) -> SshSettings {
        SshSettings {
            known_hosts: self.path("known_hosts"),
            ssh_config: Some(self.path("ssh_config")),
            home: self.path("home"),
            default_user: "root".to_owned(),
            sudo_password: None,
            unknown_key: UnknownKey::Refuse,
            cancel: CancellationToken::new(),
        }
    }

    pub async fn connect(&self, host: &Host, settings: SshSettings) -> Result<Arc<dyn Remote>, ConnectError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        SshConnector::new(settings).connect(host, deadline, &Events::silent()).await
    }

    pub async fn session(&self) -> Arc<dyn Remote> {
        let connected = self.connect(&self.host(), self.settings()).await;
        connected.unwrap_or_else(|error| panic!("{error}: {}", fs::read_to_string(self.path("log")).unwrap()))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn command(line: &str) -> Command {
    Command { line: line.to_owned(), stdin: Vec::new(), timeout: Duration::from_secs(30), root: true }
}

/// The error of a connection that must not come about.
pub fn refused(connected: Result<Arc<dyn Remote>, ConnectError>) -> ConnectError {
    match connected {
        Ok(_) => panic!("it connected"),
        Err(error) => error,
    }
}
