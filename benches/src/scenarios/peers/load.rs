//! The loads on other stores: as many callers as ours has, each with one call open, for as long.

use std::{
    iter::Take,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    rules::{Answer, Claims, Store, Told, try_out},
    server::Program,
    wanted,
};
use crate::{
    failure::Failure,
    load::{Caller, Measured, Tally, drive, exhaust},
    names::{CallerNames, Names},
    report::{Figure, Run, peers},
    scenarios::{
        callers::{BULK_CALLERS, FRAME_CLAIMS},
        claims::SINGLE_CALLERS,
        endless_units, nothing_but, spent,
    },
};

/// Units of a sale that is sold out before its refusals are measured: few, because all callers but one may lose
/// every round for the next of them.
const SOLD_OUT_UNITS: u32 = 128;

/// Users of each caller who want those: more than there are units, even for one caller alone.
const SELLING_OUT_USERS: usize = 160;

/// What the callers of a load are to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Granted,
    SoldOut,
}

/// Who calls, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    id: &'static str,
    callers: usize,
    claims_per_call: usize,
    expected: Expected,
    value: fn(&Measured) -> f64,
}

impl Load {
    /// Claims by as many single callers as ours has.
    pub const fn singles(id: &'static str) -> Load {
        Load {
            id,
            callers: SINGLE_CALLERS,
            claims_per_call: 1,
            expected: Expected::Granted,
            value: Measured::rate,
        }
    }

    /// One caller; its median latency is the figure.
    pub const fn one(id: &'static str) -> Load {
        Load {
            callers: 1,
            value: |measured| measured.latency_ms(0.50),
            ..Load::singles(id)
        }
    }

    /// As many calls in flight as ours has in bulk, of as many claims.
    pub const fn bulk(id: &'static str) -> Load {
        Load {
            callers: BULK_CALLERS,
            claims_per_call: FRAME_CLAIMS,
            ..Load::singles(id)
        }
    }

    /// With so many claims in a call instead.
    pub const fn by(self, claims_per_call: usize) -> Load {
        Load {
            claims_per_call,
            ..self
        }
    }

    /// With so many callers instead.
    pub const fn callers(self, callers: usize) -> Load {
        Load { callers, ..self }
    }

    /// When the sale is sold out.
    pub const fn refused(self) -> Load {
        Load {
            expected: Expected::SoldOut,
            ..self
        }
    }
}

/// The stores' part of a run.
pub struct Peers<'a> {
    /// Where they keep their data.
    pub place: &'a Path,
    window: Duration,
    only: &'a [String],
    names: u64,
    sales: u64,
    run: &'a mut Run,
}

impl<'a> Peers<'a> {
    /// Nothing measured yet.
    pub fn new(place: &'a Path, window: Duration, only: &'a [String], run: &'a mut Run) -> Self {
        Peers {
            place,
            window,
            only,
            names: 0,
            sales: 0,
            run,
        }
    }

    fn names(&mut self) -> Names {
        self.names += 1;
        Names::new(self.names)
    }

    /// A sale's name that this run has not had, short, since stores keep it with every claim.
    fn sale(&mut self) -> String {
        self.sales += 1;
        format!("s{}", self.sales)
    }

    fn wants(&self, load: &Load) -> bool {
        let ours = peers().find_map(|(peer, ours)| (peer == load.id).then_some(ours));
        wanted(self.only, load.id) || ours.is_some_and(|ours| wanted(self.only, ours))
    }

    /// A store's program, if any of these loads was asked for and it is installed; notes its version, or its absence.
    ///
    /// # Errors
    /// It does not run.
    pub fn installed(
        &mut self,
        name: &str,
        program: Option<Program>,
        debian_package: &str,
        loads: &[Load],
    ) -> Result<Option<Program>, Failure> {
        if !loads.iter().any(|load| self.wants(load)) {
            return Ok(None);
        }
        let note = match &program {
            Some(program) => format!("{name}: {}", program.version()?),
            None => format!("{name} is not installed and was skipped: Debian's package is {debian_package}"),
        };
        self.run.note(note);
        Ok(program)
    }

    /// Tries the rules out and measures these loads.
    ///
    /// # Errors
    /// The store fails, breaks a rule, or has not what it told its callers.
    pub async fn measure(&mut self, store: &impl Store, loads: &[Load]) -> Result<(), Failure> {
        let wanted: Vec<&Load> = loads.iter().filter(|load| self.wants(load)).collect();
        let mut sizes: Vec<usize> = wanted.iter().map(|load| load.claims_per_call).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for claims_per_call in sizes {
            try_out(store, claims_per_call, self.names()).await?;
        }
        for load in wanted {
            match load.expected {
                Expected::Granted => self.granted(store, load).await?,
                Expected::SoldOut => self.refused(store, load).await?,
            }
        }
        Ok(())
    }

    async fn granted(&mut self, store: &impl Store, load: &Load) -> Result<(), Failure> {
        let sale = self.sale();
        store.open_sale(&sale, endless_units(self.window).into()).await?;
        let sum = Arc::default();
        let callers = callers(store, load, &sale, self.names(), usize::MAX, &sum).await?;
        let tally = self.figure(store, load, callers).await?;
        nothing_but(tally.granted, &tally, load.id)?;
        check(store, load, &sale, &tally, &sum).await
    }

    async fn refused(&mut self, store: &impl Store, load: &Load) -> Result<(), Failure> {
        let sale = self.sale();
        store.open_sale(&sale, SOLD_OUT_UNITS.into()).await?;
        let sum = Arc::default();
        let buyers = callers(store, load, &sale, self.names(), SELLING_OUT_USERS, &sum).await?;
        let (sold, _) = exhaust(buyers).await;
        sold.all_answered("selling out")?;
        if sold.granted != u64::from(SOLD_OUT_UNITS) {
            let why = format!("{} units were granted of {SOLD_OUT_UNITS}", sold.granted);
            return Err(Failure::new(format!("selling out for {}", load.id), why));
        }
        let callers = callers(store, load, &sale, self.names(), usize::MAX, &sum).await?;
        let tally = self.figure(store, load, callers).await?;
        nothing_but(tally.sold_out, &tally, load.id)?;
        check(store, load, &sale, &sold, &sum).await
    }

    async fn figure(
        &mut self,
        store: &impl Store,
        load: &Load,
        callers: Vec<impl Caller>,
    ) -> Result<Tally, Failure> {
        // What was left to be written behind is not this load's to carry.
        rustix::fs::sync();
        let before = processor_times(store)?;
        let (measured, tally) = drive(self.window, callers).await?;
        let processor = spent(&before, &processor_times(store)?, tally.answered());
        tally.all_answered(load.id)?;
        if measured.operations == 0 {
            let why = "nothing was answered within the window: choose a longer one with --seconds";
            return Err(Failure::new(load.id, why));
        }
        let figure = Figure {
            processor: Some(processor),
            ..measured.figure((load.value)(&measured))
        };
        self.run.add(load.id, figure);
        Ok(tally)
    }
}

/// Of this process, then of the store's.
fn processor_times(store: &impl Store) -> Result<Vec<Duration>, Failure> {
    let mut times = vec![crate::procfs::processor_time(std::process::id())?];
    times.extend(store.processor_times()?);
    Ok(times)
}

async fn check(
    store: &impl Store,
    load: &Load,
    sale: &str,
    tally: &Tally,
    sum: &AtomicU64,
) -> Result<(), Failure> {
    let told = Told {
        granted: tally.granted,
        sum: sum.load(Ordering::Relaxed),
    };
    store.records(sale).await?.check(load.id, told)
}

async fn callers<S: Store>(
    store: &S,
    load: &Load,
    sale: &str,
    names: Names,
    users: usize,
    sum: &Arc<AtomicU64>,
) -> Result<Vec<StoreCaller<S::Claims>>, Failure> {
    let mut callers = Vec::new();
    for caller in 0..load.callers {
        callers.push(StoreCaller {
            claims: store.caller(sale).await?,
            names: names.of_caller(caller).take(users),
            claims_per_call: load.claims_per_call,
            sum: sum.clone(),
        });
    }
    Ok(callers)
}

/// Claims again and again, until it has no more users.
struct StoreCaller<C> {
    claims: C,
    names: Take<CallerNames>,
    claims_per_call: usize,
    /// Of the numbers of the units that all callers were told.
    sum: Arc<AtomicU64>,
}

impl<C: Claims> Caller for StoreCaller<C> {
    async fn call(&mut self) -> Option<Tally> {
        let asks: Vec<_> = self.names.by_ref().take(self.claims_per_call).collect();
        if asks.is_empty() {
            return None;
        }
        let mut tally = Tally::default();
        match self.claims.claim(&asks).await {
            Ok(answers) if answers.len() == asks.len() => {
                let mut sum = 0;
                for answer in answers {
                    match answer {
                        Answer::Granted(unit) => {
                            tally.granted += 1;
                            sum += unit;
                        }
                        Answer::SoldOut => tally.sold_out += 1,
                        other => tally.fail(|| format!("a new user was answered {other:?}")),
                    }
                }
                self.sum.fetch_add(sum, Ordering::Relaxed);
            }
            Ok(answers) => tally.fail(|| format!("{} answers to {} claims", answers.len(), asks.len())),
            Err(failure) => tally.fail(|| failure.to_string()),
        }
        Some(tally)
    }
}
