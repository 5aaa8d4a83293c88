//! The command line: one verb a file, each with its doc comment (the help text), its arguments and its
//! run. Verbs wire (load, observe, plan, show, apply, verify); they never decide.

mod ami;
mod artifacts;
mod completions;
mod connector;
mod context;
mod converge;
mod discover;
mod doctor;
mod down;
mod exec;
pub mod exit;
mod fleet;
pub mod hints;
mod imaged;
mod init;
mod join_node;
mod lease;
mod local_lock;
mod lock;
mod paths;
mod plan;
mod policy;
mod render;
mod signals;
mod ssh;
mod status;
mod summary;
mod targets;
mod templates;
mod terraform;
mod up;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use self::lease::Farewells;
use self::signals::Stop;
use self::summary::Summary;
use crate::model::name::ClusterName;
use crate::model::spec::Span;
use crate::ui::{ColorWhen, Format, Ui};

/// Bootstraps and runs a Consul cluster that Prometheus monitors, node by node, by itself.
///
/// `clusterctl up --sandbox` makes one on this machine, on real hosts, with nothing else needed.
#[derive(Debug, Parser)]
#[command(name = "clusterctl", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The cluster's spec [default: ./cluster.toml where it exists]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Use hosts of the sandbox on this machine; needs no spec
    #[arg(long, global = true, conflicts_with = "file")]
    pub sandbox: bool,
    /// The cluster's name where there is no spec [default: sandbox; main for `render`]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "file")]
    pub cluster: Option<ClusterName>,
    /// The AWS region [default: the spec's, AWS_REGION, or the profile's]; names EC2 where there is no spec
    #[arg(long, global = true, value_name = "REGION", conflicts_with = "sandbox")]
    pub region: Option<String>,
    /// The profile of ~/.aws/config to use [default: the spec's, or AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "sandbox")]
    pub profile: Option<String>,
    /// What stdout gets: tables for people, or one JSON document
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// Do not ask before changing anything
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Say more (-v: every step and the plan; -vv: what the tool itself does; -vvv: its libraries too)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Write every event to this file too
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorWhen,
    /// Stop cleanly after this long, as Ctrl-C does, and exit 124; what changes hosts goes on when run again
    #[arg(long, global = true, value_name = "DURATION", value_parser = Span::positive)]
    pub timeout: Option<Span>,
    /// Wait this long for another command that changes the cluster, here or (EC2) anywhere [default: fail at once]
    #[arg(long, global = true, value_name = "DURATION")]
    pub lock_timeout: Option<Span>,
    /// Write how it went into this file as a JUnit report: the command, each host, Consul's and Prometheus' word
    #[arg(long, global = true, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How long to try to reach a host before it counts as failed
    #[arg(long, global = true, default_value = "60s", value_name = "DURATION", value_parser = Span::positive)]
    pub connect_timeout: Span,
    /// How long a launched host may take until it runs
    #[arg(long, global = true, default_value = "2m", value_name = "DURATION", value_parser = Span::positive)]
    pub boot_timeout: Span,
    /// How long to wait for a new EC2 host's console to tell its SSH keys
    #[arg(long, global = true, default_value = "5m", value_name = "DURATION")]
    pub console_timeout: Span,
    /// Trust the key that a host shows when none is known for it yet, and remember it
    #[arg(long, global = true)]
    pub accept_new_host_keys: bool,
    /// Ask for the password that sudo wants on the hosts (or read it from a pipe's first line)
    #[arg(long, global = true)]
    pub ask_sudo_password: bool,
    #[arg(skip)]
    pub stop: Stop,
    #[arg(skip)]
    pub summary: Summary,
    #[arg(skip)]
    pub farewells: Farewells,
}

impl Global {
    pub fn ui(&self) -> Ui {
        Ui::new(self.output, self.color)
    }

    /// A token that a signal or the end of `--timeout` cancels.
    pub fn cancel(&self, ui: &Ui) -> CancellationToken {
        self.stop.token(ui, self.timeout)
    }
}

/// The command line is understood but makes no sense; it ends with [`exit::USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::InitArgs),
    Up(up::UpArgs),
    JoinNode(join_node::JoinNodeArgs),
    Down(down::DownArgs),
    Plan(plan::PlanArgs),
    Status(status::StatusArgs),
    Targets(targets::TargetsArgs),
    Discover(discover::DiscoverArgs),
    Doctor(doctor::DoctorArgs),
    Policy(policy::PolicyArgs),
    Render(render::RenderArgs),
    Lock(lock::LockArgs),
    Exec(exec::ExecArgs),
    Ssh(ssh::SshArgs),
    #[command(subcommand)]
    Ami(ami::AmiVerb),
    #[command(subcommand)]
    Fleet(fleet::FleetVerb),
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsVerb),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the verb to its exit code, in its time, and writes the summary of it.
    ///
    /// # Errors
    /// Whatever kept the command from its end; hosts that failed are no error but an exit code.
    pub async fn run(self) -> Result<u8> {
        let farewells = self.global.farewells.clone();
        let ended = self.run_to_its_end().await;
        farewells.finish().await;
        ended
    }

    async fn run_to_its_end(self) -> Result<u8> {
        let Self { global, verb } = self;
        let Some(file) = global.junit.clone() else {
            return global.stop.within(global.timeout, verb.goes_on(), verb.run(global.clone())).await;
        };
        let name = verb.name();
        // Before anything is changed, rather than to find out afterwards.
        summary::writable(&file)?;
        let begun = Instant::now();
        let ended = global.stop.within(global.timeout, verb.goes_on(), verb.run(global.clone())).await;
        let written = global.summary.write(&file, name, begun.elapsed(), &ended);
        match (ended, written) {
            (Ok(exit::OK | exit::CHANGES), Err(error)) => Err(error),
            // What else is wrong counts for more than its summary.
            (ended, Err(error)) => {
                global.ui().warn(&format!("{error:#}"));
                ended
            }
            (ended, Ok(())) => ended,
        }
    }
}

impl Verb {
    /// As it is typed.
    const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Up(_) => "up",
            Self::JoinNode(_) => "join-node",
            Self::Down(_) => "down",
            Self::Plan(_) => "plan",
            Self::Status(_) => "status",
            Self::Targets(_) => "targets",
            Self::Discover(_) => "discover",
            Self::Doctor(_) => "doctor",
            Self::Policy(_) => "policy",
            Self::Render(_) => "render",
            Self::Lock(_) => "lock",
            Self::Exec(_) => "exec",
            Self::Ssh(_) => "ssh",
            Self::Ami(verb) => verb.name(),
            Self::Fleet(_) => "fleet",
            Self::Artifacts(_) => "artifacts",
            Self::Completions(_) => "completions",
        }
    }

    /// Run again, it goes on where it was stopped.
    const fn goes_on(&self) -> bool {
        match self {
            Self::Fleet(verb) => verb.goes_on(),
            Self::Up(_) | Self::JoinNode(_) | Self::Down(_) | Self::Artifacts(_) => true,
            _ => false,
        }
    }

    async fn run(self, global: Global) -> Result<u8> {
        match self {
            Self::Init(args) => init::run(&global, args),
            Self::Up(args) => up::run(global, args).await,
            Self::JoinNode(args) => join_node::run(global, args).await,
            Self::Down(args) => down::run(global, args).await,
            Self::Plan(args) => plan::run(global, args).await,
            Self::Status(args) => status::run(global, args).await,
            Self::Targets(args) => targets::run(global, args).await,
            Self::Discover(args) => discover::run(global, args).await,
            Self::Doctor(args) => doctor::run(global, args).await,
            Self::Policy(args) => policy::run(&global, &args),
            Self::Render(args) => render::run(global, args).await,
            Self::Lock(args) => lock::run(global, args).await,
            Self::Exec(args) => exec::run(global, args).await,
            Self::Ssh(args) => ssh::run(global, args).await,
            Self::Ami(verb) => ami::run(global, verb).await,
            Self::Fleet(verb) => fleet::run(global, verb).await,
            Self::Artifacts(verb) => artifacts::run(global, verb).await,
            Self::Completions(args) => completions::run(args),
        }
    }
}
