/* nvml_standin.c - a libnvidia-ml.so.1 for boxes without a GPU
 *
 * Its GPUs stand in the file `<path of this library>.gpus`, read at nvmlInit; a test copies or links the library to a place of its
 * own and writes the file beside it.  One line each:
 *
 *    gpu UUID NAME MEMORY_MB USED_MB PERCENT CELSIUS WATTS     (in NAME, _ stands for a blank; a number - is "not supported")
 *    part UUID MEMORY_MB                                       a part of the GPU above, which is divided then
 *    lost                                                      a GPU that has fallen off the bus
 *    init CODE | count CODE                                    what these calls answer
 *    driver VERSION CUDA                                       "550.54.15" 12040
 *
 * After the file has changed, every call answers NVML_ERROR_UNINITIALIZED until the library is initialised again, as after an
 * exchange of the driver.  -DPARTIAL leaves out all that is not needed, -DUSELESS leaves out what is.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };
enum { MOST = 64, NONE = -1 };

struct gpu {
    int lost, parts, parent;
    char uuid[96], name[96];
    long long memory_mb, used_mb, percent, celsius, watts;
};
static struct {
    int ready, init, count, n, nparts, cuda;
    char driver[80];
    struct gpu gpu[MOST], part[MOST];
    struct timespec written;
    ino_t inode;
} s;

static void file(char *buf, size_t n)
{
    Dl_info info;

    if (!dladdr((void *)file, &info) || !info.dli_fname)
        abort();
    snprintf(buf, n, "%s.gpus", info.dli_fname);
}

static int changed(void)
{
    char path[4096];
    struct stat st = { 0 };

    file(path, sizeof path);
    return stat(path, &st) < 0 || st.st_ino != s.inode || st.st_mtim.tv_sec != s.written.tv_sec ||
           st.st_mtim.tv_nsec != s.written.tv_nsec;
}

static int state(void)
{
    return s.ready && !changed() ? OK : UNINITIALIZED;
}

static long long number(const char *text)
{
    return strcmp(text, "-") == 0 ? NONE : strtoll(text, NULL, 10);
}

static void take_gpu(const char *line)
{
    struct gpu *g = &s.gpu[s.n];
    char n[5][24];

    if (s.n == MOST || sscanf(line, "gpu %95s %95s %23s %23s %23s %23s %23s", g->uuid, g->name,
                              n[0], n[1], n[2], n[3], n[4]) != 7)
        return;
    for (char *p = g->name; *p; p++)
        if (*p == '_')
            *p = ' ';
    g->memory_mb = number(n[0]);
    g->used_mb = number(n[1]);
    g->percent = number(n[2]);
    g->celsius = number(n[3]);
    g->watts = number(n[4]);
    s.n++;
}

static void take_part(const char *line)
{
    struct gpu *p = &s.part[s.nparts];

    if (s.nparts == MOST || s.n == 0 || sscanf(line, "part %95s %lld", p->uuid, &p->memory_mb) != 2)
        return;
    p->parent = s.n - 1;
    p->percent = p->celsius = p->watts = NONE;
    snprintf(p->name, sizeof p->name, "part");
    s.gpu[p->parent].parts++;
    s.nparts++;
}

EXPORT int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
    char path[4096], line[512];
    struct stat st;
    FILE *f;

    memset(&s, 0, sizeof s);
    file(path, sizeof path);
    f = fopen(path, "re");
    if (!f)
        return UNINITIALIZED;
    if (fstat(fileno(f), &st) == 0) {
        s.written = st.st_mtim;
        s.inode = st.st_ino;
    }
    while (fgets(line, sizeof line, f)) {
        take_gpu(line);
        take_part(line);
        if (strncmp(line, "lost", 4) == 0 && s.n < MOST)
            s.gpu[s.n++].lost = 1;
        sscanf(line, "init %d", &s.init);
        sscanf(line, "count %d", &s.count);
        sscanf(line, "driver %79s %d", s.driver, &s.cuda);
    }
    fclose(f);
    s.ready = s.init == OK;
    return s.init;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *n);
int nvmlDeviceGetCount_v2(unsigned *n)
{
    if (state() != OK)
        return state();
    if (s.count != OK)
        return s.count;
    *n = (unsigned)s.n;
    return OK;
}

EXPORT int nvmlShutdown(void);
int nvmlShutdown(void)
{
    int was = s.ready;

    s.ready = 0;
    return was ? OK : UNINITIALIZED;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d);
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d)
{
    if (state() != OK || i >= (unsigned)s.n)
        return state() != OK ? state() : INVALID;
    *d = &s.gpu[i];
    return s.gpu[i].lost ? GPU_IS_LOST : OK;
}

#ifndef USELESS
EXPORT int nvmlDeviceGetUUID(const struct gpu *g, char *buf, unsigned n);
int nvmlDeviceGetUUID(const struct gpu *g, char *buf, unsigned n)
{
    snprintf(buf, n, "%s", g->uuid);
    return state();
}
#endif

#ifndef PARTIAL
EXPORT int nvmlDeviceGetName(const struct gpu *g, char *buf, unsigned n);
int nvmlDeviceGetName(const struct gpu *g, char *buf, unsigned n)
{
    snprintf(buf, n, "%s", g->name);
    return state();
}

EXPORT int nvmlDeviceGetMemoryInfo(const struct gpu *g, unsigned long long *to);
int nvmlDeviceGetMemoryInfo(const struct gpu *g, unsigned long long *to)
{
    if (g->memory_mb == NONE)
        return NOT_SUPPORTED;
    to[0] = (unsigned long long)g->memory_mb << 20;
    to[2] = (unsigned long long)(g->used_mb == NONE ? 0 : g->used_mb) << 20;
    to[1] = to[0] - to[2];
    return state();
}

static int tell(long long value, unsigned *to)
{
    if (value == NONE)
        return NOT_SUPPORTED;
    *to = (unsigned)value;
    return state();
}

EXPORT int nvmlDeviceGetUtilizationRates(const struct gpu *g, unsigned *to);
int nvmlDeviceGetUtilizationRates(const struct gpu *g, unsigned *to)
{
    to[1] = 0;
    return tell(g->percent, to);
}

EXPORT int nvmlDeviceGetTemperature(const struct gpu *g, int sensor, unsigned *to);
int nvmlDeviceGetTemperature(const struct gpu *g, int sensor, unsigned *to)
{
    return sensor == 0 ? tell(g->celsius, to) : INVALID;
}

EXPORT int nvmlDeviceGetPowerUsage(const struct gpu *g, unsigned *to);
int nvmlDeviceGetPowerUsage(const struct gpu *g, unsigned *to)
{
    return tell(g->watts == NONE ? NONE : g->watts * 1000, to);
}

EXPORT int nvmlDeviceGetMigMode(const struct gpu *g, unsigned *now, unsigned *next);
int nvmlDeviceGetMigMode(const struct gpu *g, unsigned *now, unsigned *next)
{
    *now = *next = g->parts > 0;
    return state();
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(const struct gpu *g, unsigned *n);
int nvmlDeviceGetMaxMigDeviceCount(const struct gpu *g, unsigned *n)
{
    (void)g;
    *n = 7;
    return state();
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *g, unsigned i, void **d);
int nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *g, unsigned i, void **d)
{
    for (int k = 0; k < s.nparts; k++)
        if (&s.gpu[s.part[k].parent] == g && i-- == 0) {
            *d = &s.part[k];
            return state();
        }
    return NOT_FOUND;
}

EXPORT int nvmlSystemGetDriverVersion(char *buf, unsigned n);
int nvmlSystemGetDriverVersion(char *buf, unsigned n)
{
    snprintf(buf, n, "%s", s.driver);
    return state();
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *to);
int nvmlSystemGetCudaDriverVersion_v2(int *to)
{
    *to = s.cuda;
    return state();
}
#endif
