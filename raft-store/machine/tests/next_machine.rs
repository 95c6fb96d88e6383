//! The next version beside this one: what only it knows is stamped so, and nothing else is.

mod common;

use common::{FOUND, apply, bytes_of, load, rows_of};
use inventory_machine::{
    DocumentQuery, Machine,
    codec::{Batch, MACHINE_VERSION, MACHINE_VERSION_FIRST},
    command::*,
    reply::{Rejection, Reply},
};

fn command(key: u128, body: Body<'_>) -> Command<'_> {
    Command {
        follows: false,
        principal: 1,
        key,
        not_after_ms: 10,
        body,
    }
}

fn put() -> Body<'static> {
    Body::PutDocument(PutDocument {
        document: b"d",
        body: b"it",
        version_expected: 0,
        fencing_token: 0,
        ttl_ms: 0,
    })
}

/// Asks for a document's end whatever its version, which only the next version takes for that.
const DELETE_ANY: Body<'static> = Body::DeleteDocument {
    document: b"d",
    version_expected: 0,
};

fn version_of(bytes: &[u8]) -> u16 {
    Batch::parse(bytes).expect("a batch").version
}

/// A machine with one document, made by commands that every version knows.
fn with_document() -> Machine {
    let mut machine = Machine::default();
    for (key, body) in [(1, FOUND), (2, put())] {
        let bytes = bytes_of(&[], &[command(key, body)], 0, 0);
        assert_eq!(version_of(&bytes), MACHINE_VERSION_FIRST);
        apply(&mut machine, 1, &bytes);
    }
    machine
}

#[test]
fn a_batch_needs_the_newest_that_its_commands_came_with() {
    let old = bytes_of(&[], &[command(3, put())], 0, 0);
    let new = bytes_of(
        &[],
        &[command(3, put()), command(4, DELETE_ANY), command(5, put())],
        0,
        0,
    );
    assert_eq!(
        (version_of(&old), version_of(&new)),
        (MACHINE_VERSION_FIRST, MACHINE_VERSION)
    );
    assert_eq!(
        version_of(&bytes_of(&[], &[], 0, 0)),
        MACHINE_VERSION_FIRST,
        "time alone"
    );
}

#[test]
fn a_command_means_what_it_meant_in_its_batch() {
    let new = bytes_of(&[], &[command(3, DELETE_ANY)], 0, 0);
    // As a machine of the first version wrote it, and as one applied it.
    let mut old = new.clone();
    old[..2].copy_from_slice(&MACHINE_VERSION_FIRST.to_le_bytes());

    let mut machine = with_document();
    let replies = apply(&mut machine, 1, &old).replies;
    assert!(
        matches!(replies[..], [Reply::Rejected(Rejection::VersionMismatch { .. })]),
        "{replies:?}"
    );
    assert_eq!(machine.documents(&DocumentQuery::ALL).documents.len(), 1);
    assert_eq!(machine.version_needed(), MACHINE_VERSION_FIRST);

    let replies = apply(&mut machine, 1, &new).replies;
    assert!(matches!(replies[..], [Reply::Document { .. }]), "{replies:?}");
    assert_eq!(machine.documents(&DocumentQuery::ALL).documents, []);
    assert_eq!(machine.version_needed(), MACHINE_VERSION);
}

#[test]
fn rows_say_what_is_needed_and_not_what_is_known() {
    let version = |machine: &Machine| {
        let row = &rows_of(&machine.freeze())[&b"m"[..]];
        u16::from_le_bytes([row[2], row[3]])
    };
    let mut machine = with_document();
    assert_eq!(
        version(&machine),
        MACHINE_VERSION_FIRST,
        "an older machine may read it"
    );
    apply(&mut machine, 1, &bytes_of(&[], &[command(3, DELETE_ANY)], 0, 0));
    assert_eq!(version(&machine), MACHINE_VERSION);
}

#[test]
fn a_state_remembers_what_it_has_needed() {
    let mut machine = with_document();
    let before = machine.digest();
    apply(&mut machine, 1, &bytes_of(&[], &[command(3, DELETE_ANY)], 0, 0));
    let mut same = with_document();
    apply(&mut same, 1, &bytes_of(&[], &[command(3, DELETE_ANY)], 0, 0));
    assert_ne!(machine.digest(), before);
    assert_eq!(machine.digest(), same.digest());
    // Older commands do not make it forget.
    apply(&mut machine, 1, &bytes_of(&[], &[command(4, put())], 0, 0));
    let loaded = load(&rows_of(&machine.freeze())).expect("its own rows");
    assert_eq!(loaded.version_needed(), MACHINE_VERSION);
    assert_eq!(loaded.digest(), machine.digest());
}
