//! The worker runs handlers: it takes claimed tasks and submits their completions.
//!
//! May import `api` and what is above it.

mod contain;
mod direct;
mod run;
mod threads;

pub(crate) use threads::Worker;
