//! The durable form of the state: rows, as image and snapshot keep them.
//!
//! | key | value |
//! |---|---|
//! | `b`, sale u32, block u32 | count u8, then so many packed records |
//! | `d`, document key | body, version, lease, end |
//! | `e`, table u8, key u128 | effect |
//! | `f`, key u128 | end of the fence |
//! | `s`, sale u32 | terms and counters |
//! | `m` | format, version of the machine needed, rows, digest, clock, identity |
//!
//! Keys are big-endian, values little-endian. Every value ends with 8 bytes of xxh3 over its bytes,
//! seeded by its key, so that a row in another's place is damage too. Everything that can be derived
//! (indexes, deadlines, queues) is left out.

use alloc::{sync::Arc, vec::Vec};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{
    bytes::{Put, Reader, invalid},
    claim::{BLOCK_RECORDS, Block, Packed, RECORD_BYTES, Record},
    codec::{DecodeError, MACHINE_VERSION, MACHINE_VERSION_FIRST},
    command::{Found, Operation},
    document::Document,
    effect::{Effect, Outcome},
    machine::{Clock, encode_clock},
    reply::{Receipt, SaleStatus},
    sale::{Counters, Sale, Terms},
};

/// Version of the row formats. A row of another version is refused.
pub const ROW_VERSION: u16 = 1;

/// Names one row of the durable form of the state: image and snapshot share rows.
///
/// The bytes are big-endian and sort by kind, sale, block: `b|sale|block`, `s|sale`, `d|…`, `e|…`, `m`.
pub type RowKey = Vec<u8>;

/// One row of a [`Frozen`](crate::Frozen) state, and where in it it lies. Rows of a kind are in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// A block of claims.
    Block {
        /// Number of the sale.
        sale_number: u32,
        /// Which of its blocks.
        block: u32,
    },
    /// A sale.
    Sale {
        /// Its number.
        sale_number: u32,
    },
    /// A document.
    Document {
        /// Its key.
        key: Arc<[u8]>,
    },
    /// What is remembered of a key.
    Effect {
        /// In which table.
        table: u8,
        /// The key.
        key: u128,
        /// Its number in the table.
        number: u64,
    },
    /// A key that will have no effect.
    Fence {
        /// The key.
        key: u128,
    },
    /// What speaks for all others.
    Meta,
}

impl Row {
    /// Its key in image and snapshot.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Block { sale_number, block } => block_key(*sale_number, *block),
            Row::Sale { sale_number } => sale_key(*sale_number),
            Row::Document { key } => key_of(b'd', &[key]),
            Row::Effect { table, key, .. } => key_of(b'e', &[&[*table], &key.to_be_bytes()]),
            Row::Fence { key } => key_of(b'f', &[&key.to_be_bytes()]),
            Row::Meta => META_KEY.to_vec(),
        }
    }
}

/// The row that speaks for all others.
pub(crate) const META_KEY: &[u8] = b"m";

/// Bytes that end every value.
pub(crate) const CHECKSUM_BYTES: usize = 8;

/// Effects of claims and documents, in a row's key.
pub(crate) const EFFECT_COMMON: u8 = 0;

/// Effects of sales as a whole, in a row's key.
pub(crate) const EFFECT_SALE: u8 = 1;

/// Keeps the digests of sales apart from those of other rows.
const SALE_SEED: u64 = u64::from_be_bytes(*b"hf.sales");

/// Which table an operation's effects are in.
pub(crate) fn effect_tag(operation: Operation) -> u8 {
    if operation == Operation::Sale {
        EFFECT_SALE
    } else {
        EFFECT_COMMON
    }
}

fn key_of(kind: u8, parts: &[&[u8]]) -> RowKey {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Key of a block of claims.
pub(crate) fn block_key(sale_number: u32, block: u32) -> RowKey {
    key_of(b'b', &[&sale_number.to_be_bytes(), &block.to_be_bytes()])
}

/// Key of a sale.
pub(crate) fn sale_key(sale_number: u32) -> RowKey {
    key_of(b's', &[&sale_number.to_be_bytes()])
}

/// What a row's key names.
pub(crate) enum Name<'a> {
    Block { sale_number: u32, block: u32 },
    Sale { sale_number: u32 },
    Document { key: &'a [u8] },
    Effect { table: u8, key: u128 },
    Fence { key: u128 },
    Meta,
}

/// Reads a row's key.
pub(crate) fn name_of(key: &[u8]) -> Option<Name<'_>> {
    let (&kind, rest) = key.split_first()?;
    let u32_at = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let u128_at = |at: usize| Some(u128::from_be_bytes(rest.get(at..at + 16)?.try_into().ok()?));
    let (name, bytes) = match kind {
        b'b' => (
            Name::Block {
                sale_number: u32_at(0)?,
                block: u32_at(4)?,
            },
            8,
        ),
        b's' => (
            Name::Sale {
                sale_number: u32_at(0)?,
            },
            4,
        ),
        b'd' => (Name::Document { key: rest }, rest.len()),
        b'e' => (
            Name::Effect {
                table: *rest.first().filter(|&&table| table <= EFFECT_SALE)?,
                key: u128_at(1)?,
            },
            17,
        ),
        b'f' => (Name::Fence { key: u128_at(0)? }, 16),
        b'm' => (Name::Meta, 0),
        _ => return None,
    };
    (rest.len() == bytes).then_some(name)
}

/// Ends the value that begins at `from`.
pub(crate) fn seal(key: &[u8], out: &mut Vec<u8>, from: usize) {
    let sum = xxh3_64_with_seed(&out[from..], xxh3_64(key));
    out.put_u64(sum);
}

/// The value without its checksum, if that is right.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (body, sum) = value.split_last_chunk::<CHECKSUM_BYTES>()?;
    (xxh3_64_with_seed(body, xxh3_64(key)) == u64::from_le_bytes(*sum)).then_some(body)
}

/// A block's records.
pub(crate) fn encode_block(records: &[Packed], out: &mut Vec<u8>) {
    out.push(records.len() as u8);
    out.extend_from_slice(records.as_flattened());
}

/// Reads a block, and how many records it has.
pub(crate) fn decode_block(body: &[u8]) -> Option<(Block, usize)> {
    let (&count, packed) = body.split_first()?;
    let count = usize::from(count);
    let (packed, rest) = packed.as_chunks::<RECORD_BYTES>();
    if packed.len() != count || !rest.is_empty() || !(1..=BLOCK_RECORDS).contains(&count) {
        return None;
    }
    let sound = packed.iter().all(|record| Record::unpack(record).is_some());
    sound.then(|| (Block::of(packed), count))
}

/// A sale's terms and counters, and how many claims it has made.
pub(crate) fn encode_sale(terms: &Terms, counters: &Counters, claims_made: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&terms.namespace.to_le_bytes());
    out.put_field(terms.sale_id.as_bytes());
    out.put_field(terms.name.as_bytes());
    out.put_u32(terms.per_user_units_max);
    out.put_u64(terms.hold_ms);
    out.put_u64(terms.checkout_max_ms);
    out.put_u64(terms.opens_at_ms);
    out.put_u64(terms.closes_at_ms);
    out.put_u64(terms.price_minor);
    out.extend_from_slice(&terms.currency);
    out.put_u32(terms.claims_max);
    out.push(counters.status as u8);
    out.put_u32(counters.units_total);
    out.put_u32(counters.units_available);
    out.put_u32(counters.units_held);
    out.put_u32(counters.units_confirmed);
    out.put_u32(counters.claims_max);
    out.put_u64(counters.changed_index);
    out.put_u32(claims_made);
}

/// Reads what [`encode_sale`] wrote.
pub(crate) fn decode_sale(body: &[u8]) -> Result<(Terms, Counters, u32), DecodeError> {
    let mut reader = Reader::new(body, 0);
    let text = |bytes: &[u8]| core::str::from_utf8(bytes).map(Arc::from).or_else(|_| invalid(0));
    let terms = Terms {
        namespace: reader.u16()?,
        sale_id: text(reader.field()?)?,
        name: text(reader.field()?)?,
        per_user_units_max: reader.u32()?,
        hold_ms: reader.u64()?,
        checkout_max_ms: reader.u64()?,
        opens_at_ms: reader.u64()?,
        closes_at_ms: reader.u64()?,
        price_minor: reader.u64()?,
        currency: reader.array()?,
        claims_max: reader.u32()?,
    };
    let status = match reader.u8()? {
        1 => SaleStatus::Scheduled,
        2 => SaleStatus::Open,
        3 => SaleStatus::Paused,
        4 => SaleStatus::Closed,
        _ => return invalid(reader.at()),
    };
    let counters = Counters {
        status,
        units_total: reader.u32()?,
        units_available: reader.u32()?,
        units_held: reader.u32()?,
        units_confirmed: reader.u32()?,
        claims_max: reader.u32()?,
        changed_index: reader.u64()?,
    };
    let claims_made = reader.u32()?;
    reader.end()?;
    Ok((terms, counters, claims_made))
}

/// A sale's part of the state's digest, its claims' included.
pub(crate) fn sale_digest(sale: &Sale, scratch: &mut Vec<u8>) -> u128 {
    terms_digest(
        sale.number,
        &sale.terms,
        &sale.counters,
        sale.arena.len(),
        scratch,
    )
    .wrapping_add(sale.arena.digest())
}

/// The same without its claims.
pub(crate) fn terms_digest(
    sale_number: u32,
    terms: &Terms,
    counters: &Counters,
    claims_made: u32,
    scratch: &mut Vec<u8>,
) -> u128 {
    scratch.clear();
    scratch.put_u32(sale_number);
    encode_sale(terms, counters, claims_made, scratch);
    xxh3_128_with_seed(scratch, SALE_SEED)
}

/// A document, without its key.
pub(crate) fn encode_document(document: &Document, out: &mut Vec<u8>) {
    out.put_field(&document.body);
    out.put_u64(document.version);
    out.put_u64(document.fencing_token);
    out.put_u64(document.leased_until_ms);
    out.put_u64(document.expires_at_ms);
}

/// Reads what [`encode_document`] wrote.
pub(crate) fn decode_document(key: &[u8], body: &[u8]) -> Result<Document, DecodeError> {
    let mut reader = Reader::new(body, 0);
    let document = Document {
        key: key.into(),
        body: reader.field()?.into(),
        version: reader.u64()?,
        fencing_token: reader.u64()?,
        leased_until_ms: reader.u64()?,
        expires_at_ms: reader.u64()?,
    };
    reader.end()?;
    Ok(document)
}

/// Reads what [`Effect::encode`] wrote.
pub(crate) fn decode_effect(body: &[u8]) -> Result<Effect, DecodeError> {
    let mut reader = Reader::new(body, 0);
    let request = reader.u64()?;
    let receipt = Receipt {
        log_index: reader.u64()?,
        position: reader.u32()?,
        term: reader.u64()?,
        log_time_ms: reader.u64()?,
    };
    let outcome = match reader.u8()? {
        0 => Outcome::Done,
        1 => Outcome::Claim {
            sale_number: reader.u32()?,
            slot: reader.u32()?,
        },
        2 => Outcome::Document {
            version: reader.u64()?,
            fencing_token: reader.u64()?,
            leased_until_ms: reader.u64()?,
        },
        _ => return invalid(reader.at()),
    };
    reader.end()?;
    Ok(Effect {
        request,
        receipt,
        outcome,
    })
}

/// What row `m` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub clock: Clock,
    pub founding: Option<Found>,
    pub sales: u32,
    /// Rows there are, this one included.
    pub rows: u64,
    pub digest: u128,
}

/// Row `m`.
pub(crate) fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    out.extend_from_slice(&ROW_VERSION.to_le_bytes());
    // What the state needs, not what is known here: an older machine that knows as much may read it.
    out.extend_from_slice(&meta.clock.version.to_le_bytes());
    out.put_u64(meta.rows);
    out.put_u128(meta.digest);
    encode_clock(&meta.clock, &meta.founding, meta.sales, out);
}

/// The version of the row formats that row `m` names.
pub(crate) fn format_of(body: &[u8]) -> Option<u16> {
    body.first_chunk().copied().map(u16::from_le_bytes)
}

/// Reads what [`encode_meta`] wrote in the format of [`ROW_VERSION`]; [`DecodeError::Newer`]: the state needs a newer
/// machine.
pub(crate) fn decode_meta(body: &[u8]) -> Result<Meta, DecodeError> {
    let mut reader = Reader::new(body, 0);
    reader.u16()?;
    let version = reader.u16()?;
    if version > MACHINE_VERSION {
        return Err(DecodeError::Newer { version });
    }
    if version < MACHINE_VERSION_FIRST {
        return invalid(reader.at() - 2);
    }
    let rows = reader.u64()?;
    let digest = reader.u128()?;
    let clock = Clock {
        applied_index: reader.u64()?,
        log_time_ms: reader.u64()?,
        wall_time_ms: reader.u64()?,
        version,
    };
    let sales = reader.u32()?;
    let founding = match reader.u8()? {
        0 => None,
        1 => Some(Found {
            cluster_id: reader.u128()?,
            secret: reader.u128()?,
            incarnation: reader.u32()?,
        }),
        _ => return invalid(reader.at()),
    };
    reader.end()?;
    Ok(Meta {
        clock,
        founding,
        sales,
        rows,
        digest,
    })
}
