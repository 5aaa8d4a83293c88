//! The shape of the calls, against a replayed transport.

use super::*;
use crate::model::ec2::{Ec2Spec, tag};
use crate::world::cloud::ec2::tests::{Replay, asked, ec2, error, page};
use std::collections::BTreeMap;

const SUBNETS: &str = "<DescribeSubnetsResponse><subnetSet>\
    <item><subnetId>subnet-b</subnetId><vpcId>vpc-1</vpcId><availabilityZone>b</availabilityZone></item>\
    <item><subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId><availabilityZone>a</availabilityZone></item>\
    </subnetSet></DescribeSubnetsResponse>";

fn ok(text: impl Into<String>) -> (u16, String) {
    (200, text.into())
}

/// A cloud with a fleet in its spec.
fn cloud(change: impl FnOnce(&mut FleetSpec), answers: &[(u16, String)]) -> (Ec2, Replay) {
    let (mut cloud, replay) = ec2(|_: &mut Ec2Spec| (), answers);
    let mut spec = FleetSpec { image: Some("ami-1".to_owned()), ..FleetSpec::default() };
    change(&mut spec);
    cloud.fleet = Some(spec);
    (cloud, replay)
}

fn template(of: &Ec2) -> Template {
    let spec = of.fleet.clone().unwrap_or_default();
    let found = Found {
        image: "ami-1".to_owned(),
        root_device: "/dev/xvda".to_owned(),
        group: "sg-all".to_owned(),
        key_pair: "clusterctl-shop".to_owned(),
        profile: Some("clusterctl-shop-us-east-1".to_owned()),
        subnets: BTreeSet::new(),
    };
    Template::wanted(&of.cluster, &of.spec, &spec, &found)
}

fn group() -> Group {
    let subnets = BTreeSet::from(["subnet-a".to_owned(), "subnet-b".to_owned()]);
    Group { min: 1, max: 9, subnets, mix: None, rebalance: false }
}

/// The tags of the n-th specification below `prefix`.
fn tags_at(call: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let one = |n: usize| {
        let field = |name: &str| call.get(&format!("{prefix}.Tag.{n}.{name}")).cloned();
        Some((field("Key")?, field("Value")?))
    };
    (1..).map_while(one).collect()
}

#[tokio::test]
async fn a_template_has_all_that_an_instance_needs() {
    let made = ok("<CreateLaunchTemplateResponse><launchTemplate/></CreateLaunchTemplateResponse>");
    let (cloud, replay) = cloud(|_| (), &[made]);
    let wanted = template(&cloud);
    cloud.make_template(&wanted).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[0].get(key).map(String::as_str);
    let data = |key: &str| get(&format!("LaunchTemplateData.{key}"));
    assert_eq!(get("Action"), Some("CreateLaunchTemplate"));
    assert_eq!(get("LaunchTemplateName"), Some("clusterctl-shop"));
    assert_eq!(get("TagSpecification.1.ResourceType"), Some("launch-template"));
    assert_eq!(tags_at(&calls[0], "TagSpecification.1")[tag::CLUSTER], "shop");
    assert_eq!(data("ImageId"), Some("ami-1"));
    assert_eq!(data("InstanceType"), Some("t3.small"));
    assert_eq!(data("KeyName"), Some("clusterctl-shop"));
    assert_eq!(data("IamInstanceProfile.Name"), Some("clusterctl-shop-us-east-1"));
    assert_eq!(
        data("NetworkInterface.1.SecurityGroupId.SecurityGroupId.1").or(data("NetworkInterface.1.SecurityGroupId.1")),
        Some("sg-all")
    );
    assert_eq!(data("NetworkInterface.1.AssociatePublicIpAddress"), Some("true"));
    assert_eq!(data("MetadataOptions.HttpTokens"), Some("required"));
    assert_eq!(data("MetadataOptions.HttpPutResponseHopLimit"), Some("1"));
    assert_eq!(data("BlockDeviceMapping.1.Ebs.Encrypted"), Some("true"));
    assert_eq!(data("UserData"), Some(wanted.user_data.as_str()));
    let of_instances = tags_at(&calls[0], "LaunchTemplateData.TagSpecification.1");
    for (key, value) in [
        (tag::CLUSTER, "shop"),
        (tag::ROLE, "node"),
        (tag::ORIGIN, "fleet"),
        (tag::NAME, "shop-fleet"),
        (tag::TEMPLATE, &wanted.mark()),
    ] {
        assert_eq!(of_instances.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!of_instances.contains_key(tag::HOST), "its name is its id");
    let of_volumes = tags_at(&calls[0], "LaunchTemplateData.TagSpecification.2");
    assert_eq!(of_volumes.get(tag::CLUSTER).map(String::as_str), Some("shop"));
}

#[tokio::test]
async fn who_was_here_first_made_it() {
    let (cloud, _) = cloud(|_| (), &[error(400, "InvalidLaunchTemplateName.AlreadyExistsException")]);
    cloud.make_template(&template(&cloud)).await.unwrap();
    let exists = "<ErrorResponse><Error><Code>AlreadyExists</Code><Message>said</Message></Error></ErrorResponse>";
    let (cloud, _) = self::cloud(|_| (), &[(400, exists.to_owned())]);
    cloud.make_scaling_group(&group(), 2).await.unwrap();
}

#[tokio::test]
async fn a_new_version_is_used_and_old_ones_go() {
    let version = |n: i64| format!("<item><versionNumber>{n}</versionNumber></item>");
    let made = "<CreateLaunchTemplateVersionResponse><launchTemplateVersion><versionNumber>12</versionNumber>\
                </launchTemplateVersion></CreateLaunchTemplateVersionResponse>";
    let listed = format!(
        "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet>{}{}</launchTemplateVersionSet>\
         </DescribeLaunchTemplateVersionsResponse>",
        version(1),
        version(2)
    );
    let answers =
        [ok(made), ok("<ModifyLaunchTemplateResponse/>"), ok(listed), ok("<DeleteLaunchTemplateVersionsResponse/>")];
    let (cloud, replay) = cloud(|_| (), &answers);
    let wanted = template(&cloud);
    let present = PresentTemplate { id: "lt-1".to_owned(), latest: 11, default: 11, mark: None, data: wanted.clone() };
    cloud.make_version(&present, &wanted).await.unwrap();
    let calls = asked(&replay);
    assert_eq!(calls[0]["LaunchTemplateId"], "lt-1");
    assert_eq!(calls[0]["ClientToken"], fleet::version_token("lt-1", 11, &wanted.mark()));
    assert!(!calls[0].contains_key("SourceVersion"), "a version is whole by itself");
    assert_eq!(calls[1]["SetDefaultVersion"], "12");
    assert_eq!(calls[2]["MaxVersion"], "2");
    assert_eq!(
        (calls[3]["LaunchTemplateVersion.1"].as_str(), calls[3]["LaunchTemplateVersion.2"].as_str()),
        ("1", "2")
    );
}

#[tokio::test]
async fn a_group_is_one_call_with_its_tags() {
    let (cloud, replay) = cloud(|_| (), &[ok("<CreateAutoScalingGroupResponse/>")]);
    cloud.make_scaling_group(&group(), 2).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[0].get(key).map(String::as_str);
    assert_eq!(get("AutoScalingGroupName"), Some("clusterctl-shop"));
    assert_eq!((get("MinSize"), get("MaxSize"), get("DesiredCapacity")), (Some("1"), Some("9"), Some("2")));
    assert_eq!(get("VPCZoneIdentifier"), Some("subnet-a,subnet-b"));
    assert_eq!(get("LaunchTemplate.LaunchTemplateName"), Some("clusterctl-shop"));
    assert_eq!(get("LaunchTemplate.Version"), Some("$Default"));
    assert_eq!(get("NewInstancesProtectedFromScaleIn"), Some("false"));
    assert_eq!(get("TerminationPolicies.member.1"), Some("OldestLaunchTemplate"));
    assert_eq!(get("Tags.member.1.Key"), Some(tag::CLUSTER));
    assert_eq!(get("Tags.member.1.PropagateAtLaunch"), Some("false"), "the template tags the instances");
    assert_eq!(get("MixedInstancesPolicy.InstancesDistribution.SpotAllocationStrategy"), None);
}

#[tokio::test]
async fn spot_and_several_types_make_a_policy_and_are_read_back() {
    let mix = fleet::Mix { types: vec!["t3.small".to_owned(), "t3a.small".to_owned()], on_demand: 3, spot_percent: 80 };
    let wanted = Group { mix: Some(mix), rebalance: true, ..group() };
    let (cloud, replay) = cloud(|_| (), &[ok("<UpdateAutoScalingGroupResponse/>")]);
    cloud.change_scaling_group(&wanted, 4).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[0].get(&format!("MixedInstancesPolicy.{key}")).map(String::as_str);
    assert_eq!(get("LaunchTemplate.LaunchTemplateSpecification.Version"), Some("$Default"));
    assert_eq!(get("LaunchTemplate.Overrides.member.2.InstanceType"), Some("t3a.small"));
    assert_eq!(get("InstancesDistribution.OnDemandBaseCapacity"), Some("3"));
    assert_eq!(get("InstancesDistribution.OnDemandPercentageAboveBaseCapacity"), Some("20"));
    assert_eq!(get("InstancesDistribution.SpotAllocationStrategy"), Some("price-capacity-optimized"));
    assert_eq!(calls[0]["CapacityRebalance"], "true");
    assert!(!calls[0].contains_key("LaunchTemplate.Version"), "one of the two");

    let listed = described(
        "<MixedInstancesPolicy><LaunchTemplate><Overrides><member><InstanceType>t3.small</InstanceType></member><member>\
         <InstanceType>t3a.small</InstanceType></member></Overrides></LaunchTemplate><InstancesDistribution>\
         <OnDemandBaseCapacity>3</OnDemandBaseCapacity><OnDemandPercentageAboveBaseCapacity>20\
         </OnDemandPercentageAboveBaseCapacity></InstancesDistribution></MixedInstancesPolicy>\
         <CapacityRebalance>true</CapacityRebalance>",
    );
    let (cloud, _) = self::cloud(|_| (), &[ok(listed)]);
    assert_eq!(cloud.fleet_group().await.unwrap().unwrap().data, wanted);
}

/// The group with `more` in it.
fn described(more: &str) -> String {
    format!(
        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
         <AutoScalingGroupName>clusterctl-shop</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>9</MaxSize>\
         <DesiredCapacity>2</DesiredCapacity><VPCZoneIdentifier>subnet-b,subnet-a</VPCZoneIdentifier>\
         <Tags><member><Key>clusterctl:cluster</Key><Value>shop</Value></member></Tags>{more}\
         </member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    )
}

#[tokio::test]
async fn members_are_what_both_services_say() {
    let instance = |id: &str, state: &str| {
        format!(
            "<member><InstanceId>{id}</InstanceId><InstanceType>t3.small</InstanceType><AvailabilityZone>a</AvailabilityZone>\
             <LifecycleState>{state}</LifecycleState><HealthStatus>Healthy</HealthStatus></member>"
        )
    };
    let listed = described(&format!(
        "<Instances>{}{}{}</Instances>",
        instance("i-1", "InService"),
        instance("i-2", "Terminating:Wait"),
        instance("i-3", "Pending")
    ));
    let launched = "<item><instanceId>i-1</instanceId><instanceState><name>running</name></instanceState>\
                    <launchTime>2026-01-02T03:04:05Z</launchTime><instanceLifecycle>spot</instanceLifecycle>\
                    <tagSet><item><key>clusterctl:template</key><value>0123456789ab</value></item></tagSet></item>";
    let (cloud, replay) = cloud(|_| (), &[ok(listed), page(launched, None)]);
    let group = cloud.fleet_group().await.unwrap().unwrap();
    let members = group.members(&cloud.fleet_instances().await.unwrap());
    assert_eq!(asked(&replay)[1]["Filter.2.Name"], "tag:clusterctl:origin");
    use crate::model::fleet::Lifecycle;
    let lives: Vec<Lifecycle> = members.iter().map(|member| member.lifecycle).collect();
    assert_eq!(lives, [Lifecycle::InService, Lifecycle::Ending, Lifecycle::Pending]);
    assert_eq!(members[0].mark.as_deref(), Some("0123456789ab"));
    assert_eq!(members[0].launched.unwrap().to_string(), "2026-01-02T03:04:05Z");
    assert!(members[0].spot && members[2].state.is_none());
    assert_eq!(group.data, self::group());
}

#[tokio::test]
async fn a_member_ends_without_making_the_group_smaller() {
    let refused = |message: &str| {
        let text = format!(
            "<ErrorResponse><Error><Code>ValidationError</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        (400, text)
    };
    let gone = refused("Instance Id not found - No managed instance found for instance ID: i-2");
    let ended = "<TerminateInstanceInAutoScalingGroupResponse><TerminateInstanceInAutoScalingGroupResult/>\
                 </TerminateInstanceInAutoScalingGroupResponse>";
    let (cloud, replay) = cloud(|_| (), &[ok(ended), gone, refused("it is protected")]);
    cloud.end(&[HostId("i-1".to_owned()), HostId("i-2".to_owned())]).await.unwrap();
    assert!(cloud.end(&[HostId("i-3".to_owned())]).await.is_err());
    let calls = asked(&replay);
    assert_eq!(
        (calls[0]["InstanceId"].as_str(), calls[0]["ShouldDecrementDesiredCapacity"].as_str()),
        ("i-1", "false")
    );
}

#[tokio::test]
async fn a_size_out_of_bounds_is_refused_before_it_is_set() {
    let (cloud, replay) = cloud(|_| (), &[ok(described(""))]);
    let refused = cloud.resize(10).await.unwrap_err();
    assert!(refused.to_string().contains("from 1 to 9") && refused.cure().is_some(), "{refused}");
    assert_eq!(asked(&replay).len(), 1);
}

#[tokio::test]
async fn what_is_somebody_elses_is_left() {
    let other = described("").replace("<Value>shop</Value>", "<Value>other</Value>");
    let template = "<DescribeLaunchTemplatesResponse><launchTemplates><item><launchTemplateId>lt-1</launchTemplateId>\
                    <launchTemplateName>clusterctl-shop</launchTemplateName></item></launchTemplates>\
                    </DescribeLaunchTemplatesResponse>";
    let (cloud, _) = cloud(|_| (), &[ok(other), ok(template), ok(template)]);
    assert_eq!(cloud.remove().await.unwrap(), Vec::<String>::new());
    let refused = cloud.fleet_template().await.unwrap_err();
    assert!(refused.to_string().contains("was not made for this cluster"), "{refused}");
}

#[tokio::test]
async fn who_may_not_look_has_no_fleet_unless_the_spec_says_so() {
    let denied = || {
        let text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        (403, text.to_owned())
    };
    let (mut cloud, _) = cloud(|_| (), &[denied(), denied(), error(403, "UnauthorizedOperation")]);
    assert!(cloud.remove().await.is_err());
    cloud.fleet = None;
    assert_eq!(cloud.remove().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn without_an_image_a_fleet_of_none_waits_and_any_other_is_refused() {
    let images = "<DescribeImagesResponse><imagesSet/></DescribeImagesResponse>";
    let (cloud, _) = cloud(|spec| spec.image = None, &[ok(images), ok(images), ok(images)]);
    let nothing = Present { template: None, group: None };
    let groups = Groups::new();
    let spec = cloud.fleet.clone().unwrap();
    assert_eq!(cloud.wanted_fleet(&spec, None, &nothing, (&[], &groups)).await.unwrap(), None);
    let refused = cloud.wanted_fleet(&spec, Some(2), &nothing, (&[], &groups)).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no trusted image of the cluster shop");
    assert!(refused.cure().unwrap().contains("ami build"));
    let refused = cloud.wanted_fleet(&spec, Some(2000), &nothing, (&[], &groups)).await.unwrap_err();
    assert!(refused.to_string().contains("from 0 to 1000"), "{refused}");
}

/// A whole survey of an empty account reads, and makes nothing.
#[tokio::test]
async fn a_survey_only_looks() {
    let empty = |name: &str| ok(format!("<{name}Response><{name}Result/></{name}Response>"));
    let image = "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><architecture>x86_64</architecture>\
                 <rootDeviceName>/dev/xvda</rootDeviceName></item></imagesSet></DescribeImagesResponse>";
    let kind = "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>t3.small</instanceType><processorInfo>\
                <supportedArchitectures><item>x86_64</item></supportedArchitectures></processorInfo></item></instanceTypeSet>\
                </DescribeInstanceTypesResponse>";
    let answers = [
        ok("<DescribeLaunchTemplatesResponse/>"),
        empty("DescribeAutoScalingGroups"),
        ok(SUBNETS),
        ok("<DescribeSecurityGroupsResponse/>"),
        ok(image),
        ok(kind),
    ];
    let (cloud, replay) = cloud(|spec| spec.size = 3, &answers);
    let steps = Fleet::survey(&cloud, None).await.unwrap();
    let said: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
    let expected = ["make the launch template clusterctl-shop", "make the Auto Scaling group clusterctl-shop of 3"];
    assert_eq!(said, expected);
    assert!(asked(&replay).iter().all(|call| call["Action"].starts_with("Describe")));
}
