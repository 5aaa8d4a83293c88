//! HTTP: a release's sums and its archive, with limits on time and size, repeated on passing faults and
//! resumed where the last try (or the last run) stopped. What comes is checked by the caller.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::{ArtifactError, Limits, Miss, Tried};
use crate::core::release::Sums;
use crate::model::artifact::ArtifactId;
use crate::model::event::Events;
use crate::model::lasting::Lasting;

/// Why a source gave nothing: another source may be asked, or there is no point.
#[derive(Debug)]
pub(super) enum Trouble {
    Missed(Tried),
    Final(ArtifactError),
}

impl From<ArtifactError> for Trouble {
    fn from(error: ArtifactError) -> Self {
        Self::Final(error)
    }
}

/// One try's end.
enum Fault {
    /// It may go better next time.
    Passing {
        why: String,
    },
    Lasting(Trouble),
}

impl From<ArtifactError> for Fault {
    fn from(error: ArtifactError) -> Self {
        Self::Lasting(Trouble::Final(error))
    }
}

pub(super) struct Http {
    /// Made when first needed: reading the system's certificates takes time that a full cache need not spend.
    client: OnceCell<Client>,
    limits: Limits,
    /// A release's sums serve all its archives: each file is fetched once a run.
    sums: Mutex<HashMap<Url, Arc<OnceCell<Sums>>>>,
}

/// An archive on its way.
pub(super) struct Download<'a> {
    pub id: &'a ArtifactId,
    pub url: &'a Url,
    /// The file that grows; named after the expected sum, so that it can only ever be that archive.
    pub part: &'a Path,
    pub events: &'a Events,
}

/// A URL as it may be shown and recorded: without user and password.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

impl Http {
    pub fn new(limits: &Limits) -> Self {
        Self { client: OnceCell::new(), limits: limits.clone(), sums: Mutex::default() }
    }

    async fn get(&self, url: &Url) -> Result<RequestBuilder, ArtifactError> {
        let client = self.client.get_or_try_init(async || client(&self.limits)).await?;
        // A server that compresses on the way would give other bytes than the published ones.
        Ok(client.get(url.clone()).header(ACCEPT_ENCODING, "identity"))
    }

    /// The sums at `url`.
    pub async fn sums(&self, url: &Url, events: &Events) -> Result<Sums, Trouble> {
        let cell = {
            let mut known = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(url.clone()).or_default().clone()
        };
        cell.get_or_try_init(|| self.fetch_sums(url, events)).await.cloned()
    }

    async fn fetch_sums(&self, url: &Url, events: &Events) -> Result<Sums, Trouble> {
        let mut failures = 0;
        let text = loop {
            match self.text(url, self.limits.sums).await {
                Ok(text) => break text,
                Err(fault) => self.pause(url, fault, &mut failures, false, events).await?,
            }
        };
        let bad = |source| Trouble::Final(ArtifactError::BadSums { place: shown(url), source });
        Sums::parse(&String::from_utf8_lossy(&text)).map_err(bad)
    }

    /// Brings `part` to its full length. `true`: some of it was there before the last request.
    pub async fn archive(&self, download: &Download<'_>) -> Result<bool, Trouble> {
        let length = async || tokio::fs::metadata(download.part).await.map_or(0, |m| m.len());
        let mut failures = 0;
        // What counts as getting on is more than ever was there: a server that cuts each answer at the same place
        // and cannot resume would else be asked for ever.
        let mut farthest = length().await;
        loop {
            let fault = match self.try_archive(download).await {
                Ok(had) => return Ok(had > 0),
                Err(fault) => fault,
            };
            let now = length().await;
            let advanced = now >= farthest + self.limits.advance;
            farthest = farthest.max(now);
            self.pause(download.url, fault, &mut failures, advanced, download.events).await?;
        }
    }

    /// Waits before the next try, unless this fault is final or has come too often in a row.
    async fn pause(
        &self,
        url: &Url,
        fault: Fault,
        failures: &mut u32,
        advanced: bool,
        events: &Events,
    ) -> Result<(), Trouble> {
        let why = match fault {
            Fault::Lasting(trouble) => return Err(trouble),
            Fault::Passing { why } => why,
        };
        *failures = if advanced { 1 } else { *failures + 1 };
        if *failures >= self.limits.attempts {
            return Err(Trouble::Missed(Tried { place: shown(url), miss: Miss::Unreachable(why) }));
        }
        let wait = self.limits.first_wait * 2u32.pow(*failures - 1);
        events.note(None, format!("{}: {why}; trying again in {}", shown(url), Lasting(wait)));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn text(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Fault> {
        let response = self.get(url).await?.send().await;
        let mut response = self.answered(url, response)?;
        if response.status() != StatusCode::OK {
            return Err(status_miss(url, response.status()));
        }
        let mut text = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.passing(&e))? {
            text.extend_from_slice(&bytes);
            if text.len() as u64 > limit {
                return Err(too_large(url, "a file of sums", limit).into());
            }
        }
        Ok(text)
    }

    /// One request for what is missing of the archive. The answer: how much was there before.
    async fn try_archive(&self, download: &Download<'_>) -> Result<u64, Fault> {
        let Download { url, part, .. } = *download;
        let origin = Origin::beside(part);
        let had = tokio::fs::metadata(part).await.map_or(0, |m| m.len());
        let mut request = self.get(url).await?;
        let known = if had > 0 { origin.validator(url).await } else { None };
        if had > 0 {
            request = request.header(RANGE, format!("bytes={had}-"));
            if let Some(etag) = &known {
                request = request.header(IF_RANGE, etag);
            }
        }
        let response = self.answered(url, request.send().await)?;
        let etag = strong_etag(response.headers());
        let (from, total) = match response.status() {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT if had > 0 => {
                let range = content_range(response.headers());
                let changed = known.is_some() && etag.is_some() && known != etag;
                match range {
                    Some((start, total)) if start == had && !changed => (had, Some(total)),
                    _ => return Err(anew(part, "another part came than the one asked for").await),
                }
            }
            // Nothing is missing: the last run ended between the last byte and the check.
            StatusCode::RANGE_NOT_SATISFIABLE if had > 0 => {
                if unsatisfied_length(response.headers()) == Some(had) {
                    return Ok(had);
                }
                return Err(anew(part, "what was kept is longer than the archive").await);
            }
            status => return Err(status_miss(url, status)),
        };
        origin.record(url, etag.as_deref()).await?;
        self.receive(download, response, from, total).await?;
        Ok(from)
    }

    async fn receive(
        &self,
        download: &Download<'_>,
        mut response: Response,
        from: u64,
        total: Option<u64>,
    ) -> Result<(), Fault> {
        let Download { id, url, part, events } = *download;
        let limit = self.limits.archive;
        if total.is_some_and(|total| total > limit) {
            return Err(too_large(url, "an archive", limit).into());
        }
        let failed = |doing| ArtifactError::file(doing, part);
        let mut options = tokio::fs::File::options();
        options.create(true).write(true).append(from > 0).truncate(from == 0);
        let mut file = options.open(part).await.map_err(failed("opening"))?;
        let shown_total = total.unwrap_or(0);
        let step = (shown_total / 200).max(64 << 10);
        let (mut done, mut told) = (from, from);
        events.fetched(id, done, shown_total);
        let end = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    done += bytes.len() as u64;
                    if done > limit {
                        break Err(too_large(url, "an archive", limit).into());
                    }
                    file.write_all(&bytes).await.map_err(failed("writing"))?;
                    if done - told >= step {
                        told = done;
                        events.fetched(id, done, shown_total);
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(self.passing(&e)),
            }
        };
        file.flush().await.map_err(failed("writing"))?;
        events.fetched(id, done, shown_total);
        end
    }

    fn answered(&self, url: &Url, response: reqwest::Result<Response>) -> Result<Response, Fault> {
        let response = response.map_err(|e| {
            if e.is_redirect() || e.is_builder() {
                missed(url, Miss::Unreachable(self.why(&e)))
            } else {
                self.passing(&e)
            }
        })?;
        let status = response.status();
        let passing = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        if passing {
            return Err(Fault::Passing { why: format!("it answered with status {}", status.as_u16()) });
        }
        Ok(response)
    }

    fn passing(&self, error: &reqwest::Error) -> Fault {
        Fault::Passing { why: self.why(error) }
    }

    /// The innermost cause: reqwest's own words name the URL, with the password in it.
    fn why(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            let limit = if error.is_connect() { self.limits.connect } else { self.limits.stall };
            return format!("no answer within {}", Lasting(limit));
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if std::ptr::eq(cause, error as &dyn std::error::Error) {
            "the request failed".into()
        } else {
            cause.to_string()
        }
    }
}

fn client(limits: &Limits) -> Result<Client, ArtifactError> {
    // A server reached over HTTPS must not send us on over HTTP.
    let policy = redirect::Policy::custom(|attempt| {
        let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if secure && attempt.url().scheme() != "https" {
            attempt.error("it redirects from HTTPS to HTTP")
        } else if attempt.previous().len() > 10 {
            attempt.error("it redirects too often")
        } else {
            attempt.follow()
        }
    });
    let builder = Client::builder()
        .user_agent(concat!("clusterctl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        // Between two reads: a slow download may take its time, a dead one may not.
        .read_timeout(limits.stall)
        .redirect(policy);
    let builder = if limits.proxy { builder } else { builder.no_proxy() };
    builder.build().map_err(|source| ArtifactError::Http { source })
}

fn missed(url: &Url, miss: Miss) -> Fault {
    Fault::Lasting(Trouble::Missed(Tried { place: shown(url), miss }))
}

fn status_miss(url: &Url, status: StatusCode) -> Fault {
    let absent = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    missed(url, if absent { Miss::Absent } else { Miss::Status(status.as_u16()) })
}

fn too_large(url: &Url, what: &'static str, limit: u64) -> ArtifactError {
    ArtifactError::TooLarge { place: shown(url), what, limit }
}

/// The part does not fit what the server has: the next try starts without it.
async fn anew(part: &Path, why: &str) -> Fault {
    match tokio::fs::remove_file(part).await {
        Ok(()) => Fault::Passing { why: why.to_owned() },
        Err(e) => ArtifactError::file("removing", part)(e).into(),
    }
}

/// `bytes START-END/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, total): (u64, u64, u64) = (start.parse().ok()?, end.parse().ok()?, total.parse().ok()?);
    (start <= end && end.checked_add(1) == Some(total)).then_some((start, total))
}

/// `bytes */TOTAL`.
fn unsatisfied_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.parse().ok()
}

/// Weak tags do not promise the same bytes.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.starts_with('"') && etag.len() <= 256).then(|| etag.to_owned())
}

/// Where a part came from: beside it, so that a later run can ask whether it is still the same file.
struct Origin(PathBuf);

impl Origin {
    fn beside(part: &Path) -> Self {
        Self(part.with_extension("origin"))
    }

    /// The tag under which `url` gave the part.
    async fn validator(&self, url: &Url) -> Option<String> {
        let text = tokio::fs::read_to_string(&self.0).await.ok()?;
        let (from, etag) = text.split_once('\n')?;
        (from == shown(url) && !etag.is_empty()).then(|| etag.to_owned())
    }

    async fn record(&self, url: &Url, etag: Option<&str>) -> Result<(), ArtifactError> {
        let text = format!("{}\n{}", shown(url), etag.unwrap_or(""));
        let written: io::Result<()> = tokio::fs::write(&self.0, text).await;
        written.map_err(ArtifactError::file("writing", &self.0))
    }
}
