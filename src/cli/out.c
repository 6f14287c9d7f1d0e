/* out.c - what commands print: tables, JSON, times, states, progress */
#include "cli/out.h"
#include "base/clock.h"
#include "base/str.h"
#include <errno.h>

#define GAP 2
#define LAST_MIN 12 /* the last column keeps at least this */
#define REDRAW_US 100000
#define BAR 24

size_t ty_out_width(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

char *ty_out_safe(const char *text)
{
    size_t n = strlen(text), i;
    bool valid = ty_utf8_valid(text, n);
    char *safe = strdup(text);

    for (i = 0; safe && i < n; i++) {
        unsigned char b = (unsigned char)safe[i];

        if (b < ' ' || b == 0x7f || (b >= 0x80 && !valid))
            safe[i] = b == '\t' || b == '\n' ? ' ' : '?';
        else if (b == 0xc2 && (unsigned char)safe[i + 1] < 0xa0 && safe[i + 1])
            safe[i] = safe[i + 1] = '?'; /* U+0080 to U+009F are control characters too */
    }
    return safe;
}

char *ty_out_value(const json_t *value)
{
    const char *word = ty_out_str(value, "$float");

    if (json_is_string(value))
        return strdup(json_string_value(value));
    if (*word)
        return strdup(word);
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7));
}

/* The end of the first `n` characters. */
static const char *after_chars(const char *text, size_t n)
{
    for (; *text && n > 0; n--)
        do
            text++;
        while (((unsigned char)*text & 0xc0) == 0x80);
    return text;
}

char *ty_out_cut(char *text, size_t width)
{
    char *cut;

    if (!text || width == 0 || ty_out_width(text) <= width)
        return text;
    cut = ty_strf("%.*s…", (int)(after_chars(text, width - 1) - text), text);
    free(text);
    return cut;
}

/* ---- tables ---- */

void ty_table_done(struct ty_table *t)
{
    int i;

    for (i = 0; i < t->rows * t->columns; i++)
        free(t->cells[i]);
    free(t->cells);
    t->cells = NULL;
    t->rows = t->room = 0;
}

static void count_columns(struct ty_table *t)
{
    while (t->columns < TY_TABLE_COLUMNS_MAX && t->heads[t->columns])
        t->columns++;
}

void ty_table_row(struct ty_table *t, const char *const *cells)
{
    int i;

    if (!t->columns)
        count_columns(t);
    if (t->rows == t->room) {
        int room = t->room ? t->room * 2 : 32;
        char **more = realloc(t->cells, (size_t)room * (size_t)t->columns * sizeof *more);

        if (!more) {
            t->failed = true;
            return;
        }
        t->cells = more;
        t->room = room;
    }
    for (i = 0; i < t->columns; i++) {
        char *cell = ty_out_safe(cells[i] && cells[i][0] ? cells[i] : "-");

        t->failed = t->failed || !cell;
        t->cells[t->rows * t->columns + i] = cell;
    }
    t->rows++;
}

/* Print `text` cut to `width` characters; returns how many were printed. */
static size_t print_cut(const char *text, size_t width)
{
    size_t all = ty_out_width(text);

    if (width == 0 || all <= width) {
        fputs(text, stdout);
        return all;
    }
    printf("%.*s…", (int)(after_chars(text, width - 1) - text), text);
    return width;
}

static void print_row(const struct ty_cli *cli, const struct ty_table *t, char *const *cells,
                      const size_t *widths, bool head)
{
    int i;

    for (i = 0; i < t->columns; i++) {
        bool last = i == t->columns - 1, right = t->right >> i & 1;
        const char *color =
            cli->color && !head && i == t->state_column ? ty_out_state_color(cells[i]) : "";
        size_t n = ty_out_width(cells[i]);

        if (right && n < widths[i])
            printf("%*s", (int)(widths[i] - n), "");
        fputs(color, stdout);
        n = print_cut(cells[i], last && !right ? widths[i] : 0);
        fputs(color[0] ? "\033[0m" : "", stdout);
        if (!last)
            printf("%*s", (int)((right ? 0 : widths[i] - n) + GAP), "");
    }
    putchar('\n');
}

static void print_aligned(const struct ty_cli *cli, const struct ty_table *t)
{
    size_t widths[TY_TABLE_COLUMNS_MAX] = { 0 }, used = 0;
    char *heads[TY_TABLE_COLUMNS_MAX];
    int i, k;

    for (i = 0; i < t->columns; i++) {
        heads[i] = (char *)(uintptr_t)t->heads[i];
        widths[i] = ty_out_width(t->heads[i]);
        for (k = 0; k < t->rows; k++) {
            size_t n = ty_out_width(t->cells[k * t->columns + i]);

            widths[i] = n > widths[i] ? n : widths[i];
        }
        used += i < t->columns - 1 ? widths[i] + GAP : 0;
    }
    i = t->columns - 1;
    if (cli->width == 0)
        widths[i] = 0;
    else if ((size_t)cli->width > used + LAST_MIN)
        widths[i] = (size_t)cli->width - used;
    else
        widths[i] = LAST_MIN;
    print_row(cli, t, heads, widths, true);
    for (k = 0; k < t->rows; k++)
        print_row(cli, t, t->cells + k * t->columns, widths, false);
}

int ty_table_print(const struct ty_cli *cli, const struct ty_table *t)
{
    int i, k;

    if (t->failed)
        return ty_cli_fail(cli, &(struct ty_error){ .code = -ENOMEM, .text = "out of memory" });
    if (ty_cli_flag(cli, "quiet")) {
        for (k = 0; k < t->rows; k++)
            puts(t->cells[k * t->columns]);
    } else if (ty_cli_flag(cli, "plain")) {
        for (k = 0; k < t->rows; k++)
            for (i = 0; i < t->columns; i++)
                printf("%s%c", t->cells[k * t->columns + i], i < t->columns - 1 ? '\t' : '\n');
    } else if (t->rows) {
        print_aligned(cli, t);
    }
    return TY_EXIT_OK;
}

/* ---- JSON, times, states ---- */

int ty_out_json(const struct ty_cli *cli, const json_t *j)
{
    size_t flags = JSON_ENCODE_ANY | (cli->terminal ? JSON_INDENT(2) : JSON_COMPACT);

    if (json_dumpf(j, stdout, flags) < 0)
        return ty_cli_fail(cli, &(struct ty_error){
                                    .code = -EIO, .text = "cannot print JSON to standard output" });
    putchar('\n');
    return TY_EXIT_OK;
}

int64_t ty_out_time(const json_t *iso)
{
    struct tm tm = { 0 };
    const char *s = json_string_value(iso), *rest;
    int64_t us = 0, unit = 100000;

    if (!s || !(rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm)))
        return 0;
    if (*rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
            us += (*rest - '0') * unit;
    return (int64_t)timegm(&tm) * 1000000 + us;
}

const char *ty_out_duration(int64_t us, char buf[16])
{
    long long s = us > 0 ? us / 1000000 : 0;

    if (s < 60)
        snprintf(buf, 16, "%llds", s);
    else if (s < 3600)
        snprintf(buf, 16, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, 16, "%lldh%02lldm", s / 3600, s % 3600 / 60);
    else
        snprintf(buf, 16, "%lldd%lldh", s / 86400, s % 86400 / 3600);
    return buf;
}

const char *ty_out_state_color(const char *state)
{
    static const struct {
        const char *state, *color;
    } table[] = {
        { "Completed", "\033[32m" }, { "Failed", "\033[31m" },
        { "Canceled", "\033[33m" },  { "CancelRequested", "\033[33m" },
        { "Running", "\033[36m" },   { "NotResponding", "\033[35m" },
        { "Queued", "\033[2m" },
    };
    size_t i;

    for (i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].state, state))
            return table[i].color;
    return "";
}

const char *ty_out_str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* ---- progress ---- */

void ty_progress_draw(struct ty_progress *p, const char *what, uint64_t done, uint64_t all,
                      bool force)
{
    int64_t now = ty_mono_us();
    char a[16], b[16], bar[BAR + 1];
    size_t full = all ? (size_t)((double)done / (double)all * BAR) : BAR;

    if (!p->last_us)
        p->last_us = now; /* what is done at once shows no bar */
    if (!p->on || (!force && now - p->last_us < REDRAW_US))
        return;
    p->last_us = now;
    p->drawn = true;
    full = full > BAR ? BAR : full;
    memset(bar, '.', BAR);
    memset(bar, '#', full);
    bar[BAR] = '\0';
    fprintf(stderr, "\r\033[K%s [%s] %s of %s", what, bar, ty_show_bytes(done, a),
            ty_show_bytes(all, b));
    fflush(stderr);
}

void ty_progress_clear(struct ty_progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}
