/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What the compiler's integer division does with a zero divisor on ARMv7. The C library's version
 * raises a signal; here is no C library, and the result is what the instruction of later processors
 * yields: the caller's value, which is 0 for a dividend of 0 and the largest number otherwise.
 */
#include <stdint.h>

int32_t __aeabi_idiv0(int32_t value);
int64_t __aeabi_ldiv0(int64_t value);

int32_t __aeabi_idiv0(int32_t value)
{
    return value;
}

int64_t __aeabi_ldiv0(int64_t value)
{
    return value;
}
