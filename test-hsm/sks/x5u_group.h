/* x5u_group.h - a repository on loopback and caches that fetch from it, which the tests of
 * sks/src/x5u*.c share. */
#ifndef TEST_X5U_GROUP_H
#define TEST_X5U_GROUP_H

#include <stdatomic.h>
#include <stddef.h>

#include <sks/x5u.h>

#include "ecosystem.h"

extern struct ecosystem eco;
extern struct eco_server repository;
extern char *sp_pem, *short_pem, *ended_pem;
extern atomic_uint fetches, not_modified;
extern atomic_bool is_down, is_gate_shut;
extern atomic_uint meeting, met;

/** cmocka group fixtures. */
int x5u_group_start(void **state);
int x5u_group_stop(void **state);

/** A cache without contents; fetches are counted from here. */
struct sks_x5u_cache *cache_new(bool private_addresses);

/* Get PATH from the repository; on HSM_OK the chain has two certificates. */
enum hsm_status get(struct sks_x5u_cache *cache, const char *path, time_t now);

/* Wait for background fetches; the exact count also detects unexpected ones. */
void wait_for_fetches(struct sks_x5u_cache *cache, unsigned count);

/* A cache limited to `chains_max` chains or `octets_max` octets. */
struct sks_x5u_cache *small_cache(size_t chains_max, size_t octets_max, unsigned queue_ms);

extern atomic_uint told;

/** Counts in `told`. */
void tell(void *context);

/** Ask for the chain at PATH of this host and the port of the repository, without waiting; `told`
 * counts the answers. */
enum hsm_status ask(struct sks_x5u_cache *cache, const char *host, const char *path,
                    struct certs_chain **out);

/** Fails unless `told` is this soon. */
void wait_until_told(unsigned count);

/** The chain at PATH of the repository has verified a call. */
void vouch(struct sks_x5u_cache *cache, const char *path);

/* Hosts that accept connections and never answer, as an attacker can have any number of them in one
 * domain: 127.0.0.2 and so on, with the port of the repository. */
void open_tarpits(int *sockets, size_t count);
void ask_tarpits(struct sks_x5u_cache *cache, size_t count);

#endif
