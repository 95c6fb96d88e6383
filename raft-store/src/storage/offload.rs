//! Runs what blocks where blocking is allowed.

use std::{io, panic};

use crate::seams::Workers;

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
