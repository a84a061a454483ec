/* journal.c - sti-hsm journal: read, verify, prove and export the uses of keys. */
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/pem.h>

#include <hsm/defer.h>
#include <hsm/journal.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "commands.h"

#define PEM_MAX   65536 /* octets of a public key's file */
#define NOTES_MAX 1024 /* checkpoints in a file */
#define FILE_MAX  (NOTES_MAX * HSM_JOURNAL_NOTE_MAX) /* octets, also of a proof */
#define DASH      "\xe2\x80\x94 " /* with which a signature's line begins */

DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)

/* ---- what the command line names ---- */

static enum hsm_status
directory(const struct arguments *arguments, const char **out)
{
    const char *dir = arguments->dir != NULL ? arguments->dir : getenv("STI_JOURNAL");

    if (dir == NULL)
        return options_refuse("no journal: neither --dir nor $STI_JOURNAL");
    *out = dir;
    return HSM_OK;
}

static enum hsm_status
tell(enum hsm_status status, const struct hsm_reason *why)
{
    if (status != HSM_OK && why->text[0] != '\0')
        hsm_log(HSM_LOG_ERROR, "%s", why->text);
    return status;
}

static enum hsm_status
read_public_key(const char *path, EVP_PKEY **out)
{
    DEFER(free) uint8_t *text = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, PEM_MAX, &text, &len);
    EVP_PKEY *key = NULL;
    BIO *bio;

    if (st != HSM_OK)
        return st;
    bio = BIO_new_mem_buf(text, (int)len);
    if (bio != NULL)
        key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (key == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: not a public key (PEM)", path);
        return HSM_ERR_MALFORMED;
    }
    *out = key;
    return HSM_OK;
}

static enum hsm_status
number_of(const char *text, const char *option, uint64_t *out)
{
    long long number = 0;
    enum hsm_status st = options_number(option, text, 0, LLONG_MAX, &number);

    if (st == HSM_OK)
        *out = (uint64_t)number;
    return st;
}

/* Checkpoints in sequence; texts are owned. */
struct kept {
    char *text[NOTES_MAX + 1];
    size_t count;
};

static void
kept_clear(struct kept *kept)
{
    for (size_t i = 0; i < kept->count; i++)
        free(kept->text[i]);
}

/* Each ends with its signature line. */
static enum hsm_status
read_kept(const char *path, struct kept *out)
{
    DEFER(free) uint8_t *octets = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, FILE_MAX, &octets, &len);
    char *at = (char *)octets;

    while (st == HSM_OK && *at != '\0') {
        char *dash = strstr(at, "\n" DASH);
        char *end = dash != NULL ? strchr(dash + 1, '\n') : NULL;
        size_t note = end != NULL ? (size_t)(end + 1 - at) : strlen(at);

        if (out->count == NOTES_MAX)
            return options_refuse("--checkpoint: too many of them");
        out->text[out->count] = strndup(at, note);
        st = out->text[out->count] != NULL ? HSM_OK : HSM_ERR_NOMEM;
        out->count += st == HSM_OK ? 1 : 0;
        at += note;
        at += strspn(at, "\n");
    }
    return st;
}

/* ---- show ---- */

struct show {
    const struct arguments *arguments;
    bool json;
};

static void
put_json(const char *name, const char *value, const char *behind)
{
    printf("\"%s\":\"", name);
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            putchar('\\');
        putchar(*c);
    }
    printf("\"%s", behind);
}

static void
show_json(const char *file, const struct hsm_journal_record *record)
{
    putchar('{');
    put_json("file", file, ",");
    printf("\"record\":%" PRIu64 ",", record->number);
    put_json("time", record->time, ",");
    put_json("kind", record->kind, ",");
    put_json("key", record->key, ",");
    put_json("digest", record->digest, ",");
    put_json("who", record->who, ",");
    put_json("outcome", record->outcome, ",");
    put_json("detail", record->detail, "}\n");
}

static bool
is_wanted(const char *wanted, const char *value)
{
    return wanted == NULL || strcmp(wanted, value) == 0;
}

static bool
show_one(void *context, const char *file, const struct hsm_journal_record *record)
{
    const struct show *show = context;

    if (!is_wanted(show->arguments->kind, record->kind) ||
        !is_wanted(show->arguments->who, record->who) ||
        !is_wanted(show->arguments->digest_of, record->digest))
        return true;
    if (show->json)
        show_json(file, record);
    else
        printf("%s %" PRIu64 "  %s  %-12s %s  %s  %s  %s%s%s\n", file, record->number, record->time,
               record->kind, record->key, record->digest, record->who, record->outcome,
               strcmp(record->detail, "-") != 0 ? "  " : "",
               strcmp(record->detail, "-") != 0 ? record->detail : "");
    return true;
}

static enum hsm_status
show_records(const struct arguments *arguments, bool json)
{
    struct show show = {arguments, json};
    struct hsm_reason why = {""};
    const char *dir = NULL;
    enum hsm_status st = directory(arguments, &dir);

    if (st != HSM_OK)
        return st;
    if (arguments->file != NULL)
        st = hsm_journal_read(dir, arguments->file, show_one, &show, &why);
    else
        st = hsm_journal_read_all(dir, show_one, &show, &why);
    return tell(st, &why);
}

enum hsm_status
journal_show(const struct arguments *arguments)
{
    return show_records(arguments, arguments->json);
}

/* ---- verify ---- */

static void
print_finding(void *context, const struct hsm_journal_finding *finding)
{
    const char *weight = finding->weight == HSM_JOURNAL_FAULT ? "FAULT " : "note  ";

    if (context != NULL) {
        printf("{\"weight\":\"%s\",", finding->weight == HSM_JOURNAL_FAULT ? "fault" : "note");
        put_json("file", finding->file, ",");
        if (finding->has_place)
            printf("\"record\":%" PRIu64 ",\"octet\":%" PRIu64 ",", finding->record,
                   finding->octet);
        put_json("text", finding->text, "}\n");
        return;
    }
    printf("%s  %s: ", weight, finding->file);
    if (finding->has_place)
        printf("record %" PRIu64 ", octet %" PRIu64 ": ", finding->record, finding->octet);
    printf("%s\n", finding->text);
}

static void
print_summary(const struct hsm_journal_summary *s, bool json)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"files", s->files},
        {"records", s->records},
        {"uses", s->uses},
        {"unspecified", s->unspecified},
        {"lost", s->lost},
        {"checkpoints", s->checkpoints},
        {"unsecured", s->unsecured},
        {"removed", s->removed},
        {"endedEarly", s->ended_early},
        {"calls", s->calls},
        {"faults", s->faults},
    };

    if (json)
        putchar('{');
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (json)
            printf("%s\"%s\":%" PRIu64, i > 0 ? "," : "", rows[i].name, rows[i].value);
        else
            printf("%-12s  %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
    if (json)
        printf("}\n");
}

/* The token's own count must equal the journal's, or the token was used without the journal. */
static enum hsm_status
reconcile(const struct arguments *arguments, const struct hsm_journal_summary *summary)
{
    uint64_t counted = 0;
    uint64_t before = 0;
    enum hsm_status st = number_of(arguments->token_count, "token-count", &counted);

    if (st == HSM_OK && arguments->counted_before != NULL)
        st = number_of(arguments->counted_before, "counted-before", &before);
    if (st != HSM_OK)
        return st;
    if (counted < before)
        return options_refuse("--token-count is less than --counted-before");
    counted -= before;
    if (counted == summary->calls) {
        printf("the token counted %" PRIu64 " signatures, and so did the journal\n", counted);
        return HSM_OK;
    }
    if (counted > summary->calls && summary->ended_early > 0) {
        printf("the token counted %" PRIu64 " signatures, the journal %" PRIu64
               " and what processes did not write that ended early\n",
               counted, summary->calls);
        return HSM_OK;
    }
    printf("FAULT   the token counted %" PRIu64 " signatures, the journal %" PRIu64 "\n", counted,
           summary->calls);
    return HSM_ERR_UNTRUSTED;
}

enum hsm_status
journal_verify(const struct arguments *arguments)
{
    DEFER(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEAR_AFTER(kept_clear) struct kept kept = {.count = 0};
    bool json = arguments->json;
    struct hsm_journal_verify_config config = {.tell = print_finding,
                                               .context = json ? &json : NULL};
    struct hsm_journal_summary summary;
    enum hsm_status st = directory(arguments, &config.dir);
    enum hsm_status verdict;

    if (st == HSM_OK && arguments->public_key != NULL)
        st = read_public_key(arguments->public_key, &key);
    if (st == HSM_OK && arguments->checkpoint != NULL)
        st = read_kept(arguments->checkpoint, &kept);
    if (st != HSM_OK)
        return st;
    config.key = key;
    config.notes = (const char *const *)kept.text;
    verdict = hsm_journal_verify(&config, &summary);
    if (verdict != HSM_OK && verdict != HSM_ERR_UNTRUSTED)
        return verdict;
    if (key == NULL && !json)
        printf("note    the key of the checkpoints is what lies in the journal: name a copy with "
               "--public-key\n");
    print_summary(&summary, json);
    if (arguments->token_count != NULL)
        st = reconcile(arguments, &summary);
    return verdict != HSM_OK ? verdict : st;
}

/* ---- checkpoints ---- */

/* The last checkpoint of each file, in the order in which the files first appear. */
struct last {
    struct hsm_journal_note *note;
    size_t count;
    bool all; /* all checkpoints, not only the last */
    enum hsm_status status;
};

static struct hsm_journal_note *
place_for(struct last *last, const struct hsm_journal_note *note)
{
    struct hsm_journal_note *larger;

    for (size_t i = 0; i < last->count && !last->all; i++) {
        if (strcmp(last->note[i].origin, note->origin) == 0)
            return &last->note[i];
    }
    larger = realloc(last->note, (last->count + 1) * sizeof(*last->note));
    if (larger == NULL)
        return NULL;
    last->note = larger;
    return &last->note[last->count++];
}

static bool
keep(void *context, const struct hsm_journal_note *note)
{
    struct last *last = context;
    struct hsm_journal_note *place = place_for(last, note);

    last->status = place != NULL ? HSM_OK : HSM_ERR_NOMEM;
    if (place != NULL)
        *place = *note;
    return place != NULL;
}

static enum hsm_status
print_note(const struct hsm_journal_note *note)
{
    char text[HSM_JOURNAL_NOTE_MAX];
    enum hsm_status st = hsm_journal_note_format(note, text);

    if (st == HSM_OK)
        printf("%s\n", text);
    return st;
}

enum hsm_status
journal_export(const struct arguments *arguments)
{
    struct last last = {.all = arguments->file != NULL};
    struct hsm_reason why = {""};
    const char *dir = NULL;
    enum hsm_status st;

    if (arguments->json)
        return show_records(arguments, true);
    st = directory(arguments, &dir);
    if (st == HSM_OK)
        st = hsm_journal_notes(dir, arguments->file, keep, &last, &why);
    if (st == HSM_OK)
        st = last.status;
    for (size_t i = 0; st == HSM_OK && i < last.count; i++)
        st = print_note(&last.note[i]);
    if (st == HSM_OK && last.count == 0)
        st = hsm_refuse(&why, HSM_ERR_NOT_FOUND, "%s: no checkpoint", dir);
    free(last.note);
    return tell(st, &why);
}

/* ---- proofs ---- */

struct place {
    const char *digest;
    char file[HSM_JOURNAL_NAME_MAX + 1];
    uint64_t number;
    bool found;
};

static bool
look_for_digest(void *context, const char *file, const struct hsm_journal_record *record)
{
    struct place *place = context;

    if (strcmp(record->digest, place->digest) != 0)
        return true;
    snprintf(place->file, sizeof(place->file), "%s", file);
    place->number = record->number;
    place->found = true;
    return false;
}

/* --file and --record, or the first record of --signed-digest. */
static enum hsm_status
find_record(const struct arguments *arguments, const char *dir, struct place *out)
{
    struct hsm_reason why = {""};
    enum hsm_status st;

    if ((arguments->file != NULL) != (arguments->record != NULL) ||
        (arguments->file != NULL) == (arguments->digest_of != NULL))
        return options_refuse("either --file and --record, or --signed-digest");
    if (arguments->file != NULL) {
        snprintf(out->file, sizeof(out->file), "%s", arguments->file);
        return number_of(arguments->record, "record", &out->number);
    }
    out->digest = arguments->digest_of;
    st = hsm_journal_read_all(dir, look_for_digest, out, &why);
    if (st == HSM_OK && !out->found)
        st = hsm_refuse(&why, HSM_ERR_NOT_FOUND, "no record has that digest");
    return tell(st, &why);
}

static bool
is_of_file(const struct hsm_journal_note *note, const char *file)
{
    const char *slash = strrchr(note->origin, '/');

    return slash != NULL && strcmp(slash + 1, file) == 0;
}

/* The checkpoint that was kept, or else the file's last. */
static enum hsm_status
find_note(const struct arguments *arguments, const char *dir, const char *file,
          struct hsm_journal_note *out, struct hsm_reason *why)
{
    CLEAR_AFTER(kept_clear) struct kept kept = {.count = 0};
    struct last last = {.all = false};
    enum hsm_status st;

    if (arguments->checkpoint == NULL) {
        st = hsm_journal_notes(dir, file, keep, &last, why);
        if (st == HSM_OK && last.count == 0)
            st = hsm_refuse(why, HSM_ERR_NOT_FOUND, "%s: it has no checkpoint yet", file);
        if (st == HSM_OK)
            *out = last.note[0];
        free(last.note);
        return st;
    }
    st = read_kept(arguments->checkpoint, &kept);
    for (size_t i = kept.count; st == HSM_OK && i > 0; i--) {
        st = hsm_journal_note_parse(kept.text[i - 1], out, why);
        if (st == HSM_OK && is_of_file(out, file))
            return HSM_OK;
    }
    return st == HSM_OK ? hsm_refuse(why, HSM_ERR_NOT_FOUND, "%s: no checkpoint of it in %s", file,
                                     arguments->checkpoint)
                        : st;
}

static enum hsm_status
check_proof(const struct arguments *arguments)
{
    DEFER(EVP_PKEY_free) EVP_PKEY *key = NULL;
    DEFER(free) uint8_t *text = NULL;
    struct hsm_reason why = {""};
    struct hsm_journal_note note;
    char record[HSM_JOURNAL_LINE_MAX + 1];
    size_t len = 0;
    enum hsm_status st;

    if (arguments->public_key == NULL)
        return options_refuse("--check wants --public-key");
    st = read_public_key(arguments->public_key, &key);
    if (st == HSM_OK)
        st = hsm_file_read(arguments->check, FILE_MAX, &text, &len);
    if (st == HSM_OK)
        st = hsm_journal_proof_check((const char *)text, key, record, &note, &why);
    if (st == HSM_OK)
        printf("%s\nis in %s, of %" PRIu64 " records, checkpoint of %s\n", record, note.origin,
               note.size, note.time);
    return tell(st, &why);
}

static enum hsm_status
make_proof(const struct arguments *arguments)
{
    DEFER(hsm_journal_log_close) struct hsm_journal_log *log = NULL;
    struct hsm_journal_note note;
    struct hsm_reason why = {""};
    struct place place = {.found = false};
    const char *dir = NULL;
    char *text = NULL;
    enum hsm_status st = directory(arguments, &dir);

    if (st == HSM_OK)
        st = find_record(arguments, dir, &place);
    if (st != HSM_OK)
        return st;
    st = find_note(arguments, dir, place.file, &note, &why);
    if (st == HSM_OK)
        st = hsm_journal_log_open(dir, place.file, &log, &why);
    if (st == HSM_OK)
        st = hsm_journal_prove(log, place.number, &note, &text, &why);
    if (st == HSM_OK)
        fputs(text, stdout);
    free(text);
    return tell(st, &why);
}

enum hsm_status
journal_prove(const struct arguments *arguments)
{
    return arguments->check != NULL ? check_proof(arguments) : make_proof(arguments);
}
