//! `plan`: what would be done, host by host, each step with its reason.

use super::super::escape::{lines, plain};
use super::super::style::{BAD, BOLD, DIM, GOOD, INFO, NONE, WARN, paint};
use super::super::words::{bytes, count};
use super::{Document, View, envelope};
use crate::model::file::{ManagedFile, Reaction};
use crate::model::plan::{Action, FileChange, HostPlan, Plan, Reason, Step};

impl Document for Plan {
    fn json(&self) -> String {
        let mut plan = self.clone();
        for step in plan.hosts.iter_mut().flat_map(|h| &mut h.steps) {
            if let Action::PutFile { file, diff, .. } = &mut step.action {
                // A secret's content is shown to nobody, whoever put a diff of it here.
                *diff = diff.take().filter(|_| !file.secret);
            }
        }
        envelope("plan", &plan)
    }

    fn text(&self, view: &View) -> String {
        let mut out = resources(self);
        for host in &self.hosts {
            if !host.is_empty() || (view.verbose && !host.skipped.is_empty()) {
                out.push_str(&host_text(host, view.verbose));
                out.push('\n');
            }
        }
        if !self.notes.is_empty() {
            out.extend(self.notes.iter().map(|note| format!("{} {}\n", paint(INFO, "note:"), plain(note))));
            out.push('\n');
        }
        out.push_str(&summary(self));
        out.push('\n');
        out
    }
}

/// What belongs to the cluster and to no host.
fn resources(plan: &Plan) -> String {
    if plan.resources.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n", paint(BOLD, "around the hosts"));
    out.extend(plan.resources.iter().map(|step| entry(GOOD, "+", &step.what, &step.reason)));
    out.push('\n');
    out
}

fn host_text(host: &HostPlan, verbose: bool) -> String {
    let mut out = format!("{} ({})\n", paint(BOLD, host.host.as_str()), host.role);
    if let Some(reason) = &host.launch {
        out.push_str(&entry(GOOD, "+", "launch the host", reason));
    }
    if let Some(blocked) = &host.blocked {
        let mut shown = lines(blocked);
        out.push_str(&format!("  {} {}\n", paint(BAD, "✗ blocked:"), shown.next().unwrap_or_default()));
        out.extend(shown.map(|line| format!("      {line}\n")));
    }
    for step in &host.steps {
        out.push_str(&step_text(step));
    }
    if verbose {
        out.extend(host.skipped.iter().map(|s| format!("  {}\n", paint(DIM, &format!("= {}", plain(s))))));
    }
    out
}

fn entry(style: anstyle::Style, sign: &str, what: &str, Reason(reason): &Reason) -> String {
    let because = if reason.is_empty() { String::new() } else { format!("because {}", plain(reason)) };
    let line = format!("  {} {}  {}", paint(style, sign), plain(what), paint(DIM, &because));
    format!("{}\n", line.trim_end())
}

fn step_text(step: &Step) -> String {
    let (style, sign, what) = match &step.action {
        Action::CreateUser { user } => (GOOD, "+", format!("user {}", user.name)),
        Action::PutDir { dir } => {
            (GOOD, "+", format!("{}/ {}", dir.path, attributes(dir.mode, &dir.owner, &dir.group)))
        }
        Action::PutFile { file, path, change, .. } => match change {
            FileChange::Create => {
                let attributes = attributes(file.mode, &file.owner, &file.group);
                (GOOD, "+", format!("{path} {attributes} {}", bytes(file.size())))
            }
            FileChange::Content => (WARN, "~", format!("{path} {}", bytes(file.size()))),
            FileChange::Attributes => {
                (WARN, "~", format!("{path} {}", attributes(file.mode, &file.owner, &file.group)))
            }
        },
        Action::RemoveFile { path } => (BAD, "-", path.to_string()),
        Action::Check { check } => (INFO, "?", format!("check with {}", check.title)),
        Action::Enable { unit } => (GOOD, "+", format!("enable {unit}")),
        Action::Start { unit } => (GOOD, "+", format!("start {unit}")),
        Action::React { unit, reaction } => (WARN, "↻", format!("{} {unit}", reaction.as_str())),
        Action::Stop { unit } => (BAD, "-", format!("stop {unit}")),
    };
    let mut out = entry(style, sign, &what, &step.reason);
    if let Action::PutFile { file, diff: Some(diff), .. } = &step.action {
        out.push_str(&diff_text(file, diff));
    }
    out
}

fn attributes(mode: u32, owner: &str, group: &str) -> String {
    format!("{mode:04o} {owner}:{group}")
}

/// The unified diff, indented; of a secret not.
fn diff_text(file: &ManagedFile, diff: &str) -> String {
    if file.secret {
        return format!("      {}\n", paint(DIM, "(secret: its content is not shown)"));
    }
    let colour = |line: &str| match line.as_bytes().first() {
        _ if line.starts_with("+++") || line.starts_with("---") => BOLD,
        Some(b'+') => GOOD,
        Some(b'-') => BAD,
        Some(b'@') => INFO,
        _ => NONE,
    };
    lines(diff).map(|line| format!("      {}", paint(colour(&line), &line)).trim_end().to_owned() + "\n").collect()
}

/// `3 hosts: 1 to launch, 12 to change, 2 restarts`; a check changes nothing and is not counted.
fn summary(plan: &Plan) -> String {
    let hosts = count(plan.hosts.len(), "host");
    if plan.hosts.is_empty() && plan.is_empty() {
        return paint(GOOD, "nothing to do");
    }
    if plan.is_empty() {
        let are = if plan.hosts.len() == 1 { "is" } else { "are" };
        return paint(GOOD, &format!("nothing to do: {hosts} {are} as wanted"));
    }
    let steps =
        |is: fn(&Action) -> bool| plan.hosts.iter().flat_map(|h| &h.steps).filter(|step| is(&step.action)).count();
    let named = [
        (steps(|a| matches!(a, Action::Start { .. })), "start"),
        (steps(|a| matches!(a, Action::React { reaction: Reaction::Restart, .. })), "restart"),
        (steps(|a| matches!(a, Action::React { reaction: Reaction::Reload, .. })), "reload"),
        (steps(|a| matches!(a, Action::Stop { .. })), "stop"),
    ];
    let checks = steps(|a| matches!(a, Action::Check { .. }));
    let changes = steps(|_| true) - checks - named.iter().map(|(n, _)| n).sum::<usize>();
    let launches = plan.hosts.iter().filter(|h| h.launch.is_some()).count();
    let blocked = plan.hosts.iter().filter(|h| h.blocked.is_some()).count();
    let mut parts = Vec::new();
    if !plan.resources.is_empty() {
        parts.push(format!("{} around them", count(plan.resources.len(), "change")));
    }
    for (n, what) in [(launches, "to launch"), (changes, "to change")] {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    }
    parts.extend(named.iter().filter(|(n, _)| *n > 0).map(|(n, noun)| count(*n, noun)));
    if blocked > 0 {
        parts.push(paint(BAD, &format!("{blocked} blocked")));
    }
    format!("{hosts}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{plan, text, view};
    use super::*;

    #[test]
    fn every_kind_of_step() {
        insta::assert_snapshot!(text(&plan(), &view()), @r"
        dev-server-1 (server)
          + launch the host  because the cluster has no server
          + user consul  because it is missing
          + /etc/consul.d/ 0750 root:consul  because it is missing
          + /etc/consul.d/agent.hcl 0640 root:consul 1.2 kB  because it is missing
          ~ /etc/prometheus/prometheus.yml 1.2 kB  because its content differs
              --- /etc/prometheus/prometheus.yml
              +++ /etc/prometheus/prometheus.yml
              @@ -1,3 +1,3 @@
               global:
              -  scrape_interval: 15s
              +  scrape_interval: 5s
                 evil: \u{1b}[2J
          ~ /etc/hosts 0640 root:consul  because its mode is 0600
          - /etc/consul.d/old.hcl  because nothing wants it any more
          ? check with consul validate  because /etc/consul.d changes
          + enable consul  because it is disabled
          + start consul  because it is not running
          ↻ reload prometheus  because prometheus.yml changes
          ↻ restart node_exporter  because its unit changes
          - stop web  because the spec has no such service

        dev-node-2 (node)
          ✗ blocked: cannot connect: refused
              is sshd running?

        3 hosts: 1 to launch, 7 to change, 1 start, 1 restart, 1 reload, 1 stop, 1 blocked
        ");
    }

    #[test]
    fn what_was_left_alone_is_shown_on_demand() {
        let mut plan = plan();
        plan.hosts.drain(..2);
        insta::assert_snapshot!(text(&plan, &View { verbose: true, ..view() }), @"
        dev-node-3 (node)
          = consul 1.22.7 is installed
          = nothing to restart

        nothing to do: 1 host is as wanted
        ");
        assert_eq!(text(&plan, &view()), "nothing to do: 1 host is as wanted\n");
        plan.hosts.clear();
        plan.notes = vec!["2 hosts come from an image and are left alone".into()];
        assert_eq!(text(&plan, &view()), "note: 2 hosts come from an image and are left alone\n\nnothing to do\n");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let mut plan = plan();
        for step in plan.hosts.iter_mut().flat_map(|h| &mut h.steps) {
            if let Action::PutFile { file, .. } = &mut step.action {
                file.secret = true;
            }
        }
        assert!(!plan.json().contains("scrape_interval"));
        let shown = text(&plan, &view());
        assert!(!shown.contains("scrape_interval") && shown.contains("its content is not shown"), "{shown}");
    }

    #[test]
    fn a_diff_has_colours_and_stands_in_the_document() {
        assert!(plan().json().contains("+  scrape_interval: 5s"));
        let shown = plan().text(&view());
        assert!(shown.contains(&paint(GOOD, "+  scrape_interval: 5s")), "{shown}");
        assert!(shown.contains(&paint(BAD, "-  scrape_interval: 15s")), "{shown}");
    }

    #[test]
    fn the_document() {
        let mut plan = plan();
        plan.hosts.truncate(1);
        plan.hosts[0].steps.truncate(3);
        insta::assert_snapshot!(plan.json(), @r#"
        {
          "document": "plan",
          "version": 1,
          "hosts": [
            {
              "host": "dev-server-1",
              "role": "server",
              "launch": "the cluster has no server",
              "steps": [
                {
                  "action": "create-user",
                  "user": {
                    "name": "consul",
                    "home": "/var/lib/consul"
                  },
                  "reason": "it is missing"
                },
                {
                  "action": "put-dir",
                  "dir": {
                    "path": "/etc/consul.d",
                    "mode": 488,
                    "owner": "root",
                    "group": "consul"
                  },
                  "reason": "it is missing"
                },
                {
                  "action": "put-file",
                  "path": "/etc/consul.d/agent.hcl",
                  "change": "create",
                  "reason": "it is missing"
                }
              ],
              "skipped": [
                "/etc/hostname is as wanted"
              ]
            }
          ],
          "notes": []
        }
        "#);
    }
}
