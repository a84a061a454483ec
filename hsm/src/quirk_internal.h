/*
 * quirk_internal.h - what a module needs done differently, as data.
 */
#ifndef HSM_QUIRK_INTERNAL_H
#define HSM_QUIRK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

#define HSM_CONNECTIONS_MAX 16 /* of a process with one token */

/* Of the module, or of the token behind it. */
struct hsm_quirks {
    bool
        plain_templates; /* key generation without CKA_MODIFIABLE, _COPYABLE, _ALLOWED_MECHANISMS */
    bool bare_public; /* and without CKA_VERIFY of the public half */
    bool origin_untold; /* CKA_LOCAL is false of every key: all are refused, unless */
    bool origin_waived; /* the configuration says to do without it: never known of a module */
    bool shared_files; /* processes take turns: host_lock_internal.h */
    bool restart; /* a lost connection comes back by C_Finalize and C_Initialize alone */
    bool serial; /* one call at a time in the module, or it may lose one for ever */
    bool batch; /* threads that sign get SCHED_BATCH: hsm_thread_batch() */
    unsigned connections; /* that a process makes, each with a function list of its own; 0: one */
    unsigned id_len; /* octets of a new key's CKA_ID */
    unsigned sessions_max; /* of all processes, whatever CK_TOKEN_INFO says; 0: that */
};

/**
 * What is known of a module and of what it shows.
 *
 * @param manufacturer  of a token or a slot, padded with blanks: not the
 *                      module's where the module only passes calls on
 */
void hsm_quirks_of(const CK_INFO *module, const CK_UTF8CHAR manufacturer[32],
                   struct hsm_quirks *out);

/**
 * Words between commas: plain-templates, bare-public, origin-untold (which
 * waives CKA_LOCAL), shared-files, restart, serial, batch, connections=1..16,
 * id=2..64, sessions=1..1024; and "known" for what `known` has. "" is none.
 */
HSM_MUST_CHECK enum hsm_status hsm_quirks_parse(const char *text, const struct hsm_quirks *known,
                                                struct hsm_quirks *out);

#endif
