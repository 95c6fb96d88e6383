//! Sends webhooks: signed, a bounded number at a time, again when they are not taken.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use hmac::{Hmac, Mac};
use hyper_util::{
    client::legacy::{Client, connect::Connect},
    rt::TokioExecutor,
};
use sha2::Sha256;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{event::Delivery, server::Shop};

/// Webhooks on their way at one time: more would only queue at the receiver.
const IN_FLIGHT_MAX: usize = 64;

/// How long a receiver may take, in ms; Stripe waits about as long.
const TIMEOUT_MS: u64 = 10_000;

/// Where webhooks go.
#[derive(Clone)]
pub struct Webhooks {
    /// Each attempt goes to the next of these, as through a balancer. Plain `http://` only.
    pub urls: Vec<String>,
    /// The signing secret, as the receiver has it.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Webhooks")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

/// The `Stripe-Signature` header of a body sent at a time.
///
/// # Panics
/// Never: HMAC takes keys of any length.
pub fn signature(secret: &[u8], at_s: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    mac.update(format!("{at_s}.{body}").as_bytes());
    let mut header = format!("t={at_s},v1=");
    for byte in mac.finalize().into_bytes() {
        header.push_str(&format!("{byte:02x}"));
    }
    header
}

/// What webhooks go out with.
pub(super) fn client<C: Connect + Clone>(connector: C) -> Client<C, Body> {
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Sends until told to stop. What is under way then is lost to the receiver, not to a journal.
pub(super) async fn send<C: Connect + Clone + Send + Sync + 'static>(
    shop: Arc<Shop>,
    webhooks: Webhooks,
    client: Client<C, Body>,
    mut stopping: watch::Receiver<bool>,
) {
    let webhooks = Arc::new(webhooks);
    let mut flying = JoinSet::new();
    loop {
        for delivery in shop.deliveries(IN_FLIGHT_MAX - flying.len()) {
            let at_s = shop.clock.now_ms() / 1_000;
            flying.spawn(attempt(client.clone(), Arc::clone(&webhooks), delivery, at_s));
        }
        let next = shop.next_due();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        let room = flying.len() < IN_FLIGHT_MAX;
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            Some(ended) = flying.join_next() => match ended {
                Ok((delivery, taken)) => shop.delivered(delivery, taken),
                Err(error) => tracing::error!(%error, "a webhook was lost"),
            },
            () = shop.news.notified(), if room => {}
            () = due, if room => {}
        }
    }
}

/// One attempt; whether it was taken.
async fn attempt<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Body>,
    webhooks: Arc<Webhooks>,
    delivery: Delivery,
    at_s: u64,
) -> (Delivery, bool) {
    let turn = delivery.id as usize + delivery.attempts as usize;
    let url = &webhooks.urls[turn % webhooks.urls.len()];
    let why = match timeout(
        Duration::from_millis(TIMEOUT_MS),
        post(&client, url, &webhooks, &delivery, at_s),
    )
    .await
    {
        Ok(Ok(status)) if status.is_success() => return (delivery, true),
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".into(),
    };
    tracing::debug!(event = delivery.event.id, url, why, "webhook not taken");
    (delivery, false)
}

async fn post<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Body>,
    url: &str,
    webhooks: &Webhooks,
    delivery: &Delivery,
    at_s: u64,
) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
    let body = delivery.event.body.to_string();
    let request = Request::post(url)
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", signature(&webhooks.secret, at_s, &body))
        .body(Body::from(body))?;
    Ok(client.request(request).await?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_openssl() {
        // printf '%s' '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test
        assert_eq!(
            signature(b"whsec_test", 1_700_000_000, r#"{"id":"evt_1"}"#),
            "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let webhooks = Webhooks {
            urls: vec!["http://localhost/".into()],
            secret: b"whsec_hidden".to_vec(),
        };
        assert!(!format!("{webhooks:?}").contains("hidden"));
    }
}
