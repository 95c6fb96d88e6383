//! The `[security]` table: one process, one certificate, whatever it runs.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use security::{Guard, Tls, TlsFiles, Tokens, tls::Callers};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// Largest file that is read as a token, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;

/// Who this process is, whom it believes, and whether it may do without.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecuritySettings {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub authority_file: PathBuf,
    pub token_file: PathBuf,
    pub tokens_file: PathBuf,
    pub allow_plain_text: bool,
}

fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

impl SecuritySettings {
    /// The certificate's files. Key and authority are beside it unless they are said to be elsewhere.
    fn files(&self) -> Result<Option<TlsFiles>, Failure> {
        let Some(certificate) = given(&self.certificate_file) else {
            for (key, path) in [
                ("key_file", &self.key_file),
                ("authority_file", &self.authority_file),
            ] {
                if given(path).is_some() {
                    return Err(Failure::Usage(format!(
                        "`security.{key}` is set without `security.certificate_file`: name the certificate, too"
                    )));
                }
            }
            return Ok(None);
        };
        let beside = |path: &Path, name: PathBuf| given(path).map_or(name, Path::to_owned);
        Ok(Some(TlsFiles {
            authority: beside(&self.authority_file, certificate.with_file_name("ca.pem")),
            certificate: certificate.to_owned(),
            key: beside(&self.key_file, certificate.with_extension("key")),
        }))
    }

    /// This process's certificate; `None` when it has none.
    pub fn tls(&self, callers: Callers) -> Result<Option<Arc<Tls>>, Failure> {
        let Some(files) = self.files()? else {
            return Ok(None);
        };
        let loaded =
            Tls::load(files, callers).map_err(|error| Failure::Usage(format!("certificate: {error}")))?;
        Ok(Some(loaded))
    }

    /// The API tokens that this process takes; `None` when it takes none.
    pub fn tokens(&self) -> Result<Option<Arc<Tokens>>, Failure> {
        let load = |path| Tokens::load(path).map_err(|error| Failure::Usage(error.to_string()));
        given(&self.tokens_file).map(load).transpose()
    }

    /// What a node's port is guarded by. Who has no certificate may come in where tokens are taken.
    pub fn guard(&self) -> Result<Guard, Failure> {
        let tokens = self.tokens()?;
        let callers = match tokens {
            Some(_) => Callers::CertifiedOrToken,
            None => Callers::Certified,
        };
        Ok(Guard {
            tls: self.tls(callers)?,
            tokens,
        })
    }

    /// The token that this process shows to nodes.
    pub fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = given(&self.token_file) else {
            return Ok(None);
        };
        let failed = |why: &dyn std::fmt::Display| {
            Failure::Usage(format!("`security.token_file` {}: {why}", path.display()))
        };
        let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
        if length > TOKEN_FILE_BYTES_MAX {
            return Err(failed(&"too long for a token"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Refuses to serve in plain text where others than this machine may listen in.
    pub fn check_plain_text(&self, key: &str, listen: &str, next_step: &str) -> Result<(), Failure> {
        if self.allow_plain_text || is_loopback(listen) {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "`{key}`: \"{listen}\" is reached from other machines, and nothing protects it: {next_step}, listen on \
             127.0.0.1, or say --allow-plain-text if nobody but friends can reach that network"
        )))
    }
}

/// Whether only this machine reaches an address. A name may mean anything but `localhost`.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_this_machine_unless_allowed() {
        let closed = SecuritySettings::default();
        for listen in ["127.0.0.1:7401", "127.9.9.9:1", "[::1]:7401", "localhost:7401"] {
            closed.check_plain_text("node.listen", listen, "").unwrap();
        }
        let open = SecuritySettings {
            allow_plain_text: true,
            ..SecuritySettings::default()
        };
        for listen in [
            "0.0.0.0:7401",
            "[::]:7401",
            "10.0.0.1:7401",
            "node-1:7401",
            "127.0.0.1.evil:1",
        ] {
            let failure = closed
                .check_plain_text("node.listen", listen, "give it a certificate")
                .unwrap_err();
            let text = failure.to_string();
            assert!(
                text.contains(listen) && text.contains("--allow-plain-text"),
                "{text}"
            );
            assert_eq!(failure.code(), 2);
            open.check_plain_text("node.listen", listen, "").unwrap();
        }
    }

    #[test]
    fn key_and_authority_are_beside_the_certificate() {
        let settings = SecuritySettings {
            certificate_file: "certs/node-1.pem".into(),
            ..SecuritySettings::default()
        };
        let files = settings.files().unwrap().unwrap();
        assert_eq!(files.key, Path::new("certs/node-1.key"));
        assert_eq!(files.authority, Path::new("certs/ca.pem"));
        let halved = SecuritySettings {
            key_file: "x.key".into(),
            ..SecuritySettings::default()
        };
        assert_eq!(halved.files().unwrap_err().code(), 2);
        assert_eq!(SecuritySettings::default().files().unwrap(), None);
        let missing = settings.tls(Callers::Certified).unwrap_err();
        assert!(missing.to_string().contains("certs/ca.pem"), "{missing}");
    }
}
