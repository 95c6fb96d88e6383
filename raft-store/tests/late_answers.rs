//! What proves a lead when answers are late: a real leader among peers that answer when they are told to. In simulation.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    Disk, batch, eventually,
    sim::{PORT, endpoint, host},
    start,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jepsen_tests::simulation::net::SimNet;
use openraft::{BasicNode, ReadPolicy, raft::VoteResponse};
use proto::internal as wire;
use raft_store::{
    convert,
    raft_config::RaftOptions,
    runtime,
    seams::Net,
    service,
    types::{BatchBytes, NodeId},
};
use tokio::{sync::watch, time::sleep};
use tonic::{Request, Response, Status, Streaming};

type Answered<T> = Result<Response<T>, Status>;

/// A follower that votes for everybody and accepts everything, and says so of entries and of requests without any only
/// while it may.
#[derive(Clone)]
struct Follower {
    tells_of_entries: Arc<watch::Sender<bool>>,
    tells_of_the_rest: Arc<watch::Sender<bool>>,
}

impl Follower {
    fn new() -> Self {
        Follower {
            tells_of_entries: Arc::new(watch::Sender::new(true)),
            tells_of_the_rest: Arc::new(watch::Sender::new(true)),
        }
    }

    fn holds_its_tongue(&self, holds: bool) {
        self.tells_of_entries.send_replace(!holds);
        self.tells_of_the_rest.send_replace(!holds);
    }
}

fn granted(request: Request<wire::VoteRequest>) -> Answered<wire::VoteResponse> {
    let request = convert::vote_request_in(request.into_inner()).unwrap();
    let response = VoteResponse::new(request.vote, None, true);
    Ok(Response::new(convert::vote_response_out(&response)))
}

fn not_asked<T>() -> Answered<T> {
    Err(Status::unimplemented("votes and appends only"))
}

#[tonic::async_trait]
impl wire::raft_server::Raft for Follower {
    type AppendStream = BoxStream<'static, Result<wire::AppendResponse, Status>>;
    async fn append(&self, request: Request<Streaming<wire::AppendRequest>>) -> Answered<Self::AppendStream> {
        let answers = stream::unfold(
            (request.into_inner(), self.clone()),
            |(mut requests, follower)| async {
                let request = requests.message().await.ok().flatten()?;
                let gate = match request.entries.is_empty() {
                    true => &follower.tells_of_the_rest,
                    false => &follower.tells_of_entries,
                };
                let _ = gate.subscribe().wait_for(|open| *open).await;
                let last = request.entries.last().and_then(|entry| entry.log_id);
                let log_id = last.or(request.prev_log_id);
                let result = wire::append_response::Result::Matched(wire::Matched { log_id });
                let response = wire::AppendResponse {
                    result: Some(result),
                    conflict_log_id: None,
                };
                Some((Ok(response), (requests, follower)))
            },
        );
        Ok(Response::new(answers.boxed()))
    }
    async fn vote(&self, request: Request<wire::VoteRequest>) -> Answered<wire::VoteResponse> {
        granted(request)
    }
    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Answered<wire::VoteResponse> {
        granted(request)
    }
    async fn install_snapshot(
        &self,
        _: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Answered<wire::SnapshotResponse> {
        not_asked()
    }
    async fn transfer_leader(
        &self,
        _: Request<wire::TransferLeaderRequest>,
    ) -> Answered<wire::TransferLeaderResponse> {
        not_asked()
    }
    async fn exchange_clock(&self, _: Request<wire::ClockReport>) -> Answered<wire::ClockReport> {
        not_asked()
    }
    async fn enlist(&self, _: Request<wire::EnlistRequest>) -> Answered<wire::EnlistResponse> {
        not_asked()
    }
}

/// An entry is on its way to both followers when a read begins, and neither says anything more before the answers to that
/// entry: they prove nothing of the time since. Once the first has committed it, news of that are ready for the second,
/// and openraft takes its answer to the entry for one to those: by its own record the lead is confirmed.
#[test]
fn answers_to_what_was_sent_before_a_read_do_not_confirm_the_lead_for_it() {
    runtime::seed(17);
    let mut sim = turmoil::Builder::new()
        .rng_seed(17)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2))
        .simulation_duration(Duration::from_secs(60))
        .tcp_capacity(1_024)
        .build();
    let followers = [Follower::new(), Follower::new()];
    for (node_id, follower) in (2..).zip(followers.clone()) {
        sim.host(host(node_id), move || {
            let follower = follower.clone();
            async move {
                let listener = SimNet.listen(&format!("0.0.0.0:{PORT}")).await?;
                let server = service::server().add_service(wire::raft_server::RaftServer::new(follower));
                server.serve_with_incoming(service::incoming(listener)).await?;
                Ok(())
            }
        });
    }
    sim.client(host(1), async move {
        let listen = format!("0.0.0.0:{PORT}");
        let options = RaftOptions::default();
        let (node, serving) = start(
            1,
            &listen,
            &endpoint(1),
            Arc::new(SimNet),
            Disk::default(),
            options,
        )
        .await;
        tokio::spawn(serving);
        node.identity.enlist(0xaa).await?;
        let voters = [1, 2, 3];
        let members: BTreeMap<NodeId, BasicNode> = voters
            .map(|id| (id, BasicNode::new(endpoint(id))))
            .into_iter()
            .collect();
        node.raft.initialize(members).await?;
        eventually(|| node.raft.is_leader().then_some(())).await;
        node.write(batch(1, 64)).await?;
        let term = node.raft.as_leader().unwrap().to_committed_leader_id().term;
        let answered = node.peers.answered().clone();
        let quorum = || answered.quorum(1, term, &[voters.into()]).unwrap();
        let passes = || sleep(Duration::from_millis(10));

        let [first, second] = &followers;
        followers
            .iter()
            .for_each(|follower| follower.holds_its_tongue(true));
        let raft = node.raft.clone();
        let entry = tokio::spawn(async move { raft.client_write(BatchBytes(batch(2, 64))).await });
        passes().await;
        let begun = answered.moment();
        let raft = node.raft.clone();
        let read = tokio::spawn(async move { raft.get_read_linearizer(ReadPolicy::ReadIndex).await });
        passes().await;
        assert!(!entry.is_finished() && !read.is_finished() && quorum() < begun);

        first.tells_of_entries.send_replace(true);
        eventually(|| entry.is_finished().then_some(())).await;
        second.tells_of_entries.send_replace(true);
        passes().await;
        assert!(
            read.is_finished(),
            "openraft has mended it: then `Answered` can go"
        );
        assert!(quorum() < begun, "nobody has answered anything since");

        followers
            .iter()
            .for_each(|follower| follower.holds_its_tongue(false));
        eventually(|| (quorum() > begun).then_some(())).await;
        let _ = read.await??;
        Ok(())
    });
    sim.run().unwrap();
}
