/* common.c - code shared by commands of sti-cert. */

#include "common.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/journal.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/secret.h>
#include <hsm/time.h>
#include <hsm/uri.h>

enum hsm_status
tell(enum hsm_status st, const char *what, const struct hsm_reason *why)
{
    if (st != HSM_OK && why->text[0] != '\0')
        hsm_log(HSM_LOG_ERROR, "%s: %s", what, why->text);
    return st;
}

static bool
is_uri(const char *text)
{
    return strncmp(text, "pkcs11:", 7) == 0;
}

static enum hsm_status
open_token_of(const struct arguments *arguments, const char *text, struct hsm_token **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_reason why = {0};
    const char *module = arguments->module;
    const struct hsm_journal_config journal = {
        .dir = arguments->journal != NULL ? arguments->journal : getenv("STI_JOURNAL")};
    enum hsm_status st = hsm_uri_parse(text, &uri, &why);

    if (st != HSM_OK)
        return tell(st, "token", &why);
    if (module == NULL && hsm_uri_get(uri, "module-path") == NULL)
        module = getenv("STI_MODULE");
    if (arguments->pin_source != NULL)
        st = hsm_secret_from(arguments->pin_source, "PIN: ", &pin);
    else if (hsm_uri_get(uri, "pin-source") == NULL)
        st = hsm_secret_prompt("PIN: ", &pin);
    if (st != HSM_OK)
        return st;
    return hsm_token_open(
        &(struct hsm_token_config){.uri = text,
                                   .module = module,
                                   .pin = pin,
                                   .quirks = arguments->quirks,
                                   .journal = journal.dir != NULL ? &journal : NULL},
        out);
}

enum hsm_status
open_key(const struct arguments *arguments, struct hsm_token **token, struct hsm_key **key)
{
    const char *text = arguments->token != NULL ? arguments->token : arguments->key;
    char uri[HSM_URI_MAX];
    size_t len = strlen("pkcs11:object=");
    enum hsm_status st;

    if (!is_uri(text))
        return options_refuse("the token is needed: --token, or a PKCS#11 URI as --key");
    st = open_token_of(arguments, text, token);
    if (st != HSM_OK || is_uri(arguments->key))
        return st == HSM_OK ? hsm_key_find(*token, arguments->key, key) : st;
    if (strlen(arguments->key) > HSM_LABEL_MAX)
        return options_refuse("--key: more than %d octets", HSM_LABEL_MAX);
    memcpy(uri, "pkcs11:object=", len);
    for (const char *c = arguments->key; *c != '\0'; c++, len += 3)
        (void)snprintf(uri + len, sizeof(uri) - len, "%%%02X", (unsigned char)*c);
    return hsm_key_find(*token, uri, key);
}

enum hsm_status
put_out(const struct arguments *arguments, const char *text)
{
    if (arguments->out != NULL)
        return hsm_file_write(arguments->out, text, strlen(text), 0644);
    return fputs(text, stdout) == EOF ? HSM_ERR_IO : HSM_OK;
}

enum hsm_status
parse_time(const char *option, const char *text, time_t *out)
{
    if (hsm_time_parse(text, out) != HSM_OK)
        return options_refuse("--%s: not a time such as 2026-01-15T12:00:00Z", option);
    return HSM_OK;
}

enum hsm_status
time_of(const struct arguments *arguments, time_t *out)
{
    if (arguments->at != NULL)
        return parse_time("at", arguments->at, out);
    *out = time(NULL);
    return HSM_OK;
}
