//! The key pair: the user's own public key, imported once, or an existing pair that the spec names.

use std::path::PathBuf;

use aws_sdk_ec2::types as sdk;

use super::client::{code, refused};
use super::{Ec2, instance};
use crate::model::ec2::tag;
use crate::world::cloud::CloudError;
use crate::world::remote::openssh;

/// What EC2 has under the name that the cluster's key pair has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub name: String,
    pub ours: bool,
    /// `ssh-ed25519 AAAA…`, where EC2 tells it.
    pub public_key: Option<String>,
}

impl Ec2 {
    pub(super) fn key_pair_name(&self) -> String {
        self.spec.key_pair.clone().unwrap_or_else(|| format!("clusterctl-{}", self.cluster))
    }

    pub(super) async fn key_pair(&self) -> Result<Option<KeyPair>, CloudError> {
        let clients = self.clients().await?;
        let name = self.key_pair_name();
        let asked = clients.ec2.describe_key_pairs().key_names(&name).include_public_key(true).send().await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("InvalidKeyPair.NotFound") => return Ok(None),
            Err(error) => return Err(refused("ec2:DescribeKeyPairs", error)),
        };
        Ok(answer.key_pairs().first().map(|pair| KeyPair {
            name,
            ours: instance::tags(pair.tags()).get(tag::CLUSTER).is_some_and(|c| c == self.cluster.as_str()),
            public_key: pair.public_key().map(first_two_words).filter(|key| key.contains(' ')),
        }))
    }

    /// Imports the user's public key. Somebody else who did so meanwhile is no error.
    pub(super) async fn import_key_pair(&self) -> Result<(), CloudError> {
        let clients = self.clients().await?;
        let key = self.public_key()?;
        let import = clients
            .ec2
            .import_key_pair()
            .key_name(self.key_pair_name())
            .public_key_material(aws_sdk_ec2::primitives::Blob::new(key.into_bytes()))
            .tag_specifications(self.made_tags(sdk::ResourceType::KeyPair, []))
            .send()
            .await;
        match import {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("InvalidKeyPair.Duplicate") => Ok(()),
            Err(error) => Err(refused("ec2:ImportKeyPair", error)),
        }
    }

    pub(super) async fn delete_key_pair(&self) -> Result<Option<String>, CloudError> {
        match self.key_pair().await? {
            Some(pair) if pair.ours && self.spec.key_pair.is_none() => {
                let clients = self.clients().await?;
                let gone = clients.ec2.delete_key_pair().key_name(&pair.name).send().await;
                gone.map_err(|error| refused("ec2:DeleteKeyPair", error))?;
                Ok(Some(pair.name))
            }
            _ => Ok(None),
        }
    }

    /// The public half of the key that hosts are logged in to with: EC2 takes ed25519 and RSA.
    pub(super) fn public_key(&self) -> Result<String, CloudError> {
        let files: Vec<PathBuf> = match &self.ssh.key {
            Some(key) => vec![key.clone()],
            None => ["id_ed25519", "id_rsa"].map(|name| self.home.join(".ssh").join(name)).to_vec(),
        };
        let found = files.iter().find_map(|file| openssh::public_key(file));
        let Some(key) = found.as_deref().map(first_two_words) else {
            let tried: Vec<String> = files.iter().map(|file| format!("{}.pub", file.display())).collect();
            return Err(CloudError::Unfit {
                missing: format!("there is no public SSH key to give to the hosts (tried {})", tried.join(", ")),
                cure: "make one with `ssh-keygen -t ed25519` and name its private half as `key` in [ssh]; or name an \
                       existing pair of yours as `key_pair` in [ec2]"
                    .to_owned(),
            });
        };
        if key.starts_with("ssh-ed25519 ") || key.starts_with("ssh-rsa ") {
            return Ok(key);
        }
        Err(CloudError::Unfit {
            missing: format!("EC2 takes no key of type {}", key.split(' ').next().unwrap_or_default()),
            cure: "make one with `ssh-keygen -t ed25519` and name it as `key` in [ssh]".to_owned(),
        })
    }
}

/// A public key without its comment.
fn first_two_words(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
