//! Faults inside a node's process: a small C library, loaded with `LD_PRELOAD` and steered through a page of
//! shared memory.
//!
//! One library gives wall-clock jumps and drift, failing and slow syncs, a full disk, the journal that a power
//! cut undoes, and routes each peer's connections through the proxy of [`super::links`]. It needs neither root
//! nor any tool but a C compiler, and the node under test is the shipped binary, unchanged.
//!
//! The page is an array of 64-bit words, declared the same way in `preload.c`. Writing them through the file
//! is enough, since the page cache is what the node has mapped.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Most peers whose connections are routed; as in `preload.c`.
const ROUTES_MAX: usize = 64;

/// Words of the page before the routes.
const ROUTES_WORD: usize = 9;

/// A word of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    WallOffsetNs = 0,
    WallDriftPpm = 1,
    WallDriftSinceNs = 2,
    SyncErrno = 3,
    SyncDelayUs = 4,
    GrowErrno = 5,
    Journal = 6,
    Hits = 7,
    Routes = 8,
}

/// Compiles the library into a directory.
///
/// # Errors
/// There is no C compiler, or it fails; the text says what to install.
pub fn compile(dir: &Path) -> io::Result<PathBuf> {
    let source = dir.join("preload.c");
    fs::write(&source, include_str!("preload.c"))?;
    let library = dir.join("libholdfast_faults.so");
    let compiled = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .map_err(|error| {
            io::Error::other(format!(
                "no C compiler for the fault library ({error}): install one (Debian: apt-get install gcc), or \
                 run the deterministic simulation, which needs none"
            ))
        })?;
    if !compiled.status.success() {
        let why = String::from_utf8_lossy(&compiled.stderr);
        return Err(io::Error::other(format!(
            "the fault library does not compile: {why}"
        )));
    }
    Ok(library)
}

/// The faults of one node's process.
#[derive(Debug)]
pub struct Preload {
    fault_library: PathBuf,
    page: File,
    page_path: PathBuf,
    data_dir: PathBuf,
    journal_dir: PathBuf,
}

impl Preload {
    /// For the node whose files lie in `dir/data`. All faults are off.
    ///
    /// # Errors
    /// Files cannot be made.
    pub fn new(library: &Path, dir: &Path) -> io::Result<Preload> {
        let dir = dir.canonicalize()?;
        let journal_dir = dir.join("journal");
        fs::create_dir_all(&journal_dir)?;
        let page_path = dir.join("faults");
        let page = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&page_path)?;
        page.set_len(((ROUTES_WORD + 2 * ROUTES_MAX) * 8) as u64)?;
        Ok(Preload {
            fault_library: library.to_path_buf(),
            page,
            page_path,
            data_dir: dir.join("data"),
            journal_dir,
        })
    }

    /// What the node's environment must say.
    pub fn environment(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", self.fault_library.as_path()),
            ("FAULT_LIBRARY_CONTROL", self.page_path.as_path()),
            ("FAULT_LIBRARY_DATA", self.data_dir.as_path()),
            ("FAULT_LIBRARY_JOURNAL", self.journal_dir.as_path()),
        ]
    }

    /// Where the journal lies.
    pub fn journal_dir(&self) -> &Path {
        &self.journal_dir
    }

    /// Where the node's files lie.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn set(&self, word: usize, value: i64) -> io::Result<()> {
        self.page.write_all_at(&value.to_ne_bytes(), word as u64 * 8)
    }

    fn get(&self, word: Word) -> io::Result<i64> {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, word as u64 * 8)?;
        Ok(i64::from_ne_bytes(bytes))
    }

    /// Sends connections to `port` through the proxy on another port of the same address, for each pair given; no
    /// others.
    ///
    /// # Errors
    /// The page cannot be written.
    ///
    /// # Panics
    /// More routes than there is room for: far above any cluster here.
    pub fn route(&self, routes: &[(u16, u16)]) -> io::Result<()> {
        assert!(
            routes.len() <= ROUTES_MAX,
            "{} routes, room for {ROUTES_MAX}",
            routes.len()
        );
        // A reader sees no half-made route: the count grows last.
        for (place, &(port, proxy)) in routes.iter().enumerate() {
            self.set(ROUTES_WORD + 2 * place + 1, i64::from(proxy))?;
            self.set(ROUTES_WORD + 2 * place, i64::from(port))?;
        }
        self.set(Word::Routes as usize, routes.len() as i64)
    }

    /// Sets the wall clock this far off.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn set_wall_offset_ms(&self, offset_ms: i64) -> io::Result<()> {
        self.set(Word::WallOffsetNs as usize, offset_ms * 1_000_000)
    }

    /// Lets the wall clock gain (or lose) so many millionths from now on.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn set_wall_drift_ppm(&self, drift_ppm: i64) -> io::Result<()> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.set(
            Word::WallDriftSinceNs as usize,
            now.tv_sec * 1_000_000_000 + now.tv_nsec,
        )?;
        self.set(Word::WallDriftPpm as usize, drift_ppm)
    }

    /// Lets every sync fail with EIO, or none.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn set_sync_fails(&self, fails: bool) -> io::Result<()> {
        let errno = rustix::io::Errno::IO.raw_os_error();
        self.set(Word::SyncErrno as usize, if fails { errno.into() } else { 0 })
    }

    /// Lets every sync take this much longer.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn set_sync_delay_ms(&self, delay_ms: u64) -> io::Result<()> {
        self.set(Word::SyncDelayUs as usize, (delay_ms * 1_000) as i64)
    }

    /// Lets no file grow any more (ENOSPC), or lets them again.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn set_disk_full(&self, full: bool) -> io::Result<()> {
        let errno = rustix::io::Errno::NOSPC.raw_os_error();
        self.set(Word::GrowErrno as usize, if full { errno.into() } else { 0 })
    }

    /// Begins to note what is not synced; what went before counts as durable.
    ///
    /// # Errors
    /// The page cannot be written, or an old journal not be removed.
    pub fn begin_journal(&self) -> io::Result<()> {
        self.set(Word::Journal as usize, 1)
    }

    /// Calls that a disk fault touched, ever.
    ///
    /// # Errors
    /// The page cannot be read.
    pub fn hits(&self) -> io::Result<i64> {
        self.get(Word::Hits)
    }

    /// Turns off all but the routes. The journal's files are removed: the node must be down if it was on.
    ///
    /// # Errors
    /// The page cannot be written, or the journal not be removed.
    pub fn clear(&self) -> io::Result<()> {
        for word in [
            Word::WallOffsetNs,
            Word::WallDriftPpm,
            Word::SyncErrno,
            Word::SyncDelayUs,
            Word::GrowErrno,
        ] {
            self.set(word as usize, 0)?;
        }
        if self.get(Word::Journal)? != 0 {
            self.set(Word::Journal as usize, 0)?;
            fs::remove_dir_all(&self.journal_dir)?;
            fs::create_dir_all(&self.journal_dir)?;
        }
        Ok(())
    }
}
