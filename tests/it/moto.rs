//! EC2's API without hosts behind it (moto's server, as it is), and a metadata service: for tests of what only asks.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::lab::{fields, programs, query};
use crate::support::eventually;

/// An account of the test's own; ends with it.
pub struct Moto {
    pub endpoint: String,
    /// Where the AWS CLI is.
    pub programs: PathBuf,
    child: Child,
    _dir: TempDir,
}

impl Moto {
    pub fn start() -> Self {
        let programs = programs();
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new(programs.join("moto_server"));
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]).current_dir(dir.path());
        server.env("HOME", dir.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moto = Self { endpoint: format!("http://127.0.0.1:{port}"), programs, child, _dir: dir };
        eventually("moto answers", || TcpStream::connect(("127.0.0.1", port)).map(drop));
        moto
    }

    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        query(&self.endpoint, "ec2", action, parameters)
    }

    /// Launches `count` instances with these tags; gives the first one's id and the addresses of all, sorted as text.
    pub fn launch(&self, count: usize, tags: &[(&str, &str)]) -> (String, Vec<String>) {
        let count = count.to_string();
        let mut parameters =
            vec![("ImageId".to_owned(), "ami-12c6146b".to_owned()), ("InstanceType".to_owned(), "t3.micro".to_owned())];
        parameters.extend(["MinCount", "MaxCount"].map(|key| (key.to_owned(), count.clone())));
        if !tags.is_empty() {
            parameters.push(("TagSpecification.1.ResourceType".to_owned(), "instance".to_owned()));
        }
        for (n, (key, value)) in (1..).zip(tags) {
            parameters.push((format!("TagSpecification.1.Tag.{n}.Key"), (*key).to_owned()));
            parameters.push((format!("TagSpecification.1.Tag.{n}.Value"), (*value).to_owned()));
        }
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let made = self.ec2("RunInstances", &parameters);
        (fields(&made, "instanceId").remove(0), fields(&made, "privateIpAddress"))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an instance's metadata service understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// With a token and without.
    Both,
    /// Without only: as it was at first.
    First,
    /// With a token only.
    Second,
}

const TOKEN: &str = "dG9rZW4tb2YtdGhlLXRlc3Q=";

/// A metadata service on loopback that knows some paths; it notes how it was asked.
pub struct Service {
    pub endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// `knows` are paths below `/latest/meta-data/`, or whole ones, and what is there.
    pub fn start(kind: Metadata, knows: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        // It waits for connections until the test program ends.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(stream.unwrap(), kind, knows, &notes);
            }
        });
        Self { endpoint, asked }
    }

    /// What was asked since the last time: method, path, and whether with a token.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(
    mut stream: TcpStream,
    kind: Metadata,
    knows: &[(&str, &str)],
    notes: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        headers.push(line);
    }
    let header = |name: &str| {
        let pair = headers.iter().filter_map(|line| line.split_once(": "));
        pair.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let token = header("x-aws-ec2-metadata-token");
    notes.lock().unwrap().push(format!("{method} {path}{}", if token.is_some() { " with a token" } else { "" }));
    let below = path.strip_prefix("/latest/meta-data/").unwrap_or(path);
    let found = knows.iter().find(|(known, _)| *known == below);
    let (status, body) = match (method, path) {
        ("PUT", "/latest/api/token") if kind == Metadata::First => ("404 Not Found", ""),
        ("PUT", "/latest/api/token") if header("x-aws-ec2-metadata-token-ttl-seconds").is_none() => {
            ("400 Bad Request", "")
        }
        ("PUT", "/latest/api/token") => ("200 OK", TOKEN),
        _ if token.is_some_and(|token| token != TOKEN) => ("401 Unauthorized", ""),
        _ if token.is_none() && kind == Metadata::Second => ("401 Unauthorized", ""),
        ("GET", _) => found.map_or(("404 Not Found", "<html>no such thing</html>"), |(_, value)| ("200 OK", *value)),
        _ => ("405 Not Allowed", ""),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
