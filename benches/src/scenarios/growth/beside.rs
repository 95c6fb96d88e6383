//! Single callers who claim in another sale beside all those claims: alone, while the leader writes snapshots of
//! them, and while a new node joins and is told of them.
//!
//! A window without anything else comes first. The other two last as long as what goes on in them does: snapshots one
//! behind the other until a window's time is over, each newer than the last; and from asking for the new node to when
//! it has applied what the leader had when looked at just before.

use std::time::Duration;

use client::{Client, NodeStatus};
use tokio::time::{Instant, sleep};

use super::{
    super::{Bench, claims},
    DOING,
};
use crate::{
    failure::{Doing, Failure},
    load::Tally,
    report::{Figure, id},
};

/// Pause between two looks at a node that joins.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures all three, as far as they were asked for. Gives what callers were told of each sale.
pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<(String, Tally)>, Failure> {
    let mut all = Vec::new();
    if bench.wants(id::GROWTH_CALM) {
        bench.endless_sale(id::GROWTH_CALM).await?;
        let told = claims::beside(bench, id::GROWTH_CALM).await?;
        all.push((id::GROWTH_CALM.to_owned(), told));
    }
    if bench.wants(id::GROWTH_SNAPSHOT) {
        bench.endless_sale(id::GROWTH_SNAPSHOT).await?;
        let told = beside_snapshots(bench).await?;
        all.push((id::GROWTH_SNAPSHOT.to_owned(), told));
    }
    if bench.wants(id::GROWTH_LEARNER) || bench.wants(id::GROWTH_LEARNER_CLAIMS) {
        bench.endless_sale(id::GROWTH_LEARNER_CLAIMS).await?;
        let told = beside_learner(bench).await?;
        all.push((id::GROWTH_LEARNER_CLAIMS.to_owned(), told));
    }
    Ok(all)
}

async fn beside_snapshots(bench: &mut Bench<'_>) -> Result<Tally, Failure> {
    let leader = bench.cluster.leader().await?;
    let work = snapshots(
        bench.cluster.another_client()?,
        leader.endpoint.clone(),
        bench.window,
    );
    let (told, written) = claims::meanwhile(bench, id::GROWTH_SNAPSHOT, work).await?;
    same_leader(bench, &leader).await?;
    let (count, all) = (written.len(), written.iter().sum::<Duration>());
    bench.run.note(format!(
        "{}: snapshots written {count}, each in {:.1} s",
        id::GROWTH_SNAPSHOT,
        all.as_secs_f64() / count as f64
    ));
    Ok(told)
}

/// Has a node write one snapshot after the other until so much time is over; how long each took.
async fn snapshots(client: Client, endpoint: String, at_least: Duration) -> Result<Vec<Duration>, Failure> {
    const DOING: &str = "writing snapshots";
    let operators = client.cluster();
    let kept = operators.snapshots(&endpoint, false).await.doing(DOING)?;
    let mut newest = kept.snapshots.last().map_or(0, |last| last.log_index);
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < at_least {
        let asked = Instant::now();
        let kept = operators.take_snapshot(&endpoint).await.doing(DOING)?;
        took.push(asked.elapsed());
        let index = kept.snapshots.last().map_or(0, |last| last.log_index);
        if index <= newest {
            let why = format!("one of log index {index} came after one of {newest}");
            return Err(Failure::new(DOING, why));
        }
        newest = index;
    }
    Ok(took)
}

async fn beside_learner(bench: &mut Bench<'_>) -> Result<Tally, Failure> {
    let leader = bench.cluster.leader().await?;
    let (node_id, node) = bench.cluster.start_another().await?;
    let client = bench.cluster.another_client()?;
    let work = join(
        client,
        leader.endpoint.clone(),
        node_id,
        node.address().to_owned(),
    );
    let (told, took) = claims::meanwhile(bench, id::GROWTH_LEARNER_CLAIMS, work).await?;
    bench.cluster.joined(node);
    same_leader(bench, &leader).await?;
    bench.run.add(id::GROWTH_LEARNER, Figure::new(took.as_secs_f64()));
    Ok(told)
}

/// Makes a node a learner; how long until it has caught up.
async fn join(client: Client, leader: String, node_id: u64, endpoint: String) -> Result<Duration, Failure> {
    const DOING: &str = "waiting for a learner";
    let (operators, asked) = (client.cluster(), Instant::now());
    let members = operators.add_learner(node_id, &endpoint).await.doing(DOING)?;
    if !members
        .iter()
        .any(|member| member.node_id == node_id && !member.voter)
    {
        return Err(Failure::new(DOING, format!("the members are {members:?}")));
    }
    loop {
        let wanted = operators.status(&leader).await.doing(DOING)?.applied_index;
        let learner = operators.status(&endpoint).await.doing(DOING)?;
        if learner.applied_index >= wanted {
            return Ok(asked.elapsed());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Fails when another node leads by now: then it was not the leader that wrote, or told.
async fn same_leader(bench: &Bench<'_>, before: &NodeStatus) -> Result<(), Failure> {
    let now = bench.cluster.leader().await?;
    if (now.node_id, now.term) == (before.node_id, before.term) {
        return Ok(());
    }
    let why = format!("node {} led, and now node {} does", before.node_id, now.node_id);
    Err(Failure::new(
        DOING,
        format!("{why}: the machine is too busy to measure on"),
    ))
}
