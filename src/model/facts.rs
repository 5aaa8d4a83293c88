//! What one look at a host found. Nothing here is decided; see `core::plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::artifact::{Arch, Compression, Sha256};
use super::file::{HostPath, Reaction, UnitName};
use super::init::Init;

/// What to look for on a host, in one command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactsQuery {
    pub files: BTreeSet<HostPath>,
    pub dirs: BTreeSet<HostPath>,
    pub units: BTreeSet<UnitName>,
    pub users: BTreeSet<String>,
    /// May its init system be one that does not run, as in a chroot or while a container's image is made?
    pub may_sleep: bool,
    /// What that is, where somebody says so; else what is installed.
    pub sleeping: Option<Init>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFact {
    pub sha256: Sha256,
    /// Permission bits.
    pub mode: u32,
    pub owner: String,
    pub group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirFact {
    pub mode: u32,
    pub owner: String,
    pub group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct UnitFact {
    /// systemd's ActiveState: `active`, `activating`, `inactive`, `failed`, …
    pub active: String,
    /// systemd's UnitFileState: `enabled`, `disabled`, … or empty where the unit has no file.
    pub enabled: String,
    /// systemd's NeedDaemonReload.
    pub needs_daemon_reload: bool,
    pub main_pid: u32,
    /// Microseconds since the host booted; it tells one start of a service from the next.
    pub started_monotonic_us: u64,
}

impl UnitFact {
    pub fn is_running(&self) -> bool {
        self.active == "active" || self.active == "reloading"
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled == "enabled"
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub hostname: String,
    /// `uname -s` and `-m`, as printed.
    pub system: String,
    pub machine: String,
    /// `None`: a processor that no artifact is built for.
    pub arch: Option<Arch>,
    /// `ID` and `VERSION_ID` of /etc/os-release; empty where it has none.
    pub os: String,
    pub os_version: String,
    pub init: Init,
    /// The init system is there and does not run: nothing can be started, and units cannot be asked about.
    pub asleep: bool,
    /// Does the command run as root (directly or by sudo)?
    pub root: bool,
    /// The host's clock, in seconds since 1970.
    pub clock: i64,
    /// Free bytes where programs and data go (the smaller of /usr/local/bin's and /var/lib's file systems).
    pub disk_free: u64,
    /// The source address of the default route first, then all other global ones.
    pub addresses: Vec<IpAddr>,
    /// Programs that the installer needs and that the host lacks.
    pub missing_tools: Vec<String>,
    /// The best that the host can unpack.
    pub compression: Compression,
    /// Of the users asked for, those that exist.
    pub users: BTreeSet<String>,
    /// Of the folders asked for, those that exist.
    pub dirs: BTreeMap<HostPath, DirFact>,
    /// Of the files asked for and of those in the manifest, those that exist.
    pub files: BTreeMap<HostPath, FileFact>,
    /// Of the units asked for, those that the init system answered for.
    pub units: BTreeMap<UnitName, UnitFact>,
    /// The files that an earlier run of `clusterctl` put here.
    pub manifest: BTreeSet<HostPath>,
    /// Reactions that an interrupted run still owes.
    pub pending: BTreeMap<UnitName, Reaction>,
}
