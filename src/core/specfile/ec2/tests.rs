use proptest::prelude::*;

use super::super::*;
use crate::model::ec2::{Ec2Spec, Image, InstanceProfile, Reach};
use crate::model::spec::ProviderSpec;

fn spec(more: &str) -> String {
    format!("[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n{more}")
}

/// A whole `[ec2]`, with `more` in it.
fn ec2(more: &str) -> String {
    spec(&format!("[ec2]\nssh_from = [\"203.0.113.7\"]\n{more}"))
}

fn read(text: &str) -> Ec2Spec {
    match parse(text, "cluster.toml") {
        Ok(Spec { provider: ProviderSpec::Ec2(ec2), .. }) => *ec2,
        Ok(other) => panic!("{other:?}"),
        Err(errors) => panic!("{errors}"),
    }
}

fn all(cases: &[(&str, String)]) -> String {
    let mistakes = |text: &str| match parse(text, "cluster.toml") {
        Ok(spec) => panic!("no mistake was found in:\n{text}\n{spec:#?}"),
        Err(errors) => errors.to_string(),
    };
    cases.iter().map(|(title, text)| format!("## {title}\n{}\n", mistakes(text))).collect::<Vec<_>>().join("\n")
}

#[test]
fn mistakes_of_access() {
    insta::assert_snapshot!(all(&[
        ("no [ec2]", spec("")),
        ("no ssh_from", spec("[ec2]\nnodes = 3\n")),
        ("an empty one", spec("[ec2]\nssh_from = []\n")),
        ("one that is no array", spec("[ec2]\nssh_from = \"203.0.113.7\"\n")),
        (
            "no networks",
            spec("[ec2]\nssh_from = [\"10.1.2.3/8\", \"home\", \"10.0.0.300\", \"fd00::1/64\", \"10.0.0.1/33\", 7]\n")
        ),
        ("a network twice", spec("[ec2]\nssh_from = [\"10.0.0.1\", \"10.0.0.1/32\"]\n")),
        ("a reach mistyped", ec2("reach = \"privat\"")),
        ("no reach", ec2("reach = \"vpn\"")),
        ("no name of a key pair", ec2("key_pair = \"\"")),
        ("an ARN for a profile", ec2("instance_profile = \"arn:aws:iam::123456789012:instance-profile/team/shop\"")),
        ("no profile", ec2("instance_profile = \"a b\"\nprofile = \" \"")),
    ]));
}

#[test]
fn mistakes_of_place_and_size() {
    insta::assert_snapshot!(all(&[
        ("an unknown key", ec2("node = 3")),
        ("numbers", ec2("servers = 2\nnodes = 1001\nspot = \"yes\"")),
        ("a zone for a region", ec2("region = \"eu-west-1a\"")),
        ("no region", ec2("region = \"Ireland\"")),
        ("no instance types", ec2("instance_type = \"T3.small\"\nserver_instance_type = \"t3\"")),
        (
            "no ids",
            ec2("vpc = \"default\"\nsubnets = [\"subnet-12\", \"vpc-0123456789abcdef0\"]\nsecurity_groups = [\"web\"]")
        ),
        ("a subnet twice", ec2("subnets = [\"subnet-0123456789abcdef0\", \"subnet-0123456789abcdef0\"]")),
        ("a root volume", ec2("[ec2.root_volume]\nsize = 0\nkind = \"io2\"\nencrypted = 1\niops = 3")),
        ("a kind mistyped", ec2("root_volume = { kind = \"gp33\" }")),
    ]));
}

#[test]
fn mistakes_of_images_and_tags() {
    let many: String = (0..41).map(|n| format!("t{n} = \"x\"\n")).collect();
    insta::assert_snapshot!(all(&[
        ("images", ec2("ami = \"debain-12\"")),
        ("an AMI's id", ec2("ami = \"ami-xyz\"")),
        ("two images", ec2("ami = \"debian-12\"\nami_name = \"golden-*\"\nami_owner = \"self\"")),
        ("a name without an owner", ec2("ami_name = \"golden-*\"")),
        ("an owner without a name", ec2("ami_owner = \"self\"")),
        ("no owner", ec2("ami_name = \"golden-*\"\nami_owner = \"me\"")),
        ("an owner mistyped", ec2("ami_name = \"\"\nami_owner = \"amazn\"")),
        (
            "tags that are taken",
            ec2("[ec2.tags]\n\"aws:x\" = \"1\"\n\"ClusterCtl:role\" = \"1\"\nName = \"x\"\nConsul-Leader = \"True\"")
        ),
        (
            "tags that AWS refuses",
            ec2(&format!(
                "[ec2.tags]\n\"\" = \"x\"\n\"a*b\" = \"x\"\n\"{}\" = \"x\"\nteam = \"a\\\\b\"\nTeam = \"b\"\nlong = \"{}\"\nn = 1",
                "k".repeat(129),
                "v".repeat(257)
            ))
        ),
        ("too many tags", ec2(&format!("[ec2.tags]\n{many}"))),
    ]));
}

#[test]
fn what_is_of_another_provider() {
    let host = "[[host]]\nname = \"a\"\nrole = \"server\"\naddress = \"10.0.0.1\"\n";
    let of = |provider: &str, more: &str| format!("[cluster]\nname = \"shop\"\nprovider = \"{provider}\"\n{more}");
    insta::assert_snapshot!(all(&[
        ("hosts and a sandbox with ec2", ec2(&format!("[sandbox]\nnodes = 1\n{host}"))),
        ("ec2 with a sandbox", of("sandbox", "[ec2]\nnodes = 1\n")),
        ("ec2 with hosts", of("inventory", &format!("[ec2]\nnodez = 1\n{host}"))),
    ]));
}

#[test]
fn a_small_one_has_the_defaults() {
    insta::assert_debug_snapshot!(read(&ec2("")));
}

#[test]
fn a_whole_one_is_read() {
    insta::assert_debug_snapshot!(read(&spec(
        "[ec2]\nregion = \"us-gov-west-1\"\nprofile = \"shop admin\"\nservers = 3\nnodes = 1000\n\
         instance_type = \"m7i-flex.large\"\nserver_instance_type = \"u-6tb1.112xlarge\"\nami_name = \"golden-*\"\n\
         ami_owner = \"123456789012\"\nvpc = \"vpc-0123abcd\"\nsubnets = [\"subnet-0123456789abcdef0\", \"subnet-0123abcd\"]\n\
         security_groups = [\"sg-0123456789abcdef0\"]\nssh_from = [\"203.0.113.7\", \"10.0.0.0/8\", \"2001:db8::1\", \"fd00::/8\"]\n\
         reach = \"private\"\nkey_pair = \"shop key\"\ninstance_profile = \"none\"\nspot = true\n\
         [ec2.root_volume]\nsize = 40\nkind = \"gp2\"\nencrypted = false\n[ec2.tags]\nteam = \"Läden & Co\"\n\"cost:centre\" = \"\"\n"
    ).replace(" & ", " + ")));
}

#[test]
fn nobody_must_say_ssh_from_who_comes_another_way() {
    assert_eq!(read(&spec("[ec2]\nreach = \"private\"\n")).reach, Reach::Private);
    let own_group = read(&spec("[ec2]\nsecurity_groups = [\"sg-0123456789abcdef0\"]\n"));
    assert!(own_group.ssh_from.is_empty() && own_group.reach == Reach::Public);
}

#[test]
fn images_and_profiles_by_each_name() {
    assert_eq!(read(&ec2("ami = \"ami-0123456789abcdef0\"")).image, Image::Id("ami-0123456789abcdef0".to_owned()));
    assert_eq!(read(&ec2("ami = \"/golden\"")).image, Image::Parameter("/golden".to_owned()));
    assert_eq!(read(&ec2("ami = \"debian-13\"")).image, Image::Distribution("debian-13".to_owned()));
    assert_eq!(read(&ec2("")).profile_of_instances, InstanceProfile::Made);
    let named = read(&ec2("instance_profile = \"team.shop@x\"")).profile_of_instances;
    assert_eq!(named, InstanceProfile::Named("team.shop@x".to_owned()));
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,200}|[\\[\\]a-z=\"'{}#\n\u{0}-\u{1f}.0-9/-]{0,200}") {
        let _ = parse(&ec2(&text), "x").map_err(|errors| errors.to_string());
    }

    /// What is taken is fit for EC2 and for a message, and mistakes are shown without control characters.
    #[test]
    fn values_are_as_ec2_takes_them(key in "\\PC{0,12}", value in "\\PC{0,12}|[\u{0}-\u{ff}]{0,6}", net in "[0-9a-f.:/]{1,20}") {
        let string = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let text = spec(&format!(
            "[ec2]\nssh_from = [{}]\n[ec2.tags]\n{} = {}\n", string(&net), string(&key), string(&value)
        ));
        match parse(&text, "x") {
            Ok(Spec { provider: ProviderSpec::Ec2(ec2), .. }) => {
                prop_assert!(ec2.ssh_from.iter().all(|net| *net == net.trunc()));
                prop_assert_eq!(ec2.tags.get(&key), Some(&value));
                let taken = ["aws:", "clusterctl:"].iter().any(|prefix| key.to_lowercase().starts_with(prefix));
                prop_assert!(!taken && !value.chars().any(char::is_control));
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(errors) => prop_assert!(!errors.to_string().chars().any(|c| c.is_control() && c != '\n')),
        }
    }
}
