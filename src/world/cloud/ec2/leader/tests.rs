use super::*;
use crate::model::host::HostState;

fn instance(number: u32, role: &str, tags: &[(&str, &str)]) -> Instance {
    let own = [(tag::ROLE, role.to_owned()), (tag::HOST, format!("shop-{role}-{number}"))];
    let tags = tags.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Instance {
        id: format!("i-{role}-{number}"),
        state: HostState::Running,
        reason: None,
        private_address: None,
        public_address: None,
        tags: own.into_iter().chain(tags).map(|(key, value)| (key.to_owned(), value)).collect(),
        image: String::new(),
        vpc: None,
        groups: Vec::new(),
        volumes: Vec::new(),
        launched: None,
        spot: false,
    }
}

/// Each mend as a letter and whom it is of.
fn found(instances: &[Instance]) -> Vec<String> {
    let mends = mends(instances, &ClusterName::new("shop").unwrap());
    let shown = mends.iter().map(|mend| match mend {
        LeaderTag::Both(instance) => format!("both {}", instance.id),
        LeaderTag::Follows(instance) => format!("follows {}", instance.id),
        LeaderTag::Stays(instance) => format!("stays {}", instance.id),
    });
    shown.collect()
}

#[test]
fn the_clusters_tag_follows_the_leaders() {
    let (true_tag, ours) = ((tag::LEADER, "True"), (tag::LEADS, "shop"));
    let none: [&str; 0] = [];
    let second = || instance(2, "server", &[]);
    assert_eq!(found(&[instance(1, "server", &[true_tag, ours]), second()]), none);
    // A cluster of before; one whose tag somebody changed; a leader's tag in another letter case.
    assert_eq!(found(&[instance(1, "server", &[true_tag]), second()]), ["follows i-server-1"]);
    assert_eq!(found(&[instance(1, "server", &[true_tag, (tag::LEADS, "shop2")])]), ["follows i-server-1"]);
    assert_eq!(found(&[instance(1, "server", &[("Consul-Leader", "yes")])]), ["follows i-server-1"]);
    // Nobody leads: the first server does, whatever is left of its tags.
    for left in [&[][..], &[ours], &[ours, (tag::LEADER, "false")]] {
        assert_eq!(found(&[second(), instance(1, "server", left)]), ["both i-server-1"]);
    }
    assert_eq!(found(&[second(), instance(1, "node", &[])]), none);
    // Somebody moved the leader's tag by hand: the other one moves after it.
    let moved = [instance(1, "server", &[ours]), instance(1, "node", &[(tag::LEADER, "1")])];
    assert_eq!(found(&moved), ["stays i-server-1", "follows i-node-1"]);
}
