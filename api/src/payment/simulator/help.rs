//! What there is, in words: `GET /`, and the end of `--help`.

use std::fmt::Write;

use super::{
    fault::{Mishap, Whim},
    magic::{AMOUNTS, GOOD_CARDS, Step, TOKENS},
};

/// Every road, token and amount.
pub fn help() -> String {
    let mut text = String::from(
        "A payment provider to rehearse with, speaking Stripe's API. Money here is not money.\n\n\
         Stripe's (Authorization: Bearer sk_test_…, or basic with the key as user):\n  \
         POST /v1/payment_intents                 amount, currency, payment_method, capture_method, confirm, metadata[…]\n  \
         POST /v1/payment_intents/{id}/confirm    payment_method, return_url\n  \
         POST /v1/payment_intents/{id}/capture    amount_to_capture\n  \
         POST /v1/payment_intents/{id}/cancel     cancellation_reason\n  \
         POST /v1/refunds                         payment_intent or charge, amount, reason\n  \
         GET  /v1/payment_intents[/{id}]  /v1/charges[/{id}]  /v1/refunds[/{id}]  /v1/events[/{id}]  /v1/disputes/{id}\n\n\
         The shopper's (3-D Secure):\n  \
         GET or POST /challenge/{id}              passes it; ?outcome=fail fails it; then goes to return_url\n\n\
         The rehearsal's (no key needed):\n  \
         GET  /_/ledger                           the books: every payment, captures per reference, double charges\n  \
         GET  /_/settlement.csv                   what would be settled\n  \
         GET  /_/events                           like /v1/events\n  \
         GET  /_/faults                           the faults in force\n  \
         POST /_/faults                           change some, as in delay_ms=3000&hang_rate=5%\n  \
         POST /_/dispute                          payment_intent or charge, amount, reason\n  \
         POST /_/dispute/close                    dispute, outcome=won|lost\n  \
         POST /_/expire                           payment_intent: its authorization expires now\n\n\
         Payment methods:\n",
    );
    let mut line = |name: &str, about: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<64} {about}");
    };
    line(&GOOD_CARDS[..3].join(", "), "work, like every other pm_…");
    for token in TOKENS {
        line(token.name, token.about);
    }
    let steps: Vec<_> = Step::ALL.iter().map(|(name, _)| *name).collect();
    line(
        "pm_sim_STEP_MISHAP",
        &format!("STEP is {}; at the first use of each key:", steps.join(", ")),
    );
    for (name, _, about) in Mishap::ALL {
        line(&format!("  MISHAP {name}"), about);
    }
    for (name, _, about) in Whim::ALL {
        line(&format!("pm_sim_webhook_{name}"), about);
    }
    text.push_str("\nAmounts in minor units, if the payment method asks for nothing:\n");
    for (amount, about, _) in AMOUNTS {
        let _ = writeln!(text, "  {amount:<64} {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_magic_is_told() {
        let help = super::help();
        for token in super::TOKENS {
            assert!(help.contains(token.name));
        }
        assert!(
            help.contains("990001") && help.contains("hang_before") && help.contains("pm_sim_webhook_early")
        );
    }
}
