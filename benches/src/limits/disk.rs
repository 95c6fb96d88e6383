//! The bare disk: write some bytes behind the last, fdatasync, again.
//!
//! Into a file of zeros that is there already, as our log's segments are: the file does not grow, so a
//! sync writes data and no metadata. Nothing that promises durability on this disk can answer faster.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    failure::{Doing, Failure},
    report::{Figure, Run, id},
};

/// Bytes of the file, begun again when full: a segment of our log.
const FILE_BYTES: usize = 64 << 20;

/// A page, the smallest write; and a full entry of claims.
const WRITES: [(usize, &str); 2] = [(4 << 10, id::DISK_4_KIB), (40 << 10, id::DISK_40_KIB)];

/// Longest a sync may take to be told apart, in µs.
const SYNC_US_MAX: u64 = 60_000_000;

/// Measures both writes, half the window each.
///
/// # Errors
/// The disk's.
pub fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    let file = tempfile::tempfile_in(place).doing("making a file")?;
    let zeros = vec![0; 1 << 20];
    for offset in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset as u64).doing("filling a file")?;
    }
    file.sync_all().doing("syncing a file")?;
    for (bytes, id) in WRITES {
        let synced_us = write_and_sync(&file, bytes, window / 2).doing("writing and syncing")?;
        let ms = |quantile| synced_us.value_at_quantile(quantile) as f64 / 1_000.0;
        run.add(
            id,
            Figure {
                p50_ms: Some(ms(0.50)),
                p99_ms: Some(ms(0.99)),
                ..Figure::new(ms(0.50))
            },
        );
    }
    Ok(())
}

fn write_and_sync(file: &File, bytes: usize, window: Duration) -> io::Result<Histogram<u64>> {
    let mut synced_us = Histogram::new_with_bounds(1, SYNC_US_MAX, 3).expect("constants that fit");
    let block = vec![0x5a; bytes];
    let end = Instant::now() + window;
    let mut offset = 0;
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(synced_us);
        }
        file.write_all_at(&block, offset as u64)?;
        file.sync_data()?;
        synced_us.saturating_record(begun.elapsed().as_micros() as u64);
        offset = if offset + 2 * bytes <= FILE_BYTES {
            offset + bytes
        } else {
            0
        };
    }
}
