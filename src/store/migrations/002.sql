-- Version 2: runs without a program, and children of runs.
ALTER TABLE run ADD COLUMN kind TEXT NOT NULL DEFAULT 'command';
ALTER TABLE run ADD COLUMN parent TEXT;
UPDATE run SET kind = 'script' WHERE id IN (SELECT run FROM spec WHERE json_type(json, '$.script') = 'text');
CREATE INDEX run_by_parent ON run(parent, id) WHERE parent IS NOT NULL;
CREATE INDEX run_top ON run(id) WHERE parent IS NULL;
CREATE INDEX run_top_by_experiment ON run(experiment, id) WHERE parent IS NULL;
