//! `sale report`: how one sale went, from its records, its events and the doors' histograms.
//!
//! Counts, receipts and the second wave come from the claims' records, which are kept as long as the sale. When it
//! opened and closed comes from the feed of events, which nodes keep for a while only. How long claims took is
//! measured at the doors: whoever wants to know names their `/metrics`.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Claim, ClaimStatus, Consistency, Cursor, Error, EventKind, Position, Reason, Receipt, Sale, is_rehearsal,
};
use futures::StreamExt;
use serde::Serialize;

use super::latency::{self, LatencyView};
use crate::{
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
    views::{ReceiptView, sale_status, wall_time},
};

/// Claims asked for in one call.
const PAGE: u32 = 10_000;

/// How a sale went.
#[derive(Debug, Serialize)]
pub struct ReportView {
    pub sale_id: String,
    pub name: String,
    pub status: &'static str,
    pub units_total: u32,
    pub units_available: u32,
    /// Null: not in the history that is left.
    pub opened: Option<MomentView>,
    pub closed: Option<MomentView>,
    /// First log index whose events are known.
    pub history_from_index: u64,
    pub granted: CountView,
    pub held: CountView,
    pub confirmed: CountView,
    pub released: CountView,
    pub expired: CountView,
    pub cancelled: CountView,
    pub first_grant: Option<GrantView>,
    pub last_grant: Option<GrantView>,
    /// From the first grant until every unit had been granted once; null: it never came to that.
    pub sold_out_after_ms: Option<u64>,
    /// Units that came back and were granted again.
    pub second_wave: Option<WaveView>,
    pub claim_latency: Option<LatencyView>,
}

/// Claims and their units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountView {
    pub claims: u64,
    pub units: u64,
}

/// A moment of the log. The time of day is about right: log time stands still while nobody leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MomentView {
    pub log_index: u64,
    pub log_time_ms: u64,
    pub at: String,
}

/// A grant.
#[derive(Debug, Serialize)]
pub struct GrantView {
    pub claim_id: String,
    pub rank: u32,
    pub at: String,
    pub receipt: ReceiptView,
}

/// Grants of units that others had before.
#[derive(Debug, Serialize)]
pub struct WaveView {
    pub claims: u64,
    pub units: u64,
    /// From the first grant of the sale, in log time.
    pub began_after_ms: u64,
    pub ended_after_ms: u64,
}

/// Runs it.
pub async fn run(
    context: &Context,
    connection: &Connection,
    sale_id: &str,
    metrics: &[String],
) -> Result<(), Failure> {
    if is_rehearsal(sale_id) {
        return Err(Failure::Usage(format!(
            "`{sale_id}` was a rehearsal, which no report counts; `holdfast sale get {sale_id}` shows what is left of it"
        )));
    }
    let what = || Subject::read(format!("read sale `{sale_id}`"));
    let client = &connection.client;
    let answer = client.get_sale(sale_id, Consistency::Linearizable).await;
    let (sale, position) = connection.told(what(), answer).await?;
    let clock = Clock(position);
    let mut tally = Tally::new(sale.units_total);
    loop {
        let from = tally.rank + 1;
        let answer = client
            .list_claims(sale_id, from, PAGE, Consistency::Linearizable)
            .await;
        let (page, _) = connection.told(what(), answer).await?;
        if page.is_empty() {
            break;
        }
        page.iter().for_each(|claim| tally.take(claim));
    }
    let history = history(connection, &sale, context.settings.timeout()).await?;
    let claim_latency = latency::measured(metrics).await?;
    let view = ReportView::new(&sale, tally, &history, claim_latency, &clock);
    output::print(context.format, &view, table)
}

/// Turns log time into the time of day, as of one answer.
struct Clock(Position);

impl Clock {
    fn day(&self, log_time_ms: u64) -> String {
        let ago_ms = self.0.log_time_ms.saturating_sub(log_time_ms);
        wall_time(self.0.wall_time_ms.saturating_sub(ago_ms))
    }

    fn grant(&self, (claim_id, rank, receipt): &(String, u32, Receipt)) -> GrantView {
        GrantView {
            claim_id: claim_id.clone(),
            rank: *rank,
            at: self.day(receipt.log_time_ms),
            receipt: ReceiptView::from(receipt),
        }
    }
}

/// What the records say.
struct Tally {
    units_total: u64,
    rank: u32,
    counts: BTreeMap<i32, CountView>,
    granted: CountView,
    first: Option<(String, u32, Receipt)>,
    last: Option<(String, u32, Receipt)>,
    sold_out_ms: Option<u64>,
    wave: Option<(CountView, u64, u64)>,
}

impl Tally {
    fn new(units_total: u32) -> Tally {
        Tally {
            units_total: units_total.into(),
            rank: 0,
            counts: BTreeMap::new(),
            granted: CountView::default(),
            first: None,
            last: None,
            sold_out_ms: None,
            wave: None,
        }
    }

    /// Takes the next claim in rank order.
    fn take(&mut self, claim: &Claim) {
        self.rank = claim.rank;
        let units = u64::from(claim.quantity);
        let at_ms = claim.receipt.log_time_ms;
        let add = |count: &mut CountView| {
            count.claims += 1;
            count.units += units;
        };
        add(self.counts.entry(claim.status as i32).or_default());
        add(&mut self.granted);
        let place = (claim.claim_id.clone(), claim.rank, claim.receipt);
        self.first.get_or_insert_with(|| place.clone());
        self.last = Some(place);
        if self.granted.units >= self.units_total && self.sold_out_ms.is_none() {
            self.sold_out_ms = Some(at_ms);
        }
        if self.granted.units > self.units_total {
            let (count, _, ended_ms) = self.wave.get_or_insert((CountView::default(), at_ms, at_ms));
            add(count);
            *ended_ms = at_ms;
        }
    }

    fn count(&self, status: ClaimStatus) -> CountView {
        self.counts.get(&(status as i32)).copied().unwrap_or_default()
    }
}

/// What the feed still knows.
#[derive(Default)]
struct History {
    from_index: u64,
    opened: Option<(u64, u64)>,
    closed: Option<(u64, u64)>,
}

/// Reads the sale's events up to its last change, from as far back as there are any.
async fn history(connection: &Connection, sale: &Sale, patience: Duration) -> Result<History, Failure> {
    let mut history = History {
        from_index: 1,
        ..History::default()
    };
    loop {
        let from = Cursor {
            log_index: history.from_index,
            ordinal: 0,
        };
        let mut updates = connection.client.watch(from, Some(&sale.sale_id));
        loop {
            // The feed is live: silence is its end when what is left has no event of this sale.
            let Ok(Some(update)) = tokio::time::timeout(patience, updates.next()).await else {
                return Ok(history);
            };
            match update {
                Ok(update) => {
                    for event in &update.events {
                        let moment = (event.log_index, event.log_time_ms);
                        match event.kind {
                            EventKind::SaleOpened => {
                                history.opened.get_or_insert(moment);
                            }
                            EventKind::SaleClosed => history.closed = Some(moment),
                            _ => {}
                        }
                    }
                    let seen = update.events.last().map_or(0, |event| event.log_index);
                    if seen >= sale.changed_index {
                        return Ok(history);
                    }
                }
                Err(Error::Rejected(why))
                    if why.reason == Reason::OutOfRange && why.value > history.from_index =>
                {
                    history.from_index = why.value;
                    if why.value > sale.changed_index {
                        return Ok(history);
                    }
                    break;
                }
                Err(error) => {
                    return connection
                        .told(Subject::read("read the sale's events"), Err(error))
                        .await;
                }
            }
        }
    }
}

impl ReportView {
    fn new(
        sale: &Sale,
        tally: Tally,
        history: &History,
        claim_latency: Option<LatencyView>,
        clock: &Clock,
    ) -> ReportView {
        let moment = |&(log_index, log_time_ms): &(u64, u64)| MomentView {
            log_index,
            log_time_ms,
            at: clock.day(log_time_ms),
        };
        let began_ms = tally
            .first
            .as_ref()
            .map_or(0, |(_, _, receipt)| receipt.log_time_ms);
        ReportView {
            sale_id: sale.sale_id.clone(),
            name: sale.name.clone(),
            status: sale_status(sale.status),
            units_total: sale.units_total,
            units_available: sale.units_available,
            opened: history.opened.as_ref().map(moment),
            closed: history.closed.as_ref().map(moment),
            history_from_index: history.from_index,
            granted: tally.granted,
            held: tally.count(ClaimStatus::Held),
            confirmed: tally.count(ClaimStatus::Confirmed),
            released: tally.count(ClaimStatus::Released),
            expired: tally.count(ClaimStatus::Expired),
            cancelled: tally.count(ClaimStatus::Cancelled),
            first_grant: tally.first.as_ref().map(|place| clock.grant(place)),
            last_grant: tally.last.as_ref().map(|place| clock.grant(place)),
            sold_out_after_ms: tally.sold_out_ms.map(|at_ms| at_ms - began_ms),
            second_wave: tally.wave.map(|(count, first_ms, last_ms)| WaveView {
                claims: count.claims,
                units: count.units,
                began_after_ms: first_ms - began_ms,
                ended_after_ms: last_ms - began_ms,
            }),
            claim_latency,
        }
    }

    /// One with every field.
    #[cfg(test)]
    pub fn example() -> ReportView {
        let mut tally = Tally::new(1);
        tests::claims().iter().for_each(|claim| tally.take(claim));
        let history = History {
            from_index: 1,
            opened: Some((1, 0)),
            closed: Some((9, 9)),
        };
        let latency = LatencyView {
            p50_ms: 1.0,
            p99_ms: 2.0,
            requests: 3,
            source: String::new(),
        };
        let clock = Clock(Position::default());
        ReportView::new(
            &crate::testing::sale("hot", 1),
            tally,
            &history,
            Some(latency),
            &clock,
        )
    }
}

fn table(view: &ReportView) -> comfy_table::Table {
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1e3);
    let moment = |moment: &Option<MomentView>, none: &str| match moment {
        Some(moment) => format!("about {} (index {})", moment.at, moment.log_index),
        None => none.to_owned(),
    };
    let forgotten = format!("not in the history from index {} on", view.history_from_index);
    let count = |count: CountView| {
        format!(
            "{} claims, {} units",
            output::grouped(count.claims),
            output::grouped(count.units)
        )
    };
    let grant = |grant: &Option<GrantView>| {
        grant.as_ref().map_or("none".to_owned(), |grant| {
            format!(
                "rank {} about {}, {}",
                output::grouped(grant.rank.into()),
                grant.at,
                super::receipt_text(&grant.receipt)
            )
        })
    };
    output::fields([
        ("sale", view.sale_id.clone()),
        ("name", view.name.clone()),
        ("status", view.status.to_owned()),
        ("opened", moment(&view.opened, &forgotten)),
        (
            "closed",
            if view.status == "closed" {
                moment(&view.closed, &forgotten)
            } else {
                "not yet".into()
            },
        ),
        (
            "units",
            format!(
                "{}, {} of them available",
                output::grouped(view.units_total.into()),
                output::grouped(view.units_available.into())
            ),
        ),
        ("granted", count(view.granted)),
        ("held", count(view.held)),
        ("confirmed", count(view.confirmed)),
        ("released", count(view.released)),
        ("expired", count(view.expired)),
        ("cancelled", count(view.cancelled)),
        ("first grant", grant(&view.first_grant)),
        ("last grant", grant(&view.last_grant)),
        (
            "all units granted",
            view.sold_out_after_ms
                .map_or("never".into(), |ms| format!("{} after the first", seconds(ms))),
        ),
        (
            "second wave",
            view.second_wave.as_ref().map_or("none".into(), |wave| {
                format!(
                    "{} units that came back, {} to {} after the first grant",
                    output::grouped(wave.units),
                    seconds(wave.began_after_ms),
                    seconds(wave.ended_after_ms)
                )
            }),
        ),
        (
            "claims took",
            view.claim_latency.as_ref().map_or(
                "not measured here: name the doors with --metrics http://DOOR/metrics".into(),
                |latency| {
                    format!(
                        "p50 {:.1} ms, p99 {:.1} ms over {} requests ({})",
                        latency.p50_ms,
                        latency.p99_ms,
                        output::grouped(latency.requests),
                        latency.source
                    )
                },
            ),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn claims() -> Vec<Claim> {
        let claim = |rank: u32, status, log_time_ms: u64| Claim {
            claim_id: format!("c{rank}"),
            status,
            quantity: 1,
            rank,
            deadline_ms: 0,
            fencing_token: 1,
            receipt: Receipt {
                log_index: rank.into(),
                log_time_ms,
                ..Receipt::default()
            },
            user_hash: Vec::new(),
        };
        vec![
            claim(1, ClaimStatus::Expired, 1_000),
            claim(2, ClaimStatus::Confirmed, 1_500),
            claim(3, ClaimStatus::Confirmed, 4_000),
            claim(4, ClaimStatus::Held, 4_100),
        ]
    }

    #[test]
    fn the_second_wave_is_what_was_granted_twice() {
        let mut tally = Tally::new(2);
        claims().iter().for_each(|claim| tally.take(claim));
        let clock = Clock(Position {
            log_time_ms: 10_000,
            wall_time_ms: 1_000_000_010_000,
            ..Position::default()
        });
        let sale = crate::testing::sale("hot", 2);
        let view = ReportView::new(&sale, tally, &History::default(), None, &clock);
        assert_eq!(view.granted, CountView { claims: 4, units: 4 });
        assert_eq!(view.confirmed, CountView { claims: 2, units: 2 });
        assert_eq!(view.sold_out_after_ms, Some(500));
        let wave = view.second_wave.unwrap();
        assert_eq!(
            (wave.units, wave.began_after_ms, wave.ended_after_ms),
            (2, 3_000, 3_100)
        );
        let first = view.first_grant.unwrap();
        assert_eq!((first.rank, &*first.at), (1, "2001-09-09T01:46:41Z"));
    }
}
