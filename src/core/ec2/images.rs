//! AMIs by name: distributions and their SSM parameters, and who can log in to what.
//!
//! The parameters are public ones that each distribution keeps at its newest AMI:
//! * Debian: <https://wiki.debian.org/Cloud/AmazonEC2Image>, `/aws/service/debian/release/<n>/latest/<arch>`
//! * Ubuntu: <https://documentation.ubuntu.com/aws/en/latest/aws-how-to/instances/find-ubuntu-images/>: the
//!   volume is `ebs-gp2` up to 23.04 and `ebs-gp3` from 23.10 on
//! * Amazon Linux: <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html>
//!
//! Login users: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/managing-users.html>.

use crate::core::names::nearest;
use crate::model::ec2::Image;

/// A distribution that a spec may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    pub name: &'static str,
    /// Its SSM parameter on x86_64.
    x86_64: &'static str,
    /// On arm64.
    arm64: &'static str,
    pub user: &'static str,
}

pub const DISTRIBUTIONS: [Distribution; 5] = [
    Distribution {
        name: "debian-12",
        x86_64: "/aws/service/debian/release/12/latest/amd64",
        arm64: "/aws/service/debian/release/12/latest/arm64",
        user: "admin",
    },
    Distribution {
        name: "debian-13",
        x86_64: "/aws/service/debian/release/13/latest/amd64",
        arm64: "/aws/service/debian/release/13/latest/arm64",
        user: "admin",
    },
    Distribution {
        name: "ubuntu-22.04",
        x86_64: "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
        arm64: "/aws/service/canonical/ubuntu/server/22.04/stable/current/arm64/hvm/ebs-gp2/ami-id",
        user: "ubuntu",
    },
    Distribution {
        name: "ubuntu-24.04",
        x86_64: "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        arm64: "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id",
        user: "ubuntu",
    },
    Distribution {
        name: "amazon-linux-2023",
        x86_64: "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        arm64: "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
        user: "ec2-user",
    },
];

/// The one that is taken where a spec names none.
pub const DEFAULT: &str = "debian-12";

/// The SSM parameter of a distribution, for an architecture in EC2's words (`x86_64`, `arm64`).
pub fn parameter(distribution: &str, architecture: &str) -> Option<String> {
    let found = DISTRIBUTIONS.iter().find(|known| known.name == distribution)?;
    match architecture {
        "x86_64" => Some(found.x86_64.to_owned()),
        "arm64" => Some(found.arm64.to_owned()),
        _ => None,
    }
}

/// What a spec says as `ami`.
///
/// # Errors
/// What is wrong with it and what could be meant, in one sentence.
pub fn parse(text: &str) -> Result<Image, String> {
    let shown = text.chars().take(80).collect::<String>().escape_debug().to_string();
    if let Some(digits) = text.strip_prefix("ami-") {
        return if is_id(digits) {
            Ok(Image::Id(text.to_owned()))
        } else {
            Err(format!("\"{shown}\" is no AMI's id: \"ami-\" and 8 or 17 of 0-9 and a-f"))
        };
    }
    if let Some(bare) = ["resolve:ssm:", "ssm:"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
        let bare = bare.chars().take(80).collect::<String>();
        return Err(format!("write the SSM parameter by itself: \"{}\"", bare.escape_debug()));
    }
    if text.starts_with('/') {
        return if is_parameter(text) {
            Ok(Image::Parameter(text.to_owned()))
        } else {
            Err(format!("\"{shown}\" is no SSM parameter's name: a-z, A-Z, 0-9, '.', '_', '-', and '/' between parts"))
        };
    }
    let names = || DISTRIBUTIONS.iter().map(|known| known.name);
    if names().any(|name| name == text) {
        return Ok(Image::Distribution(text.to_owned()));
    }
    let lower = text.to_lowercase().replace([' ', '_'], "-");
    Err(match nearest(&lower, names()) {
        Some(near) => format!("no image is named \"{shown}\": did you mean \"{near}\"?"),
        None => format!(
            "no image is named \"{shown}\": there are {}, an AMI's id (\"ami-…\") and an SSM parameter (\"/…\")",
            names().collect::<Vec<_>>().join(", ")
        ),
    })
}

/// The digits of an EC2 id: 8 in old ones, 17 since 2016.
pub fn is_id(digits: &str) -> bool {
    [8, 17].contains(&digits.len()) && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_parameter(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.len() <= 1011 && name[1..].split('/').all(|part| !part.is_empty() && part.bytes().all(fine))
}

/// What an image's name holds, in small letters, and who logs in to such an image.
const USERS: [(&str, &str); 17] = [
    ("debian", "admin"),
    ("ubuntu", "ubuntu"),
    ("amazon-linux", "ec2-user"),
    ("al2023", "ec2-user"),
    ("amzn", "ec2-user"),
    ("rhel", "ec2-user"),
    ("suse", "ec2-user"),
    ("almalinux", "ec2-user"),
    ("centos", "centos"),
    ("fedora", "fedora"),
    ("rocky", "rocky"),
    ("bitnami", "bitnami"),
    // Owners: Debian, Canonical, Amazon and Red Hat.
    ("136693071363", "admin"),
    ("099720109477", "ubuntu"),
    ("137112412989", "ec2-user"),
    ("amazon", "ec2-user"),
    ("309956199498", "ec2-user"),
];

/// Whom to try, where nothing is known: the most frequent first.
const ANYBODY: [&str; 8] = ["admin", "ubuntu", "ec2-user", "centos", "fedora", "rocky", "bitnami", "root"];

/// Who may be able to log in, best guess first, by the image's name (or a distribution's) and its owner (an
/// account's number or an alias).
pub fn login_users(image_name: Option<&str>, owner: Option<&str>) -> Vec<String> {
    let name = image_name.unwrap_or_default().to_lowercase();
    let by_name = USERS.iter().filter(|(word, _)| name.contains(word)).map(|(_, user)| *user);
    let by_owner = USERS.iter().filter(|(word, _)| owner == Some(*word)).map(|(_, user)| *user);
    let mut users: Vec<String> = Vec::new();
    for user in by_name.chain(by_owner).chain(ANYBODY) {
        if !users.iter().any(|known| known == user) {
            users.push(user.to_owned());
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_spec_may_say() {
        for (text, image) in [
            ("ami-0abcdef1234567890", Image::Id("ami-0abcdef1234567890".to_owned())),
            ("ami-1a2b3c4d", Image::Id("ami-1a2b3c4d".to_owned())),
            ("debian-12", Image::Distribution("debian-12".to_owned())),
            ("amazon-linux-2023", Image::Distribution("amazon-linux-2023".to_owned())),
            ("/golden/ami", Image::Parameter("/golden/ami".to_owned())),
            (
                "/aws/service/debian/release/12/latest/amd64",
                Image::Parameter("/aws/service/debian/release/12/latest/amd64".to_owned()),
            ),
        ] {
            assert_eq!(parse(text), Ok(image), "{text}");
        }
    }

    #[test]
    fn what_it_may_not_say_comes_back_with_the_cure() {
        let cases = ["debain-12", "Debian 12", "ubuntu-24.4", "windows", "", "ami-12", "ami-0ABCDEF1234567890"];
        let more = ["resolve:ssm:/a/b", "/a//b", "/a/", "/a b", "x\u{1b}[2J", "golden"];
        let shown: Vec<String> =
            cases.iter().chain(&more).map(|text| format!("{text:?}: {}", parse(text).unwrap_err())).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn each_distribution_has_a_parameter_for_both_architectures() {
        for known in DISTRIBUTIONS {
            assert_eq!(parse(known.name), Ok(Image::Distribution(known.name.to_owned())));
            for architecture in ["x86_64", "arm64"] {
                let parameter = parameter(known.name, architecture).unwrap();
                assert_eq!(parse(&parameter), Ok(Image::Parameter(parameter.clone())));
            }
            assert_ne!(known.x86_64, known.arm64);
            assert_eq!(login_users(Some(known.name), None)[0], known.user);
        }
        assert!(DISTRIBUTIONS.iter().any(|known| known.name == DEFAULT));
        assert_eq!(parameter("debian-12", "i386"), None);
        assert_eq!(parameter("debian-1", "arm64"), None);
    }

    #[test]
    fn the_best_guess_comes_first_and_nobody_twice() {
        for (name, owner, user) in [
            (Some("debian-12-amd64-20240717-1811"), None, "admin"),
            (Some("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20240701"), None, "ubuntu"),
            (Some("al2023-ami-2023.5.20240701.0-kernel-6.1-x86_64"), Some("amazon"), "ec2-user"),
            (Some("amzn2-ami-kernel-5.10-hvm-2.0.20240620.0-x86_64-gp2"), None, "ec2-user"),
            (Some("RHEL-9.4.0_HVM-20240605-x86_64-82-Hourly2-GP3"), None, "ec2-user"),
            (Some("CentOS Stream 9 x86_64 20240701"), None, "centos"),
            (Some("Fedora-Cloud-Base-40-1.14.x86_64-hvm-us-east-1-gp3-0"), None, "fedora"),
            (Some("Rocky-9-EC2-Base-9.4-20240523.0.x86_64"), None, "rocky"),
            (Some("golden"), Some("099720109477"), "ubuntu"),
            (Some("golden"), Some("self"), "admin"),
            (None, None, "admin"),
        ] {
            let users = login_users(name, owner);
            assert_eq!(users[0], user, "{name:?}");
            let mut once = users.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), users.len());
            assert!(ANYBODY.iter().all(|known| users.iter().any(|user| user == known)));
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}|(ami-|/|ssm:)?[a-f0-9/.A-Z -]{0,30}") {
            match parse(&text) {
                Ok(Image::Id(id) | Image::Parameter(id) | Image::Distribution(id)) => prop_assert_eq!(id, text),
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(error) => prop_assert!(!error.chars().any(char::is_control)),
            }
        }
    }
}
