//! The program that runs as process 1 of a host, which decides the form of its units.

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

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Systemd => f.pad("systemd"),
            Self::Upstart(version) => write!(f, "Upstart {version}"),
            Self::Other => f.pad("another init"),
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
