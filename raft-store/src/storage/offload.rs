//! Runs what blocks where blocking is allowed.

use std::{io, panic, thread};

use crate::seams::Workers;

/// How nice work is that can wait but must end, as a snapshot, without which the log grows: beside a busy thread of the
/// usual niceness the system gives it a quarter of a core (weights 335 and 1,024, Linux's `sched_prio_to_weight`), and
/// who wakes meanwhile goes first.
const MUST_END: i32 = 5;

/// How nice work is that may lag, as the image: a tenth of a core (weight 110). Nicer still, what changes meanwhile is
/// there twice for longer: at 19, ten million claims made in bulk took 150 B each.
pub(crate) const MAY_LAG: i32 = 10;

/// Runs `work` beside the runtime, or in place where there are no threads (in simulation).
///
/// # Errors
/// The runtime is shutting down and did not run it.
///
/// # Panics
/// When `work` does.
pub(crate) async fn blocking<T: Send + 'static>(
    workers: Workers,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match workers {
        Workers::Tasks => Ok(work()),
        Workers::Threads => match tokio::task::spawn_blocking(work).await {
            Ok(done) => Ok(done),
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the node is shutting down",
            )),
        },
    }
}

/// [`blocking`], for what can wait but must end: it [gives way](give_way) to claims.
///
/// # Errors
/// The runtime is shutting down and did not run it; there is no thread for it.
///
/// # Panics
/// When `work` does.
pub(crate) async fn background<T: Send + 'static>(
    workers: Workers,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match workers {
        Workers::Tasks => Ok(work()),
        Workers::Threads => blocking(workers, move || give_way(MUST_END, work)).await?,
    }
}

/// Runs `work` on a thread of its own that gives way to all others, by this niceness. Its priority cannot be had back, hence the thread;
/// and it must hold no lock that others wait for.
///
/// # Errors
/// The system gives no thread.
///
/// # Panics
/// When `work` does.
pub(crate) fn give_way<T: Send>(niceness: i32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let nice = || {
            // Only Linux has it for single threads. Where it is not allowed the work is done all the same.
            if cfg!(target_os = "linux") {
                let _ = rustix::process::setpriority_process(None, niceness);
            }
            work()
        };
        let worker = thread::Builder::new().name("holdfast-beside".into());
        match worker.spawn_scoped(scope, nice)?.join() {
            Ok(done) => Ok(done),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[tokio::test]
    async fn what_can_wait_gives_way_and_nobody_else_does() {
        assert_eq!(background(Workers::Threads, niceness).await.unwrap(), MUST_END);
        assert_eq!(give_way(MAY_LAG, niceness).unwrap(), MAY_LAG);
        assert_eq!(blocking(Workers::Threads, niceness).await.unwrap(), 0);
        assert_eq!(niceness(), 0);
    }
}
