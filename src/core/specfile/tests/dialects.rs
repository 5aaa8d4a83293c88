//! The keys that choose between dialects, and what cannot work together.

use super::*;
use crate::model::spec::{AlertmanagerSpec, Discovery, Join};

fn parsed(text: &str) -> crate::model::spec::Spec {
    parse(text, "cluster.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn service(name: &str, text: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nport = 80\n{text}\n")
}

#[test]
fn a_preset_names_all_versions_and_a_version_beside_it_counts_for_itself() {
    let spec = parsed(&sandbox("[versions]\npreset = \"classic\""));
    assert_eq!(spec.versions, Preset::Classic.versions());
    assert_eq!(spec.prometheus.discovery, Discovery::ConsulTemplate);
    let text = "[versions]\npreset = \"classic\"\nprometheus = \"1.8.2\"\nconsul_template = \"0.19.0\"\n";
    let spec = parsed(&sandbox(&format!("{text}[prometheus]\ndiscovery = \"consul-sd\"")));
    let [prometheus, template] = ["1.8.2", "0.19.0"].map(|text| text.parse().unwrap());
    assert_eq!((&spec.versions.prometheus, &spec.versions.consul_template), (&prometheus, &template));
    assert_eq!(spec.versions.consul, Preset::Classic.versions().consul);
    assert_eq!(spec.prometheus.discovery, Discovery::ConsulSd);
    assert_eq!(parsed(&sandbox("[versions]\npreset = \"current\"")), parsed(&sandbox("")));
    let spec = parsed(&sandbox("[prometheus]\ndiscovery = \"consul-template\""));
    assert_eq!(spec.prometheus.discovery, Discovery::ConsulTemplate);
}

#[test]
fn an_alertmanager_is_there_where_its_table_is() {
    assert_eq!(parsed(&sandbox("")).alertmanager, None);
    let none = AlertmanagerSpec { webhooks: Vec::new() };
    assert_eq!(parsed(&sandbox("[alertmanager]")).alertmanager, Some(none));
    let urls = ["http://[fd00::1]:80/a?b=%20c#d", "https://me:it's@x.example"];
    let spec = parsed(&sandbox(&format!("[alertmanager]\nwebhooks = {urls:?}")));
    assert_eq!(spec.alertmanager.unwrap().webhooks, urls);
}

#[test]
fn agents_join_by_tag_on_ec2_only() {
    let ec2 = |join: &str| {
        let cluster = format!("[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n{join}");
        parsed(&format!("{cluster}\n[ec2]\nssh_from = [\"203.0.113.7\"]"))
    };
    assert_eq!(ec2("join = \"tag\"").join, Join::Tag);
    assert_eq!(ec2("join = \"addresses\"").join, Join::Addresses);
    assert_eq!(ec2("").join, Join::Addresses);
}

#[test]
fn a_service_is_skipped_while_unhealthy_where_it_says_so() {
    let of = |metrics: &str| {
        let spec = parsed(&sandbox(&service("web", &format!("metrics = {{ {metrics} }}"))));
        spec.services[0].metrics.as_ref().unwrap().unhealthy
    };
    assert!(of("") && of("unhealthy = \"scrape\"") && !of("unhealthy = \"skip\""));
}

#[test]
fn mistakes_in_what_chooses_a_dialect() {
    insta::assert_snapshot!(all(&[
        ("a preset that is none", sandbox("[versions]\npreset = \"clasic\"")),
        ("older than all", sandbox("[versions]\nconsul_template = \"0.9.0\"\nalertmanager = \"0.15.3\"")),
        ("a program that has no version here", sandbox("[versions]\npushgateway = \"1.0.0\"")),
        ("a discovery that is none", sandbox("[prometheus]\ndiscovery = \"consul\"")),
        ("a way to join that is none", sandbox("join = \"tags\"")),
        ("a tag where there are none", sandbox("join = \"tag\"")),
        ("metrics of the unhealthy", sandbox(&service("web", "metrics = { unhealthy = \"drop\" }"))),
        (
            "webhooks",
            sandbox(
                "[alertmanager]\nwebhooks = [\"ftp://x\", \"https://\", \"https://:80/\", \"https://me@/\",\n\"http://x/a b\", \
                 \"http://x/{{\", \"http://x/%2\", \"http://ü/\", 3]\nwebhook = \"\""
            )
        ),
        ("a check of no URL", sandbox(&service("web", "check = { http = \"http://x/ü\" }"))),
        ("a long label", sandbox(&format!("[prometheus]\nexternal_labels = {{ {} = \"\" }}", "a".repeat(101)))),
    ]));
}

#[test]
fn conflicts() {
    let classic = |more: &str| sandbox(&format!("[versions]\npreset = \"classic\"\n{more}"));
    let skip = "metrics = { unhealthy = \"skip\" }";
    insta::assert_snapshot!(all(&[
        ("a tcp check", classic(&service("web", "check = { tcp = \"127.0.0.1:80\" }"))),
        ("a digit first", classic(&(service("web", "") + &service("2nd", "metrics = {}")))),
        ("health", classic(&format!("[prometheus]\ndiscovery = \"consul-sd\"\n{}", service("web", skip)))),
        ("part of a second", classic("[prometheus]\nscrape_interval = \"1500ms\"")),
        ("an Alertmanager", classic("[alertmanager]")),
        ("two of them", sandbox("[versions]\nprometheus = \"2.10.0\"\nalertmanager = \"0.27.0\"\n[alertmanager]\n")),
        ("one of them by default", sandbox("[versions]\nprometheus = \"1.8.2\"\n[alertmanager]\n")),
        (
            "several at once",
            classic(&format!("[alertmanager]\n[prometheus]\nscrape_interval = \"500ms\"\n{}", {
                service("2nd", "metrics = {}\ncheck = { tcp = \"x:1\" }")
            }))
        ),
    ]));
}

/// Just beyond each bound nothing is refused.
#[test]
fn what_a_cure_says_is_taken() {
    let skip = service("web", "metrics = { unhealthy = \"skip\" }");
    for text in [
        format!("[versions]\npreset = \"classic\"\nconsul = \"0.6.0\"\n{}", service("a", "check = { tcp = \"x:1\" }")),
        format!("[versions]\npreset = \"classic\"\n{}", service("web-2", "metrics = {}")),
        format!("[versions]\npreset = \"classic\"\n{}", service("2nd", "")),
        format!("[versions]\npreset = \"classic\"\n{skip}"),
        format!("[versions]\nprometheus = \"2.17.0\"\n{skip}"),
        "[versions]\npreset = \"classic\"\n[prometheus]\nscrape_interval = \"1s\"".to_owned(),
        "[versions]\nprometheus = \"1.4.0\"\nalertmanager = \"0.26.0\"\n[alertmanager]".to_owned(),
        "[versions]\nprometheus = \"2.11.0\"\n[alertmanager]".to_owned(),
    ] {
        parsed(&sandbox(&text));
    }
}
