//! `clusterctl render --format terraform`: what it writes and refuses, and what Terraform itself says of the text where
//! it is in PATH. The AWS provider is not at hand: `core::terraform`'s own tests hold the module against its documentation.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Answer, answer, binary};

const WHOLE: &str = "[cluster]\nname = \"shop\"\nprovider = \"ec2\"\n[ec2]\nregion = \"eu-west-1\"\n\
                     ssh_from = [\"203.0.113.7\", \"2001:db8::/32\"]\nsecurity_groups = [\"sg-0123456789abcdef0\"]\n\
                     [ec2.tags]\nteam = \"shop\"\n\"cost centre\" = \"4711\"\nx = \"=\"\n\
                     [[service]]\nname = \"web\"\nport = 8080\nmetrics = {}\n";

fn run(dir: &Path, args: &[&str]) -> Answer {
    let mut command = binary();
    command.current_dir(dir).arg("render").args(args).env("HOME", dir);
    for (variable, folder) in [("CLUSTERCTL_STATE_DIR", "state"), ("CLUSTERCTL_CACHE_DIR", "cache")] {
        command.env(variable, dir.join(folder));
    }
    answer(command)
}

/// Terraform's answer; `None` where somebody said that there is no Terraform here.
fn terraform(dir: &Path, args: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("terraform");
    command.args(args).current_dir(dir).env("TF_CLI_CONFIG_FILE", "/dev/null").env("CHECKPOINT_DISABLE", "1");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(_) if std::env::var_os("CLUSTERCTL_WITHOUT_TERRAFORM").is_some() => return None,
        Err(error) => panic!("terraform: {error}: install it, or set CLUSTERCTL_WITHOUT_TERRAFORM"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

#[test]
fn the_module_is_written_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cluster.toml"), WHOLE).unwrap();
    let shown = run(dir.path(), &["--format", "terraform"]).expect(0);
    assert_eq!(shown.stderr, "");
    let json = run(dir.path(), &["--format", "terraform", "--output", "json"]).expect(0).json();
    assert_eq!((json["document"].as_str(), json["cluster"].as_str()), (Some("terraform"), Some("shop")));
    assert_eq!(json["main_tf"].as_str().unwrap(), shown.stdout);
    let written = run(dir.path(), &["--format", "terraform", "--out", "fleet"]).expect(0);
    assert_eq!(written.stdout, "main.tf\n");
    let file = dir.path().join("fleet/main.tf");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shown.stdout);
    // Terraform keeps things of its own in that folder.
    std::fs::write(dir.path().join("fleet/terraform.tfstate"), "{}").unwrap();
    let again = run(dir.path(), &["--format", "terraform", "--out", "fleet"]).expect(0);
    assert!(
        again.stderr.contains("0 new or changed") && dir.path().join("fleet/terraform.tfstate").exists(),
        "{again}"
    );
    // A cluster that is named is not the one whose spec lies here.
    let named = run(dir.path(), &["--format", "terraform", "--cluster", "other", "--region", "us-east-1"]).expect(0);
    assert!(named.stdout.contains("clusterctl-other-us-east-1") && !named.stdout.contains("shop"), "{named}");
}

#[test]
fn what_makes_no_module_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for flag in [&["--check"][..], &["--role", "node"], &["--use", "consul=1.8.7"], &["--join", "10.0.0.1"]] {
        let refused = run(dir.path(), &[&["--format", "terraform"], flag].concat()).expect(64);
        assert!(refused.stderr.contains(flag[0]) && refused.stdout.is_empty(), "{refused}");
    }
    let refused = run(dir.path(), &["--format", "terraform", "--region", "eu-west-1a"]).expect(64);
    assert!(refused.stderr.contains("is no region"), "{refused}");
    let sandbox = "[cluster]\nname = \"shop\"\nprovider = \"sandbox\"\n";
    std::fs::write(dir.path().join("cluster.toml"), sandbox).unwrap();
    let refused = run(dir.path(), &["--format", "terraform"]).expect(64);
    assert!(refused.stderr.contains("the spec's provider is \"sandbox\""), "{refused}");
}

#[test]
fn terraform_finds_nothing_to_format() {
    let dir = tempfile::tempdir().unwrap();
    let small = run(dir.path(), &["--format", "terraform"]).expect(0).stdout;
    std::fs::write(dir.path().join("cluster.toml"), WHOLE).unwrap();
    let whole = run(dir.path(), &["--format", "terraform"]).expect(0).stdout;
    let packer = crate::ci::document("packer.pkr.hcl");
    for text in [small, whole, packer] {
        let Some((fine, said)) = terraform(dir.path(), &["fmt", "-check", "-diff", "-"], &text) else { return };
        assert!(fine, "{said}\n{text}");
    }
}

/// The strings that we write, as Terraform itself reads them.
#[test]
fn terraform_reads_each_string_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut texts: Vec<String> = vec!["Größe \u{1f600}".into(), "\u{1}\u{85}\u{2028}\u{202e}\u{7f}\t\r\n".into()];
    // Every order of what opens a template, and of what escapes it.
    let parts = ["$", "%", "{", "}", "\\", "\"", "a"];
    for one in parts {
        for two in parts {
            texts.extend(
                parts.iter().flat_map(|three| [format!("{one}{two}{three}"), format!("{one}{one}{two}{three}{{x}}")]),
            );
        }
    }
    let list: Vec<String> = texts.iter().map(|text| clusterctl::core::render::hcl_string(text)).collect();
    std::fs::write(dir.path().join("main.tf"), format!("output \"x\" {{\n  value = [{}]\n}}\n", list.join(",\n")))
        .unwrap();
    let Some((fine, said)) = terraform(dir.path(), &["init", "-input=false"], "") else { return };
    assert!(fine, "{said}");
    let (fine, said) = terraform(dir.path(), &["apply", "-auto-approve", "-input=false"], "").unwrap();
    assert!(fine, "{said}");
    let (_, said) = terraform(dir.path(), &["output", "-json", "x"], "").unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(&said).unwrap(), texts);
}
