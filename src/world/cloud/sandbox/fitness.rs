//! Can this machine run sandbox hosts? All that is missing is told at once, with what cures it.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::find;
use super::{base, mounts};
use crate::world::cloud::CloudError;

/// A program and the Debian package that holds it.
const PROGRAMS: [(&str, &str); 6] = [
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("ssh-keygen", "openssh-client"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("sh", "dash"),
];

/// The folder in which an overlay is tried out.
const PROBE: &str = ".probe";

/// What stands in the way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lacks {
    what: Vec<String>,
    packages: Vec<&'static str>,
    cures: Vec<String>,
}

impl Lacks {
    fn into_result(mut self) -> Result<(), CloudError> {
        if self.what.is_empty() {
            return Ok(());
        }
        self.packages.sort_unstable();
        self.packages.dedup();
        if !self.packages.is_empty() {
            self.cures.push(format!("apt-get install -y {}", self.packages.join(" ")));
        }
        Err(CloudError::Unfit {
            missing: format!("this machine cannot run sandbox hosts: {}", self.what.join("; ")),
            cure: self.cures.join("; "),
        })
    }
}

/// What every command on a sandbox needs, `down` too.
pub fn check_rights() -> Result<(), CloudError> {
    rights(cfg!(target_os = "linux"), rustix::process::geteuid().is_root()).into_result()
}

fn rights(linux: bool, root: bool) -> Lacks {
    let mut lacks = Lacks::default();
    if !linux {
        lacks.what.push("it does not run Linux".to_owned());
        lacks.cures.push("use a Linux machine or a virtual one".to_owned());
    } else if !root {
        lacks.what.push("this needs root".to_owned());
        lacks.cures.push("run it with sudo".to_owned());
    }
    lacks
}

/// What a launch needs. `root` is where hosts will lie: an overlay must be possible there. The caller holds
/// the machine's lock.
pub fn check(root: &Path, base_is_built: bool) -> Result<(), CloudError> {
    let mut lacks = rights(cfg!(target_os = "linux"), rustix::process::geteuid().is_root());
    programs(&mut lacks, base_is_built, |program| find(program).is_some(), Path::new(base::KEYRING).exists());
    if lacks.what.is_empty() {
        kernel(&mut lacks, root);
    }
    lacks.into_result()
}

fn programs(lacks: &mut Lacks, base_is_built: bool, has: impl Fn(&str) -> bool, keyring: bool) {
    for (program, package) in PROGRAMS {
        if !has(program) {
            lacks.what.push(format!("{program} is not installed"));
            lacks.packages.push(package);
        }
    }
    if base_is_built {
        return;
    }
    if !has("debootstrap") {
        lacks.what.push("debootstrap is not installed".to_owned());
        lacks.packages.push("debootstrap");
    }
    if !keyring {
        lacks.what.push("Debian's archive keys are not installed".to_owned());
        lacks.packages.push("debian-archive-keyring");
    }
}

fn kernel(lacks: &mut Lacks, root: &Path) {
    if let Err(reason) = probe_overlay(root) {
        lacks.what.push(format!("overlayfs does not work in {}: {reason}", root.display()));
        lacks
            .cures
            .push("modprobe overlay, or take a root folder on another file system (ext4, xfs, btrfs)".to_owned());
    }
    let cgroups = cgroup_roots();
    if cgroups.is_empty() {
        lacks.what.push("no cgroup hierarchy for systemd is mounted".to_owned());
        lacks.cures.push("mount -t cgroup2 none /sys/fs/cgroup".to_owned());
    }
    for dir in cgroups {
        let ours = dir.join(super::nspawn::CGROUP);
        if let Err(e) = fs::create_dir_all(&ours) {
            lacks.what.push(format!("{} cannot be made: {e}", ours.display()));
            lacks.cures.push("in a container, run that one privileged".to_owned());
        }
    }
}

/// So many inotify instances a host's systemd takes. One that gets none may stand still while it boots.
const INOTIFY: usize = 9;

/// What stands in the way of so many hosts at once, where it does.
pub fn crowded(hosts: usize) -> Option<String> {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    too_many(hosts, limit.trim().parse().ok()?)
}

fn too_many(hosts: usize, limit: usize) -> Option<String> {
    (hosts * INOTIFY > limit).then(|| {
        format!(
            "this machine allows {limit} inotify instances, enough for {} hosts: more may not finish booting before \
             `sysctl -w fs.inotify.max_user_instances=1024`",
            limit / INOTIFY
        )
    })
}

/// Removes what a killed probe left. The caller holds the machine's lock, so that nobody is at it.
pub fn remove_probe(root: &Path) -> Result<(), CloudError> {
    mounts::remove_tree(&root.join(PROBE))
}

/// Mounts a real overlay: that the kernel knows the type says little (an upper folder may itself lie on an
/// overlay, or the right to mount may be missing).
fn probe_overlay(root: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| e.to_string();
    remove_probe(root).map_err(|e| e.to_string())?;
    let probe = root.join(PROBE);
    fs::create_dir_all(&probe).map_err(failed)?;
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| probe.join(name));
    for dir in [&lower, &upper, &work, &merged] {
        fs::create_dir(dir).map_err(failed)?;
    }
    fs::write(lower.join("file"), "below").map_err(failed)?;
    mounts::overlay(std::slice::from_ref(&lower), &upper, &work, &merged).map_err(failed)?;
    let seen = fs::write(merged.join("file"), "above").and_then(|()| fs::read_to_string(upper.join("file")));
    remove_probe(root).map_err(|e| e.to_string())?;
    match seen.map_err(failed)?.as_str() {
        "above" => Ok(()),
        other => Err(format!("what was written came to be \"{other}\"")),
    }
}

/// The cgroup hierarchies in which a systemd manages services: cgroup2, and version 1's `name=systemd`.
pub fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = mounts::current().unwrap_or_default();
    let manages = |m: &&mounts::Mount| {
        m.kind == "cgroup2" || (m.kind == "cgroup" && m.options.split(',').any(|o| o == "name=systemd"))
    };
    let mut points: Vec<_> = mounts.iter().filter(manages).map(|m| m.point.clone()).collect();
    points.retain(|p| p.starts_with("/sys/fs/cgroup"));
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(lacks: Lacks) -> (String, String) {
        match lacks.into_result() {
            Err(CloudError::Unfit { missing, cure }) => (missing, cure),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let mut lacks = rights(true, false);
        programs(&mut lacks, false, |program| program == "sh", false);
        let (missing, cure) = unfit(lacks);
        for word in ["root", "systemd-nspawn", "debootstrap", "ip ", "nsenter", "setsid", "ssh-keygen", "archive keys"]
        {
            assert!(missing.contains(word), "{word}: {missing}");
        }
        assert_eq!(
            cure,
            "run it with sudo; apt-get install -y debian-archive-keyring debootstrap iproute2 openssh-client \
             systemd-container util-linux"
        );
    }

    #[test]
    fn a_built_base_needs_no_builder() {
        let mut lacks = rights(true, true);
        programs(&mut lacks, true, |program| program != "debootstrap", false);
        assert_eq!(lacks, Lacks::default());
        lacks.into_result().unwrap();
    }

    #[test]
    fn a_crowd_is_told_with_its_cure() {
        assert_eq!(too_many(14, 128), None);
        let said = too_many(15, 128).unwrap();
        assert!(said.contains("enough for 14 hosts") && said.contains("sysctl -w"), "{said}");
    }

    #[test]
    fn another_system_is_told_first() {
        assert!(unfit(rights(false, false)).0.ends_with("it does not run Linux"));
    }
}
