/* attribute.h - attributes whose values a fault replaces. */
#ifndef FAULT_ATTRIBUTE_H
#define FAULT_ATTRIBUTE_H

#include <p11-kit/pkcs11.h>

#include "call.h"

/** C_GetAttributeValue (section 5.7.5), subject to the call's strike and to swapped keys. */
CK_RV fault_attributes_get(const struct fault_call *call, CK_OBJECT_HANDLE object,
                           CK_ATTRIBUTE *attributes, CK_ULONG count);

#endif
