//! What flows over a command's channel: its input, and what comes back. Neither ever waits; the loop that
//! moves both stands in `channel`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use ssh2::{Channel, ErrorCode};

use crate::model::stream::Part;
use crate::world::remote::{MAX_OUTPUT, Watch};

/// How much of a file is read at once. libssh2 sends at most 32 KiB a packet; more at once saves reads.
const CHUNK: usize = 256 << 10;
/// Standard error is for people: its end is kept, up to so many bytes.
const MAX_STDERR: usize = 64 << 10;

/// Why a command's loop ended early.
pub(super) enum Stop {
    TimedOut,
    TooMuch,
    Input(std::path::PathBuf, std::io::Error),
    Lost(String),
}

impl Stop {
    pub fn lost(error: &std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What is left to send.
pub(super) struct Input<'a> {
    parts: std::slice::Iter<'a, Part>,
    /// The file being sent, and how much of it is left.
    file: Option<(File, u64, &'a std::path::Path)>,
    chunk: Vec<u8>,
    at: usize,
    sent: u64,
    total: u64,
    eof_sent: bool,
}

impl<'a> Input<'a> {
    pub fn new(parts: &'a [Part]) -> Self {
        let total = parts.iter().map(Part::len).sum();
        Self { parts: parts.iter(), file: None, chunk: Vec::new(), at: 0, sent: 0, total, eof_sent: false }
    }

    /// Sends until the channel takes no more. Did anything move?
    pub fn feed(&mut self, channel: &mut Channel, watch: &dyn Watch) -> Result<bool, Stop> {
        let mut moved = false;
        while !self.eof_sent {
            if self.at == self.chunk.len() && !self.refill()? {
                match channel.send_eof() {
                    Ok(()) => self.eof_sent = true,
                    Err(error) if error.code() == ErrorCode::Session(-37) => return Ok(moved),
                    // The command ended without reading all: its exit status says more than this.
                    Err(_) => self.eof_sent = true,
                }
                continue;
            }
            match channel.write(&self.chunk[self.at..]) {
                Ok(0) => return Ok(moved),
                Ok(n) => {
                    moved = true;
                    self.at += n;
                    self.sent += n as u64;
                    watch.sent(self.sent, self.total);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
                Err(error) if channel.eof() || is_closed(&error) => self.eof_sent = true,
                Err(error) => return Err(Stop::lost(&error)),
            }
        }
        Ok(moved)
    }

    /// The next chunk; `false` when all is sent.
    fn refill(&mut self) -> Result<bool, Stop> {
        self.at = 0;
        self.chunk.clear();
        loop {
            if let Some((file, left, path)) = &mut self.file {
                let want = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                self.chunk.resize(want, 0);
                file.read_exact(&mut self.chunk).map_err(|error| Stop::Input(path.to_path_buf(), error))?;
                *left -= want as u64;
                if *left == 0 {
                    self.file = None;
                }
                return Ok(true);
            }
            match self.parts.next() {
                None => return Ok(false),
                Some(part) if part.is_empty() => {}
                Some(Part::Bytes(bytes)) => {
                    self.chunk.extend_from_slice(bytes);
                    return Ok(true);
                }
                Some(Part::File { path, size }) => {
                    let file = File::open(path).map_err(|error| Stop::Input(path.clone(), error))?;
                    self.file = Some((file, *size, path));
                }
            }
        }
    }
}

/// LIBSSH2_ERROR_CHANNEL_CLOSED and _EOF_SENT come as errors of kind Other with these texts.
fn is_closed(error: &std::io::Error) -> bool {
    let code = error.get_ref().and_then(|inner| inner.downcast_ref::<ssh2::Error>()).map(ssh2::Error::code);
    matches!(code, Some(ErrorCode::Session(-26 | -27)))
}

/// What came back.
#[derive(Default)]
pub(super) struct Pumped {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Where in `stdout` the line begins that is not over yet.
    line: usize,
}

impl Pumped {
    pub fn read(&mut self, channel: &mut Channel, buffer: &mut [u8], watch: &dyn Watch) -> Result<bool, Stop> {
        let mut moved = false;
        loop {
            match channel.read(buffer) {
                Ok(0) => break,
                Ok(n) => {
                    moved = true;
                    if self.stdout.len() + n > MAX_OUTPUT {
                        return Err(Stop::TooMuch);
                    }
                    self.stdout.extend_from_slice(&buffer[..n]);
                    self.lines(watch);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Stop::lost(&error)),
            }
        }
        loop {
            match channel.stderr().read(buffer) {
                Ok(0) => break,
                Ok(n) => {
                    moved = true;
                    self.stderr.extend_from_slice(&buffer[..n]);
                    let excess = self.stderr.len().saturating_sub(MAX_STDERR);
                    self.stderr.drain(..excess);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Stop::lost(&error)),
            }
        }
        Ok(moved)
    }

    fn lines(&mut self, watch: &dyn Watch) {
        while let Some(length) = self.stdout[self.line..].iter().position(|b| *b == b'\n') {
            let line = &self.stdout[self.line..self.line + length];
            watch.line(&String::from_utf8_lossy(line));
            self.line += length + 1;
        }
    }

    pub fn end_line(&mut self, watch: &dyn Watch) {
        if self.line < self.stdout.len() {
            watch.line(&String::from_utf8_lossy(&self.stdout[self.line..]));
            self.line = self.stdout.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_cut_into_chunks_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; CHUNK + 5]).unwrap();
        let parts =
            [Part::Bytes(b"head".to_vec()), Part::Bytes(Vec::new()), Part::File { path, size: (CHUNK + 5) as u64 }];
        let mut input = Input::new(&parts);
        let mut chunks = Vec::new();
        while matches!(input.refill(), Ok(true)) {
            chunks.push(input.chunk.len());
        }
        assert_eq!(chunks, [4, CHUNK, 5]);
        assert_eq!(input.total, (CHUNK + 9) as u64);
    }

    #[test]
    fn a_file_that_is_shorter_than_said_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        let parts = [Part::File { path: path.clone(), size: 4 }];
        assert!(matches!(Input::new(&parts).refill(), Err(Stop::Input(named, _)) if named == path));
    }
}
