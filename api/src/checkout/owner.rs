//! Owning a checkout: its journal under a lease.
//!
//! Only who has the lease writes the journal, and every write presents the lease's token, so an owner
//! that was away for too long finds out when it next writes. An owner that is not sure whether it still
//! is one stops: somebody else goes on.
//!
//! A write whose answer was lost is repeated with the same key, while the lease lasts. A refusal may be
//! the echo of our own write, so the document is looked at before it counts as lost.
//!
//! What belongs to a write goes to the store with it, as one chain: the lease and the extension of the hold with the
//! first, the step of a claim with the save that announces it, the books and the answer with the end.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use client::{Chained, Document, Done, Error, Reason};
use fault_points::{crash_point, planted};
use tokio::time::{Instant, sleep};

use super::{
    journal::{Journal, closed_key, decode, encode, open_key},
    saga, steps,
    terms::{Outcome, Stage},
};
use crate::{
    documents::{DocumentWrite, fresh_key},
    idempotency::Place,
    orders::{self, Order},
    store::{Link, Step, Store},
};

/// Pause before a write is repeated.
const AGAIN: Duration = Duration::from_millis(50);

/// How long the journal of a checkout that is over stays, in ms of log time: the shortest there is. It
/// goes by itself, so closing it is one write and not two.
const OVER_TTL_MS: u64 = 1;

/// How a shopper is told of his order.
pub(crate) type Paid = fn(&Order) -> Response;

/// A checkout that this process owns.
pub(crate) struct Owner {
    store: Arc<dyn Store>,
    lease_ms: u64,
    pub(crate) journal: Journal,
    /// The journal's bytes as they are in the store.
    saved: Vec<u8>,
    version: u64,
    token: u64,
    /// When the lease was asked for that we have.
    leased: Instant,
    /// Log time when it became ours.
    pub(crate) since_ms: u64,
    /// Where the answer is left for who asked, and how he is told of an order.
    answer: Option<(Place, Paid)>,
}

/// Why it is owned no more, or was never.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Somebody else has it, or it is over.
    Taken,
    /// The store cannot be asked for longer than the lease lasts.
    Away(Error),
}

impl Owner {
    /// Begins: writes the journal where there is none, and leases it. A new attempt makes sure in the same entry that it
    /// is its turn, and extends the hold.
    pub(crate) async fn begin(
        store: &Arc<dyn Store>,
        journal: Journal,
        lease_ms: u64,
    ) -> Result<Owner, Lost> {
        Self::begin_with(store, journal, lease_ms, None).await.1
    }

    /// As [`Owner::begin`], in one entry with a write that goes first, and without which nothing begins; gives the
    /// version of that, too, if it was made.
    pub(crate) async fn begin_with(
        store: &Arc<dyn Store>,
        mut journal: Journal,
        lease_ms: u64,
        first: Option<DocumentWrite>,
    ) -> (Option<u64>, Result<Owner, Lost>) {
        let goes_first = first.is_some();
        let mut links: Vec<Link> = first.map(Link::Write).into_iter().collect();
        if journal.stage == Stage::Begin {
            let check = |document, version_expected| Link::Check {
                document,
                version_expected,
            };
            links.push(check(closed_key(&journal.claim_id), journal.closed_version));
            links.push(check(orders::key_of(&orders::order_id(&journal.claim_id)), 0));
            let turn = Outcome::Turn {
                closed_version: journal.closed_version,
                ordered: false,
            };
            saga::record(&mut journal, turn);
        }
        let document = open_key(&journal.claim_id);
        let body = encode(&journal);
        let written = links.len();
        links.push(Link::Write(DocumentWrite {
            document: document.clone(),
            body: body.clone().into(),
            ..DocumentWrite::default()
        }));
        links.push(Link::Lease {
            document,
            fencing_token: 0,
            lease_ms,
        });
        let leased = links.len();
        let extends = journal.stage == Stage::Extend;
        if extends {
            links.push(Link::Settle(steps::settle_of(Step::Extend, &journal)));
        }
        let mut owner = Owner {
            store: Arc::clone(store),
            lease_ms,
            since_ms: journal.began_ms,
            journal,
            saved: Vec::new(),
            version: 0,
            token: 0,
            leased: Instant::now(),
            answer: None,
        };
        crash_point!("checkout-begins");
        let Chained { mut done, end } = match owner.chain(links).await {
            Ok(chained) => chained,
            Err(lost) => return (None, Err(lost)),
        };
        crash_point!("checkout-begun");
        let first_version = match done.first() {
            Some(Done::Document(first)) if goes_first => Some(first.version),
            _ => None,
        };
        let (Some(Done::Document(begun)), Some(Done::Document(lease))) =
            (done.get(written), done.get(written + 1))
        else {
            return (first_version, Err(not_begun(end)));
        };
        (owner.saved, owner.version, owner.token) = (body, begun.version, lease.fencing_token);
        if extends {
            let extended = match done.drain(leased..).next() {
                Some(Done::Settled(claim)) => Ok(claim),
                _ => Err(end.expect_err("it ended before the extension")),
            };
            saga::record(&mut owner.journal, steps::settled(Step::Extend, extended));
        }
        (first_version, Ok(owner))
    }

    /// Who asked is answered in the entry that ends the checkout, if it ends with an order.
    pub(crate) fn answering(mut self, place: Place, paid: Paid) -> Self {
        self.answer = Some((place, paid));
        self
    }

    /// Saves the journal and takes a step with its claim, which is not taken unless the journal is saved.
    pub(crate) async fn save_and_settle(&mut self, step: Step) -> Result<Outcome, Lost> {
        crash_point!("checkout-save-begins");
        let body = encode(&self.journal);
        let links = vec![
            Link::Write(self.write_of(body.clone(), 0)),
            Link::Settle(steps::settle_of(step, &self.journal)),
        ];
        let Chained { done, end } = self.chain(links).await?;
        let mut done = done.into_iter();
        match done.next() {
            Some(Done::Document(saved)) => (self.version, self.saved) = (saved.version, body),
            // Perhaps by ourselves: that is looked at where the journal is saved by itself.
            _ => {
                self.save().await?;
                return Ok(Outcome::NotNow { retry_after_ms: 0 });
            }
        }
        crash_point!("checkout-saved");
        let came = match done.next() {
            Some(Done::Settled(claim)) => Ok(claim),
            _ => Err(end.expect_err("it ended before the step")),
        };
        Ok(steps::settled(step, came))
    }

    /// Writes the books of a checkout that has been paid, lets its journal go and answers who asked, all of it in one entry
    /// and only while it is ours. `false`: something of it is there already, or was refused; each is to be done by itself
    /// then.
    pub(crate) async fn end_with(&mut self, books: Vec<DocumentWrite>, order: &Order) -> Result<bool, Lost> {
        let mut over = self.journal.clone();
        saga::record(&mut over, Outcome::Ordered(None));
        debug_assert_eq!(over.stage, Stage::Done);
        let mut links = vec![Link::Lease {
            document: open_key(&self.journal.claim_id),
            fencing_token: self.token,
            lease_ms: self.lease_ms,
        }];
        links.extend(books.into_iter().map(Link::Write));
        links.push(Link::Write(self.write_of(encode(&over), OVER_TTL_MS)));
        let ending = links.len();
        let answer = self
            .answer
            .as_ref()
            .and_then(|(place, paid)| place.write(paid(order)));
        // Last: who went away has freed his key, which refuses this, and nothing else may depend on it.
        links.extend(answer.map(Link::Write));
        crash_point!("checkout-end-begins");
        let done = self.chain(links).await?.done.len();
        crash_point!("checkout-ended");
        if let Some((place, _)) = self.answer.as_ref().filter(|_| done > ending) {
            place.written();
        }
        if done >= ending {
            self.journal = over;
        }
        Ok(done >= ending)
    }

    /// Carries a chain out, as long as it takes to know how far it came.
    async fn chain(&self, links: Vec<Link>) -> Result<Chained, Lost> {
        let key = fresh_key();
        loop {
            let chained = self.store.chain(links.clone(), key.clone()).await;
            match &chained.end {
                Ok(()) | Err(Error::Rejected(_)) => return Ok(chained),
                Err(error) if self.left().is_zero() => return Err(Lost::Away(error.clone())),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    fn write_of(&self, body: Vec<u8>, ttl_ms: u64) -> DocumentWrite {
        DocumentWrite {
            document: open_key(&self.journal.claim_id),
            body: body.into(),
            version_expected: self.version,
            fencing_token: self.token,
            ttl_ms,
        }
    }

    /// Takes over what nobody owns; `None`: somebody does, or there is nothing.
    pub(crate) async fn take(
        store: &Arc<dyn Store>,
        claim_id: &str,
        lease_ms: u64,
    ) -> Result<Option<Owner>, Error> {
        let document = open_key(claim_id);
        let found = store.document(&document).await?;
        let unfenced = planted!("resumed-without-fencing");
        let Some(found) = (if unfenced { found } else { free(found) }) else {
            return Ok(None);
        };
        let Some(journal) = readable(&document, &found) else {
            return Ok(None);
        };
        let mut owner = Owner {
            store: Arc::clone(store),
            lease_ms,
            since_ms: found.position.log_time_ms,
            journal,
            saved: Vec::new(),
            version: found.version,
            token: if unfenced { found.fencing_token } else { 0 },
            leased: Instant::now(),
            answer: None,
        };
        match owner.lease().await {
            Ok(()) => {}
            Err(Lost::Taken) => return Ok(None),
            Err(Lost::Away(error)) => return Err(error),
        }
        crash_point!("checkout-taken-over");
        // As it is now that nobody else can write it.
        let Some(found) = store.document(&document).await? else {
            return Ok(None);
        };
        let Some(journal) = readable(&document, &found).filter(|_| found.fencing_token == owner.token) else {
            return Ok(None);
        };
        if journal.stage == Stage::Done {
            return Ok(None);
        }
        owner.journal = journal;
        owner.saved = found.body.to_vec();
        owner.version = found.version;
        saga::take_over(&mut owner.journal);
        Ok(Some(owner))
    }

    /// Whether what would be saved differs from what is.
    pub(crate) fn is_dirty(&self) -> bool {
        encode(&self.journal) != self.saved
    }

    /// Saves the journal.
    pub(crate) async fn save(&mut self) -> Result<(), Lost> {
        crash_point!("checkout-save-begins");
        self.write(encode(&self.journal), 0).await?;
        crash_point!("checkout-saved");
        Ok(())
    }

    /// Saves the journal of a checkout that is over, which then goes by itself.
    pub(crate) async fn end(mut self) -> Result<Journal, Lost> {
        crash_point!("checkout-end-begins");
        self.write(encode(&self.journal), OVER_TTL_MS).await?;
        crash_point!("checkout-ended");
        Ok(self.journal)
    }

    /// Makes sure that the lease lasts for one more call, of the longest kind.
    pub(crate) async fn hold_on(&mut self, call: Duration) -> Result<(), Lost> {
        let lease = Duration::from_millis(self.lease_ms);
        if self.leased.elapsed() + call < lease {
            return Ok(());
        }
        self.lease().await
    }

    /// Gives the lease back, so that whoever comes next need not wait for its end.
    pub(crate) async fn give_back(self) -> Journal {
        let document = open_key(&self.journal.claim_id);
        let given = self
            .store
            .lease_document(document, self.token, 0, fresh_key())
            .await;
        if let Err(error) = given {
            tracing::debug!(%error, "a lease could not be given back; it ends by itself");
        }
        crash_point!("checkout-given-back");
        self.journal
    }

    /// How long we may still believe that it is ours. Log time never runs ahead of ours.
    fn left(&self) -> Duration {
        Duration::from_millis(self.lease_ms).saturating_sub(self.leased.elapsed())
    }

    async fn lease(&mut self) -> Result<(), Lost> {
        let asked = Instant::now();
        let key = fresh_key();
        loop {
            let document = open_key(&self.journal.claim_id);
            let leased = self
                .store
                .lease_document(document, self.token, self.lease_ms, key.clone());
            match leased.await {
                Ok(changed) => {
                    (self.token, self.leased) = (changed.fencing_token, asked);
                    return Ok(());
                }
                Err(Error::Rejected(_)) => return Err(Lost::Taken),
                Err(error) if asked.elapsed() > Duration::from_millis(self.lease_ms) => {
                    return Err(Lost::Away(error));
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn write(&mut self, body: Vec<u8>, ttl_ms: u64) -> Result<(), Lost> {
        let document = open_key(&self.journal.claim_id);
        let mut key = fresh_key();
        loop {
            let write = self.write_of(body.clone(), ttl_ms);
            let error = match self.store.write_document(write, key.clone()).await {
                Ok(changed) => {
                    (self.version, self.saved) = (changed.version, body);
                    return Ok(());
                }
                Err(error) => error,
            };
            match &error {
                Error::Rejected(rejected) if is_of_another(rejected.reason) => {
                    let found = self.store.document(&document).await.map_err(Lost::Away)?;
                    if planted!("resumed-without-fencing")
                        && let Some(found) = &found
                    {
                        (self.version, self.token) = (found.version, found.fencing_token);
                        key = fresh_key();
                        continue;
                    }
                    let ours = found.filter(|found| found.body == body && found.fencing_token == self.token);
                    let Some(found) = ours else {
                        return Err(Lost::Taken);
                    };
                    (self.version, self.saved) = (found.version, body);
                    return Ok(());
                }
                _ if self.left().is_zero() => return Err(Lost::Away(error)),
                _ => sleep(AGAIN).await,
            }
        }
    }
}

/// Why a checkout was not begun: another attempt has begun or has come to its end, or the store has no room for it.
fn not_begun(end: Result<(), Error>) -> Lost {
    match end {
        Err(Error::Rejected(rejected)) if !is_of_another(rejected.reason) => {
            Lost::Away(Error::Rejected(rejected))
        }
        _ => Lost::Taken,
    }
}

/// Whether a write was refused because the document is not as its writer believed.
fn is_of_another(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VersionMismatch | Reason::StaleToken | Reason::Leased | Reason::KeyReused
    )
}

/// A document that nobody has leased.
fn free(found: Option<Document>) -> Option<Document> {
    found.filter(|found| found.leased_until_ms <= found.position.log_time_ms)
}

/// A journal, unless another release wrote it: its processes go on with it.
fn readable(document: &str, found: &Document) -> Option<Journal> {
    decode(document, &found.body)
        .inspect_err(|error| tracing::error!(%error, "a checkout's journal cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use client::{ClaimStatus, Position, Rejected, SaleStatus};

    use super::*;

    #[test]
    fn a_store_without_room_is_said_and_not_taken_for_another_attempt() {
        let refused = |reason| {
            not_begun(Err(Error::Rejected(Box::new(Rejected {
                reason,
                message: String::new(),
                value: 0,
                until_ms: 0,
                opens_at_ms: 0,
                sale_status: SaleStatus::Unspecified,
                claim_status: ClaimStatus::Unspecified,
                position: Position::default(),
            }))))
        };
        for reason in [Reason::VersionMismatch, Reason::Leased, Reason::StaleToken] {
            assert!(matches!(refused(reason), Lost::Taken), "{reason:?}");
        }
        for reason in [Reason::DocumentQuota, Reason::TableFull, Reason::Forbidden] {
            assert!(matches!(refused(reason), Lost::Away(_)), "{reason:?}");
        }
    }
}
