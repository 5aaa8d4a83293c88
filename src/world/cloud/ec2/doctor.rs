//! What `doctor` asks of an account: each question by itself, so that one answer does not hide another, and
//! all of them without changing anything.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use futures::future::join_all;

use super::Ec2;
use super::client::{code, refused};
use super::ground::{Footing, Ground};
use crate::core::ec2::ports;
use crate::model::ec2::{InstanceProfile, Reach};
use crate::model::host::Role;
use crate::model::name::HostName;
use crate::model::report::Finding;
use crate::world::cloud::{CloudError, Launch};

/// Requests that are further off than this are refused by AWS (it allows 5 minutes); what is further off than
/// the first is worth a word.
const SKEW_WORTH_A_WORD: i64 = 30;
const SKEW_REFUSED: i64 = 240;
/// Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances, in vCPUs.
const QUOTA: (&str, &str) = ("ec2", "L-1216C47A");

impl Ec2 {
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let mut findings = match self.credentials().await {
            Ok(finding) => vec![finding],
            // Without credentials every other answer would be the same.
            Err(error) => return vec![bad("credentials", &error)],
        };
        findings.extend(self.clock().await);
        let (ground, image, quota) = tokio::join!(self.ground(), self.image_findings(), self.quota());
        findings.extend(image);
        match &ground {
            Ok(ground) => findings.extend(self.ground_findings(ground)),
            Err(error) => findings.push(bad("network", error)),
        }
        findings.push(self.key_finding(ground.as_ref().ok()));
        findings.push(quota);
        if let Ok(ground) = &ground {
            let (groups, profile) = tokio::join!(self.check_groups(), self.check_profile());
            findings.extend(groups.err().map(|error| bad("security group", &error)));
            findings.extend(profile.err().map(|error| bad("instance profile", &error)));
            findings.extend(self.rights(ground).await);
            findings.extend(self.may_launch(ground).await);
        }
        findings
    }

    async fn credentials(&self) -> Result<Finding, CloudError> {
        let clients = self.clients().await?;
        let who = clients.sts.get_caller_identity().send().await;
        let who = who.map_err(|error| refused("sts:GetCallerIdentity", error))?;
        Ok(Finding::good(
            "credentials",
            format!("{} in {}", who.arn().unwrap_or("an unnamed identity"), clients.region),
        ))
    }

    /// AWS' clock, as its last answer told it, beside ours.
    async fn clock(&self) -> Option<Finding> {
        let date = self.clients().await.ok()?.watcher.date()?;
        let theirs = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.replace("GMT", "+0000")).ok()?;
        let ours = jiff::Timestamp::try_from(SystemTime::now()).ok()?;
        let off = ours.as_second() - theirs.as_second();
        let what =
            format!("this machine's clock is {} s {} AWS'", off.abs(), if off < 0 { "behind" } else { "ahead of" });
        let cure = "let chrony or systemd-timesyncd set it: AWS refuses requests that are 5 minutes off";
        Some(match off.abs() {
            0..=SKEW_WORTH_A_WORD => Finding::good("clock", format!("within {SKEW_WORTH_A_WORD} s of AWS'")),
            31..=SKEW_REFUSED => Finding::doubtful("clock", what, cure),
            _ => Finding::bad("clock", what, cure),
        })
    }

    async fn image_findings(&self) -> Vec<Finding> {
        let mut types = vec![self.instance_type(Role::Node), self.instance_type(Role::Server)];
        types.dedup();
        let look = |kind: &str| {
            let kind = kind.to_owned();
            async move {
                match self.image(&kind).await {
                    Ok(image) => {
                        let name = image.name.as_deref().unwrap_or("unnamed");
                        Finding::good("image", format!("{} ({name}, {}) for {kind}", image.id, image.architecture))
                    }
                    Err(error) => bad("image", &error),
                }
            }
        };
        join_all(types.into_iter().map(look)).await
    }

    fn ground_findings(&self, ground: &Ground) -> Vec<Finding> {
        let mut findings = Vec::new();
        let wanted = i32::from(self.spec.servers) + i32::from(self.spec.nodes);
        let free: i32 = ground.subnets.iter().map(|subnet| subnet.free).sum();
        let zones: std::collections::BTreeSet<&str> = ground.subnets.iter().map(|s| s.zone.as_str()).collect();
        let what = format!(
            "{} of {} in {} zones have {free} free addresses",
            counted(ground.subnets.len(), "subnet"),
            ground.subnets[0].vpc,
            zones.len()
        );
        findings.push(if free < wanted {
            Finding::bad("subnet", format!("{what}, {wanted} are needed"), "name more or larger `subnets` in [ec2]")
        } else {
            Finding::good("subnet", what)
        });
        if self.spec.ssh_from.is_empty() && self.spec.reach == Reach::Public && self.spec.security_groups.is_empty() {
            let cure = "name your address in `ssh_from` of [ec2], or a group that lets you in in `security_groups`";
            findings.push(Finding::bad("reachability", "nobody may connect to port 22", cure));
        }
        if self.spec.ssh_from.iter().any(|net| net.prefix_len() == 0) {
            let cure = "narrow `ssh_from` in [ec2] to the addresses that you come from";
            findings.push(Finding::doubtful("reachability", "the whole world may connect to port 22", cure));
        }
        // Somebody's reason is not known here, so that they are left, and said.
        for (name, wanted) in self.group_names().iter().zip(self.wanted_rules(&ground.groups)) {
            let present = ground.groups.get(name).map(|group| group.rules.as_slice()).unwrap_or_default();
            let others: Vec<String> = ports::others(&wanted, present).into_iter().map(ports::shown).collect();
            if !others.is_empty() {
                let what = format!("{name} also lets in, by somebody else's rule: {}", others.join(", "));
                findings.push(Finding::good("security group", what));
            }
        }
        findings
    }

    fn key_finding(&self, ground: Option<&Ground>) -> Finding {
        let pair = ground.and_then(|ground| ground.key_pair.as_ref());
        match (pair, self.public_key()) {
            (Some(pair), Ok(mine)) if pair.public_key.as_ref().is_none_or(|theirs| *theirs == mine) => {
                Finding::good("key", format!("key pair {}", pair.name))
            }
            (Some(pair), Ok(_)) => Finding::doubtful(
                "key",
                format!("key pair {} holds another key than your usual one", pair.name),
                "name the private half that belongs to it as `key` in [ssh], or load it into ssh-agent",
            ),
            (Some(pair), Err(_)) => Finding::doubtful(
                "key",
                format!("key pair {}, and no key of yours was found to compare", pair.name),
                "name the private half that belongs to it as `key` in [ssh], or load it into ssh-agent",
            ),
            (None, Ok(_)) => Finding::good("key", "your public key will be imported"),
            (None, Err(error)) => bad("key", &error),
        }
    }

    async fn quota(&self) -> Finding {
        const TOPIC: &str = "quota";
        let clients = match self.clients().await {
            Ok(clients) => clients,
            Err(error) => return bad(TOPIC, &error),
        };
        let ask = clients.quotas.get_service_quota().service_code(QUOTA.0).quota_code(QUOTA.1).send();
        let (asked, needed) = tokio::join!(ask, self.vcpus());
        let needed = match needed {
            Ok(needed) => f64::from(needed),
            Err(error) => return bad(TOPIC, &error),
        };
        match asked {
            Ok(answer) => {
                let quota = answer.quota().and_then(|quota| quota.value()).unwrap_or(0.0);
                let what = format!(
                    "{quota} vCPUs of standard on-demand instances in {}, what runs there already included; the cluster \
                     needs {needed}",
                    clients.region
                );
                if quota < needed {
                    return Finding::bad(TOPIC, what, "ask for more at Service Quotas (L-1216C47A), or launch fewer");
                }
                Finding::good(TOPIC, what)
            }
            Err(error) => {
                let error = refused("servicequotas:GetServiceQuota", error);
                let cure = error.cure().unwrap_or("look at Service Quotas in the console").to_owned();
                Finding::doubtful(TOPIC, format!("it could not be asked: {error}"), cure)
            }
        }
    }

    /// May this identity do what changes something? EC2 answers a dry run without doing it. Each is asked as it will be
    /// meant, tags and all: a narrow policy refuses any other. What needs a group or an instance of the cluster is asked
    /// where there is one.
    async fn rights(&self, ground: &Ground) -> Vec<Finding> {
        let Ok(clients) = self.clients().await else { return Vec::new() };
        let ec2 = &clients.ec2;
        let [name, _] = self.group_names();
        let vpc = &ground.subnets[0].vpc;
        let make = self.group_request(ec2, &name, vpc).dry_run(true).send().await;
        let mut findings = vec![right("ec2:CreateSecurityGroup", make)];
        if let Some(group) = ground.groups.get(&name) {
            let rule = ec2.authorize_security_group_ingress().group_id(&group.id).ip_protocol("tcp");
            let rule = rule.from_port(8301).to_port(8301).cidr_ip("127.0.0.1/32").dry_run(true).send().await;
            findings.push(right("ec2:AuthorizeSecurityGroupIngress", rule));
        }
        let ours = self.instances().await.unwrap_or_default();
        if let Some(instance) = ours.iter().find(|instance| instance.is_ours() && instance.state.exists()) {
            let (tag, end, start) = tokio::join!(
                ec2.create_tags().resources(&instance.id).tags(any_tag()).dry_run(true).send(),
                ec2.terminate_instances().instance_ids(&instance.id).dry_run(true).send(),
                ec2.start_instances().instance_ids(&instance.id).dry_run(true).send(),
            );
            findings.push(right("ec2:CreateTags", tag));
            findings.push(right("ec2:TerminateInstances", end));
            findings.push(right("ec2:StartInstances", start));
        }
        if self.spec.profile_of_instances == InstanceProfile::Made {
            // IAM has no dry runs: what can be asked is whether it may be looked at.
            findings.push(match self.identity().await {
                Ok(_) => Finding::good("permission", "iam:GetRole, iam:GetInstanceProfile"),
                Err(error) => bad("permission", &error),
            });
        }
        findings
    }

    /// The one call that all hangs on, as it will be made; what is not made yet cannot be named in it.
    async fn may_launch(&self, ground: &Ground) -> Option<Finding> {
        let [all, server] = self.group_names();
        let id = |name: &str| ground.groups.get(name).map(|group| group.id.clone());
        let groups = id(&all).zip(id(&server));
        let has_groups = groups.is_some();
        let made = self.spec.profile_of_instances == InstanceProfile::Made;
        let footing = Footing {
            subnets: ground.subnets.clone(),
            groups: groups.map(|(all, server)| [all, server]).unwrap_or_default(),
            key_pair: self.key_pair_name(),
            profile: self.profile_name().await.ok()?,
            image: self.image(self.instance_type(Role::Node)).await.ok()?,
            server_image: self.image(self.instance_type(Role::Server)).await.ok()?,
            baked: BTreeMap::new(),
            led: true,
        };
        let name = HostName::new(format!("{}-node-1", self.cluster)).ok()?;
        let (launch, subnet) = (Launch::plain(name, Role::Node), &ground.subnets[0].id);
        let mut request = self.request(&launch, 1, 1, &footing, subnet).await.ok()?;
        if !has_groups {
            request = request.set_network_interfaces(None).subnet_id(subnet);
        }
        if ground.key_pair.is_none() {
            request = request.set_key_name(None);
        }
        if made && ground.identity.as_ref().is_none_or(|identity| identity.profile.is_none()) {
            request = request.set_iam_instance_profile(None);
        }
        Some(right("ec2:RunInstances", request.dry_run(true).send().await))
    }
}

fn any_tag() -> aws_sdk_ec2::types::Tag {
    aws_sdk_ec2::types::Tag::builder().key(crate::model::ec2::tag::CLUSTER).value("dry-run").build()
}

/// `DryRunOperation` says that it would have been done; that it is there already, that the right was.
fn right<T, E, R>(action: &'static str, answer: Result<T, SdkError<E, R>>) -> Finding
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    const TOPIC: &str = "permission";
    let Err(error) = answer else { return Finding::good(TOPIC, action) };
    match code(&error) {
        Some("DryRunOperation") => Finding::good(TOPIC, action),
        Some(code) if code.ends_with(".Duplicate") => Finding::good(TOPIC, action),
        _ => bad(TOPIC, &refused(action, error)),
    }
}

fn bad(topic: &str, error: &CloudError) -> Finding {
    Finding::bad(topic, error.to_string(), error.cure().unwrap_or("see the message").to_owned())
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
