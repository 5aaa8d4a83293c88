//! What everybody is at right now, gathered from the events. Pure: times come in as arguments.

use std::collections::BTreeMap;
use std::mem::discriminant;

use jiff::Timestamp;

use crate::model::artifact::ArtifactId;
use crate::model::event::{Doing, Event, EventKind, Phase};
use crate::model::name::HostName;

/// Who does something: things of the command itself run side by side too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Base,
    Artifact(ArtifactId),
    Command,
    Host(HostName),
}

impl Who {
    /// Whose step this is.
    fn of(host: Option<&HostName>, doing: &Doing) -> Self {
        match (host, doing) {
            (Some(host), _) => Self::Host(host.clone()),
            (None, Doing::BuildBase { .. }) => Self::Base,
            (None, Doing::FetchArtifact { artifact }) => Self::Artifact(artifact.clone()),
            (None, _) => Self::Command,
        }
    }

    pub const fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub doing: Doing,
    pub since: Timestamp,
    /// Done and total.
    pub bytes: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Running(Step),
    /// Between two steps, since then.
    Idle(Timestamp),
    Done,
    Failed {
        step: String,
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub state: State,
    /// Over all phases.
    pub changes: usize,
}

/// How many hosts are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub hosts: usize,
    pub busy: usize,
    pub done: usize,
    pub failed: usize,
}

#[derive(Debug, Default)]
pub struct Board {
    pub phase: Option<Phase>,
    pub begin: Option<Timestamp>,
    pub lanes: BTreeMap<Who, Lane>,
}

impl Board {
    /// Takes the event in and says whom it concerned, and the step that it ended, if any.
    pub fn take(&mut self, event: &Event, now: Timestamp) -> (Option<Who>, Option<Step>) {
        self.begin.get_or_insert(now);
        let host = event.host.as_ref();
        match &event.kind {
            EventKind::Phase { phase } => {
                self.phase = Some(*phase);
                (None, None)
            }
            EventKind::Began { doing } => {
                let who = Who::of(host, doing);
                self.begin_step(who.clone(), doing, now);
                (Some(who), None)
            }
            EventKind::Progress { done, total } => (self.progress(host, (*done, *total)), None),
            EventKind::Fetched { artifact, done, total } => {
                let who = Who::Artifact(artifact.clone());
                if !matches!(self.lanes.get(&who), Some(Lane { state: State::Running(_), .. })) {
                    self.begin_step(who.clone(), &Doing::FetchArtifact { artifact: artifact.clone() }, now);
                }
                self.set_bytes(&who, (*done, *total));
                (Some(who), None)
            }
            EventKind::Ended { doing, .. } => {
                let who = Who::of(host, doing);
                let ended = self.settle(&who, if host.is_some() { State::Idle(now) } else { State::Done });
                (Some(who), ended)
            }
            EventKind::HostDone { changes } => {
                let who = host.map(|h| Who::Host(h.clone()));
                let ended = who.as_ref().and_then(|who| {
                    let ended = self.settle(who, State::Done);
                    self.lane(who.clone()).changes += changes;
                    ended
                });
                (who, ended)
            }
            EventKind::HostFailed { step, message } => {
                let who = host.map(|h| Who::Host(h.clone()));
                let failed = State::Failed { step: step.clone(), message: message.clone() };
                let ended = who.as_ref().and_then(|who| self.settle(who, failed));
                (who, ended)
            }
            EventKind::Warning { .. } | EventKind::Note { .. } => (host.map(|h| Who::Host(h.clone())), None),
        }
    }

    fn lane(&mut self, who: Who) -> &mut Lane {
        self.lanes.entry(who).or_insert(Lane { state: State::Done, changes: 0 })
    }

    fn begin_step(&mut self, who: Who, doing: &Doing, now: Timestamp) {
        let lane = self.lane(who);
        // The next part or attempt of the same step does not make it young again.
        let since = match &lane.state {
            State::Running(step) if discriminant(&step.doing) == discriminant(doing) && in_parts(doing) => step.since,
            _ => now,
        };
        lane.state = State::Running(Step { doing: doing.clone(), since, bytes: None });
    }

    fn settle(&mut self, who: &Who, state: State) -> Option<Step> {
        let lane = self.lane(who.clone());
        match std::mem::replace(&mut lane.state, state) {
            State::Running(step) => Some(step),
            _ => None,
        }
    }

    /// Bytes without an artifact's name belong to the host, or to the command's youngest step.
    fn progress(&mut self, host: Option<&HostName>, bytes: (u64, u64)) -> Option<Who> {
        let who = match host {
            Some(host) => Who::Host(host.clone()),
            None => self.running().filter(|(who, _)| !who.is_host()).max_by_key(|(_, step)| step.since)?.0.clone(),
        };
        self.set_bytes(&who, bytes);
        Some(who)
    }

    fn set_bytes(&mut self, who: &Who, bytes: (u64, u64)) {
        if let Some(Lane { state: State::Running(step), .. }) = self.lanes.get_mut(who) {
            step.bytes = Some(bytes);
        }
    }

    /// All running steps, those of the command first.
    pub fn running(&self) -> impl Iterator<Item = (&Who, &Step)> {
        self.lanes.iter().filter_map(|(who, lane)| match &lane.state {
            State::Running(step) => Some((who, step)),
            _ => None,
        })
    }

    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &Lane)> {
        self.lanes.iter().filter_map(|(who, lane)| match who {
            Who::Host(host) => Some((host, lane)),
            _ => None,
        })
    }

    pub fn counts(&self) -> Counts {
        self.hosts().fold(Counts::default(), |mut counts, (_, lane)| {
            counts.hosts += 1;
            match lane.state {
                State::Running(_) | State::Idle(_) => counts.busy += 1,
                State::Done => counts.done += 1,
                State::Failed { .. } => counts.failed += 1,
            }
            counts
        })
    }
}

/// Is this a step that begins anew for each of its parts or attempts?
const fn in_parts(doing: &Doing) -> bool {
    matches!(doing, Doing::BuildBase { .. } | Doing::Connect { .. })
}

#[cfg(test)]
mod tests {
    use super::super::script::{at, began, event, host};
    use super::*;

    #[test]
    fn attempts_keep_the_age_and_new_steps_do_not() {
        let mut board = Board::default();
        let age = |board: &Board| board.running().next().map(|(_, step)| step.since);
        for (second, attempt) in [(1, 1), (4, 2)] {
            board.take(&began("a", Doing::Connect { attempt, last: None }), at(second));
        }
        assert_eq!(age(&board), Some(at(1)));
        board.take(&began("a", Doing::ReadFacts), at(9));
        assert_eq!(age(&board), Some(at(9)));
    }

    #[test]
    fn changes_add_up_over_the_phases() {
        let mut board = Board::default();
        for changes in [0, 12, 0] {
            board.take(&event("a", EventKind::HostDone { changes }), at(1));
        }
        board.take(&event("b", EventKind::HostFailed { step: "send".into(), message: "gone".into() }), at(2));
        assert_eq!(board.lanes[&Who::Host(host("a"))].changes, 12);
        assert_eq!(board.counts(), Counts { hosts: 2, busy: 0, done: 1, failed: 1 });
    }

    #[test]
    fn bytes_for_nobody_are_dropped() {
        let mut board = Board::default();
        assert_eq!(board.take(&Event { host: None, kind: EventKind::Progress { done: 1, total: 2 } }, at(1)).0, None);
        board.take(&event("a", EventKind::Progress { done: 1, total: 2 }), at(1));
        assert_eq!(board.running().count(), 0);
    }
}
