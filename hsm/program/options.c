/* options.c - the command line of sti-hsm, by tables. */
#include "options.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#define PROGRAM "sti-hsm"

struct option_row {
    const char *name;
    const char *value; /* what the help calls it; NULL: takes none */
    size_t offset; /* in struct arguments */
    const char *help;
};

#define AT(member) offsetof(struct arguments, member)

static const struct option_row rows[] = {
    {"module", "PATH", AT(module), "PKCS#11 module; else the URI's module-path, else $STI_MODULE"},
    {"token", "URI", AT(token), "the token, such as pkcs11:token=sti-ca"},
    {"key", "URI", AT(key), "the key, such as \"pkcs11:token=sti-ca;object=root\""},
    {"label", "LABEL", AT(label), "the name of what is made"},
    {"so-pin-source", "SOURCE", AT(so_pin_source), "PIN of the security officer; else asked for"},
    {"pin-source", "SOURCE", AT(pin_source),
     "PIN of the user: file:PATH, fd:N, credential:NAME or prompt;\n"
     "                          else the URI's pin-source, else asked for"},
    {"quirks", "WORDS", AT(quirks),
     "what the module needs done differently (docs/HSM.md); else what is known"},
    {"journal", "DIR", AT(journal),
     "where uses of keys are written; else $STI_JOURNAL, else nowhere"},
    {"dir", "DIR", AT(dir), "of the journal; else $STI_JOURNAL"},
    {"file", "NAME", AT(file), "one of its files; index for what became of them"},
    {"record", "N", AT(record), "its number in its file"},
    {"public-key", "PEM", AT(public_key),
     "the journal's key, kept elsewhere; else what lies in the journal itself"},
    {"checkpoint", "FILE", AT(checkpoint),
     "checkpoints that were kept elsewhere, one after another"},
    {"check", "FILE", AT(check), "a proof to be checked, with --public-key; needs no journal"},
    {"kind", "KIND", AT(kind), "only these: certificate, passport, crl ..."},
    {"who", "NAME", AT(who), "only what was asked for by NAME"},
    {"signed-digest", "HEX", AT(digest_of), "only what has this SHA-256"},
    {"token-count", "N", AT(token_count), "signatures that the token itself has counted"},
    {"counted-before", "N", AT(counted_before),
     "what its counter was when the journal was begun; 0"},
    {"in", "FILE", AT(in), "what to sign; - is standard input, and the default"},
    {"digest", "HEX", AT(digest), "a SHA-256 digest to sign, instead of --in"},
    {"out", "FORM", AT(out), "R || S as base64url (default), hex or raw; or der"},
    {"yes", NULL, AT(yes), "do not ask"},
    {"route", "ROUTE", AT(route), "libp11 (default) or direct"},
    {"sessions", "N", AT(sessions), "the most to try; 32"},
    {"seconds", "S", AT(seconds), "for each measurement; 1"},
    {"json", NULL, AT(json), "print JSON instead of a table"},
    {"report", "PREFIX", AT(report),
     "write PREFIX.jws (signed), .json, .txt and .html; else text on standard output"},
    {"attempt", NULL, AT(attempt), "try to take every private key; says first what it will do"},
    {"certificates", "PATH", AT(certificate),
     "certificates that are not on the token: a file or a directory; may be given again"},
    {"uncertified", "LABELS", AT(uncertified),
     "keys that need no certificate, between commas, such as acme-account"},
    {"attestation", "FILE", AT(attestation), "the vendor's attestation certificates, PEM"},
    {"attestation-root", "FILE", AT(attestation_root), "the vendor's root certificates, PEM"},
    {"files", "PATH", AT(files),
     "search a file or a directory for private keys; may be given again"},
    {"process", "PID", AT(process),
     "search the memory of a process and its children; may be given again"},
    {"secret-source", "SOURCE", AT(secret_source),
     "scalars of test keys to search for: one line of hex, as --pin-source"},
    {"nonce", "TEXT", AT(nonce), "the auditor's, for the report"},
    {"signer", "FILE", AT(signer), "the audit key's public half or certificate, PEM"},
    {"html", NULL, AT(html), "print HTML instead of text"},
    {"log-format", "FORM", AT(log_format), "text (default) or json, on standard error"},
    {"log-level", "LEVEL", AT(log_level), "error, warning, info (default) or debug"},
};

/* Options that may be given again, and where all of them are kept; of others the last one counts.
 */
static const struct {
    const char *name;
    size_t offset;
} repeated[] = {
    {"token", AT(all_tokens)},
    {"certificates", AT(all_certificates)},
    {"files", AT(all_files)},
    {"process", AT(all_processes)},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

/* What getopt_long() gives beside the index of a row. */
enum {
    OPTION_HELP = ROW_COUNT,
    OPTION_VERSION,
    OPTION_COUNT,
};

enum hsm_status
options_refuse(const char *why)
{
    fprintf(stderr, PROGRAM ": %s\n", why);
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
        bool marked = word > 0 && options[word - 1] == '!';

        if (word - (marked ? 1 : 0) == len && strncmp(options, name, len) == 0) {
            *needed = marked;
            return true;
        }
        options += word;
        options += strspn(options, " ");
    }
    return false;
}

static bool
is_for_all(const struct option_row *row)
{
    return strncmp(row->name, "log-", 4) == 0;
}

static void
print_command(const struct command *command)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%s%s%s%s", command->group, command->verb != NULL ? " " : "",
             command->verb != NULL ? command->verb : "", command->operand != NULL ? " " : "",
             command->operand != NULL ? command->operand : "");
    printf("  %-22s  %s\n", name, command->summary);
}

static void
print_option(const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", name, value != NULL ? " " : "",
             value != NULL ? value : "");
    printf("  %-22s  %s\n", left, help);
}

/* The commands of a group, or all of them for NULL. */
static void
help_of_group(const struct command *commands, size_t count, const char *group)
{
    printf("usage: " PROGRAM " %s COMMAND [OPTION...]\n\n", group != NULL ? group : "[GROUP]");
    for (size_t i = 0; i < count; i++) {
        if (group == NULL || strcmp(commands[i].group, group) == 0)
            print_command(&commands[i]);
    }
    printf(
        "\nEach takes --help. A private key never leaves its token; PINs are never arguments.\n");
}

static void
help_of_command(const struct command *command)
{
    bool needed;

    printf("usage: " PROGRAM " %s%s%s [OPTION...]%s%s%s\n\n%s\n\n", command->group,
           command->verb != NULL ? " " : "", command->verb != NULL ? command->verb : "",
           command->operand != NULL ? " [" : "", command->operand != NULL ? command->operand : "",
           command->operand != NULL ? "]" : "", command->summary);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (is_for_all(&rows[i]) || takes(command->options, rows[i].name, &needed))
            print_option(rows[i].name, rows[i].value, rows[i].help);
    }
    print_option("help", NULL, "this text");
    print_option("version", NULL, "the version");
}

static void
print_version(void)
{
    printf(PROGRAM " " STI_VERSION "\n");
}

/* The rows that the command takes, as getopt_long() wants them; returns how many. */
static size_t
long_options(const struct command *command, struct option *out)
{
    size_t n = 0;
    bool needed;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (is_for_all(&rows[i]) || takes(command->options, rows[i].name, &needed))
            out[n++] = (struct option){rows[i].name,
                                       rows[i].value != NULL ? required_argument : no_argument,
                                       NULL, (int)i};
    }
    out[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    out[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    out[n] = (struct option){NULL, 0, NULL, 0};
    return n;
}

static const char **
member(struct arguments *arguments, const struct option_row *row)
{
    return (const char **)((char *)arguments + row->offset);
}

static enum hsm_status
check_needed(const struct command *command, struct arguments *arguments)
{
    char why[64];
    bool needed;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (takes(command->options, rows[i].name, &needed) && needed &&
            *member(arguments, &rows[i]) == NULL) {
            snprintf(why, sizeof(why), "--%s is needed", rows[i].name);
            return options_refuse(why);
        }
    }
    return HSM_OK;
}

/* What is behind the options. */
static enum hsm_status
take_operand(const struct command *command, int argc, char **argv, struct arguments *out)
{
    if (optind < argc && command->operand != NULL)
        out->operand = argv[optind++];
    if (optind < argc)
        return options_refuse("too many arguments");
    return check_needed(command, out);
}

/* getopt_long() takes "--pin" for "--pin-source", and what was typed behind it for a source that
 * may be told: nobody shall think that a PIN can be an argument. */
static bool
is_spelled_out(char *const *argv, const char *name)
{
    const char *given = argv[optind - (optarg != NULL && optarg == argv[optind - 1] ? 2 : 1)];

    return strcspn(given, "=") == strlen("--") + strlen(name);
}

static enum hsm_status
keep_all(struct arguments *arguments, const char *name)
{
    for (size_t i = 0; i < sizeof(repeated) / sizeof(repeated[0]); i++) {
        struct words *all = (struct words *)((char *)arguments + repeated[i].offset);

        if (strcmp(repeated[i].name, name) != 0)
            continue;
        if (all->count >= WORDS_MAX)
            return options_refuse("an option is given too often");
        all->items[all->count++] = optarg;
    }
    return HSM_OK;
}

/* *done: the option was answered, nothing is to be run. */
static enum hsm_status
read_options(const struct command *command, int argc, char **argv, struct arguments *out,
             bool *done)
{
    struct option table[OPTION_COUNT + 1];
    int chosen;

    (void)long_options(command, table);
    optind = command->verb != NULL ? 3 : 2;
    while ((chosen = getopt_long(argc, argv, "", table, NULL)) != -1) {
        *done = chosen == OPTION_HELP || chosen == OPTION_VERSION;
        if (chosen == OPTION_HELP)
            help_of_command(command);
        else if (chosen == OPTION_VERSION)
            print_version();
        if (*done)
            return HSM_OK;
        if (chosen < 0 || (size_t)chosen >= ROW_COUNT)
            return HSM_ERR_USAGE; /* getopt_long() said why */
        if (!is_spelled_out(argv, rows[chosen].name))
            return options_refuse("an option is cut short");
        *member(out, &rows[chosen]) = optarg != NULL ? optarg : "";
        if (keep_all(out, rows[chosen].name) != HSM_OK)
            return HSM_ERR_USAGE;
    }
    return take_operand(command, argc, argv, out);
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
    bool needed;
    enum hsm_status st;

    memset(&arguments, 0, sizeof(arguments));
    st = read_options(command, argc, argv, &arguments, &done);
    if (st != HSM_OK || done)
        return hsm_status_exit(st);
    if (takes(command->options, "journal", &needed) && arguments.journal == NULL)
        arguments.journal = getenv("STI_JOURNAL");
    st = open_log(&arguments);
    if (st == HSM_OK)
        st = command->run(&arguments);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot write to standard output");
        st = st == HSM_OK ? HSM_ERR_IO : st;
    }
    return hsm_status_exit(st);
}

static bool
is_option(const char *word, const char *name)
{
    return word != NULL && strncmp(word, "--", 2) == 0 && strcmp(word + 2, name) == 0;
}

static bool
is_group(const struct command *commands, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i].group, word) == 0)
            return true;
    }
    return false;
}

/* `sti-hsm`, `sti-hsm --help`, `sti-hsm key --help` and what is no command. */
static int
without_command(const struct command *commands, size_t count, char **argv)
{
    const char *group = argv[1] != NULL && is_group(commands, count, argv[1]) ? argv[1] : NULL;
    const char *next = group != NULL ? argv[2] : argv[1];

    if (is_option(next, "help")) {
        help_of_group(commands, count, group);
        return 0;
    }
    if (is_option(next, "version")) {
        print_version();
        return 0;
    }
    return hsm_status_exit(options_refuse("no such command; see " PROGRAM " --help"));
}

int
options_main(const struct command *commands, size_t count, int argc, char **argv)
{
    for (size_t i = 0; i < count && argc > 1; i++) {
        if (strcmp(commands[i].group, argv[1]) != 0)
            continue;
        if (commands[i].verb == NULL || (argc > 2 && strcmp(commands[i].verb, argv[2]) == 0))
            return run_command(&commands[i], argc, argv);
    }
    return without_command(commands, count, argv);
}
