//! What is measured of the machine: batches of one kind of work each, on a machine that has done some before.
//!
//! Everything a batch needs is made ahead, through real bytes; what is measured is `apply` of those bytes. When a
//! world has nothing left to do, a new one is made, so that every batch finds about as many claims as the others.

use inventory_machine::{
    Applied, Machine,
    codec::{Batch, BatchEncoder},
    command::*,
    hash::{key_hash, user_hash},
    reply::{ClaimView, Grant, Reply},
};

/// Commands in one batch: a full entry.
pub const BATCH: usize = 512;

/// The one sale.
const SALE: &str = "bench";

/// Seeds every hash, the same on every run: what is counted does not vary with it.
const SECRET: u128 = 0x5eed_0000_0000_0000_0000_0000_0000_002a;

/// Log time of everything but the end of the holds.
const BEGIN_MS: u64 = 1_000;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Claims of users who have none.
    Grant,
    /// Claims of a sale that is sold out.
    Refuse,
    /// Claims asked for again.
    Repeat,
    /// Held claims made final, in the order in which they were made.
    Confirm,
    /// Held claims given back, in the same order.
    Release,
    /// The end of all holds, in one batch without commands.
    Expire,
}

impl Work {
    /// All.
    pub const ALL: [Work; 6] = [
        Work::Grant,
        Work::Refuse,
        Work::Repeat,
        Work::Confirm,
        Work::Release,
        Work::Expire,
    ];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Work::Grant => "grant",
            Work::Refuse => "refuse",
            Work::Repeat => "repeat",
            Work::Confirm => "confirm",
            Work::Release => "release",
            Work::Expire => "expire",
        }
    }
}

/// A machine with live claims, and the batches that it has not applied yet.
pub struct World {
    /// The machine.
    pub machine: Machine,
    work: Work,
    /// Bytes and operations of batches to come, last first.
    batches: Vec<(Vec<u8>, usize)>,
}

impl World {
    /// A world with so many live claims, and as many operations to do.
    pub fn new(work: Work, live: usize) -> World {
        let mut world = World {
            machine: Machine::default(),
            work,
            batches: Vec::new(),
        };
        let units = if work == Work::Refuse { live } else { 2 * live };
        world.found(units as u32);
        let mut held = Vec::with_capacity(live);
        for first in (0..live).step_by(BATCH) {
            let users = first..live.min(first + BATCH);
            let bytes = batch(&claims(users.clone()), BEGIN_MS);
            for reply in world.apply(&bytes).replies {
                held.push(granted(reply));
            }
        }
        let commands: Vec<Command<'_>> = match work {
            Work::Grant | Work::Refuse => claims(live..2 * live),
            Work::Repeat => claims(0..live),
            Work::Confirm => settles(&held, Operation::Confirm, Body::Confirm),
            Work::Release => settles(&held, Operation::Release, Body::Release),
            Work::Expire => Vec::new(),
        };
        world.batches = commands
            .chunks(BATCH)
            .map(|commands| (batch(commands, BEGIN_MS), commands.len()))
            .rev()
            .collect();
        if work == Work::Expire {
            world.batches.push((batch(&[], BEGIN_MS + HOLD_MS_MAX), live));
        }
        world
    }

    /// The next batch and its operations; `None` when all is done.
    pub fn next(&mut self) -> Option<(Vec<u8>, usize)> {
        self.batches.pop()
    }

    /// Applies a batch: what is measured.
    pub fn apply(&mut self, bytes: &[u8]) -> Applied {
        apply(&mut self.machine, bytes)
    }

    /// Fails unless the machine did what this is about.
    pub fn check(&self, applied: &Applied) {
        let done = |reply: &Reply| match (self.work, reply) {
            (Work::Grant, Reply::Claim { grant, .. }) => *grant == Grant::Granted,
            (Work::Repeat, Reply::Claim { grant, .. }) => *grant == Grant::Repeated,
            (Work::Refuse, Reply::Rejected(_)) => true,
            (Work::Confirm | Work::Release, Reply::Settled(_)) => true,
            _ => false,
        };
        assert!(
            applied.replies.iter().all(done),
            "{:?}: {:?}",
            self.work,
            applied.replies.iter().find(|reply| !done(reply))
        );
        if self.work == Work::Expire {
            let sale = self
                .machine
                .sale(NAMESPACE_DEFAULT, SALE)
                .expect("it was created");
            assert_eq!(sale.units_held, 0, "holds are left");
        }
    }

    fn found(&mut self, units_total: u32) {
        let create = CreateSale {
            sale: 0,
            name: SALE,
            units_total,
            per_user_units_max: 1,
            hold_ms: HOLD_MS_MAX,
            checkout_max_ms: 0,
            opens_at_ms: 0,
            closes_at_ms: 0,
            price_minor: 1,
            currency: *b"EUR",
            claims_max: 0,
        };
        let found = Found {
            cluster_id: 1,
            secret: SECRET,
            incarnation: 1,
        };
        let first = [
            command(1, 1, Body::Found(found)),
            command(1, 2, Body::CreateSale(create)),
            command(1, 3, Body::OpenSale { sale: 0 }),
        ];
        for reply in self.apply(&batch(&first, BEGIN_MS)).replies {
            assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
        }
    }
}

/// Decodes and applies a batch as the next entry.
pub fn apply(machine: &mut Machine, bytes: &[u8]) -> Applied {
    let batch = Batch::parse(bytes).expect("a batch");
    let next = machine.applied_index() + 1;
    machine.apply(next, 1, &batch).expect("commands")
}

/// Claims of these users.
pub fn claims(users: std::ops::Range<usize>) -> Vec<Command<'static>> {
    let claim = |user: usize| {
        let name = (user as u64).to_le_bytes();
        let principal = user_hash(SECRET, NAMESPACE_DEFAULT, &name);
        let body = Body::Claim(Take {
            sale: 0,
            user: principal,
            quantity: 1,
        });
        command(principal, key(principal, Operation::Claim, &name), body)
    };
    users.map(claim).collect()
}

fn settles(
    held: &[ClaimView],
    operation: Operation,
    body: fn(Settle) -> Body<'static>,
) -> Vec<Command<'static>> {
    let settle = |claim: &ClaimView| {
        let settle = Settle {
            claim: claim.claim_id,
            fencing_token: claim.fencing_token,
        };
        let key = key(claim.user, operation, &claim.rank.to_le_bytes());
        command(claim.user, key, body(settle))
    };
    held.iter().map(settle).collect()
}

fn key(principal: u128, operation: Operation, key: &[u8]) -> u128 {
    key_hash(
        SECRET,
        NAMESPACE_DEFAULT,
        SALE.as_bytes(),
        principal,
        operation,
        key,
    )
}

fn command(principal: u128, key: u128, body: Body<'_>) -> Command<'_> {
    Command {
        follows: false,
        principal,
        key,
        not_after_ms: BEGIN_MS + NOT_AFTER_MS_MAX,
        body,
    }
}

/// The bytes of a batch, as the leader makes them.
pub fn batch(commands: &[Command<'_>], log_time_ms: u64) -> Vec<u8> {
    let mut encoder = BatchEncoder::new();
    encode(&mut encoder, commands, log_time_ms)
}

/// The same by an encoder that is used again.
pub fn encode(encoder: &mut BatchEncoder, commands: &[Command<'_>], log_time_ms: u64) -> Vec<u8> {
    encoder.clear();
    encoder.sale(NAMESPACE_DEFAULT, SALE);
    commands.iter().for_each(|command| encoder.push(command));
    encoder.finish(log_time_ms, 1)
}

/// Reads all commands of a batch; gives how many there are.
pub fn decode(bytes: &[u8]) -> usize {
    let batch = Batch::parse(bytes).expect("a batch");
    let commands = batch.commands().map(|command| {
        std::hint::black_box(command.expect("a command"));
    });
    commands.count()
}

/// Writes all rows of a machine's frozen state; gives their bytes.
pub fn rows(machine: &Machine) -> usize {
    let frozen = machine.freeze();
    let (mut bytes, mut row) = (0, Vec::new());
    for named in frozen.rows() {
        row.clear();
        assert!(
            frozen.row(&named, &named.key(), &mut row),
            "a row is named but not there"
        );
        bytes += row.len();
    }
    bytes
}

fn granted(reply: Reply) -> ClaimView {
    match reply {
        Reply::Claim {
            grant: Grant::Granted,
            claim,
        } => claim,
        reply => panic!("a new user was answered {reply:?}"),
    }
}
