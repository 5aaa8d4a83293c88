//! What the program that makes the way said when it let nothing through: whose fault it is, and whether it
//! may be better soon. OpenSSH says it in words only.

use crate::world::remote::Obstacle;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The bastion was reached, and the host refused it.
    HostRefused,
    /// The bastion was reached, and the host did not answer it.
    HostSilent,
    /// Trying again is worth it.
    Later(Obstacle, String),
    Final(Obstacle, String),
}

/// Reads what was said on standard error. The last line that means something counts: before it there may be a
/// banner with words of its own.
pub(super) fn judge(said: &str, exit: Option<i32>) -> Verdict {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for (at, line) in lines.iter().enumerate().rev() {
        if let Some(verdict) = judge_line(line, &lines[..at]) {
            return verdict;
        }
    }
    let detail = lines.last().map_or_else(|| ended(exit), |line| short(line));
    match exit {
        // A shell's words for a program that is not there or cannot be run.
        Some(126 | 127) => Verdict::Final(Obstacle::Program, detail),
        _ => Verdict::Later(Obstacle::Other, detail),
    }
}

fn ended(exit: Option<i32>) -> String {
    match exit {
        Some(status) => format!("it ended with status {status} and said nothing"),
        None => "it ended and said nothing".to_owned(),
    }
}

fn judge_line(line: &str, before: &[&str]) -> Option<Verdict> {
    let says = |text: &str| line.contains(text);
    let is_silence = ["timed out", "No route to host", "Network is unreachable", "Host is down"].into_iter().any(says);
    if let Some((_, why)) = line.strip_prefix("channel ").and_then(|rest| rest.split_once(": open failed: ")) {
        return Some(match why {
            _ if says("Connection refused") => Verdict::HostRefused,
            _ if is_silence => Verdict::HostSilent,
            _ if says("Temporary failure") || says("resource shortage") => Verdict::Later(Obstacle::Other, short(why)),
            _ if why.starts_with("connect failed") => Verdict::Final(Obstacle::HostUnresolved, short(why)),
            _ => Verdict::Final(Obstacle::Forbidden, short(why)),
        });
    }
    if says("Host key verification failed") {
        let changed =
            |line: &&str| line.contains("HOST IDENTIFICATION HAS CHANGED") || line.contains("REVOKED HOST KEY");
        let obstacle = if before.iter().any(changed) { Obstacle::KeyChanged } else { Obstacle::KeyUnknown };
        return Some(Verdict::Final(obstacle, short(before.last().unwrap_or(&line))));
    }
    if says(": Permission denied (") || says("Too many authentication failures") {
        return Some(Verdict::Final(Obstacle::Denied, short(line)));
    }
    if says("Could not resolve hostname") {
        let obstacle = Obstacle::Unresolved;
        let soon = says("Temporary failure");
        return Some(if soon { Verdict::Later(obstacle, short(line)) } else { Verdict::Final(obstacle, short(line)) });
    }
    if ["Bad configuration option", "Unable to negotiate", "Bad owner or permissions"].into_iter().any(says) {
        return Some(Verdict::Final(Obstacle::Other, short(line)));
    }
    let hung_up = ["Connection closed by", "Connection reset by", "kex_exchange_identification"];
    if line.starts_with("ssh: connect to host") || is_silence || hung_up.into_iter().any(says) {
        return Some(Verdict::Later(Obstacle::Unreachable, short(line)));
    }
    None
}

/// One line of a stranger, of bounded length.
fn short(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(said: &str) -> Verdict {
        judge(said, Some(255))
    }

    #[test]
    fn the_host_behind_the_bastion() {
        let open = |why: &str| verdict(&format!("channel 0: open failed: {why}\r\nstdio forwarding failed\r\n"));
        assert_eq!(open("connect failed: Connection refused"), Verdict::HostRefused);
        assert_eq!(open("connect failed: Connection timed out"), Verdict::HostSilent);
        assert_eq!(open("connect failed: No route to host"), Verdict::HostSilent);
        assert!(matches!(
            open("connect failed: Name or service not known"),
            Verdict::Final(Obstacle::HostUnresolved, _)
        ));
        assert!(matches!(
            open("connect failed: Temporary failure in name resolution"),
            Verdict::Later(Obstacle::Other, _)
        ));
        let Verdict::Final(Obstacle::Forbidden, why) = open("administratively prohibited: open failed") else {
            panic!("it is not forbidden")
        };
        assert_eq!(why, "administratively prohibited: open failed");
    }

    #[test]
    fn the_bastion_itself() {
        let changed = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key for gate has changed.\n\
                       Host key verification failed.";
        for (said, obstacle) in [
            ("root@gate: Permission denied (publickey).", Obstacle::Denied),
            ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", Obstacle::Denied),
            ("ssh: Could not resolve hostname gate: Name or service not known", Obstacle::Unresolved),
            ("No ED25519 host key is known for gate\nHost key verification failed.", Obstacle::KeyUnknown),
            (changed, Obstacle::KeyChanged),
            ("/c: line 1: Bad configuration option: x\n/c: terminating, 1 bad configuration options", Obstacle::Other),
        ] {
            let got = verdict(said);
            assert!(matches!(&got, Verdict::Final(is, _) if *is == obstacle), "{said}: {got:?}");
        }
        for said in [
            "ssh: connect to host gate port 22: Connection refused",
            "ssh: connect to host gate port 22: Connection timed out",
            "Connection timed out during banner exchange\nConnection to 10.0.0.1 port 22 timed out",
            "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 10.0.0.1 port 22",
        ] {
            let got = verdict(said);
            assert!(matches!(got, Verdict::Later(Obstacle::Unreachable, _)), "{said}: {got:?}");
        }
    }

    #[test]
    fn a_banner_does_not_mislead_and_what_is_unknown_is_told() {
        let banner =
            "x@y: Permission denied (publickey).\nchannel 0: open failed: connect failed: Connection refused\n";
        assert_eq!(verdict(banner), Verdict::HostRefused);
        assert_eq!(verdict("one\n\u{1b}[2Jtwo\n\n"), Verdict::Later(Obstacle::Other, "[2Jtwo".to_owned()));
        assert!(matches!(judge("sh: 1: nc: not found", Some(127)), Verdict::Final(Obstacle::Program, _)));
        let Verdict::Later(Obstacle::Other, said) = judge("", None) else { panic!("it said something") };
        assert_eq!(said, "it ended and said nothing");
    }
}
