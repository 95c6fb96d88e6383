//! Operators' calls. Each speaks to one named endpoint or to the leader.
//!
//! Changes of membership go to the leader, following hints; one whose answer is lost is reported as
//! unknown instead of repeated, since an operator must look (`status_all`) before he does it again.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use proto::v1::{
    AddLearnerRequest, GetSaleRequest, InitRequest, ListClaimsRequest, PromoteRequest, RemoveRequest,
    StateHashRequest, TransferLeaderRequest, cluster_client::ClusterClient,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status};

use crate::{
    Error, Reason,
    call::{Shared, inventory},
    channel::Channel,
    convert,
    leader::{Repeat, read_error, timed},
    model::{Claim, Consistency, Member, NodeStatus, Position, Sale, StateHash},
    reads::{found_sale, naming},
};

/// How long a change of membership may take: several elections and a round to every member.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a replica may take to reach an index and hash its state.
const STATE_HASH_TIMEOUT: Duration = Duration::from_secs(30);

/// Operators' calls.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

impl Cluster {
    pub(crate) fn new(shared: Arc<Shared>) -> Cluster {
        Cluster { shared }
    }

    /// Makes a new cluster of `(node id, host:port)`, asking the first of them. Gives the cluster id.
    ///
    /// # Errors
    /// [`Error::Rejected`]: there is a cluster already, or a member is not fit for a new one.
    /// [`Error::Unknown`]: the answer was lost; ask for the status.
    pub async fn init(&self, members: Vec<(u64, String)>) -> Result<String, Error> {
        let Some((_, first)) = members.first().cloned() else {
            return Err(Error::invalid("a cluster of no members; name at least one"));
        };
        let members = members
            .into_iter()
            .map(|(node_id, endpoint)| Member {
                node_id,
                endpoint,
                voter: true,
                ..Member::default()
            })
            .collect();
        let request = timed(InitRequest { members }, MEMBERSHIP_TIMEOUT);
        let mut client = ClusterClient::new(self.shared.nodes.channel(&first)?);
        let deadline = Instant::now() + MEMBERSHIP_TIMEOUT;
        let response = timeout_at(deadline, client.init(request)).await;
        let response = response.unwrap_or_else(|_| Err(late(&first, MEMBERSHIP_TIMEOUT)))?;
        Ok(response.into_inner().cluster_id)
    }

    /// One node's own view.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer. [`Error::Rejected`]: that is no endpoint.
    pub async fn status(&self, endpoint: &str) -> Result<NodeStatus, Error> {
        self.shared.nodes.status(endpoint).await
    }

    /// Everybody's own view: every member known, with the error of those that did not answer.
    pub async fn status_all(&self) -> Vec<(String, Result<NodeStatus, Error>)> {
        // Learns the members as a side effect; that nobody leads is no reason not to look at them.
        drop(self.shared.nodes.find().await);
        let nodes = &self.shared.nodes;
        join_all(nodes.endpoints().into_iter().map(|endpoint| async move {
            let status = nodes.status(&endpoint).await;
            (endpoint, status)
        }))
        .await
    }

    /// State hash of one replica at a log index (zero: now) and its recount.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer. [`Error::Rejected`]: it has no state at that index.
    pub async fn state_hash(&self, endpoint: &str, log_index: u64) -> Result<StateHash, Error> {
        self.ask(endpoint, STATE_HASH_TIMEOUT, |channel, left| async move {
            let request = timed(StateHashRequest { log_index }, left);
            ClusterClient::new(channel).state_hash(request).await
        })
        .await
    }

    /// One sale as one replica has it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it does not answer. [`Error::Rejected`]: it has no such sale.
    pub async fn sale_at(&self, endpoint: &str, sale_id: &str) -> Result<(Sale, Position), Error> {
        let request = GetSaleRequest {
            sale_id: sale_id.to_string(),
            consistency: Some(convert::consistency(Consistency::Local)),
        };
        let response = self
            .ask(endpoint, self.shared.timeout, |channel, left| async move {
                inventory(channel).get_sale(timed(request, left)).await
            })
            .await
            .map_err(|error| naming(error, Reason::SaleUnknown))?;
        found_sale(response)
    }

    /// Claims as one replica has them.
    ///
    /// # Errors
    /// As [`Cluster::sale_at`].
    pub async fn claims_at(
        &self,
        endpoint: &str,
        sale_id: &str,
        rank_from: u32,
        limit: u32,
    ) -> Result<Vec<Claim>, Error> {
        let request = ListClaimsRequest {
            sale_id: sale_id.to_string(),
            rank_from,
            limit,
            user: String::new(),
            consistency: Some(convert::consistency(Consistency::Local)),
        };
        let response = self
            .ask(endpoint, self.shared.timeout, |channel, left| async move {
                inventory(channel).list_claims(timed(request, left)).await
            })
            .await
            .map_err(|error| naming(error, Reason::SaleUnknown))?;
        Ok(response.claims.into_iter().map(convert::claim).collect())
    }

    /// Adds a learner.
    ///
    /// # Errors
    /// [`Error::Rejected`]: the cluster refuses, and says why. [`Error::Unavailable`]: nobody leads.
    /// [`Error::Unknown`]: the answer was lost; look at the status before repeating it.
    pub async fn add_learner(&self, node_id: u64, endpoint: &str) -> Result<Vec<Member>, Error> {
        let request = AddLearnerRequest {
            node_id,
            endpoint: endpoint.to_string(),
        };
        let response = self
            .change(|channel, left| {
                let request = timed(request.clone(), left);
                async move { ClusterClient::new(channel).add_learner(request).await }
            })
            .await?;
        Ok(response.members)
    }

    /// Makes learners voters.
    ///
    /// # Errors
    /// As [`Cluster::add_learner`].
    pub async fn promote(&self, node_ids: Vec<u64>) -> Result<Vec<Member>, Error> {
        let request = PromoteRequest { node_ids };
        let response = self
            .change(|channel, left| {
                let request = timed(request.clone(), left);
                async move { ClusterClient::new(channel).promote(request).await }
            })
            .await?;
        Ok(response.members)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Cluster::add_learner`].
    pub async fn remove(&self, node_id: u64, force: bool) -> Result<Vec<Member>, Error> {
        let response = self
            .change(|channel, left| async move {
                let request = timed(RemoveRequest { node_id, force }, left);
                ClusterClient::new(channel).remove(request).await
            })
            .await?;
        Ok(response.members)
    }

    /// Hands leadership over. Gives the new leader's term.
    ///
    /// # Errors
    /// As [`Cluster::add_learner`].
    pub async fn transfer_leader(&self, node_id: u64) -> Result<u64, Error> {
        let response = self
            .change(|channel, left| async move {
                let request = timed(TransferLeaderRequest { node_id }, left);
                ClusterClient::new(channel).transfer_leader(request).await
            })
            .await?;
        self.shared.nodes.redirect(None);
        Ok(response.term)
    }

    async fn change<T, F, C>(&self, call: C) -> Result<T, Error>
    where
        C: Fn(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + MEMBERSHIP_TIMEOUT;
        self.shared.nodes.on_leader(deadline, Repeat::Unsafe, call).await
    }

    pub(crate) fn channel(&self, endpoint: &str) -> Result<Channel, Error> {
        self.shared.nodes.channel(endpoint)
    }

    pub(crate) async fn ask<T, F, C>(&self, endpoint: &str, limit: Duration, call: C) -> Result<T, Error>
    where
        C: FnOnce(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.channel(endpoint)?;
        let response = timeout_at(Instant::now() + limit, call(channel, limit)).await;
        response
            .unwrap_or_else(|_| Err(late(endpoint, limit)))
            .map(Response::into_inner)
            .map_err(|status| read_error(&status, endpoint))
    }
}

pub(crate) fn late(endpoint: &str, limit: Duration) -> Status {
    Status::deadline_exceeded(format!("{endpoint} did not answer within {limit:?}"))
}
