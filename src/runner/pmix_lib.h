/* pmix_lib.h - libpmix and libmpi as this machine has them, opened at run time
 *
 * Only the helper opens them (pmix_helper.h): neither program nor library links either.
 */
#ifndef TY_PMIX_LIB_H
#define TY_PMIX_LIB_H
/* The library's own header converts a number with a function that is banned here. */
#pragma push_macro("atoi")
#undef atoi
#include <pmix.h>
#include <pmix_server.h>
#pragma pop_macro("atoi")
struct ty_error;

#define TY_PMIX_MAJOR "4" /* whose structures pmix_server.h has */

/*     member              function */
#define TY_PMIX_FUNCTIONS(X) \
    X(server_init,         PMIx_server_init) \
    X(server_finalize,     PMIx_server_finalize) \
    X(register_nspace,     PMIx_server_register_nspace) \
    X(register_client,     PMIx_server_register_client) \
    X(setup_fork,          PMIx_server_setup_fork) \
    X(generate_regex,      PMIx_generate_regex) \
    X(generate_ppn,        PMIx_generate_ppn) \
    X(error_string,        PMIx_Error_string) \
    X(get_version,         PMIx_Get_version)
struct ty_pmix_lib {
#define X(member, function) __typeof__(&function) member;
    TY_PMIX_FUNCTIONS(X)
#undef X
};

/* Open libpmix.so.2 for good.  -ENOENT: there is none, or one of another major version. */
int ty_pmix_lib_open(struct ty_pmix_lib *ret, struct ty_error *err);
/* What libmpi.so.40 calls itself ("Open MPI v4.1.4, ..."), malloc'ed; "" when there is none; NULL: out of
 * memory.  MPI is not initialised, but the library stays in this process. */
char *ty_mpi_version(void);
#endif
