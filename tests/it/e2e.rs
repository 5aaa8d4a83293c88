//! End to end, on real hosts: one scenario a test, each in a cluster of its own.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Cluster, eventually, traces};

/// From nothing to scraped; again without a change; a setting; a join; away without a trace.
#[test]
fn a_clusters_life() {
    let cluster = Cluster::new("e2e-life");
    let hosts = ["e2e-life-node-1", "e2e-life-node-2", "e2e-life-server-1"];

    let plan = cluster.run(&["plan", "--output", "json"]).expect(2).json();
    assert_eq!(plan["hosts"].as_array().unwrap().len(), 3, "{plan}");

    let up = cluster.run(&["up", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 3, "{up}");
    assert_eq!(up["verified"]["targets_up"], up["verified"]["targets"], "{up}");
    assert_eq!(cluster.scraped(), hosts);
    cluster.run(&["plan"]).expect(0);

    // Again: nothing changes and nothing restarts.
    let before = cluster.processes();
    assert_eq!(before.len(), 7, "three services on the server, two on each node: {before:?}");
    let again = cluster.run(&["up", "--output", "json"]).expect(0).json();
    for host in again["hosts"].as_array().unwrap() {
        assert_eq!(host["result"], "unchanged", "{host}");
    }
    assert_eq!(cluster.processes(), before);

    // A host joins: Prometheus scrapes it and was not touched.
    let joined = cluster.run(&["join-node", "--output", "json"]).expect(0).json();
    assert_eq!(joined["hosts"].as_array().unwrap().len(), 1, "{joined}");
    assert_eq!(cluster.scraped(), ["e2e-life-node-1", "e2e-life-node-2", "e2e-life-node-3", "e2e-life-server-1"]);
    let after: Vec<_> = cluster.processes().into_iter().filter(|(host, ..)| host != "e2e-life-node-3").collect();
    assert_eq!(after, before, "joining restarted something on the others");

    // `up` keeps the joined host.
    cluster.run(&["up"]).expect(0);
    assert_eq!(cluster.scraped().len(), 4);

    let exec = cluster.run(&["exec", "--role", "node", "--output", "json", "--", "hostname"]).expect(0).json();
    let said: Vec<&str> = exec["hosts"].as_array().unwrap().iter().map(|h| h["stdout"].as_str().unwrap()).collect();
    assert_eq!(said, ["e2e-life-node-1\n", "e2e-life-node-2\n", "e2e-life-node-3\n"]);
    let exec = cluster.run(&["exec", "--", "sh", "-c", "exit 7"]).expect(3);
    assert!(exec.stdout.contains('7') || exec.stderr.contains('7'), "{exec}");

    cluster.run(&["down"]).expect(0);
    assert_eq!(traces("e2e-life"), Vec::<String>::new());
    cluster.run(&["down"]).expect(0);
}

/// A changed setting restarts or reloads just what depends on it; a service comes and goes.
#[test]
fn a_change_touches_what_depends_on_it() {
    let cluster = Cluster::new("e2e-change");
    let counts = "[sandbox]\nservers = 1\nnodes = 1\n";
    let spec = cluster.spec(counts);
    cluster.run_with(&spec, &["up"]).expect(0);
    let before = cluster.processes();

    let spec = cluster.spec(&format!(
        "{counts}[prometheus]\nscrape_interval = \"2s\"\n[[service]]\nname = \"web\"\nport = 80\ntags = [\"http\"]\n\
         check = {{ args = [\"/bin/true\"], interval = \"1s\", timeout = \"1s\" }}\n"
    ));
    let plan = cluster.run_with(&spec, &["plan"]).expect(2);
    assert!(plan.stdout.contains("-  scrape_interval: 5s") && plan.stdout.contains("+  scrape_interval: 2s"), "{plan}");
    cluster.run_with(&spec, &["up"]).expect(0);
    let after = cluster.processes();
    let restarted: Vec<_> =
        before.iter().zip(&after).filter(|(b, a)| b != a).map(|(b, _)| (&b.0[..], &b.1[..])).collect();
    // The node's Consul must allow script checks now, which needs a restart; Prometheus only reloads.
    assert_eq!(restarted, [("e2e-change-node-1", "consul")]);
    let ask = ["exec", "--role", "node", "--", "consul", "catalog", "services", "-tags"];
    eventually("the service is in the catalog", || {
        let answer = cluster.run(&ask);
        if answer.stdout.contains("web") && answer.stdout.contains("http") { Ok(()) } else { Err(answer) }
    });

    let spec = cluster.spec(&format!("{counts}[prometheus]\nscrape_interval = \"2s\"\n"));
    cluster.run_with(&spec, &["up"]).expect(0);
    eventually("the service has left the catalog", || {
        let answer = cluster.run(&ask);
        if answer.status == 0 && !answer.stdout.contains("web") { Ok(()) } else { Err(answer) }
    });
    cluster.run_with(&spec, &["plan"]).expect(0);
}

/// What its own program refuses is not activated, and the report says what the program said.
#[test]
fn a_refused_file_changes_nothing() {
    let cluster = Cluster::new("e2e-refused");
    let counts = "[sandbox]\nservers = 1\nnodes = 0\n";
    let spec = cluster.spec(counts);
    cluster.run_with(&spec, &["up"]).expect(0);
    let before = cluster.processes();

    std::fs::create_dir_all(cluster.path("templates/consul")).unwrap();
    let bad = "{ \"node_name\": {{ name | json }}, \"no_such_key\": true }";
    std::fs::write(cluster.path("templates/consul/agent.json"), bad).unwrap();
    let path = cluster.path("cluster.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("provider", "templates = \"templates\"\nprovider");
    std::fs::write(&path, text).unwrap();
    let up = cluster.run_with(&spec, &["up"]).expect(3);
    for said in ["e2e-refused-server-1", "consul validate", "no_such_key"] {
        assert!(up.stdout.contains(said), "no {said}: {up}");
    }
    assert_eq!(cluster.processes(), before);
    let read = ["exec", "--", "cat", "/etc/consul.d/consul.json"];
    assert!(!cluster.run(&read).expect(0).stdout.contains("no_such_key"));
    let left = cluster.run(&["exec", "--", "sh", "-c", "find / -xdev -name '*.clusterctl-new' | grep ."]);
    assert_eq!(left.status, 3, "new files were left beside the old ones: {left}");
}

/// `kill -9` of clusterctl in the middle, then again: it converges.
#[test]
fn killed_in_the_middle() {
    let cluster = Cluster::new("e2e-killed");
    // At the first file that is written on a host, and while hosts are still being launched.
    for moment in ["\"step\":\"boot\"", "\"step\":\"write\""] {
        let args = ["up", "--output", "json", "--sandbox", "--cluster", "e2e-killed"];
        let mut child = cluster.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(child.stderr.take().unwrap()).lines();
        let seen = events.by_ref().map_while(Result::ok).any(|line| line.contains(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen, "{moment} never came");
    }
    let up = cluster.run(&["up", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 3, "{up}");
    cluster.run(&["plan"]).expect(0);
    cluster.run(&["status"]).expect(0);
    cluster.run(&["down"]).expect(0);
    assert_eq!(traces("e2e-killed"), Vec::<String>::new());
}
