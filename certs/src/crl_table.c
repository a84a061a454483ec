/* crl_table.c - look up a certificate in a CRL, in a time that does not grow with the CRL. */
#include "crl_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "x509_internal.h"

static uint64_t
rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 (Aumasson and Bernstein) of whole words. */
static uint64_t
sip_hash(const uint64_t key[2], const uint64_t *words, size_t count)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};

    for (size_t i = 0; i <= count; i++) {
        uint64_t word = i < count ? words[i] : (uint64_t)(count * sizeof(*words)) << 56;

        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * Keyed with random octets, because the table is filled before the CRL's signature is checked: an
 * attacker cannot choose entries that all fall into one place.
 */
uint64_t
certs_crl_table_hash(const struct certs_crl *crl, unsigned long name_hash,
                     const ASN1_INTEGER *serial)
{
    uint64_t words[1 + (CERTS_SERIAL_MAX + 7) / 8] = {name_hash};

    memcpy(&words[1], ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
    return sip_hash(crl->hash_key, words, sizeof(words) / sizeof(words[0]));
}

static bool
is_entry_of(const struct crl_revoked *revoked, const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
    return revoked->serial_len == ASN1_STRING_length(serial) &&
           memcmp(revoked->serial, ASN1_STRING_get0_data(serial), revoked->serial_len) == 0 &&
           X509_NAME_cmp(revoked->issuer, issuer) == 0;
}

/* The place of this entry, or the free place where it belongs. */
static struct crl_slot *
table_slot(const struct certs_crl *crl, uint64_t hash, const X509_NAME *issuer,
           const ASN1_INTEGER *serial)
{
    size_t i = hash & crl->table_mask;

    while (crl->table[i].entry != 0) {
        const struct crl_slot *slot = &crl->table[i];

        if (slot->hash == (uint32_t)(hash >> 32) &&
            is_entry_of(&crl->entries[slot->entry - 1], issuer, serial))
            break;
        i = (i + 1) & crl->table_mask;
    }
    return &crl->table[i];
}

enum hsm_status
certs_crl_table_new(struct certs_crl *crl, size_t count)
{
    size_t size = 16;

    while (size < 2 * count)
        size *= 2;
    crl->entries = calloc(count + 1, sizeof(*crl->entries));
    crl->table = calloc(size, sizeof(*crl->table));
    crl->issuers = sk_X509_NAME_new_null();
    if (crl->entries == NULL || crl->table == NULL || crl->issuers == NULL)
        return HSM_ERR_NOMEM;
    crl->table_mask = size - 1;
    if (RAND_bytes((uint8_t *)crl->hash_key, sizeof(crl->hash_key)) != 1)
        return certs_openssl_failed("CRL table");
    return HSM_OK;
}

static void
add_entry(struct certs_crl *crl, const X509_NAME *issuer, const X509_REVOKED *entry)
{
    const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(entry);
    struct crl_revoked *revoked = &crl->entries[crl->count++];

    *revoked = (struct crl_revoked){.issuer = issuer, .entry = entry};
    revoked->serial_len = (uint8_t)ASN1_STRING_length(serial);
    memcpy(revoked->serial, ASN1_STRING_get0_data(serial), revoked->serial_len);
}

/* If a certificate is listed twice, the first entry is found. */
static void
put_slot(struct crl_slot *slot, size_t entry, uint64_t hash)
{
    if (slot->entry == 0)
        *slot = (struct crl_slot){.entry = (uint32_t)entry, .hash = (uint32_t)(hash >> 32)};
}

void
certs_crl_table_add(struct certs_crl *crl, uint64_t hash, const X509_NAME *issuer,
                    const X509_REVOKED *entry)
{
    const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(entry);

    add_entry(crl, issuer, entry);
    put_slot(table_slot(crl, hash, issuer, serial), crl->count, hash);
}

const struct crl_revoked *
certs_crl_table_find(const struct certs_crl *crl, uint64_t hash, const X509_NAME *issuer,
                     const ASN1_INTEGER *serial)
{
    const struct crl_slot *slot = table_slot(crl, hash, issuer, serial);

    return slot->entry != 0 ? &crl->entries[slot->entry - 1] : NULL;
}
