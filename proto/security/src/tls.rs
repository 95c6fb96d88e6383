//! TLS 1.3, both ways: who connects shows a certificate, and so does who answers.
//!
//! A peer is known by the name in its certificate ([`Name`]), never by the address it was reached at: nodes
//! move, and an address proves nothing. Three things must hold: the cluster's authority signed the
//! certificate, it is in its time, and it names our cluster; who dials a certain node also checks that it is
//! that node. A refusal happens in the handshake: no byte of a call is read before.
//!
//! Certificates are read anew when their files change ([`Tls::keep_fresh`] looks every [`LOOK_MS`]); what
//! cannot be used is reported and the old ones stay. New connections use the new ones, open connections live
//! on until they end.
//!
//! Left out: session resumption (connections are few and long, and a resumed one checks nothing again).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    name::{Kind, Name, NameError},
    tokens::{Tokens, stamp},
};

/// How often the files are looked at, in ms: a new certificate counts within seconds, and looking costs
/// nothing.
pub const LOOK_MS: u64 = 5_000;

/// So long before a certificate ends it is warned about, in seconds: 14 days, time for somebody to come back
/// from a holiday.
pub const EXPIRY_WARNING_S: u64 = 14 * 86_400;

/// How often that warning is repeated, in seconds: once a day.
const WARNING_EVERY_S: u64 = 86_400;

/// Largest PEM file, in bytes: a chain has a few KB.
const PEM_BYTES_MAX: u64 = 256 << 10;

/// Most of the other side's first words that are taken before its connection is handed on, in bytes.
const FIRST_BYTES_MAX: usize = 256;

/// Name of the gauge of when a certificate ends.
pub const EXPIRY_METRIC: &str = "holdfast_certificate_expiry_timestamp_seconds";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A certificate that names nobody.
    #[error("{}: {source}; `holdfast certs dev` makes such certificates", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NameError,
    },
    /// Certificate, key and authority do not fit one another.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

/// Where the three files are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that are believed: one, or two while one replaces the other.
    pub authority: PathBuf,
    /// Our own certificate, with what stands between it and the authority, if anything.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Whom a connection must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Any node of the cluster.
    AnyNode,
    /// This one.
    Node(u64),
}

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Those with a certificate.
    Certified,
    /// Also those without: they must show a token on every call that needs one.
    CertifiedOrToken,
}

/// A process's certificates, and the connections they protect.
pub struct Tls {
    files: TlsFiles,
    callers: Callers,
    current: RwLock<Arc<Current>>,
}

/// What was read at one time.
struct Current {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: Name,
    /// Unix seconds at which the certificate ends, and at which the first authority does.
    certificate_until_s: u64,
    authority_until_s: u64,
    stamps: Stamps,
}

type Stamps = [Option<(SystemTime, u64)>; 3];

/// A protected connection that we made.
pub struct ClientStream<IO> {
    stream: tokio_rustls::client::TlsStream<IO>,
    /// Read already, and not yet handed on.
    first: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.first.len().min(into.remaining());
        let rest = self.first.split_off(count);
        into.put_slice(&self.first);
        self.first = rest;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A protected connection that we took.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.name())
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, is not what it should be, or does not fit the others.
    pub fn load(files: TlsFiles, callers: Callers) -> Result<Arc<Tls>, TlsError> {
        let current = read(&files, callers)?;
        let tls = Tls {
            files,
            callers,
            current: RwLock::new(Arc::new(current)),
        };
        tls.tell_expiry();
        Ok(Arc::new(tls))
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who we are.
    pub fn name(&self) -> Name {
        self.current().name.clone()
    }

    /// Protects a connection that we made, checks whom it leads to, and waits until he has accepted us: in TLS 1.3
    /// a caller is done with the handshake before his certificate is looked at. HTTP/2 servers speak first, so
    /// their first bytes say that; a refusal comes in their place, and nothing of ours has been read.
    ///
    /// # Errors
    /// The other side is somebody else, or does not believe us, or breaks off.
    pub async fn connect<IO>(&self, io: IO, expect: Expect) -> io::Result<ClientStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.current().client));
        // Names in certificates count, not the host's; the protocol wants some name to send.
        let host = ServerName::try_from("node.holdfast").expect("a name of letters and a dot");
        let mut stream = connector.connect(host, io).await.map_err(explained)?;
        let name = peer_name(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
        let meant = match expect {
            Expect::AnyNode => name.kind() == Kind::Node,
            Expect::Node(id) => name.node_id() == Some(id),
        };
        if !meant {
            let wanted = match expect {
                Expect::AnyNode => "a node".to_owned(),
                Expect::Node(id) => format!("node {id}"),
            };
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the certificate at the other end is of {name}, and {wanted} was expected"),
            ));
        }
        let mut first = vec![0; FIRST_BYTES_MAX];
        let count = stream.read(&mut first).await.map_err(explained)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.truncate(count);
        Ok(ClientStream { stream, first })
    }

    /// Protects a connection that we took; gives the name of the caller, if he showed a certificate.
    ///
    /// # Errors
    /// The other side is nobody we know, or does not believe us, or breaks off.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<(ServerStream<IO>, Option<Name>)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current().server));
        let stream = acceptor.accept(io).await?;
        let name = match stream.get_ref().1.peer_certificates() {
            None => None,
            shown => Some(peer_name(shown).map_err(io::Error::other)?),
        };
        Ok((stream, name))
    }

    /// Reads the files again if any has changed; says whether it had.
    ///
    /// # Errors
    /// What is there now cannot be used; what was read before goes on counting.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let known = self.current();
        if stamps(&self.files) == known.stamps {
            return Ok(false);
        }
        let current = read(&self.files, self.callers)?;
        if current.name != known.name {
            return Err(TlsError::Unfit {
                path: self.files.certificate.clone(),
                why: format!(
                    "it names {}, but this process is {}; restart it to make it another",
                    current.name, known.name
                ),
            });
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        self.tell_expiry();
        Ok(true)
    }

    /// When certificate and authority end, in Unix seconds.
    pub fn ends_s(&self) -> (u64, u64) {
        let current = self.current();
        (current.certificate_until_s, current.authority_until_s)
    }

    fn tell_expiry(&self) {
        let (certificate_s, authority_s) = self.ends_s();
        metrics::gauge!(EXPIRY_METRIC, "certificate" => "own").set(certificate_s as f64);
        metrics::gauge!(EXPIRY_METRIC, "certificate" => "authority").set(authority_s as f64);
    }

    /// What to say about certificates that have ended or soon will, at a time in Unix seconds.
    pub fn expiry_warnings(&self, now_s: u64) -> Vec<String> {
        let (certificate_s, authority_s) = self.ends_s();
        [
            (&self.files.certificate, certificate_s),
            (&self.files.authority, authority_s),
        ]
        .into_iter()
        .filter(|(_, until_s)| now_s + EXPIRY_WARNING_S >= *until_s)
        .map(|(path, until_s)| {
            let path = path.display();
            match until_s.checked_sub(now_s) {
                Some(left_s) if left_s > 0 => format!(
                    "the certificate {path} ends in {} days; put a new one in its place, no restart is needed",
                    left_s / 86_400
                ),
                _ => format!(
                    "the certificate {path} has ended, and new connections fail; put a new one in its place"
                ),
            }
        })
        .collect()
    }
}

/// Whom the certificate in a file names, and when it ends.
///
/// # Errors
/// It cannot be read, or names nobody.
pub fn describe(path: &Path) -> Result<(Name, SystemTime), TlsError> {
    let chain = certificates(path)?;
    let name = Name::in_certificate(&chain[0]).map_err(|source| TlsError::Name {
        path: path.to_owned(),
        source,
    })?;
    let ends = UNIX_EPOCH + Duration::from_secs(ends_s(&chain[0]).unwrap_or_default());
    Ok((name, ends))
}

/// Reads certificates and tokens again whenever their files change, and warns of what ends soon. Never ends.
pub async fn keep_fresh(tls: Option<Arc<Tls>>, tokens: Option<Arc<Tokens>>) {
    let mut warned_s = 0;
    loop {
        let (tls, tokens) = (tls.clone(), tokens.clone());
        // A few small files, but a disk may hang.
        let warnings = tokio::task::spawn_blocking(move || {
            if let Some(tokens) = tokens {
                told("tokens", tokens.refresh().map_err(|error| error.to_string()));
            }
            tls.map_or_else(Vec::new, |tls| {
                told("certificates", tls.refresh().map_err(|error| error.to_string()));
                tls.tell_expiry();
                tls.expiry_warnings(now_s())
            })
        })
        .await
        .unwrap_or_default();
        if !warnings.is_empty() && now_s() >= warned_s + WARNING_EVERY_S {
            warned_s = now_s();
            for warning in warnings {
                tracing::warn!("{warning}");
            }
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

fn told(what: &'static str, refreshed: Result<bool, String>) {
    match refreshed {
        Ok(true) => tracing::info!(what, "read again: new ones count from now on"),
        Ok(false) => {}
        Err(error) => tracing::error!(what, %error, "could not be read again; the old ones go on counting"),
    }
}

/// An error of a connection that we made; if it says that the other side does not accept our certificate, in words
/// that say what to do.
fn explained(error: io::Error) -> io::Error {
    use AlertDescription as Alert;
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::DecryptError),
        )) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "the other side does not accept our certificate ({alert:?}): it must be in its time, and of the same \
                 authority and cluster"
            ),
        ),
        _ => error,
    }
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn stamps(files: &TlsFiles) -> Stamps {
    [&files.authority, &files.certificate, &files.key].map(|path| stamp(path))
}

fn peer_name(certificates: Option<&[CertificateDer<'_>]>) -> Result<Name, NameError> {
    let certificate = certificates
        .and_then(<[_]>::first)
        .ok_or_else(|| NameError::Certificate("none was shown".to_owned()))?;
    Name::in_certificate(certificate)
}

fn read(files: &TlsFiles, callers: Callers) -> Result<Current, TlsError> {
    // Looked at first: what changes while it is read is read again.
    let stamps = stamps(files);
    let authorities = certificates(&files.authority)?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|error| TlsError::File {
            path: files.authority.clone(),
            why: format!("it holds no certificate of an authority: {error}"),
        })?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(&files.certificate)?;
    let name = Name::in_certificate(&chain[0]).map_err(|source| TlsError::Name {
        path: files.certificate.clone(),
        source,
    })?;
    let unfit = |error: &dyn fmt::Display| TlsError::Unfit {
        path: files.certificate.clone(),
        why: error.to_string(),
    };
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;

    let believed = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let believed = match callers {
        Callers::Certified => believed,
        Callers::CertifiedOrToken => believed.allow_unauthenticated(),
    };
    let verifier = Arc::new(CallerVerifier {
        inner: believed.build().map_err(|error| unfit(&error))?,
        cluster: name.cluster().to_owned(),
    });
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key(&files.key)?)
        .map_err(|error| unfit(&format!("{error}; is {} its key?", files.key.display())))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let verifier = Arc::new(NodeVerifier {
        roots,
        algorithms,
        cluster: name.cluster().to_owned(),
    });
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain.clone(), key(&files.key)?)
        .map_err(|error| unfit(&format!("{error}; is {} its key?", files.key.display())))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;

    let until = |path: &Path, certificates: &[CertificateDer<'_>]| {
        let ends = certificates.iter().map(|der| ends_s(der));
        ends.min().flatten().ok_or_else(|| TlsError::File {
            path: path.to_owned(),
            why: "a certificate in it cannot be read".to_owned(),
        })
    };
    Ok(Current {
        server: Arc::new(server),
        client: Arc::new(client),
        name,
        certificate_until_s: until(&files.certificate, &chain)?,
        authority_until_s: until(&files.authority, &authorities)?,
        stamps,
    })
}

/// HTTP/2, as gRPC needs it.
const ALPN: &[u8] = b"h2";

/// When a certificate ends, in Unix seconds.
fn ends_s(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let text = bounded(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(failed("no certificate in PEM in it".to_owned()));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&bounded(path)?).map_err(|error| TlsError::File {
        path: path.to_owned(),
        why: format!("no private key in PEM in it: {error}"),
    })
}

fn bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    if stamp(path).is_some_and(|(_, bytes)| bytes > PEM_BYTES_MAX) {
        return Err(failed(format!("more than {PEM_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

/// Refuses a certificate that names nobody, or somebody of another cluster.
fn check_cluster(certificate: &CertificateDer<'_>, cluster: &str) -> Result<Name, rustls::Error> {
    let refused = |error: Box<dyn std::error::Error + Send + Sync>| {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(error))))
    };
    let name = Name::in_certificate(certificate).map_err(|error| refused(error.into()))?;
    if name.cluster() == cluster {
        return Ok(name);
    }
    Err(refused(
        format!("{name} is of another cluster; this one is {cluster}").into(),
    ))
}

/// Believes the cluster's authority about who answers, whatever address he answers at.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    cluster: String,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        check_cluster(certificate, &self.cluster)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes the cluster's authority about who calls.
#[derive(Debug)]
struct CallerVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    cluster: String,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        check_cluster(certificate, &self.cluster)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }
}
