//! Statements with their values.

use sqlx::{SqlSafeStr, sqlite::SqliteArguments};

use crate::model::statements::Param;

/// A statement with its values.
pub(super) fn query(
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Param>,
) -> sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments> {
    values
        .into_iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Param::Null => query.bind(None::<i64>),
            Param::Integer(v) => query.bind(v),
            Param::Real(v) => query.bind(v),
            Param::Text(v) => query.bind(v),
            Param::Bytes(v) => query.bind(v),
            Param::Bool(v) => query.bind(v),
        })
}
