/* row.h - one thing that a script logged, as bytes (docs/spec/rows.md)
 *
 * The same encoding stands in the mapped spool file between script and runner, in ROWS frames between runner
 * and daemon.  Little-endian, 8-byte aligned:
 *
 *    0  u32 size     of the whole row, a multiple of 8
 *    4  u8  kind     enum ty_row_kind
 *    5  u8  zero
 *    6  u16 name_len
 *    8  i64 step     TY_ROW_NO_STEP: none
 *   16  i64 at_us    wall clock
 *   24  u32 value_len
 *   28  u32 zero
 *   32  name, value, zeros up to size
 *
 * A name has at least one byte; the value of a DOUBLE or INT has eight.  What the bytes of names and
 * texts are is not looked at here: scripts log what they like, and readers show what is no UTF-8 as
 * U+FFFD.
 */
#ifndef TY_ROW_H
#define TY_ROW_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TY_ROW_HEAD 32
#define TY_ROW_NAME_MAX 1024
#define TY_ROW_VALUE_MAX (256 * 1024)
#define TY_ROW_PAD_MAX (1 << 20) /* one segment of the spool */
#define TY_ROW_NO_STEP INT64_MIN
/* Writers from here on are outside of the run's job, and chose their numbers; those below are its own processes. */
#define TY_ROW_WRITER_OUTSIDE 65536

/* Names that begin so are kept for what a runner samples of the machine (docs/metrics.md): told apart from what the script logs
 * wherever metrics are counted or shown. */
#define TY_ROW_SYSTEM "system/"

/*              kind      word       value */
#define TY_ROW_KINDS(X) \
    X(PAD,      "pad")      /* fills a segment's end; has no sequence number */ \
    X(DOUBLE,   "double")   /* f64 */ \
    X(INT,      "int")      /* i64 */ \
    X(TEXT,     "text")     /* UTF-8 */ \
    X(LIST,     "list")     /* JSON array: run.log_list */ \
    X(ROW,      "row")      /* JSON object: run.log_row */ \
    X(TABLE,    "table")    /* JSON object of arrays: run.log_table */ \
    X(TAG,      "tag")      /* not a metric: JSON string or null; name is the key */ \
    X(PROPERTY, "property") /* not a metric: JSON string; name is the key */
#define X(name, word) TY_ROW_##name,
enum ty_row_kind { TY_ROW_KINDS(X) TY_ROW_KIND_COUNT };
#undef X

struct ty_row {
    enum ty_row_kind kind;
    int64_t step, at_us;
    const char *name;  /* not NUL-terminated */
    size_t name_len;
    const void *value; /* may be unaligned */
    size_t value_len;
};

size_t ty_row_size(const struct ty_row *row); /* encoded bytes */
/* Encode into out[0..ty_row_size(row)); -EINVAL for a kind, name or value that no row can have (a PAD
 * too). */
int ty_row_encode(const struct ty_row *row, void *out);
/* Decode the row at the start of in[0..n): bytes used, -EAGAIN when n is too short, -EBADMSG when it
 * is no row.  name and value point into `in`. */
ptrdiff_t ty_row_decode(const void *in, size_t n, struct ty_row *ret);
bool ty_row_is_system(const char *name, size_t n); /* of a metric's name */
const char *ty_row_kind_word(enum ty_row_kind k);
#endif
