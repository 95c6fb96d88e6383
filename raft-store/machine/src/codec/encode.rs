//! Writing batches.

use alloc::vec::Vec;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    BATCH_COMMANDS_MAX, FOLLOWS, HEADER_BYTES, MACHINE_VERSION_FIRST, PRINCIPAL_IS_USER, TIME_MS_MAX, tag,
};
use crate::{
    bytes::Put,
    command::{Body, Command, CreateSale, LogMs, Namespace, SALE_ID_BYTES_MAX, WallMs},
};

/// Bytes that an over-long sale id keeps in the table: enough to stay over-long after the cut is
/// moved to a character's edge, so that it can never be mistaken for a valid one.
const SALE_ID_BYTES_KEPT: usize = SALE_ID_BYTES_MAX + 4;

/// As much of a sale id as the table keeps.
fn kept_of(sale_id: &str) -> &str {
    let end = (0..=sale_id.len().min(SALE_ID_BYTES_KEPT))
        .rev()
        .find(|&end| sale_id.is_char_boundary(end));
    &sale_id[..end.unwrap_or(0)]
}

/// Collects commands into the bytes of one batch; reusable, so that nothing is allocated per claim.
#[derive(Default)]
pub struct BatchEncoder {
    /// The table of sales as it will be written, without its count.
    table: Vec<u8>,
    /// Where each sale's entry begins in `table`.
    places: Vec<u32>,
    /// Sales by name: finds the place without walking the table.
    names: HashTable<u16>,
    /// The place that was asked for last.
    named_last: Option<u16>,
    commands: Vec<u8>,
    count: u32,
    /// The newest version that any command came with; zero: there are none.
    version: u16,
    /// `not_after` of the first command.
    base_ms: LogMs,
}

impl BatchEncoder {
    /// An empty encoder.
    pub fn new() -> Self {
        BatchEncoder::default()
    }

    /// Starts a batch over.
    pub fn clear(&mut self) {
        self.table.clear();
        self.places.clear();
        self.names.clear();
        self.named_last = None;
        self.commands.clear();
        self.count = 0;
        self.version = 0;
        self.base_ms = 0;
    }

    /// The place of a sale's name in this batch's table; adds it when it is not there yet.
    ///
    /// # Panics
    /// When the table has more sales than a batch may have commands.
    pub fn sale(&mut self, namespace: Namespace, sale_id: &str) -> u16 {
        let sale_id = kept_of(sale_id);
        let hash = |id: &[u8]| xxh3_64_with_seed(id, u64::from(namespace));
        let (table, places) = (&self.table, &self.places);
        let entry = |place: u16| {
            let at = places[usize::from(place)] as usize;
            let bytes = usize::from(table[at + 2]);
            (
                u16::from_le_bytes([table[at], table[at + 1]]),
                &table[at + 3..at + 3 + bytes],
            )
        };
        let is = |place: u16| entry(place) == (namespace, sale_id.as_bytes());
        // One sale is hot: most commands name the one that the last command named.
        if let Some(place) = self.named_last.filter(|&place| is(place)) {
            return place;
        }
        let known = self.names.find(hash(sale_id.as_bytes()), |&place| is(place));
        if let Some(&place) = known {
            self.named_last = Some(place);
            return place;
        }
        assert!(
            self.places.len() < BATCH_COMMANDS_MAX as usize,
            "a batch names too many sales"
        );
        let place = self.places.len() as u16;
        let at = self.table.len() as u32;
        let rehash = |&other: &u16| {
            let (namespace, id) = entry(other);
            xxh3_64_with_seed(id, u64::from(namespace))
        };
        self.names.insert_unique(hash(sale_id.as_bytes()), place, rehash);
        self.places.push(at);
        self.table.extend_from_slice(&namespace.to_le_bytes());
        self.table.push(sale_id.len() as u8);
        self.table.extend_from_slice(sale_id.as_bytes());
        self.named_last = Some(place);
        place
    }

    /// Adds a command.
    ///
    /// # Panics
    /// When the batch has [`BATCH_COMMANDS_MAX`] commands, the command names a sale that is not in
    /// the table, or a key or user in it is zero (the hashes of [`crate::hash`] never are).
    pub fn push(&mut self, command: &Command<'_>) {
        assert!(self.count < BATCH_COMMANDS_MAX, "a batch has too many commands");
        assert!(command.key != 0, "keys are never zero");
        if self.count == 0 {
            self.base_ms = command.not_after_ms;
        }
        self.count += 1;
        self.version = self.version.max(command.version());
        let sales = self.places.len();
        let mut out = Writer {
            bytes: &mut self.commands,
            sales,
        };
        let (tag, short) = tag_of(command);
        let short_bit = if short { PRINCIPAL_IS_USER } else { 0 };
        let follows_bit = if command.follows { FOLLOWS } else { 0 };
        out.bytes.push(tag | short_bit | follows_bit);
        out.bytes.put_u128(command.key);
        if !short {
            out.bytes.put_u128(command.principal);
        }
        out.bytes
            .put_signed(command.not_after_ms.wrapping_sub(self.base_ms) as i64);
        out.body(&command.body);
    }

    /// Commands so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + 2 + self.table.len() + self.commands.len()
    }

    /// The batch, stamped; the encoder is empty again.
    ///
    /// # Panics
    /// When a time is beyond [`TIME_MS_MAX`].
    pub fn finish(&mut self, log_time_ms: LogMs, wall_time_ms: WallMs) -> Vec<u8> {
        assert!(
            log_time_ms <= TIME_MS_MAX && wall_time_ms <= TIME_MS_MAX,
            "a time is out of range"
        );
        let mut bytes = Vec::with_capacity(self.bytes());
        let version = self.version.max(MACHINE_VERSION_FIRST);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        bytes.extend_from_slice(&log_time_ms.to_le_bytes());
        bytes.extend_from_slice(&wall_time_ms.to_le_bytes());
        bytes.extend_from_slice(&self.base_ms.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&(self.places.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.table);
        bytes.extend_from_slice(&self.commands);
        self.clear();
        bytes
    }
}

/// A command's tag, and whether its principal may be left out.
fn tag_of(command: &Command<'_>) -> (u8, bool) {
    match &command.body {
        Body::Found(_) => (tag::FOUND, false),
        Body::CreateSale(_) => (tag::CREATE_SALE, false),
        Body::OpenSale { .. } => (tag::OPEN_SALE, false),
        Body::PauseSale { .. } => (tag::PAUSE_SALE, false),
        Body::CloseSale { .. } => (tag::CLOSE_SALE, false),
        Body::Restock { .. } => (tag::RESTOCK, false),
        Body::Withdraw { .. } => (tag::WITHDRAW, false),
        Body::Claim(take) => (tag::CLAIM, take.user == command.principal),
        Body::Decrement(take) => (tag::DECREMENT, take.user == command.principal),
        Body::Confirm(_) => (tag::CONFIRM, false),
        Body::Release(_) => (tag::RELEASE, false),
        Body::Extend(_) => (tag::EXTEND, false),
        Body::Cancel(_) => (tag::CANCEL, false),
        Body::Resolve(_) => (tag::RESOLVE, false),
        Body::PutDocument(_) => (tag::PUT_DOCUMENT, false),
        Body::DeleteDocument { .. } => (tag::DELETE_DOCUMENT, false),
        Body::LeaseDocument { .. } => (tag::LEASE_DOCUMENT, false),
        Body::CheckDocument { .. } => (tag::CHECK_DOCUMENT, false),
    }
}

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    sales: usize,
}

impl Writer<'_> {
    fn sale(&mut self, place: u16) {
        assert!(
            usize::from(place) < self.sales,
            "the command names a sale that is not in the table"
        );
        self.bytes.extend_from_slice(&place.to_le_bytes());
    }

    fn body(&mut self, body: &Body<'_>) {
        match body {
            Body::Found(found) => {
                self.bytes.put_u128(found.cluster_id);
                self.bytes.put_u128(found.secret);
                self.bytes.put_number(u64::from(found.incarnation));
            }
            Body::CreateSale(create) => self.create(create),
            Body::OpenSale { sale } | Body::PauseSale { sale } | Body::CloseSale { sale } => self.sale(*sale),
            Body::Restock { sale, units } | Body::Withdraw { sale, units } => {
                self.sale(*sale);
                self.bytes.put_number(u64::from(*units));
            }
            Body::Claim(take) | Body::Decrement(take) => {
                assert!(take.user != 0, "users are never zero");
                self.sale(take.sale);
                self.bytes.put_u128(take.user);
                self.bytes.put_number(u64::from(take.quantity));
            }
            Body::Confirm(settle) | Body::Release(settle) | Body::Extend(settle) | Body::Cancel(settle) => {
                self.bytes.extend_from_slice(&settle.claim.0);
                self.bytes.put_number(settle.fencing_token);
            }
            Body::Resolve(resolve) => {
                assert!(resolve.key != 0, "keys are never zero");
                self.sale(resolve.sale);
                self.bytes.push(resolve.operation as u8);
                self.bytes.put_u128(resolve.key);
                self.bytes.put_number(resolve.fence_until_ms);
            }
            Body::PutDocument(put) => {
                self.bytes.put_field(put.document);
                self.bytes.put_field(put.body);
                self.bytes.put_number(put.version_expected);
                self.bytes.put_number(put.fencing_token);
                self.bytes.put_number(put.ttl_ms);
            }
            Body::DeleteDocument {
                document,
                version_expected,
            }
            | Body::CheckDocument {
                document,
                version_expected,
            } => {
                self.bytes.put_field(document);
                self.bytes.put_number(*version_expected);
            }
            Body::LeaseDocument {
                document,
                fencing_token,
                lease_ms,
            } => {
                self.bytes.put_field(document);
                self.bytes.put_number(*fencing_token);
                self.bytes.put_number(*lease_ms);
            }
        }
    }

    fn create(&mut self, create: &CreateSale<'_>) {
        self.sale(create.sale);
        self.bytes.put_field(create.name.as_bytes());
        self.bytes.put_number(u64::from(create.units_total));
        self.bytes.put_number(u64::from(create.per_user_units_max));
        self.bytes.put_number(create.hold_ms);
        self.bytes.put_number(create.checkout_max_ms);
        self.bytes.put_number(create.opens_at_ms);
        self.bytes.put_number(create.closes_at_ms);
        self.bytes.put_number(create.price_minor);
        self.bytes.extend_from_slice(&create.currency);
        self.bytes.put_number(u64::from(create.claims_max));
    }
}
