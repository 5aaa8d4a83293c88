//! What is wanted on a host: users, folders, files, units, and the checks that guard them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::artifact::{Executable, Sha256};
use super::name::NameError;

/// An absolute path on a host. Its letters are few on purpose (A-Z a-z 0-9 . _ - @ + /), so that it
/// stands unquoted in any manifest, unit or shell line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPath(String);

impl HostPath {
    /// # Errors
    /// [`NameError`] when `given` is relative, has `.` or `..` or empty parts, or other letters.
    pub fn new(given: impl Into<String>) -> Result<Self, NameError> {
        let given = given.into();
        let problem = if !given.starts_with('/') {
            Some("is not absolute")
        } else if given.len() > 4000 {
            Some("is too long")
        } else if !given.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+/".contains(&b)) {
            Some("may only have A-Z, a-z, 0-9 and . _ - @ + /")
        } else if given[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            Some("has an empty, '.' or '..' part")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(NameError { kind: "path", given, problem }),
            None => Ok(Self(given)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is this `folder` itself or below it?
    pub fn is_within(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for HostPath {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl From<HostPath> for String {
    fn from(p: HostPath) -> String {
        p.0
    }
}

/// A service unit's name without its suffix: `consul`, `prometheus`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// # Errors
    /// [`NameError`] when `given` has other letters than a-z, 0-9, `-` and `_`, or is empty.
    pub fn new(given: impl Into<String>) -> Result<Self, NameError> {
        let given = given.into();
        let fine = !given.is_empty()
            && given.len() <= 100
            && !given.starts_with('-')
            && given.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if fine {
            Ok(Self(given))
        } else {
            Err(NameError {
                kind: "unit name",
                given,
                problem: "may only have a-z, 0-9, '-' and '_', and must have one",
            })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for UnitName {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl From<UnitName> for String {
    fn from(u: UnitName) -> String {
        u.0
    }
}

/// What a unit does when a file that it depends on has changed. A restart includes a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    Reload,
    Restart,
}

impl Reaction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}

/// Where a managed file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSource {
    Text(String),
    Executable(Executable),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManagedFile {
    pub path: HostPath,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub source: FileSource,
    /// The units that depend on it, and what a change does to each.
    pub reactions: Vec<(UnitName, Reaction)>,
    /// Its content is never shown, logged or fetched.
    pub secret: bool,
    /// Written only where nothing stands, and where the program that reads it becomes another version: otherwise
    /// another program writes it.
    pub seed: bool,
}

impl ManagedFile {
    pub fn sha256(&self) -> Sha256 {
        match &self.source {
            FileSource::Text(text) => Sha256::of(text.as_bytes()),
            FileSource::Executable(executable) => executable.sha256.clone(),
        }
    }

    /// In bytes, as it stands on the host.
    pub fn size(&self) -> u64 {
        match &self.source {
            FileSource::Text(text) => text.len() as u64,
            FileSource::Executable(executable) => executable.size,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManagedDir {
    pub path: HostPath,
    pub mode: u32,
    pub owner: String,
    pub group: String,
}

/// An unprivileged system user, with a group of the same name, no login and no password.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SystemUser {
    pub name: String,
    pub home: HostPath,
}

/// One word of a check's command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Plain(String),
    /// A path inside the shadow tree, where the files stand as they will after activation.
    Shadow(HostPath),
    /// An executable: the new one if this run brings one, else the one installed.
    Program(HostPath),
}

/// A program's own check of its files, run on the host before anything is activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked, for people: `consul validate`.
    pub title: String,
    /// The check runs when a file at or below one of these paths, or its program, changes;
    /// these paths are what the shadow tree holds.
    pub covers: Vec<HostPath>,
    pub argv: Vec<Word>,
    /// A line of its output with one of these is shown as a warning, though the program accepts the file.
    pub complaints: Vec<String>,
}

/// All that is wanted on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Wanted {
    pub users: Vec<SystemUser>,
    /// Parents before children.
    pub dirs: Vec<ManagedDir>,
    pub files: Vec<ManagedFile>,
    pub checks: Vec<Check>,
    /// In the order in which they are started; all enabled and running.
    pub units: Vec<UnitName>,
}
