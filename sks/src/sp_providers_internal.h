/*
 * sp_providers_internal.h - the service providers of a configuration, hosted ones included.
 */
#ifndef SKS_SP_PROVIDERS_INTERNAL_H
#define SKS_SP_PROVIDERS_INTERNAL_H

#include <acme/config.h>
#include <sks/sp_config.h>

/** The sections of the file that [sp] providers names, for --help. */
extern const struct acme_config_kind sks_sp_provider_kinds[];

/** Make the configuration's list of providers: from [sp], and from that file. Faults are logged
 *  with file and line. */
HSM_MUST_CHECK enum hsm_status sks_sp_providers_read(const char *path,
                                                     struct sks_sp_config *config);
void sks_sp_providers_clear(struct sks_sp_config *config);

#endif
