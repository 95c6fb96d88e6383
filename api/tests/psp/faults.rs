//! Each fault, and what it leaves behind.

use api::payment::simulator::{Faults, Rate, ServerOptions};
use serde_json::json;

use crate::shop::{Shop, new_payment, text};

/// Calls that hang are cut this soon, in ms, so that no test waits for one.
const HANG_MS: u64 = 20;

async fn impatient() -> Shop {
    Shop::with(ServerOptions {
        hang_ms_max: HANG_MS,
        ..ServerOptions::default()
    })
    .await
}

#[tokio::test]
async fn declines_are_card_errors_and_allow_another_card() {
    let shop = Shop::open().await;
    let table = [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        (
            "pm_card_visa_chargeDeclinedLostCard",
            "card_declined",
            "lost_card",
        ),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", ""),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", ""),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", ""),
    ];
    for (method, code, decline_code) in table {
        let id = shop.create(method, method).await;
        let path = format!("/v1/payment_intents/{id}/confirm");
        let told = shop.post(&path, &format!("{method}.1"), &[]).await;
        assert_eq!(told.error(), (402, "card_error", code));
        let error = &told.json["error"];
        assert_eq!(error["decline_code"].as_str().unwrap_or_default(), decline_code);
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
        assert_eq!(error["payment_intent"]["last_payment_error"]["code"], code);
        assert_eq!(error["charge"], error["payment_intent"]["latest_charge"]);
        // The same key is declined for ever; another card with another key is not.
        let replayed = shop.post(&path, &format!("{method}.1"), &[]).await;
        assert_eq!(
            (replayed.status.as_u16(), replayed.header("idempotent-replayed")),
            (402, "true")
        );
        let form = [("payment_method", "pm_card_visa")];
        let confirmed = shop.post(&path, &format!("{method}.2"), &form).await.ok();
        assert_eq!(confirmed["status"], "requires_capture");
        assert_eq!(confirmed["last_payment_error"], json!(null));
    }
    let by_amount = [
        ("amount", "990002"),
        ("currency", "eur"),
        ("payment_method", "pm_card_visa"),
        ("confirm", "true"),
    ];
    let told = shop.post("/v1/payment_intents", "", &by_amount).await;
    assert_eq!(told.json["error"]["decline_code"], "insufficient_funds");
    shop.post("/_/faults", "", &[("decline_rate", "100%")]).await.ok();
    let id = shop.create("c_rate", "pm_card_visa").await;
    let told = shop
        .post(&format!("/v1/payment_intents/{id}/confirm"), "", &[])
        .await;
    assert_eq!(told.status, 402);
}

#[tokio::test]
async fn a_challenge_is_passed_or_failed_and_leads_back() {
    let shop = Shop::open().await;
    for (outcome, status, redirect) in [
        ("", "requires_capture", "succeeded"),
        ("?outcome=fail", "requires_payment_method", "failed"),
    ] {
        let claim = format!("c_{redirect}");
        let id = shop.create(&claim, "pm_card_authenticationRequired").await;
        let form = [("return_url", "http://localhost:1/back?order=7")];
        let told = shop
            .post(&format!("/v1/payment_intents/{id}/confirm"), "", &form)
            .await
            .ok();
        assert_eq!(told["status"], "requires_action");
        assert_eq!(told["next_action"]["type"], "redirect_to_url");
        let url = text(&told["next_action"]["redirect_to_url"]["url"]);
        assert!(url.starts_with(&shop.base), "{url}");
        let visit = shop.client.get(format!("{url}{outcome}")).send().await.unwrap();
        assert_eq!(visit.status, 303);
        let back = visit.header("location");
        assert!(
            back.starts_with("http://localhost:1/back?order=7&payment_intent=pi_"),
            "{back}"
        );
        assert!(back.ends_with(&format!("redirect_status={redirect}")), "{back}");
        assert_eq!(shop.status(&id).await, status);
        let again = shop.client.get(&url).send().await.unwrap();
        assert_eq!(again.status, 400, "a challenge is met once");
    }
    let id = shop
        .create(
            "c_post",
            "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        )
        .await;
    shop.post(&format!("/v1/payment_intents/{id}/confirm"), "", &[])
        .await
        .ok();
    let url = format!("{}/challenge/{id}", shop.base);
    let posted = shop
        .client
        .post(&url)
        .form(&[("outcome", "succeed")])
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status, 200, "there is no way back");
    let declined = shop.get(&format!("/v1/payment_intents/{id}")).await.ok();
    assert_eq!(
        declined["last_payment_error"]["decline_code"],
        "insufficient_funds"
    );

    let shop = Shop::faulty(Faults {
        challenge_rate: Rate::ALWAYS,
        ..Faults::default()
    })
    .await;
    let id = shop.create("c_rate", "pm_card_visa").await;
    let told = shop
        .post(&format!("/v1/payment_intents/{id}/confirm"), "", &[])
        .await
        .ok();
    assert_eq!(told["status"], "requires_action");
}

/// What each mishap of a confirmation shows the caller, what state it leaves, and what the same key gets.
#[tokio::test]
async fn mishaps_leave_behind_what_they_say() {
    let shop = impatient().await;
    // (mishap, status or 0 for no answer, state, status of the retry, replayed)
    let table = [
        ("rate_limited", 429, "requires_confirmation", 200, ""),
        ("error_before", 500, "requires_confirmation", 200, ""),
        ("error_after", 500, "requires_capture", 500, "true"),
        ("hang_before", 0, "requires_confirmation", 200, ""),
        ("hang_after", 0, "requires_capture", 200, "true"),
        ("lost", 0, "requires_capture", 200, "true"),
    ];
    for (mishap, status, state, retried, replayed) in table {
        let id = shop.create(mishap, &format!("pm_sim_confirm_{mishap}")).await;
        let path = format!("/v1/payment_intents/{id}/confirm");
        let told = shop.try_post(&path, mishap, &[]).send().await;
        match told {
            Ok(told) => assert_eq!(told.status, status, "{mishap}"),
            Err(error) => assert!(status == 0, "{mishap}: {error:?}"),
        }
        assert_eq!(shop.status(&id).await, state, "{mishap}");
        let again = shop.post(&path, mishap, &[]).await;
        assert_eq!(again.status, retried, "{mishap}: {}", again.json);
        assert_eq!(again.header("idempotent-replayed"), replayed, "{mishap}");
        assert_eq!(shop.status(&id).await, "requires_capture", "{mishap}");
    }
    assert!(
        shop.ledger()
            .await
            .payments
            .iter()
            .all(|payment| payment.charges == 1)
    );
}

#[tokio::test]
async fn mishaps_happen_to_every_step() {
    let shop = impatient().await;
    for step in ["create", "confirm", "capture", "cancel", "refund"] {
        let method = format!("pm_sim_{step}_lost");
        let lost = async |path: &str, key: &str, form: &[(&str, &str)]| {
            assert!(
                shop.try_post(path, key, form).send().await.is_err(),
                "{step}: it was answered"
            );
            shop.post(path, key, form).await.ok()
        };
        let form = new_payment(step, &method);
        let id = if step == "create" {
            text(&lost("/v1/payment_intents", "create", &form).await["id"])
        } else {
            shop.create(step, &method).await
        };
        let path = |verb: &str| format!("/v1/payment_intents/{id}/{verb}");
        match step {
            "create" => {}
            "confirm" => drop(lost(&path("confirm"), "confirm", &[]).await),
            "cancel" => drop(lost(&path("cancel"), "cancel", &[]).await),
            _ => {
                shop.post(&path("confirm"), &format!("{step}.c"), &[]).await.ok();
                if step == "capture" {
                    lost(&path("capture"), "capture", &[]).await;
                } else {
                    shop.post(&path("capture"), &format!("{step}.k"), &[]).await.ok();
                    lost("/v1/refunds", "refund", &[("payment_intent", &id)]).await;
                }
            }
        }
    }
    let ledger = shop.ledger().await;
    assert_eq!(ledger.payments.len(), 5, "nothing was made twice");
    assert_eq!(ledger.references["capture"].captured_minor, 4_900);
    assert_eq!(ledger.references["refund"].refunded_minor, 4_900);
    assert_eq!(ledger.totals["eur"].captured_minor, 9_800);
}

#[tokio::test]
async fn an_effect_may_come_long_after_its_caller_gave_up() {
    let shop = impatient().await;
    let id = shop.create("c_1", "pm_sim_confirm_late").await;
    let path = format!("/v1/payment_intents/{id}/confirm");
    shop.try_post(&path, "k1", &[]).send().await.unwrap_err();
    assert_eq!(shop.status(&id).await, "requires_confirmation", "not yet");
    let again = shop.post(&path, "k1", &[]).await;
    assert_eq!(
        again.error(),
        (409, "idempotency_error", "idempotency_key_in_use")
    );
    assert_eq!(again.header("stripe-should-retry"), "true");
    let meanwhile = shop
        .post(&format!("/v1/payment_intents/{id}/cancel"), "k2", &[])
        .await;
    assert_eq!(meanwhile.error().2, "lock_timeout");
    while shop.status(&id).await == "requires_confirmation" {
        tokio::task::yield_now().await;
    }
    let replayed = shop.post(&path, "k1", &[]).await;
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    assert_eq!(replayed.ok()["status"], "requires_capture");
}

#[tokio::test]
async fn a_capture_may_fail_for_good() {
    let shop = Shop::open().await;
    let id = shop.authorize("c_1", "pm_sim_capture_declined").await;
    let capture = format!("/v1/payment_intents/{id}/capture");
    for key in ["k1", "k2"] {
        let told = shop.post(&capture, key, &[]).await;
        assert_eq!(told.error(), (402, "card_error", "card_declined"));
        assert_eq!(told.json["error"]["payment_intent"]["status"], "requires_capture");
    }
    shop.post(&format!("/v1/payment_intents/{id}/cancel"), "k3", &[])
        .await
        .ok();
    let id = shop.authorize("c_2", "pm_card_visa").await;
    shop.post("/_/faults", "", &[("capture_decline_rate", "1")])
        .await
        .ok();
    let capture = format!("/v1/payment_intents/{id}/capture");
    assert_eq!(shop.post(&capture, "k4", &[]).await.status, 402);
    shop.post("/_/faults", "", &[("capture_decline_rate", "0")])
        .await
        .ok();
    assert_eq!(
        shop.post(&capture, "k5", &[]).await.status,
        402,
        "for good is for good"
    );
    assert_eq!(shop.ledger().await.totals["eur"].captured_minor, 0);
}

#[tokio::test]
async fn an_authorization_expires() {
    let shop = Shop::open().await;
    let id = shop.authorize("c_1", "pm_card_visa").await;
    shop.post("/_/expire", "", &[("payment_intent", &id)]).await.ok();
    let mut gone = vec![id];
    gone.push(shop.authorize("c_2", "pm_sim_authorization_expires").await);
    for id in gone {
        while shop.status(&id).await != "canceled" {
            tokio::task::yield_now().await;
        }
        let told = shop
            .post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
            .await;
        assert_eq!(
            told.error(),
            (400, "invalid_request_error", "charge_expired_for_capture")
        );
        assert_eq!(
            told.json["error"]["payment_intent"]["cancellation_reason"],
            "automatic"
        );
    }
    assert_eq!(shop.ledger().await.totals["eur"].authorized_minor, 0);
}

#[tokio::test]
async fn refunds_may_be_pending_and_may_fail() {
    let mut options = ServerOptions::default();
    options.provider.refund_ms = 1;
    let shop = Shop::with(options).await;
    for (method, first, last, left) in [
        ("pm_card_pendingRefund", "pending", "succeeded", 0),
        ("pm_card_refundFail", "succeeded", "failed", 4_900),
    ] {
        let id = shop.authorize(method, method).await;
        shop.post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
            .await
            .ok();
        let refund = shop
            .post("/v1/refunds", method, &[("payment_intent", &id)])
            .await
            .ok();
        assert_eq!(refund["status"], first);
        let path = format!("/v1/refunds/{}", text(&refund["id"]));
        while shop.get(&path).await.ok()["status"] == first {
            tokio::task::yield_now().await;
        }
        assert_eq!(shop.get(&path).await.ok()["status"], last);
        let ledger = shop.ledger().await;
        let row = ledger
            .payments
            .iter()
            .find(|row| row.payment_intent == id)
            .unwrap();
        assert_eq!(row.net_minor, left);
        assert_eq!(row.refund_pending_minor, 0);
    }
    let csv = shop.settlement().await;
    let kinds: Vec<_> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap())
        .collect();
    assert_eq!(kinds, ["charge", "refund", "charge", "refund", "refund_failure"]);
}

#[tokio::test]
async fn rates_reach_reads_and_changes_and_are_told_at_run_time() {
    let shop = Shop::with(ServerOptions {
        hang_ms_max: HANG_MS,
        ..ServerOptions::default()
    })
    .await;
    let id = shop.create("c_1", "pm_card_visa").await;
    let read = format!("/v1/payment_intents/{id}");
    for (rate, status) in [
        ("rate_limit_rate", 429),
        ("error_before_rate", 500),
        ("error_after_rate", 500),
        ("hang_rate", 0),
        ("lost_answer_rate", 0),
        ("late_effect_rate", 0),
    ] {
        let faults = shop.post("/_/faults", "", &[(rate, "1")]).await.ok();
        assert_eq!(faults[rate], 1.0);
        let url = format!("{}{read}", shop.base);
        let read = shop.client.get(url).bearer_auth("sk_test_x").send().await;
        let change = shop
            .try_post("/v1/payment_intents", rate, &new_payment(rate, "pm_card_visa"))
            .send()
            .await;
        for (what, told) in [("read", read), ("change", change)] {
            match told {
                Ok(told) => assert_eq!(told.status, status, "{what} under {rate}"),
                Err(_) => assert_eq!(status, 0, "{what} under {rate}"),
            }
        }
        shop.post("/_/faults", "", &[(rate, "0")]).await.ok();
    }
    let json = shop.client.post(format!("{}/_/faults", shop.base));
    let told = json
        .json(&json!({ "delay_ms": 3, "decline_rate": 0.5 }))
        .send()
        .await
        .unwrap()
        .ok();
    assert_eq!(
        (&told["delay_ms"], &told["decline_rate"]),
        (&json!(3), &json!(0.5))
    );
    assert_eq!(shop.get("/_/faults").await.ok(), told);
    let made = shop.ledger().await.references;
    assert!(!made.contains_key("rate_limit_rate") && !made.contains_key("error_before_rate"));
    assert!(made.contains_key("error_after_rate") && made.contains_key("lost_answer_rate"));
}

#[tokio::test]
async fn a_killed_provider_comes_back_with_its_books() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let shop = Shop::remembering(&journal).await;
    let id = shop.authorize("c_1", "pm_card_visa").await;
    shop.post("/_/faults", "", &[("decline_rate", "1")]).await.ok();
    let before = shop.ledger().await;
    shop.close().await.unwrap();

    let shop = Shop::remembering(&journal).await;
    assert_eq!(shop.ledger().await, before);
    assert_eq!(
        shop.get("/_/faults").await.ok()["decline_rate"],
        0.0,
        "the flags decide again"
    );
    let replayed = shop
        .post(&format!("/v1/payment_intents/{id}/confirm"), "c_1.confirm", &[])
        .await;
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    shop.post(&format!("/v1/payment_intents/{id}/capture"), "c_1.capture", &[])
        .await
        .ok();
    shop.close().await.unwrap();
    let shop = Shop::remembering(&journal).await;
    assert_eq!(shop.ledger().await.references["c_1"].captured_minor, 4_900);
    shop.close().await.unwrap();
}
