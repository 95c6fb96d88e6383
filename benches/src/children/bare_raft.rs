//! One node of bare raft: our log, our network, openraft, and an empty state machine.
//!
//! The harness says, line by line, `init <id>=<address>,…`, `leader`, and to the leader
//! `measure <entry bytes> <in flight> <window ms>`: the leader itself proposes, so that what is measured
//! is what any store on these parts could reach at most.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{BasicNode, Raft};
use proto::internal::ClockReport;
use raft_store::{
    net_tcp::TcpNet,
    network::{Cluster, Forgetful, Identity, Network, NetworkOptions, Peers},
    raft_config::{RaftOptions, raft_config},
    seams::{Net, Seams, SystemWallClock, Workers},
    service::{
        self,
        raft::{ClockExchange, RaftService},
    },
    storage::{
        disk_real::RealDisk,
        log::{LogOptions, LogStore, Origin},
    },
    types::{BatchBytes, TypeConfig},
};
use serde::{Deserialize, Serialize};

use super::empty_machine::{EmptyMachine, NoSnapshots};
use crate::{
    failure::{Doing, Failure},
    load::{Caller, Tally, drive},
};

type BareRaft = Raft<TypeConfig, EmptyMachine>;

/// Longest an election may take on a loaded machine.
const ELECTION_MAX: Duration = Duration::from_secs(30);

/// What a leader measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BareRaftMeasured {
    /// Entries applied per second.
    pub entries_per_second: f64,
    /// Median time from proposing an entry to its having been applied, in ms.
    pub p50_ms: f64,
    /// The 99th percentile of it, in ms.
    pub p99_ms: f64,
}

/// Runs node `id` with its log in `dir`.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run(id: u64, dir: PathBuf) -> Result<(), Failure> {
    super::runtime()?.block_on(serve(id, dir))
}

async fn serve(id: u64, dir: PathBuf) -> Result<(), Failure> {
    let starting = "starting bare raft";
    let net = Arc::new(TcpNet);
    let listener = net.listen("127.0.0.1:0").await.doing(starting)?;
    let address = listener.local_address().doing(starting)?.to_string();
    let seams = Seams {
        disk: Arc::new(RealDisk),
        net: net.clone(),
        wall_clock: Arc::new(SystemWallClock),
        workers: Workers::Threads,
        image_dir: None,
    };
    let log = LogStore::open(&dir, &seams, LogOptions::new(Origin::New)).doing(starting)?;
    let cluster = Cluster {
        id: Some(1),
        founded: true,
    };
    let identity = Identity::new(id, address.clone(), cluster, Arc::new(Forgetful));
    let peers = Peers::new(identity.clone(), net, NetworkOptions::default());
    // No snapshots: there is nothing that could be in one.
    let options = RaftOptions {
        snapshot_entries: u64::MAX,
        ..RaftOptions::default()
    };
    let config = Arc::new(raft_config(&options).doing(starting)?);
    let network = Network::new(peers);
    let raft = BareRaft::new(id, config, network, log, EmptyMachine::default())
        .await
        .doing(starting)?;
    let service = RaftService::new(
        raft.clone(),
        identity,
        NoSnapshots,
        Arc::new(NoClock),
        Default::default(),
    );
    let router = service::server().add_service(service.into_server());
    let mut server = tokio::spawn(router.serve_with_incoming(service::incoming(listener)));
    println!("ready {address}");
    let mut requests = super::requests();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return Ok(()) };
                match answer(&raft, &request).await {
                    Ok(answer) => println!("{answer}"),
                    Err(failure) => println!("error {failure}"),
                }
            }
            ended = &mut server => return Err(Failure::new("serving", format!("it ended: {ended:?}"))),
        }
    }
}

async fn answer(raft: &BareRaft, request: &str) -> Result<String, Failure> {
    let unclear = || Failure::new("reading a request", format!("{request:?} is none"));
    let (verb, rest) = request.split_once(' ').unwrap_or((request, ""));
    match verb {
        "init" => {
            let member = |member: &str| {
                let (id, address) = member.split_once('=')?;
                Some((id.parse().ok()?, BasicNode::new(address)))
            };
            let members: Option<BTreeMap<u64, BasicNode>> = rest.split(',').map(member).collect();
            raft.initialize(members.ok_or_else(unclear)?)
                .await
                .doing("founding")?;
            Ok("done".to_owned())
        }
        "leader" => {
            // Founding makes a leader of no term for a moment; one that has applied an entry of its own
            // was elected.
            let wait = raft.wait(Some(ELECTION_MAX));
            let elected = wait.metrics(
                |metrics| {
                    metrics
                        .last_applied
                        .is_some_and(|applied| applied.committed_leader_id().term > 0)
                },
                "an elected leader",
            );
            let metrics = elected.await.doing("waiting for a leader")?;
            Ok(metrics.current_leader.ok_or_else(unclear)?.to_string())
        }
        "measure" => {
            let numbers: Result<Vec<usize>, _> = rest.split(' ').map(str::parse).collect();
            let Ok([entry_bytes, in_flight, window_ms]) = numbers.as_deref() else {
                return Err(unclear());
            };
            let window = Duration::from_millis(*window_ms as u64);
            let measured = measure(raft, *entry_bytes, *in_flight, window).await?;
            serde_json::to_string(&measured).doing("writing the answer")
        }
        _ => Err(unclear()),
    }
}

async fn measure(
    raft: &BareRaft,
    entry_bytes: usize,
    in_flight: usize,
    window: Duration,
) -> Result<BareRaftMeasured, Failure> {
    let bytes = Bytes::from(vec![0x5a; entry_bytes]);
    let proposer = || Proposer {
        raft: raft.clone(),
        bytes: bytes.clone(),
    };
    let (measured, tally) = drive(window, (0..in_flight).map(|_| proposer()).collect()).await?;
    tally.all_answered("proposing entries")?;
    Ok(BareRaftMeasured {
        entries_per_second: measured.rate(),
        p50_ms: measured.latency_ms(0.50),
        p99_ms: measured.latency_ms(0.99),
    })
}

/// Proposes the same bytes again and again.
struct Proposer {
    raft: BareRaft,
    bytes: Bytes,
}

impl Caller for Proposer {
    async fn call(&mut self) -> Option<Tally> {
        let mut tally = Tally::default();
        match self.raft.client_write(BatchBytes(self.bytes.clone())).await {
            Ok(_) => tally.granted = 1,
            Err(error) => tally.fail(|| error.to_string()),
        }
        Some(tally)
    }
}

/// Bare raft has no log clock.
struct NoClock;

impl ClockExchange for NoClock {
    fn exchange(&self, report: ClockReport) -> ClockReport {
        report
    }
}
