//! The provider in process, against a plain model and under everything that can go wrong.

use std::collections::BTreeMap;

use api::payment::simulator::{
    Answer, Delivery, Faults, Ledger, Options, PaymentRow, Provider, Rate, Request,
};
use proptest::prelude::*;

const AMOUNT: u64 = 4_900;

/// One thing that somebody does; payments and keys are taken modulo those there are.
#[derive(Clone, Debug)]
enum Act {
    Create {
        method: &'static str,
        manual: bool,
    },
    Confirm {
        payment: usize,
    },
    Challenge {
        payment: usize,
        passed: bool,
    },
    Capture {
        payment: usize,
        amount: Option<u64>,
    },
    Cancel {
        payment: usize,
    },
    Refund {
        payment: usize,
        amount: Option<u64>,
    },
    Dispute {
        payment: usize,
        amount: Option<u64>,
    },
    CloseDispute {
        dispute: usize,
        won: bool,
    },
    /// Any call of the past once more, with its key.
    Repeat {
        call: usize,
    },
    Wait {
        ms: u64,
    },
}

fn amount() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), (1..AMOUNT + 100).prop_map(Some)]
}

fn act(methods: &'static [&'static str]) -> impl Strategy<Value = Act> {
    let payment = 0..6_usize;
    prop_oneof![
        3 => (prop::sample::select(methods), any::<bool>()).prop_map(|(method, manual)| Act::Create { method, manual }),
        4 => payment.clone().prop_map(|payment| Act::Confirm { payment }),
        1 => (payment.clone(), any::<bool>()).prop_map(|(payment, passed)| Act::Challenge { payment, passed }),
        4 => (payment.clone(), amount()).prop_map(|(payment, amount)| Act::Capture { payment, amount }),
        1 => payment.clone().prop_map(|payment| Act::Cancel { payment }),
        4 => (payment.clone(), amount()).prop_map(|(payment, amount)| Act::Refund { payment, amount }),
        1 => (payment, amount()).prop_map(|(payment, amount)| Act::Dispute { payment, amount }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(dispute, won)| Act::CloseDispute { dispute, won }),
        2 => (0..40_usize).prop_map(|call| Act::Repeat { call }),
        2 => (0..3_000_u64).prop_map(|ms| Act::Wait { ms }),
    ]
}

/// Plays acts to a provider and remembers what was said.
struct Stage {
    provider: Provider,
    now_ms: u64,
    payments: Vec<String>,
    disputes: Vec<String>,
    calls: Vec<Request>,
    told: Vec<Answer>,
}

impl Stage {
    fn new(seed: u64, faults: Faults) -> Stage {
        Stage {
            provider: Provider::new(Options {
                seed,
                faults,
                ..Options::default()
            }),
            now_ms: 1_700_000_000_000,
            payments: Vec::new(),
            disputes: Vec::new(),
            calls: Vec::new(),
            told: Vec::new(),
        }
    }

    /// The call that an act means, if there is anything it can be about.
    fn request(&self, act: &Act) -> Option<Request> {
        let of = |payment: usize| self.payments.get(payment % self.payments.len().max(1));
        let path =
            |payment: usize, verb: &str| of(payment).map(|id| format!("/v1/payment_intents/{id}/{verb}"));
        let key = format!("k{}", self.calls.len());
        let with = |names: [&str; 2], id: &str, amount: &Option<u64>| {
            let mut form = vec![(names[0].to_owned(), id.to_owned())];
            form.extend(amount.map(|amount| (names[1].to_owned(), amount.to_string())));
            form
        };
        let request = match act {
            Act::Create { method, manual } => {
                let claim = format!("c_{}", self.payments.len());
                let amount = AMOUNT.to_string();
                let form = [
                    ("amount", amount.as_str()),
                    ("currency", "eur"),
                    ("capture_method", if *manual { "manual" } else { "automatic" }),
                    ("payment_method", method),
                    ("metadata[claim_id]", &claim),
                ];
                Request::post("/v1/payment_intents", &form)
            }
            Act::Confirm { payment } => {
                Request::post(path(*payment, "confirm")?, &[("payment_method", "pm_card_visa")])
            }
            Act::Challenge { payment, passed } => {
                let outcome = if *passed { "succeed" } else { "fail" };
                let form = [("payment_intent", of(*payment)?.as_str()), ("outcome", outcome)];
                return Some(Request::post("/_/challenge", &form));
            }
            Act::Capture { payment, amount } => {
                let mut request = Request::post(path(*payment, "capture")?, &[]);
                request
                    .form
                    .extend(amount.map(|amount| ("amount_to_capture".into(), amount.to_string())));
                request
            }
            Act::Cancel { payment } => Request::post(path(*payment, "cancel")?, &[]),
            Act::Refund { payment, amount } => {
                let mut request = Request::post("/v1/refunds", &[]);
                request.form = with(["payment_intent", "amount"], of(*payment)?, amount);
                request
            }
            Act::Dispute { payment, amount } => {
                let mut request = Request::post("/_/dispute", &[]);
                request.form = with(["payment_intent", "amount"], of(*payment)?, amount);
                return Some(request);
            }
            Act::CloseDispute { dispute, won } => {
                let dispute = self.disputes.get(dispute % self.disputes.len().max(1))?;
                let outcome = if *won { "won" } else { "lost" };
                let form = [("dispute", dispute.as_str()), ("outcome", outcome)];
                return Some(Request::post("/_/dispute/close", &form));
            }
            Act::Repeat { call } => return self.calls.get(call % self.calls.len().max(1)).cloned(),
            Act::Wait { .. } => return None,
        };
        Some(request.key(key))
    }

    fn play(&mut self, act: &Act) -> Option<(Request, Answer)> {
        if let Act::Wait { ms } = act {
            self.now_ms += ms;
            self.provider.advance(self.now_ms);
        }
        let request = self.request(act)?;
        let answer = self.provider.call(&request, self.now_ms);
        // The callers of the model are never too early with the same key.
        self.now_ms += answer.delay_ms;
        if request.idempotency_key.is_some() {
            self.calls.push(request.clone());
        }
        self.told.push(answer.clone());
        for payment in self
            .provider
            .ledger()
            .payments
            .into_iter()
            .skip(self.payments.len())
        {
            self.payments.push(payment.payment_intent);
        }
        if answer.status == 200 && request.path == "/_/dispute" {
            self.disputes
                .push(answer.json()["id"].as_str().expect("an id").to_owned());
        }
        Some((request, answer))
    }

    /// Every webhook there will ever be for what happened so far, each once.
    fn letters(&mut self) -> Vec<Delivery> {
        let mut letters = BTreeMap::new();
        while let Some(due_ms) = self.provider.next_due_ms() {
            // Authorizations expire after a week; further on nothing happens by itself.
            for delivery in self.provider.deliveries(due_ms, 100) {
                assert!(self.provider.delivered(delivery.clone(), true, due_ms));
                letters.insert(delivery.event.id.clone(), delivery);
            }
        }
        letters.into_values().collect()
    }
}

/// A payment as a child would keep it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plain {
    manual: bool,
    authorized: bool,
    cancelled: bool,
    captured: Option<u64>,
    refunded: u64,
    disputed: Option<(u64, bool)>,
}

impl Plain {
    fn left(&self) -> u64 {
        let gone = self.disputed.map_or(0, |(amount, _)| amount);
        self.captured.unwrap_or(0) - self.refunded - gone
    }

    /// What an act makes of it; `None` when it must be refused.
    fn after(&self, act: &Act) -> Option<Plain> {
        let mut next = self.clone();
        let open = !self.cancelled && self.captured.is_none();
        match act {
            Act::Confirm { .. } if open && !self.authorized => {
                next.authorized = true;
                next.captured = (!self.manual).then_some(AMOUNT);
            }
            Act::Capture { amount, .. } if open && self.authorized => {
                next.captured = Some(amount.unwrap_or(AMOUNT)).filter(|amount| *amount <= AMOUNT);
                next.captured?;
            }
            Act::Cancel { .. } if open => next.cancelled = true,
            Act::Refund { amount, .. }
                if self.captured.is_some() && self.disputed.is_none_or(|(amount, _)| amount == 0) =>
            {
                let amount = amount.unwrap_or(self.left());
                next.refunded += Some(amount).filter(|amount| (1..=self.left()).contains(amount))?;
            }
            Act::Dispute { amount, .. } if self.captured.is_some() && self.disputed.is_none() => {
                let amount = amount.unwrap_or(self.left());
                next.disputed = Some((
                    Some(amount).filter(|amount| (1..=self.left()).contains(amount))?,
                    true,
                ));
            }
            _ => return None,
        }
        Some(next)
    }

    fn of(row: &PaymentRow) -> (bool, u64, u64, u64) {
        (
            row.authorized_minor > 0,
            row.captured_minor,
            row.refunded_minor,
            row.disputed_minor,
        )
    }

    fn seen(&self) -> (bool, u64, u64, u64) {
        (
            self.authorized && !self.cancelled && self.captured.is_none(),
            self.captured.unwrap_or(0),
            self.refunded,
            self.disputed.map_or(0, |(amount, _)| amount),
        )
    }
}

/// What no books may ever show.
fn check(ledger: &Ledger) {
    let mut captured = 0;
    for row in &ledger.payments {
        assert!(
            row.authorized_minor + row.captured_minor <= row.amount_minor,
            "{row:?}"
        );
        assert!(
            row.refunded_minor + row.disputed_minor <= row.captured_minor,
            "{row:?}"
        );
        assert!(row.refund_pending_minor <= row.refunded_minor, "{row:?}");
        assert_eq!(
            row.net_minor,
            row.captured_minor - row.refunded_minor - row.disputed_minor
        );
        captured += row.captured_minor;
    }
    let total = ledger.totals.get("eur").map_or(0, |totals| totals.captured_minor);
    assert_eq!(total, captured);
    let referenced: u64 = ledger
        .references
        .values()
        .map(|reference| reference.captured_minor)
        .sum();
    assert_eq!(referenced, captured);
}

/// The books as somebody would keep them who only ever heard of events.
fn books_by_events(letters: &[Delivery]) -> BTreeMap<String, (u64, u64, u64)> {
    let mut refunds = BTreeMap::new();
    let mut disputes = BTreeMap::new();
    let mut books: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    // Events in the order in which they happened: an id says nothing of it, the sequence of sending may lie.
    for letter in letters {
        let event: serde_json::Value = serde_json::from_str(&letter.event.body).expect("JSON");
        let object = &event["data"]["object"];
        let number = |name: &str| object[name].as_u64().unwrap_or_default();
        let payment = text(&object["payment_intent"]);
        match letter.event.kind {
            "payment_intent.succeeded" => {
                books.entry(text(&object["id"])).or_default().0 = number("amount_received")
            }
            "refund.created" => drop(refunds.insert(text(&object["id"]), (payment, number("amount")))),
            "charge.dispute.created" => {
                drop(disputes.insert(text(&object["id"]), (payment, number("amount"))))
            }
            _ => {}
        }
    }
    for letter in letters {
        let id = &letter.event.object_id;
        match letter.event.kind {
            "refund.failed" => drop(refunds.remove(id)),
            "charge.dispute.funds_reinstated" => drop(disputes.remove(id)),
            _ => {}
        }
    }
    for (payment, amount) in refunds.into_values() {
        books.entry(payment).or_default().1 += amount;
    }
    for (payment, amount) in disputes.into_values() {
        books.entry(payment).or_default().2 += amount;
    }
    books
}

const GOOD: &[&str] = &["pm_card_visa"];

/// Cards of all kinds, but for those that lose webhooks: their books could not be kept by events.
const WILD: &[&str] = &[
    "pm_card_visa",
    "pm_card_chargeDeclined",
    "pm_card_authenticationRequired",
    "pm_card_createDispute",
    "pm_card_pendingRefund",
    "pm_card_refundFail",
    "pm_sim_capture_declined",
    "pm_sim_authorization_expires",
    "pm_sim_create_error_after",
    "pm_sim_confirm_late",
    "pm_sim_confirm_hang_before",
    "pm_sim_capture_late",
    "pm_sim_capture_error_after",
    "pm_sim_cancel_lost",
    "pm_sim_refund_late",
    "pm_sim_webhook_twice",
    "pm_sim_webhook_early",
];

fn rate() -> impl Strategy<Value = Rate> {
    prop_oneof![2 => Just(Rate::NEVER), 1 => (0.0..0.4_f64).prop_map(|share| Rate::try_from(share).unwrap())]
}

fn faults() -> impl Strategy<Value = Faults> {
    let rates = prop::array::uniform12(rate());
    (rates, 0..200_u64, 0..5_000_u64).prop_map(|(rates, delay_ms, late_effect_ms)| Faults {
        decline_rate: rates[0],
        challenge_rate: rates[1],
        capture_decline_rate: rates[2],
        refund_pending_rate: rates[3],
        rate_limit_rate: rates[4],
        error_before_rate: rates[5],
        error_after_rate: rates[6],
        hang_rate: rates[7],
        lost_answer_rate: rates[8],
        late_effect_rate: rates[9],
        webhook_twice_rate: rates[10],
        webhook_late_rate: rates[11],
        webhook_late_ms: 10_000,
        delay_ms,
        delay_p99_ms: delay_ms * 10,
        late_effect_ms,
        ..Faults::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without faults, every call does what a child would expect, and is refused when it would.
    #[test]
    fn a_plain_model_agrees(acts in prop::collection::vec(act(GOOD), 1..60)) {
        let mut stage = Stage::new(1, Faults::default());
        let mut model: Vec<Plain> = Vec::new();
        let mut owners: Vec<usize> = Vec::new();
        for act in &acts {
            let count = model.len().max(1);
            let Some((_, answer)) = stage.play(act) else { continue };
            let agreed = match act {
                Act::Create { manual, .. } => {
                    model.push(Plain { manual: *manual, ..Plain::default() });
                    answer.status == 200
                }
                Act::Confirm { payment } | Act::Capture { payment, .. } | Act::Cancel { payment }
                | Act::Refund { payment, .. } | Act::Dispute { payment, .. } => {
                    let payment = payment % count;
                    let next = model[payment].after(act);
                    if let Some(next) = next.clone() {
                        if matches!(act, Act::Dispute { .. }) {
                            owners.push(payment);
                        }
                        model[payment] = next;
                    }
                    (answer.status == 200) == next.is_some()
                }
                Act::CloseDispute { dispute, won } => {
                    let disputed = &mut model[owners[dispute % owners.len()]].disputed;
                    let open = disputed.is_some_and(|(_, open)| open);
                    if let Some((amount, true)) = *disputed {
                        *disputed = Some((if *won { 0 } else { amount }, false));
                    }
                    (answer.status == 200) == open
                }
                Act::Challenge { .. } => answer.status == 400,
                Act::Repeat { .. } => answer.replayed,
                Act::Wait { .. } => unreachable!("waiting is no call"),
            };
            prop_assert!(agreed, "{act:?} was answered {}: {}", answer.status, answer.body);
            let ledger = stage.provider.ledger();
            check(&ledger);
            let seen: Vec<_> = ledger.payments.iter().map(Plain::of).collect();
            let expected: Vec<_> = model.iter().map(Plain::seen).collect();
            prop_assert_eq!(seen, expected, "after {:?}", act);
        }
    }

    /// Whatever goes wrong, the books stay exact, a saved answer is repeated to the letter, and the events
    /// tell the same story as the ledger.
    #[test]
    fn no_fault_reaches_the_books(seed: u64, faults in faults(), acts in prop::collection::vec(act(WILD), 1..80)) {
        let mut stage = Stage::new(seed, faults);
        let mut saved: BTreeMap<String, Answer> = BTreeMap::new();
        for act in &acts {
            let Some((request, answer)) = stage.play(act) else { continue };
            check(&stage.provider.ledger());
            let Some(key) = request.idempotency_key else { continue };
            if answer.replayed {
                if let Some(first) = saved.get(&key) {
                    prop_assert_eq!((answer.status, &answer.body), (first.status, &first.body));
                    prop_assert_eq!(answer.original_request_id.as_ref(), Some(&first.request_id));
                }
                saved.insert(key, Answer { request_id: answer.original_request_id.clone().unwrap(), ..answer });
            }
        }
        let letters = stage.letters();
        let ledger = stage.provider.ledger();
        check(&ledger);
        let by_events = books_by_events(&letters);
        for row in &ledger.payments {
            prop_assert_eq!(row.authorized_minor, 0, "a week later nothing is held");
            let (captured, refunded, disputed) = by_events.get(&row.payment_intent).copied().unwrap_or_default();
            prop_assert_eq!((captured, refunded, disputed),
                (row.captured_minor, row.refunded_minor, row.disputed_minor), "{:?}", row);
        }
        prop_assert_eq!(ledger.webhooks.waiting, 0);
        let settled: i64 = stage.provider.settlement_csv().lines().skip(1)
            .map(|line| line.split(',').nth(4).unwrap().parse::<i64>().unwrap()).sum();
        let net: u64 = ledger.payments.iter().map(|row| row.net_minor).sum();
        prop_assert_eq!(settled, i64::try_from(net).unwrap());
    }

    /// The same seed and the same calls: the same answers, to the letter, and the same webhooks.
    #[test]
    fn it_is_deterministic(seed: u64, faults in faults(), acts in prop::collection::vec(act(WILD), 1..40)) {
        let run = || {
            let mut stage = Stage::new(seed, faults.clone());
            for act in &acts {
                stage.play(act);
            }
            let letters: Vec<_> = stage.letters().into_iter().map(|letter| letter.event).collect();
            (stage.told, letters, stage.provider.ledger())
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn another_seed_is_another_world() {
    let run = |seed| {
        let faults = Faults::default().with([("decline_rate", "0.5")]).unwrap();
        let mut stage = Stage::new(seed, faults);
        for payment in 0..40 {
            stage.play(&Act::Create {
                method: "pm_card_visa",
                manual: true,
            });
            stage.play(&Act::Confirm { payment });
        }
        stage.told.iter().map(|answer| answer.status).collect::<Vec<_>>()
    };
    assert_ne!(run(1), run(2));
    let declined = run(1).iter().filter(|status| **status == 402).count();
    assert!(
        (8..33).contains(&declined),
        "{declined} of 40 declined at one half"
    );
}

#[test]
fn webhooks_are_late_shuffled_and_finally_given_up() {
    let faults = Faults {
        webhook_late_rate: Rate::ALWAYS,
        webhook_late_ms: 60_000,
        ..Faults::default()
    };
    let mut stage = Stage::new(1, faults);
    stage.play(&Act::Create {
        method: "pm_card_visa",
        manual: true,
    });
    let due_ms = stage.provider.next_due_ms().expect("a webhook waits");
    assert!((60_000..60_100).contains(&(due_ms - stage.now_ms)), "{due_ms}");
    assert!(stage.provider.deliveries(due_ms - 1, 10).is_empty());
    let mut attempts = 0;
    let mut now_ms = due_ms;
    while let Some(due_ms) = stage.provider.next_due_ms() {
        assert!(due_ms == now_ms || due_ms - now_ms <= 30_000, "waits are bounded");
        now_ms = due_ms;
        for delivery in stage.provider.deliveries(now_ms, 10) {
            assert_eq!(delivery.attempts, attempts);
            attempts += 1;
            stage.provider.delivered(delivery, false, now_ms);
        }
    }
    assert!(attempts > 10);
    assert_eq!(stage.provider.ledger().webhooks.given_up, 1);

    let faults = Faults {
        webhook_shuffle_ms: 10_000,
        ..Faults::default()
    };
    let mut stage = Stage::new(1, faults);
    for _ in 0..20 {
        stage.play(&Act::Create {
            method: "pm_card_visa",
            manual: true,
        });
        stage.now_ms += 1;
    }
    let sent: Vec<u64> = stage
        .provider
        .deliveries(stage.now_ms + 20_000, 100)
        .iter()
        .map(|delivery| delivery.event.created_ms)
        .collect();
    assert_eq!(sent.len(), 20);
    assert!(!sent.is_sorted(), "they overtake each other");
}

#[test]
fn an_endpoint_is_sent_the_kinds_that_it_names() {
    let wanted = "payment_intent.succeeded";
    let mut stage = Stage::new(1, Faults::default());
    stage.provider = Provider::new(Options {
        webhook_kinds: vec![wanted.to_owned()],
        ..Options::default()
    });
    stage.play(&Act::Create {
        method: "pm_card_visa",
        manual: false,
    });
    stage.play(&Act::Confirm { payment: 0 });
    let sent = stage.provider.deliveries(stage.now_ms + 60_000, 100);
    let kinds: Vec<_> = sent.iter().map(|delivery| delivery.event.kind).collect();
    assert_eq!(kinds, [wanted]);
}

#[test]
fn limits_refuse_clearly_and_keys_are_forgotten_after_a_day() {
    let mut provider = Provider::new(Options {
        payments_max: 1,
        keys_max: 2,
        ..Options::default()
    });
    let create = |key: &str| {
        let form = [
            ("amount", "4900"),
            ("currency", "eur"),
            ("payment_method", "pm_card_visa"),
        ];
        Request::post("/v1/payment_intents", &form).key(key)
    };
    let day_ms = 24 * 3_600_000;
    assert_eq!(provider.call(&create("k1"), 1).status, 200);
    assert_eq!(provider.call(&create("k2"), 2).status, 503, "payments_max");
    assert_eq!(provider.call(&create("k3"), 3).status, 503, "keys_max");
    assert!(provider.call(&create("k1"), day_ms).replayed);
    let forgotten = provider.call(&create("k1"), day_ms + 1);
    assert!(!forgotten.replayed && forgotten.status == 503);
    let in_the_past = provider.call(&Request::get("/v1/events"), 1);
    assert_eq!(in_the_past.status, 200, "time never falls");
}
