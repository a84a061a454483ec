/* caller.c - HTTP requests with curl, and a server on a thread. */
#include "caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

static size_t
caller_keep(char *buffer, size_t *used, const char *data, size_t len)
{
    if (*used + len >= CALLER_OCTETS_MAX)
        return 0;
    memcpy(buffer + *used, data, len);
    *used += len;
    buffer[*used] = '\0';
    return len;
}

static size_t
caller_keep_body(char *data, size_t size, size_t count, void *context)
{
    struct called *called = context;

    return caller_keep(called->body, &called->body_len, data, size * count);
}

static size_t
caller_keep_head(char *data, size_t size, size_t count, void *context)
{
    struct called *called = context;

    return caller_keep(called->head, &called->head_len, data, size * count);
}

void
call(const struct caller *caller, const char *method, const char *target,
     const char *const *headers, const char *body, struct called *called)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *list = NULL;
    char url[2048];
    CURLcode rc;

    memset(called, 0, sizeof(*called));
    snprintf(url, sizeof(url), "%s%s", caller->base, target);
    for (; headers != NULL && *headers != NULL; headers++)
        list = curl_slist_append(list, *headers);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (body != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, caller_keep_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, called);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, caller_keep_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, called);
    if (caller->unix_socket != NULL)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, caller->unix_socket);
    if (caller->tls_ca != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, caller->tls_ca);
    rc = curl_easy_perform(curl);
    if (rc != CURLE_OK) {
        fprintf(stderr, "caller: %s %s: %s\n", method, target, curl_easy_strerror(rc));
        abort();
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &called->status);
    curl_slist_free_all(list);
    curl_easy_cleanup(curl);
}

const char *
called_header(const struct called *called, const char *name, char out[512])
{
    size_t len = strlen(name);

    out[0] = '\0';
    for (const char *line = called->head; line != NULL && *line != '\0';) {
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1 + strspn(line + len + 1, " ");
            snprintf(out, 512, "%.*s", (int)strcspn(line, "\r\n"), line);
            return out;
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return out;
}

json_t *
called_json(const struct called *called)
{
    json_t *json = json_loads(called->body, JSON_REJECT_DUPLICATES, NULL);

    if (json == NULL) {
        fprintf(stderr, "caller: not JSON: %s\n", called->body);
        abort();
    }
    return json;
}

static void *
unix_server_run(void *loop)
{
    if (acme_http_loop_run(loop) != HSM_OK)
        abort();
    return NULL;
}

void
unix_server_start(struct unix_server *server, const char *dir, struct acme_http_handler handler)
{
    char address[sizeof(server->path) + sizeof("unix:")];
    struct acme_http_server_config config = {.address = address, .handler = handler};

    snprintf(server->path, sizeof(server->path), "%s/socket", dir);
    snprintf(address, sizeof(address), "unix:%s", server->path);
    if (acme_http_loop_new(4, &server->loop) != HSM_OK ||
        acme_http_loop_listen(server->loop, &config) != HSM_OK ||
        pthread_create(&server->thread, NULL, unix_server_run, server->loop) != 0)
        abort();
    server->caller = (struct caller){.unix_socket = server->path, .base = "http://localhost"};
}

void
unix_server_stop(struct unix_server *server)
{
    acme_http_loop_stop(server->loop);
    pthread_join(server->thread, NULL);
    acme_http_loop_free(server->loop);
}
