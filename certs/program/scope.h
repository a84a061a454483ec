/*
 * scope.h - the scope of a certificate, from the command line: numbers and claims; and the command
 * sti-cert tnauthlist.
 */
#ifndef STI_CERT_SCOPE_H
#define STI_CERT_SCOPE_H

#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <hsm/status.h>

#include "arguments.h"

/* The options of list_of() and constraints_of(), for the tables of commands. */
#define LIST_OPTIONS        "spc number range tnauthlist"
#define CONSTRAINTS_OPTIONS "must-include permit must-exclude"

/* Additions to the help of `tnauthlist`. */
extern const char tnauthlist_more[];

/* --spc, --number, --range in this order, or --tnauthlist; NULL if none of them is given. */
enum hsm_status list_of(const struct arguments *arguments, struct certs_tnauthlist **out);

/* --must-include, --permit, --must-exclude; NULL if none of them is given. */
enum hsm_status constraints_of(const struct arguments *arguments, struct certs_constraints **out);

enum hsm_status tnauthlist(const struct arguments *arguments);

#endif
