//! Prometheus' HTTP API, as it answers on its own host (prometheus.io/docs/prometheus/latest/querying/api).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::http::{ApiError, Endpoint, get};
use super::remote::Remote;
use crate::core::render::PROMETHEUS_PORT;
use crate::model::report::Target;

/// All active targets, sorted by job and instance. `address` is where Prometheus listens.
///
/// `/api/v1/targets` is there from 1.5.0 on. Older ones are asked what `up` is, at `/api/v1/query` (from 0.15.0) or
/// `/api/query`: that names each target that was tried at least once. Nobody need know which version runs there: what
/// a server does not have, it answers with 404, or (0.14) with its page.
///
/// # Errors
/// When it does not answer, or not with targets.
pub async fn targets(remote: &dyn Remote, address: IpAddr) -> Result<Vec<Target>, ApiError> {
    let at = Endpoint { address, port: PROMETHEUS_PORT };
    let mut targets = match get::<Answer<Active>>(remote, at, "/api/v1/targets?state=active").await {
        Ok(answer) => answer.data.active_targets.into_iter().map(RawTarget::into_target).collect(),
        // Where none of the older ways is there either, the newest one's answer says most.
        Err(error) if is_absent(&error) => match of_up(remote, at).await {
            Err(older) if is_absent(&older) => return Err(error),
            answer => answer?,
        },
        Err(error) => return Err(error),
    };
    targets.sort_by(|a, b| (&a.job, &a.instance).cmp(&(&b.job, &b.instance)));
    Ok(targets)
}

/// The targets, as the series of `up` tell them.
async fn of_up(remote: &dyn Remote, at: Endpoint) -> Result<Vec<Target>, ApiError> {
    let samples: Vec<Sample> = match get::<Answer<Vector>>(remote, at, "/api/v1/query?query=up").await {
        Ok(answer) => answer.data.result,
        Err(error) if is_absent(&error) => match get(remote, at, OLD_QUERY).await? {
            OldAnswer::Vector { value } => value,
            // It says so with status 200.
            OldAnswer::Error { value } => {
                return Err(ApiError::Status { path: OLD_QUERY.to_owned(), status: 200, body: value });
            }
        },
        Err(error) => return Err(error),
    };
    Ok(samples.into_iter().map(Sample::into_target).collect())
}

const OLD_QUERY: &str = "/api/query?expr=up";

/// Does this server not have that part of the API?
fn is_absent(error: &ApiError) -> bool {
    matches!(error, ApiError::Status { status: 404, .. } | ApiError::Garbage { .. })
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Active {
    active_targets: Vec<RawTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTarget {
    labels: BTreeMap<String, String>,
    scrape_url: String,
    #[serde(default)]
    last_error: String,
    #[serde(default)]
    last_scrape: String,
    health: String,
}

impl RawTarget {
    fn into_target(self) -> Target {
        Target {
            job: label(&self.labels, "job"),
            instance: label(&self.labels, "instance"),
            health: self.health,
            scrape_url: self.scrape_url,
            last_scrape: self.last_scrape,
            last_error: self.last_error,
            labels: self.labels,
        }
    }
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Sample>,
}

/// The answer of 0.14, which says what went wrong with status 200.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum OldAnswer {
    Vector { value: Vec<Sample> },
    Error { value: String },
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: SampleValue,
}

/// `[time, "1"]`, or `"1"` alone in 0.14.
#[derive(Deserialize)]
#[serde(untagged)]
enum SampleValue {
    Timed((f64, String)),
    Alone(String),
}

impl Sample {
    fn into_target(self) -> Target {
        let (SampleValue::Timed((_, value)) | SampleValue::Alone(value)) = self.value;
        let mut labels = self.metric;
        labels.remove("__name__");
        Target {
            job: label(&labels, "job"),
            instance: label(&labels, "instance"),
            health: if value == "1" { "up" } else { "down" }.to_owned(),
            scrape_url: String::new(),
            last_scrape: String::new(),
            last_error: String::new(),
            labels,
        }
    }
}

fn label(labels: &BTreeMap<String, String>, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_tells_the_targets_of_versions_without_a_list_of_them() {
        let new = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"node","instance":"a"},"value":[1433155200.124,"1"]}]}}"#;
        let old = r#"{"type":"vector","value":[{"metric":{"__name__":"up","job":"node","instance":"b"},"value":"0",
            "timestamp":1433155200.124}],"version":1}"#;
        let answer: Answer<Vector> = serde_json::from_str(new).unwrap();
        let target = answer.data.result.into_iter().next().unwrap().into_target();
        assert_eq!((&target.job[..], &target.instance[..], &target.health[..]), ("node", "a", "up"));
        assert!(!target.labels.contains_key("__name__"));
        let OldAnswer::Vector { value } = serde_json::from_str(old).unwrap() else { panic!() };
        let target = value.into_iter().next().unwrap().into_target();
        assert_eq!((&target.instance[..], &target.health[..]), ("b", "down"));
        let refused = r#"{"type":"error","value":"Parse error at char 1","version":1}"#;
        assert!(matches!(serde_json::from_str(refused), Ok(OldAnswer::Error { value }) if value.contains("char 1")));
    }
}
