//! Removing: single hosts in good order, or all that a cluster ever had here. What is removed is found on the
//! machine itself, not only in the records, so that a half-made thing goes too.

use std::time::Duration;

use super::state::{BridgeName, HostRecord};
use super::{fitness, mounts, nat, net, nspawn, site};
use crate::model::event::{Doing, Events};
use crate::model::host::HostId;
use crate::world::cloud::{CloudError, Removed};

/// How long a host may take to power off by itself.
const GRACE: Duration = Duration::from_secs(3);

impl site::Site {
    pub fn terminate(&self, ids: &[HostId], events: &Events) -> Result<(), CloudError> {
        if !self.dir().exists() {
            return Ok(());
        }
        let _lock = self.lock(events)?;
        let mut records = self.host_records()?;
        records.retain(|r| ids.contains(&self.id(r)));
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                records.iter().map(|record| scope.spawn(move || self.terminate_one(record, events))).collect();
            threads.into_iter().map(|t| t.join().expect("ending a host does not panic")).collect()
        });
        // Each was tried; one error is told, and a repetition finds the others.
        results.into_iter().collect()
    }

    fn terminate_one(&self, record: &HostRecord, events: &Events) -> Result<(), CloudError> {
        events.began(Some(&record.name), Doing::Terminate);
        let dir = self.host_dir(&record.name);
        nspawn::stop(&dir, Some(record), GRACE)?;
        mounts::remove_tree(dir.path())?;
        events.ended(Some(&record.name), Doing::Terminate, true);
        Ok(())
    }

    pub fn destroy(&self, events: &Events) -> Result<Removed, CloudError> {
        // Also when there is no folder any more: hosts run on without it.
        let lock = self.lock(events)?;
        let dir = self.dir();
        let hosts = self.host_names()?;
        let records = self.host_records()?;
        for name in &hosts {
            events.began(Some(name), Doing::Terminate);
        }
        let mut others = Vec::new();
        // All at once and without grace: nobody is left whom a farewell would serve.
        match nspawn::kill_below(&dir)? {
            0 => {}
            count => others.push(format!("{count} processes")),
        }
        match mounts::unmount_below(&dir)? {
            0 => {}
            count => others.push(format!("{count} mounts")),
        }
        others.extend(self.remove_network(&records)?);
        // What a unit of the machine's systemd started again meanwhile; its unit is stopped now.
        nspawn::kill_below(&dir)?;
        if dir.exists() {
            mounts::remove_tree(&dir)?;
            others.push(format!("folder {}", dir.display()));
        }
        for name in &hosts {
            events.ended(Some(name), Doing::Terminate, true);
        }
        others.extend(self.leave()?);
        lock.remove();
        // Goes only when it is empty, without a base tree.
        let _ = std::fs::remove_dir(&self.root);
        Ok(Removed { hosts, others, kept: Vec::new() })
    }

    fn remove_network(&self, records: &[HostRecord]) -> Result<Vec<String>, CloudError> {
        let mut bridges: Vec<BridgeName> = records.iter().map(|r| r.network.bridge.clone()).collect();
        bridges.extend(self.network(records)?.map(|n| n.bridge));
        let _lock = Self::machine_lock()?;
        let removed = net::remove(&self.dir(), &bridges)?;
        bridges.extend(removed.bridges);
        bridges.sort();
        bridges.dedup();
        for bridge in &bridges {
            nspawn::stop_units(&format!("{}h*", bridge.as_str()))?;
            nspawn::remove_all_traces(bridge);
        }
        Ok(removed.what)
    }

    /// With the last cluster goes what all of them shared, the base tree aside.
    fn leave(&self) -> Result<Vec<String>, CloudError> {
        let lock = Self::machine_lock()?;
        fitness::remove_probe(&self.root)?;
        if net::Machine::look()?.has_clusters() {
            return Ok(Vec::new());
        }
        nspawn::remove_empty_cgroups();
        let closed = nat::close_forwarding(&Self::forwarding_record())?;
        lock.remove();
        Ok(closed)
    }
}
