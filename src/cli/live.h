/* live.h - the metrics of a run, drawn while they come
 *
 * A thread of its own draws, at most five times a second and whenever the window has another size; what
 * came meanwhile waits for the next turn.  The terminal's second screen is used, so that a window that
 * changes its width disturbs nothing; at the end the last picture is left on the first one.
 */
#ifndef TY_CLI_LIVE_H
#define TY_CLI_LIVE_H
#include "base/json.h"
#include "base/str.h"
#include "cli/chart.h"
#include "cli/cli.h"

#define TY_LIVE_SERIES_MAX 256 /* metrics that are kept; of others only the number is */

/* What is known; pure. */
struct ty_board {
    const char *run;
    const char *only; /* this metric; NULL: all */
    char state[32];
    struct ty_series series[TY_LIVE_SERIES_MAX];
    int n;
    int64_t left_out; /* rows: no numbers, or of metrics beyond the limit */
};
void ty_board_done(struct ty_board *b);
int ty_board_add(struct ty_board *b, const json_t *rows); /* rows of a `rows` event; 0 or -ENOMEM */
/* A picture of at most `height` lines, each ended by `eol`, none wider than `width`. */
void ty_board_draw(const struct ty_board *b, int width, int height,
                   const struct ty_chart_style *style, const char *eol, struct ty_str *out);

struct ty_live;
/* stdout must be a terminal.  NULL and *err: no memory or no thread. */
struct ty_live *ty_live_open(const struct ty_cli *cli, const char *run, const char *only,
                             struct ty_error *err);
int ty_live_rows(struct ty_live *l, const json_t *rows);
void ty_live_state(struct ty_live *l, const char *state);
/* Ends the thread, gives the terminal back, and leaves the last picture. */
struct ty_live *ty_live_close(struct ty_live *l);
#endif
