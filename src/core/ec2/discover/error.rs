//! Why there is no leader: what was found instead, and what to do.

use std::fmt;

use thiserror::Error;

use crate::model::ec2::{Candidate, tag};
use crate::model::name::ClusterName;

/// So many instances are listed, and the others counted.
pub(super) const LISTED: usize = 10;
/// The longest piece of a tag's value that is shown, in characters.
const VALUE: usize = 60;

/// Instances that were found: how many, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub count: usize,
    pub shown: Vec<Candidate>,
}

/// Why nobody leads, or several do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiscoverError {
    #[error("no instance of {cluster} is tagged as its leader{}", Hints { not_true, clusterless, others })]
    None {
        cluster: ClusterName,
        /// Of this cluster, with a value that does not mean yes.
        not_true: Found,
        /// Tagged as leaders, of no cluster.
        clusterless: Found,
        /// Tagged as leaders, of other clusters.
        others: Found,
    },
    #[error("{} instances of {cluster} run and are tagged as its leader{found}", .found.count)]
    Several { cluster: ClusterName, found: Found },
    #[error("the leader of {cluster} is not running yet{found}")]
    Pending { cluster: ClusterName, found: Found },
    #[error("the leader of {cluster} is stopped{found}")]
    Stopped { cluster: ClusterName, found: Found },
    #[error("the leader of {cluster} is gone: it was terminated{found}")]
    Gone { cluster: ClusterName, found: Found },
    #[error("the leader of {cluster} runs and has no private address yet{found}")]
    NoAddress { cluster: ClusterName, found: Found },
}

impl DiscoverError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::None { cluster, not_true, .. } if not_true.count > 0 => format!(
                "give the one that is {cluster}'s server {}=True, or let `clusterctl up` make a server, which gets it",
                tag::LEADER
            ),
            Self::None { cluster, clusterless, .. } if clusterless.count > 0 => format!(
                "if one of them is {cluster}'s server, give it {}={cluster}; else `clusterctl up` makes a server",
                tag::CLUSTER
            ),
            Self::None { cluster, others, .. } if others.count > 0 => format!(
                "is the cluster's name right (--cluster, name in [cluster])? Else `clusterctl up` makes {cluster}'s server"
            ),
            Self::None { cluster, .. } => format!(
                "`clusterctl up` makes a server; one that exists already needs the tags {}=True and {}={cluster}. Are region \
                 and profile right?",
                tag::LEADER,
                tag::CLUSTER
            ),
            Self::Several { .. } => format!(
                "leave the tag {} on the one that the others are to join, and take it off the rest: `aws ec2 delete-tags \
                 --resources ID --tags Key={}`",
                tag::LEADER,
                tag::LEADER
            ),
            Self::Pending { .. } | Self::NoAddress { .. } => "wait for it: `clusterctl discover --wait 5m`".to_owned(),
            Self::Stopped { .. } => "`clusterctl up` starts it again".to_owned(),
            Self::Gone { cluster, .. } => format!(
                "if it was the only server of {cluster}, it is lost: `clusterctl up` makes a new one, and the nodes register \
                 with it; what Consul's key-value store held is lost unless you have a snapshot"
            ),
        }
    }

    /// May a leader come by waiting? All that `clusterctl up` mends, be it run elsewhere this moment, may come:
    /// it launches what is missing or gone, starts what is stopped, and the rest is on its way. Which of several
    /// is to lead is for a person to say, and no time decides it.
    pub const fn may_come(&self) -> bool {
        !matches!(self, Self::Several { .. })
    }
}

impl fmt::Display for Found {
    /// One line an instance, each begun.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for candidate in self.shown.iter().take(LISTED) {
            write!(f, "\n  {}", Line(candidate))?;
        }
        match self.count.saturating_sub(self.shown.len().min(LISTED)) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// What explains that there is none.
struct Hints<'a> {
    not_true: &'a Found,
    clusterless: &'a Found,
    others: &'a Found,
}

impl fmt::Display for Hints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (found, what) in [
            (self.not_true, "its tag says no on"),
            (self.clusterless, "tagged as a leader, of no cluster"),
            (self.others, "tagged as a leader, of another cluster"),
        ] {
            if found.count > 0 {
                write!(f, "\n{what}:{found}")?;
            }
        }
        Ok(())
    }
}

/// An instance on one line. Tags are anybody's words: they are escaped, and cut where they are long.
struct Line<'a>(&'a Candidate);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(candidate) = self;
        write!(f, "{} {}", short(&candidate.id), candidate.state)?;
        for address in [candidate.private_address, candidate.public_address].into_iter().flatten() {
            write!(f, " {address}")?;
        }
        let told = |key: &str| {
            [tag::LEADER, tag::CLUSTER, tag::HOST, tag::NAME].iter().any(|told| key.eq_ignore_ascii_case(told))
        };
        for (key, value) in candidate.tags.iter().filter(|(key, _)| told(key)) {
            write!(f, " {}=\"{}\"", short(key), short(value))?;
        }
        Ok(())
    }
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(VALUE).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_debug())
}
