/* open.c - open the module, token and key that the command line names. */
#include "open.h"

#include <stdbool.h>
#include <stdlib.h>

#include <hsm/defer.h>
#include <hsm/journal.h>
#include <hsm/secret.h>
#include <hsm/uri.h>

static bool
uri_has(const char *text, const char *attribute)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;

    return text != NULL && hsm_uri_parse(text, &uri, NULL) == HSM_OK &&
           hsm_uri_get(uri, attribute) != NULL;
}

const char *
open_module(const struct arguments *arguments, const char *uri)
{
    if (arguments->module != NULL || uri_has(uri, "module-path"))
        return arguments->module;
    return getenv("STI_MODULE");
}

enum hsm_status
open_token(const struct arguments *arguments, const char *uri, const struct hsm_token_config *with,
           struct hsm_token **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    struct hsm_token_config config = with != NULL ? *with : (struct hsm_token_config){.uri = NULL};
    const struct hsm_journal_config journal = {.dir = arguments->journal};
    enum hsm_status st = HSM_OK;

    if (arguments->pin_source != NULL)
        st = hsm_secret_from(arguments->pin_source, "PIN: ", &pin);
    else if (!uri_has(uri, "pin-source") && !uri_has(uri, "pin-value"))
        st = hsm_secret_prompt("PIN: ", &pin);
    if (st != HSM_OK)
        return st;
    config.uri = uri;
    config.module = open_module(arguments, uri);
    config.pin = pin;
    config.journal = journal.dir != NULL ? &journal : NULL;
    config.quirks = arguments->quirks;
    return hsm_token_open(&config, out);
}

enum hsm_status
open_key(const struct arguments *arguments, const struct hsm_token_config *with,
         struct hsm_token **token, struct hsm_key **key)
{
    const char *uri = arguments->token != NULL ? arguments->token : arguments->key;
    enum hsm_status st = open_token(arguments, uri, with, token);

    return st == HSM_OK ? hsm_key_find(*token, arguments->key, key) : st;
}
