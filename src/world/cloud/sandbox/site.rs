//! One cluster's place on the machine: its folders, its records, and what can be said of its hosts.
//! How they come to be stands in `launch`, how they go in `removal`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::host::HostDir;
use super::lock::Lock;
use super::process::Mark;
use super::state::{self, ClusterRecord, Found, HostRecord, Network};
use super::{base, file_error, fitness, images, nspawn};
use crate::model::ec2::tag;
use crate::model::event::Events;
use crate::model::host::{Host, HostId, HostState, Role, SshTarget};
use crate::model::name::{ClusterName, HostName};
use crate::model::report::Finding;
use crate::world::cloud::CloudError;

/// What is the machine's rather than one root folder's: its network. Gone after a reboot, as the network is.
const MACHINE: &str = "/run/clusterctl-sandbox";

pub const CLUSTERS: &str = "clusters";

/// Between two looks at a booting host.
const POLL: Duration = Duration::from_millis(20);

/// As long as no process of a host may be seen before it counts as ended.
const REBOOTING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Site {
    pub cluster: ClusterName,
    pub root: PathBuf,
    pub base: PathBuf,
    /// Several images of one build take turns here, and need no word about another clusterctl.
    pub sealing: Mutex<()>,
}

impl Site {
    pub fn new(cluster: ClusterName, root: &Path, base: PathBuf) -> Self {
        Self { cluster, root: root.to_owned(), base, sealing: Mutex::default() }
    }

    pub fn dir(&self) -> PathBuf {
        self.root.join(CLUSTERS).join(self.cluster.as_str())
    }

    pub fn cluster_record(&self) -> PathBuf {
        self.dir().join("cluster.json")
    }

    /// The private key that all hosts of the cluster let in.
    pub fn client_key(&self) -> PathBuf {
        self.dir().join("id_ed25519")
    }

    pub fn hosts_dir(&self) -> PathBuf {
        self.dir().join("hosts")
    }

    pub fn host_dir(&self, name: &HostName) -> HostDir {
        HostDir::new(self.hosts_dir().join(name.as_str()))
    }

    /// Guards what all clusters of the machine share. Taken after a cluster's own lock, never before it.
    pub fn machine_lock() -> Result<Lock, CloudError> {
        Lock::take(&Path::new(MACHINE).join("lock"), || {})
    }

    /// Guards the cluster's own folder, beside which it lies so that it can outlive it.
    pub fn lock(&self, events: &Events) -> Result<Lock, CloudError> {
        let path = self.root.join(CLUSTERS).join(format!(".{}.lock", self.cluster));
        Lock::take(&path, || events.note(None, "waiting for another clusterctl that works on this cluster"))
    }

    /// Where settings of the machine that we changed are written down.
    pub fn forwarding_record() -> PathBuf {
        Path::new(MACHINE).join("forwarding.json")
    }

    pub fn prepare(&self, events: &Events) -> Result<(), CloudError> {
        let lock = Self::machine_lock()?;
        fitness::check(&self.root, base::is_built(&self.base))?;
        drop(lock);
        images::clear_half_made(&self.root, events)?;
        base::ensure(&self.base, events)
    }

    /// Could hosts be launched? Nothing is built for the answer.
    pub fn examine(&self) -> Vec<Finding> {
        let fit = Self::machine_lock().and_then(|lock| {
            let fit = fitness::check(&self.root, base::is_built(&self.base));
            drop(lock);
            fit
        });
        let base = if base::is_built(&self.base) {
            Finding::good("base system", "it is built")
        } else {
            Finding::doubtful("base system", "it is not built yet", "the first `up` builds it, in a minute or two")
        };
        let machine = match fit {
            Ok(()) => Finding::good("machine", "it can run sandbox hosts"),
            Err(error) => Finding::bad("machine", error.to_string(), error.cure().unwrap_or("see the message")),
        };
        vec![machine, base]
    }

    /// All names that have a folder, half-made ones too.
    pub fn host_names(&self) -> Result<Vec<HostName>, CloudError> {
        state::names(&self.hosts_dir())
    }

    /// The record of a host if it is whole and of this name.
    pub fn host_record(&self, name: &HostName) -> Result<Option<HostRecord>, CloudError> {
        let record = state::read::<HostRecord>(&self.host_dir(name).record())?.record();
        let stands = |r: &HostRecord| is_folder_name(&r.base) && r.image.as_ref().is_none_or(images::is_id);
        Ok(record.filter(|r| r.name == *name && r.network.contains_host(r.address) && stands(r)))
    }

    pub fn host_records(&self) -> Result<Vec<HostRecord>, CloudError> {
        let names = self.host_names()?;
        names.iter().filter_map(|name| self.host_record(name).transpose()).collect()
    }

    /// The cluster's network; where its own record is lost, its hosts still know it.
    pub fn network(&self, hosts: &[HostRecord]) -> Result<Option<Network>, CloudError> {
        match state::read::<ClusterRecord>(&self.cluster_record())? {
            Found::Record(record) if record.cluster == self.cluster => Ok(Some(record.network)),
            _ => Ok(hosts.first().map(|h| h.network.clone())),
        }
    }

    /// The running process of a host: the recorded one, or one that a killed `clusterctl` could not record.
    pub fn process(&self, record: &HostRecord) -> Option<Mark> {
        record.process.clone().filter(Mark::is_alive).or_else(|| nspawn::running(&self.host_dir(&record.name)))
    }

    pub fn list(&self) -> Result<Vec<Host>, CloudError> {
        let records = self.host_records()?;
        // Without its host key the host was never started: a launch was cut short and has to be repeated.
        Ok(records.iter().map(|r| self.host(r, self.process(r).is_some())).collect())
    }

    pub fn id(&self, record: &HostRecord) -> HostId {
        HostId(format!("{}/{}/{}", self.cluster, record.name, record.generation))
    }

    pub fn host(&self, record: &HostRecord, is_running: bool) -> Host {
        let mut tags = BTreeMap::from([
            ("clusterctl:cluster".to_owned(), self.cluster.to_string()),
            ("clusterctl:role".to_owned(), record.role.to_string()),
        ]);
        // One leader, however many servers.
        if record.role == Role::Server && record.name.as_str().ends_with("-1") {
            tags.insert("consul-leader".to_owned(), "True".to_owned());
        }
        if let Some(image) = &record.image {
            tags.insert(tag::ORIGIN.to_owned(), tag::IMAGED.to_owned());
            tags.insert(tag::IMAGE.to_owned(), image.to_string());
        }
        Host {
            id: self.id(record),
            name: record.name.clone(),
            role: record.role,
            state: if is_running { HostState::Running } else { HostState::Stopped },
            private_address: Some(IpAddr::V4(record.address)),
            ssh: SshTarget {
                host: record.address.to_string(),
                port: Some(22),
                user: Some("root".to_owned()),
                key: Some(self.client_key()),
                ..SshTarget::default()
            },
            host_keys: record.host_key.iter().cloned().collect(),
            tags,
        }
    }

    /// The host of exactly this id; one of the same name that came later is another.
    pub fn by_id(&self, id: &HostId) -> Result<Option<HostRecord>, CloudError> {
        Ok(self.host_records()?.into_iter().find(|r| self.id(r) == *id))
    }

    /// Waits until sshd says its first line.
    pub fn wait(&self, id: &HostId, deadline: Instant) -> Result<Host, CloudError> {
        let record = self.by_id(id)?.ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })?;
        let (host, dir) = (record.name.clone(), self.host_dir(&record.name));
        let mut gone_since = None;
        let address = SocketAddr::from((record.address, 22));
        loop {
            let seen = match banner(address) {
                Ok(()) => return Ok(self.host(&record, true)),
                Err(e) => e,
            };
            gone_since = match self.process(&record) {
                Some(_) => None,
                None => gone_since.or_else(|| Some(Instant::now())),
            };
            // A host that reboots itself has no process for a moment.
            if gone_since.is_some_and(|since| since.elapsed() >= REBOOTING) {
                let what = format!("it has ended; its console's last words: {}", nspawn::said(&dir));
                return Err(CloudError::Host { host, what, log: Some(dir.console()) });
            }
            if Instant::now() >= deadline {
                let seen = format!("sshd at {address}: {seen}; its console's last words: {}", nspawn::said(&dir));
                return Err(CloudError::Deadline { host, seen, log: Some(dir.console()) });
            }
            std::thread::sleep(POLL);
        }
    }

    pub fn console(&self, id: &HostId) -> Result<String, CloudError> {
        let record = self.by_id(id)?.ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })?;
        let path = self.host_dir(&record.name).console();
        match super::read_tail(&path, super::CONSOLE) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|e| file_error("reading", &path, e)),
        }
    }

    /// The addresses that the cluster's hosts have.
    pub fn addresses(records: &[HostRecord]) -> Vec<Ipv4Addr> {
        records.iter().map(|r| r.address).collect()
    }
}

/// A record's base is a folder beside others, never a way out of them.
pub fn is_folder_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() < 64 && name.bytes().all(plain)
}

/// Does an SSH server greet there?
fn banner(address: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    if start == *b"SSH-" { Ok(()) } else { Err(std::io::Error::other("what answers is no SSH server")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_base_is_a_folders_plain_name() {
        assert!(is_folder_name(base::RECIPE));
        for wrong in ["", ".", "..", "../x", "a/b", "a:b", "A", "a b"] {
            assert!(!is_folder_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn only_an_ssh_server_greets() {
        let serve = |text: &'static [u8]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(text));
            let result = banner(address);
            server.join().unwrap().unwrap();
            result
        };
        serve(b"SSH-2.0-x\r\n").unwrap();
        serve(b"HTTP/1.1 200").unwrap_err();
        serve(b"SS").unwrap_err();
    }
}
