//! What a call tells, and when.

use std::time::Duration;

use client::{Error, Grant, NewSale, Operation, Reason, Resolution};
use proto::v1::{Claim, GetClaimResponse, Outcome, Receipt, outcome::Kind, resolution, unsubmitted::Cause};
use tonic::Status;

use crate::fake::{Net, Node, grant, granted, refused, resolved, unknown, unsubmitted};

pub fn one_node() -> (Net, Node, client::Client) {
    let net = Net::default();
    let node = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    (net, node, client)
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_the_same_command_with_the_same_key() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").quantity(3).send());
    let first = node.frames.next().await;
    first.answer(|_| unsubmitted(Cause::Overloaded, ""));
    let second = node.frames.next().await;
    second.answer(|_| unknown(61_000));
    let third = node.frames.next().await;
    third.break_stream();
    let fourth = node.frames.next().await;
    fourth.answer(granted);
    let claimed = call.await.unwrap().unwrap();

    let key = &first.request.commands[0].key;
    assert_eq!(key.len(), 32, "128 random bits in hex");
    for frame in [&second, &third, &fourth] {
        assert_eq!(frame.request.commands, first.request.commands);
    }
    assert_eq!(&claimed.claim.claim_id, key);
    assert_eq!(claimed.position.applied_index, 7);
}

#[tokio::test(start_paused = true)]
async fn every_command_says_until_when_it_may_apply() {
    let (net, mut node, client) = one_node();
    net.log_time("a:1", 1_000);
    let sent = async |node: &mut Node| {
        let call = tokio::spawn(client.claim("hot", "u").send());
        let frame = node.frames.next().await;
        frame.answer_at(granted, 7_000);
        call.await.unwrap().unwrap();
        frame.request.commands[0].not_after_ms
    };
    assert_eq!(
        sent(&mut node).await,
        56_000,
        "from what the node says when asked"
    );
    assert_eq!(sent(&mut node).await, 62_000, "from the answer to the first");
    // After a silence log time is anybody's guess.
    tokio::time::sleep(Duration::from_secs(11)).await;
    net.log_time("a:1", 17_500);
    assert_eq!(sent(&mut node).await, 72_500, "asked again");

    let bulk: Vec<_> = (0..3)
        .map(|n| client::BulkClaim {
            user: format!("u{n}"),
            key: format!("k{n}"),
            quantity: 1,
        })
        .collect();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.claim_many("hot", &bulk).await }
    });
    let frame = node.frames.next().await;
    assert!(
        frame
            .request
            .commands
            .iter()
            .all(|command| command.not_after_ms == 72_500)
    );
    frame.answer(granted);
    assert!(call.await.unwrap().iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_too_late_begins_anew_with_the_same_key() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    let first = node.frames.next().await;
    first.answer_at(|_| refused(Reason::TooLate), 90_000);
    let second = node.frames.next().await;
    assert_eq!(second.keys(), ["k"]);
    assert_eq!(second.request.commands[0].not_after_ms, 145_000);
    second.answer(granted);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_made_up_differ() {
    let (_net, mut node, client) = one_node();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let call = tokio::spawn(client.claim("hot", "u").send());
        let frame = node.frames.next().await;
        keys.extend(frame.keys());
        frame.answer(granted);
        call.await.unwrap().unwrap();
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_found_again_with_the_same_key() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    node.frames.next().await.break_stream();
    node.frames
        .next()
        .await
        .answer(|command| grant(Grant::Repeated, &command.key));
    let claimed = call.await.unwrap().unwrap();
    assert_eq!(
        (claimed.grant, claimed.claim.claim_id.as_str()),
        (Grant::Repeated, "k")
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_reply_is_told_only_when_the_key_is_resolved() {
    for straggler_applied in [true, false] {
        let (_net, mut node, client) = one_node();
        let call = tokio::spawn(client.claim("hot", "u").key("k").send());
        node.frames.next().await.break_stream();
        node.frames.next().await.answer(|_| refused(Reason::SoldOut));
        let ask = node.resolves.next().await;
        assert!(!call.is_finished());
        assert_eq!(
            (ask.request.sale_id.as_str(), ask.request.key.as_str()),
            ("hot", "k")
        );
        assert_eq!(
            (ask.request.operation(), ask.request.principal.as_str()),
            (Operation::Claim, "u")
        );
        assert_eq!(ask.request.not_after_ms, 0, "as late as any attempt could be");
        if straggler_applied {
            let claim = Claim {
                claim_id: "c_1".into(),
                ..Claim::default()
            };
            ask.answer(resolved(resolution::Kind::Claim(claim)));
            let claimed = call.await.unwrap().unwrap();
            assert_eq!(
                (claimed.grant, claimed.claim.claim_id.as_str()),
                (Grant::Repeated, "c_1")
            );
        } else {
            ask.answer(resolved(resolution::Kind::AbandonedUntilMs(61_000)));
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Rejected(rejected) if rejected.reason == Reason::SoldOut));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_cannot_be_resolved_is_an_unknown() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    node.frames.next().await.answer(|_| unknown(61_000));
    node.frames.next().await.answer(|_| refused(Reason::SoldOut));
    let resolver = tokio::spawn(async move {
        loop {
            let ask = node.resolves.next().await;
            ask.answer(Ok(Outcome {
                kind: Some(unsubmitted(Cause::Starting, "")),
            }));
        }
    });
    let error = call.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unknown {
                not_after_ms: 55_000,
                ..
            }
        ),
        "{error:?}"
    );
    resolver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_confirm_is_resolved_in_the_sale_of_its_claim() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.confirm("c_1", 42).key("k").send());
    let frame = node.frames.next().await;
    assert_eq!(frame.request.commands[0].principal, "client");
    frame.answer(|_| unknown(61_000));
    node.frames.next().await.answer(|_| refused(Reason::ClaimGone));
    let ask = node.claims.next().await;
    assert_eq!(ask.request.claim_id, "c_1");
    ask.answer(Ok(GetClaimResponse {
        sale_id: "hot".into(),
        ..GetClaimResponse::default()
    }));
    let ask = node.resolves.next().await;
    assert_eq!(
        (ask.request.sale_id.as_str(), ask.request.operation()),
        ("hot", Operation::Confirm)
    );
    assert_eq!(ask.request.principal, "client");
    ask.answer(resolved(resolution::Kind::Claim(Claim {
        rank: 5,
        ..Claim::default()
    })));
    assert_eq!(call.await.unwrap().unwrap().0.rank, 5);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_answers_leaves_an_unknown_with_a_bound() {
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").send());
    node.frames.next().await.answer(granted);
    call.await.unwrap().unwrap();

    let error = client.claim("hot", "u").key("k").send().await.unwrap_err();
    let Error::Unknown { not_after_ms, .. } = error else {
        panic!("{error:?}")
    };
    // Log time was 1,000 when last seen; commands live for 55 seconds from there.
    assert_eq!(not_after_ms, 56_000);
    let attempts = std::iter::from_fn(|| node.frames.now())
        .filter(|frame| frame.keys() == ["k"])
        .count();
    assert!(
        (2..=4).contains(&attempts),
        "{attempts} attempts in five seconds of two each"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_reachable_is_unavailable_and_says_so() {
    let net = Net::default();
    let client = net
        .builder(&["a:1", "b:1"])
        .timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let error = client.claim("hot", "u").send().await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable { message, .. } if message.contains(":1")),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_the_protocol_are_unknowns_and_no_panics() {
    type Answer = fn() -> Vec<Outcome>;
    let broken: [Answer; 3] = [
        Vec::new,
        || vec![Outcome { kind: None }],
        || vec![Outcome::default(), Outcome::default()],
    ];
    for answer in broken {
        let (_net, mut node, client) = one_node();
        let call = tokio::spawn(client.claim("hot", "u").send());
        let script = tokio::spawn(async move {
            loop {
                node.frames.next().await.answer_raw(answer());
            }
        });
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
        script.abort();
    }
    // The wrong kind of answer: something happened, but not what was asked.
    let (_net, mut node, client) = one_node();
    let call = tokio::spawn(client.claim("hot", "u").send());
    node.frames
        .next()
        .await
        .answer(|_| Kind::Done(Receipt::default()));
    assert!(matches!(call.await.unwrap(), Err(Error::Unknown { .. })));
}

#[tokio::test(start_paused = true)]
async fn sales_are_made_and_changed() {
    let (_net, mut node, client) = one_node();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 9,
        open: true,
        ..NewSale::default()
    };
    let receipt = Receipt {
        log_index: 12,
        ..Receipt::default()
    };
    let calls = [
        client.create_sale(sale),
        client.open_sale("hot"),
        client.pause_sale("hot"),
        client.close_sale("hot"),
        client.restock("hot", 5),
        client.withdraw("hot", 5).principal("ops").key("k"),
    ];
    for (at, call) in calls.into_iter().enumerate() {
        let call = tokio::spawn(call.send());
        let frame = node.frames.next().await;
        let command = &frame.request.commands[0];
        assert_eq!(command.principal, if at == 5 { "ops" } else { "client" });
        if let Some(proto::v1::command::Body::CreateSale(sale)) = &command.body {
            assert!(sale.open && sale.units_total == 9);
        }
        frame.answer(|_| Kind::Done(receipt));
        assert_eq!(call.await.unwrap().unwrap(), receipt);
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_calls_are_refused_without_a_node() {
    let net = Net::default();
    let client = net.client(&["a:1"]);
    let zero = client.claim("hot", "u").quantity(0).send().await.unwrap_err();
    let huge = client.claim("hot", "u".repeat(1 << 20)).send().await.unwrap_err();
    for error in [zero, huge] {
        assert!(
            matches!(&error, Error::Rejected(rejected) if rejected.reason == Reason::Invalid),
            "{error}"
        );
    }
    for endpoints in [vec![], vec!["nonsense"]] {
        assert!(net.builder(&endpoints).build().is_err());
    }
    assert!(net.builder(&["a:1"]).timeout(Duration::ZERO).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn resolve_asks_until_there_is_an_answer() {
    let (_net, mut node, client) = one_node();
    let asked = client.clone();
    let call = tokio::spawn(async move { asked.resolve("hot", Operation::Claim, "k", "u").await });
    node.resolves
        .next()
        .await
        .answer(Err(Status::unavailable("no quorum")));
    node.resolves.next().await.answer(Ok(Outcome {
        kind: Some(unknown(9)),
    }));
    node.resolves
        .next()
        .await
        .answer(resolved(resolution::Kind::AbandonedUntilMs(61_000)));
    let (resolution, _) = call.await.unwrap().unwrap();
    assert_eq!(
        resolution,
        Resolution::Abandoned {
            fenced_until_ms: 61_000
        }
    );
}
