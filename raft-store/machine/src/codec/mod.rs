//! The bytes of a batch: written once by the leader, and then the same bytes in the log, on the wire
//! and under `apply`, which decodes them in place.
//!
//! ```text
//! version needed u16 | flags u16 (zero) | log time u64 | wall time u64 | not_after base u64 | count u32
//! sales u16, then each: namespace u16 | length u8 | id
//! commands, each: tag u8 | key u128 | principal u128 | not_after - base (zigzag varint) | body
//! ```
//!
//! Little-endian. Numbers that are mostly small are LEB128 varints. The high bit of a take's tag says
//! that the principal is the user and left out; the next one that the command follows the one before it. `base` is the first command's `not_after`, so that
//! the others cost a byte or two each and stay exact: a shopper's claim is about 38 bytes.
//!
//! Anything may be in the bytes: reading never panics and allocates nothing. What is well formed but
//! wrong in meaning (quantities, lengths of ids) passes here and is refused by the machine, because
//! the caller must be told which field it was.

mod decode;
mod encode;

pub use decode::Batch;
pub use encode::BatchEncoder;

/// The first version of the machine's commands: what whoever names none knows.
pub const MACHINE_VERSION_FIRST: u16 = 1;

/// The version that came with chains, and with checks of documents to begin them.
pub const MACHINE_VERSION_CHAINS: u16 = 2;

/// The newest version of the machine's commands known here. A batch says which one it needs: the newest that any
/// of its commands came with ([`Command::version`](crate::command::Command::version)), so that whoever knows all of them
/// can apply it, however much older it is than who wrote it. A batch that needs more than is known stops the node.
pub const MACHINE_VERSION: u16 = if cfg!(feature = "next-machine") {
    MACHINE_VERSION_CHAINS + 1
} else {
    MACHINE_VERSION_CHAINS
};

/// Most commands in one batch: what a record's position (16 bits) can name.
pub const BATCH_COMMANDS_MAX: u32 = 65_535;

/// Latest log or wall time a batch may carry, in ms: 8,900 years, so that no deadline overflows.
pub const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// Bytes before the table of sales.
const HEADER_BYTES: usize = 2 + 2 + 8 + 8 + 8 + 4;

/// Set in a take's tag when the principal is the user.
const PRINCIPAL_IS_USER: u8 = 0x80;

/// Set in the tag of a command that follows the one before it.
const FOLLOWS: u8 = 0x40;

mod tag {
    pub(super) const FOUND: u8 = 1;
    pub(super) const CREATE_SALE: u8 = 2;
    pub(super) const OPEN_SALE: u8 = 3;
    pub(super) const PAUSE_SALE: u8 = 4;
    pub(super) const CLOSE_SALE: u8 = 5;
    pub(super) const RESTOCK: u8 = 6;
    pub(super) const WITHDRAW: u8 = 7;
    pub(super) const CLAIM: u8 = 8;
    pub(super) const DECREMENT: u8 = 9;
    pub(super) const CONFIRM: u8 = 10;
    pub(super) const RELEASE: u8 = 11;
    pub(super) const EXTEND: u8 = 12;
    pub(super) const CANCEL: u8 = 13;
    pub(super) const RESOLVE: u8 = 14;
    pub(super) const PUT_DOCUMENT: u8 = 15;
    pub(super) const DELETE_DOCUMENT: u8 = 16;
    pub(super) const LEASE_DOCUMENT: u8 = 17;
    pub(super) const CHECK_DOCUMENT: u8 = 18;
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than they announce.
    Short,
    /// A value that no encoder writes, and where.
    Invalid {
        /// Offset in bytes.
        offset: usize,
    },
    /// It needs a newer machine.
    Newer {
        /// The version that it needs.
        version: u16,
    },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DecodeError::Short => write!(f, "batch is cut short"),
            DecodeError::Invalid { offset } => write!(f, "batch has an invalid value at byte {offset}"),
            DecodeError::Newer { version } => {
                write!(
                    f,
                    "it needs machine version {version}, this one knows up to {MACHINE_VERSION}"
                )
            }
        }
    }
}

impl core::error::Error for DecodeError {}
