/*
 * config.h - configuration files (INI) with a strict table of keys.
 *
 * An unknown section or key, a key given twice, a missing required key or a
 * value out of range is an error that names file and line.
 */
#ifndef ACME_CONFIG_H
#define ACME_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

enum acme_config_type {
    ACME_CONFIG_TEXT, /* char *, owned by the struct */
    ACME_CONFIG_URL, /* char *, an https URL without userinfo and fragment */
    ACME_CONFIG_PKCS11, /* char *, a PKCS#11 URI (RFC 7512) without a PIN */
    ACME_CONFIG_PATH, /* char *, relative ones are taken from the file's own directory */
    /* char *, for acme_store_open(): a path as above, or a URI. A value that is not clearly one of
     * these is refused without being logged, as it may hold a password. */
    ACME_CONFIG_STORE,
    /* char *, for hsm_secret_from(); a relative path as above. A value that is not a source is
     * refused without being logged, as it may be the secret itself. */
    ACME_CONFIG_SECRET_SOURCE,
    ACME_CONFIG_NUMBER, /* long, min..max */
    ACME_CONFIG_SWITCH, /* bool: yes, no */
};

struct acme_config_key {
    const char *section;
    const char *name;
    enum acme_config_type type;
    size_t offset; /* of the member in the caller's struct */
    bool required;
    long min, max; /* NUMBER */
    const char *fallback; /* text of the default; NULL: the member stays NULL, 0 or false */
    const char *help; /* one line, for --help and the man page */
};

/** Fill `config` (zeroed by the caller) from a file. `keys` ends with a NULL section. */
HSM_MUST_CHECK enum hsm_status acme_config_read(const char *path,
                                                const struct acme_config_key *keys, void *config);

/**
 * Refuse a value after it was read: logs what is wrong, with file and line, and returns
 * HSM_ERR_MALFORMED.
 */
enum hsm_status acme_config_refuse(const char *path, const char *section, const char *name,
                                   const char *what);

/** Release the texts and make the members NULL. */
void acme_config_clear(const struct acme_config_key *keys, void *config);

/**
 * A kind of named sections, of which a file may have any number: "[customer acme]". In `keys`
 * the section of each key is the kind.
 */
struct acme_config_kind {
    const char *name;
    const struct acme_config_key *keys; /* ends with a NULL section */
    size_t size; /* octets of the struct that a section fills */
    /**
     * Called when a section is complete. Takes over its texts, even if it refuses the section; the
     * reason of a refusal is logged with file and line.
     *
     * @param where  "FILE:LINE" of the section's first key
     */
    enum hsm_status (*take)(void *context, const char *name, const char *where, void *section,
                            struct hsm_reason *why);
};

/* Characters of a section's name: letters, digits, ".", "_", "-". */
#define ACME_CONFIG_NAME_MAX 32

/** Read a file of such sections, in order. `kinds` ends with a NULL name. */
HSM_MUST_CHECK enum hsm_status
acme_config_read_sections(const char *path, const struct acme_config_kind *kinds, void *context);

#endif
