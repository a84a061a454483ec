/* one_token.c - a throw-away token as the tokens of a service provider. */
#include "one_token.h"

#include <stdlib.h>
#include <string.h>

struct sks_tokens *
one_token(const char *uri, const struct acme_token_settings *settings)
{
    const char *timeout_ms = getenv("STI_TEST_TIMEOUT_MS");
    const struct acme_token_settings usual = {
        .op_timeout_ms = timeout_ms == NULL ? 0 : strtol(timeout_ms, NULL, 10),
        .quirks = getenv("STI_TEST_QUIRKS")};
    struct sks_token_config config = {
        .uri = uri, .module = softhsm_module(), .settings = settings != NULL ? settings : &usual};
    struct hsm_secret *pin = NULL;
    struct sks_tokens *tokens = NULL;

    if (hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) != HSM_OK)
        abort();
    config.pin = pin;
    if (sks_tokens_open(&config, 1, &tokens) != HSM_OK)
        abort();
    hsm_secret_free(pin);
    return tokens;
}
