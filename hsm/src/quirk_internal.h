/*
 * quirk_internal.h - what a module needs done differently, as data.
 */
#ifndef HSM_QUIRK_INTERNAL_H
#define HSM_QUIRK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

struct hsm_quirks {
    bool
        plain_templates; /* key generation without CKA_MODIFIABLE, _COPYABLE, _ALLOWED_MECHANISMS */
    bool bare_public; /* and without CKA_VERIFY of the public half */
    bool origin_untold; /* CKA_LOCAL is false of every key; what tells a generated one is that
                           CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are true */
    bool restart; /* a lost connection comes back by C_Finalize and C_Initialize alone */
    bool serial; /* one call at a time in the module, or it may lose one for ever */
    unsigned id_len; /* octets of a new key's CKA_ID */
    unsigned sessions_max; /* whatever CK_TOKEN_INFO says; 0: that */
};

/** What is known of a module and its token; `reason` is for the log, NULL if nothing is known. */
void hsm_quirks_of(const CK_INFO *module, const CK_TOKEN_INFO *token, struct hsm_quirks *out,
                   const char **reason);

/**
 * Words between commas: plain-templates, bare-public, origin-untold, restart,
 * serial, id=2..64, sessions=1..1024. "" is none.
 */
HSM_MUST_CHECK enum hsm_status hsm_quirks_parse(const char *text, struct hsm_quirks *out);

#endif
