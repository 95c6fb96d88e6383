//! The payment provider as a simulated host: `holdfast psp`, its journal a real file.

use std::sync::Arc;

use api::payment::simulator::{self, Faults, Options, ServerOptions, Webhooks};
use tempfile::TempDir;

use super::{
    WEBHOOK_SECRET, door,
    plan::CheckoutPlan,
    road::{PORT, Road, serve},
};
use crate::simulation::{cluster::EPOCH_MS, net::SimNet};

/// Its name in the simulated network.
pub(super) const NAME: &str = "bank";

/// How long a call hangs before its connection is cut, in ms: longer than any door waits.
const HANG_MS_MAX: u64 = 10_000;

/// First wait before a webhook is sent again, in ms.
const WEBHOOK_RETRY_MS: u64 = 300;

/// How long a pending refund takes, in ms.
const REFUND_MS: u64 = 1_500;

/// The provider. Cheap to clone; its books outlive its process.
#[derive(Clone)]
pub(super) struct Bank {
    seed: u64,
    doors: u64,
    temper: Faults,
    dir: Arc<TempDir>,
}

/// Where it is called.
pub(super) fn url() -> String {
    format!("http://{NAME}:{PORT}")
}

impl Bank {
    /// A provider without any books.
    ///
    /// # Panics
    /// There is no place for a temporary file.
    pub fn new(plan: &CheckoutPlan) -> Bank {
        Bank {
            seed: plan.cluster.seed,
            doors: plan.doors,
            temper: plan.temper.clone(),
            dir: Arc::new(tempfile::tempdir().expect("a place for a journal")),
        }
    }

    /// Runs it until the simulation drops it.
    pub async fn run(self) -> turmoil::Result {
        let now_ms = EPOCH_MS + turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
        let net = Arc::new(SimNet);
        let options = ServerOptions {
            provider: Options {
                seed: self.seed,
                faults: self.temper.clone(),
                base_url: url(),
                refund_ms: REFUND_MS,
                webhook_retry_ms: WEBHOOK_RETRY_MS,
                ..Options::default()
            },
            webhooks: Some(Webhooks {
                urls: (1..=self.doors)
                    .map(|number| format!("{}/v1/webhooks/stripe", door::url(number)))
                    .collect(),
                secret: WEBHOOK_SECRET.as_bytes().to_vec(),
            }),
            journal: Some(self.dir.path().join("journal")),
            hang_ms_max: HANG_MS_MAX,
            ..ServerOptions::default()
        };
        let router = simulator::router(options, now_ms, Road(net.clone()))?;
        serve(&*net, router).await?;
        Ok(())
    }
}
