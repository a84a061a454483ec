/*
 * journal_read_internal.h - shared by the readers of a journal.
 */
#ifndef HSM_JOURNAL_READ_INTERNAL_H
#define HSM_JOURNAL_READ_INTERNAL_H

#include "journal_index_internal.h"

/** Open for reading; NOT_FOUND if absent. */
HSM_MUST_CHECK enum hsm_status hsm_journal_open_file(const char *dir, const char *file, int *out,
                                                     struct hsm_reason *why);

/** HSM_ERR_UNTRUSTED, with the place of the line at which a walk stopped. */
enum hsm_status hsm_journal_wrong(const char *file, const struct hsm_walk *walk,
                                  struct hsm_reason *why);

#endif
