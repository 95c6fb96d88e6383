//! Who is who, and who may do what: for every door alike.
//!
//! - [`name`]: what a certificate says its holder is (`holdfast://CLUSTER/node/3`), and the six kinds of
//!   callers.
//! - [`tls`]: TLS 1.3 both ways between nodes and from clients to nodes, with certificates read anew when
//!   their files change.
//! - [`tokens`]: API tokens, kept as hashes.
//! - [`access`]: the one table of calls and the kinds that may make them, and [`access::Guard`], which
//!   asks it.
//! - [`audit`]: the line that every operator's action leaves.
//! - [`issue`]: certificates for development and tests.
//!
//! Invariants: a certificate counts only if the cluster's own authority signed it, it is in its time, and it
//! names the same cluster as ours; what is not in the table is refused; no secret is ever logged or printed
//! twice.
//!
//! Left out: revocation lists (issue short-lived certificates, or a new authority), and users' own tokens
//! (JWT), which only the HTTP door takes.

pub mod access;
pub mod audit;
pub mod issue;
pub mod name;
pub mod tls;
pub mod tokens;

pub use access::{Caller, Guard};
pub use name::{Kind, Name, Role};
pub use tls::{Expect, Tls, TlsFiles};
pub use tokens::Tokens;
