/* reduce_types.h - vectors of VB bytes, for reduce_vector.h and the conversions that its includers give it */
#ifndef TY_COLL_REDUCE_TYPES_H
#define TY_COLL_REDUCE_TYPES_H
#include "coll/reduce_common.h"

#define RUN_AHEAD 2048 /* bytes */
#define RUN_VECTORS 4 /* of each source at a time: a cache line or more */
/* A loop without a loop: j from 0 to n - 1, 8 at most. */
#ifdef __clang__
#define EACH(j, n) _Pragma("unroll") for (int j = 0; j < (n); j++)
#else
#define EACH(j, n) _Pragma("GCC unroll 8") for (int j = 0; j < (n); j++)
#endif
#define INLINED static inline __attribute__((always_inline))

typedef uint32_t vec __attribute__((vector_size(VB), may_alias)); /* as it lies in memory, whatever the type */
typedef int32_t vi __attribute__((vector_size(VB)));
typedef float vf __attribute__((vector_size(VB)));
typedef double vd __attribute__((vector_size(VB)));
typedef uint16_t half __attribute__((vector_size(VB / 2)));
/* Anywhere in memory. */
typedef uint32_t vec_u __attribute__((vector_size(VB), aligned(1), may_alias));
typedef float vf_u __attribute__((vector_size(VB), aligned(1), may_alias));
typedef double vd_u __attribute__((vector_size(VB), aligned(1), may_alias));
typedef float vhf_u __attribute__((vector_size(VB / 2), aligned(1), may_alias));
typedef uint16_t half_u __attribute__((vector_size(VB / 2), aligned(1), may_alias));

/* The elements of a vector of a half type, widened; which are in which is the type's own affair. */
struct pair {
    vf lo, hi;
};
#endif
