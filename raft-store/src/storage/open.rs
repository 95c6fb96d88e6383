//! Opening a data directory: from what is on disk to a state that may go on, or a refusal.
//!
//! ```text
//! <dir>/NODE        whose directory this is; written once all else in a new one is durable
//! <dir>/log/        log and vote
//! <dir>/snapshots/  the two newest verified snapshots
//! (image directory) sled's image of the state; may lie elsewhere
//! ```
//!
//! The state begins at the newest of the verified snapshots and the image; the entries behind it are
//! applied again by openraft. Whatever of these is damaged is moved aside, as long as the rest still
//! gives the state. Refused is what proves that something durable was lost, since a node that forgot
//! what it acknowledged must not vote:
//!
//! - a log that does not reach back to the state: entries in between are gone;
//! - a whole image beyond the log's end: it is only ever written up to what the log has synced;
//! - the word in NODE that log or snapshots have held the cluster's founding, and neither entries nor a state.
//!
//! Refused as well, and left as it is for a newer program: what is in a format, or of a version of the machine, that
//! is not known here.
//!
//! A snapshot beyond the log's end proves nothing: a crash right after installing a peer's snapshot
//! leaves just that, and openraft then begins the log behind it.

use std::{io, path::Path, sync::Arc, time::Duration};

use inventory_machine::{
    Machine,
    codec::{Batch, DecodeError},
};
use openraft::EntryPayload;
use tokio::sync::watch;

use super::{
    error::{Newer, StorageError},
    feed::{Feed, FeedLimits},
    identity::Identity,
    image::{self, CUT_EVERY, Image, ImageStore},
    log::{LOG_DIR_NAME, LogOptions, LogStore, Origin},
    node_file::NodeFile,
    rows::{Standing, index_of},
    snapshot::{SnapshotData, SnapshotError, SnapshotStore},
    state::{SharedState, StateMachine},
};
use crate::{
    seams::{Seams, Workers},
    types::NodeId,
};

/// Name of the snapshots' directory within the data directory.
pub const SNAPSHOTS_DIR_NAME: &str = "snapshots";

/// How a data directory is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The node it must belong to.
    pub node_id: NodeId,
    /// The cluster it must belong to, where that is configured.
    pub cluster_id: Option<u128>,
    /// How the log is kept; its origin is found out here.
    pub log: LogOptions,
    /// How often the image is brought up to date.
    pub cut_every: Duration,
    /// How much history the feed keeps.
    pub feed: FeedLimits,
}

impl StoreOptions {
    /// The usual settings for this node.
    pub fn new(node_id: NodeId) -> StoreOptions {
        StoreOptions {
            node_id,
            cluster_id: None,
            log: LogOptions::new(Origin::Existing),
            cut_every: CUT_EVERY,
            feed: FeedLimits::default(),
        }
    }
}

/// Where the state began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// With nothing: everything is in the log.
    Nothing,
    /// With the image, at this log index.
    Image(u64),
    /// With a snapshot, at this log index.
    Snapshot(u64),
}

/// An open data directory. It stays locked while any of the handles that apply or identify lives.
pub struct Opened {
    /// Log and vote.
    pub log: LogStore,
    /// openraft's side of the state.
    pub state_machine: StateMachine,
    /// Everybody else's side of the state.
    pub shared: SharedState,
    /// What applied entries do.
    pub feed: Feed,
    /// The snapshots.
    pub snapshots: SnapshotStore,
    /// Whose directory this is.
    pub identity: Identity,
    /// The image's writer, where there is an image.
    pub image: Option<Image>,
    /// What must end the node.
    pub failures: Failures,
    /// Where the state began.
    pub base: Base,
}

/// What must end the node: the first error of log or image.
#[derive(Clone)]
pub struct Failures {
    log: watch::Receiver<image::Failure>,
    image: Option<watch::Receiver<image::Failure>>,
}

impl Failures {
    /// Returns when storage has failed: the node must then exit.
    pub async fn first(&mut self) -> Arc<StorageError> {
        async fn of(failure: &mut watch::Receiver<image::Failure>) -> Arc<StorageError> {
            if let Ok(failed) = failure.wait_for(Option::is_some).await
                && let Some(error) = &*failed
            {
                return error.clone();
            }
            // Closed in good order: it will not fail any more.
            std::future::pending().await
        }
        match &mut self.image {
            None => of(&mut self.log).await,
            Some(image) => tokio::select! {
                error = of(&mut self.log) => error,
                error = of(image) => error,
            },
        }
    }
}

/// Opens the data directory `dir`, or makes a new one when it has no NODE file. Blocks; must be called
/// within a runtime where workers are tasks.
///
/// # Errors
/// Everything that [`StorageError`] says: each names the path and what to do.
pub fn open(dir: &Path, seams: &Seams, options: &StoreOptions) -> Result<Opened, StorageError> {
    let disk = &*seams.disk;
    disk.create_dir_all(dir)
        .map_err(StorageError::io("creating data directory", dir))?;
    let lock = disk.lock(dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => StorageError::Locked {
            path: dir.to_path_buf(),
            source,
        },
        _ => StorageError::io("locking data directory", dir)(source),
    })?;
    let known = NodeFile::load(disk, dir)?;
    if let Some(node_file) = &known {
        node_file.check(dir, options.node_id, options.cluster_id.map(u128::to_be_bytes))?;
    }
    let new = known.is_none();

    let snapshots_dir = dir.join(SNAPSHOTS_DIR_NAME);
    let snapshots = SnapshotStore::open(&snapshots_dir, seams)?;
    if new && snapshots.current().is_some() {
        return Err(StorageError::NotNew { path: snapshots_dir });
    }
    let origin = if new { Origin::New } else { Origin::Existing };
    let log = LogStore::open(
        dir,
        seams,
        LogOptions {
            origin,
            ..options.log.clone()
        },
    )?;

    let mut image = open_image(seams)?;
    if let (true, Some((store, image::Found::Whole { .. }))) = (new, &image) {
        return Err(StorageError::NotNew {
            path: store.dir().to_path_buf(),
        });
    }
    let node_file = known.unwrap_or(NodeFile {
        node_id: options.node_id,
        cluster_id: None,
        founded: false,
    });
    if new {
        node_file.store(disk, dir)?;
    }

    let state = choose(dir, &node_file, &log, &snapshots, image.as_mut())?;
    check_entries(dir, &log, index_of(&state.standing.last_log_id))?;
    let identity = Identity::new(
        seams.disk.clone(),
        seams.workers,
        dir.to_path_buf(),
        lock,
        snapshots.clone(),
        node_file,
    );
    if state.standing.cluster_id != 0 {
        identity.learn_now(state.standing.cluster_id)?;
    }
    let stale = !matches!(state.base, Base::Image(_));
    let (index, base) = (index_of(&state.standing.last_log_id).unwrap_or(0), state.base);
    tracing::info!(
        ?base,
        digest = format!("{:032x}", state.machine.digest()),
        "state loaded"
    );
    let shared = SharedState::new(state.machine, state.standing, stale);
    mend_snapshots(&log, &snapshots, &shared)?;

    let feed = Feed::new(index, options.feed);
    let state_machine = StateMachine::new(
        shared.clone(),
        feed.clone(),
        snapshots.clone(),
        identity.clone(),
        &log,
        seams.workers,
    );
    let image = match image {
        None => None,
        Some((store, _)) => Some(store.start(shared.clone(), log.synced(), options.cut_every)?),
    };
    let failures = Failures {
        log: log.failure(),
        image: image.as_ref().map(Image::failure),
    };
    Ok(Opened {
        log,
        state_machine,
        shared,
        feed,
        snapshots,
        identity,
        image,
        failures,
        base,
    })
}

/// Opens the image, where there is one.
fn open_image(seams: &Seams) -> Result<Option<(ImageStore, image::Found)>, StorageError> {
    let Some(dir) = &seams.image_dir else {
        return Ok(None);
    };
    assert_eq!(
        seams.workers,
        Workers::Threads,
        "sled has threads of its own and runs only beside others"
    );
    let (store, found) = ImageStore::open(dir)?;
    if let image::Found::Nothing(Some(why)) = &found {
        tracing::warn!(path = %dir.display(), why, "the image is not usable: it is made anew from snapshot and log");
    }
    Ok(Some((store, found)))
}

/// Entries that are still to be applied must be of versions known here, committed or not: a node that could never
/// apply what it holds would vote and lead with it, only to stop.
fn check_entries(dir: &Path, log: &LogStore, applied: Option<u64>) -> Result<(), StorageError> {
    let mut next = applied.map_or(0, |index| index + 1);
    loop {
        let entries = log.read_blocking(next)?;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        next = last.log_id.index + 1;
        for entry in &entries {
            if let EntryPayload::Normal(batch) = &entry.payload
                && let Err(DecodeError::Newer { version }) = Batch::parse(&batch.0)
            {
                return Err(StorageError::Newer {
                    path: dir.join(LOG_DIR_NAME),
                    newer: Newer::machine(version),
                });
            }
        }
    }
}

struct State {
    machine: Machine,
    standing: Standing,
    base: Base,
}

/// Finds the newest state there is, and holds it against log and NODE.
fn choose(
    dir: &Path,
    node_file: &NodeFile,
    log: &LogStore,
    snapshots: &SnapshotStore,
    image: Option<&mut (ImageStore, image::Found)>,
) -> Result<State, StorageError> {
    let (purged, last) = {
        let state = log.state();
        (index_of(&state.last_purged_log_id), index_of(&state.last_log_id))
    };
    let mut from_image = None;
    if let Some((store, found)) = image
        && let image::Found::Whole { machine, standing } =
            std::mem::replace(found, image::Found::Nothing(None))
    {
        check_cluster(store.dir(), node_file, &standing)?;
        let index = index_of(&standing.last_log_id);
        if index > last {
            let what = format!(
                "the log ends at entry {}, but the image beside it has applied entry {}, which was synced: \
                 the log has lost entries",
                shown(last),
                shown(index)
            );
            return Err(StorageError::damaged(&dir.join(LOG_DIR_NAME), 0, what));
        }
        from_image = Some(State {
            machine: *machine,
            standing,
            base: Base::Image(index.unwrap_or(0)),
        });
    }
    let image_index = from_image
        .as_ref()
        .and_then(|state| index_of(&state.standing.last_log_id));
    let chosen = match newest_snapshot(node_file, snapshots, image_index)? {
        Some(state) => Some(state),
        None => from_image,
    };
    let state = chosen.unwrap_or(State {
        machine: Machine::default(),
        standing: Standing::default(),
        base: Base::Nothing,
    });
    let index = index_of(&state.standing.last_log_id);
    if purged > index {
        let what = format!(
            "the log begins behind entry {}, but no whole snapshot or image reaches beyond entry {}",
            shown(purged),
            shown(index)
        );
        return Err(StorageError::damaged(&dir.join(SNAPSHOTS_DIR_NAME), 0, what));
    }
    if node_file.founded && index.is_none() && last.is_none() {
        let why =
            "NODE says that this node belongs to a cluster, but here are neither entries nor a snapshot";
        return Err(StorageError::Missing {
            path: dir.to_path_buf(),
            why,
        });
    }
    Ok(state)
}

/// Loads the newest snapshot beyond `image_index`; what does not load is set aside.
fn newest_snapshot(
    node_file: &NodeFile,
    snapshots: &SnapshotStore,
    image_index: Option<u64>,
) -> Result<Option<State>, StorageError> {
    for snapshot in snapshots.kept().into_iter().rev() {
        check_cluster(&snapshot.path(), node_file, snapshot.standing())?;
        let index = index_of(&snapshot.standing().last_log_id);
        if index <= image_index {
            return Ok(None);
        }
        match snapshot.load() {
            Ok(machine) => {
                let standing = snapshot.standing().clone();
                return Ok(Some(State {
                    machine,
                    standing,
                    base: Base::Snapshot(index.unwrap_or(0)),
                }));
            }
            Err(SnapshotError::Damaged { path, why }) => {
                tracing::error!(path = %path.display(), why, "snapshot does not load: set aside");
                snapshots.condemn(&snapshot)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A state of another cluster is not ours, however whole.
fn check_cluster(path: &Path, node_file: &NodeFile, standing: &Standing) -> Result<(), StorageError> {
    match node_file.cluster_id.map(u128::from_be_bytes) {
        Some(ours) if standing.cluster_id != 0 && standing.cluster_id != ours => Err(StorageError::Foreign {
            path: path.to_path_buf(),
            what: "cluster id",
            found: format!("{:032x}", standing.cluster_id),
            wanted: format!("{ours:032x}"),
        }),
        _ => Ok(()),
    }
}

/// Followers that need what the log no longer has are sent the current snapshot, so it must cover what
/// was purged. When it was lost and the image gave the state, a new one is written before anything else.
fn mend_snapshots(
    log: &LogStore,
    snapshots: &SnapshotStore,
    shared: &SharedState,
) -> Result<(), StorageError> {
    let purged = index_of(&log.state().last_purged_log_id);
    let current = snapshots
        .current()
        .and_then(|(meta, _)| index_of(&meta.last_log_id));
    if current >= purged {
        return Ok(());
    }
    tracing::warn!(
        ?current,
        ?purged,
        "no snapshot covers what was purged from the log: one is written now"
    );
    let (frozen, standing) = shared.freeze();
    snapshots
        .build_now(&frozen, &standing)
        .map(|_: SnapshotData| ())
        .map_err(StorageError::from)
}

fn shown(index: Option<u64>) -> String {
    index.map_or_else(|| "none".to_owned(), |index| index.to_string())
}

impl From<SnapshotError> for StorageError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Disk { doing, path, source } => StorageError::Io { doing, path, source },
            SnapshotError::Damaged { path, why } => StorageError::Damaged {
                path,
                offset: 0,
                what: why,
            },
            SnapshotError::Newer { path, newer } => StorageError::Newer { path, newer },
            error @ (SnapshotError::Busy { .. } | SnapshotError::NoSpace { .. }) => StorageError::Io {
                doing: "writing a snapshot to",
                path: Path::new(SNAPSHOTS_DIR_NAME).to_path_buf(),
                source: error.into(),
            },
        }
    }
}
