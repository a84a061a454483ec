/* audit_files.c - private keys in files. */
#define _GNU_SOURCE /* asprintf, O_NOFOLLOW */
#include "audit_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <openssl/crypto.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#define DEPTH_MAX    64 /* directories below the first */
#define FILES_MAX    1000000 /* further files are not read */
#define WINDOW       1048576 /* octets read at once */
#define HITS_MAX     8 /* reported per file */
#define TOKEN_OBJECT "token.object" /* in each token of SoftHSM's store */

/* ---- walking ---- */

static void
leave_out(struct hsm_walk *walk, const char *path)
{
    if (walk->unread++ == 0)
        snprintf(walk->first_unread, sizeof(walk->first_unread), "%s", path);
}

static void
visit_file(struct hsm_walk *walk, const char *path, int fd, const struct stat *about)
{
    if (walk->files >= FILES_MAX) {
        leave_out(walk, path);
        return;
    }
    walk->files++;
    walk->octets += (uint64_t)about->st_size;
    walk->file(walk->context, path, fd, (uint64_t)about->st_size);
}

static void visit(struct hsm_walk *walk, int parent, const char *name, const char *path,
                  unsigned depth);

/* Takes the descriptor over. */
static void
visit_directory(struct hsm_walk *walk, int fd, const char *path, unsigned depth)
{
    DIR *directory = fdopendir(fd);
    const struct dirent *entry;
    char below[PATH_MAX];

    if (directory == NULL || depth > DEPTH_MAX) {
        leave_out(walk, path);
        if (directory != NULL)
            closedir(directory);
        else
            close(fd);
        return;
    }
    while ((entry = readdir(directory)) != NULL) {
        int n = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (n < 0 || (size_t)n >= sizeof(below))
            leave_out(walk, path);
        else
            visit(walk, dirfd(directory), entry->d_name, below, depth + 1);
    }
    closedir(directory);
}

/* Skips symbolic links, devices, sockets and pipes: what they name is elsewhere. */
static void
visit(struct hsm_walk *walk, int parent, const char *name, const char *path, unsigned depth)
{
    struct stat about;
    int fd;

    if (fstatat(parent, name, &about, AT_SYMLINK_NOFOLLOW) != 0) {
        leave_out(walk, path);
        return;
    }
    if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))
        return;
    fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &about) != 0) {
        leave_out(walk, path);
        if (fd >= 0)
            close(fd);
    } else if (S_ISDIR(about.st_mode)) {
        visit_directory(walk, fd, path, depth);
    } else {
        if (S_ISREG(about.st_mode))
            visit_file(walk, path, fd, &about);
        close(fd);
    }
}

enum hsm_status
hsm_audit_walk(const char *path, struct hsm_walk *walk)
{
    char real[PATH_MAX];

    if (realpath(path, real) == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO;
    }
    visit(walk, AT_FDCWD, real, real, 0);
    return HSM_OK;
}

/* ---- searching ---- */

struct search {
    struct hsm_audit *audit;
    const struct hsm_scan *scan;
    struct hsm_walk walk;
    uint8_t *window; /* WINDOW + HSM_SCAN_OVERLAP octets */
    uint64_t with_keys; /* files in which a key was found */
    json_t *hits; /* of the present file */
    char what[128]; /* the first hit */
};

static void
keep_hit(void *context, const struct hsm_scan_hit *hit)
{
    struct search *search = context;
    json_t *one;

    if (json_array_size(search->hits) == 0)
        snprintf(search->what, sizeof(search->what), "%s at %" PRIu64, hit->form, hit->at);
    if (json_array_size(search->hits) >= HITS_MAX)
        return;
    one = hsm_audit_pack(search->audit, "{s:s, s:I}", "form", hit->form, "at", (json_int_t)hit->at);
    if (one != NULL && hit->scalar >= 0)
        (void)json_object_set_new(
            one, "point_sha256",
            json_string(hsm_scan_point_hash(search->scan, (size_t)hit->scalar)));
    if (json_array_append_new(search->hits, one) != 0)
        (void)hsm_audit_keep(search->audit, HSM_ERR_NOMEM);
}

/* Windows overlap, so that no key is divided between two. */
static bool
read_windows(struct search *search, int fd)
{
    size_t held = 0;
    uint64_t base = 0;
    ssize_t n;

    while ((n = read(fd, search->window + held, WINDOW + HSM_SCAN_OVERLAP - held)) != 0) {
        size_t fresh;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        held += (size_t)n;
        if (held < WINDOW + HSM_SCAN_OVERLAP)
            continue;
        fresh = held - HSM_SCAN_OVERLAP;
        hsm_scan_window(search->scan, search->window, held, fresh, base, keep_hit, search);
        memmove(search->window, search->window + fresh, HSM_SCAN_OVERLAP);
        held = HSM_SCAN_OVERLAP;
        base += fresh;
    }
    hsm_scan_window(search->scan, search->window, held, held, base, keep_hit, search);
    return true;
}

static char *
subject_of(const char *path)
{
    json_t *text = hsm_audit_text(path, strlen(path));
    const char *printable = json_string_value(text);
    char *out = NULL;

    if (printable == NULL || asprintf(&out, "file:%s", printable) < 0)
        out = NULL;
    json_decref(text);
    return out;
}

static void
state_file(struct search *search, const char *path, enum hsm_audit_check check, const char *found,
           json_t *evidence, enum hsm_audit_verdict verdict)
{
    char *subject = subject_of(path);

    if (subject == NULL) {
        (void)hsm_audit_keep(search->audit, HSM_ERR_NOMEM);
        json_decref(evidence);
        return;
    }
    hsm_audit_state(search->audit, &(struct hsm_audit_statement){
                                       .check = check,
                                       .subject = subject,
                                       .found = found,
                                       .evidence = evidence,
                                       .verdict = verdict,
                                   });
    free(subject);
}

/* SoftHSM's store is the token itself. Its keys are encrypted there, so the search does not find
 * them. */
static void
state_store(struct search *search, const char *path)
{
    const char *slash = strrchr(path, '/');
    char directory[PATH_MAX];

    if (slash == NULL || strcmp(slash + 1, TOKEN_OBJECT) != 0)
        return;
    snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
    state_file(search, directory, HSM_CHECK_TOKEN_STORE,
               "the store of a SoftHSM token: what keeps its keys is its PIN",
               hsm_audit_pack(search->audit, "{s:s}", "file", TOKEN_OBJECT), HSM_AUDIT_INFO);
}

static void
search_file(void *context, const char *path, int fd, uint64_t size)
{
    struct search *search = context;

    search->hits = json_array();
    if (search->hits == NULL) {
        (void)hsm_audit_keep(search->audit, HSM_ERR_NOMEM);
        return;
    }
    state_store(search, path);
    if (!read_windows(search, fd))
        leave_out(&search->walk, path);
    if (json_array_size(search->hits) > 0) {
        search->with_keys++;
        state_file(search, path, HSM_CHECK_FILE_KEY, search->what,
                   hsm_audit_pack(search->audit, "{s:I, s:O}", "size", (json_int_t)size, "hits",
                                  search->hits),
                   HSM_AUDIT_FINDING);
    }
    json_decref(search->hits);
}

static void
state_search(struct search *search, const char *path)
{
    const struct hsm_walk *walk = &search->walk;
    json_t *evidence = hsm_audit_pack(
        search->audit, "{s:I, s:I, s:I, s:o, s:i}", "files", (json_int_t)walk->files, "octets",
        (json_int_t)walk->octets, "unread", (json_int_t)walk->unread, "first_unread",
        walk->unread > 0 ? hsm_audit_text(walk->first_unread, strlen(walk->first_unread))
                         : json_null(),
        "scalars", (int)hsm_scan_scalars(search->scan));
    char found[160];

    snprintf(found, sizeof(found), "%" PRIu64 " files of %" PRIu64 " octets read, %" PRIu64 " not",
             walk->files, walk->octets, walk->unread);
    if (search->with_keys == 0)
        state_file(search, path, HSM_CHECK_FILE_KEY, "none", json_incref(evidence), HSM_AUDIT_PASS);
    state_file(search, path, HSM_CHECK_FILE_SEARCH, found, evidence,
               walk->unread == 0 ? HSM_AUDIT_PASS : HSM_AUDIT_UNTESTED);
}

enum hsm_status
hsm_audit_files(struct hsm_audit *audit, const char *path, const struct hsm_secret *scalars)
{
    DEFER(hsm_scan_free) struct hsm_scan *scan = NULL;
    struct search search = {.audit = audit};
    enum hsm_status st = hsm_scan_new(scalars, &scan);

    if (st != HSM_OK)
        return st;
    search.scan = scan;
    search.walk = (struct hsm_walk){.file = search_file, .context = &search};
    search.window = malloc(WINDOW + HSM_SCAN_OVERLAP);
    if (search.window == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_audit_walk(path, &search.walk);
    if (st == HSM_OK)
        state_search(&search, path);
    OPENSSL_cleanse(search.window, WINDOW + HSM_SCAN_OVERLAP); /* it may have held a key */
    free(search.window);
    return st == HSM_OK ? audit->failure : st;
}
