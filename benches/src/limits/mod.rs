//! What this machine allows at most, measured in the same minute as the rest, on the same disk and
//! loopback: a bare disk, and bare raft.

pub mod disk;
pub mod raft;

use std::{path::Path, time::Duration};

use crate::{failure::Failure, report::Run};

/// Measures all limits.
///
/// # Errors
/// The disk fails, or bare raft does not run.
pub async fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    disk::measure(place, window, run)?;
    raft::measure(place, window, run).await
}
