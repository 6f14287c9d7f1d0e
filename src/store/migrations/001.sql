-- Version 1.  docs/spec/database.md describes each table.
PRAGMA application_id = 1415139908; -- "TYRD"

CREATE TABLE experiment (
    name        TEXT PRIMARY KEY,
    next_number INTEGER NOT NULL,
    runs        INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE run (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL UNIQUE,
    number       INTEGER NOT NULL,
    experiment   TEXT NOT NULL,
    display_name TEXT,
    target       TEXT,
    user         TEXT,
    uid          INTEGER NOT NULL,
    command_line TEXT,
    snapshot     TEXT,
    token        TEXT,
    state        TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    heard        TEXT NOT NULL,
    active       INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    exit_code    INTEGER NOT NULL,
    exit_signal  INTEGER NOT NULL,
    created_us   INTEGER NOT NULL,
    started_us   INTEGER NOT NULL,
    ended_us     INTEGER NOT NULL,
    error        TEXT,
    last_seq     INTEGER NOT NULL DEFAULT 0,
    record_next  INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX run_by_experiment ON run(experiment, id);
CREATE INDEX run_by_experiment_state ON run(experiment, state, id);
CREATE INDEX run_by_target ON run(target, id);
CREATE INDEX run_by_target_state ON run(target, state, id);
CREATE INDEX run_by_state ON run(state, id);
CREATE INDEX run_by_user ON run(user, id);
CREATE INDEX run_by_user_state ON run(user, state, id);
CREATE INDEX run_by_snapshot ON run(snapshot) WHERE snapshot IS NOT NULL;
CREATE INDEX run_active ON run(id) WHERE active = 1;
CREATE INDEX run_ended ON run(ended_us) WHERE active = 0;

CREATE TABLE spec (
    run  INTEGER PRIMARY KEY REFERENCES run(id) ON DELETE CASCADE,
    json TEXT NOT NULL
);

CREATE TABLE event (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    seq   INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    data  TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE warning (
    run  INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    seq  INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE tag (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE INDEX tag_by_key ON tag(key, run);
CREATE INDEX tag_by_value ON tag(key, value, run);

CREATE TABLE property (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;

CREATE TABLE artifact (
    run    INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    path   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;

CREATE TABLE log (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;

CREATE TABLE writer (
    run    INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    writer INTEGER NOT NULL,
    next   INTEGER NOT NULL,
    rows   INTEGER NOT NULL,
    PRIMARY KEY (run, writer)
) WITHOUT ROWID;

CREATE TABLE metric_key (
    run  INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    key  INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;

-- No reference to run: its writer's row vouches for it, and a deleted run's rows are swept later.
CREATE TABLE metric (
    run    INTEGER NOT NULL,
    writer INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    key    INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    step   INTEGER,
    at_us  INTEGER NOT NULL,
    value,
    PRIMARY KEY (run, writer, seq)
) WITHOUT ROWID;
CREATE INDEX metric_by_key ON metric(run, key);

CREATE TABLE dropped (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    what  INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, what)
) WITHOUT ROWID;

-- Deleted runs whose log folder (name not null) or metric rows are still to be removed.
CREATE TABLE garbage (
    run  INTEGER PRIMARY KEY,
    name TEXT
);

CREATE TABLE target (
    name       TEXT PRIMARY KEY,
    spec       TEXT NOT NULL,
    created_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE datastore (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    config     TEXT NOT NULL,
    created_us INTEGER NOT NULL
);

CREATE TABLE snapshot (
    id         TEXT PRIMARY KEY,
    files      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    touched_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX snapshot_by_touch ON snapshot(touched_us);
