/* chart.h - numbers as they come, drawn with characters
 *
 * Pure: no terminal, no clock.  A series keeps a bounded number of points: when it is full, of each four
 * neighbours the least and the largest stay, so that spikes do.
 */
#ifndef TY_CLI_CHART_H
#define TY_CLI_CHART_H
#include "base/str.h"
#include <stdint.h>

#define TY_SERIES_POINTS_MAX 4096
#define TY_CHART_WIDTH_MIN 30
#define TY_CHART_HEIGHT_MIN 4

struct ty_series {
    char *name;
    double *x, *y;
    size_t n, room;
    int64_t count; /* values that came, also those that are no longer kept */
    int64_t odd;   /* of them NaN or infinite: these are not drawn */
    bool steps;    /* x are the script's own steps, else they count from 1 */
    double last, min, max, first_x, last_x;
};
void ty_series_done(struct ty_series *s);
/* The next value; `step` NULL: it has none.  0 or -ENOMEM. */
int ty_series_add(struct ty_series *s, const int64_t *step, double y);

struct ty_chart_style {
    bool unicode; /* 2 x 4 dots a character, else ':' */
    bool color;
};
/* `height` lines (at least TY_CHART_HEIGHT_MIN) of exactly `width` characters (at least TY_CHART_WIDTH_MIN), escape
 * sequences not counted: a title with the last value, the curve with the labels of its y axis, the x axis. */
void ty_chart_draw(const struct ty_series *s, int width, int height,
                   const struct ty_chart_style *style, struct ty_str *lines);
#endif
