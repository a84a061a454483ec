/*
 * lint.h - the commands `sti-cert lint` and `sti-cert rules`.
 */
#ifndef STI_CERT_LINT_H
#define STI_CERT_LINT_H

#include "arguments.h"

extern const char lint_more[]; /* additions to the help */

enum hsm_status lint(const struct arguments *arguments);
enum hsm_status lint_rules(const struct arguments *arguments);

#endif
