//! Makes the failure that an operator reads out of an error of the outside, with its cure.

use crate::model::host::Host;
use crate::model::jump::Jump;
use crate::model::name::HostName;
use crate::model::report::{Failure, HostOutcome, HostResult};
use crate::world::cloud::CloudError;
use crate::world::remote::{ConnectError, Obstacle, RemoteError};

/// An error's message and those of its sources, each once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The same where it stands beside its host: errors of the outside begin with the host's name.
pub fn at_host(host: &HostName, error: &dyn std::error::Error) -> String {
    let text = chain(error);
    match text.strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// The outcome of a host on which `result` came of it.
pub fn outcome(host: &Host, result: HostResult) -> HostOutcome {
    HostOutcome { host: host.name.clone(), role: host.role, address: host.private_address, result }
}

pub fn plain(step: &str, message: String) -> Failure {
    Failure { step: step.to_owned(), message, lines: Vec::new(), log: None, hint: None }
}

/// What kept a host from its end, with the cure, for where there is one place for both.
pub fn sentence(result: &HostResult) -> String {
    match result {
        HostResult::Failed(Failure { message, hint: Some(hint), .. }) => format!("{message} ({hint})"),
        HostResult::Failed(Failure { message, .. }) => message.clone(),
        _ => "interrupted".to_owned(),
    }
}

pub fn of_cloud(host: &HostName, step: &str, error: &CloudError) -> HostResult {
    if matches!(error, CloudError::Cancelled) {
        return HostResult::Interrupted { step: step.to_owned() };
    }
    let hint = error.cure().map(str::to_owned);
    let log = match error {
        CloudError::Host { log, .. } | CloudError::Deadline { log, .. } => log.as_ref(),
        _ => None,
    };
    let log = log.map(|path| path.display().to_string());
    HostResult::Failed(Failure { log, hint, ..plain(step, at_host(host, error)) })
}

pub fn of_connect(host: &HostName, error: &ConnectError) -> HostResult {
    if matches!(error, ConnectError::Cancelled { .. }) {
        return HostResult::Interrupted { step: "connect".to_owned() };
    }
    HostResult::Failed(Failure { hint: connect_hint(error), ..plain("connect", at_host(host, error)) })
}

fn connect_hint(error: &ConnectError) -> Option<String> {
    let text = match error {
        ConnectError::Refused { .. } => {
            "the host is up and nothing listens there: is sshd running, and is the port right?".to_owned()
        }
        ConnectError::TimedOut { .. } => {
            "no answer at all: is the host up, is the address right, does a firewall or security group let port 22 in?"
                .to_owned()
        }
        ConnectError::Denied { .. } => {
            "give the right `user` and `key` in [ssh] or at the host, or load the key into ssh-agent".to_owned()
        }
        ConnectError::KeyChanged { host, known_hosts, .. } => {
            let cure = match known_hosts {
                Some(path) => format!("remove its lines from {} and run again", path.display()),
                None => "give its new key (`host_keys` in the spec, your ~/.ssh/known_hosts, on EC2 the tag clusterctl:host-key), or replace the host"
                    .to_owned(),
            };
            format!("if {host} was rebuilt, {cure}; if it was not, someone may stand between: do not log in")
        }
        ConnectError::KeyUnknown { .. } => {
            "compare it with the host's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on its console), then put \
             the key in `host_keys` in the spec, or run with --accept-new-host-keys"
                .to_owned()
        }
        ConnectError::Bastion { bastion, obstacle, .. } => bastion_hint(bastion, *obstacle),
        _ => return None,
    };
    Some(text)
}

/// The user's own ssh makes the way, so trying it by hand shows what it shows here.
fn bastion_hint(bastion: &str, obstacle: Obstacle) -> String {
    let Ok(jump) = bastion.parse::<Jump>() else {
        return "run the ProxyCommand of your ~/.ssh/config by hand: it has to connect to the host without a question"
            .to_owned();
    };
    let command = jump.command();
    match obstacle {
        Obstacle::KeyUnknown => {
            format!("log in once by hand (`{command}`) and compare its key, or run with --accept-new-host-keys")
        }
        Obstacle::KeyChanged => format!(
            "if {bastion} was rebuilt, remove its old key as `{command}` tells you; if it was not, someone may stand \
             between: do not log in"
        ),
        Obstacle::Denied => format!(
            "`{command}` must log in without a question: name the right user in `bastion`, and its key in [ssh] or in \
             your ~/.ssh/config, or load it into ssh-agent"
        ),
        Obstacle::Forbidden => {
            format!("{bastion} must allow it: AllowTcpForwarding and PermitOpen in its /etc/ssh/sshd_config")
        }
        Obstacle::HostUnresolved => {
            format!("{bastion} resolves the name, not this machine: give the address by which it knows the host")
        }
        Obstacle::Program => "the way is made by the OpenSSH client: is it installed?".to_owned(),
        Obstacle::Unresolved | Obstacle::Unreachable | Obstacle::Other => {
            format!("try `{command}` by hand: the way is made by your own ssh, with your ~/.ssh/config")
        }
    }
}

pub fn of_remote(host: &HostName, step: &str, error: &RemoteError) -> HostResult {
    let hint = match error {
        RemoteError::Cancelled { .. } => return HostResult::Interrupted { step: step.to_owned() },
        RemoteError::Sudo { detail, .. } if detail.contains("incorrect password") => {
            Some("sudo there wants the login user's own password: give it again".to_owned())
        }
        RemoteError::Sudo { .. } => {
            Some("allow the user sudo without a password, log in as root, or run with --ask-sudo-password".to_owned())
        }
        RemoteError::Lost { .. } => {
            Some("running the command again converges: no file is left half-written".to_owned())
        }
        _ => None,
    };
    HostResult::Failed(Failure { hint, ..plain(step, at_host(host, error)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_not_named_twice() {
        let host = HostName::new("shop-1").unwrap();
        let (user, detail) = ("ops".to_owned(), "shop-1: no".to_owned());
        let error = RemoteError::Sudo { host: host.clone(), user, detail };
        let said = sentence(&of_remote(&host, "read-facts", &error));
        assert!(said.starts_with("ops cannot become root by sudo: shop-1: no ("), "{said}");
        let other = HostName::new("shop-10").unwrap();
        assert!(sentence(&of_remote(&other, "read-facts", &error)).starts_with("shop-1: ops"));
    }

    #[test]
    fn a_closed_way_has_a_cure_that_can_be_typed() {
        assert!(bastion_hint("me@gate:2222", Obstacle::KeyUnknown).contains("`ssh -p 2222 me@gate`"));
        assert!(bastion_hint("gate", Obstacle::Unreachable).contains("`ssh gate`"));
        assert!(bastion_hint("your ProxyCommand", Obstacle::Other).contains("ProxyCommand of your ~/.ssh/config"));
    }
}
