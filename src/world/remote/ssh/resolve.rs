//! Who logs in where, with which keys and which way: the host's own settings, then `~/.ssh/config`, then the
//! defaults.

use std::path::PathBuf;

use super::login::Login;
use crate::world::remote::ssh_config::{self, HostConfig, Proxy};
use crate::world::remote::{ConnectError, openssh};

pub(super) struct Resolved {
    pub host: String,
    pub port: u16,
    /// One, or those that may be tried in this order.
    pub users: Vec<String>,
    /// Are they the host's candidates, rather than what somebody said?
    pub are_candidates: bool,
    pub keys: Keys,
    pub proxy: Option<Proxy>,
}

pub(super) enum Keys {
    Only(PathBuf),
    AgentThen(Vec<PathBuf>),
}

impl Login {
    pub fn resolve(&self) -> Result<Resolved, ConnectError> {
        let ssh = &self.host.ssh;
        let config = self.ssh_config(&ssh.host)?;
        let keys = match &ssh.key {
            Some(key) => Keys::Only(key.clone()),
            None if !config.identity_files.is_empty() => Keys::AgentThen(config.identity_files),
            None => {
                let named = |name| self.settings.home.join(".ssh").join(name);
                Keys::AgentThen(["id_ed25519", "id_ecdsa", "id_rsa"].map(named).to_vec())
            }
        };
        let said = ssh.user.clone().or(config.user);
        let are_candidates = said.is_none() && !ssh.users.is_empty();
        let users = match said {
            Some(user) => vec![user],
            None if are_candidates => self.candidates(),
            None => vec![self.settings.default_user.clone()],
        };
        Ok(Resolved {
            host: config.host_name.unwrap_or_else(|| ssh.host.clone()),
            port: ssh.port.or(config.port).unwrap_or(22),
            users,
            are_candidates,
            keys,
            proxy: ssh.bastion.as_deref().map(Proxy::jump).or(config.proxy),
        })
    }

    /// Who it was the last time comes first.
    fn candidates(&self) -> Vec<String> {
        let mut users: Vec<String> = self.users.user(&self.host.id).into_iter().collect();
        for user in &self.host.ssh.users {
            if !users.contains(user) {
                users.push(user.clone());
            }
        }
        users
    }

    /// What the user's ssh_config says of a name.
    pub fn ssh_config(&self, name: &str) -> Result<HostConfig, ConnectError> {
        let Some(path) = &self.settings.ssh_config else { return Ok(HostConfig::default()) };
        ssh_config::lookup(path, name, &self.settings.home)
            .map_err(|error| self.setup(format!("reading {}", path.display()), Some(error.into())))
    }

    /// The keys that a bastion is offered: the host's, unless the user's ssh_config has some for the bastion.
    pub fn bastion_keys(&self, bastion: &str) -> Result<Vec<PathBuf>, ConnectError> {
        match &self.host.ssh.key {
            Some(key) if self.ssh_config(bastion)?.identity_files.is_empty() => {
                Ok(openssh::offered_keys(key, &self.settings.home))
            }
            _ => Ok(Vec::new()),
        }
    }
}
