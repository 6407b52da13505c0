//! A peer on the defaults.

#![deny(warnings)]

mod peer {
    frestq::main!();

    pub fn built() -> fn() -> std::process::ExitCode {
        main
    }
}

fn main() {
    let _ = peer::built();
}
