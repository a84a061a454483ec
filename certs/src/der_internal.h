/*
 * der_internal.h - strict DER (X.690), for the small structures that this floor reads and writes
 * itself.
 *
 * Tags are single octets and lengths below 2^32: enough for every input bound of this floor.
 */
#ifndef CERTS_DER_INTERNAL_H
#define CERTS_DER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DER_INTEGER    0x02
#define DER_BIT_STRING 0x03
#define DER_UTF8STRING 0x0c
#define DER_IA5STRING  0x16
#define DER_SEQUENCE   0x30
#define DER_CONTEXT(n) (0xa0 | (n)) /* explicit tag [n] */

/* Octets not yet read; borrowed. */
struct der_reader {
    const uint8_t *at;
    size_t left;
};

/* If the next value has this tag and a definite length in its shortest form, lend its content and
 * move past it. */
bool certs_der_read(struct der_reader *from, uint8_t tag, struct der_reader *content);

/* The octets are one SEQUENCE and nothing else. */
bool certs_der_is_one_sequence(const uint8_t *der, size_t len);

/* Grows as it is written; after a failed allocation nothing more is written and `failed` stays
 * set. */
struct der_writer {
    uint8_t *octets; /* owned: certs_der_writer_free() */
    size_t len;
    size_t size;
    bool failed;
};

void certs_der_put(struct der_writer *to, const void *octets, size_t len);

/* Make everything written since `start` the content of one value. */
void certs_der_wrap(struct der_writer *to, size_t start, uint8_t tag);

/* A non-negative INTEGER. */
void certs_der_put_unsigned(struct der_writer *to, uint64_t value);

void certs_der_writer_free(struct der_writer *to);

#endif
