/*
 * defer_internal.h - DEFER for the types of OpenSSL that several files of this floor release.
 */
#ifndef HSM_DEFER_INTERNAL_H
#define HSM_DEFER_INTERNAL_H

#include <openssl/bio.h>
#include <openssl/evp.h>

#include <hsm/defer.h>

DEFINE_DEFER(BIO, BIO_free_all)
DEFINE_DEFER(EVP_MD_CTX, EVP_MD_CTX_free)
DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)
DEFINE_DEFER(EVP_PKEY_CTX, EVP_PKEY_CTX_free)

#endif
