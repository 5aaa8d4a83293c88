use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::context::{renderer, spec_if_any};
use super::paths::Paths;
use super::{Global, Usage, exit, terraform};
use crate::core::image::{self, Use, Wishes};
use crate::engine::checks;
use crate::model::file::{FileSource, HostPath};
use crate::model::host::Role;
use crate::model::image::{Checked, Image, RenderReport, Verdict};
use crate::model::init::Init;
use crate::model::name::ClusterName;
use crate::model::spec::{Discovery, Spec};
use crate::model::version::Preset;
use crate::ui::{Ui, words};
use crate::world::artifacts::Cache;
use crate::world::folder::{self, Entry};
use crate::world::trial::Programs;

/// The cluster's name where nobody names one.
pub(super) const DEFAULT_CLUSTER: &str = "main";

/// Write every file of a server and of a node, for image builds and for review; needs no host
///
/// With a spec its services, versions and templates count, without one the defaults. A host needs these files, their
/// owners, and the programs: `--output json` has all of it.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The files of hosts, or a Terraform module of the nodes as an Auto Scaling group
    #[arg(long, value_enum, default_value_t = Format::Files)]
    format: Format,
    /// Only this role's files [default: both]
    #[arg(long, value_name = "ROLE", value_parser = ["server", "node"])]
    role: Option<String>,
    /// systemd, upstart (1.13.2) or upstart-VERSION from 0.6.5 on [default: systemd; upstart-0.6.5 with
    /// the preset classic]
    #[arg(long, value_parser = image::init)]
    init: Option<Init>,
    /// The versions that nobody names one by one: current, or classic for those of 2015
    #[arg(long)]
    preset: Option<Preset>,
    /// Another version of one program, such as consul=1.8.7
    #[arg(long = "use", value_name = "PROGRAM=VERSION")]
    uses: Vec<Use>,
    /// How Prometheus finds hosts: consul-sd or consul-template [default: the spec's, or the preset's]
    #[arg(long)]
    discovery: Option<Discovery>,
    /// A server's address that agents join [default: they look for the instance tagged consul-leader]
    #[arg(long, value_name = "ADDRESS")]
    join: Vec<IpAddr>,
    /// Write into this folder, laid out as on the hosts (DIR/server/etc/…), rather than to stdout
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Have each file judged by its own program, from the cache or PATH; exits 1 when one is refused
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Files,
    Terraform,
}

impl RenderArgs {
    /// The first flag that says something of hosts' files.
    pub(super) fn of_files(&self) -> Option<&'static str> {
        let given = [
            ("--role", self.role.is_some()),
            ("--init", self.init.is_some()),
            ("--preset", self.preset.is_some()),
            ("--use", !self.uses.is_empty()),
            ("--discovery", self.discovery.is_some()),
            ("--join", !self.join.is_empty()),
            ("--check", self.check),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

pub async fn run(global: Global, args: RenderArgs) -> Result<u8> {
    if args.format == Format::Terraform {
        return terraform::run(&global, &args);
    }
    let paths = Paths::from_environment()?;
    let ui = global.ui();
    let (spec, servers) = spec(&global, &paths, &args)?;
    let roles = match args.role.as_deref() {
        Some("server") => vec![Role::Server],
        Some(_) => vec![Role::Node],
        None => vec![Role::Server, Role::Node],
    };
    let init = args.init.unwrap_or_else(|| image::usual_init(spec.preset));
    for service in image::left_out(&spec, &roles) {
        ui.warn(&format!("the service {service} is on hosts of certain names only: no image has it"));
    }
    let images = image::images(&renderer(&spec)?, &spec, &roles, &init, &servers)?;
    let mut checks = Vec::new();
    if args.check {
        let programs = Programs::new(Cache::open(paths.artifacts())?, Paths::programs())?;
        let cancel = global.cancel(&ui);
        checks = tokio::select! {
            checks = checks::check(&images, &spec, &init, &programs) => checks?,
            () = cancel.cancelled() => return Ok(exit::INTERRUPTED),
        };
    }
    warn(&ui, &checks);
    let bad = checks.iter().any(|checked| checked.verdict.is_failure());
    let written = match &args.out {
        // What stands there may be good.
        Some(dir) if bad => {
            ui.warn(&format!("nothing is written into {}: a check failed", dir.display()));
            Some(Vec::new())
        }
        Some(dir) => Some(write(&ui, dir, &images)?),
        None => None,
    };
    let report = RenderReport { cluster: spec.cluster, init, versions: spec.versions, images, checks, written };
    ui.show(&report, &ui.view()).context("writing the answer")?;
    Ok(if bad { exit::FAILED } else { exit::OK })
}

/// What is to be rendered, and the servers' addresses where they are known.
fn spec(global: &Global, paths: &Paths, args: &RenderArgs) -> Result<(Spec, Vec<IpAddr>)> {
    // Who names a cluster does not mean the one whose spec happens to lie here.
    let written = match &global.cluster {
        Some(_) => None,
        None => spec_if_any(global, paths, args.preset)?,
    };
    let spec = match written {
        Some(spec) => spec,
        None => {
            let cluster = global.cluster.clone().map_or_else(|| ClusterName::new(DEFAULT_CLUSTER), Ok)?;
            image::without_spec(cluster, args.preset.unwrap_or_default())
        }
    };
    let wishes = Wishes {
        uses: args.uses.clone(),
        discovery: args.discovery,
        join: args.join.clone(),
        region: global.region.clone(),
    };
    Ok(image::spec_with(spec, &wishes).map_err(|refused| Usage(refused.to_string()))?)
}

fn warn(ui: &Ui, checks: &[Checked]) {
    for Checked { role, title, verdict } in checks {
        match verdict {
            Verdict::NotRun { reason } => ui.warn(&format!("{role}: {title} could not run: {reason}")),
            Verdict::Passed { by: Some(by), .. } => ui.warn(&format!("{role}: {title} was run by {by}")),
            _ => {}
        }
    }
}

/// The folder, laid out as the hosts are; the paths of what stands there now.
fn write(ui: &Ui, dir: &Path, images: &[Image]) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for Image { role, wanted } in images {
        let at = |path: &HostPath| HostPath::new(format!("/{role}{path}"));
        for folder in &wanted.dirs {
            entries.push(Entry { path: at(&folder.path)?, mode: folder.mode, text: None });
        }
        for file in &wanted.files {
            if let FileSource::Text(text) = &file.source {
                entries.push(Entry { path: at(&file.path)?, mode: file.mode, text: Some(text) });
            }
        }
    }
    let written = folder::write(dir, &entries)?;
    ui.note(&format!(
        "{} in {}: {} new or changed, {} removed; the programs are not among them",
        words::count(written.files.len(), "file"),
        dir.display(),
        written.changed,
        written.removed.len()
    ));
    Ok(written.files)
}
