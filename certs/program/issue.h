/*
 * issue.h - sti-cert csr and issue: requests and certificates with a token key.
 */
#ifndef STI_CERT_ISSUE_H
#define STI_CERT_ISSUE_H

#include <hsm/status.h>

#include "arguments.h"

/* Additions to the help of `issue`. */
extern const char issue_more[];

enum hsm_status csr(const struct arguments *arguments);
enum hsm_status issue(const struct arguments *arguments);

#endif
