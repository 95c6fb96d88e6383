//! Records what clients ask and hear, while they do.
//!
//! A [`Recorder`] is shared by all of a run's clients and its nemesis; each event gets its time under the one
//! lock that also orders it, so time never falls along the history. The clock is the caller's: simulated
//! time in a simulation, a monotonic one elsewhere, never a wall clock.
//!
//! Misuse is the harness's own mistake, and asserts: a recorder that wrote nonsense would make the checker
//! blame the store.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, TryLockError},
};

use super::{Answer, Call, Event, Header, History, Kind, Name, Names, Outcome, Phase, Sale, What};

/// Takes down one run. Clones write to the same history.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    now_ns: Box<dyn Fn() -> u64 + Send + Sync>,
    log: Mutex<Log>,
}

struct Log {
    history: History,
    operations: HashMap<u64, Operation>,
    /// Processes that may not start anything now: an operation of theirs is open, or ended in an unknown.
    busy: HashSet<u64>,
    process_next: u64,
}

struct Operation {
    p: u64,
    kind: Kind,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Unknown,
    Done,
}

impl Recorder {
    /// A recorder of an empty history. `now_ns`: monotonic, in ns; zero may be anywhere.
    pub fn new(header: Header, now_ns: impl Fn() -> u64 + Send + Sync + 'static) -> Recorder {
        let history = History {
            header,
            names: Names::default(),
            events: Vec::new(),
        };
        let log = Log {
            history,
            operations: HashMap::new(),
            busy: HashSet::new(),
            process_next: 0,
        };
        Recorder {
            shared: Arc::new(Shared {
                now_ns: Box::new(now_ns),
                log: Mutex::new(log),
            }),
        }
    }

    /// A process that nobody else has: for a new client, and after every unknown.
    pub fn process(&self) -> u64 {
        let mut log = self.log();
        log.process_next += 1;
        log.process_next - 1
    }

    /// Process `p` begins an operation; the answer is its id.
    ///
    /// # Panics
    /// `p` has an operation open, or ended one in an unknown; it is about a sale that is not in the header.
    pub fn invoke(&self, p: u64, sale: &str, call: Call<&str>) -> u64 {
        let mut log = self.log();
        assert!(
            log.busy.insert(p),
            "process {p} is busy, or retired by an unknown"
        );
        assert!(
            call.is_document() || log.history.header.sales.contains_key(sale),
            "sale {sale} is not in the header"
        );
        log.process_next = log.process_next.max(p.saturating_add(1));
        let id = log.operations.len() as u64;
        let operation = Operation {
            p,
            kind: call.kind(),
            state: State::Open,
        };
        log.operations.insert(id, operation);
        let sale = log.name(sale);
        let call = call.map(|text| log.name(text));
        self.push(&mut log, What::Invoke { id, p, sale, call });
        id
    }

    /// It returned.
    ///
    /// # Panics
    /// The operation is not open, or this cannot be its answer.
    pub fn ok(&self, id: u64, answer: Answer<&str>) {
        let mut log = self.log();
        let kind = log.end(id, State::Open, State::Done).kind;
        let answer = log.answer(id, kind, answer);
        self.push(&mut log, What::Ok { id, answer });
    }

    /// It definitely did not happen: refused before anything was proposed.
    ///
    /// # Panics
    /// The operation is not open.
    pub fn fail(&self, id: u64) {
        let mut log = self.log();
        log.end(id, State::Open, State::Done);
        self.push(&mut log, What::Fail { id });
    }

    /// Nobody knows. The process is retired: ask for a new one.
    ///
    /// # Panics
    /// The operation is not open.
    pub fn info(&self, id: u64, err: impl std::fmt::Display) {
        let mut log = self.log();
        log.end(id, State::Open, State::Unknown);
        let err = err.to_string().into();
        self.push(&mut log, What::Info { id, err });
    }

    /// What became of an unknown: its effect, or that it has none and never will.
    ///
    /// # Panics
    /// The operation is not an unknown, or this cannot be its answer.
    pub fn resolve(&self, id: u64, applied: Option<Answer<&str>>) {
        let mut log = self.log();
        let kind = log.end(id, State::Unknown, State::Done).kind;
        let applied = applied.map(|answer| log.answer(id, kind, answer));
        self.push(&mut log, What::Resolve { id, applied });
    }

    /// The nemesis began or healed a fault.
    pub fn fault(&self, name: &str, node: &str, phase: Phase) {
        let (name, node) = (name.into(), node.into());
        self.push(&mut self.log(), What::Fault { name, node, phase });
    }

    /// Operations whose outcome nobody knows yet, and what they asked: for the final phase to resolve.
    pub fn unknown(&self) -> Vec<(u64, String, Call<String>)> {
        let log = self.log();
        let text = |name| log.history.names.text(name).to_owned();
        let unknown = log.history.events.iter().filter_map(|event| match &event.what {
            What::Invoke { id, sale, call, .. } if log.operations[id].state == State::Unknown => {
                Some((*id, text(*sale), call.map(text)))
            }
            _ => None,
        });
        unknown.collect()
    }

    /// Changes of documents that were answered as made, or of which nobody knows; one for each key, with its answer
    /// where there was one: for the final phase to find where they stand.
    pub fn document_changes(&self) -> Vec<(u64, String, Call<String>, Option<Outcome<String>>)> {
        let log = self.log();
        let text = |name| log.history.names.text(name).to_owned();
        let mut changes: BTreeMap<Name, (u64, Name, Call, Option<Outcome>)> = BTreeMap::new();
        let mut asked: HashMap<u64, (Name, Call)> = HashMap::new();
        for event in &log.history.events {
            let (id, heard) = match &event.what {
                What::Invoke { id, sale, call, .. } if call.kind().is_document() => {
                    asked.insert(*id, (*sale, *call));
                    continue;
                }
                What::Ok { id, answer } if answer.outcome.is_effect() => (id, Some(answer.outcome)),
                What::Info { id, .. } => (id, None),
                _ => continue,
            };
            if let Some(&(document, call)) = asked.get(id)
                && let Some(&key) = call.key()
            {
                let change = changes.entry(key).or_insert((*id, document, call, heard));
                if change.3.is_none() && heard.is_some() {
                    *change = (*id, document, call, heard);
                }
            }
        }
        let told = |(id, document, call, heard): (u64, Name, Call, Option<Outcome>)| {
            let heard = heard.map(|outcome| outcome.map(text));
            (id, text(document), call.map(text), heard)
        };
        changes.into_values().map(told).collect()
    }

    /// How many operations have begun.
    pub fn operations(&self) -> usize {
        self.log().operations.len()
    }

    /// What has been recorded so far. Operations still open count as unknown.
    pub fn finish(&self) -> History {
        self.log().history.clone()
    }

    /// The same where somebody may have panicked in the middle of a record, and nobody can wait for him.
    pub fn finish_or_nothing(&self) -> History {
        match self.shared.log.try_lock() {
            Ok(log) => log.history.clone(),
            Err(TryLockError::Poisoned(log)) => log.into_inner().history.clone(),
            Err(TryLockError::WouldBlock) => History {
                header: Header::one(0, [] as [(&str, u64); 0]),
                names: Names::default(),
                events: Vec::new(),
            },
        }
    }

    /// The terms of a sale.
    ///
    /// # Panics
    /// The sale is not in the header.
    pub fn terms(&self, sale: &str) -> Sale {
        self.log().history.header.sales[sale]
    }

    /// Whether this can be the answer to an operation.
    pub fn can_be(&self, id: u64, outcome: &Outcome<&str>) -> bool {
        outcome.answers(self.log().operations[&id].kind)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A client that panicked inside has broken its own run, which says so; what was recorded stays true.
        self.shared
            .log
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, log: &mut Log, what: What) {
        let now = (self.shared.now_ns)();
        let last = log.history.events.last().map_or(0, |event| event.t);
        log.history.events.push(Event {
            t: now.max(last),
            what,
        });
    }
}

impl Log {
    fn name(&mut self, text: &str) -> Name {
        self.history.names.intern(text)
    }

    fn end(&mut self, id: u64, from: State, to: State) -> &Operation {
        let operation = self.operations.get_mut(&id).expect("only ids that invoke gave");
        assert_eq!(operation.state, from, "operation {id} is completed once");
        operation.state = to;
        if from == State::Open && to == State::Done {
            self.busy.remove(&operation.p);
        }
        operation
    }

    fn answer(&mut self, id: u64, kind: Kind, answer: Answer<&str>) -> Answer {
        let Answer { idx, lt, outcome } = answer;
        assert!(
            outcome.answers(kind),
            "operation {id}: {} answers no {}",
            outcome.word(),
            kind.word()
        );
        let outcome: Outcome = outcome.map(|text| self.name(text));
        Answer { idx, lt, outcome }
    }
}
