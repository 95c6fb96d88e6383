use openraft::raft::TransferLeaderRequest;
use proptest::prelude::*;
use prost::Message;

use super::*;

fn log_id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: LeaderId { term, node_id: 1 },
        index,
    }
}

fn leader(term: u64) -> Vote {
    Vote::new_committed(term, 1)
}

fn two_sets() -> Membership {
    let nodes = (1..=4).map(|node_id| (node_id, BasicNode::new(format!("n{node_id}:1"))));
    Membership::new(
        vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2])],
        nodes.collect::<BTreeMap<_, _>>(),
    )
    .unwrap()
}

fn request() -> AppendEntriesRequest<TypeConfig> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(BatchBytes(bytes::Bytes::from_static(b"batch"))),
        EntryPayload::Membership(two_sets()),
    ];
    let entries = payloads.into_iter().zip(8..);
    AppendEntriesRequest {
        vote: leader(3),
        prev_log_id: Some(log_id(2, 7)),
        entries: entries
            .map(|(payload, index)| Entry {
                log_id: log_id(3, index),
                payload,
            })
            .collect(),
        leader_commit: Some(log_id(2, 7)),
    }
}

#[test]
fn appends_survive_the_wire_and_batches_are_not_copied() {
    let sent = request();
    let bytes = append_out(sent.clone()).encode_to_vec();
    let frame = bytes::Bytes::from(bytes);
    let received = append_in(wire::AppendRequest::decode(frame.clone()).unwrap()).unwrap();
    assert_eq!(format!("{sent:?}"), format!("{received:?}"));
    let EntryPayload::Normal(BatchBytes(batch)) = &received.entries[1].payload else {
        panic!()
    };
    assert!(
        frame.as_ptr_range().contains(&batch.as_ptr()),
        "the batch lies in the frame it came in"
    );
    let EntryPayload::Membership(membership) = &received.entries[2].payload else {
        panic!()
    };
    assert_eq!(*membership, two_sets());
}

#[test]
fn appends_that_openraft_would_assert_against_are_errors() {
    let broken = |break_it: fn(&mut wire::AppendRequest)| {
        let mut request = append_out(request());
        break_it(&mut request);
        append_in(request).unwrap_err()
    };
    broken(|request| request.vote = None);
    broken(|request| request.vote.as_mut().unwrap().committed = false);
    broken(|request| request.entries[0].log_id = None);
    broken(|request| request.entries[1].log_id.as_mut().unwrap().index += 1);
    broken(|request| request.prev_log_id = None);
    broken(|request| request.prev_log_id.as_mut().unwrap().index = u64::MAX);
    broken(|request| request.entries[2].log_id.as_mut().unwrap().term = 1);
    broken(|request| request.entries[2].log_id.as_mut().unwrap().term = 4);
    broken(|request| request.entries.swap(0, 1));
    broken(|request| {
        let Some(wire::entry::Payload::Membership(membership)) = &mut request.entries[2].payload else {
            panic!()
        };
        membership.nodes.remove(0);
    });
    broken(|request| {
        let Some(wire::entry::Payload::Membership(membership)) = &mut request.entries[2].payload else {
            panic!()
        };
        membership.configs[1].node_ids.clear();
    });
}

#[test]
fn a_peer_can_only_answer_what_it_was_asked() {
    let (prev, last) = (Some(log_id(2, 7)), Some(log_id(3, 10)));
    let through = |answer: StreamAppendResult<TypeConfig>| appended_in(appended_out(answer), prev, last);
    assert_eq!(through(Ok(last)), Ok(Ok(last)));
    let conflict = Err(StreamAppendError::Conflict(log_id(2, 7)));
    assert_eq!(through(conflict.clone()), Ok(conflict));
    let higher = Err(StreamAppendError::HigherVote(Vote::new(9, 2)));
    assert_eq!(through(higher.clone()), Ok(higher));
    assert!(
        through(Ok(Some(log_id(3, 11)))).is_err(),
        "matched what was never sent"
    );
    assert!(through(Ok(None)).is_err());
    assert!(through(Err(StreamAppendError::Conflict(log_id(3, 10)))).is_err());
    let empty = wire::AppendResponse {
        result: None,
        conflict_log_id: None,
    };
    assert!(appended_in(empty, prev, last).is_err());
}

#[test]
fn candidates_are_not_leaders_and_leaders_not_candidates() {
    let asked = VoteRequest::new(Vote::new(4, 2), Some(log_id(3, 9)));
    assert_eq!(vote_request_in(vote_request_out(&asked)), Ok(asked));
    let elected = VoteRequest::new(leader(4), None);
    assert!(vote_request_in(vote_request_out(&elected)).is_err());
    let answer = VoteResponse::new(Vote::new(4, 2), Some(log_id(3, 9)), true);
    assert_eq!(vote_response_in(vote_response_out(&answer)), Ok(answer));
    assert!(vote_response_in(wire::VoteResponse::default()).is_err());
    let from_candidate = TransferLeaderRequest::new(Vote::new(4, 1), 2, None);
    assert!(transfer_in(transfer_out(&from_candidate)).is_err());
}

#[test]
fn a_refused_hand_over_says_why() {
    let asked = TransferLeaderRequest::new(leader(4), 2, Some(log_id(4, 20)));
    assert_eq!(transfer_in(transfer_out(&asked)), Ok(asked.clone()));
    let through = |answer| transferred_in(&asked, transferred_out(&asked, answer));
    assert_eq!(through(Ok(())), Ok(Ok(())));
    let changed = Err(TransferLeaderError::VoteChanged {
        expected: leader(4),
        actual: Vote::new(5, 3),
    });
    assert_eq!(through(changed.clone()), Ok(changed));
    let behind = Err(TransferLeaderError::LogNotFlushed {
        expected: Some(log_id(4, 20)),
        actual: Some(log_id(4, 19)),
    });
    assert_eq!(through(behind.clone()), Ok(behind));
    assert!(transferred_in(&asked, wire::TransferLeaderResponse::default()).is_err());
}

#[test]
fn snapshot_headers_survive_and_impossible_ones_are_errors() {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(3, 9)),
        last_membership: StoredMembership::new(Some(log_id(2, 4)), two_sets()),
    };
    let out = || snapshot_header_out(&leader(3), &meta, 1 << 40, 0x1234 << 100);
    let header = snapshot_header_in(out()).unwrap();
    assert_eq!(
        (header.vote, header.bytes_total, header.checksum),
        (leader(3), 1 << 40, 0x1234 << 100)
    );
    assert_eq!(header.meta, meta);
    let broken = |break_it: fn(&mut wire::SnapshotHeader)| {
        let mut header = out();
        break_it(&mut header);
        snapshot_header_in(header).unwrap_err()
    };
    broken(|header| header.vote = None);
    broken(|header| header.vote.as_mut().unwrap().committed = false);
    broken(|header| header.last_log_id = None);
    broken(|header| header.last_log_id.as_mut().unwrap().term = 4);
    broken(|header| header.membership_log_id.as_mut().unwrap().index = 10);
    broken(|header| header.membership = None);
    broken(|header| header.checksum = vec![0; 15].into());
}

proptest! {
    /// Whatever decodes as a message converts or is an error.
    #[test]
    fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::AppendRequest::decode(&bytes[..]) {
            let _ = append_in(message);
        }
        if let Ok(message) = wire::AppendResponse::decode(&bytes[..]) {
            let _ = appended_in(message, None, None);
        }
        if let Ok(message) = wire::SnapshotHeader::decode(&bytes[..]) {
            let _ = snapshot_header_in(message);
        }
        if let Ok(message) = wire::VoteRequest::decode(&bytes[..]) {
            let _ = vote_request_in(message);
        }
        if let Ok(message) = wire::TransferLeaderRequest::decode(&bytes[..]) {
            let _ = transfer_in(message);
        }
    }

    /// A good message with a byte changed anywhere converts or is an error.
    #[test]
    fn no_damaged_append_panics(at in 0_usize..200, with in any::<u8>()) {
        let mut bytes = append_out(request()).encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(message) = wire::AppendRequest::decode(&bytes[..]) {
            let _ = append_in(message);
        }
    }
}
