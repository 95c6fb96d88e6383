//! The image's writer: one thread that brings the image up to date, cut after cut.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::store::{ImageStore, close_quietly};
use crate::{
    storage::{
        error::StorageError,
        rows::index_of,
        state::{CutRows, SharedState, describe_panic},
    },
    types::LogId,
};

/// What ended the image, for all who watch.
pub type Failure = Option<Arc<StorageError>>;

impl ImageStore {
    /// Starts the writer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        self,
        shared: SharedState,
        synced: watch::Receiver<Option<LogId>>,
        cut_every: Duration,
    ) -> Result<Image, StorageError> {
        let dir = self.dir().to_path_buf();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StorageError::io("starting the image writer for", &dir))?;
        let (stop, stopped) = watch::channel(Stop::Running);
        let (failed, failure) = watch::channel(None);
        let (written, cut_index) =
            watch::channel(self.standing.as_ref().and_then(|at| index_of(&at.last_log_id)));
        let mut writer = Writer {
            store: self,
            shared,
            synced,
            stopped,
            cut_every,
            written,
        };
        let path = dir.clone();
        let thread = thread::Builder::new()
            .name("holdfast-image".into())
            .spawn(move || {
                let run = catch_unwind(AssertUnwindSafe(|| runtime.block_on(writer.run())));
                let error = match run {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(io::Error::other(error)),
                    Err(panic) => Some(io::Error::other(describe_panic(&*panic))),
                };
                if let Some(error) = error {
                    let error = StorageError::io("writing the image in", &path)(error);
                    tracing::error!(%error, "the image writer has failed");
                    failed.send_replace(Some(Arc::new(error)));
                }
                close_quietly(Some(writer.store));
            });
        let thread = thread.map_err(StorageError::io("starting the image writer for", &dir))?;
        Ok(Image {
            stop,
            failure,
            cut_index,
            thread: Some(thread),
        })
    }
}

/// How the writer should end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Running,
    /// After one last cut.
    Last,
    /// At once.
    Now,
}

/// The image's writer, running. Dropped, it stops at once, leaving the last whole cut.
pub struct Image {
    stop: watch::Sender<Stop>,
    failure: watch::Receiver<Failure>,
    cut_index: watch::Receiver<Option<u64>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Image {
    /// Set when writing the image has failed: the node must stop.
    pub fn failure(&self) -> watch::Receiver<Failure> {
        self.failure.clone()
    }

    /// Log index that the image stands for; `None` while it is not whole.
    pub fn cut_index(&self) -> watch::Receiver<Option<u64>> {
        self.cut_index.clone()
    }

    /// Stops after one last cut, if all it would hold is synced in the log. Blocks for as long as
    /// writing it takes.
    pub fn stop(mut self) {
        self.end(Stop::Last);
    }

    fn end(&mut self, how: Stop) {
        self.stop.send_replace(how);
        if let Some(thread) = self.thread.take() {
            // The thread catches its panics and reports them by `failure`.
            let _ = thread.join();
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Stop::Now);
        }
    }
}

struct Writer {
    store: ImageStore,
    shared: SharedState,
    synced: watch::Receiver<Option<LogId>>,
    stopped: watch::Receiver<Stop>,
    cut_every: Duration,
    written: watch::Sender<Option<u64>>,
}

impl Writer {
    async fn run(&mut self) -> sled::Result<()> {
        loop {
            let _ = tokio::time::timeout(
                self.cut_every,
                self.stopped.wait_for(|stop| *stop != Stop::Running),
            )
            .await;
            // A dropped handle counts as one that says so.
            let stop = if self.stopped.has_changed().is_err() {
                Stop::Now
            } else {
                *self.stopped.borrow()
            };
            if stop == Stop::Now {
                return Ok(());
            }
            // A state that was left by a panic is not written.
            let Some(cut) = self.shared.cut() else {
                return Ok(());
            };
            let whole = matches!(cut.rows, CutRows::All);
            if whole || self.store.standing.as_ref() != Some(&cut.standing) {
                if !self.wait_synced(&cut.standing.last_log_id).await {
                    return Ok(());
                }
                let begun = Instant::now();
                self.written.send_replace(None);
                self.store.write(&cut)?;
                self.written.send_replace(index_of(&cut.standing.last_log_id));
                metrics::histogram!("holdfast_image_cut_duration_seconds").record(begun.elapsed());
            }
            if stop == Stop::Last {
                return Ok(());
            }
        }
    }

    /// Waits until the log has synced this entry; false when the writer must stop first. What the cut
    /// took from the state is lost then, but so is the state: the image stays at its last cut.
    async fn wait_synced(&mut self, log_id: &Option<LogId>) -> bool {
        let Some(index) = index_of(log_id) else {
            return true;
        };
        let synced = |synced: &Option<LogId>| index_of(synced) >= Some(index);
        if synced(&self.synced.borrow()) {
            return true;
        }
        tokio::select! {
            reached = self.synced.wait_for(synced) => reached.is_ok(),
            _ = self.stopped.wait_for(|stop| *stop != Stop::Running) => false,
        }
    }
}
