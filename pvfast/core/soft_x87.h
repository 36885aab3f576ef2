/* x87 arithmetic on integers and, for the transcendental functions, on doubles: the maker of x87.h for hosts without
 * an x87.
 *
 * Enters, leaves: as x87.h says. Everything but the functions of soft_function() is rounded once, from an exact
 * result, in the guest's precision and mode. Those are within 2**-40 of the result, or, near a zero or a pole of sine,
 * cosine and tangent, of 1; they report PE, and C1 is clear. tests/differential/test_soft_x87.py holds both against the
 * host's.
 */
#ifndef PVFAST_SOFT_X87_H
#define PVFAST_SOFT_X87_H

#include <math.h>

#define SOFT_TOP 0x8000000000000000ull
#define SOFT_BIAS 0x3FFF
#define SOFT_WRAP 24576                 /* added to an exponent by an unmasked underflow (SDM 1:8.5.5) */
#define SOFT_LN2 0.69314718055994530942
#define SOFT_LOG2E 1.44269504088896340736
enum { SOFT_ZERO, SOFT_FINITE, SOFT_INFINITY, SOFT_QNAN, SOFT_SNAN, SOFT_UNSUPPORTED };

/* (high:low) / 2**127 * 2**exponent */
typedef struct { uint32_t sign; int32_t exponent; uint64_t high, low; } soft_value;

static inline uint32_t x87_enter(void) { return 0; }
static inline void x87_leave(uint32_t before) { (void)before; }

static int soft_kind(const x87_real *a) {
    uint32_t exponent = a->exponent & 0x7FFF;
    if (exponent == 0) return a->significand ? SOFT_FINITE : SOFT_ZERO;
    if (!(a->significand >> 63)) return SOFT_UNSUPPORTED;
    if (exponent != 0x7FFF) return SOFT_FINITE;
    if (a->significand == SOFT_TOP) return SOFT_INFINITY;
    return a->significand >> 62 & 1 ? SOFT_QNAN : SOFT_SNAN;
}

static void soft_set(x87_real *a, uint32_t sign, uint32_t exponent, uint64_t significand) {
    a->significand = significand;
    a->exponent = (uint16_t)(sign << 15 | exponent);
}

static void soft_indefinite(x87_real *a) { soft_set(a, 1, 0x7FFF, 3ull << 62); }

static void soft_normalise(soft_value *v) {
    while (!(v->high >> 63) && (v->high | v->low)) {
        v->high = v->high << 1 | v->low >> 63;
        v->low <<= 1;
        v->exponent--;
    }
}

static soft_value soft_unpack(const x87_real *a) {
    soft_value v = {a->exponent >> 15, a->exponent & 0x7FFF, a->significand, 0};
    v.exponent = (v.exponent ? v.exponent : 1) - SOFT_BIAS;
    soft_normalise(&v);
    return v;
}

static uint32_t soft_denormal(const x87_real *a) { return !(a->exponent & 0x7FFF) && a->significand ? X87_DE : 0; }

static void soft_shift(soft_value *v, uint32_t by) {        /* right; what is lost stays as the lowest bit */
    uint64_t lost;
    if (by == 0) return;
    if (by > 127) { v->low = (v->high | v->low) != 0; v->high = 0; return; }
    lost = by > 64 ? v->low | v->high << (128 - by) : by == 64 ? v->low : v->low << (64 - by);
    if (by >= 64) { v->low = by == 64 ? v->high : v->high >> (by - 64); v->high = 0; }
    else { v->low = v->low >> by | v->high << (64 - by); v->high >>= by; }
    v->low |= lost != 0;
}

/* Round to `bits` of `high`. Returns PE and, when away from 0, C1. */
static uint32_t soft_round(soft_value *v, uint32_t bits, uint32_t rounding) {
    uint64_t unit = bits == 64 ? 1 : 1ull << (64 - bits), rest = v->high & (unit - 1), low = v->low;
    uint64_t half = bits == 64 ? SOFT_TOP : unit >> 1, more = bits == 64 ? 0 : low;
    int up;
    if (bits == 64) rest = low;
    if (!(rest | more)) return 0;
    up = rounding == 0 ? rest > half || (rest == half && (more || v->high & unit))
       : rounding == 1 ? (int)v->sign : rounding == 2 ? !v->sign : 0;
    v->high &= ~(unit - 1);
    v->low = 0;
    if (!up) return X87_PE;
    v->high += unit;
    if (v->high < unit) { v->high = SOFT_TOP; v->exponent++; }
    return X87_PE | X87_C1;
}

static uint32_t soft_precision(uint32_t control) {
    uint32_t field = control >> 8 & 3;
    return field == 0 ? 24 : field == 2 ? 53 : 64;
}

/* A normalised value, rounded into a format: its bits, its least and greatest exponent, its bias for wrapping. */
static uint32_t soft_fit(soft_value *v, uint32_t bits, int32_t least, int32_t greatest, uint32_t control, int wrap) {
    uint32_t rounding = control >> 10 & 3, result, flags = 0;
    soft_value whole = *v;
    result = soft_round(&whole, bits, rounding);
    if (whole.exponent < least) {
        if (!(control & X87_UE)) {
            whole.exponent += wrap;
            if (whole.exponent < least) { whole.high = 0; result = X87_PE; }
            *v = whole;
            return result | X87_UE;
        }
        soft_shift(v, (uint32_t)(least - v->exponent));
        v->exponent = least;
        result = soft_round(v, bits, rounding);
        return result ? result | X87_UE : 0;
    }
    if (v->exponent < least) {                  /* rounded up to the least: its last place is that of denormals */
        soft_shift(v, (uint32_t)(least - v->exponent));
        v->exponent = least;
        return soft_round(v, bits, rounding);
    }
    *v = whole;
    if (v->exponent <= greatest) return result;
    flags = X87_OE;
    if (!(control & X87_OE) && v->exponent - wrap <= greatest) { v->exponent -= wrap; return result | flags; }
    if (!(control & X87_OE) || rounding == 0 || (rounding == 1 && v->sign) || (rounding == 2 && !v->sign)) {
        v->exponent = greatest + 1;
        v->high = SOFT_TOP;
        return flags | X87_PE | X87_C1;
    }
    v->exponent = greatest;
    v->high = bits == 64 ? ~0ull : ~((1ull << (64 - bits)) - 1);
    return flags | X87_PE;
}

static uint32_t soft_pack(x87_real *a, soft_value v, uint32_t bits, uint32_t control) {
    uint32_t result;
    if (!(v.high | v.low)) { soft_set(a, v.sign, 0, 0); return 0; }
    soft_normalise(&v);
    result = soft_fit(&v, bits, 1 - SOFT_BIAS, SOFT_BIAS, control, SOFT_WRAP);
    soft_set(a, v.sign, v.high >> 63 ? (uint32_t)(v.exponent + SOFT_BIAS) : 0, v.high);
    return result;
}

/* NaNs and unsupported operands (SDM 1:4.8.3.5, table 4-7). True: dealt with. */
static int soft_nan(x87_real *a, const x87_real *b, uint32_t control, uint32_t *flags) {
    int x = soft_kind(a), y = soft_kind(b);
    if (x < SOFT_QNAN && y < SOFT_QNAN) return 0;
    *flags = x >= SOFT_SNAN || y >= SOFT_SNAN ? X87_IE : 0;
    if (*flags & ~control) return 1;
    if (x == SOFT_UNSUPPORTED || y == SOFT_UNSUPPORTED) { soft_indefinite(a); return 1; }
    if (x < SOFT_QNAN || (x == SOFT_SNAN && y == SOFT_QNAN)
        || (x == y && (b->significand > a->significand || (b->significand == a->significand && a->exponent >> 15))))
        *a = *b;
    a->significand |= 3ull << 62;
    return 1;
}

static uint32_t soft_invalid(x87_real *a, uint32_t control) {
    if (control & X87_IE) soft_indefinite(a);
    return X87_IE;
}

static void soft_multiply(soft_value *v, uint64_t a, uint64_t b) {
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t middle = ah * bl + (al * bl >> 32), other = al * bh + (uint32_t)middle;
    v->high = ah * bh + (middle >> 32) + (other >> 32);
    v->low = other << 32 | (uint32_t)(al * bl);
}

static uint32_t soft_add(x87_real *a, soft_value x, soft_value y, uint32_t bits, uint32_t control) {
    soft_value t;
    if (x.exponent < y.exponent || (x.exponent == y.exponent && x.high < y.high)) { t = x; x = y; y = t; }
    soft_shift(&y, (uint32_t)(x.exponent - y.exponent));
    if (x.sign == y.sign) {
        uint64_t low = x.low + y.low, carry = low < x.low, high = x.high + y.high + carry;
        int over = high < x.high || (carry && high == x.high);
        x.high = high;
        x.low = low;
        if (over) { soft_shift(&x, 1); x.high |= SOFT_TOP; x.exponent++; }
    } else {
        x.high -= y.high + (x.low < y.low);
        x.low -= y.low;
        if (!(x.high | x.low)) x.sign = (control >> 10 & 3) == 1;
    }
    return soft_pack(a, x, bits, control);
}

static uint32_t soft_arithmetic(uint32_t what, x87_real *a, const x87_real *b, uint32_t denormal, uint32_t control) {
    x87_real first = *a, second = *b;
    uint32_t flags, bits = soft_precision(control), i;
    soft_value x, y, q = {0, 0, 0, 0};
    int j, k;
    if (what == X87_SUBR || what == X87_DIVR) { first = *b; second = *a; }
    if (soft_nan(a, b, control, &flags)) return flags;
    denormal |= soft_denormal(a) | soft_denormal(b);
    j = soft_kind(&first);
    k = soft_kind(&second);
    x = soft_unpack(&first);
    y = soft_unpack(&second);
    if (what == X87_SUB || what == X87_SUBR) y.sign ^= 1;
    if (what == X87_ADD || what == X87_SUB || what == X87_SUBR) {
        if (j == SOFT_INFINITY && k == SOFT_INFINITY && x.sign != y.sign) return soft_invalid(a, control);
        if (denormal & ~control) return denormal;
        if (j == SOFT_INFINITY || k == SOFT_INFINITY) {
            soft_set(a, j == SOFT_INFINITY ? x.sign : y.sign, 0x7FFF, SOFT_TOP);
            return denormal;
        }
        if (j == SOFT_ZERO && k == SOFT_ZERO) {
            soft_set(a, x.sign == y.sign ? x.sign : (control >> 10 & 3) == 1, 0, 0);
            return denormal;
        }
        if (j == SOFT_ZERO) return denormal | soft_pack(a, y, bits, control);
        if (k == SOFT_ZERO) return denormal | soft_pack(a, x, bits, control);
        return denormal | soft_add(a, x, y, bits, control);
    }
    x.sign ^= y.sign;
    if (what == X87_MUL) {
        if (j + k == SOFT_ZERO + SOFT_INFINITY && j != k && (j == SOFT_ZERO || k == SOFT_ZERO))
            return soft_invalid(a, control);
        if (denormal & ~control) return denormal;
        if (j == SOFT_INFINITY || k == SOFT_INFINITY) { soft_set(a, x.sign, 0x7FFF, SOFT_TOP); return denormal; }
        if (j == SOFT_ZERO || k == SOFT_ZERO) { soft_set(a, x.sign, 0, 0); return denormal; }
        soft_multiply(&q, x.high, y.high);
        q.sign = x.sign;
        q.exponent = x.exponent + y.exponent + 1;
        return denormal | soft_pack(a, q, bits, control);
    }
    if (j == k && j != SOFT_FINITE) return soft_invalid(a, control);
    if (k == SOFT_ZERO && j == SOFT_FINITE) {
        if (control & X87_ZE) soft_set(a, x.sign, 0x7FFF, SOFT_TOP);
        return X87_ZE;
    }
    if (denormal & ~control) return denormal;
    if (j == SOFT_INFINITY || k == SOFT_ZERO) { soft_set(a, x.sign, 0x7FFF, SOFT_TOP); return denormal; }
    if (j == SOFT_ZERO || k == SOFT_INFINITY) { soft_set(a, x.sign, 0, 0); return denormal; }
    q.sign = x.sign;
    q.exponent = x.exponent - y.exponent;
    for (i = 0; i < 128; i++) {                 /* one bit of the quotient after the other */
        uint64_t carry = x.low;                 /* x.low: the bit shifted out of x.high */
        q.high = q.high << 1 | q.low >> 63;
        q.low <<= 1;
        if (carry || x.high >= y.high) { x.high -= y.high; q.low |= 1; }
        x.low = x.high >> 63;
        x.high <<= 1;
    }
    if (x.high | x.low) q.low |= 1;
    return denormal | soft_pack(a, q, bits, control);
}

/* --- Memory formats ----------------------------------------------------------------------------------------------- */

static uint32_t soft_widen(x87_real *a, uint64_t value, uint32_t bits, uint32_t exponent_bits) {
    uint32_t exponent = (uint32_t)(value >> (bits - 1)) & ((1u << exponent_bits) - 1);
    soft_value v = {(uint32_t)(value >> (bits - 1 + exponent_bits)) & 1, 0, value << (65 - bits) >> 1, 0};
    int32_t bias = (1 << (exponent_bits - 1)) - 1;
    if (exponent == (1u << exponent_bits) - 1) { soft_set(a, v.sign, 0x7FFF, SOFT_TOP | v.high); return 0; }
    if (exponent) { soft_set(a, v.sign, exponent - bias + SOFT_BIAS, SOFT_TOP | v.high); return 0; }
    v.exponent = 1 - bias;
    soft_normalise(&v);
    soft_set(a, v.sign, v.high ? (uint32_t)(v.exponent + SOFT_BIAS) : 0, v.high);
    return v.high ? X87_DE : 0;
}

static uint32_t soft_load(x87_real *a, uint64_t value, uint32_t bits, uint32_t exponent_bits) {
    uint32_t flags = soft_widen(a, value, bits, exponent_bits);
    if (soft_kind(a) == SOFT_SNAN) { a->significand |= 3ull << 62; flags = X87_IE; }
    return flags;
}

static uint32_t soft_narrow(uint64_t *b, const x87_real *a, uint32_t bits, uint32_t exponent_bits, uint32_t control) {
    int kind = soft_kind(a);
    int32_t bias = (1 << (exponent_bits - 1)) - 1;
    uint64_t sign = (uint64_t)(a->exponent >> 15) << (bits - 1 + exponent_bits), top = (2ull << exponent_bits) - 2;
    uint32_t flags = kind >= SOFT_SNAN ? X87_IE : 0;
    soft_value v = soft_unpack(a);
    top <<= bits - 2;
    if (flags & ~control) return flags;
    if (kind == SOFT_UNSUPPORTED) *b = 1ull << (bits - 1 + exponent_bits) | top | 1ull << (bits - 2);
    else if (kind >= SOFT_QNAN) *b = sign | top | 1ull << (bits - 2) | (a->significand << 1 >> (65 - bits));
    else if (kind == SOFT_INFINITY) *b = sign | top;
    else if (kind == SOFT_ZERO) *b = sign;
    else {
        flags = soft_fit(&v, bits, 1 - bias, bias, control, 1 << 20);
        if (flags & ~control & (X87_OE | X87_UE)) return flags & (X87_OE | X87_UE);
        *b = sign | (v.high >> 63 ? (uint64_t)(v.exponent + bias) << (bits - 1) : 0) | v.high << 1 >> (65 - bits);
    }
    return flags;
}

/* The integer nearest to a value in magnitude; 0 with IE when it needs more than 64 bits. */
static uint32_t soft_integer(const x87_real *a, uint32_t control, uint64_t *magnitude) {
    soft_value v = soft_unpack(a);
    int kind = soft_kind(a);
    uint32_t result;
    *magnitude = 0;
    if (kind == SOFT_ZERO) return 0;
    if (kind != SOFT_FINITE || v.exponent > 63) return X87_IE;
    soft_shift(&v, (uint32_t)(63 - v.exponent));
    v.exponent = 63;
    result = soft_round(&v, 64, control >> 10 & 3);
    *magnitude = v.high;
    return v.exponent > 63 ? X87_IE : result;
}

static uint32_t soft_store_integer(void *b, const x87_real *a, uint32_t size, uint32_t control) {
    uint64_t magnitude, limit = 1ull << (8 * size - 1);
    uint32_t flags = soft_integer(a, control, &magnitude), negative = a->exponent >> 15;
    if (flags & X87_IE || magnitude > limit - !negative) { flags = X87_IE; magnitude = limit; }
    else if (negative) magnitude = 0 - magnitude;
    memcpy(b, &magnitude, size);                /* hosts are little-endian */
    return flags;
}

/* --- x87.h -------------------------------------------------------------------------------------------------------- */

#define X87_PARAMETERS uint32_t control, uint32_t status

static inline uint32_t x87_arithmetic(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) {
    (void)status;
    return soft_arithmetic(what, a, b, 0, control);
}

#define SOFT_MEMORY(suffix, type, bits, exponent_bits) \
    static inline uint32_t x87_arithmetic_##suffix(uint32_t what, x87_real *a, const void *b, X87_PARAMETERS) { \
        type value; x87_real wide; uint32_t denormal; \
        memcpy(&value, b, sizeof value); \
        denormal = soft_widen(&wide, value, bits, exponent_bits); (void)status; \
        return soft_arithmetic(what, a, &wide, denormal, control); \
    } \
    static inline uint32_t x87_com_##suffix(const x87_real *a, const void *b, X87_PARAMETERS) { \
        type value; x87_real wide; uint32_t denormal; \
        memcpy(&value, b, sizeof value); \
        denormal = soft_widen(&wide, value, bits, exponent_bits); (void)status; (void)control; \
        return soft_compare(a, &wide, denormal, 0); \
    } \
    static inline uint32_t x87_load_##suffix(x87_real *a, const void *b, X87_PARAMETERS) { \
        type value; memcpy(&value, b, sizeof value); (void)status; (void)control; \
        return soft_load(a, value, bits, exponent_bits); \
    } \
    static inline uint32_t x87_store_##suffix(void *b, const x87_real *a, X87_PARAMETERS) { \
        uint64_t wide = 0; uint32_t flags = soft_narrow(&wide, a, bits, exponent_bits, control); \
        type value = (type)wide; memcpy(b, &value, sizeof value); (void)status; \
        return flags; \
    }

static uint32_t soft_compare(const x87_real *a, const x87_real *b, uint32_t denormal, int quiet) {
    int x = soft_kind(a), y = soft_kind(b), less, negative = a->exponent >> 15;
    uint32_t p = a->exponent & 0x7FFF, q = b->exponent & 0x7FFF;
    if (x >= SOFT_QNAN || y >= SOFT_QNAN)
        return X87_C3 | X87_C2 | X87_C0 | (!quiet || x >= SOFT_SNAN || y >= SOFT_SNAN ? X87_IE : 0);
    denormal |= soft_denormal(a) | soft_denormal(b);
    if (x == SOFT_ZERO && y == SOFT_ZERO) return X87_C3;
    if (negative != b->exponent >> 15) return denormal | (negative ? X87_C0 : 0);
    p += !p;
    q += !q;
    if (p == q && a->significand == b->significand) return denormal | X87_C3;
    less = p != q ? p < q : a->significand < b->significand;
    return denormal | (less != negative ? X87_C0 : 0);
}

SOFT_MEMORY(m32, uint32_t, 24, 8)
SOFT_MEMORY(m64, uint64_t, 53, 11)

static inline uint32_t x87_com(const x87_real *a, const x87_real *b, X87_PARAMETERS) {
    (void)control; (void)status;
    return soft_compare(a, b, 0, 0);
}
static inline uint32_t x87_ucom(const x87_real *a, const x87_real *b, X87_PARAMETERS) {
    (void)control; (void)status;
    return soft_compare(a, b, 0, 1);
}
static inline uint32_t x87_store_i16(void *b, const x87_real *a, X87_PARAMETERS) {
    (void)status;
    return soft_store_integer(b, a, 2, control);
}
static inline uint32_t x87_store_i32(void *b, const x87_real *a, X87_PARAMETERS) {
    (void)status;
    return soft_store_integer(b, a, 4, control);
}
static inline uint32_t x87_store_i64(void *b, const x87_real *a, X87_PARAMETERS) {
    (void)status;
    return soft_store_integer(b, a, 8, control);
}
static inline uint32_t x87_store_bcd(void *b, const x87_real *a, X87_PARAMETERS) {
    static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF};
    uint64_t magnitude;
    uint32_t i, flags = soft_integer(a, control, &magnitude);
    uint8_t *digits = (uint8_t *)b;
    (void)status;
    if (flags & X87_IE || magnitude > 999999999999999999ull) { memcpy(b, indefinite, 10); return X87_IE; }
    for (i = 0; i < 9; i++, magnitude /= 100) digits[i] = (uint8_t)(magnitude / 10 % 10 << 4 | magnitude % 10);
    digits[9] = (uint8_t)(a->exponent >> 8 & 0x80);
    return flags;
}

/* FPREM, FPREM1: exact, in steps of less than 64 bits of quotient. */
static uint32_t soft_remainder(x87_real *a, const x87_real *b, int nearest, uint32_t control) {
    soft_value x, y, kept;
    uint32_t flags, sign, codes = 0;
    uint64_t quotient = 0;
    int32_t distance;
    if (soft_nan(a, b, control, &flags)) return flags;
    if (soft_kind(a) == SOFT_INFINITY || soft_kind(b) == SOFT_ZERO) return soft_invalid(a, control);
    flags = soft_denormal(a) | soft_denormal(b);
    if (flags & ~control || soft_kind(a) == SOFT_ZERO) return flags;
    if (soft_kind(b) == SOFT_INFINITY) {
        if (soft_denormal(a) && a->significand >> 63) a->exponent |= 1;         /* a pseudo-denormal */
        return flags;
    }
    x = soft_unpack(a);
    y = soft_unpack(b);
    sign = x.sign;
    distance = x.exponent - y.exponent;
    if (distance > 63) {
        y.exponent = x.exponent - 32 - distance % 32;
        distance = x.exponent - y.exponent;
        codes = X87_C2;
    }
    for (; distance >= 0; distance--) {
        uint64_t carry = x.low;
        quotient <<= 1;
        if (carry || x.high >= y.high) { x.high -= y.high; quotient |= 1; }
        if (distance == 0) { x.low = 0; break; }
        x.low = x.high >> 63;
        x.high <<= 1;
    }
    if (distance == 0) x.exponent = y.exponent;         /* else |a| < |b|: x is as it was */
    kept = x;
    if (nearest && !codes && x.high && x.exponent >= y.exponent - 1) {
        uint64_t twice = x.exponent == y.exponent ? x.high << 1 : x.high;
        int more = x.exponent == y.exponent && x.high >> 63;
        if (more || twice > y.high || (twice == y.high && quotient & 1)) {
            kept.low = x.exponent == y.exponent ? 0 : SOFT_TOP & (0 - (x.high & 1));
            kept.high = y.high - (x.exponent == y.exponent ? x.high : (x.high >> 1) + (kept.low != 0));
            kept.exponent = y.exponent;
            kept.sign = !sign;
            quotient++;
        }
    }
    if (!codes) codes = (quotient & 1 ? X87_C1 : 0) | (quotient & 2 ? X87_C3 : 0) | (quotient & 4 ? X87_C0 : 0);
    return flags | codes | (soft_pack(a, kept, 64, control) & ~(uint32_t)X87_C1);
}

static uint32_t soft_scale(x87_real *a, const x87_real *b, uint32_t control) {
    uint32_t flags;
    int j = soft_kind(a), k = soft_kind(b);
    soft_value x = soft_unpack(a), y = soft_unpack(b);
    int32_t by;
    if (soft_nan(a, b, control, &flags)) return flags;
    if (k == SOFT_INFINITY && (y.sign ? j == SOFT_INFINITY : j == SOFT_ZERO)) return soft_invalid(a, control);
    flags = soft_denormal(a) | soft_denormal(b);
    if (flags & ~control) return flags;
    if (j == SOFT_ZERO || j == SOFT_INFINITY) return flags;
    if (k == SOFT_INFINITY) { soft_set(a, x.sign, y.sign ? 0 : 0x7FFF, y.sign ? 0 : SOFT_TOP); return flags; }
    by = k == SOFT_ZERO || y.exponent < 0 ? 0 : y.exponent > 16 ? 0x1FFFF : (int32_t)(y.high >> (63 - y.exponent));
    x.exponent += y.sign ? -by : by;
    return flags | soft_pack(a, x, 64, control);
}

static inline uint32_t x87_binary(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) {
    (void)status;
    return what == X87_SCALE ? soft_scale(a, b, control) : soft_remainder(a, b, what == X87_PREM1, control);
}

/* --- Functions, through doubles ----------------------------------------------------------------------------------- */

static double soft_fraction(const soft_value *v)
{
    return (v->sign ? -1.0 : 1.0) * (double)v->high / 9223372036854775808.0;
}

static double soft_double(const x87_real *a) {
    soft_value v = soft_unpack(a);
    if (soft_kind(a) == SOFT_INFINITY) return v.sign ? -HUGE_VAL : HUGE_VAL;
    return soft_kind(a) == SOFT_ZERO ? (v.sign ? -0.0 : 0.0) : ldexp(soft_fraction(&v), v.exponent);
}

/* value * 2**scale, which is not exact */
static uint32_t soft_function(x87_real *a, double value, int32_t scale, uint32_t control) {
    int exponent;
    double fraction = frexp(fabs(value), &exponent);
    soft_value v = {signbit(value) != 0, exponent - 1 + scale, (uint64_t)(fraction * 9007199254740992.0) << 11, 0};
    if (value == 0) { soft_set(a, v.sign, 0, 0); return X87_PE; }
    if (isinf(value)) { soft_set(a, v.sign, 0x7FFF, SOFT_TOP); return X87_PE; }
    return X87_PE | (soft_pack(a, v, 64, control) & ~(uint32_t)X87_C1);
}

/* The rest of |x| by the processor's pi/2, of 66 bits, and the quadrant (SDM 1:8.3.8). */
static double soft_reduce(soft_value x, uint32_t *quadrant) {
    const uint64_t high = 0xC90FDAA22168C234ull, low = 0xC000000000000000ull;
    uint32_t carry = 0;
    *quadrant = 0;
    for (; x.exponent >= 0; x.exponent--) {
        *quadrant <<= 1;
        if (carry || x.high > high || (x.high == high && x.low >= low)) {
            x.high -= high + (x.low < low);
            x.low -= low;
            *quadrant |= 1;
        }
        if (x.exponent == 0) break;
        carry = x.high >> 63;
        x.high = x.high << 1 | x.low >> 63;
        x.low <<= 1;
    }
    return ldexp((double)x.high + (double)x.low / 18446744073709551616.0, (x.exponent < 0 ? x.exponent : 0) - 63);
}

static uint32_t soft_circular(x87_real *sine, x87_real *cosine, x87_real *a, uint32_t control) {
    soft_value x = soft_unpack(a);
    uint32_t flags, quadrant;
    double rest, s, c;
    if (soft_nan(a, a, control, &flags)) { *sine = *cosine = *a; return flags; }
    if (soft_kind(a) == SOFT_INFINITY) { flags = soft_invalid(a, control); *sine = *cosine = *a; return flags; }
    if (soft_kind(a) == SOFT_ZERO) { *sine = *a; soft_set(cosine, 0, SOFT_BIAS, SOFT_TOP); return 0; }
    if (x.exponent > 62) return X87_C2;
    flags = soft_denormal(a);
    if (flags & ~control) return flags;
    if (x.exponent < -40) {
        flags |= soft_function(sine, soft_fraction(&x), x.exponent, control);
        soft_set(cosine, 0, SOFT_BIAS, SOFT_TOP);
        return flags;
    }
    rest = soft_reduce(x, &quadrant);
    s = quadrant & 1 ? cos(rest) : sin(rest);
    c = quadrant & 1 ? sin(rest) : cos(rest);
    if (quadrant & 2) s = -s;
    if ((quadrant + 1) & 2) c = -c;
    flags |= soft_function(sine, x.sign ? -s : s, 0, control);
    return flags | soft_function(cosine, c, 0, control);
}

static uint32_t soft_sqrt(x87_real *a, uint32_t control) {
    soft_value x = soft_unpack(a), r = {0, 0, 0, 0};
    uint64_t rest_high = 0, rest_low = 0, low;
    uint32_t flags;
    int i;
    if (soft_nan(a, a, control, &flags)) return flags;
    if (soft_kind(a) == SOFT_ZERO) return 0;
    if (x.sign) return soft_invalid(a, control);
    if (soft_kind(a) == SOFT_INFINITY) return 0;
    flags = soft_denormal(a);
    if (flags & ~control) return flags;
    r.exponent = x.exponent >> 1;
    if (!(x.exponent & 1)) soft_shift(&x, 1);
    for (i = 0; i < 66; i++) {                  /* 66 bits of the root: r.high << 2 | r.low */
        uint64_t root_high = r.high >> 62, root_low = r.high << 2 | 1;
        rest_high = rest_high << 2 | rest_low >> 62;
        rest_low = rest_low << 2 | x.high >> 62;
        x.high = x.high << 2 | x.low >> 62;
        x.low <<= 2;
        if (i >= 64) {                          /* the two bits behind the significand */
            root_low = r.high << (i - 62) | r.low << 2 | 1;
            root_high = r.high >> (126 - i);
            if (i == 65) { root_low = r.high << 3 | r.low << 2 | 1; root_high = r.high >> 61; }
        }
        low = rest_low - root_low;
        if (i >= 64) r.low <<= 1; else r.high <<= 1;
        if (rest_high > root_high || (rest_high == root_high && rest_low >= root_low)) {
            rest_high -= root_high + (rest_low < root_low);
            rest_low = low;
            if (i >= 64) r.low |= 1; else r.high |= 1;
        }
    }
    r.low = r.low << 62 | ((rest_high | rest_low) != 0);
    return flags | soft_pack(a, r, soft_precision(control), control);
}

static inline uint32_t x87_unary(uint32_t what, x87_real *a, X87_PARAMETERS) {
    soft_value x = soft_unpack(a);
    x87_real sine, cosine;
    uint32_t flags;
    uint64_t magnitude;
    (void)status;
    if (what == X87_SQRT) return soft_sqrt(a, control);
    if (what == X87_SIN || what == X87_COS) {
        sine = cosine = *a;
        flags = soft_circular(&sine, &cosine, a, control);
        if (!(flags & (X87_C2 | (X87_DE & ~control)))) *a = what == X87_SIN ? sine : cosine;
        return flags;
    }
    if (soft_nan(a, a, control, &flags)) return flags;
    if (soft_kind(a) == SOFT_ZERO) return 0;
    flags = soft_denormal(a);
    if (flags & ~control) return flags;
    if (what == X87_ROUND) {
        if (x.exponent > 62) return flags;
        flags |= soft_integer(a, control, &magnitude);
        x87_from_integer(a, (int64_t)magnitude);
        if (magnitude == SOFT_TOP) soft_set(a, 0, SOFT_BIAS + 63, SOFT_TOP);
        a->exponent |= (uint16_t)(x.sign << 15);
        return flags;
    }
    if (x.exponent < -60) return flags | soft_function(a, soft_fraction(&x) * SOFT_LN2, x.exponent, control);
    return flags | soft_function(a, expm1(soft_double(a) * SOFT_LN2), 0, control);
}

static inline uint32_t x87_pop(uint32_t what, x87_real *a, const x87_real *b, X87_PARAMETERS) {
    soft_value x = soft_unpack(b), y = soft_unpack(a);
    int j = soft_kind(b), k = soft_kind(a), plus_one = what == X87_YL2XP1;
    uint32_t flags;
    double logarithm;
    (void)status;
    if (soft_nan(a, b, control, &flags)) return flags;
    flags = soft_denormal(a) | soft_denormal(b);
    if (what == X87_ATAN) {
        if (flags & ~control) return flags;
        if (k == SOFT_ZERO && !x.sign) return flags;
        if (j == SOFT_FINITE && k == SOFT_FINITE) {
            int32_t distance = y.exponent - x.exponent;
            if (distance < -60 && !x.sign)
                return flags | soft_function(a, soft_fraction(&y) / soft_fraction(&x), distance, control);
            distance = distance > 1000 ? 1000 : distance < -1000 ? -1000 : distance;
            return flags | soft_function(a, atan2(ldexp(soft_fraction(&y), distance), soft_fraction(&x)), 0, control);
        }
        return flags | soft_function(a, atan2(k == SOFT_FINITE ? soft_fraction(&y) : soft_double(a),
                                              j == SOFT_FINITE ? soft_fraction(&x) : soft_double(b)), 0, control);
    }
    if (!plus_one && ((j != SOFT_ZERO && x.sign) || (j == SOFT_ZERO && k == SOFT_ZERO)))
        return soft_invalid(a, control);
    if (j == SOFT_INFINITY && (x.sign || k == SOFT_ZERO)) return soft_invalid(a, control);
    if (!plus_one && j == SOFT_ZERO && k == SOFT_FINITE) {
        if (control & X87_ZE) soft_set(a, !y.sign, 0x7FFF, SOFT_TOP);
        return X87_ZE;
    }
    if (k == SOFT_INFINITY && (plus_one ? j == SOFT_ZERO : x.exponent == 0 && x.high == SOFT_TOP))
        return soft_invalid(a, control);
    if (flags & ~control) return flags;
    if (j == SOFT_ZERO) logarithm = plus_one ? (x.sign ? -0.0 : 0.0) : -HUGE_VAL;
    else if (j == SOFT_INFINITY) logarithm = HUGE_VAL;
    else if (plus_one) {
        if (x.exponent < -60) { y.exponent += x.exponent; logarithm = soft_fraction(&x) * SOFT_LOG2E; }
        else logarithm = log1p(soft_double(b)) * SOFT_LOG2E;
    } else if (x.exponent == 0) logarithm = log1p((double)(x.high - SOFT_TOP) / 9223372036854775808.0) * SOFT_LOG2E;
    else if (x.exponent == -1) logarithm = log1p(-(double)(0 - x.high) / 18446744073709551616.0) * SOFT_LOG2E;
    else logarithm = log2(soft_fraction(&x)) + x.exponent;
    if (k != SOFT_FINITE || logarithm == 0 || isinf(logarithm)) {
        soft_function(a, (k == SOFT_FINITE ? soft_fraction(&y) : soft_double(a)) * logarithm, 0, control);
        return flags;
    }
    return flags | soft_function(a, soft_fraction(&y) * logarithm, y.exponent, control);
}

static inline uint32_t x87_push(uint32_t what, x87_real *a, x87_real *top, X87_PARAMETERS) {
    soft_value x = soft_unpack(a);
    x87_real sine = *a, cosine = *a, before = *a;
    uint32_t flags;
    (void)status;
    *top = before;
    if (what == X87_EXTRACT) {
        if (soft_nan(a, a, control, &flags)) { *top = *a; return flags; }
        if (soft_kind(a) == SOFT_ZERO) {
            if (control & X87_ZE) soft_set(a, 1, 0x7FFF, SOFT_TOP);
            return X87_ZE;
        }
        if (soft_kind(a) == SOFT_INFINITY) { soft_set(a, 0, 0x7FFF, SOFT_TOP); return 0; }
        flags = soft_denormal(a);
        if (flags & ~control) return flags;
        soft_set(top, x.sign, SOFT_BIAS, x.high);
        x87_from_integer(a, x.exponent);
        return flags;
    }
    flags = soft_circular(&sine, &cosine, a, control);
    if (flags & (X87_C2 | ((X87_IE | X87_DE) & ~control))) return flags;
    if (what == X87_SINCOS) { *a = sine; *top = cosine; return flags; }
    if (soft_kind(&before) >= SOFT_INFINITY) { *a = *top = sine; return flags; }
    soft_set(top, 0, SOFT_BIAS, SOFT_TOP);
    *a = sine;
    if (flags & X87_PE && x.exponent >= -40)
        flags |= soft_function(a, soft_double(&sine) / soft_double(&cosine), 0, control);
    return flags;
}

#endif
