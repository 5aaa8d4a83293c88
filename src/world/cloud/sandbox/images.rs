//! Images: what a host wrote over its base tree, kept as a layer that other hosts stand on. They are the root folder's,
//! not one cluster's: `up --image` of any cluster may use them, and `down` of any leaves them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::host::HostDir;
use super::lock::Lock;
use super::site::{self, Site};
use super::state::{self, HostRecord};
use super::{base, command, file_error, host, mounts, nspawn, process};
use crate::model::baked::{Baked, BakedState, ImageId, Label};
use crate::model::event::{Doing, Events};
use crate::model::host::{HostId, Role};
use crate::model::name::HostName;
use crate::world::cloud::{CloudError, Launch};

const IMAGES: &str = "images";

/// Before the name of what is being made or removed: no image's name begins with it.
const HALF: &str = ".half-";

/// How long a host that becomes an image may take to power off by itself.
const GRACE: Duration = Duration::from_secs(30);

/// What of a host is its own however well it was cleared: the next one is given it anew, or makes it.
const OWN: [&str; 8] = [
    "etc/clusterctl/boot",
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/resolv.conf",
    "root/.ssh/authorized_keys",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
];

/// Where an image lies, and its id: `<name>/<role>`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: HostName,
    role: Role,
}

impl Place {
    fn parse(id: &ImageId) -> Option<Self> {
        let (name, role) = id.0.split_once('/')?;
        let role = [Role::Server, Role::Node].into_iter().find(|known| known.as_str() == role)?;
        Some(Self { name: HostName::new(name).ok()?, role })
    }

    fn of(label: &Label) -> Result<Self, CloudError> {
        let name = HostName::new(label.name.as_str()).map_err(|error| CloudError::Unfit {
            missing: format!("an image of the sandbox is a folder, and its name a host's name: {error}"),
            cure: "name it with a-z, 0-9 and '-'".to_owned(),
        })?;
        Ok(Self { name, role: label.role })
    }

    fn id(&self) -> ImageId {
        ImageId(format!("{}/{}", self.name, self.role))
    }

    fn dir(&self, root: &Path) -> PathBuf {
        root.join(IMAGES).join(self.name.as_str()).join(self.role.as_str())
    }

    fn half(&self, root: &Path) -> Result<PathBuf, CloudError> {
        Ok(root.join(IMAGES).join(format!("{HALF}{}-{}-{}", self.name, self.role, host::random_hex(4)?)))
    }
}

/// What lies beside the tree, in `label.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    label: Label,
    /// The base tree that it stands on.
    base: String,
    proved: Option<Timestamp>,
}

fn label_file(dir: &Path) -> PathBuf {
    dir.join("label.json")
}

fn tree(dir: &Path) -> PathBuf {
    dir.join("tree")
}

/// The record of an image if it is whole and of this place.
fn record(root: &Path, place: &Place) -> Result<Option<Record>, CloudError> {
    let found = state::read::<Record>(&label_file(&place.dir(root)))?.record();
    let is_its = |r: &Record| r.label.name == place.name.as_str() && r.label.role == place.role;
    Ok(found.filter(|r| is_its(r) && site::is_folder_name(&r.base)))
}

/// All images of the root folder, the newest first.
pub fn of_root(root: &Path) -> Result<Vec<Baked>, CloudError> {
    let mut all = Vec::new();
    for name in state::names::<HostName>(&root.join(IMAGES))? {
        for role in [Role::Server, Role::Node] {
            let place = Place { name: name.clone(), role };
            let Some(Record { label, proved, .. }) = record(root, &place)? else { continue };
            all.push(Baked { id: place.id(), label, state: BakedState::Available, proved });
        }
    }
    all.sort_by(|a, b| (b.label.created, &a.id).cmp(&(a.label.created, &b.id)));
    Ok(all)
}

/// Can this be an image's id?
pub fn is_id(id: &ImageId) -> bool {
    Place::parse(id).is_some()
}

/// The base tree of the image that a new host stands on. Under [`lock`], so that it is not removed meanwhile.
pub fn base_for(root: &Path, launch: &Launch, id: &ImageId) -> Result<String, CloudError> {
    let failed = |what: String| CloudError::Host { host: launch.name.clone(), what, log: None };
    let place = Place::parse(id).ok_or_else(|| failed(format!("\"{}\" is no image's id", id.0.escape_debug())))?;
    if place.role != launch.role {
        return Err(failed(format!("it is a {}, and its image {id} is for a {}", launch.role, place.role)));
    }
    let found = record(root, &place)?;
    found.map(|r| r.base).ok_or_else(|| failed(format!("there is no image {id} in {}", root.join(IMAGES).display())))
}

/// The read-only trees below a host's own layer, the uppermost first.
pub fn lowers(root: &Path, bases: &Path, host: &HostRecord) -> Vec<PathBuf> {
    let image = host.image.as_ref().and_then(Place::parse).map(|place| tree(&place.dir(root)));
    image.into_iter().chain([base::path(bases, &host.base)]).collect()
}

/// Guards the images of a root folder. Taken after a cluster's own lock, never before it.
pub fn lock(root: &Path, events: &Events) -> Result<Lock, CloudError> {
    let path = root.join(IMAGES).join(".lock");
    Lock::take(&path, || events.note(None, "waiting for another clusterctl that works on the sandbox's images"))
}

/// Removes what killed runs left half-made, or half-removed.
pub fn clear_half_made(root: &Path, events: &Events) -> Result<(), CloudError> {
    if half_made(root)?.is_empty() {
        return Ok(());
    }
    let _lock = lock(root, events)?;
    remove_half_made(root)
}

/// Under [`lock`]: whoever holds it has made whole, or given up, all of its own.
fn remove_half_made(root: &Path) -> Result<(), CloudError> {
    half_made(root)?.iter().try_for_each(|half| mounts::remove_tree(half))
}

fn half_made(root: &Path) -> Result<Vec<PathBuf>, CloudError> {
    let dir = root.join(IMAGES);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file_error("reading", &dir, e)),
    };
    let half = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(HALF));
    Ok(half.map(|e| e.path()).collect())
}

impl Site {
    pub fn seal(&self, id: &HostId, label: &Label, events: &Events) -> Result<ImageId, CloudError> {
        let place = Place::of(label)?;
        let _turn = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let _cluster = self.lock(events)?;
        let host = self.by_id(id)?.ok_or_else(|| CloudError::NoSuchHost { id: id.clone() })?;
        fits(&host, label)?;
        let _images = lock(&self.root, events)?;
        remove_half_made(&self.root)?;
        self.refuse_while_used(&place, "replaced")?;
        if let Some(there) = record(&self.root, &place)?.filter(|there| there.label.cluster != label.cluster) {
            return Err(CloudError::Unfit {
                missing: format!("the image {} is of the cluster {}", place.id(), there.label.cluster),
                cure: "take another --name, or remove it: `clusterctl ami prune --sandbox --cluster NAME`".to_owned(),
            });
        }
        let name = Some(&host.name);
        events.began(name, Doing::Seal);
        let dir = self.host_dir(&host.name);
        if !process::ask_to_end(&process::nspawns(&dir.merged()), GRACE) {
            events.warn(name, format!("it did not power off within {} s and is killed", GRACE.as_secs()));
        }
        nspawn::stop(&dir, Some(&host), Duration::ZERO)?;
        let half = place.half(&self.root)?;
        if let Err(error) = self.make_image(&host, &place, label, &half) {
            give_back(&dir, &host, &half);
            return Err(error);
        }
        mounts::remove_tree(dir.path())?;
        events.ended(name, Doing::Seal, true);
        Ok(place.id())
    }

    /// Beside its place first, whole on the disk, then in its place in one step, whatever was there before.
    fn make_image(&self, host: &HostRecord, place: &Place, label: &Label, half: &Path) -> Result<(), CloudError> {
        let (dir, target) = (self.host_dir(&host.name), place.dir(&self.root));
        let made = |dir: &Path| fs::create_dir_all(dir).map_err(|e| file_error("making", dir, e));
        made(half)?;
        state::write(&label_file(half), &Record { label: label.clone(), base: host.base.clone(), proved: None })?;
        // Killed from here on, the host is one whose files are not made yet: its next launch begins anew.
        state::write(&dir.record(), &HostRecord { host_key: None, ..host.clone() })?;
        take(&dir.upper(), &tree(half))?;
        clear_own(&tree(half))?;
        base::sync(half)?;
        made(target.parent().unwrap_or(&target))?;
        put_in_place(half, &target)
    }

    pub fn prove_image(&self, id: &ImageId, events: &Events) -> Result<(), CloudError> {
        let place = Place::parse(id).ok_or_else(|| no_such_image(id))?;
        let _lock = lock(&self.root, events)?;
        let mut record = record(&self.root, &place)?.ok_or_else(|| no_such_image(id))?;
        record.proved = Some(Timestamp::now());
        state::write(&label_file(&place.dir(&self.root)), &record)
    }

    pub fn remove_image(&self, id: &ImageId, events: &Events) -> Result<(), CloudError> {
        let place = Place::parse(id).ok_or_else(|| no_such_image(id))?;
        if !self.root.join(IMAGES).exists() {
            return Ok(());
        }
        let lock = lock(&self.root, events)?;
        self.refuse_while_used(&place, "removed")?;
        remove_half_made(&self.root)?;
        let (dir, half) = (place.dir(&self.root), place.half(&self.root)?);
        // No image any more in one step; what a kill leaves of it is half-made.
        match fs::rename(&dir, &half) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file_error("removing", &dir, e)),
            _ => mounts::remove_tree(&half)?,
        }
        // Each goes only when nothing else is in it.
        let _ = fs::remove_dir(dir.parent().unwrap_or(&dir));
        lock.remove();
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// An overlay's lower trees must not change below it.
    fn refuse_while_used(&self, place: &Place, what: &str) -> Result<(), CloudError> {
        let users = self.users(place)?;
        let Some((cluster, _)) = users.first() else { return Ok(()) };
        let hosts: Vec<&str> = users.iter().map(|(_, host)| host.as_str()).collect();
        Err(CloudError::Unfit {
            missing: format!("the image {} cannot be {what}: {} stand on it", place.id(), hosts.join(", ")),
            cure: format!(
                "take them away first (`clusterctl down --sandbox --cluster {cluster}`), or give the new image another name"
            ),
        })
    }

    /// The hosts of all clusters that stand on an image, with their cluster.
    fn users(&self, place: &Place) -> Result<Vec<(String, String)>, CloudError> {
        let id = place.id();
        let mut users = Vec::new();
        for cluster in super::clusters(&self.root)? {
            let site = Self::new(cluster, &self.root, self.base.clone());
            let hosts = site.host_records()?.into_iter().filter(|host| host.image.as_ref() == Some(&id));
            users.extend(hosts.map(|host| (site.cluster.to_string(), host.name.to_string())));
        }
        // A host whose record is broken is no host any more, but may still run.
        let tree = tree(&place.dir(&self.root));
        for mount in mounts::current()?.iter().filter(|mount| mount.lowers().any(|lower| Path::new(lower) == tree)) {
            let name =
                |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
            // …/clusters/<cluster>/hosts/<host>/merged
            let host = mount.point.parent();
            let user = (name(host.and_then(|host| host.parent()?.parent())), name(host));
            if !users.contains(&user) {
                users.push(user);
            }
        }
        Ok(users)
    }
}

/// Can this host become that image?
fn fits(host: &HostRecord, label: &Label) -> Result<(), CloudError> {
    let unfit = |missing: String, cure: &str| Err(CloudError::Unfit { missing, cure: cure.to_owned() });
    if host.role != label.role {
        let what = format!("{} is a {} and cannot become a {}'s image", host.name, host.role, label.role);
        return unfit(what, "make the image of a host of that role");
    }
    if let Some(image) = &host.image {
        let what = format!("{} was itself launched from the image {image}", host.name);
        return unfit(what, "make the image of a host that was launched without one");
    }
    Ok(())
}

fn no_such_image(id: &ImageId) -> CloudError {
    CloudError::Unfit {
        missing: format!("the sandbox has no image \"{}\"", id.0.escape_debug()),
        cure: "`clusterctl ami build --sandbox` makes one".to_owned(),
    }
}

/// Moves a host's layer, with whiteouts and extended attributes; copies it where `images` is another file system.
fn take(upper: &Path, tree: &Path) -> Result<(), CloudError> {
    match fs::rename(upper, tree) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {
            let words = ["-a".as_ref(), "--".as_ref(), upper.as_os_str(), tree.as_os_str()];
            command::run("cp", words).map(drop)
        }
        other => other.map_err(|e| file_error("making an image of", upper, e)),
    }
}

/// After a failure: the host as it was, switched off, and nothing half-made.
fn give_back(dir: &HostDir, host: &HostRecord, half: &Path) {
    if !dir.upper().exists() {
        let _ = fs::rename(tree(half), dir.upper());
    }
    let _ = state::write(&dir.record(), host);
    let _ = mounts::remove_tree(half);
}

/// Removes what a clearing script may have left of what no two hosts share.
fn clear_own(tree: &Path) -> Result<(), CloudError> {
    let keys = fs::read_dir(tree.join("etc/ssh")).into_iter().flatten().flatten();
    let keys = keys.filter(|e| e.file_name().to_string_lossy().starts_with("ssh_host_")).map(|e| e.path());
    // A folder of the host's may be a link, which here would lead into the machine.
    let is_within = |path: &PathBuf| path.parent().is_some_and(|dir| dir.canonicalize().is_ok_and(|d| d == dir));
    for path in OWN.iter().map(|own| tree.join(own)).chain(keys).filter(is_within) {
        match fs::remove_file(&path) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(file_error("removing", &path, e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn put_in_place(half: &Path, target: &Path) -> Result<(), CloudError> {
    let failed = |e: std::io::Error| file_error("renaming the new image to", target, e);
    if !target.exists() {
        return fs::rename(half, target).map_err(failed);
    }
    // At every moment there is the old one or the new one.
    renameat_with(CWD, half, CWD, target, RenameFlags::EXCHANGE).map_err(|e| failed(e.into()))?;
    mounts::remove_tree(half)
}

#[cfg(test)]
mod tests;
