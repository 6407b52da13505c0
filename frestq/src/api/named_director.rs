//! The name of a director, by which a group says who directs it.

/// A director with the name it is registered under; `()` directs nothing. Implemented by
/// [`#[frestq::director]`](macro@crate::director).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no director of a synchronized group",
    note = "register it: #[frestq::director(name = \"...\")] impl Director for ...",
    note = "a group that nobody directs is a `Synchronized::<()>`"
)]
pub trait NamedDirector {
    /// Its name, unique on its peer.
    const NAME: &'static str;
}

impl NamedDirector for () {
    const NAME: &'static str = "";
}
