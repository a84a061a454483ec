/* config.c - configuration files (INI) with a strict table of keys. */
#define _GNU_SOURCE /* asprintf */
#include <acme/config.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include <acme/store.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/uri.h>

#define FILE_MAX        65536 /* octets of a configuration file */
#define LINE_MAX_OCTETS 4096 /* of one line, without its end */
#define KEYS_MAX        256 /* keys of one table */

/* RFC 3986 section 2, without '#': a URL in certificates and tokens has no fragment. */
#define URL_CHARACTERS                                                                             \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?[]@!$&'()*+,;=%"

/* inih in Debian's build passes no line number to the handler, so lines are counted while
 * reading. */
struct reading {
    const char *path;
    const char *rest; /* the unread text */
    int line; /* number of the current line, from 1 */
    const struct acme_config_key *keys;
    void *config;
    char *directory; /* of the file, with a final slash; "" for the working directory */
    int seen[KEYS_MAX]; /* the line of each key; 0: not seen */
    enum hsm_status status;
};

static enum hsm_status
refuse(struct reading *reading, const char *section, const char *name, const char *what)
{
    hsm_log(HSM_LOG_ERROR, "%s:%d: [%s] %s: %s", reading->path, reading->line, section, name, what);
    reading->status = HSM_ERR_MALFORMED;
    return HSM_ERR_MALFORMED;
}

/* fgets() for inih, over the text. inih would split an over-long line, so it ends the reading. */
static char *
next_line(char *to, int size, void *context)
{
    struct reading *reading = context;
    size_t len = strcspn(reading->rest, "\n");

    if (*reading->rest == '\0' || reading->status != HSM_OK)
        return NULL;
    reading->line++;
    if (len > LINE_MAX_OCTETS || len + 2 > (size_t)size) {
        hsm_log(HSM_LOG_ERROR, "%s:%d: line longer than %d octets", reading->path, reading->line,
                LINE_MAX_OCTETS);
        reading->status = HSM_ERR_MALFORMED;
        return NULL;
    }
    memcpy(to, reading->rest, len);
    to[len] = '\0';
    reading->rest += len + (reading->rest[len] == '\n');
    return to;
}

static const struct acme_config_key *
find_key(const struct acme_config_key *keys, const char *section, const char *name)
{
    for (; keys->section != NULL; keys++) {
        if (strcmp(keys->section, section) == 0 && strcmp(keys->name, name) == 0)
            return keys;
    }
    return NULL;
}

static bool
section_is_known(const struct acme_config_key *keys, const char *section)
{
    for (; keys->section != NULL; keys++) {
        if (strcmp(keys->section, section) == 0)
            return true;
    }
    return false;
}

static void *
member(void *config, const struct acme_config_key *key)
{
    return (char *)config + key->offset;
}

static char *
join(const char *a, const char *b, const char *c)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = malloc(size);

    if (text != NULL)
        snprintf(text, size, "%s%s%s", a, b, c);
    return text;
}

static char *
path_from(const struct reading *reading, const char *prefix, const char *path)
{
    return join(prefix, *path == '/' ? "" : reading->directory, path);
}

/* A secret source with its prefix, or a path with a slash. Anything else may be the secret
 * itself. */
static bool
is_secret_source(const char *value)
{
    return strncmp(value, "file:", 5) == 0 || strncmp(value, "fd:", 3) == 0 ||
           strncmp(value, "credential:", 11) == 0 || strcmp(value, "prompt") == 0 ||
           strchr(value, '/') != NULL;
}

/* As in hsm_secret_from(): only "file:PATH" and a bare path name a file. */
static char *
secret_source_from(const struct reading *reading, const char *value)
{
    if (strncmp(value, "file:", 5) == 0)
        return path_from(reading, "file:", value + 5);
    if (strncmp(value, "fd:", 3) == 0 || strncmp(value, "credential:", 11) == 0 ||
        strcmp(value, "prompt") == 0)
        return strdup(value);
    return path_from(reading, "", value);
}

static enum hsm_status
set_text(struct reading *reading, const struct acme_config_key *key, char *text)
{
    char **to = member(reading->config, key);

    if (text == NULL) {
        reading->status = HSM_ERR_NOMEM;
        return HSM_ERR_NOMEM;
    }
    free(*to);
    *to = text;
    return HSM_OK;
}

/* A mistyped URI, and libpq's other form ("host=db password=.."), would name a new, empty store,
 * with the password in its name. The value is not logged. */
static enum hsm_status
set_store(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    bool is_uri = acme_store_is_uri(value);

    if (!is_uri && *value != '/' && *value != '.' && strpbrk(value, ":=@") != NULL)
        return refuse(reading, key->section, key->name,
                      "neither a postgresql:// URI nor a path without \":\", \"=\" and \"@\"");
    return set_text(reading, key, is_uri ? strdup(value) : path_from(reading, "", value));
}

static enum hsm_status
set_path(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    if (strstr(value, "://") != NULL) /* not logged: it may have user and password */
        return refuse(reading, key->section, key->name, "a URL, not a path");
    return set_text(reading, key, path_from(reading, "", value));
}

/* "https://HOST..." with the characters of RFC 3986. */
static bool
is_https_url(const char *value)
{
    const char *host = value + strlen("https://");
    size_t host_len;

    if (strncmp(value, "https://", strlen("https://")) != 0)
        return false;
    host_len = strcspn(host, "/?");
    return host_len > 0 && *host != ':' && memchr(host, '@', host_len) == NULL &&
           strspn(host, URL_CHARACTERS) == strlen(host);
}

static enum hsm_status
set_url(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    if (!is_https_url(value))
        return refuse(reading, key->section, key->name, "not an https URL");
    return set_text(reading, key, strdup(value));
}

/* The value is not logged: it may have a PIN. */
static enum hsm_status
set_pkcs11(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st = hsm_uri_parse(value, &uri, &why);

    if (st == HSM_ERR_MALFORMED)
        return refuse(reading, key->section, key->name, why.text);
    if (st != HSM_OK) {
        reading->status = st;
        return st;
    }
    if (hsm_uri_get(uri, "pin-value") != NULL)
        return refuse(reading, key->section, key->name, "has a pin-value: use pin-source");
    return set_text(reading, key, strdup(value));
}

static enum hsm_status
set_number(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    char range[96];
    char *end = NULL;
    long number;

    errno = 0;
    number = strtol(value, &end, 10);
    if (errno != 0 || *end != '\0' || strspn(value, "-0123456789") != strlen(value) ||
        number < key->min || number > key->max) {
        snprintf(range, sizeof(range), "not a number from %ld to %ld", key->min, key->max);
        return refuse(reading, key->section, key->name, range);
    }
    *(long *)member(reading->config, key) = number;
    return HSM_OK;
}

static enum hsm_status
set_switch(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    bool yes = strcmp(value, "yes") == 0;

    if (!yes && strcmp(value, "no") != 0)
        return refuse(reading, key->section, key->name, "neither yes nor no");
    *(bool *)member(reading->config, key) = yes;
    return HSM_OK;
}

static enum hsm_status
set_value(struct reading *reading, const struct acme_config_key *key, const char *value)
{
    if (*value == '\0')
        return refuse(reading, key->section, key->name, "no value");
    switch (key->type) {
    case ACME_CONFIG_TEXT:
        return set_text(reading, key, strdup(value));
    case ACME_CONFIG_URL:
        return set_url(reading, key, value);
    case ACME_CONFIG_PKCS11:
        return set_pkcs11(reading, key, value);
    case ACME_CONFIG_PATH:
        return set_path(reading, key, value);
    case ACME_CONFIG_STORE:
        return set_store(reading, key, value);
    case ACME_CONFIG_SECRET_SOURCE:
        if (!is_secret_source(value))
            return refuse(reading, key->section, key->name,
                          "not file:PATH, fd:N, credential:NAME or prompt");
        return set_text(reading, key, secret_source_from(reading, value));
    case ACME_CONFIG_NUMBER:
        return set_number(reading, key, value);
    case ACME_CONFIG_SWITCH:
        return set_switch(reading, key, value);
    }
    reading->status = HSM_ERR_USAGE;
    return HSM_ERR_USAGE;
}

/* inih's handler: nonzero is success. */
static int
take_value(void *context, const char *section, const char *name, const char *value)
{
    struct reading *reading = context;
    const struct acme_config_key *key = find_key(reading->keys, section, name);
    char twice[48];
    int *seen;

    if (reading->status != HSM_OK)
        return 0;
    if (key == NULL) {
        bool known = section_is_known(reading->keys, section);

        return refuse(reading, section, name, known ? "unknown key" : "unknown section") == HSM_OK;
    }
    seen = &reading->seen[key - reading->keys];
    if (*seen != 0) {
        snprintf(twice, sizeof(twice), "given before, in line %d", *seen);
        return refuse(reading, section, name, twice) == HSM_OK;
    }
    *seen = reading->line;
    return set_value(reading, key, value) == HSM_OK;
}

/* Settings of Debian's inih: a buffer that holds the longest line allowed here, and no continuation
 * lines (with them, an accidental blank at the start of a line would change the previous value). */
static void
set_up_inih(void)
{
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_initial_alloc = LINE_MAX_OCTETS + 3;
    ini_max_line = LINE_MAX_OCTETS + 3;
    ini_allow_multiline = false;
    ini_stop_on_first_error = true;
}

static enum hsm_status
parse(struct reading *reading, ini_handler take)
{
    int rc;

    set_up_inih();
    rc = ini_parse_stream(next_line, reading, take, reading);
    if (reading->status != HSM_OK)
        return reading->status; /* logged */
    if (rc < 0)
        return HSM_ERR_NOMEM;
    if (rc > 0) {
        hsm_log(HSM_LOG_ERROR, "%s:%d: neither [section] nor key = value", reading->path, rc);
        return HSM_ERR_MALFORMED;
    }
    return HSM_OK;
}

/* Log a missing key: of the file, or of the named section that begins in a line. */
static void
missing(const struct reading *reading, const struct acme_config_key *key)
{
    if (reading->line == 0)
        hsm_log(HSM_LOG_ERROR, "%s: [%s] %s: missing", reading->path, key->section, key->name);
    else
        hsm_log(HSM_LOG_ERROR, "%s:%d: [%s] %s: missing", reading->path, reading->line,
                key->section, key->name);
}

/* Keys that are not in the file: refuse required ones, set the others to their defaults. */
static enum hsm_status
complete(struct reading *reading)
{
    const struct acme_config_key *key = reading->keys;

    for (size_t i = 0; key[i].section != NULL; i++) {
        if (reading->seen[i] != 0)
            continue;
        if (key[i].required) {
            missing(reading, &key[i]);
            return HSM_ERR_MALFORMED;
        }
        if (key[i].fallback != NULL && set_value(reading, &key[i], key[i].fallback) != HSM_OK)
            return reading->status;
    }
    return HSM_OK;
}

static char *
directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? strdup("") : strndup(path, (size_t)(slash - path) + 1);
}

static bool
table_is_too_long(const struct acme_config_key *keys)
{
    size_t count = 0;

    while (keys[count].section != NULL)
        count++;
    return count > KEYS_MAX;
}

/* Read the whole file and set up `reading`; released with it. */
static enum hsm_status
open_reading(const char *path, struct reading *reading, uint8_t **text)
{
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, FILE_MAX, text, &len);

    if (st != HSM_OK)
        return st;
    if (memchr(*text, '\0', len) != NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: not a text", path);
        return HSM_ERR_MALFORMED;
    }
    reading->path = path;
    reading->rest = (const char *)*text;
    reading->directory = directory_of(path);
    return reading->directory == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

enum hsm_status
acme_config_read(const char *path, const struct acme_config_key *keys, void *config)
{
    DEFER(free) uint8_t *text = NULL;
    struct reading reading = {.keys = keys, .config = config};
    enum hsm_status st;

    if (table_is_too_long(keys))
        return HSM_ERR_USAGE;
    st = open_reading(path, &reading, &text);
    if (st != HSM_OK)
        return st;
    st = parse(&reading, take_value);
    reading.line = 0;
    if (st == HSM_OK)
        st = complete(&reading);
    free(reading.directory);
    if (st != HSM_OK)
        acme_config_clear(keys, config);
    return st;
}

static const char *
skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* True if the line begins with this word, followed by blanks and one of `ends`. */
static bool
begins_with(const char *line, const char *word, const char *ends)
{
    size_t len = strlen(word);

    return strncmp(line, word, len) == 0 && strchr(ends, *skip_blanks(line + len)) != NULL &&
           *skip_blanks(line + len) != '\0';
}

/* The line of a key in the file; 0: it is not there. */
static int
line_of(const char *text, const char *section, const char *name)
{
    bool is_inside = false;

    for (int line = 1; *text != '\0'; line++) {
        const char *at = skip_blanks(text);

        if (*at == '[')
            is_inside = begins_with(skip_blanks(at + 1), section, "]");
        else if (is_inside && begins_with(at, name, "=:"))
            return line;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return 0;
}

enum hsm_status
acme_config_refuse(const char *path, const char *section, const char *name, const char *what)
{
    DEFER(free) uint8_t *text = NULL;
    size_t len = 0;
    int line = 0;

    if (hsm_file_read(path, FILE_MAX, &text, &len) == HSM_OK)
        line = line_of((const char *)text, section, name);
    if (line > 0)
        hsm_log(HSM_LOG_ERROR, "%s:%d: [%s] %s: %s", path, line, section, name, what);
    else
        hsm_log(HSM_LOG_ERROR, "%s: [%s] %s: %s", path, section, name, what);
    return HSM_ERR_MALFORMED;
}

/* ---- named sections ---- */

/** A file of named sections; the current section. */
struct sections {
    struct reading reading; /* first: parse() passes a pointer to it */
    const struct acme_config_kind *kinds;
    void *context;
    const struct acme_config_kind *kind; /* NULL: no section yet */
    char name[ACME_CONFIG_NAME_MAX + 1];
    int first_line;
};

/* Parse "KIND NAME"; NULL: unknown kind or invalid name. */
static const struct acme_config_kind *
find_kind(const struct acme_config_kind *kinds, const char *section, const char **name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strcspn(section, " ");

    *name = section + len + strspn(section + len, " ");
    if (**name == '\0' || strlen(*name) > ACME_CONFIG_NAME_MAX ||
        strspn(*name, allowed) != strlen(*name))
        return NULL;
    for (; kinds->name != NULL; kinds++)
        if (strlen(kinds->name) == len && strncmp(kinds->name, section, len) == 0)
            return kinds;
    return NULL;
}

/* Pass the section that was read last to the caller. */
static enum hsm_status
end_section(struct sections *sections)
{
    struct reading *reading = &sections->reading;
    struct hsm_reason why = {""};
    char *where = NULL;
    enum hsm_status st;

    if (sections->kind == NULL || reading->status != HSM_OK)
        return reading->status;
    reading->line = sections->first_line;
    st = complete(reading);
    if (st == HSM_OK && asprintf(&where, "%s:%d", reading->path, sections->first_line) < 0)
        st = HSM_ERR_NOMEM;
    if (st == HSM_OK) {
        st = sections->kind->take(sections->context, sections->name, where, reading->config, &why);
        if (st != HSM_OK)
            hsm_log(HSM_LOG_ERROR, "%s: [%s %s]: %s", where, sections->kind->name, sections->name,
                    why.text[0] != '\0' ? why.text : hsm_status_text(st));
        free(where);
    } else {
        acme_config_clear(reading->keys, reading->config);
    }
    free(reading->config);
    reading->config = NULL;
    sections->kind = NULL;
    reading->status = st;
    return st;
}

static enum hsm_status
begin_section(struct sections *sections, const char *section)
{
    struct reading *reading = &sections->reading;
    const char *name;
    int line = reading->line;
    enum hsm_status st = end_section(sections);

    reading->line = line;
    if (st != HSM_OK)
        return st;
    sections->kind = find_kind(sections->kinds, section, &name);
    if (sections->kind == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s:%d: [%s]: no known kind of section with a name", reading->path,
                reading->line, section);
        reading->status = HSM_ERR_MALFORMED;
        return HSM_ERR_MALFORMED;
    }
    memcpy(sections->name, name, strlen(name) + 1);
    sections->first_line = line;
    reading->keys = sections->kind->keys;
    memset(reading->seen, 0, sizeof(reading->seen));
    reading->config = calloc(1, sections->kind->size);
    if (reading->config == NULL)
        reading->status = HSM_ERR_NOMEM;
    return reading->status;
}

/* inih's handler. A change of section ends the one before. */
static int
take_named_value(void *context, const char *section, const char *name, const char *value)
{
    struct sections *sections = context;
    const char *of;

    if (sections->reading.status != HSM_OK)
        return 0;
    if ((sections->kind == NULL || find_kind(sections->kinds, section, &of) != sections->kind ||
         strcmp(of, sections->name) != 0) &&
        begin_section(sections, section) != HSM_OK)
        return 0;
    return take_value(&sections->reading, sections->kind->name, name, value);
}

enum hsm_status
acme_config_read_sections(const char *path, const struct acme_config_kind *kinds, void *context)
{
    DEFER(free) uint8_t *text = NULL;
    struct sections sections = {.kinds = kinds, .context = context};
    struct reading *reading = &sections.reading;
    enum hsm_status st = open_reading(path, reading, &text);

    if (st != HSM_OK)
        return st;
    st = parse(reading, take_named_value);
    if (st == HSM_OK)
        st = end_section(&sections);
    if (reading->config != NULL)
        acme_config_clear(reading->keys, reading->config);
    free(reading->config);
    free(reading->directory);
    return st;
}

void
acme_config_clear(const struct acme_config_key *keys, void *config)
{
    for (; keys->section != NULL; keys++) {
        char **text = member(config, keys);

        if (keys->type == ACME_CONFIG_NUMBER || keys->type == ACME_CONFIG_SWITCH)
            continue;
        free(*text);
        *text = NULL;
    }
}
