//! The same call on either database, or one on each. A feature that is off leaves its database
//! out.

macro_rules! on_either {
    ($value:expr, $inner:ident => $call:expr) => {
        on_either!($value, sqlite($inner) => $call, postgres($inner) => $call)
    };
    (
        $value:expr,
        sqlite($sqlite:pat) => $on_sqlite:expr,
        postgres($postgres:pat) => $on_postgres:expr $(,)?
    ) => {
        match $value {
            #[cfg(feature = "sqlite")]
            Self::Sqlite($sqlite) => $on_sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres($postgres) => $on_postgres,
        }
    };
}
pub(super) use on_either;
