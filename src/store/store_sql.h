/* store_sql.h - every statement of the store that is prepared once
 *
 * W statements run on the writer thread's connection, R statements on the loop's.  The one statement that
 * is composed, the list of runs, stands in store_list.c.
 */
#ifndef TY_STORE_SQL_H
#define TY_STORE_SQL_H

/* What store_run_json() and read_active() expect, in this order. */
#define SQL_RUN_COLUMNS \
    "r.id, r.name, r.number, r.experiment, r.display_name, r.state, r.attempt, r.target, r.user, r.command_line, " \
    "r.snapshot, r.created_us, r.started_us, r.ended_us, r.exit_code, r.exit_signal, r.error, r.kind, r.parent, " \
    "(SELECT json_extract(json, '$.node_count', '$.process_count_per_node') FROM spec WHERE run = r.id)"
#define SQL_ACTIVE_COLUMNS \
    "r.id, r.name, r.experiment, r.display_name, r.target, r.user, r.command_line, r.snapshot, r.token, r.uid, s.json, " \
    "r.state, r.outcome, r.heard, r.attempt, r.exit_code, r.exit_signal, r.created_us, r.started_us, r.ended_us, " \
    "r.last_seq, r.record_next"

#define SQL_WRITER_OUTSIDE "65536" /* TY_ROW_WRITER_OUTSIDE */

/* Whose names begin with TY_ROW_SYSTEM: ?1 is the run.  '0' follows '/'. */
#define SQL_SYSTEM_KEYS "(SELECT key FROM metric_key WHERE run = ?1 AND name >= 'system/' AND name < 'system0')"
#define SQL_METRIC_COLUMNS "SELECT m.key, m.writer, m.seq, m.kind, m.step, m.at_us, m.value "

/* The default one is the one that was made first, unless the setting names another. */
#define SQL_REGISTERED "SELECT name, version, content, created_us FROM registered r WHERE kind = ?1"
#define SQL_DATASTORE \
    "SELECT name, kind, config, created_us, name = coalesce((SELECT value FROM setting s WHERE s.name = '" TY_STORE_DEFAULT_DATASTORE "'), " \
    "(SELECT d.name FROM datastore d ORDER BY d.id LIMIT 1)), sealed FROM datastore"

#define STATEMENTS(W, R) \
    W(begin, "BEGIN IMMEDIATE") \
    W(commit, "COMMIT") \
    W(rollback, "ROLLBACK") \
    W(unit_begin, "SAVEPOINT unit") \
    W(unit_keep, "RELEASE unit") \
    W(unit_undo, "ROLLBACK TO unit") \
    \
    W(experiment_add, "INSERT INTO experiment(name, next_number, runs) VALUES (?1, 2, 1) " \
        "ON CONFLICT(name) DO UPDATE SET next_number = next_number + 1, runs = runs + 1") \
    W(experiment_less, "UPDATE experiment SET runs = runs - 1 WHERE name = (SELECT experiment FROM run WHERE id = ?1)") \
    W(run_add, "INSERT INTO run(id, name, number, experiment, display_name, target, user, uid, command_line, snapshot, token, " \
        "state, outcome, heard, active, attempt, exit_code, exit_signal, created_us, started_us, ended_us, kind, parent) " \
        "VALUES (?1, ?2, (SELECT next_number - 1 FROM experiment WHERE name = ?3), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, " \
        "?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)") \
    W(spec_add, "INSERT INTO spec(run, json) VALUES (?1, ?2)") \
    W(run_where, "SELECT last_seq, active FROM run WHERE id = ?1") \
    W(run_name, "SELECT name FROM run WHERE id = ?1") \
    W(run_note, "UPDATE run SET last_seq = ?2 WHERE id = ?1") \
    W(run_move, "UPDATE run SET last_seq = ?2, state = ?3, outcome = ?4, heard = ?5, active = ?6, attempt = ?7, exit_code = ?8, " \
        "exit_signal = ?9, created_us = ?10, started_us = ?11, ended_us = ?12 WHERE id = ?1") \
    W(run_error, "UPDATE run SET error = ?2 WHERE id = ?1") \
    W(run_record_next, "UPDATE run SET record_next = ?2 WHERE id = ?1") \
    W(run_delete, "DELETE FROM run WHERE id = ?1") \
    W(run_orphan, "UPDATE run SET parent = NULL WHERE parent = (SELECT name FROM run WHERE id = ?1)") \
    W(garbage_add, "INSERT INTO garbage(run, name) SELECT id, name FROM run WHERE id = ?1") \
    W(garbage_next, "SELECT run, name FROM garbage LIMIT 1") \
    W(garbage_named, "SELECT 1 FROM garbage WHERE name = ?1") \
    W(garbage_cleared, "UPDATE garbage SET name = NULL WHERE name = ?1") \
    W(garbage_done, "DELETE FROM garbage WHERE run = ?1") \
    W(metric_sweep, "DELETE FROM metric WHERE (run, writer, seq) IN " \
        "(SELECT run, writer, seq FROM metric WHERE run = ?1 LIMIT ?2)") \
    \
    W(event_add, "INSERT INTO event(run, seq, at_us, kind, data) VALUES (?1, ?2, ?3, ?4, ?5)") \
    W(warning_add, "INSERT INTO warning(run, seq, text) VALUES (?1, ?2, ?3)") \
    W(tag_put, "INSERT INTO tag(run, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3") \
    W(tag_delete, "DELETE FROM tag WHERE run = ?1 AND key = ?2") \
    W(property_add, "INSERT INTO property(run, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING") \
    W(artifact_put, "INSERT INTO artifact(run, path, sha256, bytes) VALUES (?1, ?2, ?3, ?4) " \
        "ON CONFLICT DO UPDATE SET sha256 = ?3, bytes = ?4") \
    \
    W(environment_put, "INSERT INTO environment(run, node, record) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET record = ?3") \
    \
    W(log_size_w, "SELECT bytes FROM log WHERE run = ?1 AND name = ?2") \
    W(log_put, "INSERT INTO log(run, name, bytes) VALUES (?1, ?2, ?3) ON CONFLICT(run, name) DO UPDATE SET bytes = ?3") \
    W(log_time_last, "SELECT max(at_us) FROM log_time WHERE run = ?1 AND name = ?2") \
    W(log_time_add, "INSERT INTO log_time(run, name, at_us, bytes) VALUES (?1, ?2, ?3, ?4)") \
    W(log_time_cut, "DELETE FROM log_time WHERE run = ?1 AND name = ?2 AND bytes >= ?3") \
    W(log_names_w, "SELECT l.name, r.name FROM log l JOIN run r ON r.id = l.run WHERE l.run = ?1") \
    W(log_active, "SELECT l.run, r.name, l.name, l.bytes FROM run r JOIN log l ON l.run = r.id WHERE r.active = 1") \
    \
    W(writer_get, "SELECT next FROM writer WHERE run = ?1 AND writer = ?2") \
    W(writer_put, "INSERT INTO writer(run, writer, next, rows) VALUES (?1, ?2, ?3, ?4) " \
        "ON CONFLICT(run, writer) DO UPDATE SET next = ?3, rows = rows + ?4") \
    W(metric_rows, "SELECT coalesce(sum(rows), 0) FROM writer WHERE run = ?1") \
    W(metric_rows_system, "SELECT coalesce(sum(next - rows), 0) FROM writer WHERE run = ?1") \
    W(metric_keys, "SELECT count(*) FROM metric_key WHERE run = ?1") \
    W(metric_keys_system, "SELECT count(*) FROM " SQL_SYSTEM_KEYS) \
    W(metric_key_get, "SELECT key FROM metric_key WHERE run = ?1 AND name = ?2") \
    W(metric_key_add, "INSERT INTO metric_key(run, name, key) VALUES (?1, ?2, ?3)") \
    W(metric_put, "INSERT INTO metric(run, writer, seq, key, kind, step, at_us, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)") \
    W(dropped_add, "INSERT INTO dropped(run, what, count) VALUES (?1, ?2, ?3) " \
        "ON CONFLICT(run, what) DO UPDATE SET count = count + ?3") \
    \
    W(target_put, "INSERT INTO target(name, spec, created_us) VALUES (?1, ?2, ?3) ON CONFLICT(name) DO UPDATE SET spec = ?2") \
    W(target_delete, "DELETE FROM target WHERE name = ?1") \
    W(datastore_put, "INSERT INTO datastore(name, kind, config, created_us, sealed) VALUES (?1, ?2, ?3, ?4, ?5) " \
        "ON CONFLICT(name) DO UPDATE SET kind = ?2, config = ?3, sealed = ?5 WHERE ?6") \
    W(datastore_delete, "DELETE FROM datastore WHERE name = ?1") \
    W(setting_put, "INSERT INTO setting(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2") \
    W(secret_put, "INSERT INTO secret(name, sealed, created_us, changed_us) VALUES (?1, ?2, ?3, ?3) " \
        "ON CONFLICT(name) DO UPDATE SET sealed = ?2, changed_us = ?3") \
    W(secret_delete, "DELETE FROM secret WHERE name = ?1") \
    W(registered_add, "INSERT INTO registered(kind, name, version, content, hash, created_us) " \
        "SELECT ?1, ?2, 1 + coalesce((SELECT max(version) FROM registered WHERE kind = ?1 AND name = ?2), 0), ?3, ?4, ?5 " \
        "WHERE NOT EXISTS (SELECT 1 FROM registered WHERE kind = ?1 AND name = ?2 AND (?6 OR hash = ?4))") \
    W(registered_about, "UPDATE registered SET content = ?3 WHERE kind = ?1 AND name = ?2 AND hash = ?4") \
    W(registered_delete, "DELETE FROM registered WHERE kind = ?1 AND name = ?2") \
    W(snapshot_put, "INSERT INTO snapshot(id, files, bytes, created_us, touched_us) VALUES (?1, ?2, ?3, ?4, ?4) " \
        "ON CONFLICT(id) DO UPDATE SET touched_us = max(touched_us, ?4)") \
    W(snapshots_prune, "DELETE FROM snapshot WHERE touched_us < ?1 " \
        "AND NOT EXISTS (SELECT 1 FROM run WHERE run.snapshot = snapshot.id)") \
    \
    R(run_median, "SELECT took FROM (SELECT ended_us - started_us AS took FROM run WHERE experiment = ?1 AND state = 'Completed' " \
        "AND started_us > 0 AND kind <> 'interactive' ORDER BY id DESC LIMIT 21) ORDER BY took " \
        "LIMIT 1 OFFSET (SELECT (COUNT(*) - 1) / 2 FROM (SELECT 1 FROM run WHERE experiment = ?1 AND state = 'Completed' " \
        "AND started_us > 0 AND kind <> 'interactive' ORDER BY id DESC LIMIT 21))") \
    R(run_id, "SELECT id FROM run WHERE name = ?1") \
    R(run_user, "SELECT user FROM run WHERE name = ?1") \
    R(run_get, "SELECT " SQL_RUN_COLUMNS ", s.json FROM run r LEFT JOIN spec s ON s.run = r.id WHERE r.name = ?1") \
    R(tag_list, "SELECT key, value FROM tag WHERE run = ?1 ORDER BY key") \
    R(property_list, "SELECT key, value FROM property WHERE run = ?1 ORDER BY key") \
    R(warning_list, "SELECT text FROM warning WHERE run = ?1 ORDER BY seq") \
    R(event_list, "SELECT seq, at_us, kind, data FROM event WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3") \
    R(active_list, "SELECT " SQL_ACTIVE_COLUMNS " FROM run r LEFT JOIN spec s ON s.run = r.id WHERE r.active = 1 ORDER BY r.id") \
    R(active_one, "SELECT " SQL_ACTIVE_COLUMNS " FROM run r LEFT JOIN spec s ON s.run = r.id WHERE r.name = ?1") \
    R(ended_before, "SELECT name FROM run WHERE active = 0 AND ended_us < ?1 AND (?2 IS NULL OR state = ?2) " \
        "ORDER BY ended_us LIMIT ?3") \
    R(artifact_count, "SELECT count(*) FROM artifact WHERE run = ?1") \
    R(dropped_get, "SELECT count FROM dropped WHERE run = ?1 AND what = ?2") \
    R(metric_names, "SELECT key, name FROM metric_key WHERE run = ?1 ORDER BY key") \
    R(metric_name_key, "SELECT key FROM metric_key WHERE run = ?1 AND name = ?2") \
    R(metric_all, SQL_METRIC_COLUMNS "FROM writer AS w CROSS JOIN metric AS m ON m.run = w.run AND m.writer = w.writer " \
        "WHERE w.run = ?1 AND w.rows > 0 AND m.key NOT IN " SQL_SYSTEM_KEYS " ORDER BY w.writer, m.seq LIMIT ?2") \
    R(metric_all_system, SQL_METRIC_COLUMNS "FROM writer AS w CROSS JOIN metric AS m ON m.run = w.run AND m.writer = w.writer " \
        "WHERE w.run = ?1 AND w.rows < w.next AND m.key IN " SQL_SYSTEM_KEYS " ORDER BY w.writer, m.seq LIMIT ?2") \
    R(metric_one, "SELECT key, writer, seq, kind, step, at_us, value FROM metric INDEXED BY metric_by_key " \
        "WHERE run = ?1 AND key = ?3 ORDER BY writer, seq LIMIT ?2") \
    R(metric_from, SQL_METRIC_COLUMNS "FROM metric AS m WHERE m.run = ?1 AND m.writer = ?2 AND m.seq >= ?3 AND m.seq < ?4 " \
        "AND m.key NOT IN " SQL_SYSTEM_KEYS " ORDER BY m.seq LIMIT ?5") \
    R(metric_from_system, SQL_METRIC_COLUMNS "FROM metric AS m WHERE m.run = ?1 AND m.writer = ?2 AND m.seq >= ?3 AND m.seq < ?4 " \
        "AND m.key IN " SQL_SYSTEM_KEYS " ORDER BY m.seq LIMIT ?5") \
    R(file_list, "SELECT path, bytes, 'artifact', sha256 FROM artifact WHERE run = ?1 UNION ALL " \
        "SELECT name, bytes, 'log', NULL FROM log WHERE run = ?1 ORDER BY 1") \
    R(artifact_get, "SELECT sha256, bytes FROM artifact WHERE run = ?1 AND path = ?2") \
    R(artifact_list, "SELECT path, sha256, bytes FROM artifact WHERE run = ?1 ORDER BY path") \
    R(environment_get, "SELECT record FROM environment WHERE run = ?1 AND node = ?2") \
    R(environment_list, "SELECT node, record FROM environment WHERE run = ?1 ORDER BY node") \
    R(log_size, "SELECT bytes FROM log WHERE run = ?1 AND name = ?2") \
    R(log_time_first, "SELECT min(at_us) FROM log_time WHERE run = ?1 AND name = ?2") \
    R(log_time_at, "SELECT max(at_us) FROM log_time WHERE run = ?1 AND name = ?2 AND bytes <= ?3") \
    R(log_time_next, "SELECT at_us, bytes FROM log_time WHERE run = ?1 AND name = ?2 AND at_us > ?3 ORDER BY at_us LIMIT 1") \
    R(log_since, "SELECT bytes FROM log_time WHERE run = ?1 AND name = ?2 AND at_us > ?3 ORDER BY at_us LIMIT 1") \
    R(resume_run, "SELECT record_next FROM run WHERE id = ?1") \
    R(writers_all, "SELECT writer, next, rows FROM writer WHERE run = ?1 ORDER BY writer") \
    R(writers_outside, "SELECT count(*), coalesce(sum(writer = ?2), 0) FROM writer WHERE run = ?1 AND writer >= " SQL_WRITER_OUTSIDE) \
    R(rows_stored, "SELECT coalesce(sum(rows), 0) FROM writer WHERE run = ?1") \
    R(resume_logs, "SELECT name, bytes FROM log WHERE run = ?1 ORDER BY name") \
    R(resume_rows, "SELECT writer, next FROM writer WHERE run = ?1 AND writer < " SQL_WRITER_OUTSIDE " ORDER BY writer") \
    R(experiments, "SELECT name, runs, (SELECT created_us FROM run WHERE experiment = e.name ORDER BY id DESC LIMIT 1) " \
        "FROM experiment e WHERE runs > 0 ORDER BY name") \
    R(targets, "SELECT name, spec, created_us FROM target ORDER BY name") \
    R(target_one, "SELECT name, spec, created_us FROM target WHERE name = ?1") \
    R(datastores, SQL_DATASTORE " ORDER BY id") \
    R(datastore_one, SQL_DATASTORE " WHERE name = ?1") \
    R(setting_get, "SELECT value FROM setting WHERE name = ?1") \
    R(secrets, "SELECT name, created_us, changed_us FROM secret ORDER BY name") \
    R(secret_get, "SELECT sealed FROM secret WHERE name = ?1") \
    R(registered_latest, SQL_REGISTERED " AND version = (SELECT max(version) FROM registered WHERE kind = r.kind AND name = r.name) " \
        "ORDER BY name") \
    R(registered_versions, SQL_REGISTERED " AND name = ?2 ORDER BY version DESC") \
    R(registered_one, SQL_REGISTERED " AND name = ?2 AND (version = ?3 OR ?3 = 0) ORDER BY version DESC LIMIT 1") \
    R(registered_same, SQL_REGISTERED " AND name = ?2 AND hash = ?3") \
    R(registered_count, "SELECT count(*) FROM registered WHERE kind = ?1") \
    R(snapshot_has, "SELECT 1 FROM snapshot WHERE id = ?1") \
    R(blobs, "SELECT id, 1 FROM snapshot UNION SELECT snapshot, 1 FROM run WHERE snapshot IS NOT NULL " \
        "UNION SELECT sha256, 0 FROM artifact") \
    R(counts, "SELECT (SELECT coalesce(sum(runs), 0) FROM experiment), (SELECT count(*) FROM run WHERE active = 1)") \
    R(check_runs, "SELECT r.id, r.name, r.state, r.outcome, r.heard, r.attempt, r.exit_code, r.exit_signal, r.created_us, " \
        "r.started_us, r.ended_us, r.error, r.last_seq FROM run r ORDER BY r.id") \
    R(check_events, "SELECT seq, at_us, kind, data FROM event WHERE run = ?1 ORDER BY seq")

#define X(name, sql) STMT_##name,
enum stmt { STATEMENTS(X, X) STMT_COUNT };
#undef X
#endif
