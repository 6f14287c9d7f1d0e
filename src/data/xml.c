/* xml.c - see xml.h; the parser is expat */
#include "data/xml.h"
#include "base/error.h"
#include "base/str.h"
#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <string.h>

struct reading {
    XML_Parser parser;
    int (*fn)(const char *path, const char *text, void *ctx);
    void *ctx;
    char path[TY_XML_PATH_MAX];
    size_t ends[TY_XML_DEPTH_MAX]; /* lengths of the path at each depth */
    int depth, result;
    struct ty_str text;
};

static void stop(struct reading *x, int result)
{
    x->result = result;
    XML_StopParser(x->parser, XML_FALSE);
}

static void start(void *ctx, const char *name, const char **attributes)
{
    struct reading *x = ctx;
    const char *colon = strrchr(name, ':'), *own = colon ? colon + 1 : name;
    size_t at = x->depth ? x->ends[x->depth - 1] : 0, n = strlen(own);

    (void)attributes;
    if (x->depth == TY_XML_DEPTH_MAX || at + n + 2 > sizeof x->path) {
        stop(x, -EINVAL);
        return;
    }
    if (at > 0)
        x->path[at++] = '/';
    memcpy(x->path + at, own, n + 1);
    x->ends[x->depth++] = at + n;
    ty_str_done(&x->text);
}

static void end(void *ctx, const char *name)
{
    struct reading *x = ctx;
    int r;

    (void)name;
    if (x->result < 0)
        return;
    r = x->text.failed ? -ENOMEM : x->fn(x->path, x->text.text ? x->text.text : "", x->ctx);
    x->depth--;
    x->path[x->depth ? x->ends[x->depth - 1] : 0] = '\0';
    ty_str_done(&x->text);
    if (r < 0)
        stop(x, r);
}

static void add_text(void *ctx, const char *text, int n)
{
    struct reading *x = ctx;

    ty_str_addn(&x->text, text, (size_t)n);
}

/* No answer of a store has one; entities that blow up need one. */
static void doctype(void *ctx, const char *name, const char *sysid, const char *pubid, int internal)
{
    (void)name, (void)sysid, (void)pubid, (void)internal;
    stop(ctx, -EINVAL);
}

int ty_xml_each(const char *text, size_t n,
                int (*fn)(const char *path, const char *text, void *ctx), void *ctx,
                struct ty_error *err)
{
    struct reading x = { .fn = fn, .ctx = ctx };

    if (n > INT_MAX)
        return ty_error_set(err, -EINVAL, "the answer is too long for XML");
    x.parser = XML_ParserCreate(NULL);
    if (!x.parser)
        return ty_error_oom(err);
    XML_SetUserData(x.parser, &x);
    XML_SetElementHandler(x.parser, start, end);
    XML_SetCharacterDataHandler(x.parser, add_text);
    XML_SetStartDoctypeDeclHandler(x.parser, doctype);
    if (XML_Parse(x.parser, text, (int)n, 1) == XML_STATUS_ERROR && x.result == 0)
        x.result = ty_error_set(err, -EINVAL, "the answer is no XML: line %lu: %s",
                                XML_GetCurrentLineNumber(x.parser),
                                XML_ErrorString(XML_GetErrorCode(x.parser)));
    else if (x.result == -EINVAL)
        ty_error_set(err, -EINVAL, "the answer is no XML of an object store");
    else if (x.result == -ENOMEM)
        ty_error_oom(err);
    XML_ParserFree(x.parser);
    ty_str_done(&x.text);
    return x.result;
}

void ty_xml_add(struct ty_str *s, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&':
            ty_str_add(s, "&amp;");
            break;
        case '<':
            ty_str_add(s, "&lt;");
            break;
        case '>':
            ty_str_add(s, "&gt;");
            break;
        case '"':
            ty_str_add(s, "&quot;");
            break;
        default:
            ty_str_addn(s, text, 1);
        }
}
