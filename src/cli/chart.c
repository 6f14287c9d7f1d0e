/* chart.c - numbers as they come, drawn with characters */
#include "cli/chart.h"
#include "cli/out.h"
#include <errno.h>
#include <math.h>
#include <string.h>

#define LABEL 10 /* characters of a y label */
#define DOTS_X 2 /* of one character */
#define DOTS_Y 4

/* ---- series ---- */

void ty_series_done(struct ty_series *s)
{
    free(s->name);
    free(s->x);
    free(s->y);
    *s = (struct ty_series){ 0 };
}

static void keep(struct ty_series *s, size_t to, size_t from)
{
    s->x[to] = s->x[from];
    s->y[to] = s->y[from];
}

/* Of four points the least and the largest stay, in their order. */
static void thin_out(struct ty_series *s)
{
    size_t kept = 0;

    for (size_t i = 0; i + 4 <= s->n; i += 4) {
        size_t least = i, most = i;

        for (size_t k = i; k < i + 4; k++) {
            least = s->y[k] < s->y[least] ? k : least;
            most = s->y[k] >= s->y[most] ? k : most;
        }
        keep(s, kept++, least < most ? least : most);
        keep(s, kept++, least < most ? most : least);
    }
    s->n = kept;
}

static int make_room(struct ty_series *s)
{
    size_t room = s->room ? s->room * 2 : 64;
    double *x, *y;

    if (s->n < s->room)
        return 0;
    if (s->n == TY_SERIES_POINTS_MAX) {
        thin_out(s);
        return 0;
    }
    x = realloc(s->x, room * sizeof *x);
    if (x)
        s->x = x;
    y = realloc(s->y, room * sizeof *y);
    if (y)
        s->y = y;
    if (!x || !y)
        return -ENOMEM;
    s->room = room;
    return 0;
}

int ty_series_add(struct ty_series *s, const int64_t *step, double y)
{
    double x = step ? (double)*step : s->steps ? s->last_x + 1 : (double)s->count + 1;

    if (isfinite(y) && make_room(s) < 0)
        return -ENOMEM;
    s->steps = s->steps || (s->count == 0 && step);
    s->last = y;
    s->last_x = x;
    s->count++;
    if (!isfinite(y)) {
        s->odd++;
        return 0;
    }
    if (s->n == 0) {
        s->min = s->max = y;
        s->first_x = x;
    }
    s->min = y < s->min ? y : s->min;
    s->max = y > s->max ? y : s->max;
    s->x[s->n] = x;
    s->y[s->n++] = y;
    return 0;
}

/* ---- the curve ---- */

struct canvas {
    unsigned char *cells; /* dots of each character, bit by bit: column * DOTS_Y + row */
    int columns, rows;
};

static void dot(struct canvas *c, int x, int y)
{
    int column = x / DOTS_X, row = c->rows - 1 - y / DOTS_Y;

    c->cells[row * c->columns + column] |=
        (unsigned char)(1u << (x % DOTS_X * DOTS_Y + DOTS_Y - 1 - y % DOTS_Y));
}

static void line(struct canvas *c, int x0, int y0, int x1, int y1)
{
    int steps = abs(x1 - x0) > abs(y1 - y0) ? abs(x1 - x0) : abs(y1 - y0);

    dot(c, x1, y1);
    for (int i = 0; i < steps; i++)
        dot(c, x0 + (int)lround((double)(x1 - x0) * i / steps),
            y0 + (int)lround((double)(y1 - y0) * i / steps));
}

/* The range of an axis: one that is a single value stands in the middle. */
static void widen(double *low, double *high)
{
    double by = fabs(*low) > 0 ? fabs(*low) * 0.1 : 1;

    if (*high > *low)
        return;
    *low -= by;
    *high += by;
}

/* Where a value lies between two others, as one of `n` dots; also where their difference is no double. */
static int place(double v, double low, double high, int n)
{
    double part = (v / 2 - low / 2) / (high / 2 - low / 2);

    return part <= 0 ? 0 : part >= 1 ? n - 1 : (int)lround(part * (n - 1));
}

static void draw_curve(const struct ty_series *s, struct canvas *c)
{
    double low = s->min, high = s->max, left = s->x[0], right = s->x[0];
    int x0 = 0, y0 = 0;

    for (size_t i = 0; i < s->n; i++) {
        left = s->x[i] < left ? s->x[i] : left;
        right = s->x[i] > right ? s->x[i] : right;
    }
    widen(&low, &high);
    for (size_t i = 0; i < s->n; i++) {
        int x = right > left ? place(s->x[i], left, right, c->columns * DOTS_X) : 0,
            y = place(s->y[i], low, high, c->rows * DOTS_Y);

        line(c, i ? x0 : x, i ? y0 : y, x, y);
        x0 = x;
        y0 = y;
    }
}

static void add_cell(struct ty_str *out, unsigned char dots, bool unicode)
{
    /* the order in which Unicode numbers the dots of its Braille patterns, from U+2800 */
    static const unsigned char bits[] = { 0x01, 0x02, 0x04, 0x40, 0x08, 0x10, 0x20, 0x80 };
    bool upper = dots & 0x33, lower = dots & 0xcc;
    unsigned pattern = 0;

    if (!unicode || !dots) {
        ty_str_add(out, upper ? lower ? ":" : "'" : lower ? "." : " ");
        return;
    }
    for (int i = 0; i < 8; i++)
        pattern |= dots >> i & 1 ? bits[i] : 0;
    ty_str_addf(out, "\xe2%c%c", (char)(0xa0 | pattern >> 6), (char)(0x80 | (pattern & 0x3f)));
}

/* ---- lines ---- */

static void pad(struct ty_str *out, size_t used, int width)
{
    if (used < (size_t)width)
        ty_str_addf(out, "%*s", width - (int)used, "");
}

static void add_title(const struct ty_series *s, int width, const struct ty_chart_style *style,
                      struct ty_str *out)
{
    char last[32], rest[160];
    char *name = ty_out_safe(s->name), *text;
    size_t used;

    snprintf(last, sizeof last, "%.6g", s->last);
    snprintf(rest, sizeof rest, s->n ? "  (%lld: %.4g to %.4g" : "  (%lld", (long long)s->count,
             s->min, s->max);
    if (s->odd)
        snprintf(rest + strlen(rest), sizeof rest - strlen(rest), ", %lld not finite",
                 (long long)s->odd);
    name = ty_out_cut(name, (size_t)width - strlen(last) - 2);
    used = name ? ty_out_width(name) : 0;
    ty_str_addf(out, "%s%s%s  %s", style->color ? "\033[1m" : "", name ? name : "",
                style->color ? "\033[0m" : "", last);
    used += 2 + strlen(last);
    text = used + 4 < (size_t)width ? ty_out_cut(ty_strf("%s)", rest), (size_t)width - used) : NULL;
    if (text)
        ty_str_add(out, text);
    pad(out, used + (text ? ty_out_width(text) : 0), width);
    free(name);
    free(text);
}

/* The y label of a row: the ends, and the middle where there is room for it. */
static void add_label(const struct ty_series *s, int row, int rows, struct ty_str *out)
{
    double low = s->min, high = s->max;
    char text[32] = "";

    widen(&low, &high);
    if (row == 0)
        snprintf(text, sizeof text, "%.4g", high);
    else if (row == rows - 1)
        snprintf(text, sizeof text, "%.4g", low);
    else if (rows >= 5 && rows % 2 && row == rows / 2)
        snprintf(text, sizeof text, "%.4g", low / 2 + high / 2);
    ty_str_addf(out, "%*s", LABEL, text);
}

static void add_axis(const struct ty_series *s, int width, const struct ty_chart_style *style,
                     struct ty_str *out)
{
    char first[40], last[32];
    int room = width - LABEL - 2, used;

    ty_str_addf(out, "%*s%s ", LABEL, "", style->unicode ? "└" : "+");
    snprintf(first, sizeof first, "%s%.6g", s->steps ? "step " : "", s->first_x);
    snprintf(last, sizeof last, "%.6g", s->last_x);
    used = (int)(strlen(first) + strlen(last));
    if (s->n == 0 || used >= room)
        ty_str_addf(out, "%*s", room, "");
    else
        ty_str_addf(out, "%s%*s%s", first, room - used, "", last);
}

void ty_chart_draw(const struct ty_series *s, int width, int height,
                   const struct ty_chart_style *style, struct ty_str *lines)
{
    struct canvas c = { .columns = width - LABEL - 1, .rows = height - 2 };

    c.cells = calloc((size_t)c.rows, (size_t)c.columns);
    if (!c.cells) {
        lines[0].failed = true;
        return;
    }
    if (s->n > 0)
        draw_curve(s, &c);
    add_title(s, width, style, &lines[0]);
    for (int row = 0; row < c.rows; row++) {
        struct ty_str *out = &lines[row + 1];

        if (s->n > 0)
            add_label(s, row, c.rows, out);
        else
            pad(out, 0, LABEL);
        ty_str_add(out, style->unicode ? "│" : "|");
        ty_str_add(out, style->color ? "\033[36m" : "");
        for (int i = 0; i < c.columns; i++)
            add_cell(out, c.cells[row * c.columns + i], style->unicode);
        ty_str_add(out, style->color ? "\033[0m" : "");
    }
    add_axis(s, width, style, &lines[height - 1]);
    free(c.cells);
}
