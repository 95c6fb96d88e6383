//! Certificates for development and tests: an authority of one's own, and what it signs.
//!
//! Ed25519 would be shorter, but not every tool takes it; P-256 everybody does. For production any
//! authority will do that puts the name of [`crate::name`] into the certificate.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{
    name::{Kind, Name},
    tls::TlsFiles,
};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate could not be made: {0}")]
pub struct IssueError(String);

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        IssueError(error.to_string())
    }
}

/// When a certificate is good for, in days from now. Negative ends are for tests of what has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First day.
    pub from_days: i64,
    /// Last day.
    pub to_days: i64,
}

impl Validity {
    /// From yesterday, since clocks differ, for so many days.
    pub fn days(days: i64) -> Validity {
        Validity {
            from_days: -1,
            to_days: days,
        }
    }
}

/// An authority that signs certificates.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key: for its holder's eyes only.
    pub key_pem: String,
}

impl Authority {
    /// A new authority for a cluster.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn new(cluster: &str, validity: Validity) -> Result<Authority, IssueError> {
        let mut params = params(format!("Holdfast authority of {cluster}"), validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Authority {
            certificate_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Its own certificate, which everybody needs.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key. Whoever has it can be anybody.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// An authority from what [`Authority::certificate_pem`] and [`Authority::key_pem`] gave.
    ///
    /// # Errors
    /// They are no such things.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Authority, IssueError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Authority {
            certificate_pem: certificate_pem.to_owned(),
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key)?,
        })
    }

    /// Keeps certificate and key in a directory, as `ca.pem` and `ca.key`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep(&self, dir: &Path) -> io::Result<()> {
        put(&dir.join("ca.key"), &self.key_pem(), Access::Private)?;
        put(&dir.join("ca.pem"), &self.certificate_pem, Access::Public)
    }

    /// A certificate for a name, good at these DNS names and addresses for tools that look at those.
    ///
    /// # Errors
    /// A host that is neither a DNS name nor an address.
    pub fn issue(&self, name: &Name, hosts: &[String], validity: Validity) -> Result<Issued, IssueError> {
        let mut params = params(name.to_string(), validity);
        params
            .subject_alt_names
            .push(SanType::URI(name.to_string().try_into()?));
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node both takes calls and makes them.
        params.extended_key_usages = match name.kind() {
            Kind::Node => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// Keeps certificate and key in a directory that holds the authority's certificate, too.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep(&self, dir: &Path, stem: &str) -> io::Result<TlsFiles> {
        let files = TlsFiles {
            authority: dir.join("ca.pem"),
            certificate: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        put(&files.key, &self.key_pem, Access::Private)?;
        put(&files.certificate, &self.certificate_pem, Access::Public)?;
        Ok(files)
    }
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Access {
    Private,
    Public,
}

/// Writes a file whole, or leaves what was there.
fn put(path: &Path, text: &str, access: Access) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(match access {
            Access::Private => 0o600,
            Access::Public => 0o644,
        });
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

fn params(common_name: String, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::days(validity.from_days);
    params.not_after = now + Duration::days(validity.to_days);
    params
}
