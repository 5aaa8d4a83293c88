//! What a verb works with: the spec, the provider, connections, the cache, the ui; opened once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_util::sync::CancellationToken;

use super::lease::{self, LocalHold, Taking};
use super::local_lock::{self, Wait};
use super::paths::Paths;
use super::{Global, connector::connector, templates};
use crate::core::render::{PROMETHEUS_PORT, Renderer};
use crate::core::specfile;
use crate::engine::observe::Observed;
use crate::engine::{self, Limits};
use crate::model::event::Events;
use crate::model::host::Host;
use crate::model::name::ClusterName;
use crate::model::spec::{ProviderSpec, Spec};
use crate::model::version::Preset;
use crate::ui::progress::{LogFile, system_clock};
use crate::ui::{Document, Question, Reporter, Ui, View};
use crate::world::artifacts::{Cache, Sources};
use crate::world::cloud::{Cloud, Ec2, Inventory, Sandbox};
use crate::world::remote::{Connector, openssh};

/// The name of the sandbox cluster where nobody names one.
const DEFAULT_SANDBOX: &str = "sandbox";

/// The spec that is looked for where none is named.
const DEFAULT_SPEC: &str = "cluster.toml";

pub struct Session {
    pub global: Global,
    pub paths: Paths,
    pub spec: Spec,
    pub ui: Ui,
    pub events: Events,
    pub limits: Limits,
    pub cancel: CancellationToken,
    pub renderer: Renderer,
    pub cloud: Arc<dyn Cloud>,
    pub connector: Box<dyn Connector>,
    pub cache: Cache,
    pub sources: Sources,
    /// Keeps progress drawn while the session lives; ends it before anything else is printed.
    pub reporter: Reporter,
}

/// What a changing verb holds until it ends.
pub struct Held {
    _lease: Option<lease::Held>,
    local: Arc<LocalHold>,
    alone: bool,
}

impl Held {
    /// Does nobody else change the cluster, wherever they are? Where the provider has a lease and it could not be taken,
    /// that is not known.
    pub const fn is_alone(&self) -> bool {
        self.alone
    }

    /// For a cluster that is gone: leaves no file of the lock here.
    pub fn remove(self) {
        self.local.removed();
    }
}

impl Session {
    /// Loads the spec and opens all that the verb needs. Nothing is contacted yet.
    pub fn open(global: Global, verb: &str) -> Result<Self> {
        let paths = Paths::from_environment()?;
        let ui = global.ui();
        let mut spec = choose_spec(&global, &paths, verb)?;
        account(&global, &mut spec);
        trust_known_hosts(&mut spec, &paths);
        global.summary.cluster(&spec.cluster);
        let cancel = global.cancel(&ui);
        let reporter = reporter(&global, &ui)?;
        let renderer = renderer(&spec)?;
        let cloud = cloud(&spec, &paths, &reporter, &cancel)?;
        let connector = connector(&global, &paths, &spec, &ui, &cancel)?;
        let cache = Cache::open(paths.artifacts())?;
        let sources = sources(&spec);
        Ok(Self {
            events: reporter.events(),
            limits: Limits {
                connect: global.connect_timeout.as_duration(),
                boot: global.boot_timeout.as_duration(),
                host_keys: global.console_timeout.as_duration(),
                ..Limits::default()
            },
            global,
            paths,
            spec,
            ui,
            cancel,
            renderer,
            cloud,
            connector: Box::new(connector),
            cache,
            sources,
            reporter,
        })
    }

    /// The lock that a changing verb holds: here, and where other machines see it.
    pub async fn lock(&self, verb: &str) -> Result<Held> {
        self.lock_of(&self.spec.cluster, &self.cloud, verb).await
    }

    /// The same for another cluster at the same provider.
    pub async fn lock_of(&self, cluster: &ClusterName, cloud: &Arc<dyn Cloud>, verb: &str) -> Result<Held> {
        let wait = Wait { most: self.global.lock_timeout, cancel: &self.cancel, events: &self.events };
        let local = local_lock::take(&self.paths.lock(cluster), cluster, verb, wait).await?;
        let (paths, farewells) = (&self.paths, &self.global.farewells);
        let local = Arc::new(LocalHold::new(local));
        let taking = Taking { cloud, cluster, paths, command: verb, wait, farewells, local: &local };
        let lease = lease::take(taking).await?;
        let alone = lease.is_some() || cloud.leases().is_none();
        Ok(Held { _lease: lease, local, alone })
    }

    /// Another cluster at the same provider; what it does ends with `cancel`.
    pub fn another(&self, spec: &Spec, cancel: &CancellationToken) -> Result<Arc<dyn Cloud>> {
        cloud(spec, &self.paths, &self.reporter, cancel)
    }

    /// Hosts of the user's own are changed only when someone agreed; the sandbox holds nothing of value.
    pub fn asks_before_changes(&self) -> bool {
        !self.global.yes && !matches!(self.spec.provider, ProviderSpec::Sandbox { .. })
    }

    /// How long a command that only looks waits for a console: a host that was launched long ago has told its keys, or
    /// never will.
    pub fn glance(&self) -> Duration {
        self.limits.host_keys.min(Duration::from_secs(5))
    }

    /// The hosts with the SSH keys that their consoles tell, where none is known yet; waits up to `limit`.
    pub async fn with_host_keys(&self, hosts: Vec<Host>, limit: Duration) -> Vec<Host> {
        // Whoever trusts the first key shown need not wait for the console to confirm it.
        let limit = if self.global.accept_new_host_keys { Duration::ZERO } else { limit };
        let (cloud, connector) = (self.cloud.as_ref(), self.connector.as_ref());
        engine::host_keys::learn(hosts, cloud, connector, limit, &self.cancel, &self.events).await
    }

    /// A command's answer on stdout; progress ends first.
    pub fn show(&self, document: &dyn Document, all: bool) -> Result<()> {
        self.global.summary.add(document.cases());
        self.reporter.show(document, &self.view(all)).context("writing the answer")
    }

    fn view(&self, all: bool) -> View {
        View { all, verbose: self.global.verbose > 0, ..self.ui.view() }
    }

    /// What is about to happen, beside the answer.
    pub fn show_to_people(&self, document: &dyn Document) {
        self.ui.people(&document.text(&self.view(true)));
    }

    /// Asks for consent, showing first what it is about.
    pub fn confirm(&self, about: &dyn Document, what: &str) -> Result<bool> {
        self.show_to_people(about);
        Ok(self.ui.confirm(Question::YesNo { what })?)
    }

    /// Lines for the end of `up`: Prometheus' address, and how to log in.
    pub fn where_to_look(&self, servers: &[&Observed]) -> Vec<String> {
        let Some(server) = servers.first() else { return Vec::new() };
        let Some(address) = server.address() else { return Vec::new() };
        let url = format!("http://{}", std::net::SocketAddr::new(address, PROMETHEUS_PORT));
        let flags = self.spec_flags();
        let mut lines = vec![format!("Prometheus   {url}/targets")];
        if !matches!(self.spec.provider, ProviderSpec::Sandbox { .. }) {
            let forward = format!("-L {PROMETHEUS_PORT}:{}", std::net::SocketAddr::new(address, PROMETHEUS_PORT));
            lines.push(format!("  from here  clusterctl ssh{flags} {} -- {forward} -N", server.host.name));
        }
        lines.push(format!("log in       clusterctl ssh{flags} {}", server.host.name));
        lines.push(format!("look again   clusterctl status{flags}"));
        lines
    }

    /// The flags that name this cluster again.
    fn spec_flags(&self) -> String {
        match (&self.global.file, &self.global.cluster) {
            (Some(file), _) => format!(" -f {}", crate::core::install::quote(&file.to_string_lossy())),
            (None, cluster) if self.global.region.is_some() => {
                let region = self.global.region.as_deref().unwrap_or_default();
                let cluster = cluster.as_ref().map(|cluster| format!(" --cluster {cluster}")).unwrap_or_default();
                format!("{cluster} --region {}", crate::core::install::quote(region))
            }
            (None, Some(cluster)) => format!(" --sandbox --cluster {cluster}"),
            (None, None) if Path::new(DEFAULT_SPEC).exists() && !self.global.sandbox => String::new(),
            (None, None) => " --sandbox".to_owned(),
        }
    }

    /// The file that the spec was read from, if any.
    pub fn spec_file(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_SPEC);
        let named = self.global.file.as_deref();
        named.or_else(|| (self.global.cluster.is_none() && !self.global.sandbox && default.exists()).then_some(default))
    }

    /// After `down`: a new cluster of this name has other keys.
    pub fn forget_hosts(&self) -> Result<()> {
        self.forget_hosts_of(&self.spec.cluster)
    }

    pub fn forget_hosts_of(&self, cluster: &ClusterName) -> Result<()> {
        let folder = self.paths.cluster(cluster);
        for path in ["users", "users.lock", "known_hosts", "known_hosts.lock", "builder"].map(|name| folder.join(name))
        {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn cloud(spec: &Spec, paths: &Paths, reporter: &Reporter, cancel: &CancellationToken) -> Result<Arc<dyn Cloud>> {
    Ok(match &spec.provider {
        ProviderSpec::Sandbox { .. } => Arc::new(Sandbox::open(spec.cluster.clone(), paths.sandbox.clone())?),
        ProviderSpec::Inventory { hosts } => Arc::new(Inventory::new(&spec.cluster, hosts, &spec.ssh)),
        ProviderSpec::Ec2(ec2) => Arc::new(Ec2::new(spec, ec2, paths.home.clone(), reporter.events(), cancel.clone())),
    })
}

/// The spec: `--file`, the sandbox, `./cluster.toml`, or a sandbox cluster that is there already.
fn choose_spec(global: &Global, paths: &Paths, verb: &str) -> Result<Spec> {
    if let Some(file) = &global.file {
        return read_spec(file, paths, None);
    }
    let name = match &global.cluster {
        Some(name) => name.clone(),
        None => ClusterName::new(DEFAULT_SANDBOX)?,
    };
    if global.sandbox {
        return Ok(Spec::sandbox(name));
    }
    let default = Path::new(DEFAULT_SPEC);
    if global.cluster.is_none() && default.exists() {
        return read_spec(default, paths, None);
    }
    // Tags say which hosts are the cluster's, so that a region and a name are enough to find it.
    if let (Some(_), Some(cluster)) = (&global.region, &global.cluster) {
        // But not to say what it should be: with the defaults in its place the rule that lets people log in would go.
        if matches!(verb, "up" | "plan" | "join-node" | "ami build") {
            bail!(crate::cli::Usage(format!(
                "`clusterctl {verb}` needs the spec of {cluster}, since a name and a region do not say how it should be: \
                 name the file with `-f FILE`"
            )));
        }
        return Ok(Spec::ec2(cluster.clone()));
    }
    if paths.sandbox_cluster(&name).exists() {
        return Ok(Spec::sandbox(name));
    }
    bail!(crate::cli::Usage(format!(
        "which cluster? There is no ./{DEFAULT_SPEC} and no sandbox cluster \"{name}\": name a spec with `-f FILE` \
         (`clusterctl init` writes one), or use hosts on this machine with `clusterctl {verb} --sandbox`"
    )))
}

fn read_spec(file: &Path, paths: &Paths, preset: Option<Preset>) -> Result<Spec> {
    let shown = file.display();
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(super::Usage(format!(
            "there is no spec {shown}: name another with `-f FILE`, or write one with `clusterctl init {}`",
            crate::core::install::quote(&file.to_string_lossy())
        ))),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            bail!(super::Usage(format!(
                "{shown} is a folder: name the spec in it, such as {}",
                file.join(DEFAULT_SPEC).display()
            )))
        }
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    let mut spec = specfile::parse_bytes(&bytes, &shown.to_string(), preset)?;
    // Paths in a spec are meant from where it lies, so that it works from any folder.
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let resolve = |path: PathBuf| folder.join(paths.expand(path));
    spec.ssh.key = spec.ssh.key.map(resolve);
    spec.templates = spec.templates.map(resolve);
    spec.artifacts.folder = spec.artifacts.folder.map(resolve);
    if let ProviderSpec::Inventory { hosts } = &mut spec.provider {
        for host in hosts {
            host.key = host.key.take().map(resolve);
        }
    }
    Ok(spec)
}

/// The command line has the last word on which account and region.
fn account(global: &Global, spec: &mut Spec) {
    if let ProviderSpec::Ec2(ec2) = &mut spec.provider {
        ec2.region = global.region.clone().or_else(|| ec2.region.take());
        ec2.profile = global.profile.clone().or_else(|| ec2.profile.take());
    }
}

/// Whom the user's own ssh knows, clusterctl knows too: keys in their known_hosts vouch for hosts of the
/// inventory that have none in the spec.
fn trust_known_hosts(spec: &mut Spec, paths: &Paths) {
    let file = paths.home.join(".ssh/known_hosts");
    let port = spec.ssh.port;
    if let ProviderSpec::Inventory { hosts } = &mut spec.provider {
        for host in hosts.iter_mut().filter(|host| host.host_keys.is_empty()) {
            host.host_keys = openssh::known_keys(&file, &host.address, host.port.or(port).unwrap_or(22));
        }
    }
}

/// Progress on stderr, and all of it in the log file where one is named.
pub fn reporter(global: &Global, ui: &Ui) -> Result<Reporter> {
    let log = match &global.log_file {
        Some(path) => {
            let log = LogFile::append(path, system_clock()).with_context(|| format!("opening {}", path.display()))?;
            log.line(&std::env::args().collect::<Vec<_>>().join(" "));
            Some(Arc::new(log))
        }
        None => None,
    };
    Ok(ui.reporter(log))
}

/// Where the spec says that programs come from.
pub fn sources(spec: &Spec) -> Sources {
    Sources { folder: spec.artifacts.folder.clone(), mirror: spec.artifacts.mirror.clone(), official: true }
}

/// The spec where there is one, else the defaults: for verbs that need no cluster.
pub fn spec_or_default(global: &Global, paths: &Paths) -> Result<Spec> {
    match spec_if_any(global, paths, None)? {
        Some(spec) => Ok(spec),
        None => Ok(Spec::sandbox(ClusterName::new(DEFAULT_SANDBOX)?)),
    }
}

/// The spec that is named or lies here, where there is one; `preset` counts in place of its own.
pub fn spec_if_any(global: &Global, paths: &Paths, preset: Option<Preset>) -> Result<Option<Spec>> {
    let default = Path::new(DEFAULT_SPEC);
    match &global.file {
        Some(file) => read_spec(file, paths, preset).map(Some),
        None if default.exists() && !global.sandbox => read_spec(default, paths, preset).map(Some),
        None => Ok(None),
    }
}

/// The templates, those of the spec's own folder in place of ours.
pub fn renderer(spec: &Spec) -> Result<Renderer> {
    match &spec.templates {
        Some(folder) => Renderer::new(&templates::read(folder)?)
            .with_context(|| format!("compiling the templates of {}", folder.display())),
        None => Ok(Renderer::new(&std::collections::BTreeMap::new())?),
    }
}
