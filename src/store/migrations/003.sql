-- Version 3: secrets, sealed with the key in the state folder.
CREATE TABLE secret (
    name       TEXT PRIMARY KEY,
    sealed     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    changed_us INTEGER NOT NULL
) WITHOUT ROWID;
