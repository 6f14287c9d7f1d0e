/* _core.c - the C client library and the row spool, as Python sees them
 *
 * Limited API of CPython 3.9: one build serves every later version.  JSON crosses as bytes.  Two types:
 *
 *     Client   one connection to the daemon; waits without the interpreter lock
 *     Rows     the row spool of this process; a write is a memory copy and keeps the lock
 *
 * Failures of the service are raised as trainyard.errors classes (error_of(code, text)), failures of the
 * caller's own files as OSError.  Rows never raises for what happens to a spool: it returns an errno.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "client/stubs.h"
#include "core/row.h"
#include "runner/spool.h"
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <trainyard/client.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- errors ---- */

static PyObject *raise_service(int code, const char *text)
{
    PyObject *module = PyImport_ImportModule("trainyard.errors");
    PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *error = NULL;

    if (module && words)
        error = PyObject_CallMethod(module, "error_of", "iO", code, words);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(words);
    Py_XDECREF(module);
    return NULL;
}

static PyObject *raise_error(int code, const struct ty_error *err)
{
    return raise_service(code, err->text[0] ? err->text : strerror(-code));
}

/* ---- Client ---- */

struct client {
    PyObject_HEAD struct ty_client *c;
    volatile int stop; /* set by stop(), from any thread */
    bool busy;         /* a call is going on; guarded by the interpreter lock */
};

/* A call on its way; what its callbacks need. */
struct going {
    struct client *self;
    PyThreadState *thread; /* saved while the interpreter lock is given up */
    PyObject *fn;          /* NULL: none */
    int fd, os_error;
    uint64_t bytes;
};

static bool begin(struct client *self, struct going *g)
{
    if (!self->c || self->busy) {
        PyErr_SetString(PyExc_RuntimeError, self->c ? "this connection is in use by another thread"
                                                    : "this connection is closed");
        return false;
    }
    self->busy = true;
    g->self = self;
    g->thread = PyEval_SaveThread();
    return true;
}

static void end(struct going *g)
{
    PyEval_RestoreThread(g->thread);
    g->self->busy = false;
}

static int client_init(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "home", "start", "daemon", NULL };
    struct client *self = (struct client *)object;
    struct ty_client_options o = { 0 };
    struct ty_error err = { 0 };
    struct ty_client *c = NULL;
    int start = 1, r;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "|zpz:Client", names, &o.home, &start, &o.daemon))
        return -1;
    if (self->c) {
        PyErr_SetString(PyExc_RuntimeError, "this connection is open already");
        return -1;
    }
    o.no_start = !start;
    Py_BEGIN_ALLOW_THREADS r = ty_client_open(&o, &c, &err);
    Py_END_ALLOW_THREADS if (r < 0)
    {
        raise_error(r, &err);
        return -1;
    }
    self->c = c;
    return 0;
}

static void client_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);

    ty_client_free(((struct client *)object)->c);
    free_fn(object);
    Py_DECREF(type);
}

static size_t braces(const char *path)
{
    size_t n = 0;

    for (; *path; path++)
        n += *path == '{';
    return n;
}

/* The route called `name`, and what fills its braces; -1 and an exception when that is no call. */
static int find_route(const char *name, PyObject *words, struct ty_call *call,
                      enum ty_route_id *ret)
{
    const char **a = call->args;
    int i;

    if (!PyTuple_Check(words)) {
        PyErr_SetString(PyExc_TypeError, "the arguments of a route are a tuple of str");
        return -1;
    }
    if (!PyArg_ParseTuple(words, "|sss:route", &a[0], &a[1], &a[2]))
        return -1;
    for (i = 0; i < TY_ROUTE_COUNT; i++)
        if (strcmp(ty_routes[i].name, name) == 0)
            break;
    if (i == TY_ROUTE_COUNT || (size_t)PyTuple_Size(words) != braces(ty_routes[i].path)) {
        PyErr_Format(PyExc_ValueError, "there is no route '%s' with %zd arguments", name,
                     PyTuple_Size(words));
        return -1;
    }
    *ret = (enum ty_route_id)i;
    return 0;
}

/* Send, with the interpreter lock given up; the reply is whole on success. */
static int perform(struct client *self, enum ty_route_id route, struct ty_call *call,
                   struct going *g, struct ty_reply *reply)
{
    struct ty_error err = { 0 };
    int r;

    call->stop = &self->stop;
    if (!begin(self, g))
        return -1;
    r = ty_client_route(self->c, route, call, reply, &err);
    end(g);
    if (PyErr_Occurred()) {
        ty_reply_done(reply);
        return -1;
    }
    if (g->os_error) {
        errno = g->os_error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (r < 0) {
        raise_error(r, &err);
        return -1;
    }
    return 0;
}

static PyObject *reply_bytes(struct ty_reply *reply)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize(reply->body ? reply->body : "", (Py_ssize_t)reply->len);

    ty_reply_done(reply);
    return bytes;
}

static PyObject *client_call(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "route", "args", "query", "body", "body_type", NULL };
    struct ty_call call = { 0 };
    struct ty_reply reply = { 0 };
    struct going g = { 0 };
    enum ty_route_id route;
    PyObject *words, *body = NULL;
    char *bytes = NULL;
    Py_ssize_t n = 0;
    const char *name;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "sO|zOz:call", names, &name, &words, &call.query,
                                     &body, &call.body_type))
        return NULL;
    if (body && body != Py_None && PyBytes_AsStringAndSize(body, &bytes, &n) < 0)
        return NULL;
    call.body = bytes;
    call.body_len = (size_t)n;
    if (find_route(name, words, &call, &route) < 0 ||
        perform((struct client *)object, route, &call, &g, &reply) < 0)
        return NULL;
    return reply_bytes(&reply);
}

static PyObject *client_send(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "route", "args", "fd", "size", "query", NULL };
    struct ty_call call = { .body_type = "application/octet-stream" };
    struct ty_reply reply = { 0 };
    struct going g = { 0 };
    enum ty_route_id route;
    PyObject *words;
    Py_ssize_t size;
    const char *name;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "sOin|z:send", names, &name, &words, &call.body_fd,
                                     &size, &call.query))
        return NULL;
    if (size < 0 || call.body_fd <= 0) {
        PyErr_SetString(PyExc_ValueError, "a descriptor above 0 and a size from 0 on are needed");
        return NULL;
    }
    call.body_len = (size_t)size;
    if (find_route(name, words, &call, &route) < 0 ||
        perform((struct client *)object, route, &call, &g, &reply) < 0)
        return NULL;
    return reply_bytes(&reply);
}

/* on_data of receive(): into the caller's file, without the interpreter lock. */
static int to_file(const char *bytes, size_t n, void *ctx)
{
    struct going *g = ctx;

    while (n > 0) {
        ssize_t done = write(g->fd, bytes, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            g->os_error = errno;
            return -ECANCELED;
        }
        bytes += done;
        n -= (size_t)done;
        g->bytes += (uint64_t)done;
    }
    return 0;
}

static PyObject *client_receive(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "route", "args", "fd", "query", NULL };
    struct ty_call call = { .on_data = to_file };
    struct ty_reply reply = { 0 };
    struct going g = { 0 };
    enum ty_route_id route;
    PyObject *words;
    const char *name;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "sOi|z:receive", names, &name, &words, &g.fd,
                                     &call.query))
        return NULL;
    call.ctx = &g;
    if (find_route(name, words, &call, &route) < 0 ||
        perform((struct client *)object, route, &call, &g, &reply) < 0)
        return NULL;
    ty_reply_done(&reply);
    return PyLong_FromUnsignedLongLong(g.bytes);
}

/* on_data of stream(): to a Python function, which ends the stream by returning something true or raising. */
static int to_function(const char *bytes, size_t n, void *ctx)
{
    struct going *g = ctx;
    PyObject *result;
    int truth = -1;

    PyEval_RestoreThread(g->thread);
    result = PyObject_CallFunction(g->fn, "y#", bytes, (Py_ssize_t)n);
    if (result) {
        truth = PyObject_IsTrue(result);
        Py_DECREF(result);
    }
    g->thread = PyEval_SaveThread();
    return truth == 0 ? 0 : truth < 0 ? -ECANCELED : 1;
}

static PyObject *client_stream(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "route", "args", "on_data", "query", "last_event_id", NULL };
    struct ty_call call = { .on_data = to_function };
    struct ty_reply reply = { 0 };
    struct going g = { 0 };
    enum ty_route_id route;
    PyObject *words;
    const char *name;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "sOO|zz:stream", names, &name, &words, &g.fn,
                                     &call.query, &call.last_event_id))
        return NULL;
    call.ctx = &g;
    if (find_route(name, words, &call, &route) < 0 ||
        perform((struct client *)object, route, &call, &g, &reply) < 0)
        return NULL;
    ty_reply_done(&reply);
    Py_RETURN_NONE;
}

static void on_progress(const struct ty_upload_progress *p, void *ctx)
{
    struct going *g = ctx;
    PyObject *result;

    PyEval_RestoreThread(g->thread);
    if (!PyErr_Occurred()) { /* the upload cannot be stopped half-way: the first exception waits for its end */
        result = PyObject_CallFunction(
            g->fn, "KKKKKK", (unsigned long long)p->files, (unsigned long long)p->bytes,
            (unsigned long long)p->sent_files, (unsigned long long)p->sent_bytes,
            (unsigned long long)p->to_send_files, (unsigned long long)p->to_send_bytes);
        Py_XDECREF(result);
    }
    g->thread = PyEval_SaveThread();
}

static PyObject *client_snapshot(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "dir", "max_bytes", "max_files", "progress", NULL };
    struct client *self = (struct client *)object;
    struct ty_error err = { 0 };
    struct going g = { 0 };
    PyObject *dir = NULL, *fn = Py_None;
    unsigned long long bytes = 0, files = 0;
    char id[65];
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "O&|KKO:snapshot", names, PyUnicode_FSConverter,
                                     &dir, &bytes, &files, &fn))
        return NULL;
    g.fn = fn;
    if (!begin(self, &g)) {
        Py_DECREF(dir);
        return NULL;
    }
    r = ty_client_snapshot(self->c, PyBytes_AsString(dir), bytes, files,
                           fn == Py_None ? NULL : on_progress, &g, id, &err);
    end(&g);
    Py_DECREF(dir);
    if (PyErr_Occurred())
        return NULL;
    return r < 0 ? raise_error(r, &err) : PyUnicode_FromString(id);
}

static PyObject *client_stop(PyObject *object, PyObject *none)
{
    (void)none;
    ((struct client *)object)->stop = 1;
    Py_RETURN_NONE;
}

static PyObject *client_home(PyObject *object, PyObject *none)
{
    const struct client *self = (struct client *)object;

    (void)none;
    return PyUnicode_DecodeFSDefault(self->c ? ty_client_home(self->c) : "");
}

static PyObject *client_daemon_pid(PyObject *object, PyObject *none)
{
    struct client *self = (struct client *)object;
    struct ty_error err = { 0 };
    struct going g = { 0 };
    int r;

    (void)none;
    if (!begin(self, &g))
        return NULL;
    r = ty_client_daemon_pid(self->c, &err);
    end(&g);
    return r < 0 ? raise_error(r, &err) : PyLong_FromLong(r);
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef client_methods[] = {
    { "call", KEYWORDS(client_call), METH_VARARGS | METH_KEYWORDS,
      "call(route, args, query=None, body=None, body_type=None) -> bytes\n\nOne request; `route` is a name of core/routes.h." },
    { "send", KEYWORDS(client_send), METH_VARARGS | METH_KEYWORDS,
      "send(route, args, fd, size, query=None) -> bytes\n\nA request whose body is `size` bytes of an open file." },
    { "receive", KEYWORDS(client_receive), METH_VARARGS | METH_KEYWORDS,
      "receive(route, args, fd, query=None) -> int\n\nA request whose reply is written to an open file; its bytes." },
    { "stream", KEYWORDS(client_stream), METH_VARARGS | METH_KEYWORDS,
      "stream(route, args, on_data, query=None, last_event_id=None)\n\nA request whose reply is given to on_data(bytes) as it "
      "comes, until that returns something true or the reply ends." },
    { "snapshot", KEYWORDS(client_snapshot), METH_VARARGS | METH_KEYWORDS,
      "snapshot(dir, max_bytes=0, max_files=0, progress=None) -> str\n\nStore a directory (0: the usual limit); progress(files, bytes, sent_files, sent_bytes, "
      "to_send_files, to_send_bytes)." },
    { "stop", client_stop, METH_NOARGS,
      "End the call that another thread makes, with trainyard.errors.Interrupted." },
    { "home", client_home, METH_NOARGS, "The state folder, absolute." },
    { "daemon_pid", client_daemon_pid, METH_NOARGS, "The process that serves the state folder." },
    { NULL, NULL, 0, NULL },
};
static PyType_Slot client_slots[] = {
    { Py_tp_doc,
      "Client(home=None, start=True, daemon=None): one connection to the daemon, for one thread at a time." },
    { Py_tp_init, client_init },
    { Py_tp_dealloc, client_dealloc },
    { Py_tp_methods, client_methods },
    { 0, NULL },
};
static PyType_Spec client_spec = { "trainyard._core.Client", sizeof(struct client), 0,
                                   Py_TPFLAGS_DEFAULT, client_slots };

/* ---- Rows ---- */

/* A child of a fork shares its parent's spool file and must not write to it: it makes one of its own, when it logs. */
static unsigned forks;

static void count_fork(void)
{
    forks++;
}

struct rows {
    PyObject_HEAD char *dir;
    struct ty_spool_writer *w; /* NULL until the first row of this process */
    unsigned forks;            /* when w was made */
    int failed;                /* negative errno: this process cannot have a spool */
};

static int rows_init(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "dir", NULL };
    struct rows *self = (struct rows *)object;
    PyObject *dir = NULL;
    char *copy;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "O&:Rows", names, PyUnicode_FSConverter, &dir))
        return -1;
    copy = strdup(PyBytes_AsString(dir));
    Py_DECREF(dir);
    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    free(self->dir);
    self->dir = copy;
    self->w = ty_spool_writer_free(self->w);
    self->failed = 0;
    return 0;
}

static void rows_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);
    struct rows *self = (struct rows *)object;

    ty_spool_writer_free(self->w);
    free(self->dir);
    free_fn(object);
    Py_DECREF(type);
}

static int writer_of_process(struct rows *self)
{
    if (self->forks != forks) {
        self->w = ty_spool_writer_free(self->w);
        self->failed = 0;
        self->forks = forks;
    }
    if (!self->w && !self->failed)
        self->failed = self->dir ? ty_spool_create(self->dir, &self->w, NULL) : -EINVAL;
    return self->failed;
}

/* 0, or the errno that kept the row from being stored. */
static PyObject *put(struct rows *self, struct ty_row *row)
{
    int r = writer_of_process(self);

    row->at_us = ty_wall_us();
    if (r == 0)
        r = ty_spool_write(self->w, row);
    return PyLong_FromLong(-r);
}

/* `None` is no step; -1 and an exception for what is no number. */
static int get_step(PyObject *step, int64_t *ret)
{
    long long n = TY_ROW_NO_STEP;

    if (step && step != Py_None) {
        n = PyLong_AsLongLong(step);
        if (n == -1 && PyErr_Occurred())
            return -1;
    }
    *ret = n;
    return 0;
}

/* The value of a scalar row in *row; what it points into stays alive in `store` and *owned.  False: not one of the plain types, or
 * beyond what they hold. */
static bool plain_value(PyObject *value, struct ty_row *row, void *store, PyObject **owned)
{
    int overflow = 0;

    row->value = store;
    row->value_len = 8;
    if (PyFloat_Check(value)) {
        double d = PyFloat_AsDouble(value);

        row->kind = TY_ROW_DOUBLE;
        memcpy(store, &d, sizeof d);
        return true;
    }
    if (PyLong_Check(value)) {
        long long n = PyLong_AsLongLongAndOverflow(value, &overflow);
        int64_t i = n;

        row->kind = TY_ROW_INT;
        memcpy(store, &i, sizeof i);
        return !overflow;
    }
    if (!PyUnicode_Check(value))
        return false;
    *owned = PyUnicode_AsUTF8String(value);
    if (!*owned) {
        PyErr_Clear();
        return false;
    }
    row->kind = TY_ROW_TEXT;
    row->value = PyBytes_AsString(*owned);
    row->value_len = (size_t)PyBytes_Size(*owned);
    return true;
}

static PyObject *rows_scalar(PyObject *object, PyObject *args)
{
    struct ty_row row = { 0 };
    PyObject *value, *step = NULL, *owned = NULL, *result;
    unsigned char store[8];
    Py_ssize_t n;

    if (!PyArg_ParseTuple(args, "s#O|O:scalar", &row.name, &n, &value, &step) ||
        get_step(step, &row.step) < 0)
        return NULL;
    row.name_len = (size_t)n;
    if (!plain_value(value, &row, store, &owned)) {
        Py_XDECREF(owned);
        Py_RETURN_NONE;
    }
    result = put((struct rows *)object, &row);
    Py_XDECREF(owned);
    return result;
}

static PyObject *rows_write(PyObject *object, PyObject *args)
{
    struct ty_row row = { 0 };
    PyObject *step = NULL, *value;
    char *bytes;
    Py_ssize_t n, m;
    int kind;

    if (!PyArg_ParseTuple(args, "is#O|O:write", &kind, &row.name, &n, &value, &step) ||
        get_step(step, &row.step) < 0 || PyBytes_AsStringAndSize(value, &bytes, &m) < 0)
        return NULL;
    row.kind = (enum ty_row_kind)kind;
    row.name_len = (size_t)n;
    row.value = bytes;
    row.value_len = (size_t)m;
    return put((struct rows *)object, &row);
}

/* Rows of this process; a process that has written none has no file and needs none. */
static PyObject *rows_count(PyObject *object, uint64_t (*count)(const struct ty_spool_writer *))
{
    const struct rows *self = (struct rows *)object;

    return PyLong_FromUnsignedLongLong(self->w && self->forks == forks ? count(self->w) : 0);
}

static PyObject *rows_written(PyObject *object, PyObject *none)
{
    (void)none;
    return rows_count(object, ty_spool_written);
}

static PyObject *rows_acked(PyObject *object, PyObject *none)
{
    (void)none;
    return rows_count(object, ty_spool_acked);
}

static PyMethodDef rows_methods[] = {
    { "scalar", rows_scalar, METH_VARARGS,
      "scalar(name, value, step=None) -> int | None\n\nLog a float, int or str: 0 or an errno; None for other types." },
    { "write", rows_write, METH_VARARGS,
      "write(kind, name, value: bytes, step=None) -> int\n\nLog one row: 0 or an errno." },
    { "written", rows_written, METH_NOARGS, "Rows that this process wrote." },
    { "acked", rows_acked, METH_NOARGS, "How many of them the daemon has stored." },
    { NULL, NULL, 0, NULL },
};
static PyType_Slot rows_slots[] = {
    { Py_tp_doc,
      "Rows(dir): the row spool of this process in the folder `dir`; made by the first row, and anew after a fork." },
    { Py_tp_init, rows_init },
    { Py_tp_dealloc, rows_dealloc },
    { Py_tp_methods, rows_methods },
    { 0, NULL },
};
static PyType_Spec rows_spec = { "trainyard._core.Rows", sizeof(struct rows), 0, Py_TPFLAGS_DEFAULT,
                                 rows_slots };

/* ---- the module ---- */

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The C client library and the row spool.",
    .m_size = -1,
};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    int r = type ? PyModule_AddObject(module, name, type) : -1;

    if (r < 0)
        Py_XDECREF(type);
    return r;
}

static int add_constants(PyObject *module)
{
    int r = PyModule_AddStringConstant(module, "VERSION", TY_VERSION);

#define X(name, word) \
    if (r == 0) \
        r = PyModule_AddIntConstant(module, #name, TY_ROW_##name);
    TY_ROW_KINDS(X)
#undef X
    if (r == 0)
        r = PyModule_AddIntConstant(module, "ROW_NAME_MAX", TY_ROW_NAME_MAX);
    return r < 0 ? r : PyModule_AddIntConstant(module, "ROW_VALUE_MAX", TY_ROW_VALUE_MAX);
}

EXPORT PyObject *PyInit__core(void);
EXPORT PyObject *PyInit__core(void)
{
    PyObject *module = PyModule_Create(&module_def);

    if (!module || add_type(module, "Client", &client_spec) < 0 ||
        add_type(module, "Rows", &rows_spec) < 0 || add_constants(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    pthread_atfork(NULL, NULL, count_fork);
    return module;
}
