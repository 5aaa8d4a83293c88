//! The EC2 lab for a test: EC2's API with real hosts behind it, and the binary run against it as an operator
//! with an account would run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::support::{Answer, answer, binary, is_root};

pub struct Lab {
    name: String,
    environment: Vec<(String, String)>,
    /// As this address the hosts see the operator.
    operator: String,
    pub dir: TempDir,
}

fn script(args: &[&str]) -> Answer {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/ec2-lab"));
    command.args(args).stdin(Stdio::null());
    answer(command)
}

impl Lab {
    /// A lab of this test's own; what an earlier run of the same test left is removed first.
    pub fn start(name: &str) -> Self {
        assert!(is_root(), "this test boots real hosts: run it as root (scripts/test does)");
        script(&["down", "--name", name]).expect(0);
        let up = script(&["up", "--name", name, "--output", "json"]).expect(0).json();
        let mut environment: Vec<(String, String)> =
            up.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
        let at = environment.iter().position(|(key, _)| key == "operator").unwrap();
        let operator = environment.remove(at).1;
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        Self { name: name.to_owned(), environment, operator, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a spec; `ec2` is what else stands in its [ec2], `more` what comes after.
    pub fn spec(&self, cluster: &str, ec2: &str, more: &str) -> PathBuf {
        let path = self.path(&format!("{cluster}.toml"));
        let text = format!(
            "[cluster]\nname = \"{cluster}\"\nprovider = \"ec2\"\n[ssh]\nkey = \"key\"\n\
             [ec2]\nssh_from = [\"{}/32\"]\n{ec2}\n{more}",
            self.operator
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with the lab's account, and nothing of the user's own.
    pub fn command(&self, args: &[&str]) -> Command {
        let cache = std::env::var_os("CLUSTERCTL_CACHE_DIR").map_or_else(
            || {
                let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
                base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"))
                    .join("clusterctl")
            },
            PathBuf::from,
        );
        let mut command = binary();
        command.envs(self.environment.iter().map(|(k, v)| (k, v))).env("HOME", self.dir.path());
        command.env("CLUSTERCTL_CACHE_DIR", cache).env("CLUSTERCTL_STATE_DIR", self.path("state"));
        command.env_remove("XDG_CACHE_HOME").env_remove("SSH_AUTH_SOCK").env_remove("AWS_PROFILE");
        command.current_dir(self.dir.path()).args(args);
        command
    }

    /// `clusterctl VERB … -f SPEC --yes`.
    pub fn run(&self, spec: &Path, args: &[&str]) -> Answer {
        answer(self.command(&with_spec(spec, args)))
    }

    /// What a program needs to act in the lab's account.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Asks the lab itself.
    pub fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        let endpoint = &self.environment.iter().find(|(key, _)| key == "AWS_ENDPOINT_URL").unwrap().1;
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--noproxy", "*", "--max-time", "60", "-X", method]);
        if !body.is_null() {
            curl.args(["-H", "content-type: application/json", "--data-binary", &body.to_string()]);
        }
        curl.arg(format!("{endpoint}/lab/{path}"));
        answer(curl).expect(0).json()
    }

    pub fn faults(&self, rules: &Json) {
        self.ask("PUT", "faults", rules);
    }

    /// All calls since they were cleared last.
    pub fn calls(&self) -> Vec<Json> {
        self.ask("GET", "calls", &Json::Null).as_array().unwrap().clone()
    }

    /// A call to the account that is none of clusterctl's: what somebody does by hand. One action of EC2's query
    /// protocol with its parameters; the answer is XML.
    pub fn aws(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let endpoint = &self.environment.iter().find(|(key, _)| key == "AWS_ENDPOINT_URL").unwrap().1;
        query(endpoint, service, action, parameters)
    }

    /// What the account holds of the cluster, in words; empty when it holds nothing.
    pub fn holds(&self, cluster: &str) -> Vec<String> {
        let tag = [("Filter.1.Name", "tag:clusterctl:cluster"), ("Filter.1.Value.1", cluster)];
        let mut found = Vec::new();
        let alive = [("Filter.2.Name", "instance-state-name"), ("Filter.2.Value.1", "pending")];
        let more = [("Filter.2.Value.2", "running"), ("Filter.2.Value.3", "stopping"), ("Filter.2.Value.4", "stopped")];
        let instances = [tag.as_slice(), alive.as_slice(), more.as_slice()].concat();
        for (action, parameters, field) in [
            ("DescribeInstances", instances.as_slice(), "instanceId"),
            ("DescribeSecurityGroups", tag.as_slice(), "groupName"),
            ("DescribeKeyPairs", tag.as_slice(), "keyName"),
            ("DescribeLaunchTemplates", tag.as_slice(), "launchTemplateName"),
        ] {
            found.extend(fields(&self.aws("ec2", action, parameters), field));
        }
        let groups = fields(&self.aws("autoscaling", "DescribeAutoScalingGroups", &[]), "AutoScalingGroupName");
        found.extend(groups.into_iter().filter(|group| *group == format!("clusterctl-{cluster}")));
        let name = format!("clusterctl-{cluster}-");
        for (action, field) in [("ListRoles", "RoleName"), ("ListInstanceProfiles", "InstanceProfileName")] {
            found.extend(fields(&self.aws("iam", action, &[]), field).into_iter().filter(|n| n.starts_with(&name)));
        }
        found.sort();
        found
    }

    /// The ids of the cluster's instances in this state.
    pub fn instances(&self, cluster: &str, state: &str) -> Vec<String> {
        let parameters = [
            ("Filter.1.Name", "tag:clusterctl:cluster"),
            ("Filter.1.Value.1", cluster),
            ("Filter.2.Name", "instance-state-name"),
            ("Filter.2.Value.1", state),
        ];
        fields(&self.aws("ec2", "DescribeInstances", &parameters), "instanceId")
    }
}

/// One action of EC2's query protocol; the answer is XML.
pub fn query(endpoint: &str, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    let version = match service {
        "iam" => "2010-05-08",
        "autoscaling" => "2011-01-01",
        _ => "2016-11-15",
    };
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "--noproxy", "*", "--max-time", "30"]);
    let credential = format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    );
    curl.args(["-H", &credential]);
    for (key, value) in [("Action", action), ("Version", version)].iter().chain(parameters) {
        curl.arg("--data-urlencode").arg(format!("{key}={value}"));
    }
    curl.arg(format!("{endpoint}/"));
    answer(curl).expect(0).stdout
}

/// The AWS CLI and moto, as the lab has them.
pub fn programs() -> PathBuf {
    PathBuf::from(script(&["programs"]).expect(0).stdout.trim_end())
}

pub fn with_spec<'a>(spec: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    let mut all = args.to_vec();
    let at = all.iter().position(|arg| *arg == "--").unwrap_or(all.len());
    all.splice(at..at, ["--yes", "-f", spec.to_str().unwrap()]);
    all
}

/// The texts of all elements of this name, each once, in order.
pub fn fields(xml: &str, name: &str) -> Vec<String> {
    let pattern = format!("<{name}>([^<]*)</{name}>");
    let mut found: Vec<String> =
        regex::Regex::new(&pattern).unwrap().captures_iter(xml).map(|found| found[1].to_owned()).collect();
    found.sort();
    found.dedup();
    found
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = script(&["down", "--name", &self.name]);
        if !std::thread::panicking() {
            assert_eq!(down.status, 0, "{down}");
        }
    }
}
