//! The command that reads a host's facts, and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use super::quote;
use crate::model::artifact::{Arch, Compression, Sha256};
use crate::model::facts::{DirFact, Facts, FactsQuery, FileFact, UnitFact};
use crate::model::file::{HostPath, Reaction, UnitName};
use crate::model::init::Init;

const SCRIPT: &str = include_str!("../../../templates/install/facts.sh");

/// Stands before the first fact: a login shell's own output may come before.
const BEGIN: &str = "clusterctl-facts 1";

/// Why an answer is no set of facts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FactsError {
    #[error("the host's answer has no facts; it begins with \"{}\"", .start.escape_debug())]
    NoFacts { start: String },
    #[error("the host's answer breaks off before its end")]
    CutOff,
    #[error("the host's answer has a line that is no fact: \"{}\"", .line.escape_debug())]
    BadLine { line: String },
    #[error("the host's answer lacks {what}")]
    Lacks { what: String },
}

/// The command line and its standard input. `rehash`: hash programs even where their size and times vouch for them.
pub fn facts_command(query: &FactsQuery, rehash: bool) -> (String, Vec<u8>) {
    ("sh -s".to_owned(), facts_script(query, rehash, "").into_bytes())
}

/// `root` is a prefix for all paths; tests look at a tree of their own.
pub(super) fn facts_script(query: &FactsQuery, rehash: bool, root: &str) -> String {
    fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
        quote(&words.collect::<Vec<_>>().join(" "))
    }
    let users = query.users.iter().map(String::as_str);
    format!(
        "files={}\ndirs={}\nunits={}\nusers={}\nrehash={}\nmay_sleep={}\nsleeping={}\nroot={}\n{SCRIPT}",
        words(query.files.iter().map(HostPath::as_str)),
        words(query.dirs.iter().map(HostPath::as_str)),
        words(query.units.iter().map(UnitName::as_str)),
        words(users.filter(|user| !user.contains(char::is_whitespace))),
        u8::from(rehash),
        u8::from(query.may_sleep),
        quote(&query.sleeping.as_ref().map(Init::to_fact).unwrap_or_default()),
        quote(root),
    )
}

/// # Errors
/// [`FactsError`] where the answer is cut off, or is anything else than what our script prints.
pub fn parse_facts(answer: &[u8]) -> Result<Facts, FactsError> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines();
    if !lines.by_ref().any(|line| line == BEGIN) {
        return Err(FactsError::NoFacts { start: text.trim_start().chars().take(80).collect() });
    }
    let mut reader = Reader::default();
    let mut ended = false;
    for line in lines {
        if line == "end" {
            ended = true;
            break;
        }
        if reader.line(line).is_none() {
            return Err(FactsError::BadLine { line: line.chars().take(200).collect() });
        }
    }
    if !ended {
        return Err(FactsError::CutOff);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    single: BTreeMap<&'static str, String>,
    missing_tools: Vec<String>,
    compression: Compression,
    asleep: bool,
    disk_free: Option<u64>,
    addresses: Vec<IpAddr>,
    users: BTreeSet<String>,
    dirs: BTreeMap<HostPath, DirFact>,
    modes: BTreeMap<HostPath, DirFact>,
    sums: BTreeMap<HostPath, Sha256>,
    units: BTreeMap<UnitName, UnitFact>,
    /// The properties of one unit, until the next one begins.
    unit: (Option<UnitName>, UnitFact),
    manifest: BTreeSet<HostPath>,
    pending: BTreeMap<UnitName, Reaction>,
}

/// The facts that stand once, each on its line.
const SINGLE: [&str; 8] = ["hostname", "system", "machine", "uid", "clock", "os", "os-version", "init"];

impl Reader {
    /// `None`: it is no fact.
    fn line(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(key) = SINGLE.iter().find(|single| **single == key) {
            self.single.insert(key, value.chars().take(200).collect());
            return Some(());
        }
        match key {
            "missing" => self.missing_tools.push(value.to_owned()),
            "unpacks" => {
                let known = Compression::ALL.into_iter().find(|compression| compression.program() == value)?;
                self.compression = self.compression.max(known);
            }
            "disk" => {
                let bytes = value.parse::<u64>().ok()?.saturating_mul(1024);
                self.disk_free = Some(self.disk_free.map_or(bytes, |least| least.min(bytes)));
            }
            "address" => self.address(value.parse().ok()?),
            "asleep" => self.asleep = true,
            "user" => drop(self.users.insert(value.to_owned())),
            "dir" => {
                let (path, fact) = attributes(value)?;
                self.dirs.insert(path, fact);
            }
            "file" => {
                let (path, fact) = attributes(value)?;
                self.modes.insert(path, fact);
            }
            "sum" => {
                let (sum, path) = value.split_once(' ')?;
                self.sums.insert(HostPath::new(path.trim_start()).ok()?, Sha256::from_str(sum).ok()?);
            }
            "manifest" => drop(self.manifest.insert(HostPath::new(value).ok()?)),
            "pending" => {
                let (unit, reaction) = value.split_once(' ')?;
                let reaction = match reaction {
                    "reload" => Reaction::Reload,
                    "restart" => Reaction::Restart,
                    _ => return None,
                };
                self.pending.insert(UnitName::new(unit).ok()?, reaction);
            }
            "unit" => self.unit_line(value)?,
            _ => return None,
        }
        Some(())
    }

    fn address(&mut self, address: IpAddr) {
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let useless = address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local;
        if !useless && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    /// `systemctl show` prints a block of properties for each unit, with an empty line between them; the facts' script says
    /// the same of Upstart's jobs.
    fn unit_line(&mut self, line: &str) -> Option<()> {
        if line.is_empty() {
            self.end_unit();
            return Some(());
        }
        let (key, value) = line.split_once('=')?;
        let fact = &mut self.unit.1;
        match key {
            "Id" => self.unit.0 = Some(UnitName::new(value.strip_suffix(".service")?).ok()?),
            "Job" => self.unit.0 = Some(UnitName::new(value).ok()?),
            "ActiveState" => value.clone_into(&mut fact.active),
            "UnitFileState" => value.clone_into(&mut fact.enabled),
            "NeedDaemonReload" => fact.needs_daemon_reload = value == "yes",
            "MainPID" => fact.main_pid = value.parse().ok()?,
            // Empty before the first start in some versions.
            "ExecMainStartTimestampMonotonic" => fact.started_monotonic_us = value.parse().unwrap_or(0),
            _ => return None,
        }
        Some(())
    }

    fn end_unit(&mut self) {
        if let (Some(name), fact) = std::mem::take(&mut self.unit) {
            self.units.insert(name, fact);
        }
    }

    fn take(&mut self, key: &'static str) -> Result<String, FactsError> {
        self.single.remove(key).ok_or_else(|| FactsError::Lacks { what: key.to_owned() })
    }

    fn finish(mut self) -> Result<Facts, FactsError> {
        self.end_unit();
        let mut files = BTreeMap::new();
        for (path, DirFact { mode, owner, group }) in std::mem::take(&mut self.modes) {
            // A file that nobody can read, or that went away just now, has no sum.
            let Some(sha256) = self.sums.remove(&path) else {
                return Err(FactsError::Lacks { what: format!("the SHA-256 sum of {path}") });
            };
            files.insert(path, FileFact { sha256, mode, owner, group });
        }
        let machine = self.take("machine")?;
        let clock = self.take("clock")?;
        Ok(Facts {
            hostname: self.take("hostname")?,
            system: self.take("system")?,
            arch: Arch::from_machine(&machine),
            machine,
            os: self.single.remove("os").unwrap_or_default(),
            os_version: self.single.remove("os-version").unwrap_or_default(),
            init: Init::from_fact(&self.take("init")?),
            asleep: self.asleep,
            root: self.take("uid")? == "0",
            clock: clock.parse().map_err(|_| FactsError::BadLine { line: format!("clock {clock}") })?,
            disk_free: self.disk_free.ok_or_else(|| FactsError::Lacks { what: "the free disk space".to_owned() })?,
            addresses: self.addresses,
            missing_tools: self.missing_tools,
            compression: self.compression,
            users: self.users,
            dirs: self.dirs,
            files,
            units: self.units,
            manifest: self.manifest,
            pending: self.pending,
        })
    }
}

/// `MODE OWNER GROUP PATH`
fn attributes(line: &str) -> Option<(HostPath, DirFact)> {
    let mut words = line.split(' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (owner, group, path) = (words.next()?, words.next()?, words.next()?);
    let fact = DirFact { mode, owner: owner.to_owned(), group: group.to_owned() };
    words.next().is_none().then_some((HostPath::new(path).ok()?, fact))
}
