//! A cluster behind certificates and tokens, on real sockets: who gets in, and what he may do there.

mod limits;
mod peers;
mod roles;
mod shop;
