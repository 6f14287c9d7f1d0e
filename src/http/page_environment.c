/* page_environment.c - what a run had of Python, torch and packages, on its page */
#include "http/page.h"
#include <string.h>

#define PACKAGES_MAX 1000

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void fact(struct ty_str *s, const char *what, const char *value)
{
    if (value && *value)
        html_add(s, "<tr><th scope=\"row\">%s</th><td class=\"path\">%s</td></tr>\n", what, value);
}

/* "1.13.1, what this machine has: <reason>" */
static void framework(struct ty_str *s, const char *what, const json_t *o)
{
    static const char *const from[][2] = { { "system", "of the interpreter that was there" },
                                           { "index", "from the package index" },
                                           { "conda", "from a conda channel" } };
    const char *version = text_of(o, "version"), *word = text_of(o, "from"),
               *reason = text_of(o, "reason");
    CLEANUP_STR struct ty_str line = { 0 };

    if (!version && !reason)
        return;
    ty_str_add(&line, version ? version : "none");
    for (size_t i = 0; word && i < sizeof from / sizeof *from; i++)
        if (strcmp(word, from[i][0]) == 0)
            ty_str_addf(&line, ", %s", from[i][1]);
    if (reason && *reason)
        ty_str_addf(&line, ": %s", reason);
    fact(s, what, line.text);
}

static int rows(struct ty_str *s, const json_t *list, const char *from, int shown)
{
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        const char *name = text_of(one, "name"), *version = text_of(one, "version"),
                   *where = from ? from : text_of(one, "from");

        if (name && shown++ < PACKAGES_MAX)
            html_add(s, "<tr><td>%s</td><td>%s</td><td class=\"faint\">%s</td></tr>\n", name,
                     version ? version : "", where ? where : "");
    }
    return shown;
}

static void packages(struct ty_str *s, const json_t *record)
{
    const json_t *lock = json_object_get(record, "lock"), *pip = json_object_get(lock, "pip"),
                 *conda = json_object_get(lock, "conda"),
                 *satisfied = json_object_get(record, "satisfied");
    size_t n = json_array_size(pip) + json_array_size(conda) + json_array_size(satisfied);
    int shown;

    if (n == 0)
        return;
    ty_str_addf(s,
                "<details>\n<summary>%zu package%s</summary>\n"
                "<div class=\"scroll\"><table><tbody>\n",
                n, n == 1 ? "" : "s");
    shown = rows(s, satisfied, NULL, 0);
    shown = rows(s, conda, "conda", shown);
    rows(s, pip, "pip", shown);
    ty_str_add(s, "</tbody></table></div>\n</details>\n");
}

void page_environment(struct ty_str *s, const json_t *record)
{
    const json_t *built = json_object_get(record, "built");
    CLEANUP_FREE char *how = NULL;

    if (!json_is_object(record))
        return;
    if (json_is_true(built))
        how = ty_strf("built in %.1f s with %s",
                      json_number_value(json_object_get(record, "seconds")),
                      text_of(record, "tool") ? text_of(record, "tool") : "pip");
    ty_str_add(s, "<section id=\"environment\">\n<h2>Environment</h2>\n"
                  "<div class=\"scroll\"><table><tbody>\n");
    fact(s, "Python", text_of(record, "python"));
    framework(s, "torch", json_object_get(record, "torch"));
    framework(s, "torchvision", json_object_get(record, "torchvision"));
    fact(s, "Interpreter", text_of(record, "interpreter"));
    fact(s, "Prefix",
         how                         ? how
         : text_of(record, "prefix") ? "it was in the cache already"
                                     : "none: what was there satisfies what was asked for");
    if (text_of(record, "view") && strcmp(text_of(record, "view"), "plain") != 0)
        fact(s, "View", text_of(record, "view"));
    ty_str_add(s, "</tbody></table></div>\n");
    packages(s, record);
    ty_str_add(s, "</section>\n");
}
