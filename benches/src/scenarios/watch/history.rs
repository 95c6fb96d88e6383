//! What one watcher must hear of a sale: every grant by its rank, one after the other, then that the sale is paused.

use client::{Event, EventKind, Update};

/// How far one who watches has come.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Rank of the last grant that was heard of.
    rank: u32,
    /// Place in the log of the last event: index and ordinal.
    place: (u64, u32),
    over: bool,
}

impl History {
    /// Grants so far.
    pub fn grants(&self) -> u32 {
        self.rank
    }

    /// Whether the sale is paused: nothing may follow.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Goes on by an update.
    ///
    /// # Errors
    /// It is not what comes next; says what is wrong.
    pub fn take(&mut self, update: &Update) -> Result<(), String> {
        for event in &update.events {
            self.next(event)?;
        }
        // They are of when it was sent, so later than its events, if anything.
        match &update.sale {
            Some(sale) if sale.claims_made >= self.rank => Ok(()),
            Some(sale) => Err(format!(
                "the counters behind rank {} show {} claims",
                self.rank, sale.claims_made
            )),
            None => Err("an update without the sale's counters".to_owned()),
        }
    }

    fn next(&mut self, event: &Event) -> Result<(), String> {
        let place = (event.log_index, event.ordinal);
        if place <= self.place {
            return Err(format!(
                "an event at {place:?} was heard behind one at {:?}",
                self.place
            ));
        }
        if self.over {
            return Err(format!("{:?} of a sale that is paused", event.kind));
        }
        self.place = place;
        match (event.kind, &event.claim) {
            (EventKind::ClaimGranted, Some(claim)) if claim.rank == self.rank + 1 => self.rank = claim.rank,
            (EventKind::ClaimGranted, Some(claim)) => {
                return Err(format!("rank {} was heard behind rank {}", claim.rank, self.rank));
            }
            (EventKind::SalePaused, _) => self.over = true,
            (kind, _) => return Err(format!("nothing but grants was to be heard, but {kind:?} was")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use client::{Claim, ClaimStatus, Position, Receipt, Sale, SaleStatus};

    use super::*;

    fn event(kind: EventKind, log_index: u64, rank: Option<u32>) -> Event {
        Event {
            log_index,
            ordinal: 0,
            log_time_ms: 0,
            kind,
            sale_id: "sale".to_owned(),
            claim: rank.map(|rank| Claim {
                claim_id: String::new(),
                status: ClaimStatus::Held,
                quantity: 1,
                rank,
                deadline_ms: 0,
                fencing_token: 0,
                receipt: Receipt::default(),
                user_hash: Vec::new(),
            }),
            value: 0,
            command: None,
        }
    }

    fn granted(rank: u32) -> Event {
        event(EventKind::ClaimGranted, u64::from(rank), Some(rank))
    }

    fn paused() -> Event {
        event(EventKind::SalePaused, 1_000, None)
    }

    fn sale(claims_made: u32) -> Sale {
        Sale {
            sale_id: "sale".to_owned(),
            name: String::new(),
            status: SaleStatus::Open,
            units_total: 10,
            units_available: 10 - claims_made,
            units_held: claims_made,
            units_confirmed: 0,
            per_user_units_max: 1,
            hold_ms: 1_000,
            checkout_max_ms: 0,
            opens_at_ms: 0,
            closes_at_ms: 0,
            price_minor: 0,
            currency: String::new(),
            claims_made,
            claims_max: 10_000,
            changed_index: 0,
            first_deadline_ms: None,
            last_deadline_ms: None,
        }
    }

    fn after(events: Vec<Event>, claims_made: u32) -> Result<(u32, bool), String> {
        let mut history = History::default();
        let update = Update {
            events,
            sale: Some(sale(claims_made)),
            position: Position::default(),
        };
        history.take(&update)?;
        Ok((history.grants(), history.is_over()))
    }

    #[test]
    fn every_grant_is_heard_once_and_in_order() {
        assert_eq!(after(vec![granted(1), granted(2)], 3), Ok((2, false)));
        assert_eq!(after(vec![granted(1), paused()], 1), Ok((1, true)));
        for (wrong, why) in [
            (vec![granted(2)], "rank 2 was heard behind rank 0"),
            (vec![granted(1), granted(3)], "rank 3 was heard behind rank 1"),
            (
                vec![granted(1), granted(1)],
                "an event at (1, 0) was heard behind",
            ),
            (
                vec![granted(1), event(EventKind::ClaimGranted, 2, Some(1))],
                "rank 1 was heard behind rank 1",
            ),
            (
                vec![
                    granted(1),
                    paused(),
                    event(EventKind::ClaimGranted, 1_001, Some(2)),
                ],
                "of a sale that is paused",
            ),
            (
                vec![event(EventKind::ClaimExpired, 1, Some(1))],
                "nothing but grants",
            ),
        ] {
            let said = after(wrong, 9).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn counters_are_not_older_than_the_events_before_them() {
        let said = after(vec![granted(1), granted(2)], 1).unwrap_err();
        assert!(said.contains("behind rank 2 show 1 claims"), "{said}");
    }
}
