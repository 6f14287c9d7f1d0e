-- Version 5.  When the bytes of logs came.
CREATE TABLE log_time (
    run   INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (run, name, at_us)
) WITHOUT ROWID;
