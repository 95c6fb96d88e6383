//! What the raft service refuses. In simulation.

mod common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use common::{
    Node, raft_client, reason,
    sim::{endpoint, running, simulation, with_one_node},
};
use futures::{StreamExt as _, stream};
use jepsen_tests::simulation::net::SimNet;
use proto::internal as wire;
use raft_store::network::{METADATA_CLUSTER, METADATA_TARGET};
use tonic::{Code, Request};

/// A cluster's id, as it is written.
const ENLISTED: &str = "000000000000000000000000000000aa";

fn meant<T>(message: T, target: &'static str, cluster: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(METADATA_TARGET, target.parse().unwrap());
    request
        .metadata_mut()
        .insert(METADATA_CLUSTER, cluster.parse().unwrap());
    request
}

fn vote(term: u64) -> wire::Vote {
    wire::Vote {
        term,
        node_id: 9,
        committed: true,
    }
}

#[test]
fn calls_for_others_and_from_strangers_move_nothing() {
    with_one_node(11, async |node: Node| {
        let mut raft = raft_client(Arc::new(SimNet), &endpoint(1));
        let candidate = wire::Vote {
            committed: false,
            ..vote(99)
        };
        let ask = wire::VoteRequest {
            vote: Some(candidate),
            ..wire::VoteRequest::default()
        };
        let error = raft.vote(meant(ask, "2", "")).await.unwrap_err();
        assert_eq!(
            reason(&error, "target"),
            ("WRONG_NODE".to_owned(), "2".to_owned())
        );
        assert!(
            error.message().contains("node \"2\"") && error.message().contains("node 1"),
            "{error}"
        );
        let error = raft.vote(Request::new(ask)).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error, "").0.as_str()),
            (Code::FailedPrecondition, "WRONG_NODE")
        );
        let error = raft.pre_vote(meant(ask, "1", "bb")).await.unwrap_err();
        assert_eq!(
            reason(&error, "theirs"),
            ("WRONG_CLUSTER".to_owned(), "bb".to_owned())
        );
        let append = stream::iter([wire::AppendRequest {
            vote: Some(vote(99)),
            ..Default::default()
        }]);
        let error = raft.append(meant(append, "1", "bb")).await.unwrap_err();
        assert_eq!(reason(&error, "").0, "WRONG_CLUSTER");
        let report = wire::ClockReport::default();
        assert_eq!(
            raft.exchange_clock(meant(report, "7", ""))
                .await
                .unwrap_err()
                .code(),
            Code::FailedPrecondition
        );
        assert_eq!(node.clock.0.load(Ordering::Relaxed), 0);
        assert_eq!(
            openraft::async_runtime::watch::WatchReceiver::borrow_watched(&node.raft.metrics()).current_term,
            0
        );

        // The same vote, meant for it: taken.
        let granted = raft.vote(meant(ask, "1", "")).await.unwrap().into_inner();
        assert!(granted.granted);
        let heard = node
            .peers
            .exchange_clock(1, &endpoint(1), report, Duration::from_secs(1))
            .await
            .unwrap();
        assert_eq!(heard, report);
        assert_eq!(node.clock.0.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn malformed_messages_are_answered_and_the_node_lives() {
    with_one_node(12, async |node: Node| {
        let mut raft = raft_client(Arc::new(SimNet), &endpoint(1));
        let invalid = |error: tonic::Status| {
            assert_eq!(
                (error.code(), reason(&error, "").0.as_str()),
                (Code::InvalidArgument, "MALFORMED")
            );
        };
        invalid(
            raft.vote(meant(wire::VoteRequest::default(), "1", ""))
                .await
                .unwrap_err(),
        );
        invalid(
            raft.transfer_leader(meant(wire::TransferLeaderRequest::default(), "1", ""))
                .await
                .unwrap_err(),
        );

        // A good append is answered before the bad one after it ends the stream.
        let good = wire::AppendRequest {
            vote: Some(vote(1)),
            ..Default::default()
        };
        let gap = wire::Entry {
            log_id: Some(wire::LogId {
                term: 1,
                node_id: 9,
                index: 5,
            }),
            payload: None,
        };
        let bad = wire::AppendRequest {
            vote: Some(vote(1)),
            entries: vec![gap],
            ..Default::default()
        };
        let appends = stream::iter([good.clone(), bad, good]);
        let mut answers = raft.append(meant(appends, "1", "")).await.unwrap().into_inner();
        assert!(matches!(
            answers.message().await.unwrap().unwrap().result,
            Some(wire::append_response::Result::Matched(_))
        ));
        invalid(answers.message().await.unwrap_err());

        // Snapshots: headless, too long, too short, damaged, of a leader of the past.
        use wire::snapshot_chunk::Part;
        let part = |part| wire::SnapshotChunk { part: Some(part) };
        let header = |bytes_total| {
            part(Part::Header(wire::SnapshotHeader {
                vote: Some(vote(1)),
                last_log_id: Some(wire::LogId {
                    term: 1,
                    node_id: 9,
                    index: 3,
                }),
                membership: Some(wire::Membership::default()),
                bytes_total,
                checksum: vec![0; 16].into(),
                ..wire::SnapshotHeader::default()
            }))
        };
        let data = |bytes| part(Part::Data(Bytes::from(vec![0; bytes])));
        for parts in [
            vec![],
            vec![data(1)],
            vec![header(1), header(1)],
            vec![header(1), data(2)],
            vec![header(3), data(2)],
            vec![header(1 << 30), data((256 << 10) + 1)],
        ] {
            invalid(
                raft.install_snapshot(meant(stream::iter(parts), "1", ""))
                    .await
                    .unwrap_err(),
            );
        }
        let damaged = raft
            .install_snapshot(meant(stream::iter([header(1), data(1)]), "1", ""))
            .await
            .unwrap_err();
        assert_eq!(reason(&damaged, "").0, "SNAPSHOT_DAMAGED");
        assert_eq!(node.state.snapshots_installed(), 0);
        let newer = wire::AppendRequest {
            vote: Some(vote(7)),
            ..Default::default()
        };
        let answers = raft
            .append(meant(stream::iter([newer]), "1", ""))
            .await
            .unwrap()
            .into_inner();
        assert!(answers.all(async |answer| answer.is_ok()).await);
        let old = raft
            .install_snapshot(meant(stream::iter([header(1), data(1)]), "1", ""))
            .await
            .unwrap();
        assert_eq!(
            old.into_inner().vote,
            Some(vote(7)),
            "a leader of the past hears of the present one"
        );
        assert_eq!(node.state.snapshots_installed(), 0);
    });
}

#[test]
fn an_empty_directory_takes_part_in_nothing_until_it_is_enlisted() {
    let (mut sim, nodes) = simulation(17, 1);
    sim.client("test", async move {
        let node = running(&nodes, 1).await.remove(0);
        let mut raft = raft_client(Arc::new(SimNet), &endpoint(1));
        let candidate = wire::Vote {
            committed: false,
            ..vote(99)
        };
        let ask = wire::VoteRequest {
            vote: Some(candidate),
            ..wire::VoteRequest::default()
        };
        let append = || {
            stream::iter([wire::AppendRequest {
                vote: Some(vote(99)),
                ..Default::default()
            }])
        };
        for cluster in ["", ENLISTED] {
            let refused = [
                raft.vote(meant(ask, "1", cluster)).await.unwrap_err(),
                raft.pre_vote(meant(ask, "1", cluster)).await.unwrap_err(),
                raft.append(meant(append(), "1", cluster)).await.unwrap_err(),
                raft.install_snapshot(meant(stream::iter([]), "1", cluster))
                    .await
                    .unwrap_err(),
                raft.transfer_leader(meant(Default::default(), "1", cluster))
                    .await
                    .unwrap_err(),
                raft.exchange_clock(meant(Default::default(), "1", cluster))
                    .await
                    .unwrap_err(),
            ];
            for error in refused {
                assert_eq!(
                    reason(&error, "node"),
                    ("NOT_ENLISTED".to_owned(), "1".to_owned())
                );
                assert!(error.message().contains("remove node 1"), "{error}");
            }
        }
        let term =
            openraft::async_runtime::watch::WatchReceiver::borrow_watched(&node.raft.metrics()).current_term;
        assert_eq!((term, node.identity.cluster_id()), (0, None), "nothing was moved");

        let mut enlist = async |target, cluster_id: &str| {
            let cluster_id = cluster_id.to_owned();
            raft.enlist(meant(wire::EnlistRequest { cluster_id }, target, ""))
                .await
        };
        for nonsense in [
            "",
            "aa",
            "0",
            &ENLISTED.to_uppercase(),
            &"0".repeat(32),
            &"f".repeat(33),
        ] {
            let error = enlist("1", nonsense).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{nonsense:?}: {error}");
        }
        assert_eq!(
            reason(&enlist("2", ENLISTED).await.unwrap_err(), "").0,
            "WRONG_NODE"
        );
        assert_eq!(node.identity.cluster_id(), None);
        for _ in 0..2 {
            enlist("1", ENLISTED).await.unwrap();
        }
        let error = enlist("1", &ENLISTED.replace('a', "b")).await.unwrap_err();
        assert_eq!(
            reason(&error, "ours"),
            ("WRONG_CLUSTER".to_owned(), ENLISTED.to_owned())
        );
        assert!(
            raft.vote(meant(ask, "1", ENLISTED))
                .await
                .unwrap()
                .into_inner()
                .granted
        );
        Ok(())
    });
    sim.run().unwrap();
}
