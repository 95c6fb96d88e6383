//! The image's files: opening, checking and loading them, and writing one cut.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use fault_points::crash_point;
use inventory_machine::{Machine, Row};

use crate::storage::{
    error::{Newer, StorageError},
    load::{self, LoadFailure},
    rows::{
        FormatError, KEY_COMPLETE, KEY_MACHINE, KEY_WRITING, STANDING_VERSION, Standing, decode_complete,
        decode_writing, encode_complete, encode_writing,
    },
    state::{Cut, CutRows, describe_panic},
};

/// sled's page cache, in bytes. The image is only written while the node runs, so a small one does.
pub const SLED_CACHE_BYTES: u64 = 64 << 20;

/// Bytes of rows handed to sled at once: half of one of its segments.
pub const CUT_BATCH_BYTES_MAX: usize = 256 << 10;

/// Rows that sled reads before they are asked for, and how many of them travel together: 4 MB of blocks of claims.
const ROWS_AHEAD: usize = 1_024;
const ROWS_AT_ONCE: usize = 128;

/// sled's lock outlives the store that was dropped, by as long as its threads take to end; a node that starts again
/// in the same process waits for that, and takes the image for damaged not on that account. Five seconds in all.
const LOCK_WAIT: Duration = Duration::from_millis(10);
const LOCK_TRIES_MAX: u32 = 500;

/// Whether somebody else has the image open, in sled's own words; it has no other way of saying so.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// What was found where the image should be.
pub(crate) enum Found {
    /// A whole image.
    Whole {
        /// The state in it.
        machine: Box<Machine>,
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
    pub(super) standing: Option<Standing>,
}

/// Why an image is not used.
enum Unusable {
    /// It must be moved aside.
    Damaged(String),
    /// It is sound, but stands in the middle of a cut.
    Unfinished { cut: u64 },
    /// It must be kept as it is, for a newer program.
    Newer(Newer),
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
            LoadFailure::Newer(newer) => Unusable::Newer(newer),
        }
    }
}

impl From<FormatError> for Unusable {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Newer(found) => Unusable::Newer(Newer::format(found, STANDING_VERSION)),
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
                Ok((store, machine, standing)) => {
                    return Ok((
                        store,
                        Found::Whole {
                            machine: Box::new(machine),
                            standing,
                        },
                    ));
                }
                Err((Some(store), Unusable::Unfinished { cut: 0 })) => {
                    return Ok((store, Found::Nothing(None)));
                }
                Err((Some(store), Unusable::Unfinished { .. })) => {
                    let why = "it was left in the middle of a cut".to_owned();
                    return Ok((store, Found::Nothing(Some(why))));
                }
                Err((store, Unusable::Newer(newer))) => {
                    close_quietly(store);
                    let path = dir.to_path_buf();
                    return Err(StorageError::Newer { path, newer });
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
        Err(StorageError::io("opening a new image in", dir)(io::Error::other(
            why,
        )))
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
        crash_point!("image-opening");
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None);
        let mut opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        for _ in 0..LOCK_TRIES_MAX {
            let Ok(Err(error)) = &opened else { break };
            if !is_locked(error) {
                break;
            }
            std::thread::sleep(LOCK_WAIT);
            opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        }
        let found = match opened {
            Ok(Err(error)) if is_locked(&error) => {
                // Somebody has it: nothing is known against it, and it stays where it is.
                fs::remove_file(mark).map_err(StorageError::io("removing", mark))?;
                return Err(StorageError::io("opening the image in", dir)(error.into()));
            }
            Err(panic) => Err((
                None,
                Unusable::Damaged(format!("sled: {}", describe_panic(&*panic))),
            )),
            Ok(Err(error)) => Err((None, error.into())),
            Ok(Ok(db)) => {
                let mut store = ImageStore {
                    db,
                    dir: dir.to_path_buf(),
                    cut: 0,
                    standing: None,
                };
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
        crash_point!("image-opened");
        fs::remove_file(mark).map_err(StorageError::io("removing", mark))?;
        Ok(found)
    }

    fn load(&mut self) -> Result<(Machine, Standing), Unusable> {
        let writing = self.db.get(KEY_WRITING)?;
        let complete = self.db.get(KEY_COMPLETE)?;
        let (writing, complete) = match (writing, complete) {
            (None, None) if self.db.is_empty() => return Err(Unusable::Unfinished { cut: 0 }),
            (None, _) => {
                return Err(Unusable::Damaged(
                    "its mark that a cut was begun is missing".into(),
                ));
            }
            (Some(writing), None) => {
                return Err(Unusable::Unfinished {
                    cut: decode_writing(&writing)?.max(1),
                });
            }
            (Some(writing), Some(complete)) => (decode_writing(&writing)?, complete),
        };
        let (cut, standing) = decode_complete(&complete)?;
        if cut != writing {
            return Err(Unusable::Unfinished {
                cut: writing.max(cut).max(1),
            });
        }
        self.cut = cut;
        let mut loader = Machine::loader();
        let mut last = None;
        let mut found: u64 = 0;
        self.read(|key, value| {
            match &*key {
                KEY_WRITING | KEY_COMPLETE => return Ok(()),
                KEY_MACHINE => last = Some((key, value)),
                _ => loader.row(&key, &value).map_err(LoadFailure::from)?,
            }
            found += 1;
            Ok(())
        })?;
        if let Some((key, value)) = last {
            loader.row(&key, &value).map_err(LoadFailure::from)?;
        }
        if found != standing.row_count {
            let why = format!("it has {found} rows instead of {}", standing.row_count);
            return Err(Unusable::Damaged(why));
        }
        let machine = load::finish(loader, &standing)?;
        Ok((machine, standing))
    }

    /// Gives every row, in order, while sled reads on: reading and checking take about as long.
    fn read(
        &self,
        mut row: impl FnMut(sled::IVec, sled::IVec) -> Result<(), Unusable>,
    ) -> Result<(), Unusable> {
        thread::scope(|scope| {
            let (sender, some_rows) = mpsc::sync_channel(ROWS_AHEAD / ROWS_AT_ONCE);
            let reading = scope.spawn(move || {
                let mut rows = self.db.iter();
                loop {
                    let some = rows
                        .by_ref()
                        .take(ROWS_AT_ONCE)
                        .collect::<sled::Result<Vec<_>>>()?;
                    // Who found a row damaged wants no more of them.
                    if some.is_empty() || sender.send(some).is_err() {
                        return Ok(());
                    }
                }
            });
            for some in some_rows {
                some.into_iter().try_for_each(|(key, value)| row(key, value))?;
            }
            let read: sled::Result<()> = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok(read?)
        })
    }

    /// Writes the rows of a cut, but for the first so many, until there are no more or somebody wants it to end: then it
    /// gives how many are written.
    pub(super) fn write_rows(
        &mut self,
        cut: &Cut,
        written: usize,
        until: &dyn Fn() -> bool,
    ) -> sled::Result<Option<usize>> {
        if written == 0 {
            self.cut += 1;
            self.db.insert(KEY_WRITING, encode_writing(self.cut))?;
            crash_point!("image-cut-begun");
        }
        let row = |row: Row| {
            let (key, mut value) = (row.key(), Vec::new());
            let there = cut.frozen.row(&row, &key, &mut value);
            Ok((key, there.then_some(value)))
        };
        match &cut.rows {
            CutRows::Changed(rows) => {
                let rows = rows[written..].iter().cloned().map(row);
                self.write_batches(rows, written, until)
            }
            CutRows::All => {
                if written == 0 {
                    let rows = self.db.iter().keys().filter_map(|key| match key {
                        Ok(key) if *key == *KEY_WRITING => None,
                        key => Some(key.map(|key| (key.to_vec(), None))),
                    });
                    self.write_batches(rows, 0, &|| false)?;
                }
                let rows = cut.frozen.rows().skip(written).map(row);
                self.write_batches(rows, written, until)
            }
        }
    }

    /// Ends a cut, whose rows are written.
    pub(super) fn complete(&mut self, cut: &Cut) -> sled::Result<()> {
        crash_point!("image-cut-rows-written");
        self.db
            .insert(KEY_COMPLETE, encode_complete(self.cut, &cut.standing))?;
        crash_point!("image-cut-complete");
        self.db.flush()?;
        crash_point!("image-cut-flushed");
        self.standing = Some(cut.standing.clone());
        Ok(())
    }

    /// Writes rows, or removes those without a value, in batches of bounded size; between two of them it may end.
    fn write_batches(
        &self,
        rows: impl Iterator<Item = sled::Result<(Vec<u8>, Option<Vec<u8>>)>>,
        mut written: usize,
        until: &dyn Fn() -> bool,
    ) -> sled::Result<Option<usize>> {
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for row in rows {
            let (key, value) = row?;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            written += 1;
            if bytes >= CUT_BATCH_BYTES_MAX {
                self.db.apply_batch(std::mem::take(&mut batch))?;
                bytes = 0;
                if until() {
                    return Ok(Some(written));
                }
            }
        }
        if bytes > 0 {
            self.db.apply_batch(batch)?;
        }
        Ok(None)
    }
}

/// Closes sled, which may panic on damaged files; never while another panic unwinds.
pub(super) fn close_quietly(store: Option<ImageStore>) {
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
    let prefix = format!(
        "{}.damaged-",
        dir.file_name().unwrap_or_default().to_string_lossy()
    );
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

#[cfg(test)]
mod tests {
    use inventory_machine::{
        codec::{Batch, BatchEncoder},
        command::{self, Body, Command, PutDocument},
    };

    use super::*;
    use crate::storage::{rows::log_id, state::SharedState};

    /// A state with so many documents that their rows are several batches.
    fn large() -> SharedState {
        let mut machine = Machine::default();
        let mut encoder = BatchEncoder::new();
        let mut push = |key: u128, body: Body<'_>| {
            encoder.push(&Command {
                follows: false,
                principal: 1,
                key,
                not_after_ms: 1,
                body,
            });
        };
        push(
            1,
            Body::Found(command::Found {
                cluster_id: 1,
                secret: 2,
                incarnation: 1,
            }),
        );
        for number in 0..200 {
            push(
                2 + number,
                Body::PutDocument(PutDocument {
                    document: format!("d/{number}").as_bytes(),
                    body: &[b'x'; 8 << 10],
                    version_expected: 0,
                    fencing_token: 0,
                    ttl_ms: 0,
                }),
            );
        }
        let bytes = encoder.finish(1, 1);
        let batch = Batch::parse(&bytes).unwrap();
        machine.apply(1, 1, &batch).unwrap();
        let standing = Standing {
            last_log_id: Some(log_id(1, 1, 1)),
            ..Standing::default()
        };
        SharedState::new(machine, standing, false)
    }

    #[test]
    fn a_cut_written_piece_by_piece_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        for all in [true, false] {
            let path = dir.path().join(all.to_string());
            let (mut store, _) = ImageStore::open(&path).unwrap();
            let mut cut = large().cut().unwrap();
            if all {
                cut.rows = CutRows::All;
            }
            let (mut written, mut pieces) = (0, 1);
            while let Some(so_far) = store.write_rows(&cut, written, &|| true).unwrap() {
                assert!(so_far > written);
                (written, pieces) = (so_far, pieces + 1);
            }
            assert!(pieces > 4, "{pieces}");
            store.complete(&cut).unwrap();
            drop(store);
            let (_, found) = ImageStore::open(&path).unwrap();
            let Found::Whole { machine, standing } = found else {
                panic!("the image is not whole");
            };
            assert_eq!(machine.digest(), cut.frozen.digest());
            assert_eq!(standing, cut.standing);
        }
    }
}
