//! What an image of ours is, as tags of the AMI and of its snapshots, and back.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use semver::Version;

use crate::model::artifact::Sha256;
use crate::model::baked::Label;
use crate::model::ec2::tag;
use crate::model::host::Role;
use crate::model::name::ClusterName;
use crate::model::version::Program;

/// The tags that say it. The name is the AMI's own; `Name` shows it to people.
pub fn tags(label: &Label) -> BTreeMap<String, String> {
    let programs: Vec<String> =
        label.programs.iter().map(|(program, version)| format!("{program}={version}")).collect();
    let tags = [
        (tag::NAME, label.name.clone()),
        (tag::IMAGE_OF, label.cluster.to_string()),
        (tag::ROLE, label.role.to_string()),
        (tag::SERVERS, label.servers.to_string()),
        (tag::PROGRAMS, programs.join(" ")),
        (tag::SPEC, label.spec.clone()),
        (tag::CREATED, label.created.to_string()),
    ];
    let sums = label.sums.iter().map(|(program, sum)| (format!("{}{program}", tag::SHA256), sum.to_string()));
    tags.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(sums).collect()
}

/// The label of the AMI of that name.
///
/// # Errors
/// Which tag is missing or cannot be read.
pub fn read(name: &str, tags: &BTreeMap<String, String>) -> Result<Label, String> {
    let role = match text(tags, tag::ROLE)? {
        "server" => Role::Server,
        "node" => Role::Node,
        other => return Err(unreadable(tag::ROLE, other, "it is \"server\" or \"node\"")),
    };
    Ok(Label {
        name: name.to_owned(),
        cluster: parsed::<ClusterName>(tag::IMAGE_OF, text(tags, tag::IMAGE_OF)?)?,
        role,
        servers: parsed(tag::SERVERS, text(tags, tag::SERVERS)?)?,
        programs: programs(text(tags, tag::PROGRAMS)?)?,
        sums: sums(tags)?,
        spec: text(tags, tag::SPEC)?.to_owned(),
        created: parsed(tag::CREATED, text(tags, tag::CREATED)?)?,
    })
}

fn programs(text: &str) -> Result<BTreeMap<Program, Version>, String> {
    let one = |word: &str| {
        let (program, version) =
            word.split_once('=').ok_or_else(|| unreadable(tag::PROGRAMS, text, "each is PROGRAM=VERSION"))?;
        Ok((parsed(tag::PROGRAMS, program)?, parsed(tag::PROGRAMS, version)?))
    };
    text.split_whitespace().map(one).collect()
}

fn sums(tags: &BTreeMap<String, String>) -> Result<BTreeMap<Program, Sha256>, String> {
    let of = tags.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(tag::SHA256)?, value)));
    of.map(|(key, program, sum)| Ok((parsed(key, program)?, parsed(key, sum)?))).collect()
}

fn text<'a>(tags: &'a BTreeMap<String, String>, key: &str) -> Result<&'a str, String> {
    tags.get(key).map(String::as_str).ok_or_else(|| format!("the tag {key} is missing"))
}

fn parsed<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| unreadable(key, text, &error.to_string()))
}

fn unreadable(key: &str, value: &str, why: &str) -> String {
    format!("the tag {key} cannot be read (\"{}\"): {why}", value.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        let sum = |text: &str| Sha256::of(text.as_bytes());
        Label {
            name: "clusterctl web node 2026-11-26".to_owned(),
            cluster: ClusterName::new("web").unwrap(),
            role: Role::Node,
            servers: 3,
            programs: [(Program::Consul, Version::new(1, 22, 7)), (Program::NodeExporter, Version::new(1, 12, 1))]
                .into(),
            sums: [(Program::Consul, sum("consul")), (Program::NodeExporter, sum("node_exporter"))].into(),
            spec: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            created: "2026-11-26T20:44:41.123456789Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_label_comes_back_from_its_tags() {
        let tags = tags(&label());
        assert_eq!(tags[tag::PROGRAMS], "consul=1.22.7 node_exporter=1.12.1");
        assert_eq!(tags["clusterctl:sha256:node_exporter"], Sha256::of(b"node_exporter").as_str());
        assert!(!tags.contains_key(tag::CLUSTER), "the ground looks for that, and `down` ends what carries it");
        assert_eq!(read(&label().name, &tags), Ok(label()));
        // What others add is theirs.
        let more =
            [("owner", "ops"), (tag::PROVED, "2026-11-26T21:00:00Z"), (tag::NAME, "renamed"), (tag::USER, "admin")];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read(&label().name, &tags.into_iter().chain(more).collect()), Ok(label()));
    }

    /// AWS' limits on tags: 128 and 256 characters, no key beginning with `aws:`, 50 of them.
    #[test]
    fn the_largest_label_fits() {
        let version: Version = "100.100.100-rc.1+enterprise".parse().unwrap();
        let largest = Label {
            name: "n".repeat(128),
            cluster: ClusterName::new("c".repeat(40)).unwrap(),
            role: Role::Server,
            programs: Program::ALL.map(|program| (program, version.clone())).into(),
            sums: Program::ALL.map(|program| (program, Sha256::of(b""))).into(),
            spec: format!("sha256:{}", Sha256::of(b"")),
            ..label()
        };
        let tags = tags(&largest);
        assert!(tags.len() <= 20);
        assert!(tags.iter().all(|(key, value)| key.len() <= 128 && value.len() <= 256), "{tags:?}");
        assert_eq!(read(&largest.name, &tags), Ok(largest));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let with = |key: &str, value: Option<&str>| {
            let mut tags = tags(&label());
            match value {
                Some(value) => tags.insert(key.to_owned(), value.to_owned()),
                None => tags.remove(key),
            };
            read("x", &tags).unwrap_err()
        };
        for key in [tag::IMAGE_OF, tag::ROLE, tag::SERVERS, tag::PROGRAMS, tag::SPEC, tag::CREATED] {
            assert_eq!(with(key, None), format!("the tag {key} is missing"));
        }
        for (key, value) in [
            (tag::IMAGE_OF, "Not A Name"),
            (tag::ROLE, "leader"),
            (tag::SERVERS, "-1"),
            (tag::PROGRAMS, "consul"),
            (tag::PROGRAMS, "consul=latest"),
            (tag::PROGRAMS, "nomad=1.0.0"),
            (tag::CREATED, "yesterday"),
            ("clusterctl:sha256:consul", "00"),
            ("clusterctl:sha256:nomad", "00"),
        ] {
            let said = with(key, Some(value));
            assert!(said.starts_with(&format!("the tag {key} cannot be read")), "{said}");
        }
    }
}
