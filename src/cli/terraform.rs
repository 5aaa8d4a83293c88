//! `clusterctl render --format terraform`.

use anyhow::{Context as _, Result};

use super::context::{renderer, spec_if_any};
use super::paths::Paths;
use super::render::{DEFAULT_CLUSTER, RenderArgs};
use super::{Global, Usage, exit};
use crate::core::{specfile, terraform};
use crate::model::ec2::Ec2Spec;
use crate::model::file::HostPath;
use crate::model::image::TerraformReport;
use crate::model::name::ClusterName;
use crate::model::spec::{ProviderSpec, Spec};
use crate::ui::words;
use crate::world::folder::{self, Entry};

pub(super) fn run(global: &Global, args: &RenderArgs) -> Result<u8> {
    if let Some(flag) = args.of_files() {
        return Err(Usage(format!("{flag} is for hosts' files, which no Terraform module has: take it out")).into());
    }
    let paths = Paths::from_environment()?;
    let ui = global.ui();
    let spec = spec(global, &paths)?;
    let text = terraform::module(&renderer(&spec)?, &spec, &ec2(global, &spec)?)?;
    let mut written = None;
    if let Some(dir) = &args.out {
        let path = HostPath::new(format!("/{}", terraform::FILE))?;
        let done = folder::write(dir, &[Entry { path, mode: 0o644, text: Some(&text) }])?;
        ui.note(&format!(
            "{} in {}: {} new or changed",
            words::count(done.files.len(), "file"),
            dir.display(),
            done.changed
        ));
        written = Some(done.files);
    }
    ui.show(&TerraformReport { cluster: spec.cluster, text, written }, &ui.view()).context("writing the answer")?;
    Ok(exit::OK)
}

/// Who names a cluster does not mean the one whose spec happens to lie here.
fn spec(global: &Global, paths: &Paths) -> Result<Spec> {
    if let Some(cluster) = &global.cluster {
        return Ok(Spec::ec2(cluster.clone()));
    }
    match spec_if_any(global, paths, None)? {
        Some(spec) => Ok(spec),
        None => Ok(Spec::ec2(ClusterName::new(DEFAULT_CLUSTER)?)),
    }
}

fn ec2(global: &Global, spec: &Spec) -> Result<Ec2Spec> {
    let ProviderSpec::Ec2(ec2) = &spec.provider else {
        let provider = spec.provider.as_str();
        let reason = format!("the spec's provider is \"{provider}\", and the module is for instances of EC2");
        return Err(
            Usage(format!("{reason}: say provider = \"ec2\" in [cluster], or name a cluster by --cluster")).into()
        );
    };
    let mut ec2 = ec2.as_ref().clone();
    if let Some(region) = &global.region {
        if !specfile::is_region(region) {
            let reason = format!("--region: \"{}\" is no region", region.escape_debug());
            return Err(Usage(format!("{reason}: write for example --region eu-west-1")).into());
        }
        ec2.region = Some(region.clone());
    }
    Ok(ec2)
}
