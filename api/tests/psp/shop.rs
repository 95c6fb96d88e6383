//! A provider on a free port, and a caller.

use std::{future::Future, path::Path};

use api::payment::simulator::{Faults, Ledger, ServerOptions, SimulatorError, serve};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::caller::{Call, Caller, Told};

/// The key that tests call with.
pub const KEY: &str = "sk_test_rehearsal";

/// A running provider.
pub struct Shop {
    pub base: String,
    pub client: Caller,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), SimulatorError>>,
}

impl Shop {
    /// Without faults and webhooks.
    pub async fn open() -> Shop {
        Shop::with(ServerOptions::default()).await
    }

    pub async fn faulty(faults: Faults) -> Shop {
        let mut options = ServerOptions::default();
        options.provider.faults = faults;
        Shop::with(options).await
    }

    pub async fn with(mut options: ServerOptions) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        options.provider.base_url = String::new();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, options, shutdown));
        Shop {
            base,
            client: Caller::new(),
            stop: Some(stop),
            served,
        }
    }

    /// With a journal.
    pub async fn remembering(journal: &Path) -> Shop {
        Shop::with(ServerOptions {
            journal: Some(journal.to_owned()),
            ..ServerOptions::default()
        })
        .await
    }

    /// Stops it; what it says.
    pub async fn close(mut self) -> Result<(), SimulatorError> {
        drop(self.stop.take());
        self.served.await.expect("the server does not panic")
    }

    pub fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> impl Future<Output = Told> + use<> {
        let told = self.try_post(path, key, form).send();
        async { told.await.expect("an answer") }
    }

    /// A call whose answer may never come.
    pub fn try_post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Call {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(KEY);
        let request = request.form(form);
        if key.is_empty() {
            request
        } else {
            request.header("idempotency-key", key)
        }
    }

    pub async fn get(&self, path: &str) -> Told {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(KEY);
        request.send().await.expect("an answer")
    }

    /// A payment of 49.00 EUR, not confirmed.
    pub async fn create(&self, claim: &str, method: &str) -> String {
        let told = self.post(
            "/v1/payment_intents",
            &format!("{claim}.create"),
            &new_payment(claim, method),
        );
        text(&told.await.ok()["id"])
    }

    /// A payment of 49.00 EUR, authorized.
    pub async fn authorize(&self, claim: &str, method: &str) -> String {
        let id = self.create(claim, method).await;
        let path = format!("/v1/payment_intents/{id}/confirm");
        let confirmed = self.post(&path, &format!("{claim}.confirm"), &[]).await.ok();
        assert_eq!(confirmed["status"], "requires_capture");
        id
    }

    pub async fn status(&self, payment: &str) -> String {
        text(&self.get(&format!("/v1/payment_intents/{payment}")).await.ok()["status"])
    }

    pub async fn settlement(&self) -> String {
        let request = self.client.get(format!("{}/_/settlement.csv", self.base));
        text(&request.send().await.expect("an answer").ok())
    }

    pub async fn ledger(&self) -> Ledger {
        serde_json::from_value(self.get("/_/ledger").await.ok()).expect("a ledger")
    }
}

/// What our own side sends to begin a payment.
pub fn new_payment<'a>(claim: &'a str, method: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("amount", "4900"),
        ("currency", "eur"),
        ("capture_method", "manual"),
        ("payment_method", method),
        ("metadata[claim_id]", claim),
        ("metadata[attempt]", "1"),
    ]
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not text"))
        .to_owned()
}
