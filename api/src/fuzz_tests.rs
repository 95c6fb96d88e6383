//! What strangers send to the door, under fire: see package `fuzz`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fuzz::Target;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{
    auth::{Auth, Keys, Role, Verifier, mint_hs256},
    options::Options,
    payment::{SecretString, SignatureCheck, webhook::WebhookEvent},
};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

fn sign(text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn fuzz_tokens() {
    let keys = Keys {
        hs256_secrets: vec![SECRET.to_vec()],
        ..Keys::default()
    };
    let verifier = Verifier::new(&Options::new(Auth::Keys(keys))).unwrap();
    let good = mint_hs256(SECRET, "ada", Role::Shopper, 4_000_000_000);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhZGEiLCJyb2xlIjoib3BlcmF0b3IifQ.";
    // Inputs are header and claims as JSON, one a line; mended, they are a token signed by the right key, so that
    // what is behind the signature is under fire as well.
    let open = |token: &str| {
        let parts: Vec<Vec<u8>> = token
            .split('.')
            .take(2)
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        parts.join(&b'\n')
    };
    let mend = |bytes: &mut Vec<u8>| {
        let parts: Vec<String> = bytes
            .splitn(2, |byte| *byte == b'\n')
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .collect();
        let signed = parts.join(".");
        let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
        *bytes = format!("{signed}.{signature}").into_bytes();
    };
    let known = [
        open(&good),
        open(none),
        good.clone().into_bytes(),
        b"holdfast_00".to_vec(),
    ];
    let words = [
        "\"alg\":\"none\"",
        "\"alg\":\"EdDSA\"",
        "\"role\":\"operator\"",
        "\"exp\":0",
        "null",
        ".",
        "\n",
    ];
    Target::new("tokens", PACKAGE)
        .known(known)
        .words(words)
        .run_mended(mend, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            match verifier.verify(&text, 1_000) {
                Ok(caller) => {
                    assert!((1..=64).contains(&caller.0.user.len()));
                    format!("{:?}", caller.0.role)
                }
                Err(problem) => format!("{problem:?}"),
            }
        });
}

#[test]
fn fuzz_webhook_signatures() {
    let body = b"{}";
    let check = SignatureCheck::new(
        vec![SecretString::from(String::from_utf8(SECRET.to_vec()).unwrap())],
        Duration::from_secs(300),
    );
    let signed = |time: &str| {
        let digits: String = sign(format!("{time}.{{}}").as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("t={time},v1={digits}")
    };
    let known = [
        signed("1000"),
        signed("1000").replace("v1", "v0"),
        "t=1,v1=,v1=00".to_owned(),
    ];
    let words = ["t=", "v1=", "v0=", ",", "=", "1000"];
    // The one secret of the test: only who has it can sign, so nothing else may pass.
    let times: Vec<String> = (700..=1_300).map(|time: u32| time.to_string()).collect();
    Target::new("webhook_signatures", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| {
            let header = String::from_utf8_lossy(bytes);
            // Digits of a signature count in either case.
            let lower = header.to_ascii_lowercase();
            match check.verify(Some(&header), body, 1_000) {
                Ok(()) => {
                    assert!(
                        times
                            .iter()
                            .any(|time| lower.contains(signed(time).split_once("v1=").unwrap().1)),
                        "passed without a signature: {header}"
                    );
                    "ok".to_owned()
                }
                Err(error) => error.to_string(),
            }
        });
}

#[test]
fn fuzz_webhook_bodies() {
    let event = |kind: &str, object: &str| {
        format!("{{\"id\":\"evt_1\",\"type\":\"{kind}\",\"created\":1,\"data\":{{\"object\":{object}}}}}")
    };
    let intent = "{\"id\":\"pi_1\",\"object\":\"payment_intent\",\"amount\":4900,\"currency\":\"eur\",\
                  \"metadata\":{\"claim_id\":\"c\",\"attempt\":\"1\"}}";
    let charge = "{\"id\":\"ch_1\",\"object\":\"charge\",\"payment_intent\":\"pi_1\",\"amount\":4900,\"currency\":\"eur\"}";
    let known = [
        event("payment_intent.succeeded", intent),
        event("charge.refunded", charge),
        event("charge.dispute.created", charge),
        event("whatever", "null"),
    ];
    let words = [
        "null",
        "{}",
        "[]",
        "\"metadata\":",
        "-1",
        "1e400",
        "99999999999999999999",
        "\\ud800",
    ];
    Target::new("webhook_bodies", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| match WebhookEvent::parse(bytes) {
            Ok(event) => {
                let shown = format!("{event:?}");
                shown
                    .chars()
                    .filter(|letter| letter.is_ascii_uppercase())
                    .collect()
            }
            Err(error) => error.to_string(),
        });
}
