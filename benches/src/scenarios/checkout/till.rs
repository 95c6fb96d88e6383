//! The door under load, the provider behind it, and what their books must say afterwards.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use api::payment::simulator::Ledger;
use client::Consistency;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    super::{Bench, http::SECRET, http_connection::Connection},
    DECIDED_MAX, PRICE_MINOR,
    shoppers::Shopper,
};
use crate::{
    failure::{Doing, Failure},
    load::Tally,
    process::Process,
};

/// A connection that nobody used for longer is left alone: the door closes such ones after 30 s.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How often a shopper looks whose checkout is not decided yet.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long he waits before he asks again under the same key.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The door with a provider behind it, and connections to it.
#[derive(Clone)]
pub(super) struct Till {
    door: Arc<str>,
    provider: Arc<Mutex<Option<Process>>>,
    idle: Arc<Mutex<Vec<(Instant, Connection)>>>,
    // Last, so that the processes are gone before their files are.
    _dir: Arc<tempfile::TempDir>,
}

impl Till {
    pub(super) async fn open(bench: &mut Bench<'_>, faults: &[&str]) -> Result<Till, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("bench-checkout-")
            .tempdir_in(bench.place)
            .doing("making a directory")?;
        let mut arguments = vec!["psp", "--webhook-secret", SECRET];
        arguments.extend(faults.iter().flat_map(|fault| ["--fault", fault]));
        let mut provider = Process::start(dir.path(), "psp", &arguments).await?;
        let payment_url = format!("http://{}", provider.address());
        let mut arguments = vec!["api", "--secret", SECRET, "--payment-url", &payment_url];
        for endpoint in bench.cluster.endpoints() {
            arguments.extend(["--endpoint", endpoint]);
        }
        let door = Process::start(dir.path(), "api", &arguments).await?;
        let address: Arc<str> = door.address().into();
        provider
            .ask(&format!("serve http://{address}/v1/webhooks/stripe"))
            .await?;
        bench.door = Some(door);
        Ok(Till {
            door: address,
            provider: Arc::new(Mutex::new(Some(provider))),
            idle: Arc::default(),
            _dir: Arc::new(dir),
        })
    }

    async fn connection(&self) -> std::io::Result<Connection> {
        let idle = self.idle.lock().expect("nobody panics while taking one").pop();
        match idle {
            Some((since, connection)) if since.elapsed() < IDLE_MAX => Ok(connection),
            _ => Connection::open(&self.door).await,
        }
    }

    /// Asks to pay; gives status and body.
    async fn post(&self, shopper: &Shopper) -> std::io::Result<(u16, Value)> {
        let path = format!("/v1/claims/{}/checkout", shopper.claim.claim_id);
        let body = r#"{"payment_method":"pm_card_visa"}"#;
        let mut connection = self.connection().await?;
        let (status, body) = connection.post(&path, &shopper.token, &shopper.key, body).await?;
        let answer = (status, serde_json::from_slice(body)?);
        self.keep(connection);
        Ok(answer)
    }

    /// Asks how it stands.
    async fn look(&self, shopper: &Shopper) -> std::io::Result<(u16, Value)> {
        let path = format!("/v1/claims/{}/checkout", shopper.claim.claim_id);
        let mut connection = self.connection().await?;
        let (status, body) = connection.get(&path, &shopper.token).await?;
        let answer = (status, serde_json::from_slice(body)?);
        self.keep(connection);
        Ok(answer)
    }

    fn keep(&self, connection: Connection) {
        self.idle
            .lock()
            .expect("nobody panics while keeping one")
            .push((Instant::now(), connection));
    }

    /// Pays, and is told at once that there is an order.
    pub(super) async fn pays_at_once(&self, shopper: &Shopper) -> Result<(), String> {
        match self.post(shopper).await {
            Ok((201, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Pays, however often that takes; whether there is an order in the end.
    pub(super) async fn pays(&self, shopper: &Shopper, deadline: Instant) -> Result<bool, String> {
        let mut asked = false;
        loop {
            let answer = if asked {
                self.look(shopper).await
            } else {
                self.post(shopper).await
            };
            let (status, body) = answer.map_err(|error| error.to_string())?;
            let word = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
            let (standing, problem) = (word("status"), word("type"));
            match (
                status,
                problem.strip_prefix("urn:holdfast:problem:").unwrap_or_default(),
            ) {
                (200 | 201, _) if standing == "paid" => return Ok(true),
                (402, _) | (_, "hold-gone" | "checkout-failed") => return Ok(false),
                (200, _) if ["declined", "refused", "hold-gone", "capture-failed"].contains(&&*standing) => {
                    return Ok(false);
                }
                (200 | 202, _) if standing == "in-progress" => {
                    asked = true;
                    sleep(LOOK_EVERY).await;
                }
                // Nothing was charged: the same key may be used again.
                (200, _) if standing == "provider-unavailable" => asked = false,
                (_, "provider-unavailable" | "key-in-flight" | "checkout-in-progress" | "unavailable") => {
                    asked = false;
                    sleep(AGAIN_AFTER).await;
                }
                _ => return Err(format!("{status} {body}")),
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{} is not decided: {status} {body}",
                    shopper.claim.claim_id
                ));
            }
        }
    }

    /// Ends it, once the replicas and the provider's books say what shoppers were told: so many have paid.
    pub(super) async fn close(
        self,
        bench: &mut Bench<'_>,
        sale_id: &str,
        count: u32,
        paid: u32,
    ) -> Result<(), Failure> {
        let client = bench.cluster.client();
        let asking = Instant::now();
        loop {
            let open = client
                .list_documents("checkout/open/", "", 1, Consistency::Linearizable)
                .await
                .doing("looking for open checkouts")?;
            if open.documents.is_empty() {
                break;
            }
            if asking.elapsed() > DECIDED_MAX {
                return Err(Failure::new("checking the books", "a checkout is open still"));
            }
            sleep(LOOK_EVERY).await;
        }
        let told = Tally {
            granted: count.into(),
            confirmed: paid.into(),
            ..Tally::default()
        };
        bench.cluster.check(sale_id, &told).await?;

        let provider = self
            .provider
            .lock()
            .expect("nobody panics while taking it")
            .take();
        let provider = provider.ok_or_else(|| Failure::new("closing", "it was closed before"))?;
        let reading = "reading the provider's books";
        let mut connection = Connection::open(provider.address()).await.doing(reading)?;
        let (_, body) = connection.get("/_/ledger", "").await.doing(reading)?;
        let books: Ledger = serde_json::from_slice(body).doing(reading)?;
        check_books(&books, paid)?;
        if let Some(door) = bench.door.take() {
            door.stop().await?;
        }
        provider.stop().await
    }
}

/// So many paid once, the price of a unit each; nobody else's money is kept or held.
fn check_books(books: &Ledger, paid: u32) -> Result<(), Failure> {
    let wrong = books.references.iter().find(|(_, reference)| {
        let net_minor = reference.captured_minor - reference.refunded_minor;
        reference.authorizations > 0 || ![0, PRICE_MINOR].contains(&net_minor)
    });
    let kept = books
        .references
        .values()
        .filter(|reference| reference.captured_minor > reference.refunded_minor)
        .count();
    let why = match wrong {
        Some((claim_id, reference)) => format!("{claim_id}: {reference:?}"),
        None if kept != paid as usize => format!("{kept} have paid, but {paid} were told so"),
        None => return Ok(()),
    };
    Err(Failure::new("checking the provider's books", why))
}

#[cfg(test)]
mod tests {
    use api::payment::simulator::Reference;

    use super::*;

    #[test]
    fn money_that_is_kept_held_or_missing_is_seen() {
        let reference = |captured_minor, refunded_minor, authorizations| Reference {
            captured_minor,
            refunded_minor,
            authorizations,
            ..Reference::default()
        };
        let books = |third: Reference| {
            let given_back = reference(PRICE_MINOR, PRICE_MINOR, 0);
            let references = [
                ("a", reference(PRICE_MINOR, 0, 0)),
                ("b", given_back),
                ("c", third),
            ];
            Ledger {
                references: references
                    .map(|(claim, reference)| (claim.to_owned(), reference))
                    .into(),
                ..Ledger::default()
            }
        };
        assert!(check_books(&books(reference(PRICE_MINOR, 0, 0)), 2).is_ok());
        for wrong in [
            reference(2 * PRICE_MINOR, 0, 0),
            reference(0, 0, 0),
            reference(PRICE_MINOR, 0, 1),
            reference(PRICE_MINOR, 1, 0),
        ] {
            assert!(check_books(&books(wrong.clone()), 2).is_err(), "{wrong:?}");
        }
    }
}
