# What Python sees of x87, MMX and SSE state.
#
# Enters: attribute accesses from Python. Leaves: values, or typed errors. Next: registers.pxi.

import math


cdef bytes encode_real(double value):
    """The ten bytes of a float; the conversion is exact (SDM 1:4.2.2)."""
    sign = SIGN if math.copysign(1.0, value) < 0 else 0
    if math.isnan(value):
        significand, exponent = INDEFINITE, EXPONENT
    elif math.isinf(value):
        significand, exponent = INTEGER_BIT, EXPONENT
    elif value == 0:
        significand, exponent = 0, 0
    else:
        fraction, exponent = math.frexp(abs(value))
        significand, exponent = int(fraction * 2.0 ** 64), exponent + 0x3FFE
    return int(significand).to_bytes(8, "little") + int(sign | exponent).to_bytes(2, "little")


cdef object decode_real(Float80* value):
    """The nearest float; NaN for encodings that no processor accepts."""
    cdef u32 exponent = value.exponent & EXPONENT
    sign = -1.0 if value.exponent & SIGN else 1.0
    if exponent == EXPONENT:
        return sign * (math.inf if value.significand == INTEGER_BIT else math.nan)
    if exponent and not value.significand & INTEGER_BIT:
        return math.nan
    try:
        return sign * math.ldexp(value.significand, <int>(exponent if exponent else 1) - 0x3FFF - 63)
    except OverflowError:
        return sign * math.inf


cdef class FloatingPoint:
    """The x87 registers: `machine.cpu.fpu`. Indexed by i of ST(i), as floats.

    >>> import pvfast
    >>> machine = pvfast.Machine(ram="64K")
    >>> machine.write(0x1000, bytes.fromhex("d9ebd9e8dec1f4"))      # fldpi; fld1; faddp; hlt
    >>> machine.cpu.eip = 0x1000
    >>> machine.run().reason.name
    'HALT'
    >>> machine.cpu.fpu[0], hex(machine.cpu.fpu.tags)
    (4.141592653589793, '0x3fff')
    >>> machine.cpu.fpu.encoded(0).hex()
    '1a61b41051ed87840140'
    """

    cdef Core core

    def __cinit__(self, Core core not None):
        self.core = core

    cdef u32 place(self, i) except? 8:
        self.core.check_idle()
        check_range(i, 7, "x87 register")
        return place_of(self.core.cpu, <u32>i)

    def __getitem__(self, i):
        """ST(i) rounded to a float, whether it is empty or not."""
        return decode_real(&self.core.cpu.fpu[self.place(i)])

    def __setitem__(self, i, value):
        """A float, or ten bytes; ST(i) is not empty then."""
        cdef u32 place = self.place(i)
        cdef bytes encoded = bytes(value) if isinstance(value, (bytes, bytearray)) else encode_real(value)
        if len(encoded) != REAL_BYTES:
            raise ArgumentError(f"ST({i}) has {REAL_BYTES} bytes, not {len(encoded)}")
        memcpy(register_at(self.core.cpu, place), <const char*>encoded, REAL_BYTES)
        self.core.cpu.fpu_empty &= <u8>~<u32>(1 << place)

    def encoded(self, i):
        """The ten bytes of ST(i)."""
        return (<const char*>register_at(self.core.cpu, self.place(i)))[:REAL_BYTES]

    @property
    def control(self):
        """The control word (SDM 1:8.1.5)."""
        self.core.check_idle()
        return self.core.cpu.fpu_control

    @control.setter
    def control(self, value):
        check_range(value, 0xFFFF, "x87 control word")
        self.core.check_idle()
        self.core.cpu.fpu_control = control_word(value)
        renew_summary(self.core.cpu)

    @property
    def status(self):
        """The status word, TOP included (SDM 1:8.1.3)."""
        self.core.check_idle()
        return self.core.cpu.fpu_status

    @status.setter
    def status(self, value):
        check_range(value, 0xFFFF, "x87 status word")
        self.core.check_idle()
        self.core.cpu.fpu_status = value
        renew_summary(self.core.cpu)

    @property
    def tags(self):
        """The tag word (SDM 1:8.1.7); when set, only which registers are empty (3) counts."""
        self.core.check_idle()
        return tag_word(self.core.cpu)

    @tags.setter
    def tags(self, value):
        check_range(value, 0xFFFF, "x87 tag word")
        self.core.check_idle()
        self.core.cpu.fpu_empty = sum(1 << i for i in range(8) if value >> 2 * i & 3 == TAG_EMPTY)

    def __repr__(self):
        return f"<x87 control {self.control:#x} status {self.status:#x} tags {self.tags:#06x}>"
