//! The applied state: one machine in memory, moved by committed entries, read by everybody.
//!
//! Memory is authoritative while the node runs and serves every read; the image and the snapshots are
//! made from it. [`SharedState`] is the one handle to it. [`StateMachine`] is openraft's side: it
//! applies entries, builds snapshots beside apply and installs those of peers.
//!
//! Invariants: entries are applied contiguously, each once. State, last log id, membership and digest
//! change together, under one lock, and readers see them together. An entry is answered only after
//! every reader can see it. When applying fails or an assertion does not hold, the state is never read
//! again and the node stops: better absent than divergent.
//!
//! Left out: waiting for reads to be linearizable, which is the readers'; when to build a snapshot,
//! which is openraft's.

mod apply;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use inventory_machine::{Frozen, Machine, Row};
use tokio::sync::watch;

use super::rows::{Standing, highest_node_id};
use crate::types::{LogId, NodeId, StoredMembership};

pub use self::apply::{APPLY_BYTES_MAX, APPLY_ENTRIES_MAX, SnapshotBuilder, StateMachine};

/// How many (index, digest) pairs are remembered, so that replicas can be compared at one index
/// although each is at its own: a second or more of entries at full speed.
pub const DIGESTS_KEPT: usize = 4_096;

/// What was applied since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyCounts {
    /// Entries of all kinds.
    pub entries: u64,
    /// Entries that carried commands.
    pub batches: u64,
    /// Commands in them.
    pub commands: u64,
}

/// The one handle through which all reads of applied state go. Cheap to clone.
#[derive(Clone)]
pub struct SharedState {
    inner: Arc<Inner>,
}

struct Inner {
    held: RwLock<Held>,
    applied: watch::Sender<u64>,
    entries: AtomicU64,
    batches: AtomicU64,
    commands: AtomicU64,
}

/// What changes together.
struct Held {
    machine: Machine,
    last_log_id: Option<LogId>,
    membership: StoredMembership,
    /// The highest id that any member ever had.
    node_id_highest: NodeId,
    /// Contiguous, the newest last.
    digests: VecDeque<(u64, u128)>,
    /// Whether the image must be written whole, since the state did not come from it.
    image_stale: bool,
    /// Applying an entry has failed half-way: this is no state any more.
    broken: bool,
}

impl Held {
    fn standing(&self, frozen: &Frozen) -> Standing {
        Standing {
            last_log_id: self.last_log_id,
            membership: self.membership.clone(),
            node_id_highest: self.node_id_highest,
            cluster_id: self.machine.founding().map_or(0, |found| found.cluster_id),
            row_count: frozen.row_count(),
            digest: frozen.digest(),
        }
    }

    fn set_membership(&mut self, membership: StoredMembership) {
        self.node_id_highest = self.node_id_highest.max(highest_node_id(&membership));
        self.membership = membership;
    }

    fn applied_index(&self) -> u64 {
        self.last_log_id.as_ref().map_or(0, LogId::index)
    }

    fn remember_digest(&mut self) {
        let index = self.applied_index();
        // Before the first entry and after entry zero the index is the same.
        if self.digests.len() == DIGESTS_KEPT {
            self.digests.pop_front();
        } else if self.digests.back().is_some_and(|(last, _)| *last == index) {
            self.digests.pop_back();
        }
        self.digests.push_back((index, self.machine.digest()));
    }
}

/// Which rows of the image a cut writes.
pub(crate) enum CutRows {
    /// These have changed since the last cut.
    Changed(Vec<Row>),
    /// All there are, in place of all that was.
    All,
}

/// The state at one index, for the image.
pub(crate) struct Cut {
    pub(crate) frozen: Frozen,
    pub(crate) rows: CutRows,
    pub(crate) standing: Standing,
}

impl SharedState {
    /// A state that was loaded, and what it stands for.
    pub(crate) fn new(machine: Machine, standing: Standing, image_stale: bool) -> SharedState {
        let digests = VecDeque::new();
        let mut held = Held {
            machine,
            last_log_id: standing.last_log_id,
            membership: standing.membership,
            node_id_highest: standing.node_id_highest,
            digests,
            image_stale,
            broken: false,
        };
        held.remember_digest();
        let applied = watch::Sender::new(held.applied_index());
        SharedState {
            inner: Arc::new(Inner {
                held: RwLock::new(held),
                applied,
                entries: AtomicU64::new(0),
                batches: AtomicU64::new(0),
                commands: AtomicU64::new(0),
            }),
        }
    }

    /// Reads the state as of one applied index. Keep it short: apply waits meanwhile. The reader must
    /// not call back into this handle.
    ///
    /// # Panics
    /// When applying an entry has failed: the node is stopping, and the state is no state any more.
    pub fn read<R>(&self, reader: impl FnOnce(&Machine) -> R) -> R {
        reader(&self.held().machine)
    }

    /// The last applied log id.
    ///
    /// # Panics
    /// As [`SharedState::read`].
    pub fn applied_log_id(&self) -> Option<LogId> {
        self.held().last_log_id
    }

    /// The applied membership.
    ///
    /// # Panics
    /// As [`SharedState::read`].
    pub fn membership(&self) -> StoredMembership {
        self.held().membership.clone()
    }

    /// The highest id that any member of this cluster ever had, as far as applied.
    ///
    /// # Panics
    /// As [`SharedState::read`].
    pub fn node_id_highest(&self) -> NodeId {
        self.held().node_id_highest
    }

    /// Changes whenever entries were applied: the applied index (zero: none, or raft's first).
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// Returns when the entry of this index has been applied.
    pub async fn wait_applied(&self, index: u64) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.applied().wait_for(|applied| *applied >= index).await;
    }

    /// Digest of the state right after this index, as long as it is remembered: [`DIGESTS_KEPT`]
    /// entries back, but not past the start of the node or an installed snapshot.
    ///
    /// # Panics
    /// As [`SharedState::read`].
    pub fn digest_at(&self, index: u64) -> Option<u128> {
        let held = self.held();
        let (first, _) = *held.digests.front()?;
        let place = usize::try_from(index.checked_sub(first)?).ok()?;
        let (found, digest) = *held.digests.get(place)?;
        debug_assert_eq!(found, index, "digests are contiguous");
        Some(digest)
    }

    /// The last applied index and the digest of the state right after it; `None` when this is no state any
    /// more.
    pub fn digest_newest(&self) -> Option<(u64, u128)> {
        self.try_held().ok()?.digests.back().copied()
    }

    /// First and last index that [`SharedState::digest_at`] knows now.
    ///
    /// # Panics
    /// As [`SharedState::read`].
    pub fn digest_range(&self) -> (u64, u64) {
        let held = self.held();
        let index = |pair: Option<&(u64, u128)>| pair.map_or(0, |(index, _)| *index);
        (index(held.digests.front()), index(held.digests.back()))
    }

    /// What was applied since the node started.
    pub fn counts(&self) -> ApplyCounts {
        ApplyCounts {
            entries: self.inner.entries.load(Ordering::Relaxed),
            batches: self.inner.batches.load(Ordering::Relaxed),
            commands: self.inner.commands.load(Ordering::Relaxed),
        }
    }

    /// The state as it is now, and what it stands for.
    pub(crate) fn freeze(&self) -> (Frozen, Standing) {
        let (frozen, standing, ()) = self.freeze_with(|_| ());
        (frozen, standing)
    }

    /// [`SharedState::freeze`], with what a reader finds at the very same index.
    pub(crate) fn freeze_with<R>(&self, reader: impl FnOnce(&Machine) -> R) -> (Frozen, Standing, R) {
        let held = self.held();
        let frozen = held.machine.freeze();
        let standing = held.standing(&frozen);
        (frozen, standing, reader(&held.machine))
    }

    /// The state as it is now and what has changed since the last cut. `None` when the state cannot
    /// be trusted any more.
    pub(crate) fn cut(&self) -> Option<Cut> {
        let mut held = self.held_mut().ok()?;
        let changed = held.machine.take_dirty();
        let frozen = held.machine.freeze();
        let standing = held.standing(&frozen);
        let stale = std::mem::take(&mut held.image_stale);
        let rows = if stale {
            CutRows::All
        } else {
            CutRows::Changed(changed)
        };
        Some(Cut {
            frozen,
            rows,
            standing,
        })
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.try_held().expect("the state must not be read any more")
    }

    fn try_held(&self) -> io::Result<RwLockReadGuard<'_, Held>> {
        self.inner
            .held
            .read()
            .ok()
            .filter(|held| !held.broken)
            .ok_or_else(broken)
    }

    fn held_mut(&self) -> io::Result<RwLockWriteGuard<'_, Held>> {
        self.inner
            .held
            .write()
            .ok()
            .filter(|held| !held.broken)
            .ok_or_else(broken)
    }

    /// Puts another state in place of this one. What was there is returned, to be dropped where it
    /// delays nobody.
    fn replace(&self, machine: Machine, standing: Standing) -> io::Result<Machine> {
        let mut held = self.held_mut()?;
        let before = std::mem::replace(&mut held.machine, machine);
        held.last_log_id = standing.last_log_id;
        held.node_id_highest = held.node_id_highest.max(standing.node_id_highest);
        held.set_membership(standing.membership);
        held.image_stale = true;
        held.digests.clear();
        held.remember_digest();
        let index = held.applied_index();
        drop(held);
        self.inner.applied.send_replace(index);
        Ok(before)
    }
}

fn broken() -> io::Error {
    io::Error::other("applying an entry has failed before")
}

/// What a panic said.
pub(crate) fn describe_panic(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}
