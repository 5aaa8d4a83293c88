//! A build against a cloud whose every call may fail, and hosts that fail, hang and never join.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::core::render::tests::artifacts;
use crate::engine::plan::Artifacts;
use crate::model::artifact::{Arch, ArtifactId};
use crate::model::name::{ClusterName, HostName};
use crate::world::artifacts::ArtifactError;
use crate::world::cloud::{FakeCloud, Launch};
use crate::world::remote::fake::{Answer, FakeConnector, FakeHost};

const FACTS: &str = "\nclusterctl-facts 1\nhostname h\nsystem Linux\nmachine x86_64\nuid 0\nclock 1\ninit systemd\n\
                     disk 99999999\naddress 10.0.0.9\nend\n";
const INSTALLED: &str = "clusterctl began write /etc/x\nclusterctl ended write /etc/x\nclusterctl done 1\n";

struct Shelf;

#[async_trait]
impl Supply for Shelf {
    async fn artifacts(&self, _: &[ArtifactId], _: &Events) -> Result<Artifacts, ArtifactError> {
        Ok(Artifacts::from([(Arch::Amd64, artifacts())]))
    }
}

/// What goes wrong on the hosts.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Trouble {
    #[default]
    None,
    Install,
    Clear,
    /// The hosts that boot from the images never join.
    Join,
    /// The installation hangs until the run is interrupted.
    Hang,
}

const NODES: [&str; 2] = ["shop-build-server-1", "shop-build-node-1"];

fn members() -> String {
    let member = |name: &&str| format!(r#"{{"Name":"{name}","Addr":"10.0.0.1","Status":1}}"#);
    format!("[{}]", NODES.iter().map(member).collect::<Vec<_>>().join(","))
}

fn targets() -> String {
    let target = |name: &&str| {
        format!(
            r#"{{"scrapePool":"node","labels":{{"job":"node","instance":"{name}"}},"health":"up","lastError":"","lastScrape":"","scrapeUrl":""}}"#
        )
    };
    format!(
        r#"{{"status":"success","data":{{"activeTargets":[{}]}}}}"#,
        NODES.iter().map(target).collect::<Vec<_>>().join(",")
    )
}

fn machine(trouble: Trouble) -> FakeHost {
    FakeHost {
        on_run: Box::new(move |command| {
            let text: Vec<u8> = command
                .stdin
                .iter()
                .filter_map(|part| match part {
                    Part::Bytes(bytes) => Some(bytes.clone()),
                    Part::File { .. } => None,
                })
                .flatten()
                .collect();
            let is = |(line, stdin): (String, Vec<u8>)| command.line == line && text == stdin;
            if is(seal::command()) {
                return if trouble == Trouble::Clear { Answer::exit(1, "", "no\n") } else { Answer::ok("") };
            }
            if String::from_utf8_lossy(&text).contains("clusterctl-facts") {
                return Answer::ok(FACTS);
            }
            match trouble {
                Trouble::Install => Answer::exit(1, "clusterctl failed write /etc/x\tno room\n", ""),
                Trouble::Hang => Answer::Hang,
                _ => Answer::ok(INSTALLED),
            }
        }),
        on_exchange: Box::new(move |_, first| {
            let none = trouble == Trouble::Join;
            if first.contains("/v1/status/leader") {
                return Ok("\"10.0.0.1:8300\"".to_owned());
            }
            Ok(match first.contains("/v1/agent/members") {
                true if none => "[]".to_owned(),
                true => members(),
                false => targets(),
            })
        }),
        ..FakeHost::quiet()
    }
}

struct Bench {
    cloud: FakeCloud,
    connector: FakeConnector,
    order: Order,
    cancel: CancellationToken,
}

impl Bench {
    fn new(roles: &[Role], trouble: Trouble) -> Self {
        let spec = Spec { provider: crate::model::spec::ProviderSpec::Sandbox { servers: 1, nodes: 2 }, ..sandbox() };
        let build = bake::build_cluster(&spec.cluster).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let me = bake::Builder::new("here", 1, now);
        let order = Order {
            image: bake::image_spec(&spec),
            build: bake::build_spec(&spec, &build, &me, roles),
            roles: roles.iter().map(|role| (*role, "web".to_owned())).collect(),
            origin: "none".to_owned(),
            now,
            copy_to: Vec::new(),
            keep_unproven: false,
            leftovers: false,
        };
        let cancel = CancellationToken::new();
        let names = ["server-1", "node-1", "server-builder", "node-builder"];
        let hosts = names.map(|name| (HostName::new(format!("shop-build-{name}")).unwrap(), machine(trouble)));
        Self { cloud: FakeCloud::new(), connector: FakeConnector::new(hosts, cancel.clone()), order, cancel }
    }

    async fn run(&self) -> BakeReport {
        let limits = Limits { verify: Duration::from_millis(300), ..Limits::default() };
        let renderer = Renderer::new(&BTreeMap::new()).unwrap();
        let site = Site {
            build: &self.cloud,
            cleaner: &self.cloud,
            connector: &self.connector,
            supply: &Shelf,
            renderer: &renderer,
            limits: &limits,
            events: &Events::silent(),
            cancel: &self.cancel,
        };
        build(&site, &self.order).await
    }

    /// No host is left, and no image that nobody may use.
    async fn assert_clean(&self, what: &str) {
        assert_eq!(self.cloud.list().await.unwrap(), [], "{what}");
        let images = self.cloud.baked().await.unwrap();
        assert!(images.iter().all(|image| image.is_trusted()), "{what}: {images:?}");
    }
}

fn sandbox() -> Spec {
    Spec::sandbox(ClusterName::new("shop").unwrap())
}

#[tokio::test]
async fn a_nodes_image_is_proved_by_a_server_that_is_not_baked() {
    let mut stage = Bench::new(&[Role::Node], Trouble::None);
    stage.order.copy_to = vec!["eu-west-1".to_owned()];
    let report = stage.run().await;
    assert!(report.is_good(), "{report:?}");
    let [made] = report.images.as_slice() else { panic!("{report:?}") };
    assert_eq!((made.fate, made.role, made.id.0.as_str()), (Fate::Trusted, Role::Node, "web/node"));
    assert_eq!(made.copies["eu-west-1"].0, "web/node@eu-west-1");
    assert_eq!(
        stage.cloud.calls(),
        ["prepare", "launch", "wait", "wait", "seal", "terminate", "launch", "wait", "prove", "copy", "destroy"]
    );
    assert_eq!(
        report.stages.iter().map(|took| took.stage.as_str()).collect::<Vec<_>>(),
        ["launch", "install", "seal", "boot", "prove", "copy", "remove"]
    );
    assert_eq!(report.verified.unwrap().alive, 1);
    stage.assert_clean("all is well").await;
    // The host that booted from the image was never logged in to.
    let ran = stage.connector.ran.lock().unwrap();
    assert!(!ran.iter().any(|(host, _)| host.as_str() == "shop-build-node-1"), "{ran:?}");
}

#[tokio::test]
async fn both_roles_prove_each_other() {
    let stage = Bench::new(&[Role::Server, Role::Node], Trouble::None);
    let report = stage.run().await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.images.iter().map(|made| made.id.0.as_str()).collect::<Vec<_>>(), ["web/server", "web/node"]);
    assert_eq!(report.verified.unwrap().alive, 2);
    stage.assert_clean("both").await;
    let ran = stage.connector.ran.lock().unwrap();
    let on_server = ran.iter().filter(|(host, _)| host.as_str() == "shop-build-server-1").count();
    assert_eq!(on_server, 1, "it is looked at, and nothing is installed: {ran:?}");
}

/// Whatever call of the cloud's fails, nothing is left that costs money or that nobody proved.
#[tokio::test]
async fn after_any_failure_nothing_is_left() {
    for roles in [&[Role::Node][..], &[Role::Server, Role::Node]] {
        let copy = |stage: &mut Bench| stage.order.copy_to = vec!["eu-west-1".to_owned()];
        let mut good = Bench::new(roles, Trouble::None);
        copy(&mut good);
        good.run().await;
        let calls = good.cloud.calls();
        assert!(calls.len() > 10, "{calls:?}");
        for (number, call) in calls.iter().enumerate() {
            let mut stage = Bench::new(roles, Trouble::None);
            copy(&mut stage);
            stage.cloud.fail_call(number);
            let report = stage.run().await;
            let what = format!("{call} ({number} of {calls:?})");
            stage.assert_clean(&what).await;
            assert_eq!(report.left, Vec::<String>::new(), "{what}");
            let trusted = report.images.iter().filter(|made| made.fate == Fate::Trusted).count();
            match *call {
                // It is tried again.
                "destroy" => assert!(report.is_good(), "{what}: {report:?}"),
                "copy" => assert!(report.failure.is_some() && trusted == roles.len(), "{what}: {report:?}"),
                _ => assert!(report.failure.is_some() && trusted < roles.len(), "{what}: {report:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let stage = Bench::new(&[Role::Node], Trouble::Join);
    // A failed proof removes the image, and then the cluster.
    for number in 8..14 {
        stage.cloud.fail_call(number);
    }
    let report = stage.run().await;
    assert_eq!(stage.cloud.calls()[8..], ["remove", "remove", "remove", "destroy", "destroy", "destroy"]);
    assert_eq!(report.images[0].fate, Fate::Left);
    assert!(
        report.left[0].starts_with("the image web/node: ") && report.left[1].contains("clusterctl down"),
        "{report:?}"
    );
}

#[tokio::test]
async fn an_image_whose_hosts_never_join_is_gone_and_its_console_is_told() {
    let stage = Bench::new(&[Role::Node], Trouble::Join);
    let report = stage.run().await;
    let failure = report.failure.unwrap();
    assert_eq!(failure.step, "prove");
    assert!(
        failure.message.contains("shop-build-node-1: Consul on shop-build-server-1 says: not a member"),
        "{failure:?}"
    );
    assert_eq!(failure.lines, ["shop-build-node-1: shop-build-node-1 booted"]);
    assert_eq!(report.images[0].fate, Fate::Removed);
    assert!(report.proofs.iter().any(|proof| proof.problem.is_some()), "{:?}", report.proofs);
    stage.assert_clean("never joined").await;

    let mut kept = Bench::new(&[Role::Node], Trouble::Join);
    kept.order.keep_unproven = true;
    let report = kept.run().await;
    assert_eq!((report.images[0].fate, kept.cloud.baked().await.unwrap().len()), (Fate::Unproven, 1));
    assert_eq!(kept.cloud.list().await.unwrap(), []);
}

#[tokio::test]
async fn trouble_on_a_host_is_told_with_its_step() {
    for (trouble, step, said) in [(Trouble::Install, "write /etc/x", "no room"), (Trouble::Clear, "clear", "exited 1")]
    {
        let stage = Bench::new(&[Role::Node], trouble);
        let report = stage.run().await;
        let failure = report.failure.unwrap();
        assert!(failure.step == step && failure.message.contains(said), "{failure:?}");
        assert!(failure.message.starts_with("shop-build-"), "{failure:?}");
        stage.assert_clean(step).await;
        assert!(!stage.cloud.calls().contains(&"seal"), "an image was made of a host that is not well");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_build_and_not_the_cleaning_up() {
    let stage = Bench::new(&[Role::Node], Trouble::Hang);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.cancel.cancel();
    };
    let (report, ()) = tokio::join!(stage.run(), stop);
    assert!(report.failure.is_none() && report.interrupted.is_some(), "{report:?}");
    assert_eq!(stage.cloud.calls().last(), Some(&"destroy"));
    stage.assert_clean("interrupted").await;

    let before = Bench::new(&[Role::Node], Trouble::None);
    before.cancel.cancel();
    let report = before.run().await;
    assert_eq!((report.interrupted.as_deref(), before.cloud.calls()), (Some("launch"), vec!["destroy"]));
}

#[tokio::test]
async fn an_earlier_builds_leftovers_go_first() {
    let mut stage = Bench::new(&[Role::Node], Trouble::None);
    stage.order.leftovers = true;
    let old = Launch::plain(HostName::new("shop-build-old").unwrap(), Role::Node);
    stage.cloud.launch(&[old], &Events::silent()).await;
    assert!(stage.run().await.is_good());
    assert_eq!(stage.cloud.calls()[..3], ["launch", "destroy", "prepare"]);
    stage.assert_clean("leftovers").await;
}

/// The label is in the image, and says what is in it.
#[tokio::test]
async fn an_image_has_its_label() {
    let stage = Bench::new(&[Role::Node], Trouble::None);
    stage.run().await;
    let baked = stage.cloud.baked().await.unwrap();
    let label = &baked[0].label;
    assert_eq!((label.cluster.as_str(), label.servers, label.spec.as_str()), ("shop", 1, "none"));
    assert_eq!(label.programs.len(), 2, "{label:?}");
    assert_eq!(label.sums.keys().collect::<Vec<_>>(), label.programs.keys().collect::<Vec<_>>());
}
