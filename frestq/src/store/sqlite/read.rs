//! Reading beside the writer, and the rows of peers and nodes.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row, sqlite::SqliteRow};

use super::{
    super::{
        Due, Filter, Filters, OutboxState, PeerHealth, PeerRow, code, filter::role_flags, json,
        message_id, moment,
    },
    Sqlite,
};
use crate::{
    error::Result,
    model::{
        Direction, MessageRecord, NodeId, OutboxRow, PeerId, PeerUrl, Role, Status, TaskId,
        TaskKind, TaskRecord, null,
    },
};

impl Sqlite {
    pub(crate) async fn set_own_url(&self, url: &PeerUrl) -> Result<()> {
        sqlx::query("UPDATE peers SET url = ?1 WHERE id = 0")
            .bind(url.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn peers(&self) -> Result<Vec<PeerRow>> {
        let rows = sqlx::query(
            "SELECT id, url, extensions, failures, probe_at, last_error FROM peers ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(peer).collect()
    }

    pub(crate) async fn add_peer(&self, url: &PeerUrl) -> Result<PeerRow> {
        let row = sqlx::query(
            "INSERT INTO peers (url) VALUES (?1) ON CONFLICT (url) DO UPDATE SET url = excluded.url \
             RETURNING id, url, extensions, failures, probe_at, last_error",
        )
        .bind(url.as_str())
        .fetch_one(&self.pool)
        .await?;
        peer(&row)
    }

    pub(crate) async fn set_peer_health(&self, peer: PeerId, health: &PeerHealth) -> Result<()> {
        sqlx::query("UPDATE peers SET extensions = ?2, failures = ?3, probe_at = ?4, last_error = ?5 WHERE id = ?1")
            .bind(peer.0)
            .bind(health.extensions)
            .bind(health.failures)
            .bind(health.probe_at.map(|at| at.as_microsecond()))
            .bind(&health.last_error)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The file's lock says that no other process serves, so every earlier node is gone.
    pub(crate) async fn join(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        let (last,): (i64,) = sqlx::query_as("SELECT coalesce(max(id), 0) FROM (SELECT id FROM nodes UNION ALL SELECT max(owner) FROM tasks WHERE owner IS NOT NULL)")
            .fetch_one(&self.pool)
            .await?;
        sqlx::query("DELETE FROM nodes").execute(&self.pool).await?;
        sqlx::query(
            "INSERT INTO nodes (id, name, started_at, alive_until) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(last + 1)
        .bind(name)
        .bind(now.as_microsecond())
        .bind(i64::MAX)
        .execute(&self.pool)
        .await?;
        Ok(NodeId(last + 1))
    }

    /// The lease on an SQLite file is its lock, which the system holds for as long as we live.
    pub(crate) async fn heartbeat(&self, _node: NodeId) -> Result<bool> {
        Ok(true)
    }

    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        sqlx::query("DELETE FROM nodes WHERE id = ?1")
            .bind(node.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn orphans(
        &self,
        limit: i64,
    ) -> Result<Vec<(TaskId, NodeId, String, String)>> {
        let rows: Vec<(String, i64, String, String)> = sqlx::query_as(
            "SELECT id, owner, queue, action FROM tasks WHERE owner IS NOT NULL \
             AND owner NOT IN (SELECT id FROM nodes) LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, owner, queue, action)| (id.into(), NodeId(owner), queue, action))
            .collect())
    }

    pub(crate) async fn due(&self, now: Timestamp, limit: i64) -> Result<Due> {
        let at = now.as_microsecond();
        let expired: Vec<(String,)> = sqlx::query_as(
            "SELECT id FROM tasks WHERE status < 10 AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
        )
        .bind(at)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let ready: Vec<(String,)> = sqlx::query_as(
            "SELECT DISTINCT queue FROM tasks WHERE status = 0 AND role <> 0 AND run_at <= ?1",
        )
        .bind(at)
        .fetch_all(&self.pool)
        .await?;
        let (next,): (Option<i64>,) = sqlx::query_as(
            "SELECT min(at) FROM (\
             SELECT min(expires_at) AS at FROM tasks WHERE status < 10 AND expires_at > ?1 UNION ALL \
             SELECT min(run_at) FROM tasks WHERE status = 0 AND role <> 0 AND run_at > ?1)",
        )
        .bind(at)
        .fetch_one(&self.pool)
        .await?;
        Ok(Due {
            expired: expired.into_iter().map(|(id,)| id.into()).collect(),
            ready: ready.into_iter().map(|(queue,)| queue).collect(),
            next: next.map(moment).transpose()?,
        })
    }

    pub(crate) async fn open_tasks(&self) -> Result<Vec<(PeerId, i64)>> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT peer, count(*) FROM tasks WHERE status < 10 AND role = 1 GROUP BY peer",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(peer, count)| (PeerId(peer), count))
            .collect())
    }

    pub(crate) async fn pending(
        &self,
        peer: PeerId,
        after: i64,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxRow>> {
        let rows = sqlx::query(
            "SELECT seq, peer, message, queue, action, task, carries_task, body, expires_at, attempts, due_at, created_at \
             FROM outbox WHERE peer = ?1 AND state = 0 AND seq > ?2 AND due_at <= ?3 ORDER BY seq LIMIT ?4",
        )
        .bind(peer.0)
        .bind(after)
        .bind(now.as_microsecond())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OutboxRow {
                    seq: row.try_get(0)?,
                    peer: PeerId(row.try_get(1)?),
                    message: message_id(row.try_get(2)?),
                    queue: row.try_get::<String, _>(3)?.into(),
                    action: row.try_get::<String, _>(4)?.into(),
                    task: TaskId::from(row.try_get::<String, _>(5)?),
                    carries_task: row.try_get(6)?,
                    body: row.try_get::<String, _>(7)?.into(),
                    expires_at: row.try_get::<Option<i64>, _>(8)?.map(moment).transpose()?,
                    attempts: row.try_get(9)?,
                    due_at: moment(row.try_get(10)?)?,
                    created_at: moment(row.try_get(11)?)?,
                })
            })
            .collect()
    }

    pub(crate) async fn next_delivery(
        &self,
        peer: PeerId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let (next,): (Option<i64>,) = sqlx::query_as(
            "SELECT min(due_at) FROM outbox WHERE peer = ?1 AND state = 0 AND due_at > ?2",
        )
        .bind(peer.0)
        .bind(now.as_microsecond())
        .fetch_one(&self.pool)
        .await?;
        next.map(moment).transpose()
    }

    pub(crate) async fn backlog(&self) -> Result<Vec<(PeerId, Timestamp)>> {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT peer, min(due_at) FROM outbox WHERE state = 0 GROUP BY peer")
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter()
            .map(|(peer, due)| Ok((PeerId(peer), moment(due)?)))
            .collect()
    }

    pub(crate) async fn tasks(&self, filters: &Filters, limit: i64) -> Result<Vec<TaskRecord>> {
        let sql = format!(
            "SELECT t.id, t.kind, t.action, t.queue, t.status, t.label, t.role, p.url, s.url, t.created_at, t.modified_at, \
             t.input, t.output, t.pingback_at, t.expires_at, t.info, t.attempt, t.failures, t.run_at \
             FROM tasks t JOIN peers p ON p.id = t.peer JOIN peers s ON s.id = 0{} ORDER BY t.seq DESC LIMIT $1",
            filters.to_sql(2)
        );
        let rows = bind(sqlx::query(AssertSqlSafe(sql)).bind(limit), filters)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(task).collect()
    }

    pub(crate) async fn messages(
        &self,
        filters: &Filters,
        limit: i64,
    ) -> Result<Vec<MessageRecord>> {
        // Each side is cut to the limit on its own first, so that a long history costs nothing.
        let sql = format!(
            "SELECT m.message, m.is_received, m.action, m.queue, p.url, s.url, m.task, m.data, m.answer, m.at, \
             m.state, m.attempts, m.due_at, m.last_error FROM (\
             SELECT message, 1 AS is_received, action, queue, peer, task, \
             coalesce(data, (SELECT input FROM tasks WHERE id = task)) AS data, 200 AS answer, received_at AS at, \
             -1 AS state, 0 AS attempts, NULL AS due_at, NULL AS last_error FROM inbox UNION ALL \
             SELECT message, 0, action, queue, peer, task, body->'data', answer, created_at, \
             state, attempts, CASE WHEN state = 0 THEN due_at END, last_error FROM outbox) m \
             JOIN peers p ON p.id = m.peer JOIN peers s ON s.id = 0{} ORDER BY m.at DESC LIMIT $1",
            filters.to_sql(2)
        );
        let rows = bind(sqlx::query(AssertSqlSafe(sql)).bind(limit), filters)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(message).collect()
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind<'q>(mut query: Query<'q>, filters: &Filters) -> Query<'q> {
    for filter in &filters.0 {
        query = match filter {
            Filter::Text { value, .. } | Filter::Prefix { value, .. } => query.bind(value.clone()),
            Filter::Number { value, .. } => query.bind(*value),
        };
    }
    query
}

fn peer(row: &SqliteRow) -> Result<PeerRow> {
    Ok(PeerRow {
        id: PeerId(row.try_get(0)?),
        url: PeerUrl::trusted(row.try_get(1)?),
        health: PeerHealth {
            extensions: row.try_get(2)?,
            failures: row.try_get(3)?,
            probe_at: row.try_get::<Option<i64>, _>(4)?.map(moment).transpose()?,
            last_error: row.try_get(5)?,
        },
    })
}

fn task(row: &SqliteRow) -> Result<TaskRecord> {
    let at = |index| -> Result<Option<Timestamp>> {
        row.try_get::<Option<i64>, _>(index)?
            .map(moment)
            .transpose()
    };
    let (kind, status, role) = (row.try_get(1)?, row.try_get(4)?, row.try_get(6)?);
    let role = code(Role::from_code(role), "role", role)?;
    let (is_received, is_local) = role_flags(role);
    let (peer, here) = (
        PeerUrl::trusted(row.try_get(7)?),
        PeerUrl::trusted(row.try_get(8)?),
    );
    let (sender_url, receiver_url) = match role {
        Role::Sent => (here, peer),
        Role::Received => (peer, here),
        Role::Local => (here.clone(), here),
    };
    Ok(TaskRecord {
        id: TaskId::from(row.try_get::<String, _>(0)?),
        task_type: code(TaskKind::from_code(kind), "kind", kind)?,
        action: row.try_get(2)?,
        queue_name: row.try_get(3)?,
        status: code(Status::from_code(status), "status", status)?,
        label: row.try_get(5)?,
        order: None,
        parent_id: None,
        sender_url,
        receiver_url,
        is_received,
        is_local,
        created_date: moment(row.try_get(9)?)?,
        last_modified_date: moment(row.try_get(10)?)?,
        input_data: json(row.try_get(11)?)?,
        output_data: json(row.try_get(12)?)?,
        reservation_data: null(),
        pingback_date: at(13)?,
        expiration_date: at(14)?,
        info: row.try_get(15)?,
        attempt: row.try_get(16)?,
        failures: row.try_get(17)?,
        run_date: at(18)?,
    })
}

fn message(row: &SqliteRow) -> Result<MessageRecord> {
    let is_received: bool = row.try_get(1)?;
    let (peer, here) = (
        PeerUrl::trusted(row.try_get(4)?),
        PeerUrl::trusted(row.try_get(5)?),
    );
    let (sender_url, receiver_url) = if is_received {
        (peer, here)
    } else {
        (here, peer)
    };
    Ok(MessageRecord {
        id: message_id(row.try_get(0)?),
        direction: if is_received {
            Direction::In
        } else {
            Direction::Out
        },
        action: row.try_get(2)?,
        queue_name: row.try_get(3)?,
        sender_url,
        receiver_url,
        is_received,
        task_id: row.try_get::<Option<String>, _>(6)?.map(TaskId::from),
        input_data: json(row.try_get(7)?)?,
        output_status: row.try_get(8)?,
        created_date: moment(row.try_get(9)?)?,
        state: OutboxState::word(row.try_get(10)?).to_owned(),
        attempts: row.try_get(11)?,
        next_attempt_date: row.try_get::<Option<i64>, _>(12)?.map(moment).transpose()?,
        last_error: row.try_get(13)?,
    })
}
