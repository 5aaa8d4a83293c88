use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::core::templates::Overrides;
use crate::model::ec2::tag;
use crate::model::name::ClusterName;
use crate::model::spec::ProviderSpec;

mod hcl;
mod schema;

use hcl::{Body, Token, string};

fn spec(text: &str) -> Spec {
    crate::core::specfile::parse(text, "cluster.toml").unwrap()
}

static RENDERER: LazyLock<Renderer> = LazyLock::new(|| Renderer::new(&Overrides::new()).unwrap());

fn text(spec: &Spec) -> String {
    let ProviderSpec::Ec2(ec2) = &spec.provider else { panic!("no EC2") };
    module(&RENDERER, spec, ec2).unwrap()
}

fn shop() -> Spec {
    Spec::ec2(ClusterName::new("shop").unwrap())
}

/// All that a spec can say of it.
fn whole() -> Spec {
    let mut spec = shop();
    spec.provider = ProviderSpec::Ec2(Box::new(Ec2Spec {
        region: Some("eu-west-1".to_owned()),
        instance_type: "m7g.large".to_owned(),
        vpc: Some("vpc-0123456789abcdef0".to_owned()),
        subnets: vec!["subnet-0123456789abcdef0".to_owned(), "subnet-0123456789abcdef1".to_owned()],
        security_groups: vec!["sg-0123456789abcdef0".to_owned()],
        ssh_from: vec!["203.0.113.7/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        reach: Reach::Private,
        key_pair: Some("shop".to_owned()),
        root_volume: crate::model::ec2::RootVolume { size: Some(20), ..Default::default() },
        tags: BTreeMap::from([("team".to_owned(), "shop".to_owned()), ("cost centre".to_owned(), "4711".to_owned())]),
        ..Ec2Spec::default()
    }));
    spec.fleet = Some(FleetSpec {
        size: 20,
        min: 10,
        max: 10_000,
        image: Some("ami-0123456789abcdef0".to_owned()),
        instance_types: vec!["m7g.large".to_owned(), "m6g.large".to_owned()],
        on_demand: 3,
        spot_percent: 75,
        min_healthy: 80,
        made_elsewhere: true,
    });
    spec
}

fn with(change: impl FnOnce(&mut Ec2Spec)) -> Spec {
    let mut spec = shop();
    if let ProviderSpec::Ec2(ec2) = &mut spec.provider {
        change(ec2);
    }
    spec
}

fn read(spec: &Spec) -> Body {
    let text = text(spec);
    hcl::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn attribute<'a>(body: &'a Body, name: &str) -> &'a [Token] {
    body.get(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn what_is_written_without_a_spec() {
    insta::assert_snapshot!(text(&shop()));
}

#[test]
fn what_is_written_of_a_whole_one() {
    let (small, whole) = (text(&shop()), text(&whole()));
    insta::assert_snapshot!(similar::TextDiff::from_lines(&small, &whole).unified_diff().context_radius(1).to_string());
}

#[test]
fn each_of_its_forms_is_one_that_terraform_takes() {
    let named = |name: &str| InstanceProfile::Named(name.to_owned());
    let mut spot = shop();
    spot.fleet = Some(FleetSpec { spot_percent: 100, ..FleetSpec::default() });
    let forms = [
        shop(),
        whole(),
        spot,
        with(|ec2| ec2.profile_of_instances = named("web")),
        with(|ec2| ec2.profile_of_instances = InstanceProfile::Without),
        with(|ec2| ec2.ssh_from = vec!["2001:db8::/32".parse().unwrap()]),
        with(|ec2| ec2.tags = BTreeMap::from([("a b".to_owned(), "c=d".to_owned())])),
    ];
    for spec in forms {
        assert_eq!(schema::mistakes(&read(&spec)), Vec::<String>::new());
        assert_eq!(text(&spec), text(&spec));
    }
}

/// The check can fail: each of these is a module with one mistake.
#[test]
fn the_checks_find_mistakes() {
    let good = text(&whole());
    let spoilt = [
        ("http_tokens ", "https_tokens ", "takes no https_tokens"),
        ("    strategy = \"Rolling\"\n", "", "lacks strategy"),
        ("metadata_options {", "metadata_option {", "takes no block metadata_option"),
        ("data.aws_ami.node.id", "data.aws_ami.nodes.id", "data.aws_ami.nodes is declared nowhere"),
        ("var.min_size", "var.minimum", "var.minimum is declared nowhere"),
        ("base64encode(", "base64(", "no function base64"),
        ("resource \"aws_security_group\" \"server\"", "resource \"aws_security_group\" \"all\"", "is declared twice"),
        ("  min_size            = var.min_size\n", "", "lacks min_size"),
    ];
    for (from, to, said) in spoilt {
        assert!(good.contains(from), "{from}");
        let found = schema::mistakes(&hcl::read(&good.replacen(from, to, 1)).unwrap());
        assert!(found.iter().any(|found| found.contains(said)), "{from}: {found:?}");
    }
    for text in ["a = \"${b\"", "a = \"%{b}\"", "a = [1\n", "a {", "a = 1\na = 2", "a = \"b\nc\"", "a = 'b'", "a"] {
        assert!(hcl::read(text).is_err(), "{text}");
    }
}

#[test]
fn what_a_fleet_needs_is_there() {
    let module = read(&whole());
    let template = &module.block("resource", &["aws_launch_template", "node"]).body;
    assert_eq!(string(attribute(&template.block("metadata_options", &[]).body, "http_tokens")), Some("required"));
    let user_data = attribute(template, "user_data").iter().find_map(|token| match token {
        Token::Text(text, _) => Some(text.as_str()),
        _ => None,
    });
    assert!(user_data.unwrap().lines().any(|line| line == "# clusterctl: cluster=shop"), "{user_data:?}");
    let tags = attribute(&template.block("tag_specifications", &[]).body, "tags");
    for wanted in [tag::ROLE, "node", tag::ORIGIN, tag::FLEET] {
        assert!(tags.iter().any(|token| matches!(token, Token::Text(text, _) if text == wanted)), "{wanted}");
    }
    assert!(!text(&whole()).contains(&format!("\"{}\"", tag::HOST)), "a node of a fleet has no name of its own");
    let group = &module.block("resource", &["aws_autoscaling_group", "nodes"]).body;
    let overrides = &group.block("mixed_instances_policy", &[]).body.block("launch_template", &[]).body;
    assert_eq!(overrides.blocks.iter().filter(|block| block.kind == "override").count(), 2);
    // Every rule of the two groups, as `up` makes them.
    let ProviderSpec::Ec2(ec2) = &whole().provider else { unreachable!() };
    let rules = ports::rules(&GROUPS.map(str::to_owned), &ec2.ssh_from, &[]).concat();
    let made = module.blocks.iter().filter(|block| block.labels.first().is_some_and(|l| l.ends_with("_ingress_rule")));
    let described: Vec<&str> = made.filter_map(|block| string(attribute(&block.body, "description"))).collect();
    assert_eq!(described, rules.iter().map(|rule| rule.description.as_str()).collect::<Vec<_>>());
}

#[test]
fn names_are_those_that_up_looks_for() {
    let module = read(&whole());
    for (key, name) in GROUPS.iter().zip(ports::group_names(&shop().cluster)) {
        let group = &module.block("resource", &["aws_security_group", key]).body;
        assert_eq!(string(attribute(group, "name")), Some(name.as_str()));
    }
    let locals = &module.block("locals", &[]).body;
    assert_eq!(string(attribute(locals, "identity")), Some("clusterctl-shop-eu-west-1"));
    // Where the region is not known, Terraform works the same name out.
    let cluster = ClusterName::new("a".repeat(40)).unwrap();
    let short = policy::identity_name(&cluster, "ap-southeast-1-and-more");
    let digest = <sha2::Sha256 as sha2::Digest>::digest("ap-southeast-1-and-more");
    assert_eq!(
        short,
        format!("clusterctl-{cluster}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    );
    let small = text(&shop());
    assert!(small.contains("\"clusterctl-shop-${substr(sha256(local.region), 0, 8)}\""), "{small}");
    assert!(small.contains("\"ec2:Region\" = local.region"), "{small}");
}

#[test]
fn a_region_within_a_text_stays_within_it() {
    let written = expression(r#"{"Resource": "arn:aws:ssm:{region}:*:parameter/${x}"}"#);
    assert_eq!(written, "{\n    \"Resource\" = \"arn:aws:ssm:${local.region}:*:parameter/$${x}\"\n  }");
}

#[test]
fn a_spec_is_read_into_it() {
    let spec = spec(
        "[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n[ec2]\nreach = \"private\"\n[ec2.tags]\n\"Größe\" = \"a b\"\n\
         [[service]]\nname = \"web\"\nport = 8080\nmetrics = {}\n",
    );
    let text = text(&spec);
    assert!(text.contains("\"Größe\" = \"a b\"") && text.contains("\"all_tcp_8080_from_server\""), "{text}");
}

proptest! {
    #[test]
    fn any_text_comes_back_as_it_was(texts in proptest::collection::vec(".{0,12}|[$%{}\"\\\\\n\r\t\0a]{0,12}", 1..6)) {
        let values: Vec<Value> = texts.iter().cloned().map(Value::from).collect();
        let line = format!("a = {}\n", super::super::render::hcl_value(&Value::from(values)));
        let body = hcl::read(&line).map_err(|error| TestCaseError::fail(format!("{error}: {line}")))?;
        let back: Vec<String> = body.attributes[0].1.iter().filter_map(|token| match token {
            Token::Text(text, inner) if inner.is_empty() => Some(text.clone()),
            Token::Text(..) => Some("an expression".to_owned()),
            _ => None,
        }).collect();
        prop_assert_eq!(back, texts);
    }

    #[test]
    fn hostile_tags_stay_tags(key in "[$%{}\"\\\\\n =#a]{1,12}", value in "[$%{}\"\\\\\n =#a]{0,12}") {
        let spec = with(|ec2| ec2.tags = BTreeMap::from([(key.clone(), value.clone())]));
        let text = text(&spec);
        let module = hcl::read(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(schema::mistakes(&module), Vec::<String>::new());
        let tags = attribute(&module.block("variable", &["tags"]).body, "default");
        let wanted = [Token::Sign('{'), Token::Text(key, vec![]), Token::Sign('='), Token::Text(value, vec![]), Token::Sign('}')];
        prop_assert_eq!(tags, &wanted[..]);
    }
}
