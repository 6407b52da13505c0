//! `frestq::main!`.

/// Makes the binary of a peer: configuration, logging, the command line, the routes, the workers,
/// graceful shutdown.
///
/// `frestq::main!();` alone serves the handlers of the binary on the defaults. A closure adds what is
/// the peer's own:
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
