/* names.c - the words for dtypes, kinds of operations and reductions */
#include "coll/names.h"
#include <assert.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TY_COLL_U8] = { "uint8", 1 },    [TY_COLL_I8] = { "int8", 1 },
    [TY_COLL_I16] = { "int16", 2 },   [TY_COLL_I32] = { "int32", 4 },
    [TY_COLL_I64] = { "int64", 8 },   [TY_COLL_BOOL] = { "bool", 1 },
    [TY_COLL_F16] = { "float16", 2 }, [TY_COLL_BF16] = { "bfloat16", 2 },
    [TY_COLL_F32] = { "float32", 4 }, [TY_COLL_F64] = { "float64", 8 },
};
static_assert(sizeof dtypes / sizeof *dtypes == TY_COLL_DTYPES, "a dtype has no name");

static const char *const kinds[] = {
    [TY_COLL_ALLREDUCE] = "allreduce",
    [TY_COLL_REDUCESCATTER] = "reducescatter",
    [TY_COLL_ALLGATHER] = "allgather",
    [TY_COLL_BROADCAST] = "broadcast",
    [TY_COLL_ALLTOALL] = "alltoall",
    [TY_COLL_BARRIER] = "barrier",
    [TY_COLL_JOIN] = "join",
    [TY_COLL_SET_ADD] = "add_process_set",
    [TY_COLL_SET_REMOVE] = "remove_process_set",
};
static_assert(sizeof kinds / sizeof *kinds == TY_COLL_KINDS, "a kind has no name");

static const char *const ops[] = {
    [TY_COLL_AVERAGE] = "average", [TY_COLL_SUM] = "sum", [TY_COLL_ADASUM] = "adasum",
    [TY_COLL_MIN] = "min",         [TY_COLL_MAX] = "max", [TY_COLL_PRODUCT] = "product",
};
static_assert(sizeof ops / sizeof *ops == TY_COLL_OPS, "a reduction has no name");

size_t ty_coll_dtype_size(enum ty_coll_dtype t)
{
    return (unsigned)t < TY_COLL_DTYPES ? dtypes[t].size : 0;
}

const char *ty_coll_dtype_name(enum ty_coll_dtype t)
{
    return (unsigned)t < TY_COLL_DTYPES ? dtypes[t].name : NULL;
}

const char *ty_coll_kind_name(enum ty_coll_kind k)
{
    return (unsigned)k < TY_COLL_KINDS ? kinds[k] : NULL;
}

const char *ty_coll_op_name(enum ty_coll_op op)
{
    return (unsigned)op < TY_COLL_OPS ? ops[op] : NULL;
}
