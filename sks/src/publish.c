/* publish.c - bring a chain to an STI-CR, and announce a new one. */
#define _GNU_SOURCE /* asprintf */
#include <sks/publish.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <hsm/defer.h>
#include <sks/command.h>

#define REPLY_MAX 65536 /* octets of the response to an upload */

/* The "<name>.pem" at the end of an x5u. */
static const char *
name_of(const char *url)
{
    const char *slash = strrchr(url, '/');

    return slash == NULL ? url : slash + 1;
}

static enum hsm_status
exchange(const struct sks_publisher *publisher, const char *target, const char *authorization,
         const char *pem, struct hsm_reason *why)
{
    struct acme_http_reply reply = {.status = 0};
    enum hsm_status st = acme_http_fetch(
        publisher->http,
        &(struct acme_http_fetch){.method = "PUT",
                                  .url = target,
                                  .content_type = "application/pem-certificate-chain",
                                  .authorization = authorization,
                                  .body = pem,
                                  .body_len = strlen(pem),
                                  .reply_max = REPLY_MAX,
                                  .timeout_ms = publisher->timeout_s * 1000},
        &reply, why);

    if (st != HSM_OK)
        return st;
    if (reply.status < 200 || reply.status > 299)
        st = hsm_refuse(why,
                        reply.status >= 500 || reply.status == 429 || reply.status == 408
                            ? HSM_ERR_BUSY
                            : HSM_ERR_DENIED,
                        "PUT %s: HTTP status %d", target, reply.status);
    acme_http_reply_clear(&reply);
    return st;
}

static enum hsm_status
put(const struct sks_publisher *publisher, const char *pem, const char *url, struct hsm_reason *why)
{
    static const char scheme[] = "Bearer ";
    const char *base = publisher->upload_url;
    size_t len = publisher->upload_bearer == NULL ? 0 : hsm_secret_len(publisher->upload_bearer);
    char authorization[sizeof(scheme) + HSM_SECRET_MAX] = "";
    DEFER(free) char *target = NULL;
    enum hsm_status st;

    if (asprintf(&target, "%s%s%s", base, base[strlen(base) - 1] == '/' ? "" : "/", name_of(url)) <
        0) {
        target = NULL;
        return HSM_ERR_NOMEM;
    }
    if (len > 0) {
        memcpy(authorization, scheme, sizeof(scheme) - 1);
        memcpy(authorization + sizeof(scheme) - 1, hsm_secret_octets(publisher->upload_bearer),
               len + 1);
    }
    st = exchange(publisher, target, len > 0 ? authorization : NULL, pem, why);
    OPENSSL_cleanse(authorization, sizeof(authorization));
    return st;
}

static enum hsm_status
run_upload(const struct sks_publisher *publisher, const char *url, struct hsm_reason *why)
{
    DEFER(free) char *file = NULL;

    if (asprintf(&file, "%s/%s", publisher->dir, name_of(url)) < 0) {
        file = NULL;
        return HSM_ERR_NOMEM;
    }
    return sks_command_run(publisher->upload_command,
                           (const struct sks_command_value[]){
                               {"file", file}, {"name", name_of(url)}, {"url", url}, {NULL, NULL}},
                           publisher->timeout_s, why);
}

enum hsm_status
sks_publish(const struct sks_publisher *publisher, const char *pem, const char *url,
            struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    if (publisher->upload_url != NULL)
        st = put(publisher, pem, url, why);
    if (st == HSM_OK && publisher->upload_command != NULL)
        st = run_upload(publisher, url, why);
    return st;
}

enum hsm_status
sks_publish_notify(const struct sks_publisher *publisher, const char *spc, int64_t id,
                   const char *url, const char *key_uri, struct hsm_reason *why)
{
    char number[24];

    if (publisher->notify_command == NULL)
        return HSM_OK;
    snprintf(number, sizeof(number), "%" PRId64, id);
    return sks_command_run(
        publisher->notify_command,
        (const struct sks_command_value[]){
            {"spc", spc}, {"id", number}, {"url", url}, {"key", key_uri}, {NULL, NULL}},
        publisher->timeout_s, why);
}

enum hsm_status
sks_publish_check(const struct sks_publisher *publisher, struct hsm_reason *why)
{
    static const struct sks_command_value upload[] = {
        {"file", ""}, {"name", ""}, {"url", ""}, {NULL, NULL}};
    static const struct sks_command_value notify[] = {
        {"spc", ""}, {"id", ""}, {"url", ""}, {"key", ""}, {NULL, NULL}};
    enum hsm_status st = HSM_OK;

    if (publisher->upload_command != NULL)
        st = sks_command_check(publisher->upload_command, upload, why);
    if (st == HSM_OK && publisher->notify_command != NULL)
        st = sks_command_check(publisher->notify_command, notify, why);
    return st;
}
