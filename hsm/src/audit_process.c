/*
 * audit_process.c - private keys in the memory of running processes.
 *
 * All mappings are read through /proc/PID/mem. Pages that were never touched, or that are a file's
 * own and not in memory, hold no data of the process; /proc/PID/pagemap tells which pages are
 * present.
 */
#define _GNU_SOURCE /* asprintf */
#include "audit_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/wait.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#define WINDOW       1048576 /* octets read at once */
#define PAGES        4096 /* pagemap entries read at once */
#define PRESENT      (1ULL << 63) /* Documentation/admin-guide/mm/pagemap.rst */
#define SWAPPED      (1ULL << 62)
#define MAPPING_MAX  (1ULL << 36) /* octets; larger ones are only reservations: not searched */
#define HITS_MAX     16 /* reported per process */
#define FAMILY_MAX   256 /* processes: one and its descendants */
#define NAME_MAX_    64
#define PLANTED      2 /* values */
#define MAPPINGS_MAX 1048576

struct memory {
    struct hsm_audit *audit;
    const struct hsm_scan *scan;
    pid_t pid;
    char name[NAME_MAX_];
    int mem;
    int pagemap;
    uint8_t *window; /* WINDOW + HSM_SCAN_OVERLAP octets */
    size_t held; /* octets in it, of which the last end at `at` */
    uint64_t at;
    char mapping[128]; /* the mapping that is being read */
    bool constant; /* it belongs to a file and is not writable */
    uint64_t constants; /* encodings found in constant mappings */
    uint64_t mappings, octets, unread; /* their number; octets read; octets of present pages that
                                        * could not be read */
    json_t *hits;
    uint64_t hit_count;
    uint8_t *forms_found; /* for the positive control, by index; NULL: no control */
};

static void
keep_hit(void *context, const struct hsm_scan_hit *hit)
{
    struct memory *memory = context;
    char where[32];
    json_t *one;

    if (hit->scalar < 0 && memory->constant) {
        memory->constants++; /* GnuTLS, for one, contains keys for its self-tests */
        return;
    }
    memory->hit_count++;
    if (memory->forms_found != NULL && hit->scalar >= 0)
        memory->forms_found[hit->index] = 1;
    if (json_array_size(memory->hits) >= HITS_MAX)
        return;
    snprintf(where, sizeof(where), "0x%" PRIx64, hit->at);
    one = hsm_audit_pack(memory->audit, "{s:s, s:s, s:o}", "form", hit->form, "at", where,
                         "mapping", hsm_audit_text(memory->mapping, strlen(memory->mapping)));
    if (one != NULL && hit->scalar >= 0)
        (void)json_object_set_new(
            one, "point_sha256",
            json_string(hsm_scan_point_hash(memory->scan, (size_t)hit->scalar)));
    if (json_array_append_new(memory->hits, one) != 0)
        (void)hsm_audit_keep(memory->audit, HSM_ERR_NOMEM);
}

/* ---- one process ---- */

/* Search all octets held, except a tail that may continue. */
static void
search_held(struct memory *memory, bool more)
{
    size_t fresh = memory->held;

    if (more)
        fresh = memory->held > HSM_SCAN_OVERLAP ? memory->held - HSM_SCAN_OVERLAP : 0;
    hsm_scan_window(memory->scan, memory->window, memory->held, fresh, memory->at - memory->held,
                    keep_hit, memory);
    memmove(memory->window, memory->window + fresh, memory->held - fresh);
    memory->held -= fresh;
}

/* Adjacent pages; a gap ends what may be divided between windows. */
static void
read_run(struct memory *memory, uint64_t from, uint64_t end)
{
    if (memory->at != from)
        search_held(memory, false);
    memory->at = from;
    while (memory->at < end) {
        size_t room = WINDOW + HSM_SCAN_OVERLAP - memory->held;
        size_t wanted = end - memory->at < room ? (size_t)(end - memory->at) : room;
        ssize_t n = pread(memory->mem, memory->window + memory->held, wanted, (off_t)memory->at);

        if (n <= 0) {
            memory->unread += end - memory->at;
            search_held(memory, false);
            return;
        }
        memory->held += (size_t)n;
        memory->at += (uint64_t)n;
        memory->octets += (uint64_t)n;
        search_held(memory, true);
    }
}

static void
read_mapping(struct memory *memory, uint64_t from, uint64_t end)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t entries[PAGES];

    memory->mappings++;
    while (from < end) {
        size_t wanted = (size_t)((end - from) / page < PAGES ? (end - from) / page : PAGES);
        ssize_t n = pread(memory->pagemap, entries, wanted * sizeof(entries[0]),
                          (off_t)(from / page * sizeof(entries[0])));

        if (n != (ssize_t)(wanted * sizeof(entries[0])) || wanted == 0) {
            memory->unread += end - from;
            return;
        }
        for (size_t i = 0; i < wanted; i++) {
            if ((entries[i] & (PRESENT | SWAPPED)) != 0)
                read_run(memory, from + i * page, from + (i + 1) * page);
        }
        from += wanted * page;
    }
}

/* "FROM-END PERMISSIONS OFFSET DEVICE INODE PATH". The kernel's own pages hold no data of ours.
 * What a read-only mapping of a file holds is not the process's own data, except for a known
 * scalar. */
static void
read_line(struct memory *memory, const char *line)
{
    uint64_t from = 0;
    uint64_t end = 0;
    uint64_t inode = 0;
    char permissions[5] = "";
    int path = 0;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64 " %n", &from, &end, permissions,
               &inode, &path) < 4 ||
        end <= from)
        return;
    search_held(memory, false); /* the end of the preceding mapping */
    memory->constant = inode != 0 && strchr(permissions, 'w') == NULL;
    snprintf(memory->mapping, sizeof(memory->mapping), "%s", line + path);
    if (strncmp(memory->mapping, "[vvar", 5) == 0 || strcmp(memory->mapping, "[vsyscall]") == 0)
        return;
    if (end - from > MAPPING_MAX)
        memory->unread += end - from;
    else
        read_mapping(memory, from, end);
}

static enum hsm_status
open_of(pid_t pid, const char *what, int *out)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, what);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        enum hsm_status st = errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_DENIED;

        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return st;
    }
    *out = fd;
    return HSM_OK;
}

static enum hsm_status
read_maps(struct memory *memory)
{
    char *line = NULL;
    size_t size = 0;
    int fd = -1;
    FILE *maps;
    enum hsm_status st = open_of(memory->pid, "maps", &fd);

    if (st != HSM_OK)
        return st;
    maps = fdopen(fd, "r");
    if (maps == NULL) {
        close(fd);
        return HSM_ERR_NOMEM;
    }
    while (memory->mappings < MAPPINGS_MAX && getline(&line, &size, maps) > 0) {
        line[strcspn(line, "\n")] = '\0';
        read_line(memory, line);
    }
    search_held(memory, false);
    free(line);
    fclose(maps);
    return HSM_OK;
}

static void
read_name(struct memory *memory)
{
    int fd = -1;
    ssize_t n = 0;

    if (open_of(memory->pid, "comm", &fd) == HSM_OK) {
        n = read(fd, memory->name, sizeof(memory->name) - 1);
        close(fd);
    }
    memory->name[n > 0 ? n : 0] = '\0';
    memory->name[strcspn(memory->name, "\n")] = '\0';
}

/* The window holds a copy of what is read, and is wiped. */
static enum hsm_status
search_process(struct memory *memory)
{
    enum hsm_status st = open_of(memory->pid, "mem", &memory->mem);

    if (st != HSM_OK)
        return st;
    st = open_of(memory->pid, "pagemap", &memory->pagemap);
    if (st == HSM_OK) {
        memory->window = malloc(WINDOW + HSM_SCAN_OVERLAP);
        memory->hits = json_array();
        read_name(memory);
        st = memory->window != NULL && memory->hits != NULL ? read_maps(memory) : HSM_ERR_NOMEM;
        if (memory->window != NULL)
            OPENSSL_cleanse(memory->window, WINDOW + HSM_SCAN_OVERLAP);
        free(memory->window);
        close(memory->pagemap);
    }
    close(memory->mem);
    if (st == HSM_OK && memory->octets == 0) {
        hsm_log(HSM_LOG_ERROR, "process %ld: nothing of its memory could be read",
                (long)memory->pid);
        return HSM_ERR_DENIED;
    }
    return st;
}

static json_t *
scalars_json(const struct hsm_scan *scan)
{
    json_t *all = json_array();

    for (size_t i = 0; i < hsm_scan_scalars(scan); i++)
        (void)json_array_append_new(all, json_string(hsm_scan_point_hash(scan, i)));
    return all;
}

static void
state_process(const struct memory *memory)
{
    char found[160];
    char subject[2 * NAME_MAX_];
    json_t *name = hsm_audit_text(memory->name, strlen(memory->name));

    snprintf(subject, sizeof(subject), "process:%ld %s", (long)memory->pid,
             json_string_value(name) != NULL ? json_string_value(name) : "");
    snprintf(found, sizeof(found),
             "%" PRIu64 " hits in %" PRIu64 " octets of %" PRIu64 " mappings; %" PRIu64
             " octets could not be read",
             memory->hit_count, memory->octets, memory->mappings, memory->unread);
    hsm_audit_state(
        memory->audit,
        &(struct hsm_audit_statement){
            .check = HSM_CHECK_PROCESS_SECRET,
            .subject = subject,
            .found = found,
            .evidence = hsm_audit_pack(
                memory->audit, "{s:I, s:I, s:I, s:I, s:I, s:O, s:o}", "mappings",
                (json_int_t)memory->mappings, "octets", (json_int_t)memory->octets, "unread",
                (json_int_t)memory->unread, "constants", (json_int_t)memory->constants, "hit_count",
                (json_int_t)memory->hit_count, "hits", memory->hits, "points_sha256",
                scalars_json(memory->scan)),
            .verdict = memory->hit_count > 0 ? HSM_AUDIT_FINDING
                       : memory->unread > 0  ? HSM_AUDIT_UNTESTED
                                             : HSM_AUDIT_PASS,
        });
    json_decref(name);
}

/* ---- the positive control ---- */

/*
 * A child whose memory holds every form of random values that are not keys, to check the scan
 * itself. It stays as closed to other processes as this one is.
 */
static pid_t
spawn_planted(void)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        (void)pause();
}

static size_t
count_found(const struct memory *memory)
{
    size_t count = 0;

    for (size_t i = 0; i < hsm_scan_forms(memory->scan); i++)
        count += memory->forms_found[i] != 0 ? 1 : 0;
    return count;
}

static void
state_control(const struct memory *memory)
{
    size_t forms = hsm_scan_forms(memory->scan);
    size_t found = count_found(memory);
    char text[96];

    snprintf(text, sizeof(text), "%zu of %zu planted forms found", found, forms);
    hsm_audit_state(memory->audit,
                    &(struct hsm_audit_statement){
                        .check = HSM_CHECK_PROCESS_CONTROL,
                        .subject = "process:a child of the auditing process",
                        .found = text,
                        .evidence = hsm_audit_pack(memory->audit, "{s:I, s:I, s:I}", "planted",
                                                   (json_int_t)forms, "found", (json_int_t)found,
                                                   "octets", (json_int_t)memory->octets),
                        .verdict = found == forms ? HSM_AUDIT_PASS : HSM_AUDIT_UNPROVEN,
                    });
}

static enum hsm_status
search_planted(struct hsm_audit *audit, const struct hsm_scan *scan, uint8_t *found)
{
    struct memory memory = {.audit = audit, .scan = scan, .forms_found = found};
    enum hsm_status st;

    memory.pid = spawn_planted();
    if (memory.pid < 0) {
        hsm_log(HSM_LOG_ERROR, "fork: %s", strerror(errno));
        return HSM_ERR_IO;
    }
    st = search_process(&memory);
    (void)kill(memory.pid, SIGKILL);
    (void)waitpid(memory.pid, NULL, 0);
    if (st == HSM_OK)
        state_control(&memory);
    json_decref(memory.hits);
    return st;
}

static enum hsm_status
control(struct hsm_audit *audit)
{
    DEFER(hsm_scan_free) struct hsm_scan *scan = NULL;
    uint8_t values[PLANTED][32];
    uint8_t *found;
    enum hsm_status st;

    if (RAND_bytes(&values[0][0], sizeof(values)) != 1)
        return HSM_ERR_CRYPTO;
    st = hsm_scan_new_of(values, PLANTED, &scan);
    if (st != HSM_OK)
        return st;
    found = calloc(hsm_scan_forms(scan), 1);
    if (found == NULL)
        return HSM_ERR_NOMEM;
    st = search_planted(audit, scan, found);
    free(found);
    return st;
}

/* ---- a process and its children ---- */

struct family {
    pid_t pids[FAMILY_MAX];
    size_t count;
};

/* The children of its first thread, which is the thread that forks in our daemons. */
static void
add_children(struct family *family, pid_t pid)
{
    char path[64];
    FILE *file;
    long child;

    snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)pid, (long)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return;
    while (family->count < FAMILY_MAX && fscanf(file, "%ld", &child) == 1)
        family->pids[family->count++] = (pid_t)child;
    fclose(file);
}

static enum hsm_status
search_one(struct hsm_audit *audit, const struct hsm_scan *scan, pid_t pid)
{
    struct memory memory = {.audit = audit, .scan = scan, .pid = pid};
    enum hsm_status st = search_process(&memory);

    if (st == HSM_OK)
        state_process(&memory);
    json_decref(memory.hits);
    return st;
}

enum hsm_status
hsm_audit_process(struct hsm_audit *audit, pid_t pid, const struct hsm_secret *scalars)
{
    DEFER(hsm_scan_free) struct hsm_scan *scan = NULL;
    struct family family = {.pids = {pid}, .count = 1};
    enum hsm_status st = HSM_OK;

    if (!audit->process_control_done)
        st = control(audit);
    if (st == HSM_OK)
        st = hsm_scan_new(scalars, &scan);
    if (st != HSM_OK)
        return st;
    audit->process_control_done = true;
    for (size_t i = 0; st == HSM_OK && i < family.count; i++) {
        add_children(&family, family.pids[i]);
        st = search_one(audit, scan, family.pids[i]);
    }
    return st == HSM_OK ? audit->failure : st;
}
