/* attribute.h - attributes that are not what the token says they are. */
#ifndef FAULT_ATTRIBUTE_H
#define FAULT_ATTRIBUTE_H

#include <p11-kit/pkcs11.h>

#include "call.h"

/** As C_GetAttributeValue (section 5.7.5), under the call's strike and a swap of keys. */
CK_RV fault_attributes_get(const struct fault_call *call, CK_OBJECT_HANDLE object,
                           CK_ATTRIBUTE *attributes, CK_ULONG count);

#endif
