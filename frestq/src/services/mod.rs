//! The services of a running peer in one value, and the planning of trees: what the parts below
//! work with.
//!
//! May import everything above it: `model` to `http`.

pub(crate) mod plan;
mod running;

pub(crate) use running::Services;
