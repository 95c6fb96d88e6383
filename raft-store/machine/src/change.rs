//! Which rows differ from the last image: a set of names, not a queue of changes, so that a row
//! changed a thousand times is written once. Blocks of claims are marked in their arena instead, documents beside
//! their place; an effect is made and forgotten and never changes.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{machine::Machine, rows::Row};

/// Rows changed since they were last asked for.
#[derive(Default)]
pub(crate) struct Changes {
    /// Numbers of sales whose own row or blocks changed.
    pub sales: BTreeSet<u32>,
    /// Effects made and forgotten.
    pub effects: Vec<Row>,
    /// Keys whose fences changed.
    pub fences: BTreeSet<u128>,
    /// Whether the applied index moved.
    pub applied: bool,
}

impl Machine {
    /// Rows changed since the last call, row `m` last. Empties the set. Row `m` is always among them when anything
    /// was applied. What is made and gone within two calls may be named twice.
    ///
    /// The set is bounded by the rows that exist or existed since the last call; a node that keeps no
    /// image should still call this now and then, and drop the answer.
    pub fn take_dirty(&mut self) -> Vec<Row> {
        let mut rows = core::mem::take(&mut self.changes.effects);
        for sale_number in core::mem::take(&mut self.changes.sales) {
            rows.push(Row::Sale { sale_number });
            let sale = &mut self.sales[sale_number as usize - 1];
            sale.arena
                .take_dirty(|block| rows.push(Row::Block { sale_number, block }));
        }
        let documents = self.documents.take_changed();
        rows.extend(documents.into_iter().map(|key| Row::Document { key }));
        let fences = core::mem::take(&mut self.changes.fences);
        rows.extend(fences.into_iter().map(|key| Row::Fence { key }));
        if core::mem::take(&mut self.changes.applied) {
            rows.push(Row::Meta);
        }
        rows
    }
}
