/* metric_shape.c - from logged rows to the shapes that Azure ML's get_metrics gives; pure */
#include "store/metric_shape.h"
#include "base/json.h"
#include <math.h>
#include <stdbool.h>

struct fold {
    json_t *list;    /* single values and items of lists */
    json_t *columns; /* {column: [values]} */
    size_t lists, rows, tables;
};

json_t *ty_metric_double(double value)
{
    if (isfinite(value))
        return json_real(value);
    return json_pack("{s:s}", "$float",
                     isnan(value) ? "NaN"
                     : value > 0  ? "Infinity"
                                  : "-Infinity");
}

/* ---- order ---- */

static int compare(const void *a, const void *b)
{
    const struct ty_metric_point *x = a, *y = b;

    if (x->at_us != y->at_us)
        return x->at_us < y->at_us ? -1 : 1;
    if (x->writer != y->writer)
        return x->writer < y->writer ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

void ty_metric_order(struct ty_metric_point *points, size_t n)
{
    bool sorted = true;

    for (size_t i = 1; i < n; i++) {
        const struct ty_metric_point *before = &points[i - 1];

        if (before->writer == points[i].writer && before->at_us > points[i].at_us)
            points[i].at_us = before->at_us;
        else if (before->at_us > points[i].at_us)
            sorted = false;
    }
    if (!sorted)
        qsort(points, n, sizeof *points, compare);
}

/* ---- shape ---- */

static int add_items(json_t *list, const json_t *items)
{
    size_t i;
    json_t *item;

    json_array_foreach ((json_t *)items, i, item)
        if (json_array_append(list, item) < 0)
            return -1;
    return 0;
}

static json_t *column(json_t *columns, const char *name)
{
    json_t *c = json_object_get(columns, name);

    if (!c && json_object_set_new(columns, name, json_array()) == 0)
        c = json_object_get(columns, name);
    return c;
}

/* A row adds one value to each of its columns, a table as many as it lists there. */
static int add_columns(json_t *columns, json_t *cells, bool table)
{
    const char *name;
    json_t *value;

    json_object_foreach (cells, name, value) {
        json_t *c = column(columns, name);
        int r = table && json_is_array(value) ? add_items(c, value) : json_array_append(c, value);

        if (r < 0)
            return -1;
    }
    return 0;
}

static int fold_add(struct fold *f, const struct ty_metric_point *p)
{
    switch (p->kind) {
    case TY_ROW_LIST:
        if (!json_is_array(p->value))
            break;
        f->lists++;
        return add_items(f->list, p->value);
    case TY_ROW_ROW:
        if (!json_is_object(p->value))
            break;
        f->rows++;
        return add_columns(f->columns, p->value, false);
    case TY_ROW_TABLE:
        if (!json_is_object(p->value))
            break;
        f->tables++;
        return add_columns(f->columns, p->value, true);
    default:
        break;
    }
    return json_array_append(f->list, p->value);
}

static json_t *only_row(const json_t *columns)
{
    json_t *row = json_object();
    const char *name;
    json_t *values;

    json_object_foreach ((json_t *)columns, name, values)
        if (json_object_set(row, name, json_array_get(values, 0)) < 0)
            return json_decref(row), NULL;
    return row;
}

static json_t *fold_result(const struct fold *f, const char *name)
{
    size_t singles = json_array_size(f->list);

    if (f->rows + f->tables == 0)
        return json_incref(f->lists == 0 && singles == 1 ? json_array_get(f->list, 0) : f->list);
    if (f->rows == 1 && f->tables == 0 && singles == 0)
        return only_row(f->columns);
    if (singles > 0) {
        json_t *c = column(f->columns, name);

        if (!c || add_items(c, f->list) < 0)
            return NULL;
    }
    return json_incref(f->columns);
}

json_t *ty_metric_shape(const char *name, const struct ty_metric_point *points, size_t n)
{
    CLEANUP_JSON json_t *list = json_array();
    CLEANUP_JSON json_t *columns = json_object();
    struct fold f = { .list = list, .columns = columns };

    if (!list || !columns)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (fold_add(&f, &points[i]) < 0)
            return NULL;
    return fold_result(&f, name);
}
