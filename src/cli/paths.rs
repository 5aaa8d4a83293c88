//! Where things lie on the operator's machine. The environment is read here and nowhere else.

use std::path::PathBuf;

use anyhow::{Context, Result};
use etcetera::BaseStrategy;

use crate::model::artifact::Sha256;
use crate::model::name::ClusterName;

/// The folders that `clusterctl` uses on this machine.
#[derive(Debug, Clone)]
pub struct Paths {
    pub home: PathBuf,
    /// The user's login name: who logs in to a host where nothing says otherwise, as with ssh.
    pub user: String,
    /// Artifacts: `$CLUSTERCTL_CACHE_DIR`, else `clusterctl` in `$XDG_CACHE_HOME` (`~/.cache`).
    pub cache: PathBuf,
    /// known_hosts, locks: `$CLUSTERCTL_STATE_DIR`, else `clusterctl` in `$XDG_STATE_HOME` (`~/.local/state`).
    pub state: PathBuf,
    /// Sandbox hosts: `$CLUSTERCTL_SANDBOX_DIR`, else `/var/lib/clusterctl-sandbox`.
    pub sandbox: PathBuf,
}

impl Paths {
    pub fn from_environment() -> Result<Self> {
        let base = etcetera::base_strategy::Xdg::new().context("your home folder cannot be found: set HOME")?;
        let named = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
        Ok(Self {
            home: base.home_dir().to_owned(),
            user: ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .unwrap_or_else(|| "root".to_owned()),
            cache: named("CLUSTERCTL_CACHE_DIR").unwrap_or_else(|| base.cache_dir().join("clusterctl")),
            state: named("CLUSTERCTL_STATE_DIR").unwrap_or_else(|| {
                base.state_dir().unwrap_or_else(|| base.home_dir().join(".local/state")).join("clusterctl")
            }),
            sandbox: named("CLUSTERCTL_SANDBOX_DIR").unwrap_or_else(|| PathBuf::from("/var/lib/clusterctl-sandbox")),
        })
    }

    /// The folders of `$PATH`, in which programs are looked for.
    pub fn programs() -> Vec<PathBuf> {
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
    }

    pub fn artifacts(&self) -> PathBuf {
        self.cache.join("artifacts")
    }

    /// The folder of one sandbox cluster.
    pub fn sandbox_cluster(&self, cluster: &ClusterName) -> PathBuf {
        self.sandbox.join("clusters").join(cluster.as_str())
    }

    /// The folder of one cluster's local state.
    pub fn cluster(&self, cluster: &ClusterName) -> PathBuf {
        self.state.join(cluster.as_str())
    }

    /// Stands while a cluster's hosts are those of a build.
    pub fn builder(&self, build: &ClusterName) -> PathBuf {
        self.cluster(build).join("builder")
    }

    pub fn known_hosts(&self, cluster: &ClusterName) -> PathBuf {
        self.cluster(cluster).join("known_hosts")
    }

    pub fn lock(&self, cluster: &ClusterName) -> PathBuf {
        self.cluster(cluster).join("lock")
    }

    /// Tells this machine, this user and this state folder from all others, in words that say which it is: whoever has
    /// the same ones shares the locks too.
    pub fn machine(&self) -> String {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let name = read("/proc/sys/kernel/hostname");
        let id = format!("{name} {} {} {}", read("/etc/machine-id"), self.user, self.state.display());
        let sum = Sha256::of(id.as_bytes());
        let name = if name.is_empty() { "unnamed" } else { &name };
        format!("{}@{name}-{}", self.user, &sum.as_str()[..8])
    }

    /// `~/…` as the shell reads it.
    pub fn expand(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => path,
        }
    }
}
