/* ca_list.c - the STI-PA's signed list of trusted STI-CAs. */
#include <acme/ca_list.h>

#include <stdlib.h>
#include <string.h>

#include <acme/json.h>
#include <acme/jws.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/use.h>

#define LIST_VERSION "1.0"

struct acme_ca_list {
    char *text;
    struct acme_jws *jws;
    const char *x5u; /* points into jws */
    int64_t sequence;
    int64_t exp; /* NumericDate */
    struct certs_chain *roots;
};

static enum hsm_status
trust_list_new(const struct certs_chain *roots, json_t **out)
{
    DEFER(json_decref) json_t *list = json_array();

    if (list == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < certs_chain_len(roots); i++) {
        DEFER(free) char *pem = NULL;
        enum hsm_status st = certs_cert_pem(certs_chain_get(roots, i), &pem);

        if (st != HSM_OK)
            return st;
        if (json_array_append_new(list, json_string(pem)) != 0)
            return HSM_ERR_NOMEM;
    }
    *out = list;
    list = NULL;
    return HSM_OK;
}

static enum hsm_status
payload_new(const struct acme_ca_list_request *request, char **out)
{
    DEFER(json_decref) json_t *payload = NULL;
    json_t *list = NULL;
    enum hsm_status st = trust_list_new(request->roots, &list);

    if (st != HSM_OK)
        return st;
    payload = json_pack("{s:s, s:I, s:I, s:o}", "version", LIST_VERSION, "sequence",
                        (json_int_t)request->sequence, "exp", (json_int_t)request->exp, "trustList",
                        list);
    *out = payload == NULL ? NULL : acme_json_canonical(payload);
    return *out == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

enum hsm_status
acme_ca_list_new(const struct acme_ca_list_request *request, struct hsm_key *signer, char **out)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *payload = NULL;
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_CA_LIST);

    if (request->x5u == NULL || request->sequence > INT64_MAX ||
        certs_chain_len(request->roots) > CERTS_ANCHORS_MAX)
        return HSM_ERR_USAGE;
    header = acme_jws_header_new(request->x5u);
    if (header == NULL)
        return HSM_ERR_NOMEM;
    st = payload_new(request, &payload);
    if (st != HSM_OK)
        return st;
    return acme_jws_sign_compact(header, payload, strlen(payload), signer, out);
}

static enum hsm_status
add_root(struct certs_chain *roots, const json_t *pem, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *one = NULL;
    enum hsm_status st;

    if (!json_is_string(pem))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "trustList: not an array of strings");
    st = certs_chain_parse_pem(json_string_value(pem), json_string_length(pem), 1, &one, why);
    if (st != HSM_OK)
        return st;
    return certs_chain_append(roots, one);
}

static enum hsm_status
read_trust_list(struct acme_ca_list *list, const json_t *payload, struct hsm_reason *why)
{
    json_t *texts = NULL;
    enum hsm_status st = acme_json_array(payload, "trustList", &texts, why);

    if (st != HSM_OK)
        return st;
    if (json_array_size(texts) > CERTS_ANCHORS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "trustList: more than %d certificates",
                          CERTS_ANCHORS_MAX);
    st = certs_chain_new(&list->roots);
    for (size_t i = 0; st == HSM_OK && i < json_array_size(texts); i++)
        st = add_root(list->roots, json_array_get(texts, i), why);
    return st;
}

/* Unknown members are ignored. */
static enum hsm_status
read_payload(struct acme_ca_list *list, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *payload = NULL;
    const char *version = NULL;
    size_t len = 0;
    const char *text = acme_jws_payload(list->jws, &len);
    enum hsm_status st = acme_json_parse(text, len, &payload, why);

    if (st == HSM_OK)
        st = acme_json_string(payload, "version", &version, why);
    if (st != HSM_OK)
        return st;
    if (strcmp(version, LIST_VERSION) != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "version: \"%.16s\" is not \"%s\"", version,
                          LIST_VERSION);
    st = acme_json_integer(payload, "sequence", &list->sequence, why);
    if (st == HSM_OK)
        st = acme_json_integer(payload, "exp", &list->exp, why);
    if (st == HSM_OK)
        st = read_trust_list(list, payload, why);
    return st;
}

enum hsm_status
acme_ca_list_parse(const char *text, size_t len, struct acme_ca_list **out, struct hsm_reason *why)
{
    DEFER(acme_ca_list_free) struct acme_ca_list *list = NULL;
    enum hsm_status st;

    if (len > ACME_CA_LIST_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "trusted-CA list: more than %d characters",
                          ACME_CA_LIST_MAX);
    list = calloc(1, sizeof(*list));
    if (list == NULL)
        return HSM_ERR_NOMEM;
    list->text = strndup(text, len);
    if (list->text == NULL)
        return HSM_ERR_NOMEM;
    st = acme_jws_parse_compact(text, len, &list->jws, why);
    if (st == HSM_OK)
        st = acme_jws_check_algorithm(list->jws, why);
    if (st == HSM_OK)
        st = acme_jws_x5u(list->jws, &list->x5u, why);
    if (st == HSM_OK)
        st = read_payload(list, why);
    if (st != HSM_OK)
        return st;
    *out = list;
    list = NULL;
    return HSM_OK;
}

const char *
acme_ca_list_x5u(const struct acme_ca_list *list)
{
    return list->x5u;
}

uint64_t
acme_ca_list_sequence(const struct acme_ca_list *list)
{
    return (uint64_t)list->sequence;
}

time_t
acme_ca_list_exp(const struct acme_ca_list *list)
{
    return (time_t)list->exp;
}

const char *
acme_ca_list_text(const struct acme_ca_list *list)
{
    return list->text;
}

const struct certs_chain *
acme_ca_list_roots(const struct acme_ca_list *list)
{
    return list->roots;
}

enum hsm_status
acme_ca_list_check(const struct acme_ca_list *list, const struct certs_chain *signer,
                   const struct certs_chain *pa_anchors, uint64_t previous_sequence, time_t now,
                   struct hsm_reason *why)
{
    enum hsm_status st = acme_jws_verify_authority(list->jws, signer, pa_anchors, now, why);

    if (st != HSM_OK)
        return st;
    if (list->exp <= now)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "exp: the trusted-CA list has expired");
    if (acme_ca_list_sequence(list) < previous_sequence)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "sequence: lower than one seen before");
    return HSM_OK;
}

void
acme_ca_list_free(struct acme_ca_list *list)
{
    if (list == NULL)
        return;
    certs_chain_free(list->roots);
    acme_jws_free(list->jws);
    free(list->text);
    free(list);
}
