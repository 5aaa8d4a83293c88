//! SSH: one connection a host, kept for the whole run. The trait has primitives only (run, exchange);
//! what is made of them stands in `engine`.

mod by_id;
pub mod fake;
mod known_hosts;
mod local;
pub mod openssh;
pub mod ssh;
mod ssh_config;
mod users;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use thiserror::Error;

use crate::model::event::Events;
use crate::model::host::Host;
use crate::model::lasting::Lasting;
use crate::model::name::HostName;
pub use crate::model::stream::Part;
pub use local::Local;

/// The most that one command's standard output may bring back, in bytes; what comes beyond is an error.
/// A host may be compromised: nothing it says is unbounded.
pub const MAX_OUTPUT: usize = 16 << 20;

/// A command for a host's shell.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// A POSIX shell command line; made by pure functions that quote every value.
    pub line: String,
    /// Streamed in order.
    pub stdin: Vec<Part>,
    /// From the request to the exit status.
    pub timeout: Duration,
    /// Run it as root: directly where the user is root, else by sudo.
    pub root: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; a command ended by a signal has 128 + its number, as a shell says it
    /// (255 where the signal is not known).
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// What a running command tells while it runs.
pub trait Watch: Send + Sync {
    /// `sent` of `total` bytes of standard input are on their way.
    fn sent(&self, _sent: u64, _total: u64) {}
    /// A whole line came on standard output, without its newline.
    fn line(&self, _line: &str) {}
}

/// Watches nothing.
pub struct Unwatched;
impl Watch for Unwatched {}

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{host}: {address} refused the connection for {}", Lasting(*.waited))]
    Refused { host: HostName, address: String, waited: Duration },
    #[error("{host}: {address} did not answer within {}", Lasting(*.waited))]
    TimedOut { host: HostName, address: String, waited: Duration },
    #[error("{host}: the name {address} has no address")]
    Unresolved {
        host: HostName,
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{host}: {address} ended the connection before SSH was set up: {detail}")]
    Dropped { host: HostName, address: String, detail: String },
    #[error("{host}: {user}@{address} was denied: {detail}")]
    Denied { host: HostName, user: String, address: String, detail: String },
    /// The host is the same (its id), the key is another. `known_hosts` is where the known key stands, `None`
    /// where it was given with the host: by the spec, the user's own ssh, or at its launch.
    #[error("{host}: its SSH host key has changed: known is {known}, it showed {shown}")]
    KeyChanged { host: HostName, known: String, shown: String, known_hosts: Option<PathBuf> },
    #[error("{host}: its SSH host key is not known: it showed {shown}")]
    KeyUnknown { host: HostName, shown: String, known_hosts: PathBuf },
    /// The way to the host ends at what it leads through.
    #[error("{host}: the way through {bastion} is closed: {detail}")]
    Bastion { host: HostName, bastion: String, obstacle: Obstacle, detail: String },
    #[error("{host}: {what}")]
    Setup {
        host: HostName,
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("{host}: given up because the run was interrupted")]
    Cancelled { host: HostName },
}

/// Why a bastion let nothing through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its name has no address.
    Unresolved,
    /// It refuses, does not answer, or hangs up.
    Unreachable,
    /// The user's known_hosts has no key of it, or has another.
    KeyUnknown,
    KeyChanged,
    Denied,
    /// It does not forward connections, or not to there.
    Forbidden,
    /// The host's name has no address there.
    HostUnresolved,
    /// The program that makes the way cannot be started.
    Program,
    Other,
}

#[derive(Debug, Error)]
pub enum RemoteError {
    #[error("{host}: the connection was lost while {doing}: {detail}")]
    Lost { host: HostName, doing: String, detail: String },
    #[error("{host}: {doing} did not end within {}", Lasting(*.limit))]
    TimedOut { host: HostName, doing: String, limit: Duration },
    /// sudo wants a password that it was not given, refused the one it was given, or is missing.
    #[error("{host}: {user} cannot become root by sudo: {detail}")]
    Sudo { host: HostName, user: String, detail: String },
    /// The host could not connect to the address that was to be forwarded to: nothing listens there.
    #[error("{host}: nothing listens on {address} there")]
    NotListening { host: HostName, address: std::net::SocketAddr },
    #[error("{host}: more than {limit} bytes came back while {doing}")]
    TooMuch { host: HostName, doing: String, limit: usize },
    /// A part of standard input could not be read here.
    #[error("reading {}", .path.display())]
    Input {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{host}: given up because the run was interrupted")]
    Cancelled { host: HostName },
}

/// An open connection to one host. Commands on it take turns.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Who is logged in there.
    fn user(&self) -> String {
        "root".to_owned()
    }

    /// Runs a command to its end. Its own failure is no error: see [`Output::status`].
    async fn run(&self, command: Command, watch: Arc<dyn Watch>) -> Result<Output, RemoteError>;

    /// Connects from the host to `address:port` (SSH's direct-tcpip forwarding), sends `request`,
    /// and reads until the other side closes.
    async fn exchange(
        &self,
        address: IpAddr,
        port: u16,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RemoteError>;
}

/// Opens connections.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Tries until `deadline`, with jittered back-off: a host that refuses or does not answer may be
    /// booting. A changed or unknown host key and a denied login are final at once.
    async fn connect(&self, host: &Host, deadline: Instant, events: &Events) -> Result<Arc<dyn Remote>, ConnectError>;

    /// Is there a key by which the host would be known: one that came with it, or one remembered for its id?
    fn knows(&self, host: &Host) -> Result<bool, ConnectError>;
}
