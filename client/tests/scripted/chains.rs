//! Chains: what is told when all of it, a part of it or nobody knows how much of it was done.

use client::{Chained, Client, Done, Error};
use proto::v1::{
    Command, DocumentDone, Grant, Operation, Reason, command::Body, outcome::Kind, resolution,
    unsubmitted::Cause,
};
use tokio::task::JoinHandle;

use crate::{
    calls::one_node,
    fake::{Frame, grant, refused, resolved, unsubmitted},
};

/// Three commands, with keys `a`, `b` and `c`.
fn chain(client: &Client) -> JoinHandle<Chained> {
    let chain = client
        .chain()
        .then(client.check_document("closed", 0).key("a"))
        .then(client.put_document("open", "{}", 0).key("b"))
        .then(client.claim("hot", "u").key("c"));
    tokio::spawn(chain.send())
}

/// A claim with key `c`, and a document behind it.
fn claim_first(client: &Client) -> JoinHandle<Chained> {
    let chain = client
        .chain()
        .then(client.claim("hot", "u").key("c"))
        .then(client.put_document("open", "{}", 0));
    tokio::spawn(chain.send())
}

/// The commands of a frame, each by itself, and whether it follows the one before it.
fn taken_apart(frame: &Frame) -> Vec<(Command, bool)> {
    let commands = frame.request.commands.iter().cloned();
    let apart = commands.map(|command| match command.body {
        Some(Body::Then(then)) => (*then, true),
        _ => (command, false),
    });
    apart.collect()
}

fn document(version: u64) -> Kind {
    Kind::Document(DocumentDone {
        version,
        ..DocumentDone::default()
    })
}

fn answer<const N: usize>(frame: &Frame, kinds: [Kind; N]) {
    let outcomes = kinds.map(|kind| proto::v1::Outcome { kind: Some(kind) });
    frame.answer_raw(outcomes.to_vec());
}

fn reason(chained: &Chained) -> Reason {
    match &chained.end {
        Err(Error::Rejected(rejected)) => rejected.reason,
        end => panic!("{end:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_one_frame_and_is_repeated_as_it_was() {
    let (_net, mut node, client) = one_node();
    let call = chain(&client);
    let first = node.frames.next().await;
    first.break_stream();
    let second = node.frames.next().await;
    answer(&second, [document(0), document(9), grant(Grant::Granted, "c_1")]);
    let chained = call.await.unwrap();
    assert!(chained.end.is_ok());
    assert!(
        matches!(&chained.done[..], [Done::Document(check), Done::Document(put), Done::Claimed(claimed)]
            if check.version == 0 && put.version == 9 && claimed.claim.claim_id == "c_1"),
        "{chained:?}"
    );

    let apart = taken_apart(&first);
    let is: Vec<_> = apart
        .iter()
        .map(|(command, follows)| (&*command.key, *follows))
        .collect();
    assert_eq!(is, [("a", false), ("b", true), ("c", true)]);
    let not_after = apart.iter().map(|(command, _)| command.not_after_ms);
    assert!(
        not_after
            .into_iter()
            .all(|ms| ms > 0 && ms == apart[0].0.not_after_ms)
    );
    assert_eq!(first.request.commands, second.request.commands);
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_the_first_that_is_refused() {
    let (_net, mut node, client) = one_node();
    let call = chain(&client);
    let frame = node.frames.next().await;
    answer(
        &frame,
        [
            document(0),
            refused(Reason::VersionMismatch),
            refused(Reason::NotReached),
        ],
    );
    let chained = call.await.unwrap();
    assert_eq!(
        (chained.done.len(), reason(&chained)),
        (1, Reason::VersionMismatch)
    );

    // What the user has already is an answer, and no effect: nothing may stand behind it.
    let call = chain(&client);
    let frame = node.frames.next().await;
    answer(&frame, [document(0), document(9), grant(Grant::Already, "c_0")]);
    let chained = call.await.unwrap();
    assert!(chained.end.is_ok() && chained.done.len() == 3, "{chained:?}");
    let call = claim_first(&client);
    let frame = node.frames.next().await;
    answer(
        &frame,
        [grant(Grant::Already, "c_0"), refused(Reason::NotReached)],
    );
    let chained = call.await.unwrap();
    assert_eq!((chained.done.len(), reason(&chained)), (1, Reason::NotReached));
}

#[tokio::test(start_paused = true)]
async fn what_may_yet_be_done_is_found_out_before_a_refusal_is_told() {
    for straggler_applied in [true, false] {
        let (_net, mut node, client) = one_node();
        let call = chain(&client);
        node.frames.next().await.break_stream();
        let frame = node.frames.next().await;
        answer(
            &frame,
            [document(0), refused(Reason::Leased), refused(Reason::NotReached)],
        );
        let ask = node.resolves.next().await;
        assert!(!call.is_finished());
        assert_eq!(
            (ask.request.key.as_str(), ask.request.operation()),
            ("b", Operation::Document)
        );
        assert_eq!(&ask.request.document[..], b"open");
        if straggler_applied {
            ask.answer(resolved(resolution::Kind::Effect(Default::default())));
            let again = node.frames.next().await;
            assert_eq!(again.request.commands, frame.request.commands);
            answer(&again, [document(0), document(9), grant(Grant::Repeated, "c_1")]);
            let chained = call.await.unwrap();
            assert!(chained.end.is_ok() && chained.done.len() == 3, "{chained:?}");
        } else {
            ask.answer(resolved(resolution::Kind::AbandonedUntilMs(61_000)));
            let chained = call.await.unwrap();
            assert_eq!((chained.done.len(), reason(&chained)), (1, Reason::Leased));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_claim_is_told_only_when_an_attempt_that_was_lost_cannot_be_granted_any_more() {
    let (_net, mut node, client) = one_node();
    let call = claim_first(&client);
    node.frames.next().await.break_stream();
    let frame = node.frames.next().await;
    answer(
        &frame,
        [grant(Grant::Already, "c_0"), refused(Reason::NotReached)],
    );
    let ask = node.resolves.next().await;
    assert_eq!(ask.request.key, "c");
    ask.answer(resolved(resolution::Kind::AbandonedUntilMs(61_000)));
    let chained = call.await.unwrap();
    assert_eq!((chained.done.len(), reason(&chained)), (1, Reason::NotReached));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answers_is_unknown_and_what_comes_too_late_begins_anew() {
    let (_net, mut node, client) = one_node();
    let call = chain(&client);
    let frame = node.frames.next().await;
    answer(
        &frame,
        [document(0), refused(Reason::TooLate), refused(Reason::NotReached)],
    );
    let again = node.frames.next().await;
    let keys = |frame: &Frame| {
        taken_apart(frame)
            .into_iter()
            .map(|(command, _)| command.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&again), keys(&frame));
    let resolver = tokio::spawn(async move {
        loop {
            node.frames.next().await.break_stream();
        }
    });
    again.break_stream();
    let chained = call.await.unwrap();
    assert!(chained.done.is_empty());
    assert!(matches!(chained.end, Err(Error::Unknown { .. })), "{chained:?}");
    resolver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_know_chains_ends_it_and_is_named() {
    let (_net, mut node, client) = one_node();
    let call = chain(&client);
    let frame = node.frames.next().await;
    let behind = || unsubmitted(Cause::Upgrade, "");
    answer(
        &frame,
        [behind(), refused(Reason::NotReached), refused(Reason::NotReached)],
    );
    let chained = call.await.unwrap();
    assert!(chained.done.is_empty());
    assert!(
        matches!(chained.end, Err(Error::Unavailable { .. })),
        "{chained:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn empty_and_endless_chains_are_refused_without_a_node() {
    let (_net, _node, client) = one_node();
    assert_eq!(reason(&client.chain().send().await), Reason::Invalid);
    let mut chain = client.chain();
    for _ in 0..=client::CHAIN_COMMANDS_MAX {
        chain = chain.then(client.check_document("d", 0));
    }
    assert_eq!(reason(&chain.send().await), Reason::Invalid);
    let nobody = client.chain().then(client.claim("hot", "u").quantity(0));
    assert_eq!(reason(&nobody.send().await), Reason::Invalid);
}
