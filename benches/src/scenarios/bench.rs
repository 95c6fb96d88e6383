//! One scenario at work: its cluster, the names that it has not heard yet, and how calls become a figure.

use std::{path::Path, time::Duration};

use raft_store::limits::ENTRY_COMMANDS_MAX;

use super::{
    callers::{BULK_CALLERS, BulkClaims},
    endless_units, nothing_but, wanted,
};
use crate::{
    cluster::Cluster,
    failure::{Doing, Failure},
    load::{Caller, Measured, Tally, drive, drive_meanwhile, drive_processes, exhaust},
    names::Names,
    process::Process,
    procfs,
    report::{Figure, Processor, Run},
};

/// One scenario at work.
pub(super) struct Bench<'a> {
    pub(super) cluster: Cluster,
    /// The HTTP door, where the scenario has one.
    pub(super) door: Option<Process>,
    /// Callers in processes of their own, which are part of the load, while they call.
    pub(super) callers: Vec<Process>,
    pub(super) place: &'a Path,
    pub(super) window: Duration,
    /// The figures asked for; empty: all.
    pub(super) only: &'a [String],
    /// Sets of names handed out.
    pub(super) names: u64,
    pub(super) run: &'a mut Run,
}

impl Bench<'_> {
    /// Names that this cluster has not heard yet.
    pub(super) fn names(&mut self) -> Names {
        Names::new(self.next_measurement())
    }

    /// The number of names that this cluster has not heard yet.
    fn next_measurement(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Whether this figure was asked for.
    pub(super) fn wants(&self, id: &str) -> bool {
        wanted(self.only, id)
    }

    /// Makes a sale that does not sell out within the window.
    pub(super) async fn endless_sale(&self, sale_id: &str) -> Result<(), Failure> {
        let units = endless_units(self.window);
        self.cluster.create_sale(sale_id, units).await
    }

    /// Makes so many claims of one unit each, by users of their own.
    pub(super) async fn fill(&mut self, sale_id: &str, claims: usize) -> Result<Tally, Failure> {
        const DOING: &str = "filling";
        let (client, names) = (self.cluster.client().clone(), self.names());
        let caller = |caller: usize| {
            // The division's rest goes to the first.
            let rest = if caller == 0 { claims % BULK_CALLERS } else { 0 };
            let names = names.of_caller(caller).take(claims / BULK_CALLERS + rest);
            BulkClaims::new(client.clone(), sale_id, names)
        };
        let (tally, _) = exhaust((0..BULK_CALLERS).map(caller).collect()).await;
        tally.all_answered(DOING)?;
        nothing_but(tally.granted, &tally, DOING)?;
        Ok(tally)
    }

    /// Lets callers call for a window, writes down operations per second, and gives the tally.
    pub(super) async fn rate<C: Caller>(
        &mut self,
        id: &'static str,
        callers: Vec<C>,
    ) -> Result<Tally, Failure> {
        self.figure(id, callers, Measured::rate).await
    }

    /// The same by processes that call one claim, or a batch, after the other. They are gone afterwards.
    pub(super) async fn rate_of_processes(
        &mut self,
        id: &'static str,
        count: usize,
        claims_per_call: usize,
    ) -> Result<Tally, Failure> {
        const DOING: &str = "making a directory";
        let dir = tempfile::Builder::new()
            .prefix("bench-callers-")
            .tempdir_in(self.place)
            .doing(DOING)?;
        let (claims_per_call, window_ms) = (claims_per_call.to_string(), self.window.as_millis().to_string());
        let certificates = self
            .cluster
            .certificates_dir()
            .map(|dir| dir.to_string_lossy().into_owned());
        let measurement = self.next_measurement().to_string();
        for caller in 0..count {
            let caller = caller.to_string();
            let mut arguments = vec![
                "callers",
                "--sale",
                id,
                "--measurement",
                &measurement,
                "--caller",
                &caller,
            ];
            arguments.extend(["--claims-per-call", &claims_per_call, "--window-ms", &window_ms]);
            for endpoint in self.cluster.endpoints() {
                arguments.extend(["--endpoint", endpoint]);
            }
            if let Some(dir) = &certificates {
                arguments.extend(["--certificates", dir]);
            }
            let name = format!("caller-{caller}");
            self.callers
                .push(Process::start(dir.path(), &name, &arguments).await?);
        }
        let calling = self.calling().await?;
        let (measured, tally) = drive_processes(self.window, &mut self.callers).await?;
        self.called(id, calling, &measured, &tally, Measured::rate)
            .await?;
        for caller in self.callers.drain(..) {
            caller.stop().await?;
        }
        Ok(tally)
    }

    /// Lets callers call for a window, writes down what `value` makes of it, and gives the tally.
    pub(super) async fn figure<C: Caller>(
        &mut self,
        id: &'static str,
        callers: Vec<C>,
        value: fn(&Measured) -> f64,
    ) -> Result<Tally, Failure> {
        let calling = self.calling().await?;
        let (measured, tally) = drive(self.window, callers).await?;
        self.called(id, calling, &measured, &tally, value).await?;
        Ok(tally)
    }

    /// The same for as long as something else takes, and gives what that came to as well.
    pub(super) async fn figure_meanwhile<C: Caller, T>(
        &mut self,
        id: &'static str,
        callers: Vec<C>,
        value: fn(&Measured) -> f64,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(Tally, T), Failure> {
        let calling = self.calling().await?;
        let (measured, tally, done) = drive_meanwhile(callers, work).await?;
        self.called(id, calling, &measured, &tally, value).await?;
        Ok((tally, done))
    }

    /// Looks at what will have changed when callers have called.
    async fn calling(&self) -> Result<Calling, Failure> {
        // What the load before left to be written behind is not this load's to carry.
        self.cluster.settled().await?;
        Ok(Calling {
            term: self.cluster.leader().await?.term,
            applied_index: self.cluster.applied_index().await?,
            processor_times: self.processor_times()?,
        })
    }

    async fn called(
        &mut self,
        id: &'static str,
        before: Calling,
        measured: &Measured,
        tally: &Tally,
        value: fn(&Measured) -> f64,
    ) -> Result<(), Failure> {
        let processor = self.processor_since(&before.processor_times, tally.answered())?;
        let elections = self.cluster.leader().await?.term - before.term;
        if elections > 0 {
            self.run.note(format!(
                "{id}: the term rose by {elections}, though no node failed"
            ));
        }
        let entries = self.cluster.applied_index().await? - before.applied_index;
        tally.all_answered(id)?;
        let figure = Figure {
            processor: Some(processor),
            per_entry: Some(tally.asked_of_the_log() as f64 / entries as f64)
                .filter(|&count| count > 0.0 && count <= ENTRY_COMMANDS_MAX as f64),
            ..measured.figure(value(measured))
        };
        self.run.add(id, figure);
        Ok(())
    }

    /// What each of so many operations cost since then.
    pub(super) fn processor_since(&self, before: &[Duration], operations: u64) -> Result<Processor, Failure> {
        Ok(spent(before, &self.processor_times()?, operations))
    }

    /// Processor time so far of this process and the other callers', then of every node, then of the door if there is
    /// one.
    pub(super) fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        let mut load = procfs::processor_time(std::process::id())?;
        for caller in &self.callers {
            load += procfs::processor_time(caller.id()?)?;
        }
        let mut times = vec![load];
        times.extend(self.cluster.processor_times()?);
        if let Some(door) = &self.door {
            times.push(procfs::processor_time(door.id()?)?);
        }
        Ok(times)
    }
}

/// What there was when callers began to call.
struct Calling {
    term: u64,
    applied_index: u64,
    processor_times: Vec<Duration>,
}

/// What each of so many operations cost between two looks at the time of this process, then of every server.
pub(super) fn spent(before: &[Duration], after: &[Duration], operations: u64) -> Processor {
    let spent = after
        .iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(*before));
    let mut spent_us = spent.map(|spent| spent.as_secs_f64() * 1e6 / operations as f64);
    Processor::new(spent_us.next().unwrap_or_default(), spent_us.collect())
}
