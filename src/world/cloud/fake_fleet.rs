//! A fleet in memory, for the tests of what stands above.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{CloudError, Fleet};
use crate::model::event::Events;
use crate::model::fleet::{FleetFacts, Lifecycle, Make, Member};
use crate::model::host::{HostId, HostState};
use crate::model::plan::{Reason, ResourceStep};

/// A group whose members are in service with the next look after they were launched.
#[derive(Debug)]
pub struct FakeFleet(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    facts: Option<FleetFacts>,
    launched: usize,
    /// The provider has no room for more members than this.
    room: usize,
    ended: Vec<HostId>,
    sizes: Vec<u16>,
}

fn make(version: i64) -> Make {
    Make { version, mark: Some(format!("mark-{version}")), image: format!("ami-{version}") }
}

impl FakeFleet {
    pub fn new(size: u16) -> Self {
        let facts = FleetFacts {
            name: "clusterctl-shop".to_owned(),
            wanted: size,
            min: 0,
            max: 1000,
            make: Some(make(1)),
            members: Vec::new(),
            trouble: Vec::new(),
        };
        let inner = Inner { facts: Some(facts), launched: 0, room: usize::MAX, ended: Vec::new(), sizes: Vec::new() };
        let fleet = Self(Mutex::new(inner));
        fleet.inner().settle();
        fleet.inner().settle();
        fleet
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on new members are of another make.
    pub fn renew(&self) {
        if let Some(facts) = &mut self.inner().facts {
            facts.make = Some(make(facts.make.as_ref().map_or(0, |make| make.version) + 1));
        }
    }

    /// The provider launches no more than so many members at a time.
    pub fn room(&self, members: usize) {
        self.inner().room = members;
    }

    /// All members that were ended so far, in order.
    pub fn ended(&self) -> Vec<HostId> {
        self.inner().ended.clone()
    }

    /// All sizes that were set.
    pub fn sizes(&self) -> Vec<u16> {
        self.inner().sizes.clone()
    }

    /// The members in service, as they are: it does not count as a look.
    pub fn in_service(&self) -> BTreeSet<HostId> {
        let inner = self.inner();
        let members = inner.facts.iter().flat_map(|facts| &facts.members);
        members.filter(|m| m.lifecycle == Lifecycle::InService).map(|m| m.id.clone()).collect()
    }

    pub fn forget(&self) {
        self.inner().facts = None;
    }
}

impl Inner {
    /// What the provider does between two looks.
    fn settle(&mut self) {
        let Some(facts) = &mut self.facts else { return };
        for member in &mut facts.members {
            (member.lifecycle, member.state) = (Lifecycle::InService, Some(HostState::Running));
        }
        let wanted = usize::from(facts.wanted);
        while facts.members.len() > wanted {
            let member = facts.members.remove(0);
            self.ended.push(member.id);
        }
        while facts.members.len() < wanted.min(self.room) {
            self.launched += 1;
            facts.members.push(Member {
                id: HostId(format!("i-{:03}", self.launched)),
                instance_type: "t3.small".to_owned(),
                zone: "a".to_owned(),
                lifecycle: Lifecycle::Pending,
                healthy: true,
                state: Some(HostState::Pending),
                mark: facts.make.as_ref().and_then(|make| make.mark.clone()),
                launched: Timestamp::from_second(i64::try_from(self.launched).unwrap_or_default()).ok(),
                spot: false,
            });
        }
        facts.trouble = Vec::new();
        if facts.members.len() < wanted {
            facts.trouble.push("EC2 says: there is no room".to_owned());
        }
    }
}

#[async_trait]
impl Fleet for FakeFleet {
    async fn look(&self) -> Result<Option<FleetFacts>, CloudError> {
        let mut inner = self.inner();
        let seen = inner.facts.clone();
        inner.settle();
        Ok(seen)
    }

    async fn survey(&self, size: Option<u16>) -> Result<Vec<ResourceStep>, CloudError> {
        let inner = self.inner();
        let step = |what: String| vec![ResourceStep { what, reason: Reason(String::new()) }];
        Ok(match (&inner.facts, size) {
            (None, _) => step("make the group".to_owned()),
            (Some(facts), Some(size)) if facts.wanted != size => step(format!("set the size to {size}")),
            _ => Vec::new(),
        })
    }

    async fn ensure(&self, size: Option<u16>, _: &Events) -> Result<(), CloudError> {
        match size {
            Some(size) => self.resize(size).await,
            None => Ok(()),
        }
    }

    async fn resize(&self, size: u16) -> Result<(), CloudError> {
        let mut inner = self.inner();
        inner.sizes.push(size);
        if let Some(facts) = &mut inner.facts {
            facts.wanted = size;
        }
        Ok(())
    }

    async fn end(&self, members: &[HostId]) -> Result<(), CloudError> {
        let mut inner = self.inner();
        inner.ended.extend(members.iter().cloned());
        if let Some(facts) = &mut inner.facts {
            facts.members.retain(|member| !members.contains(&member.id));
        }
        Ok(())
    }

    async fn remove(&self) -> Result<Vec<String>, CloudError> {
        Ok(self.inner().facts.take().map(|facts| facts.name).into_iter().collect())
    }
}
