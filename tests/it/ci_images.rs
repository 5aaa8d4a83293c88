//! The files of docs/ci that build images and roll the fleet: what they promise, and that each of their commands is one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::Parser as _;
use clusterctl::cli::Cli;

use crate::ci::{document, yaml};

/// The strict reader that Terraform's modules are read by; Packer's language is the same.
#[path = "../../src/core/terraform/tests/hcl.rs"]
mod hcl;

use hcl::{Body, Token, string};

const FILES: [&str; 4] = ["github-images.yml", "gitlab-images.yml", "Jenkinsfile.images", "README.md"];

fn commands(text: &str) -> Vec<String> {
    let pattern = regex::Regex::new(r"(?m)^\s*(?:- )?(clusterctl (?:ami|fleet) [^>|\n]*)").unwrap();
    pattern.captures_iter(text).map(|found| found[1].trim().to_owned()).collect()
}

fn understood(line: &str) {
    let words = shlex::split(line).unwrap();
    if let Err(error) = Cli::try_parse_from(&words) {
        panic!("{line}: {error}");
    }
}

#[test]
fn every_pipeline_says_the_same() {
    let wanted = commands(&document("README.md"));
    assert_eq!(wanted.len(), 2, "{wanted:?}");
    for file in FILES {
        let text = document(file);
        assert_eq!(commands(&text), wanted, "{file}");
        for junit in ["reports/ami.xml > ami.json", "reports/roll.xml > roll.json"] {
            assert!(text.contains(junit), "{file}");
        }
    }
}

#[test]
fn every_command_of_images_and_fleets_is_understood() {
    for line in commands(&document("README.md")) {
        understood(&line);
    }
}

/// Minutes that a job may take, and what its commands take at most.
fn minutes(text: &str) -> u64 {
    let number = |part: &str| part.trim_end_matches('m').parse::<u64>().unwrap();
    let pattern = regex::Regex::new(r"--timeout (\d+m)").unwrap();
    pattern.captures_iter(text).map(|found| number(&found[1])).sum()
}

#[test]
fn what_the_image_files_promise() {
    let workflow = yaml("github-images.yml");
    assert_eq!(workflow["permissions"]["id-token"], "write");
    assert_eq!(workflow["concurrency"], yaml("github-actions.yml")["concurrency"]);
    assert!(workflow["on"]["schedule"][0]["cron"].is_string() && workflow["on"]["push"]["paths"].is_sequence());
    let job = &workflow["jobs"]["image"];
    let steps = job["steps"].as_sequence().unwrap();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(job["timeout-minutes"].as_u64().unwrap() > minutes(&scripts.concat()));
    let credentials = steps.iter().find(|step| step["with"]["role-to-assume"].is_string()).unwrap();
    let lives = credentials["with"]["role-duration-seconds"].as_u64().unwrap();
    assert!(lives > 60 * minutes(&scripts.concat()), "the credentials end before the commands do");
    // Both fetch clusterctl alike.
    let fetch = |file: &str, job: &str| {
        let steps = yaml(file)["jobs"][job]["steps"].as_sequence().unwrap().clone();
        steps.into_iter().find(|step| step["name"] == "clusterctl and its key").unwrap()
    };
    assert_eq!(fetch("github-images.yml", "image"), fetch("github-actions.yml", "cluster"));
    let pipeline = yaml("gitlab-images.yml");
    for (job, stage) in [("image", "image"), ("roll", "roll")] {
        let job = &pipeline[job];
        assert_eq!((job["extends"].as_str(), job["stage"].as_str()), (Some(".clusterctl"), Some(stage)));
        let script = job["script"][0].as_str().unwrap();
        let limit: u64 = job["timeout"].as_str().unwrap().trim_end_matches('m').parse().unwrap();
        assert!(limit > minutes(script), "{script}");
    }
    assert_eq!(pipeline["image"]["rules"], pipeline["roll"]["rules"]);
    let jenkins = document("Jenkinsfile.images");
    assert!(jenkins.contains("cron(") && jenkins.contains("time: 150"));
    let sh = regex::Regex::new(r"(?s)\bsh '''(.*?)'''").unwrap();
    let of_jenkins: Vec<String> = sh.captures_iter(&jenkins).map(|found| found[1].to_owned()).collect();
    assert_eq!(of_jenkins.len(), 2);
    for script in scripts.into_iter().chain(of_jenkins.iter().map(String::as_str)) {
        let mut child = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{script}");
    }
}

fn packer() -> Body {
    hcl::read(&document("packer.pkr.hcl")).unwrap()
}

/// The shell lines that Packer runs on the builder.
fn inline() -> Vec<String> {
    let module = packer();
    let shell = module.block("build", &[]).body.block("provisioner", &["shell"]).body.clone();
    let text = |token: &Token| string(std::slice::from_ref(token)).map(str::to_owned);
    shell.get("inline").unwrap().iter().filter_map(text).collect()
}

/// Against <https://developer.hashicorp.com/packer/integrations/hashicorp/amazon/latest/components/builder/ebs>.
#[test]
fn packers_file_has_what_packer_takes() {
    let module = packer();
    let source = &module.block("source", &["amazon-ebs", "node"]).body;
    let known = "region instance_type ssh_username ami_name encrypt_boot imds_support tags";
    for (name, _) in &source.attributes {
        assert!(known.split(' ').any(|known| known == name), "{name}");
    }
    for needed in ["instance_type", "ssh_username", "ami_name"] {
        assert!(source.get(needed).is_some(), "{needed}");
    }
    assert_eq!(string(source.block("metadata_options", &[]).body.get("http_tokens").unwrap()), Some("required"));
    assert!(source.block("source_ami_filter", &[]).body.get("owners").is_some(), "an AMI of anybody's");
    let build = &module.block("build", &[]).body;
    let uploads: Vec<&str> = build
        .blocks
        .iter()
        .filter(|block| block.labels == ["file"])
        .map(|block| string(block.body.get("destination").unwrap()).unwrap())
        .collect();
    let lines = inline();
    for upload in uploads {
        assert!(
            lines.iter().any(|line| line.starts_with("rm -f ") && line.contains(upload)),
            "{upload} stays in the image"
        );
    }
    for variable in ["cluster", "spec", "clusterctl", "region", "instance_type"] {
        module.block("variable", &[variable]);
    }
    // What Packer makes of an image is no proof.
    let tags = source.get("tags").unwrap();
    assert!(!tags.iter().any(|token| matches!(token, Token::Text(text, _) if text == "clusterctl:proved")));
}

#[test]
fn what_packer_runs_is_understood() {
    let line = inline().into_iter().find(|line| line.starts_with("/tmp/clusterctl ")).unwrap();
    assert!(line.contains(" ami provision --local --role node --seal "), "{line}");
    understood(&line);
}
