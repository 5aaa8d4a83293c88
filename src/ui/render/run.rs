//! The end of `up` and `join-node`: how it went for each host, every failure with all there is to know,
//! where to look, and in the last line the truth.

use super::super::escape::{lines, plain};
use super::super::style::{BAD, BOLD, DIM, GOOD, INFO, WARN, paint};
use super::super::table::{Cell, Table};
use super::super::words::count;
use super::{Document, View, envelope, select, sign};
use crate::model::report::{Failure, HostOutcome, HostResult, Millis, RunReport, Unconfirmed, Verified};

impl Document for RunReport {
    fn json(&self) -> String {
        envelope("run", self)
    }

    fn cases(&self) -> Vec<super::junit::Case> {
        super::junit::of_run(self)
    }

    fn text(&self, view: &View) -> String {
        let head = paint(BOLD, &format!("cluster {}", self.cluster));
        let mut out = format!("{head}: {} in {}\n", count(self.hosts.len(), "host"), duration(self.seconds));
        let (rows, left) = select(&self.hosts, view.all, "host", |h| h.result.is_good());
        if !rows.is_empty() {
            let mut table = Table::new(&["", "HOST", "ROLE", "ADDRESS", "RESULT"]);
            for host in &rows {
                table.row(row(host));
            }
            out.push('\n');
            out.push_str(&table.render(view.width));
        }
        out.push_str(&left.unwrap_or_default());
        // Every failure, however many: nobody may have to run it again to see them.
        for host in &self.hosts {
            if let HostResult::Failed(failure) = &host.result {
                out.push('\n');
                out.push_str(&failed(host.host.as_str(), failure));
            }
        }
        if !self.look.is_empty() {
            out.push('\n');
            out.extend(self.look.iter().map(|line| format!("{}\n", plain(line))));
        }
        out.push('\n');
        out.push_str(&truth(self));
        out.push('\n');
        out
    }
}

pub(super) fn duration(Millis(ms): Millis) -> String {
    if ms < 60_000 { format!("{}.{} s", ms / 1000, ms % 1000 / 100) } else { super::super::words::age(ms / 1000) }
}

fn row(host: &HostOutcome) -> Vec<Cell> {
    let result = match &host.result {
        HostResult::Unchanged => Cell::new(DIM, "unchanged"),
        HostResult::Changed { changes } => count(*changes, "change").into(),
        HostResult::Booted { image } => format!("booted from image {}", plain(image)).into(),
        HostResult::Interrupted { step } => Cell::new(WARN, format!("interrupted: {step}")),
        HostResult::Failed(failure) => Cell::new(BAD, format!("failed: {}", failure.step)),
    };
    let sign = match host.result {
        HostResult::Interrupted { .. } => Cell::new(WARN, "!"),
        _ => sign(host.result.is_good()),
    };
    let address = host.address.map_or("-".to_owned(), |a| a.to_string());
    vec![sign, host.host.as_str().into(), host.role.as_str().into(), address.into(), result]
}

/// What went wrong with `whom`, with all that there is to know.
pub(super) fn failed(whom: &str, failure: &Failure) -> String {
    let mut out = format!("{} {}\n", paint(BAD, &format!("✗ {whom}:")), paint(BOLD, &plain(&failure.step)));
    out.extend(lines(&failure.message).map(|line| format!("  {line}\n")));
    // A line of theirs may hold line feeds that it should not.
    let theirs = failure.lines.iter().flat_map(|line| lines(line).collect::<Vec<_>>());
    out.extend(theirs.map(|line| format!("    {} {line}\n", paint(DIM, "|"))));
    if let Some(log) = &failure.log {
        out.push_str(&format!("  {} {}\n", paint(DIM, "more:"), plain(log)));
    }
    if let Some(hint) = &failure.hint {
        out.push_str(&format!("  {} {}\n", paint(INFO, "hint:"), plain(hint)));
    }
    out
}

/// What Consul and Prometheus said, and what stands against it.
fn truth(report: &RunReport) -> String {
    let hosts = report.hosts.len();
    let n = |is: fn(&HostResult) -> bool| report.hosts.iter().filter(|h| is(&h.result)).count();
    let failed = n(|r| matches!(r, HostResult::Failed(_)));
    let interrupted = n(|r| matches!(r, HostResult::Interrupted { .. }));
    let mut parts = vec![match &report.verified {
        Some(verified) => asked(verified, hosts),
        None => unasked(report.unconfirmed).to_owned(),
    }];
    if failed > 0 {
        parts.push(format!("{} failed", count(failed, "host")));
    }
    if interrupted > 0 {
        parts.push(format!("{} interrupted", count(interrupted, "host")));
    }
    let whole = report.verified.as_ref().is_some_and(|v| v.alive >= hosts && v.targets_up == v.targets);
    let style = if whole && parts.len() == 1 { GOOD } else { BAD };
    paint(style, &parts.join("; "))
}

const fn unasked(unconfirmed: Option<Unconfirmed>) -> &'static str {
    match unconfirmed {
        None => "Consul and Prometheus were not asked",
        Some(Unconfirmed::InVain) => "Consul and Prometheus did not confirm every host",
        Some(Unconfirmed::Interrupted) => "Consul and Prometheus had not confirmed every host yet",
    }
}

fn asked(verified: &Verified, hosts: usize) -> String {
    let Verified { alive, targets_up, targets, .. } = verified;
    // After `join-node` Consul knows more hosts than this run had to do with.
    let in_consul = if *alive > hosts {
        format!("{} alive in Consul", count(*alive, "host"))
    } else {
        format!("{alive} of {} alive in Consul", count(hosts, "host"))
    };
    format!("{in_consul}, {targets_up} of {} up in Prometheus", count(*targets, "target"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{run, text, view};
    use super::*;

    #[test]
    fn all_is_well() {
        let mut report = run();
        report.hosts.truncate(2);
        report.verified =
            Some(Verified { leader: "10.0.0.2:8300".into(), alive: 2, targets_up: 2, targets: 2, proofs: vec![] });
        insta::assert_snapshot!(text(&report, &view()), @"
        cluster dev: 2 hosts in 14.2 s

           HOST          ROLE    ADDRESS    RESULT
        ✓  dev-server-1  server  10.77.0.1  12 changes
        ✓  dev-node-2    node    10.77.0.2  unchanged

        Prometheus  http://10.77.0.1:9090
        log in      ssh root@10.77.0.1

        2 of 2 hosts alive in Consul, 2 of 2 targets up in Prometheus
        ");
    }

    #[test]
    fn one_failed_one_interrupted() {
        insta::assert_snapshot!(text(&run(), &view()), @r"
        cluster dev: 4 hosts in 14.2 s

           HOST          ROLE    ADDRESS    RESULT
        ✓  dev-server-1  server  10.77.0.1  12 changes
        ✓  dev-node-2    node    10.77.0.2  unchanged
        ✗  dev-node-3    node    10.77.0.3  failed: unpack
        !  dev-node-4    node    10.77.0.4  interrupted: sending 28.0 MB

        ✗ dev-node-3: unpack
          the installer exited with status 2
          on its second try
            | tar: write error: No space left on device
            | \u{1b}[31mtar: exiting\u{1b}[0m
          more: clusterctl exec --host dev-node-3 -- journalctl -n 50
          hint: free some space on /opt

        Prometheus  http://10.77.0.1:9090
        log in      ssh root@10.77.0.1

        Consul and Prometheus were not asked; 1 host failed; 1 host interrupted
        ");
    }

    #[test]
    fn a_host_from_an_image_says_which() {
        let mut report = run();
        report.hosts[0].result = HostResult::Booted { image: "web/server\n".to_owned() };
        let shown = text(&report, &view());
        assert!(shown.contains("✓  dev-server-1  server  10.77.0.1  booted from image web/server\\n"), "{shown}");
        assert!(report.json().contains("\"result\": \"booted\",\n      \"image\": \"web/server"));
    }

    #[test]
    fn a_target_is_missing() {
        let mut report = run();
        report.hosts.truncate(1);
        let verified = Verified { alive: 1, targets_up: 1, targets: 2, ..Verified::default() };
        report.verified = Some(verified.clone());
        assert!(text(&report, &view()).ends_with("\n1 of 1 host alive in Consul, 1 of 2 targets up in Prometheus\n"));
        report.verified = Some(Verified { alive: 4, targets_up: 2, ..verified });
        assert!(text(&report, &view()).ends_with("\n4 hosts alive in Consul, 2 of 2 targets up in Prometheus\n"));
    }

    #[test]
    fn who_was_asked_in_vain_was_asked() {
        let mut report = run();
        let last = |report: &RunReport| text(report, &view()).lines().last().unwrap().to_owned();
        report.unconfirmed = Some(Unconfirmed::InVain);
        let end = "1 host failed; 1 host interrupted";
        assert_eq!(last(&report), format!("Consul and Prometheus did not confirm every host; {end}"));
        report.unconfirmed = Some(Unconfirmed::Interrupted);
        assert_eq!(last(&report), format!("Consul and Prometheus had not confirmed every host yet; {end}"));
        assert!(report.json().contains("\"unconfirmed\": \"interrupted\""));
    }

    #[test]
    fn many_hosts_show_every_failure() {
        let mut report = run();
        let failed = report.hosts[2].clone();
        report.hosts = vec![report.hosts[0].clone(); 200];
        report.hosts[..120].fill(failed);
        let shown = text(&report, &view());
        assert!(shown.contains("not shown: 20 more that are not well, 80 hosts that are well"), "{shown}");
        assert_eq!(shown.matches("hint: free some space").count(), 120);
    }

    #[test]
    fn the_document() {
        insta::assert_snapshot!(run().json(), @r#"
        {
          "document": "run",
          "version": 1,
          "cluster": "dev",
          "hosts": [
            {
              "host": "dev-server-1",
              "role": "server",
              "address": "10.77.0.1",
              "result": "changed",
              "changes": 12
            },
            {
              "host": "dev-node-2",
              "role": "node",
              "address": "10.77.0.2",
              "result": "unchanged"
            },
            {
              "host": "dev-node-3",
              "role": "node",
              "address": "10.77.0.3",
              "result": "failed",
              "step": "unpack",
              "message": "the installer exited with status 2\non its second try",
              "lines": [
                "tar: write error: No space left on device",
                "\u001b[31mtar: exiting\u001b[0m\r\n"
              ],
              "log": "clusterctl exec --host dev-node-3 -- journalctl -n 50",
              "hint": "free some space on /opt"
            },
            {
              "host": "dev-node-4",
              "role": "node",
              "address": "10.77.0.4",
              "result": "interrupted",
              "step": "sending 28.0 MB"
            }
          ],
          "look": [
            "Prometheus  http://10.77.0.1:9090",
            "log in      ssh root@10.77.0.1"
          ],
          "seconds": 14.26
        }
        "#);
    }
}
