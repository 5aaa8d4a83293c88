//! What `up`, `plan` and `join-node` share about hosts that boot from an image: which image new ones get.

use anyhow::Result;

use super::Usage;
use super::context::Session;
use crate::core::imaged::{Wish, choose, common};
use crate::core::select::ToLaunch;
use crate::model::host::{Host, Role};
use crate::model::name::HostName;
use crate::model::spec::ProviderSpec;
use crate::world::cloud::sandbox;

/// # Errors
/// [`Usage`] where hosts do not come from images that have names.
pub fn check(session: &Session, named: Option<&HostName>) -> Result<()> {
    let sandbox = matches!(session.spec.provider, ProviderSpec::Sandbox { .. });
    let why = "--image is for hosts of the sandbox; on EC2 an Auto Scaling group launches nodes from an image, by [fleet] in \
               the spec";
    anyhow::ensure!(named.is_none() || sandbox, Usage(why.to_owned()));
    Ok(())
}

/// The launches with the image that is named, else with the one that all the cluster's hosts come from, if there is one.
pub fn assign(
    session: &Session,
    named: Option<&HostName>,
    existing: &[Host],
    missing: Vec<ToLaunch>,
) -> Result<Vec<ToLaunch>> {
    let ProviderSpec::Sandbox { servers, nodes } = session.spec.provider else { return Ok(missing) };
    let is_new = |launch: &ToLaunch| !existing.iter().any(|host| host.state.exists() && host.name == launch.name);
    let new: Vec<Role> = missing.iter().filter(|launch| is_new(launch)).map(|launch| launch.role).collect();
    let counted =
        [(Role::Server, servers), (Role::Node, nodes)].into_iter().filter(|(_, n)| *n > 0).map(|(role, _)| role);
    let (name, roles) = match (named, common(existing)) {
        (Some(name), _) => (name.as_str(), counted.collect()),
        (None, Some(name)) if !new.is_empty() => (name, new),
        (None, _) => return Ok(missing),
    };
    let known = sandbox::images(&session.paths.sandbox)?;
    let images = choose(Wish { name, roles: &roles, servers }, existing, &known)?;
    if named.is_none() {
        let said = format!("the cluster's hosts come from the image {}: new ones boot from it too", images.name());
        session.events.note(None, said);
    }
    Ok(images.assign(missing, existing))
}
