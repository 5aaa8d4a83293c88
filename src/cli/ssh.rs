use std::os::unix::process::CommandExt;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use super::Global;
use super::context::Session;
use crate::core::names::nearest;
use crate::world::remote::openssh;
use crate::world::remote::ssh::{last_user, remember_keys};

/// Log in to a host with the cluster's key and known host keys, through your own ssh
#[derive(Debug, Args)]
pub struct SshArgs {
    /// The host's name, as `status` shows it
    host: String,
    /// Options for ssh, then a command, as ssh takes them
    #[arg(last = true, value_name = "SSH-ARGUMENTS")]
    arguments: Vec<String>,
}

pub async fn run(global: Global, args: SshArgs) -> Result<u8> {
    let session = Session::open(global, "ssh")?;
    // EC2 lists what was terminated for a while, and its successor has the same name.
    let mut hosts = session.cloud.list().await?;
    hosts.retain(|host| host.state.exists());
    let Some(host) = hosts.iter().find(|host| host.name.as_str() == args.host).cloned() else {
        let names = hosts.iter().map(|host| host.name.as_str());
        let near = nearest(&args.host, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        bail!("{} has no host \"{}\"{near}", session.spec.cluster, args.host.escape_debug());
    };
    // The cluster's known_hosts has ids for names, which is what HostKeyAlias is for.
    let known = session.paths.known_hosts(&session.spec.cluster);
    let host = session.with_host_keys(vec![host], session.glance()).await.remove(0);
    remember_keys(&known, &host).with_context(|| format!("writing {}", known.display()))?;
    let mut ssh = std::process::Command::new("ssh");
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.arg("-o").arg(format!("HostKeyAlias={}", host.id));
    if let Some(key) = &host.ssh.key {
        ssh.arg("-i").arg(key).args(["-o", "IdentitiesOnly=yes"]);
    }
    if let Some(port) = host.ssh.port {
        ssh.arg("-p").arg(port.to_string());
    }
    let likely = host.ssh.users.first();
    let last_user = || likely.and_then(|likely| last_user(&known, &host.id).or_else(|| Some(likely.clone())));
    if let Some(user) = host.ssh.user.clone().or_else(last_user) {
        ssh.arg("-l").arg(user);
    }
    if let Some(bastion) = &host.ssh.bastion {
        let way = openssh::through(bastion, host.ssh.key.as_deref(), &session.paths.home);
        ssh.args(way.map_err(|problem| anyhow!("the way to {}: {problem}", host.name))?);
    }
    let (options, command) = split(&args.arguments);
    ssh.args(options).arg("--").arg(&host.ssh.host).args(command);
    session.reporter.finish();
    // Replaces this process, so it returns only when ssh could not be started.
    Err(ssh.exec()).context("starting ssh: is the OpenSSH client installed?")
}

/// ssh's own options come before the host, the command after it. Options with a value are those of ssh(1).
fn split(arguments: &[String]) -> (&[String], &[String]) {
    const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";
    let mut at = 0;
    while let Some(option) = arguments.get(at).filter(|a| a.len() > 1 && a.starts_with('-')) {
        let takes_value = option.len() == 2 && option.chars().nth(1).is_some_and(|c| WITH_VALUE.contains(c));
        at += if takes_value { 2 } else { 1 };
    }
    arguments.split_at(at.min(arguments.len()))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn options_go_before_the_host_and_the_command_after_it() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let all = words("-L 9090:10.0.0.1:9090 -N -v uptime -p");
        let (options, command) = split(&all);
        assert_eq!(options, words("-L 9090:10.0.0.1:9090 -N -v"));
        assert_eq!(command, words("uptime -p"));
        assert_eq!(split(&words("-L")).1.len(), 0);
        assert_eq!(split(&[]).0.len(), 0);
    }
}
