//! Faults on running clusters of the shipped binary: one at a time, each begun, endured for a while and healed
//! before the next.
//!
//! Three mechanisms give all kinds, and none needs root or an installed tool beyond a C compiler: signals and
//! restarts of processes, a TCP proxy for each directed pair of nodes ([`links`]), and a library inside each
//! node ([`preload`], with [`power`] for what a power cut takes).
//!
//! A kind counts as fired only when there is evidence of it: a node that died, calls that were touched, bytes
//! that changed. [`deck`] deals kinds and victims so that each kind comes up, and hits the leader, as early as
//! possible; [`deck::Coverage`] says what did.
//!
//! Left out: monotonic clocks that drift. The log clock takes its rate from the leader's one, by design within
//! what real quartz does, and a hold can be measured no better from outside.

pub mod clock;
pub mod damage;
pub mod deck;
pub mod disk;
pub mod links;
pub mod membership;
pub mod network;
pub mod power;
pub mod preload;
pub mod process;

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};
use tokio::time::sleep;

use crate::fleet::{Fleet, Trouble};

/// How long a healed cluster may take to have a leader and a restarted node to catch up. Far longer than it
/// does: beyond it the run is broken, or the store is.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL to one node, which starts again.
    Kill,
    /// SIGKILL to all nodes at once.
    KillAll,
    /// SIGSTOP for longer than an election, then SIGCONT.
    Pause,
    /// All nodes stopped in good order and started again, one after the other.
    RollingRestart,
    /// One node hears no other and is heard by none; clients still reach it.
    Partition,
    /// One node is heard by others and does not hear them, or the other way round.
    OneWay,
    /// A share of all packets comes a retransmission later.
    Loss,
    /// Packets take longer, each by another amount: connections overtake one another.
    Delay,
    /// Connections break, between nodes and with clients, again and again.
    Reset,
    /// Answers to clients are cut off and come too late, or never.
    LostReplies,
    /// One wall clock jumps by up to an hour, forth or back.
    ClockJump,
    /// One wall clock runs twice as fast, or half as fast.
    ClockDrift,
    /// The power of one node goes: what it had not synced is lost in part.
    PowerCut,
    /// The power of all nodes goes at once.
    PowerCutAll,
    /// Every sync of one node fails.
    SyncError,
    /// Every sync of one node takes much longer.
    SlowDisk,
    /// No file of one node can grow.
    FullDisk,
    /// Bits flip in a file of a killed node.
    FlippedBytes,
    /// A sector of a file of a killed node is torn: zeros instead of what was there.
    TornBytes,
    /// A node is added and another one removed.
    Membership,
    /// The disk of one node is lost; a new node takes its place under a new id.
    Replace,
    /// Leadership is handed round, as fast as it goes.
    LeaderStorm,
    /// A node is away until the log it needs is gone, and is caught up by a snapshot.
    Snapshot,
}

impl Kind {
    /// All of them.
    pub fn all() -> &'static [Kind] {
        clap::ValueEnum::value_variants()
    }

    /// Its name, as asked for and as noted in histories.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("no kind is hidden");
        value.get_name().to_owned()
    }

    /// Whether it hits no single node: all of them, or the links between them.
    pub fn hits_all(self) -> bool {
        matches!(
            self,
            Kind::KillAll
                | Kind::PowerCutAll
                | Kind::RollingRestart
                | Kind::LeaderStorm
                | Kind::Loss
                | Kind::Delay
        )
    }
}

/// Whether a fault came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// With this evidence.
    Yes(String),
    /// It did not, for this reason.
    No(String),
}

/// Does one fault to a node (or to all), endures it for a while, and heals it. Returns when the cluster has a
/// leader again.
///
/// # Errors
/// The harness failed, or the store did not come back as it must.
pub async fn strike(
    fleet: &mut Fleet,
    kind: Kind,
    victim: u64,
    chance: &mut SmallRng,
) -> Result<Fired, Trouble> {
    let fired = match kind {
        Kind::Kill => process::kill(fleet, victim, chance).await,
        Kind::KillAll => process::kill_all(fleet).await,
        Kind::Pause => process::pause(fleet, victim, chance).await,
        Kind::RollingRestart => process::rolling_restart(fleet).await,
        Kind::Partition => network::partition(fleet, victim, chance).await,
        Kind::OneWay => network::one_way(fleet, victim, chance).await,
        Kind::Loss => network::loss(fleet, chance).await,
        Kind::Delay => network::delay(fleet, chance).await,
        Kind::Reset => network::reset(fleet, victim, chance).await,
        Kind::LostReplies => network::lost_replies(fleet, victim, chance).await,
        Kind::ClockJump => clock::jump(fleet, victim, chance).await,
        Kind::ClockDrift => clock::drift(fleet, victim, chance).await,
        Kind::PowerCut => disk::power_cut(fleet, &[victim], chance).await,
        Kind::PowerCutAll => disk::power_cut(fleet, &fleet.ids(), chance).await,
        Kind::SyncError => disk::sync_error(fleet, victim, chance).await,
        Kind::SlowDisk => disk::slow(fleet, victim, chance).await,
        Kind::FullDisk => disk::full(fleet, victim, chance).await,
        Kind::FlippedBytes => damage::flip(fleet, victim, chance).await,
        Kind::TornBytes => damage::tear(fleet, victim, chance).await,
        Kind::Membership => membership::change(fleet, victim).await,
        Kind::Replace => membership::replace(fleet, victim).await,
        Kind::LeaderStorm => membership::leader_storm(fleet, chance).await,
        Kind::Snapshot => membership::snapshot(fleet, victim).await,
    }?;
    fleet.await_leader(RECOVERY_MAX).await?;
    fleet.check_running()?;
    Ok(fired)
}

/// Lets a fault last between these many ms.
async fn endure(chance: &mut SmallRng, ms: std::ops::Range<u64>) {
    sleep(Duration::from_millis(chance.random_range(ms))).await;
}

/// As evidence.
fn yes(evidence: impl Into<String>) -> Result<Fired, Trouble> {
    Ok(Fired::Yes(evidence.into()))
}
