//! What hosts stand on: network, groups, key pair and identity. Looked at in one go, its steps made from that
//! with their reasons (`survey` shows them, `prepare` takes them), and handed to the launch.

use std::time::{Duration, Instant};

use super::Ec2;
use super::identity::{Identity, Part};
use super::image::ImageFacts;
use super::instance::Instance;
use super::keypair::KeyPair;
use super::leader::{self, LeaderTag};
use super::network::{Groups, Subnet};
use crate::core::ec2::ports;
use crate::model::ec2::{Ingress, InstanceProfile, Peer, tag};
use crate::model::event::{Doing, Events};
use crate::model::host::Role;
use crate::model::plan::{Reason, ResourceStep};
use crate::world::cloud::CloudError;

/// New groups and profiles may take a moment until every part of AWS knows them.
const SETTLE: Duration = Duration::from_secs(30);

/// All that was found.
#[derive(Debug, Clone)]
pub struct Ground {
    pub subnets: Vec<Subnet>,
    pub groups: Groups,
    pub key_pair: Option<KeyPair>,
    /// `None`: the spec names another profile, or none.
    pub identity: Option<Identity>,
    /// The cluster's, but for those that are gone.
    pub instances: Vec<Instance>,
}

/// One thing to make or mend.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    MakeGroup(String),
    Allow {
        group: String,
        rules: Vec<Ingress>,
    },
    Forbid {
        group: String,
        rules: Vec<Ingress>,
    },
    ImportKey,
    Identity(Part),
    Leader(LeaderTag),
    /// Somebody took one of the cluster's groups from the instance.
    GiveGroups {
        instance: Instance,
        groups: Vec<String>,
    },
}

impl Step {
    const fn makes_group(&self) -> bool {
        matches!(self, Self::MakeGroup(_))
    }
}

/// What a launch is made with.
#[derive(Debug, Clone)]
pub struct Footing {
    pub subnets: Vec<Subnet>,
    /// Ids of the groups: of all hosts, of servers.
    pub groups: [String; 2],
    pub key_pair: String,
    pub profile: Option<String>,
    pub image: ImageFacts,
    pub server_image: ImageFacts,
    /// Somebody has the leader's tag already.
    pub led: bool,
}

impl Ec2 {
    /// Everything at once: each is one call and none needs another's answer, but for the groups.
    pub(super) async fn ground(&self) -> Result<Ground, CloudError> {
        let network = async {
            let subnets = self.subnets().await?;
            let groups = self.groups(&subnets[0].vpc).await?;
            Ok::<_, CloudError>((subnets, groups))
        };
        let identity = async {
            match self.spec.profile_of_instances {
                InstanceProfile::Made => self.identity().await.map(Some),
                _ => Ok(None),
            }
        };
        let (network, key_pair, identity, instances) =
            tokio::join!(network, self.key_pair(), identity, self.instances());
        let (subnets, groups) = network?;
        let instances = instances?.into_iter().filter(|instance| instance.state.exists()).collect();
        Ok(Ground { subnets, groups, key_pair: key_pair?, identity: identity?, instances })
    }

    fn steps(&self, ground: &Ground) -> Result<Vec<Step>, CloudError> {
        let mut steps = Vec::new();
        let names = self.group_names();
        let wanted = self.wanted_rules(&ground.groups);
        for (name, wanted) in names.iter().zip(wanted) {
            let present = match ground.groups.get(name) {
                Some(group) => group.rules.clone(),
                None => {
                    steps.push(Step::MakeGroup(name.clone()));
                    Vec::new()
                }
            };
            let (missing, extra) = ports::diff(&wanted, &present);
            if !missing.is_empty() {
                steps.push(Step::Allow { group: name.clone(), rules: missing });
            }
            if !extra.is_empty() {
                steps.push(Step::Forbid { group: name.clone(), rules: extra });
            }
        }
        // Groups first: a rule may speak of the other group.
        steps.sort_by_key(|step| !step.makes_group());
        match &ground.key_pair {
            Some(_) => {}
            None if self.spec.key_pair.is_some() => {
                return Err(CloudError::Unfit {
                    missing: format!("there is no key pair {}", self.key_pair_name()),
                    cure: "name an existing one as `key_pair` in [ec2], or leave it out: then the public half of `key` in \
                           [ssh] is imported"
                        .to_owned(),
                });
            }
            None => {
                // That there is no key to import is said before anything is made.
                self.public_key()?;
                steps.push(Step::ImportKey);
            }
        }
        let parts = ground.identity.as_ref().map(Identity::missing).unwrap_or_default();
        steps.extend(parts.into_iter().map(Step::Identity));
        steps.extend(leader::mends(&ground.instances, &self.cluster).into_iter().map(Step::Leader));
        steps.extend(ground.instances.iter().filter_map(|instance| {
            let groups = self.lacking(instance, ground);
            (!groups.is_empty()).then(|| Step::GiveGroups { instance: instance.clone(), groups })
        }));
        Ok(steps)
    }

    /// The rules of the two groups as they should be. A group that is not there yet stands in them by its name.
    pub(super) fn wanted_rules(&self, groups: &Groups) -> [Vec<Ingress>; 2] {
        let ids = self.group_names().map(|name| groups.get(&name).map_or(name, |group| group.id.clone()));
        ports::rules(&ids, &self.spec.ssh_from, &self.services)
    }

    /// The cluster's groups, by name, that an instance of its VPC should have and has not.
    fn lacking(&self, instance: &Instance, ground: &Ground) -> Vec<String> {
        if instance.vpc.as_ref() != Some(&ground.subnets[0].vpc) {
            return Vec::new();
        }
        let [all, server] = self.group_names();
        let own = if instance.role().is_server() { vec![all, server] } else { vec![all] };
        let has = |name: &String| match ground.groups.get(name) {
            Some(group) => instance.groups.contains(&group.id),
            // It is made first; the next look tells.
            None => true,
        };
        own.into_iter().filter(|name| !has(name)).collect()
    }

    pub(super) async fn survey_ground(&self) -> Result<Vec<ResourceStep>, CloudError> {
        let ground = self.ground().await?;
        let wanted = usize::from(self.spec.servers) + usize::from(self.spec.nodes);
        let launched = |i: &&Instance| i.tags.get(tag::ORIGIN).is_some_and(|origin| origin == tag::LAUNCHED);
        if ground.instances.iter().filter(launched).count() < wanted {
            self.check_launch().await?;
        }
        let steps = self.steps(&ground)?;
        let name = self.identity_name().await?;
        Ok(steps.iter().map(|step| self.shown(step, &name, &ground.groups)).collect())
    }

    fn shown(&self, step: &Step, identity: &str, groups: &Groups) -> ResourceStep {
        let list = |rules: &[Ingress]| {
            rules.iter().map(|rule| ports::shown(&by_name(rule, groups))).collect::<Vec<_>>().join(", ")
        };
        let absent = "it does not exist yet";
        let (what, reason) = match step {
            Step::MakeGroup(name) => (format!("make the security group {name}"), absent.to_owned()),
            Step::Allow { group, rules } => {
                (format!("let into {group}: {}", list(rules)), "the rule is missing".to_owned())
            }
            Step::Forbid { group, rules } => (
                format!("no longer let into {group}: {}", list(rules)),
                "clusterctl made the rule and no longer wants it".to_owned(),
            ),
            Step::ImportKey => {
                (format!("import your public key as the key pair {}", self.key_pair_name()), absent.to_owned())
            }
            Step::Identity(Part::Role) => (format!("make the IAM role {identity}"), absent.to_owned()),
            Step::Identity(Part::Policy) => {
                (format!("give the role {identity} its policy"), "it has none, or another one".to_owned())
            }
            Step::Identity(Part::Profile) => (format!("make the instance profile {identity}"), absent.to_owned()),
            Step::Identity(Part::Attachment) => {
                (format!("put the role into the instance profile {identity}"), "it is not in it".to_owned())
            }
            Step::Leader(mend) => self.leader_tag_shown(mend),
            Step::GiveGroups { instance, groups } => (
                format!("give {} the security group {}", instance.called(), groups.join(" and ")),
                "the host has it no longer".to_owned(),
            ),
        };
        ResourceStep { what, reason: Reason(reason) }
    }

    /// What a launch names and does not make: told before anything is made, where it is not there.
    pub(super) async fn check_launch(&self) -> Result<(), CloudError> {
        let (node, server) = (self.instance_type(Role::Node), self.instance_type(Role::Server));
        let images = async {
            self.image(node).await?;
            if server != node {
                self.image(server).await?;
            }
            Ok::<_, CloudError>(())
        };
        let (images, groups, profile) = tokio::join!(images, self.check_groups(), self.check_profile());
        images.and(groups).and(profile)
    }

    /// Makes what is missing and mends what differs.
    pub(super) async fn prepare_ground(&self, events: &Events) -> Result<Ground, CloudError> {
        let mut ground = self.ground().await?;
        let mut steps = self.steps(&ground)?;
        let name = self.identity_name().await?;
        let deadline = Instant::now() + SETTLE;
        while !steps.is_empty() {
            // Rules speak of groups by their ids: they follow with the next look where a group is made just now.
            let waits = |step: &&Step| matches!(step, Step::Allow { .. }) && steps.iter().any(Step::makes_group);
            for step in steps.iter().filter(|step| !waits(step)) {
                let doing = Doing::Prepare { what: self.shown(step, &name, &ground.groups).what };
                events.began(None, doing.clone());
                self.take(step, &ground).await?;
                events.ended(None, doing, true);
            }
            // Looking again shows the ids of new groups, and that all of it has arrived.
            ground = self.ground().await?;
            steps = self.steps(&ground)?;
            if !steps.is_empty() && Instant::now() > deadline {
                let left: Vec<String> = steps.iter().map(|step| self.shown(step, &name, &ground.groups).what).collect();
                return Err(CloudError::Unfit {
                    missing: format!("AWS did not keep what was made: still to do: {}", left.join("; ")),
                    cure: "does somebody else change it at the same time? Running the command again is safe".to_owned(),
                });
            }
            self.pause(if steps.is_empty() { Duration::ZERO } else { Duration::from_millis(500) }).await?;
        }
        Ok(ground)
    }

    async fn take(&self, step: &Step, ground: &Ground) -> Result<(), CloudError> {
        let vpc = &ground.subnets[0].vpc;
        match step {
            Step::MakeGroup(name) => self.create_group(name, vpc).await,
            Step::Allow { group, rules } => match ground.groups.get(group) {
                Some(found) => self.authorize(&found.id, rules).await,
                None => Ok(()),
            },
            Step::Forbid { group, rules } => match ground.groups.get(group) {
                Some(found) => self.revoke(&found.id, rules).await,
                None => Ok(()),
            },
            Step::ImportKey => self.import_key_pair().await,
            Step::Identity(part) => self.make_identity(*part).await,
            Step::Leader(mend) => self.mend_leader_tag(mend).await,
            Step::GiveGroups { instance, groups } => {
                let ids = groups.iter().filter_map(|name| ground.groups.get(name)).map(|group| group.id.clone());
                self.add_groups(instance, ids.collect()).await
            }
        }
    }

    /// What a launch needs, from a ground that is prepared.
    pub(super) async fn footing(&self, ground: &Ground) -> Result<Footing, CloudError> {
        let unprepared = |name: &str| CloudError::Unfit {
            missing: format!("the security group {name} has gone since it was looked at"),
            cure: "run the command again".to_owned(),
        };
        let [all, server] = self.group_names();
        let id = |name: &str| ground.groups.get(name).map(|group| group.id.clone()).ok_or_else(|| unprepared(name));
        let groups = [id(&all)?, id(&server)?];
        let server_type = self.instance_type(Role::Server);
        let node_type = self.instance_type(Role::Node);
        let (image, server_image) = if server_type == node_type {
            let image = self.image(node_type).await?;
            (image.clone(), image)
        } else {
            let (image, server_image) = tokio::join!(self.image(node_type), self.image(server_type));
            (image?, server_image?)
        };
        self.check_key(ground)?;
        Ok(Footing {
            subnets: ground.subnets.clone(),
            groups,
            key_pair: self.key_pair_name(),
            profile: self.profile_name().await?,
            image,
            server_image,
            led: leader::exists(&ground.instances),
        })
    }

    /// A host launched with a key pair that the operator has no key for could never be logged in to.
    fn check_key(&self, ground: &Ground) -> Result<(), CloudError> {
        let Some(pair) = &ground.key_pair else { return Ok(()) };
        let (Some(theirs), Ok(mine)) = (&pair.public_key, self.public_key()) else { return Ok(()) };
        if *theirs == mine || self.spec.key_pair.is_some() {
            return Ok(());
        }
        Err(CloudError::Unfit {
            missing: format!(
                "the key pair {} holds another key than yours, so you could not log in to new hosts",
                pair.name
            ),
            cure: format!(
                "name the private half of that key as `key` in [ssh] (who made the cluster has it), or name a pair of your \
                 own as `key_pair` in [ec2]; `aws ec2 delete-key-pair --key-name {}` lets the next run import yours",
                pair.name
            ),
        })
    }
}

/// The rule as people know its groups.
fn by_name(rule: &Ingress, groups: &Groups) -> Ingress {
    let mut rule = rule.clone();
    if let Peer::Group(id) = &mut rule.peer
        && let Some(group) = groups.values().find(|group| group.id == *id)
    {
        id.clone_from(&group.name);
    }
    rule
}
