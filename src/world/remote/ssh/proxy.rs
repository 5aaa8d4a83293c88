//! The program that makes the way, for one session: its standard input and output are one end of a socket
//! pair, libssh2 has the other. It ends with the session, and is waited for.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

/// Of what it says, the end is kept.
const MAX_SAID: usize = 8 << 10;
/// How long it may take to say its last words, and to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(100);

pub(super) struct Proxy {
    child: Child,
    /// Our end: shutting it down tells the program to end.
    stream: UnixStream,
    said: Arc<Mutex<Vec<u8>>>,
    /// Answers when standard error is closed.
    silent: Receiver<()>,
}

/// What came of waiting for the host's first words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Yes,
    /// The program closed the way, or ended.
    Closed,
    TimedOut,
    Cancelled,
}

impl Proxy {
    /// Starts it in a process group of its own, where neither Ctrl-C nor the terminal reaches it: a question
    /// has nobody to answer it while many hosts are connected to at once.
    pub fn start(mut command: Command) -> std::io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let stream = ours.try_clone()?;
        command
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            // OpenSSH asks this program instead of the terminal, in hops before the last one too.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "/bin/false")
            .process_group(0);
        let mut child = command.spawn()?;
        // The program's end of the pair must be held by nobody else, or its end is not seen.
        drop(command);
        let (stderr, said) = (child.stderr.take(), Arc::new(Mutex::new(Vec::new())));
        let (closed, silent) = channel();
        let proxy = Self { child, stream, said: Arc::clone(&said), silent };
        if let Some(stderr) = stderr {
            let listen = move || {
                listen(stderr, &said);
                let _ = closed.send(());
            };
            std::thread::Builder::new().name("ssh proxy".to_owned()).spawn(listen)?;
        }
        Ok((proxy, ours))
    }

    /// Waits until the host's first bytes are there, which it sends unasked.
    pub fn wait_until_open(&self, limit: Duration, cancel: &CancellationToken) -> std::io::Result<Opened> {
        let deadline = Instant::now() + limit;
        loop {
            if cancel.is_cancelled() {
                return Ok(Opened::Cancelled);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Opened::TimedOut);
            }
            let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(left.min(NAP).subsec_nanos()).max(1) };
            match poll(&mut [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN)], Some(&nap)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) if rustix::io::ioctl_fionread(&self.stream)? > 0 => return Ok(Opened::Yes),
                Ok(_) if cancel.is_cancelled() => return Ok(Opened::Cancelled),
                Ok(_) => return Ok(Opened::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What it said on standard error, and how it ended if it did.
    pub fn last_words(&mut self) -> (String, Option<i32>) {
        let _ = self.silent.recv_timeout(LAST_WORDS);
        self.wait(GRACE);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let exit = self.child.try_wait().ok().flatten().and_then(|status| status.code());
        (String::from_utf8_lossy(&said).into_owned(), exit)
    }

    /// Has it ended, at the latest after `limit`?
    fn wait(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }

    /// The whole group, which holds only what it started. It was not waited for yet, so the id is still its own.
    fn kill(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        for signal in [Signal::TERM, Signal::KILL] {
            if self.wait(GRACE) {
                return;
            }
            self.kill(signal);
        }
        let _ = self.child.wait();
    }
}

fn listen(mut stderr: ChildStderr, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    loop {
        match stderr.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.extend_from_slice(&buffer[..n]);
                let excess = said.len().saturating_sub(MAX_SAID);
                said.drain(..excess);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn start(line: &str) -> (Proxy, UnixStream) {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        Proxy::start(command).unwrap()
    }

    fn open(proxy: &Proxy, millis: u64) -> Opened {
        proxy.wait_until_open(Duration::from_millis(millis), &CancellationToken::new()).unwrap()
    }

    fn is_there(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn bytes_flow_and_it_ends_with_its_owner() {
        let (proxy, mut stream) = start("exec cat");
        let pid = proxy.child.id();
        assert_eq!(open(&proxy, 20), Opened::TimedOut);
        stream.write_all(b"x").unwrap();
        assert_eq!(open(&proxy, 5_000), Opened::Yes);
        drop(proxy);
        assert!(!is_there(pid), "it is there, or a zombie");
    }

    #[test]
    fn last_words_are_heard_and_bounded() {
        let (mut proxy, _stream) = start("head -c 100000 /dev/zero | tr '\\0' x >&2; echo why >&2; exit 7");
        assert_eq!(open(&proxy, 5_000), Opened::Closed);
        let (said, exit) = proxy.last_words();
        assert!(said.len() == MAX_SAID && said.ends_with("xwhy\n"), "{} bytes", said.len());
        assert_eq!(exit, Some(7));
    }

    #[test]
    fn who_does_not_go_is_killed_with_what_it_started() {
        let (proxy, mut stream) = start("trap '' TERM; sleep 60 & echo $!; while :; do sleep 1; done");
        assert_eq!(open(&proxy, 5_000), Opened::Yes);
        let mut line = [0; 16];
        let n = stream.read(&mut line).unwrap();
        let sleeper: u32 = std::str::from_utf8(&line[..n]).unwrap().trim().parse().unwrap();
        let pid = proxy.child.id();
        drop(proxy);
        assert!(!is_there(pid));
        // It is init's to wait for that one: dead is enough.
        let deadline = Instant::now() + Duration::from_secs(5);
        let lives =
            || std::fs::read_to_string(format!("/proc/{sleeper}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(Instant::now() < deadline, "what it started lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn an_interruption_ends_the_wait() {
        let (proxy, _stream) = start("exec sleep 60");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(proxy.wait_until_open(Duration::from_secs(60), &cancel).unwrap(), Opened::Cancelled);
    }
}
