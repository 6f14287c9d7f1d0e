/* _rendezvous.c - the server at which the ranks of a job find each other, for the launcher in Python
 *
 *     server = horovod._rendezvous.Rendezvous(host, port, secret, size)     (host None: any address; port 0: chosen)
 *     server.port    server.reset(size)    server.close()
 *
 * Limited API of CPython 3.9.  The server works on a thread of its own, which never calls Python.  It lasts until
 * close() or until the object is freed.  A failure to open is an OSError; a closed server raises ValueError.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include "base/error.h"
#include "coll/boot.h"
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct server {
    PyObject_HEAD struct ty_rendezvous *s; /* NULL: closed */
};

static int server_init(PyObject *object, PyObject *args, PyObject *kw)
{
    static char *names[] = { "host", "port", "secret", "size", NULL };
    struct server *self = (struct server *)object;
    struct ty_rendezvous *s = NULL;
    struct ty_error err = { 0 };
    const char *host, *secret;
    PyObject *why;
    int port, size, r;

    if (!PyArg_ParseTupleAndKeywords(args, kw, "zisi:Rendezvous", names, &host, &port, &secret,
                                     &size))
        return -1;
    if (self->s || port < 0 || port > 65535 || size < 1) {
        PyErr_SetString(PyExc_ValueError, self->s ? "this server is open already"
                                                  : "a port is 0 to 65535, and a world has ranks");
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS r = ty_rendezvous_open(host, port, secret, size, &s, &err);
    Py_END_ALLOW_THREADS if (r < 0)
    {
        why = Py_BuildValue("is", -r, err.text[0] ? err.text : strerror(-r));
        if (why)
            PyErr_SetObject(PyExc_OSError, why);
        Py_XDECREF(why);
        return -1;
    }
    self->s = s;
    return 0;
}

static void server_close(struct server *self)
{
    struct ty_rendezvous *s = self->s;

    self->s = NULL;
    Py_BEGIN_ALLOW_THREADS ty_rendezvous_free(s);
    Py_END_ALLOW_THREADS
}

static void server_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);

    server_close((struct server *)object);
    free_fn(object);
    Py_DECREF(type);
}

static PyObject *on_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    server_close((struct server *)object);
    Py_RETURN_NONE;
}

static bool is_open(const struct server *self)
{
    if (!self->s)
        PyErr_SetString(PyExc_ValueError, "this server is closed");
    return self->s;
}

static PyObject *on_reset(PyObject *object, PyObject *args)
{
    struct server *self = (struct server *)object;
    int size;

    if (!PyArg_ParseTuple(args, "i:reset", &size) || !is_open(self))
        return NULL;
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError, "a world has ranks");
        return NULL;
    }
    ty_rendezvous_reset(self->s, size);
    Py_RETURN_NONE;
}

static PyObject *get_port(PyObject *object, void *unused)
{
    struct server *self = (struct server *)object;

    (void)unused;
    return is_open(self) ? PyLong_FromLong(ty_rendezvous_port(self->s)) : NULL;
}

static PyMethodDef server_methods[] = {
    { "reset", on_reset, METH_VARARGS, "reset(size): forget everything and begin a new world" },
    { "close", on_close, METH_NOARGS, "close(): end the server; ranks that wait get an error" },
    { NULL, NULL, 0, NULL }
};

static PyGetSetDef server_fields[] = { { "port", get_port, NULL, "the port it listens on", NULL },
                                       { NULL, NULL, NULL, NULL, NULL } };

static PyType_Slot server_slots[] = {
    { Py_tp_init, server_init },
    { Py_tp_dealloc, server_dealloc },
    { Py_tp_methods, server_methods },
    { Py_tp_getset, server_fields },
    { Py_tp_doc,
      "Rendezvous(host, port, secret, size): where the ranks of a world find each other" },
    { 0, NULL }
};

static PyType_Spec server_spec = { "horovod._rendezvous.Rendezvous", sizeof(struct server), 0,
                                   Py_TPFLAGS_DEFAULT, server_slots };

static struct PyModuleDef module_def = { PyModuleDef_HEAD_INIT,
                                         "_rendezvous",
                                         "The server at which ranks find each other",
                                         -1,
                                         NULL,
                                         NULL,
                                         NULL,
                                         NULL,
                                         NULL };

EXPORT PyObject *PyInit__rendezvous(void);

EXPORT PyObject *PyInit__rendezvous(void)
{
    PyObject *module = PyModule_Create(&module_def);
    PyObject *type = module ? PyType_FromSpec(&server_spec) : NULL;

    if (!type || PyModule_AddObject(module, "Rendezvous", type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
