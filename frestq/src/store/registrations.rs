//! The peers that are registered in the database: the same statements on both.

use super::{
    database::Store,
    either::on_either,
    fields::{Fields, Row},
    writer::Writer,
};
use crate::model::{PeerChange, PeerRegistration, PeerUrl, error::Result};

impl Store {
    /// All of them, by name.
    pub(crate) async fn registrations(&self) -> Result<Vec<PeerRegistration>> {
        const SQL: &str =
            "SELECT name, url, certificates, ca, allow, private FROM registrations ORDER BY name";
        self.fetch(SQL, Vec::new(), registration).await
    }

    /// Tells the other processes of this peer that registrations have changed.
    pub(crate) async fn tell_of_members(&self) {
        let told: Result<()> = on_either!(
            self,
            sqlite(_) => Ok(()),
            postgres(store) => store.tell_of_members().await,
        );
        if let Err(error) = told {
            // They look by themselves, only later.
            tracing::warn!(%error, "the other processes could not be told of a change of peers");
        }
    }
}

impl Writer {
    /// Changes the registrations, in the open transaction. `false`: there was nothing to remove.
    pub(crate) async fn change_peers(&mut self, change: &PeerChange) -> Result<bool> {
        const ADD: &str = "INSERT INTO registrations (name, url, certificates, ca, allow, private) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (name) DO UPDATE SET url = excluded.url, certificates = excluded.certificates, \
             ca = excluded.ca, allow = excluded.allow, private = excluded.private RETURNING name";
        const REMOVE: &str = "DELETE FROM registrations WHERE name = $1 RETURNING name";
        let (sql, values) = match change {
            PeerChange::Add(row) => (
                ADD,
                vec![
                    row.name.as_str().into(),
                    row.url.as_str().into(),
                    serde_json::to_string(&row.certificates)?.into(),
                    row.ca.as_deref().into(),
                    serde_json::to_string(&row.allow)?.into(),
                    i64::from(row.private).into(),
                ],
            ),
            PeerChange::Remove(name) => (REMOVE, vec![name.as_str().into()]),
        };
        let changed = on_either!(
            self,
            sqlite(writer) => !writer.fetch(sql, values).await?.is_empty(),
            postgres(writer) => !writer.fetch(super::postgres::query(sql, values)).await?.is_empty(),
        );
        Ok(changed)
    }
}

fn registration(row: &Row) -> Result<PeerRegistration> {
    let row = &mut Fields::of("registrations", row);
    Ok(PeerRegistration {
        name: row.get()?,
        url: PeerUrl::trusted(row.get()?),
        certificates: row.parsed()?,
        ca: row.get()?,
        allow: row.parsed()?,
        private: row.flag()?,
    })
}
