//! Planning: the difference between what is wanted on a host and what its facts say, with reasons.

use std::collections::{BTreeMap, BTreeSet};

use super::upstart;
use crate::model::facts::{Facts, FactsQuery, UnitFact};
use crate::model::file::{Check, FileSource, HostPath, ManagedFile, Reaction, UnitName, Wanted, Word};
use crate::model::host::Role;
use crate::model::init::Init;
use crate::model::name::HostName;
use crate::model::plan::{Action, FileChange, HostPlan, Reason, Step};

/// Room that must stay free on a host beyond what is written, in bytes.
const SPARE_DISK: u64 = 64 << 20;

/// A clock further off than this breaks gossip timestamps, TLS and every graph, in seconds.
const CLOCK_TOLERANCE: i64 = 30;

/// What to ask a host for, given what may be wanted on it. Facts about artifacts' paths need no artifact.
pub fn query(possible: &[Wanted]) -> FactsQuery {
    let mut query = FactsQuery::default();
    for wanted in possible {
        query.files.extend(wanted.files.iter().map(|file| file.path.clone()));
        query.dirs.extend(wanted.dirs.iter().map(|dir| dir.path.clone()));
        query.units.extend(wanted.units.iter().cloned());
        query.users.extend(wanted.users.iter().map(|user| user.name.clone()));
    }
    query
}

/// Why nothing can be installed on this host, with the cure; `None`: it is fit.
pub fn unfit(facts: &Facts) -> Option<String> {
    if facts.system != "Linux" {
        return Some(format!("it runs {}; clusterctl installs on Linux only", facts.system));
    }
    if facts.arch.is_none() {
        return Some(format!("its processor is {}; programs are released for x86_64 and aarch64", facts.machine));
    }
    if !facts.missing_tools.is_empty() {
        return Some(format!("it lacks {}; install that first", facts.missing_tools.join(", ")));
    }
    if !facts.root {
        return Some(
            "the login user is not root and sudo did not make it so; allow it sudo, or log in as root".to_owned(),
        );
    }
    match &facts.init {
        Init::Systemd => None,
        Init::Upstart(version) if *version >= upstart::OLDEST => None,
        Init::Upstart(version) => {
            Some(format!("it runs Upstart {version}; clusterctl installs on {} and newer", upstart::OLDEST))
        }
        Init::Other => Some("neither systemd nor Upstart runs there as process 1".to_owned()),
    }
}

/// How far the host's clock is off ours, where that is too far; both in seconds since 1970.
pub fn clock_problem(facts: &Facts, now: i64) -> Option<String> {
    let off = facts.clock - now;
    (off.abs() > CLOCK_TOLERANCE).then(|| {
        let word = if off > 0 { "ahead" } else { "behind" };
        format!("its clock is {} s {word}: set up time synchronisation (chrony, systemd-timesyncd)", off.abs())
    })
}

/// A plan for a host that cannot be planned for.
pub fn blocked(host: &HostName, role: Role, why: String) -> HostPlan {
    HostPlan { host: host.clone(), role, launch: None, steps: Vec::new(), blocked: Some(why), skipped: Vec::new() }
}

/// Nothing can be said of this host before the cluster has a server.
pub fn waiting(host: &HostName, role: Role) -> HostPlan {
    let skipped = vec!["its configuration follows when the new server has its address".to_owned()];
    HostPlan { host: host.clone(), role, launch: None, steps: Vec::new(), blocked: None, skipped }
}

/// What is said of hosts from an image, for which nothing is planned.
pub fn left_alone(hosts: usize) -> Option<String> {
    match hosts {
        0 => None,
        1 => Some("1 host comes from an image and is left alone".to_owned()),
        n => Some(format!("{n} hosts come from an image and are left alone")),
    }
}

/// A plan for a host that does not exist yet. What it will need is known once it runs.
pub fn launched(host: &HostName, role: Role, why: &str) -> HostPlan {
    let launch = Some(Reason(why.to_owned()));
    HostPlan { host: host.clone(), role, launch, steps: Vec::new(), blocked: None, skipped: Vec::new() }
}

/// The steps from what the facts say to what is wanted. Old texts, where they were fetched, give diffs.
pub fn host_plan(
    host: &HostName,
    role: Role,
    wanted: &Wanted,
    facts: &Facts,
    old_texts: &BTreeMap<HostPath, String>,
) -> HostPlan {
    if let Some(why) = unfit(facts) {
        return blocked(host, role, why);
    }
    let mut planner = Planner { wanted, facts, steps: Vec::new(), changed: BTreeSet::new(), reasons: BTreeMap::new() };
    planner.users_and_dirs();
    planner.files(old_texts);
    planner.removals();
    planner.checks();
    planner.units();
    let Planner { steps, .. } = planner;
    if let Some(why) = disk_problem(&steps, facts) {
        return blocked(host, role, why);
    }
    let unchanged = wanted.files.len() - steps.iter().filter(|s| matches!(s.action, Action::PutFile { .. })).count();
    let skipped = if unchanged > 0 { vec![format!("{unchanged} files are as wanted")] } else { Vec::new() };
    HostPlan { host: host.clone(), role, launch: None, steps, blocked: None, skipped }
}

/// Files whose old text would make the plan's diffs readable.
pub fn texts_to_fetch(plan: &HostPlan) -> Vec<HostPath> {
    let text_changes = |step: &Step| match &step.action {
        Action::PutFile { file, path, change: FileChange::Content, .. }
            if !file.secret && matches!(file.source, FileSource::Text(_)) =>
        {
            Some(path.clone())
        }
        _ => None,
    };
    plan.steps.iter().filter_map(text_changes).collect()
}

fn disk_problem(steps: &[Step], facts: &Facts) -> Option<String> {
    let bytes: u64 = steps
        .iter()
        .map(|step| match &step.action {
            Action::PutFile { file, change: FileChange::Create | FileChange::Content, .. } => match &file.source {
                // The compressed file stands beside the executable for a moment.
                FileSource::Executable(executable) => executable.size + executable.packed(facts.compression).size,
                FileSource::Text(text) => text.len() as u64,
            },
            _ => 0,
        })
        .sum();
    (bytes > 0 && facts.disk_free < bytes + SPARE_DISK).then(|| {
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "its disk has {} MiB free and {} MiB are needed: make room first",
            mib(facts.disk_free),
            mib(bytes + SPARE_DISK) + 1
        )
    })
}

struct Planner<'a> {
    wanted: &'a Wanted,
    facts: &'a Facts,
    steps: Vec<Step>,
    /// Paths that this plan writes or removes.
    changed: BTreeSet<HostPath>,
    /// What each unit owes to the changes, and the first reason for it.
    reasons: BTreeMap<UnitName, (Reaction, String)>,
}

impl Planner<'_> {
    fn push(&mut self, action: Action, reason: impl Into<String>) {
        self.steps.push(Step { action, reason: Reason(reason.into()) });
    }

    fn owe(&mut self, unit: &UnitName, reaction: Reaction, why: &str) {
        let entry = self.reasons.entry(unit.clone()).or_insert_with(|| (reaction, why.to_owned()));
        if reaction > entry.0 {
            *entry = (reaction, why.to_owned());
        }
    }

    fn users_and_dirs(&mut self) {
        for user in &self.wanted.users {
            if !self.facts.users.contains(&user.name) {
                self.push(Action::CreateUser { user: user.clone() }, "the user does not exist");
            }
        }
        for dir in &self.wanted.dirs {
            let reason = match self.facts.dirs.get(&dir.path) {
                None => "the folder does not exist".to_owned(),
                Some(is) if is.mode != dir.mode => format!("its mode is {:04o}, not {:04o}", is.mode, dir.mode),
                Some(is) if (&is.owner, &is.group) != (&dir.owner, &dir.group) => {
                    format!("it belongs to {}:{}, not {}:{}", is.owner, is.group, dir.owner, dir.group)
                }
                Some(_) => continue,
            };
            self.push(Action::PutDir { dir: dir.clone() }, reason);
        }
    }

    fn files(&mut self, old_texts: &BTreeMap<HostPath, String>) {
        for file in &self.wanted.files {
            let contents = !file.seed || self.is_for_another_version(file);
            let Some((change, reason)) = file_change(file, contents, self.facts) else { continue };
            let diff = match (&file.source, old_texts.get(&file.path)) {
                (FileSource::Text(new), Some(old)) if !file.secret => Some(diff(old, new)),
                _ => None,
            };
            if change != FileChange::Attributes {
                self.changed.insert(file.path.clone());
                for (unit, reaction) in &file.reactions {
                    self.owe(unit, *reaction, &format!("{} changes", file.path));
                }
            }
            self.push(Action::PutFile { file: Box::new(file.clone()), path: file.path.clone(), change, diff }, reason);
        }
    }

    /// Does a program come that may not read what stands there? Whoever writes the file does so anew for it, but the
    /// program starts first.
    fn is_for_another_version(&self, seed: &ManagedFile) -> bool {
        // Whoever reads it reloads; whoever writes it begins anew.
        let reads = |reaction: &Reaction| *reaction == Reaction::Reload;
        let units: Vec<&UnitName> = seed.reactions.iter().filter(|(_, r)| reads(r)).map(|(unit, _)| unit).collect();
        let runs_it = |file: &&ManagedFile| file.reactions.iter().any(|(unit, _)| units.contains(&unit));
        let mut programs = self.wanted.files.iter().filter(|file| matches!(file.source, FileSource::Executable(_)));
        programs.any(|program| runs_it(&program) && file_change(program, true, self.facts).is_some())
    }

    /// Files that an earlier run put there and that nobody wants any more.
    fn removals(&mut self) {
        let wanted: BTreeSet<&HostPath> = self.wanted.files.iter().map(|file| &file.path).collect();
        for path in self.facts.manifest.iter().filter(|path| !wanted.contains(path)) {
            if !self.facts.files.contains_key(path) {
                continue;
            }
            match unit_of(path) {
                Some(unit) => self.push(Action::Stop { unit }, "it is no longer wanted"),
                None => {
                    for (unit, reaction) in self.reactions_beside(path) {
                        self.owe(&unit, reaction, &format!("{path} goes"));
                    }
                }
            }
            self.changed.insert(path.clone());
            self.push(Action::RemoveFile { path: path.clone() }, "an earlier run put it there; it is no longer wanted");
        }
    }

    /// A removed file's own reactions are forgotten; the mildest of its neighbours' serves: a program that
    /// can reload one file of a folder can reload without it. Folders of programs hold neighbours that have nothing
    /// to do with each other.
    fn reactions_beside(&self, path: &HostPath) -> BTreeMap<UnitName, Reaction> {
        let folder = |path: &HostPath| path.as_str().rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let mut mildest: BTreeMap<UnitName, Reaction> = BTreeMap::new();
        let is_text = |file: &&ManagedFile| matches!(file.source, FileSource::Text(_));
        for file in self.wanted.files.iter().filter(is_text).filter(|file| folder(&file.path) == folder(path)) {
            for (unit, reaction) in &file.reactions {
                let least = mildest.entry(unit.clone()).or_insert(*reaction);
                *least = (*least).min(*reaction);
            }
        }
        mildest
    }

    fn checks(&mut self) {
        for check in &self.wanted.checks {
            if let Some(path) = self.changed.iter().find(|path| concerns(check, path)) {
                let reason = format!("{path} changes");
                self.push(Action::Check { check: check.clone() }, reason);
            }
        }
    }

    fn units(&mut self) {
        for (unit, reaction) in &self.facts.pending {
            if self.wanted.units.contains(unit) {
                self.owe(unit, *reaction, "an earlier run was interrupted before it");
            }
        }
        for unit in &self.wanted.units {
            let absent = UnitFact::default();
            let fact = self.facts.units.get(unit).unwrap_or(&absent);
            if !fact.is_enabled() {
                self.push(Action::Enable { unit: unit.clone() }, "it does not start at boot");
            }
            if fact.needs_daemon_reload {
                self.owe(unit, Reaction::Restart, "its unit file changed since systemd read it");
            }
            let owed = self.reasons.remove(unit);
            if !fact.is_running() {
                let state = if fact.active.is_empty() { "not there yet" } else { fact.active.as_str() };
                self.push(Action::Start { unit: unit.clone() }, format!("it is {state}"));
            } else if let Some((reaction, why)) = owed {
                self.push(Action::React { unit: unit.clone(), reaction }, why);
            }
        }
    }
}

/// `contents`: do they matter, besides owner and mode?
fn file_change(file: &ManagedFile, contents: bool, facts: &Facts) -> Option<(FileChange, String)> {
    let Some(is) = facts.files.get(&file.path) else {
        return Some((FileChange::Create, "the file does not exist".to_owned()));
    };
    if contents && is.sha256 != file.sha256() {
        let what = match file.source {
            FileSource::Text(_) => "its content differs",
            FileSource::Executable(_) => "it is another build or version",
        };
        return Some((FileChange::Content, what.to_owned()));
    }
    // Whoever owns it may have put anything in its place by now, and writes it as he likes.
    if file.seed && is.owner == file.owner {
        return None;
    }
    if is.mode != file.mode {
        return Some((FileChange::Attributes, format!("its mode is {:04o}, not {:04o}", is.mode, file.mode)));
    }
    if (&is.owner, &is.group) != (&file.owner, &file.group) {
        let text = format!("it belongs to {}:{}, not {}:{}", is.owner, is.group, file.owner, file.group);
        return Some((FileChange::Attributes, text));
    }
    None
}

/// Does a change of `path` call for this check?
fn concerns(check: &Check, path: &HostPath) -> bool {
    check.covers.iter().any(|covered| path.is_within(covered))
        || check.argv.iter().any(|word| matches!(word, Word::Program(program) if program == path))
}

/// The unit that a unit file defines.
fn unit_of(path: &HostPath) -> Option<UnitName> {
    let between = |folder: &str, suffix: &str| path.as_str().strip_prefix(folder)?.strip_suffix(suffix);
    let name = between("/etc/systemd/system/", ".service").or_else(|| between("/etc/init/", ".conf"))?;
    UnitName::new(name).ok()
}

/// A unified diff with three lines of context.
fn diff(old: &str, new: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().context_radius(3).to_string()
}

#[cfg(test)]
mod tests;
