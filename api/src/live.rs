//! Live counters: one watch of the store per sale, shared by everybody who listens here.
//!
//! - A feed starts with its first listener and ends with its last. It reads the sale linearizably,
//!   watches on from just behind that read, and after any break reads again: whatever was missed is in
//!   the counters.
//! - Listeners see the newest counters, not every change: a slow one skips, and holds nobody up. There
//!   is no queue anywhere, so nothing to bound but the listeners and the sales.
//! - The last events of a sale are kept while it is watched, runs of one kind as one, for those who look.
//! - For one listener counters never go back: an event is sent only if its index is higher than the
//!   last one's (or the cluster was restored since, which its incarnation tells).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::response::sse::Event;
use client::{Consistency, Cursor, Error, Event as StoreEvent, Position, Reason, Sale};
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    admission::crowd::Crowd,
    cache::SaleCache,
    error::Problem,
    json::{self, CountersJson},
    options::Options,
    store::Store,
};

/// Wait before a broken watch is begun again, in ms: about what an election takes.
const REWATCH_MS: u64 = 300;

/// How new counters are: the cluster's incarnation, then the log index of the sale's last change.
type Version = (u32, u64);

/// Counters of one sale at one index, encoded once for all listeners.
struct Counters {
    version: Version,
    json: String,
}

impl Counters {
    fn new(sale: &Sale, position: &Position) -> Arc<Self> {
        let json = serde_json::to_string(&CountersJson::from(sale)).expect("plain texts and numbers");
        Arc::new(Counters {
            version: (position.incarnation, sale.changed_index),
            json,
        })
    }

    fn event(&self) -> Event {
        Event::default()
            .event("counters")
            .id(self.version.1.to_string())
            .data(&self.json)
    }
}

/// Most runs of events kept of a sale: what a person would scroll through.
const EVENTS_MAX: usize = 60;

/// Longest run of events shown as one, in ms of log time: longer ones would hide when things happened.
const RUN_MS_MAX: u64 = 1_000;

/// A run of events of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenEvent {
    pub(crate) kind: &'static str,
    pub(crate) count: u64,
    /// Of the last of them.
    pub(crate) log_index: u64,
    pub(crate) log_time_ms: u64,
    began_ms: u64,
}

/// The last events of a sale, newest first.
#[derive(Default)]
struct Recent(Mutex<VecDeque<SeenEvent>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, VecDeque<SeenEvent>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes events in the order of the log.
    fn take(&self, events: &[StoreEvent]) {
        let mut recent = self.lock();
        for event in events {
            let Some(kind) = json::event_kind(event.kind) else {
                continue;
            };
            if let Some(run) = recent.front_mut()
                && run.kind == kind
                && event.log_time_ms.saturating_sub(run.began_ms) < RUN_MS_MAX
            {
                run.count += 1;
                (run.log_index, run.log_time_ms) = (event.log_index, event.log_time_ms);
                continue;
            }
            recent.push_front(SeenEvent {
                kind,
                count: 1,
                log_index: event.log_index,
                log_time_ms: event.log_time_ms,
                began_ms: event.log_time_ms,
            });
            recent.truncate(EVENTS_MAX);
        }
    }
}

/// One sale's counters and events, while somebody listens.
struct Channel {
    latest: watch::Sender<Option<Arc<Counters>>>,
    recent: Recent,
}

/// All feeds.
pub(crate) struct Live {
    store: Arc<dyn Store>,
    sales: Arc<SaleCache>,
    feeds: Arc<Feeds>,
    feeds_max: usize,
    listeners: Crowd,
    interval_min: Duration,
    stopping: watch::Receiver<bool>,
}

#[derive(Default)]
struct Feeds(Mutex<HashMap<String, Arc<Channel>>>);

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Channel>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Live {
    /// No feeds yet. `stopping` turning true ends every listener's stream.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        sales: Arc<SaleCache>,
        options: &Options,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Live {
            store,
            sales,
            feeds: Arc::default(),
            feeds_max: options.live_sales_max,
            listeners: Crowd::new(options.live_listeners_max, "too many live listeners on this node"),
            interval_min: Duration::from_millis(options.live_interval_ms_min),
            stopping,
        }
    }

    /// A sale's counters now, unless the listener has them already, and then whenever they change.
    pub(crate) async fn listen(
        &self,
        sale_id: &str,
        last_event_id: Option<u64>,
    ) -> Result<impl Stream<Item = Event> + Send + use<>, Problem> {
        let place = self.listeners.enter()?;
        let page = self.sales.sale(sale_id).await?;
        let first = page.sale.as_ref().map(|sale| Counters::new(sale, &page.position));
        let incarnation = page.position.incarnation;
        let mut seen = last_event_id.map(|index| (incarnation, index));
        if seen > first.as_ref().map(|first| first.version) {
            // He has seen more than this memory has. Either it is a little old, or his events were of a
            // history that a restore has replaced; only the leader knows which.
            let (sale, position) = self.store.sale(sale_id, Consistency::Linearizable).await?;
            if seen > Some((position.incarnation, sale.changed_index)) {
                seen = None;
            }
        }
        let listener = Listener {
            first,
            seen,
            latest: self.subscribe(sale_id)?,
            stopping: self.stopping.clone(),
            _place: place,
        };
        Ok(stream::unfold(listener, |mut listener| async move {
            let event = listener.next().await?;
            Some((event, listener))
        }))
    }

    fn subscribe(&self, sale_id: &str) -> Result<watch::Receiver<Option<Arc<Counters>>>, Problem> {
        let mut feeds = self.feeds.lock();
        if let Some(channel) = feeds.get(sale_id) {
            return Ok(channel.latest.subscribe());
        }
        if feeds.len() >= self.feeds_max {
            return Err(Problem::busy("too many sales are watched live on this node"));
        }
        let (latest, receiver) = watch::channel(None);
        let channel = Arc::new(Channel {
            latest,
            recent: Recent::default(),
        });
        feeds.insert(sale_id.to_owned(), Arc::clone(&channel));
        let feed = Feed {
            sale_id: sale_id.to_owned(),
            store: Arc::clone(&self.store),
            channel,
            feeds: Arc::clone(&self.feeds),
            interval_min: self.interval_min,
        };
        tokio::spawn(feed.run());
        Ok(receiver)
    }

    /// The last events of a sale, newest first; none while nobody listens to it.
    pub(crate) fn events(&self, sale_id: &str) -> Vec<SeenEvent> {
        let channel = self.feeds.lock().get(sale_id).cloned();
        channel.map_or_else(Vec::new, |channel| {
            channel.recent.lock().iter().cloned().collect()
        })
    }

    /// Sales being watched now.
    pub(crate) fn feeds(&self) -> usize {
        self.feeds.lock().len()
    }
}

struct Listener {
    first: Option<Arc<Counters>>,
    seen: Option<Version>,
    latest: watch::Receiver<Option<Arc<Counters>>>,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; `None` when the feed or this process ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let newest = self
                .latest
                .borrow_and_update()
                .clone()
                .or_else(|| self.first.take());
            if let Some(counters) = newest
                && Some(counters.version) > self.seen
            {
                self.seen = Some(counters.version);
                return Some(counters.event());
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
    }
}

/// What keeps one sale's counters current while somebody listens.
struct Feed {
    sale_id: String,
    store: Arc<dyn Store>,
    channel: Arc<Channel>,
    feeds: Arc<Feeds>,
    interval_min: Duration,
}

impl Feed {
    async fn run(self) {
        loop {
            tokio::select! {
                () = self.channel.latest.closed() => {}
                () = self.follow() => {
                    // The sale is gone: nobody can subscribe to it any more, and dropping the sender
                    // tells those who do.
                    self.feeds.lock().remove(&self.sale_id);
                    return;
                }
            }
            // Under the lock nobody can subscribe between the look and the removal.
            let mut feeds = self.feeds.lock();
            if self.channel.latest.receiver_count() == 0 {
                feeds.remove(&self.sale_id);
                return;
            }
        }
    }

    /// Publishes until the sale is gone.
    async fn follow(&self) {
        loop {
            match self.store.sale(&self.sale_id, Consistency::Linearizable).await {
                Ok((sale, position)) => {
                    self.publish(&sale, &position);
                    let from = Cursor {
                        log_index: position.applied_index.saturating_add(1),
                        ordinal: 0,
                    };
                    self.follow_from(from).await;
                }
                Err(Error::Rejected(rejected)) if rejected.reason == Reason::SaleUnknown => return,
                Err(error) => tracing::debug!(sale_id = self.sale_id, %error, "live counters wait"),
            }
            sleep(Duration::from_millis(REWATCH_MS)).await;
        }
    }

    /// Publishes what a watch brings, at most once an interval, until the watch breaks.
    async fn follow_from(&self, from: Cursor) {
        let mut updates = self.store.watch(from, &self.sale_id);
        let mut newest: Option<(Sale, Position)> = None;
        let mut not_before = Instant::now() + self.interval_min;
        loop {
            tokio::select! {
                update = updates.next() => match update {
                    Some(Ok(update)) => {
                        self.channel.recent.take(&update.events);
                        if let Some(sale) = update.sale {
                            newest = Some((sale, update.position));
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(sale_id = self.sale_id, %error, "watch broke off");
                        break;
                    }
                    None => break,
                },
                () = sleep_until(not_before), if newest.is_some() => {
                    if let Some((sale, position)) = newest.take() {
                        self.publish(&sale, &position);
                    }
                    not_before = Instant::now() + self.interval_min;
                }
            }
        }
        if let Some((sale, position)) = newest {
            self.publish(&sale, &position);
        }
    }

    fn publish(&self, sale: &Sale, position: &Position) {
        let version = (position.incarnation, sale.changed_index);
        self.channel.latest.send_if_modified(|latest| {
            let is_newer = latest.as_ref().is_none_or(|latest| version > latest.version);
            if is_newer {
                *latest = Some(Counters::new(sale, position));
            }
            is_newer
        });
    }
}

#[cfg(test)]
mod tests {
    use client::EventKind;

    use super::*;

    fn event(log_index: u64, log_time_ms: u64, kind: EventKind) -> StoreEvent {
        StoreEvent {
            log_index,
            ordinal: 0,
            log_time_ms,
            kind,
            sale_id: "hot".into(),
            claim: None,
            value: 0,
            command: None,
        }
    }

    #[test]
    fn runs_of_one_kind_are_one_and_the_newest_come_first() {
        let recent = Recent::default();
        recent.take(&[
            event(1, 0, EventKind::SaleOpened),
            event(2, 10, EventKind::ClaimGranted),
            event(3, 500, EventKind::ClaimGranted),
        ]);
        recent.take(&[
            event(4, 900, EventKind::ClaimGranted),
            event(5, 1_010, EventKind::ClaimGranted),
            event(6, 1_020, EventKind::DocumentChanged),
        ]);
        let seen: Vec<_> = recent
            .lock()
            .iter()
            .map(|run| (run.kind, run.count, run.log_index))
            .collect();
        assert_eq!(
            seen,
            [
                ("claim-granted", 1, 5),
                ("claim-granted", 3, 4),
                ("sale-opened", 1, 1)
            ]
        );
    }

    #[test]
    fn no_more_are_kept_than_somebody_would_read() {
        let recent = Recent::default();
        for number in 0..EVENTS_MAX as u64 + 10 {
            let kind = [EventKind::ClaimGranted, EventKind::ClaimExpired][(number % 2) as usize];
            recent.take(&[event(number, 0, kind)]);
        }
        assert_eq!(recent.lock().len(), EVENTS_MAX);
        assert_eq!(recent.lock()[0].log_index, EVENTS_MAX as u64 + 9);
    }
}
