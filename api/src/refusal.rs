//! How the store's refusals read in HTTP: which problem each is, what it tells, and when to come back.
//!
//! A refusal of the store is an answer about the sale or the claim; `Unavailable` and `Unknown` are
//! about the road there, and both allow the same key again, which is what they tell first.

use client::{ClaimStatus, Error, Position, Reason, Rejected, SaleStatus};

use crate::{
    error::{Kind, Members, Problem},
    json, time,
};

/// Most seconds added at random to a `Retry-After`, so that those who were told to come back do not
/// all come back in the same instant.
const RETRY_JITTER_S: u64 = 3;

/// Wait suggested when nobody knows when a sale opens, in seconds.
const OPENING_UNKNOWN_S: u64 = 5;

/// Some seconds to add to a wait.
pub(crate) fn jitter_s() -> u64 {
    client::chance::below(RETRY_JITTER_S + 1)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejected) => refused(*rejected),
            Error::Unavailable {
                message,
                retry_after_ms,
            } => {
                let detail =
                    format!("{message}. Nothing was changed; the same Idempotency-Key may be sent again.");
                Problem::with(Kind::Unavailable, detail, Members::same_key_safe())
                    .retry_after(retry_after_ms.div_ceil(1_000).max(1))
            }
            Error::Unknown { message, .. } => {
                let detail = format!(
                    "{message}. It may have happened or may yet happen: send the same Idempotency-Key again \
                     to learn which, never a new one."
                );
                Problem::with(Kind::UnknownOutcome, detail, Members::same_key_safe()).retry_after(1)
            }
        }
    }
}

/// The store's refusals. Those about a document's version or lease are for whoever writes documents, never for
/// a caller.
fn refused(rejected: Rejected) -> Problem {
    let position = &rejected.position;
    let value = Some(rejected.value);
    // Zero where the request was refused without looking at any state.
    let log_index = Some(position.applied_index).filter(|index| *index > 0);
    let mut members = Members {
        log_index,
        ..Members::default()
    };
    let mut retry_after_s = None;
    let kind = match rejected.reason {
        Reason::SoldOut => {
            // Read at a linearizable point by the leader: this node never refuses from memory.
            members.authoritative = Some(true);
            members.units_available = value;
            members.maybe_more_until = Some(rejected.until_ms)
                .filter(|until_ms| *until_ms > 0)
                .map(|until_ms| time::rfc3339(time::wall_of(until_ms, position)));
            Kind::SoldOut
        }
        Reason::SaleNotOpen => {
            members.sale_status = Some(json::sale_status(rejected.sale_status));
            let kind = kind_of_not_open(rejected.sale_status);
            if kind == Kind::NotOpenYet && rejected.opens_at_ms > 0 {
                members.opens_at = Some(time::rfc3339(rejected.opens_at_ms));
            }
            if kind != Kind::SaleClosed {
                retry_after_s = Some(opening_wait_s(rejected.opens_at_ms, position) + jitter_s());
            }
            kind
        }
        Reason::SaleUnknown => Kind::SaleUnknown,
        Reason::SaleExists => Kind::SaleExists,
        Reason::SaleTransition => {
            members.sale_status = Some(json::sale_status(rejected.sale_status));
            Kind::SaleTransition
        }
        Reason::ClaimsExhausted => {
            members.limit = value;
            Kind::ClaimsExhausted
        }
        Reason::UserLimit => {
            members.limit = value;
            Kind::UserLimit
        }
        Reason::ClaimUnknown => Kind::ClaimUnknown,
        Reason::ClaimGone => {
            members.claim_status = Some(json::claim_status(rejected.claim_status));
            match rejected.claim_status {
                ClaimStatus::Confirmed => Kind::ClaimConfirmed,
                _ => Kind::HoldGone,
            }
        }
        Reason::StaleToken => Kind::StaleToken,
        Reason::KeyReused => Kind::KeyReused,
        Reason::KeyFenced => Kind::KeyFenced,
        Reason::TooLate => {
            // Definite: it came into the log after its latest time and did nothing.
            members.same_key_safe = Some(true);
            retry_after_s = Some(1);
            Kind::Unavailable
        }
        Reason::TableFull => {
            // Definite as well: no room to remember another key until some have aged out.
            members.same_key_safe = Some(true);
            retry_after_s = Some(1 + jitter_s());
            Kind::Unavailable
        }
        Reason::DocumentQuota => {
            // Definite too: no room for another document until an operator makes some.
            members.same_key_safe = Some(true);
            retry_after_s = Some(1 + jitter_s());
            Kind::Unavailable
        }
        Reason::WrongCluster => {
            // Definite: nobody of our cluster was reached. An operator must look at the endpoints.
            tracing::error!(
                message = rejected.message,
                "the store's nodes are of another cluster"
            );
            members.same_key_safe = Some(true);
            retry_after_s = Some(1 + jitter_s());
            Kind::Unavailable
        }
        Reason::NotReached => {
            // Definite: its chain ended before it, and whoever sent the chain was told why.
            members.same_key_safe = Some(true);
            retry_after_s = Some(1);
            Kind::Unavailable
        }
        Reason::OutOfRange | Reason::Invalid => Kind::Invalid,
        Reason::UnitsInUse => {
            members.units_available = value;
            Kind::UnitsInUse
        }
        Reason::Unspecified | Reason::VersionMismatch | Reason::Leased | Reason::Forbidden => {
            let (reason, message) = (rejected.reason, &rejected.message);
            tracing::error!(
                ?reason,
                message,
                "the store refused for a reason no route here can have"
            );
            return Problem::new(
                Kind::Internal,
                "the store refused for a reason no route here can have",
            );
        }
    };
    let problem = Problem::with(kind, rejected.message, members);
    match retry_after_s {
        Some(seconds) => problem.retry_after(seconds),
        None => problem,
    }
}

fn kind_of_not_open(status: SaleStatus) -> Kind {
    match status {
        SaleStatus::Closed => Kind::SaleClosed,
        SaleStatus::Paused => Kind::SalePaused,
        _ => Kind::NotOpenYet,
    }
}

/// Seconds until a sale opens, by the voters' wall time; a guess where either time is unknown.
fn opening_wait_s(opens_at_ms: u64, position: &Position) -> u64 {
    let wait_ms = opens_at_ms.saturating_sub(position.wall_time_ms);
    if position.wall_time_ms == 0 || wait_ms == 0 {
        OPENING_UNKNOWN_S
    } else {
        wait_ms.div_ceil(1_000)
    }
}
