/* test_token.c - mirrors hsm/src/token.c and module.c, on throw-away SoftHSM tokens. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/process.h>
#include <hsm/token.h>

#include "forking.h"
#include "skips.h"
#include "softhsm.h"

static struct hsm_secret *
secret(const char *text)
{
    struct hsm_secret *made = NULL;

    assert_int_equal(hsm_secret_new(text, strlen(text), &made), HSM_OK);
    return made;
}

static enum hsm_status
open_with(const char *module, const char *uri, const char *pin, struct hsm_token **out)
{
    struct hsm_secret *held = pin != NULL ? secret(pin) : NULL;
    struct hsm_token_config config = {.uri = uri, .module = module, .pin = held};
    enum hsm_status st = hsm_token_open(&config, out);

    hsm_secret_free(held);
    return st;
}

/* Open and close; only the status matters. */
static enum hsm_status
try_open(const char *uri, const char *pin)
{
    struct hsm_token *token = NULL;
    enum hsm_status st = open_with(softhsm_module(), uri, pin, &token);

    hsm_token_close(token);
    return st;
}

static enum hsm_status
init(const char *module, const char *label, const char *so_pin, const char *pin)
{
    struct hsm_secret *so = secret(so_pin);
    struct hsm_secret *user = secret(pin);
    enum hsm_status st = hsm_token_init(module, label, so, user);

    hsm_secret_free(so);
    hsm_secret_free(user);
    return st;
}

static void
a_fresh_token_is_initialised_and_opens(void **state)
{
    struct hsm_token_info info;
    struct hsm_token *token = softhsm_token("fresh");

    (void)state;
    hsm_token_info(token, &info);
    assert_string_equal(info.label, "fresh");
    assert_string_not_equal(info.serial, "");
    assert_string_not_equal(info.module, "");
    assert_true(info.has_ecdsa);
    assert_true(info.has_ec_key_pair_gen);
    assert_true(info.has_rng);
    assert_false(info.user_pin_low);
    hsm_token_close(token);
    hsm_token_close(NULL);
}

static void
a_label_is_given_once(void **state)
{
    struct hsm_token *token = softhsm_token("taken");

    (void)state;
    assert_int_equal(init(softhsm_module(), "taken", SOFTHSM_SO_PIN, "8642"), HSM_ERR_EXISTS);
    hsm_token_close(token);
    assert_int_equal(init(softhsm_module(), "taken", SOFTHSM_SO_PIN, "8642"), HSM_ERR_EXISTS);
    assert_int_equal(try_open("pkcs11:token=taken", SOFTHSM_USER_PIN), HSM_OK);
}

static void
labels_have_1_to_32_octets(void **state)
{
    static const char longest[] = "12345678901234567890123456789012";

    (void)state;
    assert_int_equal(init(softhsm_module(), "", SOFTHSM_SO_PIN, "8642"), HSM_ERR_USAGE);
    assert_int_equal(
        init(softhsm_module(), "123456789012345678901234567890123", SOFTHSM_SO_PIN, "8642"),
        HSM_ERR_USAGE);
    assert_int_equal(init(softhsm_module(), longest, SOFTHSM_SO_PIN, SOFTHSM_USER_PIN), HSM_OK);
    hsm_token_close(softhsm_reopen(longest));
}

static void
a_pin_that_the_token_does_not_take_is_refused_at_initialisation(void **state)
{
    (void)state;
    assert_int_equal(init(softhsm_module(), "short", SOFTHSM_SO_PIN, "1"), HSM_ERR_DENIED);
}

static void
modules_that_are_none_are_refused(void **state)
{
    struct hsm_token *token = NULL;

    (void)state;
    assert_int_equal(open_with("/absent/module.so", "pkcs11:token=x", "2468", &token),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(open_with("/etc/passwd", "pkcs11:token=x", "2468", &token),
                     HSM_ERR_UNSUPPORTED);
    assert_int_equal(
        open_with("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "pkcs11:token=x", "2468", &token),
        access("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", R_OK) == 0 ? HSM_ERR_UNSUPPORTED
                                                                      : HSM_ERR_NOT_FOUND);
    assert_int_equal(open_with(NULL, "pkcs11:token=x", "2468", &token), HSM_ERR_USAGE);
    assert_int_equal(init("/absent/module.so", "x", SOFTHSM_SO_PIN, "8642"), HSM_ERR_NOT_FOUND);
    assert_null(token);
}

/* Escape every octet, as RFC 7512 section 2.3 allows. */
static void
format_uri(char *out, size_t size, const char *beginning, const char *value)
{
    int len = snprintf(out, size, "%s", beginning);

    for (; *value != '\0'; value++) {
        assert_true((size_t)len + 4 <= size);
        len += snprintf(out + len, size - (size_t)len, "%%%02X", (unsigned char)*value);
    }
}

static void
tokens_are_found_by_serial_number(void **state)
{
    struct hsm_token *token = softhsm_token("numbered");
    struct hsm_token_info info;
    char uri[256];

    (void)state;
    hsm_token_info(token, &info);
    hsm_token_close(token);
    format_uri(uri, sizeof(uri), "pkcs11:serial=", info.serial);
    assert_int_equal(try_open(uri, SOFTHSM_USER_PIN), HSM_OK);
}

static void
tokens_are_found_by_what_their_uri_says(void **state)
{
    struct hsm_token *token = softhsm_token("named");
    struct hsm_token_info info;
    char by_library[256];
    char other_serial[256];

    (void)state;
    hsm_token_info(token, &info);
    hsm_token_close(token);
    format_uri(by_library, sizeof(by_library),
               "pkcs11:token=named;library-description=", info.module);
    snprintf(other_serial, sizeof(other_serial), "pkcs11:token=named;serial=%sX", info.serial + 1);
    assert_int_equal(try_open("pkcs11:token=named;object=any;type=private", SOFTHSM_USER_PIN),
                     HSM_OK);
    assert_int_equal(try_open(by_library, SOFTHSM_USER_PIN), HSM_OK);
    assert_int_equal(try_open(other_serial, SOFTHSM_USER_PIN), HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=absent", SOFTHSM_USER_PIN), HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=named;model=x", SOFTHSM_USER_PIN), HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=named;library-manufacturer=x", SOFTHSM_USER_PIN),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=named;x-vendor=x", SOFTHSM_USER_PIN),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=named;slot-id=4711", SOFTHSM_USER_PIN),
                     HSM_ERR_NOT_FOUND);
}

static void
uris_that_would_do_harm_are_refused(void **state)
{
    static const struct {
        const char *uri;
        enum hsm_status status;
    } rows[] = {
        {"pkcs11:token=fresh?pin-value=2468", HSM_ERR_USAGE},
        {"pkcs11:slot-id=0", HSM_ERR_USAGE},
        {"pkcs11:token=fresh;token=fresh", HSM_ERR_MALFORMED},
        {"token=fresh", HSM_ERR_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(try_open(rows[i].uri, SOFTHSM_USER_PIN), rows[i].status);
}

static void
two_tokens_of_one_description_are_ambiguous(void **state)
{
    struct hsm_token *token = softhsm_token("twin-a");
    struct hsm_token_info info;
    char uri[256];

    (void)state;
    hsm_token_info(token, &info);
    hsm_token_close(token);
    hsm_token_close(softhsm_token("twin-b"));
    format_uri(uri, sizeof(uri), "pkcs11:manufacturer=", info.manufacturer);
    assert_int_equal(try_open(uri, SOFTHSM_USER_PIN), HSM_ERR_AMBIGUOUS);
}

static void
uris_name_module_and_pin_source(void **state)
{
    char uri[512];
    char pin_path[256];
    struct hsm_token *token = softhsm_token("by-uri");

    (void)state;
    hsm_token_close(token);
    token = NULL;
    snprintf(pin_path, sizeof(pin_path), "%s/pin", softhsm_dir());
    assert_int_equal(hsm_file_write(pin_path, "2468\n", 5, 0600), HSM_OK);
    snprintf(uri, sizeof(uri), "pkcs11:token=by-uri?module-path=%s&pin-source=file:%s",
             softhsm_module(), pin_path);
    assert_int_equal(open_with(NULL, uri, NULL, &token), HSM_OK);
    hsm_token_close(token);
    token = NULL;
    snprintf(uri, sizeof(uri), "pkcs11:token=by-uri?pin-source=file://%s", pin_path);
    assert_int_equal(open_with(softhsm_module(), uri, NULL, &token), HSM_OK);
    hsm_token_close(token);
    assert_int_equal(try_open("pkcs11:token=by-uri?pin-source=file:/absent", NULL),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(try_open("pkcs11:token=by-uri?pin-source=%7c/bin/echo", NULL), HSM_ERR_USAGE);
    assert_int_equal(try_open("pkcs11:token=by-uri", NULL), HSM_ERR_USAGE);
}

static void
a_wrong_pin_is_not_followed_by_another_try(void **state)
{
    (void)state;
    hsm_token_close(softhsm_token("latched"));
    assert_int_equal(try_open("pkcs11:token=latched", "9999"), HSM_ERR_DENIED);
    assert_int_equal(try_open("pkcs11:token=latched", SOFTHSM_USER_PIN), HSM_ERR_DENIED);
    assert_int_equal(try_open("pkcs11:token=by-uri", SOFTHSM_USER_PIN), HSM_OK);
    hsm_token_forget_refusals(); /* an operator has confirmed the PIN */
    assert_int_equal(try_open("pkcs11:token=latched", SOFTHSM_USER_PIN), HSM_OK);
}

static void
a_wrong_pin_shows_on_the_token(void **state)
{
    struct hsm_token_info *infos = NULL;
    size_t count = 0;

    (void)state;
    hsm_token_close(softhsm_token("shows"));
    assert_int_equal(try_open("pkcs11:token=shows", "9999"), HSM_ERR_DENIED);
    assert_int_equal(hsm_token_list("pkcs11:token=shows", softhsm_module(), &infos, &count),
                     HSM_OK);
    assert_int_equal(count, 1);
    assert_true(infos[0].user_pin_low); /* one try reached the token */
    free(infos);
}

/* The number of calls of that function in pkcs11-spy's log. */
static size_t
calls_in(const char *log_path, const char *name)
{
    uint8_t *log = NULL;
    size_t len = 0;
    size_t count = 0;

    assert_int_equal(hsm_file_read(log_path, 16 * 1024 * 1024, &log, &len), HSM_OK);
    for (const char *at = (const char *)log; (at = strstr(at, name)) != NULL; at++)
        count++;
    free(log);
    return count;
}

/* The module that logs calls to the one behind it; Debian's package opensc-pkcs11. */
static const char *
spy_module(void)
{
    static char path[256];
    glob_t found;

    path[0] = '\0';
    if (glob("/usr/lib/*/pkcs11-spy.so", 0, NULL, &found) == 0) {
        snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
        globfree(&found);
    }
    return path[0] != '\0' ? path : NULL;
}

/* Runs in a child, because the spy does not clean up; returns 0 on success. */
static int
spied_on(const char *spy, const char *log_path)
{
    struct hsm_token *token = NULL;

    setenv("PKCS11SPY", softhsm_module(), 1);
    setenv("PKCS11SPY_OUTPUT", log_path, 1);
    if (open_with(spy, "pkcs11:token=spied", "9999", &token) != HSM_ERR_DENIED ||
        calls_in(log_path, "C_Login") != 1)
        return 1;
    if (open_with(spy, "pkcs11:token=spied", "9999", &token) != HSM_ERR_DENIED ||
        open_with(spy, "pkcs11:token=spied", SOFTHSM_USER_PIN, &token) != HSM_ERR_DENIED)
        return 2;
    return calls_in(log_path, "C_Login") == 1 ? 0 : 3;
}

static void
after_a_wrong_pin_no_login_reaches_the_module(void **state)
{
    const char *spy = spy_module();
    char log_path[256];
    int status = -1;
    pid_t child;

    (void)state;
    if (spy == NULL) {
        printf("skipped: no pkcs11-spy.so\n");
        skip();
    }
    hsm_token_close(softhsm_token("spied"));
    snprintf(log_path, sizeof(log_path), "%s/spy.log", softhsm_dir());
    child = fork();
    if (child == 0)
        _exit(spied_on(spy, log_path));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
several_tokens_are_open_at_once(void **state)
{
    struct hsm_token *a = softhsm_token("many-a");
    struct hsm_token *b = softhsm_token("many-b"); /* a slot added after the first was opened */
    uint8_t random[32];

    (void)state;
    assert_int_equal(hsm_token_random(a, random, sizeof(random)), HSM_OK);
    assert_int_equal(hsm_token_random(b, random, sizeof(random)), HSM_OK);
    hsm_token_close(a);
    assert_int_equal(hsm_token_random(b, random, sizeof(random)), HSM_OK);
    a = softhsm_reopen("many-a");
    assert_int_equal(hsm_token_random(a, random, sizeof(random)), HSM_OK);
    hsm_token_close(b);
    hsm_token_close(a);
}

static void
one_token_opened_twice_stays_open_until_both_close(void **state)
{
    struct hsm_token *first = softhsm_token("shared");
    struct hsm_token *second = softhsm_reopen("shared");
    uint8_t random[32] = {0};
    static const uint8_t zeros[32];

    (void)state;
    hsm_token_close(first);
    assert_int_equal(hsm_token_random(second, random, sizeof(random)), HSM_OK);
    assert_memory_not_equal(random, zeros, sizeof(random));
    hsm_token_close(second);
    second = softhsm_reopen("shared");
    assert_int_equal(hsm_token_random(second, random, sizeof(random)), HSM_OK);
    hsm_token_close(second);
}

static void
tokens_are_listed_without_a_pin(void **state)
{
    struct hsm_token_info *infos = NULL;
    size_t all = 0;
    size_t count = 7;

    (void)state;
    hsm_token_close(softhsm_token("listed"));
    assert_int_equal(hsm_token_list(NULL, softhsm_module(), &infos, &all), HSM_OK);
    assert_true(all >= 1);
    free(infos);
    assert_int_equal(hsm_token_list("pkcs11:token=listed", softhsm_module(), &infos, &count),
                     HSM_OK);
    assert_int_equal(count, 1);
    assert_string_equal(infos[0].label, "listed");
    free(infos);
    assert_int_equal(hsm_token_list("pkcs11:token=absent", softhsm_module(), &infos, &count),
                     HSM_OK);
    assert_int_equal(count, 0);
    free(infos);
    assert_int_equal(hsm_token_list(NULL, NULL, &infos, &count), HSM_ERR_USAGE);
}

/* Runs in the child of a fork(); returns 0 on success. */
static int
child_of(struct hsm_token *inherited)
{
    uint8_t random[8];
    struct hsm_token *fresh;

    if (hsm_token_random(inherited, random, sizeof(random)) != HSM_ERR_USAGE)
        return 1;
    fresh = softhsm_reopen("forked");
    if (hsm_token_random(fresh, random, sizeof(random)) != HSM_OK)
        return 2;
    hsm_token_close(inherited);
    if (hsm_token_random(fresh, random, sizeof(random)) != HSM_OK)
        return 3;
    hsm_token_close(fresh);
    return 0;
}

static void
a_child_cannot_use_the_parents_token_but_opens_its_own(void **state)
{
    struct hsm_token *token;
    uint8_t random[8];
    int status = -1;
    pid_t child;

    SKIP_WHERE_NO_FORK();
    (void)state;
    token = softhsm_token("forked");
    child = fork();
    if (child == 0)
        _exit(child_of(token));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(hsm_token_random(token, random, sizeof(random)), HSM_OK);
    hsm_token_close(token);
}

static void
a_child_keeps_to_a_refusal_that_the_parent_saw(void **state)
{
    int status = -1;
    pid_t child;

    SKIP_WHERE_NO_FORK();
    (void)state;
    hsm_token_close(softhsm_token("worn"));
    assert_int_equal(try_open("pkcs11:token=worn", "9999"), HSM_ERR_DENIED);
    child = fork();
    if (child == 0)
        _exit(try_open("pkcs11:token=worn", SOFTHSM_USER_PIN) == HSM_ERR_DENIED ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Several processes start at once; none may see another's half-written token. */
static void
processes_start_together(void **state)
{
    pid_t children[8];

    SKIP_WHERE_NO_FORK();
    (void)state;
    hsm_token_close(softhsm_token("together"));
    for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            for (int round = 0; round < 5; round++) {
                if (try_open("pkcs11:token=together", SOFTHSM_USER_PIN) != HSM_OK)
                    _exit(1);
            }
            _exit(0);
        }
    }
    for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static int
start(void **state)
{
    (void)state;
    softhsm_start();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_token_is_initialised_and_opens),
        cmocka_unit_test(a_label_is_given_once),
        cmocka_unit_test(labels_have_1_to_32_octets),
        cmocka_unit_test(a_pin_that_the_token_does_not_take_is_refused_at_initialisation),
        cmocka_unit_test(modules_that_are_none_are_refused),
        cmocka_unit_test(tokens_are_found_by_serial_number),
        cmocka_unit_test(tokens_are_found_by_what_their_uri_says),
        cmocka_unit_test(uris_that_would_do_harm_are_refused),
        cmocka_unit_test(two_tokens_of_one_description_are_ambiguous),
        cmocka_unit_test(uris_name_module_and_pin_source),
        cmocka_unit_test(a_wrong_pin_is_not_followed_by_another_try),
        cmocka_unit_test(a_wrong_pin_shows_on_the_token),
        cmocka_unit_test(after_a_wrong_pin_no_login_reaches_the_module),
        cmocka_unit_test(several_tokens_are_open_at_once),
        cmocka_unit_test(one_token_opened_twice_stays_open_until_both_close),
        cmocka_unit_test(tokens_are_listed_without_a_pin),
        cmocka_unit_test(a_child_cannot_use_the_parents_token_but_opens_its_own),
        cmocka_unit_test(a_child_keeps_to_a_refusal_that_the_parent_saw),
        cmocka_unit_test(processes_start_together),
    };

    return skips_run_group_tests(tests, start, stop);
}
