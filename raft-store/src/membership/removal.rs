//! Finding out that one is no longer a member.
//!
//! A removed node is not told by the log: replication to it ends with the very entry that removes it, and
//! it may have been down at the time. Left alone it would ask for elections for ever. So a node that hears
//! no leader for a while, or whose own log says it was removed, asks the members it knows. It believes one
//! that has *committed* a membership at least as new as its own and without it: later configurations grow
//! out of that one, and a leader of a configuration that took the node back would be heard.
//!
//! A newcomer has the log of a time before it was a member, and everybody it could ask may still be at that
//! time as well. So only who has seen itself be a member can have been removed.

use std::{sync::Arc, time::Duration};

use openraft::{RaftMetrics, async_runtime::watch::WatchReceiver, storage::RaftStateMachine};
use proto::v1;
use tokio::{sync::watch, time::Instant};

use super::{Membership, index_of};
use crate::{
    network::cluster_id_text,
    service::raft::LeaderHeard,
    types::{NodeId, TypeConfig},
};

/// This node was removed from its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Log index of a committed membership without it.
    pub membership_index: u64,
}

impl<SM: RaftStateMachine<TypeConfig>> Membership<SM> {
    /// Changes once, when this node has been removed: it should then stop. The watch ends with raft.
    pub fn watch_removal(&self, heard: LeaderHeard) -> watch::Receiver<Option<Removal>> {
        let (sender, receiver) = watch::channel(None);
        let membership = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                removal = membership.removed(heard) => {
                    if let Some(removal) = removal {
                        tracing::warn!(membership_index = removal.membership_index, "this node was removed");
                    }
                    sender.send_replace(removal);
                }
                // Nobody is interested any more.
                () = sender.closed() => {}
            }
        });
        receiver
    }

    async fn removed(&self, heard: LeaderHeard) -> Option<Removal> {
        let silence = Duration::from_millis(self.options.silence_ms);
        let mut receiver = self.raft.metrics();
        let mut was_member = false;
        let mut next_question = Instant::now();
        loop {
            let metrics = receiver.borrow_watched().clone();
            let is_member = metrics.membership_config.get_node(&self.node_id()).is_some();
            // A membership that was never committed may be undone, and was none.
            let applied_index = metrics.last_applied.as_ref().map_or(0, |log_id| log_id.index);
            was_member |= is_member && index_of(metrics.membership_config.log_id()) <= applied_index;
            let now = Instant::now();
            let ask_at = match standing(was_member, is_member) {
                Standing::Removed => next_question,
                Standing::Member => next_question.max(heard.at() + silence),
                Standing::Newcomer => now + silence,
            };
            // A leader hears no other, and one that removed itself leads on until that is committed and
            // handed over.
            let leads = metrics.state.is_leader();
            if !leads && ask_at <= now {
                if let Some(removal) = self.ask_whether_removed(&metrics).await {
                    return Some(removal);
                }
                next_question = Instant::now() + silence;
                continue;
            }
            let wake_at = if leads { now + silence } else { ask_at };
            tokio::select! {
                changed = receiver.changed() => changed.ok()?,
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    async fn ask_whether_removed(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<Removal> {
        let own_index = index_of(metrics.membership_config.log_id());
        let cluster_id = cluster_id_text(self.peers.identity().cluster_id());
        let membership = Arc::clone(&metrics.membership_config);
        for (node_id, node) in membership
            .nodes()
            .filter(|(node_id, _)| **node_id != self.node_id())
        {
            let until = Instant::now() + Duration::from_millis(super::PROBE_MS_MAX);
            if let Ok(status) = self.probe(*node_id, &node.addr, until).await
                && says_removed(self.node_id(), &cluster_id, own_index, &status)
            {
                return Some(Removal {
                    membership_index: status.membership_index,
                });
            }
        }
        None
    }
}

/// What a node's own log says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is a member. Was it removed meanwhile, its leaders are silent.
    Member,
    /// It was one, and is not any more: whoever is asked will know.
    Removed,
    /// It has not seen itself be one, and cannot have been removed, whoever says that it is no member.
    Newcomer,
}

fn standing(was_member: bool, is_member: bool) -> Standing {
    match (was_member, is_member) {
        (_, true) => Standing::Member,
        (true, false) => Standing::Removed,
        (false, false) => Standing::Newcomer,
    }
}

/// Whether this member's committed view is proof that the node was removed.
fn says_removed(node_id: NodeId, cluster_id: &str, own_index: u64, status: &v1::StatusResponse) -> bool {
    status.cluster_id == cluster_id
        && status.membership_index >= own_index
        && !status.members.is_empty()
        && status.members.iter().all(|member| member.node_id != node_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_never_was_a_member_was_not_removed() {
        assert_eq!(standing(false, false), Standing::Newcomer);
        assert_eq!(standing(true, false), Standing::Removed);
        // Its newest membership has it, though that may not be committed.
        for was_member in [false, true] {
            assert_eq!(standing(was_member, true), Standing::Member);
        }
    }

    #[test]
    fn only_a_newer_membership_of_the_same_cluster_without_us_is_proof() {
        let status = |cluster_id: &str, membership_index, members: &[NodeId]| v1::StatusResponse {
            cluster_id: cluster_id.to_owned(),
            membership_index,
            members: members
                .iter()
                .map(|node_id| v1::Member {
                    node_id: *node_id,
                    ..v1::Member::default()
                })
                .collect(),
            ..v1::StatusResponse::default()
        };
        assert!(says_removed(3, "aa", 10, &status("aa", 12, &[1, 2])));
        assert!(says_removed(3, "aa", 10, &status("aa", 10, &[1, 2])));
        assert!(
            !says_removed(3, "aa", 10, &status("aa", 9, &[1, 2])),
            "an older view, before we joined"
        );
        assert!(
            !says_removed(3, "aa", 10, &status("bb", 12, &[1, 2])),
            "another cluster"
        );
        assert!(
            !says_removed(3, "aa", 10, &status("aa", 12, &[1, 2, 3])),
            "still a member"
        );
        assert!(
            !says_removed(3, "aa", 0, &status("aa", 0, &[])),
            "an uninitialized node"
        );
    }
}
