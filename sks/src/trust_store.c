/* trust_store.c - the list of trusted STI-CAs and the CRL, kept across restarts. */
#include "trust_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#define LIST_FILE        "ca-list.jws"
#define LIST_SIGNER_FILE "ca-list-signer.pem"
#define CRL_FILE         "crl.der"
#define CRL_SIGNER_FILE  "crl-signer.pem"
#define PATH_SIZE        4096 /* octets */

static bool
path_of(const struct sks_trust *trust, const char *name, char out[PATH_SIZE])
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", trust->dir, name);

    return n > 0 && n < PATH_SIZE;
}

static enum hsm_status
keep_file(const struct sks_trust *trust, const char *name, const void *octets, size_t len)
{
    char path[PATH_SIZE];

    if (!path_of(trust, name, path))
        return HSM_ERR_USAGE;
    return hsm_file_write(path, octets, len, 0644);
}

/* Write the signer first: after a crash the directory may then have an older list or CRL beside a
 * newer signer. If that does not verify it, both are fetched again. */
static enum hsm_status
write_files(const struct sks_trust *trust, const struct held *held)
{
    DEFER(free) char *signer = NULL;
    DEFER(free) char *der = NULL;
    const char *text;
    size_t len;
    enum hsm_status st;

    st = certs_chain_pem(held->signer, &signer);
    if (st != HSM_OK)
        return st;
    if (held->crl == NULL) {
        text = acme_ca_list_text(held->list);
        st = keep_file(trust, LIST_SIGNER_FILE, signer, strlen(signer));
        return st == HSM_OK ? keep_file(trust, LIST_FILE, text, strlen(text)) : st;
    }
    st = keep_file(trust, CRL_SIGNER_FILE, signer, strlen(signer));
    if (st == HSM_OK)
        st = certs_crl_der(held->crl, (uint8_t **)&der, &len);
    return st == HSM_OK ? keep_file(trust, CRL_FILE, der, len) : st;
}

/* Read a file of the directory. HSM_ERR_NOT_FOUND, not logged, when it does not exist. */
static enum hsm_status
read_kept(const struct sks_trust *trust, const char *name, size_t max, char **out, size_t *len)
{
    char path[PATH_SIZE];

    if (!path_of(trust, name, path))
        return HSM_ERR_USAGE;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return HSM_ERR_NOT_FOUND;
    return hsm_file_read(path, max, (uint8_t **)out, len);
}

/* Without its signer's certificates a list or CRL is not trusted, but its number still prevents a
 * rollback: keep it with an empty chain. */
static enum hsm_status
read_signer(const struct sks_trust *trust, const char *name, struct held *held)
{
    DEFER(free) char *pem = NULL;
    struct hsm_reason why = {"not there"};
    size_t len;
    enum hsm_status st = read_kept(trust, name, CERTS_CHAIN_OCTETS_MAX, &pem, &len);

    if (st == HSM_OK)
        st = certs_chain_parse_pem(pem, len, CERTS_CHAIN_LEN_MAX, &held->signer, &why);
    if (st == HSM_OK || st == HSM_ERR_NOMEM)
        return st;
    hsm_log(HSM_LOG_WARNING, "%s/%s: not used: %s", trust->dir, name, why.text);
    return certs_chain_new(&held->signer);
}

static enum hsm_status
read_list(const struct sks_trust *trust, struct held *held, struct hsm_reason *why)
{
    DEFER(free) char *text = NULL;
    size_t len;
    enum hsm_status st = read_kept(trust, LIST_FILE, ACME_CA_LIST_MAX, &text, &len);

    if (st == HSM_OK)
        st = acme_ca_list_parse(text, len, &held->list, why);
    return st == HSM_OK ? read_signer(trust, LIST_SIGNER_FILE, held) : st;
}

static enum hsm_status
read_crl(const struct sks_trust *trust, struct held *held, struct hsm_reason *why)
{
    DEFER(free) char *octets = NULL;
    size_t len;
    enum hsm_status st = read_kept(trust, CRL_FILE, CERTS_CRL_MAX, &octets, &len);

    if (st == HSM_OK)
        st = certs_crl_parse((const uint8_t *)octets, len, &held->crl, why);
    return st == HSM_OK ? read_signer(trust, CRL_SIGNER_FILE, held) : st;
}

static uint64_t
number_of(const struct held *held)
{
    return held->crl != NULL ? certs_crl_number(held->crl) : acme_ca_list_sequence(held->list);
}

/* Another process may have fetched a newer one while this one fetched ours. */
static enum hsm_status
check_kept(const struct sks_trust *trust, const struct held *held, struct hsm_reason *why)
{
    DEFER(sks_held_release) struct held *kept = sks_held_new(0);
    struct hsm_reason unread = {0};
    enum hsm_status st;

    if (kept == NULL)
        return HSM_ERR_NOMEM;
    st = held->crl != NULL ? read_crl(trust, kept, &unread) : read_list(trust, kept, &unread);
    if (st != HSM_OK) /* treated as absent, as in load() */
        return st == HSM_ERR_NOMEM ? st : HSM_OK;
    if (number_of(held) >= number_of(kept))
        return HSM_OK;
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "a newer one is kept already");
}

/* Processes that share the directory compare and write one at a time. */
enum hsm_status
sks_trust_keep(const struct sks_trust *trust, const struct held *held, struct hsm_reason *why)
{
    enum hsm_status st;
    int lock;

    if (trust->dir == NULL)
        return HSM_OK;
    lock = open(trust->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        st = hsm_refuse(why, HSM_ERR_IO, "%s: %s", trust->dir, strerror(errno));
    } else {
        st = check_kept(trust, held, why);
        if (st == HSM_OK)
            st = write_files(trust, held);
    }
    if (lock >= 0)
        close(lock);
    return st;
}

/*
 * A file that cannot be read is treated as absent: it is fetched again. Its
 * validity is checked when it is used. Even if it has expired, its number
 * prevents a rollback.
 */
static enum hsm_status
load(struct sks_trust *trust, struct held **which, const char *name,
     enum hsm_status (*read)(const struct sks_trust *, struct held *, struct hsm_reason *))
{
    DEFER(sks_held_release) struct held *held = sks_held_new(0);
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (held == NULL)
        return HSM_ERR_NOMEM;
    st = read(trust, held, &why);
    if (st == HSM_ERR_NOT_FOUND)
        return HSM_OK;
    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_WARNING, "%s/%s: not used: %s", trust->dir, name, why.text);
        return HSM_OK;
    }
    *which = held;
    held = NULL;
    return HSM_OK;
}

enum hsm_status
sks_trust_load(struct sks_trust *trust)
{
    enum hsm_status st;

    if (trust->dir == NULL)
        return HSM_OK;
    if (mkdir(trust->dir, 0755) != 0 && errno != EEXIST) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", trust->dir, strerror(errno));
        return HSM_ERR_IO;
    }
    st = load(trust, &trust->list, LIST_FILE, read_list);
    return st == HSM_OK ? load(trust, &trust->crl, CRL_FILE, read_crl) : st;
}
