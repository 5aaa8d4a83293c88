//! Runs plans against hosts: in parallel, bounded, cancellable, one outcome a host. Emits events and
//! returns reports; never prints, and leaves no choice open that `core` could have made.

pub mod apply;
pub mod bake;
pub mod checks;
pub mod doctor;
pub mod exec;
pub mod failure;
pub mod fleet;
pub mod host_keys;
pub mod launch;
pub mod observe;
pub mod plan;
pub mod services;
pub mod status;
pub mod verify;

use std::time::Duration;

/// The port of a cluster's Consul and Prometheus, and how long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many hosts are pushed to at once; connections are not limited.
    pub parallel: usize,
    /// From launch to sshd's banner.
    pub boot: Duration,
    /// From `running` to a console that tells the host's keys; EC2 shows a new console after a minute or two.
    pub host_keys: Duration,
    /// From the first attempt to a login.
    pub connect: Duration,
    /// One look at a host.
    pub facts: Duration,
    /// All of one host's installation, its bytes included.
    pub install: Duration,
    /// From the last installation to Prometheus' last `up`.
    pub verify: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 16,
            boot: Duration::from_secs(120),
            host_keys: Duration::from_secs(300),
            connect: Duration::from_secs(60),
            facts: Duration::from_secs(60),
            install: Duration::from_secs(900),
            // An agent tells a new server of its services within two minutes, where nothing wakes it earlier: that long
            // it may take until the successor of a lost server knows all nodes.
            verify: Duration::from_secs(180),
        }
    }
}

#[cfg(test)]
mod tests;
