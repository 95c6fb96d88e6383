//! Simulated nodes: real ones on simulated parts, that can lose their power.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use raft_store::{
    config::NodeConfig,
    node::{Node, StopReason},
    raft_config::RaftOptions,
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
pub(super) const EPOCH_MS: u64 = 1_767_225_600_000;

/// How often a node notes whether it leads, for whoever aims at leaders.
const LEADS_POLL: Duration = Duration::from_millis(10);

/// One machine: its disk outlives its power cuts, its wall clock shows what it is told to.
#[derive(Clone)]
pub struct Machine {
    /// Node id, from 1.
    pub id: u64,
    disk: Arc<Mutex<SimDisk>>,
    power: Arc<Mutex<Power>>,
    wall_offset_ms: Arc<AtomicI64>,
    state: Arc<State>,
    raft: RaftOptions,
}

/// What is known of a machine from outside.
#[derive(Default)]
struct State {
    leads: AtomicBool,
    /// Its node has ended by itself, and may have.
    ended: AtomicBool,
    /// Its node may end by itself: a sync was made to fail. Over with the next power cut.
    may_end: AtomicBool,
    /// Its node may end because it was removed.
    may_be_removed: AtomicBool,
    /// Its node has ended because it was removed.
    removed: AtomicBool,
}

struct SimWallClock(Arc<AtomicI64>);

impl WallClock for SimWallClock {
    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
        (EPOCH_MS + elapsed).saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}

impl Machine {
    /// A machine with an empty disk.
    pub fn new(id: u64, wall_offset_ms: i64) -> Self {
        Machine {
            id,
            disk: Arc::new(Mutex::new(SimDisk::new())),
            power: Arc::default(),
            wall_offset_ms: Arc::new(AtomicI64::new(wall_offset_ms)),
            state: Arc::default(),
            raft: RaftOptions::default(),
        }
    }

    /// The same machine with other settings of raft; the number of entries between snapshots is `run`'s.
    pub fn with_raft(self, raft: RaftOptions) -> Self {
        Machine { raft, ..self }
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
        SimWallClock(self.wall_offset_ms.clone()).now_ms()
    }

    /// Sets its wall clock this far off.
    pub fn set_wall_offset_ms(&self, offset_ms: i64) {
        self.wall_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Whether its node believes that it leads, as of some ms ago.
    pub fn leads(&self) -> bool {
        self.state.leads.load(Ordering::Relaxed)
    }

    /// Whether its node runs no more, though the simulation has not crashed its host: it lost its power in the
    /// middle of a write, or ended as it was allowed to.
    pub fn is_down(&self) -> bool {
        self.state.ended.load(Ordering::Relaxed) || self.disk().crashed()
    }

    /// Its node may end from now on because it is removed.
    pub fn allow_removal(&self) {
        self.state.may_be_removed.store(true, Ordering::Relaxed);
    }

    /// Whether its node has ended because it was removed: there is no reason to start it again.
    pub fn is_removed(&self) -> bool {
        self.state.removed.load(Ordering::Relaxed)
    }

    /// Loses its power in the middle of the disk operation that is `operations` from now.
    pub fn lose_power_in_write(&self, operations: u64) {
        let disk = self.disk();
        disk.crash_at(disk.operations() + operations);
    }

    /// Makes the sync that is `syncs` from now fail. The node is to end by itself.
    pub fn fail_sync(&self, syncs: u64) {
        self.state.may_end.store(true, Ordering::Relaxed);
        let disk = self.disk();
        disk.fail_sync_at(disk.syncs() + syncs);
    }

    fn disk(&self) -> MutexGuard<'_, SimDisk> {
        self.disk.lock().expect("no code panics while holding it")
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        self.power().is_on()
    }

    /// Takes the power away, in the middle of whatever the machine does: from here on it changes nothing on
    /// its disk, and nobody hears of it. The simulation is to crash its host before it comes back.
    pub fn lose_power(&self) {
        self.power().lose();
        self.disk().crash();
    }

    fn power(&self) -> Power {
        self.power
            .lock()
            .expect("no code panics while holding it")
            .clone()
    }

    /// Comes back with an empty disk, under the same id and address. The simulation is to crash its host before.
    pub fn lose_directory(&self) {
        *self.disk() = SimDisk::new();
    }

    /// Cuts the power: of what was not synced, the disk keeps what `seed` says.
    pub fn cut_power(&self, seed: u64) {
        let mut disk = self.disk();
        let rebooted = disk.reboot(seed);
        *disk = rebooted;
        for flag in [&self.state.leads, &self.state.ended, &self.state.may_end] {
            flag.store(false, Ordering::Relaxed);
        }
        *self.power.lock().expect("no code panics while holding it") = Power::new();
    }

    /// Runs a node until the simulation drops it.
    ///
    /// # Errors
    /// The node does not start, or stopped by itself, and was not allowed to.
    pub async fn run(self, trace: Trace, snapshot_entries: u64) -> turmoil::Result {
        #[cfg(feature = "fault-points")]
        super::crash_points::enter(std::rc::Rc::new(self.clone()));
        let power = self.power();
        let config = NodeConfig {
            node_id: self.id,
            listen: format!("0.0.0.0:{PORT}"),
            advertise: self.endpoint(),
            data_dir: PathBuf::from("/data"),
            snapshot_entries,
            heartbeat_ms: self.raft.heartbeat_ms,
            election_ms_min: self.raft.election_ms_min,
            election_ms_max: self.raft.election_ms_max,
            // Simulated sectors cost memory; short segments also roll over often.
            log_segment_bytes: raft_store::config::LOG_SEGMENT_BYTES_MIN,
            disk_reserve_bytes: raft_store::config::DISK_RESERVE_BYTES_MIN,
            ..NodeConfig::default()
        };
        let seams = Seams {
            disk: Arc::new(self.disk().clone()),
            net: Arc::new(PoweredNet::new(SimNet, power.clone())),
            wall_clock: Arc::new(SimWallClock(self.wall_offset_ms.clone())),
            workers: Workers::Tasks,
            image_dir: None,
        };
        let node = match Node::start(config, seams).await {
            // Without power nothing fails: it just is no more, until the simulation drops it.
            Err(error) if power.is_on() && !self.may_be_down() => return Err(error.into()),
            Err(_) => return self.lie_down().await,
            Ok(node) => node,
        };
        trace.note(format_args!(
            "{} up, applied {}",
            self.name(),
            *node.shared().applied().borrow()
        ));
        let reason = tokio::select! {
            reason = node.stopped() => reason,
            () = self.note_lead(&node) => unreachable!("it notes for ever"),
        };
        let removed = reason == StopReason::Removed && self.state.may_be_removed.load(Ordering::Relaxed);
        self.state.removed.store(removed, Ordering::Relaxed);
        if power.is_on() && !removed && !self.may_be_down() {
            return Err(format!("{} stopped: {reason}", self.name()).into());
        }
        trace.note(format_args!("{} ended: {reason}", self.name()));
        self.lie_down().await
    }

    /// Whether this node has a good reason to end.
    fn may_be_down(&self) -> bool {
        self.state.may_end.load(Ordering::Relaxed) || self.disk().crashed()
    }

    /// Without power nothing fails: it just is no more, until the simulation drops it.
    async fn lie_down(&self) -> turmoil::Result {
        self.state.leads.store(false, Ordering::Relaxed);
        self.state.ended.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn note_lead(&self, node: &Node) {
        loop {
            let leads = node.raft().is_leader();
            self.state.leads.store(leads, Ordering::Relaxed);
            tokio::time::sleep(LEADS_POLL).await;
        }
    }
}

/// A network whose messages take 0.2 to 5 ms, with everything drawn from one seed.
pub fn simulation<'a>(seed: u64, duration: Duration) -> turmoil::Sim<'a> {
    simulation_with(seed, duration, Duration::from_millis(5))
}

/// The same with another longest delay of a message.
pub fn simulation_with<'a>(seed: u64, duration: Duration, messages_max: Duration) -> turmoil::Sim<'a> {
    raft_store::runtime::seed(seed);
    client::chance::seed(seed);
    turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(duration)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(messages_max)
        .tcp_capacity(4_096)
        .build()
}
