/* kit.h - what the store's tests share: a store in a folder of its own, and a loop of one */
#ifndef TEST_STORE_KIT_H
#define TEST_STORE_KIT_H
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/str.h"
#include "store/store.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h> /* wants the others before it */

struct kit {
    char home[64];
    struct ty_store *st;
    int wake; /* eventfd */
};

#define NOT_YET 1           /* a result that no callback has set */
#define T0 1780000000000000 /* 2026-05-28T20:26:40Z */

/* cmocka fixtures: *state is a struct kit with an open store. */
int kit_setup(void **state);
int kit_teardown(void **state);
int kit_open(struct kit *k, struct ty_error *err);
void kit_close(struct kit *k);
/* A done callback: ctx is an int. */
void kit_done(void *ctx, int r);
void kit_pump(struct kit *k, const int *result); /* deliver until it is set; fails after 20 s */
int kit_commit(struct kit *k, struct ty_unit *u);
/* A run with the spec {}, stored: its first event `submitted`, at T0 + id.  Its state after that
 * is in *run. */
int64_t kit_run(struct kit *k, const char *name, const char *experiment, struct ty_run *run);
void kit_add_run(struct kit *k, struct ty_unit *u, const char *name, const char *experiment,
                 int64_t *id, struct ty_run *run);
/* Apply and add. */
void kit_event(struct ty_unit *u, int64_t id, int64_t seq, enum ty_run_event ev, const char *data,
               struct ty_run *run);
void kit_note(struct ty_unit *u, int64_t id, int64_t seq, enum ty_note note, const char *data,
              const struct ty_run *run);
/* Is the JSON `have` (taken over) equal to the text? */
void kit_sql(struct kit *k, const char *text); /* behind the store's back */
void kit_json_is(json_t *have, const char *text);
void kit_row(struct ty_str *s, enum ty_row_kind kind, const char *name, int64_t at_us,
             const void *value, size_t n);
void kit_row_double(struct ty_str *s, const char *name, int64_t at_us, double d);
#endif
