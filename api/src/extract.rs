//! The shape of requests: ids in paths, the idempotency key, JSON bodies. Everything that can be
//! refused without asking the store is refused here, as a problem that names the rule.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use client::is_rehearsal;
use futures::StreamExt;
use serde::de::DeserializeOwned;

use crate::{
    door::Door,
    error::{Kind, Problem},
};

/// The IETF draft's header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest idempotency key, in bytes: what the store takes.
pub(crate) const KEY_BYTES_MAX: usize = 64;

/// Longest sale id, in bytes.
const SALE_ID_BYTES_MAX: usize = 64;

/// Longest claim or order id that is looked up at all, in bytes; real ones have 41.
const OPAQUE_ID_BYTES_MAX: usize = 64;

/// Whether a text is a sale id: 1–64 of `a-z A-Z 0-9 . _ -`.
pub(crate) fn is_sale_id(text: &str) -> bool {
    (1..=SALE_ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The refusal of an id that is none.
pub(crate) fn not_a_sale_id() -> Problem {
    Problem::invalid("a sale id has 1 to 64 characters of a-z A-Z 0-9 . _ -")
}

/// The one id in the path, percent-decoded.
async fn id_in_path(parts: &mut Parts, door: &Arc<Door>) -> Result<String, Problem> {
    let Path(id) = Path::<String>::from_request_parts(parts, door)
        .await
        .map_err(|_| Problem::invalid("the id in the path is not UTF-8"))?;
    Ok(id)
}

/// A sale id in the path.
pub(crate) struct SaleId(pub(crate) String);

impl FromRequestParts<Arc<Door>> for SaleId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let id = id_in_path(parts, door).await?;
        if !is_sale_id(&id) {
            return Err(not_a_sale_id());
        }
        // Operators rehearse on the real cluster; shoppers and platforms never meet it.
        if is_rehearsal(&id) {
            return Err(Problem::new(Kind::SaleUnknown, ""));
        }
        Ok(SaleId(id))
    }
}

/// A claim id in the path. What cannot be one is answered like one that does not exist: ids are opaque.
pub(crate) struct ClaimId(pub(crate) String);

impl FromRequestParts<Arc<Door>> for ClaimId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let id = id_in_path(parts, door).await?;
        if is_plausible(&id) {
            Ok(ClaimId(id))
        } else {
            Err(Problem::new(Kind::ClaimUnknown, ""))
        }
    }
}

/// An order id in the path. As with claims.
pub(crate) struct OrderId(pub(crate) String);

impl FromRequestParts<Arc<Door>> for OrderId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let id = id_in_path(parts, door).await?;
        if is_plausible(&id) {
            Ok(OrderId(id))
        } else {
            Err(Problem::new(Kind::OrderUnknown, ""))
        }
    }
}

/// Whether a text could be an opaque id of ours.
fn is_plausible(id: &str) -> bool {
    (1..=OPAQUE_ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The query, with unknown or malformed fields refused.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Door>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Door>) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri)
            .map_err(|rejection| Problem::invalid(format!("query: {}", rejection.body_text())))?;
        Ok(Asked(query))
    }
}

/// The caller's idempotency key.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequestParts<Arc<Door>> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Door>) -> Result<Self, Problem> {
        idempotency_key(&parts.headers)?
            .map(IdempotencyKey)
            .ok_or_else(|| {
                Problem::new(
                    Kind::KeyMissing,
                    "send an Idempotency-Key of your choosing, and the same one when you repeat the request",
                )
            })
    }
}

/// The idempotency key of a request, if it has one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::invalid("more than one Idempotency-Key"));
    }
    parse_key(value.as_bytes()).map(Some)
}

/// A quoted structured-field string (RFC 8941, 3.3.3), its parameters ignored; or the bare text.
fn parse_key(value: &[u8]) -> Result<String, Problem> {
    let malformed = || Problem::invalid("Idempotency-Key is neither a quoted string nor bare visible ASCII");
    let value = value.trim_ascii();
    let mut key = String::with_capacity(value.len());
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let mut bytes = quoted.iter();
        loop {
            match *bytes.next().ok_or_else(malformed)? {
                b'"' => break,
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'"' | b'\\')) => key.push(char::from(*escaped)),
                    _ => return Err(malformed()),
                },
                plain @ 0x20..=0x7e => key.push(char::from(plain)),
                _ => return Err(malformed()),
            }
        }
        let rest = bytes.as_slice().trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return Err(malformed());
        }
    } else {
        for &byte in value {
            // A comma would make it a list, a semicolon start parameters, a quote a broken string.
            if !byte.is_ascii_graphic() || matches!(byte, b'"' | b',' | b';') {
                return Err(malformed());
            }
            key.push(char::from(byte));
        }
    }
    match key.len() {
        0 => Err(Problem::invalid("Idempotency-Key is empty")),
        1..=KEY_BYTES_MAX => Ok(key),
        _ => Err(Problem::invalid("Idempotency-Key is longer than 64 bytes")),
    }
}

/// A JSON body; `None` when there is none.
pub(crate) struct JsonBody<T>(pub(crate) Option<T>);

impl<T> JsonBody<T> {
    /// The body, where it may not be left out.
    pub(crate) fn required(self) -> Result<T, Problem> {
        self.0
            .ok_or_else(|| Problem::invalid("a JSON body is needed here"))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Door>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let wait = Duration::from_millis(door.options.body_read_ms_max);
        let bytes = tokio::time::timeout(wait, read(&parts.headers, body, door.options.body_bytes_max))
            .await
            .map_err(|_| Problem::new(Kind::BodyTimeout, "the body did not arrive in time"))??;
        if bytes.is_empty() {
            return Ok(JsonBody(None));
        }
        if !is_json(&parts.headers) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send Content-Type: application/json",
            ));
        }
        // serde would take a list for a struct, field by field; callers mean an object or are mistaken.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::invalid("the body must be a JSON object"));
        }
        serde_json::from_slice(&bytes)
            .map(|value| JsonBody(Some(value)))
            .map_err(|error| Problem::invalid(format!("the body is not what is expected here: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads a body of at most so many bytes. A body in one piece, as small ones are, is not copied.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Kind::BodyTooLarge,
            format!("at most {bytes_max} bytes are read here"),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) {
        return Err(too_large());
    }
    let mut pieces = body.into_data_stream();
    let mut whole = Bytes::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::invalid("the body broke off"))?;
        if whole.len() + piece.len() > bytes_max {
            return Err(too_large());
        }
        whole = if whole.is_empty() {
            piece
        } else {
            Bytes::from([whole, piece].concat())
        };
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_quoted_and_bare() {
        for (given, key) in [
            (
                &b"8e03978e-40d5-43dd-bc93-6894a57f9324"[..],
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
            ),
            (b"\"8e03978e\"", "8e03978e"),
            (b"  \"with space\"  ", "with space"),
            (br#""a\"b\\c""#, r#"a"b\c"#),
            (b"\"key\";v=1", "key"),
            (b"\"key\" ;v=1", "key"),
            (b"\"a;b,c\"", "a;b,c"),
        ] {
            assert_eq!(
                parse_key(given).unwrap().as_str(),
                key,
                "{}",
                String::from_utf8_lossy(given)
            );
        }
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert_eq!(parse_key(longest.as_bytes()).unwrap(), longest);
        assert_eq!(parse_key(format!("\"{longest}\"").as_bytes()).unwrap(), longest);
    }

    #[test]
    fn keys_that_are_none() {
        let too_long = "k".repeat(KEY_BYTES_MAX + 1);
        for given in [
            &b""[..],
            b"   ",
            b"\"\"",
            b"\"open",
            b"\"a\\",
            b"\"a\\n\"",
            b"\"a\" b",
            b"\"a\", \"b\"",
            b"a b",
            b"a,b",
            b"a;b",
            b"a\"b",
            "schlüssel".as_bytes(),
            b"\"\xff\"",
            b"\"tab\there\"",
            too_long.as_bytes(),
        ] {
            let problem = parse_key(given).unwrap_err();
            assert_eq!(
                problem.kind(),
                Kind::Invalid,
                "{}",
                String::from_utf8_lossy(given)
            );
        }
    }

    #[test]
    fn sale_ids() {
        for good in ["a", "drop-7", "A.b_C-9", "..", &"x".repeat(64)] {
            assert!(is_sale_id(good), "{good}");
        }
        for bad in ["", "a/b", "../etc/passwd", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(!is_sale_id(bad), "{bad}");
        }
    }
}
