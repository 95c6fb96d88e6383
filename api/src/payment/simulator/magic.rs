//! Magic: payment-method tokens and amounts that make one thing happen for certain.
//!
//! `pm_card_…` are the test cards that Stripe publishes; `pm_sim_…` are ours, for what Stripe's test mode
//! does not offer. A mishap that a token asks for happens at the first use of each idempotency key, so a
//! retry with the same key shows what was left behind.

use serde::{Deserialize, Serialize};

use super::fault::{Mishap, Whim};

/// Which call of a payment a mishap is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    Create,
    Confirm,
    Capture,
    Cancel,
    Refund,
}

impl Step {
    /// All of them, under the names that magic tokens use.
    pub(super) const ALL: [(&'static str, Step); 5] = [
        ("create", Step::Create),
        ("confirm", Step::Confirm),
        ("capture", Step::Capture),
        ("cancel", Step::Cancel),
        ("refund", Step::Refund),
    ];
}

/// Why a bank says no, in Stripe's codes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decline {
    pub(super) code: &'static str,
    pub(super) decline_code: Option<&'static str>,
    pub(super) message: &'static str,
}

const fn declined(decline_code: &'static str, message: &'static str) -> Decline {
    Decline {
        code: "card_declined",
        decline_code: Some(decline_code),
        message,
    }
}

const fn card_error(code: &'static str, message: &'static str) -> Decline {
    Decline {
        code,
        decline_code: None,
        message,
    }
}

/// The reasons there are; a decline by rate is one of the first three.
pub(super) static DECLINES: [Decline; 10] = [
    declined("generic_decline", "The card was declined."),
    declined("insufficient_funds", "The card has too little money on it."),
    declined("do_not_honor", "The card was declined; its bank knows why."),
    declined("lost_card", "The card was declined: it was reported lost."),
    declined("stolen_card", "The card was declined: it was reported stolen."),
    declined(
        "card_velocity_exceeded",
        "The card was declined: it was used too often.",
    ),
    declined(
        "fraudulent",
        "The card was declined: the payment looks fraudulent.",
    ),
    card_error("expired_card", "The card has expired."),
    card_error("incorrect_cvc", "The card's security code is wrong."),
    card_error(
        "processing_error",
        "The card could not be processed; try again shortly.",
    ),
];

/// Reasons that a decline by rate may have.
pub(super) const DECLINES_BY_RATE: u64 = 3;

/// What becomes of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefundFate {
    Pending,
    Fails,
}

/// Everything a token or amount may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Magic {
    /// Index into [`DECLINES`].
    pub(super) decline: Option<usize>,
    pub(super) challenge: bool,
    pub(super) capture_declined: bool,
    /// The authorization expires almost at once.
    pub(super) expires: bool,
    pub(super) refund: Option<RefundFate>,
    /// Disputed as soon as it is captured, with this reason.
    pub(super) dispute: Option<&'static str>,
    pub(super) mishap: Option<(Step, Mishap)>,
    pub(super) whim: Option<Whim>,
}

impl Magic {
    const NONE: Magic = Magic {
        decline: None,
        challenge: false,
        capture_declined: false,
        expires: false,
        refund: None,
        dispute: None,
        mishap: None,
        whim: None,
    };

    const fn decline(which: usize) -> Magic {
        Magic {
            decline: Some(which),
            ..Magic::NONE
        }
    }

    const fn mishap(step: Step, mishap: Mishap) -> Magic {
        Magic {
            mishap: Some((step, mishap)),
            ..Magic::NONE
        }
    }
}

const CHALLENGE: Magic = Magic {
    challenge: true,
    ..Magic::NONE
};

/// Prefix of our own tokens.
const OURS: &str = "pm_sim_";

/// One token and what it does.
pub(super) struct Token {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    magic: Magic,
}

const fn token(name: &'static str, about: &'static str, magic: Magic) -> Token {
    Token { name, about, magic }
}

/// Tokens by name. Those built from a step and a mishap are not listed: [`of_token`] takes them apart.
pub(super) const TOKENS: &[Token] = &[
    token("pm_card_chargeDeclined", "declined", Magic::decline(0)),
    token("pm_card_visa_chargeDeclined", "declined", Magic::decline(0)),
    token(
        "pm_card_chargeDeclinedInsufficientFunds",
        "declined: insufficient_funds",
        Magic::decline(1),
    ),
    token(
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "declined: insufficient_funds",
        Magic::decline(1),
    ),
    token(
        "pm_card_visa_chargeDeclinedLostCard",
        "declined: lost_card",
        Magic::decline(3),
    ),
    token(
        "pm_card_visa_chargeDeclinedStolenCard",
        "declined: stolen_card",
        Magic::decline(4),
    ),
    token(
        "pm_card_visa_chargeDeclinedVelocityLimitExceeded",
        "declined: card_velocity_exceeded",
        Magic::decline(5),
    ),
    token("pm_card_radarBlock", "declined: fraudulent", Magic::decline(6)),
    token(
        "pm_card_chargeDeclinedFraudulent",
        "declined: fraudulent",
        Magic::decline(6),
    ),
    token(
        "pm_card_chargeDeclinedExpiredCard",
        "expired_card",
        Magic::decline(7),
    ),
    token(
        "pm_card_chargeDeclinedIncorrectCvc",
        "incorrect_cvc",
        Magic::decline(8),
    ),
    token(
        "pm_card_chargeDeclinedProcessingError",
        "processing_error",
        Magic::decline(9),
    ),
    token(
        "pm_card_authenticationRequired",
        "the shopper must authenticate",
        CHALLENGE,
    ),
    token(
        "pm_card_threeDSecureRequired",
        "the shopper must authenticate",
        CHALLENGE,
    ),
    token(
        "pm_card_threeDSecure2Required",
        "the shopper must authenticate",
        CHALLENGE,
    ),
    token(
        "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        "the shopper must authenticate, and is then declined",
        Magic {
            decline: Some(1),
            ..CHALLENGE
        },
    ),
    token(
        "pm_card_createDispute",
        "disputed as fraudulent once captured",
        Magic {
            dispute: Some("fraudulent"),
            ..Magic::NONE
        },
    ),
    token(
        "pm_card_createDisputeProductNotReceived",
        "disputed as product_not_received once captured",
        Magic {
            dispute: Some("product_not_received"),
            ..Magic::NONE
        },
    ),
    token(
        "pm_card_pendingRefund",
        "a refund is pending for a while, then succeeds",
        Magic {
            refund: Some(RefundFate::Pending),
            ..Magic::NONE
        },
    ),
    token(
        "pm_card_refundFail",
        "a refund succeeds, and fails a while later",
        Magic {
            refund: Some(RefundFate::Fails),
            ..Magic::NONE
        },
    ),
    token(
        "pm_sim_capture_declined",
        "the capture is declined for good",
        Magic {
            capture_declined: true,
            ..Magic::NONE
        },
    ),
    token(
        "pm_sim_authorization_expires",
        "the authorization expires after a second",
        Magic {
            expires: true,
            ..Magic::NONE
        },
    ),
];

/// Stripe's test cards that simply work.
pub(super) const GOOD_CARDS: &[&str] = &[
    "pm_card_visa",
    "pm_card_visa_debit",
    "pm_card_mastercard",
    "pm_card_mastercard_debit",
    "pm_card_mastercard_prepaid",
    "pm_card_amex",
    "pm_card_discover",
    "pm_card_diners",
    "pm_card_jcb",
    "pm_card_unionpay",
    "pm_card_us",
    "pm_card_gb",
    "pm_card_de",
    "pm_card_fr",
    "pm_card_bypassPending",
];

/// Amounts in minor units, for callers that cannot choose a token; a magic token wins over them.
pub(super) const AMOUNTS: &[(u64, &str, Magic)] = &[
    (990_001, "declined", Magic::decline(0)),
    (990_002, "declined: insufficient_funds", Magic::decline(1)),
    (990_003, "the shopper must authenticate", CHALLENGE),
    (
        990_004,
        "confirm: no answer, but it happened",
        Magic::mishap(Step::Confirm, Mishap::HangAfter),
    ),
    (
        990_005,
        "confirm: connection cut, but it happened",
        Magic::mishap(Step::Confirm, Mishap::Lost),
    ),
    (
        990_006,
        "confirm: 500, nothing happened",
        Magic::mishap(Step::Confirm, Mishap::ErrorBefore),
    ),
    (
        990_007,
        "confirm: 500, but it happened",
        Magic::mishap(Step::Confirm, Mishap::ErrorAfter),
    ),
    (
        990_008,
        "the capture is declined for good",
        Magic {
            capture_declined: true,
            ..Magic::NONE
        },
    ),
    (
        990_009,
        "capture: connection cut, but it happened",
        Magic::mishap(Step::Capture, Mishap::Lost),
    ),
    (
        990_010,
        "capture: 500, but it happened",
        Magic::mishap(Step::Capture, Mishap::ErrorAfter),
    ),
    (
        990_011,
        "confirm: no answer, and it happens later",
        Magic::mishap(Step::Confirm, Mishap::Late),
    ),
];

/// What a payment-method token asks for; `None` when there is no such token.
pub(super) fn of_token(name: &str) -> Option<Magic> {
    if let Some(token) = TOKENS.iter().find(|token| token.name == name) {
        return Some(token.magic);
    }
    if let Some(rest) = name.strip_prefix(OURS) {
        let (step, what) = rest.split_once('_')?;
        if step == "webhook" {
            let (_, whim, _) = Whim::ALL.iter().find(|(name, ..)| *name == what)?;
            return Some(Magic {
                whim: Some(*whim),
                ..Magic::NONE
            });
        }
        let (_, step) = Step::ALL.iter().find(|(name, _)| *name == step)?;
        let (_, mishap, _) = Mishap::ALL.iter().find(|(name, ..)| *name == what)?;
        return Some(Magic::mishap(*step, *mishap));
    }
    if name.starts_with("pm_card_") {
        return GOOD_CARDS.contains(&name).then_some(Magic::NONE);
    }
    // A real method, tokenized by the shopper's browser: nothing is known of it, and it works.
    name.starts_with("pm_").then_some(Magic::NONE)
}

/// What a token and an amount ask for together.
pub(super) fn of(payment_method: Option<&str>, amount: u64) -> Magic {
    let by_token = payment_method.and_then(of_token).unwrap_or(Magic::NONE);
    if by_token != Magic::NONE {
        return by_token;
    }
    let by_amount = AMOUNTS.iter().find(|(magic, ..)| *magic == amount);
    by_amount.map_or(Magic::NONE, |(_, _, magic)| *magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_apart() {
        assert_eq!(
            of_token("pm_sim_capture_lost").unwrap().mishap,
            Some((Step::Capture, Mishap::Lost))
        );
        assert_eq!(of_token("pm_sim_webhook_twice").unwrap().whim, Some(Whim::Twice));
        assert!(of_token("pm_sim_capture_declined").unwrap().capture_declined);
        assert_eq!(of_token("pm_card_visa"), Some(Magic::NONE));
        assert_eq!(of_token("pm_1AbcDef"), Some(Magic::NONE));
        for unknown in [
            "pm_card_vista",
            "pm_sim_capture_stolen",
            "pm_sim_lost",
            "visa",
            "tok_visa",
            "",
        ] {
            assert_eq!(of_token(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_token_wins_over_an_amount() {
        assert!(of(Some("pm_card_visa"), 990_003).challenge);
        assert_eq!(of(Some("pm_card_chargeDeclined"), 990_003).decline, Some(0));
        assert!(!of(Some("pm_card_chargeDeclined"), 990_003).challenge);
        assert_eq!(of(None, 4_900), Magic::NONE);
    }
}
