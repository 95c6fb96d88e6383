//! What live claims take on disk: the image, and two snapshots, since as many are kept and the log is purged only up to
//! the older. The replica with most of both is the figure.
//!
//! The log does not count: what it holds is entries since that snapshot, however many claims are live, in segments
//! made ahead. A note tells what it took before the snapshots, which was every claim, and after.

use raft_store::storage::snapshot::SNAPSHOTS_KEPT;

use super::{super::Bench, DOING, SALE};
use crate::{
    cluster::DiskBytes,
    failure::Failure,
    load::Tally,
    report::{Figure, id},
};

/// Measures that of so many live claims. Gives those that it made itself.
pub(super) async fn measure(bench: &mut Bench<'_>, live: u64) -> Result<Tally, Failure> {
    let mut told = Tally::default();
    if !bench.wants(id::GROWTH_IMAGE) && !bench.wants(id::GROWTH_DISK) {
        return Ok(told);
    }
    let log_before = log_bytes(&bench.cluster.disk_bytes()?);
    let mut kept = Vec::new();
    for _ in 0..SNAPSHOTS_KEPT {
        // What has not changed is not written again.
        told.add(bench.fill(SALE, 1).await?);
        kept = bench.cluster.take_snapshots().await?;
    }
    bench.cluster.purged().await?;
    bench.cluster.settled().await?;
    let on_disk = bench.cluster.disk_bytes()?;
    for (node, (disk, snapshots)) in (1..).zip(on_disk.iter().zip(&kept)) {
        let said: u64 = snapshots.iter().map(|snapshot| snapshot.bytes).sum();
        if snapshots.len() != SNAPSHOTS_KEPT || disk.snapshots < said || disk.image == 0 {
            let why = format!("node {node} has {disk:?}, and says that it has {snapshots:?}");
            return Err(Failure::new(DOING, why));
        }
    }
    let per_claim = |bytes: fn(&DiskBytes) -> u64| {
        let most = on_disk.iter().map(bytes).max().unwrap_or_default();
        most as f64 / (live + told.granted) as f64
    };
    let figures = [
        (id::GROWTH_IMAGE, per_claim(|disk| disk.image)),
        (id::GROWTH_DISK, per_claim(|disk| disk.image + disk.snapshots)),
    ];
    for (id, bytes) in figures {
        if bench.wants(id) {
            bench.run.add(id, Figure::new(bytes));
        }
    }
    let log_after = log_bytes(&on_disk);
    bench.run.note(format!(
        "growth: a node's log took {log_before} MiB before there were snapshots, and {log_after} MiB after"
    ));
    Ok(told)
}

/// Of the node with the longest, in MiB.
fn log_bytes(on_disk: &[DiskBytes]) -> u64 {
    on_disk
        .iter()
        .map(|disk| disk.log >> 20)
        .max()
        .unwrap_or_default()
}
