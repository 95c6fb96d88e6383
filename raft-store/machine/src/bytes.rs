//! Values in bytes, as batches and rows share them: little-endian, LEB128 varints, lengths before fields.

use alloc::vec::Vec;

use crate::codec::DecodeError;

/// A value that no encoder writes, at this offset.
pub(crate) fn invalid<T>(offset: usize) -> Result<T, DecodeError> {
    Err(DecodeError::Invalid { offset })
}

/// Appends values to bytes.
pub(crate) trait Put {
    /// Little-endian.
    fn put_u32(&mut self, value: u32);
    /// Little-endian.
    fn put_u64(&mut self, value: u64);
    /// Little-endian.
    fn put_u128(&mut self, value: u128);
    /// A varint.
    fn put_number(&mut self, value: u64);
    /// A zigzag varint.
    fn put_signed(&mut self, value: i64);
    /// Bytes after their length.
    fn put_field(&mut self, field: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_number(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_field(&mut self, field: &[u8]) {
        self.put_number(field.len() as u64);
        self.extend_from_slice(field);
    }
}

/// Reads values off the front of bytes that may be anything.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from an offset on.
    pub fn new(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at }
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether everything has been read.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            invalid(self.at)
        }
    }

    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(count).ok_or(DecodeError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Short)?;
        self.at = end;
        Ok(taken)
    }

    /// The next bytes, as many as asked for.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| DecodeError::Short)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Little-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Little-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Little-endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Little-endian.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A hash, which is never zero.
    pub fn key(&mut self) -> Result<u128, DecodeError> {
        let at = self.at;
        match self.u128()? {
            0 => invalid(at),
            key => Ok(key),
        }
    }

    /// A varint.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return invalid(at);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        invalid(at)
    }

    /// A varint of at most 32 bits.
    pub fn number32(&mut self) -> Result<u32, DecodeError> {
        let at = self.at;
        u32::try_from(self.number()?).or_else(|_| invalid(at))
    }

    /// A zigzag varint.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Bytes after their length.
    pub fn field(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = usize::try_from(self.number()?).map_err(|_| DecodeError::Short)?;
        self.take(bytes)
    }
}
