//! Numbers, times and steps in words. Pure; whatever a host may have said is escaped here.

use jiff::Timestamp;

use super::escape::plain;
use crate::model::event::{Doing, Phase, UnitVerb};

/// `1 host`, `3 hosts`.
pub fn count(n: usize, noun: &str) -> String {
    match (n, noun) {
        (1, _) => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

/// `512 B`, `1.2 kB`, `82.1 MB`.
pub fn bytes(n: u64) -> String {
    if n < 1000 {
        return format!("{n} B");
    }
    let mut tenths = n / 100;
    let mut unit = 0;
    // 9999 tenths still print as 999.9; beyond that the next unit is shorter.
    while tenths >= 10_000 && unit < 3 {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, ["kB", "MB", "GB", "TB"][unit])
}

/// `28.0 of 82.1 MB`; without a total just what came.
pub fn bytes_of(done: u64, total: u64) -> String {
    if total == 0 {
        return bytes(done);
    }
    let (whole, part) = (bytes(total), bytes(done));
    match (part.split_once(' '), whole.split_once(' ')) {
        (Some((n, a)), Some((_, b))) if a == b => format!("{n} of {whole}"),
        _ => format!("{part} of {whole}"),
    }
}

/// Whole seconds from `from` to `to`; a clock that went back counts as none.
pub fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)
}

/// `12 s`, `2 min 05 s`, `3 h 07 min`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The same in at most seven columns, for the live view: `12 s`, `2:05`, `3:07:00`.
pub fn short_age(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

pub const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "Preparing",
        Phase::Launch => "Launching hosts",
        Phase::Observe => "Reading the hosts' state",
        Phase::Plan => "Planning",
        Phase::Apply => "Installing",
        Phase::Verify => "Asking Consul and Prometheus",
        Phase::Remove => "Removing",
    }
}

/// What is going on: `sending 82.1 MB`.
pub fn doing(doing: &Doing) -> String {
    match doing {
        Doing::BuildBase { part } => format!("building the base system: {}", plain(part)),
        Doing::FetchArtifact { artifact } => format!("fetching {artifact}"),
        Doing::Prepare { what } => format!("now: {}", plain(what)),
        Doing::Launch => "launching".to_owned(),
        Doing::Boot => "booting".to_owned(),
        Doing::HostKeys => "waiting for its console to tell its SSH keys".to_owned(),
        Doing::Connect { attempt, last } => match (attempt, last) {
            (0 | 1, None) => "connecting".to_owned(),
            (n, None) => format!("connecting, attempt {n}"),
            (n, Some(last)) => format!("connecting, attempt {n} ({})", plain(last)),
        },
        Doing::ReadFacts => "reading facts".to_owned(),
        Doing::Send { bytes: n } => format!("sending {}", bytes(*n)),
        Doing::Write { path } => format!("writing {path}"),
        Doing::RemoveFile { path } => format!("removing {path}"),
        Doing::Check { title } => format!("checking with {}", plain(title)),
        Doing::Unit { unit, verb } => format!("{} {unit}", verb_ing(*verb)),
        Doing::JoinConsul => "waiting for Consul to list it alive".to_owned(),
        Doing::Scrape => "waiting for Prometheus to scrape it".to_owned(),
        Doing::Run { command } => format!("running {}", plain(command)),
        Doing::Terminate => "removing".to_owned(),
        Doing::Clear => "clearing what is only its own".to_owned(),
        Doing::Seal => "making an image of its disk".to_owned(),
        Doing::CopyImage { region } => format!("copying the image to {}", plain(region)),
    }
}

/// What has been done: `sent 82.1 MB`.
pub fn did(doing: &Doing) -> String {
    match doing {
        Doing::BuildBase { .. } => "built the base system".to_owned(),
        Doing::FetchArtifact { artifact } => format!("fetched {artifact}"),
        Doing::Prepare { what } => format!("done: {}", plain(what)),
        Doing::Launch => "launched".to_owned(),
        Doing::Boot => "booted".to_owned(),
        Doing::HostKeys => "its console told its SSH keys".to_owned(),
        Doing::Connect { .. } => "connected".to_owned(),
        Doing::ReadFacts => "read facts".to_owned(),
        Doing::Send { bytes: n } => format!("sent {}", bytes(*n)),
        Doing::Write { path } => format!("wrote {path}"),
        Doing::RemoveFile { path } => format!("removed {path}"),
        Doing::Check { title } => format!("checked with {}", plain(title)),
        Doing::Unit { unit, verb } => format!("{} {unit}", verb_ed(*verb)),
        Doing::JoinConsul => "alive in Consul".to_owned(),
        Doing::Scrape => "scraped by Prometheus".to_owned(),
        Doing::Run { command } => format!("ran {}", plain(command)),
        Doing::Terminate => "removed".to_owned(),
        Doing::Clear => "cleared what was only its own".to_owned(),
        Doing::Seal => "made an image of its disk".to_owned(),
        Doing::CopyImage { region } => format!("copied the image to {}", plain(region)),
    }
}

const fn verb_ing(verb: UnitVerb) -> &'static str {
    match verb {
        UnitVerb::Enable => "enabling",
        UnitVerb::Start => "starting",
        UnitVerb::Stop => "stopping",
        UnitVerb::Reload => "reloading",
        UnitVerb::Restart => "restarting",
    }
}

const fn verb_ed(verb: UnitVerb) -> &'static str {
    match verb {
        UnitVerb::Enable => "enabled",
        UnitVerb::Start => "started",
        UnitVerb::Stop => "stopped",
        UnitVerb::Reload => "reloaded",
        UnitVerb::Restart => "restarted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown: Vec<_> = [0, 999, 1000, 1999, 82_100_000, 999_999, 5_000_000_000].into_iter().map(bytes).collect();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.9 kB", "82.1 MB", "999.9 kB", "5.0 GB"]);
        assert!(bytes(u64::MAX).ends_with(" TB"));
        assert_eq!(bytes_of(28_000_000, 82_100_000), "28.0 of 82.1 MB");
        assert_eq!(bytes_of(28_000, 82_100_000), "28.0 kB of 82.1 MB");
        assert_eq!(bytes_of(28_000, 0), "28.0 kB");
    }

    #[test]
    fn ages() {
        let shown: Vec<_> = [0, 59, 60, 125, 3600, 11_220, 90_000].into_iter().map(age).collect();
        assert_eq!(shown, ["0 s", "59 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "3 h 07 min", "1 d 01 h"]);
        let shown: Vec<_> = [0, 59, 60, 3599, 11_220].into_iter().map(short_age).collect();
        assert_eq!(shown, ["0 s", "59 s", "1:00", "59:59", "3:07:00"]);
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(5).unwrap());
        assert_eq!((seconds(early, late), seconds(late, early)), (5, 0));
    }
}
