/* doctor.c - sti-hsm doctor: find out what prevents signing with a token. */
#define _GNU_SOURCE /* adjtimex */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sys/resource.h>
#include <sys/timex.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/use.h>

#include "commands.h"
#include "open.h"

#define MEMLOCK_WANTED  65536 /* octets: for secrets in locked pages */
#define NOFILE_WANTED   1024
#define NOFILE_MOST     1048576 /* above it, closing all descriptors may take minutes */
#define SESSIONS_WANTED 4

enum finding {
    FINE,
    ADVICE, /* works, but could be better */
    FAULT
};

struct report {
    unsigned faults;
    unsigned advice;
};

/* `remedy` is printed unless all is well. */
static void
tell(struct report *report, enum finding finding, const char *what, const char *remedy)
{
    static const char *const marks[] = {"ok    ", "advice", "FAULT "};

    printf("%s  %s\n", marks[finding], what);
    if (finding != FINE && remedy != NULL)
        printf("        %s\n", remedy);
    report->faults += finding == FAULT ? 1 : 0;
    report->advice += finding == ADVICE ? 1 : 0;
}

static void
printable(const char *text, char *out, size_t size)
{
    size_t i = 0;

    for (; text[i] != '\0' && i + 1 < size; i++)
        out[i] = text[i];
    for (size_t n = 0; n < i; n++)
        out[n] = out[n] >= 0x20 && out[n] <= 0x7e ? out[n] : '?';
    out[i] = '\0';
}

static void
check_machine(struct report *report)
{
    struct timex clock = {.modes = 0};
    struct rlimit limit;
    time_t now = time(NULL);

    if (now < 1735689600) /* 2025-01-01 */
        tell(report, FAULT, "clock: it is before 2025",
             "set it: certificates and iat depend on it");
    else if (adjtimex(&clock) == TIME_ERROR || (clock.status & STA_UNSYNC) != 0)
        tell(report, ADVICE, "clock: not synchronised",
             "run chrony or systemd-timesyncd: a PASSporT is fresh for 60 seconds");
    else
        tell(report, FINE, "clock: synchronised", NULL);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < MEMLOCK_WANTED)
        tell(report, ADVICE, "limits: PINs cannot be locked in memory",
             "raise RLIMIT_MEMLOCK (ulimit -l 64)");
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < NOFILE_WANTED)
        tell(report, ADVICE, "limits: few descriptors", "raise RLIMIT_NOFILE (ulimit -n 1024)");
    else if (limit.rlim_cur > NOFILE_MOST)
        tell(report, ADVICE, "limits: very many descriptors",
             "p11-kit server and pkcsslotd spin for minutes: ulimit -n 1024 before them");
    else
        tell(report, FINE, "limits: memory and descriptors", NULL);
}

static void
check_mechanisms(struct report *report, const struct hsm_token_info *info)
{
    if (!info->has_ecdsa)
        tell(report, FAULT, "mechanisms: no CKM_ECDSA", "this token cannot make ES256 signatures");
    else
        tell(report, FINE, "mechanisms: CKM_ECDSA", NULL);
    if (!info->has_ec_key_pair_gen)
        tell(report, FAULT, "mechanisms: no CKM_EC_KEY_PAIR_GEN",
             "keys must be generated in the token: allow it, or take another one");
    if (!info->has_rng)
        tell(report, ADVICE, "random generator: none told", "new keys need one for their CKA_ID");
}

static void
check_info(struct report *report, const struct hsm_token_info *info)
{
    char label[sizeof(info->label)], module[sizeof(info->module)];
    char text[256];

    printable(info->label, label, sizeof(label));
    printable(info->module, module, sizeof(module));
    snprintf(text, sizeof(text), "token: %s, by %s %s", label, module, info->module_version);
    tell(report, FINE, text, NULL);
    check_mechanisms(report, info);
    if (info->user_pin_low)
        tell(report, ADVICE, "PIN: wrong ones were entered, few tries are left",
             "log in once by hand with the right one");
    snprintf(text, sizeof(text), "sessions: at most %lu", info->max_sessions);
    if (info->max_sessions != 0 && info->max_sessions < SESSIONS_WANTED)
        tell(report, ADVICE, text, "one signature at a time: raise the limit of the partition");
    else
        tell(report, FINE, info->max_sessions != 0 ? text : "sessions: no limit told", NULL);
}

/* There must be exactly one token for further checks. */
static enum hsm_status
check_token(struct report *report, const struct arguments *arguments)
{
    struct hsm_token_info *infos = NULL;
    size_t count = 0;
    enum hsm_status st =
        hsm_token_list(arguments->token, open_module(arguments, arguments->token), &infos, &count);

    if (st != HSM_OK) {
        tell(report, FAULT, "module: not usable", "see above; name it with --module");
        return st;
    }
    tell(report, FINE, "module: loaded", NULL);
    if (count == 1)
        check_info(report, &infos[0]);
    else
        tell(report, FAULT, count == 0 ? "token: none matches" : "token: several match",
             count == 0 ? "is it initialised, is its HSM reachable? sti-hsm token show lists all"
                        : "name its serial as well: pkcs11:token=...;serial=...");
    free(infos);
    return count == 1 ? HSM_OK : HSM_ERR_NOT_FOUND;
}

static void
check_signature(struct report *report, struct hsm_token *token, const struct hsm_key_info *info)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    char uri[32 + 3 * HSM_ID_MAX] = "pkcs11:id=";
    uint8_t sig[HSM_P256_SIG_LEN];
    size_t len = strlen(uri);
    HSM_USE_FOR(HSM_USE_SELF_TEST);

    for (size_t i = 0; i < info->id_len; i++)
        len += (size_t)snprintf(uri + len, sizeof(uri) - len, "%%%02x", info->id[i]);
    if (hsm_key_find(token, uri, &key) == HSM_OK &&
        hsm_key_sign_verified(key, "doctor", 6, sig) == HSM_OK)
        tell(report, FINE, "signature: made and verified", NULL);
    else
        tell(report, FAULT, "signature: the token made none that verifies", "see above");
}

static void
check_keys(struct report *report, struct hsm_token *token)
{
    struct hsm_key_info *infos = NULL;
    const struct hsm_key_info *usable = NULL;
    char text[256], label[HSM_LABEL_MAX + 1];
    size_t count = 0;

    if (hsm_key_list(token, &infos, &count) != HSM_OK) {
        tell(report, FAULT, "keys: cannot be listed", "see above");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        printable(infos[i].label, label, sizeof(label));
        snprintf(text, sizeof(text), "key %s: %s", label,
                 infos[i].may_be_used ? "cannot leave the token" : "may not be used");
        tell(report, infos[i].may_be_used ? FINE : ADVICE, text,
             "it could leave, came from outside, or is not for P-256: sti-hsm key list");
        usable = infos[i].may_be_used ? &infos[i] : usable;
    }
    if (count == 0)
        tell(report, ADVICE, "keys: none", "sti-hsm key generate makes one");
    if (usable != NULL)
        check_signature(report, token, usable);
    free(infos);
}

static void
check_login(struct report *report, const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    uint8_t octets[16];
    enum hsm_status st = open_token(arguments, arguments->token, NULL, &token);

    if (st != HSM_OK) {
        tell(report, FAULT, "login: refused or not possible",
             st == HSM_ERR_DENIED ? "the PIN is wrong, locked or expired: do not try it again"
                                  : "see above");
        return;
    }
    tell(report, FINE, "login: good, two sessions open", NULL);
    if (hsm_token_random(token, octets, sizeof(octets)) != HSM_OK)
        tell(report, FAULT, "random generator: gives nothing", "new keys need it");
    check_keys(report, token);
}

enum hsm_status
doctor_run(const struct arguments *arguments)
{
    struct report report = {0, 0};

    check_machine(&report);
    if (check_token(&report, arguments) == HSM_OK)
        check_login(&report, arguments);
    printf("\n%u fault%s, %u piece%s of advice\n", report.faults, report.faults == 1 ? "" : "s",
           report.advice, report.advice == 1 ? "" : "s");
    return report.faults == 0 ? HSM_OK : HSM_ERR_NOT_FOUND;
}
