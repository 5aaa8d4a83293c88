//! Takes the wanted executables out of an archive and compresses each once, in one pass and with flat
//! memory. Nothing else of the archive is written anywhere, and no name in it decides where.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use super::{ArtifactError, Limits, elf};
use crate::core::release::{Maker, Packing};
use crate::model::artifact::{ArtifactId, Compression, Executable, Packed, Sha256};

/// How hard to compress. Measured with Consul 1.22.7 (126 MB) on two cores:
///
/// | program, level | bytes | compress | unpack | 1 Gbit/s link |
/// |---|---|---|---|---|
/// | gzip 1 | 48.1 MB | 1.0 s | 1.00 s | 0.38 s |
/// | gzip 2 | 39.8 MB | 1.4 s | 0.86 s | 0.32 s |
/// | gzip 3 | 38.1 MB | 1.6 s | 0.77 s | 0.30 s |
/// | gzip 6 | 36.3 MB | 3.3 s | 0.77 s | 0.29 s |
/// | zstd 1 | 36.5 MB | 0.5 s | 0.28 s | 0.29 s |
/// | zstd 3 | 33.1 MB | 0.6 s | 0.26 s | 0.27 s |
/// | zstd 9 | 30.2 MB | 4.0 s | 0.34 s | 0.24 s |
///
/// Compressing happens once, link and unpacking once a host. Beyond these levels unpacking is no faster and
/// the link gains little for seconds more here.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;

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
    /// All executables of the program, in the order of [`Program::executables`]; their paths are relative to `into`.
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
        self.id.program.executables(&self.id.version).iter().map(take).collect()
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
        self.id.program.executables(&self.id.version).iter().find(|name| *name == base).copied()
    }

    fn take(&self, name: &str, from: &mut dyn Read, found: &mut Vec<Executable>) -> Result<(), ArtifactError> {
        if found.iter().any(|e| e.name == name) {
            return Err(ArtifactError::Ambiguous { place: self.place.to_owned(), executable: name.to_owned() });
        }
        let head = self.head(name, from)?;
        let mut gzip = PackedFile::begin(self.into, name, Compression::Gzip)?;
        let mut zstd = PackedFile::begin(self.into, name, Compression::Zstd)?;
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
            gzip.write(&piece)?;
            zstd.write(&piece)?;
            piece = self.piece(from, piece, CHUNK)?;
        }
        let sha256 = Sha256::from_digest(&sum.finalize());
        let (gzip, zstd) = (gzip.finish()?, zstd.finish()?);
        found.push(Executable { name: name.to_owned(), sha256, size, gzip, zstd });
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

/// A compressed file that is being written. No name and no time go into it: the same executable gives the
/// same bytes.
struct PackedFile {
    path: PathBuf,
    out: Encoder,
}

enum Encoder {
    Gzip(GzEncoder<BufWriter<Summed>>),
    Zstd(zstd::Encoder<'static, BufWriter<Summed>>),
}

impl PackedFile {
    fn begin(into: &Path, name: &str, compression: Compression) -> Result<Self, ArtifactError> {
        let path = into.join(format!("{name}.{}", compression.suffix()));
        let failed = ArtifactError::file("creating", &path);
        let begin = || {
            let summed = Summed { file: File::create_new(&path)?, sum: sha2::Sha256::new() };
            let file = BufWriter::with_capacity(CHUNK, summed);
            Ok(match compression {
                Compression::Gzip => {
                    Encoder::Gzip(GzBuilder::new().mtime(0).write(file, flate2::Compression::new(GZIP_LEVEL)))
                }
                Compression::Zstd => {
                    let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                    // Who unpacks it must see that a byte is wrong; gzip always does.
                    encoder.include_checksum(true)?;
                    Encoder::Zstd(encoder)
                }
            })
        };
        let out = begin().map_err(failed)?;
        Ok(Self { path, out })
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), ArtifactError> {
        let written = match &mut self.out {
            Encoder::Gzip(out) => out.write_all(piece),
            Encoder::Zstd(out) => out.write_all(piece),
        };
        written.map_err(ArtifactError::file("writing", &self.path))
    }

    /// Its bytes are on the disk; the path is relative to the folder.
    fn finish(self) -> Result<Packed, ArtifactError> {
        let Self { path, out } = self;
        let finish = || {
            let buffered = match out {
                Encoder::Gzip(out) => out.finish(),
                Encoder::Zstd(out) => out.finish(),
            }?;
            let Summed { file, sum } = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            Ok((file.metadata()?.len(), Sha256::from_digest(&sum.finalize())))
        };
        let (size, sha256) = finish().map_err(ArtifactError::file("writing", &path))?;
        Ok(Packed { path: path.file_name().expect("it was joined").into(), size, sha256: Some(sha256) })
    }
}

/// A file, and the sum of what was written to it: its disk may give back something else later.
struct Summed {
    file: File,
    sum: sha2::Sha256,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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
