//! Loading a machine from rows, and holding it against what it should stand for: the same for image
//! and snapshot.

use std::{panic, thread};

use inventory_machine::{Halves, LoadError, Loader, Machine, ROW_VERSION};

use super::{
    error::Newer,
    rows::{Standing, index_of},
};

/// Why rows are not the state they should be.
#[derive(Debug)]
pub(crate) enum LoadFailure {
    /// They are damaged; how.
    Damaged(String),
    /// They were written by a newer Holdfast, or need a newer machine.
    Newer(Newer),
}

impl From<LoadError> for LoadFailure {
    fn from(error: LoadError) -> Self {
        LoadFailure::Damaged(match error {
            LoadError::Version { version } if version > ROW_VERSION => {
                return LoadFailure::Newer(Newer::format(version, ROW_VERSION));
            }
            LoadError::Newer { version } => return LoadFailure::Newer(Newer::machine(version)),
            LoadError::Version { version } => format!("its rows have the unknown version {version}"),
            LoadError::Row { key, why } => {
                let key = key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                format!("row {key}: {why}")
            }
            LoadError::Count { expected, found } => format!("it has {found} rows instead of {expected}"),
            LoadError::Digest => "its rows do not add up to its digest".to_owned(),
        })
    }
}

/// The halves of loading a large sale, each on a core. Nobody else has the state yet, so this is no less repeatable.
#[derive(Clone, Copy)]
struct AtOnce;

impl Halves for AtOnce {
    fn both<A: Send, B: Send>(
        self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        thread::scope(|scope| {
            let other = scope.spawn(other);
            let one = one();
            let other = other.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            (one, other)
        })
    }
}

/// Ends a load: the machine must be exactly the state that `standing` speaks of.
pub(crate) fn finish(loader: Loader, standing: &Standing) -> Result<Machine, LoadFailure> {
    let machine = loader.finish_by(AtOnce)?;
    let other = |what: &str| Err(LoadFailure::Damaged(format!("its rows are {what} than it says")));
    if machine.digest() != standing.digest {
        return other("another state");
    }
    if machine.applied_index() != index_of(&standing.last_log_id).unwrap_or(0) {
        return other("the state of another log index");
    }
    if machine.founding().map_or(0, |found| found.cluster_id) != standing.cluster_id {
        return other("the state of another cluster");
    }
    Ok(machine)
}
