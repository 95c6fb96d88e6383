//! Shapes of values on the command line, checked before anything is sent. The store checks them again.

use std::time::Duration;

use client::Cursor;

/// Most units of one sale.
pub const UNITS_MAX: i64 = 100_000_000;
/// Most units of one claim: what its record has room for.
pub const QUANTITY_MAX: i64 = 65_535;
/// Longest id, user or key, bytes.
const NAME_BYTES_MAX: usize = 64;
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A sale id: 1–64 of `a-z A-Z 0-9 . _ -`.
pub fn sale_id(text: &str) -> Result<String, String> {
    let shaped = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if shaped && (1..=NAME_BYTES_MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!("a sale id is 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -"))
}

/// The id of a sale to make: any but a rehearsal's.
pub fn new_sale_id(text: &str) -> Result<String, String> {
    let sale_id = sale_id(text)?;
    if client::is_rehearsal(&sale_id) {
        return Err(format!(
            "ids that begin with {} are kept for `holdfast rehearse`; choose another",
            client::REHEARSAL_PREFIX
        ));
    }
    Ok(sale_id)
}

/// A user, key or principal: 1–64 bytes.
pub fn name(text: &str) -> Result<String, String> {
    if (1..=NAME_BYTES_MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!("1 to {NAME_BYTES_MAX} bytes, not {}", text.len()))
}

/// A hold time: 1 s to 24 h, as ms.
pub fn hold_ms(text: &str) -> Result<u64, String> {
    let hold = humantime::parse_duration(text).map_err(|error| format!("{error}; write as in 3m or 90s"))?;
    if !(HOLD_MIN..=HOLD_MAX).contains(&hold) {
        return Err("a hold is between 1s and 24h".into());
    }
    u64::try_from(hold.as_millis()).map_err(|error| error.to_string())
}

/// A time of day, RFC 3339, as Unix ms.
pub fn time_ms(text: &str) -> Result<u64, String> {
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("{error}; write as in 2030-01-31T20:00:00Z"))?;
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| "before 1970".to_owned())?;
    u64::try_from(since.as_millis()).map_err(|error| error.to_string())
}

/// An ISO 4217 code: three capital letters.
pub fn currency(text: &str) -> Result<String, String> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err("three capital letters, as in EUR".into())
}

/// `host:port`, port not zero.
pub fn endpoint(text: &str) -> Result<String, String> {
    match text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()))
    {
        Some((host, Ok(port))) if !host.is_empty() && port > 0 => Ok(text.to_owned()),
        _ => Err("write host:port, as in 127.0.0.1:7401".into()),
    }
}

/// `id=host:port`.
pub fn member(text: &str) -> Result<(u64, String), String> {
    let (id, address) = text
        .split_once('=')
        .ok_or("write id=host:port, as in 1=127.0.0.1:7401")?;
    match id.parse::<u64>() {
        Ok(id) if id > 0 => Ok((id, endpoint(address)?)),
        _ => Err(format!("\"{id}\" is not a node id: a number from 1")),
    }
}

/// `index` or `index.ordinal`.
pub fn cursor(text: &str) -> Result<Cursor, String> {
    let (index, ordinal) = text.split_once('.').unwrap_or((text, "0"));
    match (index.parse(), ordinal.parse()) {
        (Ok(log_index), Ok(ordinal)) => Ok(Cursor { log_index, ordinal }),
        _ => Err("write a log index, as in 17, or index.ordinal, as in 17.3".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert!(sale_id("Hot.sale_2-b").is_ok());
        for bad in ["", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert!(sale_id(bad).is_err(), "{bad}");
        }
        assert!(new_sale_id("_rehearsal").is_ok() && new_sale_id("_rehearsal.1").is_err());
        assert!(name(&"x".repeat(64)).is_ok() && name("").is_err() && name(&"x".repeat(65)).is_err());
        assert_eq!(hold_ms("3m"), Ok(180_000));
        assert!(hold_ms("999ms").is_err() && hold_ms("25h").is_err() && hold_ms("99999999999y").is_err());
        assert_eq!(time_ms("1970-01-01T00:00:01Z"), Ok(1_000));
        assert!(time_ms("soon").is_err());
        assert!(currency("EUR").is_ok() && currency("eur").is_err());
        assert!(endpoint("[::1]:80").is_ok() && endpoint("a:0").is_err() && endpoint("a").is_err());
        assert_eq!(member("2=a:1"), Ok((2, "a:1".into())));
        assert!(member("0=a:1").is_err() && member("a:1").is_err());
        assert_eq!(
            cursor("17.3"),
            Ok(Cursor {
                log_index: 17,
                ordinal: 3
            })
        );
        assert!(cursor("17.").is_err());
    }
}
