/* test_config.c - mirrors acme/src/config.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <acme/config.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT_SIZE    8192 /* octets */

struct settings {
    char *url, *store, *pin, *page, *key, *file;
    long port;
    bool is_open;
};

static const struct acme_config_key keys[] = {
    {"server", "url", ACME_CONFIG_TEXT, offsetof(struct settings, url), true, 0, 0, NULL, "URL"},
    {"server", "port", ACME_CONFIG_NUMBER, offsetof(struct settings, port), false, 1, 65535, "4443",
     "TCP port"},
    {"server", "open", ACME_CONFIG_SWITCH, offsetof(struct settings, is_open), false, 0, 0, NULL,
     "let everybody in"},
    {"state", "store", ACME_CONFIG_STORE, offsetof(struct settings, store), false, 0, 0, "ca.db",
     "file"},
    {"state", "pin", ACME_CONFIG_SECRET_SOURCE, offsetof(struct settings, pin), false, 0, 0, NULL,
     "PIN"},
    {"server", "page", ACME_CONFIG_URL, offsetof(struct settings, page), false, 0, 0, NULL,
     "https URL"},
    {"server", "key", ACME_CONFIG_PKCS11, offsetof(struct settings, key), false, 0, 0, NULL,
     "PKCS#11 URI"},
    {"state", "file", ACME_CONFIG_PATH, offsetof(struct settings, file), false, 0, 0, NULL, "file"},
    {NULL, NULL, ACME_CONFIG_TEXT, 0, false, 0, 0, NULL, NULL},
};

static char directory[] = "/tmp/sti-config.XXXXXX";
static char path[64], log_path[64];

static int
set_up(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/a.conf", directory);
    snprintf(log_path, sizeof(log_path), "%s/log", directory);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(log_path);
    return rmdir(directory);
}

static void
write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* Read the file and capture what is logged. */
static enum hsm_status
read_logged(struct settings *settings, char log[TEXT_SIZE])
{
    FILE *to = fopen(log_path, "w+");
    int standard = dup(STDERR_FILENO);
    enum hsm_status st;
    size_t len;

    assert_non_null(to);
    dup2(fileno(to), STDERR_FILENO);
    st = acme_config_read(path, keys, settings);
    dup2(standard, STDERR_FILENO);
    close(standard);
    rewind(to);
    len = fread(log, 1, TEXT_SIZE - 1, to);
    log[len] = '\0';
    fclose(to);
    return st;
}

static enum hsm_status
read_text(const char *text, struct settings *settings)
{
    char log[TEXT_SIZE];

    write_file(text);
    memset(settings, 0, sizeof(*settings));
    return read_logged(settings, log);
}

static void
values_and_defaults_are_set(void **state)
{
    char wanted[128];
    struct settings settings;

    (void)state;
    assert_int_equal(read_text("# comment\n[server]\nurl = https://ca.example:4443/a ; comment\n"
                               "open=yes\r\n[state]\npin = file:pin\n",
                               &settings),
                     HSM_OK);
    assert_string_equal(settings.url, "https://ca.example:4443/a");
    assert_int_equal(settings.port, 4443);
    assert_true(settings.is_open);
    snprintf(wanted, sizeof(wanted), "%s/ca.db", directory);
    assert_string_equal(settings.store, wanted);
    snprintf(wanted, sizeof(wanted), "file:%s/pin", directory);
    assert_string_equal(settings.pin, wanted);
    acme_config_clear(keys, &settings);
    assert_null(settings.url);
    assert_null(settings.store);
    assert_null(settings.pin);
}

static void
a_pkcs11_uri_keeps_its_semicolons(void **state)
{
    struct settings settings;

    (void)state;
    assert_int_equal(
        read_text("[server]\nurl=pkcs11:token=sti-ca;object=issuing?module-path=/m.so\n",
                  &settings),
        HSM_OK);
    assert_string_equal(settings.url, "pkcs11:token=sti-ca;object=issuing?module-path=/m.so");
    acme_config_clear(keys, &settings);
}

static void
a_url_and_a_pkcs11_uri_are_taken_as_they_stand(void **state)
{
    struct settings settings;

    (void)state;
    assert_int_equal(read_text("[server]\nurl=u\npage=https://ca.example:4443/a?b=c\n"
                               "key=pkcs11:object=issuing;type=private\n",
                               &settings),
                     HSM_OK);
    assert_string_equal(settings.page, "https://ca.example:4443/a?b=c");
    assert_string_equal(settings.key, "pkcs11:object=issuing;type=private");
    acme_config_clear(keys, &settings);
    assert_null(settings.page);
    assert_null(settings.key);
}

static void
a_store_is_a_path_or_a_uri_of_postgresql(void **state)
{
    static const struct {
        const char *store, *wanted; /* %s: the directory */
    } table[] = {
        {"postgresql://pa@db/pa?passfile=/p", "postgresql://pa@db/pa?passfile=/p"},
        {"postgres://db/pa", "postgres://db/pa"},
        {"sub/ca-2.db", "%s/sub/ca-2.db"},
        {"/var/lib/a=b/ca.db", "/var/lib/a=b/ca.db"},
        {"./a=b.db", "%s/./a=b.db"},
    };
    char text[128], wanted[128];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        bool is_relative = table[i].wanted[0] == '%';
        struct settings settings;

        snprintf(text, sizeof(text), "[server]\nurl=u\n[state]\nstore=%s\n", table[i].store);
        snprintf(wanted, sizeof(wanted), "%s%s", is_relative ? directory : "",
                 table[i].wanted + (is_relative ? 2 : 0));
        assert_int_equal(read_text(text, &settings), HSM_OK);
        assert_string_equal(settings.store, wanted);
        acme_config_clear(keys, &settings);
    }
}

static void
only_files_are_relative_to_the_configuration(void **state)
{
    static const struct {
        const char *source, *wanted; /* %s: the directory */
    } table[] = {
        {"prompt", "prompt"},
        {"fd:3", "fd:3"},
        {"credential:pin", "credential:pin"},
        {"/etc/pin", "/etc/pin"},
        {"file:/etc/pin", "file:/etc/pin"},
        {"pins/ca", "%s/pins/ca"},
    };
    char text[128], wanted[128];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        const char *mark = strstr(table[i].wanted, "%s");
        struct settings settings;

        snprintf(text, sizeof(text), "[server]\nurl=u\n[state]\npin=%s\n", table[i].source);
        snprintf(wanted, sizeof(wanted), "%s%s", mark != NULL ? directory : "",
                 mark != NULL ? mark + 2 : table[i].wanted);
        assert_int_equal(read_text(text, &settings), HSM_OK);
        assert_string_equal(settings.pin, wanted);
        acme_config_clear(keys, &settings);
    }
}

static void
a_long_line_is_read_whole(void **state)
{
    static char text[TEXT_SIZE];
    struct settings settings;
    size_t len = 3000;

    (void)state;
    snprintf(text, sizeof(text), "[server]\nurl=");
    memset(text + strlen(text), 'u', len);
    assert_int_equal(read_text(text, &settings), HSM_OK);
    assert_int_equal(strlen(settings.url), len);
    acme_config_clear(keys, &settings);
}

/* Refused files, and the log message that follows the file's name. */
static const struct {
    const char *text;
    const char *said;
} refused[] = {
    {"[server]\nurl=u\nport=0\n", ":3: [server] port: not a number from 1 to 65535"},
    {"[server]\nurl=u\nport=65536\n", ":3: [server] port: not a number from 1 to 65535"},
    {"[server]\nurl=u\nport=0x10\n", ":3: [server] port: not a number"},
    {"[server]\nurl=u\nport=10s\n", ":3: [server] port: not a number"},
    {"[server]\nurl=u\nport=99999999999999999999\n", ":3: [server] port: not a number"},
    {"[server]\nurl=u\nopen=true\n", ":3: [server] open: neither yes nor no"},
    {"[server]\nurl=u\n\n# c\nurl=v\n", ":5: [server] url: given before, in line 2"},
    {"[server]\nurl=u\n[server]\nport=1\nport=1\n", ":5: [server] port: given before, in line 4"},
    {"[server]\nurl=u\nuri=v\n", ":3: [server] uri: unknown key"},
    {"[server]\nurl=u\nURL=v\n", ":3: [server] URL: unknown key"},
    {"[server]\nurl=u\n[sever]\nport=1\n", ":4: [sever] port: unknown section"},
    {"url=u\n", ":1: [] url: unknown section"},
    {"[server]\nurl=\n", ":2: [server] url: no value"},
    {"[server]\nport=1\n", ": [server] url: missing"},
    {"[server]\nurl=u\nport\n", ":3: neither [section] nor key = value"},
    {"[server\nurl=u\n", ":1: neither [section] nor key = value"},
    {"[server]\nurl=u\n  and more\n", ":3: neither [section] nor key = value"},
    {"", ": [server] url: missing"},
    {"[server]\nurl=u\npage=http://ca.example/\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\npage=https://\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\npage=https://:443/\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\npage=https://me@ca.example/\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\npage=https://ca.example/a b\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\npage=https://ca.example/#a\n", ":3: [server] page: not an https URL"},
    {"[server]\nurl=u\nkey=issuing\n", ":3: [server] key: not a PKCS#11 URI"},
    {"[server]\nurl=u\nkey=pkcs11:object=a;object=b\n", ":3: [server] key: "},
    {"[server]\nurl=u\nkey=pkcs11:object=a?pin-value=4829173650\n",
     ":3: [server] key: has a pin-value"},
    {"[server]\nurl=u\n[state]\nstore=host=db user=pa password=4829173650\n",
     ":4: [state] store: neither a postgresql:// URI nor a path"},
    {"[server]\nurl=u\n[state]\nstore=postgresql:/pa:4829173650@db/pa\n", ":4: [state] store: "},
    {"[server]\nurl=u\n[state]\nstore=PostgreSQL://pa:4829173650@db/pa\n", ":4: [state] store: "},
    {"[server]\nurl=u\n[state]\nstore=pa:4829173650@db/pa\n", ":4: [state] store: "},
    {"[server]\nurl=u\n[state]\nfile=https://me:4829173650@db/pa\n",
     ":4: [state] file: a URL, not a path"},
    {"[server]\nurl=u\n[state]\npin=4829173650\n", ":4: [state] pin: not file:PATH, fd:N"},
};

static void
what_is_wrong_is_refused_with_file_and_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct settings settings = {0};
        char wanted[256];
        char log[TEXT_SIZE];

        write_file(refused[i].text);
        snprintf(wanted, sizeof(wanted), "%s%s", path, refused[i].said);
        if (read_logged(&settings, log) != HSM_ERR_MALFORMED || strstr(log, wanted) == NULL)
            fail_msg("wanted \"%s\", got \"%s\"", wanted, log);
        assert_null(strstr(log, "4829173650")); /* a PIN or password */
        assert_null(settings.url); /* nothing is kept */
        assert_null(settings.store);
    }
}

/* A program refuses a value that the table accepted. */
static void
a_value_is_refused_later_with_the_line_that_gave_it(void **state)
{
    static const struct {
        const char *text, *section, *name, *wanted;
    } cases[] = {
        {"[server]\nname = x\n", "server", "name", "a.conf:2: [server] name: bad"},
        {"# name = 1\n[state]\nname = y\n\n[ server ]\n\n \tname= x", "server", "name",
         "a.conf:7: [server] name: bad"},
        {"[server]\nnames = x\nname : x\n", "server", "name", "a.conf:3: [server] name: bad"},
        {"[server-2]\nname = x\n", "server", "name", "a.conf: [server] name: bad"}, /* default */
        {"", "server", "name", "a.conf: [server] name: bad"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char log[TEXT_SIZE] = "";
        FILE *to = fopen(log_path, "w+");
        int standard = dup(STDERR_FILENO);

        write_file(cases[i].text);
        dup2(fileno(to), STDERR_FILENO);
        assert_int_equal(acme_config_refuse(path, cases[i].section, cases[i].name, "bad"),
                         HSM_ERR_MALFORMED);
        dup2(standard, STDERR_FILENO);
        close(standard);
        rewind(to);
        (void)!fread(log, 1, sizeof(log) - 1, to);
        fclose(to);
        if (strstr(log, cases[i].wanted) == NULL)
            fail_msg("%s: wanted %s", log, cases[i].wanted);
    }
}

static void
a_line_that_is_too_long_is_refused(void **state)
{
    static char text[TEXT_SIZE];
    struct settings settings = {0};
    char log[TEXT_SIZE];

    (void)state;
    snprintf(text, sizeof(text), "[server]\nurl=");
    memset(text + strlen(text), 'u', 4200);
    write_file(text);
    assert_int_equal(read_logged(&settings, log), HSM_ERR_MALFORMED);
    assert_non_null(strstr(log, "a.conf:2: line longer than"));
}

static void
a_file_that_is_not_there_is_not_found(void **state)
{
    struct settings settings = {0};

    (void)state;
    assert_int_equal(acme_config_read("/nonexistent/a.conf", keys, &settings), HSM_ERR_NOT_FOUND);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_defaults_are_set),
        cmocka_unit_test(a_pkcs11_uri_keeps_its_semicolons),
        cmocka_unit_test(a_url_and_a_pkcs11_uri_are_taken_as_they_stand),
        cmocka_unit_test(a_store_is_a_path_or_a_uri_of_postgresql),
        cmocka_unit_test(only_files_are_relative_to_the_configuration),
        cmocka_unit_test(a_long_line_is_read_whole),
        cmocka_unit_test(what_is_wrong_is_refused_with_file_and_line),
        cmocka_unit_test(a_value_is_refused_later_with_the_line_that_gave_it),
        cmocka_unit_test(a_line_that_is_too_long_is_refused),
        cmocka_unit_test(a_file_that_is_not_there_is_not_found),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
