//! Executes the plans of all hosts: one command a host, its events passed on as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use tokio::sync::Semaphore;

use super::observe::{Observed, last_lines};
use super::{Limits, failure};
use crate::core::install::{self, InstallerLine};
use crate::model::artifact::Executable;
use crate::model::event::{Doing, EventKind, Events};
use crate::model::file::{FileSource, HostPath};
use crate::model::name::HostName;
use crate::model::plan::{Action, HostPlan};
use crate::model::report::{Failure, HostOutcome, HostResult};
use crate::world::artifacts::damage_of;
use crate::world::remote::{Command, Watch};

/// What is to happen on one host.
pub struct Job<'a> {
    pub on: &'a Observed,
    pub plan: &'a HostPlan,
    /// All managed files of the host after this run.
    pub manifest: BTreeSet<HostPath>,
}

/// Runs all jobs, at most `limits.parallel` at once. One outcome each, in the order of the jobs.
pub async fn apply(jobs: &[Job<'_>], run_id: &str, limits: &Limits, events: &Events) -> Vec<HostOutcome> {
    let permits = Semaphore::new(limits.parallel);
    let runs = jobs.iter().map(|job| async {
        let _permit = permits.acquire().await.expect("the semaphore is never closed");
        let result = install_host(job, run_id, limits, events).await;
        let kind = match &result {
            HostResult::Failed(failed) => {
                EventKind::HostFailed { step: failed.step.clone(), message: failed.message.clone() }
            }
            HostResult::Changed { changes } => EventKind::HostDone { changes: *changes },
            HostResult::Unchanged | HostResult::Booted { .. } => EventKind::HostDone { changes: 0 },
            HostResult::Interrupted { step } => {
                EventKind::HostFailed { step: step.clone(), message: "interrupted".to_owned() }
            }
        };
        events.emit(Some(&job.on.host.name), kind);
        let mut outcome = failure::outcome(&job.on.host, result);
        outcome.address = job.on.address();
        outcome
    });
    let mut outcomes = join_all(runs).await;
    suspect_cache(jobs, &mut outcomes).await;
    outcomes
}

/// Where a program did not unpack on a host, the cache's own copy may be at fault, and then on every host.
async fn suspect_cache(jobs: &[Job<'_>], outcomes: &mut [HostOutcome]) {
    let mut read: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let HostResult::Failed(failed) = &mut outcome.result else { continue };
        let Some(executable) = not_unpacked(job.plan, failed) else { continue };
        let compression = job.on.facts.compression;
        let path = executable.packed(compression).path.clone();
        if !read.contains_key(&path) {
            let executable = executable.clone();
            let damage = tokio::task::spawn_blocking(move || damage_of(&executable, compression)).await;
            read.insert(path.clone(), damage.unwrap_or_default());
        }
        let arch = job.on.facts.arch.map(|arch| format!(" --arch {arch}")).unwrap_or_default();
        failed.hint = Some(match &read[&path] {
            Some(damage) => format!(
                "the cached copy of {} is damaged ({damage} in {}): `clusterctl artifacts fetch{arch}` replaces it, or \
                 `clusterctl artifacts import` with its archive",
                executable.name,
                path.parent().unwrap_or(Path::new("/")).display()
            ),
            None => {
                format!("the cached copy of {} is as it should be: look at the host's disk and memory", executable.name)
            }
        });
    }
}

/// The program whose unpacking failed.
fn not_unpacked<'a>(plan: &'a HostPlan, failed: &Failure) -> Option<&'a Executable> {
    let at = failed.step.strip_prefix("write ").filter(|_| failed.message == install::NOT_UNPACKED)?;
    plan.steps.iter().find_map(|step| match &step.action {
        Action::PutFile { file, path, .. } if path.as_str() == at => match &file.source {
            FileSource::Executable(executable) => Some(executable),
            FileSource::Text(_) => None,
        },
        _ => None,
    })
}

async fn install_host(job: &Job<'_>, run_id: &str, limits: &Limits, events: &Events) -> HostResult {
    if let Some(why) = &job.plan.blocked {
        return HostResult::Failed(failure::plain("plan", why.clone()));
    }
    if job.plan.steps.is_empty() {
        return HostResult::Unchanged;
    }
    let host = &job.on.host.name;
    let bundle = install::bundle_for(job.plan, &job.on.facts, &job.manifest, run_id);
    events.began(Some(host), Doing::Send { bytes: bundle.bytes });
    let watch = Arc::new(InstallWatch { host: host.clone(), events: events.clone(), seen: Mutex::default() });
    let command = Command { line: bundle.line, stdin: bundle.parts, timeout: limits.install, root: true };
    let ran = job.on.remote.run(command, Arc::clone(&watch) as Arc<dyn Watch>).await;
    let seen = std::mem::take(&mut *watch.seen.lock().expect("no panic under the lock"));
    let output = match ran {
        Ok(output) => output,
        Err(error) => return failure::of_remote(host, seen.step.as_deref().unwrap_or("install"), &error),
    };
    if output.status == 0 && seen.done {
        return HostResult::Changed { changes: job.plan.steps.len() };
    }
    HostResult::Failed(installer_failure(seen, output.status, &output.stderr))
}

/// What the installer said so far.
#[derive(Default)]
struct Seen {
    /// The step it was at.
    step: Option<String>,
    failed: Option<(String, String)>,
    lines: Vec<String>,
    done: bool,
}

/// The last lines of a failing program that a report holds.
const REPORTED_LINES: usize = 20;

fn installer_failure(seen: Seen, status: i32, stderr: &[u8]) -> Failure {
    let mut lines = seen.lines;
    lines.extend(last_lines(stderr, REPORTED_LINES));
    let excess = lines.len().saturating_sub(REPORTED_LINES);
    lines.drain(..excess);
    let (step, message) = seen.failed.unwrap_or_else(|| {
        let step = seen.step.unwrap_or_else(|| "install".to_owned());
        (step, format!("the installer exited {status} without saying why"))
    });
    let unit = step.split_whitespace().next_back().filter(|_| step.starts_with("start") || step.starts_with("restart"));
    let log = unit.map(|unit| format!("journalctl -u {unit} (on the host)"));
    Failure { step, message, lines, log, hint: None }
}

struct InstallWatch {
    host: HostName,
    events: Events,
    seen: Mutex<Seen>,
}

impl Watch for InstallWatch {
    fn sent(&self, sent: u64, total: u64) {
        self.events.progress(Some(&self.host), sent, total);
    }

    fn line(&self, line: &str) {
        let Some(line) = install::parse_line(line) else { return };
        let mut seen = self.seen.lock().expect("no panic under the lock");
        match line {
            InstallerLine::Began(doing) => {
                seen.step = Some(install::title(&doing));
                self.events.began(Some(&self.host), doing);
            }
            InstallerLine::Ended { doing, changed } => self.events.ended(Some(&self.host), doing, changed),
            InstallerLine::Failed { step, message } => seen.failed = Some((step, message)),
            InstallerLine::Log(text) => {
                if seen.lines.len() >= REPORTED_LINES {
                    seen.lines.remove(0);
                }
                seen.lines.push(text);
            }
            InstallerLine::Warning(text) => self.events.warn(Some(&self.host), text),
            InstallerLine::Done { .. } => seen.done = true,
        }
    }
}
