//! Reads of the state. None of them changes it, none walks more than it returns.

use alloc::vec::Vec;
use core::ops::Bound;

use fault_points::planted;

use crate::{
    apply::{judge_repeat, judge_take},
    claim::SLOT_NONE,
    command::{ClaimId, LogMs, Namespace, Operation},
    document::DocumentQuery,
    effect::{Effect, Outcome},
    machine::Machine,
    reply::{ClaimView, DocumentList, DocumentView, Grant, Rejection, Reply, SaleView},
    sale::Sale,
};

impl Machine {
    /// A sale.
    pub fn sale(&self, namespace: Namespace, sale_id: &str) -> Option<SaleView> {
        self.sale_by_number(self.number_of(namespace, sale_id)?)
    }

    /// A sale by its number.
    pub fn sale_by_number(&self, sale_number: u32) -> Option<SaleView> {
        self.numbered(sale_number).map(Sale::view)
    }

    /// All sales of a namespace after `after` (exclusive, in id order), at most `limit`.
    pub fn sales(&self, namespace: Namespace, after: Option<&str>, limit: usize) -> Vec<SaleView> {
        let Some(names) = self.names.get(&namespace) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let numbers = names.range::<str, _>((from, Bound::Unbounded)).take(limit);
        numbers
            .filter_map(|(_, &number)| self.sale_by_number(number))
            .collect()
    }

    /// A sale's number.
    pub fn sale_number(&self, namespace: Namespace, sale_id: &str) -> Option<u32> {
        self.number_of(namespace, sale_id)
    }

    /// Fetches the memory that [`Machine::refusal`] or a claim will need: asked first for all claims of a
    /// frame, they wait for memory together and not each by itself. Changes nothing.
    pub fn prefetch(&self, sale_number: Option<u32>, user: u128, key: u128) {
        if let Some(sale) = sale_number.and_then(|number| self.numbered(number)) {
            sale.index.prefetch(&sale.arena, user, key);
        }
    }

    /// What a claim of this quantity would hear if it came now and there is no need to ask the log:
    /// a refusal, or a claim that exists already. Cheap. `None`: it must be proposed, because it may
    /// be granted, or because log time has reached the sale's first deadline and units may come back.
    ///
    /// Right only on state that is as new as the question: applied up to a linearizable point, with
    /// no claim of the same key or user still under way. The sale is named by its number, `None` when it has
    /// none.
    pub fn refusal(
        &self,
        sale_number: Option<u32>,
        user: u128,
        key: u128,
        quantity: u32,
        log_now_ms: LogMs,
    ) -> Option<Reply> {
        if self.founding.is_none() || self.fences.get(key).is_some() {
            return None;
        }
        let Some(sale) = sale_number.and_then(|number| self.numbered(number)) else {
            return Some(Reply::Rejected(Rejection::SaleUnknown));
        };
        if sale
            .deadline_queued
            .is_some_and(|deadline_ms| deadline_ms <= log_now_ms)
        {
            return None;
        }
        let judged = match sale.made_by(key).filter(|_| !planted!("refusal-without-key")) {
            Some(slot) => {
                judge_repeat(sale, slot, key, user, quantity).map(|()| Some((Grant::Repeated, slot)))
            }
            None => judge_take(sale, user, quantity).map(|latest| latest.map(|slot| (Grant::Already, slot))),
        };
        match judged {
            Ok(known) => known.map(|(grant, slot)| Reply::Claim {
                grant,
                claim: sale.claim(slot, self.secret()),
            }),
            Err(rejection) => Some(Reply::Rejected(rejection)),
        }
    }

    /// A claim.
    pub fn claim(&self, claim: ClaimId) -> Option<ClaimView> {
        let sale = self.numbered(claim.sale_number())?;
        Some(sale.claim(sale.slot(claim, self.secret())?, self.secret()))
    }

    /// Claims of a sale from a rank on, in rank order, at most `limit`.
    pub fn claims(&self, sale_number: u32, rank_from: u32, limit: usize) -> Vec<ClaimView> {
        let Some(sale) = self.numbered(sale_number) else {
            return Vec::new();
        };
        let slots = rank_from.saturating_sub(1)..sale.arena.len();
        slots
            .take(limit)
            .map(|slot| sale.claim(slot, self.secret()))
            .collect()
    }

    /// Claims of one user in a sale, newest first, at most `limit`.
    pub fn claims_of(&self, sale_number: u32, user: u128, limit: usize) -> Vec<ClaimView> {
        let Some(sale) = self.numbered(sale_number) else {
            return Vec::new();
        };
        let latest = sale.index.user(&sale.arena, user);
        let before = |&slot: &u32| Some(sale.arena.get(slot).previous).filter(|&slot| slot != SLOT_NONE);
        let slots = core::iter::successors(latest, before).take(limit);
        slots.map(|slot| sale.claim(slot, self.secret())).collect()
    }

    /// What a key did, as far as is remembered. The sale's number matters for claims, their
    /// confirmations and releases only, which their sale remembers.
    pub fn effect(&self, sale_number: u32, operation: Operation, key: u128) -> Option<Reply> {
        match operation {
            Operation::Claim | Operation::Decrement | Operation::Confirm | Operation::Release => {
                let sale = self.numbered(sale_number)?;
                let slot = sale.index.key(&sale.arena, key)?;
                let claim = sale.claim(slot, self.secret());
                let made = sale.arena.get(slot).key == key;
                Some(if made {
                    Reply::Claim {
                        grant: Grant::Repeated,
                        claim,
                    }
                } else {
                    Reply::Settled(claim)
                })
            }
            _ => self.answer(self.memory.of(operation).get(key)?),
        }
    }

    /// The answer that a remembered effect gives again.
    pub(crate) fn answer(&self, effect: &Effect) -> Option<Reply> {
        Some(match effect.outcome {
            Outcome::Done => Reply::Done(effect.receipt),
            Outcome::Document {
                version,
                fencing_token,
                leased_until_ms,
            } => Reply::Document {
                version,
                fencing_token,
                leased_until_ms,
            },
            Outcome::Claim { sale_number, slot } => {
                Reply::Settled(self.numbered(sale_number)?.claim(slot, self.secret()))
            }
        })
    }

    /// A document.
    pub fn document(&self, document: &[u8]) -> Option<DocumentView> {
        self.documents.get(document).map(|document| document.view())
    }

    /// Documents in order of their keys.
    pub fn documents(&self, query: &DocumentQuery<'_>) -> DocumentList {
        self.documents.list(query)
    }
}
