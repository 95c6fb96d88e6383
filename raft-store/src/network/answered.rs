//! Which peers have answered this node as the leader, and what: the evidence that a read needs.
//!
//! openraft keeps such a record too, but takes an answer for one to every request that ends at the same entry: also to
//! news of a commit that it has made ready since. So an answer that was on its way for long (its leader was stopped
//! meanwhile, and others have elected another) looked like one that had just been asked for, and a read by it was
//! stale. Here an answer belongs to the request it was given to, and requests are numbered, so that nothing depends on
//! a clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use crate::types::NodeId;

/// A moment of this node, before or after every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    number: u64,
    /// When it was.
    pub at: Instant,
}

/// What peers have answered. Cheap to clone.
#[derive(Clone, Default)]
pub struct Answered {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    moments: AtomicU64,
    /// Of each peer the term of the request that it answered last, and when that was sent.
    peers: Mutex<BTreeMap<NodeId, (u64, Moment)>>,
    more: Notify,
}

impl Answered {
    /// Now.
    pub fn moment(&self) -> Moment {
        Moment {
            number: self.inner.moments.fetch_add(1, Ordering::SeqCst),
            at: Instant::now(),
        }
    }

    /// A peer has accepted what the leader of `term`, this node, sent at that moment.
    pub fn accepted(&self, peer: NodeId, term: u64, sent: Moment) {
        let mut peers = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = peers.entry(peer).or_insert((term, sent));
        *newest = (*newest).max((term, sent));
        drop(peers);
        self.inner.more.notify_waiters();
    }

    /// Since when no quorum can have turned away from node `own` as the leader of `term`, for all that is known: when
    /// what a majority of each of these sets has accepted was sent. `None`: a majority has accepted nothing of the term.
    pub fn quorum(&self, own: NodeId, term: u64, voters: &[BTreeSet<NodeId>]) -> Option<Moment> {
        let now = self.moment();
        let peers = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = |voter: &NodeId| match peers.get(voter) {
            _ if *voter == own => Some(now),
            Some((of_term, sent)) if *of_term == term => Some(*sent),
            _ => None,
        };
        let of_majority = |voters: &BTreeSet<NodeId>| {
            let mut moments: Vec<Option<Moment>> = voters.iter().map(accepted).collect();
            moments.sort_unstable_by(|one, other| other.cmp(one));
            *moments.get(voters.len() / 2)?
        };
        voters
            .iter()
            .map(of_majority)
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .min()
    }

    /// Returns once [`Answered::quorum`] is after that moment. Never, while it is not.
    pub async fn quorum_after(&self, moment: Moment, quorum: impl Fn(&Self) -> Option<Moment>) {
        loop {
            let mut more = std::pin::pin!(self.inner.more.notified());
            more.as_mut().enable();
            if quorum(self).is_some_and(|quorum| quorum > moment) {
                return;
            }
            more.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn sets(sets: &[&[NodeId]]) -> Vec<BTreeSet<NodeId>> {
        sets.iter().map(|set| set.iter().copied().collect()).collect()
    }

    #[test]
    fn a_quorum_is_as_old_as_the_oldest_answer_that_it_needs() {
        let answered = Answered::default();
        let three = sets(&[&[1, 2, 3]]);
        assert_eq!(answered.quorum(1, 7, &three), None);
        let (early, late) = (answered.moment(), answered.moment());
        answered.accepted(2, 7, early);
        assert_eq!(answered.quorum(1, 7, &three), Some(early));
        answered.accepted(3, 7, late);
        assert_eq!(answered.quorum(1, 7, &three), Some(late));
        // The leader itself counts only where it votes.
        assert_eq!(answered.quorum(4, 7, &sets(&[&[2, 3]])), Some(early));
        assert_eq!(answered.quorum(1, 7, &sets(&[&[1, 2, 3, 4, 5]])), Some(early));
        assert_eq!(answered.quorum(1, 7, &sets(&[&[1, 2, 4, 5, 6]])), None);
        // Both configurations of a change have to agree.
        assert_eq!(answered.quorum(1, 7, &sets(&[&[1, 2, 3], &[1, 2]])), Some(early));
        assert_eq!(answered.quorum(1, 7, &sets(&[&[1, 2, 3], &[1, 4, 5]])), None);
        let before = answered.moment();
        assert!(
            answered.quorum(1, 7, &sets(&[&[1]])).unwrap() > before,
            "a sole voter"
        );
    }

    #[test]
    fn what_was_accepted_in_another_term_or_is_older_says_nothing() {
        let answered = Answered::default();
        let three = sets(&[&[1, 2, 3]]);
        let (early, late) = (answered.moment(), answered.moment());
        answered.accepted(2, 7, late);
        answered.accepted(2, 7, early);
        assert_eq!(
            answered.quorum(1, 7, &three),
            Some(late),
            "answers may overtake each other"
        );
        assert_eq!(answered.quorum(1, 8, &three), None);
        answered.accepted(2, 8, early);
        assert_eq!(answered.quorum(1, 8, &three), Some(early));
        assert_eq!(answered.quorum(1, 7, &three), None);
    }

    #[test]
    fn a_wait_ends_with_an_answer_to_what_was_sent_after_it_began_and_with_no_other() {
        let answered = Answered::default();
        let three = sets(&[&[1, 2, 3]]);
        let before = answered.moment();
        let begun = answered.moment();
        let mut wait = std::pin::pin!(answered.quorum_after(begun, |all| all.quorum(1, 7, &three)));
        assert_eq!(wait.as_mut().now_or_never(), None);
        // It comes now, but was asked for before.
        answered.accepted(2, 7, before);
        assert_eq!(wait.as_mut().now_or_never(), None);
        answered.accepted(3, 7, answered.moment());
        assert_eq!(wait.now_or_never(), Some(()));
    }
}
