/* authority_token.c - SPC tokens: authority tokens of type TNAuthList. */
#include <acme/authority_token.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jwk.h>
#include <acme/jws.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/use.h>

#include "defer_internal.h"

#define JTI_MAX    256 /* characters */
#define VERDICT_S  3600 /* how long a verdict on a signer's path is kept */
#define NBF_SKEW_S 60 /* seconds by which the authority's clock may be ahead */

struct acme_authority_token {
    struct acme_jws *jws;
    json_t *payload;
    struct certs_chain *x5c; /* NULL: x5u is the URL of the signer's certificate */
    const char *x5u; /* points into jws */
    const char *iss; /* points into payload, like the next two */
    const char *jti;
    const char *fingerprint;
    int64_t exp, nbf; /* NumericDate; nbf is 0 when absent */
    struct certs_tnauthlist *tnauthlist;
    bool ca;
};

/* RFC 9448 section 5.4: tkvalue is base64url without padding, unless the client sent it otherwise.
 */
static char *
tkvalue_new(const struct acme_authority_token_request *request)
{
    const uint8_t *der;
    size_t len = 0;

    if (request->tkvalue != NULL)
        return strdup(request->tkvalue);
    der = certs_tnauthlist_der(request->tnauthlist, &len);
    return acme_base64url_encode(der, len);
}

static char *
claims_new(const struct acme_authority_token_request *request)
{
    DEFER(json_decref) json_t *claims = NULL;
    DEFER(free) char *tkvalue = tkvalue_new(request);

    if (tkvalue == NULL)
        return NULL;
    claims =
        json_pack("{s:s*, s:I, s:s, s:{s:s, s:s, s:b, s:s}}", "iss", request->iss, "exp",
                  (json_int_t)request->exp, "jti", request->jti, "atc", "tktype", "TNAuthList",
                  "tkvalue", tkvalue, "ca", (int)request->ca, "fingerprint", request->fingerprint);
    return claims == NULL ? NULL : acme_json_canonical(claims);
}

enum hsm_status
acme_authority_token_new(const struct acme_authority_token_request *request, struct hsm_key *signer,
                         char **out)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *claims = NULL;
    HSM_USE_FOR(HSM_USE_SPC_TOKEN);

    if (request->x5u == NULL || request->jti == NULL || request->fingerprint == NULL ||
        (request->tkvalue == NULL && request->tnauthlist == NULL))
        return HSM_ERR_USAGE;
    header = acme_jws_header_new(request->x5u);
    claims = claims_new(request);
    if (header == NULL || claims == NULL)
        return HSM_ERR_NOMEM;
    return acme_jws_sign_compact(header, claims, strlen(claims), signer, out);
}

static enum hsm_status
add_certificate(struct certs_chain *chain, const json_t *text, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st;

    if (!json_is_string(text))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5c: not an array of strings");
    st = acme_base64_decode(json_string_value(text), json_string_length(text), &der, &len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "x5c: not base64");
    if (st == HSM_OK)
        st = certs_cert_parse_der(der, len, &cert, why);
    free(der);
    if (st != HSM_OK)
        return st;
    return certs_chain_add(chain, cert);
}

/* RFC 7515 section 4.1.6: DER in standard base64, the signer's first. */
static enum hsm_status
read_x5c(struct acme_authority_token *token, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    json_t *texts = NULL;
    enum hsm_status st = acme_json_array(acme_jws_header(token->jws), "x5c", &texts, why);

    if (st != HSM_OK)
        return st;
    if (json_array_size(texts) == 0 || json_array_size(texts) > CERTS_CHAIN_LEN_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5c: not 1 to %d certificates",
                          CERTS_CHAIN_LEN_MAX);
    st = certs_chain_new(&chain);
    for (size_t i = 0; st == HSM_OK && i < json_array_size(texts); i++)
        st = add_certificate(chain, json_array_get(texts, i), why);
    if (st != HSM_OK)
        return st;
    token->x5c = chain;
    chain = NULL;
    return HSM_OK;
}

/* RFC 9447 section 3: ES256, a JWT, and exactly one of x5u and x5c. */
static enum hsm_status
read_header(struct acme_authority_token *token, struct hsm_reason *why)
{
    const json_t *header = acme_jws_header(token->jws);
    const char *typ = NULL;
    enum hsm_status st = acme_jws_check_algorithm(token->jws, why);

    if (st == HSM_OK)
        st = acme_json_string_optional(header, "typ", &typ, why);
    if (st != HSM_OK)
        return st;
    if (typ != NULL && strcasecmp(typ, "JWT") != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "typ: not \"JWT\"");
    if (json_object_get(header, "x5c") == NULL)
        return acme_jws_x5u(token->jws, &token->x5u, why);
    if (json_object_get(header, "x5u") != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u and x5c: only one may name the signer");
    return read_x5c(token, why);
}

static enum hsm_status
read_tkvalue(struct acme_authority_token *token, const json_t *atc, struct hsm_reason *why)
{
    const char *text = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = acme_json_string(atc, "tkvalue", &text, why);

    if (st != HSM_OK)
        return st;
    st = acme_base64_decode_any(text, strlen(text), &der, &len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "tkvalue: not base64");
    if (st == HSM_OK)
        st = certs_tnauthlist_parse(der, len, &token->tnauthlist, why);
    free(der);
    return st;
}

static enum hsm_status
read_atc(struct acme_authority_token *token, struct hsm_reason *why)
{
    json_t *atc = NULL;
    const char *tktype = NULL;
    enum hsm_status st = acme_json_object(token->payload, "atc", &atc, why);

    if (st == HSM_OK)
        st = acme_json_string(atc, "tktype", &tktype, why);
    if (st != HSM_OK)
        return st;
    if (strcasecmp(tktype, "TNAuthList") != 0) /* RFC 9447's own example writes TnAuthList */
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "tktype: \"%.32s\" is not TNAuthList", tktype);
    st = read_tkvalue(token, atc, why);
    if (st == HSM_OK)
        st = acme_json_bool_optional(atc, "ca", false, &token->ca, why);
    if (st == HSM_OK)
        st = acme_json_string(atc, "fingerprint", &token->fingerprint, why);
    return st;
}

static enum hsm_status
read_claims(struct acme_authority_token *token, struct hsm_reason *why)
{
    size_t len = 0;
    const char *text = acme_jws_payload(token->jws, &len);
    enum hsm_status st = acme_json_parse(text, len, &token->payload, why);

    if (st == HSM_OK)
        st = acme_json_integer(token->payload, "exp", &token->exp, why);
    if (st == HSM_OK && json_object_get(token->payload, "nbf") != NULL)
        st = acme_json_integer(token->payload, "nbf", &token->nbf, why);
    if (st == HSM_OK)
        st = acme_json_string(token->payload, "jti", &token->jti, why);
    if (st == HSM_OK)
        st = acme_json_string_optional(token->payload, "iss", &token->iss, why);
    if (st != HSM_OK)
        return st;
    if (token->jti[0] == '\0' || strlen(token->jti) > JTI_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "jti: not 1 to %d octets", JTI_MAX);
    return read_atc(token, why);
}

enum hsm_status
acme_authority_token_parse(const char *text, struct acme_authority_token **out,
                           struct hsm_reason *why)
{
    DEFER(acme_authority_token_free) struct acme_authority_token *token = NULL;
    size_t len = strnlen(text, ACME_AUTHORITY_TOKEN_MAX + 1);
    enum hsm_status st;

    if (len > ACME_AUTHORITY_TOKEN_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "SPC token: more than %d characters",
                          ACME_AUTHORITY_TOKEN_MAX);
    token = calloc(1, sizeof(*token));
    if (token == NULL)
        return HSM_ERR_NOMEM;
    st = acme_jws_parse_compact(text, len, &token->jws, why);
    if (st == HSM_OK)
        st = read_header(token, why);
    if (st == HSM_OK)
        st = read_claims(token, why);
    if (st != HSM_OK)
        return st;
    *out = token;
    token = NULL;
    return HSM_OK;
}

const char *
acme_authority_token_x5u(const struct acme_authority_token *token)
{
    return token->x5u;
}

const char *
acme_authority_token_jti(const struct acme_authority_token *token)
{
    return token->jti;
}

time_t
acme_authority_token_exp(const struct acme_authority_token *token)
{
    return (time_t)token->exp;
}

bool
acme_authority_token_ca(const struct acme_authority_token *token)
{
    return token->ca;
}

const char *
acme_authority_token_iss(const struct acme_authority_token *token)
{
    return token->iss;
}

const struct certs_chain *
acme_authority_token_x5c(const struct acme_authority_token *token)
{
    return token->x5c;
}

const struct certs_tnauthlist *
acme_authority_token_tnauthlist(const struct acme_authority_token *token)
{
    return token->tnauthlist;
}

const char *
acme_authority_token_fingerprint(const struct acme_authority_token *token)
{
    return token->fingerprint;
}

/* RFC 7519 sections 4.1.4 and 4.1.5. */
static enum hsm_status
check_times(const struct acme_authority_token *token, time_t now, struct hsm_reason *why)
{
    if (token->exp <= now)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "exp: the SPC token has expired");
    if (token->nbf > now + NBF_SKEW_S)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "nbf: the SPC token is not valid yet");
    return HSM_OK;
}

/* The path is judged from the first certificate, as certs_chain_verify() does. */
static enum hsm_status
verify(const struct acme_authority_token *token, const struct acme_authority_token_policy *policy,
       struct hsm_reason *why)
{
    const struct certs_trust trust = {.anchors = policy->pa_anchors,
                                      .until = policy->now + VERDICT_S};
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = HSM_OK;

    if (policy->verdicts != NULL)
        st =
            certs_verdicts_check(policy->verdicts, policy->signer, &trust, policy->now, &path, why);
    if (st != HSM_OK)
        return st;
    if (path == NULL || !certs_path_is_of(path, certs_chain_get(policy->signer, 0)))
        return acme_jws_verify_authority(token->jws, policy->signer, policy->pa_anchors,
                                         policy->now, why);
    return acme_jws_verify_by(token->jws, certs_path_verifier(path), why);
}

/* RFC 9448 section 6, in its order; steps 1 and 5 were done when parsing. */
enum hsm_status
acme_authority_token_check(const struct acme_authority_token *token,
                           const struct acme_authority_token_policy *policy, struct hsm_reason *why)
{
    enum hsm_status st = verify(token, policy, why);

    if (st != HSM_OK)
        return st;
    if (!certs_tnauthlist_equals(token->tnauthlist, policy->identifier))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "tkvalue: not the TNAuthList of the identifier");
    st = check_times(token, policy->now, why);
    if (st != HSM_OK)
        return st;
    if (!acme_fingerprint_matches(token->fingerprint, policy->account_key))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "fingerprint: not that of the account's key");
    return HSM_OK;
}

void
acme_authority_token_free(struct acme_authority_token *token)
{
    if (token == NULL)
        return;
    certs_tnauthlist_free(token->tnauthlist);
    certs_chain_free(token->x5c);
    json_decref(token->payload);
    acme_jws_free(token->jws);
    free(token);
}
