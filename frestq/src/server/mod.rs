//! The server: it builds a serving peer from an application, reloads its configuration, and stops
//! it in order.
//!
//! May import everything above it: all but `logging` and `cli`.

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
