//! Making a new cluster.

use std::collections::{BTreeMap, BTreeSet};

use fault_points::crash_point;
use futures::future::try_join_all;
use openraft::{
    BasicNode,
    errors::{InitializeError, RaftError},
    storage::RaftStateMachine,
};
use proto::v1;
use tokio::time::Instant;

use super::{MEMBERS_MAX, Membership, MembershipError, check_endpoint, refused};
use crate::{
    network::{ClusterId, cluster_id_text},
    runtime::random_u64,
    types::{NodeId, TypeConfig},
};

impl<SM: RaftStateMachine<TypeConfig>> Membership<SM> {
    /// Makes a cluster of these members, all voters, this node among them; once. Returns when the
    /// cluster has been founded, with its id.
    ///
    /// # Errors
    /// This node or another is initialized already, one does not answer or is not the node it should
    /// be; then nothing was done. Or the founding entry was not seen in time.
    pub async fn init(&self, wanted: Vec<v1::Member>, until: Instant) -> Result<ClusterId, MembershipError> {
        let Ok(_changing) = self.changing.try_lock() else {
            return Err(MembershipError::Busy);
        };
        let identity = self.peers.identity().clone();
        let initialized = || MembershipError::Initialized {
            cluster_id: cluster_id_text(identity.cluster_id()),
        };
        let stopped = |fatal: &dyn std::fmt::Display| MembershipError::Stopped(fatal.to_string());
        if self
            .raft
            .is_initialized()
            .await
            .map_err(|fatal| stopped(&fatal))?
        {
            return Err(initialized());
        }
        let members = check_members(&wanted)?;
        match members.get(&identity.node_id()) {
            Some(node) if node.addr == identity.endpoint() => {}
            _ => {
                return Err(MembershipError::Invalid(format!(
                    "the members must include the node that is asked, node {} at {}",
                    identity.node_id(),
                    identity.endpoint()
                )));
            }
        }
        let others = members
            .iter()
            .filter(|(node_id, _)| **node_id != identity.node_id());
        try_join_all(
            others
                .clone()
                .map(|(node_id, node)| self.check_pristine(*node_id, &node.addr, until)),
        )
        .await?;
        // Repeated after it broke off, the id stays that of the first time.
        let cluster_id = identity.cluster_id().unwrap_or_else(new_cluster_id);
        identity
            .enlist(cluster_id)
            .await
            .map_err(|error| stopped(&error))?;
        crash_point!("founder-enlisted");
        try_join_all(others.map(|(node_id, node)| self.enlist(*node_id, &node.addr, cluster_id, until)))
            .await?;

        match self.raft.initialize(members).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => return Err(initialized()),
            Err(RaftError::APIError(error)) => return Err(MembershipError::Invalid(error.to_string())),
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        }
        crash_point!("cluster-initialized");
        // Whoever is elected proposes the founding entry; it reaches us like any other.
        let mut cluster = identity.cluster_watch();
        let founded = cluster.wait_for(|cluster| cluster.founded);
        match tokio::time::timeout_at(until, founded).await {
            Ok(Ok(_)) => Ok(cluster_id),
            _ => Err(MembershipError::Unknown(
                "initialized, but not founded in time".to_owned(),
            )),
        }
    }

    /// A member of a new cluster must answer and belong to none, or to this one, if founding it broke off.
    async fn check_pristine(
        &self,
        node_id: NodeId,
        endpoint: &str,
        until: Instant,
    ) -> Result<(), MembershipError> {
        let status = self.probe(node_id, endpoint, until).await?;
        let ours = cluster_id_text(self.peers.identity().cluster_id());
        let joinable = status.cluster_id.is_empty() || status.cluster_id == ours;
        if !joinable || status.role != "uninitialized" {
            let cluster = match status.cluster_id.as_str() {
                "" => "a cluster already".to_owned(),
                cluster_id => format!("cluster {cluster_id}"),
            };
            return refused(
                "MEMBER_INITIALIZED",
                format!(
                    "node {node_id} at {endpoint} belongs to {cluster}; start it with an empty directory"
                ),
            );
        }
        Ok(())
    }
}

fn new_cluster_id() -> ClusterId {
    // Never zero, which the machine takes for none.
    (u128::from(random_u64()) << 64 | u128::from(random_u64())) | 1
}

fn check_members(wanted: &[v1::Member]) -> Result<BTreeMap<NodeId, BasicNode>, MembershipError> {
    if wanted.is_empty() || wanted.len() > MEMBERS_MAX {
        let count = wanted.len();
        return Err(MembershipError::Invalid(format!(
            "{count} members; a cluster has 1 to {MEMBERS_MAX}"
        )));
    }
    let mut endpoints = BTreeSet::new();
    let mut members = BTreeMap::new();
    for member in wanted {
        let (node_id, endpoint) = (member.node_id, member.endpoint.as_str());
        check_endpoint(node_id, endpoint)?;
        if members.insert(node_id, BasicNode::new(endpoint)).is_some() {
            return Err(MembershipError::Invalid(format!(
                "node id {node_id} is named twice"
            )));
        }
        if !endpoints.insert(endpoint) {
            return Err(MembershipError::Invalid(format!(
                "endpoint {endpoint} is named twice"
            )));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_distinct() {
        let member = |node_id, endpoint: &str| v1::Member {
            node_id,
            endpoint: endpoint.to_owned(),
            ..v1::Member::default()
        };
        assert!(check_members(&[]).is_err());
        assert!(check_members(&[member(1, "a:1"), member(1, "b:1")]).is_err());
        assert!(check_members(&[member(1, "a:1"), member(2, "a:1")]).is_err());
        assert!(check_members(&[member(0, "a:1")]).is_err());
        let many: Vec<_> = (1..=16).map(|id| member(id, &format!("n{id}:1"))).collect();
        assert!(check_members(&many).is_err());
        assert_eq!(check_members(&many[..15]).unwrap().len(), 15);
    }
}
