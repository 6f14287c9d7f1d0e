/* target.c - the table of kinds, and what this box offers */
#include "target/target.h"
#include "base/str.h"
#include "target/local.h"
#include <dlfcn.h>
#include <sched.h>
#include <string.h>

static const struct ty_target_kind *const kinds[] = { &ty_target_local };

const struct ty_target_kind *ty_target_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

int ty_target_cpus(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int64_t ty_target_memory_mb(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* Asked through NVML, opened at run time: the build needs no CUDA, and a box without a driver has none. */
static int count_gpus(void)
{
    void *lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    unsigned count = 0;

    if (!lib)
        return 0;
    int (*init)(void) = (int (*)(void))dlsym(lib, "nvmlInit_v2");
    int (*device_count)(unsigned *) = (int (*)(unsigned *))dlsym(lib, "nvmlDeviceGetCount_v2");
    int (*shutdown)(void) = (int (*)(void))dlsym(lib, "nvmlShutdown");
    if (init && device_count && shutdown && init() == 0) {
        if (device_count(&count) != 0)
            count = 0;
        shutdown();
    }
    dlclose(lib);
    return (int)count;
}

int ty_target_gpus(void)
{
    static int known = -1; /* asking takes tens of milliseconds, and they do not come and go */

    if (known < 0)
        known = count_gpus();
    return known;
}
