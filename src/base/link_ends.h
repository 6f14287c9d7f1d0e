/* link_ends.h - who listens for links, and who calls (docs/spec/link.md) */
#ifndef TY_LINK_ENDS_H
#define TY_LINK_ENDS_H
#include "base/link.h"
#include <net/if.h>
struct ty_error;

#define TY_LINK_ADDRESSES_MAX 32

/* The addresses of this box that others may reach it at, as text, a NULL-terminated array (ty_link_addresses_free).  Those of bridges and of IPv6 come late; loopback ones only where
 * there are no others.  -ENODEV: none at all. */
int ty_link_addresses(char ***ret, struct ty_error *err);
void ty_link_addresses_free(char **list);
/* The interface of this box that has the address `text`: its name into name[IF_NAMESIZE]; -ENODEV. */
int ty_link_interface(const char *text, char name[IF_NAMESIZE]);

/* A gate: listens on all addresses of this box.  Who has not proven the key is nobody: there is room for
 * TY_GATE_STRANGERS_MAX of them, the oldest has to go when one more comes, and each after TY_LINK_HANDSHAKE_US. */
#define TY_GATE_STRANGERS_MAX 256
struct ty_gate;
int ty_gate_open(const unsigned char key[TY_LINK_KEY], struct ty_gate **ret, struct ty_error *err);
/* The same at a port that is known elsewhere already: -EADDRINUSE where somebody else has it.  0: any. */
int ty_gate_open_at(const unsigned char key[TY_LINK_KEY], int port, struct ty_gate **ret, struct ty_error *err);
struct ty_gate *ty_gate_free(struct ty_gate *g);
int ty_gate_port(const struct ty_gate *g);
int ty_gate_fd(const struct ty_gate *g); /* to poll(2) for POLLIN */
int64_t ty_gate_due(const struct ty_gate *g); /* when to call ty_gate_next without an event; INT64_MAX: never */
/* Go on with what has come.  The next link whose other side has proven the key, which is the caller's from then on; NULL:
 * none now. */
struct ty_link *ty_gate_next(struct ty_gate *g, int64_t now_us);

/* A call: tries the addresses one after the other, TY_CALL_NEXT_US apart or at once where one fails, and takes the first whose
 * other side proves the key. */
#define TY_CALL_NEXT_US (200 * 1000)
struct ty_call;
/* `addresses`: texts without port, NULL-terminated; those that are no addresses are left out.  -EINVAL: none is. */
int ty_call_new(char *const *addresses, int port, const unsigned char key[TY_LINK_KEY], struct ty_call **ret);
struct ty_call *ty_call_free(struct ty_call *c);
int ty_call_fd(const struct ty_call *c); /* to poll(2) for POLLIN */
int64_t ty_call_due(const struct ty_call *c);
/* 0 and *ret, which is the caller's; -EAGAIN: not yet; else all have failed, and this is why the first did, which is the
 * one that was answered at last, or else the first in the list.  The next turn begins anew. */
int ty_call_turn(struct ty_call *c, int64_t now_us, struct ty_link **ret);
#endif
