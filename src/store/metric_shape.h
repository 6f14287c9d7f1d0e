/* metric_shape.h - from logged rows to the shapes that Azure ML's get_metrics gives; pure
 *
 *   log, once                          the bare value
 *   log, more than once                [values]
 *   log_list                           [items]; several lists, and single values among them, are joined
 *   log_row, once                      {column: value}
 *   log_row several times, log_table   {column: [values]}; a single value among them stands in a column of the
 *                                      metric's own name
 *
 * A number that JSON has no word for is {"$float": "NaN" | "Infinity" | "-Infinity"}.
 */
#ifndef TY_METRIC_SHAPE_H
#define TY_METRIC_SHAPE_H
#include "core/row.h"
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct ty_metric_point {
    uint32_t writer;
    uint64_t seq;
    int64_t at_us;
    enum ty_row_kind kind;
    json_t *value; /* owned by whoever made the point */
};

json_t *ty_metric_double(double value); /* a new reference */
/* Sort points, given by (writer, seq), by time, then writer, then seq.  A writer's own order is
 * never changed: when its clock steps back, its later points take the time of the latest before
 * them (at_us is raised). */
void ty_metric_order(struct ty_metric_point *points, size_t n);
/* The value of the metric `name` from its points in order; n >= 1.  A new reference; NULL: out
 * of memory. */
json_t *ty_metric_shape(const char *name, const struct ty_metric_point *points, size_t n);
#endif
