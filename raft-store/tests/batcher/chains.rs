//! Chains on their way to the log: never divided, never with a gap.

use proto::v1::{self, Reason, command::Body, outcome::Kind};

use crate::calls::{Single, command, expect_rejected};

/// Bytes of a body: a chain of 16 is less than half of what an entry takes, three are more.
const BODY_BYTES: usize = 1_000;

fn put(document: &str) -> v1::Command {
    let put = v1::PutDocument {
        document: document.to_owned().into(),
        body: vec![b'x'; BODY_BYTES].into(),
        ..v1::PutDocument::default()
    };
    command("p", document, Body::PutDocument(put))
}

fn then(command: v1::Command) -> v1::Command {
    v1::Command {
        body: Some(Body::Then(Box::new(command))),
        ..v1::Command::default()
    }
}

/// The entry that a document was written in.
fn entry(outcome: &Kind) -> u64 {
    match outcome {
        Kind::Document(done) => done.version >> 16,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_chain_goes_into_one_entry_however_full_that_is() {
    let single = Single::found().await;
    let caller = single.connect().await;
    caller.create("hot", 1, 1).await;
    let mut commands = Vec::new();
    for chain in 0..8 {
        commands.push(put(&format!("{chain}/0")));
        commands.extend((1..16).map(|place| then(put(&format!("{chain}/{place}")))));
    }
    let (outcomes, _) = caller.execute(commands).await;
    let entries: Vec<Vec<u64>> = outcomes
        .chunks(16)
        .map(|chain| chain.iter().map(entry).collect())
        .collect();
    for chain in &entries {
        assert!(chain.iter().all(|entry| *entry == chain[0]), "{entries:?}");
    }
    assert_ne!(entries[0], entries[7], "they do not fit one entry together");
}

#[tokio::test]
async fn what_is_refused_at_the_door_ends_its_chain() {
    let single = Single::found().await;
    let caller = single.connect().await;
    caller.create("hot", 1, 1).await;
    let malformed = put(&"k".repeat(200));
    let frame = vec![
        put("a"),
        then(malformed),
        then(put("b")),
        put("c"),
        then(put("d")),
    ];
    let (outcomes, _) = caller.execute(frame).await;
    expect_rejected(&outcomes[1], Reason::Invalid);
    expect_rejected(&outcomes[2], Reason::NotReached);
    assert_eq!(entry(&outcomes[3]), entry(&outcomes[4]));
    assert!(entry(&outcomes[0]) > 0);

    // Nothing stands before the first, and a then in a then is none.
    let nested = then(then(put("f")));
    let (outcomes, _) = caller.execute(vec![then(put("e")), put("g"), nested]).await;
    expect_rejected(&outcomes[0], Reason::Invalid);
    expect_rejected(&outcomes[2], Reason::Invalid);
    assert!(entry(&outcomes[1]) > 0);
}

#[tokio::test]
async fn who_follows_a_refused_claim_is_not_reached_though_nothing_was_proposed() {
    let single = Single::found().await;
    let caller = single.connect().await;
    caller.create("hot", 1, 1).await;
    caller.granted(crate::calls::claim("hot", "u1", "k1", 1)).await;
    // Alone, each of these is refused from the state, and for a reason of its own.
    let frame = vec![
        crate::calls::claim("hot", "u2", "k2", 1),
        then(crate::calls::claim("hot", "u3", "k3", 1)),
    ];
    let (outcomes, _) = caller.execute(frame).await;
    expect_rejected(&outcomes[0], Reason::SoldOut);
    expect_rejected(&outcomes[1], Reason::NotReached);
}
