//! The peers that are registered in the database: the same statements on both.

use super::{Store, rows};
use crate::model::{PeerRegistration, PeerUrl, error::Result};

impl Store {
    /// All of them, by name.
    pub(crate) async fn registrations(&self) -> Result<Vec<PeerRegistration>> {
        const SQL: &str =
            "SELECT name, url, certificates, ca, allow, private FROM registrations ORDER BY name";
        self.fetch(SQL, Vec::new(), registration).await
    }

    /// Writes a registration, in the place of an earlier one of its name, and tells the other
    /// processes.
    pub(crate) async fn register(&self, row: &PeerRegistration) -> Result<()> {
        const SQL: &str = "INSERT INTO registrations (name, url, certificates, ca, allow, private) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (name) DO UPDATE SET url = excluded.url, certificates = excluded.certificates, \
             ca = excluded.ca, allow = excluded.allow, private = excluded.private";
        let values = vec![
            row.name.as_str().into(),
            row.url.as_str().into(),
            serde_json::to_string(&row.certificates)?.into(),
            row.ca.as_deref().into(),
            serde_json::to_string(&row.allow)?.into(),
            i64::from(row.private).into(),
        ];
        self.fetch(SQL, values, |_| Ok(())).await?;
        self.tell_of_members().await;
        Ok(())
    }

    /// Removes a registration, and tells the other processes; `false`: there is none of this name.
    pub(crate) async fn unregister(&self, name: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM registrations WHERE name = $1 RETURNING name";
        let gone = self.fetch(SQL, vec![name.into()], |_| Ok(())).await?;
        self.tell_of_members().await;
        Ok(!gone.is_empty())
    }

    async fn tell_of_members(&self) {
        let told = match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(store) => store.tell_of_members().await,
        };
        if let Err(error) = told {
            // They look by themselves, only later.
            tracing::warn!(%error, "the other processes could not be told of a change of peers");
        }
    }
}

fn registration(row: &rows::Row) -> Result<PeerRegistration> {
    Ok(PeerRegistration {
        name: row.get(0)?,
        url: PeerUrl::trusted(row.get(1)?),
        certificates: serde_json::from_str(&row.get::<String>(2)?)?,
        ca: row.get(3)?,
        allow: serde_json::from_str(&row.get::<String>(4)?)?,
        private: row.get::<i64>(5)? != 0,
    })
}
