//! How much this process takes on at one time. Full means refused now, not queued: a shopper who waits
//! unanswered presses the button again.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{door::Door, error::Problem};

/// Room for so many at a time.
pub(crate) struct Crowd {
    room: Arc<Semaphore>,
    refusal: &'static str,
}

impl Crowd {
    pub(crate) fn new(max: usize, refusal: &'static str) -> Self {
        Crowd {
            room: Arc::new(Semaphore::new(max)),
            refusal,
        }
    }

    /// A place until it is dropped, or a refusal.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.room)
            .try_acquire_owned()
            .map_err(|_| Problem::busy(self.refusal))
    }
}

/// Lets a request in if there is room for it.
pub(crate) async fn admit(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.requests.enter() {
        Ok(_place) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
