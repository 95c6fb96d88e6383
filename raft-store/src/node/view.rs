//! What the node tells operators about itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use inventory_machine::{Books, command::NAMESPACE_DEFAULT};
use security::Tls;
use tokio::{sync::watch, time::Instant};

use super::recount::Recounter;
use crate::{
    batcher::Door,
    clock::NodeClock,
    service::cluster::{DigestAt, NodeView, ViewNow},
    storage::state::SharedState,
};

/// Commands per entry are counted over at least this long.
const PACE_WINDOW: Duration = Duration::from_secs(1);

/// The node as operators see it.
pub(super) struct View {
    pub shared: SharedState,
    pub clock: NodeClock,
    pub door: Door,
    pub cut_index: Option<watch::Receiver<Option<u64>>>,
    pub pace: Mutex<Pace>,
    pub recounter: Arc<Recounter>,
    pub disk_free_bytes: watch::Receiver<Option<u64>>,
    pub disk_reserve_bytes: u64,
    pub tls: Option<Arc<Tls>>,
}

/// Commands per entry over the last window.
#[derive(Default)]
pub(super) struct Pace {
    since: Option<(Instant, u64, u64)>,
    commands_per_entry: f64,
}

impl Pace {
    fn now(&mut self, (entries, commands): (u64, u64)) -> f64 {
        let (since, entries_then, commands_then) =
            *self.since.get_or_insert((Instant::now(), entries, commands));
        if since.elapsed() >= PACE_WINDOW {
            let (entries_since, commands_since) = (entries - entries_then, commands - commands_then);
            self.commands_per_entry = if entries_since == 0 {
                0.0
            } else {
                commands_since as f64 / entries_since as f64
            };
            self.since = Some((Instant::now(), entries, commands));
        }
        self.commands_per_entry
    }
}

impl NodeView for View {
    fn now(&self) -> ViewNow {
        let times = self.clock.newest();
        let local = self.clock.now();
        let (claims_total, machine_version_needed) = self.shared.read(|machine| {
            let sales = machine.sales(NAMESPACE_DEFAULT, None, usize::MAX);
            let claims = sales.iter().map(|sale| u64::from(sale.claims_made));
            (claims.sum(), machine.version_needed())
        });
        let commands_per_entry = self
            .pace
            .lock()
            .expect("no code panics while holding it")
            .now(self.door.totals());
        ViewNow {
            stopping: self.door.is_stopping(),
            image_index: self
                .cut_index
                .as_ref()
                .and_then(|index| *index.borrow())
                .unwrap_or(0),
            log_time_ms: times.log_time_ms,
            wall_time_ms: times.wall_time_ms,
            wall_offset_ms: self.clock.lock().own_offset_ms(local),
            claims_total,
            machine_version_needed,
            commands_per_entry,
            disk_free_bytes: *self.disk_free_bytes.borrow(),
            disk_reserve_bytes: self.disk_reserve_bytes,
            certificate_until_s: self.tls.as_ref().map(|tls| tls.ends_s().0),
        }
    }

    fn wait_applied(&self, log_index: u64) -> BoxFuture<'_, ()> {
        self.shared.wait_applied(log_index).boxed()
    }

    fn digest_at(&self, log_index: u64) -> DigestAt {
        if log_index == 0 {
            return self.shared.read(|machine| DigestAt::Known {
                log_index: machine.applied_index(),
                digest: machine.digest(),
            });
        }
        match self.shared.digest_at(log_index) {
            Some(digest) => DigestAt::Known { log_index, digest },
            None => DigestAt::TooOld {
                first_index: self.shared.digest_range().0,
            },
        }
    }

    fn books(&self) -> BoxFuture<'_, Books> {
        self.recounter.count().boxed()
    }
}
