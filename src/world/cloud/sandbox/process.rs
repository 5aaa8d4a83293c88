//! Processes: a mark that a reused pid cannot fake, the search for a host's processes in /proc, and how
//! they are ended. Knows nothing of clusters: it is told which folders are meant.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::mounts;

/// A process for good: its number is given again after its end, its start (in ticks since boot) is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pid: i32,
    start: u64,
    boot: String,
}

impl Mark {
    /// Marks the process that has this number now, if any.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (!stat.dead).then(|| Self { pid, start: stat.start, boot: boot_id() })
    }

    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }

    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends the signal to this very process; nothing happens when it is gone.
    fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // The descriptor first, the comparison after: what it names then cannot change any more.
        if let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
            && self.is_alive()
        {
            let _ = pidfd_send_signal(&fd, signal);
        }
    }
}

/// This boot's id; empty where /proc does not say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

struct Stat {
    dead: bool,
    start: u64,
}

/// `pid (name) state … starttime …`; the name may hold anything, blanks and brackets too.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // The start is field 22, the state field 3.
    let start = fields.nth(18)?.parse().ok()?;
    Some(Stat { dead: matches!(state, "Z" | "X" | "x"), start })
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What a command line has to do with running a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    Nspawn,
    /// Those that start it, and again after a reboot.
    Starter,
}

/// The folder that a command line boots, and as what, if it does.
fn boots(cmdline: &[u8]) -> Option<(Runner, PathBuf)> {
    let mut args = cmdline.split(|b| *b == 0);
    let program = std::str::from_utf8(args.next()?).ok()?;
    let runner = match Path::new(program).file_name()?.to_str()? {
        "systemd-nspawn" => Runner::Nspawn,
        "sh" | "setsid" | "nsenter" => Runner::Starter,
        _ => return None,
    };
    let folder = args.find_map(|a| a.strip_prefix(b"--directory="))?;
    Some((runner, PathBuf::from(std::str::from_utf8(folder).ok()?)))
}

/// The processes that run a host whose folder lies at or below `dir`.
pub fn runners(dir: &Path) -> Vec<(Mark, Runner)> {
    let one = |pid: i32| {
        let (runner, folder) = boots(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)?;
        folder.starts_with(dir).then_some(())?;
        Some((Mark::of(pid)?, runner))
    };
    pids().filter_map(one).collect()
}

/// Of these, the systemd-nspawn processes.
pub fn nspawns(dir: &Path) -> Vec<Mark> {
    runners(dir).into_iter().filter(|(_, runner)| *runner == Runner::Nspawn).map(|(mark, _)| mark).collect()
}

/// The processes whose root is an overlay with its upper folder below `dir`: those inside of hosts.
/// They live on when systemd-nspawn itself is killed.
pub fn inside(dir: &Path) -> Vec<Mark> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let one = |pid: i32| {
        // Who shares our mounts is not inside, and that is nearly everyone.
        if fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == own {
            return None;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
        // Another service's private namespace may hold our mounts as well, but not as its root.
        let root =
            |m: &mounts::Mount| m.point == Path::new("/") && m.upper().is_some_and(|u| Path::new(u).starts_with(dir));
        mounts::parse(&text).iter().any(root).then_some(())?;
        Mark::of(pid)
    };
    pids().filter_map(one).collect()
}

/// Processes that work on `dir`: it, or what is below, is their root or one of their arguments.
pub fn working_on(dir: &Path) -> Vec<Mark> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let one = |pid: i32| {
        let root = fs::read_link(format!("/proc/{pid}/root")).ok()?;
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let names = |arg: &[u8]| std::str::from_utf8(arg).is_ok_and(|a| Path::new(a).starts_with(dir));
        (pid != own && (root.starts_with(dir) || cmdline.split(|b| *b == 0).any(names))).then_some(())?;
        Mark::of(pid)
    };
    pids().filter_map(one).collect()
}

/// Asks (SIGTERM) and waits up to `grace`; the answer is whether all are gone.
pub fn ask_to_end(marks: &[Mark], grace: Duration) -> bool {
    marks.iter().for_each(|m| m.signal(Signal::TERM));
    all_gone(marks, grace)
}

fn all_gone(marks: &[Mark], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if !marks.iter().any(Mark::is_alive) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills what `find` finds, again and again until it finds nothing: a host's processes fork meanwhile.
/// The answer is what was killed, or what could not be within `limit`.
pub fn kill_all(limit: Duration, find: impl Fn() -> Vec<Mark>) -> Result<BTreeSet<Mark>, Vec<Mark>> {
    let deadline = Instant::now() + limit;
    let mut killed = BTreeSet::new();
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(killed);
        }
        if Instant::now() >= deadline {
            return Err(found);
        }
        found.iter().for_each(|m| m.signal(Signal::KILL));
        all_gone(&found, Duration::from_secs(1));
        killed.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_last_bracket() {
        let tail = "S 1 7 7 0 -1 4194560 2509 10441 14 15 2 0 0 0 20 0 1 0 4711 1 2 3";
        assert_eq!(parse_stat(&format!("7 (x) {tail}")).unwrap().start, 4711);
        let hostile = parse_stat(&format!("7 (a) Z 0 (b) ) {tail}")).unwrap();
        assert!(!hostile.dead && hostile.start == 4711);
        assert!(parse_stat(&format!("7 (x) {}", tail.replacen('S', "Z", 1))).unwrap().dead);
        for broken in ["", "7", "7 (x)", "7 (x) S 1 2", "7 x S", &format!("7 (x) {}", tail.replace("4711", "-4"))] {
            assert!(parse_stat(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn only_what_boots_a_folder_counts() {
        let line = |args: &[&str]| boots(&args.join("\0").into_bytes());
        let given = "--directory=/srv/x/merged";
        let folder = || PathBuf::from("/srv/x/merged");
        assert_eq!(line(&["/usr/bin/systemd-nspawn", "--quiet", given, ""]), Some((Runner::Nspawn, folder())));
        assert_eq!(line(&["systemd-nspawn", given]), Some((Runner::Nspawn, folder())));
        assert_eq!(line(&["/bin/sh", "-c", "x", "systemd-nspawn", given]), Some((Runner::Starter, folder())));
        assert_eq!(line(&["vi", given]), None);
        assert_eq!(line(&["systemd-nspawn-x", given]), None);
        assert_eq!(line(&["systemd-nspawn", "--boot"]), None);
        assert_eq!(boots(b""), None);
        assert_eq!(boots(b"systemd-nspawn\0--directory=\xff\xfe"), None);
    }

    #[test]
    fn a_mark_knows_its_process_from_another_with_the_same_number() {
        let own = Mark::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(!Mark { start: own.start + 1, ..own.clone() }.is_alive());
        assert!(!Mark { boot: "another".to_owned(), ..own }.is_alive());
        assert!(Mark::of(-1).is_none() && Mark::of(i32::MAX).is_none());
    }

    #[test]
    fn a_child_is_ended_and_a_stranger_is_not() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mark = Mark::of(i32::try_from(child.id()).unwrap()).unwrap();
        Mark { start: mark.start + 1, ..mark.clone() }.signal(Signal::KILL);
        assert!(mark.is_alive());
        let killed =
            kill_all(Duration::from_secs(10), || Some(mark.clone()).filter(Mark::is_alive).into_iter().collect());
        assert_eq!(killed.unwrap(), BTreeSet::from([mark.clone()]));
        assert!(!mark.is_alive());
        child.wait().unwrap();
    }
}
