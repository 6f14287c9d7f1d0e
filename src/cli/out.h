/* out.h - what commands print: tables, JSON, times, states, progress
 *
 * Text from outside (names, command lines, messages) is printed with its control characters
 * replaced: a run's name cannot move the cursor of whoever lists it.
 */
#ifndef TY_CLI_OUT_H
#define TY_CLI_OUT_H
#include "base/json.h"
#include "cli/cli.h"

#define TY_TABLE_COLUMNS_MAX 64
struct ty_table {
    const char *heads[TY_TABLE_COLUMNS_MAX]; /* NULL after the last */
    int state_column;                        /* coloured as a state; -1: none */
    uint64_t right;                          /* bit n: column n is aligned to the right */
    char **cells;                            /* rows of as many cells as heads; owned */
    int columns, rows, room;
    bool failed; /* out of memory: sticky */
};
void ty_table_done(struct ty_table *t);
#define CLEANUP_TABLE CLEANUP(ty_table_done)
/* One row: as many texts as there are heads (NULL prints as "-"). */
void ty_table_row(struct ty_table *t, const char *const *cells);
/* As the options say: -q the first column, --plain tabs, else aligned; on a terminal the last
 * column is cut to fit. */
int ty_table_print(const struct ty_cli *cli, const struct ty_table *t);

int ty_out_json(const struct ty_cli *cli,
                const json_t *j); /* one object and a newline; the exit code */
/* The text with control characters and broken UTF-8 replaced, malloc'ed. */
char *ty_out_safe(const char *text);
size_t ty_out_width(const char *text); /* characters */
/* A value of METRICS or of a spec as people write it, malloc'ed: text bare, numbers with 7 digits, NaN as a word. */
char *ty_out_value(const json_t *value);
/* The text, which is taken over, cut to `width` characters of which the last is then '…'; NULL: out of memory. */
char *ty_out_cut(char *text, size_t width);

int64_t ty_out_time(const json_t *iso);                /* microseconds since 1970; 0 for null */
const char *ty_out_duration(int64_t us, char buf[16]); /* "12s", "3m20s", "2h05m", "4d3h" */
const char *ty_out_state_color(const char *state);     /* an escape sequence, "" for none */
const char *ty_out_str(const json_t *o,
                       const char *key); /* text of a key, "" when missing or null */

/* One line on stderr that is drawn over, on a terminal only. */
struct ty_progress {
    bool on, drawn;
    int64_t last_us;
};
void ty_progress_draw(struct ty_progress *p, const char *what, uint64_t done, uint64_t all,
                      bool force);
void ty_progress_clear(struct ty_progress *p);
#endif
