//! Rows of either database, read column by column.

use jiff::Timestamp;
use sqlx::{Column as _, Decode, Row as _, Type};

use super::either::on_either;
use crate::model::{
    Fingerprint, Json,
    error::{Error, Result},
    null,
};

/// A row of either database.
pub(super) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

/// The rows of one database, and the types that its columns can hold.
macro_rules! database {
    ($feature:literal, $database:ident, $row:ty, $column:ident) => {
        #[cfg(feature = $feature)]
        impl From<$row> for Row {
            fn from(row: $row) -> Self {
                Self::$database(row)
            }
        }

        #[cfg(feature = $feature)]
        pub(super) trait $column:
            for<'r> Decode<'r, sqlx::$database> + Type<sqlx::$database>
        {
        }

        #[cfg(feature = $feature)]
        impl<T> $column for T where
            T: for<'r> Decode<'r, sqlx::$database> + Type<sqlx::$database>
        {
        }

        #[cfg(not(feature = $feature))]
        pub(super) trait $column {}

        #[cfg(not(feature = $feature))]
        impl<T> $column for T {}
    };
}

database!("sqlite", Sqlite, sqlx::sqlite::SqliteRow, SqliteColumn);
database!("postgres", Postgres, sqlx::postgres::PgRow, PgColumn);

/// What a column of either database can hold.
pub(super) trait Column: SqliteColumn + PgColumn {}

impl<T: SqliteColumn + PgColumn> Column for T {}

impl Row {
    pub(super) fn get<T: Column>(&self, index: usize) -> Result<T> {
        let value = on_either!(
            self,
            sqlite(row) => row.try_get(index),
            postgres(row) => row.try_get(index),
        );
        value.map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => self.corrupt("a row", index, &source),
            other => other.into(),
        })
    }

    fn corrupt(&self, table: &str, index: usize, why: &dyn std::fmt::Display) -> Error {
        let name = on_either!(
            self,
            sqlite(row) => row.columns().get(index).map(|column| column.name()),
            postgres(row) => row.columns().get(index).map(|column| column.name()),
        );
        let column = name.unwrap_or("?");
        Error::Corrupt {
            what: format!("{table}, column `{column}`"),
            why: why.to_string(),
        }
    }
}

/// The columns of a row, one after the other.
pub(super) struct Fields<'r> {
    table: &'static str,
    row: &'r Row,
    next: usize,
}

impl<'r> Fields<'r> {
    /// Begins with the first column. `table` is where the row comes from, for errors.
    pub(super) fn of(table: &'static str, row: &'r Row) -> Self {
        Self {
            table,
            row,
            next: 0,
        }
    }

    /// The next column.
    pub(super) fn get<T: Column>(&mut self) -> Result<T> {
        let index = self.next;
        self.next += 1;
        self.row.get(index).map_err(|error| match error {
            Error::Corrupt { what, why } => Error::Corrupt {
                what: what.replacen("a row", &format!("table {}", self.table), 1),
                why,
            },
            other => other,
        })
    }

    /// Whether the next column is not 0.
    pub(super) fn flag(&mut self) -> Result<bool> {
        Ok(self.get::<i64>()? != 0)
    }

    pub(super) fn text<T: From<String>>(&mut self) -> Result<T> {
        self.get::<String>().map(T::from)
    }

    pub(super) fn text_if_any<T: From<String>>(&mut self) -> Result<Option<T>> {
        Ok(self.get::<Option<String>>()?.map(T::from))
    }

    pub(super) fn number<T>(&mut self, of: impl FnOnce(i64) -> T) -> Result<T> {
        self.get::<i64>().map(of)
    }

    pub(super) fn number_if_any<T>(&mut self, of: fn(i64) -> T) -> Result<Option<T>> {
        Ok(self.get::<Option<i64>>()?.map(of))
    }

    pub(super) fn at(&mut self) -> Result<Timestamp> {
        let microseconds = self.get()?;
        self.moment(microseconds)
    }

    pub(super) fn at_if_any(&mut self) -> Result<Option<Timestamp>> {
        let microseconds = self.get::<Option<i64>>()?;
        microseconds.map(|at| self.moment(at)).transpose()
    }

    /// A moment as the databases keep it.
    fn moment(&self, microseconds: i64) -> Result<Timestamp> {
        Timestamp::from_microsecond(microseconds)
            .map_err(|_| self.corrupt(&format_args!("{microseconds} is out of range of dates")))
    }

    /// JSON that we wrote; `null` where there is none.
    pub(super) fn json(&mut self) -> Result<Json> {
        Ok(self.json_if_any()?.unwrap_or_else(null))
    }

    pub(super) fn json_if_any(&mut self) -> Result<Option<Json>> {
        let text = self.get::<Option<String>>()?;
        text.map(serde_json::value::RawValue::from_string)
            .transpose()
            .map_err(|error| self.corrupt(&error))
    }

    /// JSON that we wrote, as the value that it was.
    pub(super) fn parsed<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.get::<String>()?;
        serde_json::from_str(&text).map_err(|error| self.corrupt(&error))
    }

    pub(super) fn fingerprint(&mut self) -> Result<Option<Fingerprint>> {
        let bytes: Option<Vec<u8>> = self.get()?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        // A pin that can't be read must not become none.
        let read = Fingerprint::from_bytes(&bytes).map(Some);
        read.ok_or_else(|| self.corrupt(&"not the fingerprint of a certificate"))
    }

    /// One of an enum's codes.
    pub(super) fn code<T>(&mut self, read: fn(i64) -> Option<T>) -> Result<T> {
        let code = self.get()?;
        read(code).ok_or_else(|| {
            self.corrupt(&format_args!(
                "unknown code {code}; was it written by a newer version?"
            ))
        })
    }

    /// An error about the column that was read last.
    fn corrupt(&self, why: &dyn std::fmt::Display) -> Error {
        let table = format!("table {}", self.table);
        self.row.corrupt(&table, self.next.saturating_sub(1), why)
    }
}
