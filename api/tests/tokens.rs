//! Who is let in: keys, algorithms, expiry, roles, development mode.

mod common;

use api::{Auth, Keys, Options, Role, StartError, mint_hs256};
use axum::{
    Router,
    http::{Method, StatusCode},
};
use client::ClaimStatus;
use common::*;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// A key pair made for these tests alone.
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAaph9cfZVVKPSOdTUJM/xOKabMneSwWtdsCyifOLdgjU=
-----END PUBLIC KEY-----
";
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIBp1t4hkwieJUi382np6c1nTP4ZN2a1ik7R4oAeWkw3h
-----END PRIVATE KEY-----
";
const ED_PRIVATE_OF_ANOTHER: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIA39TY4xLPMaTZOWL4G6dmXUnDyR8TerPgYuewm1gY9r
-----END PRIVATE KEY-----
";

fn router_for(auth: Auth) -> Router {
    let store = Shared::default();
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    api::router(store, Options::new(auth)).unwrap()
}

fn keys() -> Keys {
    Keys {
        hs256_secrets: vec![SECRET.to_vec(), vec![7; 32]],
        ed25519_public_pems: vec![ED_PUBLIC.as_bytes().to_vec()],
        ..Keys::default()
    }
}

async fn enter(router: &Router, authorization: &str) -> Answer {
    get(router, "/v1/claims/c_abc", &[("authorization", authorization)]).await
}

fn hs256(claims: Value) -> String {
    encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(SECRET),
    )
    .unwrap()
}

fn eddsa(pem: &str, claims: Value) -> String {
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).unwrap();
    encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}

fn good() -> Value {
    json!({"sub": "ada", "role": "shopper", "exp": now_s() + 60})
}

/// One changed or (null) missing member.
fn but(name: &str, value: Value) -> Value {
    let mut claims = good();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    claims
}

#[tokio::test]
async fn tokens_of_known_keys_open_the_door() {
    let router = router_for(Auth::Keys(keys()));
    let second_secret = mint_hs256(&[7; 32], "ada", Role::Shopper, now_s() + 60);
    for token in [hs256(good()), second_secret, eddsa(ED_PRIVATE, good())] {
        // Twice: verified, then remembered.
        for scheme in ["Bearer", "bearer"] {
            let answer = enter(&router, &format!("{scheme} {token}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn everything_else_does_not() {
    let router = router_for(Auth::Keys(keys()));
    let none = {
        // {"alg":"none","typ":"JWT"} . {"sub":"ada","role":"operator","exp":9999999999} . nothing
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.\
         eyJzdWIiOiJhZGEiLCJyb2xlIjoib3BlcmF0b3IiLCJleHAiOjk5OTk5OTk5OTl9."
            .to_owned()
    };
    let confused = encode(
        &Header::new(Algorithm::HS256),
        &good(),
        &EncodingKey::from_secret(ED_PUBLIC.as_bytes()),
    );
    let hs512 = encode(
        &Header::new(Algorithm::HS512),
        &good(),
        &EncodingKey::from_secret(SECRET),
    );
    let tampered = {
        let (theirs, ours) = (hs256(but("sub", json!("grace"))), hs256(good()));
        let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.split('.').collect(), ours.split('.').collect());
        format!("{}.{}.{}", ours[0], theirs[1], ours[2])
    };
    for (what, token) in [
        (
            "another secret",
            mint_hs256(&[8; 32], "ada", Role::Shopper, now_s() + 60),
        ),
        ("another key pair", eddsa(ED_PRIVATE_OF_ANOTHER, good())),
        ("a public key as a shared secret", confused.unwrap()),
        ("an algorithm not asked for", hs512.unwrap()),
        ("no signature", none),
        ("a body under another signature", tampered),
        ("expired", hs256(but("exp", json!(now_s() - 60)))),
        ("no expiry", hs256(but("exp", Value::Null))),
        ("expiry as text", hs256(but("exp", json!("never")))),
        ("not yet", hs256(but("nbf", json!(now_s() + 3_600)))),
        ("no user", hs256(but("sub", Value::Null))),
        ("an empty user", hs256(but("sub", json!("")))),
        ("a user too long", hs256(but("sub", json!("u".repeat(65))))),
        ("no role", hs256(but("role", Value::Null))),
        ("an unknown role", hs256(but("role", json!("root")))),
        ("no token", String::new()),
        ("not a token", "a.b.c".to_owned()),
        ("two parts", "a.b".to_owned()),
        (
            "a token too long",
            format!("{}.{}", hs256(good()), "x".repeat(5_000)),
        ),
    ] {
        let answer = enter(&router, &format!("Bearer {token}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        answer.problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
    }
    for header in ["", "Bearer", "Basic YTpi", &hs256(good())] {
        enter(&router, header).await.problem(401, "unauthenticated");
    }
    get(&router, "/v1/claims/c_abc", &[])
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_longest_user_is_let_in() {
    let router = router_for(Auth::Keys(keys()));
    let token = hs256(but("sub", json!("u".repeat(64))));
    assert_eq!(
        enter(&router, &format!("Bearer {token}")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn issuer_and_audience_count_when_configured() {
    let strict = Keys {
        issuer: Some("https://id.example".to_owned()),
        audience: Some("holdfast".to_owned()),
        ..keys()
    };
    let router = router_for(Auth::Keys(strict));
    let full = |iss: Value, aud: Value| {
        let mut claims = good();
        claims["iss"] = iss;
        claims["aud"] = aud;
        format!("Bearer {}", hs256(claims))
    };
    let ours = json!("https://id.example");
    let answer = enter(&router, &full(ours.clone(), json!(["other", "holdfast"]))).await;
    assert_eq!(answer.status, StatusCode::OK);
    enter(&router, &full(ours, json!("other")))
        .await
        .problem(401, "unauthenticated");
    enter(&router, &full(json!("https://evil.example"), json!("holdfast")))
        .await
        .problem(401, "unauthenticated");
    enter(&router, &format!("Bearer {}", hs256(good())))
        .await
        .problem(401, "unauthenticated");
    // Without an audience of our own, a token for others too is none of our business.
    let router = router_for(Auth::Keys(keys()));
    let answer = enter(&router, &format!("Bearer {}", hs256(but("aud", json!("other"))))).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn more_tokens_than_are_remembered_all_still_work() {
    let mut options = Options::new(Auth::Keys(keys()));
    options.tokens_cached_max = 1;
    let store = Shared::default();
    script(&store.find, |(id, user)| {
        Ok((
            claim(&id, ClaimStatus::Held),
            user.unwrap_or_default(),
            position(),
        ))
    });
    let router = api::router(store, options).unwrap();
    for _ in 0..2 {
        for n in 0..50 {
            let user = format!("user-{n}");
            let answer = enter(&router, &bearer(&user, Role::Shopper)).await;
            assert_eq!(
                answer.json()["sale_id"],
                user,
                "one user's token must never be another's"
            );
        }
    }
}

#[tokio::test]
async fn without_keys_the_door_stays_shut() {
    let start = |keys: Keys| api::router(Shared::default(), Options::new(Auth::Keys(keys)));
    let error = start(Keys::default()).unwrap_err();
    assert!(matches!(error, StartError::NoKeys));
    assert!(error.to_string().contains("development mode"), "{error}");

    let short = Keys {
        hs256_secrets: vec![vec![1; 31]],
        ..Keys::default()
    };
    let error = start(short).unwrap_err();
    assert!(error.to_string().contains("31 bytes"), "{error}");

    let broken = Keys {
        ed25519_public_pems: vec![b"not a key".to_vec()],
        ..Keys::default()
    };
    let error = start(broken).unwrap_err();
    assert!(
        matches!(
            error,
            StartError::Key {
                position: 1,
                algorithm: "EdDSA",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn secrets_do_not_show_in_debug_output() {
    let shown = format!("{:?}", options());
    assert!(
        !shown.contains("a secret of") && !shown.contains("97, 32"),
        "{shown}"
    );
}

#[tokio::test]
async fn limits_of_zero_are_refused_by_name() {
    let mut options = options();
    options.body_bytes_max = 0;
    let error = api::router(Shared::default(), options.clone()).unwrap_err();
    assert!(error.to_string().contains("body_bytes_max is 0"), "{error}");
    options.body_bytes_max = 1_024;
    options.sale_cache_ms = 1_001;
    let error = api::router(Shared::default(), options).unwrap_err();
    assert!(error.to_string().contains("sale_cache_ms is 1001"), "{error}");
}

#[tokio::test]
async fn development_mode_mints_tokens_and_nothing_else_does() {
    let json = [("content-type", "application/json")];
    let mint = |body: &'static str| request(Method::POST, "/dev/token", &json, body);

    let router = router_for(Auth::Development);
    let answer = send(&router, mint(r#"{"sub":"ada"}"#)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        enter(&router, &format!("Bearer {token}")).await.status,
        StatusCode::OK
    );
    let answer = send(
        &router,
        mint(r#"{"sub":"ops","role":"operator","ttl_seconds":60}"#),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    for bad in [
        "",
        "{}",
        r#"{"sub":""}"#,
        r#"{"sub":"a","role":"root"}"#,
        r#"{"sub":"a","ttl_seconds":0}"#,
    ] {
        send(&router, mint(bad)).await.problem(400, "invalid-request");
    }
    // The key is made anew each time: yesterday's development token opens nothing today.
    let another = router_for(Auth::Development);
    enter(&another, &format!("Bearer {token}"))
        .await
        .problem(401, "unauthenticated");

    let router = router_for(Auth::Keys(keys()));
    send(&router, mint(r#"{"sub":"ada"}"#))
        .await
        .problem(404, "not-found");
    enter(&router, &format!("Bearer {token}"))
        .await
        .problem(401, "unauthenticated");
}
