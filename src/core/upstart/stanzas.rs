//! What Upstart's job files may say, and since when: data, read in the sources named.

use semver::Version;

/// What follows the words of a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    None,
    /// One, whatever it is.
    Text,
    /// One or more, whatever they are.
    Texts,
    /// `NAME` or `NAME=VALUE`.
    Variable,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number in this range.
    Number(i64, i64),
    /// The same, or `never`.
    NumberOrNever(i64, i64),
    Octal,
    Signal,
    /// One or more exit statuses or signals.
    Statuses,
    /// A resource, a soft and a hard limit.
    Limit,
    /// `unlimited`, or a count and an interval.
    Respawns,
    Events,
    Command,
    Script,
}

/// One form of a stanza.
pub(super) struct Stanza {
    pub words: &'static [&'static str],
    /// The release that brought it; `None`: older than 0.6.5.
    pub since: Option<Version>,
    /// Where that is written.
    pub source: &'static str,
    /// Two stanzas with the same of this may not stand in one file; empty: it may stand often.
    pub once: &'static str,
    pub arguments: Arguments,
}

const OLD: &str = "init/parse_job.c of Upstart 0.6.5";
const NEWS: &str = "NEWS of Upstart 1.13";

const fn old(words: &'static [&'static str], once: &'static str, arguments: Arguments) -> Stanza {
    Stanza { words, since: None, source: OLD, once, arguments }
}

const fn new(
    words: &'static [&'static str],
    (major, minor, patch): (u64, u64, u64),
    once: &'static str,
    arguments: Arguments,
) -> Stanza {
    Stanza { words, since: Some(Version::new(major, minor, patch)), source: NEWS, once, arguments }
}

const SECONDS: Arguments = Arguments::Number(0, i32::MAX as i64);

pub(super) static STANZAS: [Stanza; 46] = {
    use Arguments::{
        Command, Events, Limit, None, NumberOrNever, Octal, OneOf, Respawns, Script, Signal, Statuses, Text, Texts,
        Variable,
    };
    [
        old(&["description"], "description", Text),
        old(&["author"], "author", Text),
        old(&["version"], "version", Text),
        new(&["usage"], (1, 5, 0), "usage", Text),
        old(&["instance"], "instance", Text),
        old(&["env"], "", Variable),
        old(&["export"], "", Texts),
        old(&["emits"], "", Texts),
        old(&["start", "on"], "start on", Events),
        old(&["stop", "on"], "stop on", Events),
        new(&["manual"], (0, 6, 7), "manual", None),
        old(&["exec"], "main process", Command),
        old(&["script"], "main process", Script),
        old(&["pre-start", "exec"], "pre-start process", Command),
        old(&["pre-start", "script"], "pre-start process", Script),
        old(&["post-start", "exec"], "post-start process", Command),
        old(&["post-start", "script"], "post-start process", Script),
        old(&["pre-stop", "exec"], "pre-stop process", Command),
        old(&["pre-stop", "script"], "pre-stop process", Script),
        old(&["post-stop", "exec"], "post-stop process", Command),
        old(&["post-stop", "script"], "post-stop process", Script),
        old(&["expect"], "expect", OneOf(&["stop", "daemon", "fork", "none"])),
        old(&["task"], "task", None),
        old(&["kill", "timeout"], "kill timeout", SECONDS),
        new(&["kill", "signal"], (1, 3, 0), "kill signal", Signal),
        new(&["reload", "signal"], (1, 10, 0), "reload signal", Signal),
        old(&["respawn"], "respawn", None),
        old(&["respawn", "limit"], "respawn limit", Respawns),
        old(&["normal", "exit"], "normal exit", Statuses),
        old(&["console", "none"], "console", None),
        old(&["console", "output"], "console", None),
        old(&["console", "owner"], "console", None),
        new(&["console", "log"], (1, 4, 0), "console", None),
        old(&["umask"], "umask", Octal),
        old(&["nice"], "nice", Arguments::Number(-20, 19)),
        old(&["oom"], "oom", NumberOrNever(-17, 15)),
        new(&["oom", "score"], (1, 3, 0), "oom", NumberOrNever(-1000, 1000)),
        old(&["limit"], "limit", Limit),
        old(&["chroot"], "chroot", Text),
        old(&["chdir"], "chdir", Text),
        new(&["setuid"], (1, 4, 0), "setuid", Text),
        new(&["setgid"], (1, 4, 0), "setgid", Text),
        new(&["debug"], (0, 6, 7), "debug", None),
        new(&["apparmor", "load"], (1, 9, 0), "apparmor load", Text),
        new(&["apparmor", "switch"], (1, 9, 0), "apparmor switch", Text),
        new(&["cgroup"], (1, 13, 0), "", Texts),
    ]
};

/// What `limit` may name.
pub(super) const RESOURCES: [&str; 14] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "sigpending",
    "stack",
];

/// Signals by name, with `SIG` before them or without.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

pub(super) fn is_signal(word: &str) -> bool {
    SIGNALS.contains(&word.strip_prefix("SIG").unwrap_or(word))
}
