//! Strings that mean something to every language that they pass through, in every free field of a spec: each is
//! refused with its line, or arrives as it was written.

use std::process::Command;
use std::sync::Mutex;

use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::readers::{Instance, consul_template, literal, unit, words};
use super::strings::{plain, text};
use super::*;
use crate::core::specfile;
use crate::model::spec::{Discovery, FleetSpec, Join, ProviderSpec, Secrets};

/// One spec's values and the surroundings that it is rendered for.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    label: String,
    tags: Vec<String>,
    args: Vec<String>,
    path: String,
    /// Which versions: an index of [`DIALECTS`].
    dialect: usize,
    discovery: Discovery,
    alertmanager: bool,
    address: Option<IpAddr>,
    /// Is it for an image whose hosts are told when they boot, and for a fleet?
    at_boot: bool,
    init: Init,
}

const DIALECTS: [&str; 3] = [
    "preset = \"classic\"",
    "preset = \"current\"",
    "consul = \"0.9.3\"\nprometheus = \"1.8.2\"\nnode_exporter = \"0.14.0\"\nconsul_template = \"0.19.0\"\n\
     alertmanager = \"0.16.0\"",
];

fn case(text: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = Case> {
    let address = [None, Some(IpAddr::from([10, 0, 0, 7])), Some("fd00::7".parse().unwrap())];
    let texts = (
        text.clone(),
        proptest::collection::vec(text.clone(), 0..3),
        proptest::collection::vec(text.clone(), 0..3),
        text,
    );
    let around = (
        0..DIALECTS.len(),
        proptest::sample::select(&Discovery::ALL[..]),
        any::<bool>(),
        proptest::sample::select(address.to_vec()),
        any::<bool>(),
        proptest::sample::select(inits().to_vec()),
    );
    (texts, around).prop_map(
        |((label, tags, args, path), (dialect, discovery, alertmanager, address, at_boot, init))| Case {
            name: "web".to_owned(),
            label,
            tags,
            args: std::iter::once("/bin/check".to_owned()).chain(args).collect(),
            // A query or a fragment is refused.
            path: format!("/{}", path.replace(['?', '#'], "")),
            dialect,
            discovery,
            // No Prometheus of that time could tell it anything.
            alertmanager: alertmanager && dialect != 0,
            address,
            at_boot,
            init,
        },
    )
}

/// The same spec for an image and a fleet, where the case is one.
fn told(case: &Case, spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    if case.at_boot {
        spec.join = Join::Boot;
        spec.image.secrets = Secrets::Ssm;
        spec.provider = ProviderSpec::Ec2(Box::default());
        spec.fleet = Some(FleetSpec::default());
    }
    spec
}

/// TOML through the toml crate, so that every string can stand in it.
fn document(case: &Case, url: &str) -> String {
    written(case, &value(case, url))
}

fn value(case: &Case, url: &str) -> Json {
    let mut value = json!({
        "cluster": { "name": "shop", "provider": "sandbox", "datacenter": "eu" },
        "prometheus": {
            "discovery": case.discovery.as_str(),
            "external_labels": { "a": case.label },
        },
        "service": [{
            "name": case.name,
            "port": 80,
            "tags": case.tags,
            "roles": ["server", "node"],
            "check": { "args": case.args },
            "metrics": { "path": case.path },
        }, {
            "name": "other",
            "check": { "http": url },
        }],
    });
    if case.alertmanager {
        value["alertmanager"] = json!({ "webhooks": [url] });
    }
    value
}

fn written(case: &Case, value: &Json) -> String {
    let text = toml::to_string(value).unwrap();
    assert!(toml::from_str::<Json>(&text).unwrap() == *value, "the toml crate reads back what it writes");
    format!("{text}\n[versions]\n{}\n", DIALECTS[case.dialect])
}

/// Every refusal says where and what to do, and shows no terminal a command.
fn assert_shown(errors: &specfile::SpecErrors, text: &str) {
    let lines = text.split('\n').count();
    for mistake in &errors.mistakes {
        assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake:?}");
        assert!(!mistake.message.is_empty() && !mistake.cure.is_empty(), "{mistake:?}");
    }
    let shown = errors.to_string();
    assert!(shown.starts_with("x.toml:"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

fn subject(role: Role, address: Option<IpAddr>, init: Init) -> Subject {
    let name = address.map(|_| HostName::new("shop-server-1").unwrap());
    Subject { role, init, name, address, servers: address.into_iter().collect() }
}

fn inits() -> [Init; 3] {
    [Init::Systemd, Init::Upstart(upstart::OLDEST), Init::Upstart(semver::Version::new(1, 13, 2))]
}

fn render(spec: &Spec, subject: &Subject) -> BTreeMap<String, String> {
    let wanted = RENDERER.wanted(spec, subject, &absent(spec, subject.role)).unwrap();
    texts(&wanted)
}

/// All files of both roles hold exactly what the case says.
fn assert_read_back(case: &Case, url: &str, spec: &Spec) {
    let spec = &told(case, spec);
    let server = subject(Role::Server, case.address, case.init.clone());
    let files = render(spec, &server);
    let node = render(spec, &subject(Role::Node, case.address, case.init.clone()));
    for files in [&files, &node] {
        service_reads(case, &files[&format!("/etc/consul.d/service-{}.json", case.name)]);
        for (at, text) in files {
            known_language(at, text, &case.init);
        }
    }
    let other: Json = serde_json::from_str(&node["/etc/consul.d/service-other.json"]).unwrap();
    match &spec.services[1].check.as_ref().unwrap().kind {
        CheckKind::Tcp(address) => assert_eq!(other["services"][0]["check"]["tcp"], json!(address)),
        _ => assert_eq!(other["services"][0]["check"]["http"], json!(url)),
    }
    agent_reads(spec, &server, &files["/etc/consul.d/consul.json"]);
    if case.alertmanager {
        let yaml: Yaml = serde_yaml_ng::from_str(&files["/etc/alertmanager/alertmanager.yml"]).unwrap();
        assert_eq!(yaml["receivers"][0]["webhook_configs"][0]["url"].as_str(), Some(url));
    }
    prometheus_reads(case, &files, case.discovery == Discovery::ConsulTemplate);
}

fn service_reads(case: &Case, text: &str) {
    let json: Json = serde_json::from_str(text).unwrap();
    let service = &json["services"][0];
    let tags: BTreeSet<&String> = case.tags.iter().collect();
    assert_eq!(service["tags"], json!(tags));
    assert_eq!(service["name"], json!(case.name));
    if case.dialect == 1 {
        assert_eq!(service["check"]["args"], json!(case.args));
    } else {
        assert_eq!(service["check"]["args"], Json::Null, "a key of later versions");
        let script = service["check"]["script"].as_str().unwrap();
        let words = script.strip_prefix("exec ").and_then(shlex::split).unwrap();
        assert_eq!(words, case.args);
    }
}

fn agent_reads(spec: &Spec, subject: &Subject, text: &str) {
    let json: Json = serde_json::from_str(text).unwrap();
    assert_eq!(json["datacenter"], json!(spec.datacenter));
    match &subject.address {
        Some(address) => assert_eq!(json["bind_addr"], json!(address)),
        // boot.json has it, and this file would win.
        None if spec.join == Join::Boot => assert_eq!(json.get("bind_addr"), None),
        None => assert!(json["bind_addr"] == Json::Null || json["bind_addr"] == json!("{{ GetPrivateIP }}")),
    }
    assert_eq!(json.get("node_name").is_some(), subject.name.is_some());
}

fn prometheus_reads(case: &Case, files: &BTreeMap<String, String>, by_template: bool) {
    let expanded = case.label.replace('$', "$$");
    let reads = |text: &str, job: usize| {
        let yaml: Yaml = serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let labels = if case.dialect == 0 { "labels" } else { "external_labels" };
        let written = if case.dialect == 1 { &expanded } else { &case.label };
        assert_eq!(yaml["global"][labels]["a"].as_str(), Some(written.as_str()));
        if job > 0 {
            let job = &yaml["scrape_configs"][job];
            assert_eq!(
                (job["job_name"].as_str(), job["metrics_path"].as_str()),
                (Some(&*case.name), Some(&*case.path))
            );
        }
    };
    reads(&files["/etc/prometheus/prometheus.yml"], usize::from(!by_template));
    if !by_template {
        return;
    }
    let template = &files["/etc/consul-template/prometheus.yml.ctmpl"];
    reads(&consul_template(template, &BTreeMap::new()), 1);
    let here = |port| Instance { node: "n-1", address: "10.0.0.7", port, tags: &["node", "x"] };
    let there = |port| Instance { node: "n-2", address: "fd00::9", port, tags: &["server"] };
    let both = |port| vec![here(port), there(port)];
    let text = consul_template(template, &BTreeMap::from([("node-exporter", both(9100)), (&*case.name, both(80))]));
    reads(&text, 1);
    let yaml: Yaml = serde_yaml_ng::from_str(&text).unwrap();
    let groups = if case.dialect == 0 { "target_groups" } else { "static_configs" };
    let found = |job: usize, n: usize, key: &str| yaml["scrape_configs"][job][groups][n]["labels"][key].clone();
    assert_eq!(yaml["scrape_configs"][0][groups][1]["targets"][0].as_str(), Some("[fd00::9]:9100"));
    assert_eq!(yaml["scrape_configs"][1][groups][0]["targets"][0].as_str(), Some("10.0.0.7:80"));
    assert_eq!((found(0, 0, "role").as_str(), found(0, 1, "role").as_str()), (Some("node"), Some("server")));
    assert_eq!((found(1, 1, "instance").as_str(), found(1, 1, "role")), (Some("n-2"), Yaml::Null));
}

/// Is the file one of its language at all? Those of no free values are compared with their snapshots elsewhere.
fn known_language(at: &str, text: &str, init: &Init) {
    assert!(!text.contains('\0'), "{at}");
    // Only these hold texts of a spec's, which may look so.
    assert!(!text.contains("{%") || at.ends_with(".json") || at.contains("prometheus.yml"), "{at}");
    match at.rsplit('.').next() {
        Some("json") => drop(serde_json::from_str::<Json>(text).unwrap()),
        Some("yml") => drop(serde_yaml_ng::from_str::<Yaml>(text).unwrap()),
        Some("service") => {
            let unit = unit(text);
            let (_, _, start) = unit.iter().find(|(_, key, _)| key == "ExecStart").unwrap();
            let words = words(start);
            assert!(words[0].starts_with('/'), "{start}");
            words.iter().filter(|word| *word != "$CONSUL_FLAGS").for_each(|word| drop(literal(word)));
        }
        Some("conf") => job(at, text, init),
        _ if text.starts_with("#!/bin/sh\n") => shell_reads(at, &[text], text),
        _ => {}
    }
}

/// A job is read by Upstart, its scripts by a shell.
fn job(at: &str, text: &str, init: &Init) {
    let Init::Upstart(version) = init else { panic!("{at} for {init}") };
    let job = upstart::check(text, version).unwrap_or_else(|mistakes| panic!("{at}: {mistakes:?}"));
    shell_reads(at, &job.scripts().collect::<Vec<_>>(), text);
}

/// A shell reads the scripts of a text; of each text once, since no value of a spec's is in it.
fn shell_reads(at: &str, scripts: &[&str], text: &str) {
    static READ: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
    if READ.lock().unwrap().contains(text) {
        return;
    }
    for script in scripts {
        let ran = Command::new("dash").args(["-n", "-c", script]).output().unwrap();
        assert!(ran.status.success(), "{at}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    READ.lock().unwrap().insert(text.to_owned());
}

const URL: &str = "http://127.0.0.1:8080/%7B?q=$1&x='y'#z";

proptest! {
    #![proptest_config(Config { cases: 300, ..Config::default() })]

    /// Nothing but control characters is refused, so nothing of this is.
    #[test]
    fn plain_texts_are_accepted_and_read_back(case in case(plain())) {
        let text = document(&case, URL);
        let spec = specfile::parse(&text, "x.toml").unwrap_or_else(|errors| panic!("{errors}"));
        assert_read_back(&case, URL, &spec);
    }

    #[test]
    fn any_text_is_refused_with_its_line_or_read_back(case in case(text()), more in text(), of in 0..7) {
        let mut case = case;
        let url = if of == 1 { format!("https://x/{more}") } else { URL.to_owned() };
        if of == 2 {
            case.name = more.clone();
        }
        let mut value = value(&case, &url);
        match of {
            3 => value["cluster"]["datacenter"] = json!(more),
            4 => value["cluster"]["name"] = json!(more),
            5 => value["prometheus"]["external_labels"][format!("k{more}")] = json!("x"),
            6 => value["service"][1]["check"] = json!({ "tcp": format!("{more}:80") }),
            _ => {}
        }
        let text = written(&case, &value);
        match specfile::parse(&text, "x.toml") {
            Ok(spec) => {
                assert_read_back(&case, &url, &spec);
                if let Some(ServiceCheck { kind: CheckKind::Tcp(address), .. }) = &spec.services[1].check {
                    prop_assert_eq!(address, &format!("{more}:80"));
                }
            }
            Err(errors) => assert_shown(&errors, &text),
        }
    }

    #[test]
    fn no_free_text_reaches_a_unit_or_a_script(case in case(plain())) {
        let of = |case: &Case| {
            let spec = told(case, &specfile::parse(&document(case, URL), "x.toml").unwrap());
            let mut files = render(&spec, &subject(Role::Server, case.address, case.init.clone()));
            files.retain(|at, _| !at.contains("service-web") && !at.contains("prometheus.yml"));
            files
        };
        let harmless = Case {
            label: "x".to_owned(),
            tags: Vec::new(),
            args: vec!["/bin/check".to_owned()],
            path: "/metrics".to_owned(),
            ..case.clone()
        };
        prop_assert_eq!(of(&case), of(&harmless));
    }

    /// Both filters alone, for templates of the user's, which may quote anything by them.
    #[test]
    fn quoted_values_read_back(text in text()) {
        let json = json_value(&Value::String(text.clone()));
        prop_assert!(!json.contains("{{") && !json.chars().any(|c| c.is_control()), "{}", json);
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
        prop_assert_eq!(serde_yaml_ng::from_str::<String>(&json).unwrap(), text.clone());
        let in_a_list = serde_yaml_ng::from_str::<Yaml>(&format!("a:\n  - b: [{json}]\n")).unwrap();
        prop_assert_eq!(in_a_list["a"][0]["b"][0].as_str().unwrap(), text.as_str());
        let without_nul = text.replace('\0', "");
        let word = systemd_word(&without_nul);
        let line = format!("/bin/x {word} y");
        let read: Vec<String> = words(&line).iter().map(|word| literal(word)).collect();
        prop_assert_eq!(read, vec!["/bin/x".to_owned(), without_nul, "y".to_owned()]);
    }
}

/// What Consul before 1.0 does with a check: it gives the text to a shell.
#[test]
fn shells_run_a_check_with_its_arguments_as_they_were_written() {
    let mut runner = TestRunner::deterministic();
    let texts = proptest::collection::vec(plain(), 1..4);
    let spec = Spec { versions: Preset::Classic.versions(), ..spec() };
    for round in 0..150 {
        let args = texts.new_tree(&mut runner).unwrap().current();
        let mut service = service("web");
        service.check = Some(ServiceCheck {
            kind: CheckKind::Args([vec!["/usr/bin/printf".to_owned(), "%s\\0".to_owned()], args.clone()].concat()),
            interval: Span::from_secs(10),
            timeout: Span::from_secs(5),
        });
        let spec = Spec { services: vec![service], ..spec.clone() };
        let files = render(&spec, &subject(Role::Node, None, Init::Systemd));
        let json: Json = serde_json::from_str(&files["/etc/consul.d/service-web.json"]).unwrap();
        let script = json["services"][0]["check"]["script"].as_str().unwrap();
        for shell in [&["dash"][..], &["busybox", "sh"]] {
            let ran = Command::new(shell[0]).args(&shell[1..]).args(["-c", script]).output();
            let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", shell[0]));
            let said = String::from_utf8(ran.stdout).unwrap();
            let said: Vec<&str> = said.strip_suffix('\0').unwrap_or_default().split('\0').collect();
            assert_eq!(said, args, "{shell:?} in round {round} with {script}");
        }
    }
}
