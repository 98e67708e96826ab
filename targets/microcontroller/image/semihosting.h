/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Files, messages and exit through the debugger or emulator that runs the image (Arm semihosting).
 */
#ifndef EK_SEMIHOSTING_H
#define EK_SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

enum { EK_OPEN_READ = 1, EK_OPEN_WRITE = 5 };

/* Handle of the file `name`, negative where it cannot be opened. */
int ek_open(const char *name, int mode);

/* Bytes read: `bytes`, or fewer at the end of the file. */
size_t ek_read(int handle, void *to, size_t bytes);

/* 0 when everything was written. */
int ek_write(int handle, const void *from, size_t bytes);

void ek_close(int handle);

/* A message for people. */
void ek_print(const char *text);

/* Ends the run; does not return. */
_Noreturn void ek_exit(int status);

#endif /* EK_SEMIHOSTING_H */
