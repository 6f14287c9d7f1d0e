/* html_chart.c - a curve as inline SVG
 *
 * The values are cut into at most COLUMNS pieces; each gives its least and its greatest, so that a spike is seen however many values
 * there are, and the drawing has a bounded size.
 */
#include "http/html.h"
#include <math.h>

#define WIDTH 320
#define HEIGHT 110
#define COLUMNS 320

struct range {
    double low, high;
    bool any;
};

static struct range range_of(const double *v, size_t n)
{
    struct range r = { 0 };

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(v[i]))
            continue;
        r.low = r.any ? fmin(r.low, v[i]) : v[i];
        r.high = r.any ? fmax(r.high, v[i]) : v[i];
        r.any = true;
    }
    return r;
}

static double y_of(const struct range *all, double v)
{
    double span = all->high - all->low;

    return span > 0 ? HEIGHT - (v - all->low) / span * HEIGHT : HEIGHT / 2.0;
}

static void add_path(struct ty_str *s, const double *v, size_t n, const struct range *all)
{
    size_t columns = n < COLUMNS ? n : COLUMNS;
    bool pen_up = true;

    ty_str_add(s, "<path d=\"");
    for (size_t c = 0; c < columns; c++) {
        size_t from = n * c / columns, to = n * (c + 1) / columns;
        struct range piece = range_of(v + from, to - from);
        double x = columns > 1 ? (double)c / (double)(columns - 1) * WIDTH : WIDTH / 2.0;

        if (!piece.any) {
            pen_up = true;
            continue;
        }
        ty_str_addf(s, "%s%.1f %.1f", pen_up ? "M" : "L", x, y_of(all, piece.high));
        if (piece.low < piece.high)
            ty_str_addf(s, "L%.1f %.1f", x, y_of(all, piece.low));
        pen_up = false;
    }
    ty_str_add(s, "\"/>");
}

void html_chart(struct ty_str *s, const char *name, const double *values, size_t n)
{
    struct range all = range_of(values, n);
    double last = n > 0 ? values[n - 1] : NAN;

    html_add(s, "<figure class=\"chart\"><figcaption><span>%s</span> ", name);
    ty_str_addf(s, "<b>%.6g</b></figcaption>", last);
    if (all.any) {
        ty_str_addf(s,
                    "<svg viewBox=\"-2 -4 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
                    "data-n=\"%zu\" data-low=\"%.17g\" data-high=\"%.17g\"><title>",
                    WIDTH + 4, HEIGHT + 8, n, all.low, all.high);
        html_text(s, name);
        ty_str_addf(s, ": %zu values from %.6g to %.6g, the last %.6g</title>", n, all.low,
                    all.high, last);
        add_path(s, values, n, &all);
        ty_str_add(s, "</svg>");
        ty_str_addf(
            s, "<div class=\"range\"><span>%.4g &ndash; %.4g</span><span>%zu values</span></div>",
            all.low, all.high, n);
    } else {
        ty_str_add(s, "<p>No number among its values can be drawn.</p>");
    }
    ty_str_add(s, "</figure>\n");
}
