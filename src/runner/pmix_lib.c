/* pmix_lib.c - opening libpmix, and asking libmpi for its version */
#include "runner/pmix_lib.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/str.h"
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define MPI_VERSION_MAX 8192 /* MPI_MAX_LIBRARY_VERSION_STRING is 256 in Open MPI, 8192 in MPICH */

static const struct symbol {
    const char *name;
    size_t at;
} symbols[] = {
#define X(member, function) { #function, offsetof(struct ty_pmix_lib, member) },
    TY_PMIX_FUNCTIONS(X)
#undef X
};
static_assert(sizeof(struct ty_pmix_lib) == sizeof symbols / sizeof *symbols * sizeof(void *),
              "each function has its row");

/* "OpenPMIx 4.2.2 (PMIx Standard: 4.1, ...)" or "4.0.0-..."; the first number counts. */
static int check_version(const struct ty_pmix_lib *lib, struct ty_error *err)
{
    const char *text = lib->get_version(), *digits = strpbrk(text, "0123456789");
    size_t n = digits ? strspn(digits, "0123456789") : 0;

    if (n == strlen(TY_PMIX_MAJOR) && strncmp(digits, TY_PMIX_MAJOR, n) == 0)
        return 0;
    return ty_error_set(
        err, -ENOENT,
        "libpmix.so.2 is '%s', and only version " TY_PMIX_MAJOR " is understood: "
        "MPI programs cannot find each other here; horovod.torch and torch.distributed can",
        text);
}

int ty_pmix_lib_open(struct ty_pmix_lib *ret, struct ty_error *err)
{
    void *so = FAULT("pmix.dlopen", NULL, dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL));
    struct ty_pmix_lib lib;
    int r;

    if (!so) {
        const char *why = dlerror();

        return ty_error_set(
            err, -ENOENT,
            "libpmix.so.2 cannot be opened: %s: MPI programs cannot find each other here "
            "(Debian: apt install libpmix2 libopenmpi3)",
            why ? why : "no reason was given");
    }
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(so, symbols[i].name);

        if (!f) {
            dlclose(so);
            return ty_error_set(err, -ENOENT, "libpmix.so.2 has no function %s", symbols[i].name);
        }
        memcpy((char *)&lib + symbols[i].at, &f, sizeof f);
    }
    r = check_version(&lib, err);
    if (r < 0) {
        dlclose(so);
        return r;
    }
    *ret = lib;
    return 0;
}

char *ty_mpi_version(void)
{
    void *so = FAULT("mpi.dlopen", NULL, dlopen("libmpi.so.40", RTLD_LAZY | RTLD_LOCAL));
    char text[MPI_VERSION_MAX + 1] = "";
    int (*ask)(char *, int *) = NULL;
    int n = 0;

    if (so)
        *(void **)&ask = dlsym(so, "MPI_Get_library_version");
    if (!ask || ask(text, &n) != 0)
        return strdup("");
    text[sizeof text - 1] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return strdup(text);
}
