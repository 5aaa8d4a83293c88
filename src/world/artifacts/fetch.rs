//! From a wanted artifact to an entry: waits for its lock, asks the sources in order, checks, unpacks, publishes.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use super::download::{Download, Http, Trouble, shown};
use super::store::{Found, Store, Work};
use super::unpack::Unpack;
use super::{ArtifactError, Limits, Miss, Tried, soundness};
use crate::core::release::{self, SumsError};
use crate::model::artifact::{Artifact, ArtifactId, Sha256};
use crate::model::event::{Doing, Events};

/// Where to look, in this order.
pub(super) enum Source {
    Folder(PathBuf),
    /// A base URL with the official hosts' paths below it.
    Mirror(String),
    Official,
}

/// What an entry that is there is believed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its record and the sizes of its files.
    Sizes,
    /// Its bytes, read to the last one.
    Nothing,
}

/// What the downloads of one call share.
pub(super) struct Fetch<'a> {
    pub store: &'a Store,
    pub limits: &'a Limits,
    pub trust: Trust,
    pub sources: &'a [Source],
    pub http: &'a Http,
    pub events: &'a Events,
    pub cancel: &'a CancellationToken,
}

/// An archive at hand, to be admitted into the cache.
pub(super) struct Archive {
    pub id: ArtifactId,
    pub file: PathBuf,
    /// For messages and the record: where it came from.
    pub place: String,
    pub expected: Option<Sha256>,
}

/// A mirror's base URL.
pub(super) fn base(text: &str) -> Result<Url, ArtifactError> {
    let bad = |url: String, reason: &str| ArtifactError::BadMirror { url, reason: reason.to_owned() };
    // What is no URL may hold a password all the same: it is shown only up to there.
    let safe = || text.rsplit_once('@').map_or(text, |(_, after)| after).to_owned();
    let mut url = Url::parse(text).map_err(|e| bad(safe(), &e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(shown(&url), "it must begin with https:// or http://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(shown(&url), "it must end with a path"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

impl Fetch<'_> {
    pub async fn run(&self, id: &ArtifactId) -> Result<Artifact, ArtifactError> {
        if let Ok(artifact) = self.there(id).await? {
            return Ok(artifact);
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(ArtifactError::Cancelled { id: id.clone() }),
            done = self.locked(id) => done,
        }
    }

    async fn locked(&self, id: &ArtifactId) -> Result<Artifact, ArtifactError> {
        let work = Arc::new(lock(self.store, id, self.limits, self.events).await?);
        // Whoever held the lock before may have done the work.
        match self.there(id).await? {
            Ok(artifact) => return Ok(artifact),
            Err(Some(damage)) => self.events.warn(None, format!("the cached copy of {id} is damaged: {damage}")),
            Err(None) => {}
        }
        let doing = Doing::FetchArtifact { artifact: id.clone() };
        self.events.began(None, doing.clone());
        let mut tried = Vec::new();
        for source in self.sources {
            let got = match source {
                Source::Folder(folder) => self.take_from_folder(id, folder, &work).await,
                Source::Mirror(text) => self.take_from_url(id, &base(text)?, &work).await,
                Source::Official => {
                    let base = Url::parse(release::Maker::of(id.program).base()).expect("the official bases are URLs");
                    self.take_from_url(id, &base, &work).await
                }
            };
            match got {
                Ok(artifact) => {
                    self.events.ended(None, doing, true);
                    return Ok(artifact);
                }
                Err(Trouble::Missed(miss)) => tried.push(miss),
                // A wrong file is not passed over in silence, even where another source may have the right one.
                Err(Trouble::Final(error)) => return Err(error),
            }
        }
        Err(ArtifactError::Unavailable { id: id.clone(), tried })
    }

    /// The entry, if it is there and can be believed; else what is damaged of it.
    async fn there(&self, id: &ArtifactId) -> Result<Result<Artifact, Option<String>>, ArtifactError> {
        let Found::Whole(artifact) = self.store.find(id)? else { return Ok(Err(None)) };
        if self.trust == Trust::Sizes {
            return Ok(Ok(artifact));
        }
        let read = tokio::task::spawn_blocking(move || match soundness::damage(&artifact) {
            None => Ok(artifact),
            Some(damage) => Err(Some(damage)),
        });
        read.await.map_err(|source| ArtifactError::CutShort { id: id.clone(), source })
    }

    async fn take_from_folder(&self, id: &ArtifactId, folder: &Path, work: &Arc<Work>) -> Result<Artifact, Trouble> {
        let file = folder.join(release::archive_name(id));
        if !file.is_file() {
            return Err(Trouble::Missed(Tried { place: file.display().to_string(), miss: Miss::Absent }));
        }
        let expected = sums_beside(&file, self.limits)?;
        if expected.is_none() {
            self.events.warn(None, unchecked(&file));
        }
        let archive = Archive { id: id.clone(), place: file.display().to_string(), file, expected };
        Ok(admit(self.store, archive, work, self.limits, self.cancel).await?)
    }

    async fn take_from_url(&self, id: &ArtifactId, base: &Url, work: &Arc<Work>) -> Result<Artifact, Trouble> {
        let join = |path: String| base.join(&path).expect("release paths join any base");
        let (url, sums_url) = (join(release::archive_path(id)), join(release::sums_path(id)));
        let sums = self.http.sums(&sums_url, self.events).await?;
        let Some(expected) = sums.get(&release::archive_name(id)).cloned() else {
            return Err(Trouble::Missed(Tried { place: shown(&sums_url), miss: Miss::Unlisted }));
        };
        let part = work.dir.join(format!("{expected}.part"));
        std::fs::create_dir_all(&work.dir).map_err(ArtifactError::file("creating", &work.dir))?;
        let mut again = true;
        loop {
            let resumed = self.http.archive(&Download { id, url: &url, part: &part, events: self.events }).await?;
            let (file, place) = (part.clone(), shown(&url));
            let archive = Archive { id: id.clone(), file, place, expected: Some(expected.clone()) };
            let admitted = admit(self.store, archive, work, self.limits, self.cancel).await;
            let Err(ArtifactError::WrongSum { .. }) = &admitted else { return Ok(admitted?) };
            // Bytes that are wrong are worth nothing to a later run.
            std::fs::remove_file(&part).map_err(ArtifactError::file("removing", &part))?;
            // An older part may have been what was wrong: then the archive is worth one fresh try.
            if !(resumed && again) {
                return Ok(admitted?);
            }
            again = false;
            self.events.note(None, format!("{}: what an earlier try left does not fit; starting anew", shown(&url)));
        }
    }
}

/// Waits until nobody else works on the artifact.
pub(super) async fn lock(
    store: &Store,
    id: &ArtifactId,
    limits: &Limits,
    events: &Events,
) -> Result<Work, ArtifactError> {
    let mut told = false;
    loop {
        if let Some(work) = store.try_lock(id)? {
            return Ok(work);
        }
        if !told {
            events.note(None, format!("{id}: waiting for another run that is at it"));
            told = true;
        }
        // Polled, since a thread that waits in the kernel could not be told to stop.
        tokio::time::sleep(limits.lock_poll).await;
    }
}

/// Checks an archive, unpacks it and publishes the entry; off the async threads. The lock is held until
/// the thread is done, even when nobody waits for it any more.
pub(super) async fn admit(
    store: &Store,
    archive: Archive,
    work: &Arc<Work>,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Artifact, ArtifactError> {
    let (store, work, limits, cancel) = (store.clone(), Arc::clone(work), limits.clone(), cancel.clone());
    let id = archive.id.clone();
    let done = tokio::task::spawn_blocking(move || admit_now(&store, &archive, &work, &limits, &cancel)).await;
    done.map_err(|source| ArtifactError::CutShort { id, source })?
}

fn admit_now(
    store: &Store,
    archive: &Archive,
    work: &Work,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<Artifact, ArtifactError> {
    let Archive { id, file: path, place, expected } = archive;
    // One open file from the sum to the last byte unpacked: what is checked is what is used.
    let mut file = File::open(path).map_err(ArtifactError::file("opening", path))?;
    let size = file.metadata().map_err(ArtifactError::file("reading", path))?.len();
    if size > limits.archive {
        let (place, limit) = (place.clone(), limits.archive);
        return Err(ArtifactError::TooLarge { place, what: "an archive", limit });
    }
    let sha256 = sum(&mut file, cancel).map_err(|e| match e.kind() {
        io::ErrorKind::Interrupted => ArtifactError::Cancelled { id: id.clone() },
        _ => ArtifactError::file("reading", path)(e),
    })?;
    if let Some(expected) = expected.as_ref().filter(|expected| **expected != sha256) {
        return Err(ArtifactError::WrongSum { place: place.clone(), expected: expected.clone(), got: sha256 });
    }
    if let Found::Whole(artifact) = store.find(id)?
        && artifact.sha256 == sha256
        && soundness::damage(&artifact).is_none()
    {
        return Ok(artifact);
    }
    file.rewind().map_err(ArtifactError::file("reading", path))?;
    let new = work.fresh()?;
    let executables = Unpack { id, place, into: &new, limits, cancel }.run(file)?;
    store.publish(work, &new, Artifact { id: id.clone(), sha256, source: place.clone(), executables })
}

/// `ErrorKind::Interrupted`: cancelled.
fn sum(file: &mut File, cancel: &CancellationToken) -> io::Result<Sha256> {
    let mut sum = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Sha256::from_digest(&sum.finalize())),
            Ok(n) => sum.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn unchecked(file: &Path) -> String {
    format!(
        "{}: no file of sums beside it lists it, so nothing says that it is what was published; its own sum is recorded",
        file.display()
    )
}

/// The sum that the files of sums in the archive's folder give for it; they must agree.
pub(super) fn sums_beside(file: &Path, limits: &Limits) -> Result<Option<Sha256>, ArtifactError> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let archive = file.file_name().unwrap_or_default().to_string_lossy();
    let mut found: Option<(PathBuf, Sha256)> = None;
    let entries = std::fs::read_dir(folder).map_err(ArtifactError::file("reading", folder))?;
    for entry in entries {
        let path = entry.map_err(ArtifactError::file("reading", folder))?.path();
        let is_sums = path.file_name().and_then(|n| n.to_str()).is_some_and(release::is_sums_name);
        if !is_sums || !path.is_file() {
            continue;
        }
        let text = bounded_text(&path, limits.sums)?;
        let sums = match release::Sums::parse(&text) {
            Ok(sums) => sums,
            Err(SumsError::Empty) => continue,
            Err(source) => return Err(ArtifactError::BadSums { place: path.display().to_string(), source }),
        };
        match (sums.get(&archive), &found) {
            (Some(sum), Some((first, earlier))) if sum != earlier => {
                let (archive, first) = (archive.into_owned(), first.clone());
                return Err(ArtifactError::SumsDisagree { archive, first, second: path });
            }
            (Some(sum), None) => found = Some((path, sum.clone())),
            _ => {}
        }
    }
    Ok(found.map(|(_, sum)| sum))
}

fn bounded_text(path: &Path, limit: u64) -> Result<String, ArtifactError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut text));
    read.map_err(ArtifactError::file("reading", path))?;
    if text.len() as u64 > limit {
        return Err(ArtifactError::TooLarge { place: path.display().to_string(), what: "a file of sums", limit });
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
