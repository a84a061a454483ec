/* sti-sks.c - the SKS: signs calls (STI-AS), verifies them (STI-VS), serves certificates (STI-CR).
 */
#include "sks_commands.h"

#include <stddef.h>
#include <stdio.h>

#include <acme/daemon.h>

static const struct option_row option_rows[] = {
    TEXT_OPTION("config", config),
    TEXT_OPTION("orig", orig),
    LIST_OPTION("dest", dests, SKS_DEST_MAX),
    TEXT_OPTION("attest", attest),
    TEXT_OPTION("origid", origid),
    TEXT_OPTION("iat", iat),
    TEXT_OPTION("spc", spc),
    TEXT_OPTION("identity", identity),
    TEXT_OPTION("from", from),
    LIST_OPTION("to", tos, SKS_DEST_MAX),
    TEXT_OPTION("time", time),
    SWITCH_OPTION("check", check),
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

const struct option_table sks_options = OPTION_TABLE(PROGRAM, print_help, option_rows, commands);

int
main(int argc, char **argv)
{
    struct arguments arguments = {.config = NULL};

    return options_main(&sks_options, &arguments, argc, argv);
}
