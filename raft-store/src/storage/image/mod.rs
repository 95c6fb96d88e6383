//! The durable image of the applied state in sled: written behind, never trusted.
//!
//! Memory is authoritative; the image only makes the next start quick. One thread, every
//! `cut_every`, takes the rows that changed since the last time (each once, however often it changed)
//! and writes them: a *cut*, the state at one log index. A cut spans several sled batches:
//! `m.writing` goes first and `m.complete`, which says what the image then stands for, last. An image
//! whose two marks differ was left in the middle of a cut and is written anew.
//!
//! Invariants: a cut never passes what the local log has synced, so a whole image ahead of its log
//! proves that the log has lost entries. At open everything is checked: marks, the rows' own
//! checksums, their number, the digest. What fails is moved aside and rebuilt from snapshot and log.
//! Any error of sled's ends the node.
//!
//! sled 0.34.7 is handled with care, for reasons measured: opening it on damaged files may panic, so it
//! is opened under `catch_unwind`, and because it may also abort or hang, a mark beside the directory
//! tells the next start that the last opening did not come to its end. A crash while it opens leaves
//! `snap.*.generating` files on which the next opening fails: they are removed first. No transactions,
//! no `flush_async`, no background flusher: a cut ends with one `flush`.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use inventory_machine::Machine;
use tokio::sync::watch;

use super::{
    error::StorageError,
    load::{self, LoadFailure},
    rows::{
        FormatError, KEY_COMPLETE, KEY_MACHINE, KEY_WRITING, STANDING_VERSION, Standing, decode_complete,
        decode_writing, encode_complete, encode_writing, index_of,
    },
    state::{Cut, CutRows, SharedState, describe_panic},
};
use crate::types::LogId;

/// How often the image is brought up to date when nobody says otherwise: often enough that little is
/// replayed at the next start, seldom enough that a row changed a thousand times is written once.
pub const CUT_EVERY: Duration = Duration::from_millis(500);

/// sled's page cache, in bytes. The image is only written while the node runs, so a small one does.
pub const SLED_CACHE_BYTES: u64 = 64 << 20;

/// Bytes of rows handed to sled at once: half of one of its segments.
pub const CUT_BATCH_BYTES_MAX: usize = 256 << 10;

/// What ended the image, for all who watch.
pub type Failure = Option<Arc<StorageError>>;

/// What was found where the image should be.
pub(crate) enum Found {
    /// A whole image.
    Whole {
        /// The state in it.
        machine: Machine,
        /// What it stands for.
        standing: Standing,
    },
    /// Nothing, or nothing usable; why, if there was something.
    Nothing(Option<String>),
}

/// sled, open, before the writer starts.
pub(crate) struct ImageStore {
    db: sled::Db,
    dir: PathBuf,
    /// Number of the last cut begun.
    cut: u64,
    /// What the image stands for now, when it is whole.
    standing: Option<Standing>,
}

/// Why an image is not used.
enum Unusable {
    /// It must be moved aside.
    Damaged(String),
    /// It is sound, but stands in the middle of a cut.
    Unfinished { cut: u64 },
    /// It must be kept as it is, for a newer program.
    Newer(u32),
}

impl From<sled::Error> for Unusable {
    fn from(error: sled::Error) -> Self {
        Unusable::Damaged(error.to_string())
    }
}

impl From<LoadFailure> for Unusable {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Damaged(why) => Unusable::Damaged(why),
            LoadFailure::Newer(version) => Unusable::Newer(version),
        }
    }
}

impl From<FormatError> for Unusable {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Newer(version) => Unusable::Newer(version.into()),
            error => Unusable::Damaged(format!("a record of what it stands for: {error}")),
        }
    }
}

impl ImageStore {
    /// Opens the image in `dir` and loads the state in it; what is damaged is moved aside. Blocks.
    ///
    /// # Errors
    /// A new, empty image cannot be opened either; the image is of a newer format.
    pub(crate) fn open(dir: &Path) -> Result<(ImageStore, Found), StorageError> {
        let mark = beside(dir, ".opening");
        let mut why = None;
        if mark.exists() && dir.exists() {
            why = Some("the last opening of it did not come to its end".to_owned());
        } else {
            match Self::try_open(dir, &mark)? {
                Ok((store, machine, standing)) => return Ok((store, Found::Whole { machine, standing })),
                Err((Some(store), Unusable::Unfinished { cut: 0 })) => {
                    return Ok((store, Found::Nothing(None)));
                }
                Err((Some(store), Unusable::Unfinished { .. })) => {
                    let why = "it was left in the middle of a cut".to_owned();
                    return Ok((store, Found::Nothing(Some(why))));
                }
                Err((store, Unusable::Newer(found))) => {
                    close_quietly(store);
                    let known = STANDING_VERSION.into();
                    return Err(StorageError::Newer { path: dir.to_path_buf(), found, known });
                }
                Err((store, Unusable::Damaged(what))) => {
                    why = Some(what);
                    close_quietly(store);
                }
                Err((None, Unusable::Unfinished { .. })) => {}
            }
        }
        let fresh = Self::replace(dir, &mark)?;
        Ok((fresh, Found::Nothing(why)))
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves the image aside and opens a new, empty one.
    fn replace(dir: &Path, mark: &Path) -> Result<ImageStore, StorageError> {
        set_aside(dir).map_err(StorageError::io("moving aside the damaged image", dir))?;
        let why = match Self::try_open(dir, mark)? {
            Err((Some(store), Unusable::Unfinished { cut: 0 })) => return Ok(store),
            Err((_, Unusable::Damaged(why))) => why,
            _ => "a new image is not empty".to_owned(),
        };
        Err(StorageError::io("opening a new image in", dir)(io::Error::other(why)))
    }

    /// Opens and loads, whatever sled does about it.
    #[allow(clippy::type_complexity)]
    fn try_open(
        dir: &Path,
        mark: &Path,
    ) -> Result<Result<(ImageStore, Machine, Standing), (Option<ImageStore>, Unusable)>, StorageError> {
        fs::create_dir_all(dir).map_err(StorageError::io("creating", dir))?;
        remove_generating(dir).map_err(StorageError::io("removing unfinished sled files in", dir))?;
        fs::write(mark, b"").map_err(StorageError::io("writing", mark))?;
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let found = match opened {
            Err(panic) => Err((None, Unusable::Damaged(format!("sled: {}", describe_panic(&*panic))))),
            Ok(Err(error)) => Err((None, error.into())),
            Ok(Ok(db)) => {
                let mut store = ImageStore { db, dir: dir.to_path_buf(), cut: 0, standing: None };
                match catch_unwind(AssertUnwindSafe(|| store.load())) {
                    Ok(Ok((machine, standing))) => {
                        store.standing = Some(standing.clone());
                        Ok((store, machine, standing))
                    }
                    Ok(Err(unusable)) => {
                        if let Unusable::Unfinished { cut } = &unusable {
                            store.cut = *cut;
                        }
                        Err((Some(store), unusable))
                    }
                    Err(panic) => {
                        let why = format!("sled: {}", describe_panic(&*panic));
                        Err((Some(store), Unusable::Damaged(why)))
                    }
                }
            }
        };
        fs::remove_file(mark).map_err(StorageError::io("removing", mark))?;
        Ok(found)
    }

    fn load(&mut self) -> Result<(Machine, Standing), Unusable> {
        let writing = self.db.get(KEY_WRITING)?;
        let complete = self.db.get(KEY_COMPLETE)?;
        let (writing, complete) = match (writing, complete) {
            (None, None) if self.db.is_empty() => return Err(Unusable::Unfinished { cut: 0 }),
            (None, _) => return Err(Unusable::Damaged("its mark that a cut was begun is missing".into())),
            (Some(writing), None) => {
                return Err(Unusable::Unfinished { cut: decode_writing(&writing)?.max(1) });
            }
            (Some(writing), Some(complete)) => (decode_writing(&writing)?, complete),
        };
        let (cut, standing) = decode_complete(&complete)?;
        if cut != writing {
            return Err(Unusable::Unfinished { cut: writing.max(cut).max(1) });
        }
        self.cut = cut;
        let mut loader = Machine::loader();
        let mut last = None;
        let mut rows: u64 = 0;
        for row in self.db.iter() {
            let (key, value) = row?;
            match &*key {
                KEY_WRITING | KEY_COMPLETE => continue,
                KEY_MACHINE => last = Some((key, value)),
                _ => loader.row(&key, &value).map_err(LoadFailure::from)?,
            }
            rows += 1;
        }
        if let Some((key, value)) = last {
            loader.row(&key, &value).map_err(LoadFailure::from)?;
        }
        if rows != standing.row_count {
            let why = format!("it has {rows} rows instead of {}", standing.row_count);
            return Err(Unusable::Damaged(why));
        }
        let machine = load::finish(loader, &standing)?;
        Ok((machine, standing))
    }

    /// Writes one cut.
    fn write(&mut self, cut: &Cut) -> sled::Result<()> {
        self.cut += 1;
        self.db.insert(KEY_WRITING, encode_writing(self.cut))?;
        match &cut.rows {
            CutRows::Changed(keys) => self.write_rows(cut, keys.iter().map(Vec::as_slice))?,
            CutRows::All => {
                let rows = self.db.iter().keys().filter_map(|key| match key {
                    Ok(key) if *key == *KEY_WRITING => None,
                    key => Some(key.map(|key| (key.to_vec(), None))),
                });
                self.write_batches(rows)?;
                let keys = cut.frozen.row_keys().collect::<Vec<_>>();
                self.write_rows(cut, keys.iter().map(Vec::as_slice))?;
            }
        }
        self.db.insert(KEY_COMPLETE, encode_complete(self.cut, &cut.standing))?;
        self.db.flush()?;
        self.standing = Some(cut.standing.clone());
        Ok(())
    }

    fn write_rows<'a>(&self, cut: &'a Cut, keys: impl Iterator<Item = &'a [u8]>) -> sled::Result<()> {
        self.write_batches(keys.map(|key| {
            let mut row = Vec::new();
            let there = cut.frozen.row(key, &mut row);
            Ok((key.to_vec(), there.then_some(row)))
        }))
    }

    /// Writes rows, or removes those without a value, in batches of bounded size.
    fn write_batches(
        &self,
        rows: impl Iterator<Item = sled::Result<(Vec<u8>, Option<Vec<u8>>)>>,
    ) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for row in rows {
            let (key, value) = row?;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            if bytes >= CUT_BATCH_BYTES_MAX {
                self.db.apply_batch(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        if bytes > 0 {
            self.db.apply_batch(batch)?;
        }
        Ok(())
    }

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
        let dir = self.dir.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StorageError::io("starting the image writer for", &dir))?;
        let (stop, stopped) = watch::channel(Stop::Running);
        let (failed, failure) = watch::channel(None);
        let (written, cut_index) = watch::channel(self.standing.as_ref().and_then(|at| index_of(&at.last_log_id)));
        let mut writer = Writer { store: self, shared, synced, stopped, cut_every, written };
        let path = dir.clone();
        let thread = thread::Builder::new().name("holdfast-image".into()).spawn(move || {
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
        Ok(Image { stop, failure, cut_index, thread: Some(thread) })
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
            let stop = if self.stopped.has_changed().is_err() { Stop::Now } else { *self.stopped.borrow() };
            if stop == Stop::Now {
                return Ok(());
            }
            // A state that was left by a panic is not written.
            let Some(cut) = self.shared.cut() else { return Ok(()) };
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
        let Some(index) = index_of(log_id) else { return true };
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

/// Closes sled, which may panic on damaged files; never while another panic unwinds.
fn close_quietly(store: Option<ImageStore>) {
    if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
        tracing::warn!("sled panicked while it was closed");
    }
}

/// The path of something beside the image's directory.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// What a crash during sled's opening leaves, and its next opening stumbles over.
fn remove_generating(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Moves the directory to `<dir>.damaged-N`; of those that were moved before, none is kept.
fn set_aside(dir: &Path) -> io::Result<()> {
    let prefix = format!("{}.damaged-", dir.file_name().unwrap_or_default().to_string_lossy());
    let parent = dir.parent().unwrap_or(Path::new("."));
    let mut number: u64 = 0;
    let mut before = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if let Some(end) = entry.file_name().to_string_lossy().strip_prefix(&prefix) {
            number = number.max(end.parse().unwrap_or(0));
            before.push(entry.path());
        }
    }
    match fs::rename(dir, parent.join(format!("{prefix}{}", number.saturating_add(1)))) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    before.into_iter().try_for_each(fs::remove_dir_all)
}
