/* secret.c - PINs, passwords and bearer tokens in pages of their own. */
#define _GNU_SOURCE /* MADV_DONTDUMP */
#include <hsm/secret.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ui.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "file_internal.h"

#define PATH_SIZE 4096 /* octets */

/* One mapping; the length is stored with the octets so that nothing of the secret is on the
 * heap. */
struct hsm_secret {
    size_t len;
    size_t mapped;
    char octets[HSM_SECRET_MAX + 2]; /* one extra octet that shows "too long", and a NUL */
};

/* Locking and hiding from dumps are best effort: RLIMIT_MEMLOCK may be 0. */
static struct hsm_secret *
secret_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t mapped = (sizeof(struct hsm_secret) + page - 1) / page * page;
    struct hsm_secret *secret =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (secret == MAP_FAILED)
        return NULL;
    if (mlock(secret, mapped) != 0)
        hsm_log(HSM_LOG_DEBUG, "a secret may be swapped out: mlock: %s", strerror(errno));
    if (madvise(secret, mapped, MADV_DONTDUMP) != 0)
        hsm_log(HSM_LOG_DEBUG, "a secret may be dumped: madvise: %s", strerror(errno));
    secret->mapped = mapped;
    return secret;
}

void
hsm_secret_free(struct hsm_secret *secret)
{
    size_t mapped;

    if (secret == NULL)
        return;
    mapped = secret->mapped;
    OPENSSL_cleanse(secret, mapped);
    munmap(secret, mapped);
}

enum hsm_status
hsm_secret_new(const void *octets, size_t len, struct hsm_secret **out)
{
    struct hsm_secret *secret;

    if (len == 0 || len > HSM_SECRET_MAX)
        return HSM_ERR_MALFORMED;
    secret = secret_map();
    if (secret == NULL)
        return HSM_ERR_NOMEM;
    memcpy(secret->octets, octets, len);
    secret->len = len;
    *out = secret;
    return HSM_OK;
}

static enum hsm_status
malformed(const char *from, const char *why)
{
    hsm_log(HSM_LOG_ERROR, "secret from %s: %s", from, why);
    return HSM_ERR_MALFORMED;
}

/* Octet by octet: what follows the line stays in the pipe, for the next secret. */
static enum hsm_status
read_line(int fd, const char *from, struct hsm_secret *secret)
{
    char octet = '\0';
    ssize_t n;

    for (;;) {
        do
            n = read(fd, &octet, 1);
        while (n < 0 && errno == EINTR);
        if (n <= 0 || octet == '\n')
            break;
        secret->octets[secret->len++] = octet;
        if (secret->len > HSM_SECRET_MAX + 1)
            return malformed(from, "the line is too long");
    }
    OPENSSL_cleanse(&octet, sizeof(octet));
    if (n < 0) {
        hsm_log(HSM_LOG_ERROR, "secret from %s: %s", from, strerror(errno));
        return HSM_ERR_IO;
    }
    if (secret->len > 0 && secret->octets[secret->len - 1] == '\r')
        secret->len--;
    secret->octets[secret->len] = '\0';
    if (secret->len > HSM_SECRET_MAX)
        return malformed(from, "the line is too long");
    if (secret->len == 0)
        return malformed(from, "the first line is empty");
    if (strlen(secret->octets) != secret->len)
        return malformed(from, "a NUL in the line");
    return HSM_OK;
}

static enum hsm_status
secret_from_fd(int fd, const char *from, struct hsm_secret **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *secret = secret_map();
    enum hsm_status st;

    if (secret == NULL)
        return HSM_ERR_NOMEM;
    st = read_line(fd, from, secret);
    if (st != HSM_OK)
        return st;
    *out = secret;
    secret = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_secret_read(const char *path, struct hsm_secret **out)
{
    struct stat about;
    enum hsm_status st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "secret from %s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO;
    }
    if (fstat(fd, &about) != 0 || S_ISDIR(about.st_mode)) {
        hsm_log(HSM_LOG_ERROR, "secret from %s: not a file", path);
        close(fd);
        return HSM_ERR_IO;
    }
    if (S_ISREG(about.st_mode) && (about.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        hsm_log(HSM_LOG_WARNING, "secret from %s: mode %04o gives other users access", path,
                (unsigned)about.st_mode & 07777);
    st = secret_from_fd(fd, path, out);
    close(fd);
    return st;
}

enum hsm_status
hsm_secret_read_own(const char *path, struct hsm_secret **out)
{
    struct stat about;
    enum hsm_status st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "secret from %s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : errno == ELOOP ? HSM_ERR_DENIED : HSM_ERR_IO;
    }
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_uid != geteuid() ||
        (about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        hsm_log(HSM_LOG_ERROR,
                "secret from %s: not a file of this user with access for this user only", path);
        close(fd);
        return HSM_ERR_DENIED;
    }
    st = secret_from_fd(fd, path, out);
    close(fd);
    return st;
}

enum hsm_status
hsm_secret_read_fd(int fd, struct hsm_secret **out)
{
    char from[32];

    snprintf(from, sizeof(from), "descriptor %d", fd);
    return secret_from_fd(fd, from, out);
}

enum hsm_status
hsm_secret_prompt(const char *question, struct hsm_secret **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *secret = NULL;
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (terminal < 0) {
        hsm_log(HSM_LOG_ERROR, "no terminal to ask for the secret on: name another source");
        return HSM_ERR_IO;
    }
    close(terminal);
    secret = secret_map();
    if (secret == NULL)
        return HSM_ERR_NOMEM;
    /* OpenSSL's reader restores the terminal on signals and wipes what it used. */
    if (UI_UTIL_read_pw_string(secret->octets, HSM_SECRET_MAX, question, 0) != 0) {
        ERR_clear_error();
        hsm_log(HSM_LOG_ERROR, "nothing was entered");
        return HSM_ERR_IO;
    }
    secret->len = strlen(secret->octets);
    if (secret->len == 0)
        return malformed("the terminal", "nothing was entered");
    *out = secret;
    secret = NULL;
    return HSM_OK;
}

static enum hsm_status
secret_credential(const char *name, struct hsm_secret **out)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    char path[PATH_SIZE];
    int n;

    if (directory == NULL) {
        hsm_log(HSM_LOG_ERROR, "credential %s: no $CREDENTIALS_DIRECTORY", name);
        return HSM_ERR_NOT_FOUND;
    }
    if (*name == '\0' || strchr(name, '/') != NULL || strcmp(name, "..") == 0)
        return malformed("credential", "not a credential's name");
    n = snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return malformed("credential", "the path is too long");
    return hsm_secret_read(path, out);
}

static enum hsm_status
secret_numbered_fd(const char *number, struct hsm_secret **out)
{
    char *end = NULL;
    long fd;

    errno = 0;
    fd = strtol(number, &end, 10);
    if (number[0] < '0' || number[0] > '9' || *end != '\0' || errno != 0 || fd > 65535)
        return malformed("fd", "not the number of a descriptor");
    return hsm_secret_read_fd((int)fd, out);
}

enum hsm_status
hsm_secret_from(const char *source, const char *question, struct hsm_secret **out)
{
    if (strcmp(source, "prompt") == 0)
        return hsm_secret_prompt(question, out);
    if (strncmp(source, "file:", 5) == 0)
        return hsm_secret_read(source + 5, out);
    if (strncmp(source, "fd:", 3) == 0)
        return secret_numbered_fd(source + 3, out);
    if (strncmp(source, "credential:", 11) == 0)
        return secret_credential(source + 11, out);
    if (strchr(source, '/') != NULL)
        return hsm_secret_read(source, out);
    hsm_log(HSM_LOG_ERROR,
            "the source of a secret is file:PATH, fd:N, credential:NAME, prompt or a "
            "path with a '/' in it"); /* not logged: it may be the secret itself */
    return HSM_ERR_USAGE;
}

bool
hsm_secret_is_read_once(const char *source)
{
    return strncmp(source, "fd:", 3) == 0 || strcmp(source, "prompt") == 0;
}

enum hsm_status
hsm_secret_random(size_t len, struct hsm_secret **out)
{
    static const char digits[] = "0123456789abcdef";
    struct hsm_secret *secret;
    unsigned char *random;

    if (len == 0 || len > HSM_SECRET_MAX / 2)
        return HSM_ERR_USAGE;
    secret = secret_map();
    if (secret == NULL)
        return HSM_ERR_NOMEM;
    random =
        (unsigned char *)secret->octets + len; /* in the page, too; overwritten by the last digit */
    if (RAND_priv_bytes(random, (int)len) != 1) {
        hsm_secret_free(secret);
        ERR_clear_error();
        hsm_log(HSM_LOG_ERROR, "the random generator failed");
        return HSM_ERR_CRYPTO;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char octet = random[i];

        secret->octets[2 * i] = digits[octet >> 4];
        secret->octets[2 * i + 1] = digits[octet & 0x0f];
    }
    secret->len = 2 * len;
    *out = secret;
    return HSM_OK;
}

const char *
hsm_secret_octets(const struct hsm_secret *secret)
{
    return secret->octets;
}

size_t
hsm_secret_len(const struct hsm_secret *secret)
{
    return secret->len;
}

bool
hsm_secret_equals(const struct hsm_secret *secret, const void *octets, size_t len)
{
    return secret->len == len && CRYPTO_memcmp(secret->octets, octets, len) == 0;
}

enum hsm_status
hsm_secret_write(const struct hsm_secret *secret, const char *path)
{
    char line[HSM_SECRET_MAX + 1];
    enum hsm_status st;

    memcpy(line, secret->octets, secret->len);
    line[secret->len] = '\n';
    st = hsm_file_put(path, line, secret->len + 1, S_IRUSR | S_IWUSR, false);
    OPENSSL_cleanse(line, sizeof(line));
    return st;
}

void
hsm_wipe_free(void *octets)
{
    if (octets != NULL)
        OPENSSL_cleanse(octets, malloc_usable_size(octets));
    free(octets);
}

void *
hsm_wipe_realloc(void *octets, size_t size)
{
    size_t had = octets != NULL ? malloc_usable_size(octets) : 0;
    void *larger;

    if (octets != NULL && size <= had)
        return octets;
    larger = malloc(size);
    if (larger == NULL)
        return NULL;
    if (octets != NULL)
        memcpy(larger, octets, had);
    hsm_wipe_free(octets);
    return larger;
}
