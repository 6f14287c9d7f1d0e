-- Version 6: things registered by name and version, and what a run's environment came to.
CREATE TABLE registered (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    content    TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (kind, name, version)
) WITHOUT ROWID;
CREATE TABLE environment (
    run    INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    node   INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run, node)
) WITHOUT ROWID;
-- The credentials of a datastore, sealed as secrets are; null: it has none.
ALTER TABLE datastore ADD COLUMN sealed TEXT;
