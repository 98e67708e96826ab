/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Runs a shared object that was placed in memory beforehand, under Linux without a C library.
 *
 * Standard input: a plan (below), the bytes of the shared object as they are when it is loaded at
 * plan.base, the weights, then records of inputs until the end. Standard output: a record of outputs
 * for each. Exit status: 0 done, others as the enumeration says.
 */
#include <stddef.h>
#include <stdint.h>

enum { DONE = 0, INIT = 1, OPEN = 2, TRUNCATED = 3, RUN = 4, WRITE = 5 };
enum { MOST_PORTS = 4096, PAGE = 4096 };
enum { STDIN = 0, STDOUT = 1 };
enum { PROT_READ_WRITE_EXECUTE = 7, MAP_PRIVATE_ANONYMOUS = 0x22, MAP_FIXED = 0x10 };

/* All addresses are below 2^32, on 64-bit processors too. */
typedef struct {
    uint32_t base;
    uint32_t image_bytes;
    uint32_t init; /* address of <prefix>init */
    uint32_t run;  /* address of <prefix>run */
    uint32_t arena_bytes;
    uint32_t state_bytes;   /* 0 for none */
    uint32_t weights_bytes; /* 0 for the built-in ones */
    uint32_t inputs;
    uint32_t outputs;
} plan_t;

typedef struct {
    uint32_t offset; /* in the arena */
    uint32_t bytes;
} port_t;

typedef int (*init_t)(void *context, void *arena, void *state, const void *weights);
typedef int (*run_t)(void *context);

static port_t ports[MOST_PORTS];
static void *context[4];

#if defined(__aarch64__)
enum { SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT = 94, SYS_MMAP = 222 };

static intptr_t call(intptr_t number, intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e)
{
    register intptr_t x8 __asm("x8") = number;
    register intptr_t x0 __asm("x0") = a;
    register intptr_t x1 __asm("x1") = b;
    register intptr_t x2 __asm("x2") = c;
    register intptr_t x3 __asm("x3") = d;
    register intptr_t x4 __asm("x4") = e;
    register intptr_t x5 __asm("x5") = 0;
    __asm volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
    return x0;
}
#elif defined(__arm__)
enum { SYS_READ = 3, SYS_WRITE = 4, SYS_EXIT = 248, SYS_MMAP = 192 };

static intptr_t call(intptr_t number, intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e)
{
    register intptr_t r7 __asm("r7") = number;
    register intptr_t r0 __asm("r0") = a;
    register intptr_t r1 __asm("r1") = b;
    register intptr_t r2 __asm("r2") = c;
    register intptr_t r3 __asm("r3") = d;
    register intptr_t r4 __asm("r4") = e;
    register intptr_t r5 __asm("r5") = 0;
    __asm volatile("svc 0"
                   : "+r"(r0)
                   : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5)
                   : "memory");
    return r0;
}
#else
#error "no system calls for this architecture"
#endif

static _Noreturn void leave(int status)
{
    for (;;) {
        call(SYS_EXIT, status, 0, 0, 0, 0);
    }
}

/* Bytes read: `bytes`, or fewer at the end of the input. */
static uint32_t take(void *to, uint32_t bytes)
{
    uint32_t done = 0;
    while (done < bytes) {
        const intptr_t got =
            call(SYS_READ, STDIN, (intptr_t)to + (intptr_t)done, (intptr_t)(bytes - done), 0, 0);
        if (got <= 0) {
            break;
        }
        done += (uint32_t)got;
    }
    return done;
}

static void take_all(void *to, uint32_t bytes)
{
    if (take(to, bytes) != bytes) {
        leave(TRUNCATED);
    }
}

static void give(const void *from, uint32_t bytes)
{
    for (uint32_t done = 0; done < bytes;) {
        const intptr_t put = call(
            SYS_WRITE, STDOUT, (intptr_t)from + (intptr_t)done, (intptr_t)(bytes - done), 0, 0);
        if (put <= 0) {
            leave(WRITE);
        }
        done += (uint32_t)put;
    }
}

/* Zeroed memory, at the address `at` unless that is 0. */
static void *memory(uint32_t at, uint32_t bytes)
{
    const intptr_t flags = MAP_PRIVATE_ANONYMOUS | (at != 0 ? MAP_FIXED : 0);
    const intptr_t address = call(
        SYS_MMAP, (intptr_t)at, (intptr_t)bytes + PAGE, PROT_READ_WRITE_EXECUTE, flags, -1);
    if (address < 0 && address > -PAGE) {
        leave(OPEN);
    }
    return (void *)address;
}

static int ends_here(uint8_t *arena, const plan_t *plan)
{
    for (uint32_t i = 0; i < plan->inputs; i++) {
        const uint32_t got = take(arena + ports[i].offset, ports[i].bytes);
        if (got == 0 && i == 0) {
            return 1;
        }
        if (got != ports[i].bytes) {
            leave(TRUNCATED);
        }
    }
    return 0;
}

_Noreturn void ek_main(void);

_Noreturn void ek_main(void)
{
    plan_t plan;
    take_all(&plan, sizeof plan);
    if (plan.inputs + plan.outputs > MOST_PORTS) {
        leave(OPEN);
    }
    take_all(ports, (plan.inputs + plan.outputs) * (uint32_t)sizeof ports[0]);
    take_all(memory(plan.base, plan.image_bytes), plan.image_bytes);
    uint8_t *arena = memory(0, plan.arena_bytes);
    void *state = plan.state_bytes != 0 ? memory(0, plan.state_bytes) : NULL;
    void *weights = NULL;
    if (plan.weights_bytes != 0) {
        weights = memory(0, plan.weights_bytes);
        take_all(weights, plan.weights_bytes);
    }
    if (((init_t)(uintptr_t)plan.init)(context, arena, state, weights) != 0) {
        leave(INIT);
    }
    while (!ends_here(arena, &plan)) {
        if (((run_t)(uintptr_t)plan.run)(context) != 0) {
            leave(RUN);
        }
        for (uint32_t i = plan.inputs; i < plan.inputs + plan.outputs; i++) {
            give(arena + ports[i].offset, ports[i].bytes);
        }
    }
    leave(DONE);
}

__asm(".globl _start\n"
      "_start:\n"
      "    bl ek_main\n");
