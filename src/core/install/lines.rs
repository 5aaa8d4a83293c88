//! What the installer says while it works, one line an event.

use crate::model::event::{Doing, UnitVerb};
use crate::model::file::{HostPath, UnitName};

/// What the installer says where a compressed program does not unpack.
pub const NOT_UNPACKED: &str = "unpacking failed";

/// The longest line that is passed on, in characters.
const LONGEST: usize = 2000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallerLine {
    Began(Doing),
    Ended {
        doing: Doing,
        changed: bool,
    },
    Failed {
        step: String,
        message: String,
    },
    /// A line of the failing program's own output.
    Log(String),
    /// Something to know that stops nothing.
    Warning(String),
    Done {
        changes: usize,
    },
}

/// `None`: it is not one of the installer's own lines.
pub fn parse_line(line: &str) -> Option<InstallerLine> {
    let line: String = line.strip_prefix("clusterctl ")?.chars().take(LONGEST).collect();
    let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
    Some(match word {
        "began" => InstallerLine::Began(doing(rest)?),
        "ended" => {
            let doing = doing(rest)?;
            let changed = !matches!(doing, Doing::Check { .. });
            InstallerLine::Ended { doing, changed }
        }
        "failed" => {
            let (step, message) = rest.split_once('\t')?;
            InstallerLine::Failed { step: step.to_owned(), message: message.to_owned() }
        }
        "log" => InstallerLine::Log(rest.to_owned()),
        "warn" => InstallerLine::Warning(rest.to_owned()),
        "done" => InstallerLine::Done { changes: rest.parse().ok()? },
        _ => return None,
    })
}

fn doing(line: &str) -> Option<Doing> {
    let (word, rest) = line.split_once(' ')?;
    Some(match word {
        "user" => Doing::Run { command: format!("create user {rest}") },
        "write" => Doing::Write { path: HostPath::new(rest).ok()? },
        "remove" => Doing::RemoveFile { path: HostPath::new(rest).ok()? },
        "check" => Doing::Check { title: rest.to_owned() },
        "unit" => {
            let (verb, unit) = rest.split_once(' ')?;
            let verb = match verb {
                "enable" => UnitVerb::Enable,
                "start" => UnitVerb::Start,
                "stop" => UnitVerb::Stop,
                "reload" => UnitVerb::Reload,
                "restart" => UnitVerb::Restart,
                _ => return None,
            };
            Doing::Unit { unit: UnitName::new(unit).ok()?, verb }
        }
        _ => return None,
    })
}

/// What a step is called in a failure's report; the installer uses the same words.
pub fn title(doing: &Doing) -> String {
    match doing {
        Doing::Write { path } => format!("write {path}"),
        Doing::RemoveFile { path } => format!("remove {path}"),
        Doing::Check { title } => title.clone(),
        Doing::Run { command } => command.clone(),
        Doing::Unit { unit, verb } => {
            let verb = match verb {
                UnitVerb::Enable => "enable",
                UnitVerb::Start => "start",
                UnitVerb::Stop => "stop",
                UnitVerb::Reload => "reload",
                UnitVerb::Restart => "restart",
            };
            format!("{verb} {unit}")
        }
        _ => "install".to_owned(),
    }
}
