/* The functions of x87.h under names that a shared library exports: test_soft_x87.py compares the two makers. */
#include "x87.h"

#define PARAMETERS uint32_t control, uint32_t status
uint32_t arithmetic(uint32_t what, x87_real *a, const x87_real *b, PARAMETERS) {
    return x87_arithmetic(what, a, b, control, status);
}
uint32_t arithmetic_m32(uint32_t what, x87_real *a, const void *b, PARAMETERS) {
    return x87_arithmetic_m32(what, a, b, control, status);
}
uint32_t arithmetic_m64(uint32_t what, x87_real *a, const void *b, PARAMETERS) {
    return x87_arithmetic_m64(what, a, b, control, status);
}
uint32_t binary(uint32_t what, x87_real *a, const x87_real *b, PARAMETERS) {
    return x87_binary(what, a, b, control, status);
}
uint32_t pop(uint32_t what, x87_real *a, const x87_real *b, PARAMETERS) {
    return x87_pop(what, a, b, control, status);
}
uint32_t unary(uint32_t what, x87_real *a, const x87_real *b, PARAMETERS) {
    (void)b;
    return x87_unary(what, a, control, status);
}
uint32_t push(uint32_t what, x87_real *a, x87_real *b, PARAMETERS) {
    return x87_push(what, a, b, control, status);
}
uint32_t compare(uint32_t what, const x87_real *a, const x87_real *b, PARAMETERS) {
    return what ? x87_ucom(a, b, control, status) : x87_com(a, b, control, status);
}
uint32_t load(uint32_t what, x87_real *a, const void *b, PARAMETERS) {
    return what == M32 ? x87_load_m32(a, b, control, status) : x87_load_m64(a, b, control, status);
}
uint32_t store(uint32_t what, const x87_real *a, void *b, PARAMETERS) {
    switch (what) {
    case M32: return x87_store_m32(b, a, control, status);
    case M64: return x87_store_m64(b, a, control, status);
    case I16: return x87_store_i16(b, a, control, status);
    case I32: return x87_store_i32(b, a, control, status);
    case I64: return x87_store_i64(b, a, control, status);
    default: return x87_store_bcd(b, a, control, status);
    }
}
