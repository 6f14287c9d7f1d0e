/* bytes.h - numbers as they stand on a wire: the lowest byte first, at any address */
#ifndef TY_BYTES_H
#define TY_BYTES_H
#include <stdint.h>

static inline void ty_put_u32(unsigned char to[4], uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(v >> (8 * i));
}
static inline uint32_t ty_get_u32(const void *from)
{
    const unsigned char *b = from;

    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
#endif
