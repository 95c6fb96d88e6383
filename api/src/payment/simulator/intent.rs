//! Payments: create, confirm, challenge, capture, cancel, expire.
//!
//! A payment has at most one charge that stands; a declined one frees the way for the next. A capture takes
//! at most what was authorized, once; what is not captured is given back.

use serde_json::Value;

use super::{
    currency,
    error::ApiError,
    event::Moment,
    magic::{DECLINES, DECLINES_BY_RATE, Decline},
    object::{Captured, Charge, Intent, Place, Status},
    params::{Capture, Confirm, Create},
    provider::{Due, Provider},
};

/// Attempts that one payment may have.
const CHARGES_MAX: usize = 50;

/// How long an authorization lasts that is meant to expire, in ms.
const EXPIRES_SOON_MS: u64 = 1_000;

impl Provider {
    pub(super) fn create(&mut self, create: Create, moment: &mut Moment) -> Result<Value, ApiError> {
        if self.intents.len() >= self.options.payments_max {
            return Err(ApiError::full("payments"));
        }
        let position = self.intents.len();
        let id = self.name("pi_", Place::Intent(position));
        let secret = self.fresh_id(&format!("{id}_secret_"));
        let magic = create.magic();
        self.intents.push(Intent {
            id,
            secret,
            created_ms: moment.now_ms,
            amount: create.amount,
            currency: create.currency,
            manual: create.manual,
            status: match create.payment_method {
                Some(_) => Status::RequiresConfirmation,
                None => Status::RequiresPaymentMethod,
            },
            payment_method: create.payment_method,
            magic,
            metadata: create.metadata,
            description: create.description,
            return_url: None,
            charges: Vec::new(),
            last_error: None,
            canceled: None,
            locked: false,
        });
        let object = self.intent_json(position);
        self.tell("payment_intent.created", object, moment);
        if create.confirm {
            let confirm = Confirm {
                payment_method: None,
                return_url: create.return_url,
                expand: create.expand,
            };
            return self.confirm_at(position, confirm, moment);
        }
        Ok(self.intent_json_with(position, create.expand))
    }

    pub(super) fn confirm(
        &mut self,
        id: &str,
        confirm: Confirm,
        moment: &mut Moment,
    ) -> Result<Value, ApiError> {
        let position = self.intent_position(id)?;
        self.confirm_at(position, confirm, moment)
    }

    fn confirm_at(
        &mut self,
        position: usize,
        confirm: Confirm,
        moment: &mut Moment,
    ) -> Result<Value, ApiError> {
        match self.intents[position].status {
            Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction => {}
            Status::RequiresCapture | Status::Canceled | Status::Succeeded => {
                return Err(self.unexpected_state(position, "confirmed"));
            }
        }
        if self.intents[position].charges.len() >= CHARGES_MAX {
            let words = format!("This payment was tried {CHARGES_MAX} times; make a new one");
            return Err(ApiError::invalid("payment_intent_rate_limit_exceeded", words));
        }
        let magic = confirm.magic(&self.intents[position]);
        let intent = &mut self.intents[position];
        intent.magic = magic;
        intent.payment_method = confirm.payment_method.or(intent.payment_method.take());
        intent.return_url = confirm.return_url.or(intent.return_url.take());
        if intent.payment_method.is_none() {
            let words = "This PaymentIntent has no payment method to be confirmed with; give one";
            return Err(ApiError::invalid("payment_intent_unexpected_state", words)
                .with("payment_intent", self.intent_json(position)));
        }
        intent.last_error = None;
        let challenged = moment.draw.chance(self.faults.challenge_rate);
        if challenged || magic.challenge {
            self.intents[position].status = Status::RequiresAction;
            let object = self.intent_json(position);
            self.tell("payment_intent.requires_action", object, moment);
        } else {
            self.authorize(position, moment)?;
        }
        Ok(self.intent_json_with(position, confirm.expand))
    }

    /// Asks the card's bank.
    fn authorize(&mut self, position: usize, moment: &mut Moment) -> Result<(), ApiError> {
        let by_rate = moment.draw.chance(self.faults.decline_rate);
        let reason = moment.draw.below(DECLINES_BY_RATE) as usize;
        let intent = &self.intents[position];
        let decline = intent.magic.decline.or(by_rate.then_some(reason));
        let (manual, magic) = (intent.manual, intent.magic);
        let authorized_ms = if magic.expires {
            EXPIRES_SOON_MS
        } else {
            self.options.authorization_ms
        };
        let capture_before_ms = moment.now_ms.saturating_add(authorized_ms);
        let method = intent.payment_method.clone().unwrap_or_default();
        let amount = intent.amount;

        let charge = self.charges.len();
        let id = self.name("ch_", Place::Charge(charge));
        let failure = decline.map(|reason| &DECLINES[reason]);
        self.charges.push(Charge {
            id,
            intent: position,
            created_ms: moment.now_ms,
            amount,
            payment_method: method,
            failure: failure.map(|decline| (decline.code, decline.decline_code, decline.message.to_owned())),
            captured: None,
            released: false,
            capture_before_ms,
            refunds: Vec::new(),
            dispute: None,
        });
        self.intents[position].charges.push(charge);
        if let Some(decline) = failure {
            return Err(self.declined(position, charge, decline, moment));
        }
        if manual {
            self.intents[position].status = Status::RequiresCapture;
            self.plan(capture_before_ms, Due::Expire { charge });
        } else {
            self.take(position, charge, amount, moment);
        }
        let object = self.charge_json(charge);
        self.tell("charge.succeeded", object, moment);
        let object = self.intent_json(position);
        let kind = if manual {
            "payment_intent.amount_capturable_updated"
        } else {
            "payment_intent.succeeded"
        };
        self.tell(kind, object, moment);
        Ok(())
    }

    fn declined(
        &mut self,
        position: usize,
        charge: usize,
        decline: &Decline,
        moment: &mut Moment,
    ) -> ApiError {
        let method = self.charges[charge].payment_method.clone();
        let error = ApiError::card(decline)
            .with("charge", self.charges[charge].id.clone().into())
            .with(
                "payment_method",
                serde_json::json!({ "id": method, "object": "payment_method", "type": "card" }),
            );
        let intent = &mut self.intents[position];
        intent.status = Status::RequiresPaymentMethod;
        intent.payment_method = None;
        intent.last_error = Some(error.object());
        let object = self.charge_json(charge);
        self.tell("charge.failed", object, moment);
        let object = self.intent_json(position);
        self.tell("payment_intent.payment_failed", object.clone(), moment);
        error.with("payment_intent", object)
    }

    /// The money moves.
    fn take(&mut self, position: usize, charge: usize, amount: u64, moment: &Moment) {
        let taken = &mut self.charges[charge];
        assert!(taken.stands() && taken.captured.is_none(), "money is taken once");
        assert!(amount <= taken.amount, "no more than was authorized");
        taken.captured = Some(Captured {
            amount,
            at_ms: moment.now_ms,
        });
        let intent = &mut self.intents[position];
        intent.status = Status::Succeeded;
        if let Some(reason) = intent.magic.dispute {
            self.plan(moment.now_ms, Due::Dispute { charge, reason });
        }
    }

    pub(super) fn capture(
        &mut self,
        id: &str,
        capture: &Capture,
        moment: &mut Moment,
    ) -> Result<Value, ApiError> {
        let position = self.intent_position(id)?;
        let by_rate = moment.draw.chance(self.faults.capture_decline_rate);
        let intent = &mut self.intents[position];
        if intent.status != Status::RequiresCapture {
            return Err(self.unexpected_state(position, "captured"));
        }
        let amount = capture.amount.unwrap_or(intent.amount);
        if amount > intent.amount {
            let words = format!("{amount} is more than the {} that can be captured", intent.amount);
            return Err(ApiError::param("amount_too_large", "amount_to_capture", words)
                .with("payment_intent", self.intent_json(position)));
        }
        currency::check_multiple(amount, intent.currency, "amount_to_capture")?;
        // For good: whoever tries again must not be luckier.
        intent.magic.capture_declined |= by_rate;
        if intent.magic.capture_declined {
            return Err(ApiError::card(&DECLINES[0]).with("payment_intent", self.intent_json(position)));
        }
        let charge = self.standing_charge(&self.intents[position]);
        let charge = charge.expect("what can be captured has a charge that stands");
        self.take(position, charge, amount, moment);
        let object = self.charge_json(charge);
        self.tell("charge.captured", object, moment);
        let object = self.intent_json(position);
        self.tell("payment_intent.succeeded", object, moment);
        Ok(self.intent_json_with(position, capture.expand))
    }

    pub(super) fn cancel(
        &mut self,
        id: &str,
        reason: Option<&'static str>,
        moment: &mut Moment,
    ) -> Result<Value, ApiError> {
        let position = self.intent_position(id)?;
        match self.intents[position].status {
            Status::Canceled | Status::Succeeded => return Err(self.unexpected_state(position, "canceled")),
            _ => {}
        }
        if let Some(charge) = self.standing_charge(&self.intents[position]) {
            self.charges[charge].released = true;
            let object = self.charge_json(charge);
            self.tell("charge.refunded", object, moment);
        }
        self.close(position, reason, moment);
        Ok(self.intent_json(position))
    }

    fn close(&mut self, position: usize, reason: Option<&'static str>, moment: &mut Moment) {
        let intent = &mut self.intents[position];
        intent.status = Status::Canceled;
        intent.canceled = Some((moment.now_ms, reason));
        let object = self.intent_json(position);
        self.tell("payment_intent.canceled", object, moment);
    }

    /// An authorization that was not captured in time.
    pub(super) fn expire(&mut self, charge: usize, moment: &mut Moment) {
        let position = self.charges[charge].intent;
        let waits = self.intents[position].status == Status::RequiresCapture
            && self.standing_charge(&self.intents[position]) == Some(charge);
        if !waits {
            return;
        }
        self.charges[charge].released = true;
        let object = self.charge_json(charge);
        self.tell("charge.expired", object, moment);
        self.close(position, Some("automatic"), moment);
    }

    /// The shopper did, or did not, authenticate.
    pub(super) fn challenged(
        &mut self,
        id: &str,
        passed: bool,
        moment: &mut Moment,
    ) -> Result<usize, ApiError> {
        let position = self.intent_position(id)?;
        if self.intents[position].status != Status::RequiresAction {
            return Err(self.unexpected_state(position, "authenticated"));
        }
        if passed {
            // A decline is an outcome like another: the payment says so.
            let _ = self.authorize(position, moment);
            return Ok(position);
        }
        let words = "The shopper did not authenticate; choose another payment method or try again";
        let error = ApiError::invalid("payment_intent_authentication_failure", words);
        let intent = &mut self.intents[position];
        intent.status = Status::RequiresPaymentMethod;
        intent.payment_method = None;
        intent.last_error = Some(error.object());
        let object = self.intent_json(position);
        self.tell("payment_intent.payment_failed", object, moment);
        Ok(position)
    }

    pub(super) fn intent_position(&self, id: &str) -> Result<usize, ApiError> {
        match self.place(id) {
            Some(Place::Intent(position)) => Ok(position),
            _ => Err(ApiError::missing("payment_intent", "intent", id)),
        }
    }

    fn unexpected_state(&self, position: usize, participle: &str) -> ApiError {
        let intent = &self.intents[position];
        let expired = intent
            .canceled
            .is_some_and(|(_, reason)| reason == Some("automatic"));
        let code = if expired && participle == "captured" {
            "charge_expired_for_capture"
        } else {
            "payment_intent_unexpected_state"
        };
        let words = format!(
            "This PaymentIntent cannot be {participle}: its status is {}",
            intent.status.name()
        );
        ApiError::invalid(code, words).with("payment_intent", self.intent_json(position))
    }
}
