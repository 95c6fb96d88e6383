//! Finds checkouts that nobody owns, and goes on with them.
//!
//! Every process looks, at times of its own; whoever leases a journal first has it. A journal whose
//! lease lasts is somebody's work and passed over, as is one that waits for its shopper and was looked at
//! lately.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use client::Error;
use fault_points::planted;
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use super::{
    Checkouts,
    journal::{Journal, OPEN_PREFIX, decode},
    metrics,
    terms::Stage,
};

/// Journals read in one page: with their bodies some 200 KB.
const PAGE_MAX: u32 = 256;

/// How long a journal that was just written is left to who wrote it, in ms of log time: he is about to
/// lease it.
const FRESH_MS: u64 = 2_000;

/// Sweeps until the checkouts are dropped or the process stops.
pub(crate) async fn run(checkouts: Weak<Checkouts>, mut stopping: watch::Receiver<bool>) {
    loop {
        let Some(now) = checkouts.upgrade() else { return };
        let every_ms = now.options.sweep_ms;
        if let Err(error) = sweep(&now).await {
            tracing::debug!(%error, "open checkouts cannot be listed now");
        }
        if let Err(error) = now.sweep_webhooks().await {
            tracing::debug!(%error, "events that wait cannot be listed now");
        }
        drop(now);
        let wait = Duration::from_millis(every_ms / 2 + client::chance::below(every_ms + 1));
        tokio::select! {
            () = sleep(wait) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// One look at all of them; gives how many were taken over.
pub(crate) async fn sweep(checkouts: &Arc<Checkouts>) -> Result<usize, Error> {
    let Some(till) = &checkouts.till else { return Ok(0) };
    let room = Arc::new(Semaphore::new(checkouts.options.resumed_at_once_max));
    let (mut after, mut open, mut resumed) = (String::new(), 0_u32, 0);
    let mut oldest = Duration::ZERO;
    loop {
        let page = till.steps.store.documents(OPEN_PREFIX, &after, PAGE_MAX).await?;
        for listed in &page.documents {
            open = open.saturating_add(1);
            let now_ms = page.position.log_time_ms;
            let document = String::from_utf8_lossy(&listed.key);
            let Ok(journal) = decode::<Journal>(&document, &listed.body) else {
                continue;
            };
            if !matches!(journal.stage, Stage::AwaitShopper | Stage::Done) {
                oldest = oldest.max(Duration::from_millis(now_ms.saturating_sub(journal.began_ms)));
            }
            if listed.leased_until_ms > now_ms && !planted!("resumed-without-fencing") {
                continue;
            }
            let rests = journal.stage == Stage::AwaitShopper && journal.wake_ms > now_ms;
            let begins = journal.stage == Stage::Begin && journal.began_ms + FRESH_MS > now_ms;
            if rests || begins || journal.stage == Stage::Done {
                continue;
            }
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return Ok(resumed);
            };
            // Taking over is a race with others who look; losing it is no error.
            if let Some(driven) = checkouts.resume(&journal.claim_id, place).await? {
                resumed += 1;
                if journal.stage != Stage::AwaitShopper {
                    ::metrics::counter!(metrics::RESUMED).increment(1);
                }
                drop(driven);
            }
        }
        match page.documents.last() {
            Some(last) if page.more => after = String::from_utf8_lossy(&last.key).into_owned(),
            _ => break,
        }
    }
    metrics::open(open, oldest);
    Ok(resumed)
}
