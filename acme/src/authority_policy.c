/* authority_policy.c - the governance authority's rules for service provider codes. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include <openssl/sha.h>

#include <acme/events.h>
#include <certs/tnauthlist.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "authority_internal.h"

#define FILE_MAX     4194304 /* octets of a policy file: tens of thousands of codes */
#define LIFETIME_MIN 60 /* seconds, as for token-lifetime-s in the configuration */
#define LIFETIME_MAX 31622400
#define LOADED       "policy loaded"
#define RETRY_NS     INT64_C(2000000000) /* after a file could not be read */

/** Identifies a version of the file; the file is reread when any of this changes. */
struct policy_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed, touched; /* contents; contents, owner or rights */
};

/** State of the file, and of the policy in force. */
enum policy_state {
    POLICY_IN_FORCE,
    POLICY_BAD, /* its contents are invalid: an operator has to correct them */
    POLICY_UNREAD, /* it could not be read, or the event could not be recorded: retried */
};

struct authority_policy {
    pthread_mutex_t lock;
    char *path;
    struct policy_stamp stamp; /* of the last version that was read */
    enum policy_state stamped; /* the result of reading it */
    enum policy_state state;
    struct policy_stamp tried; /* POLICY_UNREAD: of the version that could not be read */
    int64_t retry_ns; /* when to retry, on hsm_clock_ns() */
    json_t *rules; /* checked; of the last valid version */
};

/* ---- reading ---- */

static enum hsm_status
read_lifetime(const json_t *rule, int64_t *out, struct hsm_reason *why)
{
    enum hsm_status st;

    if (json_object_get(rule, "tokenLifetime") == NULL)
        return HSM_OK;
    st = acme_json_integer(rule, "tokenLifetime", out, why);
    if (st == HSM_OK && (*out < LIFETIME_MIN || *out > LIFETIME_MAX))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "tokenLifetime: not %d to %d seconds",
                          LIFETIME_MIN, LIFETIME_MAX);
    return st;
}

/* Members of `rule` replace those of *out. */
static enum hsm_status
read_rule(const json_t *rule, struct authority_rule *out, struct hsm_reason *why)
{
    const char *name;
    json_t *value;
    enum hsm_status st;

    json_object_foreach((json_t *)rule, name, value)
    {
        if (strcmp(name, "allowed") != 0 && strcmp(name, "ca") != 0 &&
            strcmp(name, "tokenLifetime") != 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "\"%s\" is no member of a rule", name);
    }
    st = acme_json_bool_optional(rule, "allowed", out->allowed, &out->allowed, why);
    if (st == HSM_OK)
        st = acme_json_bool_optional(rule, "ca", out->ca, &out->ca, why);
    return st == HSM_OK ? read_lifetime(rule, &out->lifetime_s, why) : st;
}

static enum hsm_status
check_code(const char *spc, const json_t *rule, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    struct authority_rule read = {.allowed = false};
    struct hsm_reason inner = {""};
    enum hsm_status st = certs_tnauthlist_from_spc(spc, &list);

    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "spc \"%s\": not a service provider code", spc);
    if (st != HSM_OK)
        return st;
    if (!json_is_object(rule))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "spc \"%s\": not an object", spc);
    st = read_rule(rule, &read, &inner);
    return st == HSM_OK ? HSM_OK : hsm_refuse(why, st, "spc \"%s\": %s", spc, inner.text);
}

/* Check all rules when loading, so that a request never meets an invalid one. */
static enum hsm_status
check_rules(const json_t *rules, struct hsm_reason *why)
{
    struct authority_rule read = {.allowed = false};
    const char *name;
    json_t *value, *object;
    enum hsm_status st = HSM_OK;

    json_object_foreach((json_t *)rules, name, value)
    {
        if (strcmp(name, "default") != 0 && strcmp(name, "spc") != 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "\"%s\" is no member of a policy", name);
    }
    if (json_object_get(rules, "default") != NULL) {
        st = acme_json_object(rules, "default", &object, why);
        if (st == HSM_OK)
            st = read_rule(object, &read, why);
    }
    if (st == HSM_OK && json_object_get(rules, "spc") != NULL) {
        st = acme_json_object(rules, "spc", &object, why);
        if (st != HSM_OK)
            return st;
        json_object_foreach(object, name, value)
        {
            st = check_code(name, value, why);
            if (st != HSM_OK)
                return st;
        }
    }
    return st;
}

/* ---- loading ---- */

/* False: errno is set. */
static bool
take_stamp(const char *path, struct policy_stamp *out)
{
    struct stat file;

    if (stat(path, &file) != 0)
        return false;
    *out =
        (struct policy_stamp){file.st_dev, file.st_ino, file.st_size, file.st_mtim, file.st_ctim};
    return true;
}

static bool
is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool
is_same_stamp(const struct policy_stamp *a, const struct policy_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           is_same_time(&a->changed, &b->changed) && is_same_time(&a->touched, &b->touched);
}

/* Several processes read the same file: record the event once. */
static enum hsm_status
tell_loaded(struct acme_store *store, const char *path, const uint8_t *octets, size_t len)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char detail[8 + 2 * SHA256_DIGEST_LENGTH] = "SHA256 ";
    enum hsm_status st = acme_store_query(store, &rows,
                                          "SELECT detail FROM event WHERE what = ? AND subject = ?"
                                          " ORDER BY id DESC LIMIT 1",
                                          "ss", LOADED, path);

    if (st != HSM_OK)
        return st;
    SHA256(octets, len, digest);
    hsm_hex_put(digest, sizeof(digest), detail + strlen(detail));
    if (acme_rows_next(rows) && strcmp(acme_rows_text(rows, 0), detail) == 0)
        return HSM_OK;
    return acme_event_add(
        store,
        &(struct acme_event){
            .at = time(NULL), .who = "sti-pa", .what = LOADED, .subject = path, .detail = detail});
}

/* Faults are logged, since an operator wrote the file.
 * @param store  NULL: no event is recorded */
static enum hsm_status
load(struct authority_policy *policy, struct acme_store *store)
{
    DEFER(free) uint8_t *octets = NULL;
    DEFER(json_decref) json_t *rules = NULL;
    struct hsm_reason why = {""};
    size_t len = 0;
    enum hsm_status st = hsm_file_read(policy->path, FILE_MAX, &octets, &len);

    if (st != HSM_OK)
        return st;
    st = acme_json_parse((const char *)octets, len, &rules, &why);
    if (st == HSM_OK)
        st = check_rules(rules, &why);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "%s: %s", policy->path, why.text);
    if (st == HSM_OK && store != NULL)
        st = tell_loaded(store, policy->path, octets, len);
    if (st != HSM_OK)
        return st;
    json_decref(policy->rules);
    policy->rules = rules;
    rules = NULL;
    return HSM_OK;
}

enum hsm_status
acme_authority_policy_open(const char *path, struct acme_store *store,
                           struct authority_policy **out)
{
    DEFER(acme_authority_policy_free) struct authority_policy *policy = calloc(1, sizeof(*policy));
    enum hsm_status st;

    if (policy == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&policy->lock, NULL); /* Linux: cannot fail with default attributes */
    policy->path = strdup(path);
    if (policy->path == NULL)
        return HSM_ERR_NOMEM;
    if (!take_stamp(path, &policy->stamp)) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return HSM_ERR_NOT_FOUND;
    }
    st = load(policy, store);
    if (st != HSM_OK)
        return st;
    *out = policy;
    policy = NULL;
    return HSM_OK;
}

void
acme_authority_policy_free(struct authority_policy *policy)
{
    if (policy == NULL)
        return;
    pthread_mutex_destroy(&policy->lock);
    json_decref(policy->rules);
    free(policy->path);
    free(policy);
}

/* ---- using it ---- */

/* Under the lock. When the file has become invalid, that is logged once, and the last valid version
 * stays in force. A file that cannot be read is retried until it can be, since it may withdraw a
 * right. */
static void
reload(struct authority_policy *policy, struct acme_store *store)
{
    struct policy_stamp now = {.size = -1}; /* stays so if the file does not exist */
    enum hsm_status st;

    (void)take_stamp(policy->path, &now);
    if (is_same_stamp(&now, &policy->stamp)) {
        policy->state = policy->stamped;
        return;
    }
    if (policy->state == POLICY_UNREAD && is_same_stamp(&now, &policy->tried) &&
        hsm_clock_ns() < policy->retry_ns)
        return;
    st = load(policy, store);
    if (st == HSM_OK || st == HSM_ERR_MALFORMED) {
        policy->state = policy->stamped = st == HSM_OK ? POLICY_IN_FORCE : POLICY_BAD;
        policy->stamp = now;
    } else {
        policy->state = POLICY_UNREAD;
        policy->tried = now;
        policy->retry_ns = hsm_clock_ns() + RETRY_NS;
    }
    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "%s: read again", policy->path);
    else
        hsm_log(HSM_LOG_ERROR, "%s: the policy stays as it was", policy->path);
}

static enum policy_state
look(struct authority_policy *policy, struct acme_store *store)
{
    enum policy_state state;

    if (policy == NULL)
        return POLICY_IN_FORCE;
    pthread_mutex_lock(&policy->lock);
    reload(policy, store);
    state = policy->state;
    pthread_mutex_unlock(&policy->lock);
    return state;
}

bool
acme_authority_policy_is_stale(struct authority_policy *policy, struct acme_store *store)
{
    return look(policy, store) != POLICY_IN_FORCE;
}

enum hsm_status
acme_authority_policy_ask(struct authority_policy *policy, struct acme_store *store,
                          const char *spc, struct authority_rule *out)
{
    struct authority_rule rule = {.allowed = false};
    struct hsm_reason why;
    const json_t *general, *own;
    enum hsm_status st = HSM_OK;

    if (policy == NULL) {
        *out = (struct authority_rule){.allowed = true, .ca = true};
        return HSM_OK;
    }
    pthread_mutex_lock(&policy->lock);
    reload(policy, store);
    general = json_object_get(policy->rules, "default");
    own = json_object_get(json_object_get(policy->rules, "spc"), spc);
    if (general != NULL)
        st = read_rule(general, &rule, &why);
    if (own != NULL) {
        rule.allowed = true; /* a rule for a code allows it, unless it states otherwise */
        if (st == HSM_OK)
            st = read_rule(own, &rule, &why);
    }
    pthread_mutex_unlock(&policy->lock);
    if (st == HSM_OK)
        *out = rule;
    return st;
}
