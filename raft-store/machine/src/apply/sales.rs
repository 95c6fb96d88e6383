//! Sales as a whole: created, opened, paused, closed, restocked; by command and by the clock.

use alloc::{string::String, vec::Vec};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Entry;
use crate::{
    bytes::Put,
    command::{
        Body, Command, CreateSale, HOLD_MS_MAX, HOLD_MS_MIN, OPEN_AT_ONCE, Operation, QUANTITY_MAX,
        SALE_ID_BYTES_MAX, SALE_NAME_BYTES_MAX, UNITS_MAX,
    },
    effect::Outcome,
    event::Change,
    reply::{Field, Rejection, Reply, SaleStatus},
    sale::{CLAIMS_MAX_MAX, Sale, Terms, claims_max_default},
};

/// Most sales. Each keeps about 2 KB of memory even without claims.
pub const SALES_MAX: usize = 100_000;

/// Longest that a checkout may carry a hold beyond its deadline, in ms of log time: as the longest hold.
pub const CHECKOUT_MAX_MS_MAX: u64 = HOLD_MS_MAX;

impl Entry<'_> {
    /// Opens and closes sales whose hour has come, each once: a sale that missed its whole time opens
    /// and closes in one entry, so that its history is complete.
    pub(super) fn pass_hours(&mut self) {
        let due = self.machine.hours.range(..=(self.wall_time_ms, u32::MAX));
        let due: Vec<u32> = due.map(|&(_, sale_number)| sale_number).collect();
        for sale_number in due {
            self.keep_hours(sale_number);
        }
    }

    /// Carries out the hours of one sale that have come.
    fn keep_hours(&mut self, sale_number: u32) {
        let wall_time_ms = self.wall_time_ms;
        while let Some(hour_ms) = self
            .machine
            .numbered(sale_number)
            .and_then(Sale::next_hour_ms)
            .filter(|&hour_ms| hour_ms <= wall_time_ms)
        {
            let sale = self.touch(sale_number);
            let opens = sale.counters.status == SaleStatus::Scheduled && sale.terms.opens_at_ms == hour_ms;
            let (status, kind) = if opens {
                (SaleStatus::Open, Change::SaleOpened)
            } else {
                (SaleStatus::Closed, Change::SaleClosed)
            };
            sale.counters.status = status;
            self.event(sale_number, kind);
        }
    }

    /// Everything about a sale as a whole.
    pub(super) fn change_sale(&mut self, command: &Command<'_>) -> Result<Reply, Rejection> {
        let request = request_of(&command.body);
        if let Some(effect) = self.remembered(Operation::Sale, command.key, request)? {
            return Ok(Reply::Done(effect.receipt));
        }
        self.in_time(command)?;
        match &command.body {
            Body::CreateSale(create) => self.create_sale(create)?,
            Body::OpenSale { sale } => {
                self.change_status(
                    *sale,
                    &[SaleStatus::Scheduled, SaleStatus::Paused],
                    SaleStatus::Open,
                )?;
            }
            Body::PauseSale { sale } => self.change_status(*sale, &[SaleStatus::Open], SaleStatus::Paused)?,
            Body::CloseSale { sale } => {
                let from = [SaleStatus::Scheduled, SaleStatus::Open, SaleStatus::Paused];
                self.change_status(*sale, &from, SaleStatus::Closed)?;
            }
            Body::Restock { sale, units } => self.restock(*sale, *units)?,
            Body::Withdraw { sale, units } => self.withdraw(*sale, *units)?,
            _ => unreachable!("not about a sale: {command:?}"),
        }
        self.remember(Operation::Sale, command.key, request, Outcome::Done);
        Ok(Reply::Done(self.at))
    }

    fn create_sale(&mut self, create: &CreateSale<'_>) -> Result<(), Rejection> {
        let place = &self.places[usize::from(create.sale)];
        let (namespace, sale_id) = (place.namespace, place.sale_id);
        check_terms(sale_id, create)?;
        if self.sale_at(create.sale).is_some() {
            return Err(Rejection::SaleExists);
        }
        if self.machine.sales.len() >= SALES_MAX {
            return Err(Rejection::TableFull);
        }
        let sale_number = self.machine.sales.len() as u32 + 1;
        let at_once = create.opens_at_ms == OPEN_AT_ONCE;
        let terms = Terms {
            namespace,
            sale_id: sale_id.into(),
            name: String::from(create.name).into(),
            per_user_units_max: create.per_user_units_max,
            hold_ms: create.hold_ms,
            checkout_max_ms: create.checkout_max_ms,
            opens_at_ms: if at_once { 0 } else { create.opens_at_ms },
            closes_at_ms: create.closes_at_ms,
            price_minor: create.price_minor,
            currency: create.currency,
            claims_max: create.claims_max,
        };
        self.machine
            .add_sale(Sale::new(sale_number, terms, create.units_total));
        self.touch(sale_number);
        self.event(sale_number, Change::SaleCreated);
        if at_once {
            self.touch(sale_number).counters.status = SaleStatus::Open;
            self.event(sale_number, Change::SaleOpened);
        }
        // An opening that lies in the past happens in this very entry.
        self.keep_hours(sale_number);
        Ok(())
    }

    fn known_sale(&mut self, place: u16) -> Result<u32, Rejection> {
        self.sale_at(place).ok_or(Rejection::SaleUnknown)
    }

    /// Opening by hand before the hour ends the schedule: only a scheduled sale opens by itself.
    fn change_status(&mut self, place: u16, from: &[SaleStatus], to: SaleStatus) -> Result<(), Rejection> {
        let sale_number = self.known_sale(place)?;
        let status = self.machine.sales[sale_number as usize - 1].counters.status;
        if !from.contains(&status) {
            return Err(Rejection::SaleTransition { status });
        }
        self.touch(sale_number).counters.status = to;
        self.event(
            sale_number,
            match to {
                SaleStatus::Open => Change::SaleOpened,
                SaleStatus::Paused => Change::SalePaused,
                _ => Change::SaleClosed,
            },
        );
        Ok(())
    }

    /// A sale whose stock may change: any that has not closed.
    fn stocked_sale(&mut self, place: u16, units: u32) -> Result<u32, Rejection> {
        let sale_number = self.known_sale(place)?;
        let status = self.machine.sales[sale_number as usize - 1].counters.status;
        if status == SaleStatus::Closed {
            return Err(Rejection::SaleTransition { status });
        }
        if units == 0 {
            return Err(Rejection::OutOfRange { field: Field::Units });
        }
        Ok(sale_number)
    }

    fn restock(&mut self, place: u16, units: u32) -> Result<(), Rejection> {
        let sale_number = self.stocked_sale(place, units)?;
        let units_total = self.machine.sales[sale_number as usize - 1].counters.units_total;
        let Some(units_total) = units_total.checked_add(units).filter(|&total| total <= UNITS_MAX) else {
            return Err(Rejection::OutOfRange { field: Field::Units });
        };
        let sale = self.touch(sale_number);
        let follows_units = sale.terms.claims_max == 0;
        let counters = &mut sale.counters;
        counters.units_total = units_total;
        counters.units_available += units;
        if follows_units {
            counters.claims_max = counters.claims_max.max(claims_max_default(units_total));
        }
        self.event(sale_number, Change::SaleRestocked(units));
        Ok(())
    }

    fn withdraw(&mut self, place: u16, units: u32) -> Result<(), Rejection> {
        let sale_number = self.stocked_sale(place, units)?;
        let units_available = self.machine.sales[sale_number as usize - 1]
            .counters
            .units_available;
        if units > units_available {
            return Err(Rejection::UnitsInUse { units_available });
        }
        let counters = &mut self.touch(sale_number).counters;
        counters.units_total -= units;
        counters.units_available -= units;
        self.event(sale_number, Change::SaleWithdrawn(units));
        Ok(())
    }
}

/// Whether a sale may be created with these terms.
fn check_terms(sale_id: &str, create: &CreateSale<'_>) -> Result<(), Rejection> {
    let id_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let id_fits = (1..=SALE_ID_BYTES_MAX).contains(&sale_id.len()) && sale_id.bytes().all(id_byte);
    let hours_fit = create.closes_at_ms == 0
        || create.opens_at_ms == OPEN_AT_ONCE
        || create.closes_at_ms > create.opens_at_ms;
    let checks = [
        (id_fits, Field::SaleId),
        (create.name.len() <= SALE_NAME_BYTES_MAX, Field::SaleName),
        (create.units_total <= UNITS_MAX, Field::Units),
        (
            (1..=QUANTITY_MAX).contains(&create.per_user_units_max),
            Field::PerUserUnitsMax,
        ),
        (
            (HOLD_MS_MIN..=HOLD_MS_MAX).contains(&create.hold_ms),
            Field::HoldMs,
        ),
        (
            create.checkout_max_ms <= CHECKOUT_MAX_MS_MAX,
            Field::CheckoutMaxMs,
        ),
        (hours_fit, Field::Hours),
        (
            create.currency.iter().all(u8::is_ascii_uppercase),
            Field::Currency,
        ),
        (create.claims_max <= CLAIMS_MAX_MAX, Field::ClaimsMax),
    ];
    match checks.iter().find(|(fits, _)| !fits) {
        Some(&(_, field)) => Err(Rejection::OutOfRange { field }),
        None => Ok(()),
    }
}

/// Hash of what a change of a sale asks for. Which sale it is about is in the key's scope already.
fn request_of(body: &Body<'_>) -> u64 {
    let mut bytes = Vec::new();
    match body {
        Body::CreateSale(create) => {
            bytes.push(b'n');
            bytes.put_field(create.name.as_bytes());
            for number in [
                u64::from(create.units_total),
                u64::from(create.per_user_units_max),
                create.hold_ms,
                create.checkout_max_ms,
                create.opens_at_ms,
                create.closes_at_ms,
                create.price_minor,
                u64::from(create.claims_max),
            ] {
                bytes.put_u64(number);
            }
            bytes.extend_from_slice(&create.currency);
        }
        Body::OpenSale { .. } => bytes.push(b'o'),
        Body::PauseSale { .. } => bytes.push(b'p'),
        Body::CloseSale { .. } => bytes.push(b'c'),
        Body::Restock { units, .. } => {
            bytes.push(b'r');
            bytes.put_u32(*units);
        }
        Body::Withdraw { units, .. } => {
            bytes.push(b'w');
            bytes.put_u32(*units);
        }
        _ => unreachable!("not about a sale: {body:?}"),
    }
    xxh3_64_with_seed(&bytes, u64::from(b's'))
}
