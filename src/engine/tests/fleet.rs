//! A fleet that grows, shrinks and rolls, at a provider that launches what never joins or has no room.

use jiff::Timestamp;

use super::*;
use crate::core::fleet::Whom;
use crate::engine::fleet::{FleetError, Watch};
use crate::model::event::Doing;
use crate::world::cloud::{FakeFleet, Fleet as _};

/// Members that never join, whatever the provider says of them.
type Mute = Arc<Mutex<BTreeSet<String>>>;

struct Stage {
    fleet: Arc<FakeFleet>,
    mute: Mute,
    servers: Vec<Observed>,
    cluster: ClusterName,
    cancel: CancellationToken,
    seen: Arc<Seen>,
    events: Events,
}

/// A server whose Consul and Prometheus know the members that are in service, but for the mute.
fn server(fleet: &Arc<FakeFleet>, mute: &Mute) -> FakeHost {
    let (fleet, mute) = (Arc::clone(fleet), Arc::clone(mute));
    let joined = move || -> Vec<String> {
        let mute = mute.lock().unwrap();
        fleet.in_service().into_iter().map(|id| id.0).filter(|id| !mute.contains(id)).collect()
    };
    let on_exchange = move |port: u16, request: &str| match (port, request) {
        (8500, request) if request.contains("/v1/status/leader") => Ok("\"10.0.0.1:8300\"".to_owned()),
        (8500, _) => {
            let member = |name: String| serde_json::json!({"Name": name, "Addr": "10.0.0.9", "Status": 1});
            Ok(serde_json::Value::from_iter(joined().into_iter().map(member)).to_string())
        }
        (9090, _) => {
            let target = |name: String| serde_json::json!({"labels": {"job": "node", "instance": name}, "health": "up", "scrapeUrl": "http://x/"});
            let all: Vec<_> = joined().into_iter().map(target).collect();
            Ok(serde_json::json!({"status": "success", "data": {"activeTargets": all}}).to_string())
        }
        _ => Err(Answer::exit(1, "", "")),
    };
    FakeHost { on_exchange: Box::new(on_exchange), ..machine(good) }
}

impl Stage {
    async fn new(size: u16) -> Self {
        let (fleet, mute) = (Arc::new(FakeFleet::new(size)), Mute::default());
        let cancel = CancellationToken::new();
        let connector = FakeConnector::new([(name("s"), server(&fleet, &mute))], cancel.clone());
        let (servers, _) = look(vec![host("s", Role::Server, 1)], &connector).await;
        let seen = Arc::new(Seen::default());
        let events = Events::new(Arc::clone(&seen) as _);
        let cluster = ClusterName::new("shop").unwrap();
        Self { fleet, mute, servers, cluster, cancel, seen, events }
    }

    fn watch(&self) -> Watch<'_> {
        Watch {
            cluster: &self.cluster,
            fleet: self.fleet.as_ref(),
            servers: &self.servers,
            wait: Duration::from_millis(400),
            every: Some(Duration::from_millis(2)),
            cancel: &self.cancel,
            events: &self.events,
        }
    }

    fn mute(&self, ids: impl IntoIterator<Item = usize>) {
        self.mute.lock().unwrap().extend(ids.into_iter().map(id));
    }

    /// Rolls; who was ended, in order.
    async fn roll(&self, whom: Whom, min_healthy: u8) -> Result<Vec<String>, FleetError> {
        let ended = self.watch().roll(&whom, min_healthy, Timestamp::from_second(1_000_000).unwrap()).await?;
        Ok(ended.into_iter().map(|id| id.0).collect())
    }
}

fn id(n: usize) -> String {
    format!("i-{n:03}")
}

fn ids(of: std::ops::RangeInclusive<usize>) -> Vec<String> {
    of.map(id).collect()
}

#[tokio::test]
async fn a_size_is_waited_for_until_all_are_well_and_nothing_is_left() {
    let stage = Stage::new(2).await;
    stage.watch().scale(4).await.unwrap();
    let report = stage.watch().report().await.unwrap();
    assert!(report.is_well() && report.well == 4, "{report:?}");
    stage.watch().scale(1).await.unwrap();
    assert_eq!(stage.fleet.ended().len(), 3);
    stage.watch().scale(1).await.unwrap();
    assert_eq!(stage.fleet.sizes(), [4, 1], "what is so already is not set again");
    let events = std::mem::take(&mut *stage.seen.0.lock().unwrap());
    let began = |doing: &Doing, host: &str| {
        let is = |e: &&Event| matches!(&e.kind, EventKind::Began { doing: d } if d == doing);
        events.iter().filter(is).any(|e| e.host.as_ref().is_some_and(|h| h.as_str() == host))
    };
    assert!(began(&Doing::Launch, "i-003"), "{events:?}");
}

#[tokio::test]
async fn who_never_joins_is_named() {
    let stage = Stage::new(2).await;
    stage.mute([4]);
    let late = stage.watch().scale(4).await.unwrap_err();
    let said = late.to_string();
    assert!(said.contains("after 0.4 s: i-004: Consul does not know it") && late.cure().is_some(), "{said}");
    let without = Watch { wait: Duration::ZERO, ..stage.watch() };
    without.scale(9).await.unwrap();

    let full = Stage::new(1).await;
    full.fleet.room(2);
    let said = full.watch().scale(5).await.unwrap_err().to_string();
    assert!(said.contains("the group has 2 of 5") && said.contains("there is no room"), "{said}");
}

#[tokio::test]
async fn a_roll_replaces_the_outdated_batch_by_batch() {
    let stage = Stage::new(5).await;
    assert_eq!(stage.roll(Whom::Outdated, 90).await.unwrap(), Vec::<String>::new());
    stage.fleet.renew();
    assert_eq!(stage.watch().report().await.unwrap().outdated, 5);
    assert_eq!(stage.roll(Whom::Outdated, 60).await.unwrap(), ids(1..=5));
    let report = stage.watch().report().await.unwrap();
    assert!(report.is_well() && report.outdated == 0, "{report:?}");
    assert_eq!(stage.roll(Whom::All, 1).await.unwrap(), ids(6..=10), "all, though none is outdated");
}

#[tokio::test]
async fn a_batch_that_does_not_come_back_stops_the_roll() {
    let stage = Stage::new(4).await;
    stage.fleet.renew();
    stage.mute([6]);
    let stopped = stage.roll(Whom::Outdated, 90).await.unwrap_err();
    let FleetError::Batch { batch, missing, .. } = &stopped else { panic!("{stopped:?}") };
    assert_eq!(batch[0].0, id(2), "the first one came back");
    assert!(missing.contains(&"i-006: Consul does not know it".to_owned()), "{missing:?}");
    assert_eq!(stage.fleet.ended().len(), 2, "the others are left");
    assert!(stopped.to_string().starts_with("the batch i-002 was not well again after 0.4 s"), "{stopped}");

    // Run again before it is mended: it waits for the last batch, and ends nobody.
    let again = stage.roll(Whom::Outdated, 90).await.unwrap_err();
    assert!(matches!(&again, FleetError::TooFew { well: 3, floor: 3, .. }), "{again:?}");
    assert_eq!(stage.fleet.ended().len(), 2);
    // Mended, it goes on with those that are left.
    stage.mute.lock().unwrap().clear();
    assert_eq!(stage.roll(Whom::Outdated, 90).await.unwrap(), ids(3..=4));
}

#[tokio::test]
async fn only_the_sick_are_replaced_and_nobody_is_called_sick_unasked() {
    let stage = Stage::new(4).await;
    stage.mute([2]);
    assert_eq!(stage.roll(Whom::Unhealthy, 90).await.unwrap(), [id(2)]);

    let mut deaf = Stage::new(3).await;
    deaf.servers.clear();
    let error = deaf.roll(Whom::Unhealthy, 90).await.unwrap_err();
    assert!(error.to_string().contains("no server of the cluster can be reached"), "{error}");
    assert!(deaf.fleet.ended().is_empty());
}

#[tokio::test]
async fn without_a_group_there_is_no_fleet_and_an_interrupt_ends_the_waiting() {
    let stage = Stage::new(1).await;
    stage.mute([2]);
    stage.cancel.cancel();
    let error = stage.watch().scale(2).await.unwrap_err();
    assert!(matches!(error, FleetError::Cloud(crate::world::cloud::CloudError::Cancelled)), "{error:?}");
    assert_eq!(stage.fleet.remove().await.unwrap(), ["clusterctl-shop"]);
    let error = stage.watch().scale(2).await.unwrap_err();
    assert!(matches!(error, FleetError::Absent { .. }) && error.cure().is_some(), "{error:?}");
}
