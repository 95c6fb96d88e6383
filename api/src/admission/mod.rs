//! Who is let in, and how much at a time: before the store is asked anything.
//!
//! [`rate`] limits what one user may try; [`crowd`] limits what this process takes on at one time.
//! Both refuse at once instead of queueing.
//!
//! Left out on purpose: refusing claims from memory because a sale was sold out a moment ago. This
//! process cannot know whether the caller is a holder whose answer was lost, who must hear *already*
//! and never *sold out*; so every claim asks the store, where a refusal costs no log entry, and every
//! sold-out answer is authoritative. A filter of holders fed by the watch would be asked between
//! [`rate`] and the store, in the claims route.

pub(crate) mod crowd;
pub(crate) mod rate;
