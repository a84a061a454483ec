/* lint_tnauthlist.c - rules on the TNAuthList (RFC 8226 section 9). */
#include "lint_internal.h"

#include <string.h>

enum hsm_status
certs_lint_tnauthlist(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->ext[LINT_EXT_TNAUTHLIST].is_critical)
        return hsm_refuse(why, LINT_BROKEN, "it is critical");
    if (view->tnauthlist.fault != NULL)
        return hsm_refuse(why, LINT_BROKEN, "%s", view->tnauthlist.fault);
    return HSM_OK;
}

enum hsm_status
certs_lint_no_tnauthlist(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_TNAUTHLIST].is_there)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "it is there");
}

enum hsm_status
certs_lint_spc_characters(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_tnauthlist *list = &view->tnauthlist;

    if (list->fault != NULL)
        return hsm_refuse(why, LINT_BROKEN, "%s", list->fault);
    for (size_t i = 0; i < list->spc.len; i++) {
        uint8_t c = list->spc.octets[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            return hsm_refuse(why, LINT_BROKEN, "\"%.*s\"", (int)list->spc.len,
                              (const char *)list->spc.octets);
    }
    return HSM_OK;
}

enum hsm_status
certs_lint_tnauthlist_only_spc(const struct lint_view *view, struct hsm_reason *why)
{
    size_t others = view->tnauthlist.entries - view->tnauthlist.spcs;

    return others == 0 ? HSM_OK
                       : hsm_refuse(why, LINT_BROKEN, "%zu entries that are no SPC", others);
}

enum hsm_status
certs_lint_tnauthlist_ia5string(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->tnauthlist.is_ia5string)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another string");
}

enum hsm_status
certs_lint_tnauthlist_tags(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->tnauthlist.is_tagged)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another tag");
}

enum hsm_status
certs_lint_tnauthlist_end(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->tnauthlist.is_ended)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "octets follow");
}
