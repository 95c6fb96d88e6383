//! A history as the checker sees it: per sale or document, what was asked, what is known of the answer, and between which
//! two moments it happened. What definitely did not happen is gone; so are reads that nobody heard.

use std::collections::HashMap;

use crate::{
    history::{self, Answer, ById, Call, Event, History, Name, Outcome, What},
    models::inventory::Id,
};

/// The moment of an operation that never returned.
pub const NEVER: u32 = u32::MAX;

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id in the history.
    pub id: u64,
    /// What was asked.
    pub call: Call<Id>,
    /// What was heard, if anything was; if not, it may have happened at any time after it began, or never.
    pub answer: Option<Answer<Id>>,
    /// It began with this event.
    pub began: u32,
    /// It had happened when this event came, or [`NEVER`].
    pub ended: u32,
}

/// What operations are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A sale with these units and limits.
    Sale(history::Sale),
    /// A document.
    Document,
}

/// The operations of one sale, or on one document, by when they began.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The name of the sale or document.
    pub name: Name,
    /// Which of the two.
    pub subject: Subject,
    /// Its operations.
    pub operations: Vec<Operation>,
    /// What its ids stand for.
    pub names: Vec<Name>,
    /// Ids beyond the names, for holds that nobody heard of.
    pub spare_ids: usize,
}

impl Partition {
    /// The sale.
    ///
    /// # Panics
    /// It is a document.
    pub fn sale(&self) -> history::Sale {
        match self.subject {
            Subject::Sale(sale) => sale,
            Subject::Document => unreachable!("only asked of sales"),
        }
    }

    /// In words: `sale s0`.
    pub fn describe(&self, history: &History) -> String {
        let word = match self.subject {
            Subject::Sale(_) => "sale",
            Subject::Document => "document",
        };
        format!("{word} {}", history.names.text(self.name))
    }

    /// How many ids there are.
    pub fn ids(&self) -> usize {
        self.names.len() + self.spare_ids
    }

    /// The id that the hold of an unheard claim gets if nobody ever speaks of it: one for each such claim.
    pub fn spare(&self, index: usize) -> Id {
        (self.names.len() + index) as Id
    }
}

/// Whether what was learned of unknowns later is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolves {
    /// It is.
    #[default]
    Used,
    /// It is not: the harder problem.
    Ignored,
}

/// A history's sales, each with its operations.
///
/// # Panics
/// The history has four billion events or more.
pub fn partitions(history: &History, resolves: Resolves) -> Vec<Partition> {
    let moment = |index: usize| u32::try_from(index).expect("fewer than four billion events");
    let mut partitions: Vec<Partition> = Vec::new();
    let mut by_subject: HashMap<(Name, bool), usize> = HashMap::new();
    let mut places: ById<(u32, u32)> = ById::default();
    let mut gone: Vec<(u32, u32)> = Vec::new();
    for (index, Event { what, .. }) in history.events.iter().enumerate() {
        match what {
            What::Invoke { id, sale, call, .. } => {
                let is_document = call.is_document();
                let partition = *by_subject.entry((*sale, is_document)).or_insert_with(|| {
                    partitions.push(Partition {
                        name: *sale,
                        subject: if is_document {
                            Subject::Document
                        } else {
                            Subject::Sale(history.header.sales[history.names.text(*sale)])
                        },
                        operations: Vec::new(),
                        names: Vec::new(),
                        spare_ids: 0,
                    });
                    partitions.len() - 1
                });
                let operations = &mut partitions[partition].operations;
                places.insert(*id, (moment(partition), moment(operations.len())));
                operations.push(Operation {
                    id: *id,
                    call: call.map(number),
                    answer: None,
                    began: moment(index),
                    ended: NEVER,
                });
            }
            What::Ok { id, answer } => {
                let operation = at(&mut partitions, place(&places, *id));
                operation.answer = Some(numbered(answer));
                operation.ended = moment(index);
            }
            What::Fail { id } => gone.push(place(&places, *id)),
            What::Resolve { id, applied } if resolves == Resolves::Used => match applied {
                Some(answer) => {
                    let operation = at(&mut partitions, place(&places, *id));
                    operation.answer = Some(numbered(answer));
                    operation.ended = moment(index);
                }
                None => gone.push(place(&places, *id)),
            },
            What::Info { .. } | What::Resolve { .. } | What::Fault { .. } => {}
        }
    }
    for (partition, operation) in gone {
        // An unheard read is nothing at all, and is dropped below.
        at(&mut partitions, (partition, operation)).call = Call::Read;
    }
    let mut ids = vec![Id::MAX; history.names.len()];
    for partition in &mut partitions {
        let unheard_read = |operation: &Operation| {
            matches!(operation.call, Call::Read | Call::Get) && operation.answer.is_none()
        };
        partition.operations.retain(|operation| !unheard_read(operation));
        renumber(partition, &mut ids);
    }
    partitions
}

fn place(places: &ById<(u32, u32)>, id: u64) -> (u32, u32) {
    *places.get(id).expect("a history's operations are invoked first")
}

fn at(partitions: &mut [Partition], (partition, operation): (u32, u32)) -> &mut Operation {
    &mut partitions[partition as usize].operations[operation as usize]
}

fn number(name: Name) -> Id {
    name.number() as Id
}

fn numbered(answer: &Answer) -> Answer<Id> {
    let Answer { idx, lt, outcome } = *answer;
    Answer {
        idx,
        lt,
        outcome: outcome.map(number),
    }
}

/// Numbers a sale's names from zero. `ids` is scratch, all [`Id::MAX`] before and after.
fn renumber(partition: &mut Partition, ids: &mut [Id]) {
    let mut used: Vec<Id> = Vec::new();
    let mut own = |global: Id| {
        let id = &mut ids[global as usize];
        if *id == Id::MAX {
            *id = used.len() as Id;
            used.push(global);
        }
        *id
    };
    for operation in &mut partition.operations {
        operation.call = operation.call.map(&mut own);
        if let Some(answer) = &mut operation.answer {
            answer.outcome = answer.outcome.map(&mut own);
        } else if matches!(operation.call, Call::Claim { .. }) {
            partition.spare_ids += 1;
        }
    }
    for &global in &used {
        ids[global as usize] = Id::MAX;
    }
    partition.names = used.iter().map(|&global| Name::from_number(global)).collect();
}

/// A call in words: `claim user u1, key k1`.
pub fn describe_call(call: &Call<&str>) -> String {
    let word = call.kind().word();
    let many = |quantity: u64| match quantity {
        1 => String::new(),
        quantity => format!(", {quantity} units"),
    };
    match call {
        Call::Claim { user, key, quantity } => format!("{word} user {user}, key {key}{}", many(*quantity)),
        Call::Decrement { user, key, quantity } => {
            let user = user.map_or(String::new(), |user| format!("user {user}, "));
            format!("{word} {user}key {key}{}", many(*quantity))
        }
        Call::Read | Call::Get => word.into(),
        Call::Restock { units, key } | Call::Withdraw { units, key } => {
            format!("{word} {units} units, key {key}")
        }
        Call::Open { key } | Call::Pause { key } | Call::Close { key } => format!("{word} key {key}"),
        Call::Resolve { about, .. } => format!("{word} key {about}"),
        Call::Put {
            body,
            version,
            token,
            ttl_ms,
            key,
        } => {
            let ttl = match ttl_ms {
                0 => String::new(),
                ttl_ms => format!(" for {ttl_ms} ms"),
            };
            format!(
                "{word} {body}{ttl} over version {version}{}, key {key}",
                with_token(*token)
            )
        }
        Call::Delete { version, key } => format!("{word} version {version}, key {key}"),
        Call::Lease { token, lease_ms, key } => {
            format!("{word} for {lease_ms} ms{}, key {key}", with_token(*token))
        }
        Call::Confirm { hold, key }
        | Call::Release { hold, key }
        | Call::Extend { hold, key }
        | Call::Cancel { hold, key } => format!("{word} hold {hold}, key {key}"),
    }
}

fn with_token(token: u64) -> String {
    match token {
        0 => String::new(),
        token => format!(" with token {token}"),
    }
}

/// An outcome in words: `granted hold h1, deadline 160`.
pub fn describe_outcome(outcome: &Outcome<&str>) -> String {
    let word = outcome.word();
    match outcome {
        Outcome::Granted { hold, deadline } => match *hold {
            "" => format!("{word}, deadline {deadline}"),
            hold => format!("{word} hold {hold}, deadline {deadline}"),
        },
        Outcome::Already { hold: "" } => word.into(),
        Outcome::Already { hold } | Outcome::Sold { hold: Some(hold) } => format!("{word} hold {hold}"),
        Outcome::Extended { deadline } => format!("{word}, deadline {deadline}"),
        Outcome::Counters {
            available,
            held,
            sold,
            total,
        } => format!("{available} available, {held} held, {sold} sold, {total} total"),
        Outcome::Found { hold: Some(hold) } => format!("{word}, hold {hold}"),
        Outcome::Abandoned { until } | Outcome::Busy { until } => format!("{word} until {until}"),
        Outcome::Written { version } | Outcome::WrongVersion { version } => {
            format!("{word}, version {version}")
        }
        Outcome::Leased { token: 0, .. } => "given back".into(),
        Outcome::Leased { token, until } => format!("{word} until {until}{}", with_token(*token)),
        Outcome::StaleToken { token } => format!("{word}, the lease's is {token}"),
        Outcome::Document { version: 0, .. } => "no document".into(),
        Outcome::Document {
            version,
            body,
            token,
            until,
        } => {
            let lease = match token {
                0 => String::new(),
                token => format!(", leased until {until}{}", with_token(*token)),
            };
            format!("{}, version {version}{lease}", body.unwrap_or_default())
        }
        _ => word.into(),
    }
}
