//! Live counters: one watch for all who listen, resumed without going back.

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::BodyDataStream,
    http::{Method, StatusCode},
};
use client::{Cursor, Error, Position, Reason, Sale, Update};
use common::*;
use futures::{StreamExt, channel::mpsc};
use serde_json::Value;

/// A deadline for what must come; never reached unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener's stream, read event by event.
struct Listener {
    body: BodyDataStream,
    text: String,
}

impl Listener {
    async fn open(router: &Router, last_event_id: Option<&str>) -> Listener {
        let headers: Vec<_> = last_event_id
            .map(|id| ("last-event-id", id))
            .into_iter()
            .collect();
        let response = open(
            router,
            request(Method::GET, "/v1/sales/drop-7/live", &headers, ""),
        )
        .await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Listener {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next block of lines up to an empty one; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next())
                .await
                .expect("an event in time")?;
            self.text += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
    }

    /// The next event's id and counters, comments skipped.
    async fn event(&mut self) -> (u64, Value) {
        loop {
            let block = self.block().await.expect("the stream goes on");
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
            };
            let Some(data) = field("data:") else { continue };
            assert_eq!(field("event:"), Some("counters"));
            let id = field("id:").unwrap().parse().unwrap();
            let counters: Value = serde_json::from_str(data).unwrap();
            assert_eq!(counters["changed_index"], id);
            return (id, counters);
        }
    }
}

/// What the store's feed sends.
type Feed = mpsc::UnboundedSender<Result<Update, Error>>;

/// A store whose sale stands at an index that the test moves, and whose watches it feeds.
struct Stage {
    store: Shared,
    router: Router,
    watches: tokio::sync::mpsc::UnboundedReceiver<(Cursor, Feed)>,
    reads: Arc<AtomicUsize>,
    now: Arc<Mutex<(Sale, Position)>>,
}

impl Stage {
    fn new(index: u64) -> Stage {
        let mut options = options();
        options.live_interval_ms_min = 1;
        options.sale_cache_ms = 0;
        Stage::with(index, options)
    }

    fn with(index: u64, options: api::Options) -> Stage {
        let store = Shared::default();
        let now = Arc::new(Mutex::new((sale("drop-7", index), at(index))));
        let reads = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::clone(&now), Arc::clone(&reads));
        script(&store.sale, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(answer.lock().unwrap().clone())
        });
        let (begun, watches) = tokio::sync::mpsc::unbounded_channel();
        *store.watch.lock().unwrap() = Box::new(move |from| {
            let (feed, updates) = mpsc::unbounded();
            begun.send((from, feed)).unwrap();
            updates.boxed()
        });
        let router = api::router(store.clone(), options).unwrap();
        Stage {
            store,
            router,
            watches,
            reads,
            now,
        }
    }

    async fn watch(&mut self) -> (Cursor, Feed) {
        tokio::time::timeout(PATIENCE, self.watches.recv())
            .await
            .expect("a watch in time")
            .unwrap()
    }
}

fn at(index: u64) -> Position {
    Position {
        applied_index: index,
        ..position()
    }
}

fn update(index: u64) -> Result<Update, Error> {
    Ok(Update {
        events: Vec::new(),
        sale: Some(sale("drop-7", index)),
        position: at(index),
    })
}

#[tokio::test]
async fn everybody_hears_the_same_from_one_watch() {
    let mut stage = Stage::new(10);
    let mut listeners = Vec::new();
    for _ in 0..20 {
        listeners.push(Listener::open(&stage.router, None).await);
    }
    let (from, feed) = stage.watch().await;
    assert_eq!(
        from,
        Cursor {
            log_index: 11,
            ordinal: 0
        },
        "just behind what was read"
    );
    for listener in &mut listeners {
        let (id, counters) = listener.event().await;
        assert_eq!(id, 10);
        assert_eq!(counters["units_available"], 60);
        assert_eq!(counters["status"], "open");
    }
    feed.unbounded_send(update(12)).unwrap();
    for listener in &mut listeners {
        assert_eq!(listener.event().await.0, 12);
    }
    assert!(stage.watches.try_recv().is_err(), "one watch is enough");
}

#[tokio::test]
async fn a_slow_listener_skips_to_the_newest_and_never_goes_back() {
    let mut stage = Stage::new(1);
    let mut listener = Listener::open(&stage.router, None).await;
    let (_, feed) = stage.watch().await;
    for index in 2..=1_000 {
        feed.unbounded_send(update(index)).unwrap();
    }
    // An update that is older than what was shown must not be shown.
    feed.unbounded_send(update(500)).unwrap();
    feed.unbounded_send(update(1_001)).unwrap();
    let mut last = 0;
    let mut events = 0;
    while last < 1_001 {
        let (id, _) = listener.event().await;
        assert!(id > last, "{id} after {last}");
        last = id;
        events += 1;
    }
    assert!(events < 1_000, "every change was sent: {events} events");
}

#[tokio::test]
async fn resuming_sends_what_is_new_and_nothing_else() {
    let mut stage = Stage::new(10);
    let mut seen_less = Listener::open(&stage.router, Some("7")).await;
    assert_eq!(seen_less.event().await.0, 10);
    let (_, feed) = stage.watch().await;

    let mut seen_all = Listener::open(&stage.router, Some("10")).await;
    feed.unbounded_send(update(13)).unwrap();
    assert_eq!(seen_all.event().await.0, 13, "10 is not told again");
    assert_eq!(seen_less.event().await.0, 13);
}

#[tokio::test]
async fn who_has_seen_more_than_a_cached_read_waits_and_who_saw_another_history_is_told() {
    // The cached page is at 10; the leader is at 12, which this listener has seen.
    let mut stage = Stage::new(10);
    let now = Arc::clone(&stage.now);
    script(&stage.store.sale, move |(_, consistency)| {
        let mut now = now.lock().unwrap();
        if consistency == client::Consistency::Linearizable {
            *now = (sale("drop-7", 12), at(12));
        }
        Ok(now.clone())
    });
    let mut ahead = Listener::open(&stage.router, Some("12")).await;
    let (_, feed) = stage.watch().await;
    feed.unbounded_send(update(14)).unwrap();
    assert_eq!(ahead.event().await.0, 14, "neither 10 nor 12 is told again");

    // An id beyond anything that happened is of a history that was replaced by a restore.
    let mut stage = Stage::new(10);
    let mut restored = Listener::open(&stage.router, Some("99")).await;
    assert_eq!(restored.event().await.0, 10);
    stage.watch().await;
}

#[tokio::test]
async fn a_broken_watch_is_begun_again_behind_a_new_read() {
    let mut stage = Stage::new(10);
    let mut listener = Listener::open(&stage.router, None).await;
    assert_eq!(listener.event().await.0, 10);
    let (_, feed) = stage.watch().await;
    *stage.now.lock().unwrap() = (sale("drop-7", 20), at(25));
    feed.unbounded_send(Err(unavailable())).unwrap();
    assert_eq!(listener.event().await.0, 20, "what was missed is in the counters");
    let (from, _feed) = stage.watch().await;
    assert_eq!(from.log_index, 26);
}

#[tokio::test]
async fn counters_never_go_back() {
    let mut stage = Stage::new(10);
    let mut listener = Listener::open(&stage.router, None).await;
    assert_eq!(listener.event().await.0, 10);
    let (_, feed) = stage.watch().await;
    // A node that lags behind answers the read that follows a broken watch.
    *stage.now.lock().unwrap() = (sale("drop-7", 8), at(8));
    drop(feed);
    // The next watch begins after that read was published, so what comes now is not 8 in disguise.
    let (_, feed) = stage.watch().await;
    feed.unbounded_send(update(12)).unwrap();
    assert_eq!(listener.event().await.0, 12);
}

#[tokio::test]
async fn a_restored_cluster_may_stand_at_a_lower_index() {
    let mut stage = Stage::new(10);
    let mut listener = Listener::open(&stage.router, None).await;
    assert_eq!(listener.event().await.0, 10);
    let (_, feed) = stage.watch().await;
    let restored = Position {
        incarnation: 2,
        ..at(4)
    };
    *stage.now.lock().unwrap() = (sale("drop-7", 4), restored);
    drop(feed);
    assert_eq!(listener.event().await.0, 4);
    stage.watch().await;
}

#[tokio::test]
async fn the_watch_ends_with_its_last_listener() {
    let mut stage = Stage::new(10);
    let one = Listener::open(&stage.router, None).await;
    let other = Listener::open(&stage.router, None).await;
    let (_, feed) = stage.watch().await;
    drop(one);
    assert!(!feed.is_closed());
    drop(other);
    // The feed's task notices and drops its end.
    tokio::time::timeout(PATIENCE, async {
        while !feed.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the watch ends");
    let mut again = Listener::open(&stage.router, None).await;
    assert_eq!(again.event().await.0, 10);
    stage.watch().await;
}

#[tokio::test]
async fn a_sale_that_goes_away_ends_its_streams() {
    let mut stage = Stage::new(10);
    let mut listener = Listener::open(&stage.router, None).await;
    assert_eq!(listener.event().await.0, 10);
    let (_, feed) = stage.watch().await;
    script(&stage.store.sale, |_| Err(rejected(Reason::SaleUnknown, |_| {})));
    drop(feed);
    assert_eq!(listener.block().await, None);
}

#[tokio::test]
async fn quiet_streams_are_kept_alive_with_comments() {
    let mut options = options();
    options.live_keep_alive_ms = 1;
    let stage = Stage::with(10, options);
    let mut listener = Listener::open(&stage.router, Some("10")).await;
    let block = listener.block().await.unwrap();
    assert!(block.starts_with(':'), "{block}");
}

#[tokio::test]
async fn listeners_and_sales_have_limits_and_ids_a_shape() {
    let mut few = options();
    few.live_listeners_max = 1;
    let stage = Stage::with(10, few);
    let path = "/v1/sales/drop-7/live";
    for bad in ["", "x", "-1", "1.5", "18446744073709551616"] {
        get(&stage.router, path, &[("last-event-id", bad)])
            .await
            .problem(400, "invalid-request");
    }
    let listener = Listener::open(&stage.router, None).await;
    get(&stage.router, path, &[]).await.problem(503, "unavailable");
    drop(listener);
    Listener::open(&stage.router, None).await;

    let mut few = options();
    few.live_sales_max = 1;
    let stage = Stage::with(10, few);
    let _listener = Listener::open(&stage.router, None).await;
    let _another = Listener::open(&stage.router, None).await;
    get(&stage.router, "/v1/sales/other/live", &[])
        .await
        .problem(503, "unavailable");
    assert!(stage.reads.load(Ordering::SeqCst) >= 2);
}
