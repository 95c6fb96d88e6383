//! What every replica holds after the sale: its claims, its counters, its state hash at one log index.

use std::time::Duration;

use client::{Claim, Client, Error};
use tokio::time::{Instant, sleep};

use super::verdict::Replica;
use crate::exit::Failure;

/// Longest the replicas may take to be all there and at one index; a restarted node catches up meanwhile.
const GATHER_MAX: Duration = Duration::from_secs(30);
const GATHER_PAUSE: Duration = Duration::from_millis(200);

/// Claims asked for in one call.
const PAGE: u32 = 1_000;

/// Asks every node, until all are at one index that includes the sale's last change.
pub async fn gather(
    client: &Client,
    nodes: &[(u64, String)],
    sale_id: &str,
) -> Result<Vec<Replica>, Failure> {
    let deadline = Instant::now() + GATHER_MAX;
    loop {
        let missing = match attempt(client, nodes, sale_id).await {
            Ok(Some(replicas)) => return Ok(replicas),
            Ok(None) => "the sale goes on changing".to_owned(),
            Err((endpoint, error)) => format!("the node at {endpoint}: {error}"),
        };
        if Instant::now() > deadline {
            let seconds = GATHER_MAX.as_secs();
            return Err(Failure::Failed(format!(
                "the replicas were not at one index within {seconds} s: {missing}"
            )));
        }
        sleep(GATHER_PAUSE).await;
    }
}

/// One round; `None` when the sale changed under our eyes.
async fn attempt(
    client: &Client,
    nodes: &[(u64, String)],
    sale_id: &str,
) -> Result<Option<Vec<Replica>>, (String, Error)> {
    let cluster = client.cluster();
    let at = |endpoint: &str| {
        let endpoint = endpoint.to_owned();
        move |error: Error| (endpoint, error)
    };
    let mut log_index = 0;
    for (_, endpoint) in nodes {
        let status = cluster.status(endpoint).await.map_err(at(endpoint))?;
        log_index = log_index.max(status.applied_index);
    }
    let mut replicas = Vec::with_capacity(nodes.len());
    for (node_id, endpoint) in nodes {
        let hash = cluster
            .state_hash(endpoint, log_index)
            .await
            .map_err(at(endpoint))?;
        let claims = listing(client, endpoint, sale_id).await.map_err(at(endpoint))?;
        // Read last: if nothing changed after the index up to here, the listing is of that index too.
        let (sale, _) = cluster.sale_at(endpoint, sale_id).await.map_err(at(endpoint))?;
        if sale.changed_index > log_index || hash.log_index != log_index {
            return Ok(None);
        }
        replicas.push(Replica {
            node_id: *node_id,
            log_index,
            digest: hash.digest.to_vec(),
            units_available: sale.units_available.into(),
            units_held: sale.units_held.into(),
            units_confirmed: sale.units_confirmed.into(),
            claims,
        });
    }
    Ok(Some(replicas))
}

async fn listing(client: &Client, endpoint: &str, sale_id: &str) -> Result<Vec<Claim>, Error> {
    let mut claims: Vec<Claim> = Vec::new();
    loop {
        let rank_from = claims.last().map_or(1, |claim| claim.rank.saturating_add(1));
        let page = client
            .cluster()
            .claims_at(endpoint, sale_id, rank_from, PAGE)
            .await?;
        if page.is_empty() {
            return Ok(claims);
        }
        claims.extend(page);
    }
}
