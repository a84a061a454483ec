/* der.c - strict DER, for the small structures that this floor reads and writes itself. */

#include "der_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DER_LENGTH_OCTETS_MAX 4 /* below 2^32 octets of content */
#define DER_HEADER_MAX        (2 + DER_LENGTH_OCTETS_MAX)

/* X.690 section 10.1: the definite form, in the fewest octets. */
static bool
read_length(struct der_reader *from, size_t *len)
{
    size_t value = 0;
    size_t octets;

    if (from->left < 1)
        return false;
    octets = *from->at & 0x7fU;
    if ((*from->at & 0x80) == 0) {
        *len = octets;
        from->at++;
        from->left--;
        return true;
    }
    if (octets == 0 || octets > DER_LENGTH_OCTETS_MAX || from->left < 1 + octets)
        return false;
    for (size_t i = 1; i <= octets; i++)
        value = value << 8 | from->at[i];
    if (value < 0x80 || from->at[1] == 0)
        return false;
    from->at += 1 + octets;
    from->left -= 1 + octets;
    *len = value;
    return true;
}

bool
certs_der_read(struct der_reader *from, uint8_t tag, struct der_reader *content)
{
    struct der_reader rest = *from;
    size_t len;

    if (rest.left < 2 || *rest.at != tag)
        return false;
    rest.at++;
    rest.left--;
    if (!read_length(&rest, &len) || len > rest.left)
        return false;
    *content = (struct der_reader){.at = rest.at, .left = len};
    *from = (struct der_reader){.at = rest.at + len, .left = rest.left - len};
    return true;
}

bool
certs_der_is_one_sequence(const uint8_t *der, size_t len)
{
    struct der_reader reader = {.at = der, .left = len};
    struct der_reader content;

    return certs_der_read(&reader, DER_SEQUENCE, &content) && reader.left == 0;
}

static bool
reserve(struct der_writer *to, size_t more)
{
    uint8_t *grown;
    size_t size = to->size < 128 ? 128 : to->size;

    if (to->failed)
        return false;
    while (size - to->len < more)
        size *= 2;
    if (size == to->size)
        return true;
    grown = realloc(to->octets, size);
    if (grown == NULL) {
        to->failed = true;
        return false;
    }
    to->octets = grown;
    to->size = size;
    return true;
}

void
certs_der_put(struct der_writer *to, const void *octets, size_t len)
{
    if (len == 0 || !reserve(to, len))
        return;
    memcpy(to->octets + to->len, octets, len);
    to->len += len;
}

void
certs_der_wrap(struct der_writer *to, size_t start, uint8_t tag)
{
    uint8_t header[DER_HEADER_MAX] = {tag};
    size_t content = to->len - start;
    size_t header_len = 2;

    if (to->failed || !reserve(to, sizeof(header)))
        return;
    assert(content <= UINT32_MAX); /* writers are given less than this */
    if (content < 0x80) {
        header[1] = (uint8_t)content;
    } else {
        size_t octets = content > 0xffffff ? 4 : content > 0xffff ? 3 : content > 0xff ? 2 : 1;

        header[1] = (uint8_t)(0x80 | octets);
        for (size_t i = 0; i < octets; i++)
            header[2 + i] = (uint8_t)(content >> 8 * (octets - 1 - i));
        header_len += octets;
    }
    memmove(to->octets + start + header_len, to->octets + start, content);
    memcpy(to->octets + start, header, header_len);
    to->len += header_len;
}

void
certs_der_put_unsigned(struct der_writer *to, uint64_t value)
{
    uint8_t octets[1 + sizeof(value)] = {0};
    size_t start = to->len;
    size_t first = 1;

    for (size_t i = 0; i < sizeof(value); i++)
        octets[1 + i] = (uint8_t)(value >> 8 * (sizeof(value) - 1 - i));
    while (first < sizeof(value) && octets[first] == 0)
        first++;
    if (octets[first] & 0x80)
        first--; /* a leading zero keeps it positive */
    certs_der_put(to, octets + first, sizeof(octets) - first);
    certs_der_wrap(to, start, DER_INTEGER);
}

void
certs_der_writer_free(struct der_writer *to)
{
    free(to->octets);
    *to = (struct der_writer){0};
}
