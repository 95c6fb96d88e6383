//! A sale's page over HTTP: what a shopper's page asks for again and again, while the sale sells.
//!
//! Read in two ways: whole each time, as by one who has nothing yet, and with the entity tag of the last one, which is
//! answered 304 while nothing has changed. What is shown has to add up, and must not be older than the door promises:
//! every claim that any caller had heard of so long before the page was asked for is in it. That counts for a page that
//! is said to be unchanged as well. Callers have claimed for as long as that before the window, so that there is
//! something to be late with from its first page on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{Auth, Options};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{
    Bench,
    http::CONNECTIONS,
    http_connection::{Connection, NOT_MODIFIED},
    nothing_but,
    paced::{Grants, PacedClaims},
};
use crate::{
    failure::{Doing, Failure},
    load::{Caller, Tally},
};

/// Callers that claim meanwhile: some 100 claims a second cost the readers next to nothing.
const CLAIMERS: usize = 1;

/// Status of a page that is sent whole.
const OK: u16 = 200;

/// Where unchanged pages are what is measured, one in so many answers may be whole at most. A page changes once a
/// second, and is asked for tens of thousands of times.
const ONE_WHOLE_IN_MIN: u64 = 10;

/// How pages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Whole each time.
    Whole,
    /// With the tag of the last one.
    Again,
}

/// Lets as many connections as elsewhere ask for a sale's page while it sells.
pub(super) async fn measure(
    bench: &mut Bench<'_>,
    id: &'static str,
    door: &str,
    asking: Asking,
) -> Result<(), Failure> {
    bench.endless_sale(id).await?;
    // Every replica has the sale before anybody reads it there.
    bench.cluster.settled().await?;
    let selling = PacedClaims::start(CLAIMERS, &bench.cluster.another_client()?, id, bench.names());
    let age_max = age_max();
    sleep(age_max).await;
    let whole = Arc::new(AtomicU64::new(0));
    let mut onlookers = Vec::new();
    for _ in 0..CONNECTIONS {
        onlookers.push(Onlooker {
            connection: Connection::open(door).await.doing("connecting to the door")?,
            path: format!("/v1/sales/{id}"),
            asking,
            etag: String::new(),
            seen: None,
            grants: selling.grants(),
            age_max,
            whole: whole.clone(),
        });
    }
    let tally = bench.rate(id, onlookers).await?;
    nothing_but(tally.read, &tally, id)?;
    mostly_unchanged(asking, whole.load(Ordering::Relaxed), tally.read)?;
    let told = selling.stop().await?;
    same_at_last(door, id, told.granted).await?;
    bench.cluster.check(id, &told).await
}

/// Fails unless what was to be measured is what was answered.
fn mostly_unchanged(asking: Asking, whole: u64, pages: u64) -> Result<(), Failure> {
    if asking == Asking::Whole || whole <= pages / ONE_WHOLE_IN_MIN {
        return Ok(());
    }
    let why = format!("{whole} of {pages} pages had changed since they were asked for last");
    Err(Failure::new("asking for what is unchanged", why))
}

/// Fails unless the door shows, when it may not answer from memory, as much as was claimed.
async fn same_at_last(door: &str, sale_id: &str, granted: u64) -> Result<(), Failure> {
    const DOING: &str = "reading the page at last";
    let mut connection = Connection::open(door).await.doing(DOING)?;
    let path = format!("/v1/sales/{sale_id}?consistency=linearizable");
    let answer = connection.look(&path, "").await.doing(DOING)?;
    let page = Page::read(answer.body).map_err(|why| Failure::new(DOING, why))?;
    if u64::from(page.claimed()) == granted {
        return Ok(());
    }
    let why = format!("it shows {} units claimed, and {granted} were", page.claimed());
    Err(Failure::new(DOING, why))
}

/// How old at most what the door shows may be: it keeps a page for some time, and made it from a read of any node, whose
/// state may be of some time before.
fn age_max() -> Duration {
    let options = Options::new(Auth::Development);
    Duration::from_millis(options.sale_cache_ms + options.sale_read_age_ms_max)
}

/// A connection on which one sale's page is asked for.
struct Onlooker {
    connection: Connection,
    path: String,
    asking: Asking,
    /// Tag of the last page; empty: none yet.
    etag: String,
    /// That page.
    seen: Option<Page>,
    grants: Grants,
    age_max: Duration,
    /// Pages that were sent whole, to all onlookers.
    whole: Arc<AtomicU64>,
}

impl Caller for Onlooker {
    async fn call(&mut self) -> Option<Tally> {
        let mut tally = Tally::default();
        match self.look().await {
            Ok(()) => tally.read = 1,
            Err(why) => tally.fail(|| why),
        }
        Some(tally)
    }
}

impl Onlooker {
    /// Asks for the page. Says what is wrong with it.
    async fn look(&mut self) -> Result<(), String> {
        let claimed_min = Instant::now()
            .checked_sub(self.age_max)
            .map_or(0, |then| self.grants.rank_by(then));
        let answer = self.connection.look(&self.path, &self.etag).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let page = match (answer.status, self.seen) {
            (OK, _) => {
                self.whole.fetch_add(1, Ordering::Relaxed);
                Page::read(answer.body)?
            }
            (NOT_MODIFIED, Some(seen)) if answer.etag == self.etag => seen,
            (status, _) => {
                let said = String::from_utf8_lossy(answer.body);
                return Err(format!("{status} {} {said}", answer.etag));
            }
        };
        if let Some(why) = page.wrong(claimed_min) {
            return Err(why);
        }
        if self.asking == Asking::Again && answer.status == OK {
            answer.etag.clone_into(&mut self.etag);
            self.seen = Some(page);
        }
        Ok(())
    }
}

/// What a page shows.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Page {
    units_total: u32,
    units_available: u32,
    units_held: u32,
    units_confirmed: u32,
}

impl Page {
    fn read(body: &[u8]) -> Result<Page, String> {
        serde_json::from_slice(body).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(body)))
    }

    /// Units that somebody has.
    fn claimed(&self) -> u32 {
        self.units_held + self.units_confirmed
    }

    /// What is wrong with it where so many claims have to show.
    fn wrong(&self, claimed_min: u32) -> Option<String> {
        let units = [self.units_available, self.units_held, self.units_confirmed].map(u64::from);
        if units.iter().sum::<u64>() != u64::from(self.units_total) {
            return Some(format!("a page showed {units:?} units of {}", self.units_total));
        }
        (self.claimed() < claimed_min).then(|| {
            let claimed = self.claimed();
            format!("a page showed {claimed} claims, and is older than the door promises: {claimed_min} had been made by then")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_wrong_when_it_is_too_old_or_does_not_add_up() {
        let page = |available: u32, held: u32| Page {
            units_total: 10,
            units_available: available,
            units_held: held,
            units_confirmed: 1,
        };
        assert_eq!(page(6, 3).wrong(4), None);
        assert_eq!(page(6, 3).wrong(0), None, "newer than it had to be");
        assert!(page(6, 3).wrong(5).is_some_and(|why| why.contains("4 claims")));
        assert!(page(7, 3).wrong(0).is_some_and(|why| why.contains("of 10")));
        assert!(Page::read(b"{}").is_err());
    }

    #[test]
    fn pages_that_change_all_the_time_are_not_what_is_measured() {
        assert!(mostly_unchanged(Asking::Again, 11, 100).is_err());
        assert!(mostly_unchanged(Asking::Again, 10, 100).is_ok());
        assert!(mostly_unchanged(Asking::Whole, 100, 100).is_ok());
    }
}
