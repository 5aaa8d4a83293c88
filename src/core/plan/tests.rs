use std::net::IpAddr;

use super::*;
use crate::core::render::{Peer, Renderer, Subject};
use crate::core::templates::Overrides;
use crate::model::artifact::{Arch, Compression, Sha256};
use crate::model::facts::{DirFact, FileFact};
use crate::model::name::ClusterName;
use crate::model::spec::{Discovery, Spec};

fn name() -> HostName {
    HostName::new("shop-server-1").unwrap()
}

fn wanted() -> Wanted {
    let peer = Peer { name: name(), role: Role::Server, address: IpAddr::from([10, 0, 0, 1]) };
    let spec = Spec::sandbox(ClusterName::new("shop").unwrap());
    let artifacts = crate::core::render::tests::artifacts();
    Renderer::new(&Overrides::new())
        .unwrap()
        .wanted(&spec, &Subject::of(&peer, std::slice::from_ref(&peer), Init::Systemd), &artifacts)
        .unwrap()
}

/// The facts of a bare host.
fn bare() -> Facts {
    Facts {
        hostname: "shop-server-1".to_owned(),
        system: "Linux".to_owned(),
        machine: "x86_64".to_owned(),
        arch: Some(Arch::Amd64),
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        init: Init::Systemd,
        asleep: false,
        root: true,
        clock: 1_000_000,
        disk_free: 10 << 30,
        addresses: Vec::new(),
        missing_tools: Vec::new(),
        compression: Compression::Gzip,
        users: BTreeSet::new(),
        dirs: BTreeMap::new(),
        files: BTreeMap::new(),
        units: BTreeMap::new(),
        manifest: BTreeSet::new(),
        pending: BTreeMap::new(),
    }
}

/// The facts of a host on which all stands as wanted.
fn converged(wanted: &Wanted) -> Facts {
    let mut facts = bare();
    facts.users = wanted.users.iter().map(|user| user.name.clone()).collect();
    for dir in &wanted.dirs {
        let fact = DirFact { mode: dir.mode, owner: dir.owner.clone(), group: dir.group.clone() };
        facts.dirs.insert(dir.path.clone(), fact);
    }
    for file in &wanted.files {
        let fact =
            FileFact { sha256: file.sha256(), mode: file.mode, owner: file.owner.clone(), group: file.group.clone() };
        facts.files.insert(file.path.clone(), fact);
        facts.manifest.insert(file.path.clone());
    }
    for unit in &wanted.units {
        let fact = UnitFact {
            active: "active".to_owned(),
            enabled: "enabled".to_owned(),
            needs_daemon_reload: false,
            main_pid: 100,
            started_monotonic_us: 1,
        };
        facts.units.insert(unit.clone(), fact);
    }
    facts
}

fn plan(wanted: &Wanted, facts: &Facts) -> HostPlan {
    host_plan(&name(), Role::Server, wanted, facts, &BTreeMap::new())
}

/// One line a step, for comparison.
fn lines(plan: &HostPlan) -> Vec<String> {
    let line = |step: &Step| {
        let what = match &step.action {
            Action::CreateUser { user } => format!("user {}", user.name),
            Action::PutDir { dir } => format!("dir {}", dir.path),
            Action::PutFile { path, change, .. } => format!("{change:?} {path}"),
            Action::RemoveFile { path } => format!("remove {path}"),
            Action::Check { check } => format!("check {}", check.title),
            Action::Enable { unit } => format!("enable {unit}"),
            Action::Start { unit } => format!("start {unit}"),
            Action::React { unit, reaction } => format!("{} {unit}", reaction.as_str()),
            Action::Stop { unit } => format!("stop {unit}"),
        };
        format!("{what}: {}", step.reason.0)
    };
    plan.steps.iter().map(line).collect()
}

fn path(text: &str) -> HostPath {
    HostPath::new(text).unwrap()
}

fn file_mut<'a>(wanted: &'a mut Wanted, at: &str) -> &'a mut ManagedFile {
    wanted.files.iter_mut().find(|file| file.path.as_str() == at).unwrap()
}

#[test]
fn a_bare_host_gets_everything() {
    insta::assert_snapshot!(lines(&plan(&wanted(), &bare())).join("\n"));
}

#[test]
fn a_converged_host_has_an_empty_plan() {
    let wanted = wanted();
    let plan = plan(&wanted, &converged(&wanted));
    assert!(plan.is_empty(), "{:?}", lines(&plan));
}

#[test]
fn a_setting_touches_only_what_depends_on_it() {
    let old = wanted();
    let facts = converged(&old);
    let mut new = old;
    file_mut(&mut new, "/etc/prometheus/prometheus.yml").source = FileSource::Text("other".to_owned());
    assert_eq!(
        lines(&plan(&new, &facts)),
        [
            "Content /etc/prometheus/prometheus.yml: its content differs",
            "check promtool check config: /etc/prometheus/prometheus.yml changes",
            "reload prometheus: /etc/prometheus/prometheus.yml changes",
        ]
    );
}

#[test]
fn a_restart_includes_a_reload() {
    let old = wanted();
    let facts = converged(&old);
    let mut new = old;
    file_mut(&mut new, "/etc/consul.d/service-node-exporter.json").source = FileSource::Text("other".to_owned());
    file_mut(&mut new, "/etc/consul.d/consul.json").source = FileSource::Text("other".to_owned());
    let lines = lines(&plan(&new, &facts));
    assert!(lines.contains(&"restart consul: /etc/consul.d/consul.json changes".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("reload")), "{lines:?}");
}

#[test]
fn what_an_interrupted_run_owes_is_done() {
    let wanted = wanted();
    let mut facts = converged(&wanted);
    facts.pending.insert(UnitName::new("consul").unwrap(), Reaction::Restart);
    assert_eq!(lines(&plan(&wanted, &facts)), ["restart consul: an earlier run was interrupted before it"]);
}

#[test]
fn a_stopped_or_disabled_unit_is_mended() {
    let wanted = wanted();
    let mut facts = converged(&wanted);
    let unit = facts.units.get_mut(&UnitName::new("node_exporter").unwrap()).unwrap();
    unit.active = "failed".to_owned();
    unit.enabled = "disabled".to_owned();
    assert_eq!(
        lines(&plan(&wanted, &facts)),
        ["enable node_exporter: it does not start at boot", "start node_exporter: it is failed"]
    );
}

#[test]
fn a_service_that_left_the_spec_leaves_the_host() {
    let wanted = wanted();
    let mut facts = converged(&wanted);
    let stale = path("/etc/consul.d/service-web.json");
    let fact = facts.files[&path("/etc/consul.d/consul.json")].clone();
    facts.files.insert(stale.clone(), fact);
    facts.manifest.insert(stale);
    // In the manifest, but gone already: nothing to do.
    facts.manifest.insert(path("/etc/consul.d/service-gone.json"));
    assert_eq!(
        lines(&plan(&wanted, &facts)),
        [
            "remove /etc/consul.d/service-web.json: an earlier run put it there; it is no longer wanted",
            "check consul validate: /etc/consul.d/service-web.json changes",
            "reload consul: /etc/consul.d/service-web.json goes",
        ]
    );
}

#[test]
fn an_unwanted_unit_is_stopped_before_its_file_goes() {
    let wanted = wanted();
    for file in ["/etc/systemd/system/old.service", "/etc/init/old.conf"] {
        let mut facts = converged(&wanted);
        let fact = facts.files.values().next().unwrap().clone();
        facts.files.insert(path(file), fact);
        facts.manifest.insert(path(file));
        let steps = plan(&wanted, &facts).steps;
        let old = |step: &Step| matches!(&step.action, Action::Stop { unit } if unit.as_str() == "old");
        let goes = |step: &Step| matches!(&step.action, Action::RemoveFile { path } if path.as_str() == file);
        assert!(steps.len() == 2 && old(&steps[0]) && goes(&steps[1]), "{steps:?}");
    }
}

#[test]
fn a_files_mode_is_mended_without_a_restart() {
    let wanted = wanted();
    let mut facts = converged(&wanted);
    facts.files.get_mut(&path("/etc/consul.d/consul.json")).unwrap().mode = 0o666;
    assert_eq!(lines(&plan(&wanted, &facts)), ["Attributes /etc/consul.d/consul.json: its mode is 0666, not 0640"]);
}

#[test]
fn a_new_binary_restarts_its_unit_and_checks_with_it() {
    let wanted = wanted();
    let mut facts = converged(&wanted);
    facts.files.get_mut(&path("/usr/local/bin/consul")).unwrap().sha256 =
        crate::model::artifact::Sha256::of(b"another");
    assert_eq!(
        lines(&plan(&wanted, &facts)),
        [
            "Content /usr/local/bin/consul: it is another build or version",
            "check consul validate: /usr/local/bin/consul changes",
            "restart consul: /usr/local/bin/consul changes",
        ]
    );
}

#[test]
fn unfit_hosts_are_named_with_the_cure() {
    let wanted = wanted();
    let blocked = |change: fn(&mut Facts)| {
        let mut facts = bare();
        change(&mut facts);
        plan(&wanted, &facts).blocked.unwrap()
    };
    let mut reasons = vec![
        blocked(|facts| facts.system = "Darwin".to_owned()),
        blocked(|facts| {
            facts.arch = None;
            facts.machine = "mips".to_owned();
        }),
        blocked(|facts| facts.missing_tools = vec!["gzip".to_owned(), "tar".to_owned()]),
        blocked(|facts| facts.root = false),
        blocked(|facts| facts.init = Init::Upstart(semver::Version::new(0, 6, 3))),
        blocked(|facts| facts.init = Init::Other),
        blocked(|facts| facts.disk_free = 100 << 20),
    ];
    let mut late = bare();
    late.clock = 1_000;
    reasons.push(clock_problem(&late, 1_061).unwrap());
    assert_eq!(clock_problem(&late, 1_020), None);
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn diffs_come_from_old_texts_and_never_from_secrets() {
    let old = wanted();
    let mut facts = converged(&old);
    let at = path("/etc/consul.d/consul.json");
    facts.files.get_mut(&at).unwrap().sha256 = crate::model::artifact::Sha256::of(b"x");
    let mut new = old;
    let first = plan(&new, &facts);
    assert_eq!(texts_to_fetch(&first), std::slice::from_ref(&at));
    let texts = BTreeMap::from([(at.clone(), "{\n}\n".to_owned())]);
    let diff_of = |plan: &HostPlan| match &plan.steps[0].action {
        Action::PutFile { diff, .. } => diff.clone(),
        other => panic!("{other:?}"),
    };
    let with = host_plan(&name(), Role::Server, &new, &facts, &texts);
    assert!(diff_of(&with).unwrap().contains("+  \"node_name\""));
    file_mut(&mut new, at.as_str()).secret = true;
    let secret = host_plan(&name(), Role::Server, &new, &facts, &texts);
    assert_eq!(diff_of(&secret), None);
    assert!(texts_to_fetch(&secret).is_empty());
}

/// Another program writes it from then on; but one of another version may not be able to read what that wrote.
#[test]
fn a_seed_is_sown_once_and_again_for_another_version() {
    let config = "/etc/prometheus/prometheus.yml";
    let mut wanted = wanted();
    let mut facts = converged(&wanted);
    file_mut(&mut wanted, config).seed = true;
    facts.files.get_mut(&path(config)).unwrap().sha256 = Sha256::of(b"written by another");
    assert!(plan(&wanted, &facts).is_empty());

    let program = facts.files.get_mut(&path("/usr/local/bin/prometheus")).unwrap();
    program.sha256 = Sha256::of(b"another version");
    let steps = lines(&plan(&wanted, &facts));
    assert!(steps.iter().any(|step| step.starts_with("Content /etc/prometheus/prometheus.yml")), "{steps:?}");

    let mut facts = converged(&wanted);
    facts.files.remove(&path(config));
    let steps = lines(&plan(&wanted, &facts));
    assert!(steps.iter().any(|step| step.starts_with("Create /etc/prometheus/prometheus.yml")), "{steps:?}");
}

fn wanted_by(discovery: Discovery) -> Wanted {
    let peer = Peer { name: name(), role: Role::Server, address: IpAddr::from([10, 0, 0, 1]) };
    let mut spec = Spec::sandbox(ClusterName::new("shop").unwrap());
    spec.prometheus.discovery = discovery;
    let subject = Subject::of(&peer, std::slice::from_ref(&peer), Init::Systemd);
    let artifacts = crate::core::render::tests::artifacts();
    Renderer::new(&Overrides::new()).unwrap().wanted(&spec, &subject, &artifacts).unwrap()
}

/// From one way of discovery to the other, Prometheus is not restarted; nor is anything else.
#[test]
fn a_move_of_discovery_restarts_nothing() {
    let (by_sd, by_template) = (wanted_by(Discovery::ConsulSd), wanted_by(Discovery::ConsulTemplate));
    insta::assert_snapshot!(lines(&plan(&by_template, &converged(&by_sd))).join("\n"));
    insta::assert_snapshot!(lines(&plan(&by_sd, &converged(&by_template))).join("\n"));
}

/// A file that another program goes on writing is written where there is none; its owner and mode stay ours.
#[test]
fn a_seed_is_written_once() {
    let wanted = wanted_by(Discovery::ConsulTemplate);
    let config = path("/etc/prometheus/prometheus.yml");
    let mut facts = converged(&wanted);
    facts.files.get_mut(&config).unwrap().sha256 = crate::model::artifact::Sha256::of(b"rendered");
    assert_eq!(lines(&plan(&wanted, &facts)), Vec::<String>::new());
    facts.files.get_mut(&config).unwrap().owner = "root".to_owned();
    assert_eq!(
        lines(&plan(&wanted, &facts)),
        ["Attributes /etc/prometheus/prometheus.yml: it belongs to root:prometheus, not prometheus:prometheus"]
    );
    facts.files.remove(&config);
    let steps = lines(&plan(&wanted, &facts));
    assert_eq!(steps[0], "Create /etc/prometheus/prometheus.yml: the file does not exist");
}
