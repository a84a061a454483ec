/* fuzz_journal.c - checkpoints and proofs: an accepted checkpoint is written as the same text. */
#include <hsm/es256.h>
#include <hsm/journal.h>

#include "fuzz.h"

/* The generator of P-256 (FIPS 186-4 D.1.2.3), as a public key that no signer has. */
static const uint8_t point[HSM_P256_POINT_LEN] = {
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5,
    0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4,
    0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a,
    0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33,
    0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static EVP_PKEY *key;
    struct hsm_journal_note note;
    struct hsm_reason why;
    char record[HSM_JOURNAL_LINE_MAX + 1], value[64], again[HSM_JOURNAL_NOTE_MAX];
    char *text = fuzz_text(data, len);

    if (key == NULL)
        fuzz_assert(hsm_p256_from_point(point, sizeof(point), &key) == HSM_OK);
    if (hsm_journal_note_parse(text, &note, &why) == HSM_OK) {
        fuzz_assert(hsm_journal_note_format(&note, again) == HSM_OK);
        fuzz_assert(strcmp(again, text) == 0);
    }
    (void)hsm_journal_detail(text, "file", value, sizeof(value));
    if (hsm_journal_proof_check(text, key, record, &note, &why) == HSM_OK)
        fuzz_assert(strlen(record) < sizeof(record));
    free(text);
    return 0;
}
