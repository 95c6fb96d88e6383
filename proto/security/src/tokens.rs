//! API tokens: long random texts, of which only the SHA-256 is kept.
//!
//! A token has 256 random bits, so a plain hash of it tells nothing, and needs no salt. A file holds name,
//! role and hash of each; it is read again when it changes. Every hash is compared in full, whatever the
//! first ones say, so that the time taken tells nothing either.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::name::{Kind, check_part};

/// What every token begins with, so that scanners for leaked secrets can find it.
pub const PREFIX: &str = "holdfast_";

/// Longest text that is looked at as a token, in bytes: ours have 73.
pub const TOKEN_BYTES_MAX: usize = 256;

/// Most tokens in a file: each call's hash is compared with all of them, some 10 ns each.
pub const TOKENS_MAX: usize = 1_024;

/// Largest file of tokens, in bytes: the most tokens there may be, with room for comments.
const FILE_BYTES_MAX: u64 = 512 << 10;

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("tokens in {}: {why}", path.display())]
pub struct TokensError {
    path: PathBuf,
    why: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TokensToml {
    #[serde(default)]
    token: Vec<TokenToml>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TokenToml {
    name: String,
    role: Kind,
    sha256: String,
}

/// Whom a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

struct Entry {
    holder: Holder,
    hash: [u8; 32],
}

/// The tokens of a file.
pub struct Tokens {
    path: PathBuf,
    current: RwLock<Current>,
}

struct Current {
    entries: Arc<[Entry]>,
    stamp: Option<(SystemTime, u64)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.path.display())
    }
}

impl Tokens {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// It cannot be read, or is not a list of names, roles and hashes.
    pub fn load(path: &Path) -> Result<Arc<Tokens>, TokensError> {
        let current = read(path)?;
        Ok(Arc::new(Tokens {
            path: path.to_owned(),
            current: RwLock::new(current),
        }))
    }

    /// Whose token this is, if anybody's.
    pub fn holder(&self, token: &str) -> Option<Holder> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let entries = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&current.entries)
        };
        let hash = sha256(token);
        let mut found = None;
        for entry in entries.iter() {
            if bool::from(entry.hash.ct_eq(&hash)) {
                found = Some(&entry.holder);
            }
        }
        found.cloned()
    }

    /// Reads the file again if it has changed; says whether it had.
    ///
    /// # Errors
    /// What is there now cannot be used; what was read before goes on counting.
    pub fn refresh(&self) -> Result<bool, TokensError> {
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).stamp;
        if stamp(&self.path) == known {
            return Ok(false);
        }
        let current = read(&self.path)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }
}

/// A new token, and the lines that a file of tokens needs to know it by.
///
/// # Errors
/// The name cannot be one, or the role is none that a token may have.
pub fn new_token(name: &str, kind: Kind) -> Result<(String, String), String> {
    check_holder(name, kind)?;
    let secret: [u8; 32] = rand::random();
    let token = format!("{PREFIX}{}", hex(&secret));
    let stanza = format!(
        "[[token]]\nname = \"{name}\"\nrole = \"{kind}\"\nsha256 = \"{}\"\n",
        hex(&sha256(&token))
    );
    Ok((token, stanza))
}

/// Reads tokens from the text of a file.
///
/// # Errors
/// What is wrong, and where.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let file: TokensToml = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.token.len() > TOKENS_MAX {
        return Err(format!(
            "{} tokens, at most {TOKENS_MAX} are read",
            file.token.len()
        ));
    }
    file.token
        .into_iter()
        .map(|TokenToml { name, role, sha256 }| {
            check_holder(&name, role)?;
            let hash = unhex(&sha256).ok_or_else(|| {
                format!("the sha256 of `{name}` is not 64 hex digits; `holdfast token new` prints one")
            })?;
            let holder = Holder { name, kind: role };
            Ok(Entry { holder, hash })
        })
        .collect()
}

/// Whether a text is a file of tokens: for `config check` and for those who try decoders.
///
/// # Errors
/// What is wrong, and where.
pub fn check(text: &str) -> Result<usize, String> {
    parse(text).map(|entries| entries.len())
}

fn check_holder(name: &str, kind: Kind) -> Result<(), String> {
    check_part(name).map_err(|error| error.to_string())?;
    if kind == Kind::Node {
        return Err(format!("`{name}`: nodes show certificates, never tokens"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Current, TokensError> {
    let failed = |why: String| TokensError {
        path: path.to_owned(),
        why,
    };
    // Looked at first: a file that changes while it is read is read again.
    let stamp = stamp(path);
    if stamp.is_some_and(|(_, bytes)| bytes > FILE_BYTES_MAX) {
        return Err(failed(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let entries = parse(&text).map_err(failed)?;
    Ok(Current {
        entries: entries.into(),
        stamp,
    })
}

/// When a file was changed last, and how long it is: what tells that it must be read again.
pub(crate) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |letter: u8| char::from(letter).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_holder_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (ada, ada_toml) = new_token("ada", Kind::Operator).unwrap();
        let (grafana, grafana_toml) = new_token("grafana", Kind::Auditor).unwrap();
        std::fs::write(&path, format!("{ada_toml}{grafana_toml}")).unwrap();
        let tokens = Tokens::load(&path).unwrap();
        let kind = |token: &str| tokens.holder(token).map(|holder| (holder.name, holder.kind));
        assert_eq!(kind(&ada), Some(("ada".to_owned(), Kind::Operator)));
        assert_eq!(kind(&grafana), Some(("grafana".to_owned(), Kind::Auditor)));
        let hash_itself = hex(&sha256(&ada));
        for wrong in [
            "",
            &ada[1..],
            &format!("{ada} "),
            &hash_itself,
            &"x".repeat(10_000),
        ] {
            assert_eq!(kind(wrong), None, "{wrong}");
        }
        assert!(
            !ada_toml.contains(&ada[PREFIX.len()..]),
            "the token itself is not in the file"
        );
    }

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (ada, ada_toml) = new_token("ada", Kind::Operator).unwrap();
        std::fs::write(&path, &ada_toml).unwrap();
        let tokens = Tokens::load(&path).unwrap();
        assert!(!tokens.refresh().unwrap());
        std::fs::write(&path, format!("{ada_toml}nonsense")).unwrap();
        assert!(tokens.refresh().is_err());
        assert!(tokens.holder(&ada).is_some());
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(tokens.refresh().unwrap());
        assert!(
            tokens.holder(&ada).is_none(),
            "taken out of the file, it opens nothing"
        );
    }

    #[test]
    fn files_that_are_none_are_named() {
        for (text, says) in [
            ("[[token]]\nname=\"a\"\nrole=\"king\"\nsha256=\"\"", "king"),
            ("[[token]]\nname=\"a\"\nrole=\"auditor\"\nsha256=\"12\"", "64 hex"),
            ("[[token]]\nname=\"a b\"\nrole=\"auditor\"\nsha256=\"\"", "a b"),
            (
                "[[token]]\nname=\"a\"\nrole=\"node\"\nsha256=\"\"",
                "certificates",
            ),
            ("[[tokens]]\n", "tokens"),
            ("[[token]]\nname=\"a\"\nsecret=\"x\"", "secret"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let none = Tokens::load(Path::new("/nowhere/tokens.toml")).unwrap_err();
        assert!(none.to_string().contains("/nowhere/tokens.toml"), "{none}");
        assert!(new_token("3", Kind::Node).is_err());
    }
}
