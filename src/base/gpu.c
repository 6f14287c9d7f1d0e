/* gpu.c - see gpu.h
 *
 * Only init, shutdown, count, handle and uuid must be there; every other function may be missing, and what it would
 * have said is unknown then.  Names, signatures and numbers are those of NVML's stable interface.
 */
#include "base/gpu.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libnvidia-ml.so.1"
#define MB (1 << 20)

typedef void *device;
struct memory {
    unsigned long long total, free, used;
};
struct utilization {
    unsigned gpu, memory;
};

/* clang-format off */
/*      field            name in the library                      arguments */
#define NEEDED(X) \
    X(init,              "nvmlInit_v2",                           (void)) \
    X(shutdown,          "nvmlShutdown",                          (void)) \
    X(count,             "nvmlDeviceGetCount_v2",                 (unsigned *)) \
    X(handle,            "nvmlDeviceGetHandleByIndex_v2",         (unsigned, device *)) \
    X(uuid,              "nvmlDeviceGetUUID",                     (device, char *, unsigned))
#define OPTIONAL(X) \
    X(name,              "nvmlDeviceGetName",                     (device, char *, unsigned)) \
    X(memory,            "nvmlDeviceGetMemoryInfo",               (device, struct memory *)) \
    X(utilization,       "nvmlDeviceGetUtilizationRates",         (device, struct utilization *)) \
    X(temperature,       "nvmlDeviceGetTemperature",              (device, int, unsigned *)) \
    X(power,             "nvmlDeviceGetPowerUsage",               (device, unsigned *)) \
    X(mig_mode,          "nvmlDeviceGetMigMode",                  (device, unsigned *, unsigned *)) \
    X(mig_max,           "nvmlDeviceGetMaxMigDeviceCount",        (device, unsigned *)) \
    X(mig_handle,        "nvmlDeviceGetMigDeviceHandleByIndex",   (device, unsigned, device *)) \
    X(driver,            "nvmlSystemGetDriverVersion",            (char *, unsigned)) \
    X(cuda,              "nvmlSystemGetCudaDriverVersion_v2",     (int *))
/* clang-format on */

static struct {
    void *library; /* NULL: not loaded, and so not initialised */
#define X(field, word, arguments) int(*field) arguments;
    NEEDED(X) OPTIONAL(X)
#undef X
} nvml;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct call {
    const char *word;
    size_t at;
    bool needed;
} calls[] = {
#define X(field, word, arguments) { word, offsetof(__typeof__(nvml), field), true },
    NEEDED(X)
#undef X
#define X(field, word, arguments) { word, offsetof(__typeof__(nvml), field), false },
        OPTIONAL(X)
#undef X
};

static void drop(void)
{
    if (!nvml.library)
        return;
    nvml.shutdown();
    dlclose(nvml.library);
    memset(&nvml, 0, sizeof nvml);
}

static bool fill(void *handle)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *f = dlsym(handle, calls[i].word);

        if (!f && calls[i].needed)
            return false;
        memcpy((char *)&nvml + calls[i].at, &f, sizeof f);
    }
    return true;
}

/* TRAINYARD_TEST_NVML: a file in the library's stead, for tests. */
static bool take_up(void)
{
    const char *test = getenv("TRAINYARD_TEST_NVML");
    void *handle;

    if (nvml.library)
        return true;
    handle = FAULT("gpu.open", NULL, dlopen(test && *test ? test : LIBRARY, RTLD_NOW | RTLD_LOCAL));
    if (!handle)
        return false;
    if (!fill(handle) || nvml.init() != 0) {
        dlclose(handle);
        memset(&nvml, 0, sizeof nvml);
        return false;
    }
    nvml.library = handle;
    return true;
}

/* A driver that was exchanged answers its old library with errors only: once more with the new one. */
static unsigned count(void)
{
    unsigned n = 0;

    for (int i = 0; i < 2 && take_up(); i++) {
        if (nvml.count(&n) == 0)
            return n;
        drop();
        n = 0;
    }
    return n;
}

static void read_memory(device d, struct ty_gpu *g)
{
    struct memory m = { 0 };

    if (!nvml.memory || nvml.memory(d, &m) != 0)
        return;
    g->memory_mb = (int64_t)(m.total / MB);
    g->memory_used_mb = (int64_t)(m.used / MB);
}

static void read_load(device d, struct ty_gpu *g)
{
    struct utilization u = { 0 };
    unsigned value = 0;

    if (nvml.utilization && nvml.utilization(d, &u) == 0)
        g->utilization_percent = (int)u.gpu;
    if (nvml.temperature && nvml.temperature(d, 0, &value) == 0)
        g->temperature_c = (int)value;
    if (nvml.power && nvml.power(d, &value) == 0)
        g->power_watts = value / 1000.0;
}

/* False: nothing can be done with it. */
static bool read_gpu(device d, int index, bool part, struct ty_gpu *g)
{
    *g = (struct ty_gpu){ .index = index,
                          .part = part,
                          .memory_used_mb = TY_GPU_UNKNOWN,
                          .utilization_percent = TY_GPU_UNKNOWN,
                          .temperature_c = TY_GPU_UNKNOWN,
                          .power_watts = TY_GPU_UNKNOWN };
    if (nvml.uuid(d, g->uuid, sizeof g->uuid - 1) != 0 || !*g->uuid)
        return false;
    if (nvml.name && nvml.name(d, g->name, sizeof g->name - 1) != 0)
        g->name[0] = '\0';
    read_memory(d, g);
    read_load(d, g);
    return true;
}

static bool divided(device d)
{
    unsigned now = 0, next = 0;

    return nvml.mig_mode && nvml.mig_max && nvml.mig_handle && nvml.mig_mode(d, &now, &next) == 0 &&
           now == 1;
}

static int read_parts(device d, int index, struct ty_gpu *to, int room)
{
    unsigned most = 0;
    device part;
    int n = 0;

    if (nvml.mig_max(d, &most) != 0)
        return 0;
    for (unsigned i = 0; i < most && n < room; i++)
        if (nvml.mig_handle(d, i, &part) == 0 && read_gpu(part, index, true, &to[n]))
            n++;
    return n;
}

static int read_all(struct ty_gpu *to, unsigned found)
{
    int n = 0;
    device d;

    for (unsigned i = 0; i < found && n < TY_GPU_MAX; i++) {
        if (nvml.handle(i, &d) != 0)
            continue;
        if (divided(d))
            n += read_parts(d, (int)i, to + n, TY_GPU_MAX - n);
        else if (read_gpu(d, (int)i, false, &to[n]))
            n++;
    }
    return n;
}

static int list(struct ty_gpu **ret, int *n)
{
    unsigned found = count();
    struct ty_gpu *all = NULL;

    *n = 0;
    *ret = NULL;
    if (found == 0)
        return 0;
    all = FAULT("gpu.alloc", NULL, calloc(TY_GPU_MAX, sizeof *all));
    if (!all)
        return -ENOMEM;
    *n = read_all(all, found);
    if (*n > 0)
        *ret = TAKE(all);
    free(all);
    return 0;
}

int ty_gpu_list(struct ty_gpu **ret, int *n)
{
    struct ty_gpu *found;
    int r, found_n;

    pthread_mutex_lock(&lock);
    r = list(&found, &found_n);
    pthread_mutex_unlock(&lock);
    if (r == 0) {
        *ret = found;
        *n = found_n;
    }
    return r;
}

void ty_gpu_driver(struct ty_gpu_driver *ret)
{
    int cuda = 0;

    *ret = (struct ty_gpu_driver){ .version = "" };
    pthread_mutex_lock(&lock);
    if (take_up()) {
        if (nvml.driver && nvml.driver(ret->version, sizeof ret->version - 1) != 0)
            ret->version[0] = '\0';
        if (nvml.cuda && nvml.cuda(&cuda) == 0) /* 12040 is 12.4 */
            snprintf(ret->cuda, sizeof ret->cuda, "%d.%d", cuda / 1000, cuda % 1000 / 10);
    }
    pthread_mutex_unlock(&lock);
}

void ty_gpu_release(void)
{
    pthread_mutex_lock(&lock);
    drop();
    pthread_mutex_unlock(&lock);
}
