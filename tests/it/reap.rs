//! `reap`, which takes instances out of Consul that are gone: the script as it is rendered, in dash and in busybox, with
//! a `consul` and an `aws` that answer what the test says.

use std::fs;

use clusterctl::core::render::{Renderer, Subject, absent};
use clusterctl::core::templates::Overrides;
use clusterctl::model::ec2::Ec2Spec;
use clusterctl::model::file::FileSource;
use clusterctl::model::host::Role;
use clusterctl::model::init::Init;
use clusterctl::model::name::ClusterName;
use clusterctl::model::spec::{FleetSpec, ProviderSpec, Spec};

use crate::boot::{Machine, SHELLS, which};
use crate::moto::{Metadata, Service};
use crate::support::{Answer, answer};

fn rendered(consul: &str) -> String {
    let mut spec = Spec::ec2(ClusterName::new("shop").unwrap());
    spec.provider = ProviderSpec::Ec2(Box::<Ec2Spec>::default());
    spec.versions.consul = consul.parse().unwrap();
    spec.fleet = Some(FleetSpec::default());
    let subject = Subject { role: Role::Server, init: Init::Systemd, name: None, address: None, servers: Vec::new() };
    let wanted =
        Renderer::new(&Overrides::new()).unwrap().wanted(&spec, &subject, &absent(&spec, Role::Server)).unwrap();
    let script = wanted.files.iter().find(|file| file.path.as_str() == "/usr/local/lib/clusterctl/reap").unwrap();
    let FileSource::Text(text) = &script.source else { panic!("a script") };
    text.clone()
}

const SELF: &str = "i-0aaaaaaaaaaaaaaaa";
const TOLD: &[(&str, &str)] = &[("instance-id", SELF), ("placement/region", "eu-west-1")];

/// As Consul prints it since 0.5, and as it does now.
const OLD: &str = "Node  Address  Status  Type  Build  Protocol  DC\n";
const NEW: &str = "Node  Address  Status  Type  Build  Protocol  DC  Partition  Segment\n";

const CONSUL: &str = r#"
printf '%s\n' "$*" >>"$HERE/consul-asked"
case "$*" in
    "members -status=failed")
        [ -s "$HERE/members" ] || exit 2
        exec /bin/cat "$HERE/members" ;;
    "members -status=alive") exec /bin/cat "$HERE/members" ;;
    info) exec /bin/cat "$HERE/info" ;;
    join*) [ ! -e "$HERE/refuses" ] || { echo "Error joining: connection refused" >&2; exit 1; } ;;
    force-leave*) [ ! -e "$HERE/refuses" ] || { echo "Error force leaving: no" >&2; exit 1; } ;;
    *) exit 9 ;;
esac
"#;
const AWS: &str = r#"
printf '%s\n' "$*" >>"$HERE/aws-asked"
[ -e "$HERE/states" ] || { printf '\nAn error occurred (RequestLimitExceeded) when calling it\n' >&2; exit 254; }
exec /bin/cat "$HERE/states"
"#;

struct Server(Machine);

impl Server {
    fn new(shell: &'static str, service: &Service) -> Self {
        let machine = Machine::new(shell, &service.endpoint, &["curl"]);
        machine.program("consul", CONSUL);
        machine.program("aws", AWS);
        fs::write(machine.path("info"), "consul:\n\tleader = true\n\tserver = true\n").unwrap();
        Self(machine)
    }

    fn members(&self, header: &str, rows: &[(&str, &str, &str)]) {
        let rows: Vec<String> = rows
            .iter()
            .map(|(name, status, kind)| format!("{name}  10.0.0.9:8301  {status}  {kind}  1.22.7  2  dc1\n"))
            .collect();
        let text = if rows.is_empty() { String::new() } else { format!("{header}{}", rows.concat()) };
        fs::write(self.0.path("members"), text).unwrap();
    }

    fn states(&self, states: &[(&str, &str)]) {
        let lines: Vec<String> = states.iter().map(|(id, state)| format!("{id}\t{state}\n")).collect();
        fs::write(self.0.path("states"), lines.concat()).unwrap();
    }

    fn look(&self, consul: &str) -> Answer {
        self.once(consul, "--once")
    }

    fn once(&self, consul: &str, flag: &str) -> Answer {
        let _ = fs::remove_file(self.0.path("consul-asked"));
        let _ = fs::remove_file(self.0.path("aws-asked"));
        let answer = answer(self.0.command(&rendered(consul), &[flag]));
        assert_eq!(fs::read_dir(self.0.path("tmp")).unwrap().count(), 0, "it leaves nothing: {answer}");
        answer
    }

    fn noted(&self, of: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path(&format!("{of}-asked"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Who was made to leave.
    fn left(&self) -> Vec<String> {
        let asked = self.noted("consul");
        asked.iter().filter_map(|line| line.strip_prefix("force-leave ")).map(str::to_owned).collect()
    }
}

#[test]
fn the_script_is_clean() {
    for consul in ["0.5.2", "1.22.7"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("reap"), rendered(consul)).unwrap();
        let mut shellcheck = std::process::Command::new(which("shellcheck"));
        shellcheck.args(["--shell=sh", "--norc"]).arg(dir.path().join("reap"));
        answer(shellcheck).expect(0);
    }
}

#[test]
fn only_instances_that_are_gone_leave() {
    let service = Service::start(Metadata::Second, TOLD);
    for shell in SHELLS {
        let server = Server::new(shell, &service);
        for (header, consul) in [(OLD, "0.5.2"), (NEW, "1.22.7")] {
            let rows = [
                ("i-01111111", "failed", "client"),
                ("i-02222222222222222", "failed", "client"),
                ("i-03333333333333333", "failed", "client"),
                ("i-04444444444444444", "failed", "client"),
                ("i-05555555555555555", "failed", "client"),
                // No instance, no node, no failure; each would be unknown to EC2.
                ("shop-node-1", "failed", "client"),
                ("i-0666666", "failed", "client"),
                ("i-077777777777777777777", "failed", "client"),
                ("i-0888888G", "failed", "client"),
                ("i-09999999999999999", "failed", "server"),
                ("i-0bbbbbbbbbbbbbbbb", "alive", "client"),
                ("i-0cccccccccccccccc", "left", "client"),
                ("i-0ddddddd;reboot", "failed", "client"),
                ("--help", "failed", "client"),
            ];
            server.members(header, &rows);
            server.states(&[
                ("i-01111111", "terminated"),
                ("i-02222222222222222", "shutting-down"),
                ("i-03333333333333333", "running"),
                ("i-04444444444444444", "stopped"),
                (SELF, "running"),
            ]);
            let answer = server.look(consul).expect(0);
            let prune = if consul == "0.5.2" { "" } else { "-prune " };
            let gone = ["i-01111111", "i-02222222222222222", "i-05555555555555555"];
            assert_eq!(server.left(), gone.map(|id| format!("{prune}{id}")), "{shell} {consul}: {answer}");
            assert_eq!(answer.stderr.lines().count(), 3);
            assert!(answer.stderr.contains("i-05555555555555555 is unknown to EC2: it has left Consul"), "{answer}");
            let asked = server.noted("aws");
            assert_eq!(asked.len(), 1);
            let filter = format!(
                "Name=instance-id,Values={SELF},i-01111111,i-02222222222222222,i-03333333333333333,i-04444444444444444,\
                 i-05555555555555555 "
            );
            assert!(asked[0].contains(&filter) && asked[0].contains("--region eu-west-1"), "{asked:?}");
        }
    }
}

#[test]
fn nobody_is_asked_without_need() {
    let service = Service::start(Metadata::Second, TOLD);
    for shell in SHELLS {
        let server = Server::new(shell, &service);
        server.members(NEW, &[]);
        server.look("1.22.7").expect(0);
        assert_eq!(server.noted("consul"), ["members -status=failed"]);
        server.members(NEW, &[("shop-node-1", "failed", "client")]);
        server.look("1.22.7").expect(0);
        assert_eq!(server.noted("consul"), ["members -status=failed"]);
        // One server is enough.
        server.members(NEW, &[("i-01111111", "failed", "client")]);
        fs::write(server.0.path("info"), "consul:\n\tleader = false\n\tleader_addr = 10.0.0.1:8300\n").unwrap();
        server.look("1.22.7").expect(0);
        assert_eq!(server.noted("consul"), ["members -status=failed", "info"]);
        assert!(server.noted("aws").is_empty() && service.asked().is_empty());
    }
}

/// Who is absent from an answer is gone only where the answer is one.
#[test]
fn what_cannot_be_believed_removes_nobody() {
    let service = Service::start(Metadata::Second, TOLD);
    for shell in SHELLS {
        let server = Server::new(shell, &service);
        server.members(NEW, &[("i-01111111", "failed", "client")]);
        let refused = server.look("1.22.7").expect(1);
        assert!(
            refused.stderr.contains("ec2:DescribeInstances in eu-west-1 failed: An error occurred (RequestLimit"),
            "{refused}"
        );
        let another = "i-0eeeeeeee";
        for states in [
            &[][..],
            &[(another, "running")],
            &[(SELF, "terminated")],
            &[(SELF, "running"), ("i-01111111", "vanished")],
            &[(SELF, "running"), ("x", "terminated")],
            &[(SELF, "running extra")],
        ] {
            server.states(states);
            let answer = server.look("1.22.7").expect(1);
            assert!(answer.stderr.contains("not believed"), "{answer}");
        }
        server.states(&[(SELF, "running")]);
        fs::write(server.0.path("members"), "Name  Where  State\ni-01111111  x  failed\n").unwrap();
        assert!(server.look("1.22.7").expect(1).stderr.contains("no table that is known"));
        assert_eq!(server.left(), Vec::<String>::new());
        server.0.program("consul", "echo 'Error retrieving members: refused' >&2\nexit 1\n");
        assert!(server.look("1.22.7").expect(1).stderr.contains("consul members failed: Error retrieving"), "{shell}");
        let nowhere = Service::start(Metadata::First, TOLD);
        let lost = Server::new(shell, &nowhere);
        lost.members(NEW, &[("i-01111111", "failed", "client")]);
        assert!(lost.look("1.22.7").expect(1).stderr.contains("no token"));
        assert!(lost.noted("aws").is_empty());
    }
}

/// As many at once as a filter takes, and all of them; one that fails keeps no other.
#[test]
fn all_are_looked_at_however_many_they_are() {
    let service = Service::start(Metadata::Second, TOLD);
    let server = Server::new("dash", &service);
    let names: Vec<String> = (0..450).map(|n| format!("i-0{n:07x}")).collect();
    let rows: Vec<(&str, &str, &str)> = names.iter().map(|name| (name.as_str(), "failed", "client")).collect();
    server.members(NEW, &rows);
    // All but the last have only failed.
    let mut states: Vec<(&str, &str)> = names[..449].iter().map(|name| (name.as_str(), "running")).collect();
    states.push((SELF, "running"));
    server.states(&states);
    server.look("1.22.7").expect(0);
    let asked = server.noted("aws");
    let counts: Vec<usize> = asked.iter().map(|line| line.matches("i-0").count()).collect();
    assert_eq!((counts, server.left()), (vec![200, 200, 53], vec!["-prune i-000001c1".to_owned()]));
    server.states(&[(SELF, "running")]);
    fs::write(server.0.path("refuses"), "").unwrap();
    server.members(NEW, &rows[..3]);
    let answer = server.look("1.22.7").expect(1);
    assert_eq!(server.left().len(), 3, "{answer}");
    assert!(answer.stderr.contains("force-leave") && answer.stderr.contains("Error force leaving: no"), "{answer}");
}

/// An instance that joined a server on its way out asks nobody again: it is asked.
#[test]
fn instances_that_run_and_are_no_members_are_joined() {
    let service = Service::start(Metadata::Second, TOLD);
    for shell in SHELLS {
        let server = Server::new(shell, &service);
        server.members(NEW, &[("shop-server-1", "alive", "server"), ("i-01111111", "alive", "client")]);
        server.states(&[
            ("i-01111111", "10.0.0.1"),
            ("i-02222222", "10.0.0.2"),
            ("i-03333333", "None"),
            ("i-04444444", "10.0.0.256"),
            ("i-05555555", "-x"),
            ("shop-server-1", "10.0.0.6"),
            ("i-07777777", "10.0.0.7 10.0.0.8"),
        ]);
        let answer = server.once("1.22.7", "--gather").expect(0);
        let joined: Vec<String> =
            server.noted("consul").into_iter().filter(|asked| asked.starts_with("join")).collect();
        assert_eq!(joined, ["join 10.0.0.2"], "{answer}");
        assert!(answer.stderr.contains("i-02222222 runs at 10.0.0.2 and was no member"), "{answer}");
        let [asked] = &server.noted("aws")[..] else { panic!("one call") };
        for part in ["Name=tag:clusterctl:cluster,Values=shop", "Name=tag:clusterctl:origin,Values=fleet"] {
            assert!(asked.contains(part), "{asked}");
        }

        // One that only boots refuses: no reason to complain.
        fs::write(server.0.path("refuses"), "").unwrap();
        assert_eq!(server.once("1.22.7", "--gather").expect(0).stderr, "");
        // Another server leads, and does it.
        fs::write(server.0.path("info"), "consul:\n\tleader = false\n").unwrap();
        server.once("1.22.7", "--gather").expect(0);
        assert_eq!(server.noted("aws"), Vec::<String>::new());
    }
}
