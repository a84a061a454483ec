/*
 * verify.h - the command `sti-cert verify`.
 */
#ifndef STI_CERT_VERIFY_H
#define STI_CERT_VERIFY_H

#include "arguments.h"

extern const char verify_more[]; /* additions to the help */

enum hsm_status verify(const struct arguments *arguments);

#endif
