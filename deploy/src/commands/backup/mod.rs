//! `backup`: the whole state in one file, and a new cluster from it.
//!
//! Beside `node`, the only command that knows the raft store: it reads the file's format.

mod save;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use raft_store::storage::backup::{self, Backup, BackupError, Manifest, Restored};
use serde_json::json;

use super::values;
use crate::{ask, context::Context, exit::Failure, output};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Save the state at one log index, while the cluster serves
    Save {
        /// File to write, or a directory in which to name one
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
        /// The node to take it from [default: the follower that is furthest ahead]
        #[arg(long, value_parser = values::endpoint, value_name = "HOST:PORT")]
        from: Option<String>,
    },
    /// Read a backup and check everything in it
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Make the data directories of a new cluster from a backup
    Restore {
        /// The backup
        file: PathBuf,
        /// Where to make them: empty or not there
        dir: PathBuf,
        /// A member of the new cluster, repeated; ids above all that the old one used
        #[arg(long = "member", value_parser = values::member, value_name = "ID=HOST:PORT", required = true)]
        members: Vec<(u64, String)>,
    },
}

/// Runs it.
pub async fn run(command: BackupCommand, context: Context) -> Result<(), Failure> {
    match command {
        BackupCommand::Save { path, from } => save::run(&context, &path, from).await,
        BackupCommand::Verify { file } => {
            let backup = checked(&file)?;
            print(&context, &file, &backup.manifest)
        }
        BackupCommand::Restore { file, dir, members } => restore(&context, &file, &dir, &members).await,
    }
}

/// Reads a backup whole; a sale that does not add up contradicts what the store promises.
fn checked(file: &Path) -> Result<Backup, Failure> {
    let backup = backup::load(file).map_err(failure)?;
    let wrong = backup.sales_wrong();
    if !wrong.is_empty() {
        return Err(Failure::Violated(format!(
            "backup {}: it is whole, but these sales do not add up: {}",
            file.display(),
            wrong.join(", ")
        )));
    }
    Ok(backup)
}

async fn restore(
    context: &Context,
    file: &Path,
    dir: &Path,
    members: &[(u64, String)],
) -> Result<(), Failure> {
    let backup = checked(file)?;
    eprintln!(
        "the state of cluster {} at log index {}, log time {} ms, becomes a new cluster of {} voters in {}",
        backup.manifest.cluster_id,
        backup.manifest.log_index,
        backup.manifest.log_time_ms,
        members.len(),
        dir.display()
    );
    if ask::dry(context, "make its data directories") {
        return Ok(());
    }
    let restored = backup::restore(backup, dir, members).await.map_err(failure)?;
    print_restored(context, &restored)
}

fn print_restored(context: &Context, restored: &Restored) -> Result<(), Failure> {
    let nodes: Vec<_> = restored
        .nodes
        .iter()
        .map(|(node_id, endpoint, dir)| json!({"node_id": node_id, "endpoint": endpoint, "data_dir": dir}))
        .collect();
    let value = json!({
        "cluster_id": restored.cluster_id,
        "incarnation": restored.incarnation,
        "log_index": restored.log_index,
        "state_hash": restored.state_hash,
        "nodes": nodes,
    });
    output::print(context.format, &value, |_| {
        let mut table = output::fields([
            ("cluster", restored.cluster_id.clone()),
            ("incarnation", restored.incarnation.to_string()),
            ("log index", output::grouped(restored.log_index)),
            ("state hash", restored.state_hash.clone()),
        ]);
        for (node_id, _, dir) in &restored.nodes {
            table.add_row([format!("node {node_id}"), dir.display().to_string()]);
        }
        table
    })?;
    eprintln!("put each directory on its machine, then start a majority:");
    for (node_id, endpoint, dir) in &restored.nodes {
        eprintln!(
            "  holdfast node --id {node_id} --listen {endpoint} --data-dir {}",
            dir.display()
        );
    }
    Ok(())
}

fn print(context: &Context, file: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let value = json!({"file": file, "manifest": manifest});
    output::print(context.format, &value, |_| {
        let number = output::grouped;
        output::fields([
            ("file", file.display().to_string()),
            ("cluster", manifest.cluster_id.clone()),
            ("incarnation", manifest.incarnation.to_string()),
            ("taken from", format!("node {}", manifest.node_id)),
            ("log index", number(manifest.log_index)),
            ("term", manifest.term.to_string()),
            ("log time", format!("{} ms", number(manifest.log_time_ms))),
            ("state hash", manifest.state_hash.clone()),
            ("contents", manifest.contents_hash.clone()),
            ("sales", number(manifest.sales)),
            ("claims", number(manifest.claims)),
            ("rows", number(manifest.rows)),
            ("bytes", number(manifest.snapshot_bytes)),
        ])
    })
}

/// How a backup's error ends the command: what protects data refuses, the rest failed.
fn failure(error: BackupError) -> Failure {
    let message = error.to_string();
    match error {
        BackupError::Damaged { .. }
        | BackupError::Newer { .. }
        | BackupError::NotEmpty { .. }
        | BackupError::Members(_) => Failure::Refused(message),
        BackupError::Disk { .. } | BackupError::Storage(_) | BackupError::Snapshot(_) => {
            Failure::Failed(message)
        }
    }
}
