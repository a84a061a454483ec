/* trust.c - what a STI-VS trusts: the STI-PA's list of STI-CA roots and its CRL. */
#include <sks/trust.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include <acme/authority_client.h>
#include <acme/ca_list.h>
#include <certs/verdict.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#define LIST_FILE        "ca-list.jws"
#define LIST_SIGNER_FILE "ca-list-signer.pem"
#define CRL_FILE         "crl.der"
#define CRL_SIGNER_FILE  "crl-signer.pem"
#define PATH_SIZE        4096 /* octets */
#define FETCH_EVERY_S    86400 /* list and CRL at least daily (ATIS-1000080) */
#define RECHECK_S        300 /* a signature that was good is believed for so long */

/*
 * A list or a CRL, and who signed it. Immutable once others can see it, but for
 * the time of the last good check; verifications hold a reference, so that a
 * refresh never waits for them nor they for it.
 */
struct held {
    atomic_uint references;
    struct acme_ca_list *list; /* NULL: fixed anchors, or a CRL */
    struct certs_chain *anchors; /* of fixed anchors */
    struct certs_crl *crl;
    struct certs_chain *signer;
    time_t fetched_at; /* 0: from the directory, or given */
    atomic_llong checked_at; /* 0: not yet */
};

struct sks_trust {
    struct acme_http_client *http; /* NULL: fixed */
    struct certs_chain *pa_anchors;
    char *ca_list_url, *crl_url, *dir;
    bool needs_crl;
    struct certs_verdicts *verdicts;
    pthread_mutex_t refreshing; /* one at a time; taken before `lock` */
    pthread_mutex_t lock; /* guards the two pointers */
    struct held *list, *crl;
};

DEFINE_DEFER(struct sks_trust, sks_trust_free)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct certs_path, certs_path_free)
DEFINE_DEFER(char, free)

/* -- what is held ------------------------------------------------------------------------------ */

static void
held_release(struct held *held)
{
    if (held == NULL || atomic_fetch_sub(&held->references, 1) != 1)
        return;
    acme_ca_list_free(held->list);
    certs_chain_free(held->anchors);
    certs_crl_free(held->crl);
    certs_chain_free(held->signer);
    free(held);
}

DEFINE_DEFER(struct held, held_release)

static struct held *
held_new(time_t fetched_at)
{
    struct held *held = calloc(1, sizeof(*held));

    if (held != NULL) {
        atomic_init(&held->references, 1);
        atomic_init(&held->checked_at, fetched_at);
        held->fetched_at = fetched_at;
    }
    return held;
}

/* NULL when there is none. */
static struct held *
borrow(struct sks_trust *trust, struct held *const *which)
{
    struct held *held;

    pthread_mutex_lock(&trust->lock);
    held = *which;
    if (held != NULL)
        atomic_fetch_add(&held->references, 1);
    pthread_mutex_unlock(&trust->lock);
    return held;
}

static void
replace(struct sks_trust *trust, struct held **which, struct held *with)
{
    struct held *before;

    pthread_mutex_lock(&trust->lock);
    before = *which;
    *which = with;
    pthread_mutex_unlock(&trust->lock);
    held_release(before);
}

static enum hsm_status
copy_chain(const struct certs_chain *chain, struct certs_chain **out)
{
    DEFER(certs_chain_free) struct certs_chain *copy = NULL;
    enum hsm_status st = certs_chain_new(&copy);

    if (st == HSM_OK)
        st = certs_chain_append(copy, chain);
    if (st != HSM_OK)
        return st;
    *out = copy;
    copy = NULL;
    return HSM_OK;
}

/* -- is it good at a time? --------------------------------------------------------------------- */

static time_t
end_of(const struct held *held)
{
    return held->crl != NULL ? certs_crl_next_update(held->crl) : acme_ca_list_exp(held->list);
}

static enum hsm_status
check_signed(const struct sks_trust *trust, const struct held *held, time_t now,
             struct hsm_reason *why)
{
    if (certs_chain_len(held->signer) == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "%s: its signer's certificate is not held",
                          held->crl != NULL ? "CRL" : "list of trusted STI-CAs");
    if (held->crl != NULL)
        return certs_crl_verify(held->crl, held->signer, trust->pa_anchors, trust->crl_url, now,
                                why);
    return acme_ca_list_check(held->list, held->signer, trust->pa_anchors, 0, now, why);
}

/* The signature is verified now and then, the end is asked each time. */
static enum hsm_status
check_held(const struct sks_trust *trust, struct held *held, time_t now, struct hsm_reason *why)
{
    long long checked_at = atomic_load(&held->checked_at);
    enum hsm_status st;

    if (held->anchors != NULL)
        return HSM_OK; /* fixed: nobody signed them */
    if (checked_at != 0 && now >= checked_at && now - checked_at < RECHECK_S && now < end_of(held))
        return HSM_OK;
    st = check_signed(trust, held, now, why);
    if (st == HSM_OK)
        atomic_store(&held->checked_at, now);
    return st;
}

static const struct certs_chain *
anchors_of(const struct held *held)
{
    return held->anchors != NULL ? held->anchors : acme_ca_list_roots(held->list);
}

/* What is held at one time: a refresh in between changes nothing for who borrowed it. */
struct view {
    struct held *list, *crl; /* crl NULL: none is asked */
};

static void
view_release(struct view *view)
{
    held_release(view->list);
    held_release(view->crl);
}

static enum hsm_status
view_borrow(struct sks_trust *trust, time_t now, struct view *view, struct hsm_reason *why)
{
    enum hsm_status st;

    view->list = borrow(trust, &trust->list);
    if (view->list == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no list of trusted STI-CAs is held");
    st = check_held(trust, view->list, now, why);
    if (st != HSM_OK || !trust->needs_crl)
        return st;
    view->crl = borrow(trust, &trust->crl);
    if (view->crl == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no CRL is held");
    return check_held(trust, view->crl, now, why);
}

/* The last second at which both are good; of fixed anchors there is none. */
static time_t
view_until(const struct view *view, time_t now)
{
    time_t until = view->list->anchors != NULL ? now + FETCH_EVERY_S : end_of(view->list) - 1;

    if (view->crl != NULL && end_of(view->crl) < until)
        until = end_of(view->crl);
    return until;
}

enum hsm_status
sks_trust_path(struct sks_trust *trust, const struct certs_chain *chain, time_t now,
               struct certs_path **out, struct hsm_reason *why)
{
    struct view view = {.list = NULL};
    enum hsm_status st = view_borrow(trust, now, &view, why);

    if (st == HSM_OK) {
        const struct certs_trust trusted = {.anchors = anchors_of(view.list),
                                            .crl = view.crl == NULL ? NULL : view.crl->crl,
                                            .until = view_until(&view, now)};

        st = certs_verdicts_check(trust->verdicts, chain, &trusted, now, out, why);
    }
    view_release(&view);
    return st;
}

enum hsm_status
sks_trust_check(struct sks_trust *trust, const struct certs_chain *chain, time_t now,
                struct hsm_reason *why)
{
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = sks_trust_path(trust, chain, now, &path, why);

    if (st == HSM_OK && !certs_path_is_of(path, certs_chain_get(chain, 0)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the chain begins with another certificate than "
                          "the end entity");
    return st;
}

static bool
is_good(struct sks_trust *trust, struct held *const *which, time_t now)
{
    DEFER(held_release) struct held *held = borrow(trust, which);

    return held != NULL && check_held(trust, held, now, NULL) == HSM_OK;
}

bool
sks_trust_is_ready(struct sks_trust *trust, time_t now)
{
    return is_good(trust, &trust->list, now) &&
           (!trust->needs_crl || is_good(trust, &trust->crl, now));
}

static time_t
end_or_none(struct sks_trust *trust, struct held *const *which)
{
    DEFER(held_release) struct held *held = borrow(trust, which);

    return held == NULL || held->anchors != NULL ? 0 : end_of(held);
}

void
sks_trust_ends(struct sks_trust *trust, time_t *list, time_t *crl)
{
    *list = end_or_none(trust, &trust->list);
    *crl = end_or_none(trust, &trust->crl);
}

enum hsm_status
sks_trust_roots(struct sks_trust *trust, time_t now, struct certs_chain **out,
                struct hsm_reason *why)
{
    DEFER(held_release) struct held *held = borrow(trust, &trust->list);
    enum hsm_status st;

    if (held == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no list of trusted STI-CAs is held");
    st = check_held(trust, held, now, why);
    return st == HSM_OK ? copy_chain(anchors_of(held), out) : st;
}

/* -- the directory ----------------------------------------------------------------------------- */

static bool
path_of(const struct sks_trust *trust, const char *name, char out[PATH_SIZE])
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", trust->dir, name);

    return n > 0 && n < PATH_SIZE;
}

static enum hsm_status
keep_file(const struct sks_trust *trust, const char *name, const void *octets, size_t len)
{
    char path[PATH_SIZE];

    if (!path_of(trust, name, path))
        return HSM_ERR_USAGE;
    return hsm_file_write(path, octets, len, 0644);
}

/* The signer first: a list or CRL in the directory always finds its own, or an older one that will
 * not verify it; then both are fetched again. */
static enum hsm_status
keep(const struct sks_trust *trust, const struct held *held)
{
    DEFER(free) char *signer = NULL;
    DEFER(free) char *der = NULL;
    const char *text;
    size_t len;
    enum hsm_status st;

    st = certs_chain_pem(held->signer, &signer);
    if (st != HSM_OK)
        return st;
    if (held->crl == NULL) {
        text = acme_ca_list_text(held->list);
        st = keep_file(trust, LIST_SIGNER_FILE, signer, strlen(signer));
        return st == HSM_OK ? keep_file(trust, LIST_FILE, text, strlen(text)) : st;
    }
    st = keep_file(trust, CRL_SIGNER_FILE, signer, strlen(signer));
    if (st == HSM_OK)
        st = certs_crl_der(held->crl, (uint8_t **)&der, &len);
    return st == HSM_OK ? keep_file(trust, CRL_FILE, der, len) : st;
}

/* A file that was kept; HSM_ERR_NOT_FOUND, without a word in the log, when it is not there. */
static enum hsm_status
read_kept(const struct sks_trust *trust, const char *name, size_t max, char **out, size_t *len)
{
    char path[PATH_SIZE];

    if (!path_of(trust, name, path))
        return HSM_ERR_USAGE;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return HSM_ERR_NOT_FOUND;
    return hsm_file_read(path, max, (uint8_t **)out, len);
}

/* Without its signer's certificates nothing is good, but it still says what must not be rolled
 * back: then the chain stays empty. */
static enum hsm_status
read_signer(const struct sks_trust *trust, const char *name, struct held *held)
{
    DEFER(free) char *pem = NULL;
    struct hsm_reason why = {"not there"};
    size_t len;
    enum hsm_status st = read_kept(trust, name, CERTS_CHAIN_OCTETS_MAX, &pem, &len);

    if (st == HSM_OK)
        st = certs_chain_parse_pem(pem, len, CERTS_CHAIN_LEN_MAX, &held->signer, &why);
    if (st == HSM_OK || st == HSM_ERR_NOMEM)
        return st;
    hsm_log(HSM_LOG_WARNING, "%s/%s: not used: %s", trust->dir, name, why.text);
    return certs_chain_new(&held->signer);
}

static enum hsm_status
read_list(const struct sks_trust *trust, struct held *held, struct hsm_reason *why)
{
    DEFER(free) char *text = NULL;
    size_t len;
    enum hsm_status st = read_kept(trust, LIST_FILE, ACME_CA_LIST_MAX, &text, &len);

    if (st == HSM_OK)
        st = acme_ca_list_parse(text, len, &held->list, why);
    return st == HSM_OK ? read_signer(trust, LIST_SIGNER_FILE, held) : st;
}

static enum hsm_status
read_crl(const struct sks_trust *trust, struct held *held, struct hsm_reason *why)
{
    DEFER(free) char *octets = NULL;
    size_t len;
    enum hsm_status st = read_kept(trust, CRL_FILE, CERTS_CRL_MAX, &octets, &len);

    if (st == HSM_OK)
        st = certs_crl_parse((const uint8_t *)octets, len, &held->crl, why);
    return st == HSM_OK ? read_signer(trust, CRL_SIGNER_FILE, held) : st;
}

static uint64_t
number_of(const struct held *held)
{
    return held->crl != NULL ? certs_crl_number(held->crl) : acme_ca_list_sequence(held->list);
}

/* Another process may have fetched a newer one while this one fetched ours. */
static enum hsm_status
check_kept(const struct sks_trust *trust, const struct held *held, struct hsm_reason *why)
{
    DEFER(held_release) struct held *kept = held_new(0);
    struct hsm_reason unread = {0};
    enum hsm_status st;

    if (kept == NULL)
        return HSM_ERR_NOMEM;
    st = held->crl != NULL ? read_crl(trust, kept, &unread) : read_list(trust, kept, &unread);
    if (st != HSM_OK) /* as if it were not there, as in load() */
        return st == HSM_ERR_NOMEM ? st : HSM_OK;
    if (number_of(held) >= number_of(kept))
        return HSM_OK;
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "a newer one is kept already");
}

/* Of the processes that share the directory one looks and writes at a time. */
static enum hsm_status
keep_newest(const struct sks_trust *trust, const struct held *held, struct hsm_reason *why)
{
    enum hsm_status st;
    int lock;

    if (trust->dir == NULL)
        return HSM_OK;
    lock = open(trust->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        st = hsm_refuse(why, HSM_ERR_IO, "%s: %s", trust->dir, strerror(errno));
    } else {
        st = check_kept(trust, held, why);
        if (st == HSM_OK)
            st = keep(trust, held);
    }
    if (lock >= 0)
        close(lock);
    return st;
}

/*
 * What cannot be read is as if it were not there: the STI-PA is asked again.
 * Whether it is good is a question of the time at which it is used; it may
 * have ended, and still says what must not be rolled back.
 */
static enum hsm_status
load(struct sks_trust *trust, struct held **which, const char *name,
     enum hsm_status (*read)(const struct sks_trust *, struct held *, struct hsm_reason *))
{
    DEFER(held_release) struct held *held = held_new(0);
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (held == NULL)
        return HSM_ERR_NOMEM;
    st = read(trust, held, &why);
    if (st == HSM_ERR_NOT_FOUND)
        return HSM_OK;
    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_WARNING, "%s/%s: not used: %s", trust->dir, name, why.text);
        return HSM_OK;
    }
    *which = held;
    held = NULL;
    return HSM_OK;
}

static enum hsm_status
load_all(struct sks_trust *trust)
{
    enum hsm_status st;

    if (trust->dir == NULL)
        return HSM_OK;
    if (mkdir(trust->dir, 0755) != 0 && errno != EEXIST) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", trust->dir, strerror(errno));
        return HSM_ERR_IO;
    }
    st = load(trust, &trust->list, LIST_FILE, read_list);
    return st == HSM_OK ? load(trust, &trust->crl, CRL_FILE, read_crl) : st;
}

/* -- making one -------------------------------------------------------------------------------- */

static struct sks_trust *
trust_new(const struct certs_path_policy *policy)
{
    struct sks_trust *trust = calloc(1, sizeof(*trust));

    if (trust == NULL)
        return NULL;
    if (certs_verdicts_new(policy, SKS_TRUST_VERDICTS, &trust->verdicts) != HSM_OK) {
        free(trust);
        return NULL;
    }
    pthread_mutex_init(&trust->refreshing, NULL);
    pthread_mutex_init(&trust->lock, NULL);
    return trust;
}

enum hsm_status
sks_trust_new(const struct sks_trust_config *config, struct sks_trust **out)
{
    DEFER(sks_trust_free) struct sks_trust *trust = trust_new(config->policy);
    enum hsm_status st;

    if (trust == NULL)
        return HSM_ERR_NOMEM;
    trust->http = config->http;
    trust->needs_crl = true;
    trust->ca_list_url = strdup(config->ca_list_url);
    trust->crl_url = strdup(config->crl_url);
    if (trust->ca_list_url == NULL || trust->crl_url == NULL)
        return HSM_ERR_NOMEM;
    if (config->dir != NULL && (trust->dir = strdup(config->dir)) == NULL)
        return HSM_ERR_NOMEM;
    st = copy_chain(config->pa_anchors, &trust->pa_anchors);
    if (st == HSM_OK)
        st = load_all(trust);
    if (st != HSM_OK)
        return st;
    *out = trust;
    trust = NULL;
    return HSM_OK;
}

static enum hsm_status
give_crl(struct sks_trust *trust, const uint8_t *octets, size_t len,
         const struct certs_chain *signer)
{
    struct hsm_reason why = {0};
    enum hsm_status st;

    trust->needs_crl = true;
    trust->crl = held_new(0);
    if (trust->crl == NULL)
        return HSM_ERR_NOMEM;
    st = certs_crl_parse(octets, len, &trust->crl->crl, &why);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
    return st == HSM_OK ? copy_chain(signer, &trust->crl->signer) : st;
}

enum hsm_status
sks_trust_fixed(const struct certs_chain *anchors, const uint8_t *crl, size_t crl_len,
                const struct certs_chain *crl_signer, const struct certs_chain *pa_anchors,
                struct sks_trust **out)
{
    DEFER(sks_trust_free) struct sks_trust *trust = trust_new(NULL);
    enum hsm_status st;

    if (trust == NULL)
        return HSM_ERR_NOMEM;
    trust->list = held_new(0);
    if (trust->list == NULL)
        return HSM_ERR_NOMEM;
    st = copy_chain(anchors, &trust->list->anchors);
    if (st == HSM_OK && crl != NULL)
        st = copy_chain(pa_anchors, &trust->pa_anchors);
    if (st == HSM_OK && crl != NULL)
        st = give_crl(trust, crl, crl_len, crl_signer);
    if (st != HSM_OK)
        return st;
    *out = trust;
    trust = NULL;
    return HSM_OK;
}

void
sks_trust_free(struct sks_trust *trust)
{
    if (trust == NULL)
        return;
    held_release(trust->list);
    held_release(trust->crl);
    certs_verdicts_free(trust->verdicts);
    certs_chain_free(trust->pa_anchors);
    pthread_mutex_destroy(&trust->refreshing);
    pthread_mutex_destroy(&trust->lock);
    free(trust->ca_list_url);
    free(trust->crl_url);
    free(trust->dir);
    free(trust);
}

/* -- refreshing -------------------------------------------------------------------------------- */

static bool
is_due(const struct held *held, time_t now)
{
    time_t half;

    if (held == NULL || held->fetched_at == 0 || now < held->fetched_at)
        return true;
    half = (end_of(held) - held->fetched_at) / 2;
    return now - held->fetched_at >= (half < FETCH_EVERY_S ? half : FETCH_EVERY_S);
}

static enum hsm_status
fetch_list(struct sks_trust *trust, time_t now, struct held *held, struct hsm_reason *why)
{
    /* What is held is replaced by this thread alone: it can be read without the lock. */
    uint64_t previous = trust->list == NULL ? 0 : acme_ca_list_sequence(trust->list->list);
    enum hsm_status st = acme_authority_fetch_ca_list(
        trust->http, trust->ca_list_url, trust->pa_anchors, previous, now, &held->list, why);

    if (st != HSM_OK)
        return st;
    st = acme_http_fetch_chain(trust->http, acme_ca_list_x5u(held->list), &held->signer, why);
    return st == HSM_OK ? check_signed(trust, held, now, why) : st;
}

static enum hsm_status
fetch_crl(struct sks_trust *trust, time_t now, struct held *held, struct hsm_reason *why)
{
    const struct certs_crl *previous = trust->crl == NULL ? NULL : trust->crl->crl;
    enum hsm_status st = acme_authority_fetch_crl(trust->http, trust->crl_url, trust->pa_anchors,
                                                  now, &held->crl, why);

    if (st != HSM_OK)
        return st;
    st = certs_crl_check_newer(held->crl, previous, why);
    if (st != HSM_OK)
        return st;
    st = acme_http_fetch_chain(trust->http, certs_crl_signer_cert_url(held->crl), &held->signer,
                               why);
    return st == HSM_OK ? check_signed(trust, held, now, why) : st;
}

static enum hsm_status
refresh(struct sks_trust *trust, struct held **which, const char *url, time_t now,
        enum hsm_status (*fetch)(struct sks_trust *, time_t, struct held *, struct hsm_reason *))
{
    DEFER(held_release) struct held *held = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (!is_due(*which, now))
        return HSM_OK;
    held = held_new(now);
    if (held == NULL)
        return HSM_ERR_NOMEM;
    st = fetch(trust, now, held, &why);
    if (st == HSM_OK) /* durable before it is used, or a restart could roll it back */
        st = keep_newest(trust, held, &why);
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_WARNING, "%s: %s; what was good is kept", url,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
        return st;
    }
    replace(trust, which, held);
    held = NULL;
    return HSM_OK;
}

enum hsm_status
sks_trust_refresh(struct sks_trust *trust, time_t now)
{
    enum hsm_status list_st;
    enum hsm_status crl_st;

    if (trust->http == NULL)
        return HSM_OK;
    pthread_mutex_lock(&trust->refreshing);
    list_st = refresh(trust, &trust->list, trust->ca_list_url, now, fetch_list);
    crl_st = refresh(trust, &trust->crl, trust->crl_url, now, fetch_crl);
    pthread_mutex_unlock(&trust->refreshing);
    return list_st != HSM_OK ? list_st : crl_st;
}
