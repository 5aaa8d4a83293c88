//! The command line: one verb a file, each with its doc comment (the help text), its arguments and its
//! run. Verbs wire (load, observe, plan, show, apply, verify); they never decide.

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
pub mod hints;
mod init;
mod join_node;
mod lock;
mod paths;
mod plan;
mod policy;
mod render;
mod signals;
mod ssh;
mod status;
mod targets;
mod templates;
mod up;

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand};

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
}

impl Global {
    pub fn ui(&self) -> Ui {
        Ui::new(self.output, self.color)
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
    Exec(exec::ExecArgs),
    Ssh(ssh::SshArgs),
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsVerb),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the verb to its exit code.
    ///
    /// # Errors
    /// Whatever kept the command from its end; hosts that failed are no error but an exit code.
    pub async fn run(self) -> Result<u8> {
        let global = self.global;
        match self.verb {
            Verb::Init(args) => init::run(&global, args),
            Verb::Up(args) => up::run(global, args).await,
            Verb::JoinNode(args) => join_node::run(global, args).await,
            Verb::Down(args) => down::run(global, args).await,
            Verb::Plan(args) => plan::run(global, args).await,
            Verb::Status(args) => status::run(global, args).await,
            Verb::Targets(args) => targets::run(global, args).await,
            Verb::Discover(args) => discover::run(global, args).await,
            Verb::Doctor(args) => doctor::run(global, args).await,
            Verb::Policy(args) => policy::run(&global, &args),
            Verb::Render(args) => render::run(global, args).await,
            Verb::Exec(args) => exec::run(global, args).await,
            Verb::Ssh(args) => ssh::run(global, args).await,
            Verb::Artifacts(verb) => artifacts::run(global, verb).await,
            Verb::Completions(args) => completions::run(args),
        }
    }
}
