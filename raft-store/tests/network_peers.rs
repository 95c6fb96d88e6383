//! What the network makes of peers that are dead, silent or mad, and how appends travel. In simulation.

mod common;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{
    Node, batch, eventually,
    scenario::{form, leader_of},
    sim::{endpoint, running, simulation, with_one_node},
    store::MemSnapshot,
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use jepsen_tests::simulation::net::SimNet;
use openraft::{
    BasicNode, RaftNetworkFactory,
    errors::RPCError,
    network::{NetStreamAppend, NetVote, RPCOption},
    raft::{AppendEntriesRequest, VoteRequest},
};
use proto::internal as wire;
use raft_store::{
    network::{Cluster, Forgetful, Identity, Network, NetworkOptions, Peers},
    seams::{BoxConnection, Listener, Net},
    service,
    types::{LogId, TypeConfig, Vote},
};
use tonic::{Request, Response, Status, Streaming};

/// Counts attempts to connect.
struct Counting {
    attempts: Arc<AtomicU64>,
}

impl Net for Counting {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        SimNet.listen(address)
    }
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { SimNet.connect(address).await })
    }
}

fn network(attempts: &Arc<AtomicU64>) -> Network<MemSnapshot> {
    Network::new(peers(attempts))
}

fn peers(attempts: &Arc<AtomicU64>) -> Peers {
    let net = Arc::new(Counting {
        attempts: attempts.clone(),
    });
    Peers::new(
        Identity::new(9, "test:1", Cluster::default(), Arc::new(Forgetful)),
        net,
        NetworkOptions::default(),
    )
}

#[test]
fn a_dead_peer_is_unreachable_and_dialled_at_a_bounded_pace() {
    with_one_node(13, async |_: Node| {
        let attempts = Arc::new(AtomicU64::new(0));
        let mut client = network(&attempts).new_client(1, &BasicNode::new("n1:9")).await;
        let option = RPCOption::new(Duration::from_millis(100));
        let mut calls = 0;
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            let answer = client
                .vote(VoteRequest::new(Vote::new(1, 9), None), option.clone())
                .await;
            assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
            calls += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let attempts = attempts.load(Ordering::Relaxed);
        assert!(
            calls > 200 && (20..=30).contains(&attempts),
            "{attempts} attempts for {calls} calls"
        );

        // It comes back: the next attempts find it.
        let mut client = network(&Arc::default())
            .new_client(1, &BasicNode::new(endpoint(1)))
            .await;
        assert!(
            client
                .pre_vote(VoteRequest::new(Vote::new(1, 9), None), option)
                .await
                .is_ok()
        );
    });
}

fn leader() -> Vote {
    Vote::new_committed(1, 9)
}

fn log_id(index: u64) -> LogId {
    LogId {
        leader_id: leader().leader_id,
        index,
    }
}

/// The leader's append of one entry behind all those before it, with news of a commit.
fn append(index: u64, commit: Option<u64>) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: leader(),
        prev_log_id: index.checked_sub(1).map(log_id),
        entries: vec![raft_store::types::Entry {
            log_id: log_id(index),
            payload: openraft::EntryPayload::Normal(raft_store::types::BatchBytes(batch(index, 64))),
        }],
        leader_commit: commit.map(log_id),
    }
}

#[test]
fn appends_are_pipelined_in_order_on_one_connection() {
    with_one_node(14, async |node: Node| {
        let attempts = Arc::new(AtomicU64::new(0));
        let mut client = network(&attempts)
            .new_client(1, &BasicNode::new(endpoint(1)))
            .await;
        let option = RPCOption::new(Duration::from_millis(100));
        let append = |index| append(index, None);
        // Far more than may be in flight, in one session. Time is the simulation's: a thousand round trips
        // of at least 2 ms each would take two seconds.
        let begun = tokio::time::Instant::now();
        let answers = client
            .stream_append(stream::iter((0..1_000).map(append)), option.clone())
            .await
            .unwrap();
        let answers: Vec<_> = answers.collect().await;
        let expected: Vec<_> = (0..1_000).map(|index| Ok(Ok(Some(log_id(index))))).collect();
        assert_eq!(answers, expected);
        assert!(
            begun.elapsed() < Duration::from_millis(1_000),
            "{:?} for 1,000 appends",
            begun.elapsed()
        );

        // Heartbeats after it: sessions of one, on the same connection.
        for _ in 0..10 {
            let session = client
                .stream_append(stream::iter([append(999)]), option.clone())
                .await
                .unwrap();
            assert_eq!(session.collect::<Vec<_>>().await, [Ok(Ok(Some(log_id(999))))]);
        }
        assert_eq!(attempts.load(Ordering::Relaxed), 1);

        // A refusal ends the session; the next one begins anew.
        let beyond = append(2_000);
        let session = client
            .stream_append(stream::iter([beyond, append(1_000)]), option.clone())
            .await
            .unwrap();
        let refused: Vec<_> = session.collect().await;
        assert_eq!(refused.len(), 1);
        assert!(
            matches!(&refused[0], Ok(Err(openraft::raft::StreamAppendError::Conflict(at))) if *at == log_id(1_999))
        );
        let session = client
            .stream_append(stream::iter([append(1_000)]), option)
            .await
            .unwrap();
        assert_eq!(session.collect::<Vec<_>>().await, [Ok(Ok(Some(log_id(1_000))))]);
        assert_eq!(node.state.batches().len(), 0, "nothing was committed");
    });
}

#[test]
fn news_of_a_commit_travel_with_the_next_entries_or_alone_after_a_little() {
    const SESSIONS: u32 = 200;
    with_one_node(15, async |node: Node| {
        let mut client = network(&Arc::default())
            .new_client(1, &BasicNode::new(endpoint(1)))
            .await;
        let option = RPCOption::new(Duration::from_millis(100));
        let news = |commit| AppendEntriesRequest {
            prev_log_id: Some(log_id(commit)),
            entries: Vec::new(),
            ..append(commit, Some(commit))
        };
        let applied = async |count: usize| {
            eventually(|| (node.state.batches().len() == count).then_some(())).await;
        };

        // Entries follow: what they carry is newer.
        let requests = stream::iter([append(0, None), news(0), append(1, Some(0))]);
        let session = client.stream_append(requests, option.clone()).await.unwrap();
        let answers: Vec<_> = session.collect().await;
        assert_eq!(answers, [0, 1].map(|index| Ok(Ok(Some(log_id(index))))));
        applied(1).await;

        // Nothing follows, and the session goes on: it does not wait for ever.
        let requests = stream::iter([append(2, None), news(2)]).chain(stream::pending());
        let session = client.stream_append(requests, option.clone()).await.unwrap();
        let answers: Vec<_> = session.take(2).collect().await;
        assert_eq!(answers, [2, 2].map(|index| Ok(Ok(Some(log_id(index))))));
        applied(3).await;

        // The session's last, as a heartbeat or a ReadIndex round, waits for nothing: it takes as long as entries do.
        let mut took = Vec::new();
        for request in [append(2, None), news(2)] {
            let begun = tokio::time::Instant::now();
            for _ in 0..SESSIONS {
                let requests = stream::iter([request.clone()]);
                let session = client.stream_append(requests, option.clone()).await.unwrap();
                assert_eq!(session.collect::<Vec<_>>().await, [Ok(Ok(Some(log_id(2))))]);
            }
            took.push(begun.elapsed());
        }
        let delays = SESSIONS * Duration::from_millis(5);
        assert!(took[1] < took[0] + delays / 2, "{took:?}");
    });
}

#[test]
fn an_answer_proves_the_lead_since_its_own_request_was_sent_and_no_later() {
    with_one_node(16, async |_: Node| {
        let peers = peers(&Arc::default());
        let answered = peers.answered().clone();
        let quorum = || answered.quorum(9, 1, &[[1, 9].into()]);
        let mut client = Network::<MemSnapshot>::new(peers)
            .new_client(1, &BasicNode::new(endpoint(1)))
            .await;
        // News of the commit are ready while the entry is on its way: openraft takes the entry's answer for one to both.
        let ready = Arc::new(std::sync::Mutex::new(None));
        let (now, at) = (answered.clone(), ready.clone());
        let news = stream::once(std::future::ready(())).map(move |()| {
            *at.lock().unwrap() = Some(now.moment());
            AppendEntriesRequest {
                prev_log_id: Some(log_id(0)),
                entries: Vec::new(),
                ..append(0, Some(0))
            }
        });
        let requests = stream::iter([append(0, None)])
            .chain(news)
            .chain(stream::pending());
        let begun = answered.moment();
        let option = RPCOption::new(Duration::from_millis(100));
        let mut session = client.stream_append(requests, option).await.unwrap();
        let matched = Some(Ok(Ok(Some(log_id(0)))));
        assert_eq!(quorum(), None);
        assert_eq!(session.next().await, matched);
        let ready = ready
            .lock()
            .unwrap()
            .expect("it does not wait for the entry's answer");
        assert!(begun < quorum().unwrap() && quorum().unwrap() < ready);
        assert_eq!(session.next().await, matched);
        assert!(ready < quorum().unwrap());
    });
}

/// A peer that does with appends what it is told to.
#[derive(Clone)]
struct FakePeer {
    conduct: Conduct,
    streams: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    /// Matches everything.
    Good,
    /// Takes everything and says nothing.
    Silent,
    /// Claims to have what it was never sent.
    Mad,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::raft_server::Raft for FakePeer {
    type AppendStream = BoxStream<'static, Result<wire::AppendResponse, Status>>;
    async fn append(&self, request: Request<Streaming<wire::AppendRequest>>) -> Answered<Self::AppendStream> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let conduct = self.conduct;
        let answers = request.into_inner().filter_map(move |request| async move {
            let last = request.ok()?.entries.last().and_then(|entry| entry.log_id);
            let log_id = match conduct {
                Conduct::Good => last,
                Conduct::Silent => return None,
                Conduct::Mad => last.map(|last| wire::LogId {
                    index: last.index + 1,
                    ..last
                }),
            };
            let result = Some(wire::append_response::Result::Matched(wire::Matched { log_id }));
            Some(Ok(wire::AppendResponse {
                result,
                conflict_log_id: None,
            }))
        });
        Ok(Response::new(answers.boxed()))
    }
    async fn vote(&self, _: Request<wire::VoteRequest>) -> Answered<wire::VoteResponse> {
        Err(Status::unimplemented("appends only"))
    }
    async fn pre_vote(&self, _: Request<wire::VoteRequest>) -> Answered<wire::VoteResponse> {
        Err(Status::unimplemented("appends only"))
    }
    async fn install_snapshot(
        &self,
        _: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Answered<wire::SnapshotResponse> {
        Err(Status::unimplemented("appends only"))
    }
    async fn transfer_leader(
        &self,
        _: Request<wire::TransferLeaderRequest>,
    ) -> Answered<wire::TransferLeaderResponse> {
        Err(Status::unimplemented("appends only"))
    }
    async fn exchange_clock(&self, _: Request<wire::ClockReport>) -> Answered<wire::ClockReport> {
        Err(Status::unimplemented("appends only"))
    }
    async fn enlist(&self, _: Request<wire::EnlistRequest>) -> Answered<wire::EnlistResponse> {
        Err(Status::unimplemented("appends only"))
    }
}

/// What eleven appends, each a session of its own, get from such a peer, and over how many streams.
fn eleven_sessions(conduct: Conduct) -> (Vec<Result<(), RPCError<TypeConfig>>>, u64) {
    let streams = Arc::new(AtomicU64::new(0));
    let peer = FakePeer {
        conduct,
        streams: streams.clone(),
    };
    let results = Arc::new(std::sync::Mutex::new(Vec::new()));
    let gathered = results.clone();
    let mut sim = turmoil::Builder::new()
        .rng_seed(16)
        .max_message_latency(Duration::from_millis(4))
        .simulation_duration(Duration::from_secs(60))
        .build();
    sim.host("n1", move || {
        let peer = peer.clone();
        async move {
            let listener = SimNet.listen("0.0.0.0:7000").await?;
            let server = service::server().add_service(wire::raft_server::RaftServer::new(peer));
            server.serve_with_incoming(service::incoming(listener)).await?;
            Ok(())
        }
    });
    sim.client("test", async move {
        let mut client = network(&Arc::default())
            .new_client(1, &BasicNode::new(endpoint(1)))
            .await;
        for _ in 0..11 {
            let option = RPCOption::new(Duration::from_millis(100));
            let session = client
                .stream_append(stream::iter([append(0, None)]), option)
                .await?;
            let answers: Vec<_> = session.collect().await;
            assert_eq!(answers.len(), 1);
            gathered.lock().unwrap().extend(answers.into_iter().map(|answer| {
                answer.map(|answer| {
                    assert_eq!(answer, Ok(Some(log_id(0))));
                })
            }));
        }
        Ok(())
    });
    sim.run().unwrap();
    let results = results.lock().unwrap().clone();
    (results, streams.load(Ordering::Relaxed))
}

#[test]
fn a_stream_outlives_sessions_that_were_answered_and_no_others() {
    let (results, streams) = eleven_sessions(Conduct::Good);
    assert!(results.len() == 11 && results.iter().all(Result::is_ok));
    assert_eq!(streams, 1, "heartbeats share a stream");

    let (results, streams) = eleven_sessions(Conduct::Silent);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(RPCError::Timeout(_)))),
        "{results:?}"
    );
    assert_eq!(
        streams, 11,
        "an answer that is still owed must not become another request's"
    );

    let (results, streams) = eleven_sessions(Conduct::Mad);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(RPCError::Unreachable(_)))),
        "{results:?}"
    );
    assert_eq!(streams, 11);
}

#[test]
fn a_silent_peer_costs_a_deadline_not_for_ever() {
    let (mut sim, nodes) = simulation(15, 3);
    sim.client("test", async move {
        let nodes = running(&nodes, 3).await;
        form(&nodes).await;
        let leader = leader_of(&nodes).await;
        let other = nodes.iter().find(|node| !node.raft.is_leader()).unwrap();
        let (from, to) = (leader.identity.node_id(), other.identity.node_id());
        // One way only: it hears, and its answers are lost.
        turmoil::partition_oneway(format!("n{to}"), format!("n{from}"));
        for number in 0..20 {
            leader.write(batch(number, 64)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        turmoil::repair_oneway(format!("n{to}"), format!("n{from}"));
        let last = leader_of(&nodes).await.write(batch(99, 64)).await.unwrap();
        for node in &nodes {
            eventually(|| (node.applied() >= last).then_some(())).await;
        }
        Ok(())
    });
    sim.run().unwrap();
}
