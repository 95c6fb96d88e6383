//! What a directory and a file hold: now, durably, and in between; and what of it a crash leaves.

use std::{collections::BTreeMap, path::PathBuf};

use rand::{RngExt, rngs::SmallRng};

use super::SECTOR_BYTES;

/// A directory: names now, names that are durable, and what happened in between.
#[derive(Clone, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<PathBuf, u64>,
    pub(super) durable: BTreeMap<PathBuf, u64>,
    pub(super) unsynced: Vec<DirChange>,
}

#[derive(Clone)]
pub(super) enum DirChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

/// A file: content now, and for each sector and the length what it was since the last sync, the durable
/// version first. A sector without such a list is durable as it is.
#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) now: Vec<u8>,
    pub(super) handles: usize,
    pub(super) older_sectors: BTreeMap<usize, Vec<Vec<u8>>>,
    pub(super) older_lens: Vec<usize>,
}

/// How much of what was not synced a crash leaves.
#[derive(Clone, Copy)]
pub(super) enum Survival {
    Nothing,
    Everything,
    Prefix,
    AnySubset,
}

impl Dir {
    pub(super) fn survivor(&self, survival: Survival, random: &mut SmallRng) -> BTreeMap<PathBuf, u64> {
        let mut names = self.durable.clone();
        let kept = random.random_range(0..=self.unsynced.len());
        for (place, change) in self.unsynced.iter().enumerate() {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Prefix => place < kept,
                Survival::AnySubset => random.random_bool(0.5),
            };
            if survives {
                change.apply(&mut names);
            }
        }
        names
    }
}

impl DirChange {
    pub(super) fn file(&self) -> Option<u64> {
        match self {
            DirChange::Link(_, id) | DirChange::Rename(_, _, id) => Some(*id),
            DirChange::Unlink(_) => None,
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            DirChange::Link(name, id) => {
                names.insert(name.clone(), *id);
            }
            DirChange::Unlink(name) => {
                names.remove(name);
            }
            DirChange::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl File {
    fn sector(&self, sector: usize) -> Vec<u8> {
        let start = (sector * SECTOR_BYTES).min(self.now.len());
        let end = (start + SECTOR_BYTES).min(self.now.len());
        let mut bytes = self.now[start..end].to_vec();
        bytes.resize(SECTOR_BYTES, 0);
        bytes
    }

    /// Keeps the versions of the sectors that a change of `start..end` replaces.
    pub(super) fn remember(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let bytes = self.sector(sector);
            self.older_sectors.entry(sector).or_default().push(bytes);
        }
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        if bytes != self.now.len() {
            self.older_lens.push(self.now.len());
            self.remember(bytes.min(self.now.len()), bytes.max(self.now.len()));
            self.now.resize(bytes, 0);
        }
    }

    pub(super) fn survivor(&self, survival: Survival, random: &mut SmallRng) -> File {
        let mut now = self.now.clone();
        let kept = random.random_range(0..=self.older_sectors.len());
        for (place, (sector, older)) in self.older_sectors.iter().enumerate() {
            let version = match survival {
                Survival::Nothing => 0,
                Survival::Everything => older.len(),
                Survival::Prefix if place < kept => older.len(),
                Survival::Prefix => 0,
                Survival::AnySubset => random.random_range(0..=older.len()),
            };
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(now.len());
            if start >= end {
                continue;
            }
            let newer = self.sector(*sector);
            let bytes = older.get(version).unwrap_or(&newer);
            now[start..end].copy_from_slice(&bytes[..end - start]);
            // Some disks tear within a sector: the front of the next version, the rest of this one.
            if matches!(survival, Survival::AnySubset) && random.random_bool(0.25) {
                let next = older.get(version + 1).unwrap_or(&newer);
                // Where the two differ, or the tear would not show.
                let differs = |at: &usize| bytes[*at] != next[*at];
                let first = (0..end - start).find(differs).unwrap_or(0);
                let last = (0..end - start).rfind(differs).unwrap_or(0);
                let torn = random.random_range(first..=last);
                now[start..start + torn].copy_from_slice(&next[..torn]);
            }
        }
        let len_version = match survival {
            Survival::Nothing => 0,
            Survival::Everything => self.older_lens.len(),
            Survival::Prefix | Survival::AnySubset => random.random_range(0..=self.older_lens.len()),
        };
        if let Some(len) = self.older_lens.get(len_version) {
            now.resize(*len, 0);
        }
        File {
            now,
            ..File::default()
        }
    }
}
