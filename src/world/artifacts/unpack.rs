//! Takes the wanted executables out of an archive and compresses each once, in one pass and with flat
//! memory. Nothing else of the archive is written anywhere, and no name in it decides where.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use super::{ArtifactError, Limits, elf};
use crate::core::release::{Maker, Packing};
use crate::model::artifact::{ArtifactId, Executable, Sha256};

/// How hard to compress. Measured with Consul 1.22.7 (126 MB) on two cores:
///
/// | level | bytes | compress | gunzip | 1 Gbit/s link |
/// |---|---|---|---|---|
/// | 1 | 48.1 MB | 1.0 s | 1.00 s | 0.38 s |
/// | 2 | 39.8 MB | 1.4 s | 0.86 s | 0.32 s |
/// | 3 | 38.1 MB | 1.6 s | 0.77 s | 0.30 s |
/// | 6 | 36.3 MB | 3.3 s | 0.77 s | 0.29 s |
///
/// Compressing happens once, link and gunzip (the slower of the two, also over loopback) once a host.
/// Beyond 3, gunzip is no faster and the link gains 14 ms a host for 1.7 s more here.
const LEVEL: u32 = 3;

/// Pieces in which bytes pass through.
const CHUNK: usize = 128 << 10;

/// One unpacking: an archive that was checked already, and where its executables go.
pub(super) struct Unpack<'a> {
    pub id: &'a ArtifactId,
    /// The archive, for messages.
    pub place: &'a str,
    pub into: &'a Path,
    pub limits: &'a Limits,
    pub cancel: &'a CancellationToken,
}

impl Unpack<'_> {
    /// All executables of the program, in the order of [`Program::executables`]; their `gz` is relative to `into`.
    ///
    /// [`Program::executables`]: crate::model::version::Program::executables
    pub fn run(&self, archive: File) -> Result<Vec<Executable>, ArtifactError> {
        let found = match Maker::of(self.id.program).packing() {
            Packing::Zip => self.zip(archive)?,
            Packing::TarGz => self.tar_gz(archive)?,
        };
        let take = |name: &&str| {
            found
                .iter()
                .find(|e| e.name == **name)
                .cloned()
                .ok_or_else(|| ArtifactError::Lacks { place: self.place.to_owned(), executable: (*name).to_owned() })
        };
        self.id.program.executables().iter().map(take).collect()
    }

    fn zip(&self, archive: File) -> Result<Vec<Executable>, ArtifactError> {
        let mut zip = zip::ZipArchive::new(BufReader::with_capacity(CHUNK, archive)).map_err(|e| self.bad(e.into()))?;
        let mut found = Vec::new();
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).map_err(|e| self.bad(e.into()))?;
            // A zip made without Unix modes has none; one with modes must say "regular file".
            let regular = entry.unix_mode().is_none_or(|mode| matches!(mode & 0o170_000, 0 | 0o100_000));
            if !regular || !entry.is_file() {
                continue;
            }
            if let Some(name) = self.wanted(entry.name_raw()) {
                self.take(name, &mut entry, &mut found)?;
            }
        }
        Ok(found)
    }

    fn tar_gz(&self, archive: File) -> Result<Vec<Executable>, ArtifactError> {
        let gunzip = GzDecoder::new(BufReader::with_capacity(CHUNK, archive));
        let mut tar = tar::Archive::new(Bounded { inner: gunzip, left: self.limits.unpacked });
        let mut found = Vec::new();
        // Raw: the extensions for long names are read into memory, however long; no name that we want needs them.
        for entry in tar.entries().map_err(|e| self.bad(e))?.raw(true) {
            let mut entry = entry.map_err(|e| self.bad(e))?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                continue;
            }
            let path = entry.header().path_bytes().into_owned();
            if let Some(name) = self.wanted(&path) {
                self.take(name, &mut entry, &mut found)?;
            }
        }
        // What follows the last entry holds gzip's own sum: read to its end, it tells a cut-off archive.
        let mut rest = tar.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|e| self.bad(e))?;
        Ok(found)
    }

    /// The executable that an entry of this path is, if we want it: by its base name, at the top or one
    /// folder below. A path that points elsewhere is nobody's release.
    fn wanted(&self, path: &[u8]) -> Option<&'static str> {
        let path = std::str::from_utf8(path).ok()?;
        let parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
        let (base, above) = parts.split_last()?;
        if above.len() > 1 || above.iter().any(|part| part.is_empty() || *part == "..") {
            return None;
        }
        self.id.program.executables().iter().find(|name| *name == base).copied()
    }

    fn take(&self, name: &str, from: &mut dyn Read, found: &mut Vec<Executable>) -> Result<(), ArtifactError> {
        if found.iter().any(|e| e.name == name) {
            return Err(ArtifactError::Ambiguous { place: self.place.to_owned(), executable: name.to_owned() });
        }
        let head = self.head(name, from)?;
        let gz = format!("{name}.gz");
        let path = self.into.join(&gz);
        let file = |doing| ArtifactError::file(doing, &path);
        let out = File::create_new(&path).map_err(file("creating"))?;
        // No name and no time in it: the same executable gives the same bytes.
        let out = BufWriter::with_capacity(CHUNK, out);
        let mut out = GzBuilder::new().mtime(0).write(out, Compression::new(LEVEL));
        let (mut sum, mut size) = (sha2::Sha256::new(), 0);
        let mut piece = head;
        while !piece.is_empty() {
            if self.cancel.is_cancelled() {
                return Err(ArtifactError::Cancelled { id: self.id.clone() });
            }
            size += piece.len() as u64;
            if size > self.limits.executable {
                return Err(self.too_large("an executable", self.limits.executable));
            }
            sum.update(&piece);
            out.write_all(&piece).map_err(file("writing"))?;
            piece = self.piece(from, piece, CHUNK)?;
        }
        let out = out.finish().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
        let out = out.map_err(file("writing"))?;
        out.sync_all().map_err(file("writing"))?;
        let gz_size = out.metadata().map_err(file("reading the size of"))?.len();
        let sha256 = Sha256::from_digest(&sum.finalize());
        found.push(Executable { name: name.to_owned(), sha256, size, gz: gz.into(), gz_size });
        Ok(())
    }

    /// The executable's first bytes, once they are seen to be for the wanted platform.
    fn head(&self, name: &str, from: &mut dyn Read) -> Result<Vec<u8>, ArtifactError> {
        let head = self.piece(from, Vec::new(), elf::HEADER)?;
        elf::check(&head, self.id.arch).map_err(|found| ArtifactError::Foreign {
            place: self.place.to_owned(),
            executable: name.to_owned(),
            found,
            wanted: self.id.arch,
        })?;
        Ok(head)
    }

    /// The next bytes, up to `most`; fewer only at the end. `buffer` is used again.
    fn piece(&self, from: &mut dyn Read, mut buffer: Vec<u8>, most: usize) -> Result<Vec<u8>, ArtifactError> {
        buffer.clear();
        from.take(most as u64).read_to_end(&mut buffer).map_err(|e| self.bad(e))?;
        Ok(buffer)
    }

    fn bad(&self, source: io::Error) -> ArtifactError {
        if source.kind() == io::ErrorKind::FileTooLarge {
            return self.too_large("its content", self.limits.unpacked);
        }
        ArtifactError::Damaged { place: self.place.to_owned(), source }
    }

    fn too_large(&self, what: &'static str, limit: u64) -> ArtifactError {
        ArtifactError::TooLarge { place: self.place.to_owned(), what, limit }
    }
}

/// Fails when more comes out than any honest archive holds.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(got as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(got)
    }
}
