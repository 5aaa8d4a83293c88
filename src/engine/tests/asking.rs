//! What Consul and Prometheus say, and what is made of it.

use super::*;

const MEMBERS: &str = r#"[{"Name":"s","Addr":"10.0.0.1","Status":1},{"Name":"a","Addr":"10.0.0.2","Status":1}]"#;
const CRITICAL: &str = r#"[
    {"Node":"b","CheckID":"1","Status":"critical","ServiceName":"web","Output":"\nGet http://x/: refused\nx"},
    {"Node":"c","CheckID":"serfHealth","Status":"critical","ServiceName":"","Output":"Agent not live"},
    {"Node":"s","CheckID":"2","Status":"critical","ServiceName":"db","Output":""},
    {"Node":"s","CheckID":"3","Status":"critical","ServiceName":"up-by-now"},
    {"Node":"s","CheckID":"4","Status":"critical","ServiceName":"silent"},
    {"Node":"s","CheckID":"5","Status":"critical","ServiceName":"node-exporter"}]"#;
const CHECKS_HERE: &str = r#"{
    "2": {"Node":"s","CheckID":"2","Status":"critical","ServiceName":"db","Output":"no disk"},
    "3": {"Node":"s","CheckID":"3","Status":"passing","ServiceName":"up-by-now","Output":"ok"},
    "4": {"Node":"s","CheckID":"4","Status":"critical","ServiceName":"silent","Output":""}}"#;

fn targets(of: &[(&str, &str, &str)]) -> String {
    let target = |(job, instance, health): &(&str, &str, &str)| {
        serde_json::json!({
            "labels": {"job": job, "instance": instance}, "health": health, "scrapeUrl": "http://x/", "lastError": "no route"
        })
    };
    let all: Vec<_> = of.iter().map(target).collect();
    serde_json::json!({"status": "success", "data": {"activeTargets": all}}).to_string()
}

/// A server whose Consul and Prometheus answer so.
fn server(leader: &'static str, members: &'static str, targets: String) -> FakeHost {
    FakeHost {
        on_exchange: Box::new(move |port, request| match (port, request) {
            (8500, request) if request.contains("/v1/status/leader") => Ok(format!("\"{leader}\"")),
            (8500, request) if request.contains("/v1/agent/members") => Ok(members.to_owned()),
            (8500, request) if request.contains("/v1/health/state/critical") => Ok(CRITICAL.to_owned()),
            (8500, request) if request.contains("/v1/agent/checks") => Ok(CHECKS_HERE.to_owned()),
            (9090, _) => Ok(targets.clone()),
            _ => Err(Answer::exit(1, "", "")),
        }),
        ..machine(good)
    }
}

async fn verified(with: FakeHost) -> Result<crate::model::report::Verified, verify::Unverified> {
    let connector = FakeConnector::new([(name("s"), with)], CancellationToken::new());
    let (observed, _) = look(vec![host("s", Role::Server, 1)], &connector).await;
    verify::verify(&[&observed[0]], &[name("s"), name("a")], &limits(), &Events::silent()).await
}

/// Who said what of whom.
fn proof(proof: &crate::model::report::Proof) -> String {
    use crate::model::report::Witness;
    let by = match &proof.by {
        Witness::Consul => "Consul".to_owned(),
        Witness::Prometheus { job } => format!("job {job}"),
    };
    format!("{} {by}: {}", proof.host, proof.problem.as_deref().unwrap_or("well"))
}

#[tokio::test]
async fn verified_means_that_consul_and_prometheus_said_so() {
    let up = [("node", "s", "up"), ("node", "a", "up"), ("consul", "s", "up"), ("web", "a", "down")];
    let good = verified(server("10.0.0.1:8300", MEMBERS, targets(&up))).await.unwrap();
    // A service of the user's that is not deployed yet is counted and is no failure.
    assert_eq!((good.alive, good.targets_up, good.targets, good.leader.as_str()), (2, 3, 4, "10.0.0.1:8300"));

    let said: Vec<String> = good.proofs.iter().map(proof).collect();
    assert_eq!(
        said,
        ["s Consul: well", "s job consul: well", "s job node: well", "a Consul: well", "a job node: well"]
    );

    let leaderless = verified(server("", MEMBERS, targets(&up))).await.unwrap_err();
    assert_eq!(leaderless.missing, ["s: Consul has no leader"]);
    let dead = r#"[{"Name":"s","Addr":"10.0.0.1","Status":1},{"Name":"a","Addr":"10.0.0.2","Status":4}]"#;
    let dead = verified(server("x", dead, targets(&up))).await.unwrap_err();
    assert_eq!(dead.missing, ["a: Consul on s says: failed"]);
    assert_eq!(proof(&dead.proofs[3]), "a Consul: Consul on s says: failed");
    let down = [("node", "s", "up"), ("node", "a", "down"), ("prometheus", "s", "unknown")];
    let unscraped = verified(server("x", MEMBERS, targets(&down))).await.unwrap_err();
    assert_eq!(
        unscraped.missing,
        [
            "s: Prometheus on s says: job prometheus is unknown: no route",
            "a: Prometheus on s says: job node is down: no route"
        ]
    );
    let said: Vec<String> = unscraped.proofs.iter().map(proof).collect();
    assert_eq!(
        said,
        [
            "s Consul: well",
            "s job node: well",
            "s job prometheus: Prometheus on s says: job prometheus is unknown: no route",
            "a Consul: well",
            "a job node: Prometheus on s says: job node is down: no route"
        ]
    );
    let unfound = verified(server("x", MEMBERS, targets(&up[..1]))).await.unwrap_err();
    assert_eq!(unfound.missing, ["a: Prometheus on s says: no target yet"]);
    assert_eq!(proof(unfound.proofs.last().unwrap()), "a job node: Prometheus on s says: no target yet");
    let silent = verified(machine(self::good)).await.unwrap_err();
    assert!(silent.missing.iter().any(|line| line.starts_with("s: Consul: ")), "{silent:?}");
    let garbage = verified(server("x", "<html>", targets(&up))).await.unwrap_err();
    assert!(garbage.missing[0].contains("makes no sense"), "{garbage:?}");
}

#[tokio::test]
async fn asking_ends_with_an_interruption_and_nobody_has_failed() {
    let cancel = CancellationToken::new();
    let hangs = FakeHost { on_exchange: Box::new(|_, _| Err(Answer::Hang)), ..machine(good) };
    let connector = FakeConnector::new([(name("s"), hangs)], cancel.clone());
    let (observed, _) = look(vec![host("s", Role::Server, 1)], &connector).await;
    let (servers, hosts, limits, events) = ([&observed[0]], [name("s"), name("a")], limits(), Events::silent());
    let (answer, ()) = tokio::join!(verify::verify(&servers, &hosts, &limits, &events), async { cancel.cancel() });
    let unverified = answer.unwrap_err();
    assert!(unverified.interrupted, "{unverified:?}");
    let outcomes =
        || ["s", "a"].map(|n| super::super::failure::outcome(&host(n, Role::Node, 1), HostResult::Unchanged));
    let mut interrupted = outcomes();
    verify::not_confirmed(&mut interrupted, &unverified, Unconfirmed::Interrupted);
    let at = HostResult::Interrupted { step: "verify".to_owned() };
    assert!(interrupted.iter().all(|outcome| outcome.result == at), "{interrupted:?}");

    let missing = vec!["a: Consul on s says: failed".to_owned()];
    let mut in_vain = outcomes();
    verify::not_confirmed(&mut in_vain, &verify::Unverified { missing, ..Default::default() }, Unconfirmed::InVain);
    assert_eq!(in_vain[0].result, HostResult::Unchanged);
    assert_eq!(failure(&in_vain[1].result), ("verify", "Consul on s says: failed"));
}

#[tokio::test]
async fn status_names_what_is_wrong_with_each_host() {
    let up = [("node", "s", "up"), ("node", "a", "down")];
    let connector = FakeConnector::new([(name("s"), server("x", MEMBERS, targets(&up)))], CancellationToken::new());
    let stopped = Host { state: HostState::Stopped, ..host("c", Role::Node, 4) };
    let hosts = vec![host("s", Role::Server, 1), host("a", Role::Node, 2), host("b", Role::Node, 3), stopped];
    let (observed, failed) = look(hosts[..1].to_vec(), &connector).await;
    assert!(failed.is_empty());
    let answers = status::ask_servers(&observed).await;
    let critical = services::critical(&observed, &name("s"), Duration::from_millis(1)).await;
    let unreached = match connector.connect(&hosts[2], std::time::Instant::now(), &Events::silent()).await {
        Err(error) => {
            super::super::failure::outcome(&hosts[2], super::super::failure::of_connect(&hosts[2].name, &error))
        }
        Ok(_) => panic!("b is not there"),
    };
    let report = status::report(
        &ClusterName::new("shop").unwrap(),
        "sandbox",
        &hosts,
        &observed,
        &[unreached],
        answers,
        critical,
    );
    assert_eq!(
        report.problems,
        [
            "service db on s is critical: no disk",
            "service silent on s is critical: its check says nothing",
            "service web on b is critical: Get http://x/: refused"
        ]
    );
    let problems: Vec<Option<&str>> = report.hosts.iter().map(|host| host.problem.as_deref()).collect();
    assert_eq!(problems[0], None);
    assert_eq!(problems[1], Some("scrape: no route"));
    let said = problems[2].unwrap();
    assert!(said.contains("refused") && said.contains("is sshd running"), "{said}");
    assert_eq!(problems[3], Some("it is stopped"));
    assert_eq!(report.leader.as_deref(), Some("x"));
}

/// Prometheus 0.14 answers what it does not know with its page, 0.15 to 1.4 with 404: both are asked for `up` then.
#[tokio::test]
async fn an_old_prometheus_is_asked_in_its_own_words() {
    let sample = |value: &str| format!(r#"{{"metric":{{"job":"node","instance":"HOST"}},"value":{value}}}"#);
    let both = |value: &str| ["s", "a"].map(|host| sample(value).replace("HOST", host)).join(",");
    let v1 = format!(r#"{{"data":{{"result":[{}]}}}}"#, both(r#"[1.5,"1"]"#));
    let v0 = format!(r#"{{"type":"vector","value":[{}],"version":1}}"#, both(r#""1""#));
    for (known, answer) in [("/api/v1/query?query=up", v1), ("/api/query?expr=up", v0)] {
        let consul = server("x", MEMBERS, String::new()).on_exchange;
        let old = FakeHost {
            on_exchange: Box::new(move |port, request| match port {
                9090 if request.contains(known) => Ok(answer.clone()),
                9090 => Ok("<html>status</html>".to_owned()),
                _ => consul(port, request),
            }),
            ..machine(good)
        };
        assert_eq!(verified(old).await.unwrap().targets_up, 2, "{known}");
    }
}

/// Nobody logs in to a fleet's hosts: the provider, Consul and Prometheus say how they are.
#[tokio::test]
async fn a_thousand_hosts_from_an_image_are_judged_without_a_login() {
    let nodes: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
    let member =
        |node: &str| format!(r#",{{"Name":"{node}","Addr":"10.0.0.2","Status":{}}}"#, if node == "n7" { 4 } else { 1 });
    let members: String = nodes.iter().filter(|node| *node != "n8").map(|node| member(node)).collect();
    let members = format!(r#"[{{"Name":"s","Addr":"10.0.0.1","Status":1}}{members}]"#).leak();
    let up: Vec<(&str, &str, &str)> = nodes
        .iter()
        .filter(|node| *node != "n9")
        .map(|node| ("node", node.as_str(), "up"))
        .chain([("node", "s", "up")])
        .collect();
    let connector = FakeConnector::new([(name("s"), server("x", members, targets(&up)))], CancellationToken::new());
    let origin = |at: usize| if at == 6 { HostState::Stopped } else { HostState::Running };
    let baked = |(at, node): (usize, &String)| Host { state: origin(at), ..host(node, Role::Node, 2) };
    let hosts: Vec<Host> =
        [host("s", Role::Server, 1)].into_iter().chain(nodes.iter().enumerate().map(baked)).collect();
    let (observed, _) = look(hosts[..1].to_vec(), &connector).await;
    let answers = status::ask_servers(&observed).await;
    let report = status::report(&ClusterName::new("shop").unwrap(), "ec2", &hosts, &observed, &[], answers, Vec::new());
    let wrong: Vec<(&str, &str)> =
        report.hosts.iter().filter_map(|host| Some((host.host.as_str(), host.problem.as_deref()?))).collect();
    assert_eq!(
        wrong,
        [
            ("n6", "it is stopped"),
            ("n7", "Consul says failed"),
            ("n8", "Consul does not know it"),
            ("n9", "Prometheus does not scrape it")
        ]
    );
    assert_eq!(report.hosts[1].address, hosts[1].private_address);
}
