//! The shape of the calls, against a replayed transport under the SDK's real client: what a lab cannot tell, because
//! it would answer a wrong call too. (The SDK's own replay client hangs on a feature that has all of the SDK built a
//! second time for tests.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::http::{HttpRequest, HttpResponse};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_ec2::config::{HttpClient, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::body::SdkBody;

use super::client::{Clients, retries};
use super::ground::Footing;
use super::image::ImageFacts;
use super::network::Subnet;
use super::*;
use crate::model::ec2::{Image, InstanceProfile, Reach};
use crate::model::host::Role;
use crate::model::name::HostName;

pub(super) const INSTANCE: &str = "<item><instanceId>i-0123456789abcdef0</instanceId><instanceState><name>pending</name></instanceState>\
     <privateIpAddress>10.0.0.5</privateIpAddress></item>";

/// Answers the calls in order, and keeps what was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Replay(Arc<Mutex<Played>>);

#[derive(Debug, Default)]
struct Played {
    answers: VecDeque<(u16, String)>,
    asked: Vec<BTreeMap<String, String>>,
}

impl HttpConnector for Replay {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut played = self.0.lock().unwrap();
        let body = request.body().bytes().unwrap_or_default();
        played.asked.push(form_urlencoded::parse(body).into_owned().collect());
        let (status, body) = played.answers.pop_front().expect("a call more than was foreseen");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

impl HttpClient for Replay {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

pub(super) fn ec2(change: impl FnOnce(&mut Ec2Spec), answers: &[(u16, String)]) -> (Ec2, Replay) {
    let replay = Replay::default();
    replay.0.lock().unwrap().answers.extend(answers.iter().cloned());
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .retry_config(retries().with_initial_backoff(Duration::from_millis(1)))
        .http_client(aws_sdk_ec2::config::SharedHttpClient::new(replay.clone()))
        .build();
    let mut spec = Spec::ec2(ClusterName::new("shop").unwrap());
    spec.ssh.key = Some(PathBuf::from("/nowhere"));
    let mut wanted = Ec2Spec { region: Some("us-east-1".to_owned()), ..Ec2Spec::default() };
    change(&mut wanted);
    let cancel = CancellationToken::new();
    let mut cloud = Ec2::new(&spec, &wanted, PathBuf::from("/nowhere"), Events::silent(), cancel.clone());
    let clients = Clients::of(&config, "us-east-1".to_owned(), &Events::silent(), &cancel);
    cloud.clients = OnceCell::new_with(Some(Ok(clients)));
    (cloud, replay)
}

/// The parameters of each call.
pub(super) fn asked(replay: &Replay) -> Vec<BTreeMap<String, String>> {
    replay.0.lock().unwrap().asked.clone()
}

pub(super) fn page(instances: &str, next: Option<&str>) -> (u16, String) {
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let set = format!("<item><instancesSet>{instances}</instancesSet></item>");
    (
        200,
        format!("<DescribeInstancesResponse><reservationSet>{set}</reservationSet>{next}</DescribeInstancesResponse>"),
    )
}

pub(super) fn error(status: u16, code: &str) -> (u16, String) {
    let text =
        format!("<Response><Errors><Error><Code>{code}</Code><Message>said</Message></Error></Errors></Response>");
    (status, text)
}

fn footing() -> Footing {
    let subnet =
        |zone: &str| Subnet { id: format!("subnet-{zone}"), vpc: "vpc-1".to_owned(), zone: zone.to_owned(), free: 9 };
    let image = ImageFacts {
        id: "ami-1".to_owned(),
        name: Some("debian-12-amd64".to_owned()),
        architecture: "x86_64".to_owned(),
        root_device: "/dev/xvda".to_owned(),
        user: None,
    };
    Footing {
        subnets: vec![subnet("a"), subnet("b")],
        groups: ["sg-all".to_owned(), "sg-server".to_owned()],
        key_pair: "clusterctl-shop".to_owned(),
        profile: Some("clusterctl-shop-us-east-1".to_owned()),
        server_image: image.clone(),
        image,
        baked: BTreeMap::new(),
        led: false,
    }
}

fn launch(name: &str, role: Role) -> Launch {
    Launch::plain(HostName::new(name).unwrap(), role)
}

fn made() -> (u16, String) {
    (200, format!("<RunInstancesResponse><instancesSet>{INSTANCE}</instancesSet></RunInstancesResponse>"))
}

fn tags_of(call: &BTreeMap<String, String>, kind: &str) -> BTreeMap<String, String> {
    let at = (1..).find(|n| call.get(&format!("TagSpecification.{n}.ResourceType")).is_none_or(|k| k == kind)).unwrap();
    let one = |n: usize| {
        let field = |name: &str| call.get(&format!("TagSpecification.{at}.Tag.{n}.{name}")).cloned();
        Some((field("Key")?, field("Value")?))
    };
    (1..).map_while(one).collect()
}

#[tokio::test]
async fn a_launch_is_one_call_with_its_token_and_tags() {
    let (cloud, replay) = ec2(|spec| spec.spot = true, &[made()]);
    let made = cloud.run(&launch("shop-server-1", Role::Server), &[], &footing()).await.unwrap();
    assert_eq!(made.id.0, "i-0123456789abcdef0");
    let calls = asked(&replay);
    let call = &calls[0];
    let get = |key: &str| call.get(key).map(String::as_str);
    assert_eq!(get("Action"), Some("RunInstances"));
    let token = crate::core::ec2::token::client_token(&cloud.cluster, Role::Server, 1, 1);
    assert_eq!(get("ClientToken"), Some(token.as_str()));
    assert_eq!((get("MinCount"), get("MaxCount")), (Some("1"), Some("1")));
    assert_eq!(get("MetadataOptions.HttpTokens"), Some("required"));
    assert_eq!(get("BlockDeviceMapping.1.Ebs.Encrypted"), Some("true"));
    assert_eq!(get("NetworkInterface.1.SubnetId"), Some("subnet-a"));
    assert_eq!(get("NetworkInterface.1.AssociatePublicIpAddress"), Some("true"));
    assert_eq!(get("NetworkInterface.1.SecurityGroupId.2"), Some("sg-server"));
    assert_eq!(get("IamInstanceProfile.Name"), Some("clusterctl-shop-us-east-1"));
    assert_eq!(get("InstanceMarketOptions.MarketType"), None, "a server on spot could go at any moment");
    assert_eq!(get("UserData"), None, "nothing travels in user-data");
    let tags = tags_of(call, "instance");
    for (key, value) in [
        (tag::CLUSTER, "shop"),
        (tag::HOST, "shop-server-1"),
        (tag::ROLE, "server"),
        (tag::ORIGIN, "launched"),
        (tag::LEADER, "True"),
        (tag::LEADS, "shop"),
        (tag::GENERATION, "1"),
        (tag::USER, "admin"),
    ] {
        assert_eq!(tags.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(tags_of(call, "volume").get(tag::CLUSTER).map(String::as_str), Some("shop"));
}

#[tokio::test]
async fn a_node_follows_its_ordinal_and_never_leads() {
    let change = |spec: &mut Ec2Spec| {
        spec.spot = true;
        spec.reach = Reach::Private;
        spec.profile_of_instances = InstanceProfile::Without;
        spec.image = Image::Id("ami-1".to_owned());
    };
    let (cloud, replay) = ec2(change, &[made()]);
    let footing = Footing { profile: None, ..footing() };
    cloud.run(&launch("shop-node-2", Role::Node), &[], &footing).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[0].get(key).map(String::as_str);
    assert_eq!(get("NetworkInterface.1.SubnetId"), Some("subnet-b"));
    assert_eq!(get("NetworkInterface.1.AssociatePublicIpAddress"), Some("false"));
    assert_eq!(get("NetworkInterface.1.SecurityGroupId.2"), None);
    assert_eq!(get("IamInstanceProfile.Name"), None);
    assert_eq!(get("InstanceMarketOptions.MarketType"), Some("spot"));
    let tags = tags_of(&calls[0], "instance");
    assert!(!tags.contains_key(tag::LEADER) && !tags.contains_key(tag::LEADS), "{tags:?}");
}

#[tokio::test]
async fn where_somebody_leads_a_new_first_server_does_not() {
    let (cloud, replay) = ec2(|_| (), &[made()]);
    let footing = Footing { led: true, ..footing() };
    cloud.run(&launch("shop-server-1", Role::Server), &[], &footing).await.unwrap();
    let tags = tags_of(&asked(&replay)[0], "instance");
    assert!(!tags.contains_key(tag::LEADER) && !tags.contains_key(tag::LEADS), "{tags:?}");
}

#[tokio::test]
async fn who_joins_as_a_leader_is_tagged_as_the_clusters() {
    let joining = |tags: &str| {
        let item = INSTANCE.replace("</item>", &format!("<tagSet>{tags}</tagSet></item>"));
        [page(&item, None), (200, "<CreateTagsResponse><return>true</return></CreateTagsResponse>".to_owned())]
    };
    let tag = |value: &str| format!("<item><key>Consul-Leader</key><value>{value}</value></item>");
    for (tags, leads) in [(tag("yes"), Some("shop")), (tag("no"), None), (String::new(), None)] {
        let (cloud, replay) = ec2(|_| (), &joining(&tags));
        let instance = cloud.instance("i-0123456789abcdef0").await.unwrap();
        cloud.tag_joined(&instance, "shop-node-1").await.unwrap();
        let call = &asked(&replay)[1];
        let given =
            (1..).map_while(|n| Some((call.get(&format!("Tag.{n}.Key"))?, call.get(&format!("Tag.{n}.Value"))?)));
        let given: BTreeMap<_, _> = given.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(given[tag::CLUSTER], "shop");
        assert_eq!(given.get(tag::LEADS).copied(), leads, "{tags}");
    }
}

#[tokio::test]
async fn only_rules_that_speak_of_groups_are_taken_away_before_a_group_goes() {
    let group = "<item><groupId>sg-1</groupId><groupName>clusterctl-shop</groupName><ipPermissions>\
                 <item><ipProtocol>icmp</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort>\
                 <ipRanges><item><cidrIp>10.0.0.0/8</cidrIp></item></ipRanges></item>\
                 <item><ipProtocol>tcp</ipProtocol><fromPort>8301</fromPort><toPort>8301</toPort>\
                 <groups><item><groupId>sg-1</groupId></item></groups></item>\
                 </ipPermissions></item>";
    let groups = format!(
        "<DescribeSecurityGroupsResponse><securityGroupInfo>{group}</securityGroupInfo></DescribeSecurityGroupsResponse>"
    );
    let done = |name: &str| (200, format!("<{name}Response><return>true</return></{name}Response>"));
    let answers = [(200, groups), done("RevokeSecurityGroupIngress"), done("DeleteSecurityGroup")];
    let (cloud, replay) = ec2(|_| (), &answers);
    let groups = cloud.all_groups().await.unwrap();
    cloud.remove_groups(&groups, &mut Removed::default()).await.unwrap();
    let revoked = &asked(&replay)[1];
    assert_eq!(revoked["IpPermissions.1.Groups.1.GroupId"], "sg-1");
    assert!(!revoked.contains_key("IpPermissions.2.IpProtocol"), "EC2 refuses ports for ICMP: {revoked:?}");
}

#[tokio::test]
async fn a_zone_without_room_is_followed_by_the_next_and_the_last_is_told() {
    for full in [error(500, "InsufficientInstanceCapacity"), error(400, "InsufficientFreeAddressesInSubnet")] {
        let (cloud, replay) = ec2(|_| (), &[full, made()]);
        cloud.run(&launch("shop-node-1", Role::Node), &[], &footing()).await.unwrap();
        let calls = asked(&replay);
        let zones: Vec<_> = calls.iter().map(|call| call["NetworkInterface.1.SubnetId"].as_str()).collect();
        assert_eq!(zones, ["subnet-a", "subnet-b"]);
    }

    let (cloud, _) = ec2(|_| (), &[error(400, "VcpuLimitExceeded")]);
    let refused = cloud.run(&launch("shop-node-1", Role::Node), &[], &footing()).await.unwrap_err();
    assert!(refused.to_string().contains("VcpuLimitExceeded") && refused.cure().is_some(), "{refused}");
}

#[tokio::test]
async fn a_spent_token_is_followed_by_the_next_generation() {
    let (cloud, replay) = ec2(|_| (), &[error(400, "IdempotentInstanceTerminated"), made()]);
    cloud.run(&launch("shop-node-1", Role::Node), &[], &footing()).await.unwrap();
    let calls = asked(&replay);
    assert_ne!(calls[0]["ClientToken"], calls[1]["ClientToken"]);
    assert_eq!(tags_of(&calls[1], "instance")[tag::GENERATION], "2");
}

#[tokio::test]
async fn what_an_earlier_run_made_with_another_spec_counts() {
    let (cloud, replay) = ec2(|_| (), &[error(400, "IdempotentParameterMismatch"), page(INSTANCE, None)]);
    let host = cloud.run(&launch("shop-node-1", Role::Node), &[], &footing()).await.unwrap();
    assert_eq!(host.id.0, "i-0123456789abcdef0");
    let calls = asked(&replay);
    assert_eq!(calls[1]["Filter.1.Name"], "client-token");
    assert_eq!(calls[1]["Filter.1.Value.1"], calls[0]["ClientToken"]);
}

#[tokio::test]
async fn a_profile_that_is_not_known_everywhere_yet_is_waited_for() {
    let text = "<Response><Errors><Error><Code>InvalidParameterValue</Code><Message>Value (clusterctl-shop-us-east-1) for \
                parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name</Message></Error></Errors>\
                </Response>";
    let (cloud, replay) = ec2(|_| (), &[(400, text.to_owned()), made()]);
    cloud.run(&launch("shop-node-1", Role::Node), &[], &footing()).await.unwrap();
    let calls = asked(&replay);
    assert_eq!(calls[0]["ClientToken"], calls[1]["ClientToken"], "the same launch");
}

#[tokio::test]
async fn all_pages_are_read_and_throttling_is_borne() {
    let second = INSTANCE.replace("i-0123456789abcdef0", "i-0000000000000000b");
    let answers = [page(INSTANCE, Some("more")), error(503, "RequestLimitExceeded"), page(&second, None)];
    let (cloud, replay) = ec2(|_| (), &answers);
    let hosts = cloud.list().await.unwrap();
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    let calls = asked(&replay);
    assert_eq!(calls[0]["MaxResults"], "1000");
    assert_eq!(calls[0]["Filter.1.Name"], "tag:clusterctl:cluster");
    assert_eq!(calls[0]["Filter.1.Value.1"], "shop");
    assert!(!calls[0].contains_key("NextToken"));
    assert_eq!((calls[1]["NextToken"].as_str(), calls[2]["NextToken"].as_str()), ("more", "more"));
}

#[tokio::test]
async fn after_an_interrupt_nothing_more_is_asked() {
    let (cloud, replay) = ec2(|_| (), &[page(INSTANCE, None)]);
    cloud.cancel.cancel();
    let refused = cloud.list().await.unwrap_err();
    assert!(matches!(refused, CloudError::Cancelled), "{refused:?}");
    assert!(asked(&replay).is_empty());
}

#[tokio::test]
async fn leaders_are_asked_for_in_any_letter_case_and_strays_only_when_there_is_none() {
    let (cloud, replay) = ec2(|_| (), &[page("", None), page(INSTANCE, None)]);
    assert!(cloud.leaders().await.is_ok());
    let calls = asked(&replay);
    assert_eq!(calls[0]["Filter.2.Name"], "tag-key");
    assert_eq!(calls[0]["Filter.2.Value.1"], "??????-??????");
    assert_eq!(calls[1]["Filter.1.Name"], "tag-key");
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_and_nothing_secret_is_in_it() {
    let (cloud, _) = ec2(|_| (), &[error(403, "UnauthorizedOperation")]);
    let refused = cloud.list().await.unwrap_err();
    let CloudError::Api { action, code, cure, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((*action, code.as_deref()), ("ec2:DescribeInstances", Some("UnauthorizedOperation")));
    assert!(cure.as_ref().is_some_and(|cure| cure.contains("ec2:DescribeInstances")), "{cure:?}");

    let (cloud, _) = ec2(|_| (), &[(200, "<html>a proxy's page</html>".to_owned())]);
    let refused = cloud.list().await.map(|hosts| hosts.len());
    assert!(matches!(refused, Err(CloudError::Api { .. }) | Ok(0)), "{refused:?}");
}

mod images;
