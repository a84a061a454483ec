/* provision.c - keys, certificates and configuration of our daemons, made once and kept. */
#define _GNU_SOURCE /* asprintf */

#include <acme/provision.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#include <curl/curl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <acme/http_server.h>
#include <acme/store.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "defer_internal.h"

#define DAY_S                 86400
#define TLS_ROOT_VALID_DAYS   7300
#define TLS_SERVER_VALID_DAYS 397
#define PROVISION_NAMES_MAX   16 /* of one TLS certificate: DNS names, and as many IP addresses */
#define PROVISION_HOST_MAX    255
#define COMMON_NAME_MAX       64 /* octets: ub-common-name, RFC 5280 appendix A.1 */

/* ---- names and places ---- */

enum hsm_status
acme_provision_dir(const char *dir, mode_t mode)
{
    if (mkdir(dir, mode) == 0 || errno == EEXIST)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s", dir, strerror(errno));
    return HSM_ERR_IO;
}

char *
acme_provision_common_name(const char *organization, const char *role)
{
    char *name = NULL;

    if (strlen(organization) + 1 + strlen(role) > COMMON_NAME_MAX)
        return strdup(role);
    return asprintf(&name, "%s %s", organization, role) < 0 ? NULL : name;
}

char *
acme_provision_path(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* ---- certificates ---- */

static bool
names_are_in(const X509 *cert, const struct certs_issue_request *request)
{
    X509 *leaf = (X509 *)cert; /* OpenSSL's checks cache parsed extensions in the certificate */

    for (size_t i = 0; request->dns_names != NULL && request->dns_names[i] != NULL; i++) {
        if (X509_check_host(leaf, request->dns_names[i], 0, 0, NULL) != 1)
            return false;
    }
    for (size_t i = 0; request->ip_addresses != NULL && request->ip_addresses[i] != NULL; i++) {
        if (X509_check_ip_asc(leaf, request->ip_addresses[i], 0) != 1)
            return false;
    }
    return true;
}

/* True if the certificate was issued by another CA: its issuer has another name; or it is an
 * issuing certificate, which was published, and whose root may be offline under the same name.
 * Certificates from a previous root of this daemon may be replaced. */
static bool
is_of_another_issuer(const X509 *cert, const struct acme_provision_request *request)
{
    const X509 *issuer = certs_chain_get(request->issuer, 0);

    return request->certificate.profile == CERTS_PROFILE_STI_INTERMEDIATE ||
           X509_NAME_cmp(X509_get_issuer_name(cert), certs_cert_subject_name(issuer)) != 0;
}

/* Whether an existing certificate can stay. An anchor always stays, since others have it; so does a
 * certificate of another CA. */
static bool
is_kept(const X509 *cert, const struct acme_provision_request *request, time_t now)
{
    time_t not_after = certs_cert_not_after(cert);
    time_t life = not_after - certs_cert_not_before(cert);

    if (request->issuer == NULL)
        return true;
    if (X509_check_issued(certs_chain_get(request->issuer, 0), (X509 *)cert) != X509_V_OK) {
        if (!is_of_another_issuer(cert, request))
            return false;
        hsm_log(HSM_LOG_INFO, "%s: kept: its issuer is another one", request->path);
        return true;
    }
    return not_after - now > life / 3 && names_are_in(cert, &request->certificate);
}

/* HSM_ERR_NOT_FOUND: the file does not exist yet. */
static enum hsm_status
read_existing(const struct acme_provision_request *request, const struct hsm_key *key,
              struct certs_chain **out)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st;

    if (access(request->path, F_OK) != 0 && errno == ENOENT)
        return HSM_ERR_NOT_FOUND;
    st = certs_chain_read(request->path, &chain);
    if (st != HSM_OK)
        return st == HSM_ERR_NOT_FOUND ? HSM_ERR_IO : st;
    if (!hsm_key_matches(key, certs_cert_public(certs_chain_get(chain, 0)))) {
        hsm_log(HSM_LOG_ERROR, "%s: not the certificate of the key %s in this token", request->path,
                request->label);
        return HSM_ERR_UNTRUSTED;
    }
    *out = chain;
    chain = NULL;
    return HSM_OK;
}

static enum hsm_status
issue(struct hsm_token *token, const struct acme_provision_request *request, struct hsm_key *key,
      time_t now, X509 **out)
{
    const X509 *issuer = request->issuer != NULL ? certs_chain_get(request->issuer, 0) : NULL;
    struct certs_issue_request certificate = request->certificate;
    struct hsm_reason why = {""};
    enum hsm_status st;

    certificate.public_key = hsm_key_public(key);
    certificate.not_before = now - ACME_PROVISION_BACKDATE_S;
    certificate.not_after = now + (time_t)request->valid_days * DAY_S;
    if (issuer != NULL) { /* a certificate is valid only while its issuer is */
        if (certificate.not_before < certs_cert_not_before(issuer))
            certificate.not_before = certs_cert_not_before(issuer);
        if (certificate.not_after > certs_chain_not_after(request->issuer))
            certificate.not_after = certs_chain_not_after(request->issuer);
    }
    st = certs_serial_new(token, certificate.serial, &certificate.serial_len);
    if (st != HSM_OK)
        return st;
    st = certs_issue(&certificate, issuer, issuer != NULL ? request->issuer_key : key, out, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", request->path, why.text);
    return st;
}

static enum hsm_status
issue_to_file(struct hsm_token *token, const struct acme_provision_request *request,
              struct hsm_key *key, time_t now, struct certs_chain **out)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(X509_free) X509 *cert = NULL;
    enum hsm_status st = issue(token, request, key, now, &cert);

    if (st == HSM_OK)
        st = certs_chain_new(&chain);
    if (st == HSM_OK)
        st = certs_chain_add(chain, cert);
    if (st == HSM_OK && request->issuer != NULL)
        st = certs_chain_append(chain, request->issuer);
    if (st == HSM_OK)
        st = certs_chain_write(chain, request->path);
    if (st != HSM_OK)
        return st;
    hsm_log(HSM_LOG_INFO, "%s: certificate made for the key %s", request->path, request->label);
    *out = chain;
    chain = NULL;
    return HSM_OK;
}

enum hsm_status
acme_provision_certificate(struct hsm_token *token, const struct acme_provision_request *request,
                           struct hsm_key **key, struct certs_chain **chain)
{
    DEFER(hsm_key_free) struct hsm_key *made_key = NULL;
    DEFER(certs_chain_free) struct certs_chain *found = NULL;
    time_t now = time(NULL);
    enum hsm_status st = hsm_key_find_or_generate(token, request->label, &made_key);

    if (st != HSM_OK)
        return st;
    st = read_existing(request, made_key, &found);
    if (st != HSM_OK && st != HSM_ERR_NOT_FOUND)
        return st;
    if (found == NULL || !is_kept(certs_chain_get(found, 0), request, now)) {
        struct certs_chain *made = NULL;

        st = issue_to_file(token, request, made_key, now, &made);
        if (st != HSM_OK)
            return st;
        certs_chain_free(found);
        found = made;
    }

    *key = made_key;
    made_key = NULL;
    *chain = found;
    found = NULL;
    return HSM_OK;
}

/* ---- TLS ---- */

struct tls_names {
    const char *dns[PROVISION_NAMES_MAX + 1];
    const char *ip[PROVISION_NAMES_MAX + 1];
    size_t dns_count, ip_count;
    char host[PROVISION_HOST_MAX + 1]; /* of the base URL */
};

static bool
is_address(const char *name)
{
    struct in6_addr buffer;

    return inet_pton(AF_INET, name, &buffer) == 1 || inet_pton(AF_INET6, name, &buffer) == 1;
}

static enum hsm_status
add_name(struct tls_names *names, const char *name)
{
    bool address = is_address(name);
    size_t *count = address ? &names->ip_count : &names->dns_count;
    const char **list = address ? names->ip : names->dns;

    for (size_t i = 0; i < *count; i++) {
        if (strcasecmp(list[i], name) == 0)
            return HSM_OK;
    }
    if (*count == PROVISION_NAMES_MAX) {
        hsm_log(HSM_LOG_ERROR, "%s: more than %d names in a TLS certificate", name,
                PROVISION_NAMES_MAX);
        return HSM_ERR_USAGE;
    }
    list[(*count)++] = name;
    return HSM_OK;
}

/* The host of an https URL; an IPv6 address without its brackets. */
static enum hsm_status
url_host(const char *url, char host[PROVISION_HOST_MAX + 1])
{
    DEFER(curl_url_cleanup) CURLU *parts = curl_url();
    DEFER(curl_free) char *name = NULL;
    size_t len;

    if (parts == NULL)
        return HSM_ERR_NOMEM;
    if (strncmp(url, "https://", 8) != 0 ||
        curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_HOST, &name, 0) != CURLUE_OK) {
        hsm_log(HSM_LOG_ERROR, "base URL %s: not an https URL", url);
        return HSM_ERR_USAGE;
    }
    len = strlen(name);
    if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
        memmove(name, name + 1, len - 2);
        name[len - 2] = '\0';
    }
    if (snprintf(host, PROVISION_HOST_MAX + 1, "%s", name) > PROVISION_HOST_MAX) {
        hsm_log(HSM_LOG_ERROR, "base URL: its host is longer than %d octets", PROVISION_HOST_MAX);
        return HSM_ERR_USAGE;
    }
    return HSM_OK;
}

static bool
is_loopback(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0;
}

static enum hsm_status
collect_names(const struct acme_provision_tls *tls, struct tls_names *names)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "::1", NULL};
    enum hsm_status st = url_host(tls->base_url, names->host);

    if (st == HSM_OK)
        st = add_name(names, names->host);
    for (size_t i = 0; st == HSM_OK && is_loopback(names->host) && loopback[i] != NULL; i++)
        st = add_name(names, loopback[i]);
    for (size_t i = 0; st == HSM_OK && tls->extra_names != NULL && tls->extra_names[i] != NULL; i++)
        st = add_name(names, tls->extra_names[i]);
    return st;
}

static enum hsm_status
provision_tls_root(struct hsm_token *token, const struct acme_provision_tls *tls, const char *path,
                   struct hsm_key **key, struct certs_chain **chain)
{
    DEFER(free) char *common_name = acme_provision_common_name(tls->organization, "TLS Root");
    struct acme_provision_request request = {
        .label = ACME_PROVISION_TLS_ROOT_LABEL,
        .certificate = {.profile = CERTS_PROFILE_TLS_ROOT,
                        .subject = {.country = tls->country, .organization = tls->organization}},
        .valid_days = TLS_ROOT_VALID_DAYS,
        .path = path,
    };

    if (common_name == NULL)
        return HSM_ERR_NOMEM;
    request.certificate.subject.common_name = common_name;
    return acme_provision_certificate(token, &request, key, chain);
}

static enum hsm_status
provision_tls_server(struct hsm_token *token, const struct acme_provision_tls *tls,
                     const struct acme_provision_request *issuer, const struct tls_names *names)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    char common_name[COMMON_NAME_MAX + 1]; /* clients look at subjectAltName only */
    struct acme_provision_request request = *issuer;

    snprintf(common_name, sizeof(common_name), "%.64s", names->host);
    request.label = ACME_PROVISION_TLS_SERVER_LABEL;
    request.valid_days = TLS_SERVER_VALID_DAYS;
    request.certificate = (struct certs_issue_request){
        .profile = CERTS_PROFILE_TLS_SERVER,
        .subject = {.country = tls->country,
                    .organization = tls->organization,
                    .common_name = common_name},
        .dns_names = names->dns,
        .ip_addresses = names->ip,
    };
    return acme_provision_certificate(token, &request, &key, &chain);
}

enum hsm_status
acme_provision_tls(struct hsm_token *token, const struct acme_provision_tls *tls)
{
    DEFER(free) char *root_path = acme_provision_path(tls->dir, ACME_PROVISION_TLS_ROOT_FILE);
    DEFER(free) char *chain_path = acme_provision_path(tls->dir, ACME_PROVISION_TLS_CHAIN_FILE);
    DEFER(hsm_key_free) struct hsm_key *root_key = NULL;
    DEFER(certs_chain_free) struct certs_chain *root = NULL;
    struct tls_names names = {.dns_count = 0};
    enum hsm_status st;

    if (root_path == NULL || chain_path == NULL)
        return HSM_ERR_NOMEM;
    st = collect_names(tls, &names);
    if (st == HSM_OK)
        st = provision_tls_root(token, tls, root_path, &root_key, &root);
    if (st != HSM_OK)
        return st;
    return provision_tls_server(token, tls,
                                &(struct acme_provision_request){
                                    .issuer = root, .issuer_key = root_key, .path = chain_path},
                                &names);
}

/* ---- the store and the configuration ---- */

enum hsm_status
acme_provision_store(const char *dir, const char *name, const char *const *migrations)
{
    DEFER(free) char *path = acme_provision_path(dir, name);
    DEFER(acme_store_close) struct acme_store *store = NULL;

    return path != NULL ? acme_store_open(path, migrations, &store) : HSM_ERR_NOMEM;
}

/* False: out of memory. *out stays NULL if `source` is NULL. */
static bool
take_source(const char *source, char **out)
{
    DEFER(free) char *absolute = NULL;
    const char *path = source;

    if (source == NULL)
        return true;
    if (strncmp(source, "file:", 5) == 0)
        path += 5;
    else if (strchr(source, '/') == NULL || strncmp(source, "credential:", 11) == 0)
        return (*out = strdup(source)) != NULL;
    absolute = realpath(path, NULL); /* a missing file is reported when the secret is read */
    if (asprintf(out, "file:%s", absolute != NULL ? absolute : path) < 0)
        *out = NULL;
    return *out != NULL;
}

enum hsm_status
acme_provision_sources_take(const char *pin, const char *password, const char *api_key,
                            struct acme_provision_sources *out)
{
    return take_source(pin, &out->pin) && take_source(password, &out->password) &&
                   take_source(api_key, &out->api_key)
               ? HSM_OK
               : HSM_ERR_NOMEM;
}

void
acme_provision_sources_clear(struct acme_provision_sources *sources)
{
    free(sources->pin);
    free(sources->password);
    free(sources->api_key);
}

/* The parser strips blanks, and a ';' behind a blank or at the start begins a comment. */
static bool
value_can_stand(const char *value)
{
    for (const char *c = value; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c))
            return false;
    }
    return *value != '\0' && *value != ' ' && *value != ';' && strstr(value, " ;") == NULL;
}

/* NULL: the program will read the value as it is meant. */
static const char *
fault_of(const struct acme_provision_line *line)
{
    if (line->value == NULL)
        return NULL;
    if (!value_can_stand(line->value))
        return "this value cannot stand in a configuration file";
    if (line->name != NULL && strcmp(line->name, "address") == 0 &&
        !acme_http_address_is_valid(line->value))
        return "not ADDRESS:PORT, such as 192.0.2.1:8443";
    return NULL;
}

static enum hsm_status
check_lines(const struct acme_provision_line *lines)
{
    for (const struct acme_provision_line *line = lines; line->section != NULL; line++) {
        const char *fault = fault_of(line);

        if (fault == NULL)
            continue;
        hsm_log(HSM_LOG_ERROR, "[%s] %s: %s", line->section, line->name != NULL ? line->name : "",
                fault);
        return HSM_ERR_USAGE;
    }
    return HSM_OK;
}

static void
write_lines(FILE *to, const struct acme_provision_line *lines)
{
    const char *section = "";

    for (const struct acme_provision_line *line = lines; line->section != NULL; line++) {
        if (line->value == NULL)
            continue;
        if (strcmp(line->section, section) != 0)
            fprintf(to, "\n[%s]\n", line->section);
        section = line->section;
        if (line->name != NULL)
            fprintf(to, "%s = %s\n", line->name, line->value);
        else
            fprintf(to, "# %s\n", line->value);
    }
}

enum hsm_status
acme_provision_config_text(const char *program, const struct acme_provision_line *lines, char **out)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to;
    enum hsm_status st = check_lines(lines);

    if (st != HSM_OK)
        return st;
    to = open_memstream(&text, &len);
    if (to == NULL)
        return HSM_ERR_NOMEM;
    fprintf(to, "# Written by %s init, and never again: edit it. All keys: %s --help\n", program,
            program);
    write_lines(to, lines);
    if (fclose(to) != 0) {
        free(text);
        return HSM_ERR_NOMEM;
    }
    *out = text;
    return HSM_OK;
}

enum hsm_status
acme_provision_config(const char *dir, const char *name, const char *text)
{
    DEFER(free) char *path = acme_provision_path(dir, name);
    enum hsm_status st = HSM_OK;
    bool there;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    there = access(path, F_OK) == 0;
    if (!there)
        st = hsm_file_write(path, text, strlen(text), 0644);
    if (st == HSM_OK) {
        printf("%s: %s\n", path, there ? "kept as it was" : "written");
        fflush(stdout);
    }
    return st;
}
