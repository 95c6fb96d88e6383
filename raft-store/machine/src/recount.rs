//! A second opinion on a state: its books counted from its rows, in small steps.
//!
//! Counters and digest are kept as commands change them; here both are counted again from what lies in
//! memory, so a record that changed without a command, or a counter that went astray, shows. It counts a
//! [`Frozen`] state while the machine moves on, and stops whenever its caller says, so that nobody waits.
//!
//! Left out: what to do about it, which is the node's.

use alloc::{boxed::Box, string::String, sync::Arc, vec, vec::Vec};

use crate::{
    claim::{self, Record},
    command::Namespace,
    effect,
    frozen::{Frozen, FrozenSale},
    machine::{self, Machine},
    reply::ClaimStatus,
    rows::{self, Row},
};

/// A recount under way.
pub struct Recount<'a> {
    frozen: &'a Frozen,
    rows: Box<dyn Iterator<Item = Row> + Send + 'a>,
    /// Units held and confirmed by sale, the sale numbered `n` at `n - 1`.
    units: Vec<(u64, u64)>,
    digest: u128,
    scratch: Vec<u8>,
}

/// What a recount found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// Index of the state that was counted.
    pub applied_index: u64,
    /// Digest that the machine had.
    pub digest_kept: u128,
    /// Digest of what was there.
    pub digest_counted: u128,
    /// Every sale, by number.
    pub sales: Vec<SaleBooks>,
}

/// One sale's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleBooks {
    /// Whose.
    pub namespace: Namespace,
    /// Its id.
    pub sale_id: String,
    /// Units in the sale, as its counter has it.
    pub units_total: u32,
    /// Units nobody has, as their counter has it: no record says so.
    pub units_available: u32,
    /// Units held, as their counter has it.
    pub units_held: u32,
    /// Units sold, as their counter has it.
    pub units_confirmed: u32,
    /// Units held, by the records.
    pub held_counted: u64,
    /// Units sold, by the records.
    pub confirmed_counted: u64,
    /// Claim records.
    pub claims_made: u32,
}

impl SaleBooks {
    /// Whether the counters are what the records add up to, and no unit was made or lost.
    pub fn is_balanced(&self) -> bool {
        let counted = (self.held_counted, self.confirmed_counted);
        let sum = u64::from(self.units_available) + self.held_counted + self.confirmed_counted;
        counted == (self.units_held.into(), self.units_confirmed.into()) && sum == u64::from(self.units_total)
    }
}

impl Books {
    /// Whether the state in memory is what the commands made of it.
    pub fn is_intact(&self) -> bool {
        self.digest_counted == self.digest_kept
    }

    /// The sales whose books do not balance.
    pub fn unbalanced(&self) -> impl Iterator<Item = &SaleBooks> {
        self.sales.iter().filter(|sale| !sale.is_balanced())
    }

    /// Whether there is nothing to complain of.
    pub fn are_sound(&self) -> bool {
        self.is_intact() && self.unbalanced().next().is_none()
    }
}

impl Machine {
    /// Counts everything, at once.
    pub fn recount(&self) -> Books {
        let frozen = self.freeze();
        let mut recount = frozen.recount();
        while recount.step(usize::MAX) {}
        recount.books()
    }
}

impl Frozen {
    /// Begins to count this state.
    pub fn recount(&self) -> Recount<'_> {
        Recount {
            frozen: self,
            rows: Box::new(self.rows()),
            units: vec![(0, 0); self.sales.len()],
            digest: 0,
            scratch: Vec::new(),
        }
    }
}

impl core::fmt::Debug for Recount<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recount")
            .field("frozen", self.frozen)
            .finish_non_exhaustive()
    }
}

impl Recount<'_> {
    /// Counts at most so many rows; false when there are no more. A row is a block of 47 claims at most, or
    /// one document.
    pub fn step(&mut self, rows_max: usize) -> bool {
        for _ in 0..rows_max {
            let Some(row) = self.rows.next() else {
                return false;
            };
            self.count(&row);
        }
        true
    }

    /// What was counted.
    ///
    /// # Panics
    /// When there are rows left to count.
    pub fn books(mut self) -> Books {
        assert!(self.rows.next().is_none(), "the recount is not over");
        let sales = self.frozen.sales.iter().zip(&self.units);
        Books {
            applied_index: self.frozen.applied_index(),
            digest_kept: self.frozen.digest(),
            digest_counted: self.digest,
            sales: sales.map(|(sale, &units)| books_of(sale, units)).collect(),
        }
    }

    fn count(&mut self, row: &Row) {
        let frozen = self.frozen;
        let part = match row {
            &Row::Block { sale_number, block } => return self.count_block(sale_number, block),
            &Row::Sale { sale_number } => {
                let sale = &frozen.sales[sale_number as usize - 1];
                rows::terms_digest(
                    sale_number,
                    &sale.terms,
                    &sale.counters,
                    sale.claims_made,
                    &mut self.scratch,
                )
            }
            Row::Document { key } => frozen.documents[key].digest(&mut self.scratch),
            &Row::Effect { table, key, number } => {
                let effect = frozen.effects[usize::from(table)].get(number);
                let effect = effect.expect("a frozen state has the rows that it names");
                effect::digest(key, effect, &mut self.scratch)
            }
            Row::Fence { key } => effect::fence_digest(*key, frozen.fences[key]),
            Row::Meta => {
                let meta = &frozen.meta;
                machine::clock_digest(&meta.clock, &meta.founding, meta.sales, &mut self.scratch)
            }
        };
        self.digest = self.digest.wrapping_add(part);
    }

    fn count_block(&mut self, sale_number: u32, block: u32) {
        let index = sale_number as usize - 1;
        let (held, confirmed) = &mut self.units[index];
        let records = self.frozen.sales[index].records(block);
        for (slot, packed) in (block * claim::BLOCK_RECORDS as u32..).zip(records) {
            self.digest = self.digest.wrapping_add(claim::digest(packed, sale_number, slot));
            // What is no record any more counts for nothing, and the digest tells.
            match Record::unpack(packed) {
                Some(record) if record.status == ClaimStatus::Held => *held += u64::from(record.quantity),
                Some(record) if record.status == ClaimStatus::Confirmed => {
                    *confirmed += u64::from(record.quantity);
                }
                _ => {}
            }
        }
    }
}

fn books_of(sale: &FrozenSale, (held_counted, confirmed_counted): (u64, u64)) -> SaleBooks {
    let (terms, counters): (&Arc<_>, _) = (&sale.terms, &sale.counters);
    SaleBooks {
        namespace: terms.namespace,
        sale_id: (*terms.sale_id).into(),
        units_total: counters.units_total,
        units_available: counters.units_available,
        units_held: counters.units_held,
        units_confirmed: counters.units_confirmed,
        held_counted,
        confirmed_counted,
        claims_made: sale.claims_made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::Found,
        reply::Receipt,
        sale::{Sale, Terms},
    };

    /// A sale of 200 units with 100 claims, some of them settled.
    fn machine() -> Machine {
        let mut machine = Machine {
            founding: Some(Found {
                cluster_id: 1,
                secret: 2,
                incarnation: 1,
            }),
            ..Machine::default()
        };
        let mut sale = Sale::new(1, Terms::example(), 200);
        for user in 1..=100 {
            let at = Receipt {
                log_index: user as u64,
                position: 0,
                term: 1,
                log_time_ms: 0,
            };
            let (slot, _) = sale.grant(user, 1_000 + user, 1, user % 7 == 0, &at);
            if user % 7 == 1 {
                sale.settle(slot, 2_000 + user, ClaimStatus::Confirmed);
            }
        }
        machine.blocks = sale.arena.blocks().len() as u64;
        machine.add_sale(sale);
        machine.close_sale_books(1);
        machine
    }

    #[test]
    fn a_sound_state_counts_as_it_says() {
        let machine = machine();
        let books = machine.recount();
        assert!(books.are_sound(), "{books:?}");
        assert_eq!(books.digest_counted, machine.digest());
        let [sale] = &books.sales[..] else {
            panic!("{books:?}")
        };
        assert_eq!((sale.held_counted, sale.confirmed_counted), (71, 29));
    }

    #[test]
    fn steps_of_any_size_count_the_same() {
        let machine = machine();
        for rows_max in 1..5 {
            let frozen = machine.freeze();
            let (mut recount, mut steps) = (frozen.recount(), 1);
            while recount.step(rows_max) {
                steps += 1;
            }
            assert_eq!(steps, frozen.row_count() as usize / rows_max + 1);
            assert_eq!(recount.books(), machine.recount());
        }
    }

    #[test]
    fn a_record_changed_behind_its_back_shows() {
        let mut machine = machine();
        machine.sales[0]
            .arena
            .rot(60, |record| record.status = ClaimStatus::Confirmed);
        let books = machine.recount();
        assert!(!books.is_intact());
        assert_eq!(books.sales[0].confirmed_counted, 30);
        assert_eq!(books.unbalanced().count(), 1);

        // One that no unit depends on shows in the digest alone.
        let mut machine = self::machine();
        machine.sales[0].arena.rot(60, |record| record.user ^= 1);
        let books = machine.recount();
        assert!(!books.is_intact());
        assert_eq!(books.unbalanced().count(), 0);
    }

    #[test]
    fn a_counter_gone_astray_shows() {
        let mut machine = machine();
        machine.sales[0].counters.units_held -= 1;
        machine.sales[0].counters.units_available += 1;
        machine.close_sale_books(1);
        let books = machine.recount();
        assert!(books.is_intact(), "the digest follows the counters");
        assert!(!books.sales[0].is_balanced());
    }
}
