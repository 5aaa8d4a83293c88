//! A release server on loopback: the official layout, with the faults that a test asks for.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// How to answer one request; without a word, properly.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// The whole length is promised; the connection ends after so many bytes of the body.
    Cut(usize),
    /// So many bytes, then nothing until the client goes away.
    Stall(usize),
    /// Waits until the test opens the gate.
    Gate,
    IgnoreRange,
    /// Not resumable: all of it is begun, whatever was asked for, and cut after so many bytes.
    CutAnew(usize),
    Redirect(String),
    /// The right headers, other bytes.
    Wrong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: Mutex<HashMap<String, (Vec<u8>, String)>>,
    script: Mutex<HashMap<String, VecDeque<Reply>>>,
    log: Mutex<Vec<Request>>,
    gate: (Mutex<bool>, Condvar),
    over: AtomicBool,
}

pub struct Server {
    pub address: String,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || connection.and_then(|c| state.serve(c)));
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    pub fn base(&self) -> String {
        format!("http://{}/mirror", self.address)
    }

    /// Puts a file below the base, with an ETag.
    pub fn put(&self, path: &str, bytes: &[u8], etag: &str) {
        self.state.files.lock().unwrap().insert(format!("/mirror/{path}"), (bytes.to_vec(), etag.to_owned()));
    }

    /// How the next requests for a path are answered.
    pub fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut script = self.state.script.lock().unwrap();
        script.insert(format!("/mirror/{path}"), replies.into_iter().collect());
    }

    pub fn open_gate(&self) {
        *self.state.gate.0.lock().unwrap() = true;
        self.state.gate.1.notify_all();
    }

    /// All requests so far, for paths below the base.
    pub fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// The `Range` headers of the requests for a path, in order.
    pub fn ranges(&self, path: &str) -> Vec<Option<String>> {
        let path = format!("/mirror/{path}");
        self.log().into_iter().filter(|r| r.path == path).map(|r| r.range).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.open_gate();
        let _ = TcpStream::connect(&self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl State {
    fn serve(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let request = read_request(&connection)?;
        self.log.lock().unwrap().push(request.clone());
        let reply = self.script.lock().unwrap().get_mut(&request.path).and_then(VecDeque::pop_front);
        match &reply {
            Some(Reply::Status(status)) => return head(&mut connection, *status, &["Content-Length: 0"]),
            Some(Reply::Redirect(to)) => {
                return head(&mut connection, 302, &[&format!("Location: {to}"), "Content-Length: 0"]);
            }
            Some(Reply::Gate) => {
                let mut open = self.gate.0.lock().unwrap();
                while !*open {
                    open = self.gate.1.wait(open).unwrap();
                }
            }
            _ => {}
        }
        let Some((mut body, etag)) = self.files.lock().unwrap().get(&request.path).cloned() else {
            return head(&mut connection, 404, &["Content-Length: 0"]);
        };
        if matches!(reply, Some(Reply::Wrong)) {
            body.reverse();
        }
        let total = body.len();
        let ignore = matches!(reply, Some(Reply::IgnoreRange | Reply::CutAnew(_)))
            || request.if_range.as_ref().is_some_and(|e| *e != etag);
        let start = request.range.as_ref().filter(|_| !ignore).map(|r| {
            r.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).and_then(|r| r.parse::<usize>().ok()).unwrap()
        });
        let etag = format!("ETag: {etag}");
        if start.is_some_and(|start| start >= total) {
            let range = format!("Content-Range: bytes */{total}");
            return head(&mut connection, 416, &[&range, "Content-Length: 0"]);
        }
        let body = &body[start.unwrap_or(0)..];
        let length = format!("Content-Length: {}", body.len());
        match start {
            None => head(&mut connection, 200, &[&length, &etag])?,
            Some(start) => {
                let range = format!("Content-Range: bytes {start}-{}/{total}", total - 1);
                head(&mut connection, 206, &[&length, &etag, &range])?;
            }
        }
        match reply {
            Some(Reply::Cut(most) | Reply::CutAnew(most)) => connection.write_all(&body[..most.min(body.len())]),
            Some(Reply::Stall(most)) => {
                connection.write_all(&body[..most.min(body.len())])?;
                // Ends when the client closes.
                connection.read(&mut [0]).map(|_| ())
            }
            _ => connection.write_all(body),
        }
    }
}

fn head(connection: &mut TcpStream, status: u16, headers: &[&str]) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{}\r\n\r\n", headers.join("\r\n"));
    connection.write_all(text.as_bytes())
}

fn read_request(connection: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut take = |name: &str| headers.remove(name);
    Ok(Request { path, range: take("range"), if_range: take("if-range"), authorization: take("authorization") })
}
