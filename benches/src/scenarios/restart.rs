//! Restart: how long a node is away whose process is started again on a directory with a million live claims.
//!
//! A follower is killed when its image on disk is as new as it gets, and started at once. Two times count from
//! there: until it is ready, that is serves what it knows, and until it has applied all that the others had
//! when it became ready. First with nothing else going on, then at a light load in another sale, part of
//! which it misses and has to be told. Every round is a value of its own.

use tokio::time::Instant;

use super::{
    Bench,
    paced::{GAP_CALLERS, PacedClaims},
};
use crate::{
    failure::Failure,
    report::{Figure, id},
};

/// Live claims in the directory.
const CLAIMS: usize = 1_000_000;

/// Rounds of each in a run: the usual five runs make 25 of each.
const ROUNDS: usize = 5;

/// The sale of the light load.
const LOADED_SALE: &str = "restart-load";

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    const SALE: &str = "restart";
    bench.cluster.create_sale(SALE, CLAIMS as u32).await?;
    let told = bench.fill(SALE, CLAIMS).await?;
    rounds(bench, ROUNDS, [id::RESTART_READY, id::RESTART_CAUGHT_UP]).await?;

    let loaded = [id::RESTART_READY_LOADED, id::RESTART_CAUGHT_UP_LOADED];
    if loaded.iter().any(|id| bench.wants(id)) {
        bench.endless_sale(LOADED_SALE).await?;
        let client = bench.cluster.another_client()?;
        let load = PacedClaims::start(GAP_CALLERS, &client, LOADED_SALE, bench.names());
        rounds(bench, ROUNDS, loaded).await?;
        let told = load.stop().await?;
        bench.cluster.check(LOADED_SALE, &told).await?;
    }
    bench.cluster.check(SALE, &told).await
}

/// Kills a follower and starts it again, over and over, unless neither figure was asked for.
pub(super) async fn rounds(
    bench: &mut Bench<'_>,
    count: usize,
    [ready, caught_up]: [&'static str; 2],
) -> Result<(), Failure> {
    if !bench.wants(ready) && !bench.wants(caught_up) {
        return Ok(());
    }
    for _ in 0..count {
        bench.cluster.settled().await?;
        let follower = bench.cluster.next_node(bench.cluster.leader().await?.node_id);
        bench.cluster.kill(follower).await?;
        let started = Instant::now();
        bench.cluster.restart(follower).await?;
        let ready_after = started.elapsed();
        bench.cluster.caught_up(follower).await?;
        let caught_up_after = started.elapsed();
        for (id, after) in [(ready, ready_after), (caught_up, caught_up_after)] {
            if bench.wants(id) {
                bench.run.add(id, Figure::new(after.as_secs_f64() * 1_000.0));
            }
        }
    }
    Ok(())
}
