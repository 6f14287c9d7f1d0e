/* coll_memory.c - the types Memory and Block: bytes of the engine behind Python's buffers */
#include "coll_ext.h"
#include <sys/mman.h>
#include <unistd.h>

/* ---- Block ---- */

struct block {
    PyObject_HEAD void *data;
    Py_ssize_t bytes;
    int device; /* as in struct ty_coll_result */
    int (*device_free)(void *data);
};

PyObject *coll_block_type;

static void block_free(void *data, int device, int (*device_free)(void *data))
{
    if (device)
        device_free(data);
    else
        free(data);
}

PyObject *coll_block_new(const struct ty_coll_result *r, void *data, Py_ssize_t bytes)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)coll_block_type, Py_tp_alloc);
    struct block *b = (struct block *)alloc((PyTypeObject *)coll_block_type, 0);

    if (!b) {
        block_free(data, r->device, r->device_free);
        return NULL;
    }
    b->data = data;
    b->bytes = bytes;
    b->device = r->device;
    b->device_free = r->device_free;
    return (PyObject *)b;
}

static void block_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_fn = (freefunc)PyType_GetSlot(type, Py_tp_free);
    const struct block *b = (const struct block *)object;

    block_free(b->data, b->device, b->device_free);
    free_fn(object);
    Py_DECREF(type);
}

static int block_buffer(PyObject *object, Py_buffer *view, int flags)
{
    const struct block *b = (const struct block *)object;

    if (b->device) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "the bytes of this block are on a GPU");
        return -1;
    }
    return PyBuffer_FillInfo(view, object, b->data, b->bytes, 0, flags);
}

static PyObject *block_address(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromVoidPtr(((const struct block *)object)->data);
}

static PyObject *block_device(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromLong(((const struct block *)object)->device - 1);
}

static PyObject *block_bytes(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromSsize_t(((const struct block *)object)->bytes);
}

static PyGetSetDef block_getset[] = {
    { "address", block_address, NULL, "Where its bytes are.", NULL },
    { "device", block_device, NULL, "The GPU that they are on; -1: memory of the host.", NULL },
    { "nbytes", block_bytes, NULL, "How many.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot block_slots[] = {
    { Py_tp_doc, "Bytes that an operation has made; freed with the last buffer on it." },
    { Py_tp_dealloc, block_dealloc },
    { Py_tp_getset, block_getset },
    { Py_bf_getbuffer, block_buffer },
    { 0, NULL },
};
PyType_Spec coll_block_spec = { "horovod._coll.Block", sizeof(struct block), 0, Py_TPFLAGS_DEFAULT,
                                block_slots };

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
    unsigned char *copy; /* while the owner closes */
};

PyObject *coll_memory_type;

PyObject *coll_arena_alloc(PyObject *object, PyObject *args)
{
    struct context *self = (struct context *)object;
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)coll_memory_type, Py_tp_alloc);
    struct memory *m;
    PyObject *view;
    Py_ssize_t bytes;
    void *data;

    if (!PyArg_ParseTuple(args, "n:arena_alloc", &bytes) || !coll_engine(self))
        return NULL;
    if (bytes <= 0)
        return PyErr_Format(PyExc_ValueError, "%zd bytes cannot be allocated in the arena", bytes);
    data = ty_coll_arena_alloc(self->c, (size_t)bytes);
    if (!data)
        Py_RETURN_NONE;
    m = (struct memory *)alloc((PyTypeObject *)coll_memory_type, 0);
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
    free(m->copy);
    if (m->saved) {
        if (--m->saved->users == 0) {
            munmap(m->saved->base, m->saved->bytes);
            free(m->saved);
        }
    } else if (owner->c && !owner->closing && owner->forks == coll_forks) {
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
PyType_Spec coll_memory_spec = { "horovod._coll.Memory", sizeof(struct memory), 0,
                                 Py_TPFLAGS_DEFAULT, memory_slots };

/* ---- memory that outlives its context ---- */

void coll_memories_save(struct context *self)
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

void coll_memories_restore(struct context *self)
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
