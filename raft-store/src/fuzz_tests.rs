//! Every decoder of a node that reads what a disk or the network gave it, under fire: see package `fuzz`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use fuzz::Target;
use inventory_machine::{
    Machine,
    codec::{Batch, BatchEncoder},
    command::{
        Body, ClaimId, Command, CreateSale, Found, NAMESPACE_DEFAULT, OPEN_AT_ONCE, PutDocument, Take,
    },
};
use openraft::{BasicNode, EntryPayload, Membership, entry::RaftEntry};
use prost::Message;
use proto::{internal as wire, v1};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::{
    batcher::frame::Frame,
    convert,
    log_clock::Stamp,
    service::{chain::Chain, prepare::Preparer, source::Steps},
    storage::{
        disk::{Disk, DiskFile, OpenMode},
        disk_sim::SimDisk,
        log::frame::{
            self, Decoded, HEADER_BYTES, Head, Header, Kind, decode_entries, decode_log_id, encode_entry,
            encode_log_id,
        },
        node_file::{NODE_FILE_NAME, NodeFile},
        rows::{self, Standing},
        snapshot::format,
        vote::{VOTE_FILE_NAME, VoteFile},
    },
    types::{BatchBytes, Entry, LogId, StoredMembership, Vote},
};

pub(crate) const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

fn log_id(index: u64) -> LogId {
    rows::log_id(3, 2, index)
}

fn membership() -> Membership<u64, BasicNode> {
    let node = |addr: &str| BasicNode { addr: addr.into() };
    let nodes = BTreeMap::from([(1, node("a:1")), (2, node("[::1]:2")), (9, node(""))]);
    Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([1])], nodes).unwrap()
}

fn entries() -> Vec<Entry> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(BatchBytes(Bytes::from_static(b"a batch"))),
        EntryPayload::Membership(membership()),
    ];
    (7..)
        .zip(payloads)
        .map(|(index, payload)| Entry::new(log_id(index), payload))
        .collect()
}

fn encoded(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| encode_entry(entry, &mut bytes));
    bytes
}

/// A frame as a segment has it, payload and all.
fn framed(kind: Kind, payload: &[u8], entries: u32) -> Vec<u8> {
    let header = Header {
        kind,
        salt: 5,
        sequence: 6,
        payload_bytes: payload.len() as u32,
        entries,
        first_index: 7,
        synced_upto: 64,
        committed: 8,
        payload_crc: crc32fast::hash(payload),
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn fuzz_log_frames() {
    let mut head = Vec::new();
    Head {
        segment: 1,
        segment_bytes: 64 << 20,
        previous_end: 4_096,
        last: Some(log_id(6)),
        purged: None,
    }
    .encode(&mut head);
    let mut cut = Vec::new();
    encode_log_id(Some(log_id(5)), &mut cut);
    let whole = encoded(&entries());
    let known = [
        framed(Kind::Head, &head, 0),
        framed(Kind::Entries, &whole, 3),
        framed(Kind::Truncate, &cut, 0),
        framed(Kind::Mark, &[], 0),
    ];
    let mend = |bytes: &mut Vec<u8>| {
        if bytes.len() >= HEADER_BYTES {
            let payload = crc32fast::hash(&bytes[HEADER_BYTES..]);
            bytes[56..60].copy_from_slice(&payload.to_le_bytes());
            let header = crc32fast::hash(&bytes[..60]);
            bytes[60..64].copy_from_slice(&header.to_le_bytes());
        }
    };
    Target::new("log_frames", PACKAGE)
        .known(known)
        .run_mended(mend, |bytes| {
            let Decoded::Header(header) = Header::decode(bytes) else {
                return "no header".to_owned();
            };
            assert_eq!(
                Header::decode(&header.encode()),
                Decoded::Header(header),
                "a header comes back"
            );
            let payload = Bytes::copy_from_slice(&bytes[HEADER_BYTES..]);
            // Every kind of payload, whatever the header says: only the checksums stand between.
            let head = Head::decode(&payload).is_some();
            let id = decode_log_id(&payload).is_some();
            let entries = decode_entries(&payload, header.entries, header.first_index);
            if let Some(entries) = &entries {
                let again = Bytes::from(encoded(entries));
                assert_eq!(
                    decode_entries(&again, header.entries, header.first_index).as_ref(),
                    Some(entries)
                );
            }
            let kinds: Vec<_> = entries
                .iter()
                .flatten()
                .map(|entry| std::mem::discriminant(&entry.payload))
                .collect();
            format!(
                "{:?} {head} {id} {kinds:?} {}",
                header.kind,
                frame::frame_bytes(payload.len()) > 64
            )
        });
}

/// A disk with one file.
pub(crate) fn disk_with(name: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("d")).unwrap();
    file(&disk, name, OpenMode::Create).write_at(0, bytes).unwrap();
    disk
}

pub(crate) fn file(disk: &SimDisk, name: &str, mode: OpenMode) -> Box<dyn DiskFile> {
    disk.open(&Path::new("d").join(name), mode).unwrap()
}

/// What a function leaves in a file.
pub(crate) fn written(name: &str, write: impl FnOnce(&SimDisk)) -> Vec<u8> {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("d")).unwrap();
    write(&disk);
    disk.bytes(&Path::new("d").join(name)).unwrap()
}

/// An error as an answer.
pub(crate) fn said<T>(result: Result<T, impl std::fmt::Display>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

#[test]
fn fuzz_vote_file() {
    let dir = Path::new("d");
    let none = written(VOTE_FILE_NAME, |disk| VoteFile::create(disk, dir).unwrap());
    let some = written(VOTE_FILE_NAME, |disk| {
        VoteFile::create(disk, dir).unwrap();
        let mut file = VoteFile::open(disk, dir).unwrap();
        file.save(Vote::new(7, 2)).unwrap();
        file.save(Vote::new_committed(7, 2)).unwrap();
    });
    let mend = |bytes: &mut Vec<u8>| {
        for slot in [0, 4_096] {
            if let Some(record) = bytes.get_mut(slot..slot + 40) {
                let crc = crc32fast::hash(&record[..36]);
                record[36..].copy_from_slice(&crc.to_le_bytes());
            }
        }
    };
    Target::new("vote_file", PACKAGE)
        .known([none, some])
        .run_mended(mend, |bytes| {
            let disk = disk_with(VOTE_FILE_NAME, bytes);
            let opened = VoteFile::open(&disk, dir);
            if let Ok(opened) = &opened {
                // Opened and mended, it says the same again.
                assert_eq!(VoteFile::open(&disk, dir).unwrap().vote(), opened.vote());
            }
            said(opened)
        });
}

#[test]
fn fuzz_node_file() {
    let dir = Path::new("d");
    let known = [None, Some([7; 16])].map(|cluster_id| {
        let node = NodeFile {
            node_id: 3,
            cluster_id,
            founded: false,
        };
        written(NODE_FILE_NAME, |disk| node.store(disk, dir).unwrap())
    });
    let mend = |bytes: &mut Vec<u8>| {
        if bytes.len() >= 44 {
            let crc = crc32fast::hash(&bytes[..40]);
            bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        }
    };
    Target::new("node_file", PACKAGE)
        .known(known)
        .run_mended(mend, |bytes| {
            let disk = disk_with(NODE_FILE_NAME, bytes);
            let loaded = NodeFile::load(&disk, dir);
            if let Ok(Some(node)) = &loaded {
                node.store(&disk, dir).unwrap();
                assert_eq!(NodeFile::load(&disk, dir).unwrap().as_ref(), Some(node));
            }
            said(loaded)
        });
}

/// A machine with rows of every kind.
pub(crate) fn machine() -> Machine {
    let mut encoder = BatchEncoder::new();
    let sale = encoder.sale(NAMESPACE_DEFAULT, "hot");
    let create = CreateSale {
        sale,
        name: "Hot",
        units_total: 3,
        per_user_units_max: 1,
        hold_ms: 180_000,
        checkout_max_ms: 600_000,
        opens_at_ms: OPEN_AT_ONCE,
        closes_at_ms: 0,
        price_minor: 4_900,
        currency: *b"EUR",
        claims_max: 0,
    };
    let document = PutDocument {
        document: b"orders/1",
        body: b"{}",
        version_expected: 0,
        fencing_token: 0,
        ttl_ms: 60_000,
    };
    let found = Found {
        cluster_id: 0xfeed,
        secret: 3,
        incarnation: 1,
    };
    let take = Take {
        sale,
        user: 7,
        quantity: 1,
    };
    let bodies = [
        Body::Found(found),
        Body::CreateSale(create),
        Body::Claim(take),
        Body::PutDocument(document),
    ];
    for (key, body) in (1..).zip(bodies) {
        encoder.push(&Command {
            follows: false,
            principal: 1,
            key,
            not_after_ms: 60_000,
            body,
        });
    }
    let bytes = encoder.finish(1_000, 1_000);
    let mut machine = Machine::default();
    machine.apply(1, 3, &Batch::parse(&bytes).unwrap()).unwrap();
    let made = machine.sales(NAMESPACE_DEFAULT, None, usize::MAX)[0].claims_made;
    assert!(made == 1 && machine.founding().is_some());
    machine
}

pub(crate) fn standing(machine: &Machine) -> Standing {
    Standing {
        last_log_id: Some(log_id(machine.applied_index())),
        membership: StoredMembership::new(Some(log_id(1)), membership()),
        node_id_highest: 17,
        cluster_id: machine.founding().map_or(0, |found| found.cluster_id),
        row_count: machine.freeze().row_count(),
        digest: machine.digest(),
    }
}

#[test]
fn fuzz_standing_rows() {
    let standing = standing(&machine());
    let mut alone = Vec::new();
    standing.encode(&mut alone);
    let known = [
        alone,
        rows::encode_complete(41, &standing),
        rows::encode_writing(7),
    ];
    Target::new("standing_rows", PACKAGE).known(known).run_mended(
        |bytes| reseal(bytes),
        |bytes| {
            let alone = Standing::decode(bytes);
            if let Ok(standing) = &alone {
                let mut again = Vec::new();
                standing.encode(&mut again);
                assert_eq!(Standing::decode(&again).as_ref(), Ok(standing));
            }
            format!(
                "{} / {} / {}",
                said(alone),
                said(rows::decode_complete(bytes)),
                said(rows::decode_writing(bytes))
            )
        },
    );
}

fn reseal(bytes: &mut [u8]) {
    if let Some(body) = bytes.len().checked_sub(8) {
        let sum = xxh3_64(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn fuzz_snapshot_file() {
    let machine = machine();
    let (frozen, standing) = (machine.freeze(), standing(&machine));
    let whole = written("s", |disk| {
        let file = file(disk, "s", OpenMode::Create);
        format::write(&*file, &frozen, &standing).unwrap();
    });
    let mend = |bytes: &mut Vec<u8>| {
        if let Some(body) = bytes.len().checked_sub(16) {
            let sum = xxh3_128(&bytes[..body]);
            bytes[body..].copy_from_slice(&sum.to_be_bytes());
        }
    };
    let disk = disk_with("s", &whole);
    let loaded = format::load(&*file(&disk, "s", OpenMode::Read));
    assert!(loaded.is_ok(), "what is mutated is refused as it is");
    Target::new("snapshot_file", PACKAGE)
        .known([whole])
        .run_mended(mend, |bytes| {
            let disk = disk_with("s", bytes);
            let file = file(&disk, "s", OpenMode::Read);
            let checked = format::check(&*file).map(|contents| contents.bytes);
            let loaded = format::load(&*file).map(|(contents, _)| contents.bytes);
            assert!(
                checked.is_ok() || loaded.is_err(),
                "what does not check does not load"
            );
            format!("{checked:?} {loaded:?}")
        });
}

/// The message if the bytes are one, and what its reading said.
fn read<M: Message + Default, T, E: std::fmt::Display>(
    bytes: &[u8],
    take_in: impl FnOnce(M) -> Result<T, E>,
) -> String {
    match M::decode(bytes) {
        Ok(message) => said(take_in(message)),
        Err(_) => "-".to_owned(),
    }
}

#[test]
fn fuzz_raft_messages() {
    let vote = Some(wire::Vote {
        term: 3,
        node_id: 2,
        committed: true,
    });
    let id = |index| {
        Some(wire::LogId {
            term: 3,
            node_id: 2,
            index,
        })
    };
    let append = wire::AppendRequest {
        vote,
        prev_log_id: id(6),
        leader_commit: id(6),
        entries: entries().into_iter().map(convert::entry_out).collect(),
    };
    let ask = wire::VoteRequest {
        vote,
        last_log_id: id(6),
        leadership_transfer: true,
    };
    let header = wire::SnapshotChunk {
        part: Some(wire::snapshot_chunk::Part::Header(wire::SnapshotHeader {
            vote,
            last_log_id: id(6),
            membership_log_id: id(5),
            membership: Some(convert::membership_out(&membership())),
            snapshot_id: "s".into(),
            bytes_total: 9,
            checksum: Bytes::from_static(&[1; 16]),
        })),
    };
    let transfer = wire::TransferLeaderRequest {
        from_leader: vote,
        to_node_id: 1,
        last_log_id: id(6),
    };
    let answer = wire::AppendResponse {
        result: Some(wire::append_response::Result::Matched(wire::Matched {
            log_id: id(6),
        })),
        conflict_log_id: id(5),
    };
    let known = [
        append.encode_to_vec(),
        ask.encode_to_vec(),
        header.encode_to_vec(),
        transfer.encode_to_vec(),
        answer.encode_to_vec(),
    ];
    Target::new("raft_messages", PACKAGE).known(known).run(|bytes| {
        let snapshot = |chunk: wire::SnapshotChunk| match chunk.part {
            Some(wire::snapshot_chunk::Part::Header(header)) => {
                convert::snapshot_header_in(header).map(|_| ())
            }
            _ => Ok(()),
        };
        [
            read(bytes, convert::append_in),
            read(bytes, convert::vote_request_in),
            read(bytes, convert::vote_response_in),
            read(bytes, snapshot),
            read(bytes, convert::transfer_in),
            read(bytes, |answer| {
                convert::appended_in(answer, Some(log_id(5)), Some(log_id(6)))
            }),
        ]
        .join(" / ")
    });
}

#[test]
fn fuzz_commands() {
    let take = v1::Take {
        sale_id: "hot".into(),
        user: "alice".into(),
        quantity: 2,
    };
    let settle = v1::Settle {
        claim_id: ClaimId([7; 24]).to_string(),
        fencing_token: 9,
    };
    use v1::command::Body;
    let bodies = [
        Body::Claim(take.clone()),
        Body::Decrement(take),
        Body::Confirm(settle),
        Body::CreateSale(v1::CreateSale {
            sale_id: "hot".into(),
            name: "Hot".into(),
            units_total: 9,
            currency: "EUR".into(),
            ..v1::CreateSale::default()
        }),
        Body::Restock(v1::SaleUnits {
            sale_id: "hot".into(),
            units: 9,
        }),
        Body::PutDocument(v1::PutDocument {
            document: Bytes::from_static(b"orders/o"),
            body: Bytes::from_static(b"{}"),
            ..v1::PutDocument::default()
        }),
        Body::LeaseDocument(v1::LeaseDocument::default()),
        Body::CheckDocument(v1::CheckDocument {
            document: Bytes::from_static(b"orders/o"),
            version_expected: 7,
        }),
    ];
    let commands = bodies.map(|body| v1::Command {
        key: "k".into(),
        principal: "p".into(),
        not_after_ms: 60_000,
        body: Some(body),
    });
    let then = |command: &v1::Command| v1::Command {
        body: Some(Body::Then(Box::new(command.clone()))),
        ..v1::Command::default()
    };
    let chain = v1::SubmitRequest {
        frame_id: 1,
        commands: vec![commands[0].clone(), then(&commands[2]), then(&commands[5])],
        traces: Vec::new(),
    };
    let resolve = v1::ResolveRequest {
        sale_id: "hot".into(),
        operation: v1::Operation::Claim as i32,
        key: "k".into(),
        principal: "p".into(),
        ..v1::ResolveRequest::default()
    };
    let frame = v1::SubmitRequest {
        frame_id: 1,
        commands: commands.to_vec(),
        traces: vec![v1::Trace {
            command: 1,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        }],
    };
    let known = commands
        .iter()
        .map(|command| {
            v1::SubmitRequest {
                frame_id: 1,
                commands: vec![command.clone()],
                traces: Vec::new(),
            }
            .encode_to_vec()
        })
        .chain([
            frame.encode_to_vec(),
            chain.encode_to_vec(),
            resolve.encode_to_vec(),
        ]);
    let preparer = Preparer {
        secret: 7,
        now: Stamp {
            log_time_ms: 1_000,
            wall_time_ms: 1_000,
        },
    };
    Target::new("commands", PACKAGE).known(known).run(|bytes| {
        let mut answers = Vec::new();
        if let Ok(request) = v1::SubmitRequest::decode(bytes) {
            let mut frame = Frame::default();
            let step = Steps::of(&request.traces).of_command(1);
            answers.extend(step.map(|_| "part of a step".to_owned()));
            let mut chain = Chain::default();
            for command in request.commands.into_iter().take(512) {
                let told = chain.next(command).map_err(|told| format!("{told:?}"));
                let entered = told.map(|(command, follows)| preparer.add(command, follows, &mut frame));
                chain.went_on(matches!(entered, Ok(Ok(()))));
                answers.push(match entered {
                    Ok(entered) => said(entered),
                    Err(told) => told,
                });
            }
            into_the_log(&frame);
        }
        if let Ok(request) = v1::ResolveRequest::decode(bytes) {
            let resolved = preparer.resolve(&request, Some(1));
            if let Ok(frame) = &resolved {
                into_the_log(frame);
            }
            answers.push(said(resolved));
        }
        answers.sort();
        answers.dedup();
        answers.join(" / ")
    });
}

/// What was prepared can be logged, read from the log, and applied: nothing from outside gets that far and
/// then stops a node.
fn into_the_log(frame: &Frame) {
    let mut encoder = BatchEncoder::new();
    for command in &frame.commands {
        command.encode(&frame.sales, &mut encoder);
    }
    if frame.commands.is_empty() {
        return;
    }
    let bytes = encoder.finish(1_000, 1_000);
    let batch = Batch::parse(&bytes).unwrap();
    assert!(
        batch.commands().all(|command| command.is_ok()),
        "our own batch is read"
    );
    let mut machine = Machine::default();
    machine.apply(1, 1, &batch).unwrap();
}
