//! The Rust client of Holdfast (contract; the implementation follows).

pub mod cluster;
pub mod error;
pub mod model;

use std::sync::Arc;

pub use error::{Error, Reason, Rejected};
use futures::{future::BoxFuture, stream::BoxStream};
pub use model::*;

/// A connection that a connector made.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens a connection to `host:port`; replaced in simulation.
pub type Connector = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> + Send + Sync>;

/// Settings of a client.
#[derive(Clone, Default)]
pub struct Builder {}

impl Builder {
    /// `host:port` of any nodes; the rest is learned from them.
    pub fn endpoints(self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let _ = endpoints.into_iter().map(Into::into).collect::<Vec<String>>();
        todo!()
    }
    /// How long one call may take in all, retries included. Default 5 s.
    pub fn timeout(self, timeout: std::time::Duration) -> Self {
        let _ = timeout;
        todo!()
    }
    /// Who asks, where a call does not say. Default `client`.
    pub fn principal(self, principal: impl Into<String>) -> Self {
        let _ = principal.into();
        todo!()
    }
    /// Opens connections; default TCP.
    pub fn connector(self, connector: Connector) -> Self {
        let _ = connector;
        todo!()
    }
    /// Makes the client; connects when first used. Errors only on malformed endpoints.
    pub fn build(self) -> Result<Client, Error> {
        todo!()
    }
}

/// A client: cheap to clone; clones share connections and frames.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// A client of the nodes at these `host:port`, checked to reach at least one.
    pub async fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Result<Client, Error> {
        let _ = endpoints.into_iter().map(Into::into).collect::<Vec<String>>();
        todo!()
    }
    /// Settings other than the defaults.
    pub fn builder() -> Builder {
        todo!()
    }
    /// Claims units for a user: `.quantity(n).key(k).send().await`.
    pub fn claim(&self, sale_id: impl Into<String>, user: impl Into<String>) -> TakeRequest {
        let _ = (sale_id.into(), user.into());
        todo!()
    }
    /// Claims and confirms at once.
    pub fn decrement(&self, sale_id: impl Into<String>, user: impl Into<String>) -> TakeRequest {
        let _ = (sale_id.into(), user.into());
        todo!()
    }
    /// Many claims in full frames, for bulk; answers in order.
    pub async fn claim_many(&self, sale_id: &str, claims: &[BulkClaim]) -> Vec<Result<Claimed, Error>> {
        let _ = (sale_id, claims);
        todo!()
    }
    /// Makes a held claim final.
    pub fn confirm(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        let _ = (claim_id.into(), fencing_token);
        todo!()
    }
    /// Gives a held claim back.
    pub fn release(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        let _ = (claim_id.into(), fencing_token);
        todo!()
    }
    /// Begins a checkout: extends the hold once.
    pub fn extend(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        let _ = (claim_id.into(), fencing_token);
        todo!()
    }
    /// Takes a confirmed claim back.
    pub fn cancel(&self, claim_id: impl Into<String>, fencing_token: u64) -> SettleRequest {
        let _ = (claim_id.into(), fencing_token);
        todo!()
    }
    /// Creates a sale.
    pub fn create_sale(&self, sale: NewSale) -> SaleRequest {
        let _ = sale;
        todo!()
    }
    /// Opens a sale.
    pub fn open_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        let _ = sale_id.into();
        todo!()
    }
    /// Pauses a sale.
    pub fn pause_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        let _ = sale_id.into();
        todo!()
    }
    /// Closes a sale for good.
    pub fn close_sale(&self, sale_id: impl Into<String>) -> SaleRequest {
        let _ = sale_id.into();
        todo!()
    }
    /// Adds units.
    pub fn restock(&self, sale_id: impl Into<String>, units: u32) -> SaleRequest {
        let _ = (sale_id.into(), units);
        todo!()
    }
    /// Takes available units out.
    pub fn withdraw(&self, sale_id: impl Into<String>, units: u32) -> SaleRequest {
        let _ = (sale_id.into(), units);
        todo!()
    }
    /// One sale.
    pub async fn get_sale(&self, sale_id: &str, consistency: Consistency) -> Result<(Sale, Position), Error> {
        let _ = (sale_id, consistency);
        todo!()
    }
    /// Sales after `after` in id order.
    pub async fn list_sales(
        &self,
        after: Option<&str>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Sale>, Position), Error> {
        let _ = (after, limit, consistency);
        todo!()
    }
    /// One claim and the sale it belongs to; when `user` is given, only if it is his.
    pub async fn get_claim(
        &self,
        claim_id: &str,
        user: Option<&str>,
        consistency: Consistency,
    ) -> Result<(Claim, String, Position), Error> {
        let _ = (claim_id, user, consistency);
        todo!()
    }
    /// Claims of a sale from a rank (from one) on.
    pub async fn list_claims(
        &self,
        sale_id: &str,
        rank_from: u32,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Claim>, Position), Error> {
        let _ = (sale_id, rank_from, limit, consistency);
        todo!()
    }
    /// What became of a key. `principal` is the user for claims.
    pub async fn resolve(
        &self,
        sale_id: &str,
        operation: Operation,
        key: &str,
        principal: &str,
    ) -> Result<Resolution, Error> {
        let _ = (sale_id, operation, key, principal);
        todo!()
    }
    /// Committed changes in order from a cursor on, resumed by itself over failovers: no gap, no repeat.
    pub fn watch(&self, from: Cursor, sale_id: Option<&str>) -> BoxStream<'static, Result<Update, Error>> {
        let _ = (from, sale_id);
        todo!()
    }
    /// Operators' calls.
    pub fn cluster(&self) -> cluster::Cluster {
        todo!()
    }
}
