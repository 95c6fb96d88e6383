//! HTTP: grants and refusals through one door, by shoppers with tokens of their own; and a sale's page, which everybody
//! may look at (`http_pages`).
//!
//! Every claim brings a token that the door has not seen, so each is verified; it is signed when it is
//! used, which costs the generator some microseconds of the same two cores.

use std::time::{SystemTime, UNIX_EPOCH};

use api::{Role, mint_hs256};

use super::{
    Bench,
    http_pages::{self, Asking},
    nothing_but,
};
use crate::{
    children::bare_http::REFUSAL,
    failure::{Doing, Failure},
    load::{Caller, Tally},
    names::{CallerNames, Names},
    process::Process,
    report::id,
    scenarios::http_connection::Connection,
};

/// Connections, one request at a time each.
pub(super) const CONNECTIONS: usize = 64;

/// Signs the shoppers' tokens; the door lives for seconds and on loopback only.
pub(super) const SECRET: &str = "a secret of a door that only the bench walks through";

/// How long tokens are valid, in s: longer than any run.
pub(super) const TOKEN_S: u64 = 24 * 3_600;

/// What identifies a refusal as this one, in its body.
const SOLD_OUT: &[u8] = b"urn:holdfast:problem:sold-out";

/// By how many bytes bare axum's refusal may be off: indices and times in ours grow by digits.
const REFUSAL_BYTES_OFF_MAX: usize = 16;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let dir = tempfile::Builder::new()
        .prefix("bench-http-")
        .tempdir_in(bench.place);
    let dir = dir.doing("making a directory")?;
    let mut arguments = vec!["api", "--secret", SECRET];
    for endpoint in bench.cluster.endpoints() {
        arguments.extend(["--endpoint", endpoint]);
    }
    let door = Process::start(dir.path(), "api", &arguments).await?;
    let address = door.address().to_owned();
    bench.door = Some(door);

    if bench.wants(id::HTTP_GRANTS) {
        granted(bench, &address).await?;
    }
    if bench.wants(id::HTTP_REFUSED) {
        refused(bench, &address).await?;
    }
    for (id, asking) in [
        (id::HTTP_PAGE, Asking::Whole),
        (id::HTTP_PAGE_UNCHANGED, Asking::Again),
    ] {
        if bench.wants(id) {
            http_pages::measure(bench, id, &address, asking).await?;
        }
    }
    match bench.door.take() {
        Some(door) => door.stop().await,
        None => Ok(()),
    }
}

async fn granted(bench: &mut Bench<'_>, address: &str) -> Result<(), Failure> {
    bench.endless_sale(id::HTTP_GRANTS).await?;
    let callers = shoppers(address, id::HTTP_GRANTS, bench.names()).await?;
    let told = bench.rate(id::HTTP_GRANTS, callers).await?;
    nothing_but(told.granted, &told, id::HTTP_GRANTS)?;
    bench.cluster.check(id::HTTP_GRANTS, &told).await
}

async fn refused(bench: &mut Bench<'_>, address: &str) -> Result<(), Failure> {
    bench.cluster.create_sale(id::HTTP_REFUSED, 1).await?;
    let mut winner = Shopper::open(address, id::HTTP_REFUSED, bench.names().of_caller(0)).await?;
    let told = winner.call().await.unwrap_or_default();
    told.all_answered("selling out")?;
    winner.call().await;
    same_length(winner.refusal_bytes)?;
    let callers = shoppers(address, id::HTTP_REFUSED, bench.names()).await?;
    let tally = bench.rate(id::HTTP_REFUSED, callers).await?;
    nothing_but(tally.sold_out, &tally, id::HTTP_REFUSED)?;
    bench.cluster.check(id::HTTP_REFUSED, &told).await
}

/// Fails unless a refusal is about as long as the one that bare axum says in its place.
fn same_length(bytes: usize) -> Result<(), Failure> {
    if bytes.abs_diff(REFUSAL.len()) <= REFUSAL_BYTES_OFF_MAX {
        return Ok(());
    }
    let why = format!("it has {bytes} bytes, and that of bare axum {}", REFUSAL.len());
    Err(Failure::new("comparing a refusal with bare axum's", why))
}

/// Shoppers of a sale, each on a connection of its own to who listens there.
///
/// # Errors
/// Nobody listens.
pub async fn shoppers(door: &str, sale_id: &str, names: Names) -> Result<Vec<Shopper>, Failure> {
    let mut shoppers = Vec::new();
    for caller in 0..CONNECTIONS {
        shoppers.push(Shopper::open(door, sale_id, names.of_caller(caller)).await?);
    }
    Ok(shoppers)
}

/// A connection that many shoppers use, one after the other, with one claim each.
pub struct Shopper {
    connection: Connection,
    path: String,
    names: CallerNames,
    token_until_s: u64,
    /// Bytes of the last refusal's body; zero: there was none.
    refusal_bytes: usize,
}

impl Shopper {
    async fn open(door: &str, sale_id: &str, names: CallerNames) -> Result<Shopper, Failure> {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .doing("reading the clock")?
            .as_secs();
        Ok(Shopper {
            connection: Connection::open(door).await.doing("connecting to the door")?,
            path: format!("/v1/sales/{sale_id}/claims"),
            names,
            token_until_s: now_s + TOKEN_S,
            refusal_bytes: 0,
        })
    }
}

impl Caller for Shopper {
    async fn call(&mut self) -> Option<Tally> {
        let (user, key) = self.names.next()?;
        let token = mint_hs256(SECRET.as_bytes(), &user, Role::Shopper, self.token_until_s);
        let mut tally = Tally::default();
        match self
            .connection
            .post(&self.path, &token, &key, r#"{"quantity":1}"#)
            .await
        {
            Ok((201, _)) => tally.granted = 1,
            Ok((409, body)) if body.windows(SOLD_OUT.len()).any(|part| part == SOLD_OUT) => {
                tally.sold_out = 1;
                self.refusal_bytes = body.len();
            }
            Ok((status, body)) => tally.fail(|| format!("{status} {}", String::from_utf8_lossy(body))),
            Err(error) => tally.fail(|| error.to_string()),
        }
        Some(tally)
    }
}
