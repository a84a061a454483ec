/* journal.c - the journal of a token: how it begins and ends, and the calls that use it. */
#define _GNU_SOURCE /* pthread_cond_clockwait, program_invocation_short_name */
#include "journal_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/token.h>

#include "clock_internal.h"
#include "es256_internal.h"
#include "journal_note_internal.h"
#include "journal_state_internal.h"
#include "signer_internal.h"
#include "token_internal.h"

#define CHECKPOINT_RECORDS 65536
#define CHECKPOINT_S       300
#define FLUSH_MS           50
#define ROTATE_MB          256
#define PROGRAM            "program" /* when the process's name is not a valid one */
#define PROGRAM_MAX        32 /* octets */
#define DURABLE_MS         10000 /* for a line to reach the disk, or it counts as failed */
#define ROOM_MS            1000 /* for room in the ring, when the disk is slow */
#define ROOM_STEP_NS       500000
#define IDLE_KEYS_MAX      64 /* unused keys kept: a file would name a dropped one twice */
#define GRACE_MS           50 /* past a call's deadline, to record a signature that is made */
#define END_MS             10000 /* for the last checkpoint, when the token is stuck */
#define OPEN_MS            15000 /* for the index, which others keep while a token signs for them */

static const struct {
    const char *word;
    enum hsm_journal_failure failure;
} failures[] = {
    {"by-kind", HSM_JOURNAL_BY_KIND}, {"refuse", HSM_JOURNAL_REFUSE}, {"go-on", HSM_JOURNAL_GO_ON}};

enum hsm_status
hsm_journal_failure_parse(const char *word, enum hsm_journal_failure *out)
{
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        if (strcmp(failures[i].word, word) == 0) {
            *out = failures[i].failure;
            return HSM_OK;
        }
    }
    return HSM_ERR_MALFORMED;
}

/* ---- beginning ---- */

static bool
is_program(const char *program)
{
    size_t len = strspn(program, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return len > 0 && len <= PROGRAM_MAX && program[len] == '\0';
}

static const char *
or_program(const char *name)
{
    return is_program(name) ? name : PROGRAM;
}

static unsigned
or_else(unsigned value, unsigned otherwise)
{
    return value != 0 ? value : otherwise;
}

static enum hsm_status
copy_config(const struct hsm_journal_config *from, struct hsm_journal_config *to)
{
    const char *program =
        from->program != NULL ? from->program : or_program(program_invocation_short_name);

    if (from->dir == NULL || !is_program(program)) {
        hsm_log(HSM_LOG_ERROR, "journal: dir is empty, or program is not [a-z0-9-]{1,32}");
        return HSM_ERR_USAGE;
    }
    to->dir = strdup(from->dir);
    to->program = strdup(program);
    to->key_label = strdup(from->key_label != NULL ? from->key_label : HSM_JOURNAL_KEY);
    to->checkpoint_records = or_else(from->checkpoint_records, CHECKPOINT_RECORDS);
    to->checkpoint_s = or_else(from->checkpoint_s, CHECKPOINT_S);
    to->flush_ms = or_else(from->flush_ms, FLUSH_MS);
    to->rotate_mb = or_else(from->rotate_mb, ROTATE_MB);
    to->retain_days = from->retain_days;
    to->on_failure = from->on_failure;
    return to->dir != NULL && to->program != NULL && to->key_label != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static bool
init_locks(struct hsm_journal *journal)
{
    return sem_init(&journal->wake, 0, 0) == 0 && pthread_mutex_init(&journal->lock, NULL) == 0 &&
           pthread_mutex_init(&journal->index_lock, NULL) == 0 &&
           pthread_cond_init(&journal->changed, NULL) == 0 &&
           pthread_cond_init(&journal->notary_wake, NULL) == 0;
}

static enum hsm_status
journal_new(const struct hsm_journal_config *config, struct hsm_journal **out)
{
    struct hsm_journal *journal = calloc(1, sizeof(*journal));
    enum hsm_status st = HSM_ERR_NOMEM;

    if (journal == NULL)
        return st;
    journal->index.fd = journal->index.dir_fd = journal->file.fd = -1;
    journal->spare = calloc(1, sizeof(*journal->spare));
    if (journal->spare != NULL && init_locks(journal))
        st = copy_config(config, &journal->config);
    if (st == HSM_OK)
        st = hsm_ring_new(&journal->ring);
    if (st != HSM_OK) {
        hsm_journal_free(journal);
        return st;
    }
    *out = journal;
    return HSM_OK;
}

/* Recovers what an earlier process left behind before anything new is written. */
static enum hsm_status
open_index(struct hsm_journal *journal, int64_t deadline)
{
    enum hsm_status st =
        hsm_index_open(journal->config.dir, journal->config.program, &journal->index);

    if (st != HSM_OK)
        return st;
    st = hsm_index_lock_until(&journal->index, deadline);
    if (st == HSM_OK)
        st = hsm_index_recover(&journal->index);
    hsm_index_unlock(&journal->index);
    return st;
}

/* Signals are handled by the daemon's own threads only. */
static bool
start_thread(pthread_t *thread, void *(*run)(void *), struct hsm_journal *journal)
{
    sigset_t all;
    sigset_t before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(thread, NULL, run, journal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        hsm_log(HSM_LOG_ERROR, "no thread for the journal: %s", strerror(rc));
    return rc == 0;
}

static void
stop_writer(struct hsm_journal *journal)
{
    atomic_store(&journal->stopping, true);
    sem_post(&journal->wake);
    pthread_join(journal->writer, NULL);
}

static enum hsm_status
start_threads(struct hsm_journal *journal)
{
    if (!start_thread(&journal->writer, hsm_journal_write, journal))
        return HSM_ERR_NOMEM;
    if (start_thread(&journal->notary, hsm_journal_notarise, journal))
        return HSM_OK;
    stop_writer(journal);
    return HSM_ERR_NOMEM;
}

enum hsm_status
hsm_journal_open(const struct hsm_journal_config *config, struct hsm_journal **out)
{
    struct hsm_journal *journal = NULL;
    int64_t deadline = hsm_deadline_after(OPEN_MS);
    enum hsm_status st = journal_new(config, &journal);

    if (st != HSM_OK)
        return st;
    st = open_index(journal, deadline);
    if (st == HSM_OK)
        st = hsm_journal_begin(journal, deadline);
    if (st == HSM_ERR_BUSY)
        hsm_log(HSM_LOG_ERROR,
                "journal %s: not opened: another process kept the lock of its index for %d s",
                config->dir, OPEN_MS / 1000);
    if (st == HSM_OK)
        st = start_threads(journal);
    if (st != HSM_OK) {
        hsm_journal_free(journal);
        return st;
    }
    atomic_store(&journal->accepting, true);
    *out = journal;
    return HSM_OK;
}

const char *
hsm_journal_key_label(const struct hsm_journal *journal)
{
    return journal->config.key_label;
}

/* For local verification; an auditor who does not trust this host has a copy elsewhere. */
static enum hsm_status
write_public_key(const struct hsm_journal *journal, EVP_PKEY *key)
{
    char path[4096];
    BIO *bio;
    char *text = NULL;
    long len = 0;
    enum hsm_status st = HSM_ERR_NOMEM;

    snprintf(path, sizeof(path), "%s/%s.pem", journal->config.dir, journal->signer_id);
    if (access(path, F_OK) == 0)
        return HSM_OK;
    bio = BIO_new(BIO_s_mem());
    if (bio != NULL && PEM_write_bio_PUBKEY(bio, key) == 1)
        len = BIO_get_mem_data(bio, &text);
    if (len > 0)
        st = hsm_file_create(path, text, (size_t)len, 0644);
    BIO_free(bio);
    return st == HSM_ERR_EXISTS ? HSM_OK : st;
}

/* Under the index's lock. */
static enum hsm_status
set_signer(struct hsm_journal *journal, struct hsm_signer *signer)
{
    uint8_t hash[HSM_SHA256_LEN];
    enum hsm_status st = hsm_note_key_hash(signer->public_key, hash);

    if (st != HSM_OK)
        return st;
    hsm_hex_put(hash, HSM_JOURNAL_KEY_LEN, journal->signer_id);
    memcpy(journal->signer_hint, hash, sizeof(journal->signer_hint));
    st = write_public_key(journal, signer->public_key);
    if (st != HSM_OK)
        return st;
    hsm_signer_ref(signer);
    journal->signer = signer;
    return HSM_OK;
}

/* A second opener of the token may call this at the same time. */
enum hsm_status
hsm_journal_sign_with(struct hsm_journal *journal, struct hsm_signer *signer)
{
    enum hsm_status st = HSM_OK;

    pthread_mutex_lock(&journal->index_lock);
    if (journal->signer == NULL)
        st = set_signer(journal, signer);
    pthread_mutex_unlock(&journal->index_lock);
    return st;
}

bool
hsm_journal_has_signer(const struct hsm_journal *journal)
{
    return journal->signer != NULL;
}

/* ---- end ---- */

/* False: it is inside a token that does not answer, and keeps its resources. */
static bool
stop_notary(struct hsm_journal *journal)
{
    struct timespec until = hsm_clock_timespec(hsm_deadline_after(END_MS));
    bool ended;
    int rc = 0;

    pthread_mutex_lock(&journal->lock);
    journal->notary_stopping = true;
    pthread_cond_signal(&journal->notary_wake);
    while (!journal->notary_ended && rc == 0)
        rc = pthread_cond_clockwait(&journal->changed, &journal->lock, CLOCK_MONOTONIC, &until);
    ended = journal->notary_ended;
    pthread_mutex_unlock(&journal->lock);
    if (ended)
        pthread_join(journal->notary, NULL);
    else
        pthread_detach(journal->notary);
    return ended;
}

void
hsm_journal_close(struct hsm_journal *journal)
{
    struct hsm_signer *signer;

    if (journal == NULL || !atomic_exchange(&journal->accepting, false))
        return;
    stop_writer(journal);
    if (!stop_notary(journal)) {
        hsm_log(HSM_LOG_ERROR, "journal %s: the token does not sign the last checkpoint",
                journal->config.dir);
        return;
    }
    signer = journal->signer;
    journal->signer = NULL;
    if (signer != NULL)
        hsm_signer_unref(signer);
}

static void
free_closed(struct hsm_closed_file *closed)
{
    while (closed != NULL) {
        struct hsm_closed_file *next = closed->next;

        free(closed);
        closed = next;
    }
}

void
hsm_journal_free(struct hsm_journal *journal)
{
    if (journal == NULL)
        return;
    while (journal->keys != NULL) {
        struct hsm_journal_key *next = journal->keys->next;

        free(journal->keys);
        journal->keys = next;
    }
    free_closed(journal->closed);
    free(journal->spare);
    hsm_file_end(&journal->file);
    hsm_index_close(&journal->index);
    hsm_ring_free(journal->ring);
    free((char *)journal->config.dir);
    free((char *)journal->config.program);
    free((char *)journal->config.key_label);
    sem_destroy(&journal->wake);
    pthread_mutex_destroy(&journal->lock);
    pthread_mutex_destroy(&journal->index_lock);
    pthread_cond_destroy(&journal->changed);
    pthread_cond_destroy(&journal->notary_wake);
    free(journal);
}

/* ---- keys ---- */

static enum hsm_status
describe_key(struct hsm_journal_key *key, const struct hsm_key_info *info, EVP_PKEY *public_key,
             const char *token, const char *serial)
{
    char point[HSM_HEX_LEN(HSM_P256_POINT_LEN) + 1];
    enum hsm_status st = hsm_note_key_hash(public_key, key->hash);

    if (st != HSM_OK)
        return st;
    hsm_hex_put(key->hash, HSM_JOURNAL_KEY_LEN, key->id);
    hsm_hex_put(info->point, sizeof(info->point), point);
    hsm_detail_put(key->detail, sizeof(key->detail), "point", point);
    hsm_detail_put(key->detail, sizeof(key->detail), "label", info->label);
    hsm_detail_put(key->detail, sizeof(key->detail), "token", token);
    hsm_detail_put(key->detail, sizeof(key->detail), "serial", serial);
    return HSM_OK;
}

/* Under the lock. */
static struct hsm_journal_key *
same_key(struct hsm_journal *journal, const struct hsm_journal_key *key)
{
    struct hsm_journal_key *known = journal->keys;

    while (known != NULL &&
           (strcmp(known->id, key->id) != 0 || strcmp(known->detail, key->detail) != 0))
        known = known->next;
    return known;
}

const struct hsm_journal_key *
hsm_journal_key(struct hsm_journal *journal, const struct hsm_key_info *info, EVP_PKEY *public_key,
                const char *token, const char *serial)
{
    struct hsm_journal_key *key = calloc(1, sizeof(*key));
    struct hsm_journal_key *known;

    if (key == NULL || describe_key(key, info, public_key, token, serial) != HSM_OK) {
        free(key);
        return NULL;
    }
    pthread_mutex_lock(&journal->lock);
    known = same_key(journal, key);
    if (known == NULL) {
        key->next = journal->keys;
        journal->keys = known = key;
    } else {
        free(key);
        journal->idle_keys -= known->holders == 0;
    }
    known->holders++;
    pthread_mutex_unlock(&journal->lock);
    return known;
}

void
hsm_journal_key_done(struct hsm_journal *journal, const struct hsm_journal_key *key)
{
    struct hsm_journal_key *own = (struct hsm_journal_key *)(uintptr_t)key; /* the journal's */

    if (key == NULL)
        return;
    pthread_mutex_lock(&journal->lock);
    if (--own->holders == 0) {
        own->entries = hsm_ring_put_count(journal->ring);
        journal->idle_keys++;
    }
    pthread_mutex_unlock(&journal->lock);
}

void
hsm_journal_forget_keys(struct hsm_journal *journal)
{
    struct hsm_journal_key **link = &journal->keys;
    /* Entries that were taken from the ring and put into lines. */
    uint64_t taken = hsm_ring_taken(journal->ring) - (journal->holds ? 1 : 0);
    bool many;

    pthread_mutex_lock(&journal->lock);
    many = journal->idle_keys > IDLE_KEYS_MAX;
    while (many && *link != NULL) {
        struct hsm_journal_key *key = *link;

        if (key->holders == 0 && key->entries <= taken) {
            *link = key->next;
            journal->idle_keys--;
            free(key);
        } else {
            link = &key->next;
        }
    }
    pthread_mutex_unlock(&journal->lock);
}

/* ---- uses ---- */

static bool
continues_without_journal(const struct hsm_journal *journal, enum hsm_use_kind kind)
{
    if (journal->config.on_failure == HSM_JOURNAL_BY_KIND)
        return !hsm_use_is_durable(kind);
    return journal->config.on_failure == HSM_JOURNAL_GO_ON;
}

static enum hsm_status
count_refused(struct hsm_journal *journal)
{
    journal->refused++;
    return HSM_ERR_IO;
}

enum hsm_status
hsm_journal_may(struct hsm_journal *journal)
{
    if (journal == NULL)
        return HSM_OK;
    if (atomic_load_explicit(&journal->accepting, memory_order_relaxed) &&
        !atomic_load_explicit(&journal->failing, memory_order_relaxed))
        return HSM_OK;
    return continues_without_journal(journal, hsm_use_now().kind) ? HSM_OK : count_refused(journal);
}

/* In `ms`, but not past a call's deadline and its grace time. */
static int64_t
until_at_most(unsigned ms, int64_t call_deadline)
{
    int64_t until = hsm_deadline_after(ms);
    int64_t least = hsm_deadline_after(GRACE_MS);

    if (until < call_deadline)
        return until;
    return call_deadline > least ? call_deadline : least;
}

/* The ring is full when the disk is slow, or fails. */
static bool
put(struct hsm_journal *journal, const struct hsm_ring_entry *entry, int64_t call_deadline,
    uint64_t *position)
{
    static const struct timespec step = {.tv_nsec = ROOM_STEP_NS};
    int64_t deadline;

    if (hsm_ring_put(journal->ring, entry, position))
        return true;
    deadline = until_at_most(ROOM_MS, call_deadline);
    do {
        if (atomic_load(&journal->failing))
            return false;
        hsm_journal_wake(journal, true);
        nanosleep(&step, NULL);
        if (hsm_ring_put(journal->ring, entry, position))
            return true;
    } while (hsm_clock_ns() < deadline);
    return false;
}

static bool
is_durable(struct hsm_journal *journal, uint64_t position, int64_t call_deadline)
{
    struct timespec until = hsm_clock_timespec(until_at_most(DURABLE_MS, call_deadline));
    bool done;
    int rc = 0;

    pthread_mutex_lock(&journal->lock);
    while (journal->committed <= position && !atomic_load(&journal->failing) && rc == 0)
        rc = pthread_cond_clockwait(&journal->changed, &journal->lock, CLOCK_MONOTONIC, &until);
    done = journal->committed > position;
    pthread_mutex_unlock(&journal->lock);
    return done;
}

static void
fill_entry(struct hsm_ring_entry *entry, const struct hsm_use *use,
           const struct hsm_journal_key *key, const uint8_t *digest, enum hsm_status outcome)
{
    size_t who = use->who != NULL ? strnlen(use->who, HSM_WHO_MAX) : 0;

    entry->time_us = hsm_time_now_us();
    entry->key = key;
    entry->kind = use->kind;
    entry->outcome = outcome;
    memcpy(entry->digest, digest != NULL ? digest : key->hash, sizeof(entry->digest));
    if (who > 0)
        memcpy(entry->who, use->who, who);
    entry->who[who] = '\0';
}

enum hsm_status
hsm_journal_use(struct hsm_journal *journal, const struct hsm_journal_key *key,
                const uint8_t *digest, int64_t deadline, enum hsm_status outcome)
{
    struct hsm_ring_entry entry;
    struct hsm_use use;
    uint64_t position = 0;
    bool durable;
    bool taken;

    if (journal == NULL)
        return outcome;
    use = hsm_use_now();
    durable = hsm_use_is_durable(use.kind);
    fill_entry(&entry, &use, key, digest, outcome);
    taken = atomic_load_explicit(&journal->accepting, memory_order_relaxed) &&
            put(journal, &entry, deadline, &position);
    if (taken)
        atomic_fetch_add_explicit(&journal->records, 1, memory_order_relaxed);
    else
        atomic_fetch_add(&journal->lost, 1);
    if (taken)
        hsm_journal_wake(journal, durable || hsm_ring_is_filling(journal->ring));
    if (taken && (!durable || is_durable(journal, position, deadline)))
        return outcome;
    if (outcome != HSM_OK || continues_without_journal(journal, use.kind))
        return outcome;
    return count_refused(journal);
}

void
hsm_journal_count_call(struct hsm_journal *journal)
{
    if (journal != NULL)
        atomic_fetch_add_explicit(&journal->calls, 1, memory_order_relaxed);
}

void
hsm_journal_get_stats(const struct hsm_journal *journal, struct hsm_journal_stats *out)
{
    *out = (struct hsm_journal_stats){.records = journal->records,
                                      .lost = journal->lost,
                                      .refused = journal->refused,
                                      .calls = journal->calls,
                                      .checkpoints = journal->checkpoints,
                                      .failing = journal->failing};
}

void
hsm_journal_stats(const struct hsm_token *token, struct hsm_journal_stats *out)
{
    memset(out, 0, sizeof(*out));
    if (token->generation == hsm_fork_generation() && token->slot->journal != NULL)
        hsm_journal_get_stats(token->slot->journal, out);
}
