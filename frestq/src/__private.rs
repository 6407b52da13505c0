//! What generated code names. No part of the public API: it changes with the macros, which are
//! pinned to this very version.

pub use inventory;

pub use crate::{
    cli::main,
    model::ActionOptions,
    registry::{HandlerFuture, HandlerKind, Registration},
};
