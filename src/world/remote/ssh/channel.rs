//! Runs commands and forwards connections on one session. Commands run in non-blocking mode in a single
//! loop, so that a host that answers before it has read all of its input cannot lock both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, ErrorCode, Session};
use tokio_util::sync::CancellationToken;

use super::flow::{Input, Pumped, Stop};
use super::login::millis;
use super::proxy::Proxy;
use super::stream::Stream;
use super::{Job, Secret};
use crate::model::name::HostName;
use crate::model::stream::Part;
use crate::world::remote::{Command, MAX_OUTPUT, Output, RemoteError, Unwatched, Watch};

/// Opening and closing a channel; the command itself has its own limit.
const CHANNEL: Duration = Duration::from_secs(20);
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The longest sleep within the loop, so that a cancelled run is noticed.
const NAP: Duration = Duration::from_millis(200);

/// How the login user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sudo {
    WithoutPassword,
    WithPassword,
}

/// A session that is logged in, owned by its thread.
pub(super) struct Channeler {
    pub host: HostName,
    pub user: String,
    pub session: Session,
    pub stream: Stream,
    /// Makes the way, where it is not direct; ends when the session has ended.
    pub proxy: Option<Proxy>,
    pub sudo_password: Option<Secret>,
    /// Found out by the first command that needs it.
    pub sudo: Option<Sudo>,
    pub cancel: CancellationToken,
}

impl Channeler {
    /// Does jobs until the async side is gone.
    pub fn serve(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(KEEPALIVE) {
                Ok(Job::Run { command, watch, answer }) => drop(answer.send(self.run(&command, watch.as_ref()))),
                Ok(Job::Exchange { to, request, timeout, answer }) => {
                    drop(answer.send(self.exchange(to, &request, timeout)));
                }
                Err(RecvTimeoutError::Timeout) => drop(self.session.keepalive_send()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.session.set_blocking(true);
        self.session.set_timeout(500);
        let _ = self.session.disconnect(None, "done", None);
        // What makes the way ends after what goes over it.
        drop(self.proxy.take());
    }

    fn run(&mut self, command: &Command, watch: &dyn Watch) -> Result<Output, RemoteError> {
        if !command.root || self.user == "root" {
            return self.execute(&command.line, &command.stdin, command.timeout, watch);
        }
        let quoted = shlex::try_quote(&command.line).map_err(|_| self.sudo_error("the command holds a NUL byte"))?;
        let output = match self.way_to_root()? {
            Sudo::WithoutPassword => {
                self.execute(&format!("sudo -n -- sh -c {quoted}"), &command.stdin, command.timeout, watch)?
            }
            Sudo::WithPassword => {
                let mut stdin = vec![self.password_line()];
                stdin.extend(command.stdin.iter().cloned());
                // -k: ask although it may remember, or the password would be the command's first line.
                self.execute(&format!("sudo -k -S -p '' -- sh -c {quoted}"), &stdin, command.timeout, watch)?
            }
        };
        match sudo_refused(&output) {
            Some(detail) => Err(self.sudo_error(&detail)),
            None => Ok(output),
        }
    }

    fn sudo_error(&self, detail: &str) -> RemoteError {
        RemoteError::Sudo { host: self.host.clone(), user: self.user.clone(), detail: detail.to_owned() }
    }

    /// With a password at hand, asks once whether sudo wants it, and whether it takes it. Without one there is only
    /// one way.
    fn way_to_root(&mut self) -> Result<Sudo, RemoteError> {
        if let Some(sudo) = self.sudo {
            return Ok(sudo);
        }
        let mut sudo = Sudo::WithoutPassword;
        if self.sudo_password.is_some() {
            let probe = self.execute("sudo -n -- true", &[], CHANNEL, &Unwatched)?;
            if probe.status != 0 {
                self.try_password()?;
                sudo = Sudo::WithPassword;
            }
        }
        self.sudo = Some(sudo);
        Ok(sudo)
    }

    /// With nothing behind the password: sudo takes each further line for another attempt, so that a wrong one before
    /// a command's input would count three times against a user who may be locked out for it.
    fn try_password(&self) -> Result<(), RemoteError> {
        let output = self.execute("sudo -k -S -p '' -- true", &[self.password_line()], CHANNEL, &Unwatched)?;
        match sudo_refused(&output) {
            Some(detail) => Err(self.sudo_error(&detail)),
            None => Ok(()),
        }
    }

    fn password_line(&self) -> Part {
        let password = self.sudo_password.as_ref().map(Secret::reveal).unwrap_or_default();
        Part::Bytes(format!("{password}\n").into_bytes())
    }

    fn lost(&self, doing: &str, detail: impl Into<String>) -> RemoteError {
        if self.cancel.is_cancelled() {
            return RemoteError::Cancelled { host: self.host.clone() };
        }
        RemoteError::Lost { host: self.host.clone(), doing: doing.to_owned(), detail: detail.into() }
    }

    fn execute(&self, line: &str, stdin: &[Part], limit: Duration, watch: &dyn Watch) -> Result<Output, RemoteError> {
        let doing = "running a command";
        self.session.set_blocking(true);
        self.session.set_timeout(millis(CHANNEL));
        let opened = self.session.channel_session().and_then(|mut channel| channel.exec(line).map(|()| channel));
        let mut channel = opened.map_err(|error| self.lost("opening a channel", error.message()))?;
        self.session.set_blocking(false);
        let pumped = self.pump(&mut channel, Input::new(stdin), Instant::now() + limit, watch);
        let pumped = match pumped {
            Ok(pumped) => pumped,
            Err(stop) => {
                // Freed while the session does not block: else it waits for the host to close the channel, which
                // happens only when the command ends, and a time limit would limit nothing.
                drop(channel);
                return Err(self.stopped(stop, doing, limit));
            }
        };
        self.session.set_blocking(true);
        // The exit status comes with the close; without it nobody knows how the command ended.
        let closed = channel.close().and_then(|()| channel.wait_close());
        closed.map_err(|error| self.lost(doing, error.message()))?;
        let signal = channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let status = match signal {
            Some(name) => 128 + signal_number(&name),
            None => channel.exit_status().map_err(|error| self.lost(doing, error.message()))?,
        };
        Ok(Output { status, stdout: pumped.stdout, stderr: pumped.stderr })
    }

    fn stopped(&self, stop: Stop, doing: &str, limit: Duration) -> RemoteError {
        match stop {
            Stop::TimedOut => RemoteError::TimedOut { host: self.host.clone(), doing: doing.to_owned(), limit },
            Stop::TooMuch => {
                RemoteError::TooMuch { host: self.host.clone(), doing: doing.to_owned(), limit: MAX_OUTPUT }
            }
            Stop::Input(path, source) => RemoteError::Input { path, source },
            Stop::Lost(detail) => self.lost(doing, detail),
        }
    }

    fn pump(
        &self,
        channel: &mut Channel,
        mut input: Input<'_>,
        deadline: Instant,
        watch: &dyn Watch,
    ) -> Result<Pumped, Stop> {
        let mut pumped = Pumped::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut moved = input.feed(channel, watch)?;
            moved |= pumped.read(channel, &mut buffer, watch)?;
            if channel.eof() {
                pumped.end_line(watch);
                return Ok(pumped);
            }
            if self.cancel.is_cancelled() {
                return Err(Stop::Lost("interrupted".to_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Stop::TimedOut);
            }
            if !moved {
                self.rest(left.min(NAP))?;
            }
        }
    }

    /// Sleeps until the socket has something, or takes something again.
    fn rest(&self, limit: Duration) -> Result<(), Stop> {
        let mut events = PollFlags::empty();
        match self.session.block_directions() {
            BlockDirections::Inbound | BlockDirections::None => events |= PollFlags::IN,
            BlockDirections::Outbound => events |= PollFlags::OUT,
            BlockDirections::Both => events |= PollFlags::IN | PollFlags::OUT,
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()).max(1) };
        match poll(&mut [PollFd::from_borrowed_fd(self.stream.as_fd(), events)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Stop::Lost(error.to_string())),
        }
    }

    fn exchange(&self, to: SocketAddr, request: &[u8], timeout: Duration) -> Result<Vec<u8>, RemoteError> {
        let doing = format!("talking to {to}");
        let deadline = Instant::now() + timeout;
        let timed_out = || RemoteError::TimedOut { host: self.host.clone(), doing: doing.clone(), limit: timeout };
        self.session.set_blocking(true);
        self.session.set_timeout(millis(timeout));
        let opened = self.session.channel_direct_tcpip(&to.ip().to_string(), to.port(), None);
        let mut channel = opened.map_err(|error| match error.code() {
            ErrorCode::Session(-9) => timed_out(),
            ErrorCode::Session(-21) => RemoteError::NotListening { host: self.host.clone(), address: to },
            _ => self.lost(&doing, error.message()),
        })?;
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => timed_out(),
            _ => self.lost(&doing, error.to_string()),
        };
        channel.write_all(request).map_err(failed)?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match channel.read(&mut buffer).map_err(failed)? {
                0 => break,
                n => answer.extend_from_slice(&buffer[..n]),
            }
            if answer.len() > MAX_OUTPUT {
                return Err(RemoteError::TooMuch { host: self.host.clone(), doing, limit: MAX_OUTPUT });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            self.session.set_timeout(millis(left));
        }
        let _ = channel.close();
        Ok(answer)
    }
}

/// Did sudo itself refuse, rather than the command fail? Its last line says why: those before it are the tries.
fn sudo_refused(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let said = text.lines().rfind(|line| {
        line.starts_with("sudo: ")
            || line.contains("is not in the sudoers file")
            || line.contains("is not allowed to execute")
            || (line.contains("sudo") && line.contains("not found"))
    });
    // sudo's own exit status is 1, a shell's for a missing program 127.
    (matches!(output.status, 1 | 127)).then_some(said)?.map(|line| line.trim().to_owned())
}

/// The number of a signal that SSH names without its `SIG` (RFC 4254, 6.10).
fn signal_number(name: &str) -> i32 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32, stderr: &str) -> Output {
        Output { status, stdout: Vec::new(), stderr: stderr.as_bytes().to_vec() }
    }

    #[test]
    fn a_wrong_password_is_told_by_sudos_last_word() {
        let said = "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt\n";
        assert_eq!(sudo_refused(&output(1, said)).unwrap(), "sudo: 1 incorrect password attempt");
    }

    #[test]
    fn sudos_refusals_are_told_from_the_commands_failures() {
        for (status, stderr, refused) in [
            (1, "sudo: a password is required\n", true),
            (1, "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt\n", true),
            (127, "sh: 1: sudo: not found\n", true),
            (127, "bash: line 1: sudo: command not found\n", true),
            (1, "me is not in the sudoers file.\n", true),
            (1, "sudo: unable to resolve host x\nls: cannot access\n", true),
            (2, "ls: cannot access 'x'\n", false),
            (0, "sudo: unable to resolve host x\n", false),
            (1, "grep: x\n", false),
        ] {
            assert_eq!(sudo_refused(&output(status, stderr)).is_some(), refused, "{stderr}");
        }
    }
}
