//! What this machine allows at most, measured in the same minute as the rest, on the same disk and
//! loopback: a bare disk, bare connections, bare raft, a bare gRPC stream, a bare HTTP server.
//!
//! Servers are processes of their own, as ours are. A run measures those limits that its figures are shown beside,
//! and what these are shown beside in turn.

mod disk;
mod frame;
mod grpc;
mod http;
mod loopback;
mod raft;

use std::{path::Path, time::Duration};

use tempfile::TempDir;

use crate::{
    failure::{Doing, Failure},
    process::Process,
    report::{Run, id, limit_of},
};

/// A part that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Write and fdatasync.
    Disk,
    /// TCP.
    Loopback,
    /// Three nodes that apply nothing.
    Raft,
    /// A stream of tonic's.
    Grpc,
    /// axum.
    Http,
}

impl Limit {
    /// All; none is shown beside one that comes after it.
    pub const ALL: [Limit; 5] = [
        Limit::Disk,
        Limit::Loopback,
        Limit::Raft,
        Limit::Grpc,
        Limit::Http,
    ];

    /// What it measures.
    pub fn figures(self) -> &'static [&'static str] {
        match self {
            Limit::Disk => &[id::DISK_4_KIB, id::DISK_40_KIB],
            Limit::Loopback => &[id::LOOPBACK_ONE, id::LOOPBACK_64, id::LOOPBACK_STREAM],
            Limit::Raft => &[id::RAFT_FULL, id::RAFT_64, id::RAFT_ONE],
            Limit::Grpc => &[id::GRPC_ONE, id::GRPC_64, id::GRPC_FULL],
            Limit::Http => &[id::HTTP_BARE],
        }
    }

    /// Those that these figures are shown beside, and those that they are shown beside themselves.
    pub fn beside(figures: impl Iterator<Item = &'static str>) -> Vec<Limit> {
        let mut shown: Vec<&str> = figures.collect();
        let mut limits = Vec::new();
        for limit in Limit::ALL.into_iter().rev() {
            let beside = |figure: &&str| limit_of(figure).is_some_and(|id| limit.figures().contains(&id));
            if shown.iter().any(beside) {
                shown.extend(limit.figures());
                limits.insert(0, limit);
            }
        }
        limits
    }

    /// Measures it.
    ///
    /// # Errors
    /// The disk fails, or a server does not run.
    pub async fn measure(self, place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
        match self {
            Limit::Disk => disk::measure(place, window, run),
            Limit::Loopback => loopback::measure(place, window, run).await,
            Limit::Raft => raft::measure(place, window, run).await,
            Limit::Grpc => grpc::measure(place, window, run).await,
            Limit::Http => http::measure(place, window, run).await,
        }
    }
}

/// Starts a server that stands alone; its log is in the directory, which goes when that does.
async fn server(place: &Path, command: &str) -> Result<(Process, TempDir), Failure> {
    let dir = tempfile::Builder::new()
        .prefix("bench-limit-")
        .tempdir_in(place)
        .doing("making a directory")?;
    Ok((Process::start(dir.path(), command, &[command]).await?, dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::Scenario;

    fn beside(scenario: Scenario) -> Vec<Limit> {
        Limit::beside(scenario.figures().into_iter())
    }

    #[test]
    fn a_scenario_measures_its_limits_and_theirs_and_no_others() {
        assert_eq!(
            beside(Scenario::Claims),
            [Limit::Disk, Limit::Loopback, Limit::Raft, Limit::Grpc]
        );
        assert_eq!(beside(Scenario::Confirm), [Limit::Disk, Limit::Raft]);
        assert_eq!(beside(Scenario::Http), [Limit::Loopback, Limit::Http]);
        assert_eq!(beside(Scenario::Expiry), []);
    }

    #[test]
    fn whatever_is_shown_as_a_limit_is_measured_by_one_or_by_a_scenario() {
        let limits = Limit::ALL
            .iter()
            .flat_map(|limit| limit.figures().iter().copied());
        let long = [Scenario::Growth { claims: 1 }, Scenario::Soak { minutes: 1 }];
        let scenarios = Scenario::ALL.iter().chain(&long);
        let scenarios = scenarios.flat_map(|scenario| scenario.figures());
        let measured: Vec<&str> = limits.chain(scenarios).collect();
        for id in crate::report::figure_ids() {
            assert!(limit_of(id).is_none_or(|limit| measured.contains(&limit)), "{id}");
        }
    }
}
