/* test_notify.c - mirrors hsm/src/notify.c: what the service manager is told of workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <hsm/supervise.h>
#include <hsm/token.h>

#include "softhsm.h"
#include "supervise_group.h"

static void
assert_told(int fd, const char *wanted)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char text[256];
    ssize_t n;

    do { /* skip watchdog messages */
        assert_int_equal(poll(&ready, 1, 10000), 1);
        n = recv(fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
    } while (strcmp(text, "WATCHDOG=1") == 0 && strcmp(wanted, text) != 0);
    assert_string_equal(text, wanted);
}

static void
told_to(const char *address, socklen_t len, const struct sockaddr_un *name)
{
    struct hsm_supervise_config config = supervise_with(run_well);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)name, len), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address, 1), 0);
    assert_int_equal(setenv("WATCHDOG_USEC", "20000", 1), 0);
    event_count = 0;
    is_asked = false;
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    assert_told(fd, "WATCHDOG=1");
    assert_told(fd, "READY=1");
    assert_told(fd, "STOPPING=1");
    close(fd);
}

static void
systemd_is_told_by_path_and_by_abstract_name(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char address[sizeof(name.sun_path)];
    int n = snprintf(address, sizeof(address), "%s/notify", softhsm_dir());

    (void)state;
    assert_true(n > 0 && (size_t)n < sizeof(address));
    memcpy(name.sun_path, address, sizeof(address));
    told_to(address, (socklen_t)sizeof(name), &name);
    n = snprintf(address, sizeof(address), "@sti-notify-%d", (int)getpid());
    memcpy(name.sun_path + 1, address + 1, (size_t)n - 1);
    name.sun_path[0] = '\0';
    told_to(address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n), &name);
}

static void
a_worker_that_never_is_ready_is_not_reported(void **state)
{
    static enum hsm_status missing = HSM_ERR_NOT_FOUND;
    struct hsm_supervise_config config = supervise_with(run_and_return);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s/notify-2", softhsm_dir());
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name.sun_path, 1), 0);
    config.context = &missing;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_NOT_FOUND);
    unsetenv("NOTIFY_SOCKET");
    assert_told(fd, "STOPPING=1"); /* without READY=1 before it */
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(systemd_is_told_by_path_and_by_abstract_name, supervise_group_fresh),
        cmocka_unit_test_setup(a_worker_that_never_is_ready_is_not_reported, supervise_group_fresh),
    };

    return cmocka_run_group_tests(tests, supervise_group_start, supervise_group_stop);
}
