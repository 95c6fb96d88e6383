//! Watchers of the feed: they take down every event until told to stop.

use std::collections::BTreeMap;

use client::{Client, Cursor, Error};
use futures::StreamExt;
use tokio::sync::watch;

use super::shop::Shop;
use crate::properties::{SeenEvent, SeenFeed};

/// The log index of each sale's last change, once the run is over; no sales: whoever still waits gives up.
pub type LastChanges = Option<BTreeMap<String, u64>>;

/// Watches from `from_index` on until `stop` names the last changes and the one that matters here has been
/// reached: what is missing then is for the property to say.
pub async fn follow(
    name: String,
    client: Client,
    shop: Shop,
    sale: Option<String>,
    from_index: u64,
    mut stop: watch::Receiver<LastChanges>,
) -> SeenFeed {
    let mut seen = SeenFeed {
        name,
        sale: sale.clone(),
        from_index,
        ..SeenFeed::default()
    };
    let from = Cursor {
        log_index: from_index,
        ordinal: 0,
    };
    let mut updates = client.watch(from, sale.as_deref());
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            last = stop.wait_for(|last| last.as_ref().is_some_and(|last| seen.reached >= goal(last, &sale))) => {
                // Nobody is left to say when: the run is over.
                drop(last);
                return seen;
            }
        };
        match update {
            Some(Ok(update)) => {
                let t = shop.now_ns();
                for event in update.events {
                    seen.reached = event.log_index;
                    seen.events.push(SeenEvent {
                        t,
                        log_index: event.log_index,
                        ordinal: event.ordinal,
                        lt: event.log_time_ms,
                        command: event.command,
                        kind: event.kind,
                        sale: event.sale_id,
                        claim: event.claim,
                        value: event.value,
                    });
                }
            }
            // No node could be reached for a while: it goes on when it can.
            Some(Err(Error::Unavailable { .. } | Error::Unknown { .. })) => {}
            Some(Err(Error::Rejected(why))) => {
                // History before this index is gone, and the node said so.
                let from = Cursor {
                    log_index: why.value.max(1),
                    ordinal: 0,
                };
                seen.resumed.push(from.log_index);
                // What was announced as gone is dealt with, be it the very last change.
                seen.reached = seen.reached.max(from.log_index - 1);
                updates = client.watch(from, sale.as_deref());
            }
            None => return seen,
        }
    }
}

/// The last change that a watcher of this sale, or of all, is to see.
pub fn goal(last_changes: &BTreeMap<String, u64>, sale: &Option<String>) -> u64 {
    match sale {
        Some(sale) => last_changes.get(sale).copied().unwrap_or_default(),
        None => last_changes.values().copied().max().unwrap_or_default(),
    }
}
