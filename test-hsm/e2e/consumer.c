/* consumer.c - a third-party program that uses the installed libraries. */
#include <stdio.h>
#include <stdlib.h>

#include <certs/tnauthlist.h>
#include <sks/tn.h>

int
main(void)
{
    struct certs_tnauthlist *list = NULL;
    char tn[SKS_TN_MAX + 1];
    char *text;

    if (sks_tn_canonical("tel:+1-215-555-1212", NULL, tn) != HSM_OK ||
        certs_tnauthlist_from_spc("1234", &list) != HSM_OK)
        return 1;
    text = certs_tnauthlist_text(list);
    printf("%s %s\n", tn, text);
    free(text);
    certs_tnauthlist_free(list);
    return 0;
}
