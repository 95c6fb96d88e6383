//! Membership through the cluster service, in simulation: every operation, every refusal.

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Node, batch, cluster_client, eventually, reason,
    scenario::{Partition, leader_of},
    sim::{Nodes, SimPartition, endpoint, running, simulation},
};
use inventory_machine::codec::MACHINE_VERSION;
use jepsen_tests::simulation::net::SimNet;
use openraft::async_runtime::watch::WatchReceiver;
use proto::v1::{self, cluster_client::ClusterClient};
use raft_store::types::NodeId;
use tonic::{Code, Request, transport::Channel};

fn client(node_id: NodeId) -> ClusterClient<Channel> {
    cluster_client(Arc::new(SimNet), &endpoint(node_id))
}

fn member(node_id: NodeId) -> v1::Member {
    v1::Member {
        node_id,
        endpoint: endpoint(node_id),
        ..v1::Member::default()
    }
}

fn init_request(members: &[NodeId]) -> v1::InitRequest {
    v1::InitRequest {
        members: members.iter().copied().map(member).collect(),
    }
}

fn learner(node_id: NodeId) -> v1::AddLearnerRequest {
    v1::AddLearnerRequest {
        node_id,
        endpoint: endpoint(node_id),
    }
}

fn remove(node_id: NodeId, force: bool) -> v1::RemoveRequest {
    v1::RemoveRequest { node_id, force }
}

/// A call that waits at most this long.
fn within<T>(seconds: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

fn ids(members: &[v1::Member], voters: bool) -> Vec<NodeId> {
    members
        .iter()
        .filter(|member| member.voter == voters)
        .map(|member| member.node_id)
        .collect()
}

/// A simulation of `count` nodes of which 1, 2 and 3 have been made a cluster.
fn cluster_of_three(
    seed: u64,
    count: u64,
    story: impl AsyncFnOnce(Vec<Node>, Nodes) + 'static,
) -> turmoil::Sim<'static> {
    let (mut sim, nodes) = simulation(seed, count);
    sim.client("test", async move {
        let running = running(&nodes, count as usize).await;
        client(1).init(init_request(&[1, 2, 3])).await.unwrap();
        story(running, nodes).await;
        Ok(())
    });
    sim
}

#[test]
fn init_makes_one_cluster_once() {
    let (mut sim, nodes) = simulation(3, 4);
    sim.client("test", async move {
        let nodes = running(&nodes, 4).await;

        // Nonsense, absent and wrong members: refused by name, and nothing happens.
        let refused = async |request: v1::InitRequest, code: Code| {
            let error = client(1).init(within(5, request)).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(!nodes[0].raft.is_initialized().await.unwrap());
            error
        };
        refused(init_request(&[]), Code::InvalidArgument).await;
        refused(init_request(&[1, 1]), Code::InvalidArgument).await;
        refused(init_request(&[2, 3]), Code::InvalidArgument).await;
        let mut members = init_request(&[1, 2]);
        members.members[1].endpoint = "n2".to_owned();
        refused(members, Code::InvalidArgument).await;
        let mut members = init_request(&[1, 2]);
        members.members[1].node_id = 9;
        let error = refused(members, Code::FailedPrecondition).await;
        assert_eq!(reason(&error, "").0, "WRONG_NODE");
        let mut members = init_request(&[1, 2]);
        members.members[1].endpoint = "n2:9".to_owned();
        let error = refused(members, Code::FailedPrecondition).await;
        assert_eq!(
            reason(&error, "node_id"),
            ("NODE_UNREACHABLE".to_owned(), "2".to_owned())
        );

        let status = client(4).status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(
            (status.role.as_str(), status.cluster_id.as_str()),
            ("uninitialized", "")
        );

        // Once.
        let made = client(1)
            .init(init_request(&[1, 2, 3]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(made.cluster_id.len(), 32);
        for node_id in [1, 2, 3] {
            let error = client(node_id).init(init_request(&[1, 2, 3])).await.unwrap_err();
            assert_eq!(error.code(), Code::AlreadyExists, "{error}");
        }

        // A cluster does not swallow the members of another.
        let error = client(4).init(init_request(&[4, 1])).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "MEMBER_INITIALIZED");
        assert!(!nodes[3].raft.is_initialized().await.unwrap());

        let status = client(2).status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(ids(&status.members, true), [1, 2, 3]);
        assert_eq!(status.cluster_id, made.cluster_id);
        assert_eq!(status.leader_endpoint, endpoint(status.leader_id));
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn a_learner_is_added_promoted_and_removed_and_every_step_repeats() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let leader = leader_of(&nodes[..3]).await;
        let mut calls = client(leader.identity.node_id());

        // Not the leader: refused with where it is.
        let other = nodes[..3]
            .iter()
            .find(|node| !node.raft.is_leader())
            .unwrap()
            .identity
            .node_id();
        let error = client(other).add_learner(learner(4)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(
            reason(&error, "leader"),
            ("NOT_LEADER".to_owned(), leader.identity.endpoint().to_owned())
        );

        // Absent, mistaken, and taken.
        let absent = v1::AddLearnerRequest {
            node_id: 4,
            endpoint: "n4:9".to_owned(),
        };
        let error = calls.add_learner(within(5, absent)).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "NODE_UNREACHABLE");
        let mistaken = v1::AddLearnerRequest {
            node_id: 7,
            endpoint: endpoint(4),
        };
        assert_eq!(
            reason(&calls.add_learner(mistaken).await.unwrap_err(), "").0,
            "WRONG_NODE"
        );
        let taken = v1::AddLearnerRequest {
            node_id: 2,
            endpoint: endpoint(4),
        };
        assert_eq!(
            reason(&calls.add_learner(taken).await.unwrap_err(), "").0,
            "NODE_ID_USED"
        );
        let taken = v1::AddLearnerRequest {
            node_id: 4,
            endpoint: endpoint(2),
        };
        assert_eq!(
            reason(&calls.add_learner(taken).await.unwrap_err(), "").0,
            "ENDPOINT_USED"
        );
        let early = v1::PromoteRequest { node_ids: vec![4] };
        assert_eq!(
            reason(&calls.promote(early).await.unwrap_err(), "").0,
            "NOT_A_MEMBER"
        );

        let mut last_index = 0;
        for _ in 0..2 {
            let added = calls.add_learner(learner(4)).await.unwrap().into_inner();
            assert_eq!(
                (ids(&added.members, true), ids(&added.members, false)),
                (vec![1, 2, 3], vec![4])
            );
            let fourth = added.members.iter().find(|member| member.node_id == 4).unwrap();
            assert!(fourth.matched_index.is_some() && fourth.heard_ms_ago.is_some());
            assert!(
                last_index == 0 || last_index == added.log_index,
                "the repetition changed nothing"
            );
            last_index = added.log_index;
        }
        for _ in 0..2 {
            let promoted = calls
                .promote(v1::PromoteRequest { node_ids: vec![4] })
                .await
                .unwrap()
                .into_inner();
            assert_eq!(ids(&promoted.members, true), [1, 2, 3, 4]);
        }
        let last = leader.write(batch(7, 8)).await.unwrap();
        eventually(|| (nodes[3].applied() >= last).then_some(())).await;
        assert!(
            nodes[3].identity.cluster_id().is_some(),
            "the newcomer learnt its cluster"
        );

        // Removed, it finds out by itself, and so does a removed leader, which hands over first.
        let removal = nodes[3].removal.clone();
        for _ in 0..2 {
            let removed = calls.remove(remove(4, false)).await.unwrap().into_inner();
            assert_eq!(
                (ids(&removed.members, true), ids(&removed.members, false)),
                (vec![1, 2, 3], vec![])
            );
        }
        eventually(|| *removal.borrow()).await;
        let removal = leader.removal.clone();
        let own = leader.identity.node_id();
        let error = calls.remove(remove(own, false)).await.unwrap_err();
        let (reason, successor) = reason(&error, "leader_id");
        assert_eq!(reason, "NOT_LEADER", "it hands over and says to whom: {error}");
        let successor: NodeId = successor.parse().unwrap();
        assert_ne!(successor, own);
        let removed = client(successor).remove(remove(own, false)).await.unwrap();
        assert_eq!(removed.into_inner().members.len(), 2);
        eventually(|| *removal.borrow()).await;
        let rest: Vec<&Node> = nodes[..3]
            .iter()
            .filter(|node| node.identity.node_id() != own)
            .collect();
        let leader = leader_of(rest.iter().copied()).await;
        leader.write(batch(8, 8)).await.unwrap();
        for node in rest {
            assert_eq!(*node.removal.borrow(), None);
        }
    };
    cluster_of_three(4, 4, story).run().unwrap();
}

#[test]
fn steps_asked_for_at_once_are_made_one_after_the_other() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let leader = leader_of(&nodes[..3]).await;
        let calls = client(leader.identity.node_id());
        let add = async |node_id| {
            let added = calls.clone().add_learner(within(30, learner(node_id))).await;
            added.unwrap().into_inner()
        };
        // Each answer tells how things stand, so the later one, and perhaps both, tells of both.
        let (fourth, fifth) = tokio::join!(add(4), add(5));
        let last = [fourth, fifth].into_iter().max_by_key(|step| step.log_index);
        assert_eq!(ids(&last.unwrap().members, false), [4, 5]);
        let promote = async |node_id| {
            let node_ids = vec![node_id];
            let promote = within(30, v1::PromoteRequest { node_ids });
            calls.clone().promote(promote).await.unwrap().into_inner()
        };
        let (fourth, fifth) = tokio::join!(promote(4), promote(5));
        let last = [fourth, fifth].into_iter().max_by_key(|step| step.log_index);
        assert_eq!(ids(&last.unwrap().members, true), [1, 2, 3, 4, 5]);
    };
    cluster_of_three(9, 5, story).run().unwrap();
}

#[test]
fn who_cannot_apply_what_the_log_holds_does_not_join() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let leader = leader_of(&nodes[..3]).await;
        let mut calls = client(leader.identity.node_id());
        let needed = MACHINE_VERSION + 1;
        leader.state.need_version(needed);
        let error = calls.add_learner(learner(4)).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error, "").0.as_str()),
            (Code::FailedPrecondition, "MACHINE_VERSION")
        );
        let versions =
            format!("version {needed} are in this cluster's log, and node 4 knows up to {MACHINE_VERSION}");
        assert!(error.message().contains(&versions), "{error}");
        assert_eq!(nodes[3].identity.cluster_id(), None, "it was not enlisted");

        // Before anything new was used, an older node may come and go.
        leader.state.need_version(MACHINE_VERSION);
        let added = calls.add_learner(learner(4)).await.unwrap().into_inner();
        assert_eq!(ids(&added.members, false), [4]);
        // It has told how little it knows, and is no voter once more than that is needed.
        leader.versions.hear(4, MACHINE_VERSION);
        leader.state.need_version(needed);
        let promote = || v1::PromoteRequest { node_ids: vec![4] };
        let error = calls.promote(promote()).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "MACHINE_VERSION");
        let status = calls.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(ids(&status.members, true), [1, 2, 3]);
        let told = |node_id: usize| status.members[node_id - 1].machine_version;
        assert_eq!(
            (told(4), status.machine_version),
            (Some(MACHINE_VERSION.into()), MACHINE_VERSION.into())
        );
        leader.versions.hear(4, needed);
        let promoted = calls.promote(promote()).await.unwrap().into_inner();
        assert_eq!(ids(&promoted.members, true), [1, 2, 3, 4]);
    };
    cluster_of_three(14, 4, story).run().unwrap();
}

#[test]
fn removal_never_costs_the_quorum_unasked() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let partition = SimPartition { node_count: 3 };
        let leader = leader_of(&nodes).await;
        let followers: Vec<NodeId> = nodes
            .iter()
            .map(|node| node.identity.node_id())
            .filter(|id| *id != leader.identity.node_id())
            .collect();
        let (dead, alive) = (followers[0], followers[1]);
        let mut calls = client(leader.identity.node_id());
        partition.set(dead, true);
        eventually(|| {
            let heartbeat = leader.raft.metrics().borrow_watched().heartbeat.clone()?;
            let heard = heartbeat.get(&dead).cloned().flatten()?;
            (openraft::Instant::elapsed(&*heard) > Duration::from_millis(2_100)).then_some(())
        })
        .await;

        // Without the one that is alive, leader and dead node are two: one is no quorum of them.
        let error = calls.remove(remove(alive, false)).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error, "").0.as_str()),
            (Code::FailedPrecondition, "QUORUM_AT_RISK")
        );
        // A dead successor would stop all writes for nothing.
        let error = calls
            .transfer_leader(v1::TransferLeaderRequest { node_id: dead })
            .await
            .unwrap_err();
        assert_eq!(reason(&error, "").0, "NODE_UNREACHABLE");
        let term = leader.raft.metrics().borrow_watched().current_term;
        leader.write(batch(1, 8)).await.unwrap();
        assert_eq!(leader.raft.metrics().borrow_watched().current_term, term);
        // A dead learner is no voter to be.
        let error = calls
            .promote(within(3, v1::PromoteRequest { node_ids: vec![9] }))
            .await
            .unwrap_err();
        assert_eq!(reason(&error, "").0, "NOT_A_MEMBER");

        // The dead one may go, and then, of two, either; but never the last.
        let removed = calls.remove(remove(dead, false)).await.unwrap().into_inner();
        assert_eq!(removed.members.len(), 2);
        let removed = calls.remove(remove(alive, false)).await.unwrap().into_inner();
        assert_eq!(removed.members.len(), 1);
        let own = leader.identity.node_id();
        let error = calls.remove(remove(own, true)).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "LAST_VOTER");
        leader.write(batch(2, 8)).await.unwrap();

        // The one that was cut off when it was removed learns it on its return.
        let dead = nodes.iter().find(|node| node.identity.node_id() == dead).unwrap();
        let removal = dead.removal.clone();
        partition.set(dead.identity.node_id(), false);
        eventually(|| *removal.borrow()).await;
    };
    cluster_of_three(5, 3, story).run().unwrap();
}

#[test]
fn a_voter_that_answers_but_is_far_behind_makes_no_quorum() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let partition = SimPartition { node_count: 3 };
        let leader = leader_of(&nodes).await;
        let own = leader.identity.node_id();
        let mut followers = nodes.iter().map(|node| node.identity.node_id());
        let (late, near) = (
            followers.find(|id| *id != own).unwrap(),
            followers.find(|id| *id != own).unwrap(),
        );
        let mut calls = client(own);
        // Cut off just now: heard lately, and soon more than a thousand entries behind.
        partition.set(late, true);
        futures::future::try_join_all((0..1_100).map(|_| leader.write(batch(1, 1))))
            .await
            .unwrap();
        let request = within(1, remove(near, false));
        let error = calls.remove(request).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "QUORUM_AT_RISK");
        assert!(
            error.message().contains("1 of 2 voters have caught up"),
            "{error}"
        );
        partition.set(late, false);
        eventually(|| {
            let metrics = leader.raft.metrics().borrow_watched().clone();
            let matched = metrics.replication?.get(&late).copied().flatten()?;
            (Some(matched.index) == metrics.last_log_index).then_some(())
        })
        .await;
        let removed = calls.remove(remove(near, false)).await.unwrap().into_inner();
        assert_eq!(removed.members.len(), 2);
        leader.write(batch(2, 8)).await.unwrap();
    };
    cluster_of_three(9, 3, story).run().unwrap();
}

#[test]
fn a_foreign_node_is_not_taken_in() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        client(4).init(init_request(&[4])).await.unwrap();
        let leader = leader_of(&nodes[..3]).await;
        let mut calls = client(leader.identity.node_id());
        let before = calls.status(v1::StatusRequest {}).await.unwrap().into_inner();
        let error = calls.add_learner(learner(4)).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error, "").0.as_str()),
            (Code::FailedPrecondition, "WRONG_CLUSTER")
        );
        let after = calls.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(after.membership_index, before.membership_index);
        let error = calls
            .promote(v1::PromoteRequest { node_ids: vec![] })
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    };
    cluster_of_three(6, 4, story).run().unwrap();
}

#[test]
fn leadership_goes_where_it_is_sent() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let leader = leader_of(&nodes[..3]).await;
        let own = leader.identity.node_id();
        let mut calls = client(own);
        let term = leader.raft.metrics().borrow_watched().current_term;
        let stays = calls
            .transfer_leader(v1::TransferLeaderRequest { node_id: own })
            .await
            .unwrap();
        assert_eq!(stays.into_inner().term, term, "it leads already");
        calls.add_learner(learner(4)).await.unwrap();
        let error = calls
            .transfer_leader(v1::TransferLeaderRequest { node_id: 4 })
            .await
            .unwrap_err();
        assert_eq!(reason(&error, "").0, "NOT_A_VOTER");
        // Zero: whoever is furthest ahead.
        let handed = calls
            .transfer_leader(v1::TransferLeaderRequest { node_id: 0 })
            .await
            .unwrap();
        assert!(handed.into_inner().term > term);
        let leader = leader_of(&nodes[..3]).await;
        assert_ne!(leader.identity.node_id(), own);
        leader.write(batch(1, 8)).await.unwrap();
    };
    cluster_of_three(7, 4, story).run().unwrap();
}

#[test]
fn the_state_hash_waits_for_its_index() {
    let story = async |nodes: Vec<Node>, _: Nodes| {
        let leader = leader_of(&nodes).await;
        let last = leader.write(batch(1, 8)).await.unwrap();
        let mut digests = Vec::new();
        for node_id in [1, 2, 3] {
            let hash = client(node_id)
                .state_hash(v1::StateHashRequest { log_index: last })
                .await
                .unwrap();
            digests.push((hash.get_ref().log_index, hash.get_ref().digest.clone()));
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        let future = v1::StateHashRequest {
            log_index: last + 100,
        };
        let error = client(2).state_hash(within(1, future)).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(reason(&error, "applied_index").0, "INDEX_NOT_APPLIED");
        let past = v1::StateHashRequest { log_index: 1 };
        let error = client(2).state_hash(past).await.unwrap_err();
        assert_eq!(
            reason(&error, "first_index"),
            ("INDEX_TOO_OLD".to_owned(), "2".to_owned())
        );
    };
    cluster_of_three(8, 3, story).run().unwrap();
}
