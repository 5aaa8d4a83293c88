//! The program that runs as a host's process 1 and starts its services.

use std::fmt;

use semver::Version;
use serde::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    Systemd,
    Upstart(Version),
    /// Neither runs as process 1 (a container, OpenRC, …).
    Other,
}

impl Init {
    /// From a fact's words: `systemd`, `upstart 1.13.2`, or anything else. Upstart's releases have two or three numbers.
    pub fn from_fact(fact: &str) -> Self {
        match fact.split_once(' ') {
            None if fact == "systemd" => Self::Systemd,
            Some(("upstart", version)) => upstart_version(version).map_or(Self::Other, Self::Upstart),
            _ => Self::Other,
        }
    }

    /// The same words back; nothing for one that is not known.
    pub fn to_fact(&self) -> String {
        match self {
            Self::Systemd => "systemd".to_owned(),
            Self::Upstart(version) => format!("upstart {version}"),
            Self::Other => String::new(),
        }
    }
}

fn upstart_version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.').map(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    let patch = match numbers.next() {
        None => 0,
        Some(patch) => patch?,
    };
    numbers.next().is_none().then(|| Version::new(major, minor, patch))
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Systemd => f.write_str("systemd"),
            Self::Upstart(version) => write!(f, "Upstart {version}"),
            Self::Other => f.write_str("another init"),
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_names_the_init_system() {
        for (fact, shown) in [
            ("systemd", "systemd"),
            ("upstart 0.6.5", "Upstart 0.6.5"),
            ("upstart 1.13.2", "Upstart 1.13.2"),
            ("upstart 1.5", "Upstart 1.5.0"),
            ("upstart", "another init"),
            ("upstart 1", "another init"),
            ("upstart 1.x", "another init"),
            ("upstart 1.2.3.4", "another init"),
            ("systemd 252", "another init"),
            ("other", "another init"),
            ("", "another init"),
        ] {
            assert_eq!(Init::from_fact(fact).to_string(), shown, "{fact}");
        }
    }
}
