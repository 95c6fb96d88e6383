//! Reads kept for at most a second, so that any number of onlookers costs the store one read per
//! second and sale.
//!
//! Invariants: an answer is never older than the age asked for when it is given; at most one load of a
//! thing is under way at a time, and those who came while it ran share its result, its failure too, so
//! that a store that is slow to fail is not asked once per waiter. Nothing here is needed for
//! correctness: claims never look at it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use axum::{body::Bytes, http::HeaderValue};
use client::{Consistency, Position, Sale};

use crate::{
    error::Problem,
    json::{SaleJson, SalesJson},
    options::Options,
    store::Store,
};

/// How long a failed read is remembered: long enough to spare a struggling store, too short to notice.
const FAILURE_KEEP: Duration = Duration::from_millis(200);

/// One thing that is loaded again when it is too old.
pub(crate) struct Fresh<T> {
    kept: RwLock<Option<Kept<T>>>,
    loading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Kept<T> {
    began: Instant,
    ended: Instant,
    value: Result<T, Problem>,
}

impl<T> Kept<T> {
    fn is_fresh(&self, age_max: Duration) -> bool {
        let age_max = if self.value.is_ok() {
            age_max
        } else {
            age_max.min(FAILURE_KEEP)
        };
        // From when the load began: what it saw may be as old as that.
        self.began.elapsed() < age_max
    }
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Fresh {
            kept: RwLock::new(None),
            loading: tokio::sync::Mutex::new(()),
        }
    }
}

impl<T: Clone> Fresh<T> {
    fn kept(&self, good: impl Fn(&Kept<T>) -> bool) -> Option<Result<T, Problem>> {
        let kept = self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.as_ref()
            .filter(|kept| good(kept))
            .map(|kept| kept.value.clone())
    }

    /// The thing, loaded by one of those who ask if it is older than `age_max`.
    pub(crate) async fn get<F>(&self, age_max: Duration, load: impl FnOnce() -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let came = Instant::now();
        if let Some(value) = self.kept(|kept| kept.is_fresh(age_max)) {
            return value;
        }
        let _loading = self.loading.lock().await;
        if let Some(value) = self.kept(|kept| kept.ended >= came) {
            return value;
        }
        let began = Instant::now();
        let value = load().await;
        let kept = Kept {
            began,
            ended: Instant::now(),
            value: value.clone(),
        };
        *self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(kept);
        value
    }

    fn is_idle(&self, age_max: Duration) -> bool {
        self.kept(|kept| kept.is_fresh(age_max)).is_none() && self.loading.try_lock().is_ok()
    }
}

/// An answer ready to be sent, made once however often it is.
#[derive(Debug)]
pub(crate) struct Page {
    /// The JSON.
    pub(crate) body: Bytes,
    /// Its entity tag.
    pub(crate) etag: HeaderValue,
    /// What it reflects.
    pub(crate) position: Position,
    /// The sale, on the page of one sale.
    pub(crate) sale: Option<Arc<Sale>>,
}

impl Page {
    /// The page of one sale. Its tag is the index of its last change.
    pub(crate) fn of_sale(sale: Sale, position: Position) -> Self {
        let body = to_json(&SaleJson::from(&sale));
        let etag = etag(format!("\"{}\"", sale.changed_index));
        Page {
            body,
            etag,
            position,
            sale: Some(Arc::new(sale)),
        }
    }

    /// A page of sales. Any change gives some sale a higher index than all had before, and a sale that
    /// goes away changes their number; weak, since two pages may agree in both.
    pub(crate) fn of_sales(sales: Vec<Sale>, limit: u32, position: Position) -> Self {
        let changed_index = sales.iter().map(|sale| sale.changed_index).max().unwrap_or(0);
        let is_last = (sales.len() as u64) < u64::from(limit);
        let next_after = sales
            .last()
            .filter(|_| !is_last)
            .map(|sale| sale.sale_id.as_str());
        let body = to_json(&SalesJson {
            sales: sales.iter().map(SaleJson::from).collect(),
            next_after,
        });
        Page {
            body,
            etag: etag(format!("W/\"{}-{changed_index}\"", sales.len())),
            position,
            sale: None,
        }
    }
}

fn to_json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("plain structs of texts and numbers")
        .into()
}

fn etag(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits, quotes, a dash")
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Sale(String),
    Sales { after: Option<String>, limit: u32 },
}

/// Sales as of at most a second ago.
pub(crate) struct SaleCache {
    store: Arc<dyn Store>,
    pages: Mutex<HashMap<Key, Arc<Fresh<Arc<Page>>>>>,
    pages_max: usize,
    age_max: Duration,
    consistency: Consistency,
}

impl SaleCache {
    pub(crate) fn new(store: Arc<dyn Store>, options: &Options) -> Self {
        SaleCache {
            store,
            pages: Mutex::default(),
            pages_max: options.sales_cached_max,
            age_max: Duration::from_millis(options.sale_cache_ms),
            consistency: Consistency::Bounded(options.sale_read_age_ms_max),
        }
    }

    /// One sale's page.
    pub(crate) async fn sale(&self, sale_id: &str) -> Result<Arc<Page>, Problem> {
        self.entry(Key::Sale(sale_id.to_owned()))
            .get(self.age_max, || async {
                let (sale, position) = self.store.sale(sale_id, self.consistency).await?;
                Ok(Arc::new(Page::of_sale(sale, position)))
            })
            .await
    }

    /// A page of sales.
    pub(crate) async fn sales(&self, after: Option<&str>, limit: u32) -> Result<Arc<Page>, Problem> {
        self.entry(Key::Sales {
            after: after.map(str::to_owned),
            limit,
        })
        .get(self.age_max, || async {
            let (sales, position) = self.store.sales(after, limit, self.consistency).await?;
            Ok(Arc::new(Page::of_sales(sales, limit, position)))
        })
        .await
    }

    fn entry(&self, key: Key) -> Arc<Fresh<Arc<Page>>> {
        let mut pages = self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(page) = pages.get(&key) {
            return Arc::clone(page);
        }
        if pages.len() >= self.pages_max {
            pages.retain(|_, page| !page.is_idle(self.age_max));
            if pages.len() >= self.pages_max {
                // Somebody asks for very many sales at once: forgetting costs a read each, no more.
                pages.clear();
            }
        }
        Arc::clone(pages.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn those_who_come_while_it_loads_share_the_one_load() {
        let fresh = Arc::new(Fresh::<u32>::default());
        let loads = Arc::new(AtomicU32::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let ask = || {
            let (fresh, loads, mut gate) = (Arc::clone(&fresh), Arc::clone(&loads), gate.clone());
            async move {
                fresh
                    .get(Duration::from_secs(3_600), || async move {
                        let load = loads.fetch_add(1, Ordering::SeqCst) + 1;
                        gate.wait_for(|open| *open).await.unwrap();
                        Ok(load)
                    })
                    .await
            }
        };
        // All of them are polled once, so that all have come before the gate opens.
        let asked = futures::future::join_all((0..100).map(|_| ask()));
        let mut asked = std::pin::pin!(asked);
        assert!(futures::poll!(asked.as_mut()).is_pending());
        open.send(true).unwrap();
        for answer in asked.await {
            assert_eq!(answer.unwrap(), 1);
        }
        assert_eq!(ask().await.unwrap(), 1, "still fresh");
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_longer_than_asked_and_failures_are_shared_too() {
        let fresh = Fresh::<u32>::default();
        assert_eq!(fresh.get(Duration::ZERO, || async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(fresh.get(Duration::ZERO, || async { Ok(2) }).await.unwrap(), 2);

        let (open, mut gate) = tokio::sync::watch::channel(false);
        let first = fresh.get(Duration::ZERO, || async move {
            gate.wait_for(|open| *open).await.unwrap();
            Err(Problem::new(Kind::Unavailable, "down"))
        });
        let second = fresh.get(Duration::ZERO, || async {
            panic!("the first one's failure is shared")
        });
        let mut both = std::pin::pin!(futures::future::join(first, second));
        assert!(futures::poll!(both.as_mut()).is_pending());
        open.send(true).unwrap();
        let (first, second) = both.await;
        assert_eq!(first.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(second.unwrap_err().kind(), Kind::Unavailable);
    }
}
