//! Who may change a cluster just now, told where every machine that changes it looks: the local lock only keeps apart
//! what runs on one machine.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a lease holds unless it is renewed.
pub const TERM: SignedDuration = SignedDuration::from_mins(5);
/// How often it is renewed: four failures in a row may be borne.
pub const RENEWAL: std::time::Duration = std::time::Duration::from_secs(60);
/// By how much the clocks of two machines may differ.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Unlike any other's.
    pub id: String,
    /// `user@host`, for people.
    pub owner: String,
    /// Which machine, by an id that outlives reboots.
    pub machine: String,
    pub process: u32,
    /// The verb: `up`.
    pub command: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// What whoever wants the lease makes of the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Held,
    /// It was not renewed in time: its owner was killed, or is cut off from AWS.
    Expired,
    /// Its owner ran on this machine, where nobody else can run: whoever asks holds the local lock.
    Abandoned,
}

impl Lease {
    /// The same, for another term.
    #[must_use]
    pub fn renewed(&self, now: Timestamp) -> Self {
        Self { until: now + TERM, ..self.clone() }
    }

    /// How it stands for whoever asks on `machine`, holding the local lock.
    pub fn standing(&self, machine: &str, now: Timestamp) -> Standing {
        if self.machine == machine {
            Standing::Abandoned
        } else if self.until + SKEW < now {
            Standing::Expired
        } else {
            Standing::Held
        }
    }

    /// For people: who, what, since when.
    pub fn holder(&self) -> String {
        let since = self.since.strftime("%Y-%m-%d %H:%M:%S UTC");
        format!("`clusterctl {}` of {} (process {}) since {since}", self.command, self.owner, self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let since: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        Lease {
            id: "1".to_owned(),
            owner: "ada@ci-7".to_owned(),
            machine: "a".to_owned(),
            process: 42,
            command: "up".to_owned(),
            since,
            until: since + TERM,
        }
    }

    #[test]
    fn another_machines_lease_holds_until_it_is_over_by_both_clocks() {
        let lease = lease();
        assert_eq!(lease.standing("b", lease.since), Standing::Held);
        assert_eq!(lease.standing("b", lease.until), Standing::Held);
        assert_eq!(lease.standing("b", lease.until + SKEW), Standing::Held);
        assert_eq!(lease.standing("b", lease.until + SKEW + SignedDuration::from_secs(1)), Standing::Expired);
    }

    #[test]
    fn a_lease_of_this_machine_is_nobodys_since_the_local_lock_is_held() {
        assert_eq!(lease().standing("a", lease().since), Standing::Abandoned);
    }

    #[test]
    fn a_renewal_begins_now_and_keeps_since_when() {
        let now = lease().since + SignedDuration::from_mins(3);
        let renewed = lease().renewed(now);
        assert_eq!((renewed.since, renewed.until), (lease().since, now + TERM));
    }

    #[test]
    fn people_read_who_what_and_since_when() {
        assert_eq!(lease().holder(), "`clusterctl up` of ada@ci-7 (process 42) since 2026-11-26 10:00:00 UTC");
    }
}
