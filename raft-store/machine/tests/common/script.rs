//! Random histories: bytes from proptest become commands that make sense often enough to go deep.
//!
//! Few users, keys, sales and documents, so that everything meets everything; times that land before,
//! on and after deadlines; wrong tokens, late commands and unknown claims mixed in.

use inventory_machine::{
    Machine,
    command::*,
    reply::{Event, EventKind},
};

use super::FOUND;

/// The table of sales in every batch. The last one is never created.
pub const SALES: [&str; 4] = ["alpha", "beta", "gamma", "ghost"];

/// One choice of the generator.
pub type Step = [u8; 5];

/// A batch ready to be applied.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its commands.
    pub commands: Vec<Command<'static>>,
    /// Its log time.
    pub log_time_ms: u64,
    /// Its wall time.
    pub wall_time_ms: u64,
    /// Its entry's term.
    pub term: u64,
}

/// Turns choices into batches, looking at the machine where a choice needs to know.
pub struct Player {
    log_time_ms: u64,
    wall_time_ms: u64,
    term: u64,
    begun: bool,
    /// Time that passes before the next batch.
    passing: Option<Step>,
    claims: Vec<ClaimId>,
    sent: Vec<Command<'static>>,
}

const DOCUMENTS: [&[u8]; 5] = [b"o", b"o/1", b"o/2", b"p/1", b"\xff\xff"];
const BODIES: [&[u8]; 4] = [b"", b"{}", b"paid", &[7; 300]];

/// A key in its scope, as a hash would scope it.
pub fn key(operation: Operation, scope: u32, number: u8) -> u128 {
    let plain = (operation as u128) << 64 | u128::from(scope) << 32 | u128::from(number);
    // An odd factor keeps different keys different and none zero, and spreads them.
    (plain + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The place in the table of a claim's sale; a garbled id has the last.
fn place_of(claim: ClaimId) -> u16 {
    u16::try_from(claim.sale_number().wrapping_sub(1))
        .unwrap_or(3)
        .min(3)
}

/// A user, as a hash.
pub fn user(number: u8) -> u128 {
    (u128::from(number) + 1).wrapping_mul(0xd134_2543_de82_ef95_2545_f491_4f6c_dd1d)
}

impl Default for Player {
    fn default() -> Self {
        Player {
            log_time_ms: 0,
            wall_time_ms: 1_000_000,
            term: 1,
            begun: false,
            passing: None,
            claims: Vec::new(),
            sent: Vec::new(),
        }
    }
}

impl Player {
    /// The next batch, or none when the choices are used up.
    pub fn next(&mut self, steps: &mut impl Iterator<Item = Step>, machine: &Machine) -> Option<Ready> {
        let mut commands = Vec::new();
        if !self.begun {
            self.begun = true;
            let [a, b, c, _, _] = steps.next()?;
            commands.push(self.command(key(Operation::Sale, 9, 0), 99, FOUND));
            for sale in 0..2u8 {
                let create = self.create(sale, [a ^ sale, b, c, 0, 0]);
                commands.push(self.command(key(Operation::Sale, u32::from(sale), 0), 99, create));
                let open = Body::OpenSale {
                    sale: u16::from(sale),
                };
                commands.push(self.command(key(Operation::Sale, u32::from(sale), 1), 99, open));
            }
        } else {
            let mut used = false;
            if let Some(step) = self.passing.take() {
                self.pass_time(step);
            }
            for step in steps {
                used = true;
                if step[0] >= 200 {
                    self.passing = Some(step);
                    break;
                }
                let command = Command {
                    follows: step[2] % 11 == 5,
                    ..self.decode(step, machine)
                };
                self.sent.push(command);
                commands.push(command);
                if commands.len() == 6 {
                    break;
                }
            }
            if !used {
                return None;
            }
        }
        let Player {
            log_time_ms,
            wall_time_ms,
            term,
            ..
        } = *self;
        Some(Ready {
            commands,
            log_time_ms,
            wall_time_ms,
            term,
        })
    }

    /// Learns the ids of claims from what a batch did.
    pub fn learn(&mut self, events: &[Event]) {
        self.claims
            .extend(events.iter().filter_map(|event| match event.kind {
                EventKind::ClaimGranted(claim) => Some(claim.claim_id),
                _ => None,
            }));
    }

    fn pass_time(&mut self, [_, a, b, c, _]: Step) {
        let steps = [
            0, 1, 400, 999, 1_000, 1_001, 5_000, 29_000, 30_000, 59_999, 60_000, 60_001, 125_000,
        ];
        self.log_time_ms += match a {
            255 => EFFECT_KEEP_MS,
            254 => EFFECT_KEEP_MS - 60_000,
            _ => steps[usize::from(a) % steps.len()],
        };
        self.wall_time_ms += [0, 0, 0, 1_000, 30_000, 60_000, 3_600_000][usize::from(b) % 7];
        self.term += u64::from(c > 250);
    }

    fn command(&self, key: u128, when: u8, body: Body<'static>) -> Command<'static> {
        let now_ms = self.log_time_ms;
        let not_after_ms = match when {
            0..8 => now_ms.saturating_sub(1),
            8..16 => now_ms + NOT_AFTER_MS_MAX + 1,
            16..24 => now_ms,
            24..32 => now_ms + 1_000,
            _ => now_ms + NOT_AFTER_MS_MAX,
        };
        let principal = match body {
            Body::Claim(take) | Body::Decrement(take) if when.is_multiple_of(2) => take.user,
            _ => 5,
        };
        Command {
            follows: false,
            principal,
            key,
            not_after_ms,
            body,
        }
    }

    fn create(&self, sale: u8, [a, b, c, d, e]: Step) -> Body<'static> {
        let hour = |choice: u8| match choice % 4 {
            0 => self.wall_time_ms,
            1 => self.wall_time_ms + 60_000,
            _ => 0,
        };
        let opens_at_ms = hour(d);
        let closes_at_ms = match e % 4 {
            0 => opens_at_ms.max(self.wall_time_ms) + 60_000,
            1 if opens_at_ms == 0 => self.wall_time_ms,
            _ => 0,
        };
        // The first two sales, which are made before anything else, have no hours (both bytes zero
        // would mean hours), so that histories get going.
        let (opens_at_ms, closes_at_ms) = if self.log_time_ms == 0 {
            (0, 0)
        } else {
            (opens_at_ms, closes_at_ms)
        };
        Body::CreateSale(CreateSale {
            sale: u16::from(sale),
            name: "a sale",
            units_total: u32::from(a % 8),
            per_user_units_max: 1 + u32::from(b % 4),
            hold_ms: [1_000, 30_000, 60_000][usize::from(c) % 3],
            checkout_max_ms: [0, 1, 30_000, 60_000][usize::from(c / 3) % 4],
            opens_at_ms,
            closes_at_ms,
            price_minor: 999,
            currency: *b"EUR",
            claims_max: [0, 0, 0, 6][usize::from(b / 4) % 4],
        })
    }

    fn decode(&self, [kind, a, b, c, d]: Step, machine: &Machine) -> Command<'static> {
        let sale = [0u8, 0, 0, 0, 1, 1, 1, 2, 2, 3][usize::from(a) % 10];
        let at = u32::from(sale);
        let place = u16::from(sale);
        let number = b % 12;
        let units = [1, 1, 2, 5, 0, UNITS_MAX][usize::from(c) % 6];
        let of_sale = |body| self.command(key(Operation::Sale, at, number), d, body);
        match kind {
            0..70 => {
                let quantity = match c {
                    0..4 => 0,
                    4..8 => 70_000,
                    _ => [1, 1, 1, 1, 1, 2, 2, 3][usize::from(c) % 8],
                };
                let take = Take {
                    sale: place,
                    user: user(c / 8 % 5),
                    quantity,
                };
                let (operation, body) = match kind {
                    0..60 => (Operation::Claim, Body::Claim(take)),
                    _ => (Operation::Decrement, Body::Decrement(take)),
                };
                // More keys than users, or everybody would soon be repeating himself.
                self.command(key(operation, at, b % 40), d, body)
            }
            70..130 => self.settle([kind, a, b, c, d], machine),
            130..140 => {
                let operations = [
                    Operation::Claim,
                    Operation::Decrement,
                    Operation::Confirm,
                    Operation::Release,
                    Operation::Extend,
                    Operation::Cancel,
                    Operation::Sale,
                    Operation::Document,
                ];
                let operation = operations[usize::from(c) % 8];
                let scope = if operation == Operation::Document { 0 } else { at };
                let fence_until_ms = match d % 4 {
                    0 => 0,
                    1 => self.log_time_ms.saturating_sub(1),
                    2 => self.log_time_ms + 2_000,
                    _ => self.log_time_ms + 200_000,
                };
                let asked = key(operation, scope, b % 40);
                let resolve = Resolve {
                    sale: place,
                    operation,
                    key: asked,
                    fence_until_ms,
                };
                self.command(key(Operation::Claim, 99, number), d | 64, Body::Resolve(resolve))
            }
            140..145 => of_sale(Body::OpenSale { sale: place }),
            145..148 => of_sale(Body::PauseSale { sale: place }),
            148 => of_sale(Body::CloseSale { sale: place }),
            149..153 => of_sale(Body::Restock { sale: place, units }),
            153..157 => of_sale(Body::Withdraw { sale: place, units }),
            157..160 => {
                let sale = [2, 2, 0][usize::from(a) % 3];
                self.command(
                    key(Operation::Sale, u32::from(sale), number),
                    d,
                    self.create(sale, [a, b, c, d, kind]),
                )
            }
            160 => self.command(key(Operation::Sale, 9, number), d, FOUND),
            188..200 if !self.sent.is_empty() => self.again([kind, a, b, c, d]),
            _ => {
                let body = self.document([kind, a, b, c, d], machine);
                self.command(key(Operation::Document, 0, b % 40), d, body)
            }
        }
    }

    /// An earlier command again, as a caller would who heard nothing; or a question about its key.
    fn again(&self, [kind, a, b, _, d]: Step) -> Command<'static> {
        let sent = self.sent[self.sent.len().saturating_sub(1 + usize::from(a % 16))];
        if kind < 196 {
            return self.command(sent.key, d, sent.body);
        }
        let (sale, operation) = match sent.body {
            Body::Claim(take) => (take.sale, Operation::Claim),
            Body::Decrement(take) => (take.sale, Operation::Decrement),
            Body::Confirm(settle) => (place_of(settle.claim), Operation::Confirm),
            Body::Release(settle) => (place_of(settle.claim), Operation::Release),
            Body::Extend(_) => (0, Operation::Extend),
            Body::Cancel(_) => (0, Operation::Cancel),
            Body::PutDocument(_)
            | Body::DeleteDocument { .. }
            | Body::LeaseDocument { .. }
            | Body::CheckDocument { .. } => (0, Operation::Document),
            _ => (0, Operation::Sale),
        };
        let fence_until_ms = if b.is_multiple_of(2) { 0 } else { sent.not_after_ms };
        let resolve = Resolve {
            sale,
            operation,
            key: sent.key,
            fence_until_ms,
        };
        self.command(key(Operation::Claim, 99, 0), d | 64, Body::Resolve(resolve))
    }

    fn settle(&self, [kind, a, b, c, d]: Step, machine: &Machine) -> Command<'static> {
        let chosen = self.claims.len().saturating_sub(1 + usize::from(a % 8));
        let (claim, scope) = match self.claims.get(chosen) {
            // Nearly right: the place of a claim, but not its tag.
            Some(&ClaimId(mut bytes)) if a >= 245 => {
                bytes[23] ^= 1;
                (ClaimId(bytes), ClaimId(bytes).sale_number() - 1)
            }
            Some(&claim) => (claim, claim.sale_number() - 1),
            None => (ClaimId([a; 24]), 77),
        };
        let token = machine.claim(claim).map_or(0, |claim| claim.fencing_token);
        let fencing_token = match c % 16 {
            0 => token.wrapping_sub(1),
            8 => token.wrapping_add(1),
            _ => token,
        };
        let settle = Settle { claim, fencing_token };
        let (operation, body) = match kind {
            70..95 => (Operation::Confirm, Body::Confirm(settle)),
            95..108 => (Operation::Release, Body::Release(settle)),
            108..120 => (Operation::Extend, Body::Extend(settle)),
            _ => (Operation::Cancel, Body::Cancel(settle)),
        };
        self.command(key(operation, scope, b % 40), d, body)
    }

    fn document(&self, [kind, a, _, c, d]: Step, machine: &Machine) -> Body<'static> {
        let document = DOCUMENTS[usize::from(a) % DOCUMENTS.len()];
        let (version, token) = machine
            .document(document)
            .map_or((0, 0), |is| (is.version, is.fencing_token));
        let version_expected = if c.is_multiple_of(8) { version + 1 } else { version };
        let fencing_token = match c % 7 {
            0 | 2 | 4 => 0,
            1 => token + 1,
            _ => token,
        };
        let span_ms = [0, 1_000, 30_000, 60_000][usize::from(d) % 4];
        match kind {
            161..172 => Body::PutDocument(PutDocument {
                document,
                body: BODIES[usize::from(c) % BODIES.len()],
                version_expected,
                fencing_token,
                ttl_ms: span_ms,
            }),
            174..177 => Body::DeleteDocument {
                document,
                version_expected,
            },
            172..174 => Body::CheckDocument {
                document,
                version_expected,
            },
            _ => Body::LeaseDocument {
                document,
                fencing_token,
                // Long ones, so that others find the document leased.
                lease_ms: [0, 60_000, 3_600_000, 3_600_000][usize::from(d) % 4],
            },
        }
    }
}
