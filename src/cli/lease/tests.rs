use super::*;
use crate::world::cloud::FakeCloud;

fn paths(state: &Path) -> Paths {
    let at = state.to_owned();
    Paths { home: at.clone(), user: "ada".to_owned(), cache: at.clone(), state: at.clone(), sandbox: at }
}

struct Bench {
    cloud: Arc<dyn Cloud>,
    fake: Arc<FakeCloud>,
    cluster: ClusterName,
    cancel: CancellationToken,
    farewells: Farewells,
}

impl Bench {
    fn new() -> Self {
        let fake = Arc::new(FakeCloud::new());
        Self {
            cloud: Arc::clone(&fake) as Arc<dyn Cloud>,
            fake,
            cluster: ClusterName::new("shop").unwrap(),
            cancel: CancellationToken::new(),
            farewells: Farewells::default(),
        }
    }

    async fn take(&self, state: &Path, most: Option<Span>) -> Result<Option<Held>> {
        let wait = Wait { most: None, cancel: &self.cancel, events: &Events::silent() };
        // Each of these commands would have waited for the other's local lock.
        let path = state.join(format!("lock-{}", random()?));
        let lock = crate::cli::local_lock::take(&path, &self.cluster, "up", wait).await?;
        take(Taking {
            local: &Arc::new(LocalHold::new(lock)),
            cloud: &self.cloud,
            cluster: &self.cluster,
            paths: &paths(state),
            command: "up",
            wait: Wait { most, cancel: &self.cancel, events: &Events::silent() },
            farewells: &self.farewells,
        })
        .await
    }
}

#[tokio::test]
async fn another_machine_is_told_who_holds_it_and_has_it_afterwards() {
    let (bench, here, there) = (Bench::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let held = bench.take(here.path(), None).await.unwrap();
    let refused = bench.take(there.path(), None).await.unwrap_err().to_string();
    for said in ["`clusterctl up` of ada@", "since", "--lock-timeout", "lock release"] {
        assert!(refused.contains(said), "no {said}: {refused}");
    }
    drop(held);
    bench.farewells.finish().await;
    assert_eq!(bench.fake.lease().await.unwrap(), None);
    assert!(bench.take(there.path(), None).await.unwrap().is_some());
}

#[tokio::test]
async fn what_a_killed_run_of_this_machine_left_is_taken_at_once() {
    let (bench, here) = (Bench::new(), tempfile::tempdir().unwrap());
    let killed = claim(&paths(here.path()), "up").unwrap();
    bench.fake.take_lease(&killed).await.unwrap();
    let _held = bench.take(here.path(), None).await.unwrap().unwrap();
    assert_ne!(bench.fake.lease().await.unwrap().unwrap().id, killed.id);
}

#[tokio::test]
async fn whoever_waits_has_it_when_the_other_gives_it_back() {
    let (bench, here, there) = (Bench::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let held = bench.take(here.path(), None).await.unwrap();
    let most = Some(Span::from_millis(500));
    let late = bench.take(there.path(), most).await.unwrap_err().to_string();
    assert!(late.ends_with("--lock-timeout 500ms is over"), "{late}");
    let (second, ()) = tokio::join!(bench.take(there.path(), Some(Span::from_secs(60))), async { drop(held) });
    assert!(second.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_was_lost_stops_the_command() {
    let (bench, here) = (Bench::new(), tempfile::tempdir().unwrap());
    let lease = claim(&paths(here.path()), "up").unwrap();
    bench.fake.take_lease(&lease).await.unwrap();
    renew(bench.fake.as_ref(), &lease, &bench.cluster, &Events::silent(), &bench.cancel).await;
    assert!(!bench.cancel.is_cancelled());
    bench.fake.end_lease(&lease.id).await.unwrap();
    renew(bench.fake.as_ref(), &lease, &bench.cluster, &Events::silent(), &bench.cancel).await;
    assert!(bench.cancel.is_cancelled());
}

#[tokio::test]
async fn an_account_that_allows_no_lease_is_a_warning() {
    let (bench, here) = (Bench::new(), tempfile::tempdir().unwrap());
    bench.fake.refuse_leases();
    assert!(bench.take(here.path(), None).await.unwrap().is_none());
}

#[test]
fn a_state_folder_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("clusterctl");
    let id = machine(&state).unwrap();
    assert_eq!(machine(&state).unwrap(), id);
    assert_eq!(id.len(), 32);
    fs::write(state.join("id"), "?").unwrap();
    assert!(machine(&state).unwrap_err().to_string().contains("holds no id"));
}
