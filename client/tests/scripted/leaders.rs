//! Finding and following the leader.

use std::time::Duration;

use client::Error;
use proto::v1::unsubmitted::Cause;

use crate::fake::{Net, granted, not_leader, unsubmitted};

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_with_the_same_command() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").send());
    let refused = a.frames.next().await;
    refused.answer(|_| not_leader("b:1"));
    let taken = b.frames.next().await;
    assert_eq!(taken.request.commands, refused.request.commands);
    taken.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_changes_in_mid_stream_loses_no_call() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    let client = net.client(&["a:1"]);
    let first = tokio::spawn(client.claim("hot", "u1").key("k1").send());
    let first_frame = a.frames.next().await;
    let second = tokio::spawn(client.claim("hot", "u2").key("k2").send());
    let second_frame = a.frames.next().await;
    // Leadership is lost between the two; the first was committed and is answered last.
    second_frame.answer(|_| not_leader("b:1"));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(
        a.frames.now().is_none(),
        "nothing goes back to a node that does not lead"
    );
    first_frame.answer(granted);
    assert_eq!(first.await.unwrap().unwrap().claim.claim_id, "k1");
    let taken = b.frames.next().await;
    assert_eq!(taken.keys(), ["k2"], "the first is not sent again");
    taken.answer(granted);
    second.await.unwrap().unwrap();
    assert!(a.frames.now().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_replaced_and_its_calls_go_on_with_their_keys() {
    let net = Net::default();
    let members = ["a:1", "b:1", "c:1"];
    let (mut a, _b, mut c) = (net.node("a:1"), net.node("b:1"), net.node("c:1"));
    net.lead("a:1", 1, &members);
    // Only the leader is given: the others are learned from it.
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    assert_eq!(a.frames.next().await.keys(), ["k"]);
    net.kill("a:1");
    net.lead("c:1", 2, &members);
    let frame = c.frames.next().await;
    assert_eq!(frame.keys(), ["k"]);
    frame.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn members_that_came_while_one_node_led_are_known_when_it_dies() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    a.frames.next().await.answer(granted);
    call.await.unwrap().unwrap();
    net.lead("a:1", 1, &["a:1", "b:1"]);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    net.kill("a:1");
    net.lead("b:1", 2, &["b:1"]);
    let call = tokio::spawn(client.claim("hot", "u2").key("k2").send());
    tokio::select! {
        frame = b.frames.next() => frame.answer(granted),
        () = tokio::time::sleep(std::time::Duration::from_secs(60)) => panic!("nobody was asked"),
    }
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_falls_silent_is_replaced() {
    let net = Net::default();
    let members = ["a:1", "b:1", "c:1"];
    let (mut a, mut b, _c) = (net.node("a:1"), net.node("b:1"), net.node("c:1"));
    net.lead("a:1", 1, &members);
    let client = net.client(&members);
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    let unanswered = a.frames.next().await;
    // It is cut off from the others and still believes in itself; they know better.
    net.view("b:1", "b:1", 2, &members);
    net.view("c:1", "b:1", 2, &members);
    let frame = b.frames.next().await;
    assert_eq!(frame.keys(), unanswered.keys());
    frame.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_an_election_instead_of_failing() {
    let net = Net::default();
    let mut a = net.node("a:1");
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").send());
    // One second without a leader, by the paused clock.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!call.is_finished());
    net.lead("a:1", 1, &["a:1"]);
    a.frames.next().await.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_is_left_and_returned_to_when_it_leads_again() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").send());
    a.frames.next().await.answer(|_| unsubmitted(Cause::Stopping, ""));
    a.frames.next().await.answer(|_| unsubmitted(Cause::Starting, ""));
    a.frames.next().await.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nodes_that_point_at_each_other_are_not_asked_in_a_frenzy() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.view("a:1", "b:1", 1, &["a:1", "b:1"]);
    net.view("b:1", "a:1", 1, &["a:1", "b:1"]);
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").send());
    let script = tokio::spawn(async move {
        let mut frames = 0_u32;
        loop {
            tokio::select! {
                frame = a.frames.next() => frame.answer(|_| not_leader("b:1")),
                frame = b.frames.next() => frame.answer(|_| not_leader("a:1")),
                () = tokio::time::sleep(Duration::from_secs(10)) => return frames,
            }
            frames += 1;
        }
    });
    let error = call.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }),
        "never proposed: {error:?}"
    );
    let frames = script.await.unwrap();
    assert!((4..300).contains(&frames), "{frames} frames in five seconds");
}

#[tokio::test(start_paused = true)]
async fn nonsense_for_a_hint_is_ignored() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let call = tokio::spawn(client.claim("hot", "u").send());
    a.frames
        .next()
        .await
        .answer(|_| not_leader("http://nowhere/at all"));
    a.frames.next().await.answer(granted);
    call.await.unwrap().unwrap();
}
