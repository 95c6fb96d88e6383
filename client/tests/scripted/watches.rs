//! Watches outlive connections: no gap, no repeat.

use client::{Cursor, Error, Reason, Update};
use futures::{StreamExt, stream::BoxStream};

use crate::fake::{Net, compacted};

type Watched = BoxStream<'static, Result<Update, Error>>;

async fn places(watch: &mut Watched) -> Vec<(u64, u32)> {
    let update = watch.next().await.expect("goes on").expect("an update");
    update
        .events
        .iter()
        .map(|event| (event.log_index, event.ordinal))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_elsewhere_where_it_was_cut() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    let client = net.client(&["a:1", "b:1"]);
    let mut watch = client.watch(
        Cursor {
            log_index: 5,
            ordinal: 1,
        },
        Some("hot"),
    );
    let read = tokio::spawn(async move {
        let first = places(&mut watch).await;
        (first, watch)
    });
    let (watcher, on_a) = tokio::select! {
        watcher = a.watchers.next() => (watcher, true),
        watcher = b.watchers.next() => (watcher, false),
    };
    assert_eq!((watcher.request.from_index, watcher.request.from_ordinal), (5, 1));
    assert_eq!(watcher.request.sale_id, "hot");
    watcher.send(&[(5, 1), (5, 2), (8, 0)]);
    let (first, mut watch) = read.await.unwrap();
    assert_eq!(first, [(5, 1), (5, 2), (8, 0)]);

    let read = tokio::spawn(async move {
        let then = places(&mut watch).await;
        (then, watch)
    });
    net.kill(if on_a { "a:1" } else { "b:1" });
    let watcher = if on_a {
        b.watchers.next().await
    } else {
        a.watchers.next().await
    };
    assert_eq!((watcher.request.from_index, watcher.request.from_ordinal), (8, 1));
    // A node that starts with the whole entry repeats what was seen; the client does not.
    watcher.send(&[(5, 2), (8, 0)]);
    watcher.send(&[(8, 0), (8, 1), (9, 0)]);
    let (then, _) = read.await.unwrap();
    assert_eq!(then, [(8, 1), (9, 0)]);
}

#[tokio::test(start_paused = true)]
async fn from_now_on_is_an_index_before_anything_can_be_missed() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let mut watch = client.watch(Cursor::default(), None);
    let read = tokio::spawn(async move { places(&mut watch).await });
    let watcher = a.watchers.next().await;
    assert_eq!(watcher.request.from_index, 41, "the first after what is applied");
    // Cut before the first event: what happened meanwhile is still wanted.
    drop(watcher);
    let watcher = a.watchers.next().await;
    assert_eq!(watcher.request.from_index, 41);
    watcher.send(&[(41, 0)]);
    assert_eq!(read.await.unwrap(), [(41, 0)]);
}

/// A watch from entry 3 on, of which one item is read.
fn watch_from_3(client: &client::Client) -> tokio::task::JoinHandle<Option<Result<Update, Error>>> {
    let from = Cursor {
        log_index: 3,
        ordinal: 0,
    };
    let mut watch = client.watch(from, None);
    tokio::spawn(async move { watch.next().await })
}

#[tokio::test(start_paused = true)]
async fn history_that_one_node_has_no_more_is_asked_of_another() {
    let net = Net::default();
    let (_a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    net.compact("a:1", 900);
    // Each watch begins with another node: one of the two with the one that has it no more.
    let client = net.client(&["a:1", "b:1"]);
    for _ in 0..2 {
        let read = watch_from_3(&client);
        let watcher = b.watchers.next().await;
        assert_eq!(watcher.request.from_index, 3);
        watcher.send(&[(3, 0)]);
        let update = read.await.unwrap().expect("goes on").expect("an update");
        assert_eq!(update.events.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn history_that_no_node_has_ends_where_least_is_left_out() {
    let net = Net::default();
    let (_a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    net.compact("a:1", 900);
    let read = watch_from_3(&net.client(&["a:1", "b:1"]));
    // It had the history, and was caught up by a snapshot meanwhile.
    b.watchers.next().await.updates.send(Err(compacted(700))).unwrap();
    let Some(Err(Error::Rejected(rejected))) = read.await.unwrap() else {
        panic!("history is gone everywhere")
    };
    assert_eq!((rejected.reason, rejected.value), (Reason::OutOfRange, 700));
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_does_not_keep_history_that_all_others_have_lost() {
    let net = Net::default();
    let _a = net.node("a:1");
    net.lead("a:1", 1, &["a:1", "b:1"]);
    net.compact("a:1", 900);
    let item = watch_from_3(&net.client(&["a:1", "b:1"])).await.unwrap();
    let Some(Err(Error::Rejected(rejected))) = item else {
        panic!("{item:?}")
    };
    assert_eq!(rejected.value, 900);
}

#[tokio::test(start_paused = true)]
async fn compacted_history_ends_the_watch_with_the_first_index_there_is() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let mut watch = client.watch(
        Cursor {
            log_index: 3,
            ordinal: 0,
        },
        None,
    );
    let read = tokio::spawn(async move { (watch.next().await, watch.next().await) });
    a.watchers.next().await.updates.send(Err(compacted(900))).unwrap();
    let (item, end) = read.await.unwrap();
    let Some(Err(Error::Rejected(rejected))) = item else {
        panic!("{item:?}")
    };
    assert_eq!((rejected.reason, rejected.value), (Reason::OutOfRange, 900));
    assert!(
        rejected.message.contains("900") && rejected.message.contains('3'),
        "{}",
        rejected.message
    );
    assert!(end.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_every_node_that_it_began_with() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1"]);
    let mut read = watch_from_3(&net.client(&["a:1"]));
    let _watcher = a.watchers.next().await;
    // It joins while the watch is quiet, and then takes the place of the other one.
    net.lead("a:1", 2, &["a:1", "b:1"]);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    net.kill("a:1");
    tokio::select! {
        watcher = b.watchers.next() => watcher.send(&[(3, 0)]),
        item = &mut read => panic!("{item:?}"),
    }
    let update = read.await.unwrap().expect("goes on").expect("an update");
    assert_eq!(update.events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_reaches_nobody_says_so_and_goes_on() {
    let net = Net::default();
    let client = net.client(&["a:1"]);
    let mut watch = client.watch(
        Cursor {
            log_index: 3,
            ordinal: 0,
        },
        None,
    );
    assert!(matches!(watch.next().await, Some(Err(Error::Unavailable { .. }))));
    let mut a = net.node("a:1");
    let read = tokio::spawn(async move { places(&mut watch).await });
    a.watchers.next().await.send(&[(3, 0)]);
    assert_eq!(read.await.unwrap(), [(3, 0)]);
}
