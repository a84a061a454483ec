/*
 * token.h - a PKCS#11 token: open it, know it, initialise it.
 *
 * A token is chosen by the attributes of a PKCS#11 URI (RFC 7512), never by a
 * slot number alone. After fork() open a fresh token: using an inherited one
 * gives HSM_ERR_USAGE. Threads may share a token.
 */
#ifndef HSM_TOKEN_H
#define HSM_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/secret.h>
#include <hsm/status.h>

struct hsm_token;

struct hsm_token_config {
    const char *uri; /* names one token, e.g. "pkcs11:token=sti-ca"; its object part is ignored */
    const char *module; /* path of the PKCS#11 module; NULL: the URI's module-path */
    const struct hsm_secret
        *pin; /* user PIN; borrowed during the call; NULL: the URI's pin-source */
};

/**
 * Load the module, find the token, log in as user, probe a session.
 *
 * The PIN is tried once, and after a refusal no other one is tried on that
 * token in this process or its children. While another hsm_token of this
 * process has the same token open, its login is shared and the PIN given here
 * is not looked at. The token keeps no copy of it that outlives login, but for
 * the one that libp11 itself holds.
 *
 * @retval HSM_ERR_NOT_FOUND    no initialised token matches, or the module is missing
 * @retval HSM_ERR_AMBIGUOUS    several tokens match
 * @retval HSM_ERR_DENIED       wrong, locked or expired PIN: do not try again
 * @retval HSM_ERR_BUSY         the token is not there now
 * @retval HSM_ERR_UNSUPPORTED  no CKM_ECDSA on this token, or not a PKCS#11 module
 * @retval HSM_ERR_USAGE        no module or PIN named, a pin-value, or a slot-id alone
 */
HSM_MUST_CHECK enum hsm_status hsm_token_open(const struct hsm_token_config *config,
                                              struct hsm_token **out);

/**
 * Log out and release. NULL is fine.
 *
 * Keys of this token must have been freed before, and no reference to an
 * EVP_PKEY of theirs (hsm_key_pkey()) may be left, an SSL_CTX's included: the
 * module that such a reference leads to may be unloaded here.
 *
 * The login is one for the process: tokens that are opened twice share it, and
 * the last one to be closed ends it.
 */
void hsm_token_close(struct hsm_token *token);

/** What the token says of itself; fixed-size, NUL-terminated, trailing blanks removed. */
struct hsm_token_info {
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    char module[33]; /* CK_INFO.libraryDescription */
    char module_version[16];
    char hardware_version[16];
    char firmware_version[16];
    unsigned long max_sessions; /* 0: no limit, or not told */
    bool has_ec_key_pair_gen; /* CKM_EC_KEY_PAIR_GEN */
    bool has_ecdsa; /* CKM_ECDSA */
    bool has_rng;
    bool user_pin_low; /* CKF_USER_PIN_COUNT_LOW or _FINAL_TRY */
};

void hsm_token_info(const struct hsm_token *token, struct hsm_token_info *out);

/**
 * What every initialised token that matches says of itself; no PIN is needed.
 *
 * @param uri     NULL: all tokens of the module
 * @param module  NULL: the URI's module-path
 * @param out     receives an array, released with free(); empty when nothing matches
 */
HSM_MUST_CHECK enum hsm_status hsm_token_list(const char *uri, const char *module,
                                              struct hsm_token_info **out, size_t *count);

/** `len` octets from the token's own generator (C_GenerateRandom). */
HSM_MUST_CHECK enum hsm_status hsm_token_random(struct hsm_token *token, void *out, size_t len);

/**
 * Initialise a fresh token (C_InitToken, C_InitPIN) on the first slot that
 * holds none.
 *
 * @param module  path of the PKCS#11 module
 * @param label   1 to 32 octets
 *
 * @retval HSM_ERR_EXISTS     a token of that label is there; it is left as it is
 * @retval HSM_ERR_NOT_FOUND  no slot without an initialised token
 */
HSM_MUST_CHECK enum hsm_status hsm_token_init(const char *module, const char *label,
                                              const struct hsm_secret *so_pin,
                                              const struct hsm_secret *user_pin);

#endif
