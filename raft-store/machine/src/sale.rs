//! One sale: its terms, its counters, its hours, and its claims' lives.
//!
//! `units_available + units_held + units_confirmed == units_total` at all times; each method moves
//! units between two of the counters and is asserted after the batch ([`Sale::check`]). The methods
//! here carry out what [`crate::apply`] has found to be allowed.
//!
//! A user's live units are counted in his latest record, so that neither the limit nor *already*
//! walks his history. When he is at the limit, his latest claim is live: it brought him there, and
//! had it ended since, he would be below.

use alloc::sync::Arc;

use fault_points::planted;

use crate::{
    claim::{Arena, FLAG_DECREMENT, FLAG_EXTENDED, FLAG_SUPERSEDED, Record, SLOT_NONE},
    command::{ClaimId, LogMs, Namespace, WallMs},
    expiry::Held,
    index::Index,
    reply::{ClaimStatus, ClaimView, Receipt, SaleStatus, SaleView},
};

/// Fewest claim records that a sale may make when it does not say.
pub const CLAIMS_MAX_DEFAULT_MIN: u32 = 10_000;

/// Claim records per unit that a sale may make when it does not say: expired and released claims
/// keep their record, so there must be room for more claims than units.
pub const CLAIMS_PER_UNIT_DEFAULT: u32 = 4;

/// Most claim records that a sale may be allowed: 96 GB of records, and slots stay within 31 bits.
pub const CLAIMS_MAX_MAX: u32 = 1_000_000_000;

/// What never changes about a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub namespace: Namespace,
    pub sale_id: Arc<str>,
    pub name: Arc<str>,
    pub per_user_units_max: u32,
    pub hold_ms: u64,
    pub checkout_max_ms: u64,
    pub opens_at_ms: WallMs,
    pub closes_at_ms: WallMs,
    pub price_minor: u64,
    pub currency: [u8; 3],
    /// Zero: follows the units.
    pub claims_max: u32,
}

#[cfg(test)]
impl Terms {
    /// Some.
    pub fn example() -> Terms {
        Terms {
            namespace: 0,
            sale_id: "s".into(),
            name: "".into(),
            per_user_units_max: 9,
            hold_ms: 1_000,
            checkout_max_ms: 0,
            opens_at_ms: 0,
            closes_at_ms: 0,
            price_minor: 0,
            currency: *b"EUR",
            claims_max: 0,
        }
    }
}

/// What changes about a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub status: SaleStatus,
    pub units_total: u32,
    pub units_available: u32,
    pub units_held: u32,
    pub units_confirmed: u32,
    /// Records it may make now; grows with the units when the terms leave it open, never falls.
    pub claims_max: u32,
    /// Log index of the last change.
    pub changed_index: u64,
}

/// Claim records allowed by default for so many units.
pub(crate) fn claims_max_default(units_total: u32) -> u32 {
    // Units are at most 100 million, so this stays below CLAIMS_MAX_MAX.
    units_total
        .saturating_mul(CLAIMS_PER_UNIT_DEFAULT)
        .max(CLAIMS_MAX_DEFAULT_MIN)
}

/// A sale with its claims.
pub(crate) struct Sale {
    pub number: u32,
    pub terms: Arc<Terms>,
    pub counters: Counters,
    pub arena: Arena,
    pub index: Index,
    pub held: Held,
    /// Its part of the state's digest, as last added.
    pub digest: u128,
    /// Its first deadline, as last queued.
    pub deadline_queued: Option<LogMs>,
    /// Its next hour, as last queued.
    pub hour_queued: Option<WallMs>,
    /// Whether this batch has changed it.
    pub touched: bool,
}

impl Sale {
    /// A sale without claims.
    pub fn new(number: u32, terms: Terms, units_total: u32) -> Sale {
        let claims_max = match terms.claims_max {
            0 => claims_max_default(units_total),
            claims_max => claims_max,
        };
        let counters = Counters {
            status: SaleStatus::Scheduled,
            units_total,
            units_available: units_total,
            units_held: 0,
            units_confirmed: 0,
            claims_max,
            changed_index: 0,
        };
        Sale::of(number, Arc::new(terms), counters, Arena::new(number))
    }

    /// A sale with these records; its indexes know none of them yet.
    pub fn of(number: u32, terms: Arc<Terms>, counters: Counters, arena: Arena) -> Sale {
        Sale {
            number,
            index: Index::new(counters.claims_max.max(arena.len())),
            terms,
            counters,
            arena,
            held: Held::default(),
            digest: 0,
            deadline_queued: None,
            hour_queued: None,
            touched: false,
        }
    }

    /// Asserts conservation.
    ///
    /// # Panics
    /// When units were made or lost.
    pub fn check(&self) {
        let counters = &self.counters;
        let sum = u64::from(counters.units_available)
            + u64::from(counters.units_held)
            + u64::from(counters.units_confirmed);
        assert!(
            sum == u64::from(counters.units_total),
            "sale {}: units are not conserved: {counters:?}",
            self.number
        );
    }

    /// Units held and confirmed according to the records.
    pub fn recount(&self) -> (u64, u64) {
        let (mut held, mut confirmed) = (0, 0);
        for slot in 0..self.arena.len() {
            let record = self.arena.get(slot);
            match record.status {
                ClaimStatus::Held => held += u64::from(record.quantity),
                ClaimStatus::Confirmed => confirmed += u64::from(record.quantity),
                _ => {}
            }
        }
        (held, confirmed)
    }

    /// When it next opens or closes by itself. A sale that does both opens first.
    pub fn next_hour_ms(&self) -> Option<WallMs> {
        let set = |hour_ms: WallMs| (hour_ms != 0).then_some(hour_ms);
        let closes = set(self.terms.closes_at_ms);
        match self.counters.status {
            SaleStatus::Scheduled => set(self.terms.opens_at_ms).or(closes),
            SaleStatus::Open | SaleStatus::Paused => closes,
            SaleStatus::Closed => None,
        }
    }

    /// Units in the user's live claims, and his latest claim.
    pub fn user(&self, user: u128) -> (u32, Option<u32>) {
        let latest = self.index.user(&self.arena, user);
        (
            latest.map_or(0, |slot| u32::from(self.arena.get(slot).user_units)),
            latest,
        )
    }

    /// The claim that a key made.
    pub fn made_by(&self, key: u128) -> Option<u32> {
        let slot = self.index.key(&self.arena, key)?;
        let forgotten = planted!("dedup-forgotten-early") && !self.arena.get(slot).is_live();
        (!forgotten && !planted!("retry-without-dedup")).then_some(slot)
    }

    /// Grants a claim on available units, confirmed at once if it is a decrement; gives its slot
    /// and its record.
    pub fn grant(
        &mut self,
        user: u128,
        key: u128,
        quantity: u16,
        decrement: bool,
        at: &Receipt,
    ) -> (u32, Record) {
        let (user_units, latest) = self.user(user);
        let record = Record {
            key,
            user,
            settle_key: 0,
            log_index: at.log_index,
            log_time_ms: at.log_time_ms,
            deadline_ms: if decrement {
                0
            } else {
                at.log_time_ms + self.terms.hold_ms
            },
            fencing_token: at.log_index,
            term: at.term as u32,
            previous: latest.unwrap_or(SLOT_NONE),
            position: at.position as u16,
            quantity,
            // Both are within the sale's limit for a user, which has 16 bits.
            user_units: (user_units + u32::from(quantity)) as u16,
            status: if decrement {
                ClaimStatus::Confirmed
            } else {
                ClaimStatus::Held
            },
            flags: if decrement { FLAG_DECREMENT } else { 0 },
        };
        let slot = self.arena.push(&record);
        if let Some(latest) = latest {
            self.arena.edit(latest, |record| {
                record.flags |= FLAG_SUPERSEDED;
                record.user_units = 0;
            });
        }
        self.index.grant(&self.arena, slot, &record);
        let quantity = u32::from(quantity);
        self.counters.units_available -= quantity;
        if decrement {
            self.counters.units_confirmed += quantity;
        } else {
            self.held.insert(slot, &record);
            self.counters.units_held += quantity;
        }
        (slot, record)
    }

    /// Confirms or releases a held claim by its key.
    pub fn settle(&mut self, slot: u32, key: u128, status: ClaimStatus) {
        if !planted!("both-return-the-unit") {
            self.held.remove(slot, &self.arena.get(slot));
        }
        self.move_to(slot, status, key);
        self.index.keys.settle(&self.arena, slot);
    }

    /// Ends the claim that is due first, if one is, and gives its slot.
    pub fn expire(&mut self, now_ms: LogMs) -> Option<u32> {
        let (_, slot) = self
            .held
            .first(&self.arena)
            .filter(|&(deadline_ms, _)| match () {
                () if planted!("expired-early") => deadline_ms <= now_ms + 500,
                () if planted!("confirm-after-deadline") => deadline_ms + 2_000 <= now_ms,
                () => deadline_ms <= now_ms,
            })?;
        self.held.remove(slot, &self.arena.get(slot));
        self.move_to(slot, ClaimStatus::Expired, 0);
        Some(slot)
    }

    /// Takes a confirmed claim back.
    pub fn cancel(&mut self, slot: u32) {
        self.move_to(slot, ClaimStatus::Cancelled, self.arena.settle_key(slot));
    }

    /// Extends a held claim for a checkout, under a new fencing token.
    pub fn extend(&mut self, slot: u32, fencing_token: u64) {
        self.held.remove(slot, &self.arena.get(slot));
        let more_ms = self.terms.checkout_max_ms;
        self.arena.edit(slot, |record| {
            record.deadline_ms += more_ms;
            record.fencing_token = fencing_token;
            record.flags |= FLAG_EXTENDED;
        });
        self.held.insert(slot, &self.arena.get(slot));
    }

    /// Moves a claim's units to where its new status has them.
    fn move_to(&mut self, slot: u32, status: ClaimStatus, settle_key: u128) {
        let Record {
            quantity,
            user,
            flags,
            status: before,
            ..
        } = self.arena.get(slot);
        let ends = status != ClaimStatus::Confirmed;
        let counts_itself = flags & FLAG_SUPERSEDED == 0;
        self.arena.edit(slot, |record| {
            record.status = status;
            record.settle_key = settle_key;
            if ends && counts_itself {
                record.user_units -= quantity;
            }
        });
        if ends && !counts_itself {
            let latest = self.index.user(&self.arena, user);
            let latest = latest.expect("a user with claims is in the index");
            self.arena.edit(latest, |record| record.user_units -= quantity);
        }
        let counters = &mut self.counters;
        let from = match before {
            ClaimStatus::Held => &mut counters.units_held,
            _ => &mut counters.units_confirmed,
        };
        *from -= u32::from(quantity);
        let to = if ends {
            &mut counters.units_available
        } else {
            &mut counters.units_confirmed
        };
        *to += u32::from(quantity);
    }

    /// The slot that a claim id names, if it names a claim of this sale.
    pub fn slot(&self, claim: ClaimId, secret: u128) -> Option<u32> {
        let slot = claim.slot();
        (slot < self.arena.len() && self.claim_id(slot, secret) == claim).then_some(slot)
    }

    /// The id of the claim in a slot.
    pub fn claim_id(&self, slot: u32, secret: u128) -> ClaimId {
        self.id_of(slot, self.arena.get(slot).log_index, secret)
    }

    fn id_of(&self, slot: u32, log_index: u64, secret: u128) -> ClaimId {
        ClaimId::new(secret, self.terms.namespace, self.number, slot, log_index)
    }

    /// A claim as others see it.
    pub fn claim(&self, slot: u32, secret: u128) -> ClaimView {
        let record = self.arena.get(slot);
        ClaimView {
            claim_id: self.id_of(slot, record.log_index, secret),
            status: record.status,
            user: record.user,
            quantity: u32::from(record.quantity),
            rank: slot + 1,
            deadline_ms: record.deadline_ms,
            fencing_token: record.fencing_token,
            receipt: Receipt {
                log_index: record.log_index,
                position: u32::from(record.position),
                term: u64::from(record.term),
                log_time_ms: record.log_time_ms,
            },
        }
    }

    /// The sale as others see it.
    pub fn view(&self) -> SaleView {
        let (terms, counters) = (&self.terms, &self.counters);
        SaleView {
            namespace: terms.namespace,
            sale_id: (*terms.sale_id).into(),
            sale_number: self.number,
            name: (*terms.name).into(),
            status: counters.status,
            units_total: counters.units_total,
            units_available: counters.units_available,
            units_held: counters.units_held,
            units_confirmed: counters.units_confirmed,
            per_user_units_max: terms.per_user_units_max,
            hold_ms: terms.hold_ms,
            checkout_max_ms: terms.checkout_max_ms,
            opens_at_ms: terms.opens_at_ms,
            closes_at_ms: terms.closes_at_ms,
            price_minor: terms.price_minor,
            currency: terms.currency,
            claims_made: self.arena.len(),
            claims_max: counters.claims_max,
            changed_index: counters.changed_index,
            first_deadline_ms: self.held.first(&self.arena).map(|(deadline_ms, _)| deadline_ms),
            last_deadline_ms: self.held.last_deadline(&self.arena),
        }
    }
}
