//! The cache's folders: `<root>/<program>/<version>/<arch>/` holds one whole entry, published by one rename.
//! Work in progress stands in `<root>/.work/<program>_<version>_<arch>/`, owned by whoever holds the lock
//! beside it; the kernel lets go of the lock when its process ends, however it ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::ArtifactError;
use crate::model::artifact::{Arch, Artifact, ArtifactId, Compression};
use crate::model::version::Program;

const RECORD: &str = "artifact.json";
/// A record is a few hundred bytes.
const MAX_RECORD: u64 = 1 << 20;
/// Raised when an entry's form changes: an older entry then counts as broken and is fetched anew.
const FORMAT: u32 = 2;
const WORK: &str = ".work";
/// Where an entry is put together inside a work folder, and where it goes when it is taken out.
const NEW: &str = "new";
const OLD: &str = "old";

/// An entry's record: its paths are relative, so that the cache can be moved.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    #[serde(flatten)]
    artifact: Artifact,
}

/// An entry as found.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Whole(Artifact),
    /// Unusable, with the reason.
    Broken(String),
}

#[derive(Debug, Clone)]
pub(super) struct Store {
    pub root: PathBuf,
}

/// The right to work on one artifact; ends when dropped, or with the process.
#[derive(Debug)]
pub(super) struct Work {
    pub dir: PathBuf,
    /// Closing it lets go of the lock.
    _lock: File,
}

impl Work {
    /// An empty folder to put an entry together in.
    pub fn fresh(&self) -> Result<PathBuf, ArtifactError> {
        let dir = self.dir.join(NEW);
        remove_tree(&dir)?;
        fs::create_dir_all(&dir).map_err(ArtifactError::file("creating", &dir))?;
        Ok(dir)
    }
}

impl Store {
    pub fn entry_dir(&self, id: &ArtifactId) -> PathBuf {
        self.root.join(id.program.as_str()).join(id.version.to_string()).join(id.arch.as_str())
    }

    fn work_name(id: &ArtifactId) -> String {
        // No version has an underscore in it.
        format!("{}_{}_{}", id.program, id.version, id.arch)
    }

    pub fn work_dir(&self, id: &ArtifactId) -> PathBuf {
        self.root.join(WORK).join(Self::work_name(id))
    }

    /// The lock, if nobody else has it.
    pub fn try_lock(&self, id: &ArtifactId) -> Result<Option<Work>, ArtifactError> {
        let dir = self.work_dir(id);
        let path = self.root.join(WORK).join(format!("{}.lock", Self::work_name(id)));
        fs::create_dir_all(self.root.join(WORK)).map_err(ArtifactError::file("creating", &self.root.join(WORK)))?;
        // Lock files stay: one that is removed while another process waits for it would lock nothing.
        let lock =
            File::options().create(true).append(true).open(&path).map_err(ArtifactError::file("opening", &path))?;
        let locked = match lock.try_lock() {
            Ok(()) => true,
            Err(std::fs::TryLockError::WouldBlock) => false,
            Err(std::fs::TryLockError::Error(error)) => return Err(ArtifactError::file("locking", &path)(error)),
        };
        Ok(locked.then_some(Work { dir, _lock: lock }))
    }

    pub fn find(&self, id: &ArtifactId) -> Result<Found, ArtifactError> {
        let dir = self.entry_dir(id);
        match fs::symlink_metadata(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) => return Err(ArtifactError::file("reading", &dir)(e)),
            Ok(_) => {}
        }
        Ok(match read_entry(&dir, id) {
            Ok(artifact) => Found::Whole(artifact),
            Err(reason) => Found::Broken(reason),
        })
    }

    /// Makes what stands in `new` the entry, in one rename, in the place of one that may be there.
    /// The paths of `artifact`'s executables are relative; those of the answer are absolute.
    pub fn publish(&self, work: &Work, new: &Path, artifact: Artifact) -> Result<Artifact, ArtifactError> {
        let record = new.join(RECORD);
        let json = serde_json::to_vec_pretty(&Record { format: FORMAT, artifact: artifact.clone() });
        let write = |json: Vec<u8>| {
            let mut file = File::create_new(&record)?;
            io::Write::write_all(&mut file, &json)?;
            file.sync_all()?;
            File::open(new)?.sync_all()
        };
        json.map_err(io::Error::from).and_then(write).map_err(ArtifactError::file("writing", &record))?;
        self.unpublish(work, &artifact.id)?;
        let dir = self.entry_dir(&artifact.id);
        put(new, &dir).map_err(ArtifactError::file("publishing", &dir))?;
        // From here on it is used; a failure to tidy up is no failure.
        let _ = fs::remove_dir_all(&work.dir);
        Ok(with_paths(artifact, &dir))
    }

    /// Takes an entry out: at once by a rename, its bytes after that.
    pub fn unpublish(&self, work: &Work, id: &ArtifactId) -> Result<(), ArtifactError> {
        let (dir, old) = (self.entry_dir(id), work.dir.join(OLD));
        remove_tree(&old)?;
        match put(&dir, &old) {
            Ok(()) => remove_tree(&old),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(ArtifactError::file("removing", &dir)(e)),
        }?;
        // The folders above go when nothing else is in them.
        for above in dir.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }

    /// The ids of all entries, whole or not; what is named otherwise is not ours.
    pub fn entries(&self) -> Result<Vec<ArtifactId>, ArtifactError> {
        let mut ids = Vec::new();
        for program in Program::ALL {
            let dir = self.root.join(program.as_str());
            for name in names(&dir)? {
                let Ok(version) = Version::parse(&name) else { continue };
                let is_arch = |name: &String| [Arch::Amd64, Arch::Arm64].into_iter().find(|a| a.as_str() == name);
                let archs = names(&dir.join(&name))?;
                let id = |arch| ArtifactId { program, version: version.clone(), arch };
                ids.extend(archs.iter().filter_map(is_arch).map(id));
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The ids that some run, alive or not, has a work folder for.
    pub fn works(&self) -> Result<Vec<ArtifactId>, ArtifactError> {
        let id = |name: &String| {
            let mut parts = name.rsplitn(3, '_');
            let (arch, version, program) = (parts.next()?, parts.next()?, parts.next()?);
            let arch = [Arch::Amd64, Arch::Arm64].into_iter().find(|known| known.as_str() == arch)?;
            Some(ArtifactId { program: program.parse().ok()?, version: version.parse().ok()?, arch })
        };
        let mut ids: Vec<_> = names(&self.root.join(WORK))?.iter().filter_map(id).collect();
        ids.sort();
        Ok(ids)
    }
}

/// Renames; the folders above may come and go at the same time, for the sake of other artifacts.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        match made.and_then(|()| fs::rename(from, to)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 5 && from.exists() => tries += 1,
            done => return done,
        }
    }
}

fn read_entry(dir: &Path, id: &ArtifactId) -> Result<Artifact, String> {
    let record = dir.join(RECORD);
    let size = regular_size(&record)?;
    if size > MAX_RECORD {
        return Err(format!("{RECORD} is {size} bytes long"));
    }
    let text = fs::read(&record).map_err(|e| format!("{RECORD}: {e}"))?;
    let Record { format, artifact } = serde_json::from_slice(&text).map_err(|e| format!("{RECORD}: {e}"))?;
    if format != FORMAT {
        return Err(format!("{RECORD} has format {format}, known is {FORMAT}"));
    }
    if artifact.id != *id {
        return Err(format!("{RECORD} is about {}", artifact.id));
    }
    let names: Vec<&str> = artifact.executables.iter().map(|e| e.name.as_str()).collect();
    if names != id.program.executables(&id.version) {
        return Err(format!("{RECORD} lists other executables: {}", names.join(", ")));
    }
    for executable in &artifact.executables {
        for compression in Compression::ALL {
            let packed = executable.packed(compression);
            let name = format!("{}.{}", executable.name, compression.suffix());
            if packed.path != Path::new(&name) {
                return Err(format!("{RECORD} points to {}", packed.path.display()));
            }
            let size = regular_size(&dir.join(&name))?;
            if size != packed.size {
                return Err(format!("{name} has {size} bytes instead of {}", packed.size));
            }
        }
    }
    Ok(with_paths(artifact, dir))
}

fn with_paths(mut artifact: Artifact, dir: &Path) -> Artifact {
    for executable in &mut artifact.executables {
        for packed in [&mut executable.gzip, &mut executable.zstd] {
            packed.path = dir.join(&packed.path);
        }
    }
    artifact
}

fn regular_size(path: &Path) -> Result<u64, String> {
    let name = path.file_name().unwrap_or_default().display();
    let metadata = fs::symlink_metadata(path).map_err(|e| format!("{name}: {e}"))?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(format!("{name} is no regular file")) }
}

/// The names of the folders in a folder; none where there is no such folder.
fn names(dir: &Path) -> Result<Vec<String>, ArtifactError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    };
    match read() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        done => done.map_err(ArtifactError::file("reading", dir)),
    }
}

pub(super) fn remove_tree(dir: &Path) -> Result<(), ArtifactError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(ArtifactError::file("removing", dir)),
    }
}

/// In bytes, of all files below; what vanishes meanwhile counts nothing.
pub(super) fn tree_size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
