/* x87 arithmetic: one function per operation, on 80-bit values in memory.
 *
 * Enters: operands, the guest's control word, and the exception flags that its status word has already.
 * Leaves: results in place, and a status word of which the exception flags, C0-C3 and (unless said) C1 count. In it
 * may be flags that the guest has already. Next: x87.pxi.
 *
 * Two makers: the host's own x87 (host_x87.h), whose results are a processor's bit for bit, and C on integers
 * (soft_x87.h) for hosts that have none; -DPVFAST_PORTABLE_X87 takes the latter anywhere, to test it.
 */
#ifndef PVFAST_X87_H
#define PVFAST_X87_H

#include <stdint.h>
#include <string.h>

enum {
    X87_ADD, X87_MUL, X87_SUB, X87_SUBR, X87_DIV, X87_DIVR,     /* x87_arithmetic: a = a op b, R: a = b op a */
    X87_PREM, X87_PREM1, X87_SCALE,                             /* x87_binary: a = ST(0), b = ST(1) */
    X87_YL2X, X87_YL2XP1, X87_ATAN,                             /* x87_pop: a = ST(1), b = ST(0) */
    X87_SQRT, X87_ROUND, X87_F2XM1, X87_SIN, X87_COS,           /* x87_unary */
    X87_TAN, X87_SINCOS, X87_EXTRACT                            /* x87_push: a, and what is pushed */
};
enum { M32, M64, M80, I16, I32, I64, BCD };                     /* memory operands: real, integer, packed decimal */
enum { X87_IE = 1, X87_DE = 2, X87_ZE = 4, X87_OE = 8, X87_UE = 16, X87_PE = 32, X87_FLAGS = 0x3F, X87_SF = 0x40,
       X87_C0 = 0x100, X87_C1 = 0x200, X87_C2 = 0x400, X87_C3 = 0x4000 };
#define X87_NORMAL_CONTROL 0x37Fu       /* after FNINIT: all masked, 64 bits, to nearest */

typedef struct {                        /* Float80 of types.pxd */
    uint64_t significand;
    uint16_t exponent;
    uint16_t unused[3];
} x87_real;

/* An integer is exact in 80 bits. */
static inline void x87_from_integer(x87_real *a, int64_t value) {
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint32_t exponent = 0x403E;
    a->significand = 0;
    a->exponent = 0;
    if (magnitude == 0) return;
#if defined(__GNUC__) || defined(__clang__)
    exponent -= (uint32_t)__builtin_clzll(magnitude);
    magnitude <<= __builtin_clzll(magnitude);
#else
    for (; !(magnitude >> 63); magnitude <<= 1) exponent--;
#endif
    a->significand = magnitude;
    a->exponent = (uint16_t)(exponent | (value < 0 ? 0x8000 : 0));
}

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__)) \
    && !defined(PVFAST_PORTABLE_X87)
#include "host_x87.h"
#else
#include "soft_x87.h"
#endif

#endif
