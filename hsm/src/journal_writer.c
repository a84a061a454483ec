/* journal_writer.c - the thread of a journal that writes its lines. */
#define _GNU_SOURCE /* sem_clockwait */
#include "journal_state_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "clock_internal.h"

#define RETRY_MS       200 /* after a failure to write */
#define ROTATE_MS      2000 /* after a file could not be begun */
#define ROTATE_WAIT_MS 100 /* for the index, when a file is full */
#define LOCK_STEP_MS   2
#define MIB            1048576ULL /* octets */
#define IDLE_LOOK_MS   1000 /* between looks at an idle ring */

/* ---- waiting ---- */

static void
wait_ms(struct hsm_journal *journal, unsigned ms)
{
    struct timespec until = hsm_clock_timespec(hsm_deadline_after(ms));

    while (sem_clockwait(&journal->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
        continue;
}

void
hsm_journal_wake(struct hsm_journal *journal, bool urgent)
{
    if (urgent && !atomic_exchange(&journal->urgent, true))
        sem_post(&journal->wake);
    else if (atomic_load(&journal->asleep) && atomic_exchange(&journal->asleep, false))
        sem_post(&journal->wake);
}

/* Sleep until the first entry comes; then let entries gather for flush_ms. */
static void
wait_for_entries(struct hsm_journal *journal, bool idle)
{
    if (atomic_load(&journal->failing)) {
        wait_ms(journal, RETRY_MS);
        return;
    }
    if (idle) {
        atomic_store(&journal->asleep, true);
        if (!atomic_load(&journal->urgent) && !atomic_load(&journal->stopping))
            wait_ms(journal, IDLE_LOOK_MS);
        atomic_store(&journal->asleep, false);
    }
    if (!atomic_load(&journal->urgent) && !atomic_load(&journal->stopping))
        wait_ms(journal, journal->config.flush_ms);
    atomic_store(&journal->urgent, false);
}

/* ---- lines ---- */

static enum hsm_status
put_own_line(struct hsm_journal *journal, const char *kind, const char *detail)
{
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = kind,
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = journal->config.program,
                                  .detail = detail};

    return hsm_file_line(&journal->file, &line);
}

/* The first use of a key in a file is preceded by a line that introduces the key. */
static enum hsm_status
introduce(struct hsm_journal *journal, const struct hsm_journal_key *key)
{
    struct hsm_journal_key *own =
        (struct hsm_journal_key *)key; /* introduced_in belongs to the writer */
    enum hsm_status st;
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = "key",
                                  .key = key->id,
                                  .digest = key->hash,
                                  .who = journal->config.program,
                                  .detail = key->detail};

    if (key->introduced_in == journal->file_number)
        return HSM_OK;
    st = hsm_file_line(&journal->file, &line);
    if (st == HSM_OK)
        own->introduced_in = journal->file_number;
    return st;
}

static enum hsm_status
put_entry(struct hsm_journal *journal, const struct hsm_ring_entry *entry)
{
    const struct hsm_line line = {
        .time_us = entry->time_us,
        .kind = hsm_use_word(entry->kind),
        .key = entry->key->id,
        .digest = entry->digest,
        .who = entry->who[0] != '\0' ? entry->who : journal->config.program,
        .outcome = entry->outcome,
    };
    enum hsm_status st = introduce(journal, entry->key);

    if (hsm_use_is_durable(entry->kind))
        journal->sync_wanted = true;
    return st == HSM_OK ? hsm_file_line(&journal->file, &line) : st;
}

/* Entries that were lost are at least counted, in their place. */
static enum hsm_status
put_lost(struct hsm_journal *journal)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    uint64_t lost = journal->lost;
    enum hsm_status st;

    if (lost == journal->lost_recorded)
        return HSM_OK;
    hsm_detail_put_number(detail, sizeof(detail), "records", lost - journal->lost_recorded);
    st = put_own_line(journal, "lost", detail);
    if (st == HSM_OK)
        journal->lost_recorded = lost;
    return st;
}

/* ---- to the disk ---- */

static void
publish_progress(struct hsm_journal *journal)
{
    struct hsm_file_state now;

    if (hsm_file_state(&journal->file, journal->calls, &now) != HSM_OK)
        return;
    pthread_mutex_lock(&journal->lock);
    journal->now = now;
    journal->committed = hsm_ring_taken(journal->ring) - (journal->holds ? 1 : 0);
    if (hsm_journal_is_due(journal))
        pthread_cond_signal(&journal->notary_wake);
    pthread_cond_broadcast(&journal->changed);
    pthread_mutex_unlock(&journal->lock);
}

static void
log_unwritten(const struct hsm_journal *journal, int error)
{
    hsm_log(HSM_LOG_ERROR, "journal %s: %s: cannot be written: %s", journal->config.dir,
            journal->file.name, strerror(error));
}

/* Logged when it changes; wakes the callers that wait for a line. */
static void
set_failing(struct hsm_journal *journal, bool failing, int error)
{
    if (atomic_load(&journal->failing) == failing)
        return;
    if (failing)
        log_unwritten(journal, error);
    else
        hsm_log(HSM_LOG_WARNING, "journal %s: %s: is written again; %llu uses of keys are missing",
                journal->config.dir, journal->file.name, (unsigned long long)journal->lost);
    pthread_mutex_lock(&journal->lock);
    atomic_store(&journal->failing, failing);
    pthread_cond_broadcast(&journal->changed);
    pthread_mutex_unlock(&journal->lock);
}

/* After fdatasync() has failed, the state of the disk is unknown, and another call does not
 * help. */
static enum hsm_status
to_disk(struct hsm_journal *journal)
{
    enum hsm_status st = journal->broken ? HSM_ERR_IO : hsm_file_flush(&journal->file);

    if (st == HSM_OK && journal->sync_wanted) {
        st = hsm_file_sync(&journal->file);
        journal->broken = st != HSM_OK;
        journal->sync_wanted = st != HSM_OK;
    }
    set_failing(journal, st != HSM_OK, errno);
    if (st == HSM_OK)
        publish_progress(journal);
    return st;
}

/* An entry that could not become a line, for lack of memory, is the first to be tried next time. */
static enum hsm_status
put_held(struct hsm_journal *journal)
{
    enum hsm_status st = put_entry(journal, &journal->held);

    if (st != HSM_OK) {
        set_failing(journal, true, ENOMEM);
        return st;
    }
    journal->holds = false;
    return hsm_file_has_room(&journal->file) ? HSM_OK : to_disk(journal);
}

/* True: there was work. */
static bool
drain(struct hsm_journal *journal)
{
    enum hsm_status st = HSM_OK;
    bool any = false;

    if (atomic_load(&journal->failing) && to_disk(journal) != HSM_OK)
        return true;
    while (st == HSM_OK && (journal->holds || hsm_ring_take(journal->ring, &journal->held))) {
        any = true;
        journal->holds = true;
        st = put_held(journal);
    }
    if (st == HSM_OK && journal->lost != journal->lost_recorded) {
        any = true;
        st = put_lost(journal);
    }
    if (st == HSM_OK && any)
        (void)to_disk(journal);
    return any;
}

/* ---- files ---- */

static void
queue_closed(struct hsm_journal *journal, const struct hsm_file_state *state)
{
    struct hsm_closed_file *closed = calloc(1, sizeof(*closed));

    pthread_mutex_lock(&journal->lock);
    if (closed == NULL) {
        closed = journal->spare;
        journal->spare = NULL;
    }
    if (closed != NULL) {
        closed->state = *state;
        closed->next = journal->closed;
        journal->closed = closed;
    }
    memset(&journal->now, 0, sizeof(journal->now));
    journal->notarised = 0;
    pthread_cond_signal(&journal->notary_wake);
    pthread_mutex_unlock(&journal->lock);
}

/* The file's last line states that nothing follows; the index is sent its final state. */
static void
close_file(struct hsm_journal *journal)
{
    struct hsm_file_state state;
    enum hsm_status st = put_own_line(journal, "close", NULL);

    journal->sync_wanted = true;
    if (st == HSM_OK)
        st = to_disk(journal);
    if (st == HSM_OK)
        st = hsm_file_state(&journal->file, journal->calls, &state);
    if (st == HSM_OK)
        queue_closed(journal, &state);
    hsm_file_end(&journal->file);
}

enum hsm_status
hsm_journal_begin(struct hsm_journal *journal, int64_t deadline)
{
    enum hsm_status st = hsm_file_begin(&journal->index, journal->calls, deadline, &journal->file);

    if (st != HSM_OK)
        return st;
    journal->file_number = 1;
    st = hsm_file_flush(&journal->file);
    if (st != HSM_OK)
        log_unwritten(journal, errno);
    return st;
}

/* The notary or another process keeps the lock for as long as a token takes for a checkpoint. */
static bool
lock_index_until(struct hsm_journal *journal, int64_t deadline)
{
    while (pthread_mutex_trylock(&journal->index_lock) != 0) {
        if (hsm_clock_ns() >= deadline)
            return false;
        hsm_clock_sleep_until(hsm_deadline_after(LOCK_STEP_MS));
    }
    return true;
}

/* The old file stays in use if no new one can be begun soon: uses of keys are waiting to be
 * written. */
static void
rotate(struct hsm_journal *journal)
{
    struct hsm_file next;
    int64_t deadline = hsm_deadline_after(ROTATE_WAIT_MS);
    enum hsm_status st = HSM_ERR_BUSY;

    if (journal->file.chain.octets < journal->config.rotate_mb * MIB ||
        atomic_load(&journal->failing) || hsm_clock_ns() < journal->rotates_after)
        return;
    if (lock_index_until(journal, deadline)) {
        st = hsm_file_begin(&journal->index, journal->calls, deadline, &next);
        pthread_mutex_unlock(&journal->index_lock);
    }
    if (st != HSM_OK) {
        journal->rotates_after = hsm_deadline_after(ROTATE_MS);
        return;
    }
    close_file(journal);
    journal->file = next;
    journal->file_number++;
    (void)to_disk(journal);
}

static void
last_lines(struct hsm_journal *journal)
{
    (void)drain(journal);
    if (!atomic_load(&journal->failing)) {
        close_file(journal);
        return;
    }
    hsm_log(HSM_LOG_ERROR, "journal %s: %s: entries that could not be written are lost",
            journal->config.dir, journal->file.name);
    hsm_file_end(&journal->file);
}

void *
hsm_journal_write(void *argument)
{
    struct hsm_journal *journal = argument;
    bool idle = false;

    while (!atomic_load(&journal->stopping)) {
        wait_for_entries(journal, idle);
        idle = !drain(journal);
        hsm_journal_forget_keys(journal);
        rotate(journal);
    }
    last_lines(journal);
    return NULL;
}
