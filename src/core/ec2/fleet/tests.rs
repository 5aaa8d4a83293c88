use super::*;

fn shop() -> ClusterName {
    ClusterName::new("shop").unwrap()
}

fn found() -> Found {
    Found {
        image: "ami-1".to_owned(),
        root_device: "/dev/xvda".to_owned(),
        group: "sg-1".to_owned(),
        key_pair: "clusterctl-shop".to_owned(),
        profile: Some("clusterctl-shop-us-east-1".to_owned()),
        subnets: BTreeSet::from(["subnet-a".to_owned(), "subnet-b".to_owned()]),
    }
}

fn wanted(ec2: &Ec2Spec, fleet: &FleetSpec) -> Wanted {
    let found = found();
    Wanted {
        template: Template::wanted(&shop(), ec2, fleet, &found),
        group: Group::wanted(ec2, fleet, &found.subnets),
        size: None,
        begin: fleet.size,
    }
}

fn present(of: &Wanted, size: u16) -> (PresentTemplate, PresentGroup) {
    let mark = Some(of.template.mark());
    let id = "lt-1".to_owned();
    let template = PresentTemplate { id, latest: 3, default: 3, mark, data: of.template.clone() };
    (template, PresentGroup { data: of.group.clone(), size })
}

#[test]
fn the_template_is_what_the_spec_says() {
    let ec2 = Ec2Spec {
        security_groups: vec!["sg-own".to_owned()],
        tags: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        ..Ec2Spec::default()
    };
    let template = Template::wanted(&shop(), &ec2, &FleetSpec::default(), &found());
    assert_eq!(template.groups, ["sg-1", "sg-own"]);
    assert_eq!(template.instance_type, "t3.small");
    assert!(template.public_address);
    let text = BASE64_STANDARD.decode(&template.user_data).unwrap();
    assert_eq!(text, b"#cloud-config\n# clusterctl: cluster=shop\n{}\n");
    let tags: Vec<(&str, &str)> = template.instance_tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("Name", "shop-fleet"),
        ("clusterctl:cluster", "shop"),
        ("clusterctl:origin", "fleet"),
        ("clusterctl:role", "node"),
        ("team", "web"),
    ];
    assert_eq!(tags, expected);
    assert!(!template.volume_tags.contains_key(tag::ROLE) && template.volume_tags.len() == 4);
}

#[test]
fn a_mark_never_changes_and_tells_templates_apart() {
    let ec2 = Ec2Spec::default();
    let mark = |ec2: &Ec2Spec, fleet: &FleetSpec| Template::wanted(&shop(), ec2, fleet, &found()).mark();
    let usual = mark(&ec2, &FleetSpec::default());
    assert_eq!(usual, mark(&ec2, &FleetSpec { size: 9, max: 9, spot_percent: 50, ..FleetSpec::default() }));
    assert_eq!(usual.len(), 2 * MARK);
    let others = [
        Ec2Spec { instance_type: "t3.large".to_owned(), ..ec2.clone() },
        Ec2Spec { reach: Reach::Private, ..ec2.clone() },
        Ec2Spec { root_volume: RootVolume { size: Some(20), ..RootVolume::default() }, ..ec2.clone() },
        Ec2Spec { tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]), ..ec2.clone() },
    ];
    let mut marks: BTreeSet<String> = others.iter().map(|ec2| mark(ec2, &FleetSpec::default())).collect();
    marks.insert(usual);
    assert_eq!(marks.len(), 5);
}

#[test]
fn an_empty_account_gets_both_and_a_second_run_nothing() {
    let fleet = FleetSpec { size: 2, ..FleetSpec::default() };
    let mut wanted = wanted(&Ec2Spec::default(), &fleet);
    assert_eq!(steps(&wanted, None, None), [Step::MakeTemplate, Step::MakeGroup { size: 2 }]);
    wanted.size = Some(5);
    assert_eq!(steps(&wanted, None, None), [Step::MakeTemplate, Step::MakeGroup { size: 5 }]);
    wanted.size = None;
    let (template, group) = present(&wanted, 7);
    assert_eq!(steps(&wanted, Some(&template), Some(&group)), [], "the group's own size is the truth");
    assert_eq!(steps(&wanted, Some(&template), None), [Step::MakeGroup { size: 2 }], "killed in between");
}

#[test]
fn what_changed_is_named() {
    let before = wanted(&Ec2Spec::default(), &FleetSpec::default());
    let (template, group) = present(&before, 3);
    let ec2 =
        Ec2Spec { instance_type: "t3.large".to_owned(), key_pair: None, reach: Reach::Private, ..Ec2Spec::default() };
    let after = wanted(&ec2, &FleetSpec::default());
    let found = steps(&after, Some(&template), Some(&group));
    let changed = vec!["instance type (t3.small → t3.large)".to_owned(), "public address".to_owned()];
    assert_eq!(found, [Step::MakeVersion { changed }]);
    let said = found[0].shown("clusterctl-shop");
    assert_eq!(said.what, "make a new version of the launch template clusterctl-shop");
    assert!(said.reason.0.contains("t3.small → t3.large") && said.reason.0.contains("fleet roll"), "{said:?}");
    // An older clusterctl's template has another mark, and differs in nothing that is named.
    let older = PresentTemplate { mark: Some("old".to_owned()), ..template.clone() };
    let found = steps(&before, Some(&older), Some(&group));
    assert_eq!(found, [Step::MakeVersion { changed: vec!["what clusterctl itself sets".to_owned()] }]);
    // Killed before the new version was used.
    let unused = PresentTemplate { default: 2, ..template };
    assert_eq!(steps(&before, Some(&unused), Some(&group)), [Step::UseVersion { version: 3 }]);
}

#[test]
fn bounds_move_the_size_and_say_so() {
    let before = wanted(&Ec2Spec::default(), &FleetSpec::default());
    let (template, group) = present(&before, 10);
    let mut after = wanted(&Ec2Spec::default(), &FleetSpec { max: 4, ..FleetSpec::default() });
    let found = steps(&after, Some(&template), Some(&group));
    assert_eq!(found, [Step::ChangeGroup { changed: vec!["max (1000 → 4)".to_owned()], from: 10, to: 4 }]);
    assert!(found[0].shown("x").reason.0.ends_with("6 of its instances end"), "{found:?}");
    after.size = Some(3);
    assert_eq!(steps(&after, Some(&template), Some(&group))[1], Step::Resize { from: 4, to: 3 });
    assert_eq!(Step::Resize { from: 4, to: 3 }.shown("x").reason.0, "it is 4: 1 of its instances ends");
    assert_eq!(resized(3, 5), "2 instances more are launched");
}

#[test]
fn several_types_or_spot_make_a_mix() {
    let ec2 = Ec2Spec::default();
    let group = |fleet: &FleetSpec| Group::wanted(&ec2, fleet, &BTreeSet::new());
    assert_eq!(group(&FleetSpec { on_demand: 2, ..FleetSpec::default() }).mix, None, "all are on demand anyway");
    let one = FleetSpec { instance_types: vec!["t3.large".to_owned()], ..FleetSpec::default() };
    assert_eq!(group(&one).mix, None);
    assert_eq!(Template::wanted(&shop(), &ec2, &one, &found()).instance_type, "t3.large");
    let spot = group(&FleetSpec { on_demand: 2, spot_percent: 80, ..FleetSpec::default() });
    let mix = Mix { types: vec!["t3.small".to_owned()], on_demand: 2, spot_percent: 80 };
    assert_eq!((spot.mix, spot.rebalance), (Some(mix), true));
}

#[test]
fn old_versions_go_and_the_one_in_use_stays() {
    assert!(stale(1..=10, 10, 10).is_empty());
    assert_eq!(stale(1..=12, 12, 1), [2]);
    assert_eq!(stale(1..=12, 12, 12), [1, 2]);
    let token = version_token("lt-0123456789abcdef0", i64::MAX, "0123456789ab");
    assert!(token.len() <= 64, "{token}");
}
