//! `[fleet]`: nodes that an Auto Scaling group launches from an image.

use std::ops::RangeInclusive;

use super::Provider;
use super::ec2::is_instance_type;
use super::mistakes::Span;
use super::section::{At, Section};
use crate::core::ec2::images::is_id;
use crate::model::spec::FleetSpec;

/// How many members a group may have here: EC2 lists that many in one page.
const SIZES: RangeInclusive<u16> = 0..=1000;
/// EC2 takes at most so many types in a group's policy.
const TYPES: usize = 40;

/// Where the table stands in the file, there is a fleet.
pub(super) fn read(file: &Section<'_>, provider: Option<Provider>) -> Option<FleetSpec> {
    let section = file.section("fleet", "[fleet]");
    let default = FleetSpec::default();
    let number = |key, range, example| section.integer(key, range, example);
    let (size, min, max) = (number("size", SIZES, "10"), number("min", SIZES, "0"), number("max", SIZES, "100"));
    bounds(&section, size.as_ref(), min.as_ref(), max.as_ref());
    let value = |given: Option<At<u16>>, default: u16| given.map_or(default, |given| given.value);
    let min = value(min, default.min);
    let percent =
        |given: Option<At<u16>>, default: u8| given.and_then(|given| u8::try_from(given.value).ok()).unwrap_or(default);
    let fleet = FleetSpec {
        size: value(size, default.size.max(min)),
        min,
        max: value(max, default.max),
        image: image(&section),
        instance_types: instance_types(&section),
        on_demand: value(number("on_demand", SIZES, "2"), default.on_demand),
        spot_percent: percent(number("spot_percent", 0..=100, "80"), default.spot_percent),
        min_healthy: percent(number("min_healthy", 1..=99, "90"), default.min_healthy),
        made_elsewhere: made_elsewhere(&section),
    };
    section.refuse_unknown();
    if !section.is_there() {
        return None;
    }
    if provider.is_some_and(|provider| provider != Provider::Ec2) {
        let cure = "take it out, or say provider = \"ec2\": there an Auto Scaling group keeps the fleet";
        section.sink.add(&section.at, "only provider = \"ec2\" has fleets", cure);
    }
    Some(fleet)
}

/// Who makes the group: clusterctl, or Terraform by the module that `render --format terraform` writes.
fn made_elsewhere(section: &Section<'_>) -> bool {
    let Some(given) = section.text("made_by", "terraform") else { return false };
    match given.value.as_str() {
        "clusterctl" => false,
        "terraform" => true,
        other => {
            let message = format!("made_by in [fleet] cannot be \"{}\"", other.escape_debug());
            section.sink.add(&given.at, message, "there are \"clusterctl\" and \"terraform\"");
            false
        }
    }
}

/// min <= size <= max, as far as they are given.
fn bounds(section: &Section<'_>, size: Option<&At<u16>>, min: Option<&At<u16>>, max: Option<&At<u16>>) {
    let wrong = |at: &Span, message: String, cure: &str| section.sink.add(at, message, cure);
    match (min, max) {
        (Some(min), Some(max)) if min.value > max.value => {
            let message = format!("min in [fleet] is {}, and max is {}", min.value, max.value);
            return wrong(&min.at, message, "let min be at most max");
        }
        _ => {}
    }
    let Some(size) = size else { return };
    if let Some(min) = min.filter(|min| size.value < min.value) {
        let message = format!("size in [fleet] is {}, and min is {}", size.value, min.value);
        wrong(&size.at, message, "let size be at least min, or leave it out: then a new fleet begins with min");
    }
    if let Some(max) = max.filter(|max| size.value > max.value) {
        let message = format!("size in [fleet] is {}, and max is {}", size.value, max.value);
        wrong(&size.at, message, "let size be at most max");
    }
}

fn image(section: &Section<'_>) -> Option<String> {
    let given = section.text("image", "ami-0123456789abcdef0")?;
    if given.value.strip_prefix("ami-").is_some_and(is_id) {
        return Some(given.value);
    }
    let cure = "write an AMI's id, such as \"ami-0123456789abcdef0\", or leave it out: then the newest trusted image of \
                `clusterctl ami build` is taken";
    section.sink.add(&given.at, format!("image in [fleet]: \"{}\" is no AMI's id", given.value.escape_debug()), cure);
    None
}

fn instance_types(section: &Section<'_>) -> Vec<String> {
    let given = section.texts("instance_types", "t3.small").unwrap_or_default();
    if let Some(more) = given.get(TYPES) {
        let message = format!("instance_types in [fleet] are {}, and EC2 takes {TYPES}", given.len());
        section.sink.add(&more.at, message, "leave the others out");
    }
    let mut types: Vec<String> = Vec::new();
    for At { value: kind, at } in given {
        if !is_instance_type(&kind) {
            let message = format!("instance_types in [fleet]: \"{}\" is no instance type", kind.escape_debug());
            let cure = "write families and sizes in small letters: instance_types = [\"t3.small\", \"t3a.small\"]";
            section.sink.add(&at, message, cure);
        } else if types.contains(&kind) {
            section.sink.add(&at, format!("{kind} stands twice in instance_types"), "take one of them out");
        } else {
            types.push(kind);
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn spec(more: &str) -> String {
        format!("[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n[ec2]\nssh_from = [\"203.0.113.7\"]\n{more}")
    }

    fn mistakes(text: &str) -> String {
        parse(text, "cluster.toml").expect_err("a mistake").to_string()
    }

    #[test]
    fn a_fleet_is_read() {
        assert_eq!(parse(&spec(""), "f").unwrap().fleet, None);
        assert_eq!(parse(&spec("[fleet]"), "f").unwrap().fleet, Some(FleetSpec::default()));
        let whole = "[fleet]\nsize = 10\nmin = 2\nmax = 200\nimage = \"ami-0123456789abcdef0\"\n\
                     instance_types = [\"t3.small\", \"t3a.small\"]\non_demand = 3\nspot_percent = 80\nmin_healthy = 75";
        let fleet = FleetSpec {
            size: 10,
            min: 2,
            max: 200,
            image: Some("ami-0123456789abcdef0".to_owned()),
            instance_types: vec!["t3.small".to_owned(), "t3a.small".to_owned()],
            on_demand: 3,
            spot_percent: 80,
            min_healthy: 75,
            made_elsewhere: false,
        };
        assert_eq!(parse(&spec(whole), "f").unwrap().fleet, Some(fleet));
        let least = parse(&spec("[fleet]\nmin = 4"), "f").unwrap().fleet.unwrap();
        assert_eq!((least.size, least.min), (4, 4));
    }

    #[test]
    fn mistakes_in_fleets() {
        let cases = [
            ("another provider", "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n[fleet]\nsize = 1".to_owned()),
            ("bounds", spec("[fleet]\nmin = 5\nmax = 2\nsize = 9")),
            ("a size below", spec("[fleet]\nmin = 5\nsize = 2")),
            ("a size above", spec("[fleet]\nmax = 5\nsize = 9")),
            ("too many", spec("[fleet]\nmax = 5000")),
            ("an image", spec("[fleet]\nimage = \"debian-12\"")),
            ("types", spec("[fleet]\ninstance_types = [\"T3\", \"t3.small\", \"t3.small\"]")),
            ("percents", spec("[fleet]\nspot_percent = 101\nmin_healthy = 100")),
            ("an unknown key", spec("[fleet]\ndesired = 3")),
            ("a value", "fleet = 3\n".to_owned() + &spec("")),
        ];
        let all: Vec<String> = cases.iter().map(|(title, text)| format!("## {title}\n{}\n", mistakes(text))).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
