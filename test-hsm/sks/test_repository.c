/* test_repository.c - mirrors sks/src/repository.c: the STI-CR. */
#define _GNU_SOURCE /* nftw, asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <hsm/process.h>
#include <sks/repository.h>

#include "caller.h"
#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BASE_URL     "https://cr.sp.example:8443"

static struct {
    char dir[128]; /* removed at the end */
    char served[160]; /* the repository's directory, inside `dir` */
    struct sks_repository *repository;
    struct unix_server server;
    struct certs_chain *chain;
    char *pem;
} cr;

static struct called called;

static int
start(void **state)
{
    (void)state;
    snprintf(cr.dir, sizeof(cr.dir), "/tmp/sti-cr.XXXXXX");
    if (mkdtemp(cr.dir) == NULL)
        return -1;
    snprintf(cr.served, sizeof(cr.served), "%s/cr", cr.dir);
    if (sks_repository_open(cr.served, BASE_URL, &cr.repository) != HSM_OK ||
        certs_chain_read(data_path("self/sp-1234.chain.pem"), &cr.chain) != HSM_OK ||
        certs_chain_pem(cr.chain, &cr.pem) != HSM_OK)
        return -1;
    unix_server_start(&cr.server, cr.dir, sks_repository_handler(cr.repository));
    return 0;
}

static int
remove_entry(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

static int
stop(void **state)
{
    (void)state;
    unix_server_stop(&cr.server);
    sks_repository_close(cr.repository);
    certs_chain_free(cr.chain);
    free(cr.pem);
    return nftw(cr.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Publish the chain and return "/<name>.pem"; static storage. */
static const char *
published(void)
{
    static char target[128];
    char *url = NULL;

    assert_int_equal(sks_repository_publish(cr.repository, cr.chain, &url), HSM_OK);
    assert_int_equal(strncmp(url, BASE_URL "/", strlen(BASE_URL "/")), 0);
    snprintf(target, sizeof(target), "%s", url + strlen(BASE_URL));
    free(url);
    return target;
}

static void
get(const char *method, const char *target, const char *header)
{
    const char *const headers[] = {header, NULL};

    call(&cr.server.caller, method, target, headers, NULL, &called);
}

static void
assert_header(const char *name, const char *wanted)
{
    char value[512];

    assert_string_equal(called_header(&called, name, value), wanted);
}

static size_t
files_served(void)
{
    DIR *dir = opendir(cr.served);
    size_t count = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(dir);
    return count;
}

static void
name_is_half_the_sha256_of_the_pem(void **state)
{
    unsigned char digest[32];
    char wanted[64];

    (void)state;
    assert_int_equal(EVP_Digest(cr.pem, strlen(cr.pem), digest, NULL, EVP_sha256(), NULL), 1);
    wanted[0] = '/';
    for (size_t i = 0; i < 16; i++)
        snprintf(wanted + 1 + 2 * i, 3, "%02x", digest[i]);
    snprintf(wanted + 33, 5, ".pem");
    assert_string_equal(published(), wanted);
}

static void
chain_is_served_octet_for_octet(void **state)
{
    const char *target = published();
    char etag[64];

    (void)state;
    get("GET", target, NULL);
    assert_int_equal(called.status, 200);
    assert_int_equal(called.body_len, strlen(cr.pem));
    assert_string_equal(called.body, cr.pem);
    assert_header("Content-Type", "application/pem-certificate-chain");
    assert_header("Cache-Control", "public, max-age=86400, immutable");
    snprintf(etag, sizeof(etag), "\"%.32s\"", target + 1);
    assert_header("ETag", etag);
}

static long
max_age(const char *cache_control)
{
    const char *at = strstr(cache_control, "max-age=");

    return at == NULL ? -1 : strtol(at + strlen("max-age="), NULL, 10);
}

/* The checks that linters of published certificates make of a repository. */
static void
lints_of_repositories_find_nothing(void **state)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    const char *target = published();
    char value[512];

    (void)state;
    assert_int_equal(strncmp(BASE_URL, "https://", 8), 0);
    assert_null(strpbrk(target, "?#"));
    get("GET", target, NULL); /* without authentication */
    assert_int_equal(called.status, 200); /* no redirect */
    assert_header("Content-Type", "application/pem-certificate-chain");
    called_header(&called, "Cache-Control", value);
    assert_non_null(strstr(value, "public"));
    assert_null(strstr(value, "private"));
    assert_null(strstr(value, "no-"));
    assert_true(max_age(value) >= 86400);
    assert_int_equal(
        certs_chain_parse_pem(called.body, called.body_len, CERTS_CHAIN_LEN_MAX, &chain, &why),
        HSM_OK);
    assert_true(certs_chain_len(chain) >= 2);
    for (size_t i = 0; i + 1 < certs_chain_len(chain); i++) /* leaf first */
        assert_int_equal(X509_NAME_cmp(X509_get_issuer_name(certs_chain_get(chain, i)),
                                       X509_get_subject_name(certs_chain_get(chain, i + 1))),
                         0);
    certs_chain_free(chain);
}

/* Each chain has one URL: caches keep it once, and a query could carry a token. */
static void
urls_with_a_query_are_not_found(void **state)
{
    char target[160];

    (void)state;
    snprintf(target, sizeof(target), "%s?v=2", published());
    get("GET", target, NULL);
    assert_int_equal(called.status, 404);
    strchr(target, '?')[1] = '\0';
    get("GET", target, NULL);
    assert_int_equal(called.status, 404);
}

static void
head_says_the_same_without_a_body(void **state)
{
    char length[32];

    (void)state;
    get("HEAD", published(), NULL);
    assert_int_equal(called.status, 200);
    assert_int_equal(called.body_len, 0);
    snprintf(length, sizeof(length), "%zu", strlen(cr.pem));
    assert_header("Content-Length", length);
    assert_header("Content-Type", "application/pem-certificate-chain");
}

static void
publishing_again_touches_nothing(void **state)
{
    char *path = NULL;
    struct stat before;
    struct stat after;

    (void)state;
    assert_true(asprintf(&path, "%s%s", cr.served, published()) > 0);
    assert_int_equal(stat(path, &before), 0);
    published();
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(after.st_mode & 0777, 0644);
    assert_int_equal(files_served(), 1); /* no temporary file is left */
    free(path);
}

static void
name_that_stands_for_other_octets_is_neither_overwritten_nor_served(void **state)
{
    const char *target = published();
    char *path = NULL;
    char *url = NULL;
    uint8_t *octets = NULL;
    size_t len;

    (void)state;
    assert_true(asprintf(&path, "%s%s", cr.served, target) > 0);
    assert_int_equal(hsm_file_write(path, "other", 5, 0644), HSM_OK);
    assert_int_equal(sks_repository_publish(cr.repository, cr.chain, &url), HSM_ERR_IO);
    assert_null(url);
    assert_int_equal(hsm_file_read(path, 100, &octets, &len), HSM_OK);
    assert_string_equal((char *)octets, "other");
    get("GET", target, NULL);
    assert_int_equal(called.status, 500);
    assert_null(strstr(called.body, "other"));
    assert_int_equal(unlink(path), 0);
    published();
    get("GET", target, NULL);
    assert_int_equal(called.status, 200);
    free(octets);
    free(path);
}

static void
if_none_match_gives_304(void **state)
{
    const char *target = published();
    const struct {
        const char *form; /* %s is the name */
        long status;
    } cases[] = {
        {"If-None-Match: \"%s\"", 304},
        {"If-None-Match: W/\"%s\"", 304},
        {"If-None-Match: *", 304},
        {"If-None-Match: \"x\", \"%s\"", 304},
        {"If-None-Match: \"x\",W/\"%s\"", 304},
        {"If-None-Match: \"x\"", 200},
        {"If-None-Match: %s", 200}, /* not a quoted tag */
        {"If-None-Match: \"%s0\"", 200},
        {"If-None-Match: \"\"", 200},
    };
    char name[40];

    (void)state;
    snprintf(name, sizeof(name), "%.32s", target + 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *mark = strstr(cases[i].form, "%s");
        char header[128];

        snprintf(header, sizeof(header), "%.*s%s%s",
                 (int)(mark == NULL ? strlen(cases[i].form) : (size_t)(mark - cases[i].form)),
                 cases[i].form, mark == NULL ? "" : name, mark == NULL ? "" : mark + 2);
        get("GET", target, header);
        if (called.status != cases[i].status)
            fail_msg("%s: %ld", header, called.status);
        assert_int_equal(called.body_len, cases[i].status == 304 ? 0 : strlen(cr.pem));
        assert_header("Cache-Control", "public, max-age=86400, immutable");
    }
}

static void
other_methods_are_refused(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    const char *target = published();

    (void)state;
    for (size_t i = 0; i < COUNT(methods); i++) {
        call(&cr.server.caller, methods[i], target, NULL, "x", &called);
        assert_int_equal(called.status, 405);
        assert_header("Allow", "GET, HEAD");
    }
    assert_int_equal(files_served(), 1);
}

static void
other_names_are_not_found(void **state)
{
    const char *target = published();
    char name[40];
    char tricky[512];
    /* %s is a name that exists */
    const char *const forms[] = {
        "/",
        "",
        "/%s",
        "/%s.pem/",
        "//%s.pem",
        "/./%s.pem",
        "/x/../%s.pem",
        "/%s.PEM",
        "/%s.pem.pem",
        "/%s0.pem",
        "/../cr/%s.pem",
        "/..%%2fcr%%2f%s.pem",
        "/%s%%00.pem",
        "/%s.pem%%00",
        "/sub/%s.pem",
        "/../../../../etc/passwd",
        "/..%%2f..%%2fetc%%2fpasswd",
        "/%%2e%%2e/%%2e%%2e/etc/passwd",
        "/socket",
        "/../socket",
        "/00000000000000000000000000000000.pem",
        "/0000000000000000000000000000000g.pem",
        "/.pem",
        "/*.pem",
    };

    (void)state;
    snprintf(name, sizeof(name), "%.32s", target + 1);
    for (size_t i = 0; i < COUNT(forms); i++) {
        char *out = tricky;

        for (const char *c = forms[i]; *c != '\0'; c++) {
            if (c[0] == '%' && c[1] == 's') {
                out += snprintf(out, 40, "%s", name);
                c++;
            } else if (c[0] == '%' && c[1] == '%') {
                *out++ = '%';
                c++;
            } else {
                *out++ = *c;
            }
        }
        *out = '\0';
        get("GET", tricky, NULL);
        if (called.status != 404 && called.status != 400)
            fail_msg("%s: %ld", tricky, called.status);
        assert_null(strstr(called.body, "BEGIN CERTIFICATE"));
        assert_null(strstr(called.body, name)); /* no listing */
    }
}

static void
upper_case_name_is_not_found(void **state)
{
    char target[64];

    (void)state;
    snprintf(target, sizeof(target), "%s", published());
    for (char *c = target; *c != '.'; c++)
        if (*c >= 'a' && *c <= 'f')
            *c = (char)(*c - 'a' + 'A');
    get("GET", target, NULL);
    assert_int_equal(called.status, 404);
    assert_header("Cache-Control", "no-store");
}

static void
base_url_may_have_a_path(void **state)
{
    struct sks_repository *repository = NULL;
    struct unix_server server;
    char dir[] = "/tmp/sti-cr.XXXXXX";
    char *url = NULL;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(sks_repository_open(dir, "https://sp.example/certs/", &repository), HSM_OK);
    unix_server_start(&server, dir, sks_repository_handler(repository));
    assert_int_equal(sks_repository_publish(repository, cr.chain, &url), HSM_OK);
    assert_int_equal(strncmp(url, "https://sp.example/certs/", 25), 0);
    call(&server.caller, "GET", url + strlen("https://sp.example"), NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    call(&server.caller, "GET", url + strlen("https://sp.example/certs"), NULL, NULL, &called);
    assert_int_equal(called.status, 404);
    unix_server_stop(&server);
    sks_repository_close(repository);
    free(url);
    assert_int_equal(nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void
base_url_that_no_x5u_can_have_is_refused(void **state)
{
    static const char *const urls[] = {
        "http://cr.example",
        "https://",
        "https:///x",
        "https://user@cr.example",
        "https://cr.example?x",
        "https://cr.example#x",
        "https://cr.example/a b",
        "https://cr.example/\"",
        "cr.example",
        "",
        "https://cr.example/\x7f",
    };
    struct sks_repository *repository = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++)
        if (sks_repository_open(cr.served, urls[i], &repository) != HSM_ERR_MALFORMED)
            fail_msg("%s", urls[i]);
    assert_null(repository);
}

static void
directory_that_is_a_file_is_refused(void **state)
{
    struct sks_repository *repository = NULL;

    (void)state;
    assert_int_equal(sks_repository_open(cr.server.path, BASE_URL, &repository), HSM_ERR_IO);
    assert_null(repository);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_is_half_the_sha256_of_the_pem),
        cmocka_unit_test(chain_is_served_octet_for_octet),
        cmocka_unit_test(lints_of_repositories_find_nothing),
        cmocka_unit_test(urls_with_a_query_are_not_found),
        cmocka_unit_test(head_says_the_same_without_a_body),
        cmocka_unit_test(publishing_again_touches_nothing),
        cmocka_unit_test(name_that_stands_for_other_octets_is_neither_overwritten_nor_served),
        cmocka_unit_test(if_none_match_gives_304),
        cmocka_unit_test(other_methods_are_refused),
        cmocka_unit_test(other_names_are_not_found),
        cmocka_unit_test(upper_case_name_is_not_found),
        cmocka_unit_test(base_url_may_have_a_path),
        cmocka_unit_test(base_url_that_no_x5u_can_have_is_refused),
        cmocka_unit_test(directory_that_is_a_file_is_refused),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
