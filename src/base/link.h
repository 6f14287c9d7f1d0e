/* link.h - an encrypted byte stream between two programs that share a key, over TCP (docs/spec/link.md)
 *
 * Both sides prove that they have the key, with pairs that are fresh for each connection: nothing of an earlier one can be
 * played again, and nothing that is recorded can be read later.  Nothing here waits: a poll loop calls ty_link_turn, or sends
 * and receives, when the descriptor is ready.  link_ends.h has who listens and who calls.
 *
 * The end of the stream is not proven: what has to be whole says so itself, as frames and their acknowledgements do.
 */
#ifndef TY_LINK_H
#define TY_LINK_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
struct ty_link;

#define TY_LINK_KEY 32
#define TY_LINK_CHUNK (32 * 1024)               /* bytes of the stream in one message, at most */
#define TY_LINK_UNSENT_MAX (128 * 1024)         /* encrypted bytes that wait for the socket; then ty_link_send takes no more */
#define TY_LINK_HANDSHAKE_US (5 * 1000 * 1000)  /* time to prove the key */

union ty_link_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* 64 hexadecimal digits; -EINVAL. */
int ty_link_key_parse(const char *hex, unsigned char key[TY_LINK_KEY]);
/* A fresh key as 64 digits.  0 or -EIO. */
int ty_link_key_make(char hex[2 * TY_LINK_KEY + 1]);

/* On a socket that was accepted (`called`), or that is connected or connecting.  The socket becomes the link's, also where
 * this fails.  NULL: out of memory. */
struct ty_link *ty_link_new(int fd, bool called, const unsigned char key[TY_LINK_KEY], int64_t now_us);
/* Begin to connect.  0 or a negative errno. */
int ty_link_connect(const union ty_link_address *to, const unsigned char key[TY_LINK_KEY], int64_t now_us,
                    struct ty_link **ret);
struct ty_link *ty_link_free(struct ty_link *l); /* closes */

int ty_link_fd(const struct ty_link *l);
short ty_link_events(const struct ty_link *l); /* as for poll(2) */
/* When the time for the proof is over; INT64_MAX once it is done. */
int64_t ty_link_due(const struct ty_link *l);
bool ty_link_ready(const struct ty_link *l); /* the other side has proven the key */
/* Go on with the proof and send what waits.  0; or why the link is over: -EACCES the other side has another key, -EPROTO it
 * is no link at all, -ETIMEDOUT it did not prove the key in time, -ECONNREFUSED and what else connect(2), send(2) say. */
int ty_link_turn(struct ty_link *l, int64_t now_us);
/* As send(2): bytes taken; -EAGAIN: none now; or why the link is over. */
ssize_t ty_link_send(struct ty_link *l, const void *bytes, size_t n);
/* As recv(2): bytes; 0: the other side has closed; -EAGAIN; -EBADMSG: what came was changed on the way.  Where
 * nothing can be sent any more, because the other side has closed, what it had said before is still received. */
ssize_t ty_link_recv(struct ty_link *l, void *buf, size_t cap);
size_t ty_link_unsent(const struct ty_link *l); /* encrypted bytes that wait for the socket */
/* Are there bytes to receive that the socket does not tell of, for they have been read from it already? */
bool ty_link_holds(const struct ty_link *l);

/* The two ends of the connection as text ("10.0.0.1", "2001:db8::1"; IPv4 in IPv6 is shown as IPv4) into text[46].  0 or a
 * negative errno. */
#define TY_LINK_ADDRESS_TEXT 46
int ty_link_local(const struct ty_link *l, char text[TY_LINK_ADDRESS_TEXT]);
int ty_link_peer(const struct ty_link *l, char text[TY_LINK_ADDRESS_TEXT]);
#endif
