/*
 * base64url.h - <hsm/base64url.h> with this floor's prefix.
 */
#ifndef ACME_BASE64URL_H
#define ACME_BASE64URL_H

#include <hsm/base64url.h>

#define ACME_BASE64URL_LEN     HSM_BASE64URL_LEN
#define acme_base64url_encode  hsm_base64url_encode
#define acme_base64url_write   hsm_base64url_write
#define acme_base64url_decode  hsm_base64url_decode
#define acme_base64_decode     hsm_base64_decode
#define acme_base64_decode_any hsm_base64_decode_any
#define acme_base64_encode     hsm_base64_encode

#endif
