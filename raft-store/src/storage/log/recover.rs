//! Opening a log: replay every frame, and tell rot from a torn tail.
//!
//! A frame that is not whole is a torn tail only where a crash could have left it: in the last segment,
//! with no later header that says it was synced. There it is cut off, and zeros are written over it. Any
//! other frame that is not whole was durable once and has rotted: then the log refuses to open, because a
//! node that lost entries it acknowledged must neither vote nor count towards a majority.
//!
//! What was read is synced before anything is reported: after a kill it may be in the page cache only.
//!
//! What remains: bits that rot in the very last group of a log that was not closed, with no mark behind it
//! (a power cut right after that group), look like a torn write and are cut.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use fault_points::planted;

use super::{
    frame::{self, ALIGN_BYTES, Decoded, FORMAT, HEADER_BYTES, Head, Header, Kind},
    memory::{FrameRef, Memory},
    segment::{self, Segment},
};
use crate::{
    storage::{
        disk::{Disk, OpenMode},
        error::{Newer, StorageError},
    },
    types::LogId,
};

/// What replaying the segments gave.
pub struct Recovered {
    /// The log.
    pub memory: Memory,
    /// The segment to go on in.
    pub active: Arc<Segment>,
    /// Where its frames end.
    pub end: u64,
    /// Number of the next frame.
    pub sequence: u64,
    /// Whether the last frame is a mark that covers everything before it.
    pub marked: bool,
}

struct Replay {
    memory: Memory,
    sequence: u64,
    committed: u64,
    marked: bool,
    /// Entries up to here were in segments that are gone; they must turn out to be purged.
    gone_upto: Option<LogId>,
}

struct Loaded {
    segment: Arc<Segment>,
    bytes: Bytes,
    header: Header,
    head: Head,
}

/// Replays the log in `dir`, which has at least one segment.
///
/// # Errors
/// Damage, missing segments, a newer format, the disk's errors.
pub fn recover(
    disk: &dyn Disk,
    dir: &Path,
    numbers: &[u64],
    cache_bytes_max: usize,
) -> Result<Recovered, StorageError> {
    let mut replay = Replay {
        memory: Memory::new(cache_bytes_max),
        sequence: 0,
        committed: 0,
        marked: false,
        gone_upto: None,
    };
    let mut current = load(disk, dir, numbers[0])?;
    replay.begin(&current)?;
    for &number in &numbers[1..] {
        let next = load(disk, dir, number)?;
        let expected = current.segment.number + 1;
        if number != expected {
            let why = "the segments before and after it are there";
            return Err(StorageError::Missing {
                path: segment::segment_path(dir, expected),
                why,
            });
        }
        let end = replay.frames(&current, Some(next.head.previous_end))?;
        mend_next(&current, end, replay.sequence)?;
        replay.check_head(&next)?;
        current = next;
    }
    let end = replay.frames(&current, None)?;
    cut(&current, end)?;
    current
        .segment
        .file
        .sync()
        .map_err(StorageError::io("syncing log segment", &current.segment.path))?;
    replay.finish(dir, numbers[0])?;
    let Replay {
        memory,
        sequence,
        marked,
        ..
    } = replay;
    Ok(Recovered {
        memory,
        active: current.segment,
        end,
        sequence,
        marked,
    })
}

fn load(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Loaded, StorageError> {
    let path = segment::segment_path(dir, number);
    let file = disk
        .open(&path, OpenMode::Write)
        .map_err(StorageError::io("opening log segment", &path))?;
    let len = file
        .len()
        .map_err(StorageError::io("reading log segment", &path))?;
    let mut bytes = vec![0; len as usize];
    file.read_at(0, &mut bytes)
        .map_err(StorageError::io("reading log segment", &path))?;
    let bytes = Bytes::from(bytes);
    let header = match Header::decode(&bytes) {
        Decoded::Header(header) if header.kind == Kind::Head => header,
        Decoded::Newer(found) => {
            let newer = Newer::format(found, FORMAT);
            return Err(StorageError::Newer { path, newer });
        }
        _ => {
            return Err(StorageError::damaged(
                &path,
                0,
                "it does not begin with a head frame",
            ));
        }
    };
    let head = payload(&bytes, 0, &header).as_deref().and_then(Head::decode);
    let Some(head) = head else {
        return Err(StorageError::damaged(
            &path,
            0,
            "the payload of its head frame is not whole",
        ));
    };
    if head.segment != number {
        let what = format!("it is segment {} under the name of another", head.segment);
        return Err(StorageError::damaged(&path, 0, what));
    }
    if head.segment_bytes != len {
        let what = format!("it had {} bytes and now has {len}", head.segment_bytes);
        return Err(StorageError::damaged(&path, len.min(head.segment_bytes), what));
    }
    let segment = Arc::new(Segment {
        number,
        salt: header.salt,
        path,
        file,
        bytes: len,
    });
    Ok(Loaded {
        segment,
        bytes,
        header,
        head,
    })
}

/// A frame's payload; `None` when it is not whole.
fn payload(bytes: &Bytes, offset: usize, header: &Header) -> Option<Bytes> {
    let start = offset.checked_add(HEADER_BYTES)?;
    let end = start.checked_add(header.payload_bytes as usize)?;
    let padded_end = offset.checked_add(frame::frame_bytes(header.payload_bytes as usize))?;
    if padded_end > bytes.len() {
        return None;
    }
    let payload = bytes.slice(start..end);
    (crc32fast::hash(&payload) == header.payload_crc).then_some(payload)
}

impl Replay {
    /// Takes over where the log stood when the oldest segment began.
    fn begin(&mut self, first: &Loaded) -> Result<(), StorageError> {
        self.sequence = first.header.sequence;
        self.memory.purged = first.head.purged;
        self.memory.last = first.head.last.max(first.head.purged);
        self.memory.synced = self.memory.last;
        self.gone_upto = first.head.last;
        self.check_head(first)
    }

    /// The head of a segment must agree with what the segments before it said.
    fn check_head(&mut self, loaded: &Loaded) -> Result<(), StorageError> {
        let agrees = loaded.head.last == self.memory.last
            && loaded.head.purged == self.memory.purged
            && loaded.header.sequence == self.sequence;
        if !agrees {
            let what = format!(
                "its head goes on after {:?}, the segment before it ends at {:?}",
                loaded.head.last, self.memory.last
            );
            return Err(StorageError::damaged(&loaded.segment.path, 0, what));
        }
        self.memory
            .segments
            .insert(loaded.segment.number, loaded.segment.clone());
        self.committed = self.committed.max(loaded.header.committed);
        self.sequence += 1;
        Ok(())
    }

    /// Replays the frames after the head up to `end`, or, in the last segment, to the log's end, which it
    /// returns.
    fn frames(&mut self, loaded: &Loaded, end: Option<u64>) -> Result<u64, StorageError> {
        let Loaded { segment, bytes, .. } = loaded;
        let mut offset = frame::frame_bytes(loaded.header.payload_bytes as usize);
        self.marked = false;
        loop {
            if end == Some(offset as u64) {
                return Ok(offset as u64);
            }
            if end.is_some_and(|end| end < offset as u64) {
                let what = "a frame reaches beyond where the next segment says this one ends";
                return Err(StorageError::damaged(&segment.path, offset as u64, what));
            }
            let found = match Header::decode(bytes.get(offset..).unwrap_or_default()) {
                Decoded::Header(header) if header.salt == segment.salt => payload(bytes, offset, &header)
                    .filter(|payload| {
                        let next = offset + frame::frame_bytes(payload.len());
                        let follower = Header::decode(bytes.get(next..).unwrap_or_default());
                        !planted!("unmarked-tail-cut")
                            || end.is_some()
                            || header.kind != Kind::Entries
                            || matches!(follower, Decoded::Header(_))
                    })
                    .map(|payload| (header, payload)),
                Decoded::Newer(found) => {
                    let (path, newer) = (segment.path.clone(), Newer::format(found, FORMAT));
                    return Err(StorageError::Newer { path, newer });
                }
                _ => None,
            };
            let Some((header, payload)) = found else {
                if end.is_some() {
                    let what = "a frame before the segment's end is not whole";
                    return Err(StorageError::damaged(&segment.path, offset as u64, what));
                }
                if let Some(later) = synced_beyond(bytes, offset, segment.salt) {
                    let what = format!("a frame is not whole, and the one at byte {later} says it was");
                    return Err(StorageError::damaged(&segment.path, offset as u64, what));
                }
                if self.is_lost_mark(loaded, offset) {
                    write_empty_frame(segment, Kind::Mark, offset as u64, self.sequence)?;
                    self.sequence += 1;
                    offset += HEADER_BYTES;
                    continue;
                }
                return Ok(offset as u64);
            };
            self.apply(segment, offset as u64, &header, &payload)?;
            offset += frame::frame_bytes(payload.len());
        }
    }

    /// Whether what is not whole at `offset` is a mark with a whole frame behind it. Marks are not synced
    /// by themselves, so a power cut may keep the frame and lose the mark; nothing was in it but itself.
    fn is_lost_mark(&self, loaded: &Loaded, offset: usize) -> bool {
        let next = offset + HEADER_BYTES;
        match Header::decode(loaded.bytes.get(next..).unwrap_or_default()) {
            Decoded::Header(header) => {
                header.salt == loaded.segment.salt
                    && header.sequence == self.sequence + 1
                    && header.synced_upto == offset as u64
                    && payload(&loaded.bytes, next, &header).is_some()
            }
            _ => false,
        }
    }

    fn apply(
        &mut self,
        segment: &Segment,
        offset: u64,
        header: &Header,
        payload: &Bytes,
    ) -> Result<(), StorageError> {
        let damaged = |what: &str| Err(StorageError::damaged(&segment.path, offset, what));
        if header.sequence != self.sequence {
            return damaged("a frame's number does not follow that of the frame before");
        }
        match header.kind {
            Kind::Entries => {
                // Copied, or a few cached entries would keep the whole segment's bytes in memory.
                let payload = Bytes::copy_from_slice(payload);
                let entries = frame::decode_entries(&payload, header.entries, header.first_index);
                let Some(entries) = entries else {
                    return damaged("its entries are not well formed");
                };
                let follows = self
                    .memory
                    .next_index()
                    .is_none_or(|next| next == header.first_index);
                let Some(last) = entries.last().map(|entry| entry.log_id).filter(|_| follows) else {
                    return damaged("its entries do not follow those before");
                };
                self.memory.append(entries);
                let (first_index, entries) = (header.first_index, u64::from(header.entries));
                let frame = FrameRef {
                    first_index,
                    entries,
                    segment: segment.number,
                    offset,
                };
                self.memory.flushed(frame, last);
            }
            Kind::Truncate => {
                let Some(after) = frame::decode_log_id(payload) else {
                    return damaged("it truncates, but does not say where");
                };
                if after > self.memory.last {
                    return damaged("it truncates after an entry that is not there");
                }
                self.memory.truncate(after);
                self.gone_upto = self.gone_upto.min(after);
            }
            Kind::Purge => {
                let Some(Some(upto)) = frame::decode_log_id(payload) else {
                    return damaged("it purges, but does not say what");
                };
                self.memory.purge(upto);
            }
            Kind::Mark => {}
            Kind::Next => {
                let path = segment
                    .path
                    .with_file_name(segment::segment_path(Path::new(""), segment.number + 1).as_os_str());
                return Err(StorageError::Missing {
                    path,
                    why: "the segment before it says it goes on there",
                });
            }
            Kind::Head => return damaged("a second head in one segment"),
        }
        self.marked = header.kind == Kind::Mark && header.synced_upto == offset;
        self.committed = self.committed.max(header.committed);
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self, dir: &Path, oldest: u64) -> Result<(), StorageError> {
        let purged_index = self.memory.purged.map(|purged| purged.index);
        if self.gone_upto.map(|gone| gone.index) > purged_index {
            let path = segment::segment_path(dir, oldest.saturating_sub(1));
            return Err(StorageError::Missing {
                path,
                why: "it holds entries that were not purged",
            });
        }
        // Looked up rather than stored whole: a committed entry is in the log, or was purged.
        let committed_index = self.committed.checked_sub(1);
        self.memory.committed = match committed_index.and_then(|index| self.memory.cached_log_id(index)) {
            Some(committed) => Some(committed.max(self.memory.purged.unwrap_or(committed))),
            // Purged, or too long ago to be in memory: it is only a hint, so the safe side will do.
            None => self.memory.purged,
        };
        Ok(())
    }
}

/// Offset of a later header that says that `offset` and more was synced.
fn synced_beyond(bytes: &[u8], offset: usize, salt: u64) -> Option<usize> {
    let mut later = offset + ALIGN_BYTES;
    while later + HEADER_BYTES <= bytes.len() {
        // All zeros is the usual case, and there may be 64 MiB of them.
        if bytes[later] != 0
            && let Decoded::Header(header) = Header::decode(&bytes[later..])
            && header.salt == salt
            && header.synced_upto > offset as u64
        {
            return Some(later);
        }
        later += ALIGN_BYTES;
    }
    None
}

/// Writes zeros over a torn tail, so that nothing of it can be taken for a frame later.
fn cut(loaded: &Loaded, end: u64) -> Result<(), StorageError> {
    let Loaded { segment, bytes, .. } = loaded;
    let tail = &bytes[end as usize..];
    let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
        return Ok(());
    };
    tracing::warn!(
        segment = %segment.path.display(), offset = end, bytes = last + 1,
        "cut an unfinished write off the log's end: it was never acknowledged"
    );
    segment::fill_zeros(&*segment.file, end, end + last as u64 + 1).map_err(StorageError::io(
        "cutting the unfinished end of log segment",
        &segment.path,
    ))?;
    segment
        .file
        .sync()
        .map_err(StorageError::io("syncing log segment", &segment.path))
}

/// Writes the frame that says the log goes on in the next segment, if a crash came before it.
fn mend_next(loaded: &Loaded, end: u64, sequence: u64) -> Result<(), StorageError> {
    let Loaded { segment, bytes, .. } = loaded;
    let there = matches!(
        Header::decode(bytes.get(end as usize..).unwrap_or_default()),
        Decoded::Header(header) if header.kind == Kind::Next && header.salt == segment.salt
    );
    if there {
        return Ok(());
    }
    write_empty_frame(segment, Kind::Next, end, sequence)
}

/// Writes and syncs a frame without a payload: a mark, or the one that says the log goes on in the next
/// segment.
pub fn write_empty_frame(
    segment: &Segment,
    kind: Kind,
    offset: u64,
    sequence: u64,
) -> Result<(), StorageError> {
    let header = Header {
        kind,
        salt: segment.salt,
        sequence,
        payload_bytes: 0,
        entries: 0,
        first_index: 0,
        synced_upto: offset,
        committed: 0,
        payload_crc: crc32fast::hash(&[]),
    };
    segment
        .file
        .write_at(offset, &header.encode())
        .map_err(StorageError::io("writing to log segment", &segment.path))?;
    segment
        .file
        .sync()
        .map_err(StorageError::io("syncing log segment", &segment.path))
}
