//! A state from its rows, or a reason why they are not one.
//!
//! Rows come from disk and may be anything. Each has its checksum; together they must be as many as
//! row `m` says and sum up to its digest. Derived structures are rebuilt here, and the counters are
//! recounted from the records.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use fault_points::planted;

use crate::{
    claim::{Arena, BLOCK_RECORDS, Block, FLAG_SUPERSEDED, Record, SLOT_NONE},
    codec::DecodeError,
    document::Document,
    effect::Effect,
    expiry::Held,
    index::{Index, Keys, Users},
    machine::Machine,
    rows::{self, Meta, Name, RowKey},
    sale::{Counters, Sale, Terms},
};

/// Why rows are not a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// This row does not decode, or contradicts another.
    Row {
        /// Which.
        key: RowKey,
        /// What is wrong.
        why: &'static str,
    },
    /// Rows are missing or too many.
    Count {
        /// Rows the meta row names.
        expected: u64,
        /// Rows that were there.
        found: u64,
    },
    /// The records do not add up to the digest.
    Digest,
    /// The rows are of another format version.
    Version {
        /// Theirs.
        version: u16,
    },
    /// The rows are well, and the state needs a newer machine: commands of that version made it.
    Newer {
        /// The version that it needs.
        version: u16,
    },
}

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LoadError::Row { key, why } => write!(f, "row {}: {why}", key.escape_ascii()),
            LoadError::Count { expected, found } => write!(f, "{found} rows where {expected} should be"),
            LoadError::Digest => write!(f, "the rows do not add up to their digest"),
            LoadError::Version { version } => {
                write!(
                    f,
                    "the rows have format version {version}, this machine reads {}",
                    rows::ROW_VERSION
                )
            }
            LoadError::Newer { version } => DecodeError::Newer { version: *version }.fmt(f),
        }
    }
}

impl core::error::Error for LoadError {}

/// Builds a state from rows, in any order.
#[derive(Default)]
pub struct Loader {
    meta: Option<Meta>,
    sales: BTreeMap<u32, (Terms, Counters, u32)>,
    blocks: BTreeMap<(u32, u32), (Arc<Block>, usize)>,
    documents: BTreeMap<Arc<[u8]>, Document>,
    effects: [BTreeMap<u128, Effect>; 2],
    fences: BTreeMap<u128, u64>,
    found: u64,
}

impl core::fmt::Debug for Loader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Loader")
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Starts loading a state from rows.
    pub fn loader() -> Loader {
        Loader::default()
    }
}

/// Does the two halves of a piece of work: how is the caller's business, who may have threads.
pub trait Halves: Copy {
    /// Does both.
    fn both<A: Send, B: Send>(
        self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B);
}

/// Does one half after the other.
#[derive(Clone, Copy, Debug)]
pub struct InTurn;

impl Halves for InTurn {
    fn both<A: Send, B: Send>(
        self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        (one(), other())
    }
}

fn refuse<T>(key: impl Into<RowKey>, why: &'static str) -> Result<T, LoadError> {
    Err(LoadError::Row { key: key.into(), why })
}

impl Loader {
    /// Takes one row.
    ///
    /// # Errors
    /// The row is damaged, of another version, or was there before.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let Some(body) = rows::unseal(key, value) else {
            return refuse(key, "its checksum is wrong");
        };
        let Some(name) = rows::name_of(key) else {
            return refuse(key, "no row has such a key");
        };
        if matches!(name, Name::Meta)
            && let Some(version) = rows::format_of(body).filter(|version| *version != rows::ROW_VERSION)
        {
            return Err(LoadError::Version { version });
        }
        let twice = match self.take(name, body) {
            Ok(twice) => twice,
            Err(DecodeError::Newer { version }) => return Err(LoadError::Newer { version }),
            Err(_) => return refuse(key, "its value does not decode"),
        };
        self.found += 1;
        if twice {
            refuse(key, "it is there twice")
        } else {
            Ok(())
        }
    }

    /// Keeps one row; true when it was there already.
    fn take(&mut self, name: Name<'_>, body: &[u8]) -> Result<bool, DecodeError> {
        Ok(match name {
            Name::Block { sale_number, block } => {
                let (records, count) = rows::decode_block(body).ok_or(DecodeError::Short)?;
                self.blocks
                    .insert((sale_number, block), (Arc::new(records), count))
                    .is_some()
            }
            Name::Sale { sale_number } => self.sales.insert(sale_number, rows::decode_sale(body)?).is_some(),
            Name::Document { key } => {
                let document = rows::decode_document(key, body)?;
                self.documents.insert(document.key.clone(), document).is_some()
            }
            Name::Effect { table, key } => self.effects[usize::from(table)]
                .insert(key, rows::decode_effect(body)?)
                .is_some(),
            Name::Fence { key } => {
                let until_ms = u64::from_le_bytes(body.try_into().map_err(|_| DecodeError::Short)?);
                self.fences.insert(key, until_ms).is_some()
            }
            Name::Meta => self.meta.replace(rows::decode_meta(body)?).is_some(),
        })
    }

    /// Checks count, counters and digest, rebuilds the indexes, and gives the state.
    ///
    /// # Errors
    /// The rows are not one whole state.
    pub fn finish(self) -> Result<Machine, LoadError> {
        self.finish_by(InTurn)
    }

    /// [`Loader::finish`], with the work of every large sale in halves.
    ///
    /// # Errors
    /// The rows are not one whole state.
    pub fn finish_by(self, halves: impl Halves) -> Result<Machine, LoadError> {
        let Some(meta) = self.meta else {
            return Err(LoadError::Count {
                expected: self.found + 1,
                found: self.found,
            });
        };
        if meta.rows != self.found {
            return Err(LoadError::Count {
                expected: meta.rows,
                found: self.found,
            });
        }
        if self.sales.len() != meta.sales as usize {
            return refuse(rows::META_KEY, "it names another number of sales");
        }
        let mut machine = Machine {
            clock: meta.clock,
            founding: meta.founding,
            ..Machine::default()
        };
        let mut blocks = self.blocks.into_iter().peekable();
        for (expected, (number, (terms, counters, claims_made))) in (1..).zip(self.sales) {
            let mut own = Vec::with_capacity(crate::claim::blocks_of(claims_made).min(1 << 25));
            while let Some(((_, block), (records, count))) = blocks.next_if(|((of, _), _)| *of == number) {
                let before = u64::from(block) * BLOCK_RECORDS as u64;
                let held = u64::from(claims_made)
                    .saturating_sub(before)
                    .min(BLOCK_RECORDS as u64);
                if block as usize != own.len() || count as u64 != held {
                    return refuse(
                        rows::block_key(number, block),
                        "it does not fit its sale's claims",
                    );
                }
                own.push(records);
            }
            let key = rows::sale_key(number);
            if number != expected {
                return refuse(key, "a sale before it is missing");
            }
            let Some(arena) = Arena::load(number, own, claims_made) else {
                return refuse(key, "some of its claims are missing");
            };
            match load_sale(number, terms, counters, arena, halves) {
                Ok(sale) => machine.add_loaded(sale),
                Err(why) => return refuse(key, why),
            }
        }
        if let Some(((number, block), _)) = blocks.next() {
            return refuse(rows::block_key(number, block), "its sale is missing");
        }
        machine.documents.key_with(machine.secret());
        self.documents
            .into_values()
            .for_each(|document| machine.documents.put(document));
        // What was just loaded needs no writing.
        machine.documents.take_changed();
        let [common, sales] = self.effects;
        for (table, effects) in [
            (&mut machine.memory.common, common),
            (&mut machine.memory.sales, sales),
        ] {
            let mut effects: Vec<_> = effects.into_iter().collect();
            effects.sort_unstable_by_key(|(_, effect)| (effect.receipt.log_index, effect.receipt.position));
            effects.into_iter().for_each(|(key, effect)| {
                table.insert(key, effect);
            });
        }
        self.fences
            .into_iter()
            .for_each(|(key, until_ms)| machine.fences.insert(key, until_ms));
        if machine.digest() != meta.digest {
            return Err(LoadError::Digest);
        }
        if machine.row_count() != meta.rows {
            return Err(LoadError::Count {
                expected: meta.rows,
                found: machine.row_count(),
            });
        }
        Ok(machine)
    }
}

/// Claims whose places in the tables are fetched together: looked up one after the other, each would wait for memory by
/// itself. As many as fit a core's own cache beside the tables' lines.
const FETCHED_AT_ONCE: usize = 64;

/// From so many claims on, the two lookups of a sale are built at once: some milliseconds of work, against the
/// microseconds that starting a thread may take.
const HALVED_CLAIMS_MIN: u32 = 10_000;

/// Enters every loaded claim, behind those before it.
fn enter_all<T>(
    table: &mut T,
    arena: &Arena,
    fetch: impl Fn(&T, &Record),
    enter: impl Fn(&mut T, u32, &Record) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let all = arena.len();
    for first in (0..all).step_by(FETCHED_AT_ONCE) {
        let some = first..all.min(first + FETCHED_AT_ONCE as u32);
        some.clone().for_each(|slot| fetch(table, &arena.get(slot)));
        some.into_iter()
            .try_for_each(|slot| enter(table, slot, &arena.get(slot)))?;
    }
    Ok(())
}

/// Who claimed, from their claims.
fn enter_users(users: &mut Users, arena: &Arena) -> Result<(), &'static str> {
    users.reserve(arena);
    let fetched = |users: &Users, record: &Record| users.prefetch(record.user);
    enter_all(users, arena, fetched, |users, slot, record| {
        let latest = users.latest(arena, record.user);
        if record.previous != latest.unwrap_or(SLOT_NONE)
            || latest.is_some_and(|latest| !arena.get(latest).is(FLAG_SUPERSEDED))
        {
            return Err("a user's claims do not follow each other");
        }
        users.grant(slot, record);
        Ok(())
    })
}

/// The keys of claims.
fn enter_keys(keys: &mut Keys, arena: &Arena) -> Result<(), &'static str> {
    keys.reserve(arena);
    let fetched = |keys: &Keys, record: &Record| keys.prefetch(arena, record.key);
    enter_all(keys, arena, fetched, |keys, slot, record| {
        if keys.slot(arena, record.key).is_some() {
            return Err("two claims have the same key");
        }
        keys.grant(arena, slot, record.key);
        if record.settle_key != 0 && !planted!("dedup-missing-from-snapshot") {
            keys.settle(arena, slot);
        }
        Ok(())
    })
}

/// A sale from its row and records, with what is derived from them.
fn load_sale(
    number: u32,
    terms: Terms,
    counters: Counters,
    arena: Arena,
    halves: impl Halves,
) -> Result<Sale, &'static str> {
    let mut sale = Sale::of(number, Arc::new(terms), counters, arena);
    let (Index { users, keys }, arena) = (&mut sale.index, &sale.arena);
    if arena.len() >= HALVED_CLAIMS_MIN {
        let (users, keys) = halves.both(|| enter_users(users, arena), || enter_keys(keys, arena));
        users.and(keys)?;
    } else {
        enter_users(users, arena).and_then(|()| enter_keys(keys, arena))?;
    }
    if !planted!("snapshot-without-holds") {
        sale.held = Held::of(&sale.arena);
    }
    let units = |units: u32| u64::from(units);
    if sale.recount() != (units(counters.units_held), units(counters.units_confirmed)) {
        return Err("its counters are not what its claims add up to");
    }
    let sum = units(counters.units_available) + units(counters.units_held) + units(counters.units_confirmed);
    if sum != units(counters.units_total) {
        return Err("its units are not conserved");
    }
    Ok(sale)
}

impl Machine {
    /// Adds a loaded sale, whose rows are not dirty.
    fn add_loaded(&mut self, sale: Sale) {
        let number = sale.number;
        self.blocks += sale.arena.blocks().len() as u64;
        self.add_sale(sale);
        self.close_sale_books(number);
        self.changes.sales.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{MACHINE_VERSION, MACHINE_VERSION_FIRST},
        command::Operation,
    };

    #[test]
    fn another_version_is_named() {
        let loaded = |format: u16, machine: u16| {
            let mut value = Vec::new();
            assert!(
                Machine::default()
                    .freeze()
                    .row(&rows::Row::Meta, rows::META_KEY, &mut value)
            );
            value.truncate(value.len() - rows::CHECKSUM_BYTES);
            value[..2].copy_from_slice(&format.to_le_bytes());
            value[2..4].copy_from_slice(&machine.to_le_bytes());
            rows::seal(rows::META_KEY, &mut value, 0);
            let mut loader = Machine::loader();
            loader.row(rows::META_KEY, &value)?;
            loader.finish()
        };
        let (format, machine) = (rows::ROW_VERSION + 1, MACHINE_VERSION + 1);
        let refused = |format, machine| loaded(format, machine).err();
        assert_eq!(
            refused(format, MACHINE_VERSION),
            Some(LoadError::Version { version: format })
        );
        // A format that is not known may keep its machine's version anywhere.
        assert_eq!(
            refused(format, machine),
            Some(LoadError::Version { version: format })
        );
        assert_eq!(
            refused(rows::ROW_VERSION, machine),
            Some(LoadError::Newer { version: machine })
        );
        assert!(matches!(
            refused(rows::ROW_VERSION, 0),
            Some(LoadError::Row { .. })
        ));
        let read = loaded(rows::ROW_VERSION, MACHINE_VERSION_FIRST).expect("all began with it");
        assert_eq!(read.version_needed(), MACHINE_VERSION_FIRST);
    }

    #[test]
    fn records_that_contradict_the_counters_are_refused() {
        let mut machine = Machine::default();
        let mut sale = Sale::new(1, Terms::example(), 5);
        let at = crate::reply::Receipt {
            log_index: 1,
            position: 0,
            term: 1,
            log_time_ms: 0,
        };
        sale.grant(7, 8, 1, false, &at);
        // A row that its writer got wrong: checksum and digest are right, the units are not.
        sale.counters.units_held = 0;
        sale.counters.units_available = 5;
        machine.blocks = 1;
        machine.add_sale(sale);
        machine.close_sale_books(1);
        assert_eq!(machine.recount().unbalanced().count(), 1);
        let why = "its counters are not what its claims add up to";
        assert_eq!(
            rows_of(&machine).finish().err(),
            Some(LoadError::Row {
                key: rows::sale_key(1),
                why
            })
        );
    }

    /// Counts how often there were two halves, and does the second one first.
    #[derive(Clone, Copy)]
    struct Backwards<'a>(&'a core::cell::Cell<u32>);

    impl Halves for Backwards<'_> {
        fn both<A: Send, B: Send>(
            self,
            one: impl FnOnce() -> A + Send,
            other: impl FnOnce() -> B + Send,
        ) -> (A, B) {
            self.0.set(self.0.get() + 1);
            let other = other();
            (one(), other)
        }
    }

    /// A sale where every third of `users` claimed, settled and claimed again.
    fn sold(users: u32) -> Sale {
        let mut sale = Sale::new(1, Terms::example(), 2 * users);
        let at = crate::reply::Receipt {
            log_index: 1,
            position: 0,
            term: 1,
            log_time_ms: 0,
        };
        for user in 1..=users {
            let (number, key) = (u128::from(user), u128::from(user) << 64);
            let (slot, _) = sale.grant(number, key | 1, 1, false, &at);
            if user.is_multiple_of(3) {
                sale.settle(slot, key | 2, crate::reply::ClaimStatus::Confirmed);
                sale.grant(number, key | 3, 1, false, &at);
            }
        }
        sale
    }

    fn machine_of(sale: Sale) -> Machine {
        let mut machine = Machine {
            blocks: sale.arena.blocks().len() as u64,
            ..Machine::default()
        };
        machine.add_sale(sale);
        machine.close_sale_books(1);
        machine
    }

    fn rows_of(machine: &Machine) -> Loader {
        let frozen = machine.freeze();
        let mut loader = Machine::loader();
        for row in frozen.rows() {
            let key = row.key();
            let mut value = Vec::new();
            assert!(frozen.row(&row, &key, &mut value));
            assert_eq!(loader.row(&key, &value), Ok(()));
        }
        loader
    }

    #[test]
    fn the_halves_of_a_large_sale_are_the_same_in_any_order() {
        let times = core::cell::Cell::new(0);
        let small = machine_of(sold(100));
        assert!(rows_of(&small).finish_by(Backwards(&times)).is_ok());
        assert_eq!(times.get(), 0, "a small sale is not worth a thread");

        let users = HALVED_CLAIMS_MIN;
        let machine = machine_of(sold(users));
        let loaded = rows_of(&machine)
            .finish_by(Backwards(&times))
            .expect("one whole state");
        assert_eq!((times.get(), loaded.digest()), (1, machine.digest()));
        for user in 1..=users {
            let (number, key) = (u128::from(user), u128::from(user) << 64);
            assert_eq!(loaded.claims_of(1, number, 3), machine.claims_of(1, number, 3));
            for key in (1..=3).map(|last| key | last) {
                let effect = |machine: &Machine| machine.effect(1, Operation::Claim, key);
                assert_eq!(effect(&loaded), effect(&machine));
            }
        }
    }

    #[test]
    fn a_sale_whose_claims_contradict_each_other_is_refused() {
        let refused = |change: fn(&mut Record)| {
            let mut sale = sold(HALVED_CLAIMS_MIN);
            sale.arena.edit(1, change);
            rows_of(&machine_of(sale)).finish().err()
        };
        let why = |why| {
            Some(LoadError::Row {
                key: rows::sale_key(1),
                why,
            })
        };
        assert_eq!(
            refused(|record| record.key = 1 << 64 | 1),
            why("two claims have the same key")
        );
        assert_eq!(
            refused(|record| record.user = 1),
            why("a user's claims do not follow each other")
        );
    }
}
