//! Files of a stopped node that are not what it wrote.
//!
//! The node must refuse to start, or come back right. One that refuses is replaced under a new id, as an
//! operator would do it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rand::{RngExt, rngs::SmallRng};

use super::{Fired, RECOVERY_MAX, membership, yes};
use crate::fleet::{Fleet, Trouble};

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: u64 = 512;

/// Tries to find a place that is worth damaging: most of a log segment is zeros that wait to be written.
const TRIES_MAX: u32 = 200;

/// Flips a few bits in one file.
pub(super) async fn flip(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    damage(fleet, victim, chance, |sector, chance| {
        for _ in 0..chance.random_range(1..4) {
            let at = chance.random_range(0..sector.len());
            sector[at] ^= 1 << chance.random_range(0..8);
        }
    })
    .await
}

/// Zeroes part of one sector.
pub(super) async fn tear(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    damage(fleet, victim, chance, |sector, chance| {
        let from = chance.random_range(0..sector.len());
        sector[from..].fill(0);
    })
    .await
}

async fn damage(
    fleet: &mut Fleet,
    victim: u64,
    chance: &mut SmallRng,
    harm: impl Fn(&mut [u8], &mut SmallRng),
) -> Result<Fired, Trouble> {
    fleet.node(victim).process.kill()?;
    let data_dir = fleet.node(victim).preload.data_dir().to_path_buf();
    let harmed = harm_one(&data_dir, chance, harm)?;
    let refusal = tokio::task::block_in_place(|| fleet.node(victim).process.try_launch())?;
    let Some(harmed) = harmed else {
        return Ok(Fired::No("no file had bytes to damage".to_owned()));
    };
    if refusal.is_none() {
        fleet.await_caught_up(victim, RECOVERY_MAX).await?;
        return yes(format!("{harmed}; it came back"));
    }
    membership::replace(fleet, victim).await?;
    yes(format!("{harmed}; it refused to start and was replaced"))
}

/// Damages a sector that is not all zeros, in a file chosen by chance. Gives its place.
fn harm_one(
    data_dir: &Path,
    chance: &mut SmallRng,
    harm: impl Fn(&mut [u8], &mut SmallRng),
) -> io::Result<Option<String>> {
    let mut files = Vec::new();
    collect(data_dir, &mut files)?;
    files.sort();
    for _ in 0..TRIES_MAX {
        let Some(path) = files.get(chance.random_range(0..files.len().max(1))) else {
            break;
        };
        let file = File::options().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            continue;
        }
        let from = chance.random_range(0..len.div_ceil(SECTOR_BYTES)) * SECTOR_BYTES;
        let mut sector = vec![0; SECTOR_BYTES.min(len - from) as usize];
        file.read_exact_at(&mut sector, from)?;
        let before = sector.clone();
        harm(&mut sector, chance);
        if before.iter().any(|&byte| byte != 0) && sector != before {
            file.write_all_at(&sector, from)?;
            let name = path.strip_prefix(data_dir).unwrap_or(path);
            return Ok(Some(format!("{} at {from}", name.display())));
        }
    }
    Ok(None)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
