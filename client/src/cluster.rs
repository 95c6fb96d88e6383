//! Operators' calls. Each speaks to one named endpoint or to the leader.

use crate::{Error, model::*};

/// Operators' calls.
#[derive(Clone)]
pub struct Cluster {}

impl Cluster {
    /// Makes a new cluster of `(node id, host:port)`, asking the first of them. Gives the cluster id.
    pub async fn init(&self, members: Vec<(u64, String)>) -> Result<String, Error> {
        let _ = members;
        todo!()
    }
    /// One node's own view.
    pub async fn status(&self, endpoint: &str) -> Result<NodeStatus, Error> {
        let _ = endpoint;
        todo!()
    }
    /// Everybody's own view: every member known, with the error of those that did not answer.
    pub async fn status_all(&self) -> Vec<(String, Result<NodeStatus, Error>)> {
        todo!()
    }
    /// State hash of one replica at a log index (zero: now) and its recount.
    pub async fn state_hash(&self, endpoint: &str, log_index: u64) -> Result<StateHash, Error> {
        let _ = (endpoint, log_index);
        todo!()
    }
    /// One sale as one replica has it.
    pub async fn sale_at(&self, endpoint: &str, sale_id: &str) -> Result<(Sale, Position), Error> {
        let _ = (endpoint, sale_id);
        todo!()
    }
    /// Claims as one replica has them.
    pub async fn claims_at(
        &self,
        endpoint: &str,
        sale_id: &str,
        rank_from: u32,
        limit: u32,
    ) -> Result<Vec<Claim>, Error> {
        let _ = (endpoint, sale_id, rank_from, limit);
        todo!()
    }
    /// Adds a learner.
    pub async fn add_learner(&self, node_id: u64, endpoint: &str) -> Result<Vec<Member>, Error> {
        let _ = (node_id, endpoint);
        todo!()
    }
    /// Makes learners voters.
    pub async fn promote(&self, node_ids: Vec<u64>) -> Result<Vec<Member>, Error> {
        let _ = node_ids;
        todo!()
    }
    /// Removes a member.
    pub async fn remove(&self, node_id: u64, force: bool) -> Result<Vec<Member>, Error> {
        let _ = (node_id, force);
        todo!()
    }
    /// Hands leadership over.
    pub async fn transfer_leader(&self, node_id: u64) -> Result<u64, Error> {
        let _ = node_id;
        todo!()
    }
}
