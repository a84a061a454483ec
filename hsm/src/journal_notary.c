/* journal_notary.c - the thread of a journal that has checkpoints signed and keeps the index. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include "journal_state_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "es256_internal.h"
#include "journal_note_internal.h"
#include "signer_internal.h"

#define DAY_US   86400000000LL
#define RETRY_S  1 /* after the end of a file could not be written to the index */
#define INDEX_MS 3000 /* for the index; twice that is less than the end of a journal waits */

/* Not journaled: the line with the signature is the record of it. */
static enum hsm_status
sign(struct hsm_journal *journal, struct hsm_journal_note *note, uint8_t digest[HSM_SHA256_LEN])
{
    struct hsm_signer *signer = journal->signer;
    char text[HSM_JOURNAL_NOTE_MAX];
    struct hsm_request request = {.digest = digest, .verify = true, .unrecorded = true};
    enum hsm_status st;

    if (signer == NULL)
        return HSM_ERR_NOT_FOUND;
    memcpy(note->key_hint, journal->signer_hint, sizeof(note->key_hint));
    st = hsm_note_text(note, text);
    if (st == HSM_OK)
        st = hsm_sha256(text, strlen(text), digest);
    if (st != HSM_OK)
        return st;
    request.patience.deadline = hsm_deadline_after(signer->slot->settings.op_timeout_ms);
    return hsm_signer_sign(signer, &request, note->sig);
}

struct note_line {
    const char *kind;
    struct hsm_file_state *file; /* the file, or the writer's; a signature counts as its call */
    uint64_t size;
    uint8_t root[HSM_SHA256_LEN];
    bool of_index;
    bool is_end;
};

/* Signed if possible. HSM_ERR_NOT_FOUND: no signature was available. */
static enum hsm_status
append_note(struct hsm_journal *journal, const struct note_line *about)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    char text[HSM_NOTE_SIG_TEXT > HSM_JOURNAL_HASH_HEX ? HSM_NOTE_SIG_TEXT
                                                       : HSM_JOURNAL_HASH_HEX + 1];
    uint8_t digest[HSM_SHA256_LEN];
    struct hsm_journal_note note = {.size = about->size};
    struct hsm_line line = {.time_us = hsm_time_now_us(),
                            .kind = about->kind,
                            .key = HSM_JOURNAL_WITHOUT_KEY,
                            .who = journal->config.program,
                            .detail = detail};
    enum hsm_status signed_st;
    enum hsm_status st;

    memcpy(note.root, about->root, sizeof(note.root));
    hsm_time_put(line.time_us, note.time);
    hsm_index_origin(journal->index.id, about->of_index ? HSM_JOURNAL_INDEX : about->file->name,
                     note.origin);
    signed_st = sign(journal, &note, digest);
    if (signed_st != HSM_OK && !about->is_end)
        return signed_st;
    if (signed_st == HSM_OK)
        about->file->calls++;
    hsm_detail_put(detail, sizeof(detail), "file", about->file->name);
    hsm_detail_put_number(detail, sizeof(detail), "size", about->size);
    hsm_hex_put(about->root, HSM_SHA256_LEN, text);
    hsm_detail_put(detail, sizeof(detail), "root", text);
    if (about->is_end)
        hsm_detail_put_number(detail, sizeof(detail), "octets", about->file->octets);
    hsm_detail_put_number(detail, sizeof(detail), "calls", about->file->calls);
    if (signed_st == HSM_OK && hsm_note_sig_format(&note, text) == HSM_OK) {
        hsm_detail_put(detail, sizeof(detail), "at", note.time);
        hsm_detail_put(detail, sizeof(detail), "sig", text);
        line.key = journal->signer_id;
        line.digest = digest;
    }
    st = hsm_index_append(&journal->index, &line);
    if (st == HSM_OK && line.digest == digest)
        journal->checkpoints++;
    return st == HSM_OK ? signed_st : st;
}

/* The index's own checkpoint, over all lines in it, and so over all files. */
static enum hsm_status
seal_index(struct hsm_journal *journal, struct hsm_file_state *by)
{
    struct note_line line = {
        .kind = "checkpoint", .file = by, .size = journal->index.chain.tree.size, .of_index = true};
    enum hsm_status st = hsm_merkle_root(&journal->index.chain.tree, line.root);

    return st == HSM_OK ? append_note(journal, &line) : st;
}

/* The end was recorded before; a later step failed. */
static bool
has_ended(const struct hsm_index *index, const char *name)
{
    const struct hsm_entry *entry = hsm_entries_find(&index->entries, name);

    return entry != NULL && entry->state != HSM_ENTRY_OPEN;
}

/* A checkpoint covers only lines that are on the disk: after a power failure, lines that it covers
 * and that are missing would look like lines that somebody removed. The writer syncs a file that
 * has ended. */
static enum hsm_status
sync_lines(const struct hsm_journal *journal, const char *name)
{
    int fd = openat(journal->index.dir_fd, name, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fdatasync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return good ? HSM_OK : HSM_ERR_IO;
}

/* Other processes keep the index while a token signs for them. HSM_ERR_IO: for too long, logged
 * when it begins and when it has ended. */
static enum hsm_status
lock_index(struct hsm_journal *journal)
{
    enum hsm_status st = hsm_index_lock_until(&journal->index, hsm_deadline_after(INDEX_MS));
    bool was_kept = journal->index_kept;

    journal->index_kept = st == HSM_ERR_BUSY;
    if (journal->index_kept && !was_kept)
        hsm_log(HSM_LOG_ERROR,
                "journal %s: another process has kept the lock of its index for %d s",
                journal->config.dir, INDEX_MS / 1000);
    if (!journal->index_kept && was_kept)
        hsm_log(HSM_LOG_INFO, "journal %s: its index is available again", journal->config.dir);
    return journal->index_kept ? HSM_ERR_IO : st;
}

static enum hsm_status
checkpoint(struct hsm_journal *journal, const struct hsm_file_state *state, bool is_end)
{
    struct hsm_file_state file = *state;
    struct note_line line = {.kind = is_end ? "file-close" : "file-checkpoint",
                             .file = &file,
                             .size = file.size,
                             .is_end = is_end};
    enum hsm_status st = is_end ? HSM_OK : sync_lines(journal, file.name);

    if (st != HSM_OK)
        return st;
    memcpy(line.root, file.root, sizeof(line.root));
    pthread_mutex_lock(&journal->index_lock);
    st = lock_index(journal);
    if (st == HSM_OK && !(is_end && has_ended(&journal->index, file.name))) {
        st = append_note(journal, &line);
        if (st == HSM_OK)
            st = seal_index(journal, &file);
    }
    if (hsm_index_sync(&journal->index) != HSM_OK)
        st = HSM_ERR_IO;
    hsm_index_unlock(&journal->index);
    pthread_mutex_unlock(&journal->index_lock);
    return st;
}

static void
retain(struct hsm_journal *journal)
{
    int64_t since = hsm_time_now_us() - journal->config.retain_days * DAY_US;

    if (journal->config.retain_days == 0)
        return;
    pthread_mutex_lock(&journal->index_lock);
    if (lock_index(journal) == HSM_OK && hsm_index_retain(&journal->index, since) != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "journal %s: files older than retain-days could not all be removed",
                journal->config.dir);
    hsm_index_unlock(&journal->index);
    pthread_mutex_unlock(&journal->index_lock);
}

/* The thread's next work, copied so that it needs no lock. */
struct work {
    struct hsm_file_state now;
    bool is_new; /* if false there is nothing to sign: an idle program leaves the token alone */
    struct hsm_closed_file *closed; /* files whose end is not in the index yet */
    bool stopping;
};

bool
hsm_journal_is_due(const struct hsm_journal *journal)
{
    return journal->now.size >= journal->notarised + journal->config.checkpoint_records;
}

/* A checkpoint that fails counts as made: the next one is tried at its regular time. */
static void
wait_for_work(struct hsm_journal *journal, struct work *out)
{
    bool retry = out->closed != NULL;
    unsigned wait_s = retry ? RETRY_S : journal->config.checkpoint_s;
    struct timespec until = hsm_clock_timespec(hsm_deadline_after(wait_s * 1000));
    struct hsm_closed_file **end = &journal->closed;
    int rc = 0;

    pthread_mutex_lock(&journal->lock);
    while (rc == 0 && !journal->notary_stopping && journal->closed == NULL &&
           !hsm_journal_is_due(journal))
        rc = pthread_cond_clockwait(&journal->notary_wake, &journal->lock, CLOCK_MONOTONIC, &until);
    out->now = journal->now;
    out->is_new = retry ? hsm_journal_is_due(journal) : journal->now.size > journal->notarised;
    if (out->is_new)
        journal->notarised = journal->now.size;
    while (*end != NULL)
        end = &(*end)->next;
    *end = out->closed; /* retries follow new work */
    out->closed = journal->closed;
    journal->closed = NULL;
    out->stopping = journal->notary_stopping;
    pthread_mutex_unlock(&journal->lock);
}

/* False: the index could not be written, and the end must be recorded again. */
static bool
close_one(struct hsm_journal *journal, const struct hsm_closed_file *closed)
{
    enum hsm_status st = checkpoint(journal, &closed->state, true);

    if (st == HSM_ERR_IO || st == HSM_ERR_NOMEM)
        return false;
    if (st != HSM_OK && journal->signer != NULL)
        hsm_log(HSM_LOG_ERROR, "journal %s: %s: ended without a signed checkpoint",
                journal->config.dir, closed->state.name);
    return true;
}

/* Files that stay in the list are tried again, all of them later if another process keeps the
 * index. If the end of a file is never recorded, the next process that starts records it. */
static void
close_files(struct hsm_journal *journal, struct work *work)
{
    struct hsm_closed_file **link = &work->closed;
    bool is_kept = false;

    while (*link != NULL) {
        struct hsm_closed_file *closed = *link;
        bool is_done = !is_kept && close_one(journal, closed);

        is_kept = journal->index_kept;
        if (!is_done && !work->stopping) {
            link = &closed->next;
            continue;
        }
        *link = closed->next;
        free(closed);
    }
    if (!is_kept)
        retain(journal);
}

static void
look_at(struct hsm_journal *journal, const struct hsm_file_state *now, bool *failing)
{
    enum hsm_status st = checkpoint(journal, now, false);

    if (st != HSM_OK && !*failing)
        hsm_log(HSM_LOG_ERROR, "journal %s: %s: no checkpoint: %s", journal->config.dir, now->name,
                hsm_status_text(st));
    *failing = st != HSM_OK;
}

void *
hsm_journal_notarise(void *argument)
{
    struct hsm_journal *journal = argument;
    struct work work = {.stopping = false};
    bool failing = false;

    retain(journal);
    while (!work.stopping) {
        wait_for_work(journal, &work);
        if (work.closed != NULL)
            close_files(journal, &work);
        if (work.is_new && !work.stopping)
            look_at(journal, &work.now, &failing);
    }
    pthread_mutex_lock(&journal->lock);
    journal->notary_ended = true;
    pthread_cond_broadcast(&journal->changed);
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}
