//! `backup save`: from a node into a file that is named only when it is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use client::{NodeStatus, backup::BackupDownload};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    ask,
    commands::cluster::leader_view,
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
};

/// Only the owner may read a backup: it holds orders, and the secret that keys are known by.
const MODE: u32 = 0o600;

/// Takes a backup, checks it, and gives it its name.
pub async fn run(context: &Context, path: &Path, from: Option<String>) -> Result<(), Failure> {
    let connection = context.connect()?;
    let source = match from {
        // Somebody chose it, perhaps because nobody leads: what it has is what there is.
        Some(endpoint) => Source {
            endpoint,
            log_index_min: 0,
        },
        None => Source::choose(&connection).await?,
    };
    let words = format!("save a backup from {} to {}", source.endpoint, path.display());
    if ask::dry(context, &words) {
        return Ok(());
    }
    let answer = connection
        .client
        .cluster()
        .backup(&source.endpoint, source.log_index_min)
        .await;
    let mut download = connection.told(Subject::membership(words), answer).await?;
    let file = name(path, download.log_index);
    if file.exists() {
        return Err(Failure::Refused(format!(
            "{} is there already; move it away or choose another name",
            file.display()
        )));
    }
    let partial = Partial::new(&file)?;
    tokio::select! {
        received = receive(&mut download, &partial) => received?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::Failed("stopped; nothing was saved: run it again".into()));
        }
    }
    let backup = super::checked(&partial.path)?;
    partial.keep(&file)?;
    super::print(context, &file, &backup.manifest)
}

/// Where a backup comes from.
struct Source {
    endpoint: String,
    /// It must contain all that was acknowledged before it was begun.
    log_index_min: u64,
}

impl Source {
    /// The follower that is furthest ahead: it delays nobody when writing the backup slows it down, since
    /// the leader and the others are a quorum. The leader, where there is no other.
    async fn choose(connection: &Connection) -> Result<Source, Failure> {
        let views = connection.client.cluster().status_all().await;
        let Some(leader) = leader_view(&views) else {
            return Err(Failure::NoQuorum(
                "nobody leads, so nobody knows what is committed; bring a majority of the voters back, or save what \
                 one node has with --from HOST:PORT"
                    .into(),
            ));
        };
        let members: Vec<u64> = leader.members.iter().map(|member| member.node_id).collect();
        let answering = views
            .iter()
            .filter_map(|(endpoint, answer)| Some((endpoint, answer.as_ref().ok()?)));
        let source = answering
            .filter(|(_, status)| members.contains(&status.node_id) && status.cluster_id == leader.cluster_id)
            .max_by_key(|(_, status)| preference(status, leader));
        let (endpoint, _) = source.expect("the leader is one of those that answer");
        Ok(Source {
            endpoint: endpoint.clone(),
            log_index_min: leader.committed_index,
        })
    }
}

/// Anybody before the leader, then who has applied most.
fn preference(status: &NodeStatus, leader: &NodeStatus) -> (bool, u64) {
    (status.node_id != leader.node_id, status.applied_index)
}

/// The file's name: as given, or one that says what is in it.
fn name(path: &Path, log_index: u64) -> PathBuf {
    match path.is_dir() {
        true => path.join(format!("holdfast-{log_index}.backup")),
        false => path.to_path_buf(),
    }
}

async fn receive(download: &mut BackupDownload, partial: &Partial) -> Result<(), Failure> {
    let bar = ProgressBar::new(download.bytes_total).with_style(
        ProgressStyle::with_template("saving {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
            .expect("the template is a constant")
            .progress_chars("━━─"),
    );
    let mut file = &partial.file;
    loop {
        let part = download.next().await;
        let part = part.inspect_err(|_| output::leave_standing(&bar));
        let part = part
            .map_err(|error| Failure::Failed(format!("{error}; nothing was saved: run the command again")))?;
        let Some(bytes) = part else { break };
        file.write_all(&bytes).map_err(|error| partial.failed(&error))?;
        bar.inc(bytes.len() as u64);
    }
    bar.finish_and_clear();
    if bar.position() != download.bytes_total {
        return Err(Failure::Failed(format!(
            "the node sent {} of {} bytes; nothing was saved: run the command again",
            bar.position(),
            download.bytes_total
        )));
    }
    file.sync_all().map_err(|error| partial.failed(&error))
}

/// A file that goes away unless it is kept.
struct Partial {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Partial {
    fn new(target: &Path) -> Result<Partial, Failure> {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        // One that a killed run left behind is of no use.
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&path);
        let file = opened.map_err(|error| {
            Failure::Failed(format!(
                "{}: {error}; choose a place that can be written",
                path.display()
            ))
        })?;
        Ok(Partial {
            path,
            file,
            kept: false,
        })
    }

    fn keep(mut self, target: &Path) -> Result<(), Failure> {
        let named = fs::rename(&self.path, target).and_then(|()| {
            let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        });
        named.map_err(|error| self.failed(&error))?;
        self.kept = true;
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}; nothing was saved", self.path.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // What went wrong was said already; the next run would overwrite it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_come_before_the_leader_and_the_newest_first() {
        let node = |node_id, applied_index| NodeStatus {
            node_id,
            applied_index,
            ..NodeStatus::default()
        };
        let leader = node(1, 90);
        let mut nodes = [node(1, 90), node(2, 80), node(3, 85)];
        nodes.sort_by_key(|status| preference(status, &leader));
        let order: Vec<u64> = nodes.iter().map(|status| status.node_id).collect();
        assert_eq!(order, [1, 2, 3], "the last is chosen");
    }

    #[test]
    fn a_directory_gets_a_name_that_says_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(name(dir.path(), 17), dir.path().join("holdfast-17.backup"));
        let file = dir.path().join("mine");
        assert_eq!(name(&file, 17), file);
    }
}
