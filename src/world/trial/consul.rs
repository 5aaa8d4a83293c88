//! A stand-in for Consul's HTTP API on this machine: it answers each question at once, and one that waits for changes
//! never, since nothing changes there.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The largest request that is read.
const MOST: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);

/// Answers until it is dropped.
pub struct StandIn {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// `answer` makes a body of a path.
    ///
    /// # Errors
    /// When this machine gives no port.
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (answer, stopping) = (Arc::new(answer), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (answer, stopping) = (Arc::clone(&answer), Arc::clone(&stopping));
                std::thread::spawn(move || serve(connection, answer.as_ref(), &stopping));
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a connection: here is one.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One question; whoever asks is not told of what goes wrong here, but sees its connection end.
fn serve(mut connection: TcpStream, answer: &dyn Fn(&str) -> String, stop: &AtomicBool) {
    let _ = connection.set_read_timeout(Some(PATIENCE));
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    let path = loop {
        match connection.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&chunk[..n]),
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => break request.path.unwrap_or("/").to_owned(),
            Ok(httparse::Status::Partial) if head.len() < MOST => {}
            _ => return,
        }
    };
    let waits = path.split(['?', '&']).any(|part| part.starts_with("index=") && part != "index=0");
    while waits && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
    }
    let body = answer(&path);
    // Older clients want all three.
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: 1\r\nX-Consul-LastContact: 0\r\n\
         X-Consul-KnownLeader: true\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body.as_bytes()));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_answers_at_once_and_to_who_waits_when_it_ends() {
        let consul = StandIn::start(|path| format!("[\"{path}\"]")).unwrap();
        let answer = ask(consul.address(), "/v1/kv/a?recurse=");
        assert!(
            answer.contains("X-Consul-Index: 1\r\n") && answer.ends_with("\r\n\r\n[\"/v1/kv/a?recurse=\"]"),
            "{answer}"
        );
        let address = consul.address();
        let waiting = std::thread::spawn(move || ask(address, "/v1/kv/a?index=1&wait=60000ms"));
        // Long enough to be answered, were it not to wait.
        std::thread::sleep(TICK * 5);
        assert!(!waiting.is_finished());
        let begun = Instant::now();
        drop(consul);
        assert!(waiting.join().unwrap().contains("200 OK") && begun.elapsed() < PATIENCE);
    }
}
