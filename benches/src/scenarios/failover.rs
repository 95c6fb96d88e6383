//! Failover: what callers notice when the leader is killed, and when leadership is handed over.
//!
//! A light load of single claims goes on through all rounds. The leader's process is killed without a word, and
//! the clock runs from there to the first grant of a newer term that any caller hears; then the node is started
//! again on its directory, and has caught up before the next round. Handing over is measured by the longest
//! time in which no caller heard of a grant. Every round is a value of its own.
//!
//! Nothing acknowledged may be lost: the ranks that were heard of are complete, and the replicas have as many
//! claims, and the same as one another.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Bench,
    paced::{GAP_CALLERS, PacedClaims},
};
use crate::{
    failure::{Doing, Failure},
    report::{Figure, id},
};

/// Rounds of each in a run: the usual five runs make 25 of each.
const ROUNDS: usize = 5;

/// How long the load runs undisturbed before each round, and is looked at after a handing over.
const CALM: Duration = Duration::from_millis(300);

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    for (id, transfer) in [(id::FAILOVER, false), (id::TRANSFER, true)] {
        if !bench.wants(id) {
            continue;
        }
        bench.endless_sale(id).await?;
        // A client of its own, which hears of no operator's call.
        let load = PacedClaims::start(GAP_CALLERS, &bench.cluster.another_client()?, id, bench.names());
        for _ in 0..ROUNDS {
            bench.cluster.settled().await?;
            sleep(CALM).await;
            let took = if transfer {
                hand_over(bench, &load).await?
            } else {
                kill(bench, &load).await?
            };
            bench.run.add(id, Figure::new(took.as_secs_f64() * 1_000.0));
        }
        let told = load.stop().await?;
        bench.cluster.check(id, &told).await?;
    }
    Ok(())
}

/// Kills the leader and starts it again. Gives the time from its death to the next grant.
async fn kill(bench: &mut Bench<'_>, load: &PacedClaims) -> Result<Duration, Failure> {
    let leader = bench.cluster.leader().await?;
    // Somebody has heard from this leader, so that the grant waited for is of another.
    load.first_after(leader.term - 1).await?;
    let killed = Instant::now();
    bench.cluster.kill(leader.node_id).await?;
    let granted = load.first_after(leader.term).await?;
    bench.cluster.restart(leader.node_id).await?;
    granted.checked_duration_since(killed).ok_or_else(|| {
        Failure::new(
            "killing the leader",
            "another led before it was killed: the machine is too busy to measure on",
        )
    })
}

/// Hands leadership to the next node. Gives the longest time without a grant.
async fn hand_over(bench: &mut Bench<'_>, load: &PacedClaims) -> Result<Duration, Failure> {
    let leader = bench.cluster.leader().await?;
    load.first_after(leader.term - 1).await?;
    let operators = bench.cluster.client().cluster();
    let asked = Instant::now();
    operators
        .transfer_leader(bench.cluster.next_node(leader.node_id))
        .await
        .doing("handing leadership over")?;
    load.first_after(leader.term).await?;
    sleep(CALM).await;
    Ok(load.longest_gap(asked..Instant::now()))
}
