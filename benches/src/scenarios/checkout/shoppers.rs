//! Shoppers who hold a claim, and what the door writes for each that pays.

use std::time::{SystemTime, UNIX_EPOCH};

use api::{Role, mint_hs256};
use client::{Chained, Claim, Client, Done, Error};
use tokio::task::JoinSet;

use super::{
    super::{
        Bench,
        http::{SECRET, TOKEN_S},
    },
    PRICE_MINOR,
};
use crate::failure::{Doing, Failure};

const CURRENCY: &str = "EUR";

/// Claims made at one time while shoppers are being prepared.
const PREPARING: usize = 64;

/// Bytes of what a checkout writes: its journal, an answer under its key with its record, an order, a ledger entry.
const JOURNAL_BYTES: usize = 900;
const RECORD_BYTES: usize = 200;
const ANSWER_BYTES: usize = 1_000;
const ORDER_BYTES: usize = 700;
const LEDGER_BYTES: usize = 400;

/// Somebody with a claim.
pub(super) struct Shopper {
    pub(super) key: String,
    pub(super) token: String,
    pub(super) claim: Claim,
}

/// A sale and so many shoppers, each of whom holds a unit of it.
pub(super) async fn shoppers(
    bench: &mut Bench<'_>,
    sale_id: &'static str,
    count: u32,
) -> Result<Vec<Shopper>, Failure> {
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
pub(super) async fn write_like_a_checkout(client: &Client, shopper: &Shopper) -> Result<(), Error> {
    let (key, claim_id) = (&shopper.key, &shopper.claim.claim_id);
    let day_ms = 24 * 3_600_000;
    let body = |bytes: usize| vec![b'.'; bytes];
    let (record, journal) = (format!("idem/{key}"), format!("checkout/open/{claim_id}"));
    let write = |document: &str, bytes: usize, version: u64, step: &str| {
        client
            .put_document(document.to_owned(), body(bytes), version)
            .key(format!("{key}.{step}"))
    };
    let check =
        |document: String, step: &str| client.check_document(document, 0).key(format!("{key}.{step}"));
    let lease = |token, step: &str| {
        let lease = client.lease_document(journal.clone(), token, 20_000);
        lease.key(format!("{key}.{step}"))
    };
    let extend = client.extend(claim_id, shopper.claim.fencing_token);
    let begun = client
        .chain()
        .then(write(&record, RECORD_BYTES, 0, "take").ttl_ms(day_ms))
        .then(check(format!("checkout/closed/{claim_id}"), "closed"))
        .then(check(format!("orders/{claim_id}"), "ordered"))
        .then(write(&journal, JOURNAL_BYTES, 0, "begin"))
        .then(lease(0, "lease"))
        .then(extend.key(format!("{key}.extend")));
    let begun = all_of(begun.send().await)?;
    let [
        Done::Document(taken),
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
        )
        .then(write(&record, ANSWER_BYTES, taken.version, "answer").ttl_ms(day_ms));
    all_of(books.send().await).map(drop)
}

fn all_of(chained: Chained) -> Result<Vec<Done>, Error> {
    chained.end.map(|()| chained.done)
}
