/* chains.c - the certificate chains of a directory. */
#include "chains.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/log.h>

static int
is_pem(const struct dirent *entry)
{
    return fnmatch("*.pem", entry->d_name, FNM_PERIOD) == 0;
}

static enum hsm_status
read_one(const char *dir, const char *name, struct chains *out)
{
    DEFER(free) char *path = acme_provision_path(dir, name);
    struct certs_chain *chain = NULL;
    enum hsm_status st;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    if (out->count == CHAINS_MAX) {
        hsm_log(HSM_LOG_ERROR, "%s: more than %d chains", dir, CHAINS_MAX);
        return HSM_ERR_USAGE;
    }
    st = certs_chain_read(path, &chain);
    if (st == HSM_OK)
        out->chain[out->count++] = chain;
    return st;
}

enum hsm_status
chains_read(const char *dir, struct chains *out)
{
    struct dirent **entries = NULL;
    int count = scandir(dir, &entries, is_pem, alphasort);
    enum hsm_status st = HSM_OK;

    if (count < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", dir, strerror(errno));
        return HSM_ERR_IO;
    }
    for (int i = 0; i < count; i++) {
        if (st == HSM_OK)
            st = read_one(dir, entries[i]->d_name, out);
        free(entries[i]);
    }
    free(entries);
    return st;
}

void
chains_clear(struct chains *chains)
{
    for (size_t i = 0; i < chains->count; i++)
        certs_chain_free((struct certs_chain *)chains->chain[i]);
    *chains = (struct chains){.count = 0};
}
