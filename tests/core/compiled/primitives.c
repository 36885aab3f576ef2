/* core/host_sse.h as a shared library, for test_portable_sse.py: built with the host's instructions, and with C. */
#include "host_sse.h"

typedef void (*primitive)(void *result, const void *a, const void *b);

#define PREDICATE(kind, number) \
    static void cmp##kind##number(void *result, const void *a, const void *b) \
    { \
        pvfast_cmp##kind(result, a, b, number); \
    }
#define PREDICATES(kind) PREDICATE(kind, 0) PREDICATE(kind, 1) PREDICATE(kind, 2) PREDICATE(kind, 3) \
    PREDICATE(kind, 4) PREDICATE(kind, 5) PREDICATE(kind, 6) PREDICATE(kind, 7)
PREDICATES(ps) PREDICATES(pd) PREDICATES(ss) PREDICATES(sd)

#define FOUR(name) {#name "ps", pvfast_##name##ps}, {#name "pd", pvfast_##name##pd}, \
    {#name "ss", pvfast_##name##ss}, {#name "sd", pvfast_##name##sd}
#define EIGHT(kind) {"cmp0" #kind, cmp##kind##0}, {"cmp1" #kind, cmp##kind##1}, {"cmp2" #kind, cmp##kind##2}, \
    {"cmp3" #kind, cmp##kind##3}, {"cmp4" #kind, cmp##kind##4}, {"cmp5" #kind, cmp##kind##5}, \
    {"cmp6" #kind, cmp##kind##6}, {"cmp7" #kind, cmp##kind##7}
#define ONE(name) {#name, pvfast_##name}

static const struct { const char *name; primitive compute; } primitives[] = {
    FOUR(add), FOUR(sub), FOUR(mul), FOUR(div), FOUR(min), FOUR(max), FOUR(sqrt), EIGHT(ps), EIGHT(pd), EIGHT(ss),
    EIGHT(sd), ONE(comiss), ONE(ucomiss), ONE(comisd), ONE(ucomisd), ONE(cvtps2pd), ONE(cvtdq2pd), ONE(cvtpi2ps),
    ONE(cvtps2pi), ONE(cvttps2pi), ONE(cvtdq2ps), ONE(cvtps2dq), ONE(cvttps2dq), ONE(cvtpd2dq), ONE(cvttpd2dq),
    ONE(cvtpd2ps), ONE(cvtss2sd), ONE(cvtsd2ss), ONE(cvtsi2ss), ONE(cvtsi2sd), ONE(cvtss2si), ONE(cvttss2si),
    ONE(cvtsd2si), ONE(cvttsd2si), ONE(rcpps), ONE(rcpss), ONE(rsqrtps), ONE(rsqrtss),
};

const char *name_of(int number)
{
    return number < (int)(sizeof primitives / sizeof primitives[0]) ? primitives[number].name : 0;
}

/* `count` results of one primitive under one MXCSR each, which is written back with its flags. */
void run(int number, int count, uint32_t *mxcsr, pvfast_vector *result, const pvfast_vector *a, const pvfast_vector *b)
{
    uint32_t before = pvfast_get_mxcsr();
    for (int i = 0; i < count; i++) {
        pvfast_set_mxcsr(mxcsr[i]);
        primitives[number].compute(&result[i], &a[i], &b[i]);
        mxcsr[i] = pvfast_get_mxcsr();
    }
    pvfast_set_mxcsr(before);
}
