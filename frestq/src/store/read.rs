//! Reading beside the writer, and the rows of peers: the same statements on both databases.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{
    database::Store,
    due::Due,
    either::on_either,
    fields::{Fields, Row},
    filter::{Filter, Filters, TASK_FIELDS},
    loads::Waiting,
    peer_rows::{Contact, PeerHealth, PeerRow},
    rows::{self, OUTBOX, PEER},
    sql::{ACCEPTED, ENDED, LOCAL, NO_MOMENT, OURSELVES, PENDING, RECEIVED, SEQUENTIAL, sql},
    task_columns::{NEW, STATE},
    text::printable,
};
use crate::model::{
    InboxKey, MessageRecord, NewTask, NodeId, OutboxRow, PeerId, PeerUrl, TaskId, TaskRecord,
    TaskState, error::Result, statements::Param,
};

impl Store {
    /// Runs a statement and reads each of its rows.
    pub(super) async fn fetch<T>(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Param>,
        read: fn(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let sql = sql.into_sql_str();
        let rows = on_either!(
            self,
            sqlite(store) => store.fetch(sql, values).await?,
            postgres(store) => store.fetch(sql, values).await?,
        );
        rows.iter().map(read).collect()
    }

    /// Writes down this peer's own address, in row 0 of the peers.
    pub(crate) async fn set_own_url(&self, url: &PeerUrl) -> Result<()> {
        self.set_peer(PeerId::SELF, None, url.as_str()).await
    }

    /// Every known peer.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerRow>> {
        let sql = sql!("SELECT {PEER} FROM peers ORDER BY id");
        self.fetch(sql, Vec::new(), rows::peer).await
    }

    /// The row of the peer with this address, made if there is none.
    pub(crate) async fn add_peer(&self, url: &PeerUrl) -> Result<PeerRow> {
        let sql = sql!(
            "INSERT INTO peers (url) VALUES ($1) ON CONFLICT (url) DO UPDATE SET url = excluded.url RETURNING {PEER}"
        );
        let mut rows = self
            .fetch(sql, vec![url.as_str().into()], rows::peer)
            .await?;
        Ok(rows.pop().ok_or(sqlx::Error::RowNotFound)?)
    }

    /// Gives a peer's row another name and address; the one before is kept, unless that was none.
    pub(crate) async fn set_peer(&self, id: PeerId, name: Option<&str>, url: &str) -> Result<()> {
        const SQL: &str = "UPDATE peers SET former_url = CASE WHEN url IN ('', $3) OR url LIKE 'moving:%' THEN former_url ELSE url END, \
             name = $2, url = $3 WHERE id = $1";
        let values = vec![id.0.into(), name.into(), url.into()];
        self.fetch(SQL, values, |_| Ok(())).await?;
        Ok(())
    }

    /// Writes down when a peer and we last heard of each other, unless another process knows
    /// better.
    pub(crate) async fn set_contact(&self, peer: PeerId, contact: Contact) -> Result<()> {
        const SQL: &str = "UPDATE peers SET heard_at = CASE WHEN heard_at > $2 THEN heard_at ELSE coalesce($2, heard_at) END, \
             answered_at = CASE WHEN answered_at > $3 THEN answered_at ELSE coalesce($3, answered_at) END WHERE id = $1";
        let micros = |at: Option<Timestamp>| at.map(|at| at.as_microsecond());
        let values = vec![
            peer.0.into(),
            micros(contact.heard).into(),
            micros(contact.answered).into(),
        ];
        self.fetch(SQL, values, |_| Ok(())).await?;
        Ok(())
    }

    pub(crate) async fn set_peer_health(&self, peer: PeerId, health: &PeerHealth) -> Result<()> {
        const SQL: &str = "UPDATE peers SET extensions = $2, failures = $3, probe_at = $4, last_error = $5 WHERE id = $1";
        let values = vec![
            peer.0.into(),
            health.extensions.into(),
            health.failures.into(),
            health.probe_at.map(|at| at.as_microsecond()).into(),
            health.last_error.as_deref().map(printable).into(),
        ];
        self.fetch(SQL, values, |_| Ok(())).await?;
        Ok(())
    }

    /// Running tasks whose process is gone, up to `limit`: id, owner, queue, action.
    ///
    /// A process whose lease has expired is removed here. From then on its own
    /// [`Store::heartbeat`] returns `false` too, so that all processes agree that it is dead.
    pub(crate) async fn orphans(
        &self,
        limit: i64,
    ) -> Result<Vec<(TaskId, NodeId, String, String)>> {
        const SQL: &str = "SELECT id, owner, queue, action FROM tasks WHERE owner IS NOT NULL \
             AND owner NOT IN (SELECT id FROM nodes) LIMIT $1";
        on_either!(
            self,
            // The file's lock says that no other process serves.
            sqlite(_) => {},
            postgres(store) => store.bury().await?,
        );
        self.fetch(SQL, vec![limit.into()], rows::orphan).await
    }

    /// What is due by now, and when to look again.
    pub(crate) async fn due(&self, now: Timestamp, limit: i64) -> Result<Due> {
        let expired = sql!(
            "SELECT id FROM tasks WHERE status < {ENDED} AND expires_at <= $1 ORDER BY expires_at LIMIT $2"
        );
        let ready = sql!(
            "SELECT DISTINCT queue FROM tasks WHERE moment <> {NO_MOMENT} AND owner IS NULL AND run_at <= $1 ORDER BY queue"
        );
        let waking = sql!("SELECT id FROM tasks WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2");
        let next = sql!(
            "SELECT min(n.at) FROM (\
             SELECT min(expires_at) AS at FROM tasks WHERE status < {ENDED} AND expires_at > $1 UNION ALL \
             SELECT min(wake_at) FROM tasks WHERE wake_at > $1 UNION ALL \
             SELECT min(run_at) FROM tasks WHERE moment <> {NO_MOMENT} AND owner IS NULL AND run_at > $1) n"
        );
        let at = now.as_microsecond();
        Ok(Due {
            expired: self
                .fetch(expired, vec![at.into(), limit.into()], |row| {
                    Ok(TaskId::from(row.get::<String>(0)?))
                })
                .await?,
            waking: self
                .fetch(waking, vec![at.into(), limit.into()], |row| {
                    Ok(TaskId::from(row.get::<String>(0)?))
                })
                .await?,
            ready: self.fetch(ready, vec![at.into()], |row| row.get(0)).await?,
            next: self
                .fetch(next, vec![at.into()], rows::next)
                .await?
                .pop()
                .flatten(),
        })
    }

    /// What a node runs as the rows say.
    pub(crate) async fn owned(&self, node: NodeId) -> Result<Vec<Waiting>> {
        let sql = sql!(
            "SELECT {STATE}, t.input, t.output, t.reservation FROM tasks t WHERE t.owner = $1 ORDER BY t.seq"
        );
        self.fetch(sql, vec![node.0.into()], rows::waiting).await
    }

    /// The children of a task, in order, with what the engine and their handlers know of them.
    pub(crate) async fn family(&self, parent: &TaskId) -> Result<Vec<Waiting>> {
        let sql = sql!(
            "SELECT {STATE}, t.input, t.output, t.reservation FROM tasks t WHERE t.parent = $1 ORDER BY t.ord"
        );
        self.fetch(sql, vec![parent.as_str().into()], rows::waiting)
            .await
    }

    /// How many received tasks have not ended, by peer.
    pub(crate) async fn open_tasks(&self) -> Result<Vec<(PeerId, i64)>> {
        let sql = sql!(
            "SELECT peer, count(*) FROM tasks WHERE status < {ENDED} AND role = {RECEIVED} GROUP BY peer ORDER BY peer"
        );
        self.fetch(sql, Vec::new(), rows::count).await
    }

    /// Messages for `peer` that are due, in order, after a place in the outbox.
    ///
    /// Where several processes write, places become visible out of order: an earlier one may turn
    /// up later. So `after` serves to read on within one pass; the next pass starts from 0.
    pub(crate) async fn pending(
        &self,
        peer: PeerId,
        after: i64,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxRow>> {
        let sql = sql!(
            "SELECT {OUTBOX}, o.carries_task AND coalesce(t.status >= {ENDED}, false) \
             FROM outbox o LEFT JOIN tasks t ON t.id = o.task \
             WHERE o.peer = $1 AND o.state = {PENDING} AND o.seq > $2 AND o.due_at <= $3 ORDER BY o.seq LIMIT $4"
        );
        let values = vec![
            peer.0.into(),
            after.into(),
            now.as_microsecond().into(),
            limit.into(),
        ];
        self.fetch(sql, values, rows::outbox).await
    }

    /// The hash of a message, if it was accepted.
    pub(crate) async fn accepted(&self, key: &InboxKey) -> Result<Option<[u8; 16]>> {
        const SQL: &str = "SELECT peer, message, hash FROM inbox WHERE peer = $1 AND message = $2";
        let values = vec![key.peer.0.into(), key.message.as_str().into()];
        let found = self
            .fetch(SQL, values, |row| {
                rows::accepted(&mut Fields::of("inbox", row))
            })
            .await?;
        Ok(found.into_iter().next().map(|(_, hash)| hash))
    }

    /// Peers with pending messages, each with the moment its first one is due.
    pub(crate) async fn backlog(&self) -> Result<Vec<(PeerId, Timestamp)>> {
        let sql = sql!(
            "SELECT peer, min(due_at) FROM outbox WHERE state = {PENDING} GROUP BY peer ORDER BY peer"
        );
        self.fetch(sql, Vec::new(), rows::backlog).await
    }

    /// How many messages wait for each peer that any wait for.
    pub(crate) async fn waiting_messages(&self) -> Result<Vec<(PeerId, i64)>> {
        let sql = sql!(
            "SELECT peer, count(*) FROM outbox WHERE state = {PENDING} GROUP BY peer ORDER BY peer"
        );
        self.fetch(sql, Vec::new(), rows::count).await
    }

    /// When the next message for `peer` is due after `now`.
    pub(crate) async fn next_delivery(
        &self,
        peer: PeerId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let sql = sql!(
            "SELECT min(due_at) FROM outbox WHERE peer = $1 AND state = {PENDING} AND due_at > $2"
        );
        let values = vec![peer.0.into(), now.as_microsecond().into()];
        Ok(self.fetch(sql, values, rows::next).await?.pop().flatten())
    }

    /// The task of this id.
    pub(crate) async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>> {
        let filters = Filters::exactly("t.id", id.as_str());
        Ok(self.tasks(&filters, 1).await?.pop())
    }

    /// The tasks that match, newest first.
    pub(crate) async fn tasks(&self, filters: &Filters, limit: i64) -> Result<Vec<TaskRecord>> {
        let sql = format!(
            "SELECT p.url, s.url, {STATE}, {NEW}, t.output, t.reservation, t.progress, t.pruned_at \
             FROM tasks t JOIN peers p ON p.id = t.peer JOIN peers s ON s.id = {OURSELVES}{} ORDER BY t.seq DESC LIMIT $1",
            filters.to_sql(2)
        );
        self.fetch(AssertSqlSafe(sql), values(limit, filters), rows::task)
            .await
    }

    /// The children of a task, in order.
    pub(crate) async fn children(&self, parent: &TaskId) -> Result<Vec<TaskRecord>> {
        let filters = Filters::exactly("t.parent", parent.as_str());
        let mut children = self.tasks(&filters, i64::MAX).await?;
        children.sort_by_key(|child| child.order);
        Ok(children)
    }

    /// The child of a task at a place.
    pub(crate) async fn child(&self, parent: &TaskId, order: i64) -> Result<Option<TaskRecord>> {
        let mut filters = Filters::exactly("t.parent", parent.as_str());
        filters.0.push(Filter::Number {
            sql: "t.ord",
            value: order,
        });
        Ok(self.tasks(&filters, 1).await?.pop())
    }

    /// A task and all below it, each before those below it.
    pub(crate) async fn tree(&self, root: &TaskId) -> Result<Vec<TaskRecord>> {
        let value = root.as_str().to_owned();
        let filters = Filters(vec![Filter::Subtree { value }]);
        let mut tree = self.tasks(&filters, i64::MAX).await?;
        tree.reverse();
        Ok(tree)
    }

    /// The task at the top of this one's tree: itself, if it is a part of none.
    pub(crate) async fn root(&self, id: &TaskId) -> Result<Option<TaskRecord>> {
        let value = id.as_str().to_owned();
        let filters = Filters(vec![Filter::Root { value }]);
        Ok(self.tasks(&filters, 1).await?.pop())
    }

    /// The states of these tasks, in an SQLite database: on Postgres, states are not cached.
    pub(crate) async fn states(&self, ids: &[TaskId]) -> Result<Vec<TaskState>> {
        let sql = sql!("SELECT {STATE} FROM json_each($1) v CROSS JOIN tasks t ON t.id = v.value");
        let values = vec![serde_json::to_string(ids)?.into()];
        self.fetch(sql, values, rows::state).await
    }

    /// A task and all below it as they were stored, each before those below it.
    pub(crate) async fn stored(&self, root: &TaskId) -> Result<Vec<NewTask>> {
        let sql = sql!(
            "SELECT {STATE}, {NEW}, t.first_input FROM tasks t WHERE t.id IN (\
             WITH RECURSIVE tree (id) AS (SELECT id FROM tasks WHERE id = $1 UNION \
             SELECT c.id FROM tree JOIN tasks c ON c.parent = tree.id) SELECT id FROM tree) ORDER BY t.seq"
        );
        self.fetch(sql, vec![root.as_str().into()], rows::stored)
            .await
    }

    /// The tasks whose id starts like this, at most `limit`.
    pub(crate) async fn find_tasks(&self, prefix: &str, limit: i64) -> Result<Vec<TaskRecord>> {
        let filters = Filters::new(TASK_FIELDS, &[format!("id={prefix}*")])?;
        self.tasks(&filters, limit).await
    }

    /// The messages that match, newest first.
    pub(crate) async fn messages(
        &self,
        filters: &Filters,
        limit: i64,
    ) -> Result<Vec<MessageRecord>> {
        // Each side is filtered and cut to the limit on its own first, newest rows first, so that
        // a long history is not sorted.
        let side = |columns: &str| {
            format!(
                "SELECT * FROM (SELECT m.is_received, p.url AS peer_url, s.url AS own_url, m.data, m.message, m.action, m.queue, \
                 m.task, m.answer, m.at, m.state, m.attempts, m.due_at, m.last_error, m.seq FROM (SELECT {columns}) m \
                 JOIN peers p ON p.id = m.peer JOIN peers s ON s.id = {OURSELVES}{} ORDER BY m.seq DESC LIMIT $1) side",
                filters.to_sql(2)
            )
        };
        let received = side(&format!(
            "message, CAST(1 AS BIGINT) AS is_received, action, queue, peer, task, \
             coalesce(data, (SELECT input FROM tasks WHERE id = task)) AS data, CAST(200 AS BIGINT) AS answer, \
             received_at AS at, CAST({ACCEPTED} AS BIGINT) AS state, CAST(0 AS BIGINT) AS attempts, \
             CAST(NULL AS BIGINT) AS due_at, CAST(NULL AS TEXT) AS last_error, seq FROM inbox"
        ));
        let sent = side(&format!(
            "message, CAST(0 AS BIGINT) AS is_received, action, queue, peer, task, body AS data, answer, \
             created_at AS at, state, attempts, CASE WHEN state = {PENDING} THEN due_at END AS due_at, last_error, \
             seq FROM outbox"
        ));
        // What the original posts to itself: a local task is its own message, once its turn has
        // come.
        let own = side(&format!(
            "id AS message, CAST(1 AS BIGINT) AS is_received, action, queue, peer, id AS task, input AS data, \
             CAST(200 AS BIGINT) AS answer, created_at AS at, CAST({ACCEPTED} AS BIGINT) AS state, \
             CAST(0 AS BIGINT) AS attempts, CAST(NULL AS BIGINT) AS due_at, CAST(NULL AS TEXT) AS last_error, seq \
             FROM tasks WHERE role = {LOCAL} AND kind = {SEQUENTIAL} AND queue <> '' \
             AND (attempt > 0 OR moment <> {NO_MOMENT} OR round > 0)"
        ));
        let sql = format!(
            "{received} UNION ALL {sent} UNION ALL {own} ORDER BY at DESC, seq DESC LIMIT $1"
        );
        self.fetch(AssertSqlSafe(sql), values(limit, filters), rows::message)
            .await
    }
}

/// The values of a listing: its limit, then those of the filters.
pub(super) fn values(limit: i64, filters: &Filters) -> Vec<Param> {
    let filters = filters.0.iter().map(|filter| match filter {
        Filter::Text { value, .. }
        | Filter::Prefix { value, .. }
        | Filter::Subtree { value }
        | Filter::Root { value } => Param::from(value),
        Filter::Number { value, .. } => Param::from(*value),
    });
    std::iter::once(limit.into()).chain(filters).collect()
}
