/*
 * crl.h - the commands `sti-cert crl show`, `crl verify` and `crl issue`.
 */
#ifndef STI_CERT_CRL_H
#define STI_CERT_CRL_H

#include <certs/crl.h>

#include "arguments.h"

extern const char crl_verify_more[]; /* additions to the help */
extern const char crl_issue_more[];

/* Read a CRL file; faults are logged with its path. */
enum hsm_status crl_read(const char *path, struct certs_crl **out);

/*
 * Read --crl-signer and --pa-anchors, and verify the CRL of that file.
 *
 * @param url  the URL that the CRL should state; NULL: not compared
 */
enum hsm_status crl_check(const struct arguments *arguments, const char *path, const char *url,
                          time_t now, struct certs_crl **out);

enum hsm_status crl_show(const struct arguments *arguments);
enum hsm_status crl_verify(const struct arguments *arguments);
enum hsm_status crl_issue(const struct arguments *arguments);

#endif
