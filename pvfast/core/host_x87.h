/* The host's x87 as the maker of x87.h.
 *
 * Enters, leaves: as x87.h says. The host's control word is X87_NORMAL_CONTROL between x87_enter() and x87_leave(),
 * and its register stack is empty between functions (System V ABI), so the guest's values are loaded, the guest's
 * instruction is executed, and the results are stored.
 *
 * Design: with the guest's control word at its usual value nothing is loaded and cleared. The host's exception flags
 * are sticky like the guest's: as long as they are no more than the guest's, or-ing them into those is right; when
 * they are more, they are cleared first. With any other control word, masks included, the instruction runs under just
 * that word. An unmasked exception then behaves as it would in the guest; FNSTSW and FNCLEX do not wait, so the
 * host's #MF never comes. An instruction that was not carried out leaves one value too many, which FFREE takes off, or
 * one too few: storing that sets the host's IE and SF, with all exceptions masked again.
 */
#ifndef PVFAST_HOST_X87_H
#define PVFAST_HOST_X87_H

typedef struct { char bytes[10]; } x87_bytes;
#define X87_BYTES(a) (*(x87_bytes *)(a))
#define X87_INLINE static inline __attribute__((always_inline))
#define X87_COMMA ,

/* For a run of guest code: the host's control word, to be given to x87_leave(). */
static inline uint32_t x87_enter(void) {
    uint16_t before, normal = X87_NORMAL_CONTROL;
    __asm__ volatile("fnstcw %0" : "=m"(before));
    if (before != normal) __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(normal));
    return before;
}

static inline void x87_leave(uint32_t before) {
    uint16_t control = (uint16_t)before;
    if (control != X87_NORMAL_CONTROL) __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(control));
}

X87_INLINE void x87_forget(uint32_t status) {
    uint16_t sticky;
    __asm__ volatile("fnstsw %0" : "=a"(sticky));
    if (__builtin_expect(sticky & ~status & (X87_FLAGS | X87_SF), 0)) __asm__ volatile("fnclex");
}

/* `before` loads operands, `instruction` is the guest's, `after` stores results and empties the stack. */
#define X87_RUN(before, instruction, after, outputs, inputs) \
    const uint16_t normal = X87_NORMAL_CONTROL, guest = (uint16_t)control; \
    uint16_t result; \
    if (__builtin_expect(control == X87_NORMAL_CONTROL, 1)) { \
        x87_forget(status); \
        __asm__ volatile(before "\n\t" instruction "\n\tfnstsw %%ax\n\t" after \
                         : "=a"(result), outputs : inputs : "st", "st(1)", "st(2)"); \
    } else { \
        __asm__ volatile("fnclex\n\tfldcw %[guest]\n\t" before "\n\t" instruction \
                         "\n\tfnstsw %%ax\n\tfnclex\n\tfldcw %[normal]\n\t" after \
                         : "=a"(result), outputs : [guest] "m"(guest), [normal] "m"(normal), inputs \
                         : "st", "st(1)", "st(2)"); \
    } \
    return result

#define X87_IN_OUT [a] "+m"(X87_BYTES(a))
#define X87_B [b] "m"(X87_BYTES(b))
#define X87_NO_INPUT "m"(*a)
#define X87_PARAMETERS uint32_t control, uint32_t status

/* --- a = a op b --------------------------------------------------------------------------------------------------- */

#define X87_TWO(name, instruction) \
    X87_INLINE uint32_t name(x87_real *a, const x87_real *b, X87_PARAMETERS) { \
        X87_RUN("fldt %[b]\n\tfldt %[a]", instruction, "fstpt %[a]\n\tfstp %%st(0)", X87_IN_OUT, X87_B); \
    }
/* ... with a real of 32 or 64 bits in memory as b */
#define X87_WITH_MEMORY(name, instruction, type) \
    X87_INLINE uint32_t name(x87_real *a, const void *b, X87_PARAMETERS) { \
        X87_RUN("fldt %[a]", instruction " %[b]", "fstpt %[a]", X87_IN_OUT, [b] "m"(*(const type *)b)); \
    }
/* The instruction pops: its result replaces ST(1), which is a. */
#define X87_POPPING(name, instruction) \
    X87_INLINE uint32_t name(x87_real *a, const x87_real *b, X87_PARAMETERS) { \
        X87_RUN("fldt %[a]\n\tfldt %[b]", instruction, "fstpt %[a]\n\tffree %%st(0)", X87_IN_OUT, X87_B); \
    }
#define X87_ONE(name, instruction) \
    X87_INLINE uint32_t name(x87_real *a, X87_PARAMETERS) { \
        X87_RUN("fldt %[a]", instruction, "fstpt %[a]", X87_IN_OUT, X87_NO_INPUT); \
    }
/* The instruction pushes `top`, unless C2 or an unmasked exception says that it did nothing: then `top` is the old a,
   and a is lost. */
#define X87_PUSHING(name, instruction) \
    X87_INLINE uint32_t name(x87_real *a, x87_real *top, X87_PARAMETERS) { \
        X87_RUN("fldt %[a]", instruction, "fstpt %[top]\n\tfstpt %[a]", \
                X87_IN_OUT X87_COMMA [top] "=m"(X87_BYTES(top)), X87_NO_INPUT); \
    }

#define X87_ARITHMETIC_OF(name) \
    X87_TWO(x87_##name, "f" #name " %%st(1), %%st") \
    X87_WITH_MEMORY(x87_##name##_m32, "f" #name "s", uint32_t) \
    X87_WITH_MEMORY(x87_##name##_m64, "f" #name "l", uint64_t)
X87_ARITHMETIC_OF(add)
X87_ARITHMETIC_OF(mul)
X87_ARITHMETIC_OF(sub)
X87_ARITHMETIC_OF(subr)
X87_ARITHMETIC_OF(div)
X87_ARITHMETIC_OF(divr)

#define X87_CHOOSE(suffix) \
    switch (what) { \
    case X87_ADD: return x87_add##suffix(a, b, control, status); \
    case X87_MUL: return x87_mul##suffix(a, b, control, status); \
    case X87_SUB: return x87_sub##suffix(a, b, control, status); \
    case X87_SUBR: return x87_subr##suffix(a, b, control, status); \
    case X87_DIV: return x87_div##suffix(a, b, control, status); \
    default: return x87_divr##suffix(a, b, control, status); \
    }
X87_INLINE uint32_t x87_arithmetic(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) { X87_CHOOSE() }
X87_INLINE uint32_t x87_arithmetic_m32(uint32_t what, x87_real *a, const void *b, X87_PARAMETERS) { X87_CHOOSE(_m32) }
X87_INLINE uint32_t x87_arithmetic_m64(uint32_t what, x87_real *a, const void *b, X87_PARAMETERS) { X87_CHOOSE(_m64) }

X87_TWO(x87_prem, "fprem")
X87_TWO(x87_prem1, "fprem1")
X87_TWO(x87_scale, "fscale")
X87_INLINE uint32_t x87_binary(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) {
    return what == X87_PREM ? x87_prem(a, b, control, status)
         : what == X87_PREM1 ? x87_prem1(a, b, control, status) : x87_scale(a, b, control, status);
}

X87_POPPING(x87_yl2x, "fyl2x")
X87_POPPING(x87_yl2xp1, "fyl2xp1")
X87_POPPING(x87_atan, "fpatan")
X87_INLINE uint32_t x87_pop(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) {
    return what == X87_YL2X ? x87_yl2x(a, b, control, status)
         : what == X87_YL2XP1 ? x87_yl2xp1(a, b, control, status) : x87_atan(a, b, control, status);
}

X87_ONE(x87_sqrt, "fsqrt")
X87_ONE(x87_round, "frndint")
X87_ONE(x87_f2xm1, "f2xm1")
X87_ONE(x87_sin, "fsin")
X87_ONE(x87_cos, "fcos")
X87_INLINE uint32_t x87_unary(uint32_t what, x87_real *a, X87_PARAMETERS) {
    switch (what) {
    case X87_SQRT: return x87_sqrt(a, control, status);
    case X87_ROUND: return x87_round(a, control, status);
    case X87_F2XM1: return x87_f2xm1(a, control, status);
    case X87_SIN: return x87_sin(a, control, status);
    default: return x87_cos(a, control, status);
    }
}

X87_PUSHING(x87_tan, "fptan")
X87_PUSHING(x87_sincos, "fsincos")
X87_PUSHING(x87_extract, "fxtract")
X87_INLINE uint32_t x87_push(uint32_t what, x87_real *a, x87_real *top, X87_PARAMETERS) {
    return what == X87_TAN ? x87_tan(a, top, control, status)
         : what == X87_SINCOS ? x87_sincos(a, top, control, status) : x87_extract(a, top, control, status);
}

/* --- Comparisons: the answer is in C3, C2, C0 --------------------------------------------------------------------- */

#define X87_COMPARISON(name, before, instruction, after, parameter, operand) \
    X87_INLINE uint32_t name(const x87_real *a, parameter, X87_PARAMETERS) { \
        uint16_t unused; \
        X87_RUN(before "fldt %[a]", instruction, after "fstp %%st(0)", [unused] "=m"(unused), \
                [a] "m"(X87_BYTES(a)) X87_COMMA operand); \
    }
X87_COMPARISON(x87_com, "fldt %[b]\n\t", "fcom %%st(1)", "fstp %%st(0)\n\t", const x87_real *b, X87_B)
X87_COMPARISON(x87_ucom, "fldt %[b]\n\t", "fucom %%st(1)", "fstp %%st(0)\n\t", const x87_real *b, X87_B)
X87_COMPARISON(x87_com_m32, "", "fcoms %[b]", "", const void *b, [b] "m"(*(const uint32_t *)b))
X87_COMPARISON(x87_com_m64, "", "fcoml %[b]", "", const void *b, [b] "m"(*(const uint64_t *)b))

/* --- Memory formats ----------------------------------------------------------------------------------------------- */

/* After an unmasked exception, a is lost. */
#define X87_LOADING(name, instruction, type) \
    X87_INLINE uint32_t name(x87_real *a, const void *b, X87_PARAMETERS) { \
        X87_RUN("", instruction " %[b]", "fstpt %[a]", [a] "=m"(X87_BYTES(a)), [b] "m"(*(const type *)b)); \
    }
X87_LOADING(x87_load_m32, "flds", uint32_t)
X87_LOADING(x87_load_m64, "fldl", uint64_t)

/* Not stored after an unmasked #IA, #O or #U. The popping instruction stands for both. */
#define X87_STORING(name, instruction, type) \
    X87_INLINE uint32_t name(void *b, const x87_real *a, X87_PARAMETERS) { \
        X87_RUN("fldt %[a]", instruction " %[b]", "ffree %%st(0)", [b] "+m"(*(type *)b), [a] "m"(X87_BYTES(a))); \
    }
X87_STORING(x87_store_m32, "fstps", uint32_t)
X87_STORING(x87_store_m64, "fstpl", uint64_t)
X87_STORING(x87_store_i16, "fistps", uint16_t)
X87_STORING(x87_store_i32, "fistpl", uint32_t)
X87_STORING(x87_store_i64, "fistpll", uint64_t)
X87_STORING(x87_store_bcd, "fbstp", x87_bytes)

#endif
