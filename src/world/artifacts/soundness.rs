//! Are an entry's compressed files still what was written? Sizes are looked at whenever an entry is used; their bytes
//! only where somebody asks, for they are many.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use sha2::Digest;

use crate::model::artifact::{Artifact, Compression, Executable, Sha256};

const CHUNK: usize = 256 << 10;

/// What is wrong with the first file that is damaged; `None`: all of the entry is as it was written.
pub(super) fn damage(artifact: &Artifact) -> Option<String> {
    let files = artifact.executables.iter().flat_map(|one| Compression::ALL.map(|compression| (one, compression)));
    files.into_iter().find_map(|(executable, compression)| damage_of(executable, compression))
}

/// The same of one file. Where its own sum was not recorded, what comes out of it is compared.
pub fn damage_of(executable: &Executable, compression: Compression) -> Option<String> {
    let packed = executable.packed(compression);
    let found = match &packed.sha256 {
        Some(expected) => File::open(&packed.path).and_then(sum).map(|found| found == *expected),
        None => unpacked(&packed.path, compression, executable.size).map(|found| found == executable.sha256),
    };
    let name = packed.path.file_name().unwrap_or_default().display();
    match found {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} has other bytes than were written")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

fn sum(mut from: impl Read) -> io::Result<Sha256> {
    let mut sum = sha2::Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Sha256::from_digest(&sum.finalize())),
            Ok(n) => sum.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The sum of what comes out; more than `size` bytes are not read.
fn unpacked(path: &Path, compression: Compression, size: u64) -> io::Result<Sha256> {
    let file = BufReader::with_capacity(CHUNK, File::open(path)?);
    match compression {
        Compression::Gzip => sum(GzDecoder::new(file).take(size + 1)),
        Compression::Zstd => sum(zstd::Decoder::with_buffer(file)?.take(size + 1)),
    }
}
