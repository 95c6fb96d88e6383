//! A full queue refuses before anything is proposed, and one caller's crowd is not another's wait.

use proto::v1::{self, Grant, outcome::Kind, unsubmitted::Cause};
use raft_store::limits::{ENTRIES_IN_FLIGHT_MAX, FRAME_COMMANDS_MAX, QUEUE_COMMANDS_MAX};

use crate::calls::{Single, claim, expect_claim};

fn overloaded(outcome: &Kind) -> bool {
    matches!(outcome, Kind::Unsubmitted(refused) if refused.cause() == Cause::Overloaded)
}

#[tokio::test]
async fn a_full_queue_refuses_before_proposing_and_lets_another_caller_by() {
    let single = Single::found().await;
    let (greedy, modest) = (single.connect().await, single.connect().await);
    greedy.create("hot", 100_000_000, 1).await;
    let before = single.proposed();
    let commands_before = single.node.door().totals().1 as usize;
    single.disk.stall();
    // More than fits, all at once: what is too much is answered at once, the rest waits for the disk.
    let frames_sent = QUEUE_COMMANDS_MAX / FRAME_COMMANDS_MAX + 2 * ENTRIES_IN_FLIGHT_MAX;
    let mut frames = Vec::new();
    for frame in 0..frames_sent {
        let commands =
            (0..FRAME_COMMANDS_MAX).map(|place| claim("hot", &format!("u{frame}-{place}"), "k", 1));
        frames.push(greedy.send(commands.collect()));
    }
    // Until every frame is refused, in flight, or waiting.
    let door = single.node.door();
    loop {
        let refused = frames.iter().filter(|frame| frame.is_finished()).count();
        let inside = door.totals().1 as usize - commands_before + door.waiting()[0];
        if refused * FRAME_COMMANDS_MAX + inside == frames_sent * FRAME_COMMANDS_MAX {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Behind the crowd, one claim of somebody else.
    let crowd = door.waiting()[0];
    let single_claim = modest.send(vec![claim("hot", "modest", "k", 1)]);
    while door.waiting()[0] == crowd {
        tokio::task::yield_now().await;
    }
    single.disk.resume();

    let (mut outcomes, _) = single_claim.await.unwrap();
    let granted = expect_claim(outcomes.remove(0), Grant::Granted);
    let behind = granted.receipt.unwrap().log_index - before;
    // Those in flight when it came, one turn of the other's, and its own.
    let most = 2 * ENTRIES_IN_FLIGHT_MAX as u64;
    assert!(
        behind <= most,
        "it waited for {behind} entries of another caller's"
    );

    let (mut refused, mut accepted) = (0, 0);
    for frame in frames {
        let (outcomes, _) = frame.await.unwrap();
        assert_eq!(outcomes.len(), FRAME_COMMANDS_MAX);
        if outcomes.iter().all(overloaded) {
            refused += 1;
            continue;
        }
        accepted += 1;
        for outcome in outcomes {
            expect_claim(outcome, Grant::Granted);
        }
    }
    assert!(
        refused > 0 && accepted > 0,
        "{refused} refused, {accepted} accepted"
    );
    let sale: v1::Sale = modest.sale("hot").await;
    assert_eq!(
        sale.claims_made as usize,
        accepted * FRAME_COMMANDS_MAX + 1,
        "nothing refused was proposed"
    );
}
