/* repository.c - the STI-CR: certificate chains at immutable URLs. */
#define _GNU_SOURCE /* asprintf, memrchr */
#include <sks/repository.h>

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <openssl/evp.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <sks/x5u.h>

#define SCHEME        "https://"
#define SUFFIX        ".pem"
#define ROUTE         "/:name" SUFFIX
#define MEDIA_TYPE    "application/pem-certificate-chain"
#define CACHE_CONTROL "public, max-age=86400, immutable" /* verifiers cache for 24 h anyway */

struct sks_repository {
    char *dir;
    char *base_url;
    const char *prefix; /* the path in base_url, "" when it has none */
};

struct name {
    char text[SKS_REPOSITORY_NAME_LEN + 1];
};

/* The path of an https URL to which "/NAME.pem" can be appended for an x5u (ATIS-1000074); NULL: it
 * is another kind of URL. */
static const char *
url_path(const char *url)
{
    const char *host;
    const char *path;

    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0)
        return NULL;
    for (const char *c = url; *c != '\0'; c++)
        if (!isgraph((unsigned char)*c) || strchr("@?#<>\"\\;%", *c) != NULL)
            return NULL;
    host = url + strlen(SCHEME);
    path = host + strcspn(host, "/");
    return path == host ? NULL : path;
}

/* True if the port is 443, which is the default, or 8443: verifiers fetch from no other
 * (ATIS-1000074). */
static bool
is_fetched_from(const char *url)
{
    const char *host = url + strlen(SCHEME);
    size_t len = strcspn(host, "/");
    const char *colon = memrchr(host, ':', len);
    size_t port_len;

    if (colon == NULL || memchr(colon, ']', len - (size_t)(colon - host)) != NULL)
        return true;
    port_len = len - (size_t)(colon - host);
    return (port_len == 4 && strncmp(colon, ":443", 4) == 0) ||
           (port_len == 5 && strncmp(colon, ":8443", 5) == 0);
}

static char *
copy_without_final_slash(const char *url)
{
    size_t len = strlen(url);

    if (len > 0 && url[len - 1] == '/')
        len--;
    return strndup(url, len);
}

/* The chains are public: other programs, such as a web server, may read the files. */
static enum hsm_status
make_directory(const char *dir)
{
    struct stat about;

    if (mkdir(dir, 0755) == 0 && chmod(dir, 0755) == 0)
        return HSM_OK;
    if (errno == EEXIST && stat(dir, &about) == 0 && S_ISDIR(about.st_mode))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: cannot be the directory of the STI-CR: %s", dir, strerror(errno));
    return HSM_ERR_IO;
}

enum hsm_status
sks_repository_open(const char *dir, const char *base_url, struct sks_repository **out)
{
    DEFER(sks_repository_close)
    struct sks_repository *repository = calloc(1, sizeof(*repository));
    enum hsm_status st;

    if (repository == NULL || (repository->dir = strdup(dir)) == NULL ||
        (repository->base_url = copy_without_final_slash(base_url)) == NULL)
        return HSM_ERR_NOMEM;
    repository->prefix = url_path(repository->base_url);
    if (repository->prefix == NULL ||
        strlen(base_url) + SKS_REPOSITORY_NAME_LEN + strlen("/" SUFFIX) > SKS_X5U_MAX) {
        hsm_log(HSM_LOG_ERROR, "%s: not an https URL that an STI-CR can have", base_url);
        return HSM_ERR_MALFORMED;
    }
    if (!is_fetched_from(repository->base_url))
        hsm_log(HSM_LOG_WARNING, "%s: verifiers fetch from ports 443 and 8443 only", base_url);
    st = make_directory(dir);
    if (st != HSM_OK)
        return st;
    *out = repository;
    repository = NULL;
    return HSM_OK;
}

void
sks_repository_close(struct sks_repository *repository)
{
    if (repository == NULL)
        return;
    free(repository->dir);
    free(repository->base_url);
    free(repository);
}

static bool
name_of(const void *pem, size_t len, struct name *out)
{
    uint8_t digest[HSM_SHA256_LEN];

    if (EVP_Digest(pem, len, digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    for (size_t i = 0; i < SKS_REPOSITORY_NAME_LEN / 2; i++)
        snprintf(out->text + 2 * i, 3, "%02x", digest[i]);
    return true;
}

static char *
file_path(const struct sks_repository *repository, const struct name *name)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s" SUFFIX, repository->dir, name->text) < 0)
        return NULL;
    return path;
}

/* Check that an existing file holds this chain: a person, or a program that crashed, may have left
 * something else under this name. */
static enum hsm_status
holds(const char *path, const char *pem)
{
    DEFER(free) uint8_t *octets = NULL;
    size_t len;
    enum hsm_status st = hsm_file_read(path, CERTS_CHAIN_OCTETS_MAX, &octets, &len);

    if (st != HSM_OK)
        return st == HSM_ERR_NOMEM ? st : HSM_ERR_IO;
    if (len == strlen(pem) && memcmp(octets, pem, len) == 0)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: not the chain that has this name; remove the file", path);
    return HSM_ERR_IO;
}

static enum hsm_status
store(const char *path, const char *pem)
{
    enum hsm_status st;

    if (access(path, F_OK) == 0)
        return holds(path, pem);
    st = hsm_file_create(path, pem, strlen(pem), 0644);
    return st == HSM_ERR_EXISTS ? holds(path, pem) : st; /* another process created it first */
}

enum hsm_status
sks_repository_publish(struct sks_repository *repository, const struct certs_chain *chain,
                       char **url)
{
    DEFER(free) char *pem = NULL;
    DEFER(free) char *path = NULL;
    struct name name;
    enum hsm_status st = certs_chain_pem(chain, &pem);
    char *made = NULL;

    if (st != HSM_OK)
        return st;
    if (!name_of(pem, strlen(pem), &name))
        return HSM_ERR_CRYPTO;
    path = file_path(repository, &name);
    if (path == NULL)
        return HSM_ERR_NOMEM;
    st = store(path, pem);
    if (st != HSM_OK)
        return st;
    if (asprintf(&made, "%s/%s" SUFFIX, repository->base_url, name.text) < 0)
        return HSM_ERR_NOMEM;
    *url = made;
    return HSM_OK;
}

/* Accept exactly PREFIX "/" 32 lower-case hex digits ".pem": nothing else becomes a file name. */
static bool
name_in_path(const struct sks_repository *repository, const char *path, struct name *out)
{
    size_t prefix_len = strlen(repository->prefix);

    if (strncmp(path, repository->prefix, prefix_len) != 0 || path[prefix_len] != '/')
        return false;
    path += prefix_len + 1;
    if (strspn(path, "0123456789abcdef") != SKS_REPOSITORY_NAME_LEN ||
        strcmp(path + SKS_REPOSITORY_NAME_LEN, SUFFIX) != 0)
        return false;
    memcpy(out->text, path, SKS_REPOSITORY_NAME_LEN);
    out->text[SKS_REPOSITORY_NAME_LEN] = '\0';
    return true;
}

enum hsm_status
sks_repository_withdraw(struct sks_repository *repository, const char *url)
{
    DEFER(free) char *path = NULL;
    size_t base_len = strlen(repository->base_url) - strlen(repository->prefix);
    struct name name;

    if (strncmp(url, repository->base_url, base_len) != 0 ||
        !name_in_path(repository, url + base_len, &name))
        return HSM_OK;
    path = file_path(repository, &name);
    if (path == NULL)
        return HSM_ERR_NOMEM;
    if (unlink(path) == 0 || errno == ENOENT)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
    return HSM_ERR_IO;
}

/* RFC 9110 section 13.1.2: a list of entity tags, compared weakly, or "*". */
static bool
none_match_names(const char *if_none_match, const struct name *name)
{
    const char *at = if_none_match;

    while (at != NULL && *at != '\0') {
        at += strspn(at, " \t,");
        if (*at == '*')
            return true;
        if (strncmp(at, "W/", 2) == 0)
            at += 2;
        if (at[0] == '"' && strncmp(at + 1, name->text, SKS_REPOSITORY_NAME_LEN) == 0 &&
            at[1 + SKS_REPOSITORY_NAME_LEN] == '"')
            return true;
        at += strcspn(at, ",");
    }
    return false;
}

static void
respond_text(struct acme_http_response *response, int status, const char *text)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond(response, status, "text/plain; charset=us-ascii", text, strlen(text));
}

static void
respond_chain(const struct acme_http_request *request, struct acme_http_response *response,
              const struct name *name, const uint8_t *pem, size_t len)
{
    char etag[SKS_REPOSITORY_NAME_LEN + 3];

    snprintf(etag, sizeof(etag), "\"%s\"", name->text);
    acme_http_response_header(response, "ETag", etag);
    acme_http_response_header(response, "Cache-Control", CACHE_CONTROL);
    acme_http_response_header(response, "X-Content-Type-Options", "nosniff");
    if (none_match_names(acme_http_request_header(request, "If-None-Match"), name))
        acme_http_respond(response, 304, NULL, NULL, 0);
    else
        acme_http_respond(response, 200, MEDIA_TYPE, pem, len);
}

static void
serve(const struct sks_repository *repository, const struct acme_http_request *request,
      const struct name *name, struct acme_http_response *response)
{
    DEFER(free) char *path = file_path(repository, name);
    DEFER(free) uint8_t *pem = NULL;
    struct name found;
    size_t len;

    if (path == NULL)
        return;
    if (access(path, F_OK) != 0) {
        respond_text(response, 404, "no such certificate chain\n");
        return;
    }
    if (hsm_file_read(path, CERTS_CHAIN_OCTETS_MAX, &pem, &len) != HSM_OK)
        return;
    if (!name_of(pem, len, &found) || strcmp(found.text, name->text) != 0) {
        hsm_log(HSM_LOG_ERROR, "%s: not the chain that has this name; not served", path);
        return;
    }
    respond_chain(request, response, name, pem, len);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct sks_repository *repository = context;
    enum acme_http_method method = acme_http_request_method(request);
    struct name name;

    if (method != ACME_HTTP_GET && method != ACME_HTTP_HEAD) {
        acme_http_response_header(response, "Allow", "GET, HEAD");
        respond_text(response, 405, "GET and HEAD only\n");
    } else if (acme_http_request_query(request) != NULL || /* a chain has one URL (RFC 8224) */
               !name_in_path(repository, acme_http_request_path(request), &name)) {
        respond_text(response, 404, "no such certificate chain\n");
    } else {
        acme_http_response_route(response, ROUTE);
        serve(repository, request, &name, response);
    }
}

/* A request reads one small file, usually from the page cache, so it needs no thread. */
static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    (void)path;
    return true;
}

struct acme_http_handler
sks_repository_handler(struct sks_repository *repository)
{
    return (struct acme_http_handler){
        .handle = handle, .is_quick = is_quick, .context = repository};
}
