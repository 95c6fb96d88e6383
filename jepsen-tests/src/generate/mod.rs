//! Makes histories: random runs of an honest [`Store`], to try the checker on and to measure it with.
//!
//! A run follows from its [`Plan`] and a seed, and is right by construction: operations are done one after the
//! other, and only then spread over time so that they overlap. What it is made of is the plainest thing that
//! can be called a store; it shares nothing with the checker but the types.

mod store;

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::history::{Answer, Call, Event, Header, History, Index, Names, Outcome, What};
pub use store::Store;

/// Position of an answer that needed no entry: beyond all commands of one.
pub const POSITION_BEYOND: u64 = 1_000;

/// What kind of run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many operations.
    pub operations: usize,
    /// On how many sales.
    pub sales: usize,
    /// Units of each sale.
    pub units: u64,
    /// How many users there are.
    pub users: usize,
    /// How long a claim holds its unit, in ms of log time.
    pub ttl_ms: u64,
    /// Of a hundred operations, so many are never heard of.
    pub unheard_percent: u32,
    /// Of a hundred such, it is learned later what became of so many.
    pub resolved_percent: u32,
    /// How many others an operation may overlap.
    pub overlap: u64,
    /// Log time between two operations is below this, in ms.
    pub step_ms: u64,
}

/// When it was heard, index, log time, answer.
pub type Heard = (u64, (u64, u64), u64, Outcome<String>);
/// Index, log time, answer.
pub type Learned = ((u64, u64), u64, Outcome<String>);

/// An operation: what was asked and heard, and when.
#[derive(Clone, Debug)]
pub struct Operation {
    /// On which sale, from zero.
    pub sale: usize,
    /// What was asked.
    pub call: Call<String>,
    /// When, in ns.
    pub began: u64,
    /// Its answer came then; none: nobody heard.
    pub answer: Option<Heard>,
    /// It definitely did not happen.
    pub failed: bool,
    /// For an unheard one, what is learned of it in the end, if anything is.
    pub resolved: Option<Option<Learned>>,
}

/// A run that follows the specification, operations in the order in which they happened.
pub fn run(plan: Plan, seed: u64) -> Vec<Operation> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut sales: Vec<Store> = (0..plan.sales)
        .map(|_| Store::new(plan.units, plan.ttl_ms))
        .collect();
    let mut holds: Vec<Vec<String>> = vec![Vec::new(); plan.sales];
    let mut asked: Vec<Vec<Call<String>>> = vec![Vec::new(); plan.sales];
    let (mut lt, mut log_index, mut position) = (1, 1, 0);
    let mut operations = Vec::with_capacity(plan.operations);
    for number in 0..plan.operations {
        let sale = chance.random_range(0..plan.sales);
        let key = format!("k{number}");
        let hold = |chance: &mut SmallRng| holds[sale].choose(chance).cloned().unwrap_or_else(|| "h?".into());
        let call = match chance.random_range(0..100) {
            // A retry: the same again.
            0..12 if !asked[sale].is_empty() => asked[sale].choose(&mut chance).expect("not empty").clone(),
            0..60 => Call::claim(format!("u{}", chance.random_range(0..plan.users)), key),
            60..72 => Call::Confirm {
                hold: hold(&mut chance),
                key,
            },
            72..84 => Call::Release {
                hold: hold(&mut chance),
                key,
            },
            84..90 => Call::decrement(key),
            _ => Call::Read,
        };
        asked[sale].push(call.clone());
        // Times of what happens are far apart, so that beginnings and ends fit between.
        let happened = 1_000 * (number as u64 + 1_000);
        let before = chance.random_range(1..1_000 * plan.overlap + 1).min(happened);
        let after = chance.random_range(1..1_000 * plan.overlap + 1);
        let mut operation = Operation {
            sale,
            call: call.clone(),
            began: happened - before,
            answer: None,
            failed: false,
            resolved: None,
        };
        let resolved = |chance: &mut SmallRng| chance.random_range(0..100) < plan.resolved_percent;
        let fate = chance.random_range(0..400);
        if fate < plan.unheard_percent {
            operation.failed = chance.random();
            operation.resolved = (!operation.failed && resolved(&mut chance)).then_some(None);
            operations.push(operation);
            continue;
        }
        let wait = chance.random_range(0..plan.step_ms);
        lt += wait;
        // A new entry, or the next command of the same.
        if wait > 0 || chance.random_ratio(1, 3) {
            (log_index, position) = (log_index + 1, 0);
        }
        let own = format!("h{number}");
        let outcome = sales[sale]
            .apply(&call, lt, &own)
            .expect("time never falls, ids are new");
        let repeated = matches!(&outcome, Outcome::Granted { hold, .. } if *hold != own);
        if let Outcome::Granted { hold, .. } = &outcome {
            holds[sale].push(hold.clone());
        }
        let idx = if !outcome.is_effect() || repeated {
            (log_index, POSITION_BEYOND)
        } else {
            position += 1;
            (log_index, position)
        };
        // What follows an answer that needed no entry is in a later one; so is what a full entry has no room for.
        if idx.1 + 1 >= POSITION_BEYOND {
            (log_index, position) = (log_index + 1, 0);
        }
        if fate < 4 * plan.unheard_percent {
            operation.resolved = resolved(&mut chance).then_some(Some((idx, lt, outcome)));
        } else {
            operation.answer = Some((happened + after, idx, lt, outcome));
        }
        operations.push(operation);
    }
    operations
}

/// The same as a history.
pub fn history(plan: Plan, operations: &[Operation]) -> History {
    let sales = (0..plan.sales).map(|sale| (format!("s{sale}"), plan.units));
    let header = Header::one(plan.ttl_ms, sales);
    let mut names = Names::default();
    let mut events: Vec<Event> = Vec::with_capacity(2 * operations.len());
    let end = 1_000 * (operations.len() as u64 + 10_000);
    let answered = |names: &mut Names, idx: (u64, u64), lt: u64, outcome: &Outcome<String>| Answer {
        idx: Some(Index {
            log_index: idx.0,
            position: idx.1,
        }),
        lt,
        outcome: outcome.clone().map(|text| names.intern(&text)),
    };
    for (number, operation) in operations.iter().enumerate() {
        let id = number as u64;
        let call = operation.call.clone().map(|text| names.intern(&text));
        let sale = names.intern(&format!("s{}", operation.sale));
        let mut push = |t, what| events.push(Event { t, what });
        push(
            operation.began,
            What::Invoke {
                id,
                p: id,
                sale,
                call,
            },
        );
        if let Some((ended, idx, lt, outcome)) = &operation.answer {
            let answer = answered(&mut names, *idx, *lt, outcome);
            push(*ended, What::Ok { id, answer });
            continue;
        }
        if operation.failed {
            push(operation.began + 1, What::Fail { id });
            continue;
        }
        push(
            operation.began + 1,
            What::Info {
                id,
                err: "timed out".into(),
            },
        );
        if let Some(resolved) = &operation.resolved {
            let applied = resolved.as_ref();
            let applied = applied.map(|(idx, lt, outcome)| answered(&mut names, *idx, *lt, outcome));
            push(end + plan.overlap * 1_000, What::Resolve { id, applied });
        }
    }
    events.sort_by_key(|event| event.t);
    History {
        header,
        names,
        events,
    }
}
