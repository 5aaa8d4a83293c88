//! Which addresses a cluster gets. Pure: what is taken is told.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The private ranges (RFC 1918) as runs of /24: first network and how many.
const RANGES: [(Ipv4Addr, u32); 3] =
    [(Ipv4Addr::new(10, 0, 0, 0), 65_536), (Ipv4Addr::new(172, 16, 0, 0), 4_096), (Ipv4Addr::new(192, 168, 0, 0), 256)];

/// A private /24 that overlaps nothing of `taken`. `seed` says where in each range the search begins, so
/// that a cluster tends to get the same subnet again.
pub fn choose(seed: u32, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    RANGES.iter().find_map(|&(first, count)| {
        (0..count).find_map(|step| {
            let number = (seed % count + step) % count;
            let candidate = Ipv4Net::new(Ipv4Addr::from_bits(first.to_bits() + (number << 8)), 24).ok()?;
            (!taken.iter().any(|t| overlap(t, &candidate))).then_some(candidate)
        })
    })
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The lowest address that a host may have and none of `taken` is.
pub fn address(subnet: Ipv4Net, taken: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    // The first one is the gateway's.
    subnet.hosts().skip(1).find(|a| !taken.contains(a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn the_seed_decides_where_nothing_is_taken() {
        assert_eq!(choose(0, &[]), Some(net("10.0.0.0/24")));
        assert_eq!(choose(65_535, &[]), Some(net("10.255.255.0/24")));
        assert_eq!(choose(65_537, &[]), Some(net("10.0.1.0/24")));
    }

    #[test]
    fn larger_and_smaller_neighbours_are_avoided() {
        let taken = [net("10.0.0.0/16"), net("10.1.0.128/25"), net("10.1.1.7/32")];
        assert_eq!(choose(5, &taken), Some(net("10.1.2.0/24")));
    }

    #[test]
    fn the_search_goes_round_and_on_to_the_other_ranges() {
        assert_eq!(choose(65_535, &[net("10.255.255.0/24")]), Some(net("10.0.0.0/24")));
        assert_eq!(choose(1, &[net("10.0.0.0/8")]), Some(net("172.16.1.0/24")));
        assert_eq!(choose(1, &[net("10.0.0.0/8"), net("172.16.0.0/12")]), Some(net("192.168.1.0/24")));
        assert_eq!(choose(1, &[net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
        assert_eq!(choose(1, &[net("0.0.0.0/0")]), None);
    }

    #[test]
    fn addresses_begin_behind_the_gateway_and_end_before_the_broadcast() {
        let subnet = net("10.9.9.0/24");
        let mut taken = Vec::new();
        while let Some(next) = address(subnet, &taken) {
            taken.push(next);
        }
        assert_eq!(taken.first(), Some(&Ipv4Addr::new(10, 9, 9, 2)));
        assert_eq!(taken.last(), Some(&Ipv4Addr::new(10, 9, 9, 254)));
        assert_eq!(taken.len(), 253);
        taken.remove(3);
        assert_eq!(address(subnet, &taken), Some(Ipv4Addr::new(10, 9, 9, 5)));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_private_and_free(seed: u32, taken in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
            let taken: Vec<_> = taken.into_iter().map(|(a, p)| Ipv4Net::new(Ipv4Addr::from_bits(a), p).unwrap()).collect();
            let chosen = choose(seed, &taken).unwrap();
            prop_assert!(chosen.network().is_private() && chosen.prefix_len() == 24);
            prop_assert!(!taken.iter().any(|t| overlap(t, &chosen)));
        }
    }
}
