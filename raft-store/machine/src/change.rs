//! Which rows differ from the last image: a set of names, not a queue of changes, so that a row
//! changed a thousand times is written once. Blocks of claims are marked in their arena instead.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{machine::Machine, rows, rows::RowKey};

/// Rows changed since they were last asked for.
#[derive(Default)]
pub(crate) struct Changes {
    /// Numbers of sales whose own row or blocks changed.
    pub sales: BTreeSet<u32>,
    /// Keys of documents, effects and fences.
    pub rows: BTreeSet<RowKey>,
    /// Whether the applied index moved.
    pub applied: bool,
}

impl Machine {
    /// Rows changed since the last call, each once, row `m` last. Empties the set. Row `m` is always
    /// among them when anything was applied.
    ///
    /// The set is bounded by the rows that exist or existed since the last call; a node that keeps no
    /// image should still call this now and then, and drop the answer.
    pub fn take_dirty(&mut self) -> Vec<RowKey> {
        let mut keys = Vec::new();
        for sale_number in core::mem::take(&mut self.changes.sales) {
            keys.push(rows::sale_key(sale_number));
            let sale = &mut self.sales[sale_number as usize - 1];
            sale.arena
                .take_dirty(|block| keys.push(rows::block_key(sale_number, block)));
        }
        keys.extend(core::mem::take(&mut self.changes.rows));
        if core::mem::take(&mut self.changes.applied) {
            keys.push(rows::META_KEY.to_vec());
        }
        keys
    }
}
