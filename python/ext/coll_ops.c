/* coll_ops.c - operations: from Python's arguments to the engine and back */
#include "coll_ext.h"
#include <limits.h>

#define WAIT_MS 100 /* between two looks at the signals */

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

/* kind, name, set, dtype, op, prescale, postscale, root, tensors, splits, ranks, for do() alone what to keep, the number of the
 * GPU and the event after which the tensors there are ready. */
static bool get_request(PyObject *args, struct request *q, PyObject **keep)
{
    PyObject *tensors, *splits = Py_None, *ranks = Py_None;
    struct ty_coll_call *c = &q->call;
    int kind, dtype, op, gpu = -1, n = 0;
    unsigned long long ready = 0;

    memset(q, 0, sizeof *q);
    if (!PyArg_ParseTuple(args, "iziiiddiO|OOOiK:operation", &kind, &c->name, &c->set, &dtype, &op,
                          &c->prescale, &c->postscale, &c->root, &tensors, &splits, &ranks, keep,
                          &gpu, &ready))
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
    c->device = gpu < 0 ? -1 : TY_COLL_GPU(gpu);
    c->ready = (void *)(uintptr_t)ready; /* NOLINT: an address that Python has kept as a number */
    if (!get_tensors(tensors, q) || !get_numbers(splits, sizeof(int64_t), &q->splits, &n) ||
        !get_numbers(ranks, sizeof(int), &q->ranks, &c->nranks))
        return false;
    c->splits = q->splits;
    c->ranks = q->ranks;
    return true;
}

PyObject *coll_submit(PyObject *object, PyObject *args)
{
    CLEANUP(request_done) struct request q = { 0 };
    struct context *self = (struct context *)object;
    struct ty_error err = { 0 };
    PyObject *keep = NULL;
    int64_t handle;

    if (!get_request(args, &q, &keep) || !coll_engine(self))
        return NULL;
    /* The lock is kept: it is a matter of microseconds, and giving it up can cost a turn of another thread. */
    handle = ty_coll_submit(self->c, &q.call, &err);
    return handle < 0 ? coll_raise((int)handle, &err, NULL) : PyLong_FromLongLong(handle);
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
    return coll_block_new(r, data, (Py_ssize_t)(sum * each));
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
        if (!coll_engine(self))
            return -EINTR;
        thread = coll_enter(self);
        r = ty_coll_wait_ms(self->c, handle, WAIT_MS, ret, err);
        coll_leave(self, thread);
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
        return coll_raise(r, err, NULL);
    ret = result_of(result, row_bytes);
    ty_coll_result_done(result);
    return ret;
}

PyObject *coll_wait(PyObject *object, PyObject *args)
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

PyObject *coll_do(PyObject *object, PyObject *args)
{
    CLEANUP(request_done) struct request q = { 0 };
    struct context *self = (struct context *)object;
    struct ty_coll_result result = { 0 };
    struct ty_error err = { 0 };
    PyThreadState *thread;
    PyObject *keep = NULL;
    int64_t handle = 0;
    int r;

    if (!get_request(args, &q, &keep) || !coll_engine(self))
        return NULL;
    thread = coll_enter(self);
    r = ty_coll_do_ms(self->c, &q.call, WAIT_MS, &result, &handle, &err);
    coll_leave(self, thread);
    r = wait_in_turns(self, handle, r, &result, &err);
    return finish(self, r, &err, &result, NULL, keep);
}

PyObject *coll_poll(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    long long handle;
    int r;

    if (!PyArg_ParseTuple(args, "L:poll", &handle) || !coll_engine(self))
        return NULL;
    r = ty_coll_poll(self->c, handle);
    if (r < 0)
        return PyErr_Format(PyExc_ValueError, "there is no operation with the handle %lld", handle);
    return PyBool_FromLong(r);
}
