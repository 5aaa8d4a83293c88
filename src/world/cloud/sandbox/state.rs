//! What is written down about a cluster and its hosts: one small JSON file each, replaced as a whole.
//! A file may be missing or broken (the disk was full, the machine lost power): that is an answer, not
//! an error.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file_error;
use super::process::Mark;
use crate::model::baked::ImageId;
use crate::model::host::Role;
use crate::model::name::{ClusterName, HostName};
use crate::world::cloud::CloudError;

/// Far more than any of ours; what is larger is none of ours.
const MAX_SIZE: u64 = 64 << 10;

/// A cluster's own network. `index` tells hosts apart in names that may have 15 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub bridge: BridgeName,
    pub subnet: Ipv4Net,
}

impl Network {
    /// The machine's own address on the bridge: the hosts' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.network().to_bits() + 1)
    }

    pub fn contains_host(&self, address: Ipv4Addr) -> bool {
        self.subnet.hosts().any(|a| a == address) && address != self.gateway()
    }
}

/// `ccs` and eight hexadecimal digits: short enough that `<bridge>h254` is an interface's name too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BridgeName(String);

impl BridgeName {
    pub const PREFIX: &'static str = "ccs";

    pub fn from_hash(hash: u32) -> Self {
        Self(format!("{}{hash:08x}", Self::PREFIX))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BridgeName {
    type Error = &'static str;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let hash = s.strip_prefix(Self::PREFIX).filter(|h| h.len() == 8);
        match hash.is_some_and(|h| h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))) {
            true => Ok(Self(s)),
            false => Err("no bridge of ours"),
        }
    }
}

impl From<BridgeName> for String {
    fn from(b: BridgeName) -> String {
        b.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRecord {
    pub cluster: ClusterName,
    pub network: Network,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    pub name: HostName,
    pub role: Role,
    /// Tells this host from an earlier one of the same name.
    pub generation: String,
    pub address: Ipv4Addr,
    /// Here too, so that a lost cluster record can be made again.
    pub network: Network,
    /// The base tree it was made from; a later recipe does not fit its data.
    pub base: String,
    /// The image between that tree and its own files; records of older versions say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
    /// Its public SSH host key; `None` until all of its files are made.
    pub host_key: Option<String>,
    /// The last process that was started for it.
    pub process: Option<Mark>,
}

/// What a record's place holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    Nothing,
    /// Half a file, another program's file, anything.
    Broken,
    Record(T),
}

impl<T> Found<T> {
    pub fn record(self) -> Option<T> {
        match self {
            Self::Record(record) => Some(record),
            Self::Nothing | Self::Broken => None,
        }
    }
}

pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Found<T>, CloudError> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut text)) {
        Ok(_) => Ok(serde_json::from_slice(&text).map_or(Found::Broken, Found::Record)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Found::Nothing),
        Err(e) => Err(file_error("reading", path, e)),
    }
}

/// Old or new, never half: written beside, then renamed.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), CloudError> {
    let failed = |e| file_error("writing", path, e);
    let text = serde_json::to_vec_pretty(record).map_err(|e| failed(e.into()))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// The names of the folders in `dir` that are valid `N`s; none where there is no such folder.
pub fn names<N: TryFrom<String> + Ord>(dir: &Path) -> Result<Vec<N>, CloudError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file_error("reading", dir, e)),
    };
    let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let mut names: Vec<N> = folders.filter_map(|e| N::try_from(e.file_name().into_string().ok()?).ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ClusterRecord {
        let network =
            Network { bridge: BridgeName::from_hash(0xab), subnet: "10.3.4.0/24".parse().expect("a valid subnet") };
        ClusterRecord { cluster: ClusterName::new("c").unwrap(), network }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        write(&path, &record()).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Record(record()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_hosts_record_without_an_image_is_read_and_written_as_ever() {
        let text = r#"{"name":"c-node-1","role":"node","generation":"0a","address":"10.3.4.2",
            "network":{"bridge":"ccs000000ab","subnet":"10.3.4.0/24"},"base":"bookworm-1","host_key":null,"process":null}"#;
        let old: HostRecord = serde_json::from_str(text).unwrap();
        assert_eq!(old.image, None);
        assert!(!serde_json::to_string(&old).unwrap().contains("image"));
        let new = HostRecord { image: Some(ImageId("web/node".to_owned())), ..old };
        assert_eq!(serde_json::from_str::<HostRecord>(&serde_json::to_string(&new).unwrap()).unwrap(), new);
    }

    #[test]
    fn every_half_of_a_record_is_broken_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        assert_eq!(read::<ClusterRecord>(&path).unwrap(), Found::Nothing);
        let whole = serde_json::to_vec(&record()).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read::<ClusterRecord>(&path).unwrap(), Found::Broken, "{length}");
        }
        fs::write(&path, String::from_utf8(whole).unwrap().replace("ccs", "eth")).unwrap();
        assert_eq!(read::<ClusterRecord>(&path).unwrap(), Found::Broken);
    }

    #[test]
    fn a_bridges_name_leaves_room_for_its_hosts() {
        assert_eq!(BridgeName::from_hash(u32::MAX).as_str().len() + "h254".len(), 15);
        for wrong in ["", "eth0", "ccs", "ccs1234567", "ccs123456789", "ccs1234567G", "ccs1234 678"] {
            assert!(BridgeName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_gateway_and_the_networks_ends_are_no_hosts() {
        let network = record().network;
        let host = |last| network.contains_host(Ipv4Addr::new(10, 3, 4, last));
        assert!(host(2) && host(254) && !host(0) && !host(1) && !host(255));
        assert!(!network.contains_host(Ipv4Addr::new(10, 3, 5, 2)));
    }

    #[test]
    fn names_are_those_of_valid_folders() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", "Bad_Name", ".removing"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let names: Vec<ClusterName> = names(dir.path()).unwrap();
        assert_eq!(names.iter().map(ClusterName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
