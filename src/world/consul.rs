//! Consul's HTTP API, as its agent on a host answers it (developer.hashicorp.com/consul/api-docs).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::http::{ApiError, Endpoint, get};
use super::remote::Remote;
use crate::core::render::CONSUL_HTTP_PORT;
use crate::model::report::Member;

/// The agent's API listens on loopback only.
const AGENT: Endpoint = Endpoint { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: CONSUL_HTTP_PORT };

/// `address:port` of Raft's leader; `None` while there is none.
///
/// # Errors
/// When the agent does not answer, or not with a leader.
pub async fn leader(remote: &dyn Remote) -> Result<Option<String>, ApiError> {
    let leader: String = get(remote, AGENT, "/v1/status/leader").await?;
    Ok((!leader.is_empty()).then_some(leader))
}

/// All members that the agent knows.
///
/// # Errors
/// When the agent does not answer, or not with members.
pub async fn members(remote: &dyn Remote) -> Result<Vec<Member>, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        name: String,
        addr: String,
        status: u8,
    }
    let members: Vec<Raw> = get(remote, AGENT, "/v1/agent/members").await?;
    let member = |raw: Raw| Member { name: raw.name, address: raw.addr, status: status(raw.status).to_owned() };
    Ok(members.into_iter().map(member).collect())
}

/// One check, as Consul holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    pub node: String,
    #[serde(rename = "CheckID")]
    pub id: String,
    /// Empty where the check is the node's own.
    #[serde(default)]
    pub service_name: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What the check said.
    #[serde(default)]
    pub output: String,
}

/// The checks of all nodes that are critical. What they say may be minutes old where their state is not.
///
/// # Errors
/// When the agent does not answer, or has no leader to ask.
pub async fn critical(remote: &dyn Remote) -> Result<Vec<Check>, ApiError> {
    get(remote, AGENT, "/v1/health/state/critical").await
}

/// The checks of that agent's own node, as they are now.
///
/// # Errors
/// When the agent does not answer.
pub async fn checks_here(remote: &dyn Remote) -> Result<Vec<Check>, ApiError> {
    let checks: BTreeMap<String, Check> = get(remote, AGENT, "/v1/agent/checks").await?;
    Ok(checks.into_values().collect())
}

/// Serf's words for its member states.
fn status(number: u8) -> &'static str {
    match number {
        1 => "alive",
        2 => "leaving",
        3 => "left",
        4 => "failed",
        _ => "none",
    }
}
