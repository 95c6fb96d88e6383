//! Shoppers: each takes something, pays for it, and insists, at one door after the other, until he knows.
//!
//! A shopper keeps his key until it is answered for good; one who was declined tries another card under a new key.
//! Some click twice, some walk away, some take their time at their bank or never come back from it, some ask again
//! long afterwards, and some change their minds.

use std::{sync::Arc, time::Duration};

use api::{Role, mint_hs256, payment::simulator::Rate};
use axum::{body::Bytes, http::Request};
use client::{Client, Error};
use rand::{RngExt, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Notes, TOKEN_SECRET, door, plan::CheckoutPlan, road::Http};
use crate::{
    properties::checkout::{Answer, Asked},
    simulation::Trace,
};

/// When tokens expire, in Unix seconds: not while anybody runs this.
const EXPIRES_S: u64 = 32_503_680_000;

/// How long a shopper waits for an answer beyond the doors' own budget, in ms.
const PATIENCE_MS: u64 = 4_000;

/// How often one insists, and on how many cards.
const TRIES_MAX: u32 = 12;
const CARDS_MAX: u32 = 3;

/// Answers that he asks for again when all is over.
const ASK_AGAIN_MAX: usize = 6;

/// A card whose refund happens and is answered as an error.
const REFUND_UNTOLD: &str = "pm_sim_refund_error_after";

/// Cards, and how many of so many have them.
const CARDS: [(&str, u32); 17] = [
    ("pm_card_visa", 55),
    ("pm_card_jcb", 8),
    ("pm_card_chargeDeclined", 6),
    ("pm_card_chargeDeclinedExpiredCard", 3),
    ("pm_card_authenticationRequired", 10),
    ("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", 2),
    ("pm_card_pendingRefund", 4),
    ("pm_sim_capture_declined", 3),
    ("pm_sim_authorization_expires", 3),
    ("pm_sim_confirm_hang_after", 3),
    ("pm_sim_confirm_error_after", 3),
    ("pm_sim_confirm_late", 2),
    ("pm_sim_capture_lost", 2),
    ("pm_sim_capture_error_after", 2),
    ("pm_sim_capture_late", 1),
    ("pm_sim_cancel_lost", 2),
    (REFUND_UNTOLD, 2),
];

/// One shopper, who is somebody else with every purchase.
pub(super) struct Shopper {
    pub number: u64,
    pub chance: SmallRng,
    pub plan: Arc<CheckoutPlan>,
    pub notes: Notes,
    pub client: Client,
    pub http: Http,
    pub trace: Trace,
    pub stopped: watch::Receiver<bool>,
    /// Requests that were answered for good.
    pub bought: Vec<Wish>,
}

/// One thing to ask for.
#[derive(Clone)]
pub(super) struct Wish {
    user: String,
    asked: Asked,
    claim_id: String,
    key: String,
    path: String,
    body: String,
}

/// What was heard, in short.
struct Heard {
    status: u16,
    body: Value,
}

impl Heard {
    fn order_id(&self) -> Option<String> {
        self.body["order_id"].as_str().map(str::to_owned)
    }
}

/// How asking to pay ended.
enum Paid {
    Order(String),
    Declined,
    Over,
}

impl Shopper {
    /// Shops until the street closes.
    pub async fn shop(mut self) -> Shopper {
        let mut purchases = 0;
        while !self.is_closing() {
            let pause_ms = self.chance.random_range(0..self.plan.pace_ms);
            sleep(Duration::from_millis(pause_ms)).await;
            purchases += 1;
            self.buy(format!("u{}-{purchases}", self.number)).await;
        }
        self
    }

    /// Asks some of what was answered for good once more.
    pub async fn ask_again(&mut self) {
        for _ in 0..ASK_AGAIN_MAX.min(self.bought.len()) {
            let place = self.chance.random_range(0..self.bought.len());
            let wish = self.bought[place].clone();
            let door = self.door();
            self.ask(&wish, door).await;
        }
    }

    fn is_closing(&self) -> bool {
        *self.stopped.borrow()
    }

    fn door(&mut self) -> u64 {
        self.chance.random_range(1..=self.plan.doors)
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let pause_ms = self.chance.random_range(ms);
        sleep(Duration::from_millis(pause_ms)).await;
    }

    fn card(&mut self) -> &'static str {
        let all: u32 = CARDS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.chance.random_range(0..all);
        for (card, weight) in CARDS {
            match left.checked_sub(weight) {
                Some(less) => left = less,
                // Its refund would be known to nobody: see the provider's temper.
                None if card == REFUND_UNTOLD && self.plan.temper.webhook_lost_rate > Rate::NEVER => {
                    return CARDS[0].0;
                }
                None => return card,
            }
        }
        unreachable!("the weights add up to all of them")
    }

    async fn buy(&mut self, user: String) {
        let Some(claim_id) = self.claim(&user).await else {
            return;
        };
        // Some look at it for a while: their hold may end while they pay.
        let shelf_ms = self.plan.cluster.shop.sales[0].new.hold_ms;
        if self.chance.random_bool(0.2) {
            self.pause(0..shelf_ms).await;
        }
        for number in 1..=CARDS_MAX {
            let wish = Wish {
                user: user.clone(),
                asked: Asked::Pay,
                claim_id: claim_id.clone(),
                key: format!("{user}-p{number}"),
                path: format!("/v1/claims/{claim_id}/checkout"),
                body: json!({ "payment_method": self.card() }).to_string(),
            };
            match self.pay(&wish).await {
                Paid::Order(order_id) => return self.own(wish, order_id).await,
                Paid::Declined if self.chance.random_bool(0.7) => {}
                Paid::Declined | Paid::Over => return,
            }
        }
    }

    async fn claim(&mut self, user: &str) -> Option<String> {
        let sale_id = self.plan.cluster.shop.sales[0].new.sale_id.clone();
        let quantity = if self.chance.random_bool(0.2) { 2 } else { 1 };
        let key = format!("{user}-take");
        for _ in 0..TRIES_MAX {
            let claim = self.client.claim(&sale_id, user).quantity(quantity).key(&key);
            match claim.send().await {
                Ok(claimed) => {
                    self.trace
                        .note(format_args!("{user} has {}", claimed.claim.claim_id));
                    return Some(claimed.claim.claim_id);
                }
                Err(Error::Rejected(_)) => return None,
                Err(_) if self.is_closing() => return None,
                Err(_) => self.pause(50..500).await,
            }
        }
        None
    }

    /// Insists until it is decided.
    async fn pay(&mut self, wish: &Wish) -> Paid {
        for number in 0..TRIES_MAX {
            if number > 0 && (self.is_closing() || self.chance.random_bool(0.03)) {
                return Paid::Over;
            }
            let door = self.door();
            let heard = if number == 0 && self.chance.random_bool(0.12) {
                let other = self.door();
                let (first, second) = futures::join!(self.ask(wish, door), self.ask(wish, other));
                first.or(second)
            } else {
                self.ask(wish, door).await
            };
            let Some(heard) = heard else {
                self.pause(50..1_000).await;
                continue;
            };
            match heard.status {
                201 => {
                    let order_id = heard.order_id().unwrap_or_default();
                    self.bought.push(wish.clone());
                    return Paid::Order(order_id);
                }
                402 => {
                    self.bought.push(wish.clone());
                    return Paid::Declined;
                }
                202 => {
                    if let Some(url) = heard.body["next_action_url"].as_str() {
                        // He never comes back from his bank.
                        if self.chance.random_bool(0.2) {
                            return Paid::Over;
                        }
                        self.pause(50..2_500).await;
                        self.authenticate(url).await;
                    }
                    self.pause(100..1_500).await;
                    if self.chance.random_bool(0.3) {
                        self.look(wish).await;
                    }
                }
                409 | 429 | 500.. => self.pause(100..1_500).await,
                _ => {
                    self.bought.push(wish.clone());
                    return Paid::Over;
                }
            }
        }
        Paid::Over
    }

    /// What he does with an order.
    async fn own(&mut self, wish: Wish, order_id: String) {
        if self.chance.random_bool(0.3) {
            self.pause(0..2_000).await;
            let door = self.door();
            self.ask(&wish, door).await;
        }
        if !self.chance.random_bool(0.35) {
            return;
        }
        self.pause(0..1_500).await;
        let cancel = Wish {
            asked: Asked::Cancel,
            key: format!("{}-c", wish.user),
            path: format!("/v1/orders/{order_id}/cancel"),
            body: String::new(),
            ..wish
        };
        for _ in 0..TRIES_MAX {
            let door = self.door();
            let heard = self.ask(&cancel, door).await;
            if heard.is_some_and(|heard| heard.status == 200) {
                self.bought.push(cancel);
                return;
            }
            if self.is_closing() || self.chance.random_bool(0.05) {
                return;
            }
            self.pause(100..1_500).await;
        }
    }

    /// Asks a door, and notes what it says.
    async fn ask(&self, wish: &Wish, door: u64) -> Option<Heard> {
        let request = Request::post(format!("{}{}", door::url(door), wish.path))
            .header("authorization", self.bearer(&wish.user))
            .header("idempotency-key", &wish.key)
            .header("content-type", "application/json")
            .body(Bytes::from(wish.body.clone()))
            .expect("a request of plain text");
        let answer = Answer {
            user: wish.user.clone(),
            asked: wish.asked,
            claim_id: wish.claim_id.clone(),
            key: wish.key.clone(),
            status: 0,
            is_final: false,
            order_id: None,
            problem: None,
        };
        if wish.asked == Asked::Cancel {
            // Whatever is heard: it was asked for.
            self.notes.get().answers.push(answer.clone());
        }
        let heard = self.exchange(request, door).await?;
        let text = |name: &str| heard.body[name].as_str();
        let problem = (heard.status >= 400).then(|| {
            let words = ["type", "payment_code", "decline_code"].map(|name| text(name).unwrap_or("-"));
            words.join(" ")
        });
        self.trace.note(format_args!(
            "{} hears at door{door}: {} {} {}",
            wish.user,
            wish.key,
            heard.status,
            problem.as_deref().or(text("status")).unwrap_or_default()
        ));
        self.notes.get().answers.push(Answer {
            status: heard.status,
            is_final: is_final(heard.status),
            order_id: heard.order_id().filter(|_| heard.status < 300),
            problem,
            ..answer
        });
        Some(heard)
    }

    async fn look(&self, wish: &Wish) {
        let request = Request::get(format!("{}{}", door::url(1), wish.path))
            .header("authorization", self.bearer(&wish.user))
            .body(Bytes::new())
            .expect("a request of plain text");
        if let Some(heard) = self.exchange(request, 1).await {
            let status = heard.body["status"].as_str().unwrap_or_default();
            self.trace
                .note(format_args!("{} sees: {} {status}", wish.user, heard.status));
        }
    }

    async fn authenticate(&mut self, url: &str) {
        let outcome = if self.chance.random_bool(0.1) {
            "?outcome=fail"
        } else {
            ""
        };
        let request = Request::get(format!("{url}{outcome}"))
            .body(Bytes::new())
            .expect("the provider's own address");
        let wait = Duration::from_millis(PATIENCE_MS);
        let heard = timeout(wait, self.http.ask(request)).await;
        let heard = heard
            .ok()
            .and_then(Result::ok)
            .map(|answer| answer.status().as_u16());
        self.trace
            .note(format_args!("u{} was at the bank: {heard:?}", self.number));
    }

    async fn exchange(&self, request: Request<Bytes>, door: u64) -> Option<Heard> {
        let place = door as usize - 1;
        {
            let mut noted = self.notes.get();
            noted.requests += 1;
            noted.asked[place] += 1;
        }
        let wait = Duration::from_millis(self.plan.options.budget_ms_max + PATIENCE_MS);
        let answer = timeout(wait, self.http.ask(request)).await;
        self.notes.get().asked[place] -= 1;
        let answer = answer.ok()?.ok()?;
        Some(Heard {
            status: answer.status().as_u16(),
            body: serde_json::from_slice(answer.body()).unwrap_or_default(),
        })
    }

    fn bearer(&self, user: &str) -> String {
        let token = mint_hs256(TOKEN_SECRET, user, Role::Shopper, EXPIRES_S);
        format!("Bearer {token}")
    }
}

/// Whether an answer is the last word on its key, as the HTTP contract has it.
fn is_final(status: u16) -> bool {
    status < 500 && ![202, 401, 403, 408, 409, 425, 429].contains(&status)
}
