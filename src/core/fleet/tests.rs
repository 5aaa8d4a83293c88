use proptest::prelude::*;

use super::*;
use crate::model::fleet::{Make, Scraped};
use crate::model::host::HostState;

const NOW: i64 = 1_700_000_000;

fn id(n: usize) -> HostId {
    HostId(format!("i-{n:03}"))
}

/// The n-th member of a group of today's make, an hour old.
fn member(n: usize) -> Member {
    Member {
        id: id(n),
        instance_type: "t3.small".to_owned(),
        zone: ["a", "b", "c"][n % 3].to_owned(),
        lifecycle: Lifecycle::InService,
        healthy: true,
        state: Some(HostState::Running),
        mark: Some("new".to_owned()),
        launched: Timestamp::from_second(NOW - 3600 + n as i64).ok(),
        spot: false,
    }
}

fn group(members: Vec<Member>) -> FleetFacts {
    FleetFacts {
        name: "clusterctl-shop".to_owned(),
        wanted: members.len() as u16,
        min: 0,
        max: 1000,
        make: Some(Make { version: 2, mark: Some("new".to_owned()), image: "ami-1".to_owned() }),
        members,
        trouble: Vec::new(),
    }
}

fn up() -> Scraped {
    Scraped { health: "up".to_owned(), error: String::new() }
}

/// Consul and Prometheus know these.
fn words(known: impl IntoIterator<Item = usize>) -> Words {
    let mut words = Words::default();
    for n in known {
        words.consul.insert(id(n).0, "alive".to_owned());
        words.prometheus.insert(id(n).0, up());
    }
    words
}

fn said(member: &Member, words: &Words) -> String {
    problem(member, words).unwrap_or_else(|| "well".to_owned())
}

#[test]
fn a_member_is_well_when_all_three_say_so() {
    let good = words([1]);
    assert_eq!(said(&member(1), &good), "well");
    let pending = Member { lifecycle: Lifecycle::Pending, ..member(1) };
    assert_eq!(said(&pending, &good), "it is pending");
    let gone = Member { state: None, ..member(1) };
    assert_eq!(said(&gone, &good), "EC2 lists no such instance");
    let stopped = Member { state: Some(HostState::Stopped), ..member(1) };
    assert_eq!(said(&stopped, &good), "it is stopped");
    let unhealthy = Member { healthy: false, ..member(1) };
    assert_eq!(said(&unhealthy, &good), "EC2 calls it unhealthy");
    assert_eq!(said(&member(2), &good), "Consul does not know it");

    let mut other = words([1]);
    other.consul.insert(id(1).0, "failed".to_owned());
    assert_eq!(said(&member(1), &other), "Consul says failed");
    let mut other = words([1]);
    other.prometheus.clear();
    assert_eq!(said(&member(1), &other), "Prometheus has no target of it");
    other.prometheus.insert(id(1).0, Scraped { health: "down".to_owned(), error: "no route".to_owned() });
    assert_eq!(said(&member(1), &other), "Prometheus says down: no route");
    let silent = Words { problems: vec!["s: Consul: does not answer".to_owned()], ..Words::default() };
    assert_eq!(said(&member(1), &silent), "nobody could be asked of it");
}

#[test]
fn the_report_counts() {
    let mut members: Vec<Member> = (0..6).map(member).collect();
    members[0].mark = Some("old".to_owned());
    members[1].lifecycle = Lifecycle::Pending;
    members[2].lifecycle = Lifecycle::Ending;
    members[2].mark = None;
    members[3].spot = true;
    members[3].instance_type = "t3.large".to_owned();
    let mut facts = group(members);
    facts.wanted = 5;
    let cluster = ClusterName::new("shop").unwrap();
    let report = report(&cluster, &facts, &words([0, 3, 4]));
    assert_eq!((report.in_service, report.well, report.pending, report.ending), (4, 3, 1, 1));
    assert_eq!((report.outdated, report.spot), (1, 1));
    assert_eq!(report.types, [("t3.large".to_owned(), 1), ("t3.small".to_owned(), 4)].into());
    assert_eq!(report.zones.values().sum::<usize>(), 5);
    assert!(!report.is_well());
    let three = group((0..3).map(member).collect());
    assert!(super::report(&cluster, &three, &words(0..3)).is_well());
    let troubled = FleetFacts { trouble: vec!["no capacity".to_owned()], ..three };
    assert!(!super::report(&cluster, &troubled, &words(0..3)).is_well());
}

#[test]
fn a_size_has_arrived_when_all_are_well_and_nothing_is_left_of_the_others() {
    let facts = group((0..2).map(member).collect());
    let nobody = BTreeSet::new();
    assert!(unsettled(&facts, &words(0..2), 2, &nobody).is_empty());
    assert_eq!(unsettled(&facts, &words(0..2), 3, &nobody), ["the group has 2 of 3"]);
    assert_eq!(unsettled(&facts, &words(0..1), 2, &nobody), ["i-001: Consul does not know it"]);
    let gone = BTreeSet::from([id(7)]);
    assert!(unsettled(&facts, &words(0..2), 2, &gone).is_empty());
    let listed = words([0, 1, 7]);
    assert_eq!(unsettled(&facts, &listed, 2, &gone), ["i-007: it was ended, and Consul lists it alive"]);
    let mut left = words([0, 1, 7]);
    left.consul.insert(id(7).0, "left".to_owned());
    assert_eq!(unsettled(&facts, &left, 2, &gone), ["i-007: it was ended, and Prometheus still has its target"]);
    left.prometheus.remove(&id(7).0);
    assert!(unsettled(&facts, &left, 2, &gone).is_empty());
    // One that is on its way out does not count, and is not sick.
    let mut ending = group((0..3).map(member).collect());
    ending.members[2].lifecycle = Lifecycle::Ending;
    assert!(unsettled(&ending, &words(0..2), 2, &BTreeSet::from([id(2)])).is_empty());
    // Whoever could not be asked confirms nothing.
    let mut silent = words(0..2);
    silent.problems.push("s: Prometheus: does not answer".to_owned());
    assert_eq!(unsettled(&facts, &silent, 2, &nobody), ["s: Prometheus: does not answer"]);
    let full = FleetFacts { trouble: vec!["EC2 says: no room".to_owned()], ..facts };
    assert_eq!(unsettled(&full, &words(0..2), 3, &nobody), ["the group has 2 of 3", "EC2 says: no room"]);
}

#[test]
fn a_message_names_ten() {
    let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    assert!(named(&many).ends_with("9; and 2 more"));
    assert_eq!(named(&many[..2]), "0; 1");
}

#[test]
fn batches_leave_the_share_that_is_to_stay() {
    for (size, min_healthy, batch) in
        [(10, 90, 1), (100, 90, 10), (1000, 99, 10), (3, 90, 1), (0, 90, 1), (10, 50, 5), (7, 1, 6), (1, 99, 1)]
    {
        assert_eq!(batch_size(size, min_healthy), batch, "{size} {min_healthy}");
    }
}

fn left(of: impl IntoIterator<Item = usize>) -> BTreeSet<HostId> {
    of.into_iter().map(id).collect()
}

#[test]
fn who_is_a_candidate() {
    let now = Timestamp::from_second(NOW).unwrap();
    let mut members: Vec<Member> = (0..4).map(member).collect();
    members[0].mark = Some("old".to_owned());
    members[1].mark = None;
    members[2].lifecycle = Lifecycle::Ending;
    members[3].launched = Timestamp::from_second(NOW - 60).ok();
    let judged = judge(&group(members), &words([0]));
    assert_eq!(candidates(&judged, &Whom::Outdated, now), left([0, 1]));
    assert_eq!(candidates(&judged, &Whom::Unhealthy, now), left([1]), "the third ends, the fourth is young");
    assert_eq!(candidates(&judged, &Whom::All, now), left([0, 1, 3]));
}

#[test]
fn the_sick_go_first_then_the_oldest() {
    let judged = judge(&group((0..10).map(member).collect()), &words((0..10).filter(|n| *n != 5)));
    // Nine are well and nine are to be: only the sick one may go.
    assert_eq!(next(&judged, &left(0..10), 10, 90), Next::End { ids: vec![id(5)], goal: 10 });
    // With room for three missing, two well ones go with it.
    assert_eq!(next(&judged, &left(0..10), 10, 70), Next::End { ids: vec![id(5), id(0), id(1)], goal: 10 });
    let all = judge(&group((0..10).map(member).collect()), &words(0..10));
    assert_eq!(next(&all, &left(3..10), 10, 80), Next::End { ids: vec![id(3), id(4)], goal: 10 });
}

#[test]
fn who_was_interrupted_waits_for_its_last_batch_first() {
    // The ninth replaces one of an earlier batch, and has not joined yet.
    let judged = judge(&group((0..10).map(member).collect()), &words(0..9));
    assert_eq!(next(&judged, &left(0..9), 10, 90), Next::Wait { well: 9, floor: 9 });
    let judged = judge(&group((0..10).map(member).collect()), &words(0..10));
    assert_eq!(next(&judged, &left(0..9), 10, 90), Next::End { ids: vec![id(0)], goal: 10 });
}

#[test]
fn a_fleet_of_one_is_replaced_all_the_same() {
    let judged = judge(&group(vec![member(0)]), &words([0]));
    assert_eq!(next(&judged, &left([0]), 1, 99), Next::End { ids: vec![id(0)], goal: 1 });
    assert_eq!(next(&judged, &left([]), 1, 99), Next::Done);
    assert_eq!(next(&judged, &left([7]), 1, 99), Next::Done, "it is gone already");
    let mut ending = group(vec![member(0)]);
    ending.members[0].lifecycle = Lifecycle::Ending;
    assert_eq!(next(&judge(&ending, &words([0])), &left([0]), 1, 99), Next::Done);
}

#[test]
fn a_batch_is_whole_again() {
    let mut facts = group((0..3).map(member).collect());
    let ended = BTreeSet::from([id(0)]);
    // The ended one is still in service for a moment, and counts no more.
    assert_eq!(
        unreplaced(&facts, &words(0..3), 3, &ended),
        ["2 of 3 are well", "i-000: it was ended, and Consul lists it alive"]
    );
    facts.members[0] = Member { lifecycle: Lifecycle::Pending, ..member(3) };
    assert_eq!(unreplaced(&facts, &words(1..3), 3, &ended), ["2 of 3 are well", "i-003: it is pending"]);
    facts.members[0] = member(3);
    assert!(unreplaced(&facts, &words(1..4), 3, &ended).is_empty());
    facts.trouble = vec!["no room".to_owned()];
    assert!(unreplaced(&facts, &words(1..4), 3, &ended).is_empty(), "what was in the way is over");
}

#[test]
fn a_large_fleet_is_asked_for_less_often() {
    assert_eq!(interval(0), Duration::from_secs(1));
    assert_eq!(interval(1000), Duration::from_secs(11));
    assert_eq!(interval(usize::MAX), Duration::from_secs(11));
}

proptest! {
    /// Whatever is sick and whoever is to go: never are so many ended that fewer than the floor stay well, and
    /// somebody goes as soon as all are well.
    #[test]
    fn a_roll_never_goes_below_its_floor(
        sick in prop::collection::btree_set(0usize..40, 0..40),
        going in prop::collection::btree_set(0usize..40, 0..40),
        size in 1usize..40,
        min_healthy in 1u8..100,
    ) {
        let judged = judge(&group((0..size).map(member).collect()), &words((0..size).filter(|n| !sick.contains(n))));
        let going: BTreeSet<usize> = going.into_iter().filter(|n| *n < size).collect();
        let batch = batch_size(size as u16, min_healthy);
        match next(&judged, &left(going.iter().copied()), size as u16, min_healthy) {
            Next::Done => prop_assert!(going.is_empty()),
            Next::Wait { well, floor } => prop_assert!(well <= floor),
            Next::End { ids, goal } => {
                prop_assert!(!ids.is_empty() && ids.len() <= batch && goal <= size);
                let well = |m: &&MemberStatus| m.problem.is_none();
                let before = judged.iter().filter(well).count();
                let ended = judged.iter().filter(well).filter(|m| ids.contains(&m.member.id)).count();
                prop_assert!(ended == 0 || before - ended >= size - batch);
                prop_assert!(goal >= before.min(size));
            }
        }
    }
}
