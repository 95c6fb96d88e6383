//! Whether the replicas have the same state: with every clock report a node tells the hash of its state at
//! the last index that it has applied, and whoever hears it compares that with his own at the same index.
//!
//! The hash is kept as commands change the state and remembered for some thousands of indexes, so that
//! comparing costs nothing. A node whose state differs from another's stays only if a majority of the voters,
//! itself counted if it is one, has the state that it has; else it ends and says so: better absent than
//! divergent. When too few can be asked to tell who is right, all that differ end.
//!
//! Left out: records that changed without a command, which the recount finds, and repair: a node that
//! differs is replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::StopReason;
use crate::{limits::CLOCK_EXCHANGE_MS, storage::state::SharedState, types::NodeId};

/// How long a node that differs from some waits for others to tell who is right, in ms: five exchanges, since
/// a majority that can be reached is heard within two.
const VERDICT_MS_MAX: u64 = 5 * CLOCK_EXCHANGE_MS;

/// Compares this node's state with its peers'.
pub(super) struct Comparison {
    shared: SharedState,
    peers: Mutex<Peers>,
}

impl Comparison {
    pub fn new(own: NodeId, shared: SharedState) -> Comparison {
        Comparison {
            shared,
            peers: Mutex::new(Peers {
                own,
                known: BTreeMap::new(),
            }),
        }
    }

    /// Index and hash to tell the others; zeros when there is nothing to tell.
    pub fn report(&self) -> (u64, u128) {
        self.shared.digest_newest().unwrap_or_default()
    }

    /// Takes what a peer told. An index of zero is of a node that tells none.
    pub fn hear(&self, peer: NodeId, log_index: u64, digest: u128) {
        if log_index > 0 {
            let mut peers = self.peers();
            peers.known.entry(peer).or_default().heard = Some((log_index, digest));
            self.compare(&mut peers);
        }
    }

    /// Compares what was heard before this node was there, forgets who is no member, and gives the reason to
    /// end if there is one.
    pub fn judge(&self, members: &BTreeSet<NodeId>, voters: &BTreeSet<NodeId>) -> Option<StopReason> {
        let mut peers = self.peers();
        peers.known.retain(|peer, _| members.contains(peer));
        self.compare(&mut peers);
        for (peer, known) in &peers.known {
            let differs = if known.differs.is_some() { 1.0 } else { 0.0 };
            metrics::gauge!("holdfast_replica_differs", "peer" => peer.to_string()).set(differs);
        }
        peers.judge(voters, Instant::now())
    }

    fn compare(&self, peers: &mut Peers) {
        let Some((newest, _)) = self.shared.digest_newest() else {
            return;
        };
        let now = Instant::now();
        for (peer, known) in &mut peers.known {
            let Some((log_index, theirs)) = known.heard else {
                continue;
            };
            if log_index > newest {
                continue;
            }
            known.heard = None;
            // What lies too far back to be remembered is not compared: the next report is a second away.
            if let Some(own) = self.shared.digest_at(log_index)
                && known.compared(log_index, own == theirs, now)
            {
                tracing::error!(
                    peer,
                    log_index,
                    own = format!("{own:032x}"),
                    theirs = format!("{theirs:032x}"),
                    "this node's state and a peer's differ"
                );
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().expect("no code panics while holding it")
    }
}

/// What is known of all peers.
struct Peers {
    own: NodeId,
    known: BTreeMap<NodeId, Peer>,
}

/// What is known of one.
#[derive(Default)]
struct Peer {
    /// What it told and this node could not compare yet.
    heard: Option<(u64, u128)>,
    /// Newest index at which both had the same state; zero: never yet.
    equal_at: u64,
    /// The first index of those since at which they had not, and when that was found.
    differs: Option<(u64, Instant)>,
}

impl Peer {
    /// Notes a comparison; true when it is the first that shows a difference.
    fn compared(&mut self, log_index: u64, equal: bool, now: Instant) -> bool {
        if equal {
            self.equal_at = self.equal_at.max(log_index);
            // It was replaced, or rebuilt its state, and is right now.
            self.differs = self.differs.filter(|(differs_at, _)| *differs_at > log_index);
            return false;
        }
        let is_new = self.differs.is_none();
        self.differs.get_or_insert((log_index, now));
        is_new
    }
}

impl Peers {
    fn judge(&self, voters: &BTreeSet<NodeId>, now: Instant) -> Option<StopReason> {
        let differ: Vec<(NodeId, u64, Instant)> = self
            .known
            .iter()
            .filter_map(|(&peer, known)| known.differs.map(|(log_index, since)| (peer, log_index, since)))
            .collect();
        let &(_, log_index, _) = differ.iter().min_by_key(|(_, log_index, _)| *log_index)?;
        let majority = voters.len() / 2 + 1;
        let equal = |peer: &NodeId| {
            *peer == self.own
                || self
                    .known
                    .get(peer)
                    .is_some_and(|known| known.differs.is_none() && known.equal_at >= log_index)
        };
        if voters.iter().filter(|peer| equal(peer)).count() >= majority {
            return None;
        }
        let voters_differ = differ.iter().filter(|(peer, ..)| voters.contains(peer)).count();
        let waited = differ.iter().any(|&(_, _, since)| {
            now.saturating_duration_since(since) >= Duration::from_millis(VERDICT_MS_MAX)
        });
        (voters_differ >= majority || waited).then(|| StopReason::Differs {
            log_index,
            others: differ.iter().map(|(peer, ..)| *peer).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node 1 of these voters, and what it has compared: peer, index, equal.
    fn judged(voters: &[NodeId], compared: &[(NodeId, u64, bool)], waited_ms: u64) -> Option<StopReason> {
        let began = Instant::now();
        let mut peers = Peers {
            own: 1,
            known: BTreeMap::new(),
        };
        for &(peer, log_index, equal) in compared {
            let known = peers.known.entry(peer).or_default();
            known.compared(log_index, equal, began);
        }
        let voters = voters.iter().copied().collect();
        peers.judge(&voters, began + Duration::from_millis(waited_ms))
    }

    fn differs(log_index: u64, others: &[NodeId]) -> Option<StopReason> {
        Some(StopReason::Differs {
            log_index,
            others: others.to_vec(),
        })
    }

    #[test]
    fn who_agrees_with_everybody_stays() {
        assert_eq!(judged(&[1, 2, 3], &[], 60_000), None);
        assert_eq!(judged(&[1, 2, 3], &[(2, 7, true), (3, 9, true)], 60_000), None);
    }

    #[test]
    fn who_differs_from_a_majority_ends_at_once() {
        let compared = [(2, 7, false), (3, 9, false)];
        assert_eq!(judged(&[1, 2, 3], &compared, 0), differs(7, &[2, 3]));
        // Two of five are no majority: the others may yet say that those two are wrong.
        assert_eq!(judged(&[1, 2, 3, 4, 5], &compared, 0), None);
    }

    #[test]
    fn who_has_the_majoritys_state_stays_for_good() {
        let compared = [(2, 7, false), (3, 9, true)];
        assert_eq!(judged(&[1, 2, 3], &compared, 60_000), None);
        // What was equal before says nothing about the index at which they parted.
        assert_eq!(
            judged(&[1, 2, 3], &[(2, 7, false), (3, 6, true)], VERDICT_MS_MAX),
            differs(7, &[2])
        );
    }

    #[test]
    fn where_nobody_can_tell_who_is_right_both_end() {
        let compared = [(2, 7, false)];
        assert_eq!(judged(&[1, 2, 3], &compared, VERDICT_MS_MAX - 1), None);
        assert_eq!(judged(&[1, 2, 3], &compared, VERDICT_MS_MAX), differs(7, &[2]));
    }

    #[test]
    fn a_learner_is_heard_by_the_voters_verdict_alone() {
        // A learner that differs from one voter and equals two of three stays.
        let compared = [(2, 7, false), (3, 9, true), (4, 9, true)];
        assert_eq!(judged(&[2, 3, 4], &compared, 60_000), None);
        // A voter that differs from a learner stays while the voters agree with it.
        let compared = [(9, 7, false), (2, 9, true)];
        assert_eq!(judged(&[1, 2, 3], &compared, 60_000), None);
        // Itself it has no vote.
        let compared = [(2, 7, false), (3, 9, true)];
        assert_eq!(judged(&[2, 3, 4], &compared, VERDICT_MS_MAX), differs(7, &[2]));
    }

    #[test]
    fn who_was_rebuilt_is_right_again() {
        assert_eq!(judged(&[1, 2], &[(2, 7, false), (2, 8, true)], 60_000), None);
        // An older report that comes late changes nothing.
        let late = [(2, 7, false), (2, 5, true)];
        assert_eq!(judged(&[1, 2], &late, VERDICT_MS_MAX), differs(7, &[2]));
    }
}
