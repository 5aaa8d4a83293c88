//! EC2: hosts are instances with the cluster's tag. Nothing is kept beside the account's own state: tags hold
//! which instance is which host, so that another laptop with the same spec sees the same cluster.
//!
//! This file is the trait; what it does stands in the modules below, one noun each. What can be decided
//! without the API is decided in `core::ec2`.

mod adopt;
mod client;
mod destroy;
mod doctor;
mod fleet;
mod ground;
mod identity;
mod image;
mod images;
mod instance;
mod keypair;
mod launch;
mod leader;
mod lease;
mod network;
mod seal;
mod wait;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_ec2::types as sdk;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use self::client::{Clients, code, refused};
use self::wait::Latest;
use super::{Adopt, Cloud, CloudError, Fleet, Images, Launch, Leases, Removed};
use crate::model::ec2::{Candidate, Ec2Spec, tag};
use crate::model::event::Events;
use crate::model::host::{Host, HostId};
use crate::model::name::ClusterName;
use crate::model::plan::ResourceStep;
use crate::model::report::Finding;
use crate::model::spec::{FleetSpec, Secrets, Service, Spec, SshSpec};

const PROVIDER: &str = "ec2";

/// One cluster in one account and region.
pub struct Ec2 {
    cluster: ClusterName,
    spec: Ec2Spec,
    ssh: SshSpec,
    /// Their metrics' ports are let in.
    services: Vec<Service>,
    /// Where images' hosts have theirs from, which the instances' role must allow.
    secrets: Secrets,
    /// That of ours to make.
    fleet: Option<FleetSpec>,
    /// Somebody else makes it.
    fleet_elsewhere: bool,
    home: PathBuf,
    events: Events,
    cancel: CancellationToken,
    /// Opened by the first call that needs the account.
    clients: OnceCell<Result<Clients, CloudError>>,
    latest: Mutex<Option<Latest>>,
}

impl Ec2 {
    /// Nothing is asked yet. `home` is where the user's keys are looked for where the spec names none; `events` are
    /// told when the API makes a call wait.
    pub fn new(spec: &Spec, ec2: &Ec2Spec, home: PathBuf, events: Events, cancel: CancellationToken) -> Self {
        Self {
            cluster: spec.cluster.clone(),
            spec: ec2.clone(),
            ssh: spec.ssh.clone(),
            services: spec.services.clone(),
            secrets: spec.image.secrets,
            fleet: spec.fleet.clone().filter(|fleet| !fleet.made_elsewhere),
            fleet_elsewhere: spec.fleet.as_ref().is_some_and(|fleet| fleet.made_elsewhere),
            home,
            events,
            cancel,
            clients: OnceCell::new(),
            latest: Mutex::new(None),
        }
    }

    async fn clients(&self) -> Result<&Clients, CloudError> {
        // What is wrong with the credentials is found out once, and not again for each call.
        let opened = self.clients.get_or_init(|| Clients::open(&self.spec, &self.events, &self.cancel)).await;
        opened.as_ref().map_err(CloudError::again)
    }

    /// What all that belongs to the cluster carries: its tag, and the user's own.
    fn own_tags(&self) -> Vec<(String, String)> {
        let own = [(tag::CLUSTER.to_owned(), self.cluster.to_string())];
        self.spec.tags.clone().into_iter().chain(own).collect()
    }

    /// The same with `more`, for what is made in one call with its tags.
    fn made_tags<'a>(
        &self,
        kind: sdk::ResourceType,
        more: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> sdk::TagSpecification {
        let more = more.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let origin = [(tag::ORIGIN.to_owned(), tag::LAUNCHED.to_owned())];
        tag_specification(kind, self.own_tags().into_iter().chain(origin).chain(more).collect())
    }

    /// Sleeps, unless the run is interrupted.
    async fn pause(&self, length: Duration) -> Result<(), CloudError> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(CloudError::Cancelled),
            () = tokio::time::sleep(length) => Ok(()),
        }
    }
}

/// A key stands once in it, as EC2 wants it.
fn tag_specification(kind: sdk::ResourceType, tags: BTreeMap<String, String>) -> sdk::TagSpecification {
    let tags = tags.into_iter().map(|(key, value)| sdk::Tag::builder().key(key).value(value).build());
    sdk::TagSpecification::builder().resource_type(kind).set_tags(Some(tags.collect())).build()
}

fn filter<'a>(name: &str, values: impl IntoIterator<Item = impl Into<String> + 'a>) -> sdk::Filter {
    sdk::Filter::builder().name(name).set_values(Some(values.into_iter().map(Into::into).collect())).build()
}

#[async_trait]
impl Cloud for Ec2 {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn survey(&self) -> Result<Vec<ResourceStep>, CloudError> {
        self.survey_ground().await
    }

    async fn prepare(&self, events: &Events) -> Result<(), CloudError> {
        self.prepare_ground(events).await.map(drop)
    }

    async fn list(&self) -> Result<Vec<Host>, CloudError> {
        let mut hosts: Vec<Host> = self.instances().await?.iter().filter_map(|found| self.host(found)).collect();
        hosts.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(hosts)
    }

    async fn launch(&self, wanted: &[Launch], events: &Events) -> Vec<Result<Host, CloudError>> {
        self.launch_all(wanted, events)
            .await
            .unwrap_or_else(|error| wanted.iter().map(|_| Err(error.again())).collect())
    }

    async fn wait(&self, id: &HostId, deadline: Instant) -> Result<Host, CloudError> {
        self.wait_for(id, deadline).await
    }

    async fn terminate(&self, ids: &[HostId], _events: &Events) -> Result<(), CloudError> {
        let ids: Vec<String> = ids.iter().map(|id| id.0.clone()).collect();
        self.end_instances(&ids).await
    }

    async fn console(&self, id: &HostId) -> Result<String, CloudError> {
        let clients = self.clients().await?;
        // Only newer kinds of instance tell what is on the console now; others tell what was at the last change.
        let latest = clients.ec2.get_console_output().instance_id(&id.0).latest(true).send().await;
        let answer = match latest {
            Err(error) if matches!(code(&error), Some("UnsupportedOperation" | "InvalidParameterCombination")) => {
                clients.ec2.get_console_output().instance_id(&id.0).send().await
            }
            other => other,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => {
                return Err(CloudError::NoSuchHost { id: id.clone() });
            }
            Err(error) => return Err(refused("ec2:GetConsoleOutput", error)),
        };
        let text: String = answer.output().unwrap_or_default().split_whitespace().collect();
        Ok(String::from_utf8_lossy(&BASE64_STANDARD.decode(text).unwrap_or_default()).into_owned())
    }

    fn console_has_host_keys(&self) -> bool {
        true
    }

    async fn remember_host_keys(&self, id: &HostId, keys: &[String]) -> Result<(), CloudError> {
        // A tag holds 256 characters: an ed25519 key fits, and is what every image of today has.
        match keys.iter().find(|key| key.starts_with("ssh-ed25519 ") && key.len() <= 256) {
            Some(key) => self.tag(&id.0, &[(tag::HOST_KEY, key)]).await,
            None => Ok(()),
        }
    }

    async fn leaders(&self) -> Result<Vec<Candidate>, CloudError> {
        self.candidates().await
    }

    async fn adopt(&self, wanted: &[Adopt], events: &Events) -> Vec<Result<Host, CloudError>> {
        self.adopt_all(wanted, events).await
    }

    async fn examine(&self) -> Vec<Finding> {
        self.findings().await
    }

    async fn destroy(&self, keep_data: bool, events: &Events) -> Result<Removed, CloudError> {
        self.destroy_all(keep_data, events).await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
