use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;

use super::role;
use crate::cli::context::{renderer, reporter, sources, spec_if_any};
use crate::cli::paths::Paths;
use crate::cli::{Global, Usage, exit};
use crate::core::{bake, image};
use crate::engine::bake::{Stock, Supply as _, clear};
use crate::engine::observe::{Observed, observe};
use crate::engine::plan::{Planned, image_query, needed, plan_image};
use crate::engine::{Limits, apply};
use crate::model::baking::ProvisionReport;
use crate::model::event::{Events, Phase};
use crate::model::host::{Host, HostId, HostState, Role, SshTarget};
use crate::model::init::Init;
use crate::model::name::HostName;
use crate::model::report::{HostOutcome, HostResult};
use crate::model::spec::Spec;
use crate::ui::Question;
use crate::world::artifacts::Cache;
use crate::world::commit;
use crate::world::remote::Local;

/// Install all of a role on the machine this runs on, and start nothing: for Packer, a Dockerfile, a chroot
///
/// Needs root and the spec. The machine joins the spec's cluster when it boots.
#[derive(Debug, Args)]
pub struct ProvisionArgs {
    /// Says that this machine is meant
    #[arg(long, required = true)]
    local: bool,
    /// What the machine is to be
    #[arg(long, value_name = "ROLE", default_value = "node", value_parser = role)]
    role: Role,
    /// The init system where it does not run: systemd, upstart (1.13.2) or upstart-VERSION [default: the one installed]
    #[arg(long, value_parser = image::init)]
    init: Option<Init>,
    /// Clear at the end what belongs to one machine: its id, SSH keys and authorized_keys, logs; asks, or wants --yes
    #[arg(long)]
    seal: bool,
}

pub async fn run(global: Global, args: ProvisionArgs) -> Result<u8> {
    let paths = Paths::from_environment()?;
    let Some(spec) = spec_if_any(&global, &paths, None)? else {
        bail!(Usage(
            "`clusterctl ami provision` needs the spec of the cluster to join: name the file with `-f FILE`".to_owned()
        ));
    };
    if args.seal && !global.yes {
        let what = "Everything goes that is only this machine's: every user's authorized_keys, histories and AWS credentials, SSH \
                    host keys, logs, temporary files. Whatever is mounted below /home, /tmp and /var is cleared too. Go ahead?";
        if !global.ui().confirm(Question::YesNo { what })? {
            global.ui().note("nothing was changed");
            return Ok(exit::FAILED);
        }
    }
    let spec = bake::image_spec(&spec);
    global.summary.cluster(&spec.cluster);
    let ui = global.ui();
    let cancel = global.cancel(&ui);
    let reporter = reporter(&global, &ui)?;
    let events = reporter.events();
    let here = here(args.role);
    let local = Local::new(here.name.clone(), cancel.clone());
    let cache = Cache::open(paths.artifacts())?;
    let stock = Stock { cache: &cache, sources: &sources(&spec), cancel: &cancel };
    let origin = commit::of(global.file.as_deref().or(Some(std::path::Path::new("cluster.toml")))).await;
    let order = Order { spec, args, origin, yes: global.yes };
    let (outcome, sealed) = install(&order, here, &local, &stock, &events).await?;
    let report = ProvisionReport { cluster: order.spec.cluster, outcome, sealed };
    reporter.show(&report, &ui.view())?;
    Ok(match &report.outcome.result {
        HostResult::Interrupted { .. } => exit::INTERRUPTED,
        result if result.is_good() => exit::OK,
        _ => exit::HOSTS_FAILED,
    })
}

struct Order {
    spec: Spec,
    args: ProvisionArgs,
    origin: String,
    yes: bool,
}

/// This machine as a host.
fn here(role: Role) -> Host {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    let name = HostName::new(named).or_else(|_| HostName::new("here")).expect("a valid name");
    Host {
        id: HostId("local".to_owned()),
        name,
        role,
        state: HostState::Running,
        private_address: None,
        ssh: SshTarget::default(),
        host_keys: Vec::new(),
        tags: BTreeMap::new(),
    }
}

/// The same observe, plan and apply as for any host.
async fn install(
    order: &Order,
    here: Host,
    local: &Local,
    stock: &Stock<'_>,
    events: &Events,
) -> Result<(HostOutcome, bool)> {
    let Order { spec, args, .. } = order;
    let (limits, renderer) = (Limits::default(), renderer(spec)?);
    for service in image::left_out(spec, &[args.role]) {
        events.warn(None, format!("the service {service} is on hosts of certain names only: no image has it"));
    }
    let mut query = image_query(spec, &renderer, args.role)?;
    query.may_sleep = true;
    query.sleeping.clone_from(&args.init);
    events.phase(Phase::Observe);
    let (mut observed, mut failed) =
        observe(vec![here], local, &|_: &Host| query.clone(), false, &limits, events).await;
    let Some(on) = observed.pop() else {
        return Ok((failed.remove(0), false));
    };
    refuse(&on, order)?;
    let artifacts = stock.artifacts(&needed(spec, std::slice::from_ref(&on)), events).await?;
    let programs = on.facts.arch.and_then(|arch| artifacts.get(&arch).cloned()).unwrap_or_default();
    let now = jiff::Timestamp::now();
    let name = format!("clusterctl-{}-{}-{}", spec.cluster, args.role, now.strftime("%Y%m%d-%H%M%S"));
    let label = bake::label(spec, args.role, name, &programs, &order.origin, now);
    events.phase(Phase::Plan);
    let planned = plan_image(spec, &renderer, &programs, args.role, &on, bake::label_file(&label))?;
    events.phase(Phase::Apply);
    let run_id = format!("local-{}", now.as_millisecond());
    let mut outcome = apply::apply(&[Planned::job(&planned)], &run_id, &limits, events).await.remove(0);
    let seals = args.seal && outcome.result.is_good();
    if seals && let Err(result) = clear(&on, &limits, events).await {
        outcome.result = result;
        return Ok((outcome, false));
    }
    Ok((outcome, seals))
}

/// Whoever runs this on a member of a cluster meant another machine.
fn refuse(on: &Observed, order: &Order) -> Result<()> {
    let runs = on.facts.units.iter().any(|(unit, fact)| unit.as_str() == "consul" && fact.is_running());
    if runs && !order.yes {
        bail!(
            "Consul runs on this machine: it is a host of a cluster already, and would be another one at its next boot; \
             with --yes it is done all the same"
        );
    }
    if on.facts.init == Init::Other && order.args.init.is_none() {
        bail!("neither systemd nor Upstart is installed here: install it first, or name it with --init");
    }
    Ok(())
}
