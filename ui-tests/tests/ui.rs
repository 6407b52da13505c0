//! Compiles each file of `pass`, which the macros accept, and of `fail`, which they reject with the
//! errors in the `.stderr` file next to it. Each file tests one rule.
//!
//! The `.stderr` files are pinned to rustc 1.95. Other compilers format their part of an error
//! differently, so the `fail` cases don't run with them. After a change of the errors or of the
//! pinned compiler, run `TRYBUILD=overwrite cargo test -p ui-tests` and review the diff.

use std::{io::Write, process::Command};

/// The compiler that wrote the expected errors.
const PINNED: &str = "rustc 1.95.";

#[test]
fn the_macros_accept_valid_code_and_explain_errors() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/pass/*.rs");
    let compiler = compiler();
    if compiler.starts_with(PINNED) {
        cases.compile_fail("tests/fail/*.rs");
    } else {
        // Written to stderr directly, because the test harness captures `eprintln!`.
        let notice = format!(
            "\nSKIPPED: tests/fail is pinned to {PINNED}x, and this is {compiler}; \
             no error message was checked\n\n"
        );
        let _ = std::io::stderr().write_all(notice.as_bytes());
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    match Command::new(&rustc).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("an unknown compiler ({error})"),
    }
}
