//! The Rust client of Holdfast: finds and follows the leader, gathers concurrent calls into frames,
//! and tries again what is safe to try again.
//!
//! ```no_run
//! use client::{Client, Error, Grant};
//!
//! # async fn example() -> Result<(), Error> {
//! // Any of the nodes will do; the others are learned from it.
//! let client = Client::connect(["127.0.0.1:7401", "127.0.0.1:7402"]).await?;
//!
//! // Choose the key and save it first: whatever happens, the same key never buys twice.
//! let claimed = match client.claim("hot", "alice").key("order-4711").send().await {
//!     Ok(claimed) => claimed,
//!     // Nothing happened: sold out, not open, and so on. The same key may try again later.
//!     Err(Error::Rejected(why)) => return Err(Error::Rejected(why)),
//!     // It may have happened: sending again with the same key finds out.
//!     Err(Error::Unknown { .. }) => client.claim("hot", "alice").key("order-4711").send().await?,
//!     Err(error) => return Err(error),
//! };
//! // `Repeated` is this key's own claim again; `Already` is another one, at the user's limit.
//! assert_ne!(claimed.grant, Grant::Unspecified);
//!
//! // The unit is held until the deadline; confirmed, it is sold.
//! let (claim, _) = client
//!     .confirm(claimed.claim.claim_id, claimed.claim.fencing_token)
//!     .key("order-4711-confirm")
//!     .send()
//!     .await?;
//! println!("sold: rank {} at log index {}", claim.rank, claim.receipt.log_index);
//! # Ok(())
//! # }
//! ```
//!
//! # The road of a call
//! [`request`](TakeRequest) makes the command and encodes it once; `call` carries it out under the rules
//! of `retry`; `stream` puts it into the frame that is about to leave, on one pipelined stream that all
//! clones share; `leader` knows where to. Reads and operators' calls are plain unary calls.
//!
//! # Invariants
//! - One key per call, the same on every attempt. An unknown outcome is never tried with a new key.
//! - One latest log time per call, too: an attempt that was delayed past it can do nothing any more.
//! - [`Error::Unavailable`] means never proposed, [`Error::Rejected`] means it did not happen and, whatever
//!   attempts went before, will not happen; everything else that fails is [`Error::Unknown`].
//! - Every queue is bounded: a call that finds it full fails at once.
//!
//! # Security
//! [`Builder::tls`] protects every connection, and lets it lead to nodes of the certificate's own cluster only;
//! [`Builder::token`] shows a token on every call. A role that does not allow a call is
//! [`Error::Rejected`] with [`Reason::Forbidden`], and its message names the role that does.

pub mod backup;
pub mod chance;
pub mod cluster;
pub mod documents;
pub mod error;
pub mod model;

mod call;
mod chain;
mod channel;
mod convert;
mod frame;
#[cfg(test)]
mod fuzz_tests;
mod leader;
mod log_time;
mod queue;
mod reads;
mod request;
mod retry;
mod rounds;
mod stream;
mod votes;
mod watch;

use std::{sync::Arc, time::Duration};

pub use chain::{CHAIN_COMMANDS_MAX, Chain, Chained, Done, Link};
pub use error::{Error, Reason, Rejected};
use futures::{future::BoxFuture, stream::BoxStream};
pub use model::*;
use proto::v1::{SaleRef, SaleUnits, Settle, Take, command::Body};
pub use proto::{REHEARSAL_PREFIX, is_rehearsal};
pub use security::Tls;

use crate::{
    call::Shared,
    leader::Nodes,
    log_time::{LIFE_MAX, LIFE_MIN},
    retry::Budget,
    rounds::Rounds,
    stream::Lane,
};

/// How long one call may take in all, retries included, unless set otherwise: longer than a failover.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Longest timeout of a call: by then any attempt is dead in log time, and its fence may be, too.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Who asks where neither the call nor the builder says.
const PRINCIPAL_DEFAULT: &str = "client";

/// A connection that a connector made.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens a connection to `host:port`; replaced in simulation.
pub type Connector = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> + Send + Sync>;

/// Settings of a client.
#[derive(Clone, Default)]
pub struct Builder {
    endpoints: Vec<String>,
    timeout: Option<Duration>,
    command_life: Option<Duration>,
    principal: Option<String>,
    connector: Option<Connector>,
    tls: Option<Arc<Tls>>,
    token: Option<String>,
}

impl Builder {
    /// `host:port` of any nodes; the rest is learned from them.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// How long one call may take in all, retries included. Default 5 s, at most 60 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long a command may have an effect from when it is made, in log time, wherever it is delayed: past that
    /// it never happens. Default and most 55 s, least 1 s. It bounds how long an unknown outcome stays open.
    pub fn command_life(mut self, life: Duration) -> Self {
        self.command_life = Some(life);
        self
    }

    /// Who asks, where a call does not say. Default `client`.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// Opens connections; default TCP.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Protects connections with these certificates, and takes only nodes of the cluster that they name.
    pub fn tls(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// An API token to show on every call.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Makes the client; connects when first used, on the tokio runtime that uses it first.
    ///
    /// # Errors
    /// [`Error::Rejected`]: no endpoints, or malformed ones; a timeout of zero or above 60 s; a command's life out of
    /// range; a token that cannot be one.
    pub fn build(self) -> Result<Client, Error> {
        let timeout = self.timeout.unwrap_or(TIMEOUT_DEFAULT);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(Error::invalid(format!(
                "a timeout of {timeout:?}: give more than zero and at most {TIMEOUT_MAX:?}"
            )));
        }
        let life = self.command_life.unwrap_or(LIFE_MAX);
        if !(LIFE_MIN..=LIFE_MAX).contains(&life) {
            return Err(Error::invalid(format!(
                "a command's life of {life:?}: give {LIFE_MIN:?} to {LIFE_MAX:?}"
            )));
        }
        let connector = self.connector.unwrap_or_else(channel::tcp);
        let connector = match self.tls {
            Some(tls) => channel::protected(connector, tls),
            None => connector,
        };
        let authorization = self.token.as_deref().map(channel::authorization).transpose()?;
        let nodes = Nodes::new(self.endpoints, connector, authorization, life)?;
        let shared = Shared {
            nodes: Arc::new(nodes),
            lane: Arc::new(Lane::new()),
            budget: Budget::default(),
            timeout,
            principal: self.principal.unwrap_or_else(|| PRINCIPAL_DEFAULT.to_string()),
            sale_reads: Rounds::default(),
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }
}

/// A client: cheap to clone; clones share connections and frames.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// A client of the nodes at these `host:port`, checked to reach at least one.
    ///
    /// # Errors
    /// [`Error::Rejected`]: malformed endpoints. [`Error::Unavailable`]: no node answers.
    pub async fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Result<Client, Error> {
        let client = Client::builder().endpoints(endpoints).build()?;
        client.check().await?;
        Ok(client)
    }

    /// Checks that at least one node answers, whether or not any leads.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: none does.
    pub async fn check(&self) -> Result<(), Error> {
        let statuses = self.cluster().status_all().await;
        let mut failed = Vec::new();
        for (endpoint, status) in statuses {
            match status {
                Ok(_) => return Ok(()),
                // Transport errors name the endpoint already.
                Err(error) if error.to_string().contains(&endpoint) => failed.push(error.to_string()),
                Err(error) => failed.push(format!("{endpoint}: {error}")),
            }
        }
        Err(Error::unavailable(format!(
            "no node answers: {}",
            failed.join("; ")
        )))
    }

    /// Settings other than the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Claims units for a user: `.quantity(n).key(k).send().await`.
    pub fn claim(&self, sale_id: impl Into<String>, user: impl Into<String>) -> TakeRequest {
        let take = Take {
            sale_id: sale_id.into(),
            user: user.into(),
            quantity: 1,
        };
        TakeRequest::new(self.shared.clone(), Body::Claim(take))
    }

    /// Claims and confirms at once.
    pub fn decrement(&self, sale_id: impl Into<String>, user: impl Into<String>) -> TakeRequest {
        let take = Take {
            sale_id: sale_id.into(),
            user: user.into(),
            quantity: 1,
        };
        TakeRequest::new(self.shared.clone(), Body::Decrement(take))
    }

    /// Many claims in full frames, for bulk; answers in order, each what `claim` would have given.
    ///
    /// The timeout counts for each frame from when it is sent, not for the whole.
    pub async fn claim_many(&self, sale_id: &str, claims: &[BulkClaim]) -> Vec<Result<Claimed, Error>> {
        self.shared.claim_many(sale_id, claims).await
    }

    /// Makes a held claim final.
    pub fn confirm(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        self.settle(claim_id, fencing_token, Body::Confirm)
    }

    /// Gives a held claim back.
    pub fn release(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        self.settle(claim_id, fencing_token, Body::Release)
    }

    /// Begins a checkout: extends the hold once.
    pub fn extend(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        self.settle(claim_id, fencing_token, Body::Extend)
    }

    /// Takes a confirmed claim back.
    pub fn cancel(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        self.settle(claim_id, fencing_token, Body::Cancel)
    }

    fn settle(
        &self,
        claim_id: impl Into<String>,
        fencing_token: u64,
        body: impl FnOnce(Settle) -> Body,
    ) -> SettleRequest {
        let settle = Settle {
            claim_id: claim_id.into(),
            fencing_token,
        };
        SettleRequest::new(self.shared.clone(), body(settle))
    }

    /// Creates a sale.
    pub fn create_sale(&self, sale: NewSale) -> SaleRequest {
        self.sale(Body::CreateSale(convert::new_sale(sale)))
    }

    /// Opens a sale.
    pub fn open_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        self.sale(Body::OpenSale(SaleRef {
            sale_id: sale_id.into(),
        }))
    }

    /// Pauses a sale.
    pub fn pause_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        self.sale(Body::PauseSale(SaleRef {
            sale_id: sale_id.into(),
        }))
    }

    /// Closes a sale for good.
    pub fn close_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        self.sale(Body::CloseSale(SaleRef {
            sale_id: sale_id.into(),
        }))
    }

    /// Adds units.
    pub fn restock(&self, sale_id: impl Into<String>, units: u32) -> SaleRequest {
        self.sale(Body::Restock(SaleUnits {
            sale_id: sale_id.into(),
            units,
        }))
    }

    /// Takes available units out.
    pub fn withdraw(&self, sale_id: impl Into<String>, units: u32) -> SaleRequest {
        self.sale(Body::Withdraw(SaleUnits {
            sale_id: sale_id.into(),
            units,
        }))
    }

    fn sale(&self, body: Body) -> SaleRequest {
        SaleRequest::new(self.shared.clone(), body)
    }

    /// Committed changes in order from a cursor on, resumed by itself over failovers: no gap, no repeat.
    ///
    /// An `Err(Unavailable)` says that no node has been reachable for a whole timeout; the watch goes on
    /// when polled again. An `Err(Rejected)` ends it: when history before the cursor is gone, on every node
    /// or on all that answered within a timeout, its `value` is the first index that can still be watched from.
    pub fn watch(&self, from: Cursor, sale_id: Option<&str>) -> BoxStream<'static, Result<Update, Error>> {
        watch::watch(self.shared.clone(), from, sale_id)
    }

    /// Operators' calls.
    pub fn cluster(&self) -> cluster::Cluster {
        cluster::Cluster::new(self.shared.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(set: impl FnOnce(Builder) -> Builder) -> Result<Client, Error> {
        set(Client::builder().endpoints(["127.0.0.1:7401"])).build()
    }

    fn refusal(set: impl FnOnce(Builder) -> Builder) -> String {
        match built(set) {
            Err(Error::Rejected(why)) if why.reason == Reason::Invalid => why.message,
            other => panic!("not refused: {:?}", other.err()),
        }
    }

    #[test]
    fn a_command_lives_as_long_as_may_be_and_no_longer() {
        let step = Duration::from_millis(1);
        for life in [LIFE_MIN, LIFE_MAX] {
            assert!(built(|builder| builder.command_life(life)).is_ok(), "{life:?}");
        }
        for life in [Duration::ZERO, LIFE_MIN - step, LIFE_MAX + step] {
            let said = refusal(|builder| builder.command_life(life));
            assert!(
                said.contains("a command's life") && said.contains("give 1s to 55s"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_call_takes_some_time_and_at_most_a_minute() {
        assert!(built(|builder| builder.timeout(TIMEOUT_MAX)).is_ok());
        for timeout in [Duration::ZERO, TIMEOUT_MAX + Duration::from_millis(1)] {
            let said = refusal(|builder| builder.timeout(timeout));
            assert!(said.contains("at most 60s"), "{said}");
        }
    }
}
