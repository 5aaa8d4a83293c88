//! `status`: counts first, then hosts, then what is wrong.

use super::super::escape::plain;
use super::super::style::{BAD, BOLD, DIM, GOOD, NONE, WARN, paint};
use super::super::table::{Cell, Table};
use super::super::words::count;
use super::{Document, LONG, View, envelope, select, sign};
use crate::model::host::HostState;
use crate::model::report::{HostStatus, StatusReport, UnitStatus};

impl Document for StatusReport {
    fn json(&self) -> String {
        envelope("status", self)
    }

    fn cases(&self) -> Vec<super::junit::Case> {
        super::junit::of_status(self)
    }

    fn text(&self, view: &View) -> String {
        let mut out = head(self);
        let (rows, left) = select(&self.hosts, view.all, "host", is_well);
        if !rows.is_empty() {
            let mut table = Table::new(&["", "HOST", "ROLE", "STATE", "ADDRESS", "CONSUL", "PROMETHEUS", "UNITS"]);
            for host in &rows {
                table.row(row(host));
            }
            out.push('\n');
            out.push_str(&table.render(view.width));
        }
        out.push_str(&left.unwrap_or_default());
        out.push_str(&problems(self, &rows, view.all));
        out
    }
}

/// Nothing about this host needs a look.
fn is_well(host: &HostStatus) -> bool {
    host.state.is_running()
        && host.problem.is_none()
        && host.consul.as_deref() == Some("alive")
        && host.scraped.as_deref() == Some("up")
        && host.units.iter().all(is_active)
}

fn is_active(unit: &UnitStatus) -> bool {
    unit.active == "active"
}

fn head(report: &StatusReport) -> String {
    let unwell = report.hosts.iter().filter(|h| !is_well(h)).count();
    let word = if report.hosts.is_empty() {
        paint(WARN, "no hosts")
    } else if unwell == 0 && report.problems.is_empty() {
        paint(GOOD, "healthy")
    } else {
        paint(BAD, "not healthy")
    };
    let cluster = paint(BOLD, &format!("cluster {}", report.cluster));
    let mut out = format!("{cluster} ({}): {word}\n", plain(&report.provider));
    if report.hosts.is_empty() {
        return out;
    }
    let n = |is: fn(&HostStatus) -> bool| report.hosts.iter().filter(|h| is(h)).count();
    out.push_str(&format!(
        "{}: {} running, {} alive in Consul, {} scraped by Prometheus\n",
        count(report.hosts.len(), "host"),
        n(|h| h.state.is_running()),
        n(|h| h.consul.as_deref() == Some("alive")),
        n(|h| h.scraped.as_deref() == Some("up")),
    ));
    let leader = report.leader.as_deref().map_or_else(|| paint(BAD, "none"), plain);
    out.push_str(&format!("Consul's leader: {leader}\n"));
    out
}

fn row(host: &HostStatus) -> Vec<Cell> {
    let state = if host.state == HostState::Running { NONE } else { WARN };
    vec![
        sign(is_well(host)),
        host.host.as_str().into(),
        host.role.as_str().into(),
        Cell::new(state, host.state.as_str()),
        host.address.map_or("-".to_owned(), |a| a.to_string()).into(),
        said(host.consul.as_deref(), "alive"),
        said(host.scraped.as_deref(), "up"),
        units(&host.units),
    ]
}

/// What Consul or Prometheus says of the host.
fn said(word: Option<&str>, good: &str) -> Cell {
    match word {
        None => Cell::new(DIM, "-"),
        Some(word) if word == good => Cell::new(GOOD, word),
        Some(word) => Cell::new(BAD, word),
    }
}

fn units(units: &[UnitStatus]) -> Cell {
    let bad: Vec<_> = units.iter().filter(|u| !is_active(u)).map(|u| format!("{} {}", u.unit, u.active)).collect();
    match (units.len(), bad.is_empty()) {
        (0, _) => Cell::new(DIM, "-"),
        (n, true) => format!("{n} active").into(),
        (_, false) => Cell::new(BAD, bad.join(", ")),
    }
}

/// The cluster's problems, as many as of hosts, then those of the hosts that are shown.
fn problems(report: &StatusReport, rows: &[&HostStatus], all: bool) -> String {
    let shown = if all { report.problems.len() } else { report.problems.len().min(LONG) };
    let left = report.problems.len() - shown;
    let more = (left > 0).then(|| format!("{left} more like these (--all shows every one)"));
    let own = report.problems[..shown].iter().map(|p| plain(p)).chain(more);
    let hosts = rows.iter().filter_map(|h| h.problem.as_ref().map(|p| format!("{}: {}", h.host, plain(p))));
    let all: String = own.chain(hosts).map(|p| format!("{} {p}\n", paint(BAD, "✗"))).collect();
    if all.is_empty() { all } else { format!("\n{all}") }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{host_status, status, text, view};
    use super::*;

    #[test]
    fn a_healthy_cluster() {
        insta::assert_snapshot!(text(&status(3), &view()), @"
        cluster dev (sandbox): healthy
        3 hosts: 3 running, 3 alive in Consul, 3 scraped by Prometheus
        Consul's leader: 10.77.0.1:8300

           HOST          ROLE    STATE    ADDRESS    CONSUL  PROMETHEUS  UNITS
        ✓  dev-server-1  server  running  10.77.0.1  alive   up          2 active
        ✓  dev-node-2    node    running  10.77.0.2  alive   up          2 active
        ✓  dev-node-3    node    running  10.77.0.3  alive   up          2 active
        ");
    }

    #[test]
    fn hosts_and_services_that_are_down() {
        let mut report = status(3);
        report.leader = None;
        report.problems = vec!["Consul has no leader: \x1b[31mask its log".into()];
        report.hosts[1].state = HostState::Stopped;
        report.hosts[1].consul = None;
        report.hosts[1].units.clear();
        report.hosts[1].address = None;
        report.hosts[2].problem = Some("cannot connect: refused".into());
        report.hosts[2].consul = Some("failed".into());
        report.hosts[2].scraped = Some("down".into());
        report.hosts[2].units[1].active = "failed".into();
        insta::assert_snapshot!(text(&report, &view()), @r"
        cluster dev (sandbox): not healthy
        3 hosts: 2 running, 1 alive in Consul, 2 scraped by Prometheus
        Consul's leader: none

           HOST          ROLE    STATE    ADDRESS    CONSUL  PROMETHEUS  UNITS
        ✓  dev-server-1  server  running  10.77.0.1  alive   up          2 active
        ✗  dev-node-2    node    stopped  -          -       up          -
        ✗  dev-node-3    node    running  10.77.0.3  failed  down        node_exporter failed

        ✗ Consul has no leader: \u{1b}[31mask its log
        ✗ dev-node-3: cannot connect: refused
        ");
    }

    #[test]
    fn a_thousand_hosts_stay_readable() {
        let mut report = status(1000);
        report.hosts[700].scraped = Some("down".into());
        insta::assert_snapshot!(text(&report, &view()), @"
        cluster dev (sandbox): not healthy
        1000 hosts: 1000 running, 1000 alive in Consul, 999 scraped by Prometheus
        Consul's leader: 10.77.0.1:8300

           HOST          ROLE  STATE    ADDRESS      CONSUL  PROMETHEUS  UNITS
        ✗  dev-node-701  node  running  10.77.2.189  alive   down        2 active
        not shown: 999 hosts that are well (--all shows every host)
        ");
        assert_eq!(text(&report, &View { all: true, ..view() }).lines().count(), 3 + 1 + 1 + 1000);
    }

    #[test]
    fn what_is_wrong_a_thousand_times_is_counted() {
        let mut report = status(1000);
        for host in &mut report.hosts {
            host.problem = Some("Consul says failed".into());
            host.consul = Some("failed".into());
        }
        report.problems = (1..=1000).map(|n| format!("service web on dev-node-{n} is critical: refused")).collect();
        let shown = text(&report, &view());
        assert!(shown.contains("1000 hosts: 1000 running, 0 alive in Consul, 1000 scraped"), "{shown}");
        assert!(shown.contains("not shown: 900 more that are not well (--all shows every host)"), "{shown}");
        assert!(shown.contains("✗ 900 more like these (--all shows every one)"), "{shown}");
        // The head, a table, what is left out; the problems of the cluster, what is left out, those of the rows.
        assert_eq!(shown.lines().count(), 3 + 1 + 1 + 100 + 1 + 1 + 100 + 1 + 100);
        let all = text(&report, &View { all: true, ..view() });
        assert_eq!(all.lines().count(), 3 + 1 + 1 + 1000 + 1 + 1000 + 1000);
    }

    #[test]
    fn no_hosts_at_all() {
        insta::assert_snapshot!(text(&status(0), &view()), @"cluster dev (sandbox): no hosts");
    }

    #[test]
    fn each_flaw_makes_a_host_unwell() {
        let flaws: [fn(&mut HostStatus); 5] = [
            |h| h.state = HostState::Pending,
            |h| h.problem = Some("x".into()),
            |h| h.consul = None,
            |h| h.scraped = Some("unknown".into()),
            |h| h.units[0].active = "activating".into(),
        ];
        assert!(is_well(&host_status(1)));
        for (at, flaw) in flaws.iter().enumerate() {
            let mut host = host_status(1);
            flaw(&mut host);
            assert!(!is_well(&host), "flaw {at}");
        }
    }

    #[test]
    fn the_document() {
        insta::assert_snapshot!(status(1).json(), @r#"
        {
          "document": "status",
          "version": 1,
          "cluster": "dev",
          "provider": "sandbox",
          "leader": "10.77.0.1:8300",
          "hosts": [
            {
              "host": "dev-server-1",
              "id": "sb-1",
              "role": "server",
              "state": "running",
              "address": "10.77.0.1",
              "consul": "alive",
              "scraped": "up",
              "units": [
                {
                  "unit": "consul",
                  "active": "active",
                  "main_pid": 100,
                  "started_monotonic_us": 5000000
                },
                {
                  "unit": "node_exporter",
                  "active": "active",
                  "main_pid": 100,
                  "started_monotonic_us": 5000000
                }
              ]
            }
          ],
          "problems": []
        }
        "#);
    }
}
