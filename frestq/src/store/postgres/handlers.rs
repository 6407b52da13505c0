//! A handler's own statements, in a savepoint of the transaction that completes its task.

use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;

use super::{
    query::{query, types},
    write::PgWriter,
};
use crate::model::{error::Result, statements::Transaction};
use crate::store::{
    error::{driver_error, is_transient},
    handlers::{Ran, StatementFailure, too_slow},
};

/// How much of its time a handler may use before the server's statement timeout is lowered.
const SPENT: Duration = Duration::from_millis(100);

/// The server's code of a statement that was canceled.
const CANCELED: &str = "57014";

/// Limits the statements of a transaction; less than a millisecond would be no limit at all.
fn limited(longest: Duration) -> String {
    let milliseconds = longest.as_millis().clamp(1, i32::MAX as u128);
    format!("SET LOCAL statement_timeout = {milliseconds}")
}

impl PgWriter {
    pub(crate) async fn run(
        &mut self,
        transaction: &Transaction,
        longest: Duration,
    ) -> Result<Ran> {
        let start = Instant::now();
        let mut limit = longest;
        self.script(&format!("SAVEPOINT handler; {}", limited(limit)))
            .await?;
        for (sql, params) in &transaction.statements {
            let left = longest.saturating_sub(start.elapsed());
            if left.is_zero() {
                return self.failed(too_slow(longest)).await;
            }
            if limit.saturating_sub(left) > SPENT {
                // So that all statements together have no more time than one alone.
                limit = left;
                self.script(&limited(limit)).await?;
            }
            // Prepared statements are kept by their text, but are made for the types of their
            // values: so the types belong to the text.
            let sql = format!("{sql}\n/* {} */", types(params));
            let query = query(AssertSqlSafe(sql), params.iter().cloned());
            let Err(error) = self.fetch(query).await else {
                continue;
            };
            let why = match driver_error(&error) {
                Some(sqlx::Error::Database(why))
                    if why.code().as_deref() == Some(CANCELED) && start.elapsed() >= longest =>
                {
                    too_slow(longest)
                }
                // The handler's own mistake; so is a row of its tables that is there already.
                Some(sqlx::Error::Database(why))
                    if !is_transient(&error) && !is_the_servers_trouble(why.code().as_deref()) =>
                {
                    StatementFailure::Refused(why.to_string())
                }
                // A value that can't be sent.
                Some(sqlx::Error::Encode(why)) => StatementFailure::Refused(why.to_string()),
                _ => return Err(error),
            };
            return self.failed(why).await;
        }
        self.script("RELEASE handler; SET LOCAL statement_timeout TO DEFAULT")
            .await?;
        Ok(Ran::Done)
    }

    /// Undoes all that a handler did, and the limit of its time with it; what came before it is
    /// sound.
    async fn failed(&mut self, why: StatementFailure) -> Result<Ran> {
        self.sound = true;
        self.script("ROLLBACK TO handler; RELEASE handler").await?;
        Ok(Ran::Failed(why))
    }
}

/// Whether it was for want of room or memory, a damaged disk, or the server's end.
fn is_the_servers_trouble(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        ["08", "53", "57P", "58", "XX"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}
