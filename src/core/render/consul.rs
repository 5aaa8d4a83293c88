//! Consul: the agent's configuration, the services' definitions, the unit, and how the agent finds the servers.

use std::net::IpAddr;

use serde_json::json;

use super::context::{Values, node_exporter_service, runs_on, servers_expected, service_context};
use super::place::{config, dir, path, plain_file, program_path, script_path, unit, user};
use super::{Making, RenderError, Unit};
use crate::core::dialect::Capability;
use crate::model::ec2::tag::{CLUSTER, LEADER, LEADS};
use crate::model::file::{Check, Reaction, Word};
use crate::model::spec::{Join, ProviderSpec};
use crate::model::version::Program;

/// How an agent finds the servers.
pub(super) struct Joining {
    /// `retry_join` in the configuration.
    pub retry_join: Vec<String>,
    /// The agent starts behind a script that finds them.
    pub by_script: bool,
}

impl Making<'_> {
    pub(super) fn consul(&mut self) -> Result<(), RenderError> {
        let unit = unit("consul");
        self.wanted.users.push(user("consul", "/var/lib/consul"));
        self.wanted.dirs.push(dir("/etc/consul.d", 0o750, "root", "consul"));
        self.wanted.dirs.push(dir("/var/lib/consul", 0o750, "consul", "consul"));
        self.programs(Program::Consul, &unit)?;

        let joining = self.joining();
        let notify = self.dialect.has(Capability::ReadyNotification);
        // READY comes after a join: only a server that finds itself there waits for no other.
        let notify = notify && self.subject.role.is_server() && !self.subject.servers.is_empty();
        let at_boot = self.spec.join == Join::Boot;
        let find_leader = self.join_script(&joining)?;
        // Where the host is told when it boots, that script calls this one.
        let join_script = if at_boot { String::new() } else { find_leader };
        let boot_script = self.boot_script(&joining)?;
        // A node of an image that is shut down is gone for good, and the cluster is to know that at once.
        let leaves = at_boot && !self.subject.role.is_server();
        let of_unit = vec![
            ("notify", json!(notify)),
            ("join_script", json!(join_script)),
            ("boot_script", json!(boot_script)),
            ("leaves", json!(leaves)),
        ];

        let values = vec![("retry_join", json!(joining.retry_join)), ("leaves", json!(leaves))];
        let agent = self.text("consul/agent.json", values)?;
        self.wanted.files.push(config("/etc/consul.d/consul.json", agent, "consul", &unit, Reaction::Restart));
        let readme = self.text("consul/readme.txt", Values::new())?;
        self.wanted.files.push(plain_file(path("/etc/consul.d/readme.txt"), 0o640, "root", "consul", readme));
        let args = vec!["agent".to_owned(), "-config-dir=/etc/consul.d".to_owned()];
        self.unit_file(Unit { name: "consul", program: Program::Consul, user: "consul", args }, of_unit)?;
        self.services()?;
        self.wanted.checks.push(self.consul_check());
        Ok(())
    }

    fn services(&mut self) -> Result<(), RenderError> {
        let mut definitions = vec![("node-exporter".to_owned(), node_exporter_service(self.subject))];
        for service in self.spec.services.iter().filter(|service| runs_on(service, self.subject)) {
            definitions.push((service.name.to_string(), service_context(service, self.dialect)));
        }
        for (name, definition) in definitions {
            let text = self.text("consul/service.json", vec![("service", json!(definition))])?;
            let at = format!("/etc/consul.d/service-{name}.json");
            self.wanted.files.push(config(&at, text, "consul", &unit("consul"), Reaction::Reload));
        }
        Ok(())
    }

    fn joining(&self) -> Joining {
        let mut joining = self.finding();
        if self.minds_a_fleet() && !joining.by_script && self.spec.join != Join::Boot && self.asks_ec2() {
            // The nodes of a fleet know the servers that there were when they booted: a new one looks for them.
            joining.retry_join.push(self.find(CLUSTER, self.spec.cluster.as_str()));
        }
        joining
    }

    fn finding(&self) -> Joining {
        let brackets = !self.dialect.has(Capability::BareIpv6Join);
        let address = |address: &IpAddr| match address {
            IpAddr::V6(v6) if brackets => format!("[{v6}]"),
            other => other.to_string(),
        };
        let addresses = || self.subject.servers.iter().map(address).collect();
        if self.spec.join == Join::Addresses {
            return Joining { retry_join: addresses(), by_script: false };
        }
        // The only server has nobody to look for.
        if self.subject.role.is_server() && servers_expected(self.spec, self.subject) == 1 {
            return Joining { retry_join: addresses(), by_script: false };
        }
        if !self.asks_ec2() {
            return Joining { retry_join: Vec::new(), by_script: true };
        }
        let retry_join = match self.spec.join {
            // EC2 compares values letter by letter, and people write True as they like.
            Join::LeaderTag => ["True", "true", "TRUE"].map(|value| self.find(LEADER, value)).to_vec(),
            Join::Tag | Join::Addresses => vec![self.find(LEADS, self.spec.cluster.as_str())],
            // Stands in boot.json.
            Join::Boot => Vec::new(),
        };
        Joining { retry_join, by_script: false }
    }

    /// Can this Consul ask EC2 itself?
    fn asks_ec2(&self) -> bool {
        // Our instances answer nobody without a token; what others' do, nobody knows.
        let tokens = self.spec.join == Join::LeaderTag || self.dialect.has(Capability::MetadataTokens);
        self.dialect.has(Capability::RetryJoinAws) && tokens
    }

    /// The running instances with this tag.
    fn find(&self, key: &str, value: &str) -> String {
        let region = self.region().map(|region| format!(" region={region}")).unwrap_or_default();
        format!("provider=aws tag_key={key} tag_value={value}{region} addr_type=private_v4")
    }

    fn region(&self) -> Option<&str> {
        match &self.spec.provider {
            ProviderSpec::Ec2(ec2) => ec2.region.as_deref(),
            _ => None,
        }
    }

    /// The path of the script that finds the servers, where one does; it is installed then.
    fn join_script(&mut self, joining: &Joining) -> Result<String, RenderError> {
        if !joining.by_script {
            return Ok(String::new());
        }
        // An image may be copied to another region: its hosts ask where they are.
        let region = self.region().filter(|_| self.spec.join != Join::Boot).unwrap_or_default();
        let values = vec![("tag_key", json!(LEADER)), ("tag_value", json!("True")), ("region", json!(region))];
        let text = self.text("join/find-leader.sh", values)?;
        let at = script_path("find-leader");
        self.wanted.files.push(plain_file(at.clone(), 0o755, "root", "root", text));
        Ok(at.to_string())
    }

    fn consul_check(&self) -> Check {
        let program = Word::Program(program_path("consul"));
        let folder = path("/etc/consul.d");
        let plain = |word: &str| Word::Plain(word.to_owned());
        let (title, argv) = if self.dialect.has(Capability::ConsulValidate) {
            ("consul validate", vec![program, plain("validate"), Word::Shadow(folder.clone())])
        } else {
            let argv = vec![program, plain("configtest"), plain("-config-dir"), Word::Shadow(folder.clone())];
            ("consul configtest", argv)
        };
        Check { title: title.to_owned(), covers: vec![folder], argv, complaints: Vec::new() }
    }
}
