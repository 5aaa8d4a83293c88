use std::sync::Arc;

use indicatif::InMemoryTerm;

use super::super::script::{Hand, Script, at, began, event, play};
use super::*;

/// A terminal in memory, with what stands on it after the script and a tick at `second`.
fn screen(script: Script, (columns, rows): (u16, u16), second: i64) -> (Arc<Bars>, InMemoryTerm) {
    let term = InMemoryTerm::new(rows, columns);
    let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
    let size = Box::new(move || (columns.into(), rows.into()));
    let (bars, _): (_, Hand) = play(script, |clock| Arc::new(Bars::new(target, true, size, clock)));
    bars.tick(at(second));
    (bars, term)
}

#[test]
fn three_hosts_one_failed_one_done_one_late() {
    let (_bars, term) = screen(Script::mixed(), (80, 24), 14);
    insta::assert_snapshot!(term.contents(), @r"
    warning: dev-node-2: clock is 3 s ahead
    1 of 3 hosts is done
    Installing  3 hosts: 1 done, 1 busy, 1 failed  14 s
      ✓ dev-node-1    2 changes
      ✗ dev-node-2    consul validate: no
      • dev-server-1     14 s  connecting, attempt 2 (connection \u{1b}[31mrefused)
    ");
}

#[test]
fn downloads_have_gauges() {
    let (_bars, term) = screen(Script::downloads(), (80, 24), 5);
    insta::assert_snapshot!(term.contents(), @r"
    Preparing  5 s
      ↓     5 s  base system: unpacking \u{1b}[2J
      ↓     5 s  consul 1.22.7 linux/amd64  ━━━━────────  12.1 of 35.0 MB
    ");
}

#[test]
fn a_narrow_terminal_cuts_lines_and_never_wraps_them() {
    let (_bars, term) = screen(Script::mixed(), (40, 24), 14);
    insta::assert_snapshot!(term.contents(), @"
    warning: dev-node-2: clock is 3 s ahead
    1 of 3 hosts is done
    Installing  3 hosts: 1 done, 1 busy, 1…
      ✓ dev-node-1    2 changes
      ✗ dev-node-2    consul validate: no
      • dev-server-1     14 s  connecting,…
    ");
}

#[test]
fn a_thousand_hosts_take_a_few_lines() {
    let mut events: Vec<_> = (0..1000).map(|n| (n / 100, began(&format!("n{n}"), Doing::ReadFacts))).collect();
    events.extend((0..30).map(|n| {
        let failed = EventKind::HostFailed { step: "connect".into(), message: "refused".into() };
        (11, event(&format!("n{n}"), failed))
    }));
    events.extend((30..500).map(|n| (12, event(&format!("n{n}"), EventKind::HostDone { changes: 3 }))));
    let (bars, term) = screen(Script(events), (80, 40), 20);
    insta::assert_snapshot!(term.contents(), @"
    ✗ n0: connect: refused
    ✗ n1: connect: refused
    ✗ n2: connect: refused
    ✗ n3: connect: refused
    ✗ n4: connect: refused
    ✗ n5: connect: refused
    ✗ n6: connect: refused
    ✗ n7: connect: refused
    ✗ n8: connect: refused
    ✗ n9: connect: refused
    ✗ n10: connect: refused
    ✗ n11: connect: refused
    ✗ n12: connect: refused
    ✗ n13: connect: refused
    ✗ n14: connect: refused
    ✗ n15: connect: refused
    ✗ n16: connect: refused
    ✗ n17: connect: refused
    ✗ n18: connect: refused
    ✗ n19: connect: refused
    Working  1000 hosts: 470 done, 500 busy, 30 failed  20 s
      • n500     15 s  reading facts
      • n501     15 s  reading facts
      • n502     15 s  reading facts
      • n503     15 s  reading facts
      • n504     15 s  reading facts
      • n505     15 s  reading facts
      • n506     15 s  reading facts
      • n507     15 s  reading facts
      … and 492 more
    ");
    bars.finish();
    assert_eq!(term.contents().lines().count(), FAILURES, "the failures stay, the live view goes");
}

#[test]
fn a_low_terminal_is_never_filled() {
    let events = (0..12).map(|n| (0, began(&format!("n{n}"), Doing::Boot))).collect();
    let (bars, _) = screen(Script(events), (80, 10), 1);
    assert!(frame(&lock(&bars.state).board, at(1), 10).len() < 10);
}

#[test]
fn ages_change_colour_when_they_are_late() {
    let mut board = Board::default();
    board.take(&began("a", Doing::Boot), at(0));
    let colour = |second| frame(&board, at(second), 24)[1].paint(None);
    let with = |style: Style, text: &str| super::super::super::style::paint(style, text);
    assert!(colour(9).contains(&with(DIM, "    9 s")));
    assert!(colour(10).contains(&with(WARN, "   10 s")));
    assert!(colour(60).contains(&with(BAD, "   1:00")));
}

#[test]
fn finishing_leaves_the_warnings_and_nothing_else() {
    let (bars, term) = screen(Script::mixed(), (80, 24), 14);
    bars.finish();
    bars.emit(event("late", EventKind::Note { message: "too late".into() }));
    bars.tick(at(99));
    insta::assert_snapshot!(term.contents(), @"
    warning: dev-node-2: clock is 3 s ahead
    1 of 3 hosts is done
    ");
}

#[test]
fn a_transfer_has_a_gauge_and_fits() {
    let mut script = Script::mixed();
    script.0.truncate(9);
    let (_bars, term) = screen(script, (80, 24), 7);
    insta::assert_snapshot!(term.contents(), @r"
    warning: dev-node-2: clock is 3 s ahead
    Installing  3 hosts: 3 busy  7 s
      • dev-node-1        7 s  sending  ━━━━────────  30.0 of 82.1 MB
      • dev-node-2        6 s  checking with consul validate
      • dev-server-1      7 s  connecting, attempt 2 (connection \u{1b}[31mrefused)
    ");
}
