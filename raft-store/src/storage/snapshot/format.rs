//! Bytes of a snapshot file.
//!
//! ```text
//! magic "HOLDSNAP" | format version u32 | length of the standing u32 | standing (sealed by itself)
//! row*:  key length u16 | value length u32 | key | value (sealed by the machine)
//! end:   key length 0
//! xxh3-128 over everything before
//! ```
//!
//! Numbers are big-endian. The magic, the version and the last 16 bytes stay where they are in every
//! version: so damage can be told from a newer format before anything else is understood. Bytes are
//! read once, front to back, and may come from a stranger: no length is believed beyond the file's own.

use std::io;

use inventory_machine::{Frozen, Machine};
use xxhash_rust::xxh3::Xxh3;

use crate::storage::{
    disk::DiskFile,
    error::Newer,
    load::{self, LoadFailure},
    rows::{FormatError, STANDING_VERSION, Standing},
};

const MAGIC: &[u8; 8] = b"HOLDSNAP";

/// Version of the file format.
pub(crate) const SNAPSHOT_VERSION: u32 = 1;

/// Bytes of the checksum at the end.
pub(crate) const TRAILER_BYTES: u64 = 16;

/// Magic, version, length of the standing.
const PREFIX_BYTES: usize = 16;

/// Fewest bytes a snapshot file has; what is shorter cannot even be checked.
pub(crate) const SNAPSHOT_BYTES_MIN: u64 = PREFIX_BYTES as u64 + TRAILER_BYTES;

/// Bytes written or read at once: large enough for the disk, small beside everything else.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes after which what is written is synced: the log is synced on the same disk, and waits for whatever the system
/// has gathered to be written.
const SYNC_EVERY_BYTES: u64 = 1 << 20;

/// Largest row: the machine's largest are documents of 16 KiB, so this leaves room for what may come.
const ROW_BYTES_MAX: usize = 16 << 20;

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The disk failed.
    Disk(io::Error),
    /// The bytes are wrong.
    Damaged(String),
    /// The file is whole, and of a newer Holdfast.
    Newer(Newer),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Damaged("it is shorter than it was".into()),
            _ => ReadError::Disk(error),
        }
    }
}

/// What reading a whole file found.
pub(crate) struct Contents {
    pub(crate) standing: Standing,
    pub(crate) bytes: u64,
    pub(crate) checksum: u128,
}

/// Writes the whole state; returns length and checksum. Its end is not synced.
pub(crate) fn write(file: &dyn DiskFile, frozen: &Frozen, standing: &Standing) -> io::Result<(u64, u128)> {
    let mut writer = Writer {
        file,
        buffer: Vec::new(),
        offset: 0,
        hash: Xxh3::new(),
    };
    let mut record = Vec::new();
    standing.encode(&mut record);
    writer.buffer.extend_from_slice(MAGIC);
    writer.buffer.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
    writer
        .buffer
        .extend_from_slice(&(record.len() as u32).to_be_bytes());
    writer.buffer.extend_from_slice(&record);
    let mut rows: u64 = 0;
    for row in frozen.rows() {
        let key = row.key();
        record.clear();
        assert!(
            frozen.row(&row, &key, &mut record),
            "a frozen state names a row that it does not have"
        );
        assert!(
            !key.is_empty() && record.len() <= ROW_BYTES_MAX,
            "a row is beyond its limits"
        );
        let key_length = u16::try_from(key.len()).expect("row keys are short");
        writer.buffer.extend_from_slice(&key_length.to_be_bytes());
        writer
            .buffer
            .extend_from_slice(&(record.len() as u32).to_be_bytes());
        writer.buffer.extend_from_slice(&key);
        writer.buffer.extend_from_slice(&record);
        rows += 1;
        if writer.buffer.len() >= CHUNK_BYTES {
            writer.write_out()?;
        }
    }
    assert_eq!(
        rows, standing.row_count,
        "a frozen state has another number of rows than it says"
    );
    writer.buffer.extend_from_slice(&0u16.to_be_bytes());
    writer.write_out()?;
    let checksum = writer.hash.digest128();
    writer.buffer.extend_from_slice(&checksum.to_be_bytes());
    writer.write_out()?;
    Ok((writer.offset, checksum))
}

struct Writer<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    offset: u64,
    hash: Xxh3,
}

impl Writer<'_> {
    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.hash.update(&self.buffer);
        let begun = self.offset / SYNC_EVERY_BYTES;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.offset / SYNC_EVERY_BYTES != begun {
            self.file.sync()?;
        }
        Ok(())
    }
}

/// Reads the whole file and checks its bytes, its framing and its number of rows; what the rows mean
/// is not looked at.
pub(crate) fn check(file: &dyn DiskFile) -> Result<Contents, ReadError> {
    read(file, |_, _| Ok(()))
}

/// Reads the whole file and loads the state in it: everything is checked, down to the digest.
pub(crate) fn load(file: &dyn DiskFile) -> Result<(Contents, Machine), ReadError> {
    let mut loader = Machine::loader();
    let contents = read(file, |key, value| {
        Ok(loader.row(key, value).map_err(LoadFailure::from)?)
    })?;
    let machine = load::finish(loader, &contents.standing)?;
    Ok((contents, machine))
}

impl From<LoadFailure> for ReadError {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Damaged(why) => ReadError::Damaged(why),
            LoadFailure::Newer(newer) => ReadError::Newer(newer),
        }
    }
}

fn read(
    file: &dyn DiskFile,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
) -> Result<Contents, ReadError> {
    let bytes = file.len()?;
    let Some(body) = bytes.checked_sub(TRAILER_BYTES) else {
        return Err(damaged("it is too short"));
    };
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_at(body, &mut trailer)?;
    let checksum = u128::from_be_bytes(trailer);

    let mut reader = Reader {
        file,
        end: body,
        offset: 0,
        buffer: Vec::new(),
        start: 0,
        hash: Xxh3::new(),
    };
    let mut rows: u64 = 0;
    let parsed = (|| {
        let prefix = reader.take(PREFIX_BYTES)?;
        if &prefix[..8] != MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        let version = u32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let standing_length = u32::from_be_bytes([prefix[12], prefix[13], prefix[14], prefix[15]]) as usize;
        if version > SNAPSHOT_VERSION {
            return Err(ReadError::Newer(Newer::format(version, SNAPSHOT_VERSION)));
        }
        if standing_length > ROW_BYTES_MAX {
            return Err(damaged("what it stands for is larger than that can be"));
        }
        if version == 0 {
            return Err(damaged("its format version was never written"));
        }
        let standing = Standing::decode(reader.take(standing_length)?).map_err(|error| match error {
            FormatError::Newer(found) => ReadError::Newer(Newer::format(found, STANDING_VERSION)),
            error => damaged(&error.to_string()),
        })?;
        loop {
            let key_length = u16::from_be_bytes(reader.array()?) as usize;
            if key_length == 0 {
                break;
            }
            let value_length = u32::from_be_bytes(reader.array()?) as usize;
            if value_length > ROW_BYTES_MAX {
                return Err(damaged("a row in it is larger than rows can be"));
            }
            let (key, value) = reader.take(key_length + value_length)?.split_at(key_length);
            row(key, value)?;
            rows += 1;
        }
        if reader.left() > 0 {
            return Err(damaged("it goes on after its last row"));
        }
        Ok(standing)
    })();
    // Whether the bytes are whole decides first: a flipped bit must not pass for a newer format.
    if reader.digest()? != checksum {
        let part = match parsed {
            Err(ReadError::Damaged(part)) => format!(": {part}"),
            _ => String::new(),
        };
        return Err(ReadError::Damaged(format!(
            "its checksum does not match its bytes{part}"
        )));
    }
    let standing = parsed?;
    if rows != standing.row_count {
        return Err(damaged("it has another number of rows than it says"));
    }
    Ok(Contents {
        standing,
        bytes,
        checksum,
    })
}

fn damaged(why: &str) -> ReadError {
    ReadError::Damaged(why.into())
}

/// Hands out the bytes before the trailer, front to back, and hashes them on the way.
struct Reader<'a> {
    file: &'a dyn DiskFile,
    /// Where the trailer begins.
    end: u64,
    /// Where the next read from the file begins.
    offset: u64,
    buffer: Vec<u8>,
    /// First byte of the buffer that was not handed out yet.
    start: usize,
    hash: Xxh3,
}

impl Reader<'_> {
    fn left(&self) -> u64 {
        self.end - self.offset + (self.buffer.len() - self.start) as u64
    }

    fn take(&mut self, count: usize) -> Result<&[u8], ReadError> {
        if count as u64 > self.left() {
            return Err(damaged("it ends too early"));
        }
        while self.buffer.len() - self.start < count {
            self.fill()?;
        }
        let taken = self.start..self.start + count;
        self.start = taken.end;
        Ok(&self.buffer[taken])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Reads the next chunk behind what has not been handed out yet.
    fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        let count = (self.end - self.offset).min(CHUNK_BYTES as u64) as usize;
        self.buffer.resize(held + count, 0);
        self.file.read_at(self.offset, &mut self.buffer[held..])?;
        self.hash.update(&self.buffer[held..]);
        self.offset += count as u64;
        Ok(())
    }

    /// The checksum over everything, after reading what is left.
    fn digest(&mut self) -> Result<u128, ReadError> {
        while self.offset < self.end {
            self.start = self.buffer.len();
            self.fill()?;
        }
        Ok(self.hash.digest128())
    }
}
