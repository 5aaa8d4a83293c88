//! What is set in a fresh base tree: a quick boot, an sshd for keys only, nothing that two hosts must not share.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{file_error, mounts};
use crate::world::cloud::CloudError;

/// Units that a host in a sandbox has no use for; they cost time at boot or wake up later.
const MASKED: [&str; 24] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "container-getty@.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@.service",
    "hwclock.service",
    "sys-fs-fuse-connections.mount",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
];

/// Keys only, no look-ups of names, and as many sessions at once as a test may want.
const SSHD: &str = "\
PasswordAuthentication no
PermitRootLogin prohibit-password
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
";

/// sshd needs the files of /run and nothing of the rest of the boot. Its own test before the start is left
/// out: the start itself tells.
const SSH_EARLY: &str = "\
[Unit]
DefaultDependencies=no
After=systemd-tmpfiles-setup.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStartPre=
";

/// A journal in memory: hosts are short-lived, and their disk is the machine's.
const JOURNAL: &str = "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n";

pub fn set_up(tree: &Path) -> Result<(), CloudError> {
    let units = tree.join("etc/systemd/system");
    for unit in MASKED {
        let link = units.join(unit);
        let _ = fs::remove_file(&link);
        symlink("/dev/null", &link).map_err(|e| file_error("masking", &link, e))?;
    }
    // Started when somebody asks for it (`systemctl reboot` does), not at boot.
    let _ = fs::remove_file(tree.join("usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service"));
    put(&tree.join("etc/ssh/sshd_config.d/10-clusterctl.conf"), SSHD)?;
    put(&units.join("ssh.service.d/10-clusterctl.conf"), SSH_EARLY)?;
    put(&tree.join("etc/systemd/journald.conf.d/10-clusterctl.conf"), JOURNAL)?;
    // Each host has its own of these.
    for own in ["etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname", "etc/resolv.conf"] {
        let _ = fs::remove_file(tree.join(own));
    }
    put(&tree.join("etc/machine-id"), "")?;
    remove_in(&tree.join("etc/ssh"), |name| name.starts_with("ssh_host_"))?;
    remove_in(&tree.join("etc/update-motd.d"), |_| true)?;
    remove_in(&tree.join("var/cache/apt/archives"), |name| name.ends_with(".deb"))?;
    remove_in(&tree.join("var/cache/apt"), |name| name.ends_with(".bin"))?;
    remove_in(&tree.join("var/lib/apt/lists"), |name| name != "partial" && name != "lock")?;
    mounts::unmount_below(tree).map(drop)
}

fn put(path: &Path, text: &str) -> Result<(), CloudError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).and_then(|()| fs::write(path, text)).map_err(|e| file_error("writing", path, e))
}

/// Removes the plain files of one folder whose names fit.
fn remove_in(dir: &Path, fits: impl Fn(&str) -> bool) -> Result<(), CloudError> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|t| !t.is_dir());
        if is_file && entry.file_name().to_str().is_some_and(&fits) {
            fs::remove_file(entry.path()).map_err(|e| file_error("removing", &entry.path(), e))?;
        }
    }
    Ok(())
}
