//! `targets`: what Prometheus scrapes, as Prometheus says it.

use super::super::escape::plain;
use super::super::style::{BAD, BOLD, DIM, GOOD, WARN, paint};
use super::super::table::{Cell, Table};
use super::super::words::{age, count, seconds};
use super::{Document, View, envelope, select, sign};
use crate::model::report::{Target, TargetsReport};
use jiff::Timestamp;

impl Document for TargetsReport {
    fn json(&self) -> String {
        envelope("targets", self)
    }

    fn text(&self, view: &View) -> String {
        let up = self.targets.iter().filter(|t| is_up(t)).count();
        let style = if up == self.targets.len() && up > 0 { GOOD } else { BAD };
        let head = paint(BOLD, &format!("cluster {}", self.cluster));
        let counts = paint(style, &format!("{up} of {} up", count(self.targets.len(), "target")));
        let mut out = format!("{head}: {counts}\n");
        let (rows, left) = select(&self.targets, view.all, "target", is_up);
        if !rows.is_empty() {
            let mut table = Table::new(&["", "JOB", "INSTANCE", "HEALTH", "LAST SCRAPE", "URL"]);
            for target in &rows {
                table.row(row(target, view));
            }
            out.push('\n');
            out.push_str(&table.render(view.width));
        }
        out.push_str(&left.unwrap_or_default());
        let errors: String = rows.iter().filter(|t| !t.last_error.is_empty()).map(|t| error(t)).collect();
        if !errors.is_empty() {
            out.push('\n');
            out.push_str(&errors);
        }
        out
    }
}

fn is_up(target: &Target) -> bool {
    target.health == "up"
}

fn row(target: &Target, view: &View) -> Vec<Cell> {
    let health = match target.health.as_str() {
        "up" => GOOD,
        "unknown" => WARN,
        _ => BAD,
    };
    vec![
        sign(is_up(target)),
        target.job.as_str().into(),
        target.instance.as_str().into(),
        Cell::new(health, &target.health),
        Cell::new(DIM, last_scrape(&target.last_scrape, view.now)),
        target.scrape_url.as_str().into(),
    ]
}

/// Prometheus says year 1 for never.
fn last_scrape(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) if time < Timestamp::UNIX_EPOCH => "never".to_owned(),
        Ok(time) => format!("{} ago", age(seconds(time, now))),
        Err(_) => time.to_owned(),
    }
}

fn error(target: &Target) -> String {
    format!("{} {} {}: {}\n", paint(BAD, "✗"), plain(&target.job), plain(&target.instance), plain(&target.last_error))
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::samples::{targets, text, view};

    #[test]
    fn some_up_one_down_one_unknown() {
        insta::assert_snapshot!(text(&targets(), &view()), @r"
        cluster dev: 1 of 4 targets up

           JOB   INSTANCE    HEALTH           LAST SCRAPE     URL
        ✓  node  dev-node-1  up               3 s ago         http://10.77.0.1:9100/metrics
        ✗  node  dev-node-2  down             3 min 00 s ago  http://10.77.0.2:9100/metrics
        ✗  node  dev-node-3  unknown          never           http://10.77.0.3:9100/metrics
        ✗  node  dev-node-4  strange\u{202e}  yesterday       http://10.77.0.4:9100/metrics

        ✗ node dev-node-2: connection refused\n\u{1b}]0;owned\u{7}
        ");
    }

    #[test]
    fn a_thousand_hosts_stay_readable() {
        let mut report = targets();
        let down = report.targets.remove(1);
        report.targets = vec![report.targets[0].clone(); 2000];
        report.targets[1500] = down.clone();
        insta::assert_snapshot!(text(&report, &view()), @r"
        cluster dev: 1999 of 2000 targets up

           JOB   INSTANCE    HEALTH  LAST SCRAPE     URL
        ✗  node  dev-node-2  down    3 min 00 s ago  http://10.77.0.2:9100/metrics
        not shown: 1999 targets that are well (--all shows every target)

        ✗ node dev-node-2: connection refused\n\u{1b}]0;owned\u{7}
        ");
        report.targets = vec![down; 2000];
        let shown = text(&report, &view());
        assert!(shown.contains("not shown: 1900 more that are not well (--all shows every target)"), "{shown}");
        assert_eq!(shown.lines().count(), 1 + 1 + 1 + 100 + 1 + 1 + 100);
    }

    #[test]
    fn none() {
        let mut report = targets();
        report.targets.clear();
        insta::assert_snapshot!(text(&report, &view()), @"cluster dev: 0 of 0 targets up");
    }

    #[test]
    fn the_document() {
        let mut report = targets();
        report.targets.truncate(1);
        insta::assert_snapshot!(report.json(), @r#"
        {
          "document": "targets",
          "version": 1,
          "cluster": "dev",
          "targets": [
            {
              "job": "node",
              "instance": "dev-node-1",
              "health": "up",
              "labels": {
                "instance": "dev-node-1",
                "role": "node"
              },
              "scrape_url": "http://10.77.0.1:9100/metrics",
              "last_scrape": "2027-01-15T07:59:57.123456789Z",
              "last_error": ""
            }
          ]
        }
        "#);
    }
}
