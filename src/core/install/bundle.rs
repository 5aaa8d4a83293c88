//! Makes one tar stream of a host's plan: the new files, and behind them the installer that puts them in place.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::quote;
use crate::model::artifact::Compression;
use crate::model::facts::Facts;
use crate::model::file::{Check, FileSource, HostPath, ManagedFile, Reaction, Word};
use crate::model::init::Init;
use crate::model::plan::{Action, FileChange, HostPlan};
use crate::model::stream::Part;

/// The installer's functions, and those for each init system.
pub const INSTALLER: &str = include_str!("../../../templates/install/install.sh");
pub const SYSTEMD: &str = include_str!("../../../templates/install/systemd.sh");
pub const UPSTART: &str = include_str!("../../../templates/install/upstart.sh");

/// A command and its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub line: String,
    pub parts: Vec<Part>,
    /// Of all parts.
    pub bytes: u64,
}

/// The machine that is installed on, as far as that matters to the installer.
#[derive(Debug, Clone, Copy)]
pub(super) struct On<'a> {
    pub init: &'a Init,
    pub compression: Compression,
    /// Its init system does not run.
    pub asleep: bool,
}

/// The installation of `plan` on the machine of these facts.
pub fn bundle_for(plan: &HostPlan, facts: &Facts, manifest: &BTreeSet<HostPath>, run_id: &str) -> Bundle {
    let on = On { init: &facts.init, compression: facts.compression, asleep: facts.asleep };
    bundle_at(plan, on, manifest, run_id, "")
}

/// The installation of `plan` on a host that runs `init`; programs travel in `compression`. `manifest`: all files that
/// are ours on that host afterwards.
pub fn bundle(
    plan: &HostPlan,
    init: &Init,
    compression: Compression,
    manifest: &BTreeSet<HostPath>,
    run_id: &str,
) -> Bundle {
    bundle_at(plan, On { init, compression, asleep: false }, manifest, run_id, "")
}

/// `root` is a prefix for all paths; tests install into a tree of their own.
pub(super) fn bundle_at(
    plan: &HostPlan,
    on: On<'_>,
    manifest: &BTreeSet<HostPath>,
    run_id: &str,
    root: &str,
) -> Bundle {
    let On { init, compression, asleep } = on;
    let work = Work::of(plan, compression);
    let mut parts = Vec::new();
    for (number, file) in work.written.iter().enumerate() {
        match &file.source {
            FileSource::Text(text) => entry(&mut parts, &format!("f/{number}"), text.clone().into_bytes()),
            FileSource::Executable(executable) => {
                let packed = executable.packed(compression);
                parts.push(Part::Bytes(header(&format!("f/{number}"), packed.size)));
                parts.push(Part::File { path: packed.path.clone(), size: packed.size });
                parts.push(Part::Bytes(padding(packed.size)));
            }
        }
    }
    // Last, and its call on the last line: a stream that breaks off installs nothing.
    let units = match init {
        Init::Upstart(_) => UPSTART,
        // Nothing is planned for a host with another one.
        Init::Systemd | Init::Other => SYSTEMD,
    };
    let asleep = if asleep { "asleep=1\n" } else { "" };
    let script = format!("{INSTALLER}\n{units}\n{}\n{asleep}main \"$1\" \"$2\"\n", work.script(manifest, run_id));
    entry(&mut parts, "install.sh", script.into_bytes());
    parts.push(Part::Bytes(vec![0; 1024]));
    let own = quote(&format!("{root}/var/lib/clusterctl"));
    // `exec` keeps the process id that the stage is named after: it tells a live run from a killed one's remains.
    let line = format!(
        "umask 077 && s={own}/stage.$$ && mkdir -p \"$s\" && tar -xof - -C \"$s\" && \
         exec sh \"$s/install.sh\" \"$s\" {}",
        quote(root)
    );
    let bytes = parts.iter().map(Part::len).sum();
    Bundle { line: format!("exec sh -c {}", quote(&line)), parts: merged(parts), bytes }
}

/// Joins neighbouring bytes, so that a small bundle is one write.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Bytes(before)), Part::Bytes(bytes)) => before.extend(bytes),
            (_, part) => merged.push(part),
        }
    }
    merged
}

fn entry(parts: &mut Vec<Part>, name: &str, content: Vec<u8>) {
    let size = content.len() as u64;
    parts.push(Part::Bytes(header(name, size)));
    parts.push(Part::Bytes(content));
    parts.push(Part::Bytes(padding(size)));
}

/// The same bytes for the same content: no clock, no owner.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("our names are short and relative");
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padding(size: u64) -> Vec<u8> {
    vec![0; usize::try_from(size.next_multiple_of(512) - size).expect("less than 512")]
}

/// A plan's steps, sorted into the phases of the installer.
#[derive(Default)]
struct Work<'a> {
    steps: usize,
    compression: Compression,
    users: Vec<(&'a str, &'a HostPath)>,
    dirs: Vec<&'a crate::model::file::ManagedDir>,
    /// Files with new bytes; the index is their name in the stream.
    written: Vec<&'a ManagedFile>,
    /// Programs and scripts that were not there before.
    fresh: BTreeSet<&'a HostPath>,
    attributes: Vec<&'a ManagedFile>,
    removed: Vec<&'a HostPath>,
    checks: Vec<&'a Check>,
    stops: Vec<&'a str>,
    enables: Vec<&'a str>,
    /// Verb and unit.
    acts: Vec<(&'static str, &'a str)>,
}

impl<'a> Work<'a> {
    fn of(plan: &'a HostPlan, compression: Compression) -> Self {
        let mut work = Self { steps: plan.steps.len(), compression, ..Self::default() };
        for step in &plan.steps {
            match &step.action {
                Action::CreateUser { user } => work.users.push((&user.name, &user.home)),
                Action::PutDir { dir } => work.dirs.push(dir),
                Action::PutFile { file, change: FileChange::Attributes, .. } => work.attributes.push(file),
                Action::PutFile { file, change, .. } => {
                    work.written.push(file);
                    if *change == FileChange::Create && file.mode & 0o111 != 0 {
                        work.fresh.insert(&file.path);
                    }
                }
                Action::RemoveFile { path } => work.removed.push(path),
                Action::Check { check } => work.checks.push(check),
                Action::Enable { unit } => work.enables.push(unit.as_str()),
                Action::Start { unit } => work.acts.push(("start", unit.as_str())),
                Action::React { unit, reaction } => work.acts.push((reaction.as_str(), unit.as_str())),
                Action::Stop { unit } => work.stops.push(unit.as_str()),
            }
        }
        work
    }

    /// The `run` of the installer; docs/installer.md gives the reasons for this order.
    fn script(&self, manifest: &BTreeSet<HostPath>, run_id: &str) -> String {
        let mut script = format!("# Run {}.\nrun() {{\n", run_id.escape_debug());
        let mut call = |function: &str, words: &[&str]| {
            script.push_str("    ");
            script.push_str(function);
            for word in words {
                let _ = write!(script, " {}", quote(word));
            }
            script.push('\n');
        };
        for (name, home) in &self.users {
            call("user", &[name, home.as_str()]);
        }
        for dir in &self.dirs {
            call("dir", &[&mode(dir.mode), &dir.owner, &dir.group, dir.path.as_str()]);
        }
        self.stage(&mut call);
        self.check(&mut call);
        self.activate(manifest, &mut call);
        self.units(&mut call);
        call("say", &["done", &self.steps.to_string()]);
        script.push_str("}\n");
        script
    }

    /// New files beside the old ones. Programs and scripts that were not there before become active at once: nothing
    /// runs them yet, and `systemd-analyze verify` wants to see what a unit starts.
    fn stage(&self, call: &mut dyn FnMut(&str, &[&str])) {
        if self.written.is_empty() {
            return;
        }
        let paths: Vec<&str> = self.written.iter().map(|file| file.path.as_str()).collect();
        call("stage_paths", &paths);
        for (number, file) in self.written.iter().enumerate() {
            let (number, mode, sum) = (number.to_string(), mode(file.mode), file.sha256());
            let (owner, group, path) = (file.owner.as_str(), file.group.as_str(), file.path.as_str());
            match &file.source {
                FileSource::Text(_) => call("stage_text", &[&number, &mode, owner, group, sum.as_str(), path]),
                FileSource::Executable(_) => {
                    call("stage_program", &[self.compression.program(), &number, &mode, owner, group, path]);
                }
            }
        }
        call("unpacked", &[]);
        call("claim", &paths);
        let fresh: Vec<&str> = self.fresh.iter().map(|path| path.as_str()).collect();
        if !fresh.is_empty() {
            call("activate", &fresh);
        }
    }

    /// All checks at once, on a shadow of what will stand there.
    fn check(&self, call: &mut dyn FnMut(&str, &[&str])) {
        let covers: BTreeSet<&HostPath> = self.checks.iter().flat_map(|check| &check.covers).collect();
        for cover in &covers {
            call("shadow_have", &[cover.as_str()]);
        }
        let covered = |path: &HostPath| covers.iter().any(|cover| path.is_within(cover));
        for (number, file) in self.written.iter().enumerate().filter(|(_, file)| covered(&file.path)) {
            call("shadow_put", &[&number.to_string(), file.path.as_str()]);
        }
        for path in self.removed.iter().filter(|path| covered(path)) {
            call("shadow_drop", &[path.as_str()]);
        }
        for (number, check) in self.checks.iter().enumerate() {
            // The words are quoted here, since two kinds of them are for the shell to complete.
            let mut line = format!("check {number} {}", quote(&check.title));
            for word in &check.argv {
                let _ = match word {
                    Word::Plain(word) => write!(line, " {}", quote(word)),
                    Word::Shadow(path) => write!(line, " \"$shadow\"{}", quote(path.as_str())),
                    Word::Program(path) => write!(line, " \"$(program {})\"", quote(path.as_str())),
                };
            }
            call(&line, &[]);
        }
        if !self.checks.is_empty() {
            call("wait", &[]);
        }
        for (number, check) in self.checks.iter().enumerate() {
            let number = number.to_string();
            let mut words = vec![number.as_str(), &check.title];
            words.extend(check.complaints.iter().map(String::as_str));
            call("check_done", &words);
        }
    }

    fn activate(&self, manifest: &BTreeSet<HostPath>, call: &mut dyn FnMut(&str, &[&str])) {
        let owed: Vec<String> = self
            .acts
            .iter()
            .filter(|(verb, _)| *verb != "start")
            .map(|(verb, unit)| format!("{unit} {verb}"))
            .collect();
        if !owed.is_empty() {
            call(&format!("printf '%s\\n' {} | replace pending", words(&owed)), &[]);
        }
        // Before anything is replaced: who is no longer wanted writes no file any more that is put in place here.
        for unit in &self.stops {
            call("stop", &[unit]);
        }
        if !self.dirs.is_empty() {
            call("late_dirs", &[]);
        }
        let rest: Vec<&str> =
            self.written.iter().filter(|file| !self.fresh.contains(&file.path)).map(|f| f.path.as_str()).collect();
        if !rest.is_empty() {
            call("activate", &rest);
        }
        for file in &self.attributes {
            call("attributes", &[&mode(file.mode), &file.owner, &file.group, file.path.as_str()]);
        }
        for path in &self.removed {
            call("remove", &[path.as_str()]);
        }
        let ours: Vec<&str> = manifest.iter().map(HostPath::as_str).collect();
        call(&format!("printf '%s\\n' {} | replace manifest", words(&ours)), &[]);
        let mut records = Vec::new();
        for file in self.written.iter().chain(&self.attributes) {
            if let FileSource::Executable(executable) = &file.source {
                records.extend([file.path.as_str(), executable.sha256.as_str()]);
            }
        }
        if !records.is_empty() {
            call("record", &records);
        }
    }

    fn units(&self, call: &mut dyn FnMut(&str, &[&str])) {
        let is_unit =
            |path: &HostPath| ["/etc/systemd/", "/etc/init/"].iter().any(|dir| path.as_str().starts_with(dir));
        let restarts = self.acts.iter().any(|(verb, _)| *verb == Reaction::Restart.as_str());
        let units_change =
            self.written.iter().any(|file| is_unit(&file.path)) || self.removed.iter().any(|path| is_unit(path));
        if !self.enables.is_empty() {
            call("enable", &self.enables);
        }
        if restarts || units_change || !self.enables.is_empty() {
            call("daemon_reload", &[]);
        }
        for (verb, unit) in &self.acts {
            call("act", &[verb, unit]);
        }
        for (verb, unit) in &self.acts {
            call("settle", &[verb, unit]);
        }
        call("rm -f \"$own/pending\"", &[]);
    }
}

fn mode(mode: u32) -> String {
    format!("{mode:04o}")
}

fn words<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}
