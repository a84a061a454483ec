/* sti-sks.c - the SKS: signs calls (STI-AS), verifies them (STI-VS), serves certificates (STI-CR).
 */
#include "sks_commands.h"

#include <stddef.h>
#include <stdio.h>

static const struct option_row option_rows[] = {
    {"config", "FILE", AT(config), "the configuration file"},
    {"check", NULL, SWITCH(check), "open everything and end"},
    {"orig", "TN", AT(orig), "the calling number"},
    {"dest", "TN", LIST(dests), "a called number; may be repeated"},
    {"attest", "A|B|C", AT(attest), "the attestation"},
    {"origid", "UUID", AT(origid), "of the call (default: a random one)"},
    {"iat", "SECONDS", AT(iat), "when the call was made, since 1970 (default: now)"},
    {"spc", "SPC", AT(spc), "whose credentials sign (default: [sp] spc)"},
    {"identity", "FILE|-", AT(identity), "with the Identity header; -: standard input"},
    {"from", "TN", AT(from), "the calling number"},
    {"to", "TN", LIST(tos), "a called number; may be repeated"},
    {"time", "SECONDS", AT(time), "of the call, since 1970 (default: now)"},
    {.name = NULL},
};

static void
print_more(void)
{
    printf("\nKeys of the configuration file:\n");
    sks_sp_config_help(stdout);
}

static const struct command commands[] = {
    {"serve", "config! check", NULL, "serve until SIGTERM", NULL, sks_run_serve},
    {"sign", "config! orig! dest! attest! origid iat spc", NULL,
     "print the Identity header of one call, signed in the token", NULL, sks_run_sign},
    {"verify", "config! identity! from! to! time", NULL, "judge an Identity header",
     "Exit 0 only if it is valid. The verdict is on standard output as JSON, and for a person on\n"
     "standard error.\n",
     sks_run_verify},
};

static const struct option_table table = {
    .program = PROGRAM,
    .purpose = "Signs and verifies calls (ATIS-1000074, ATIS-1000082), and serves the certificates"
               " for it.",
    .rows = option_rows,
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
    .arguments_size = sizeof(struct arguments),
    .last_counts = true,
    .more = print_more,
};

int
main(int argc, char **argv)
{
    return options_main(&table, argc, argv);
}
