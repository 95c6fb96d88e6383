//! Money that goes back: refunds, and disputes.
//!
//! Refunds that count and an open or lost dispute never add up to more than was captured.

use serde_json::Value;

use super::{
    currency,
    error::ApiError,
    event::Moment,
    magic::RefundFate,
    object::{Dispute, DisputeStatus, Place, Refund, RefundStatus},
    params::NewRefund,
    provider::{Due, Provider},
};

/// Refunds that one charge may have.
const REFUNDS_MAX: usize = 100;

impl Provider {
    pub(super) fn refund(&mut self, refund: NewRefund, moment: &mut Moment) -> Result<Value, ApiError> {
        let stays_pending = moment.draw.chance(self.faults.refund_pending_rate);
        let charge = self.charge_position(refund.payment_intent.as_deref(), refund.charge.as_deref())?;
        let charged = &self.charges[charge];
        if charged.captured.is_none() {
            let words = "This payment was not captured; cancel it instead";
            return Err(ApiError::invalid("payment_intent_unexpected_state", words));
        }
        let id = &charged.id;
        if self.taken_back_minor(charge) > 0 {
            let words = format!("Charge {id} has been charged back; it cannot be refunded");
            return Err(ApiError::invalid("charge_disputed", words));
        }
        let left = charged.captured_minor() - self.refunded_minor(charged);
        if left == 0 {
            let words = format!("Charge {id} has been refunded already");
            return Err(ApiError::invalid("charge_already_refunded", words));
        }
        let amount = refund.amount.unwrap_or(left);
        if amount > left {
            let words =
                format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
            return Err(ApiError::param("amount_too_large", "amount", words));
        }
        currency::check_multiple(amount, self.intents[charged.intent].currency, "amount")?;
        if charged.refunds.len() >= REFUNDS_MAX {
            return Err(ApiError::full("refunds of one charge"));
        }
        let fate = self.intents[charged.intent].magic.refund;
        let fate = fate.or(stays_pending.then_some(RefundFate::Pending));
        let position = self.refunds.len();
        let id = self.name("re_", Place::Refund(position));
        self.refunds.push(Refund {
            id,
            charge,
            created_ms: moment.now_ms,
            amount,
            status: match fate {
                Some(RefundFate::Pending) => RefundStatus::Pending,
                _ => RefundStatus::Succeeded,
            },
            ended_ms: None,
            reason: refund.reason,
            metadata: refund.metadata,
        });
        self.charges[charge].refunds.push(position);
        let due_ms = moment.now_ms.saturating_add(self.options.refund_ms);
        match fate {
            None => {}
            Some(RefundFate::Pending) => self.plan(due_ms, Due::SettleRefund { refund: position }),
            Some(RefundFate::Fails) => self.plan(due_ms, Due::FailRefund { refund: position }),
        }
        let object = self.refund_json(position);
        self.tell("refund.created", object.clone(), moment);
        let charge = self.charge_json(charge);
        self.tell("charge.refunded", charge, moment);
        Ok(object)
    }

    pub(super) fn settle_refund(&mut self, position: usize, moment: &mut Moment) {
        self.refunds[position].status = RefundStatus::Succeeded;
        self.refunds[position].ended_ms = Some(moment.now_ms);
        let object = self.refund_json(position);
        self.tell("refund.updated", object.clone(), moment);
        self.tell("charge.refund.updated", object, moment);
    }

    pub(super) fn fail_refund(&mut self, position: usize, moment: &mut Moment) {
        self.refunds[position].status = RefundStatus::Failed;
        self.refunds[position].ended_ms = Some(moment.now_ms);
        let object = self.refund_json(position);
        self.tell("refund.updated", object.clone(), moment);
        self.tell("refund.failed", object.clone(), moment);
        self.tell("charge.refund.updated", object, moment);
    }

    /// What the card's bank took back, or may yet keep.
    pub(super) fn taken_back_minor(&self, charge: usize) -> u64 {
        let dispute = self.charges[charge]
            .dispute
            .map(|dispute| &self.disputes[dispute]);
        dispute.map_or(0, |dispute| match dispute.status {
            DisputeStatus::NeedsResponse | DisputeStatus::Lost => dispute.amount,
            DisputeStatus::Won => 0,
        })
    }

    /// The shopper disputes a charge: all of it that was not refunded, or a part.
    pub(super) fn dispute(
        &mut self,
        charge: usize,
        amount: Option<u64>,
        reason: &str,
        moment: &mut Moment,
    ) -> Result<usize, ApiError> {
        let charged = &self.charges[charge];
        let left = charged.captured_minor() - self.refunded_minor(charged);
        if charged.dispute.is_some() {
            let words = format!("Charge {} is disputed already", charged.id);
            return Err(ApiError::invalid("charge_disputed", words));
        }
        let amount = amount.unwrap_or(left);
        if amount == 0 || amount > left {
            let words = format!("{amount} cannot be disputed: {left} was captured and not refunded");
            return Err(ApiError::param("amount_too_large", "amount", words));
        }
        currency::check_multiple(amount, self.intents[charged.intent].currency, "amount")?;
        let position = self.disputes.len();
        let id = self.name("du_", Place::Dispute(position));
        self.disputes.push(Dispute {
            id,
            charge,
            created_ms: moment.now_ms,
            amount,
            reason: reason.to_owned(),
            status: DisputeStatus::NeedsResponse,
            ended_ms: None,
        });
        self.charges[charge].dispute = Some(position);
        let object = self.dispute_json(position);
        self.tell("charge.dispute.created", object.clone(), moment);
        self.tell("charge.dispute.funds_withdrawn", object, moment);
        Ok(position)
    }

    pub(super) fn close_dispute(
        &mut self,
        id: &str,
        won: bool,
        moment: &mut Moment,
    ) -> Result<usize, ApiError> {
        let Some(Place::Dispute(position)) = self.place(id) else {
            return Err(ApiError::missing("dispute", "dispute", id));
        };
        if self.disputes[position].status != DisputeStatus::NeedsResponse {
            return Err(ApiError::invalid(
                "dispute_closed",
                "This dispute is closed already",
            ));
        }
        self.disputes[position].status = if won {
            DisputeStatus::Won
        } else {
            DisputeStatus::Lost
        };
        self.disputes[position].ended_ms = Some(moment.now_ms);
        let object = self.dispute_json(position);
        self.tell("charge.dispute.closed", object.clone(), moment);
        if won {
            self.tell("charge.dispute.funds_reinstated", object, moment);
        }
        Ok(position)
    }

    /// The charge that a payment or charge id means.
    pub(super) fn charge_position(
        &self,
        intent: Option<&str>,
        charge: Option<&str>,
    ) -> Result<usize, ApiError> {
        if let Some(id) = charge {
            return match self.place(id) {
                Some(Place::Charge(position)) => Ok(position),
                _ => Err(ApiError::missing("charge", "charge", id)),
            };
        }
        let id = intent.unwrap_or_default();
        let position = self.intent_position(id)?;
        self.standing_charge(&self.intents[position]).ok_or_else(|| {
            let words = format!("PaymentIntent {id} has no successful charge");
            ApiError::invalid("payment_intent_unexpected_state", words)
        })
    }
}
