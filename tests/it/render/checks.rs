//! `render --check`: rendered files, judged by the real programs. They are in the cache once scripts/programs has run, the
//! older ones with `--older`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{folder, render};
use crate::support::{Answer, answer, binary, put_program};

/// With no program but what `path` has.
fn without_programs(dir: &Path, args: &[&str], path: &Path) -> Answer {
    let mut command = binary();
    command.current_dir(dir).arg("render").args(args);
    command.env("CLUSTERCTL_CACHE_DIR", dir.join("cache")).env("PATH", path);
    answer(command)
}

/// A spec in `dir` with these templates in place of ours.
fn with_templates(dir: &Path, templates: &[(&str, String)]) {
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\ntemplates = \"mine\"\n";
    fs::write(dir.join("cluster.toml"), text).unwrap();
    for (name, text) in templates {
        let path = dir.join("mine").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// One of our templates with a change in it.
fn spoilt(name: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name)).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    text.replacen(from, to, 1)
}

/// Every check ran and was passed. The programs are in the cache once scripts/programs has run.
#[track_caller]
fn all_pass(dir: &Path, args: &[&str]) -> Vec<String> {
    let mut all = vec!["--check", "--output", "json"];
    all.extend(args);
    let answer = render(dir, &all).expect(0);
    let checks = answer.json()["checks"].as_array().unwrap().clone();
    for check in &checks {
        assert!(check["result"] == "passed" && check["complaints"].is_null(), "{args:?}: {check}\n{}", answer.stderr);
    }
    checks
        .iter()
        .map(|check| format!("{} {}", check["role"].as_str().unwrap(), check["title"].as_str().unwrap()))
        .collect()
}

#[test]
fn current_passes_every_check_with_both_discoveries() {
    let titles = all_pass(folder().path(), &[]);
    for title in ["server consul validate", "server promtool check config", "node systemd-analyze verify"] {
        assert!(titles.iter().any(|it| it == title), "{title}: {titles:?}");
    }
    let titles = all_pass(folder().path(), &["--discovery", "consul-template"]);
    for title in [
        "server consul-template -once -dry, two hosts in Consul",
        "server promtool check config of what is rendered with two hosts in Consul",
        "server sh -n /usr/local/lib/clusterctl/reload-prometheus",
    ] {
        assert!(titles.iter().any(|it| it == title), "{title}: {titles:?}");
    }
}

#[test]
fn a_whole_spec_passes_every_check() {
    let dir = folder();
    let text = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n\
                [alertmanager]\nwebhooks = [\"https://alerts.example/hook?a=%22\"]\n\
                [prometheus]\nexternal_labels = { a = \"x: 'y' $z {{ q }} #\" }\n\
                [[service]]\nname = \"web\"\nport = 80\nroles = [\"server\", \"node\"]\n\
                check = { args = [\"/bin/echo\", \"a b\"] }\nmetrics = { path = \"/m\", port = 81 }\n";
    fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let titles = all_pass(dir.path(), &["--discovery", "consul-template"]);
    assert!(titles.iter().any(|it| it == "server amtool check-config"), "{titles:?}");
}

#[test]
fn upstart_passes_every_check() {
    let titles = all_pass(folder().path(), &["--init", "upstart-0.6.5"]);
    assert!(titles.iter().any(|it| it == "server Upstart 0.6.5 /etc/init/consul.conf"), "{titles:?}");
    all_pass(folder().path(), &["--init", "upstart", "--discovery", "consul-template"]);
}

/// `scripts/programs --older` puts them into the cache.
#[test]
fn a_mixture_of_versions_passes_every_check() {
    let versions = ["--use", "consul=1.8.7", "--use", "prometheus=2.42.0", "--use", "node_exporter=1.5.0"];
    all_pass(folder().path(), &versions);
    let mut by_template = versions.to_vec();
    by_template.extend(["--discovery", "consul-template", "--use", "consul-template=0.10.0"]);
    all_pass(folder().path(), &by_template);
}

#[test]
fn classic_passes_what_can_run_and_says_what_cannot() {
    let answer = render(folder().path(), &["--preset", "classic", "--check", "--output", "json"]).expect(0);
    let document = answer.json();
    let checks = document["checks"].as_array().unwrap();
    let result = |title: &str| checks.iter().find(|check| check["title"] == title).map(|check| check["result"].clone());
    assert_eq!(result("Upstart 0.6.5 /etc/init/prometheus.conf"), Some("passed".into()));
    assert_eq!(result("sh -n /usr/local/lib/clusterctl/find-leader"), Some("passed".into()));
    // Nothing reads these files but Prometheus itself.
    assert_eq!(result("promtool"), Some("not-run".into()));
    assert!(checks.iter().all(|check| check["result"] != "failed"), "{answer}");
    assert!(answer.stderr.contains("Prometheus 0.14.0 comes without promtool"), "{answer}");
}

#[test]
fn a_version_that_reads_the_same_may_judge_and_it_is_said() {
    let answer = render(folder().path(), &["--check", "--role", "node", "--use", "consul=1.22.1"]).expect(0);
    assert!(
        answer.stderr.contains("consul validate was run by consul 1.22.7, which reads the same as 1.22.1"),
        "{answer}"
    );
}

#[test]
fn without_programs_nothing_fails_and_each_missing_one_is_named() {
    let (dir, empty) = (folder(), folder());
    let answer = without_programs(dir.path(), &["--check"], empty.path()).expect(0);
    for part in [
        "consul validate could not run: consul 1.22.7 is neither in the cache nor on PATH",
        "promtool check config could not run: promtool 3.13.3 is neither in the cache nor on PATH",
        "systemd-analyze verify could not run: systemd-analyze is not on PATH",
    ] {
        assert!(answer.stderr.contains(part), "{part}\n{answer}");
    }
}

#[test]
fn a_program_on_path_judges_where_the_cache_has_none() {
    let (dir, bin) = (folder(), folder());
    let consul = cached("consul/1.22.7", "consul.gz");
    let to = bin.path().join("consul");
    let mut program = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(consul).unwrap()).read_to_end(&mut program).unwrap();
    put_program(&to, program);
    let answer = without_programs(dir.path(), &["--check", "--role", "node", "--output", "json"], bin.path()).expect(0);
    let document = answer.json();
    let consul = document["checks"].as_array().unwrap().iter().find(|check| check["title"] == "consul validate");
    assert_eq!(consul.unwrap()["result"], "passed", "{answer}");
}

/// A file that scripts/programs put into the cache.
fn cached(program: &str, file: &str) -> PathBuf {
    let cache = match (std::env::var_os("CLUSTERCTL_CACHE_DIR"), std::env::var_os("XDG_CACHE_HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(folder)) => PathBuf::from(folder).join("clusterctl"),
        (None, None) => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/clusterctl"),
    };
    let arch = clusterctl::model::artifact::Arch::from_machine(std::env::consts::ARCH).unwrap();
    let path = cache.join("artifacts").join(program).join(arch.as_str()).join(file);
    assert!(path.exists(), "{} is not there: run scripts/programs", path.display());
    path
}

/// The checks are worth something: each program refuses what it should, in its own words.
#[test]
fn a_spoilt_template_fails_with_the_programs_words() {
    let cases: [(&str, &str, &str, &[&str], &str); 6] = [
        ("consul/agent.json", "\"data_dir\"", "\"data_dri\"", &[], "data_dri"),
        (
            "consul/agent.json",
            "\"log_level\"",
            "\"a\": 1, \"log_level\"",
            &["--use", "consul=1.8.7"],
            "invalid config key a",
        ),
        ("prometheus/prometheus.yml", "scrape_interval", "scrape_intervall", &[], "field scrape_intervall not found"),
        ("prometheus/cluster.rules.yml", "expr: up == 0", "expr: up ==", &[], "parse error"),
        (
            "systemd/consul.service",
            "ExecStart={{ program",
            "ExecStart=/does/not/exist {{ program",
            &[],
            "/does/not/exist",
        ),
        (
            "consul-template/reload-prometheus.sh",
            "refuse() {",
            "refuse() { (",
            &["--discovery", "consul-template"],
            "yntax error",
        ),
    ];
    for (name, from, to, args, words) in cases {
        let dir = folder();
        with_templates(dir.path(), &[(name, spoilt(name, from, to))]);
        let mut all = vec!["--check", "--out", "image"];
        all.extend(args);
        let answer = render(dir.path(), &all).expect(1);
        assert!(answer.stderr.contains(words), "{name}: {answer}");
        assert!(!dir.path().join("image").exists(), "{name}: spoilt files were written");
    }
}

#[test]
fn what_consul_template_makes_is_judged_too() {
    let template = "prometheus/prometheus.yml";
    for (from, to, words) in [
        ("{{range service", "{{range servise", "function \"servise\" not defined"),
        (
            "          instance: {{printf \"%q\" .Node}}",
            "          instance {{printf \"%q\" .Node}}",
            "mapping values are not allowed",
        ),
    ] {
        let dir = folder();
        with_templates(dir.path(), &[(template, spoilt(template, from, to))]);
        let answer = render(dir.path(), &["--check", "--role", "server", "--discovery", "consul-template"]).expect(1);
        assert!(answer.stderr.contains(words), "{words}: {answer}");
    }
}

/// Upstart itself would only say "Unknown job".
#[test]
fn a_spoilt_upstart_job_is_refused() {
    let dir = folder();
    let job = "# {{ cluster }}\ndescription \"mine\"\nstart onn runlevel [2345]\nexec {{ program | sh }}\n";
    with_templates(dir.path(), &[("upstart/node_exporter.conf", job.to_owned())]);
    let answer = render(dir.path(), &["--init", "upstart"]).expect(1);
    assert!(answer.stderr.contains("upstart/node_exporter.conf") && answer.stderr.contains("line 3"), "{answer}");
}

/// A job's scripts are the shell's to read.
#[test]
fn a_spoilt_script_in_an_upstart_job_fails() {
    let dir = folder();
    let job = "# {{ cluster }}\ndescription \"mine\"\nstart on runlevel [2345]\nscript\n    if true; do\nend script\n";
    with_templates(dir.path(), &[("upstart/node_exporter.conf", job.to_owned())]);
    let answer = render(dir.path(), &["--init", "upstart", "--check", "--role", "node"]).expect(1);
    assert!(answer.stderr.contains("sh -n /etc/init/node_exporter.conf, script 1"), "{answer}");
}

/// What only a real Consul knows cannot be tried here; nothing is said to be wrong with it.
#[test]
fn a_template_that_asks_for_more_than_there_is_could_not_be_tried() {
    let dir = folder();
    let template = "prometheus/prometheus.yml";
    let asks = "  - job_name: node\n    scheme: {% raw %}{{key \"scheme\"}}{% endraw %}";
    with_templates(dir.path(), &[(template, spoilt(template, "  - job_name: node", asks))]);
    let args = ["--check", "--role", "server", "--discovery", "consul-template", "--output", "json"];
    let answer = render(dir.path(), &args).expect(0);
    let document = answer.json();
    let checks = document["checks"].as_array().unwrap();
    let tried: Vec<_> = checks.iter().filter(|it| it["title"].as_str().unwrap().contains("-once")).collect();
    assert!(tried.iter().all(|check| check["result"] == "not-run"), "{answer}");
}
