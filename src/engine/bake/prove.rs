//! Hosts that boot from the new images, and the word of Consul and Prometheus on them.

use std::time::Instant;

use super::install::{Installed, look};
use super::{Broken, CONSOLE_LINES, Order, Site, bake, failure, last_lines};
use crate::engine::launch::launch_for_build;
use crate::engine::observe::Observed;
use crate::engine::verify::verify;
use crate::model::baking::Made;
use crate::model::facts::FactsQuery;
use crate::model::host::Host;
use crate::model::name::HostName;
use crate::model::report::{Failure, Proof, Verified};
use crate::world::cloud::Launch;

/// What was said, whatever it came to.
#[derive(Default)]
pub struct Said {
    pub verified: Option<Verified>,
    pub proofs: Vec<Proof>,
}

/// Launches hosts from the images and waits until they run.
pub async fn boot(site: &Site<'_>, order: &Order, made: &[Made]) -> Result<Vec<Host>, Broken> {
    let hosts = bake::proving_hosts(&order.build, &order.baked_roles());
    let launches: Vec<Launch> = hosts
        .into_iter()
        .map(|(name, role)| Launch {
            image: made.iter().find(|image| image.role == role).map(|image| image.id.clone()),
            lifetime: Some(bake::LIFETIME + site.limits.verify),
            ..Launch::plain(name, role)
        })
        .collect();
    let (hosts, failed) = launch_for_build(site.build, &launches, site.limits, site.events).await;
    match Broken::host(&failed) {
        Some(broken) => {
            let there = site.cleaner.list().await.unwrap_or_default();
            let silent: Vec<Host> =
                there.into_iter().filter(|host| failed.iter().any(|outcome| outcome.host == host.name)).collect();
            Err(with_consoles(site, &silent, broken).await)
        }
        None => Ok(hosts),
    }
}

/// Asks the servers until every host that booted is alive and scraped.
pub async fn prove(site: &Site<'_>, installed: &Installed, booted: &[Host], said: &mut Said) -> Result<(), Broken> {
    let baked: Vec<Host> = booted.iter().filter(|host| host.role.is_server()).cloned().collect();
    // Nobody installs anything there: it is logged in to for asking alone.
    let servers = match look(site, baked, &|_: &Host| FactsQuery::default()).await {
        Ok(servers) => servers,
        Err(broken) => return Err(with_consoles(site, booted, broken).await),
    };
    let servers: Vec<&Observed> = installed.watcher.iter().chain(&servers).collect();
    let names: Vec<HostName> = booted.iter().map(|host| host.name.clone()).collect();
    let begun = Instant::now();
    match verify(&servers, &names, site.limits, site.events).await {
        Ok(mut verified) => {
            said.proofs = std::mem::take(&mut verified.proofs);
            said.verified = Some(verified);
            Ok(())
        }
        Err(unverified) => {
            said.proofs.clone_from(&unverified.proofs);
            if unverified.interrupted || site.cancel.is_cancelled() {
                return Err(Broken::Interrupted("prove".to_owned()));
            }
            let waited = begun.elapsed().as_secs();
            let message = format!("not confirmed within {waited} s: {}", unverified.missing.join("; "));
            let hint = "the console's last lines are those of the hosts that booted from the images; with \
                        --keep-unproven the images stay, to be looked at";
            let broken = Broken::failed(Failure { hint: Some(hint.to_owned()), ..failure::plain("prove", message) });
            Err(with_consoles(site, booted, broken).await)
        }
    }
}

/// A host that does not come up says why on its console, and nowhere else.
async fn with_consoles(site: &Site<'_>, hosts: &[Host], broken: Broken) -> Broken {
    let Broken::Failed(mut failure) = broken else { return broken };
    for host in hosts {
        match site.cleaner.console(&host.id).await {
            Ok(text) => {
                let lines = last_lines(text.as_bytes(), CONSOLE_LINES);
                failure.lines.extend(lines.into_iter().map(|line| format!("{}: {line}", host.name)));
            }
            Err(error) => failure.lines.push(format!("{}: its console cannot be read: {error}", host.name)),
        }
    }
    Broken::Failed(failure)
}
