//! The report of one run: a single HTML file that needs nothing else, neither network nor script.
//!
//! What was decided comes first, in a word, a shape and a colour; then the first violation with the operations
//! around it; then what the run looked like while it was on. All text goes through a template that escapes it
//! ([`maud`]): users, keys and errors come from outside, and a report must not run what a hostile one says.
//! Plots are binned, so a report of a million operations is no larger than one of ten thousand.
//!
//! A report shows and never judges: verdicts come from the checker and the properties.

mod excerpt;
mod page;
mod stock;
mod tally;
mod timeline;
pub mod verdicts;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use page::{frame, mark};
use pages::{chart, words};
pub use verdicts::{Coverage, Overall, Verdicts};

use crate::{
    history::{History, ReadError},
    properties::{Observations, Run},
};

/// The report's name in a run's directory.
pub const REPORT_FILE: &str = "report.html";

/// What a history's file is called in a run's directory, compressed or not.
const HISTORY_FILES: [&str; 3] = ["history.jsonl.zst", "history.jsonl.gz", "history.jsonl"];

/// A run's directory cannot be made into a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No history in it.
    #[error("{0} has no history ({names}); give the directory of a run", names = HISTORY_FILES.join(", "))]
    NoHistory(PathBuf),
    /// The history cannot be read.
    #[error("{0}: {1}")]
    History(PathBuf, #[source] ReadError),
    /// The verdicts cannot be read.
    #[error("{0}: {1}; the runner writes it when a run ends")]
    Verdicts(PathBuf, #[source] io::Error),
    /// The report cannot be written.
    #[error("{0}: {1}")]
    Write(PathBuf, #[source] io::Error),
}

/// The report as HTML.
pub fn html(run: &Run, verdicts: &Verdicts) -> String {
    page::page(run, verdicts).into_string()
}

/// Writes verdicts and report beside a run's history, and gives the report's path: for runners.
///
/// # Errors
/// Whatever the file system says.
pub fn write(dir: &Path, run: &Run, verdicts: &Verdicts) -> Result<PathBuf, Error> {
    let failed = |file: &str| {
        let path = dir.join(file);
        |error| Error::Write(path, error)
    };
    verdicts.write(dir).map_err(failed(verdicts::VERDICTS_FILE))?;
    std::fs::write(dir.join(REPORT_FILE), html(run, verdicts)).map_err(failed(REPORT_FILE))?;
    Ok(dir.join(REPORT_FILE))
}

/// Reads a run back from its directory.
///
/// # Errors
/// There is no run, or it cannot be read.
pub fn read(dir: &Path) -> Result<(Run, Verdicts), Error> {
    let path = HISTORY_FILES
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Error::NoHistory(dir.into()))?;
    let history = History::read_file(&path).map_err(|error| Error::History(path, error))?;
    let verdicts =
        Verdicts::read(dir).map_err(|error| Error::Verdicts(dir.join(verdicts::VERDICTS_FILE), error))?;
    Ok((Run::new(history, Observations::default()), verdicts))
}
