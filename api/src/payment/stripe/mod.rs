//! Stripe's PaymentIntents, over HTTP, for whoever speaks that API.
//!
//! One version of the API is asked for by header, so that answers keep their shape whatever the
//! account's default is. Requests carry what the flow needs and nothing more: a server that implements
//! a part of the API takes them too. The version's shapes are `objects`; what an answer means is
//! `answer`; how Stripe counts money is `amount`.
//!
//! - The payment method is a token. What could be a card number is refused here, unsent and unlogged.
//! - The API key is never printed: `Debug` redacts it, and it is no part of any error.
//! - Redirects are not followed: a key must not travel to where it was not sent.
//!
//! Left out: retries and the breaker, which stand before any provider ([`Guarded`](super::Guarded));
//! customers, saved cards, automatic capture; asking Stripe which payments there are.

mod amount;
mod answer;
mod form;
pub(super) mod objects;
mod transport;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Client, Method, Request, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use self::answer::Answer;
pub use self::transport::Transport;
use super::{
    Doubt, Money, NewPayment, Payment, PaymentError, PaymentProvider, ProviderKey, Refund, Unavailability,
};

/// The version of the API that requests and shapes here are written for.
pub const STRIPE_VERSION: &str = "2025-09-30.clover";

/// Where Stripe itself is.
pub const STRIPE_URL: &str = "https://api.stripe.com";

/// The form of a request that says all in its path.
const NO_FIELDS: [(&str, &str); 0] = [];

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const VERSION: HeaderName = HeaderName::from_static("stripe-version");

/// Longest id of a payment or refund that is put into a path, in bytes: Stripe promises at most 255.
const ID_BYTES_MAX: usize = 255;

/// Where and as whom to call.
#[derive(Clone, Debug)]
pub struct StripeOptions {
    /// [`STRIPE_URL`], or whoever speaks the same API. Calls go to `/v1/…` below it.
    pub url: String,
    /// The secret API key.
    pub key: SecretString,
    /// Longest a connection may take to be made, in ms: above a round trip to anywhere and far below a
    /// call's deadline, so that a dead address counts as *never sent* and not as unknown.
    pub connect_ms_max: u64,
    /// Connections kept open while idle. One call needs one connection; 256 serve some 500 checkouts
    /// a second at half a second per call without new handshakes.
    pub idle_connections_max: usize,
    /// How long they are kept, in ms: below what balancers in front of providers allow (60 s and more),
    /// so that we close before they do and no request meets a closing connection.
    pub idle_ms_max: u64,
    /// Largest answer that is read, in bytes: a PaymentIntent has about 5 KB.
    pub answer_bytes_max: usize,
}

impl StripeOptions {
    /// The defaults, for this key.
    pub fn new(url: impl Into<String>, key: SecretString) -> Self {
        StripeOptions {
            url: url.into(),
            key,
            connect_ms_max: 2_000,
            idle_connections_max: 256,
            idle_ms_max: 30_000,
            answer_bytes_max: 1024 * 1024,
        }
    }
}

/// Why calls cannot even begin.
#[derive(Debug, thiserror::Error)]
pub enum StripeStartError {
    /// Not a URL to call.
    #[error("payment URL {url:?} cannot be used: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A key that no header can carry. It is not shown.
    #[error("the payment API key is empty or has characters that no key has; check its file")]
    Key,
    /// A live key must not travel unencrypted.
    #[error("a live payment API key is used with {0:?}; use https")]
    LiveKeyUnencrypted(String),
    /// A limit under which nothing could be called.
    #[error("{0} is 0, but must be at least 1")]
    Limit(&'static str),
    /// The HTTP client could not be made.
    #[error("payment calls cannot be encrypted: {0}; are root certificates installed (ca-certificates)?")]
    Client(String),
}

/// Stripe, or whoever speaks its API.
#[derive(Debug)]
pub struct Stripe {
    http: Client,
    /// In place of `http`, where somebody stands in for the network.
    transport: Option<Arc<dyn Transport>>,
    /// Ends in `/v1/`.
    base: Url,
    headers: HeaderMap,
    answer_bytes_max: usize,
}

impl Stripe {
    /// Ready to call; nothing is sent yet.
    ///
    /// # Errors
    /// Options that cannot work.
    pub fn new(options: &StripeOptions) -> Result<Self, StripeStartError> {
        for (name, value) in [
            ("connect_ms_max", options.connect_ms_max),
            ("idle_ms_max", options.idle_ms_max),
            ("answer_bytes_max", options.answer_bytes_max as u64),
        ] {
            if value == 0 {
                return Err(StripeStartError::Limit(name));
            }
        }
        let base = base_url(&options.url)?;
        let key = options.key.expose_secret();
        let encrypted = base.scheme() == "https";
        if !encrypted && key.contains("_live_") {
            return Err(StripeStartError::LiveKeyUnencrypted(options.url.clone()));
        }
        let key_is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .ok()
            .filter(|_| key_is_plain)
            .ok_or(StripeStartError::Key)?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            (VERSION, HeaderValue::from_static(STRIPE_VERSION)),
        ]);

        // One provider of cryptography per process; whoever came first is as good.
        super::use_ring();
        let mut http = Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_millis(options.connect_ms_max))
            .pool_max_idle_per_host(options.idle_connections_max)
            .pool_idle_timeout(Duration::from_millis(options.idle_ms_max));
        if !encrypted {
            // Machines without root certificates can still talk to a simulator.
            http = http.tls_certs_only([]);
        }
        Ok(Stripe {
            http: http
                .build()
                .map_err(|error| StripeStartError::Client(cause_of(&error)))?,
            transport: None,
            base,
            headers,
            answer_bytes_max: options.answer_bytes_max,
        })
    }

    /// The same over another road than this machine's network.
    ///
    /// # Errors
    /// As [`Stripe::new`].
    pub fn over(options: &StripeOptions, transport: Arc<dyn Transport>) -> Result<Self, StripeStartError> {
        let mut stripe = Stripe::new(options)?;
        stripe.transport = Some(transport);
        Ok(stripe)
    }

    /// A request to a path below `/v1/`.
    fn request(&self, method: Method, path: &str, key: Option<&ProviderKey>) -> Request {
        let url = self.base.join(path).expect("ids in paths are checked");
        let mut request = Request::new(method, url);
        *request.headers_mut() = self.headers.clone();
        if let Some(key) = key {
            let key = HeaderValue::from_str(key.as_str()).expect("provider keys are visible ASCII");
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        request
    }

    async fn post(
        &self,
        path: &str,
        form: &(impl Serialize + ?Sized),
        key: &ProviderKey,
        deadline: Instant,
    ) -> Result<Answer, PaymentError> {
        let request = self.request(Method::POST, path, Some(key));
        let request = reqwest::RequestBuilder::from_parts(self.http.clone(), request).form(form);
        let request = request.build().expect("pairs of text can be encoded");
        self.send(request, deadline).await
    }

    async fn get(&self, path: &str, deadline: Instant) -> Result<Answer, PaymentError> {
        self.send(self.request(Method::GET, path, None), deadline).await
    }

    /// Sends, and reads the whole answer; by the deadline.
    async fn send(&self, request: Request, deadline: Instant) -> Result<Answer, PaymentError> {
        if deadline <= Instant::now() {
            return Err(PaymentError::Unavailable {
                cause: Unavailability::NoTime,
                retry_after: None,
                why: "no time was left to ask the payment provider".into(),
            });
        }
        match timeout_at(deadline, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(PaymentError::Unknown {
                cause: Doubt::TimedOut,
                why: "the payment provider did not answer in time".into(),
            }),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Answer, PaymentError> {
        if let Some(transport) = &self.transport {
            return transport::exchange(&**transport, request).await;
        }
        let mut response = self
            .http
            .execute(request)
            .await
            .map_err(|error| unsent_or_lost(&error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| unsent_or_lost(&error))? {
            if body.len() + part.len() > self.answer_bytes_max {
                return Err(PaymentError::Unknown {
                    cause: Doubt::Unreadable,
                    why: format!(
                        "the answer is larger than {} bytes (status {status})",
                        self.answer_bytes_max
                    ),
                });
            }
            body.extend_from_slice(&part);
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// Below which calls go.
fn base_url(given: &str) -> Result<Url, StripeStartError> {
    let refuse = |why: &str| StripeStartError::Url {
        url: given.to_owned(),
        why: why.to_owned(),
    };
    let mut url = Url::parse(given).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refuse("use https://HOST or, for tests, http://HOST"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("the API key belongs in a file, not in the URL"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("leave out everything from ? or # on"));
    }
    let path = format!("{}/v1/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// What a transport error tells: without a connection nothing was sent.
fn unsent_or_lost(error: &reqwest::Error) -> PaymentError {
    if error.is_connect() {
        PaymentError::Unavailable {
            cause: Unavailability::Unreachable,
            retry_after: None,
            why: format!("no connection to the payment provider: {}", cause_of(error)),
        }
    } else {
        PaymentError::Unknown {
            cause: Doubt::ConnectionLost,
            why: format!(
                "the connection to the payment provider broke: {}",
                cause_of(error)
            ),
        }
    }
}

/// The innermost cause: what happened, without the URL and the layers above.
fn cause_of(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An id that may stand in a path.
fn checked_id<'a>(id: &'a str, what: &str) -> Result<&'a str, PaymentError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(id);
    }
    Err(refused(
        &format!("{what}_id_invalid"),
        format!("this is no id of a {what}"),
    ))
}

/// Refused by ourselves, before anything was sent.
fn refused(code: &str, message: String) -> PaymentError {
    PaymentError::Refused {
        code: code.to_owned(),
        message,
        payment: None,
    }
}

impl PaymentProvider for Stripe {
    fn create<'a>(
        &'a self,
        new: &'a NewPayment,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        async move {
            let form = form::create(new)?;
            let answer = self.post("payment_intents", &form, key, deadline).await?;
            answer.read(objects::payment)
        }
        .boxed()
    }

    fn confirm<'a>(
        &'a self,
        payment_id: &'a str,
        return_url: Option<&'a str>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        async move {
            let path = format!("payment_intents/{}/confirm", checked_id(payment_id, "payment")?);
            let form = return_url.map(|url| ("return_url", url.to_owned()));
            let answer = self.post(&path, form.as_slice(), key, deadline).await?;
            answer.read(objects::payment)
        }
        .boxed()
    }

    fn capture<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        async move {
            let path = format!("payment_intents/{}/capture", checked_id(payment_id, "payment")?);
            self.post(&path, &NO_FIELDS, key, deadline)
                .await?
                .read(objects::payment)
        }
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        async move {
            let path = format!("payment_intents/{}/cancel", checked_id(payment_id, "payment")?);
            self.post(&path, &NO_FIELDS, key, deadline)
                .await?
                .read(objects::payment)
        }
        .boxed()
    }

    fn refund<'a>(
        &'a self,
        payment_id: &'a str,
        amount: Option<Money>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        async move {
            let mut form = vec![("payment_intent", checked_id(payment_id, "payment")?.to_owned())];
            if let Some(amount) = amount {
                form.push(("amount", form::amount(amount)?));
            }
            self.post("refunds", &form, key, deadline)
                .await?
                .read(objects::refund)
        }
        .boxed()
    }

    fn retrieve<'a>(
        &'a self,
        payment_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        async move {
            // Only its charge says how much of it went back.
            let id = checked_id(payment_id, "payment")?;
            let path = format!("payment_intents/{id}?expand[]=latest_charge");
            self.get(&path, deadline).await?.read(objects::payment)
        }
        .boxed()
    }

    fn retrieve_refund<'a>(
        &'a self,
        refund_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        async move {
            let path = format!("refunds/{}", checked_id(refund_id, "refund")?);
            self.get(&path, deadline).await?.read(objects::refund)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, key: &str) -> StripeOptions {
        StripeOptions::new(url, key.to_owned().into())
    }

    #[test]
    fn calls_go_below_the_url_that_was_given() {
        for (given, base) in [
            ("https://api.stripe.com", "https://api.stripe.com/v1/"),
            ("https://api.stripe.com/", "https://api.stripe.com/v1/"),
            ("http://127.0.0.1:8420", "http://127.0.0.1:8420/v1/"),
            ("http://psp/stripe/", "http://psp/stripe/v1/"),
        ] {
            assert_eq!(base_url(given).unwrap().as_str(), base);
        }
        for bad in [
            "",
            "psp:8420",
            "ftp://x",
            "https://k:v@x",
            "https://x?y=1",
            "https://x#y",
            "http://",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let secret = "sk_test_4eC39HqLyjWDarjtT1zdp7dc";
        let stripe = Stripe::new(&options("http://127.0.0.1:1", secret)).unwrap();
        for shown in [
            format!("{stripe:?}"),
            format!("{:?}", options("http://x", secret)),
        ] {
            assert!(!shown.contains("4eC39"), "{shown}");
        }
        for bad in ["", "sk_test_with\nnewline", "sk test"] {
            let error = Stripe::new(&options("http://127.0.0.1:1", bad)).unwrap_err();
            assert!(matches!(error, StripeStartError::Key), "{error}");
        }
    }

    #[test]
    fn a_live_key_travels_encrypted_or_not_at_all() {
        for key in ["sk_live_1", "rk_live_1"] {
            let error = Stripe::new(&options("http://10.0.0.1", key)).unwrap_err();
            assert!(
                matches!(error, StripeStartError::LiveKeyUnencrypted(_)),
                "{error}"
            );
        }
    }
}
