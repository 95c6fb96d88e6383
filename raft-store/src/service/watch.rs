//! Watch: committed changes in order from an index on, as a stream.

use std::{collections::HashMap, time::Duration};

use futures::{Stream, stream};
use inventory_machine::reply::Event;
use proto::v1;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{invalid, not_leader, outcome, prepare, refusal};
use crate::{
    batcher::frame::Position,
    reads::Reads,
    storage::feed::{Compacted, Cursor, Feed},
};

/// A node that has not kept up for this long ends its watches, so that watchers look for another one; in ms.
/// Several clock exchanges: one lost report is no reason.
const STALE_MS_MAX: u64 = 5_000;

/// How often that is looked at, in ms.
const STALE_LOOK_MS: u64 = 1_000;

/// Returns when this node's state is stale: it may be cut off, and silence would look like peace.
async fn stale(reads: &Reads) {
    let mut fresh_at = Instant::now();
    while fresh_at.elapsed() < Duration::from_millis(STALE_MS_MAX) {
        tokio::time::sleep(Duration::from_millis(STALE_LOOK_MS)).await;
        if reads
            .age()
            .is_some_and(|age| age < Duration::from_millis(STALE_MS_MAX))
        {
            fresh_at = Instant::now();
        }
    }
}

/// One watcher.
struct Watcher {
    cursor: Cursor,
    reads: Reads,
    /// Only this sale's events, when given.
    sale_id: Option<String>,
    /// Ids of sales seen, by number: a sale keeps both for ever.
    names: HashMap<u32, String>,
}

/// Starts a watch.
///
/// # Errors
/// `OUT_OF_RANGE` with `first_index` when the history asked for is gone, `INVALID_ARGUMENT` for a bad sale id.
pub fn watch(
    feed: &Feed,
    reads: Reads,
    request: v1::WatchRequest,
) -> Result<impl Stream<Item = Result<v1::WatchResponse, Status>> + Send + use<>, Status> {
    let v1::WatchRequest {
        from_index,
        from_ordinal,
        sale_id,
    } = request;
    let sale_id = (!sale_id.is_empty()).then_some(sale_id);
    if let Some(sale_id) = &sale_id {
        prepare::check_sale_id(sale_id).map_err(|prepare::Malformed(why)| invalid(why))?;
    }
    let from_index = if from_index == 0 {
        feed.next_index()
    } else {
        from_index
    };
    let cursor = feed
        .subscribe(from_index, from_ordinal)
        .map_err(|error| compacted(&error))?;
    let watcher = Watcher {
        cursor,
        reads,
        sale_id,
        names: HashMap::new(),
    };
    Ok(stream::try_unfold(watcher, |mut watcher| async move {
        let response = watcher.next().await?;
        Ok(Some((response, watcher)))
    }))
}

impl Watcher {
    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        loop {
            let chunks = tokio::select! {
                chunks = self.cursor.next() => chunks.map_err(|error| compacted(&error))?,
                () = stale(&self.reads) => return Err(not_leader("")),
            };
            let mut events = Vec::new();
            for chunk in &chunks {
                // An entry's at a time: applying waits meanwhile.
                let shown: Vec<Event> = self
                    .reads
                    .shared()
                    .read(|machine| chunk.events(machine).collect());
                for event in &shown {
                    let sale_id = self.name(event.sale_number);
                    if self.sale_id.as_ref().is_none_or(|wanted| *wanted == sale_id) {
                        events.push(outcome::event(event, &sale_id));
                    }
                }
            }
            if !events.is_empty() {
                return Ok(self.respond(events));
            }
        }
    }

    fn respond(&self, events: Vec<v1::Event>) -> v1::WatchResponse {
        let (sale, position) = self.reads.shared().read(|machine| {
            let sale = self
                .sale_id
                .as_ref()
                .and_then(|sale_id| machine.sale(inventory_machine::command::NAMESPACE_DEFAULT, sale_id));
            let position = Position {
                applied_index: machine.applied_index(),
                term: 0,
                log_time_ms: machine.log_time_ms(),
                wall_time_ms: machine.wall_time_ms(),
            };
            let incarnation = machine.founding().map_or(0, |founding| founding.incarnation);
            (sale, outcome::position(position, incarnation))
        });
        v1::WatchResponse {
            events,
            sale: sale.map(|sale| outcome::sale(&sale)),
            position: Some(position),
        }
    }

    /// A sale's id; empty for number zero, which stands for documents.
    fn name(&mut self, sale_number: u32) -> String {
        if sale_number == 0 {
            return String::new();
        }
        let shared = self.reads.shared();
        self.names
            .entry(sale_number)
            .or_insert_with(|| {
                shared
                    .read(|machine| machine.sale_by_number(sale_number))
                    .map_or_else(String::new, |sale| sale.sale_id)
            })
            .clone()
    }
}

fn compacted(error: &Compacted) -> Status {
    let first_index = error.first_index.to_string();
    let message = format!("{error}; read the current state, then watch from there");
    refusal(
        Code::OutOfRange,
        "COMPACTED",
        message,
        [("first_index", first_index)],
    )
}
