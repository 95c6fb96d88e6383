//! Calls that Stripe does not have: what a rehearsal steers the provider with.

use serde_json::{Value, json};

use super::{
    call::{Method, Request},
    error::ApiError,
    event::Moment,
    form::Form,
    provider::Provider,
};

impl Provider {
    /// The road of a POST outside `/v1`.
    pub(super) fn control(&mut self, request: &Request, moment: &mut Moment) -> Result<Value, ApiError> {
        debug_assert_eq!(request.method, Method::Post);
        let pairs = &request.form;
        match request.path.as_str() {
            "/_/faults" => {
                let changes = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                self.faults = self
                    .faults
                    .with(changes)
                    .map_err(|wrong| ApiError::invalid("faults_not_understood", wrong))?;
                Ok(self.faults_json())
            }
            "/_/challenge" => {
                let form = Form::new(pairs, &[&["payment_intent", "outcome"]])?;
                let outcome = form.one_of("outcome", &["succeed", "fail"])?;
                let id = form.required("payment_intent")?;
                let position = self.challenged(id, outcome != Some("fail"), moment)?;
                let mut object = self.intent_json(position);
                // The shopper goes back to where he came from.
                object["return_url"] = json!(self.intents[position].return_url);
                Ok(object)
            }
            "/_/dispute" => {
                let form = Form::new(pairs, &[&["payment_intent", "charge", "amount", "reason"]])?;
                let charge = self.charge_position(form.text("payment_intent"), form.text("charge"))?;
                let reason = form.text("reason").unwrap_or("fraudulent");
                let position = self.dispute(charge, form.integer("amount")?, reason, moment)?;
                Ok(self.dispute_json(position))
            }
            "/_/dispute/close" => {
                let form = Form::new(pairs, &[&["dispute", "outcome"]])?;
                let outcome = form.one_of("outcome", &["won", "lost"])?;
                let outcome = outcome.ok_or_else(|| {
                    ApiError::param("parameter_missing", "outcome", "Say whether it was won or lost")
                })?;
                let position = self.close_dispute(form.required("dispute")?, outcome == "won", moment)?;
                Ok(self.dispute_json(position))
            }
            "/_/expire" => {
                let form = Form::new(pairs, &[&["payment_intent"]])?;
                let id = form.required("payment_intent")?;
                let charge = self.charge_position(Some(id), None)?;
                self.expire(charge, moment);
                self.intent_position(id)
                    .map(|position| self.intent_json(position))
            }
            _ => Err(ApiError::unknown_url("POST", &request.path)),
        }
    }

    pub(super) fn faults_json(&self) -> Value {
        serde_json::to_value(&self.faults).expect("faults are plain data")
    }
}
