//! The state as it was at one index, for the writers of image and snapshot.
//!
//! Freezing clones pointers to blocks and to the roots of ordered maps; another thread turns them into rows while the
//! machine moves on and copies what it changes.

use alloc::{sync::Arc, vec::Vec};

use imbl::OrdMap;

use crate::{
    claim::{BLOCK_RECORDS, Block, Packed},
    document::Document,
    effect::Kept,
    machine::Machine,
    rows::{self, Meta, Row},
    sale::{Counters, Terms},
};

/// The state at one index, for image and snapshot writers.
pub struct Frozen {
    pub(crate) meta: Meta,
    pub(crate) sales: Vec<FrozenSale>,
    pub(crate) documents: OrdMap<Arc<[u8]>, Arc<Document>>,
    pub(crate) effects: [Kept; 2],
    pub(crate) fences: OrdMap<u128, u64>,
}

pub(crate) struct FrozenSale {
    pub terms: Arc<Terms>,
    pub counters: Counters,
    pub claims_made: u32,
    blocks: Vec<Arc<Block>>,
}

impl FrozenSale {
    /// The records of one of its blocks; none where there is no such block.
    pub fn records(&self, block: u32) -> &[Packed] {
        let Some(records) = self.blocks.get(block as usize) else {
            return &[];
        };
        let before = block as usize * BLOCK_RECORDS;
        records.first((self.claims_made as usize - before).min(BLOCK_RECORDS))
    }
}

impl core::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frozen")
            .field("clock", &self.meta.clock)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A clone of the block pointers: the state as it is now, readable by another thread while this
    /// one moves on.
    pub fn freeze(&self) -> Frozen {
        let sales = self.sales.iter().map(|sale| FrozenSale {
            terms: sale.terms.clone(),
            counters: sale.counters,
            claims_made: sale.arena.len(),
            blocks: sale.arena.blocks().to_vec(),
        });
        Frozen {
            meta: Meta {
                clock: self.clock,
                founding: self.founding,
                sales: self.sales.len() as u32,
                rows: self.row_count(),
                digest: self.digest(),
            },
            sales: sales.collect(),
            documents: self.documents.map().clone(),
            effects: [
                self.memory.common.kept().clone(),
                self.memory.sales.kept().clone(),
            ],
            fences: self.fences.map().clone(),
        }
    }
}

impl Frozen {
    /// Index it was taken at.
    pub fn applied_index(&self) -> u64 {
        self.meta.clock.applied_index
    }

    /// Digest it has.
    pub fn digest(&self) -> u128 {
        self.meta.digest
    }

    /// All rows, kind by kind, `m` last. The same state always gives the same order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let sales = || (1u32..).zip(&self.sales);
        let blocks = sales().flat_map(|(sale_number, sale)| {
            (0..sale.blocks.len() as u32).map(move |block| Row::Block { sale_number, block })
        });
        let documents = self.documents.keys().cloned().map(|key| Row::Document { key });
        let effects = (0u8..).zip(&self.effects).flat_map(|(table, kept)| {
            let numbered = kept.iter();
            numbered.map(move |(number, key, _)| Row::Effect { table, key, number })
        });
        let fences = self.fences.keys().map(|&key| Row::Fence { key });
        let sales = sales().map(|(sale_number, _)| Row::Sale { sale_number });
        blocks
            .chain(documents)
            .chain(effects)
            .chain(fences)
            .chain(sales)
            .chain([Row::Meta])
    }

    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        self.meta.rows
    }

    /// Appends the row's bytes (with its own checksum) to `out`; false when the row does not exist
    /// here and must be deleted from the image. `key` is the row's own.
    pub fn row(&self, row: &Row, key: &[u8], out: &mut Vec<u8>) -> bool {
        let from = out.len();
        let found = self.body(row, out).is_some();
        if found {
            rows::seal(key, out, from);
        }
        found
    }

    fn body(&self, row: &Row, out: &mut Vec<u8>) -> Option<()> {
        let sale_at = |sale_number: u32| self.sales.get((sale_number as usize).checked_sub(1)?);
        match row {
            &Row::Block { sale_number, block } => {
                let records = sale_at(sale_number)?.records(block);
                rows::encode_block((!records.is_empty()).then_some(records)?, out);
            }
            &Row::Sale { sale_number } => {
                let sale = sale_at(sale_number)?;
                rows::encode_sale(&sale.terms, &sale.counters, sale.claims_made, out);
            }
            Row::Document { key } => rows::encode_document(self.documents.get(key)?, out),
            &Row::Effect { table, number, .. } => {
                self.effects.get(usize::from(table))?.get(number)?.encode(out);
            }
            Row::Fence { key } => out.extend_from_slice(&self.fences.get(key)?.to_le_bytes()),
            Row::Meta => rows::encode_meta(&self.meta, out),
        }
        Some(())
    }
}
