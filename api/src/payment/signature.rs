//! Webhooks: who sent them.
//!
//! The signature is checked over the raw body, before anything is read from it: HMAC-SHA256 of
//! `timestamp.body` under a shared secret, in `Stripe-Signature: t=…,v1=…`. Several signatures and several
//! secrets are allowed, so that secrets can be rotated without losing an event. A signature that is right
//! but old, or from the future, is refused: it may be a recording.

use std::time::Duration;

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// How far a signature's time may lie from now by default, both ways: Stripe's own default.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_secs(300);

/// Most signatures of one header that are looked at: a rotation has two.
const SIGNATURES_MAX: usize = 16;

/// Bytes of a SHA-256 MAC.
const MAC_BYTES: usize = 32;

/// Checks signatures.
#[derive(Clone, Debug)]
pub struct SignatureCheck {
    secrets: Vec<SecretString>,
    tolerance: Duration,
}

/// Why a webhook is not believed. None of them says anything about the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No header.
    #[error("Stripe-Signature is missing")]
    Missing,
    /// Not `t=…,v1=…`.
    #[error("Stripe-Signature is malformed: {0}")]
    Malformed(&'static str),
    /// No signature by any secret.
    #[error("no signature in Stripe-Signature matches; was the endpoint's secret changed?")]
    Mismatch,
    /// Rightly signed, but not now.
    #[error("the webhook was signed {age_s} s ago, and {tolerance_s} s are allowed; is a clock wrong?")]
    Stale {
        /// Seconds; negative: signed in the future.
        age_s: i64,
        /// Seconds.
        tolerance_s: u64,
    },
}

impl SignatureCheck {
    /// By any of these secrets (`whsec_…`, as the provider shows them); none of them: nothing matches.
    pub fn new(secrets: Vec<SecretString>, tolerance: Duration) -> Self {
        SignatureCheck { secrets, tolerance }
    }

    /// Whether the body was signed by one who knows a secret, and just now.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the body may be used then.
    pub fn verify(&self, header: Option<&str>, body: &[u8], now_s: u64) -> Result<(), SignatureError> {
        let signed = SignatureHeader::parse(header.ok_or(SignatureError::Missing)?)?;
        // Every secret is tried against every signature; each comparison takes constant time.
        let mut matches = false;
        for secret in &self.secrets {
            let key = secret.expose_secret().as_bytes();
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(signed.time.as_bytes());
            mac.update(b".");
            mac.update(body);
            for signature in &signed.signatures {
                matches |= mac.clone().verify_slice(signature).is_ok();
            }
        }
        if !matches {
            return Err(SignatureError::Mismatch);
        }
        if signed.time_s.abs_diff(now_s) > self.tolerance.as_secs() {
            return Err(SignatureError::Stale {
                age_s: i64::try_from(i128::from(now_s) - i128::from(signed.time_s)).unwrap_or(i64::MAX),
                tolerance_s: self.tolerance.as_secs(),
            });
        }
        Ok(())
    }
}

/// `t=…,v1=…,v1=…`; other schemes are passed over.
#[derive(Debug, PartialEq)]
struct SignatureHeader<'a> {
    /// As signed.
    time: &'a str,
    time_s: u64,
    signatures: Vec<[u8; MAC_BYTES]>,
}

impl<'a> SignatureHeader<'a> {
    fn parse(header: &'a str) -> Result<Self, SignatureError> {
        let mut time = None;
        let mut signatures = Vec::new();
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("t", _)) if time.is_some() => return Err(SignatureError::Malformed("two times")),
                Some(("t", value)) => time = Some(value),
                // What is no MAC cannot match; it is no reason to refuse those that can.
                Some(("v1", value)) if signatures.len() < SIGNATURES_MAX => {
                    signatures.extend(mac_bytes(value))
                }
                _ => {}
            }
        }
        let time = time.ok_or(SignatureError::Malformed("no time"))?;
        let time_s = Some(time)
            .filter(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|time| time.parse().ok())
            .ok_or(SignatureError::Malformed("the time is no number of seconds"))?;
        if signatures.is_empty() {
            return Err(SignatureError::Malformed("no v1 signature"));
        }
        Ok(SignatureHeader {
            time,
            time_s,
            signatures,
        })
    }
}

/// 64 hexadecimal digits.
fn mac_bytes(hex: &str) -> Option<[u8; MAC_BYTES]> {
    let digits = hex.as_bytes();
    let mut bytes = [0; MAC_BYTES];
    if digits.len() != 2 * MAC_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded"}"#;
    const TIME_S: u64 = 1_700_000_000;
    // printf '%s' '1700000000.{"id":"evt_1","type":"payment_intent.succeeded"}' | openssl dgst -sha256 -hmac …
    const BY_ONE: &str = "24fe241f221a575fd1298febdae3d1ac74ad0d3d4a0094c0c5c695b87016ec37";
    const BY_TWO: &str = "8df76e44c4f9bde7a24a1e0368b8bf7da813184e71196cf926c0c4220b162715";

    fn check(secrets: &[&str]) -> SignatureCheck {
        let secrets = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        SignatureCheck::new(secrets, SIGNATURE_TOLERANCE)
    }

    fn verify(secrets: &[&str], header: &str, now_s: u64) -> Result<(), SignatureError> {
        check(secrets).verify(Some(header), BODY, now_s)
    }

    #[test]
    fn what_openssl_signed_is_believed() {
        for (secrets, header) in [
            (&["whsec_one"][..], format!("t={TIME_S},v1={BY_ONE}")),
            (&["whsec_two"], format!("t={TIME_S},v1={BY_TWO}")),
            (&["whsec_two", "whsec_one"], format!("t={TIME_S},v1={BY_ONE}")),
            (
                &["whsec_one"],
                format!("t={TIME_S},v1={BY_TWO},v1={BY_ONE},v0=abc"),
            ),
            (
                &["whsec_one"],
                format!(" v1={} , t={TIME_S} ,v1=short", BY_ONE.to_uppercase()),
            ),
        ] {
            assert_eq!(verify(secrets, &header, TIME_S), Ok(()), "{header}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let header = format!("t={TIME_S},v1={BY_ONE}");
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(verify(&["whsec_two"], &header, TIME_S), mismatch);
        assert_eq!(verify(&[], &header, TIME_S), mismatch);
        assert_eq!(
            verify(&["whsec_one"], &format!("t=1700000001,v1={BY_ONE}"), TIME_S),
            mismatch
        );
        assert_eq!(
            verify(&["whsec_one"], &format!("t=01700000000,v1={BY_ONE}"), TIME_S),
            mismatch
        );
        let other_body = check(&["whsec_one"]).verify(Some(&header), &[BODY, b" "].concat(), TIME_S);
        assert_eq!(other_body, mismatch);
        assert_eq!(
            check(&["whsec_one"]).verify(None, BODY, TIME_S),
            Err(SignatureError::Missing)
        );
        for header in [
            "",
            "nonsense",
            &format!("v1={BY_ONE}"),
            &format!("t={TIME_S}"),
            &format!("t={TIME_S},v0={BY_ONE}"),
            &format!("t={TIME_S},v1={}", &BY_ONE[1..]),
            &format!("t={TIME_S},v1={}g", &BY_ONE[1..]),
            &format!("t={TIME_S},t={TIME_S},v1={BY_ONE}"),
            &format!("t=,v1={BY_ONE}"),
            &format!("t=+{TIME_S},v1={BY_ONE}"),
            &format!("t=-1,v1={BY_ONE}"),
            &format!("t=99999999999999999999,v1={BY_ONE}"),
        ] {
            let refused = verify(&["whsec_one"], header, TIME_S);
            assert!(
                matches!(refused, Err(SignatureError::Malformed(_))),
                "{header}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_recording_is_refused_both_ways() {
        let header = format!("t={TIME_S},v1={BY_ONE}");
        let at = |now_s| verify(&["whsec_one"], &header, now_s);
        assert_eq!((at(TIME_S + 300), at(TIME_S - 300)), (Ok(()), Ok(())));
        let stale = |age_s| {
            Err(SignatureError::Stale {
                age_s,
                tolerance_s: 300,
            })
        };
        assert_eq!(at(TIME_S + 301), stale(301));
        assert_eq!(at(TIME_S - 301), stale(-301));
        assert_eq!(at(0), stale(-1_700_000_000));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", check(&["whsec_one"]));
        assert!(!shown.contains("whsec_one"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(header in "[tv01=, a-f\\PC]{0,80}") {
            let _ = verify(&["whsec_one"], &header, TIME_S);
        }

        #[test]
        fn what_was_not_signed_never_matches(time: u64, mac in "[0-9a-f]{64}", now_s: u64) {
            let refused = verify(&["whsec_one", "whsec_two"], &format!("t={time},v1={mac}"), now_s);
            prop_assert_eq!(refused, Err(SignatureError::Mismatch));
        }

        #[test]
        fn parts_may_come_in_any_order(time: u32, macs in prop::collection::vec(any::<[u8; 32]>(), 1..4), front: bool) {
            let hex = |mac: &[u8; 32]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let mut parts: Vec<_> = macs.iter().map(|mac| format!("v1={}", hex(mac))).collect();
            parts.insert(if front { 0 } else { parts.len() }, format!("t={time}"));
            let header = parts.join(",");
            let parsed = SignatureHeader::parse(&header).unwrap();
            prop_assert_eq!((parsed.time_s, parsed.signatures), (u64::from(time), macs));
        }
    }
}
