//! What the routes share. Nothing in here is worth keeping: a restarted door is as good as an old one.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::Consistency;
use tokio::sync::watch;

use crate::{
    admission::{crowd::Crowd, rate::ClaimRate},
    auth::Verifier,
    cache::{Fresh, SaleCache},
    checkout::{Checkouts, sweeper},
    error::{Kind, Problem},
    live::Live,
    options::{Options, StartError},
    store::{NodeSeen, Store},
    telemetry::Telemetry,
};

/// How often idle users are forgotten and samples folded: often enough that what piles up in between
/// (some 100,000 entries at full speed) is a few MB.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(5);

/// How long "ready" is believed: probes come about this often.
const READY_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a leader may take to answer before this node calls itself not ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(2);

/// State of the routes.
pub(crate) struct Door {
    pub(crate) options: Options,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) verifier: Verifier,
    pub(crate) claim_rate: ClaimRate,
    pub(crate) requests: Crowd,
    pub(crate) linearizable_reads: Crowd,
    pub(crate) sales: Arc<SaleCache>,
    pub(crate) live: Live,
    pub(crate) checkouts: Arc<Checkouts>,
    pub(crate) telemetry: Telemetry,
    leaving: AtomicBool,
    stopping: watch::Sender<bool>,
    led: Fresh<()>,
    /// The nodes' own views.
    pub(crate) nodes: Fresh<Arc<Vec<NodeSeen>>>,
}

impl Door {
    /// Checks the options and makes the state. Must be called inside a tokio runtime, where the
    /// housekeeping runs until the door is dropped.
    pub(crate) fn new(store: Arc<dyn Store>, options: Options) -> Result<Arc<Self>, StartError> {
        options.check()?;
        let (stopping, stops) = watch::channel(false);
        let sales = Arc::new(SaleCache::new(Arc::clone(&store), &options));
        let door = Arc::new(Door {
            verifier: Verifier::new(&options)?,
            claim_rate: ClaimRate::new(&options),
            requests: Crowd::new(
                options.requests_in_flight_max,
                "this node answers all the requests it can",
            ),
            linearizable_reads: Crowd::new(
                options.linearizable_reads_in_flight_max,
                "too many linearizable reads at one time; ask without ?consistency",
            ),
            checkouts: Checkouts::new(
                Arc::clone(&store),
                options.payments.clone(),
                options.checkout.clone(),
            ),
            live: Live::new(Arc::clone(&store), Arc::clone(&sales), &options, stops.clone()),
            sales,
            telemetry: Telemetry::new(&options)?,
            leaving: AtomicBool::new(false),
            stopping,
            led: Fresh::default(),
            nodes: Fresh::default(),
            store,
            options,
        });
        tokio::spawn(keep_house(Arc::downgrade(&door)));
        if let Some(changes) = door.options.claims_per_user_minute_changes.clone() {
            tokio::spawn(follow_limit(Arc::downgrade(&door), changes));
        }
        if door.checkouts.till.is_some() {
            tokio::spawn(sweeper::run(Arc::downgrade(&door.checkouts), stops));
        }
        Ok(door)
    }

    /// From now on: not ready, so that no more shoppers are sent here.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// From now on: every live stream ends.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether this node should be sent shoppers: it knows a leader that has a quorum, and is not
    /// stopping.
    pub(crate) async fn ready(&self) -> Result<(), Problem> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(Problem::new(Kind::Unavailable, "stopping"));
        }
        self.led
            .get(READY_AGE_MAX, || async {
                // A linearizable read is answered by a leader that a majority still follows, from
                // state that has caught up: exactly what "ready" means here.
                let read = self.store.sales(None, 1, Consistency::Linearizable);
                match tokio::time::timeout(READY_WAIT_MAX, read).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(Problem::from(error)),
                    Err(_) => Err(Problem::new(Kind::Unavailable, "no leader answered in time")),
                }
            })
            .await
    }
}

async fn follow_limit(door: Weak<Door>, mut changes: watch::Receiver<NonZeroU32>) {
    while changes.changed().await.is_ok() {
        let Some(door) = door.upgrade() else { return };
        door.claim_rate.set_limit(*changes.borrow_and_update());
    }
}

async fn keep_house(door: Weak<Door>) {
    let mut every = tokio::time::interval(HOUSEKEEPING_EVERY);
    loop {
        every.tick().await;
        let Some(door) = door.upgrade() else { return };
        door.claim_rate.forget_idle();
        door.telemetry.keep_house(door.live.feeds());
    }
}
