//! Launching: from a name to a host that boots. Every step can be repeated over what a killed run left,
//! in whatever state that is.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::host::{self, HostDir, Surroundings};
use super::net::Machine;
use super::site::Site;
use super::state::{self, ClusterRecord, HostRecord, Network};
use super::{base, file_error, fitness, images, mounts, nat, net, nspawn, subnet};
use crate::model::event::{Doing, Events};
use crate::model::host::Host;
use crate::model::name::ClusterName;
use crate::world::cloud::{CloudError, Launch};

impl Site {
    /// `Launch::lifetime` is not kept: nothing here costs money while it runs, nobody is there to end a host but this
    /// machine, and `down` finds what a killed run left.
    pub fn launch(&self, wanted: &[Launch], events: &Events) -> Vec<Result<Host, CloudError>> {
        let all_failed = |e: CloudError| wanted.iter().map(|_| Err(e.again())).collect();
        // Held until all have begun to boot.
        let _lock = match self.prepare(events).and_then(|()| self.lock(events)) {
            Ok(lock) => lock,
            Err(e) => return all_failed(e),
        };
        match self.ground(wanted, events) {
            Ok(ground) => self.start_all(&ground, wanted, events),
            Err(e) => all_failed(e),
        }
    }

    /// What all hosts stand on: the network, the key, and a record for each name.
    fn ground(&self, wanted: &[Launch], events: &Events) -> Result<Ground, CloudError> {
        let hosts = self.hosts_dir();
        fs::create_dir_all(&hosts).map_err(|e| file_error("making", &hosts, e))?;
        let known = self.host_records()?;
        let (machine, network) = self.make_network(&known, events)?;
        let key = self.client_key();
        if !(key.exists() && host::public_key(&key).is_ok_and(|k| k.starts_with("ssh-ed25519 "))) {
            host::make_key(&key, &format!("clusterctl {}", self.cluster))?;
        }
        let around = Surroundings::look(&base::path(&self.base, base::RECIPE), &key)?;
        let mut addresses = Self::addresses(&known);
        // Until a record says who stands on an image, that image must not go.
        let imaged = wanted.iter().any(|launch| launch.image.is_some());
        let _images = imaged.then(|| images::lock(&self.root, events)).transpose()?;
        let mut records = Vec::new();
        for (place, launch) in wanted.iter().enumerate() {
            let record = match known.iter().find(|r| r.name == launch.name) {
                _ if wanted[..place].iter().any(|earlier| earlier.name == launch.name) => Err(CloudError::Host {
                    host: launch.name.clone(),
                    what: "it is asked for twice".to_owned(),
                    log: None,
                }),
                Some(record) => Ok(record.clone()),
                None => self.new_record(launch, &network, &addresses),
            };
            addresses.extend(record.as_ref().ok().map(|r| r.address));
            records.push(record);
        }
        if let Some(warning) = fitness::crowded(addresses.len()) {
            events.warn(None, warning);
        }
        let servers = servers(&known, &records);
        Ok(Ground { machine, around, records, servers })
    }

    /// The cluster's network, made or made again (a reboot of the machine takes bridges away).
    fn make_network(&self, known: &[HostRecord], events: &Events) -> Result<(Machine, Network), CloudError> {
        let lock = Self::machine_lock()?;
        let machine = Machine::look()?;
        let dir = self.dir();
        let network = match self.network(known)? {
            Some(network) => network,
            None => {
                let others = self.other_networks()?;
                net::choose(&machine, &dir, &others, &host::resolvers()).ok_or_else(|| CloudError::Unfit {
                    missing: "no private /24 network is free on this machine".to_owned(),
                    cure: "remove a cluster or a route that covers all of 10/8, 172.16/12 and 192.168/16".to_owned(),
                })?
            }
        };
        // First the record, then the thing: what is recorded can be removed.
        let record = ClusterRecord { cluster: self.cluster.clone(), network: network.clone() };
        if state::read(&self.cluster_record())?.record() != Some(record.clone()) {
            state::write(&self.cluster_record(), &record)?;
        }
        net::make_bridge(&machine, &network, &dir)?;
        if let Some(warning) = nat::open(&machine, &network, &Self::forwarding_record())? {
            events.warn(None, warning);
        }
        drop(lock);
        Ok((machine, network))
    }

    /// The networks of all other clusters here, whether they are up or not.
    fn other_networks(&self) -> Result<Vec<Network>, CloudError> {
        let clusters: Vec<ClusterName> = super::clusters(&self.root)?;
        let mut networks = Vec::new();
        for cluster in clusters.into_iter().filter(|c| *c != self.cluster) {
            let other = Self::new(cluster, &self.root, self.base.clone());
            networks.extend(other.network(&other.host_records()?)?);
        }
        Ok(networks)
    }

    /// Writes down a new host; what lies at its place without a whole record is the rest of a half-made one.
    fn new_record(&self, launch: &Launch, network: &Network, taken: &[Ipv4Addr]) -> Result<HostRecord, CloudError> {
        let base = match &launch.image {
            Some(image) => images::base_for(&self.root, launch, image)?,
            None => base::RECIPE.to_owned(),
        };
        let dir = self.host_dir(&launch.name);
        nspawn::stop(&dir, None, Duration::ZERO)?;
        mounts::remove_tree(dir.path())?;
        let address = subnet::address(network.subnet, taken).ok_or_else(|| CloudError::Host {
            host: launch.name.clone(),
            what: format!("the cluster's network {} is full", network.subnet),
            log: None,
        })?;
        let record = HostRecord {
            name: launch.name.clone(),
            role: launch.role,
            generation: host::random_hex(4)?,
            address,
            network: network.clone(),
            base,
            image: launch.image.clone(),
            host_key: None,
            process: None,
        };
        fs::create_dir(dir.path()).map_err(|e| file_error("making", dir.path(), e))?;
        state::write(&dir.record(), &record)?;
        Ok(record)
    }

    fn start_all(&self, ground: &Ground, wanted: &[Launch], events: &Events) -> Vec<Result<Host, CloudError>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = wanted
                .iter()
                .zip(&ground.records)
                .map(|(launch, record)| scope.spawn(move || self.start(ground, launch, record, events)))
                .collect();
            threads.into_iter().map(|t| t.join().expect("starting a host does not panic")).collect()
        })
    }

    fn start(
        &self,
        ground: &Ground,
        launch: &Launch,
        record: &Result<HostRecord, CloudError>,
        events: &Events,
    ) -> Result<Host, CloudError> {
        let name = Some(&launch.name);
        let mut record = match record {
            Ok(record) => record.clone(),
            Err(e) => return Err(e.again()),
        };
        if record.host_key.is_some() && self.process(&record).is_some() {
            return Ok(self.host(&record, true));
        }
        events.began(name, Doing::Launch);
        let dir = self.host_dir(&record.name);
        // What an ended nspawn left: its host's processes outlive it when it is killed.
        nspawn::stop(&dir, Some(&record), Duration::ZERO)?;
        if record.host_key.is_none() {
            // Only now: later its files are its own, and its servers have the addresses that they had.
            let boot = record.image.as_ref().map(|_| host::boot(&self.cluster, &record, &ground.servers));
            record.host_key = Some(host::make(&dir, &record, &ground.around, boot.as_deref())?);
            state::write(&dir.record(), &record)?;
        }
        self.mount(&dir, &record)?;
        net::make_port(&ground.machine, &record.network, record.address)?;
        let machine = net::port(&record.network.bridge, record.address);
        record.process = Some(nspawn::start(&dir, &record, &machine)?);
        state::write(&dir.record(), &record)?;
        events.ended(name, Doing::Launch, true);
        Ok(self.host(&record, true))
    }

    fn mount(&self, dir: &HostDir, record: &HostRecord) -> Result<(), CloudError> {
        let lowers = images::lowers(&self.root, &self.base, record);
        if let Some(gone) = lowers.iter().find(|lower| !lower.is_dir()) {
            return Err(CloudError::Host {
                host: record.name.clone(),
                what: format!(
                    "the tree {} that it stands on is gone: remove the host and launch it anew",
                    gone.display()
                ),
                log: None,
            });
        }
        let point = dir.merged();
        fs::create_dir_all(&point)
            .and_then(|()| mounts::overlay(&lowers, &dir.upper(), &dir.work(), &point))
            .map_err(|e| file_error("mounting", &point, e))
    }
}

/// What all hosts of one launch share.
struct Ground {
    machine: Machine,
    around: Surroundings,
    records: Vec<Result<HostRecord, CloudError>>,
    /// The addresses of the cluster's servers, those of this launch included.
    servers: Vec<Ipv4Addr>,
}

fn servers(known: &[HostRecord], launched: &[Result<HostRecord, CloudError>]) -> Vec<Ipv4Addr> {
    let all = known.iter().chain(launched.iter().flatten()).filter(|record| record.role.is_server());
    let mut servers: Vec<Ipv4Addr> = all.map(|record| record.address).collect();
    servers.sort();
    servers.dedup();
    servers
}
