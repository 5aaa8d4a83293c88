use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::context::Session;
use super::{Global, exit};
use crate::core::names::listed;
use crate::core::select::HostFilter;
use crate::engine;
use crate::model::host::{Host, Role};
use crate::model::spec::Span;
use crate::ui::render::ExecReport;

/// Run a command on all hosts at once; one outcome a host
///
/// Exits 0 when it exited 0 everywhere and 3 when it did not.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Only hosts of this role
    #[arg(long, value_name = "ROLE", value_parser = ["server", "node"])]
    role: Option<String>,
    /// Only hosts of this name; `*` stands for any letters; may be given more than once
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Run it as root, by sudo where the login user is not root
    #[arg(long)]
    root: bool,
    /// Give up on a host after this long
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = Span::positive)]
    host_timeout: Span,
    /// One word: a line for the host's shell, pipes and all; several: a program and its arguments, as they stand
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub async fn run(global: Global, args: ExecArgs) -> Result<u8> {
    let line = match args.command.as_slice() {
        [line] => line.clone(),
        words => shlex::try_join(words.iter().map(String::as_str)).context("the command holds a NUL byte")?,
    };
    let session = Session::open(global, "exec")?;
    let role = args.role.map(|role| if role == "server" { Role::Server } else { Role::Node });
    let filter = HostFilter { role, names: args.hosts };
    let mut hosts: Vec<Host> = session.cloud.list().await?.into_iter().filter(|host| host.state.exists()).collect();
    let all: Vec<String> = hosts.iter().map(|host| host.name.to_string()).collect();
    hosts.retain(|host| filter.picks(host));
    if hosts.is_empty() {
        let cluster = &session.spec.cluster;
        if all.is_empty() {
            bail!("{cluster} has no hosts: `clusterctl up` makes them");
        }
        bail!("no host of {cluster} has that role and name: there are {}", listed(&all));
    }
    let hosts = session.with_host_keys(hosts, session.glance()).await;
    let timeout = args.host_timeout.as_duration();
    let connector = session.connector.as_ref();
    let outcomes =
        engine::exec::exec(&hosts, connector, &line, args.root, timeout, &session.limits, &session.events).await;
    session.show(&ExecReport { hosts: &outcomes }, true)?;
    if session.cancel.is_cancelled() {
        return Ok(exit::INTERRUPTED);
    }
    Ok(if outcomes.iter().all(|outcome| outcome.status == Some(0)) { exit::OK } else { exit::HOSTS_FAILED })
}
