use proptest::prelude::*;

use super::*;

fn shop() -> ClusterName {
    ClusterName::new("shop").unwrap()
}

fn candidate(number: u32, state: HostState, tags: &[(&str, &str)]) -> Candidate {
    let running = state == HostState::Running;
    Candidate {
        id: format!("i-{number:017x}"),
        state,
        private_address: (running || state == HostState::Stopped).then(|| [10, 0, 0, number as u8].into()),
        public_address: running.then(|| [203, 0, 113, number as u8].into()),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

const SHOP: (&str, &str) = (tag::CLUSTER, "shop");
const LEADER: (&str, &str) = (tag::LEADER, "True");

fn lead(number: u32, state: HostState) -> Candidate {
    candidate(number, state, &[SHOP, LEADER, (tag::HOST, "shop-server-1"), ("secret", "x")])
}

#[test]
fn any_letter_case_means_yes() {
    for value in ["True", "true", "TRUE", "tRuE", "1", "yes", "Yes", " true ", "YES\n"] {
        assert!(is_true(value), "{value:?}");
        for key in ["consul-leader", "Consul-Leader", "CONSUL-LEADER"] {
            assert!(leads(&BTreeMap::from([(key.to_owned(), value.to_owned())])), "{key} {value:?}");
        }
    }
    for value in ["", "false", "0", "no", "truee", "t", "on", "2", "ｔｒｕｅ"] {
        assert!(!is_true(value), "{value:?}");
    }
    assert!(!leads(&BTreeMap::from([("consul_leader".to_owned(), "true".to_owned())])));
    let both = [("consul-leader", "false"), ("Consul-Leader", "True")];
    assert!(leads(&both.map(|(key, value)| (key.to_owned(), value.to_owned())).into()));
}

#[test]
fn only_a_running_one_of_this_cluster_leads() {
    let other = candidate(9, HostState::Running, &[(tag::CLUSTER, "shop2"), LEADER]);
    let node = candidate(8, HostState::Running, &[SHOP]);
    let gone = lead(7, HostState::Terminated);
    let candidates = [
        other,
        node,
        gone,
        lead(6, HostState::Stopped),
        lead(5, HostState::Running),
        lead(4, HostState::Pending),
        lead(3, HostState::ShuttingDown),
    ];
    assert_eq!(leader(&shop(), &candidates).unwrap().id, candidates[4].id);
    let mut finder = Finder::new(shop());
    candidates.iter().cloned().for_each(|candidate| finder.push(candidate));
    assert_eq!(finder.leader().unwrap().id, candidates[4].id);
}

fn cases() -> Vec<(&'static str, Vec<Candidate>)> {
    let nameless = |state| Candidate { private_address: None, ..lead(1, state) };
    let long = "x".repeat(300);
    vec![
        ("nothing at all", vec![]),
        ("only nodes", vec![candidate(1, HostState::Running, &[SHOP])]),
        (
            "of another cluster, of none, and of this one with a no",
            vec![
                candidate(1, HostState::Running, &[(tag::CLUSTER, "shop2"), LEADER]),
                candidate(2, HostState::Running, &[LEADER, ("Name", "db")]),
                candidate(3, HostState::Running, &[SHOP, ("Consul-Leader", "flase")]),
                candidate(4, HostState::Terminated, &[LEADER]),
            ],
        ),
        ("of no cluster", vec![candidate(2, HostState::Stopped, &[LEADER])]),
        ("of other clusters", vec![candidate(2, HostState::Running, &[LEADER, (tag::CLUSTER, "\u{1b}[2J\nshop")])]),
        ("two", vec![lead(1, HostState::Running), lead(2, HostState::Running), lead(3, HostState::Pending)]),
        ("one of two without an address", vec![lead(1, HostState::Running), nameless(HostState::Running)]),
        ("many", (1..=25).map(|n| lead(n, HostState::Running)).collect()),
        ("pending, one that is gone beside it", vec![lead(1, HostState::Terminated), lead(2, HostState::Pending)]),
        ("stopped", vec![lead(1, HostState::Stopping), lead(2, HostState::Stopped)]),
        ("gone", vec![lead(1, HostState::Terminated), lead(2, HostState::ShuttingDown)]),
        ("no address", vec![nameless(HostState::Running)]),
        (
            "long and hostile tags",
            vec![candidate(1, HostState::Pending, &[SHOP, LEADER, ("Name", &long), ("NAME", "\u{1b}]0;x\u{7}\n")])],
        ),
    ]
}

#[test]
fn each_error_lists_what_was_found_and_says_what_to_do() {
    let mut shown = String::new();
    for (title, candidates) in cases() {
        let error = leader(&shop(), &candidates).unwrap_err();
        let wait = if error.may_come() { "may come" } else { "waiting does not help" };
        shown += &format!("## {title}\n{error}\n= {}\n= {wait}\n\n", error.cure());
    }
    insta::assert_snapshot!(shown);
}

/// What is kept decides and tells as all would have, except for how many there were.
#[test]
fn what_is_kept_decides_alike() {
    for (title, candidates) in cases() {
        let mut finder = Finder::new(shop());
        candidates.iter().cloned().for_each(|candidate| finder.push(candidate));
        let all = leader(&shop(), &candidates).unwrap_err();
        assert_eq!(finder.leader().unwrap_err(), all, "{title}");
        let kept = finder.into_candidates();
        let again = leader(&shop(), &kept).unwrap_err();
        assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&all), "{title}");
    }
}

#[test]
fn a_large_account_takes_no_more_than_a_small_one() {
    let mut finder = Finder::new(shop());
    for number in 0..100_000 {
        finder.push(candidate(number, HostState::Running, &[(tag::CLUSTER, "other"), LEADER]));
        finder.push(candidate(number, HostState::Running, &[SHOP]));
        finder.push(lead(number, HostState::Terminated));
    }
    let kept: usize = finder.kinds.iter().map(|(_, kept)| kept.len()).sum();
    let room: usize = finder.kinds.iter().map(|(_, kept)| kept.capacity()).sum();
    assert!(kept <= 2 * error::LISTED && room <= 4 * error::LISTED, "{kept} {room}");
    finder.push(lead(1, HostState::Running));
    assert_eq!(finder.leader().unwrap().state, HostState::Running);
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let state = prop::sample::select(vec![
        HostState::Pending,
        HostState::Running,
        HostState::ShuttingDown,
        HostState::Terminated,
        HostState::Stopping,
        HostState::Stopped,
    ]);
    let key = prop::sample::select(vec!["consul-leader", "Consul-Leader", "CONSUL-LEADER", "Name"]);
    let value = prop_oneof!["(True|true|1|yes|false|)", "\\PC{0,20}|[\u{0}-\u{1f}]{0,4}"];
    let cluster = prop::sample::select(vec![Some("shop"), Some("shop2"), Some(""), None]);
    (state, key, value, cluster, prop::bool::ANY, 1u32..200).prop_map(|(state, key, value, cluster, address, n)| {
        let mut found = candidate(n, state, &[(key, &value)]);
        found.tags.extend(cluster.map(|name| (tag::CLUSTER.to_owned(), name.to_owned())));
        found.private_address = found.private_address.filter(|_| address);
        found
    })
}

proptest! {
    /// The order in which EC2 lists them decides nothing, who leads runs, and no message holds a control character.
    #[test]
    fn decided_alike_in_any_order(mut candidates in prop::collection::vec(any_candidate(), 0..40)) {
        let one = leader(&shop(), &candidates).cloned();
        candidates.reverse();
        let other = leader(&shop(), &candidates).cloned();
        match (one, other) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(&one, &other);
                prop_assert!(one.state.is_running() && one.private_address.is_some());
                prop_assert!(leads(&one.tags) && of_cluster(&one.tags, &shop()));
            }
            (Err(one), Err(other)) => {
                prop_assert_eq!(std::mem::discriminant(&one), std::mem::discriminant(&other));
                for text in [one.to_string(), one.cure()] {
                    prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{:?}", text);
                    prop_assert!(text.lines().count() <= 1 + 3 * (error::LISTED + 2));
                }
            }
            (one, other) => prop_assert!(false, "{:?} {:?}", one, other),
        }
    }
}
