/* names.h - the words for dtypes, kinds of operations and reductions, as users see them in errors and timelines */
#ifndef TY_COLL_NAMES_H
#define TY_COLL_NAMES_H
#include <trainyard/coll.h>

const char *ty_coll_op_name(enum ty_coll_op op); /* "average"; NULL for no operation */
#endif
