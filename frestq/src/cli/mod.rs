//! The command line of a peer's binary.
//!
//! May import everything. Commands that read work beside a serving peer. Commands that change
//! something are carried out by the serving process, if there is one.

mod audit;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod certificate;
mod check;
mod decide;
mod external;
mod find;
mod flags;
mod list;
mod main_macro;
mod output;
mod peers;
mod run;
mod show;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
