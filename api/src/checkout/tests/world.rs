//! One store and one provider, and API processes before them that come and go.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use client::ClaimStatus;
use futures::{FutureExt, future::BoxFuture, future::pending};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tower::ServiceExt;

use super::super::{CheckoutOptions, Payments, sweeper::sweep};
use crate::{
    Auth, Keys, Options, Role,
    door::Door,
    ledger::{self, Balances},
    machine_store::MachineStore,
    mint_hs256,
    payment::{
        GuardOptions, Guarded, NewPayment, Payment, PaymentError, PaymentProvider, ProviderKey, Refund,
        SIGNATURE_TOLERANCE, SecretString, SharedProvider, SignatureCheck, simulator,
        stripe::{Stripe, StripeOptions},
        use_ring,
    },
    routes,
    store::{Store, Take},
};

pub(super) const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
pub(super) const WEBHOOK_SECRET: &str = "whsec_rehearsal";
pub(super) const PRICE_MINOR: u64 = 12_900;

/// What is there once: the store and the provider.
pub(super) struct World {
    pub(super) store: Arc<MachineStore>,
    pub(super) psp: String,
    pub(super) http: reqwest::Client,
}

/// One API process.
pub(super) struct Process {
    pub(super) door: Arc<Door>,
    pub(super) router: Router,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
}

impl Answer {
    /// Status and, of a problem, the last part of its type.
    pub(super) fn told(&self) -> (u16, &str) {
        let kind = self.json["type"].as_str().unwrap_or_default();
        let slug = kind.rsplit_once(':').map_or("", |(_, slug)| slug);
        (self.status.as_u16(), slug)
    }
}

impl World {
    pub(super) async fn new() -> World {
        use_ring();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let psp = format!("http://{}", listener.local_addr().unwrap());
        let mut options = simulator::ServerOptions::default();
        options.provider.base_url = String::new();
        tokio::spawn(simulator::serve(listener, options, pending()));
        let store = Arc::new(MachineStore::new());
        store.open_sale("drop-7", 10, PRICE_MINOR, *b"EUR");
        World {
            store,
            psp,
            // The challenge sends the shopper on to a shop that is not there.
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
        }
    }

    pub(super) fn provider(&self) -> SharedProvider {
        let options = StripeOptions::new(&self.psp, SecretString::from("sk_test_rehearsal"));
        let stripe = Stripe::new(&options).unwrap();
        Arc::new(Guarded::new(Arc::new(stripe), GuardOptions::default()).unwrap())
    }

    pub(super) fn process(&self) -> Process {
        self.process_with(self.provider(), |_| {})
    }

    pub(super) fn process_with(
        &self,
        provider: SharedProvider,
        change: impl FnOnce(&mut CheckoutOptions),
    ) -> Process {
        let mut options = Options::new(Auth::Keys(Keys {
            hs256_secrets: vec![SECRET.to_vec()],
            ..Keys::default()
        }));
        let webhooks = SignatureCheck::new(vec![SecretString::from(WEBHOOK_SECRET)], SIGNATURE_TOLERANCE);
        options.payments = Some(Payments {
            provider,
            webhooks: Some(webhooks),
        });
        // Sweeps happen when a test says so.
        options.checkout.sweep_ms = 1 << 30;
        options.checkout.payment_call_ms_max = 1_000;
        change(&mut options.checkout);
        let door = Door::new(Arc::clone(&self.store) as Arc<dyn Store>, options).unwrap();
        let router = routes::router(Arc::clone(&door));
        Process { door, router }
    }

    pub(super) async fn claim(&self, user: &str) -> String {
        let take = Take {
            sale_id: "drop-7".into(),
            user: user.into(),
            key: format!("claim of {user}"),
            quantity: 1,
        };
        self.store.claim(take).await.unwrap().claim.claim_id
    }

    pub(super) async fn status_of(&self, claim_id: &str) -> ClaimStatus {
        self.store.find_claim(claim_id, None).await.unwrap().0.status
    }

    /// The provider's books.
    pub(super) async fn books(&self) -> Value {
        let answer = self
            .http
            .get(format!("{}/_/ledger", self.psp))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    pub(super) async fn control(&self, road: &str, form: &[(&str, &str)]) -> Value {
        let request = self.http.post(format!("{}{road}", self.psp));
        let body: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The end of every test: nothing charged twice, our books as the provider's, no money held.
    pub(super) async fn check_books(&self) -> Balances {
        let books = self.books().await;
        assert_eq!(books["double_charged"], json!([]), "{books:#}");
        let mut captured = 0;
        for payment in books["payments"].as_array().unwrap() {
            assert_ne!(
                payment["status"], "requires_capture",
                "money is held: {payment:#}"
            );
            captured += payment["captured_minor"].as_i64().unwrap();
        }
        let mut balances = Balances::default();
        let page = ledger::page(&*self.store, "").await.unwrap();
        assert!(page.after.is_none());
        for transaction in &page.transactions {
            balances.add(transaction);
        }
        assert!(balances.sums().values().all(|sum| *sum == 0));
        let eur = crate::payment::Currency::from_code("EUR").unwrap();
        let of = |account| balances.of(eur, account);
        assert_eq!(of(ledger::Account::Revenue), -i128::from(captured), "{books:#}");
        assert_eq!(of(ledger::Account::ProviderHold), 0);
        balances
    }
}

impl Process {
    pub(super) async fn ask(&self, method: Method, path: &str, user: &str, key: &str, body: Value) -> Answer {
        let token = mint_hs256(SECRET, user, Role::Shopper, u64::from(u32::MAX));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    pub(super) async fn pay(&self, claim_id: &str, user: &str, key: &str, card: &str) -> Answer {
        let path = format!("/v1/claims/{claim_id}/checkout");
        let body = json!({ "payment_method": card, "return_url": "https://shop.example/back" });
        self.ask(Method::POST, &path, user, key, body).await
    }

    pub(super) async fn status(&self, claim_id: &str, user: &str) -> Answer {
        let path = format!("/v1/claims/{claim_id}/checkout");
        self.ask(Method::GET, &path, user, "", Value::Null).await
    }

    /// Sweeps and waits until a checkout is not in progress any more.
    pub(super) async fn see_through(&self, claim_id: &str, user: &str) -> Answer {
        for _ in 0..400 {
            sweep(&self.door.checkouts).await.unwrap();
            let answer = self.status(claim_id, user).await;
            let undecided = ["in-progress", "action-required"];
            if !undecided.iter().any(|status| answer.json["status"] == *status) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the checkout never ends");
    }

    pub(super) async fn webhook(&self, event: &Value, secret: &str) -> Answer {
        let body = event.to_string();
        let signature = simulator::signature(secret.as_bytes(), crate::auth::now_s(), &body);
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/webhooks/stripe")
            .header("stripe-signature", signature)
            .body(Body::from(body))
            .unwrap();
        self.send(request).await
    }
}

/// A provider that one process cannot use any more after so many calls: the call happens, and its answer
/// never comes. What a process that dies then leaves behind.
pub(super) struct Dying {
    pub(super) provider: SharedProvider,
    pub(super) calls_left: AtomicUsize,
    /// Whether the last call still happens.
    pub(super) happens: bool,
    pub(super) died: Mutex<bool>,
}

impl Dying {
    pub(super) fn new(provider: SharedProvider, calls: usize, happens: bool) -> Arc<Dying> {
        Arc::new(Dying {
            provider,
            calls_left: AtomicUsize::new(calls),
            happens,
            died: Mutex::new(false),
        })
    }

    pub(super) async fn through<T>(&self, call: BoxFuture<'_, T>) -> T {
        let left = self
            .calls_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(left) if left > 1 => call.await,
            Ok(_) if self.happens => {
                call.await;
                *self.died.lock().unwrap() = true;
                pending().await
            }
            _ => {
                *self.died.lock().unwrap() = true;
                pending().await
            }
        }
    }
}

type Paid<'a> = BoxFuture<'a, Result<Payment, PaymentError>>;

impl PaymentProvider for Dying {
    fn create<'a>(&'a self, new: &'a NewPayment, key: &'a ProviderKey, deadline: Instant) -> Paid<'a> {
        self.through(self.provider.create(new, key, deadline)).boxed()
    }
    fn confirm<'a>(
        &'a self,
        payment_id: &'a str,
        return_url: Option<&'a str>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> Paid<'a> {
        self.through(self.provider.confirm(payment_id, return_url, key, deadline))
            .boxed()
    }
    fn capture<'a>(&'a self, payment_id: &'a str, key: &'a ProviderKey, deadline: Instant) -> Paid<'a> {
        self.through(self.provider.capture(payment_id, key, deadline))
            .boxed()
    }
    fn cancel<'a>(&'a self, payment_id: &'a str, key: &'a ProviderKey, deadline: Instant) -> Paid<'a> {
        self.through(self.provider.cancel(payment_id, key, deadline))
            .boxed()
    }
    fn refund<'a>(
        &'a self,
        payment_id: &'a str,
        amount: Option<crate::payment::Money>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        self.through(self.provider.refund(payment_id, amount, key, deadline))
            .boxed()
    }
    fn retrieve<'a>(&'a self, payment_id: &'a str, deadline: Instant) -> Paid<'a> {
        self.through(self.provider.retrieve(payment_id, deadline)).boxed()
    }
    fn retrieve_refund<'a>(
        &'a self,
        refund_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        self.provider.retrieve_refund(refund_id, deadline)
    }
}
