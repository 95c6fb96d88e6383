//! A second, naive reading of the rules: lists that are searched from end to end, no indexes, no
//! queues, no cleverness. It shares nothing with the machine but the words of the log.

mod effects;
mod views;

use std::collections::BTreeMap;

use inventory_machine::{command::*, reply::*};

/// Stands where the model cannot know a claim's id.
pub const NO_ID: ClaimId = ClaimId([0; 24]);

#[derive(Clone, Debug)]
struct Claim {
    user: u128,
    key: u128,
    quantity: u32,
    status: ClaimStatus,
    deadline_ms: u64,
    token: u64,
    receipt: Receipt,
    extended: bool,
    /// Key and kind of the step that settled it.
    settled: Option<(u128, ClaimStatus)>,
}

#[derive(Clone, Debug)]
struct Sale {
    id: String,
    create: CreateSale<'static>,
    status: SaleStatus,
    total: u32,
    claims_max: u32,
    claims: Vec<Claim>,
    changed_index: u64,
}

#[derive(Clone, Debug)]
struct Document {
    body: Vec<u8>,
    version: u64,
    token: u64,
    leased_until_ms: u64,
    expires_at_ms: u64,
}

#[derive(Clone, Debug)]
enum Answer {
    Done,
    Claim(usize, usize),
    Document(u64, u64, u64),
}

#[derive(Clone, Debug)]
struct Effect {
    key: u128,
    request: Body<'static>,
    receipt: Receipt,
    answer: Answer,
}

/// The model's state.
#[derive(Clone, Debug, Default)]
pub struct Model {
    founded: bool,
    names: Vec<String>,
    sales: Vec<Sale>,
    documents: BTreeMap<Vec<u8>, Document>,
    effects: Vec<Effect>,
    fences: Vec<(u128, u64)>,
    /// Which claim an id names: sale number and rank. Told by whoever compares.
    pub ids: BTreeMap<ClaimId, (u32, u32)>,
    at: Option<Receipt>,
    command: Option<u32>,
    wall_ms: u64,
    events: Vec<Event>,
}

impl Sale {
    fn units(&self, status: ClaimStatus) -> u32 {
        self.claims
            .iter()
            .filter(|claim| claim.status == status)
            .map(|claim| claim.quantity)
            .sum()
    }
    fn available(&self) -> u32 {
        self.total - self.units(ClaimStatus::Held) - self.units(ClaimStatus::Confirmed)
    }
    fn view_claim(&self, at: usize) -> ClaimView {
        let claim = &self.claims[at];
        ClaimView {
            claim_id: NO_ID,
            status: claim.status,
            user: claim.user,
            quantity: claim.quantity,
            rank: at as u32 + 1,
            deadline_ms: claim.deadline_ms,
            fencing_token: claim.token,
            receipt: claim.receipt,
        }
    }
    fn held_deadlines(&self) -> impl Iterator<Item = u64> + '_ {
        self.claims
            .iter()
            .filter(|claim| claim.status == ClaimStatus::Held)
            .map(|claim| claim.deadline_ms)
    }
}

impl Model {
    /// A model whose batches always carry this table of sales.
    pub fn new(names: &[&str]) -> Model {
        Model {
            names: names.iter().map(|name| name.to_string()).collect(),
            ..Model::default()
        }
    }

    fn at(&self) -> Receipt {
        self.at.expect("inside a batch")
    }

    fn event(&mut self, sale: usize, kind: EventKind) {
        let Receipt {
            log_index,
            log_time_ms,
            ..
        } = self.at();
        let ordinal = self.events.len() as u32;
        if sale > 0 {
            self.sales[sale - 1].changed_index = log_index;
        }
        self.events.push(Event {
            log_index,
            ordinal,
            log_time_ms,
            command: self.command,
            sale_number: sale as u32,
            kind,
        });
    }

    /// Applies a batch.
    pub fn apply(
        &mut self,
        log_index: u64,
        term: u64,
        log_time_ms: u64,
        wall_ms: u64,
        commands: &[Command<'static>],
    ) -> (Vec<Reply>, Vec<Event>) {
        self.at = Some(Receipt {
            log_index,
            position: 0,
            term,
            log_time_ms,
        });
        self.wall_ms = wall_ms;
        self.events.clear();
        self.command = None;
        self.pass_time();
        let mut replies: Vec<Reply> = Vec::new();
        for (position, command) in commands.iter().enumerate() {
            self.at = Some(Receipt {
                log_index,
                position: position as u32,
                term,
                log_time_ms,
            });
            self.command = Some(position as u32);
            let stops = match replies.last() {
                None | Some(Reply::Rejected(_)) => true,
                Some(Reply::Claim { grant, .. }) => *grant == Grant::Already,
                Some(_) => false,
            };
            if command.follows && stops {
                replies.push(Reply::Rejected(Rejection::NotReached));
                continue;
            }
            replies.push(self.judge(command).unwrap_or_else(Reply::Rejected));
        }
        (replies, self.events.clone())
    }

    fn pass_time(&mut self) {
        let now = self.at().log_time_ms;
        for sale in 0..self.sales.len() {
            let mut due: Vec<(u64, usize)> = Vec::new();
            for (at, claim) in self.sales[sale].claims.iter().enumerate() {
                if claim.status == ClaimStatus::Held && claim.deadline_ms <= now {
                    due.push((claim.deadline_ms, at));
                }
            }
            due.sort();
            for (_, at) in due {
                self.sales[sale].claims[at].status = ClaimStatus::Expired;
                let view = self.sales[sale].view_claim(at);
                self.event(sale + 1, EventKind::ClaimExpired(view));
            }
        }
        let ends = |document: &Document| {
            let ends = [document.leased_until_ms, document.expires_at_ms];
            ends.into_iter().filter(|&end| end != 0 && end <= now).min()
        };
        let mut due: Vec<(u64, Vec<u8>)> = self
            .documents
            .iter()
            .filter_map(|(key, document)| Some((ends(document)?, key.clone())))
            .collect();
        due.sort();
        for (_, key) in due {
            let document = self.documents.get_mut(&key).unwrap();
            if document.expires_at_ms != 0 && document.expires_at_ms <= now {
                self.documents.remove(&key);
                self.event(0, EventKind::DocumentChanged { version: 0 });
            } else {
                (document.token, document.leased_until_ms) = (0, 0);
            }
        }
        self.effects
            .retain(|effect| effect.receipt.log_time_ms + EFFECT_KEEP_MS > now);
        self.fences.retain(|&(_, until)| until >= now);
        let mut hours: Vec<(u64, usize)> = Vec::new();
        for (at, _) in self.sales.iter().enumerate() {
            hours.extend(
                self.next_hour(at)
                    .filter(|&hour| hour <= self.wall_ms)
                    .map(|hour| (hour, at)),
            );
        }
        hours.sort();
        for (_, at) in hours {
            self.keep_hours(at);
        }
    }

    fn next_hour(&self, at: usize) -> Option<u64> {
        let sale = &self.sales[at];
        let mut hours = Vec::new();
        if sale.status == SaleStatus::Scheduled && sale.create.opens_at_ms > 0 {
            hours.push(sale.create.opens_at_ms);
        }
        if sale.status != SaleStatus::Closed && sale.create.closes_at_ms > 0 {
            hours.push(sale.create.closes_at_ms);
        }
        hours.into_iter().min()
    }

    fn keep_hours(&mut self, at: usize) {
        let CreateSale {
            opens_at_ms,
            closes_at_ms,
            ..
        } = self.sales[at].create;
        if self.sales[at].status == SaleStatus::Scheduled && opens_at_ms > 0 && opens_at_ms <= self.wall_ms {
            self.sales[at].status = SaleStatus::Open;
            self.event(at + 1, EventKind::SaleOpened);
        }
        if self.sales[at].status != SaleStatus::Closed && closes_at_ms > 0 && closes_at_ms <= self.wall_ms {
            self.sales[at].status = SaleStatus::Closed;
            self.event(at + 1, EventKind::SaleClosed);
        }
    }

    fn in_time(&self, command: &Command<'static>) -> Result<(), Rejection> {
        let now = self.at().log_time_ms;
        if command.not_after_ms < now {
            return Err(Rejection::TooLate { log_time_ms: now });
        }
        if command.not_after_ms > now + NOT_AFTER_MS_MAX {
            return Err(Rejection::OutOfRange {
                field: Field::NotAfter,
            });
        }
        Ok(())
    }

    fn find(&self, place: u16) -> Option<usize> {
        self.sales
            .iter()
            .position(|sale| sale.id == self.names[place as usize])
    }

    fn known(&self, place: u16) -> Result<usize, Rejection> {
        self.find(place).ok_or(Rejection::SaleUnknown)
    }

    /// The answer of an earlier command with this key, if there was one.
    fn memory(&self, command: &Command<'static>) -> Result<Option<Reply>, Rejection> {
        let Some(effect) = self.effects.iter().find(|effect| effect.key == command.key) else {
            return Ok(None);
        };
        if effect.request != command.body {
            return Err(Rejection::KeyReused);
        }
        Ok(Some(self.again(effect)))
    }

    fn again(&self, effect: &Effect) -> Reply {
        match effect.answer {
            Answer::Done => Reply::Done(effect.receipt),
            Answer::Claim(sale, at) => Reply::Settled(self.sales[sale].view_claim(at)),
            Answer::Document(version, fencing_token, leased_until_ms) => Reply::Document {
                version,
                fencing_token,
                leased_until_ms,
            },
        }
    }

    fn remember(&mut self, command: &Command<'static>, answer: Answer) {
        let receipt = self.at();
        self.effects.push(Effect {
            key: command.key,
            request: command.body,
            receipt,
            answer,
        });
    }

    fn judge(&mut self, command: &Command<'static>) -> Result<Reply, Rejection> {
        if let Body::Found(_) = command.body {
            self.in_time(command)?;
            if self.founded {
                return Err(Rejection::Founding);
            }
            self.founded = true;
            return Ok(Reply::Done(self.at()));
        }
        if !self.founded {
            return Err(Rejection::Founding);
        }
        if let Body::Resolve(resolve) = command.body {
            self.in_time(command)?;
            return Ok(Reply::Resolved(self.resolve(&resolve)));
        }
        if self.fences.iter().any(|&(key, _)| key == command.key) {
            return Err(Rejection::KeyFenced);
        }
        match command.body {
            Body::Claim(take) => self.take(command, take, false),
            Body::Decrement(take) => self.take(command, take, true),
            Body::Confirm(settle) => self.settle(command, settle, ClaimStatus::Confirmed),
            Body::Release(settle) => self.settle(command, settle, ClaimStatus::Released),
            _ => {
                if let Some(reply) = self.memory(command)? {
                    return Ok(reply);
                }
                self.in_time(command)?;
                let answer = self.carry_out(&command.body)?;
                self.remember(command, answer);
                Ok(self.again(self.effects.last().unwrap()))
            }
        }
    }

    fn resolve(&mut self, resolve: &Resolve) -> Resolution {
        if let Some(sale) = self.find(resolve.sale) {
            let sale = &self.sales[sale];
            for (at, claim) in sale.claims.iter().enumerate() {
                if claim.key == resolve.key || claim.settled.is_some_and(|(key, _)| key == resolve.key) {
                    return Resolution::Claim(sale.view_claim(at));
                }
            }
        }
        if let Some(effect) = self.effects.iter().find(|effect| effect.key == resolve.key) {
            return match self.again(effect) {
                Reply::Settled(claim) => Resolution::Claim(claim),
                _ => Resolution::Effect(effect.receipt),
            };
        }
        let now = self.at().log_time_ms;
        let asked = if resolve.fence_until_ms == 0 {
            u64::MAX
        } else {
            resolve.fence_until_ms
        };
        let mut until = asked.min(now + NOT_AFTER_MS_MAX);
        if let Some(&(_, before)) = self.fences.iter().find(|&&(key, _)| key == resolve.key) {
            until = until.max(before);
        }
        self.fences.retain(|&(key, _)| key != resolve.key);
        if until >= now {
            self.fences.push((resolve.key, until));
        }
        Resolution::Abandoned {
            fenced_until_ms: until,
        }
    }

    fn take(&mut self, command: &Command<'static>, take: Take, decrement: bool) -> Result<Reply, Rejection> {
        let Some(number) = self.find(take.sale) else {
            self.in_time(command)?;
            return Err(Rejection::SaleUnknown);
        };
        let sale = &self.sales[number];
        if let Some(at) = sale.claims.iter().position(|claim| claim.key == command.key) {
            if sale.claims[at].user != take.user || sale.claims[at].quantity != take.quantity {
                return Err(Rejection::KeyReused);
            }
            return Ok(Reply::Claim {
                grant: Grant::Repeated,
                claim: sale.view_claim(at),
            });
        }
        self.in_time(command)?;
        let limit = sale.create.per_user_units_max;
        if take.quantity == 0 || take.quantity > limit {
            return Err(Rejection::OutOfRange {
                field: Field::Quantity,
            });
        }
        let live = |claim: &Claim| {
            claim.user == take.user && matches!(claim.status, ClaimStatus::Held | ClaimStatus::Confirmed)
        };
        let taken: u32 = sale
            .claims
            .iter()
            .filter(|claim| live(claim))
            .map(|claim| claim.quantity)
            .sum();
        if taken >= limit {
            let newest = sale.claims.iter().rposition(live).unwrap();
            return Ok(Reply::Claim {
                grant: Grant::Already,
                claim: sale.view_claim(newest),
            });
        }
        if taken + take.quantity > limit {
            return Err(Rejection::UserLimit {
                units_taken: taken,
                units_max: limit,
            });
        }
        if sale.status != SaleStatus::Open {
            let opens_at_ms = if sale.status == SaleStatus::Scheduled {
                sale.create.opens_at_ms
            } else {
                0
            };
            return Err(Rejection::SaleNotOpen {
                status: sale.status,
                opens_at_ms,
            });
        }
        if sale.claims.len() as u32 >= sale.claims_max {
            return Err(Rejection::ClaimsExhausted {
                claims_max: sale.claims_max,
            });
        }
        if sale.available() < take.quantity {
            let maybe_more_until_ms = sale.held_deadlines().max().unwrap_or(0);
            return Err(Rejection::SoldOut {
                units_available: sale.available(),
                maybe_more_until_ms,
            });
        }
        let at = self.at();
        let sale = &mut self.sales[number];
        sale.claims.push(Claim {
            user: take.user,
            key: command.key,
            quantity: take.quantity,
            status: if decrement {
                ClaimStatus::Confirmed
            } else {
                ClaimStatus::Held
            },
            deadline_ms: if decrement {
                0
            } else {
                at.log_time_ms + sale.create.hold_ms
            },
            token: at.log_index,
            receipt: at,
            extended: false,
            settled: None,
        });
        let view = sale.view_claim(sale.claims.len() - 1);
        self.event(number + 1, EventKind::ClaimGranted(view));
        if decrement {
            self.event(number + 1, EventKind::ClaimConfirmed(view));
        }
        Ok(Reply::Claim {
            grant: Grant::Granted,
            claim: view,
        })
    }

    /// The claim that an id names, if it is in the needed status and the token is right.
    fn current(&self, settle: &Settle, needed: ClaimStatus) -> Result<(usize, usize), Rejection> {
        let &(sale, rank) = self.ids.get(&settle.claim).ok_or(Rejection::ClaimUnknown)?;
        let (sale, at) = (sale as usize - 1, rank as usize - 1);
        let claim = &self.sales[sale].claims[at];
        if claim.status != needed {
            return Err(Rejection::ClaimGone { status: claim.status });
        }
        if claim.token != settle.fencing_token {
            return Err(Rejection::StaleToken {
                fencing_token: claim.token,
            });
        }
        Ok((sale, at))
    }

    fn settle(
        &mut self,
        command: &Command<'static>,
        settle: Settle,
        to: ClaimStatus,
    ) -> Result<Reply, Rejection> {
        for (number, sale) in self.sales.iter().enumerate() {
            for (at, claim) in sale.claims.iter().enumerate() {
                let Some((key, how)) = claim.settled else { continue };
                if key == command.key {
                    let named = self.ids.get(&settle.claim) == Some(&(number as u32 + 1, at as u32 + 1));
                    if named && how == to && claim.token == settle.fencing_token {
                        return Ok(Reply::Settled(sale.view_claim(at)));
                    }
                    return Err(Rejection::KeyReused);
                }
            }
        }
        self.in_time(command)?;
        let (number, at) = self.current(&settle, ClaimStatus::Held)?;
        let claim = &mut self.sales[number].claims[at];
        claim.status = to;
        claim.settled = Some((command.key, to));
        let view = self.sales[number].view_claim(at);
        let confirmed = to == ClaimStatus::Confirmed;
        let kind = if confirmed {
            EventKind::ClaimConfirmed(view)
        } else {
            EventKind::ClaimReleased(view)
        };
        self.event(number + 1, kind);
        Ok(Reply::Settled(view))
    }
}
