/* options.c - the command line of sti-cert, by tables. */
#include "options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <hsm/log.h>

#define PROGRAM "sti-cert"

struct option_row {
    const char *name;
    const char *value; /* what the help calls it; NULL: takes none */
    size_t offset; /* in struct arguments */
    bool is_list; /* may be said several times */
    const char *help;
};

#define AT(member)   offsetof(struct arguments, member), false
#define LIST(member) offsetof(struct arguments, member), true

static const struct option_row rows[] = {
    {"token", "URI", AT(token), "the token, such as pkcs11:token=sti-ca; else that of --key"},
    {"key", "KEY", AT(key), "the key: its label, or its URI"},
    {"module", "PATH", AT(module), "PKCS#11 module; else the URI's module-path, else $STI_MODULE"},
    {"journal", "DIR", AT(journal),
     "where uses of keys are written; else $STI_JOURNAL, else nowhere"},
    {"pin-source", "SOURCE", AT(pin_source),
     "PIN of the user: file:PATH, fd:N, credential:NAME or prompt;\n"
     "                          else the URI's pin-source, else asked for"},
    {"quirks", "WORDS", AT(quirks),
     "what the module needs done differently (docs/HSM.md); else what is known"},
    {"profile", "PROFILE", AT(profile), "what the certificate is for, see below"},
    {"csr", "FILE", AT(csr), "the request (PEM or DER); its subject and extensions are not copied"},
    {"issuer", "FILE", AT(issuer), "the issuing certificate; roots sign themselves and have none"},
    {"country", "CC", AT(country), "C of the subject, two capitals"},
    {"state", "NAME", AT(state), "ST of the subject"},
    {"locality", "NAME", AT(locality), "L of the subject"},
    {"organization", "NAME", AT(organization), "O of the subject: the legal name"},
    {"common-name", "NAME", AT(common_name),
     "CN of the subject; of a service provider \"SHAKEN <SPC>\""},
    {"subject-cert", "FILE", AT(subject_cert), "the root that a cross certificate certifies"},
    {"spc", "SPC", LIST(spc), "service provider code for the TNAuthList; may be repeated"},
    {"number", "NUMBER", LIST(number), "telephone number for the TNAuthList; may be repeated"},
    {"range", "START:COUNT", LIST(range), "the same of COUNT numbers from START; may be repeated"},
    {"tnauthlist", "FILE", AT(tnauthlist), "the TNAuthList (DER), instead of those"},
    {"tnauthlist-url", "URL", AT(tnauthlist_url),
     "the HTTPS URL that serves it: the certificate then has only this"},
    {"numbers-under-spc", NULL, AT(numbers_under_spc),
     "numbering data was asked: numbers that the issuer's TNAuthList\n"
     "                          does not hold are those of an SPC that it does hold"},
    {"must-include", "CLAIM", LIST(must_include), "every PASSporT has this claim; may be repeated"},
    {"permit", "CLAIM=VALUE", LIST(permit),
     "where the claim is there it has this value, or another one that\n"
     "                          is permitted; may be repeated"},
    {"must-exclude", "CLAIM", LIST(must_exclude), "no PASSporT has this claim; may be repeated"},
    {"ca", NULL, AT(ca), "ask for a CA certificate"},
    {"path-length", "N", AT(path_length), "pathLenConstraint of a CA certificate (default none)"},
    {"dns", "NAME", LIST(dns), "DNS name of a TLS server; may be repeated"},
    {"ip", "ADDRESS", LIST(ip), "IP address of a TLS server; may be repeated"},
    {"policy", "OID", AT(policy),
     "certificate policy (default for SHAKEN: the United States' CP 1.4)"},
    {"days", "N", AT(days),
     "validity (default 7305 for roots, 1826 for intermediates, 365 for\n"
     "                          delegate CAs, for sti-cross as long as both roots; else 90)"},
    {"not-after", "TIME", AT(not_after), "instead: the last second, such as 2026-04-15T12:00:00Z"},
    {"not-before", "TIME", AT(not_before), "the first second (default: now, backdated)"},
    {"backdate", "SECONDS", AT(backdate), "how long before now a validity begins (default 300)"},
    {"crl-url", "URL", AT(crl_url), "where the STI-PA's CRL is published"},
    {"crl-issuer", "FILE", AT(crl_issuer),
     "the certificate of the STI-PA's CRL signer: its subject is the cRLIssuer"},
    {"anchors", "FILE", AT(anchors), "the roots that are trusted"},
    {"purpose", "PURPOSE", AT(purpose), "sti (default), pa-signing or crl"},
    {"crl", "FILE", AT(crl), "the STI-PA's CRL; with --crl-signer and --pa-anchors"},
    {"crl-signer", "FILE", AT(crl_signer), "the CRL signer's certificate, then intermediates"},
    {"pa-anchors", "FILE", AT(pa_anchors), "the STI-PA's roots"},
    {"intermediates", "FILE", AT(intermediates), "certificates of CAs that the chain may lack"},
    {"ca-keys", "KINDS", AT(ca_keys), "keys that CAs may have besides P-256: p384, p521, rsa"},
    {"any-tnauthlist", NULL, AT(any_tnauthlist),
     "accept a TNAuthList that cannot be read: one in a hundred"},
    {"any-crl", NULL, AT(any_crl), "ask the CRL also if the certificate names another"},
    {"previous", "FILE", AT(previous), "the CRL before this one"},
    {"revoke", "FILE", LIST(revoke), "a certificate that is revoked; may be repeated"},
    {"reason", "REASON", AT(reason), "why, see below"},
    {"signer-url", "URL", AT(signer_url), "where the CRL signer's certificate is published"},
    {"hours", "N", AT(hours), "from thisUpdate to nextUpdate (default 24)"},
    {"at", "TIME", AT(at), "judge as of 2026-01-15T12:00:00Z (default: now)"},
    {"date", "DAY", AT(date), "judge by the rules of 2026-01-15 (default: of its notBefore)"},
    {"json", NULL, AT(json), "print JSON"},
    {"out", "FILE", AT(out), "where to write it (default: standard output)"},
    {"log-format", "FORM", AT(log_format), "text (default) or json, on standard error"},
    {"log-level", "LEVEL", AT(log_level), "error, warning, info (default) or debug"},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

/* What getopt_long() gives beside the index of a row. */
enum {
    OPTION_HELP = ROW_COUNT,
    OPTION_VERSION,
    OPTION_COUNT,
};

enum hsm_status
options_refuse(const char *format, ...)
{
    va_list args;

    fputs(PROGRAM ": ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return HSM_ERR_USAGE;
}

/* True if `options` has the word; *needed if the word ends in "!". */
static bool
takes(const char *options, const char *name, bool *needed)
{
    size_t len = strlen(name);

    *needed = false;
    while (*options != '\0') {
        size_t word = strcspn(options, " ");

        if (strncmp(options, name, len) == 0 && (word == len || options[len] == '!')) {
            *needed = word != len;
            return true;
        }
        options += word;
        options += strspn(options, " ");
    }
    return strncmp(name, "log-", 4) == 0;
}

static void
print_option(const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", name, value != NULL ? " " : "",
             value != NULL ? value : "");
    printf("  %-22s  %s\n", left, help);
}

static void
print_help(const struct command *commands, size_t count)
{
    printf("usage: " PROGRAM " COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < count; i++)
        printf("  %-10s  %s\n", commands[i].name, commands[i].summary);
    printf(
        "\nEach takes --help. A private key never leaves its token; PINs are never arguments.\n");
}

static void
print_command_help(const struct command *command)
{
    bool needed;

    printf("usage: " PROGRAM " %s", command->name);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (takes(command->options, rows[i].name, &needed) && needed)
            printf(" --%s %s", rows[i].name, rows[i].value);
    }
    printf(" [OPTION...]%s%s\n\n%s\n\n", command->operand != NULL ? " " : "",
           command->operand != NULL ? command->operand : "", command->summary);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (takes(command->options, rows[i].name, &needed))
            print_option(rows[i].name, rows[i].value, rows[i].help);
    }
    print_option("help", NULL, "this text");
    print_option("version", NULL, "the version");
    if (command->more != NULL)
        printf("\n%s", command->more);
}

static void
print_version(void)
{
    printf(PROGRAM " " STI_VERSION "\n");
}

/* The rows that the command takes, as getopt_long() wants them. */
static void
long_options(const struct command *command, struct option *out)
{
    size_t n = 0;
    bool needed;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (takes(command->options, rows[i].name, &needed))
            out[n++] = (struct option){rows[i].name,
                                       rows[i].value != NULL ? required_argument : no_argument,
                                       NULL, (int)i};
    }
    out[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    out[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    out[n] = (struct option){NULL, 0, NULL, 0};
}

static const char **
member(struct arguments *arguments, const struct option_row *row)
{
    return (const char **)((char *)arguments + row->offset);
}

static enum hsm_status
store(struct arguments *arguments, const struct option_row *row, const char *value)
{
    const char **at = member(arguments, row);
    size_t n = 0;

    if (!row->is_list) {
        if (*at != NULL)
            return options_refuse("--%s is there twice", row->name);
        *at = value;
        return HSM_OK;
    }
    while (at[n] != NULL)
        n++;
    if (n == OPTION_NAMES_MAX)
        return options_refuse("more than %d times --%s", OPTION_NAMES_MAX, row->name);
    at[n] = value;
    return HSM_OK;
}

static enum hsm_status
check_needed(const struct command *command, struct arguments *arguments)
{
    bool needed;

    if (command->operand != NULL && arguments->operand == NULL)
        return options_refuse("%s: %s is needed", command->name, command->operand);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (takes(command->options, rows[i].name, &needed) && needed &&
            *member(arguments, &rows[i]) == NULL)
            return options_refuse("%s: --%s is needed", command->name, rows[i].name);
    }
    return HSM_OK;
}

static bool
takes_several(const struct command *command)
{
    const char *dots = strstr(command->operand, "...");

    return dots != NULL && dots[3] == '\0';
}

/* getopt_long() takes "--pin" for "--pin-source", and what was typed behind it for a source that
 * may be told: nobody shall think that a PIN can be an argument. */
static bool
is_spelled_out(char *const *argv, const char *name)
{
    const char *given = argv[optind - (optarg != NULL && optarg == argv[optind - 1] ? 2 : 1)];

    return strcspn(given, "=") == strlen("--") + strlen(name);
}

/* *done: the option was answered, nothing is to be run. */
static enum hsm_status
read_options(const struct command *command, int argc, char **argv, struct arguments *out,
             bool *done)
{
    struct option table[OPTION_COUNT + 1];
    int chosen;
    enum hsm_status st;

    long_options(command, table);
    while ((chosen = getopt_long(argc, argv, "", table, NULL)) != -1) {
        *done = chosen == OPTION_HELP || chosen == OPTION_VERSION;
        if (chosen == OPTION_HELP)
            print_command_help(command);
        else if (chosen == OPTION_VERSION)
            print_version();
        if (*done)
            return HSM_OK;
        if (chosen < 0 || (size_t)chosen >= ROW_COUNT)
            return HSM_ERR_USAGE; /* getopt_long() said why */
        if (!is_spelled_out(argv, rows[chosen].name))
            return options_refuse("an option is cut short");
        st = store(out, &rows[chosen], optarg != NULL ? optarg : "");
        if (st != HSM_OK)
            return st;
    }
    if (optind < argc && command->operand != NULL) {
        out->operands = argv + optind;
        out->operand_count = takes_several(command) ? (size_t)(argc - optind) : 1;
        out->operand = argv[optind];
        optind += (int)out->operand_count;
    }
    if (optind < argc)
        return options_refuse("%s: too many arguments", command->name);
    return check_needed(command, out);
}

static enum hsm_status
open_log(const struct arguments *arguments)
{
    struct hsm_log_config log = {PROGRAM, HSM_LOG_TEXT, HSM_LOG_INFO};

    if (arguments->log_format != NULL &&
        hsm_log_format_parse(arguments->log_format, &log.format) != HSM_OK)
        return options_refuse("--log-format is text or json");
    if (arguments->log_level != NULL &&
        hsm_log_level_parse(arguments->log_level, &log.level) != HSM_OK)
        return options_refuse("--log-level is error, warning, info or debug");
    hsm_log_open(&log);
    return HSM_OK;
}

static int
run_command(const struct command *command, int argc, char **argv)
{
    struct arguments arguments;
    bool done = false;
    enum hsm_status st;

    memset(&arguments, 0, sizeof(arguments));
    st = read_options(command, argc, argv, &arguments, &done);
    if (st == HSM_OK && !done)
        st = open_log(&arguments);
    if (st == HSM_OK && !done)
        st = command->run(&arguments);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot write to standard output");
        st = st == HSM_OK ? HSM_ERR_IO : st;
    }
    return hsm_status_exit(st);
}

/* How many words of the command line are this command's name; 0: another one's. */
static int
words_of(const struct command *command, int argc, char **argv)
{
    const char *second = strchr(command->name, ' ');
    size_t first_len = second == NULL ? strlen(command->name) : (size_t)(second - command->name);

    if (argc < 2 || strlen(argv[1]) != first_len || strncmp(argv[1], command->name, first_len) != 0)
        return 0;
    if (second == NULL)
        return 1;
    return argc > 2 && strcmp(argv[2], second + 1) == 0 ? 2 : 0;
}

int
options_main(const struct command *commands, size_t count, int argc, char **argv)
{
    for (size_t i = 0; i < count; i++) {
        int words = words_of(&commands[i], argc, argv);

        if (words > 0)
            return run_command(&commands[i], argc - words, argv + words);
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_help(commands, count);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        print_version();
        return 0;
    }
    return hsm_status_exit(options_refuse("no such command; see " PROGRAM " --help"));
}
