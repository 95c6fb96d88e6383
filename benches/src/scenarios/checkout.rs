//! Checkout: shoppers who hold a claim pay through one door, so many a second, however long the others take.
//!
//! Shoppers come at a fixed rate and wait for each other nowhere, and their time runs from when they were due; so a
//! door that falls behind cannot hide it. The provider is a process of its own that answers at once and sends its
//! webhooks to the door, on the same two cores: all it costs is counted as ours. Beside it, in the same run and at
//! the same rate, the writes to the store that a checkout is made of, one after the other as it makes them; what a
//! checkout takes beyond them is our side's overhead.
//!
//! With faults, a share of all calls to the provider goes wrong, and shoppers do what shoppers do: they look how it
//! stands, and try again. Afterwards the provider's books are compared with what they were told.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::{Role, mint_hs256, payment::simulator::Ledger};
use client::{Chained, Claim, Client, Consistency, Done, Error};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Bench,
    http::{SECRET, TOKEN_S},
    http_connection::Connection,
};
use crate::{
    failure::{Doing, Failure},
    load::{Tally, histogram},
    process::Process,
    report::{Course, Figure, id},
};

/// Checkouts a second: what the aim is said for.
const RATE: u32 = 500;

/// How long checkouts come before those that are measured: connections are up by then.
const WARM_UP: Duration = Duration::from_secs(2);

/// What a unit costs.
const PRICE_MINOR: u64 = 4_900;
const CURRENCY: &str = "EUR";

/// Claims made at one time while shoppers are being prepared.
const PREPARING: usize = 64;

/// Checkouts with faults, and how many come each second: all are there after two minutes of the three they have.
const FAULTS_COUNT: u32 = 10_000;
const FAULTS_RATE: u32 = 80;

/// One call in twenty goes wrong, in five ways; webhooks are lost and repeated beside that.
const FAULTS: [&str; 9] = [
    "error_before_rate=0.01",
    "error_after_rate=0.01",
    "hang_rate=0.01",
    "lost_answer_rate=0.01",
    "late_effect_rate=0.01",
    "late_effect_ms=3000",
    "webhook_lost_rate=0.05",
    "webhook_twice_rate=0.05",
    "delay_ms=30",
];

/// A connection that nobody used for longer is left alone: the door closes such ones after 30 s.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How often a shopper looks whose checkout is not decided yet.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long he waits before he asks again under the same key.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Longest that anybody is waited for: one who is stuck must fail the run and not keep it.
const DECIDED_MAX: Duration = Duration::from_secs(170);

/// Bytes of what a checkout writes: its journal, an answer under its key with its record, an order, a ledger entry.
const JOURNAL_BYTES: usize = 900;
const RECORD_BYTES: usize = 200;
const ANSWER_BYTES: usize = 1_000;
const ORDER_BYTES: usize = 700;
const LEDGER_BYTES: usize = 400;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let count = RATE * u32::try_from((bench.window + WARM_UP).as_secs()).unwrap_or(u32::MAX);
    let door = Till::open(bench, &[]).await?;

    // Both sales before either is measured: what making claims leaves to be written behind is nobody's.
    let alone = shoppers(bench, id::CHECKOUT_WRITES, count).await?;
    let paying = shoppers(bench, id::CHECKOUT, count).await?;
    bench.cluster.settled().await?;

    let before = bench.processor_times()?;
    let writes = alone.into_iter().map(|shopper| {
        let client = bench.cluster.client().clone();
        async move { write_like_a_checkout(&client, &shopper).await }
    });
    let writes = at_rate(RATE, writes).await?;
    let writes = told(writes, |error: Error| error.to_string(), id::CHECKOUT_WRITES)?;
    add(bench, id::CHECKOUT_WRITES, &writes, &before)?;

    bench.cluster.settled().await?;
    let before = bench.processor_times()?;
    let checkouts = paying.into_iter().map(|shopper| {
        let door = door.clone();
        async move { door.pays_at_once(&shopper).await }
    });
    let checkouts = at_rate(RATE, checkouts).await?;
    let checkouts = told(checkouts, |why: String| why, id::CHECKOUT)?;
    add(bench, id::CHECKOUT, &checkouts, &before)?;
    let overhead_ms = checkouts.ms(0.99) - writes.ms(0.99);
    bench.run.add(id::CHECKOUT_OVERHEAD, Figure::new(overhead_ms));
    door.close(bench, id::CHECKOUT, count, count).await
}

pub(super) async fn measure_faults(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let door = Till::open(bench, &FAULTS).await?;
    let shoppers = shoppers(bench, id::FAULTS_ALL, FAULTS_COUNT).await?;
    bench.cluster.settled().await?;
    let began = Instant::now();
    let deadline = began + DECIDED_MAX;
    let checkouts = shoppers.into_iter().map(|shopper| {
        let door = door.clone();
        async move { door.pays(&shopper, deadline).await }
    });
    let checkouts = at_rate(FAULTS_RATE, checkouts).await?;
    let all = began.elapsed();
    let (mut paid, mut longest) = (0, Duration::ZERO);
    for (took, decided) in checkouts {
        paid += u32::from(decided.map_err(|why| Failure::new("checking out with faults", why))?);
        longest = longest.max(took);
    }
    bench.run.add(id::FAULTS_ALL, Figure::new(all.as_secs_f64()));
    bench
        .run
        .add(id::FAULTS_LONGEST, Figure::new(longest.as_secs_f64()));
    door.close(bench, id::FAULTS_ALL, FAULTS_COUNT, paid).await
}

/// Begins so many a second, waits for all; each with the time since it was due, in the order in which they were.
async fn at_rate<T: Send + 'static>(
    rate: u32,
    works: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Result<Vec<(Duration, T)>, Failure> {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (number, work) in (0_u32..).zip(works) {
        let due = begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        sleep_until(due).await;
        running.spawn(async move {
            let came = work.await;
            (number, due.elapsed(), came)
        });
    }
    let mut all = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        all.push(ended.doing("running a load")?);
    }
    all.sort_by_key(|(number, ..)| *number);
    Ok(all.into_iter().map(|(_, took, came)| (took, came)).collect())
}

/// What was measured after the warming up.
struct Latency(Histogram<u64>);

impl Latency {
    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// The latencies, if all went well.
fn told<E>(
    all: Vec<(Duration, Result<(), E>)>,
    why: impl Fn(E) -> String,
    doing: &str,
) -> Result<Latency, Failure> {
    let warming = (WARM_UP.as_secs() * u64::from(RATE)) as usize;
    let mut latency_us = histogram();
    for (number, (took, came)) in all.into_iter().enumerate() {
        came.map_err(|error| Failure::new(doing, why(error)))?;
        if number >= warming {
            latency_us.saturating_record(took.as_micros() as u64);
        }
    }
    Ok(Latency(latency_us))
}

fn add(
    bench: &mut Bench<'_>,
    id: &'static str,
    latency: &Latency,
    before: &[Duration],
) -> Result<(), Failure> {
    let operations = latency.0.len() + WARM_UP.as_secs() * u64::from(RATE);
    let figure = Figure {
        p50_ms: Some(latency.ms(0.50)),
        p99_ms: Some(latency.ms(0.99)),
        course: Some(Course::new(&latency.0, &[])),
        processor: Some(bench.processor_since(before, operations)?),
        ..Figure::new(latency.ms(0.99))
    };
    bench.run.add(id, figure);
    Ok(())
}

/// Somebody with a claim.
struct Shopper {
    key: String,
    token: String,
    claim: Claim,
}

/// A sale and so many shoppers, each of whom holds a unit of it.
async fn shoppers(bench: &mut Bench<'_>, sale_id: &'static str, count: u32) -> Result<Vec<Shopper>, Failure> {
    bench
        .cluster
        .create_priced_sale(sale_id, count, PRICE_MINOR, CURRENCY)
        .await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let until_s = now.doing("reading the clock")?.as_secs() + TOKEN_S;
    let names = bench.names();
    let mut preparing = JoinSet::new();
    let share = (count as usize).div_ceil(PREPARING);
    for caller in 0..PREPARING {
        let share = share.min((count as usize).saturating_sub(caller * share));
        let (client, names) = (
            bench.cluster.client().clone(),
            names.of_caller(caller).take(share),
        );
        preparing.spawn(async move {
            let mut shoppers = Vec::with_capacity(share);
            for (user, key) in names {
                let claimed = client.claim(sale_id, &*user).key(&*key).send().await?;
                shoppers.push(Shopper {
                    token: mint_hs256(SECRET.as_bytes(), &user, Role::Shopper, until_s),
                    claim: claimed.claim,
                    key,
                });
            }
            Ok::<_, Error>(shoppers)
        });
    }
    let mut all = Vec::with_capacity(count as usize);
    while let Some(ended) = preparing.join_next().await {
        all.extend(ended.doing("claiming")?.doing("claiming")?);
    }
    Ok(all)
}

/// The writes of one checkout that succeeds, as the door makes them: each round waits for the one before.
async fn write_like_a_checkout(client: &Client, shopper: &Shopper) -> Result<(), Error> {
    let (key, claim_id) = (&shopper.key, &shopper.claim.claim_id);
    let day_ms = 24 * 3_600_000;
    let body = |bytes: usize| vec![b'.'; bytes];
    let (record, journal) = (format!("idem/{key}"), format!("checkout/open/{claim_id}"));
    let write = |document: &str, bytes: usize, version: u64, step: &str| {
        client
            .put_document(document.to_owned(), body(bytes), version)
            .key(format!("{key}.{step}"))
    };
    let taken = write(&record, RECORD_BYTES, 0, "take")
        .ttl_ms(day_ms)
        .send()
        .await?;
    let check =
        |document: String, step: &str| client.check_document(document, 0).key(format!("{key}.{step}"));
    let lease = |token, step: &str| {
        let lease = client.lease_document(journal.clone(), token, 20_000);
        lease.key(format!("{key}.{step}"))
    };
    let extend = client.extend(claim_id, shopper.claim.fencing_token);
    let begun = client
        .chain()
        .then(check(format!("checkout/closed/{claim_id}"), "closed"))
        .then(check(format!("orders/{claim_id}"), "ordered"))
        .then(write(&journal, JOURNAL_BYTES, 0, "begin"))
        .then(lease(0, "lease"))
        .then(extend.key(format!("{key}.extend")));
    let begun = all_of(begun.send().await)?;
    let [
        _,
        _,
        Done::Document(begun),
        Done::Document(leased),
        Done::Settled(claim),
    ] = &begun[..]
    else {
        unreachable!("a chain is answered in its order");
    };
    let token = leased.fencing_token;
    let saved = write(&journal, JOURNAL_BYTES, begun.version, "authorize").fencing_token(token);
    let version = saved.send().await?.version;
    let confirm = client.confirm(claim_id, claim.fencing_token);
    let confirmed = client
        .chain()
        .then(write(&journal, JOURNAL_BYTES, version, "confirm").fencing_token(token))
        .then(confirm.key(format!("{key}.confirmed")));
    let confirmed = all_of(confirmed.send().await)?;
    let Some(Done::Document(saved)) = confirmed.first() else {
        unreachable!("a chain is answered in its order");
    };
    let books = client
        .chain()
        .then(lease(token, "still-ours"))
        .then(write(&format!("ledger/{claim_id}/hold"), LEDGER_BYTES, 0, "hold"))
        .then(write(
            &format!("ledger/{claim_id}/capture"),
            LEDGER_BYTES,
            0,
            "capture",
        ))
        .then(write(&format!("orders/{claim_id}"), ORDER_BYTES, 0, "order"))
        .then(
            write(&journal, JOURNAL_BYTES, saved.version, "end")
                .fencing_token(token)
                .ttl_ms(1),
        );
    all_of(books.send().await)?;
    let answer = write(&record, ANSWER_BYTES, taken.version, "answer").ttl_ms(day_ms);
    answer.send().await.map(drop)
}

fn all_of(chained: Chained) -> Result<Vec<Done>, Error> {
    chained.end.map(|()| chained.done)
}

/// The door with a provider behind it, and connections to it.
#[derive(Clone)]
struct Till {
    door: Arc<str>,
    provider: Arc<Mutex<Option<Process>>>,
    idle: Arc<Mutex<Vec<(Instant, Connection)>>>,
    // Last, so that the processes are gone before their files are.
    _dir: Arc<tempfile::TempDir>,
}

impl Till {
    async fn open(bench: &mut Bench<'_>, faults: &[&str]) -> Result<Till, Failure> {
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
    async fn pays_at_once(&self, shopper: &Shopper) -> Result<(), String> {
        match self.post(shopper).await {
            Ok((201, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Pays, however often that takes; whether there is an order in the end.
    async fn pays(&self, shopper: &Shopper, deadline: Instant) -> Result<bool, String> {
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
    async fn close(self, bench: &mut Bench<'_>, sale_id: &str, count: u32, paid: u32) -> Result<(), Failure> {
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

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_delays_nobody_and_his_time_runs_from_when_he_was_due() {
        let slow = |number: u64| async move { sleep(Duration::from_secs(10 * (number % 2))).await };
        let all = at_rate(4, (0..8).map(slow)).await.unwrap();
        let took: Vec<u64> = all.iter().map(|(took, ())| took.as_secs()).collect();
        assert_eq!(took, [0, 10, 0, 10, 0, 10, 0, 10]);
    }

    #[test]
    fn what_the_warming_up_took_is_not_measured_and_a_failure_is_one() {
        let warming = WARM_UP.as_secs() * u64::from(RATE);
        let took = |ms| (Duration::from_millis(ms), Ok::<(), &str>(()));
        let all: Vec<_> = (0..warming)
            .map(|_| took(900))
            .chain([took(5), took(7)])
            .collect();
        let latency = told(all.clone(), str::to_owned, "trying").unwrap();
        assert_eq!(
            // A histogram's buckets are a little wide.
            (latency.0.len(), latency.ms(0.5).round(), latency.ms(0.99).round()),
            (2, 5.0, 7.0)
        );
        let failed = [(Duration::ZERO, Err("declined"))]
            .into_iter()
            .chain(all)
            .collect();
        assert!(told(failed, str::to_owned, "trying").is_err_and(|why| why.to_string().contains("declined")));
    }

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
