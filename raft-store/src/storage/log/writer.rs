//! The one writer: takes requests in order, and answers each once it is durable.
//!
//! Appends that wait together become one frame, one write and one fdatasync. A vote, truncation or purge
//! ends a group, so that everything reaches the disk in the order it was asked for. Truncating and purging
//! are frames like any other: nothing that was written is ever changed, so a crash in the middle of either
//! leaves the log before or after it. Segments go away oldest first, each unlink synced before the next.
//!
//! After the first error nothing is written again: nobody knows what a disk holds after a failed sync.
//! That request and all later ones get the error.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use fault_points::{crash_point, planted};
use openraft::storage::IOFlushed;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Shared,
    frame::{self, HEADER_BYTES, Head, Header, Kind},
    memory::FrameRef,
    recover::{self, Recovered},
    segment::{self, Segment, SpareMaker},
};
use crate::{
    storage::{
        disk::{Disk, OpenMode},
        error::StorageError,
        vote::VoteFile,
    },
    types::{Entry, LogId, TypeConfig, Vote},
};

/// Entries' bytes that are gathered into one frame before it is written. 256 KiB sync in twice the time of
/// 4 KiB; more would make the first append of a group wait longer than it saves, and reading one old
/// entry reads its whole frame.
pub const GROUP_BYTES_MAX: usize = 256 << 10;
/// Bytes at a segment's end that only its closing frames may use: a mark, and the one that names the next.
const RESERVE_BYTES: u64 = 2 * HEADER_BYTES as u64;

/// Told what became of a request.
pub type Done = oneshot::Sender<Result<(), Arc<StorageError>>>;

/// What the writer is asked.
pub enum Request {
    /// Make entries durable.
    Append {
        /// The entries: in memory already.
        entries: Vec<Entry>,
        /// Their share of the bytes that may wait.
        waiting: OwnedSemaphorePermit,
        /// openraft's callback.
        callback: IOFlushed<TypeConfig>,
    },
    /// Save a vote.
    Vote(Vote, Done),
    /// Drop entries after this one.
    Truncate(Option<LogId>, Done),
    /// Drop entries up to this one.
    Purge(LogId, Done),
    /// Write the closing mark and give the directory back.
    Close(Done),
}

/// The writer.
pub struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    active: Arc<Segment>,
    /// Where the next frame goes.
    end: u64,
    /// Up to where the active segment is durable.
    synced_upto: u64,
    /// Number of the next frame.
    sequence: u64,
    /// Whether a mark says that everything before it is durable.
    marked: bool,
    vote: VoteFile,
    spares: SpareMaker,
    frame: Vec<u8>,
    lock: Option<Box<dyn Send + Sync>>,
    ended: Option<Arc<StorageError>>,
}

impl Writer {
    /// A writer that goes on where `recovered` ends, holding the directory's `lock`.
    ///
    /// # Errors
    /// The disk's, while it writes a mark over what was recovered.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        shared: Arc<Shared>,
        recovered: Recovered,
        vote: VoteFile,
        spares: SpareMaker,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Writer, StorageError> {
        *shared.memory() = recovered.memory;
        let mut writer = Writer {
            disk,
            dir,
            shared,
            active: recovered.active,
            end: recovered.end,
            synced_upto: recovered.end,
            sequence: recovered.sequence,
            marked: recovered.marked,
            vote,
            spares,
            frame: Vec::new(),
            lock: Some(lock),
            ended: None,
        };
        writer.shared.memory().vote = writer.vote.vote();
        writer.remove_unneeded_segments()?;
        if !writer.marked && writer.has_room(RESERVE_BYTES) {
            writer.write_mark()?;
            writer.sync()?;
        }
        writer.spares.prepare();
        Ok(writer)
    }

    /// Serves requests until every sender is gone, then closes. Blocks its thread.
    pub fn run_on_thread(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while requests.blocking_recv_many(&mut batch, super::REQUESTS_WAITING_MAX) > 0 {
            self.serve(&mut batch, requests.is_empty());
        }
        self.finish();
    }

    /// The same as a task: a simulation's time passes by `sync_latency` for every batch of requests.
    pub async fn run_as_task(mut self, mut requests: mpsc::Receiver<Request>, sync_latency: Duration) {
        let mut batch = Vec::new();
        while requests.recv_many(&mut batch, super::REQUESTS_WAITING_MAX).await > 0 {
            if !sync_latency.is_zero() {
                tokio::time::sleep(sync_latency).await;
            }
            self.serve(&mut batch, requests.is_empty());
        }
        self.finish();
    }

    fn serve(&mut self, batch: &mut Vec<Request>, idle: bool) {
        let mut group = Group::default();
        for request in batch.drain(..) {
            match request {
                Request::Append {
                    entries,
                    waiting,
                    callback,
                } => {
                    let bytes = entries.iter().map(frame::entry_bytes).sum::<usize>();
                    if group.bytes + bytes > GROUP_BYTES_MAX {
                        self.flush(std::mem::take(&mut group));
                    }
                    group.bytes += bytes;
                    group.entries.extend(entries);
                    group.callbacks.push((callback, waiting));
                }
                other => {
                    self.flush(std::mem::take(&mut group));
                    self.serve_one(other);
                }
            }
        }
        self.flush(group);
        if idle {
            // Nobody waits for a mark; its failure is the store's, and is published as such.
            let _ = self.attempt(Writer::mark_when_idle);
        }
    }

    fn serve_one(&mut self, request: Request) {
        let (result, done) = match request {
            Request::Append { .. } => unreachable!("appends are gathered into groups"),
            Request::Vote(vote, done) => (self.attempt(|writer| writer.save_vote(vote)), done),
            Request::Truncate(after, done) => (self.attempt(|writer| writer.truncate(after)), done),
            Request::Purge(upto, done) => (self.attempt(|writer| writer.purge(upto)), done),
            Request::Close(done) => (self.close(), done),
        };
        // Whoever asked may have stopped waiting.
        let _ = done.send(result);
    }

    /// Runs a step unless an earlier one failed; the first failure is the last step ever run.
    fn attempt(
        &mut self,
        step: impl FnOnce(&mut Writer) -> Result<(), StorageError>,
    ) -> Result<(), Arc<StorageError>> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        step(self).map_err(|error| {
            let error = Arc::new(error);
            tracing::error!(%error, "the log can no longer be written");
            self.ended = Some(error.clone());
            self.shared.fail(error.clone());
            error
        })
    }

    fn flush(&mut self, group: Group) {
        if group.callbacks.is_empty() {
            return;
        }
        metrics::histogram!("holdfast_wal_group_appends").record(group.callbacks.len() as f64);
        let result = self.attempt(|writer| writer.write_entries(&group.entries));
        for (callback, waiting) in group.callbacks {
            drop(waiting);
            callback.io_completed(result.clone().map_err(super::to_io));
        }
        crash_point!("log-append-reported");
    }

    fn write_entries(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let first_index = first.log_id.index;
        crash_point!("log-append-begins");
        let offset = self.write_frame(Kind::Entries, entries.len(), first_index, |payload| {
            entries
                .iter()
                .for_each(|entry| frame::encode_entry(entry, payload));
        })?;
        crash_point!("log-append-written");
        self.sync()?;
        crash_point!("log-append-synced");
        let (segment, count) = (self.active.number, entries.len() as u64);
        let frame = FrameRef {
            first_index,
            entries: count,
            segment,
            offset,
        };
        self.shared.memory().flushed(frame, last.log_id);
        self.shared.publish_synced();
        Ok(())
    }

    fn save_vote(&mut self, vote: Vote) -> Result<(), StorageError> {
        crash_point!("vote-begins");
        self.vote.save(vote)?;
        crash_point!("vote-saved");
        self.shared.memory().vote = Some(vote);
        Ok(())
    }

    fn truncate(&mut self, after: Option<LogId>) -> Result<(), StorageError> {
        let last = self.shared.memory().last;
        if after.map(|after| after.index) >= last.map(|last| last.index) {
            return Ok(());
        }
        crash_point!("log-truncate-begins");
        if !planted!("truncation-not-logged") {
            self.write_frame(Kind::Truncate, 0, 0, |payload| {
                frame::encode_log_id(after, payload)
            })?;
        }
        crash_point!("log-truncate-written");
        self.sync()?;
        crash_point!("log-truncate-synced");
        self.shared.memory().truncate(after);
        self.shared.publish_synced();
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let purged = self.shared.memory().purged;
        if purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        crash_point!("log-purge-begins");
        self.write_frame(Kind::Purge, 0, 0, |payload| {
            frame::encode_log_id(Some(upto), payload)
        })?;
        crash_point!("log-purge-written");
        self.sync()?;
        crash_point!("log-purge-synced");
        self.shared.memory().purge(upto);
        self.shared.publish_synced();
        self.remove_unneeded_segments()
    }

    /// Unlinks whole segments that hold nothing of the log any more. One at a time and synced, so that a
    /// crash never leaves a hole between those that stay.
    fn remove_unneeded_segments(&mut self) -> Result<(), StorageError> {
        loop {
            let segment = {
                let memory = self.shared.memory();
                let needed = memory.oldest_needed_segment().unwrap_or(self.active.number);
                match memory.segments.first_key_value() {
                    Some((number, segment)) if *number < needed => segment.clone(),
                    _ => return Ok(()),
                }
            };
            self.disk
                .remove(&segment.path)
                .map_err(StorageError::io("removing purged log segment", &segment.path))?;
            crash_point!("segment-unlinked");
            self.disk
                .sync_dir(&self.dir)
                .map_err(StorageError::io("syncing directory", &self.dir))?;
            crash_point!("segment-gone");
            self.shared.memory().segments.remove(&segment.number);
        }
    }

    /// Writes one frame, in a new segment if this one is full; returns its offset. Not synced yet.
    fn write_frame(
        &mut self,
        kind: Kind,
        entries: usize,
        first_index: u64,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, StorageError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
        payload(&mut frame);
        let payload_bytes = frame.len() - HEADER_BYTES;
        let bytes = frame::frame_bytes(payload_bytes) as u64;
        if kind != Kind::Mark && !self.has_room(bytes + RESERVE_BYTES) {
            self.roll(bytes)?;
        }
        let header = Header {
            kind,
            salt: self.active.salt,
            sequence: self.sequence,
            payload_bytes: u32::try_from(payload_bytes).expect("a group of entries is far below 4 GiB"),
            entries: u32::try_from(entries).expect("a group has far fewer than 2^32 entries"),
            first_index,
            synced_upto: self.synced_upto,
            committed: self
                .shared
                .memory()
                .committed_field(kind, first_index + entries as u64),
            payload_crc: crc32fast::hash(&frame[HEADER_BYTES..]),
        };
        frame.resize(bytes as usize, 0);
        frame[..HEADER_BYTES].copy_from_slice(&header.encode());
        let offset = self.end;
        self.active
            .file
            .write_at(offset, &frame)
            .map_err(StorageError::io("writing to log segment", &self.active.path))?;
        self.end += bytes;
        self.sequence += 1;
        self.marked = false;
        self.frame = frame;
        metrics::counter!("holdfast_wal_written_bytes_total").increment(bytes);
        Ok(offset)
    }

    fn write_mark(&mut self) -> Result<(), StorageError> {
        self.write_frame(Kind::Mark, 0, 0, |_| ())?;
        self.marked = true;
        Ok(())
    }

    /// After a sync, with nothing more to do: says so in the file. It is not synced itself; but after a
    /// kill, or once the kernel has written it back, even rot in the last group shows.
    fn mark_when_idle(&mut self) -> Result<(), StorageError> {
        if self.marked || self.lock.is_none() || !self.has_room(HEADER_BYTES as u64 + RESERVE_BYTES) {
            return Ok(());
        }
        self.write_mark()?;
        crash_point!("log-mark-written");
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if planted!("log-sync-skipped") {
            return Ok(());
        }
        let started = Instant::now();
        self.active
            .file
            .sync()
            .map_err(StorageError::io("syncing log segment", &self.active.path))?;
        metrics::histogram!("holdfast_wal_fsync_duration_seconds").record(started.elapsed().as_secs_f64());
        self.synced_upto = self.end;
        Ok(())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.end + bytes <= self.active.bytes
    }

    /// Goes on in a new segment that has room for a frame of `frame_bytes`.
    fn roll(&mut self, frame_bytes: u64) -> Result<(), StorageError> {
        if self.synced_upto < self.end {
            self.sync()?;
        }
        let (last, purged, committed) = {
            let memory = self.shared.memory();
            (
                memory.synced,
                memory.purged,
                memory.committed_field(Kind::Head, 0),
            )
        };
        let (segment, previous_end) = (self.active.number + 1, self.end);
        let mut head = Head {
            segment,
            segment_bytes: 0,
            previous_end,
            last,
            purged,
        };
        let next = begin_segment(
            &*self.disk,
            &self.dir,
            &mut head,
            self.sequence,
            committed,
            |bytes| self.spares.take(bytes + frame_bytes + RESERVE_BYTES),
        )?;
        recover::write_empty_frame(&self.active, Kind::Next, self.end, self.sequence)?;
        crash_point!("segment-followed");
        self.sequence += 1;
        self.end = head_frame_bytes(&head);
        self.synced_upto = self.end;
        self.active = next.clone();
        self.shared.memory().segments.insert(next.number, next);
        self.spares.prepare();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Arc<StorageError>> {
        let result = self.attempt(|writer| {
            if !writer.marked {
                writer.write_mark()?;
            }
            if writer.synced_upto < writer.end {
                writer.sync()
            } else {
                Ok(())
            }
        });
        // The spare's thread first: it works in the directory that the lock guards.
        self.spares.stop();
        self.lock = None;
        if self.ended.is_none() {
            let closed = Arc::new(StorageError::Closed {
                path: self.dir.clone(),
            });
            self.ended = Some(closed.clone());
            self.shared.close(closed);
        }
        result
    }

    fn finish(mut self) {
        if self.lock.is_some()
            && let Err(error) = self.close()
        {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A panic is our mistake; the node must not go on as if its log were being written.
        if std::thread::panicking() {
            let gone = io::Error::other("the log's writer panicked");
            self.shared
                .fail(Arc::new(StorageError::io("writing log", &self.dir)(gone)));
        }
    }
}

#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    bytes: usize,
    callbacks: Vec<(IOFlushed<TypeConfig>, OwnedSemaphorePermit)>,
}

fn head_frame_bytes(head: &Head) -> u64 {
    let mut payload = Vec::new();
    head.encode(&mut payload);
    frame::frame_bytes(payload.len()) as u64
}

/// Turns a spare file into a segment: head frame, sync, rename, directory sync. Sets the head's length.
pub fn begin_segment(
    disk: &dyn Disk,
    dir: &std::path::Path,
    head: &mut Head,
    sequence: u64,
    committed: u64,
    spare: impl FnOnce(u64) -> Result<segment::Spare, StorageError>,
) -> Result<Arc<Segment>, StorageError> {
    let spare = spare(head_frame_bytes(head))?;
    head.segment_bytes = spare.bytes;
    let mut payload = Vec::new();
    head.encode(&mut payload);
    let header = Header {
        kind: Kind::Head,
        salt: crate::runtime::random_u64(),
        sequence,
        payload_bytes: payload.len() as u32,
        entries: 0,
        first_index: 0,
        synced_upto: 0,
        committed,
        payload_crc: crc32fast::hash(&payload),
    };
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(&payload);
    let (spare_path, path) = (segment::spare_path(dir), segment::segment_path(dir, head.segment));
    spare
        .file
        .write_at(0, &frame)
        .map_err(StorageError::io("writing to log segment", &spare_path))?;
    crash_point!("segment-head-written");
    spare
        .file
        .sync()
        .map_err(StorageError::io("syncing log segment", &spare_path))?;
    crash_point!("segment-head-synced");
    disk.rename(&spare_path, &path)
        .map_err(StorageError::io("naming log segment", &path))?;
    crash_point!("segment-named");
    disk.sync_dir(dir)
        .map_err(StorageError::io("syncing directory", dir))?;
    crash_point!("segment-begun");
    Ok(Arc::new(Segment {
        number: head.segment,
        salt: header.salt,
        file: disk
            .open(&path, OpenMode::Write)
            .map_err(StorageError::io("opening log segment", &path))?,
        path,
        bytes: spare.bytes,
    }))
}
