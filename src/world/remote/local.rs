//! The machine that clusterctl runs on as a [`Remote`]: the same commands as over SSH, with no connection in between.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio_util::sync::CancellationToken;

use super::{Command, ConnectError, Connector, MAX_OUTPUT, Output, Part, Remote, RemoteError, Watch};
use crate::model::event::Events;
use crate::model::host::Host;
use crate::model::name::HostName;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Runs commands here, under a host's name.
#[derive(Debug, Clone)]
pub struct Local {
    host: HostName,
    cancel: CancellationToken,
}

impl Local {
    pub const fn new(host: HostName, cancel: CancellationToken) -> Self {
        Self { host, cancel }
    }

    fn lost(&self, doing: &str, detail: impl ToString) -> RemoteError {
        RemoteError::Lost { host: self.host.clone(), doing: doing.to_owned(), detail: detail.to_string() }
    }

    async fn talk(&self, child: &mut Child, parts: Vec<Part>, watch: &dyn Watch) -> Result<Output, RemoteError> {
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(stdout), Some(stderr)) = (input, stdout, stderr) else {
            return Err(self.lost("starting a command", "it has no pipes"));
        };
        let ((), stdout, stderr) = tokio::try_join!(
            send(input, parts, watch),
            self.gather(stdout, |line| watch.line(line)),
            self.gather(stderr, |_| {}),
        )?;
        let status = child.wait().await.map_err(|error| self.lost("running a command", error))?;
        Ok(Output { status: code(status), stdout, stderr })
    }

    /// All that comes, and each whole line as it does.
    async fn gather(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut line: impl FnMut(&str),
    ) -> Result<Vec<u8>, RemoteError> {
        let (mut all, mut begun, mut chunk) = (Vec::new(), 0, vec![0; CHUNK]);
        loop {
            let count = from.read(&mut chunk).await.map_err(|error| self.lost("reading its output", error))?;
            if count == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..count]);
            while let Some(length) = all[begun..].iter().position(|byte| *byte == b'\n') {
                line(&String::from_utf8_lossy(&all[begun..begun + length]));
                begun += length + 1;
            }
            if all.len() > MAX_OUTPUT {
                let doing = "running a command".to_owned();
                return Err(RemoteError::TooMuch { host: self.host.clone(), doing, limit: MAX_OUTPUT });
            }
        }
        if begun < all.len() {
            line(&String::from_utf8_lossy(&all[begun..]));
        }
        Ok(all)
    }
}

/// As a shell says it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Streams the parts into the program. One that ends before it has read all has its reasons, which its status tells.
async fn send(mut to: ChildStdin, parts: Vec<Part>, watch: &dyn Watch) -> Result<(), RemoteError> {
    let total = parts.iter().map(Part::len).sum();
    let mut sent = 0;
    for part in parts {
        match part {
            Part::Bytes(bytes) => {
                if to.write_all(&bytes).await.is_err() {
                    return Ok(());
                }
                sent += bytes.len() as u64;
                watch.sent(sent, total);
            }
            Part::File { path, size } => {
                let failed = |source| RemoteError::Input { path: path.clone(), source };
                let mut file = tokio::fs::File::open(&path).await.map_err(failed)?.take(size);
                let (mut chunk, mut left) = (vec![0; CHUNK], size);
                while left > 0 {
                    let count = file.read(&mut chunk).await.map_err(failed)?;
                    if count == 0 {
                        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                    if to.write_all(&chunk[..count]).await.is_err() {
                        return Ok(());
                    }
                    left -= count as u64;
                    sent += count as u64;
                    watch.sent(sent, total);
                }
            }
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// The command's process group; whatever is left of it ends with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[async_trait]
impl Remote for Local {
    async fn run(&self, command: Command, watch: Arc<dyn Watch>) -> Result<Output, RemoteError> {
        if self.cancel.is_cancelled() {
            return Err(RemoteError::Cancelled { host: self.host.clone() });
        }
        if command.root && !geteuid().is_root() {
            let (user, detail) = ("you".to_owned(), "run clusterctl itself as root here".to_owned());
            return Err(RemoteError::Sudo { host: self.host.clone(), user, detail });
        }
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", &command.line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.lost("starting sh", error))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut group = Group(id);
        let limit = command.timeout;
        let ended = tokio::select! {
            ended = self.talk(&mut child, command.stdin, watch.as_ref()) => ended,
            () = tokio::time::sleep(limit) => {
                let doing = "a command".to_owned();
                Err(RemoteError::TimedOut { host: self.host.clone(), doing, limit })
            }
            () = self.cancel.cancelled() => Err(RemoteError::Cancelled { host: self.host.clone() }),
        };
        if ended.is_ok() {
            // Its number may be another's by now.
            group.0 = None;
        }
        ended
    }

    async fn exchange(
        &self,
        address: IpAddr,
        port: u16,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let (host, at) = (self.host.clone(), SocketAddr::new(address, port));
        let talk = move || {
            let refused = |_| RemoteError::NotListening { host: host.clone(), address: at };
            let mut stream = TcpStream::connect_timeout(&at, timeout).map_err(refused)?;
            let lost = |error: std::io::Error| RemoteError::Lost {
                host: host.clone(),
                doing: format!("talking to {at}"),
                detail: error.to_string(),
            };
            stream.set_read_timeout(Some(timeout)).map_err(lost)?;
            stream.set_write_timeout(Some(timeout)).map_err(lost)?;
            stream.write_all(&request).map_err(lost)?;
            let mut answer = Vec::new();
            stream.take(MAX_OUTPUT as u64).read_to_end(&mut answer).map_err(lost)?;
            Ok(answer)
        };
        tokio::task::spawn_blocking(talk).await.map_err(|error| self.lost("talking to a port", error))?
    }
}

/// There is one machine, and no connection to open.
#[async_trait]
impl Connector for Local {
    async fn connect(&self, _: &Host, _: Instant, _: &Events) -> Result<Arc<dyn Remote>, ConnectError> {
        Ok(Arc::new(self.clone()))
    }

    fn knows(&self, _: &Host) -> Result<bool, ConnectError> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
