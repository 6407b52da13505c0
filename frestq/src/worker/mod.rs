//! Runs handlers: claimed tasks go in, completions come out.
//!
//! May import `api` and what is above it.

mod contain;
mod direct;
mod run;
mod threads;

pub(crate) use threads::Worker;
