/* routes.h - every HTTP route, declared once
 *
 * The server's dispatch, the client's stubs and /openapi.json are expanded from this table.  Names in
 * braces are one path segment; {path+} is the rest of the path, slashes included.
 *
 *   method  path  role (see enum)  handler  body in  body out  summary
 */
#ifndef TY_ROUTES_H
#define TY_ROUTES_H

#define TY_ROUTES(X) \
    X(GET,    "/openapi.json",                               READER,    openapi_get,     NONE,        OPENAPI,     "Describe this API") \
    X(GET,    "/",                                           READER,    page_list,       NONE,        HTML,        "Page: the newest runs") \
    X(GET,    "/machines",                                   READER,    page_machines,   NONE,        HTML,        "Page: machines, who waits for them, and datastores") \
    X(GET,    "/runs/{run}",                                 READER,    page_run,        NONE,        HTML,        "Page: one run") \
    X(GET,    "/static/{file}",                              READER,    page_static,     NONE,        BYTES,       "What the pages are drawn with") \
    X(GET,    "/metrics",                                    READER,    prometheus_get,  NONE,        PROMETHEUS,  "Say how this daemon is, for Prometheus") \
    X(GET,    "/api/v1/status",                              READER,    status_get,      NONE,        STATUS,      "Say who this daemon is and how it is") \
    X(GET,    "/api/v1/check",                               OWNER,     store_check,     NONE,        CHECK,       "Replay every run's events and compare with the tables") \
    X(POST,   "/api/v1/shutdown",                            OWNER,     daemon_stop,     NONE,        NONE,        "Stop the daemon; runs go on") \
    X(POST,   "/api/v1/backup",                              OWNER,     backup_begin,    NONE,        BACKUP,      "Copy the database, for a backup of the state folder") \
    X(POST,   "/api/v1/gc",                                  OWNER,     gc_run,          NONE,        GC_REPORT,   "Remove what nothing refers to") \
    X(GET,    "/api/v1/link",                                READER,    link_get,        NONE,        LINK,        "A link to the pages, for a browser on this machine") \
    X(DELETE, "/api/v1/link",                                SUBMITTER, link_revoke,     NONE,        NONE,        "Make the links void that the asker has got so far") \
    X(GET,    "/api/v1/experiments",                         READER,    experiment_list, NONE,        EXPERIMENTS, "List experiments") \
    X(POST,   "/api/v1/experiments/{experiment}/runs",       SUBMITTER, run_submit,      RUN_SPEC,    RUN,         "Submit a run") \
    X(GET,    "/api/v1/runs",                                READER,    run_list,        NONE,        RUNS,        "List runs, newest first") \
    X(GET,    "/api/v1/runs/{run}",                          READER,    run_get,         NONE,        RUN,         "Show one run") \
    X(DELETE, "/api/v1/runs/{run}",                          SUBMITTER, run_delete,      NONE,        NONE,        "Remove an ended run with its files") \
    X(POST,   "/api/v1/runs/{run}/cancel",                   SUBMITTER, run_cancel,      NONE,        RUN,         "Ask a run to stop") \
    X(PATCH,  "/api/v1/runs/{run}/tags",                     SUBMITTER, run_tag,         TAG_CHANGE,  RUN,         "Set and remove tags") \
    X(POST,   "/api/v1/runs/{run}/end",                      SUBMITTER, run_end,         RUN_END,     RUN,         "End an interactive run") \
    X(PATCH,  "/api/v1/runs/{run}/properties",               SUBMITTER, run_properties,  PROPERTY_CHANGE, RUN,     "Set properties, which are never changed") \
    X(POST,   "/api/v1/runs/{run}/rows",                     SUBMITTER, rows_add,        ROWS,        NONE,        "Add metrics from outside of a job") \
    X(GET,    "/api/v1/runs/{run}/events",                   READER,    run_events,      NONE,        EVENTS,      "Show the event log of a run") \
    X(GET,    "/api/v1/runs/{run}/environments",             READER,    run_environments, NONE,       ENVIRONMENTS, "Show what the environment of a run came to on each of its nodes") \
    X(GET,    "/api/v1/runs/{run}/follow",                   READER,    run_follow,      NONE,        STREAM,      "Follow states and one log as server-sent events") \
    X(GET,    "/api/v1/runs/{run}/metrics",                  READER,    metrics_get,     NONE,        METRICS,     "Show what a run logged") \
    X(GET,    "/api/v1/runs/{run}/files",                    READER,    file_list,       NONE,        FILES,       "List the logs and artifacts of a run") \
    X(GET,    "/api/v1/runs/{run}/files/{path+}",            READER,    file_get,        NONE,        BYTES,       "Read a log or artifact") \
    X(PUT,    "/api/v1/runs/{run}/files/{path+}",            SUBMITTER, file_put,        BYTES,       FILE,        "Add an artifact to a run") \
    X(POST,   "/api/v1/blobs/missing",                       SUBMITTER, blobs_missing,   HASHES,      HASHES,      "Say which blobs the store lacks") \
    X(PUT,    "/api/v1/blobs/{blob}",                        SUBMITTER, blob_put,        BYTES,       NONE,        "Store one blob under its SHA-256") \
    X(PUT,    "/api/v1/snapshots/{snapshot}",                SUBMITTER, snapshot_put,    MANIFEST,    NONE,        "Store a snapshot whose blobs are all there") \
    X(GET,    "/api/v1/snapshots/{snapshot}",                READER,    snapshot_get,    NONE,        MANIFEST,    "Read the manifest of a snapshot") \
    X(GET,    "/api/v1/snapshots/{snapshot}/files/{path+}",  READER,    snapshot_file,   NONE,        BYTES,       "Read one file of a snapshot") \
    X(GET,    "/api/v1/targets",                             READER,    target_list,     NONE,        TARGETS,     "List compute targets") \
    X(GET,    "/api/v1/targets/{target}",                    READER,    target_get,      NONE,        TARGET,      "Show one compute target") \
    X(PUT,    "/api/v1/targets/{target}",                    SUBMITTER, target_put,      TARGET_SPEC, TARGET,      "Create or change a compute target") \
    X(DELETE, "/api/v1/targets/{target}",                    OWNER,     target_delete,   NONE,        NONE,        "Remove a compute target") \
    X(POST,   "/api/v1/targets/{target}/drain",              OWNER,     target_drain,    DRAIN,       TARGET,      "Place nothing new on a target, or on one of its nodes") \
    X(POST,   "/api/v1/targets/{target}/resume",             OWNER,     target_resume,   DRAIN,       TARGET,      "Place runs again on what was drained") \
    X(GET,    "/api/v1/nodes",                               READER,    node_list,       NONE,        NODES,       "List the machines that runs are placed on") \
    X(GET,    "/api/v1/queue",                               READER,    queue_get,       NONE,        QUEUE,       "Show what waits, in order") \
    X(PATCH,  "/api/v1/queue",                               OWNER,     queue_change,    QUEUE_CHANGE, QUEUE,      "Pause or resume the queue") \
    X(GET,    "/api/v1/secrets",                             SUBMITTER, secret_list,     NONE,        SECRETS,     "List the names of secrets") \
    X(GET,    "/api/v1/secrets/{secret}",                    SUBMITTER, secret_get,      NONE,        SECRET,      "Read a secret") \
    X(PUT,    "/api/v1/secrets/{secret}",                    SUBMITTER, secret_put,      SECRET_VALUE, NONE,       "Set a secret") \
    X(DELETE, "/api/v1/secrets/{secret}",                    SUBMITTER, secret_delete,   NONE,        NONE,        "Remove a secret") \
    X(GET,    "/api/v1/environments",                     READER,    environment_list, NONE, REGISTERED_ENVIRONMENTS, "List the latest versions of registered environments") \
    X(GET,    "/api/v1/environments/{environment}", READER, environment_versions, NONE, REGISTERED_ENVIRONMENTS, "List the versions of a registered environment, the latest first") \
    X(PUT,    "/api/v1/environments/{environment}", SUBMITTER, environment_put, REGISTRATION, REGISTERED, "Register an environment, as a new version if it says something new") \
    X(DELETE, "/api/v1/environments/{environment}", SUBMITTER, environment_delete, NONE, NONE, "Forget all versions of a registered environment") \
    X(GET,    "/api/v1/environments/{environment}/versions/{version}", READER, environment_get, NONE, REGISTERED, "Show one version of a registered environment") \
    X(GET,    "/api/v1/datasets",                         READER,    dataset_list, NONE, DATASETS, "List the latest versions of registered datasets") \
    X(GET,    "/api/v1/datasets/{dataset}", READER, dataset_versions, NONE, DATASETS, "List the versions of a registered dataset, the latest first") \
    X(PUT,    "/api/v1/datasets/{dataset}", SUBMITTER, dataset_put, REGISTRATION, REGISTERED, "Register a dataset, as a new version if it says something new") \
    X(DELETE, "/api/v1/datasets/{dataset}", SUBMITTER, dataset_delete, NONE, NONE, "Forget all versions of a registered dataset") \
    X(GET,    "/api/v1/datasets/{dataset}/versions/{version}", READER, dataset_get, NONE, REGISTERED, "Show one version of a registered dataset") \
    X(GET,    "/api/v1/datastores",                          READER,    datastore_list,  NONE,        DATASTORES,  "List datastores") \
    X(GET,    "/api/v1/datastores/{datastore}",              READER,    datastore_get,   NONE,        DATASTORE,   "Show one datastore") \
    X(PUT,    "/api/v1/datastores/{datastore}",              OWNER,     datastore_put,   DATASTORE_SPEC, DATASTORE, "Register or change a datastore") \
    X(DELETE, "/api/v1/datastores/{datastore}",              OWNER,     datastore_delete, NONE,       NONE,        "Forget a datastore; its data stays") \
    X(POST,   "/api/v1/datastores/{datastore}/default",      OWNER,     datastore_default, NONE,      DATASTORE,   "Make a datastore the default one") \
    X(GET,    "/api/v1/datastores/{datastore}/access",       SUBMITTER, datastore_access, NONE,       ACCESS,      "Show how a datastore is reached, with its credentials") \
    X(GET,    "/api/v1/datastores/{datastore}/files",        READER,    data_list,       NONE,        FILES,       "List the files of a datastore") \
    X(GET,    "/api/v1/datastores/{datastore}/files/{path+}", READER,   data_get,        NONE,        BYTES,       "Read a file of a datastore") \
    X(PUT,    "/api/v1/datastores/{datastore}/files/{path+}", SUBMITTER, data_put,       BYTES,       FILE,        "Write a file of a datastore")

/* Who may ask.  In user mode the daemon serves its own user and root, who are all three; in system mode an OWNER is
 * root, and a SUBMITTER may change the runs that are theirs. */
enum ty_role { TY_ROLE_READER, TY_ROLE_SUBMITTER, TY_ROLE_OWNER };
#define TY_SCHEMAS(X) \
    X(NONE, "none") X(OPENAPI, "openapi") X(STATUS, "status") X(CHECK, "check") X(GC_REPORT, "gc_report") \
    X(EXPERIMENTS, "experiments") X(RUN_SPEC, "run_spec") X(RUN, "run") X(RUNS, "runs") \
    X(TAG_CHANGE, "tag_change") X(PROPERTY_CHANGE, "property_change") X(RUN_END, "run_end") X(ROWS, "rows") \
    X(EVENTS, "events") X(ENVIRONMENTS, "environments") X(STREAM, "stream") X(HTML, "html") X(LINK, "link") X(BACKUP, "backup") X(PROMETHEUS, "prometheus") X(METRICS, "metrics") \
    X(FILES, "files") X(FILE, "file") X(BYTES, "bytes") X(HASHES, "hashes") X(MANIFEST, "manifest") \
    X(TARGETS, "targets") X(TARGET, "target") X(TARGET_SPEC, "target_spec") X(DRAIN, "drain") X(NODES, "nodes") X(DATASTORES, "datastores") \
    X(DATASTORE, "datastore") X(DATASTORE_SPEC, "datastore_spec") X(ACCESS, "access") X(QUEUE, "queue") X(QUEUE_CHANGE, "queue_change") \
    X(REGISTERED_ENVIRONMENTS, "registered_environments") X(DATASETS, "datasets") X(REGISTERED, "registered") X(REGISTRATION, "registration") \
    X(SECRETS, "secrets") X(SECRET, "secret") X(SECRET_VALUE, "secret_value")
#define X(name, word) TY_SCHEMA_##name,
enum ty_schema { TY_SCHEMAS(X) TY_SCHEMA_COUNT };
#undef X
#define X(m, p, r, h, i, o, s) TY_ROUTE_##h,
enum ty_route_id { TY_ROUTES(X) TY_ROUTE_COUNT, TY_ROUTE_INVALID = -22 };
#undef X

struct ty_route {
    const char *method, *path, *name, *summary;
    enum ty_role role;
    enum ty_schema in, out;
};
extern const struct ty_route ty_routes[TY_ROUTE_COUNT];
const char *ty_schema_name(enum ty_schema s); /* "run_spec" */

#define TY_ROUTE_ARGS_MAX 3
struct ty_route_match {
    enum ty_route_id route;
    int nargs;
    char *args[TY_ROUTE_ARGS_MAX]; /* decoded values of the braces, in order; point into `path` */
};
/* Find the route of a request.  `path` (no query) is cut and percent-decoded in place, but for -ENOENT
 * and -ENOTSUP.  HEAD is the caller's to turn into GET.  The value of one segment holds no '/', not even
 * an escaped one; no value holds a NUL.
 * 0; -ENOENT no such path; -ENOTSUP the path exists with another method; -EINVAL a bad escape. */
int ty_route_find(const char *method, char *path, struct ty_route_match *ret);
/* The path of a route with `args` (NULL-terminated) filled in, percent-encoded; malloc'ed, NULL: out of
 * memory.  Asserts that there is an argument for each brace. */
char *ty_route_path(enum ty_route_id route, const char *const *args);
#endif
