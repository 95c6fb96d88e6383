//! Owning a checkout: its journal under a lease.
//!
//! Only who has the lease writes the journal, and every write presents the lease's token, so an owner
//! that was away for too long finds out when it next writes. An owner that is not sure whether it still
//! is one stops: somebody else goes on.
//!
//! A write whose answer was lost is repeated with the same key, while the lease lasts. A refusal may be
//! the echo of our own write, so the document is looked at before it counts as lost.

use std::{sync::Arc, time::Duration};

use client::{Document, Error, Reason};
use fault_points::{crash_point, planted};
use tokio::time::{Instant, sleep};

use super::{
    journal::{Journal, decode, encode, open_key},
    saga,
    terms::Stage,
};
use crate::{
    documents::{DocumentWrite, fresh_key},
    store::Store,
};

/// Pause before a write is repeated.
const AGAIN: Duration = Duration::from_millis(50);

/// How long the journal of a checkout that is over stays, in ms of log time: the shortest there is. It
/// goes by itself, so closing it is one write and not two.
const OVER_TTL_MS: u64 = 1;

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
    /// Begins: writes the journal where there is none, and leases it.
    pub(crate) async fn begin(
        store: &Arc<dyn Store>,
        journal: Journal,
        lease_ms: u64,
    ) -> Result<Owner, Lost> {
        let body = encode(&journal);
        let mut owner = Owner {
            store: Arc::clone(store),
            lease_ms,
            since_ms: journal.began_ms,
            journal,
            saved: Vec::new(),
            version: 0,
            token: 0,
            leased: Instant::now(),
        };
        crash_point!("checkout-begins");
        owner.write(body, 0).await?;
        crash_point!("checkout-begun");
        owner.lease().await?;
        crash_point!("checkout-leased");
        Ok(owner)
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
            let write = DocumentWrite {
                document: document.clone(),
                body: body.clone().into(),
                version_expected: self.version,
                fencing_token: self.token,
                ttl_ms,
            };
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
