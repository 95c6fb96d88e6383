//! Cuts the power of a killed node: of what it had not synced, its disk keeps what chance says.
//!
//! `preload.c` noted every change and, beside it, what the change destroyed. POSIX lets a crash keep any part
//! of what was not synced, so:
//! - each 4 KiB page of a file goes back to any of the versions it had since the file's last sync;
//! - a file's length goes back to any it had since then;
//! - of the names that were made, replaced and removed in a directory since that was last synced, the first
//!   few stand and the rest never happened: file systems journal names in order.
//!
//! Left out: torn pages (see [`super::damage`]), and lost syncs, against which no store can defend.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use rand::{RngExt, rngs::SmallRng};

/// What a page cache writes back at once, in bytes.
const PAGE_BYTES: u64 = 4_096;

/// Begins every record.
const MAGIC: u32 = 0x484a_524e;

/// Bytes of a record's head.
const HEAD_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Write,
    Truncate,
    Sync,
    Rename,
    Unlink,
    SyncDir,
}

/// One change, or one sync.
#[derive(Clone, Debug)]
struct Record {
    kind: Kind,
    /// Changes count up; a sync covers all that has a lower number.
    seq: u64,
    inode: u64,
    offset: u64,
    len: u64,
    old_size: u64,
    /// Number of the kept file; zero: none.
    saved: u32,
    path: PathBuf,
    path2: PathBuf,
    old: Vec<u8>,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes noted since the journal began.
    pub changes: usize,
    /// Of these, not synced.
    pub unsynced: usize,
    /// Pages that went back to an older version.
    pub pages: usize,
    /// Names that were never made, replaced or removed.
    pub names: usize,
}

/// Takes from the files in `data_dir` what chance says, as noted in `journal_dir`.
///
/// # Errors
/// Files cannot be read or written, or the journal is not one.
pub fn cut(data_dir: &Path, journal_dir: &Path, chance: &mut SmallRng) -> io::Result<Lost> {
    let mut bytes = Vec::new();
    File::open(journal_dir.join("journal"))?.read_to_end(&mut bytes)?;
    let records = parse(&bytes)?;
    let mut lost = Lost {
        changes: records.iter().filter(|record| record.is_change()).count(),
        ..Lost::default()
    };
    revert_bytes(&records, data_dir, journal_dir, chance, &mut lost)?;
    revert_names(&records, journal_dir, chance, &mut lost)?;
    Ok(lost)
}

impl Record {
    fn is_change(&self) -> bool {
        !matches!(self.kind, Kind::Sync | Kind::SyncDir)
    }
}

/// Records up to the end, or up to one that the kill tore: its change did not happen yet.
fn parse(bytes: &[u8]) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEAD_BYTES {
        let u32_at = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(0) != MAGIC {
            return Err(io::Error::other(
                "the journal of the fault library is not in its format",
            ));
        }
        let kind = match u32_at(4) {
            1 => Kind::Create,
            2 => Kind::Write,
            3 => Kind::Truncate,
            4 => Kind::Sync,
            5 => Kind::Rename,
            6 => Kind::Unlink,
            7 => Kind::SyncDir,
            other => {
                return Err(io::Error::other(format!(
                    "a change of kind {other} in the journal"
                )));
            }
        };
        let (path_len, path2_len, old_len) = (u32_at(48) as usize, u32_at(52) as usize, u32_at(56) as usize);
        let len = HEAD_BYTES + path_len + path2_len + old_len;
        if rest.len() < len {
            break;
        }
        let text = |from: usize, len: usize| {
            PathBuf::from(String::from_utf8_lossy(&rest[from..from + len]).into_owned())
        };
        records.push(Record {
            kind,
            seq: u64_at(8),
            inode: u64_at(16),
            offset: u64_at(24),
            len: u64_at(32),
            old_size: u64_at(40),
            saved: u32_at(60),
            path: text(HEAD_BYTES, path_len),
            path2: text(HEAD_BYTES + path_len, path2_len),
            old: rest[len - old_len..len].to_vec(),
        });
        rest = &rest[len..];
    }
    Ok(records)
}

fn revert_bytes(
    records: &[Record],
    data_dir: &Path,
    journal_dir: &Path,
    chance: &mut SmallRng,
    lost: &mut Lost,
) -> io::Result<()> {
    let mut synced: HashMap<u64, u64> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Sync) {
        let upto = synced.entry(record.inode).or_default();
        *upto = record.seq.max(*upto);
    }
    let mut files: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let changes = matches!(record.kind, Kind::Write | Kind::Truncate);
        if changes && record.seq > synced.get(&record.inode).copied().unwrap_or(0) {
            files.entry(record.inode).or_default().push(record);
        }
    }
    let mut paths = HashMap::new();
    // A file that was removed and is not gone yet is reached by the name that was kept.
    find_inodes(journal_dir, &mut paths)?;
    find_inodes(data_dir, &mut paths)?;
    for (inode, changes) in files {
        let Some(path) = paths.get(&inode) else { continue };
        lost.unsynced += changes.len();
        let file = File::options().read(true).write(true).open(path)?;
        revert_file(&file, &changes, chance, lost)?;
    }
    Ok(())
}

/// Takes one file back: each page to one of its versions, its length to one of its lengths.
fn revert_file(file: &File, changes: &[&Record], chance: &mut SmallRng, lost: &mut Lost) -> io::Result<()> {
    let size_now = file.metadata()?.len();
    let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, change) in changes.iter().enumerate().rev() {
        let end = change.offset + change.old.len() as u64;
        // Bytes written beyond the old end were zeros before, if the length stays.
        let end = if change.kind == Kind::Write {
            end.max(change.offset + change.len)
        } else {
            end
        };
        for page in change.offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            // The first `kept` changes of this page reached the disk.
            let kept = *versions
                .entry(page)
                .or_insert_with(|| chance.random_range(0..=changes.len()));
            if place < kept {
                continue;
            }
            let from = change.offset.max(page * PAGE_BYTES);
            let to = end.min((page + 1) * PAGE_BYTES);
            let bytes: Vec<u8> = (from..to)
                .map(|at| {
                    change
                        .old
                        .get((at - change.offset) as usize)
                        .copied()
                        .unwrap_or(0)
                })
                .collect();
            file.write_all_at(&bytes, from)?;
            lost.pages += 1;
        }
    }
    let kept = chance.random_range(0..=changes.len());
    let size = changes.get(kept).map_or(size_now, |change| change.old_size);
    file.set_len(size)
}

fn find_inodes(dir: &Path, paths: &mut HashMap<u64, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            find_inodes(&entry.path(), paths)?;
        } else {
            paths.insert(metadata.ino(), entry.path());
        }
    }
    Ok(())
}

fn revert_names(
    records: &[Record],
    journal_dir: &Path,
    chance: &mut SmallRng,
    lost: &mut Lost,
) -> io::Result<()> {
    let mut synced: HashMap<&Path, u64> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::SyncDir) {
        let upto = synced.entry(record.path.as_path()).or_default();
        *upto = record.seq.max(*upto);
    }
    let mut dirs: BTreeMap<&Path, Vec<&Record>> = BTreeMap::new();
    for record in records {
        if let (Kind::Create | Kind::Rename | Kind::Unlink, Some(dir)) = (record.kind, record.path.parent())
            && record.seq > synced.get(dir).copied().unwrap_or(0)
        {
            dirs.entry(dir).or_default().push(record);
        }
    }
    for changes in dirs.into_values() {
        lost.unsynced += changes.len();
        let kept = chance.random_range(0..=changes.len());
        for change in changes[kept..].iter().rev() {
            lost.names += 1;
            revert_name(change, journal_dir)?;
        }
    }
    Ok(())
}

fn revert_name(change: &Record, journal_dir: &Path) -> io::Result<()> {
    let saved = (change.saved != 0).then(|| journal_dir.join(format!("kept-{}", change.saved)));
    match change.kind {
        Kind::Create => absent(fs::remove_file(&change.path)),
        // One that the kill came before has nothing to take back.
        Kind::Rename if change.path.exists() => Ok(()),
        Kind::Rename => {
            absent(fs::rename(&change.path2, &change.path))?;
            saved.map_or(Ok(()), |saved| fs::hard_link(saved, &change.path2))
        }
        _ => match saved {
            Some(saved) if !change.path.exists() => fs::hard_link(saved, &change.path),
            _ => Ok(()),
        },
    }
}

/// A name that is not there needs no removing.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
