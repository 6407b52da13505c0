//! The closure of `frestq::main!` needs no types.

#![deny(warnings)]

use frestq::prelude::*;

async fn health() -> &'static str {
    "well"
}

mod peer {
    use super::*;

    frestq::main!(|app| app.route("/health", get(health)).state(42_u64));

    pub fn built() -> fn() -> std::process::ExitCode {
        main
    }
}

fn main() {
    let _ = peer::built();
}
