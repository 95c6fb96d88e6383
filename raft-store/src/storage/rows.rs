//! Bytes of what storage adds to the machine's own rows: what a state belongs to.
//!
//! The machine writes and checks its rows itself. Image and snapshot add one thing each: the *standing*
//! of the state they hold (last log id, membership, cluster, how many rows, which digest). Numbers are
//! big-endian. Every record opens with a version and ends with an xxh3-64 over itself, so that a flipped
//! bit reads as damage and a newer format as newer, never as another state.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, Membership};
use xxhash_rust::xxh3::xxh3_64;

use crate::types::{LogId, NodeId, StoredMembership, TypeConfig};

/// Version of the records of this module. Since 2 a standing says which node id is the highest ever used.
pub const STANDING_VERSION: u16 = 2;

/// Longest address of a node that a membership is read with, in bytes: a host name has at most 253.
const ADDRESS_BYTES_MAX: usize = 1024;

/// Most nodes or voter sets a membership is read with: far above any cluster, far below what would
/// make a damaged count allocate for long.
const MEMBERS_MAX: usize = 1024;

/// Key of the image's record that a cut has begun. The machine's own rows never start with `m.`.
pub const KEY_WRITING: &[u8] = b"m.writing";

/// Key of the image's record that a cut is complete.
pub const KEY_COMPLETE: &[u8] = b"m.complete";

/// Key of the machine's own meta row, which its loader wants last.
pub const KEY_MACHINE: &[u8] = b"m";

/// What a stored state stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Last log entry that it contains.
    pub last_log_id: Option<LogId>,
    /// Membership as of that entry.
    pub membership: StoredMembership,
    /// The highest id that any member ever had: ids are never used again.
    pub node_id_highest: NodeId,
    /// The cluster it belongs to; zero before founding.
    pub cluster_id: u128,
    /// How many rows of the machine it has.
    pub row_count: u64,
    /// Digest of the machine.
    pub digest: u128,
}

/// Why a record is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Too short, too long, or its checksum differs.
    #[error("its checksum does not match its bytes")]
    Checksum,
    /// The checksum matches, but the contents make no sense.
    #[error("{0}")]
    Contents(&'static str),
    /// A newer version than this program writes.
    #[error("format version {0} is newer than this program knows ({STANDING_VERSION})")]
    Newer(u16),
}

/// Index of an optional log id, for comparing: `None` comes before every index.
pub fn index_of(log_id: &Option<LogId>) -> Option<u64> {
    log_id.as_ref().map(LogId::index)
}

impl Standing {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&STANDING_VERSION.to_be_bytes());
        put_log_id(out, &self.last_log_id);
        put_log_id(out, self.membership.log_id());
        put_membership(out, self.membership.membership());
        out.extend_from_slice(&self.node_id_highest.to_be_bytes());
        out.extend_from_slice(&self.cluster_id.to_be_bytes());
        out.extend_from_slice(&self.row_count.to_be_bytes());
        out.extend_from_slice(&self.digest.to_be_bytes());
        seal(out, start);
    }

    /// Reads a whole record.
    pub fn decode(bytes: &[u8]) -> Result<Standing, FormatError> {
        let mut fields = open_sealed(bytes)?;
        let last_log_id = fields.log_id()?;
        let membership_log_id = fields.log_id()?;
        let membership = StoredMembership::new(membership_log_id, fields.membership()?);
        let standing = Standing {
            last_log_id,
            node_id_highest: match fields.version {
                // What those before knew: who is a member now.
                1 => highest_node_id(&membership),
                _ => fields.u64()?,
            },
            membership,
            cluster_id: fields.u128()?,
            row_count: fields.u64()?,
            digest: fields.u128()?,
        };
        fields.end()?;
        Ok(standing)
    }
}

/// The image's record that cut number `cut` has begun; [`encode_complete`] closes it.
pub fn encode_writing(cut: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    out.extend_from_slice(&STANDING_VERSION.to_be_bytes());
    out.extend_from_slice(&cut.to_be_bytes());
    seal(&mut out, 0);
    out
}

/// Number of the cut that has begun.
pub fn decode_writing(bytes: &[u8]) -> Result<u64, FormatError> {
    let mut fields = open_sealed(bytes)?;
    let cut = fields.u64()?;
    fields.end()?;
    Ok(cut)
}

/// The image's record that cut number `cut` is complete and what it stands for.
pub fn encode_complete(cut: u64, standing: &Standing) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&STANDING_VERSION.to_be_bytes());
    out.extend_from_slice(&cut.to_be_bytes());
    standing.encode(&mut out);
    seal(&mut out, 0);
    out
}

/// The cut that is complete, and what it stands for.
pub fn decode_complete(bytes: &[u8]) -> Result<(u64, Standing), FormatError> {
    let mut fields = open_sealed(bytes)?;
    let cut = fields.u64()?;
    Ok((cut, Standing::decode(fields.rest)?))
}

/// Ends the record that starts at `start` with its checksum.
fn seal(out: &mut Vec<u8>, start: usize) {
    let checksum = xxh3_64(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// The fields of a sealed record, after checksum and version.
fn open_sealed(bytes: &[u8]) -> Result<Fields<'_>, FormatError> {
    let (body, checksum) = bytes.split_last_chunk::<8>().ok_or(FormatError::Checksum)?;
    if xxh3_64(body) != u64::from_be_bytes(*checksum) {
        return Err(FormatError::Checksum);
    }
    let mut fields = Fields {
        version: 0,
        rest: body,
    };
    let version = u16::from_be_bytes(fields.array()?);
    fields.version = version;
    if version > STANDING_VERSION {
        return Err(FormatError::Newer(version));
    }
    if version == 0 {
        return Err(FormatError::Contents("format version 0 was never written"));
    }
    Ok(fields)
}

fn put_log_id(out: &mut Vec<u8>, log_id: &Option<LogId>) {
    match log_id {
        None => out.push(0),
        Some(log_id) => {
            let leader = log_id.committed_leader_id();
            out.push(1);
            out.extend_from_slice(&leader.term.to_be_bytes());
            out.extend_from_slice(&leader.node_id.to_be_bytes());
            out.extend_from_slice(&log_id.index().to_be_bytes());
        }
    }
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership<NodeId, BasicNode>) {
    let configs = membership.get_joint_config();
    out.extend_from_slice(&(configs.len() as u32).to_be_bytes());
    for config in configs {
        out.extend_from_slice(&(config.len() as u32).to_be_bytes());
        for node_id in config {
            out.extend_from_slice(&node_id.to_be_bytes());
        }
    }
    out.extend_from_slice(&(membership.nodes().count() as u32).to_be_bytes());
    for (node_id, node) in membership.nodes() {
        out.extend_from_slice(&node_id.to_be_bytes());
        out.extend_from_slice(&(node.addr.len() as u32).to_be_bytes());
        out.extend_from_slice(node.addr.as_bytes());
    }
}

/// Reads field after field; running out is damage, never a panic.
struct Fields<'a> {
    version: u16,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(FormatError::Contents("it ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }
    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }
    fn u128(&mut self) -> Result<u128, FormatError> {
        self.array().map(u128::from_be_bytes)
    }
    fn count(&mut self, max: usize) -> Result<usize, FormatError> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > max {
            return Err(FormatError::Contents("a count in it is beyond all limits"));
        }
        Ok(count)
    }
    fn log_id(&mut self) -> Result<Option<LogId>, FormatError> {
        match self.array::<1>()?[0] {
            0 => Ok(None),
            1 => {
                let (term, node_id, index) = (self.u64()?, self.u64()?, self.u64()?);
                Ok(Some(log_id(term, node_id, index)))
            }
            _ => Err(FormatError::Contents(
                "a log id in it is neither there nor absent",
            )),
        }
    }
    fn membership(&mut self) -> Result<Membership<NodeId, BasicNode>, FormatError> {
        let mut configs = Vec::new();
        for _ in 0..self.count(MEMBERS_MAX)? {
            let mut config = BTreeSet::new();
            for _ in 0..self.count(MEMBERS_MAX)? {
                config.insert(self.u64()?);
            }
            configs.push(config);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(MEMBERS_MAX)? {
            let node_id = self.u64()?;
            let length = self.count(ADDRESS_BYTES_MAX)?;
            let (address, rest) = self
                .rest
                .split_at_checked(length)
                .ok_or(FormatError::Contents("it ends too early"))?;
            self.rest = rest;
            let addr = String::from_utf8(address.to_vec())
                .map_err(|_| FormatError::Contents("a node's address is not text"))?;
            nodes.insert(node_id, BasicNode { addr });
        }
        Membership::new(configs, nodes)
            .map_err(|_| FormatError::Contents("its membership has an empty voter set or an unknown voter"))
    }
    fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Contents("it goes on after its end"))
        }
    }
}

/// The highest id in a membership; zero when it has no members.
pub fn highest_node_id(membership: &StoredMembership) -> NodeId {
    membership.nodes().map(|(node_id, _)| *node_id).max().unwrap_or(0)
}

/// A log id from its parts.
pub fn log_id(term: u64, node_id: NodeId, index: u64) -> LogId {
    type Leader = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
    LogId::new(Leader { term, node_id }, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        let nodes = BTreeMap::from([
            (
                1,
                BasicNode {
                    addr: "127.0.0.1:7001".into(),
                },
            ),
            (
                2,
                BasicNode {
                    addr: "[::1]:7002".into(),
                },
            ),
            (9, BasicNode { addr: String::new() }),
        ]);
        let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([1])];
        Standing {
            last_log_id: Some(log_id(3, 2, 77)),
            membership: StoredMembership::new(
                Some(log_id(2, 1, 5)),
                Membership::new(configs, nodes).expect("valid membership"),
            ),
            node_id_highest: 17,
            cluster_id: 0xfeed,
            row_count: 12,
            digest: u128::MAX - 3,
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        for standing in [Standing::default(), standing()] {
            let mut bytes = Vec::new();
            standing.encode(&mut bytes);
            assert_eq!(Standing::decode(&bytes), Ok(standing.clone()));
            assert_eq!(
                decode_complete(&encode_complete(41, &standing)),
                Ok((41, standing))
            );
        }
        assert_eq!(decode_writing(&encode_writing(7)), Ok(7));
    }

    #[test]
    fn a_standing_of_version_1_has_the_highest_id_of_its_members() {
        let standing = standing();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&1u16.to_be_bytes());
        put_log_id(&mut bytes, &standing.last_log_id);
        put_log_id(&mut bytes, standing.membership.log_id());
        put_membership(&mut bytes, standing.membership.membership());
        bytes.extend_from_slice(&standing.cluster_id.to_be_bytes());
        bytes.extend_from_slice(&standing.row_count.to_be_bytes());
        bytes.extend_from_slice(&standing.digest.to_be_bytes());
        seal(&mut bytes, 0);
        let expected = Standing {
            node_id_highest: 9,
            ..standing
        };
        assert_eq!(Standing::decode(&bytes), Ok(expected));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let bytes = encode_complete(41, &standing());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(
                    decode_complete(&damaged),
                    Err(FormatError::Checksum),
                    "byte {at}, bit {bit}"
                );
            }
            assert!(decode_complete(&bytes[..at]).is_err(), "cut to {at} bytes");
        }
    }

    #[test]
    fn newer_records_are_called_newer() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(STANDING_VERSION + 1).to_be_bytes());
        seal(&mut bytes, 0);
        assert_eq!(
            Standing::decode(&bytes),
            Err(FormatError::Newer(STANDING_VERSION + 1))
        );
    }

    #[test]
    fn senseless_counts_behind_a_valid_checksum_are_refused() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&STANDING_VERSION.to_be_bytes());
        put_log_id(&mut bytes, &None);
        put_log_id(&mut bytes, &None);
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        seal(&mut bytes, 0);
        assert!(matches!(Standing::decode(&bytes), Err(FormatError::Contents(_))));
    }
}
