/* wrap.h - our implementation of each PKCS#11 function: fault_C_Sign is C_Sign. */
#ifndef FAULT_WRAP_H
#define FAULT_WRAP_H

#include <p11-kit/pkcs11.h>

/* general.c */
CK_RV fault_C_Initialize(void *args);
CK_RV fault_C_Finalize(void *reserved);
CK_RV fault_C_GetInfo(CK_INFO *info);
CK_RV fault_C_GetFunctionList(CK_FUNCTION_LIST **list);

/* slot.c */
CK_RV fault_C_GetSlotList(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count);
CK_RV fault_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info);
CK_RV fault_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info);
CK_RV fault_C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved);
CK_RV fault_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count);
CK_RV fault_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info);
CK_RV fault_C_InitToken(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG pin_len, CK_BYTE *label);

/* session.c */
CK_RV fault_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *session);
CK_RV fault_C_CloseSession(CK_SESSION_HANDLE session);
CK_RV fault_C_CloseAllSessions(CK_SLOT_ID slot);
CK_RV fault_C_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *info);
CK_RV fault_C_GetOperationState(CK_SESSION_HANDLE session, CK_BYTE *state, CK_ULONG *len);
CK_RV fault_C_SetOperationState(CK_SESSION_HANDLE session, CK_BYTE *state, CK_ULONG len,
                                CK_OBJECT_HANDLE encryption_key,
                                CK_OBJECT_HANDLE authentication_key);
CK_RV fault_C_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len);
CK_RV fault_C_Logout(CK_SESSION_HANDLE session);
CK_RV fault_C_InitPIN(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG pin_len);
CK_RV fault_C_SetPIN(CK_SESSION_HANDLE session, CK_BYTE *old_pin, CK_ULONG old_len,
                     CK_BYTE *new_pin, CK_ULONG new_len);

/* object.c */
CK_RV fault_C_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE *attributes, CK_ULONG count,
                           CK_OBJECT_HANDLE *object);
CK_RV fault_C_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                         CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *copy);
CK_RV fault_C_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object);
CK_RV fault_C_GetObjectSize(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG *size);
CK_RV fault_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                CK_ATTRIBUTE *attributes, CK_ULONG count);
CK_RV fault_C_SetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                CK_ATTRIBUTE *attributes, CK_ULONG count);
CK_RV fault_C_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *attributes, CK_ULONG count);
CK_RV fault_C_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                          CK_ULONG *count);
CK_RV fault_C_FindObjectsFinal(CK_SESSION_HANDLE session);

/* sign.c */
CK_RV fault_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV fault_C_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG len, CK_BYTE *sig,
                   CK_ULONG *sig_len);

/* crypto.c */
CK_RV fault_C_EncryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV fault_C_Encrypt(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                      CK_ULONG *out_len);
CK_RV fault_C_EncryptUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                            CK_ULONG *out_len);
CK_RV fault_C_EncryptFinal(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_DecryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV fault_C_Decrypt(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                      CK_ULONG *out_len);
CK_RV fault_C_DecryptUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                            CK_ULONG *out_len);
CK_RV fault_C_DecryptFinal(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_DigestInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism);
CK_RV fault_C_Digest(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                     CK_ULONG *out_len);
CK_RV fault_C_DigestUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len);
CK_RV fault_C_DigestKey(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key);
CK_RV fault_C_DigestFinal(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_SignUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len);
CK_RV fault_C_SignFinal(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_SignRecoverInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE key);
CK_RV fault_C_SignRecover(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *out,
                          CK_ULONG *out_len);
CK_RV fault_C_VerifyInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV fault_C_Verify(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len, CK_BYTE *sig,
                     CK_ULONG sig_len);
CK_RV fault_C_VerifyUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len);
CK_RV fault_C_VerifyFinal(CK_SESSION_HANDLE session, CK_BYTE *sig, CK_ULONG sig_len);
CK_RV fault_C_VerifyRecoverInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key);
CK_RV fault_C_VerifyRecover(CK_SESSION_HANDLE session, CK_BYTE *sig, CK_ULONG sig_len, CK_BYTE *out,
                            CK_ULONG *out_len);
CK_RV fault_C_DigestEncryptUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len,
                                  CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_DecryptDigestUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len,
                                  CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_SignEncryptUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len,
                                CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_DecryptVerifyUpdate(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG in_len,
                                  CK_BYTE *out, CK_ULONG *out_len);
CK_RV fault_C_GenerateKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                          CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *key);
CK_RV fault_C_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                              CK_ATTRIBUTE *public_attributes, CK_ULONG public_count,
                              CK_ATTRIBUTE *private_attributes, CK_ULONG private_count,
                              CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key);
CK_RV fault_C_WrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                      CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key, CK_BYTE *out,
                      CK_ULONG *out_len);
CK_RV fault_C_UnwrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                        CK_OBJECT_HANDLE unwrapping_key, CK_BYTE *in, CK_ULONG in_len,
                        CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *key);
CK_RV fault_C_DeriveKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                        CK_OBJECT_HANDLE base_key, CK_ATTRIBUTE *attributes, CK_ULONG count,
                        CK_OBJECT_HANDLE *key);
CK_RV fault_C_SeedRandom(CK_SESSION_HANDLE session, CK_BYTE *seed, CK_ULONG len);
CK_RV fault_C_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG len);
CK_RV fault_C_GetFunctionStatus(CK_SESSION_HANDLE session);
CK_RV fault_C_CancelFunction(CK_SESSION_HANDLE session);

#endif
