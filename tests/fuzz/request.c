/* request.c - whole requests, as anybody can write them to the socket: head, query and body, to a real server with a real
 * store */
#include "../unit/http/kit.h"
#include "fuzz.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURNS 64
#define TURNS_PATIENT 200000 /* tens of seconds: only a stuck server needs them */
#define SHA "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static struct kit *kit;

static void stop_kit(void)
{
    void *state = kit;

    kit_close(&state);
}

static void start_kit(void)
{
    void *state = NULL;

    if (kit || kit_open(&state) != 0)
        return;
    kit = state;
    kit_run(kit, "first_1_a");
    kit_log(kit, "first_1_a", "azureml-logs/70_driver_log.txt", 0, "one\ntwo\n", 8);
    kit_rows(kit, "first_1_a", 0, 0, 3, "loss");
    atexit(stop_kit);
}

static void seed(struct corpus *c, const char *line, const char *body)
{
    CLEANUP_STR struct ty_str s = { 0 };

    ty_str_addf(&s, "%s HTTP/1.1\r\nHost: x\r\n", line);
    if (body)
        ty_str_addf(&s, "Content-Length: %zu\r\n", strlen(body));
    ty_str_addf(&s, "\r\n%s", body ? body : "");
    corpus_add(c, s.text, s.len);
}

void seed_request(struct corpus *c)
{
    seed(c, "GET /api/v1/runs?state=active&limit=5&tag=a%3Db&experiment=first", NULL);
    seed(c, "GET /api/v1/runs/first_1_a/metrics?name=loss&rows=10", NULL);
    seed(c, "GET /api/v1/runs/first_1_a/files/azureml-logs/70_driver_log.txt?offset=4", NULL);
    seed(c, "GET /api/v1/runs/first_1_a/events?after=0&limit=10", NULL);
    seed(c, "GET /openapi.json", NULL);
    seed(c, "GET /metrics", NULL);
    seed(
        c, "POST /api/v1/experiments/first/runs",
        "{\"version\": 1, \"display_name\": \"r\", \"command\": [\"/bin/true\"], \"tags\": {\"a\": \"b\"}}");
    seed(c, "PATCH /api/v1/runs/first_1_a/tags", "{\"set\": {\"a\": \"b\"}, \"remove\": [\"c\"]}");
    seed(c, "PATCH /api/v1/runs/first_1_a/properties", "{\"set\": {\"a\": \"b\"}}");
    seed(c, "POST /api/v1/blobs/missing", "{\"hashes\": [\"" SHA "\"]}");
    seed(c, "PUT /api/v1/snapshots/" SHA, "trainyard-snapshot 1\n");
    seed(
        c, "PUT /api/v1/environments/e",
        "{\"content\": {\"spec\": {\"torch\": \"1.6\"}, \"environment_variables\": {\"A\": \"1\"}}}");
    seed(
        c, "PUT /api/v1/datasets/d",
        "{\"content\": {\"paths\": [{\"datastore\": \"d\", \"path\": \"a/*\"}]}, \"create_new_version\": false}");
    seed(c, "GET /api/v1/datasets/d/versions/latest", "");
    seed(c, "PUT /api/v1/secrets/key", "{\"value\": \"v\"}");
    seed(c, "PATCH /api/v1/queue", "{\"paused\": false}");
    seed(c, "PUT /api/v1/targets/box", "{\"kind\": \"local\", \"max_nodes\": 2}");
}

static bool is_answered(const struct client *c)
{
    return c->in.len > 12 && strncmp(c->in.text, "HTTP/1.", 7) == 0;
}

/* One connection: everything is sent, then the other side may answer for a while; what is still going on is broken off.  A
 * good input is waited for. */
bool parse_request(const char *bytes, size_t n)
{
    struct client *c;
    bool answered;

    start_kit();
    if (!kit)
        return false;
    c = client_open(kit);
    client_send(c, bytes, n);
    shutdown(c->fd, SHUT_WR);
    for (int turn = 0; turn < TURNS || (fuzz_patient && turn < TURNS_PATIENT && !is_answered(c));
         turn++) {
        if (c->eof)
            break;
        uv_run(&kit->loop, UV_RUN_NOWAIT);
        if (turn > TURNS / 2)
            usleep(100); /* the writer's thread commits */
    }
    answered = is_answered(c);
    client_close(c);
    return answered;
}
