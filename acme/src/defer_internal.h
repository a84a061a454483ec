/*
 * defer_internal.h - DEFER for the types of OpenSSL and libcurl that several files of this floor
 * release.
 */
#ifndef ACME_DEFER_INTERNAL_H
#define ACME_DEFER_INTERNAL_H

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <hsm/defer.h>

DEFINE_DEFER(CURLU, curl_url_cleanup)
DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)
DEFINE_DEFER(X509, X509_free)
DEFINE_DEFER(X509_NAME, X509_NAME_free)
DEFINE_DEFER(char, curl_free)

#endif
