//! What callers are told while their commands are on their way: a real node, asked through its service.

mod calls;
mod chains;
mod in_flight;
mod lead_lost;
mod overload;
mod stalling_disk;
