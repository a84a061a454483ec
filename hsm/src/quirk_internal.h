/*
 * quirk_internal.h - what a module needs done differently, as data.
 */
#ifndef HSM_QUIRK_INTERNAL_H
#define HSM_QUIRK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

#define HSM_CONNECTIONS_MAX 16 /* connections of a process to one token */

/* Of the module, or of the token behind it. */
struct hsm_quirks {
    bool
        plain_templates; /* key generation without CKA_MODIFIABLE, _COPYABLE, _ALLOWED_MECHANISMS */
    bool bare_public; /* and without CKA_VERIFY on the public half */
    bool origin_untold; /* CKA_LOCAL is false on every key: all keys are refused, unless */
    bool origin_waived; /* the configuration waives CKA_LOCAL: never set for a known module */
    bool shared_files; /* processes take turns: host_lock_internal.h */
    bool restart; /* a lost connection recovers only by C_Finalize and C_Initialize */
    bool serial; /* one call at a time in the module, which otherwise may lose one for ever */
    bool batch; /* threads that sign get SCHED_BATCH: hsm_thread_batch() */
    unsigned connections; /* per process, each with a function list of its own; 0: one */
    unsigned id_len; /* octets of a new key's CKA_ID */
    unsigned sessions_max; /* of all processes together; overrides CK_TOKEN_INFO; 0: use that */
};

/**
 * The known quirks of a module and of the token that it shows.
 *
 * @param manufacturer  of a token or a slot, padded with blanks: not the
 *                      module's if the module only forwards calls
 */
void hsm_quirks_of(const CK_INFO *module, const CK_UTF8CHAR manufacturer[32],
                   struct hsm_quirks *out);

/**
 * Words between commas: plain-templates, bare-public, origin-untold (which waives CKA_LOCAL),
 * shared-files, restart, serial, batch, connections=1..16, id=2..64, sessions=1..1024; and "known"
 * for the quirks in `known`. "" means no quirks.
 */
HSM_MUST_CHECK enum hsm_status hsm_quirks_parse(const char *text, const struct hsm_quirks *known,
                                                struct hsm_quirks *out);

#endif
