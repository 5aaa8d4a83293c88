//! Just enough HTTP to ask a program on a host: one GET a forwarded connection.

use std::net::IpAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::remote::{Remote, RemoteError};

/// From the request to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most of a refusing answer's body that an error shows, in characters.
const SHOWN: usize = 200;

#[derive(Debug, Error)]
pub enum ApiError {
    #[error(transparent)]
    Remote(RemoteError),
    /// It does not listen yet, or no more.
    #[error("does not answer on port {port}")]
    NotListening { port: u16 },
    #[error("{path}: HTTP status {status}: {body}")]
    Status { path: String, status: u16, body: String },
    #[error("{path}: an answer that makes no sense: {what}")]
    Garbage { path: String, what: String },
}

/// Where an API listens, as seen from the host that is asked to connect.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

/// GETs `path` and reads the answer as JSON.
///
/// # Errors
/// [`ApiError`]; any status but 200 is one.
pub async fn get<T: DeserializeOwned>(remote: &dyn Remote, at: Endpoint, path: &str) -> Result<T, ApiError> {
    let host = std::net::SocketAddr::new(at.address, at.port);
    // With version 1.0 the end of the connection is the end of the body: no chunks, nothing kept alive.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: clusterctl\r\nAccept: application/json\r\n\r\n");
    let answer = remote.exchange(at.address, at.port, request.into_bytes(), TIMEOUT).await;
    let answer = answer.map_err(|error| match error {
        RemoteError::NotListening { .. } => ApiError::NotListening { port: at.port },
        other => ApiError::Remote(other),
    })?;
    let (status, body) = split(&answer).map_err(|what| ApiError::Garbage { path: path.to_owned(), what })?;
    tracing::debug!(at = %host, path, status, bytes = body.len(), "GET");
    if status != 200 {
        let body: String = String::from_utf8_lossy(body).trim().chars().take(SHOWN).collect();
        return Err(ApiError::Status { path: path.to_owned(), status, body });
    }
    serde_json::from_slice(body).map_err(|error| ApiError::Garbage { path: path.to_owned(), what: error.to_string() })
}

/// The status and the body of a whole answer.
fn split(answer: &[u8]) -> Result<(u16, &[u8]), String> {
    if answer.is_empty() {
        return Err("it closed the connection without one".to_owned());
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(answer) {
        Ok(httparse::Status::Complete(length)) => Ok((parsed.code.unwrap_or_default(), &answer[length..])),
        Ok(httparse::Status::Partial) => Err("its head is not complete".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn answers() {
        assert_eq!(split(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").unwrap(), (200, &b"{}"[..]));
        assert_eq!(split(b"HTTP/1.1 500 Oh\r\n\r\nno leader").unwrap(), (500, &b"no leader"[..]));
        for garbage in [&b""[..], b"HTTP/1.0 200 OK\r\nA:", b"SSH-2.0-x\r\n", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(split(garbage).is_err(), "{garbage:?}");
        }
    }
}
