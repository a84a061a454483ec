/* sti-sks.c - the SKS: signs calls (STI-AS), verifies them (STI-VS), serves certificates (STI-CR).
 */
#include "sks_commands.h"

#include <stddef.h>
#include <stdio.h>

#include <acme/daemon.h>

#define TEXT(option, member)                                                                       \
    {                                                                                              \
        option, OPTION_TEXT, offsetof(struct arguments, member), 0                                 \
    }

static const struct option_row option_rows[] = {
    TEXT("config", config),
    TEXT("orig", orig),
    {"dest", OPTION_LIST, offsetof(struct arguments, dests), SKS_DEST_MAX},
    TEXT("attest", attest),
    TEXT("origid", origid),
    TEXT("iat", iat),
    TEXT("spc", spc),
    TEXT("identity", identity),
    TEXT("from", from),
    {"to", OPTION_LIST, offsetof(struct arguments, tos), SKS_DEST_MAX},
    TEXT("time", time),
    {"check", OPTION_SWITCH, offsetof(struct arguments, check), 0},
};

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "Signs and verifies calls (ATIS-1000074, ATIS-1000082), and serves the certificates for it.\n"
    "\n"
    "  serve --config FILE [--check]\n"
    "      Serve until SIGTERM; with --check, open everything and end.\n"
    "  sign --config FILE --orig TN --dest TN [--dest TN ...] --attest A|B|C [--origid UUID]\n"
    "       [--iat SECONDS] [--spc SPC]\n"
    "      Print the Identity header of one call, signed in the token for [sp] spc, or for "
    "another\n"
    "      SPC that has credentials.\n"
    "  verify --config FILE --identity FILE|- --from TN --to TN [--to TN ...] [--time SECONDS]\n"
    "      Judge an Identity header; exit 0 only if it is valid. The verdict is on standard\n"
    "      output as JSON, and for a person on standard error.\n"
    "\n"
    "--help and --version tell about the program.\n"
    "\n"
    "Keys of the configuration file:\n";

static void
print_help(void)
{
    fputs(help_text, stdout);
    sks_sp_config_help(stdout);
}

enum hsm_status
sks_read_config(const struct arguments *arguments, struct sks_sp_config *config)
{
    enum hsm_status st = sks_sp_config_read(arguments->config, config);

    return st == HSM_OK ? acme_daemon_log(PROGRAM, &config->common) : st;
}

static const struct option_command commands[] = {
    {"serve", "config! check", sks_run_serve},
    {"sign", "config! orig! dest! attest! origid iat spc", sks_run_sign},
    {"verify", "config! identity! from! to! time", sks_run_verify},
};

const struct option_table sks_options = {
    .program = PROGRAM,
    .help = print_help,
    .rows = option_rows,
    .row_count = sizeof(option_rows) / sizeof(option_rows[0]),
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
};

int
main(int argc, char **argv)
{
    struct arguments arguments = {.config = NULL};

    return options_main(&sks_options, &arguments, argc, argv);
}
