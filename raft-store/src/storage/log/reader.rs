//! Reading entries: from memory if they are recent, else from their frames, checked again on the way.
//!
//! Frames are never changed once written, and a segment's handle stays readable after its unlink; so a
//! read sees the log as it was when it began, whatever is truncated or purged meanwhile. A gap or an
//! unreadable frame is an error and ends the store, never an empty answer.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use openraft::{OptionalSend, RaftLogReader};

use super::{
    LogStore,
    frame::{self, Decoded, HEADER_BYTES, Header, Kind},
    memory::{FrameRef, ReadPlan},
    segment::Segment,
    to_io,
};
use crate::{
    seams::Workers,
    storage::error::StorageError,
    types::{Entry, TypeConfig, Vote},
};

/// Entries that one message to a follower carries at most: openraft's own default for a payload.
pub const READ_ENTRIES_MAX: usize = 300;
/// Bytes of entries that one message to a follower carries at most, but for the first entry: above about
/// 1 MiB a message takes longer than a heartbeat on a slow link.
pub const READ_BYTES_MAX: usize = 1 << 20;

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start..end, usize::MAX, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.check().map_err(to_io)?;
        Ok(self.shared().memory().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(start..end, READ_ENTRIES_MAX, READ_BYTES_MAX).await?;
        if entries.is_empty() && start < end {
            // Whoever asks knows that the entries are there: an empty answer would hide a hole.
            let dir = self.shared().dir().to_path_buf();
            let wanted = self.shared().memory().first_index().unwrap_or(end);
            return Err(StorageError::Gap {
                path: dir,
                found: start,
                wanted,
            }
            .into());
        }
        Ok(entries)
    }
}

impl LogStore {
    /// Entries from `start` on: some while there are any, none at the log's end. Blocks.
    pub(crate) fn read_blocking(&self, start: u64) -> Result<Vec<Entry>, StorageError> {
        let end = start.saturating_add(READ_ENTRIES_MAX as u64);
        let ReadPlan {
            from_frames,
            frames,
            cached,
        } = self.shared().memory().plan(start..end);
        let mut limit = Limit {
            bytes: READ_BYTES_MAX,
            reached: false,
        };
        let mut entries = read_frames(from_frames, &frames, &mut limit)?;
        if !limit.reached {
            entries.extend(cached);
        }
        Ok(entries)
    }

    async fn read(
        &self,
        range: Range<u64>,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, io::Error> {
        self.check().map_err(to_io)?;
        // Nothing beyond the limit is even cloned.
        let end = range.end.min(
            range
                .start
                .saturating_add(u64::try_from(entries_max).unwrap_or(u64::MAX)),
        );
        let ReadPlan {
            from_frames,
            frames,
            cached,
        } = self.shared().memory().plan(range.start..end);
        let mut limit = Limit {
            bytes: bytes_max,
            reached: false,
        };
        let mut entries = Vec::new();
        if !frames.is_empty() || !from_frames.is_empty() {
            let read = move || {
                let mut limit = limit;
                read_frames(from_frames, &frames, &mut limit).map(|entries| (entries, limit))
            };
            let result = match self.workers() {
                // Old entries may be on the disk only, and reading them may wait for it.
                Workers::Threads => tokio::task::spawn_blocking(read)
                    .await
                    .map_err(io::Error::other)?,
                Workers::Tasks => read(),
            };
            (entries, limit) = result.map_err(|error| to_io(self.shared().fail(Arc::new(error))))?;
        }
        for entry in cached {
            if !limit.takes(&entry, entries.is_empty()) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[derive(Clone, Copy)]
struct Limit {
    bytes: usize,
    reached: bool,
}

impl Limit {
    /// Whether an entry still fits; the first always does.
    fn takes(&mut self, entry: &Entry, first: bool) -> bool {
        let bytes = frame::entry_bytes(entry);
        self.reached = self.reached || (bytes > self.bytes && !first);
        self.bytes = self.bytes.saturating_sub(bytes);
        !self.reached
    }
}

fn read_frames(
    indices: Range<u64>,
    frames: &[(FrameRef, Arc<Segment>)],
    limit: &mut Limit,
) -> Result<Vec<Entry>, StorageError> {
    let mut entries = Vec::new();
    let mut next = indices.start;
    for (frame, segment) in frames {
        for entry in read_frame(frame, segment)?
            .into_iter()
            .take(frame.entries as usize)
        {
            if entry.log_id.index < next || entry.log_id.index >= indices.end {
                continue;
            }
            if entry.log_id.index != next {
                break;
            }
            if !limit.takes(&entry, entries.is_empty()) {
                return Ok(entries);
            }
            entries.push(entry);
            next += 1;
        }
    }
    if next < indices.end {
        let path = frames
            .first()
            .map(|(_, segment)| segment.path.clone())
            .unwrap_or_default();
        return Err(StorageError::damaged(
            &path,
            0,
            format!("entry {next} is not in the log's frames"),
        ));
    }
    Ok(entries)
}

fn read_frame(frame: &FrameRef, segment: &Segment) -> Result<Vec<Entry>, StorageError> {
    let read = |offset, into: &mut [u8]| {
        segment.file.read_at(offset, into).map_err(StorageError::io(
            "reading entries from log segment",
            &segment.path,
        ))
    };
    let damaged = |what| StorageError::damaged(&segment.path, frame.offset, what);
    let mut bytes = [0; HEADER_BYTES];
    read(frame.offset, &mut bytes)?;
    let header = match Header::decode(&bytes) {
        Decoded::Header(header)
            if header.kind == Kind::Entries
                && header.salt == segment.salt
                && header.first_index == frame.first_index =>
        {
            header
        }
        _ => return Err(damaged("a frame that was whole no longer is")),
    };
    let mut payload = vec![0; header.payload_bytes as usize];
    read(frame.offset + HEADER_BYTES as u64, &mut payload)?;
    if crc32fast::hash(&payload) != header.payload_crc {
        return Err(damaged("the entries of a frame no longer fit their checksum"));
    }
    frame::decode_entries(&Bytes::from(payload), header.entries, header.first_index)
        .ok_or_else(|| damaged("the entries of a frame are not well formed"))
}
