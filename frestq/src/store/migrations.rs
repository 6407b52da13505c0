//! The schemas of both databases, embedded in the binary. A new migration is a file a database, and a
//! line below for each.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The table of applied migrations: not sqlx's usual one, which belongs to the application, whose
/// tables may be in the same database.
const TABLE: &str = "_frestq_migrations";

/// Which migrations a database has.
pub(super) const APPLIED: &str = "SELECT version FROM _frestq_migrations WHERE success";

/// For SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator(&[(
        "peer",
        include_str!("../../migrations/sqlite/0001_peer.sql"),
    )])
}

/// For Postgres.
pub(super) fn postgres() -> Migrator {
    migrator(&[(
        "peer",
        include_str!("../../migrations/postgres/0001_peer.sql"),
    )])
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
