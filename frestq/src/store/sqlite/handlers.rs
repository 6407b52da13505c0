//! A handler's own statements, in a savepoint of the transaction that completes its task.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::{query::query, write::SqliteWriter};
use crate::model::{
    error::Result,
    statements::{Param, Transaction},
};
use crate::store::handlers::{Ran, StatementFailure, too_slow};

impl SqliteWriter {
    pub(crate) async fn run(
        &mut self,
        transaction: &Transaction,
        longest: Duration,
    ) -> Result<Ran> {
        self.fetch("SAVEPOINT handler", vec![]).await?;
        self.limit.begin(longest);
        let ran = self.run_each(&transaction.statements).await;
        let too_long = self.limit.is_over();
        self.limit.end();
        let Err(error) = ran else {
            sqlx::query("RELEASE handler")
                .execute(&mut self.connection)
                .await?;
            return Ok(Ran::Done);
        };
        if !is_the_statements_own(&error) {
            return Err(error.into());
        }
        let why = match too_long && has_code(&error, INTERRUPTED) {
            true => too_slow(longest),
            false => StatementFailure::Refused(error.to_string()),
        };
        let undone = sqlx::raw_sql("ROLLBACK TO handler; RELEASE handler")
            .execute(&mut self.connection)
            .await;
        match undone {
            Ok(_) => Ok(Ran::Failed(why)),
            // One that was interrupted while it wrote takes the whole transaction with it.
            Err(_) if too_long => {
                self.open = false;
                Ok(Ran::Undone(why))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn run_each(&mut self, statements: &[(String, Vec<Param>)]) -> sqlx::Result<()> {
        for (sql, params) in statements {
            let query = query(AssertSqlSafe(sql.as_str()), params.iter().cloned());
            query.execute(&mut self.connection).await?;
        }
        Ok(())
    }
}

/// SQLite's code of a statement that was interrupted.
const INTERRUPTED: i32 = 9;

fn has_code(error: &sqlx::Error, code: i32) -> bool {
    let found = error.as_database_error().and_then(|error| error.code());
    found.is_some_and(|found| found.parse() == Ok(code))
}

/// Whether a statement failed by its own fault, and not for want of room, memory or a sound disk.
fn is_the_statements_own(error: &sqlx::Error) -> bool {
    const TROUBLES: [i32; 8] = [
        5,  // busy
        6,  // locked
        7,  // out of memory
        10, // the disk failed
        11, // the file is damaged
        13, // the disk is full
        14, // a file can't be opened
        26, // not a database
    ];
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            code.is_none_or(|code| !TROUBLES.contains(&(code & 0xff)))
        }
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}
