# The structures of the core: registers, segments, TLB, uops, blocks, and the CPU that holds them.
#
# Enters: nothing. Leaves: every C type and constant of the core. Next: flags.pxd.
# Words: a *form* is a row of isa/; a *uop* is decoded and cached; a *fault* is the guest's; an *exit* gives
# control to the host. "SDM" is Intel's manual (order 325462), volume and section.

from libc.stdint cimport (int8_t as i8, int16_t as i16, int32_t as i32, int64_t as i64,
                          uint8_t as u8, uint16_t as u16, uint32_t as u32, uint64_t as u64)

cdef extern from "host.h" nogil:
    const bint TAIL_CALLS "PVFAST_TAIL_CALLS"
    bint rare "PVFAST_RARE"(bint condition)
    u32 whole_word "pvfast_whole_word"(const u32* word)
    u32 lowest_bit "pvfast_lowest_bit"(u32 word)
    u32 highest_bit "pvfast_highest_bit"(u32 word)
    void check "PVFAST_ASSERT"(bint condition)
    void* pvfast_reserve(size_t size)
    bint pvfast_commit(void* start, size_t size)
    void pvfast_release(void* start, size_t size)

ctypedef fused uint:
    u8
    u16
    u32

# --- EFLAGS (SDM 1:3.4.3) --------------------------------------------------------------------------------------------
cdef enum:
    CF = 0x1
    FLAG_1 = 0x2            # always set
    PF = 0x4
    AF = 0x10
    ZF = 0x40
    SF = 0x80
    TF = 0x100
    EFLAGS_IF = 0x200
    DF = 0x400
    OF = 0x800
    IOPL = 0x3000
    IOPL_SHIFT = 12
    NT = 0x4000
    RF = 0x10000
    VM = 0x20000
    AC = 0x40000
    VIF = 0x80000
    VIP = 0x100000
    ID = 0x200000
    EFLAGS_WRITABLE = 0x3F7FD5      # every defined bit but FLAG_1
    ARITHMETIC = 0x8D5      # CF PF AF ZF SF OF: kept lazily, see flags.pxd

# --- Registers -------------------------------------------------------------------------------------------------------
cdef enum:
    EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI
    ZERO = 16               # gpr[16] is always 0: the base or index of an address that has none
    ES = 0, CS, SS, DS, FS, GS

cdef union Register:
    u64 q
    u32 d
    u16 w
    u8 b[8]

cdef struct Float80:        # SDM 1:4.2.2
    u64 significand
    u16 exponent            # biased, with the sign in bit 15
    u16 unused[3]

cdef union Vector:
    u8 b[16]
    u16 w[8]
    u32 d[4]
    u64 q[2]
    float f[4]
    double g[2]

# --- Control registers (SDM 3:2.5) -----------------------------------------------------------------------------------
cdef enum:
    CR0_PE = 0x1
    CR0_MP = 0x2
    CR0_EM = 0x4
    CR0_TS = 0x8
    CR0_ET = 0x10
    CR0_NE = 0x20
    CR0_WP = 0x10000
    CR0_AM = 0x40000
    CR0_NW = 0x20000000
    CR0_CD = 0x40000000
cdef enum:
    CR4_VME = 0x1
    CR4_PVI = 0x2
    CR4_TSD = 0x4
    CR4_DE = 0x8
    CR4_PSE = 0x10
    CR4_PAE = 0x20
    CR4_MCE = 0x40
    CR4_PGE = 0x80
    CR4_PCE = 0x100
    CR4_OSFXSR = 0x200
    CR4_OSXMMEXCPT = 0x400
cdef enum:
    EFER_NXE = 0x800        # IA32_EFER (SDM 3:2.2.1)
cdef enum:                  # debug registers (SDM 3:17.2)
    DR6_WRITABLE = 0xE00F
    DR6_BD = 0x2000
    DR6_BS = 0x4000
    DR6_BT = 0x8000
    DR7_ONE = 0x400
    DR7_ENABLES = 0xFF      # L0 G0 ... L3 G3
    DR7_LOCAL = 0x155       # L0-L3 and LE: cleared by a task switch
    DR7_GD = 0x2000
cdef enum:                  # model-specific registers (SDM 4:2); msr.pxi has the others
    MSR_TSC = 0x10
    MSR_SYSENTER_CS = 0x174
    MSR_SYSENTER_ESP = 0x175
    MSR_SYSENTER_EIP = 0x176
cdef enum:
    RESTORED_FLAGS = ARITHMETIC | TF | DF | NT | AC | ID        # by IRET and POPF at any privilege

# --- Paging (SDM 3:4.3, table 4-6; 3:4.4, table 4-11) ----------------------------------------------------------------
cdef enum:
    PTE_P = 0x1
    PTE_W = 0x2
    PTE_U = 0x4
    PTE_PWT = 0x8
    PTE_A = 0x20
    PTE_D = 0x40
    PTE_PS = 0x80           # of a PDE
    PTE_PAT = 0x80          # of a PTE
    PTE_G = 0x100
    LARGE_RESERVED = 0x3FE000       # of a PDE that maps 4 MiB, without PSE-36
    PFE_P = 0x1             # page-fault error code (SDM 3:4.7)
    PFE_W = 0x2
    PFE_U = 0x4
    PFE_RSVD = 0x8
    PFE_FETCH = 0x10
cdef extern from *:
    """
    #define PVFAST_CR0_PG 0x80000000u
    #define PVFAST_CR0_BITS 0xE005003Fu
    #define PVFAST_DR6_ONES 0xFFFF0FF0u
    #define PVFAST_DR7_WRITABLE 0xFFFF23FFu
    #define PVFAST_GUEST_SPACE 0x100000000ull
    #define PVFAST_OVERDRAWN 0x8000000080000000ull
    """
    const u32 CR0_PG "PVFAST_CR0_PG"
    const u32 CR0_BITS "PVFAST_CR0_BITS"        # the defined ones: PG CD NW AM WP NE ET TS EM MP PE
    const u32 DR6_ONES "PVFAST_DR6_ONES"
    const u32 DR7_WRITABLE "PVFAST_DR7_WRITABLE"
    const u64 GUEST_SPACE "PVFAST_GUEST_SPACE"  # bytes reserved for guest-physical memory
    const u64 OVERDRAWN "PVFAST_OVERDRAWN"      # the sign bits of both halves of CPU.left
    const u64 NEVER "UINT64_MAX"        # a deadline or budget that is none

# --- Vectors (SDM 3:6.3.1) -------------------------------------------------------------------------------------------
cdef enum:
    VECTOR_DE = 0
    VECTOR_DB = 1
    VECTOR_BP = 3
    VECTOR_OF = 4
    VECTOR_BR = 5
    VECTOR_UD = 6
    VECTOR_NM = 7
    VECTOR_DF = 8
    VECTOR_TS = 10
    VECTOR_NP = 11
    VECTOR_SS = 12
    VECTOR_GP = 13
    VECTOR_PF = 14
    VECTOR_MF = 16
    VECTOR_AC = 17
    VECTOR_XM = 19

# --- Segments (SDM 3:3.4.5). The attribute word is bits 40-55 of the descriptor, shifted down to 0. ------------------
cdef enum:
    SEG_TYPE = 0x0F
    SEG_ACCESSED = 0x01
    SEG_WRITABLE = 0x02     # data
    SEG_READABLE = 0x02     # code
    SEG_DOWN = 0x04         # data: expand-down
    SEG_CONFORMING = 0x04   # code
    SEG_CODE = 0x08
    SEG_S = 0x10            # 1: code or data, 0: system
    SEG_DPL = 0x60
    SEG_DPL_SHIFT = 5
    SEG_P = 0x80
    SEG_DB = 0x4000
    SEG_G = 0x8000
    SEG_NULL = 0x10000      # ours: the register holds a null selector; any use faults
cdef enum:                  # system descriptor types (SDM 3:3.5, table 3-2)
    TYPE_TSS16 = 0x1
    TYPE_LDT = 0x2
    TYPE_TSS16_BUSY = 0x3
    TYPE_CALL_GATE16 = 0x4
    TYPE_TASK_GATE = 0x5
    TYPE_INTERRUPT_GATE16 = 0x6
    TYPE_TRAP_GATE16 = 0x7
    TYPE_TSS32 = 0x9
    TYPE_TSS32_BUSY = 0xB
    TYPE_CALL_GATE32 = 0xC
    TYPE_INTERRUPT_GATE32 = 0xE
    TYPE_TRAP_GATE32 = 0xF
    TYPE_BUSY = 0x2
    TYPE_32 = 0x8           # of TSSs and gates
    LAR_TYPES = 0x1A3E      # types 1-5, 9, 11, 12 (SDM 2, LAR, table 3-57)
    LSL_TYPES = 0x0A0E      # types 1-3, 9, 11 (SDM 2, LSL, table 3-61)
    LAR_RESULT = 0xFFFF00   # type, S, DPL, P, AVL, D/B, G; processors leave the limit's upper bits in

cdef struct Segment:
    u64 base                # linear
    u32 limit               # last valid offset, granularity applied
    u32 attributes
    u16 selector
    u32 read_end            # fast paths read offsets [0, read_end) and write [0, write_end), up to 8 bytes each;
    u32 write_end           # 0 where the full check has to decide (see refresh_segment)

# --- TLB: one direct-mapped table for supervisor and one for user accesses (P handlers get it as `mem`) --------------
cdef enum:
    TLB_ENTRIES = 512
    TLB_INVALID = 1         # a tag that no page address equals
    PAGE_SIZE = 4096
    LARGE_SHIFT = 22        # of linear address bits 27:22, which name the 4 MiB that a large page is part of
    LARGE_MASK = 0x3F

cdef struct TlbEntry:
    u32 read_tag            # linear page address when readable through this entry
    u32 write_tag           # the same when writable: the dirty bit is already set in the page table
    u64 addend              # host address = addend + linear (modulo 2**64)

cdef struct FetchEntry:
    u32 tag                 # linear page address | 0 when valid for this privilege, else TLB_INVALID
    u32 frame               # physical page number

# --- Uops and blocks -------------------------------------------------------------------------------------------------
# A block in memory: Block (64 bytes), then its uops (32 bytes each). The last uop is a terminator, followed by a
# Link slot, and, when it jumps to known targets, two stub uops. The eight bytes before every uop that can be
# entered are its cost (instructions << 32 | cycles): Block.cost before the first uop, zero before a stub.
ctypedef void (*Handler)(CPU* cpu, Uop* op, char* mem) noexcept nogil

cdef struct Uop:
    Handler run
    u32 imm                 # immediate, target, or return address
    i32 disp
    u8 reg                  # register number; the byte offset in gpr[] for 8-bit operands
    u8 base                 # base register, or the r/m register; ZERO for none
    u8 index                # ZERO for none
    u8 scale                # shift count 0-3
    u8 segment              # ES..GS
    u8 length               # bytes of the instruction (of the whole group when fused)
    u8 position             # in the block, in uops
    u8 count                # instructions of the block before this uop
    u8 offset               # from the block's first byte
    u8 extra                # handler's own: second register of a fused pair, ADDRESS16 ...
    u16 cycles              # modelled cycles of this uop
    u32 cycles_before       # of the block before this uop

cdef enum:
    ADDRESS16 = 0x80        # Uop.extra: the effective address is computed modulo 2**16

cdef struct Link:           # follows a terminator; same size as a Uop
    Uop* taken              # the successor, or the stub that finds it; the inline cache of an indirect branch
    Uop* fall
    u32 eip                 # inline cache: valid for this target
    u32 generation          # and this mapping generation
    u64 zero                # the cost of the stub behind

cdef struct CrossLink:      # a stub for a target in another page; same size as a Uop
    Handler run
    u32 eip
    u32 generation
    Uop* target
    u64 zero

cdef struct Block:          # 64 bytes, the cost last
    Block* hash_next
    Block* line_next        # blocks that start in the same 64-byte physical line (hashed)
    Block* linear_next      # the same by linear address, for `until`
    u64 physical
    u32 linear
    u32 eip
    u32 mode
    u32 code_limit          # CS.limit that decoding assumed
    u16 length              # bytes of code covered
    u8 uops                 # including the terminator
    u8 slots                # 32-byte slots available behind this header
    u8 stale
    u8 instructions
    u16 unused
    u64 cost

# Mode: what decoding assumed. A block is only ever run in the mode it was decoded for.
cdef enum:
    MODE_CODE32 = 0x01
    MODE_FLAT = 0x02        # protected mode; CS, DS, ES, SS: base 0, limit 4 GiB, usable; SS.B set
    MODE_PAGING = 0x04
    MODE_STACK32 = 0x08     # SS.B
    MODE_CPL = 0x30
    MODE_CPL_SHIFT = 4
    MODE_SINGLE = 0x80      # one unfused instruction, then back to the dispatcher
    MODE_8086 = 0x100       # real-address or virtual-8086 mode: selectors are paragraphs, not descriptors
    MODE_CHECKED = 0x200    # every operand passes checked_access(): breakpoints are enabled, or alignment is checked

cdef enum:
    LINE_SHIFT = 6          # written code is tracked in lines of 64 bytes
    LINE_MAP_BYTES = 0x4000000      # 4 GiB >> LINE_SHIFT
    MAX_BLOCK_BYTES = 192
    MAX_BLOCK_LINES = 4     # behind its first, that a block reaches: (63 + 191 + 15 - 1) >> LINE_SHIFT
    MAX_BLOCK_UOPS = 48
    MAX_STORE_BYTES = 16    # lines are marked this much before the code too, so a store checks its first line only
    HASH_ENTRIES = 16384
    LINE_LISTS = 8192
    JUMP_CACHE = 1024
    UOP_ARENA_BYTES = 0x1000000

cdef struct JumpCacheEntry:
    u32 eip
    u32 generation
    u32 mode
    Uop* target

cdef enum ExitReason:
    EXIT_NONE = 0
    EXIT_UNTIL
    EXIT_BUDGET
    EXIT_HALT
    EXIT_SHUTDOWN
    EXIT_REQUESTED
    # below: the host has something to do, then the run goes on
    EXIT_IO                 # a port or MMIO access, described by CPU.io
    EXIT_INTERRUPT          # an intercepted software interrupt: CPU.exit_vector
    EXIT_HYPERVISOR         # an event for a hypervisor written in Python: CPU.event
    EXIT_POLL               # the slice is over: look for signals, devices and requests

cdef enum IoKind:
    IO_PORT_READ
    IO_PORT_WRITE
    IO_MMIO_READ
    IO_MMIO_WRITE

cdef struct Io:
    u32 kind
    u32 size
    u64 address             # port number or physical address
    u64 value

cdef enum:
    IO_REPLAYS = 160        # an FXSAVE image, word by word, and what goes before it

cdef enum RegionKind:
    REGION_RAM
    REGION_ROM
    REGION_MMIO

cdef struct Region:
    u64 start
    u64 end                 # first address behind it
    u32 kind

cdef enum:
    MAX_REGIONS = 64

cdef enum EventKind:
    EVENT_FAULT             # an exception of the processor
    EVENT_SOFTWARE          # INT n, INT3, INTO
    EVENT_EXTERNAL

# Offers an event to a hypervisor, without the GIL, before the IDT is looked at; `state` is CPU.hypervisor. True: it is
# dealt with. CPU.eip is the address to save: behind the instruction of EVENT_SOFTWARE, at that of most EVENT_FAULTs.
# See hypervisor.pxi.
ctypedef bint (*InterruptHook)(void* state, CPU* cpu, u32 vector, u32 error, bint has_error, u32 kind) noexcept nogil

cdef struct Event:          # of EXIT_HYPERVISOR
    u32 vector
    u32 error
    bint has_error
    u32 kind
    u32 eip                 # EVENT_SOFTWARE: of the instruction ...
    u32 cycles              # ... and what it cost, to take back when the hypervisor declines
    bint declined           # the instruction at `eip` runs again, and goes through the IDT

cdef enum BranchKind:
    BRANCH_NONE
    BRANCH_CONDITIONAL
    BRANCH_CALL
    BRANCH_INDIRECT_CALL
    BRANCH_INDIRECT_JUMP
    BRANCH_RETURN

cdef enum:
    CPUID_LEAVES = 8                # room for so many from 0 on, and as many from 80000000 on
    CPUID_HYPERVISOR_LEAVES = 4     # from 40000000 on
    PREDICTOR_COUNTERS = 4096

include "generated/predictor.pxi"   # PREDICTOR_RETURNS and _TARGETS, at most: processor/prediction.py

cdef struct BranchTarget:
    u32 behind              # the branch, by the linear address behind it
    u32 target

cdef struct Predictor:      # prediction.pxi; of a processor model
    bint active
    u32 pending             # BranchKind: of a branch that has been noted and not judged
    u32 behind              # its identity: the linear address behind it
    u32 conditional_cycles  # what each kind of wrong guess costs
    u32 indirect_cycles
    u32 return_cycles
    u32 return_depth
    u32 returns_held
    u32 returns_top
    u32 sets                # of the branch target buffer; 0: indirect branches are not predicted, nor charged for it
    u32 ways
    u32 returns[PREDICTOR_RETURNS]
    u8 counters[PREDICTOR_COUNTERS]
    BranchTarget targets[PREDICTOR_TARGETS]

cdef struct CPU:
    # hot
    Register gpr[17]
    i64 fl_result           # lazy flags: see flags.pxd
    u32 fl_a
    u32 fl_b
    u32 fl_carry
    u32 eflags              # all bits but ARITHMETIC
    u64 left                # instructions << 32 | cycles until the slice ends
    u32 flat_end            # F handlers access [0, flat_end) inline, for sizes up to 8 bytes
    u32 generation          # of the linear-to-physical mapping; a TLB flush or eviction starts a new one
    u64 line_bias           # address of the code-line mark of host address p is line_bias + (p >> LINE_SHIFT)
    u32 eip
    u32 mode
    char* ram               # host address of physical 0
    char* mem               # what handlers get: ram, or the TLB of the current privilege when paging is on
    Uop* next               # return-per-block builds: the uop to go on with
    Segment seg[6]
    # system registers
    Segment ldtr
    Segment tr
    u32 gdt_base
    u32 gdt_limit
    u32 idt_base
    u32 idt_limit
    u32 cr0
    u32 cr2
    u32 cr3
    u32 cr4
    u32 efer
    u64 pdpte[4]            # PAE paging: the page-directory-pointer-table entry registers
    u64 reserved_pde        # bits that are 0 in present entries: update_reserved_bits()
    u64 reserved_large
    u64 reserved_pte
    u32 dr[8]
    u32 sysenter_cs
    u32 sysenter_esp
    u32 sysenter_eip
    u64 mtrr_variable[16]   # model-specific registers that are storage: msr.pxi
    u64 mtrr_fixed[11]
    u64 mtrr_default
    u64 pat
    u64 mcg_status
    u64 debugctl
    u64 misc_enable
    u64 performance_counter[2]
    u64 event_select[2]
    u64 tsc_offset          # guest TSC = modelled cycles + tsc_offset
    # state between instructions
    u32 cpl
    bint halted
    u32 singles             # run this many instructions one by one, unfused
    bint restartable        # a TLB miss that costs something ends the block: its instruction runs by itself then ...
    bint miss_due           # ... and that is what just happened
    u64 shadow_unit         # STI, MOV SS and POP SS hold interrupts off at the boundary with this unit number
    u64 stack_shadow_unit   # MOV SS and POP SS hold debug exceptions off there too
    u64 resume_unit         # EFLAGS.RF is set at the boundary with this unit number
    u32 debug_traps         # bits of DR6: a #DB is due at the next boundary
    bint watching           # DR7 enables a breakpoint
    bint in_new_task        # the noted fault is that of a task just switched to, in its own context
    bint irq                # an external interrupt is waiting: irq_vector
    u32 irq_vector
    u32 exit                # ExitReason
    u32 exit_vector
    Event event             # EXIT_HYPERVISOR: what for
    u32 until
    bint until_set
    # a fault being raised: set by the memory and segment functions, delivered by raise_fault()
    u32 fault_vector
    u32 fault_error
    # the first fault of a shutdown, for the error message
    bint shutdown
    u32 shutdown_vector
    u32 shutdown_error
    u32 shutdown_eip
    u32 shutdown_cs
    # x87 and MMX (SDM 1:8.1), SSE (SDM 1:10.2)
    Float80 fpu[8]          # R0-R7; MM0-MM7 are their significands
    u16 fpu_control
    u16 fpu_status          # with TOP
    u8 fpu_empty            # bit n: Rn is empty
    # operands on their way to or from memory: a handler with a local whose address others have could not end in a tail
    # call
    Float80 fpu_operand
    u32 fpu_image[128]      # of FXSAVE, FNSAVE, FNSTENV
    Vector vector_result
    Vector vector_source
    u16 fpu_opcode          # of the last instruction with an unmasked exception, 11 bits
    u16 fpu_cs              # the last instruction that was no control instruction ...
    u32 fpu_eip
    u16 fpu_ds              # ... and its operand
    u32 fpu_data
    u32 mxcsr               # while mxcsr_loaded, the host has it: sync_mxcsr()
    u32 host_mxcsr          # the host's own, meanwhile
    bint mxcsr_loaded       # for the rest of the run
    bint mxcsr_guarded      # for this instruction, with all exceptions masked
    Vector xmm[8]
    # counters; during a slice the running part is in `left`
    u64 instructions
    u64 cycles
    u64 iterations          # of REP instructions
    u64 exits
    u64 faults
    u64 interrupts
    u64 slice_left          # `left` when the slice began
    u64 slice_end           # budget units since power-on when the slice's instructions are used up
    u64 units               # budget units since power-on: instructions, and iterations of REP beyond the first
    u64 surplus             # units that retired no instruction: iterations, events, waits
    u64 budget_end          # stop when `units` gets here
    u64 deadline            # poll the devices when `cycles` gets here
    u64 poll_end            # give the host a look when `units` gets here
    # I/O exits
    Io io
    Io replay[IO_REPLAYS]
    bint delivering         # an external interrupt or a debug trap, whose stack belongs to a device
    u32 replays             # filled by the host
    u32 replayed            # used by the instruction so far
    # memory map
    Region regions[MAX_REGIONS]
    u32 region_count
    u8 intercepted[256]     # software interrupts that exit to the host
    # caches
    TlbEntry tlb[2][TLB_ENTRIES]        # [0] supervisor, [1] user
    FetchEntry fetch[2][TLB_ENTRIES]
    u8 tlb_global[2][TLB_ENTRIES]       # the entry is of a global page: kept when CR3 is loaded
    u8 fetch_global[2][TLB_ENTRIES]
    u64 large_cached        # bit n: pieces of a large page, at linear addresses with n in bits 27:22, may be in the TLB
    JumpCacheEntry jump_cache[JUMP_CACHE]
    u32 code_base           # CS as of the current mapping generation: EIPs in links mean linear addresses
    u32 code_limit
    Block* hash[HASH_ENTRIES]
    Block* lines[LINE_LISTS]
    Block* linears[LINE_LISTS]
    char* arena             # of blocks
    u64 arena_used
    u64 flushes
    CrossLink* open_cross
    Link* open_link         # the link slot to fill once the target has been found
    bint open_link_taken
    # hypervisor
    void* hypervisor        # the first argument of interrupt_hook
    InterruptHook interrupt_hook        # NULL: as on bare hardware
    u64* descriptors        # a GDT that a hypervisor keeps where no guest can write, or NULL: it is at gdt_base
    u32 descriptor_count
    # modelled cycles per cost class, from processor/
    u16 cost[256]
    # CPUID
    u32 cpuid[CPUID_LEAVES][4]
    u32 cpuid_leaves
    u32 cpuid_extended[CPUID_LEAVES][4]        # from leaf 80000000 on
    u32 cpuid_extended_leaves
    u32 cpuid_hypervisor[CPUID_HYPERVISOR_LEAVES][4]      # from leaf 40000000 on
    u32 cpuid_hypervisor_leaves
    Predictor predictor     # of a processor model
    u64 features            # FEATURE_*: what the processor executes, whatever CPUID shows a guest
