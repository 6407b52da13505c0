-- Times are microseconds since 1970, UTC. Statuses, kinds and roles are the codes of `model`.

CREATE TABLE peers (
    id         INTEGER PRIMARY KEY,
    url        TEXT    NOT NULL UNIQUE,
    -- has shown that it reads `frestq.batch` and `ext`
    extensions INTEGER NOT NULL DEFAULT 0,
    -- transport failures in a row, and when the breaker lets the next probe through
    failures   INTEGER NOT NULL DEFAULT 0,
    probe_at   INTEGER,
    last_error TEXT,
    -- which registered peer it is; none in open mode
    name       TEXT,
    -- its address before the last change, which messages of that time still name
    former_url TEXT,
    -- when a message of it came in last, and when it last answered one of ours
    heard_at    INTEGER,
    answered_at INTEGER
) STRICT;

-- The peers that are registered here, beside those of the configuration.
CREATE TABLE registrations (
    name         TEXT NOT NULL PRIMARY KEY,
    url          TEXT NOT NULL,
    -- fingerprints, as a JSON list
    certificates TEXT NOT NULL,
    -- certificates of authorities, in PEM
    ca           TEXT,
    -- grants, as a JSON list
    allow        TEXT NOT NULL,
    -- 1: its name may stand for a private address
    private      INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    started_at  INTEGER NOT NULL,
    alive_until INTEGER NOT NULL
) STRICT;

CREATE TABLE tasks (
    seq         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    kind        INTEGER NOT NULL,
    role        INTEGER NOT NULL,
    peer        INTEGER NOT NULL REFERENCES peers,
    queue       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    parent      TEXT,
    -- the place among the siblings, from 0, without gaps
    ord         INTEGER NOT NULL,
    -- of a sequence: the place of the child whose turn it is
    place       INTEGER NOT NULL DEFAULT 0,
    open_children INTEGER NOT NULL,
    on_failure  INTEGER NOT NULL,
    -- its action may run at most once
    at_most_once INTEGER NOT NULL DEFAULT 0,
    -- what its handler is wanted for; 0: nothing
    moment      INTEGER NOT NULL,
    -- of a synchronized group: which round it is in, and how many have reserved in it
    round       INTEGER NOT NULL DEFAULT 0,
    reserved    INTEGER NOT NULL DEFAULT 0,
    -- when its group, or the reservation held for it, is to be looked at again
    wake_at     INTEGER,
    -- the higher, the sooner it gets a slot
    priority    INTEGER NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    -- runs in a row that were cut off
    interrupted INTEGER NOT NULL DEFAULT 0,
    epoch       INTEGER NOT NULL,
    owner       INTEGER,
    rev         INTEGER NOT NULL,
    run_at      INTEGER,
    expires_at  INTEGER,
    pingback_at INTEGER,
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    label       TEXT,
    info        TEXT,
    input       TEXT    NOT NULL,
    -- the input that it was made with, where its director has changed it
    first_input TEXT,
    reservation TEXT,
    -- how far its handler says it is
    progress    TEXT,
    -- no two open tasks have the same
    unique_key  TEXT,
    -- SHA-256 of a certificate: of a sent task that which its receiver must show, of a received one that
    -- with which it came
    certificate BLOB,
    output      TEXT,
    -- since when nothing is left of it but that it was
    pruned_at   INTEGER
) STRICT;

-- waiting for a slot
CREATE INDEX tasks_waiting ON tasks (queue, priority DESC, seq) WHERE moment <> 0 AND owner IS NULL;
CREATE INDEX tasks_delayed ON tasks (run_at) WHERE moment <> 0 AND owner IS NULL AND run_at IS NOT NULL;
CREATE UNIQUE INDEX tasks_unique ON tasks (unique_key) WHERE status < 10 AND unique_key IS NOT NULL;
CREATE INDEX tasks_waking ON tasks (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX tasks_family ON tasks (parent, ord) WHERE parent IS NOT NULL;
CREATE INDEX tasks_owned ON tasks (owner) WHERE owner IS NOT NULL;
-- roots, by the time from which on they may be pruned
CREATE INDEX tasks_ended ON tasks (modified_at) WHERE status >= 10 AND parent IS NULL AND pruned_at IS NULL;
CREATE INDEX tasks_expiring ON tasks (expires_at) WHERE status < 10 AND expires_at IS NOT NULL;

CREATE TABLE inbox (
    seq         INTEGER PRIMARY KEY,
    peer        INTEGER NOT NULL REFERENCES peers,
    message     TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    queue       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    task        TEXT,
    -- null where the message carried a task: it is that task's input
    data        TEXT,
    received_at INTEGER NOT NULL,
    UNIQUE (peer, message)
) STRICT;

CREATE TABLE outbox (
    seq          INTEGER PRIMARY KEY,
    peer         INTEGER NOT NULL REFERENCES peers,
    message      TEXT    NOT NULL,
    queue        TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    task         TEXT    NOT NULL,
    carries_task INTEGER NOT NULL,
    body         TEXT    NOT NULL,
    -- SHA-256 of the certificate that the server must show
    pin          BLOB,
    -- 0 pending, 1 delivered, 2 failed
    state        INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    due_at       INTEGER NOT NULL,
    expires_at   INTEGER,
    created_at   INTEGER NOT NULL,
    answer       INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT
) STRICT;

CREATE INDEX outbox_pending ON outbox (peer, seq) WHERE state = 0;

-- Who asked for what, and what was answered: chains of rows, one for each process's name. See `audit`.
CREATE TABLE audit (
    chain       TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    peer        TEXT    NOT NULL,
    certificate TEXT,
    queue       TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    message     TEXT,
    task        TEXT,
    body        BLOB    NOT NULL,
    answer      TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;

-- How far each chain goes, so that rows which are missing at its end show too.
CREATE TABLE audit_heads (
    chain TEXT    NOT NULL PRIMARY KEY,
    seq   INTEGER NOT NULL,
    hash  BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- What the command line asks the serving process for; the asker removes the row once it is answered.
CREATE TABLE requests (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    -- the task that it is about, or the name of the peer
    task       TEXT    NOT NULL,
    argument   TEXT    NOT NULL,
    -- 0 pending, 1 taken, 2 done, 3 refused
    state      INTEGER NOT NULL DEFAULT 0,
    answer     TEXT,
    created_at INTEGER NOT NULL
) STRICT;
