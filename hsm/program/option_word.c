/* option_word.c - what getopt_long() made of one word of a command line. */
#include "option_word.h"

#include <getopt.h>
#include <string.h>

bool
option_word_is_spelled_out(char *const *argv, const char *name)
{
    const char *given = argv[optind - (optarg != NULL && optarg == argv[optind - 1] ? 2 : 1)];

    return strcspn(given, "=") == strlen("--") + strlen(name);
}

void
option_word_fault(int found, char *const *argv, struct hsm_reason *why)
{
    const char *word = argv[optind - 1];
    int len = (int)strcspn(word, "=");

    if (optopt > 0 && optopt < OPTION_WORD_FIRST)
        (void)hsm_refuse(why, HSM_ERR_USAGE, "options begin with two hyphens");
    else if (found == ':')
        (void)hsm_refuse(why, HSM_ERR_USAGE, "%.*s: a value is needed", len, word);
    else if (optopt != 0)
        (void)hsm_refuse(why, HSM_ERR_USAGE, "%.*s: takes no value", len, word);
    else
        (void)hsm_refuse(why, HSM_ERR_USAGE, "%.*s: no such option", len, word);
}
