/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * From reset to main on any Cortex-M: vector table, memory, floating-point unit, faults.
 */
#include <stdint.h>

#include "semihosting.h"

/* Exit status after a fault; see also main.c. */
#define STATUS_FAULT 70

/* Laid out by the linker script. */
extern uint32_t ek_stack_limit[];
extern uint32_t ek_stack_top[];
extern uint32_t ek_fault_stack_top[];
extern const uint32_t ek_data_load[];
extern uint32_t ek_data_start[];
extern uint32_t ek_data_end[];
extern uint32_t ek_bss_start[];
extern uint32_t ek_bss_end[];

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);
void ek_initialise_memory(void);
void ek_fault(const uint32_t *frame);

typedef void (*handler)(void);

/* Initial stack pointer, reset, then the fourteen system exceptions: all of them end the run. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler reset;
    handler exceptions[14];
} vectors = {
    ek_stack_top,
    Reset_Handler,
    {
        Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
        Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
        Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    },
};

/* Initial values of variables. The emulator, which starts no image, calls it too. */
void ek_initialise_memory(void)
{
    const uint32_t *from = ek_data_load;
    for (uint32_t *to = ek_data_start; to < ek_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = ek_bss_start; to < ek_bss_end; to++) {
        *to = 0;
    }
}

void Reset_Handler(void)
{
#ifdef __ARM_FP
    /* Coprocessors 10 and 11, the floating-point and vector units: full access. */
    volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88u;
    *cpacr |= 0xFu << 20;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    ek_initialise_memory();
    ek_exit(main());
}

/*
 * Hands the stack pointer, at which the exception frame begins, to ek_fault. The stack may be what
 * is broken, so ek_fault gets another one.
 */
__attribute__((naked, noreturn)) void Fault_Handler(void)
{
    __asm volatile("mov r0, sp\n"
                   "ldr r1, =ek_fault_stack_top\n"
                   "mov sp, r1\n"
                   "bl ek_fault\n"
                   ".ltorg");
}

static void print_hexadecimal(const char *label, uint32_t value)
{
    char text[11] = "0x00000000";
    for (int digit = 9; digit >= 2; digit--, value >>= 4) {
        text[digit] = "0123456789abcdef"[value & 0xFu];
    }
    ek_print(label);
    ek_print(text);
}

__attribute__((used)) void ek_fault(const uint32_t *frame)
{
    uint32_t exception;
    __asm volatile("mrs %0, ipsr" : "=r"(exception));
    print_hexadecimal("fault: exception ", exception);
    /* A stack overflow leaves no frame to read. */
    if (frame >= ek_stack_limit && frame < ek_stack_top) {
        print_hexadecimal(", pc ", frame[6]);
    }
#if __ARM_ARCH >= 7
    print_hexadecimal(", cfsr ", *(volatile uint32_t *)0xE000ED28u);
#endif
    ek_print("\n");
    ek_exit(STATUS_FAULT);
}
