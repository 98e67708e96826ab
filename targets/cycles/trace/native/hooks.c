/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Unicorn's hooks: what it calls for every block and every access to memory while a trace records.
 * The functions of unicorn that they need are given, so that no header and no library of it is.
 */
#include "trace.h"

/* The low word of a register; unicorn writes as much as the register has. */
static uint32_t low_word(const ek_owner *owner, void *core, int64_t number)
{
    uint32_t words[4] = {0, 0, 0, 0};
    (void)owner->read_register(core, (int)number, words);
    return words[0];
}

/* Bits of the status register that say which conditions an IT block still imposes. */
#define IT_STATE (3u << 25 | 0x3fu << 10)

/* Before an access's hook unicorn (2.1) restores the state of the core, that of an IT block too. The
 * translated code, which has its conditions built in, never clears it again: a block behind would
 * be translated as if an IT block still went on, and skip its first instructions. */
static void end_it_block(const ek_owner *owner, void *core)
{
    if (owner->it_register >= 0) {
        const uint32_t status = low_word(owner, core, owner->it_register);
        if ((status & IT_STATE) != 0) {
            const uint32_t words[4] = {status & ~IT_STATE, 0, 0, 0};
            (void)owner->write_register(core, (int)owner->it_register, words);
        }
    }
}

void ek_on_block(void *core, uint64_t address, uint32_t bytes, void *trace)
{
    ek_trace *it = trace;
    const ek_owner *owner = ek_trace_owner(it);
    if (owner->mark_register >= 0) {
        address |= low_word(owner, core, owner->mark_register) >> owner->mark_bit & 1;
    }
    if (!ek_trace_block(it, address, bytes)) {
        (void)owner->stop(core);
    }
}

void ek_on_access(void *core, int kind, uint64_t address, int bytes, int64_t value, void *trace)
{
    ek_trace *it = trace;
    const ek_owner *owner = ek_trace_owner(it);
    (void)value;
    const uint64_t size = bytes > 0 ? (uint64_t)bytes : 0;
    const uint32_t pc = low_word(owner, core, owner->pc_register);
    end_it_block(owner, core);
    if (!ek_trace_access(it, pc, address, size, kind == owner->write_access)) {
        (void)owner->stop(core);
    }
}
