//! Every limit of a node that is not a setting, with its unit and reason.

/// Most commands in one frame: an entry's worth, so that a frame is at most two entries.
pub const FRAME_COMMANDS_MAX: usize = 512;

/// Most commands in one chain, which goes into one entry whole: small enough for the share of an entry that is kept for
/// those who hold units, large enough for a checkout's books.
pub const CHAIN_COMMANDS_MAX: usize = 16;

/// Most commands in one entry: measured, larger ones gain nothing and cost latency.
pub const ENTRY_COMMANDS_MAX: usize = 512;

/// Most command bytes in one entry, unless one command or chain alone is larger: entries above about 40 KB get
/// slower per command.
pub const ENTRY_BYTES_MAX: usize = 40 * 1024;

/// Entries proposed and not yet applied: enough to keep log, wire and apply busy at once; more only
/// queues behind the disk.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 8;

/// Share of an entry kept for confirm, release, resolve and documents while claims wait, in percent: a
/// flash crowd must not keep those who hold units from paying for them.
pub const ENTRY_SETTLE_SHARE_PERCENT: usize = 25;

/// Frames waiting at the leader in each lane: a frame may hold one command, so this bounds single callers.
pub const QUEUE_FRAMES_MAX: usize = 16_384;

/// Commands waiting at the leader in each lane: half a second of work at the measured bulk rate.
pub const QUEUE_COMMANDS_MAX: usize = 131_072;

/// How many times the lane's free room one source may have waiting: alone, it gets 8/9 of the lane, so
/// that a bulk load runs at full speed; smaller, and it would get less for nothing; larger, and less
/// than a handful of frames would be left for who comes new.
pub const QUEUE_SHARE_OF_FREE: usize = 8;

/// Commands that a source may propose before it is another's turn: a full frame, so that taking turns
/// cuts no frame in two.
pub const TURN_COMMANDS: usize = FRAME_COMMANDS_MAX;

/// Frames of one stream that are read and not yet answered; beyond it the stream is not read.
pub const STREAM_FRAMES_MAX: usize = 64;

/// Largest message a node takes from a client, in bytes: a full frame of claims is some 100 KB; documents
/// of 16 KiB need more, and a client splits frames before this.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest user id, principal or idempotency key, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Most rows in one answer to a listing.
pub const LIST_MAX: u32 = 10_000;

/// Rows in one answer to a listing that does not say how many.
pub const LIST_DEFAULT: u32 = 100;

/// Most bytes of documents in one answer to a listing: copied while apply waits, and far from what a
/// client takes.
pub const LIST_BYTES_MAX: usize = 1 << 20;

/// How often the batcher looks for due deadlines, in ms: a hold's end is proposed within 50 ms of it.
pub const DEADLINE_TICK_MS: u64 = 20;

/// An idle leader writes a clock entry this often while anything waits for log time, in ms.
pub const CLOCK_ENTRY_MS: u64 = 1_000;

/// How often nodes exchange clock reports, in ms.
pub const CLOCK_EXCHANGE_MS: u64 = 1_000;
