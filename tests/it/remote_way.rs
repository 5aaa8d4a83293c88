//! The way to a host and who logs in there, against real sshds on loopback: bastions, ~/.ssh/config, users
//! that are tried one after the other.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostId, SshTarget};
use clusterctl::world::remote::ssh::{SshConnector, SshSettings, UnknownKey, last_user};
use clusterctl::world::remote::{
    Command, ConnectError, Connector as _, Obstacle, Part, Remote, RemoteError, Unwatched, Watch, openssh,
};
use tokio_util::sync::CancellationToken;

use crate::sshd::{Sshd, command, keygen, refused};
use crate::support::put_program;

/// A host and the bastion before it, which takes the host's key too.
struct Way {
    host: Sshd,
    bastion: Sshd,
}

impl Way {
    fn start() -> Self {
        Self::with("")
    }

    fn with(bastion: &str) -> Self {
        let way = Self { host: Sshd::start(), bastion: Sshd::start_with(bastion) };
        fs::copy(way.host.path("authorized"), way.bastion.path("authorized")).unwrap();
        way.knows(&way.bastion.host_key());
        way.config("");
        way
    }

    /// What the user's known_hosts says of the bastion.
    fn knows(&self, key: &str) {
        let line = format!("[127.0.0.1]:{} {key}\n", self.bastion.port);
        fs::write(self.host.path("users_known_hosts"), line).unwrap();
    }

    /// The user's ssh_config, which only says where their known_hosts is.
    fn config(&self, more: &str) {
        let known = self.host.path("users_known_hosts");
        let text = format!("{more}\nHost *\n  UserKnownHostsFile {}\n  IdentityAgent none\n", known.display());
        fs::write(self.host.path("ssh_config"), text).unwrap();
    }

    fn name(&self) -> String {
        format!("root@127.0.0.1:{}", self.bastion.port)
    }

    fn behind(&self, bastion: &str) -> Host {
        let host = self.host.host();
        Host { ssh: SshTarget { bastion: Some(bastion.to_owned()), ..host.ssh.clone() }, ..host }
    }

    async fn connect(&self, host: &Host, settings: SshSettings) -> Result<Arc<dyn Remote>, ConnectError> {
        let deadline = Instant::now() + Duration::from_secs(3);
        SshConnector::new(settings).connect(host, deadline, &Events::silent()).await
    }

    /// What came in its way, and what was said of it.
    async fn obstacle(&self, host: &Host) -> (Obstacle, String) {
        match refused(self.connect(host, self.host.settings()).await) {
            ConnectError::Bastion { obstacle, detail, .. } => (obstacle, detail),
            error => panic!("{error:?}"),
        }
    }
}

/// Waits until no process has `text` in its command line: whoever made a way has ended and was waited for.
async fn ended(text: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let running = || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).find(|line| line.contains(text))
    };
    while let Some(line) = running() {
        assert!(Instant::now() < deadline, "it runs on: {line}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn says(remote: &Arc<dyn Remote>, line: &str) -> String {
    let output = remote.run(command(line), Arc::new(Unwatched)).await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn everything_works_through_a_bastion() {
    let way = Way::start();
    let remote = way.connect(&way.behind(&way.name()), way.host.settings()).await.unwrap();
    assert!(way.bastion.log().contains("Accepted publickey"), "{}", way.bastion.log());
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let both_ways = Command { stdin: vec![Part::Bytes(bytes.clone())], ..command("cat") };
    let output = remote.run(both_ways, Arc::new(Unwatched)).await.unwrap();
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    // Forwarding goes on from the host, not from the bastion.
    let banner =
        remote.exchange([127, 0, 0, 1].into(), way.host.port, b"x\r\n".to_vec(), Duration::from_secs(10)).await;
    assert!(banner.unwrap().starts_with(b"SSH-2.0-"));
    drop(remote);
    ended(&format!("-W [127.0.0.1]:{}", way.host.port)).await;
}

#[tokio::test]
async fn an_interruption_ends_the_way_too() {
    let way = Way::start();
    let settings = way.host.settings();
    struct Interrupt(CancellationToken);
    impl Watch for Interrupt {
        fn line(&self, _: &str) {
            self.0.cancel();
        }
    }
    let interrupt = Arc::new(Interrupt(settings.cancel.clone()));
    let remote = way.connect(&way.behind(&way.name()), settings).await.unwrap();
    let begun = Instant::now();
    let error = remote.run(command("echo here; sleep 60"), interrupt).await.unwrap_err();
    assert!(matches!(error, RemoteError::Cancelled { .. }), "{error:?}");
    drop(remote);
    ended(&format!("-W [127.0.0.1]:{}", way.host.port)).await;

    // A bastion that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let bastion = format!("root@127.0.0.1:{}", silent.local_addr().unwrap().port());
    let settings = way.host.settings();
    let cancel = settings.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    let error = refused(way.connect(&way.behind(&bastion), settings).await);
    assert!(matches!(error, ConnectError::Cancelled { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for what does not come");
    ended(&format!("-W [127.0.0.1]:{}", way.host.port)).await;
}

#[tokio::test]
async fn the_bastions_key_is_the_users_to_know() {
    let way = Way::start();
    let host = way.behind(&way.name());
    fs::write(way.host.path("users_known_hosts"), "").unwrap();
    let (obstacle, detail) = way.obstacle(&host).await;
    assert!(obstacle == Obstacle::KeyUnknown && detail.contains("key is known"), "{obstacle:?} {detail}");
    way.knows(&keygen(&way.host.path("wrong"), "ed25519", ""));
    let (obstacle, detail) = way.obstacle(&host).await;
    assert!(obstacle == Obstacle::KeyChanged && detail.contains("has changed"), "{obstacle:?} {detail}");
    let accept = || SshSettings { unknown_key: UnknownKey::AcceptNew, ..way.host.settings() };
    let error = refused(way.connect(&host, accept()).await);
    assert!(matches!(error, ConnectError::Bastion { obstacle: Obstacle::KeyChanged, .. }), "{error:?}");
    assert!(!way.bastion.log().contains("Accepted"), "it logged in to a stranger");

    fs::write(way.host.path("users_known_hosts"), "").unwrap();
    way.connect(&host, accept()).await.map(drop).unwrap();
    assert!(fs::read_to_string(way.host.path("users_known_hosts")).unwrap().contains("ssh-ed25519"));
    way.connect(&host, way.host.settings()).await.map(drop).unwrap();
}

#[tokio::test]
async fn what_comes_in_the_way_is_told_apart() {
    let way = Way::start();
    let begun = Instant::now();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Not better in a while, so it is said at once.
    let (obstacle, detail) = way.obstacle(&way.behind(&way.name().replace("root", "nobody-there"))).await;
    assert!(obstacle == Obstacle::Denied && detail.contains("publickey"), "{obstacle:?} {detail}");
    let (obstacle, _) = way.obstacle(&way.behind("root@gate.invalid")).await;
    assert_eq!(obstacle, Obstacle::Unresolved);
    let host = way.behind(&way.name());
    let elsewhere = Host { ssh: SshTarget { host: "web.invalid".to_owned(), ..host.ssh.clone() }, ..host.clone() };
    let (obstacle, _) = way.obstacle(&elsewhere).await;
    assert_eq!(obstacle, Obstacle::HostUnresolved, "the bastion resolves");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // These may be booting.
    let refusing = Host { ssh: SshTarget { port: Some(closed), ..host.ssh.clone() }, ..host.clone() };
    let error = refused(way.connect(&refusing, way.host.settings()).await);
    assert!(
        matches!(&error, ConnectError::Refused { address, .. } if address.contains("through root@127.0.0.1")),
        "{error:?}"
    );
    let (obstacle, detail) = way.obstacle(&way.behind(&format!("root@127.0.0.1:{closed}"))).await;
    assert!(obstacle == Obstacle::Unreachable && detail.contains("refused"), "{obstacle:?} {detail}");
    ended(&format!("-W [127.0.0.1]:{}", way.host.port)).await;

    let way = Way::with("AllowTcpForwarding no\n");
    let (obstacle, detail) = way.obstacle(&way.behind(&way.name())).await;
    assert!(obstacle == Obstacle::Forbidden && detail.contains("prohibited"), "{obstacle:?} {detail}");
}

#[tokio::test]
async fn a_bastion_that_comes_up_later_is_waited_for() {
    let mut way = Way::start();
    way.bastion.stop();
    let (host, settings) = (way.behind(&way.name()), way.host.settings());
    let waiting = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(20);
        SshConnector::new(settings).connect(&host, deadline, &Events::silent()).await.map(drop)
    });
    let way = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(200));
        way.bastion.run();
        way
    });
    let _way = way.await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_hosts_go_through_one_bastion_at_once() {
    let way = Way::start();
    let connector = SshConnector::new(way.host.settings());
    let deadline = Instant::now() + Duration::from_secs(60);
    let events = Events::silent();
    let hosts: Vec<Host> = (0..30).map(|n| Host { id: HostId(format!("i-{n}")), ..way.behind(&way.name()) }).collect();
    let all = futures::future::join_all(hosts.iter().map(|host| connector.connect(host, deadline, &events))).await;
    for remote in &all {
        assert_eq!(says(remote.as_ref().unwrap(), "echo here").await, "here");
    }
    // As many logins as hosts: none was dropped on the way and tried again.
    assert_eq!(way.bastion.log().matches("Accepted publickey").count(), hosts.len());
    drop(all);
    ended(&format!("-W [127.0.0.1]:{}", way.host.port)).await;
}

/// What `clusterctl ssh` hands to the user's ssh, which offers the bastion the spec's key too.
#[tokio::test]
async fn the_users_ssh_goes_the_same_way() {
    let way = Way::start();
    way.config("");
    let options = openssh::through(&way.name(), Some(&way.host.path("user")), &way.host.path("home")).unwrap();
    // Both take this configuration for the user's own.
    let wrapper = way.host.path("ssh");
    let config = way.host.path("ssh_config");
    put_program(&wrapper, format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", config.display()));
    let port = way.host.port.to_string();
    fs::write(
        way.host.path("users_known_hosts"),
        format!(
            "[127.0.0.1]:{port} {}\n[127.0.0.1]:{} {}\n",
            way.host.host_key(),
            way.bastion.port,
            way.bastion.host_key()
        ),
    )
    .unwrap();
    let output = std::process::Command::new(&wrapper)
        .args(["-o", "BatchMode=yes", "-p", &port, "-l", "root", "-i"])
        .arg(way.host.path("user"))
        .args(options)
        .args(["--", "127.0.0.1", "echo over"])
        .env("PATH", format!("{}:/usr/bin:/bin", wrapper.parent().unwrap().display()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over\n", "{output:?}");
    assert!(way.bastion.log().contains("Accepted publickey"));
}

/// A host that `~/.ssh/config` alone knows how to reach.
async fn by_config(way: &Way, config: &str) -> String {
    way.config(config);
    let host = way.host.host();
    let ssh = SshTarget { host: "web".to_owned(), key: host.ssh.key.clone(), ..SshTarget::default() };
    let remote = way.connect(&Host { ssh, ..host }, way.host.settings()).await;
    says(&remote.unwrap_or_else(|error| panic!("{error}")), "echo $SSH_CONNECTION").await
}

#[tokio::test]
async fn the_users_ssh_config_knows_the_way() {
    let way = Way::start();
    let (port, gate) = (way.host.port, way.bastion.port);
    let web = format!("Host web\n HostName 127.0.0.1\n Port {port}\n User root\n");
    let logins = || way.bastion.log().matches("Accepted publickey").count();
    // Through the bastion to the bastion, and from there to the host: a chain.
    let hop = |name: &str| format!("Host {name}\n HostName 127.0.0.1\n Port {gate}\n User root\n");
    let key = way.host.path("user");
    let gates = format!("{}{}Host gate*\n IdentityFile {}\n", hop("gate1"), hop("gate2"), key.display());
    by_config(&way, &format!("{web} ProxyJump gate1,gate2\n{gates}")).await;
    assert_eq!(logins(), 2);
    // The bastion's own way is OpenSSH's to know.
    by_config(&way, &format!("{web} ProxyJump gate2\n{gates}Host gate2\n ProxyJump gate1\n")).await;
    assert_eq!(logins(), 4);
    // From another file, with a command of the user's own that leaves processes behind.
    let included = way.host.path("included");
    let command = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3; : %n-%r'";
    fs::write(&included, format!("{web} ProxyCommand {command}\n")).unwrap();
    by_config(&way, &format!("Include {}\n", included.display())).await;
    ended("web-root").await;
    // The spec wins.
    way.config(&format!("Host 127.0.0.1\n ProxyCommand false\nHost *\n Port {port}\n"));
    way.connect(&way.behind("none"), way.host.settings()).await.map(drop).unwrap();
    assert_eq!(logins(), 4);
}

#[tokio::test]
async fn a_command_that_makes_no_way_says_why() {
    let way = Way::start();
    let tried = async |command: &str| {
        way.config(&format!("Host 127.0.0.1\n ProxyCommand {command}\n"));
        way.obstacle(&way.host.host()).await
    };
    let (obstacle, detail) = tried("no-such-program %h").await;
    assert!(obstacle == Obstacle::Program && detail.contains("no-such-program"), "{obstacle:?} {detail}");
    let (obstacle, detail) = tried("sh -c 'echo the gate is shut >&2; exit 1'").await;
    assert_eq!((obstacle, detail.as_str()), (Obstacle::Other, "the gate is shut"));
    way.config("Host 127.0.0.1\n ProxyCommand nc %K\n");
    let error = refused(way.connect(&way.host.host(), way.host.settings()).await);
    assert!(matches!(error, ConnectError::Setup { .. }) && error.to_string().contains("%K"), "{error}");
}

/// A host where any of `users` may be the one.
fn any_of(sshd: &Sshd, users: &[&str]) -> Host {
    let host = sshd.host();
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    Host { ssh: SshTarget { user: None, users, ..host.ssh.clone() }, ..host }
}

fn noted(sshd: &Sshd, known_hosts: &Path) -> Option<String> {
    last_user(known_hosts, &sshd.host().id)
}

#[tokio::test]
async fn users_are_tried_one_after_the_other_and_the_right_one_is_remembered() {
    let sshd = Sshd::start_with("AllowUsers nobody\n");
    let known_hosts = sshd.settings().known_hosts;
    let refusals = || sshd.log().matches("not allowed because not listed in AllowUsers").count();
    let error = refused(sshd.connect(&any_of(&sshd, &["daemon", "bin"]), sshd.settings()).await);
    let ConnectError::Denied { user, detail, .. } = &error else { panic!("{error:?}") };
    assert_eq!(user, "daemon, bin");
    assert!(detail.contains("daemon: tried ") && detail.contains("; bin: tried ") && detail.contains("publickey"));
    assert_eq!(noted(&sshd, &known_hosts), None);

    let before = refusals();
    let host = any_of(&sshd, &["daemon", "bin", "nobody"]);
    assert_eq!(sshd.connect(&host, sshd.settings()).await.unwrap().user(), "nobody");
    assert_eq!(noted(&sshd, &known_hosts).as_deref(), Some("nobody"));
    let after = refusals();
    assert!(after >= before + 2, "{before} {after}");
    assert_eq!(sshd.connect(&host, sshd.settings()).await.unwrap().user(), "nobody");
    assert_eq!(refusals(), after, "the user of the last time was not the first");
    // What the note says holds as long as it works.
    fs::write(known_hosts.with_file_name("users"), format!("{} daemon\n", host.id)).unwrap();
    assert_eq!(sshd.connect(&host, sshd.settings()).await.unwrap().user(), "nobody");
    // Who is named is the only one.
    fs::write(sshd.path("ssh_config"), "User daemon\n").unwrap();
    let error = refused(sshd.connect(&host, sshd.settings()).await);
    assert!(matches!(&error, ConnectError::Denied { user, .. } if user == "daemon"), "{error:?}");
}

#[tokio::test]
async fn an_images_root_that_names_another_user_is_followed() {
    let quirk = |user: &str| {
        let said = format!("Please login as the user \\\"{user}\\\" rather than the user \\\"root\\\".");
        format!("Match User root\n  ForceCommand echo \"{said}\"; echo; sleep 10; exit 142\n")
    };
    let sshd = Sshd::start_with(&quirk("nobody"));
    let begun = Instant::now();
    let remote = sshd.connect(&any_of(&sshd, &["root", "daemon"]), sshd.settings()).await.unwrap();
    assert_eq!(remote.user(), "nobody");
    assert!(begun.elapsed() < Duration::from_secs(9), "it waited for the sleeping command");
    assert_eq!(noted(&sshd, &sshd.settings().known_hosts).as_deref(), Some("nobody"));

    let sshd = Sshd::start_with(&quirk("-oProxyCommand=x"));
    let error = refused(sshd.connect(&any_of(&sshd, &["root"]), sshd.settings()).await);
    assert!(matches!(&error, ConnectError::Denied { user, .. } if user == "root"), "{error:?}");

    let sshd = Sshd::start();
    let remote = sshd.connect(&any_of(&sshd, &["root", "daemon"]), sshd.settings()).await.unwrap();
    assert_eq!((remote.user().as_str(), says(&remote, "id -un").await.as_str()), ("root", "root"));
}
