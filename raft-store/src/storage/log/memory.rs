//! What is known of the log in memory: where its frames lie, its newest entries, how far it is durable.
//!
//! Entries go in here the moment they are appended and can be read from then on; those not yet synced
//! stay, and of the synced ones as many as fit a byte limit. Older ones are found through [`FrameRef`].
//! Replaying the segments at open and running the log change this through the same methods.
//!
//! Invariants: cached entries are contiguous and end at the last index; frames ascend, hold what is synced
//! and still needed, and leave no gap below the cache.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use super::{
    frame::{self, Kind},
    segment::Segment,
};
use crate::types::{Entry, LogId, Vote};

/// Where a frame with entries lies.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef {
    /// Index of its first entry.
    pub first_index: u64,
    /// Entries in it that are still part of the log: fewer than it holds after a truncation.
    pub entries: u64,
    /// Number of its segment.
    pub segment: u64,
    /// Offset in the segment, in bytes.
    pub offset: u64,
}

impl FrameRef {
    /// The index after its last entry.
    pub fn end(&self) -> u64 {
        self.first_index + self.entries
    }
}

/// What to read for a range: frames, oldest first, and then entries that are in memory.
pub struct ReadPlan {
    /// Indices to take from the frames.
    pub from_frames: Range<u64>,
    /// The frames that hold them.
    pub frames: Vec<(FrameRef, Arc<Segment>)>,
    /// The entries after those.
    pub cached: Vec<Entry>,
}

/// The log in memory.
pub struct Memory {
    /// Last purged id.
    pub purged: Option<LogId>,
    /// Last id, durable or not.
    pub last: Option<LogId>,
    /// Last durable id.
    pub synced: Option<LogId>,
    /// Last committed id that openraft told, or found at open.
    pub committed: Option<LogId>,
    /// The vote, durable.
    pub vote: Option<Vote>,
    /// Open segments by number.
    pub segments: BTreeMap<u64, Arc<Segment>>,
    frames: VecDeque<FrameRef>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
}

impl Memory {
    /// An empty log that keeps up to `cache_bytes_max` bytes of synced entries in memory.
    pub fn new(cache_bytes_max: usize) -> Memory {
        Memory {
            purged: None,
            last: None,
            synced: None,
            committed: None,
            vote: None,
            segments: BTreeMap::new(),
            frames: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
        }
    }

    /// The index that must come next; `None` when any may, in a log that never had an entry.
    pub fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// Index of the first entry; `None` when there is no entry.
    pub fn first_index(&self) -> Option<u64> {
        let first = match self.frames.front() {
            Some(frame) => frame.first_index,
            None => self.cache.front()?.log_id.index,
        };
        Some(first.max(self.purged.map_or(0, |purged| purged.index + 1)))
    }

    /// Adds entries, not yet synced. Their order was checked.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            debug_assert!(self.next_index().is_none_or(|next| next == entry.log_id.index));
            self.last = Some(entry.log_id);
            self.cache_bytes += frame::entry_bytes(&entry);
            self.cache.push_back(entry);
        }
    }

    /// The entries of `frame`, up to `synced`, are durable.
    pub fn flushed(&mut self, frame: FrameRef, synced: LogId) {
        self.frames.push_back(frame);
        self.synced = Some(synced);
        while self.cache_bytes > self.cache_bytes_max
            && self
                .cache
                .front()
                .is_some_and(|entry| entry.log_id.index <= synced.index)
        {
            self.drop_oldest();
        }
    }

    /// Forgets entries after `after`, which is in the log or its purged id.
    pub fn truncate(&mut self, after: Option<LogId>) {
        let after = after.max(self.purged);
        let end = after.map_or(0, |after| after.index + 1);
        while self.cache.back().is_some_and(|entry| entry.log_id.index >= end) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= frame::entry_bytes(&entry);
            }
        }
        self.frames
            .truncate(self.frames.partition_point(|frame| frame.first_index < end));
        if let Some(frame) = self.frames.back_mut() {
            frame.entries = frame.entries.min(end - frame.first_index);
        }
        self.last = after;
        self.synced = after;
    }

    /// Forgets entries up to `upto`, which may lie beyond the log's end.
    pub fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        while self
            .cache
            .front()
            .is_some_and(|entry| entry.log_id.index <= upto.index)
        {
            self.drop_oldest();
        }
        while self
            .frames
            .front()
            .is_some_and(|frame| frame.end() <= upto.index + 1)
        {
            self.frames.pop_front();
        }
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
            self.synced = Some(upto);
        }
    }

    /// Number of the oldest segment that still holds entries of the log; `None` when none does.
    pub fn oldest_needed_segment(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.segment)
    }

    /// Plans reading `range`, as far as the log has it.
    pub fn plan(&self, range: Range<u64>) -> ReadPlan {
        let nothing = ReadPlan {
            from_frames: 0..0,
            frames: Vec::new(),
            cached: Vec::new(),
        };
        let (Some(first), Some(last)) = (self.first_index(), self.last) else {
            return nothing;
        };
        let (start, end) = (range.start.max(first), range.end.min(last.index + 1));
        if start >= end {
            return nothing;
        }
        let cached_from = self
            .cache
            .front()
            .map_or(last.index + 1, |entry| entry.log_id.index);
        let from_frames = start..end.min(cached_from);
        let frames = if from_frames.is_empty() {
            0..0
        } else {
            self.frames_of(&from_frames)
        };
        let with_segment = |frame: &FrameRef| (*frame, self.segments[&frame.segment].clone());
        let skipped = start.max(cached_from) - cached_from;
        let taken = end.saturating_sub(start.max(cached_from));
        ReadPlan {
            frames: self.frames.range(frames).map(with_segment).collect(),
            from_frames,
            cached: self
                .cache
                .iter()
                .skip(skipped as usize)
                .take(taken as usize)
                .cloned()
                .collect(),
        }
    }

    /// The log id at `index`, when the entry is in memory or is the purged one.
    pub fn cached_log_id(&self, index: u64) -> Option<LogId> {
        if self.purged.is_some_and(|purged| purged.index == index) {
            return self.purged;
        }
        let first = self.cache.front()?.log_id.index;
        self.cache
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
            .map(|entry| entry.log_id)
    }

    /// What a frame of this kind may say is committed: never more than the log then holds.
    pub fn committed_field(&self, kind: Kind, end_of_frame: u64) -> u64 {
        let end = match kind {
            Kind::Entries => end_of_frame,
            _ => self.synced.map_or(0, |synced| synced.index + 1),
        };
        self.committed.map_or(0, |committed| committed.index + 1).min(end)
    }

    fn frames_of(&self, indices: &Range<u64>) -> Range<usize> {
        let first = self.frames.partition_point(|frame| frame.end() <= indices.start);
        let end = self
            .frames
            .partition_point(|frame| frame.first_index < indices.end);
        first..end
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= frame::entry_bytes(&entry);
        }
    }
}
