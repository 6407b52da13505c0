//! Wiring: an application becomes a serving peer, which reloads, and stops in order.
//!
//! May import everything but `cli`.

mod app;
mod configure;
mod foundation;
mod hooks;
mod reload;
mod running;
mod settings;
mod start;
#[cfg(test)]
mod tests;

pub use app::App;
pub use running::RunningPeer;
