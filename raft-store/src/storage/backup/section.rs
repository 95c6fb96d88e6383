//! A part of a file, read as if it were a file of its own.

use std::io;

use crate::storage::disk::DiskFile;

pub(super) struct Section {
    file: Box<dyn DiskFile>,
    start: u64,
    bytes: u64,
}

impl Section {
    pub(super) fn new(file: Box<dyn DiskFile>, start: u64, bytes: u64) -> Section {
        Section { file, start, bytes }
    }
}

impl DiskFile for Section {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(into.len() as u64) > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_at(self.start + offset, into)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
