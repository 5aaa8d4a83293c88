//! Starting and ending a host's systemd-nspawn. It is detached from this process: a session of its own
//! (or a unit of the machine's systemd), its own cgroup, its console in a file.
//!
//! Each host needs a cgroup of its own: with `--keep-unit` its systemd manages whatever group nspawn was
//! started in, and two of them in one group would end each other's services.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::host::HostDir;
use super::process::{self, Mark};
use super::state::{BridgeName, HostRecord};
use super::{command, file_error, fitness, mounts, net};
use crate::world::cloud::CloudError;

/// The cgroup, in each hierarchy, in which those of the hosts lie.
pub const CGROUP: &str = "clusterctl-sandbox";

/// Before the machine's name: a host's unit where the machine runs systemd.
const UNIT: &str = "clusterctl-";

/// systemd-nspawn ends with this when the host reboots itself, and is to be started again.
const REBOOT: &str = "133";

/// How long an ended host's processes may take to be gone: the kernel may still be writing for them.
const GONE: Duration = Duration::from_secs(20);

/// Its arguments are the host's cgroups, `--`, and the command line that runs the host. The loop itself waits in a group beside the
/// host's own; each nspawn is started in a fresh subshell that enters the host's.
const SUPERVISE: &str = r#"
set -eu
groups=
while [ "$1" != -- ]; do
    mkdir -p "$1/host" "$1/loop"
    echo $$ > "$1/loop/cgroup.procs"
    groups="$groups $1"
    shift
done
shift
while :; do
    code=0
    sh -c 'for group in $0; do echo $$ > "$group/host/cgroup.procs"; done; exec "$@"' "$groups" "$@" || code=$?
    [ "$code" = 133 ] || exit "$code"
done
"#;

/// systemd-nspawn's command line for a host, in its network namespace.
fn arguments(dir: &HostDir, record: &HostRecord, machine: &str) -> Vec<String> {
    let mut args = vec![format!("--net={}", net::namespace_path(machine).display())];
    let nspawn = command::find("systemd-nspawn").unwrap_or_else(|| PathBuf::from("systemd-nspawn"));
    args.push(nspawn.display().to_string());
    let fixed = [
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        // The namespace is the host's own, so it may manage it.
        "--capability=CAP_NET_ADMIN",
    ];
    args.extend(fixed.map(ToOwned::to_owned));
    args.push(format!("--machine={machine}"));
    args.push(format!("--hostname={}", record.name));
    args.push(format!("--directory={}", dir.merged().display()));
    args
}

/// The environment that nspawn reads: /proc/sys/net is the host's own as well.
const WRITABLE: (&str, &str) = ("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");

/// Starts the host and waits until its nspawn shows; the answer marks that process.
pub fn start(dir: &HostDir, record: &HostRecord, machine: &str) -> Result<Mark, CloudError> {
    remove_traces(machine);
    let args = arguments(dir, record, machine);
    if systemd_runs() {
        by_systemd(dir, machine, &args)?;
    } else {
        by_setsid(dir, machine, &args)?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(mark) = running(dir) {
            return Ok(mark);
        }
        if Instant::now() >= deadline {
            return Err(CloudError::Host {
                host: record.name.clone(),
                what: format!("systemd-nspawn did not start: {}", said(dir)),
                log: Some(dir.console()),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The host's nspawn, if it runs.
pub fn running(dir: &HostDir) -> Option<Mark> {
    process::nspawns(&dir.merged()).into_iter().next()
}

/// The console's last words.
pub fn said(dir: &HostDir) -> String {
    match super::read_tail(&dir.console(), 16 << 10) {
        Ok(text) if !text.trim().is_empty() => command::last_lines(&text, 5),
        _ => "its console is empty".to_owned(),
    }
}

fn by_setsid(dir: &HostDir, machine: &str, args: &[String]) -> Result<(), CloudError> {
    let log = dir.console();
    let failed = |e| file_error("opening", &log, e);
    let out = fs::File::options().create(true).append(true).open(&log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    let mut setsid: Command = command::command("setsid");
    setsid.args(["sh", "-c", SUPERVISE, "clusterctl-sandbox"]);
    setsid.args(fitness::cgroup_roots().iter().map(|root| root.join(CGROUP).join(machine))).arg("--");
    setsid.arg("nsenter").args(args);
    // Nothing of the caller's environment: a secret in it would lie in /proc for as long as the host lives.
    setsid.env_clear().envs([WRITABLE, ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")]);
    let shown = "setsid sh -c … systemd-nspawn".to_owned();
    let mut child = setsid
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .current_dir("/")
        .spawn()
        .map_err(|e| CloudError::Command { command: shown, detail: e.to_string() })?;
    // Reaps it if it ends while we live; else its new parent does.
    std::thread::spawn(move || child.wait());
    Ok(())
}

fn by_systemd(dir: &HostDir, machine: &str, args: &[String]) -> Result<(), CloudError> {
    command::run("systemd-run", unit(dir, machine, args)).map(drop)
}

/// The machine's systemd gives the host a unit, and with it a cgroup that it leaves alone (`Delegate`).
fn unit(dir: &HostDir, machine: &str, args: &[String]) -> Vec<String> {
    let log = dir.console();
    let mut words: Vec<String> = ["--quiet", "--collect", "--service-type=exec"].map(ToOwned::to_owned).to_vec();
    words.push(format!("--unit={UNIT}{machine}"));
    words.push(format!("--setenv={}={}", WRITABLE.0, WRITABLE.1));
    for property in [
        "Delegate=yes".to_owned(),
        "KillMode=mixed".to_owned(),
        format!("RestartForceExitStatus={REBOOT}"),
        format!("SuccessExitStatus={REBOOT}"),
        "TasksMax=infinity".to_owned(),
        format!("StandardOutput=append:{}", log.display()),
        format!("StandardError=append:{}", log.display()),
    ] {
        words.push(format!("--property={property}"));
    }
    let nsenter = command::find("nsenter").unwrap_or_else(|| PathBuf::from("nsenter"));
    words.push("--".to_owned());
    words.push(nsenter.display().to_string());
    words.extend(args.iter().cloned());
    words
}

/// Ends the host: asks it to power off and waits up to `grace`, then kills all that is left of it.
pub fn stop(dir: &HostDir, record: Option<&HostRecord>, grace: Duration) -> Result<(), CloudError> {
    if !grace.is_zero() {
        process::ask_to_end(&process::nspawns(&dir.merged()), grace);
    }
    kill_below(dir.path())?;
    if let Some(record) = record {
        stop_units(&net::port(&record.network.bridge, record.address))?;
        kill_below(dir.path())?;
    }
    mounts::unmount_below(dir.path())?;
    if let Some(record) = record {
        let machine = net::port(&record.network.bridge, record.address);
        net::remove_port(&machine)?;
        remove_traces(&machine);
    }
    Ok(())
}

/// Kills every process of the hosts that lie at or below `dir`; the answer is how many.
pub fn kill_below(dir: &Path) -> Result<usize, CloudError> {
    let find = || process::runners(dir).into_iter().map(|(mark, _)| mark).chain(process::inside(dir)).collect();
    process::kill_all(GONE, find).map(|killed| killed.len()).map_err(|left| CloudError::Command {
        command: format!("kill -9 {}", left.iter().map(|m| m.pid().to_string()).collect::<Vec<_>>().join(" ")),
        detail: format!("these processes of hosts in {} do not end", dir.display()),
    })
}

/// Ends the units of hosts (a pattern may name many), so that none of them is started again. Their
/// processes have been killed before: nothing has to be waited for.
pub fn stop_units(machines: &str) -> Result<(), CloudError> {
    if !systemd_runs() {
        return Ok(());
    }
    command::run("systemctl", ["stop", "--quiet", &format!("{UNIT}{machines}.service")]).or_else(|e| {
        // It also fails for a unit that is gone already; only one that is left matters.
        let listed =
            command::run("systemctl", ["list-units", "--plain", "--no-legend", &format!("{UNIT}{machines}.service")])?;
        if listed.trim().is_empty() { Ok(String::new()) } else { Err(e) }
    })?;
    Ok(())
}

fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Removes what systemd-nspawn and the hosts' systemd leave when they are killed: cgroups, and folders
/// and mounts of the machine's name, which later versions refuse to find.
pub fn remove_traces(machine: &str) {
    for root in fitness::cgroup_roots() {
        remove_cgroup(&root.join(CGROUP).join(machine));
    }
    for place in ["propagate", "unix-export"] {
        let folder = Path::new("/run/systemd/nspawn").join(place).join(machine);
        let _ = mounts::unmount_below(&folder);
        let _ = fs::remove_dir(&folder);
    }
}

/// The same for every host of a cluster, whose machines are named after its bridge.
pub fn remove_all_traces(bridge: &BridgeName) {
    let groups = fitness::cgroup_roots().into_iter().map(|root| root.join(CGROUP));
    let places = ["propagate", "unix-export"].map(|place| Path::new("/run/systemd/nspawn").join(place));
    let entries = groups.chain(places).filter_map(|dir| fs::read_dir(dir).ok()).flat_map(Iterator::flatten);
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let machines: BTreeSet<String> = names.filter(|n| net::is_port(bridge, n)).collect();
    machines.iter().for_each(|machine| remove_traces(machine));
}

/// A cgroup goes when all below it have gone; its files do not count.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Removes the folder of all hosts' cgroups when none is left in it.
pub fn remove_empty_cgroups() {
    for root in fitness::cgroup_roots() {
        let _ = fs::remove_dir(root.join(CGROUP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::Role;
    use crate::model::name::HostName;
    use crate::world::cloud::sandbox::state::Network;

    fn record() -> HostRecord {
        let subnet = "10.1.2.0/24".parse().expect("a subnet");
        HostRecord {
            name: HostName::new("c-node-1").unwrap(),
            role: Role::Node,
            generation: "00".to_owned(),
            address: "10.1.2.3".parse().unwrap(),
            network: Network { bridge: BridgeName::from_hash(1), subnet },
            base: "bookworm-1".to_owned(),
            image: None,
            host_key: None,
            process: None,
        }
    }

    #[test]
    fn a_unit_leaves_its_cgroup_alone_and_starts_again_after_a_reboot_only() {
        let dir = HostDir::new(PathBuf::from("/x/hosts/c-node-1"));
        let machine = "ccs00000001h3";
        let words = unit(&dir, machine, &arguments(&dir, &record(), machine));
        let (options, command) = words.split_at(words.iter().position(|w| w == "--").unwrap());
        for option in [
            "--unit=clusterctl-ccs00000001h3",
            "--collect",
            "--property=Delegate=yes",
            "--property=KillMode=mixed",
            "--property=RestartForceExitStatus=133",
            "--property=StandardOutput=append:/x/hosts/c-node-1/console.log",
        ] {
            assert!(options.iter().any(|o| o == option), "{option}: {options:?}");
        }
        assert!(command[1].ends_with("nsenter") && command[2] == "--net=/run/netns/ccs00000001h3", "{command:?}");
        assert!(command.iter().any(|w| w == "--directory=/x/hosts/c-node-1/merged"));
        assert!(command.iter().any(|w| w == "--hostname=c-node-1"));
    }

    /// Runs the loop with folders in place of cgroups and a script in place of nspawn.
    fn supervise(script: &str) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let [group, count] = ["group", "count"].map(|name| dir.path().join(name));
        let status = Command::new("sh")
            .args(["-c", SUPERVISE, "clusterctl-sandbox"])
            .arg(&group)
            .args(["--", "sh", "-c", script])
            .arg(&count)
            .status()
            .unwrap();
        assert!(group.join("loop/cgroup.procs").is_file() && group.join("host/cgroup.procs").is_file());
        (status.code(), fs::read_to_string(count).unwrap())
    }

    #[test]
    fn a_host_that_reboots_is_started_again() {
        let (code, runs) = supervise(r#"echo x >> "$0"; [ "$(wc -l < "$0")" = 3 ] || exit 133"#);
        assert_eq!((code, runs.as_str()), (Some(0), "x\nx\nx\n"));
    }

    #[test]
    fn a_host_that_is_killed_is_not() {
        let (code, runs) = supervise(r#"echo x >> "$0"; kill -9 $$"#);
        assert_eq!((code, runs.as_str()), (Some(137), "x\n"));
    }

    #[test]
    fn a_killed_hosts_cgroups_go_from_below() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("group");
        fs::create_dir_all(group.join("a/b/c")).unwrap();
        fs::create_dir_all(group.join("d")).unwrap();
        remove_cgroup(&group);
        assert!(!group.exists());
    }
}
