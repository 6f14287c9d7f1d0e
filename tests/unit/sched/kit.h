/* kit.h - a scheduler in this process, with a real store and real runners on this box */
#ifndef TESTS_SCHED_KIT_H
#define TESTS_SCHED_KIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/conf.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "sched/sched.h"
#include "store/store.h"
#include "target/target.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 30000

struct kit {
    char home[64];
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t bound;
    bool late;
    struct ty_conf *conf;
    struct ty_store *store;
    struct ty_blobs *blobs;
    struct ty_follow_hub *hub;
    struct ty_sched *sched;
};

int kit_setup(void **state); /* with two CPU slots, and times that are short */
int kit_teardown(void **state);
void kit_conf(struct kit *k, const char *key, const char *value); /* counts from the next start on */
void kit_start(struct kit *k);
void kit_stop(struct kit *k); /* as the daemon ends; runners go on */
void kit_until(struct kit *k, bool (*fn)(struct kit *k, const char *run), const char *run);
/* Let the loop run for a while: for what must not happen. */
void kit_idle(struct kit *k, int ms);
void kit_recover(struct kit *k); /* waits until the store, which has failed, takes changes again */

/* 0 and the run's name, or what it was refused with. */
int kit_try(struct kit *k, const char *spec, char run[128], struct ty_error *err);
/* A run of this shell text; `more` is put into the spec ("" or "\"key\": value, "). */
void kit_submit(struct kit *k, const char *more, const char *shell, char run[128]);
/* Waits for the answer of a change: its r. */
int kit_cancel(struct kit *k, const char *run);
int kit_delete(struct kit *k, const char *run);
int kit_tag(struct kit *k, const char *run, const char *change, struct ty_error *err);
int kit_target(struct kit *k, const char *name, const char *spec, struct ty_error *err); /* spec NULL: delete */

json_t *kit_run(struct kit *k, const char *run);                 /* RUN, annotated; NULL when there is none */
void kit_state(struct kit *k, const char *run, const char *state); /* waits for it */
bool kit_ended(struct kit *k, const char *run);
/* The kinds of the run's events, separated by blanks; malloc'ed. */
char *kit_events(struct kit *k, const char *run);
void kit_sql(struct kit *k, const char *sql); /* behind the store's back */
int kit_runner(struct kit *k, const char *run); /* its pid, once there is one */
#endif
