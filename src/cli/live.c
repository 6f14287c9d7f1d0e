/* live.c - the metrics of a run, drawn while they come */
#include "cli/live.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/out.h"
#include "cli/params.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TURN_MS 200    /* between two pictures */
#define CHART_HEIGHT 7 /* that a chart should have */
#define CHART_HEIGHT_MAX 16
#define CHART_WIDTH 40 /* below it there is one column of charts */
#define COLUMNS_MAX 8
#define GAP 2           /* between two columns */
#define FRAME 3         /* lines that are not charts: head, an empty one, foot */
#define SCREEN_MAX 1000 /* lines and columns of a terminal that are used */

/* ---- what is known ---- */

void ty_board_done(struct ty_board *b)
{
    while (b->n > 0)
        ty_series_done(&b->series[--b->n]);
}

static struct ty_series *find_series(struct ty_board *b, const char *name)
{
    for (int i = 0; i < b->n; i++)
        if (!strcmp(b->series[i].name, name))
            return &b->series[i];
    if (b->n == TY_LIVE_SERIES_MAX || !(b->series[b->n].name = strdup(name)))
        return NULL;
    return &b->series[b->n++];
}

int ty_board_add(struct ty_board *b, const json_t *rows)
{
    const json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        const char *name = ty_out_str(row, "name");
        const json_t *step = json_object_get(row, "step");
        int64_t at = json_integer_value(step);
        struct ty_series *s;
        double value;

        if (b->only && strcmp(b->only, name))
            continue;
        s = ty_scalar(json_object_get(row, "value"), &value) ? find_series(b, name) : NULL;
        if (!s)
            b->left_out++;
        else if (ty_series_add(s, json_is_integer(step) ? &at : NULL, value) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* ---- the picture ---- */

struct grid {
    int columns, height, shown; /* height of one chart; how many there is room for */
};

/* As few columns as give each chart a decent height, and as many as are needed to show all. */
static struct grid make_grid(int n, int width, int height)
{
    struct grid g = { 0 };
    int most = width / CHART_WIDTH, room = height - FRAME;

    most = most > COLUMNS_MAX ? COLUMNS_MAX : most < 1 ? 1 : most;
    for (g.columns = 1; g.columns < most; g.columns++)
        if (room / ((n + g.columns - 1) / g.columns) >= CHART_HEIGHT)
            break;
    g.height = room / ((n + g.columns - 1) / g.columns);
    g.height = g.height > CHART_HEIGHT_MAX      ? CHART_HEIGHT_MAX
               : g.height < TY_CHART_HEIGHT_MIN ? TY_CHART_HEIGHT_MIN
                                                : g.height;
    g.shown = room / g.height * g.columns;
    g.shown = g.shown < n ? g.shown : n;
    return g;
}

static void add_text(struct ty_str *out, const char *text, int width, const char *eol)
{
    char *safe = ty_out_cut(ty_out_safe(text), (size_t)width);

    ty_str_addf(out, "%s%s", safe ? safe : "", eol);
    free(safe);
}

/* Charts side by side, from number `first` on. */
static void draw_row(const struct ty_board *b, const struct grid *g, int first, int width,
                     const struct ty_chart_style *style, const char *eol, struct ty_str *out)
{
    struct ty_str lines[COLUMNS_MAX][CHART_HEIGHT_MAX] = { 0 };
    int each = (width - GAP * (g->columns - 1)) / g->columns, last = first + g->columns;

    last = last < g->shown ? last : g->shown;
    for (int i = first; i < last; i++)
        ty_chart_draw(&b->series[i], each, g->height, style, lines[i - first]);
    for (int k = 0; k < g->height; k++) {
        for (int i = first; i < last; i++) {
            struct ty_str *one = &lines[i - first][k];

            ty_str_addf(out, "%*s%s", i > first ? GAP : 0, "", one->text ? one->text : "");
            ty_str_done(one);
        }
        ty_str_add(out, eol);
    }
}

static void add_foot(const struct ty_board *b, int hidden, int width, const char *eol,
                     struct ty_str *out)
{
    CLEANUP_STR struct ty_str foot = { 0 };

    if (hidden > 0)
        ty_str_addf(&foot, "no room for %d more; --name shows one  ", hidden);
    if (b->left_out > 0)
        ty_str_addf(&foot, "%lld other values; --rows shows them", (long long)b->left_out);
    if (b->n == 0)
        ty_str_add(&foot, "no numbers were logged yet");
    if (foot.len)
        add_text(out, foot.text, width, eol);
}

void ty_board_draw(const struct ty_board *b, int width, int height,
                   const struct ty_chart_style *style, const char *eol, struct ty_str *out)
{
    struct grid g = { 0 };
    CLEANUP_FREE char *head = ty_strf("%s  %s", b->run, b->state);

    add_text(out, head ? head : b->run, width, eol);
    if (height >= FRAME + TY_CHART_HEIGHT_MIN && width >= TY_CHART_WIDTH_MIN && b->n > 0)
        g = make_grid(b->n, width, height);
    if (height >= FRAME)
        ty_str_add(out, eol);
    for (int i = 0; i < g.shown; i += g.columns)
        draw_row(b, &g, i, width, style, eol, out);
    if (height >= FRAME)
        add_foot(b, b->n - g.shown, width, eol, out);
}

/* ---- the screen ---- */

struct ty_live {
    struct ty_board board;
    struct ty_chart_style style;
    pthread_t thread;
    pthread_mutex_t lock; /* of board, dirty and ending */
    pthread_cond_t end;
    bool dirty, ending;
    int width, height; /* of the last picture */
};

static bool is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (int i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);

        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

/* True when it has another size than the last time. */
static bool measure(struct ty_live *l)
{
    struct winsize w = { 0 };
    int width = 80, height = 24;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
        width = w.ws_col < SCREEN_MAX ? w.ws_col : SCREEN_MAX;
        height = w.ws_row < SCREEN_MAX ? w.ws_row : SCREEN_MAX;
    }
    if (width == l->width && height == l->height)
        return false;
    l->width = width;
    l->height = height;
    return true;
}

/* Over the last picture, line by line; a window of another size is cleared first.  The last column and line stay
 * empty, so that nothing wraps or scrolls. */
static void draw(struct ty_live *l, bool clear)
{
    CLEANUP_STR struct ty_str out = { 0 };

    ty_str_add(&out, clear ? "\033[2J\033[H" : "\033[H");
    pthread_mutex_lock(&l->lock);
    ty_board_draw(&l->board, l->width - 1, l->height - 1, &l->style, "\033[K\r\n", &out);
    l->dirty = false;
    pthread_mutex_unlock(&l->lock);
    ty_str_add(&out, "\033[J");
    if (!out.failed)
        ty_write_all(STDOUT_FILENO, out.text, out.len);
}

/* Wait for the next turn; true when it is the end. */
static bool wait_turn(struct ty_live *l, bool *dirty)
{
    int64_t until = ty_mono_us() + TURN_MS * 1000;
    struct timespec t = { .tv_sec = until / 1000000, .tv_nsec = until % 1000000 * 1000 };
    bool ending;

    pthread_mutex_lock(&l->lock);
    while (!l->ending && pthread_cond_timedwait(&l->end, &l->lock, &t) != ETIMEDOUT)
        ;
    ending = l->ending;
    *dirty = l->dirty;
    pthread_mutex_unlock(&l->lock);
    return ending;
}

static void *draw_loop(void *ctx)
{
    struct ty_live *l = ctx;
    bool dirty = true, resized = true;

    do {
        if (dirty || resized)
            draw(l, resized);
        if (wait_turn(l, &dirty))
            break;
        resized = measure(l);
    } while (true);
    return NULL;
}

/* Signals are for the thread that waits for the service: it is what they have to end. */
static int start_thread(struct ty_live *l)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&l->thread, NULL, draw_loop, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

struct ty_live *ty_live_open(const struct ty_cli *cli, const char *run, const char *only,
                             struct ty_error *err)
{
    static const char enter[] = "\033[?1049h\033[H";
    struct ty_live *l = calloc(1, sizeof *l);
    pthread_condattr_t clock;

    if (!l) {
        ty_error_oom(err);
        return NULL;
    }
    l->board.run = run;
    l->board.only = only;
    l->style = (struct ty_chart_style){ .unicode = is_utf8(), .color = cli->color };
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&l->end, &clock);
    pthread_condattr_destroy(&clock);
    measure(l);
    fflush(stdout);
    ty_write_all(STDOUT_FILENO, enter, strlen(enter));
    if (start_thread(l) < 0) {
        static const char leave[] = "\033[?1049l";

        ty_write_all(STDOUT_FILENO, leave, strlen(leave));
        free(l);
        ty_error_set(err, -EAGAIN, "cannot draw metrics: no thread can be started");
        return NULL;
    }
    return l;
}

int ty_live_rows(struct ty_live *l, const json_t *rows)
{
    int r;

    pthread_mutex_lock(&l->lock);
    r = ty_board_add(&l->board, rows);
    l->dirty = true;
    pthread_mutex_unlock(&l->lock);
    return r;
}

void ty_live_state(struct ty_live *l, const char *state)
{
    pthread_mutex_lock(&l->lock);
    snprintf(l->board.state, sizeof l->board.state, "%s", state);
    l->dirty = true;
    pthread_mutex_unlock(&l->lock);
}

struct ty_live *ty_live_close(struct ty_live *l)
{
    CLEANUP_STR struct ty_str out = { 0 };

    if (!l)
        return NULL;
    pthread_mutex_lock(&l->lock);
    l->ending = true;
    pthread_cond_signal(&l->end);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    measure(l);
    ty_str_add(&out, "\033[?1049l");
    ty_board_draw(&l->board, l->width - 1, l->height - 1, &l->style, "\r\n", &out);
    if (!out.failed)
        ty_write_all(STDOUT_FILENO, out.text, out.len);
    pthread_cond_destroy(&l->end);
    pthread_mutex_destroy(&l->lock);
    ty_board_done(&l->board);
    free(l);
    return NULL;
}
