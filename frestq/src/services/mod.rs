//! The services of a running peer in one value, and the planning of trees. The modules below
//! depend on them.
//!
//! May import everything above it: `model` to `http`.

pub(crate) mod plan;
mod running;

pub(crate) use running::Services;
