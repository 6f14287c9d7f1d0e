/* _coll.c - the engine of collectives, as Python sees it
 *
 * Limited API of CPython 3.9: one build serves every later version.  Tensors cross as addresses, so nothing here is
 * built against torch.  Three types, of which this file has the first (its operations are in coll_ops.c):
 *
 *     Context  one world; submits, waits without the interpreter lock, and keeps alive what an interrupted wait leaves
 *     Memory   a piece of the gradient arena with the buffer protocol: torch.frombuffer(memory) keeps it allocated
 *     Block    what an allgather or an alltoall has made, with the buffer protocol too, or with an address on a GPU
 *
 * Mistakes of the caller are raised as ValueError, everything else as the class that set_errors() named.  A wait
 * looks at Python's signals every WAIT_MS, so that Ctrl-C works.  In a forked child a context raises.
 */
#include "coll_ext.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CLOSE_SECONDS 5 /* that closing waits for other threads to come out of the engine */

int coll_forks;

static void count_fork(void)
{
    coll_forks++;
}

/* ---- errors ---- */

PyObject *coll_internal_error;
static PyObject *start_error; /* of a failure of Context() */

PyObject *coll_raise_as(PyObject *class, const char *text)
{
    PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");

    if (words)
        PyErr_SetObject(class ? class : PyExc_RuntimeError, words);
    Py_XDECREF(words);
    return NULL;
}

/* Trainyard's runner is to name the rank that ended the job, and not those that end because it has gone: these leave a file
 * (docs/spec/runner-stream.md).  It is taken back when they have found others to go on with. */
static void mark_victim(bool is)
{
    const char *dir = getenv("TRAINYARD_SPOOL_DIR"), *rank = getenv("TRAINYARD_COLL_RANK");
    char path[4096];
    int n, fd;

    if (!dir || !rank)
        return;
    n = snprintf(path, sizeof path, "%s/victim.%s", dir, rank);
    if (n <= 0 || (size_t)n >= sizeof path)
        return;
    if (!is) {
        unlink(path);
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        close(fd);
}

PyObject *coll_raise(int code, const struct ty_error *err, PyObject *class)
{
    const char *text = err->text[0] ? err->text : strerror(-code);
    bool mistake = code == -EINVAL || code == -EEXIST || code == -ENOTSUP;

    if (code == -EOWNERDEAD || code == -ESHUTDOWN)
        mark_victim(true);
    if (class == NULL)
        class = mistake ? PyExc_ValueError : coll_internal_error;
    return coll_raise_as(class, text);
}

static PyObject *set_errors(PyObject *module, PyObject *args)
{
    PyObject *internal, *start;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO:set_errors", &internal, &start))
        return NULL;
    Py_INCREF(internal);
    Py_INCREF(start);
    Py_XDECREF(coll_internal_error);
    Py_XDECREF(start_error);
    coll_internal_error = internal;
    start_error = start;
    Py_RETURN_NONE;
}

/* ---- Context ---- */

struct ty_coll *coll_engine(struct context *self)
{
    if (self->c && self->forks != coll_forks) {
        coll_raise_as(
            coll_internal_error,
            "this process was forked from a rank of a Horovod job, and cannot take part in its "
            "operations; operate in the parent");
        return NULL;
    }
    if (!self->c || self->closing) {
        coll_raise_as(
            coll_internal_error,
            "Horovod has been shut down: a rank ended or called hvd.shutdown() while others had "
            "operations left, or this one went on after its own; see the output of the ranks");
        return NULL;
    }
    return self->c;
}

PyThreadState *coll_enter(struct context *self)
{
    pthread_mutex_lock(&self->lock);
    self->inside++;
    pthread_mutex_unlock(&self->lock);
    return PyEval_SaveThread();
}

void coll_leave(struct context *self, PyThreadState *thread)
{
    pthread_mutex_lock(&self->lock);
    if (--self->inside == 0)
        pthread_cond_broadcast(&self->left);
    pthread_mutex_unlock(&self->lock);
    PyEval_RestoreThread(thread);
}

/* The engine's word to a person, from any thread. */
static void warn(void *ctx, const char *line)
{
    const struct context *self = ctx;

    if (!self->quiet)
        fprintf(stderr, "horovod: %s\n", line);
}

static int context_init(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "size",   "rank", "start_timeout_s", "arena_bytes", "node",
                             "select", "boot", "quiet",           "cuda_path",   NULL };
    struct context *self = (struct context *)object;
    struct ty_coll_options o = { .warn = warn, .warn_ctx = self };
    struct ty_coll_boot boot;
    struct ty_error err = { 0 };
    struct ty_coll *c = NULL;
    PyObject *exchange = Py_None;
    PyThreadState *thread;
    Py_ssize_t arena = 0;
    int quiet = 0, r;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "|$iiinzzOpz:Context", names, &o.size, &o.rank,
                                     &o.start_timeout_s, &arena, &o.node, &o.select, &exchange,
                                     &quiet, &o.cuda_path))
        return -1;
    if (self->kept) {
        PyErr_SetString(PyExc_RuntimeError, "this context is open already");
        return -1;
    }
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->left, NULL);
    self->kept = PyList_New(0);
    if (!self->kept)
        return -1;
    if (exchange != Py_None) {
        Py_INCREF(exchange);
        self->boot = exchange;
        boot = coll_boot_by(exchange);
        o.boot = &boot;
    }
    o.arena_bytes = arena > 0 ? (size_t)arena : 0;
    self->quiet = quiet;
    self->forks = coll_forks;
    thread = PyEval_SaveThread();
    r = ty_coll_open(&o, &c, &err);
    PyEval_RestoreThread(thread);
    if (r < 0) {
        coll_raise(r, &err, start_error);
        return -1;
    }
    self->c = c;
    mark_victim(false);
    return 0;
}

/* ---- closing ---- */

/* True when no thread is in the engine any more. */
static bool wait_for_threads(struct context *self)
{
    struct timespec until;
    bool empty;
    int r = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_SECONDS;
    pthread_mutex_lock(&self->lock);
    while (self->inside > 0 && r == 0)
        r = pthread_cond_timedwait(&self->left, &self->lock, &until);
    empty = self->inside == 0;
    pthread_mutex_unlock(&self->lock);
    return empty;
}

static void context_end(struct context *self)
{
    struct ty_coll *c = self->c;
    PyThreadState *thread;
    bool empty;

    if (!c || self->closing)
        return;
    self->closing = true;
    if (self->forks != coll_forks) {
        self->c = NULL; /* the engine let go of everything at the fork */
        self->memories = NULL;
        return;
    }
    thread = PyEval_SaveThread();
    empty = wait_for_threads(self);
    PyEval_RestoreThread(thread);
    if (!empty)
        return; /* a thread hangs in a system call: memory that it uses is not taken from it */
    coll_memories_save(self);
    thread = PyEval_SaveThread();
    ty_coll_close(c);
    PyEval_RestoreThread(thread);
    self->c = NULL;
    coll_memories_restore(self);
    PyList_SetSlice(self->kept, 0, PyList_Size(self->kept), NULL);
}

static PyObject *context_close(PyObject *object, PyObject *none)
{
    (void)none;
    context_end((struct context *)object);
    Py_RETURN_NONE;
}

static void context_dealloc(PyObject *object)
{
    struct context *self = (struct context *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);

    context_end(self);
    if (self->kept) {
        pthread_mutex_destroy(&self->lock);
        pthread_cond_destroy(&self->left);
    }
    Py_XDECREF(self->kept);
    Py_XDECREF(self->boot);
    free_fn(object);
    Py_DECREF(type);
}

/* ---- questions ---- */

static PyObject *reason(const struct ty_error *err)
{
    return PyUnicode_DecodeUTF8(err->text, (Py_ssize_t)strlen(err->text), "replace");
}

static PyObject *context_gpu_ready(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };

    (void)none;
    if (!coll_engine(self))
        return NULL;
    if (ty_coll_gpu_ready(self->c, &err) < 0)
        return reason(&err);
    Py_RETURN_NONE;
}

static PyObject *cuda_found(PyObject *module, PyObject *args)
{
    struct ty_error err = { 0 };
    const char *path;

    (void)module;
    if (!PyArg_ParseTuple(args, "z:cuda_found", &path))
        return NULL;
    if (ty_coll_cuda_found(path, &err) < 0)
        return reason(&err);
    Py_RETURN_NONE;
}

static PyObject *nccl_found(PyObject *module, PyObject *args)
{
    struct ty_error err = { 0 };
    const char *path;
    int version;

    (void)module;
    if (!PyArg_ParseTuple(args, "z:nccl_found", &path))
        return NULL;
    if (ty_coll_nccl_found(path, &version, &err) < 0)
        return reason(&err);
    return PyLong_FromLong(version);
}

/* (rank, size, local_rank, local_size, cross_rank, cross_size, homogeneous) */
static PyObject *context_topology(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    const struct ty_coll *c = coll_engine(self);

    (void)none;
    if (!c)
        return NULL;
    return Py_BuildValue("iiiiiiN", ty_coll_rank(c), ty_coll_size(c), ty_coll_local_rank(c),
                         ty_coll_local_size(c), ty_coll_cross_rank(c), ty_coll_cross_size(c),
                         PyBool_FromLong(ty_coll_homogeneous(c)));
}

static PyObject *context_set_ranks(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    CLEANUP_FREE char *memory = NULL;
    PyObject *tuple;
    int set, n, *ranks;

    if (!PyArg_ParseTuple(args, "i:set_ranks", &set) || !coll_engine(self))
        return NULL;
    n = ty_coll_set_size(self->c, set);
    if (n < 0)
        return PyErr_Format(PyExc_ValueError, "there is no process set %d", set);
    memory = calloc((size_t)n + 1, sizeof(int));
    if (!memory)
        return PyErr_NoMemory();
    ranks = (int *)(void *)memory;
    if (ty_coll_set_ranks(self->c, set, ranks, n) != n)
        return PyErr_Format(PyExc_ValueError, "process set %d was removed meanwhile", set);
    tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *rank = PyLong_FromLong(ranks[i]);

        if (!rank || PyTuple_SetItem(tuple, i, rank) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *context_arena_has(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    unsigned long long address;

    if (!PyArg_ParseTuple(args, "K:arena_has", &address) || !coll_engine(self))
        return NULL;
    return PyBool_FromLong(
        ty_coll_arena_has(self->c, (const void *)(uintptr_t)address)); /* NOLINT */
}

static PyObject *paths_of(const struct ty_coll_stats *s)
{
    PyObject *paths = PyDict_New();

    for (int i = 0; paths && i < (int)(sizeof s->path_ops / sizeof s->path_ops[0]); i++) {
        const char *name = ty_coll_path_name(i);
        PyObject *n = name ? PyLong_FromUnsignedLongLong(s->path_ops[i]) : NULL;

        if (!name)
            break;
        if (!n || PyDict_SetItemString(paths, name, n) < 0)
            Py_CLEAR(paths);
        Py_XDECREF(n);
    }
    return paths;
}

static PyObject *context_stats(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    struct ty_coll_stats s = { 0 };

    (void)none;
    if (!coll_engine(self))
        return NULL;
    ty_coll_stats(self->c, &s);
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:i,s:K,s:N}", "ops", (unsigned long long)s.ops, "bytes",
        (unsigned long long)s.bytes, "wait_us", (unsigned long long)s.wait_us, "busy_us",
        (unsigned long long)s.busy_us, "negotiations", (unsigned long long)s.negotiations,
        "late_rank", s.late_rank, "late_us", (unsigned long long)s.late_us, "paths", paths_of(&s));
}

static PyObject *context_stalled(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    CLEANUP_FREE char *json = NULL;
    struct ty_error err = { 0 };
    int older_ms, r;

    if (!PyArg_ParseTuple(args, "i:stalled", &older_ms) || !coll_engine(self))
        return NULL;
    r = ty_coll_stalled(self->c, older_ms, &json, &err);
    return r < 0 ? coll_raise(r, &err, NULL) : PyUnicode_FromString(json);
}

static PyObject *context_timeline_start(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    const char *path;
    int cycles = 0, r;

    if (!PyArg_ParseTuple(args, "s|p:timeline_start", &path, &cycles) || !coll_engine(self))
        return NULL;
    r = ty_coll_timeline_start(self->c, path, cycles, &err);
    if (r < 0)
        return coll_raise(r, &err, PyExc_ValueError);
    Py_RETURN_NONE;
}

static PyObject *context_timeline_stop(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    int r;

    (void)none;
    if (!coll_engine(self))
        return NULL;
    r = ty_coll_timeline_stop(self->c, &err);
    if (r < 0)
        return coll_raise(r, &err, PyExc_ValueError);
    Py_RETURN_NONE;
}

static PyMethodDef context_methods[] = {
    { "submit", coll_submit, METH_VARARGS,
      "submit(kind, name, set, dtype, op, prescale, postscale, root, tensors, splits=None, ranks=None, keep=None, gpu=-1, "
      "ready=0) -> int\n\n"
      "Begin an operation: its handle.  tensors: a tuple of (address, elements, shape, address of the result or 0, its "
      "elements), which the caller keeps alive until wait() has returned.  gpu: the number of the GPU that they are on.  ready: "
      "a cudaEvent_t, kept alive as well, after which they may be used." },
    { "wait", coll_wait, METH_VARARGS,
      "wait(handle, keep=None, row_bytes=()) -> int | (blocks, rows)\n\nThe result of an operation.  keep: what a wait "
      "that a signal ended has to keep alive.  row_bytes: the size of a row of each tensor, where blocks come back." },
    { "do", coll_do, METH_VARARGS,
      "do(..., splits, ranks, keep) -> int\n\nsubmit() and wait() in one." },
    { "poll", coll_poll, METH_VARARGS,
      "poll(handle) -> bool\n\nWhether wait() would return at once." },
    { "gpu_ready", context_gpu_ready, METH_NOARGS,
      "gpu_ready() -> None | str\n\nNone when tensors may be on GPUs, else why not." },
    { "topology", context_topology, METH_NOARGS,
      "(rank, size, local_rank, local_size, cross_rank, cross_size, homogeneous)" },
    { "set_ranks", context_set_ranks, METH_VARARGS,
      "set_ranks(set) -> tuple\n\nThe ranks of a process set." },
    { "arena_alloc", coll_arena_alloc, METH_VARARGS,
      "arena_alloc(bytes) -> memoryview | None\n\nZeroed memory that operations need not copy; None when it is used up.  "
      "It goes back with the last buffer on it." },
    { "arena_has", context_arena_has, METH_VARARGS,
      "arena_has(address) -> bool\n\nWhether it lies in the arena." },
    { "stats", context_stats, METH_NOARGS, "Counters since the start, as a dict." },
    { "stalled", context_stalled, METH_VARARGS,
      "stalled(older_ms) -> str\n\nJSON: operations that some rank has not submitted for so long." },
    { "timeline_start", context_timeline_start, METH_VARARGS,
      "timeline_start(path, cycles=False)\n\nWrite a trace on rank 0." },
    { "timeline_stop", context_timeline_stop, METH_NOARGS, "End the trace." },
    { "close", context_close, METH_NOARGS,
      "Leave the world; what is in flight fails on every rank." },
    { NULL, NULL, 0, NULL },
};
static PyType_Slot context_slots[] = {
    { Py_tp_doc,
      "Context(*, size=0, rank=0, start_timeout_s=0, arena_bytes=0, node=None, select=None, boot=None, quiet=False, cuda_path=None)\n\n"
      "One world of ranks.  What is not given is found in the environment.  boot: an object with put(key, bytes), "
      "fence(ms) and get(rank, key) through which the ranks find each other.  cuda_path: folders and files with ':' between "
      "them, where CUDA and NCCL may be." },
    { Py_tp_init, context_init },
    { Py_tp_dealloc, context_dealloc },
    { Py_tp_methods, context_methods },
    { 0, NULL },
};
static PyType_Spec context_spec = { "horovod._coll.Context", sizeof(struct context), 0,
                                    Py_TPFLAGS_DEFAULT, context_slots };

/* ---- the module ---- */

static PyMethodDef module_methods[] = {
    { "set_errors", set_errors, METH_VARARGS,
      "set_errors(internal, start)\n\nThe exception classes for failures of operations and of the start." },
    { "cuda_found", cuda_found, METH_VARARGS,
      "cuda_found(path) -> None | str\n\nNone when the CUDA runtime can be opened, else what was tried." },
    { "nccl_found", nccl_found, METH_VARARGS,
      "nccl_found(path) -> int | str\n\nThe version of NCCL, or why there is none to use." },
    { NULL, NULL, 0, NULL },
};
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, .m_name = "_coll",           .m_doc = "The engine of collectives.",
    .m_size = -1,          .m_methods = module_methods,
};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec, PyObject **ret)
{
    PyObject *type = PyType_FromSpec(spec);

    if (!type)
        return -1;
    if (ret) {
        *ret = type;
        Py_INCREF(type);
    }
    return PyModule_AddObject(module, name, type);
}

static int add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        int value;
    } all[] = {
        { "ALLREDUCE", TY_COLL_ALLREDUCE },
        { "REDUCESCATTER", TY_COLL_REDUCESCATTER },
        { "ALLGATHER", TY_COLL_ALLGATHER },
        { "BROADCAST", TY_COLL_BROADCAST },
        { "ALLTOALL", TY_COLL_ALLTOALL },
        { "BARRIER", TY_COLL_BARRIER },
        { "JOIN", TY_COLL_JOIN },
        { "SET_ADD", TY_COLL_SET_ADD },
        { "SET_REMOVE", TY_COLL_SET_REMOVE },
        { "AVERAGE", TY_COLL_AVERAGE },
        { "SUM", TY_COLL_SUM },
        { "ADASUM", TY_COLL_ADASUM },
        { "MIN", TY_COLL_MIN },
        { "MAX", TY_COLL_MAX },
        { "PRODUCT", TY_COLL_PRODUCT },
        { "DTYPES", TY_COLL_DTYPES },
    };
    int r = PyModule_AddStringConstant(module, "VERSION", TY_VERSION);

    for (size_t i = 0; r == 0 && i < sizeof all / sizeof all[0]; i++)
        r = PyModule_AddIntConstant(module, all[i].name, all[i].value);
    return r;
}

/* {"float32": its number, ...} */
static int add_dtypes(PyObject *module)
{
    PyObject *names = PyDict_New();
    int r = names ? 0 : -1;

    for (int i = 0; r == 0 && i < TY_COLL_DTYPES; i++) {
        PyObject *n = PyLong_FromLong(i);

        r = n ? PyDict_SetItemString(names, ty_coll_dtype_name((enum ty_coll_dtype)i), n) : -1;
        Py_XDECREF(n);
    }
    if (r < 0) {
        Py_XDECREF(names);
        return r;
    }
    return PyModule_AddObject(module, "DTYPE_NUMBERS", names);
}

EXPORT PyObject *PyInit__coll(void);
EXPORT PyObject *PyInit__coll(void)
{
    PyObject *module = PyModule_Create(&module_def);

    if (!module || add_type(module, "Context", &context_spec, NULL) < 0 ||
        add_type(module, "Memory", &coll_memory_spec, &coll_memory_type) < 0 ||
        add_type(module, "Block", &coll_block_spec, &coll_block_type) < 0 ||
        add_constants(module) < 0 || add_dtypes(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    pthread_atfork(NULL, NULL, count_fork);
    return module;
}
