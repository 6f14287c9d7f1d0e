/* coll_ext.h - between the files of the extension horovod._coll */
#ifndef TY_COLL_EXT_H
#define TY_COLL_EXT_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include "base/cleanup.h"
#include "base/error.h"
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <trainyard/coll.h>

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

/* Forks that led to this process since the module was loaded; an object of another count belongs to a parent. */
extern int coll_forks;

/* ---- _coll.c ---- */

extern PyObject *coll_internal_error; /* an exception class, see set_errors() */
PyObject *coll_raise_as(PyObject *class, const char *text);
/* class NULL: what fits the code.  Returns NULL. */
PyObject *coll_raise(int code, const struct ty_error *err, PyObject *class);
/* NULL and an exception when there is no engine here. */
struct ty_coll *coll_engine(struct context *self);
/* Around every use of the engine without the interpreter lock. */
PyThreadState *coll_enter(struct context *self);
void coll_leave(struct context *self, PyThreadState *thread);

/* ---- coll_boot.c ---- */

/* The exchange by a Python object with put(key, bytes), fence(ms) and get(rank, key) -> bytes | None, which is borrowed. */
struct ty_coll_boot coll_boot_by(PyObject *object);

/* ---- coll_memory.c ---- */

extern PyObject *coll_block_type, *coll_memory_type;
extern PyType_Spec coll_block_spec, coll_memory_spec;
/* Takes `data`, a block of r, over in any case. */
PyObject *coll_block_new(const struct ty_coll_result *r, void *data, Py_ssize_t bytes);
PyObject *coll_arena_alloc(PyObject *context, PyObject *args);
/* What is allocated in the arena goes away with the context, but tensors may still lie in it: their bytes are copied
 * before, and put into private pages at the same addresses after.  Where those are still mapped, the engine has kept
 * them, and nothing is to be done. */
void coll_memories_save(struct context *self);
void coll_memories_restore(struct context *self);

/* ---- coll_ops.c ---- */

PyObject *coll_submit(PyObject *context, PyObject *args);
PyObject *coll_wait(PyObject *context, PyObject *args);
PyObject *coll_do(PyObject *context, PyObject *args);
PyObject *coll_poll(PyObject *context, PyObject *args);
#endif
