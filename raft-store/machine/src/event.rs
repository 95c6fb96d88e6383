//! What an entry did, as it is kept: 32 bytes an event, since nearly all are made and never read.
//!
//! Who claimed what, when and under which key never changes, so an event leaves that to the claim's record
//! and keeps what does change: status, deadline and token as they were. [`Machine::events`] puts both
//! together when somebody looks. Records are never removed, so whatever state has applied the entry can show
//! its events, and shows the same, however long ago it was.

use alloc::boxed::Box;

use crate::{
    claim::Record,
    command::LogMs,
    machine::Machine,
    reply::{ClaimStatus, ClaimView, Event, EventKind},
};

/// What happened, without what can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A sale was created.
    SaleCreated,
    /// A sale opened.
    SaleOpened,
    /// A sale was paused.
    SalePaused,
    /// A sale closed.
    SaleClosed,
    /// So many units were added.
    SaleRestocked(u32),
    /// So many units were withdrawn.
    SaleWithdrawn(u32),
    /// A claim changed.
    Claim {
        /// What happened to it.
        step: Step,
        /// Which of the sale's.
        slot: u32,
        /// Its status after that.
        status: ClaimStatus,
        /// Its deadline after that: so long after its grant, in ms; zero: none.
        hold_ms: u32,
        /// Its token after that.
        fencing_token: u64,
    },
    /// A document is at this version now, zero when it is gone.
    DocumentChanged(u64),
}

/// What can happen to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was made.
    Granted,
    /// It has its units for good.
    Confirmed,
    /// It gave its units back.
    Released,
    /// It lost its units to its deadline.
    Expired,
    /// Its hold was extended.
    Extended,
    /// It was confirmed and taken back.
    Cancelled,
}

impl Change {
    /// What happened to a claim, which is now as this record has it.
    pub(crate) fn of(step: Step, slot: u32, record: &Record) -> Change {
        Change::Claim {
            step,
            slot,
            status: record.status,
            hold_ms: record.hold_ms(),
            fencing_token: record.fencing_token,
        }
    }
}

/// One event of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What.
    pub change: Change,
    /// Number of the sale; zero for documents.
    pub sale_number: u32,
    /// Place in the entry of the command that did it, or [`BY_TIME`].
    pub command: u32,
}

const _: () = assert!(size_of::<Kept>() == 32);

/// Stands for a command where time did it: a batch has fewer commands.
pub const BY_TIME: u32 = u32::MAX;

/// What one entry did, in order, expiries first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryEvents {
    /// Log index of the entry.
    pub log_index: u64,
    /// Log time of the entry.
    pub log_time_ms: LogMs,
    /// Its events; the place of each is its ordinal.
    pub kept: Box<[Kept]>,
}

impl Machine {
    /// What an entry did, from an ordinal on, each event as it was then.
    ///
    /// # Panics
    /// When this state has not applied that entry.
    pub fn events<'a>(
        &'a self,
        entry: &'a EntryEvents,
        from: usize,
    ) -> impl ExactSizeIterator<Item = Event> + 'a {
        let event = |(ordinal, kept): (usize, &Kept)| Event {
            log_index: entry.log_index,
            ordinal: ordinal as u32,
            log_time_ms: entry.log_time_ms,
            command: Some(kept.command).filter(|&command| command != BY_TIME),
            sale_number: kept.sale_number,
            kind: self.kind(kept),
        };
        entry.kept.iter().enumerate().skip(from).map(event)
    }

    fn kind(&self, kept: &Kept) -> EventKind {
        match kept.change {
            Change::SaleCreated => EventKind::SaleCreated,
            Change::SaleOpened => EventKind::SaleOpened,
            Change::SalePaused => EventKind::SalePaused,
            Change::SaleClosed => EventKind::SaleClosed,
            Change::SaleRestocked(units) => EventKind::SaleRestocked { units },
            Change::SaleWithdrawn(units) => EventKind::SaleWithdrawn { units },
            Change::DocumentChanged(version) => EventKind::DocumentChanged { version },
            Change::Claim {
                step,
                slot,
                status,
                hold_ms,
                fencing_token,
            } => {
                let sale = self
                    .numbered(kept.sale_number)
                    .expect("a sale that something happened to stays");
                let now = sale.claim(slot, self.secret());
                let deadline_ms = match hold_ms {
                    0 => 0,
                    hold_ms => now.receipt.log_time_ms + u64::from(hold_ms),
                };
                let then = ClaimView {
                    status,
                    deadline_ms,
                    fencing_token,
                    ..now
                };
                match step {
                    Step::Granted => EventKind::ClaimGranted(then),
                    Step::Confirmed => EventKind::ClaimConfirmed(then),
                    Step::Released => EventKind::ClaimReleased(then),
                    Step::Expired => EventKind::ClaimExpired(then),
                    Step::Extended => EventKind::ClaimExtended(then),
                    Step::Cancelled => EventKind::ClaimCancelled(then),
                }
            }
        }
    }
}
