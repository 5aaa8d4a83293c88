//! Hosts in memory, for tests of what stands above the trait: they answer, fail, lie, hang and cut the
//! connection as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Command, ConnectError, Connector, Output, Part, Remote, RemoteError, Watch};
use crate::model::event::Events;
use crate::model::host::{Host, HostId};
use crate::model::name::HostName;

/// What a command comes to.
pub enum Answer {
    /// Its output; standard output is told line by line too.
    Output(Output),
    /// These lines, then the connection is gone.
    Cut(Vec<String>),
    /// Nothing, until the run is cancelled.
    Hang,
}

impl Answer {
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self::Output(Output { status: 0, stdout: stdout.into(), stderr: Vec::new() })
    }

    pub fn exit(status: i32, stdout: &str, stderr: &str) -> Self {
        Self::Output(Output { status, stdout: stdout.into(), stderr: stderr.into() })
    }
}

type OnRun = dyn Fn(&Command) -> Answer + Send + Sync;
type OnExchange = dyn Fn(u16, &str) -> Result<String, Answer> + Send + Sync;
type OnConnect = dyn Fn() -> Option<ConnectError> + Send + Sync;

/// One host's script.
pub struct FakeHost {
    pub on_connect: Box<OnConnect>,
    pub on_run: Box<OnRun>,
    /// From the port and the request's first line to a whole HTTP answer's body; an `Err` is no answer.
    pub on_exchange: Box<OnExchange>,
}

impl FakeHost {
    /// Answers every command with nothing and exit status 0; listens nowhere.
    pub fn quiet() -> Self {
        Self {
            on_connect: Box::new(|| None),
            on_run: Box::new(|_| Answer::ok("")),
            on_exchange: Box::new(|_, _| Err(Answer::exit(1, "", ""))),
        }
    }
}

/// Connects to the hosts that it knows.
pub struct FakeConnector {
    hosts: BTreeMap<HostName, Arc<FakeHost>>,
    cancel: CancellationToken,
    /// Each command that was run: the host's name, the command line.
    pub ran: Arc<Mutex<Vec<(HostName, String)>>>,
    /// The hosts that are known by their keys; who was connected to is.
    pub known: Arc<Mutex<BTreeSet<HostId>>>,
}

impl FakeConnector {
    pub fn new(hosts: impl IntoIterator<Item = (HostName, FakeHost)>, cancel: CancellationToken) -> Self {
        let hosts = hosts.into_iter().map(|(name, host)| (name, Arc::new(host))).collect();
        Self { hosts, cancel, ran: Arc::default(), known: Arc::default() }
    }
}

#[async_trait]
impl Connector for FakeConnector {
    async fn connect(&self, host: &Host, _: Instant, _: &Events) -> Result<Arc<dyn Remote>, ConnectError> {
        let name = host.name.clone();
        let Some(script) = self.hosts.get(&name) else {
            let (address, waited) = (host.ssh.host.clone(), Duration::ZERO);
            return Err(ConnectError::Refused { host: name, address, waited });
        };
        match (script.on_connect)() {
            Some(error) => Err(error),
            None => {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(host.id.clone());
                Ok(Arc::new(FakeRemote {
                    name,
                    script: Arc::clone(script),
                    cancel: self.cancel.clone(),
                    ran: Arc::clone(&self.ran),
                }))
            }
        }
    }

    fn knows(&self, host: &Host) -> Result<bool, ConnectError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(!host.host_keys.is_empty() || known.contains(&host.id))
    }
}

struct FakeRemote {
    name: HostName,
    script: Arc<FakeHost>,
    cancel: CancellationToken,
    ran: Arc<Mutex<Vec<(HostName, String)>>>,
}

impl FakeRemote {
    async fn give(&self, answer: Answer, watch: &dyn Watch) -> Result<Output, RemoteError> {
        let host = self.name.clone();
        match answer {
            Answer::Output(output) => {
                String::from_utf8_lossy(&output.stdout).lines().for_each(|line| watch.line(line));
                Ok(output)
            }
            Answer::Cut(lines) => {
                lines.iter().for_each(|line| watch.line(line));
                let detail = "connection reset".to_owned();
                Err(RemoteError::Lost { host, doing: "running a command".to_owned(), detail })
            }
            Answer::Hang => {
                self.cancel.cancelled().await;
                Err(RemoteError::Cancelled { host })
            }
        }
    }
}

#[async_trait]
impl Remote for FakeRemote {
    async fn run(&self, command: Command, watch: Arc<dyn Watch>) -> Result<Output, RemoteError> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).push((self.name.clone(), command.line.clone()));
        let total = command.stdin.iter().map(Part::len).sum();
        watch.sent(total, total);
        self.give((self.script.on_run)(&command), watch.as_ref()).await
    }

    async fn exchange(
        &self,
        address: IpAddr,
        port: u16,
        request: Vec<u8>,
        _: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let text = String::from_utf8_lossy(&request).into_owned();
        let first = text.lines().next().unwrap_or_default();
        match (self.script.on_exchange)(port, first) {
            Ok(body) => Ok(format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes()),
            Err(Answer::Output(_)) => {
                Err(RemoteError::NotListening { host: self.name.clone(), address: (address, port).into() })
            }
            Err(answer) => self.give(answer, &super::Unwatched).await.map(|output| output.stdout),
        }
    }
}
