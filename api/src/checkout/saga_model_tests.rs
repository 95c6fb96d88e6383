//! The saga against a model of the store and of the provider, under every misfortune at once.
//!
//! Two owners take turns as chance has it. Any effect may be done and answered, done with its answer
//! lost, not done, or delivered much later than its sender believes; owners die between any two steps,
//! leases end under owners who go on unaware, holds end, shoppers come back or do not, a platform may
//! confirm the claim itself. In the end, once the world is quiet again and somebody goes on with what is
//! open, there is one order, one capture and a confirmed claim; or no order, no money held or kept, and
//! the unit is not this shopper's.

use std::collections::BTreeMap;

use client::ClaimStatus;
use proptest::prelude::*;

use super::super::journal::{Closed, Journal, Refunded, decode, encode};
use super::golden_tests::begun;
use super::*;

/// What the bank will say to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bank {
    Approves,
    Declines,
    /// Asks the shopper first, who passes.
    Asks,
    /// Approves, and then the money cannot be taken.
    CannotCapture,
    /// Approves, and refuses the money at first.
    Wavers,
}

/// What becomes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// Done, but nobody hears of it.
    AnswerLost,
    /// Lost on the way: whether it was done is not known.
    Lost,
    /// Refused for now.
    NotNow,
    /// Believed lost, and delivered later.
    Late,
    /// The provider fails, having done it or not, and repeats that under this key for good.
    Fails(bool),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize, Fate),
    Deliver(usize),
    Dies(usize),
    /// The lease ends, whatever its owner believes, and this one takes over.
    TakesOver(usize),
    HoldEnds,
    ShopperReturns(bool),
    PlatformConfirms,
    /// A request looks at how things are.
    Look(Bank),
    /// And begins an attempt upon that, perhaps much later.
    Begin,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Funds {
    Unconfirmed,
    Action,
    Held,
    Declined,
    Canceled,
    Taken,
    Returned,
}

#[derive(Clone, Debug)]
struct Payment {
    attempt: u32,
    bank: Bank,
    funds: Funds,
    /// What this attempt's confirm was answered: replayed under its key.
    confirmed: Option<Funds>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    body: Vec<u8>,
    version: u64,
    token: u64,
}

#[derive(Clone)]
struct Owner {
    journal: Journal,
    version: u64,
    token: u64,
    saved: Vec<u8>,
}

/// An effect on its way.
#[derive(Clone, Debug)]
struct Message {
    effect: Effect,
    attempt: u32,
    undo_number: u32,
    claim_token: u64,
}

impl Message {
    /// Under which key, where it goes to the provider.
    fn key(&self) -> Option<(u32, Effect, u32)> {
        let undoes = matches!(self.effect, Effect::Void | Effect::Refund);
        let charges = matches!(self.effect, Effect::Create | Effect::Authorize | Effect::Capture);
        let number = if undoes { self.undo_number } else { 0 };
        (undoes || charges).then_some((self.attempt, self.effect, number))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    None,
    Paid(u32),
    Cancelled(u32),
}

struct World {
    clock: u64,
    open: Option<Open>,
    closed: Option<Closed>,
    closed_version: u64,
    claim: ClaimStatus,
    claim_token: u64,
    extended: bool,
    /// The attempt that confirmed it; zero: a platform.
    confirmed_by: Option<u32>,
    payments: Vec<Payment>,
    banks: BTreeMap<u32, Bank>,
    /// The provider has forgotten every key: what was done before is refused rather than repeated.
    forgetful: bool,
    looked: Option<(Journal, Bank)>,
    order: Order,
    owners: [Option<Owner>; 2],
    late: Vec<Message>,
    /// Keys that the provider repeats a failure under.
    stuck: Vec<(u32, Effect, u32)>,
    captures: u32,
    refunds: u32,
}

impl World {
    fn new() -> World {
        World {
            clock: 100,
            open: None,
            closed: None,
            closed_version: 0,
            claim: ClaimStatus::Held,
            claim_token: 7,
            extended: false,
            confirmed_by: None,
            payments: Vec::new(),
            banks: BTreeMap::new(),
            forgetful: false,
            looked: None,
            order: Order::None,
            owners: [None, None],
            late: Vec::new(),
            stuck: Vec::new(),
            captures: 0,
            refunds: 0,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn payment(&mut self, attempt: u32) -> Option<&mut Payment> {
        self.payments
            .iter_mut()
            .find(|payment| payment.attempt == attempt)
    }

    fn state(&mut self, attempt: u32) -> Outcome {
        let refusal = || Refusal {
            code: "card_declined".into(),
            decline_code: None,
            message: String::new(),
        };
        let funds = self.payment(attempt).expect("its id is known").funds;
        Outcome::Payment(match funds {
            Funds::Unconfirmed => PaymentState::Unconfirmed,
            Funds::Action => PaymentState::ActionRequired { url: None },
            Funds::Held => PaymentState::Authorized,
            Funds::Declined => PaymentState::Declined(refusal()),
            Funds::Canceled => PaymentState::Canceled,
            Funds::Taken => PaymentState::Captured { refunded: false },
            Funds::Returned => PaymentState::Captured { refunded: true },
        })
    }

    /// Carries an effect out as the real store and the real provider would.
    fn apply(&mut self, message: &Message, journal: &Journal) -> Outcome {
        let refused = || {
            Outcome::Refused(Refusal {
                code: "unexpected_state".into(),
                decline_code: None,
                message: String::new(),
            })
        };
        let (attempt, forgetful) = (message.attempt, self.forgetful);
        if message.key().is_some_and(|key| self.stuck.contains(&key)) {
            return Outcome::Stuck;
        }
        match message.effect {
            Effect::CheckTurn => Outcome::Turn {
                closed_version: self.closed_version,
                ordered: self.order != Order::None,
            },
            Effect::LookAtClaim => Outcome::Claim(self.claim),
            Effect::Extend => match self.claim {
                // The same key by whichever attempt and owner.
                ClaimStatus::Held => {
                    if !self.extended {
                        self.claim_token = self.tick();
                        self.extended = true;
                    }
                    Outcome::Extended {
                        claim_token: self.claim_token,
                        hold_until_ms: 0,
                    }
                }
                status => Outcome::Claim(status),
            },
            Effect::Create => {
                if self.payment(attempt).is_none() {
                    let bank = self.banks[&attempt];
                    self.payments.push(Payment {
                        attempt,
                        bank,
                        funds: Funds::Unconfirmed,
                        confirmed: None,
                    });
                }
                Outcome::Created {
                    payment_id: format!("pi_{attempt}"),
                }
            }
            Effect::Authorize => {
                let payment = self.payment(attempt).expect("its id is known");
                if let Some(said) = payment.confirmed.filter(|_| !forgetful) {
                    // A replay says what was said then, whatever has become of it.
                    let now = std::mem::replace(&mut payment.funds, said);
                    let replayed = self.state(attempt);
                    self.payment(attempt).expect("it is there").funds = now;
                    return replayed;
                }
                if payment.funds != Funds::Unconfirmed {
                    return refused();
                }
                payment.funds = match payment.bank {
                    Bank::Approves | Bank::CannotCapture | Bank::Wavers => Funds::Held,
                    Bank::Declines => Funds::Declined,
                    Bank::Asks => Funds::Action,
                };
                payment.confirmed = Some(payment.funds);
                self.state(attempt)
            }
            Effect::Retrieve => self.state(attempt),
            Effect::ConfirmClaim => match self.claim {
                _ if self.confirmed_by == Some(attempt) => match self.claim {
                    ClaimStatus::Confirmed => Outcome::Settled,
                    status => Outcome::Claim(status),
                },
                ClaimStatus::Held if message.claim_token == self.claim_token => {
                    (self.claim, self.confirmed_by) = (ClaimStatus::Confirmed, Some(attempt));
                    Outcome::Settled
                }
                ClaimStatus::Held => Outcome::StaleToken,
                status => Outcome::Claim(status),
            },
            Effect::Capture => {
                let payment = self.payment(attempt).expect("its id is known");
                match (payment.funds, payment.bank) {
                    (Funds::Held, Bank::CannotCapture) => refused(),
                    (Funds::Held, Bank::Wavers) => {
                        payment.bank = Bank::Approves;
                        refused()
                    }
                    (Funds::Held, _) => {
                        payment.funds = Funds::Taken;
                        self.captures += 1;
                        assert_eq!(self.captures, 1, "charged twice");
                        self.state(attempt)
                    }
                    // Once captured, its key is answered so for good.
                    (Funds::Taken | Funds::Returned, _) if !forgetful => {
                        Outcome::Payment(PaymentState::Captured { refunded: false })
                    }
                    _ => refused(),
                }
            }
            Effect::CancelClaim => match self.claim {
                ClaimStatus::Confirmed => {
                    assert_eq!(
                        self.confirmed_by,
                        Some(attempt),
                        "somebody else's claim is cancelled"
                    );
                    self.claim = ClaimStatus::Cancelled;
                    Outcome::Settled
                }
                status => Outcome::Claim(status),
            },
            Effect::Void => {
                let payment = self.payment(attempt).expect("its id is known");
                match payment.funds {
                    Funds::Taken | Funds::Returned => refused(),
                    _ => {
                        payment.funds = Funds::Canceled;
                        self.state(attempt)
                    }
                }
            }
            Effect::Refund => {
                let payment = self.payment(attempt).expect("its id is known");
                match payment.funds {
                    Funds::Taken => {
                        payment.funds = Funds::Returned;
                        self.refunds += 1;
                        Outcome::Refunded(Refunded {
                            refund_id: "re".into(),
                            amount_minor: 1,
                        })
                    }
                    Funds::Returned if !forgetful => Outcome::Refunded(Refunded {
                        refund_id: "re".into(),
                        amount_minor: 1,
                    }),
                    _ => refused(),
                }
            }
            Effect::RecordPaid => {
                match self.order {
                    Order::None => self.order = Order::Paid(attempt),
                    Order::Paid(by) | Order::Cancelled(by) => assert_eq!(by, attempt, "two orders"),
                }
                Outcome::Ordered(None)
            }
            Effect::Close => {
                // Compare-and-set: whoever comes later finds it written.
                if self.closed_version == journal.closed_version {
                    self.closed = Some(Closed::with(self.closed.take(), journal));
                    self.closed_version = self.tick();
                }
                Outcome::Written
            }
            Effect::RecordCancelled => {
                self.order = Order::Cancelled(attempt);
                Outcome::Written
            }
        }
    }

    /// Saves an owner's journal; whether he still owns it.
    fn save(&mut self, who: usize) -> bool {
        let version = self.tick();
        let owner = self.owners[who].as_mut().expect("it acts");
        match &mut self.open {
            Some(open) if open.token == owner.token && open.version == owner.version => {
                owner.saved = encode(&owner.journal);
                owner.version = version;
                (open.body, open.version) = (owner.saved.clone(), version);
                true
            }
            _ => {
                self.owners[who] = None;
                false
            }
        }
    }

    fn step(&mut self, who: usize, fate: Fate) {
        let Some(owner) = &self.owners[who] else { return };
        let step = next(&owner.journal);
        let dirty = encode(&owner.journal) != owner.saved;
        match step {
            Step::Do(effect) => {
                if effect.is_guarded() && dirty && !self.save(who) {
                    return;
                }
                let owner = self.owners[who].as_ref().expect("it acts");
                let message = Message {
                    effect,
                    attempt: owner.journal.attempt,
                    undo_number: owner.journal.undo_number,
                    claim_token: owner.journal.claim_token,
                };
                let journal = owner.journal.clone();
                let owns = self.open.as_ref().is_some_and(|open| open.token == owner.token);
                let last = self.closed.as_ref().map_or(0, Closed::attempt);
                if effect == Effect::Create && owns {
                    assert!(journal.attempt > last, "a number is used twice");
                }
                let outcome = match fate {
                    Fate::Done => self.apply(&message, &journal),
                    Fate::AnswerLost => {
                        self.apply(&message, &journal);
                        Outcome::Unknown
                    }
                    Fate::Lost => Outcome::Unknown,
                    Fate::NotNow => Outcome::NotNow { retry_after_ms: 1 },
                    Fate::Fails(done) => match message.key() {
                        Some(key) => {
                            if done {
                                self.apply(&message, &journal);
                            }
                            self.stuck.push(key);
                            Outcome::Unknown
                        }
                        None => self.apply(&message, &journal),
                    },
                    Fate::Late => {
                        // What the store is told carries a latest time, and documents a version: only
                        // what goes to the provider can come this late, and what a claim is told.
                        self.late.push(message);
                        Outcome::Unknown
                    }
                };
                let owner = self.owners[who].as_mut().expect("it acts");
                record(&mut owner.journal, outcome);
            }
            Step::Park => {
                if !dirty || self.save(who) {
                    self.owners[who] = None;
                    if let Some(open) = &mut self.open {
                        open.token = 0;
                    }
                }
            }
            Step::Finish => {
                if self.save(who) {
                    self.owners[who] = None;
                    self.open = None;
                }
            }
        }
    }

    fn take_over(&mut self, who: usize) {
        let token = self.tick();
        let Some(open) = &mut self.open else { return };
        open.token = token;
        let mut journal: Journal = decode("journal", &open.body).unwrap();
        take_over(&mut journal);
        self.owners[who] = Some(Owner {
            journal,
            version: open.version,
            token,
            saved: open.body.clone(),
        });
    }

    /// A request of the shopper: begins an attempt where one may begin.
    fn begin(&mut self, journal: Journal) {
        let (version, token) = (self.tick(), self.tick());
        let body = encode(&journal);
        self.open = Some(Open {
            body: body.clone(),
            version,
            token,
        });
        self.owners[0] = Some(Owner {
            journal,
            version,
            token,
            saved: body,
        });
    }

    /// Where an attempt may begin, says how it would.
    fn look(&mut self, bank: Bank) {
        if self.open.is_some() || self.order != Order::None || self.claim != ClaimStatus::Held {
            return;
        }
        let attempt = self.closed.as_ref().map_or(0, Closed::attempt) + 1;
        let closed_token = self.closed.as_ref().map_or(0, |closed| closed.claim_token);
        let journal = Journal {
            claim_token: if closed_token > 0 { closed_token } else { 7 },
            extended: closed_token > 0,
            ..begun(attempt, self.closed_version)
        };
        self.looked = Some((journal, bank));
    }

    fn begin_looked(&mut self) {
        if self.open.is_none()
            && let Some((journal, bank)) = self.looked.take()
        {
            self.banks.entry(journal.attempt).or_insert(bank);
            self.begin(journal);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step(who, fate) => self.step(who, fate),
            Event::Deliver(which) => {
                if !self.late.is_empty() {
                    let message = self.late.remove(which % self.late.len());
                    let belated = !matches!(
                        message.effect,
                        Effect::Close | Effect::RecordPaid | Effect::RecordCancelled
                    );
                    if belated {
                        self.apply(&message, &begun(message.attempt, u64::MAX));
                    }
                }
            }
            Event::Dies(who) => self.owners[who] = None,
            Event::TakesOver(who) => self.take_over(who),
            Event::HoldEnds => {
                if self.claim == ClaimStatus::Held {
                    self.claim = ClaimStatus::Expired;
                }
            }
            Event::ShopperReturns(passes) => {
                for payment in &mut self.payments {
                    if payment.funds == Funds::Action {
                        payment.funds = if passes { Funds::Held } else { Funds::Declined };
                    }
                }
            }
            Event::PlatformConfirms => {
                if self.claim == ClaimStatus::Held {
                    (self.claim, self.confirmed_by) = (ClaimStatus::Confirmed, Some(0));
                }
            }
            Event::Look(bank) => self.look(bank),
            Event::Begin => self.begin_looked(),
            Event::Cancel => {
                if let (Order::Paid(attempt), None) = (self.order, &self.open) {
                    self.begin(Journal {
                        stage: Stage::OrderRefund,
                        claim_token: self.claim_token,
                        extended: true,
                        payment_id: Some(format!("pi_{attempt}")),
                        ..begun(attempt, self.closed_version)
                    });
                }
            }
        }
        self.check_always();
    }

    fn check_always(&self) {
        if let Order::Paid(attempt) = self.order {
            let by = self.payments.iter().find(|payment| payment.attempt == attempt);
            let being_cancelled = self.open.is_some();
            let funds = by.map(|payment| payment.funds);
            assert!(
                funds == Some(Funds::Taken) || being_cancelled && funds == Some(Funds::Returned),
                "an order without payment: {funds:?}"
            );
        }
    }

    /// Everything calms down, and somebody goes on with what is open.
    fn settle(&mut self) {
        while !self.late.is_empty() {
            self.happen(Event::Deliver(0));
        }
        self.owners = [None, None];
        let mut rounds = 0;
        while self.open.is_some() {
            rounds += 1;
            assert!(rounds < 20, "it never ends: {:?}", self.open);
            if rounds == 3 {
                self.happen(Event::HoldEnds);
            }
            self.take_over(0);
            for _ in 0..30 {
                self.step(0, Fate::Done);
                self.check_always();
            }
        }
        self.check_end();
    }

    fn check_end(&self) {
        let of = |funds| {
            self.payments
                .iter()
                .filter(|payment| payment.funds == funds)
                .count()
        };
        assert_eq!(of(Funds::Held), 0, "money is still held: {:?}", self.payments);
        assert_eq!(
            of(Funds::Action),
            0,
            "a shopper could still pay: {:?}",
            self.payments
        );
        assert_eq!(self.captures as usize, of(Funds::Taken) + of(Funds::Returned));
        assert!(self.refunds <= self.captures, "refunded twice");
        let closed = self.closed.iter().flat_map(|closed| &closed.attempts);
        let closed: Vec<u32> = closed.map(|attempt| attempt.attempt).collect();
        assert!(
            closed.is_sorted_by(|a, b| a < b),
            "numbers are used once: {closed:?}"
        );
        match self.order {
            Order::Paid(attempt) => {
                assert!(!closed.contains(&attempt), "an attempt both paid and failed");
                assert_eq!((of(Funds::Taken), self.claim), (1, ClaimStatus::Confirmed));
                assert_eq!(self.confirmed_by, Some(attempt));
            }
            Order::Cancelled(_) => {
                assert_eq!((of(Funds::Taken), of(Funds::Returned)), (0, 1));
                assert_eq!(self.claim, ClaimStatus::Cancelled);
            }
            Order::None => {
                assert_eq!(of(Funds::Taken), 0, "charged without an order");
                let kept = self.claim == ClaimStatus::Confirmed && self.confirmed_by != Some(0);
                assert!(!kept, "a unit is sold to nobody");
            }
        }
    }
}

fn bank() -> impl Strategy<Value = Bank> {
    prop_oneof![
        4 => Just(Bank::Approves),
        1 => Just(Bank::Declines),
        2 => Just(Bank::Asks),
        1 => Just(Bank::CannotCapture),
        3 => Just(Bank::Wavers),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Done),
        2 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => Just(Fate::NotNow),
        2 => Just(Fate::Late),
        1 => any::<bool>().prop_map(Fate::Fails),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        36 => (0..2_usize, fate()).prop_map(|(who, fate)| Event::Step(who, fate)),
        4 => (0..4_usize).prop_map(Event::Deliver),
        1 => (0..2_usize).prop_map(Event::Dies),
        4 => (0..2_usize).prop_map(Event::TakesOver),
        1 => Just(Event::HoldEnds),
        2 => any::<bool>().prop_map(Event::ShopperReturns),
        1 => Just(Event::PlatformConfirms),
        3 => bank().prop_map(Event::Look),
        3 => Just(Event::Begin),
        2 => Just(Event::Cancel),
    ]
}

/// A life of one claim: what its first bank says, whether the provider forgets keys, what happens.
fn life() -> impl Strategy<Value = (Bank, bool, Vec<Event>)> {
    (
        bank(),
        prop::bool::weighted(0.3),
        prop::collection::vec(event(), 1..80),
    )
}

fn lived((bank, forgetful, events): (Bank, bool, Vec<Event>)) -> World {
    let mut world = World::new();
    world.forgetful = forgetful;
    world.look(bank);
    let other_request = world.looked.clone();
    world.begin_looked();
    world.looked = other_request;
    for event in events {
        world.happen(event);
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_order_and_one_charge_or_none(life in life()) {
        lived(life);
    }
}

/// The test above is worth nothing if chance hardly ever gets anywhere: every way to end is reached.
#[test]
fn every_way_to_end_is_reached() {
    use proptest::{
        strategy::ValueTree,
        test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = life();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..1_000 {
        let world = lived(strategy.new_tree(&mut runner).unwrap().current());
        for attempt in world.closed.iter().flat_map(|closed| &closed.attempts) {
            *seen.entry(attempt.ending.name()).or_insert(0) += 1;
        }
        let order = match world.order {
            Order::None => "no order",
            Order::Paid(_) => "paid",
            Order::Cancelled(_) => "cancelled",
        };
        *seen.entry(order).or_insert(0) += 1;
        if world.order == Order::None && world.refunds > 0 {
            *seen.entry("captured and refunded").or_insert(0) += 1;
        }
    }
    for ending in [
        "paid",
        "cancelled",
        "no order",
        "declined",
        "hold-gone",
        "confirmed-elsewhere",
        "provider-unavailable",
        "capture-failed",
        "captured and refunded",
    ] {
        assert!(seen.contains_key(ending), "{ending} never came up: {seen:?}");
    }
}
