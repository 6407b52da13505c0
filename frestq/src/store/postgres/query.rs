//! Statements with their values.

use sqlx::{
    Encode, SqlSafeStr, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, types::Oid},
    query::Query,
};

use crate::model::statements::Param;

pub(super) type PgQuery<'q> = Query<'q, sqlx::Postgres, PgArguments>;

/// A statement with its values.
pub(in crate::store) fn query(
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Param>,
) -> PgQuery<'static> {
    values
        .into_iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Param::Null => query.bind(Untyped),
            Param::Integer(v) => query.bind(v),
            Param::Real(v) => query.bind(v),
            Param::Text(v) => query.bind(v),
            Param::Bytes(v) => query.bind(v),
            Param::Bool(v) => query.bind(v),
        })
}

/// `NULL`, of whatever type the server finds fit.
struct Untyped;

impl Type<sqlx::Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        // In the protocol, 0 leaves the type of a value open.
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, sqlx::Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// One value of every row.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// A letter for the type of each value.
pub(super) fn types(params: &[Param]) -> String {
    params
        .iter()
        .map(|param| match param {
            Param::Null => 'n',
            Param::Integer(_) => 'i',
            Param::Real(_) => 'r',
            Param::Text(_) => 't',
            Param::Bytes(_) => 'b',
            Param::Bool(_) => 'l',
        })
        .collect()
}
