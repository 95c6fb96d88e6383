//! Simulated nodes: real ones on simulated parts, that can lose their power.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use raft_store::{
    config::NodeConfig,
    node::Node,
    seams::{Seams, WallClock, Workers},
    storage::disk_sim::SimDisk,
};

use super::{
    Trace,
    net::SimNet,
    power::{Power, PoweredNet},
};

/// Where every simulated node listens.
pub const PORT: u16 = 7401;

/// Simulated wall time begins here: 2026-01-01, in ms since the Unix epoch.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// One machine: its disk outlives its power cuts, its wall clock is off by a constant.
#[derive(Clone)]
pub struct Machine {
    /// Node id, from 1.
    pub id: u64,
    disk: Arc<Mutex<SimDisk>>,
    power: Arc<Mutex<Power>>,
    wall_offset_ms: i64,
}

struct SimWallClock(i64);

impl WallClock for SimWallClock {
    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
        (EPOCH_MS + elapsed).saturating_add_signed(self.0)
    }
}

impl Machine {
    /// A machine with an empty disk.
    pub fn new(id: u64, wall_offset_ms: i64) -> Self {
        Machine {
            id,
            disk: Arc::new(Mutex::new(SimDisk::new())),
            power: Arc::default(),
            wall_offset_ms,
        }
    }

    /// Its name in the simulated network.
    pub fn name(&self) -> String {
        format!("n{}", self.id)
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> String {
        format!("{}:{PORT}", self.name())
    }

    /// What its wall clock shows.
    pub fn wall_ms(&self) -> u64 {
        SimWallClock(self.wall_offset_ms).now_ms()
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        self.power().is_on()
    }

    /// Takes the power away, in the middle of whatever the machine does: from here on it changes nothing on
    /// its disk, and nobody hears of it. The simulation is to crash its host before it comes back.
    pub fn lose_power(&self) {
        self.power().lose();
        self.disk.lock().expect("no code panics while holding it").crash();
    }

    fn power(&self) -> Power {
        self.power
            .lock()
            .expect("no code panics while holding it")
            .clone()
    }

    /// Cuts the power: of what was not synced, the disk keeps what `seed` says.
    pub fn cut_power(&self, seed: u64) {
        let mut disk = self.disk.lock().expect("no code panics while holding it");
        let rebooted = disk.reboot(seed);
        *disk = rebooted;
        *self.power.lock().expect("no code panics while holding it") = Power::new();
    }

    /// Runs a node until the simulation drops it.
    ///
    /// # Errors
    /// The node does not start, or stopped by itself: no simulated fault is a reason for either.
    pub async fn run(self, trace: Trace, snapshot_entries: u64) -> turmoil::Result {
        #[cfg(feature = "fault-points")]
        super::crash_points::enter(&self);
        let power = self.power();
        let config = NodeConfig {
            node_id: self.id,
            listen: format!("0.0.0.0:{PORT}"),
            advertise: self.endpoint(),
            data_dir: PathBuf::from("/data"),
            snapshot_entries,
            // Simulated sectors cost memory; short segments also roll over often.
            log_segment_bytes: raft_store::config::LOG_SEGMENT_BYTES_MIN,
            disk_reserve_bytes: raft_store::config::DISK_RESERVE_BYTES_MIN,
            ..NodeConfig::default()
        };
        let seams = Seams {
            disk: Arc::new(self.disk.lock().expect("no code panics while holding it").clone()),
            net: Arc::new(PoweredNet::new(SimNet, power.clone())),
            wall_clock: Arc::new(SimWallClock(self.wall_offset_ms)),
            workers: Workers::Tasks,
            image_dir: None,
        };
        let node = match Node::start(config, seams).await {
            // Without power nothing fails: it just is no more, until the simulation drops it.
            Err(_) if !power.is_on() => return std::future::pending().await,
            node => node?,
        };
        trace.note(format_args!(
            "{} up, applied {}",
            self.name(),
            *node.shared().applied().borrow()
        ));
        let reason = node.stopped().await;
        if !power.is_on() {
            return std::future::pending().await;
        }
        Err(format!("{} stopped: {reason}", self.name()).into())
    }
}

/// A network whose messages take 0.2 to 5 ms, with everything drawn from one seed.
pub fn simulation<'a>(seed: u64, duration: Duration) -> turmoil::Sim<'a> {
    raft_store::runtime::seed(seed);
    client::chance::seed(seed);
    turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(duration)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4_096)
        .build()
}
