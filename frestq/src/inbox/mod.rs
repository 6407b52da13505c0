//! The inbox: authenticates, decodes, authorises, admits, commits and answers each request.
//!
//! May import `services` and what is above it. Nothing that is rejected is stored.

mod authenticate;
mod decode;
mod receive;
mod response;
mod routes;
mod sender;

pub(crate) use routes::routes;
