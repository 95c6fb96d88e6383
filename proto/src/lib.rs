//! The wire: `.proto` files and the code generated from them, nothing clever.
//!
//! [`v1`] is what platforms and operators speak; [`internal`] is between nodes only.

/// `holdfast.v1`: inventory and cluster.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("holdfast.v1");
}

/// `holdfast.internal.v1`: raft messages between nodes.
#[allow(missing_docs, clippy::all)]
pub mod internal {
    tonic::include_proto!("holdfast.internal.v1");
}

/// Descriptors of every file above, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
