//! What an answer means: status, headers and body to a result that claims no more than is known.
//!
//! | answer | result |
//! |---|---|
//! | 2xx and readable | the object |
//! | 402, or `card_error` | declined |
//! | 401, 403 | unavailable: our API key is not taken, which is no word on the payment |
//! | 409, or key in use | unknown: an earlier call with this key is still at work |
//! | 429, `lock_timeout`, 4xx that asks for a retry | unavailable |
//! | other 4xx with Stripe's error object | refused |
//! | 408, 424, 425, 5xx | unknown; if it is a replay or asks for no retry, so it will remain under this key |
//! | anything else | unknown: that was not Stripe speaking |

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::Value;

use super::{
    super::{Doubt, PaymentError, Unavailability},
    objects,
};

/// When to ask again after an answer that only an operator can change, or that asked for no retry: long
/// enough that nobody asks in vain all day, short enough that a new API key is soon noticed.
const RETRY_LATER: Duration = Duration::from_secs(30);

/// Longest message of a provider's that is passed on, in characters: Stripe's are a sentence or two.
const MESSAGE_CHARS_MAX: usize = 256;

/// An answer, complete.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The object that was asked for, or what came instead.
    pub(super) fn read<T>(self, parse: fn(&Value) -> Result<T, String>) -> Result<T, PaymentError> {
        let json = serde_json::from_slice::<Value>(&self.body);
        if self.status.is_success() {
            let read = json
                .map_err(|error| error.to_string())
                .and_then(|json| parse(&json));
            return read.map_err(|why| self.unknown(Doubt::Unreadable, &why));
        }
        let envelope = json.unwrap_or_default();
        Err(self.failure(&envelope["error"]))
    }

    fn failure(&self, error: &Value) -> PaymentError {
        let message = shortened(error["message"].as_str().unwrap_or("no message"));
        let code = error["code"]
            .as_str()
            .or_else(|| error["type"].as_str())
            .unwrap_or("no code");
        let payment = || objects::payment(&error["payment_intent"]).ok().map(Box::new);
        match self.status.as_u16() {
            _ if code == "lock_timeout" => self.throttled(message),
            409 => self.unknown(Doubt::InProgress, message),
            _ if code == "idempotency_key_in_use" => self.unknown(Doubt::InProgress, message),
            401 | 403 => PaymentError::Unavailable {
                cause: Unavailability::Unauthorized,
                retry_after: Some(RETRY_LATER),
                why: self.said(message),
            },
            402 => PaymentError::Declined {
                decline: objects::decline(error),
                payment: payment(),
            },
            408 | 424 | 425 => self.unknown(Doubt::ServerError, message),
            429 => self.throttled(message),
            400..500 if error["type"] == "card_error" => PaymentError::Declined {
                decline: objects::decline(error),
                payment: payment(),
            },
            400..500 if error.is_object() && self.header("stripe-should-retry") == Some("true") => {
                self.throttled(message)
            }
            400..500 if error.is_object() => PaymentError::Refused {
                code: shortened(code).to_owned(),
                message: self.said(message),
                payment: payment(),
            },
            500..600 if self.header("idempotent-replayed") == Some("true") => {
                self.unknown(Doubt::ReplayedError, message)
            }
            500..600 if self.header("stripe-should-retry") == Some("false") => {
                self.unknown(Doubt::FinalServerError, message)
            }
            500..600 => self.unknown(Doubt::ServerError, message),
            _ => self.unknown(Doubt::Unreadable, message),
        }
    }

    fn throttled(&self, message: &str) -> PaymentError {
        let asked = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let asked = asked
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        let never = self.header("stripe-should-retry") == Some("false");
        PaymentError::Unavailable {
            cause: Unavailability::Throttled,
            retry_after: asked.or(never.then_some(RETRY_LATER)),
            why: self.said(message),
        }
    }

    fn unknown(&self, cause: Doubt, message: &str) -> PaymentError {
        let why = self.said(message);
        PaymentError::Unknown { cause, why }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The message with what one needs to find the call in the provider's log.
    fn said(&self, message: &str) -> String {
        let request = self.header("request-id").unwrap_or("no request id");
        format!(
            "{message} (status {}, {})",
            self.status.as_u16(),
            shortened(request)
        )
    }
}

fn shortened(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(MESSAGE_CHARS_MAX)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> PaymentError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        };
        answer.read(objects::payment).unwrap_err()
    }

    fn error(kind: &str, code: &str) -> String {
        json!({"error": {"type": kind, "code": code, "message": "said so"}}).to_string()
    }

    /// The result's kind and cause in short.
    fn short(error: &PaymentError) -> String {
        match error {
            PaymentError::Declined { decline, .. } => format!("declined {}", decline.code),
            PaymentError::Refused { code, .. } => format!("refused {code}"),
            PaymentError::Unavailable {
                cause, retry_after, ..
            } => format!("unavailable {cause:?} {retry_after:?}"),
            PaymentError::Unknown { cause, .. } => format!("unknown {cause:?}"),
        }
    }

    #[test]
    fn every_status_claims_no_more_than_is_known() {
        let request = "invalid_request_error";
        for (status, body, meaning) in [
            (402, error("card_error", "expired_card"), "declined expired_card"),
            (402, error(request, "card_declined"), "declined card_declined"),
            (
                400,
                error("card_error", "incorrect_cvc"),
                "declined incorrect_cvc",
            ),
            (
                400,
                error(request, "amount_too_large"),
                "refused amount_too_large",
            ),
            (
                400,
                error("idempotency_error", "idempotency_error"),
                "refused idempotency_error",
            ),
            (
                404,
                error(request, "resource_missing"),
                "refused resource_missing",
            ),
            (401, error(request, "x"), "unavailable Unauthorized Some(30s)"),
            (403, error(request, "x"), "unavailable Unauthorized Some(30s)"),
            (
                409,
                error("idempotency_error", "idempotency_key_in_use"),
                "unknown InProgress",
            ),
            (
                400,
                error("idempotency_error", "idempotency_key_in_use"),
                "unknown InProgress",
            ),
            (409, error(request, "lock_timeout"), "unavailable Throttled None"),
            (429, error(request, "lock_timeout"), "unavailable Throttled None"),
            (
                429,
                error("rate_limit_error", "rate_limit"),
                "unavailable Throttled None",
            ),
            (408, String::new(), "unknown ServerError"),
            (424, error("api_error", "x"), "unknown ServerError"),
            (500, error("api_error", "x"), "unknown ServerError"),
            (503, "<html>upstream</html>".into(), "unknown ServerError"),
            // Whoever says these, it is not Stripe.
            (404, "<html>not found</html>".into(), "unknown Unreadable"),
            (301, String::new(), "unknown Unreadable"),
            (400, "[]".into(), "unknown Unreadable"),
            (200, String::new(), "unknown Unreadable"),
            (200, "<html>welcome</html>".into(), "unknown Unreadable"),
            (200, json!({"id": "pi_1"}).to_string(), "unknown Unreadable"),
        ] {
            assert_eq!(short(&answered(status, &[], &body)), meaning, "{status} {body}");
        }
    }

    #[test]
    fn headers_say_whether_to_ask_again() {
        let api_error = error("api_error", "x");
        let replayed = answered(500, &[("idempotent-replayed", "true")], &api_error);
        assert_eq!(short(&replayed), "unknown ReplayedError");
        let last_word = answered(500, &[("stripe-should-retry", "false")], &api_error);
        assert_eq!(short(&last_word), "unknown FinalServerError");
        let asked = answered(
            400,
            &[("stripe-should-retry", "true")],
            &error("invalid_request_error", "x"),
        );
        assert_eq!(short(&asked), "unavailable Throttled None");
        let throttled = answered(429, &[("retry-after", "7")], &error("rate_limit_error", "x"));
        assert_eq!(short(&throttled), "unavailable Throttled Some(7s)");
        let not_soon = answered(
            429,
            &[("stripe-should-retry", "false")],
            &error("rate_limit_error", "x"),
        );
        assert_eq!(short(&not_soon), "unavailable Throttled Some(30s)");
    }

    #[test]
    fn an_error_shows_the_payment_it_speaks_of() {
        let intent =
            json!({"id": "pi_1", "amount": 5, "currency": "eur", "status": "requires_payment_method"});
        let body = json!({"error": {"type": "card_error", "code": "card_declined",
                                    "decline_code": "insufficient_funds", "payment_intent": intent}});
        let PaymentError::Declined { decline, payment } = answered(402, &[], &body.to_string()) else {
            panic!("not declined");
        };
        assert_eq!(decline.decline_code.as_deref(), Some("insufficient_funds"));
        assert_eq!(payment.unwrap().id, "pi_1");
    }

    #[test]
    fn whoever_reads_the_error_finds_the_call() {
        let error = answered(500, &[("request-id", "req_7")], &error("api_error", "x"));
        assert!(
            error.to_string().contains("said so (status 500, req_7)"),
            "{error}"
        );
        let long = json!({"error": {"type": "api_error", "message": "ä".repeat(5_000)}}).to_string();
        assert!(answered(400, &[], &long).to_string().len() < 700);
    }
}
