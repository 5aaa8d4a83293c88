use super::*;
use crate::model::file::{Check, Reaction, UnitName};
use crate::model::host::{HostId, HostState, SshTarget};
use crate::model::plan::{Reason, Step};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn spec() -> Spec {
    Spec::sandbox(ClusterName::new("shop").unwrap())
}

fn ec2() -> Spec {
    Spec::ec2(ClusterName::new("shop").unwrap())
}

fn host(name: &str, state: HostState, tags: &[(&str, &str)]) -> Host {
    Host {
        id: HostId(format!("id-{name}")),
        name: HostName::new(name).unwrap(),
        role: Role::Node,
        state,
        private_address: None,
        ssh: SshTarget::default(),
        host_keys: Vec::new(),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn the_temporary_cluster_has_a_name_within_the_rules() {
    let named = |length: usize| build_cluster(&ClusterName::new("a".repeat(length)).unwrap());
    assert_eq!(named(34).unwrap().as_str().len(), 40);
    let refused = named(35).unwrap_err().to_string();
    assert!(refused.contains("take a name of 34 letters at most"), "{refused}");
    let longest = named(34).unwrap();
    for role in [Role::Server, Role::Node] {
        builder_host(&longest, role);
    }
}

#[test]
fn the_image_bears_the_real_name_and_the_build_its_own() {
    let mut spec = ec2();
    spec.fleet = Some(crate::model::spec::FleetSpec::default());
    let build = build_cluster(&spec.cluster).unwrap();
    let me = Builder::new("me@laptop: one", 7, at(0));
    let image = image_spec(&spec);
    assert_eq!((image.cluster.as_str(), image.join), ("shop", Join::Boot));
    assert!(image.fleet.is_some());
    let temporary = build_spec(&spec, &build, &me, &[Role::Node]);
    assert_eq!((temporary.cluster.as_str(), temporary.join), ("shop-build", Join::Addresses));
    assert!(temporary.fleet.is_none());
    let ProviderSpec::Ec2(made) = &temporary.provider else { panic!() };
    assert_eq!((made.servers, made.nodes, made.tags[BUILDER].as_str()), (1, 0, "me@laptop--one:7"));
    // What the tags say comes back.
    let tags: Vec<(&str, &str)> = made.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(Builder::of_host(&host("a", HostState::Running, &tags)), Some(me.clone()));
    assert_eq!(Builder::of_host(&host("a", HostState::Running, &[])), None);

    let three = Spec { provider: ProviderSpec::Sandbox { servers: 3, nodes: 9 }, ..self::spec() };
    let names = |roles: &[Role]| -> Vec<String> {
        let temporary = build_spec(&three, &build, &me, roles);
        proving_hosts(&temporary, roles).into_iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(names(&[Role::Node]), ["shop-build-node-1"]);
    assert_eq!(
        names(&[Role::Server, Role::Node]),
        ["shop-build-server-1", "shop-build-server-2", "shop-build-server-3", "shop-build-node-1"]
    );
    assert_eq!(watching_server(&temporary, &[Role::Node]).unwrap().as_str(), "shop-build-server-1");
    assert_eq!(watching_server(&temporary, &[Role::Server]), None);
}

#[test]
fn what_is_baked_depends_on_the_provider() {
    let sandbox = spec().provider;
    assert_eq!(roles(&[], &sandbox).unwrap(), [Role::Server, Role::Node]);
    assert_eq!(roles(&[], &ec2().provider).unwrap(), [Role::Node]);
    assert_eq!(roles(&[Role::Node, Role::Server, Role::Node], &ec2().provider).unwrap(), [Role::Server, Role::Node]);
    let refused = roles(&[], &ProviderSpec::Inventory { hosts: Vec::new() }).unwrap_err();
    assert!(refused.to_string().contains("ami provision --local"), "{refused}");
}

#[test]
fn images_are_named() {
    let now = "2026-11-26T20:51:09Z".parse().unwrap();
    assert_eq!(image_name(&ec2(), Role::Node, None, now).unwrap(), "clusterctl-shop-node-20261126-205109");
    assert_eq!(image_name(&ec2(), Role::Node, Some("web"), now), Err(BakeError::NamedAmi));
    assert_eq!(image_name(&spec(), Role::Node, Some("web"), now).unwrap(), "web");
    assert_eq!(image_name(&spec(), Role::Node, None, now).unwrap(), "shop");
    for bad in ["", "a/b", "../a", "A"] {
        assert!(image_name(&spec(), Role::Node, Some(bad), now).is_err(), "{bad}");
    }
}

#[test]
fn a_running_build_is_told_from_a_dead_one() {
    let me = Builder::new("here", 1, at(10_000));
    let of = |machine: &str, since: i64, state| {
        let builder = Builder::new(machine, 9, at(since));
        let tags = builder.tags();
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        host("shop-build-node-builder", state, &tags)
    };
    let running = HostState::Running;
    assert_eq!(before(&[], &me, false), Before::Nothing);
    assert_eq!(before(&[of("there", 9_000, HostState::Terminated)], &me, false), Before::Nothing);
    // Whoever holds the lock is this process.
    assert_eq!(before(&[of("here", 9_000, running)], &me, false), Before::Leftovers);
    assert_eq!(before(&[of("there", 6_400, running)], &me, false), Before::Leftovers);
    let Before::Busy(builder) = before(&[of("here", 1, running), of("there", 6_401, running)], &me, false) else {
        panic!()
    };
    assert_eq!((builder.machine.as_str(), builder.pid, builder.since), ("there", 9, at(6_401)));
    // Clocks differ.
    assert!(matches!(before(&[of("there", 10_100, running)], &me, false), Before::Busy(_)));
    let stranger = host("shop-build-x", running, &[]);
    let strangers = [of("here", 9_000, running), stranger.clone()];
    assert_eq!(before(&strangers, &me, false), Before::Foreign(stranger.name.clone()));
    assert_eq!(before(&strangers, &me, true), Before::Leftovers);
    let gone = host("shop-build-x", HostState::Terminated, &[]);
    assert_eq!(before(&[gone], &me, false), Before::Nothing);
}

#[test]
fn nothing_starts_on_a_host_that_becomes_an_image() {
    let unit = || UnitName::new("consul").unwrap();
    let check = |program: &str| Check {
        title: program.to_owned(),
        argv: vec![Word::Plain(program.to_owned())],
        covers: Vec::new(),
        complaints: Vec::new(),
    };
    let actions = [
        Action::RemoveFile { path: label_path() },
        Action::Check { check: check("systemd-analyze") },
        Action::Check { check: check("consul") },
        Action::Stop { unit: unit() },
        Action::Enable { unit: unit() },
        Action::Start { unit: unit() },
        Action::React { unit: unit(), reaction: Reaction::Restart },
        Action::React { unit: unit(), reaction: Reaction::Reload },
    ];
    let steps = actions.map(|action| Step { action, reason: Reason("x".to_owned()) });
    let plan = HostPlan {
        host: HostName::new("a").unwrap(),
        role: Role::Node,
        launch: None,
        steps: steps.to_vec(),
        blocked: None,
        skipped: Vec::new(),
    };
    let mut awake = plan.clone();
    offline(&mut awake, false);
    assert_eq!(awake.steps, plan.steps[..5]);
    let mut asleep = plan.clone();
    offline(&mut asleep, true);
    assert_eq!(asleep.steps.len(), 4);
    assert_eq!(asleep.steps[1], plan.steps[2]);
}

fn baked(name: &str, role: Role, age: i64, proved: bool, state: BakedState) -> Baked {
    let label = Label {
        name: name.to_owned(),
        cluster: ClusterName::new("shop").unwrap(),
        role,
        servers: 1,
        programs: BTreeMap::new(),
        sums: BTreeMap::new(),
        spec: "none".to_owned(),
        created: at(-age),
    };
    Baked { id: ImageId(name.to_owned()), label, state, proved: proved.then(|| at(-age)) }
}

#[test]
fn the_newest_of_each_role_stay_and_what_is_in_use_too() {
    use BakedState::{Available, Failed, Pending};
    let day = 86_400;
    let images = [
        baked("n1", Role::Node, day, true, Available),
        baked("n2", Role::Node, 2 * day, true, Available),
        baked("n3", Role::Node, 3 * day, true, Available),
        baked("n4", Role::Node, 4 * day, true, Available),
        baked("new-unproved", Role::Node, day / 2, false, Available),
        baked("old-unproved", Role::Node, 5 * day, false, Available),
        baked("making", Role::Node, 60, false, Pending),
        baked("stuck", Role::Node, 2 * day + 1, false, Pending),
        baked("failed", Role::Node, 60, false, Failed),
        baked("s1", Role::Server, 9 * day, true, Available),
    ];
    let used = BTreeMap::from([(ImageId("n4".to_owned()), vec!["shop-node-1".to_owned()])]);
    let removed = |keep: usize| -> Vec<String> {
        let swept = sweep(&images, keep, &used, Some(at(0)));
        assert_eq!(swept.len(), images.len());
        swept.into_iter().filter(|(_, sweep)| matches!(sweep, Sweep::Remove(_))).map(|(image, _)| image.id.0).collect()
    };
    assert_eq!(removed(2), ["failed", "stuck", "n3", "old-unproved"]);
    let alone = sweep(&images, 9, &used, None);
    let gone =
        alone.iter().filter(|(_, sweep)| matches!(sweep, Sweep::Remove(_))).map(|(image, _)| image.id.0.as_str());
    assert_eq!(
        gone.collect::<Vec<_>>(),
        ["making", "failed", "new-unproved", "stuck", "old-unproved"],
        "nobody can be proving one"
    );
    assert_eq!(removed(9).len(), 3);
    assert!(removed(0).contains(&"s1".to_owned()) && !removed(0).contains(&"n4".to_owned()));
}

#[test]
fn what_is_in_use_is_known_from_hosts_and_spec() {
    let hosts = [
        host("a", HostState::Running, &[(tag::IMAGE, "ami-1")]),
        host("b", HostState::Terminated, &[(tag::IMAGE, "ami-2")]),
        host("c", HostState::Running, &[]),
    ];
    let mut spec = ec2();
    spec.fleet = Some(crate::model::spec::FleetSpec { image: Some("ami-3".to_owned()), ..Default::default() });
    let used = uses(&hosts, &spec);
    assert_eq!(used.keys().map(|id| id.0.as_str()).collect::<Vec<_>>(), ["ami-1", "ami-3"]);
}

#[test]
fn the_label_is_a_file_that_reads_back() {
    let artifacts = crate::core::render::tests::artifacts();
    let label = label(&ec2(), Role::Node, "x".to_owned(), &artifacts, "abc", at(0));
    assert_eq!(label.programs.len(), 2);
    let file = label_file(&label);
    let FileSource::Text(text) = &file.source else { panic!() };
    assert_eq!(serde_json::from_str::<Label>(text).unwrap(), label);
    assert_eq!((file.path.as_str(), file.mode), ("/etc/clusterctl/image.json", 0o644));
}
