//! The same call on either database.

macro_rules! on_either {
    ($value:expr, $inner:ident => $call:expr) => {
        match $value {
            Self::Sqlite($inner) => $call,
            Self::Postgres($inner) => $call,
        }
    };
}
pub(super) use on_either;
