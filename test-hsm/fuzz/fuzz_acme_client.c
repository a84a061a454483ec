/*
 * fuzz_acme_client.c - answers of a CA to the ACME client: directory, order, authorization,
 * problem, renewalInfo, Retry-After, Link. The parsers have no public header; each sees every
 * input.
 */
#include <client_internal.h>
#include <link_internal.h>

#include <acme/json.h>

#include "fuzz.h"

static void
check_directory(const json_t *object)
{
    struct acme_directory directory;

    if (acme_directory_parse(object, &directory, NULL) != HSM_OK)
        return;
    fuzz_assert(directory.new_nonce != NULL && directory.new_account != NULL &&
                directory.new_order != NULL);
    fuzz_assert(strlen(directory.new_order) <= ACME_CLIENT_URL_MAX);
    acme_directory_clear(&directory);
}

static void
check_order(const json_t *object)
{
    static const struct acme_client_identifier wanted[] = {{"TNAuthList", "MAigBhYEODE4SA"}};
    struct acme_order_view order;
    struct hsm_reason why = {""};
    enum hsm_status st = acme_order_parse(object, &order, &why);

    (void)acme_order_is_for(object, wanted, 1);
    if (st != HSM_OK) {
        fuzz_assert(why.text[0] != '\0'); /* no refusal without a reason */
        return;
    }
    fuzz_assert(order.status != ACME_ORDER_INVALID);
    fuzz_assert((order.finalize != NULL) == (order.status == ACME_ORDER_READY));
    fuzz_assert((order.certificate != NULL) == (order.status == ACME_ORDER_VALID));
    fuzz_assert(order.authorization_count <= ACME_AUTHZS_MAX);
    for (size_t i = 0; i < order.authorization_count; i++)
        fuzz_assert(strlen(order.authorizations[i]) <= ACME_CLIENT_URL_MAX);
}

static void
check_authz(const json_t *object)
{
    struct acme_authz_view authz;
    struct hsm_reason why = {""};

    if (acme_authz_parse(object, &authz, &why) != HSM_OK) {
        fuzz_assert(why.text[0] != '\0');
        return;
    }
    fuzz_assert(authz.count <= ACME_CHALLENGES_MAX);
    for (size_t i = 0; i < authz.count; i++)
        fuzz_assert(authz.offered[i].url != NULL && authz.offered[i].challenge.type != NULL);
}

static void
check_others(const json_t *object)
{
    struct acme_client_renewal window;
    char text[HSM_REASON_MAX] = "";

    acme_problem_describe(object, 400, text);
    fuzz_assert(text[0] != '\0' && strlen(text) < sizeof(text));
    if (acme_renewal_parse(object, &window, NULL) == HSM_OK)
        fuzz_assert(window.start < window.end);
}

static void
check_links(const char *text)
{
    char *url = NULL;

    for (size_t skip = 0; acme_link_find(text, "alternate", skip, &url) == HSM_OK; skip++) {
        fuzz_assert(strchr(url, '>') == NULL && strstr(text, url) != NULL);
        free(url);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    json_t *object = NULL;
    long wait_s;

    wait_s = acme_retry_after_s(text, 1767326400);
    fuzz_assert(wait_s >= -1 && wait_s <= ACME_RETRY_AFTER_MAX_S);
    check_links(text);
    if (acme_json_parse(text, len, &object, NULL) == HSM_OK) {
        check_directory(object);
        check_order(object);
        check_authz(object);
        check_others(object);
        json_decref(object);
    }
    free(text);
    return 0;
}
