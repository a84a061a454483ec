/*
 * open.h - open the module, token and key that the command line names.
 */
#ifndef STI_HSM_OPEN_H
#define STI_HSM_OPEN_H

#include <hsm/key.h>
#include <hsm/token.h>

#include "arguments.h"

/** --module, else $STI_MODULE; NULL if the URI itself names the module. */
const char *open_module(const struct arguments *arguments, const char *uri);

/** Prompts for the PIN if no source is configured. `with`: how to use it; NULL: defaults. */
HSM_MUST_CHECK enum hsm_status open_token(const struct arguments *arguments, const char *uri,
                                          const struct hsm_token_config *with,
                                          struct hsm_token **out);

/** --key names token and object at once; with --token it names the object. */
HSM_MUST_CHECK enum hsm_status open_key(const struct arguments *arguments,
                                        const struct hsm_token_config *with,
                                        struct hsm_token **token, struct hsm_key **key);

#endif
