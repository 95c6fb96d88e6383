//! Checkout: a claim is paid for, and in the end there is exactly one order and one charge, or none
//! and the unit is back.
//!
//! `saga` decides what is next, purely, in the words of `terms`; `journal` is the record it decides from,
//! kept in the store; `steps` carries effects out, `books` writes orders and ledger; `owner` holds a
//! journal's lease, `driver` takes step after step, `sweeper` finds checkouts whose owner died, and
//! `webhooks` are the provider's news of them. Payment itself is behind a port.
//!
//! A checkout runs in a task of its own: a shopper who hangs up, or an answer that takes too long,
//! changes nothing about it.

mod books;
mod crash_points;
mod desk;
mod driver;
pub(crate) mod journal;
pub(crate) mod metrics;
mod options;
pub mod overview;
mod owner;
pub(crate) mod saga;
mod steps;
pub(crate) mod sweeper;
pub(crate) mod terms;
pub(crate) mod webhooks;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use client::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

pub(crate) use desk::{Asked, First, Standing};
pub use options::CheckoutOptions;
use {
    driver::End,
    owner::{Lost, Owner},
    steps::Steps,
};

use crate::{
    payment::{BreakerState, SharedProvider, SignatureCheck},
    store::Store,
};

/// Who takes the money, and how its news are believed.
#[derive(Clone)]
pub struct Payments {
    /// The provider.
    pub provider: SharedProvider,
    /// The secrets that webhooks are signed with; `None`: webhooks are not taken.
    pub webhooks: Option<SignatureCheck>,
}

impl std::fmt::Debug for Payments {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Payments")
            .field("webhooks", &self.webhooks)
            .finish_non_exhaustive()
    }
}

/// Where money is taken.
pub(crate) struct Till {
    pub(crate) steps: Steps,
    pub(crate) webhooks: Option<SignatureCheck>,
}

impl Till {
    /// Whether calls reach the provider.
    pub(crate) fn breaker(&self) -> Option<BreakerState> {
        self.steps.provider.breaker()
    }
}

/// All checkouts that this process has to do with.
pub(crate) struct Checkouts {
    pub(crate) options: CheckoutOptions,
    /// `None`: no payment is configured.
    pub(crate) till: Option<Till>,
    pub(crate) store: Arc<dyn Store>,
    room: Arc<Semaphore>,
    driven: Driven,
    /// What the moments are counted from at which events are written.
    began: Instant,
}

impl Checkouts {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        payments: Option<Payments>,
        options: CheckoutOptions,
    ) -> Arc<Self> {
        metrics::describe();
        let till = payments.map(|payments| Till {
            steps: Steps::new(Arc::clone(&store), payments.provider, &options),
            webhooks: payments.webhooks,
        });
        Arc::new(Checkouts {
            room: Arc::new(Semaphore::new(options.in_flight_max)),
            driven: Driven::default(),
            began: Instant::now(),
            options,
            till,
            store,
        })
    }

    /// Room for one more; `None`: there is none.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Drives a checkout in a task of its own; how it ended comes when it did.
    fn spawn(&self, owner: Owner, place: OwnedSemaphorePermit) -> oneshot::Receiver<End> {
        let till = self
            .till
            .as_ref()
            .expect("whoever owns a checkout can take money");
        let steps = till.steps.clone();
        let longest = self
            .options
            .payment_call_ms_max
            .max(self.options.store_call_ms_max);
        let (tell, told) = oneshot::channel();
        let driving = self.driven.begin(&owner.journal.claim_id);
        let driven = async move {
            let end = driver::drive(&steps, owner, Duration::from_millis(longest)).await;
            drop((place, driving));
            // Nobody may be waiting any more.
            let _ = tell.send(end);
        };
        // It outlives the request that began it, and stays part of its trace.
        tokio::spawn(spans::carried(spans::current(), driven));
        told
    }

    /// Takes over a checkout that nobody owns; `None`: somebody does, or it is over.
    pub(crate) async fn resume(
        &self,
        claim_id: &str,
        place: OwnedSemaphorePermit,
    ) -> Result<Option<oneshot::Receiver<End>>, Error> {
        let owner = Owner::take(&self.store, claim_id, self.options.lease_ms).await?;
        Ok(owner.map(|owner| self.spawn(owner, place)))
    }
}

/// The claims whose checkouts drivers of this process go on with, as many as there is room for.
#[derive(Clone, Default)]
struct Driven(Arc<Mutex<HashMap<String, usize>>>);

impl Driven {
    /// Counts a driver, until what it gives is dropped. One that lost its lease may still be there when the next begins.
    fn begin(&self, claim_id: &str) -> Driving {
        let mut driven = self.lock();
        *driven.entry(claim_id.to_owned()).or_default() += 1;
        ::metrics::gauge!(metrics::IN_FLIGHT).set(driven.len() as f64);
        Driving {
            driven: self.clone(),
            claim_id: claim_id.to_owned(),
        }
    }

    /// Whether one goes on with this claim's.
    fn has(&self, claim_id: &str) -> bool {
        self.lock().contains_key(claim_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().expect("no code panics while holding it")
    }
}

/// One driver at work.
struct Driving {
    driven: Driven,
    claim_id: String,
}

impl Drop for Driving {
    fn drop(&mut self) {
        let mut driven = self.driven.lock();
        if let Entry::Occupied(mut drivers) = driven.entry(std::mem::take(&mut self.claim_id)) {
            *drivers.get_mut() -= 1;
            if *drivers.get() == 0 {
                drivers.remove();
            }
        }
        ::metrics::gauge!(metrics::IN_FLIGHT).set(driven.len() as f64);
    }
}

#[cfg(test)]
mod tests;
