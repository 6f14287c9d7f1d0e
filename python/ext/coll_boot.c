/* coll_boot.c - how the ranks find each other where Python carries the addresses */
#include "coll_ext.h"

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

struct ty_coll_boot coll_boot_by(PyObject *object)
{
    return (struct ty_coll_boot){
        .ctx = object, .put = boot_put, .fence = boot_fence, .get = boot_get
    };
}
