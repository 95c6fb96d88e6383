//! How calls share frames.

use client::{BulkClaim, Error, Reason};
use futures::future::join_all;
use proto::v1::{outcome::Kind, unsubmitted::Cause};
use tokio::time::Instant;

use crate::fake::{Net, granted, refused, unsubmitted};

fn bulk(count: usize) -> Vec<BulkClaim> {
    let claim = |at| BulkClaim {
        user: format!("u{at}"),
        key: format!("k{at}"),
        quantity: 1,
    };
    (0..count).map(claim).collect()
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_of_all_clones_share_frames_and_keep_their_order() {
    let net = Net::default();
    let mut node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let warm_up = tokio::spawn(client.claim("hot", "u").send());
    node.frames.next().await.answer(granted);
    warm_up.await.unwrap().unwrap();
    let calls = (0..1_000).map(|at| {
        client
            .clone()
            .claim("hot", format!("u{at}"))
            .key(format!("k{at}"))
            .send()
    });
    let calls = tokio::spawn(join_all(calls));

    let (mut frames, mut keys) = (Vec::new(), Vec::new());
    while keys.len() < 1_000 {
        let frame = node.frames.next().await;
        keys.extend(frame.keys());
        frames.push(frame);
    }
    let expected: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    assert_eq!(keys, expected);
    assert!(
        frames.len() <= 8,
        "none was answered, and they all came: {}",
        frames.len()
    );
    // Answered the other way round: they are matched by id.
    frames.iter().rev().for_each(|frame| frame.answer(granted));
    for (at, claimed) in calls.await.unwrap().into_iter().enumerate() {
        assert_eq!(claimed.unwrap().claim.claim_id, format!("k{at}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lonely_call_does_not_linger() {
    let net = Net::default();
    let mut node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let started = Instant::now();
    for _ in 0..3 {
        let call = tokio::spawn(client.claim("hot", "u").send());
        let frame = node.frames.next().await;
        assert_eq!(frame.request.commands.len(), 1);
        frame.answer(granted);
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        started.elapsed().as_millis(),
        0,
        "the paused clock moves only when somebody waits for it"
    );
}

#[tokio::test(start_paused = true)]
async fn while_frames_are_in_flight_calls_gather() {
    let net = Net::default();
    let mut node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let mut calls = Vec::new();
    let mut in_flight = Vec::new();
    for _ in 0..8 {
        calls.push(tokio::spawn(client.claim("hot", "u").send()));
        in_flight.push(node.frames.next().await);
    }
    calls.extend((0..100).map(|_| tokio::spawn(client.claim("hot", "u").send())));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(
        node.frames.now().is_none(),
        "eight are in flight, and that is the most"
    );
    in_flight.remove(3).answer(granted);
    let gathered = node.frames.next().await;
    assert_eq!(gathered.request.commands.len(), 100);
    gathered.answer(granted);
    in_flight.iter().for_each(|frame| frame.answer(granted));
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let net = Net::default();
    let client = net.client(&["a:1"]);
    let claims = bulk(512);
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let (client, claims) = (client.clone(), claims.clone());
            tokio::spawn(async move { client.claim_many("hot", &claims).await })
        })
        .collect();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let refused = client.claim("hot", "u").send().await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable { message, .. } if message.contains("too many")),
        "{refused}"
    );
    assert_eq!(started.elapsed().as_millis(), 0);
    // Those that waited never left, and say so when their time is up.
    for results in join_all(waiting).await {
        for result in results.unwrap() {
            assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bulk_goes_in_full_frames_and_each_claim_gets_its_own_answer() {
    let net = Net::default();
    let mut node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let mut claims = bulk(1_100);
    claims[700].quantity = 0;
    let calls = tokio::spawn(async move { client.claim_many("hot", &claims).await });

    let answer = |command: &proto::v1::Command| -> Kind {
        match command.key.as_str() {
            "k5" => refused(Reason::SoldOut),
            _ => granted(command),
        }
    };
    let first = node.frames.next().await;
    assert_eq!(first.request.commands.len(), 512);
    // Two of the first frame are put off; they come again, with their keys, when the time has come.
    first.answer(|command| match command.key.as_str() {
        "k3" | "k4" => unsubmitted(Cause::Overloaded, ""),
        _ => answer(command),
    });
    let mut seen = 512;
    let mut again = Vec::new();
    while seen < 1_099 + 2 {
        let frame = node.frames.next().await;
        seen += frame.request.commands.len();
        again.extend(frame.keys().into_iter().filter(|key| key == "k3" || key == "k4"));
        frame.answer(answer);
    }
    again.sort();
    assert_eq!(again, ["k3", "k4"]);

    let results = calls.await.unwrap();
    assert_eq!(results.len(), 1_100);
    for (at, result) in results.into_iter().enumerate() {
        match (at, result) {
            (5, Err(Error::Rejected(rejected))) => assert_eq!(rejected.reason, Reason::SoldOut),
            (700, Err(Error::Rejected(rejected))) => assert_eq!(rejected.reason, Reason::Invalid),
            (_, Ok(claimed)) => assert_eq!(claimed.claim.claim_id, format!("k{at}")),
            (_, Err(error)) => panic!("claim {at}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_before_it_leaves_does_not_leave() {
    let net = Net::default();
    let client = net.client(&["a:1"]);
    let given_up = tokio::spawn(client.claim("hot", "u").key("given-up").send());
    tokio::task::yield_now().await;
    given_up.abort();
    drop(given_up.await);
    let mut node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").key("wanted").send());
    let frame = node.frames.next().await;
    assert_eq!(frame.keys(), ["wanted"]);
    frame.answer(granted);
    call.await.unwrap().unwrap();
}
