//! openraft's side of the state: applies entries, builds snapshots beside apply, installs those of
//! peers.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use fault_points::{crash_point, planted};
use futures::{FutureExt, Stream, StreamExt};
use inventory_machine::{
    Frozen,
    codec::{Batch, DecodeError},
    event::EntryEvents,
};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};
use tokio::sync::watch;

use super::{Held, SharedState, describe_panic};
use crate::{
    seams::Workers,
    storage::{
        error::{Newer, StorageError},
        feed::Feed,
        identity::Identity,
        log::LogStore,
        offload::blocking,
        rows::{Standing, index_of},
        snapshot::{SnapshotData, SnapshotStore},
    },
    types::{Applying, Entry, EntryReply, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

/// Most entries applied under one hold of the lock.
pub const APPLY_ENTRIES_MAX: usize = 64;

/// Most bytes of batches applied under one hold of the lock (unless one batch alone has more): about
/// six thousand claims, which keep readers waiting for some two milliseconds.
pub const APPLY_BYTES_MAX: usize = 256 << 10;

/// openraft's side of the state.
pub struct StateMachine {
    shared: SharedState,
    feed: Feed,
    snapshots: SnapshotStore,
    identity: Identity,
    synced: watch::Receiver<Option<LogId>>,
    log_failure: watch::Receiver<Option<Arc<StorageError>>>,
    workers: Workers,
    /// Entries about to be applied; kept to be filled again.
    chunk: Vec<EntryResponder<TypeConfig>>,
}

impl StateMachine {
    pub(crate) fn new(
        shared: SharedState,
        feed: Feed,
        snapshots: SnapshotStore,
        identity: Identity,
        log: &LogStore,
        workers: Workers,
    ) -> StateMachine {
        let (synced, log_failure) = (log.synced(), log.failure());
        StateMachine {
            shared,
            feed,
            snapshots,
            identity,
            synced,
            log_failure,
            workers,
            chunk: Vec::new(),
        }
    }

    /// Returns when the local log has synced this entry: apply may be ahead of it.
    async fn wait_synced(&mut self, index: u64) -> io::Result<()> {
        let ended = || io::Error::other("the log has ended before it was synced");
        tokio::select! {
            synced = self.synced.wait_for(|synced| index_of(synced) >= Some(index)) => {
                synced.map(|_| ()).map_err(|_| ended())
            }
            _ = self.log_failure.wait_for(Option::is_some) => Err(ended()),
        }
    }

    /// Applies the gathered entries under one hold of the lock, and answers them.
    async fn apply_chunk(&mut self) -> io::Result<()> {
        let mut answers: Vec<(ApplyResponder<TypeConfig>, EntryReply)> = Vec::new();
        let mut events: Vec<EntryEvents> = Vec::with_capacity(self.chunk.len());
        if let Some((last, _)) = self.chunk.last()
            && planted!("index-before-state")
        {
            self.shared.inner.applied.send_replace(last.log_id.index());
            tokio::task::yield_now().await;
        }
        let inner = &self.shared.inner;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            let mut held = self.shared.held_mut()?;
            let mut too_new = None;
            for (entry, responder) in self.chunk.drain(..) {
                let index = entry.log_id.index();
                let applied = match batch_of(&entry) {
                    // Nothing is wrong with the entry, nor with the state, in which nothing of it was applied: what came
                    // before stands, and may be read until the node has stopped.
                    Err(error @ DecodeError::Newer { .. }) => {
                        too_new = Some(undecodable(index, error));
                        break;
                    }
                    Err(error) => Err(undecodable(index, error)),
                    Ok(batch) => apply_entry(&mut held, &entry, batch, responder.is_some()),
                };
                // Some of its commands may have taken effect.
                held.broken |= applied.is_err();
                let (reply, entry_events, commands) = applied?;
                // Raft's own entry zero comes before the feed's beginning.
                if entry.log_id.index() > 0 {
                    events.push(entry_events);
                }
                inner.entries.fetch_add(1, Ordering::Relaxed);
                if let Some(commands) = commands {
                    inner.batches.fetch_add(1, Ordering::Relaxed);
                    inner.commands.fetch_add(commands.into(), Ordering::Relaxed);
                }
                if let Some(responder) = responder {
                    answers.push((responder, reply));
                }
            }
            Ok::<_, io::Error>((held.applied_index(), held.machine.founding(), too_new))
        }));
        let (index, founding, too_new) = match applied {
            Ok(applied) => applied?,
            // The lock is poisoned: nobody reads what the panic left behind.
            Err(panic) => return Err(io::Error::other(format!("apply: {}", describe_panic(&*panic)))),
        };
        if let Some(found) = founding
            && self.identity.cluster_id() != Some(found.cluster_id)
        {
            // A cluster id in NODE says that this directory holds some of that cluster: not before it does.
            self.wait_synced(index).await?;
            self.identity.learn(found.cluster_id).await?;
        }
        crash_point!("entries-applied");
        self.feed.push(events);
        self.shared.inner.applied.send_replace(index);
        for (responder, reply) in answers {
            responder.send(reply);
        }
        crash_point!("entries-answered");
        too_new.map_or(Ok(()), Err)
    }
}

/// The batch in an entry, if it has one.
fn batch_of(entry: &Entry) -> Result<Option<Batch<'_>>, DecodeError> {
    match &entry.payload {
        EntryPayload::Normal(batch) => Batch::parse(&batch.0).map(Some),
        EntryPayload::Blank | EntryPayload::Membership(_) => Ok(None),
    }
}

/// Applies one entry; gives its reply (without the commands' own, unless somebody waits for them), its events,
/// and how many commands it had if it had any.
fn apply_entry(
    held: &mut Held,
    entry: &Entry,
    batch: Option<Batch<'_>>,
    answered: bool,
) -> io::Result<(EntryReply, EntryEvents, Option<u32>)> {
    let (index, term) = (entry.log_id.index(), entry.log_id.committed_leader_id().term);
    let expected = held.last_log_id.as_ref().map_or(0, |last| last.index() + 1);
    // A new cluster's log begins with raft's own first membership at index zero, which the machine
    // never sees: its entries begin with one.
    assert!(
        index == expected || (held.last_log_id.is_none() && index == 1),
        "entry {index} was handed to apply where {expected} comes next"
    );
    let mut reply = EntryReply {
        log_index: index,
        ..EntryReply::default()
    };
    let mut events = EntryEvents {
        log_index: index,
        ..EntryEvents::default()
    };
    let mut commands = None;
    match (&entry.payload, batch) {
        (_, Some(batch)) => {
            let undecodable = |error| undecodable(index, error);
            if answered {
                let began = spans::is_listening().then(Instant::now);
                let applied = held.machine.apply(index, term, &batch).map_err(undecodable)?;
                (reply.replies, events) = (applied.replies, applied.events);
                reply.applying = began.map(|began| Applying {
                    began,
                    took: began.elapsed(),
                });
            } else {
                events = held.machine.follow(index, term, &batch).map_err(undecodable)?;
            }
            commands = Some(batch.count);
        }
        (EntryPayload::Membership(membership), None) => {
            held.set_membership(StoredMembership::new(Some(entry.log_id), membership.clone()));
            skip(held, index);
        }
        (_, None) => skip(held, index),
    }
    held.last_log_id = Some(entry.log_id);
    held.remember_digest();
    Ok((reply, events, commands))
}

fn skip(held: &mut Held, index: u64) {
    if index > 0 {
        held.machine.skip(index);
    }
}

fn undecodable(index: u64, error: DecodeError) -> io::Error {
    let why = match error {
        DecodeError::Short => "it ends too early".to_owned(),
        DecodeError::Invalid { offset } => format!("byte {offset} makes no sense"),
        DecodeError::Newer { version } => {
            format!(
                "it needs {}: start a newer Holdfast on this node",
                Newer::machine(version)
            )
        }
    };
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("log entry {index} cannot be applied: {why}"),
    )
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let held = self.shared.try_held()?;
        Ok((held.last_log_id, held.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut bytes = payload_bytes(&first);
            self.chunk.clear();
            self.chunk.push(first?);
            while self.chunk.len() < APPLY_ENTRIES_MAX && bytes < APPLY_BYTES_MAX {
                // Only what is there already: an entry never waits for a later one.
                let Some(Some(next)) = entries.next().now_or_never() else {
                    break;
                };
                bytes += payload_bytes(&next);
                self.chunk.push(next?);
            }
            self.apply_chunk().await?;
            // Long replays must not keep the rest of the node from running.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if !force {
            // A full disk stops the node; a snapshot that was put off does not.
            match self.snapshots.has_room() {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("no snapshot is built: the disk has not enough room left");
                    return None;
                }
                // The build will meet the same disk, and report it.
                Err(error) => tracing::warn!(%error, "cannot tell how much room the disk has"),
            }
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (frozen, standing) = self.shared.freeze();
        SnapshotBuilder {
            snapshots: self.snapshots.clone(),
            state: Some((frozen, standing)),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        if snapshot.meta() != meta {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "snapshot {} is not the one that raft installs",
                    snapshot.path().display()
                ),
            ));
        }
        let (snapshots, standing) = (self.snapshots.clone(), snapshot.standing().clone());
        let loaded = blocking(self.workers, move || {
            let machine = snapshot.load()?;
            // On disk first: a crash from here on finds the new state, before it an older one.
            snapshots.adopt(&snapshot)?;
            crash_point!("snapshot-installed-on-disk");
            Ok::<_, io::Error>(machine)
        });
        let machine = loaded.await??;
        if let Some(found) = machine.founding() {
            self.identity.learn(found.cluster_id).await?;
        }
        let index = machine.applied_index();
        let before = self.shared.replace(machine, standing)?;
        if !planted!("feed-goes-on-after-install") {
            self.feed.restart(index);
        }
        crash_point!("snapshot-installed");
        // Taking a large state apart takes long.
        blocking(self.workers, move || drop(before)).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        Ok(self
            .snapshots
            .current()
            .map(|(meta, snapshot)| SnapshotOf::<TypeConfig, _> { meta, snapshot }))
    }
}

fn payload_bytes(item: &Result<EntryResponder<TypeConfig>, io::Error>) -> usize {
    match item {
        Ok((
            Entry {
                payload: EntryPayload::Normal(batch),
                ..
            },
            _,
        )) => batch.0.len(),
        _ => 0,
    }
}

/// Builds one snapshot beside apply.
pub struct SnapshotBuilder {
    snapshots: SnapshotStore,
    /// `None` once it was built.
    state: Option<(Frozen, Standing)>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let (frozen, standing) = self
            .state
            .take()
            .ok_or_else(|| io::Error::other("this snapshot was built already"))?;
        let snapshot = self.snapshots.build(frozen, standing).await?;
        Ok(SnapshotOf::<TypeConfig, _> {
            meta: snapshot.meta().clone(),
            snapshot,
        })
    }
}
