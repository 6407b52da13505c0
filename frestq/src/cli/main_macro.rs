//! `frestq::main!`.

/// Defines the `main` function of a peer: configuration, logging, command line, routes, workers,
/// graceful shutdown.
///
/// `frestq::main!();` serves the handlers of the binary with the defaults. A closure adds what is
/// specific to this peer:
///
/// ```no_run
/// use frestq::prelude::*;
///
/// async fn health() -> &'static str {
///     "well"
/// }
///
/// frestq::main!(|app| app.route("/health", get(health)).state(42_u64));
/// ```
#[macro_export]
macro_rules! main {
    () => {
        fn main() -> ::std::process::ExitCode {
            $crate::App::new().run()
        }
    };
    ($configure:expr $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            let configure: fn($crate::App) -> $crate::App = $configure;
            configure($crate::App::new()).run()
        }
    };
}
