/* quirk.c - quirks of modules, as data. */
#include "quirk_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>
#include <hsm/uri.h>

#include "pool_internal.h"

#define ID_LEN 20 /* octets of the CKA_IDs chosen here, without a quirk */

struct known {
    const char *manufacturer; /* how CK_INFO.manufacturerID begins; NULL: any */
    const char *description; /* how CK_INFO.libraryDescription begins; NULL: any */
    struct hsm_quirks quirks;
    const char *reason;
};

/* docs/HSM.md states which of these were tested and which only read about. All matching rows
 * apply. */
static const struct known table[] = {
    {"PKCS#11 Kit",
     NULL,
     {.restart = true, .serial = true, .shared_files = true, .batch = true, .connections = 4},
     "p11-kit: a connection that broke comes back by C_Finalize and C_Initialize alone; it serves "
     "one call at a time, and of two that wait when it breaks one may wait for ever; each function "
     "list that is asked for is a connection of its own, with a process of the server's at its "
     "other end; an answer is written in pieces; what is behind it may share files, and shows "
     "nothing while it cannot read them"},
    {"SoftHSM",
     NULL,
     {.shared_files = true},
     "SoftHSM: a login empties the token's file and writes it again; keys that are being generated "
     "are seen half, and two at once fail"},
    {"Yubico",
     NULL,
     {.plain_templates = true, .restart = true, .connections = 1, .id_len = 2, .sessions_max = 8},
     "YubiHSM: CKA_ID has 2 octets; a dead device session survives C_CloseSession; 16 sessions, "
     "one at a time in the device"},
    {"AWS CloudHSM",
     NULL,
     {.plain_templates = true},
     "AWS CloudHSM: attributes that it does not know are refused"},
    {"Cavium",
     NULL,
     {.plain_templates = true},
     "AWS CloudHSM, older client: attributes that it does not know are refused"},
    {"SafeNet",
     NULL,
     {.restart = true},
     "Luna: a group that lost all members comes back by C_Finalize and C_Initialize alone"},
    {"Thales",
     NULL,
     {.restart = true},
     "Luna: a group that lost all members comes back by C_Finalize and C_Initialize alone"},
    {"Mozilla",
     "NSS",
     {.plain_templates = true, .origin_untold = true},
     "NSS softokn: its database has no room for CKA_ALLOWED_MECHANISMS and CKA_COPYABLE; CKA_LOCAL "
     "is false of every key"},
    {"tpm2-software",
     NULL,
     {.plain_templates = true,
      .bare_public = true,
      .serial = true,
      .shared_files = true,
      .connections = 1,
      .sessions_max = 5},
     "tpm2-pkcs11: one call at a time in the TPM; a session that is closed or opened while another "
     "one signs damages its memory; to a TPM, to verify is to decrypt and to encrypt "
     "is to sign, so a pair for signatures alone has a public half without uses; its database does "
     "not wait for another process that writes"},
};

/* CK_INFO pads with blanks and has no NUL; `beginning` is a prefix of it. */
static bool
begins(const CK_UTF8CHAR *padded, size_t size, const char *beginning)
{
    size_t len = beginning != NULL ? strlen(beginning) : 0;

    return len == 0 || (len <= size && memcmp(padded, beginning, len) == 0);
}

static bool
fits(const struct known *known, const CK_INFO *module, const CK_UTF8CHAR *manufacturer)
{
    const char *name = known->manufacturer;

    return (begins(module->manufacturerID, sizeof(module->manufacturerID), name) ||
            begins(manufacturer, sizeof(module->manufacturerID), name)) &&
           begins(module->libraryDescription, sizeof(module->libraryDescription),
                  known->description);
}

static unsigned
smaller_of(unsigned a, unsigned b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* A module may only forward calls: the token behind it has quirks of its own. */
static void
merge(const struct hsm_quirks *more, struct hsm_quirks *quirks)
{
    quirks->plain_templates |= more->plain_templates;
    quirks->bare_public |= more->bare_public;
    quirks->origin_untold |= more->origin_untold;
    quirks->shared_files |= more->shared_files;
    quirks->restart |= more->restart;
    quirks->serial |= more->serial;
    quirks->batch |= more->batch;
    quirks->connections = smaller_of(quirks->connections, more->connections);
    quirks->id_len = smaller_of(quirks->id_len, more->id_len);
    quirks->sessions_max = smaller_of(quirks->sessions_max, more->sessions_max);
}

void
hsm_quirks_of(const CK_INFO *module, const CK_UTF8CHAR manufacturer[32], struct hsm_quirks *out)
{
    *out = (struct hsm_quirks){.id_len = ID_LEN};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (!fits(&table[i], module, manufacturer))
            continue;
        merge(&table[i].quirks, out);
        hsm_log(HSM_LOG_DEBUG, "%s", table[i].reason);
    }
}

struct range {
    unsigned min, max;
};

/* "name=" and a number. */
static bool
parse_count(const char *word, size_t len, const char *name, struct range range, unsigned *out)
{
    size_t name_len = strlen(name);
    unsigned value = 0;

    if (len <= name_len || len > name_len + 4 || memcmp(word, name, name_len) != 0)
        return false;
    for (size_t i = name_len; i < len; i++) {
        if (word[i] < '0' || word[i] > '9')
            return false;
        value = value * 10 + (unsigned)(word[i] - '0');
    }
    *out = value;
    return value >= range.min && value <= range.max;
}

static bool
is_word(const char *word, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(word, wanted, len) == 0;
}

static bool
parse_word(const char *word, size_t len, const struct hsm_quirks *known, struct hsm_quirks *quirks)
{
    if (is_word(word, len, "known"))
        merge(known, quirks);
    else if (is_word(word, len, "plain-templates"))
        quirks->plain_templates = true;
    else if (is_word(word, len, "bare-public"))
        quirks->bare_public = true;
    else if (is_word(word, len, "origin-untold"))
        quirks->origin_waived = true;
    else if (is_word(word, len, "shared-files"))
        quirks->shared_files = true;
    else if (is_word(word, len, "restart"))
        quirks->restart = true;
    else if (is_word(word, len, "serial"))
        quirks->serial = true;
    else if (is_word(word, len, "batch"))
        quirks->batch = true;
    else
        return parse_count(word, len, "id=", (struct range){2, HSM_ID_MAX}, &quirks->id_len) ||
               parse_count(word, len, "sessions=", (struct range){1, HSM_SESSIONS_MAX},
                           &quirks->sessions_max) ||
               parse_count(word, len, "connections=", (struct range){1, HSM_CONNECTIONS_MAX},
                           &quirks->connections);
    return true;
}

enum hsm_status
hsm_quirks_parse(const char *text, const struct hsm_quirks *known, struct hsm_quirks *out)
{
    struct hsm_quirks quirks = {.id_len = ID_LEN};

    while (*text != '\0') {
        size_t len = strcspn(text, ",");

        if (!parse_word(text, len, known, &quirks)) {
            hsm_log(HSM_LOG_ERROR, "quirks: unknown quirk \"%.*s\"", (int)len, text);
            return HSM_ERR_USAGE;
        }
        text += len;
        text += *text == ',' ? 1 : 0;
    }
    *out = quirks;
    return HSM_OK;
}
