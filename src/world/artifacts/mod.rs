//! The artifact cache: released programs, fetched or imported, checked, compressed once.
//!
//! An entry is published by one rename and is whole from then on; nothing else is ever used. What a killed
//! run leaves is either resumed (a part of a download, which its sum vouches for), or removed by the next
//! run on the same artifact or by [`Cache::prune`]. Which artifacts a cluster needs is not decided here.
//! docs/artifacts.md tells users of it.

mod download;
mod elf;
mod error;
mod fetch;
mod soundness;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use self::download::Http;
pub use self::error::{ArtifactError, Miss, Tried};
use self::fetch::{Archive, Fetch, Source, Trust};
pub use self::soundness::damage_of;
use self::store::{Found, Store};
use crate::core::release;
use crate::model::artifact::{Artifact, ArtifactId, Sha256};
use crate::model::event::Events;

/// Downloads at once: enough to fill a link, few enough for a polite client.
const AT_ONCE: usize = 4;

/// Where artifacts come from, asked in this order; the first that has it gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// A flat folder of archives with their official names.
    pub folder: Option<PathBuf>,
    /// A base URL with the paths of the official hosts below it.
    pub mirror: Option<String>,
    /// The makers' own hosts.
    pub official: bool,
}

/// How much, how long, how often. Constants of the tool, smaller in tests.
#[derive(Debug, Clone)]
struct Limits {
    /// In bytes: an archive, one executable, all that an archive holds, a file of sums.
    archive: u64,
    executable: u64,
    unpacked: u64,
    sums: u64,
    connect: Duration,
    /// Without a single byte.
    stall: Duration,
    /// Tries in a row that got nowhere.
    attempts: u32,
    /// Before the second try; twice as long before each one that follows.
    first_wait: Duration,
    /// A try that brought as many bytes got somewhere.
    advance: u64,
    lock_poll: Duration,
    /// Go through the proxy that the environment names, if any.
    proxy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive: 1 << 30,
            executable: 1 << 30,
            unpacked: 4 << 30,
            sums: 1 << 20,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            attempts: 4,
            first_wait: Duration::from_millis(500),
            advance: 1 << 20,
            lock_poll: Duration::from_millis(50),
            proxy: true,
        }
    }
}

/// An entry that is there and cannot be used; fetching or importing replaces it, pruning removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub id: ArtifactId,
    pub path: PathBuf,
    pub reason: String,
}

/// Something that [`Cache::prune`] took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    pub id: ArtifactId,
    pub what: Remains,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remains {
    /// A whole artifact that was not to be kept.
    Artifact,
    Broken,
    /// What a run that did not get to its end left of its work.
    Leftover,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Remains::Artifact => write!(f, "{}", self.id),
            Remains::Broken => write!(f, "the broken {}", self.id),
            Remains::Leftover => write!(f, "what an unfinished run left of {}", self.id),
        }
    }
}

/// The cache in one folder. Any number of processes may use it at once.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
    limits: Limits,
}

impl Cache {
    /// Makes the folder where it is missing.
    pub fn open(root: PathBuf) -> Result<Self, ArtifactError> {
        std::fs::create_dir_all(&root).map_err(ArtifactError::file("creating", &root))?;
        Ok(Self { store: Store { root }, limits: Limits::default() })
    }

    /// All whole entries, sorted.
    pub fn list(&self) -> Result<Vec<Artifact>, ArtifactError> {
        let found = self.store.entries()?.into_iter().map(|id| self.get(&id));
        found.filter_map(Result::transpose).collect()
    }

    /// The entries that are there and cannot be used, with the reason, sorted.
    pub fn broken(&self) -> Result<Vec<Broken>, ArtifactError> {
        let mut broken = Vec::new();
        for id in self.store.entries()? {
            if let Found::Broken(reason) = self.store.find(&id)? {
                broken.push(Broken { path: self.store.entry_dir(&id), id, reason });
            }
        }
        Ok(broken)
    }

    /// The entry, if it is there and whole.
    pub fn get(&self, id: &ArtifactId) -> Result<Option<Artifact>, ArtifactError> {
        Ok(match self.store.find(id)? {
            Found::Whole(artifact) => Some(artifact),
            Found::Nothing | Found::Broken(_) => None,
        })
    }

    /// Gets what is not in the cache yet, several at once; one outcome for each wanted id, in their order.
    pub async fn ensure(
        &self,
        wanted: &[ArtifactId],
        sources: &Sources,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Vec<(ArtifactId, Result<Artifact, ArtifactError>)> {
        self.get_all(wanted, Trust::Sizes, sources, events, cancel).await
    }

    /// [`Cache::ensure`] that reads what is there to its last byte, and gets anew what is damaged.
    pub async fn ensure_sound(
        &self,
        wanted: &[ArtifactId],
        sources: &Sources,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Vec<(ArtifactId, Result<Artifact, ArtifactError>)> {
        self.get_all(wanted, Trust::Nothing, sources, events, cancel).await
    }

    async fn get_all(
        &self,
        wanted: &[ArtifactId],
        trust: Trust,
        sources: &Sources,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Vec<(ArtifactId, Result<Artifact, ArtifactError>)> {
        let sources = sources.in_order();
        let http = Http::new(&self.limits);
        let fetch =
            Fetch { store: &self.store, limits: &self.limits, trust, sources: &sources, http: &http, events, cancel };
        let one = |id: &ArtifactId| {
            let (id, fetch) = (id.clone(), &fetch);
            async move { (id.clone(), fetch.run(&id).await) }.boxed()
        };
        let jobs: Vec<_> = wanted.iter().map(one).collect();
        futures::stream::iter(jobs).buffered(AT_ONCE).collect().await
    }

    /// Takes a release archive from a file. Its official name says what it is, the programs in it must be
    /// for that platform, and its sum must be the expected one and the one in a file of sums beside it,
    /// where there are such. It replaces an entry that is there.
    pub async fn import(&self, file: &Path, expected: Option<&Sha256>) -> Result<Artifact, ArtifactError> {
        self.import_telling(file, expected, &Events::silent()).await
    }

    /// [`Cache::import`] that warns where no sum vouches for the archive.
    pub async fn import_telling(
        &self,
        file: &Path,
        expected: Option<&Sha256>,
        events: &Events,
    ) -> Result<Artifact, ArtifactError> {
        let file = std::path::absolute(file).map_err(ArtifactError::file("finding", file))?;
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(release::parse_archive_name) else {
            return Err(ArtifactError::UnknownName { file });
        };
        // A pipe would be waited for, and a device read to no end.
        if !std::fs::metadata(&file).map_err(ArtifactError::file("reading", &file))?.is_file() {
            return Err(ArtifactError::NoFile { file });
        }
        let place = file.display().to_string();
        let beside = fetch::sums_beside(&file, &self.limits)?;
        if let (Some(expected), Some(beside)) = (expected, &beside)
            && expected != beside
        {
            let (expected, got) = (expected.clone(), beside.clone());
            return Err(ArtifactError::WrongSum { place: format!("the sum listed beside {place}"), expected, got });
        }
        let expected = expected.cloned().or(beside);
        if expected.is_none() {
            events.warn(None, fetch::unchecked(&file));
        }
        let work = Arc::new(fetch::lock(&self.store, &id, &self.limits, events).await?);
        let archive = Archive { id, file, place, expected };
        fetch::admit(&self.store, archive, &work, &self.limits, &CancellationToken::new()).await
    }

    /// Removes the entries that are not to be kept, the broken ones, and what stopped runs left. What a
    /// live run is at is left alone.
    pub fn prune(&self, keep: &[ArtifactId]) -> Result<Vec<Pruned>, ArtifactError> {
        let entries = self.store.entries()?;
        let ids: BTreeSet<ArtifactId> = entries.into_iter().chain(self.store.works()?).collect();
        let mut pruned = Vec::new();
        for id in ids {
            let Some(work) = self.store.try_lock(&id)? else { continue };
            if work.dir.is_dir() {
                let bytes = store::tree_size(&work.dir);
                store::remove_tree(&work.dir)?;
                // An archive that was refused leaves an empty folder: nothing to tell of.
                if bytes > 0 {
                    pruned.push(Pruned { id: id.clone(), what: Remains::Leftover, bytes });
                }
            }
            let what = match self.store.find(&id)? {
                Found::Broken(_) => Remains::Broken,
                Found::Whole(_) if !keep.contains(&id) => Remains::Artifact,
                Found::Whole(_) | Found::Nothing => continue,
            };
            let bytes = store::tree_size(&self.store.entry_dir(&id));
            self.store.unpublish(&work, &id)?;
            store::remove_tree(&work.dir)?;
            pruned.push(Pruned { id, what, bytes });
        }
        Ok(pruned)
    }
}

impl Sources {
    fn in_order(&self) -> Vec<Source> {
        let folder = self.folder.clone().map(Source::Folder);
        let mirror = self.mirror.clone().map(Source::Mirror);
        folder.into_iter().chain(mirror).chain(self.official.then_some(Source::Official)).collect()
    }
}
