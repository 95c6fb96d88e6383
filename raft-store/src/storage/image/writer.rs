//! The image's writer: one thread that brings the image up to date, cut after cut.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::store::{ImageStore, close_quietly};
use crate::{
    storage::{
        error::StorageError,
        offload::{MAY_LAG, give_way},
        rows::{Standing, index_of},
        state::{Cut, CutRows, SharedState, describe_panic},
    },
    types::LogId,
};

/// The writer rests this many times as long as a cut took: under a flood of claims the image may lag, so that
/// it takes no more than a tenth of a core from those who claim; the log and the snapshots have it all. On a machine
/// that has nothing to spare a cut takes long, and the image lags the more: by the processor time a cut took, not by
/// its length, 500 checkouts a second on two cores had 17% of them taken by three images.
/// Without rest it took a third of a replica's processor time.
const REST_PER_WORK: u32 = 9;

/// What ended the image, for all who watch.
pub type Failure = Option<Arc<StorageError>>;

/// Where cuts go: sled, but for tests of the writer alone.
pub(super) trait Cuts: Send + 'static {
    /// What the image stands for now, when it is whole.
    fn standing(&self) -> Option<&Standing>;
    /// Writes the rows of a cut, but for the first so many, until there are no more or somebody wants it to end: then it
    /// gives how many are written.
    fn write(&mut self, cut: &Cut, written: usize, until: &dyn Fn() -> bool) -> io::Result<Option<usize>>;
    /// Ends a cut, whose rows are written.
    fn complete(&mut self, cut: &Cut) -> io::Result<()>;
    /// Closes, whatever happened before.
    fn close(self);
}

impl Cuts for ImageStore {
    fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }
    fn write(&mut self, cut: &Cut, written: usize, until: &dyn Fn() -> bool) -> io::Result<Option<usize>> {
        self.write_rows(cut, written, until).map_err(io::Error::other)
    }
    fn complete(&mut self, cut: &Cut) -> io::Result<()> {
        ImageStore::complete(self, cut).map_err(io::Error::other)
    }
    fn close(self) {
        close_quietly(Some(self));
    }
}

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
        start(self, &dir, shared, synced, cut_every)
    }
}

fn start<C: Cuts>(
    store: C,
    dir: &Path,
    shared: SharedState,
    synced: watch::Receiver<Option<LogId>>,
    cut_every: Duration,
) -> Result<Image, StorageError> {
    let starting = "starting the image writer for";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(StorageError::io(starting, dir))?;
    let (stop, stopped) = watch::channel(Stop::Running);
    let (failed, failure) = watch::channel(None);
    let (written, cut_index) = watch::channel(store.standing().and_then(|at| index_of(&at.last_log_id)));
    let mut writer = Writer {
        store,
        shared,
        synced,
        stopped,
        cut_every,
        written,
    };
    let path = dir.to_path_buf();
    let work = move || {
        let run = catch_unwind(AssertUnwindSafe(|| runtime.block_on(writer.run())));
        let error = match run {
            Ok(run) => run.err(),
            Err(panic) => Some(io::Error::other(describe_panic(&*panic))),
        };
        if let Some(error) = error {
            let error = StorageError::io("writing the image in", &path)(error);
            tracing::error!(%error, "the image writer has failed");
            failed.send_replace(Some(Arc::new(error)));
        }
        writer.store.close();
    };
    let thread = thread::Builder::new().name("holdfast-image".into()).spawn(work);
    let thread = thread.map_err(StorageError::io(starting, dir))?;
    Ok(Image {
        stop,
        failure,
        cut_index,
        thread: Some(thread),
    })
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

struct Writer<C> {
    store: C,
    shared: SharedState,
    synced: watch::Receiver<Option<LogId>>,
    stopped: watch::Receiver<Stop>,
    cut_every: Duration,
    written: watch::Sender<Option<u64>>,
}

impl<C: Cuts> Writer<C> {
    async fn run(&mut self) -> io::Result<()> {
        let mut rest = self.cut_every;
        loop {
            let _ = tokio::time::timeout(rest, self.stopped.wait_for(|stop| *stop != Stop::Running)).await;
            // A dropped handle counts as one that says so.
            let stop = if self.stopped.has_changed().is_err() {
                Stop::Now
            } else {
                *self.stopped.borrow()
            };
            if stop == Stop::Now {
                return Ok(());
            }
            // What a failed apply has left is not written.
            let Some(mut cut) = self.shared.cut() else {
                return Ok(());
            };
            let whole = matches!(cut.rows, CutRows::All);
            if whole || self.store.standing() != Some(&cut.standing) {
                if !self.wait_synced(&cut.standing.last_log_id).await {
                    return Ok(());
                }
                let begun = Instant::now();
                self.written.send_replace(None);
                self.write(&mut cut)?;
                self.written.send_replace(index_of(&cut.standing.last_log_id));
                let worked = begun.elapsed();
                metrics::histogram!("holdfast_image_cut_duration_seconds").record(worked);
                rest = self.cut_every.max(worked * REST_PER_WORK);
            }
            if stop == Stop::Last {
                return Ok(());
            }
        }
    }

    /// Writes a cut, giving way to everybody until the writer must stop: who waits for its end should not wait for
    /// all who are busier.
    fn write(&mut self, cut: &mut Cut) -> io::Result<()> {
        let stopped = self.stopped.clone();
        let must_stop = || stopped.has_changed().is_err() || *stopped.borrow() != Stop::Running;
        // Neighbours are written together: sled finds them in one place.
        if let CutRows::Changed(rows) = &mut cut.rows {
            rows.sort_unstable();
            rows.dedup();
        }
        let mut left = Some(0);
        if !must_stop() {
            // Only here: the cut itself was taken under the state's lock.
            left = give_way(MAY_LAG, || self.store.write(cut, 0, &must_stop))??;
        }
        if let Some(written) = left {
            self.store.write(cut, written, &|| false)?;
        }
        self.store.complete(cut)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use inventory_machine::Machine;

    use super::*;
    use crate::storage::rows::log_id;

    /// Tells which index was written, and can fail.
    struct Told {
        standing: Option<Standing>,
        written: mpsc::Sender<u64>,
        fails: fn() -> io::Result<()>,
        /// Whoever gives way comes to no end; told by the highest index.
        rows_endless: bool,
        ended: bool,
    }

    impl Cuts for Told {
        fn standing(&self) -> Option<&Standing> {
            self.standing.as_ref()
        }
        fn write(&mut self, _: &Cut, written: usize, until: &dyn Fn() -> bool) -> io::Result<Option<usize>> {
            (self.fails)()?;
            if self.rows_endless && written == 0 {
                let _ = self.written.send(u64::MAX);
                while !until() {
                    thread::yield_now();
                }
                return Ok(Some(1));
            }
            assert_eq!(written, usize::from(self.rows_endless), "goes on where it ended");
            self.ended = true;
            Ok(None)
        }
        fn complete(&mut self, cut: &Cut) -> io::Result<()> {
            assert!(std::mem::take(&mut self.ended), "no rows are left");
            self.standing = Some(cut.standing.clone());
            // A test that has seen enough is gone.
            let _ = self
                .written
                .send(index_of(&cut.standing.last_log_id).unwrap_or(0));
            Ok(())
        }
        fn close(self) {}
    }

    fn state(applied: u64) -> SharedState {
        let mut machine = Machine::default();
        (1..=applied).for_each(|index| machine.skip(index));
        let standing = Standing {
            last_log_id: Some(log_id(1, 1, applied)),
            ..Standing::default()
        };
        SharedState::new(machine, standing, true)
    }

    fn begin(
        applied: u64,
        synced: watch::Receiver<Option<LogId>>,
        cut_every: Duration,
        fails: fn() -> io::Result<()>,
    ) -> (Image, mpsc::Receiver<u64>) {
        let (written, told) = mpsc::channel();
        let told_to = Told {
            standing: None,
            written,
            fails,
            rows_endless: false,
            ended: false,
        };
        (
            start(told_to, Path::new("image"), state(applied), synced, cut_every).expect("a thread"),
            told,
        )
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime")
            .block_on(future)
    }

    #[test]
    fn a_cut_waits_for_the_log_to_be_synced() {
        let (sync, synced) = watch::channel(Some(log_id(1, 1, 4)));
        let (image, told) = begin(5, synced, Duration::ZERO, || Ok(()));
        // It stops although the log never gets there, and has written nothing.
        image.stop();
        assert_eq!(told.recv(), Err(mpsc::RecvError));

        let (image, told) = begin(5, sync.subscribe(), Duration::ZERO, || Ok(()));
        sync.send_replace(Some(log_id(1, 1, 5)));
        assert_eq!(told.recv(), Ok(5));
        let mut cut_index = image.cut_index();
        block_on(cut_index.wait_for(|index| *index == Some(5))).expect("the writer lives");
        // What stands for the same is not written again.
        image.stop();
        assert_eq!(told.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn stopping_writes_a_last_cut_and_dropping_does_not() {
        let synced = || watch::channel(Some(log_id(1, 1, 9))).1;
        let (image, told) = begin(9, synced(), Duration::MAX, || Ok(()));
        image.stop();
        assert_eq!(told.recv(), Ok(9));
        let (image, told) = begin(9, synced(), Duration::MAX, || Ok(()));
        drop(image);
        assert_eq!(told.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn a_cut_that_comes_to_no_end_ends_when_the_writer_must_stop() {
        for stop in [Image::stop as fn(Image), drop] {
            let (written, told) = mpsc::channel();
            let endless = Told {
                standing: None,
                written,
                fails: || Ok(()),
                rows_endless: true,
                ended: false,
            };
            let (_sync, synced) = watch::channel(Some(log_id(1, 1, 9)));
            let image = start(endless, Path::new("image"), state(9), synced, Duration::ZERO);
            assert_eq!(told.recv(), Ok(u64::MAX));
            stop(image.expect("a thread"));
            assert_eq!(told.recv(), Ok(9));
            assert_eq!(told.recv(), Err(mpsc::RecvError));
        }
    }

    #[test]
    fn errors_and_panics_are_reported() {
        let synced = || watch::channel(Some(log_id(1, 1, 9))).1;
        let failing: [fn() -> io::Result<()>; 2] = [
            || Err(io::Error::other("the disk is gone")),
            || panic!("the disk is gone"),
        ];
        for fails in failing {
            let (image, _told) = begin(9, synced(), Duration::ZERO, fails);
            let mut failure = image.failure();
            let error = block_on(failure.wait_for(Option::is_some))
                .expect("told before the end")
                .clone();
            let error = error.expect("is some").to_string();
            assert!(
                error.contains("writing the image in image: the disk is gone"),
                "{error}"
            );
        }
    }
}
