//! Reads of one thing that many ask for at the same time: one answers all who asked before it began.
//!
//! Who asks while a read is under way waits for the next: that one begins later than his question, so what it tells is
//! no older than a read of his own would. At most one read of a thing runs at a time and at most one waits, however
//! many ask.
//!
//! Invariant: the round in `next` has not begun. A round belongs to those who wait for it, and any of them drives it;
//! when all have gone, it is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

/// One read, for all who wait for it.
pub(crate) type Round<T> = Shared<BoxFuture<'static, T>>;

/// Things that somebody may have asked for and gone before those who left them are cleared away.
const PLACES_MAX: usize = 1_024;

struct Place<T: Clone> {
    running: Option<WeakShared<BoxFuture<'static, T>>>,
    next: Option<WeakShared<BoxFuture<'static, T>>>,
}

impl<T: Clone> Place<T> {
    fn is_idle(&self) -> bool {
        pending(self.running.as_ref()).is_none() && pending(self.next.as_ref()).is_none()
    }
}

/// The round, while somebody waits for it.
fn pending<T: Clone>(round: Option<&WeakShared<BoxFuture<'static, T>>>) -> Option<Round<T>> {
    round
        .and_then(WeakShared::upgrade)
        .filter(|round| round.peek().is_none())
}

/// The rounds of things by name.
pub(crate) struct Rounds<T: Clone>(Arc<Mutex<HashMap<String, Place<T>>>>);

impl<T: Clone> Default for Rounds<T> {
    fn default() -> Self {
        Rounds(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    /// The round of `name` that begins next, or right away; `read` is called when it does, if nobody has asked sooner.
    pub(crate) fn join<F>(&self, name: &str, read: impl FnOnce() -> F + Send + 'static) -> Round<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut places = lock(&self.0);
        let place = places.get(name);
        if let Some(next) = place.and_then(|place| pending(place.next.as_ref())) {
            return next;
        }
        let running = place.and_then(|place| pending(place.running.as_ref()));
        let round = self.round(name, running.clone(), read);
        let (running, next) = match running {
            Some(running) => (running.downgrade(), round.downgrade()),
            None => (round.downgrade(), None),
        };
        if place.is_none() && places.len() >= PLACES_MAX {
            places.retain(|_, place| !place.is_idle());
        }
        places.insert(name.to_owned(), Place { running, next });
        round
    }

    fn round<F>(
        &self,
        name: &str,
        before: Option<Round<T>>,
        read: impl FnOnce() -> F + Send + 'static,
    ) -> Round<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (places, name) = (Arc::clone(&self.0), name.to_owned());
        let round = async move {
            if let Some(before) = before {
                before.await;
                if let Some(place) = lock(&places).get_mut(&name) {
                    place.running = place.next.take();
                }
            }
            let answer = read().await;
            let mut places = lock(&places);
            if places
                .get(&name)
                .is_some_and(|place| pending(place.next.as_ref()).is_none())
            {
                places.remove(&name);
            }
            answer
        };
        round.boxed().shared()
    }
}

fn lock<T>(places: &Mutex<T>) -> MutexGuard<'_, T> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Something that is read, each time a newer one; a read takes until it is let through.
    struct World {
        rounds: Rounds<u32>,
        begun: Arc<AtomicU32>,
        gate: Arc<Semaphore>,
    }

    impl World {
        fn new() -> World {
            World {
                rounds: Rounds::default(),
                begun: Arc::default(),
                gate: Arc::new(Semaphore::new(0)),
            }
        }

        fn ask(&self, name: &str) -> Round<u32> {
            let (begun, gate) = (Arc::clone(&self.begun), Arc::clone(&self.gate));
            self.rounds.join(name, || async move {
                let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
                gate.acquire().await.expect("it is never closed").forget();
                number
            })
        }

        fn places(&self) -> usize {
            lock(&self.rounds.0).len()
        }
    }

    #[tokio::test]
    async fn who_asks_while_one_is_read_hears_of_a_read_that_began_later() {
        let world = World::new();
        let mut first = world.ask("hot");
        assert!(futures::poll!(&mut first).is_pending(), "it has begun");
        let second: Vec<_> = (0..100).map(|_| world.ask("hot")).collect();
        assert_eq!(world.begun.load(Ordering::Relaxed), 1);

        world.gate.add_permits(1);
        assert_eq!(first.await, 1);
        let mut second = join_all(second);
        assert!(futures::poll!(&mut second).is_pending(), "the next has begun");
        let third = world.ask("hot");
        world.gate.add_permits(2);
        assert_eq!(second.await, vec![2; 100]);
        assert_eq!(third.await, 3);
        assert_eq!(world.places(), 0, "nobody asks, nothing is kept");
        world.gate.add_permits(1);
        assert_eq!(world.ask("hot").await, 4, "nothing is remembered");
    }

    #[tokio::test]
    async fn things_do_not_wait_for_one_another() {
        let world = World::new();
        let mut hot = world.ask("hot");
        assert!(futures::poll!(&mut hot).is_pending());
        world.gate.add_permits(2);
        assert_eq!((world.ask("cold").await, hot.await), (2, 1));
    }

    #[tokio::test]
    async fn who_leaves_takes_nobody_with_him() {
        let world = World::new();
        let mut first = world.ask("hot");
        assert!(futures::poll!(&mut first).is_pending());
        let (second, third) = (world.ask("hot"), world.ask("hot"));
        drop((first, second));
        world.gate.add_permits(2);
        assert_eq!(third.await, 2, "the first is driven to its end by who waits");
    }

    #[tokio::test]
    async fn what_everybody_left_is_begun_anew() {
        let world = World::new();
        for name in 0..2 * PLACES_MAX {
            let mut left = world.ask(&name.to_string());
            assert!(futures::poll!(&mut left).is_pending());
        }
        assert!(world.places() <= PLACES_MAX, "{}", world.places());
        let begun = world.begun.load(Ordering::Relaxed);
        world.gate.add_permits(1);
        assert_eq!(world.ask(&(2 * PLACES_MAX - 1).to_string()).await, begun + 1);
    }
}
