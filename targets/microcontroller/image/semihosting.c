/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "semihosting.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
};

#define APPLICATION_EXIT 0x20026u

static intptr_t call(intptr_t operation, const void *argument)
{
    register intptr_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int ek_open(const char *name, int mode)
{
    uintptr_t length = 0;
    while (name[length] != '\0') {
        length++;
    }
    const uintptr_t block[3] = {(uintptr_t)name, (uintptr_t)mode, length};
    return (int)call(SYS_OPEN, block);
}

size_t ek_read(int handle, void *to, size_t bytes)
{
    const uintptr_t block[3] = {(uintptr_t)handle, (uintptr_t)to, bytes};
    return bytes - (size_t)call(SYS_READ, block);
}

int ek_write(int handle, const void *from, size_t bytes)
{
    const uintptr_t block[3] = {(uintptr_t)handle, (uintptr_t)from, bytes};
    return (int)call(SYS_WRITE, block);
}

void ek_close(int handle)
{
    const uintptr_t block[1] = {(uintptr_t)handle};
    call(SYS_CLOSE, block);
}

void ek_print(const char *text)
{
    call(SYS_WRITE0, text);
}

_Noreturn void ek_exit(int status)
{
    const uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)status};
    for (;;) {
        call(SYS_EXIT_EXTENDED, block);
    }
}
