//! A short campaign on the shipped binary: faults of every mechanism under load, everything checked.

use std::{path::Path, time::Duration};

use indicatif::ProgressBar;
use jepsen_tests::{
    campaign::run::{Options, Record, run},
    nemeses::{
        Kind,
        deck::{Coverage, Deck},
        preload,
    },
    properties::{self, Verdict},
    workloads::Workload,
};

async fn record(dir: &Path, workload: Workload, kinds: &[Kind]) -> (Record, Coverage) {
    let options = Options {
        binary: env!("CARGO_BIN_EXE_holdfast").into(),
        fault_library: preload::compile(dir).unwrap(),
        dir: dir.join("nodes"),
        faults: dir.join("faults.txt"),
        feeds: dir.join("feeds.txt"),
        nodes: 3,
        load: Duration::from_secs(8),
        workload,
        seed: 1,
    };
    let (mut deck, mut coverage) = (Deck::new(kinds), Coverage::new(kinds));
    let record = run(&options, &mut deck, &mut coverage, &ProgressBar::hidden()).await;
    (record.expect("the cluster is founded"), coverage)
}

/// Runs until a fault has come about: on a machine with no time to spare there may be nobody to lead, and nothing to
/// lose, for as long as a run.
const RUNS_MAX: usize = 5;

async fn assert_valid(workload: Workload, kinds: &[Kind]) {
    for _ in 0..RUNS_MAX {
        if run_is_valid(workload, kinds).await > 0 {
            return;
        }
    }
    panic!("no fault came about in {RUNS_MAX} runs");
}

/// Gives how many faults came about.
async fn run_is_valid(workload: Workload, kinds: &[Kind]) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (record, coverage) = record(dir.path(), workload, kinds).await;
    let faults = std::fs::read_to_string(dir.path().join("faults.txt")).unwrap();
    assert_eq!((record.trouble, record.broken), (None, vec![]), "{faults}");
    let mut findings = properties::check(&record.run);
    findings.push(properties::linearizable(&record.run.history));
    for finding in findings {
        assert_eq!(finding.verdict, Verdict::Valid, "{finding:?}\n{faults}");
    }
    assert!(!record.run.operations.is_empty());
    coverage.counts().iter().map(|count| count.count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_power_goes_and_disks_fail() {
    let kinds = [Kind::PowerCutAll, Kind::SyncError, Kind::PowerCut];
    assert_valid(Workload::Dedup, &kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_stay_in_order_over_cut_links_and_changing_members() {
    let kinds = [Kind::Partition, Kind::Replace, Kind::LostReplies];
    assert_valid(Workload::Mixed, &kinds).await;
}
