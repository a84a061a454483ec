/* kms_show.c - sti-kms status and ca list, as text for a person and as JSON. */
#include "kms_commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>

/* ---- status ---- */

/** Everything that status shows. */
struct state {
    const struct arguments *arguments;
    const struct sks_sp_config *config;
    time_t now;
    struct sks_catalogue *catalogue;
    struct sks_credential *credentials;
    size_t credential_count;
    struct sks_watched *watched;
    size_t watched_count;
    struct sks_trouble *troubles;
    size_t trouble_count;
};

static void
state_clear(struct state *state)
{
    sks_credentials_free(state->credentials, state->credential_count);
    sks_troubles_free(state->troubles, state->trouble_count);
    free(state->watched);
    sks_catalogue_close(state->catalogue);
}

static enum hsm_status
read_state(const struct sks_sp_config *config, struct state *state)
{
    CLEAR_AFTER(sks_sp_verification_close) struct sks_sp_verification verification = {.http = NULL};
    enum hsm_status st = sks_catalogue_open(config->catalogue, &state->catalogue);

    if (st == HSM_OK)
        st = sks_sp_verification_open(config, &verification);
    if (st == HSM_OK)
        st = sks_catalogue_list(state->catalogue, state->arguments->spc, &state->credentials,
                                &state->credential_count);
    if (st == HSM_OK)
        st = sks_catalogue_troubles(state->catalogue, &state->troubles, &state->trouble_count);
    if (st == HSM_OK)
        st = sks_kms_watched(config, state->catalogue, verification.trust, state->now,
                             &state->watched, &state->watched_count);
    return st;
}

/* When to renew an active credential; 0: not decided yet, or the credential is not active. */
static time_t
due_of(const struct state *state, const struct sks_credential *credential,
       struct sks_renewal *renewal)
{
    *renewal = (struct sks_renewal){.due = 0};
    if (credential->state == SKS_ACTIVE &&
        sks_catalogue_renewal(state->catalogue, credential->id, renewal) != HSM_OK)
        renewal->due = 0;
    return renewal->due;
}

static void
print_credential(const struct state *state, const struct sks_credential *credential)
{
    struct sks_renewal renewal;
    char until[HSM_TIME_LEN + 1], due[HSM_TIME_LEN + 1];

    kms_format_time(credential->not_after, until);
    kms_format_time(due_of(state, credential, &renewal), due);
    printf("%-4lld %-10s %-6s %-21s %-21s %s\n", (long long)credential->id,
           sks_state_text(credential->state), credential->spc, until, due,
           credential->x5u != NULL ? credential->x5u : "-");
    printf("     %s %s\n", credential->token_uri, credential->key_uri);
}

/** Summary of a provider. */
struct standing {
    size_t active;
    time_t signs_until; /* the latest notAfter of active credentials; 0: none is active */
    size_t troubles;
};

static struct standing
standing_of(const struct state *state, const char *spc)
{
    struct standing standing = {.active = 0};

    for (size_t i = 0; i < state->credential_count; i++) {
        const struct sks_credential *one = &state->credentials[i];

        if (one->state != SKS_ACTIVE || strcmp(one->spc, spc) != 0)
            continue;
        standing.active++;
        if (one->not_after > standing.signs_until)
            standing.signs_until = one->not_after;
    }
    for (size_t i = 0; i < state->trouble_count; i++)
        standing.troubles += strcmp(state->troubles[i].spc, spc) == 0;
    return standing;
}

static const char *
name_of(const struct sks_sp_provider *provider)
{
    return provider->name != NULL ? provider->name : "[sp]";
}

static void
print_providers(const struct state *state)
{
    char until[HSM_TIME_LEN + 1];

    printf("%-6s %-6s %-21s %-8s %s\n", "SPC", "ACTIVE", "SIGNS UNTIL", "TROUBLES", "PROVIDER");
    for (size_t i = 0; i < state->config->provider_count; i++) {
        const struct sks_sp_provider *one = &state->config->providers[i];
        const struct standing standing = standing_of(state, one->spc);

        if (!kms_is_meant(state->arguments, one->spc))
            continue;
        kms_format_time(standing.signs_until, until);
        printf("%-6s %-6zu %-21s %-8zu %s\n", one->spc, standing.active, until, standing.troubles,
               name_of(one));
    }
    printf("\n");
}

/* True for a trouble of no particular provider, or of a provider that --spc selects. */
static bool
is_trouble_meant(const struct state *state, const struct sks_trouble *trouble)
{
    return *trouble->spc == '\0' || kms_is_meant(state->arguments, trouble->spc);
}

static void
print_trouble(const struct sks_trouble *trouble)
{
    char since[HSM_TIME_LEN + 1], last[HSM_TIME_LEN + 1];

    kms_format_time(trouble->since, since);
    kms_format_time(trouble->last, last);
    printf("\ntrouble since %s, %lld times, last %s\n  %s%s%s%s: %s\n", since,
           (long long)trouble->count, last, *trouble->spc != '\0' ? "SPC " : "", trouble->spc,
           *trouble->spc != '\0' ? ", " : "", trouble->matter, trouble->text);
}

static void
print_state(const struct state *state)
{
    char when[HSM_TIME_LEN + 1];

    print_providers(state);
    printf("%-4s %-10s %-6s %-21s %-21s %s\n", "ID", "STATE", "SPC", "UNTIL", "RENEW", "X5U, KEY");
    for (size_t i = 0; i < state->credential_count; i++)
        print_credential(state, &state->credentials[i]);
    printf("\n%-8s %-21s %s\n", "ALARM", "ENDS", "WHAT");
    for (size_t i = 0; i < state->watched_count; i++) {
        const struct sks_watched *one = &state->watched[i];

        kms_format_time(one->ends, when);
        printf("%-8s %-21s %s\n", sks_alarm_text(sks_alarm_at(one->due, one->ends, state->now)),
               when, one->what);
    }
    for (size_t i = 0; i < state->trouble_count; i++)
        if (is_trouble_meant(state, &state->troubles[i]))
            print_trouble(&state->troubles[i]);
}

/* A time as JSON; null for 0. */
static json_t *
json_time(time_t time)
{
    char text[HSM_TIME_LEN + 1];

    kms_format_time(time, text);
    return time != 0 ? json_string(text) : json_null();
}

static json_t *
credential_json(const struct state *state, const struct sks_credential *credential)
{
    struct sks_renewal renewal;
    time_t due = due_of(state, credential, &renewal);

    return json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "id",
        (json_int_t)credential->id, "state", sks_state_text(credential->state), "spc",
        credential->spc, "token", credential->token_uri, "key", credential->key_uri, "caDirectory",
        credential->ca_directory, "orderUrl", credential->order_url, "x5u", credential->x5u,
        "notBefore", json_time(credential->not_before), "notAfter",
        json_time(credential->not_after), "changedAt", json_time(credential->changed_at), "renewAt",
        json_time(due), "windowStart", json_time(renewal.start), "windowEnd",
        json_time(renewal.end), "replaces", (json_int_t)credential->replaces);
}

static json_t *
watched_json(const struct state *state, const struct sks_watched *one)
{
    return json_pack("{s:s, s:s, s:o, s:o}", "what", one->what, "alarm",
                     sks_alarm_text(sks_alarm_at(one->due, one->ends, state->now)), "due",
                     json_time(one->due), "ends", json_time(one->ends));
}

static json_t *
trouble_json(const struct sks_trouble *one)
{
    return json_pack("{s:s?, s:s, s:s, s:o, s:o, s:I}", "spc", *one->spc != '\0' ? one->spc : NULL,
                     "matter", one->matter, "text", one->text, "since", json_time(one->since),
                     "last", json_time(one->last), "count", (json_int_t)one->count);
}

static json_t *
provider_json(const struct state *state, const struct sks_sp_provider *provider)
{
    const struct standing standing = standing_of(state, provider->spc);

    return json_pack("{s:s, s:s?, s:I, s:o, s:I}", "spc", provider->spc, "name", provider->name,
                     "active", (json_int_t)standing.active, "signsUntil",
                     json_time(standing.signs_until), "troubles", (json_int_t)standing.troubles);
}

static enum hsm_status
print_state_json(const struct state *state)
{
    json_t *credentials = json_array(), *watched = json_array(), *troubles = json_array();
    json_t *providers = json_array();
    json_t *all;
    int rc = 0;

    for (size_t i = 0; i < state->config->provider_count; i++)
        if (kms_is_meant(state->arguments, state->config->providers[i].spc))
            rc |= json_array_append_new(providers,
                                        provider_json(state, &state->config->providers[i]));
    for (size_t i = 0; i < state->credential_count; i++)
        rc |= json_array_append_new(credentials, credential_json(state, &state->credentials[i]));
    for (size_t i = 0; i < state->watched_count; i++)
        rc |= json_array_append_new(watched, watched_json(state, &state->watched[i]));
    for (size_t i = 0; i < state->trouble_count; i++)
        if (is_trouble_meant(state, &state->troubles[i]))
            rc |= json_array_append_new(troubles, trouble_json(&state->troubles[i]));
    all = json_pack("{s:s?, s:o, s:o, s:o, s:o}", "spc", state->config->spc, "providers", providers,
                    "credentials", credentials, "watched", watched, "troubles", troubles);
    if (rc == 0 && all != NULL)
        rc = json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
    rc = all == NULL ? -1 : rc;
    json_decref(all);
    return rc == 0 ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
kms_run_status(const struct arguments *arguments)
{
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    CLEAR_AFTER(state_clear)
    struct state state = {.arguments = arguments, .config = &config, .now = time(NULL)};
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st == HSM_OK)
        st = read_state(&config, &state);
    if (st != HSM_OK)
        return st;
    if (arguments->json)
        return print_state_json(&state);
    print_state(&state);
    return HSM_OK;
}

/* ---- ca list ---- */

/** What `ca list` reads to describe the STI-CAs. */
struct choice {
    const struct arguments *arguments;
    const struct sks_sp_config *config;
    struct certs_chain *roots;
    struct sks_trust *trust;
    struct sks_credential *credentials;
    size_t credential_count;
};

static bool
is_same(const X509 *a, const X509 *b)
{
    uint8_t x[32], y[32];

    return certs_cert_sha256(a, x) == HSM_OK && certs_cert_sha256(b, y) == HSM_OK &&
           memcmp(x, y, sizeof(x)) == 0;
}

/* Whether the path of a credential's chain ends in this root. */
static bool
ends_in(const struct choice *choice, const struct sks_credential *credential, const X509 *root)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(certs_path_free) struct certs_path *path = NULL;

    return credential->chain_pem != NULL && credential->ca_directory != NULL &&
           certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                                 CERTS_CHAIN_LEN_MAX, &chain, NULL) == HSM_OK &&
           sks_trust_path(choice->trust, chain, time(NULL), &path, NULL) == HSM_OK &&
           is_same(certs_path_get(path, certs_path_len(path) - 1), root);
}

/* The directory of the STI-CA below a root: by the root's name in the configuration, else from the
 * newest credential whose path ends in the root; NULL: unknown. */
static const char *
directory_below(const struct choice *choice, const X509 *root)
{
    DEFER(free) char *organization = certs_cert_organization(root);

    for (size_t i = 0; organization != NULL && i < sks_sp_ca_count(choice->config); i++)
        if (choice->config->cas[i].name != NULL &&
            strcmp(choice->config->cas[i].name, organization) == 0)
            return choice->config->cas[i].directory;
    for (size_t i = choice->credential_count; i-- > 0;)
        if (ends_in(choice, &choice->credentials[i], root))
            return choice->credentials[i].ca_directory;
    return NULL;
}

static bool
is_served_by(const struct sks_sp_config *config, const struct sks_sp_provider *provider,
             const char *directory)
{
    for (size_t i = 0; i < provider->ca_count; i++)
        if (strcmp(config->cas[provider->cas[i]].directory, directory) == 0)
            return true;
    return false;
}

/* The SPCs of the selected providers that are configured to use this STI-CA. */
static json_t *
users_json(const struct choice *choice, const char *directory)
{
    const struct sks_sp_config *config = choice->config;
    json_t *spcs = json_array();

    for (size_t i = 0; directory != NULL && i < config->provider_count; i++)
        if (kms_is_meant(choice->arguments, config->providers[i].spc) &&
            is_served_by(config, &config->providers[i], directory))
            json_array_append_new(spcs, json_string(config->providers[i].spc));
    return spcs;
}

static json_t *
root_json(const struct choice *choice, const X509 *root)
{
    DEFER(free) char *organization = certs_cert_organization(root);
    DEFER(free) char *subject = certs_cert_subject(root);
    const char *directory = directory_below(choice, root);
    uint8_t digest[32];
    char hex[65] = "";

    if (certs_cert_sha256(root, digest) == HSM_OK)
        for (size_t i = 0; i < sizeof(digest); i++)
            snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return json_pack("{s:s?, s:s?, s:s?, s:s, s:o, s:o, s:o}", "name", organization, "subject",
                     subject, "directory", directory, "sha256", hex, "notBefore",
                     json_time(certs_cert_not_before(root)), "notAfter",
                     json_time(certs_cert_not_after(root)), "spcs", users_json(choice, directory));
}

static void
print_root(const json_t *root)
{
    const char *directory = json_string_value(json_object_get(root, "directory"));
    const char *name = json_string_value(json_object_get(root, "name"));

    const json_t *spcs = json_object_get(root, "spcs");

    printf("%s\n  subject   %s\n  valid     %s to %s\n  sha256    %s\n  directory %s\n",
           name != NULL ? name : "(no organization)",
           json_string_value(json_object_get(root, "subject")),
           json_string_value(json_object_get(root, "notBefore")),
           json_string_value(json_object_get(root, "notAfter")),
           json_string_value(json_object_get(root, "sha256")),
           directory != NULL ? directory : "not in the configuration");
    for (size_t i = 0; i < json_array_size(spcs); i++)
        printf("%s%s", i == 0 ? "  for SPC   " : " ", json_string_value(json_array_get(spcs, i)));
    printf("%s", json_array_size(spcs) > 0 ? "\n" : "");
}

static enum hsm_status
print_choice(const struct choice *choice, bool as_json)
{
    json_t *list = json_array();
    int rc = 0;

    for (size_t i = 0; i < certs_chain_len(choice->roots); i++)
        rc |= json_array_append_new(list, root_json(choice, certs_chain_get(choice->roots, i)));
    if (rc == 0 && as_json) {
        rc = json_dumpf(list, stdout, JSON_INDENT(2));
        printf("\n");
    }
    for (size_t i = 0; rc == 0 && !as_json && i < json_array_size(list); i++)
        print_root(json_array_get(list, i));
    json_decref(list);
    return rc == 0 ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
kms_run_ca_list(const struct arguments *arguments)
{
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    CLEAR_AFTER(sks_sp_verification_close) struct sks_sp_verification verification = {.http = NULL};
    struct choice choice = {.arguments = arguments, .config = &config};
    struct hsm_reason why = {""};
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st == HSM_OK)
        st = sks_catalogue_open(config.catalogue, &catalogue);
    if (st == HSM_OK)
        st = sks_sp_verification_open(&config, &verification);
    if (st != HSM_OK)
        return st;
    if (sks_trust_refresh(verification.trust, time(NULL)) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "the list could not be fetched anew: as it was last");
    st = sks_trust_roots(verification.trust, time(NULL), &roots, &why);
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
        return st;
    }
    choice.roots = roots;
    choice.trust = verification.trust;
    st = sks_catalogue_list(catalogue, NULL, &choice.credentials, &choice.credential_count);
    if (st == HSM_OK)
        st = print_choice(&choice, arguments->json);
    sks_credentials_free(choice.credentials, choice.credential_count);
    return st;
}
