//! End to end, on real hosts: one scenario a test, each in a cluster of its own.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Cluster, eventually, redacted, traces};

/// From nothing to scraped; again without a change; a setting; a join; away without a trace.
#[test]
fn a_clusters_life() {
    let cluster = Cluster::new("e2e-life");
    let hosts = ["e2e-life-node-1", "e2e-life-node-2", "e2e-life-server-1"];

    let plan = cluster.run(&["plan", "--output", "json"]).expect(2).json();
    assert_eq!(plan["hosts"].as_array().unwrap().len(), 3, "{plan}");
    insta::assert_snapshot!("plan_of_nothing", redacted(&cluster.run(&["plan"])));

    let up = cluster.run(&["up", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 3, "{up}");
    assert_eq!(up["verified"]["targets_up"], up["verified"]["targets"], "{up}");
    assert_eq!(cluster.scraped(), hosts);
    cluster.run(&["plan"]).expect(0);

    for verb in ["plan", "status", "targets"] {
        insta::assert_snapshot!(format!("{verb}_of_a_cluster"), redacted(&cluster.run(&[verb])));
    }

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
    let exec = cluster.run(&["exec", "--host", "*-node-3", "--", "echo out; echo err >&2; exit 7"]).expect(3);
    insta::assert_snapshot!("exec_that_fails", redacted(&exec));
    let ssh = cluster.run(&["ssh", "e2e-life-node-2", "--", "-T", "hostname; exit 5"]).expect(5);
    assert_eq!(ssh.stdout, "e2e-life-node-2\n");

    let again = cluster.run(&["up"]).expect(0);
    insta::assert_snapshot!("up_again", again.stdout.lines().last().unwrap());
    cluster.run(&["down"]).expect(0);
    assert_eq!(traces("e2e-life"), Vec::<String>::new());
    assert!(!cluster.path("state/e2e-life").exists(), "local state was left");
    insta::assert_snapshot!("down_of_nothing", redacted(&cluster.run(&["down"]).expect(0)));
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
        "{counts}[prometheus]\nscrape_interval = \"1s\"\n[[service]]\nname = \"web\"\nport = 80\ntags = [\"http\"]\n\
         check = {{ args = [\"/bin/true\"], interval = \"1s\", timeout = \"1s\" }}\n"
    ));
    let plan = cluster.run_with(&spec, &["plan"]).expect(2);
    assert!(plan.stdout.contains("-  scrape_interval: 2s") && plan.stdout.contains("+  scrape_interval: 1s"), "{plan}");
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

    // What Consul says of a service of the user's is a problem of the cluster's.
    let failing = std::fs::read_to_string(&spec).unwrap().replace("/bin/true", "/bin/false");
    std::fs::write(&spec, failing).unwrap();
    cluster.run_with(&spec, &["up"]).expect(0);
    eventually("status names the service", || {
        let status = cluster.run_with(&spec, &["status"]);
        let said = status.stdout.contains("service web on e2e-change-node-1 is critical");
        if said && status.status == 3 { Ok(()) } else { Err(status) }
    });

    let spec = cluster.spec(&format!("{counts}[prometheus]\nscrape_interval = \"1s\"\n"));
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

/// A host that is dead: the others finish, the report and the exit code name it, and it is not forgotten.
#[test]
fn one_host_dead() {
    let cluster = Cluster::new("e2e-dead");
    cluster.run(&["up"]).expect(0);
    // Its sshd is gone and its agent too; the machine still runs, so the provider knows nothing of it.
    let kill = ["exec", "--host", "e2e-dead-node-1", "--", "systemctl stop --no-block ssh.socket ssh consul"];
    cluster.run(&kill).expect(0);
    let spec = cluster.spec("[prometheus]\nscrape_interval = \"3s\"\n");
    let up = cluster.run_with(&spec, &["up", "--connect-timeout", "3s", "--output", "json"]).expect(3).json();
    let result = |name: &str| {
        let hosts = up["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap_or_else(|| panic!("{name} is missing: {up}")).clone()
    };
    assert_eq!(result("e2e-dead-server-1")["result"], "changed", "{up}");
    assert_eq!(result("e2e-dead-node-2")["result"], "unchanged", "{up}");
    let dead = result("e2e-dead-node-1");
    assert_eq!((&dead["result"], &dead["step"]), (&"failed".into(), &"connect".into()), "{up}");
    assert!(dead["message"].as_str().unwrap().contains("refused"), "{dead}");

    eventually("status names it", || {
        let status = cluster.run_with(&spec, &["status", "--connect-timeout", "1s"]);
        let named = status.stdout.lines().any(|line| line.contains("e2e-dead-node-1") && line.contains("failed"));
        if status.status == 3 && named { Ok(()) } else { Err(status) }
    });
}

/// Hosts of one's own: by address, user and key, through sudo with and without a password.
#[test]
fn an_inventory() {
    let machines = Cluster::new("e2e-machines");
    std::fs::write(
        machines.path("cluster.toml"),
        "[cluster]\nname = \"e2e-machines\"\nprovider = \"sandbox\"\n[sandbox]\nservers = 1\nnodes = 1\n",
    )
    .unwrap();
    // Three machines with nothing on them: booted, never installed on. A killed `up` leaves just that.
    launch_only(&machines);
    let admin = "useradd --create-home --shell /bin/sh admin && mkdir -m 700 ~admin/.ssh && cp ~/.ssh/authorized_keys ~admin/.ssh/ \
         && chown -R admin: ~admin/.ssh && echo 'admin:correct horse' | chpasswd";
    machines.run(&["exec", "--", admin]).expect(0);
    machines
        .run(&["exec", "--role", "server", "--", "echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin"])
        .expect(0);
    machines.run(&["exec", "--role", "node", "--", "echo 'admin ALL=(ALL) ALL' > /etc/sudoers.d/admin"]).expect(0);
    let status = machines.run(&["status", "--output", "json"]).json();
    let address = |role: &str| {
        let hosts = status["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["role"] == role).unwrap()["address"].as_str().unwrap().to_owned()
    };

    let site = Cluster::beside(&machines, "e2e-site");
    let spec = site.path("cluster.toml");
    let text = format!(
        "[cluster]\nname = \"e2e-site\"\nprovider = \"inventory\"\n[ssh]\nuser = \"admin\"\nkey = \"{}\"\n\
         [[host]]\nname = \"one\"\nrole = \"server\"\naddress = \"{}\"\n[[host]]\nname = \"two\"\naddress = \"{}\"\n",
        "/var/lib/clusterctl-sandbox/clusters/e2e-machines/id_ed25519",
        address("server"),
        address("node")
    );
    std::fs::write(&spec, text).unwrap();

    // Nobody knows their keys yet.
    let unknown = site.run_with(&spec, &["up", "--yes"]).expect(3);
    assert!(unknown.stdout.contains("not known") && unknown.stdout.contains("--accept-new-host-keys"), "{unknown}");
    // sudo on one of them wants a password.
    let plan = site.run_with(&spec, &["plan", "--accept-new-host-keys"]).expect(3);
    assert!(plan.stdout.contains("two") && plan.stdout.contains("cannot become root"), "{plan}");
    // Nobody agreed to a change.
    let up = ["up", "--ask-sudo-password"];
    let asked = site.run_with_input(&spec, &up, "correct horse\n");
    assert!(asked.status == 1 && asked.stderr.contains("--yes"), "{asked}");
    let wrong = site.run_with_input(&spec, &["up", "--yes", "--ask-sudo-password"], "battery staple\n").expect(3);
    assert!(wrong.stdout.contains("cannot become root"), "{wrong}");
    // What follows the password on standard input is no further attempt: three would lock some users out.
    let attempts = "journalctl -q -t sudo --no-pager | grep -o '[0-9] incorrect password attempt.*;' | cut -d';' -f1";
    let attempts = machines.run(&["exec", "--role", "node", "--", attempts]).expect(0);
    let attempts: Vec<&str> =
        attempts.stdout.lines().filter_map(|line| line.split_once("| ")).map(|(_, n)| n).collect();
    assert_eq!(attempts, ["1 incorrect password attempt"], "{wrong}");
    let good = site.run_with_input(&spec, &["up", "--yes", "--ask-sudo-password", "-vvv"], "correct horse\n").expect(0);
    assert!(good.stdout.contains("2 of 2 hosts alive in Consul"), "{good}");
    assert!(!good.stdout.contains("horse") && !good.stderr.contains("horse"), "the password was shown: {good}");
    site.run_with_input(&spec, &["plan", "--ask-sudo-password"], "correct horse\n").expect(0);
    let targets =
        site.run_with_input(&spec, &["targets", "--ask-sudo-password", "--output", "json"], "correct horse\n");
    let up = targets.json()["targets"].as_array().unwrap().iter().filter(|t| t["health"] == "up").count();
    assert_eq!(up, 4, "{targets}");
    let exec =
        site.run_with_input(&spec, &["exec", "--root", "--ask-sudo-password", "--", "id -un"], "correct horse\n");
    assert_eq!(exec.stdout.matches("root").count(), 2, "{exec}");
}

/// Boots the hosts of a cluster and stops before anything is installed.
fn launch_only(cluster: &Cluster) {
    let mut child = cluster
        .command(&["up", "--output", "json", "-f", "cluster.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen = events.by_ref().map_while(Result::ok).any(|line| line.contains("\"phase\":\"observe\""));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen, "the hosts never were up");
}
