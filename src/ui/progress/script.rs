//! Scripted runs for the tests of every reporter: events with the second in which they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use semver::Version;

use super::Clock;
use crate::model::artifact::{Arch, ArtifactId};
use crate::model::event::{Doing, Event, EventKind, EventSink, Phase, UnitVerb};
use crate::model::file::{HostPath, UnitName};
use crate::model::name::HostName;
use crate::model::version::Program;

/// Second `s` of every scripted run.
pub fn at(s: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + s).unwrap()
}

/// A clock that stands where it was set.
#[derive(Clone, Default)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    pub fn set(&self, s: i64) {
        self.0.store(s, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let hand = self.0.clone();
        Arc::new(move || at(hand.load(Ordering::SeqCst)))
    }
}

pub fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

/// An empty name: the command as a whole.
pub fn event(name: &str, kind: EventKind) -> Event {
    Event { host: (!name.is_empty()).then(|| host(name)), kind }
}

pub fn began(name: &str, doing: Doing) -> Event {
    event(name, EventKind::Began { doing })
}

fn ended(name: &str, doing: Doing) -> Event {
    event(name, EventKind::Ended { doing, changed: true })
}

fn phase(phase: Phase) -> Event {
    event("", EventKind::Phase { phase })
}

pub fn consul() -> ArtifactId {
    ArtifactId { program: Program::Consul, version: Version::new(1, 22, 7), arch: Arch::Amd64 }
}

fn prometheus() -> ArtifactId {
    ArtifactId { program: Program::Prometheus, version: Version::new(3, 13, 3), arch: Arch::Amd64 }
}

pub struct Script(pub Vec<(i64, Event)>);

impl Script {
    /// Two downloads side by side and the base build.
    pub fn downloads() -> Self {
        let fetch = |artifact| Doing::FetchArtifact { artifact };
        let got = |artifact, done, total| event("", EventKind::Fetched { artifact, done, total });
        Self(vec![
            (0, phase(Phase::Prepare)),
            (0, began("", Doing::BuildBase { part: "fetching packages".into() })),
            (0, began("", fetch(consul()))),
            (1, began("", fetch(prometheus()))),
            (2, got(consul(), 12_100_000, 35_000_000)),
            (3, got(prometheus(), 5_000_000, 0)),
            (4, ended("", fetch(prometheus()))),
            (5, began("", Doing::BuildBase { part: "unpacking \x1b[2J".into() })),
        ])
    }

    /// Three hosts interleaved: one succeeds, one fails, one is slow.
    pub fn mixed() -> Self {
        let (server, good, bad) = ("dev-server-1", "dev-node-1", "dev-node-2");
        let file = || Doing::Write { path: HostPath::new("/etc/consul.d/agent.hcl").unwrap() };
        let restart = || Doing::Unit { unit: UnitName::new("consul").unwrap(), verb: UnitVerb::Restart };
        let send = || Doing::Send { bytes: 82_100_000 };
        let progress = |done| event(good, EventKind::Progress { done, total: 82_100_000 });
        Self(vec![
            (0, phase(Phase::Apply)),
            (0, began(server, Doing::Connect { attempt: 1, last: None })),
            (0, began(good, send())),
            (1, began(bad, Doing::Check { title: "consul validate".into() })),
            (1, progress(1_000_000)),
            (2, began(server, Doing::Connect { attempt: 2, last: Some("connection \x1b[31mrefused".into()) })),
            (3, event(bad, EventKind::Warning { message: "clock is 3 s ahead".into() })),
            (6, progress(28_000_000)),
            (7, progress(30_000_000)),
            (8, event(bad, EventKind::HostFailed { step: "consul validate".into(), message: "no\nsuch key".into() })),
            (9, ended(good, send())),
            (9, began(good, file())),
            (9, ended(good, file())),
            (10, began(good, restart())),
            (12, ended(good, restart())),
            (12, event(good, EventKind::HostDone { changes: 2 })),
            (13, event("", EventKind::Note { message: "1 of 3 hosts is done".into() })),
        ])
    }
}

/// Plays the script into the reporter that `make` makes, and returns both for what comes after.
pub fn play<S: EventSink>(script: Script, make: impl FnOnce(Clock) -> Arc<S>) -> (Arc<S>, Hand) {
    let hand = Hand::default();
    let sink = make(hand.clock());
    for (second, event) in script.0 {
        hand.set(second);
        sink.emit(event);
    }
    (sink, hand)
}
