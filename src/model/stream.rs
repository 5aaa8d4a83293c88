//! A stream of bytes in pieces, so that large files pass through without being held in memory.

use std::path::PathBuf;

/// A piece of a stream; pieces are sent in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Bytes(Vec<u8>),
    /// Exactly `size` bytes of the file; fewer is an error.
    File {
        path: PathBuf,
        size: u64,
    },
}

impl Part {
    /// In bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
