//! The shop's keeper: adds units now and then, takes some out, and closes the doors for a moment.
//!
//! Does not insist on what changes stock: the answer to a repetition does not say where it was given, only where the
//! effect stands, which is before it. What is unknown is resolved in the end. Doors that were closed are opened again
//! under one new key after the other, until a sale is known to be open.

use std::{sync::Arc, time::Duration};

use client::Client;
use rand::{RngExt, rngs::SmallRng};
use tokio::time::sleep;

use super::{
    plan::{Plan, SalePlan},
    shop::{Heard, Process, Shop},
};
use crate::history::Call;

/// How often units are added to each sale of a run that has more: a second wave, a third, a fourth.
const RESTOCKS: u64 = 3;

/// Units of the last wave.
const LAST_WAVE_UNITS: u64 = 20;

/// How often some are taken out again, in the middle between two waves.
const WITHDRAWN: f64 = 0.7;

/// How often the doors of a sale are closed between two waves, and how long, in ms: most callers call again.
const PAUSED: f64 = 0.25;
const PAUSED_MS: std::ops::Range<u64> = 50..400;

/// Pause between two tries to open, in ms.
const OPEN_AGAIN_MS: u64 = 100;

/// Tries to open: far longer than any fault lasts.
const OPEN_TRIES_MAX: u32 = 300;

/// Keeps the shop of one run.
pub struct Keeper {
    /// What is for sale.
    pub plan: Arc<Plan>,
    /// Where it is recorded.
    pub shop: Shop,
    /// Draws everything.
    pub chance: SmallRng,
}

impl Keeper {
    /// One more wave, of every sale, when nobody calls any more: whatever still comes then finds units.
    pub async fn last_wave(shop: &Shop, plan: &Plan, client: Client) {
        let mut process = shop.process(client);
        for sale in &plan.sales {
            let sale_id = &sale.new.sale_id;
            let call = Call::Restock {
                units: LAST_WAVE_UNITS,
                key: format!("restock-{sale_id}-last"),
            };
            process.call(sale_id, &call, 0).await;
        }
    }

    /// Keeps it for as long as callers call.
    pub async fn run(mut self, client: Client, load_ms: u64) {
        let mut process = self.shop.process(client);
        let plan = self.plan.clone();
        let half = Duration::from_millis(load_ms / (2 * (RESTOCKS + 1)));
        for wave in 1..=RESTOCKS {
            sleep(half).await;
            for sale in &plan.sales {
                self.between_waves(&mut process, sale, wave).await;
            }
            sleep(half).await;
            for sale in plan.sales.iter().filter(|sale| sale.restock_units > 0) {
                let sale_id = &sale.new.sale_id;
                let call = Call::Restock {
                    units: sale.restock_units.into(),
                    key: format!("restock-{sale_id}-{wave}"),
                };
                process.call(sale_id, &call, 0).await;
            }
        }
    }

    async fn between_waves(&mut self, process: &mut Process, sale: &SalePlan, wave: u64) {
        let sale_id = &sale.new.sale_id;
        if sale.restock_units > 0 && self.chance.random_bool(WITHDRAWN) {
            let call = Call::Withdraw {
                units: self.chance.random_range(1..=sale.restock_units).into(),
                key: format!("withdraw-{sale_id}-{wave}"),
            };
            process.call(sale_id, &call, 0).await;
        }
        if !self.chance.random_bool(PAUSED) {
            return;
        }
        let key = format!("pause-{sale_id}-{wave}");
        process.call(sale_id, &Call::Pause { key }, 0).await;
        sleep(Duration::from_millis(self.chance.random_range(PAUSED_MS))).await;
        for again in 0..OPEN_TRIES_MAX {
            let key = format!("open-{sale_id}-{wave}-{again}");
            // Done, or refused because it is open.
            if let Heard::Answered = process.call(sale_id, &Call::Open { key }, 0).await {
                return;
            }
            sleep(Duration::from_millis(OPEN_AGAIN_MS)).await;
        }
    }
}
