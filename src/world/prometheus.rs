//! Prometheus' HTTP API, as it answers on its own host (prometheus.io/docs/prometheus/latest/querying/api).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::http::{ApiError, Endpoint, get};
use super::remote::Remote;
use crate::model::report::Target;

const PORT: u16 = 9090;

/// All active targets, sorted by job and instance. `address` is where Prometheus listens.
///
/// # Errors
/// When it does not answer, or not with targets.
pub async fn targets(remote: &dyn Remote, address: IpAddr) -> Result<Vec<Target>, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        active_targets: Vec<Raw>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        labels: BTreeMap<String, String>,
        scrape_url: String,
        #[serde(default)]
        last_error: String,
        #[serde(default)]
        last_scrape: String,
        health: String,
    }
    let at = Endpoint { address, port: PORT };
    let answer: Answer = get(remote, at, "/api/v1/targets?state=active").await?;
    let target = |raw: Raw| {
        let label = |name: &str| raw.labels.get(name).cloned().unwrap_or_default();
        Target {
            job: label("job"),
            instance: label("instance"),
            health: raw.health.clone(),
            scrape_url: raw.scrape_url.clone(),
            last_scrape: raw.last_scrape.clone(),
            last_error: raw.last_error.clone(),
            labels: raw.labels,
        }
    };
    let mut targets: Vec<Target> = answer.data.active_targets.into_iter().map(target).collect();
    targets.sort_by(|a, b| (&a.job, &a.instance).cmp(&(&b.job, &b.instance)));
    Ok(targets)
}
