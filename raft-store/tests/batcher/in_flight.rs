//! While commands are in flight, the applied state does not speak for those who sent them; and every
//! answer finds the command that it belongs to.

use proto::v1::{Grant, Reason, outcome::Kind};

use crate::calls::{
    PER_USER_UNITS_MAX, Single, claim, claim_by, command, expect_claim, expect_rejected, release,
};

/// A sold-out sale of one unit, and who has it.
async fn sold_out(single: &Single) -> (crate::calls::Caller, proto::v1::Claim) {
    let caller = single.connect().await;
    caller.create("hot", 1, 1).await;
    let held = caller.granted(claim("hot", "holder", "first", 1)).await;
    (caller, held)
}

#[tokio::test]
async fn who_has_a_claim_in_flight_is_never_refused_from_state() {
    let single = Single::found().await;
    let (caller, held) = sold_out(&single).await;
    let before = single.proposed();
    single.disk.stall();
    // In one entry: the unit comes back, and the platform's user gets it. Not applied yet.
    let first = caller.send(vec![release(&held), claim_by("shop", "hot", "ann", "order", 1)]);
    single.wait_proposed(before + 1).await;
    // The applied state says that all is sold: true for others, and not for this user and this key.
    let same_user = caller.send(vec![claim_by("shop", "hot", "ann", "another", 1)]);
    single.wait_proposed(before + 2).await;
    let same_key = caller.send(vec![claim_by("shop", "hot", "bob", "order", 1)]);
    single.wait_proposed(before + 3).await;
    // A stranger is refused at once, from state.
    let (refused, _) = caller.execute(vec![claim("hot", "carl", "k", 1)]).await;
    expect_rejected(&refused[0], Reason::SoldOut);
    assert!(!first.is_finished() && !same_user.is_finished() && !same_key.is_finished());
    single.disk.resume();

    let (mut outcomes, _) = first.await.unwrap();
    let granted = expect_claim(outcomes.remove(1), Grant::Granted);
    let already = expect_claim(same_user.await.unwrap().0.remove(0), Grant::Already);
    assert_eq!(already.claim_id, granted.claim_id);
    expect_rejected(&same_key.await.unwrap().0[0], Reason::KeyReused);
}

#[tokio::test]
async fn a_refusal_is_never_given_behind_an_earlier_write_of_its_own_frame() {
    let single = Single::found().await;
    let (caller, held) = sold_out(&single).await;
    // Sold out as applied, and not any more once the frame's own release is.
    let (mut outcomes, _) = caller
        .execute(vec![release(&held), claim("hot", "ann", "k", 1)])
        .await;
    expect_claim(outcomes.remove(1), Grant::Granted);

    // A grant and then a refusal: the refusal is of the state that has the grant.
    caller.create("cold", 1, 1).await;
    let (mut outcomes, position) = caller
        .execute(vec![
            claim("cold", "bob", "k1", 1),
            claim("cold", "carl", "k2", 1),
        ])
        .await;
    expect_rejected(&outcomes[1], Reason::SoldOut);
    let granted = expect_claim(outcomes.remove(0), Grant::Granted);
    assert!(position.applied_index >= granted.receipt.unwrap().log_index);
}

#[tokio::test]
async fn every_answer_comes_back_to_its_own_command() {
    let single = Single::found().await;
    let callers = [single.connect().await, single.connect().await];
    callers[0].create("hot", 100_000_000, PER_USER_UNITS_MAX).await;
    callers[0].create("sold-out", 0, 1).await;
    single.disk.stall();
    // Frames of all sizes from two connections, taking turns: some share an entry, some are cut in two.
    // A claim's quantity says whose it is.
    let mut quantity = 0;
    let mut frames = Vec::new();
    for (number, size) in [1, 512, 3, 300, 511, 2, 512, 512, 7, 200, 1, 400]
        .into_iter()
        .enumerate()
    {
        let mut wanted = Vec::new();
        let commands = (0..size).map(|place| {
            quantity += 1;
            wanted.push(quantity);
            match quantity % 10 {
                // In the middle of the others: one that is refused by the log, and one by its shape.
                3 => claim("sold-out", &format!("u{quantity}"), "k", 1),
                7 => command(
                    "op",
                    &format!("k{place}"),
                    proto::v1::command::Body::OpenSale(Default::default()),
                ),
                _ => claim("hot", &format!("u{quantity}"), "k", quantity),
            }
        });
        let commands = commands.collect();
        frames.push((callers[number % 2].send(commands), wanted));
    }
    single.disk.resume();
    for (frame, wanted) in frames {
        let (outcomes, _) = frame.await.unwrap();
        assert_eq!(outcomes.len(), wanted.len());
        for (outcome, quantity) in outcomes.into_iter().zip(wanted) {
            match quantity % 10 {
                3 => expect_rejected(&outcome, Reason::SoldOut),
                7 => expect_rejected(&outcome, Reason::Invalid),
                _ => match outcome {
                    Kind::Claim(granted) => assert_eq!(granted.claim.unwrap().quantity, quantity),
                    other => panic!("the claim of {quantity} got {other:?}"),
                },
            }
        }
    }
}
