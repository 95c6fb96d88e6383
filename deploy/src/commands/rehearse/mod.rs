//! `rehearse`: a sale like the one to come, on the real cluster, and whether it may come.
//!
//! The rehearsed sale's id begins with [`REHEARSAL_PREFIX`]: it is claimed from, logged and replicated as any other, and
//! left out wherever sales are listed or counted for people. It runs only on a cluster that `readiness` finds nothing
//! against, and readiness is looked at again afterwards, when the load has left its marks.
//!
//! What stays: the sale, closed and without units, and the records of its claims. Should this process die, the sale
//! closes by itself and its holds expire.
//!
//! Left out: the shoppers' door and payments. They scale by adding doors, and the provider's own test mode rehearses
//! them; what cannot be added to is the cluster.

mod books;
mod file;
mod judge;
mod load;
mod visit;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use client::{Consistency, NewSale, REHEARSAL_PREFIX};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use self::{
    books::Books,
    file::SaleLike,
    judge::HandOver,
    load::Tally,
    visit::{Shop, Told},
};
use super::readiness::{self, ReadinessArgs, Row};
use crate::{
    ask,
    context::{Connection, Context, fresh_key},
    exit::{Failure, Subject},
    lifetime, output,
    views::wall_time,
};

/// How long the crowd goes on around a hand-over of leadership, in seconds: longer than a failover takes that is
/// still good.
const HAND_OVER_S: u64 = 5;

/// When in that time leadership is handed over: answers flow by then.
const HAND_OVER_AFTER: Duration = Duration::from_secs(1);

/// How much later than it should be over the sale closes by itself, if nobody else has closed it.
const CLOSES_AFTER: Duration = Duration::from_secs(15 * 60);

/// How often the progress is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// What to rehearse.
#[derive(Args, Debug)]
pub struct RehearseArgs {
    /// TOML file with the sale that is expected; --example prints one
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    sale_like: Option<PathBuf>,
    /// Hand leadership over once, and measure how long nothing is answered
    #[arg(long)]
    transfer_leader: bool,
    #[command(flatten)]
    readiness: ReadinessArgs,
    /// Print a file to begin with
    #[arg(long, exclusive = true)]
    example: bool,
}

/// How a rehearsal went.
#[derive(Debug, Serialize)]
pub struct RehearseView<'a> {
    /// No row says no.
    pub go: bool,
    pub rows: &'a [Row],
    /// Null: the cluster was not ready.
    pub rehearsal: Option<RehearsalView>,
}

/// What the crowd did.
#[derive(Debug, Serialize)]
pub struct RehearsalView {
    pub sale_id: String,
    pub offered: u64,
    pub answered_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Longest time without an answer around the hand-over of leadership; null: there was none.
    pub failover_ms: Option<u64>,
    pub granted: u64,
    /// People who had as many as they may.
    pub already: u64,
    /// Sold out.
    pub refused: u64,
    pub unanswered: u64,
    pub unresolved: u64,
    pub confirmed: u64,
    pub released: u64,
    pub expired: u64,
    /// Whether its sale was emptied and closed.
    pub closed: bool,
}

/// Runs it.
pub async fn run(args: RehearseArgs, context: Context) -> Result<(), Failure> {
    let Some(file) = &args.sale_like else {
        return output::line(file::EXAMPLE.trim_end());
    };
    let like = SaleLike::read(file)?;
    let connection = context.connect()?;
    let rehearsal = Rehearsal::new(&connection, like, args.transfer_leader);
    if !ask::proceed(&context, &rehearsal.plan())? {
        return Ok(());
    }
    let ready = readiness::look(&connection, &args.readiness).await?;
    if !readiness::go(&ready) {
        let mut rows = judge::not_run(&rehearsal.shop.like, "the cluster is not ready");
        rows.extend(ready);
        return end(&context, &rows, None);
    }
    let outcome = rehearsal.run().await?;
    let mut rows = outcome.rows(&rehearsal.shop.like);
    let view = Some(outcome.view(&rehearsal.shop));
    match readiness::look(&connection, &args.readiness).await {
        Ok(after) => rows.extend(after),
        // A cluster that the load has felled: what was measured is worth seeing all the same.
        Err(failure) => rows.push(judge::felled(&failure)),
    }
    end(&context, &rows, view)
}

fn end(context: &Context, rows: &[Row], rehearsal: Option<RehearsalView>) -> Result<(), Failure> {
    let view = RehearseView {
        go: readiness::go(rows),
        rows,
        rehearsal,
    };
    output::print(context.format, &view, |view| readiness::table(view.rows))?;
    readiness::conclude(rows)
}

/// One rehearsal.
struct Rehearsal<'a> {
    connection: &'a Connection,
    shop: Arc<Shop>,
    transfer_leader: bool,
}

/// Turns true when the command is asked to stop: then the crowd goes home, and the sale is ended as always. Asked
/// again, the command ends where it stands.
fn watch_for_ctrl_c(closes_at_ms: u64) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        lifetime::asked_to_stop(false).await;
        stop.send_replace(true);
        eprintln!(
            "ending the rehearsal; once more leaves its sale as it is, which closes by itself at {}",
            wall_time(closes_at_ms)
        );
        lifetime::asked_to_stop(false).await;
        std::process::exit(1);
    });
    stopped
}

/// What it gave.
struct Outcome {
    steady: Tally,
    hand_over: HandOver,
    /// Of the hand-over's crowd.
    around: Option<Tally>,
    books: Option<Books>,
    closed: bool,
}

impl<'a> Rehearsal<'a> {
    fn new(connection: &'a Connection, like: SaleLike, transfer_leader: bool) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let sale_id = format!(
            "{REHEARSAL_PREFIX}{}-{:08x}",
            now.as_secs(),
            rand::random::<u32>()
        );
        Rehearsal {
            connection,
            shop: Arc::new(Shop {
                client: connection.client.clone(),
                sale_id,
                like,
            }),
            transfer_leader,
        }
    }

    /// What it will do, for people.
    fn plan(&self) -> Vec<String> {
        let like = &self.shop.like;
        let grouped = output::grouped;
        let mut plan = vec![
            format!(
                "rehearse on the cluster at {}: sale `{}` of {} units, which no report counts",
                self.connection.endpoints.join(", "),
                self.shop.sale_id,
                grouped(like.units_total.into())
            ),
            format!(
                "  {} claims a second for {} s, of {} people; whatever is sold meanwhile shares the cluster",
                grouped(like.claims_per_s_expected),
                like.seconds,
                grouped(like.people)
            ),
        ];
        if self.transfer_leader {
            plan.push(format!(
                "  then for {HAND_OVER_S} s more, while leadership is handed over: nothing is answered for a moment"
            ));
        }
        plan.push("  then it is emptied and closed; the records of its claims stay".into());
        plan
    }

    async fn run(&self) -> Result<Outcome, Failure> {
        let like = &self.shop.like;
        let sale_id = &self.shop.sale_id;
        let closes_at_ms = self.closes_at_ms().await?;
        let key = fresh_key();
        let created = self.connection.client.create_sale(NewSale {
            sale_id: sale_id.clone(),
            name: "rehearsal".into(),
            units_total: like.units_total,
            per_user_units_max: like.per_user_units_max,
            hold_ms: like.hold_ms,
            closes_at_ms,
            open: true,
            ..NewSale::default()
        });
        let answer = created.key(&key).send().await;
        let what = format!("create the rehearsal `{sale_id}`");
        self.connection.told(Subject::write(what, &key), answer).await?;

        let stopped = watch_for_ctrl_c(closes_at_ms);
        let last = like.claims_per_s_expected * like.seconds;
        let mut steady = self.offer("rehearsing", 0..last, &stopped).await;
        let (mut around, mut hand_over) = (None, HandOver::NotAsked);
        if self.transfer_leader && !*stopped.borrow() {
            let numbers = last..last + like.claims_per_s_expected * HAND_OVER_S;
            let (tally, begun) = tokio::join!(
                self.offer("handing over", numbers, &stopped),
                self.hand_over(&stopped)
            );
            hand_over = match begun {
                Ok((asked, done)) => {
                    let silence = load::longest_silence(&tally.answers, asked - tally.began);
                    // Silence is over with an answer from who took over, not before.
                    let over = tally.answers.iter().any(|at| *at >= done - tally.began);
                    HandOver::Silence(silence.filter(|_| over))
                }
                Err(why) => HandOver::Failed(why),
            };
            around = Some(tally);
        }
        let interrupted = *stopped.borrow();

        let mut told: Vec<Told> = std::mem::take(&mut steady.told);
        if let Some(around) = &mut around {
            told.append(&mut around.told);
        }
        let unresolved = steady.unresolved + around.as_ref().map_or(0, |around| around.unresolved);
        let books = books::compare(self.connection, sale_id, &mut told, unresolved).await?;
        // What is wrong is left as it is, for whoever looks into it.
        let sound = books.as_ref().is_some_and(|books| books.faults.is_empty());
        let closed = sound && self.closed(&told, closes_at_ms).await;
        if interrupted {
            return Err(Failure::Failed(format!(
                "interrupted after {} claims; the rehearsal `{sale_id}` {}",
                output::grouped(steady.offered),
                match closed {
                    true => "was emptied and closed",
                    false => "is still there",
                }
            )));
        }
        Ok(Outcome {
            steady,
            hand_over,
            around,
            books,
            closed,
        })
    }

    /// When the sale closes by itself, by the later of two clocks: this machine's may be off, and a young cluster has
    /// not agreed yet on what time it is.
    async fn closes_at_ms(&self) -> Result<u64, Failure> {
        let client = &self.connection.client;
        let answer = client.list_sales(None, 1, Consistency::Linearizable).await;
        let what = Subject::read("ask what time it is");
        let (_, position) = self.connection.told(what, answer).await?;
        let lasts = Duration::from_secs(self.shop.like.seconds + HAND_OVER_S) + CLOSES_AFTER;
        let now_ms = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        Ok(position.wall_time_ms.max(now_ms) + lasts.as_millis() as u64)
    }

    /// Empties and closes the sale, or says why it could not.
    async fn closed(&self, told: &[Told], closes_at_ms: u64) -> bool {
        let sale_id = &self.shop.sale_id;
        let answer = books::wind_down(self.connection, sale_id, told).await;
        if let Err(failure) = &answer {
            eprintln!(
                "{failure}; `{sale_id}` closes by itself at {}, or with `holdfast sale close {sale_id}`",
                wall_time(closes_at_ms)
            );
        }
        answer.is_ok()
    }

    /// The crowd of one phase, behind a bar.
    async fn offer(
        &self,
        phase: &'static str,
        numbers: std::ops::Range<u64>,
        stopped: &watch::Receiver<bool>,
    ) -> Tally {
        let template = format!("{phase} {{wide_bar}} {{pos}} of {{len}} claims, {{msg}}");
        let bar = ProgressBar::new(numbers.end - numbers.start).with_style(
            ProgressStyle::with_template(&template)
                .expect("the template is a constant")
                .progress_chars("━━─"),
        );
        let mut drawn = Instant::now();
        let seen = |tally: &Tally| {
            if drawn.elapsed() >= DRAW {
                drawn = Instant::now();
                bar.set_message(format!(
                    "{} granted, p99 {:.0} ms",
                    output::grouped(tally.granted),
                    tally.took_ms(0.99)
                ));
                bar.set_position(tally.offered);
            }
        };
        let (mut asked, shown) = (stopped.clone(), &bar);
        let stop = async move {
            // Whoever would say so is there until this process ends.
            let _ = asked.wait_for(|stopped| *stopped).await;
            output::leave_standing(shown);
        };
        let tally = load::offer(&self.shop, numbers, stop, seen).await;
        bar.finish_and_clear();
        tally
    }

    /// Hands leadership to whoever is furthest ahead; gives when it was asked for and when it was done, or why it failed.
    async fn hand_over(&self, stopped: &watch::Receiver<bool>) -> Result<(Instant, Instant), String> {
        /// The cluster chooses.
        const ANYBODY: u64 = 0;
        sleep(HAND_OVER_AFTER).await;
        if *stopped.borrow() {
            return Err("interrupted".into());
        }
        let asked = Instant::now();
        let answer = self.connection.client.cluster().transfer_leader(ANYBODY).await;
        answer
            .map(|_| (asked, Instant::now()))
            .map_err(|error| error.to_string())
    }
}

impl Outcome {
    fn unresolved(&self) -> u64 {
        self.steady.unresolved + self.around.as_ref().map_or(0, |around| around.unresolved)
    }

    fn rows(&self, like: &SaleLike) -> Vec<Row> {
        vec![
            judge::capacity(like, &self.steady),
            judge::claim_p99(like, &self.steady),
            judge::grants(self.books.as_ref(), self.unresolved()),
            judge::failover(like, &self.hand_over),
        ]
    }

    fn view(&self, shop: &Shop) -> RehearsalView {
        let sum = |count: fn(&Tally) -> u64| count(&self.steady) + self.around.as_ref().map_or(0, count);
        let books = self.books.clone().unwrap_or_default();
        let offered = sum(|tally| tally.offered);
        // Rounded: nobody reads more digits of a measurement.
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        RehearsalView {
            sale_id: shop.sale_id.clone(),
            offered,
            answered_per_s: tenths(self.steady.answered_per_s(&shop.like)),
            p50_ms: tenths(self.steady.took_ms(0.5)),
            p99_ms: tenths(self.steady.took_ms(0.99)),
            failover_ms: match self.hand_over {
                HandOver::Silence(silence) => silence.map(|silence| silence.as_millis() as u64),
                HandOver::NotAsked | HandOver::Failed(_) => None,
            },
            granted: sum(|tally| tally.granted),
            already: sum(|tally| tally.already),
            refused: sum(|tally| tally.refused),
            unanswered: sum(|tally| tally.unanswered),
            unresolved: self.unresolved(),
            confirmed: books.confirmed,
            released: books.released,
            expired: books.expired,
            closed: self.closed,
        }
    }
}

/// Views with every field, for the test that they are documented.
#[cfg(test)]
pub fn example() -> serde_json::Value {
    let rows = judge::not_run(&SaleLike::example(), "");
    let outcome = Outcome {
        steady: Tally::new(),
        hand_over: HandOver::NotAsked,
        around: None,
        books: None,
        closed: true,
    };
    let shop = Shop {
        client: client::Client::builder()
            .endpoints(["127.0.0.1:7401"])
            .build()
            .expect("an endpoint"),
        sale_id: String::new(),
        like: SaleLike::example(),
    };
    let view = RehearseView {
        go: true,
        rows: &rows,
        rehearsal: Some(outcome.view(&shop)),
    };
    serde_json::to_value(view).expect("plain values")
}
