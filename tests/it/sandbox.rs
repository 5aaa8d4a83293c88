//! The sandbox provider with real hosts on this machine. Needs root and what docs/sandbox.md lists; the
//! base tree is shared by all tests (and built by the first one that needs it).

use std::fs;
use std::io::Read;
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clusterctl::model::event::Events;
use clusterctl::model::host::{Host, HostState, Role};
use clusterctl::model::name::{ClusterName, HostName};
use clusterctl::world::cloud::sandbox::{Sandbox, clusters};
use clusterctl::world::cloud::{Cloud, CloudError, Launch};

const BASE: &str = "/var/tmp/clusterctl-test-base";

/// A folder for one test's clusters; whatever the test left is removed with it.
pub struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("clusterctl-sandbox-").tempdir_in("/var/tmp").unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn sandbox(&self, cluster: &str) -> Sandbox {
        let cluster = ClusterName::new(cluster).unwrap();
        Sandbox::open_with_base(cluster, self.path().to_owned(), PathBuf::from(BASE))
            .expect("these tests need root on Linux")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for cluster in clusters(self.path()).unwrap_or_default() {
            let sandbox = self.sandbox(cluster.as_str());
            // In a thread of its own: a runtime cannot be entered from within the test's one.
            let destroyed =
                std::thread::spawn(move || runtime().block_on(sandbox.destroy(false, &Events::silent()))).join();
            assert!(std::thread::panicking() || matches!(destroyed, Ok(Ok(_))), "{destroyed:?}");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn wanted(cluster: &str, count: usize) -> Vec<Launch> {
    let name = |n: usize| if n == 0 { format!("{cluster}-server-1") } else { format!("{cluster}-node-{n}") };
    let role = |n: usize| if n == 0 { Role::Server } else { Role::Node };
    (0..count).map(|n| Launch::plain(HostName::new(name(n)).unwrap(), role(n))).collect()
}

pub async fn up(sandbox: &Sandbox, wanted: &[Launch]) -> Vec<Host> {
    let launched = sandbox.launch(wanted, &Events::silent()).await;
    let mut hosts = Vec::new();
    for host in launched {
        let host = host.unwrap();
        hosts.push(sandbox.wait(&host.id, Instant::now() + Duration::from_secs(60)).await.unwrap());
    }
    hosts
}

pub fn ssh(host: &Host, command: &str) -> String {
    try_ssh(host, command).unwrap_or_else(|e| panic!("{command}: {e}"))
}

pub fn try_ssh(host: &Host, command: &str) -> Result<String, String> {
    let known = tempfile::NamedTempFile::new().unwrap();
    let keys: Vec<_> = host.host_keys.iter().map(|key| format!("{} {key}", host.ssh.host)).collect();
    fs::write(known.path(), keys.join("\n") + "\n").unwrap();
    let output = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.path().display()))
        .arg("-i")
        .arg(host.ssh.key.as_ref().unwrap())
        .arg(format!("{}@{}", host.ssh.user.as_deref().unwrap(), host.ssh.host))
        .arg(command)
        .output()
        .expect("these tests need the ssh client");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|e| panic!("these tests need {program}: {e}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything on this machine that names the folder or the bridge.
pub fn traces(root: &Path, bridge: &str) -> Vec<String> {
    let root = root.to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cmdline = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        if cmdline.contains(root) || mounts.contains(root) {
            found.push(format!("process {:?}: {cmdline}", process.file_name()));
        }
    }
    let links = output("ip", &["-o", "link"]) + &output("ip", &["netns"]) + &output("nft", &["list", "tables"]);
    found.extend(links.lines().filter(|l| l.contains(bridge)).map(ToOwned::to_owned));
    for dir in ["/sys/fs/cgroup", "/run/systemd/nspawn"] {
        found.extend(output("find", &[dir, "-name", &format!("{bridge}*")]).lines().map(ToOwned::to_owned));
    }
    found
}

/// The bridge that leads to the host.
pub fn bridge(host: &Host) -> String {
    let route = output("ip", &["-o", "route", "get", &host.ssh.host]);
    let words: Vec<&str> = route.split_ascii_whitespace().collect();
    let dev = words.iter().position(|w| *w == "dev").unwrap_or_else(|| panic!("no route to the host: {route}"));
    words[dev + 1].to_owned()
}

pub fn nspawn(host: &Host) -> i32 {
    let wanted = format!("/{}/merged", host.name);
    let mut found = None;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cmdline =
            String::from_utf8_lossy(&fs::read(process.path().join("cmdline")).unwrap_or_default()).into_owned();
        let mut args = cmdline.split('\0');
        if args.next().is_some_and(|p| p.ends_with("systemd-nspawn"))
            && args.any(|a| a.starts_with("--directory=") && a.ends_with(&wanted))
        {
            found = process.file_name().to_str().unwrap().parse().ok();
        }
    }
    found.expect("the host's nspawn runs")
}

pub fn kill(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    let lives = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "));
    while lives() {
        assert!(Instant::now() < deadline, "{pid} does not die");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub async fn states(sandbox: &Sandbox) -> Vec<HostState> {
    sandbox.list().await.unwrap().iter().map(|h| h.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_live_and_leave_nothing() {
    let root = Root::new();
    let sandbox = root.sandbox("life");
    assert!(sandbox.list().await.unwrap().is_empty());
    let begin = Instant::now();
    sandbox.prepare(&Events::silent()).await.unwrap();
    let (ready, wanted) = (Instant::now(), wanted("life", 3));
    let hosts = up(&sandbox, &wanted).await;
    eprintln_times(ready - begin, ready.elapsed());

    assert_eq!(sandbox.list().await.unwrap().len(), 3);
    assert!(states(&sandbox).await.iter().all(|s| s.is_running()));
    assert_eq!(clusters(root.path()).unwrap(), [ClusterName::new("life").unwrap()]);
    let mut banner = [0; 4];
    TcpStream::connect((hosts[0].ssh.host.as_str(), 22)).unwrap().read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");

    // A host of its own: its name, its systemd as process 1, its address, the others in reach.
    let facts = ssh(
        &hosts[1],
        "hostname; cat /proc/1/comm; ip -4 -o address show scope global; systemctl is-system-running --wait",
    );
    let facts: Vec<&str> = facts.lines().collect();
    assert_eq!(facts[..2], ["life-node-1", "systemd"]);
    assert!(facts[2].contains(&hosts[1].ssh.host), "{facts:?}");
    assert_eq!(facts[3], "running");
    ssh(&hosts[0], &format!("timeout 5 bash -c 'read -r l < /dev/tcp/{}/22; echo $l'", hosts[2].ssh.host));
    let machine_ids: Vec<_> = hosts.iter().map(|h| ssh(h, "cat /etc/machine-id")).collect();
    assert!(machine_ids[0] != machine_ids[1] && machine_ids[1] != machine_ids[2]);
    // One host's services are not another's: each systemd has a cgroup of its own.
    let cgroups: Vec<_> =
        hosts.iter().map(|h| fs::read_to_string(format!("/proc/{}/cgroup", nspawn(h))).unwrap()).collect();
    assert!(cgroups[0] != cgroups[1] && cgroups[1] != cgroups[2], "{cgroups:?}");

    // Launching again changes nothing.
    let before = nspawn(&hosts[0]);
    assert_eq!(up(&sandbox, &wanted).await, hosts);
    assert_eq!(nspawn(&hosts[0]), before);

    sandbox.terminate(&[hosts[2].id.clone()], &Events::silent()).await.unwrap();
    sandbox.terminate(&[hosts[2].id.clone()], &Events::silent()).await.unwrap();
    assert_eq!(
        sandbox.list().await.unwrap().iter().map(|h| &h.name).collect::<Vec<_>>(),
        [&hosts[1].name, &hosts[0].name]
    );
    assert!(matches!(sandbox.console(&hosts[2].id).await, Err(CloudError::NoSuchHost { .. })));
    assert!(sandbox.console(&hosts[0].id).await.unwrap().contains("systemd"));

    let bridge = bridge(&hosts[0]);
    assert!(!traces(root.path(), &bridge).is_empty());
    let removed = sandbox.destroy(false, &Events::silent()).await.unwrap();
    assert_eq!(removed.hosts, [hosts[1].name.clone(), hosts[0].name.clone()]);
    assert!(removed.others.contains(&format!("bridge {bridge}")), "{removed:?}");
    assert_eq!(traces(root.path(), &bridge), [""; 0]);
    assert!(!root.path().exists(), "no folder is left");
    let again = sandbox.destroy(false, &Events::silent()).await.unwrap();
    // Whichever test's cluster goes last closes the forwarding that all of them shared.
    assert!(again.hosts.is_empty() && again.others.iter().all(|o| o.starts_with("forwarding")), "{again:?}");
}

#[allow(clippy::print_stderr, reason = "a measurement for whoever runs the test with --nocapture")]
fn eprintln_times(prepared: Duration, up: Duration) {
    eprintln!("base tree: {prepared:?}; three hosts from nothing to SSH: {up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_stand_side_by_side() {
    let root = Root::new();
    let (one, two) = (root.sandbox("one"), root.sandbox("two"));
    let (wanted_one, wanted_two) = (wanted("one", 1), wanted("two", 1));
    // At the same time: they must not choose the same network.
    let (first, second) = tokio::join!(up(&one, &wanted_one), up(&two, &wanted_two));
    let subnet = |host: &Host| match host.private_address.unwrap() {
        IpAddr::V4(a) => a.octets()[..3].to_vec(),
        IpAddr::V6(a) => panic!("{a}"),
    };
    assert_ne!(subnet(&first[0]), subnet(&second[0]));
    assert_ne!(bridge(&first[0]), bridge(&second[0]));
    assert_eq!(one.list().await.unwrap().len(), 1);
    let reach = |to: &Host| format!("timeout 1 bash -c 'read -r l < /dev/tcp/{}/22'", to.ssh.host);
    try_ssh(&first[0], &reach(&first[0])).unwrap();
    try_ssh(&first[0], &reach(&second[0])).expect_err("clusters do not reach each other");

    one.destroy(false, &Events::silent()).await.unwrap();
    assert_eq!(ssh(&second[0], "hostname"), "two-server-1", "the other cluster lives on");
    assert!(states(&two).await.iter().all(|s| s.is_running()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_is_stopped_and_starts_again_as_itself() {
    let root = Root::new();
    let sandbox = root.sandbox("phoenix");
    let wanted = wanted("phoenix", 1);
    let hosts = up(&sandbox, &wanted).await;
    ssh(&hosts[0], "echo kept > /root/data; sync");
    kill(nspawn(&hosts[0]));
    assert_eq!(states(&sandbox).await, [HostState::Stopped]);

    let again = up(&sandbox, &wanted).await;
    assert_eq!(again, hosts, "same id, address and keys");
    assert_eq!(ssh(&again[0], "cat /root/data; systemctl is-system-running --wait"), "kept\nrunning");

    // The machine rebooted: no process, no mount, no bridge.
    kill(nspawn(&hosts[0]));
    let bridge = bridge(&hosts[0]);
    output("ip", &["link", "delete", &bridge]);
    assert_eq!(states(&sandbox).await, [HostState::Stopped]);
    assert_eq!(up(&sandbox, &wanted).await, hosts);
    assert_eq!(ssh(&hosts[0], "cat /root/data"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_hosts_are_launched_or_destroyed_all_the_same() {
    let root = Root::new();
    let sandbox = root.sandbox("half");
    let wanted = wanted("half", 2);
    let hosts = up(&sandbox, &wanted).await;
    let bridge = bridge(&hosts[0]);
    let cluster = root.path().join("clusters/half");
    let record = |host: &Host| cluster.join("hosts").join(host.name.as_str()).join("host.json");

    // Killed before the process was written down: it is found.
    let text = fs::read_to_string(record(&hosts[0])).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["process"] = serde_json::Value::Null;
    fs::write(record(&hosts[0]), json.to_string()).unwrap();
    let running = nspawn(&hosts[0]);
    assert_eq!(up(&sandbox, &wanted).await, hosts);
    assert_eq!(nspawn(&hosts[0]), running);

    // Half a record: the host is no host any more, and the name gets a new one.
    fs::write(record(&hosts[1]), "{\"name\": \"ha").unwrap();
    assert_eq!(sandbox.list().await.unwrap(), [hosts[0].clone()]);
    let again = up(&sandbox, &wanted).await;
    assert_eq!(again[0], hosts[0]);
    assert_ne!(again[1].id, hosts[1].id);
    assert_eq!(ssh(&again[1], "hostname"), hosts[1].name.as_str());

    // All records lost while the hosts run: nothing of them stays.
    fs::remove_file(record(&hosts[0])).unwrap();
    fs::remove_file(record(&hosts[1])).unwrap();
    fs::remove_file(cluster.join("cluster.json")).unwrap();
    let removed = sandbox.destroy(false, &Events::silent()).await.unwrap();
    assert_eq!(removed.hosts.len(), 2);
    assert_eq!(traces(root.path(), &bridge), [""; 0]);
    assert!(!root.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_reboots_and_powers_off_by_itself() {
    let root = Root::new();
    let sandbox = root.sandbox("will");
    let hosts = up(&sandbox, &wanted("will", 1)).await;
    let boot = "cut -d' ' -f22 /proc/1/stat";
    let before = ssh(&hosts[0], boot);
    // The connection may end before the command does.
    let _ = try_ssh(&hosts[0], "systemctl reboot");
    let deadline = Instant::now() + Duration::from_secs(30);
    let rebooted = loop {
        sandbox.wait(&hosts[0].id, deadline).await.unwrap();
        if let Ok(now) = try_ssh(&hosts[0], boot)
            && now != before
        {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
    };
    assert!(rebooted, "the host came back");
    assert!(states(&sandbox).await[0].is_running());

    let _ = try_ssh(&hosts[0], "systemctl poweroff");
    let deadline = Instant::now() + Duration::from_secs(30);
    while states(&sandbox).await != [HostState::Stopped] {
        assert!(Instant::now() < deadline, "the host powers off");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = sandbox.wait(&hosts[0].id, Instant::now() + Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(&error, CloudError::Host { log: Some(log), .. } if log.is_file()), "{error:?}");
}
