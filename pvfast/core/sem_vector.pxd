# What the vector instructions compute: lane loops for integers, one function per lane type through fused types.
#
# Enters: operand values. Leaves: the result. Next: vector.pxi. Floating point is in host_sse.h.
# Lane functions: result, old destination, source, number of lanes (a constant, so that the compiler vectorises).
# Functions on Vector: result, old destination, source; those of both widths get 8 (MMX) or 16 bytes as well.
# A result is stored whole where that can be: a load of 16 bytes cannot be forwarded from smaller stores.

from libc.string cimport memcpy

from .types cimport *

cdef extern from "host_sse.h" nogil:
    u32 get_host_mxcsr "pvfast_get_mxcsr"()
    void set_host_mxcsr "pvfast_set_mxcsr"(u32 value)
    void pair "pvfast_pair"(Vector* result, u64 low, u64 high)
    void float_addps "pvfast_addps"(Vector* result, const Vector* a, const Vector* b)
    void float_addpd "pvfast_addpd"(Vector* result, const Vector* a, const Vector* b)
    void float_addss "pvfast_addss"(Vector* result, const Vector* a, const Vector* b)
    void float_addsd "pvfast_addsd"(Vector* result, const Vector* a, const Vector* b)
    void float_subps "pvfast_subps"(Vector* result, const Vector* a, const Vector* b)
    void float_subpd "pvfast_subpd"(Vector* result, const Vector* a, const Vector* b)
    void float_subss "pvfast_subss"(Vector* result, const Vector* a, const Vector* b)
    void float_subsd "pvfast_subsd"(Vector* result, const Vector* a, const Vector* b)
    void float_mulps "pvfast_mulps"(Vector* result, const Vector* a, const Vector* b)
    void float_mulpd "pvfast_mulpd"(Vector* result, const Vector* a, const Vector* b)
    void float_mulss "pvfast_mulss"(Vector* result, const Vector* a, const Vector* b)
    void float_mulsd "pvfast_mulsd"(Vector* result, const Vector* a, const Vector* b)
    void float_divps "pvfast_divps"(Vector* result, const Vector* a, const Vector* b)
    void float_divpd "pvfast_divpd"(Vector* result, const Vector* a, const Vector* b)
    void float_divss "pvfast_divss"(Vector* result, const Vector* a, const Vector* b)
    void float_divsd "pvfast_divsd"(Vector* result, const Vector* a, const Vector* b)
    void float_minps "pvfast_minps"(Vector* result, const Vector* a, const Vector* b)
    void float_minpd "pvfast_minpd"(Vector* result, const Vector* a, const Vector* b)
    void float_minss "pvfast_minss"(Vector* result, const Vector* a, const Vector* b)
    void float_minsd "pvfast_minsd"(Vector* result, const Vector* a, const Vector* b)
    void float_maxps "pvfast_maxps"(Vector* result, const Vector* a, const Vector* b)
    void float_maxpd "pvfast_maxpd"(Vector* result, const Vector* a, const Vector* b)
    void float_maxss "pvfast_maxss"(Vector* result, const Vector* a, const Vector* b)
    void float_maxsd "pvfast_maxsd"(Vector* result, const Vector* a, const Vector* b)
    void float_sqrtps "pvfast_sqrtps"(Vector* result, const Vector* a, const Vector* b)
    void float_sqrtpd "pvfast_sqrtpd"(Vector* result, const Vector* a, const Vector* b)
    void float_sqrtss "pvfast_sqrtss"(Vector* result, const Vector* a, const Vector* b)
    void float_sqrtsd "pvfast_sqrtsd"(Vector* result, const Vector* a, const Vector* b)
    void float_rcpps "pvfast_rcpps"(Vector* result, const Vector* a, const Vector* b)
    void float_rcpss "pvfast_rcpss"(Vector* result, const Vector* a, const Vector* b)
    void float_rsqrtps "pvfast_rsqrtps"(Vector* result, const Vector* a, const Vector* b)
    void float_rsqrtss "pvfast_rsqrtss"(Vector* result, const Vector* a, const Vector* b)
    void float_comiss "pvfast_comiss"(Vector* result, const Vector* a, const Vector* b)
    void float_ucomiss "pvfast_ucomiss"(Vector* result, const Vector* a, const Vector* b)
    void float_comisd "pvfast_comisd"(Vector* result, const Vector* a, const Vector* b)
    void float_ucomisd "pvfast_ucomisd"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtps2pd "pvfast_cvtps2pd"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtdq2pd "pvfast_cvtdq2pd"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtpi2ps "pvfast_cvtpi2ps"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtps2pi "pvfast_cvtps2pi"(Vector* result, const Vector* a, const Vector* b)
    void float_cvttps2pi "pvfast_cvttps2pi"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtdq2ps "pvfast_cvtdq2ps"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtps2dq "pvfast_cvtps2dq"(Vector* result, const Vector* a, const Vector* b)
    void float_cvttps2dq "pvfast_cvttps2dq"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtpd2dq "pvfast_cvtpd2dq"(Vector* result, const Vector* a, const Vector* b)
    void float_cvttpd2dq "pvfast_cvttpd2dq"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtpd2ps "pvfast_cvtpd2ps"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtss2sd "pvfast_cvtss2sd"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtsd2ss "pvfast_cvtsd2ss"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtsi2ss "pvfast_cvtsi2ss"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtsi2sd "pvfast_cvtsi2sd"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtss2si "pvfast_cvtss2si"(Vector* result, const Vector* a, const Vector* b)
    void float_cvttss2si "pvfast_cvttss2si"(Vector* result, const Vector* a, const Vector* b)
    void float_cvtsd2si "pvfast_cvtsd2si"(Vector* result, const Vector* a, const Vector* b)
    void float_cvttsd2si "pvfast_cvttsd2si"(Vector* result, const Vector* a, const Vector* b)
    void float_cmpps "pvfast_cmpps"(Vector* result, const Vector* a, const Vector* b, u32 predicate)
    void float_cmppd "pvfast_cmppd"(Vector* result, const Vector* a, const Vector* b, u32 predicate)
    void float_cmpss "pvfast_cmpss"(Vector* result, const Vector* a, const Vector* b, u32 predicate)
    void float_cmpsd "pvfast_cmpsd"(Vector* result, const Vector* a, const Vector* b, u32 predicate)

ctypedef fused lane:
    i8
    u8
    i16
    u16
    i32
    u32

ctypedef fused small_lane:
    i8
    u8
    i16
    u16


# --- Arithmetic and comparison (SDM 1:9.4, 1:11.4.2) -----------------------------------------------------------------

cdef inline void packed_add(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <lane>(a[i] + b[i])


cdef inline void packed_sub(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <lane>(a[i] - b[i])


cdef inline small_lane saturate(i32 value, small_lane kind) noexcept nogil:
    """The nearest value of the type of `kind`."""
    cdef i32 low, high
    if small_lane is i8:
        low, high = -0x80, 0x7F
    elif small_lane is u8:
        low, high = 0, 0xFF
    elif small_lane is i16:
        low, high = -0x8000, 0x7FFF
    else:
        low, high = 0, 0xFFFF
    return <small_lane>(low if value < low else high if value > high else value)


cdef inline void packed_add_saturated(small_lane* r, const small_lane* a, const small_lane* b,
                                      const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        if small_lane is u8 or small_lane is u16:
            r[i] = <small_lane>(a[i] + (b[i] if b[i] < <small_lane>~a[i] else <small_lane>~a[i]))
        else:
            r[i] = saturate[small_lane](<i32>a[i] + b[i], 0)


cdef inline void packed_sub_saturated(small_lane* r, const small_lane* a, const small_lane* b,
                                      const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        if small_lane is u8 or small_lane is u16:
            r[i] = <small_lane>((a[i] if a[i] > b[i] else b[i]) - b[i])
        else:
            r[i] = saturate[small_lane](<i32>a[i] - b[i], 0)


cdef inline void packed_average(small_lane* r, const small_lane* a, const small_lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <small_lane>((<u32>a[i] + <u32>b[i] + 1) >> 1)


cdef inline void packed_min(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] if a[i] < b[i] else b[i]


cdef inline void packed_max(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] if a[i] > b[i] else b[i]


cdef inline void packed_multiply_low(small_lane* r, const small_lane* a, const small_lane* b,
                                     const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <small_lane>(<u32>a[i] * <u32>b[i])


cdef inline void packed_multiply_high(small_lane* r, const small_lane* a, const small_lane* b,
                                      const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        if small_lane is u16:
            r[i] = <u16>((<u32>a[i] * <u32>b[i]) >> 16)
        else:
            r[i] = <small_lane>((<i32>a[i] * <i32>b[i]) >> 16)


cdef inline void packed_equal(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <lane>(-(a[i] == b[i]))


cdef inline void packed_greater(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <lane>(-(a[i] > b[i]))


cdef inline void packed_and(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] & b[i]


cdef inline void packed_and_not(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = ~a[i] & b[i]


cdef inline void packed_or(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] | b[i]


cdef inline void packed_xor(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] ^ b[i]


cdef inline void vector_add64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    pair(r, a.q[0] + b.q[0], a.q[1] + b.q[1])


cdef inline void vector_sub64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    pair(r, a.q[0] - b.q[0], a.q[1] - b.q[1])


cdef inline void vector_multiply_even(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """PMULUDQ: doublewords 0 and 2 to quadwords."""
    pair(r, <u64>a.d[0] * b.d[0], <u64>a.d[2] * b.d[2])


cdef inline void vector_multiply_add(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PMADDWD: products of signed words, added in pairs."""
    cdef const i32* x = <const i32*>a
    cdef const i32* y = <const i32*>b
    cdef u32 i
    for i in range(size // 4):
        r.d[i] = <u32>(<i16>x[i] * <i16>y[i]) + <u32>((x[i] >> 16) * (y[i] >> 16))


cdef inline u64 sum_of_differences(const u8* a, const u8* b) noexcept nogil:
    cdef u32 i
    cdef i32 sum = 0
    cdef i32 difference
    for i in range(8):
        difference = <i32>a[i] - <i32>b[i]
        sum += difference if difference >= 0 else -difference
    return <u64>sum


cdef inline void vector_sad(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PSADBW."""
    pair(r, sum_of_differences(a.b, b.b), sum_of_differences(a.b + 8, b.b + 8) if size == 16 else 0)


# --- Shifts: the count is the low quadword of the source, or an immediate --------------------------------------------

cdef inline u32 shift_count(const Vector* count, const u32 bits) noexcept nogil:
    """At most the width: by that much everything is shifted out."""
    return <u32>count.q[0] if count.q[0] < bits else bits


cdef inline void shift_left(lane* r, const lane* a, u32 count, const u32 n) noexcept nogil:
    cdef u32 i
    if count >= 8 * sizeof(lane):
        for i in range(n):
            r[i] = 0
    else:
        for i in range(n):
            r[i] = <lane>(<u32>a[i] << count)


cdef inline void shift_right(lane* r, const lane* a, u32 count, const u32 n) noexcept nogil:
    """Arithmetic for signed lanes."""
    cdef u32 i
    if count >= 8 * sizeof(lane):
        if lane is i8 or lane is i16 or lane is i32:
            count = 8 * sizeof(lane) - 1
        else:
            for i in range(n):
                r[i] = 0
            return
    for i in range(n):
        r[i] = <lane>(a[i] >> count)


cdef inline void packed_shift_left(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    shift_left[lane](r, a, shift_count(<const Vector*>b, 8 * sizeof(lane)), n)


cdef inline void packed_shift_right(lane* r, const lane* a, const lane* b, const u32 n) noexcept nogil:
    shift_right[lane](r, a, shift_count(<const Vector*>b, 8 * sizeof(lane)), n)


cdef inline void packed_shift_left_by(lane* r, const lane* a, const lane* b, const u32 n, u32 count) noexcept nogil:
    shift_left[lane](r, a, count, n)


cdef inline void packed_shift_right_by(lane* r, const lane* a, const lane* b, const u32 n, u32 count) noexcept nogil:
    shift_right[lane](r, a, count, n)


cdef inline void vector_shift_left64_by(Vector* r, const Vector* a, const Vector* b, u32 count) noexcept nogil:
    pair(r, a.q[0] << count if count < 64 else 0, a.q[1] << count if count < 64 else 0)


cdef inline void vector_shift_right64_by(Vector* r, const Vector* a, const Vector* b, u32 count) noexcept nogil:
    pair(r, a.q[0] >> count if count < 64 else 0, a.q[1] >> count if count < 64 else 0)


cdef inline void vector_shift_left64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    vector_shift_left64_by(r, a, b, shift_count(b, 64))


cdef inline void vector_shift_right64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    vector_shift_right64_by(r, a, b, shift_count(b, 64))


cdef inline void vector_shift_left128(Vector* r, const Vector* a, const Vector* b, u32 count) noexcept nogil:
    """PSLLDQ: by bytes."""
    cdef u32 bits = 8 * (count & 7)
    if count >= 16:
        pair(r, 0, 0)
    elif count >= 8:
        pair(r, 0, a.q[0] << bits)
    else:
        pair(r, a.q[0] << bits, a.q[1] << bits | (a.q[0] >> 1 >> (63 - bits)))


cdef inline void vector_shift_right128(Vector* r, const Vector* a, const Vector* b, u32 count) noexcept nogil:
    """PSRLDQ: by bytes."""
    cdef u32 bits = 8 * (count & 7)
    if count >= 16:
        pair(r, 0, 0)
    elif count >= 8:
        pair(r, a.q[1] >> bits, 0)
    else:
        pair(r, a.q[0] >> bits | (a.q[1] << 1 << (63 - bits)), a.q[1] >> bits)


# --- Packing, unpacking, shuffling -----------------------------------------------------------------------------------

cdef inline void vector_pack_i16_i8(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PACKSSWB."""
    cdef i16 words[16]
    cdef u32 i
    memcpy(words, a, size)
    memcpy(words + size // 2, b, size)
    for i in range(size):
        (<i8*>r)[i] = saturate[i8](words[i], 0)


cdef inline void vector_pack_i16_u8(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PACKUSWB."""
    cdef i16 words[16]
    cdef u32 i
    memcpy(words, a, size)
    memcpy(words + size // 2, b, size)
    for i in range(size):
        r.b[i] = saturate[u8](words[i], 0)


cdef inline void vector_pack_i32_i16(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PACKSSDW."""
    cdef i32 doublewords[8]
    cdef u32 i
    memcpy(doublewords, a, size)
    memcpy(doublewords + size // 4, b, size)
    for i in range(size // 2):
        (<i16*>r)[i] = saturate[i16](doublewords[i], 0)


cdef inline void interleave8(u16* r, const u8* a, const u8* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = <u16>(a[i] | <u32>b[i] << 8)


cdef inline void interleave16(u32* r, const u16* a, const u16* b, const u32 n) noexcept nogil:
    cdef u32 i
    for i in range(n):
        r[i] = a[i] | <u32>b[i] << 16


cdef inline void vector_unpack_low8(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    interleave8(r.w, a.b, b.b, size // 2)


cdef inline void vector_unpack_high8(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    interleave8(r.w, a.b + size // 2, b.b + size // 2, size // 2)


cdef inline void vector_unpack_low16(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    interleave16(r.d, a.w, b.w, size // 4)


cdef inline void vector_unpack_high16(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    interleave16(r.d, a.w + size // 4, b.w + size // 4, size // 4)


cdef inline u64 quadword(u32 low, u32 high) noexcept nogil:
    return <u64>high << 32 | low


cdef inline void vector_unpack_low32(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    pair(r, quadword(a.d[0], b.d[0]), quadword(a.d[1], b.d[1]) if size == 16 else 0)


cdef inline void vector_unpack_high32(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    if size == 16:
        pair(r, quadword(a.d[2], b.d[2]), quadword(a.d[3], b.d[3]))
    else:
        pair(r, quadword(a.d[1], b.d[1]), 0)


cdef inline void vector_shuffle32(Vector* r, const Vector* a, const Vector* b, u32 order) noexcept nogil:
    """PSHUFD."""
    vector_shufps(r, b, b, order)


cdef inline u64 shuffle_words(const u16* w, u32 order) noexcept nogil:
    return (w[order & 3] | <u64>w[order >> 2 & 3] << 16 | <u64>w[order >> 4 & 3] << 32 | <u64>w[order >> 6 & 3] << 48)


cdef inline void vector_shuffle_low16(Vector* r, const Vector* a, const Vector* b, u32 order) noexcept nogil:
    """PSHUFLW, and PSHUFW on the low quadword alone."""
    pair(r, shuffle_words(b.w, order), b.q[1])


cdef inline void vector_shuffle_high16(Vector* r, const Vector* a, const Vector* b, u32 order) noexcept nogil:
    """PSHUFHW."""
    pair(r, b.q[0], shuffle_words(b.w + 4, order))


cdef inline void vector_shufps(Vector* r, const Vector* a, const Vector* b, u32 order) noexcept nogil:
    pair(r, quadword(a.d[order & 3], a.d[order >> 2 & 3]), quadword(b.d[order >> 4 & 3], b.d[order >> 6 & 3]))


cdef inline void vector_shufpd(Vector* r, const Vector* a, const Vector* b, u32 order) noexcept nogil:
    pair(r, a.q[order & 1], b.q[order >> 1 & 1])


# --- Moves -----------------------------------------------------------------------------------------------------------

cdef inline void vector_move(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    pair(r, b.q[0], b.q[1])


cdef inline void vector_zero_extend32(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    pair(r, b.d[0], 0)


cdef inline void vector_zero_extend64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    pair(r, b.q[0], 0)


cdef inline void vector_low32(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """The low doubleword is replaced."""
    pair(r, a.q[0] & ~<u64>0xFFFFFFFFu | b.d[0], a.q[1])


cdef inline void vector_low64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """The low quadword is replaced."""
    pair(r, b.q[0], a.q[1])


cdef inline void vector_high64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """The high quadword is replaced by the source's low one: MOVHPS, MOVLHPS, PUNPCKLQDQ."""
    pair(r, a.q[0], b.q[0])


cdef inline void vector_high_to_low(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """MOVHLPS."""
    pair(r, b.q[1], a.q[1])


cdef inline void vector_both_high(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """PUNPCKHQDQ, UNPCKHPD."""
    pair(r, a.q[1], b.q[1])


cdef inline void vector_from_high(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """The store of MOVHPS."""
    r.q[0] = b.q[1]


cdef inline void vector_extract16(Vector* r, const Vector* a, const Vector* b, const u32 size, u32 n) noexcept nogil:
    """PEXTRW."""
    r.d[0] = b.w[n & (size // 2 - 1)]


cdef inline void vector_insert16(Vector* r, const Vector* a, const Vector* b, const u32 size, u32 n) noexcept nogil:
    """PINSRW."""
    cdef u32 shift = 16 * (n & 3)
    cdef u64 kept = ~(<u64>0xFFFF << shift)
    cdef u64 value = <u64>b.w[0] << shift
    if size == 16 and n & 4:
        pair(r, a.q[0], a.q[1] & kept | value)
    else:
        pair(r, a.q[0] & kept | value, a.q[1])


cdef inline u32 sign_bits(u64 x) noexcept nogil:
    """The top bits of eight bytes, brought together by a multiplication without carries."""
    return <u32>((x >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56)


cdef inline void vector_byte_signs(Vector* r, const Vector* a, const Vector* b, const u32 size) noexcept nogil:
    """PMOVMSKB."""
    r.d[0] = sign_bits(b.q[0]) | (sign_bits(b.q[1]) << 8 if size == 16 else 0)


cdef inline void vector_signs32(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """MOVMSKPS."""
    r.d[0] = b.d[0] >> 31 | b.d[1] >> 31 << 1 | b.d[2] >> 31 << 2 | b.d[3] >> 31 << 3


cdef inline void vector_signs64(Vector* r, const Vector* a, const Vector* b) noexcept nogil:
    """MOVMSKPD."""
    r.d[0] = b.d[1] >> 31 | b.d[3] >> 31 << 1
