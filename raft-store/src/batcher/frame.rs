//! Frames of commands on their way through the batcher, and the answers that come back.

use bytes::Bytes;
use inventory_machine::{
    Machine,
    codec::BatchEncoder,
    command::{Body, Command, CreateSale, NAMESPACE_DEFAULT, PutDocument, Take},
    reply::Reply,
};
use spans::Span;
use tokio::sync::oneshot;

use super::door::Place;
use crate::{log_clock::Stamp, machine_versions::Behind};

/// One command, checked and hashed: ready to be encoded. Sales are named by their place in the frame's list.
#[derive(Clone, Debug)]
pub struct PreparedCommand {
    /// Goes on the chain of the command before it.
    pub follows: bool,
    /// Keyed hash of who asks.
    pub principal: u128,
    /// Keyed, scoped hash of the idempotency key.
    pub key: u128,
    /// Latest log time to apply at.
    pub not_after_ms: u64,
    /// What is asked.
    pub body: PreparedBody,
}

/// A command's body; what borrows bytes in the machine's own type keeps them here.
#[derive(Clone, Debug)]
pub enum PreparedBody {
    /// Fixed size: everything but the following.
    Plain(Body<'static>),
    /// A new sale; its name is kept beside it.
    CreateSale(CreateSale<'static>, String),
    /// A document; key and body are kept beside it.
    PutDocument(PutDocument<'static>, Bytes, Bytes),
    /// Deletes a document.
    DeleteDocument {
        /// Its key.
        document: Bytes,
        /// Version it must have.
        version_expected: u64,
    },
    /// Checks a document.
    CheckDocument {
        /// Its key.
        document: Bytes,
        /// Version it must have.
        version_expected: u64,
    },
    /// Leases a document.
    LeaseDocument {
        /// Its key.
        document: Bytes,
        /// Token of the lease to renew, or zero.
        fencing_token: u64,
        /// Length in ms of log time.
        lease_ms: u64,
    },
}

impl PreparedCommand {
    /// Adds this command to a batch.
    pub fn encode(&self, sales: &[String], encoder: &mut BatchEncoder) {
        let body = self
            .body
            .placed(|sale| encoder.sale(NAMESPACE_DEFAULT, &sales[usize::from(sale)]));
        encoder.push(&Command {
            follows: self.follows,
            principal: self.principal,
            key: self.key,
            not_after_ms: self.not_after_ms,
            body,
        });
    }

    /// The version of the machine that it came with.
    pub fn version(&self) -> u16 {
        let body = self.body.placed(|sale| sale);
        Command {
            follows: self.follows,
            principal: self.principal,
            key: self.key,
            not_after_ms: self.not_after_ms,
            body,
        }
        .version()
    }

    /// Whether it asks for new units: those wait in the lane that a flash crowd fills.
    pub fn takes_units(&self) -> bool {
        matches!(
            self.body,
            PreparedBody::Plain(Body::Claim(_) | Body::Decrement(_))
        )
    }
}

impl PreparedBody {
    /// As the machine has it; `place` translates the frame's sale places to the batch's.
    fn placed(&self, mut place: impl FnMut(u16) -> u16) -> Body<'_> {
        match self {
            PreparedBody::Plain(body) => match *body {
                Body::OpenSale { sale } => Body::OpenSale { sale: place(sale) },
                Body::PauseSale { sale } => Body::PauseSale { sale: place(sale) },
                Body::CloseSale { sale } => Body::CloseSale { sale: place(sale) },
                Body::Restock { sale, units } => Body::Restock {
                    sale: place(sale),
                    units,
                },
                Body::Withdraw { sale, units } => Body::Withdraw {
                    sale: place(sale),
                    units,
                },
                Body::Claim(mut take) => {
                    take.sale = place(take.sale);
                    Body::Claim(take)
                }
                Body::Decrement(mut take) => {
                    take.sale = place(take.sale);
                    Body::Decrement(take)
                }
                Body::Resolve(mut resolve) => {
                    resolve.sale = place(resolve.sale);
                    Body::Resolve(resolve)
                }
                other => other,
            },
            PreparedBody::CreateSale(create, name) => Body::CreateSale(CreateSale {
                sale: place(create.sale),
                name,
                ..*create
            }),
            PreparedBody::PutDocument(put, document, body) => Body::PutDocument(PutDocument {
                document,
                body,
                ..*put
            }),
            PreparedBody::DeleteDocument {
                document,
                version_expected,
            } => Body::DeleteDocument {
                document,
                version_expected: *version_expected,
            },
            PreparedBody::CheckDocument {
                document,
                version_expected,
            } => Body::CheckDocument {
                document,
                version_expected: *version_expected,
            },
            PreparedBody::LeaseDocument {
                document,
                fencing_token,
                lease_ms,
            } => Body::LeaseDocument {
                document,
                fencing_token: *fencing_token,
                lease_ms: *lease_ms,
            },
        }
    }
}

/// Commands that travel together, in order.
#[derive(Debug, Default)]
pub struct Frame {
    /// Ids of the sales that the commands name.
    pub sales: Vec<String>,
    /// The commands.
    pub commands: Vec<PreparedCommand>,
    /// Those of them that somebody follows, in order; nearly always none.
    pub followed: Vec<Followed>,
}

/// A command that somebody follows: its span ends when its frame is answered.
#[derive(Debug)]
pub struct Followed {
    /// Its place in the frame.
    pub place: usize,
    /// From when the frame came in.
    pub span: Span,
}

impl Frame {
    /// The place of a sale in this frame; adds it when it is not there yet.
    pub fn sale(&mut self, sale_id: &str) -> u16 {
        // A frame names one sale, or a few: a scan beats a map. Frames are short enough for 16 bits.
        let place = self
            .sales
            .iter()
            .position(|name| name == sale_id)
            .unwrap_or_else(|| {
                self.sales.push(sale_id.to_owned());
                self.sales.len() - 1
            });
        u16::try_from(place).expect("a frame has at most FRAME_COMMANDS_MAX commands")
    }

    /// Where the chain ends that begins with the command at this place; a command without followers is one of its own.
    pub(super) fn chain_end(&self, place: usize) -> usize {
        let rest = &self.commands[place + 1..];
        place + 1 + rest.iter().take_while(|command| command.follows).count()
    }

    /// Follows the command added last, if anybody does.
    pub fn follow(&mut self, span: Span) {
        if span.context().is_some() {
            let place = self.commands.len() - 1;
            self.followed.push(Followed { place, span });
        }
    }

    /// Notes for those who follow that nothing of it was proposed.
    pub(super) fn refused(&mut self, why: &Unsubmitted) {
        self.followed
            .iter_mut()
            .for_each(|followed| followed.span.fail(why));
    }
}

/// The machine's numbers for a frame's sales, looked up by name once for all its commands.
pub(super) struct SaleNumbers(Vec<Option<u32>>);

impl SaleNumbers {
    pub fn of(frame: &Frame, machine: &Machine) -> SaleNumbers {
        let number = |sale_id: &String| machine.sale_number(NAMESPACE_DEFAULT, sale_id);
        SaleNumbers(frame.sales.iter().map(number).collect())
    }

    /// Fetches what judging the frame's claims will need, for all of them at once.
    pub fn prefetch(&self, frame: &Frame, machine: &Machine) {
        for command in &frame.commands {
            if let PreparedBody::Plain(Body::Claim(take)) = &command.body {
                machine.prefetch(self.0[usize::from(take.sale)], take.user, command.key);
            }
        }
    }

    /// What a claim of the frame would hear without the log, if that is known.
    pub fn refusal(
        &self,
        command: &PreparedCommand,
        take: &Take,
        log_now_ms: u64,
        machine: &Machine,
    ) -> Option<Reply> {
        let sale_number = self.0[usize::from(take.sale)];
        machine.refusal(sale_number, take.user, command.key, take.quantity, log_now_ms)
    }
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The machine answered.
    Reply(Reply),
    /// Never proposed.
    Unsubmitted(Unsubmitted),
    /// Proposed; it may yet apply, until this log time.
    Unknown {
        /// After this log time it can no longer apply.
        not_after_ms: u64,
    },
}

/// Why a command was never proposed: the same key may be retried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsubmitted {
    /// Another node leads, or none.
    #[error("this node does not lead")]
    NotLeader,
    /// The queue is full.
    #[error("the queue is full")]
    Overloaded,
    /// No identity yet, or a new term whose log is not applied yet.
    #[error("the cluster is starting")]
    Starting,
    /// It leads, but no quorum has confirmed that lately: right after an election, or cut off.
    #[error("no quorum has confirmed this leader lately")]
    NoQuorum,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// Too little disk space for new claims.
    #[error("the disk reserve is reached: no new claims until there is space")]
    DiskReserve,
    /// A member could not apply it: the cluster is being upgraded.
    #[error("this command needs machine version {needed}; {}: upgrade it first", match behind.known {
        Some(known) => format!("node {} knows {known}", behind.node_id),
        None => format!("node {} has not said what it knows", behind.node_id),
    })]
    Upgrade {
        /// The version that the command came with.
        needed: u16,
        /// Who knows less.
        behind: Behind,
    },
}

impl Unsubmitted {
    /// Its name in metrics.
    pub fn cause(self) -> &'static str {
        match self {
            Unsubmitted::NotLeader => "not-leader",
            Unsubmitted::Overloaded => "overloaded",
            Unsubmitted::Starting => "starting",
            Unsubmitted::NoQuorum => "no-quorum",
            Unsubmitted::Stopping => "stopping",
            Unsubmitted::DiskReserve => "disk-reserve",
            Unsubmitted::Upgrade { .. } => "upgrade",
        }
    }
}

/// What answers reflect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Applied log index.
    pub applied_index: u64,
    /// Term.
    pub term: u64,
    /// Log time.
    pub log_time_ms: u64,
    /// Agreed wall time.
    pub wall_time_ms: u64,
}

/// Commands of one frame that stand next to one another in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the entry; zero: not known to be committed.
    pub log_index: u64,
    /// Place of the first of them in the entry.
    pub position: u32,
    /// How many.
    pub commands: u32,
    /// Log time of the entry.
    pub log_time_ms: u64,
}

/// Answers to one frame, in the order of its commands.
#[derive(Clone, Debug)]
pub struct FrameAnswer {
    /// One a command.
    pub answers: Vec<Answer>,
    /// What they reflect.
    pub position: Position,
    /// Where the commands stand in the log, from the first on; empty when no entry was needed.
    pub runs: Vec<Run>,
}

/// A frame inside the batcher.
#[derive(Debug)]
pub(super) struct Waiting {
    pub frame: Frame,
    /// Where it counts while commands of it wait.
    pub place: Place,
    pub reply: oneshot::Sender<FrameAnswer>,
    /// Answers so far, in order: commands are proposed and applied in order.
    pub answers: Vec<Answer>,
    /// Where those that were proposed stand.
    pub runs: Vec<Run>,
    /// Commands proposed so far.
    pub proposed: usize,
    /// The times of the first entry that answered. Callers take a refusal for final by them: a later entry's
    /// would leave a gap in which a straggler of theirs may still apply.
    pub stamp: Option<Stamp>,
    /// Why the commands not proposed so far never will be.
    pub given_up: Option<Unsubmitted>,
}
