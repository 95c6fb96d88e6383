//! Watch: committed changes in order from an index on, as a stream.

use std::collections::HashMap;

use futures::{Stream, stream};
use proto::v1;
use tonic::{Code, Status};

use super::{invalid, outcome, prepare, refusal};
use crate::{
    batcher::frame::Position,
    storage::{
        feed::{Compacted, Cursor, Feed},
        state::SharedState,
    },
};

/// One watcher.
struct Watcher {
    cursor: Cursor,
    shared: SharedState,
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
    shared: SharedState,
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
        shared,
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
            let chunks = self.cursor.next().await.map_err(|error| compacted(&error))?;
            let mut events = Vec::new();
            for chunk in &chunks {
                for event in chunk.events() {
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
        let (sale, position) = self.shared.read(|machine| {
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
        let shared = &self.shared;
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
