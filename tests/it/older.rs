//! The oldest versions that can be had, end to end on real hosts: another dialect of each program runs for real, and
//! becomes today's in place. And Alertmanager, which tells somebody.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

use crate::support::{Cluster, eventually};

const OLDER: &str = "[versions]\nconsul = \"1.8.7\"\nconsul_template = \"0.10.0\"\nprometheus = \"2.42.0\"\n\
                     node_exporter = \"1.5.0\"\n";

#[test]
fn older_versions_run_and_become_todays() {
    let cluster = Cluster::new("e2e-older");
    let rest = "[sandbox]\nservers = 1\nnodes = 1\n[prometheus]\ndiscovery = \"consul-template\"\n\
                [[service]]\nname = \"extra\"\nport = 9100\ncheck = { args = [\"/bin/true\"], interval = \"1s\" }\n\
                metrics = { unhealthy = \"skip\" }\n";
    let spec = cluster.spec(&format!("{rest}{OLDER}"));
    let up = cluster.run_with(&spec, &["up", "--output", "json"]).expect(0).json();
    assert_eq!(up["verified"]["alive"], 2, "{up}");
    let versions =
        ["exec", "--role", "server", "--", "consul version; prometheus --version 2>&1; consul-template -v 2>&1"];
    let said = cluster.run(&versions).expect(0).stdout;
    for version in ["1.8.7", "2.42.0", "v0.10.0"] {
        assert!(said.contains(version), "no {version}: {said}");
    }
    let extra = |why: &str, nodes: usize| {
        eventually(why, || {
            let targets = cluster.run_with(&spec, &["targets", "--output", "json"]).json();
            let is_extra = |t: &&serde_json::Value| t["job"] == "extra" && t["health"] == "up";
            let found = targets["targets"].as_array().unwrap().iter().filter(is_extra).count();
            if found == nodes { Ok(()) } else { Err(targets) }
        });
    };
    extra("Consul Template 0.10 names the service", 1);
    cluster.run_with(&spec, &["plan"]).expect(0);
    let joined = cluster.run_with(&spec, &["join-node", "--output", "json"]).expect(0).json();
    assert_eq!(joined["hosts"].as_array().unwrap().len(), 1, "{joined}");
    assert_eq!(cluster.scraped().len(), 3);

    // The same cluster with today's versions, its own discovery first kept, then changed.
    for discovery in ["consul-template", "consul-sd"] {
        cluster.spec(&rest.replace("\"consul-template\"", &format!("\"{discovery}\"")));
        cluster.run_with(&spec, &["up"]).expect(0);
        cluster.run_with(&spec, &["plan"]).expect(0);
        extra(discovery, 2);
    }
    let said = cluster.run(&["exec", "--role", "server", "--", "consul version; ls /usr/local/bin"]).expect(0).stdout;
    assert!(said.contains("1.22.7") && !said.contains("consul-template"), "{said}");
}

/// What an alert's way ends in: a webhook of ours, on an address of this machine that the hosts reach.
#[test]
fn alerts_reach_a_webhook() {
    let cluster = Cluster::new("e2e-alerts");
    let plain = cluster.spec("[sandbox]\nservers = 1\nnodes = 0\n");
    cluster.run_with(&plain, &["up"]).expect(0);
    let gateway = "ip -o -4 route show default | cut -d' ' -f3";
    let said = cluster.run(&["exec", "--output", "json", "--", gateway]).expect(0).json();
    let gateway: IpAddr = said["hosts"][0]["stdout"].as_str().unwrap().trim().parse().unwrap();
    let listener = TcpListener::bind((gateway, 0)).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let posts = receive(listener);

    let spec = cluster.spec(&format!("[sandbox]\nservers = 1\nnodes = 0\n[alertmanager]\nwebhooks = [\"{url}\"]\n"));
    cluster.run_with(&spec, &["up"]).expect(0);
    cluster.run_with(&spec, &["plan"]).expect(0);
    eventually("Prometheus scrapes it", || {
        let targets = cluster.run_with(&spec, &["targets"]);
        let up = targets.stdout.lines().any(|line| line.contains("alertmanager") && line.contains("  up "));
        if up { Ok(()) } else { Err(targets) }
    });
    let address = "hostname -I | cut -d' ' -f1";
    let said = cluster.run(&["exec", "--output", "json", "--", address]).expect(0).json();
    let address: IpAddr = said["hosts"][0]["stdout"].as_str().unwrap().trim().parse().unwrap();
    eventually("Prometheus knows its Alertmanager", || {
        let said = get((address, 9090).into(), "/api/v1/alertmanagers");
        if said.contains("127.0.0.1:9093/api/v2/alerts") { Ok(()) } else { Err(said) }
    });
    let alert = "amtool --alertmanager.url=http://127.0.0.1:9093 alert add TestOfTheWay cluster=e2e-alerts";
    cluster.run(&["exec", "--", alert]).expect(0);
    let post = posts.recv_timeout(std::time::Duration::from_secs(60)).expect("no alert came to the webhook");
    assert!(post.contains("TestOfTheWay") && post.contains("firing"), "{post}");
}

/// All that a server answers to a GET.
fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// The bodies of the requests that come, each answered with 200.
fn receive(listener: TcpListener) -> Receiver<String> {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if give.send(String::from_utf8_lossy(&body).into_owned()).is_err() {
                break;
            }
        }
    });
    take
}
