//! What an operator does during a run, by calls like anybody else's: hands the lead over, adds, promotes and
//! removes nodes.
//!
//! The nemesis orders, one order after the other is carried out. An order that is refused, or whose answer is
//! lost, is not insisted on: the membership at the end is whatever the cluster says that it is.

use std::time::Duration;

use client::{Client, Error};
use tokio::time::{Instant, sleep, timeout};

use super::{Trace, plan::Fault, stage::Stage};

/// How often one looks for orders.
const LOOK: Duration = Duration::from_millis(20);

/// How long one step of an order is tried.
const STEP_MAX: Duration = Duration::from_secs(15);

/// How long one try may take: a leader that has lost its power answers nobody.
const TRY_MAX: Duration = Duration::from_secs(10);

/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(150);

/// What is to be done. `leader`: it is aimed at whoever led when it was ordered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Transfer { draw: u64, leader: bool },
    Grow { id: u64, leader: bool },
    Remove { id: u64, leader: bool },
    Replace { dead: u64, id: u64, leader: bool },
}

/// Carries out orders until the run is over.
pub(super) async fn work(stage: Stage, client: Client, trace: Trace) {
    let operator = Operator { stage, client, trace };
    loop {
        match operator.stage.take_order() {
            Some(order) => operator.carry_out(order).await,
            None if operator.stage.is_over() => return,
            None => sleep(LOOK).await,
        }
    }
}

struct Operator {
    stage: Stage,
    client: Client,
    trace: Trace,
}

impl Operator {
    async fn carry_out(&self, order: Order) {
        match order {
            Order::Transfer { draw, leader } => {
                let others: Vec<u64> = (self.stage.members().into_iter())
                    .filter(|&id| !self.stage.machine(id).leads())
                    .collect();
                if others.is_empty() {
                    return;
                }
                let to = others[(draw % others.len() as u64) as usize];
                let done = self.step(|| self.client_transfer(to)).await;
                self.note(done, Fault::TransferLeader, to, leader);
            }
            Order::Grow { id, leader } => {
                let done = self.grow(id).await;
                self.note(done, Fault::Grow, id, leader);
            }
            Order::Remove { id, leader } => {
                // Three are few enough.
                if self.stage.members().len() <= 3 {
                    return;
                }
                let done = self.remove(id, false).await;
                self.note(done, Fault::Remove, id, leader);
            }
            Order::Replace { dead, id, leader } => {
                let grown = self.grow(id).await;
                let done = grown && self.remove(dead, true).await;
                self.note(done, Fault::Replace, dead, leader);
            }
        }
    }

    async fn client_transfer(&self, to: u64) -> Result<(), Error> {
        self.client.cluster().transfer_leader(to).await.map(drop)
    }

    async fn grow(&self, id: u64) -> bool {
        let endpoint = self.stage.machine(id).endpoint();
        let cluster = self.client.cluster();
        let added = self
            .step(|| async { cluster.add_learner(id, &endpoint).await.map(drop) })
            .await;
        // Once it may be a member it counts as one: the end of the run asks the cluster itself.
        self.stage.set_member(id, true);
        added
            && self
                .step(|| async { cluster.promote(vec![id]).await.map(drop) })
                .await
    }

    async fn remove(&self, id: u64, force: bool) -> bool {
        self.stage.machine(id).allow_removal();
        let cluster = self.client.cluster();
        let removed = self
            .step(|| async { cluster.remove(id, force).await.map(drop) })
            .await;
        if removed {
            self.stage.set_member(id, false);
        }
        removed
    }

    /// Repeats a step until it is done, refused for good, or its time is over.
    async fn step<F: Future<Output = Result<(), Error>>>(&self, call: impl Fn() -> F) -> bool {
        let deadline = Instant::now() + STEP_MAX;
        loop {
            let why = match timeout(TRY_MAX, call()).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > deadline {
                self.trace.note(format_args!("the operator gives up: {why}"));
                return false;
            }
            // All of these may be repeated: what is done already is done.
            sleep(AGAIN).await;
        }
    }

    fn note(&self, done: bool, fault: Fault, id: u64, leader: bool) {
        if done {
            self.stage.done(fault, id, leader);
            self.trace.note(format_args!("{} of n{id} is done", fault.name()));
        }
    }
}
