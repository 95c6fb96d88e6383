//! Stripe's objects, read leniently: fields that are not needed are not looked at, fields that may be
//! missing may be missing, an id may be the object that it names. What *is* needed (ids, amounts,
//! currency, status) must be there and make sense, or the whole answer counts as unreadable: a guess
//! about money is worse than an unknown.

use serde_json::Value;

use super::{
    super::{Decline, Money, Payment, PaymentStatus, Refund, RefundStatus},
    amount::from_stripe,
    form::{METADATA_ATTEMPT, METADATA_CLAIM},
};

/// A field that must be there.
fn text<'a>(object: &'a Value, field: &str) -> Result<&'a str, String> {
    let found = object[field].as_str().filter(|text| !text.is_empty());
    found.ok_or_else(|| format!("{} without {field}", kind(object)))
}

/// What an object says it is.
fn kind(object: &Value) -> &str {
    object["object"].as_str().unwrap_or("an object")
}

/// An amount in a field that may be missing.
fn optional_amount(object: &Value, field: &str) -> Result<Option<Money>, String> {
    match &object[field] {
        Value::Null => Ok(None),
        value => {
            let amount = value
                .as_u64()
                .ok_or_else(|| format!("{} with {field} {value}", kind(object)))?;
            from_stripe(amount, text(object, "currency")?).map(Some)
        }
    }
}

/// An amount that must be there.
pub(crate) fn amount(object: &Value, field: &str) -> Result<Money, String> {
    optional_amount(object, field)?.ok_or_else(|| format!("{} without {field}", kind(object)))
}

/// An amount that counts as nothing when it is missing.
pub(crate) fn minor_or_zero(object: &Value, field: &str) -> Result<u64, String> {
    Ok(optional_amount(object, field)?.map_or(0, |money| money.minor))
}

/// A reference to another object: its id, or the object itself.
pub(crate) fn reference(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["id"].as_str()).map(str::to_owned)
}

/// An object's own id.
pub(crate) fn id(object: &Value) -> Result<String, String> {
    text(object, "id").map(str::to_owned)
}

/// Our claim and attempt, from the metadata that we gave a payment.
pub(crate) fn ours(object: &Value) -> (Option<String>, Option<u32>) {
    let metadata = &object["metadata"];
    let claim = metadata[METADATA_CLAIM].as_str().map(str::to_owned);
    let attempt = metadata[METADATA_ATTEMPT]
        .as_str()
        .and_then(|text| text.parse().ok());
    (claim, attempt)
}

/// A PaymentIntent.
pub(crate) fn payment(intent: &Value) -> Result<Payment, String> {
    let amount = amount(intent, "amount")?;
    let status = payment_status(text(intent, "status")?);
    // Servers that speak the same API do not all send the sums; the status implies them.
    let implied = |by: PaymentStatus| if status == by { amount.minor } else { 0 };
    let capturable = optional_amount(intent, "amount_capturable")?
        .map_or(implied(PaymentStatus::RequiresCapture), |money| money.minor);
    let received = optional_amount(intent, "amount_received")?
        .map_or(implied(PaymentStatus::Succeeded), |money| money.minor);
    let charge = &intent["latest_charge"];
    let (claim, attempt) = ours(intent);
    Ok(Payment {
        id: id(intent)?,
        status,
        amount,
        amount_capturable_minor: capturable,
        amount_received_minor: received,
        amount_refunded_minor: match charge {
            Value::Object(_) => optional_amount(charge, "amount_refunded")?.map(|money| money.minor),
            _ => None,
        },
        next_action_url: intent["next_action"]["redirect_to_url"]["url"]
            .as_str()
            .map(str::to_owned),
        decline: match &intent["last_payment_error"] {
            Value::Null => None,
            error => Some(decline(error)),
        },
        charge_id: reference(charge),
        reference: claim,
        attempt,
    })
}

fn payment_status(status: &str) -> PaymentStatus {
    match status {
        "requires_payment_method" => PaymentStatus::RequiresPaymentMethod,
        "requires_confirmation" => PaymentStatus::RequiresConfirmation,
        "requires_action" => PaymentStatus::RequiresAction,
        "processing" => PaymentStatus::Processing,
        "requires_capture" => PaymentStatus::RequiresCapture,
        "canceled" => PaymentStatus::Canceled,
        "succeeded" => PaymentStatus::Succeeded,
        _ => PaymentStatus::Other,
    }
}

/// Why a card was declined, from an error object.
pub(crate) fn decline(error: &Value) -> Decline {
    let text = |field: &str| error[field].as_str().map(str::to_owned);
    Decline {
        code: text("code").unwrap_or_else(|| "card_declined".to_owned()),
        decline_code: text("decline_code"),
        message: text("message").unwrap_or_else(|| "The card was declined.".to_owned()),
    }
}

/// A Refund.
pub(crate) fn refund(refund: &Value) -> Result<Refund, String> {
    Ok(Refund {
        id: id(refund)?,
        status: match refund["status"].as_str() {
            // Stripe's own type allows none: nothing has been decided then.
            None | Some("pending") => RefundStatus::Pending,
            Some("requires_action") => RefundStatus::RequiresAction,
            Some("succeeded") => RefundStatus::Succeeded,
            Some("failed") => RefundStatus::Failed,
            Some("canceled") => RefundStatus::Canceled,
            Some(_) => RefundStatus::Other,
        },
        amount: amount(refund, "amount")?,
        payment_id: reference(&refund["payment_intent"]),
        charge_id: reference(&refund["charge"]),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_least_that_a_payment_can_be() {
        let read = payment(&json!({"id": "pi_1", "amount": 500, "currency": "jpy", "status": "processing"}));
        assert_eq!(
            read.unwrap(),
            Payment {
                id: "pi_1".into(),
                status: PaymentStatus::Processing,
                amount: "500 JPY".parse().unwrap(),
                amount_capturable_minor: 0,
                amount_received_minor: 0,
                amount_refunded_minor: None,
                next_action_url: None,
                decline: None,
                charge_id: None,
                reference: None,
                attempt: None,
            }
        );
    }

    #[test]
    fn sums_that_are_missing_follow_from_the_status() {
        let sums = |status: &str| {
            let read =
                payment(&json!({"id": "pi_1", "amount": 7, "currency": "eur", "status": status})).unwrap();
            (read.amount_capturable_minor, read.amount_received_minor)
        };
        assert_eq!(sums("requires_capture"), (7, 0));
        assert_eq!(sums("succeeded"), (0, 7));
        assert_eq!(sums("canceled"), (0, 0));
        // A partial capture is what the sums say, not what the status would.
        let partly = json!({"id": "pi_1", "amount": 7, "currency": "eur", "status": "succeeded", "amount_received": 5});
        assert_eq!(payment(&partly).unwrap().amount_received_minor, 5);
    }

    #[test]
    fn a_charge_may_be_an_id_or_itself_and_nothing_else_matters() {
        let intent = |charge: Value| {
            json!({"id": "pi_1", "object": "payment_intent", "amount": 900, "currency": "isk", "status": "new_one",
                   "latest_charge": charge, "metadata": {"claim_id": "c_1", "attempt": "3", "order_id": "x"},
                   "next_action": {"type": "redirect_to_url", "redirect_to_url": {"url": "https://x/3ds", "more": 1}},
                   "last_payment_error": {"type": "card_error"}, "unheard_of": [1, 2]})
        };
        let by_id = payment(&intent(json!("ch_1"))).unwrap();
        assert_eq!(by_id.charge_id.as_deref(), Some("ch_1"));
        assert_eq!((by_id.status, by_id.amount.minor), (PaymentStatus::Other, 9));
        assert_eq!(
            (by_id.reference.as_deref(), by_id.attempt),
            (Some("c_1"), Some(3))
        );
        assert_eq!(by_id.next_action_url.as_deref(), Some("https://x/3ds"));
        assert_eq!(by_id.decline.unwrap().code, "card_declined");
        let expanded = json!({"id": "ch_1", "amount_refunded": 300, "currency": "isk"});
        let itself = payment(&intent(expanded)).unwrap();
        assert_eq!(
            (itself.charge_id.as_deref(), itself.amount_refunded_minor),
            (Some("ch_1"), Some(3))
        );
    }

    #[test]
    fn what_is_missing_or_mad_is_not_guessed() {
        for intent in [
            json!({}),
            json!([]),
            json!({"amount": 5, "currency": "eur", "status": "succeeded"}),
            json!({"id": "", "amount": 5, "currency": "eur", "status": "succeeded"}),
            json!({"id": "pi_1", "currency": "eur", "status": "succeeded"}),
            json!({"id": "pi_1", "amount": -5, "currency": "eur", "status": "succeeded"}),
            json!({"id": "pi_1", "amount": 5.5, "currency": "eur", "status": "succeeded"}),
            json!({"id": "pi_1", "amount": "5", "currency": "eur", "status": "succeeded"}),
            json!({"id": "pi_1", "amount": 5, "status": "succeeded"}),
            json!({"id": "pi_1", "amount": 5, "currency": "zzz", "status": "succeeded"}),
            json!({"id": "pi_1", "amount": 5, "currency": "eur"}),
            json!({"id": "pi_1", "amount": 5, "currency": "eur", "status": "succeeded", "amount_received": "all"}),
        ] {
            assert!(payment(&intent).is_err(), "{intent}");
        }
        assert!(refund(&json!({"id": "re_1", "status": "succeeded", "currency": "eur"})).is_err());
    }

    #[test]
    fn a_refund_without_a_status_is_not_done() {
        let read =
            refund(&json!({"id": "re_1", "amount": 5, "currency": "eur", "payment_intent": {"id": "pi_1"}}));
        let read = read.unwrap();
        assert_eq!(
            (read.status, read.payment_id.as_deref()),
            (RefundStatus::Pending, Some("pi_1"))
        );
    }
}
