//! What can go wrong with an artifact, and what to do about it. The message names file or URL and cause;
//! [`ArtifactError::hint`] has the cure.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::core::release::{NAME_EXAMPLES, SumsError, archive_name, archive_path};
use crate::model::artifact::{Arch, ArtifactId, Sha256};

/// `place` is a URL (without user and password) or a file's path.
#[derive(Debug, Error)]
pub enum ArtifactError {
    #[error("{doing} {}", .path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{place} is not what was published: its SHA-256 sum is {got}, expected {expected}")]
    WrongSum { place: String, expected: Sha256, got: Sha256 },
    #[error("{place} cannot be used as a file of sums")]
    BadSums {
        place: String,
        #[source]
        source: SumsError,
    },
    /// Two files of sums beside an archive contradict each other.
    #[error("{} and {} give different sums for {archive}", .first.display(), .second.display())]
    SumsDisagree { archive: String, first: PathBuf, second: PathBuf },
    #[error("{place} is truncated or damaged")]
    Damaged {
        place: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{place} is for another platform: its {executable} is {found}, wanted is a 64-bit Linux program for {wanted}"
    )]
    Foreign { place: String, executable: String, found: String, wanted: Arch },
    #[error("{place} holds no executable named {executable}")]
    Lacks { place: String, executable: String },
    #[error("{place} holds two executables named {executable}")]
    Ambiguous { place: String, executable: String },
    #[error("{place} is larger than the {limit} bytes that {what} may have")]
    TooLarge { place: String, what: &'static str, limit: u64 },
    /// No source has it.
    #[error("{id} could not be had: {}", list(.tried))]
    Unavailable { id: ArtifactId, tried: Vec<Tried> },
    /// Several could not be got, each for its own reason.
    #[error("{} programs could not be got:\n{}", .0.len(), each(.0))]
    Several(Vec<ArtifactError>),
    #[error("{} has no official name of a Linux release", .file.display())]
    UnknownName { file: PathBuf },
    #[error("{} is no regular file", .file.display())]
    NoFile { file: PathBuf },
    #[error("the mirror \"{url}\" is no base URL: {reason}")]
    BadMirror { url: String, reason: String },
    #[error("setting up HTTPS")]
    Http {
        #[source]
        source: reqwest::Error,
    },
    #[error("{id}: given up because the run was interrupted")]
    Cancelled { id: ArtifactId },
    /// Something in this program ended early; the cache is as it was.
    #[error("{id}: the work was cut short")]
    CutShort {
        id: ArtifactId,
        #[source]
        source: tokio::task::JoinError,
    },
}

/// One place where an artifact was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub place: String,
    pub miss: Miss,
}

/// Why a place did not give the artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    Absent,
    /// The published sums do not list it.
    Unlisted,
    /// The server's answer is final.
    Status(u16),
    /// Not reached, or cut off again and again; with the last cause.
    Unreachable(String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match &self.miss {
            Miss::Absent => write!(f, "{place} does not exist"),
            Miss::Unlisted => write!(f, "{place} does not list it"),
            Miss::Status(status) => write!(f, "{place} answered with status {status}"),
            Miss::Unreachable(why) => write!(f, "{place} cannot be reached ({why})"),
        }
    }
}

fn list(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "no source is set".to_owned();
    }
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join("; ")
}

/// A line each, with its causes.
fn each(errors: &[ArtifactError]) -> String {
    let line = |error: &ArtifactError| {
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl ArtifactError {
    /// One error of those that kept several artifacts from being got, if any; an interruption says all there is.
    pub fn of_all(mut errors: Vec<Self>) -> Option<Self> {
        if let Some(at) = errors.iter().position(|error| matches!(error, Self::Cancelled { .. })) {
            return Some(errors.swap_remove(at));
        }
        if errors.len() > 1 { Some(Self::Several(errors)) } else { errors.pop() }
    }

    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// What to do about it, in a sentence; `None` where the message says all there is.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or `clusterctl artifacts prune`".to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "run as the user who owns the cache, or set CLUSTERCTL_CACHE_DIR to a folder of your own".to_owned()
                }
                _ => return None,
            },
            Self::WrongSum { .. } => "it was not used: fetch the archive and its sums anew from a source that you \
                                      trust, and tell whoever runs this one"
                .to_owned(),
            Self::BadSums { .. } => "see what that file holds: a proxy's page instead of the sums, perhaps".to_owned(),
            Self::SumsDisagree { .. } => "remove the wrong one of the two".to_owned(),
            Self::Damaged { .. } => "it was not used: fetch the archive anew".to_owned(),
            Self::Foreign { wanted, .. } => format!("take the archive for linux/{wanted}"),
            Self::Lacks { .. } | Self::Ambiguous { .. } => {
                "take the maker's own archive, unchanged; its layout is known".to_owned()
            }
            Self::TooLarge { .. } => "no release is that large: see what that file is".to_owned(),
            Self::Unavailable { id, tried } => unavailable_hint(&[(id, tried)]),
            Self::Several(errors) => several_hint(errors)?,
            Self::UnknownName { .. } => format!("name the archive as its makers do, such as {NAME_EXAMPLES}"),
            Self::NoFile { .. } => "name the archive itself, as it was downloaded".to_owned(),
            Self::BadMirror { .. } => {
                "give it like https://mirror.example/releases; docs/artifacts.md has the layout below it".to_owned()
            }
            Self::Http { .. } => "see whether the system's certificates (package ca-certificates) are whole".to_owned(),
            Self::Cancelled { .. } => "run it again: what has come so far is kept and resumed".to_owned(),
            Self::CutShort { .. } => return None,
        })
    }
}

/// One cure for those that no source has, then each other one once.
fn several_hint(errors: &[ArtifactError]) -> Option<String> {
    let mut missing: Vec<(&ArtifactId, &[Tried])> = Vec::new();
    let mut cures: Vec<String> = Vec::new();
    for error in errors {
        match error {
            ArtifactError::Unavailable { id, tried } => missing.push((id, tried)),
            other => cures.extend(other.hint().filter(|hint| !cures.contains(hint))),
        }
    }
    if !missing.is_empty() {
        cures.insert(0, unavailable_hint(&missing));
    }
    (!cures.is_empty()).then(|| cures.join("\n"))
}

fn unavailable_hint(missing: &[(&ArtifactId, &[Tried])]) -> String {
    let joined =
        |of: fn(&ArtifactId) -> String, by: &str| missing.iter().map(|(id, _)| of(id)).collect::<Vec<_>>().join(by);
    let mut tried = missing.iter().flat_map(|(_, tried)| tried.iter());
    if tried.any(|tried| matches!(tried.miss, Miss::Unreachable(_) | Miss::Status(_))) {
        let files = if missing.len() == 1 { "that file" } else { "those files" };
        return format!(
            "without a way to the releases: set `artifacts.mirror` (it needs {}) or `artifacts.folder` (it needs {}) in \
             cluster.toml, or bring {files} here and run `clusterctl artifacts import {}`",
            joined(archive_path, ", "),
            joined(archive_name, ", "),
            joined(archive_name, " ")
        );
    }
    let named = |id: &ArtifactId| format!("{} {} was released for linux/{}", id.program, id.version, id.arch);
    format!("see whether {}, or import {}", joined(named, " and "), joined(archive_name, ", "))
}

#[cfg(test)]
mod tests {
    use semver::Version;

    use super::*;
    use crate::model::version::Program;

    fn missing(program: Program) -> ArtifactError {
        let id = ArtifactId { program, version: Version::new(1, 2, 3), arch: Arch::Amd64 };
        let miss = Miss::Unreachable("no route".to_owned());
        ArtifactError::Unavailable { id, tried: vec![Tried { place: "https://x/y".to_owned(), miss }] }
    }

    #[test]
    fn all_that_is_missing_is_named_with_one_cure() {
        let full = || ArtifactError::file("writing", Path::new("/cache/x"))(io::ErrorKind::StorageFull.into());
        let all = vec![missing(Program::Consul), full(), missing(Program::Prometheus), full()];
        let error = ArtifactError::of_all(all).unwrap();
        insta::assert_snapshot!(format!("{error}\n\n{}", error.hint().unwrap()), @"
        4 programs could not be got:
        consul 1.2.3 linux/amd64 could not be had: https://x/y cannot be reached (no route)
        writing /cache/x: no storage space
        prometheus 1.2.3 linux/amd64 could not be had: https://x/y cannot be reached (no route)
        writing /cache/x: no storage space

        without a way to the releases: set `artifacts.mirror` (it needs consul/1.2.3/consul_1.2.3_linux_amd64.zip, prometheus/prometheus/releases/download/v1.2.3/prometheus-1.2.3.linux-amd64.tar.gz) or `artifacts.folder` (it needs consul_1.2.3_linux_amd64.zip, prometheus-1.2.3.linux-amd64.tar.gz) in cluster.toml, or bring those files here and run `clusterctl artifacts import consul_1.2.3_linux_amd64.zip prometheus-1.2.3.linux-amd64.tar.gz`
        free some space, or `clusterctl artifacts prune`
        ");
        assert!(matches!(ArtifactError::of_all(vec![full()]), Some(ArtifactError::File { .. })));
        assert!(ArtifactError::of_all(Vec::new()).is_none());
        let id = ArtifactId { program: Program::Consul, version: Version::new(1, 2, 3), arch: Arch::Amd64 };
        let ended = ArtifactError::of_all(vec![full(), ArtifactError::Cancelled { id }]);
        assert!(matches!(ended, Some(ArtifactError::Cancelled { .. })));
    }
}
