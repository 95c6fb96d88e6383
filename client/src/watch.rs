//! Committed changes as a stream that outlives connections and leaders.
//!
//! Any node can serve it, since what is committed is the same everywhere. The cursor is the place
//! after the last event that was handed out; a new connection starts exactly there, and an event
//! before it is dropped. *From now on* is made an index once, at the start, so that a connection lost
//! before its first event loses none.
//!
//! Ends by itself only when history before the cursor is gone or the request makes no sense. How far back
//! history goes differs from node to node: one that was caught up by a snapshot has less of it than its
//! peers. So what one node has no more is asked of all others, for one client timeout, before it is gone.
//! While no node can be reached the watch keeps trying, and says so with one `Unavailable` per client timeout.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream, stream::BoxStream};
use proto::v1::{WatchRequest, WatchResponse};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Request, Status, Streaming};

use crate::{
    Error,
    call::{Shared, inventory},
    chance, convert,
    error::{Reason, Rejected, Verdict, verdict},
    leader::read_error,
    model::{Cursor, Update},
    retry::pause,
};

/// How often the members are asked for while a watch lasts: it may be all that its client does, and needs somebody
/// to go on with when the node that serves it is gone.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(5);

/// How long a node may take to accept a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn watch(
    shared: Arc<Shared>,
    from: Cursor,
    sale_id: Option<&str>,
) -> BoxStream<'static, Result<Update, Error>> {
    let watch = Watch {
        shared,
        cursor: from,
        sale_id: sale_id.unwrap_or_default().to_string(),
        connection: None,
        asked: String::new(),
        untried: VecDeque::new(),
        gone_at: HashMap::new(),
        members_due: Instant::now() + MEMBERS_INTERVAL,
        tries: 0,
        silent_since: None,
        ended: false,
    };
    stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item, watch))
    })
    .boxed()
}

struct Watch {
    shared: Arc<Shared>,
    /// First event not handed out yet; index zero while *now* has not been found.
    cursor: Cursor,
    sale_id: String,
    connection: Option<Streaming<WatchResponse>>,
    /// The node that was asked last.
    asked: String,
    /// Nodes to try before pausing.
    untried: VecDeque<String>,
    /// Nodes that have no more what comes at the cursor, and what they said.
    gone_at: HashMap<String, Box<Rejected>>,
    /// When the members are asked for.
    members_due: Instant,
    tries: u32,
    /// Since when no node could be reached, unless that was said already.
    silent_since: Option<Instant>,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Update, Error>> {
        if self.ended {
            return None;
        }
        loop {
            let failed = match &mut self.connection {
                Some(connection) => match tokio::select! {
                    message = connection.message() => message,
                    () = sleep_until(self.members_due) => {
                        self.members_due = Instant::now() + MEMBERS_INTERVAL;
                        // That nobody leads now is no reason to watch no longer.
                        drop(self.shared.nodes.find().await);
                        continue;
                    }
                } {
                    Ok(Some(response)) => {
                        self.tries = 0;
                        self.silent_since = None;
                        match self.advance(convert::update(response)) {
                            Some(update) => return Some(Ok(update)),
                            None => continue,
                        }
                    }
                    Ok(None) => Err(Error::unavailable("the node ended the watch")),
                    Err(status) => self.judge(&status, &self.asked),
                },
                None => self.connect().await,
            };
            let error = match failed {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.connection = None;
            match &error {
                Error::Rejected(why) if why.reason == Reason::OutOfRange => {
                    self.gone_at.insert(self.asked.clone(), why.clone());
                }
                // Others may be at home.
                Error::Rejected(why) if why.reason == Reason::WrongCluster => {}
                Error::Rejected(_) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                _ => {}
            }
            if let Some(gone) = self.gone() {
                self.ended = true;
                return Some(Err(Error::Rejected(gone)));
            }
            if let Some(error) = self.wait(error).await {
                return Some(Err(error));
            }
        }
    }

    /// The refusal that leaves out least, once every node has refused, or those that have not were silent for
    /// too long.
    fn gone(&mut self) -> Option<Box<Rejected>> {
        let endpoints = self.shared.nodes.endpoints();
        let everywhere = endpoints.iter().all(|node| self.gone_at.contains_key(node));
        let late = self
            .silent_since
            .is_some_and(|since| since.elapsed() >= self.shared.timeout);
        if !(everywhere || late) {
            return None;
        }
        self.gone_at
            .drain()
            .map(|(_, why)| why)
            .min_by_key(|why| why.value)
    }

    /// Moves the cursor past an update, less what was handed out before. `None` if nothing is new.
    fn advance(&mut self, mut update: Update) -> Option<Update> {
        let had_events = !update.events.is_empty();
        let cursor = (self.cursor.log_index, self.cursor.ordinal);
        update
            .events
            .retain(|event| (event.log_index, event.ordinal) >= cursor);
        if let Some(last) = update.events.last() {
            self.cursor = Cursor {
                log_index: last.log_index,
                ordinal: last.ordinal.saturating_add(1),
            };
            self.gone_at.clear();
        }
        // One without events is a sign of life or fresh counters; one whose events are all old is neither.
        (!had_events || !update.events.is_empty()).then_some(update)
    }

    /// Opens the watch on the next node in turn.
    async fn connect(&mut self) -> Result<(), Error> {
        if self.cursor.log_index == 0 {
            let leader = self.shared.nodes.leader().await?;
            let status = self.shared.nodes.status(&leader).await;
            if status.is_err() {
                self.shared.nodes.redirect(None);
            }
            self.cursor = Cursor {
                log_index: status?.applied_index.saturating_add(1),
                ordinal: 0,
            };
        }
        if self.untried.is_empty() {
            self.untried = self.shared.nodes.endpoints_in_turn().into();
        }
        let Some(address) = self.untried.pop_front() else {
            return Err(Error::unavailable("no endpoints are known"));
        };
        self.asked.clone_from(&address);
        let channel = self.shared.nodes.channel(&address)?;
        // No deadline on the call itself: a watch lasts.
        let request = Request::new(WatchRequest {
            from_index: self.cursor.log_index,
            from_ordinal: self.cursor.ordinal,
            sale_id: self.sale_id.clone(),
        });
        match timeout(OPEN_TIMEOUT, inventory(channel).watch(request)).await {
            Ok(Ok(response)) => {
                self.connection = Some(response.into_inner());
                self.silent_since = None;
                Ok(())
            }
            Ok(Err(status)) => self.judge(&status, &address),
            Err(_) => Err(Error::unavailable(format!(
                "{address} did not answer within {OPEN_TIMEOUT:?}"
            ))),
        }
    }

    fn judge(&self, status: &Status, address: &str) -> Result<(), Error> {
        if let Verdict::Final(mut rejected) = verdict(status) {
            if status.code() == tonic::Code::OutOfRange {
                rejected.message = format!(
                    "history before log index {} is gone, and the watch was to go on at {}; read the sale, \
                     then watch from its changed index",
                    rejected.value, self.cursor.log_index
                );
            }
            if rejected.reason != Reason::WrongCluster {
                return Err(Error::Rejected(rejected));
            }
        }
        Err(read_error(status, address))
    }

    /// Pauses once every node was tried. Gives the error back when it is time to tell.
    async fn wait(&mut self, error: Error) -> Option<Error> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.shared.timeout {
            self.silent_since = None;
            return Some(error);
        }
        if self.untried.is_empty() {
            self.tries = self.tries.saturating_add(1);
            sleep(pause(self.tries, chance::random())).await;
        }
        None
    }
}
