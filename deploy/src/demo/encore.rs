//! What comes after the demo's own sale, with `--keep`: everything goes on running, with a small sale for people, and
//! the page's buttons work.

use std::time::Duration;

use api::Role;
use client::NewSale;

use super::{
    CURRENCY, Fleet, PRICE_MINOR, PROVIDER_DELAY_MS, Played, SALE, breakage, processes::Process, shoppers,
};
use crate::{exit::Failure, lifetime};

/// A second sale for people to try with `--keep`.
const ENCORE: &str = "encore";

/// Its units, and how long a claim of them is held: few enough to sell out by hand, short enough to see one come back.
const ENCORE_UNITS: u32 = 10;
const ENCORE_HOLD: Duration = Duration::from_secs(60);

/// Leaves everything running, and lets people claim and break things, until asked to stop.
pub async fn keep(fleet: &mut Fleet, played: Played) -> Result<bool, Failure> {
    invite(fleet, &played).await?;
    played.stage.hand_over(ENCORE);
    tokio::select! {
        () = breakage::run(fleet, &played.client, PROVIDER_DELAY_MS, played.asked) => {}
        _ = lifetime::asked_to_stop(false) => {}
    }
    Ok(played.passed)
}

/// Says what can be tried while everything goes on running.
async fn invite(fleet: &Fleet, played: &Played) -> Result<(), Failure> {
    let sale = NewSale {
        sale_id: ENCORE.into(),
        units_total: ENCORE_UNITS,
        hold_ms: ENCORE_HOLD.as_millis() as u64,
        price_minor: PRICE_MINOR,
        currency: CURRENCY.into(),
        open: true,
        ..NewSale::default()
    };
    played
        .client
        .create_sale(sale)
        .key("demo-encore")
        .send()
        .await
        .map_err(|error| Failure::Failed(format!("create a sale to try: {error}")))?;
    let door = fleet.doors.first().map(Process::address).unwrap_or_default();
    let provider = fleet.provider_address();
    let endpoints: Vec<String> = fleet
        .endpoints()
        .into_iter()
        .map(|(_, address)| address)
        .collect();
    let holdfast = std::env::current_exe().map_or("holdfast".into(), |path| path.display().to_string());
    let token = shoppers::bearer(&played.secret, "you", Role::Shopper);
    let page = fleet.page();
    println!(
        "
everything goes on running, with a sale `{ENCORE}` of {ENCORE_UNITS} units. Claim one, pay, and break something at
{page}

or by hand:

curl -s -X POST http://{door}/v1/sales/{ENCORE}/claims \\
  -H 'Idempotency-Key: first-try' -H 'Authorization: {token}' | tee claim.json
claim=$(sed 's/.*\"claim_id\":\"\\([^\"]*\\)\".*/\\1/' claim.json)
curl -s -X POST http://{door}/v1/claims/$claim/checkout \\
  -H 'Idempotency-Key: first-payment' -H 'Authorization: {token}' \\
  -H 'Content-Type: application/json' -d '{{\"payment_method\":\"pm_card_visa\"}}'
curl -s http://{provider}/_/ledger

export HOLDFAST_ENDPOINTS={}
{holdfast} cluster status
{holdfast} verify
{holdfast} sale report {SALE} --metrics http://{door}/metrics
{holdfast} claim create {ENCORE} somebody-else
{holdfast} claim list {ENCORE}

Ctrl-C stops and removes everything.",
        endpoints.join(",")
    );
    Ok(())
}
