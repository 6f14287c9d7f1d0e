/* params.h - what a run was asked to do, as a flat list of names and texts
 *
 * Two runs are compared by it: `diff` and `compare` show the names whose texts differ.
 */
#ifndef TY_CLI_PARAMS_H
#define TY_CLI_PARAMS_H
#include "base/json.h"
#include <stdbool.h>
struct ty_cli;
struct ty_error;

/* {name: text} of a RUN with its spec, a new reference; NULL: out of memory.
 *
 *   target, program, resources.cpus, use_gpu ...   with the defaults of the run spec filled in
 *   --lr, -v       a flag of the command: the word after it, or "true"
 *   arg.1, arg.2   words of the command that belong to no flag
 *   env.NAME, data.NAME, tag.KEY */
json_t *ty_run_params(const json_t *run);

/* {name: {"count": n, "last": number, "min": number, "max": number}} of the metrics of a run whose
 * values are numbers.  A number that is none is {"$float": "NaN"} and so on; min and max leave NaN out and are
 * null where nothing else was logged. */
int ty_run_scalars(struct ty_cli *cli, const char *id, json_t **ret, struct ty_error *err);
/* The same of the "metrics" of METRICS; NULL: out of memory. */
json_t *ty_scalars_of(const json_t *metrics);
/* A number of METRICS, {"$float"} too; false: it is none. */
bool ty_scalar(const json_t *value, double *ret);
#endif
