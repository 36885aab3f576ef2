/* What the core needs from the C compiler and the host: branch hints, inlining control, and the guest memory arena.
 *
 * Enters: compiler and operating system. Leaves: macros and two functions used by types.pxd. Next: types.pxd.
 */
#ifndef PVFAST_HOST_H
#define PVFAST_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* setup.py compiles a probe and defines PVFAST_TAIL_CALLS to 0 or 1 (see docs/decisions/0001-dispatch.md). */
#ifndef PVFAST_TAIL_CALLS
#define PVFAST_TAIL_CALLS 0
#endif

#ifndef PVFAST_CHECKED
#define PVFAST_CHECKED 0
#endif

#if PVFAST_CHECKED
#include <assert.h>
#define PVFAST_ASSERT(condition) assert(condition)
#else
#define PVFAST_ASSERT(condition) ((void)0)
#endif

/* pvfast_lowest_bit, pvfast_highest_bit: numbers of bits that are set; the word is not 0. */
#if defined(__GNUC__) || defined(__clang__)
#define PVFAST_RARE(condition) __builtin_expect(!!(condition), 0)
static inline uint32_t pvfast_lowest_bit(uint32_t word) { return (uint32_t)__builtin_ctz(word); }
static inline uint32_t pvfast_highest_bit(uint32_t word) { return 31 - (uint32_t)__builtin_clz(word); }
#else
#define PVFAST_RARE(condition) (condition)
static inline uint32_t pvfast_lowest_bit(uint32_t word) { uint32_t n = 0; while (!(word >> n & 1)) n++; return n; }
static inline uint32_t pvfast_highest_bit(uint32_t word) { uint32_t n = 31; while (!(word >> n)) n--; return n; }
#endif

/* A load that stays as wide as the store before it, so that the host can forward or rename it. */
static inline uint32_t pvfast_whole_word(const uint32_t *word) { return *(const volatile uint32_t *)word; }

#if defined(_WIN32)
#include <windows.h>
static void *pvfast_reserve(size_t size) { return VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_NOACCESS); }
static int pvfast_commit(void *start, size_t size)
{
    return VirtualAlloc(start, size, MEM_COMMIT, PAGE_READWRITE) != NULL;
}
static void pvfast_release(void *start, size_t size) { (void)size; VirtualFree(start, 0, MEM_RELEASE); }
#else
#include <sys/mman.h>
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
/* Address space without memory: nothing can be read or written until it is committed. NULL when refused. */
static void *pvfast_reserve(size_t size) {
    void *start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}
/* Zero-filled memory at a reserved place; pages appear when first touched. */
static int pvfast_commit(void *start, size_t size) { return mprotect(start, size, PROT_READ | PROT_WRITE) == 0; }
static void pvfast_release(void *start, size_t size) { munmap(start, size); }
#endif

#endif
