/* Floating-point vector arithmetic: what ADDPS ... CVTPD2DQ compute, under an MXCSR (SDM 1:10, 1:11).
 *
 * Enters: operands as Vector (types.pxd). Leaves: results, and flags in the MXCSR in force. Next: sem_vector.pxd.
 *
 * Design: on an x86-64 host each function is the instruction of its name, so NaN payloads, the choice between two NaNs,
 * denormals, flags and the approximations of RCPPS and RSQRTPS are a processor's. `asm volatile`, because a compiler
 * may swap the operands of an addition and move it across a change of MXCSR. Elsewhere, or with PVFAST_PORTABLE_SSE=1,
 * C and <fenv.h> do the same; RCPPS and RSQRTPS are correctly rounded there, and nothing else differs.
 */
#ifndef PVFAST_HOST_SSE_H
#define PVFAST_HOST_SSE_H

#include <stdint.h>
#include <string.h>

typedef union {
    uint8_t b[16];
    uint16_t w[8];
    uint32_t d[4];
    uint64_t q[2];
    float f[4];
    double g[2];
} pvfast_vector;

#ifndef PVFAST_PORTABLE_SSE
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define PVFAST_PORTABLE_SSE 0
#else
#define PVFAST_PORTABLE_SSE 1
#endif
#endif

/* The arguments are void pointers: Cython has its own name for the union. `a` is the old value of the destination. */
#define PVFAST_SSE(name) static inline void pvfast_##name(void *result, const void *a, const void *b)
#define PVFAST_SSE_COMPARE(name) \
    static inline void pvfast_##name(void *result, const void *a, const void *b, uint32_t predicate)

/* Both halves in one store of 16 bytes, which a load of 16 bytes can be forwarded from. */
#if defined(__SSE2__)
#include <emmintrin.h>
static inline void pvfast_pair(void *result, uint64_t low, uint64_t high) {
    _mm_storeu_si128((__m128i *)result, _mm_set_epi64x((long long)high, (long long)low));
}
#else
static inline void pvfast_pair(void *result, uint64_t low, uint64_t high) {
    ((uint64_t *)result)[0] = low;
    ((uint64_t *)result)[1] = high;
}
#endif

#if !PVFAST_PORTABLE_SSE

static inline uint32_t pvfast_get_mxcsr(void) {
    uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
    return value;
}
static inline void pvfast_set_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory"); }

#define PVFAST_LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define PVFAST_LOW(from) _mm_loadl_epi64((const __m128i *)(from))
#define PVFAST_STORE(value) _mm_storeu_si128((__m128i *)result, value)

/* Destination and source are whole registers. */
#define PVFAST_PACKED(name) PVFAST_SSE(name) { \
    __m128i x = PVFAST_LOAD(a); \
    __asm__ volatile(#name " %1, %0" : "+x"(x) : "x"(PVFAST_LOAD(b))); \
    PVFAST_STORE(x); }
/* The source has as many bytes as `type`; the rest of the destination is kept. */
#define PVFAST_SCALAR(name, type) PVFAST_SSE(name) { \
    __m128i x = PVFAST_LOAD(a); \
    __asm__ volatile(#name " %1, %0" : "+x"(x) : "m"(*(const type *)b)); \
    PVFAST_STORE(x); }
/* The source is its low half; `keep` puts the result together. */
#define PVFAST_HALF(name, instruction, keep) PVFAST_SSE(name) { \
    __m128i x; \
    (void)a; \
    __asm__ volatile(#instruction " %1, %0" : "=x"(x) : "x"(PVFAST_LOW(b))); \
    PVFAST_STORE(keep); }
#define PVFAST_ARITHMETIC(name) \
    PVFAST_PACKED(name##ps) PVFAST_PACKED(name##pd) PVFAST_SCALAR(name##ss, float) PVFAST_SCALAR(name##sd, double)
/* A scalar to a general register, in the low doubleword of the result. */
#define PVFAST_TO_INTEGER(name, type) PVFAST_SSE(name) { \
    uint32_t value; \
    (void)a; \
    __asm__ volatile(#name " %1, %0" : "=r"(value) : "m"(*(const type *)b)); \
    ((uint32_t *)result)[0] = value; }
/* EFLAGS, ZF PF CF, in the low doubleword of the result. */
#define PVFAST_ORDER(name, type) PVFAST_SSE(name) { \
    uint8_t zero, parity, carry; \
    __asm__ volatile(#name " %4, %3\n\tsetz %0\n\tsetp %1\n\tsetc %2" : "=q"(zero), "=q"(parity), "=q"(carry) \
                     : "x"(PVFAST_LOAD(a)), "m"(*(const type *)b) : "cc"); \
    ((uint32_t *)result)[0] = zero * 0x40u | parity * 0x4u | carry; }
#define PVFAST_PREDICATE(name, number, source) \
    case number: __asm__ volatile(#name " $" #number ", %1, %0" : "+x"(x) : source); break;
#define PVFAST_PREDICATES(name, source) PVFAST_SSE_COMPARE(name) { \
    __m128i x = PVFAST_LOAD(a); \
    switch (predicate & 7) { \
        PVFAST_PREDICATE(name, 0, source) PVFAST_PREDICATE(name, 1, source) PVFAST_PREDICATE(name, 2, source) \
        PVFAST_PREDICATE(name, 3, source) PVFAST_PREDICATE(name, 4, source) PVFAST_PREDICATE(name, 5, source) \
        PVFAST_PREDICATE(name, 6, source) PVFAST_PREDICATE(name, 7, source) \
    } \
    PVFAST_STORE(x); }
#define PVFAST_WHOLE_SOURCE "x"(PVFAST_LOAD(b))

PVFAST_PREDICATES(cmpps, PVFAST_WHOLE_SOURCE)
PVFAST_PREDICATES(cmppd, PVFAST_WHOLE_SOURCE)
PVFAST_PREDICATES(cmpss, "m"(*(const float *)b))
PVFAST_PREDICATES(cmpsd, "m"(*(const double *)b))

#else

/* --- C and <fenv.h>: flags are collected in the MXCSR, which is the thread's own. --------------------------------- */
#include <fenv.h>
#include <math.h>

enum { PVFAST_IE = 1, PVFAST_DE = 2, PVFAST_ZE = 4, PVFAST_OE = 8, PVFAST_UE = 16, PVFAST_PE = 32, PVFAST_DAZ = 0x40,
       PVFAST_UM = 0x800, PVFAST_ROUNDING = 0x6000, PVFAST_FTZ = 0x8000 };
#if defined(_MSC_VER)
static __declspec(thread) uint32_t pvfast_mxcsr = 0x1F80;
#else
static __thread uint32_t pvfast_mxcsr = 0x1F80;
#endif

static inline uint32_t pvfast_get_mxcsr(void) { return pvfast_mxcsr; }
static inline void pvfast_set_mxcsr(uint32_t value) {
    static const int modes[4] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    pvfast_mxcsr = value;
    fesetround(modes[(value & PVFAST_ROUNDING) >> 13]);
}

/* What fenv saw since the flags were cleared, as MXCSR flags. */
static inline uint32_t pvfast_seen(void) {
    int seen = fetestexcept(FE_ALL_EXCEPT);
    return (seen & FE_INVALID ? PVFAST_IE : 0) | (seen & FE_DIVBYZERO ? PVFAST_ZE : 0)
        | (seen & FE_OVERFLOW ? PVFAST_OE : 0) | (seen & FE_UNDERFLOW ? PVFAST_UE : 0)
        | (seen & FE_INEXACT ? PVFAST_PE : 0);
}

#define PVFAST_FORMAT(type, bits, suffix, FRACTION, EXPONENT, QUIET, INDEFINITE, root) \
static inline bits pvfast_bits_##suffix(type value) { bits word; memcpy(&word, &value, sizeof word); return word; } \
static inline type pvfast_value_##suffix(bits word) { type value; memcpy(&value, &word, sizeof value); return value; } \
static inline int pvfast_nan_##suffix(bits x) { return (x & (EXPONENT)) == (EXPONENT) && (x & (FRACTION)); } \
static inline int pvfast_signalling_##suffix(bits x) { return pvfast_nan_##suffix(x) && !(x & (QUIET)); } \
static inline int pvfast_denormal_##suffix(bits x) { return !(x & (EXPONENT)) && (x & (FRACTION)); } \
static inline bits pvfast_sign_##suffix(bits x) { return x & ~((FRACTION) | (EXPONENT)); } \
/* A denormal operand: zero under DAZ, else the flag. */ \
static inline bits pvfast_operand_##suffix(bits x) { \
    return pvfast_denormal_##suffix(x) && pvfast_mxcsr & PVFAST_DAZ ? pvfast_sign_##suffix(x) : x; } \
static inline int pvfast_note_denormal_##suffix(bits x, bits y) { \
    if (pvfast_denormal_##suffix(x) || pvfast_denormal_##suffix(y)) pvfast_mxcsr |= PVFAST_DE; \
    return 0; } \
/* One of the two is a NaN: the first, made quiet, else the second (SDM 1, table 4-7). */ \
static inline bits pvfast_choose_##suffix(bits x, bits y) { \
    if (pvfast_signalling_##suffix(x) || pvfast_signalling_##suffix(y)) pvfast_mxcsr |= PVFAST_IE; \
    return (pvfast_nan_##suffix(x) ? x : y) | (QUIET); } \
static inline bits pvfast_finish_##suffix(volatile type value) { \
    bits word = pvfast_bits_##suffix(value); \
    uint32_t seen = pvfast_seen(); \
    if (pvfast_nan_##suffix(word)) word = (INDEFINITE); \
    if (seen & PVFAST_UE && (pvfast_mxcsr & (PVFAST_FTZ | PVFAST_UM)) == (PVFAST_FTZ | PVFAST_UM)) \
        seen |= PVFAST_PE, word = pvfast_sign_##suffix(word); \
    else if (pvfast_denormal_##suffix(word) && (pvfast_mxcsr & (PVFAST_FTZ | PVFAST_UM)) == (PVFAST_FTZ | PVFAST_UM)) \
        seen |= PVFAST_UE | PVFAST_PE, word = pvfast_sign_##suffix(word); \
    pvfast_mxcsr |= seen; \
    return word; } \
static inline bits pvfast_compute_##suffix(char operation, bits x, bits y) { \
    volatile type first, second, value; \
    x = pvfast_operand_##suffix(x), y = pvfast_operand_##suffix(y); \
    if (pvfast_nan_##suffix(x) || pvfast_nan_##suffix(y)) return pvfast_choose_##suffix(x, y); \
    first = pvfast_value_##suffix(x), second = pvfast_value_##suffix(y); \
    feclearexcept(FE_ALL_EXCEPT); \
    switch (operation) { \
    case '+': value = first + second; break; \
    case '-': value = first - second; break; \
    case '*': value = first * second; break; \
    case '/': value = first / second; break; \
    default: value = root(second); \
    } \
    if (!(fetestexcept(FE_INVALID | FE_DIVBYZERO))) pvfast_note_denormal_##suffix(x, y); \
    return pvfast_finish_##suffix(value); } \
/* MINPS, MAXPS: the second operand if either is a NaN or both are zeros. */ \
static inline bits pvfast_extreme_##suffix(bits x, bits y, int maximum) { \
    x = pvfast_operand_##suffix(x), y = pvfast_operand_##suffix(y); \
    if (pvfast_nan_##suffix(x) || pvfast_nan_##suffix(y)) { pvfast_mxcsr |= PVFAST_IE; return y; } \
    pvfast_note_denormal_##suffix(x, y); \
    type first = pvfast_value_##suffix(x), second = pvfast_value_##suffix(y); \
    return (maximum ? first > second : first < second) ? x : y; } \
/* -1 less, 0 equal, 1 greater, 2 unordered. `quiet`: only a signalling NaN is invalid. */ \
static inline int pvfast_order_##suffix(bits x, bits y, int quiet) { \
    x = pvfast_operand_##suffix(x), y = pvfast_operand_##suffix(y); \
    if (pvfast_nan_##suffix(x) || pvfast_nan_##suffix(y)) { \
        if (!quiet || pvfast_signalling_##suffix(x) || pvfast_signalling_##suffix(y)) pvfast_mxcsr |= PVFAST_IE; \
        return 2; } \
    pvfast_note_denormal_##suffix(x, y); \
    type first = pvfast_value_##suffix(x), second = pvfast_value_##suffix(y); \
    return first < second ? -1 : first > second; } \
static inline bits pvfast_compare_##suffix(bits x, bits y, uint32_t predicate) { \
    uint32_t kind = predicate & 3; \
    int order = pvfast_order_##suffix(x, y, kind == 0 || kind == 3); \
    int holds = kind == 0 ? order == 0 : kind == 1 ? order < 0 : kind == 2 ? order <= 0 : order == 2; \
    return holds != (int)(predicate >> 2 & 1) ? (bits)-1 : 0; } \
/* To a doubleword; what has no place there is the integer indefinite. */ \
static inline uint32_t pvfast_integer_##suffix(bits x, int truncate) { \
    x = pvfast_operand_##suffix(x); \
    volatile double value = pvfast_value_##suffix(x); \
    volatile double rounded; \
    if (pvfast_nan_##suffix(x)) { pvfast_mxcsr |= PVFAST_IE; return 0x80000000u; } \
    rounded = truncate ? trunc(value) : nearbyint(value); \
    if (!(rounded >= -2147483648.0 && rounded <= 2147483647.0)) { pvfast_mxcsr |= PVFAST_IE; return 0x80000000u; } \
    if (rounded != value) pvfast_mxcsr |= PVFAST_PE; \
    return (uint32_t)(int32_t)rounded; }

PVFAST_FORMAT(float, uint32_t, s, 0x7FFFFFu, 0x7F800000u, 0x400000u, 0xFFC00000u, sqrtf)
PVFAST_FORMAT(double, uint64_t, d, 0xFFFFFFFFFFFFFull, 0x7FF0000000000000ull, 0x8000000000000ull,
              0xFFF8000000000000ull, sqrt)

static inline uint64_t pvfast_widen(uint32_t x) {
    x = pvfast_operand_s(x);
    if (pvfast_nan_s(x)) {
        if (pvfast_signalling_s(x)) pvfast_mxcsr |= PVFAST_IE;
        return (uint64_t)(x >> 31) << 63 | 0x7FF8000000000000ull | (uint64_t)(x & 0x7FFFFF) << 29;
    }
    pvfast_note_denormal_s(x, 0);
    return pvfast_bits_d(pvfast_value_s(x));
}

static inline uint32_t pvfast_narrow(uint64_t x) {
    volatile double wide;
    volatile float value;
    x = pvfast_operand_d(x);
    if (pvfast_nan_d(x)) {
        if (pvfast_signalling_d(x)) pvfast_mxcsr |= PVFAST_IE;
        return (uint32_t)(x >> 63) << 31 | 0x7FC00000u | (uint32_t)(x >> 29 & 0x7FFFFF);
    }
    pvfast_note_denormal_d(x, 0);
    wide = pvfast_value_d(x);
    feclearexcept(FE_ALL_EXCEPT);
    value = (float)wide;
    return pvfast_finish_s(value);
}

static inline uint32_t pvfast_single(uint32_t integer) {
    volatile int32_t value = (int32_t)integer;
    volatile float result;
    feclearexcept(FE_ALL_EXCEPT);
    result = (float)value;
    pvfast_mxcsr |= pvfast_seen();
    return pvfast_bits_s(result);
}
static inline uint64_t pvfast_double(uint32_t integer) { return pvfast_bits_d((double)(int32_t)integer); }

/* 1/x, or 1/sqrt(x): no flags, and denormals are zeros, as SDM 2 says of RCPPS and RSQRTPS. */
static inline uint32_t pvfast_estimate(uint32_t x, int root) {
    float value;
    if (pvfast_nan_s(x)) return x | 0x400000u;
    if (pvfast_denormal_s(x)) x = pvfast_sign_s(x);
    if (root && x > 0x80000000u) return 0xFFC00000u;
    value = pvfast_value_s(x);
    x = pvfast_bits_s(root ? 1.0f / sqrtf(value) : 1.0f / value);
    feclearexcept(FE_ALL_EXCEPT);
    return pvfast_denormal_s(x) ? pvfast_sign_s(x) : x;
}

#define PVFAST_LANES(name, type, count, lane, kept) PVFAST_SSE(name) { \
    const type *x = (const type *)a, *y = (const type *)b; \
    pvfast_vector out = {{0}}; \
    type *r = (type *)&out; \
    (void)x; \
    if (kept) memcpy(&out, a, 16); \
    for (int i = 0; i < count; i++) r[i] = lane; \
    memcpy(result, &out, 16); }
#define PVFAST_FOUR(name, lane32, lane64) \
    PVFAST_LANES(name##ps, uint32_t, 4, lane32, 0) PVFAST_LANES(name##pd, uint64_t, 2, lane64, 0) \
    PVFAST_LANES(name##ss, uint32_t, 1, lane32, 1) PVFAST_LANES(name##sd, uint64_t, 1, lane64, 1)
#define PVFAST_COMPARES(name, type, count, compare) PVFAST_SSE_COMPARE(name) { \
    pvfast_vector out; \
    memcpy(&out, a, 16); \
    for (int i = 0; i < count; i++) ((type *)&out)[i] = compare(((type *)&out)[i], ((const type *)b)[i], predicate); \
    memcpy(result, &out, 16); }
#define PVFAST_CONVERT(name, to, from, count, convert, kept) PVFAST_SSE(name) { \
    pvfast_vector out = {{0}}; \
    if (kept) memcpy(&out, a, 16); \
    for (int i = 0; i < count; i++) ((to *)&out)[i] = convert; \
    (void)a; \
    memcpy(result, &out, 16); }
#define PVFAST_ORDER(name, bits, suffix, quiet) PVFAST_SSE(name) { \
    int order = pvfast_order_##suffix(((const bits *)a)[0], ((const bits *)b)[0], quiet); \
    ((uint32_t *)result)[0] = order == 2 ? 0x45 : order < 0 ? 1 : order == 0 ? 0x40 : 0; }

PVFAST_COMPARES(cmpps, uint32_t, 4, pvfast_compare_s)
PVFAST_COMPARES(cmppd, uint64_t, 2, pvfast_compare_d)
PVFAST_COMPARES(cmpss, uint32_t, 1, pvfast_compare_s)
PVFAST_COMPARES(cmpsd, uint64_t, 1, pvfast_compare_d)

#endif

/* --- Arithmetic (SDM 1:10.4, 1:11.4) ------------------------------------------------------------------------------ */

#if !PVFAST_PORTABLE_SSE
PVFAST_ARITHMETIC(add)
PVFAST_ARITHMETIC(sub)
PVFAST_ARITHMETIC(mul)
PVFAST_ARITHMETIC(div)
PVFAST_ARITHMETIC(min)
PVFAST_ARITHMETIC(max)
PVFAST_ARITHMETIC(sqrt)
PVFAST_PACKED(rcpps)
PVFAST_SCALAR(rcpss, float)
PVFAST_PACKED(rsqrtps)
PVFAST_SCALAR(rsqrtss, float)
PVFAST_ORDER(comiss, float)
PVFAST_ORDER(ucomiss, float)
PVFAST_ORDER(comisd, double)
PVFAST_ORDER(ucomisd, double)
#else
PVFAST_FOUR(add, pvfast_compute_s('+', x[i], y[i]), pvfast_compute_d('+', x[i], y[i]))
PVFAST_FOUR(sub, pvfast_compute_s('-', x[i], y[i]), pvfast_compute_d('-', x[i], y[i]))
PVFAST_FOUR(mul, pvfast_compute_s('*', x[i], y[i]), pvfast_compute_d('*', x[i], y[i]))
PVFAST_FOUR(div, pvfast_compute_s('/', x[i], y[i]), pvfast_compute_d('/', x[i], y[i]))
PVFAST_FOUR(min, pvfast_extreme_s(x[i], y[i], 0), pvfast_extreme_d(x[i], y[i], 0))
PVFAST_FOUR(max, pvfast_extreme_s(x[i], y[i], 1), pvfast_extreme_d(x[i], y[i], 1))
PVFAST_FOUR(sqrt, pvfast_compute_s('r', y[i], y[i]), pvfast_compute_d('r', y[i], y[i]))
PVFAST_LANES(rcpps, uint32_t, 4, pvfast_estimate(y[i], 0), 0)
PVFAST_LANES(rcpss, uint32_t, 1, pvfast_estimate(y[i], 0), 1)
PVFAST_LANES(rsqrtps, uint32_t, 4, pvfast_estimate(y[i], 1), 0)
PVFAST_LANES(rsqrtss, uint32_t, 1, pvfast_estimate(y[i], 1), 1)
PVFAST_ORDER(comiss, uint32_t, s, 0)
PVFAST_ORDER(ucomiss, uint32_t, s, 1)
PVFAST_ORDER(comisd, uint64_t, d, 0)
PVFAST_ORDER(ucomisd, uint64_t, d, 1)
#endif

/* --- Conversions (SDM 1:11.4.1.6, figure 11-8) -------------------------------------------------------------------- */

#if !PVFAST_PORTABLE_SSE
#define PVFAST_UNARY(name) PVFAST_HALF(name, name, x)
PVFAST_UNARY(cvtps2pd)
PVFAST_UNARY(cvtdq2pd)
PVFAST_HALF(cvtpi2ps, cvtdq2ps, _mm_unpacklo_epi64(x, _mm_loadl_epi64((const __m128i *)((const char *)a + 8))))
PVFAST_HALF(cvtps2pi, cvtps2dq, x)
PVFAST_HALF(cvttps2pi, cvttps2dq, x)
PVFAST_PACKED(cvtdq2ps)
PVFAST_PACKED(cvtps2dq)
PVFAST_PACKED(cvttps2dq)
PVFAST_PACKED(cvtpd2dq)
PVFAST_PACKED(cvttpd2dq)
PVFAST_PACKED(cvtpd2ps)
PVFAST_SCALAR(cvtss2sd, float)
PVFAST_SCALAR(cvtsd2ss, double)
PVFAST_SCALAR(cvtsi2ss, int32_t)
PVFAST_SCALAR(cvtsi2sd, int32_t)
PVFAST_TO_INTEGER(cvtss2si, float)
PVFAST_TO_INTEGER(cvttss2si, float)
PVFAST_TO_INTEGER(cvtsd2si, double)
PVFAST_TO_INTEGER(cvttsd2si, double)
#else
#define PVFAST_S ((const uint32_t *)b)[i]
#define PVFAST_D ((const uint64_t *)b)[i]
PVFAST_CONVERT(cvtps2pd, uint64_t, uint32_t, 2, pvfast_widen(PVFAST_S), 0)
PVFAST_CONVERT(cvtdq2pd, uint64_t, uint32_t, 2, pvfast_double(PVFAST_S), 0)
PVFAST_CONVERT(cvtpi2ps, uint32_t, uint32_t, 2, pvfast_single(PVFAST_S), 1)
PVFAST_CONVERT(cvtps2pi, uint32_t, uint32_t, 2, pvfast_integer_s(PVFAST_S, 0), 0)
PVFAST_CONVERT(cvttps2pi, uint32_t, uint32_t, 2, pvfast_integer_s(PVFAST_S, 1), 0)
PVFAST_CONVERT(cvtdq2ps, uint32_t, uint32_t, 4, pvfast_single(PVFAST_S), 0)
PVFAST_CONVERT(cvtps2dq, uint32_t, uint32_t, 4, pvfast_integer_s(PVFAST_S, 0), 0)
PVFAST_CONVERT(cvttps2dq, uint32_t, uint32_t, 4, pvfast_integer_s(PVFAST_S, 1), 0)
PVFAST_CONVERT(cvtpd2dq, uint32_t, uint64_t, 2, pvfast_integer_d(PVFAST_D, 0), 0)
PVFAST_CONVERT(cvttpd2dq, uint32_t, uint64_t, 2, pvfast_integer_d(PVFAST_D, 1), 0)
PVFAST_CONVERT(cvtpd2ps, uint32_t, uint64_t, 2, pvfast_narrow(PVFAST_D), 0)
PVFAST_CONVERT(cvtss2sd, uint64_t, uint32_t, 1, pvfast_widen(PVFAST_S), 1)
PVFAST_CONVERT(cvtsd2ss, uint32_t, uint64_t, 1, pvfast_narrow(PVFAST_D), 1)
PVFAST_CONVERT(cvtsi2ss, uint32_t, uint32_t, 1, pvfast_single(PVFAST_S), 1)
PVFAST_CONVERT(cvtsi2sd, uint64_t, uint32_t, 1, pvfast_double(PVFAST_S), 1)
PVFAST_CONVERT(cvtss2si, uint32_t, uint32_t, 1, pvfast_integer_s(PVFAST_S, 0), 0)
PVFAST_CONVERT(cvttss2si, uint32_t, uint32_t, 1, pvfast_integer_s(PVFAST_S, 1), 0)
PVFAST_CONVERT(cvtsd2si, uint32_t, uint64_t, 1, pvfast_integer_d(PVFAST_D, 0), 0)
PVFAST_CONVERT(cvttsd2si, uint32_t, uint64_t, 1, pvfast_integer_d(PVFAST_D, 1), 0)
#endif

#endif
