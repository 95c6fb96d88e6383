//! What the door needs of the store, and nothing else: the seam between HTTP and the client.
//!
//! The one implementation that ships is [`client::Client`]; tests put a scripted store in its place,
//! which can answer every refusal at will and needs neither sockets nor a cluster.

use client::{
    Claim, Claimed, Client, Consistency, Cursor, Error, NewSale, NodeStatus, Position, Receipt, Sale, Update,
};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};

use crate::documents::Documents;

/// A claim to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// Of which sale.
    pub sale_id: String,
    /// For whom; he is also who asks.
    pub user: String,
    /// His idempotency key.
    pub key: String,
    /// Units.
    pub quantity: u32,
}

/// What to do with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a held one final.
    Confirm,
    /// Give the units of a held one back.
    Release,
    /// Begin the checkout of a held one: extends the hold, once, and gives a new token.
    Extend,
    /// Give the units of a confirmed one back.
    Cancel,
}

/// A step in a claim's life.
#[derive(Clone, Debug, PartialEq)]
pub struct Settle {
    /// Which.
    pub step: Step,
    /// Of which claim.
    pub claim_id: String,
    /// The claim's current token.
    pub fencing_token: u64,
    /// Idempotency key.
    pub key: String,
    /// Who asks.
    pub principal: String,
}

/// What to do with a sale.
#[derive(Clone, Debug, PartialEq)]
pub enum SaleChange {
    /// Create it.
    Create(NewSale),
    /// Open it.
    Open(String),
    /// Pause it.
    Pause(String),
    /// Close it for good.
    Close(String),
    /// Add units.
    Restock(String, u32),
    /// Take available units out.
    Withdraw(String, u32),
}

/// A node of the cluster behind the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSeen {
    /// Where it is reached.
    pub endpoint: String,
    /// Its own view; `None`: it does not answer.
    pub status: Option<NodeStatus>,
}

/// The store behind the door.
pub trait Store: Documents {
    /// Claims units.
    fn claim(&self, take: Take) -> BoxFuture<'_, Result<Claimed, Error>>;
    /// Confirms, releases, extends or cancels.
    fn settle(&self, settle: Settle) -> BoxFuture<'_, Result<(Claim, Position), Error>>;
    /// Changes a sale, for `principal`, at most once for this key.
    fn change_sale(
        &self,
        change: SaleChange,
        key: String,
        principal: String,
    ) -> BoxFuture<'_, Result<Receipt, Error>>;
    /// One sale.
    fn sale<'a>(
        &'a self,
        sale_id: &'a str,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Sale, Position), Error>>;
    /// Sales after `after`, in id order.
    fn sales<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Vec<Sale>, Position), Error>>;
    /// One claim and its sale's id, linearizably; when `user` is given, only if it is his.
    fn find_claim<'a>(
        &'a self,
        claim_id: &'a str,
        user: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(Claim, String, Position), Error>>;
    /// One sale's changes from a cursor on.
    fn watch(&self, from: Cursor, sale_id: &str) -> BoxStream<'static, Result<Update, Error>>;
    /// Every node there is; none where there is no cluster to see.
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeSeen>> {
        std::future::ready(Vec::new()).boxed()
    }
}

impl Store for Client {
    fn claim(&self, take: Take) -> BoxFuture<'_, Result<Claimed, Error>> {
        Client::claim(self, take.sale_id, take.user)
            .key(take.key)
            .quantity(take.quantity)
            .send()
            .boxed()
    }

    fn settle(&self, settle: Settle) -> BoxFuture<'_, Result<(Claim, Position), Error>> {
        let request = match settle.step {
            Step::Confirm => self.confirm(settle.claim_id, settle.fencing_token),
            Step::Release => self.release(settle.claim_id, settle.fencing_token),
            Step::Extend => self.extend(settle.claim_id, settle.fencing_token),
            Step::Cancel => self.cancel(settle.claim_id, settle.fencing_token),
        };
        request.key(settle.key).principal(settle.principal).send().boxed()
    }

    fn change_sale(
        &self,
        change: SaleChange,
        key: String,
        principal: String,
    ) -> BoxFuture<'_, Result<Receipt, Error>> {
        let request = match change {
            SaleChange::Create(sale) => self.create_sale(sale),
            SaleChange::Open(sale_id) => self.open_sale(sale_id),
            SaleChange::Pause(sale_id) => self.pause_sale(sale_id),
            SaleChange::Close(sale_id) => self.close_sale(sale_id),
            SaleChange::Restock(sale_id, units) => self.restock(sale_id, units),
            SaleChange::Withdraw(sale_id, units) => self.withdraw(sale_id, units),
        };
        request.key(key).principal(principal).send().boxed()
    }

    fn sale<'a>(
        &'a self,
        sale_id: &'a str,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Sale, Position), Error>> {
        self.get_sale(sale_id, consistency).boxed()
    }

    fn sales<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Vec<Sale>, Position), Error>> {
        self.list_sales(after, limit, consistency).boxed()
    }

    fn find_claim<'a>(
        &'a self,
        claim_id: &'a str,
        user: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(Claim, String, Position), Error>> {
        self.get_claim(claim_id, user, Consistency::Linearizable).boxed()
    }

    fn watch(&self, from: Cursor, sale_id: &str) -> BoxStream<'static, Result<Update, Error>> {
        Client::watch(self, from, Some(sale_id))
    }

    fn nodes(&self) -> BoxFuture<'_, Vec<NodeSeen>> {
        async {
            let views = self.cluster().status_all().await;
            let seen = views.into_iter().map(|(endpoint, status)| NodeSeen {
                endpoint,
                status: status.ok(),
            });
            seen.collect()
        }
        .boxed()
    }
}
