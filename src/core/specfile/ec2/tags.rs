//! `[ec2.tags]`: the user's own tags, on all that is made.

use std::collections::BTreeMap;

use super::super::section::{At, Section};
use crate::model::ec2::tag;

/// EC2 takes 50; ours are among them.
const MOST: usize = 40;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

pub(super) fn read(section: &Section<'_>) -> BTreeMap<String, String> {
    let tags = section.section("tags", "[ec2.tags]");
    let mut read: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in tags.entries("\"web\"") {
        for (at, problem, cure) in [key_problem(&key), value_problem(&value)].into_iter().flatten() {
            tags.sink.add(at, problem, cure);
        }
        // EC2 would take both; IAM, whose roles carry them too, does not.
        if let Some(other) = read.keys().find(|other| other.to_lowercase() == key.value.to_lowercase()) {
            let problem = format!("the tags {} and {} differ in letter case only", other, key.value.escape_debug());
            tags.sink.add(&key.at, problem, "IAM takes them for one: take one of them out");
        }
        read.insert(key.value, value.value);
    }
    if read.len() > MOST {
        let message = format!("[ec2.tags] has {} tags, and may have {MOST}", read.len());
        tags.sink.add(
            &tags.at,
            message,
            "AWS takes 50 on a resource, and clusterctl needs some of them: take some out",
        );
    }
    read
}

type Problem<'a> = (&'a super::super::mistakes::Span, String, &'static str);

fn key_problem(key: &At<String>) -> Option<Problem<'_>> {
    let text = key.value.as_str();
    let lower = text.to_lowercase();
    let shown = text.chars().take(40).collect::<String>().escape_debug().to_string();
    let said = |problem: &str, cure| Some((&key.at, format!("the tag \"{shown}\" {problem}"), cure));
    if lower.starts_with("aws:") {
        return said("is AWS' own", "take a name that does not begin with aws:");
    }
    if lower.starts_with("clusterctl:") {
        return said("is clusterctl's own", "take a name that does not begin with clusterctl:");
    }
    if text == tag::NAME {
        return said("is the host's name, which clusterctl sets", "take another name");
    }
    if lower == tag::LEADER {
        return said("would make every host the leader", "take it out: clusterctl sets it on the one that leads");
    }
    if text.is_empty() || text.chars().count() > LONGEST_KEY || !text.chars().all(is_fine) {
        return said("is no tag that AWS takes", "take at most 128 letters, digits, spaces and _ . : / = + - @");
    }
    None
}

fn value_problem(value: &At<String>) -> Option<Problem<'_>> {
    if value.value.chars().count() <= LONGEST_VALUE && value.value.chars().all(is_fine) {
        return None;
    }
    let problem = "this value is none that AWS takes".to_owned();
    Some((&value.at, problem, "take at most 256 letters, digits, spaces and _ . : / = + - @"))
}

/// What both EC2 and IAM take.
fn is_fine(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}
