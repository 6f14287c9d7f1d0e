/* schemas.h - the JSON schemas of docs/spec/schema, embedded by the build */
#ifndef TY_HTTP_SCHEMAS_H
#define TY_HTTP_SCHEMAS_H
struct schema_text {
    const char *name, *json; /* name: as in ty_schema_name */
};
extern const struct schema_text schema_texts[]; /* the last has no name */
#endif
