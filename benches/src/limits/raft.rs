//! Bare raft: three processes of our log and our network under openraft, with nothing to apply.
//!
//! Entries as large as a full entry of claims, as many in flight as the batcher keeps; and entries of
//! one claim's size, one at a time and 64 at a time, which is what a store without a batcher could do.

use std::{path::Path, time::Duration};

use inventory_machine::{
    codec::BatchEncoder,
    command::{Body, Command, NAMESPACE_DEFAULT, Take},
};
use raft_store::limits::{ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};

use crate::{
    children::bare_raft::BareRaftMeasured,
    cluster::Shape,
    failure::{Doing, Failure},
    process::Process,
    report::{Figure, Run, id},
};

/// Bytes of an entry with one claim, as other stores' benches have it.
const CLAIM_BYTES: usize = 40;

/// Measures bare raft, a third of the window for each way.
///
/// # Errors
/// It does not start, or an entry fails.
pub async fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    let dir = tempfile::Builder::new()
        .prefix("bench-raft-")
        .tempdir_in(place)
        .doing("making a directory")?;
    let mut nodes = Vec::new();
    for id in 1..=Shape::USUAL.nodes {
        let name = format!("raft-{id}");
        let data = dir.path().join(&name);
        std::fs::create_dir(&data).doing("making a directory")?;
        let arguments = [
            "bare-raft",
            "--id",
            &id.to_string(),
            "--dir",
            &data.to_string_lossy(),
        ];
        nodes.push(Process::start(dir.path(), &name, &arguments).await?);
    }
    let members: Vec<String> = (1..)
        .zip(&nodes)
        .map(|(id, node): (u64, _)| format!("{id}={}", node.address()))
        .collect();
    nodes[0].ask(&format!("init {}", members.join(","))).await?;
    let leader: usize = nodes[0].ask("leader").await?.parse().doing("reading who leads")?;
    let leader = leader
        .checked_sub(1)
        .and_then(|place| nodes.get_mut(place))
        .ok_or_else(|| Failure::new("finding the leader", format!("node {leader} is none of ours")))?;

    let (claims, bytes) = full_entry();
    let window_ms = (window / 3).as_millis();
    for (id, entry_bytes, in_flight, weight) in [
        (id::RAFT_FULL, bytes, ENTRIES_IN_FLIGHT_MAX, claims),
        (id::RAFT_64, CLAIM_BYTES, 64, 1),
        (id::RAFT_ONE, CLAIM_BYTES, 1, 1),
    ] {
        let answer = leader
            .ask(&format!("measure {entry_bytes} {in_flight} {window_ms}"))
            .await?;
        let measured: BareRaftMeasured = serde_json::from_str(&answer).doing("reading a measurement")?;
        let value = match id {
            id::RAFT_ONE => measured.p50_ms,
            _ => measured.entries_per_second * weight as f64,
        };
        run.add(
            id,
            Figure {
                p50_ms: Some(measured.p50_ms),
                p99_ms: Some(measured.p99_ms),
                ..Figure::new(value)
            },
        );
    }
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}

/// Claims in a full entry, and its bytes.
fn full_entry() -> (usize, usize) {
    let mut encoder = BatchEncoder::new();
    let sale = encoder.sale(NAMESPACE_DEFAULT, "bench");
    while encoder.count() < ENTRY_COMMANDS_MAX && encoder.bytes() < ENTRY_BYTES_MAX {
        // Users and keys are hashes: any number is as long as another.
        let user = u128::MAX - encoder.count() as u128;
        let body = Body::Claim(Take {
            sale,
            user,
            quantity: 1,
        });
        encoder.push(&Command {
            follows: false,
            principal: user,
            key: !user | 1,
            not_after_ms: 60_000,
            body,
        });
    }
    (encoder.count(), encoder.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_entry_is_what_the_batcher_fills() {
        let (claims, bytes) = full_entry();
        assert!(claims == ENTRY_COMMANDS_MAX || bytes >= ENTRY_BYTES_MAX);
        assert!(
            bytes / claims >= 32,
            "a claim has a user and a key of 16 bytes each"
        );
    }
}
