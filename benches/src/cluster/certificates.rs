//! Certificates of a cluster that speaks TLS both ways: every node and every client shows its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use security::{
    Kind, Name, Tls, TlsFiles,
    issue::{Authority, Validity},
    tls::Callers,
};

use crate::failure::{Doing, Failure};

/// Days the certificates of a run are good for.
const VALID_DAYS: i64 = 1;

/// Stem of the files that are the clients'.
const CLIENT_STEM: &str = "client";

const ISSUING: &str = "issuing certificates";

/// What lies in a directory: nodes take theirs as `node-ID`, clients as `client`.
pub struct Certificates {
    pub dir: PathBuf,
    pub client: Arc<Tls>,
}

impl Certificates {
    /// Issues them into the directory of a cluster of so many nodes.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn issue(dir: &Path, nodes: u64) -> Result<Certificates, Failure> {
        let validity = Validity::days(VALID_DAYS);
        let authority = Authority::new("bench", validity).doing(ISSUING)?;
        authority.keep(dir).doing(ISSUING)?;
        let issue = |kind: Kind, id: &str, stem: &str| {
            let name = Name::new("bench", kind, id).doing(ISSUING)?;
            let issued = authority.issue(&name, &[], validity).doing(ISSUING)?;
            issued.keep(dir, stem).doing(ISSUING)
        };
        for id in 1..=nodes {
            issue(Kind::Node, &id.to_string(), &format!("node-{id}"))?;
        }
        issue(Kind::Operator, "bench", CLIENT_STEM)?;
        Certificates::client_of(dir)
    }

    /// What a client finds in a directory into which they were issued.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn client_of(dir: &Path) -> Result<Certificates, Failure> {
        Ok(Certificates {
            dir: dir.to_owned(),
            client: Tls::load(files(dir, CLIENT_STEM), Callers::Certified).doing("reading certificates")?,
        })
    }
}

/// The files in the directory that are named like this.
pub fn files(dir: &Path, stem: &str) -> TlsFiles {
    TlsFiles {
        authority: dir.join("ca.pem"),
        certificate: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
    }
}
