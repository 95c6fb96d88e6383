//! Walks a payment through its life against any server that speaks Stripe's API:
//! `cargo run -p api --example stripe_flow -- URL KEY_FILE [PAYMENT_METHOD [DECLINED_PAYMENT_METHOD]]`.
//!
//! Prints one line a step and fails at the first that does not end as it should. It charges what it
//! captures: use a test key.

use std::{
    env, fs,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::payment::{
    Call, GuardOptions, Guarded, NewPayment, Payment, PaymentError, PaymentProvider, PaymentStatus,
    ProviderKey, SecretString,
    stripe::{Stripe, StripeOptions},
};
use tokio::time::Instant;

/// As a checkout allows for one call.
const CALL_MAX: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match walk(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn walk(arguments: &[String]) -> Result<(), String> {
    let [url, key_file, methods @ ..] = arguments else {
        return Err("give URL and KEY_FILE".into());
    };
    let method = methods.first().map_or("pm_card_visa", String::as_str);
    let declined = methods
        .get(1)
        .map_or("pm_card_visa_chargeDeclined", String::as_str);
    let key = fs::read_to_string(key_file).map_err(|error| format!("{key_file}: {error}"))?;
    let key = SecretString::from(key.trim());
    let stripe = Stripe::new(&StripeOptions::new(url, key)).map_err(|error| error.to_string())?;
    let walk = Walk {
        provider: Guarded::new(Arc::new(stripe), GuardOptions::default())
            .map_err(|error| error.to_string())?,
        run_ms: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis()),
    };
    walk.charge_and_refund(method).await?;
    walk.authorize_and_void(method).await?;
    walk.decline(declined).await
}

/// One walk: its provider, and what makes its keys its own.
struct Walk {
    provider: Guarded<Stripe>,
    run_ms: u128,
}

impl Walk {
    fn key(&self, payment: &str, call: Call) -> ProviderKey {
        ProviderKey::new(&format!("walk-{}-{payment}", self.run_ms), 1, call)
    }

    async fn create(&self, name: &str, method: &str) -> Result<Payment, String> {
        let new = NewPayment {
            amount: "19.99 EUR".parse().expect("an amount"),
            payment_method: method.to_owned(),
            reference: format!("walk-{}-{name}", self.run_ms),
            attempt: 1,
            order_id: None,
        };
        let created = self
            .provider
            .create(&new, &self.key(name, Call::Create), by())
            .await;
        let created = expect("create", created, PaymentStatus::RequiresConfirmation)?;
        if created.reference.as_ref() != Some(&new.reference) || created.attempt != Some(1) {
            return Err(format!("our metadata did not come back: {created:?}"));
        }
        Ok(created)
    }

    async fn charge_and_refund(&self, method: &str) -> Result<(), String> {
        let id = self.create("charge", method).await?.id;
        let confirmed = self
            .provider
            .confirm(&id, None, &self.key("charge", Call::Confirm), by())
            .await;
        let confirmed = expect("confirm", confirmed, PaymentStatus::RequiresCapture)?;
        if confirmed.amount_capturable_minor != 1_999 || confirmed.charge_id.is_none() {
            return Err(format!("not all was reserved: {confirmed:?}"));
        }
        let captured = self
            .provider
            .capture(&id, &self.key("charge", Call::Capture), by())
            .await;
        let captured = expect("capture", captured, PaymentStatus::Succeeded)?;
        if captured.amount_received_minor != 1_999 {
            return Err(format!("not all was charged: {captured:?}"));
        }
        expect(
            "retrieve",
            self.provider.retrieve(&id, by()).await,
            PaymentStatus::Succeeded,
        )?;
        let part = "5 EUR".parse().ok();
        for (amount, name) in [(part, "refund-part"), (None, "refund-rest")] {
            let refund = self
                .provider
                .refund(&id, amount, &self.key(name, Call::Refund), by())
                .await;
            let refund = refund.map_err(|error| format!("{name}: {error}"))?;
            println!("{name}: {} {:?} {}", refund.id, refund.status, refund.amount);
            let seen = self.provider.retrieve_refund(&refund.id, by()).await;
            seen.map_err(|error| format!("retrieve {name}: {error}"))?;
        }
        Ok(())
    }

    async fn authorize_and_void(&self, method: &str) -> Result<(), String> {
        let id = self.create("void", method).await?.id;
        let confirmed = self
            .provider
            .confirm(&id, None, &self.key("void", Call::Confirm), by())
            .await;
        expect("confirm", confirmed, PaymentStatus::RequiresCapture)?;
        let cancelled = self
            .provider
            .cancel(&id, &self.key("void", Call::Cancel), by())
            .await;
        expect("cancel", cancelled, PaymentStatus::Canceled)?;
        match self
            .provider
            .capture(&id, &self.key("void", Call::Capture), by())
            .await
        {
            Err(PaymentError::Refused { code, .. }) => println!("capture after cancel: refused ({code})"),
            // Some servers just show it as it is.
            Ok(payment)
                if payment.status == PaymentStatus::Canceled && payment.amount_received_minor == 0 =>
            {
                println!("capture after cancel: nothing was charged");
            }
            other => return Err(format!("a cancelled payment was captured: {other:?}")),
        }
        Ok(())
    }

    async fn decline(&self, method: &str) -> Result<(), String> {
        let id = self.create("decline", method).await?.id;
        match self
            .provider
            .confirm(&id, None, &self.key("decline", Call::Confirm), by())
            .await
        {
            Err(PaymentError::Declined { decline, .. }) => println!("confirm: declined ({})", decline.code),
            other => return Err(format!("the card was not declined: {other:?}")),
        }
        let seen = self.provider.retrieve(&id, by()).await;
        let seen = expect("retrieve", seen, PaymentStatus::RequiresPaymentMethod)?;
        println!("its decline: {:?}", seen.decline);
        Ok(())
    }
}

fn by() -> Instant {
    Instant::now() + CALL_MAX
}

/// The payment, if it is where it should be.
fn expect(
    step: &str,
    result: Result<Payment, PaymentError>,
    status: PaymentStatus,
) -> Result<Payment, String> {
    let payment = result.map_err(|error| format!("{step}: {error}"))?;
    println!("{step}: {} {:?} {}", payment.id, payment.status, payment.amount);
    if payment.status == status {
        Ok(payment)
    } else {
        Err(format!("{step}: {status:?} was expected"))
    }
}
