//! Who is calling: bearer tokens (JWT), verified once and remembered until they expire; and what he may.
//!
//! - Only HS256 and EdDSA, each only with keys given for it; the token's own `alg` selects among them
//!   and can never turn a public key into a shared secret or verification off.
//! - `sub` is the user, `role` one of four, `exp` is required. A token without them opens nothing.
//! - API tokens ([`security::tokens`]) count beside them, and open what their role may.
//! - What a role may is said by [`security::access`]'s table alone, by method and route.
//! - The memory of verified tokens compares whole tokens, never hashes of them, and is bounded.
//!
//! Left out: fetching keys from an issuer and revocation lists. Tokens are expected to be short-lived.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderValue, StatusCode, header::AUTHORIZATION, request::Parts},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use security::{
    Tokens,
    access::{self, Row},
    audit, tokens,
};
use serde::{Deserialize, Serialize};

pub use security::Role;

use crate::{
    door::Door,
    error::{Kind, Problem},
    options::{Options, StartError},
    telemetry::TRACEPARENT,
};

/// Longest user id, in bytes: what the store takes.
pub(crate) const USER_BYTES_MAX: usize = 64;

/// Longest token, in bytes: ours have some 250; a few KB is somebody else's.
const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// Clock difference tolerated between the issuer and this machine, in seconds.
const CLOCK_LEEWAY_S: u64 = 5;

/// Shortest HS256 secret, in bytes: RFC 7518, 3.2 requires as many bits as the hash has.
const HS256_SECRET_BYTES_MIN: usize = 32;

/// Parts the memory of tokens is cut into, so that requests seldom wait for each other's writes.
const SHARDS: usize = 16;

/// Whose tokens are believed.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Those signed with these keys.
    Keys(Keys),
    /// Those signed with a key made at random at start, which `POST /dev/token` gives to everybody.
    /// Must be asked for; never for production.
    Development,
}

/// Keys to verify tokens with. Several of a kind allow rotation: any of them may have signed.
#[derive(Clone, Default)]
pub struct Keys {
    /// HS256 secrets, at least 32 bytes each.
    pub hs256_secrets: Vec<Vec<u8>>,
    /// Ed25519 public keys in PEM, for EdDSA.
    pub ed25519_public_pems: Vec<Vec<u8>>,
    /// When given, `iss` must be this.
    pub issuer: Option<String>,
    /// When given, `aud` must contain this.
    pub audience: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("Keys")
            .field("hs256_secrets", &self.hs256_secrets.len())
            .field("ed25519_public_pems", &self.ed25519_public_pems.len())
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish()
    }
}

/// Who is calling.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) role: Role,
}

/// The caller of a request, verified, and allowed to make it.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<Identity>, Asked);

/// What a caller asked for, as far as the audit log needs it.
#[derive(Clone, Debug, Default)]
struct Asked {
    row: Option<&'static Row>,
    traceparent: Option<HeaderValue>,
}

impl Caller {
    fn of(user: String, role: Role) -> Caller {
        Caller(Arc::new(Identity { user, role }), Asked::default())
    }

    /// Lets the caller through if the table says so.
    fn admitted(mut self, parts: &Parts) -> Result<Caller, Problem> {
        let route = parts.extensions.get::<MatchedPath>();
        let row = route.and_then(|route| access::http(parts.method.as_str(), route.as_str()));
        let row = row.ok_or_else(|| Problem::new(Kind::Forbidden, "nobody may call this"))?;
        self.1 = Asked {
            row: Some(row),
            traceparent: parts.headers.get(TRACEPARENT).cloned(),
        };
        row.check(&self.known()).map_err(|denied| {
            let denied = denied.to_string();
            if row.audited {
                self.tell(&parts.uri.path(), &denied);
            }
            Problem::new(Kind::Forbidden, denied)
        })?;
        Ok(self)
    }

    /// As the table and the audit log know callers.
    fn known(&self) -> access::Caller {
        access::Caller {
            kind: self.0.role.into(),
            name: self.0.user.clone(),
            shown: access::Shown::Token,
        }
    }

    /// Leaves a line in the audit log if this was an operator's action.
    pub(crate) fn acted<T>(&self, arguments: &dyn fmt::Debug, answer: &Result<T, Problem>) {
        self.tell_action(
            arguments,
            answer.as_ref().map_or_else(|problem| problem.slug(), |_| "ok"),
        );
    }

    /// As [`Caller::acted`], where only the answer's status is known.
    pub(crate) fn answered(&self, arguments: &dyn fmt::Debug, status: StatusCode) {
        let outcome = if status.is_success() {
            "ok"
        } else {
            status.as_str()
        };
        self.tell_action(arguments, outcome);
    }

    fn tell_action(&self, arguments: &dyn fmt::Debug, outcome: &str) {
        if self.1.row.is_some_and(|row| row.audited) || self.0.role == Role::Operator {
            self.tell(arguments, outcome);
        }
    }

    fn tell(&self, arguments: &dyn fmt::Debug, outcome: &str) {
        let Some(row) = self.1.row else { return };
        let traceparent = self.1.traceparent.as_ref().and_then(|value| value.to_str().ok());
        let trace_id = audit::trace_id(traceparent);
        audit::action(Some(&self.known()), row.call, arguments, outcome, &trace_id);
    }
}

#[derive(Serialize, Deserialize)]
struct TokenClaims {
    sub: String,
    role: Role,
    exp: u64,
}

struct Remembered {
    caller: Caller,
    /// Unix seconds.
    until_s: u64,
}

/// Verifies tokens.
pub(crate) struct Verifier {
    keys: Vec<(DecodingKey, Validation)>,
    /// Development mode's own key.
    minting: Option<EncodingKey>,
    /// API tokens that count beside JWTs.
    tokens: Option<Arc<Tokens>>,
    shards: Vec<RwLock<HashMap<Box<str>, Remembered>>>,
    shard_tokens_max: usize,
    hasher: RandomState,
}

impl Verifier {
    pub(crate) fn new(options: &Options) -> Result<Self, StartError> {
        let (keys, minting) = match &options.auth {
            Auth::Keys(keys) => (keys.clone(), None),
            Auth::Development => {
                let secret: [u8; HS256_SECRET_BYTES_MIN] = rand::random();
                let shown: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                tracing::warn!(
                    hs256_secret_hex = shown,
                    "development mode: everybody who can reach this port may mint tokens at POST /dev/token"
                );
                let keys = Keys {
                    hs256_secrets: vec![secret.to_vec()],
                    ..Keys::default()
                };
                (keys, Some(EncodingKey::from_secret(&secret)))
            }
        };
        Ok(Verifier {
            keys: decoding_keys(&keys, options.tokens.is_some())?,
            minting,
            tokens: options.tokens.clone(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            shard_tokens_max: options.tokens_cached_max.div_ceil(SHARDS),
            hasher: RandomState::new(),
        })
    }

    /// Who a token belongs to.
    pub(crate) fn verify(&self, token: &str, now_s: u64) -> Result<Caller, Problem> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(unauthenticated("the token is too long"));
        }
        if token.starts_with(tokens::PREFIX) {
            return self.holder(token);
        }
        let shard = &self.shards[self.hasher.hash_one(token) as usize % SHARDS];
        if let Some(known) = shard
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .get(token)
            && now_s < known.until_s
        {
            return Ok(known.caller.clone());
        }
        let claims = self.check(token)?;
        if claims.sub.is_empty() || claims.sub.len() > USER_BYTES_MAX {
            return Err(unauthenticated("the token's sub must have 1 to 64 bytes"));
        }
        let until_s = claims.exp.saturating_add(CLOCK_LEEWAY_S);
        if now_s >= until_s {
            return Err(unauthenticated(EXPIRED));
        }
        let caller = Caller::of(claims.sub, claims.role);
        let mut shard = shard.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if shard.len() >= self.shard_tokens_max {
            shard.retain(|_, known| now_s < known.until_s);
            if shard.len() >= self.shard_tokens_max {
                // Forgetting only costs another verification.
                shard.clear();
            }
        }
        shard.insert(
            token.into(),
            Remembered {
                caller: caller.clone(),
                until_s,
            },
        );
        Ok(caller)
    }

    /// Whose API token this is. Not remembered: taken out of its file, it must open nothing any more.
    fn holder(&self, token: &str) -> Result<Caller, Problem> {
        let holder = self.tokens.as_ref().and_then(|tokens| tokens.holder(token));
        let holder = holder.ok_or_else(|| unauthenticated("the API token is not known here"))?;
        match Role::try_from(holder.kind) {
            Ok(role) => Ok(Caller::of(holder.name, role)),
            Err(_) => Err(unauthenticated(
                "the API token is a door's own, which opens the nodes only",
            )),
        }
    }

    fn check(&self, token: &str) -> Result<TokenClaims, Problem> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| unauthenticated("the bearer token is not a JWT with a known algorithm"))?;
        let mut refusal = "no key here verifies tokens of this algorithm";
        for (key, validation) in &self.keys {
            if !validation.algorithms.contains(&header.alg) {
                continue;
            }
            match jsonwebtoken::decode::<TokenClaims>(token, key, validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => refusal = why(error.kind()),
            }
            // A token that this key did sign is not going to be better under another.
            if refusal != SIGNATURE {
                break;
            }
        }
        Err(unauthenticated(refusal))
    }

    /// A token of development mode's own key; `None` outside that mode.
    pub(crate) fn mint(&self, user: &str, role: Role, expires_at_s: u64) -> Option<String> {
        let key = self.minting.as_ref()?;
        Some(sign(key, user, role, expires_at_s))
    }

    /// Whether tokens are given to everybody.
    pub(crate) fn is_development(&self) -> bool {
        self.minting.is_some()
    }
}

/// A token for a user, signed with an HS256 secret, valid until a Unix time in seconds. For tools and
/// rehearsals that hold the secret; the door itself only verifies.
pub fn mint_hs256(secret: &[u8], user: &str, role: Role, expires_at_s: u64) -> String {
    sign(&EncodingKey::from_secret(secret), user, role, expires_at_s)
}

fn sign(key: &EncodingKey, user: &str, role: Role, expires_at_s: u64) -> String {
    let claims = TokenClaims {
        sub: user.to_owned(),
        role,
        exp: expires_at_s,
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key)
        .expect("signing a map of texts and numbers with a shared secret cannot fail")
}

fn decoding_keys(keys: &Keys, tokens_too: bool) -> Result<Vec<(DecodingKey, Validation)>, StartError> {
    let validation = |algorithm: Algorithm| {
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCK_LEEWAY_S;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        // Without an audience of our own a token's `aud` is nobody's business here.
        validation.validate_aud = keys.audience.is_some();
        if let Some(audience) = &keys.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &keys.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    };
    let mut made = Vec::new();
    for (at, secret) in keys.hs256_secrets.iter().enumerate() {
        if secret.len() < HS256_SECRET_BYTES_MIN {
            let why = format!("it has {} bytes, at least 32 are needed", secret.len());
            return Err(StartError::Key {
                position: at + 1,
                algorithm: "HS256",
                why,
            });
        }
        made.push((DecodingKey::from_secret(secret), validation(Algorithm::HS256)));
    }
    for (at, pem) in keys.ed25519_public_pems.iter().enumerate() {
        let key = DecodingKey::from_ed_pem(pem).map_err(|error| StartError::Key {
            position: at + 1,
            algorithm: "EdDSA",
            why: error.to_string(),
        })?;
        made.push((key, validation(Algorithm::EdDSA)));
    }
    if made.is_empty() && !tokens_too {
        Err(StartError::NoKeys)
    } else {
        Ok(made)
    }
}

const SIGNATURE: &str = "the token's signature is not one of a key known here";

const EXPIRED: &str = "the token has expired";

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidSignature => SIGNATURE,
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, sub, iss or aud",
        ErrorKind::Json(_) => "the token's sub, role or exp is missing or malformed",
        _ => "the bearer token is malformed",
    }
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}

/// Now, in Unix seconds: for the expiry of tokens only.
pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl FromRequestParts<Arc<Door>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .ok_or_else(|| unauthenticated("send a token: Authorization: Bearer …"))?;
        let text = header
            .to_str()
            .map_err(|_| unauthenticated("the Authorization header is not text"))?;
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                door.verifier.verify(token.trim(), now_s())?.admitted(parts)
            }
            _ => Err(unauthenticated("only the Bearer scheme is known here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

    #[test]
    fn a_remembered_token_is_forgotten_when_it_expires() {
        let keys = Keys {
            hs256_secrets: vec![SECRET.to_vec()],
            ..Keys::default()
        };
        let verifier = Verifier::new(&Options::new(Auth::Keys(keys))).unwrap();
        let now_s = now_s();
        let token = mint_hs256(SECRET, "ada", Role::Shopper, now_s + 3_600);
        for later_s in [0, 1, 3_600 + CLOCK_LEEWAY_S - 1] {
            assert_eq!(verifier.verify(&token, now_s + later_s).unwrap().0.user, "ada");
        }
        for later_s in [3_600 + CLOCK_LEEWAY_S, 1_000_000] {
            let problem = verifier.verify(&token, now_s + later_s).unwrap_err();
            assert_eq!(problem.kind(), Kind::Unauthenticated);
        }
    }
}
