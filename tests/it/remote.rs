//! SSH against a real sshd on loopback.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostId, SshTarget};
use clusterctl::world::remote::ssh::{SshConnector, SshSettings, UnknownKey};
use clusterctl::world::remote::{Command, ConnectError, Connector as _, MAX_OUTPUT, Part, RemoteError, Unwatched};
use tokio_util::sync::CancellationToken;

use crate::sshd::{Sshd, command, keygen, refused};

#[tokio::test]
async fn commands_come_back_as_they_ended() {
    let sshd = Sshd::start();
    let remote = sshd.session().await;
    let run = async |line: &str| remote.run(command(line), Arc::new(Unwatched)).await.unwrap();
    let output = run("echo out; echo err >&2; exit 7").await;
    assert_eq!((output.status, &output.stdout[..], &output.stderr[..]), (7, &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(run("kill -TERM $$").await.status, 128 + 15);
    assert_eq!(run("kill -KILL $$").await.status, 128 + 9);
    assert_eq!(run("true").await.status, 0, "the connection serves on");
}

#[tokio::test]
async fn large_streams_flow_both_ways_at_once() {
    let sshd = Sshd::start();
    let remote = sshd.session().await;
    let bytes: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = sshd.path("part");
    fs::write(&path, &bytes).unwrap();
    let stdin = vec![
        Part::Bytes(b"head".to_vec()),
        Part::File { path: path.clone(), size: bytes.len() as u64 },
        Part::Bytes(b"tail".to_vec()),
    ];
    let output = remote.run(Command { stdin: stdin.clone(), ..command("cat") }, Arc::new(Unwatched)).await.unwrap();
    assert!(output.stdout == [b"head", &bytes[..], b"tail"].concat(), "{} bytes came back", output.stdout.len());
    // A program that reads nothing ends, whatever is on its way.
    let output = remote.run(Command { stdin, ..command("exit 3") }, Arc::new(Unwatched)).await.unwrap();
    assert_eq!(output.status, 3);

    let short = vec![Part::File { path, size: bytes.len() as u64 + 1 }];
    let error =
        remote.run(Command { stdin: short, ..command("cat >/dev/null") }, Arc::new(Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Input { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_and_waits_are_bounded() {
    let sshd = Sshd::start();
    let remote = sshd.session().await;
    let endless = remote.run(command("yes"), Arc::new(Unwatched)).await.unwrap_err();
    assert!(matches!(endless, RemoteError::TooMuch { limit: MAX_OUTPUT, .. }), "{endless:?}");
    let remote = sshd.session().await;
    let slow = Command { timeout: Duration::from_millis(300), ..command("sleep 60") };
    let begun = Instant::now();
    let error = remote.run(slow, Arc::new(Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for the command: {:?}", begun.elapsed());
    let output = remote.run(command("echo still here"), Arc::new(Unwatched)).await.unwrap();
    assert_eq!(output.stdout, b"still here\n", "the connection serves on");
}

#[tokio::test]
async fn an_interruption_ends_a_running_command_at_once() {
    let sshd = Sshd::start();
    let settings = sshd.settings();
    let cancel = settings.cancel.clone();
    let remote = sshd.connect(&sshd.host(), settings).await.unwrap();
    struct Interrupt(CancellationToken);
    impl clusterctl::world::remote::Watch for Interrupt {
        fn line(&self, _: &str) {
            self.0.cancel();
        }
    }
    let begun = Instant::now();
    let error = remote.run(command("echo here; sleep 60"), Arc::new(Interrupt(cancel))).await.unwrap_err();
    assert!(matches!(error, RemoteError::Cancelled { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for the command");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_lost() {
    let sshd = Sshd::start();
    let remote = sshd.session().await;
    // The command's grandparent is the process that serves this connection.
    let line = "parent=$(cut -d' ' -f4 /proc/$$/stat); echo cutting; kill -9 $parent; sleep 60";
    let error = remote.run(command(line), Arc::new(Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Lost { .. }), "{error:?}");
    let error = remote.run(command("true"), Arc::new(Unwatched)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn forwarding_reaches_what_listens_there() {
    let sshd = Sshd::start();
    let remote = sshd.session().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer: Vec<u8> =
        b"HTTP/1.0 200 OK\r\n\r\n".iter().copied().chain(std::iter::repeat_n(b'x', 500_000)).collect();
    let serve = answer.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&serve).unwrap();
        request
    });
    let to = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let got = remote.exchange(to, port, b"hello".to_vec(), Duration::from_secs(10)).await.unwrap();
    assert!(got == answer, "{} bytes came back", got.len());
    assert_eq!(&server.join().unwrap(), b"hello");
    // It is closed now.
    let error = remote.exchange(to, port, b"hello".to_vec(), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(error, RemoteError::NotListening { address, .. } if address.port() == port), "{error:?}");
    let output = remote.run(command("echo still here"), Arc::new(Unwatched)).await.unwrap();
    assert_eq!(output.stdout, b"still here\n");
}

#[tokio::test]
async fn what_does_not_answer_is_told_apart() {
    let mut sshd = Sshd::start();
    let host = sshd.host();
    let connect = async |port: u16, millis| {
        let host = Host { ssh: SshTarget { port: Some(port), ..host.ssh.clone() }, ..host.clone() };
        let deadline = Instant::now() + Duration::from_millis(millis);
        refused(SshConnector::new(sshd.settings()).connect(&host, deadline, &Events::silent()).await)
    };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connect(closed, 300).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    // Something listens and speaks another protocol.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            drop(stream.unwrap().write_all(b"220 mail ready\r\n"));
        }
    });
    let error = connect(port, 300).await;
    assert!(matches!(error, ConnectError::Dropped { .. }), "{error:?}");

    // A host that still boots refuses, and answers later.
    sshd.stop();
    let (settings, host) = (sshd.settings(), sshd.host());
    let waiting = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(20);
        SshConnector::new(settings).connect(&host, deadline, &Events::silent()).await.map(drop)
    });
    tokio::task::spawn_blocking(move || {
        sshd.run();
        sshd
    })
    .await
    .map(|sshd| async move { (waiting.await.unwrap(), sshd) })
    .unwrap()
    .await
    .0
    .unwrap();
}

#[tokio::test]
async fn host_keys_are_checked_from_the_first_connection() {
    let mut sshd = Sshd::start();
    let unknown = Host { host_keys: Vec::new(), ..sshd.host() };
    let fingerprint = |sshd: &Sshd| {
        let output = Process::new("ssh-keygen").arg("-lf").arg(sshd.path("host.pub")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    let first = fingerprint(&sshd);
    let error = refused(sshd.connect(&unknown, sshd.settings()).await);
    assert!(matches!(error, ConnectError::KeyUnknown { .. }) && error.to_string().contains(&first), "{error}");
    assert!(!fs::read_to_string(sshd.path("log")).unwrap().contains("Accepted"), "it logged in to an unknown host");

    let accept = SshSettings { unknown_key: UnknownKey::AcceptNew, ..sshd.settings() };
    sshd.connect(&unknown, accept.clone()).await.map(drop).unwrap();
    let known = fs::read_to_string(sshd.path("known_hosts")).unwrap();
    assert!(known.starts_with("i-0001 ssh-ed25519 "), "{known}");
    // The address may change, the key is the host's.
    sshd.connect(&unknown, sshd.settings()).await.map(drop).unwrap();

    // Another machine at the address of one that is known: no alarm, and nobody is known for it yet.
    let knows = |host: &Host| SshConnector::new(sshd.settings()).knows(host).unwrap();
    let other = Host { id: HostId("i-0002".to_owned()), ..unknown.clone() };
    assert!(knows(&unknown) && !knows(&other) && knows(&Host { host_keys: vec![sshd.host_key()], ..other.clone() }));
    let error = refused(sshd.connect(&other, sshd.settings()).await);
    assert!(matches!(error, ConnectError::KeyUnknown { .. }), "{error}");
    let vouched = Host { host_keys: vec![sshd.host_key()], ..other.clone() };
    sshd.connect(&vouched, sshd.settings()).await.map(drop).unwrap();
    assert!(knows(&other), "a key that came with a host is remembered for it");
    let known = fs::read_to_string(sshd.path("known_hosts")).unwrap();

    // Another key of the same host, of the same and of another type, though new ones are accepted.
    for kind in ["ed25519", "ecdsa"] {
        sshd.stop();
        keygen(&sshd.path("host"), kind, "");
        sshd.run();
        let error = refused(sshd.connect(&unknown, accept.clone()).await);
        assert!(matches!(error, ConnectError::KeyChanged { .. }) && error.to_string().contains(&first), "{error}");
    }
    assert_eq!(fs::read_to_string(sshd.path("known_hosts")).unwrap(), known);
    assert_eq!(fs::read_to_string(sshd.path("log")).unwrap().matches("Accepted").count(), 0);
}

#[tokio::test]
async fn a_denied_login_names_what_was_tried() {
    let sshd = Sshd::start();
    keygen(&sshd.path("other"), "ed25519", "");
    keygen(&sshd.path("locked"), "ed25519", "a passphrase");
    let with = |name: &str| {
        let host = sshd.host();
        Host { ssh: SshTarget { key: Some(sshd.path(name)), ..host.ssh.clone() }, ..host }
    };
    let error = refused(sshd.connect(&with("other"), sshd.settings()).await);
    let text = error.to_string();
    assert!(
        matches!(error, ConnectError::Denied { .. }) && text.contains("other") && text.contains("publickey"),
        "{text}"
    );
    let error = refused(sshd.connect(&with("locked"), sshd.settings()).await);
    assert!(error.to_string().contains("passphrase"), "{error}");
    let error = refused(sshd.connect(&with("none"), sshd.settings()).await);
    assert!(matches!(error, ConnectError::Setup { .. }) && error.to_string().contains("none"), "{error}");
}

#[tokio::test]
async fn the_users_ssh_config_is_honoured() {
    let sshd = Sshd::start();
    let config = format!(
        "# mine\nHost other\n  HostName 192.0.2.1\nHost web *.web\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n",
        sshd.port,
        sshd.path("user").display()
    );
    fs::write(sshd.path("ssh_config"), config).unwrap();
    let host = Host { ssh: SshTarget { host: "web".to_owned(), ..SshTarget::default() }, ..sshd.host() };
    let settings = SshSettings { default_user: "nobody".to_owned(), ..sshd.settings() };
    let remote = sshd.connect(&host, settings).await.unwrap();
    let output = remote.run(command("id -un"), Arc::new(Unwatched)).await.unwrap();
    assert_eq!(output.stdout, b"root\n");
}
