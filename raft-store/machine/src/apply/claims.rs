//! Claims: granted, settled, extended, cancelled, expired.

use fault_points::planted;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Answer, Entry, Verdict};
use crate::{
    claim::{BLOCK_RECORDS, FLAG_EXTENDED, Record},
    command::{Command, Operation, QUANTITY_MAX, Settle, Take},
    effect::Outcome,
    event::{Change, Step},
    reply::{ClaimStatus, Field, Grant, Rejection, SaleStatus},
    sale::Sale,
};

/// Judges a claim by the sale as it is: refused, or the user's latest claim when he is at the limit, or none of
/// that and so to be granted. Shared by `apply` and by the refusals that need no log entry. The key is known
/// to be new.
pub(crate) fn judge_take(sale: &Sale, user: u128, quantity: u32) -> Result<Option<u32>, Rejection> {
    let (terms, counters) = (&sale.terms, &sale.counters);
    if quantity == 0 || quantity > QUANTITY_MAX || quantity > terms.per_user_units_max {
        return Err(Rejection::OutOfRange {
            field: Field::Quantity,
        });
    }
    let (units_taken, latest) = sale.user(user);
    let units_max = terms.per_user_units_max;
    if let Some(latest) = latest.filter(|_| units_taken >= units_max) {
        assert!(
            sale.arena.get(latest).is_live(),
            "the claim that brought a user to his limit is live"
        );
        return Ok(Some(latest));
    }
    if units_taken + quantity > units_max {
        return Err(Rejection::UserLimit {
            units_taken,
            units_max,
        });
    }
    if counters.status != SaleStatus::Open {
        let waits = counters.status == SaleStatus::Scheduled;
        let opens_at_ms = if waits { terms.opens_at_ms } else { 0 };
        return Err(Rejection::SaleNotOpen {
            status: counters.status,
            opens_at_ms,
        });
    }
    if sale.arena.len() >= counters.claims_max {
        return Err(Rejection::ClaimsExhausted {
            claims_max: counters.claims_max,
        });
    }
    let units_available = counters.units_available;
    if units_available < quantity {
        let maybe_more_until_ms = sale.held.last_deadline(&sale.arena).unwrap_or(0);
        return Err(Rejection::SoldOut {
            units_available,
            maybe_more_until_ms,
        });
    }
    Ok(None)
}

/// Judges a claim whose key is known by the claim it made: the same again, unless it asks for something else.
pub(crate) fn judge_repeat(
    sale: &Sale,
    slot: u32,
    key: u128,
    user: u128,
    quantity: u32,
) -> Result<(), Rejection> {
    let record = sale.arena.get(slot);
    if record.key != key || record.user != user || u32::from(record.quantity) != quantity {
        return Err(Rejection::KeyReused);
    }
    Ok(())
}

impl Entry<'_> {
    /// Returns the units of every hold of a sale that is due.
    pub(super) fn expire_claims(&mut self, sale_number: u32) {
        let now_ms = self.now_ms();
        while let Some(slot) = self.touch(sale_number).expire(now_ms) {
            self.step(sale_number, Step::Expired, slot);
        }
    }

    /// Claim and decrement.
    pub(super) fn take(&mut self, command: &Command<'_>, take: &Take, decrement: bool) -> Answer {
        let Some(number) = self.sale_at(take.sale) else {
            self.in_time(command)?;
            return Err(Rejection::SaleUnknown);
        };
        let claim = |grant, slot| Verdict::Claim {
            grant,
            sale_number: number,
            slot,
        };
        let sale = &self.machine.sales[number as usize - 1];
        let Take { user, quantity, .. } = *take;
        if let Some(slot) = sale.made_by(command.key) {
            judge_repeat(sale, slot, command.key, user, quantity)?;
            return Ok(claim(Grant::Repeated, slot));
        }
        self.in_time(command)?;
        if let Some(slot) = judge_take(sale, user, quantity)?
            && !planted!("limit-checked-outside-log")
        {
            return Ok(claim(Grant::Already, slot));
        }
        let at = self.at;
        let sale = self.touch(number);
        // Within QUANTITY_MAX, so within 16 bits.
        let (slot, record) = sale.grant(user, command.key, quantity as u16, decrement, &at);
        let begins_block = (slot as usize).is_multiple_of(BLOCK_RECORDS);
        self.machine.blocks += u64::from(begins_block);
        self.event(number, Change::of(Step::Granted, slot, &record));
        if decrement {
            self.event(number, Change::of(Step::Confirmed, slot, &record));
        }
        Ok(claim(Grant::Granted, slot))
    }

    pub(super) fn confirm(&mut self, command: &Command<'_>, settle: &Settle) -> Answer {
        self.settle(command, settle, ClaimStatus::Confirmed)
    }

    pub(super) fn release(&mut self, command: &Command<'_>, settle: &Settle) -> Answer {
        self.settle(command, settle, ClaimStatus::Released)
    }

    /// Confirms or releases. The claim's record remembers the key.
    fn settle(&mut self, command: &Command<'_>, settle: &Settle, status: ClaimStatus) -> Answer {
        let secret = self.machine.secret();
        let number = settle.claim.sale_number();
        if let Some(sale) = self.machine.numbered(number)
            && let Some(slot) = sale.index.key(&sale.arena, command.key)
        {
            let record = sale.arena.get(slot);
            let released = record.status == ClaimStatus::Released;
            let same = record.settle_key == command.key
                && sale.claim_id(slot, secret) == settle.claim
                && record.fencing_token == settle.fencing_token
                && released == (status == ClaimStatus::Released);
            return if same {
                Ok(Verdict::Settled {
                    sale_number: number,
                    slot,
                })
            } else {
                Err(Rejection::KeyReused)
            };
        }
        self.in_time(command)?;
        let (slot, _) = match self.current(settle, ClaimStatus::Held) {
            Err(_) if planted!("release-of-confirmed") && status == ClaimStatus::Released => {
                self.current(settle, ClaimStatus::Confirmed)?
            }
            current => current?,
        };
        let sale = self.touch(number);
        sale.settle(slot, command.key, status);
        let step = match status {
            ClaimStatus::Confirmed => Step::Confirmed,
            _ => Step::Released,
        };
        self.step(number, step, slot);
        Ok(Verdict::Settled {
            sale_number: number,
            slot,
        })
    }

    /// Announces what has happened to a claim.
    fn step(&mut self, sale_number: u32, step: Step, slot: u32) {
        let record = self.machine.sales[sale_number as usize - 1].arena.get(slot);
        self.event(sale_number, Change::of(step, slot, &record));
    }

    /// The slot and record of a claim that is in the status that a step needs and named with its
    /// current token.
    fn current(&self, settle: &Settle, needed: ClaimStatus) -> Result<(u32, Record), Rejection> {
        let sale = self
            .machine
            .numbered(settle.claim.sale_number())
            .ok_or(Rejection::ClaimUnknown)?;
        let slot = sale
            .slot(settle.claim, self.machine.secret())
            .ok_or(Rejection::ClaimUnknown)?;
        let record = sale.arena.get(slot);
        if record.status != needed {
            return Err(Rejection::ClaimGone {
                status: record.status,
            });
        }
        if record.fencing_token != settle.fencing_token {
            return Err(Rejection::StaleToken {
                fencing_token: record.fencing_token,
            });
        }
        Ok((slot, record))
    }

    /// Begins a checkout. A hold is extended once: a second checkout, even with the current token, is
    /// refused with `ClaimGone { status: Held }`, so nobody can take a checkout over from its owner
    /// and both go on to charge the shopper.
    ///
    /// The new token is this entry's index. It always differs from the one before: a claim's id is
    /// unknown outside before the entry that granted it was applied, so grant and extension are
    /// never in the same entry.
    pub(super) fn extend(&mut self, command: &Command<'_>, settle: &Settle) -> Answer {
        let request = request_of(b'x', settle);
        if let Some(answer) = self.repeated_settle(Operation::Extend, command.key, request)? {
            return Ok(answer);
        }
        self.in_time(command)?;
        let (slot, record) = self.current(settle, ClaimStatus::Held)?;
        if record.is(FLAG_EXTENDED) {
            return Err(Rejection::ClaimGone {
                status: ClaimStatus::Held,
            });
        }
        let (number, fencing_token) = (settle.claim.sale_number(), self.at.log_index);
        self.touch(number).extend(slot, fencing_token);
        Ok(self.settled(command, Operation::Extend, request, number, slot, Step::Extended))
    }

    pub(super) fn cancel(&mut self, command: &Command<'_>, settle: &Settle) -> Answer {
        let request = request_of(b'c', settle);
        if let Some(answer) = self.repeated_settle(Operation::Cancel, command.key, request)? {
            return Ok(answer);
        }
        self.in_time(command)?;
        let (slot, _) = self.current(settle, ClaimStatus::Confirmed)?;
        let number = settle.claim.sale_number();
        self.touch(number).cancel(slot);
        Ok(self.settled(command, Operation::Cancel, request, number, slot, Step::Cancelled))
    }

    /// The claim that this key extended or cancelled, as it is now.
    fn repeated_settle(
        &self,
        operation: Operation,
        key: u128,
        request: u64,
    ) -> Result<Option<Verdict>, Rejection> {
        let effect = self.remembered(operation, key, request)?;
        let answer = effect.and_then(|effect| self.machine.answer(&effect));
        Ok(answer.map(Verdict::Reply))
    }

    /// Remembers, announces and answers a step that the side table remembers.
    fn settled(
        &mut self,
        command: &Command<'_>,
        operation: Operation,
        request: u64,
        sale_number: u32,
        slot: u32,
        step: Step,
    ) -> Verdict {
        self.remember(
            operation,
            command.key,
            request,
            Outcome::Claim { sale_number, slot },
        );
        self.step(sale_number, step, slot);
        Verdict::Settled { sale_number, slot }
    }
}

/// Hash of what a step asks for.
fn request_of(kind: u8, settle: &Settle) -> u64 {
    let mut bytes = [0; 32];
    bytes[..24].copy_from_slice(&settle.claim.0);
    bytes[24..].copy_from_slice(&settle.fencing_token.to_le_bytes());
    xxh3_64_with_seed(&bytes, u64::from(kind))
}
