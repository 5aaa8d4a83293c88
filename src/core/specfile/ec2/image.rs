//! Which image: `ami`, or `ami_name` of `ami_owner`.

use super::super::section::{At, Section};
use crate::core::ec2::images;
use crate::core::names::nearest;
use crate::model::ec2::Image;

/// Owners that are no account's number.
const OWNERS: [&str; 3] = ["self", "amazon", "aws-marketplace"];

pub(super) fn read(section: &Section<'_>) -> Image {
    let ami = section.text("ami", images::DEFAULT);
    let name = section.text("ami_name", "golden-*");
    let owner = section.text("ami_owner", "self");
    let default = || Image::Distribution(images::DEFAULT.to_owned());
    if section.has("ami") && section.has("ami_name") {
        let at = name.as_ref().or(ami.as_ref()).map_or(&section.at, |given| &given.at);
        section.sink.add(at, "ami and ami_name in [ec2] name two images", "keep one of them");
        return default();
    }
    if let (Some(owner), false) = (&owner, section.has("ami_name")) {
        let cure = "add a line: ami_name = \"golden-*\", or take it out";
        section.sink.add(&owner.at, "ami_owner in [ec2] has no meaning without ami_name", cure);
    }
    let name = name.filter(|name| is_pattern(section, name));
    let is_owned = owner.as_ref().is_some_and(|owner| is_owner(section, owner));
    match (ami, name, owner) {
        (Some(ami), ..) => by_ami(section, &ami).unwrap_or_else(default),
        (None, Some(name), Some(owner)) if is_owned => Image::Newest { name: name.value, owner: owner.value },
        (None, Some(name), None) if !section.has("ami_owner") => {
            let cure = "add a line: ami_owner = \"self\", an account's number, or \"amazon\": anybody may publish an image \
                        of that name";
            section.sink.add(&name.at, "ami_name in [ec2] needs ami_owner", cure);
            default()
        }
        _ => default(),
    }
}

fn by_ami(section: &Section<'_>, ami: &At<String>) -> Option<Image> {
    match images::parse(&ami.value) {
        Ok(image) => Some(image),
        Err(problem) => {
            let cure = format!("write for example: ami = \"{}\"", images::DEFAULT);
            section.sink.add(&ami.at, format!("ami in [ec2]: {problem}"), cure);
            None
        }
    }
}

fn is_pattern(section: &Section<'_>, name: &At<String>) -> bool {
    // As EC2 takes names of images, and the two that stand for others in a filter.
    let fine = |c: char| c.is_ascii_alphanumeric() || " ()[]./-'@_*?".contains(c);
    if (1..=128).contains(&name.value.len()) && name.value.chars().all(fine) {
        return true;
    }
    let cure = "write a name with * and ? for what differs: ami_name = \"golden-*\"";
    section.sink.add(&name.at, "ami_name in [ec2] matches no image's name", cure);
    false
}

fn is_owner(section: &Section<'_>, owner: &At<String>) -> bool {
    let text = owner.value.as_str();
    if OWNERS.contains(&text) || (text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())) {
        return true;
    }
    let cure = match nearest(text, OWNERS) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write an account's number, of 12 digits, or one of {}", OWNERS.join(", ")),
    };
    section.sink.add(&owner.at, format!("\"{}\" owns no images", text.escape_debug()), cure);
    false
}
