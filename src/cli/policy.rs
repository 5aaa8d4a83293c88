use anyhow::Result;
use clap::{Args, ValueEnum};

use super::context::spec_or_default;
use super::paths::Paths;
use super::{Global, exit};
use crate::core::ec2::policy;
use crate::model::spec::{ProviderSpec, Secrets};

/// Print an IAM policy or the table of ports as JSON, to review or to hand to Terraform
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Which: what the instances may do, which ports are open, or the least that you need yourself
    #[arg(value_enum, default_value_t = Which::Iam)]
    which: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// What the role of the instances may do
    Iam,
    /// Who may reach which port
    Ports,
    /// The least that whoever runs clusterctl needs
    Operator,
}

pub fn run(global: &Global, args: &PolicyArgs) -> Result<u8> {
    let paths = Paths::from_environment()?;
    let spec = spec_or_default(global, &paths)?;
    let ec2 = match &spec.provider {
        ProviderSpec::Ec2(ec2) => Some(ec2.as_ref()),
        _ => None,
    };
    let region = global.region.clone().or_else(|| ec2.and_then(|ec2| ec2.region.clone()));
    let text = match args.which {
        // Without a region the condition would be empty, and an empty one grants nothing.
        Which::Iam => {
            let secrets_of = (spec.image.secrets == Secrets::Ssm).then_some(&spec.cluster);
            policy::instance_policy(region.as_deref().unwrap_or("*"), secrets_of)
        }
        Which::Ports => policy::ports_document(&spec.cluster, ec2.map_or(&[], |ec2| &ec2.ssh_from), &spec.services),
        Which::Operator => policy::operator_policy(&spec.cluster, region.as_deref(), None),
    };
    global.ui().data(&text)?;
    Ok(exit::OK)
}
