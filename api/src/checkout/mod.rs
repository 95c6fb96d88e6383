//! Checkout: a claim is paid for, and in the end there is exactly one order and one charge, or none
//! and the unit is back.
//!
//! `saga` decides what is next, purely, in the words of `terms`; `journal` is the record it decides from, kept in the store;
//! `steps` carries effects out; `driver` owns a checkout while it runs; `sweeper` finds those whose
//! owner died. Payment itself is behind a port.

pub(crate) mod journal;
pub(crate) mod saga;
pub(crate) mod terms;
