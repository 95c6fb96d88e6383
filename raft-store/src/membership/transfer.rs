//! Handing leadership over.

use fault_points::crash_point;
use openraft::{RaftMetrics, storage::RaftStateMachine};
use tokio::time::Instant;

use super::{LAG_ENTRIES_MAX, Membership, MembershipError, lag, matched, refused};
use crate::types::{NodeId, TypeConfig};

impl<SM: RaftStateMachine<TypeConfig>> Membership<SM> {
    /// Hands leadership to this voter, or with zero to the one that is furthest ahead. Gives the term in
    /// which it leads.
    ///
    /// # Errors
    /// The target is no voter, does not answer, or is too far behind: nothing was done, because a leader
    /// that waits for a dead successor serves nobody meanwhile. Or nobody had taken over in time.
    pub async fn transfer_leader(&self, to: NodeId, until: Instant) -> Result<u64, MembershipError> {
        let metrics = self.leading()?;
        if to == self.node_id() {
            return Ok(metrics.current_term);
        }
        let Some(to) = Some(to)
            .filter(|to| *to != 0)
            .or_else(|| self.successor(&metrics))
        else {
            return refused("NO_SUCCESSOR", "no other voter is alive and caught up");
        };
        if !metrics.membership_config.voter_ids().any(|voter| voter == to) {
            return refused("NOT_A_VOTER", format!("node {to} is no voter; promote it first"));
        }
        let endpoint = metrics
            .membership_config
            .get_node(&to)
            .map_or("", |node| node.addr.as_str());
        self.probe(to, endpoint, until).await?;
        let ready = self.wait_for(until, |metrics| {
            (self.is_ready(metrics, to) || !metrics.state.is_leader()).then_some(())
        });
        ready.await;
        let metrics = self.leading()?;
        if !self.is_ready(&metrics, to) {
            return refused(
                "NOT_CAUGHT_UP",
                format!("node {to} is not heard, or too far behind, to lead"),
            );
        }
        tracing::info!(to, "handing leadership over");
        crash_point!("transfer-begins");
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|fatal| MembershipError::Stopped(fatal.to_string()))?;
        crash_point!("transfer-asked-for");
        let own = self.node_id();
        let taken = self.wait_for(until, |metrics| {
            let leader = metrics.current_leader.filter(|leader| *leader != own)?;
            Some((leader, metrics.current_term))
        });
        match taken.await {
            Some((leader, term)) if leader == to => Ok(term),
            Some((leader, _)) => Err(MembershipError::Unknown(format!(
                "node {leader} took over instead"
            ))),
            None => Err(MembershipError::Unknown(format!(
                "node {to} had not taken over in time"
            ))),
        }
    }

    /// Heard lately, and so near the end of the log that it delays nobody.
    pub(super) fn is_ready(&self, metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> bool {
        self.is_alive(metrics, node_id) && lag(metrics, node_id).is_some_and(|lag| lag <= LAG_ENTRIES_MAX)
    }

    /// The other voter that is furthest ahead, among those that could lead.
    pub(super) fn successor(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<NodeId> {
        let voters = metrics
            .membership_config
            .voter_ids()
            .filter(|voter| *voter != self.node_id());
        voters
            .filter(|voter| self.is_ready(metrics, *voter))
            .max_by_key(|voter| matched(metrics, *voter))
    }
}
