//! The schemas of both databases, embedded in the binary, and what opening a database is for.
//!
//! A new migration is a file a database, and a line below for each.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// What opening a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// `--createdb`: make what is missing.
    Create,
    /// Serve: an up-to-date database that no other process serves (SQLite).
    Serve,
    /// The command line: read only.
    Look,
}

/// The table of applied migrations: not sqlx's usual one, which belongs to the application, whose
/// tables may be in the same database.
const TABLE: &str = "_frestq_migrations";

/// Which migrations a database has.
pub(super) const APPLIED: &str = "SELECT version FROM _frestq_migrations WHERE success";

/// For SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator(&[
        (
            "peer",
            include_str!("../../migrations/sqlite/0001_peer.sql"),
        ),
        (
            "trace",
            include_str!("../../migrations/sqlite/0002_trace.sql"),
        ),
    ])
}

/// For Postgres.
pub(super) fn postgres() -> Migrator {
    migrator(&[
        (
            "peer",
            include_str!("../../migrations/postgres/0001_peer.sql"),
        ),
        (
            "trace",
            include_str!("../../migrations/postgres/0002_trace.sql"),
        ),
    ])
}

/// Numbered from 1, in order.
fn migrator(all: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = (1..).zip(all).map(|(version, (name, sql))| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, (*name).into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// Whether the database has just the migrations of this version; if not, what to do. To create is
/// to add what is missing.
pub(super) fn check_migrations(
    ours: &Migrator,
    applied: &[(i64,)],
    purpose: OpenMode,
) -> Result<(), String> {
    let have = applied.iter().map(|v| v.0).max().unwrap_or(0);
    let want = ours.iter().map(|m| m.version).max().unwrap_or(0);
    match have.cmp(&want) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less if purpose == OpenMode::Create => Ok(()),
        std::cmp::Ordering::Less if have == 0 => {
            Err("it has no tables of frestq yet; run this binary with --createdb".into())
        }
        std::cmp::Ordering::Less => Err(format!(
            "its tables are of version {have}, this binary needs {want}; run this binary with --createdb, which keeps the data"
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "its tables are of version {have}, this binary knows {want}; run the newer binary that made them"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_databases_have_never_changes() {
        let checksums = |migrator: &Migrator| -> Vec<String> {
            let first_bytes =
                |m: &Migration| m.checksum[..8].iter().map(|b| format!("{b:02x}")).collect();
            migrator.iter().map(first_bytes).collect()
        };
        assert_eq!(checksums(&sqlite())[0], "24d718584281bcf2");
        assert_eq!(checksums(&postgres())[0], "4ed541887f566c76");
    }
}
