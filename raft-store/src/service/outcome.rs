//! From the machine's words to the wire's.

use bytes::Bytes;
use inventory_machine::{
    hash::CLAIM_ID_BYTES,
    reply::{
        ClaimStatus, ClaimView, DocumentView, Event, EventKind, Field, Grant, Receipt, Rejection, Reply,
        Resolution, SaleStatus, SaleView,
    },
};
use prost::encoding::{encode_varint, encoded_len_varint};
use proto::v1::{self, outcome::Kind};

use crate::batcher::frame::{Answer, Position, Run, Unsubmitted};

/// Who leads, for answers that send the caller there.
#[derive(Clone, Debug, Default)]
pub struct LeaderHint {
    /// `host:port`, empty when nobody is known.
    pub endpoint: String,
}

/// When it may be worth asking again after a full queue or a starting leader, in ms: about an election.
const RETRY_AFTER_MS: u64 = 100;

/// When a full disk may have been seen to, in ms.
const RETRY_AFTER_DISK_MS: u64 = 5_000;

/// When the next node may have been upgraded, in ms.
const RETRY_AFTER_UPGRADE_MS: u64 = 10_000;

/// Writes outcomes as the wire has them: see [`v1::SubmitResponse::outcomes_encoded`].
pub struct OutcomesWriter<'a> {
    bytes: Vec<u8>,
    hint: &'a LeaderHint,
}

/// Bytes that a granted claim's outcome takes, about: with claims granted, one allocation does.
const OUTCOME_BYTES: usize = 96;

/// Field numbers of `inventory.proto`, where outcomes are written by hand.
mod field {
    pub const RESPONSE_OUTCOMES: u8 = 2;
    pub const OUTCOME_CLAIM: u8 = 1;
    pub const GRANTED_GRANT: u8 = 1;
    pub const GRANTED_CLAIM: u8 = 2;
    pub const CLAIM_ID: u8 = 1;
    pub const CLAIM_STATUS: u8 = 2;
    pub const CLAIM_QUANTITY: u8 = 3;
    pub const CLAIM_RANK: u8 = 4;
    pub const CLAIM_DEADLINE_MS: u8 = 5;
    pub const CLAIM_FENCING_TOKEN: u8 = 6;
    pub const CLAIM_RECEIPT: u8 = 7;
    pub const RECEIPT_LOG_INDEX: u8 = 1;
    pub const RECEIPT_POSITION: u8 = 2;
    pub const RECEIPT_TERM: u8 = 3;
    pub const RECEIPT_LOG_TIME_MS: u8 = 4;
}

/// Why a command was not judged at all.
const NOT_REACHED: &str = "its chain ended before it: the outcome of the command that was refused says why";

impl<'a> OutcomesWriter<'a> {
    /// A writer for so many outcomes.
    pub fn new(count: usize, hint: &'a LeaderHint) -> Self {
        OutcomesWriter {
            bytes: Vec::with_capacity(count * OUTCOME_BYTES),
            hint,
        }
    }

    /// Writes what became of the next command.
    pub fn push(&mut self, answer: Answer) {
        match answer {
            Answer::Reply(Reply::Claim { grant: how, claim }) => self.push_claim(grant(how), &claim),
            answer => self.push_message(&outcome(answer, self.hint)),
        }
    }

    /// Writes an outcome that exists as a message.
    pub fn push_message(&mut self, outcome: &v1::Outcome) {
        prost::encoding::message::encode(field::RESPONSE_OUTCOMES.into(), outcome, &mut self.bytes);
    }

    /// The outcomes.
    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }

    /// Writes a claim's outcome. Lengths go before what they measure: they are added up from the inside, each
    /// once.
    fn push_claim(&mut self, grant: v1::Grant, claim: &ClaimView) {
        let Receipt {
            log_index,
            position,
            term,
            log_time_ms,
        } = claim.receipt;
        let receipt = [
            (field::RECEIPT_LOG_INDEX, log_index),
            (field::RECEIPT_POSITION, position.into()),
            (field::RECEIPT_TERM, term),
            (field::RECEIPT_LOG_TIME_MS, log_time_ms),
        ];
        let numbers = [
            (field::CLAIM_STATUS, claim_status(claim.status) as u64),
            (field::CLAIM_QUANTITY, claim.quantity.into()),
            (field::CLAIM_RANK, claim.rank.into()),
            (field::CLAIM_DEADLINE_MS, claim.deadline_ms),
            (field::CLAIM_FENCING_TOKEN, claim.fencing_token),
        ];
        let grant = [(field::GRANTED_GRANT, grant as u64)];
        let receipt_len = numbers_len(&receipt);
        let claim_len = field_len(CLAIM_ID_BYTES) + numbers_len(&numbers) + field_len(receipt_len);
        let granted_len = numbers_len(&grant) + field_len(claim_len);
        let out = &mut self.bytes;
        put_message(out, field::RESPONSE_OUTCOMES, field_len(granted_len));
        put_message(out, field::OUTCOME_CLAIM, granted_len);
        put_numbers(out, &grant);
        put_message(out, field::GRANTED_CLAIM, claim_len);
        put_message(out, field::CLAIM_ID, CLAIM_ID_BYTES);
        out.extend_from_slice(&claim.claim_id.text());
        put_numbers(out, &numbers);
        put_message(out, field::CLAIM_RECEIPT, receipt_len);
        put_numbers(out, &receipt);
    }
}

/// Begins a field that has a length: a message or a text.
fn put_message(out: &mut Vec<u8>, field: u8, len: usize) {
    const LENGTH_DELIMITED: u8 = 2;
    out.push(field << 3 | LENGTH_DELIMITED);
    encode_varint(len as u64, out);
}

/// Bytes of a field of so many, with its tag and its length.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Bytes of varint fields. A zero is the default and is left out.
fn numbers_len<const N: usize>(numbers: &[(u8, u64); N]) -> usize {
    let set = numbers.iter().filter(|(_, value)| *value != 0);
    set.map(|(_, value)| 1 + encoded_len_varint(*value)).sum()
}

fn put_numbers<const N: usize>(out: &mut Vec<u8>, numbers: &[(u8, u64); N]) {
    for (field, value) in numbers.iter().filter(|(_, value)| *value != 0) {
        out.push(field << 3);
        encode_varint(*value, out);
    }
}

/// One command's outcome.
pub fn outcome(answer: Answer, hint: &LeaderHint) -> v1::Outcome {
    let kind = match answer {
        Answer::Reply(reply) => reply_kind(reply),
        Answer::Unsubmitted(why) => Kind::Unsubmitted(unsubmitted(why, hint)),
        Answer::Unknown { not_after_ms } => Kind::Unknown(v1::Unknown {
            message: "proposed, but the lead changed before it was known to be committed; repeat or resolve \
                      with the same key"
                .into(),
            not_after_ms,
        }),
    };
    v1::Outcome { kind: Some(kind) }
}

/// A command refused at the door for its shape.
pub fn malformed(message: String) -> v1::Outcome {
    let rejected = v1::Rejected {
        reason: v1::Reason::Invalid as i32,
        message,
        ..Default::default()
    };
    v1::Outcome {
        kind: Some(Kind::Rejected(rejected)),
    }
}

/// A command that follows one that was refused at the door.
pub fn not_reached() -> v1::Outcome {
    let rejected = v1::Rejected {
        reason: v1::Reason::NotReached as i32,
        message: NOT_REACHED.to_owned(),
        ..Default::default()
    };
    v1::Outcome {
        kind: Some(Kind::Rejected(rejected)),
    }
}

/// A command refused at the door for who asks.
pub fn forbidden(message: String) -> v1::Outcome {
    let rejected = v1::Rejected {
        reason: v1::Reason::Forbidden as i32,
        message,
        ..Default::default()
    };
    v1::Outcome {
        kind: Some(Kind::Rejected(rejected)),
    }
}

/// What became of a command, in a few words for a log.
pub fn in_words(answer: &Answer) -> String {
    match answer {
        Answer::Reply(Reply::Rejected(rejection)) => format!("refused: {rejection:?}"),
        Answer::Reply(_) => "ok".to_owned(),
        Answer::Unsubmitted(why) => format!("never proposed: {why}"),
        Answer::Unknown { .. } => "outcome unknown".to_owned(),
    }
}

/// Never proposed.
pub fn unsubmitted(why: Unsubmitted, hint: &LeaderHint) -> v1::Unsubmitted {
    use v1::unsubmitted::Cause;
    let (cause, retry_after_ms) = match why {
        Unsubmitted::NotLeader if hint.endpoint.is_empty() => (Cause::NotLeader, RETRY_AFTER_MS),
        Unsubmitted::NotLeader => (Cause::NotLeader, 0),
        Unsubmitted::Overloaded => (Cause::Overloaded, RETRY_AFTER_MS),
        Unsubmitted::Starting | Unsubmitted::NoQuorum => (Cause::Starting, RETRY_AFTER_MS),
        Unsubmitted::Stopping => (Cause::Stopping, 0),
        Unsubmitted::DiskReserve => (Cause::DiskReserve, RETRY_AFTER_DISK_MS),
        Unsubmitted::Upgrade { .. } => (Cause::Upgrade, RETRY_AFTER_UPGRADE_MS),
    };
    v1::Unsubmitted {
        cause: cause as i32,
        message: why.to_string(),
        leader_endpoint: hint.endpoint.clone(),
        retry_after_ms,
    }
}

fn reply_kind(reply: Reply) -> Kind {
    match reply {
        Reply::Claim {
            grant: how,
            claim: view,
        } => Kind::Claim(v1::Granted {
            grant: grant(how) as i32,
            claim: Some(claim(&view)),
        }),
        Reply::Settled(view) => Kind::Settled(claim(&view)),
        Reply::Done(at) => Kind::Done(receipt(&at)),
        Reply::Document {
            version,
            fencing_token,
            leased_until_ms,
        } => Kind::Document(v1::DocumentDone {
            version,
            fencing_token,
            leased_until_ms,
        }),
        Reply::Resolved(resolution) => {
            use v1::resolution::Kind as Resolved;
            let kind = match resolution {
                Resolution::Claim(view) => Resolved::Claim(claim(&view)),
                Resolution::Effect(at) => Resolved::Effect(receipt(&at)),
                Resolution::Abandoned { fenced_until_ms } => Resolved::AbandonedUntilMs(fenced_until_ms),
            };
            Kind::Resolved(v1::Resolution {
                kind: Some(kind),
                position: None,
            })
        }
        Reply::Rejected(rejection) => Kind::Rejected(rejected(rejection)),
    }
}

fn rejected(rejection: Rejection) -> v1::Rejected {
    use v1::Reason;
    let with = |reason: Reason, message: &str, value: u64| v1::Rejected {
        reason: reason as i32,
        message: message.to_owned(),
        value,
        ..Default::default()
    };
    match rejection {
        // 99% of all answers: no text, so nothing is allocated.
        Rejection::SoldOut {
            units_available,
            maybe_more_until_ms,
        } => v1::Rejected {
            reason: Reason::SoldOut as i32,
            value: u64::from(units_available),
            until_ms: maybe_more_until_ms,
            ..Default::default()
        },
        Rejection::SaleNotOpen { status, opens_at_ms } => v1::Rejected {
            opens_at_ms,
            sale_status: sale_status(status) as i32,
            ..with(Reason::SaleNotOpen, "the sale is not open", 0)
        },
        Rejection::SaleUnknown => with(Reason::SaleUnknown, "no such sale", 0),
        Rejection::SaleExists => with(
            Reason::SaleExists,
            "a sale of this id exists already; choose another id",
            0,
        ),
        Rejection::SaleTransition { status } => v1::Rejected {
            sale_status: sale_status(status) as i32,
            ..with(
                Reason::SaleTransition,
                &format!("the sale is {status:?} already or for good"),
                0,
            )
        },
        Rejection::ClaimsExhausted { claims_max } => with(
            Reason::ClaimsExhausted,
            "the sale has made all the claims it may",
            claims_max.into(),
        ),
        Rejection::UserLimit {
            units_taken,
            units_max,
        } => v1::Rejected {
            value: units_taken.into(),
            ..with(
                Reason::UserLimit,
                &format!("the user has {units_taken} of at most {units_max} units; ask for fewer"),
                0,
            )
        },
        Rejection::ClaimUnknown => with(Reason::ClaimUnknown, "no such claim", 0),
        Rejection::ClaimGone { status } => v1::Rejected {
            claim_status: claim_status(status) as i32,
            ..with(
                Reason::ClaimGone,
                &format!("the claim is {status:?}: this step is too late"),
                0,
            )
        },
        Rejection::StaleToken { fencing_token } => with(
            Reason::StaleToken,
            "the fencing token is not the current one",
            fencing_token,
        ),
        Rejection::KeyReused => with(
            Reason::KeyReused,
            "the key was used before with another request; make a new key",
            0,
        ),
        Rejection::KeyFenced => with(
            Reason::KeyFenced,
            "the key was given up by a resolve; make a new key",
            0,
        ),
        Rejection::TooLate { log_time_ms } => {
            with(Reason::TooLate, "the command's not_after has passed", log_time_ms)
        }
        Rejection::OutOfRange { field } => with(Reason::OutOfRange, out_of_range(field), 0),
        Rejection::UnitsInUse { units_available } => with(
            Reason::UnitsInUse,
            "only available units can be withdrawn, not held or confirmed ones",
            units_available.into(),
        ),
        Rejection::VersionMismatch { version } => with(
            Reason::VersionMismatch,
            "the document is at another version",
            version,
        ),
        Rejection::Leased { leased_until_ms } => v1::Rejected {
            until_ms: leased_until_ms,
            ..with(Reason::Leased, "somebody else holds the document's lease", 0)
        },
        Rejection::DocumentQuota => with(Reason::DocumentQuota, "the documents' quota is used up", 0),
        Rejection::TableFull => with(
            Reason::TableFull,
            "there is no room for another sale, key or fence; try again later",
            0,
        ),
        Rejection::NotReached => with(Reason::NotReached, NOT_REACHED, 0),
        Rejection::Founding => with(Reason::Invalid, "the cluster has its identity already", 0),
    }
}

fn out_of_range(field: Field) -> &'static str {
    match field {
        Field::SaleId => "sale_id: 1 to 64 of a-z A-Z 0-9 . _ -",
        Field::SaleName => "name: at most 256 bytes",
        Field::Units => "units: 1 to 100,000,000 in all",
        Field::Quantity => "quantity: at least 1, at most the sale's per_user_units_max",
        Field::PerUserUnitsMax => "per_user_units_max: 1 to 65,535",
        Field::HoldMs => "hold_ms: 1,000 (1 s) to 86,400,000 (24 h)",
        Field::CheckoutMaxMs => "checkout_max_ms: at most 86,400,000 (24 h)",
        Field::Hours => "closes_at_ms must lie after opens_at_ms",
        Field::Currency => "currency: an ISO 4217 code of three capitals",
        Field::ClaimsMax => "claims_max: at least units_total",
        Field::NotAfter => "not_after_ms: at most 60,000 ms of log time ahead",
        Field::DocumentKey => "document key: 1 to 128 bytes",
        Field::DocumentBody => "document body: at most 16,384 bytes",
        Field::LeaseMs => "lease_ms is out of range",
        Field::TtlMs => "ttl_ms is out of range",
    }
}

/// A claim.
pub fn claim(view: &ClaimView) -> v1::Claim {
    v1::Claim {
        claim_id: view.claim_id.to_string(),
        status: claim_status(view.status) as i32,
        quantity: view.quantity,
        rank: view.rank,
        deadline_ms: view.deadline_ms,
        fencing_token: view.fencing_token,
        receipt: Some(receipt(&view.receipt)),
        user_hash: Bytes::new(),
    }
}

/// A claim in a listing: with its user's hash.
pub fn listed_claim(view: &ClaimView) -> v1::Claim {
    v1::Claim {
        user_hash: Bytes::copy_from_slice(&view.user.to_be_bytes()),
        ..claim(view)
    }
}

/// A document in a listing.
pub fn listed_document(view: DocumentView) -> v1::ListedDocument {
    v1::ListedDocument {
        document: view.document.into(),
        body: view.body.into(),
        version: view.version,
        fencing_token: view.fencing_token,
        leased_until_ms: view.leased_until_ms,
        expires_at_ms: view.expires_at_ms,
    }
}

fn receipt(receipt: &Receipt) -> v1::Receipt {
    v1::Receipt {
        log_index: receipt.log_index,
        position: receipt.position,
        term: receipt.term,
        log_time_ms: receipt.log_time_ms,
    }
}

/// A sale.
pub fn sale(view: &SaleView) -> v1::Sale {
    v1::Sale {
        sale_id: view.sale_id.clone(),
        name: view.name.clone(),
        status: sale_status(view.status) as i32,
        units_total: view.units_total,
        units_available: view.units_available,
        units_held: view.units_held,
        units_confirmed: view.units_confirmed,
        per_user_units_max: view.per_user_units_max,
        hold_ms: view.hold_ms,
        checkout_max_ms: view.checkout_max_ms,
        opens_at_ms: view.opens_at_ms,
        closes_at_ms: view.closes_at_ms,
        price_minor: view.price_minor,
        currency: view.currency.iter().map(|&letter| char::from(letter)).collect(),
        claims_made: view.claims_made,
        claims_max: view.claims_max,
        changed_index: view.changed_index,
        first_deadline_ms: view.first_deadline_ms,
        last_deadline_ms: view.last_deadline_ms,
        sale_number: view.sale_number,
    }
}

/// An event; `sale_id` is its sale's.
pub fn event(event: &Event, sale_id: &str) -> v1::Event {
    use v1::event::Kind as Wire;
    let (kind, view, value) = match &event.kind {
        EventKind::SaleCreated => (Wire::SaleCreated, None, 0),
        EventKind::SaleOpened => (Wire::SaleOpened, None, 0),
        EventKind::SalePaused => (Wire::SalePaused, None, 0),
        EventKind::SaleClosed => (Wire::SaleClosed, None, 0),
        EventKind::SaleRestocked { units } => (Wire::SaleRestocked, None, u64::from(*units)),
        EventKind::SaleWithdrawn { units } => (Wire::SaleWithdrawn, None, u64::from(*units)),
        EventKind::ClaimGranted(view) => (Wire::ClaimGranted, Some(view), 0),
        EventKind::ClaimConfirmed(view) => (Wire::ClaimConfirmed, Some(view), 0),
        EventKind::ClaimReleased(view) => (Wire::ClaimReleased, Some(view), 0),
        EventKind::ClaimExpired(view) => (Wire::ClaimExpired, Some(view), 0),
        EventKind::ClaimExtended(view) => (Wire::ClaimExtended, Some(view), 0),
        EventKind::ClaimCancelled(view) => (Wire::ClaimCancelled, Some(view), 0),
        EventKind::DocumentChanged { version } => (Wire::DocumentChanged, None, *version),
    };
    v1::Event {
        log_index: event.log_index,
        ordinal: event.ordinal,
        log_time_ms: event.log_time_ms,
        kind: kind as i32,
        sale_id: sale_id.to_owned(),
        claim: view.map(listed_claim),
        value,
        command: event.command,
    }
}

/// Where commands of a frame stand.
pub fn run(run: Run) -> v1::Run {
    v1::Run {
        log_index: run.log_index,
        position: run.position,
        commands: run.commands,
        log_time_ms: run.log_time_ms,
    }
}

/// What an answer reflects.
pub fn position(position: Position, incarnation: u32) -> v1::Position {
    v1::Position {
        applied_index: position.applied_index,
        term: position.term,
        log_time_ms: position.log_time_ms,
        wall_time_ms: position.wall_time_ms,
        incarnation,
        group: 0,
        command: None,
    }
}

fn grant(grant: Grant) -> v1::Grant {
    match grant {
        Grant::Granted => v1::Grant::Granted,
        Grant::Repeated => v1::Grant::Repeated,
        Grant::Already => v1::Grant::Already,
    }
}

fn claim_status(status: ClaimStatus) -> v1::ClaimStatus {
    match status {
        ClaimStatus::Held => v1::ClaimStatus::Held,
        ClaimStatus::Confirmed => v1::ClaimStatus::Confirmed,
        ClaimStatus::Released => v1::ClaimStatus::Released,
        ClaimStatus::Expired => v1::ClaimStatus::Expired,
        ClaimStatus::Cancelled => v1::ClaimStatus::Cancelled,
    }
}

fn sale_status(status: SaleStatus) -> v1::SaleStatus {
    match status {
        SaleStatus::Scheduled => v1::SaleStatus::Scheduled,
        SaleStatus::Open => v1::SaleStatus::Open,
        SaleStatus::Paused => v1::SaleStatus::Paused,
        SaleStatus::Closed => v1::SaleStatus::Closed,
    }
}

#[cfg(test)]
mod tests {
    use inventory_machine::command::ClaimId;
    use prost::Message;

    use super::*;

    #[test]
    fn claims_written_by_hand_are_what_the_messages_would_be() {
        let hint = LeaderHint::default();
        let mut writer = OutcomesWriter::new(0, &hint);
        let mut wanted = Vec::new();
        for shift in 0..64 {
            // Numbers of every length; zeros, which are left out, among them.
            let number = (1u64 << shift) - 1;
            let claim = ClaimView {
                claim_id: ClaimId::parse("c_aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcai").expect("an id"),
                status: [ClaimStatus::Held, ClaimStatus::Confirmed, ClaimStatus::Expired][shift % 3],
                user: 7,
                quantity: number as u32,
                rank: (number >> 3) as u32,
                deadline_ms: number,
                fencing_token: number >> 7,
                receipt: Receipt {
                    log_index: number,
                    position: number as u32,
                    term: number >> 9,
                    log_time_ms: number,
                },
            };
            let how = [Grant::Granted, Grant::Repeated, Grant::Already][shift % 3];
            let answers = [
                Answer::Reply(Reply::Claim { grant: how, claim }),
                Answer::Reply(Reply::Settled(claim)),
                Answer::Unsubmitted(Unsubmitted::Overloaded),
            ];
            for answer in answers {
                wanted.push(outcome(answer.clone(), &hint));
                writer.push(answer);
            }
        }
        let message = |outcomes, outcomes_encoded| v1::SubmitResponse {
            frame_id: 1,
            outcomes,
            outcomes_encoded,
            position: None,
            runs: Vec::new(),
        };
        let written = message(Vec::new(), writer.finish()).encode_to_vec();
        assert_eq!(written, message(wanted, Bytes::new()).encode_to_vec());
    }
}
