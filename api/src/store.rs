//! What the door needs of the store, and nothing else: the seam between HTTP and the client.
//!
//! The one implementation that ships is [`client::Client`]; tests put a scripted store in its place,
//! which can answer every refusal at will and needs neither sockets nor a cluster.

use client::{
    Chained, Claim, Claimed, Client, Consistency, Cursor, Error, NewSale, NodeStatus, Position, Receipt,
    Sale, SettleRequest, Update,
};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};

use crate::documents::{DocumentWrite, Documents, PRINCIPAL, write_request};

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

/// One command of a chain: it takes effect only if the one before it did.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// Goes on only where a document has this version; zero: where there is none.
    Check {
        /// Its key.
        document: String,
        /// Version it must have.
        version_expected: u64,
    },
    /// Writes a document.
    Write(DocumentWrite),
    /// Leases a document, or renews its lease.
    Lease {
        /// Its key.
        document: String,
        /// Zero to take a free lease; else the token of the lease to renew.
        fencing_token: u64,
        /// Length in ms of log time.
        lease_ms: u64,
    },
    /// A step in a claim's life.
    Settle(Settle),
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
    /// Carries out commands in one entry, as far as none of them is refused. The documents' are done at most once for this
    /// key, which has at most 60 bytes; a step has its own.
    fn chain(&self, links: Vec<Link>, key: String) -> BoxFuture<'_, Chained>;
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

fn settle_request(client: &Client, settle: Settle) -> SettleRequest {
    let request = match settle.step {
        Step::Confirm => client.confirm(settle.claim_id, settle.fencing_token),
        Step::Release => client.release(settle.claim_id, settle.fencing_token),
        Step::Extend => client.extend(settle.claim_id, settle.fencing_token),
        Step::Cancel => client.cancel(settle.claim_id, settle.fencing_token),
    };
    request.key(settle.key).principal(settle.principal)
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
        settle_request(self, settle).send().boxed()
    }

    fn chain(&self, links: Vec<Link>, key: String) -> BoxFuture<'_, Chained> {
        let mut chain = Client::chain(self);
        for (place, link) in links.into_iter().enumerate() {
            let document = match link {
                Link::Settle(settle) => {
                    chain = chain.then(settle_request(self, settle));
                    continue;
                }
                Link::Check {
                    document,
                    version_expected,
                } => self.check_document(document, version_expected),
                Link::Write(write) => write_request(self, write),
                Link::Lease {
                    document,
                    fencing_token,
                    lease_ms,
                } => Client::lease_document(self, document, fencing_token, lease_ms),
            };
            chain = chain.then(document.key(format!("{key}.{place}")).principal(PRINCIPAL));
        }
        chain.send().boxed()
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
