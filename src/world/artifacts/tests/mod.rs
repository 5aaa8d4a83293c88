//! The cache against small made-up releases: what they share.

mod fetching;
mod keeping;
mod local;
mod server;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use semver::Version;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use self::server::Server;
use super::*;
use crate::core::release::{Maker, Packing, archive_name, archive_path, sums_path};
use crate::model::artifact::Arch;
use crate::model::event::{Event, EventKind, EventSink};
use crate::model::version::Program;

pub fn id(program: Program, arch: Arch) -> ArtifactId {
    ArtifactId { program, version: Version::new(1, 2, 3), arch }
}

pub fn consul() -> ArtifactId {
    id(Program::Consul, Arch::Amd64)
}

pub fn prometheus() -> ArtifactId {
    id(Program::Prometheus, Arch::Amd64)
}

/// An executable of a few hundred kilobytes that no compression shrinks, other for each name.
pub fn program(name: &str, arch: Arch) -> Vec<u8> {
    let mut bytes = elf::tests::head(arch);
    let mut seed = Sha256::of(name.as_bytes());
    while bytes.len() < 300_000 {
        seed = Sha256::of(seed.as_str().as_bytes());
        let digits = seed.as_str().as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
        bytes.extend(digits.map(|two| u8::from_str_radix(two, 16).unwrap()));
    }
    bytes
}

pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Entries with any name, `../` too, which the tar crate itself would not write.
pub fn tar_gz_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The archive of a release as its makers pack it.
pub fn release_of(id: &ArtifactId) -> Vec<u8> {
    let flat = Maker::of(id.program).packing() == Packing::Zip;
    let folder = if flat { String::new() } else { archive_name(id).trim_end_matches(".tar.gz").to_owned() + "/" };
    let mut files = vec![(format!("{folder}LICENSE"), b"as it is".to_vec())];
    files.extend(
        id.program.executables(&id.version).iter().map(|name| (format!("{folder}{name}"), program(name, id.arch))),
    );
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    if flat { zip_of(&files) } else { tar_gz_of(&files) }
}

pub fn sums_of(files: &[(&str, &[u8])]) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", Sha256::of(bytes))).collect()
}

/// A cache in a folder of its own, patient and without waits.
pub fn cache() -> (TempDir, Cache) {
    let dir = TempDir::new().unwrap();
    let cache = cache_in(dir.path());
    (dir, cache)
}

pub fn cache_in(dir: &Path) -> Cache {
    let mut cache = Cache::open(dir.join("cache")).unwrap();
    cache.limits.first_wait = Duration::ZERO;
    cache.limits.lock_poll = Duration::from_millis(1);
    cache.limits.advance = 1;
    cache.limits.proxy = false;
    cache
}

/// A server that has these releases, with their sums.
pub fn serving(ids: &[ArtifactId]) -> Server {
    let server = Server::start();
    let mut sums = std::collections::BTreeMap::<String, String>::new();
    for id in ids {
        let bytes = release_of(id);
        server.put(&archive_path(id), &bytes, "\"one\"");
        *sums.entry(sums_path(id)).or_default() += &sums_of(&[(&archive_name(id), &bytes)]);
    }
    for (path, text) in sums {
        server.put(&path, text.as_bytes(), "\"sums\"");
    }
    server
}

pub fn mirror(server: &Server) -> Sources {
    Sources { mirror: Some(server.base()), ..Sources::default() }
}

/// Gets one artifact, with nobody watching.
pub async fn get(cache: &Cache, id: &ArtifactId, sources: &Sources) -> Result<Artifact, ArtifactError> {
    let (events, cancel) = (Events::silent(), CancellationToken::new());
    let mut outcomes = cache.ensure(std::slice::from_ref(id), sources, &events, &cancel).await;
    assert_eq!(outcomes.len(), 1);
    let (of, outcome) = outcomes.remove(0);
    assert_eq!(of, *id);
    outcome
}

/// The entry is whole: what comes out of each of its files is the program.
#[track_caller]
pub fn assert_whole(cache: &Cache, artifact: &Artifact) {
    let id = &artifact.id;
    assert_eq!(cache.get(id).unwrap().as_ref(), Some(artifact));
    let names: Vec<&str> = artifact.executables.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, id.program.executables(&id.version));
    for executable in &artifact.executables {
        let gz = std::fs::read(&executable.gzip.path).unwrap();
        assert_eq!(gz.len() as u64, executable.gzip.size);
        assert_eq!(gz[3..8], [0; 5], "no name and no time in the gzip header");
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(gz.as_slice()).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, program(&executable.name, id.arch));
        let zst = std::fs::read(&executable.zstd.path).unwrap();
        assert_eq!(zst.len() as u64, executable.zstd.size);
        assert_eq!(zst[4] & 0b100, 0b100, "a sum at the end of the zstd frame");
        assert_eq!(zstd::decode_all(zst.as_slice()).unwrap(), bytes);
        assert_eq!(executable.size, bytes.len() as u64);
        assert_eq!(executable.sha256, Sha256::of(&bytes));
    }
    assert!(!cache.store.work_dir(id).exists(), "nothing is left of the work");
}

#[track_caller]
pub fn assert_empty(cache: &Cache) {
    assert_eq!(cache.list().unwrap(), []);
    assert_eq!(cache.broken().unwrap(), []);
}

/// Keeps what happened, and does something when it happens.
type When = Box<dyn Fn(&EventKind) + Send + Sync>;

pub struct Seen {
    kinds: Mutex<Vec<EventKind>>,
    when: When,
}

impl EventSink for Seen {
    fn emit(&self, event: Event) {
        assert_eq!(event.host, None);
        (self.when)(&event.kind);
        self.kinds.lock().unwrap().push(event.kind);
    }
}

impl Seen {
    pub fn new(when: impl Fn(&EventKind) + Send + Sync + 'static) -> (Arc<Self>, Events) {
        let seen = Arc::new(Self { kinds: Mutex::default(), when: Box::new(when) });
        (seen.clone(), Events::new(seen))
    }

    pub fn kinds(&self) -> Vec<EventKind> {
        self.kinds.lock().unwrap().clone()
    }

    pub fn warnings(&self) -> Vec<String> {
        let warning = |kind| if let EventKind::Warning { message } = kind { Some(message) } else { None };
        self.kinds().into_iter().filter_map(warning).collect()
    }
}
