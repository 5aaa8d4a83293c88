//! What happens while a command runs. Bars, plain lines, JSON lines and the log file all show this one
//! stream; nothing below `ui` prints.

use std::sync::Arc;

use serde::Serialize;

use super::artifact::ArtifactId;
use super::file::{HostPath, Reaction, UnitName};
use super::name::HostName;

/// The flow of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Prepare,
    Launch,
    Observe,
    Plan,
    Apply,
    Verify,
    Remove,
}

/// What a host (or the command itself) is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Doing {
    /// Building the sandbox's base tree; `part` is what the builder says it is at.
    BuildBase {
        part: String,
    },
    FetchArtifact {
        artifact: ArtifactId,
    },
    /// Making or mending what hosts need around them: a security group, a role.
    Prepare {
        what: String,
    },
    Launch,
    Boot,
    /// Waiting until the console tells the host's SSH keys.
    HostKeys,
    Connect {
        attempt: u32,
        last: Option<String>,
    },
    ReadFacts,
    /// Sending `bytes` bytes of files.
    Send {
        bytes: u64,
    },
    Write {
        path: HostPath,
    },
    RemoveFile {
        path: HostPath,
    },
    Check {
        title: String,
    },
    Unit {
        unit: UnitName,
        verb: UnitVerb,
    },
    /// Waiting until Consul lists the host alive.
    JoinConsul,
    /// Waiting until Prometheus has scraped the host.
    Scrape,
    Run {
        command: String,
    },
    Terminate,
    /// Clearing what belongs to one machine from a host that becomes an image.
    Clear,
    /// Making an image of the host's disk.
    Seal,
    CopyImage {
        region: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitVerb {
    Enable,
    Start,
    Stop,
    Reload,
    Restart,
}

impl From<Reaction> for UnitVerb {
    fn from(r: Reaction) -> Self {
        match r {
            Reaction::Reload => Self::Reload,
            Reaction::Restart => Self::Restart,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    Phase {
        phase: Phase,
    },
    /// The host begins this; what it did before is over.
    Began {
        #[serde(flatten)]
        doing: Doing,
    },
    /// Bytes of the running step.
    Progress {
        done: u64,
        total: u64,
    },
    /// Bytes of one of several downloads that run side by side.
    Fetched {
        artifact: ArtifactId,
        done: u64,
        total: u64,
    },
    /// The running step ended well. `changed`: it changed something.
    Ended {
        #[serde(flatten)]
        doing: Doing,
        changed: bool,
    },
    /// The host is done with this phase.
    HostDone {
        changes: usize,
    },
    HostFailed {
        step: String,
        message: String,
    },
    Warning {
        message: String,
    },
    Note {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// `None`: it concerns the command as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Takes events as they come, from any thread; must not block for long.
pub trait EventSink: Send + Sync {
    fn emit(&self, event: Event);
}

/// A sink that many hosts share, with the few calls that make events.
#[derive(Clone)]
pub struct Events(Arc<dyn EventSink>);

impl Events {
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self(sink)
    }

    /// For what nobody watches: tests, and commands that show nothing while they run.
    pub fn silent() -> Self {
        struct Nowhere;
        impl EventSink for Nowhere {
            fn emit(&self, _: Event) {}
        }
        Self(Arc::new(Nowhere))
    }

    pub fn emit(&self, host: Option<&HostName>, kind: EventKind) {
        self.0.emit(Event { host: host.cloned(), kind });
    }

    pub fn phase(&self, phase: Phase) {
        self.emit(None, EventKind::Phase { phase });
    }

    pub fn began(&self, host: Option<&HostName>, doing: Doing) {
        self.emit(host, EventKind::Began { doing });
    }

    pub fn ended(&self, host: Option<&HostName>, doing: Doing, changed: bool) {
        self.emit(host, EventKind::Ended { doing, changed });
    }

    pub fn progress(&self, host: Option<&HostName>, done: u64, total: u64) {
        self.emit(host, EventKind::Progress { done, total });
    }

    /// Bytes of one artifact; several may be on their way at once.
    pub fn fetched(&self, artifact: &ArtifactId, done: u64, total: u64) {
        self.emit(None, EventKind::Fetched { artifact: artifact.clone(), done, total });
    }

    pub fn warn(&self, host: Option<&HostName>, message: impl Into<String>) {
        self.emit(host, EventKind::Warning { message: message.into() });
    }

    pub fn note(&self, host: Option<&HostName>, message: impl Into<String>) {
        self.emit(host, EventKind::Note { message: message.into() });
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
