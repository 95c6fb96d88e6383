//! Reports: what is in them, what cannot get into them, how large they are, and how they look in a browser.

mod browser;
mod page;
mod sample;
