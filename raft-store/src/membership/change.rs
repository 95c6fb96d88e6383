//! Adding, promoting and removing members.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fault_points::crash_point;
use openraft::{BasicNode, ChangeMembers, RaftMetrics, storage::RaftStateMachine};
use proto::v1;
use tokio::time::Instant;

use super::{
    LAG_ENTRIES_MAX, MEMBERS_MAX, Membership, MembershipError, check_endpoint, heard_ms_ago, index_of, lag,
    matched, refused,
};
use crate::{
    machine_versions,
    network::cluster_id_text,
    types::{NodeId, TypeConfig},
};

impl<SM: RaftStateMachine<TypeConfig>> Membership<SM> {
    /// Adds a learner and waits until it answers the leader; if it has not caught up by then, its
    /// matched index says how far it is.
    ///
    /// # Errors
    /// The id or the endpoint is another member's, the node does not answer, belongs elsewhere or is too old (then
    /// nothing was changed); or it was added and is not heard (then repeat or remove it).
    pub async fn add_learner(
        &self,
        node_id: NodeId,
        endpoint: &str,
        until: Instant,
    ) -> Result<v1::MembershipResponse, MembershipError> {
        check_endpoint(node_id, endpoint)?;
        let metrics = self.leading()?;
        if !is_member_at(&metrics, node_id, endpoint)? {
            self.check_unused(&metrics, node_id, until).await?;
            self.check_joinable(node_id, endpoint, until).await?;
            let (changing, metrics) = self.settled(until).await?;
            // Again, for membership may have changed while others were asked.
            if !is_member_at(&metrics, node_id, endpoint)? {
                self.check_unused(&metrics, node_id, until).await?;
                // Before it is a member, so that whoever is one without was enlisted once and lost that.
                if let Some(cluster_id) = self.peers.identity().cluster_id() {
                    self.enlist(node_id, endpoint, cluster_id, until).await?;
                }
                let nodes = BTreeMap::from([(node_id, BasicNode::new(endpoint))]);
                self.change(changing, &metrics, ChangeMembers::AddNodes(nodes), true, until)
                    .await?;
                crash_point!("learner-added");
            }
        }
        // openraft counts a learner as added whether or not it is there.
        let heard = self.wait_for(until, |metrics| {
            let heard = heard_ms_ago(metrics, node_id).is_some() && matched(metrics, node_id).is_some();
            (heard || !metrics.state.is_leader()).then_some(())
        });
        heard.await;
        let metrics = self.leading()?;
        if node_id != self.node_id() && heard_ms_ago(&metrics, node_id).is_none() {
            return Err(MembershipError::Unreachable {
                node_id,
                endpoint: endpoint.to_owned(),
                why: "it was added, but has not answered the leader; repeat the call, or remove it"
                    .to_owned(),
            });
        }
        Ok(self
            .answer(index_of(metrics.membership_config.log_id()), until)
            .await)
    }

    /// No member may ever have had this id: what others remember of it, its votes and acknowledgements above
    /// all, is not this node's.
    async fn check_unused(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        node_id: NodeId,
        until: Instant,
    ) -> Result<(), MembershipError> {
        // A new leader may have to apply first what others did under the one before.
        let index = index_of(metrics.membership_config.log_id());
        let applied = self.wait_for(until, |metrics| {
            (index_of(&metrics.last_applied) >= index || !metrics.state.is_leader()).then_some(())
        });
        if applied.await.is_none() {
            return Err(MembershipError::Busy);
        }
        self.leading()?;
        let highest = (self.admission)().node_id_highest;
        if node_id <= highest {
            return refused(
                "NODE_ID_USED",
                format!(
                    "node id {node_id} was used before, or may have been: ids only grow, and {highest} was a \
                     member's; start the node on an empty directory with id {} or above",
                    highest + 1
                ),
            );
        }
        Ok(())
    }

    /// The node must be able to apply all that was ever applied here.
    fn check_version(&self, node_id: NodeId, known: u16) -> Result<(), MembershipError> {
        let needed = (self.admission)().machine_version_needed;
        if known >= needed {
            return Ok(());
        }
        refused(
            "MACHINE_VERSION",
            format!(
                "commands of machine version {needed} are in this cluster's log, and node {node_id} knows up to \
                 {known}; start a Holdfast on it that is as new as the other members'"
            ),
        )
    }

    /// The node must be the one it should be, know what the log holds, and be of this cluster or of none.
    async fn check_joinable(
        &self,
        node_id: NodeId,
        endpoint: &str,
        until: Instant,
    ) -> Result<(), MembershipError> {
        let status = self.probe(node_id, endpoint, until).await?;
        self.check_version(node_id, machine_versions::from_wire(status.machine_version))?;
        let ours = cluster_id_text(self.peers.identity().cluster_id());
        let foreign = match status.cluster_id.as_str() {
            "" => status.role != "uninitialized",
            theirs => theirs != ours,
        };
        if foreign {
            return refused(
                "WRONG_CLUSTER",
                format!(
                    "node {node_id} at {endpoint} belongs to another cluster ({}); start it with an empty \
                     directory",
                    status.cluster_id
                ),
            );
        }
        Ok(())
    }

    /// Makes learners voters, once they have caught up.
    ///
    /// # Errors
    /// One is no member, is not heard, or has not caught up in time; nothing was changed.
    pub async fn promote(
        &self,
        node_ids: Vec<NodeId>,
        until: Instant,
    ) -> Result<v1::MembershipResponse, MembershipError> {
        let wanted: BTreeSet<NodeId> = node_ids.into_iter().collect();
        if wanted.is_empty() {
            return Err(MembershipError::Invalid(
                "no node to promote was named".to_owned(),
            ));
        }
        self.leading()?;
        let (changing, metrics) = self.settled(until).await?;
        let membership = &metrics.membership_config;
        if let Some(unknown) = wanted
            .iter()
            .find(|node_id| membership.get_node(node_id).is_none())
        {
            return refused(
                "NOT_A_MEMBER",
                format!("node {unknown} is no member; add it as a learner first"),
            );
        }
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let learners: BTreeSet<NodeId> = wanted.difference(&voters).copied().collect();
        if learners.is_empty() {
            drop(changing);
            return Ok(self.answer(index_of(membership.log_id()), until).await);
        }
        for learner in &learners {
            // Its word is needed only where it is too little: who has not been heard has not caught up.
            if let Some(known) = self.versions.of(*learner) {
                self.check_version(*learner, known)?;
            }
            let caught_up = |metrics: &RaftMetrics<TypeConfig>| {
                let caught_up = lag(metrics, *learner).is_some_and(|lag| lag <= LAG_ENTRIES_MAX);
                self.is_alive(metrics, *learner) && caught_up
            };
            let waited = self.wait_for(until, |metrics| {
                (caught_up(metrics) || !metrics.state.is_leader()).then_some(())
            });
            waited.await;
            let metrics = self.leading()?;
            if !caught_up(&metrics) {
                return refused("NOT_CAUGHT_UP", behind(&metrics, *learner));
            }
        }
        let change = ChangeMembers::AddVoterIds(learners);
        let log_index = self.change(changing, &metrics, change, true, until).await?;
        crash_point!("member-promoted");
        Ok(self.answer(log_index, until).await)
    }

    /// Removes a member. A leader does not remove itself: it hands leadership over first and names its
    /// successor, who does it. So the callers' wait is that of a hand-over, not of an election.
    ///
    /// # Errors
    /// [`MembershipError::NotLeader`] from a leader that has handed over. It is the last voter; or, without
    /// `force`, too few of the remaining voters are heard and caught up to make a quorum: nothing was
    /// changed.
    pub async fn remove(
        &self,
        node_id: NodeId,
        force: bool,
        until: Instant,
    ) -> Result<v1::MembershipResponse, MembershipError> {
        self.leading()?;
        let (changing, metrics) = self.settled(until).await?;
        let membership = &metrics.membership_config;
        if membership.get_node(&node_id).is_none() {
            drop(changing);
            return Ok(self.answer(index_of(membership.log_id()), until).await);
        }
        let mut remaining: BTreeSet<NodeId> = membership.voter_ids().collect();
        let change = if remaining.remove(&node_id) {
            if remaining.is_empty() {
                return refused(
                    "LAST_VOTER",
                    format!("node {node_id} is the last voter; a cluster needs one"),
                );
            }
            if !force {
                self.check_quorum_without(node_id, &remaining, until).await?;
            }
            if node_id == self.node_id() {
                self.hand_over(&remaining, force, until).await?;
            }
            ChangeMembers::RemoveVoters(BTreeSet::from([node_id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([node_id]))
        };
        let log_index = self.change(changing, &metrics, change, false, until).await?;
        crash_point!("member-removed");
        Ok(self.answer(log_index, until).await)
    }

    /// A quorum of those that stay must be there to go on at once: heard, and near the end of the log. Whom a
    /// new leader has not heard yet is given the time to be; who only lags is waited for.
    async fn check_quorum_without(
        &self,
        node_id: NodeId,
        remaining: &BTreeSet<NodeId>,
        until: Instant,
    ) -> Result<(), MembershipError> {
        let (own, voters, quorum) = (self.node_id(), remaining.len(), remaining.len() / 2 + 1);
        let count = |counts: &dyn Fn(NodeId) -> bool| remaining.iter().filter(|id| counts(**id)).count();
        let alive = |metrics: &RaftMetrics<TypeConfig>| count(&|id| self.is_alive(metrics, id));
        let ready = |metrics: &RaftMetrics<TypeConfig>| count(&|id| id == own || self.is_ready(metrics, id));
        let silent = |metrics: &RaftMetrics<TypeConfig>| {
            count(&|id| heard_ms_ago(metrics, id).is_some() && !self.is_alive(metrics, id))
        };
        let heard_until = until.min(Instant::now() + Duration::from_millis(self.options.alive_ms_max));
        self.wait_for(heard_until, |metrics| {
            let told = ready(metrics) >= quorum || voters - silent(metrics) < quorum;
            (told || !metrics.state.is_leader()).then_some(())
        })
        .await;
        self.wait_for(until, |metrics| {
            let told = ready(metrics) >= quorum || alive(metrics) < quorum;
            (told || !metrics.state.is_leader()).then_some(())
        })
        .await;
        let metrics = self.leading()?;
        let (alive, ready) = (alive(&metrics), ready(&metrics));
        if ready >= quorum {
            return Ok(());
        }
        let found = match alive < quorum {
            true => format!("{alive} of {voters} voters answer, which is no quorum; bring others back first"),
            false => format!(
                "{ready} of {voters} voters have caught up, which is no quorum; wait until others have"
            ),
        };
        refused(
            "QUORUM_AT_RISK",
            format!("without node {node_id}, {found}, or force it"),
        )
    }

    /// Hands leadership to one of these, which then is the error's leader. Fine when none of them can take
    /// it and that is `force`d: this node goes on.
    async fn hand_over(
        &self,
        remaining: &BTreeSet<NodeId>,
        force: bool,
        until: Instant,
    ) -> Result<(), MembershipError> {
        let waiting = match force {
            true => Instant::now(),
            false => until,
        };
        let successor = self.wait_for(waiting, |metrics| {
            self.successor(metrics)
                .filter(|successor| remaining.contains(successor))
        });
        match successor.await {
            Some(successor) => {
                let handed = self.transfer_leader(successor, until).await;
                // Whoever took over: this node does not lead any more, and says who does.
                self.leading()?;
                Err(handed.err().unwrap_or(MembershipError::Busy))
            }
            None if force => Ok(()),
            None => refused(
                "NO_SUCCESSOR",
                format!(
                    "node {} leads, and no other voter is alive and caught up to take over; wait, or force it",
                    self.node_id()
                ),
            ),
        }
    }
}

/// Whether this node is a member, at this endpoint; an error when only one of both is so.
fn is_member_at(
    metrics: &RaftMetrics<TypeConfig>,
    node_id: NodeId,
    endpoint: &str,
) -> Result<bool, MembershipError> {
    let membership = &metrics.membership_config;
    if let Some(node) = membership.get_node(&node_id) {
        if node.addr == endpoint {
            return Ok(true);
        }
        return refused(
            "NODE_ID_USED",
            format!(
                "node id {node_id} is that of the member at {}; ids are never reused, take another",
                node.addr
            ),
        );
    }
    if let Some((other, _)) = membership.nodes().find(|(_, node)| node.addr == endpoint) {
        return refused(
            "ENDPOINT_USED",
            format!("endpoint {endpoint} is that of node {other}"),
        );
    }
    if membership.nodes().count() >= MEMBERS_MAX {
        return refused(
            "MEMBERS_MAX",
            format!("the cluster has {MEMBERS_MAX} members, the most there can be"),
        );
    }
    Ok(false)
}

fn behind(metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> String {
    match (lag(metrics, node_id), heard_ms_ago(metrics, node_id)) {
        (_, None) => format!("node {node_id} has not been heard by the leader"),
        (None, _) => format!("node {node_id} has not matched the leader's log yet; wait and repeat"),
        (Some(lag), Some(heard)) => format!(
            "node {node_id} is {lag} entries behind and was heard {heard} ms ago; wait until it has caught up"
        ),
    }
}
