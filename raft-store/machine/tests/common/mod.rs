//! What the tests share: a machine that is fed batch by batch through real bytes, and its image.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod naive;
pub mod script;

use std::collections::BTreeMap;

use inventory_machine::{
    Applied, Frozen, LoadError, Machine, RowKey,
    codec::{Batch, BatchEncoder},
    command::*,
    event::EntryEvents,
    reply::Event,
};

/// The secret that all tests found their cluster with.
pub const SECRET: u128 = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978;

/// The founding command's body.
pub const FOUND: Body<'static> = Body::Found(Found {
    cluster_id: 77,
    secret: SECRET,
    incarnation: 1,
});

/// The bytes of one batch, with `sales` as its table, so that a sale's place is its place there.
pub fn bytes_of(sales: &[&str], commands: &[Command<'_>], log_time_ms: u64, wall_time_ms: u64) -> Vec<u8> {
    let mut encoder = BatchEncoder::new();
    for sale in sales {
        encoder.sale(NAMESPACE_DEFAULT, sale);
    }
    commands.iter().for_each(|command| encoder.push(command));
    encoder.finish(log_time_ms, wall_time_ms)
}

/// Applies a batch as the next entry.
pub fn apply(machine: &mut Machine, term: u64, bytes: &[u8]) -> Applied {
    let batch = Batch::parse(bytes).expect("a batch");
    machine
        .apply(machine.applied_index() + 1, term, &batch)
        .expect("commands")
}

/// All events of an entry, as this state shows them.
pub fn events(machine: &Machine, entry: &EntryEvents) -> Vec<Event> {
    machine.events(entry, 0).collect()
}

/// All rows of a frozen state, checked against what it says about them.
pub fn rows_of(frozen: &Frozen) -> BTreeMap<RowKey, Vec<u8>> {
    let mut rows = BTreeMap::new();
    for row in frozen.rows() {
        let (key, mut value) = (row.key(), Vec::new());
        assert!(
            frozen.row(&row, &key, &mut value),
            "row {} is named but not there",
            key.escape_ascii()
        );
        assert!(rows.insert(key, value).is_none(), "a row is named twice");
    }
    assert_eq!(rows.len() as u64, frozen.row_count());
    rows
}

/// A machine from rows.
pub fn load(rows: &BTreeMap<RowKey, Vec<u8>>) -> Result<Machine, LoadError> {
    let mut loader = Machine::loader();
    for (key, value) in rows {
        loader.row(key, value)?;
    }
    loader.finish()
}

/// Brings an image up to date the way its writer does: dirty rows are written or deleted.
pub fn write_dirty(machine: &mut Machine, image: &mut BTreeMap<RowKey, Vec<u8>>) {
    let dirty = machine.take_dirty();
    let frozen = machine.freeze();
    for row in dirty {
        let (key, mut value) = (row.key(), Vec::new());
        if frozen.row(&row, &key, &mut value) {
            image.insert(key, value);
        } else {
            image.remove(&key);
        }
    }
}
