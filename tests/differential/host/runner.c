/* The host processor as a runner of cases: 32-bit code in LDT segments, every case ended by a signal.
 *
 * Enters: stdin, shared memory with a `struct job`; a byte on stdout, a socket, starts a batch. Leaves: the states in
 * the same memory, then a byte on the socket. Next: host.py, which builds and drives this (gcc -m32 -nostdlib: no
 * 32-bit libc).
 *
 * Segments of the LDT have a base, so that a case sees the addresses it has in the other runners, 0x3000 too. A case is
 * entered by FXRSTOR, POPF and a far jump; its end is an INT3 behind it. The fault that ends it, and that INT3, are
 * signals, and the kernel's signal frame holds all of the state.
 *
 * Design: signals rather than ptrace (docs/decisions/0007-host-runner.md). The frame has the vector, the error code and CR2, which ptrace keeps to itself
 * (#GP, #OF and #BR are all SIGSEGV), and a case costs one signal rather than two process switches and six calls.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { SYS_EXIT = 1, SYS_READ = 3, SYS_WRITE = 4, SYS_SETITIMER = 104, SYS_MODIFY_LDT = 123, SYS_RT_SIGACTION = 174,
       SYS_SIGALTSTACK = 186, SYS_MMAP2 = 192 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGVTALRM = 26, SIGSYS = 31 };
enum { SA_SIGINFO = 4, SA_ONSTACK = 0x08000000, SA_RESTORER = 0x04000000, SA_NODEFER = 0x40000000 };
enum { ITIMER_VIRTUAL = 1, TICK_MICROSECONDS = 20000 };
enum { PROT_RW = 3, PROT_RWX = 7, MAP_SHARED = 1, MAP_PRIVATE_FIXED_ANONYMOUS = 0x32 };
enum { MEMORY = 0, SOCKET = 1, CASES = 64, SEGMENTS = 16 };
enum { WINDOW = 0x3000, WINDOW_BYTES = 0x6000, CODE_BYTES = 0x400, FXSAVE_BYTES = 512 };

/* --- What Python writes and reads (host.py has the same layout) --------------------------------------------------- */

struct user_desc {                      /* modify_ldt(2) */
    u32 entry, base, limit, flags;
};

struct state {                          /* of a case: its start, then its end */
    u32 gpr[8];                         /* EAX ECX EDX EBX ESP EBP ESI EDI */
    u32 eip, eflags;
    u32 sreg[6];                        /* ES CS SS DS FS GS */
    u32 signal, vector, error, cr2;     /* written only */
    u32 address, size;                  /* where `code` goes, relative to `base` */
    u8 fxsave[FXSAVE_BYTES] __attribute__((aligned(16)));
    u8 code[CODE_BYTES];
    u8 window[WINDOW_BYTES];
};

struct job {
    u32 base, arena_bytes, cases, segments;
    struct user_desc segment[SEGMENTS];
    struct state state[CASES];
};

/* --- What the kernel writes --------------------------------------------------------------------------------------- */

struct ucontext {                       /* asm/sigcontext.h, of 32-bit programs */
    u32 flags, link, stack[3];
    u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, vector, error, eip, cs, eflags, esp_at_signal, ss;
    u8 *fpstate;
    u32 oldmask, cr2;
};
enum { FXSAVE_IN_FPSTATE = 112 };       /* behind an FSAVE image */

struct sigaction32 {
    void (*handler)(void);
    u32 flags;
    void (*restorer)(void);
    u32 mask[2];
};

static int call(int number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
    u32 arguments[] = {a, b, c, d, e, f}, *pointer = arguments;
    int result;
    __asm__ volatile("push %%ebp; push %%ebx\n"
                     "mov 0(%%esi), %%ebx; mov 4(%%esi), %%ecx; mov 8(%%esi), %%edx\n"
                     "mov 16(%%esi), %%edi; mov 20(%%esi), %%ebp; mov 12(%%esi), %%esi\n"
                     "int $0x80; pop %%ebx; pop %%ebp"
                     : "=a"(result), "+S"(pointer) : "0"(number) : "ecx", "edx", "edi", "memory");
    return result;
}

static void copy(void *to, const void *from, u32 bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* --- One case ----------------------------------------------------------------------------------------------------- */

static struct job *job;
static struct state *running;           /* 0: no case is */
static struct state *ticked;            /* the one that ran at the last tick */
static u8 signal_stack[0x20000] __attribute__((aligned(64)));

extern void enter(struct state *state); /* returns when a signal has ended the case */
extern void on_signal(void), restorer(void);

__asm__(
    ".data\n"
    "host_esp: .long 0\n"
    "entry: .long 0; .word 0\n"
    "stack: .long 0; .word 0\n"
    ".text\n"
    "enter:\n"
    "    push %ebp; push %ebx; push %esi; push %edi; push %es; push %ds; push %fs; push %gs\n"
    "    mov %esp, host_esp\n"
    "    mov 36(%esp), %ebp\n"                  /* struct state: gpr 0, eip 32, eflags 36, sreg 40, fxsave 96 */
    "    mov 32(%ebp), %eax; mov %eax, entry; mov 44(%ebp), %eax; mov %ax, entry+4\n"
    "    mov 16(%ebp), %eax; mov %eax, stack; mov 48(%ebp), %eax; mov %ax, stack+4\n"
    "    fxrstor 96(%ebp)\n"
    "    mov 40(%ebp), %es; mov 56(%ebp), %fs; mov 60(%ebp), %gs\n"
    "    pushl 36(%ebp); pushl 52(%ebp); pushl 20(%ebp)\n"
    "    mov 0(%ebp), %eax; mov 4(%ebp), %ecx; mov 8(%ebp), %edx; mov 12(%ebp), %ebx\n"
    "    mov 24(%ebp), %esi; mov 28(%ebp), %edi\n"
    "    pop %ebp; pop %ds; popf\n"
    "    lss %cs:stack, %esp\n"
    "    ljmp *%cs:entry\n"
    "leave:\n"
    "    mov host_esp, %esp\n"
    "    pop %gs; pop %fs; pop %ds; pop %es; pop %edi; pop %esi; pop %ebx; pop %ebp\n"
    "    ret\n"
    /* The handler inherits NT, ID and AC of the case; with AC, the compiler's code would fault. */
    "on_signal:\n"
    "    pushf; pushl $2; popf\n"
    "    pushl 16(%esp); pushl 12(%esp); call ended; add $8, %esp\n"
    "    test %eax, %eax; jnz leave\n"
    "    popf; ret\n"
    "restorer:\n"
    "    mov $173, %eax; int $0x80\n");         /* rt_sigreturn */

/* Called with a signal: note the state of the case and say that it has ended; or False, and let it go on. */
__attribute__((used)) static int ended(int signal, struct ucontext *context)
{
    struct state *state = running;
    if (signal == SIGVTALRM) {
        int hangs = state && ticked == state && (context->cs & 4);      /* in the LDT's code, a whole tick long */
        ticked = state;
        if (!hangs)
            return 0;
    }
    if (!state || !(context->cs & 4))
        call(SYS_EXIT, 100 + signal, 0, 0, 0, 0, 0);                    /* a fault of this program */
    u32 gpr[] = {context->eax, context->ecx, context->edx, context->ebx, context->esp, context->ebp, context->esi,
                 context->edi};
    u32 sreg[] = {context->es, context->cs, context->ss, context->ds, context->fs, context->gs};
    copy(state->gpr, gpr, sizeof gpr);
    for (int i = 0; i < 6; i++)
        state->sreg[i] = sreg[i] & 0xFFFF;
    state->eip = context->eip;
    state->eflags = context->eflags;
    state->signal = signal;
    state->vector = context->vector;
    state->error = context->error;
    state->cr2 = context->cr2;
    copy(state->fxsave, context->fpstate + FXSAVE_IN_FPSTATE, FXSAVE_BYTES);
    return 1;
}

static void run(struct state *state)
{
    u8 *arena = (u8 *)job->base;
    copy(arena + WINDOW, state->window, WINDOW_BYTES);
    copy(arena + state->address, state->code, state->size);
    arena[state->address + state->size] = 0xCC;                         /* INT3: the end */
    running = state;
    enter(state);
    running = ticked = 0;
    copy(state->window, arena + WINDOW, WINDOW_BYTES);
}

/* --- Batches ------------------------------------------------------------------------------------------------------ */

static void check(int result, int status)
{
    if (result < 0 && result > -4096)
        call(SYS_EXIT, status, 0, 0, 0, 0, 0);
}

static void serve(void)
{
    static const u8 signals[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGVTALRM, SIGSYS};
    struct sigaction32 action = {on_signal, SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_NODEFER, restorer, {0, 0}};
    u32 alternate[] = {(u32)signal_stack, 0, sizeof signal_stack};
    u32 timer[] = {0, TICK_MICROSECONDS, 0, TICK_MICROSECONDS};
    u8 byte;

    job = (struct job *)call(SYS_MMAP2, 0, sizeof *job, PROT_RW, MAP_SHARED, MEMORY, 0);
    check((int)job, 2);
    /* Private zero pages: cases see nothing of one another but what they left in the arena. */
    check(call(SYS_MMAP2, job->base, job->arena_bytes, PROT_RWX, MAP_PRIVATE_FIXED_ANONYMOUS, (u32)-1, 0), 3);
    for (u32 i = 0; i < job->segments; i++)
        check(call(SYS_MODIFY_LDT, 0x11, (u32)&job->segment[i], sizeof job->segment[i], 0, 0, 0), 4);
    check(call(SYS_SIGALTSTACK, (u32)alternate, 0, 0, 0, 0, 0), 5);
    for (u32 i = 0; i < sizeof signals; i++)
        check(call(SYS_RT_SIGACTION, signals[i], (u32)&action, 0, sizeof action.mask, 0, 0), 6);
    check(call(SYS_SETITIMER, ITIMER_VIRTUAL, (u32)timer, 0, 0, 0, 0), 7);
    while (call(SYS_READ, SOCKET, (u32)&byte, 1, 0, 0, 0) == 1) {
        for (u32 i = 0; i < job->cases; i++)
            run(&job->state[i]);
        check(call(SYS_WRITE, SOCKET, (u32)&byte, 1, 0, 0, 0), 8);
    }
    call(SYS_EXIT, 0, 0, 0, 0, 0, 0);
}

void _start(void)
{
    __asm__ volatile("and $-16, %%esp; call *%0" : : "r"(serve) : "memory");
}
