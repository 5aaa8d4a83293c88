//! The engine against hosts that fail, hang, lie and cut the connection.

mod asking;
mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::observe::{Observed, observe};
use super::plan::{Source, needed, peers, plan_hosts};
use super::{Limits, apply, exec, launch, services, status, verify};
use crate::core::render::{Renderer, tests::artifacts};
use crate::core::select::ToLaunch;
use crate::model::artifact::Arch;
use crate::model::baked::ImageId;
use crate::model::event::{Event, EventKind, EventSink, Events};
use crate::model::facts::FactsQuery;
use crate::model::host::{Host, HostId, HostState, Role, SshTarget};
use crate::model::name::{ClusterName, HostName};
use crate::model::report::{HostResult, Unconfirmed};
use crate::model::spec::Spec;
use crate::world::cloud::FakeCloud;
use crate::world::remote::fake::{Answer, FakeConnector, FakeHost};
use crate::world::remote::{ConnectError, Connector as _};

const FACTS: &str = "\nclusterctl-facts 1\nhostname h\nsystem Linux\nmachine x86_64\nuid 0\nclock 1\ninit systemd\n\
                     disk 99999999\naddress 10.0.0.9\nend\n";

fn name(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

fn host(text: &str, role: Role, last: u8) -> Host {
    Host {
        id: HostId(format!("id-{text}")),
        name: name(text),
        role,
        state: HostState::Running,
        private_address: Some(IpAddr::from([10, 0, 0, last])),
        ssh: SshTarget { host: format!("10.0.0.{last}"), ..SshTarget::default() },
        host_keys: Vec::new(),
        tags: BTreeMap::new(),
    }
}

fn limits() -> Limits {
    Limits { verify: Duration::from_millis(300), ..Limits::default() }
}

/// Answers the look at it; the installation is `install`.
fn machine(install: impl Fn() -> Answer + Send + Sync + 'static) -> FakeHost {
    FakeHost {
        on_run: Box::new(move |command| if command.line == "sh -s" { Answer::ok(FACTS) } else { install() }),
        ..FakeHost::quiet()
    }
}

fn good() -> Answer {
    Answer::ok("clusterctl began write /etc/x\nclusterctl ended write /etc/x\nclusterctl done 1\n")
}

#[derive(Default)]
struct Seen(Mutex<Vec<Event>>);

impl EventSink for Seen {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

async fn look(hosts: Vec<Host>, connector: &FakeConnector) -> (Vec<Observed>, BTreeMap<String, HostResult>) {
    let query = |_: &Host| FactsQuery::default();
    let (observed, failed) = observe(hosts, connector, &query, false, &limits(), &Events::silent()).await;
    (observed, failed.into_iter().map(|outcome| (outcome.host.to_string(), outcome.result)).collect())
}

fn failure(result: &HostResult) -> (&str, &str) {
    match result {
        HostResult::Failed(failed) => (&failed.step, &failed.message),
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn one_hosts_trouble_is_its_own() {
    let denied = || {
        let (user, address, detail) = ("root".to_owned(), "10.0.0.3:22".to_owned(), "it takes publickey".to_owned());
        Some(ConnectError::Denied { host: name("denied"), user, address, detail })
    };
    let connector = FakeConnector::new(
        [
            (name("good"), machine(good)),
            (name("denied"), FakeHost { on_connect: Box::new(denied), ..FakeHost::quiet() }),
            (name("liar"), FakeHost { on_run: Box::new(|_| Answer::ok("all is well")), ..FakeHost::quiet() }),
            (
                name("half"),
                FakeHost { on_run: Box::new(|_| Answer::ok(&FACTS[..FACTS.len() - 5])), ..FakeHost::quiet() },
            ),
            (
                name("broken"),
                FakeHost { on_run: Box::new(|_| Answer::exit(127, "", "sh: not found")), ..FakeHost::quiet() },
            ),
            (name("cut"), FakeHost { on_run: Box::new(|_| Answer::Cut(Vec::new())), ..FakeHost::quiet() }),
        ],
        CancellationToken::new(),
    );
    let names = ["good", "denied", "liar", "half", "broken", "cut", "gone"];
    let (observed, failed) = look(names.iter().map(|n| host(n, Role::Node, 1)).collect(), &connector).await;
    assert_eq!(observed.len(), 1);
    assert_eq!(observed[0].host.name, name("good"));
    for (host, step, said) in [
        ("denied", "connect", "denied"),
        ("gone", "connect", "refused"),
        ("liar", "read-facts", "has no facts"),
        ("half", "read-facts", "breaks off"),
        ("broken", "read-facts", "exited 127"),
        ("cut", "read-facts", "lost"),
    ] {
        let (at, message) = failure(&failed[host]);
        assert!(at == step && message.contains(said), "{host}: {at}: {message}");
    }
    assert!(!failed.iter().any(|(host, result)| failure(result).1.starts_with(&format!("{host}: "))), "{failed:?}");
    let HostResult::Failed(denied) = &failed["denied"] else { panic!() };
    assert!(denied.hint.as_ref().unwrap().contains("key"), "{denied:?}");
    let HostResult::Failed(broken) = &failed["broken"] else { panic!() };
    assert_eq!(broken.lines, ["sh: not found"]);
}

/// What one installation comes to, with the events of it.
async fn install(with: impl Fn() -> Answer + Send + Sync + 'static) -> (HostResult, Vec<Event>) {
    let connector = FakeConnector::new([(name("a"), machine(with))], CancellationToken::new());
    let (observed, _) = look(vec![host("a", Role::Server, 1)], &connector).await;
    let (renderer, spec) = (Renderer::new(&BTreeMap::new()).unwrap(), Spec::sandbox(ClusterName::new("shop").unwrap()));
    let peers = peers(&[observed[0].host.clone()], &observed).unwrap();
    let artifacts = BTreeMap::from([(Arch::Amd64, artifacts())]);
    let source = Source { spec: &spec, renderer: &renderer, peers: &peers, artifacts: &artifacts };
    let planned = plan_hosts(source, &observed, false, &limits(), &Events::silent()).await.unwrap();
    assert!(!planned[0].plan.steps.is_empty());
    let seen = Arc::new(Seen::default());
    let jobs = [planned[0].job()];
    let mut outcomes = apply::apply(&jobs, "run", &limits(), &Events::new(Arc::clone(&seen) as _)).await;
    let events = std::mem::take(&mut *seen.0.lock().unwrap());
    (outcomes.remove(0).result, events)
}

#[tokio::test]
async fn an_installation_counts_only_when_it_says_that_it_is_done() {
    let (result, events) = install(good).await;
    assert!(matches!(result, HostResult::Changed { changes } if changes > 5), "{result:?}");
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::HostDone { .. })), "{events:?}");

    let (result, _) = install(|| Answer::ok("clusterctl began write /etc/x\n")).await;
    let (step, message) = failure(&result);
    assert!(step == "write /etc/x" && message.contains("without saying why"), "{step}: {message}");
}

#[tokio::test]
async fn a_failing_installation_names_the_step_and_the_programs_own_words() {
    let said = "clusterctl began unit start consul\nclusterctl log ==> Error: bind: address in use\n\
                clusterctl failed start consul\tthe unit consul ended again at once (exit-code)\n";
    let (result, events) = install(move || Answer::exit(1, said, "")).await;
    let HostResult::Failed(failed) = &result else { panic!("{result:?}") };
    assert_eq!(failed.step, "start consul");
    assert_eq!(failed.lines, ["==> Error: bind: address in use"]);
    assert_eq!(failed.log.as_deref(), Some("journalctl -u consul (on the host)"));
    assert!(
        events.iter().any(|event| matches!(&event.kind, EventKind::HostFailed { step, .. } if step == "start consul"))
    );

    let noisy = "clusterctl log x\n".repeat(1000) + "clusterctl failed a\tb\n";
    let (result, _) = install(move || Answer::exit(1, &noisy, "")).await;
    let HostResult::Failed(failed) = &result else { panic!("{result:?}") };
    assert_eq!(failed.lines.len(), 20);
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_names_where() {
    let cut = || Answer::Cut(vec!["clusterctl began unit restart prometheus".to_owned()]);
    let (result, _) = install(cut).await;
    let HostResult::Failed(failed) = &result else { panic!("{result:?}") };
    assert_eq!(failed.step, "restart prometheus");
    assert!(failed.message.contains("lost") && failed.hint.as_ref().unwrap().contains("again"), "{failed:?}");
}

#[tokio::test]
async fn a_program_that_does_not_unpack_has_the_cache_looked_at() {
    let said = "clusterctl failed write /usr/local/bin/consul\tunpacking failed\n";
    let (result, _) = install(move || Answer::exit(1, said, "")).await;
    let HostResult::Failed(failed) = &result else { panic!("{result:?}") };
    // The made-up cache has no such file at all.
    let hint = failed.hint.as_ref().unwrap();
    assert!(hint.contains("cached copy of consul") && hint.contains("artifacts fetch --arch amd64"), "{hint}");
    let (result, _) = install(|| Answer::exit(1, "clusterctl failed write /etc/x\tunpacking failed\n", "")).await;
    assert!(matches!(&result, HostResult::Failed(failed) if failed.hint.is_none()), "{result:?}");
}

/// Ctrl-C while one host hangs: it is interrupted, and what is done stays done.
#[tokio::test]
async fn an_interruption_ends_what_hangs() {
    let cancel = CancellationToken::new();
    let connector =
        FakeConnector::new([(name("a"), machine(good)), (name("b"), machine(|| Answer::Hang))], cancel.clone());
    let (observed, _) = look(vec![host("a", Role::Server, 1), host("b", Role::Node, 2)], &connector).await;
    let (renderer, spec) = (Renderer::new(&BTreeMap::new()).unwrap(), Spec::sandbox(ClusterName::new("shop").unwrap()));
    let all: Vec<Host> = observed.iter().map(|on| on.host.clone()).collect();
    let peers = peers(&all, &observed).unwrap();
    let artifacts = BTreeMap::from([(Arch::Amd64, artifacts())]);
    let source = Source { spec: &spec, renderer: &renderer, peers: &peers, artifacts: &artifacts };
    let planned = plan_hosts(source, &observed, false, &limits(), &Events::silent()).await.unwrap();
    let jobs: Vec<_> = planned.iter().map(|planned| planned.job()).collect();
    // Interrupts as soon as the host that answers is done.
    struct Interrupt(CancellationToken);
    impl EventSink for Interrupt {
        fn emit(&self, event: Event) {
            if matches!(event.kind, EventKind::HostDone { .. }) {
                self.0.cancel();
            }
        }
    }
    let outcomes = apply::apply(&jobs, "run", &limits(), &Events::new(Arc::new(Interrupt(cancel)))).await;
    assert!(matches!(outcomes[0].result, HostResult::Changed { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1].result, HostResult::Interrupted { .. }), "{outcomes:?}");
}

#[tokio::test]
async fn an_unfit_host_is_blocked_and_the_others_are_not() {
    let other = FACTS.replace("Linux", "FreeBSD");
    let unfit = FakeHost { on_run: Box::new(move |_| Answer::ok(other.clone())), ..FakeHost::quiet() };
    let connector = FakeConnector::new([(name("a"), machine(good)), (name("b"), unfit)], CancellationToken::new());
    let (observed, _) = look(vec![host("a", Role::Server, 1), host("b", Role::Node, 2)], &connector).await;
    let spec = Spec::sandbox(ClusterName::new("shop").unwrap());
    assert_eq!(needed(&spec, &observed).len(), 3);
    let all: Vec<Host> = observed.iter().map(|on| on.host.clone()).collect();
    let (renderer, peers) = (Renderer::new(&BTreeMap::new()).unwrap(), peers(&all, &observed).unwrap());
    let artifacts = BTreeMap::from([(Arch::Amd64, artifacts())]);
    let source = Source { spec: &spec, renderer: &renderer, peers: &peers, artifacts: &artifacts };
    let planned = plan_hosts(source, &observed, false, &limits(), &Events::silent()).await.unwrap();
    let jobs: Vec<_> = planned.iter().map(|planned| planned.job()).collect();
    let outcomes = apply::apply(&jobs, "run", &limits(), &Events::silent()).await;
    assert!(matches!(outcomes[0].result, HostResult::Changed { .. }));
    assert!(failure(&outcomes[1].result).1.contains("FreeBSD"));
}

#[tokio::test]
async fn a_server_without_an_address_is_named() {
    let without = Host { private_address: None, ..host("s", Role::Server, 1) };
    assert_eq!(peers(&[without.clone(), host("a", Role::Node, 2)], &[]).unwrap_err(), ["s"]);
    // Its own facts tell its address.
    let connector = FakeConnector::new([(name("s"), machine(good))], CancellationToken::new());
    let (observed, _) = look(vec![without.clone()], &connector).await;
    assert_eq!(peers(&[without], &observed).unwrap()[0].address, IpAddr::from([10, 0, 0, 9]));
}

#[tokio::test]
async fn launches_that_fail_hold_up_nobody() {
    let cloud = FakeCloud::new();
    cloud.refuse_launch(&name("b"));
    cloud.refuse_boot(&name("c"));
    let wanted =
        ["a", "b", "c"].map(|n| ToLaunch { name: name(n), role: Role::Node, reason: "new".to_owned(), image: None });
    let (up, failed) = launch::launch(&cloud, &wanted, &limits(), &Events::silent()).await;
    assert_eq!(up.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let failed: BTreeSet<(&str, &str)> =
        failed.iter().map(|outcome| (outcome.host.as_str(), failure(&outcome.result).0)).collect();
    assert_eq!(failed, BTreeSet::from([("b", "launch"), ("c", "boot")]));
}

#[tokio::test]
async fn a_host_is_launched_from_the_image_that_is_chosen_for_it() {
    let launch = |n: &str, image: Option<&str>| ToLaunch {
        name: name(n),
        role: Role::Node,
        reason: "new".to_owned(),
        image: image.map(|id| ImageId(id.to_owned())),
    };
    let wanted = [launch("a", Some("web/node")), launch("b", None)];
    let (up, _) = launch::launch(&FakeCloud::new(), &wanted, &limits(), &Events::silent()).await;
    assert_eq!(up.iter().map(Host::is_baked).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_command_on_all_hosts_has_one_outcome_each() {
    let exits =
        |status| FakeHost { on_run: Box::new(move |_| Answer::exit(status, "out\n", "err\n")), ..FakeHost::quiet() };
    let cut = FakeHost { on_run: Box::new(|_| Answer::Cut(Vec::new())), ..FakeHost::quiet() };
    let connector =
        FakeConnector::new([(name("a"), exits(0)), (name("b"), exits(7)), (name("c"), cut)], CancellationToken::new());
    let hosts = ["a", "b", "c", "d"].map(|n| host(n, Role::Node, 1));
    let limits = limits();
    let seen = Arc::new(Seen::default());
    let events = Events::new(Arc::clone(&seen) as _);
    let outcomes = exec::exec(&hosts, &connector, "uptime", false, Duration::from_secs(1), &limits, &events).await;
    let statuses: Vec<Option<i32>> = outcomes.iter().map(|outcome| outcome.status).collect();
    assert_eq!(statuses, [Some(0), Some(7), None, None]);
    assert_eq!(outcomes[1].stdout, "out\n");
    assert!(outcomes[2].problem.as_ref().unwrap().contains("lost"));
    assert!(outcomes[3].problem.as_ref().unwrap().contains("refused"));
    // A failure's step is called as its beginning was.
    let events = std::mem::take(&mut *seen.0.lock().unwrap());
    let failed = events.into_iter().filter_map(|event| match event.kind {
        EventKind::HostFailed { step, .. } => Some((event.host.unwrap().to_string(), step)),
        _ => None,
    });
    let failed: BTreeSet<(String, String)> = failed.collect();
    assert_eq!(failed, BTreeSet::from([("c", "run"), ("d", "connect")].map(|(h, s)| (h.to_owned(), s.to_owned()))));
}

#[tokio::test]
async fn a_host_that_does_not_run_is_not_left_out_of_the_outcomes() {
    let connector = FakeConnector::new([(name("a"), FakeHost::quiet())], CancellationToken::new());
    let stopped = Host { state: HostState::Stopped, ..host("a", Role::Node, 1) };
    let outcomes =
        exec::exec(&[stopped], &connector, "uptime", false, Duration::from_secs(1), &limits(), &Events::silent()).await;
    assert_eq!((outcomes[0].status, outcomes[0].problem.as_deref()), (None, Some("it is stopped")));
}
