/* facts.h - what a machine has (docs/spec/target-spec.md) */
#ifndef TY_FACTS_H
#define TY_FACTS_H
#include "base/json.h"
#include <stdbool.h>

json_t *ty_facts(void); /* takes a second where interpreters are slow; NULL: out of memory */
/* The version of Open MPI's library, "4.1.4"; "" when it is not there.  It is loaded by a child: what it does when it is loaded is
 * nobody's business here.  Into buf[64]; returns buf. */
char *ty_facts_openmpi(char buf[64]);
bool ty_facts_libpmix(void);
#endif
