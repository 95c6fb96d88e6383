//! Callers: each a loop of one request after the other, at a steady pace, until told to stop; and [clerks](Clerk)
//! beside them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::Client;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    clerk::Clerk,
    plan::{Action, Plan},
    shop::{Heard, Process, Shop},
};
use crate::history::Call;

/// Clients that they share: each has its own connections and frames.
const CLIENTS: u64 = 4;

/// Earlier requests that a caller may repeat.
const REMEMBERED_MAX: usize = 64;

/// Holds that a caller keeps; beyond them the oldest is forgotten.
const HOLDS_MAX: usize = 32;

/// How often a caller whose request is of unknown outcome asks what became of it, and how often it goes away and
/// leaves it at that; else it sends it once more.
const RESOLVES: f64 = 0.3;
const GOES_AWAY: f64 = 0.3;

/// How near its end a hold must be to be confirmed late, in ms: before and after.
const LATE_MS: i64 = 40;

/// How old a read from any node may be, in ms; none: any age. Followers hear once a second how old they are: one bound
/// that mostly the leader can keep, one that others keep, and one that is never in their way.
const AGES_MS_MAX: [Option<u64>; 6] = [None, None, None, Some(250), Some(1_000), Some(2_000)];

/// A request that can be made again.
#[derive(Clone)]
struct Request {
    sale: String,
    call: Call<String>,
    token: u64,
}

struct Hold {
    sale: String,
    id: String,
    token: u64,
    /// When it ends, about.
    due: Instant,
}

/// Runs all callers until `stop` says so. `client` makes a client.
///
/// # Errors
/// A client cannot be made.
pub async fn run(
    plan: &Arc<Plan>,
    shop: &Shop,
    seed: u64,
    client: impl Fn() -> Result<Client, client::Error>,
    stop: watch::Receiver<bool>,
) -> Result<(), client::Error> {
    let clients = (0..CLIENTS).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
    let late = match plan.latecomers {
        0 => Vec::new(),
        _ => (0..CLIENTS).map(|_| client()).collect::<Result<Vec<_>, _>>()?,
    };
    let users = Arc::new(AtomicU64::new(0));
    let clerks = (0..plan.clerks).map(|number| {
        let clerk = Clerk {
            process: shop.process(clients[(number % CLIENTS) as usize].clone()),
            chance: SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xc1e2_c5b0),
            number,
            pace_ms: plan.pace_ms,
        };
        tokio::spawn(clerk.run(stop.clone()))
    });
    let clerks: Vec<_> = clerks.collect();
    let callers: Vec<_> = (0..plan.callers + plan.latecomers)
        .map(|number| {
            let late = (number >= plan.callers).then_some(&late);
            let client = late.unwrap_or(&clients)[(number % CLIENTS) as usize].clone();
            let caller = Caller {
                plan: plan.clone(),
                process: shop.process(client.clone()),
                twin: shop.process(client),
                chance: SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                users: users.clone(),
                keys: 0,
                number,
                late: late.is_some(),
                holds: VecDeque::new(),
                confirmed: VecDeque::new(),
                remembered: VecDeque::new(),
            };
            tokio::spawn(caller.run(stop.clone()))
        })
        .collect();
    for caller in callers.into_iter().chain(clerks) {
        // A caller that panicked has broken the run: its panic says why.
        caller.await.expect("a caller's own mistake");
    }
    Ok(())
}

struct Caller {
    plan: Arc<Plan>,
    process: Process,
    /// Makes the second of two requests at once.
    twin: Process,
    chance: SmallRng,
    /// Users who came so far, to all callers.
    users: Arc<AtomicU64>,
    keys: u64,
    number: u64,
    /// A latecomer.
    late: bool,
    holds: VecDeque<Hold>,
    /// Holds that are sold, and may be taken back.
    confirmed: VecDeque<Hold>,
    remembered: VecDeque<Request>,
}

impl Caller {
    async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut pace = interval(Duration::from_millis(self.plan.pace_ms));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            pace.tick().await;
            let action = self.choose();
            self.act(action).await;
        }
    }

    fn choose(&mut self) -> Action {
        if self.late {
            // What such a one gets it keeps: the sale is sold out again at once.
            return if self.holds.is_empty() {
                Action::Claim
            } else {
                Action::Confirm
            };
        }
        let all: u32 = self.plan.actions.iter().map(|(_, times)| times).sum();
        let mut drawn = self.chance.random_range(0..all);
        for &(action, times) in &self.plan.actions {
            if drawn < times {
                return action;
            }
            drawn -= times;
        }
        unreachable!("drawn below the sum");
    }

    async fn act(&mut self, action: Action) {
        let request = match action {
            Action::Claim => self.claim(true),
            Action::ClaimAgain => self.claim(false),
            Action::Decrement => self.decrement(),
            Action::Twice => {
                let request = if self.chance.random_bool(0.7) {
                    self.claim(true)
                } else {
                    self.decrement()
                };
                return self.twice(request).await;
            }
            Action::Repeat => match self.remembered.len() {
                0 => self.claim(true),
                count => {
                    let request = self.remembered[self.chance.random_range(0..count)].clone();
                    // Heard again, a hold is not a second one.
                    self.process
                        .call(&request.sale, &request.call, request.token)
                        .await;
                    return;
                }
            },
            Action::Resolve => match self.remembered.len() {
                0 => self.claim(true),
                count => {
                    let request = self.remembered[self.chance.random_range(0..count)].clone();
                    self.process.resolve(&request.sale, &request.call).await;
                    return;
                }
            },
            Action::Confirm => return self.settle(true).await,
            Action::Release => return self.settle(false).await,
            Action::Extend => return self.extend().await,
            Action::Cancel => self.cancel(),
            Action::ConfirmLate => {
                let ends_in_ms = self.holds.front().map(|hold| ms_until(hold.due));
                match ends_in_ms {
                    Some(ends_in_ms) if ends_in_ms < LATE_MS => return self.settle(true).await,
                    _ => self.claim(true),
                }
            }
            Action::Forget => {
                self.holds.pop_front();
                return;
            }
            Action::Read => Request {
                sale: self.sale(),
                call: Call::Read,
                token: 0,
            },
            Action::ReadStale => {
                let age_ms_max = AGES_MS_MAX[self.chance.random_range(0..AGES_MS_MAX.len())];
                let sale = self.sale();
                return self.process.read_stale(&sale, age_ms_max).await;
            }
        };
        self.make(request).await;
    }

    /// Makes a new request. What becomes of an unknown one it may ask, or hear again under its key; or somebody else
    /// will have to find out.
    async fn make(&mut self, request: Request) -> Heard {
        let heard = self
            .process
            .call(&request.sale, &request.call, request.token)
            .await;
        let heard = match heard {
            Heard::Unknown if self.chance.random_bool(GOES_AWAY) => return heard,
            Heard::Unknown if request.call.key().is_some() && self.chance.random_bool(RESOLVES) => {
                self.process.resolve(&request.sale, &request.call).await;
                heard
            }
            Heard::Unknown => {
                self.process
                    .call(&request.sale, &request.call, request.token)
                    .await
            }
            heard => heard,
        };
        self.remember(request, heard.clone());
        heard
    }

    /// Makes a new request twice at once.
    async fn twice(&mut self, request: Request) {
        let Request { sale, call, token } = &request;
        let (heard, again) = tokio::join!(
            self.process.call(sale, call, *token),
            self.twin.call(sale, call, *token)
        );
        let heard = match heard {
            Heard::Hold(..) => heard,
            _ => again,
        };
        self.remember(request, heard);
    }

    fn remember(&mut self, request: Request, heard: Heard) {
        if let Heard::Hold(id, token) = heard {
            let plan = self
                .plan
                .sales
                .iter()
                .find(|plan| plan.new.sale_id == request.sale);
            let hold_ms = plan.map_or(0, |plan| plan.new.hold_ms);
            self.holds.push_back(Hold {
                sale: request.sale.clone(),
                id,
                token,
                due: Instant::now() + Duration::from_millis(hold_ms),
            });
            self.holds.truncate(HOLDS_MAX);
        }
        if !matches!(request.call, Call::Read) {
            self.remembered.push_back(request);
            if self.remembered.len() > REMEMBERED_MAX {
                self.remembered.pop_front();
            }
        }
    }

    fn sale(&mut self) -> String {
        let sales = self.plan.sales_of_all();
        let sale = if self.late {
            self.plan.sales.last().expect("latecomers have a sale")
        } else {
            &sales[self.chance.random_range(0..sales.len())]
        };
        sale.new.sale_id.clone()
    }

    fn key(&mut self, kind: &str) -> String {
        self.keys += 1;
        format!("{kind}-{}-{}", self.number, self.keys)
    }

    fn user(&mut self, new: bool) -> String {
        let came = if new {
            self.users.fetch_add(1, Ordering::Relaxed)
        } else {
            self.users.load(Ordering::Relaxed)
        };
        // Those who come back came lately: they are likely to hold something.
        let user = if new {
            came
        } else {
            came.saturating_sub(self.chance.random_range(1..200))
        };
        format!("user-{user}")
    }

    fn quantity(&mut self, sale: &str) -> u64 {
        let plan = self.plan.sales.iter().find(|plan| plan.new.sale_id == sale);
        let limit = plan.map_or(1, |plan| plan.new.per_user_units_max.max(1));
        self.chance
            .random_range(1..=limit.min(self.plan.quantity_max))
            .into()
    }

    fn claim(&mut self, new: bool) -> Request {
        let sale = self.sale();
        let call = Call::Claim {
            user: self.user(new),
            key: self.key("claim"),
            quantity: self.quantity(&sale),
        };
        Request { sale, call, token: 0 }
    }

    fn decrement(&mut self) -> Request {
        let sale = self.sale();
        let call = Call::Decrement {
            user: Some(self.user(true)),
            key: self.key("decrement"),
            quantity: self.quantity(&sale),
        };
        Request { sale, call, token: 0 }
    }

    /// Confirms or releases the oldest hold; without one, claims.
    async fn settle(&mut self, confirm: bool) {
        let Some(hold) = self.holds.pop_front() else {
            let request = self.claim(true);
            self.make(request).await;
            return;
        };
        let call = if confirm {
            Call::Confirm {
                hold: hold.id.clone(),
                key: self.key("confirm"),
            }
        } else {
            Call::Release {
                hold: hold.id.clone(),
                key: self.key("release"),
            }
        };
        let heard = self.make(hold.request(call)).await;
        if confirm && matches!(heard, Heard::Answered) {
            self.confirmed.push_back(hold);
            self.confirmed.truncate(HOLDS_MAX);
        }
    }

    /// Begins a checkout of the oldest hold, which comes back as the newest; without one, claims.
    async fn extend(&mut self) {
        let Some(hold) = self.holds.pop_front() else {
            let request = self.claim(true);
            self.make(request).await;
            return;
        };
        let call = Call::Extend {
            hold: hold.id.clone(),
            key: self.key("extend"),
        };
        self.make(hold.request(call)).await;
    }

    /// Takes the oldest confirmed hold back; without one, claims.
    fn cancel(&mut self) -> Request {
        let Some(hold) = self.confirmed.pop_front() else {
            return self.claim(true);
        };
        let call = Call::Cancel {
            hold: hold.id.clone(),
            key: self.key("cancel"),
        };
        hold.request(call)
    }
}

impl Hold {
    fn request(&self, call: Call<String>) -> Request {
        Request {
            sale: self.sale.clone(),
            call,
            token: self.token,
        }
    }
}

/// Negative when it is past.
fn ms_until(due: Instant) -> i64 {
    let now = Instant::now();
    match due.checked_duration_since(now) {
        Some(left) => left.as_millis() as i64,
        None => -(now.duration_since(due).as_millis() as i64),
    }
}
