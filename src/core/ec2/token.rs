//! ClientTokens: a call that is repeated with the same one launches nothing twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::model::ec2::tag;
use crate::model::host::Role;
use crate::model::name::ClusterName;

/// EC2 takes 64 ASCII characters: so many for people to recognise it by, a hyphen, and 32 of the hash.
const READABLE: usize = 31;
const HASHED: usize = 16;

/// The token of one launch of one host. The same for the same launch on any machine, another for any other.
pub fn client_token(cluster: &ClusterName, role: Role, ordinal: u32, generation: u32) -> String {
    let launch = format!("{cluster}-{role}-{ordinal}-{generation}");
    // A cluster's name may hold hyphens and digits: fields are told apart by what no name holds.
    let digest = Sha256::digest(format!("{cluster}\n{role}\n{ordinal}\n{generation}"));
    let mut token: String = launch.chars().take(READABLE).collect();
    token.push('-');
    for byte in &digest[..HASHED] {
        write!(token, "{byte:02x}").expect("a string takes it");
    }
    token
}

/// Which launch the next one is, by the tags of all instances of that host name that EC2 still lists, the
/// terminated ones too: their tokens are spent.
pub fn next_generation<'a>(instances: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> u32 {
    let generation = |tags: &BTreeMap<String, String>| tags.get(tag::GENERATION)?.parse::<u32>().ok();
    // One whose tag was lost or spoilt was launched at least once.
    let last = instances.into_iter().map(|tags| generation(tags).unwrap_or(1)).max().unwrap_or(0);
    last.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(generation: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(tag::GENERATION.to_owned(), generation.to_owned())])
    }

    #[test]
    fn a_token_never_changes() {
        let cluster = ClusterName::new("shop").unwrap();
        let token = client_token(&cluster, Role::Node, 3, 1);
        assert_eq!(token, "shop-node-3-1-77a857c05bf36b22e2b18a693564064a");
    }

    #[test]
    fn generations_count_on_from_the_highest() {
        assert_eq!(next_generation([]), 1);
        assert_eq!(next_generation([&tags("1"), &tags("4"), &tags("2")]), 5);
        assert_eq!(next_generation([&tags("x"), &BTreeMap::new()]), 2);
        assert_eq!(next_generation([&tags("4294967295")]), u32::MAX);
    }

    fn launches() -> impl Strategy<Value = (String, Role, u32, u32)> {
        let role = prop_oneof![Just(Role::Server), Just(Role::Node)];
        ("[a-z]([a-z0-9-]{0,38}[a-z0-9])?", role, 0u32..5000, 0u32..50)
    }

    proptest! {
        #[test]
        fn tokens_fit_and_are_distinct(a in launches(), b in launches()) {
            let token = |(cluster, role, ordinal, generation): &(String, Role, u32, u32)| {
                client_token(&ClusterName::new(cluster.as_str()).unwrap(), *role, *ordinal, *generation)
            };
            prop_assert!(token(&a).is_ascii() && token(&a).len() <= 64);
            prop_assert_eq!(token(&a) == token(&b), a == b);
        }

        /// Where the readable halves meet: `a-1` and `a` with other numbers behind them.
        #[test]
        fn neighbours_are_distinct(ordinal in 0u32..30, generation in 0u32..30, n in 0u32..30, m in 0u32..30) {
            let cluster = ClusterName::new("a-node-1").unwrap();
            let same = (ordinal, generation) == (n, m);
            let (one, other) =
                (client_token(&cluster, Role::Node, ordinal, generation), client_token(&cluster, Role::Node, n, m));
            prop_assert_eq!(one == other, same);
        }
    }
}
