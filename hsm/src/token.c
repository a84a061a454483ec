/* token.c - open, describe and initialise PKCS#11 tokens. */
#include <hsm/token.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/uri.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "connection_internal.h"
#include "journal_internal.h"
#include "key_internal.h"
#include "module_internal.h"
#include "padded_internal.h"
#include "token_internal.h"
#include "uri_internal.h"

#define RANDOM_TRIES   3 /* when the token is lost meanwhile */
#define MODULE_WAIT_MS 10000 /* for a restart of the module to end */

/* A token that a URI matches, and its slot. */
struct candidate {
    CK_SLOT_ID id;
    CK_TOKEN_INFO token;
};

/* free() for another type: a DEFER is typed. */
static void
release_ids(CK_SLOT_ID *ids)
{
    free(ids);
}

static void
release_candidates(struct candidate *candidates)
{
    free(candidates);
}

DEFINE_DEFER(CK_SLOT_ID, release_ids)
DEFINE_DEFER(struct candidate, release_candidates)

enum hsm_status
hsm_token_check(const struct hsm_token *token)
{
    if (token->generation == hsm_fork_generation())
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "token %s: opened before fork(), not usable after it",
            token->info.label);
    return HSM_ERR_USAGE;
}

enum hsm_status
hsm_token_admin_enter(struct hsm_token *token, enum hsm_turn turn)
{
    enum hsm_status st = hsm_token_check(token);

    return st == HSM_OK ? hsm_slot_admin_enter(token->slot, turn) : st;
}

bool
hsm_token_admin_leave(struct hsm_token *token, enum hsm_status status)
{
    return hsm_slot_admin_leave(token->slot, status);
}

static void
format_version(CK_VERSION version, char *out, size_t size)
{
    snprintf(out, size, "%u.%u", version.major, version.minor);
}

static bool
has_mechanism(const struct hsm_module *module, CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_FLAGS flag)
{
    CK_MECHANISM_INFO info;

    return hsm_module_functions(module)->C_GetMechanismInfo(id, type, &info) == CKR_OK &&
           (info.flags & flag) != 0;
}

static void
describe(const struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *raw,
         struct hsm_token_info *out)
{
    const CK_INFO *library = hsm_module_info(module);

    memset(out, 0, sizeof(*out));
    hsm_unpad(raw->label, sizeof(raw->label), out->label);
    hsm_unpad(raw->manufacturerID, sizeof(raw->manufacturerID), out->manufacturer);
    hsm_unpad(raw->model, sizeof(raw->model), out->model);
    hsm_unpad(raw->serialNumber, sizeof(raw->serialNumber), out->serial);
    hsm_unpad(library->libraryDescription, sizeof(library->libraryDescription), out->module);
    format_version(library->libraryVersion, out->module_version, sizeof(out->module_version));
    format_version(raw->hardwareVersion, out->hardware_version, sizeof(out->hardware_version));
    format_version(raw->firmwareVersion, out->firmware_version, sizeof(out->firmware_version));
    if (raw->ulMaxSessionCount != CK_UNAVAILABLE_INFORMATION)
        out->max_sessions = raw->ulMaxSessionCount;
    out->has_ec_key_pair_gen =
        has_mechanism(module, id, CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR);
    out->has_ecdsa = has_mechanism(module, id, CKM_ECDSA, CKF_SIGN);
    out->has_rng = (raw->flags & CKF_RNG) != 0;
    out->user_pin_low = (raw->flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY)) != 0;
}

static enum hsm_status
list_slots(const struct hsm_module *module, CK_SLOT_ID **out, CK_ULONG *count)
{
    CK_RV rv = hsm_module_slots(module, out, count);

    return rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "C_GetSlotList");
}

/* RFC 7512 section 2.5: an attribute that is absent matches anything. */
static bool
slot_matches(const struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
             const struct hsm_uri *uri)
{
    P11KitUri *p11 = hsm_uri_p11(uri);
    CK_SLOT_ID named = p11_kit_uri_get_slot_id(p11);
    CK_SLOT_INFO slot;

    if (hsm_uri_matches_nothing(uri) || (named != (CK_SLOT_ID)-1 && named != id))
        return false;
    if (p11_kit_uri_match_module_info(p11, hsm_module_info(module)) != 1)
        return false;
    if (hsm_module_functions(module)->C_GetSlotInfo(id, &slot) != CKR_OK)
        return false;
    return p11_kit_uri_match_slot_info(p11, &slot) == 1 &&
           p11_kit_uri_match_token_info(p11, token) == 1;
}

/* Initialised tokens that match; *out has room for every slot and is released with free(). */
static enum hsm_status
match_tokens(const struct hsm_module *module, const struct hsm_uri *uri, struct candidate **out,
             size_t *count)
{
    DEFER(release_ids) CK_SLOT_ID *ids = NULL;
    struct candidate *found;
    CK_ULONG slots = 0;
    size_t n = 0;
    enum hsm_status st = list_slots(module, &ids, &slots);

    if (st != HSM_OK)
        return st;
    found = calloc(slots + 1, sizeof(*found));
    if (found == NULL)
        return HSM_ERR_NOMEM;
    for (CK_ULONG i = 0; i < slots; i++) {
        CK_TOKEN_INFO *token = &found[n].token;

        found[n].id = ids[i];
        if (hsm_module_functions(module)->C_GetTokenInfo(ids[i], token) == CKR_OK &&
            (token->flags & CKF_TOKEN_INITIALIZED) != 0 && slot_matches(module, ids[i], token, uri))
            n++;
    }
    *out = found;
    *count = n;
    return HSM_OK;
}

/* True: a token that seems absent may be one that another process is rewriting. */
static bool
shares_files(const struct hsm_module *module)
{
    DEFER(release_ids) CK_SLOT_ID *ids = NULL;
    CK_ULONG count = 0;
    CK_RV rv = hsm_module_slots(module, &ids, &count);
    bool shared = false;

    for (CK_ULONG i = 0; rv == CKR_OK && i < count && !shared; i++) {
        struct hsm_quirks quirks;
        CK_SLOT_INFO slot;

        if (hsm_module_functions(module)->C_GetSlotInfo(ids[i], &slot) != CKR_OK)
            continue;
        hsm_quirks_of(hsm_module_info(module), slot.manufacturerID, &quirks);
        shared = quirks.shared_files;
    }
    return shared;
}

static enum hsm_status
choose_token(const struct hsm_module *module, const struct hsm_uri *uri, struct candidate *out)
{
    DEFER(release_candidates) struct candidate *found = NULL;
    size_t count = 0;
    enum hsm_status st = match_tokens(module, uri, &found, &count);

    if (st != HSM_OK)
        return st;
    if (count != 1)
        return count == 0 ? HSM_ERR_NOT_FOUND : HSM_ERR_AMBIGUOUS;
    *out = found[0];
    return HSM_OK;
}

static bool
names_a_token(const struct hsm_uri *uri)
{
    static const char *const names[] = {"token", "serial", "manufacturer", "model"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (hsm_uri_get(uri, names[i]) != NULL)
            return true;
    }
    return false;
}

static enum hsm_status
parse_token_uri(const char *text, struct hsm_uri **out)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st = hsm_uri_parse(text, &uri, &why);

    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
        return st;
    }
    if (hsm_uri_get(uri, "pin-value") != NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 URI: pin-value is refused: name a pin-source");
        return HSM_ERR_USAGE;
    }
    *out = uri;
    uri = NULL;
    return HSM_OK;
}

/* The pin-source of RFC 7512 is a URI, or "|" and a command, which is not run here. */
static enum hsm_status
pin_from_uri(const struct hsm_uri *uri, struct hsm_secret **out)
{
    const char *source = hsm_uri_get(uri, "pin-source");

    if (source == NULL) {
        hsm_log(HSM_LOG_ERROR, "no PIN: neither given nor named by pin-source in the URI");
        return HSM_ERR_USAGE;
    }
    if (source[0] == '|') {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 URI: pin-source is a command: refused");
        return HSM_ERR_USAGE;
    }
    if (strncmp(source, "file:///", 8) == 0)
        source += strlen("file://");
    return hsm_secret_from(source, "PIN: ", out);
}

static enum hsm_status
module_path(const struct hsm_uri *uri, const char *given, const char **out)
{
    const char *path = given != NULL ? given : hsm_uri_get(uri, "module-path");

    if (path == NULL) {
        hsm_log(HSM_LOG_ERROR, "no PKCS#11 module: neither given nor named by module-path");
        return HSM_ERR_USAGE;
    }
    *out = path;
    return HSM_OK;
}

/* Checked before a PIN is presented. */
static enum hsm_status
check_usable(const struct hsm_token *token)
{
    if (!token->info.has_ecdsa) {
        hsm_log(HSM_LOG_ERROR, "token %s: no CKM_ECDSA", token->info.label);
        return HSM_ERR_UNSUPPORTED;
    }
    if ((token->raw.flags & CKF_USER_PIN_LOCKED) != 0) {
        hsm_log(HSM_LOG_ERROR, "token %s: the PIN is locked", token->info.label);
        return HSM_ERR_DENIED;
    }
    if ((token->raw.flags & CKF_USER_PIN_FINAL_TRY) != 0) {
        hsm_log(HSM_LOG_ERROR, "token %s: one wrong PIN from being locked: log in by hand first",
                token->info.label);
        return HSM_ERR_DENIED;
    }
    return HSM_OK;
}

/* Find the token that the URI names; it is not logged in to yet. Out of turn its files may be half
 * written: open_on() then tries again. */
static enum hsm_status
choose_on_module(struct hsm_module *module, const struct hsm_uri *uri, bool in_turn,
                 struct hsm_token *token, CK_SLOT_ID *id)
{
    struct candidate chosen;
    enum hsm_status st;

    if (!hsm_module_enter(module, hsm_deadline_after(MODULE_WAIT_MS)))
        return HSM_ERR_BUSY;
    st = choose_token(module, uri, &chosen);
    if (st == HSM_OK) {
        describe(module, chosen.id, &chosen.token, &token->info);
        token->raw = chosen.token;
        *id = chosen.id;
    }
    token->shares_files = shares_files(module);
    hsm_module_leave(module);
    if ((st == HSM_ERR_NOT_FOUND && (in_turn || !token->shares_files)) || st == HSM_ERR_AMBIGUOUS)
        hsm_log(HSM_LOG_ERROR, "%s: %s token in %s matches",
                hsm_uri_get(uri, "token") != NULL ? hsm_uri_get(uri, "token") : "PKCS#11 URI",
                st == HSM_ERR_NOT_FOUND ? "no" : "more than one", hsm_module_path(module));
    return st;
}

/* The key that signs the journal's checkpoints is on the token that the journal is about. */
static enum hsm_status
give_journal_its_key(struct hsm_token *token)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    struct hsm_journal *journal = token->slot->journal;
    enum hsm_status st;

    if (journal == NULL || hsm_journal_has_signer(journal))
        return HSM_OK;
    st = hsm_key_find_or_generate(token, hsm_journal_key_label(journal), &key);
    return st == HSM_OK ? hsm_journal_sign_with(journal, hsm_key_signer(key)) : st;
}

/* Under the module's lock. The module reads its files when it is started. */
static enum hsm_status
start_and_choose(const char *path, const struct hsm_uri *uri, bool in_turn, struct hsm_token *token,
                 CK_SLOT_ID *id)
{
    int turn = in_turn || hsm_host_place_is_set() ? hsm_host_lock(path, HSM_TURN_READ) : -1;
    enum hsm_status st = hsm_module_start(token->module);

    if (st == HSM_OK)
        st = choose_on_module(token->module, uri, in_turn, token, id);
    hsm_host_unlock(turn);
    return st;
}

static enum hsm_status
open_once(const char *path, const struct hsm_uri *uri, bool in_turn,
          const struct hsm_token_config *config, const struct hsm_secret *pin,
          struct hsm_token *token)
{
    CK_SLOT_ID id = 0;
    enum hsm_status st = hsm_module_find(path, &token->module);

    if (st != HSM_OK)
        return st;
    st = start_and_choose(path, uri, in_turn, token, &id);
    if (st == HSM_OK)
        st = check_usable(token);
    if (st == HSM_OK)
        st = hsm_slot_open(token->module, id, &token->raw, config, pin, &token->slot);
    if (st == HSM_OK)
        hsm_module_unlock(token->module);
    else
        hsm_module_release(token->module);
    return st;
}

/* Another process may have been rewriting the files that were read; a PIN that was refused is not
 * presented again. */
static bool
is_worth_another_look(const struct hsm_token *token, enum hsm_status status)
{
    return token->shares_files &&
           (status == HSM_ERR_NOT_FOUND || status == HSM_ERR_BUSY || status == HSM_ERR_DENIED) &&
           !hsm_latch_is_set(&token->raw);
}

static enum hsm_status
open_on(const char *path, const struct hsm_uri *uri, const struct hsm_token_config *config,
        const struct hsm_secret *pin, struct hsm_token **out)
{
    DEFER(free) struct hsm_token *token = calloc(1, sizeof(*token));
    enum hsm_status st;

    if (token == NULL)
        return HSM_ERR_NOMEM;
    st = open_once(path, uri, false, config, pin, token);
    if (is_worth_another_look(token, st)) {
        st = open_once(path, uri, true, config, pin, token);
        if (st == HSM_OK)
            hsm_log(HSM_LOG_INFO, "token %s: retried, another process was rewriting the token file",
                    token->info.label);
    }
    if (st != HSM_OK)
        return st;
    token->generation = hsm_fork_generation();
    *out = token;
    token = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_token_open(const struct hsm_token_config *config, struct hsm_token **out)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *own_pin = NULL;
    struct hsm_token *token = NULL;
    const char *path = NULL;
    enum hsm_status st = parse_token_uri(config->uri, &uri);

    if (st == HSM_OK && !names_a_token(uri) && hsm_uri_get(uri, "slot-id") != NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 URI: slot numbers change: name the token too");
        st = HSM_ERR_USAGE;
    }
    if (st == HSM_OK)
        st = module_path(uri, config->module, &path);
    if (st == HSM_OK && config->pin == NULL)
        st = pin_from_uri(uri, &own_pin);
    if (st != HSM_OK)
        return st;
    st = open_on(path, uri, config, config->pin != NULL ? config->pin : own_pin, &token);
    if (st == HSM_OK)
        st = give_journal_its_key(token);
    if (st != HSM_OK) {
        hsm_token_close(token);
        return st;
    }
    *out = token;
    return HSM_OK;
}

static void
close_on_module(const struct hsm_token *token)
{
    hsm_module_lock(token->module);
    if (hsm_slot_close(token->slot))
        hsm_module_release(token->module);
    else
        hsm_module_unlock(token->module);
}

/* In the child of a fork() the module is the parent's: it is not called. */
void
hsm_token_close(struct hsm_token *token)
{
    if (token == NULL)
        return;
    if (token->generation == hsm_fork_generation())
        close_on_module(token);
    free(token);
}

void
hsm_token_info(const struct hsm_token *token, struct hsm_token_info *out)
{
    *out = token->info;
}

bool
hsm_token_is_ready(const struct hsm_token *token)
{
    return token->generation == hsm_fork_generation() &&
           hsm_connections_service(token->slot) == HSM_OK;
}

static void
add_counters(const struct hsm_counters *from, struct hsm_token_stats *to)
{
    to->signatures += from->signatures;
    to->failures += from->failures;
    to->timeouts += from->timeouts;
    to->retries += from->retries;
    to->throttled += from->throttled;
    to->verified += from->verified;
    to->wrong_signatures += from->wrong_signatures;
    to->sessions_dropped += from->sessions_dropped;
    to->losses += from->losses;
    to->recoveries += from->recoveries;
    to->attempts += from->attempts;
    to->restarts += from->restarts;
    to->logins += from->logins;
    to->stuck += from->stuck;
}

static void
add_connection(struct hsm_slot *slot, struct hsm_token_stats *to)
{
    add_counters(&slot->counters, to);
    to->stuck_now += slot->stuck_now + (hsm_slot_is_stuck_inside(slot) ? 1 : 0);
    to->workers += slot->settings.workers;
    pthread_mutex_lock(&slot->pool.lock);
    to->sessions += slot->pool.count;
    to->sessions_usable += slot->pool.usable;
    to->in_flight += slot->pool.out;
    to->waiting += slot->pool.waiting;
    to->waits += slot->pool.waits;
    to->waited_ns += (uint64_t)slot->pool.waited_ns;
    to->connections++;
    to->connections_served += slot->pool.service == HSM_OK ? 1 : 0;
    pthread_mutex_unlock(&slot->pool.lock);
}

void
hsm_token_stats(const struct hsm_token *token, struct hsm_token_stats *out)
{
    struct hsm_slot *slot = token->slot;

    memset(out, 0, sizeof(*out));
    out->service = HSM_ERR_USAGE;
    if (token->generation != hsm_fork_generation())
        return; /* in the child of a fork() the parent may hold the lock */
    add_connection(slot, out);
    for (unsigned i = 0; i < slot->further_count; i++)
        add_connection(slot->further[i], out);
    out->service = hsm_connections_service(slot);
}

static enum hsm_status
start_in_turn(const char *path, struct hsm_module *module, int *turn)
{
    *turn = hsm_host_lock(path, HSM_TURN_WRITE);
    return hsm_module_start(module);
}

/* For listings of all tokens: where processes take turns, the module is started again in this
 * process's turn. Call close_in_turn() whatever it returns. */
static enum hsm_status
open_in_turn(const char *path, struct hsm_module **out, int *turn)
{
    enum hsm_status st = hsm_module_find(path, out);
    bool shared;

    if (st != HSM_OK)
        return st;
    if (hsm_host_place_is_set())
        return start_in_turn(path, *out, turn);
    st = hsm_module_start(*out);
    if (st != HSM_OK)
        return st;
    if (!hsm_module_enter(*out, hsm_deadline_after(MODULE_WAIT_MS)))
        return HSM_ERR_BUSY;
    shared = shares_files(*out);
    hsm_module_leave(*out);
    if (!shared)
        return HSM_OK;
    hsm_module_release(*out);
    *out = NULL;
    st = hsm_module_find(path, out);
    return st == HSM_OK ? start_in_turn(path, *out, turn) : st;
}

static void
close_in_turn(struct hsm_module *module, int turn)
{
    if (module != NULL)
        hsm_module_release(module);
    hsm_host_unlock(turn);
}

static enum hsm_status
describe_all(const struct hsm_module *module, const struct hsm_uri *uri,
             struct hsm_token_info **out, size_t *count)
{
    DEFER(release_candidates) struct candidate *found = NULL;
    struct hsm_token_info *infos;
    size_t n = 0;
    enum hsm_status st = match_tokens(module, uri, &found, &n);

    if (st != HSM_OK)
        return st;
    infos = calloc(n + 1, sizeof(*infos));
    if (infos == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        describe(module, found[i].id, &found[i].token, &infos[i]);
    *out = infos;
    *count = n;
    return HSM_OK;
}

enum hsm_status
hsm_token_list(const char *text, const char *given_module, struct hsm_token_info **out,
               size_t *count)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_module *module = NULL;
    const char *path = NULL;
    enum hsm_status st = parse_token_uri(text != NULL ? text : "pkcs11:", &uri);
    int turn = -1;

    if (st == HSM_OK)
        st = module_path(uri, given_module, &path);
    if (st != HSM_OK)
        return st;
    st = open_in_turn(path, &module, &turn);
    if (st == HSM_OK) {
        st = HSM_ERR_BUSY;
        if (hsm_module_enter(module, hsm_deadline_after(MODULE_WAIT_MS))) {
            st = describe_all(module, uri, out, count);
            hsm_module_leave(module);
        }
    }
    close_in_turn(module, turn);
    return st;
}

enum hsm_status
hsm_token_random(struct hsm_token *token, void *out, size_t len)
{
    bool again = true;
    enum hsm_status st = HSM_ERR_BUSY;

    for (int tries = 0; again && tries < RANDOM_TRIES; tries++) {
        CK_RV rv;

        st = hsm_token_admin_enter(token, HSM_TURN_READ);
        if (st != HSM_OK)
            return st;
        rv = hsm_module_functions(token->module)->C_GenerateRandom(token->slot->control, out, len);
        st = rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "C_GenerateRandom");
        again = hsm_token_admin_leave(token, st);
    }
    return st;
}

/* The first slot without an initialised token; EXISTS if any token has that label. */
static enum hsm_status
choose_fresh_slot(const struct hsm_module *module, const char *label, CK_SLOT_ID *out)
{
    DEFER(release_ids) CK_SLOT_ID *ids = NULL;
    CK_ULONG count = 0;
    bool found = false;
    enum hsm_status st = list_slots(module, &ids, &count);

    for (CK_ULONG i = 0; st == HSM_OK && i < count; i++) {
        CK_TOKEN_INFO info;
        char present[sizeof(info.label) + 1];

        if (hsm_module_functions(module)->C_GetTokenInfo(ids[i], &info) != CKR_OK)
            continue;
        hsm_unpad(info.label, sizeof(info.label), present);
        if ((info.flags & CKF_TOKEN_INITIALIZED) == 0) {
            *out = found ? *out : ids[i];
            found = true;
        } else if (strcmp(present, label) == 0) {
            hsm_log(HSM_LOG_ERROR, "token %s: exists already", label);
            return HSM_ERR_EXISTS;
        }
    }
    if (st == HSM_OK && !found) {
        hsm_log(HSM_LOG_ERROR, "%s: no slot without an initialised token", hsm_module_path(module));
        return HSM_ERR_NOT_FOUND;
    }
    return st;
}

/* As security officer, in a session of its own. */
static CK_RV
init_user_pin(const CK_FUNCTION_LIST *functions, CK_SLOT_ID id, const struct hsm_secret *so_pin,
              const struct hsm_secret *user_pin)
{
    CK_SESSION_HANDLE session;
    CK_RV rv =
        functions->C_OpenSession(id, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);

    if (rv != CKR_OK)
        return rv;
    rv = functions->C_Login(session, CKU_SO, (CK_UTF8CHAR *)hsm_secret_octets(so_pin),
                            hsm_secret_len(so_pin));
    if (rv == CKR_OK) {
        rv = functions->C_InitPIN(session, (CK_UTF8CHAR *)hsm_secret_octets(user_pin),
                                  hsm_secret_len(user_pin));
        (void)functions->C_Logout(session);
    }
    (void)functions->C_CloseSession(session);
    return rv;
}

static enum hsm_status
init_on_module(const struct hsm_module *module, const char *label, const struct hsm_secret *so_pin,
               const struct hsm_secret *user_pin)
{
    const CK_FUNCTION_LIST *functions = hsm_module_functions(module);
    CK_UTF8CHAR padded[32 + 1] = {0}; /* p11-kit's client reads on until a NUL */
    CK_SLOT_ID id = 0;
    CK_RV rv;
    enum hsm_status st = choose_fresh_slot(module, label, &id);

    if (st != HSM_OK)
        return st;
    memset(padded, ' ', sizeof(padded) - 1);
    memcpy(padded, label, strlen(label));
    rv = functions->C_InitToken(id, (CK_UTF8CHAR *)hsm_secret_octets(so_pin),
                                hsm_secret_len(so_pin), padded);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_InitToken");
    rv = init_user_pin(functions, id, so_pin, user_pin);
    return rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "the token is initialised but has no user PIN");
}

enum hsm_status
hsm_token_init(const char *path, const char *label, const struct hsm_secret *so_pin,
               const struct hsm_secret *user_pin)
{
    struct hsm_module *module = NULL;
    size_t len = strlen(label);
    enum hsm_status st;
    int turn = -1;

    if (len == 0 || len > sizeof(((CK_TOKEN_INFO *)NULL)->label)) {
        hsm_log(HSM_LOG_ERROR, "a token's label has 1 to 32 octets");
        return HSM_ERR_USAGE;
    }
    st = open_in_turn(path, &module, &turn);
    if (st == HSM_OK) {
        st = HSM_ERR_BUSY;
        if (hsm_module_enter(module, hsm_deadline_after(MODULE_WAIT_MS))) {
            st = init_on_module(module, label, so_pin, user_pin);
            hsm_module_leave(module);
        }
    }
    close_in_turn(module, turn);
    return st;
}
