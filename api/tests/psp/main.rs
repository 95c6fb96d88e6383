//! The payment provider to rehearse with, over real sockets.

mod caller;
mod faults;
mod model;
mod money;
mod shop;
mod webhooks;
