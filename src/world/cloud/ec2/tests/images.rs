//! Making images, finding them again, launching from them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::core::ec2::label;
use crate::model::artifact::Sha256;
use crate::model::baked::{BakedState, ImageId, Label};
use crate::model::event::{Event, EventKind, EventSink};
use crate::model::version::Program;

fn label() -> Label {
    Label {
        name: "web node 1".to_owned(),
        cluster: ClusterName::new("web").unwrap(),
        role: Role::Node,
        servers: 1,
        programs: [(Program::Consul, "1.22.7".parse().unwrap())].into(),
        sums: [(Program::Consul, Sha256::of(b"consul"))].into(),
        spec: "0123abcd".to_owned(),
        created: "2026-11-26T20:00:00Z".parse().unwrap(),
    }
}

fn xml(tags: &BTreeMap<String, String>) -> String {
    let one = |(key, value): (&String, &String)| format!("<item><key>{key}</key><value>{value}</value></item>");
    format!("<tagSet>{}</tagSet>", tags.iter().map(one).collect::<String>())
}

fn image(id: &str, state: &str, label: &Label, more: &str) -> String {
    format!(
        "<item><imageId>{id}</imageId><name>{}</name><imageState>{state}</imageState><architecture>x86_64</architecture>\
         <rootDeviceName>/dev/sda1</rootDeviceName><blockDeviceMapping><item><ebs><snapshotId>snap-of-{id}</snapshotId>\
         <encrypted>true</encrypted></ebs></item></blockDeviceMapping>{}{more}</item>",
        label.name,
        xml(&label::tags(label)),
    )
}

fn images(items: &str) -> (u16, String) {
    (200, format!("<DescribeImagesResponse><imagesSet>{items}</imagesSet></DescribeImagesResponse>"))
}

fn host(state: &str) -> (u16, String) {
    let user = BTreeMap::from([(tag::USER.to_owned(), "ubuntu".to_owned()), (tag::HOST.to_owned(), "b-1".to_owned())]);
    page(&INSTANCE.replace("pending", state).replace("</item>", &format!("{}</item>", xml(&user))), None)
}

fn done(action: &str, inner: &str) -> (u16, String) {
    (200, format!("<{action}Response>{inner}</{action}Response>"))
}

fn actions(replay: &Replay) -> Vec<String> {
    asked(replay).into_iter().map(|call| call["Action"].clone()).collect()
}

async fn seal(answers: &[(u16, String)]) -> (Result<ImageId, CloudError>, Replay) {
    let (cloud, replay) = ec2(|spec| drop(spec.tags.insert("owner".to_owned(), "ops".to_owned())), answers);
    let images = cloud.images().unwrap();
    let sealed = images.seal(&HostId("i-0123456789abcdef0".to_owned()), &label(), &Events::silent()).await;
    (sealed, replay)
}

#[tokio::test]
async fn a_host_is_switched_off_and_its_image_has_all_tags_from_the_first_moment() {
    let (sealed, replay) = seal(&[
        host("running"),
        images(""),
        done("StopInstances", ""),
        host("stopping"),
        host("stopped"),
        done("CreateImage", "<imageId>ami-1</imageId>"),
        error(400, "InvalidAMIID.NotFound"),
        images(&image("ami-1", "pending", &label(), "")),
        images(&image("ami-1", "available", &label(), "")),
    ])
    .await;
    assert_eq!(sealed.unwrap().0, "ami-1");
    let call = &asked(&replay)[5];
    assert_eq!((call["InstanceId"].as_str(), call["Name"].as_str()), ("i-0123456789abcdef0", "web node 1"));
    let mut wanted = label::tags(&label());
    wanted.extend([("owner", "ops"), (tag::USER, "ubuntu")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(tags_of(call, "image"), wanted);
    assert_eq!(tags_of(call, "snapshot"), wanted);
}

#[tokio::test]
async fn an_image_that_failed_is_taken_away_with_its_snapshots() {
    let why = "<stateReason><code>Client.InternalError</code><message>the disk is on fire</message></stateReason>";
    let failed = images(&image("ami-1", "failed", &label(), why));
    let (sealed, replay) = seal(&[
        host("stopped"),
        images(""),
        done("CreateImage", "<imageId>ami-1</imageId>"),
        failed.clone(),
        failed,
        done("DescribeSnapshots", "<snapshotSet><item><snapshotId>snap-more</snapshotId></item></snapshotSet>"),
        done("DeregisterImage", "<return>true</return>"),
        error(400, "InvalidSnapshot.InUse"),
        done("DeleteSnapshot", ""),
        error(400, "InvalidSnapshot.NotFound"),
    ])
    .await;
    let said = sealed.unwrap_err().to_string();
    assert!(said.contains("failed: the disk is on fire") && !said.contains("still there"), "{said}");
    let calls = asked(&replay);
    assert_eq!(calls[5]["Filter.2.Value.1"], tag::IMAGE_OF, "only what is ours");
    let deleted: Vec<&str> = calls[7..].iter().map(|call| call["SnapshotId"].as_str()).collect();
    assert_eq!(deleted, ["snap-more", "snap-more", "snap-of-ami-1"]);
}

#[tokio::test]
async fn what_cannot_be_taken_away_is_said() {
    let failed = images(&image("ami-1", "failed", &label(), ""));
    let (sealed, _) = seal(&[
        host("stopped"),
        images(""),
        done("CreateImage", "<imageId>ami-1</imageId>"),
        failed.clone(),
        failed,
        done("DescribeSnapshots", "<snapshotSet/>"),
        error(403, "UnauthorizedOperation"),
    ])
    .await;
    let refused = sealed.unwrap_err();
    assert!(refused.to_string().contains("ami-1 in us-east-1 that was begun is still there"), "{refused}");
    assert!(refused.cure().unwrap().contains("--image-id ami-1"), "{refused:?}");
}

/// The run is interrupted while EC2 works: what it began is taken away all the same.
#[tokio::test]
async fn an_interrupt_leaves_no_image() {
    let (cloud, replay) = ec2(
        |_| (),
        &[
            images(&image("ami-1", "pending", &label(), "")),
            done("DescribeSnapshots", "<snapshotSet/>"),
            done("DeregisterImage", ""),
            done("DeleteSnapshot", ""),
        ],
    );
    cloud.cancel.cancel();
    let ec2 = &cloud.clients().await.unwrap().ec2;
    let refused = cloud.finished(ec2, "us-east-1", "ami-1").await.unwrap_err();
    assert!(matches!(refused, CloudError::Cancelled), "{refused:?}");
    assert_eq!(actions(&replay), ["DescribeImages", "DescribeSnapshots", "DeregisterImage", "DeleteSnapshot"]);
}

#[tokio::test]
async fn a_repeat_takes_the_image_that_says_the_same_and_no_other() {
    let same = images(&image("ami-1", "available", &label(), ""));
    let (sealed, replay) = seal(&[host("running"), same.clone(), same.clone()]).await;
    assert_eq!(sealed.unwrap().0, "ami-1");
    assert!(!actions(&replay).contains(&"StopInstances".to_owned()));

    let duplicate = error(400, "InvalidAMIName.Duplicate");
    let (sealed, _) = seal(&[host("stopped"), images(""), duplicate.clone(), same.clone(), same]).await;
    assert_eq!(sealed.unwrap().0, "ami-1", "the answer was lost");

    let other = Label { servers: 3, ..label() };
    let other = images(&image("ami-2", "available", &other, ""));
    let (sealed, replay) = seal(&[host("running"), other.clone()]).await;
    assert!(sealed.unwrap_err().to_string().contains("ami-2"));
    assert!(!actions(&replay).contains(&"StopInstances".to_owned()), "the host runs on");
    let (sealed, _) = seal(&[host("stopped"), images(""), duplicate, other]).await;
    assert!(sealed.unwrap_err().to_string().contains("another one"));
}

#[tokio::test]
async fn a_host_that_has_ended_becomes_no_image() {
    let (sealed, replay) = seal(&[host("terminated"), images("")]).await;
    assert!(sealed.unwrap_err().to_string().contains("has ended"));
    assert_eq!(actions(&replay), ["DescribeInstances", "DescribeImages"]);
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl EventSink for Warnings {
    fn emit(&self, event: Event) {
        if let EventKind::Warning { message } = event.kind {
            self.0.lock().unwrap().push(message);
        }
    }
}

#[tokio::test]
async fn images_are_listed_from_all_pages_the_newest_first_and_none_vanishes() {
    let newer = Label { created: "2026-11-27T00:00:00Z".parse().unwrap(), name: "newer".to_owned(), ..label() };
    let proved = image("ami-1", "available", &label(), "");
    let proved = proved.replace(
        "<tagSet>",
        &format!("<tagSet><item><key>{}</key><value>2026-11-26T21:00:00Z</value></item>", tag::PROVED),
    );
    let spoilt = image("ami-3", "available", &label(), "").replace("consul=1.22.7", "consul");
    let first = images(&(proved + &spoilt));
    let first = (200, first.1.replace("</imagesSet>", "</imagesSet><nextToken>more</nextToken>"));
    let (mut cloud, replay) = ec2(|_| (), &[first, images(&image("ami-2", "pending", &newer, ""))]);
    let warnings = Arc::new(Warnings::default());
    cloud.events = Events::new(warnings.clone());
    let baked = cloud.images().unwrap().baked().await.unwrap();
    let seen: Vec<_> = baked.iter().map(|b| (b.id.0.as_str(), b.state, b.is_trusted(), &b.label)).collect();
    assert_eq!(seen, [("ami-2", BakedState::Pending, false, &newer), ("ami-1", BakedState::Available, true, &label())]);
    let calls = asked(&replay);
    assert_eq!((calls[0]["Owner.1"].as_str(), calls[0]["MaxResults"].as_str()), ("self", "1000"));
    assert_eq!(
        (calls[0]["Filter.1.Name"].as_str(), calls[0]["Filter.1.Value.1"].as_str()),
        ("tag:clusterctl:image-of", "shop")
    );
    assert_eq!(calls[1]["NextToken"], "more");
    let warned = warnings.0.lock().unwrap();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("ami-3") && warned[0].contains(tag::PROGRAMS), "{warned:?}");
}

#[tokio::test]
async fn only_images_of_ours_are_removed_and_one_that_is_gone_is_no_error() {
    let bare = "<item><imageId>ami-9</imageId><name>theirs</name><imageState>available</imageState></item>";
    let (cloud, replay) = ec2(|_| (), &[images(bare)]);
    let refused = cloud.images().unwrap().remove(&ImageId("ami-9".to_owned())).await.unwrap_err();
    assert!(refused.to_string().contains("not made by clusterctl"), "{refused}");
    assert_eq!(actions(&replay), ["DescribeImages"]);

    // A run that was killed between the two left a snapshot.
    let gone = error(400, "InvalidAMIID.Unavailable");
    let left = done("DescribeSnapshots", "<snapshotSet><item><snapshotId>snap-1</snapshotId></item></snapshotSet>");
    let (cloud, replay) = ec2(|_| (), &[gone.clone(), gone.clone(), left, gone, done("DeleteSnapshot", "")]);
    cloud.images().unwrap().remove(&ImageId("ami-1".to_owned())).await.unwrap();
    let calls = asked(&replay);
    assert_eq!(calls[2]["Filter.1.Value.1"], "Created by CreateImage(*) for ami-1*");
    assert_eq!(calls[4]["SnapshotId"], "snap-1");
}

#[tokio::test]
async fn a_copy_has_the_label_and_stays_encrypted_and_is_made_once() {
    let source = image("ami-1", "available", &label(), "");
    let there = images(&image("ami-eu", "available", &label(), ""));
    let copied = done("CopyImage", "<imageId>ami-eu</imageId>");
    let (cloud, replay) =
        ec2(|_| (), &[images(&source), images(""), copied, there.clone(), images(&source), there.clone(), there]);
    let ours = cloud.images().unwrap();
    for _ in 0..2 {
        let id = ours.copy(&ImageId("ami-1".to_owned()), "eu-west-1", &Events::silent()).await.unwrap();
        assert_eq!(id.0, "ami-eu");
    }
    let calls = asked(&replay);
    let call = &calls[2];
    assert_eq!((call["SourceRegion"].as_str(), call["SourceImageId"].as_str()), ("us-east-1", "ami-1"));
    assert_eq!(call["Encrypted"], "true");
    for kind in ["image", "snapshot"] {
        let mut tags = tags_of(call, kind);
        // The account does not show yet that it was tried, and only tried ones are copied.
        assert!(tags.remove(tag::PROVED).unwrap().parse::<jiff::Timestamp>().is_ok(), "{kind}");
        assert_eq!(tags, label::tags(&label()));
    }
    assert_eq!(actions(&replay).iter().filter(|action| *action == "CopyImage").count(), 1);
}

fn from_image() -> Launch {
    Launch { image: Some(ImageId("ami-7".to_owned())), ..launch("shop-node-1", Role::Node) }
}

fn baked_footing() -> Footing {
    let facts = ImageFacts {
        id: "ami-7".to_owned(),
        name: Some("web node 1".to_owned()),
        architecture: "x86_64".to_owned(),
        root_device: "/dev/sda1".to_owned(),
        user: Some("ubuntu".to_owned()),
    };
    Footing { baked: [(ImageId("ami-7".to_owned()), facts)].into(), ..footing() }
}

#[tokio::test]
async fn a_launch_from_an_image_is_told_who_it_is() {
    let (cloud, replay) = ec2(|_| (), &[error(400, "InvalidAMIID.Unavailable"), made()]);
    cloud.run(&from_image(), &[], &baked_footing()).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[1].get(key).map(String::as_str);
    assert_eq!((get("ImageId"), get("BlockDeviceMapping.1.DeviceName")), (Some("ami-7"), Some("/dev/sda1")));
    let told = String::from_utf8(BASE64_STANDARD.decode(get("UserData").unwrap()).unwrap()).unwrap();
    assert_eq!(told, "#cloud-config\n# clusterctl: cluster=shop\n# clusterctl: name=shop-node-1\n");
    assert_eq!(get("InstanceInitiatedShutdownBehavior"), None);
    let tags = tags_of(&calls[1], "instance");
    assert_eq!((tags[tag::ORIGIN].as_str(), tags[tag::USER].as_str()), ("image", "ubuntu"));
    assert_eq!(calls[0]["ClientToken"], calls[1]["ClientToken"]);
}

#[tokio::test]
async fn a_host_that_only_a_build_needs_ends_by_itself_and_is_never_spot() {
    let (cloud, replay) = ec2(|spec| spec.spot = true, &[made()]);
    let launch = Launch { lifetime: Some(Duration::from_secs(5400)), ..launch("shop-node-1", Role::Node) };
    cloud.run(&launch, &[], &footing()).await.unwrap();
    let calls = asked(&replay);
    let get = |key: &str| calls[0].get(key).map(String::as_str);
    assert_eq!(get("InstanceInitiatedShutdownBehavior"), Some("terminate"));
    assert_eq!(get("InstanceMarketOptions.MarketType"), None, "a spot instance cannot be stopped");
    let told = String::from_utf8(BASE64_STANDARD.decode(get("UserData").unwrap()).unwrap()).unwrap();
    assert!(told.contains("shutdown -P +90") && !told.contains("# clusterctl"), "{told}");
    assert_eq!(tags_of(&calls[0], "instance")[tag::ORIGIN], "launched");
}

/// A host of that name that runs from another image would be taken for the one that is to be tried.
#[tokio::test]
async fn a_host_of_another_image_is_not_taken_for_the_wanted_one() {
    let instance = INSTANCE.replace("</item>", "<imageId>ami-6</imageId></item>");
    let (cloud, _) = ec2(|_| (), &[error(400, "IdempotentParameterMismatch"), page(&instance, None)]);
    let refused = cloud.run(&from_image(), &[], &baked_footing()).await.unwrap_err();
    assert!(refused.to_string().contains("ami-6, not from ami-7"), "{refused}");
}

#[test]
fn whose_an_instance_is() {
    let of = |origin: &str| {
        let tag = sdk::Tag::builder().key(tag::ORIGIN).value(origin).build();
        let instance = sdk::Instance::builder().instance_id("i-1").tags(tag).build();
        let instance = super::super::instance::Instance::read(&instance).unwrap();
        (instance.is_ours(), instance.is_baked())
    };
    assert_eq!(of(tag::LAUNCHED), (true, false));
    assert_eq!(of(tag::IMAGED), (true, true));
    assert_eq!(of(tag::FLEET), (true, true));
    assert_eq!((of(tag::JOINED), of("")), ((false, false), (false, false)));
}
