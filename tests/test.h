/* The test harness: a test is a function, TEST(name) runs it, CHECK and CLOSE record what fails.
   Each program prints one line a test and ends with "N passed, N failed"; the Makefile adds them up. */
#ifndef TEST_H
#define TEST_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_passed, test_failed, test_skipped, test_bad;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            test_bad++; \
            printf("    %s:%d: %s\n", __FILE__, __LINE__, #condition); \
        } \
    } while (0)

/* |a - b| <= tolerance * max(1, |b|); a NaN is never close. */
#define CLOSE(a, b, tolerance) test_close((double)(a), (double)(b), (double)(tolerance), #a, __FILE__, __LINE__)

#define CHECK_TEXT(text, part) test_text((text), (part), __FILE__, __LINE__)

static inline void test_close(double a, double b, double tolerance, const char *what, const char *file, int line)
{
    double scale = fabs(b) > 1 ? fabs(b) : 1;
    if (!(fabs(a - b) <= tolerance * scale)) {
        test_bad++;
        printf("    %s:%d: %s is %.9g, expected %.9g within %.2g\n", file, line, what, a, b, tolerance);
    }
}

/* The text holds the part: used to check what an error message says. */
static inline void test_text(const char *text, const char *part, const char *file, int line)
{
    if (!text || !strstr(text, part)) {
        test_bad++;
        printf("    %s:%d: \"%s\" does not say \"%s\"\n", file, line, text ? text : "(null)", part);
    }
}

static inline void test_run(const char *name, void (*test)(void))
{
    test_bad = 0;
    test();
    if (test_bad) test_failed++;
    else test_passed++;
    printf("%s %s\n", test_bad ? "FAIL" : "ok  ", name);
    fflush(stdout);
}

static inline void test_skip(const char *name, const char *why)
{
    test_skipped++;
    printf("skip %s: %s\n", name, why);
}

static inline int test_end(void)
{
    printf("%d passed, %d failed", test_passed, test_failed);
    if (test_skipped) printf(", %d skipped", test_skipped);
    printf("\n");
    return test_failed != 0;
}

#define TEST(function) test_run(#function, function)

/* Memory for a mde_context_desc: call number fail_at, from 1, gets none (0: all get it); held counts what is out, and
   base what the context took for itself. */
typedef struct test_heap { long long calls, fail_at, held, base; } test_heap;

static inline void *test_allocate(size_t bytes, void *user)
{
    test_heap *heap = (test_heap *)user;
    void *p = ++heap->calls == heap->fail_at ? NULL : malloc(bytes);
    heap->held += p != NULL;
    return p;
}

static inline void test_release(void *pointer, void *user)
{
    ((test_heap *)user)->held -= pointer != NULL;
    free(pointer);
}

#ifdef MDE_VERSION /* mdemix.h came before */
static test_heap *test_memory;      /* of the last context of a heap */

static inline mde_context *test_heap_context(test_heap *heap, long long fail_at)
{
    mde_context_desc desc;
    mde_context *c;
    memset(&desc, 0, sizeof desc);
    memset(heap, 0, sizeof *heap);
    heap->fail_at = fail_at;
    desc.allocate = test_allocate;
    desc.release = test_release;
    desc.user = heap;
    desc.threads = 1;
    c = mde_context_create(&desc);
    heap->base = heap->held;
    test_memory = heap;
    return c;
}

/* Blocks that were had from that context and not given back. */
static inline long long test_blocks(void)
{
    return test_memory->held - test_memory->base;
}

/* Runs the job with its first allocation failing, then the second, ..., from number `each` on every seventh, until it
   ends well; until then it must run out of memory, and it must always give everything back. Returns the number of
   runs. The first has no context: the job gets NULL. */
static inline int test_failing_allocations(void (*job)(mde_context *c, void *user), void *user, int each)
{
    long long fail_at;
    int runs;
    for (fail_at = 1, runs = 1; runs <= 20000; fail_at += fail_at < each ? 1 : 7, runs++) {
        test_heap heap;
        mde_context *c = test_heap_context(&heap, fail_at);
        mde_status status;
        CHECK((c == NULL) == (fail_at == 1));
        job(c, user);
        status = mde_context_status(c);
        CHECK(status == (heap.calls < fail_at ? MDE_OK : MDE_OUT_OF_MEMORY));
        if (c && status != MDE_OK) CHECK_TEXT(mde_error(c), "out of memory");
        mde_context_free(c);
        CHECK(heap.held == 0);
        if (status == MDE_OK) return runs;
    }
    CHECK(runs <= 20000);
    return 0;
}
#endif
#endif
