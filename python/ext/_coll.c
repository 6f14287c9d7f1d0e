/* _coll.c - the engine of collectives, as Python sees it
 *
 * Limited API of CPython 3.9: one build serves every later version.  Tensors cross as addresses, so nothing here is
 * built against torch.  Three types:
 *
 *     Context  one world; submits, waits without the interpreter lock, and keeps alive what an interrupted wait leaves
 *     Memory   a piece of the gradient arena with the buffer protocol: torch.frombuffer(memory) keeps it allocated
 *     Block    what an allgather or an alltoall has made, with the buffer protocol too
 *
 * Mistakes of the caller are raised as ValueError, everything else as the class that set_errors() named.  A wait
 * looks at Python's signals every WAIT_MS, so that Ctrl-C works.  In a forked child a context raises.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include "base/cleanup.h"
#include "base/error.h"
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <trainyard/coll.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define WAIT_MS 100     /* between two looks at the signals */
#define CLOSE_SECONDS 5 /* that closing waits for other threads to come out of the engine */

/* The buffer protocol works for types made from a specification since 3.9, and its structure has not changed since,
 * but the limited API has shown both only since 3.11. */
#ifndef Py_bf_getbuffer
#define Py_bf_getbuffer 1
#endif
#if Py_LIMITED_API < 0x030b0000
typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len, itemsize;
    int readonly, ndim;
    char *format;
    Py_ssize_t *shape, *strides, *suboffsets;
    void *internal;
} Py_buffer;
int PyBuffer_FillInfo(Py_buffer *view, PyObject *o, void *buf, Py_ssize_t len, int readonly,
                      int flags);
#endif

/* Forks that led to this process since the module was loaded; an object of another count belongs to a parent. */
static int forks;

static void count_fork(void)
{
    forks++;
}

/* ---- errors ---- */

static PyObject *internal_error, *start_error; /* exception classes, see set_errors() */

static PyObject *raise_as(PyObject *class, const char *text)
{
    PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");

    if (words)
        PyErr_SetObject(class ? class : PyExc_RuntimeError, words);
    Py_XDECREF(words);
    return NULL;
}

static PyObject *raise_error(int code, const struct ty_error *err, PyObject *class)
{
    const char *text = err->text[0] ? err->text : strerror(-code);
    bool mistake = code == -EINVAL || code == -EEXIST || code == -ENOTSUP;

    if (class == NULL)
        class = mistake ? PyExc_ValueError : internal_error;
    return raise_as(class, text);
}

static PyObject *set_errors(PyObject *module, PyObject *args)
{
    PyObject *internal, *start;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO:set_errors", &internal, &start))
        return NULL;
    Py_INCREF(internal);
    Py_INCREF(start);
    Py_XDECREF(internal_error);
    Py_XDECREF(start_error);
    internal_error = internal;
    start_error = start;
    Py_RETURN_NONE;
}

/* ---- Block ---- */

struct block {
    PyObject_HEAD void *data;
    Py_ssize_t bytes;
};

static PyObject *block_type;

/* Takes `data` over in any case. */
static PyObject *block_new(void *data, Py_ssize_t bytes)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)block_type, Py_tp_alloc);
    struct block *b = (struct block *)alloc((PyTypeObject *)block_type, 0);

    if (!b) {
        free(data);
        return NULL;
    }
    b->data = data;
    b->bytes = bytes;
    return (PyObject *)b;
}

static void block_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);

    free(((struct block *)object)->data);
    free_fn(object);
    Py_DECREF(type);
}

static int block_buffer(PyObject *object, Py_buffer *view, int flags)
{
    const struct block *b = (const struct block *)object;

    return PyBuffer_FillInfo(view, object, b->data, b->bytes, 0, flags);
}

static PyType_Slot block_slots[] = {
    { Py_tp_doc, "Bytes that an operation has made; freed with the last buffer on it." },
    { Py_tp_dealloc, block_dealloc },
    { Py_bf_getbuffer, block_buffer },
    { 0, NULL },
};
static PyType_Spec block_spec = { "horovod._coll.Block", sizeof(struct block), 0,
                                  Py_TPFLAGS_DEFAULT, block_slots };

/* ---- Context ---- */

struct memory;

struct context {
    PyObject_HEAD struct ty_coll *c;
    struct memory *memories; /* what is allocated in the arena */
    PyObject *kept;          /* list of what operations still use whose waits were interrupted */
    PyObject *boot;          /* the Python object behind the exchange at start, or NULL */
    int forks;
    bool quiet, closing;
    int inside; /* threads that use c without the interpreter lock; guarded by `lock` */
    pthread_mutex_t lock;
    pthread_cond_t left;
};

/* NULL and an exception when there is no engine here. */
static struct ty_coll *engine(struct context *self)
{
    if (self->c && self->forks != forks) {
        raise_as(
            internal_error,
            "this process was forked from a rank of a Horovod job, and cannot take part in its "
            "operations: call hvd.shutdown() and hvd.init() in it, or operate in the parent");
        return NULL;
    }
    if (!self->c || self->closing) {
        raise_as(
            internal_error,
            "Horovod has been shut down: a rank ended or called hvd.shutdown() while others had "
            "operations left, or this one went on after its own; see the output of the ranks");
        return NULL;
    }
    return self->c;
}

static PyThreadState *enter(struct context *self)
{
    pthread_mutex_lock(&self->lock);
    self->inside++;
    pthread_mutex_unlock(&self->lock);
    return PyEval_SaveThread();
}

static void leave(struct context *self, PyThreadState *thread)
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

/* ---- the exchange at start, by a Python object with put(key, bytes), fence(ms) and get(rank, key) -> bytes | None */

/* The text of the exception that is set, which is taken away. */
static int boot_failed(struct ty_error *err)
{
    PyObject *type = NULL, *value = NULL, *trace = NULL, *words, *bytes;
    int r;

    PyErr_Fetch(&type, &value, &trace);
    words = value ? PyObject_Str(value) : NULL;
    bytes = words ? PyUnicode_AsUTF8String(words) : NULL;
    r = ty_error_set(err, -EIO, "the exchange of addresses at start failed: %s",
                     bytes ? PyBytes_AsString(bytes) : "its exception has no text");
    PyErr_Clear();
    Py_XDECREF(bytes);
    Py_XDECREF(words);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return r;
}

static int boot_put(void *ctx, const char *key, const void *value, size_t n, struct ty_error *err)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *done =
        PyObject_CallMethod(ctx, "put", "sy#", key, (const char *)value, (Py_ssize_t)n);
    int r = done ? 0 : boot_failed(err);

    Py_XDECREF(done);
    PyGILState_Release(state);
    return r;
}

static int boot_fence(void *ctx, int timeout_ms, struct ty_error *err)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *done = PyObject_CallMethod(ctx, "fence", "i", timeout_ms);
    int r = done ? 0 : boot_failed(err);

    Py_XDECREF(done);
    PyGILState_Release(state);
    return r;
}

static int boot_get(void *ctx, int rank, const char *key, void **ret, size_t *n,
                    struct ty_error *err)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *value = PyObject_CallMethod(ctx, "get", "is", rank, key);
    char *bytes = NULL;
    void *copy = NULL;
    Py_ssize_t size = 0;
    int r = 0;

    if (value == Py_None)
        r = ty_error_set(err, -ENOENT, "rank %d has not said its '%s'", rank, key);
    else if (!value || PyBytes_AsStringAndSize(value, &bytes, &size) < 0)
        r = boot_failed(err);
    else if (!(copy = malloc((size_t)size + 1)))
        r = ty_error_oom(err);
    if (r == 0) {
        memcpy(copy, bytes, (size_t)size);
        *ret = copy;
        *n = (size_t)size;
    }
    Py_XDECREF(value);
    PyGILState_Release(state);
    return r;
}

static int context_init(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "size",   "rank", "start_timeout_s", "arena_bytes", "node",
                             "select", "boot", "quiet",           NULL };
    struct context *self = (struct context *)object;
    struct ty_coll_options o = { .warn = warn, .warn_ctx = self };
    struct ty_coll_boot boot = { .put = boot_put, .fence = boot_fence, .get = boot_get };
    struct ty_error err = { 0 };
    struct ty_coll *c = NULL;
    PyObject *exchange = Py_None;
    PyThreadState *thread;
    Py_ssize_t arena = 0;
    int quiet = 0, r;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "|$iiinzzOp:Context", names, &o.size, &o.rank,
                                     &o.start_timeout_s, &arena, &o.node, &o.select, &exchange,
                                     &quiet))
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
        self->boot = boot.ctx = exchange;
        o.boot = &boot;
    }
    o.arena_bytes = arena > 0 ? (size_t)arena : 0;
    self->quiet = quiet;
    self->forks = forks;
    thread = PyEval_SaveThread();
    r = ty_coll_open(&o, &c, &err);
    PyEval_RestoreThread(thread);
    if (r < 0) {
        raise_error(r, &err, start_error);
        return -1;
    }
    self->c = c;
    return 0;
}

/* ---- Memory ---- */

/* Pages that hold what lay in the arena of a closed context. */
struct saved {
    unsigned char *base;
    size_t bytes;
    int users;
};

struct memory {
    PyObject_HEAD struct context *owner;
    struct memory *next; /* in the owner's list, while the owner is open */
    unsigned char *data;
    Py_ssize_t bytes;
    struct saved *saved; /* after the owner was closed */
    unsigned char *copy; /* only in context_close */
};

static PyObject *memory_type;

static PyObject *context_arena_alloc(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)memory_type, Py_tp_alloc);
    struct memory *m;
    PyObject *view;
    Py_ssize_t bytes;
    void *data;

    if (!PyArg_ParseTuple(args, "n:arena_alloc", &bytes) || !engine(self))
        return NULL;
    if (bytes <= 0)
        return PyErr_Format(PyExc_ValueError, "%zd bytes cannot be allocated in the arena", bytes);
    data = ty_coll_arena_alloc(self->c, (size_t)bytes);
    if (!data)
        Py_RETURN_NONE;
    m = (struct memory *)alloc((PyTypeObject *)memory_type, 0);
    if (!m) {
        ty_coll_arena_free(self->c, data);
        return NULL;
    }
    m->data = data;
    m->bytes = bytes;
    m->owner = self;
    Py_INCREF(object);
    m->next = self->memories;
    self->memories = m;
    view = PyMemoryView_FromObject((PyObject *)m);
    Py_DECREF((PyObject *)m);
    return view;
}

static void memory_give_back(struct memory *m)
{
    struct context *owner = m->owner;
    struct memory **at = &owner->memories;

    while (*at && *at != m)
        at = &(*at)->next;
    if (*at)
        *at = m->next;
    if (m->saved) {
        if (--m->saved->users == 0) {
            munmap(m->saved->base, m->saved->bytes);
            free(m->saved);
        }
    } else if (owner->c && owner->forks == forks) {
        ty_coll_arena_free(owner->c, m->data);
    }
}

static void memory_dealloc(PyObject *object)
{
    struct memory *m = (struct memory *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (m->owner) {
        memory_give_back(m);
        Py_DECREF((PyObject *)m->owner);
    }
    free_fn(object);
    Py_DECREF(type);
}

static int memory_buffer(PyObject *object, Py_buffer *view, int flags)
{
    const struct memory *m = (const struct memory *)object;

    return PyBuffer_FillInfo(view, object, m->data, m->bytes, 0, flags);
}

static PyType_Slot memory_slots[] = {
    { Py_tp_doc,
      "A piece of the gradient arena, zeroed; given back with the last buffer on it.  It outlives the "
      "context that it came from." },
    { Py_tp_dealloc, memory_dealloc },
    { Py_bf_getbuffer, memory_buffer },
    { 0, NULL },
};
static PyType_Spec memory_spec = { "horovod._coll.Memory", sizeof(struct memory), 0,
                                   Py_TPFLAGS_DEFAULT, memory_slots };

/* ---- closing ---- */

/* What is allocated in the arena goes away with the context, but tensors may still lie in it: their bytes are copied
 * before, and put into private pages at the same addresses after.  Where those are still mapped, the engine has kept
 * them, and nothing is to be done. */
static void memories_save(struct context *self)
{
    for (struct memory *m = self->memories; m; m = m->next) {
        m->copy = malloc((size_t)m->bytes);
        if (m->copy)
            memcpy(m->copy, m->data, (size_t)m->bytes);
    }
}

static uintptr_t page_down(const void *p)
{
    return (uintptr_t)p & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
}

static uintptr_t page_up(const struct memory *m)
{
    return page_down(m->data + m->bytes - 1) + (uintptr_t)sysconf(_SC_PAGESIZE);
}

/* Map the pages of *first and of all whose pages touch those; false: they are mapped. */
static bool memories_map(struct context *self, struct memory *first)
{
    uintptr_t low = page_down(first->data), high = page_up(first);
    struct saved *s = calloc(1, sizeof *s);
    bool grown = true;
    void *base;

    while (grown) {
        grown = false;
        for (struct memory *m = self->memories; m; m = m->next) {
            uintptr_t from = page_down(m->data), to = page_up(m);

            if (from < high && to > low && (from < low || to > high)) {
                low = from < low ? from : low;
                high = to > high ? to : high;
                grown = true;
            }
        }
    }
    base = s ? mmap((void *)low, high - low,
                    PROT_READ | PROT_WRITE, /* NOLINT: an address that was mapped */
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0)
             : MAP_FAILED;
    if (base != (void *)low) {
        if (base != MAP_FAILED)
            munmap(base, high - low);
        free(s);
        return false;
    }
    s->base = base;
    s->bytes = high - low;
    for (struct memory *m = self->memories; m; m = m->next)
        if ((uintptr_t)m->data >= low && (uintptr_t)m->data < high) {
            m->saved = s;
            s->users++;
        }
    return true;
}

static void memories_restore(struct context *self)
{
    while (self->memories) {
        struct memory *m = self->memories;

        if (!m->saved && m->copy)
            memories_map(self, m);
        if (m->saved && m->copy)
            memcpy(m->data, m->copy, (size_t)m->bytes);
        free(m->copy);
        m->copy = NULL;
        self->memories = m->next;
        m->next = NULL;
    }
}

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
    if (self->forks != forks) {
        self->c = NULL; /* the engine let go of everything at the fork */
        self->memories = NULL;
        return;
    }
    thread = PyEval_SaveThread();
    empty = wait_for_threads(self);
    PyEval_RestoreThread(thread);
    if (!empty)
        return; /* a thread hangs in a system call: memory that it uses is not taken from it */
    memories_save(self);
    thread = PyEval_SaveThread();
    ty_coll_close(c);
    PyEval_RestoreThread(thread);
    self->c = NULL;
    memories_restore(self);
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

/* ---- operations ---- */

/* One operation as Python gave it.  A group of more than one tensor has its arrays in `many`. */
struct request {
    struct ty_coll_call call;
    struct ty_coll_buf in, out;
    int64_t dims[TY_COLL_DIMS];
    void *many, *splits, *ranks;
};

static void request_done(struct request *r)
{
    free(r->many);
    free(r->splits);
    free(r->ranks);
}

/* (address, elements, shape, address of the result or 0, elements of the result) */
static bool get_tensor(PyObject *tuple, struct ty_coll_buf *in, struct ty_coll_buf *out,
                       int64_t *dims)
{
    PyObject *shape;
    Py_ssize_t n;

    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != 5 ||
        !PyTuple_Check(PyTuple_GetItem(tuple, 2))) {
        PyErr_SetString(PyExc_TypeError,
                        "a tensor is (address, elements, shape, address, elements)");
        return false;
    }
    shape = PyTuple_GetItem(tuple, 2);
    n = PyTuple_Size(shape);
    if (n > TY_COLL_DIMS) {
        PyErr_Format(PyExc_ValueError, "a tensor of %zd dimensions cannot be sent: %d are the most",
                     n, TY_COLL_DIMS);
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        dims[i] = PyLong_AsLongLong(PyTuple_GetItem(shape, i));
    in->data = PyLong_AsVoidPtr(PyTuple_GetItem(tuple, 0));
    in->count = PyLong_AsLongLong(PyTuple_GetItem(tuple, 1));
    in->ndims = (int)n;
    in->dims = dims;
    out->data = PyLong_AsVoidPtr(PyTuple_GetItem(tuple, 3));
    out->count = PyLong_AsLongLong(PyTuple_GetItem(tuple, 4));
    return !PyErr_Occurred();
}

static bool get_tensors(PyObject *list, struct request *q)
{
    struct ty_coll_buf *in = &q->in, *out = &q->out;
    int64_t *dims = q->dims;
    Py_ssize_t n;

    if (!PyTuple_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "the tensors of an operation are a tuple");
        return false;
    }
    n = PyTuple_Size(list);
    if (n > INT_MAX / 2) {
        PyErr_SetString(PyExc_ValueError, "there are too many tensors in the group");
        return false;
    }
    if (n > 1) {
        q->many = calloc((size_t)n, 2 * sizeof *in + TY_COLL_DIMS * sizeof *dims);
        if (!q->many)
            return PyErr_NoMemory() != NULL;
        in = q->many;
        out = in + n;
        dims = (int64_t *)(out + n);
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (!get_tensor(PyTuple_GetItem(list, i), in + i, out + i, dims + i * TY_COLL_DIMS))
            return false;
    q->call.nbufs = (int)n;
    q->call.in = n ? in : NULL;
    q->call.out = n ? out : NULL;
    return true;
}

/* A tuple of int as an array of int64_t or int. */
static bool get_numbers(PyObject *tuple, size_t width, void **ret, int *count)
{
    Py_ssize_t n;
    void *all;

    if (tuple == Py_None)
        return true;
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) > INT_MAX) {
        PyErr_SetString(PyExc_TypeError, "numbers are given as a tuple of int");
        return false;
    }
    n = PyTuple_Size(tuple);
    all = calloc((size_t)n + 1, width);
    if (!all)
        return PyErr_NoMemory() != NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        long long v = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));

        if (width == sizeof(int))
            ((int *)all)[i] = v < INT_MIN || v > INT_MAX ? -1 : (int)v;
        else
            ((int64_t *)all)[i] = v;
    }
    *ret = all;
    *count = (int)n;
    return !PyErr_Occurred();
}

/* kind, name, set, dtype, op, prescale, postscale, root, tensors, splits, ranks and, for do() alone, what to keep. */
static bool get_request(PyObject *args, struct request *q, PyObject **keep)
{
    PyObject *tensors, *splits = Py_None, *ranks = Py_None;
    struct ty_coll_call *c = &q->call;
    int kind, dtype, op, n = 0;

    memset(q, 0, sizeof *q);
    if (!PyArg_ParseTuple(args, "iziiiddiO|OOO:operation", &kind, &c->name, &c->set, &dtype, &op,
                          &c->prescale, &c->postscale, &c->root, &tensors, &splits, &ranks, keep))
        return false;
    if (kind < 0 || kind >= TY_COLL_KINDS || dtype < 0 || dtype >= TY_COLL_DTYPES || op < 0 ||
        op >= TY_COLL_OPS) {
        PyErr_Format(PyExc_ValueError, "there is no operation of kind %d, type %d and reduction %d",
                     kind, dtype, op);
        return false;
    }
    c->kind = (enum ty_coll_kind)kind;
    c->dtype = (enum ty_coll_dtype)dtype;
    c->op = (enum ty_coll_op)op;
    c->device = -1;
    if (!get_tensors(tensors, q) || !get_numbers(splits, sizeof(int64_t), &q->splits, &n) ||
        !get_numbers(ranks, sizeof(int), &q->ranks, &c->nranks))
        return false;
    c->splits = q->splits;
    c->ranks = q->ranks;
    return true;
}

static PyObject *context_submit(PyObject *object, PyObject *args)
{
    CLEANUP(request_done) struct request q = { 0 };
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    PyObject *keep = NULL;
    int64_t handle;

    if (!get_request(args, &q, &keep) || !engine(self))
        return NULL;
    /* The lock is kept: it is a matter of microseconds, and giving it up can cost a turn of another thread. */
    handle = ty_coll_submit(self->c, &q.call, &err);
    return handle < 0 ? raise_error((int)handle, &err, NULL) : PyLong_FromLongLong(handle);
}

static PyObject *tuple_of_rows(const struct ty_coll_result *r)
{
    PyObject *rows = PyTuple_New(r->nrows);

    for (int i = 0; rows && i < r->nrows; i++) {
        PyObject *n = PyLong_FromLongLong(r->rows[i]);

        if (!n || PyTuple_SetItem(rows, i, n) < 0)
            Py_CLEAR(rows);
    }
    return rows;
}

/* Block i of n; the engine's result no longer owns it. */
static PyObject *take_block(struct ty_coll_result *r, Py_ssize_t i, Py_ssize_t n,
                            PyObject *row_bytes)
{
    long long each = PyLong_AsLongLong(row_bytes), sum = 0;
    void *data = r->data[i];
    Py_ssize_t per = r->nrows / n;

    for (Py_ssize_t k = per * i; k < per * (i + 1); k++)
        sum += r->rows[k];
    r->data[i] = NULL;
    return block_new(data, (Py_ssize_t)(sum * each));
}

/* What the caller gets: the value, or (blocks, rows) where there are any.  row_bytes: of each buffer's rows. */
static PyObject *result_of(struct ty_coll_result *r, PyObject *row_bytes)
{
    Py_ssize_t n = row_bytes ? PyTuple_Size(row_bytes) : 0;
    PyObject *blocks, *rows;

    if (!r->data || n <= 0)
        return PyLong_FromLong(r->value);
    blocks = PyTuple_New(n);
    rows = tuple_of_rows(r);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *block = take_block(r, i, n, PyTuple_GetItem(row_bytes, i));

        if (!block || !blocks || PyTuple_SetItem(blocks, i, block) < 0)
            Py_CLEAR(blocks);
    }
    if (blocks && rows)
        return Py_BuildValue("NN", blocks, rows);
    Py_XDECREF(blocks);
    Py_XDECREF(rows);
    return NULL;
}

/* Wait in turns, so that signals are seen; -EINTR and an exception when one raised. */
static int wait_in_turns(struct context *self, int64_t handle, int first,
                         struct ty_coll_result *ret, struct ty_error *err)
{
    int r = first;

    while (r == -EAGAIN) {
        PyThreadState *thread;

        if (PyErr_CheckSignals() < 0)
            return -EINTR;
        if (!engine(self))
            return -EINTR;
        thread = enter(self);
        r = ty_coll_wait_ms(self->c, handle, WAIT_MS, ret, err);
        leave(self, thread);
    }
    return r;
}

static PyObject *finish(struct context *self, int r, const struct ty_error *err,
                        struct ty_coll_result *result, PyObject *row_bytes, PyObject *keep)
{
    PyObject *ret;

    if (r == -EINTR && PyErr_Occurred()) {
        PyObject *type, *value, *trace;

        PyErr_Fetch(&type, &value, &trace);
        if (keep && self->kept)
            PyList_Append(self->kept, keep);
        PyErr_Restore(type, value, trace);
        return NULL;
    }
    if (r < 0)
        return raise_error(r, err, NULL);
    ret = result_of(result, row_bytes);
    ty_coll_result_done(result);
    return ret;
}

static PyObject *context_wait(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    struct ty_coll_result result = { 0 };
    struct ty_error err = { 0 };
    PyObject *keep = NULL, *row_bytes = NULL;
    long long handle;
    int r;

    if (!PyArg_ParseTuple(args, "L|OO!:wait", &handle, &keep, &PyTuple_Type, &row_bytes))
        return NULL;
    r = wait_in_turns(self, handle, -EAGAIN, &result, &err);
    return finish(self, r, &err, &result, row_bytes, keep);
}

static PyObject *context_do(PyObject *object, PyObject *args)
{
    CLEANUP(request_done) struct request q = { 0 };
    struct context *self = (struct context *)object;
    struct ty_coll_result result = { 0 };
    struct ty_error err = { 0 };
    PyThreadState *thread;
    PyObject *keep = NULL;
    int64_t handle = 0;
    int r;

    if (!get_request(args, &q, &keep) || !engine(self))
        return NULL;
    thread = enter(self);
    r = ty_coll_do_ms(self->c, &q.call, WAIT_MS, &result, &handle, &err);
    leave(self, thread);
    r = wait_in_turns(self, handle, r, &result, &err);
    return finish(self, r, &err, &result, NULL, keep);
}

static PyObject *context_poll(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    long long handle;
    int r;

    if (!PyArg_ParseTuple(args, "L:poll", &handle) || !engine(self))
        return NULL;
    r = ty_coll_poll(self->c, handle);
    if (r < 0)
        return PyErr_Format(PyExc_ValueError, "there is no operation with the handle %lld", handle);
    return PyBool_FromLong(r);
}

/* ---- questions ---- */

/* (rank, size, local_rank, local_size, cross_rank, cross_size, homogeneous) */
static PyObject *context_topology(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    const struct ty_coll *c = engine(self);

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

    if (!PyArg_ParseTuple(args, "i:set_ranks", &set) || !engine(self))
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

    if (!PyArg_ParseTuple(args, "K:arena_has", &address) || !engine(self))
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
    if (!engine(self))
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

    if (!PyArg_ParseTuple(args, "i:stalled", &older_ms) || !engine(self))
        return NULL;
    r = ty_coll_stalled(self->c, older_ms, &json, &err);
    return r < 0 ? raise_error(r, &err, NULL) : PyUnicode_FromString(json);
}

static PyObject *context_timeline_start(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    const char *path;
    int cycles = 0, r;

    if (!PyArg_ParseTuple(args, "s|p:timeline_start", &path, &cycles) || !engine(self))
        return NULL;
    r = ty_coll_timeline_start(self->c, path, cycles, &err);
    if (r < 0)
        return raise_error(r, &err, PyExc_ValueError);
    Py_RETURN_NONE;
}

static PyObject *context_timeline_stop(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    int r;

    (void)none;
    if (!engine(self))
        return NULL;
    r = ty_coll_timeline_stop(self->c, &err);
    if (r < 0)
        return raise_error(r, &err, PyExc_ValueError);
    Py_RETURN_NONE;
}

static PyMethodDef context_methods[] = {
    { "submit", context_submit, METH_VARARGS,
      "submit(kind, name, set, dtype, op, prescale, postscale, root, tensors, splits=None, ranks=None) -> int\n\n"
      "Begin an operation: its handle.  tensors: a tuple of (address, elements, shape, address of the result or 0, its "
      "elements), which the caller keeps alive until wait() has returned." },
    { "wait", context_wait, METH_VARARGS,
      "wait(handle, keep=None, row_bytes=()) -> int | (blocks, rows)\n\nThe result of an operation.  keep: what a wait "
      "that a signal ended has to keep alive.  row_bytes: the size of a row of each tensor, where blocks come back." },
    { "do", context_do, METH_VARARGS,
      "do(..., splits, ranks, keep) -> int\n\nsubmit() and wait() in one." },
    { "poll", context_poll, METH_VARARGS,
      "poll(handle) -> bool\n\nWhether wait() would return at once." },
    { "topology", context_topology, METH_NOARGS,
      "(rank, size, local_rank, local_size, cross_rank, cross_size, homogeneous)" },
    { "set_ranks", context_set_ranks, METH_VARARGS,
      "set_ranks(set) -> tuple\n\nThe ranks of a process set." },
    { "arena_alloc", context_arena_alloc, METH_VARARGS,
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
      "Context(*, size=0, rank=0, start_timeout_s=0, arena_bytes=0, node=None, select=None, boot=None, quiet=False)\n\n"
      "One world of ranks.  What is not given is found in the environment.  boot: an object with put(key, bytes), "
      "fence(ms) and get(rank, key) through which the ranks find each other." },
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
        add_type(module, "Memory", &memory_spec, &memory_type) < 0 ||
        add_type(module, "Block", &block_spec, &block_type) < 0 || add_constants(module) < 0 ||
        add_dtypes(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    pthread_atfork(NULL, NULL, count_fork);
    return module;
}
