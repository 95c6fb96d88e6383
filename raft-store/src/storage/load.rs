//! Loading a machine from rows, and holding it against what it should stand for: the same for image
//! and snapshot.

use inventory_machine::{LoadError, Loader, Machine, ROW_VERSION};

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

/// Ends a load: the machine must be exactly the state that `standing` speaks of.
pub(crate) fn finish(loader: Loader, standing: &Standing) -> Result<Machine, LoadFailure> {
    let machine = loader.finish()?;
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
