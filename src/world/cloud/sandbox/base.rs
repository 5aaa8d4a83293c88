//! The base tree: a minimal Debian that all hosts share read-only. Built once a machine, beside its place,
//! and renamed into it when it is whole. What is set in it stands in `tree`.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::lock::Lock;
use super::{command, file_error, mirror, mounts, process, tree};
use crate::model::event::{Doing, Events};
use crate::world::cloud::CloudError;

/// Changes with what `build` and `tree` make, so that a new recipe gets a new tree and old hosts keep theirs.
pub const RECIPE: &str = "bookworm-2";
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,iproute2,ca-certificates,procps,sudo,zstd";
const PARTIAL: &str = ".partial-";

/// The tree of a recipe, whether it exists or not.
pub fn path(dir: &Path, recipe: &str) -> PathBuf {
    dir.join(recipe)
}

pub fn is_built(dir: &Path) -> bool {
    path(dir, RECIPE).is_dir()
}

/// Builds the tree unless it is there. Two at once: the second waits for the first and uses its tree.
pub fn ensure(dir: &Path, events: &Events) -> Result<(), CloudError> {
    if is_built(dir) {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| file_error("making", dir, e))?;
    let part = |part: &str| events.began(None, Doing::BuildBase { part: part.to_owned() });
    let lock = Lock::take(&dir.join(".lock"), || part("waiting for another clusterctl that builds it"))?;
    if !is_built(dir) {
        clean(dir)?;
        let partial = dir.join(format!("{PARTIAL}{RECIPE}-{}", std::process::id()));
        build(&partial, &part)?;
        // Whole on the disk before it has its name: a power cut must not leave a tree with holes.
        part("writing it to the disk");
        sync(&partial)?;
        let place = path(dir, RECIPE);
        fs::rename(&partial, &place).map_err(|e| file_error("renaming the new base tree to", &place, e))?;
    }
    drop(lock);
    events.ended(None, Doing::BuildBase { part: "the base tree".to_owned() }, true);
    Ok(())
}

/// Removes what killed builders left: their processes, mounts and folders. Under the lock.
fn clean(dir: &Path) -> Result<(), CloudError> {
    let entries = fs::read_dir(dir).map_err(|e| file_error("reading", dir, e))?;
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(PARTIAL)) {
        let partial = entry.path();
        process::kill_all(Duration::from_secs(10), || process::working_on(&partial)).map_err(|left| {
            let pids: Vec<_> = left.iter().map(|m| m.pid().to_string()).collect();
            CloudError::Command {
                command: format!("kill {}", pids.join(" ")),
                detail: format!("they still build {}", partial.display()),
            }
        })?;
        mounts::remove_tree(&partial)?;
    }
    Ok(())
}

/// All that is written to its file system is on the disk then.
pub fn sync(dir: &Path) -> Result<(), CloudError> {
    let failed = |e| file_error("syncing", dir, e);
    let file = fs::File::open(dir).map_err(failed)?;
    rustix::fs::syncfs(&file).map_err(|e| failed(e.into()))
}

fn build(partial: &Path, part: &dyn Fn(&str)) -> Result<(), CloudError> {
    part("starting debootstrap");
    let mut command = command::command("debootstrap");
    command.arg("--variant=minbase").arg(format!("--include={PACKAGES}")).arg(format!("--keyring={KEYRING}"));
    command.arg(SUITE).arg(partial).args(mirror::of_machine(SUITE));
    let shown = command::shown(&command);
    let failed = |detail: String| CloudError::Command { command: shown.clone(), detail };
    // It tells its errors on standard output too; what dpkg says besides is in its own log.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|e| failed(e.to_string()))?;
    let mut last: VecDeque<String> = VecDeque::new();
    let mut now = "";
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')).map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(next) = stage(&line).filter(|next| *next != now) {
            now = next;
            part(now);
        }
        last.push_back(line);
        if last.len() > 20 {
            last.pop_front();
        }
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        let said = Vec::from(last).join("\n");
        let _ = mounts::remove_tree(partial);
        return Err(failed(format!("{status}; it said: {}", command::last_lines(&said, 6))));
    }
    part("setting it up");
    tree::set_up(partial)
}

/// What debootstrap is at, in a few stages: it prints a line for each of a hundred packages.
fn stage(line: &str) -> Option<&'static str> {
    let line = line.strip_prefix("I: ")?;
    let stages = [
        ("Retrieving InRelease", "reading the mirror's index"),
        ("Retrieving ", "fetching packages"),
        ("Extracting ", "extracting packages"),
        ("Installing core", "installing the core"),
        ("Unpacking ", "unpacking packages"),
        ("Configuring ", "configuring packages"),
    ];
    stages.iter().find(|(start, _)| line.starts_with(start)).map(|(_, stage)| *stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_lines_are_few_stages() {
        assert_eq!(stage("I: Retrieving InRelease"), Some("reading the mirror's index"));
        assert_eq!(stage("I: Retrieving adduser 3.134"), Some("fetching packages"));
        assert_eq!(stage("I: Unpacking bash..."), stage("I: Unpacking the base system..."));
        assert_eq!(stage("W: Unpacking"), None);
        assert_eq!(stage("I: Something new"), None);
    }

    #[test]
    fn what_a_killed_builder_left_is_removed_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join(format!("{PARTIAL}{RECIPE}-1"));
        fs::create_dir_all(partial.join("proc")).unwrap();
        fs::create_dir(dir.path().join("another-recipe")).unwrap();
        let mut builder = std::process::Command::new("sh")
            .args(["-c", "while :; do sleep 1; done", "debootstrap"])
            .arg(partial.join("x"))
            .spawn()
            .unwrap();
        clean(dir.path()).unwrap();
        assert!(!partial.exists());
        assert!(dir.path().join("another-recipe").exists());
        assert!(!builder.wait().unwrap().success(), "the builder was killed");
    }
}
