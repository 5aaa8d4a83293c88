//! The role of the instances and its instance profile, with the policy that `clusterctl policy iam` shows. Made
//! only where the spec names no profile of the user's own.

use aws_sdk_iam::types as sdk;

use super::Ec2;
use super::client::{code, refused};
use crate::core::ec2::policy;
use crate::model::ec2::{InstanceProfile, tag};
use crate::model::spec::Secrets;
use crate::world::cloud::CloudError;

/// The path of all that clusterctl makes in IAM, so that a policy can speak of it.
pub const PATH: &str = "/clusterctl/";
const POLICY: &str = "clusterctl-discovery";

/// What IAM has of the cluster's identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub role: Option<Ours>,
    pub policy: bool,
    pub profile: Option<Ours>,
    pub attached: bool,
}

/// Something by its name that exists: is it this cluster's?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours(pub bool);

/// What is missing of it, in the order in which it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Role,
    Policy,
    Profile,
    Attachment,
}

impl Identity {
    pub fn missing(&self) -> Vec<Part> {
        let parts = [
            (self.role.is_none(), Part::Role),
            (!self.policy, Part::Policy),
            (self.profile.is_none(), Part::Profile),
            (!self.attached, Part::Attachment),
        ];
        parts.into_iter().filter(|(missing, _)| *missing).map(|(_, part)| part).collect()
    }
}

impl Ec2 {
    /// The name of the role and of the profile: IAM is one for all regions, so the region is in it.
    pub(super) async fn identity_name(&self) -> Result<String, CloudError> {
        Ok(policy::identity_name(&self.cluster, &self.clients().await?.region))
    }

    /// The profile that instances get.
    pub(super) async fn profile_name(&self) -> Result<Option<String>, CloudError> {
        Ok(match &self.spec.profile_of_instances {
            InstanceProfile::Made => Some(self.identity_name().await?),
            InstanceProfile::Named(name) => Some(name.clone()),
            InstanceProfile::Without => None,
        })
    }

    pub(super) async fn identity(&self) -> Result<Identity, CloudError> {
        let name = self.identity_name().await?;
        let (role, policy, profile) = tokio::join!(self.role(&name), self.role_policy(&name), self.profile(&name));
        let (profile, roles) = profile?.map_or((None, Vec::new()), |(ours, roles)| (Some(ours), roles));
        let attached = roles.contains(&name);
        let identity = Identity { role: role?, policy: policy?, profile, attached };
        for (kind, found) in [("role", identity.role), ("instance profile", identity.profile)] {
            if found == Some(Ours(false)) {
                return Err(CloudError::Unfit {
                    missing: format!("the IAM {kind} {name} exists and was not made for this cluster"),
                    cure: "delete it, or name a profile of your own as `instance_profile` in [ec2]".to_owned(),
                });
            }
        }
        // It holds one role, so that ours has no room beside it.
        if let Some(other) = roles.iter().find(|role| **role != name) {
            return Err(CloudError::Unfit {
                missing: format!("the instance profile {name} holds another role, {other}"),
                cure: format!(
                    "take it out: `aws iam remove-role-from-instance-profile --instance-profile-name {name} --role-name \
                     {other}`; or name a profile of your own as `instance_profile` in [ec2]"
                ),
            });
        }
        Ok(identity)
    }

    /// Is the user's own profile there? Who may not look is not told that it is missing.
    pub(super) async fn check_profile(&self) -> Result<(), CloudError> {
        let InstanceProfile::Named(name) = &self.spec.profile_of_instances else { return Ok(()) };
        let asked = self.clients().await?.iam.get_instance_profile().instance_profile_name(name).send().await;
        match asked {
            Err(error) if code(&error) == Some("NoSuchEntity") => Err(CloudError::Unfit {
                missing: format!("there is no instance profile {name}"),
                cure: "name an existing one as `instance_profile` in [ec2], leave it out (then one is made), or say \"none\""
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn owns(&self, tags: &[sdk::Tag]) -> Ours {
        Ours(tags.iter().any(|t| t.key() == tag::CLUSTER && t.value() == self.cluster.as_str()))
    }

    async fn role(&self, name: &str) -> Result<Option<Ours>, CloudError> {
        match self.clients().await?.iam.get_role().role_name(name).send().await {
            Ok(answer) => Ok(answer.role().map(|role| self.owns(role.tags()))),
            Err(error) if code(&error) == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(refused("iam:GetRole", error)),
        }
    }

    fn instance_policy(&self, region: &str) -> String {
        policy::instance_policy(region, (self.secrets == Secrets::Ssm).then_some(&self.cluster))
    }

    /// Does the role have the policy as it should be?
    async fn role_policy(&self, name: &str) -> Result<bool, CloudError> {
        let clients = self.clients().await?;
        match clients.iam.get_role_policy().role_name(name).policy_name(POLICY).send().await {
            Ok(answer) => Ok(policy::same(answer.policy_document(), &self.instance_policy(&clients.region))),
            Err(error) if code(&error) == Some("NoSuchEntity") => Ok(false),
            Err(error) => Err(refused("iam:GetRolePolicy", error)),
        }
    }

    /// The profile, and the names of the roles in it.
    async fn profile(&self, name: &str) -> Result<Option<(Ours, Vec<String>)>, CloudError> {
        match self.clients().await?.iam.get_instance_profile().instance_profile_name(name).send().await {
            Ok(answer) => Ok(answer.instance_profile().map(|profile| {
                let roles = profile.roles().iter().map(|role| role.role_name().to_owned()).collect();
                (self.owns(profile.tags()), roles)
            })),
            Err(error) if code(&error) == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(refused("iam:GetInstanceProfile", error)),
        }
    }

    fn iam_tags(&self) -> Result<Vec<sdk::Tag>, CloudError> {
        let tags = self.own_tags().into_iter();
        tags.map(|(key, value)| sdk::Tag::builder().key(key).value(value).build())
            .collect::<Result<_, _>>()
            .map_err(|error| CloudError::Unfit { missing: error.to_string(), cure: "this is a bug".to_owned() })
    }

    /// Makes one part; that it exists already is no error.
    pub(super) async fn make_identity(&self, part: Part) -> Result<(), CloudError> {
        let name = self.identity_name().await?;
        let clients = self.clients().await?;
        let iam = &clients.iam;
        let exists = |code: Option<&str>| matches!(code, Some("EntityAlreadyExists" | "LimitExceeded"));
        match part {
            Part::Role => {
                let made = iam
                    .create_role()
                    .role_name(&name)
                    .path(PATH)
                    .assume_role_policy_document(policy::trust_policy())
                    .description(format!("Hosts of the cluster {}, made by clusterctl", self.cluster))
                    .set_tags(Some(self.iam_tags()?));
                match made.send().await {
                    Err(error) if code(&error) != Some("EntityAlreadyExists") => Err(refused("iam:CreateRole", error)),
                    _ => Ok(()),
                }
            }
            Part::Policy => {
                let put = iam.put_role_policy().role_name(&name).policy_name(POLICY);
                let put = put.policy_document(self.instance_policy(&clients.region)).send().await;
                put.map(drop).map_err(|error| refused("iam:PutRolePolicy", error))
            }
            Part::Profile => {
                let made = iam.create_instance_profile().instance_profile_name(&name).path(PATH);
                match made.set_tags(Some(self.iam_tags()?)).send().await {
                    Err(error) if code(&error) != Some("EntityAlreadyExists") => {
                        Err(refused("iam:CreateInstanceProfile", error))
                    }
                    _ => Ok(()),
                }
            }
            Part::Attachment => {
                let add = iam.add_role_to_instance_profile().instance_profile_name(&name).role_name(&name);
                match add.send().await {
                    // A profile holds one role: that it is full says that ours is in it.
                    Err(error) if !exists(code(&error)) => Err(refused("iam:AddRoleToInstanceProfile", error)),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Removes role and profile where they are ours; each step may have been done before.
    pub(super) async fn delete_identity(&self) -> Result<Vec<String>, CloudError> {
        let name = self.identity_name().await?;
        let iam = &self.clients().await?.iam;
        let mut removed = Vec::new();
        let gone = |code: Option<&str>| code == Some("NoSuchEntity");
        if let Some((Ours(true), roles)) = self.profile(&name).await? {
            if roles.contains(&name) {
                let out = iam.remove_role_from_instance_profile().instance_profile_name(&name).role_name(&name);
                match out.send().await {
                    Err(error) if !gone(code(&error)) => {
                        return Err(refused("iam:RemoveRoleFromInstanceProfile", error));
                    }
                    _ => {}
                }
            }
            match iam.delete_instance_profile().instance_profile_name(&name).send().await {
                Err(error) if !gone(code(&error)) => return Err(refused("iam:DeleteInstanceProfile", error)),
                _ => removed.push(format!("instance profile {name}")),
            }
        }
        if let Some(Ours(true)) = self.role(&name).await? {
            match iam.delete_role_policy().role_name(&name).policy_name(POLICY).send().await {
                Err(error) if !gone(code(&error)) => return Err(refused("iam:DeleteRolePolicy", error)),
                _ => {}
            }
            match iam.delete_role().role_name(&name).send().await {
                Err(error) if !gone(code(&error)) => return Err(refused("iam:DeleteRole", error)),
                _ => removed.push(format!("IAM role {name}")),
            }
        }
        Ok(removed)
    }
}
