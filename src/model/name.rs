//! Names, validated as the field that reads them validates them.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name was refused, worded so that it can stand behind the place where the name was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} \"{}\" {problem}", .given.escape_debug())]
pub struct NameError {
    pub kind: &'static str,
    pub given: String,
    pub problem: &'static str,
}

/// What makes `s` no DNS label (RFC 1123: 1 to `max` of a-z, 0-9 and inner hyphens), if anything.
fn label_problem(s: &str, max: usize) -> Option<&'static str> {
    if s.is_empty() {
        return Some("is empty");
    }
    if s.len() > max {
        return Some("is too long");
    }
    if s.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("has upper-case letters: use lower case");
    }
    if !s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some("may only have a-z, 0-9 and '-'");
    }
    if s.starts_with('-') || s.ends_with('-') {
        return Some("may not begin or end with '-'");
    }
    None
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $problem:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`NameError`] with the rule that `given` breaks.
            pub fn new(given: impl Into<String>) -> Result<Self, NameError> {
                let given = given.into();
                let problem: fn(&str) -> Option<&'static str> = $problem;
                match problem(&given) {
                    Some(problem) => Err(NameError { kind: $kind, given, problem }),
                    None => Ok(Self(given)),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0
            }
        }
    };
}

name!(
    /// A cluster's name: a DNS label of at most 40 characters, so that `<cluster>-server-1` is one too.
    ClusterName, "cluster name", |s| label_problem(s, 40)
);
name!(
    /// A host's name, its Consul node name too: a DNS label.
    HostName, "host name", |s| label_problem(s, 63)
);
name!(
    /// A Consul service's name: a DNS label, since Consul serves it as `<name>.service.consul`.
    ServiceName, "service name", |s| label_problem(s, 63)
);
name!(
    /// A Consul datacenter: a-z, 0-9, `-` and `_` (Consul refuses all others when it starts).
    Datacenter, "datacenter", |s| {
        if s.is_empty() {
            Some("is empty")
        } else if s.len() > 63 {
            Some("is too long")
        } else if s.bytes().any(|b| b.is_ascii_uppercase()) {
            Some("has upper-case letters: use lower case")
        } else if !s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
            Some("may only have a-z, 0-9, '-' and '_'")
        } else {
            None
        }
    }
);
