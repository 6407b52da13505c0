//! The name of a director, with which a group refers to it.

/// A director with the name under which it is registered.
///
/// It is implemented by [`#[frestq::director]`](macro@crate::director). `()` stands for no
/// director.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a director of synchronized groups",
    note = "register it: #[frestq::director(name = \"...\")] impl Director for ...",
    note = "a group without a director is a `Synchronized::<()>`"
)]
pub trait NamedDirector {
    /// The name, unique on its peer.
    const NAME: &'static str;
}

impl NamedDirector for () {
    const NAME: &'static str = "";
}
