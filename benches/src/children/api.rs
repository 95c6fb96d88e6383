//! The HTTP door, as operators run it, in front of the cluster under load.

use std::{future::pending, sync::Arc};

use api::{
    Auth, Keys, Options, Payments,
    payment::{
        GuardOptions, Guarded, SIGNATURE_TOLERANCE, SignatureCheck,
        stripe::{Stripe, StripeOptions},
    },
};
use client::Client;
use tokio::net::TcpListener;

use crate::failure::{Doing, Failure};

/// The provider's key: the simulator takes any that begins so.
const PAYMENT_KEY: &str = "sk_test_bench";

/// Runs the door to the nodes at these endpoints; tokens are signed with this secret. Where a payment provider is
/// given, it takes payments, and webhooks that are signed with the same secret.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run(endpoints: Vec<String>, secret: String, payment_url: Option<String>) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let client = Client::connect(endpoints)
            .await
            .doing("connecting to the cluster")?;
        let payments = payment_url.map(|url| payments(&url, &secret)).transpose()?;
        let keys = Keys {
            hs256_secrets: vec![secret.into_bytes()],
            ..Keys::default()
        };
        let options = Options {
            payments,
            ..Options::new(Auth::Keys(keys))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        super::until_told(async {
            match api::serve(listener, client, options, pending()).await {
                Ok(()) => Failure::new("serving", "it ended"),
                Err(error) => Failure::new("serving", error.to_string()),
            }
        })
        .await
    })
}

/// As the shipped binary makes them.
fn payments(url: &str, webhook_secret: &str) -> Result<Payments, Failure> {
    let stripe = StripeOptions::new(url, PAYMENT_KEY.into());
    let stripe = Arc::new(Stripe::new(&stripe).doing("making payments")?);
    let provider = Guarded::new(stripe, GuardOptions::default()).doing("making payments")?;
    let secrets = vec![webhook_secret.into()];
    Ok(Payments {
        provider: Arc::new(provider),
        webhooks: Some(SignatureCheck::new(secrets, SIGNATURE_TOLERANCE)),
    })
}
