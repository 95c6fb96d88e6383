//! The wire: `.proto` files and the code generated from them, and one message that is written by hand.
//!
//! [`v1`] is what platforms and operators speak; [`internal`] is between nodes only.

mod submit_response;

pub use submit_response::SubmitResponse;

/// `holdfast.v1`: inventory and cluster.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    pub use crate::SubmitResponse;

    tonic::include_proto!("holdfast.v1");
}

/// `holdfast.internal.v1`: raft messages between nodes.
#[allow(missing_docs, clippy::all)]
pub mod internal {
    tonic::include_proto!("holdfast.internal.v1");
}

/// Metadata key of a call: the caller's cluster id in hex; empty, or not there, while it knows none. A node of
/// another cluster refuses the call.
pub const METADATA_CLUSTER: &str = "holdfast-cluster";

/// What the ids of rehearsed sales begin with. They run on the real cluster and are sales like any other to the machine;
/// whatever lists or counts sales for people leaves them out unless asked, and the shoppers' door knows none.
pub const REHEARSAL_PREFIX: &str = "_rehearsal.";

/// Whether a sale of this id is a rehearsal.
pub fn is_rehearsal(sale_id: &str) -> bool {
    sale_id.starts_with(REHEARSAL_PREFIX)
}

/// Descriptors of every file above, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
