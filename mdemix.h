/* mdemix.h - mixtures of data experts: which mixture of training texts makes the best language model?

   One header, C99 or C++17, libc and libm, OpenMP if you like. In one source file of your program:

       #define MDEMIX_IMPLEMENTATION
       #include "mdemix.h"

   and plain #include "mdemix.h" in the others. Build with `cc -O2 file.c -lm`, or add -fopenmp for threads. The fast
   kernels need no further flags: they are compiled for several instruction sets and chosen at run time. Results are the
   same bits for every compiler, optimisation level, instruction set and number of threads.

   A whole program. Two experts have judged the same 64 tokens; which mixture of their training texts suits them best?

       #include <stdio.h>
       #define MDEMIX_IMPLEMENTATION
       #include "mdemix.h"

       int main(void)
       {
           const char *names[2] = { "stories", "manuals" };
           float stories[64], manuals[64];             // natural log of the probability of each token
           const float *logp[2] = { stories, manuals };
           mde_context *c = mde_context_create(NULL);
           mde_experts *experts = mde_experts_create(c, 2, names);
           mde_optimum best;
           for (int t = 0; t < 64; t++) {              // yours come from real models: mde_experts_open reads .npy files
               stories[t] = t % 3 ? -0.5f : -3.0f;
               manuals[t] = t % 3 ? -2.5f : -0.2f;
           }
           mde_experts_add(experts, "validation", 64, logp, NULL, 0);
           if (mde_mixture_minimize(experts, NULL, &best) != MDE_OK) printf("%s\n", mde_error(c));
           for (int i = 0; i < 2; i++) printf("%6.3f  %s\n", best.weights[i], names[i]);
           printf("loss %.4f nats a token, at most %.1e above the minimum\n", best.loss, best.gap);
           mde_context_free(c);
           return 0;
       }

   CONTENTS
     2. CONFIGURATION
     3. PUBLIC API
     4. PLATFORM
     5. FILES AND FORMATS
     6. RANDOM NUMBERS
     7. KERNELS
     8. TENSORS, TAPE AND OPS
     9. LAYERS AND TRAINING
    10. TEXT
    11. LANGUAGE MODEL
    12. SIMPLEX
    13. MIXTURES OF DATA EXPERTS
    14. DENSE LINEAR ALGEBRA AND SMOOTH MINIMISATION
    15. REGRESSORS
    16. EVALUATION AND SEARCH
    17. PICTURES
   A section uses only those above it; each opens with a banner of the same form, so a search for "   7. KERNELS" gets
   there.

   WHERE TO ADD
     An op of one element: its prototype (3.4), its name in MDE__PLAIN_FUNCTIONS (7), its formula MDE__K(NAME_of) among
       the kernels (7), its VJP mde__NAME_vjp (8). Any other op: shape, forward and VJP functions and a row mde__op_NAME
       in 8, its name in the list mde__ops, a prototype. Each has a case in tests/test_ops.c, or the suite fails.
     A kernel: an entry in MDE__KERNELS (7), its text MDE__K(NAME); callers take mde__kernel_NAME(simd).
     A regressor: its mathematics, struct, functions and row mde__NAME_kind (15), an mde_model (3.9), both in mde__kind;
       for its name in MDE_AUTO and on command lines, a row of mde__recipes.
     A file format: mde_NAME_parse from bytes in memory, and mde_NAME_read, which has them from mde_file_read, the one
       door to files (5); their prototypes (3.2); a case in tests/fuzz_files.c.

   PAPERS
     L. Belenki, A. Agarwal, T. Shi, K. Toutanova: Optimizing Pre-Training Data Mixtures with Mixtures of Data Expert
       Models. ACL 2025 (arXiv 2502.15950). The method.
     J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011. Philox.
     I. Loshchilov, F. Hutter: Decoupled Weight Decay Regularization. ICLR 2019. AdamW.
     C. Rasmussen, C. Williams: Gaussian Processes for Machine Learning. MIT Press 2006. Sections 2.2, 4.2, 5.4.
     E. Bonilla, K. Chai, C. Williams: Multi-task Gaussian Process Prediction. NIPS 2007. Coregionalisation.
     Y. Teh, M. Seeger, M. Jordan: Semiparametric Latent Factor Models. AISTATS 2005. Processes of their own.
     J. Ye et al.: Data Mixing Laws: Optimizing Data Mixtures by Predicting Language Modeling Performance. ICLR 2025.
     M. Shukor et al.: Scaling Laws for Optimal Data Mixtures. 2025 (arXiv 2507.09404). The law across sizes.
     J. Hoffmann et al.: Training Compute-Optimal Large Language Models. 2022. Its exponents' priors.
     J. Friedman: Greedy Function Approximation: A Gradient Boosting Machine. Annals of Statistics 2001.
     J. Su et al.: RoFormer. 2021. Rotary positions.

   LICENCE
     Public domain or MIT-0, as you choose; see the file LICENSE. */

#ifndef MDEMIX_H
#define MDEMIX_H

/* ======================================================================
   2. CONFIGURATION
   ====================================================================== */

/* Macros that a user may define before the include. None changes a type or a signature.
     MDEMIX_IMPLEMENTATION   in one translation unit: turns the code on
     MDEDEF                  linkage of every public function; default `extern`, `static` keeps the code private
     MDE_MALLOC, MDE_FREE    default allocator of contexts; define both or neither
     MDEMIX_FILE             this file's name in quotes, if you rename it; default "mdemix.h" (it includes itself, once
                             for each instruction set)
     MDE_NO_STDIO            leaves out every function that opens a file
     MDE_NO_SIMD             compiles the portable kernels only
     MDE_NO_FMA_EMULATION    on machines without fused multiply-add: faster, but no longer the same bits as elsewhere
     MDE_ALLOW_FAST_MATH     compiles under -ffast-math, which breaks the promise of same bits */

#if defined(MDEMIX_IMPLEMENTATION) && !defined(_WIN32) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64    /* files over 2 GB on machines of 32 bits, if no system header was included before */
#endif
#include <stddef.h>
#include <stdint.h>

#ifndef MDEDEF
#define MDEDEF extern
#else
#define MDE__OWN_LINKAGE        /* perhaps static: then a function that nobody calls is no mistake */
#endif
#if defined(__MINGW32__) && !defined(__clang__)
#define MDE__PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))   /* printf: that of old Windows */
#elif defined(__GNUC__)
#define MDE__PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define MDE__PRINTF(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================================================
   3. PUBLIC API
   ====================================================================== */

/* The version of this file, for people and for the preprocessor; then limits. */
#define MDE_VERSION "0.2.0"
#define MDE_VERSION_NUMBER 200      /* 10000 major + 100 minor + patch */
#define MDE_MAX_RANK 5      /* dimensions of a tensor */
#define MDE_MAX_INPUTS 6    /* inputs of an op */

/* ---- 3.1 Context and errors ------------------------------------------
   One context owns all that is made from it; mde_context_free frees the lot. Objects can be freed earlier with their
   own *_free; NULL is fine there. A context is used by one thread at a time; any number of contexts may live side by
   side. The first error sticks: later calls on that context do nothing and return NULL, a status or NaN, so a program
   may check once at its end. */

typedef struct mde_context mde_context;   /* what all else is made from */

/* What a call came to, and the kind of the first error, of which mde_error has the sentence. */
typedef enum mde_status {
    MDE_OK = 0,
    MDE_STOPPED,            /* a progress callback asked to stop; what was done so far is valid */
    MDE_OUT_OF_MEMORY,      /* or beyond max_bytes */
    MDE_BAD_ARGUMENT,
    MDE_BAD_SHAPE,          /* of a tensor */
    MDE_BAD_FILE,           /* a file was read, but what it holds is wrong */
    MDE_IO,                 /* a file could not be opened, read or written */
    MDE_NOT_FINITE,         /* a NaN or an infinity where a number was needed */
    MDE_NOT_DIFFERENTIABLE  /* an op without a derivative */
} mde_status;

/* Instruction sets of the kernels. The results do not depend on it. */
enum { MDE_SIMD_BEST = 0, MDE_SIMD_PORTABLE = 1, MDE_SIMD_AVX2 = 2, MDE_SIMD_AVX512 = 3 };

typedef struct mde_context_desc {
    void *(*allocate)(size_t bytes, void *user);   /* NULL: MDE_MALLOC */
    void (*release)(void *pointer, void *user);    /* NULL: MDE_FREE; give both or neither */
    void *user;
    size_t max_bytes;                              /* limit on the memory held at one time; 0: none */
    int threads;                                   /* 0: as many as OpenMP offers; 1 without OpenMP */
    int simd;                                      /* one of MDE_SIMD_*; an instruction set the CPU lacks is an error */
} mde_context_desc;

/* NULL desc: defaults. Returns NULL only when not even the context fits into memory. */
MDEDEF mde_context *mde_context_create(const mde_context_desc *desc);
MDEDEF void mde_context_free(mde_context *c);
MDEDEF mde_status mde_context_status(const mde_context *c);   /* of the first error; MDE_OUT_OF_MEMORY for NULL */
MDEDEF const char *mde_status_name(mde_status status);        /* "MDE_OK", ..; "unknown status" for other numbers */
MDEDEF const char *mde_error(const mde_context *c);           /* one sentence, "" without error; lives as long as c */
MDEDEF void mde_clear_error(mde_context *c);   /* calls work again */
/* Records an error as the library does (for ops and programs of your own), with a format as printf's; the first one
   sticks. Returns status. */
MDE__PRINTF(3, 4)
MDEDEF mde_status mde_fail(mde_context *c, mde_status status, const char *format, ...);
/* count * size zero bytes, aligned to 64; the context owns them until mde_release. NULL and an error without memory. */
MDEDEF void *mde_alloc(mde_context *c, size_t count, size_t size);
MDEDEF void mde_release(mde_context *c, void *block);         /* what mde_alloc or the library handed out, or NULL */
MDEDEF size_t mde_held_bytes(const mde_context *c);           /* memory held now, the arena's chunks included */
MDEDEF size_t mde_peak_bytes(const mde_context *c);           /* most memory held at one time so far */
MDEDEF const char *mde_version(void);                         /* MDE_VERSION of the code that runs */
MDEDEF int mde_threads(const mde_context *c);   /* that loops may use */
MDEDEF const char *mde_simd_name(const mde_context *c);       /* "portable", "avx2" or "avx512" */

/* NULL when this build keeps the promise of same bits; else a sentence that names what the compiler was told to do
   otherwise. */
MDEDEF const char *mde_other_bits(const mde_context *c);

MDEDEF double mde_seconds(void);        /* on a clock that does not go back */
/* FNV-1a, 64 bits: tells files and settings apart, not against malice. */
MDEDEF uint64_t mde_fingerprint(const void *bytes, size_t size);

/* Calls fn(index, user) for index 0 .. count-1, spread over the context's threads; fn must not allocate. */
typedef void mde_parallel_fn(int64_t index, void *user);
MDEDEF void mde_parallel_for(mde_context *c, int64_t count, mde_parallel_fn *fn, void *user);

/* ---- 3.2 Files --------------------------------------------------------
   Readers check every size before they allocate. Writers write a hidden temporary file beside the target and rename it,
   so a file is there whole or not at all; links are followed, modes kept, devices and pipes written to. */

/* Text that grows: the base of every text file written here. Numbers print free of locale. */
typedef struct mde_text { mde_context *context; char *bytes; size_t length, capacity; } mde_text;
MDEDEF mde_text *mde_text_create(mde_context *c);
MDEDEF void mde_text_free(mde_text *t);
MDEDEF void mde_text_add(mde_text *t, const char *string);
MDEDEF void mde_text_add_number(mde_text *t, double value, int digits);    /* significant digits; nan prints as nan */
MDEDEF void mde_text_add_fixed(mde_text *t, double value, int decimals);   /* digits after the point */
/* printf's %s %c %d %lld %llu %llx %zu %g %f %%, with width and precision; free of locale. */
MDEDEF void mde_text_format(mde_text *t, const char *format, ...);
MDEDEF void mde_text_add_json(mde_text *t, const char *string);            /* quoted and escaped */
MDEDEF void mde_text_add_html(mde_text *t, const char *string);            /* & < > " escaped */
MDEDEF void mde_text_add_csv(mde_text *t, const char *string);             /* a cell, quoted where it must be */
/* As mde_text_format, for a page: what a %s without width stands for is escaped as by mde_text_add_html. */
MDEDEF void mde_text_format_html(mde_text *t, const char *format, ...);

/* JSON: a parsed document is a tree of values. Duplicate keys are an error. */
#define MDE_JSON_DEPTH 64                   /* nesting, read and written */
typedef enum mde_json_kind { MDE_JSON_NULL, MDE_JSON_BOOL, MDE_JSON_NUMBER, MDE_JSON_STRING, MDE_JSON_ARRAY,
                             MDE_JSON_OBJECT } mde_json_kind;
typedef struct mde_json {
    mde_json_kind kind;
    double number;                          /* of a number; 0 or 1 of a bool */
    const char *string;                     /* of a string, UTF-8, 0-terminated */
    size_t length;                          /* of a string in bytes; of an array or object in members */
    const char *key;                        /* in an object */
    struct mde_json *child, *next;          /* first member; next sibling */
} mde_json;
/* name appears in errors, with line and column. The tree is one block; free the root. */
MDEDEF mde_json *mde_json_parse(mde_context *c, const char *name, const char *text, size_t length);
MDEDEF void mde_json_free(mde_context *c, mde_json *root);
MDEDEF const mde_json *mde_json_get(const mde_json *object, const char *key);      /* NULL when absent */
MDEDEF double mde_json_number(const mde_json *object, const char *key, double absent);   /* of a number or bool */
MDEDEF const char *mde_json_string(const mde_json *object, const char *key, const char *absent);

/* Writes one JSON document into a text; commas, brackets, quotes and line breaks are its business. Of what is opened
   inside each other, the outermost `lines` levels have each member on a line of its own; MDE_JSON_COMPACT leaves out
   all space. A key where none belongs, or none where one does, is an error; so is a document left open:
       mde_json_writer w = mde_json_start(t, 1);
       mde_json_open(&w, NULL, '{');
       mde_json_write_string(&w, "name", "web");
       mde_json_write_numbers(&w, "weights", 3, weights, 9);
       mde_json_close(&w);
       mde_json_end(&w); */
#define MDE_JSON_COMPACT (-1)
typedef struct mde_json_writer {
    mde_text *text;
    int lines, depth;
    char open[MDE_JSON_DEPTH];              /* the closing bracket of each level */
    char any[MDE_JSON_DEPTH + 1];           /* whether it has members already */
} mde_json_writer;
MDEDEF mde_json_writer mde_json_start(mde_text *t, int lines);
/* In the following, key is the member's name in an object and NULL elsewhere. */
MDEDEF void mde_json_open(mde_json_writer *w, const char *key, char bracket);       /* '{' or '[' */
MDEDEF void mde_json_close(mde_json_writer *w);                                     /* the innermost level */
MDEDEF void mde_json_write_string(mde_json_writer *w, const char *key, const char *string);    /* NULL: null */
MDEDEF void mde_json_write_int(mde_json_writer *w, const char *key, int64_t value);
/* Significant digits as in mde_text_add_number; what is not finite, which JSON has no number for, is null. */
MDEDEF void mde_json_write_number(mde_json_writer *w, const char *key, double value, int digits);
MDEDEF void mde_json_write_numbers(mde_json_writer *w, const char *key, size_t count, const double *values,
                                   int digits);
MDEDEF void mde_json_write_raw(mde_json_writer *w, const char *key, const char *json);  /* a value ready as JSON */
MDEDEF mde_status mde_json_end(mde_json_writer *w);                                 /* ends the last line */

/* Comma-separated values with one header line; semicolons or tabs part the cells where the header has more of them.
   Quotes, CRLF, a byte-order mark and a missing last newline are fine, blanks around a cell do not count; a row with
   another number of cells than the header, or what is no UTF-8, is an error that names file and line. */
typedef struct mde_csv {
    mde_context *context;
    const char *path;
    char separator;
    int rows, columns;
    const char **names;                     /* [columns]; the first one may be empty, as of an index of pandas */
    const char **cells;                     /* [rows * columns] */
    const int *lines;                       /* [rows] line of the file, for messages */
} mde_csv;
MDEDEF mde_csv *mde_csv_parse(mde_context *c, const char *name, const char *text, size_t length);
MDEDEF void mde_csv_free(mde_csv *csv);
MDEDEF int mde_csv_column(const mde_csv *csv, const char *name);                    /* -1 when absent */
/* The cell as a number, between semicolons also with a decimal comma; empty and "nan" are NaN; other text records an
   error with file, line and column, gives NaN. */
MDEDEF double mde_csv_number(const mde_csv *csv, int row, int column);

/* NumPy arrays, format versions 1 to 3: f2, f4, f8, integers of 1 to 8 bytes and bool, either byte order; Fortran
   order is transposed; objects and strings are refused. Written little-endian, version 1, C order. */
typedef struct mde_array { int rank; int64_t shape[MDE_MAX_RANK]; size_t count; float *f32; double *f64; } mde_array;
MDEDEF mde_array *mde_npy_parse(mde_context *c, const char *name, const void *bytes, size_t size, int as_double);
MDEDEF void mde_array_free(mde_context *c, mde_array *a);

/* safetensors: named float tensors and a map of strings. F32, F16 and BF16 are read (as float32), F32 is written.
   Tensors of other types or of more dimensions are passed over. */
typedef struct mde_safetensor { const char *name; int rank; int64_t shape[MDE_MAX_RANK]; size_t count;
                                const float *data; } mde_safetensor;
typedef struct mde_safetensors {
    int count;
    mde_safetensor *tensors;
    int pairs;                              /* of __metadata__ */
    const char **metadata;                  /* [2 * pairs] key, value, key, value, ... */
    int others;                             /* tensors that were passed over */
    const char **other;                     /* [2 * others] name, type, name, type, ... */
} mde_safetensors;
MDEDEF mde_safetensors *mde_safetensors_parse(mde_context *c, const char *name, const void *bytes, size_t size);
MDEDEF void mde_safetensors_free(mde_context *c, mde_safetensors *file);
MDEDEF const mde_safetensor *mde_safetensors_find(const mde_safetensors *file, const char *name); /* NULL when absent */
MDEDEF const char *mde_safetensors_metadata(const mde_safetensors *file, const char *key);   /* NULL when absent */

#ifndef MDE_NO_STDIO
/* The same from files and to files. shape [rank], data in C order. */
MDEDEF mde_status mde_text_write(mde_text *t, const char *path);
MDEDEF mde_json *mde_json_read(mde_context *c, const char *path);
MDEDEF mde_csv *mde_csv_read(mde_context *c, const char *path);
MDEDEF mde_array *mde_npy_read(mde_context *c, const char *path, int as_double);
MDEDEF mde_status mde_npy_write(mde_context *c, const char *path, int rank, const int64_t *shape, const float *data);
MDEDEF mde_status mde_npy_write_f64(mde_context *c, const char *path, int rank, const int64_t *shape,
                                    const double *data);
/* A file, or several by the list of them that ends with .index.json: each tensor from the file that the list names. */
MDEDEF mde_safetensors *mde_safetensors_read(mde_context *c, const char *path);
MDEDEF mde_status mde_safetensors_write(mde_context *c, const char *path, int count, const mde_safetensor *tensors,
                                        int pairs, const char *const *metadata);
MDEDEF mde_status mde_make_folder(mde_context *c, const char *path);               /* with its parents; fine if there */
/* The whole file and a zero byte behind it, freed with mde_release; one larger than limit bytes is an error. */
MDEDEF unsigned char *mde_file_read(mde_context *c, const char *path, size_t limit, size_t *size);
/* The bytes of a file, and their fingerprint as by mde_fingerprint; the file, of any size, is read in blocks. */
MDEDEF mde_status mde_file_fingerprint(mde_context *c, const char *path, uint64_t *size, uint64_t *fingerprint);
MDEDEF mde_status mde_file_write(mde_context *c, const char *path, const void *bytes, size_t size);
/* An error when that would fail now: no folder, no right, a full disk, which must have 64 KB left. Changes nothing. */
MDEDEF mde_status mde_file_try(mde_context *c, const char *path);
MDEDEF int mde_is_file(const char *path);
MDEDEF int mde_is_folder(const char *path);
/* Where the last part of a path begins, and its bytes, without separators behind it. */
MDEDEF const char *mde_path_name(const char *path, size_t *length);
/* Names in a folder in byte order, hidden ones left out. */
typedef struct mde_names { char **items; int count; } mde_names;
MDEDEF mde_status mde_folder_list(mde_context *c, const char *path, mde_names *names);
MDEDEF void mde_names_free(mde_context *c, mde_names *names);
#endif

/* ---- 3.3 Random numbers ------------------------------------------------
   Counter-based (Philox4x32-10, Salmon et al. 2011): the i-th number of a stream depends on seed, stream and i
   alone. */

typedef struct mde_random { uint64_t seed, stream, position; } mde_random;   /* a place in a stream */
MDEDEF mde_random mde_random_start(uint64_t seed, uint64_t stream);   /* at its first number */
MDEDEF uint64_t mde_random_bits(mde_random *r);                       /* 64 random bits */
MDEDEF double mde_random_uniform(mde_random *r);                      /* in [0, 1) */
MDEDEF double mde_random_normal(mde_random *r);                       /* mean 0, variance 1 */
MDEDEF double mde_random_gamma(mde_random *r, double shape);          /* scale 1; Marsaglia & Tsang 2000 */
MDEDEF uint64_t mde_random_below(mde_random *r, uint64_t n);          /* 0 .. n-1, unbiased */
MDEDEF void mde_random_dirichlet(mde_random *r, int n, const double *alpha, double *weights);   /* [n], sum 1 */
MDEDEF void mde_random_permutation(mde_random *r, int64_t n, int64_t *permutation);   /* of 0 .. n-1 */
/* The first `count` of 0 .. n-1 in random order, at the front of urn [n]. */
MDEDEF void mde_random_draw(mde_random *r, int n, int count, int *urn);
/* A mixture to make a proxy run at: Dirichlet with a total strength between 1 and 30, log-uniform, so that some lean
   far to a few domains and some are nearly even. */
MDEDEF void mde_random_mixture(mde_random *r, int n, double *weights);

/* ---- 3.4 Tensors and differentiation -----------------------------------
   Contiguous row-major float32. Calling an op runs it at once and, if an input wants a gradient, appends a node to the
   context's tape. Tensors made by ops live in the context's arena until mde_arena_rewind; parameters live with their
   mde_params. A scalar has shape [1]. */

typedef struct mde_tensor {
    float *data;
    float *grad;                            /* parameters: mde_backward adds into it; otherwise NULL */
    size_t count;
    int64_t shape[MDE_MAX_RANK];
    int rank;
    int requires_grad;                      /* set it on a leaf to have derivatives with respect to it */
    mde_context *context;                   /* that it belongs to: others refuse it; NULL: any may use it */
    struct mde_node *node;                  /* the op that made it; NULL for a leaf */
    struct mde_tensor *adjoint;             /* used while a backward walk runs */
} mde_tensor;

typedef struct mde_mark { void *chunk; size_t used; int64_t nodes; } mde_mark;   /* how far arena and tape are */
MDEDEF mde_mark mde_arena_mark(mde_context *c);   /* of now */
MDEDEF void mde_arena_rewind(mde_context *c, mde_mark mark);          /* frees all tensors made since the mark, O(1) */
MDEDEF int mde_set_recording(mde_context *c, int on);               /* 0: no tape (inference); returns the old value */

MDEDEF mde_tensor *mde_tensor_create(mde_context *c, int rank, const int64_t *shape);                 /* zeros */
MDEDEF mde_tensor *mde_tensor_from(mde_context *c, int rank, const int64_t *shape, const float *data); /* a copy */
MDEDEF mde_tensor *mde_scalar(mde_context *c, double value);   /* shape [1] */
MDEDEF double mde_item(const mde_tensor *t);                          /* the number in a scalar; NaN for NULL */
/* Index of the largest number in a row of the last axis; of equal ones the first, of a NaN where there is one. */
MDEDEF int32_t mde_argmax(const mde_tensor *t, int64_t row);
/* The same data without what made them: a constant for derivatives. */
MDEDEF mde_tensor *mde_detach(mde_context *c, mde_tensor *x);

/* Arguments of an op that are not tensors. p must live as long as the tape node (arena or longer). */
typedef struct mde_args { int64_t i[8]; double f[2]; const void *p; } mde_args;

/* One op is one row. To add an op, define a constant row and call mde_apply with it.
     shape     checks the inputs and sets rank and shape of out, nothing else; on bad shapes calls mde_fail and
               returns 0. mde_apply sets out->count and has room for the data, unless shape set out->data to an input's,
               of which out is a view then: forward is not called
     forward   fills out->data
     vjp       vector-Jacobian product, made of ops, so that it can be differentiated again: sets din[k] for each k
               with (want >> k) & 1 to the gradient with respect to in[k] given g, the gradient with respect to out.
               A din[k] left NULL means zero. A NULL function means that the op has no derivative (an error).
     vjp_fast  the same by fused kernels, for the first order only; NULL: vjp serves. May use saved.
   `saved` is scratch of the forward pass for vjp_fast (statistics of a norm): forward allocates it and sets it. */
typedef struct mde_op mde_op;
typedef struct mde_node {
    const mde_op *op;
    mde_tensor *in[MDE_MAX_INPUTS];
    mde_tensor *out;
    mde_args args;
    float *saved;
    int64_t index;                          /* place on the tape */
} mde_node;
struct mde_op {
    const char *name;
    int inputs;
    int (*shape)(mde_context *c, mde_tensor *const *in, const mde_args *args, mde_tensor *out);
    void (*forward)(mde_context *c, mde_node *node);
    void (*vjp)(mde_context *c, const mde_node *node, mde_tensor *g, unsigned want, mde_tensor **din);
    void (*vjp_fast)(mde_context *c, const mde_node *node, mde_tensor *g, unsigned want, mde_tensor **din);
};
/* in: op->inputs tensors. args NULL: all zeros, as for ops that take none; else it is copied. */
MDEDEF mde_tensor *mde_apply(mde_context *c, const mde_op *op, mde_tensor *const *in, const mde_args *args);
MDEDEF void *mde_scratch(mde_context *c, size_t count, size_t size);  /* arena memory for kernels; NULL and an error */
/* For kernels of your own: out [m, n] (+)= op(A) op(B). Every element is one chain of fused multiply-adds in order of
   k. */
typedef struct mde_product {
    int64_t m, n, k;
    int transpose_a, transpose_b;   /* 1: A is stored as [k, m], B as [n, k] */
    int accumulate;                 /* 1: the chains continue from what out holds */
    const float *a, *b;
    float *out;                     /* must not overlap a or b */
    int64_t lda, ldb, ldo;          /* floats from one stored row to the next */
    const int64_t *row;             /* rows of A wherever they lie: row i is a[row[i]], a[row[i] + step], ..; NULL:
                                       regular. transpose_a and lda do not count then */
    int64_t step;
} mde_product;
/* Of whole matrices, whose rows follow each other; out is yet to be set. */
MDEDEF mde_product mde_product_of(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
                                  const float *b);
/* On the calling thread, so that it may be used inside mde_parallel_for; workspace: mde_gemm_floats floats. */
MDEDEF void mde_gemm(mde_context *c, const mde_product *product, float *workspace);
MDEDEF size_t mde_gemm_floats(mde_context *c, int64_t m, int64_t n, int64_t k);   /* enough for up to m rows */
MDEDEF int mde_op_count(void);                                        /* the rows of this header, for tests and docs */
MDEDEF const mde_op *mde_op_row(int index);   /* NULL beyond the last */

/* Adds d loss / d parameter into the grad buffer of every parameter that loss depends on. loss is a scalar. A parameter
   is a leaf with requires_grad and a grad buffer, be it your own [count]; leaves without one get nothing here, but by
   mde_grad. */
MDEDEF mde_status mde_backward(mde_context *c, mde_tensor *loss);
/* dx[k] = d y / d x[k] for the scalar y (sum of y otherwise). record = 1: the result can be differentiated again.
   An x that y does not depend on gets zeros. */
MDEDEF mde_status mde_grad(mde_context *c, mde_tensor *y, int n, mde_tensor *const *x, mde_tensor **dx, int record);

/* Elementwise; add, sub, mul, div and maximum broadcast as NumPy does. */
MDEDEF mde_tensor *mde_add(mde_context *c, mde_tensor *a, mde_tensor *b);
MDEDEF mde_tensor *mde_sub(mde_context *c, mde_tensor *a, mde_tensor *b);
MDEDEF mde_tensor *mde_mul(mde_context *c, mde_tensor *a, mde_tensor *b);
MDEDEF mde_tensor *mde_div(mde_context *c, mde_tensor *a, mde_tensor *b);
MDEDEF mde_tensor *mde_affine(mde_context *c, mde_tensor *x, double scale, double shift);   /* scale x + shift */
MDEDEF mde_tensor *mde_exp(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_log(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_sqrt(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_tanh(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_sigmoid(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_relu(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_abs(mde_context *c, mde_tensor *x);                      /* derivative 0 at 0 */
MDEDEF mde_tensor *mde_sin(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_cos(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_pow(mde_context *c, mde_tensor *x, double power);        /* x < 0: NaN but for whole powers */
MDEDEF mde_tensor *mde_clip(mde_context *c, mde_tensor *x, double low, double high);  /* derivative 0 from there on */
MDEDEF mde_tensor *mde_maximum(mde_context *c, mde_tensor *a, mde_tensor *b);   /* of equals b; of a NaN, NaN */
MDEDEF mde_tensor *mde_gate(mde_context *c, mde_tensor *x, mde_tensor *y);      /* y where x > 0, else 0 */
MDEDEF mde_tensor *mde_silu(mde_context *c, mde_tensor *x);                     /* x sigmoid(x) */
MDEDEF mde_tensor *mde_gelu(mde_context *c, mde_tensor *x);                     /* tanh form, as in GPT-2 */

/* Shape and order. */
MDEDEF mde_tensor *mde_reshape(mde_context *c, mde_tensor *x, int rank, const int64_t *shape);   /* shares the data */
MDEDEF mde_tensor *mde_permute(mde_context *c, mde_tensor *x, const int *order);  /* out axis i is x's axis order[i] */
MDEDEF mde_tensor *mde_slice(mde_context *c, mde_tensor *x, int axis, int64_t start, int64_t length);   /* a part */
MDEDEF mde_tensor *mde_pad(mde_context *c, mde_tensor *x, int axis, int64_t before, int64_t after);   /* zeros */
MDEDEF mde_tensor *mde_concat(mde_context *c, mde_tensor *a, mde_tensor *b, int axis);
MDEDEF mde_tensor *mde_broadcast_to(mde_context *c, mde_tensor *x, int rank, const int64_t *shape);
MDEDEF mde_tensor *mde_sum_to(mde_context *c, mde_tensor *x, int rank, const int64_t *shape);  /* undoes broadcast_to */
MDEDEF mde_tensor *mde_sum(mde_context *c, mde_tensor *x);                        /* of all elements: a scalar */
MDEDEF mde_tensor *mde_mean(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_sum_axis(mde_context *c, mde_tensor *x, int axis);         /* the axis stays, with size 1 */
MDEDEF mde_tensor *mde_mean_axis(mde_context *c, mde_tensor *x, int axis);

/* op(a) op(b): a is [.., m, k] ([.., k, m] when transpose_a), b likewise; leading dimensions equal, or one of the two
   has none ([m, k] against [batch, k, n]). */
MDEDEF mde_tensor *mde_matmul(mde_context *c, mde_tensor *a, mde_tensor *b);
MDEDEF mde_tensor *mde_matmul_t(mde_context *c, mde_tensor *a, mde_tensor *b, int transpose_a, int transpose_b);

/* Over the last axis. */
MDEDEF mde_tensor *mde_softmax(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_log_softmax(mde_context *c, mde_tensor *x);
MDEDEF mde_tensor *mde_layer_norm(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *bias, double epsilon);
MDEDEF mde_tensor *mde_rms_norm(mde_context *c, mde_tensor *x, mde_tensor *gain, double epsilon);   /* gain [n] */

/* Rows of table [n, width] by number; ids is copied. Out: [count, width]. */
MDEDEF mde_tensor *mde_gather(mde_context *c, mde_tensor *table, int64_t count, const int32_t *ids);
/* Adds rows of x [count, width] into zeros [n, width] by number; the transpose of mde_gather. */
MDEDEF mde_tensor *mde_scatter_add(mde_context *c, mde_tensor *x, int64_t n, const int32_t *ids);
/* -log softmax(logits)[target] of each row in nats: logits [rows, classes], out [rows]. */
MDEDEF mde_tensor *mde_cross_entropy(mde_context *c, mde_tensor *logits, const int32_t *targets);
/* Rotary position embedding (Su et al. 2021) of x [batch, time, heads, dim], pairs (i, i + dim/2), positions from
   `start`. */
MDEDEF mde_tensor *mde_rope(mde_context *c, mde_tensor *x, double base, int64_t start);
/* softmax(scale q k^T) v: q [batch, time, heads, dim]; k and v [batch, time, kv_heads, dim]; causal: 0 or 1. */
MDEDEF mde_tensor *mde_attention(mde_context *c, mde_tensor *q, mde_tensor *k, mde_tensor *v, double scale, int causal);

/* What a transformer is made of, in fewer and larger ops, which keep less for the way back. */
/* Gates and values side by side: x [.., 2 n] to silu(gate) * value [.., n]. */
MDEDEF mde_tensor *mde_packed_swiglu(mde_context *c, mde_tensor *x);
/* mde_attention of queries, keys and values side by side: qkv [batch, time, heads + 2 kv_heads, dim], out [batch, time,
   heads, dim]. Queries and keys are turned by mde_rope before, unless rope_base is 0. */
MDEDEF mde_tensor *mde_packed_attention(mde_context *c, mde_tensor *qkv, int64_t kv_heads, double scale, int causal,
                                        double rope_base);
/* x W + bias + residual: x [rows, k], weight [k, n] (transposed: [n, k]), bias [n] or NULL, residual [rows, n] or
   NULL. */
MDEDEF mde_tensor *mde_linear(mde_context *c, mde_tensor *x, mde_tensor *weight, int transposed, mde_tensor *bias,
                              mde_tensor *residual);
/* The mean over the rows of mde_cross_entropy(x W^T, targets), without ever holding all logits: x [rows, k], weight
   [classes, k]; a scalar. */
MDEDEF mde_tensor *mde_linear_cross_entropy(mde_context *c, mde_tensor *x, mde_tensor *weight, const int32_t *targets);
/* Zeroes each element with the given probability and scales the rest; the mask depends on seed and stream alone. */
MDEDEF mde_tensor *mde_dropout(mde_context *c, mde_tensor *x, double probability, uint64_t seed, uint64_t stream);

/* ---- 3.5 Parameters and training --------------------------------------- */

/* A set of named parameters with their gradients and the optimizer's moments. */
typedef struct mde_params mde_params;
typedef enum mde_init { MDE_INIT_ZEROS, MDE_INIT_ONES, MDE_INIT_NORMAL, MDE_INIT_UNIFORM } mde_init;
MDEDEF mde_params *mde_params_create(mde_context *c, uint64_t seed);
MDEDEF void mde_params_free(mde_params *p);
/* A new parameter, decayed by AdamW if its rank is 2 or more. scale: standard deviation, or half width of the uniform.
   Its initial values depend on the set's seed and the name alone. A name used twice is an error. */
MDEDEF mde_tensor *mde_param(mde_params *p, const char *name, int rank, const int64_t *shape, mde_init init,
                             double scale);
MDEDEF int mde_params_count(const mde_params *p);
MDEDEF mde_tensor *mde_params_tensor(const mde_params *p, int index);   /* as created, from 0 */
MDEDEF const char *mde_params_name(const mde_params *p, int index);
MDEDEF mde_tensor *mde_params_find(const mde_params *p, const char *name);                 /* NULL when absent */
MDEDEF size_t mde_params_elements(const mde_params *p);   /* numbers in all tensors */
MDEDEF void mde_params_zero_grad(mde_params *p);   /* as mde_backward adds */
MDEDEF double mde_params_grad_norm(const mde_params *p);                                   /* Euclidean, over all */

typedef struct mde_adamw_desc {
    double learning_rate;
    double beta1, beta2;                    /* 0: 0.9 and 0.95; MDE_ZERO for a real 0 */
    double epsilon;                         /* 0: 1e-8 */
    double weight_decay;                    /* decoupled (Loshchilov & Hutter 2019); 0: none */
    double clip;                            /* largest norm of the gradient; 0: no clipping */
} mde_adamw_desc;
#define MDE_ZERO (-1.0)                     /* a real zero where 0 means the default */
/* One step from the gradients; counts the step for the bias correction; returns the gradient's norm before clipping.
   A norm that is not finite is MDE_NOT_FINITE and changes nothing. */
MDEDEF double mde_adamw_step(mde_params *p, const mde_adamw_desc *desc);

/* Learning rate at a step: linear warm-up, then cosine to `final`, constant, or warm-up/stable/decay (WSD, the last
   `decay` share of the steps linear to `final`). final and decay are shares: of the peak, of the steps. */
typedef enum mde_schedule_kind { MDE_COSINE = 0, MDE_CONSTANT, MDE_WSD } mde_schedule_kind;
typedef struct mde_schedule { mde_schedule_kind kind; double peak; int64_t steps, warmup; double final, decay; }
    mde_schedule;
MDEDEF double mde_schedule_rate(const mde_schedule *s, int64_t step);

#ifndef MDE_NO_STDIO
/* Weights as safetensors under their names, with string pairs of your own as metadata. Reading wants every parameter
   of the set with its shape; further tensors in the file are ignored. */
MDEDEF mde_status mde_params_write(const mde_params *p, const char *path, int pairs, const char *const *metadata);
MDEDEF mde_status mde_params_read(mde_params *p, const char *path);
/* Several sets, at most 16, whose names differ, in one file. */
MDEDEF mde_status mde_params_write_sets(int sets, mde_params *const *p, const char *path, int pairs,
                                        const char *const *metadata);
/* A checkpoint also holds the optimizer's moments and step, so that a continued run gives the same bits, and a
   fingerprint, so that a damaged one is refused. */
MDEDEF mde_status mde_checkpoint_write(const mde_params *p, const char *path, int pairs, const char *const *metadata);
/* Returns the file (for its metadata) after loading it into the set; NULL on error. */
MDEDEF mde_safetensors *mde_checkpoint_read(mde_params *p, const char *path);
/* The same for several sets. */
MDEDEF mde_status mde_checkpoint_write_sets(int sets, mde_params *const *p, const char *path, int pairs,
                                            const char *const *metadata);
/* Into sets, from a file that mde_safetensors_read gave, after a look at its metadata; path is for messages. */
MDEDEF mde_status mde_checkpoint_load_sets(int sets, mde_params *const *p, const char *path,
                                           const mde_safetensors *file);
#endif

/* Long work reports through a callback; a return value other than 0 stops it cleanly (MDE_STOPPED). */
typedef struct mde_progress {
    const char *stage;                      /* "train", "evaluate", ... */
    int64_t step, steps;
    double loss;                            /* nats a token; NaN where there is none */
    double rate;                            /* tokens (or what `unit` says) a second */
    double seconds_left;
    int bytes_tokens;                       /* 1: a token is a byte, so that loss / log 2 is bits per byte */
    int64_t reported;                       /* the step of the report before this one */
    const char *unit;                       /* NULL: "tokens" */
    const char *figures;                    /* what to show in place of the loss, in words; NULL: the loss */
} mde_progress;
typedef int mde_progress_fn(const mde_progress *p, void *user);
#ifndef MDE_NO_STDIO
/* One line on stderr, rewritten on a terminal; into a file, one for each twentieth of the way. p NULL: takes back what
   a terminal shows. */
MDEDEF int mde_print_progress(const mde_progress *p, void *user);
#endif

/* ---- 3.6 Text ----------------------------------------------------------- */

/* Bytes as tokens (256 of them), or byte-pair encoding with a vocabulary of 257 .. 65536. */
typedef struct mde_tokenizer mde_tokenizer;
MDEDEF mde_tokenizer *mde_tokenizer_bytes(mde_context *c);
/* Learns merges from text: the most frequent pair first (ties: the smaller ids), words cut at spaces and newlines. */
MDEDEF mde_tokenizer *mde_tokenizer_train(mde_context *c, const char *text, size_t length, int vocabulary);
MDEDEF void mde_tokenizer_free(mde_tokenizer *t);
MDEDEF int mde_tokenizer_vocabulary(const mde_tokenizer *t);
/* A new array of token ids, freed with mde_release; *count of them. Never adds special tokens. */
MDEDEF int32_t *mde_tokenizer_encode(const mde_tokenizer *t, const char *text, size_t length, size_t *count);
/* The bytes of a token, not 0-terminated. */
MDEDEF const char *mde_tokenizer_token(const mde_tokenizer *t, int32_t id, size_t *length);
#ifndef MDE_NO_STDIO
/* The file format of llama2.c: longest token, then score, length and bytes of each; scores rank the merges. Published
   tokenizers of that kind load too (their ids 0, 1, 2 are unknown, begin, end). And tokenizer.json, if it is byte-level
   BPE with the words of GPT-2, Llama 3 or Qwen2. */
MDEDEF mde_tokenizer *mde_tokenizer_read(mde_context *c, const char *path);
MDEDEF mde_status mde_tokenizer_write(const mde_tokenizer *t, const char *path);
#endif

typedef enum mde_split { MDE_TRAIN = 0, MDE_VALIDATION, MDE_TEST } mde_split;   /* of a corpus */

/* Texts of several domains, as tokens, split by document. */
typedef struct mde_corpus mde_corpus;
typedef struct mde_corpus_desc {
    const char *path;           /* a file: one domain; a folder: each entry of it, file or folder, is a domain. A file
                                   is text, or with the ending .jsonl has an object with a "text" on each line, one
                                   document each; compressed files, UTF-16 and others with zero bytes are errors */
    double validation, test;    /* shares of the documents, each at least one; 0: 0.1, MDE_ZERO: none */
    int64_t document;           /* a file longer than this many bytes is cut into documents of about that length at line
                                   ends; 0: 4096 */
    int64_t max_bytes;          /* at most so much of a domain, spread over its files; 0: all */
    int vocabulary;             /* 0: bytes; otherwise byte-pair encoding learned from the training split */
    const mde_tokenizer *tokenizer;  /* use this one instead */
} mde_corpus_desc;
#ifndef MDE_NO_STDIO
MDEDEF mde_corpus *mde_corpus_open(mde_context *c, const mde_corpus_desc *desc);   /* desc says from where */
#endif
/* The same from memory: one text a domain; path is not used. */
MDEDEF mde_corpus *mde_corpus_from_texts(mde_context *c, int domains, const char *const *names,
                                         const char *const *texts, const size_t *lengths, const mde_corpus_desc *desc);
MDEDEF void mde_corpus_free(mde_corpus *corpus);
MDEDEF int mde_corpus_domains(const mde_corpus *corpus);
MDEDEF const char *mde_corpus_name(const mde_corpus *corpus, int domain);
MDEDEF const mde_tokenizer *mde_corpus_tokenizer(const mde_corpus *corpus);
MDEDEF int mde_corpus_vocabulary(const mde_corpus *corpus);
/* All tokens of one split of a domain, documents one after the other, each followed by the separator (byte 0). */
MDEDEF const uint16_t *mde_corpus_tokens(const mde_corpus *corpus, mde_split split, int domain, size_t *count);
/* Documents of a split: starts has documents + 1 entries. */
MDEDEF const int64_t *mde_corpus_documents(const mde_corpus *corpus, mde_split split, int domain, int64_t *documents);
MDEDEF uint64_t mde_corpus_hash(const mde_corpus *corpus);             /* of names, splits and tokens: a fingerprint */

/* Draws training windows from a mixture. The j-th window of a domain is the same for every mixture and seed-equal run
   (common random numbers), and domains are drawn evenly in time, so that runs differ by their mixtures alone. */
#define MDE_MAX_DOMAINS 64
typedef struct mde_sampler {
    const mde_corpus *corpus;
    uint64_t seed;
    double weights[MDE_MAX_DOMAINS];
    int64_t drawn[MDE_MAX_DOMAINS], total;  /* windows so far: all that has to be kept to go on */
} mde_sampler;
/* weights NULL: proportional to the tokens of the domains. */
MDEDEF mde_status mde_sampler_start(mde_sampler *s, const mde_corpus *corpus, const double *weights, uint64_t seed);
/* `windows` windows of length + 1 tokens each. */
MDEDEF mde_status mde_sampler_next(mde_sampler *s, int windows, int64_t length, uint16_t *tokens);

/* ---- 3.7 Language model -------------------------------------------------- */

/* A decoder-only transformer. Defaults are llama's form: pre-norm RMSNorm, rotary positions, SwiGLU, no biases,
   tied embeddings. */
typedef struct mde_lm mde_lm;
typedef struct mde_lm_desc {
    int layers;                 /* 0: 4 */
    int width;                  /* 0: 128 */
    int heads;                  /* 0: width / 32, at least 1; must divide width, if head_dim is 0 */
    int kv_heads;               /* 0: heads; must divide heads (grouped-query attention) */
    int hidden;                 /* inner width of the feed-forward part; 0: 8/3 width for SwiGLU, 4 width for GELU,
                                   rounded up to a multiple of 16 */
    int context;                /* longest sequence; 0: 128 */
    int vocabulary;             /* 0: that of the corpus, 256 without one */
    int layer_norm;             /* 1: LayerNorm with bias, GPT-2's form, instead of RMSNorm */
    int learned_positions;      /* 1: learned positions instead of rotary ones */
    int gelu;                   /* 1: GELU instead of SwiGLU */
    int biases;                 /* 1: linear layers have biases; 2: those of the attention; 3: those of queries, keys
                                   and values, Qwen2's form */
    int untied;                 /* 1: the output layer has its own weights */
    double rope_base;           /* 0: 10000 */
    double norm_epsilon;        /* 0: 1e-5 */
    double dropout;             /* in training, after attention and feed-forward part; 0: none */
    uint64_t seed;
    int head_dim;               /* width of a head, even with rotary positions; 0: width / heads */
    double rope_factor;         /* rotary positions are divided by it; 0: 1 */
    int rope_context;           /* above 0, llama 3's form: of the pairs of a head, those that turn fewer than rope_low
                                   times over so many positions are slowed by rope_factor, those that turn more than
                                   rope_high times are not, between the two it goes over evenly */
    double rope_low, rope_high;
} mde_lm_desc;
/* corpus may be NULL: then desc->vocabulary decides, and tokens are bytes. */
MDEDEF mde_lm *mde_lm_create(mde_context *c, const mde_corpus *corpus, const mde_lm_desc *desc);
MDEDEF void mde_lm_free(mde_lm *lm);
MDEDEF mde_params *mde_lm_params(const mde_lm *lm);
MDEDEF mde_status mde_lm_set_tokenizer(mde_lm *lm, const mde_tokenizer *tokenizer);   /* for prompts and samples */
/* Logits [batch * time, vocabulary] of tokens [batch, time]; recorded on the tape. */
MDEDEF mde_tensor *mde_lm_logits(mde_lm *lm, int64_t batch, int64_t time, const int32_t *tokens);

typedef struct mde_train_desc {
    int64_t tokens;             /* to train on in all; rounded up to whole batches */
    int batch;                  /* windows a step; 0: 16 */
    int64_t length;             /* tokens a window; 0: the model's context */
    double learning_rate;       /* peak; 0: 3e-3 */
    mde_schedule_kind schedule; /* cosine to 10 % by default */
    double warmup;              /* share of the steps; 0: 0.05 */
    double weight_decay;        /* 0: 0.1; MDE_ZERO: none */
    double clip;                /* 0: 1; MDE_ZERO: none */
    const double *weights;      /* of the domains; NULL: proportional to their tokens */
    uint64_t seed;
    const char *checkpoint;     /* file to continue from if it is there, written every `checkpoint_steps` and at the end
                                   of a stopped run; NULL: none */
    int64_t checkpoint_steps;   /* 0: a tenth of the steps */
    mde_progress_fn *progress;  /* may be NULL */
    void *user;
    int curve_points;           /* 0: 64, at most 1024 */
} mde_train_desc;
/* Draws windows of the training split as mde_sampler_next does. Moments and curve start anew, weights do not. A loss
   that is not finite is an error. */
MDEDEF mde_status mde_lm_train(mde_lm *lm, const mde_corpus *corpus, const mde_train_desc *desc);
/* The learning curve of the last training: mean training loss in nats over each of *points spans; tokens seen at the
   end of each. Owned by the model. */
MDEDEF const double *mde_lm_curve(const mde_lm *lm, int *points, const double **tokens);

/* Natural-log probability of each token given those before it: out[t] of tokens[t], window by window of the model's
   context. Windows overlap by one token, so that every token but the first is predicted; out[0] is NaN. */
MDEDEF mde_status mde_lm_logprobs(mde_lm *lm, const uint16_t *tokens, size_t count, float *out);
/* The same for many short sequences, [sequences, length] each scored from its own start; out [sequences, length]. */
MDEDEF mde_status mde_lm_logprobs_batch(mde_lm *lm, const uint16_t *tokens, int64_t sequences, int64_t length,
                                        float *out);
MDEDEF double mde_lm_loss(mde_lm *lm, const mde_corpus *corpus, mde_split split, int domain);   /* nats a token */

/* Logits token after token. The keys and values of the tokens so far are yours, [layers, context, kv_heads, dim] each;
   with a smaller length it goes on from there. */
typedef struct mde_lm_state { mde_lm *lm; float *keys, *values; int64_t length; } mde_lm_state;
MDEDEF mde_lm_state *mde_lm_state_create(mde_lm *lm);
MDEDEF void mde_lm_state_free(mde_lm_state *s);
/* Appends tokens, at most so many that length stays within the context; logits [vocabulary] of what comes next. */
MDEDEF mde_status mde_lm_step(mde_lm_state *s, int64_t count, const int32_t *tokens, float *logits);

typedef struct mde_generate_desc {
    const char *prompt;         /* NULL: the separator (or the published model's begin token) alone */
    int tokens;                 /* 0: 256; fewer when the model ends its text with the separator, begin or end token */
    double temperature;         /* 0: 1; MDE_ZERO: greedy */
    int top_k;                  /* 0: all */
    double top_p;               /* 0: 1 */
    uint64_t seed;
    int no_cache;               /* 1: recompute everything at each token (for tests) */
    void (*emit)(const char *bytes, size_t length, void *user);   /* called for each token as it comes; may be NULL */
    void *user;
} mde_generate_desc;
/* Prompt and continuation, 0-terminated; owned by the model until the next call. A text longer than the context goes
   on with its last half as context. */
MDEDEF const char *mde_lm_generate(mde_lm *lm, const mde_generate_desc *desc);
#ifndef MDE_NO_STDIO
/* safetensors with Hugging Face names and, as metadata, the shape of the model; the tokenizer, if not bytes, beside it
   with the ending .tokenizer; and a config.json, if the form is a published one and no other is there. A device or pipe
   gets the first alone. */
MDEDEF mde_status mde_lm_write(const mde_lm *lm, const char *path);
/* Weights written by mde_lm_write, or published ones of the form of Llama (Mistral, Qwen2) or GPT-2 with config.json in
   the same folder; a tokenizer.json there is the model's, if it is one that is read. path may be the folder, and the
   list of several files, see mde_safetensors_read. What a config.json says and is not known here is an error. */
MDEDEF mde_lm *mde_lm_open(mde_context *c, const char *path);
#endif

/* ---- 3.8 Mixtures of data experts ----------------------------------------
   Belenki et al. 2025, section 3: P(x_t | x_<t; w) = sum_i w_i P_i(x_t | x_<t), loss L_j(w) = -(1/N_j) sum_t log P. */

typedef struct mde_experts mde_experts;   /* log-probabilities, by validation text and expert */
MDEDEF mde_experts *mde_experts_create(mde_context *c, int experts, const char *const *names);   /* names are copied */
/* One validation text: logp[i] are expert i's natural-log probabilities of the tokens. documents[t] is the number of
   the document that token t is in (ascending; NULL: unknown); bytes is the length of the text in bytes (0: unknown).
   All is copied. Errors are: a NaN or a log-probability above 0, but up to 1e-3, which is taken for rounding, and for
   0; an expert of zeros only; numbers that no natural logarithms can be, by the bytes;
   and sums over sequences in place of tokens, since the mixture is taken token by token. */
MDEDEF mde_status mde_experts_add(mde_experts *e, const char *validation, size_t tokens, const float *const *logp,
                                  const double *documents, double bytes);
MDEDEF void mde_experts_free(mde_experts *e);
MDEDEF int mde_experts_count(const mde_experts *e);
MDEDEF const char *mde_experts_name(const mde_experts *e, int expert);
MDEDEF int mde_experts_validations(const mde_experts *e);
MDEDEF const char *mde_experts_validation(const mde_experts *e, int validation);
MDEDEF int mde_experts_find_validation(const mde_experts *e, const char *name);       /* -1 when absent */
MDEDEF size_t mde_experts_tokens(const mde_experts *e, int validation);
MDEDEF double mde_experts_bytes(const mde_experts *e, int validation);                /* 0: unknown */
MDEDEF size_t mde_experts_rounded(const mde_experts *e, int validation);     /* numbers that rounding had above 0 */
/* Reports what takes long, here and in all functions of these experts: percents of a pass over the tokens. After a stop
   they end with MDE_STOPPED. NULL: none. */
MDEDEF void mde_experts_report(mde_experts *e, mde_progress_fn *progress, void *user);
#ifndef MDE_NO_STDIO
typedef struct mde_experts_desc {
    int nll;                        /* 1: the files hold negative log-likelihoods (>= 0) */
    size_t memory;                  /* bytes of probabilities, 4 a token and expert, that are held; 0: 1 GB. Blocks of
                                       what does not fit are read from the files whenever it is needed, with the same
                                       results. Besides, there are at most 32 MB a text for a sample of it and 19 MB
                                       for smaller ones of that, 40 MB for blocks, 64 MB for bootstraps, and 16 bytes a
                                       document */
    mde_progress_fn *progress;      /* see mde_experts_report; may be NULL */
    void *user;
} mde_experts_desc;
/* path/<validation>/<expert>.npy, natural log, [tokens]; bytes.npy (bytes of each token) and doc.npy (document of each
   token, compared exactly) may stand beside. desc NULL: defaults. Sums over sequences are refused. The files must stay
   as they are as long as the experts live: a change of what is read again is an error that names the file. */
MDEDEF mde_experts *mde_experts_open(mde_context *c, const char *path, const mde_experts_desc *desc);
#endif

/* Loss of one mixture on one validation text, nats a token; gradient [experts] may be NULL. Weights must be >= 0 and
   sum to 1 within 1e-6. */
MDEDEF double mde_validation_loss(const mde_experts *e, int validation, const double *weights, double *gradient);
/* Weighted mean over the validation texts by objective [validations] (NULL: equal weights). */
MDEDEF double mde_mixture_loss(const mde_experts *e, const double *objective, const double *weights, double *gradient);
/* Losses of many mixtures, the features of a regression: weights [mixtures, experts], out [mixtures, validations]. In
   float32, within 1e-8 nats of mde_validation_loss and six times as fast. */
MDEDEF mde_status mde_mixture_losses(const mde_experts *e, int64_t mixtures, const double *weights, double *out);
/* A loss of a validation text, nats a token, in bits a byte of the text; NaN when its bytes are unknown. */
MDEDEF double mde_bits_per_byte(const mde_experts *e, int validation, double loss);

/* Prices [experts] of the domains at a mixture: the change of the objective's loss, nats a token, per unit of share
   given to domain i and taken from the mixture as a whole. Below 0: worth adding. At an optimum without bounds 0 for
   all that are in it, and 0 or more for all that are not. The loss is convex: a share s lowers it by at most -s price.
   It is an error if a token has probability 0 under the mixture. */
MDEDEF mde_status mde_mixture_prices(const mde_experts *e, const double *objective, const double *weights,
                                     double *prices);

typedef struct mde_price_desc {
    int replicates;                 /* 0: 200 */
    double level;                   /* 0: 0.9 */
    uint64_t seed;
} mde_price_desc;
/* Percentile intervals of the prices at a given mixture, low and high [experts], from resampled documents as in
   mde_mixture_bootstrap; NaN where that has none. objective as in mde_mixture_prices; desc NULL: defaults. */
MDEDEF mde_status mde_mixture_price_intervals(const mde_experts *e, const double *objective, const double *weights,
                                              const mde_price_desc *desc, double *low, double *high);

typedef struct mde_minimize_desc {
    const double *objective;        /* [validations]; NULL: equal weights */
    const double *lower, *upper;    /* [experts] bounds; NULL: 0 and 1 */
    double gap;                     /* stop when the certified distance to the minimum is below; 0: 1e-6 nats */
    int iterations;                 /* 0: 200 */
} mde_minimize_desc;
typedef struct mde_optimum {
    int count;
    double weights[MDE_MAX_DOMAINS];
    double loss;                    /* nats a token */
    double gap;                     /* loss is at most this far above the minimum: max over feasible v of g.(w - v),
                                       which without bounds is max_i(-g_i) - 1, since w.g = -1 */
    int iterations;
    int active[MDE_MAX_DOMAINS];    /* 1: held by its upper bound, -1: by its lower one, 0: free */
    double price[MDE_MAX_DOMAINS];  /* shadow price of the bound that holds it: what the loss would fall per unit of
                                       share beyond, which the best other domain gives or takes; 0 when free, NaN when
                                       no other can give or take */
} mde_optimum;
/* The best mixture; the loss is convex in w. A gap that was not reached is an error, but *out holds the best found. */
MDEDEF mde_status mde_mixture_minimize(const mde_experts *e, const mde_minimize_desc *desc, mde_optimum *out);

typedef struct mde_bootstrap_desc {
    const mde_minimize_desc *minimize;   /* objective and bounds; may be NULL */
    const double *weights;               /* the mixture whose loss is in question; NULL: the optimum */
    int replicates;                      /* 0: 200 */
    double level;                        /* 0: 0.9 */
    uint64_t seed;
} mde_bootstrap_desc;
typedef struct mde_bootstrap {
    mde_optimum optimum;                     /* of the tokens as they are, as mde_mixture_minimize finds it */
    double loss[2];                          /* interval of the loss of the mixture */
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS];   /* interval of each weight of the optimum */
    int replicates;                          /* 0: no interval, all ends are NaN */
    char note[320];                          /* a sentence on blocks, or why there is no interval; empty: documents */
} mde_bootstrap;
/* Percentile intervals from resampled documents (with replacement, within each validation text). Where a text has fewer
   than ten documents, or none are known, blocks of a tenth of it stand for them, of 32 to 256 tokens; they keep the
   correlation of near tokens, but not that of a document's distant ones, so that intervals may be short. A text with
   too little for either has no interval. */
MDEDEF mde_status mde_mixture_bootstrap(const mde_experts *e, const mde_bootstrap_desc *desc, mde_bootstrap *out);

/* ---- 3.9 Regression ------------------------------------------------------
   Small, dense, double precision: n runs, d features, m targets (validation domains); X [n, d], Y [n, m]. Features are
   standardised inside; a constant feature is ignored. */

typedef enum mde_model {
    MDE_RIDGE = 0,              /* linear, with a penalty of squares */
    MDE_GP,                     /* a Gaussian process a target */
    MDE_MULTITASK_GP,           /* the same, tied by processes that the targets share (Bonilla et al. 2007) */
    MDE_MIXING_LAW,             /* c + exp(b + t.x): on raw weights, the data mixing law of Ye et al. 2025 */
    MDE_POOLED_LAW,             /* c + sum_r b_r (e_r + T_r.w)^-a_r on raw weights: power laws of pooled data, to which
                                   a token of domain i adds T_ri */
    MDE_TREES,                  /* gradient-boosted regression trees (Friedman 2001) */
    MDE_SCALE_LAW,              /* E + exp(b + t.w) + A / N^alpha + B / D^beta of regressors only: the last two features
                                   are log N and log D, of parameters and tokens; the sd covers what they leave open */
    MDE_STACK,                  /* of surrogates only: several models, weighted by their errors on runs left out */
    MDE_AUTO                    /* of surrogates only: the stack, or one model that mde_evaluate finds clearly better */
} mde_model;
typedef enum mde_kernel { MDE_MATERN32 = 0, MDE_MATERN52, MDE_RBF } mde_kernel;   /* smoothness 3/2, 5/2, infinite */
typedef struct mde_regressor mde_regressor;   /* fitted to runs */
typedef struct mde_fit_desc {
    mde_model model;
    mde_kernel kernel;          /* of the Gaussian processes */
    int noises;                 /* of a Gaussian process: the last so many features, >= 0, are not inputs but raise a
                                   run's noise, whose variance is s_0 + sum_q s_q x_q, every s fitted */
    double penalty;             /* ridge; 0: chosen by the exact leave-one-out error; the same for all targets unless
                                   chosen, then one a target */
    int rank;                   /* processes that targets of the multi-task GP share, pools of the pooled law; 0: 2 */
    int normal_noise;           /* of a Gaussian process of one target; 0: its noise has heavy tails: a run whose loss
                                   is far from what the others say counts less. sds are then those of a normal
                                   distribution with the same 90 % interval */
    int interactions;           /* of the law across sizes; 1: A and B depend on the mixture, too */
    int restarts;               /* of the marginal likelihood's maximisation; 0: 2 */
    int trees, depth;           /* 0: 250 trees of depth 4 */
    double rate;                /* of what a tree explains, the share that it takes away; 0: 0.1 */
    uint64_t seed;
} mde_fit_desc;
/* NULL desc: ridge with its defaults. x and y are copied; what is not finite in them is an error. */
MDEDEF mde_regressor *mde_regressor_fit(mde_context *c, int n, int d, int m, const double *x, const double *y,
                                        const mde_fit_desc *desc);
MDEDEF void mde_regressor_free(mde_regressor *r);
/* mean [n, m]; sd [n, m] of the predicted run (with noise) may be NULL. */
MDEDEF mde_status mde_regressor_predict(const mde_regressor *r, int n, const double *x, double *mean, double *sd);
/* Mean and its gradient with respect to one input: mean [m], gradient [m, d]. Trees are steps: an error. */
MDEDEF mde_status mde_regressor_gradient(const mde_regressor *r, const double *x, double *mean, double *gradient);
/* Covariance [n, n] of the means that a law predicts of a target; other models: an error. */
MDEDEF mde_status mde_regressor_covariance(const mde_regressor *r, int target, int n, const double *x, double *out);
/* Predictions [n, m] of the runs that it was fitted to, each as if that run and its repeats, of equal features, had
   been left out: exact for ridge and, given its covariance, for Gaussian processes; to first order for laws where that
   is good enough, else, and for trees, by five folds. */
MDEDEF mde_status mde_regressor_left_out(const mde_regressor *r, double *predicted);
MDEDEF double mde_regressor_log_likelihood(const mde_regressor *r, int target);  /* marginal; NaN without a process */
/* In units of the standardised feature; of the multi-task GP, that of a target's own process; NaN without a process. */
MDEDEF double mde_regressor_length_scale(const mde_regressor *r, int target, int feature);

MDEDEF double mde_mse(int n, const double *predicted, const double *truth);   /* mean squared error */
/* Pearson's correlation of the ranks; ties get mean ones. NaN if one side is constant or has a NaN. */
MDEDEF double mde_spearman(mde_context *c, int n, const double *a, const double *b);

/* Which inputs a regression sees; a sum of these. */
enum {
    MDE_FEATURE_RAW = 1,        /* w */
    MDE_FEATURE_LOG = 2,        /* log(w + 1e-3) */
    MDE_FEATURE_MDE = 4,        /* the experts' mixture loss on every validation text */
    MDE_FEATURE_OWN = 8,        /* the experts' mixture loss on the target's own text: one feature a target */
    MDE_FEATURE_SQRT = 16,      /* sqrt(w) */
    MDE_FEATURE_PRODUCTS = 32,  /* log(w_i + 1e-3) log(w_j + 1e-3), i <= j */
    MDE_FEATURE_POWER = 64,     /* w^0.3, between the square root and the logarithm */
    MDE_FEATURE_POOLED = 128,   /* of surrogates: the loss that a pooled law of the target predicts, itself fitted
                                   without the run in question */
    MDE_FEATURE_SCARCE = 256,   /* of Gaussian processes: (1e-3 / (w + 1e-3))^2 as inputs of the noise, for weights
                                   known to three decimals only; always the last columns */
    MDE_FEATURE_CHOSEN = 512    /* of surrogates: LOG + POWER, which suit power laws, or RAW + SQRT, which suit
                                   exponentials, where the squared errors of runs left out are smaller by 20 %. With
                                   fewer than 10 runs, or more than 160, the former. The 20 % were chosen on the runs of
                                   Ye et al. at three sizes, which keep the former, and on sums of exponentials */
};
/* Number of features for the set, given k weights and m validations. */
MDEDEF int mde_feature_count(int set, int k, int m);
/* Features of n mixtures: weights [n, k]; mde [n, m] from mde_mixture_losses (NULL when not needed); target: which own
   loss; out [n, mde_feature_count]. */
MDEDEF mde_status mde_features(mde_context *c, int set, int n, int k, const double *weights, int m, const double *mde,
                               int target, double *out);

/* A regression from mixtures to losses: one model a target (or a multi-task GP), on features of the weights and of the
   experts. A loss that is NaN is missing; a multi-task GP then drops the run. */
typedef struct mde_surrogate mde_surrogate;
typedef struct mde_surrogate_desc {
    mde_fit_desc fit;
    int features;                        /* sum of MDE_FEATURE_*; 0: ridge LOG, GP CHOSEN + SCARCE, multi-task GP
                                            POWER, else RAW; with experts OWN as well (multi-task GP: MDE), but for the
                                            laws. A stack has its own */
    const mde_experts *experts;          /* needed for the MDE features; its validations are the targets, in order. Of a
                                            text with more than 2^23 probabilities a sample of its tokens is used */
} mde_surrogate_desc;
MDEDEF mde_surrogate *mde_surrogate_fit(mde_context *c, int n, int k, int m, const double *weights,
                                        const double *losses, const mde_surrogate_desc *desc);   /* [n, k], [n, m] */
MDEDEF void mde_surrogate_free(mde_surrogate *s);
/* mean [n, m]; sd [n, m] of the predicted run (with noise) may be NULL. */
MDEDEF mde_status mde_surrogate_predict(const mde_surrogate *s, int n, const double *weights, double *mean, double *sd);
/* Means [m] of one mixture and their derivatives [m, k] by its weights. Trees have none: an error. */
MDEDEF mde_status mde_surrogate_gradient(const mde_surrogate *s, const double *weights, double *mean, double *gradient);
MDEDEF int mde_surrogate_smooth(const mde_surrogate *s);     /* 1: has a gradient */
#define MDE_MAX_GP_RUNS 2000            /* of a Gaussian process, a stack or MDE_AUTO; more are an error before any
                                           work, as the time grows with their cube */
/* Predictions [n, m] of the runs it was fitted to, each as if left out with its repeats; see mde_regressor_left_out. */
MDEDEF mde_status mde_surrogate_left_out(const mde_surrogate *s, double *predicted);

/* Models by name, each the same wherever the name stands: on a command line, in a stack, among what MDE_AUTO compares,
   in a table. The names are stack, pooled, law, products, gp, gp-pooled, trees, ridge, mtgp and auto. */
typedef struct mde_recipe {
    const char *name, *title;            /* as an argument, and in a table */
    mde_model model;
    int features;                        /* as in mde_surrogate_desc; with experts OWN as well */
    int member;                          /* 1: of the stack */
} mde_recipe;
MDEDEF const mde_recipe *mde_recipe_row(int index);          /* from 0; NULL after the last */
/* Sets model and features of desc, whose experts must be there already; what else it holds stays. A name that is not
   known is an error that lists those that are. */
MDEDEF mde_status mde_surrogate_recipe(mde_context *c, const char *name, mde_surrogate_desc *desc);
/* What a stack is made of: how many models, their names, and the share of each in the prediction of a target. */
MDEDEF int mde_surrogate_members(const mde_surrogate *s);
MDEDEF const char *mde_surrogate_member(const mde_surrogate *s, int member);
MDEDEF double mde_surrogate_share(const mde_surrogate *s, int target, int member);

/* How well a procedure predicts runs that it has not seen. Length scales, penalties, the shares of a stack and, with
   MDE_AUTO, the choice of a model are all made anew without the runs that judge them (nested cross-validation).
   Repeated runs, of equal weights, stay together. */
typedef struct mde_evaluate_desc {
    int folds;                           /* 0: 5 */
    uint64_t seed;
    mde_progress_fn *progress;           /* may be NULL */
    void *user;
} mde_evaluate_desc;
typedef struct mde_candidate {
    const char *name;
    double error;                        /* squared error over the target's variance, mean over targets, held out */
    double behind, behind_se;            /* error above the chosen one's, and its standard error over runs */
    double spearman;                     /* mean over targets */
    double *predicted, *sd;              /* [runs, targets] held-out predictions */
} mde_candidate;
typedef struct mde_evaluation {
    mde_context *context;
    int runs, domains, targets, folds;
    int candidates, chosen;              /* with MDE_AUTO the recipes but auto, the multi-task GP only for up to 160
                                            runs without a missing loss, and no law is chosen and no multi-task GP tried
                                            for fewer than 10 mixtures; otherwise one */
    mde_candidate *candidate;
    double *predicted, *sd;              /* [runs, targets] of the procedure: for each fold, of the candidate that the
                                            others choose, sd times the factor that the others give: how many runs lie
                                            in their intervals is held out, too */
    double spread;                       /* factor of the predicted sds with which 90 % intervals hold 90 % */
    char reason[400];                    /* why this one was chosen, a sentence */
    mde_surrogate_desc desc;
} mde_evaluation;
MDEDEF mde_evaluation *mde_evaluate(mde_context *c, int n, int k, int m, const double *weights, const double *losses,
                                    const mde_surrogate_desc *desc, const mde_evaluate_desc *how); /* NULL: defaults */
MDEDEF void mde_evaluation_free(mde_evaluation *e);
MDEDEF mde_surrogate_desc mde_evaluation_choice(const mde_evaluation *e);    /* the chosen model's settings */
/* The chosen model fitted to all of the evaluation's runs, its sds times spread. */
MDEDEF mde_surrogate *mde_evaluation_fit(const mde_evaluation *e, const double *weights, const double *losses);
/* How n runs are dealt to folds 0, 1, ... of about equal sizes (folds 0: 5), repeated runs to the same one: fold [n].
   Returns how many folds are used. */
MDEDEF int mde_deal_folds(mde_context *c, int n, int k, const double *weights, int folds, uint64_t seed, int *fold);
/* For each of n runs the first of equal weights [n, k] (to 1e-9), itself where it is that: first [n]. Returns how many
   mixtures there are, 0 on error. */
MDEDEF int mde_first_repeats(mde_context *c, int n, int k, const double *weights, int *first);
/* Factor of the objective's summed sds with which their 90 % intervals held 90 % of the held-out runs, 1 for fewer than
   10: what mde_choose_desc calls spread. */
MDEDEF double mde_evaluation_spread(const mde_evaluation *e, const double *losses, const double *objective);

/* Finished runs as two tables: what each was trained on, and what it reached. */
typedef struct mde_runs {
    mde_context *context;
    int count, domains, metrics;
    int percent;                         /* 1: the table had its weights in percent */
    const char **names;                  /* [count] */
    const char **domain_names, **metric_names;
    double *weights;                     /* [count, domains], each row summing to 1 */
    double *losses;                      /* [count, metrics], NaN where one is missing */
} mde_runs;
/* What of a CSV is wanted: the column that names the runs (-1: they are numbered from 1) and those with numbers. */
typedef struct mde_run_columns { const mde_csv *csv; int run, count; const int *columns; } mde_run_columns;
/* Joins two tables, or columns of one, by run. A run that is in one table only is an error; with skipped [2] it is left
   out and counted, those without losses and those without weights. Weights that sum to 1 within 1 % are scaled, as are
   percents, which sum to 100; others are an error that names the row. An empty cell or nan is a missing metric. */
MDEDEF mde_runs *mde_runs_join(mde_context *c, const mde_run_columns *weights, const mde_run_columns *losses,
                               int *skipped);
MDEDEF void mde_runs_free(mde_runs *runs);
#ifndef MDE_NO_STDIO
/* All columns of two CSV files, joined by the one called run or index, or else the first. */
MDEDEF mde_runs *mde_runs_open(mde_context *c, const char *ratios, const char *losses);
#endif

/* ---- 3.10 Search on the simplex ------------------------------------------- */

/* Value of a mixture, to be minimised, and its gradient [n], which is NULL when not wanted: a population needs none. A
   value that is not finite is avoided. */
typedef double mde_objective_fn(int n, const double *weights, double *gradient, void *user);
typedef enum mde_search_method {
    MDE_EXPONENTIATED_GRADIENT = 0,
    MDE_POPULATION                  /* for functions without a gradient, such as trees, which are steps: differential
                                       evolution of all starts */
} mde_search_method;
typedef struct mde_search_desc {
    mde_search_method method;
    const double *lower, *upper;    /* [n] bounds; NULL: 0 and 1 */
    const double *start;            /* NULL: several starts from a Dirichlet distribution inside the bounds; a
                                       population begins around it */
    int starts;                     /* 0: 8; a population: 32 */
    int samples;                    /* random mixtures tried first, the best of which are the starts; 0: 2000 */
    int iterations;                 /* a start; 0: 500 */
    double tolerance;               /* 0: 1e-9 */
    uint64_t seed;
    mde_progress_fn *progress;      /* may be NULL; called ten times a second by what takes longer */
    void *user;
} mde_search_desc;
/* Best weights found; returns their value, NaN on error. */
MDEDEF double mde_simplex_minimize(mde_context *c, int n, mde_objective_fn *f, void *user, const mde_search_desc *desc,
                                   double *weights);
/* Nearest point (Euclidean) with lower <= w <= upper and sum 1; error when there is none. */
MDEDEF mde_status mde_simplex_project(mde_context *c, int n, const double *lower, const double *upper, double *weights);
/* Bounds that keep a search inside what was tried: for each weight the smallest and the largest of the runs [n, k],
   widened by `slack` times their distance (0: none) and cut to [0, 1]. */
MDEDEF void mde_bounds_of_runs(int n, int k, const double *weights, double slack, double *lower, double *upper);
/* The mixture for which a surrogate promises the minimum of
     sum_j objective_j (mean_j + caution sd_j) + kl KL(w || prior)
   inside bounds. By gradient where the surrogate has one, from many starts; by a population otherwise. */
typedef struct mde_choose_desc {
    const double *objective;        /* [m] weights of the losses, scaled to sum 1; NULL: equal ones */
    const double *lower, *upper;    /* [k] bounds; NULL: 0 and 1 */
    const double *prior;            /* [k]; NULL: uniform */
    double kl;                      /* 0: the prior does not count */
    double caution;                 /* sds added to the predicted loss; 1 gave about the regret that 0 did in
                                       bench/regret.c */
    double spread;                  /* factor of the summed sds; errors of several losses rarely add up whole. 0: 1 */
    const double *tried;            /* [runs, k] starts besides the random ones; may be NULL */
    int runs;
    int starts;                     /* 0: 8 */
    uint64_t seed;
    mde_progress_fn *progress;      /* may be NULL; as in mde_search_desc */
    void *user;
} mde_choose_desc;
typedef struct mde_choice {
    int count;
    double weights[MDE_MAX_DOMAINS];
    double value;                   /* of what was minimised */
    double loss, sd;                /* of the objective as predicted, nats a token */
    int active[MDE_MAX_DOMAINS];    /* as in mde_optimum */
    double price[MDE_MAX_DOMAINS];  /* as in mde_optimum, of the value; for trees, which are steps, NaN when held */
} mde_choice;
MDEDEF mde_status mde_surrogate_minimize(const mde_surrogate *s, const mde_choose_desc *desc, mde_choice *out);

/* The runs to make next, out [count, k]: each at least `distance` from all runs [n, k] and from each other.
   Without a surrogate (NULL) they fill the space, which makes a first design; with one, they are what promises most. */
typedef enum mde_acquisition {
    MDE_VARIANCE_REDUCTION = 0,     /* what tells most about how much good mixtures differ from the best one (ALC, Cohn
                                       et al. 1996); bench/README.md has its regret beside that of random runs */
    MDE_CONFIDENCE_BOUND,           /* lowest mean - exploration sd, known as UCB where more is better */
    MDE_EXPECTED_IMPROVEMENT,       /* over `best` */
    MDE_SPACE_FILLING               /* furthest from all runs */
} mde_acquisition;
typedef struct mde_suggest_desc {
    mde_acquisition acquisition;
    const double *objective;        /* [m] as in mde_choose_desc */
    const double *lower, *upper;    /* [k] bounds that no run may break, wider than what was tried; NULL: 0 and 1 */
    double reach;                   /* how far beyond the runs a surrogate is followed in one round: to so many times
                                       the largest weight that a domain had, plus 0.05, and the smallest divided by it,
                                       less 0.05. 0: 2; INFINITY: to the bounds */
    const double *centre;           /* [k] mixture to look around, too, such as the best one; may be NULL */
    double best;                    /* lowest objective so far */
    double exploration;             /* 0: 2 */
    double spread;                  /* as in mde_choose_desc */
    double distance;                /* Hellinger distance, 0 to 1; 0: 0.05 */
    uint64_t seed;
    int *made;                      /* where to say how many there was room for; NULL: less than count is an error */
    mde_progress_fn *progress;      /* may be NULL; as in mde_search_desc */
    void *user;
} mde_suggest_desc;
MDEDEF mde_status mde_suggest_runs(mde_context *c, const mde_surrogate *s, int n, int k, const double *tried,
                                   const mde_suggest_desc *desc, int count, double *out);

/* ---- 3.11 Pictures --------------------------------------------------------- */

/* A PNG file in memory, freed with mde_release: pixels [height, width, channels], channels 1, 3 or 4. */
MDEDEF unsigned char *mde_png_encode(mde_context *c, int width, int height, int channels, const unsigned char *pixels,
                                     size_t *size);
#ifndef MDE_NO_STDIO
/* The same into a file. */
MDEDEF mde_status mde_png_write(mde_context *c, const char *path, int width, int height, int channels,
                                const unsigned char *pixels);
#endif

#ifdef __cplusplus
}
#endif
#endif /* MDEMIX_H */

#if defined(MDEMIX_IMPLEMENTATION) && !defined(MDEMIX__IMPLEMENTED)
#define MDEMIX__IMPLEMENTED

/* Same bits everywhere: a multiply-add is fused where the code says fma and nowhere else. */
#if (defined(__FAST_MATH__) || defined(_M_FP_FAST)) && !defined(MDE_ALLOW_FAST_MATH)
#error "mdemix: -ffast-math breaks the promise of same bits everywhere; define MDE_ALLOW_FAST_MATH to insist"
#endif
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wignored-pragmas"    /* some machines lack the first of these two */
#pragma float_control(push)
#pragma clang fp contract(off)
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#pragma warning(push)
#pragma warning(disable : 4996 4100)    /* names that nobody but Microsoft deprecates; parameters without use */
#elif defined(__GNUC__)
#pragma GCC push_options
#if !defined(__x86_64__) || defined(__FMA__)    /* without the instruction there is nothing to forbid */
#pragma GCC optimize("fp-contract=off")
#endif
#endif

/* Around all but the kernels: -O2 takes more than twice as long to compile as -Og. MDE__WARM: loops there that are long
   enough to be worth it. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define MDE__COLD_BEGIN _Pragma("GCC push_options") _Pragma("GCC optimize(\"Og\", \"fp-contract=off\")")
#define MDE__COLD_END _Pragma("GCC pop_options")
#define MDE__WARM __attribute__((optimize("O2", "fp-contract=off")))
#else
#define MDE__COLD_BEGIN
#define MDE__COLD_END
#define MDE__WARM
#endif

#if defined(__GNUC__) && defined(MDE__OWN_LINKAGE)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#else
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>
#endif

#if defined(__MINGW32__) && defined(__SSE2__)
#include <emmintrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================================================
   4. PLATFORM
   ====================================================================== */

MDE__COLD_BEGIN

/* What the rest stands on: one door each for memory, sizes, errors, threads and files. Every block of memory is known
   to its context, so that freeing the context frees all; a step's temporaries come from the arena, a list of chunks
   that a mark and a rewind free at once. */

#if defined(__MINGW32__) && defined(__SSE2__)
/* That of MinGW's library is the x87's, which rounds twice. */
static inline double mde__sqrt64(double x)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)));
}
#define sqrt(x) mde__sqrt64(x)
#endif

#if !defined(MDE_MALLOC) && !defined(MDE_FREE)
#define MDE_MALLOC(bytes) malloc(bytes)
#define MDE_FREE(pointer) free(pointer)
#elif !defined(MDE_MALLOC) || !defined(MDE_FREE)
#error "mdemix: define both MDE_MALLOC and MDE_FREE, or neither"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define MDE__RESTRICT __restrict__
#define MDE__UNUSED __attribute__((unused))
#define MDE__INLINE inline __attribute__((always_inline))
#define MDE__NOINLINE __attribute__((noinline))
#else
#define MDE__RESTRICT
#define MDE__UNUSED
#define MDE__INLINE inline
#define MDE__NOINLINE
#endif

#define MDE__ALIGNMENT 64           /* a cache line, and the widest vector register */
#define MDE__CHUNK ((size_t)1 << 20) /* smallest chunk of the arena */

/* In front of every block that the context owns. */
typedef struct mde__block {
    struct mde__block *previous, *next;
    void *raw;                      /* what the allocator gave, before alignment */
    size_t bytes;                   /* that the user of the block may use */
} mde__block;

typedef struct mde__chunk {
    struct mde__chunk *next;
    size_t capacity;
    unsigned char *bytes;
} mde__chunk;

struct mde_context {
    void *(*allocate)(size_t bytes, void *user);
    void (*release)(void *pointer, void *user);
    void *user;
    size_t max_bytes, held, peak;
    mde__block *blocks;

    mde__chunk *first, *current;    /* arena; chunks behind `current` are empty */
    size_t used;                    /* bytes of `current` */

    mde_node **tape;
    int64_t tape_count;
    int recording;
    mde_tensor *sink[MDE_MAX_INPUTS];   /* where the fused VJP that runs may leave its gradients; see mde__sink */
    int sink_adds[MDE_MAX_INPUTS];

    int simd;
    int threads;
    const char *other_bits;             /* NULL: the same as elsewhere */

    mde_status status;
    char error[1024];
};

/* ---- Errors ---- */

/* A decimal comma of the locale becomes a point. */
static void mde__unlocalize(char *text)
{
    const char *point = localeconv()->decimal_point;
    char *found;
    size_t length = strlen(point);
    if (length == 0 || strcmp(point, ".") == 0) return;
    found = strstr(text, point);
    if (!found) return;
    *found = '.';
    memmove(found + 1, found + length, strlen(found + length) + 1);
}

/* Arguments that one function hands on to another, which takes some of them. */
typedef struct mde__arguments { va_list list; } mde__arguments;

/* Prints the conversion that begins with the % at p, free of locale, and returns its length; 0 when it is not known. */
static size_t mde__print_conversion(char *out, size_t size, const char *p, mde__arguments *arguments)
{
    char conversion[24];
    size_t flags = 1 + strspn(p + 1, "-+ #0123456789.*"), letter = flags + strspn(p + flags, "hlz");
    int width = -1;
    if (letter + 2 > sizeof conversion) return 0;
    memcpy(conversion, p, letter + 1);
    conversion[letter + 1] = 0;
    if (memchr(conversion, '*', letter)) width = va_arg(arguments->list, int);
#define MDE__PRINT_AS(type) \
    (width < 0 ? snprintf(out, size, conversion, va_arg(arguments->list, type)) \
               : snprintf(out, size, conversion, width, va_arg(arguments->list, type)))
    switch (p[letter]) {
    case '%': snprintf(out, size, "%%"); break;
    case 's': MDE__PRINT_AS(const char *); break;
    case 'p': MDE__PRINT_AS(void *); break;
    case 'c': MDE__PRINT_AS(int); break;
    case 'd': case 'i': case 'u': case 'x': case 'X':
        if (p[flags] == 'z') MDE__PRINT_AS(size_t);
        else if (p[flags] == 'l' && p[flags + 1] == 'l') MDE__PRINT_AS(long long);
        else if (p[flags] == 'l') MDE__PRINT_AS(long);
        else MDE__PRINT_AS(int);
        break;
    case 'g': case 'f': case 'e':
        MDE__PRINT_AS(double);
        mde__unlocalize(out);
        break;
    default: return 0;
    }
#undef MDE__PRINT_AS
    return letter + 1;
}

/* vsnprintf for sentences: each conversion is printed alone, since a comma in the whole may be another than the decimal
   one. A NaN has no sign, which depends on the machine. A conversion that is not known ends the text. */
static void mde__print_list(char *out, size_t size, const char *format, va_list arguments)
{
    mde__arguments rest;
    size_t length;
    va_copy(rest.list, arguments);
    out[0] = 0;
    for (size_t at = 0; *format && at + 1 < size; at += strlen(out + at), format += length) {
        int plain = *format != '%';
        length = plain ? strcspn(format, "%") : mde__print_conversion(out + at, size - at, format, &rest);
        if (length == 0) break;
        if (plain) snprintf(out + at, size - at, "%.*s", (int)length, format);
        else if (strchr("gfe", format[length - 1]) && strstr(out + at, "nan")) snprintf(out + at, size - at, "nan");
    }
    va_end(rest.list);
}

MDE__PRINTF(3, 4)
static void mde__sentence(char *out, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mde__print_list(out, size, format, arguments);
    va_end(arguments);
}

/* Returns a status, which is not 0: `return !mde_fail(..)` refuses where 0 says no. */
MDEDEF mde_status mde_fail(mde_context *c, mde_status status, const char *format, ...)
{
    va_list arguments;
    if (!c || c->status != MDE_OK) return status;
    c->status = status;
    va_start(arguments, format);
    mde__print_list(c->error, sizeof c->error, format, arguments);
    va_end(arguments);
    return status;
}

static int mde__bad(const mde_context *c)
{
    return !c || c->status != MDE_OK;
}

/* MDE_BAD_ARGUMENT unless the condition holds. Of several in a row the first that does not is the error. */
MDE__PRINTF(3, 4)
static void mde__require(mde_context *c, int condition, const char *format, ...)
{
    va_list arguments;
    if (condition || mde__bad(c)) return;
    c->status = MDE_BAD_ARGUMENT;
    va_start(arguments, format);
    mde__print_list(c->error, sizeof c->error, format, arguments);
    va_end(arguments);
}

MDEDEF mde_status mde_context_status(const mde_context *c)
{
    return c ? c->status : MDE_OUT_OF_MEMORY;
}

/* Of the context of an object, NULL where there is no object. */
static mde_status mde__object_status(const mde_context *c)
{
    return c ? c->status : MDE_BAD_ARGUMENT;
}

MDEDEF const char *mde_error(const mde_context *c)
{
    return c ? c->error : "out of memory: there is no context";
}

MDEDEF void mde_clear_error(mde_context *c)
{
    if (!c) return;
    c->status = MDE_OK;
    c->error[0] = 0;
}

/* ---- Sizes and numbers ---- */

static int mde__mul_size(size_t a, size_t b, size_t *out)
{
    *out = a * b;
    return !b || a <= SIZE_MAX / b;
}

static double mde__from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* For NaNs that are kept, in arrays and files: the sign of NAN depends on the compiler. */
static double mde__quiet_nan(void)
{
    return mde__from_bits(UINT64_C(0x7ff8000000000000));
}

static size_t mde__skip_digits(const char *text, size_t i, size_t length)
{
    while (i < length && text[i] >= '0' && text[i] <= '9') i++;
    return i;
}

static int mde__same_word(const char *text, size_t length, const char *word)
{
    size_t i;
    for (i = 0; i < length; i++) {
        char lower = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
        if (!word[i] || lower != word[i]) return 0;
    }
    return word[i] == 0;
}

/* Where the decimal number at `at` ends; 0 when there is none. strict, as JSON has it: no plus, no leading zeros,
   digits on both sides of the point. */
static size_t mde__number_end(const char *text, size_t at, size_t length, int strict)
{
    size_t from = at + (at < length && (text[at] == '-' || (text[at] == '+' && !strict)));
    size_t i = mde__skip_digits(text, from, length), digits = i - from, more;
    if (strict && (digits == 0 || (text[from] == '0' && digits > 1))) return 0;
    if (i < length && text[i] == '.') {
        more = mde__skip_digits(text, i + 1, length) - i - 1;
        if (strict && more == 0) return 0;
        digits += more;
        i += more + 1;
    }
    if (digits == 0) return 0;
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        from = i + 1;
        if (from < length && (text[from] == '-' || text[from] == '+')) from++;
        i = mde__skip_digits(text, from, length);
        if (i == from) return 0;
    }
    return i;
}

/* 1 when the whole text is one number; what the locale calls a decimal point does not matter. */
static int mde__parse_number(const char *text, size_t length, double *value)
{
    char buffer[400];
    const char *point = localeconv()->decimal_point;
    size_t at, out = 0, i, point_length = strlen(point);
    if (length == 0 || length > 300) return 0;
    at = text[0] == '-' || text[0] == '+';
    if (mde__same_word(text + at, length - at, "nan")) {
        *value = mde__quiet_nan();
        return 1;
    }
    if (mde__same_word(text + at, length - at, "inf") || mde__same_word(text + at, length - at, "infinity")) {
        *value = text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return 1;
    }
    if (mde__number_end(text, 0, length, 0) != length) return 0;
    for (i = 0; i < length; i++) {
        if (text[i] == '.' && point_length > 0 && point_length < 16) {
            memcpy(buffer + out, point, point_length);
            out += point_length;
        } else {
            buffer[out++] = text[i];
        }
    }
    buffer[out] = 0;
    *value = strtod(buffer, NULL);
    return 1;
}

/* FNV-1a, 64 bits. */
MDE__WARM
static uint64_t mde__hash(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}
#define MDE__HASH_START UINT64_C(0xcbf29ce484222325)

MDEDEF uint64_t mde_fingerprint(const void *bytes, size_t size)
{
    return mde__hash(MDE__HASH_START, bytes, size);
}

/* ---- Memory ---- */

static void *mde__default_allocate(size_t bytes, void *user)
{
    (void)user;
    return MDE_MALLOC(bytes);
}

static void mde__default_release(void *pointer, void *user)
{
    (void)user;
    MDE_FREE(pointer);
}

static mde__block *mde__block_of(void *pointer)
{
    return (mde__block *)(void *)((unsigned char *)pointer - MDE__ALIGNMENT);
}

/* Without zeroing; the block is linked into the context's list. */
static void *mde__allocate_block(mde_context *c, size_t count, size_t size)
{
    size_t bytes, total;
    void *raw;
    unsigned char *aligned;
    mde__block *block;
    if (mde__bad(c)) return NULL;
    if (!mde__mul_size(count, size, &bytes) || bytes > SIZE_MAX / 2 - 2 * MDE__ALIGNMENT) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: %zu elements of %zu bytes are more than can be addressed",
                 count, size);
        return NULL;
    }
    total = bytes + 2 * MDE__ALIGNMENT;
    if (c->max_bytes && (total > c->max_bytes || c->held > c->max_bytes - total)) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: %zu bytes more than the %zu held would pass the limit of %zu",
                 bytes, c->held, c->max_bytes);
        return NULL;
    }
    raw = c->allocate(total, c->user);
    if (!raw) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: %zu bytes were not to be had (%zu held)", bytes, c->held);
        return NULL;
    }
    aligned = (unsigned char *)raw + MDE__ALIGNMENT;
    aligned += (MDE__ALIGNMENT - (uintptr_t)aligned % MDE__ALIGNMENT) % MDE__ALIGNMENT;
    block = mde__block_of(aligned);
    block->raw = raw;
    block->bytes = bytes;
    block->previous = NULL;
    block->next = c->blocks;
    if (c->blocks) c->blocks->previous = block;
    c->blocks = block;
    c->held += total;
    if (c->held > c->peak) c->peak = c->held;
    return aligned;
}

MDEDEF void *mde_alloc(mde_context *c, size_t count, size_t size)
{
    void *p = mde__allocate_block(c, count, size);
    if (p) memset(p, 0, count * size);
    return p;
}

MDEDEF void mde_release(mde_context *c, void *p)
{
    mde__block *block;
    if (!p) return;
    block = mde__block_of(p);
    if (block->previous) block->previous->next = block->next;
    else c->blocks = block->next;
    if (block->next) block->next->previous = block->previous;
    c->held -= block->bytes + 2 * MDE__ALIGNMENT;
    c->release(block->raw, c->user);
}

/* MDE__RELEASE(c, a, b, ..) is mde_release of each. */
static void mde__release_blocks(mde_context *c, size_t count, void *const *blocks)
{
    for (size_t i = 0; i < count; i++) mde_release(c, blocks[i]);
}
#define MDE__RELEASE(c, ...) \
    do { \
        void *const mde__blocks[] = { __VA_ARGS__ }; \
        mde__release_blocks(c, sizeof mde__blocks / sizeof *mde__blocks, mde__blocks); \
    } while (0)

/* What is new is zero. On failure the old block stays as it is, and NULL is returned. */
static void *mde__realloc(mde_context *c, void *p, size_t count, size_t size)
{
    size_t old = p ? mde__block_of(p)->bytes : 0, bytes = 0;
    void *fresh = mde__allocate_block(c, count, size);
    if (!fresh) return NULL;
    bytes = count * size;
    if (p) memcpy(fresh, p, old < bytes ? old : bytes);
    if (bytes > old) memset((unsigned char *)fresh + old, 0, bytes - old);
    mde_release(c, p);
    return fresh;
}

/* A block for at least `count` elements: p as long as it is large enough, then one of twice its size. On failure p
   stays as it is, and NULL is returned. */
static void *mde__room(mde_context *c, void *p, size_t count, size_t size)
{
    size_t held = p ? mde__block_of(p)->bytes / size : 8;
    if (p && count <= held) return p;
    return mde__realloc(c, p, count <= 2 * held ? 2 * held : count, size);
}

/* A text in a new block. */
MDE__PRINTF(2, 3)
static char *mde__print(mde_context *c, const char *format, ...)
{
    va_list arguments;
    char *text;
    int length;
    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: a text of 2 GB");
    text = length < 0 ? NULL : (char *)mde_alloc(c, (size_t)length + 1, 1);
    va_start(arguments, format);
    if (text) vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

static char *mde__copy_text(mde_context *c, const char *text)
{
    return mde__print(c, "%s", text);
}

static mde__chunk *mde__new_chunk(mde_context *c, size_t bytes)
{
    size_t last = c->current ? c->current->capacity : MDE__CHUNK / 2;
    size_t capacity = last < MDE__CHUNK * 32 ? last * 2 : last, total;
    mde__chunk *chunk;
    if (bytes > SIZE_MAX / 2 - MDE__ALIGNMENT) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: %zu bytes of scratch are more than can be addressed", bytes);
        return NULL;
    }
    if (capacity < bytes) capacity = bytes;
    /* Near a limit, take what is needed rather than what would be convenient. */
    total = capacity + 3 * MDE__ALIGNMENT;
    if (c->max_bytes && (total > c->max_bytes || c->held > c->max_bytes - total)) capacity = bytes;
    chunk = (mde__chunk *)mde__allocate_block(c, capacity + MDE__ALIGNMENT, 1);
    if (!chunk) return NULL;
    chunk->capacity = capacity;
    chunk->bytes = (unsigned char *)chunk + MDE__ALIGNMENT;
    chunk->next = NULL;
    return chunk;
}

MDEDEF void *mde_scratch(mde_context *c, size_t count, size_t size)
{
    size_t bytes;
    void *p;
    if (mde__bad(c)) return NULL;
    if (!mde__mul_size(count, size, &bytes) || bytes > SIZE_MAX - MDE__ALIGNMENT) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "out of memory: %zu elements of %zu bytes are more than can be addressed",
                 count, size);
        return NULL;
    }
    bytes = (bytes + MDE__ALIGNMENT - 1) / MDE__ALIGNMENT * MDE__ALIGNMENT;
    if (!c->current || c->current->capacity - c->used < bytes) {
        mde__chunk *next = c->current ? c->current->next : c->first;
        if (!next || next->capacity < bytes) {
            mde__chunk *fresh = mde__new_chunk(c, bytes);
            if (!fresh) return NULL;
            fresh->next = next;
            if (c->current) c->current->next = fresh;
            else c->first = fresh;
            next = fresh;
        }
        c->current = next;
        c->used = 0;
    }
    p = c->current->bytes + c->used;
    c->used += bytes;
    return p;
}

MDEDEF mde_mark mde_arena_mark(mde_context *c)
{
    mde_mark mark;
    mark.chunk = c ? c->current : NULL;
    mark.used = c ? c->used : 0;
    mark.nodes = c ? c->tape_count : 0;
    return mark;
}

MDEDEF void mde_arena_rewind(mde_context *c, mde_mark mark)
{
    if (!c) return;
    c->current = (mde__chunk *)mark.chunk;
    c->used = mark.used;
    if (mark.nodes < c->tape_count) c->tape_count = mark.nodes;
}

/* ---- Context ---- */

static int mde__simd_choose(int simd);
static const char *mde__simd_text(int simd);

static const char *mde__why_other_bits(void)
{
    volatile double a = 1.0 + 1.0 / 134217728.0, b = 1.0 - 1.0 / 134217728.0, one = 1.0;
    volatile float denormal = 1e-40f;
    double x = a, y = b, z = one;
    double r = x * y - z;               /* 0 when rounded twice, as it must be where no fma is written */
#ifdef FLT_EVAL_METHOD
    const int method = (int)FLT_EVAL_METHOD;
    if (method != 0 && method != 16) {
        return "results have other bits than elsewhere: floats are kept in more bits than they have (FLT_EVAL_METHOD "
               "is not 0); compile with -msse2 -mfpmath=sse on x86, with -fexcess-precision=fast on s390x";
    }
#endif
    if (r != 0.0) {
        return "results have other bits than elsewhere: multiplications and additions are fused; compile without "
               "-ffp-contract=fast";
    }
    denormal = denormal * 0.5f;
    if (!(denormal > 0)) {
        return "results have other bits than elsewhere: the processor rounds denormal numbers to zero; compile and "
               "link without -ffast-math";
    }
    return NULL;
}

MDEDEF mde_context *mde_context_create(const mde_context_desc *desc)
{
    mde_context_desc defaults;
    mde_context *c;
    memset(&defaults, 0, sizeof defaults);
    if (!desc) desc = &defaults;
    c = (mde_context *)(desc->allocate && desc->release ? desc->allocate(sizeof *c, desc->user)
                                                        : MDE_MALLOC(sizeof *c));
    if (!c) return NULL;
    memset(c, 0, sizeof *c);
    c->allocate = desc->allocate && desc->release ? desc->allocate : mde__default_allocate;
    c->release = desc->allocate && desc->release ? desc->release : mde__default_release;
    c->user = desc->user;
    c->max_bytes = desc->max_bytes;
    c->recording = 1;
    c->other_bits = mde__why_other_bits();
#ifdef _OPENMP
    c->threads = desc->threads > 0 ? desc->threads : omp_get_max_threads();
#else
    c->threads = 1;
#endif
    if (c->threads > 256) c->threads = 256;
    c->simd = mde__simd_choose(desc->simd);
    if (!c->simd) {
        c->simd = MDE_SIMD_PORTABLE;
        mde_fail(c, MDE_BAD_ARGUMENT, "context: instruction set %d is not to be had on this machine", desc->simd);
    }
    if ((desc->allocate != NULL) != (desc->release != NULL)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "context: allocate and release must be given both or neither");
    }
    if (desc->threads < 0) mde_fail(c, MDE_BAD_ARGUMENT, "context: threads is %d; expected 0 or more", desc->threads);
    return c;
}

MDEDEF void mde_context_free(mde_context *c)
{
    if (!c) return;
    while (c->blocks) mde_release(c, (unsigned char *)c->blocks + MDE__ALIGNMENT);
    c->release(c, c->user);
}

MDEDEF size_t mde_held_bytes(const mde_context *c)
{
    return c ? c->held : 0;
}

MDEDEF size_t mde_peak_bytes(const mde_context *c)
{
    return c ? c->peak : 0;
}

MDEDEF const char *mde_version(void)
{
    return MDE_VERSION;
}

MDEDEF const char *mde_status_name(mde_status status)
{
    static const char *const names[] = {
        "MDE_OK", "MDE_STOPPED", "MDE_OUT_OF_MEMORY", "MDE_BAD_ARGUMENT", "MDE_BAD_SHAPE", "MDE_BAD_FILE", "MDE_IO",
        "MDE_NOT_FINITE", "MDE_NOT_DIFFERENTIABLE"
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown status";
}

MDEDEF int mde_threads(const mde_context *c)
{
    return c ? c->threads : 1;
}

MDEDEF const char *mde_other_bits(const mde_context *c)
{
    return c ? c->other_bits : NULL;
}

MDEDEF const char *mde_simd_name(const mde_context *c)
{
    return c ? mde__simd_text(c->simd) : "none";
}

/* ---- Threads and time ---- */

MDEDEF void mde_parallel_for(mde_context *c, int64_t count, mde_parallel_fn *fn, void *user)
{
#ifdef _OPENMP
    if (c && c->threads > 1 && count > 1) {
        int threads = count < c->threads ? (int)count : c->threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int64_t i = 0; i < count; i++) fn(i, user);
        return;
    }
#endif
    (void)c;
    for (int64_t i = 0; i < count; i++) fn(i, user);
}

MDEDEF double mde_seconds(void)
{
#if defined(_WIN32)
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)now.QuadPart / (double)frequency.QuadPart;
#elif defined(CLOCK_MONOTONIC)
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
#else
    struct timeval now;
    gettimeofday(&now, NULL);
    return (double)now.tv_sec + (double)now.tv_usec * 1e-6;
#endif
}

/* ---- Files ---- */

#ifndef MDE_NO_STDIO

#if defined(__STRICT_ANSI__) && !defined(__cplusplus) && !defined(_WIN32)
ssize_t readlink(const char *path, char *link, size_t size);    /* <unistd.h> keeps it to itself under -std=c99 */
#endif

#ifdef _WIN32
/* File names are UTF-8 everywhere; Windows wants UTF-16. */
static int mde__wide(const char *path, wchar_t wide[1024])
{
    int good = MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 1024) > 0;
    if (!good) errno = ENAMETOOLONG;
    return good;
}

/* 1 when a function of Windows has done its work; else the reason goes to errno, for which there are words. */
static int mde__succeeded(int good)
{
    static const struct { DWORD windows; int reason; } reasons[] = {
        { ERROR_FILE_NOT_FOUND, ENOENT }, { ERROR_PATH_NOT_FOUND, ENOENT }, { ERROR_INVALID_NAME, ENOENT },
        { ERROR_INVALID_DRIVE, ENOENT }, { ERROR_BAD_NETPATH, ENOENT }, { ERROR_BAD_NET_NAME, ENOENT },
        { ERROR_ACCESS_DENIED, EACCES }, { ERROR_SHARING_VIOLATION, EACCES }, { ERROR_LOCK_VIOLATION, EACCES },
        { ERROR_WRITE_PROTECT, EROFS }, { ERROR_DISK_FULL, ENOSPC }, { ERROR_HANDLE_DISK_FULL, ENOSPC },
        { ERROR_ALREADY_EXISTS, EEXIST }, { ERROR_FILE_EXISTS, EEXIST }, { ERROR_DIRECTORY, ENOTDIR },
        { ERROR_FILENAME_EXCED_RANGE, ENAMETOOLONG }, { ERROR_NOT_ENOUGH_MEMORY, ENOMEM }
    };
    DWORD error = GetLastError();
    if (good) return 1;
    errno = EIO;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].windows == error) errno = reasons[i].reason;
    }
    return 0;
}
#endif

static FILE *mde__open(const char *path)
{
#ifdef _WIN32
    wchar_t wide[1024];
    return mde__wide(path, wide) ? _wfopen(wide, L"rb") : NULL;
#else
    return fopen(path, "rb");
#endif
}

/* 'f' for a file, 'd' for a folder, 'o' for what else has a name, such as a device or a pipe; 0 for nothing. */
static char mde__path_kind(const char *path)
{
#ifdef _WIN32
    wchar_t wide[1024];
    DWORD attributes = mde__wide(path, wide) ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    if (attributes == INVALID_FILE_ATTRIBUTES) return 0;
    return attributes & FILE_ATTRIBUTE_DIRECTORY ? 'd' : 'f';
#else
    struct stat info;
    if (stat(path, &info) != 0) return 0;
    return S_ISREG(info.st_mode) ? 'f' : S_ISDIR(info.st_mode) ? 'd' : 'o';
#endif
}

MDEDEF int mde_is_folder(const char *path)
{
    return mde__path_kind(path) == 'd';
}

MDEDEF int mde_is_file(const char *path)
{
    return mde__path_kind(path) == 'f';
}

static void mde__remove_file(const char *path)
{
#ifdef _WIN32
    wchar_t wide[1024];
    if (mde__wide(path, wide)) DeleteFileW(wide);
#else
    remove(path);
#endif
}

static int mde__rename(const char *from, const char *to)
{
#ifdef _WIN32
    wchar_t wide_from[1024], wide_to[1024];
    return mde__wide(from, wide_from) && mde__wide(to, wide_to) &&
           mde__succeeded(MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING));
#else
    return rename(from, to) == 0;
#endif
}

static FILE *mde__open_to_read(mde_context *c, const char *path)
{
    FILE *file = NULL;
    if (mde__bad(c)) return NULL;
    if (!path || !*path) mde_fail(c, MDE_BAD_ARGUMENT, "read: no file name was given");
    else if (mde_is_folder(path)) mde_fail(c, MDE_IO, "%s: is a folder; expected a file", path);
    else if (!(file = mde__open(path))) mde_fail(c, MDE_IO, "%s: cannot be opened: %s", path, strerror(errno));
    return file;
}

/* The whole file and a zero byte behind it. */
MDEDEF unsigned char *mde_file_read(mde_context *c, const char *path, size_t limit, size_t *size)
{
    size_t capacity = (size_t)1 << 16, length = 0;
    unsigned char *bytes = NULL;
    FILE *file = mde__open_to_read(c, path);
    *size = 0;
    if (!file) return NULL;
    bytes = (unsigned char *)mde__allocate_block(c, capacity, 1);
    while (bytes) {
        unsigned char *larger;
        length += fread(bytes + length, 1, capacity - 1 - length, file);
        if (length < capacity - 1 || length > limit) break;
        larger = (unsigned char *)mde__realloc(c, bytes, capacity, 2);
        if (!larger) break;
        bytes = larger;
        capacity *= 2;
    }
    if (ferror(file)) {
        mde_fail(c, MDE_IO, "%s: cannot be read: %s", path, strerror(errno));
    } else if (length > limit) {
        mde_fail(c, MDE_BAD_FILE, "%s: is larger than the %zu bytes that are accepted here", path, limit);
    }
    fclose(file);
    if (mde__bad(c)) {
        mde_release(c, bytes);
        return NULL;
    }
    bytes[length] = 0;
    *size = length;
    return bytes;
}

static void mde__close(int file)
{
#ifdef _WIN32
    _close(file);
#else
    close(file);
#endif
}

static int mde__seek(int file, uint64_t at, int whence, uint64_t *reached)
{
#ifdef _WIN32
    int64_t to = _lseeki64(file, (int64_t)at, whence);
#else
    off_t to = (off_t)at;       /* of 32 bits on some machines */
    if (to < 0 || (uint64_t)to != at) {
        errno = EOVERFLOW;
        return 0;
    }
    to = lseek(file, to, whence);
#endif
    *reached = to < 0 ? 0 : (uint64_t)to;
    return to >= 0;
}

/* Opens a file of which blocks are read, and finds its size; -1, and the reason in errno, on failure. */
static int mde__open_blocks(const char *path, uint64_t *size)
{
#ifdef _WIN32
    wchar_t wide[1024];
    int file = mde__wide(path, wide) ? _wopen(wide, _O_RDONLY | _O_BINARY) : -1;
#else
    int file = open(path, O_RDONLY);
#endif
    *size = 0;
    if (file >= 0 && !mde__seek(file, 0, SEEK_END, size)) {
        int reason = errno;
        mde__close(file);
        errno = reason;
        file = -1;
    }
    return file;
}

/* 1 when all was read; 0, and the reason in errno, which is 0 where the file ends before. */
static int mde__read_block(int file, uint64_t at, void *bytes, size_t size)
{
    char *p = (char *)bytes;
    uint64_t reached;
    if (!mde__seek(file, at, SEEK_SET, &reached)) return 0;
    while (size) {
#ifdef _WIN32
        int done = _read(file, p, size < 1 << 20 ? (unsigned)size : 1u << 20);
#else
        ssize_t done = read(file, p, size < (size_t)1 << 30 ? size : (size_t)1 << 30);
        if (done < 0 && errno == EINTR) continue;
#endif
        if (done == 0) errno = 0;
        if (done <= 0) return 0;
        p += done;
        size -= (size_t)done;
    }
    return 1;
}

MDEDEF mde_status mde_file_fingerprint(mde_context *c, const char *path, uint64_t *size, uint64_t *fingerprint)
{
    unsigned char block[4096];
    FILE *file = mde__open_to_read(c, path);
    size_t count;
    *size = 0;
    *fingerprint = MDE__HASH_START;
    if (!file) return mde_context_status(c);
    do {
        count = fread(block, 1, sizeof block, file);
        *fingerprint = mde__hash(*fingerprint, block, count);
        *size += count;
    } while (count == sizeof block);
    if (ferror(file)) mde_fail(c, MDE_IO, "%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    return mde_context_status(c);
}

/* 1 for the name of a file that a process has open, as /dev/stdout leads to one: no other can be put in its stead. */
static int mde__is_open_file(const char *path)
{
    return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/fd/", 8) == 0;
}

/* Writes to a descriptor; 0, and the reason in errno, on failure. sync: waits until the disk has it all. */
static int mde__write_all(int file, const void *bytes, size_t size, int sync)
{
    const char *p = (const char *)bytes;
    while (size) {
#ifdef _WIN32
        int done = _write(file, p, size < 1 << 20 ? (unsigned)size : 1u << 20);
#else
        ssize_t done = write(file, p, size < (size_t)1 << 30 ? size : (size_t)1 << 30);
        if (done < 0 && errno == EINTR) continue;
#endif
        if (done < 0) return 0;
        p += done;
        size -= (size_t)done;
    }
#ifdef _WIN32
    return !sync || _commit(file) == 0;
#else
    if (sync && fsync(file) != 0 && errno != EINVAL && errno != EROFS) return 0;    /* no disk behind it */
    return close(dup(file)) == 0;       /* what a network file system says at the end only */
#endif
}

/* 1 for what separates the parts of a path: what follows the colon of a drive is a name, too. */
static int mde__separates(char byte)
{
#ifdef _WIN32
    if (byte == '\\' || byte == ':') return 1;
#endif
    return byte == '/';
}

/* Of a path's first `length` bytes those up to the last separator. */
static size_t mde__folder_length(const char *path, size_t length)
{
    while (length > 0 && !mde__separates(path[length - 1])) length--;
    return length;
}

MDEDEF const char *mde_path_name(const char *path, size_t *length)
{
    size_t end = strlen(path), start;
    while (end > 1 && mde__separates(path[end - 1])) end--;
    start = mde__folder_length(path, end);
    *length = end - start;
    return path + start;
}

/* Opens a new file for writing; one of that name that a dead writer left is removed. -1 on failure, with EEXIST when
   another writer has it. A living writer holds a lock on its file, from before it is complete until it is renamed;
   where there are no locks, one whose last byte is an hour old is taken for dead. */
static int mde__open_temporary(const char *path)
{
    int file;
    for (int tries = 0; tries < 100; tries++) {
#ifdef _WIN32
        wchar_t wide[1024];
        struct _stat64 info;
        if (!mde__wide(path, wide)) return -1;
        file = _wopen(wide, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, _S_IREAD | _S_IWRITE);
        if (file >= 0 || errno != EEXIST) return file;
        if (_wstat64(wide, &info) != 0 || time(NULL) - info.st_mtime < 3600 || !DeleteFileW(wide)) break;
#else
        struct stat opened, named;
        int fresh, locked, same, live;
        file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
        fresh = file >= 0;
        if (!fresh && errno != EEXIST) return -1;
        if (!fresh) file = open(path, O_WRONLY | O_NONBLOCK);
        if (file < 0 && errno == ENOENT) continue;
        if (file < 0) break;
        locked = flock(file, LOCK_EX | LOCK_NB) == 0;
        live = !locked && errno == EWOULDBLOCK;
        same = fstat(file, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
               opened.st_dev == named.st_dev;
        if (fresh && same && !live) return file;
        if (!fresh && same && !live && !locked) live = time(NULL) - named.st_mtime < 3600;
        if (!fresh && same && !live) unlink(path);      /* under the lock, so that it is no other's */
        mde__close(file);
        if (live && !fresh) break;
#endif
    }
    errno = EEXIST;
    return -1;
}

/* A file beside the target, [length] for its name. The name begins with a point, which readers of folders pass over,
   and follows from the target's, so that the next writer of the target finds what was left. */
static int mde__open_beside(const char *target, char *name, size_t length)
{
    size_t folder = mde__folder_length(target, strlen(target));
    unsigned long long hash = mde__hash(MDE__HASH_START, target + folder, strlen(target + folder));
    int number, file = -1, next;
    for (number = 0; file < 0 && number < 1000; number++) {
        snprintf(name, length, "%.*s.mde-%016llx-%03d.tmp", (int)folder, target, hash, number);
        file = mde__open_temporary(name);
        if (file < 0 && errno != EEXIST) return -1;
    }
    if (file < 0) return -1;
    /* One more that is left, if two writers died. */
    snprintf(name, length, "%.*s.mde-%016llx-%03d.tmp", (int)folder, target, hash, number);
    next = mde__path_kind(name) ? mde__open_temporary(name) : -1;
    if (next >= 0) {
        mde__remove_file(name);
        mde__close(next);
    }
    snprintf(name, length, "%.*s.mde-%016llx-%03d.tmp", (int)folder, target, hash, number - 1);
    return file;
}

/* Where writing to path ends: what its links lead to. A new block. */
static char *mde__follow_links(mde_context *c, const char *path)
{
    char *at = mde__copy_text(c, path);
#ifndef _WIN32
    char link[4096], *next;
    int hops = 0;
    while (at && !mde__is_open_file(at)) {
        ssize_t size = readlink(at, link, sizeof link - 1);
        size_t cut = size > 0 && link[0] != '/' ? mde__folder_length(at, strlen(at)) : 0;
        if (size <= 0) break;
        link[size] = 0;
        next = hops++ < 40 ? mde__print(c, "%.*s%s", (int)cut, at, link) : NULL;
        if (hops > 40) mde_fail(c, MDE_IO, "%s: is a link in a circle", path);
        mde_release(c, at);
        at = next;
    }
#endif
    return at;
}

/* Whether a file is only tried, up to the renaming, or written, so that the disk has the bytes before the old ones go
   where they took hours to make. */
typedef enum mde__effort { MDE__TRY, MDE__WRITE, MDE__WRITE_TO_DISK } mde__effort;

/* A file is there whole or not at all: a temporary file beside it takes its name when it is complete. What the path is
   stays as it is: a link leads to the file that is written, a file keeps its mode, a device or pipe, but no disk, is
   written to. */
static mde_status mde__file_replace(mde_context *c, const char *path, const void *bytes, size_t size,
                                    mde__effort effort)
{
    char *target, *name = NULL, kind;
    size_t length;
    int file = -1, reason = 0, direct, only_try = effort == MDE__TRY;
#ifndef _WIN32
    struct stat info;
#endif
    if (mde__bad(c)) return mde_context_status(c);
    if (!path || !*path) return mde_fail(c, MDE_BAD_ARGUMENT, "write: no file name was given");
    target = mde__follow_links(c, path);
    if (!target) return c->status;
    length = strlen(target) + 64;
    name = (char *)mde_alloc(c, length, 1);
    kind = mde__path_kind(target);
    direct = kind == 'o' || mde__is_open_file(target);
    if (kind == 'd') mde_fail(c, MDE_IO, "%s: is a folder; expected a file", path);
#ifndef _WIN32
    if (kind == 'o' && stat(target, &info) == 0 && S_ISBLK(info.st_mode)) {
        mde_fail(c, MDE_IO, "%s: is a disk; expected a file", path);
    }
#endif
    if (!mde__bad(c)) {
        errno = 0;
#ifdef _WIN32
        file = mde__open_beside(target, name, length);
#else
        if ((kind == 'f' || (direct && only_try)) && access(target, W_OK) != 0) file = -1;
        else if (direct && only_try) file = open("/dev/null", O_WRONLY);
        else file = direct ? open(target, O_WRONLY | (kind == 'f' ? O_TRUNC : 0))
                           : mde__open_beside(target, name, length);
#endif
        if (file < 0 || !mde__write_all(file, bytes, size, effort == MDE__WRITE_TO_DISK && !direct)) {
            reason = errno ? errno : EIO;
        }
#ifdef _WIN32
        if (file >= 0) mde__close(file);    /* an open file cannot be renamed */
#else
        if (!reason && kind == 'f' && !direct && stat(target, &info) == 0) chmod(name, info.st_mode & 07777);
#endif
        if (!reason && !direct && !only_try && !mde__rename(name, target)) reason = errno ? errno : EIO;
        if ((reason || only_try) && file >= 0 && !direct) mde__remove_file(name);
        if (only_try && !reason && !direct && mde__path_kind(name)) reason = errno ? errno : EIO;
#ifndef _WIN32
        if (file >= 0) mde__close(file);
#endif
        if (reason) mde_fail(c, MDE_IO, "%s: cannot be written: %s", path, strerror(reason));
    }
    mde_release(c, name);
    mde_release(c, target);
    return c->status;
}

MDEDEF mde_status mde_file_write(mde_context *c, const char *path, const void *bytes, size_t size)
{
    return mde__file_replace(c, path, bytes, size, MDE__WRITE);
}

MDEDEF mde_status mde_file_try(mde_context *c, const char *path)
{
    const size_t size = 65536;
    void *zeros = mde_alloc(c, size, 1);
    if (zeros) mde__file_replace(c, path, zeros, size, MDE__TRY);
    mde_release(c, zeros);
    return mde_context_status(c);
}

MDEDEF mde_status mde_make_folder(mde_context *c, const char *path)
{
    char *partial;
    size_t failed = 0;
    int reason = 0;
    if (mde__bad(c)) return mde_context_status(c);
    if (!path || !*path) return mde_fail(c, MDE_BAD_ARGUMENT, "make folder: no name was given");
    partial = mde__copy_text(c, path);
    if (!partial) return c->status;
    /* What cannot be made is no mistake where more can be inside it, such as the computer of a network share. */
    for (size_t i = 1; partial[i - 1]; i++) {
        char end = partial[i];
        if (end != 0 && (end == ':' || !mde__separates(end))) continue;
        partial[i] = 0;
        if (mde_is_folder(partial)) {
            failed = 0;
        } else {
#ifdef _WIN32
            wchar_t wide[1024];
            int made = mde__wide(partial, wide) && mde__succeeded(CreateDirectoryW(wide, NULL));
#else
            int made = mkdir(partial, 0777) == 0;
#endif
            int why = errno;            /* before another look changes it */
            if (made || mde_is_folder(partial)) failed = 0;
            else if (!failed) failed = i, reason = why;
        }
        partial[i] = end;
    }
    partial[failed] = 0;
    if (failed) {
        mde_fail(c, MDE_IO, "%s: the folder cannot be made: %s", partial,
                 mde__path_kind(partial) ? "a file has that name" : strerror(reason));
    }
    mde_release(c, partial);
    return c->status;
}

static int mde__compare_names(const void *a, const void *b)
{
    const char *const *x = (const char *const *)a, *const *y = (const char *const *)b;
    return strcmp(*x, *y);
}

MDEDEF void mde_names_free(mde_context *c, mde_names *names)
{
    for (int i = 0; i < names->count; i++) mde_release(c, names->items[i]);
    mde_release(c, names->items);
    memset(names, 0, sizeof *names);
}

static mde_status mde_names_add(mde_context *c, mde_names *names, const char *name)
{
    char *copy, **items = (char **)mde__room(c, names->items, (size_t)names->count + 1, sizeof *items);
    if (items) names->items = items;
    copy = mde__copy_text(c, name);
    if (copy) names->items[names->count++] = copy;
    return c->status;
}

/* Entries of a folder in byte order, without hidden ones. */
MDEDEF mde_status mde_folder_list(mde_context *c, const char *path, mde_names *names)
{
    memset(names, 0, sizeof *names);
    if (mde__bad(c)) return mde_context_status(c);
#ifdef _WIN32
    WIN32_FIND_DATAW found;
    wchar_t wide[1024];
    char pattern[4096], name[1024];
    HANDLE handle = INVALID_HANDLE_VALUE;
    snprintf(pattern, sizeof pattern, "%s/*", path);
    if (mde__wide(pattern, wide)) mde__succeeded((handle = FindFirstFileW(wide, &found)) != INVALID_HANDLE_VALUE);
    if (handle == INVALID_HANDLE_VALUE) {
        return mde_fail(c, MDE_IO, "%s: the folder cannot be read: %s", path, strerror(errno));
    }
    do {
        if (WideCharToMultiByte(CP_UTF8, 0, found.cFileName, -1, name, sizeof name, NULL, NULL) <= 0) continue;
        if (name[0] != '.' && mde_names_add(c, names, name) != MDE_OK) break;
    } while (FindNextFileW(handle, &found));
    if (!mde__bad(c) && !mde__succeeded(GetLastError() == ERROR_NO_MORE_FILES)) {
        mde_fail(c, MDE_IO, "%s: the folder cannot be read: %s", path, strerror(errno));
    }
    FindClose(handle);
#else
    struct dirent *entry;
    DIR *folder = opendir(path);
    if (!folder) return mde_fail(c, MDE_IO, "%s: the folder cannot be read: %s", path, strerror(errno));
    for (errno = 0; (entry = readdir(folder)) != NULL; errno = 0) {
        if (entry->d_name[0] != '.' && mde_names_add(c, names, entry->d_name) != MDE_OK) break;
    }
    if (!entry && errno) mde_fail(c, MDE_IO, "%s: the folder cannot be read: %s", path, strerror(errno));
    closedir(folder);
#endif
    if (c->status != MDE_OK) mde_names_free(c, names);
    else if (names->count > 1) qsort(names->items, (size_t)names->count, sizeof *names->items, mde__compare_names);
    return c->status;
}

/* folder/name in a new block. */
static char *mde__join_path(mde_context *c, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    return mde__print(c, length && !mde__separates(folder[length - 1]) ? "%s/%s" : "%s%s", folder, name);
}

#endif /* MDE_NO_STDIO */

/* ======================================================================
   5. FILES AND FORMATS
   ====================================================================== */

/* Text that grows, JSON, CSV, .npy and safetensors. Bytes from outside enter here and nowhere else. JSON and CSV are
   walked twice by the same code: the first walk checks everything and counts, the second one fills blocks of just that
   size; the binary formats compare what their headers promise with the bytes that are there before they allocate.
   Numbers are put together and taken apart byte by byte, whatever the machine's order of bytes. */

#define MDE__NPY_HEADER 10000                           /* bytes; NumPy's own limit for files it does not trust */
#define MDE__SAFETENSORS_HEADER ((uint64_t)100000000)   /* bytes; the limit of the format's reference reader */

/* ---- Text ---- */

MDEDEF mde_text *mde_text_create(mde_context *c)
{
    mde_text *t = (mde_text *)mde_alloc(c, 1, sizeof *t);
    if (!t) return NULL;
    t->context = c;
    t->capacity = 256;
    t->bytes = (char *)mde_alloc(c, t->capacity, 1);
    if (!t->bytes) {
        mde_release(c, t);
        return NULL;
    }
    return t;
}

MDEDEF void mde_text_free(mde_text *t)
{
    if (!t) return;
    MDE__RELEASE(t->context, t->bytes, t);
}

static void mde__text_add_bytes(mde_text *t, const char *bytes, size_t length)
{
    char *room;
    if (!t || mde__bad(t->context)) return;
    if (length > SIZE_MAX / 4 - t->length) {
        mde_fail(t->context, MDE_OUT_OF_MEMORY, "out of memory: a text of %zu bytes cannot take %zu more", t->length,
                 length);
        return;
    }
    room = (char *)mde__room(t->context, t->bytes, t->length + length + 1, 1);
    if (!room) return;
    t->bytes = room;
    t->capacity = mde__block_of(room)->bytes;
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
    t->bytes[t->length] = 0;
}

MDEDEF void mde_text_add(mde_text *t, const char *string)
{
    if (string) mde__text_add_bytes(t, string, strlen(string));
}

/* Makes a printed double the same everywhere: a point in any locale, and no sign at nan or at zero (-0.001 with two
   decimals is 0.00). */
static void mde__tidy_number(char *buffer)
{
    char *sign = buffer + strspn(buffer, " ");
    mde__unlocalize(buffer);
    if (*sign != '-' || (strncmp(sign + 1, "nan", 3) != 0 && sign[1 + strspn(sign + 1, "0. ")])) return;
    if (sign > buffer) *sign = ' ';
    else memmove(sign, sign + 1, strlen(sign));
}

/* Style 'g' has significant digits, 'f' decimals. The longest text, that of the greatest double with 17 decimals, has
   328 bytes. */
static size_t mde__print_number(char buffer[400], double value, char style, int digits)
{
    if (digits < (style == 'g')) digits = style == 'g';
    if (digits > 17) digits = 17;
    if (style == 'g') snprintf(buffer, 400, "%.*g", digits, value);
    else snprintf(buffer, 400, "%.*f", digits, value);
    mde__tidy_number(buffer);
    return strlen(buffer);
}

MDEDEF void mde_text_add_number(mde_text *t, double value, int digits)
{
    char buffer[400];
    mde__text_add_bytes(t, buffer, mde__print_number(buffer, value, 'g', digits));
}

MDEDEF void mde_text_add_fixed(mde_text *t, double value, int decimals)
{
    char buffer[400];
    mde__text_add_bytes(t, buffer, mde__print_number(buffer, value, 'f', decimals));
}

/* Length of a conversion of printf at p (behind the %), 0 if it is none of those that are known here. */
static size_t mde__conversion_length(const char *p)
{
    size_t n = strspn(p, "-0");
    n += strspn(p + n, "0123456789");
    if (p[n] == '.') n += 1 + strspn(p + n + 1, "0123456789");
    if (n > 12) return 0;
    if (p[n] == 'l' && p[n + 1] == 'l' && p[n + 2] && strchr("dux", p[n + 2])) return n + 3;
    if (p[n] == 'z' && p[n + 1] == 'u') return n + 2;
    return p[n] && strchr("sdcgf%", p[n]) ? n + 1 : 0;
}

static void mde__format_list(mde_text *t, int html, const char *format, va_list arguments)
{
    char buffer[400];
    mde__arguments rest;
    size_t length;
    if (!t || !format || mde__bad(t->context)) return;
    va_copy(rest.list, arguments);
    for (const char *p = format; *p; p += length) {
        char kind;
        length = strcspn(p, "%");
        mde__text_add_bytes(t, p, length);
        if (length) continue;
        length = 1 + mde__conversion_length(p + 1);
        kind = p[length - 1];
        if (length == 1) {
            mde_fail(t->context, MDE_BAD_ARGUMENT, "text: the format \"%.200s\" has a conversion that is not known",
                     format);
            break;
        }
        if (kind == 's' && length == 2) {
            const char *string = va_arg(rest.list, const char *);
            if (html) mde_text_add_html(t, string);
            else mde_text_add(t, string);
        } else if (kind == 'g' && length == 2) {
            mde_text_add_number(t, va_arg(rest.list, double), 9);
        } else {
            mde__print_conversion(buffer, sizeof buffer, p, &rest);
            if (kind == 'g' || kind == 'f') mde__tidy_number(buffer);
            mde_text_add(t, buffer);
        }
    }
    va_end(rest.list);
}

MDEDEF void mde_text_format(mde_text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mde__format_list(t, 0, format, arguments);
    va_end(arguments);
}

MDEDEF void mde_text_format_html(mde_text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mde__format_list(t, 1, format, arguments);
    va_end(arguments);
}

/* Bytes of the UTF-8 character at p, and its number; 0 when there is none, as RFC 3629 has it: no overlong forms, no
   surrogates, nothing past U+10FFFF. */
static size_t mde__utf8_read(const char *text, size_t length, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t minimum, value;
    size_t size;
    if (length == 0) return 0;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    if (p[0] >= 0xC2 && p[0] < 0xE0) size = 2, minimum = 0x80, value = p[0] & 0x1Fu;
    else if (p[0] >= 0xE0 && p[0] < 0xF0) size = 3, minimum = 0x800, value = p[0] & 0x0Fu;
    else if (p[0] >= 0xF0 && p[0] < 0xF5) size = 4, minimum = 0x10000, value = p[0] & 0x07u;
    else return 0;
    if (size > length) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xC0u) != 0x80u) return 0;
        value = value << 6 | (p[i] & 0x3Fu);
    }
    if (value < minimum || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return 0;
    *code = value;
    return size;
}

static int mde__utf8_valid(const char *text, size_t length)
{
    size_t i = 0, size;
    uint32_t code;
    for (; i < length; i += size) {
        size = mde__utf8_read(text + i, length - i, &code);
        if (size == 0) return 0;
    }
    return 1;
}

static size_t mde__utf8_write(char out[4], uint32_t code)
{
    static const unsigned char first[5] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(first[size] | code);
    return size;
}

#define MDE__REPLACEMENT "\xEF\xBF\xBD"  /* U+FFFD in the place of a byte that is no text */

MDEDEF void mde_text_add_json(mde_text *t, const char *string)
{
    const char *p = string ? string : "", *end = p + strlen(p);
    mde_text_add(t, "\"");
    while (p < end) {
        uint32_t code = 0;
        size_t size = mde__utf8_read(p, (size_t)(end - p), &code);
        if (size == 0) {
            mde_text_add(t, MDE__REPLACEMENT);
            size = 1;
        } else if (code == '"' || code == '\\') {
            mde_text_add(t, "\\");
            mde__text_add_bytes(t, p, 1);
        } else if (code == '\n') {
            mde_text_add(t, "\\n");
        } else if (code < 0x20) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code);
            mde_text_add(t, escape);
        } else {
            mde__text_add_bytes(t, p, size);
        }
        p += size;
    }
    mde_text_add(t, "\"");
}

MDEDEF void mde_text_add_html(mde_text *t, const char *string)
{
    const char *p = string ? string : "", *end = p + strlen(p);
    while (p < end) {
        uint32_t code = 0;
        size_t size = mde__utf8_read(p, (size_t)(end - p), &code);
        if (size == 0 || (code < 0x20 && code != '\t' && code != '\n' && code != '\r')) {
            mde_text_add(t, MDE__REPLACEMENT);
            size = 1;
        } else if (code < 0x80 && code > 0 && strchr("&<>\"", (int)code)) {
            mde_text_add(t, code == '&' ? "&amp;" : code == '<' ? "&lt;" : code == '>' ? "&gt;" : "&quot;");
        } else {
            mde__text_add_bytes(t, p, size);
        }
        p += size;
    }
}

/* A name that occurs twice, or NULL; also NULL with an error when memory lacks. A table of hashes keeps the time of a
   large file linear. */
static const char *mde__find_twice(mde_context *c, size_t count, const char *const *names)
{
    size_t slots = 16, at;
    const char *few[16], **table = few, *twice = NULL;
    memset(few, 0, sizeof few);
    while (slots / 2 < count) slots *= 2;
    if (slots > 16) table = (const char **)mde_alloc(c, slots, sizeof *table);
    if (!table) return NULL;
    for (size_t i = 0; i < count && !twice; i++) {
        at = (size_t)mde__hash(MDE__HASH_START, names[i], strlen(names[i])) & (slots - 1);
        for (; table[at] && !twice; at = (at + 1) & (slots - 1)) if (strcmp(table[at], names[i]) == 0) twice = names[i];
        table[at] = names[i];
    }
    if (table != few) mde_release(c, table);
    return twice;
}

MDEDEF void mde_text_add_csv(mde_text *t, const char *string)
{
    const char *p;
    if (!string || !strpbrk(string, ",\"\r\n")) {
        mde_text_add(t, string);
        return;
    }
    mde_text_add(t, "\"");
    for (p = string; *p; p++) mde_text_format(t, *p == '"' ? "%c%c" : "%c", *p, *p);
    mde_text_add(t, "\"");
}

/* ---- JSON (RFC 8259) ---- */

typedef struct mde__json_reader {
    mde_context *context;
    const char *name, *text;
    size_t length, at;
    mde_json *nodes;            /* NULL in the walk that counts, and then all nodes are `dummy` */
    mde_json dummy;
    size_t node_count;
    char *strings;              /* NULL in the walk that counts */
    size_t string_bytes;
} mde__json_reader;

static int mde__json_fail(mde__json_reader *r, size_t at, const char *what, const char *which)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < r->length; i++) {
        unsigned char byte = (unsigned char)r->text[i];
        if (byte == '\n') {
            line++;
            column = 1;
        } else if ((byte & 0xC0u) != 0x80u) {
            column++;
        }
    }
    return !mde_fail(r->context, MDE_BAD_FILE, "%s line %zu column %zu: %s%.200s", r->name, line, column, what, which);
}

/* What comes next after white space; 0 at the end. */
static char mde__json_peek(mde__json_reader *r)
{
    while (r->at < r->length) {
        char next = r->text[r->at];
        if (next != ' ' && next != '\t' && next != '\n' && next != '\r') return next;
        r->at++;
    }
    return 0;
}

static void mde__json_put(mde__json_reader *r, const char *bytes, size_t size)
{
    if (r->strings) memcpy(r->strings + r->string_bytes, bytes, size);
    r->string_bytes += size;
}

/* Four hexadecimal digits; -1 when they are something else. */
static int32_t mde__json_hex(mde__json_reader *r)
{
    int32_t value = 0;
    if (r->length - r->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char digit = r->text[r->at++];
        if (digit >= '0' && digit <= '9') value = value * 16 + (digit - '0');
        else if (digit >= 'a' && digit <= 'f') value = value * 16 + (digit - 'a' + 10);
        else if (digit >= 'A' && digit <= 'F') value = value * 16 + (digit - 'A' + 10);
        else return -1;
    }
    return value;
}

/* Behind a backslash. */
static int mde__json_escape(mde__json_reader *r)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    size_t start = r->at - 1;
    char kind = r->at < r->length ? r->text[r->at++] : (char)0, bytes[4];
    const char *found = kind ? strchr(letters, kind) : NULL;
    if (found) {
        mde__json_put(r, meanings + (found - letters), 1);
        return 1;
    }
    if (kind == 'u') {
        int32_t high = mde__json_hex(r), low;
        if (high >= 0xD800 && high < 0xDC00 && r->length - r->at >= 2 && r->text[r->at] == '\\' &&
            r->text[r->at + 1] == 'u') {
            r->at += 2;
            low = mde__json_hex(r);
            high = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00) : -1;
        }
        if (high >= 0 && (high < 0xD800 || high >= 0xE000)) {
            mde__json_put(r, bytes, mde__utf8_write(bytes, (uint32_t)high));
            return 1;
        }
        return mde__json_fail(r, start, "\\u needs four hexadecimal digits, and surrogates come in pairs", "");
    }
    return mde__json_fail(r, start, "this escape is not known", "");
}

static int mde__json_read_string(mde__json_reader *r, const char **out, size_t *length)
{
    size_t start = r->at++, first = r->string_bytes;
    for (;;) {
        uint32_t code = 0;
        size_t size;
        if (r->at >= r->length) return mde__json_fail(r, start, "the string that starts here has no end", "");
        if (r->text[r->at] == '"') break;
        if (r->text[r->at] == '\\') {
            r->at++;
            if (!mde__json_escape(r)) return 0;
            continue;
        }
        size = mde__utf8_read(r->text + r->at, r->length - r->at, &code);
        if (size == 0 || code < 0x20) {
            return mde__json_fail(r, r->at, size ? "a control character inside a string must be escaped"
                                          : "a byte that is not UTF-8", "");
        }
        mde__json_put(r, r->text + r->at, size);
        r->at += size;
    }
    r->at++;
    *out = r->strings ? r->strings + first : "";
    *length = r->string_bytes - first;
    mde__json_put(r, "", 1);
    return 1;
}

static int mde__json_read_number(mde__json_reader *r, double *value)
{
    size_t start = r->at, end = mde__number_end(r->text, start, r->length, 1);
    if (end == 0) return mde__json_fail(r, start, "expected a number", "");
    r->at = end;
    if (mde__parse_number(r->text + start, end - start, value) && *value - *value == 0) return 1;
    return mde__json_fail(r, start, "this number is too large or too long", "");
}

static void mde__json_check_keys(mde__json_reader *r, const mde_json *object, size_t start)
{
    const char *few[8], **keys = few, *twice;
    const mde_json *member;
    size_t i = 0;
    if (object->length > 8) keys = (const char **)mde_alloc(r->context, object->length, sizeof *keys);
    if (!keys) return;
    for (member = object->child; member; member = member->next) keys[i++] = member->key;
    twice = mde__find_twice(r->context, i, keys);
    if (keys != few) mde_release(r->context, keys);
    if (twice) mde__json_fail(r, start, "the object that starts here has this key twice: ", twice);
}

/* A member's key and the colon behind it. */
static int mde__json_read_key(mde__json_reader *r, const char **key)
{
    char next = mde__json_peek(r);
    size_t start = r->at, length = 0;
    if (next != '"') return mde__json_fail(r, start, "expected a key in quotes", "");
    if (!mde__json_read_string(r, key, &length)) return 0;
    if (r->strings && strlen(*key) != length) return mde__json_fail(r, start, "a key must not hold \\u0000", "");
    if (mde__json_peek(r) != ':') return mde__json_fail(r, r->at, "expected a colon", "");
    r->at++;
    return 1;
}

/* Returns 0 after an error. */
static int mde__json_value(mde__json_reader *r, int depth, mde_json **out)
{
    static const char *const words[] = { "null", "false", "true" };
    mde_json *node = r->nodes ? r->nodes + r->node_count : &r->dummy, **link = &node->child;
    char first = mde__json_peek(r), closing = first == '{' ? '}' : ']', next;
    size_t start = r->at;
    *out = node;
    r->node_count++;
    if (first == '"') {
        node->kind = MDE_JSON_STRING;
        return mde__json_read_string(r, &node->string, &node->length);
    }
    if (first == '-' || (first >= '0' && first <= '9')) {
        node->kind = MDE_JSON_NUMBER;
        return mde__json_read_number(r, &node->number);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if (r->length - r->at < length || memcmp(r->text + r->at, words[i], length) != 0) continue;
        r->at += length;
        node->kind = i == 0 ? MDE_JSON_NULL : MDE_JSON_BOOL;
        node->number = i == 2;
        return 1;
    }
    if (first != '{' && first != '[') {
        return mde__json_fail(r, start, first ? "expected a value" : "the text ends where a value should stand", "");
    }
    if (depth == MDE_JSON_DEPTH) return mde__json_fail(r, start, "nested too deeply", "");
    node->kind = first == '{' ? MDE_JSON_OBJECT : MDE_JSON_ARRAY;
    r->at++;
    next = mde__json_peek(r);
    if (next == closing) r->at++;
    while (next != closing) {
        const char *key = NULL;
        mde_json *child;
        if (first == '{' && !mde__json_read_key(r, &key)) return 0;
        if (!mde__json_value(r, depth + 1, &child)) return 0;
        child->key = key;
        *link = child;
        link = &child->next;
        node->length++;
        next = mde__json_peek(r);
        if (next != ',' && next != closing) {
            return mde__json_fail(r, r->at, first == '{' ? "expected a comma or }" : "expected a comma or ]", "");
        }
        r->at++;
    }
    if (first == '{' && r->nodes) mde__json_check_keys(r, node, start);
    return !mde__bad(r->context);
}

MDEDEF mde_json *mde_json_parse(mde_context *c, const char *name, const char *text, size_t length)
{
    mde__json_reader r;
    mde_json *root = NULL, *value;
    size_t nodes = 0, start = 0;
    mde__require(c, text && length <= SIZE_MAX / 4, "%s: there is no text to parse", name ? name : "JSON");
    if (mde__bad(c)) return NULL;
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) start = 3;
    memset(&r, 0, sizeof r);
    r.context = c;
    r.name = name ? name : "JSON";
    r.text = text;
    r.length = length;
    for (int walk = 0; walk < 2; walk++) {
        if (walk == 1) {
            /* One block: the nodes, then the bytes of the strings. */
            nodes = r.node_count;
            root = (mde_json *)mde_alloc(c, nodes + r.string_bytes / sizeof *root + 1, sizeof *root);
            if (!root) return NULL;
            r.nodes = root;
            r.strings = (char *)(root + nodes);
        }
        r.node_count = r.string_bytes = 0;
        r.at = start;
        if (mde__json_value(&r, 0, &value) && mde__json_peek(&r)) {
            mde__json_fail(&r, r.at, "expected the end of the text", "");
        } else if (!mde__bad(c) && r.at < length) {
            mde__json_fail(&r, r.at, "a zero byte", "");
        }
        if (mde__bad(c)) {
            mde_release(c, root);
            return NULL;
        }
    }
    return root;
}

MDEDEF void mde_json_free(mde_context *c, mde_json *root)
{
    if (c) mde_release(c, root);
}

MDEDEF const mde_json *mde_json_get(const mde_json *object, const char *key)
{
    const mde_json *child;
    if (!object || object->kind != MDE_JSON_OBJECT || !key) return NULL;
    for (child = object->child; child; child = child->next) if (strcmp(child->key, key) == 0) return child;
    return NULL;
}

MDEDEF double mde_json_number(const mde_json *object, const char *key, double absent)
{
    const mde_json *value = mde_json_get(object, key);
    return value && (value->kind == MDE_JSON_NUMBER || value->kind == MDE_JSON_BOOL) ? value->number : absent;
}

MDEDEF const char *mde_json_string(const mde_json *object, const char *key, const char *absent)
{
    const mde_json *value = mde_json_get(object, key);
    return value && value->kind == MDE_JSON_STRING ? value->string : absent;
}

/* ---- Writing JSON ---- */

MDEDEF mde_json_writer mde_json_start(mde_text *t, int lines)
{
    mde_json_writer w;
    memset(&w, 0, sizeof w);
    w.text = t;
    w.lines = lines;
    return w;
}

/* A new line, indented as the innermost level is; nothing where levels do not break lines. */
static int mde__json_break(mde_json_writer *w, int indent)
{
    if (w->depth > w->lines) return 0;
    mde_text_add(w->text, "\n");
    for (int i = 0; i < indent; i++) mde_text_add(w->text, "  ");
    return 1;
}

/* What stands before a value; 0 when nothing is to be written. */
static int mde__json_member(mde_json_writer *w, const char *key)
{
    mde_context *c = w->text ? w->text->context : NULL;
    int in_object = w->depth > 0 && w->open[w->depth - 1] == '}';
    mde__require(c, (key != NULL) == in_object, "JSON: the key \"%.200s\" in %s", key ? key : "", in_object
                 ? "an object; each member needs one" : "an array or alone; only members of objects do");
    mde__require(c, w->depth > 0 || !w->any[0], "JSON: a second value behind the first one; a document is one");
    if (mde__bad(c)) return 0;
    if (w->any[w->depth]) mde_text_add(w->text, ",");
    if (w->depth > 0 && !mde__json_break(w, w->depth) && w->any[w->depth] && w->lines != MDE_JSON_COMPACT) {
        mde_text_add(w->text, " ");
    }
    w->any[w->depth] = 1;
    if (key) {
        mde_text_add_json(w->text, key);
        mde_text_add(w->text, w->lines == MDE_JSON_COMPACT ? ":" : ": ");
    }
    return 1;
}

MDEDEF void mde_json_open(mde_json_writer *w, const char *key, char bracket)
{
    if (!mde__json_member(w, key)) return;
    if ((bracket != '{' && bracket != '[') || w->depth == MDE_JSON_DEPTH) {
        mde_fail(w->text->context, MDE_BAD_ARGUMENT, "JSON: cannot open '%c' at depth %d; expected '{' or '[' and less "
                 "than %d", bracket, w->depth, MDE_JSON_DEPTH);
        return;
    }
    mde_text_add(w->text, bracket == '{' ? "{" : "[");
    w->open[w->depth++] = bracket == '{' ? '}' : ']';
    w->any[w->depth] = 0;
}

MDEDEF void mde_json_close(mde_json_writer *w)
{
    if (!w->text || mde__bad(w->text->context)) return;
    if (w->depth == 0) {
        mde_fail(w->text->context, MDE_BAD_ARGUMENT, "JSON: there is nothing open to close");
        return;
    }
    if (w->any[w->depth]) mde__json_break(w, w->depth - 1);
    w->depth--;
    mde_text_add(w->text, w->open[w->depth] == '}' ? "}" : "]");
}

MDEDEF void mde_json_write_raw(mde_json_writer *w, const char *key, const char *json)
{
    if (mde__json_member(w, key)) mde_text_add(w->text, json ? json : "null");
}

MDEDEF void mde_json_write_string(mde_json_writer *w, const char *key, const char *string)
{
    if (!string) mde_json_write_raw(w, key, NULL);
    else if (mde__json_member(w, key)) mde_text_add_json(w->text, string);
}

MDEDEF void mde_json_write_int(mde_json_writer *w, const char *key, int64_t value)
{
    if (mde__json_member(w, key)) mde_text_format(w->text, "%lld", (long long)value);
}

MDEDEF void mde_json_write_number(mde_json_writer *w, const char *key, double value, int digits)
{
    if (!(fabs(value) < (double)INFINITY)) mde_json_write_raw(w, key, NULL);
    else if (mde__json_member(w, key)) mde_text_add_number(w->text, value, digits);
}

/* On one line, whatever the level. */
MDEDEF void mde_json_write_numbers(mde_json_writer *w, const char *key, size_t count, const double *values, int digits)
{
    int lines = w->lines;
    mde_json_open(w, key, '[');
    if (lines > 0) w->lines = 0;
    for (size_t i = 0; i < count; i++) mde_json_write_number(w, NULL, values[i], digits);
    mde_json_close(w);
    w->lines = lines;
}

MDEDEF mde_status mde_json_end(mde_json_writer *w)
{
    if (!w->text) return MDE_OUT_OF_MEMORY;
    if (w->depth > 0 || !w->any[0]) {
        mde_fail(w->text->context, MDE_BAD_ARGUMENT, "JSON: the document ends with %d brackets open", w->depth);
    }
    if (w->lines != MDE_JSON_COMPACT) mde_text_add(w->text, "\n");
    return mde_context_status(w->text->context);
}

/* ---- CSV (RFC 4180) ---- */

typedef struct mde__csv_reader {
    mde_context *context;
    const char *name, *text;
    size_t length, at;
    char separator;
    int line;
    char *out;                  /* where the next cell goes; NULL in the walk that counts */
} mde__csv_reader;

/* What the header line has more of, outside of quotes: commas, semicolons or tabs. */
static char mde__csv_separator(const char *text, size_t length, size_t at)
{
    static const char separators[] = ",;\t";
    int count[3] = { 0, 0, 0 }, quoted = 0, best = 0, i;
    while (at < length && (text[at] == '\n' || text[at] == '\r')) at++;
    for (; at < length && (quoted || (text[at] != '\n' && text[at] != '\r')); at++) {
        quoted ^= text[at] == '"';
        for (i = 0; i < 3; i++) count[i] += !quoted && text[at] == separators[i];
    }
    for (i = 1; i < 3; i++) if (count[i] > count[best]) best = i;
    return separators[best];
}

static int mde__csv_blank(const mde__csv_reader *r, char byte)
{
    return byte == ' ' || (byte == '\t' && r->separator != '\t');
}

static int mde__csv_ends(const mde__csv_reader *r, char byte)
{
    return byte == r->separator || byte == '\n' || byte == '\r';
}

static void mde__csv_skip_blanks(mde__csv_reader *r)
{
    while (r->at < r->length && mde__csv_blank(r, r->text[r->at])) r->at++;
}

static void mde__csv_end_line(mde__csv_reader *r)
{
    if (r->text[r->at] == '\r' && r->at + 1 < r->length && r->text[r->at + 1] == '\n') r->at++;
    r->at++;
    r->line++;
}

/* -1 */
static int mde__csv_fail(const mde__csv_reader *r, int line, const char *what)
{
    mde_fail(r->context, MDE_BAD_FILE, "%s line %d: %s", r->name, line, what);
    return -1;
}

/* Reads one cell and what ends it. Returns 1 behind a separator, 0 at the end of the row, -1 after an error. */
static int mde__csv_read_cell(mde__csv_reader *r)
{
    const char *begin = r->out;
    int quoted, start = r->line;
    mde__csv_skip_blanks(r);
    quoted = r->at < r->length && r->text[r->at] == '"';
    if (quoted) r->at++;
    for (;;) {
        char byte = r->at < r->length ? r->text[r->at] : (char)'\n';
        if (quoted && r->at >= r->length) return mde__csv_fail(r, start, "a quoted cell starts here and has no end");
        if (quoted && byte == '"') {
            r->at++;
            if (r->at >= r->length || r->text[r->at] != '"') {
                mde__csv_skip_blanks(r);
                if (r->at >= r->length || mde__csv_ends(r, r->text[r->at])) break;
                return mde__csv_fail(r, r->line, "text follows a closing quote");
            }
        } else if (!quoted && mde__csv_ends(r, byte)) {
            break;
        } else if (!quoted && byte == '"') {
            return mde__csv_fail(r, r->line, "a quote inside a cell that is not quoted");
        } else if (byte == 0) {
            return mde__csv_fail(r, r->line, "a zero byte; this is no text");
        }
        if (byte == '\n') r->line++;
        if (r->out && !(r->out == begin && mde__csv_blank(r, byte))) *r->out++ = byte;
        r->at++;
    }
    while (r->out > begin && mde__csv_blank(r, r->out[-1])) r->out--;
    if (r->out) *r->out++ = 0;
    if (r->at >= r->length) return 0;
    if (r->text[r->at] == r->separator) {
        r->at++;
        return 1;
    }
    mde__csv_end_line(r);
    return 0;
}

/* Walks over all rows; fills csv when it has its arrays, otherwise sets its rows and columns. */
static int mde__csv_walk(mde__csv_reader *r, mde_csv *csv)
{
    int rows = -1;              /* the header is row -1 */
    while (r->at < r->length) {
        int line = r->line, cells = 0, more;
        if (r->text[r->at] == '\n' || r->text[r->at] == '\r') {
            mde__csv_end_line(r);
            continue;
        }
        do {
            const char *cell = r->out;
            if (cell && rows < 0) csv->names[cells] = cell;
            else if (cell) csv->cells[(size_t)rows * (size_t)csv->columns + (size_t)cells] = cell;
            more = mde__csv_read_cell(r);
            if (more < 0) return 0;
            cells++;
            if (cell && !mde__utf8_valid(cell, strlen(cell))) {
                return !mde_fail(r->context, MDE_BAD_FILE, "%s line %d, column %d: is not UTF-8", r->name, line, cells);
            }
        } while (more);
        if (rows < 0) {
            csv->columns = cells;
        } else if (cells != csv->columns) {
            return !mde_fail(r->context, MDE_BAD_FILE, "%s line %d: the row has %d cells; the header has %d", r->name,
                             line, cells, csv->columns);
        } else if (csv->names) {
            ((int *)csv->lines)[rows] = line;
        }
        rows++;
    }
    if (rows < 0) {
        return !mde_fail(r->context, MDE_BAD_FILE, "%s: is empty; expected a header line with the names of the columns",
                         r->name);
    }
    csv->rows = rows;
    return 1;
}

static int mde__csv_fill(mde__csv_reader *r, mde_csv *csv, size_t start)
{
    mde_context *c = r->context;
    const char *twice;
    size_t cells;
    if (!mde__csv_walk(r, csv)) return 0;
    if (!mde__mul_size((size_t)csv->rows, (size_t)csv->columns, &cells)) cells = SIZE_MAX;
    csv->path = mde__copy_text(c, r->name);
    csv->names = (const char **)mde_alloc(c, (size_t)csv->columns, sizeof *csv->names);
    csv->cells = (const char **)mde_alloc(c, cells, sizeof *csv->cells);
    csv->lines = (const int *)mde_alloc(c, (size_t)csv->rows, sizeof *csv->lines);
    /* A cell is no longer than in the file, and its end takes the place of the separator. */
    r->out = (char *)mde_alloc(c, r->length + 1, 1);
    if (!r->out) return 0;
    csv->names[0] = r->out;
    r->at = start;
    r->line = 1;
    if (!mde__csv_walk(r, csv)) return 0;
    for (int i = 1; i < csv->columns; i++) {
        if (csv->names[i][0]) continue;
        return !mde_fail(c, MDE_BAD_FILE, "%s: column %d has no name in the header", r->name, i + 1);
    }
    twice = mde__find_twice(c, (size_t)csv->columns, csv->names);
    if (twice) mde_fail(c, MDE_BAD_FILE, "%s: the header names the column %.200s twice", r->name, twice);
    return !mde__bad(c);
}

MDEDEF mde_csv *mde_csv_parse(mde_context *c, const char *name, const char *text, size_t length)
{
    mde__csv_reader r;
    mde_csv *csv;
    size_t start = 0;
    memset(&r, 0, sizeof r);
    r.context = c;
    r.name = name ? name : "CSV";
    mde__require(c, text && length < INT_MAX, "%s: %s", r.name, text ? "is larger than 2 GB"
                                                                     : "there is no text to parse");
    if (mde__bad(c)) return NULL;
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) start = 3;
    r.text = text;
    r.length = length;
    r.at = start;
    r.line = 1;
    r.separator = mde__csv_separator(text, length, start);
    csv = (mde_csv *)mde_alloc(c, 1, sizeof *csv);
    if (!csv) return NULL;
    csv->context = c;
    csv->separator = r.separator;
    if (mde__csv_fill(&r, csv, start)) return csv;
    mde_csv_free(csv);
    return NULL;
}

MDEDEF void mde_csv_free(mde_csv *csv)
{
    mde_context *c;
    if (!csv) return;
    c = csv->context;
    mde_release(c, (char *)csv->path);
    if (csv->names) mde_release(c, (char *)csv->names[0]);   /* the first name starts the block of all cells */
    MDE__RELEASE(c, csv->names, csv->cells, (int *)csv->lines, csv);
}

MDEDEF int mde_csv_column(const mde_csv *csv, const char *name)
{
    if (!csv || !name) return -1;
    for (int i = 0; i < csv->columns; i++) if (strcmp(csv->names[i], name) == 0) return i;
    return -1;
}

MDEDEF double mde_csv_number(const mde_csv *csv, int row, int column)
{
    const char *cell;
    char point[64], *comma;
    size_t length;
    double value;
    if (!csv) return mde__quiet_nan();
    mde__require(csv->context, row >= 0 && row < csv->rows && column >= 0 && column < csv->columns, "%s: row %d, "
                 "column %d; there are %d rows and %d columns", csv->path, row, column, csv->rows, csv->columns);
    if (mde__bad(csv->context)) return mde__quiet_nan();
    cell = csv->cells[(size_t)row * (size_t)csv->columns + (size_t)column];
    length = strlen(cell);
    if (length == 0) return mde__quiet_nan();
    if (csv->separator == ';' && length < sizeof point) {
        memcpy(point, cell, length);
        comma = (char *)memchr(point, ',', length);
        if (comma && !memchr(point, '.', length)) *comma = '.';
        if (mde__parse_number(point, length, &value)) return value;
    }
    if (mde__parse_number(cell, length, &value)) return value;
    mde_fail(csv->context, MDE_BAD_FILE, "%s line %d, column %.100s: \"%.100s\" is not a number%s", csv->path,
             csv->lines[row], csv->names[column], cell, csv->separator != ';' && strchr(cell, ',')
             ? " (a decimal comma is read only between semicolons)" : "");
    return mde__quiet_nan();
}

/* ---- Numbers as bytes ---- */

static MDE__INLINE uint64_t mde__get_bytes(const unsigned char *p, int size, int big_endian)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++) value = value << 8 | p[big_endian ? i : size - 1 - i];
    return value;
}

static void mde__put_bytes(unsigned char *p, int size, uint64_t value)
{
    for (int i = 0; i < size; i++) p[i] = (unsigned char)(value >> (8 * i) & 0xFFu);
}

static uint64_t mde__hash_number(uint64_t hash, uint64_t number, int size)
{
    unsigned char bytes[8];
    mde__put_bytes(bytes, size, number);
    return mde__hash(hash, bytes, (size_t)size);
}

static MDE__INLINE float mde__float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t mde__to_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* IEEE 754 binary16; exact, since every half is a float. */
static float mde__float_of_half(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 0x1Fu, fraction = half & 0x3FFu;
    float value;
    if (exponent == 31) return mde__float_of_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent != 0) return mde__float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    value = (float)fraction * (1.0f / 16777216.0f);
    return sign ? -value : value;
}

/* Number of elements of a shape; an error that starts with `what` when rank or sizes are out of range. */
static int mde__shape_elements(mde_context *c, mde_status status, const char *what, int rank, const int64_t *shape,
                               size_t *count)
{
    size_t product = 1;
    int empty = 0;
    if (rank < 0 || rank > MDE_MAX_RANK) {
        return !mde_fail(c, status, "%s: has %d dimensions; at most %d can be held", what, rank, MDE_MAX_RANK);
    }
    for (int i = 0; i < rank; i++) {
        if (shape[i] == 0) {
            empty = 1;
        } else if (shape[i] < 0 || (uint64_t)shape[i] > SIZE_MAX ||
                   !mde__mul_size(product, (size_t)shape[i], &product)) {
            return !mde_fail(c, status, "%s: the product of its dimensions is out of range (dimension %d is %lld)",
                             what, i, (long long)shape[i]);
        }
    }
    *count = empty ? 0 : product;
    return 1;
}

/* "[2, 3]" for messages, or with another separator. */
static char *mde__print_shape(char buffer[128], const char *separator, int rank, const int64_t *shape)
{
    size_t at = 0;
    buffer[at++] = '[';
    for (int i = 0; i < rank && i < MDE_MAX_RANK; i++) {
        at += (size_t)snprintf(buffer + at, 128 - at, "%s%lld", i ? separator : "", (long long)shape[i]);
    }
    memcpy(buffer + at, "]", 2);
    return buffer;
}

/* ---- NumPy arrays (.npy) ---- */

/* The header is the text of a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } */
typedef struct mde__npy_reader {
    mde_context *context;
    const char *name, *at, *end;
    char kind;                  /* f, i, u or b */
    int size, big_endian;       /* of an element */
    int fortran, rank;
    int64_t shape[MDE_MAX_RANK];
} mde__npy_reader;

static int mde__npy_fail(mde__npy_reader *r, const char *what)
{
    return !mde_fail(r->context, MDE_BAD_FILE, "%s: .npy header: %s", r->name, what);
}

static void mde__npy_skip_space(mde__npy_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

/* Skips white space; takes the byte when it comes next. */
static int mde__npy_take(mde__npy_reader *r, char byte)
{
    mde__npy_skip_space(r);
    if (r->at >= r->end || *r->at != byte) return 0;
    r->at++;
    return 1;
}

static int mde__npy_take_word(mde__npy_reader *r, const char *word)
{
    size_t length = strlen(word);
    if (!mde__npy_take(r, word[0])) return 0;
    if ((size_t)(r->end - r->at) < length - 1 || memcmp(r->at, word + 1, length - 1) != 0) {
        r->at--;
        return 0;
    }
    r->at += length - 1;
    return 1;
}

/* A string in single or double quotes, without escapes. */
static int mde__npy_take_string(mde__npy_reader *r, char out[32])
{
    const char *start, *p;
    char quote = '\'';
    if (!mde__npy_take(r, quote)) {
        quote = '"';
        if (!mde__npy_take(r, quote)) return 0;
    }
    start = r->at;
    for (p = start; p < r->end && *p != quote; p++) {}
    if (p == r->end || p - start >= 32 || memchr(start, 0, (size_t)(p - start))) return 0;
    memcpy(out, start, (size_t)(p - start));
    out[p - start] = 0;
    r->at = p + 1;
    return 1;
}

static int mde__npy_read_type(mde__npy_reader *r)
{
    static const char *const types[] = { "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1" };
    char type[32];
    const char *what;
    if (mde__npy_take(r, '[')) return mde__npy_fail(r, "a structured type is not read; expected numbers");
    if (!mde__npy_take_string(r, type)) return mde__npy_fail(r, "descr: expected a type such as '<f4'");
    if (type[0] == '<' || type[0] == '>' || type[0] == '|') {
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            if (strcmp(type + 1, types[i]) != 0) continue;
            r->kind = type[1];
            r->size = type[2] - '0';
            r->big_endian = type[0] == '>';
            if (type[0] != '|' || r->size == 1) return 1;
        }
    }
    switch (type[0] ? type[1] : (char)0) {
    case 'O': what = "objects are"; break;
    case 'S': case 'U': case 'a': what = "strings are"; break;
    case 'c': what = "complex numbers are"; break;
    case 'V': what = "a structured type is"; break;
    case 'M': case 'm': what = "dates are"; break;
    default: what = "this type is"; break;
    }
    return !mde_fail(r->context, MDE_BAD_FILE, "%s: type '%s': %s not read; expected f2, f4, f8, i1 to i8, u1 to u8 or "
                     "b1", r->name, type, what);
}

static int mde__npy_read_shape(mde__npy_reader *r)
{
    r->rank = 0;
    if (!mde__npy_take(r, '(')) return mde__npy_fail(r, "shape: expected a tuple");
    while (!mde__npy_take(r, ')')) {
        int64_t size = 0;
        const char *start = r->at;
        for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
            int digit = *r->at - '0';
            if (size > (INT64_MAX - digit) / 10) return mde__npy_fail(r, "shape: a dimension is too large");
            size = size * 10 + digit;
        }
        if (r->at == start) return mde__npy_fail(r, "shape: expected dimensions of 0 or more");
        if (r->rank == MDE_MAX_RANK) return mde__npy_fail(r, "shape: more than 5 dimensions");
        r->shape[r->rank++] = size;
        if (mde__npy_take(r, ',')) continue;
        if (r->rank > 1 && mde__npy_take(r, ')')) break;
        return mde__npy_fail(r, "shape: expected a comma");
    }
    return 1;
}

static int mde__npy_read_header(mde__npy_reader *r)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    int seen = 0, good;
    if (!mde__npy_take(r, '{')) return mde__npy_fail(r, "expected a dictionary");
    while (!mde__npy_take(r, '}')) {
        char key[32];
        int which;
        if (!mde__npy_take_string(r, key)) return mde__npy_fail(r, "expected a key in quotes");
        for (which = 0; which < 3 && strcmp(key, keys[which]) != 0; which++) {}
        if (which == 3) return mde__npy_fail(r, "a key other than descr, fortran_order and shape");
        if (seen >> which & 1) return mde__npy_fail(r, "a key is there twice");
        seen |= 1 << which;
        if (!mde__npy_take(r, ':')) return mde__npy_fail(r, "expected a colon");
        if (which == 0) {
            good = mde__npy_read_type(r);
        } else if (which == 1) {
            r->fortran = mde__npy_take_word(r, "True");
            good = r->fortran || mde__npy_take_word(r, "False") ||
                   mde__npy_fail(r, "fortran_order: expected True or False");
        } else {
            good = mde__npy_read_shape(r);
        }
        if (!good) return 0;
        if (mde__npy_take(r, ',')) continue;
        if (mde__npy_take(r, '}')) break;
        return mde__npy_fail(r, "expected a comma or }");
    }
    if (seen != 7) return mde__npy_fail(r, "expected the keys descr, fortran_order and shape");
    mde__npy_skip_space(r);
    if (r->at != r->end) return mde__npy_fail(r, "text follows the dictionary");
    if (r->rank < 2) r->fortran = 0;    /* one order is the other */
    return 1;
}

static double mde__npy_element(const mde__npy_reader *r, const unsigned char *p)
{
    uint64_t bits = mde__get_bytes(p, r->size, r->big_endian);
    switch (r->kind) {
    case 'f':
        if (r->size == 2) return (double)mde__float_of_half((uint32_t)bits);
        return r->size == 4 ? (double)mde__float_of_bits((uint32_t)bits) : mde__from_bits(bits);
    case 'i':
        if (bits >> (8 * r->size - 1)) return -(double)((~bits & (UINT64_MAX >> (64 - 8 * r->size))) + 1);
        return (double)bits;
    case 'u':
        return (double)bits;
    default:
        return bits != 0;
    }
}

/* Elements in the file's order, as floats or as doubles, go to their offsets in C order. */
MDE__WARM
static void mde__npy_fill(const mde__npy_reader *r, const unsigned char *p, size_t count, float *floats,
                          double *doubles)
{
    size_t stride[MDE_MAX_RANK], offset = 0, i;
    int64_t index[MDE_MAX_RANK];
    if (floats && r->kind == 'f' && r->size < 8 && !r->big_endian && !r->fortran) { /* as most files are, directly */
        for (i = 0; i < count; i++, p += r->size) {
            uint32_t low = (uint32_t)p[0] | (uint32_t)p[1] << 8;
            floats[i] = r->size == 2 ? mde__float_of_half(low)
                                     : mde__float_of_bits(low | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        }
        return;
    }
    memset(index, 0, sizeof index);
    for (int k = r->rank - 1; k >= 0; k--) stride[k] = k == r->rank - 1 ? 1 : stride[k + 1] * (size_t)r->shape[k + 1];
    for (i = 0; i < count; i++, p += r->size) {
        double value = mde__npy_element(r, p);
        size_t to = r->fortran ? offset : i;
        if (doubles) doubles[to] = value;
        else floats[to] = (float)value;
        for (int k = 0; r->fortran && k < r->rank; k++) {
            offset += stride[k];
            if (++index[k] < r->shape[k]) break;
            offset -= stride[k] * (size_t)r->shape[k];
            index[k] = 0;
        }
    }
}

/* Reads the header, which is in the first `size` bytes at p, and checks it against the size of the `whole` file; where
   the data begin, NULL on error. */
static const unsigned char *mde__npy_open(mde__npy_reader *r, mde_context *c, const char *name, const unsigned char *p,
                                          size_t size, uint64_t whole, size_t *count)
{
    size_t start, length, wanted = 0;
    char shape[160];
    memset(r, 0, sizeof *r);
    r->context = c;
    r->name = name;
    if (!p || size < 12 || memcmp(p, "\x93NUMPY", 6) != 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: is not a .npy file", r->name);
        return NULL;
    }
    if (p[6] < 1 || p[6] > 3 || p[7] != 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: .npy version %d.%d; expected 1.0, 2.0 or 3.0", r->name, p[6], p[7]);
        return NULL;
    }
    start = p[6] == 1 ? 10 : 12;
    length = (size_t)mde__get_bytes(p + 8, p[6] == 1 ? 2 : 4, 0);
    if (length > MDE__NPY_HEADER || length > size - start) {
        mde_fail(c, MDE_BAD_FILE, length > MDE__NPY_HEADER ? "%s: .npy header of %zu bytes; at most 10000 are read"
                                                            : "%s: ends within its .npy header of %zu bytes",
                 r->name, length);
        return NULL;
    }
    r->at = (const char *)p + start;
    r->end = r->at + length;
    if (!mde__npy_read_header(r)) return NULL;
    if (!mde__shape_elements(c, MDE_BAD_FILE, r->name, r->rank, r->shape, count)) return NULL;
    if (!mde__mul_size(*count, (size_t)r->size, &wanted) || wanted != whole - start - length) {
        mde_fail(c, MDE_BAD_FILE, "%s: shape %s needs %zu elements of %d bytes, the file holds %llu bytes of data",
                 r->name, mde__print_shape(shape, ", ", r->rank, r->shape), *count, r->size,
                 (unsigned long long)(whole - start - length));
        return NULL;
    }
    return p + start + length;
}

MDEDEF mde_array *mde_npy_parse(mde_context *c, const char *name, const void *bytes, size_t size, int as_double)
{
    mde__npy_reader r;
    const unsigned char *data;
    mde_array *a;
    size_t count = 0;
    if (mde__bad(c)) return NULL;
    data = mde__npy_open(&r, c, name ? name : ".npy", (const unsigned char *)bytes, size, size, &count);
    a = data ? (mde_array *)mde_alloc(c, 1, sizeof *a) : NULL;
    if (!a) return NULL;
    if (as_double) a->f64 = (double *)mde_alloc(c, count, sizeof *a->f64);
    else a->f32 = (float *)mde_alloc(c, count, sizeof *a->f32);
    if (mde__bad(c)) {
        mde_release(c, a);
        return NULL;
    }
    a->rank = r.rank;
    memcpy(a->shape, r.shape, sizeof a->shape);
    a->count = count;
    mde__npy_fill(&r, data, count, a->f32, a->f64);
    return a;
}

MDEDEF void mde_array_free(mde_context *c, mde_array *a)
{
    if (!c || !a) return;
    MDE__RELEASE(c, a->f32, a->f64, a);
}

/* ---- safetensors ---- */

/* Eight bytes with the length of the header, the header as JSON, then the data of the tensors without a gap. */

typedef struct mde__tensor_bytes {
    uint64_t begin, end;        /* in the data */
    int size, half;             /* bytes of an element, 0: is not read; 1 for F16 */
    int index;                  /* among the tensors that are read, or the others */
    const char *name;
} mde__tensor_bytes;

typedef struct mde__safetensors_file {
    mde_safetensors file;       /* what the user sees */
    mde_json *header;           /* holds all strings */
    float *data;                /* of all tensors, each at a multiple of 64 bytes */
    mde_safetensors *next;      /* of several files: the next of those that hold the data */
} mde__safetensors_file;

static int mde__json_size(const mde_json *value, uint64_t *out)
{
    if (!value || value->kind != MDE_JSON_NUMBER || value->number < 0 || value->number > 9007199254740992.0 ||
        floor(value->number) != value->number) return 0;
    *out = (uint64_t)value->number;
    return 1;
}

/* One entry of the header: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} */
static int mde__safetensors_entry(mde_context *c, const char *name, const mde_json *entry, mde_safetensor *t,
                                  mde__tensor_bytes *b)
{
    const mde_json *shape = mde_json_get(entry, "shape"), *offsets = mde_json_get(entry, "data_offsets"), *dim;
    const char *type = mde_json_string(entry, "dtype", NULL);
    char what[512], text[160];
    uint64_t size = 0;
    size_t bytes = 0;
    snprintf(what, sizeof what, "%.200s: tensor %.200s", name, entry->key);
    t->name = entry->key;
    if (!type || !shape || shape->kind != MDE_JSON_ARRAY || !offsets || offsets->kind != MDE_JSON_ARRAY ||
        offsets->length != 2) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: expected dtype, shape and two data_offsets", what);
    }
    b->name = entry->key;
    if (!mde__json_size(offsets->child, &b->begin) || !mde__json_size(offsets->child->next, &b->end) ||
        b->begin > b->end) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: data_offsets must be two whole numbers, the second not below the first",
                         what);
    }
    b->half = strcmp(type, "F16") == 0;
    b->size = strcmp(type, "F32") == 0 ? 4 : b->half || strcmp(type, "BF16") == 0 ? 2 : 0;
    if (shape->length > MDE_MAX_RANK) b->size = 0;
    if (b->size == 0) return 1;
    for (dim = shape->child; dim; dim = dim->next) {
        if (!mde__json_size(dim, &size)) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: shape: dimensions must be whole numbers", what);
        }
        t->shape[t->rank++] = (int64_t)size;
    }
    if (!mde__shape_elements(c, MDE_BAD_FILE, what, t->rank, t->shape, &t->count)) return 0;
    if (!mde__mul_size(t->count, (size_t)b->size, &bytes) || bytes != b->end - b->begin) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: shape %s needs %zu bytes, offsets give %llu", what,
                         mde__print_shape(text, ", ", t->rank, t->shape), bytes,
                         (unsigned long long)(b->end - b->begin));
    }
    return 1;
}

static int mde__compare_tensor_bytes(const void *x, const void *y)
{
    const mde__tensor_bytes *a = (const mde__tensor_bytes *)x, *b = (const mde__tensor_bytes *)y;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int mde__safetensors_pairs(mde_context *c, const char *name, const mde_json *map, mde_safetensors *file)
{
    const mde_json *pair;
    int i = 0;
    if (map->kind != MDE_JSON_OBJECT) return !mde_fail(c, MDE_BAD_FILE, "%s: __metadata__ must be an object", name);
    file->metadata = (const char **)mde_alloc(c, map->length, 2 * sizeof *file->metadata);
    if (!file->metadata) return 0;
    for (pair = map->child; pair; pair = pair->next) {
        if (pair->kind != MDE_JSON_STRING) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: __metadata__: %.200s is not a string", name, pair->key);
        }
        file->metadata[i++] = pair->key;
        file->metadata[i++] = pair->string;
    }
    file->pairs = i / 2;
    return 1;
}

/* Checks that the tensors fill the data without hole and overlap, then copies them. */
MDE__WARM
static int mde__safetensors_copy(mde_context *c, const char *name, const unsigned char *data, uint64_t size,
                                 mde__tensor_bytes *bytes, mde__safetensors_file *f)
{
    const size_t line = MDE__ALIGNMENT / sizeof(float);
    uint64_t end = 0;
    size_t total = 0;
    int count = f->file.count + f->file.others;
    qsort(bytes, (size_t)count, sizeof *bytes, mde__compare_tensor_bytes);
    for (int i = 0; i < count; i++) {
        if (bytes[i].begin != end || bytes[i].end > size) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: tensor %.200s: data_offsets are %llu to %llu; the data before it "
                             "ends at %llu and the file's at %llu", name, bytes[i].name,
                             (unsigned long long)bytes[i].begin, (unsigned long long)bytes[i].end,
                             (unsigned long long)end, (unsigned long long)size);
        }
        end = bytes[i].end;
        if (bytes[i].size) total += (f->file.tensors[bytes[i].index].count + line - 1) / line * line;
    }
    if (end != size) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: the tensors need %llu bytes, the file holds %llu bytes of data", name,
                         (unsigned long long)end, (unsigned long long)size);
    }
    f->data = (float *)mde_alloc(c, total, sizeof *f->data);
    if (!f->data) return 0;
    total = 0;
    for (int i = 0; i < count; i++) {
        mde_safetensor *t = bytes[i].size ? &f->file.tensors[bytes[i].index] : NULL;
        const unsigned char *p = data + bytes[i].begin;
        float *out = f->data + total;
        if (!t) continue;
        for (size_t j = 0; j < t->count; j++, p += bytes[i].size) {
            uint32_t bits = (uint32_t)mde__get_bytes(p, bytes[i].size, 0);
            if (bytes[i].half) out[j] = mde__float_of_half(bits);
            else out[j] = mde__float_of_bits(bytes[i].size == 2 ? bits << 16 : bits);
        }
        t->data = out;
        total += (t->count + line - 1) / line * line;
    }
    return 1;
}

/* A checkpoint's last pair is a fingerprint of those before it and of the data. */
static uint64_t mde__hash_pairs(int pairs, const char *const *metadata)
{
    uint64_t hash = MDE__HASH_START;
    for (int i = 0; i < 2 * pairs; i++) {
        if (metadata[i]) hash = mde__hash(hash, metadata[i], strlen(metadata[i]) + 1);
    }
    return hash;
}

static int mde__safetensors_fill(mde_context *c, const char *name, const unsigned char *p, size_t size,
                                 mde__safetensors_file *f)
{
    uint64_t length = !p || size < 8 ? UINT64_MAX : mde__get_bytes(p, 8, 0);
    const mde_json *entry;
    mde__tensor_bytes *bytes;
    const char *was;
    char what[256];
    int good = 1;
    if (!p || size < 8 || length > MDE__SAFETENSORS_HEADER || length > size - 8 || length == 0 || p[8] != '{') {
        return !mde_fail(c, MDE_BAD_FILE, size < 8 ? "%s: is not a safetensors file (%zu bytes)"
                         : "%s: is not a whole safetensors file (%zu bytes; its header claims %llu)", name, size,
                         (unsigned long long)length);
    }
    snprintf(what, sizeof what, "%.200s: header", name);
    f->header = mde_json_parse(c, what, (const char *)p + 8, (size_t)length);
    if (!f->header) return 0;
    f->file.tensors = (mde_safetensor *)mde_alloc(c, f->header->length, sizeof *f->file.tensors);
    f->file.other = (const char **)mde_alloc(c, f->header->length, 2 * sizeof *f->file.other);
    bytes = (mde__tensor_bytes *)mde_alloc(c, f->header->length, sizeof *bytes);
    for (entry = f->header->child; entry && !mde__bad(c) && good; entry = entry->next) {
        if (strcmp(entry->key, "__metadata__") == 0) {
            good = mde__safetensors_pairs(c, name, entry, &f->file);
        } else {
            mde__tensor_bytes *b = &bytes[f->file.count + f->file.others];
            good = mde__safetensors_entry(c, name, entry, &f->file.tensors[f->file.count], b);
            if (b->size) {
                b->index = f->file.count++;
            } else if (good) {
                f->file.other[2 * f->file.others] = entry->key;
                f->file.other[2 * f->file.others++ + 1] = mde_json_string(entry, "dtype", "");
            }
        }
    }
    good = good && !mde__bad(c) && mde__safetensors_copy(c, name, p + 8 + length, size - 8 - length, bytes, f);
    mde_release(c, bytes);
    was = good ? mde_safetensors_metadata(&f->file, "checkpoint.fingerprint") : NULL;
    if (!was) return good;
    snprintf(what, 17, "%016llx", (unsigned long long)mde__hash(mde__hash_pairs(f->file.pairs - 1, f->file.metadata),
                                                                p + 8 + length, size - 8 - (size_t)length));
    return strcmp(was, what) == 0 || !mde_fail(c, MDE_BAD_FILE, "%s: was damaged after it was written", name);
}

MDEDEF mde_safetensors *mde_safetensors_parse(mde_context *c, const char *name, const void *bytes, size_t size)
{
    mde__safetensors_file *f = (mde__safetensors_file *)mde_alloc(c, 1, sizeof *f);
    if (!f) return NULL;
    if (mde__safetensors_fill(c, name ? name : "safetensors", (const unsigned char *)bytes, size, f)) return &f->file;
    mde_safetensors_free(c, &f->file);
    return NULL;
}

MDEDEF void mde_safetensors_free(mde_context *c, mde_safetensors *file)
{
    mde__safetensors_file *f = (mde__safetensors_file *)file;
    if (!c || !f) return;
    if (f->next) mde_safetensors_free(c, f->next);
    mde_json_free(c, f->header);
    MDE__RELEASE(c, f->file.tensors, f->file.other, f->file.metadata, f->data, f);
}

MDEDEF const mde_safetensor *mde_safetensors_find(const mde_safetensors *file, const char *name)
{
    for (int i = 0; file && name && i < file->count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    }
    return NULL;
}

/* What stands behind a name in pairs of names and texts; NULL when it is not there. */
static const char *mde__second_of_pair(int pairs, const char *const *texts, const char *name)
{
    for (int i = 0; i < pairs; i++) if (strcmp(texts[2 * i], name) == 0) return texts[2 * i + 1];
    return NULL;
}

MDEDEF const char *mde_safetensors_metadata(const mde_safetensors *file, const char *key)
{
    return file && key ? mde__second_of_pair(file->pairs, file->metadata, key) : NULL;
}

/* ---- Reading and writing by name ---- */

#ifndef MDE_NO_STDIO

MDEDEF mde_status mde_text_write(mde_text *t, const char *path)
{
    return t ? mde_file_write(t->context, path, t->bytes, t->length) : MDE_BAD_ARGUMENT;
}

MDEDEF mde_json *mde_json_read(mde_context *c, const char *path)
{
    size_t size = 0;
    unsigned char *bytes = mde_file_read(c, path, INT_MAX, &size);
    mde_json *root = bytes ? mde_json_parse(c, path, (const char *)bytes, size) : NULL;
    mde_release(c, bytes);
    return root;
}

MDEDEF mde_csv *mde_csv_read(mde_context *c, const char *path)
{
    size_t size = 0;
    unsigned char *bytes = mde_file_read(c, path, INT_MAX - 1, &size);
    mde_csv *csv = bytes ? mde_csv_parse(c, path, (const char *)bytes, size) : NULL;
    mde_release(c, bytes);
    return csv;
}

MDEDEF mde_array *mde_npy_read(mde_context *c, const char *path, int as_double)
{
    size_t size = 0;
    unsigned char *bytes = mde_file_read(c, path, SIZE_MAX, &size);
    mde_array *a = bytes ? mde_npy_parse(c, path, bytes, size, as_double) : NULL;
    mde_release(c, bytes);
    return a;
}

/* A .npy file of which blocks are read. */
typedef struct mde__npy_file {
    mde__npy_reader reader;
    char *path;
    size_t count;               /* of elements */
    uint64_t data, size;        /* where they begin, and the bytes of the file */
    int file;                   /* -1: closed */
} mde__npy_file;

static void mde__npy_close(mde__npy_file *f)
{
    if (f->path && f->file >= 0) mde__close(f->file);
    f->file = -1;
}

/* Opens it anew, if it still has the size it had. */
static mde_status mde__npy_reopen(mde__npy_file *f)
{
    mde_context *c = f->reader.context;
    uint64_t size;
    f->file = mde__open_blocks(f->path, &size);
    if (f->file < 0) return mde_fail(c, MDE_IO, "%s: cannot be opened: %s", f->path, strerror(errno));
    if (size == f->size) return MDE_OK;
    return mde_fail(c, MDE_BAD_FILE, "%s: has changed while it was in use: it has %llu bytes now, it had %llu", f->path,
                    (unsigned long long)size, (unsigned long long)f->size);
}

/* `count` elements from number `first` on, as they are in the file. */
static mde_status mde__npy_block(const mde__npy_file *f, size_t first, size_t count, unsigned char *bytes)
{
    size_t each = (size_t)f->reader.size;
    if (mde__read_block(f->file, f->data + (uint64_t)first * each, bytes, count * each)) return MDE_OK;
    if (errno) return mde_fail(f->reader.context, MDE_IO, "%s: cannot be read: %s", f->path, strerror(errno));
    return mde_fail(f->reader.context, MDE_BAD_FILE, "%s: has been cut while it was in use", f->path);
}

/* Opens a file and reads its header. mde__npy_forget is due in any case. */
static mde_status mde__npy_begin(mde_context *c, const char *path, mde__npy_file *f)
{
    const size_t longest = 12 + MDE__NPY_HEADER;
    unsigned char *head = (unsigned char *)mde_alloc(c, longest, 1);
    const unsigned char *data = NULL;
    memset(f, 0, sizeof *f);
    f->path = mde__copy_text(c, path);
    f->file = -1;
    if (!mde__bad(c) && mde_is_folder(path)) mde_fail(c, MDE_IO, "%s: is a folder; expected a file", path);
    if (!mde__bad(c)) {
        f->file = mde__open_blocks(path, &f->size);
        if (f->file < 0) mde_fail(c, MDE_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    if (!mde__bad(c)) {
        size_t size = f->size < longest ? (size_t)f->size : longest;
        if (!mde__read_block(f->file, 0, head, size)) {
            mde_fail(c, MDE_IO, "%s: cannot be read: %s", path, errno ? strerror(errno) : "it is being cut");
        } else {
            data = mde__npy_open(&f->reader, c, f->path, head, size, f->size, &f->count);
        }
    }
    if (data) f->data = (uint64_t)(data - head);
    f->reader.at = f->reader.end = NULL;
    mde_release(c, head);
    return mde_context_status(c);
}

static void mde__npy_forget(mde_context *c, mde__npy_file *f)
{
    mde__npy_close(f);
    mde_release(c, f->path);
    f->path = NULL;
}

MDE__UNUSED
static int mde__ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* The path of a file in the folder that another is in. */
static char *mde__sibling_path(mde_context *c, const char *path, const char *name)
{
    return mde__print(c, "%.*s%s", (int)mde__folder_length(path, strlen(path)), path, name);
}

/* The files of a list {"weight_map": {"tensor": "file", ...}}, each once: [length of the list]. Returns their number,
   0 and an error for a list that is none. */
static size_t mde__index_files(mde_context *c, const char *path, const mde_json *root, const char **files)
{
    const mde_json *map = mde_json_get(root, "weight_map"), *entry;
    size_t count = 0, i;
    if (!map || map->kind != MDE_JSON_OBJECT || map->length == 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: expected \"weight_map\", the file of each tensor", path);
        return 0;
    }
    for (entry = map->child; entry; entry = entry->next) {
        if (entry->kind != MDE_JSON_STRING || entry->length == 0 || strpbrk(entry->string, "/\\:") ||
            strlen(entry->string) != entry->length || !mde__ends_with(entry->string, ".safetensors")) {
            mde_fail(c, MDE_BAD_FILE, "%s: tensor %.200s: expected the name of a .safetensors file in the same folder",
                     path, entry->key);
            return 0;
        }
        for (i = count; i > 0 && strcmp(files[i - 1], entry->string) != 0; i--) {}
        if (i == 0) files[count++] = entry->string;
    }
    return count;
}

static mde_safetensors *mde__safetensors_read_index(mde_context *c, const char *path)
{
    mde_json *root = mde_json_read(c, path);
    const mde_json *map = mde_json_get(root, "weight_map"), *entry;
    size_t length = map ? map->length : 0, count, i;
    const char **names = (const char **)mde_alloc(c, length + 1, sizeof *names);
    mde_safetensors **files = (mde_safetensors **)mde_alloc(c, length + 1, sizeof *files);
    mde__safetensors_file *all = (mde__safetensors_file *)mde_alloc(c, 1, sizeof *all);
    if (all) all->file.tensors = (mde_safetensor *)mde_alloc(c, length + 1, sizeof *all->file.tensors);
    if (all) all->file.other = (const char **)mde_alloc(c, length + 1, 2 * sizeof *all->file.other);
    count = mde__bad(c) ? 0 : mde__index_files(c, path, root, names);
    for (i = 0; i < count && !mde__bad(c); i++) {
        char *file = mde__sibling_path(c, path, names[i]);
        mde__safetensors_file *read = file ? (mde__safetensors_file *)(void *)mde_safetensors_read(c, file) : NULL;
        if (read) {
            read->next = all->next;
            all->next = files[i] = &read->file;
        }
        mde_release(c, file);
    }
    for (entry = mde__bad(c) ? NULL : map->child; entry && !mde__bad(c); entry = entry->next) {
        const mde_safetensor *found;
        const char *type;
        for (i = 0; strcmp(names[i], entry->string) != 0; i++) {}
        found = mde_safetensors_find(files[i], entry->key);
        type = mde__second_of_pair(files[i]->others, files[i]->other, entry->key);
        if (found) {
            all->file.tensors[all->file.count++] = *found;
        } else if (type) {
            all->file.other[2 * all->file.others] = entry->key;
            all->file.other[2 * all->file.others++ + 1] = type;
        } else {
            mde_fail(c, MDE_BAD_FILE, "%s: tensor %.200s is not in %s", path, entry->key, entry->string);
        }
    }
    MDE__RELEASE(c, names, files);
    mde_json_free(c, root);
    if (!mde__bad(c)) return &all->file;
    mde_safetensors_free(c, all ? &all->file : NULL);
    return NULL;
}

MDEDEF mde_safetensors *mde_safetensors_read(mde_context *c, const char *path)
{
    size_t size = 0;
    unsigned char *bytes;
    mde_safetensors *file;
    if (path && mde__ends_with(path, ".index.json")) return mde__safetensors_read_index(c, path);
    bytes = mde_file_read(c, path, SIZE_MAX, &size);
    file = bytes ? mde_safetensors_parse(c, path, bytes, size) : NULL;
    mde_release(c, bytes);
    return file;
}

static void mde__put_float(unsigned char *p, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    mde__put_bytes(p, 4, bits);
}

/* Exactly one of f32 and f64 is given, unless there are no elements. */
static mde_status mde__npy_write_as(mde_context *c, const char *path, int rank, const int64_t *shape, int size,
                                    const float *f32, const double *f64)
{
    unsigned char *bytes;
    char header[256];
    size_t count = 0, data = 0, at, end;
    if (mde__bad(c)) return mde_context_status(c);
    if (!path || (rank > 0 && !shape)) return mde_fail(c, MDE_BAD_ARGUMENT, "npy write: no path or no shape was given");
    if (!mde__shape_elements(c, MDE_BAD_ARGUMENT, path, rank, shape, &count)) return c->status;
    if (count && !f32 && !f64) return mde_fail(c, MDE_BAD_ARGUMENT, "%s: there is no data to write", path);
    if (!mde__mul_size(count, (size_t)size, &data) || data > SIZE_MAX - sizeof header) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "%s: %zu elements are too many", path, count);
    }
    at = (size_t)snprintf(header, sizeof header, "{'descr': '<f%d', 'fortran_order': False, 'shape': (", size);
    for (int k = 0; k < rank; k++) {
        at += (size_t)snprintf(header + at, sizeof header - at, k ? " %lld" : "%lld", (long long)shape[k]);
        if (k == 0 || k < rank - 1) header[at++] = ',';
    }
    at += (size_t)snprintf(header + at, sizeof header - at, "), }");
    for (end = at + 1; (10 + end) % 64 != 0; end++) {}      /* the data starts at a multiple of 64 bytes */
    memset(header + at, ' ', end - at);
    header[end - 1] = '\n';
    bytes = (unsigned char *)mde_alloc(c, 10 + end + data, 1);
    if (!bytes) return c->status;
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    mde__put_bytes(bytes + 8, 2, end);
    memcpy(bytes + 10, header, end);
    for (size_t i = 0; i < count; i++) {
        unsigned char *p = bytes + 10 + end + i * (size_t)size;
        if (f32) mde__put_float(p, f32[i]);
        else mde__put_bytes(p, 8, mde__to_bits(f64[i]));
    }
    mde_file_write(c, path, bytes, 10 + end + data);
    mde_release(c, bytes);
    return c->status;
}

MDEDEF mde_status mde_npy_write(mde_context *c, const char *path, int rank, const int64_t *shape, const float *data)
{
    return mde__npy_write_as(c, path, rank, shape, 4, data, NULL);
}

MDEDEF mde_status mde_npy_write_f64(mde_context *c, const char *path, int rank, const int64_t *shape,
                                    const double *data)
{
    return mde__npy_write_as(c, path, rank, shape, 8, NULL, data);
}

static void mde__safetensors_check(mde_context *c, const char *path, int count, const mde_safetensor *tensors,
                                   int pairs, const char *const *metadata)
{
    const char **names, *twice;
    char what[512];
    mde__require(c, path && count >= 0 && pairs >= 0 && (count == 0 || tensors) && (pairs == 0 || metadata),
                 "safetensors write: path, tensors or metadata are missing");
    if (mde__bad(c)) return;
    names = (const char **)mde_alloc(c, (size_t)count + (size_t)pairs, sizeof *names);
    if (!names) return;
    for (int i = 0; i < count && !mde__bad(c); i++) {
        const mde_safetensor *t = &tensors[i];
        size_t elements = 0;
        mde__require(c, t->name && mde__utf8_valid(t->name, strlen(t->name)) && strcmp(t->name, "__metadata__") != 0,
                     "%s: tensor %d needs a name in UTF-8 other than __metadata__", path, i);
        if (mde__bad(c)) break;
        snprintf(what, sizeof what, "%.200s: tensor %.200s", path, t->name);
        if (!mde__shape_elements(c, MDE_BAD_ARGUMENT, what, t->rank, t->shape, &elements)) break;
        mde__require(c, t->count == elements && (elements == 0 || t->data) && elements <= SIZE_MAX / 4, "%s: its shape "
                     "has %zu elements; count is %zu", what, elements, t->count);
        names[i] = t->name;
    }
    twice = mde__bad(c) ? NULL : mde__find_twice(c, (size_t)count, names);
    if (twice) mde_fail(c, MDE_BAD_ARGUMENT, "%s: two tensors have the name %.200s", path, twice);
    for (int i = 0; i < pairs && !mde__bad(c); i++) {
        const char *key = metadata[2 * i], *value = metadata[2 * i + 1];
        mde__require(c, key && value && mde__utf8_valid(key, strlen(key)) && mde__utf8_valid(value, strlen(value)),
                     "%s: metadata pair %d must be two texts in UTF-8", path, i);
        names[i] = key;
    }
    twice = mde__bad(c) ? NULL : mde__find_twice(c, (size_t)pairs, names);
    if (twice) mde_fail(c, MDE_BAD_ARGUMENT, "%s: the metadata has the key %.200s twice", path, twice);
    mde_release(c, names);
}

/* Keys in the order given; returns the bytes of the data. */
static uint64_t mde__safetensors_header(mde_text *t, int count, const mde_safetensor *tensors, int pairs,
                                        const char *const *metadata)
{
    mde_json_writer w = mde_json_start(t, MDE_JSON_COMPACT);
    uint64_t at = 0;
    mde_json_open(&w, NULL, '{');
    if (pairs) {
        mde_json_open(&w, "__metadata__", '{');
        for (int i = 0; i < pairs; i++) mde_json_write_string(&w, metadata[2 * i], metadata[2 * i + 1]);
        mde_json_close(&w);
    }
    for (int i = 0; i < count; i++) {
        uint64_t end = at + (uint64_t)tensors[i].count * 4;
        mde_json_open(&w, tensors[i].name, '{');
        mde_json_write_string(&w, "dtype", "F32");
        mde_json_open(&w, "shape", '[');
        for (int k = 0; k < tensors[i].rank; k++) mde_json_write_int(&w, NULL, tensors[i].shape[k]);
        mde_json_close(&w);
        mde_json_open(&w, "data_offsets", '[');
        mde_json_write_int(&w, NULL, (int64_t)at);
        mde_json_write_int(&w, NULL, (int64_t)end);
        mde_json_close(&w);
        mde_json_close(&w);
        at = end;
    }
    mde_json_close(&w);
    mde_json_end(&w);
    while (t && t->length % 8 != 0 && !mde__bad(t->context)) mde_text_add(t, " ");
    return at;
}

MDEDEF mde_status mde_safetensors_write(mde_context *c, const char *path, int count, const mde_safetensor *tensors,
                                        int pairs, const char *const *metadata)
{
    unsigned char *bytes = NULL, *p;
    mde_text *header = NULL;
    uint64_t data = 0;
    if (mde__bad(c)) return mde_context_status(c);
    mde__safetensors_check(c, path, count, tensors, pairs, metadata);
    header = mde_text_create(c);
    if (header) data = mde__safetensors_header(header, count, tensors, pairs, metadata);
    if (header && header->length > MDE__SAFETENSORS_HEADER) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: a header of %zu bytes is too long", path, header->length);
    }
    if (data > SIZE_MAX / 2) mde_fail(c, MDE_OUT_OF_MEMORY, "%s: the data is more than can be addressed", path);
    if (!mde__bad(c)) bytes = (unsigned char *)mde_alloc(c, 8 + header->length + (size_t)data, 1);
    if (bytes) {
        mde__put_bytes(bytes, 8, header->length);
        memcpy(bytes + 8, header->bytes, header->length);
        p = bytes + 8 + header->length;
        for (int i = 0; i < count; i++) {
            for (size_t j = 0; j < tensors[i].count; j++, p += 4) mde__put_float(p, tensors[i].data[j]);
        }
        mde__file_replace(c, path, bytes, (size_t)(p - bytes), MDE__WRITE_TO_DISK);
    }
    mde_release(c, bytes);
    mde_text_free(header);
    return mde_context_status(c);
}

#endif /* MDE_NO_STDIO */

MDE__COLD_END

/* ======================================================================
   6. RANDOM NUMBERS
   ====================================================================== */

/* Elementary functions in double first: libm differs from machine to machine, these do not. Each reduces its argument
   and sums a Taylor series to the last bit that matters; errors are about one unit in the last place. Then Philox: a
   number is a function of seed, stream and position, so nothing has to be drawn in order. */

#define MDE__LN2_HIGH 6.93147180369123816490e-01    /* 32 bits of ln 2, so that k times it is exact */
#define MDE__LN2_LOW 1.90821492927058770002e-10
#define MDE__PI 3.14159265358979323846

/* 2^k for k in -1022 .. 1023. */
static double mde__power_of_two(int k)
{
    return mde__from_bits((uint64_t)(k + 1023) << 52);
}

static double mde__exp64(double x)
{
    static const double inverse_factorial[14] = {
        1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0
    };
    double k, r, sum = 0;
    int power, half;
    if (x != x) return x;
    if (x > 709.79) return (double)INFINITY;
    if (x < -745.2) return 0;
    k = floor(x * 1.44269504088896338700 + 0.5);
    r = (x - k * MDE__LN2_HIGH) - k * MDE__LN2_LOW;
    for (int i = 13; i >= 2; i--) sum = sum * r + inverse_factorial[i];
    sum = 1.0 + (r + r * r * sum);
    power = (int)k;
    half = power / 2;
    return sum * mde__power_of_two(half) * mde__power_of_two(power - half);
}

static double mde__log64(double x)
{
    static const double coefficient[13] = {
        2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23,
        2.0 / 25
    };
    uint64_t bits;
    int exponent = 0;
    double f, s, z, half_square, series = 0;
    if (x != x || x < 0) return (double)NAN;
    if (x == 0) return -(double)INFINITY;
    if (x > 1.7976931348623157e308) return x;
    if (x < 2.2250738585072014e-308) {
        x *= 18014398509481984.0;
        exponent = -54;
    }
    bits = mde__to_bits(x);
    exponent += (int)(bits >> 52) - 1023;
    x = mde__from_bits((bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000));
    if (x > 1.41421356237309504880) {
        x *= 0.5;
        exponent++;
    }
    /* log(1 + f) = f - f^2/2 + s (f^2/2 + 2 s^2/3 + 2 s^4/5 + ...) with s = f / (2 + f) */
    f = x - 1.0;
    s = f / (2.0 + f);
    z = s * s;
    for (int i = 12; i >= 1; i--) series = (series + coefficient[i]) * z;
    half_square = 0.5 * f * f;
    return exponent * MDE__LN2_HIGH - ((half_square - (s * (half_square + series) + exponent * MDE__LN2_LOW)) - f);
}

/* For x >= 0; the relative error grows with |y log x|. */
static double mde__pow64(double x, double y)
{
    return y == 0 ? 1.0 : mde__exp64(y * mde__log64(x));
}

/* cos(x) for shift 1, sin(x) for shift 0; for |x| up to a million, beyond that less exact. */
static double mde__sine(double x, int shift)
{
    double n, part, rest, r, z, sum = 0;
    int quadrant;
    if (!(fabs(x) < 1e15)) return (double)NAN;
    /* x - n pi/2 = r + rest: the first two parts of pi/2 have 33 bits, so that n times them is exact. */
    n = floor(x * (2.0 / MDE__PI) + 0.5);
    x -= n * 1.57079632673412561417e+00;
    part = n * 6.07710050630396597660e-11;
    rest = x - part;
    part = n * 2.02226624879595063154e-21 - ((x - rest) - part);
    r = rest - part;
    rest = (rest - r) - part;
    z = r * r;
    quadrant = (int)fmod(n, 4.0) + shift + 4;
    if (quadrant % 2 == 0) {
        for (int i = 9; i >= 1; i--) sum = (1.0 + sum) * -z / ((2.0 * i) * (2.0 * i + 1.0));
        sum = r + (r * sum + rest * (1.0 - 0.5 * z));
    } else {
        for (int i = 9; i >= 1; i--) sum = (1.0 + sum) * -z / ((2.0 * i) * (2.0 * i - 1.0));
        sum = 1.0 + (sum - r * rest);
    }
    return quadrant % 4 >= 2 ? -sum : sum;
}

static double mde__sin64(double x)
{
    return mde__sine(x, 0);
}

static double mde__cos64(double x)
{
    return mde__sine(x, 1);
}

/* Philox4x32 with ten rounds (Salmon et al. 2011, section 3.2), in place. */
static void mde__philox(uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)UINT32_C(0xD2511F53) * counter[0], b = (uint64_t)UINT32_C(0xCD9E8D57) * counter[2];
        uint32_t next0 = (uint32_t)(b >> 32) ^ counter[1] ^ key0, next2 = (uint32_t)(a >> 32) ^ counter[3] ^ key1;
        counter[1] = (uint32_t)b;
        counter[3] = (uint32_t)a;
        counter[0] = next0;
        counter[2] = next2;
        key0 += UINT32_C(0x9E3779B9);
        key1 += UINT32_C(0xBB67AE85);
    }
}

MDEDEF mde_random mde_random_start(uint64_t seed, uint64_t stream)
{
    mde_random r = { seed, stream, 0 };
    return r;
}

MDEDEF uint64_t mde_random_bits(mde_random *r)
{
    uint32_t counter[4];
    uint64_t block = r->position / 2;
    int half = (int)(r->position % 2) * 2;
    r->position++;
    counter[0] = (uint32_t)block;
    counter[1] = (uint32_t)(block >> 32);
    counter[2] = (uint32_t)r->stream;
    counter[3] = (uint32_t)(r->stream >> 32);
    mde__philox(counter, (uint32_t)r->seed, (uint32_t)(r->seed >> 32));
    return counter[half] | (uint64_t)counter[half + 1] << 32;
}

MDEDEF double mde_random_uniform(mde_random *r)
{
    return (double)(mde_random_bits(r) >> 11) * (1.0 / 9007199254740992.0);
}

/* Box and Muller 1958. */
MDEDEF double mde_random_normal(mde_random *r)
{
    double radius = sqrt(-2.0 * mde__log64(1.0 - mde_random_uniform(r)));
    return radius * mde__cos64(2.0 * MDE__PI * mde_random_uniform(r));
}

MDEDEF double mde_random_gamma(mde_random *r, double shape)
{
    double d, scale;
    if (!(shape > 0)) return (double)NAN;
    if (shape < 1) {
        double boost = mde__pow64(1.0 - mde_random_uniform(r), 1.0 / shape);
        return mde_random_gamma(r, shape + 1) * boost;
    }
    d = shape - 1.0 / 3.0;
    scale = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = mde_random_normal(r), v = 1.0 + scale * x, u = 1.0 - mde_random_uniform(r);
        if (v <= 0) continue;
        v = v * v * v;
        if (mde__log64(u) < 0.5 * x * x + d - d * v + d * mde__log64(v)) return d * v;
    }
}

MDEDEF uint64_t mde_random_below(mde_random *r, uint64_t n)
{
    uint64_t rest, bits;
    if (n < 2) return 0;
    rest = (UINT64_MAX - n + 1) % n;     /* 2^64 mod n: so many values at the bottom would be drawn too often */
    do bits = mde_random_bits(r);
    while (bits < rest);
    return bits % n;
}

/* Gamma variates in logarithms, so that small alphas do not underflow to a sum of zero. */
MDEDEF void mde_random_dirichlet(mde_random *r, int n, const double *alpha, double *weights)
{
    double largest = -(double)INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        double a = alpha[i] > 1e-6 ? alpha[i] : 1e-6;
        weights[i] = mde__log64(mde_random_gamma(r, a + 1.0)) + mde__log64(1.0 - mde_random_uniform(r)) / a;
        if (weights[i] > largest) largest = weights[i];
    }
    for (int i = 0; i < n; i++) sum += weights[i] = mde__exp64(weights[i] - largest);
    for (int i = 0; i < n; i++) weights[i] /= sum;
}

MDEDEF void mde_random_draw(mde_random *r, int n, int count, int *urn)
{
    for (int i = 0; i < n; i++) urn[i] = i;
    for (int i = 0; i < count; i++) {
        int j = i + (int)mde_random_below(r, (uint64_t)(n - i)), swap = urn[i];
        urn[i] = urn[j];
        urn[j] = swap;
    }
}

MDEDEF void mde_random_permutation(mde_random *r, int64_t n, int64_t *permutation)
{
    for (int64_t i = 0; i < n; i++) permutation[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)mde_random_below(r, (uint64_t)i + 1), swap = permutation[i];
        permutation[i] = permutation[j];
        permutation[j] = swap;
    }
}

MDEDEF void mde_random_mixture(mde_random *r, int n, double *weights)
{
    double strength = mde__exp64(mde_random_uniform(r) * mde__log64(30.0));
    for (int i = 0; i < n; i++) weights[i] = strength / n;
    mde_random_dirichlet(r, n, weights, weights);
}

/* ======================================================================
   7. KERNELS
   ====================================================================== */

/* Loops over float32 arrays. The text of a kernel stands here once, written for vectors of MDE__W floats; it is read
   once for each instruction set (this file includes itself); a context uses the one of its CPU. All give the same bits:
   an element of a matrix product is one chain of fused multiply-adds in order of k; a sum runs in 16 virtual lanes,
   lane = index mod 16, folded by one fixed tree; exp, log, tanh and sin are polynomials written here. Threads share out
   rows or elements at places that do not show in the result. */

/* Vector types with operators, a GNU extension; not where clang gives them to the NEON of ARMv7, which rounds denormal
   numbers to zero. */
#if defined(__GNUC__) && !defined(__TINYC__) && !defined(__arm__)
#define MDE__VECTORS
#endif
#if defined(MDE__VECTORS) && defined(__x86_64__)
#define MDE__X86
/* gcc reads <immintrin.h> for longer than this file: its own names are enough, if it still has them. */
#if !defined(__clang__) && defined(__has_builtin)
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#if __has_builtin(__builtin_ia32_vfmaddps512_mask) && __has_builtin(__builtin_ia32_maxps512_mask) && \
    __has_builtin(__builtin_ia32_sqrtps512_mask) && __has_builtin(__builtin_ia32_sqrtpd512_mask) && \
    __has_builtin(__builtin_ia32_cvtps2pd512_mask)      /* those of AVX2 are older */
#define MDE__GCC_BUILTINS
#endif
#pragma GCC pop_options
#endif
#ifdef MDE__GCC_BUILTINS
#include <emmintrin.h>
#define MDE__FMA_4(a, b, c) __builtin_ia32_vfmaddps(a, b, c)
#define MDE__FMA_8(a, b, c) __builtin_ia32_vfmaddps256(a, b, c)
#define MDE__FMA_16(a, b, c) __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4)      /* all lanes, rounded as usual */
#define MDE__MAX_8(a, b) __builtin_ia32_maxps256(a, b)
#define MDE__MAX_16(a, b) __builtin_ia32_maxps512_mask(a, b, a, -1, 4)
#define MDE__SQRT_8(x) __builtin_ia32_sqrtps256(x)
#define MDE__SQRT_16(x) __builtin_ia32_sqrtps512_mask(x, x, -1, 4)
#define MDE__SQRT_DOUBLE_4(x) __builtin_ia32_sqrtpd256(x)
#define MDE__SQRT_DOUBLE_8(x) __builtin_ia32_sqrtpd512_mask(x, x, -1, 4)
#define MDE__WIDEN_4(x) __builtin_ia32_cvtps2pd256(x)
#define MDE__WIDEN_8(x) __builtin_ia32_cvtps2pd512_mask(x, MDE__K(set_double)(0), -1, 4)
#else
#include <immintrin.h>
#define MDE__FMA_4(a, b, c) _mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c))
#define MDE__FMA_8(a, b, c) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define MDE__FMA_16(a, b, c) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define MDE__MAX_8(a, b) _mm256_max_ps((__m256)(a), (__m256)(b))
#define MDE__MAX_16(a, b) _mm512_maskz_max_ps(0xffff, (__m512)(a), (__m512)(b))
#define MDE__SQRT_8(x) _mm256_sqrt_ps((__m256)(x))
#define MDE__SQRT_16(x) _mm512_maskz_sqrt_ps(0xffff, (__m512)(x))
#define MDE__SQRT_DOUBLE_4(x) _mm256_sqrt_pd((__m256d)(x))
#define MDE__SQRT_DOUBLE_8(x) _mm512_maskz_sqrt_pd(0xff, (__m512d)(x))
#define MDE__WIDEN_4(x) _mm256_cvtps_pd((__m128)(x))
#define MDE__WIDEN_8(x) _mm512_maskz_cvtps_pd(0xff, (__m256)(x))
#endif
#elif defined(MDE__VECTORS) && defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#ifndef MDEMIX_FILE
#define MDEMIX_FILE "mdemix.h"          /* this file's name, if you rename it */
#endif

#define MDE__LANES 16
#define MDE__COLUMN_BLOCK 256           /* rows of a column sum that form one chain */
#define MDE__DENSE_ROWS 8
#define MDE__DENSE_COLUMNS 16
#define MDE__DENSE_BLOCK 32             /* of the Cholesky factor: a block of 8 KB stays in the first-level cache */
#define MDE__INPUT_BLOCK 32             /* inputs side by side, whose covariances with others are taken together */
#define MDE__MIXTURE_BLOCK 2048         /* tokens of one partial sum of a mixture's log-likelihood */
#define MDE__MIXTURE_STRIP 64           /* tokens whose probabilities are held at one time */
#define MDE__MIXTURE_EXPERTS 64         /* at most */
#define MDE__MIXTURES 64                /* mixtures that share one reading of the probabilities */
#define MDE__MIXTURES_BLOCK 8192        /* tokens of one partial sum of many mixtures */
#define MDE__MIXTURES_SAMPLE 2048       /* tokens that say what rounding the weights does */
#define MDE__STRIP_LANES 32             /* tokens side by side of the products of many mixtures' probabilities, */
#define MDE__STRIP_STEPS 8              /* factors of a product, */
#define MDE__STRIP_TOKENS (MDE__STRIP_LANES * MDE__STRIP_STEPS)
#define MDE__STRIP_LOWEST 1e-30f        /* and the minimum product that still has all its bits */

static MDE__INLINE int64_t mde__min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Asks for the n floats that come `ahead` floats after p; they need not exist. Processors foresee what is read in order
   from a few places, but not from many experts' rows side by side. */
static inline void mde__prefetch(const float *p, int64_t ahead, int64_t n)
{
#ifdef __GNUC__
    for (int64_t i = ahead; i < ahead + n; i += 16) {
        __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)i * sizeof *p));
    }
#endif
    (void)p, (void)ahead, (void)n;
}

/* AdamW's numbers as its kernel takes them: new = decay old, and so on. */
typedef struct mde__adam {
    float grad_scale, beta1, rest1, beta2, rest2, correction2, epsilon, step, decay;
} mde__adam;

/* What a kernel works on: each says which fields it reads. from and to bound its share of rows or elements. */
typedef struct mde__job {
    const float *in[5];
    const int32_t *target;
    float *out[4];
    double *partial;
    int64_t rows, cols, chunk;
    int accumulate;                             /* 1: the output is added to */
    float scale, shift, epsilon;
    mde__adam adam;
    int64_t times, heads, rotated, dim;         /* rotary positions */
    int64_t stride, visible, out_stride;        /* attention */
    const double *weights;                      /* mixtures; of pow, its power */
    int64_t experts, terms;
    int order;                                  /* of derivatives, 0 to 2 */
} mde__job;

/* A matrix product of tiles, out [m, n] (+)= A B. A: rows as in mde_product or, where row is NULL, panels of the tile's
   rows, [k][rows] each. B: panels of the tile's columns b_panel floats apart, whose rows are b_stride floats apart. */
typedef struct mde__tiles {
    int64_t m, n, k;
    const float *a, *b;
    const int64_t *row;
    int64_t step, b_panel, b_stride, stride;
    int accumulate;
    float *out;
} mde__tiles;

/* A sum of logs as the log of a product: 8 lanes of mantissas in [1, 2), and the sums of their exponents. */
typedef struct mde__log_sum {
    double product[MDE__LANES / 2];
    uint64_t exponent[MDE__LANES / 2];      /* modulo 2^64 */
} mde__log_sum;

/* The same in float32: a product lies below 2^32 after the strips of a block. */
typedef struct mde__strip_sum {
    float product[MDE__STRIP_LANES];
    int32_t exponent[MDE__STRIP_LANES];
} mde__strip_sum;

typedef void mde__kernel_fn(const mde__job *j, int64_t from, int64_t to);

/* Every kernel once: JOB(name) for those that work on a job, OTHER(result, name, parameters) for the others. From the
   lists come a declaration for each instruction set and mde__kernel_NAME(simd), the kernel of the set that runs: a
   function of its own for each, so that the compiler drops the kernels which a program never calls. */
#define MDE__KERNELS(JOB, OTHER) \
    OTHER(void, pack, (int along_k, int64_t width, int64_t count, int64_t k, const float *x, int64_t stride, \
                       float *panels)) \
    OTHER(void, tiles, (const mde__tiles *t)) \
    MDE__GATED_FUNCTIONS(JOB) MDE__BINARY_FUNCTIONS(JOB) \
    JOB(axpy) JOB(affine) JOB(silu_vjp) JOB(gelu_vjp) JOB(adamw) JOB(row_product) JOB(sum_columns) \
    JOB(softmax) JOB(cross_entropy) JOB(cross_entropy_vjp) JOB(norm_gain_vjp) JOB(glu) JOB(glu_vjp) \
    JOB(attention_weights) JOB(attention_end) JOB(attention_gradients) JOB(mixture) JOB(mixtures) \
    OTHER(void, dense_tile, (int64_t depth, double sign, int added, const double *a, const double *b, double *out, \
                             size_t stride)) \
    OTHER(void, covariance, (mde_kernel kernel, double signal, int64_t n, int64_t d, const double *at, \
                             const double *columns, double *k, double *g))

/* Kernels that gain little or nothing from AVX-512 or that no network spends its time in, and dense algebra in double
   but for its products and covariances: there it runs what AVX2 does, which saves their compile time. A dense tile is
   MDE__DENSE_ROWS x MDE__DENSE_COLUMNS everywhere. */
#define MDE__NARROW_KERNELS(JOB, OTHER) \
    MDE__PLAIN_FUNCTIONS(JOB) \
    JOB(sum) JOB(dot) JOB(sum_squares) JOB(sum_rows) JOB(log_softmax) JOB(softmax_vjp) \
    JOB(rms_norm) JOB(rms_norm_vjp) JOB(layer_norm) JOB(layer_norm_vjp) JOB(rope) \
    OTHER(void, dense_multiply, (int64_t n, double scale, const double *x, const double *y, double *out)) \
    OTHER(void, dense_axpy, (int64_t n, double scale, const double *x, double *y)) \
    OTHER(double, dense_dot, (int64_t n, const double *x, const double *y)) \
    OTHER(void, dense_exp, (int64_t n, const double *x, double *out)) \
    OTHER(void, dense_log, (int64_t n, const double *x, double *out)) \
    OTHER(int, dense_factor, (int n, const double *a, double *inverse, size_t stride))

/* Functions of one element and of two: each is a kernel, an op and a public function of that name. Those that are x
   times a sigmoid have a kernel for their derivative, too. */
#define MDE__PLAIN_FUNCTIONS(X) X(exp) X(log) X(sqrt) X(tanh) X(sigmoid) X(relu) X(abs) X(sin) X(cos)
#define MDE__GATED_FUNCTIONS(X) X(silu) X(gelu)
#define MDE__BINARY_FUNCTIONS(X) X(add) X(sub) X(mul) X(div) X(maximum)

/* ---- Fused multiply-add where the machine has none ---- */

/* The product of two floats is exact in double. The sum is rounded to odd (the last bit tells that something was cut
   off), so that rounding it again to float cannot go wrong (Boldo and Melquiond 2008). */
MDE__UNUSED
static MDE__NOINLINE float mde__fma_emulated(float a, float b, float c)
{
#ifdef MDE_NO_FMA_EMULATION
    return a * b + c;
#else
    double product = (double)a * (double)b, sum = product + (double)c, t = sum - product;
    double error = (product - (sum - t)) + ((double)c - t);
    if (error > 0 || error < 0) {
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if (!(bits & 1)) bits += (error < 0) == (sum < 0) ? 1 : UINT64_MAX;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
#endif
}

#ifdef __FP_FAST_FMAF
#define MDE__FMA_SCALAR(a, b, c) __builtin_fmaf(a, b, c)
#define MDE__FMA_CALL inline
#else
#define MDE__FMA_SCALAR(a, b, c) mde__fma_emulated(a, b, c)
#define MDE__FMA_CALL MDE__NOINLINE
#endif

/* r and n modulo 4 of x = n pi/2 + r, |r| <= pi/4, for x >= 2^16. x is m 2^e; of m 2^e 2/pi the parts that are 4 and
   more do not count, and the next 96 bits of 2^e 2/pi leave an error of 2^-61; no float has an r below 2^-29.3. */
static float mde__reduce_large(float x, int32_t *n)
{
    static const uint32_t two_by_pi[8] = { 0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041,
                                           0xfe5163ab };
    const uint32_t *word;
    uint64_t m, high, low;
    uint32_t bits;
    int at;
    memcpy(&bits, &x, sizeof bits);
    at = (int)(bits >> 23) - 120;               /* the exponent e, + 30: its first bit */
    m = (bits & 0x7fffff) | 0x800000;
    word = two_by_pi + at / 32;
    at %= 32;
    high = ((uint64_t)word[0] << 32) | word[1];
    low = ((uint64_t)word[2] << 32) | word[3];
    if (at) high = (high << at) | (low >> (64 - at));
    high = m * high + ((m * ((low << at) >> 32)) >> 32);        /* in units of 2^-62 */
    m = (high + (UINT64_C(1) << 61)) >> 62;
    *n = (int32_t)m;
    high -= m << 62;
    return (float)((high >> 63 ? -(double)(0 - high) : (double)high) * 3.4061215800865545e-19);    /* pi 2^-63 */
}

/* Sum of log s of n tokens in double, for products that float32 cannot hold: w [experts][4] of which one is taken. */
static double mde__mixture_careful(int64_t experts, const float *w, const float *r, int64_t stride, int64_t n)
{
    double sum = 0;
    int64_t t, e;
    for (t = 0; t < n; t++) {
        double s = 0;
        for (e = 0; e < experts; e++) s += (double)w[4 * e] * (double)r[e * stride + t];
        sum += mde__log64(s);
    }
    return sum;
}

/* -DMDE__WITH_WIDE (gcc: -Wno-psabi) adds the width of AVX-512 without its instructions, for tests on machines that
   lack them. */
#define MDE__SIMD_WIDE 4
#define MDE__KERNEL_SET 1               /* MDE_SIMD_PORTABLE, for the preprocessor */
#endif /* MDEMIX_IMPLEMENTATION: the text up to the next line like this one is read once for each instruction set */

#ifdef MDE__KERNEL_SET

#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"  /* what only the narrow kernels call */
#endif

#if MDE__KERNEL_SET == 1 && defined(MDE__X86) && !defined(MDE_NO_SIMD)
#define MDE__KERNELS_COLD               /* processors without AVX2 only */
MDE__COLD_BEGIN
#endif

/* ---- Vectors of one instruction set ---- */

#if MDE__KERNEL_SET == 1
#define MDE__K(name) mde__##name##_portable
#ifdef MDE__VECTORS
#define MDE__W 4
#else
#define MDE__W 1
#endif
#elif MDE__KERNEL_SET == 2
#define MDE__K(name) mde__##name##_avx2
#define MDE__W 8
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#elif MDE__KERNEL_SET == 3
#define MDE__K(name) mde__##name##_avx512
#define MDE__W 16
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
#elif MDE__KERNEL_SET == 4
#define MDE__K(name) mde__##name##_wide
#define MDE__W 16
#endif
#if (MDE__KERNEL_SET == 2 || MDE__KERNEL_SET == 3) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#ifdef __MINGW32__              /* with tables for the unwinding of the stack it would not be aligned for vectors */
#pragma GCC optimize("no-asynchronous-unwind-tables", "no-unwind-tables")
#endif
#endif

/* MDE__EACH(S): S(j) for each register j of the 16 float lanes; MDE__EACH_DOUBLE for the 8 double lanes. */
#define MDE__EACH_2(S) S(0) S(1)
#define MDE__EACH_4(S) S(0) S(1) S(2) S(3)
#define MDE__EACH_8(S) MDE__EACH_4(S) S(4) S(5) S(6) S(7)
#if MDE__W == 1
#define MDE__DOUBLES 1
#define MDE__FILL_HALF(x) x
#define MDE__FILL(x) x
#define MDE__EACH(S) MDE__EACH_8(S) S(8) S(9) S(10) S(11) S(12) S(13) S(14) S(15)
#define MDE__EACH_DOUBLE(S) MDE__EACH_8(S)
#elif MDE__W == 4
#define MDE__DOUBLES 2
#define MDE__FILL_HALF(x) { x, x }
#define MDE__FILL(x) { x, x, x, x }
#define MDE__EACH(S) MDE__EACH_4(S)
#define MDE__EACH_DOUBLE(S) MDE__EACH_4(S)
#elif MDE__W == 8
#define MDE__DOUBLES 4
#define MDE__FILL_HALF(x) { x, x, x, x }
#define MDE__FILL(x) { x, x, x, x, x, x, x, x }
#define MDE__EACH(S) MDE__EACH_2(S)
#define MDE__EACH_DOUBLE(S) MDE__EACH_2(S)
#else
#define MDE__DOUBLES 8
#define MDE__FILL_HALF(x) { x, x, x, x, x, x, x, x }
#define MDE__FILL(x) { x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x }
#define MDE__EACH(S) S(0)
#define MDE__EACH_DOUBLE(S) S(0)
#endif

/* Where a multiply-add is a call, what is full of them is one, too: those processors are old, and code is dear. */
#if MDE__KERNEL_SET == 1 && !defined(__FMA__) && !defined(__ARM_FEATURE_FMA)
#define MDE__SHARED MDE__NOINLINE
#else
#define MDE__SHARED inline
#endif

/* V: floats; I: as many int32, also the masks of comparisons; D: half as many doubles; L: as many uint64. */
#define MDE__V MDE__K(V)
#define MDE__I MDE__K(I)
#define MDE__D MDE__K(D)
#define MDE__L MDE__K(L)
#if MDE__W == 1
typedef float MDE__V;
typedef int32_t MDE__I;
typedef double MDE__D;
typedef uint64_t MDE__L;
#define MDE__MASK_DOUBLE(comparison) (UINT64_C(0) - (uint64_t)(comparison))
#define MDE__MASK(comparison) (-(int32_t)(comparison))
#else
typedef float MDE__V __attribute__((vector_size(MDE__W * 4)));
typedef int32_t MDE__I __attribute__((vector_size(MDE__W * 4)));
typedef double MDE__D __attribute__((vector_size(MDE__W * 4)));
typedef uint64_t MDE__L __attribute__((vector_size(MDE__W * 4)));
#define MDE__MASK_DOUBLE(comparison) ((MDE__L)(comparison))
#define MDE__MASK(comparison) ((MDE__I)(comparison))
#endif

#define MDE__DECLARE(result, name, parameters) static result MDE__K(name) parameters;
#define MDE__DECLARE_JOB(name) MDE__DECLARE(void, name, (const mde__job *j, int64_t from, int64_t to))
MDE__KERNELS(MDE__DECLARE_JOB, MDE__DECLARE)
#if MDE__KERNEL_SET != 3
MDE__NARROW_KERNELS(MDE__DECLARE_JOB, MDE__DECLARE)
#endif

/* The bits of one vector as another. */
#define MDE__BITS(name, from, to) \
    static inline to MDE__K(name)(from x) \
    { \
        to bits; \
        memcpy(&bits, &x, sizeof bits); \
        return bits; \
    }
MDE__BITS(as_int, MDE__V, MDE__I)
MDE__BITS(as_float, MDE__I, MDE__V)
MDE__BITS(as_long, MDE__D, MDE__L)
MDE__BITS(as_double, MDE__L, MDE__D)

static inline MDE__V MDE__K(load)(const float *p)
{
    MDE__V x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void MDE__K(store)(float *p, MDE__V x)
{
    memcpy(p, &x, sizeof x);
}

static inline MDE__V MDE__K(set)(float x)
{
    MDE__V all = MDE__FILL(x);
    return all;
}

static inline MDE__I MDE__K(set_int)(int32_t x)
{
    MDE__I all = MDE__FILL(x);
    return all;
}

/* The first n < MDE__W floats, then fill. */
static MDE__NOINLINE MDE__V MDE__K(load_part)(const float *p, int64_t n, float fill)
{
    float lanes[MDE__W];
    int64_t i;
    for (i = 0; i < MDE__W; i++) lanes[i] = i < n ? p[i] : fill;
    return MDE__K(load)(lanes);
}

static MDE__NOINLINE void MDE__K(store_part)(float *p, int64_t n, MDE__V x)
{
    float lanes[MDE__W];
    int64_t i;
    MDE__K(store)(lanes, x);
    for (i = 0; i < n; i++) p[i] = lanes[i];
}

static inline MDE__V MDE__K(select)(MDE__I mask, MDE__V a, MDE__V b)
{
    return MDE__K(as_float)((mask & MDE__K(as_int)(a)) | (~mask & MDE__K(as_int)(b)));
}

/* Left shift of numbers that are not negative. */
static inline MDE__I MDE__K(shift_left)(MDE__I x, int bits)
{
#if MDE__W == 1
    return (int32_t)((uint32_t)x << bits);
#else
    return x << bits;
#endif
}

/* a b + c, rounded once. Where that takes many instructions it is a call, since every kernel is full of it. */
#if MDE__KERNEL_SET == 3
#define MDE__FUSED(a, b, c) MDE__FMA_16(a, b, c)
#elif MDE__KERNEL_SET == 2
#define MDE__FUSED(a, b, c) MDE__FMA_8(a, b, c)
#elif MDE__W == 4 && defined(MDE__X86) && defined(__FMA__)
#define MDE__FUSED(a, b, c) MDE__FMA_4(a, b, c)
#elif MDE__W == 4 && defined(__aarch64__) && defined(__ARM_NEON)
#define MDE__FUSED(a, b, c) vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b)
#elif defined(MDE_NO_FMA_EMULATION)
#define MDE__FUSED(a, b, c) (a * b + c)
#elif MDE__W == 1 && defined(FP_FAST_FMAF)
#define MDE__FUSED(a, b, c) fmaf(a, b, c)
#elif MDE__W == 1
#define MDE__FUSED(a, b, c) mde__fma_emulated(a, b, c)
#endif
#ifdef MDE__FUSED
static inline MDE__V MDE__K(fma)(MDE__V a, MDE__V b, MDE__V c)
{
    return (MDE__V)MDE__FUSED(a, b, c);
}
#elif MDE__W == 4 && defined(MDE__X86)
/* mde__fma_emulated, two lanes at a time. */
static MDE__NOINLINE MDE__V MDE__K(fma)(MDE__V a, MDE__V b, MDE__V c)
{
    MDE__D half[2];
    int i;
    for (i = 0; i < 2; i++) {
        MDE__V x = i ? (MDE__V)_mm_movehl_ps((__m128)a, (__m128)a) : a;
        MDE__V y = i ? (MDE__V)_mm_movehl_ps((__m128)b, (__m128)b) : b;
        MDE__V z = i ? (MDE__V)_mm_movehl_ps((__m128)c, (__m128)c) : c;
        MDE__D product = (MDE__D)_mm_cvtps_pd((__m128)x) * (MDE__D)_mm_cvtps_pd((__m128)y);
        MDE__D addend = (MDE__D)_mm_cvtps_pd((__m128)z), sum = product + addend, t = sum - product, zero = {0};
        MDE__D error = (product - (sum - t)) + (addend - t);
        MDE__L one = {1, 1}, even = ~(MDE__L)sum & one;
        MDE__L opposite = even & (MDE__L)_mm_srli_epi64((__m128i)((MDE__L)error ^ (MDE__L)sum), 63);
        MDE__L inexact = (MDE__L)_mm_cmplt_pd((__m128d)error, (__m128d)zero)
                       | (MDE__L)_mm_cmplt_pd((__m128d)zero, (__m128d)error);
        half[i] = (MDE__D)((MDE__L)sum + (inexact & (even - opposite - opposite)));
    }
    return (MDE__V)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)half[0]), _mm_cvtpd_ps((__m128d)half[1]));
}
#else
static MDE__FMA_CALL MDE__V MDE__K(fma)(MDE__V a, MDE__V b, MDE__V c)
{
    int i;
    for (i = 0; i < MDE__W; i++) c[i] = MDE__FMA_SCALAR(a[i], b[i], c[i]);
    return c;
}
#endif

static inline MDE__V MDE__K(sqrt_of)(MDE__V x)
{
#if MDE__KERNEL_SET == 3
    return (MDE__V)MDE__SQRT_16(x);
#elif MDE__KERNEL_SET == 2
    return (MDE__V)MDE__SQRT_8(x);
#elif MDE__W == 1
    return sqrtf(x);
#elif defined(MDE__X86) && MDE__W == 4
    return (MDE__V)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__) && defined(__ARM_NEON) && MDE__W == 4
    return (MDE__V)vsqrtq_f32((float32x4_t)x);
#else
    int i;
    for (i = 0; i < MDE__W; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* a where a > b, else b. */
static inline MDE__V MDE__K(larger)(MDE__V a, MDE__V b)
{
#if MDE__KERNEL_SET == 3
    return (MDE__V)MDE__MAX_16(a, b);
#elif MDE__KERNEL_SET == 2
    return (MDE__V)MDE__MAX_8(a, b);
#elif defined(MDE__X86) && MDE__W == 4
    return (MDE__V)_mm_max_ps((__m128)a, (__m128)b);
#else
    return MDE__K(select)(MDE__MASK(a > b), a, b);
#endif
}

static inline MDE__D MDE__K(set_double)(double x)
{
    MDE__D all = MDE__FILL_HALF(x);
    return all;
}

static inline MDE__L MDE__K(set_long)(uint64_t x)
{
    MDE__L all = MDE__FILL_HALF(x);
    return all;
}

/* MDE__DOUBLES floats, widened. */
static inline MDE__D MDE__K(widen)(const float *p)
{
#if MDE__KERNEL_SET == 2 || MDE__KERNEL_SET == 3
    float x __attribute__((vector_size(MDE__W * 2)));
    memcpy(&x, p, sizeof x);
#if MDE__KERNEL_SET == 3
    return (MDE__D)MDE__WIDEN_8(x);
#else
    return (MDE__D)MDE__WIDEN_4(x);
#endif
#elif MDE__W == 1
    return (double)p[0];
#else
    MDE__D x = {0};
    int i;
    for (i = 0; i < MDE__DOUBLES; i++) x[i] = (double)p[i];
    return x;
#endif
}

static inline MDE__D MDE__K(load_double)(const double *p)
{
    MDE__D x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void MDE__K(store_double)(double *p, MDE__D x)
{
    memcpy(p, &x, sizeof x);
}

/* The fixed tree: lane i takes lane i + 8, then i + 4, i + 2, i + 1. */
static inline float MDE__K(fold_sum)(float *lanes)
{
    int half, i;
    for (half = MDE__LANES / 2; half > 0; half /= 2) {
        for (i = 0; i < half; i++) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

static inline float MDE__K(fold_max)(const float *lanes)
{
    float largest = lanes[0];
    int i;
    for (i = 1; i < MDE__LANES; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    return largest;
}

static inline double MDE__K(fold_double)(double *lanes)
{
    int half, i;
    for (half = MDE__LANES / 4; half > 0; half /= 2) {
        for (i = 0; i < half; i++) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

/* ---- Elementary functions, errors below 2 units in the last place ---- */

/* e^x = 2^k e^r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r). The two powers of 2 reach from infinity to the
   denormals, with one rounding. */
static MDE__SHARED MDE__V MDE__K(exp_of)(MDE__V x)
{
    MDE__V magic = MDE__K(set)(12582912.0f), rounded, k, r, p;    /* 1.5 2^23: its last bit is worth 1 */
    MDE__I power, half;
    x = MDE__K(select)(MDE__MASK(x > MDE__K(set)(89.0f)), MDE__K(set)(89.0f), x);
    x = MDE__K(select)(MDE__MASK(x < MDE__K(set)(-105.0f)), MDE__K(set)(-105.0f), x);
    rounded = MDE__K(fma)(x, MDE__K(set)(1.44269504f), magic);
    k = rounded - magic;
    r = MDE__K(fma)(k, MDE__K(set)(-0.693145752f), x);
    r = MDE__K(fma)(k, MDE__K(set)(-1.42860677e-6f), r);
    p = MDE__K(set)(0.00139262504f);
    p = MDE__K(fma)(p, r, MDE__K(set)(0.00836323295f));
    p = MDE__K(fma)(p, r, MDE__K(set)(0.0416665524f));
    p = MDE__K(fma)(p, r, MDE__K(set)(0.166665763f));
    p = MDE__K(fma)(p, r, MDE__K(set)(0.5f));
    p = MDE__K(fma)(p, r * r, r) + MDE__K(set)(1.0f);
    power = MDE__K(as_int)(rounded) - MDE__K(as_int)(magic);
    half = power >> 1;
    p = p * MDE__K(as_float)(MDE__K(shift_left)(half + MDE__K(set_int)(127), 23));
    return p * MDE__K(as_float)(MDE__K(shift_left)(power - half + MDE__K(set_int)(127), 23));
}

/* x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt 2); log(1 + f) = f - f^2 / 2 + f^3 P(f). */
static MDE__SHARED MDE__V MDE__K(log_of)(MDE__V x)
{
    MDE__V zero = MDE__K(set)(0.0f), magic = MDE__K(set)(12582912.0f), infinity = MDE__K(set)((float)INFINITY);
    MDE__I denormal = MDE__MASK(x < MDE__K(set)(1.17549435e-38f)), bits, e;
    MDE__V y = MDE__K(select)(denormal, x * MDE__K(set)(8388608.0f), x), f, p, k, square;
    bits = (MDE__K(as_int)(y) & MDE__K(set_int)(INT32_MAX)) - MDE__K(set_int)(0x3f3504f3);    /* sqrt(1/2) */
    e = bits >> 23;
    f = MDE__K(as_float)((bits & MDE__K(set_int)(0x7fffff)) + MDE__K(set_int)(0x3f3504f3)) - MDE__K(set)(1.0f);
    k = MDE__K(as_float)(MDE__K(as_int)(magic) + e - (denormal & MDE__K(set_int)(23))) - magic;
    p = MDE__K(set)(0.0697161183f);
    p = MDE__K(fma)(p, f, MDE__K(set)(-0.114797339f));
    p = MDE__K(fma)(p, f, MDE__K(set)(0.116854198f));
    p = MDE__K(fma)(p, f, MDE__K(set)(-0.124256872f));
    p = MDE__K(fma)(p, f, MDE__K(set)(0.142490581f));
    p = MDE__K(fma)(p, f, MDE__K(set)(-0.166678026f));
    p = MDE__K(fma)(p, f, MDE__K(set)(0.200007156f));
    p = MDE__K(fma)(p, f, MDE__K(set)(-0.24999997f));
    p = MDE__K(fma)(p, f, MDE__K(set)(0.333333313f));
    square = f * f;
    p = MDE__K(fma)(p * f, square, k * MDE__K(set)(-2.12194440e-4f));
    p = MDE__K(fma)(square, MDE__K(set)(-0.5f), p);
    y = MDE__K(fma)(k, MDE__K(set)(0.693359375f), f + p);
    y = MDE__K(select)(MDE__MASK(x == zero), -infinity, y);
    y = MDE__K(select)(MDE__MASK(x < zero), MDE__K(as_float)(MDE__K(set_int)(0x7fc00000)), y);
    return MDE__K(select)(MDE__MASK(x < infinity), y, MDE__K(select)(MDE__MASK(x == infinity), infinity, x + x));
}

/* |x| < 5/8: x + x^3 P(x^2); else 1 - 2 / (e^2|x| + 1), with the sign of x. */
static MDE__SHARED MDE__V MDE__K(tanh_of)(MDE__V x)
{
    MDE__I sign = MDE__K(as_int)(x) & MDE__K(set_int)(INT32_MIN);
    MDE__V positive = MDE__K(as_float)(MDE__K(as_int)(x) ^ sign), z = x * x, p, large;
    p = MDE__K(set)(0.00229274482f);
    p = MDE__K(fma)(p, z, MDE__K(set)(-0.00834394526f));
    p = MDE__K(fma)(p, z, MDE__K(set)(0.0217689183f));
    p = MDE__K(fma)(p, z, MDE__K(set)(-0.0539592579f));
    p = MDE__K(fma)(p, z, MDE__K(set)(0.133333042f));
    p = MDE__K(fma)(p, z, MDE__K(set)(-0.333333343f));
    p = MDE__K(fma)(p * z, positive, positive);
    large = MDE__K(exp_of)(positive + positive);
    large = MDE__K(set)(1.0f) - MDE__K(set)(2.0f) / (large + MDE__K(set)(1.0f));
    p = MDE__K(select)(MDE__MASK(positive < MDE__K(set)(0.625f)), p, large);
    return MDE__K(as_float)(MDE__K(as_int)(p) | sign);
}

/* With e = e^-|x|: 1 / (1 + e) for x >= 0, else e / (1 + e). What 1 + e and the division lose is put back by the
   remainder, times about 1 / (1 + e). */
static MDE__SHARED MDE__V MDE__K(sigmoid_of)(MDE__V x)
{
    MDE__V one = MDE__K(set)(1.0f), top, y, rest;
    MDE__V e = MDE__K(exp_of)(MDE__K(as_float)(MDE__K(as_int)(x) | MDE__K(set_int)(INT32_MIN)));
    MDE__V below = one + e, lost = e - (below - one);
    MDE__I negative = MDE__MASK(x < MDE__K(set)(0.0f));
    top = MDE__K(select)(negative, e, one);
    y = top / below;
    rest = MDE__K(fma)(-y, lost, MDE__K(fma)(-y, below, top));
    return MDE__K(fma)(rest, MDE__K(select)(negative, one - y, y), y);
}

static inline MDE__V MDE__K(silu_of)(MDE__V x)
{
    return x * MDE__K(sigmoid_of)(x);
}

/* x/2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3). */
static MDE__SHARED MDE__V MDE__K(gelu_of)(MDE__V x)
{
    MDE__V cubic = MDE__K(fma)(x * x, MDE__K(set)(0.0713548163f), MDE__K(set)(1.59576912f));
    return x * MDE__K(sigmoid_of)(x * cubic);
}

/* s + x s (1 - s) with s = sigmoid(x) */
static MDE__SHARED MDE__V MDE__K(silu_slope)(MDE__V x)
{
    MDE__V s = MDE__K(sigmoid_of)(x);
    return MDE__K(fma)(x * s, MDE__K(set)(1.0f) - s, s);
}

/* s + x s (1 - s) u'(x) with s = sigmoid(u), u as in gelu_of */
static MDE__SHARED MDE__V MDE__K(gelu_slope)(MDE__V x)
{
    MDE__V square = x * x, s, slope;
    s = MDE__K(sigmoid_of)(x * MDE__K(fma)(square, MDE__K(set)(0.0713548163f), MDE__K(set)(1.59576912f)));
    slope = MDE__K(fma)(square, MDE__K(set)(0.214064449f), MDE__K(set)(1.59576912f));
    return MDE__K(fma)(x * s * (MDE__K(set)(1.0f) - s), slope, s);
}

/* 0 where x < 0, which is asked of the bits: some compilers make it a maximum, which loses the sign of -0. */
static inline MDE__V MDE__K(relu_of)(MDE__V x)
{
    MDE__I bits = MDE__K(as_int)(x), minus_infinity = MDE__K(set_int)(-0x800000);
    MDE__I below = MDE__MASK(bits <= minus_infinity) & MDE__MASK(bits > MDE__K(set_int)(INT32_MIN));
    return MDE__K(as_float)(bits & ~below);
}

static inline MDE__V MDE__K(abs_of)(MDE__V x)
{
    return MDE__K(as_float)(MDE__K(as_int)(x) & MDE__K(set_int)(INT32_MAX));
}

/* sin x for shift 0, cos x for shift 1: x less n pi/2, of which three floats have 75 bits, then one of the series in
   |r| <= pi/4; the first difference is exact. */
static MDE__SHARED MDE__V MDE__K(sine)(MDE__V x, int32_t shift)
{
    MDE__V magic = MDE__K(set)(12582912.0f), positive = MDE__K(abs_of)(x), n, r, z, p, q;
    MDE__I one = MDE__K(set_int)(1), two = MDE__K(set_int)(2), turns, sign;
    float large[MDE__W], rest[MDE__W];
    int32_t quarter[MDE__W];
    int i, any = 0;
    n = MDE__K(fma)(positive, MDE__K(set)(0.636619747f), magic);
    turns = MDE__K(as_int)(n);
    n = n - magic;
    r = MDE__K(fma)(n, MDE__K(set)(-1.57079637f), positive);
    r = MDE__K(fma)(n, MDE__K(set)(4.37113883e-08f), r);
    r = MDE__K(fma)(n, MDE__K(set)(1.71512451e-15f), r);
    MDE__K(store)(large, positive);
    for (i = 0; i < MDE__W; i++) any |= large[i] >= 65536.0f;
    if (any) {
        MDE__K(store)(rest, r);
        memcpy(quarter, &turns, sizeof turns);
        for (i = 0; i < MDE__W; i++) {
            if (large[i] >= 65536.0f) rest[i] = mde__reduce_large(large[i], &quarter[i]);
        }
        r = MDE__K(load)(rest);
        memcpy(&turns, quarter, sizeof turns);
    }
    turns = turns + MDE__K(set_int)(shift);
    z = r * r;
    p = MDE__K(fma)(MDE__K(set)(-0.000195169778f), z, MDE__K(set)(0.00833217613f));
    p = MDE__K(fma)(MDE__K(fma)(p, z, MDE__K(set)(-0.166666552f)) * z, r, r);
    q = MDE__K(fma)(MDE__K(set)(2.44327857e-05f), z, MDE__K(set)(-0.0013887313f));
    q = MDE__K(fma)(q, z, MDE__K(set)(0.0416666456f));
    q = MDE__K(fma)(q, z * z, MDE__K(fma)(z, MDE__K(set)(-0.5f), MDE__K(set)(1.0f)));
    p = MDE__K(select)(MDE__MASK((turns & one) == one), q, p);
    sign = MDE__MASK((turns & two) == two) & MDE__K(set_int)(INT32_MIN);
    if (!shift) sign = sign ^ (MDE__K(as_int)(x) & MDE__K(set_int)(INT32_MIN));
    p = MDE__K(as_float)(MDE__K(as_int)(p) ^ sign);
    return MDE__K(select)(MDE__MASK(positive < MDE__K(set)((float)INFINITY)), p, x - x);
}

static inline MDE__V MDE__K(sin_of)(MDE__V x)
{
    return MDE__K(sine)(x, 0);
}

static inline MDE__V MDE__K(cos_of)(MDE__V x)
{
    return MDE__K(sine)(x, 1);
}

/* The larger one; of a NaN, NaN. */
static inline MDE__V MDE__K(maximum_of)(MDE__V a, MDE__V b)
{
    return MDE__K(select)(MDE__MASK(a == a), MDE__K(larger)(a, b), a);
}

/* ---- Elements: out[0] from in[0] (and in[1]) ---- */

/* STEP for each vector from .. to, at i: it reads arrays by MDE__READ(p) and writes them by MDE__PUT(p, x). The last
   vector may have but `part` floats. */
#define MDE__READ(p) (part ? MDE__K(load_part)((p) + i, part, 1.0f) : MDE__K(load)((p) + i))
#define MDE__PUT(p, x) \
    if (part) MDE__K(store_part)((p) + i, part, x); \
    else MDE__K(store)((p) + i, x);
#define MDE__VECTORS_OF(from, to, STEP) \
    for (i = from; i + MDE__W <= (to); i += MDE__W) { \
        const int64_t part = 0; \
        STEP \
    } \
    if (i < (to)) { \
        const int64_t part = (to) - i; \
        STEP \
    }

/* y[i] = VALUE for from <= i < to */
#define MDE__MAP(y, from, to, VALUE) MDE__VECTORS_OF(from, to, MDE__PUT(y, VALUE))

/* VALUE of the vectors of x and y, or out as it was, and of s and t, the job's scale and shift. */
#define MDE__ELEMENTS(name, VALUE) \
    static void MDE__K(name)(const mde__job *j, int64_t from, int64_t to) \
    { \
        const float *x = j->in[0], *y = j->in[1]; \
        MDE__V s = MDE__K(set)(j->scale), t = MDE__K(set)(j->shift); \
        float *out = j->out[0]; \
        int64_t i; \
        (void)y, (void)s, (void)t; \
        MDE__MAP(out, from, to, VALUE) \
    }
#define MDE__UNARY(name) MDE__ELEMENTS(name, MDE__K(name##_of)(MDE__READ(x)))
MDE__PLAIN_FUNCTIONS(MDE__UNARY)
MDE__GATED_FUNCTIONS(MDE__UNARY)
MDE__ELEMENTS(add, MDE__READ(x) + MDE__READ(y))
MDE__ELEMENTS(sub, MDE__READ(x) - MDE__READ(y))
MDE__ELEMENTS(mul, MDE__READ(x) * MDE__READ(y))
MDE__ELEMENTS(div, MDE__READ(x) / MDE__READ(y))
MDE__ELEMENTS(maximum, MDE__K(maximum_of)(MDE__READ(x), MDE__READ(y)))
MDE__ELEMENTS(axpy, MDE__K(fma)(s, MDE__READ(x), MDE__READ(out)))
MDE__ELEMENTS(affine, MDE__K(fma)(MDE__READ(x), s, t))
MDE__ELEMENTS(silu_vjp, MDE__K(silu_slope)(MDE__READ(x)) * MDE__READ(y))
MDE__ELEMENTS(gelu_vjp, MDE__K(gelu_slope)(MDE__READ(x)) * MDE__READ(y))

/* AdamW (Loshchilov and Hutter 2019, algorithm 2): in[0] gradient; out[0] weights, out[1] and out[2] first and second
   moment. */
static void MDE__K(adamw)(const mde__job *j, int64_t from, int64_t to)
{
    const mde__adam adam = j->adam;     /* a copy, which no write below can change */
    const float *gradient = j->in[0];
    float *w = j->out[0], *m = j->out[1], *v = j->out[2];
    int64_t i;
#define MDE__STEP \
    MDE__V g = MDE__READ(gradient) * MDE__K(set)(adam.grad_scale); \
    MDE__V first = MDE__K(fma)(MDE__READ(m), MDE__K(set)(adam.beta1), g * MDE__K(set)(adam.rest1)); \
    MDE__V second = MDE__K(fma)(MDE__READ(v), MDE__K(set)(adam.beta2), g * g * MDE__K(set)(adam.rest2)); \
    MDE__V root = MDE__K(sqrt_of)(second * MDE__K(set)(adam.correction2)); \
    MDE__V update = first / (root + MDE__K(set)(adam.epsilon)); \
    MDE__V decayed = MDE__READ(w) * MDE__K(set)(adam.decay); \
    MDE__PUT(w, MDE__K(fma)(update, MDE__K(set)(-adam.step), decayed)) \
    MDE__PUT(m, first) \
    MDE__PUT(v, second)
    MDE__VECTORS_OF(from, to, MDE__STEP)
#undef MDE__STEP
}

/* ---- Reductions ---- */

static inline MDE__V MDE__K(load_some)(const float *p, int64_t n, float fill)
{
    if (n >= MDE__W) return MDE__K(load)(p);
    if (n <= 0) return MDE__K(set)(fill);
    return MDE__K(load_part)(p, n, fill);
}

static inline void MDE__K(store_some)(float *p, int64_t n, MDE__V x)
{
    if (n >= MDE__W) MDE__K(store)(p, x);
    else if (n > 0) MDE__K(store_part)(p, n, x);
}

/* Defines a function of n floats in 16 lanes that begin at `first` and are folded at the end. STEP(r) says what the
   lanes of register r take up at index i; lanes past the end read what changes nothing. */
#define MDE__ONE_LANE(r) MDE__V lane##r = start;
#define MDE__KEEP_LANE(r) MDE__K(store)(lanes + MDE__W * r, lane##r);

#define MDE__REDUCE(name, ARGUMENTS, first, fold, STEP) \
    static MDE__NOINLINE float MDE__K(name) ARGUMENTS \
    { \
        MDE__V start = MDE__K(set)(first); \
        float lanes[MDE__LANES]; \
        int64_t i = 0; \
        MDE__EACH(MDE__ONE_LANE) \
        for (; i + MDE__LANES <= n; i += MDE__LANES) { \
            const int64_t left = MDE__LANES; \
            MDE__EACH(STEP) \
        } \
        if (i < n) { \
            const int64_t left = n - i; \
            MDE__EACH(STEP) \
        } \
        MDE__EACH(MDE__KEEP_LANE) \
        return MDE__K(fold)(lanes); \
    }

#define MDE__AT(p, r) ((p) + i + MDE__W * (r))
#define MDE__LEFT(r) (left - MDE__W * (r))
#define MDE__GET(p, r, fill) MDE__K(load_some)(MDE__LEFT(r) > 0 ? MDE__AT(p, r) : (p), MDE__LEFT(r), fill)

#define MDE__SUM(r) lane##r = lane##r + MDE__GET(x, r, 0.0f);
MDE__REDUCE(sum_of, (int64_t n, const float *x), 0.0f, fold_sum, MDE__SUM)

#define MDE__MAX(r) lane##r = MDE__K(larger)(MDE__GET(x, r, -(float)INFINITY), lane##r);
MDE__REDUCE(max_of, (int64_t n, const float *x), -(float)INFINITY, fold_max, MDE__MAX)

#define MDE__DOT(r) lane##r = MDE__K(fma)(MDE__GET(x, r, 0.0f), MDE__GET(y, r, 0.0f), lane##r);
MDE__REDUCE(dot_of, (int64_t n, const float *x, const float *y), 0.0f, fold_sum, MDE__DOT)

/* sum of (x - mean)^2 */
#define MDE__SPREAD(r) \
    { \
        MDE__V d = MDE__GET(x, r, mean) - MDE__K(set)(mean); \
        lane##r = MDE__K(fma)(d, d, lane##r); \
    }
MDE__REDUCE(spread_of, (int64_t n, const float *x, float mean), 0.0f, fold_sum, MDE__SPREAD)

/* sum of e^(x scale - shift); the terms go to y if it is there. */
#define MDE__EXP(r) \
    if (MDE__LEFT(r) > 0) { \
        MDE__V e = MDE__GET(x, r, -(float)INFINITY); \
        e = MDE__K(exp_of)(MDE__K(fma)(e, MDE__K(set)(scale), MDE__K(set)(-shift))); \
        if (y) MDE__K(store_some)(MDE__AT(y, r), MDE__LEFT(r), e); \
        lane##r = lane##r + e; \
    }
MDE__REDUCE(sum_exp, (int64_t n, const float *x, float scale, float shift, float *y), 0.0f, fold_sum, MDE__EXP)

/* sum of (x - mean) g h; h is 1 if it is not there. */
#define MDE__TRIPLE(r) \
    { \
        MDE__V a = MDE__GET(x, r, mean) - MDE__K(set)(mean), b = MDE__GET(g, r, 0.0f); \
        if (h) b = b * MDE__GET(h, r, 0.0f); \
        lane##r = MDE__K(fma)(a, b, lane##r); \
    }
MDE__REDUCE(centred_dot, (int64_t n, const float *x, float mean, const float *g, const float *h), 0.0f, fold_sum,
            MDE__TRIPLE)

/* Chunks of j->chunk elements; each leaves its sum in partial[chunk]. */
static void MDE__K(sum)(const mde__job *j, int64_t from, int64_t to)
{
    j->partial[from / j->chunk] = (double)MDE__K(sum_of)(to - from, j->in[0] + from);
}

static void MDE__K(dot)(const mde__job *j, int64_t from, int64_t to)
{
    j->partial[from / j->chunk] = (double)MDE__K(dot_of)(to - from, j->in[0] + from, j->in[1] + from);
}

/* Sums in 8 lanes of doubles, which START begins and `lanes` receive: ADD(l) says what the lanes of register l take up
   at index i, as long as there are 8 more before `to`. */
#define MDE__NO_DOUBLES(l) MDE__D lane##l = MDE__K(set_double)(0.0);
#define MDE__LOAD_DOUBLES(l) MDE__D lane##l = MDE__K(load_double)(lanes + MDE__DOUBLES * l);
#define MDE__KEEP_DOUBLES(l) MDE__K(store_double)(lanes + MDE__DOUBLES * l, lane##l);
#define MDE__SUM_DOUBLES(from, to, START, ADD) \
    MDE__EACH_DOUBLE(START) \
    for (i = from; i + MDE__LANES / 2 <= (to); i += MDE__LANES / 2) { \
        MDE__EACH_DOUBLE(ADD) \
    } \
    MDE__EACH_DOUBLE(MDE__KEEP_DOUBLES)

/* The square of a float is exact in double, so it does not matter whether it is fused. */
static void MDE__K(sum_squares)(const mde__job *j, int64_t from, int64_t to)
{
    const float *x = j->in[0];
    double lanes[MDE__LANES / 2];
    int64_t i;
#define MDE__ADD(l) \
    { \
        MDE__D a = MDE__K(widen)(x + i + MDE__DOUBLES * l); \
        lane##l = lane##l + a * a; \
    }
    MDE__SUM_DOUBLES(from, to, MDE__NO_DOUBLES, MDE__ADD)
#undef MDE__ADD
    for (; i < to; i++) lanes[(i - from) % (MDE__LANES / 2)] += (double)x[i] * (double)x[i];
    j->partial[from / j->chunk] = MDE__K(fold_double)(lanes);
}

static void MDE__K(sum_rows)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t r;
    for (r = from; r < to; r++) j->out[0][r] = MDE__K(sum_of)(j->cols, j->in[0] + r * j->cols);
}

/* Columns from .. to of out[0] (+)= sum over the rows of in[0]. Each block of rows is a chain, and block follows
   block. */
static void MDE__K(sum_columns)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t i, block, r;
    for (i = from; i < to; i += MDE__W) {
        MDE__V total = j->accumulate ? MDE__K(load_some)(j->out[0] + i, to - i, 0.0f) : MDE__K(set)(0.0f);
        for (block = 0; block < j->rows; block += MDE__COLUMN_BLOCK) {
            int64_t end = mde__min(block + MDE__COLUMN_BLOCK, j->rows);
            MDE__V chain = MDE__K(set)(0.0f);
            for (r = block; r < end; r++) chain = chain + MDE__K(load_some)(j->in[0] + r * j->cols + i, to - i, 0.0f);
            total = total + chain;
        }
        MDE__K(store_some)(j->out[0] + i, to - i, total);
    }
}

/* ---- Rows ---- */

/* One number by the formula of vectors. */
#define MDE__SCALAR(name) \
    static inline float MDE__K(name##_scalar)(float x) \
    { \
        float lanes[MDE__W]; \
        MDE__K(store)(lanes, MDE__K(name##_of)(MDE__K(set)(x))); \
        return lanes[0]; \
    }
MDE__SCALAR(exp)
MDE__SCALAR(log)
MDE__SCALAR(sqrt)

static inline void MDE__K(scale_row)(int64_t n, float scale, const float *x, float *y)
{
    MDE__V s = MDE__K(set)(scale);
    int64_t i;
    MDE__MAP(y, 0, n, MDE__READ(x) * s)
}

/* out[0] = softmax of in[0]. */
static void MDE__K(softmax)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, n = j->cols;
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n;
        float *y = j->out[0] + row * n, sum = MDE__K(sum_exp)(n, x, 1.0f, MDE__K(max_of)(n, x), y);
        MDE__K(scale_row)(n, 1.0f / sum, y, y);
    }
}

static inline float MDE__K(log_sum_exp)(int64_t n, const float *x)
{
    float largest = MDE__K(max_of)(n, x);
    return largest + MDE__K(log_scalar)(MDE__K(sum_exp)(n, x, 1.0f, largest, NULL));
}

static void MDE__K(log_softmax)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n;
        float *y = j->out[0] + row * n;
        MDE__V s = MDE__K(set)(MDE__K(log_sum_exp)(n, x));
        MDE__MAP(y, 0, n, MDE__READ(x) - s)
    }
}

/* out[0] = y (g - sum(y g)), y = in[0], g = in[1]. */
static void MDE__K(softmax_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    for (row = from; row < to; row++) {
        const float *y = j->in[0] + row * n, *g = j->in[1] + row * n;
        float *dx = j->out[0] + row * n;
        MDE__V s = MDE__K(set)(MDE__K(dot_of)(n, y, g));
        MDE__MAP(dx, 0, n, MDE__READ(y) * (MDE__READ(g) - s))
    }
}

/* out[0] loss, out[1] logsumexp, of logits in[0]. */
static void MDE__K(cross_entropy)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row;
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * j->cols;
        int32_t target = j->target[row];
        float logsumexp = MDE__K(log_sum_exp)(j->cols, x);
        j->out[1][row] = logsumexp;
        j->out[0][row] = target < 0 ? 0.0f : logsumexp - x[target];
    }
}

/* out[0] = g (softmax - one-hot), logits in[0], logsumexp in[1], g in[2]. */
static void MDE__K(cross_entropy_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n;
        float *dx = j->out[0] + row * n;
        int32_t target = j->target[row];
        MDE__V s = MDE__K(set)(j->in[1][row]), g = MDE__K(set)(target < 0 ? 0.0f : j->in[2][row]);
        float at_target = target < 0 ? 0.0f : x[target];
        MDE__MAP(dx, 0, n, MDE__K(exp_of)(MDE__READ(x) - s) * g)
        if (target >= 0) dx[target] = (MDE__K(exp_scalar)(at_target - j->in[1][row]) - 1.0f) * j->in[2][row];
    }
}

/* out[0] = x rstd gain, out[1] = rstd = 1 / sqrt(mean(x^2) + eps); x in[0], gain in[1]. */
static void MDE__K(rms_norm)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    const float *gain = j->in[1];
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n;
        float *y = j->out[0] + row * n;
        float rstd = 1.0f / MDE__K(sqrt_scalar)(MDE__K(dot_of)(n, x, x) / (float)n + j->epsilon);
        MDE__V s = MDE__K(set)(rstd);
        if (j->out[1]) j->out[1][row] = rstd;
        if (gain) {
            MDE__MAP(y, 0, n, MDE__READ(x) * s * MDE__READ(gain))
        } else {
            MDE__K(scale_row)(n, rstd, x, y);
        }
    }
}

/* out[0] = rstd (g gain - x rstd^2 mean(x g gain)), added if accumulate; x in[0], gain in[1], rstd in[2], g in[3]. */
static void MDE__K(rms_norm_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    int add = j->accumulate;
    const float *gain = j->in[1];
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n, *g = j->in[3] + row * n;
        float *dx = j->out[0] + row * n, rstd = j->in[2][row];
        float mean = MDE__K(centred_dot)(n, x, 0.0f, g, gain) / (float)n;
        MDE__V s = MDE__K(set)(rstd), t = MDE__K(set)(-(rstd * rstd * rstd * mean)), zero = MDE__K(set)(0.0f);
        if (gain) {
            MDE__MAP(dx, 0, n, MDE__K(fma)(MDE__READ(x), t, MDE__READ(g) * MDE__READ(gain) * s)
                               + (add ? MDE__READ(dx) : zero))
        } else {
            MDE__MAP(dx, 0, n, MDE__K(fma)(MDE__READ(x), t, MDE__READ(g) * s) + (add ? MDE__READ(dx) : zero))
        }
    }
}

/* out[0] = (x - mean) rstd gain + bias, out[1] mean, out[2] rstd; x in[0], gain in[1], bias in[2]. */
static void MDE__K(layer_norm)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    const float *gain = j->in[1], *bias = j->in[2];
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n;
        float *y = j->out[0] + row * n, mean = MDE__K(sum_of)(n, x) / (float)n;
        float rstd = 1.0f / MDE__K(sqrt_scalar)(MDE__K(spread_of)(n, x, mean) / (float)n + j->epsilon);
        MDE__V m = MDE__K(set)(mean), s = MDE__K(set)(rstd), one = MDE__K(set)(1.0f), zero = MDE__K(set)(0.0f);
        if (j->out[1]) j->out[1][row] = mean;
        if (j->out[2]) j->out[2][row] = rstd;
        MDE__MAP(y, 0, n, MDE__K(fma)((MDE__READ(x) - m) * s, gain ? MDE__READ(gain) : one,
                                      bias ? MDE__READ(bias) : zero))
    }
}

/* With n = (x - mean) rstd and h = g gain: out[0] = rstd (h - mean(h) - n mean(h n)), added if accumulate; x in[0],
   gain in[1], rstd in[2], g in[3], mean in[4]. */
static void MDE__K(layer_norm_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    int add = j->accumulate;
    const float *gain = j->in[1];
    for (row = from; row < to; row++) {
        const float *x = j->in[0] + row * n, *g = j->in[3] + row * n;
        float *dx = j->out[0] + row * n, mean = j->in[4][row], rstd = j->in[2][row], mean_h, mean_hn;
        MDE__V m = MDE__K(set)(mean), s = MDE__K(set)(rstd), a, b, one = MDE__K(set)(1.0f), zero = MDE__K(set)(0.0f);
        mean_h = (gain ? MDE__K(dot_of)(n, g, gain) : MDE__K(sum_of)(n, g)) / (float)n;
        mean_hn = MDE__K(centred_dot)(n, x, mean, g, gain) * rstd / (float)n;
        a = MDE__K(set)(mean_h);
        b = MDE__K(set)(mean_hn);
        MDE__MAP(dx, 0, n, MDE__K(fma)(s, MDE__K(fma)((MDE__READ(x) - m) * s, -b,
                                                      MDE__READ(g) * (gain ? MDE__READ(gain) : one)) - a,
                                       add ? MDE__READ(dx) : zero))
    }
}

/* Columns from .. to of a norm's gain and bias: out[0] += sum over rows of g (x - mean) rstd, out[1] += sum of g;
   either may be missing. x in[0], rstd in[2], g in[3], mean in[4] (missing: 0). */
static void MDE__K(norm_gain_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    const float *rstd = j->in[2], *mean = j->in[4];
    int64_t i, block, r;
    for (i = from; i < to; i += MDE__W) {
        MDE__V gain = MDE__K(set)(0.0f), bias = gain;
        for (block = 0; block < j->rows; block += MDE__COLUMN_BLOCK) {
            int64_t end = mde__min(block + MDE__COLUMN_BLOCK, j->rows);
            MDE__V gain_chain = MDE__K(set)(0.0f), bias_chain = gain_chain;
            for (r = block; r < end; r++) {
                MDE__V x = MDE__K(load_some)(j->in[0] + r * j->cols + i, to - i, 0.0f);
                MDE__V g = MDE__K(load_some)(j->in[3] + r * j->cols + i, to - i, 0.0f);
                if (mean) x = x - MDE__K(set)(mean[r]);
                gain_chain = MDE__K(fma)(x * MDE__K(set)(rstd[r]), g, gain_chain);
                bias_chain = bias_chain + g;
            }
            gain = gain + gain_chain;
            bias = bias + bias_chain;
        }
        if (j->out[0]) {
            MDE__K(store_some)(j->out[0] + i, to - i, gain + MDE__K(load_some)(j->out[0] + i, to - i, 0.0f));
        }
        if (j->out[1]) {
            MDE__K(store_some)(j->out[1] + i, to - i, bias + MDE__K(load_some)(j->out[1] + i, to - i, 0.0f));
        }
    }
}

/* Rotary embedding (Su et al. 2021): a row is one (batch, time) with `heads` heads of `dim` floats, of which the first
   `rotated` are rotated and the others copied; there are `times` times. Rotates the pairs (i, i + dim/2) of in[0] by
   the angles of in[1] (cos) and in[2] (sin); scale is 1, or -1 for the way back. */
static void MDE__K(rope)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t times = j->times, heads = j->rotated, dim = j->dim, all = j->heads, n = dim / 2, row, h, i;
    MDE__V way = MDE__K(set)(j->scale);
    for (row = from; row < to; row++) {
        const float *c = j->in[1] + row % times * n, *s = j->in[2] + row % times * n;
        const float *rest = j->in[0] + (row * all + heads) * dim;
        float *rest_out = j->out[0] + (row * all + heads) * dim;
        if (rest != rest_out) memcpy(rest_out, rest, (size_t)((all - heads) * dim) * sizeof *rest);
        for (h = 0; h < heads; h++) {
            const float *x = j->in[0] + (row * all + h) * dim;
            float *y = j->out[0] + (row * all + h) * dim;
            for (i = 0; i < n; i += MDE__W) {
                int64_t left = n - i;
                MDE__V a = MDE__K(load_some)(x + i, left, 0.0f), b = MDE__K(load_some)(x + n + i, left, 0.0f);
                MDE__V cosine = MDE__K(load_some)(c + i, left, 0.0f);
                MDE__V sine = MDE__K(load_some)(s + i, left, 0.0f) * way;
                MDE__K(store_some)(y + i, left, MDE__K(fma)(a, cosine, -(b * sine)));
                MDE__K(store_some)(y + n + i, left, MDE__K(fma)(b, cosine, a * sine));
            }
        }
    }
}

/* SwiGLU of rows that hold the gates a and then the values b: out[0] [cols] = silu(a) b, in[0] [2 cols]. */
static void MDE__K(glu)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    for (row = from; row < to; row++) {
        const float *a = j->in[0] + row * 2 * n, *b = a + n;
        float *y = j->out[0] + row * n;
        MDE__MAP(y, 0, n, MDE__K(silu_of)(MDE__READ(a)) * MDE__READ(b))
    }
}

/* The gradient of in[0], out[0] [2 cols], from in[1], that of the output. */
static void MDE__K(glu_vjp)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row, i, n = j->cols;
    for (row = from; row < to; row++) {
        const float *a = j->in[0] + row * 2 * n, *b = a + n, *g = j->in[1] + row * n;
        float *da = j->out[0] + row * 2 * n, *db = da + n;
        MDE__MAP(da, 0, n, MDE__READ(g) * MDE__READ(b) * MDE__K(silu_slope)(MDE__READ(a)))
        MDE__MAP(db, 0, n, MDE__READ(g) * MDE__K(silu_of)(MDE__READ(a)))
    }
}

/* ---- Attention: what happens between its matrix products ---- */

/* Rows from .. to of a block of scores [rows, cols], in out[0] with a stride. Row r sees the first `visible` + r
   columns. The scores become e^(score - largest so far), scaled before; out[1] largest and out[2] sum of each row are
   carried on, and so are the outputs so far, out[3] with out_stride and `dim` floats a row. */
static void MDE__K(attention_weights)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t r, n;
    float scale = j->scale;
    for (r = from; r < to; r++) {
        float *s = j->out[0] + r * j->stride, *out = j->out[3] + r * j->out_stride, next, shrink;
        n = mde__min(j->visible + r, j->cols);
        if (n <= 0) continue;
        next = MDE__K(max_of)(n, s) * scale;
        next = next > j->out[1][r] ? next : j->out[1][r];
        shrink = MDE__K(exp_scalar)(j->out[1][r] - next);
        j->out[1][r] = next;
        j->out[2][r] = j->out[2][r] * shrink + MDE__K(sum_exp)(n, s, scale, next, s);
        if (shrink != 1.0f) MDE__K(scale_row)(j->dim, shrink, out, out);
    }
}

/* The end of rows from .. to: out[3] (out_stride, `dim` floats) divided by the sums out[2]; in out[0], if it is
   there, the log of the sum of e^score, from the largest scores out[1]. */
static void MDE__K(attention_end)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t r;
    for (r = from; r < to; r++) {
        float *y = j->out[3] + r * j->out_stride;
        MDE__K(scale_row)(j->dim, 1.0f / j->out[2][r], y, y);
        if (j->out[0]) j->out[0][r] = j->out[1][r] + MDE__K(log_scalar)(j->out[2][r]);
    }
}

/* Rows from .. to of a block [rows, cols] with a stride, row r seeing the first `visible` + r columns:
   out[0] scores to weights w = e^(score scale - logsumexp), out[1] their gradients g to those of the scores,
   w (g - d) scale; 0 where nothing is seen. in[0] logsumexp, in[1] d = sum(output gradient x output) of each row. */
static void MDE__K(attention_gradients)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t r, i, n;
    MDE__V scale = MDE__K(set)(j->scale);
    for (r = from; r < to; r++) {
        float *s = j->out[0] + r * j->stride, *g = j->out[1] + r * j->stride;
        MDE__V shift = MDE__K(set)(-j->in[0][r]), d = MDE__K(set)(j->in[1][r]);
        n = mde__min(j->visible + r, j->cols);
        if (n < 0) n = 0;
        MDE__MAP(s, 0, n, MDE__K(exp_of)(MDE__K(fma)(MDE__READ(s), scale, shift)))
        MDE__MAP(g, 0, n, MDE__READ(s) * (MDE__READ(g) - d) * scale)
        for (i = n; i < j->cols; i++) s[i] = g[i] = 0;
    }
}

/* ---- Matrix product ---- */

/* The tile: MDE__TILE_ROWS rows by two registers of columns, all its sums in registers. At the edges of a matrix a tile
   of MDE__FEW_ROWS rows or of one register takes its place, but not in the portable set: its tiles are long code. */
#if MDE__KERNEL_SET == 3 || defined(__aarch64__) || MDE__W == 16
#define MDE__TILE_ROWS 12
#define MDE__FEW_ROWS 4
#define MDE__EACH_FEW(S) S(0) S(1) S(2) S(3)
#define MDE__EACH_OTHER(S) S(4) S(5) S(6) S(7) S(8) S(9) S(10) S(11)
#else
#define MDE__TILE_ROWS 6
#define MDE__FEW_ROWS 2
#define MDE__EACH_FEW(S) S(0) S(1)
#define MDE__EACH_OTHER(S) S(2) S(3) S(4) S(5)
#endif
#define MDE__TILE_COLUMNS (2 * MDE__W)
static const int64_t MDE__K(tile_rows) = MDE__TILE_ROWS, MDE__K(tile_columns) = MDE__TILE_COLUMNS;

/* Brings `count` vectors of length k (rows of A, columns of B) into panels of `width` vectors, [k][width] each, zeros
   beside the last. x[i * stride + p] is element p of vector i if along_k, else x[p * stride + i]. */
static void MDE__K(pack)(int along_k, int64_t width, int64_t count, int64_t k, const float *x, int64_t stride,
                         float *panels)
{
    int64_t first, p, i;
    for (first = 0; first < count; first += width, panels += width * k) {
        int64_t here = mde__min(count - first, width);
        p = 0;
        if (here < width) memset(panels, 0, (size_t)(width * k) * sizeof *panels);
        if (!along_k) {
            const float *from = x + first;
            if (here == width && width == MDE__TILE_COLUMNS) {
                for (; p < k; p++) {
                    MDE__K(store)(panels + p * MDE__TILE_COLUMNS, MDE__K(load)(from + p * stride));
                    MDE__K(store)(panels + p * MDE__TILE_COLUMNS + MDE__W, MDE__K(load)(from + p * stride + MDE__W));
                }
            } else if (here == width && width == MDE__TILE_ROWS) {
                for (; p < k; p++) {
                    memcpy(panels + p * MDE__TILE_ROWS, from + p * stride, MDE__TILE_ROWS * sizeof *panels);
                }
            } else {
                for (; p < k; p++) memcpy(panels + p * width, from + p * stride, (size_t)here * sizeof *panels);
            }
            continue;
        }
#ifdef MDE__X86
        /* 4 x 4 at a time. Where 4 does not divide the width, the last group runs over into the next k, which is
           written later: so the groups go from last to first, and the very last k's are left to the loop below. */
        for (; here == width && p + 5 <= k; p += 4) {
            for (i = 0; p % 16 == 0 && i < width; i++) mde__prefetch(x + (first + i) * stride + p, 32, 1);
            for (i = (width - 1) / 4 * 4; i >= 0; i -= 4) {
                const float *from = x + (first + i) * stride + p;
                float *to = panels + p * width + i;
                int64_t one = i + 1 < width ? stride : 0, two = i + 2 < width ? 2 * stride : 0;
                __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + one);
                __m128 c = _mm_loadu_ps(from + two), d = _mm_loadu_ps(from + (two ? 3 * stride : 0));
                _MM_TRANSPOSE4_PS(a, b, c, d);
                _mm_storeu_ps(to, a);
                _mm_storeu_ps(to + width, b);
                _mm_storeu_ps(to + 2 * width, c);
                _mm_storeu_ps(to + 3 * width, d);
            }
        }
#endif
        for (i = 0; i < here; i++) {
            const float *from = x + (first + i) * stride;
            int64_t q;
            for (q = p; q < k; q++) panels[q * width + i] = from[q];
        }
    }
}

/* One tile: the first t->m rows of out (+)= A B. full: all rows of a tile, not a few; wide: two registers of columns.
   Both are constants. */
static MDE__INLINE void MDE__K(tile)(int full, int wide, const mde__tiles *t)
{
    const float *a = t->a, *b = t->b;
    const int64_t *row = t->row;
    float *out = t->out;
    int64_t k = t->k, step = t->step, b_stride = t->b_stride, rows = t->m, stride = t->stride, p;
#define MDE__START(r) \
    int64_t row##r = row[r]; \
    MDE__V left##r = MDE__K(set)(0.0f), right##r = left##r;
    MDE__EACH_FEW(MDE__START)
    MDE__EACH_OTHER(MDE__START)
#undef MDE__START
    if (t->accumulate) {
#define MDE__START(r) \
        if (r < rows) { \
            left##r = MDE__K(load)(out + r * stride); \
            if (wide) right##r = MDE__K(load)(out + r * stride + MDE__W); \
        }
        MDE__EACH_FEW(MDE__START)
        if (full) {
            MDE__EACH_OTHER(MDE__START)
        }
#undef MDE__START
    }
    for (p = 0; p < k; p++) {
        MDE__V left = MDE__K(load)(b), right = wide ? MDE__K(load)(b + MDE__W) : left, x;
#define MDE__STEP(r) \
        x = MDE__K(set)(a[row##r]); \
        left##r = MDE__K(fma)(x, left, left##r); \
        if (wide) right##r = MDE__K(fma)(x, right, right##r);
        MDE__EACH_FEW(MDE__STEP)
        if (full) {
            MDE__EACH_OTHER(MDE__STEP)
        }
#undef MDE__STEP
        a += step;
        b += b_stride;
    }
#define MDE__KEEP(r) \
    if (r < rows) { \
        MDE__K(store)(out + r * stride, left##r); \
        if (wide) MDE__K(store)(out + r * stride + MDE__W, right##r); \
    }
    MDE__EACH_FEW(MDE__KEEP)
    if (full) {
        MDE__EACH_OTHER(MDE__KEEP)
    }
#undef MDE__KEEP
}

/* A tile with columns to spare is made in a buffer. */
static void MDE__K(tiles)(const mde__tiles *t)
{
    float edge[MDE__TILE_ROWS * MDE__TILE_COLUMNS];
    mde__tiles one = *t;
    int64_t own[MDE__TILE_ROWS], column, first, count, r;
    if (!t->row) one.step = MDE__TILE_ROWS;
    for (r = 0; r < MDE__TILE_ROWS; r++) own[r] = r;
    for (column = 0; column < t->n; column += MDE__TILE_COLUMNS, one.b += t->b_panel) {
        int64_t columns = mde__min(t->n - column, MDE__TILE_COLUMNS);
        int wide = MDE__KERNEL_SET == 1 || columns > MDE__W;
        int whole = columns == MDE__TILE_COLUMNS || (!wide && columns == MDE__W);
        for (first = 0; first < t->m; first += count) {
            int64_t rows = mde__min(t->m - first, MDE__TILE_ROWS);
            float *here = t->out + first * t->stride + column;
            one.a = t->row ? t->a : t->a + first / MDE__TILE_ROWS * MDE__TILE_ROWS * t->k + first % MDE__TILE_ROWS;
            one.row = t->row ? t->row + first : own;
            one.out = whole ? here : edge;
            one.stride = whole ? t->stride : MDE__TILE_COLUMNS;
            count = MDE__KERNEL_SET == 1 || rows > MDE__TILE_ROWS - MDE__FEW_ROWS ? MDE__TILE_ROWS : MDE__FEW_ROWS;
            if (t->row && rows < MDE__TILE_ROWS) {
                for (r = 0; r < MDE__TILE_ROWS; r++) own[r] = one.row[r < rows ? r : rows - 1];
                one.row = own;
            }
            if (rows > count) rows = count;
            one.m = rows;
            if (!whole && t->accumulate) {
                memset(edge, 0, sizeof edge);
                for (r = 0; r < rows; r++) {
                    memcpy(edge + r * MDE__TILE_COLUMNS, here + r * t->stride, (size_t)columns * sizeof *edge);
                }
            }
            if (MDE__KERNEL_SET == 1 || (count == MDE__TILE_ROWS && wide)) MDE__K(tile)(1, 1, &one);
            else if (count == MDE__TILE_ROWS) MDE__K(tile)(1, 0, &one);
            else if (wide) MDE__K(tile)(0, 1, &one);
            else MDE__K(tile)(0, 0, &one);
            for (r = 0; !whole && r < rows; r++) {
                memcpy(here + r * t->stride, edge + r * MDE__TILE_COLUMNS, (size_t)columns * sizeof *edge);
            }
        }
    }
}

/* Columns from .. to of one row of a product, as in generation, where the time goes into reading the matrix: out[0]
   [cols] += in[0] [rows] in[1] [rows, cols], eight rows at a time, so that few streams are read and each in order. */
static void MDE__K(row_product)(const mde__job *j, int64_t from, int64_t to)
{
    int64_t n = j->cols, p = 0, i, q;
    float *out = j->out[0];
    for (; p + 8 <= j->rows; p += 8) {
        const float *x = j->in[0] + p, *w = j->in[1] + p * n;
#define MDE__START(r) MDE__V x##r = MDE__K(set)(x[r]);
#define MDE__STEP(r) sum = MDE__K(fma)(x##r, MDE__K(load)(w + r * n + i), sum);
        MDE__EACH_8(MDE__START)
        for (i = from; i + MDE__W <= to; i += MDE__W) {
            MDE__V sum = MDE__K(load)(out + i);
            MDE__EACH_8(MDE__STEP)
            MDE__K(store)(out + i, sum);
        }
#undef MDE__START
#undef MDE__STEP
        for (q = 0; q < 8 && i < to; q++) {
            MDE__V part = MDE__K(load_part)(w + q * n + i, to - i, 0.0f);
            part = MDE__K(fma)(MDE__K(set)(x[q]), part, MDE__K(load_part)(out + i, to - i, 0.0f));
            MDE__K(store_part)(out + i, to - i, part);
        }
    }
    for (; p < j->rows; p++) {
        MDE__V x = MDE__K(set)(j->in[0][p]);
        for (i = from; i < to; i += MDE__W) {
            MDE__V w = MDE__K(load_some)(j->in[1] + p * n + i, to - i, 0.0f);
            MDE__K(store_some)(out + i, to - i, MDE__K(fma)(x, w, MDE__K(load_some)(out + i, to - i, 0.0f)));
        }
    }
}

/* ---- Mixtures of experts' probabilities, in double ---- */

/* log of positive normal doubles: x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt 2), and with z = f / (2 + f)
   log(1 + f) = 2 z + 2 z^3/3 + 2 z^5/5 + ... */
static inline MDE__D MDE__K(log_double)(MDE__D x)
{
    MDE__L bits = MDE__K(as_long)(x), shifted;
    MDE__D f, z, square, sum = MDE__K(set_double)(2.0 / 21), e;
    shifted = (bits + MDE__K(set_long)(UINT64_C(0x00195f619980c433))) >> 52;      /* 1024 + e: 2^1024 / sqrt(1/2) */
    f = MDE__K(as_double)(bits - ((shifted - MDE__K(set_long)(1024)) << 52));
    shifted = shifted | MDE__K(set_long)(UINT64_C(0x4330000000000000));           /* 2^52 + 1024 + e */
    e = MDE__K(as_double)(shifted) - MDE__K(set_double)(4503599627370496.0 + 1024.0);
    f = f - MDE__K(set_double)(1.0);
    z = f / (f + MDE__K(set_double)(2.0));
    square = z * z;
    sum = sum * square + MDE__K(set_double)(2.0 / 19);
    sum = sum * square + MDE__K(set_double)(2.0 / 17);
    sum = sum * square + MDE__K(set_double)(2.0 / 15);
    sum = sum * square + MDE__K(set_double)(2.0 / 13);
    sum = sum * square + MDE__K(set_double)(2.0 / 11);
    sum = sum * square + MDE__K(set_double)(2.0 / 9);
    sum = sum * square + MDE__K(set_double)(2.0 / 7);
    sum = sum * square + MDE__K(set_double)(2.0 / 5);
    sum = sum * square + MDE__K(set_double)(2.0 / 3);
    sum = sum * square * z + (z + z);
    return e * MDE__K(set_double)(MDE__LN2_HIGH) + (sum + e * MDE__K(set_double)(MDE__LN2_LOW));
}

/* s = sum of w_e r_e for the tokens of a strip; expert e's r start at r + e stride. Returns whether every s is from
   1e-30 to 1e30, so that 8 of them can be multiplied. */
static inline int MDE__K(mixture_sums)(int64_t experts, const double *w, const float *r, int64_t stride, double *s)
{
    MDE__D low = MDE__K(set_double)(1e-30), high = MDE__K(set_double)(1e30);
    MDE__L inside = ~MDE__K(set_long)(0);
    uint64_t lanes[MDE__DOUBLES], every = ~UINT64_C(0);
    int64_t t, e;
    int i;
#define MDE__START(l) MDE__D sum##l = MDE__K(set_double)(0.0);
#define MDE__ADD(l) sum##l = sum##l + weight * MDE__K(widen)(r + e * stride + t + MDE__DOUBLES * l);
#define MDE__KEEP(l) \
    inside = inside & MDE__MASK_DOUBLE(sum##l >= low) & MDE__MASK_DOUBLE(sum##l <= high); \
    MDE__K(store_double)(s + t + MDE__DOUBLES * l, sum##l);
    for (t = 0; t < MDE__MIXTURE_STRIP; t += 8 * MDE__DOUBLES) {
        MDE__EACH_8(MDE__START)
        for (e = 0; e < experts; e++) {
            MDE__D weight = MDE__K(set_double)(w[e]);
            if (w[e] == 0) continue;    /* at the best mixture some are */
            MDE__EACH_8(MDE__ADD)
        }
        MDE__EACH_8(MDE__KEEP)
    }
#undef MDE__START
#undef MDE__ADD
#undef MDE__KEEP
    memcpy(lanes, &inside, sizeof lanes);
    for (i = 0; i < MDE__DOUBLES; i++) every &= lanes[i];
    return every != 0;
}

/* Multiplies the strip's s into the lanes of the sum's product, whose exponents move to integers. */
static inline void MDE__K(mixture_multiply)(mde__log_sum *sum, const double *s)
{
    MDE__L bits, exponent;
    int64_t t;
#define MDE__START(l) MDE__D product##l = MDE__K(load_double)(sum->product + MDE__DOUBLES * l);
#define MDE__ADD(l) product##l = product##l * MDE__K(load_double)(s + t + MDE__DOUBLES * l);
#define MDE__KEEP(l) \
    bits = MDE__K(as_long)(product##l); \
    memcpy(&exponent, sum->exponent + MDE__DOUBLES * l, sizeof exponent); \
    exponent = exponent + (bits >> 52) - MDE__K(set_long)(1023); \
    bits = (bits & MDE__K(set_long)(UINT64_C(0xfffffffffffff))) | MDE__K(set_long)(UINT64_C(0x3ff0000000000000)); \
    memcpy(sum->exponent + MDE__DOUBLES * l, &exponent, sizeof exponent); \
    memcpy(sum->product + MDE__DOUBLES * l, &bits, sizeof bits);
    MDE__EACH_DOUBLE(MDE__START)
    for (t = 0; t < MDE__MIXTURE_STRIP; t += MDE__LANES / 2) {
        MDE__EACH_DOUBLE(MDE__ADD)
    }
    MDE__EACH_DOUBLE(MDE__KEEP)
#undef MDE__START
#undef MDE__ADD
#undef MDE__KEEP
}

/* Sum of count log s over a strip. */
static inline double MDE__K(mixture_logs)(const double *count, const double *s)
{
    double lanes[MDE__LANES / 2];
    int64_t i;
#define MDE__ADD(l) \
    lane##l = lane##l + MDE__K(load_double)(count + i + MDE__DOUBLES * l) \
                      * MDE__K(log_double)(MDE__K(load_double)(s + i + MDE__DOUBLES * l));
    MDE__SUM_DOUBLES(0, MDE__MIXTURE_STRIP, MDE__NO_DOUBLES, MDE__ADD)
#undef MDE__ADD
    return MDE__K(fold_double)(lanes);
}

/* lanes += r q over a strip. */
static inline void MDE__K(mixture_gradient)(const float *r, const double *q, double *lanes)
{
    int64_t i;
#define MDE__ADD(l) \
    lane##l = lane##l + MDE__K(widen)(r + i + MDE__DOUBLES * l) * MDE__K(load_double)(q + i + MDE__DOUBLES * l);
    MDE__SUM_DOUBLES(0, MDE__MIXTURE_STRIP, MDE__LOAD_DOUBLES, MDE__ADD)
#undef MDE__ADD
}

/* The Hessian of two experts, x, with four, y, over n tokens: lanes[4 i + j] += q x_i y_j / s. */
static inline void MDE__K(mixture_tile)(const float *const *x, const float *const *y, const double *q,
                                        const double *inverse, int64_t n, double lanes[][MDE__LANES / 2])
{
    int64_t lane, t;
#define MDE__START(j) \
    MDE__D first##j = MDE__K(load_double)(lanes[j] + lane), second##j = MDE__K(load_double)(lanes[4 + j] + lane);
#define MDE__ADD(j) \
    v = MDE__K(widen)(y[j] + t) * scale; \
    first##j = first##j + u0 * v; \
    second##j = second##j + u1 * v;
#define MDE__KEEP(j) \
    MDE__K(store_double)(lanes[j] + lane, first##j); \
    MDE__K(store_double)(lanes[4 + j] + lane, second##j);
    for (lane = 0; lane < MDE__LANES / 2; lane += MDE__DOUBLES) {
        MDE__EACH_4(MDE__START)
        for (t = lane; t < n; t += MDE__LANES / 2) {
            MDE__D weight = MDE__K(load_double)(q + t), scale = MDE__K(load_double)(inverse + t), v;
            MDE__D u0 = MDE__K(widen)(x[0] + t) * weight, u1 = MDE__K(widen)(x[1] + t) * weight;
            MDE__EACH_4(MDE__ADD)
        }
        MDE__EACH_4(MDE__KEEP)
    }
#undef MDE__START
#undef MDE__ADD
#undef MDE__KEEP
}

/* The lower half of a block's Hessian: of its tokens' r, `whole` are at `row` with `stride`, the others in `last`,
   filled up to a strip with zeros. */
static void MDE__K(mixture_hessian)(int64_t experts, const float *row, int64_t stride, int64_t whole,
                                    float last[][MDE__MIXTURE_STRIP], int64_t rest, const double *q,
                                    const double *inverse, double *hessian)
{
    double lanes[8][MDE__LANES / 2];
    const float *x[2], *y[4];
    int64_t e, f, i, j, part;
    for (e = 0; e < experts; e += 2) {
        for (f = 0; f <= e + 1 && f < experts; f += 4) {
            memset(lanes, 0, sizeof lanes);
            for (part = 0; part < 2; part++) {
                const float *r = part ? last[0] : row;
                int64_t step = part ? MDE__MIXTURE_STRIP : stride;
                for (i = 0; i < 2; i++) x[i] = r + (e + i < experts ? e + i : e) * step;
                for (j = 0; j < 4; j++) y[j] = r + (f + j < experts ? f + j : f) * step;
                if (part == 0) MDE__K(mixture_tile)(x, y, q, inverse, whole, lanes);
                else if (rest > 0) MDE__K(mixture_tile)(x, y, q + whole, inverse + whole, MDE__MIXTURE_STRIP, lanes);
            }
            for (i = 0; i < 2 && e + i < experts; i++) {
                for (j = 0; j < 4 && f + j <= e + i; j++) {
                    hessian[(e + i) * experts + f + j] = MDE__K(fold_double)(lanes[4 * i + j]);
                }
            }
        }
    }
}

/* Tokens from .. to, one block: in[0] r with a stride, in[1] counts or missing, weights [experts]. Block b of the
   partial sums, `terms` doubles, receives the sum of count log s, then the gradient if the order is 1 or more, the
   Hessian if 2. All runs in 8 lanes, lane = token mod 8. */
static void MDE__K(mixture)(const mde__job *j, int64_t from, int64_t to)
{
    double gradient[MDE__MIXTURE_EXPERTS][MDE__LANES / 2], s[MDE__MIXTURE_STRIP], count[MDE__MIXTURE_STRIP];
    double inverse[MDE__MIXTURE_BLOCK], scaled[MDE__MIXTURE_BLOCK];         /* 1 / s, count / s */
    float last[MDE__MIXTURE_EXPERTS][MDE__MIXTURE_STRIP];
    double *out = j->partial + from / MDE__MIXTURE_BLOCK * j->terms;
    const float *row = j->in[0] + from, *counts = j->in[1] ? j->in[1] + from : NULL;
    const double *q = counts ? scaled : inverse;
    mde__log_sum sum;
    int64_t experts = j->experts, tokens = to - from, strip, t, e, exponent = 0;
    int i, inside;
    memset(out, 0, (size_t)j->terms * sizeof *out);
    memset(gradient, 0, (size_t)experts * sizeof *gradient);
    for (i = 0; i < MDE__LANES / 2; i++) {
        sum.product[i] = 1;
        sum.exponent[i] = 0;
    }
    for (strip = 0; strip < tokens; strip += MDE__MIXTURE_STRIP) {
        int64_t n = mde__min(tokens - strip, MDE__MIXTURE_STRIP), stride = j->stride;
        const float *r = row + strip;
        if (n < MDE__MIXTURE_STRIP) {       /* filled up with tokens that count nothing */
            for (e = 0; e < experts; e++) {
                for (t = 0; t < MDE__MIXTURE_STRIP; t++) last[e][t] = t < n ? r[e * stride + t] : 0.0f;
            }
            r = last[0];
            stride = MDE__MIXTURE_STRIP;
        }
        for (t = 0; counts && t < MDE__MIXTURE_STRIP; t++) count[t] = t < n ? (double)counts[strip + t] : 0.0;
        for (e = 0; e < experts; e++) mde__prefetch(r + e * stride, 2 * MDE__MIXTURE_STRIP, MDE__MIXTURE_STRIP);
        inside = MDE__K(mixture_sums)(experts, j->weights, r, stride, s);
        if (n < MDE__MIXTURE_STRIP) {
            inside = 1;
            for (t = 0; t < MDE__MIXTURE_STRIP; t++) {
                if (t >= n) s[t] = 1;
                inside &= s[t] >= 1e-30 && s[t] <= 1e30;
            }
        }
        if (!inside) {
            for (t = 0; t < n; t++) {
                double times = counts ? count[t] : 1.0;
                if (times != 0) *out += times * mde__log64(s[t]);
            }
        } else if (counts) {
            *out += MDE__K(mixture_logs)(count, s);
        } else {
            MDE__K(mixture_multiply)(&sum, s);
        }
        if (j->order < 1) continue;
        for (t = 0; t < MDE__MIXTURE_STRIP; t += MDE__DOUBLES) {
            MDE__D one = MDE__K(set_double)(1.0) / MDE__K(load_double)(s + t);
            MDE__K(store_double)(inverse + strip + t, one);
            if (counts) MDE__K(store_double)(scaled + strip + t, one * MDE__K(load_double)(count + t));
        }
        for (e = 0; e < experts; e++) MDE__K(mixture_gradient)(r + e * stride, q + strip, gradient[e]);
    }
    for (e = 0; j->order >= 1 && e < experts; e++) out[1 + e] = MDE__K(fold_double)(gradient[e]);
    if (j->order >= 2) {
        int64_t rest = tokens % MDE__MIXTURE_STRIP;
        MDE__K(mixture_hessian)(experts, row, j->stride, tokens - rest, last, rest, q, inverse, out + 1 + experts);
    }
    for (i = 0; i < MDE__LANES / 2; i++) {
        *out += mde__log64(sum.product[i]);
        exponent += (int64_t)sum.exponent[i];
    }
    *out += (double)exponent * 0.69314718055994530942;
}

/* ---- Many mixtures of experts' probabilities, in float32 ---- */

/* Products of MDE__STRIP_STEPS sums of w_e r_e in MDE__STRIP_LANES lanes, lane = token mod 32, for a strip of tokens
   and 4 mixtures: w [experts][4], products [4][lanes]. Sums must be at most about 1: then a product above the least one
   has lost no bits on the way. Returns whether all are. */
static inline int MDE__K(mixture_products)(int64_t experts, const float *w, const float *r, int64_t stride,
                                           float *products)
{
    MDE__V low = MDE__K(set)(MDE__STRIP_LOWEST), one = MDE__K(set)(1.0f);
    MDE__I inside = ~MDE__K(set_int)(0);
    uint32_t lanes[MDE__W], every = UINT32_MAX;
    int lane, step, i;
    for (lane = 0; lane < MDE__STRIP_LANES; lane += 2 * MDE__W) {
        MDE__V x, y, weight;
#define MDE__START(m) MDE__V product##m = one, other##m = one;
        MDE__EACH_4(MDE__START)
#undef MDE__START
        for (step = 0; step < MDE__STRIP_STEPS; step++) {
            const float *at = r + step * MDE__STRIP_LANES + lane, *weights = w;
            int64_t e;
#define MDE__START(m) MDE__V sum##m, rest##m;
#define MDE__FIRST(m) \
            weight = MDE__K(set)(weights[m]); \
            sum##m = weight * x; \
            rest##m = weight * y;
#define MDE__ADD(m) \
            weight = MDE__K(set)(weights[m]); \
            sum##m = MDE__K(fma)(weight, x, sum##m); \
            rest##m = MDE__K(fma)(weight, y, rest##m);
#define MDE__KEEP(m) \
            product##m = product##m * sum##m; \
            other##m = other##m * rest##m;
            MDE__EACH_4(MDE__START)
            x = MDE__K(load)(at);
            y = MDE__K(load)(at + MDE__W);
            MDE__EACH_4(MDE__FIRST)
            for (e = 1; e < experts; e++) {
                at += stride;
                weights += 4;
                x = MDE__K(load)(at);
                y = MDE__K(load)(at + MDE__W);
                MDE__EACH_4(MDE__ADD)
            }
            MDE__EACH_4(MDE__KEEP)
#undef MDE__START
#undef MDE__FIRST
#undef MDE__ADD
#undef MDE__KEEP
        }
#define MDE__KEEP(m) \
        inside = inside & MDE__MASK(product##m >= low) & MDE__MASK(other##m >= low); \
        MDE__K(store)(products + m * MDE__STRIP_LANES + lane, product##m); \
        MDE__K(store)(products + m * MDE__STRIP_LANES + lane + MDE__W, other##m);
        MDE__EACH_4(MDE__KEEP)
#undef MDE__KEEP
    }
    memcpy(lanes, &inside, sizeof lanes);
    for (i = 0; i < MDE__W; i++) every &= lanes[i];
    return every != 0;
}

/* Multiplies products into the lanes of a sum, whose exponents move to integers. */
static inline void MDE__K(mixture_gather)(const float *products, mde__strip_sum *sum)
{
    int lane;
    for (lane = 0; lane < MDE__STRIP_LANES; lane += MDE__W) {
        MDE__I bits = MDE__K(as_int)(MDE__K(load)(products + lane)), exponent;
        memcpy(&exponent, sum->exponent + lane, sizeof exponent);
        exponent = exponent + (bits >> 23) - MDE__K(set_int)(127);
        memcpy(sum->exponent + lane, &exponent, sizeof exponent);
        bits = (bits & MDE__K(set_int)(0x7fffff)) | MDE__K(set_int)(0x3f800000);
        MDE__K(store)(sum->product + lane, MDE__K(load)(sum->product + lane) * MDE__K(as_float)(bits));
    }
}

/* Tokens from .. to, one block: in[0] r with a stride, in[1] the weights [groups of 4][experts][4].
   Block b of the partial sums, `terms` doubles, receives the sum of log s of each of the `rows` mixtures. */
static void MDE__K(mixtures)(const mde__job *j, int64_t from, int64_t to)
{
    float products[4 * MDE__STRIP_LANES];
    double *out = j->partial + from / MDE__MIXTURES_BLOCK * j->terms;
    mde__strip_sum sums[MDE__MIXTURES];
    int64_t experts = j->experts, stride = j->stride, strip, m, group;
    int i, k;
    for (m = 0; m < j->rows; m++) {
        out[m] = 0;
        for (i = 0; i < MDE__STRIP_LANES; i++) {
            sums[m].product[i] = 1;
            sums[m].exponent[i] = 0;
        }
    }
    for (strip = from; strip < to; strip += MDE__STRIP_TOKENS) {
        const float *r = j->in[0] + strip;
        int64_t n = mde__min(to - strip, MDE__STRIP_TOKENS);
        for (group = 0; group < j->rows; group += 4) {
            const float *w = j->in[1] + group * experts;
            int whole = n == MDE__STRIP_TOKENS;
            int inside = whole && MDE__K(mixture_products)(experts, w, r, stride, products);
            /* Each group asks for its share of the next strip's rows. */
            for (i = (int)group / 4; i < experts; i += (int)(j->rows + 3) / 4) {
                mde__prefetch(r + i * stride, MDE__STRIP_TOKENS, MDE__STRIP_TOKENS);
            }
            for (m = group; m < group + 4 && m < j->rows; m++) {
                const float *product = products + (m - group) * MDE__STRIP_LANES;
                int good = inside;
                if (!inside && whole) {
                    for (good = 1, i = 0; i < MDE__STRIP_LANES; i++) good &= product[i] >= MDE__STRIP_LOWEST;
                }
                if (good) MDE__K(mixture_gather)(product, &sums[m]);
                else out[m] += mde__mixture_careful(experts, w + m - group, r, stride, n);
            }
        }
    }
    for (m = 0; m < j->rows; m++) {
        double lanes[MDE__LANES / 2], product = 1;
        int64_t exponent = 0;
        uint64_t bits;
        for (i = 0; i < MDE__STRIP_LANES; i++) exponent += sums[m].exponent[i];
        for (i = 0; i < MDE__LANES / 2; i++) {
            lanes[i] = 1;
            for (k = i; k < MDE__STRIP_LANES; k += MDE__LANES / 2) lanes[i] *= (double)sums[m].product[k];
            memcpy(&bits, lanes + i, sizeof bits);
            exponent += (int64_t)(bits >> 52) - 1023;
            bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
            memcpy(lanes + i, &bits, sizeof bits);
            product *= lanes[i];
        }
        out[m] += mde__log64(product) + (double)exponent * 0.69314718055994530942;
    }
}

/* ---- Dense algebra, in double ---- */

/* Products are not fused here: a double multiply-add cannot be emulated cheaply where the machine has none. */

/* x [n < MDE__DOUBLES], then zeros. */
static inline MDE__D MDE__K(load_double_part)(const double *p, int64_t n)
{
    double lanes[MDE__DOUBLES];
    int64_t i;
    for (i = 0; i < MDE__DOUBLES; i++) lanes[i] = i < n ? p[i] : 0.0;
    return MDE__K(load_double)(lanes);
}

/* As many of the lanes as there is room for, n. */
static inline void MDE__K(store_double_part)(double *p, int64_t n, MDE__D x)
{
    double lanes[MDE__DOUBLES];
    int64_t i;
    if (n >= MDE__DOUBLES) {
        MDE__K(store_double)(p, x);
        return;
    }
    MDE__K(store_double)(lanes, x);
    for (i = 0; i < n; i++) p[i] = lanes[i];
}

static inline MDE__D MDE__K(select_double)(MDE__L mask, MDE__D a, MDE__D b)
{
    return MDE__K(as_double)((mask & MDE__K(as_long)(a)) | (~mask & MDE__K(as_long)(b)));
}

static inline MDE__D MDE__K(sqrt_double)(MDE__D x)
{
#if MDE__KERNEL_SET == 3
    return (MDE__D)MDE__SQRT_DOUBLE_8(x);
#elif MDE__KERNEL_SET == 2
    return (MDE__D)MDE__SQRT_DOUBLE_4(x);
#elif MDE__W == 1
    return sqrt(x);
#elif defined(MDE__X86) && MDE__W == 4
    return (MDE__D)_mm_sqrt_pd((__m128d)x);
#else
    int i;
    for (i = 0; i < MDE__DOUBLES; i++) x[i] = sqrt(x[i]);
    return x;
#endif
}

/* e^x, x taken to [-700, 700]: 2^k e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial. Errors below 1 unit in the
   last place or so. */
static inline MDE__D MDE__K(exp_double)(MDE__D x)
{
    MDE__D magic = MDE__K(set_double)(6755399441055744.0), rounded, k, r, p;       /* 1.5 2^52 */
    x = MDE__K(select_double)(MDE__MASK_DOUBLE(x > MDE__K(set_double)(700.0)), MDE__K(set_double)(700.0), x);
    x = MDE__K(select_double)(MDE__MASK_DOUBLE(x < MDE__K(set_double)(-700.0)), MDE__K(set_double)(-700.0), x);
    rounded = x * MDE__K(set_double)(1.44269504088896338700) + magic;
    k = rounded - magic;
    r = (x - k * MDE__K(set_double)(MDE__LN2_HIGH)) - k * MDE__K(set_double)(MDE__LN2_LOW);
    p = MDE__K(set_double)(1.0 / 6227020800.0);
    p = p * r + MDE__K(set_double)(1.0 / 479001600.0);
    p = p * r + MDE__K(set_double)(1.0 / 39916800.0);
    p = p * r + MDE__K(set_double)(1.0 / 3628800.0);
    p = p * r + MDE__K(set_double)(1.0 / 362880.0);
    p = p * r + MDE__K(set_double)(1.0 / 40320.0);
    p = p * r + MDE__K(set_double)(1.0 / 5040.0);
    p = p * r + MDE__K(set_double)(1.0 / 720.0);
    p = p * r + MDE__K(set_double)(1.0 / 120.0);
    p = p * r + MDE__K(set_double)(1.0 / 24.0);
    p = p * r + MDE__K(set_double)(1.0 / 6.0);
    p = p * r + MDE__K(set_double)(0.5);
    p = MDE__K(set_double)(1.0) + (r + r * r * p);
    /* What is left of the last bits of magic is shifted out. */
    return p * MDE__K(as_double)((MDE__K(as_long)(rounded) + MDE__K(set_long)(1023)) << 52);
}

/* out = scale x y */
static void MDE__K(dense_multiply)(int64_t n, double scale, const double *x, const double *y, double *out)
{
    MDE__D factor = MDE__K(set_double)(scale);
    int64_t i;
    for (i = 0; i + MDE__DOUBLES <= n; i += MDE__DOUBLES) {
        MDE__K(store_double)(out + i, factor * MDE__K(load_double)(x + i) * MDE__K(load_double)(y + i));
    }
    for (; i < n; i++) out[i] = scale * x[i] * y[i];
}

/* y += scale x */
static void MDE__K(dense_axpy)(int64_t n, double scale, const double *x, double *y)
{
    MDE__D factor = MDE__K(set_double)(scale);
    int64_t i;
    for (i = 0; i + MDE__DOUBLES <= n; i += MDE__DOUBLES) {
        MDE__K(store_double)(y + i, MDE__K(load_double)(y + i) + factor * MDE__K(load_double)(x + i));
    }
    for (; i < n; i++) y[i] = y[i] + scale * x[i];
}

/* out = e^x and log x, in place or not; what log takes is positive and normal. */
#define MDE__DENSE(name) \
    static void MDE__K(dense_##name)(int64_t n, const double *x, double *out) \
    { \
        int64_t i; \
        for (i = 0; i + MDE__DOUBLES <= n; i += MDE__DOUBLES) { \
            MDE__K(store_double)(out + i, MDE__K(name##_double)(MDE__K(load_double)(x + i))); \
        } \
        if (i < n) { \
            MDE__D part = MDE__K(load_double_part)(x + i, n - i); \
            MDE__K(store_double_part)(out + i, n - i, MDE__K(name##_double)(part)); \
        } \
    }
MDE__DENSE(exp)
MDE__DENSE(log)

/* x y in 8 lanes, lane = index mod 8 */
static double MDE__K(dense_dot)(int64_t n, const double *x, const double *y)
{
    double lanes[MDE__LANES / 2];
    int64_t i;
#define MDE__ADD(l) \
    lane##l = lane##l + MDE__K(load_double)(x + i + MDE__DOUBLES * l) * MDE__K(load_double)(y + i + MDE__DOUBLES * l);
    MDE__SUM_DOUBLES(0, n, MDE__NO_DOUBLES, MDE__ADD)
#undef MDE__ADD
    for (; i < n; i++) lanes[i % (MDE__LANES / 2)] += x[i] * y[i];
    return MDE__K(fold_double)(lanes);
}

/* out (a tile) = sign a b, added to what is there or not, a [depth][MDE__DENSE_ROWS], b [depth][MDE__DENSE_COLUMNS]:
   the sums of a part of it, as large as the registers hold, then the next part. */
#if MDE__DOUBLES == 8
#define MDE__DENSE_PART 8
#define MDE__EACH_DENSE(S) MDE__EACH_8(S)
#else
#define MDE__DENSE_PART 4
#define MDE__EACH_DENSE(S) MDE__EACH_4(S)
#endif
static void MDE__K(dense_tile)(int64_t depth, double sign, int added, const double *a, const double *b, double *out,
                               size_t stride)
{
    MDE__D factor = MDE__K(set_double)(sign), zero = MDE__K(set_double)(0.0);
    int64_t p;
    int row, column;
    for (column = 0; column < MDE__DENSE_COLUMNS; column += 2 * MDE__DOUBLES) {
        for (row = 0; row < MDE__DENSE_ROWS; row += MDE__DENSE_PART) {
            const double *from = a + row, *right = b + column;
            double *to = out + (size_t)row * stride + column;
            MDE__D u, v, x;
#define MDE__START(r) MDE__D first##r = MDE__K(set_double)(0.0), second##r = first##r;
#define MDE__STEP(r) \
            x = MDE__K(set_double)(from[r]); \
            first##r = first##r + x * u; \
            second##r = second##r + x * v;
#define MDE__KEEP(r) \
            u = added ? MDE__K(load_double)(to + r * stride) : zero; \
            v = added ? MDE__K(load_double)(to + r * stride + MDE__DOUBLES) : zero; \
            MDE__K(store_double)(to + r * stride, u + first##r * factor); \
            MDE__K(store_double)(to + r * stride + MDE__DOUBLES, v + second##r * factor);
            MDE__EACH_DENSE(MDE__START)
            for (p = 0; p < depth; p++, from += MDE__DENSE_ROWS, right += MDE__DENSE_COLUMNS) {
                u = MDE__K(load_double)(right);
                v = MDE__K(load_double)(right + MDE__DOUBLES);
                MDE__EACH_DENSE(MDE__STEP)
            }
            MDE__EACH_DENSE(MDE__KEEP)
#undef MDE__START
#undef MDE__STEP
#undef MDE__KEEP
        }
    }
}

/* inverse [n, n] = L^-1 for a = L L', n <= MDE__DENSE_BLOCK, both with rows of `stride`; only the lower half of a is
   read. Returns 0 when a is not positive definite. */
static int MDE__K(dense_factor)(int n, const double *a, double *inverse, size_t stride)
{
    double upper[MDE__DENSE_BLOCK][MDE__DENSE_BLOCK], rows[MDE__DENSE_BLOCK][MDE__DENSE_BLOCK];   /* L', L^-1 */
    int i, j, k, first;
    for (i = 0; i < MDE__DENSE_BLOCK; i++) {
        for (j = 0; j < MDE__DENSE_BLOCK; j++) {
            upper[i][j] = j < n && i <= j ? a[(size_t)j * stride + (size_t)i] : i == j;
            rows[i][j] = 0;
        }
    }
    for (i = 0; i < n; i++) {
        double pivot = upper[i][i], scale;
        if (!(pivot > 0 && pivot < (double)INFINITY)) return 0;
        scale = 1.0 / sqrt(pivot);
        for (k = i / MDE__DOUBLES * MDE__DOUBLES; k < MDE__DENSE_BLOCK; k += MDE__DOUBLES) {
            MDE__K(store_double)(upper[i] + k, MDE__K(set_double)(scale) * MDE__K(load_double)(upper[i] + k));
        }
        for (j = i + 1; j < n; j++) {
            MDE__D factor = MDE__K(set_double)(upper[i][j]);
            for (k = j / MDE__DOUBLES * MDE__DOUBLES; k < MDE__DENSE_BLOCK; k += MDE__DOUBLES) {
                MDE__K(store_double)(upper[j] + k, MDE__K(load_double)(upper[j] + k)
                                                   - factor * MDE__K(load_double)(upper[i] + k));
            }
        }
        for (first = 0; first < i; first += MDE__DOUBLES) {
            MDE__D sum = MDE__K(set_double)(0.0);
            for (k = first; k < i; k++) {
                sum = sum - MDE__K(set_double)(upper[k][i]) * MDE__K(load_double)(rows[k] + first);
            }
            MDE__K(store_double)(rows[i] + first, sum * MDE__K(set_double)(scale));
        }
        rows[i][i] = scale;
        memcpy(inverse + (size_t)i * stride, rows[i], (size_t)n * sizeof(double));
    }
    return 1;
}

/* Covariances at squared distances, and their g. */
static inline MDE__D MDE__K(covariance_at)(mde_kernel kernel, MDE__D square, MDE__D *g)
{
    MDE__D one = MDE__K(set_double)(1.0), s, e;
    if (kernel == MDE_RBF) return *g = MDE__K(exp_double)(MDE__K(set_double)(-0.5) * square);
    if (kernel == MDE_MATERN32) {
        s = MDE__K(sqrt_double)(MDE__K(set_double)(3.0) * square);
        e = MDE__K(exp_double)(-s);
        *g = MDE__K(set_double)(3.0) * e;
        return (one + s) * e;
    }
    s = MDE__K(sqrt_double)(MDE__K(set_double)(5.0) * square);
    e = MDE__K(exp_double)(-s);
    *g = MDE__K(set_double)(5.0 / 3.0) * (one + s) * e;
    return (one + s + s * s / MDE__K(set_double)(3.0)) * e;
}

/* Covariances k [n] of an input at [d] with those of columns [d][MDE__INPUT_BLOCK], n of them, in length scales; and g
   [n] (may be NULL) with d k / d at_q = -signal g (at_q - x_q). Four vectors side by side hide how long a sum takes. */
static void MDE__K(covariance)(mde_kernel kernel, double signal, int64_t n, int64_t d, const double *at,
                               const double *columns, double *k, double *g)
{
    MDE__D factor = MDE__K(set_double)(signal), x, slope, value;
    int64_t j, q;
#define MDE__START(r) MDE__D square##r = MDE__K(set_double)(0.0);
#define MDE__ADD(r) \
    value = x - MDE__K(load_double)(column + r * MDE__DOUBLES); \
    square##r = square##r + value * value;
#define MDE__KEEP(r) \
    if (j + r * MDE__DOUBLES < n) { \
        int64_t left = n - j - r * MDE__DOUBLES; \
        value = factor * MDE__K(covariance_at)(kernel, square##r, &slope); \
        MDE__K(store_double_part)(k + j + r * MDE__DOUBLES, left, value); \
        if (g) MDE__K(store_double_part)(g + j + r * MDE__DOUBLES, left, slope); \
    }
    for (j = 0; j < n; j += 4 * MDE__DOUBLES) {
        const double *column = columns + j;
        MDE__EACH_4(MDE__START)
        for (q = 0; q < d; q++, column += MDE__INPUT_BLOCK) {
            x = MDE__K(set_double)(at[q]);
            MDE__EACH_4(MDE__ADD)
        }
        MDE__EACH_4(MDE__KEEP)
    }
#undef MDE__START
#undef MDE__ADD
#undef MDE__KEEP
}

/* What is not the same in every set; the other macros are defined again as they were. */
#undef MDE__K
#undef MDE__W
#undef MDE__DOUBLES
#undef MDE__FILL_HALF
#undef MDE__FILL
#undef MDE__EACH
#undef MDE__EACH_DOUBLE
#undef MDE__MASK
#undef MDE__MASK_DOUBLE
#undef MDE__TILE_ROWS
#undef MDE__FEW_ROWS
#undef MDE__EACH_FEW
#undef MDE__EACH_OTHER
#undef MDE__DENSE_PART
#undef MDE__EACH_DENSE
#undef MDE__SHARED
#undef MDE__FUSED
#ifdef MDE__KERNELS_COLD
MDE__COLD_END
#undef MDE__KERNELS_COLD
#endif
#if MDE__KERNEL_SET == 2 || MDE__KERNEL_SET == 3
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#undef MDE__KERNEL_SET
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
#endif /* MDE__KERNEL_SET: end of the text that is read once for each instruction set */

#if defined(MDEMIX_IMPLEMENTATION) && !defined(MDE__KERNELS_READ)
#define MDE__KERNELS_READ

/* ---- The other instruction sets ---- */

#if defined(MDE__X86) && !defined(MDE_NO_SIMD)
#define MDE__KERNEL_SET 2               /* MDE_SIMD_AVX2 */
#include MDEMIX_FILE
#define MDE__KERNEL_SET 3               /* MDE_SIMD_AVX512 */
#include MDEMIX_FILE
#endif
#ifdef MDE__WITH_WIDE
#define MDE__KERNEL_SET 4               /* MDE__SIMD_WIDE */
#include MDEMIX_FILE
#endif

/* ---- The kernel of the instruction set that runs ---- */

#ifdef MDE__WITH_WIDE
#define MDE__IF_WIDE(name) simd == MDE__SIMD_WIDE ? mde__##name##_wide :
#else
#define MDE__IF_WIDE(name)
#endif
#if defined(MDE__X86) && !defined(MDE_NO_SIMD)
#define MDE__PICK(name) \
    (simd == MDE_SIMD_AVX512 ? mde__##name##_avx512 \
     : MDE__IF_WIDE(name) simd == MDE_SIMD_AVX2 ? mde__##name##_avx2 : mde__##name##_portable)
#define MDE__PICK_NARROW(name) \
    (MDE__IF_WIDE(name) simd >= MDE_SIMD_AVX2 ? mde__##name##_avx2 : mde__##name##_portable)
#else
#define MDE__PICK(name) ((void)simd, MDE__IF_WIDE(name) mde__##name##_portable)
#define MDE__PICK_NARROW(name) MDE__PICK(name)
#endif

#define MDE__DISPATCH(result, name, parameters) \
    static result (*mde__kernel_##name(int simd)) parameters { return MDE__PICK(name); }
#define MDE__DISPATCH_JOB(name) MDE__DISPATCH(void, name, (const mde__job *j, int64_t from, int64_t to))
#define MDE__DISPATCH_NARROW(result, name, parameters) \
    static result (*mde__kernel_##name(int simd)) parameters { return MDE__PICK_NARROW(name); }
#define MDE__DISPATCH_NARROW_JOB(name) \
    MDE__DISPATCH_NARROW(void, name, (const mde__job *j, int64_t from, int64_t to))
MDE__KERNELS(MDE__DISPATCH_JOB, MDE__DISPATCH)
MDE__NARROW_KERNELS(MDE__DISPATCH_NARROW_JOB, MDE__DISPATCH_NARROW)

static int64_t mde__tile_rows(int simd)
{
    return MDE__PICK(tile_rows);
}

static int64_t mde__tile_columns(int simd)
{
    return MDE__PICK(tile_columns);
}

/* The instruction set to run for a wish, one of MDE_SIMD_*; 0 when the CPU or this build lacks it. */
static int mde__simd_choose(int simd)
{
    int best = MDE_SIMD_PORTABLE;
#if defined(MDE__X86) && !defined(MDE_NO_SIMD)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        best = __builtin_cpu_supports("avx512f") ? MDE_SIMD_AVX512 : MDE_SIMD_AVX2;
    }
#endif
#ifdef MDE__WITH_WIDE
    if (simd == MDE__SIMD_WIDE) return simd;
#endif
    if (simd == MDE_SIMD_BEST) return best;
    return simd >= MDE_SIMD_PORTABLE && simd <= best ? simd : 0;
}

static const char *mde__simd_text(int simd)
{
    return simd == MDE_SIMD_AVX512 ? "avx512" : simd == MDE_SIMD_AVX2 ? "avx2" : simd == MDE_SIMD_PORTABLE ? "portable"
                                                                                                           : "wide";
}

MDE__COLD_BEGIN     /* from here on, what calls kernels */

/* ---- Elements and rows: work is cut into chunks whose places depend on the sizes alone ---- */

typedef struct mde__shares {
    mde__kernel_fn *fn;
    const mde__job *job;
    int64_t count, chunk;
} mde__shares;

static void mde__share(int64_t index, void *user)
{
    const mde__shares *s = (const mde__shares *)user;
    int64_t from = index * s->chunk, to = mde__min(from + s->chunk, s->count);
    s->fn(s->job, from, to);
}

static void mde__run(mde_context *c, mde__kernel_fn *fn, const mde__job *job, int64_t count, int64_t chunk)
{
    mde__shares s;
    if (count <= 0) return;
    s.fn = fn;
    s.job = job;
    s.count = count;
    s.chunk = chunk;
    mde_parallel_for(c, (count - 1) / chunk + 1, mde__share, &s);
}

#define MDE__CHUNK_ELEMENTS 16384       /* work of one chunk, about 10 microseconds */

static void mde__run_rows(mde_context *c, mde__kernel_fn *fn, mde__job *job, int64_t rows, int64_t cols)
{
    job->rows = rows;
    job->cols = cols;
    mde__run(c, fn, job, rows, cols < MDE__CHUNK_ELEMENTS ? MDE__CHUNK_ELEMENTS / (cols > 0 ? cols : 1) : 1);
}

/* Columns in strips: narrow enough to be shared out, and whole cache lines. */
static void mde__share_columns(mde_context *c, mde__kernel_fn *fn, mde__job *job, int64_t rows, int64_t cols)
{
    job->rows = rows;
    job->cols = cols;
    mde__run(c, fn, job, cols, rows * cols <= MDE__CHUNK_ELEMENTS && cols > 0 ? cols : 32);
}

static mde__job mde__new_job(const float *a, const float *b, float *y)
{
    mde__job job;
    memset(&job, 0, sizeof job);
    job.in[0] = a;
    job.in[1] = b;
    job.out[0] = y;
    return job;
}

static void mde__elements(mde_context *c, mde__kernel_fn *fn, int64_t n, const float *a, const float *b, float s,
                          float t, float *y)
{
    mde__job job = mde__new_job(a, b, y);
    job.scale = s;
    job.shift = t;
    mde__run(c, fn, &job, n, MDE__CHUNK_ELEMENTS);
}

/* y[i] = f(x[i]), y[i] = f(a[i], b[i]), dx[i] = g[i] f'(x[i]); the output may be an input. */
#define MDE__VECTOR_UNARY(name) \
    static void mde__v##name(mde_context *c, int64_t n, const float *x, float *y) \
    { \
        mde__elements(c, mde__kernel_##name(c->simd), n, x, NULL, 0, 0, y); \
    }
#define MDE__VECTOR_BINARY(name) \
    static void mde__v##name(mde_context *c, int64_t n, const float *a, const float *b, float *y) \
    { \
        mde__elements(c, mde__kernel_##name(c->simd), n, a, b, 0, 0, y); \
    }
#define MDE__VECTOR_VJP(name) \
    static void mde__v##name##_vjp(mde_context *c, int64_t n, const float *x, const float *g, float *dx) \
    { \
        mde__elements(c, mde__kernel_##name##_vjp(c->simd), n, x, g, 0, 0, dx); \
    }
MDE__PLAIN_FUNCTIONS(MDE__VECTOR_UNARY)
MDE__GATED_FUNCTIONS(MDE__VECTOR_UNARY)
MDE__BINARY_FUNCTIONS(MDE__VECTOR_BINARY)
MDE__GATED_FUNCTIONS(MDE__VECTOR_VJP)

/* y += alpha x */
static void mde__vaxpy(mde_context *c, int64_t n, float alpha, const float *x, float *y)
{
    mde__elements(c, mde__kernel_axpy(c->simd), n, x, NULL, alpha, 0, y);
}

/* y = scale x + shift */
static void mde__vaffine(mde_context *c, int64_t n, const float *x, float scale, float shift, float *y)
{
    mde__elements(c, mde__kernel_affine(c->simd), n, x, NULL, scale, shift, y);
}

/* One step over n weights w with gradients g and moments m and v. */
static void mde__adamw(mde_context *c, const mde__adam *adam, int64_t n, const float *g, float *w, float *m, float *v)
{
    mde__job job = mde__new_job(g, NULL, w);
    job.out[1] = m;
    job.out[2] = v;
    job.adam = *adam;
    mde__run(c, mde__kernel_adamw(c->simd), &job, n, MDE__CHUNK_ELEMENTS);
}

#define MDE__MAX_PARTIALS 256

/* A partial sum of each chunk, and how many chunks there are: at most MDE__MAX_PARTIALS. */
static int64_t mde__partials(mde_context *c, mde__kernel_fn *fn, int64_t n, const float *x, double *partial)
{
    mde__job job = mde__new_job(x, NULL, NULL);
    job.partial = partial;
    job.chunk = MDE__CHUNK_ELEMENTS;
    while (n > job.chunk * MDE__MAX_PARTIALS) job.chunk *= 2;
    mde__run(c, fn, &job, n, job.chunk);
    return n > 0 ? (n - 1) / job.chunk + 1 : 0;
}

static float mde__sum_all(mde_context *c, int64_t n, const float *x)
{
    double partial[MDE__MAX_PARTIALS];
    int64_t i, count = mde__partials(c, mde__kernel_sum(c->simd), n, x, partial);
    float sum = 0;
    for (i = 0; i < count; i++) sum += (float)partial[i];
    return sum;
}

static double mde__sum_squares(mde_context *c, int64_t n, const float *x)
{
    double partial[MDE__MAX_PARTIALS], sum = 0;
    int64_t i, count = mde__partials(c, mde__kernel_sum_squares(c->simd), n, x, partial);
    for (i = 0; i < count; i++) sum += partial[i];
    return sum;
}

/* out [rows] */
static void mde__sum_rows(mde_context *c, int64_t rows, int64_t cols, const float *x, float *out)
{
    mde__job job = mde__new_job(x, NULL, out);
    mde__run_rows(c, mde__kernel_sum_rows(c->simd), &job, rows, cols);
}

/* out [cols], added to if accumulate */
static void mde__sum_columns(mde_context *c, int64_t rows, int64_t cols, const float *x, int accumulate, float *out)
{
    mde__job job = mde__new_job(x, NULL, out);
    job.accumulate = accumulate;
    mde__share_columns(c, mde__kernel_sum_columns(c->simd), &job, rows, cols);
}

/* y [rows, cols] = f(x), and dx from y's gradient g and x, which of softmax is the output. A row of glu's x and dx has
   2 cols. y may be x but for glu. */
#define MDE__ROWS(name) \
    static void mde__##name##_rows(mde_context *c, int64_t rows, int64_t cols, const float *x, float *y) \
    { \
        mde__job job = mde__new_job(x, NULL, y); \
        mde__run_rows(c, mde__kernel_##name(c->simd), &job, rows, cols); \
    }
#define MDE__ROWS_VJP(name) \
    static void mde__##name##_rows_vjp(mde_context *c, int64_t rows, int64_t cols, const float *x, const float *g, \
                                       float *dx) \
    { \
        mde__job job = mde__new_job(x, g, dx); \
        mde__run_rows(c, mde__kernel_##name##_vjp(c->simd), &job, rows, cols); \
    }
MDE__ROWS(softmax)
MDE__ROWS(log_softmax)
MDE__ROWS(glu)
MDE__ROWS_VJP(softmax)
MDE__ROWS_VJP(glu)

/* logits [rows, cols]; target, loss, logsumexp [rows]. A negative target is left out: loss 0, gradient 0. */
static void mde__cross_entropy_rows(mde_context *c, int64_t rows, int64_t cols, const float *logits,
                                    const int32_t *target, float *loss, float *logsumexp)
{
    mde__job job = mde__new_job(logits, NULL, loss);
    job.target = target;
    job.out[1] = logsumexp;
    mde__run_rows(c, mde__kernel_cross_entropy(c->simd), &job, rows, cols);
}

/* g [rows] is the gradient of loss; dlogits may be logits. */
static void mde__cross_entropy_rows_vjp(mde_context *c, int64_t rows, int64_t cols, const float *logits,
                                        const int32_t *target, const float *logsumexp, const float *g, float *dlogits)
{
    mde__job job = mde__new_job(logits, logsumexp, dlogits);
    job.target = target;
    job.in[2] = g;
    mde__run_rows(c, mde__kernel_cross_entropy_vjp(c->simd), &job, rows, cols);
}

/* A norm of rows: x [rows, cols], gain and bias [cols] or NULL, and what the way back needs, mean (of a layer norm) and
   rstd [rows] or NULL. */
typedef struct mde__row_norm {
    int64_t rows, cols;
    const float *x, *gain, *bias;
    float epsilon, *mean, *rstd;
} mde__row_norm;

static mde__job mde__norm_job(const mde__row_norm *n, float *out)
{
    mde__job job = mde__new_job(n->x, n->gain, out);
    job.epsilon = n->epsilon;
    return job;
}

static void mde__rms_norm_rows(mde_context *c, const mde__row_norm *n, float *y)
{
    mde__job job = mde__norm_job(n, y);
    job.out[1] = n->rstd;
    mde__run_rows(c, mde__kernel_rms_norm(c->simd), &job, n->rows, n->cols);
}

static void mde__layer_norm_rows(mde_context *c, const mde__row_norm *n, float *y)
{
    mde__job job = mde__norm_job(n, y);
    job.in[2] = n->bias;
    job.out[1] = n->mean;
    job.out[2] = n->rstd;
    mde__run_rows(c, mde__kernel_layer_norm(c->simd), &job, n->rows, n->cols);
}

/* g is the gradient of the output. dx, dgain, dbias may be NULL; dgain and dbias are added to, and so is dx if `add`.
   dx may be g only if dgain and dbias are NULL. */
static void mde__norm_rows_vjp(mde_context *c, mde__kernel_fn *kernel, const mde__row_norm *n, const float *g, int add,
                               float *dx, float *dgain, float *dbias)
{
    mde__job job = mde__norm_job(n, dx);
    job.in[2] = n->rstd;
    job.in[3] = g;
    job.in[4] = n->mean;
    job.accumulate = add;
    if (dx) mde__run_rows(c, kernel, &job, n->rows, n->cols);
    job.out[0] = dgain;
    job.out[1] = dbias;
    if (dgain || dbias) mde__share_columns(c, mde__kernel_norm_gain_vjp(c->simd), &job, n->rows, n->cols);
}

/* Heads of [batch, time, heads, dim] by the angles of cosines and sines [time, dim/2]; the first `rotated` heads are
   rotated, the others copied. */
typedef struct mde__rotation {
    int64_t batch, time, heads, rotated, dim;
    const float *cosines, *sines;
    int inverse;
} mde__rotation;

/* y may be x. */
static void mde__rotate_heads(mde_context *c, const mde__rotation *r, const float *x, float *y)
{
    mde__job job = mde__new_job(x, r->cosines, y);
    job.in[2] = r->sines;
    job.scale = r->inverse ? -1.0f : 1.0f;
    job.times = r->time;
    job.heads = r->heads;
    job.rotated = r->rotated;
    job.dim = r->dim;
    mde__run_rows(c, mde__kernel_rope(c->simd), &job, r->batch * r->time, r->heads * r->dim);
}

static void mde__repeat(const mde__job *j, int64_t from, int64_t to)
{
    int64_t row;
    for (row = from; row < to; row++) memcpy(j->out[0] + row * j->cols, j->in[0], (size_t)j->cols * sizeof(float));
}

/* Each row of y [rows, cols] = x [cols] */
static void mde__repeat_row(mde_context *c, int64_t rows, int64_t cols, const float *x, float *y)
{
    mde__job job = mde__new_job(x, NULL, y);
    mde__run_rows(c, mde__repeat, &job, rows, cols);
}

/* ---- Matrix product ---- */

/* Blocks as in Goto and van de Geijn 2008, [rows of A, k] and [k, 1024 columns of B]. A panel of B, [k, tile columns],
   passes by for every tile of A. With tiles of up to 16 columns, k = 256 leaves it (16 KB) and a tile of A in a first
   cache of 32 KB, where k = 512 reads 2.5 times as many lines from the second. A tile of 32 columns reads its panel
   from the second cache anyway, and a long k saves passes over the output. The block of A stays in the second cache,
   that of B in the third. Rows are a multiple of every tile's. */
#define MDE__BLOCK_M_MAX 192
#define MDE__BLOCK_N 1024
#define MDE__FEW_PANELS 512             /* columns, or rows of a transposed A, for which A is read where it lies */
#define MDE__FEW_M 96                   /* rows for which packing B takes longer than reading it where it lies */
#define MDE__FEW_N 128                  /* columns for which packing A does */
#define MDE__GEMM_THREADED (1 << 20)    /* multiply-adds; below, starting threads takes longer than the product */

/* Products of one shape, stride floats apart (0: a shared operand), shared out to threads: parts of the output, or of
   the batch. */
typedef struct mde__products {
    mde_product one;
    int simd;
    int64_t batch, stride_a, stride_b, stride_out, parts, parts_m, parts_n;
    float *workspace;
    size_t part_floats;
} mde__products;

static int64_t mde__block_k(int simd)
{
    return mde__tile_columns(simd) > 16 ? 512 : 256;
}

static int64_t mde__block_m(int simd)
{
    return mde__tile_columns(simd) > 16 ? MDE__BLOCK_M_MAX / 2 : MDE__BLOCK_M_MAX;
}

static int64_t mde__round_up(int64_t a, int64_t unit)
{
    return (a + unit - 1) / unit * unit;
}

/* Floats of the blocks of A and B for one thread; the tail is for a pack that writes a little too far. */
static size_t mde__gemm_part_floats(int simd, int64_t m, int64_t n, int64_t k)
{
    int64_t block_k = mde__min(k, mde__block_k(simd));
    int64_t block_m = mde__round_up(mde__min(m, mde__block_m(simd)), mde__tile_rows(simd));
    int64_t block_n = mde__round_up(mde__min(n, MDE__BLOCK_N), mde__tile_columns(simd));
    return (size_t)mde__round_up(block_k * (block_m + block_n) + MDE__LANES, MDE__LANES);
}

/* Is A read where it lies? Packing it pays where many panels of B pass by; and rows that all fall on one set of the
   cache, or a column of A whose every element is on another page, must be packed. */
static int mde__gemm_a_in_place(int simd, const mde_product *p)
{
    if (p->row) return 1;
    if (p->transpose_a) return p->n <= MDE__FEW_N && p->lda <= MDE__FEW_PANELS;
    return p->m <= mde__tile_rows(simd) || (p->n <= MDE__FEW_PANELS && p->lda % 1024 != 0);
}

/* By one thread. A product of few rows, as in generation, reads B once and where it lies, 16 rows at a time; a
   transposed one panel by panel. */
static void mde__gemm_block(int simd, const mde_product *p, float *workspace)
{
    int64_t tile_m = mde__tile_rows(simd), tile_n = mde__tile_columns(simd), i, j, q;
    int64_t max_m = mde__block_m(simd), max_k = mde__block_k(simd), rows[MDE__BLOCK_M_MAX];
    int few = p->m <= tile_m, a_in_place = mde__gemm_a_in_place(simd, p);
    int b_in_place = !p->transpose_b && (few || (p->m <= MDE__FEW_M && p->ldb <= MDE__FEW_N));
    int64_t step_n = few && p->transpose_b ? tile_n : MDE__BLOCK_N, step_k = few && !p->transpose_b ? 16 : max_k;
    int64_t rows_at_once = mde__min(p->m, max_m);
    int64_t floats_a = mde__min(p->k, max_k) * mde__round_up(rows_at_once, tile_m);
    float *packed_a = workspace, *packed_b = workspace + floats_a;
    mde__tiles t;
    t.stride = p->ldo;
    t.step = p->row ? p->step : p->transpose_a ? p->lda : 1;
    for (i = 0; a_in_place && i < rows_at_once; i++) rows[i] = p->transpose_a ? i : i * p->lda;
    for (j = 0; j < p->n; j += step_n) {
        int64_t block_n = mde__min(p->n - j, step_n), whole = b_in_place ? block_n / tile_n * tile_n : 0;
        for (q = 0; q < p->k; q += step_k) {
            const float *from_b = p->transpose_b ? p->b + (j + whole) * p->ldb + q : p->b + q * p->ldb + j;
            t.k = mde__min(p->k - q, step_k);
            t.accumulate = p->accumulate || q > 0;
            if (whole < block_n) {
                mde__kernel_pack(simd)(p->transpose_b, tile_n, block_n - whole, t.k,
                                       p->transpose_b ? from_b : from_b + whole, p->ldb, packed_b);
            }
            for (i = 0; i < p->m; i += max_m) {
                t.m = mde__min(p->m - i, max_m);
                t.row = p->row ? p->row + i : a_in_place ? rows : NULL;
                t.a = p->row ? p->a + q * p->step
                    : p->transpose_a ? p->a + q * p->lda + i : p->a + i * p->lda + q;
                if (!a_in_place) {
                    mde__kernel_pack(simd)(!p->transpose_a, tile_m, t.m, t.k, t.a, p->lda, packed_a);
                    t.a = packed_a;
                }
                t.n = whole;
                t.b = from_b;
                t.b_panel = tile_n;
                t.b_stride = p->ldb;
                t.out = p->out + i * p->ldo + j;
                if (t.n > 0) mde__kernel_tiles(simd)(&t);
                t.n = block_n - whole;
                t.b = packed_b;
                t.b_panel = t.k * tile_n;
                t.b_stride = tile_n;
                t.out += whole;
                if (t.n > 0) mde__kernel_tiles(simd)(&t);
            }
        }
        if (p->k == 0 && !p->accumulate) {
            for (i = 0; i < p->m; i++) memset(p->out + i * p->ldo + j, 0, (size_t)block_n * sizeof *p->out);
        }
    }
}

/* Part `index` of a grid over the output. */
static void mde__gemm_cell(int64_t index, void *user)
{
    const mde__products *all = (const mde__products *)user;
    mde_product p = all->one;
    int64_t unit_m = mde__tile_rows(all->simd), unit_n = mde__tile_columns(all->simd);
    int64_t tiles_m = (p.m + unit_m - 1) / unit_m, tiles_n = (p.n + unit_n - 1) / unit_n;
    int64_t i = index / all->parts_n, j = index % all->parts_n;
    int64_t row = tiles_m * i / all->parts_m * unit_m, column = tiles_n * j / all->parts_n * unit_n;
    p.m = mde__min(tiles_m * (i + 1) / all->parts_m * unit_m, p.m) - row;
    p.n = mde__min(tiles_n * (j + 1) / all->parts_n * unit_n, p.n) - column;
    p.a += p.transpose_a ? row : row * p.lda;
    p.b += p.transpose_b ? column * p.ldb : column;
    p.out += row * p.ldo + column;
    if (p.m > 0 && p.n > 0) mde__gemm_block(all->simd, &p, all->workspace + (size_t)index * all->part_floats);
}

/* Part `index` of the batch. */
static void mde__gemm_share(int64_t index, void *user)
{
    const mde__products *all = (const mde__products *)user;
    int64_t i;
    for (i = all->batch * index / all->parts; i < all->batch * (index + 1) / all->parts; i++) {
        mde_product p = all->one;
        p.a += i * all->stride_a;
        p.b += i * all->stride_b;
        p.out += i * all->stride_out;
        mde__gemm_block(all->simd, &p, all->workspace + (size_t)index * all->part_floats);
    }
}

/* Floats of workspace for mde__gemm_threaded and mde__gemm_batch of these sizes; at most 2.3 MB a thread. */
static size_t mde__gemm_workspace(mde_context *c, int64_t m, int64_t n, int64_t k)
{
    return (size_t)c->threads * mde__gemm_part_floats(c->simd, m, n, k);
}

/* `batch` products whose operands lie stride floats apart, 0 for a shared one; with stride_out 0 and accumulate, all
   are added up in order. */
static void mde__gemm_batch(mde_context *c, const mde_product *first, int64_t batch, int64_t stride_a, int64_t stride_b,
                            int64_t stride_out, float *workspace)
{
    mde__products all;
    int64_t i, best = INT64_MAX, m = first->m, n = first->n;
    double work = (double)m * (double)n * (double)first->k;
    if (m <= 0 || n <= 0 || batch <= 0) return;
    all.one = *first;
    all.simd = c->simd;
    all.batch = batch;
    all.stride_a = stride_a;
    all.stride_b = stride_b;
    all.stride_out = stride_out;
    all.workspace = workspace;
    all.part_floats = mde__gemm_part_floats(c->simd, m, n, first->k);
    all.parts = work * (double)batch < MDE__GEMM_THREADED ? 1 : c->threads;
    if (all.parts > 1 && batch >= 2 * all.parts && stride_out != 0) {
        mde_parallel_for(c, all.parts, mde__gemm_share, &all);
        return;
    }
    if (work < MDE__GEMM_THREADED) all.parts = 1;
    /* The grid whose cells have the least to pack for what they compute. */
    all.parts_m = 1;
    for (i = 1; i <= all.parts; i++) {
        int64_t border;
        if (all.parts % i) continue;
        border = m / i + n / (all.parts / i);
        if (i > 1 && m / i < mde__tile_rows(c->simd)) border += INT32_MAX;
        if (border < best) {
            best = border;
            all.parts_m = i;
        }
    }
    all.parts_n = all.parts / all.parts_m;
    for (i = 0; i < batch; i++) {
        mde_parallel_for(c, all.parts, mde__gemm_cell, &all);
        all.one.a += stride_a;
        all.one.b += stride_b;
        all.one.out += stride_out;
    }
}

/* With all threads of the context. */
MDE__UNUSED
static void mde__gemm_threaded(mde_context *c, const mde_product *p, float *workspace)
{
    mde__gemm_batch(c, p, 1, 0, 0, 0, workspace);
}

MDEDEF mde_product mde_product_of(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
                                  const float *b)
{
    mde_product p;
    memset(&p, 0, sizeof p);
    p.m = m;
    p.n = n;
    p.k = k;
    p.transpose_a = transpose_a;
    p.transpose_b = transpose_b;
    p.a = a;
    p.b = b;
    p.lda = transpose_a ? m : k;
    p.ldb = transpose_b ? k : n;
    p.ldo = n;
    p.step = 1;
    return p;
}

MDEDEF size_t mde_gemm_floats(mde_context *c, int64_t m, int64_t n, int64_t k)
{
    return !c || m <= 0 || n <= 0 ? 0 : mde__gemm_part_floats(c->simd, m, n, k);
}

MDEDEF void mde_gemm(mde_context *c, const mde_product *product, float *workspace)
{
    if (c && product->m > 0 && product->n > 0) mde__gemm_block(c->simd, product, workspace);
}

/* out [n] (+)= x [k] W [k, n]: mde__gemm_threaded of one row, faster. */
static void mde__row_product(mde_context *c, int64_t n, int64_t k, const float *x, const float *w, int accumulate,
                             float *out)
{
    mde__job job = mde__new_job(x, w, out);
    job.rows = k;
    job.cols = n;
    if (!accumulate) memset(out, 0, (size_t)n * sizeof *out);
    mde__run(c, mde__kernel_row_product(c->simd), &job, n, k * n < MDE__GEMM_THREADED ? n : 256);
}

/* ---- Attention ---- */

/* Blocks of keys stand at fixed places, and every query goes through them in order with a running maximum (Milakov and
   Gimelshein 2018; Dao et al. 2022), so an output does not depend on which other queries are computed with it. */
#define MDE__KEYS 64
#define MDE__QUERIES 96                 /* of one job; a multiple of every tile's rows */
#define MDE__GRADIENT_QUERIES 48        /* of one block of the backward pass; the same */

/* q, out [batch, time_q, heads, dim]; k, v [batch, time_k, kv_heads, dim]; head h uses kv head h / (heads / kv_heads).
   causal: query t sees keys 0 .. t + time_k - time_q; time_k >= time_q. The strides are the floats from one time to the
   next of q, and of k and v; gradients lie as their tensors do. 0: nothing lies between. */
typedef struct mde__attention_shape {
    int64_t batch, time_q, time_k, heads, kv_heads, dim;
    int causal;
    int64_t stride_q, stride_k;
} mde__attention_shape;

/* An attention to compute: q, k, v to out and, unless it is NULL, logsumexp [batch, heads, time_q]; on the way back,
   from those and g, the gradient of out, to dq, dk, dv. Each of `slots` threads takes every slots-th job. */
typedef struct mde__attention_call mde__attention_call;
struct mde__attention_call {
    mde__attention_shape s;
    const float *q, *k, *v, *g;
    float *out, *logsumexp, *dq, *dk, *dv, *scratch;
    float scale;
    int simd;
    int64_t slots, jobs;
    size_t slot_floats;
    void (*job)(const mde__attention_call *a, int64_t job, float *scratch);
};

/* A product of packed panels, B's of `depth` rows. */
static mde__tiles mde__panels(int simd, int64_t m, int64_t n, int64_t k, const float *a, const float *b, int64_t depth)
{
    mde__tiles t;
    memset(&t, 0, sizeof t);
    t.m = m;
    t.n = n;
    t.k = k;
    t.a = a;
    t.b = b;
    t.b_stride = mde__tile_columns(simd);
    t.b_panel = depth * t.b_stride;
    return t;
}

static void mde__multiply_panels(int simd, mde__tiles t, int accumulate, float *out, int64_t stride)
{
    t.accumulate = accumulate;
    t.out = out;
    t.stride = stride;
    mde__kernel_tiles(simd)(&t);
}

static int64_t mde__stride_q(const mde__attention_shape *s)
{
    return s->stride_q ? s->stride_q : s->heads * s->dim;
}

static int64_t mde__stride_k(const mde__attention_shape *s)
{
    return s->stride_k ? s->stride_k : s->kv_heads * s->dim;
}

/* So many for each thread; more than there can be where a size_t does not hold it. */
static size_t mde__for_threads(const mde_context *c, int64_t count)
{
    return (uint64_t)count > SIZE_MAX / 256 ? SIZE_MAX : (size_t)c->threads * (size_t)count;
}

static int64_t mde__attention_slot(mde_context *c, const mde__attention_shape *s)
{
    int64_t group = s->heads / s->kv_heads, dim = mde__round_up(s->dim, mde__tile_columns(c->simd));
    int64_t queries = mde__round_up(mde__min(s->time_q, MDE__QUERIES), mde__tile_rows(c->simd));
    return 2 * MDE__KEYS * dim + group * queries * (s->dim + 2) + 2 * MDE__QUERIES * MDE__KEYS + 8 * MDE__LANES;
}

/* Floats of scratch. */
static size_t mde__attention_scratch(mde_context *c, const mde__attention_shape *s)
{
    return mde__for_threads(c, mde__attention_slot(c, s));
}

/* One kv head, one block of queries of all heads that share it. */
static void mde__attention_job(const mde__attention_call *a, int64_t job, float *scratch)
{
    int simd = a->simd;
    const mde__attention_shape *s = &a->s;
    int64_t group = s->heads / s->kv_heads, pairs = s->batch * s->kv_heads, blocks = a->jobs / pairs;
    int64_t pair = job % pairs, first = (blocks - 1 - job / pairs) * MDE__QUERIES;
    int64_t batch = pair / s->kv_heads, kv_head = pair % s->kv_heads;
    int64_t tile_m = mde__tile_rows(simd), tile_n = mde__tile_columns(simd);
    int64_t queries = mde__min(s->time_q - first, MDE__QUERIES), packed = mde__round_up(queries, tile_m);
    int64_t stride_q = mde__stride_q(s), stride_k = mde__stride_k(s), stride = s->heads * s->dim;
    int64_t hidden = s->time_k - s->time_q;
    int64_t keys = s->causal ? mde__min(s->time_k, first + queries + hidden) : s->time_k;
    int64_t padded = mde__round_up(s->dim, tile_n), block, h, r, row;
    const float *q = a->q + (batch * s->time_q + first) * stride_q + kv_head * group * s->dim;
    const float *k = a->k + batch * s->time_k * stride_k + kv_head * s->dim;
    const float *v = a->v + batch * s->time_k * stride_k + kv_head * s->dim;
    float *to = a->out + (batch * s->time_q + first) * stride + kv_head * group * s->dim;
    float *packed_k = scratch, *packed_v = packed_k + MDE__KEYS * padded + MDE__LANES;
    float *packed_q = packed_v + MDE__KEYS * padded + MDE__LANES;
    float *largest = packed_q + group * packed * s->dim + MDE__LANES, *sum = largest + group * packed;
    float *scores = sum + group * packed, *weights = scores + MDE__QUERIES * MDE__KEYS;
    mde__job softmax = mde__new_job(NULL, NULL, scores), axpy = softmax;
    softmax.scale = a->scale;
    softmax.stride = MDE__KEYS;
    softmax.out_stride = stride;
    softmax.dim = s->dim;
    for (h = 0; h < group; h++) {
        mde__kernel_pack(simd)(1, tile_m, queries, s->dim, q + h * s->dim, stride_q, packed_q + h * packed * s->dim);
        for (r = 0; r < queries; r++) {
            largest[h * packed + r] = -(float)INFINITY;
            sum[h * packed + r] = 0;
            memset(to + h * s->dim + r * stride, 0, (size_t)s->dim * sizeof *to);
        }
    }
    for (block = 0; block < keys; block += MDE__KEYS) {
        int64_t n = mde__min(keys - block, MDE__KEYS);
        mde__kernel_pack(simd)(1, tile_n, n, s->dim, k + block * stride_k, stride_k, packed_k);
        mde__kernel_pack(simd)(0, tile_n, s->dim, n, v + block * stride_k, stride_k, packed_v);
        for (h = 0; h < group; h++) {
            float *out = to + h * s->dim;
            /* Query r of this block of queries sees `visible` + r of these keys. */
            int64_t visible = s->causal ? first + hidden + 1 - block : n;
            int64_t start = visible < 1 ? (1 - visible) / tile_m * tile_m : 0;
            softmax.visible = visible;
            softmax.out[1] = largest + h * packed;
            softmax.out[2] = sum + h * packed;
            softmax.out[3] = out;
            for (row = start; row < queries; row += tile_m) {
                int64_t rows = mde__min(queries - row, tile_m), key;
                int64_t all = s->causal ? mde__min(n, visible + row + rows - 1) : n;    /* what the last row sees */
                int64_t common = s->causal ? mde__min(n, visible + row) : n;            /* what all rows see */
                softmax.cols = all;
                mde__multiply_panels(simd, mde__panels(simd, rows, all, s->dim, packed_q + (h * packed + row) * s->dim,
                                                       packed_k, s->dim), 0, scores + row * MDE__KEYS, MDE__KEYS);
                mde__kernel_attention_weights(simd)(&softmax, row, row + rows);
                /* The common keys go through the matrix product, the few beyond row by row: a chain never runs over
                   a key that its query does not see. */
                if (common > 0) {
                    mde__kernel_pack(simd)(1, tile_m, rows, common, scores + row * MDE__KEYS, MDE__KEYS, weights);
                    mde__multiply_panels(simd, mde__panels(simd, rows, s->dim, common, weights, packed_v, n), 1,
                                         out + row * stride, stride);
                }
                for (r = row; r < row + rows && common < all; r++) {
                    axpy.out[0] = out + r * stride;
                    for (key = common > 0 ? common : 0; key < mde__min(all, visible + r); key++) {
                        axpy.in[0] = v + (block + key) * stride_k;
                        axpy.scale = scores[r * MDE__KEYS + key];
                        mde__kernel_axpy(simd)(&axpy, 0, s->dim);
                    }
                }
            }
        }
    }
    for (h = 0; h < group; h++) {
        softmax.out[0] = a->logsumexp ? a->logsumexp + (batch * s->heads + kv_head * group + h) * s->time_q + first
                                      : NULL;
        softmax.out[1] = largest + h * packed;
        softmax.out[2] = sum + h * packed;
        softmax.out[3] = to + h * s->dim;
        mde__kernel_attention_end(simd)(&softmax, 0, queries);
    }
}

static void mde__attention_slot_run(int64_t index, void *user)
{
    const mde__attention_call *a = (const mde__attention_call *)user;
    int64_t job;
    for (job = index; job < a->jobs; job += a->slots) a->job(a, job, a->scratch + (size_t)index * a->slot_floats);
}

/* On as many threads as are worth starting. */
static void mde__attention_run(mde_context *c, mde__attention_call *a)
{
    const mde__attention_shape *s = &a->s;
    double products = (double)(s->batch * s->heads) * (double)(s->time_q * s->time_k) * (double)s->dim;
    a->simd = c->simd;
    a->slots = products < MDE__GEMM_THREADED ? 1 : c->threads;
    mde_parallel_for(c, mde__min(a->slots, a->jobs), mde__attention_slot_run, a);
}

static void mde__attend(mde_context *c, mde__attention_call *a)
{
    a->slot_floats = (size_t)mde__attention_slot(c, &a->s);
    a->jobs = a->s.batch * a->s.kv_heads * ((a->s.time_q + MDE__QUERIES - 1) / MDE__QUERIES);
    a->job = mde__attention_job;
    mde__attention_run(c, a);
}

static int64_t mde__attention_vjp_slot(mde_context *c, const mde__attention_shape *s)
{
    int64_t dim = mde__round_up(s->dim, mde__tile_columns(c->simd)), group = s->heads / s->kv_heads;
    return 3 * MDE__KEYS * dim + 2 * MDE__GRADIENT_QUERIES * (dim + s->dim) + 2 * MDE__GRADIENT_QUERIES * MDE__KEYS +
           2 * MDE__GRADIENT_QUERIES * (MDE__KEYS + 2 * MDE__LANES) + group * s->time_q + 16 * MDE__LANES;
}

static size_t mde__attention_vjp_scratch(mde_context *c, const mde__attention_shape *s)
{
    return mde__for_threads(c, mde__attention_vjp_slot(c, s));
}

/* One kv head with all heads that share it, block of keys by block of keys, each with all queries that see it. */
static void mde__attention_vjp_job(const mde__attention_call *a, int64_t job, float *scratch)
{
    int simd = a->simd;
    const mde__attention_shape *s = &a->s;
    int64_t group = s->heads / s->kv_heads, batch = job / s->kv_heads, kv_head = job % s->kv_heads, dim = s->dim;
    int64_t stride_q = mde__stride_q(s), stride_k = mde__stride_k(s), stride = s->heads * dim;
    int64_t hidden = s->time_k - s->time_q;
    int64_t tile_m = mde__tile_rows(simd), tile_n = mde__tile_columns(simd), wide = mde__round_up(dim, tile_n);
    int64_t at_q = batch * s->time_q * stride_q + kv_head * group * dim;
    int64_t at_k = batch * s->time_k * stride_k + kv_head * dim, block, h, r, i;
    int64_t at_out = batch * s->time_q * stride + kv_head * group * dim;
    float *key_columns = scratch, *value_columns = key_columns + MDE__KEYS * wide + MDE__LANES;
    float *key_rows = value_columns + MDE__KEYS * wide + MDE__LANES;
    float *query_a = key_rows + MDE__KEYS * wide + MDE__LANES;
    float *g_a = query_a + MDE__GRADIENT_QUERIES * dim + MDE__LANES;
    float *query_b = g_a + MDE__GRADIENT_QUERIES * dim + MDE__LANES;
    float *g_b = query_b + MDE__GRADIENT_QUERIES * wide + MDE__LANES;
    float *scores = g_b + MDE__GRADIENT_QUERIES * wide + MDE__LANES;
    float *gradients = scores + MDE__GRADIENT_QUERIES * MDE__KEYS;
    float *packed = gradients + MDE__GRADIENT_QUERIES * MDE__KEYS;
    float *d = packed + 2 * MDE__GRADIENT_QUERIES * (MDE__KEYS + 2 * MDE__LANES);
    mde__job softmax = mde__new_job(NULL, NULL, scores), dot = softmax;
    double sum;
    dot.partial = &sum;
    dot.chunk = dim;
    softmax.out[1] = gradients;
    softmax.scale = a->scale;
    softmax.stride = MDE__KEYS;
    for (h = 0; h < group; h++) {
        for (r = 0; r < s->time_q; r++) {
            int64_t at = at_out + r * stride + h * dim;
            dot.in[0] = a->g + at;
            dot.in[1] = a->out + at;
            mde__kernel_dot(simd)(&dot, 0, dim);
            d[h * s->time_q + r] = (float)sum;
            memset(a->dq + at_q + r * stride_q + h * dim, 0, (size_t)dim * sizeof *a->dq);
        }
    }
    for (block = 0; block < s->time_k; block += MDE__KEYS) {
        int64_t n = mde__min(s->time_k - block, MDE__KEYS), at_block = at_k + block * stride_k;
        int64_t unseen = s->causal && block > hidden ? block - hidden : 0;   /* queries before the first that sees it */
        mde__kernel_pack(simd)(1, tile_n, n, dim, a->k + at_block, stride_k, key_columns);
        mde__kernel_pack(simd)(1, tile_n, n, dim, a->v + at_block, stride_k, value_columns);
        mde__kernel_pack(simd)(0, tile_n, dim, n, a->k + at_block, stride_k, key_rows);
        for (i = 0; i < n; i++) {
            memset(a->dk + at_block + i * stride_k, 0, (size_t)dim * sizeof *a->dk);
            memset(a->dv + at_block + i * stride_k, 0, (size_t)dim * sizeof *a->dv);
        }
        for (h = 0; h < group; h++) {
            r = unseen / MDE__GRADIENT_QUERIES * MDE__GRADIENT_QUERIES;
            for (; r < s->time_q; r += MDE__GRADIENT_QUERIES) {
                int64_t m = mde__min(s->time_q - r, MDE__GRADIENT_QUERIES), at = at_q + r * stride_q + h * dim;
                const float *g = a->g + at_out + r * stride + h * dim;
                mde__kernel_pack(simd)(1, tile_m, m, dim, a->q + at, stride_q, query_a);
                mde__kernel_pack(simd)(1, tile_m, m, dim, g, stride, g_a);
                mde__kernel_pack(simd)(0, tile_n, dim, m, a->q + at, stride_q, query_b);
                mde__kernel_pack(simd)(0, tile_n, dim, m, g, stride, g_b);
                /* scores = q k', gradient of the weights = g v' */
                mde__multiply_panels(simd, mde__panels(simd, m, n, dim, query_a, key_columns, dim), 0, scores,
                                     MDE__KEYS);
                mde__multiply_panels(simd, mde__panels(simd, m, n, dim, g_a, value_columns, dim), 0, gradients,
                                     MDE__KEYS);
                softmax.in[0] = a->logsumexp + (batch * s->heads + kv_head * group + h) * s->time_q + r;
                softmax.in[1] = d + h * s->time_q + r;
                softmax.cols = n;
                softmax.visible = s->causal ? r + hidden + 1 - block : n;
                mde__kernel_attention_gradients(simd)(&softmax, 0, m);
                /* dv += weights' g, dk += gradients' q, dq += gradients k */
                mde__kernel_pack(simd)(0, tile_m, n, m, scores, MDE__KEYS, packed);
                mde__multiply_panels(simd, mde__panels(simd, n, dim, m, packed, g_b, m), 1, a->dv + at_block, stride_k);
                mde__kernel_pack(simd)(0, tile_m, n, m, gradients, MDE__KEYS, packed);
                mde__multiply_panels(simd, mde__panels(simd, n, dim, m, packed, query_b, m), 1, a->dk + at_block,
                                     stride_k);
                mde__kernel_pack(simd)(1, tile_m, m, n, gradients, MDE__KEYS, packed);
                mde__multiply_panels(simd, mde__panels(simd, m, dim, n, packed, key_rows, n), 1, a->dq + at, stride_q);
            }
        }
    }
}

static void mde__attention_vjp(mde_context *c, mde__attention_call *a)
{
    a->slot_floats = (size_t)mde__attention_vjp_slot(c, &a->s);
    a->jobs = a->s.batch * a->s.kv_heads;
    a->job = mde__attention_vjp_job;
    mde__attention_run(c, a);
}

/* ---- Mixtures of experts' probabilities ---- */

/* Fills the partial sums, job->terms a block of tokens, in scratch; returns the number of blocks, -1 without memory. */
static int64_t mde__mixture_partials(mde_context *c, mde__kernel_fn *kernel, mde__job *job, int64_t tokens,
                                     int64_t block)
{
    int64_t blocks = (tokens + block - 1) / block;
    job->partial = (double *)mde_scratch(c, (size_t)(blocks * job->terms + 1), sizeof *job->partial);
    if (!job->partial) return -1;
    mde__run(c, kernel, job, tokens, block);
    return blocks;
}

/* The sum over tokens of count log s, s = sum of w_i r_i over at most 64 experts, and where they are not NULL the
   gradient [experts] = sum of count r_i / s and the Hessian [experts, experts] = sum of count r_i r_j / s^2, of which
   mde__mixture_add fills the lower half. */
typedef struct mde__mixture_sums {
    int experts;
    const double *weights;
    double sum, *gradient, *hessian;
} mde__mixture_sums;

/* Adds what `tokens` tokens give; expert i's row starts at r + i stride, count may be NULL (1 each). Blocks are added
   in their order: a text may come in parts of whole blocks. Returns 0, and an error, when there is no memory. */
static int mde__mixture_add(mde_context *c, mde__mixture_sums *m, int64_t tokens, const float *r, int64_t stride,
                            const float *count)
{
    int experts = m->experts;
    int64_t terms = 1 + (m->hessian ? (int64_t)experts * (experts + 1) : m->gradient ? experts : 0);
    int64_t blocks, block, i, k;
    mde_mark mark = mde_arena_mark(c);
    mde__job job = mde__new_job(r, count, NULL);
    job.order = m->hessian ? 2 : m->gradient ? 1 : 0;
    job.weights = m->weights;
    job.experts = experts;
    job.stride = stride;
    job.terms = terms;
    blocks = mde__mixture_partials(c, mde__kernel_mixture(c->simd), &job, tokens, MDE__MIXTURE_BLOCK);
    for (block = 0; block < blocks; block++) {
        const double *partial = job.partial + block * terms;
        m->sum += partial[0];
        for (i = 0; m->gradient && i < experts; i++) m->gradient[i] += partial[1 + i];
        for (i = 0; m->hessian && i < experts; i++) {
            for (k = 0; k <= i; k++) m->hessian[i * experts + k] += partial[1 + experts + i * experts + k];
        }
    }
    mde_arena_rewind(c, mark);
    return blocks >= 0;
}

static void mde__mixture_clear(mde__mixture_sums *m)
{
    m->sum = 0;
    if (m->gradient) memset(m->gradient, 0, (size_t)m->experts * sizeof(double));
    if (m->hessian) memset(m->hessian, 0, (size_t)m->experts * (size_t)m->experts * sizeof(double));
}

/* The sums over tokens of log s, s <= 1, of many mixtures, weights [mixtures, experts], to sums [mixtures], six times
   as fast as one by one in double and within 1e-8 a token of it: sums and products of probabilities are in float32,
   whose roundings average out over the tokens. Those of the weights do not: d log s = sum of dw_e r_e / s, so that a
   sample of the tokens is enough to undo them. */
typedef struct mde__mixtures {
    int experts;
    int64_t mixtures, tokens;       /* of all parts */
    const double *weights;
    double *sums;
    int64_t seen, sampled;          /* tokens so far; of the sample, those at i tokens / sampled */
    float *sample, *rounded;        /* [experts, sampled]; weights of some mixtures in float32 */
} mde__mixtures;

/* Takes scratch. */
static int mde__mixtures_start(mde_context *c, mde__mixtures *m)
{
    int64_t i;
    m->seen = 0;
    m->sampled = mde__min(m->tokens, MDE__MIXTURES_SAMPLE);
    m->sample = (float *)mde_scratch(c, (size_t)(m->sampled * m->experts), sizeof *m->sample);
    m->rounded = (float *)mde_scratch(c, (size_t)MDE__MIXTURES * (size_t)m->experts, sizeof *m->rounded);
    for (i = 0; i < m->mixtures; i++) m->sums[i] = 0;
    return !mde__bad(c);
}

/* Adds a part, of whole blocks but for the last. Returns 0, and an error, when there is no memory. */
static int mde__mixtures_add(mde_context *c, mde__mixtures *m, int64_t tokens, const float *r, int64_t stride)
{
    int64_t first, block, i, t, experts = m->experts;
    int e;
    for (i = 0; i < m->sampled; i++) {
        t = i * m->tokens / m->sampled - m->seen;
        if (t < 0 || t >= tokens) continue;
        for (e = 0; e < experts; e++) m->sample[e * m->sampled + i] = r[e * stride + t];
    }
    for (first = 0; first < m->mixtures; first += MDE__MIXTURES) {
        int64_t here = mde__min(m->mixtures - first, MDE__MIXTURES), blocks;
        mde_mark mark = mde_arena_mark(c);
        mde__job job = mde__new_job(r, m->rounded, NULL);
        memset(m->rounded, 0, (size_t)MDE__MIXTURES * (size_t)experts * sizeof *m->rounded);
        for (i = 0; i < here; i++) {
            for (e = 0; e < experts; e++) {
                m->rounded[(i / 4 * experts + e) * 4 + i % 4] = (float)m->weights[(first + i) * experts + e];
            }
        }
        job.rows = job.terms = here;
        job.experts = experts;
        job.stride = stride;
        blocks = mde__mixture_partials(c, mde__kernel_mixtures(c->simd), &job, tokens, MDE__MIXTURES_BLOCK);
        for (block = 0; block < blocks; block++) {
            for (i = 0; i < here; i++) m->sums[first + i] += job.partial[block * here + i];
        }
        mde_arena_rewind(c, mark);
        if (blocks < 0) return 0;
    }
    m->seen += tokens;
    return 1;
}

/* Undoes the rounding of the weights. */
static void mde__mixtures_end(mde_context *c, mde__mixtures *m)
{
    double gradient[MDE__MIXTURE_EXPERTS];
    int64_t i;
    int e;
    for (i = 0; i < m->mixtures; i++) {
        mde__mixture_sums one = { m->experts, m->weights + i * m->experts, 0, gradient, NULL };
        double change = 0;
        mde__mixture_clear(&one);
        if (!mde__mixture_add(c, &one, m->sampled, m->sample, m->sampled, NULL)) return;
        for (e = 0; e < m->experts; e++) {
            change += (one.weights[e] - (double)(float)one.weights[e]) * gradient[e];
        }
        change *= (double)m->tokens / (double)m->sampled;
        if (fabs(change) < 1e-6 * (double)m->tokens) m->sums[i] += change;
    }
}

/* ======================================================================
   8. TENSORS, TAPE AND OPS
   ====================================================================== */

/* Calling an op runs its kernel at once and, where a gradient may be wanted, appends a node to the tape; going back
   over the tape gives derivatives. One op is one row: its shape check, its kernel, and its vector-Jacobian product
   (VJP) made of ops, so that running VJPs with the tape on gives second derivatives with no second engine. A fused VJP
   serves the first order only. */

/* ---- Tensors ---- */

/* Number of elements of a shape; 0 and an error when it is none. */
static size_t mde__shape_count(mde_context *c, const char *what, int rank, const int64_t *shape)
{
    size_t count = 1;
    if (rank < 1 || rank > MDE_MAX_RANK) {
        mde_fail(c, MDE_BAD_SHAPE, "%s: rank is %d; expected 1 to %d", what, rank, MDE_MAX_RANK);
        return 0;
    }
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 1 || (uint64_t)shape[i] > SIZE_MAX || !mde__mul_size(count, (size_t)shape[i], &count) ||
            count > SIZE_MAX / 16) {
            mde_fail(c, MDE_BAD_SHAPE,
                     "%s: dimension %d is %lld; expected 1 or more, and a product that can be addressed", what, i,
                     (long long)shape[i]);
            return 0;
        }
    }
    return count;
}

/* A tensor over memory that somebody else owns. */
static mde_tensor *mde__tensor_view(mde_context *c, int rank, const int64_t *shape, float *data)
{
    size_t count = mde__bad(c) ? 0 : mde__shape_count(c, "tensor", rank, shape);
    mde_tensor *t = count ? (mde_tensor *)mde_scratch(c, 1, sizeof *t) : NULL;
    if (!t) return NULL;
    memset(t, 0, sizeof *t);
    t->rank = rank;
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->count = count;
    t->data = data;
    t->context = c;
    return t;
}

static mde_tensor *mde__tensor_new(mde_context *c, int rank, const int64_t *shape)
{
    mde_tensor *t = mde__tensor_view(c, rank, shape, NULL);
    if (!t) return NULL;
    t->data = (float *)mde_scratch(c, t->count, sizeof *t->data);
    return t->data ? t : NULL;
}

MDEDEF mde_tensor *mde_tensor_create(mde_context *c, int rank, const int64_t *shape)
{
    mde_tensor *t = mde__tensor_new(c, rank, shape);
    if (t) memset(t->data, 0, t->count * sizeof *t->data);
    return t;
}

MDEDEF mde_tensor *mde_tensor_from(mde_context *c, int rank, const int64_t *shape, const float *data)
{
    mde_tensor *t = data ? mde__tensor_new(c, rank, shape) : NULL;
    if (!data) mde_fail(c, MDE_BAD_ARGUMENT, "tensor: no data were given");
    if (t) memcpy(t->data, data, t->count * sizeof *data);
    return t;
}

static mde_tensor *mde__tensor_filled(mde_context *c, int rank, const int64_t *shape, float value)
{
    mde_tensor *t = mde__tensor_new(c, rank, shape);
    for (size_t i = 0; t && i < t->count; i++) t->data[i] = value;
    return t;
}

static const int64_t mde__scalar_shape[1] = { 1 };

MDEDEF mde_tensor *mde_scalar(mde_context *c, double value)
{
    return mde__tensor_filled(c, 1, mde__scalar_shape, (float)value);
}

MDEDEF double mde_item(const mde_tensor *t)
{
    return t && t->count == 1 ? (double)t->data[0] : (double)NAN;
}

MDEDEF int32_t mde_argmax(const mde_tensor *t, int64_t row)
{
    int64_t n = t ? t->shape[t->rank - 1] : 0, best = 0, i;
    const float *x = t ? t->data + row * n : NULL;
    for (i = 1; i < n && x[best] == x[best]; i++) {
        if (!(x[i] <= x[best])) best = i;
    }
    return (int32_t)best;
}

MDEDEF mde_tensor *mde_detach(mde_context *c, mde_tensor *x)
{
    if (!x) mde_fail(c, MDE_BAD_ARGUMENT, "detach: x is NULL");
    return x ? mde__tensor_view(c, x->rank, x->shape, x->data) : NULL;
}

static int mde__same_shape(const mde_tensor *a, const mde_tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

static int mde__take_shape(mde_tensor *out, const mde_tensor *like)
{
    out->rank = like->rank;
    memcpy(out->shape, like->shape, sizeof out->shape);
    return 1;
}

/* "[32,64]" for messages. */
static const char *mde__shape_text(const mde_tensor *t, char buffer[128])
{
    return mde__print_shape(buffer, ",", t->rank, t->shape);
}

/* ---- Tape ---- */

MDEDEF int mde_set_recording(mde_context *c, int on)
{
    int old = c ? c->recording : 0;
    if (c) c->recording = on;
    return old;
}

static void mde__record(mde_context *c, mde_node *node)
{
    mde_node **tape = (mde_node **)mde__room(c, (void *)c->tape, (size_t)c->tape_count + 1, sizeof *tape);
    if (!tape) return;
    c->tape = tape;
    node->index = c->tape_count;
    c->tape[c->tape_count++] = node;
    node->out->node = node;
    node->out->requires_grad = 1;
}

static int mde__is_foreign(const mde_context *c, const mde_tensor *t)
{
    return t->context && t->context != c;
}

MDEDEF mde_tensor *mde_apply(mde_context *c, const mde_op *op, mde_tensor *const *in, const mde_args *args)
{
    mde_node *node;
    int wanted = 0;
    if (mde__bad(c)) return NULL;
    if (op->inputs < 0 || op->inputs > MDE_MAX_INPUTS) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: the op has %d inputs; expected at most %d", op->name, op->inputs,
                 MDE_MAX_INPUTS);
        return NULL;
    }
    for (int i = 0; i < op->inputs; i++) {
        if (!in[i]) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: input %d is NULL", op->name, i);
            return NULL;
        }
        if (mde__is_foreign(c, in[i])) {
            mde_fail(c, MDE_BAD_ARGUMENT, "%s: input %d belongs to another context", op->name, i);
            return NULL;
        }
        wanted |= in[i]->requires_grad;
    }
    node = (mde_node *)mde_scratch(c, 1, sizeof *node);
    if (!node) return NULL;
    memset(node, 0, sizeof *node);
    node->op = op;
    if (args) node->args = *args;
    for (int i = 0; i < op->inputs; i++) node->in[i] = in[i];
    node->out = (mde_tensor *)mde_scratch(c, 1, sizeof *node->out);
    if (!node->out) return NULL;
    memset(node->out, 0, sizeof *node->out);
    node->out->context = c;
    if (!op->shape(c, node->in, &node->args, node->out)) {
        mde_fail(c, MDE_BAD_SHAPE, "%s: the inputs do not fit the op", op->name);
        return NULL;
    }
    node->out->count = mde__shape_count(c, op->name, node->out->rank, node->out->shape);
    if (!node->out->count) return NULL;
    /* A shape function that sets the data shares them with an input. */
    if (!node->out->data) {
        node->out->data = (float *)mde_scratch(c, node->out->count, sizeof *node->out->data);
        if (!node->out->data) return NULL;
        op->forward(c, node);
    }
    if (wanted && c->recording && !mde__bad(c)) mde__record(c, node);
    return mde__bad(c) ? NULL : node->out;
}

/* ---- Backward ---- */

static int mde__is_parameter(const mde_tensor *t)
{
    return !t->node && t->requires_grad && t->grad;
}

/* Whether the walk has to bring a gradient to t: x lists the goals; without a list every parameter is one. */
static int mde__is_goal(const mde_tensor *t, int n, mde_tensor *const *x)
{
    if (!x) return mde__is_parameter(t);
    for (int i = 0; i < n; i++) if (x[i] == t) return 1;
    return 0;
}

/* For each node up to y's, one bit an input: set where a goal lies behind that input. */
static unsigned char *mde__mark_paths(mde_context *c, int64_t last, int n, mde_tensor *const *x)
{
    unsigned char *want = (unsigned char *)mde_scratch(c, (size_t)last + 1, 1);
    for (int64_t i = 0; want && i <= last; i++) {
        const mde_node *node = c->tape[i];
        want[i] = 0;
        for (int k = 0; k < node->op->inputs; k++) {
            const mde_tensor *in = node->in[k];
            if (mde__is_goal(in, n, x) || (in->node && want[in->node->index])) want[i] |= (unsigned char)(1 << k);
        }
    }
    return want;
}

/* For fused VJPs: where to leave the gradient of input k, to be set or, if *adds, to be added to. A sink that is taken
   must be filled and given back as din[k]. */
static mde_tensor *mde__sink(mde_context *c, const mde_node *node, int k, int *adds)
{
    mde_tensor *to = c->sink[k] ? c->sink[k] : mde__tensor_new(c, node->in[k]->rank, node->in[k]->shape);
    *adds = c->sink[k] && c->sink_adds[k];
    return to;
}

/* The same for what is always added to. */
static mde_tensor *mde__sink_of_sums(mde_context *c, const mde_node *node, int k)
{
    int adds;
    mde_tensor *to = mde__sink(c, node, k, &adds);
    if (to && !adds) memset(to->data, 0, to->count * sizeof *to->data);
    return to;
}

/* And for what is always set. */
static mde_tensor *mde__sink_to_set(mde_context *c, const mde_node *node, int k)
{
    if (c->sink[k] && !c->sink_adds[k]) return c->sink[k];
    return mde__tensor_new(c, node->in[k]->rank, node->in[k]->shape);
}

/* The gradients with respect to the wanted inputs; the others stay NULL. */
static void mde__run_vjp(mde_context *c, const mde_node *node, unsigned want, int record, mde_tensor **din)
{
    mde_tensor *g = node->out->adjoint;
    char have[128], expected[128];
    memset(din, 0, MDE_MAX_INPUTS * sizeof *din);
    if (!node->op->vjp) {
        mde_fail(c, MDE_NOT_DIFFERENTIABLE, "%s: has no derivative", node->op->name);
        return;
    }
    if (!record && node->op->vjp_fast) node->op->vjp_fast(c, node, g, want, din);
    else node->op->vjp(c, node, g, want, din);
    memset((void *)c->sink, 0, sizeof c->sink);
    for (int k = 0; k < node->op->inputs && !mde__bad(c); k++) {
        if (!((want >> k) & 1)) din[k] = NULL;
        if (!din[k] || mde__same_shape(din[k], node->in[k])) continue;
        mde_fail(c, MDE_BAD_SHAPE, "%s: the gradient of input %d is %s; expected %s", node->op->name, k,
                 mde__shape_text(din[k], have), mde__shape_text(node->in[k], expected));
    }
}

/* With the tape on, gradients add up by ops, and all of them stay: they may be differentiated again. */
static void mde__visit_recorded(mde_context *c, const mde_node *node, unsigned want)
{
    mde_tensor *din[MDE_MAX_INPUTS];
    mde__run_vjp(c, node, want, 1, din);
    for (int k = 0; k < node->op->inputs && !mde__bad(c); k++) {
        mde_tensor *in = node->in[k];
        if (din[k]) in->adjoint = in->adjoint ? mde_add(c, in->adjoint, din[k]) : din[k];
    }
}

/* An adjoint for t: a spare one as large (they are chained by their field `adjoint`), or a new one. */
static mde_tensor *mde__take_adjoint(mde_context *c, mde_tensor **spare, const mde_tensor *t)
{
    mde_tensor *found;
    while (*spare && (*spare)->count != t->count) spare = &(*spare)->adjoint;
    found = *spare;
    if (!found) return mde__tensor_new(c, t->rank, t->shape);
    *spare = found->adjoint;
    found->adjoint = NULL;
    mde__take_shape(found, t);
    return found;
}

static void mde__spare_adjoint(mde_tensor **spare, mde_tensor *adjoint)
{
    if (!adjoint) return;
    adjoint->adjoint = *spare;
    *spare = adjoint;
}

/* Without the tape, each adjoint has a buffer of its own, and what the VJP made goes at once: a backward walk takes
   little more memory than the values that it goes back over. A fused VJP adds to the buffer itself. Without a list of
   goals, the gradients of parameters go where they belong; with one, `kept` says that the node's own is asked for. The
   gradient of a view needs no buffer: it goes through, and its buffer with it. */
static void mde__visit_once(mde_context *c, const mde_node *node, unsigned want, int parameters, int kept,
                            mde_tensor **spare)
{
    mde_tensor *din[MDE_MAX_INPUTS], *fresh[MDE_MAX_INPUTS], *to[MDE_MAX_INPUTS], *g = node->out->adjoint;
    mde_mark mark;
    int k, view = node->op->inputs == 1 && node->in[0]->data == node->out->data && !kept, stays = 0;
    for (k = 0; k < node->op->inputs; k++) {
        mde_tensor *in = node->in[k];
        fresh[k] = to[k] = NULL;
        if (!((want >> k) & 1)) continue;
        if (parameters && mde__is_parameter(in)) to[k] = mde__tensor_view(c, in->rank, in->shape, in->grad);
        else if (in->adjoint) to[k] = in->adjoint;
        else if (!view) fresh[k] = to[k] = mde__take_adjoint(c, spare, in);
        c->sink[k] = to[k];
        c->sink_adds[k] = !fresh[k];
    }
    if (mde__bad(c)) {
        memset((void *)c->sink, 0, sizeof c->sink);
        return;
    }
    mark = mde_arena_mark(c);
    mde__run_vjp(c, node, want, 0, din);
    for (k = 0; k < node->op->inputs && !mde__bad(c); k++) {
        mde_tensor *in = node->in[k];
        int there = din[k] && din[k] == to[k];
        if (!din[k] || (there && !fresh[k])) continue;
        if (in->adjoint || (to[k] && !fresh[k])) {
            mde_tensor *sum = in->adjoint ? in->adjoint : to[k];
            mde__vadd(c, (int64_t)in->count, sum->data, din[k]->data, sum->data);
        } else if (!there && din[k]->data == g->data && node->out->adjoint && !kept) {
            in->adjoint = g;
            mde__take_shape(g, in);
            node->out->adjoint = NULL;
        } else if (!fresh[k]) {
            in->adjoint = din[k];
            stays = 1;
        } else {
            if (!there) memcpy(fresh[k]->data, din[k]->data, in->count * sizeof(float));
            in->adjoint = fresh[k];
            fresh[k] = NULL;
        }
    }
    if (!stays) mde_arena_rewind(c, mark);
    for (k = 0; k < node->op->inputs; k++) mde__spare_adjoint(spare, fresh[k]);
}

/* Leaves d sum(y) / d t in t->adjoint of every goal. */
static int64_t mde__walk(mde_context *c, mde_tensor *y, int n, mde_tensor *const *x, int record)
{
    int64_t last = y->node ? y->node->index : -1;
    unsigned char *want = mde__mark_paths(c, last, n, x);
    int recording = mde_set_recording(c, record);
    mde_tensor *spare = NULL;
    y->adjoint = mde__tensor_filled(c, y->rank, y->shape, 1.0f);
    for (int64_t i = last; i >= 0 && want && !mde__bad(c); i--) {
        mde_node *node = c->tape[i];
        if (!want[i] || !node->out->adjoint) continue;
        if (record) {
            mde__visit_recorded(c, node, want[i]);
            continue;
        }
        mde__visit_once(c, node, want[i], !x, mde__is_goal(node->out, n, x), &spare);
        if (mde__is_goal(node->out, n, x)) continue;
        mde__spare_adjoint(&spare, node->out->adjoint);
        node->out->adjoint = NULL;
    }
    mde_set_recording(c, recording);
    return last;
}

static void mde__clear_adjoints(mde_context *c, mde_tensor *y, int64_t last)
{
    y->adjoint = NULL;
    for (int64_t i = 0; i <= last; i++) {
        mde_node *node = c->tape[i];
        node->out->adjoint = NULL;
        for (int k = 0; k < node->op->inputs; k++) node->in[k]->adjoint = NULL;
    }
}

MDEDEF mde_status mde_backward(mde_context *c, mde_tensor *loss)
{
    int64_t last;
    if (mde__bad(c)) return mde_context_status(c);
    if (!loss || loss->count != 1) return mde_fail(c, MDE_BAD_SHAPE, "backward: the loss is not a scalar");
    if (mde__is_foreign(c, loss)) return mde_fail(c, MDE_BAD_ARGUMENT, "backward: the loss belongs to another context");
    last = mde__walk(c, loss, 0, NULL, 0);
    if (!mde__bad(c) && mde__is_parameter(loss)) loss->grad[0] += loss->adjoint->data[0];
    mde__clear_adjoints(c, loss, last);
    return c->status;
}

MDEDEF mde_status mde_grad(mde_context *c, mde_tensor *y, int n, mde_tensor *const *x, mde_tensor **dx, int record)
{
    int64_t last;
    for (int k = 0; k < n; k++) dx[k] = NULL;
    if (mde__bad(c)) return mde_context_status(c);
    for (int k = 0; k < n; k++) {
        if (!x[k]) return mde_fail(c, MDE_BAD_ARGUMENT, "grad: x %d is NULL", k);
        if (mde__is_foreign(c, x[k])) return mde_fail(c, MDE_BAD_ARGUMENT, "grad: x %d belongs to another context", k);
        if (!x[k]->requires_grad) {
            return mde_fail(c, MDE_BAD_ARGUMENT, "grad: x %d has no requires_grad, so no op was recorded for it", k);
        }
    }
    if (!y) return mde_fail(c, MDE_BAD_ARGUMENT, "grad: y is NULL");
    if (mde__is_foreign(c, y)) return mde_fail(c, MDE_BAD_ARGUMENT, "grad: y belongs to another context");
    last = mde__walk(c, y, n, x, record);
    for (int k = 0; k < n && !mde__bad(c); k++) {
        dx[k] = x[k]->adjoint ? x[k]->adjoint : mde_tensor_create(c, x[k]->rank, x[k]->shape);
    }
    mde__clear_adjoints(c, y, last);
    for (int k = 0; k < n; k++) {
        x[k]->adjoint = NULL;
        if (mde__bad(c)) dx[k] = NULL;
    }
    return c->status;
}

/* ---- Elementwise ops ---- */

/* Parameters of the functions of an op's row, in every one of them. */
#define MDE__SHAPE \
    MDE__UNUSED mde_context *c, mde_tensor *const *in, MDE__UNUSED const mde_args *args, mde_tensor *out
#define MDE__FORWARD MDE__UNUSED mde_context *c, MDE__UNUSED mde_node *node
#define MDE__VJP \
    MDE__UNUSED mde_context *c, MDE__UNUSED const mde_node *node, mde_tensor *g, MDE__UNUSED unsigned want, \
    mde_tensor **din

static mde_args mde__make_args(int64_t i0, int64_t i1, int64_t i2, double f0, double f1, const void *p)
{
    mde_args args = { { i0, i1, i2 }, { f0, f1 }, p };
    return args;
}

static int mde__shape_same1(MDE__SHAPE)
{
    return mde__take_shape(out, in[0]);
}

static int mde__equal_shapes(mde_context *c, const char *op, mde_tensor *const *in, mde_tensor *out)
{
    char a[128], b[128];
    if (mde__same_shape(in[0], in[1])) return mde__take_shape(out, in[0]);
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: a is %s, b is %s: expected equal shapes", op, mde__shape_text(in[0], a),
                     mde__shape_text(in[1], b));
}

/* Inputs that the op does not have are NULL, and so are arguments. */
static mde_tensor *mde__apply3(mde_context *c, const mde_op *op, mde_tensor *x, mde_tensor *y, mde_tensor *z,
                               const mde_args *args)
{
    mde_tensor *in[3] = { x, y, z };
    return mde_apply(c, op, in, args);
}

/* Both inputs broadcast to their common shape first. */
static mde_tensor *mde__apply_broadcast(mde_context *c, const mde_op *op, mde_tensor *a, mde_tensor *b)
{
    mde_tensor common;
    char x[128], y[128];
    if (mde__bad(c)) return NULL;
    if (!a || !b || mde__same_shape(a, b)) return mde__apply3(c, op, a, b, NULL, NULL);
    mde__take_shape(&common, a->rank >= b->rank ? a : b);
    for (int i = 1; i <= common.rank; i++) {
        int64_t m = i <= a->rank ? a->shape[a->rank - i] : 1, n = i <= b->rank ? b->shape[b->rank - i] : 1;
        if (m != n && m != 1 && n != 1) {
            mde_fail(c, MDE_BAD_SHAPE, "%s: a is %s, b is %s: sizes %lld and %lld do not broadcast", op->name,
                     mde__shape_text(a, x), mde__shape_text(b, y), (long long)m, (long long)n);
            return NULL;
        }
        common.shape[common.rank - i] = m > n ? m : n;
    }
    if (!mde__same_shape(a, &common)) a = mde_broadcast_to(c, a, common.rank, common.shape);
    if (!mde__same_shape(b, &common)) b = mde_broadcast_to(c, b, common.rank, common.shape);
    return mde__apply3(c, op, a, b, NULL, NULL);
}

/* Rows of two inputs see equal shapes: what broadcasts was broadcast before. */
#define MDE__SHAPE_EQUAL(name) \
    static int mde__##name##_shape(MDE__SHAPE) \
    { \
        return mde__equal_shapes(c, #name, in, out); \
    }

MDE__BINARY_FUNCTIONS(MDE__SHAPE_EQUAL)
MDE__SHAPE_EQUAL(gate)

static void mde__add_vjp(MDE__VJP)
{
    din[0] = din[1] = g;
}

static void mde__sub_vjp(MDE__VJP)
{
    din[0] = g;
    if (want & 2) din[1] = mde_affine(c, g, -1, 0);
}

static void mde__mul_vjp(MDE__VJP)
{
    if (want & 1) din[0] = mde_mul(c, g, node->in[1]);
    if (want & 2) din[1] = mde_mul(c, g, node->in[0]);
}

static void mde__div_vjp(MDE__VJP)
{
    mde_tensor *q = mde_div(c, g, node->in[1]);
    din[0] = q;
    if (want & 2) din[1] = mde_affine(c, mde_mul(c, q, node->out), -1, 0);
}

static void mde__affine_forward(MDE__FORWARD)
{
    mde__vaffine(c, (int64_t)node->out->count, node->in[0]->data, (float)node->args.f[0], (float)node->args.f[1],
                 node->out->data);
}

static void mde__affine_vjp(MDE__VJP)
{
    din[0] = mde_affine(c, g, node->args.f[0], 0);
}
static const mde_op mde__op_affine = { "affine", 1, mde__shape_same1, mde__affine_forward, mde__affine_vjp, NULL };

static void mde__exp_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, g, node->out);
}

static void mde__log_vjp(MDE__VJP)
{
    din[0] = mde_div(c, g, node->in[0]);
}

static void mde__sqrt_vjp(MDE__VJP)
{
    din[0] = mde_affine(c, mde_div(c, g, node->out), 0.5, 0);
}

/* 1 - y^2 */
static void mde__tanh_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, g, mde_affine(c, mde_mul(c, node->out, node->out), -1, 1));
}

/* s (1 - s) for s = sigmoid */
static mde_tensor *mde__sigmoid_slope(mde_context *c, mde_tensor *s)
{
    return mde_mul(c, s, mde_affine(c, s, -1, 1));
}

static void mde__sigmoid_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, g, mde__sigmoid_slope(c, node->out));
}

static void mde__relu_vjp(MDE__VJP)
{
    din[0] = mde_gate(c, node->in[0], g);
}

/* g sign(x) */
static void mde__abs_vjp(MDE__VJP)
{
    mde_tensor *x = node->in[0];
    din[0] = mde_sub(c, mde_gate(c, x, g), mde_gate(c, mde_affine(c, x, -1, 0), g));
}

static void mde__sin_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, g, mde_cos(c, node->in[0]));
}

static void mde__cos_vjp(MDE__VJP)
{
    din[0] = mde_affine(c, mde_mul(c, g, mde_sin(c, node->in[0])), -1, 0);
}

/* g goes to a where a > b, to b elsewhere. */
static void mde__maximum_vjp(MDE__VJP)
{
    din[0] = mde_gate(c, mde_sub(c, node->in[0], node->in[1]), g);
    if (want & 2) din[1] = mde_sub(c, g, din[0]);
}

static int mde__pow_shape(MDE__SHAPE)
{
    double power = args->f[0];
    if (power - power != 0) return !mde_fail(c, MDE_BAD_ARGUMENT, "pow: the power is %g; expected a number", power);
    return mde__take_shape(out, in[0]);
}

/* In double, since an error of log x counts as often as the power says. */
MDE__WARM
static void mde__pow_elements(const mde__job *j, int64_t from, int64_t to)
{
    double power = *j->weights, odd = fabs(fmod(power, 2));
    for (int64_t i = from; i < to; i++) {
        double x = (double)j->in[0][i], y = mde__pow64(fabs(x), power);
        if (x < 0 && power != floor(power)) y = (double)NAN;
        j->out[0][i] = (float)(odd == 1 && copysign(1.0, x) < 0 ? -y : y);
    }
}

static void mde__pow_forward(MDE__FORWARD)
{
    mde__job job = mde__new_job(node->in[0]->data, NULL, node->out->data);
    job.weights = &node->args.f[0];
    mde__run(c, mde__pow_elements, &job, (int64_t)node->out->count, MDE__CHUNK_ELEMENTS);
}

static void mde__pow_vjp(MDE__VJP)
{
    double power = node->args.f[0];
    if (power != 0) din[0] = mde_mul(c, g, mde_affine(c, mde_pow(c, node->in[0], power - 1), power, 0));
}
static const mde_op mde__op_pow = { "pow", 1, mde__pow_shape, mde__pow_forward, mde__pow_vjp, NULL };

static int mde__clip_shape(MDE__SHAPE)
{
    if (args->f[0] <= args->f[1]) return mde__take_shape(out, in[0]);
    return !mde_fail(c, MDE_BAD_ARGUMENT, "clip: low is %g, high is %g; expected low <= high", args->f[0], args->f[1]);
}

MDE__WARM
static void mde__clip_forward(MDE__FORWARD)
{
    const float *x = node->in[0]->data, low = (float)node->args.f[0], high = (float)node->args.f[1];
    for (size_t i = 0; i < node->out->count; i++) node->out->data[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

static void mde__clip_vjp(MDE__VJP)
{
    mde_tensor *below = mde_gate(c, mde_affine(c, node->in[0], -1, node->args.f[1]), g);
    din[0] = mde_gate(c, mde_affine(c, node->in[0], 1, -node->args.f[0]), below);
}
static const mde_op mde__op_clip = { "clip", 1, mde__clip_shape, mde__clip_forward, mde__clip_vjp, NULL };

MDE__WARM
static void mde__gate_forward(MDE__FORWARD)
{
    const float *x = node->in[0]->data, *y = node->in[1]->data;
    for (size_t i = 0; i < node->out->count; i++) node->out->data[i] = x[i] > 0 ? y[i] : 0.0f;
}

/* Flat in x but for a step at 0. */
static void mde__gate_vjp(MDE__VJP)
{
    if (want & 2) din[1] = mde_gate(c, node->in[0], g);
}
static const mde_op mde__op_gate = { "gate", 2, mde__gate_shape, mde__gate_forward, mde__gate_vjp, NULL };

/* d x s(u(x)) / dx = s + x s (1 - s) u'(x), with s = sigmoid. */
static mde_tensor *mde__self_gate_slope(mde_context *c, mde_tensor *x, mde_tensor *s, mde_tensor *u_slope)
{
    mde_tensor *t = mde_mul(c, x, mde__sigmoid_slope(c, s));
    return mde_add(c, s, u_slope ? mde_mul(c, t, u_slope) : t);
}

static mde_tensor *mde__silu_slope(mde_context *c, mde_tensor *x)
{
    return mde__self_gate_slope(c, x, mde_sigmoid(c, x), NULL);
}

static void mde__silu_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, g, mde__silu_slope(c, node->in[0]));
}

/* The tanh form of GELU is x sigmoid(u) with u = 2 sqrt(2/pi) (x + 0.044715 x^3). */
static void mde__gelu_vjp(MDE__VJP)
{
    const double slope = 1.5957691216057308, cubic = slope * 0.044715;
    mde_tensor *x = node->in[0], *square = mde_mul(c, x, x);
    mde_tensor *s = mde_sigmoid(c, mde_mul(c, x, mde_affine(c, square, cubic, slope)));
    din[0] = mde_mul(c, g, mde__self_gate_slope(c, x, s, mde_affine(c, square, 3 * cubic, slope)));
}

/* Of each function: how the op runs, its row, and what users call. */
#define MDE__UNARY_OP(name, vjp_fast) \
    static void mde__##name##_forward(MDE__FORWARD) \
    { \
        mde__v##name(c, (int64_t)node->out->count, node->in[0]->data, node->out->data); \
    } \
    static const mde_op mde__op_##name = { #name, 1, mde__shape_same1, mde__##name##_forward, mde__##name##_vjp, \
                                           vjp_fast }; \
    MDEDEF mde_tensor *mde_##name(mde_context *c, mde_tensor *x) { return mde_apply(c, &mde__op_##name, &x, NULL); }
#define MDE__PLAIN_OP(name) MDE__UNARY_OP(name, NULL)
#define MDE__GATED_OP(name) \
    static void mde__##name##_vjp_fast(MDE__VJP) \
    { \
        din[0] = mde__sink_to_set(c, node, 0); \
        if (din[0]) mde__v##name##_vjp(c, (int64_t)g->count, node->in[0]->data, g->data, din[0]->data); \
    } \
    MDE__UNARY_OP(name, mde__##name##_vjp_fast)
#define MDE__BINARY_OP(name) \
    static void mde__##name##_forward(MDE__FORWARD) \
    { \
        mde__v##name(c, (int64_t)node->out->count, node->in[0]->data, node->in[1]->data, node->out->data); \
    } \
    static const mde_op mde__op_##name = { #name, 2, mde__##name##_shape, mde__##name##_forward, mde__##name##_vjp, \
                                           NULL }; \
    MDEDEF mde_tensor *mde_##name(mde_context *c, mde_tensor *a, mde_tensor *b) \
    { \
        return mde__apply_broadcast(c, &mde__op_##name, a, b); \
    }
MDE__PLAIN_FUNCTIONS(MDE__PLAIN_OP)
MDE__GATED_FUNCTIONS(MDE__GATED_OP)
MDE__BINARY_FUNCTIONS(MDE__BINARY_OP)

/* ---- Shape and order ---- */

static void mde__shape_from_args(const mde_args *args, mde_tensor *out)
{
    out->rank = (int)args->i[7];
    memcpy(out->shape, args->i, sizeof out->shape);
}

static int mde__reshape_shape(MDE__SHAPE)
{
    char a[128], b[128];
    mde__shape_from_args(args, out);
    out->data = in[0]->data;
    if (mde__shape_count(c, "reshape", out->rank, out->shape) == in[0]->count) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "reshape: x is %s, which has not as many elements as %s",
                     mde__shape_text(in[0], a), mde__shape_text(out, b));
}

/* The data are shared: nothing to do. */
static void mde__reshape_forward(MDE__FORWARD)
{
}

static void mde__reshape_vjp(MDE__VJP)
{
    din[0] = mde_reshape(c, g, node->in[0]->rank, node->in[0]->shape);
}
static const mde_op mde__op_reshape = { "reshape", 1, mde__reshape_shape, mde__reshape_forward, mde__reshape_vjp,
                                        NULL };

/* Distance in elements between neighbours along each axis. */
static void mde__strides(const mde_tensor *t, int64_t *strides)
{
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= t->shape[i];
    }
}

static int mde__permute_shape(MDE__SHAPE)
{
    char a[128];
    int seen = 0;
    out->rank = in[0]->rank;
    for (int i = 0; i < out->rank; i++) {
        if (args->i[i] < 0 || args->i[i] >= out->rank || (seen >> args->i[i]) & 1) {
            return !mde_fail(c, MDE_BAD_ARGUMENT, "permute: x is %s; the order is no permutation of its axes",
                             mde__shape_text(in[0], a));
        }
        seen |= 1 << args->i[i];
        out->shape[i] = in[0]->shape[args->i[i]];
    }
    return 1;
}

/* Copies x to y, y contiguous, x with the given distances along y's axes (0 repeats). */
MDE__WARM
static void mde__copy_strided(const mde_tensor *y, const float *x, const int64_t *strides)
{
    int64_t at[MDE_MAX_RANK] = { 0, 0, 0, 0, 0 }, inner = y->shape[y->rank - 1], step = strides[y->rank - 1], j;
    for (size_t i = 0; i < y->count; i += (size_t)inner) {
        const float *from = x;
        for (int axis = 0; axis < y->rank - 1; axis++) from += at[axis] * strides[axis];
        if (step == 1) memcpy(y->data + i, from, (size_t)inner * sizeof *from);
        else for (j = 0; j < inner; j++) y->data[i + (size_t)j] = from[j * step];
        for (int axis = y->rank - 2; axis >= 0 && ++at[axis] == y->shape[axis]; axis--) at[axis] = 0;
    }
}

static void mde__permute_forward(MDE__FORWARD)
{
    int64_t strides[MDE_MAX_RANK], permuted[MDE_MAX_RANK];
    mde__strides(node->in[0], strides);
    for (int i = 0; i < node->out->rank; i++) permuted[i] = strides[node->args.i[i]];
    mde__copy_strided(node->out, node->in[0]->data, permuted);
}

static void mde__permute_vjp(MDE__VJP)
{
    int inverse[MDE_MAX_RANK], i;
    for (i = 0; i < node->out->rank; i++) inverse[node->args.i[i]] = i;
    din[0] = mde_permute(c, g, inverse);
}
static const mde_op mde__op_permute = { "permute", 1, mde__permute_shape, mde__permute_forward, mde__permute_vjp,
                                        NULL };

/* Elements before, along and behind an axis: x is [outer, shape[axis], inner]. */
static void mde__around_axis(const mde_tensor *x, int axis, int64_t *outer, int64_t *inner)
{
    *outer = *inner = 1;
    for (int i = 0; i < axis; i++) *outer *= x->shape[i];
    for (int i = axis + 1; i < x->rank; i++) *inner *= x->shape[i];
}

static int mde__check_axis(mde_context *c, const char *op, const mde_tensor *x, int64_t axis)
{
    char a[128];
    if (axis >= 0 && axis < x->rank) return 1;
    return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: x is %s, which has no axis %lld", op, mde__shape_text(x, a),
                     (long long)axis);
}

/* args: axis, start, length */
static int mde__slice_shape(MDE__SHAPE)
{
    char a[128];
    if (!mde__check_axis(c, "slice", in[0], args->i[0])) return 0;
    mde__take_shape(out, in[0]);
    out->shape[args->i[0]] = args->i[2];
    if (args->i[1] >= 0 && args->i[2] >= 1 && args->i[1] <= in[0]->shape[args->i[0]] - args->i[2]) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "slice: x is %s, which has no %lld elements from %lld on along axis %lld",
                     mde__shape_text(in[0], a), (long long)args->i[2], (long long)args->i[1], (long long)args->i[0]);
}

static void mde__slice_forward(MDE__FORWARD)
{
    const mde_tensor *x = node->in[0];
    int axis = (int)node->args.i[0];
    int64_t outer, inner, i, rows = node->args.i[2];
    mde__around_axis(x, axis, &outer, &inner);
    for (i = 0; i < outer; i++) {
        memcpy(node->out->data + i * rows * inner, x->data + (i * x->shape[axis] + node->args.i[1]) * inner,
               (size_t)(rows * inner) * sizeof(float));
    }
}

static void mde__slice_vjp(MDE__VJP)
{
    int axis = (int)node->args.i[0];
    int64_t start = node->args.i[1];
    din[0] = mde_pad(c, g, axis, start, node->in[0]->shape[axis] - start - node->args.i[2]);
}
static const mde_op mde__op_slice = { "slice", 1, mde__slice_shape, mde__slice_forward, mde__slice_vjp, NULL };

/* args: axis, before, after */
static int mde__pad_shape(MDE__SHAPE)
{
    char a[128];
    if (!mde__check_axis(c, "pad", in[0], args->i[0])) return 0;
    if (args->i[1] < 0 || args->i[2] < 0 || args->i[1] > INT64_MAX / 4 || args->i[2] > INT64_MAX / 4) {
        return !mde_fail(c, MDE_BAD_SHAPE, "pad: x is %s; %lld before and %lld after are no counts of elements",
                         mde__shape_text(in[0], a), (long long)args->i[1], (long long)args->i[2]);
    }
    mde__take_shape(out, in[0]);
    out->shape[args->i[0]] += args->i[1] + args->i[2];
    return 1;
}

static void mde__pad_forward(MDE__FORWARD)
{
    const mde_tensor *x = node->in[0];
    int axis = (int)node->args.i[0];
    int64_t outer, inner, i, rows = x->shape[axis];
    memset(node->out->data, 0, node->out->count * sizeof(float));
    mde__around_axis(x, axis, &outer, &inner);
    for (i = 0; i < outer; i++) {
        memcpy(node->out->data + (i * node->out->shape[axis] + node->args.i[1]) * inner, x->data + i * rows * inner,
               (size_t)(rows * inner) * sizeof(float));
    }
}

static void mde__pad_vjp(MDE__VJP)
{
    int axis = (int)node->args.i[0];
    din[0] = mde_slice(c, g, axis, node->args.i[1], node->in[0]->shape[axis]);
}
static const mde_op mde__op_pad = { "pad", 1, mde__pad_shape, mde__pad_forward, mde__pad_vjp, NULL };

static int mde__concat_shape(MDE__SHAPE)
{
    char a[128], b[128];
    int axis = (int)args->i[0], i, fits = in[0]->rank == in[1]->rank;
    if (!mde__check_axis(c, "concat", in[0], args->i[0])) return 0;
    for (i = 0; fits && i < in[0]->rank; i++) fits = i == axis || in[0]->shape[i] == in[1]->shape[i];
    if (!fits) {
        return !mde_fail(c, MDE_BAD_SHAPE, "concat: a is %s, b is %s: they differ elsewhere than along axis %d",
                         mde__shape_text(in[0], a), mde__shape_text(in[1], b), axis);
    }
    mde__take_shape(out, in[0]);
    out->shape[axis] += in[1]->shape[axis];
    return 1;
}

static void mde__concat_forward(MDE__FORWARD)
{
    int axis = (int)node->args.i[0];
    int64_t outer, inner, i, a = node->in[0]->shape[axis], b = node->in[1]->shape[axis];
    mde__around_axis(node->in[0], axis, &outer, &inner);
    a *= inner;
    b *= inner;
    for (i = 0; i < outer; i++) {
        memcpy(node->out->data + i * (a + b), node->in[0]->data + i * a, (size_t)a * sizeof(float));
        memcpy(node->out->data + i * (a + b) + a, node->in[1]->data + i * b, (size_t)b * sizeof(float));
    }
}

static void mde__concat_vjp(MDE__VJP)
{
    int axis = (int)node->args.i[0];
    int64_t a = node->in[0]->shape[axis];
    if (want & 1) din[0] = mde_slice(c, g, axis, 0, a);
    if (want & 2) din[1] = mde_slice(c, g, axis, a, node->in[1]->shape[axis]);
}
static const mde_op mde__op_concat = { "concat", 2, mde__concat_shape, mde__concat_forward, mde__concat_vjp, NULL };

/* Distances along the axes of `wide` in a tensor of shape `narrow` that broadcasts to it (trailing axes line up, 1
   repeats); 0 when it does not. */
static int mde__broadcast_strides(const mde_tensor *narrow, const mde_tensor *wide, int64_t *strides)
{
    int64_t own[MDE_MAX_RANK];
    int shift = wide->rank - narrow->rank;
    if (shift < 0) return 0;
    mde__strides(narrow, own);
    for (int i = 0; i < wide->rank; i++) {
        strides[i] = 0;
        if (i < shift || narrow->shape[i - shift] == 1) continue;
        if (narrow->shape[i - shift] != wide->shape[i]) return 0;
        strides[i] = own[i - shift];
    }
    return 1;
}

static int mde__broadcast_shape(MDE__SHAPE)
{
    int64_t strides[MDE_MAX_RANK];
    char a[128], b[128];
    mde__shape_from_args(args, out);
    if (mde__broadcast_strides(in[0], out, strides)) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "broadcast_to: x is %s, which does not broadcast to %s",
                     mde__shape_text(in[0], a), mde__shape_text(out, b));
}

static void mde__broadcast_forward(MDE__FORWARD)
{
    int64_t strides[MDE_MAX_RANK];
    mde__broadcast_strides(node->in[0], node->out, strides);
    mde__copy_strided(node->out, node->in[0]->data, strides);
}

static void mde__broadcast_vjp(MDE__VJP)
{
    din[0] = mde_sum_to(c, g, node->in[0]->rank, node->in[0]->shape);
}
static const mde_op mde__op_broadcast_to = { "broadcast_to", 1, mde__broadcast_shape, mde__broadcast_forward,
                                             mde__broadcast_vjp, NULL };

static int mde__sum_to_shape(MDE__SHAPE)
{
    int64_t strides[MDE_MAX_RANK];
    char a[128], b[128];
    mde__shape_from_args(args, out);
    if (mde__broadcast_strides(out, in[0], strides)) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "sum_to: x is %s, which is no broadcast of %s", mde__shape_text(in[0], a),
                     mde__shape_text(out, b));
}

/* The axes of a sum, neighbours of one kind taken together: sizes of runs that are kept and summed in turn. *kept tells
   of the first run; out's strides are 0 along summed axes. */
static int mde__sum_runs(const mde_tensor *wide, const int64_t *strides, int64_t *sizes, int *kept)
{
    int runs = 0, last = -1;
    for (int axis = 0; axis < wide->rank; axis++) {
        int keeps = strides[axis] != 0;
        if (wide->shape[axis] == 1) continue;
        if (runs == 0) *kept = keeps;
        if (keeps == last) sizes[runs - 1] *= wide->shape[axis];
        else sizes[runs++] = wide->shape[axis];
        last = keeps;
    }
    return runs;
}

MDE__WARM
static void mde__sum_to_forward(MDE__FORWARD)
{
    const mde_tensor *x = node->in[0];
    float *out = node->out->data;
    int64_t strides[MDE_MAX_RANK], at[MDE_MAX_RANK] = { 0, 0, 0, 0, 0 }, sizes[MDE_MAX_RANK], to = 0, k;
    int kept = 0, runs;
    mde__broadcast_strides(node->out, x, strides);
    runs = mde__sum_runs(x, strides, sizes, &kept);
    if (node->out->count == 1) {
        out[0] = mde__sum_all(c, (int64_t)x->count, x->data);
    } else if (runs == 1) {
        memcpy(out, x->data, x->count * sizeof *out);
    } else if (runs == 2 && kept) {
        mde__sum_rows(c, sizes[0], sizes[1], x->data, out);
    } else if (runs == 2) {
        mde__sum_columns(c, sizes[0], sizes[1], x->data, 0, out);
    } else if (runs == 3 && kept) {
        for (k = 0; k < sizes[0]; k++) {
            mde__sum_columns(c, sizes[1], sizes[2], x->data + k * sizes[1] * sizes[2], 0, out + k * sizes[2]);
        }
    } else {
        memset(out, 0, node->out->count * sizeof *out);
        for (size_t i = 0; i < x->count; i++) {
            out[to] += x->data[i];
            for (int axis = x->rank - 1; axis >= 0; axis--) {
                to += strides[axis];
                if (++at[axis] < x->shape[axis]) break;
                to -= strides[axis] * x->shape[axis];
                at[axis] = 0;
            }
        }
    }
}

static void mde__sum_to_vjp(MDE__VJP)
{
    din[0] = mde_broadcast_to(c, g, node->in[0]->rank, node->in[0]->shape);
}
static const mde_op mde__op_sum_to = { "sum_to", 1, mde__sum_to_shape, mde__sum_to_forward, mde__sum_to_vjp, NULL };

/* ---- Matrix product ---- */

/* args: transpose_a, transpose_b. Both [m, k], or both [batch.., m, k] with the same batch. */
static int mde__matmul_shape(MDE__SHAPE)
{
    const mde_tensor *a = in[0], *b = in[1];
    char x[128], y[128];
    int r = a->rank, i, ta = (int)args->i[0], tb = (int)args->i[1];
    int64_t k_a, k_b;
    for (i = 0; i < r - 2 && r == b->rank; i++) {
        if (a->shape[i] != b->shape[i]) break;
    }
    if (r < 2 || r != b->rank || i < r - 2) {
        return !mde_fail(c, MDE_BAD_SHAPE, "matmul: a is %s, b is %s: leading dimensions differ", mde__shape_text(a, x),
                         mde__shape_text(b, y));
    }
    k_a = a->shape[ta ? r - 2 : r - 1];
    k_b = b->shape[tb ? r - 1 : r - 2];
    if (k_a != k_b) {
        return !mde_fail(c, MDE_BAD_SHAPE, "matmul: a is %s%s, b is %s%s: inner sizes %lld and %lld differ",
                         mde__shape_text(a, x), ta ? " transposed" : "", mde__shape_text(b, y), tb ? " transposed" : "",
                         (long long)k_a, (long long)k_b);
    }
    mde__take_shape(out, a);
    out->shape[r - 2] = a->shape[ta ? r - 1 : r - 2];
    out->shape[r - 1] = b->shape[tb ? r - 2 : r - 1];
    return 1;
}

static void mde__matmul_forward(MDE__FORWARD)
{
    const mde_tensor *a = node->in[0], *b = node->in[1], *out = node->out;
    int r = out->rank, ta = (int)node->args.i[0], tb = (int)node->args.i[1];
    int64_t m = out->shape[r - 2], n = out->shape[r - 1], k = a->shape[ta ? r - 2 : r - 1], batch;
    mde_mark mark = mde_arena_mark(c);
    float *workspace = (float *)mde_scratch(c, mde__gemm_workspace(c, m, n, k), sizeof *workspace);
    batch = (int64_t)out->count / (m * n);
    if (workspace) {
        mde_product p = mde_product_of(ta, tb, m, n, k, a->data, b->data);
        p.out = out->data;
        mde__gemm_batch(c, &p, batch, m * k, k * n, m * n, workspace);
    }
    mde_arena_rewind(c, mark);
}

/* Every gradient is a product again, with other transpose flags. */
static void mde__matmul_vjp(MDE__VJP)
{
    mde_tensor *a = node->in[0], *b = node->in[1];
    int ta = (int)node->args.i[0], tb = (int)node->args.i[1];
    if (want & 1) din[0] = ta ? mde_matmul_t(c, b, g, tb, 1) : mde_matmul_t(c, g, b, 0, !tb);
    if (want & 2) din[1] = tb ? mde_matmul_t(c, g, a, 1, ta) : mde_matmul_t(c, a, g, !ta, 0);
}
static const mde_op mde__op_matmul = { "matmul", 2, mde__matmul_shape, mde__matmul_forward, mde__matmul_vjp, NULL };

/* ---- Over the last axis ---- */

static int64_t mde__last(const mde_tensor *x)
{
    return x->shape[x->rank - 1];
}

static int64_t mde__rows(const mde_tensor *x)
{
    return (int64_t)x->count / mde__last(x);
}

/* Sum or mean over the last axis, which stays with size 1. */
static mde_tensor *mde__sum_last(mde_context *c, mde_tensor *x, double scale)
{
    mde_tensor *sum = x ? mde_sum_axis(c, x, x->rank - 1) : NULL;
    return scale == 1 ? sum : mde_affine(c, sum, scale, 0);
}

static void mde__softmax_forward(MDE__FORWARD)
{
    mde__softmax_rows(c, mde__rows(node->out), mde__last(node->out), node->in[0]->data, node->out->data);
}

/* y (g - sum g y) */
static void mde__softmax_vjp(MDE__VJP)
{
    din[0] = mde_mul(c, node->out, mde_sub(c, g, mde__sum_last(c, mde_mul(c, g, node->out), 1)));
}

static void mde__softmax_vjp_fast(MDE__VJP)
{
    din[0] = mde__sink_to_set(c, node, 0);
    if (din[0]) mde__softmax_rows_vjp(c, mde__rows(g), mde__last(g), node->out->data, g->data, din[0]->data);
}
static const mde_op mde__op_softmax = { "softmax", 1, mde__shape_same1, mde__softmax_forward, mde__softmax_vjp,
                                        mde__softmax_vjp_fast };

static void mde__log_softmax_forward(MDE__FORWARD)
{
    mde__log_softmax_rows(c, mde__rows(node->out), mde__last(node->out), node->in[0]->data, node->out->data);
}

/* g - softmax sum g */
static void mde__log_softmax_vjp(MDE__VJP)
{
    din[0] = mde_sub(c, g, mde_mul(c, mde_exp(c, node->out), mde__sum_last(c, g, 1)));
}
static const mde_op mde__op_log_softmax = { "log_softmax", 1, mde__shape_same1, mde__log_softmax_forward,
                                            mde__log_softmax_vjp, NULL };

static int mde__packed_swiglu_shape(MDE__SHAPE)
{
    char a[128];
    mde__take_shape(out, in[0]);
    out->shape[out->rank - 1] /= 2;
    if (mde__last(in[0]) % 2 == 0) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "packed_swiglu: x is %s; expected an even last dimension",
                     mde__shape_text(in[0], a));
}

static void mde__packed_swiglu_forward(MDE__FORWARD)
{
    mde__glu_rows(c, mde__rows(node->out), mde__last(node->out), node->in[0]->data, node->out->data);
}

/* The gradients of gate and value, side by side. */
static void mde__packed_swiglu_vjp(MDE__VJP)
{
    int last = g->rank - 1;
    int64_t n = mde__last(g);
    mde_tensor *gate = mde_slice(c, node->in[0], last, 0, n), *up = mde_slice(c, node->in[0], last, n, n);
    if (mde__bad(c)) return;
    din[0] = mde_concat(c, mde_mul(c, mde_mul(c, g, up), mde__silu_slope(c, gate)), mde_mul(c, g, mde_silu(c, gate)),
                        last);
}

static void mde__packed_swiglu_vjp_fast(MDE__VJP)
{
    din[0] = mde__sink_to_set(c, node, 0);
    if (din[0]) mde__glu_rows_vjp(c, mde__rows(g), mde__last(g), node->in[0]->data, g->data, din[0]->data);
}
static const mde_op mde__op_packed_swiglu = { "packed_swiglu", 1, mde__packed_swiglu_shape, mde__packed_swiglu_forward,
                                              mde__packed_swiglu_vjp, mde__packed_swiglu_vjp_fast };

/* in: x, gain[, bias]: vectors as long as x's last axis. args.f: epsilon */
static int mde__norm_shape(mde_context *c, mde_tensor *const *in, const char *name, int inputs, mde_tensor *out)
{
    char a[128], b[128];
    for (int i = 1; i < inputs; i++) {
        if (in[i]->rank == 1 && in[i]->shape[0] == mde__last(in[0])) continue;
        return !mde_fail(c, MDE_BAD_SHAPE, "%s: x is %s, %s is %s: expected [%lld]", name, mde__shape_text(in[0], a),
                         i == 1 ? "gain" : "bias", mde__shape_text(in[i], b), (long long)mde__last(in[0]));
    }
    return mde__take_shape(out, in[0]);
}

static int mde__rms_norm_shape(MDE__SHAPE)
{
    return mde__norm_shape(c, in, "rms_norm", 2, out);
}

/* What the node of a norm, whose first inputs are x and gain, is about; saved holds rstd and, of a layer norm, means
   before it. */
static mde__row_norm mde__norm_of(const mde_node *node)
{
    mde__row_norm norm;
    int layer = node->op->inputs == 3;
    memset(&norm, 0, sizeof norm);
    norm.cols = mde__last(node->in[0]);
    norm.rows = mde__rows(node->in[0]);
    norm.x = node->in[0]->data;
    norm.gain = node->in[1]->data;
    norm.bias = layer ? node->in[2]->data : NULL;
    norm.epsilon = (float)node->args.f[0];
    norm.mean = layer ? node->saved : NULL;
    norm.rstd = layer ? node->saved + norm.rows : node->saved;
    return norm;
}

static int mde__layer_norm_shape(MDE__SHAPE)
{
    return mde__norm_shape(c, in, "layer_norm", 3, out);
}

static void mde__norm_forward(MDE__FORWARD)
{
    int layer = node->op->inputs == 3;
    size_t rows = (size_t)mde__rows(node->out);
    mde__row_norm norm;
    if (!node->saved) node->saved = (float *)mde_scratch(c, layer ? 2 * rows : rows, sizeof *node->saved);
    if (!node->saved) return;
    norm = mde__norm_of(node);
    if (layer) mde__layer_norm_rows(c, &norm, node->out->data);
    else mde__rms_norm_rows(c, &norm, node->out->data);
}

/* With n = x r, r = 1 / rms: dx = r (g' - n mean(g' n)), g' = g gain; dgain = sum g n. In a layer norm x and g' are
   less their means, and dbias = sum g. */
static void mde__norm_vjp(MDE__VJP)
{
    mde_tensor *x = node->in[0], *gain = node->in[1];
    int layer = node->op->inputs == 3;
    double width = 1.0 / (double)mde__last(x);
    mde_tensor *centred = layer ? mde_sub(c, x, mde__sum_last(c, x, width)) : x;
    mde_tensor *square = mde__sum_last(c, mde_mul(c, centred, centred), width);
    mde_tensor *rms = mde_sqrt(c, mde_affine(c, square, 1, node->args.f[0]));
    mde_tensor *normed = mde_div(c, centred, rms);
    if (want & 1) {
        mde_tensor *scaled = mde_mul(c, g, gain);
        mde_tensor *along = mde_mul(c, normed, mde__sum_last(c, mde_mul(c, scaled, normed), width));
        if (layer) scaled = mde_sub(c, scaled, mde__sum_last(c, scaled, width));
        din[0] = mde_div(c, mde_sub(c, scaled, along), rms);
    }
    if (want & 2) din[1] = mde_sum_to(c, mde_mul(c, g, normed), 1, gain->shape);
    if (want & 4) din[2] = mde_sum_to(c, g, 1, gain->shape);
}

static void mde__norm_vjp_fast(MDE__VJP)
{
    mde__row_norm norm = mde__norm_of(node);
    int add = 0, layer = node->op->inputs == 3;
    if (want & 1) din[0] = mde__sink(c, node, 0, &add);
    if (want & 2) din[1] = mde__sink_of_sums(c, node, 1);
    if (want & 4) din[2] = mde__sink_of_sums(c, node, 2);
    if (mde__bad(c)) return;
    mde__norm_rows_vjp(c, layer ? mde__kernel_layer_norm_vjp(c->simd) : mde__kernel_rms_norm_vjp(c->simd), &norm,
                       g->data, add, din[0] ? din[0]->data : NULL, din[1] ? din[1]->data : NULL,
                       din[2] ? din[2]->data : NULL);
}
static const mde_op mde__op_rms_norm = { "rms_norm", 2, mde__rms_norm_shape, mde__norm_forward, mde__norm_vjp,
                                         mde__norm_vjp_fast };
static const mde_op mde__op_layer_norm = { "layer_norm", 3, mde__layer_norm_shape, mde__norm_forward, mde__norm_vjp,
                                           mde__norm_vjp_fast };

/* ---- Rows by number ---- */

/* args: p ids, i[0] their count */
static int mde__check_ids(mde_context *c, const char *op, const mde_args *args, int64_t limit)
{
    const int32_t *ids = (const int32_t *)args->p;
    for (int64_t i = 0; ids && i < args->i[0]; i++) {
        if (ids[i] >= 0 && ids[i] < limit) continue;
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: id %lld is %d; expected 0 to %lld", op, (long long)i, (int)ids[i],
                         (long long)limit - 1);
    }
    return ids != NULL;
}

/* 1 for a matrix; else an error that begins with `what`. */
static int mde__check_matrix(mde_context *c, const char *what, const mde_tensor *x, const char *expected)
{
    char a[128];
    return x->rank == 2 || !mde_fail(c, MDE_BAD_SHAPE, "%s %s; expected %s", what, mde__shape_text(x, a), expected);
}

static int mde__gather_shape(MDE__SHAPE)
{
    if (!mde__check_matrix(c, "gather: the table is", in[0], "[n, width]")) return 0;
    out->rank = 2;
    out->shape[0] = args->i[0];
    out->shape[1] = in[0]->shape[1];
    return mde__check_ids(c, "gather", args, in[0]->shape[0]);
}

static void mde__gather_forward(MDE__FORWARD)
{
    const int32_t *ids = (const int32_t *)node->args.p;
    int64_t width = node->out->shape[1], i;
    for (i = 0; i < node->args.i[0]; i++) {
        memcpy(node->out->data + i * width, node->in[0]->data + ids[i] * width, (size_t)width * sizeof(float));
    }
}

static void mde__gather_vjp(MDE__VJP)
{
    din[0] = mde_scatter_add(c, g, node->in[0]->shape[0], (const int32_t *)node->args.p);
}

/* out [.., width] += rows of x [count, width], by number */
MDE__WARM
static void mde__add_rows_by_id(int64_t count, int64_t width, const int32_t *ids, const float *x, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        float *to = out + ids[i] * width;
        const float *from = x + i * width;
        for (int64_t j = 0; j < width; j++) to[j] += from[j];
    }
}

static void mde__gather_vjp_fast(MDE__VJP)
{
    din[0] = mde__sink_of_sums(c, node, 0);
    if (!din[0]) return;
    mde__add_rows_by_id(node->args.i[0], mde__last(g), (const int32_t *)node->args.p, g->data, din[0]->data);
}
static const mde_op mde__op_gather = { "gather", 1, mde__gather_shape, mde__gather_forward, mde__gather_vjp,
                                       mde__gather_vjp_fast };

/* args: p ids, i[0] their count, i[1] rows of the result */
static int mde__scatter_shape(MDE__SHAPE)
{
    if (!mde__check_matrix(c, "scatter_add: x is", in[0], "[count, width]")) return 0;
    out->rank = 2;
    out->shape[0] = args->i[1];
    out->shape[1] = in[0]->shape[1];
    return mde__check_ids(c, "scatter_add", args, args->i[1]);
}

static void mde__scatter_forward(MDE__FORWARD)
{
    memset(node->out->data, 0, node->out->count * sizeof(float));
    mde__add_rows_by_id(node->args.i[0], node->out->shape[1], (const int32_t *)node->args.p, node->in[0]->data,
                        node->out->data);
}

static void mde__scatter_vjp(MDE__VJP)
{
    din[0] = mde_gather(c, g, node->args.i[0], (const int32_t *)node->args.p);
}
static const mde_op mde__op_scatter_add = { "scatter_add", 1, mde__scatter_shape, mde__scatter_forward,
                                            mde__scatter_vjp, NULL };

/* Tokens with their positions: out row r = table[ids[r]] + positions[i[1] + r % i[2]]; in: table [n, width], positions
   [m, width]; args: p ids, i[0] their count, i[1] first position, i[2] positions until they begin anew */
static int mde__embed_shape(MDE__SHAPE)
{
    char a[128], b[128];
    if (in[0]->rank != 2 || in[1]->rank != 2 || in[0]->shape[1] != in[1]->shape[1] || args->i[1] < 0 || args->i[2] < 1
        || args->i[1] > in[1]->shape[0] - args->i[2] || args->i[0] % args->i[2] != 0) {
        return !mde_fail(c, MDE_BAD_SHAPE, "embed: the table is %s, positions are %s, of them %lld from %lld on; "
                         "expected [n, width] and [m, width] with so many", mde__shape_text(in[0], a),
                         mde__shape_text(in[1], b), (long long)args->i[2], (long long)args->i[1]);
    }
    out->rank = 2;
    out->shape[0] = args->i[0];
    out->shape[1] = in[0]->shape[1];
    return mde__check_ids(c, "embed", args, in[0]->shape[0]);
}

MDE__WARM
static void mde__embed_forward(MDE__FORWARD)
{
    const int32_t *ids = (const int32_t *)node->args.p;
    int64_t count = node->args.i[0], start = node->args.i[1], time = node->args.i[2];
    int64_t width = node->out->shape[1], r, i;
    for (r = 0; r < count; r++) {
        const float *token = node->in[0]->data + ids[r] * width;
        const float *position = node->in[1]->data + (start + r % time) * width;
        float *to = node->out->data + r * width;
        for (i = 0; i < width; i++) to[i] = token[i] + position[i];
    }
}

static void mde__embed_vjp(MDE__VJP)
{
    int64_t start = node->args.i[1], time = node->args.i[2];
    const int64_t shape[3] = { node->args.i[0] / time, time, mde__last(g) };
    mde_tensor *sum;
    if (want & 1) din[0] = mde_scatter_add(c, g, node->in[0]->shape[0], (const int32_t *)node->args.p);
    if (!(want & 2)) return;
    sum = mde_sum_to(c, mde_reshape(c, g, 3, shape), 2, shape + 1);
    din[1] = mde_pad(c, sum, 0, start, node->in[1]->shape[0] - start - time);
}

static void mde__embed_vjp_fast(MDE__VJP)
{
    int64_t count = node->args.i[0], start = node->args.i[1], time = node->args.i[2], width = mde__last(g), r, i;
    if (want & 1) din[0] = mde__sink_of_sums(c, node, 0);
    if (want & 2) din[1] = mde__sink_of_sums(c, node, 1);
    if (mde__bad(c)) return;
    if (din[0]) mde__add_rows_by_id(count, width, (const int32_t *)node->args.p, g->data, din[0]->data);
    for (r = 0; din[1] && r < count; r++) {
        float *to = din[1]->data + (start + r % time) * width;
        for (i = 0; i < width; i++) to[i] += g->data[r * width + i];
    }
}
static const mde_op mde__op_embed = { "embed", 2, mde__embed_shape, mde__embed_forward, mde__embed_vjp,
                                      mde__embed_vjp_fast };

/* args: p targets, i[0] their count */
static int mde__cross_entropy_shape(MDE__SHAPE)
{
    if (!mde__check_matrix(c, "cross_entropy: logits are", in[0], "[rows, classes]")) return 0;
    out->rank = 1;
    out->shape[0] = in[0]->shape[0];
    return mde__check_ids(c, "cross_entropy", args, in[0]->shape[1]);
}

static void mde__cross_entropy_forward(MDE__FORWARD)
{
    int64_t rows = mde__rows(node->in[0]);
    node->saved = (float *)mde_scratch(c, (size_t)rows, sizeof *node->saved);
    if (!node->saved) return;
    mde__cross_entropy_rows(c, rows, mde__last(node->in[0]), node->in[0]->data, (const int32_t *)node->args.p,
                            node->out->data, node->saved);
}

/* softmax - one_hot of logits [rows, classes] */
static mde_tensor *mde__softmax_less_targets(mde_context *c, mde_tensor *logits, const int32_t *targets)
{
    mde_tensor *one_hot = logits ? mde_tensor_create(c, 2, logits->shape) : NULL;
    for (int64_t i = 0; one_hot && i < logits->shape[0]; i++) one_hot->data[i * logits->shape[1] + targets[i]] = 1.0f;
    return one_hot ? mde_sub(c, mde_softmax(c, logits), one_hot) : NULL;
}

static void mde__cross_entropy_vjp(MDE__VJP)
{
    const int64_t column[2] = { node->in[0]->shape[0], 1 };
    din[0] = mde_mul(c, mde__softmax_less_targets(c, node->in[0], (const int32_t *)node->args.p),
                     mde_reshape(c, g, 2, column));
}

static void mde__cross_entropy_vjp_fast(MDE__VJP)
{
    const mde_tensor *x = node->in[0];
    din[0] = mde__sink_to_set(c, node, 0);
    if (!din[0]) return;
    mde__cross_entropy_rows_vjp(c, mde__rows(x), mde__last(x), x->data, (const int32_t *)node->args.p, node->saved,
                                g->data, din[0]->data);
}
static const mde_op mde__op_cross_entropy = { "cross_entropy", 1, mde__cross_entropy_shape, mde__cross_entropy_forward,
                                              mde__cross_entropy_vjp, mde__cross_entropy_vjp_fast };

/* ---- Attention ---- */

/* args: f[0] base, i[0] start, i[1] inverse */
static int mde__rope_shape(MDE__SHAPE)
{
    char a[128];
    if (in[0]->rank != 4 || in[0]->shape[3] % 2) {
        return !mde_fail(c, MDE_BAD_SHAPE, "rope: x is %s; expected [batch, time, heads, dim] with an even dim",
                         mde__shape_text(in[0], a));
    }
    return mde__take_shape(out, in[0]);
}

/* Cosines [time, half] and then sines of the angles of positions from `start` on; NULL and an error. slowed [half]:
   factors of the frequencies, or NULL. */
static float *mde__rope_table(mde_context *c, double base, int64_t start, int64_t time, int64_t half,
                              const double *slowed)
{
    float *table = (float *)mde_scratch(c, (size_t)(time * half) * 2, sizeof *table);
    for (int64_t i = 0; table && i < half; i++) {
        double frequency = mde__pow64(base, -(double)i / (double)half);
        if (slowed) frequency *= slowed[i];
        for (int64_t t = 0; t < time; t++) {
            double angle = (double)(start + t) * frequency;
            table[t * half + i] = (float)mde__cos64(angle);
            table[(time + t) * half + i] = (float)mde__sin64(angle);
        }
    }
    return table;
}

/* shape: [batch, time, heads, dim]; table: of mde__rope_table for its times. */
static mde__rotation mde__rotation_of(const int64_t *shape, int64_t rotated, const float *table, int inverse)
{
    mde__rotation r;
    r.batch = shape[0];
    r.time = shape[1];
    r.heads = shape[2];
    r.dim = shape[3];
    r.rotated = rotated;
    r.cosines = table;
    r.sines = table + r.time * (r.dim / 2);
    r.inverse = inverse;
    return r;
}

static void mde__rope_forward(MDE__FORWARD)
{
    const mde_tensor *x = node->in[0];
    int64_t time = x->shape[1], half = x->shape[3] / 2;
    mde_mark mark = mde_arena_mark(c);
    const float *table = (const float *)node->args.p;
    if (!table) table = mde__rope_table(c, node->args.f[0], node->args.i[0], time, half, NULL);
    if (table) {
        mde__rotation rotation = mde__rotation_of(x->shape, x->shape[2], table, (int)node->args.i[1]);
        mde__rotate_heads(c, &rotation, x->data, node->out->data);
    }
    mde_arena_rewind(c, mark);
}

/* A rotation: its transpose rotates back. */
static void mde__rope_vjp(MDE__VJP)
{
    mde_args args = node->args;
    args.i[1] = !args.i[1];
    din[0] = mde_apply(c, node->op, &g, &args);
}
static const mde_op mde__op_rope = { "rope", 1, mde__rope_shape, mde__rope_forward, mde__rope_vjp, NULL };

/* table: of mde__rope_table for these positions, or NULL to make it when it is needed. */
static mde_tensor *mde__apply_rope(mde_context *c, mde_tensor *x, double base, int64_t start, int inverse,
                                   const void *table)
{
    mde_args args = mde__make_args(start, inverse, 0, base, 0, table);
    return mde_apply(c, &mde__op_rope, &x, &args);
}

/* args: f[0] scale, i[0] causal */
static int mde__attention_out_shape(MDE__SHAPE)
{
    const mde_tensor *q = in[0], *k = in[1], *v = in[2];
    char x[128], y[128], z[128];
    int good = q->rank == 4 && k->rank == 4 && mde__same_shape(k, v);
    if (good) good = q->shape[0] == k->shape[0] && q->shape[3] == k->shape[3] && q->shape[2] % k->shape[2] == 0;
    if (good && args->i[0]) good = k->shape[1] >= q->shape[1];
    if (!good) {
        return !mde_fail(c, MDE_BAD_SHAPE, "attention: q is %s, k is %s, v is %s; expected q [batch, time, heads, "
                         "dim], k and v [batch, keys, kv_heads, dim], kv_heads a divisor of heads, and with a mask no "
                         "fewer keys than queries", mde__shape_text(q, x), mde__shape_text(k, y),
                         mde__shape_text(v, z));
    }
    return mde__take_shape(out, q);
}

/* Of both forms: queries, keys and values as three tensors, or side by side in one (packed). */
static mde__attention_shape mde__attention_sizes(const mde_node *node)
{
    int packed = node->op->inputs == 1;
    const mde_tensor *q = node->in[0], *k = packed ? q : node->in[1];
    mde__attention_shape s;
    s.batch = q->shape[0];
    s.time_q = q->shape[1];
    s.time_k = k->shape[1];
    s.kv_heads = packed ? node->args.i[1] : k->shape[2];
    s.heads = q->shape[2] - (packed ? 2 * s.kv_heads : 0);
    s.dim = q->shape[3];
    s.causal = (int)node->args.i[0];
    s.stride_q = s.stride_k = packed ? q->shape[2] * s.dim : 0;
    return s;
}

/* The first input with its queries and keys rotated: a copy in the arena, or itself where nothing is rotated. */
static const float *mde__attention_rotated(mde_context *c, const mde_node *node, const mde__attention_shape *s)
{
    const mde_tensor *x = node->in[0];
    float *rotated;
    if (node->args.f[1] == 0) return x->data;
    rotated = (float *)mde_scratch(c, x->count, sizeof *rotated);
    if (rotated) {
        mde__rotation r = mde__rotation_of(x->shape, s->heads + s->kv_heads, (const float *)node->args.p, 0);
        mde__rotate_heads(c, &r, x->data, rotated);
    }
    return rotated;
}

/* Output and logsumexp are the node's; x is its first input, rotated. */
static mde__attention_call mde__attention_call_of(const mde_node *node, const mde__attention_shape *s, const float *x,
                                                  float *scratch)
{
    int packed = node->op->inputs == 1;
    mde__attention_call call;
    memset(&call, 0, sizeof call);
    call.s = *s;
    call.q = x;
    call.k = packed ? x + s->heads * s->dim : node->in[1]->data;
    call.v = packed ? x + (s->heads + s->kv_heads) * s->dim : node->in[2]->data;
    call.out = node->out->data;
    call.logsumexp = node->saved;
    call.scale = (float)node->args.f[0];
    call.scratch = scratch;
    return call;
}

static void mde__attention_forward(MDE__FORWARD)
{
    mde__attention_shape s = mde__attention_sizes(node);
    mde_mark mark;
    const float *x;
    float *scratch;
    node->saved = (float *)mde_scratch(c, (size_t)(s.batch * s.heads * s.time_q), sizeof *node->saved);
    mark = mde_arena_mark(c);
    scratch = (float *)mde_scratch(c, mde__attention_scratch(c, &s), sizeof *scratch);
    x = mde__attention_rotated(c, node, &s);
    if (node->saved && scratch && x) {
        mde__attention_call call = mde__attention_call_of(node, &s, x, scratch);
        mde__attend(c, &call);
    }
    mde_arena_rewind(c, mark);
}

static void mde__attention_vjp_fast(MDE__VJP)
{
    mde__attention_shape s = mde__attention_sizes(node);
    int inputs = node->op->inputs, good = 1;
    mde_tensor *d[3];
    float *scratch;
    const float *x;
    mde_mark mark;
    for (int k = 0; k < inputs; k++) good &= (d[k] = mde__sink_to_set(c, node, k)) != NULL;
    mark = mde_arena_mark(c);
    scratch = (float *)mde_scratch(c, mde__attention_vjp_scratch(c, &s), sizeof *scratch);
    x = mde__attention_rotated(c, node, &s);
    if (good && scratch && x) {
        mde__attention_call call = mde__attention_call_of(node, &s, x, scratch);
        call.g = g->data;
        call.dq = d[0]->data;
        call.dk = inputs == 1 ? d[0]->data + s.heads * s.dim : d[1]->data;
        call.dv = inputs == 1 ? d[0]->data + (s.heads + s.kv_heads) * s.dim : d[2]->data;
        mde__attention_vjp(c, &call);
        if (node->args.f[1] != 0) {
            mde__rotation r = mde__rotation_of(d[0]->shape, s.heads + s.kv_heads, (const float *)node->args.p, 1);
            mde__rotate_heads(c, &r, d[0]->data, d[0]->data);
        }
        for (int k = 0; k < inputs; k++) din[k] = d[k];
    }
    mde_arena_rewind(c, mark);
}

/* [batch, time, heads, dim] to [batch, heads, time, dim] and back. */
static mde_tensor *mde__swap_time_and_heads(mde_context *c, mde_tensor *x)
{
    static const int order[4] = { 0, 2, 1, 3 };
    return mde_permute(c, x, order);
}

/* Keys or values [batch, keys, kv_heads, dim] as [batch, heads, keys, dim], each head of a group seeing the same. */
static mde_tensor *mde__repeat_heads(mde_context *c, mde_tensor *x, int64_t heads)
{
    int64_t batch = x->shape[0], keys = x->shape[1], kv_heads = x->shape[2], dim = x->shape[3];
    const int64_t single[5] = { batch, kv_heads, 1, keys, dim }, repeated[4] = { batch, heads, keys, dim };
    const int64_t groups[5] = { batch, kv_heads, heads / kv_heads, keys, dim };
    mde_tensor *t = mde_reshape(c, mde__swap_time_and_heads(c, x), 5, single);
    return mde_reshape(c, mde_broadcast_to(c, t, 5, groups), 4, repeated);
}

/* The transpose of mde__repeat_heads: sums over each group. */
static mde_tensor *mde__fold_heads(mde_context *c, mde_tensor *x, const mde_tensor *like)
{
    int64_t batch = like->shape[0], keys = like->shape[1], kv_heads = like->shape[2], dim = like->shape[3];
    const int64_t groups[5] = { batch, kv_heads, x ? x->shape[1] / kv_heads : 1, keys, dim };
    const int64_t single[5] = { batch, kv_heads, 1, keys, dim }, folded[4] = { batch, kv_heads, keys, dim };
    x = mde_sum_to(c, mde_reshape(c, x, 5, groups), 5, single);
    return mde__swap_time_and_heads(c, mde_reshape(c, x, 4, folded));
}

/* Probabilities [batch, heads, time, keys] in ops. */
static mde_tensor *mde__attention_probabilities(mde_context *c, mde_tensor *q, mde_tensor *k, double scale, int causal)
{
    mde_tensor *scores = mde_affine(c, mde_matmul_t(c, q, k, 0, 1), scale, 0), *mask;
    int64_t time, keys, i, j;
    if (!scores || !causal) return mde_softmax(c, scores);
    time = scores->shape[2];
    keys = scores->shape[3];
    mask = mde_tensor_create(c, 2, scores->shape + 2);
    for (i = 0; mask && i < time; i++) {
        for (j = i + 1 + keys - time; j < keys; j++) mask->data[i * keys + j] = -1e30f;
    }
    return mde_softmax(c, mde_add(c, scores, mask));
}

/* With P the probabilities: dv = P^T g, dS = P (dP - sum dP P) with dP = g v^T, dq = scale dS k, dk = scale dS^T q. */
static void mde__attention_vjp_ops(MDE__VJP)
{
    double scale = node->args.f[0];
    int64_t heads = node->in[0]->shape[2];
    mde_tensor *q = mde__swap_time_and_heads(c, node->in[0]), *k = mde__repeat_heads(c, node->in[1], heads);
    mde_tensor *v = mde__repeat_heads(c, node->in[2], heads), *out = mde__swap_time_and_heads(c, g), *dp, *ds;
    mde_tensor *p = mde__attention_probabilities(c, q, k, scale, (int)node->args.i[0]);
    dp = mde_matmul_t(c, out, v, 0, 1);
    ds = mde_affine(c, mde_mul(c, p, mde_sub(c, dp, mde__sum_last(c, mde_mul(c, dp, p), 1))), scale, 0);
    if (want & 1) din[0] = mde__swap_time_and_heads(c, mde_matmul(c, ds, k));
    if (want & 2) din[1] = mde__fold_heads(c, mde_matmul_t(c, ds, q, 1, 0), node->in[1]);
    if (want & 4) din[2] = mde__fold_heads(c, mde_matmul_t(c, p, out, 1, 0), node->in[2]);
}
static const mde_op mde__op_attention = { "attention", 3, mde__attention_out_shape, mde__attention_forward,
                                          mde__attention_vjp_ops, mde__attention_vjp_fast };

/* Attention on queries, keys and values side by side: in [batch, time, heads + 2 kv_heads, dim]. args: f[0] scale,
   i[0] causal, i[1] kv_heads, f[1] base of the rotation of queries and keys (0: none), p its table or NULL */
static int mde__packed_attention_shape(MDE__SHAPE)
{
    const mde_tensor *x = in[0];
    int64_t kv_heads = args->i[1];
    char a[128];
    if (x->rank == 4 && kv_heads >= 1 && kv_heads <= x->shape[2] / 3 && (x->shape[2] - 2 * kv_heads) % kv_heads == 0
        && (args->f[1] == 0 || x->shape[3] % 2 == 0)) {
        mde__take_shape(out, x);
        out->shape[2] -= 2 * kv_heads;
        return 1;
    }
    return !mde_fail(c, MDE_BAD_SHAPE, "packed_attention: x is %s, kv_heads is %lld; expected [batch, time, heads + 2 "
                     "kv_heads, dim], kv_heads a divisor of heads, and an even dim for rotary positions",
                     mde__shape_text(x, a), (long long)kv_heads);
}

/* By the ops that it is made of. */
static void mde__packed_attention_vjp(MDE__VJP)
{
    mde__attention_shape s = mde__attention_sizes(node);
    double base = node->args.f[1];
    mde_tensor *q = mde_slice(c, node->in[0], 2, 0, s.heads), *d[MDE_MAX_INPUTS];
    mde_tensor *k = mde_slice(c, node->in[0], 2, s.heads, s.kv_heads);
    mde_node inner = *node;
    inner.in[0] = base != 0 ? mde__apply_rope(c, q, base, 0, 0, node->args.p) : q;
    inner.in[1] = base != 0 ? mde__apply_rope(c, k, base, 0, 0, node->args.p) : k;
    inner.in[2] = mde_slice(c, node->in[0], 2, s.heads + s.kv_heads, s.kv_heads);
    if (mde__bad(c)) return;
    mde__attention_vjp_ops(c, &inner, g, 7, d);
    if (base != 0) {
        d[0] = mde__apply_rope(c, d[0], base, 0, 1, node->args.p);
        d[1] = mde__apply_rope(c, d[1], base, 0, 1, node->args.p);
    }
    din[0] = mde_concat(c, mde_concat(c, d[0], d[1], 2), d[2], 2);
}
static const mde_op mde__op_packed_attention = { "packed_attention", 1, mde__packed_attention_shape,
                                                 mde__attention_forward, mde__packed_attention_vjp,
                                                 mde__attention_vjp_fast };

/* table: of mde__rope_table, from position 0 on, or NULL to make it here. */
static mde_tensor *mde__apply_packed_attention(mde_context *c, mde_tensor *x, int64_t kv_heads, double scale,
                                               int causal, double base, const float *table)
{
    mde_args args;
    if (mde__bad(c)) return NULL;
    if (x && x->rank == 4 && base != 0 && !table) {
        table = mde__rope_table(c, base, 0, x->shape[1], x->shape[3] / 2, NULL);
        if (!table) return NULL;
    }
    args = mde__make_args(causal != 0, kv_heads, 0, scale, base, table);
    return mde_apply(c, &mde__op_packed_attention, &x, &args);
}

/* ---- Linear layers ---- */

static void mde__multiply(mde_context *c, mde_product p, int accumulate, float *out)
{
    mde_mark mark = mde_arena_mark(c);
    float *workspace;
    p.accumulate = accumulate;
    p.out = out;
    if (p.m == 1 && !p.transpose_b) {
        mde__row_product(c, p.n, p.k, p.a, p.b, accumulate, out);
        return;
    }
    workspace = (float *)mde_scratch(c, mde__gemm_workspace(c, p.m, p.n, p.k), sizeof *workspace);
    if (workspace) mde__gemm_threaded(c, &p, workspace);
    mde_arena_rewind(c, mark);
}

/* out = f(x) W + bias + residual in one op: f, a row of the table or nothing, is computed anew on the way back rather
   than kept. in: x [rows, ..] and what f takes besides it, in f's order, then W [k, n] (or [n, k], transposed),
   bias [n], residual [rows, n]. args: i[0] transposed, i[1] bits of the inputs that are there (others are a scalar that
   no one looks at), p f, f[0] f's epsilon */
enum { MDE__X, MDE__GAIN, MDE__SHIFT, MDE__WEIGHT, MDE__BIAS, MDE__RESIDUAL, MDE__LINEAR_INPUTS };
#define MDE__WANTS_X (1u << MDE__X | 1u << MDE__GAIN | 1u << MDE__SHIFT)    /* gradients that go through W */

static int mde__linear_has(const mde_node *node, int input)
{
    return (int)(node->args.i[1] >> input) & 1;
}

static int mde__linear_shape(MDE__SHAPE)
{
    const mde_op *before = (const mde_op *)args->p;
    const mde_tensor *x = in[MDE__X], *w = in[MDE__WEIGHT], *bias = in[MDE__BIAS], *residual = in[MDE__RESIDUAL];
    int transposed = (int)args->i[0], good;
    char a[128], b[128], d[128], e[128];
    mde_tensor middle;
    if (before && !before->shape(c, in, args, &middle)) return 0;
    if (!before) mde__take_shape(&middle, x);
    good = x->rank == 2 && w->rank == 2 && middle.shape[1] == w->shape[transposed ? 1 : 0];
    if (good) {
        out->rank = 2;
        out->shape[0] = x->shape[0];
        out->shape[1] = w->shape[transposed ? 0 : 1];
        if (args->i[1] >> MDE__BIAS & 1) good = bias->rank == 1 && bias->shape[0] == out->shape[1];
        if (good && (args->i[1] >> MDE__RESIDUAL & 1)) good = mde__same_shape(residual, out);
    }
    if (good) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "linear: x is %s, the weight %s%s, the bias %s, the residual %s; expected "
                     "[rows, k], [k, n], [n], [rows, n]", mde__shape_text(x, a), mde__shape_text(w, b),
                     transposed ? " transposed" : "",
                     args->i[1] >> MDE__BIAS & 1 ? mde__shape_text(bias, d) : "not there",
                     args->i[1] >> MDE__RESIDUAL & 1 ? mde__shape_text(residual, e) : "not there");
}

/* f as a node of its own; its output is yet to be made. */
static mde_node mde__linear_before(const mde_node *node)
{
    mde_node inner = *node;
    inner.op = (const mde_op *)node->args.p;
    inner.out = NULL;
    return inner;
}

/* f(x) [rows, k], in `out` or if that is NULL in the arena; x without f. */
static const float *mde__linear_input(mde_context *c, const mde_node *node, int64_t rows, int64_t k, mde_tensor *out)
{
    mde_node inner = mde__linear_before(node);
    const int64_t shape[2] = { rows, k };
    if (!inner.op) return node->in[MDE__X]->data;
    inner.out = out ? out : mde__tensor_new(c, 2, shape);
    if (!inner.out) return NULL;
    inner.op->forward(c, &inner);
    return mde__bad(c) ? NULL : inner.out->data;
}

static void mde__linear_forward(MDE__FORWARD)
{
    int transposed = (int)node->args.i[0], has_bias = mde__linear_has(node, MDE__BIAS);
    int64_t rows = node->out->shape[0], n = node->out->shape[1], k = node->in[MDE__WEIGHT]->shape[transposed ? 1 : 0];
    float *out = node->out->data;
    const float *x;
    mde_mark mark;
    /* What a norm keeps. */
    if (mde__linear_has(node, MDE__GAIN)) {
        node->saved = (float *)mde_scratch(c, (size_t)rows * 2, sizeof *node->saved);
        if (!node->saved) return;
    }
    mark = mde_arena_mark(c);
    x = mde__linear_input(c, node, rows, k, NULL);
    if (x) {
        if (has_bias) mde__repeat_row(c, rows, n, node->in[MDE__BIAS]->data, out);
        mde__multiply(c, mde_product_of(0, transposed, rows, n, k, x, node->in[MDE__WEIGHT]->data), has_bias, out);
        if (mde__linear_has(node, MDE__RESIDUAL)) mde__vadd(c, rows * n, node->in[MDE__RESIDUAL]->data, out, out);
    }
    mde_arena_rewind(c, mark);
}

static void mde__linear_vjp_fast(MDE__VJP)
{
    int transposed = (int)node->args.i[0], adds = 0;
    int64_t rows = g->shape[0], n = g->shape[1], k = node->in[MDE__WEIGHT]->shape[transposed ? 1 : 0];
    const int64_t shape[2] = { rows, k };
    mde_node inner = mde__linear_before(node);
    mde_tensor *dx = NULL;      /* where that of f(x) goes */
    unsigned wants_x = want & MDE__WANTS_X;
    /* An elementwise f works in place. */
    if (wants_x && !inner.op) dx = mde__sink(c, node, MDE__X, &adds);
    else if (wants_x && inner.op->inputs == 1 && (int64_t)node->in[MDE__X]->count == rows * k) {
        dx = mde__sink_to_set(c, node, MDE__X);
    }
    if ((want >> MDE__WEIGHT) & 1) {
        int adds_weight;
        mde_tensor *to = mde__sink(c, node, MDE__WEIGHT, &adds_weight);
        mde_mark mark = mde_arena_mark(c);
        const float *x = mde__linear_input(c, node, rows, k, dx);
        if (to && x) {
            mde_product p = transposed ? mde_product_of(1, 0, n, k, rows, g->data, x)
                                       : mde_product_of(1, 0, k, n, rows, x, g->data);
            mde__multiply(c, p, adds_weight, to->data);
        }
        mde_arena_rewind(c, mark);
        din[MDE__WEIGHT] = to;
    }
    if ((want >> MDE__BIAS) & 1) {
        int adds_bias;
        din[MDE__BIAS] = mde__sink(c, node, MDE__BIAS, &adds_bias);
        if (!mde__bad(c)) mde__sum_columns(c, rows, n, g->data, adds_bias, din[MDE__BIAS]->data);
    }
    if ((want >> MDE__RESIDUAL) & 1) din[MDE__RESIDUAL] = g;
    if (!wants_x) return;
    if (!dx) dx = mde__tensor_new(c, 2, shape);
    if (mde__bad(c)) return;
    mde__multiply(c, mde_product_of(0, !transposed, rows, k, n, g->data, node->in[MDE__WEIGHT]->data), adds, dx->data);
    if (!inner.op) din[MDE__X] = dx;
    else if (!mde__bad(c)) inner.op->vjp_fast(c, &inner, dx, wants_x, din);
}

/* By the ops that it is made of. */
static void mde__linear_vjp(MDE__VJP)
{
    int transposed = (int)node->args.i[0];
    mde_node inner = mde__linear_before(node);
    mde_tensor *dx, *x = inner.op ? mde_apply(c, inner.op, inner.in, &inner.args) : node->in[MDE__X];
    if (mde__bad(c)) return;
    if ((want >> MDE__WEIGHT) & 1) {
        din[MDE__WEIGHT] = transposed ? mde_matmul_t(c, g, x, 1, 0) : mde_matmul_t(c, x, g, 1, 0);
    }
    if ((want >> MDE__BIAS) & 1) din[MDE__BIAS] = mde_sum_to(c, g, 1, node->in[MDE__BIAS]->shape);
    if ((want >> MDE__RESIDUAL) & 1) din[MDE__RESIDUAL] = g;
    dx = mde_matmul_t(c, g, node->in[MDE__WEIGHT], 0, !transposed);
    inner.out = x;
    if (!inner.op) din[MDE__X] = dx;
    else if (dx) inner.op->vjp(c, &inner, dx, want & MDE__WANTS_X, din);
}
static const mde_op mde__op_linear = { "linear", MDE__LINEAR_INPUTS, mde__linear_shape, mde__linear_forward,
                                       mde__linear_vjp, mde__linear_vjp_fast };

/* f is `before`, a row of the table; it, bias, residual and of a norm gain and shift may be NULL. */
typedef struct mde__linear_inputs {
    const mde_op *before;
    mde_tensor *x, *gain, *shift, *weight, *bias, *residual;
    double epsilon;
    int transposed;
} mde__linear_inputs;

static mde_tensor *mde__apply_linear(mde_context *c, const mde__linear_inputs *l)
{
    mde_tensor *in[MDE__LINEAR_INPUTS] = { l->x, l->gain, l->shift, l->weight, l->bias, l->residual }, *absent;
    mde_args args = mde__make_args(l->transposed != 0, 0, 0, l->epsilon, 0, l->before);
    mde__require(c, l->x && l->weight, "linear: %s is NULL", l->x ? "the weight" : "x");
    if (mde__bad(c)) return NULL;
    absent = mde_scalar(c, 0);
    for (int i = 0; i < MDE__LINEAR_INPUTS; i++) {
        if (in[i]) args.i[1] |= (int64_t)1 << i;
        else in[i] = absent;
    }
    return mde_apply(c, &mde__op_linear, in, &args);
}

/* The mean of cross_entropy(x W^T, targets): in x [rows, k], W [classes, k]; args as cross_entropy's. Logits are made
   some rows at a time and not kept: where a gradient may be wanted, it is computed with them and saved, that of x
   first, then that of W. */
#define MDE__LOGITS (1 << 20)           /* held at one time, about */
#define MDE__LOGIT_ROWS 192             /* but at least so many rows: fewer would make slow products */

static int mde__linear_cross_entropy_shape(MDE__SHAPE)
{
    char a[128], b[128];
    if (in[0]->rank != 2 || in[1]->rank != 2 || in[0]->shape[1] != in[1]->shape[1]) {
        return !mde_fail(c, MDE_BAD_SHAPE, "linear_cross_entropy: x is %s, the weight %s; expected [rows, k] and "
                         "[classes, k]", mde__shape_text(in[0], a), mde__shape_text(in[1], b));
    }
    out->rank = 1;
    out->shape[0] = 1;
    return mde__check_ids(c, "linear_cross_entropy", args, in[1]->shape[0]);
}

static void mde__linear_cross_entropy_forward(MDE__FORWARD)
{
    const mde_tensor *x = node->in[0], *w = node->in[1];
    const int32_t *targets = (const int32_t *)node->args.p;
    int64_t rows = x->shape[0], k = x->shape[1], classes = w->shape[0], at, size;
    int64_t block_rows = MDE__LOGITS / classes > MDE__LOGIT_ROWS ? MDE__LOGITS / classes : MDE__LOGIT_ROWS;
    int wanted = c->recording && (x->requires_grad || w->requires_grad);
    float *logits, *losses, *logsumexp, *g;
    mde_mark mark;
    if (wanted) {
        node->saved = (float *)mde_scratch(c, x->count + w->count, sizeof *node->saved);
        if (!node->saved) return;
    }
    if (block_rows > rows) block_rows = rows;
    mark = mde_arena_mark(c);
    logits = (float *)mde_scratch(c, (size_t)block_rows, (size_t)classes * sizeof *logits);
    losses = (float *)mde_scratch(c, (size_t)rows, sizeof *losses);
    logsumexp = (float *)mde_scratch(c, (size_t)block_rows, sizeof *logsumexp);
    g = (float *)mde_scratch(c, (size_t)block_rows, sizeof *g);
    for (at = 0; !mde__bad(c) && at < block_rows; at++) g[at] = (float)(1.0 / (double)rows);
    for (at = 0; !mde__bad(c) && at < rows; at += size) {
        const float *part = x->data + at * k;
        size = mde__min(rows - at, block_rows);
        mde__multiply(c, mde_product_of(0, 1, size, classes, k, part, w->data), 0, logits);
        mde__cross_entropy_rows(c, size, classes, logits, targets + at, losses + at, logsumexp);
        if (!wanted) continue;
        mde__cross_entropy_rows_vjp(c, size, classes, logits, targets + at, logsumexp, g, logits);
        mde__multiply(c, mde_product_of(0, 0, size, k, classes, logits, w->data), 0, node->saved + at * k);
        mde__multiply(c, mde_product_of(1, 0, classes, k, size, logits, part), at > 0, node->saved + x->count);
    }
    if (!mde__bad(c)) node->out->data[0] = mde__sum_all(c, rows, losses) * (float)(1.0 / (double)rows);
    mde_arena_rewind(c, mark);
}

static void mde__linear_cross_entropy_vjp_fast(MDE__VJP)
{
    const float *saved = node->saved;
    for (int k = 0; k < 2; k++) {
        int64_t count = (int64_t)node->in[k]->count;
        int adds = 0;
        if ((want >> k) & 1) din[k] = mde__sink(c, node, k, &adds);
        if (mde__bad(c)) return;
        if (din[k] && adds) mde__vaxpy(c, count, g->data[0], saved, din[k]->data);
        else if (din[k]) mde__vaffine(c, count, saved, g->data[0], 0, din[k]->data);
        saved += count;
    }
}

static void mde__linear_cross_entropy_vjp(MDE__VJP)
{
    mde_tensor *x = node->in[0], *w = node->in[1];
    mde_tensor *d = mde__softmax_less_targets(c, mde_matmul_t(c, x, w, 0, 1), (const int32_t *)node->args.p);
    d = mde_mul(c, d, mde_affine(c, g, 1.0 / (double)x->shape[0], 0));
    if (want & 1) din[0] = mde_matmul(c, d, w);
    if (want & 2) din[1] = mde_matmul_t(c, d, x, 1, 0);
}
static const mde_op mde__op_linear_cross_entropy = { "linear_cross_entropy", 2, mde__linear_cross_entropy_shape,
                                                     mde__linear_cross_entropy_forward, mde__linear_cross_entropy_vjp,
                                                     mde__linear_cross_entropy_vjp_fast };

/* ---- The table, and the functions that users call ---- */

#define MDE__ROW(name) &mde__op_##name,
static const mde_op *const mde__ops[] = {
    MDE__BINARY_FUNCTIONS(MDE__ROW) MDE__PLAIN_FUNCTIONS(MDE__ROW) MDE__GATED_FUNCTIONS(MDE__ROW)
    &mde__op_affine, &mde__op_gate, &mde__op_pow, &mde__op_clip,
    &mde__op_reshape, &mde__op_permute, &mde__op_slice, &mde__op_pad, &mde__op_concat, &mde__op_broadcast_to,
    &mde__op_sum_to, &mde__op_matmul, &mde__op_softmax, &mde__op_log_softmax, &mde__op_rms_norm, &mde__op_layer_norm,
    &mde__op_gather, &mde__op_scatter_add, &mde__op_cross_entropy, &mde__op_rope, &mde__op_attention,
    &mde__op_embed, &mde__op_packed_swiglu, &mde__op_packed_attention, &mde__op_linear, &mde__op_linear_cross_entropy
};

MDEDEF int mde_op_count(void)
{
    return (int)(sizeof mde__ops / sizeof *mde__ops);
}

MDEDEF const mde_op *mde_op_row(int index)
{
    return index >= 0 && index < mde_op_count() ? mde__ops[index] : NULL;
}

MDEDEF mde_tensor *mde_gate(mde_context *c, mde_tensor *x, mde_tensor *y)
{
    return mde__apply3(c, &mde__op_gate, x, y, NULL, NULL);
}

MDEDEF mde_tensor *mde_softmax(mde_context *c, mde_tensor *x)
{
    return mde_apply(c, &mde__op_softmax, &x, NULL);
}

MDEDEF mde_tensor *mde_log_softmax(mde_context *c, mde_tensor *x)
{
    return mde_apply(c, &mde__op_log_softmax, &x, NULL);
}

MDEDEF mde_tensor *mde_affine(mde_context *c, mde_tensor *x, double scale, double shift)
{
    mde_args args = mde__make_args(0, 0, 0, scale, shift, NULL);
    return mde_apply(c, &mde__op_affine, &x, &args);
}

MDEDEF mde_tensor *mde_pow(mde_context *c, mde_tensor *x, double power)
{
    mde_args args = mde__make_args(0, 0, 0, power, 0, NULL);
    return mde_apply(c, &mde__op_pow, &x, &args);
}

MDEDEF mde_tensor *mde_clip(mde_context *c, mde_tensor *x, double low, double high)
{
    mde_args args = mde__make_args(0, 0, 0, low, high, NULL);
    return mde_apply(c, &mde__op_clip, &x, &args);
}

/* An op whose arguments are a shape: i[0..rank-1], rank in i[7]. */
static mde_tensor *mde__apply_shape(mde_context *c, const mde_op *op, mde_tensor *x, int rank, const int64_t *shape)
{
    mde_args args;
    if (mde__bad(c) || !mde__shape_count(c, op->name, rank, shape)) return NULL;
    memset(&args, 0, sizeof args);
    memcpy(args.i, shape, (size_t)rank * sizeof *shape);
    args.i[7] = rank;
    return mde_apply(c, op, &x, &args);
}

MDEDEF mde_tensor *mde_reshape(mde_context *c, mde_tensor *x, int rank, const int64_t *shape)
{
    return mde__apply_shape(c, &mde__op_reshape, x, rank, shape);
}

MDEDEF mde_tensor *mde_broadcast_to(mde_context *c, mde_tensor *x, int rank, const int64_t *shape)
{
    return mde__apply_shape(c, &mde__op_broadcast_to, x, rank, shape);
}

MDEDEF mde_tensor *mde_sum_to(mde_context *c, mde_tensor *x, int rank, const int64_t *shape)
{
    return mde__apply_shape(c, &mde__op_sum_to, x, rank, shape);
}

MDEDEF mde_tensor *mde_sum(mde_context *c, mde_tensor *x)
{
    return mde_sum_to(c, x, 1, mde__scalar_shape);
}

MDEDEF mde_tensor *mde_mean(mde_context *c, mde_tensor *x)
{
    return mde_affine(c, mde_sum(c, x), x ? 1.0 / (double)x->count : 0, 0);
}

MDEDEF mde_tensor *mde_sum_axis(mde_context *c, mde_tensor *x, int axis)
{
    int64_t shape[MDE_MAX_RANK];
    if (!x || mde__bad(c)) return mde_sum(c, x);
    if (!mde__check_axis(c, "sum_axis", x, axis)) return NULL;
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = 1;
    return mde_sum_to(c, x, x->rank, shape);
}

MDEDEF mde_tensor *mde_mean_axis(mde_context *c, mde_tensor *x, int axis)
{
    mde_tensor *sum = mde_sum_axis(c, x, axis);
    return sum ? mde_affine(c, sum, 1.0 / (double)x->shape[axis], 0) : NULL;
}

MDEDEF mde_tensor *mde_permute(mde_context *c, mde_tensor *x, const int *order)
{
    mde_args args;
    memset(&args, 0, sizeof args);
    for (int i = 0; x && i < x->rank; i++) args.i[i] = order[i];
    return mde_apply(c, &mde__op_permute, &x, &args);
}

MDEDEF mde_tensor *mde_slice(mde_context *c, mde_tensor *x, int axis, int64_t start, int64_t length)
{
    mde_args args = mde__make_args(axis, start, length, 0, 0, NULL);
    return mde_apply(c, &mde__op_slice, &x, &args);
}

MDEDEF mde_tensor *mde_pad(mde_context *c, mde_tensor *x, int axis, int64_t before, int64_t after)
{
    mde_args args = mde__make_args(axis, before, after, 0, 0, NULL);
    return mde_apply(c, &mde__op_pad, &x, &args);
}

MDEDEF mde_tensor *mde_concat(mde_context *c, mde_tensor *a, mde_tensor *b, int axis)
{
    mde_args args = mde__make_args(axis, 0, 0, 0, 0, NULL);
    return mde__apply3(c, &mde__op_concat, a, b, NULL, &args);
}

/* x with the leading dimensions of `like`. */
static mde_tensor *mde__broadcast_batch(mde_context *c, mde_tensor *x, const mde_tensor *like)
{
    int64_t shape[MDE_MAX_RANK];
    memcpy(shape, like->shape, sizeof shape);
    shape[like->rank - 2] = x->shape[x->rank - 2];
    shape[like->rank - 1] = x->shape[x->rank - 1];
    return mde_broadcast_to(c, x, like->rank, shape);
}

MDEDEF mde_tensor *mde_matmul_t(mde_context *c, mde_tensor *a, mde_tensor *b, int transpose_a, int transpose_b)
{
    mde_args args = mde__make_args(transpose_a != 0, transpose_b != 0, 0, 0, 0, NULL);
    if (mde__bad(c)) return NULL;
    if (a && b && a->rank > 2 && b->rank == 2 && !transpose_a && mde__last(a) == b->shape[transpose_b ? 1 : 0]) {
        /* One matrix for the whole batch: its rows are the rows of one big product. */
        const int64_t flat[2] = { mde__rows(a), mde__last(a) };
        mde_tensor *out = mde_matmul_t(c, mde_reshape(c, a, 2, flat), b, 0, transpose_b), like = *a;
        if (!out) return NULL;
        like.shape[a->rank - 1] = out->shape[1];
        return mde_reshape(c, out, a->rank, like.shape);
    }
    if (a && b && a->rank > 2 && b->rank == 2) b = mde__broadcast_batch(c, b, a);
    else if (a && b && a->rank == 2 && b->rank > 2) a = mde__broadcast_batch(c, a, b);
    return mde__apply3(c, &mde__op_matmul, a, b, NULL, &args);
}

MDEDEF mde_tensor *mde_matmul(mde_context *c, mde_tensor *a, mde_tensor *b)
{
    return mde_matmul_t(c, a, b, 0, 0);
}

MDEDEF mde_tensor *mde_rms_norm(mde_context *c, mde_tensor *x, mde_tensor *gain, double epsilon)
{
    mde_args args = mde__make_args(0, 0, 0, epsilon, 0, NULL);
    return mde__apply3(c, &mde__op_rms_norm, x, gain, NULL, &args);
}

MDEDEF mde_tensor *mde_layer_norm(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *bias, double epsilon)
{
    mde_args args = mde__make_args(0, 0, 0, epsilon, 0, NULL);
    return mde__apply3(c, &mde__op_layer_norm, x, gain, bias, &args);
}

/* An op on inputs of which the first is x and whose arguments are ids; they are copied into the arena. */
static mde_tensor *mde__apply_ids(mde_context *c, const mde_op *op, mde_tensor *const *in, int64_t count,
                                  const int32_t *ids, int64_t first, int64_t second)
{
    mde_args args;
    int32_t *copy;
    if (mde__bad(c) || !in[0]) return mde_apply(c, op, in, NULL);
    if (count < 1 || !ids) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: no ids were given", op->name);
        return NULL;
    }
    copy = (int32_t *)mde_scratch(c, (size_t)count, sizeof *copy);
    if (!copy) return NULL;
    memcpy(copy, ids, (size_t)count * sizeof *ids);
    args = mde__make_args(count, first, second, 0, 0, copy);
    return mde_apply(c, op, in, &args);
}

MDEDEF mde_tensor *mde_gather(mde_context *c, mde_tensor *table, int64_t count, const int32_t *ids)
{
    return mde__apply_ids(c, &mde__op_gather, &table, count, ids, 0, 0);
}

MDEDEF mde_tensor *mde_scatter_add(mde_context *c, mde_tensor *x, int64_t n, const int32_t *ids)
{
    return mde__apply_ids(c, &mde__op_scatter_add, &x, x ? x->shape[0] : 0, ids, n, 0);
}

MDEDEF mde_tensor *mde_cross_entropy(mde_context *c, mde_tensor *logits, const int32_t *targets)
{
    return mde__apply_ids(c, &mde__op_cross_entropy, &logits, logits ? logits->shape[0] : 0, targets, 0, 0);
}

MDEDEF mde_tensor *mde_rope(mde_context *c, mde_tensor *x, double base, int64_t start)
{
    return mde__apply_rope(c, x, base, start, 0, NULL);
}

MDEDEF mde_tensor *mde_attention(mde_context *c, mde_tensor *q, mde_tensor *k, mde_tensor *v, double scale, int causal)
{
    mde_args args = mde__make_args(causal != 0, 0, 0, scale, 0, NULL);
    return mde__apply3(c, &mde__op_attention, q, k, v, &args);
}

MDEDEF mde_tensor *mde_packed_swiglu(mde_context *c, mde_tensor *x)
{
    return mde_apply(c, &mde__op_packed_swiglu, &x, NULL);
}

MDEDEF mde_tensor *mde_packed_attention(mde_context *c, mde_tensor *qkv, int64_t kv_heads, double scale, int causal,
                                        double rope_base)
{
    return mde__apply_packed_attention(c, qkv, kv_heads, scale, causal, rope_base, NULL);
}

MDEDEF mde_tensor *mde_linear(mde_context *c, mde_tensor *x, mde_tensor *weight, int transposed, mde_tensor *bias,
                              mde_tensor *residual)
{
    mde__linear_inputs l;
    memset(&l, 0, sizeof l);
    l.x = x;
    l.weight = weight;
    l.bias = bias;
    l.residual = residual;
    l.transposed = transposed;
    return mde__apply_linear(c, &l);
}

MDEDEF mde_tensor *mde_linear_cross_entropy(mde_context *c, mde_tensor *x, mde_tensor *weight, const int32_t *targets)
{
    mde_tensor *in[2] = { x, weight };
    return mde__apply_ids(c, &mde__op_linear_cross_entropy, in, x ? x->shape[0] : 0, targets, 0, 0);
}

MDEDEF mde_tensor *mde_dropout(mde_context *c, mde_tensor *x, double probability, uint64_t seed, uint64_t stream)
{
    mde_random random = mde_random_start(seed, stream);
    mde_tensor *mask;
    if (mde__bad(c)) return NULL;
    if (!x) {
        mde_fail(c, MDE_BAD_ARGUMENT, "dropout: x is NULL");
        return NULL;
    }
    if (probability == 0) return x;
    if (!(probability > 0 && probability < 1)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "dropout: the probability is not in 0 to 1");
        return NULL;
    }
    mask = mde__tensor_new(c, x->rank, x->shape);
    for (size_t i = 0; mask && i < x->count; i++) {
        mask->data[i] = mde_random_uniform(&random) < probability ? 0.0f : (float)(1 / (1 - probability));
    }
    return mde_mul(c, x, mask);
}

/* ======================================================================
   9. LAYERS AND TRAINING
   ====================================================================== */

/* A parameter set owns named tensors, their gradients and the optimizer's moments. What a training run depends on is
   all in there, so a checkpoint is the set, written out. */

typedef struct mde__parameter {
    char *name;
    mde_tensor tensor;
    float *m, *v;               /* moments of AdamW; NULL until the first step */
    int borrowed;                 /* data and grad lie in another parameter's block */
} mde__parameter;

struct mde_params {
    mde_context *context;
    uint64_t seed;
    int count;
    mde__parameter **items;         /* pointers, because tensors must not move */
    int64_t steps;              /* of the optimizer so far */
};

MDEDEF mde_params *mde_params_create(mde_context *c, uint64_t seed)
{
    mde_params *p = mde__bad(c) ? NULL : (mde_params *)mde_alloc(c, 1, sizeof *p);
    if (!p) return NULL;
    p->context = c;
    p->seed = seed;
    return p;
}

static void mde__param_free(mde_context *c, mde__parameter *item)
{
    if (!item) return;
    mde_release(c, item->name);
    if (!item->borrowed) MDE__RELEASE(c, item->tensor.data, item->tensor.grad);
    MDE__RELEASE(c, item->m, item->v, item);
}

MDEDEF void mde_params_free(mde_params *p)
{
    if (!p) return;
    for (int i = 0; i < p->count; i++) mde__param_free(p->context, p->items[i]);
    MDE__RELEASE(p->context, p->items, p);
}

static void mde__initialise(const mde_params *p, const char *name, mde_tensor *t, mde_init init, double scale)
{
    mde_random r = mde_random_start(p->seed, mde__hash(MDE__HASH_START, name, strlen(name)));
    for (size_t i = 0; i < t->count; i++) {
        switch (init) {
        case MDE_INIT_ONES: t->data[i] = 1.0f; break;
        case MDE_INIT_NORMAL: t->data[i] = (float)(scale * mde_random_normal(&r)); break;
        case MDE_INIT_UNIFORM: t->data[i] = (float)(scale * (2 * mde_random_uniform(&r) - 1)); break;
        case MDE_INIT_ZEROS:
        default: t->data[i] = 0.0f; break;
        }
    }
}

MDEDEF mde_tensor *mde_param(mde_params *p, const char *name, int rank, const int64_t *shape, mde_init init,
                             double scale)
{
    mde_context *c = p ? p->context : NULL;
    mde__parameter *item, **items;
    size_t count;
    mde__require(c, name && *name, "parameter \"\": has no name");
    mde__require(c, !mde_params_find(p, name), "parameter \"%s\": is there already", name);
    if (mde__bad(c)) return NULL;
    count = mde__shape_count(c, name, rank, shape);
    if (!count) return NULL;
    items = (mde__parameter **)mde__room(c, (void *)p->items, (size_t)p->count + 1, sizeof *items);
    if (!items) return NULL;
    p->items = items;
    item = (mde__parameter *)mde_alloc(c, 1, sizeof *item);
    if (!item) return NULL;
    item->name = mde__copy_text(c, name);
    item->tensor.data = (float *)mde_alloc(c, count, sizeof(float));
    item->tensor.grad = (float *)mde_alloc(c, count, sizeof(float));
    if (mde__bad(c)) {
        mde__param_free(c, item);
        return NULL;
    }
    item->tensor.rank = rank;
    memcpy(item->tensor.shape, shape, (size_t)rank * sizeof *shape);
    item->tensor.count = count;
    item->tensor.requires_grad = 1;
    item->tensor.context = c;
    mde__initialise(p, name, &item->tensor, init, scale);
    p->items[p->count++] = item;
    return &item->tensor;
}

/* Puts parameters, matrices of as many columns or vectors, behind one another into one block, so that `all` is one
   parameter made of their rows. Each keeps its name. */
static void mde__params_join(mde_params *p, int count, mde_tensor *const *parts, mde_tensor *all)
{
    mde_context *c = p->context;
    size_t total = 0, at = 0;
    float *data, *grad;
    int i;
    if (mde__bad(c)) return;
    *all = *parts[0];
    all->shape[0] = 0;
    for (int k = 0; k < count; k++) {
        total += parts[k]->count;
        all->shape[0] += parts[k]->shape[0];
    }
    data = (float *)mde_alloc(c, total, sizeof *data);
    grad = (float *)mde_alloc(c, total, sizeof *grad);
    if (mde__bad(c)) {
        mde_release(c, data);
        return;
    }
    for (int k = 0; k < count; at += parts[k++]->count) {
        for (i = 0; &p->items[i]->tensor != parts[k]; i++) {}
        memcpy(data + at, parts[k]->data, parts[k]->count * sizeof *data);
        MDE__RELEASE(c, parts[k]->data, parts[k]->grad);
        parts[k]->data = data + at;
        parts[k]->grad = grad + at;
        p->items[i]->borrowed = k > 0;
    }
    all->count = total;
    all->data = data;
    all->grad = grad;
}

MDEDEF int mde_params_count(const mde_params *p)
{
    return p ? p->count : 0;
}

MDEDEF mde_tensor *mde_params_tensor(const mde_params *p, int index)
{
    return p && index >= 0 && index < p->count ? &p->items[index]->tensor : NULL;
}

MDEDEF const char *mde_params_name(const mde_params *p, int index)
{
    return p && index >= 0 && index < p->count ? p->items[index]->name : "";
}

MDEDEF mde_tensor *mde_params_find(const mde_params *p, const char *name)
{
    int i;
    for (i = 0; p && name && i < p->count; i++) if (strcmp(p->items[i]->name, name) == 0) return &p->items[i]->tensor;
    return NULL;
}

MDEDEF size_t mde_params_elements(const mde_params *p)
{
    size_t sum = 0;
    for (int i = 0; p && i < p->count; i++) sum += p->items[i]->tensor.count;
    return sum;
}

MDEDEF void mde_params_zero_grad(mde_params *p)
{
    int i;
    for (i = 0; p && i < p->count; i++) memset(p->items[i]->tensor.grad, 0, p->items[i]->tensor.count * sizeof(float));
}

MDEDEF double mde_params_grad_norm(const mde_params *p)
{
    double sum = 0;
    for (int i = 0; p && i < p->count; i++) {
        sum += mde__sum_squares(p->context, (int64_t)p->items[i]->tensor.count, p->items[i]->tensor.grad);
    }
    return sqrt(sum);
}

/* ---- Optimizers ---- */

static double mde__or_default(double value, double absent)
{
    return value == 0 ? absent : value == MDE_ZERO ? 0 : value;
}

/* Moments for all, 0 where there were none. */
static mde_status mde__params_moments(mde_params *p)
{
    for (int i = 0; i < p->count; i++) {
        mde__parameter *item = p->items[i];
        if (!item->m) item->m = (float *)mde_alloc(p->context, item->tensor.count, sizeof *item->m);
        if (!item->v) item->v = (float *)mde_alloc(p->context, item->tensor.count, sizeof *item->v);
    }
    return p->context->status;
}

/* Of a step from 1 on: the moments' rates and the corrections of their bias, 1 - beta^step. */
static mde__adam mde__adam_of(double learning_rate, double beta1, double beta2, int64_t step)
{
    mde__adam adam;
    double left1 = beta1 > 0 ? mde__exp64((double)step * mde__log64(beta1)) : 0;
    double left2 = beta2 > 0 ? mde__exp64((double)step * mde__log64(beta2)) : 0;
    adam.beta1 = (float)beta1;
    adam.rest1 = (float)(1.0 - beta1);
    adam.beta2 = (float)beta2;
    adam.rest2 = (float)(1.0 - beta2);
    adam.correction2 = (float)(1.0 / (1 - left2));
    adam.step = (float)(learning_rate / (1 - left1));
    adam.grad_scale = adam.decay = 1;
    adam.epsilon = 0;
    return adam;
}

MDEDEF double mde_adamw_step(mde_params *p, const mde_adamw_desc *desc)
{
    mde_context *c = p ? p->context : NULL;
    mde__adam adam;
    double norm, beta1, beta2;
    if (mde__bad(c) || mde__params_moments(p) != MDE_OK) return (double)NAN;
    norm = mde_params_grad_norm(p);
    if (!(norm < (double)INFINITY)) {
        mde_fail(c, MDE_NOT_FINITE, "adamw: the norm of the gradient is not finite");
        return norm;
    }
    beta1 = mde__or_default(desc->beta1, 0.9);
    beta2 = mde__or_default(desc->beta2, 0.95);
    p->steps++;
    adam = mde__adam_of(desc->learning_rate, beta1, beta2, p->steps);
    adam.grad_scale = desc->clip > 0 && norm > desc->clip ? (float)(desc->clip / norm) : 1.0f;
    adam.epsilon = (float)mde__or_default(desc->epsilon, 1e-8);
    for (int i = 0; i < p->count; i++) {
        mde__parameter *item = p->items[i];
        adam.decay = (float)(1.0 - desc->learning_rate * (item->tensor.rank > 1 ? desc->weight_decay : 0));
        mde__adamw(c, &adam, (int64_t)item->tensor.count, item->tensor.grad, item->tensor.data, item->m, item->v);
    }
    return norm;
}

MDEDEF double mde_schedule_rate(const mde_schedule *s, int64_t step)
{
    double share;
    int64_t start = s->warmup;
    if (step < s->warmup) return s->peak * (double)(step + 1) / (double)s->warmup;
    if (s->kind == MDE_CONSTANT) return s->peak;
    if (s->kind == MDE_WSD) start = s->steps - (int64_t)floor(s->decay * (double)s->steps + 0.5);
    if (step <= start) return s->peak;
    if (step >= s->steps) return s->peak * s->final;
    share = (double)(step - start) / (double)(s->steps - start);
    if (s->kind == MDE_WSD) return s->peak * (1 + (s->final - 1) * share);
    return s->peak * (s->final + (1 - s->final) * 0.5 * (1 + mde__cos64(MDE__PI * share)));
}

/* ---- Files ---- */

#ifndef MDE_NO_STDIO

/* Name of a moment in a checkpoint. */
static char *mde__moment_name(mde_context *c, int which, const char *name)
{
    return mde__print(c, "adamw.%c.%s", "mv"[which], name);
}

static mde_safetensor mde__param_entry(const mde__parameter *item, const char *name, const float *data)
{
    mde_safetensor entry;
    memset(&entry, 0, sizeof entry);
    entry.name = name;
    entry.rank = item->tensor.rank;
    memcpy(entry.shape, item->tensor.shape, sizeof entry.shape);
    entry.count = item->tensor.count;
    entry.data = data;
    return entry;
}

#define MDE__SETS 16                    /* of parameters in one checkpoint */

/* The context of the sets; NULL and perhaps an error if they cannot go into one file. */
static mde_context *mde__sets_context(int sets, mde_params *const *p)
{
    mde_context *c = sets > 0 && p && p[0] ? p[0]->context : NULL;
    int i;
    if (mde__bad(c)) return NULL;
    for (i = 1; i < sets && i < MDE__SETS && p[i]; i++) {}
    if (i == sets) return c;
    mde_fail(c, MDE_BAD_ARGUMENT, "checkpoint: %d sets of parameters, number %d is %s; expected at most %d", sets, i,
             i < MDE__SETS ? "NULL" : "too many", MDE__SETS);
    return NULL;
}

static uint64_t mde__hash_floats(uint64_t hash, size_t count, const float *x)
{
    unsigned char bytes[4];
    for (size_t i = 0; i < count; i++) {
        mde__put_float(bytes, x[i]);
        hash = mde__hash(hash, bytes, sizeof bytes);
    }
    return hash;
}

/* With `moments` also those of the optimizer, and its steps. */
static mde_status mde__sets_write(int sets, mde_params *const *p, const char *path, int pairs,
                                  const char *const *metadata, int moments)
{
    mde_context *c = mde__sets_context(sets, p);
    mde_safetensor *entries;
    const char **all;
    char steps[MDE__SETS * 24], print[17];
    size_t length = 0, capacity = 1;
    int count = 0;
    if (!c) return sets > 0 && p && p[0] ? mde_context_status(p[0]->context) : MDE_BAD_ARGUMENT;
    if (pairs < 0 || (pairs && !metadata)) return mde_fail(c, MDE_BAD_ARGUMENT, "%s: metadata are missing", path);
    for (int k = 0; k < sets; k++) {
        if (moments && mde__params_moments(p[k]) != MDE_OK) return c->status;
        capacity += (size_t)p[k]->count * 3;
        length += (size_t)snprintf(steps + length, sizeof steps - length, k ? " %lld" : "%lld", (long long)p[k]->steps);
    }
    entries = (mde_safetensor *)mde_alloc(c, capacity, sizeof *entries);
    all = (const char **)mde_alloc(c, (size_t)pairs * 2 + 4, sizeof *all);
    for (int k = 0; k < sets; k++) {
        for (int i = 0; i < p[k]->count && !mde__bad(c); i++) {
            const mde__parameter *item = p[k]->items[i];
            entries[count++] = mde__param_entry(item, item->name, item->tensor.data);
            for (int which = 0; moments && which < 2; which++) {
                char *name = mde__moment_name(c, which, item->name);
                if (name) entries[count++] = mde__param_entry(item, name, which ? item->v : item->m);
            }
        }
    }
    if (!mde__bad(c)) {
        const char *own[4] = { "adamw.steps", steps, "checkpoint.fingerprint", print };
        uint64_t hash;
        for (int i = 0; i < 2 * pairs; i++) all[i] = metadata[i];
        memcpy(all + 2 * pairs, own, sizeof own);
        hash = mde__hash_pairs(pairs + 1, all);
        for (int i = 0; moments && i < count; i++) hash = mde__hash_floats(hash, entries[i].count, entries[i].data);
        snprintf(print, sizeof print, "%016llx", (unsigned long long)hash);
        mde_safetensors_write(c, path, count, entries, pairs + (moments ? 2 : 0), all);
    }
    for (int i = 0; moments && entries && i < count; i++) {
        if (i % 3 != 0) mde_release(c, (void *)(uintptr_t)entries[i].name);
    }
    MDE__RELEASE(c, entries, all);
    return c->status;
}

MDEDEF mde_status mde_params_write_sets(int sets, mde_params *const *p, const char *path, int pairs,
                                        const char *const *metadata)
{
    return mde__sets_write(sets, p, path, pairs, metadata, 0);
}

MDEDEF mde_status mde_params_write(const mde_params *p, const char *path, int pairs, const char *const *metadata)
{
    mde_params *set = (mde_params *)(uintptr_t)p;       /* only read, here and below */
    return mde__sets_write(1, &set, path, pairs, metadata, 0);
}

MDEDEF mde_status mde_checkpoint_write_sets(int sets, mde_params *const *p, const char *path, int pairs,
                                            const char *const *metadata)
{
    return mde__sets_write(sets, p, path, pairs, metadata, 1);
}

MDEDEF mde_status mde_checkpoint_write(const mde_params *p, const char *path, int pairs, const char *const *metadata)
{
    mde_params *set = (mde_params *)(uintptr_t)p;
    return mde__sets_write(1, &set, path, pairs, metadata, 1);
}

/* The tensor of that name if it has the parameter's shape; otherwise NULL and an error. */
static const float *mde__matching_tensor(mde_context *c, const char *path, const mde_safetensors *file,
                                         const mde__parameter *item, const char *name)
{
    const mde_safetensor *found = mde_safetensors_find(file, name);
    const mde_tensor *t = &item->tensor;
    char have[128], want[128];
    if (!found) {
        const char *type = mde__second_of_pair(file->others, file->other, name);
        mde_fail(c, MDE_BAD_FILE, type ? "%s: tensor %s: type %.40s or so many dimensions are not read"
                                       : "%s: has no tensor %s", path, name, type);
        return NULL;
    }
    if (found->rank == t->rank && memcmp(found->shape, t->shape, (size_t)t->rank * sizeof *t->shape) == 0) {
        return found->data;
    }
    mde_fail(c, MDE_BAD_FILE, "%s: tensor %s is %s; expected %s", path, name,
             mde__print_shape(have, ",", found->rank, found->shape), mde__print_shape(want, ",", t->rank, t->shape));
    return NULL;
}

/* All tensors of the sets, and with `moments` those of the optimizer, are looked up before any is copied, so that a
   file that does not fit changes nothing. */
static mde_status mde__params_load(int sets, mde_params *const *p, const char *path, const mde_safetensors *file,
                                   int moments)
{
    mde_context *c = p[0]->context;
    const float **found, **next;
    size_t capacity = 1;
    for (int k = 0; k < sets; k++) {
        if (moments && mde__params_moments(p[k]) != MDE_OK) return c->status;
        capacity += (size_t)p[k]->count * 3;
    }
    found = next = (const float **)mde_alloc(c, capacity, sizeof *found);
    for (int k = 0; k < sets; k++) {
        for (int i = 0; i < p[k]->count && !mde__bad(c); i++, next += 3) {
            const mde__parameter *item = p[k]->items[i];
            next[0] = mde__matching_tensor(c, path, file, item, item->name);
            for (int which = 0; moments && which < 2 && !mde__bad(c); which++) {
                char *name = mde__moment_name(c, which, item->name);
                if (name) next[1 + which] = mde__matching_tensor(c, path, file, item, name);
                mde_release(c, name);
            }
        }
    }
    next = found;
    for (int k = 0; k < sets; k++) {
        for (int i = 0; i < p[k]->count && !mde__bad(c); i++, next += 3) {
            mde__parameter *item = p[k]->items[i];
            size_t bytes = item->tensor.count * sizeof(float);
            memcpy(item->tensor.data, next[0], bytes);
            if (!moments) continue;
            memcpy(item->m, next[1], bytes);
            memcpy(item->v, next[2], bytes);
        }
    }
    mde_release(c, (void *)found);
    return c->status;
}

MDEDEF mde_status mde_params_read(mde_params *p, const char *path)
{
    mde_context *c = p ? p->context : NULL;
    mde_safetensors *file;
    if (mde__bad(c)) return mde_context_status(c);
    file = mde_safetensors_read(c, path);
    if (file) mde__params_load(1, &p, path, file, 0);
    mde_safetensors_free(c, file);
    return c->status;
}

/* The optimizer's steps of each set, a space between them. */
static int mde__parse_steps(const char *text, int sets, int64_t *steps)
{
    for (int k = 0; text && k < sets; k++) {
        char *end;
        if (k > 0 && *text++ != ' ') return 0;
        steps[k] = *text >= '0' && *text <= '9' ? strtoll(text, &end, 10) : INT64_MAX;
        if (steps[k] > (int64_t)9e15) return 0;
        text = end;
    }
    return text && *text == 0;
}

MDEDEF mde_status mde_checkpoint_load_sets(int sets, mde_params *const *p, const char *path,
                                           const mde_safetensors *file)
{
    mde_context *c = mde__sets_context(sets, p);
    int64_t steps[MDE__SETS];
    if (!c || !file) return c ? mde_fail(c, MDE_BAD_ARGUMENT, "checkpoint: there is no file") : MDE_BAD_ARGUMENT;
    if (!mde__parse_steps(mde_safetensors_metadata(file, "adamw.steps"), sets, steps)) {
        mde_fail(c, MDE_BAD_FILE, "%s: is no checkpoint of %d set%s of parameters: adamw.steps is not right", path,
                 sets, sets == 1 ? "" : "s");
    } else if (mde__params_load(sets, p, path, file, 1) == MDE_OK) {
        for (int k = 0; k < sets; k++) p[k]->steps = steps[k];
    }
    return c->status;
}

MDEDEF mde_safetensors *mde_checkpoint_read(mde_params *p, const char *path)
{
    mde_context *c = mde__sets_context(1, &p);
    mde_safetensors *file = c ? mde_safetensors_read(c, path) : NULL;
    if (!file || mde_checkpoint_load_sets(1, &p, path, file) == MDE_OK) return file;
    mde_safetensors_free(c, file);
    return NULL;
}

MDEDEF int mde_print_progress(const mde_progress *p, void *user)
{
#ifdef _WIN32
    const int terminal = 0;
#else
    const int terminal = isatty(2);
#endif
    int last;
    int64_t before, now;
    char loss[40], bits[40];
    (void)user;
    if (!p) {
        if (terminal) fprintf(stderr, "\r\033[K");
        return 0;
    }
    last = p->step >= p->steps;
    before = p->steps > 0 ? p->reported * 20 / p->steps : 0;
    now = p->steps > 0 ? p->step * 20 / p->steps : 0;
    if (!terminal && !last && before == now) return 0;
    fprintf(stderr, "%s%-10s %lld/%lld", terminal ? "\r" : "", p->stage ? p->stage : "", (long long)p->step,
            (long long)p->steps);
    if (p->figures) {
        fprintf(stderr, "  %s", p->figures);
    } else if (p->loss == p->loss) {
        mde__sentence(loss, sizeof loss, "%.4f", p->loss);
        mde__sentence(bits, sizeof bits, " = %.4f bits a byte", p->loss / 0.69314718055994531);
        fprintf(stderr, "  loss %s nats%s", loss, p->bytes_tokens ? bits : "");
    }
    if (p->rate > 0) fprintf(stderr, "  %.0f %s/s", p->rate, p->unit ? p->unit : "tokens");
    if (p->seconds_left > 0 && !last) {
        fprintf(stderr, "  %d:%02d left", (int)(p->seconds_left / 60), (int)p->seconds_left % 60);
    }
    fprintf(stderr, terminal ? "\033[K" : "\n");
    if (terminal && last) fprintf(stderr, "\n");
    return 0;
}

#endif /* MDE_NO_STDIO */

/* ======================================================================
   10. TEXT
   ====================================================================== */

/* From files to training windows: a tokenizer turns bytes into token ids, a corpus holds the tokens of several domains
   split by document, a sampler draws windows from a mixture of them. The one idea: nothing depends on the order of
   drawing. Which documents are held out, and which window a domain gives as its j-th, follow from the text and the
   seed alone, so that runs with different mixtures see the same windows wherever they see the same domain. */

/* ---- Tokenizers ---- */

#define MDE__MAX_VOCABULARY 65536   /* tokens of a corpus are kept as 16 bits */
#define MDE__MAX_TOKENS (1 << 20)   /* of a published tokenizer or model */
#define MDE__LONGEST_WORD 256       /* bytes; a longer run is cut, so that merging takes time linear in the text */
#define MDE__PUBLISHED_SPECIALS 3   /* unknown, begin and end come before the 256 bytes in a published tokenizer */
#define MDE__BEGIN 1
#define MDE__END 2

/* What two tokens make, in a table with open addressing: a line of the merges of a tokenizer.json, or while merges are
   learned a pair that occurs. */
typedef struct mde__rule { int32_t left, right, id, rank; } mde__rule;      /* id -1: free */
typedef struct mde__rules { mde__rule *at; size_t slots; } mde__rules;      /* slots: a power of two */

typedef struct mde__json_bpe {
    char *source;                   /* the file's text */
    size_t size;
    mde__rules rules;
    int32_t bytes[256];             /* token of each byte */
    int32_t *added;                 /* tokens that are taken out of the text before anything else */
    int added_count;
    unsigned char starts[256];      /* 1: an added token begins with this byte */
    int form;                       /* of the words: 'g' GPT-2's, 'l' those of Llama 3 and Qwen2 */
    int digits;                     /* at most so many in a word; 0: any number */
    int cut_digits;                 /* 1: before that, the text is cut at each digit; 2: at each run of digits */
    int whole;                      /* 1: a word that is a token is not merged from its bytes */
    int composed;                   /* 1: text must be in Unicode's form NFC */
    uint32_t *letters, *marks;      /* ranges of Unicode: their number, and first, end and kind of each */
    int32_t begin;                  /* token in front of every text; -1: none */
    int32_t ends[8];                /* tokens that end a text; the first of them separates documents */
    int end_count;
} mde__json_bpe;

struct mde_tokenizer {
    mde_context *context;
    int vocabulary;
    int published;                  /* SentencePiece's form: special tokens first; text begins with an added space */
    mde_text *text;                 /* of all tokens, one after the other */
    size_t *starts;                 /* [vocabulary + 1] in bytes */
    float *scores;                  /* the pair whose token has the highest score is merged first */
    int32_t *table;                 /* ids by the bytes of the token, open addressing; -1: free */
    size_t slots;                   /* a power of two */
    struct mde__json_bpe *json;     /* what a tokenizer.json has besides; NULL: is of another form */
};

/* NULL after an error. */
static mde_tokenizer *mde__tokenizer_checked(mde_tokenizer *t)
{
    if (t && !mde__bad(t->context)) return t;
    mde_tokenizer_free(t);
    return NULL;
}

static mde_tokenizer *mde__tokenizer_create(mde_context *c, int capacity)
{
    mde_tokenizer *t = (mde_tokenizer *)mde_alloc(c, 1, sizeof *t);
    if (!t) return NULL;
    t->context = c;
    t->slots = 1024;
    while (t->slots < (size_t)capacity * 2) t->slots *= 2;
    t->text = mde_text_create(c);
    t->starts = (size_t *)mde_alloc(c, (size_t)capacity + 1, sizeof *t->starts);
    t->scores = (float *)mde_alloc(c, (size_t)capacity, sizeof *t->scores);
    t->table = (int32_t *)mde_alloc(c, t->slots, sizeof *t->table);
    for (size_t i = 0; t->table && i < t->slots; i++) t->table[i] = -1;
    return mde__tokenizer_checked(t);
}

MDEDEF void mde_tokenizer_free(mde_tokenizer *t)
{
    if (!t) return;
    mde_text_free(t->text);
    MDE__RELEASE(t->context, t->starts, t->scores, t->table);
    if (t->json) {
        MDE__RELEASE(t->context, t->json->source, t->json->rules.at, t->json->added, t->json->letters,
                     t->json->marks, t->json);
    }
    mde_release(t->context, t);
}

/* The slot that holds the token with these bytes, or the free slot where it belongs. */
MDE__WARM
static size_t mde__tokenizer_slot(const mde_tokenizer *t, const char *bytes, size_t length)
{
    uint64_t hash = mde__hash(MDE__HASH_START, bytes, length);
    size_t slot = (size_t)(hash ^ hash >> 32) & (t->slots - 1);
    for (; t->table[slot] >= 0; slot = (slot + 1) & (t->slots - 1)) {
        size_t id = (size_t)t->table[slot];
        const char *token = t->text->bytes + t->starts[id];
        if (t->starts[id + 1] - t->starts[id] == length && memcmp(token, bytes, length) == 0) break;
    }
    return slot;
}

static int32_t mde__tokenizer_find(const mde_tokenizer *t, const char *bytes, size_t length)
{
    return t->table[mde__tokenizer_slot(t, bytes, length)];
}

/* Appends a token; `found` is 0 for one that text never becomes by its own bytes (special and byte tokens of the
   published form). Of two tokens with the same bytes the first is found. */
static int mde__tokenizer_add(mde_tokenizer *t, const char *bytes, size_t length, float score, int found)
{
    size_t slot = mde__tokenizer_slot(t, bytes, length);
    mde__text_add_bytes(t->text, bytes, length);
    if (mde__bad(t->context)) return 0;
    if (found && length && t->table[slot] < 0) t->table[slot] = t->vocabulary;
    t->scores[t->vocabulary++] = score;
    t->starts[t->vocabulary] = t->text->length;
    return 1;
}

static mde_tokenizer *mde__tokenizer_parse_json(mde_context *c, const char *name, const char *text, size_t size);

static mde_tokenizer *mde__tokenizer_copy(mde_context *c, const mde_tokenizer *from)
{
    mde_tokenizer *t;
    int32_t id;
    size_t length;
    if (from->json) {
        t = mde__tokenizer_parse_json(c, "tokenizer.json", from->json->source, from->json->size);
        if (t) memcpy(t->json->ends, from->json->ends, sizeof from->json->ends);
        if (t) t->json->end_count = from->json->end_count;
        return t;
    }
    t = mde__tokenizer_create(c, from->vocabulary);
    for (id = 0; t && id < from->vocabulary && !mde__bad(c); id++) {
        const char *bytes = mde_tokenizer_token(from, id, &length);
        mde__tokenizer_add(t, bytes, length, from->scores[id], mde__tokenizer_find(from, bytes, length) == id);
    }
    if (t) t->published = from->published;
    return mde__tokenizer_checked(t);
}

static mde_tokenizer *mde__tokenizer_start(mde_context *c, int capacity)
{
    mde_tokenizer *t = mde__tokenizer_create(c, capacity);
    for (int byte = 0; t && byte < 256 && !mde__bad(c); byte++) {
        char one = (char)(unsigned char)byte;
        mde__tokenizer_add(t, &one, 1, 0, 1);
    }
    return mde__tokenizer_checked(t);
}

MDEDEF mde_tokenizer *mde_tokenizer_bytes(mde_context *c)
{
    return mde__tokenizer_start(c, 256);
}

MDEDEF int mde_tokenizer_vocabulary(const mde_tokenizer *t)
{
    return t ? t->vocabulary : 0;
}

MDEDEF const char *mde_tokenizer_token(const mde_tokenizer *t, int32_t id, size_t *length)
{
    *length = 0;
    if (!t || id < 0 || id >= t->vocabulary) return "";
    *length = t->starts[id + 1] - t->starts[id];
    return t->text->bytes + t->starts[id];
}

static int32_t mde__byte_token(const mde_tokenizer *t, char byte)
{
    if (t->json) return t->json->bytes[(unsigned char)byte];
    return (int32_t)(unsigned char)byte + (t->published ? MDE__PUBLISHED_SPECIALS : 0);
}

/* What stands between two documents. */
static int32_t mde__separator(const mde_tokenizer *t)
{
    return t->json && t->json->end_count ? t->json->ends[0] : mde__byte_token(t, 0);
}

/* Ends a text: the separator, or a published model's own tokens. */
static int mde__is_end(const mde_tokenizer *t, int32_t id)
{
    for (int i = 0; t->json && i < t->json->end_count; i++) if (t->json->ends[i] == id) return 1;
    return t->published ? id == MDE__BEGIN || id == MDE__END : id == mde__separator(t);
}

static MDE__INLINE int mde__is_space(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* Merges never cross a word's end. A word is a run of other bytes with the space before it, if there is one, or what
   else of white space stands between two such words. */
MDE__WARM
static size_t mde__word_end(const char *text, size_t start, size_t length)
{
    size_t limit = length - start > MDE__LONGEST_WORD ? start + MDE__LONGEST_WORD : length, i;
    for (i = start + 1; i < limit; i++) {
        int space = mde__is_space(text[i]), space_before = mde__is_space(text[i - 1]);
        if (space && !space_before) break;
        if (!space && space_before && text[i - 1] != ' ') break;
        if (text[i] == ' ' && i + 1 < length && !mde__is_space(text[i + 1])) break;
    }
    return i;
}

/* A symbol is a stretch of the text that is one token so far; those of a text are a doubly linked list. */
typedef struct mde__symbol {
    uint32_t start, length;
    int32_t id;                     /* -1: merged into the symbol before it */
    int32_t previous, next;         /* -1: none */
} mde__symbol;

/* A merge that could be done, in a heap with the best one first. While encoding: of the symbols left and right, valid
   as long as both are as they were. While learning: of the tokens left and right; id is their pair. */
typedef struct mde__merge {
    double score;
    int32_t left, right;
    int32_t left_id, right_id, id;
} mde__merge;

typedef struct mde__encoder {
    const mde_tokenizer *tokenizer;
    mde__symbol *symbols;
    mde__merge *heap;               /* best merge first */
    size_t merges;
} mde__encoder;

static MDE__INLINE int mde__merge_before(const mde__merge *a, const mde__merge *b)
{
    if (a->score != b->score) return a->score > b->score;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

MDE__WARM
static void mde__merge_push(mde__merge *heap, size_t *count, const mde__merge *merge)
{
    size_t i = (*count)++;
    for (; i > 0 && mde__merge_before(merge, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = *merge;
}

MDE__WARM
static mde__merge mde__merge_pop(mde__merge *heap, size_t *count)
{
    mde__merge top = heap[0], last = heap[--*count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && mde__merge_before(&heap[child + 1], &heap[child])) child++;
        if (!mde__merge_before(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static int mde__rules_start(mde_context *c, mde__rules *r, size_t slots)
{
    r->at = (mde__rule *)mde_alloc(c, slots, sizeof *r->at);
    r->slots = slots;
    for (size_t i = 0; r->at && i < slots; i++) r->at[i].id = -1;
    return r->at != NULL;
}

/* The rule of a pair, or the free place where it belongs. */
MDE__WARM
static mde__rule *mde__rule_of(const mde__rules *r, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    size_t slot = (size_t)(key ^ key >> 32) & (r->slots - 1);
    while (r->at[slot].id >= 0 && (r->at[slot].left != left || r->at[slot].right != right)) {
        slot = (slot + 1) & (r->slots - 1);
    }
    return &r->at[slot];
}

MDE__WARM
static void mde__encoder_consider(mde__encoder *e, const char *text, int32_t left, int32_t right)
{
    const mde__symbol *a, *b;
    mde__merge merge;
    if (left < 0 || right < 0) return;
    a = &e->symbols[left];
    b = &e->symbols[right];
    if (e->tokenizer->json) {
        const mde__rule *rule = mde__rule_of(&e->tokenizer->json->rules, a->id, b->id);
        merge.id = rule->id;
        merge.score = -rule->rank;
    } else {
        merge.id = mde__tokenizer_find(e->tokenizer, text + a->start, (size_t)a->length + b->length);
        merge.score = merge.id < 0 ? 0 : e->tokenizer->scores[merge.id];
    }
    if (merge.id < 0) return;
    /* Bytes that the published form has no piece for stay bytes. */
    if (e->tokenizer->published && (a->id < b->id ? a->id : b->id) < MDE__PUBLISHED_SPECIALS + 256) return;
    merge.left = left;
    merge.right = right;
    merge.left_id = a->id;
    merge.right_id = b->id;
    mde__merge_push(e->heap, &e->merges, &merge);
}

/* First symbols of a span: bytes, or for the published form UTF-8 characters where there is a token for one. */
static int32_t mde__encoder_split(mde__encoder *e, const char *text, size_t length)
{
    int32_t count = 0;
    size_t i = 0;
    while (i < length) {
        size_t size = 1;
        int32_t whole;
        if (e->tokenizer->published) {
            while (size < 4 && i + size < length && ((unsigned char)text[i + size] & 0xC0) == 0x80) size++;
        }
        whole = e->tokenizer->published ? mde__tokenizer_find(e->tokenizer, text + i, size) : -1;
        for (size_t k = 0; k < size; k += whole >= 0 ? size : 1) {
            mde__symbol *s = &e->symbols[count];
            s->start = (uint32_t)(i + k);
            s->length = (uint32_t)(whole >= 0 ? size : 1);
            s->id = whole >= 0 ? whole : mde__byte_token(e->tokenizer, text[i + k]);
            s->previous = count - 1;
            s->next = count + 1;
            count++;
        }
        i += size;
    }
    if (count) e->symbols[count - 1].next = -1;
    return count;
}

/* Encodes one span, best merge first, leftmost of equals; returns the number of tokens. */
MDE__WARM
static size_t mde__encode_span(mde__encoder *e, const char *text, size_t length, int32_t *out)
{
    size_t count = 0;
    int32_t symbols = mde__encoder_split(e, text, length), i;
    e->merges = 0;
    for (i = 0; i + 1 < symbols; i++) mde__encoder_consider(e, text, i, i + 1);
    while (e->merges) {
        mde__merge merge = mde__merge_pop(e->heap, &e->merges);
        mde__symbol *a = &e->symbols[merge.left], *b = &e->symbols[merge.right];
        if (a->id != merge.left_id || b->id != merge.right_id || a->next != merge.right) continue;
        a->id = merge.id;
        a->length += b->length;
        a->next = b->next;
        b->id = -1;
        if (a->next >= 0) e->symbols[a->next].previous = merge.left;
        mde__encoder_consider(e, text, a->previous, merge.left);
        mde__encoder_consider(e, text, merge.left, a->next);
    }
    for (i = symbols ? 0 : -1; i >= 0; i = e->symbols[i].next) out[count++] = e->symbols[i].id;
    return count;
}

/* Kind of a character in the ranges, 0 outside of all. */
static int mde__unicode_kind(const uint32_t *ranges, uint32_t code)
{
    uint32_t low = 0, high = ranges[0];
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (code >= ranges[3 * middle + 2]) low = middle + 1;
        else high = middle;
    }
    return low < ranges[0] && code >= ranges[3 * low + 1] ? (int)ranges[3 * low + 3] : 0;
}

/* The character at `at`: 'L' a letter, 'N' a number, 'n' a line end, ' ' other white space, 'x' anything else, a byte
   that is not UTF-8 among it; 0 at the end. *size are its bytes. */
static char mde__character(const mde__json_bpe *j, const char *text, size_t at, size_t end, size_t *size)
{
    uint32_t code = 0;
    int kind;
    *size = at < end ? mde__utf8_read(text + at, end - at, &code) : 0;
    if (*size == 0) {
        *size = at < end;
        return at < end ? 'x' : (char)0;
    }
    if (code < 0x80) {
        if ((code | 32) >= 'a' && (code | 32) <= 'z') return 'L';
        if (code >= '0' && code <= '9') return 'N';
        if (code == '\n' || code == '\r') return 'n';
        return code == ' ' || (code >= 9 && code <= 12) ? ' ' : 'x';
    }
    if (code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
        code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000) return ' ';
    kind = mde__unicode_kind(j->letters, code);
    return kind == 0 ? 'x' : kind == 1 ? 'L' : 'N';
}

/* Where the run of characters of that kind ends, at most `most` of them (0: any number). */
static size_t mde__run_end(const mde__json_bpe *j, const char *text, size_t at, size_t end, char kind, int maximum)
{
    size_t size;
    int count = 0;
    for (; mde__character(j, text, at, end, &size) == kind && (maximum == 0 || count < maximum); at += size) count++;
    return at;
}

/* Bytes of 's, 't, 're, 've, 'm, 'll or 'd at `at`. With any_case as a regular expression that ignores case sees them:
   the long s is one, too. */
static size_t mde__contraction(const char *text, size_t at, size_t end, int any_case)
{
    static const char *const words[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    size_t k;
    if (at >= end || text[at] != '\'') return 0;
    if (any_case && end - at >= 3 && memcmp(text + at + 1, "\xC5\xBF", 2) == 0) return 3;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        for (k = 0; words[i][k] && at + 1 + k < end; k++) {
            char byte = text[at + 1 + k];
            if (any_case && byte >= 'A' && byte <= 'Z') byte = (char)(byte + 32);
            if (byte != words[i][k]) break;
        }
        if (!words[i][k]) return k + 1;
    }
    return 0;
}

/* Where the word at `at` ends. GPT-2's words are those of the regular expression
     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
   and those of Llama 3 (of Qwen2 with \p{N} alone)
     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
     \s+(?!\S)|\s+ */
static size_t mde__json_word_end(const mde__json_bpe *j, const char *text, size_t at, size_t end)
{
    int llama = j->form == 'l';
    size_t size, next_size, next, stop = mde__contraction(text, at, end, llama), last, line_end = 0;
    char kind = mde__character(j, text, at, end, &size), following;
    if (stop) return at + stop;
    next = at + size;
    following = mde__character(j, text, next, end, &next_size);
    if (kind == 'L') return mde__run_end(j, text, at, end, 'L', 0);
    if (llama && following == 'L' && (kind == ' ' || kind == 'x')) return mde__run_end(j, text, next, end, 'L', 0);
    if (kind == 'N') return mde__run_end(j, text, at, end, 'N', j->digits);
    if (!llama && text[at] == ' ' && (following == 'L' || following == 'N')) {
        return mde__run_end(j, text, next, end, following, 0);
    }
    if (kind == 'x' || (text[at] == ' ' && following == 'x')) {
        stop = mde__run_end(j, text, kind == 'x' ? at : next, end, 'x', 0);
        return llama ? mde__run_end(j, text, stop, end, 'n', 0) : stop;
    }
    /* White space: up to its last line end, or all but the last character before a word. */
    for (last = stop = at; (kind = mde__character(j, text, stop, end, &size)) == ' ' || kind == 'n'; stop += size) {
        last = stop;
        if (kind == 'n') line_end = stop + size;
    }
    if (llama && line_end) return line_end;
    return stop == end || last == at ? stop : last;
}

/* 1 when a text may not be in form NFC: it has a character that may be composed with others, or marks in a row, whose
   order may be another there. */
static int mde__may_compose(const mde__json_bpe *j, const char *text, size_t length, uint32_t *code)
{
    size_t size;
    int before = 0, kind;
    for (size_t at = 0; at < length; at += size) {
        size = mde__utf8_read(text + at, length - at, code);
        kind = size > 1 ? mde__unicode_kind(j->marks, *code) : 0;
        if (kind == 1 || (kind && before)) return 1;
        before = kind;
        if (size == 0) size = 1;
    }
    return 0;
}

/* The longest added token at the start of a text; -1: none. */
static int32_t mde__added_token(const mde_tokenizer *t, const char *text, size_t length, size_t *size)
{
    int32_t best = -1;
    *size = 0;
    for (int i = 0; t->json->starts[(unsigned char)*text] && i < t->json->added_count; i++) {
        size_t bytes;
        const char *token = mde_tokenizer_token(t, t->json->added[i], &bytes);
        if (bytes <= *size || bytes > length || memcmp(token, text, bytes) != 0) continue;
        best = t->json->added[i];
        *size = bytes;
    }
    return best;
}

static size_t mde__encode_words(mde__encoder *e, const char *text, size_t length, int32_t *out)
{
    const mde__json_bpe *j = e->tokenizer->json;
    size_t at = 0, piece, end, size, count = 0;
    while (at < length) {
        piece = length;
        if (j->cut_digits) {
            char kind = mde__character(j, text, at, length, &size);
            for (piece = at; (mde__character(j, text, piece, length, &size) == 'N') == (kind == 'N') && size;) {
                piece += size;
                if (kind == 'N' && j->cut_digits == 1) break;
            }
        }
        for (; at < piece; at = end) {
            int32_t whole;
            end = mde__json_word_end(j, text, at, piece);
            whole = j->whole ? mde__tokenizer_find(e->tokenizer, text + at, end - at) : -1;
            if (whole >= 0) out[count++] = whole;
            else count += mde__encode_span(e, text + at, end - at, out + count);
        }
    }
    return count;
}

/* The text between added tokens, word by word. */
static size_t mde__encode_json(mde__encoder *e, const char *text, size_t length, int32_t *out)
{
    size_t from = 0, at = 0, size = 0, count = 0;
    uint32_t code;
    if (e->tokenizer->json->composed && mde__may_compose(e->tokenizer->json, text, length, &code)) {
        mde_fail(e->tokenizer->context, MDE_BAD_ARGUMENT, "encode: this tokenizer reads text in Unicode's form NFC; "
                 "this one has the character U+%04X, which may not be in that form", (unsigned)code);
        return 0;
    }
    while (at < length) {
        int32_t added = mde__added_token(e->tokenizer, text + at, length - at, &size);
        if (added < 0) {
            at++;
            continue;
        }
        count += mde__encode_words(e, text + from, at - from, out + count);
        out[count++] = added;
        from = at += size;
    }
    return count + mde__encode_words(e, text + from, length - from, out + count);
}

/* out has room for length + 1 tokens. Returns their number; temporaries are in the arena. */
static size_t mde__encode(const mde_tokenizer *t, const char *text, size_t length, int32_t *out)
{
    mde_context *c = t->context;
    mde_mark mark = mde_arena_mark(c);
    mde__encoder e;
    size_t span = t->published || t->json ? length + 1 : MDE__LONGEST_WORD, count = 0, end;
    if (length == 0) return 0;
    if (t->vocabulary == 256 && !t->json) {
        for (size_t start = 0; start < length; start++) out[start] = (unsigned char)text[start];
        return length;
    }
    if (length >= INT32_MAX) {
        mde_fail(c, MDE_BAD_ARGUMENT, "encode: a text of %zu bytes is more than can be encoded at once", length);
        return 0;
    }
    e.tokenizer = t;
    e.symbols = (mde__symbol *)mde_scratch(c, span, sizeof *e.symbols);
    e.heap = (mde__merge *)mde_scratch(c, span, 2 * sizeof *e.heap);
    if (t->published) {
        char *spaced = (char *)mde_scratch(c, span, 1);
        if (!mde__bad(c)) {
            spaced[0] = ' ';
            memcpy(spaced + 1, text, length);
            count = mde__encode_span(&e, spaced, span, out);
        }
    } else if (t->json) {
        if (!mde__bad(c)) count = mde__encode_json(&e, text, length, out);
    } else if (!mde__bad(c)) {
        for (size_t start = 0; start < length; start = end) {
            end = mde__word_end(text, start, length);
            count += mde__encode_span(&e, text + start, end - start, out + count);
        }
    }
    mde_arena_rewind(c, mark);
    return count;
}

MDEDEF int32_t *mde_tokenizer_encode(const mde_tokenizer *t, const char *text, size_t length, size_t *count)
{
    int32_t *ids;
    *count = 0;
    if (!t || mde__bad(t->context)) return NULL;
    ids = (int32_t *)mde_alloc(t->context, length + 1, sizeof *ids);
    if (!ids) return NULL;
    *count = mde__encode(t, text, length, ids);
    if (!mde__bad(t->context)) return ids;
    mde_release(t->context, ids);
    *count = 0;
    return NULL;
}

/* ---- Learning byte-pair merges (Sennrich et al. 2016) ---- */

/* Each word that occurs is kept once with its count. Merging a pair touches only the words it occurs in, found by a
   list at the pair; pairs wait in a heap by count. Counts of old pairs only fall, so an entry of the heap that is too
   high is put back with its true count when it comes up. */

typedef struct mde__word {
    const char *text;
    uint32_t length;
    uint32_t symbols;               /* tokens that the word is made of so far */
    size_t first;                   /* of them */
    int64_t count;
} mde__word;

typedef struct mde__pair {
    int32_t left, right;
    int64_t count;                  /* occurrences in the text */
    int64_t last;                   /* occurrence; -1: none */
} mde__pair;

typedef struct mde__occurrence { uint32_t word; int64_t previous; } mde__occurrence;

typedef struct mde__bpe {
    mde_context *context;
    mde__word *words;
    size_t word_count;
    int64_t *word_table;            /* word by its bytes; -1: free */
    size_t word_slots;              /* twice the words that there is room for */
    int32_t *symbols;
    mde__pair *pairs;
    size_t pair_count;
    mde__rules index;               /* number of a pair */
    mde__occurrence *occurrences;
    size_t occurrence_count;
    mde__merge *heap;               /* has room for all pairs; each is in it at most once */
    size_t ranked;
} mde__bpe;

static void mde__bpe_free(mde__bpe *b)
{
    MDE__RELEASE(b->context, b->words, b->word_table, b->symbols, b->pairs, b->index.at, b->occurrences, b->heap);
}

static size_t mde__word_slot(const mde__bpe *b, const char *text, size_t length)
{
    uint64_t hash = mde__hash(MDE__HASH_START, text, length);
    size_t slot = (size_t)(hash ^ hash >> 32) & (b->word_slots - 1);
    for (; b->word_table[slot] >= 0; slot = (slot + 1) & (b->word_slots - 1)) {
        const mde__word *word = &b->words[b->word_table[slot]];
        if (word->length == length && memcmp(word->text, text, length) == 0) break;
    }
    return slot;
}

/* Twice the words, and a table of twice their number. */
static int mde__bpe_grow_words(mde__bpe *b)
{
    size_t slots = b->word_slots ? b->word_slots * 2 : 2048;
    mde__word *words = (mde__word *)mde__realloc(b->context, b->words, slots / 2, sizeof *words);
    if (!words) return 0;
    b->words = words;
    mde_release(b->context, b->word_table);
    b->word_table = (int64_t *)mde_alloc(b->context, slots, sizeof *b->word_table);
    b->word_slots = slots;
    for (size_t i = 0; b->word_table && i < slots; i++) b->word_table[i] = -1;
    for (size_t i = 0; b->word_table && i < b->word_count; i++) {
        b->word_table[mde__word_slot(b, words[i].text, words[i].length)] = (int64_t)i;
    }
    return b->word_table != NULL;
}

/* Counts the words of a text, which must stay where it is until the merges are learned. */
static int mde__bpe_add_text(mde__bpe *b, const char *text, size_t length)
{
    size_t end, slot;
    for (size_t start = 0; start < length; start = end) {
        end = mde__word_end(text, start, length);
        if (b->word_count == b->word_slots / 2 && !mde__bpe_grow_words(b)) return 0;
        slot = mde__word_slot(b, text + start, end - start);
        if (b->word_table[slot] < 0) {
            mde__word *word = &b->words[b->word_count];
            word->text = text + start;
            word->length = (uint32_t)(end - start);
            word->count = 0;
            b->word_table[slot] = (int64_t)b->word_count++;
        }
        b->words[b->word_table[slot]].count++;
    }
    return 1;
}

static int mde__bpe_grow_pairs(mde__bpe *b)
{
    size_t slots = b->index.slots ? b->index.slots * 2 : 8192;
    mde__pair *pairs = (mde__pair *)mde__realloc(b->context, b->pairs, slots / 2, sizeof *pairs);
    mde__merge *heap = (mde__merge *)mde__realloc(b->context, b->heap, slots / 2, sizeof *heap);
    if (pairs) b->pairs = pairs;
    if (heap) b->heap = heap;
    if (!pairs || !heap) return 0;
    mde_release(b->context, b->index.at);
    if (!mde__rules_start(b->context, &b->index, slots)) return 0;
    for (size_t i = 0; i < b->pair_count; i++) {
        const mde__rule entry = { pairs[i].left, pairs[i].right, (int32_t)i, 0 };
        *mde__rule_of(&b->index, entry.left, entry.right) = entry;
    }
    return 1;
}

/* Adds `sign` times the word's count to each pair in it. Words are noted at a pair that has `fresh` in it, the only
   pairs that can be new to the word; fresh = -1 notes them at all. */
MDE__WARM
static int mde__bpe_count_pairs(mde__bpe *b, size_t word, int sign, int32_t fresh)
{
    const mde__word *w = &b->words[word];
    const int32_t *symbols = b->symbols + w->first;
    uint32_t i;
    for (i = 0; i + 1 < w->symbols; i++) {
        int32_t left = symbols[i], right = symbols[i + 1];
        mde__occurrence *occurrences;
        mde__pair *pair;
        mde__rule *entry;
        if (b->pair_count == b->index.slots / 2 && !mde__bpe_grow_pairs(b)) return 0;
        entry = mde__rule_of(&b->index, left, right);
        if (entry->id < 0) {
            pair = &b->pairs[b->pair_count];
            pair->left = left;
            pair->right = right;
            pair->count = 0;
            pair->last = -1;
            entry->left = left;
            entry->right = right;
            entry->id = (int32_t)b->pair_count++;
        }
        pair = &b->pairs[entry->id];
        pair->count += sign * w->count;
        if (sign < 0 || (fresh >= 0 && left != fresh && right != fresh)) continue;
        if (pair->last >= 0 && b->occurrences[pair->last].word == word) continue;
        occurrences = (mde__occurrence *)mde__room(b->context, b->occurrences, b->occurrence_count + 1,
                                                   sizeof *occurrences);
        if (!occurrences) return 0;
        b->occurrences = occurrences;
        occurrences[b->occurrence_count].word = (uint32_t)word;
        occurrences[b->occurrence_count].previous = pair->last;
        pair->last = (int64_t)b->occurrence_count++;
    }
    return 1;
}

/* More frequent ones come first; of equals those of smaller ids. */
static void mde__bpe_push(mde__bpe *b, size_t pair)
{
    mde__merge entry;
    if (b->pairs[pair].count < 2) return;
    memset(&entry, 0, sizeof entry);
    entry.score = (double)b->pairs[pair].count;
    entry.left = b->pairs[pair].left;
    entry.right = b->pairs[pair].right;
    entry.id = (int32_t)pair;
    mde__merge_push(b->heap, &b->ranked, &entry);
}

/* Replaces each (left, right) in the word, from its start on. */
static void mde__bpe_merge_word(mde__bpe *b, size_t word, int32_t left, int32_t right, int32_t merged)
{
    int32_t *symbols = b->symbols + b->words[word].first;
    uint32_t n = b->words[word].symbols, from = 0, to = 0;
    while (from < n) {
        int both = from + 1 < n && symbols[from] == left && symbols[from + 1] == right;
        symbols[to++] = both ? merged : symbols[from];
        from += both ? 2 : 1;
    }
    b->words[word].symbols = to;
}

static void mde__bpe_merge(mde__bpe *b, size_t pair, int32_t merged)
{
    int32_t left = b->pairs[pair].left, right = b->pairs[pair].right;
    size_t known = b->pair_count;
    int64_t at = b->pairs[pair].last;
    for (; at >= 0; at = b->occurrences[at].previous) {
        size_t word = b->occurrences[at].word;
        if (!mde__bpe_count_pairs(b, word, -1, -1)) return;
        mde__bpe_merge_word(b, word, left, right, merged);
        if (!mde__bpe_count_pairs(b, word, 1, merged)) return;
    }
    for (size_t i = known; i < b->pair_count; i++) mde__bpe_push(b, i);
}

static int mde__bpe_start(mde__bpe *b)
{
    size_t total = 0;
    for (size_t word = 0; word < b->word_count; word++) total += b->words[word].length;
    b->symbols = (int32_t *)mde_alloc(b->context, total + 1, sizeof *b->symbols);
    if (!b->symbols) return 0;
    total = 0;
    for (size_t word = 0; word < b->word_count; word++) {
        mde__word *w = &b->words[word];
        w->first = total;
        w->symbols = w->length;
        for (size_t i = 0; i < w->length; i++) b->symbols[total++] = (unsigned char)w->text[i];
        if (!mde__bpe_count_pairs(b, word, 1, -1)) return 0;
    }
    for (size_t i = 0; i < b->pair_count; i++) mde__bpe_push(b, i);
    return 1;
}

/* Merges until the vocabulary is full or no pair occurs twice. A pair that spells a token there is already is passed
   over, because a merge is known by what it spells. */
static mde_tokenizer *mde__bpe_learn(mde__bpe *b, int vocabulary)
{
    mde_context *c = b->context;
    mde_tokenizer *t = b->word_count == 0 || mde__bpe_start(b) ? mde__tokenizer_start(c, vocabulary) : NULL;
    while (!mde__bad(c) && b->ranked && t->vocabulary < vocabulary) {
        mde__merge best = mde__merge_pop(b->heap, &b->ranked);
        const mde__pair *pair = &b->pairs[best.id];
        char *spelled;
        size_t left_length, right_length;
        const char *left = mde_tokenizer_token(t, pair->left, &left_length);
        const char *right = mde_tokenizer_token(t, pair->right, &right_length);
        if ((double)pair->count != best.score) {
            mde__bpe_push(b, (size_t)best.id);
            continue;
        }
        spelled = (char *)mde_alloc(c, left_length + right_length, 1);
        if (!spelled) break;
        memcpy(spelled, left, left_length);
        memcpy(spelled + left_length, right, right_length);
        if (mde__tokenizer_find(t, spelled, left_length + right_length) < 0) {
            int32_t merged = t->vocabulary;
            if (mde__tokenizer_add(t, spelled, left_length + right_length, (float)(255 - merged), 1)) {
                mde__bpe_merge(b, (size_t)best.id, merged);
            }
        }
        mde_release(c, spelled);
    }
    return mde__tokenizer_checked(t);
}

static int mde__check_vocabulary(mde_context *c, int vocabulary)
{
    if (vocabulary > 256 && vocabulary <= MDE__MAX_VOCABULARY) return 1;
    return !mde_fail(c, MDE_BAD_ARGUMENT, "tokenizer: vocabulary is %d; expected 257 to %d", vocabulary,
                     MDE__MAX_VOCABULARY);
}

MDEDEF mde_tokenizer *mde_tokenizer_train(mde_context *c, const char *text, size_t length, int vocabulary)
{
    mde__bpe b;
    mde_tokenizer *t = NULL;
    if (mde__bad(c) || !mde__check_vocabulary(c, vocabulary)) return NULL;
    memset(&b, 0, sizeof b);
    b.context = c;
    if (mde__bpe_add_text(&b, text, length)) t = mde__bpe_learn(&b, vocabulary);
    mde__bpe_free(&b);
    return t;
}

/* ---- tokenizer.json ---- */

/* Letters and numbers, and what may be composed and other marks, of Unicode 15: from range to range how far it is to
   the next, and twice its length, plus 1 for the second kind. A number is written in digits to the base 32, the lowest
   first, each but the last raised by 32: 0-9, A-Z, a-z, +, -. */
static const char mde__unicode_letters[] =
    "g1275123302171k11+11qS4OEA7212X4A1428126216121e11c51s88iA1i2226o2d2s148j1s2LL441c612F4740L0622G21y1To5B2EL0Y2944"
    "25i1429232No17M5m11CHq2w1i332I27K4L1W14G242i11E123832G2D4164L042D228C442i11E141414V8127L26GI161i11E141A32I2F44L9"
    "2BG242i11E141A32U4164L120DB21C361834121434363OM2LRIG161k11W132Q622244L8F124G161k11K1A32V4144L14HI161o222G2561F06"
    "4d11C5a13m11I122EVLHW314CE9Ld14121A1m1121K14922A129L28W12Vf1CG1e2RAp3s2K20L6C483234764QC21L6i212522s21wK182E1218"
    "2o2182Y2182E12182U1o3182c4Ef13W1Gi52C3uc12Y11q15s4370G7a1Dc1Ea1EQ16Fe3Z12423L6LML6o57A2a2125i4A+1d1L0y12ABu24q16"
    "Nb1k19g3h1L6LD2z2+2HG3Lf1y1D40L0u2Qe2SL360L0e22I7s226f181C14325WCW2iH2C2i22C2G1212121+12g31E12361E382C4Q561Ep330"
    "22D520L6Qb32422K123A621212181M285A421d3040BsMv3k2j1sJz1iZ1gE6834932i212522m372Gk19E1E1E1E1E1E1E1Em22rE403PJ7A270"
    "44i5661q5185s21y539AW2m1W1W1LUH1VW1Ld1VWAWyCW2weh1Z2y22wG3W10L04K+2G+12i40Ld1I2k62W454121AOW116181k1DDAe3Ea3SLOC"
    "32141L0u1Ak1Pw17+2S20L6A1K0L0A1o2N61G4L6k1323a312342A2212O62M76CC2C2C9E1E1s21S6c7DL6ewLCk14Y3ae8yM2q6c1ECA521K1Q"
    "1A1214141u6X1sMIW42i3e1Oq3A1k8JL7q16q1Bo53C2C2C26Z1O1q11c1141U2SY1s7Cx2Cp3H5q7w13Y3Gt14W2099e1030G035i2Ay12e24G1"
    "Bg1y92L6e24e24m28e3CM1U1E141M1U1E14Z2kJ9i1AGOC1q21Ib2C221u214322k12H0k12F0+18Jm1c1145B0i10D4q1c2m345040X12z202F8"
    "161w1AJNw1051w107W1G1u16BGi3Ai12H0c15H0a1NFm2o4t1c3Dc37D0e2CLc9-11q264k2w10L028i1B9Ra1k1g10FKk1Cg3Qz11422Dw2W1o1"
    "7L9e2FL42228c232CW3E8BL02124f1Ba11o1J4-1E12181U1K7+2HLBG242i11E141A32I2CA+4g3I85L56UW3K4128Lc5+2f18a1W3K2BLc1s2D"
    "27Ls1s1LP4Ev5u2q3W40d1CG222G141m1F212ELc2G2k2G212S2Am272L2By2J2Io4d8I1g2H2Fx15y1m3E141i2L29L6C141W2E27Ls9c1F21Q1"
    "a2SLs22Fh1h1qv1c3-6HeCio2Y6FWZ2HCvz3ka1vj8oZ17+11L6+41L6y1IW3G8CL1F1g15c1mLW40l1f3s452Y2QW2412Sm-B8ij2g1Idt881E1"
    "41cIF2T622E88uOae2s65Q3I7Kcn5f1Cf1i3p1d4g51k4142224281O121E1Y4182G1E1u1181A123E1eL2o11o11+11o11+11o11+11o11+11o1"
    "1G2b3Wu1+16Cb8y3o4w2AE2L42XAy1Iu24LsEu14LcNE18141U1gC2Jm1e4724LtOt31719i2x21VY681s11412221K181212624212121614122"
    "2121212121412281E1818121K1Y1561A1Y1aIRZt2LcW1Wkp2W1qZ86yD2aeBEYpE-W3yX1Yl1sq95Wc8";
static const char mde__unicode_marks[] =
    "WKA030E0502030203040D020F0C090403040D020F0C0J1X2429282x7Bf8x213151513e2Nm1H060LG3b3F2D2519Z13Ut1W5J93O91J171Bh17"
    "y1Hg1n11x1y12G3393Gy2312E3924412U3q122253G3B622z23G3k3312E38444W32E392a33G37302b3352A374a3512E392o3242F2u27D9i37"
    "D9i25R313139292424242C275020304121923020715B292424242C2C3d328315o23p6g1o1s1wC7qT5U3z43A3h63l47x65d23KH23m1T1X1b3"
    "302E3c1Js15w13B5Z23u471R1F436335c6X4nB2121212121212z1222A212727272722492121224k6R433Pr1234zF4nz12oG7j43W3X2gHDf3"
    "4qkT34LW15m25q83b13t43Rb1v17b13-23C3l7317255513q13s73oeJyG22122K1212243e42q6Z220302AQ1A1214141InMX1jU3Y73r4Boq13"
    "13e1743b55zH9ZC5m27c2Nn19W63f13E3v1302b27a12B5+13i2393g35o55m2512E392EF3Bj6333N3n22922245h72F5+33s35p33j85r72C54"
    "3y43p23I3n23bD3Y8315n23fD5jzIBx1Fvb15ibJ3-b5E0B3D8H2FU9DCX47xj3F1Z12F151Ba33W5FtB3z19yF9WVFj3FrrZ2yX1";

/* The ranges of a table: their number, then start, end and kind, 1 or 2, of each. */
static uint32_t *mde__unicode_ranges(mde_context *c, const char *table)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-";
    uint32_t *ranges = (uint32_t *)mde_alloc(c, strlen(table) / 2 + 1, 3 * sizeof *ranges), at = 0x80, numbers = 0;
    while (ranges && *table) {
        uint32_t value = 0, digit = 32;
        for (int shift = 0; digit >= 32; shift += 5) {
            digit = (uint32_t)(strchr(digits, *table++) - digits);
            value |= (digit & 31) << shift;
        }
        at += numbers % 2 ? value / 2 : value;
        ranges[numbers / 2 * 3 + numbers % 2 + 1] = at;
        if (numbers % 2) ranges[numbers / 2 * 3 + 3] = 1 + value % 2;
        ranges[0] = ++numbers / 2;
    }
    return ranges;
}

/* Bytes of a token of the vocabulary, and their number; SIZE_MAX when it has other characters than those that stand for
   bytes: printable bytes for themselves, the others, in order, from U+0100 on. */
static size_t mde__unmap_token(const char *text, size_t length, char *out)
{
    size_t size, count = 0;
    for (size_t at = 0; at < length; at += size) {
        uint32_t code = 0;
        size = mde__utf8_read(text + at, length - at, &code);
        if (size && code >= 256 && code < 256 + 68) code = code < 289 ? code - 256 : code < 323 ? code - 162 : 173;
        else if (size == 0 || code < 33 || (code > 126 && code < 161) || code == 173 || code > 255) return SIZE_MAX;
        out[count++] = (char)(unsigned char)code;
    }
    return count;
}

/* A tokenizer.json while it is read. */
typedef struct mde__json_reading {
    mde_context *context;
    const char *name;
    mde_tokenizer *tokenizer;
    mde__json_bpe *json;
    int bytes_step;                 /* 1: the step to bytes has been met, which is the last one */
} mde__json_reading;

static int mde__json_refuse(mde__json_reading *r, const char *what, const char *which)
{
    return !mde_fail(r->context, MDE_BAD_FILE, "%s: %s%.100s: is not known here; expected byte-level BPE with the "
                     "words of GPT-2, Llama 3 or Qwen2", r->name, what, which);
}

static const char *mde__json_text(const mde_json *value)
{
    return value && value->kind == MDE_JSON_STRING ? value->string : "";
}

/* 1 for null, false, 0 and "". */
static int mde__json_is_nothing(const mde_json *value)
{
    return !value || value->kind == MDE_JSON_NULL || (value->kind == MDE_JSON_STRING && value->length == 0) ||
           ((value->kind == MDE_JSON_BOOL || value->kind == MDE_JSON_NUMBER) && value->number == 0);
}

/* How the text is cut into words: one step. */
static int mde__json_read_step(mde__json_reading *r, const mde_json *step)
{
#define MDE__LLAMA_WORDS(digits) "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    static const struct { const char *pattern; char form; int digits; } words[] = {
        { MDE__LLAMA_WORDS("\\p{N}{1,3}"), 'l', 3 }, { MDE__LLAMA_WORDS("\\p{N}"), 'l', 1 },
        { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", 'g', 0 }
    };
#undef MDE__LLAMA_WORDS
    const char *type = mde_json_string(step, "type", "");
    const mde_json *flag = mde_json_get(step, "use_regex"), *prefix = mde_json_get(step, "add_prefix_space");
    mde__json_bpe *j = r->json;
    if (strcmp(type, "ByteLevel") == 0 && !r->bytes_step) {
        if ((!flag || !mde__json_is_nothing(flag)) && j->form) return mde__json_refuse(r, "words cut twice", "");
        if (!prefix || !mde__json_is_nothing(prefix)) return mde__json_refuse(r, "add_prefix_space", "");
        if (!flag || !mde__json_is_nothing(flag)) j->form = 'g';
        r->bytes_step = 1;
        return 1;
    }
    if (r->bytes_step || j->form || j->cut_digits) return mde__json_refuse(r, "pre_tokenizer: in this place, ", type);
    if (strcmp(type, "Digits") == 0) {
        j->cut_digits = mde__json_is_nothing(mde_json_get(step, "individual_digits")) ? 2 : 1;
    } else if (strcmp(type, "Split") == 0) {
        const char *pattern = mde_json_string(mde_json_get(step, "pattern"), "Regex", "");
        const char *behavior = mde__json_is_nothing(mde_json_get(step, "invert")) ? "Isolated" : "Removed";
        size_t i, count = sizeof words / sizeof *words;
        for (i = 0; i < count && strcmp(pattern, words[i].pattern) != 0; i++) {}
        if (i == count || strcmp(mde_json_string(step, "behavior", ""), behavior) != 0) {
            return mde__json_refuse(r, "pre_tokenizer: Split at ", pattern);
        }
        j->form = words[i].form;
        j->digits = words[i].digits;
    } else {
        return mde__json_refuse(r, "pre_tokenizer: ", type);
    }
    return 1;
}

/* The first of the steps in a sequence, or the one step itself; *next is set for the others. */
static const mde_json *mde__json_first_step(const mde_json *step, const char *list, int *sequence)
{
    const mde_json *steps = mde_json_get(step, list);
    *sequence = strcmp(mde_json_string(step, "type", ""), "Sequence") == 0 && steps;
    return *sequence ? steps->child : step;
}

/* The steps before and after the model: those of byte-level BPE, with NFC before and a begin token in front. */
static int mde__json_read_steps(mde__json_reading *r, const mde_json *root)
{
    const mde_json *before = mde_json_get(root, "normalizer"), *step;
    const char *type = mde_json_string(before, "type", "");
    int sequence;
    r->json->composed = strcmp(type, "NFC") == 0;
    if (!mde__json_is_nothing(before) && !r->json->composed) return mde__json_refuse(r, "normalizer: ", type);
    step = mde__json_first_step(mde_json_get(root, "pre_tokenizer"), "pretokenizers", &sequence);
    for (; step; step = sequence ? step->next : NULL) if (!mde__json_read_step(r, step)) return 0;
    if (!r->bytes_step || !r->json->form) return mde__json_refuse(r, "pre_tokenizer: without ByteLevel", "");
    r->json->begin = -1;
    step = mde__json_first_step(mde_json_get(root, "post_processor"), "processors", &sequence);
    for (; step; step = sequence ? step->next : NULL) {
        const mde_json *single = mde_json_get(step, "single");
        const char *id = mde_json_string(mde_json_get(single ? single->child : NULL, "SpecialToken"), "id", NULL);
        type = mde_json_string(step, "type", "");
        if (!mde__json_is_nothing(step) && strcmp(type, "ByteLevel") != 0 && strcmp(type, "TemplateProcessing") != 0) {
            return mde__json_refuse(r, "post_processor: ", type);
        }
        if (id) r->json->begin = mde__tokenizer_find(r->tokenizer, id, strlen(id));
        if (id && r->json->begin < 0) return mde__json_refuse(r, "post_processor: the token ", id);
    }
    return 1;
}

static int32_t mde__json_id(const mde_json *value)
{
    uint64_t id;
    return mde__json_size(value, &id) && id < MDE__MAX_TOKENS ? (int32_t)id : -1;
}

/* An entry of the vocabulary, or an added token, whose text stands for itself. */
typedef struct mde__json_token { const char *text; int32_t id; int added; } mde__json_token;

/* Makes the tokens of the tokenizer: vocab {"token": id} and added_tokens [{"id", "content", ...}]. */
static int mde__json_read_tokens(mde__json_reading *r, const mde_json *vocab, const mde_json *added)
{
    static const char *const ends[] = { "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "</s>" };
    mde_context *c = r->context;
    mde__json_bpe *j = r->json;
    size_t capacity = vocab->length + (added ? added->length : 0), longest = 1, i;
    mde__json_token *tokens = (mde__json_token *)mde_alloc(c, capacity, sizeof *tokens), *t = tokens, *end, **by_id;
    const mde_json *entry;
    char *bytes;
    int32_t count = 0, id;
    int good = tokens != NULL;
    for (entry = good ? vocab->child : NULL; entry; entry = entry->next, t++) {
        t->text = entry->key;
        t->id = mde__json_id(entry);
    }
    for (entry = good && added ? added->child : NULL; entry; entry = entry->next, t++) {
        t->text = mde__json_text(mde_json_get(entry, "content"));
        t->id = *t->text ? mde__json_id(mde_json_get(entry, "id")) : -1;
        t->added = 1;
        if (mde__json_is_nothing(mde_json_get(entry, "lstrip")) &&
            mde__json_is_nothing(mde_json_get(entry, "rstrip")) &&
            mde__json_is_nothing(mde_json_get(entry, "single_word"))) continue;
        good = mde__json_refuse(r, "added_tokens: lstrip, rstrip or single_word of ", t->text);
    }
    for (end = t, t = tokens; t < end && good; t++) {
        if (t->id < 0) good = mde__json_refuse(r, "the number of token ", t->text);
        if (t->id >= count) count = t->id + 1;
        if (strlen(t->text) > longest) longest = strlen(t->text);
    }
    by_id = (mde__json_token **)mde_alloc(c, (size_t)count, sizeof *by_id);
    bytes = (char *)mde_alloc(c, longest, 1);
    j->added = (int32_t *)mde_alloc(c, capacity, sizeof *j->added);
    r->tokenizer = mde__tokenizer_create(c, count + 1);
    good = good && !mde__bad(c);
    for (t = tokens; t < end && good; t++) {
        if (by_id[t->id] && (!t->added || strcmp(by_id[t->id]->text, t->text) != 0)) {
            good = mde__json_refuse(r, "two tokens of one number: ", t->text);
        }
        by_id[t->id] = t;
        if (t->added) j->added[j->added_count++] = t->id;
        if (t->added) j->starts[(unsigned char)*t->text] = 1;
    }
    for (id = 0; id < count && good; id++) {
        const char *text = by_id[id] ? by_id[id]->text : "";
        int is_added = by_id[id] && by_id[id]->added;
        size_t length = is_added ? SIZE_MAX : mde__unmap_token(text, strlen(text), bytes);
        if (length != SIZE_MAX) good = mde__tokenizer_add(r->tokenizer, bytes, length, 0, 1);
        else good = mde__tokenizer_add(r->tokenizer, text, strlen(text), 0, is_added);
    }
    for (i = 0; i < sizeof ends / sizeof *ends && good; i++) {
        id = mde__tokenizer_find(r->tokenizer, ends[i], strlen(ends[i]));
        if (id >= 0 && by_id[id]->added) j->ends[j->end_count++] = id;
    }
    for (i = 0; i < 256 && good; i++) {
        char byte = (char)(unsigned char)i;
        j->bytes[i] = mde__tokenizer_find(r->tokenizer, &byte, 1);
        if (j->bytes[i] < 0) good = mde__json_refuse(r, "model: a vocabulary without all of the 256 bytes", "");
    }
    MDE__RELEASE(c, tokens, by_id, bytes);
    return good;
}

/* Merges ["a b", ..] or [["a", "b"], ..], the first before the others. */
static int mde__json_read_merges(mde__json_reading *r, const mde_json *merges)
{
    enum { limit = 1024 };          /* bytes of a token that is merged */
    const mde_json *entry;
    mde__rule rule;
    size_t slots = 16;
    char bytes[2 * limit];
    while (slots / 2 < merges->length) slots *= 2;
    if (!mde__rules_start(r->context, &r->json->rules, slots)) return 0;
    rule.rank = 0;
    for (entry = merges->child; entry; entry = entry->next, rule.rank++) {
        const mde_json *pair = entry->kind == MDE_JSON_ARRAY ? entry->child : NULL;
        const char *left = mde__json_text(pair ? pair : entry), *right = mde__json_text(pair ? pair->next : NULL);
        size_t left_length = pair ? strlen(left) : strcspn(left, " "), length = SIZE_MAX;
        if (!pair) right = left + left_length + (left[left_length] != 0);
        rule.left = rule.right = rule.id = -1;
        if (left_length <= limit && strlen(right) <= limit) {
            left_length = mde__unmap_token(left, left_length, bytes);
            if (left_length != SIZE_MAX) length = mde__unmap_token(right, strlen(right), bytes + left_length);
        }
        if (length != SIZE_MAX) {
            rule.left = mde__tokenizer_find(r->tokenizer, bytes, left_length);
            rule.right = mde__tokenizer_find(r->tokenizer, bytes + left_length, length);
            rule.id = mde__tokenizer_find(r->tokenizer, bytes, left_length + length);
        }
        if (rule.left < 0 || rule.right < 0 || rule.id < 0) {
            return !mde_fail(r->context, MDE_BAD_FILE, "%s: model: merge %d: expected two tokens of the vocabulary "
                             "that make a third", r->name, (int)rule.rank);
        }
        *mde__rule_of(&r->json->rules, rule.left, rule.right) = rule;
    }
    return 1;
}

static int mde__json_read_model(mde__json_reading *r, const mde_json *root)
{
    static const char *const without[] = { "dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                           "byte_fallback" };
    const mde_json *model = mde_json_get(root, "model"), *vocab = mde_json_get(model, "vocab");
    const mde_json *merges = mde_json_get(model, "merges"), *added = mde_json_get(root, "added_tokens");
    const char *type = mde_json_string(model, "type", "BPE");
    if (strcmp(type, "BPE") != 0) return mde__json_refuse(r, "model: ", type);
    if (!vocab || vocab->kind != MDE_JSON_OBJECT || !merges || merges->kind != MDE_JSON_ARRAY ||
        (added && added->kind != MDE_JSON_ARRAY)) return mde__json_refuse(r, "model without vocab and merges", "");
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        if (!mde__json_is_nothing(mde_json_get(model, without[i]))) return mde__json_refuse(r, "model: ", without[i]);
    }
    r->json->whole = !mde__json_is_nothing(mde_json_get(model, "ignore_merges"));
    return mde__json_read_tokens(r, vocab, added) && mde__json_read_steps(r, root) && mde__json_read_merges(r, merges);
}

static mde_tokenizer *mde__tokenizer_parse_json(mde_context *c, const char *name, const char *text, size_t size)
{
    mde_json *root = mde_json_parse(c, name, text, size);
    mde__json_reading r;
    int good;
    memset(&r, 0, sizeof r);
    r.context = c;
    r.name = name;
    r.json = root ? (mde__json_bpe *)mde_alloc(c, 1, sizeof *r.json) : NULL;
    good = r.json && mde__json_read_model(&r, root);
    mde_json_free(c, root);
    if (r.tokenizer) r.tokenizer->json = r.json;
    else if (r.json) mde_release(c, r.json->added);
    if (!r.tokenizer) mde_release(c, r.json);
    if (good) {
        r.json->letters = mde__unicode_ranges(c, mde__unicode_letters);
        r.json->marks = mde__unicode_ranges(c, mde__unicode_marks);
        r.json->source = (char *)mde_alloc(c, size, 1);
        r.json->size = size;
    }
    if (good && !mde__bad(c)) memcpy(r.json->source, text, size);
    return mde__tokenizer_checked(r.tokenizer);
}

/* ---- Files of tokenizers ---- */

#ifndef MDE_NO_STDIO

/* Walks the tokens of a file; `fill` is NULL when they are only counted. Returns their number, 0 on error. */
static int mde__tokenizer_walk(mde_context *c, const char *path, const unsigned char *bytes, size_t size,
                               mde_tokenizer *fill)
{
    size_t at = 4;
    int count = 0;
    while (at < size) {
        size_t length;
        float score;
        if (count == MDE__MAX_VOCABULARY) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: more than %d tokens", path, MDE__MAX_VOCABULARY);
        }
        length = size - at >= 8 ? (size_t)mde__get_bytes(bytes + at + 4, 4, 0) : 0;
        if (size - at < 8 || length > size - at - 8) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: token %d is cut off, the file ends at byte %zu", path, count, size);
        }
        score = mde__float_of_bits((uint32_t)mde__get_bytes(bytes + at, 4, 0));
        if (!(score >= -3e38f && score <= 3e38f)) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: the score of token %d is not a number", path, count);
        }
        if (fill) {
            const char *text = (const char *)bytes + at + 8;
            int byte = count - MDE__PUBLISHED_SPECIALS, special = fill->published && byte < 256;
            char one = (char)(unsigned char)byte;
            int added = special && byte >= 0 ? mde__tokenizer_add(fill, &one, 1, score, 0)
                                             : mde__tokenizer_add(fill, text, length, score, !special);
            if (!added) return 0;
        }
        at += 8 + length;
        count++;
    }
    return count;
}

/* 1 when the tokens from `first` on are the 256 bytes, raw or written as <0x0A>. */
static int mde__tokenizer_has_bytes(const unsigned char *bytes, size_t size, int first, int written)
{
    size_t at = 4;
    int i;
    for (i = 0; i < first + 256 && size - at >= 8; i++) {
        size_t length = (size_t)mde__get_bytes(bytes + at + 4, 4, 0);
        char expected[8];
        if (length > size - at - 8) return 0;
        expected[0] = (char)(unsigned char)(i - first);
        if (written) snprintf(expected, sizeof expected, "<0x%02X>", (unsigned)(i - first) & 255u);
        if (i >= first && (length != (written ? 6u : 1u) || memcmp(bytes + at + 8, expected, length) != 0)) return 0;
        at += 8 + length;
    }
    return i == first + 256;
}

static mde_tokenizer *mde__tokenizer_parse(mde_context *c, const char *path, const unsigned char *bytes, size_t size)
{
    mde_tokenizer *t = NULL;
    int count, published;
    size_t start = size > 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (start < size && mde__is_space((char)bytes[start])) start++;
    if (start + 1 < size && bytes[start] == '{' && bytes[start + 1]) {      /* 123 as a number has zeros behind it */
        return mde__tokenizer_parse_json(c, path, (const char *)bytes, size);
    }
    if (size > 4 && bytes[0] == '\n' && bytes[2] == '\n') {
        mde_fail(c, MDE_BAD_FILE, "%s: is a model of SentencePiece; expected a tokenizer.json of byte-level BPE, or "
                 "the format of llama2.c", path);
    }
    if (size < 4) mde_fail(c, MDE_BAD_FILE, "%s: is too short for a tokenizer (%zu bytes)", path, size);
    count = size < 4 || mde__bad(c) ? 0 : mde__tokenizer_walk(c, path, bytes, size, NULL);
    published = count && mde__tokenizer_has_bytes(bytes, size, MDE__PUBLISHED_SPECIALS, 1);
    if (!mde__bad(c) && !published && !(count && mde__tokenizer_has_bytes(bytes, size, 0, 0))) {
        mde_fail(c, MDE_BAD_FILE, "%s: is no tokenizer of bytes: expected the 256 bytes as tokens 0 to 255, or "
                 "<0x00> to <0xFF> as tokens 3 to 258", path);
    }
    if (!mde__bad(c)) t = mde__tokenizer_create(c, count);
    if (t) t->published = published;
    if (t) mde__tokenizer_walk(c, path, bytes, size, t);
    return mde__tokenizer_checked(t);
}

MDEDEF mde_tokenizer *mde_tokenizer_read(mde_context *c, const char *path)
{
    size_t size;
    unsigned char *bytes = mde_file_read(c, path, (size_t)1 << 28, &size);
    mde_tokenizer *t = bytes ? mde__tokenizer_parse(c, path, bytes, size) : NULL;
    mde_release(c, bytes);
    return t;
}

MDEDEF mde_status mde_tokenizer_write(const mde_tokenizer *t, const char *path)
{
    mde_context *c = t ? t->context : NULL;
    unsigned char *file;
    size_t at = 4, longest = 0;
    if (mde__bad(c)) return mde__object_status(c);
    if (t->json) return mde__file_replace(c, path, t->json->source, t->json->size, MDE__WRITE_TO_DISK);
    file = (unsigned char *)mde_alloc(c, 4 + (size_t)t->vocabulary * 8 + t->starts[t->vocabulary] + 256 * 6, 1);
    if (!file) return c->status;
    for (int id = 0; id < t->vocabulary; id++) {
        size_t length;
        const char *text = mde_tokenizer_token(t, id, &length);
        char written[8];
        if (t->published && id >= MDE__PUBLISHED_SPECIALS && id < MDE__PUBLISHED_SPECIALS + 256) {
            snprintf(written, sizeof written, "<0x%02X>", (unsigned)(id - MDE__PUBLISHED_SPECIALS) & 255u);
            text = written;
            length = 6;
        }
        if (length > longest) longest = length;
        mde__put_float(file + at, t->scores[id]);
        mde__put_bytes(file + at + 4, 4, length);
        memcpy(file + at + 8, text, length);
        at += 8 + length;
    }
    mde__put_bytes(file, 4, longest);
    mde__file_replace(c, path, file, at, MDE__WRITE_TO_DISK);
    mde_release(c, file);
    return c->status;
}

#endif /* MDE_NO_STDIO */

/* ---- Corpus ---- */

typedef struct mde__domain {
    char *name;
    uint16_t *tokens[3];            /* by split */
    size_t count[3];
    int64_t *starts[3];             /* [documents + 1] in tokens */
    int64_t documents[3];
} mde__domain;

struct mde_corpus {
    mde_context *context;
    int domains;
    mde__domain domain[MDE_MAX_DOMAINS];
    const mde_tokenizer *tokenizer;
    mde_tokenizer *owned;           /* the tokenizer, when the corpus made it */
    uint64_t hash;
};

/* A domain while it is read: the text of its files and where documents end in it. */
typedef struct mde__source {
    char *name;
    mde_text *text;
    size_t *ends;                   /* of the documents */
    unsigned char *split;           /* of each document; 3: left out */
    size_t documents;
} mde__source;

typedef struct mde__reading {
    mde_context *context;
    mde_corpus_desc desc;           /* with the defaults filled in */
    mde__source sources[MDE_MAX_DOMAINS];
    int count;
} mde__reading;

/* Where a document that begins at `start` ends: at the last line end within the limit, or where there is none, before
   the limit and not inside a UTF-8 character. */
static size_t mde__document_end(const char *text, size_t start, size_t length, size_t limit)
{
    size_t end;
    if (length - start <= limit) return length;
    for (end = start + limit; end > start; end--) if (text[end - 1] == '\n') return end;
    end = start + limit;
    for (size_t i = 0; i < 3 && end - 1 > start && ((unsigned char)text[end] & 0xC0) == 0x80; i++) end--;
    return end;
}

static int mde__source_add(mde_context *c, mde__source *s, const char *text, size_t length, size_t limit)
{
    size_t start = s->text->length;
    mde__text_add_bytes(s->text, text, length);
    while (start < s->text->length && !mde__bad(c)) {
        size_t *ends = (size_t *)mde__room(c, s->ends, s->documents + 1, sizeof *ends);
        if (!ends) return 0;
        s->ends = ends;
        ends[s->documents++] = start = mde__document_end(s->text->bytes, start, s->text->length, limit);
    }
    return 1;
}

/* Gives each document its split. Left out to keep to max_bytes, and held out, are documents spread evenly. */
static int mde__source_split(mde_context *c, const mde_corpus_desc *desc, mde__source *s)
{
    double bytes = s->text->length ? (double)s->text->length : 1.0;
    double limit = desc->max_bytes > 0 ? (double)desc->max_bytes / bytes : 1.0;
    size_t kept_bytes = 0, kept = 0, held[3], i, k;
    size_t *order;
    if (s->text->length == 0) return !mde_fail(c, MDE_BAD_FILE, "corpus: domain \"%s\" has no text", s->name);
    s->split = (unsigned char *)mde_alloc(c, s->documents, 1);
    order = (size_t *)mde_alloc(c, s->documents, sizeof *order);
    for (i = 0; i < s->documents && !mde__bad(c); i++) {
        size_t length = s->ends[i] - (i ? s->ends[i - 1] : 0);
        s->split[i] = 3;
        if (limit < 1 && (double)(kept_bytes + length) > limit * (double)s->ends[i]) continue;
        s->split[i] = MDE_TRAIN;
        kept_bytes += length;
        order[kept++] = i;
    }
    held[MDE_VALIDATION] = desc->validation > 0 ? (size_t)floor((double)kept * desc->validation + 0.5) : 0;
    held[MDE_TEST] = desc->test > 0 ? (size_t)floor((double)kept * desc->test + 0.5) : 0;
    if (desc->validation > 0 && held[MDE_VALIDATION] == 0) held[MDE_VALIDATION] = 1;
    if (desc->test > 0 && held[MDE_TEST] == 0) held[MDE_TEST] = 1;
    if (!mde__bad(c) && kept < 1 + held[MDE_VALIDATION] + held[MDE_TEST]) {
        mde_fail(c, MDE_BAD_FILE, "corpus: domain \"%s\" has %zu documents%s; its splits need at least %d (a smaller "
                 "`document` cuts a text into more)", s->name, kept, limit < 1 ? " within max_bytes" : "",
                 1 + (desc->validation > 0) + (desc->test > 0));
    }
    for (int split = MDE_VALIDATION; split <= MDE_TEST && !mde__bad(c); split++) {
        size_t left = 0;
        for (k = 0; k < held[split]; k++) {
            size_t at = (size_t)(((uint64_t)(2 * k + 1) * kept) / (2 * held[split]));
            s->split[order[at]] = (unsigned char)split;
        }
        for (i = 0; i < kept; i++) if (s->split[order[i]] == MDE_TRAIN) order[left++] = order[i];
        kept = left;
    }
    mde_release(c, order);
    return !mde__bad(c);
}

static mde_tokenizer *mde__corpus_learn(mde__reading *r)
{
    mde__bpe b;
    mde_tokenizer *t = NULL;
    int good = 1;
    memset(&b, 0, sizeof b);
    b.context = r->context;
    for (int domain = 0; domain < r->count; domain++) {
        const mde__source *s = &r->sources[domain];
        for (size_t i = 0; good && i < s->documents; i++) {
            size_t start = i ? s->ends[i - 1] : 0;
            if (s->split[i] == MDE_TRAIN) good = mde__bpe_add_text(&b, s->text->bytes + start, s->ends[i] - start);
        }
    }
    if (good) t = mde__bpe_learn(&b, r->desc.vocabulary);
    mde__bpe_free(&b);
    return t;
}

/* Encodes the documents of one split, each followed by the separator. */
static int mde__corpus_encode(mde_corpus *corpus, const mde__source *s, mde__domain *d, int split)
{
    mde_context *c = corpus->context;
    size_t capacity = 0, longest = 0;
    int32_t *ids;
    int64_t document = 0;
    for (size_t i = 0; i < s->documents; i++) {
        size_t length = s->ends[i] - (i ? s->ends[i - 1] : 0);
        if (s->split[i] != split) continue;
        capacity += length + 2;
        if (length > longest) longest = length;
        d->documents[split]++;
    }
    d->tokens[split] = (uint16_t *)mde_alloc(c, capacity + 1, sizeof **d->tokens);
    d->starts[split] = (int64_t *)mde_alloc(c, (size_t)d->documents[split] + 1, sizeof **d->starts);
    ids = (int32_t *)mde_alloc(c, longest + 1, sizeof *ids);
    for (size_t i = 0; i < s->documents && !mde__bad(c); i++) {
        size_t start = i ? s->ends[i - 1] : 0, count;
        if (s->split[i] != split) continue;
        count = mde__encode(corpus->tokenizer, s->text->bytes + start, s->ends[i] - start, ids);
        for (size_t k = 0; k < count; k++) d->tokens[split][d->count[split]++] = (uint16_t)ids[k];
        d->tokens[split][d->count[split]++] = (uint16_t)mde__separator(corpus->tokenizer);
        d->starts[split][++document] = (int64_t)d->count[split];
    }
    mde_release(c, ids);
    if (!mde__bad(c) && corpus->tokenizer->vocabulary > 256) {
        uint16_t *fitting = (uint16_t *)mde__realloc(c, d->tokens[split], d->count[split] + 1, sizeof *fitting);
        if (fitting) d->tokens[split] = fitting;
    }
    return !mde__bad(c);
}

static uint64_t mde__corpus_fingerprint(const mde_corpus *corpus)
{
    uint64_t hash = mde__hash_number(MDE__HASH_START, (uint64_t)corpus->domains, 8);
    for (int domain = 0; domain < corpus->domains; domain++) {
        const mde__domain *d = &corpus->domain[domain];
        hash = mde__hash(hash, d->name, strlen(d->name) + 1);
        for (int split = 0; split < 3; split++) {
            hash = mde__hash_number(hash, (uint64_t)d->documents[split], 8);
            for (size_t i = 0; i <= (size_t)d->documents[split]; i++) {
                hash = mde__hash_number(hash, (uint64_t)d->starts[split][i], 8);
            }
            for (size_t i = 0; i < d->count[split]; i++) hash = mde__hash_number(hash, d->tokens[split][i], 2);
        }
    }
    return hash;
}

static int mde__reading_start(mde__reading *r, mde_context *c, const mde_corpus_desc *desc)
{
    mde_corpus_desc *d = &r->desc;
    memset(r, 0, sizeof *r);
    r->context = c;
    mde__require(c, desc != NULL, "corpus: there is no descriptor");
    if (mde__bad(c)) return 0;
    *d = *desc;
    d->validation = mde__or_default(d->validation, 0.1);
    d->test = mde__or_default(d->test, 0.1);
    if (d->document == 0) d->document = 4096;
    if (!(d->validation >= 0 && d->test >= 0 && d->validation + d->test < 1)) {
        double wrong = d->validation >= 0 && d->test >= 0 ? d->validation + d->test
                                                          : d->validation >= 0 ? d->test : d->validation;
        mde_fail(c, MDE_BAD_ARGUMENT, "corpus: the shares held out are %.9g; expected them positive and below 1 in sum",
                 wrong);
    } else if (d->document < 1 || d->max_bytes < 0) {
        mde_fail(c, MDE_BAD_ARGUMENT, "corpus: %s is %lld; expected 0 or more", d->document < 1 ? "document"
                 : "max_bytes", (long long)(d->document < 1 ? d->document : d->max_bytes));
    } else if (d->tokenizer && d->tokenizer->vocabulary > MDE__MAX_VOCABULARY) {
        mde_fail(c, MDE_BAD_ARGUMENT, "corpus: the tokenizer has %d tokens; at most %d can be held",
                 d->tokenizer->vocabulary, MDE__MAX_VOCABULARY);
    } else if (d->vocabulary && !d->tokenizer) {
        if (d->vocabulary != 256) mde__check_vocabulary(c, d->vocabulary);
        else d->vocabulary = 0;
    }
    return !mde__bad(c);
}

static mde__source *mde__reading_add(mde__reading *r, const char *name)
{
    mde__source *s;
    mde__require(r->context, r->count < MDE_MAX_DOMAINS, "corpus: more than %d domains", MDE_MAX_DOMAINS);
    if (mde__bad(r->context)) return NULL;
    s = &r->sources[r->count];
    s->name = mde__copy_text(r->context, name);
    s->text = mde_text_create(r->context);
    r->count++;
    return s->text ? s : NULL;
}

static int mde__reading_splits(mde__reading *r)
{
    for (int i = 0; i < r->count; i++) {
        for (int k = 0; k < i; k++) {
            if (strcmp(r->sources[i].name, r->sources[k].name) != 0) continue;
            return !mde_fail(r->context, MDE_BAD_ARGUMENT, "corpus: two domains are named \"%s\"", r->sources[i].name);
        }
        if (!mde__source_split(r->context, &r->desc, &r->sources[i])) return 0;
    }
    return 1;
}

/* Makes the corpus of what was read, if reading went well, and frees what was read. */
static mde_corpus *mde__reading_finish(mde__reading *r)
{
    mde_context *c = r->context;
    mde_corpus *corpus = NULL;
    if (!mde__bad(c) && mde__reading_splits(r)) corpus = (mde_corpus *)mde_alloc(c, 1, sizeof *corpus);
    if (corpus) {
        corpus->context = c;
        if (r->desc.tokenizer) corpus->tokenizer = r->desc.tokenizer;
        else corpus->tokenizer = corpus->owned = r->desc.vocabulary ? mde__corpus_learn(r) : mde_tokenizer_bytes(c);
    }
    for (int i = 0; i < r->count; i++) {
        mde__source *s = &r->sources[i];
        if (corpus && !mde__bad(c)) {
            mde__domain *d = &corpus->domain[i];
            corpus->domains = i + 1;
            d->name = s->name;
            s->name = NULL;
            for (int split = 0; split < 3; split++) if (!mde__corpus_encode(corpus, s, d, split)) break;
        }
        mde_release(c, s->name);
        mde_text_free(s->text);
        MDE__RELEASE(c, s->ends, s->split);
    }
    if (corpus && mde__bad(c)) {
        mde_corpus_free(corpus);
        corpus = NULL;
    }
    if (corpus) corpus->hash = mde__corpus_fingerprint(corpus);
    return corpus;
}

MDEDEF mde_corpus *mde_corpus_from_texts(mde_context *c, int domains, const char *const *names,
                                         const char *const *texts, const size_t *lengths, const mde_corpus_desc *desc)
{
    mde__reading r;
    mde__require(c, domains >= 1, "corpus: %d domains; expected at least one", domains);
    if (!mde__reading_start(&r, c, desc)) return NULL;
    for (int i = 0; i < domains; i++) {
        mde__source *s = mde__reading_add(&r, names[i]);
        if (!s || !mde__source_add(c, s, texts[i], lengths[i], (size_t)r.desc.document)) break;
    }
    return mde__reading_finish(&r);
}

#ifndef MDE_NO_STDIO

#define MDE__FOLDER_DEPTH 32        /* deeper folders are taken for a link in a circle */

/* 1 for text; otherwise an error that says what it is. */
static int mde__check_text(mde_context *c, const char *path, const unsigned char *bytes, size_t size)
{
    static const struct { const char *start; size_t length; const char *what; } kinds[] = {
        {"\x1F\x8B", 2, "is compressed (gzip)"}, {"\x28\xB5\x2F\xFD", 4, "is compressed (zstd)"},
        {"BZh", 3, "is compressed (bzip2)"}, {"\xFD" "7zXZ", 5, "is compressed (xz)"},
        {"PK\3\4", 4, "is a zip archive"}, {"%PDF-", 5, "is a PDF"}, {"PAR1", 4, "is Parquet"},
        {"\xFF\xFE", 2, "is UTF-16"}, {"\xFE\xFF", 2, "is UTF-16"}
    };
    const unsigned char *zero = (const unsigned char *)memchr(bytes, 0, size);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (size < kinds[i].length || memcmp(bytes, kinds[i].start, kinds[i].length) != 0) continue;
        return !mde_fail(c, MDE_BAD_FILE, "%s: %s; expected text, as UTF-8", path, kinds[i].what);
    }
    if (!zero) return 1;
    return !mde_fail(c, MDE_BAD_FILE, "%s: byte %zu is zero; expected text, as UTF-8", path, (size_t)(zero - bytes));
}

/* Lines {"text": "...", ...}, one document each. */
static int mde__source_add_lines(mde_context *c, mde__source *s, const char *path, const char *bytes, size_t size)
{
    size_t end;
    int line = 0;
    char name[512];
    for (size_t start = 0; start < size && !mde__bad(c); start = end + 1) {
        const char *stop = (const char *)memchr(bytes + start, '\n', size - start);
        const mde_json *text;
        mde_json *root;
        end = stop ? (size_t)(stop - bytes) : size;
        line++;
        if (strspn(bytes + start, " \t\r") >= end - start) continue;
        snprintf(name, sizeof name, "%.400s: document %d", path, line);
        root = mde_json_parse(c, name, bytes + start, end - start);
        text = mde_json_get(root, "text");
        if (!text || text->kind != MDE_JSON_STRING) {
            mde_fail(c, MDE_BAD_FILE, "%s: expected an object with a \"text\" in quotes", name);
        } else if (mde__check_text(c, name, (const unsigned char *)text->string, text->length)) {
            mde__source_add(c, s, text->string, text->length, SIZE_MAX);
        }
        mde_json_free(c, root);
    }
    return !mde__bad(c);
}

static int mde__source_read(mde_context *c, mde__source *s, const char *path, size_t limit, int depth)
{
    char kind = mde__path_kind(path);
    mde_names names;
    if (kind == 'o') {
        return !mde_fail(c, MDE_IO, "%s: is a device or a pipe; expected a file of text or a folder of them", path);
    }
    if (kind != 'd') {
        size_t size;
        unsigned char *bytes = mde_file_read(c, path, SIZE_MAX / 4, &size);
        if (bytes && mde__check_text(c, path, bytes, size)) {
            if (mde__ends_with(path, ".jsonl")) mde__source_add_lines(c, s, path, (const char *)bytes, size);
            else mde__source_add(c, s, (const char *)bytes, size, limit);
        }
        mde_release(c, bytes);
        return !mde__bad(c);
    }
    if (depth == MDE__FOLDER_DEPTH) {
        return !mde_fail(c, MDE_IO, "%s: folders are nested more than %d deep", path, MDE__FOLDER_DEPTH);
    }
    if (mde_folder_list(c, path, &names) != MDE_OK) return 0;
    for (int i = 0; i < names.count && !mde__bad(c); i++) {
        char *inner = mde__join_path(c, path, names.items[i]);
        if (inner) mde__source_read(c, s, inner, limit, depth + 1);
        mde_release(c, inner);
    }
    mde_names_free(c, &names);
    return !mde__bad(c);
}

/* Length of a file's name without its ending; all of it for a folder. */
static size_t mde__stem(const char *name, int folder)
{
    const char *point = strrchr(name, '.');
    return folder || !point || point == name ? strlen(name) : (size_t)(point - name);
}

/* A domain is named after its file or folder. The ending stays where two files differ only by it. */
static mde__source *mde__reading_add_entry(mde__reading *r, const char *path, const mde_names *siblings, int own)
{
    mde_context *c = r->context;
    size_t length, stem;
    const char *last = mde_path_name(path, &length);
    mde__source *s = NULL;
    char *name = mde__print(c, "%.*s", (int)length, last);
    if (!name) return NULL;
    stem = mde__stem(name, mde_is_folder(path));
    for (int i = 0; siblings && i < siblings->count; i++) {
        const char *other = siblings->items[i];
        if (i == own || strncmp(other, name, stem) != 0) continue;
        if (mde__stem(other, 0) == stem || other[stem] == 0) stem = strlen(name);
    }
    name[stem] = 0;
    s = mde__reading_add(r, name);
    mde_release(c, name);
    return s;
}

static int mde__reading_open(mde__reading *r, const char *path)
{
    mde_context *c = r->context;
    mde_names names;
    mde__source *s;
    if (!mde_is_folder(path)) {
        s = mde__reading_add_entry(r, path, NULL, 0);
        return s && mde__source_read(c, s, path, (size_t)r->desc.document, 0);
    }
    if (mde_folder_list(c, path, &names) != MDE_OK) return 0;
    if (names.count == 0) mde_fail(c, MDE_BAD_FILE, "%s: the folder is empty; expected a domain each entry", path);
    for (int i = 0; i < names.count && !mde__bad(c); i++) {
        char *inner = mde__join_path(c, path, names.items[i]);
        s = inner ? mde__reading_add_entry(r, inner, &names, i) : NULL;
        if (s) mde__source_read(c, s, inner, (size_t)r->desc.document, 0);
        mde_release(c, inner);
    }
    mde_names_free(c, &names);
    return !mde__bad(c);
}

MDEDEF mde_corpus *mde_corpus_open(mde_context *c, const mde_corpus_desc *desc)
{
    mde__reading r;
    mde__require(c, desc && desc->path && *desc->path, "corpus: no path was given");
    if (!mde__reading_start(&r, c, desc)) return NULL;
    mde__reading_open(&r, desc->path);
    return mde__reading_finish(&r);
}

#endif /* MDE_NO_STDIO */

MDEDEF void mde_corpus_free(mde_corpus *corpus)
{
    if (!corpus) return;
    for (int domain = 0; domain < corpus->domains; domain++) {
        mde__domain *d = &corpus->domain[domain];
        mde_release(corpus->context, d->name);
        for (int split = 0; split < 3; split++) MDE__RELEASE(corpus->context, d->tokens[split], d->starts[split]);
    }
    mde_tokenizer_free(corpus->owned);
    mde_release(corpus->context, corpus);
}

MDEDEF int mde_corpus_domains(const mde_corpus *corpus)
{
    return corpus ? corpus->domains : 0;
}

/* The domain, if it and the split are there. */
static const mde__domain *mde__corpus_split(const mde_corpus *corpus, mde_split split, int domain)
{
    mde_context *c = corpus ? corpus->context : NULL;
    if (mde__bad(c)) return NULL;
    mde__require(c, split >= MDE_TRAIN && split <= MDE_TEST, "corpus: there is no split %d", (int)split);
    mde__require(c, domain >= 0 && domain < corpus->domains, "corpus: there is no domain %d; it has %d", domain,
                 corpus->domains);
    return mde__bad(c) ? NULL : &corpus->domain[domain];
}

MDEDEF const char *mde_corpus_name(const mde_corpus *corpus, int domain)
{
    return corpus && domain >= 0 && domain < corpus->domains ? corpus->domain[domain].name : "";
}

MDEDEF const mde_tokenizer *mde_corpus_tokenizer(const mde_corpus *corpus)
{
    return corpus ? corpus->tokenizer : NULL;
}

MDEDEF int mde_corpus_vocabulary(const mde_corpus *corpus)
{
    return corpus ? mde_tokenizer_vocabulary(corpus->tokenizer) : 0;
}

MDEDEF const uint16_t *mde_corpus_tokens(const mde_corpus *corpus, mde_split split, int domain, size_t *count)
{
    const mde__domain *d = mde__corpus_split(corpus, split, domain);
    *count = d ? d->count[split] : 0;
    return d ? d->tokens[split] : NULL;
}

MDEDEF const int64_t *mde_corpus_documents(const mde_corpus *corpus, mde_split split, int domain, int64_t *documents)
{
    const mde__domain *d = mde__corpus_split(corpus, split, domain);
    *documents = d ? d->documents[split] : 0;
    return d ? d->starts[split] : NULL;
}

MDEDEF uint64_t mde_corpus_hash(const mde_corpus *corpus)
{
    return corpus ? corpus->hash : 0;
}

/* ---- Sampler ---- */

/* Weights of a mixture, checked and scaled to the sum 1. */
static int mde__check_weights(mde_context *c, const char *what, int n, const double *weights, double *out)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        if (!(weights[i] >= 0 && weights[i] <= 1.000001)) {
            return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: weight %d is %.9g; expected 0 to 1", what, i, weights[i]);
        }
        sum += weights[i];
    }
    if (fabs(sum - 1) > 1e-6) return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: weights sum to %.9g; expected 1", what, sum);
    for (int i = 0; i < n; i++) out[i] = weights[i] / sum;
    return 1;
}

MDEDEF mde_status mde_sampler_start(mde_sampler *s, const mde_corpus *corpus, const double *weights, uint64_t seed)
{
    double proportional[MDE_MAX_DOMAINS], total = 0;
    memset(s, 0, sizeof *s);
    if (!corpus) return MDE_BAD_ARGUMENT;
    if (mde__bad(corpus->context)) return corpus->context->status;
    for (int i = 0; i < corpus->domains; i++) total += (double)corpus->domain[i].count[MDE_TRAIN];
    for (int i = 0; i < corpus->domains; i++) proportional[i] = (double)corpus->domain[i].count[MDE_TRAIN] / total;
    if (mde__check_weights(corpus->context, "sampler", corpus->domains, weights ? weights : proportional, s->weights)) {
        s->corpus = corpus;
        s->seed = seed;
    }
    return corpus->context->status;
}

/* Which domain comes next. A domain of weight w has its k-th draw due between steps k / w and (k + 1) / w; of those
   that may be drawn the one due first is taken, which keeps every count within one of w times the total. Taking the
   domain that lags most would not: with 64 domains it is off by more than one. */
static int mde__sampler_domain(const mde_sampler *s)
{
    double first = (double)INFINITY;
    int best = -1;
    for (int i = 0; i < s->corpus->domains; i++) {
        double due = ((double)s->drawn[i] + 1) / s->weights[i];
        if (s->weights[i] * ((double)s->total + 1) > (double)s->drawn[i] && due < first) {
            first = due;
            best = i;
        }
    }
    for (int i = 0; best < 0; i++) {    /* rounding left none: any with a weight */
        if (s->weights[i] > 0) best = i;
    }
    return best;
}

MDEDEF mde_status mde_sampler_next(mde_sampler *s, int windows, int64_t length, uint16_t *tokens)
{
    mde_context *c = s && s->corpus ? s->corpus->context : NULL;
    mde__require(c, length >= 1 && windows >= 1, "sampler: %d windows of %lld tokens; expected at least one of one",
                 windows, (long long)length);
    if (mde__bad(c)) return mde__object_status(c);
    for (int window = 0; window < windows; window++) {
        int chosen = mde__sampler_domain(s);
        const mde__domain *d = &s->corpus->domain[chosen];
        mde_random random = mde_random_start(s->seed, mde__hash(MDE__HASH_START, d->name, strlen(d->name)));
        size_t size = (size_t)length + 1, start;
        if (d->count[MDE_TRAIN] < size) {
            return mde_fail(c, MDE_BAD_ARGUMENT, "sampler: domain \"%s\" has %zu training tokens; a window needs %zu",
                            d->name, d->count[MDE_TRAIN], size);
        }
        random.position = (uint64_t)s->drawn[chosen];
        start = (size_t)(mde_random_uniform(&random) * (double)(d->count[MDE_TRAIN] - size + 1));
        memcpy(tokens + (size_t)window * size, d->tokens[MDE_TRAIN] + start, size * sizeof *tokens);
        s->drawn[chosen]++;
        s->total++;
    }
    return c->status;
}

/* ======================================================================
   11. LANGUAGE MODEL
   ====================================================================== */

/* A decoder-only transformer of llama's form (Touvron et al. 2023) or GPT-2's (Radford et al. 2019), or between. One
   forward pass, written in ops, serves training, which records it on the tape, scoring, and generation, which gives it
   a cache of keys and values. A parameter has the name and layout that Hugging Face files use, so that reading and
   writing needs no translation. */

#define MDE__SCORED_ROWS 1024       /* logits held at one time while scoring */
#define MDE__MAX_CURVE 1024

typedef struct mde__linear_layer { mde_tensor *weight, *bias; } mde__linear_layer;
typedef struct mde__norm { mde_tensor *gain, *bias; } mde__norm;

typedef struct mde__layer {
    mde__norm attention_norm, forward_norm;
    mde__linear_layer qkv;                /* queries, keys and values side by side */
    mde__linear_layer attention_out;
    mde__linear_layer up, down;           /* up: for SwiGLU, the gate and then the values */
    mde_tensor joined[4];           /* weight and bias of qkv and up, where they are made of several parameters */
} mde__layer;

struct mde_lm {
    mde_context *context;
    mde_lm_desc desc;
    int gpt2;                       /* names and layout of GPT-2: weights [in, out], one product for q, k and v */
    mde_params *params;
    const mde_safetensors *file;    /* while the model is read: where its parameters come from, and that file's name */
    const char *path;
    mde_tokenizer *tokenizer;       /* NULL: not known */
    mde_tensor *embedding, *positions, *output;
    mde__layer *layers;
    mde__norm norm;

    int training;                   /* dropout is on */
    int64_t step;                   /* chooses its masks */

    double *curve, *curve_tokens;
    int curve_points;

    char *no_tokenizer;             /* why a tokenizer.json was not taken; NULL: there was none */

    mde_text *text;                 /* of the last generation */
    int32_t *ids;
    size_t id_count;
};

/* ---- The descriptor ---- */

/* Fields of a descriptor, for checking, writing, reading and comparing: i int, l int64_t, u uint64_t, d double. */
typedef struct mde__field {
    const char *name;
    char kind;
    size_t offset;
    double minimum, maximum;        /* both 0: any value is right, or checked elsewhere */
    const char *expected;           /* NULL: "minimum to maximum" */
} mde__field;
#define MDE__FIELD(type, kind, name, minimum, maximum, expected) \
    { #name, kind, offsetof(type, name), minimum, maximum, expected }

static double mde__field_value(const mde__field *field, const void *desc)
{
    const void *at = (const char *)desc + field->offset;
    if (field->kind == 'd') return *(const double *)at;
    return field->kind == 'l' ? (double)*(const int64_t *)at : *(const int *)at;
}

/* 1 when the fields are within their ranges; otherwise an error that begins with `what`. */
static int mde__check_fields(mde_context *c, const char *what, int count, const mde__field *fields, const void *desc)
{
    char number[32];
    for (int i = 0; i < count; i++) {
        const mde__field *field = &fields[i];
        double value;
        if (field->minimum == 0 && field->maximum == 0) continue;
        value = mde__field_value(field, desc);
        if (value >= field->minimum && value <= field->maximum) continue;
        mde__sentence(number, sizeof number, field->kind == 'd' ? "%.9g" : "%.0f", value);
        if (field->expected) {
            return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: %s is %s; expected %s", what, field->name, number,
                             field->expected);
        }
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: %s is %s; expected %.9g to %.9g", what, field->name, number,
                         field->minimum, field->maximum);
    }
    return 1;
}

#define MDE__LM_FIELDS 21
#define MDE__LM_NEEDED 16       /* in a file; the others are there only where they are not the default */
#define MDE__LM_FIELD(kind, name, minimum, maximum, expected) \
    MDE__FIELD(mde_lm_desc, kind, name, minimum, maximum, expected)
static const mde__field mde__lm_fields[MDE__LM_FIELDS] = {
    MDE__LM_FIELD('i', layers, 1, 1000, NULL), MDE__LM_FIELD('i', width, 1, 65536, NULL),
    MDE__LM_FIELD('i', heads, 1, 65536, NULL), MDE__LM_FIELD('i', kv_heads, 1, 65536, NULL),
    MDE__LM_FIELD('i', hidden, 1, 1 << 20, NULL), MDE__LM_FIELD('i', context, 1, 1 << 20, NULL),
    MDE__LM_FIELD('i', vocabulary, 1, MDE__MAX_TOKENS, NULL), MDE__LM_FIELD('i', layer_norm, 0, 0, NULL),
    MDE__LM_FIELD('i', learned_positions, 0, 0, NULL), MDE__LM_FIELD('i', gelu, 0, 0, NULL),
    MDE__LM_FIELD('i', biases, 0, 3, NULL), MDE__LM_FIELD('i', untied, 0, 0, NULL),
    MDE__LM_FIELD('d', rope_base, 1 + 1e-9, 1e12, "more than 1"),
    MDE__LM_FIELD('d', norm_epsilon, 1e-300, 1 - 1e-9, "0 to 1"),
    MDE__LM_FIELD('d', dropout, 0, 1 - 1e-9, "0 to 1"), MDE__LM_FIELD('u', seed, 0, 0, NULL),
    MDE__LM_FIELD('i', head_dim, 1, 4096, NULL), MDE__LM_FIELD('d', rope_factor, 0, 0, NULL),
    MDE__LM_FIELD('i', rope_context, 0, 0, NULL), MDE__LM_FIELD('d', rope_low, 0, 0, NULL),
    MDE__LM_FIELD('d', rope_high, 0, 0, NULL)
};

/* Fills in the defaults and checks; 1 when the descriptor is one of a model. */
static int mde__lm_resolve(mde_context *c, const mde_lm_desc *desc, int vocabulary, mde_lm_desc *out)
{
    mde_lm_desc d = *desc;
    if (d.layers == 0) d.layers = 4;
    if (d.width == 0) d.width = 128;
    if (d.heads == 0) d.heads = d.width >= 64 ? d.width / 32 : 1;
    if (d.kv_heads == 0) d.kv_heads = d.heads;
    if (d.hidden == 0 && d.width <= 65536) d.hidden = ((d.gelu ? 4 * d.width : (8 * d.width + 2) / 3) + 15) / 16 * 16;
    if (d.context == 0) d.context = 128;
    if (d.vocabulary == 0) d.vocabulary = vocabulary ? vocabulary : 256;
    if (d.rope_base == 0) d.rope_base = 10000;
    if (d.norm_epsilon == 0) d.norm_epsilon = 1e-5;
    if (d.head_dim == 0) d.head_dim = d.width >= d.heads && d.heads > 0 ? d.width / d.heads : 1;
    if (d.rope_factor == 1 && d.rope_context == 0) d.rope_factor = 0;
    if (!mde__check_fields(c, "language model", MDE__LM_FIELDS, mde__lm_fields, &d)) return 0;
    mde__require(c, desc->head_dim != 0 || d.width % d.heads == 0, "language model: width %d is not a multiple of "
                 "heads %d", d.width, d.heads);
    mde__require(c, d.learned_positions || d.head_dim % 2 == 0, "language model: width %d over heads %d leaves %d a "
                 "head; rotary positions need an even number", d.width, d.heads, d.head_dim);
    mde__require(c, d.rope_factor == 0 || (d.rope_factor >= 1 && d.rope_factor <= 1e6), "language model: rope_factor "
                 "is %.9g; expected 1 or more", d.rope_factor);
    mde__require(c, d.rope_context == 0 || (d.rope_context > 0 && d.rope_low > 0 && d.rope_high > d.rope_low &&
                                            d.rope_high < 1e9 && d.rope_factor != 0),
                 "language model: rope_context is %d; expected 0 or more, and then rope_factor, rope_low and "
                 "rope_high, the last above rope_low", d.rope_context);
    mde__require(c, d.heads % d.kv_heads == 0, "language model: heads %d is not a multiple of kv_heads %d", d.heads,
                 d.kv_heads);
    mde__require(c, d.vocabulary >= vocabulary, "language model: vocabulary %d is smaller than the corpus's %d",
                 d.vocabulary, vocabulary);
    *out = d;
    return !mde__bad(c);
}

/* ---- Parameters ---- */

/* A parameter's name without what stands before it in some files: GPT-2's may have a prefix, others' may lack it. */
static const char *mde__lm_bare_name(const char *name)
{
    if (strncmp(name, "transformer.", 12) == 0) return name + 12;
    return strncmp(name, "model.", 6) == 0 ? name + 6 : name;
}

/* The tensor of a file for a parameter; an error when it is not there or has another shape. */
static const mde_safetensor *mde__lm_find(mde_lm *lm, const char *name, int rank, const int64_t *shape)
{
    const mde_safetensors *file = lm->file;
    const char *bare = mde__lm_bare_name(name);
    char is[160], should[160];
    int i;
    for (i = 0; i < file->count; i++) {
        const mde_safetensor *t = &file->tensors[i];
        if (strcmp(mde__lm_bare_name(t->name), bare) != 0) continue;
        if (t->rank == rank && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) == 0) return t;
        mde_fail(lm->context, MDE_BAD_FILE, "%s: tensor \"%s\" is %s; expected %s", lm->path, name,
                 mde__print_shape(is, ", ", t->rank, t->shape), mde__print_shape(should, ", ", rank, shape));
        return NULL;
    }
    for (i = 0; i < file->others && strcmp(mde__lm_bare_name(file->other[2 * i]), bare) != 0; i++) {}
    mde_fail(lm->context, MDE_BAD_FILE, i < file->others ? "%s: tensor \"%s\" is of type %.40s; expected F32, F16 or "
             "BF16 and at most 5 dimensions" : "%s: tensor \"%s\" is missing", lm->path, name,
             i < file->others ? file->other[2 * i + 1] : "");
    return NULL;
}

/* The parameter `part`, weight or bias, of what has that Hugging Face name; layer -1: not of a layer, -2: without a
   prefix. A matrix has columns, a vector 0 of them. One that is read must be in the file, so that no file asks for more
   memory than it fills. */
static mde_tensor *mde__lm_param(mde_lm *lm, int layer, const char *name, const char *part, int64_t rows,
                                 int64_t columns, mde_init init, double scale)
{
    const mde_safetensor *from = NULL;
    mde_tensor *t;
    char full[128];
    const int64_t shape[2] = { rows, columns };
    if (mde__bad(lm->context)) return NULL;
    if (layer < 0) snprintf(full, sizeof full, "%s%s.%s", lm->gpt2 || layer == -2 ? "" : "model.", name, part);
    else snprintf(full, sizeof full, "%s%d.%s.%s", lm->gpt2 ? "h." : "model.layers.", layer, name, part);
    if (lm->file) {
        from = mde__lm_find(lm, full, columns ? 2 : 1, shape);
        if (!from) return NULL;
        init = MDE_INIT_ZEROS;
    }
    t = mde_param(lm->params, full, columns ? 2 : 1, shape, init, scale);
    if (t && from) memcpy(t->data, from->data, t->count * sizeof *t->data);
    return t;
}

static mde__linear_layer mde__lm_linear(mde_lm *lm, int layer, const char *name, int64_t in, int64_t out, double scale,
                                        int biases)
{
    mde__linear_layer linear;
    linear.weight = mde__lm_param(lm, layer, name, "weight", lm->gpt2 ? in : out, lm->gpt2 ? out : in, MDE_INIT_NORMAL,
                                  scale / sqrt((double)in));
    linear.bias = biases ? mde__lm_param(lm, layer, name, "bias", out, 0, MDE_INIT_ZEROS, 0) : NULL;
    return linear;
}

static mde__norm mde__lm_norm(mde_lm *lm, int layer, const char *name)
{
    int64_t width = lm->desc.width;
    mde__norm norm;
    norm.gain = mde__lm_param(lm, layer, name, "weight", width, 0, MDE_INIT_ONES, 0);
    norm.bias = lm->desc.layer_norm ? mde__lm_param(lm, layer, name, "bias", width, 0, MDE_INIT_ZEROS, 0) : NULL;
    return norm;
}

/* The layers `parts` as one, side by side. */
static mde__linear_layer mde__lm_join(mde_lm *lm, int count, const mde__linear_layer *parts, mde_tensor *joined)
{
    mde_tensor *each[3] = { NULL, NULL, NULL };
    mde__linear_layer all;
    memset(&all, 0, sizeof all);
    for (int i = 0; i < count; i++) each[i] = parts[i].weight;
    mde__params_join(lm->params, count, each, &joined[0]);
    all.weight = &joined[0];
    if (!parts[count - 1].bias) return all;
    for (int i = 0; i < count; i++) each[i] = parts[i].bias;
    mde__params_join(lm->params, count, each, &joined[1]);
    all.bias = &joined[1];
    return all;
}

/* Linear layers start with variance 1 / inputs. Those that end on the residual stream start smaller by the number of
   branches, so that the stream carries the embedding at first and each branch grows as it learns; of the scales tried
   on small models this trained best, before 1 / sqrt(2 layers) and 0. */
static void mde__lm_add_layer(mde_lm *lm, int i)
{
    const mde_lm_desc *d = &lm->desc;
    mde__layer *layer = &lm->layers[i];
    int64_t width = d->width, q_width = (int64_t)d->head_dim * d->heads, kv_width = (int64_t)d->head_dim * d->kv_heads;
    int qkv = d->biases > 0, out = d->biases == 1 || d->biases == 2, forward = d->biases == 1;
    double residual = 1 / (2.0 * d->layers);
    mde__linear_layer parts[3];
    memset(parts, 0, sizeof parts);
    if (lm->gpt2) {
        layer->attention_norm = mde__lm_norm(lm, i, "ln_1");
        layer->qkv = mde__lm_linear(lm, i, "attn.c_attn", width, 3 * width, 1, 1);
        layer->attention_out = mde__lm_linear(lm, i, "attn.c_proj", width, width, residual, 1);
        layer->forward_norm = mde__lm_norm(lm, i, "ln_2");
        layer->up = mde__lm_linear(lm, i, "mlp.c_fc", width, d->hidden, 1, 1);
        layer->down = mde__lm_linear(lm, i, "mlp.c_proj", d->hidden, width, residual, 1);
        return;
    }
    layer->attention_norm = mde__lm_norm(lm, i, "input_layernorm");
    parts[0] = mde__lm_linear(lm, i, "self_attn.q_proj", width, q_width, 1, qkv);
    parts[1] = mde__lm_linear(lm, i, "self_attn.k_proj", width, kv_width, 1, qkv);
    parts[2] = mde__lm_linear(lm, i, "self_attn.v_proj", width, kv_width, 1, qkv);
    layer->qkv = mde__lm_join(lm, 3, parts, &layer->joined[0]);
    layer->attention_out = mde__lm_linear(lm, i, "self_attn.o_proj", q_width, width, residual, out);
    layer->forward_norm = mde__lm_norm(lm, i, "post_attention_layernorm");
    if (!d->gelu) parts[0] = mde__lm_linear(lm, i, "mlp.gate_proj", width, d->hidden, 1, forward);
    parts[1] = mde__lm_linear(lm, i, "mlp.up_proj", width, d->hidden, 1, forward);
    layer->up = d->gelu ? parts[1] : mde__lm_join(lm, 2, parts, &layer->joined[2]);
    layer->down = mde__lm_linear(lm, i, "mlp.down_proj", d->hidden, width, residual, forward);
}

static void mde__lm_add_parameters(mde_lm *lm)
{
    const mde_lm_desc *d = &lm->desc;
    double scale = 1 / sqrt((double)d->width);
    lm->embedding = mde__lm_param(lm, -1, lm->gpt2 ? "wte" : "embed_tokens", "weight", d->vocabulary, d->width,
                                  MDE_INIT_NORMAL, scale);
    if (d->learned_positions) {
        lm->positions = mde__lm_param(lm, -1, lm->gpt2 ? "wpe" : "embed_positions", "weight", d->context, d->width,
                                      MDE_INIT_NORMAL, scale);
    }
    for (int i = 0; i < d->layers && !mde__bad(lm->context); i++) mde__lm_add_layer(lm, i);
    lm->norm = mde__lm_norm(lm, -1, lm->gpt2 ? "ln_f" : "norm");
    if (d->untied) {
        lm->output = mde__lm_param(lm, -2, "lm_head", "weight", d->vocabulary, d->width, MDE_INIT_NORMAL, scale);
    }
}

MDEDEF mde_status mde_lm_set_tokenizer(mde_lm *lm, const mde_tokenizer *tokenizer)
{
    mde_tokenizer *copy;
    if (!lm) return MDE_BAD_ARGUMENT;
    if (mde__bad(lm->context) || !tokenizer) return lm->context->status;
    if (tokenizer->vocabulary > lm->desc.vocabulary) {
        return mde_fail(lm->context, MDE_BAD_ARGUMENT, "language model: the tokenizer has %d tokens, the model %d",
                        tokenizer->vocabulary, lm->desc.vocabulary);
    }
    copy = mde__tokenizer_copy(lm->context, tokenizer);
    if (!copy) return lm->context->status;
    mde_tokenizer_free(lm->tokenizer);
    lm->tokenizer = copy;
    return MDE_OK;
}

/* Without a tokenizer; the parameters are those of a file, if one is given. */
static mde_lm *mde__lm_build(mde_context *c, const mde_lm_desc *desc, int vocabulary, const mde_safetensors *file,
                             const char *path)
{
    mde_lm *lm;
    mde_lm_desc d;
    if (!mde__lm_resolve(c, desc, vocabulary, &d)) return NULL;
    lm = (mde_lm *)mde_alloc(c, 1, sizeof *lm);
    if (!lm) return NULL;
    lm->context = c;
    lm->desc = d;
    lm->gpt2 = d.layer_norm && d.learned_positions && d.gelu && d.biases == 1 && d.kv_heads == d.heads &&
               d.head_dim * d.heads == d.width;
    lm->file = file;
    lm->path = path;
    lm->params = mde_params_create(c, d.seed);
    lm->layers = (mde__layer *)mde_alloc(c, (size_t)d.layers, sizeof *lm->layers);
    if (!mde__bad(c)) mde__lm_add_parameters(lm);
    lm->file = NULL;
    lm->path = NULL;
    if (!mde__bad(c)) return lm;
    mde_lm_free(lm);
    return NULL;
}

MDEDEF mde_lm *mde_lm_create(mde_context *c, const mde_corpus *corpus, const mde_lm_desc *desc)
{
    mde_lm_desc defaults;
    mde_lm *lm;
    memset(&defaults, 0, sizeof defaults);
    if (mde__bad(c)) return NULL;
    lm = mde__lm_build(c, desc ? desc : &defaults, mde_corpus_vocabulary(corpus), NULL, NULL);
    if (!lm) return NULL;
    if (corpus) mde_lm_set_tokenizer(lm, corpus->tokenizer);
    else if (lm->desc.vocabulary == 256) lm->tokenizer = mde_tokenizer_bytes(c);
    if (!mde__bad(c)) return lm;
    mde_lm_free(lm);
    return NULL;
}

MDEDEF void mde_lm_free(mde_lm *lm)
{
    if (!lm) return;
    mde_params_free(lm->params);
    mde_tokenizer_free(lm->tokenizer);
    mde_text_free(lm->text);
    MDE__RELEASE(lm->context, lm->layers, lm->curve, lm->curve_tokens, lm->ids, lm->no_tokenizer, lm);
}

MDEDEF mde_params *mde_lm_params(const mde_lm *lm)
{
    return lm ? lm->params : NULL;
}

/* ---- Forward pass ---- */

/* before: a row of the table, or NULL; with a norm, that. residual may be NULL. */
static mde_tensor *mde__lm_apply_linear(mde_lm *lm, const mde_op *before, const mde__norm *norm, mde_tensor *x,
                                        const mde__linear_layer *linear, mde_tensor *residual)
{
    mde__linear_inputs l;
    memset(&l, 0, sizeof l);
    l.before = before;
    if (norm) {
        l.before = lm->desc.layer_norm ? &mde__op_layer_norm : &mde__op_rms_norm;
        l.gain = norm->gain;
        l.shift = norm->bias;
    }
    l.x = x;
    l.weight = linear->weight;
    l.bias = linear->bias;
    l.residual = residual;
    l.epsilon = lm->desc.norm_epsilon;
    l.transposed = !lm->gpt2;
    return mde__apply_linear(lm->context, &l);
}

/* The end of a branch: its last linear layer, and x on top. index: which dropout of the pass it is; each has masks of
   its own. */
static mde_tensor *mde__lm_end_branch(mde_lm *lm, const mde_op *before, mde_tensor *y, const mde__linear_layer *linear,
                                      mde_tensor *x, int index)
{
    if (!lm->training || lm->desc.dropout == 0) return mde__lm_apply_linear(lm, before, NULL, y, linear, x);
    y = mde__lm_apply_linear(lm, before, NULL, y, linear, NULL);
    y = mde_dropout(lm->context, y, lm->desc.dropout, lm->desc.seed,
                    (uint64_t)lm->step * (uint64_t)(2 * lm->desc.layers) + (uint64_t)index);
    return mde_add(lm->context, x, y);
}

/* Appends the keys and values of qkv [time, (heads + 2 kv_heads) dim] to the cache and lets the queries see all of
   them. Nothing is recorded. */
static mde_tensor *mde__lm_attend_cache(mde_lm *lm, mde_tensor *qkv, int layer, int64_t time, int64_t start,
                                        const float *table, mde_lm_state *cache)
{
    mde_context *c = lm->context;
    const mde_lm_desc *d = &lm->desc;
    int64_t row = (int64_t)d->kv_heads * d->head_dim, keys = (int64_t)d->heads * d->head_dim, t;
    int64_t offset = layer * (int64_t)d->context * row, shape[2] = { time, keys };
    mde_tensor *out = mde__tensor_new(c, 2, shape);
    mde_mark mark = mde_arena_mark(c);
    mde__attention_shape s;
    mde__attention_call call;
    float *scratch;
    memset(&s, 0, sizeof s);
    s.batch = s.causal = 1;
    s.time_q = time;
    s.time_k = start + time;
    s.heads = d->heads;
    s.kv_heads = d->kv_heads;
    s.dim = d->head_dim;
    s.stride_q = keys + 2 * row;
    scratch = (float *)mde_scratch(c, mde__attention_scratch(c, &s), sizeof *scratch);
    if (!out || !scratch) return NULL;
    if (table) {
        const int64_t heads[4] = { 1, time, s.heads + 2 * s.kv_heads, s.dim };
        mde__rotation r = mde__rotation_of(heads, s.heads + s.kv_heads, table, 0);
        mde__rotate_heads(c, &r, qkv->data, qkv->data);
    }
    for (t = 0; t < time; t++) {
        const float *from = qkv->data + t * s.stride_q + keys;
        memcpy(cache->keys + offset + (start + t) * row, from, (size_t)row * sizeof *from);
        memcpy(cache->values + offset + (start + t) * row, from + row, (size_t)row * sizeof *from);
    }
    memset(&call, 0, sizeof call);
    call.s = s;
    call.q = qkv->data;
    call.k = cache->keys + offset;
    call.v = cache->values + offset;
    call.scale = (float)(1 / sqrt((double)s.dim));
    call.out = out->data;
    call.scratch = scratch;
    mde__attend(c, &call);
    mde_arena_rewind(c, mark);
    return out;
}

static mde_tensor *mde__lm_attention(mde_lm *lm, mde_tensor *x, int i, int64_t batch, int64_t time, int64_t start,
                                     const float *table, mde_lm_state *cache)
{
    mde_context *c = lm->context;
    const mde_lm_desc *d = &lm->desc;
    const mde__layer *layer = &lm->layers[i];
    int64_t dim = d->head_dim, heads[4] = { batch, time, d->heads + 2 * d->kv_heads, dim };
    int64_t rows[2] = { batch * time, d->heads * dim };
    mde_tensor *y = mde__lm_apply_linear(lm, NULL, &layer->attention_norm, x, &layer->qkv, NULL);
    if (!y) return NULL;
    if (cache) {
        y = mde__lm_attend_cache(lm, y, i, time, start, table, cache);
    } else {
        y = mde__apply_packed_attention(c, mde_reshape(c, y, 4, heads), d->kv_heads, 1 / sqrt((double)dim), 1,
                                        d->learned_positions ? 0 : d->rope_base, table);
        y = mde_reshape(c, y, 2, rows);
    }
    return mde__lm_end_branch(lm, NULL, y, &layer->attention_out, x, 2 * i);
}

static mde_tensor *mde__lm_feed_forward(mde_lm *lm, mde_tensor *x, int i)
{
    const mde__layer *layer = &lm->layers[i];
    const mde_op *activation = lm->desc.gelu ? &mde__op_gelu : &mde__op_packed_swiglu;
    mde_tensor *y = mde__lm_apply_linear(lm, NULL, &layer->forward_norm, x, &layer->up, NULL);
    return mde__lm_end_branch(lm, activation, y, &layer->down, x, 2 * i + 1);
}

static mde_tensor *mde__lm_embed(mde_lm *lm, int64_t batch, int64_t time, const int32_t *tokens, int64_t start)
{
    mde_tensor *in[2] = { lm->embedding, lm->positions };
    if (!lm->positions) return mde_gather(lm->context, lm->embedding, batch * time, tokens);
    return mde__apply_ids(lm->context, &mde__op_embed, in, batch * time, tokens, start, time);
}

/* The table of the rotary positions from `start` on; linear scaling and llama 3's slow the frequencies down. */
static const float *mde__lm_rope_table(mde_lm *lm, int64_t start, int64_t time)
{
    const mde_lm_desc *d = &lm->desc;
    int half = d->head_dim / 2;
    double *slowed = NULL;
    if (d->rope_factor != 0) {
        slowed = (double *)mde_scratch(lm->context, (size_t)half, sizeof *slowed);
        if (!slowed) return NULL;
    }
    for (int i = 0; slowed && i < half; i++) {
        double turns = d->rope_context * mde__pow64(d->rope_base, -(double)i / half) / (2 * MDE__PI);
        double kept = d->rope_context > 0 ? (turns - d->rope_low) / (d->rope_high - d->rope_low) : 0;
        kept = kept < 0 ? 0 : kept > 1 ? 1 : kept;
        slowed[i] = (1 - kept) / d->rope_factor + kept;
    }
    return mde__rope_table(lm->context, d->rope_base, start, time, half, slowed);
}

/* Normed last hidden state [batch * time, width] of tokens at positions from `start` on. With a cache batch is 1, and
   start the length of what it holds. */
static mde_tensor *mde__lm_hidden(mde_lm *lm, int64_t batch, int64_t time, const int32_t *tokens, int64_t start,
                                  mde_lm_state *cache)
{
    mde_context *c = lm->context;
    mde_tensor *x = mde__lm_embed(lm, batch, time, tokens, start), *y;
    const float *table = NULL;
    mde_mark mark;
    if (!lm->positions && !mde__bad(c)) table = mde__lm_rope_table(lm, start, time);
    mark = mde_arena_mark(c);
    for (int i = 0; i < lm->desc.layers; i++) {
        y = mde__lm_attention(lm, x, i, batch, time, start, table, cache);
        y = mde__lm_feed_forward(lm, y, i);
        if (c->recording || !y) {
            x = y;
            continue;
        }
        /* Nobody comes back to a layer. */
        memcpy(x->data, y->data, x->count * sizeof *x->data);
        mde_arena_rewind(c, mark);
    }
    if (cache) cache->length = start + time;
    if (!lm->desc.layer_norm) return mde_rms_norm(c, x, lm->norm.gain, lm->desc.norm_epsilon);
    return mde_layer_norm(c, x, lm->norm.gain, lm->norm.bias, lm->desc.norm_epsilon);
}

static mde_tensor *mde__lm_output(mde_lm *lm, mde_tensor *hidden)
{
    return mde_matmul_t(lm->context, hidden, lm->output ? lm->output : lm->embedding, 0, 1);
}

MDEDEF mde_tensor *mde_lm_logits(mde_lm *lm, int64_t batch, int64_t time, const int32_t *tokens)
{
    if (!lm || mde__bad(lm->context)) return NULL;
    if (batch < 1 || time < 1 || time > lm->desc.context) {
        mde_fail(lm->context, MDE_BAD_SHAPE, "language model: tokens are [%lld, %lld]; expected windows of 1 to %d, "
                 "the context", (long long)batch, (long long)time, lm->desc.context);
        return NULL;
    }
    return mde__lm_output(lm, mde__lm_hidden(lm, batch, time, tokens, 0, NULL));
}

/* ---- Settings in files ---- */

#ifndef MDE_NO_STDIO

/* 9 significant digits where they say it all, otherwise 17. */
static void mde__print_exact(char buffer[400], double value)
{
    double read = 0;
    mde__print_number(buffer, value, 'g', 9);
    if (!mde__parse_number(buffer, strlen(buffer), &read) || read != value) mde__print_number(buffer, value, 'g', 17);
}

static void mde__field_print(const mde__field *field, const void *desc, char buffer[400])
{
    const void *at = (const char *)desc + field->offset;
    if (field->kind == 'u') snprintf(buffer, 400, "%llu", (unsigned long long)*(const uint64_t *)at);
    else if (field->kind == 'd') mde__print_exact(buffer, mde__field_value(field, desc));
    else snprintf(buffer, 400, "%lld", (long long)mde__field_value(field, desc));
}

/* Sets an int, double or uint64_t field from text; 0 when it is none. */
static int mde__field_parse(const mde__field *field, void *desc, const char *text)
{
    void *at = (char *)desc + field->offset;
    double number;
    char *end;
    if (field->kind == 'u') {
        *(uint64_t *)at = strtoull(text, &end, 10);
        return *text && *end == 0;
    }
    if (!mde__parse_number(text, strlen(text), &number)) return 0;
    if (field->kind == 'd') {
        *(double *)at = number;
        return 1;
    }
    if (!(number >= -2147483647.0 && number <= 2147483647.0)) return 0;
    *(int *)at = (int)number;
    return (int)number == number;
}

/* Key and value of metadata. */
static void mde__pair_add(mde_context *c, mde_names *pairs, const char *prefix, const char *key, const char *value)
{
    char full[400];
    snprintf(full, sizeof full, "mdemix.%s%s", prefix, key);
    if (!mde__bad(c) && mde_names_add(c, pairs, full) == MDE_OK) mde_names_add(c, pairs, value);
}

static void mde__pairs_add_fields(mde_context *c, mde_names *pairs, const char *prefix, const mde__field *fields,
                                  int count, const void *desc)
{
    char value[400];
    for (int i = 0; i < count; i++) {
        mde__field_print(&fields[i], desc, value);
        mde__pair_add(c, pairs, prefix, fields[i].name, value);
    }
}

/* Fields that are newer than the first files of models are written only where they are not the default. */
static void mde__lm_add_fields(mde_context *c, mde_names *pairs, const mde_lm_desc *desc)
{
    mde_lm_desc d = *desc;
    if (d.head_dim * d.heads == d.width) d.head_dim = 0;
    mde__pairs_add_fields(c, pairs, "model.", mde__lm_fields, MDE__LM_NEEDED, &d);
    for (int i = MDE__LM_NEEDED; i < MDE__LM_FIELDS; i++) {
        const mde__field *field = &mde__lm_fields[i];
        if (mde__field_value(field, &d) != 0) mde__pairs_add_fields(c, pairs, "model.", field, 1, &d);
    }
}

#endif /* MDE_NO_STDIO */

/* ---- Training ---- */

typedef struct mde__training {
    mde_lm *lm;
    const mde_corpus *corpus;
    mde_train_desc desc;            /* with the defaults filled in */
    int64_t step, steps;
    mde_schedule schedule;
    mde_adamw_desc adamw;
    mde_sampler sampler;
    int points;                     /* of the curve; lm->curve holds sums until the end */
    uint16_t *windows;
    int32_t *inputs, *targets;
    double began;                   /* time and step at which this process began */
    int64_t began_step;
    int lost;                       /* steps in a row with a loss above twice that of a blind guess */
} mde__training;

/* First step of the k-th span of the curve. */
static int64_t mde__training_span(const mde__training *run, int k)
{
    return (run->steps * k + run->points - 1) / run->points;
}

#define MDE__TRAIN_FIELDS 10
#define MDE__TRAIN_KEPT 9       /* that a run which is continued must have, too */
#define MDE__TRAIN_FIELD(kind, name, minimum, maximum, expected) \
    MDE__FIELD(mde_train_desc, kind, name, minimum, maximum, expected)
static const mde__field mde__train_fields[MDE__TRAIN_FIELDS] = {
    MDE__TRAIN_FIELD('l', tokens, 1, 9e18, "at least 1"), MDE__TRAIN_FIELD('i', batch, 1, 1 << 20, "1 or more"),
    MDE__TRAIN_FIELD('l', length, 0, 0, NULL), MDE__TRAIN_FIELD('d', learning_rate, 0, 100, "0 or more"),
    MDE__TRAIN_FIELD('d', warmup, 0, 1, "0 or more"), MDE__TRAIN_FIELD('d', weight_decay, 0, 100, "0 or more"),
    MDE__TRAIN_FIELD('d', clip, 0, 1e30, "0 or more"), MDE__TRAIN_FIELD('u', seed, 0, 0, NULL),
    MDE__TRAIN_FIELD('i', curve_points, 1, MDE__MAX_CURVE, NULL),
    MDE__TRAIN_FIELD('l', checkpoint_steps, 0, 9e18, "0 or more")
};

/* A training is a function of the weights it begins with, so it begins with fresh moments. */
static void mde__forget_moments(mde_params *p)
{
    p->steps = 0;
    for (int i = 0; i < p->count; i++) {
        mde__parameter *item = p->items[i];
        if (item->m) memset(item->m, 0, item->tensor.count * sizeof *item->m);
        if (item->v) memset(item->v, 0, item->tensor.count * sizeof *item->v);
    }
}

static int mde__training_start(mde__training *run, mde_lm *lm, const mde_corpus *corpus, const mde_train_desc *desc)
{
    mde_context *c = lm->context;
    mde_train_desc *d = &run->desc;
    size_t rows;
    memset(run, 0, sizeof *run);
    run->lm = lm;
    run->corpus = corpus;
    *d = *desc;
    if (d->batch == 0) d->batch = 16;
    if (d->length == 0) d->length = lm->desc.context;
    if (d->learning_rate == 0) d->learning_rate = 3e-3;
    if (d->warmup == 0) d->warmup = 0.05;
    d->weight_decay = mde__or_default(d->weight_decay, 0.1);
    d->clip = mde__or_default(d->clip, 1);
    if (d->curve_points == 0) d->curve_points = 64;
    if (corpus->tokenizer->vocabulary > lm->desc.vocabulary) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "train: the corpus has %d kinds of tokens, the model only %d",
                         corpus->tokenizer->vocabulary, lm->desc.vocabulary);
    }
    if (!mde__check_fields(c, "train", MDE__TRAIN_FIELDS, mde__train_fields, d)) return 0;
    if (d->length < 1 || d->length > lm->desc.context) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "train: length is %lld; expected 1 to %d, the model's context",
                         (long long)d->length, lm->desc.context);
    }
    run->steps = (d->tokens - 1) / (d->batch * d->length) + 1;
    if (d->checkpoint_steps == 0) d->checkpoint_steps = (run->steps + 9) / 10;
    run->points = run->steps < d->curve_points ? (int)run->steps : d->curve_points;
    run->schedule.kind = d->schedule;
    run->schedule.peak = d->learning_rate;
    run->schedule.steps = run->steps;
    run->schedule.warmup = (int64_t)floor(d->warmup * (double)run->steps + 0.5);
    run->schedule.final = d->schedule == MDE_WSD ? 0 : 0.1;
    run->schedule.decay = 0.2;
    run->adamw.weight_decay = d->weight_decay;
    run->adamw.clip = d->clip;
    mde__forget_moments(lm->params);
    if (!mde__mul_size((size_t)d->batch, (size_t)d->length, &rows) || rows > SIZE_MAX / 16) rows = SIZE_MAX / 2;
    MDE__RELEASE(c, lm->curve, lm->curve_tokens);
    lm->curve_points = 0;
    lm->curve = (double *)mde_alloc(c, (size_t)run->points, sizeof *lm->curve);
    lm->curve_tokens = (double *)mde_alloc(c, (size_t)run->points, sizeof *lm->curve_tokens);
    run->windows = (uint16_t *)mde_alloc(c, rows + (size_t)d->batch, sizeof *run->windows);
    run->inputs = (int32_t *)mde_alloc(c, rows, sizeof *run->inputs);
    run->targets = (int32_t *)mde_alloc(c, rows, sizeof *run->targets);
    if (!mde__bad(c)) mde_sampler_start(&run->sampler, corpus, d->weights, d->seed);
    return !mde__bad(c);
}

/* One step of the optimizer; returns the loss before it. */
static double mde__training_step(mde__training *run)
{
    mde_lm *lm = run->lm;
    mde_context *c = lm->context;
    int64_t batch = run->desc.batch, length = run->desc.length;
    mde_mark mark = mde_arena_mark(c);
    mde_tensor *loss;
    double value = (double)NAN;
    if (mde_sampler_next(&run->sampler, run->desc.batch, length, run->windows) != MDE_OK) return value;
    for (int64_t window = 0; window < batch; window++) {
        for (int64_t t = 0; t < length; t++) {
            run->inputs[window * length + t] = run->windows[window * (length + 1) + t];
            run->targets[window * length + t] = run->windows[window * (length + 1) + t + 1];
        }
    }
    lm->training = 1;
    lm->step = run->step;
    mde_params_zero_grad(lm->params);
    loss = mde_linear_cross_entropy(c, mde__lm_hidden(lm, batch, length, run->inputs, 0, NULL),
                                    lm->output ? lm->output : lm->embedding, run->targets);
    lm->training = 0;
    value = mde_item(loss);
    if (!mde__bad(c) && !(value < (double)INFINITY)) {
        mde_fail(c, MDE_NOT_FINITE, "train: the loss of step %lld is not finite; a smaller learning_rate may help",
                 (long long)run->step + 1);
    }
    if (!mde__bad(c) && mde_backward(c, loss) == MDE_OK) {
        run->adamw.learning_rate = mde_schedule_rate(&run->schedule, run->step);
        mde_adamw_step(lm->params, &run->adamw);
        if (c->status == MDE_NOT_FINITE) {
            mde_clear_error(c);
            mde_fail(c, MDE_NOT_FINITE, "train: the gradient of step %lld is not finite; a smaller learning_rate may "
                     "help", (long long)run->step + 1);
        }
    }
    mde_arena_rewind(c, mark);
    return value;
}

static int mde__training_progress(const mde__training *run, double loss)
{
    mde_progress p;
    double seconds = mde_seconds() - run->began, done = (double)(run->step - run->began_step);
    if (!run->desc.progress) return 0;
    memset(&p, 0, sizeof p);
    p.stage = "train";
    p.step = run->step;
    p.steps = run->steps;
    p.loss = loss;
    p.rate = seconds > 0 ? done * (double)run->desc.batch * (double)run->desc.length / seconds : 0;
    p.seconds_left = seconds / done * (double)(run->steps - run->step);
    p.bytes_tokens = mde_corpus_vocabulary(run->corpus) == 256;
    p.reported = run->step - 1;
    return run->desc.progress(&p, run->desc.user);
}

/* Sums become means; a stopped run has the points that it reached. */
static void mde__training_finish_curve(mde__training *run)
{
    mde_lm *lm = run->lm;
    int k;
    for (k = 0; k < run->points && mde__training_span(run, k) < run->step; k++) {
        int64_t start = mde__training_span(run, k), end = mde__training_span(run, k + 1);
        if (end > run->step) end = run->step;
        lm->curve[k] /= (double)(end - start);
        lm->curve_tokens[k] = (double)end * (double)run->desc.batch * (double)run->desc.length;
    }
    lm->curve_points = k;
}

#ifndef MDE_NO_STDIO

/* What must be the same for a run to be continued. */
static void mde__training_settings(const mde__training *run, mde_names *pairs)
{
    mde_context *c = run->lm->context;
    char value[400], name[300];
    mde__lm_add_fields(c, pairs, &run->lm->desc);
    mde__pairs_add_fields(c, pairs, "train.", mde__train_fields, MDE__TRAIN_KEPT, &run->desc);
    snprintf(value, sizeof value, "%d", (int)run->desc.schedule);
    mde__pair_add(c, pairs, "train.", "schedule", value);
    snprintf(value, sizeof value, "%016llx", (unsigned long long)run->corpus->hash);
    mde__pair_add(c, pairs, "train.", "corpus", value);
    for (int i = 0; i < run->corpus->domains; i++) {
        snprintf(name, sizeof name, "weight of %.250s", run->corpus->domain[i].name);
        mde__print_exact(value, run->sampler.weights[i]);
        mde__pair_add(c, pairs, "train.", name, value);
    }
}

static mde_status mde__training_save(const mde__training *run)
{
    mde_context *c = run->lm->context;
    mde_names pairs;
    mde_text *state = mde_text_create(c);
    if (!state) return c->status;
    memset(&pairs, 0, sizeof pairs);
    mde__training_settings(run, &pairs);
    mde_text_format(state, "%lld", (long long)run->step);
    for (int i = 0; i < run->corpus->domains; i++) mde_text_format(state, " %lld", (long long)run->sampler.drawn[i]);
    for (int i = 0; i < run->points; i++) {
        char bits[20];
        snprintf(bits, sizeof bits, " %016llx", (unsigned long long)mde__to_bits(run->lm->curve[i]));
        mde_text_add(state, bits);
    }
    if (!mde__bad(c)) mde__pair_add(c, &pairs, "train.", "state", state->bytes);
    if (!mde__bad(c)) {
        mde_checkpoint_write(run->lm->params, run->desc.checkpoint, pairs.count / 2,
                             (const char *const *)pairs.items);
    }
    mde_names_free(c, &pairs);
    mde_text_free(state);
    return c->status;
}

/* Step, draws of the domains, sums of the curve. */
static int mde__training_parse_state(mde__training *run, const char *text)
{
    char *end;
    if (!text) return 0;
    run->step = strtoll(text, &end, 10);
    if (end == text || run->step < 0 || run->step > run->steps) return 0;
    for (int i = 0; i < run->corpus->domains; i++) {
        text = end;
        run->sampler.drawn[i] = strtoll(text, &end, 10);
        if (end == text || run->sampler.drawn[i] < 0) return 0;
        run->sampler.total += run->sampler.drawn[i];
    }
    for (int i = 0; i < run->points; i++) {
        text = end;
        run->lm->curve[i] = mde__from_bits(strtoull(text, &end, 16));
        if (end == text) return 0;
    }
    return *end == 0 && run->sampler.total == run->step * run->desc.batch;
}

/* Continues from the checkpoint if it is there and made with the same settings. */
static mde_status mde__training_continue(mde__training *run)
{
    mde_context *c = run->lm->context;
    const char *path = run->desc.checkpoint;
    mde_safetensors *file;
    mde_names pairs;
    if (!mde_is_file(path)) return MDE_OK;
    file = mde_safetensors_read(c, path);
    if (!file) return c->status;
    memset(&pairs, 0, sizeof pairs);
    mde__training_settings(run, &pairs);
    for (int i = 0; i + 1 < pairs.count && !mde__bad(c); i += 2) {
        const char *was = mde_safetensors_metadata(file, pairs.items[i]);
        if (!was) {
            mde_fail(c, MDE_BAD_FILE, "%s: is no checkpoint of this training: it does not hold %s", path,
                     pairs.items[i]);
        } else if (strcmp(was, pairs.items[i + 1]) != 0) {
            mde_fail(c, MDE_BAD_FILE, "%s: was made with %s %s, this run has %s", path,
                     pairs.items[i] + strlen("mdemix."), was, pairs.items[i + 1]);
        }
    }
    mde_names_free(c, &pairs);
    if (!mde__bad(c) && !mde__training_parse_state(run, mde_safetensors_metadata(file, "mdemix.train.state"))) {
        mde_fail(c, MDE_BAD_FILE, "%s: the state of the training in it is damaged", path);
    }
    /* From the same reading: the file may be another one by now. */
    if (!mde__bad(c)) mde_checkpoint_load_sets(1, &run->lm->params, path, file);
    mde_safetensors_free(c, file);
    return c->status;
}

#endif /* MDE_NO_STDIO */

/* Steps too large throw a model where no gradient leads back from. */
static void mde__training_check_loss(mde__training *run, double loss)
{
    double blind = mde__log64((double)run->lm->desc.vocabulary);
    run->lost = loss > 2 * blind ? run->lost + 1 : 0;
    if (run->lost < 20) return;
    mde_fail(run->lm->context, MDE_NOT_FINITE, "train: the loss of step %lld is %.9g nats, and for %d steps above "
             "twice the %.9g of a blind guess; a smaller learning_rate may help", (long long)run->step + 1, loss,
             run->lost, blind);
}

static mde_status mde__training_train(mde__training *run)
{
    mde_lm *lm = run->lm;
    mde_context *c = lm->context;
    int stopped = 0;
    run->began = mde_seconds();
    run->began_step = run->step;
    while (run->step < run->steps && !stopped) {
        double loss = mde__training_step(run);
        if (!mde__bad(c)) mde__training_check_loss(run, loss);
        if (mde__bad(c)) return c->status;
        lm->curve[run->step * run->points / run->steps] += loss;
        run->step++;
        stopped = mde__training_progress(run, loss) != 0;
#ifndef MDE_NO_STDIO
        if (run->desc.checkpoint &&
            (stopped || run->step % run->desc.checkpoint_steps == 0 || run->step == run->steps)) {
            if (mde__training_save(run) != MDE_OK) return c->status;
        }
#endif
    }
    mde__training_finish_curve(run);
    return stopped && run->step < run->steps ? MDE_STOPPED : MDE_OK;
}

MDEDEF mde_status mde_lm_train(mde_lm *lm, const mde_corpus *corpus, const mde_train_desc *desc)
{
    mde__training run;
    mde_context *c = lm ? lm->context : NULL;
    mde_status status;
    int recording;
    if (mde__bad(c)) return mde__object_status(c);
    if (!corpus || !desc) return mde_fail(c, MDE_BAD_ARGUMENT, "train: no corpus or descriptor");
    recording = mde_set_recording(c, 1);
    if (mde__training_start(&run, lm, corpus, desc)) {
#ifndef MDE_NO_STDIO
        if (run.desc.checkpoint) mde__training_continue(&run);
#endif
    }
    status = mde__bad(c) ? c->status : mde__training_train(&run);
    MDE__RELEASE(c, run.windows, run.inputs, run.targets);
    mde_set_recording(c, recording);
    return status;
}

MDEDEF const double *mde_lm_curve(const mde_lm *lm, int *points, const double **tokens)
{
    *points = lm ? lm->curve_points : 0;
    if (tokens) *tokens = lm ? lm->curve_tokens : NULL;
    return lm ? lm->curve : NULL;
}

/* ---- Scoring ---- */

/* Natural-log probabilities of windows of time + 1 tokens, each `stride` after the one before; out [batch, time] is
   written at the same stride. */
static void mde__lm_score(mde_lm *lm, int64_t batch, int64_t time, int64_t stride, const uint16_t *tokens, float *out)
{
    mde_context *c = lm->context;
    mde_mark mark = mde_arena_mark(c);
    int64_t rows = batch * time, row, i, size;
    int32_t *inputs = (int32_t *)mde_scratch(c, (size_t)rows, sizeof *inputs);
    int32_t *targets = (int32_t *)mde_scratch(c, (size_t)rows, sizeof *targets);
    mde_tensor *hidden = NULL;
    for (i = 0; i < rows && inputs && targets; i++) {
        inputs[i] = tokens[i / time * stride + i % time];
        targets[i] = tokens[i / time * stride + i % time + 1];
    }
    if (inputs && targets) hidden = mde__lm_hidden(lm, batch, time, inputs, 0, NULL);
    for (row = 0; row < rows && hidden; row += size) {
        mde_mark inner = mde_arena_mark(c);
        mde_tensor *loss;
        size = rows - row < MDE__SCORED_ROWS ? rows - row : MDE__SCORED_ROWS;
        loss = mde_cross_entropy(c, mde__lm_output(lm, mde_slice(c, hidden, 0, row, size)), targets + row);
        if (!loss) break;
        for (i = row; i < row + size; i++) out[i / time * stride + i % time] = -loss->data[i - row];
        mde_arena_rewind(c, inner);
    }
    mde_arena_rewind(c, mark);
}

/* Windows of time + 1 tokens, as many at once as make about MDE__SCORED_ROWS rows. */
static void mde__lm_score_all(mde_lm *lm, int64_t windows, int64_t time, int64_t stride, const uint16_t *tokens,
                              float *out)
{
    int64_t batch = time < MDE__SCORED_ROWS ? MDE__SCORED_ROWS / time : 1, size;
    for (int64_t done = 0; done < windows && !mde__bad(lm->context); done += size) {
        size = windows - done < batch ? windows - done : batch;
        mde__lm_score(lm, size, time, stride, tokens + done * stride, out + done * stride);
    }
}

static int mde__lm_check_tokens(mde_lm *lm, const uint16_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < lm->desc.vocabulary) continue;
        return !mde_fail(lm->context, MDE_BAD_ARGUMENT, "language model: token %zu is %d; the vocabulary is %d", i,
                         tokens[i], lm->desc.vocabulary);
    }
    return 1;
}

MDEDEF mde_status mde_lm_logprobs(mde_lm *lm, const uint16_t *tokens, size_t count, float *out)
{
    mde_context *c = lm ? lm->context : NULL;
    int64_t time, windows, rest;
    int recording;
    if (mde__bad(c) || count == 0) return mde__object_status(c);
    if (!mde__lm_check_tokens(lm, tokens, count)) return c->status;
    recording = mde_set_recording(c, 0);
    time = lm->desc.context;
    windows = (int64_t)(count - 1) / time;
    rest = (int64_t)(count - 1) % time;
    out[0] = (float)mde__quiet_nan();
    mde__lm_score_all(lm, windows, time, time, tokens, out + 1);
    if (rest) mde__lm_score_all(lm, 1, rest, rest, tokens + windows * time, out + 1 + windows * time);
    mde_set_recording(c, recording);
    return c->status;
}

MDEDEF mde_status mde_lm_logprobs_batch(mde_lm *lm, const uint16_t *tokens, int64_t sequences, int64_t length,
                                        float *out)
{
    mde_context *c = lm ? lm->context : NULL;
    size_t count;
    int recording;
    if (mde__bad(c) || sequences == 0) return mde__object_status(c);
    if (sequences < 0 || length < 1 || length - 1 > lm->desc.context ||
        !mde__mul_size((size_t)sequences, (size_t)length, &count)) {
        return mde_fail(c, MDE_BAD_SHAPE, "language model: [%lld, %lld] sequences; expected them 1 to %d tokens long, "
                        "the context and one", (long long)sequences, (long long)length, lm->desc.context + 1);
    }
    if (!mde__lm_check_tokens(lm, tokens, count)) return c->status;
    recording = mde_set_recording(c, 0);
    for (int64_t i = 0; i < sequences; i++) out[i * length] = (float)mde__quiet_nan();
    if (length > 1) mde__lm_score_all(lm, sequences, length - 1, length, tokens, out + 1);
    mde_set_recording(c, recording);
    return c->status;
}

MDEDEF double mde_lm_loss(mde_lm *lm, const mde_corpus *corpus, mde_split split, int domain)
{
    mde_context *c = lm ? lm->context : NULL;
    const uint16_t *tokens;
    size_t count;
    float *logp;
    double sum = 0;
    if (mde__bad(c)) return (double)NAN;
    tokens = mde_corpus_tokens(corpus, split, domain, &count);
    if (tokens && count < 2) {
        mde_fail(c, MDE_BAD_ARGUMENT, "loss: domain \"%s\" has no text in that split", corpus->domain[domain].name);
    }
    logp = tokens && !mde__bad(c) ? (float *)mde_alloc(c, count, sizeof *logp) : NULL;
    if (!logp) return (double)NAN;
    mde_lm_logprobs(lm, tokens, count, logp);
    for (size_t i = 1; i < count; i++) sum -= logp[i];
    mde_release(c, logp);
    return mde__bad(c) ? (double)NAN : sum / (double)(count - 1);
}

/* ---- Generation ---- */

typedef struct mde__scored_token { double p; int32_t id; } mde__scored_token;

static int mde__compare_candidates(const void *a, const void *b)
{
    const mde__scored_token *x = (const mde__scored_token *)a, *y = (const mde__scored_token *)b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The next token: greedy at temperature 0, otherwise drawn from the top_k likeliest, of which those are kept that
   together have the probability top_p. -1 on error. */
static int32_t mde__sample(mde_context *c, const float *logits, int vocabulary, const mde_generate_desc *desc,
                           mde_random *random)
{
    mde__scored_token *all;
    double sum = 0, kept = 0, u;
    int32_t best = 0;
    int i, n = vocabulary;
    for (i = 0; i < vocabulary; i++) {
        if (!(logits[i] - logits[i] == 0)) {
            mde_fail(c, MDE_NOT_FINITE, "generate: the logit of token %d is not finite", i);
            return -1;
        }
        if (logits[i] > logits[best]) best = i;
    }
    if (desc->temperature == 0) return best;
    all = (mde__scored_token *)mde_scratch(c, (size_t)vocabulary, sizeof *all);
    if (!all) return -1;
    for (i = 0; i < vocabulary; i++) {
        all[i].id = i;
        sum += all[i].p = mde__exp64(((double)logits[i] - (double)logits[best]) / desc->temperature);
    }
    if (desc->top_k < vocabulary || desc->top_p < 1) {
        qsort(all, (size_t)vocabulary, sizeof *all, mde__compare_candidates);
        if (desc->top_k < n) n = desc->top_k;
        for (sum = 0, i = 0; i < n; i++) sum += all[i].p;
        for (i = 0; i < n && kept < desc->top_p * sum; i++) kept += all[i].p;
        n = i;
        sum = kept;
    }
    u = mde_random_uniform(random) * sum;
    for (i = 0; i + 1 < n && u >= all[i].p; i++) u -= all[i].p;
    return all[i].id;
}

static int mde__generate_resolve(mde_lm *lm, const mde_generate_desc *desc, mde_generate_desc *out)
{
    static const mde__field fields[] = {
        MDE__FIELD(mde_generate_desc, 'i', tokens, 0, INT_MAX, "0 or more"),
        MDE__FIELD(mde_generate_desc, 'i', top_k, 0, INT_MAX, "0 or more"),
        MDE__FIELD(mde_generate_desc, 'd', temperature, 0, 1e6, "0 or more, MDE_ZERO for greedy"),
        MDE__FIELD(mde_generate_desc, 'd', top_p, 1e-300, 1, "0 to 1")
    };
    mde_context *c = lm->context;
    *out = *desc;
    if (out->tokens == 0) out->tokens = 256;
    out->temperature = mde__or_default(out->temperature, 1);
    if (out->top_k == 0 || out->top_k > lm->desc.vocabulary) out->top_k = lm->desc.vocabulary;
    if (out->top_p == 0) out->top_p = 1;
    if (mde__check_fields(c, "generate", 4, fields, out) && !lm->tokenizer) {
        mde_fail(c, MDE_BAD_ARGUMENT, "language model: it has no tokenizer; mde_lm_set_tokenizer gives it one%s%s%s",
                 lm->no_tokenizer ? " (" : "", lm->no_tokenizer ? lm->no_tokenizer : "", lm->no_tokenizer ? ")" : "");
    }
    return !mde__bad(c);
}

/* Logits of what comes after tokens [time], which without a cache begin at position 0. */
static const float *mde__lm_next(mde_lm *lm, int64_t time, const int32_t *tokens, mde_lm_state *cache)
{
    mde_context *c = lm->context;
    mde_tensor *hidden = mde__lm_hidden(lm, 1, time, tokens, cache ? cache->length : 0, cache), *logits;
    if (time > 1) hidden = mde_slice(c, hidden, 0, time - 1, 1);
    logits = mde__lm_output(lm, hidden);
    return logits ? logits->data : NULL;
}

MDEDEF mde_lm_state *mde_lm_state_create(mde_lm *lm)
{
    mde_lm_state *s;
    size_t size, width;
    if (!lm || mde__bad(lm->context)) return NULL;
    if (!mde__mul_size((size_t)lm->desc.layers, (size_t)lm->desc.context, &size)) size = SIZE_MAX;
    width = (size_t)lm->desc.head_dim * (size_t)lm->desc.kv_heads;
    s = (mde_lm_state *)mde_alloc(lm->context, 1, sizeof *s);
    if (!s) return NULL;
    s->lm = lm;
    s->keys = (float *)mde_alloc(lm->context, size, width * sizeof *s->keys);
    s->values = (float *)mde_alloc(lm->context, size, width * sizeof *s->values);
    if (s->keys && s->values) return s;
    mde_lm_state_free(s);
    return NULL;
}

MDEDEF void mde_lm_state_free(mde_lm_state *s)
{
    mde_context *c = s ? s->lm->context : NULL;
    if (!s) return;
    MDE__RELEASE(c, s->keys, s->values, s);
}

MDEDEF mde_status mde_lm_step(mde_lm_state *s, int64_t count, const int32_t *tokens, float *logits)
{
    mde_context *c = s ? s->lm->context : NULL;
    const float *next;
    int64_t before;
    mde_mark mark;
    int recording;
    if (mde__bad(c)) return mde_context_status(c);
    before = s->length;
    if (before < 0 || count < 1 || count > s->lm->desc.context - before) {
        return mde_fail(c, MDE_BAD_SHAPE, "language model: %lld tokens after %lld; expected 1 or more, and within its "
                        "context of %d", (long long)count, (long long)before, s->lm->desc.context);
    }
    recording = mde_set_recording(c, 0);
    mark = mde_arena_mark(c);
    next = mde__lm_next(s->lm, count, tokens, s);
    if (next) memcpy(logits, next, (size_t)s->lm->desc.vocabulary * sizeof *logits);
    else s->length = before;
    mde_arena_rewind(c, mark);
    mde_set_recording(c, recording);
    return c->status;
}

static void mde__generate(mde_lm *lm, const mde_generate_desc *desc, mde_lm_state *cache)
{
    mde_context *c = lm->context;
    mde_random random = mde_random_start(desc->seed, 0);
    size_t context = (size_t)lm->desc.context, base = 0, start, length;
    for (int made = 0; made < desc->tokens; made++) {
        mde_mark mark = mde_arena_mark(c);
        const float *logits;
        const char *piece;
        int32_t id;
        if (lm->id_count - base > context) {
            base = lm->id_count - (context > 1 ? context / 2 : 1);
            if (cache) cache->length = 0;
        }
        start = base + (cache ? (size_t)cache->length : 0);
        logits = mde__lm_next(lm, (int64_t)(lm->id_count - start), lm->ids + start, cache);
        id = logits ? mde__sample(c, logits, lm->desc.vocabulary, desc, &random) : -1;
        mde_arena_rewind(c, mark);
        if (id < 0 || mde__is_end(lm->tokenizer, id)) return;
        piece = mde_tokenizer_token(lm->tokenizer, id, &length);
        /* The published form's text begins with a space that is not part of it. */
        if (lm->tokenizer->published && lm->id_count == 1 && length && *piece == ' ') {
            piece++;
            length--;
        }
        lm->ids[lm->id_count++] = id;
        mde__text_add_bytes(lm->text, piece, length);
        if (desc->emit && !mde__bad(c)) desc->emit(piece, length, desc->user);
    }
}

/* The begin token and the prompt, with room for what comes. */
static int mde__generate_start(mde_lm *lm, const mde_generate_desc *desc)
{
    mde_context *c = lm->context;
    const char *prompt = desc->prompt ? desc->prompt : "";
    const mde_tokenizer *t;
    size_t length = strlen(prompt);
    mde_text_free(lm->text);
    mde_release(c, lm->ids);
    lm->id_count = 0;
    lm->text = mde_text_create(c);
    lm->ids = (int32_t *)mde_alloc(c, length + (size_t)desc->tokens + 3, sizeof *lm->ids);
    if (mde__bad(c)) return 0;
    t = lm->tokenizer;
    if (t->published) lm->ids[lm->id_count++] = MDE__BEGIN;
    else if (t->json && t->json->begin >= 0) lm->ids[lm->id_count++] = t->json->begin;
    else if (!t->json || !*prompt) lm->ids[lm->id_count++] = mde__separator(t);
    lm->id_count += mde__encode(t, prompt, length, lm->ids + lm->id_count);
    mde_text_add(lm->text, prompt);
    return !mde__bad(c);
}

MDEDEF const char *mde_lm_generate(mde_lm *lm, const mde_generate_desc *desc)
{
    mde_context *c = lm ? lm->context : NULL;
    mde_generate_desc d;
    mde_lm_state *cache;
    int recording;
    if (mde__bad(c)) return NULL;
    memset(&d, 0, sizeof d);
    if (!mde__generate_resolve(lm, desc ? desc : &d, &d) || !mde__generate_start(lm, &d)) return NULL;
    recording = mde_set_recording(c, 0);
    cache = d.no_cache ? NULL : mde_lm_state_create(lm);
    if (!mde__bad(c)) mde__generate(lm, &d, cache);
    mde_lm_state_free(cache);
    mde_set_recording(c, recording);
    return mde__bad(c) ? NULL : lm->text->bytes;
}

/* ---- Files of models ---- */

#ifndef MDE_NO_STDIO

/* path with the ending .safetensors, if it has it, replaced. */
static char *mde__lm_tokenizer_path(mde_context *c, const char *path)
{
    size_t length = strlen(path);
    if (length > 12 && mde__ends_with(path, ".safetensors")) length -= 12;
    return mde__print(c, "%.*s.tokenizer", (int)length, path);
}

#define MDE__WRITER "\"written_by\":\"mdemix\""

/* What other libraries need to read the file, where they have the model's form: config.json in the same folder. One
   that this library has not written stays as it is. */
static void mde__lm_write_config(const mde_lm *lm, const char *path)
{
    mde_context *c = lm->context;
    const mde_lm_desc *d = &lm->desc;
    int llama = !d->layer_norm && !d->learned_positions && !d->gelu;
    char *config = mde__sibling_path(c, path, "config.json"), *there = NULL;
    mde_text *t = mde_text_create(c);
    size_t size;
    if (config && mde__path_kind(config)) there = (char *)mde_file_read(c, config, (size_t)1 << 24, &size);
    if (!mde__bad(c) && (llama || (lm->gpt2 && !d->untied)) && (!there || strstr(there, MDE__WRITER))) {
        mde_text_add(t, "{" MDE__WRITER ",\n\"torch_dtype\":\"float32\",\"vocab_size\":");
        mde_text_format(t, "%d,\"tie_word_embeddings\":%s,\n", d->vocabulary, d->untied ? "false" : "true");
        if (lm->gpt2) {
            mde_text_format(t, "\"model_type\":\"gpt2\",\"architectures\":[\"GPT2LMHeadModel\"],\"n_embd\":%d,"
                            "\"n_layer\":%d,\"n_head\":%d,\"n_positions\":%d,\"n_inner\":%d,", d->width, d->layers,
                            d->heads, d->context, d->hidden);
            mde_text_add(t, "\"activation_function\":\"gelu_new\",\"layer_norm_epsilon\":");
        } else {
            mde_text_format(t, "\"model_type\":\"%s\",\"architectures\":[\"%sForCausalLM\"],\"hidden_size\":%d,"
                            "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,",
                            d->biases == 3 ? "qwen2" : "llama", d->biases == 3 ? "Qwen2" : "Llama", d->width, d->hidden,
                            d->layers, d->heads);
            mde_text_format(t, "\"num_key_value_heads\":%d,\"head_dim\":%d,\"max_position_embeddings\":%d,"
                            "\"hidden_act\":\"silu\",\"attention_bias\":%s,\"mlp_bias\":%s,\n", d->kv_heads,
                            d->head_dim, d->context, d->biases ? "true" : "false", d->biases == 1 ? "true" : "false");
            mde_text_format(t, "\"rope_theta\":%.17g", d->rope_base);
            if (d->rope_factor != 0) {
                mde_text_format(t, ",\"rope_scaling\":{\"rope_type\":\"%s\",\"factor\":%.17g",
                                d->rope_context ? "llama3" : "linear", d->rope_factor);
                if (d->rope_context) {
                    mde_text_format(t, ",\"original_max_position_embeddings\":%d,\"low_freq_factor\":%.17g,"
                                    "\"high_freq_factor\":%.17g", d->rope_context, d->rope_low, d->rope_high);
                }
                mde_text_add(t, "}");
            }
            mde_text_add(t, ",\"rms_norm_eps\":");
        }
        mde_text_format(t, "%.17g}\n", d->norm_epsilon);
        mde_text_write(t, config);
    }
    mde_text_free(t);
    MDE__RELEASE(c, there, config);
}

MDEDEF mde_status mde_lm_write(const mde_lm *lm, const char *path)
{
    mde_context *c = lm ? lm->context : NULL;
    mde_names pairs;
    int bytes;
    if (mde__bad(c)) return mde__object_status(c);
    memset(&pairs, 0, sizeof pairs);
    bytes = lm->tokenizer && lm->tokenizer->vocabulary == 256 && !lm->tokenizer->json;
    mde__lm_add_fields(c, &pairs, &lm->desc);
    mde__pair_add(c, &pairs, "model.", "tokenizer", bytes ? "bytes" : lm->tokenizer ? "file" : "none");
    if (!mde__bad(c) && mde_names_add(c, &pairs, "format") == MDE_OK) mde_names_add(c, &pairs, "pt");  /* readers ask */
    if (!mde__bad(c)) mde_params_write(lm->params, path, pairs.count / 2, (const char *const *)pairs.items);
    mde_names_free(c, &pairs);
    if (!mde__bad(c) && !mde_is_file(path)) return MDE_OK;      /* nothing goes beside a device or pipe */
    if (!mde__bad(c) && lm->tokenizer && !bytes) {
        char *file = mde__lm_tokenizer_path(c, path);
        if (file) mde_tokenizer_write(lm->tokenizer, file);
        mde_release(c, file);
    }
    if (!mde__bad(c)) mde__lm_write_config(lm, path);
    return c->status;
}

/* The descriptor in the metadata of a file of mde_lm_write. */
static int mde__lm_read_metadata(mde_context *c, const char *path, const mde_safetensors *file, mde_lm_desc *desc)
{
    char key[100];
    for (int i = 0; i < MDE__LM_FIELDS; i++) {
        const char *value;
        snprintf(key, sizeof key, "mdemix.model.%s", mde__lm_fields[i].name);
        value = mde_safetensors_metadata(file, key);
        if (!value && i >= MDE__LM_NEEDED) continue;
        if (value && mde__field_parse(&mde__lm_fields[i], desc, value)) continue;
        return !mde_fail(c, MDE_BAD_FILE, "%s: %s is %s", path, key, value ? "not a number" : "missing");
    }
    return 1;
}

/* config.json, or an object in it, while it is read. */
typedef struct mde__config { mde_context *context; const char *path; const mde_json *object; } mde__config;

/* "path: "key" is what", or, without what, "path: key". */
static void mde__config_fail(const mde__config *g, const char *key, const char *what)
{
    mde_fail(g->context, MDE_BAD_FILE, what ? "%s: \"%.100s\" is %s" : "%s: %s", g->path, key, what);
}

/* A whole number; `absent` when it is not there or null, an error if that is negative. */
static int mde__config_integer(const mde__config *g, const char *key, int absent)
{
    const mde_json *value = mde_json_get(g->object, key);
    uint64_t number = 0;
    if ((!value || value->kind == MDE_JSON_NULL) && absent >= 0) return absent;
    if (mde__json_size(value, &number) && number >= 1 && number <= INT32_MAX) return (int)number;
    mde__config_fail(g, key, value ? "not a whole number of 1 or more" : "missing");
    return 1;
}

/* A key of another type is an error and never the default; null is as if it were not there. */
static const mde_json *mde__config_get(const mde__config *g, const char *key, mde_json_kind kind)
{
    static const char *const kinds[] = { "not null", "not true or false", "not a number", "not a text", "not a list",
                                         "not an object" };
    const mde_json *value = mde_json_get(g->object, key);
    if (!value || value->kind == MDE_JSON_NULL) return NULL;
    if (value->kind == kind) return value;
    mde__config_fail(g, key, kinds[kind]);
    return NULL;
}

static int mde__config_flag(const mde__config *g, const char *key, int absent)
{
    const mde_json *value = mde__config_get(g, key, MDE_JSON_BOOL);
    return value ? value->number != 0 : absent;
}

/* absent NaN: the key is needed. */
static double mde__config_number(const mde__config *g, const char *key, double absent)
{
    const mde_json *value = mde__config_get(g, key, MDE_JSON_NUMBER);
    if (!value && absent != absent) mde__config_fail(g, key, "missing");
    return value ? value->number : absent;
}

static const char *mde__config_text(const mde__config *g, const char *key, const char *absent)
{
    const mde_json *value = mde__config_get(g, key, MDE_JSON_STRING);
    return value ? value->string : absent;
}

/* Keys that are read here, then those without consequence for what the model computes. */
static const char *const mde__config_keys[] = {
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "rope_parameters", "tie_word_embeddings", "attention_bias", "mlp_bias", "head_dim", "hidden_act",
    "sliding_window", "use_sliding_window", "layer_types", "rope_interleaved", "partial_rotary_factor", "n_embd",
    "n_layer", "n_head", "n_positions", "n_inner", "layer_norm_epsilon", "activation_function",
    "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "rope_type", "type", "factor", "low_freq_factor",
    "high_freq_factor", "original_max_position_embeddings",
    "architectures", "auto_map", "torch_dtype", "dtype", "use_cache", "initializer_range", "pretraining_tp",
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "max_window_layers", "n_ctx",
    "reorder_and_upcast_attn", "task_specific_params", "gradient_checkpointing", "output_past", "id2label",
    "label2id", "num_labels", "return_dict", "tokenizer_class", "is_llama_config", "is_decoder",
    "transformers.js_config", "attn_implementation", "name_or_path", "chunk_size_feed_forward", "torchscript",
    "finetuning_task", "problem_type", "written_by"
};

/* What is not known by name may decide what the model computes. */
static void mde__config_check_keys(const mde__config *g)
{
    const size_t known = sizeof mde__config_keys / sizeof *mde__config_keys;
    const mde_json *value;
    size_t i;
    for (value = g->object ? g->object->child : NULL; value; value = value->next) {
        const char *key = value->key;
        for (i = 0; i < known && strcmp(key, mde__config_keys[i]) != 0; i++) {}
        if (i < known || key[0] == '_' || strncmp(key, "summary_", 8) == 0 || mde__ends_with(key, "_token_id") ||
            mde__ends_with(key, "_version") || value->kind == MDE_JSON_NULL ||
            (value->kind == MDE_JSON_BOOL && value->number == 0)) continue;
        mde__config_fail(g, key, "not known here and may change what the model computes; take it out if it does not");
    }
}

/* Rotary positions: rope_theta and rope_scaling, or rope_parameters with both, as newer exporters write them. */
static void mde__config_rope(const mde__config *g, mde_lm_desc *d)
{
    const mde_json *both = mde__config_get(g, "rope_parameters", MDE_JSON_OBJECT);
    mde__config inner = *g;
    double base = mde__config_number(g, "rope_theta", 0), theta;
    const char *kind;
    inner.object = both ? both : mde__config_get(g, "rope_scaling", MDE_JSON_OBJECT);
    theta = both ? mde__config_number(&inner, "rope_theta", 0) : 0;
    kind = mde__config_text(&inner, "type", "default");
    if (inner.object && !both && strcmp(kind, "default") == 0) kind = "";
    kind = mde__config_text(&inner, "rope_type", kind);
    mde__config_check_keys(&inner);
    if (base != 0 && theta != 0 && base != theta) mde__config_fail(g, "rope_theta", "there twice, with two values");
    d->rope_base = theta != 0 ? theta : base != 0 ? base : 10000;
    if (mde__config_number(g, "partial_rotary_factor", 1) != 1 ||
        mde__config_number(&inner, "partial_rotary_factor", 1) != 1) {
        mde__config_fail(g, "partial_rotary_factor", "not known here, but for 1");
    } else if (mde__config_flag(g, "rope_interleaved", 0)) {
        mde__config_fail(g, "rope_interleaved", "not known here");
    } else if (strcmp(kind, "linear") == 0 || strcmp(kind, "llama3") == 0) {
        d->rope_factor = mde__config_number(&inner, "factor", (double)NAN);
        if (strcmp(kind, "linear") == 0) return;
        d->rope_low = mde__config_number(&inner, "low_freq_factor", (double)NAN);
        d->rope_high = mde__config_number(&inner, "high_freq_factor", (double)NAN);
        d->rope_context = mde__config_integer(&inner, "original_max_position_embeddings", -1);
    } else if (strcmp(kind, "default") != 0) {
        mde_fail(g->context, MDE_BAD_FILE, "%s: %s is not known here: its rope_type is \"%.100s\"; expected "
                 "\"default\", \"linear\" or \"llama3\"", g->path, both ? "rope_parameters" : "rope_scaling", kind);
    }
}

static void mde__config_llama(const mde__config *g, const char *kind, mde_lm_desc *d)
{
    const char *activation = mde__config_text(g, "hidden_act", "silu");
    const mde_json *types = mde__config_get(g, "layer_types", MDE_JSON_ARRAY);
    const mde_json *type = types ? types->child : NULL;
    int qwen2 = strcmp(kind, "qwen2") == 0, forward;
    double window;
    d->width = mde__config_integer(g, "hidden_size", -1);
    d->hidden = mde__config_integer(g, "intermediate_size", -1);
    d->layers = mde__config_integer(g, "num_hidden_layers", -1);
    d->heads = mde__config_integer(g, "num_attention_heads", -1);
    d->kv_heads = mde__config_integer(g, "num_key_value_heads", d->heads);
    d->vocabulary = mde__config_integer(g, "vocab_size", -1);
    d->context = mde__config_integer(g, "max_position_embeddings", -1);
    d->head_dim = mde__config_integer(g, "head_dim", 0);
    d->norm_epsilon = mde__config_number(g, "rms_norm_eps", 1e-6);
    d->untied = !mde__config_flag(g, "tie_word_embeddings", 0);
    d->biases = mde__config_flag(g, "attention_bias", 0) ? 2 : 0;
    forward = mde__config_flag(g, "mlp_bias", 0);
    window = mde__config_number(g, "sliding_window", 0);
    if (!mde__config_flag(g, "use_sliding_window", !qwen2)) window = 0;
    while (type && type->kind == MDE_JSON_STRING && strcmp(type->string, "full_attention") == 0) type = type->next;
    mde__config_rope(g, d);
    if (mde__bad(g->context)) return;
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0) {
        mde_fail(g->context, MDE_BAD_FILE, "%s: hidden_act is \"%.100s\"; expected \"silu\"", g->path, activation);
    } else if (forward && d->biases == 0) {
        mde__config_fail(g, "\"mlp_bias\" without \"attention_bias\" is not known here", NULL);
    } else if ((window != 0 && window < d->context) || type) {
        mde_fail(g->context, MDE_BAD_FILE, "%s: \"%s\": attention to a part of the text is not known here", g->path,
                 type ? "layer_types" : "sliding_window");
    }
    if (forward) d->biases = 1;
    if (qwen2) d->biases = 3;
}

static void mde__config_gpt2(const mde__config *g, mde_lm_desc *d)
{
    const char *activation = mde__config_text(g, "activation_function", "gelu_new");
    d->width = mde__config_integer(g, "n_embd", -1);
    d->layers = mde__config_integer(g, "n_layer", -1);
    d->heads = mde__config_integer(g, "n_head", -1);
    d->vocabulary = mde__config_integer(g, "vocab_size", -1);
    d->context = mde__config_integer(g, "n_positions", -1);
    d->hidden = mde__config_integer(g, "n_inner", d->width < 1 << 28 ? 4 * d->width : d->width);
    d->norm_epsilon = mde__config_number(g, "layer_norm_epsilon", 1e-5);
    d->untied = !mde__config_flag(g, "tie_word_embeddings", 1);
    d->layer_norm = d->learned_positions = d->gelu = d->biases = 1;
    if (strcmp(activation, "gelu_new") != 0 && strcmp(activation, "gelu_pytorch_tanh") != 0) {
        mde_fail(g->context, MDE_BAD_FILE, "%s: activation_function is \"%.100s\"; expected \"gelu_new\"", g->path,
                 activation);
    } else if (mde__config_flag(g, "scale_attn_by_inverse_layer_idx", 0) ||
               !mde__config_flag(g, "scale_attn_weights", 1)) {
        mde__config_fail(g, "attention is scaled in a way that is not known here", NULL);
    }
}

static void mde__config_read(const mde__config *g, mde_lm_desc *desc)
{
    const char *kind = mde__config_text(g, "model_type", "");
    if (strcmp(kind, "llama") == 0 || strcmp(kind, "mistral") == 0 || strcmp(kind, "qwen2") == 0) {
        mde__config_llama(g, kind, desc);
    } else if (strcmp(kind, "gpt2") == 0) {
        mde__config_gpt2(g, desc);
    } else {
        mde_fail(g->context, MDE_BAD_FILE, "%s: model_type is \"%.100s\"; expected \"llama\" or \"gpt2\", or "
                 "\"mistral\" or \"qwen2\", which are of llama's form", g->path, kind);
    }
    if (!mde__bad(g->context)) mde__config_check_keys(g);
}

/* The descriptor in config.json beside published weights. */
static int mde__lm_read_config(mde_context *c, const char *weights, mde_lm_desc *desc)
{
    char *path = mde__sibling_path(c, weights, "config.json");
    mde_json *config;
    mde__config g = { c, path, NULL };
    if (!path) return 0;
    if (!mde_is_file(path)) {
        mde_fail(c, MDE_IO, "%s: the weights do not say their model's shape, and there is no %s", weights, path);
    }
    g.object = config = mde_json_read(c, path);
    mde__config_read(&g, desc);
    mde_json_free(c, config);
    mde_release(c, path);
    return !mde__bad(c);
}

/* A weight that a published file has and its config.json does not speak of would be missing from the model. Buffers
   of older exports, and an output layer that is the embedding again, are none. */
static void mde__lm_check_unused(const mde_lm *lm, const char *path, const mde_safetensors *file)
{
    int k;
    for (int i = 0; i < file->count; i++) {
        const char *name = file->tensors[i].name, *bare = mde__lm_bare_name(name);
        if (!mde__ends_with(name, ".weight") && !mde__ends_with(name, ".bias")) continue;
        if (mde__ends_with(name, ".attn.bias") || strcmp(name, "lm_head.weight") == 0) continue;
        for (k = 0; k < mde_params_count(lm->params); k++) {
            if (strcmp(bare, mde__lm_bare_name(mde_params_name(lm->params, k))) == 0) break;
        }
        if (k < mde_params_count(lm->params)) continue;
        mde_fail(lm->context, MDE_BAD_FILE, "%s: tensor \"%s\" has no use in the model that config.json describes",
                 path, name);
        return;
    }
}

/* The tokenizer that belongs to a file of mde_lm_write. */
static void mde__lm_open_tokenizer(mde_lm *lm, const char *path, const char *kind)
{
    mde_context *c = lm->context;
    if (kind && strcmp(kind, "bytes") == 0) {
        lm->tokenizer = mde_tokenizer_bytes(c);
    } else if (kind && strcmp(kind, "file") == 0) {
        char *file = mde__lm_tokenizer_path(c, path);
        mde_tokenizer *t = file ? mde_tokenizer_read(c, file) : NULL;
        mde_lm_set_tokenizer(lm, t);
        mde_tokenizer_free(t);
        mde_release(c, file);
    }
}

/* The tokenizer.json beside published weights, with the end tokens of config.json; one that is not read is no error
   before it is needed. */
static void mde__lm_open_published(mde_lm *lm, const char *path)
{
    mde_context *c = lm->context;
    char *file = mde__sibling_path(c, path, "tokenizer.json");
    char *config_path = mde__sibling_path(c, path, "config.json");
    mde_json *config = config_path ? mde_json_read(c, config_path) : NULL;
    const mde_json *end = mde_json_get(config, "eos_token_id");
    mde_tokenizer *t = NULL;
    if (!mde__bad(c) && mde_is_file(file)) {
        t = mde_tokenizer_read(c, file);
        if (t && t->json) {
            int list = end && end->kind == MDE_JSON_ARRAY;
            if (list) end = end->child;
            if (mde__json_id(end) >= 0) t->json->end_count = 0;
            for (; mde__json_id(end) >= 0 && t->json->end_count < 8; end = list ? end->next : NULL) {
                if (mde__json_id(end) < t->vocabulary) t->json->ends[t->json->end_count++] = mde__json_id(end);
            }
        }
        if (t) mde_lm_set_tokenizer(lm, t);
        if (c->status == MDE_BAD_FILE || c->status == MDE_BAD_ARGUMENT) {
            char reason[sizeof c->error];
            memcpy(reason, c->error, sizeof reason);
            mde_clear_error(c);
            lm->no_tokenizer = mde__copy_text(c, reason);
        }
        mde_tokenizer_free(t);
    }
    mde_json_free(c, config);
    MDE__RELEASE(c, config_path, file);
}

/* The file of weights in a folder of a published model, or path itself; a new block. */
static char *mde__lm_weights_path(mde_context *c, const char *path)
{
    static const char *const names[] = { "model.safetensors", "model.safetensors.index.json" };
    if (!path || !mde_is_folder(path)) return mde__copy_text(c, path ? path : "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = mde__join_path(c, path, names[i]);
        if (!file || mde_is_file(file)) return file;
        mde_release(c, file);
    }
    mde_fail(c, MDE_IO, "%s: has no model.safetensors, nor model.safetensors.index.json", path);
    return NULL;
}

MDEDEF mde_lm *mde_lm_open(mde_context *c, const char *path)
{
    char *weights = mde__lm_weights_path(c, path);
    mde_safetensors *file = weights ? mde_safetensors_read(c, weights) : NULL;
    mde_lm_desc desc;
    mde_lm *lm = NULL;
    int own, good;
    memset(&desc, 0, sizeof desc);
    if (file) {
        own = mde_safetensors_metadata(file, "mdemix.model.layers") != NULL;
        good = own ? mde__lm_read_metadata(c, weights, file, &desc) : mde__lm_read_config(c, weights, &desc);
        if (good) lm = mde__lm_build(c, &desc, 0, file, weights);
        if (lm && own) {
            mde__lm_open_tokenizer(lm, weights, mde_safetensors_metadata(file, "mdemix.model.tokenizer"));
        } else if (lm) {
            mde__lm_check_unused(lm, weights, file);
            if (!mde__bad(c)) mde__lm_open_published(lm, weights);
        }
    }
    mde_safetensors_free(c, file);
    mde_release(c, weights);
    if (!mde__bad(c)) return lm;
    mde_lm_free(lm);
    return NULL;
}

#endif /* MDE_NO_STDIO */

/* ======================================================================
   12. SIMPLEX
   ====================================================================== */

/* Mixtures are points with w >= 0 and sum 1, mostly between bounds. Here is all that is done on that set, once: checks,
   repair of the sum, the nearest point, the linear and the quadratic program, and the search for the minimum of any
   function. Of a gradient only differences matter on the simplex: a constant added to all of it changes nothing. */

/* ---- Tables ---- */

/* Index of element (i, j) of a matrix with rows of n. */
static MDE__INLINE size_t mde__cell(int i, int n, int j)
{
    return (size_t)i * (size_t)n + (size_t)j;
}

static MDE__INLINE void mde__copy(int n, const double *from, double *to)
{
    if (n > 0) memcpy(to, from, (size_t)n * sizeof(double));    /* none may come from nowhere */
}

/* Row i of a table becomes row j of another one. */
static void mde__copy_row(int width, const double *from, int i, double *to, int j)
{
    mde__copy(width, from + mde__cell(i, width, 0), to + mde__cell(j, width, 0));
}

/* One zeroed block of doubles; 0 counts are fine. */
static double *mde__doubles(mde_context *c, size_t a, size_t b)
{
    size_t count;
    if (!mde__mul_size(a, b, &count)) {
        mde_fail(c, MDE_OUT_OF_MEMORY, "a table of %zu by %zu numbers is too large", a, b);
        return NULL;
    }
    return (double *)mde_alloc(c, count > 0 ? count : 1, sizeof(double));
}

static MDE__INLINE double mde__clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* ---- Mixtures and bounds ---- */

/* n mixtures of k weights, each finite and 0 or more; with `sums`, each sum must be 1 within 1e-6. In errors, who wants
   them, and the weights' names; NULL: their numbers. */
static mde_status mde__check_mixtures(mde_context *c, const char *who, int64_t n, int k, char *const *names, int sums,
                                      const double *weights)
{
    if (n > 0 && !weights) return mde_fail(c, MDE_BAD_ARGUMENT, "%s: no weights were given", who);
    for (int64_t i = 0; i < n; i++, weights += k) {
        double sum = 0;
        for (int j = 0; j < k; j++) {
            sum += weights[j];
            if (weights[j] >= 0 && weights[j] < (double)INFINITY) continue;
            if (!names) {
                return mde_fail(c, MDE_BAD_ARGUMENT, "%s: weight %d of mixture %lld is %.9g; expected 0 or more", who,
                                j, (long long)i, weights[j]);
            }
            return mde_fail(c, MDE_BAD_ARGUMENT, "%s: mixture %lld: weight of %s is %.9g; expected 0 or more", who,
                            (long long)i, names[j], weights[j]);
        }
        if (sums && !(fabs(sum - 1) <= 1e-6)) {
            return mde_fail(c, MDE_BAD_ARGUMENT, "%s: mixture %lld: weights sum to %.9g; expected 1", who,
                            (long long)i, sum);
        }
    }
    return MDE_OK;
}

/* Bounds with their defaults filled in, low and high [n]; between them there must be a mixture. */
static mde_status mde__simplex_bounds(mde_context *c, int n, const double *lower, const double *upper, double *low,
                                      double *high)
{
    double sum_low = 0, sum_high = 0;
    for (int i = 0; i < n; i++) {
        low[i] = lower ? lower[i] : 0;
        high[i] = upper ? upper[i] : 1;
        mde__require(c, low[i] >= 0 && low[i] <= 1 && high[i] >= 0 && high[i] <= 1, "bounds: weight %d has bounds %.9g "
                     "and %.9g; expected 0 to 1", i, low[i], high[i]);
        mde__require(c, low[i] <= high[i], "bounds: weight %d has the lower bound %.9g above its upper bound %.9g", i,
                     low[i], high[i]);
        sum_low += low[i];
        sum_high += high[i];
    }
    mde__require(c, sum_low <= 1.0 + 1e-12, "bounds: the %d lower bounds sum to %.9g; at most 1 leaves a mixture", n,
                 sum_low);
    mde__require(c, sum_high >= 1.0 - 1e-12, "bounds: the %d upper bounds sum to %.9g; at least 1 leaves a mixture", n,
                 sum_high);
    return mde_context_status(c);
}

/* Inside the bounds, the same way between them for every weight. */
static void mde__middle_of_bounds(int k, const double *lower, const double *upper, double *w)
{
    double room = 0, left = 1;
    for (int i = 0; i < k; i++) {
        room += upper[i] - lower[i];
        left -= lower[i];
    }
    for (int i = 0; i < k; i++) w[i] = lower[i] + (room > 0 ? (upper[i] - lower[i]) * left / room : 0);
}

MDEDEF void mde_bounds_of_runs(int n, int k, const double *weights, double slack, double *lower, double *upper)
{
    if (!weights || !lower || !upper) return;
    for (int j = 0; j < k; j++) {
        double low = n > 0 ? weights[j] : 0, high = n > 0 ? weights[j] : 1, room;
        for (int i = 1; i < n; i++) {
            double w = weights[mde__cell(i, k, j)];
            if (w < low) low = w;
            if (w > high) high = w;
        }
        room = slack > 0 ? slack * (high - low) : 0;
        lower[j] = mde__clamp(low - room, 0, 1);
        upper[j] = mde__clamp(high + room, 0, 1);
    }
}

/* ---- The nearest mixture ---- */

/* Rounding moves the sum of the weights by some 1e-16 a step. The largest weight between its bounds takes it back, so
   that zeros stay zeros; where none is, the one with the most room. */
static void mde__simplex_correct(int n, const double *low, const double *high, double *weights)
{
    for (int pass = 0; pass < 4; pass++) {
        double sum = 0, rest, widest = 0;
        int chosen = -1, roomiest = -1;
        for (int i = 0; i < n; i++) {
            sum += weights[i];
            if (weights[i] > low[i] && weights[i] < high[i] && (chosen < 0 || weights[i] > weights[chosen])) chosen = i;
        }
        rest = 1 - sum;
        if (!(fabs(rest) > 0)) return;
        for (int i = 0; i < n; i++) {
            double room = rest > 0 ? high[i] - weights[i] : weights[i] - low[i];
            if (!(room > widest)) continue;
            widest = room;
            roomiest = i;
        }
        if (chosen < 0) chosen = roomiest;
        if (chosen < 0) return;
        weights[chosen] = mde__clamp(weights[chosen] + rest, low[chosen], high[chosen]);
    }
}

/* The projection is clip(w - shift); its sum falls with the shift, in straight pieces. Halve the bracket until no
   weight changes its piece inside it, then solve the piece. A constant added to all weights does not matter: without
   the largest, rounding is that of the differences. */
static void mde__simplex_nearest(int n, const double *low, const double *high, double *weights)
{
    double from = (double)INFINITY, to = -(double)INFINITY, rest = 1, free_sum = 0, largest = weights[0], shift;
    int free_weights = 0;
    for (int i = 1; i < n; i++) if (weights[i] > largest) largest = weights[i];
    for (int i = 0; i < n; i++) {
        weights[i] = weights[i] - largest > -1e300 ? weights[i] - largest : -1e300;
        if (weights[i] - high[i] < from) from = weights[i] - high[i];
        if (weights[i] - low[i] > to) to = weights[i] - low[i];
    }
    for (int step = 0; step < 1100; step++) {
        double middle = from + 0.5 * (to - from), sum = 0;
        int mixed = 0;
        for (int i = 0; i < n; i++) {
            double up = weights[i] - high[i], down = weights[i] - low[i];
            mixed += (up > from && up < to) || (down > from && down < to);
        }
        if (!mixed || !(middle > from && middle < to)) break;
        for (int i = 0; i < n; i++) sum += mde__clamp(weights[i] - middle, low[i], high[i]);
        if (sum > 1) from = middle;
        else to = middle;
    }
    shift = from + 0.5 * (to - from);
    for (int i = 0; i < n; i++) {
        if (weights[i] - shift <= low[i]) rest -= low[i];
        else if (weights[i] - shift >= high[i]) rest -= high[i];
        else {
            free_weights++;
            free_sum += weights[i];
        }
    }
    if (free_weights > 0) shift = mde__clamp((free_sum - rest) / free_weights, from, to);
    for (int i = 0; i < n; i++) weights[i] = mde__clamp(weights[i] - shift, low[i], high[i]);
    mde__simplex_correct(n, low, high, weights);
}

MDEDEF mde_status mde_simplex_project(mde_context *c, int n, const double *lower, const double *upper, double *weights)
{
    double *low, *high;
    if (mde__bad(c)) return mde_context_status(c);
    if (n < 1 || !weights) return mde_fail(c, MDE_BAD_ARGUMENT, "simplex: a mixture of %d weights", n);
    for (int i = 0; i < n; i++) {
        if (!(fabs(weights[i]) < (double)INFINITY)) {
            return mde_fail(c, MDE_NOT_FINITE, "simplex: weight %d is %.9g", i, weights[i]);
        }
    }
    low = mde__doubles(c, 2, (size_t)n);
    if (!low) return mde_context_status(c);
    high = low + n;
    if (mde__simplex_bounds(c, n, lower, upper, low, high) == MDE_OK) mde__simplex_nearest(n, low, high, weights);
    mde_release(c, low);
    return mde_context_status(c);
}

/* ---- Linear and quadratic programs ---- */

/* max over feasible v of gradient.(w - v): the best v gives its mass to the smallest gradients first. 0 where no
   first-order step helps; for a convex f, f(w) is at most this far above its minimum (Frank and Wolfe 1956). taken [n]
   is workspace. */
static double mde__simplex_gap(int n, const double *gradient, const double *w, const double *low, const double *high,
                               double *taken)
{
    double rest = 1, gap = 0;
    for (int i = 0; i < n; i++) {
        taken[i] = 0;
        rest -= low[i];
        gap += gradient[i] * (w[i] - low[i]);
    }
    for (int round = 0; round < n && rest > 0; round++) {
        int best = -1;
        double mass;
        for (int i = 0; i < n; i++) if (taken[i] == 0 && (best < 0 || gradient[i] < gradient[best])) best = i;
        taken[best] = 1;
        mass = high[best] - low[best] < rest ? high[best] - low[best] : rest;
        gap -= gradient[best] * mass;
        rest -= mass;
    }
    return gap > 0 ? gap : 0;
}

/* Which bound holds each weight (1 upper, -1 lower, 0 none), and its shadow price: the derivative of the minimum when
   the bound gives way and another weight gives or takes the share. The free weights have one gradient, which sets the
   price; where none is free, the best of those that can move does. No price is known (NaN) when none can, or without a
   gradient. */
static void mde__shadow_prices(int n, const double *gradient, const double *w, const double *low, const double *high,
                               int *active, double *price)
{
    const double reach = 1e-4;  /* searches end so close to a bound */
    int held[2][MDE_MAX_DOMAINS], i, j, side;
    double level = 0, free_share = 0;
    for (i = 0; i < n; i++) {
        held[0][i] = w[i] <= low[i] + reach;
        held[1][i] = high[i] < 1 && w[i] >= (1 - reach) * high[i] - 1e-9;
        if (!gradient || held[0][i] || held[1][i]) continue;
        level += w[i] * gradient[i];
        free_share += w[i];
    }
    for (i = 0; i < n; i++) {
        active[i] = 0;
        price[i] = 0;
        for (side = 0; side < 2; side++) {
            double best = free_share > 0 ? level / free_share : (double)NAN, sign = side ? 1 : -1, gain;
            if (!held[side][i]) continue;
            for (j = 0; gradient && !(free_share > 0) && j < n; j++) {
                if (j != i && !held[!side][j] && !(sign * gradient[j] <= sign * best)) best = gradient[j];
            }
            gain = gradient && best == best ? sign * (best - gradient[i]) : mde__quiet_nan();
            if (gain < 0) gain = 0;
            if (active[i] != 0 && !(gain > price[i]) && price[i] == price[i]) continue;
            active[i] = side ? 1 : -1;
            price[i] = gain;
        }
    }
}

/* Minimises q.d + d'H d / 2 over sum d = 0, low <= w + d <= high by exact steps on the pair that violates the
   optimality conditions most: mass moves from the coordinate with the largest gradient to that with the smallest. w
   becomes w + d and q, which comes as the gradient at w, the one there. */
static void mde__simplex_quadratic(int n, const double *h, const double *low, const double *high, double *w, double *q)
{
    for (int step = 0; step < 2000 * n; step++) {
        int to = -1, from = -1;
        double curvature, mass, room_to, room_from;
        for (int i = 0; i < n; i++) {
            if (w[i] < high[i] && (to < 0 || q[i] < q[to])) to = i;
            if (w[i] > low[i] && (from < 0 || q[i] > q[from])) from = i;
        }
        if (to < 0 || from < 0 || !(q[from] - q[to] >= 1e-13)) break;
        curvature = h[to * n + to] + h[from * n + from] - 2 * h[to * n + from];
        mass = (q[from] - q[to]) / (curvature > 1e-12 ? curvature : 1e-12);
        room_to = high[to] - w[to];
        room_from = w[from] - low[from];
        if (mass > room_to) mass = room_to;
        if (mass > room_from) mass = room_from;
        /* Onto a bound exactly, so that the coordinate leaves the set of those that can move. */
        w[to] = mass == room_to ? high[to] : w[to] + mass;
        w[from] = mass == room_from ? low[from] : w[from] - mass;
        for (int i = 0; i < n; i++) q[i] += (h[i * n + to] - h[i * n + from]) * mass;
    }
}

/* ---- Search ---- */

/* Reports how far something has come, in percent, ten times a second: what is done sooner reports nothing. */
typedef struct mde__meter {
    mde_context *context;
    mde_progress_fn *progress;      /* may be NULL */
    void *user;
    const char *stage, *figures;
    double done, due, begun, told;
    int reported;                   /* percent; -1: nothing yet */
} mde__meter;

static mde__meter mde__new_meter(mde_context *c, mde_progress_fn *progress, void *user, const char *stage)
{
    mde__meter m;
    memset(&m, 0, sizeof m);
    m.context = c;
    m.progress = progress;
    m.user = user;
    m.stage = stage;
    m.figures = "";
    return m;
}

static void mde__meter_start(mde__meter *m, double due)
{
    m->begun = m->told = m->progress ? mde_seconds() : 0;
    m->done = 0;
    m->due = due;
    m->reported = -1;
}

/* Returns 1, with an error, to stop. */
static int mde__meter_add(mde__meter *m, double done)
{
    mde_progress report;
    double now;
    int percent;
    m->done += done;
    if (!m->progress || mde_context_status(m->context)) return 0;
    percent = m->done < m->due ? (int)(100 * m->done / m->due) : 100;
    now = mde_seconds();
    if (percent == 100 ? m->reported < 0 || m->reported == 100 : now - m->told < 0.1) return 0;
    memset(&report, 0, sizeof report);
    report.stage = m->stage;
    report.figures = m->figures;
    report.step = percent;
    report.steps = 100;
    report.reported = m->reported < 0 ? 0 : m->reported;
    report.loss = (double)NAN;
    report.seconds_left = m->done > 0 && percent < 100 ? (now - m->begun) * (m->due / m->done - 1) : 0;
    m->told = now;
    m->reported = percent;
    if (!m->progress(&report, m->user)) return 0;
    mde_fail(m->context, MDE_STOPPED, "%s: stopped", m->stage);
    return 1;
}

/* The minimum of any function of a mixture, inside bounds. Random mixtures first, of which the best are the starts of a
   descent by exponentiated gradient (Kivinen and Warmuth 1997), whose multiplicative steps stay on the simplex by
   themselves, or, for functions without a gradient, the population of a differential evolution (Storn and Price 1997),
   whose mixtures are projected. A value that is not finite counts as worse than any other. */

typedef struct mde__search {
    int n;
    mde_objective_fn *f;
    void *user;
    const double *low, *high;
    int iterations;
    double tolerance;
    double *work;               /* [4, n] */
    mde__meter *meter;          /* in values asked for */
} mde__search;

/* Not finite, or not to go on: infinite. gradient may be NULL. */
static double mde__search_value(const mde__search *s, const double *weights, double *gradient)
{
    double value = mde__meter_add(s->meter, 1) || mde__bad(s->meter->context) ? (double)INFINITY
                                                                             : s->f(s->n, weights, gradient, s->user);
    return fabs(value) < (double)INFINITY ? value : (double)INFINITY;
}

/* weights_i exp(-rate (gradient_i - minimum)), scaled so that the clipped numbers sum to 1: the nearest feasible
   mixture in the sense of Kullback and Leibler. */
static void mde__search_step(const mde__search *s, const double *weights, const double *gradient, double rate,
                             double *out)
{
    double minimum = gradient[0], from = -1500, to = 1500;
    for (int i = 1; i < s->n; i++) if (gradient[i] < minimum) minimum = gradient[i];
    for (int i = 0; i < s->n; i++) {
        /* logarithms; a weight of zero may come back, but only from very far */
        out[i] = mde__log64(weights[i] > 1e-200 ? weights[i] : 1e-200) -
                 mde__clamp(rate * (gradient[i] - minimum), 0, 700);
    }
    for (int step = 0; step < 70; step++) {
        double middle = 0.5 * (from + to), sum = 0;
        for (int i = 0; i < s->n; i++) sum += mde__clamp(mde__exp64(out[i] + middle), s->low[i], s->high[i]);
        if (sum < 1) from = middle;
        else to = middle;
    }
    for (int i = 0; i < s->n; i++) out[i] = mde__clamp(mde__exp64(out[i] + 0.5 * (from + to)), s->low[i], s->high[i]);
    mde__simplex_correct(s->n, s->low, s->high, out);
}

static double mde__exponentiated_gradient(const mde__search *s, double *weights)
{
    int n = s->n, quiet = 0;
    double *gradient = s->work, *trial = gradient + n, *next_gradient = trial + n, *room = next_gradient + n;
    double rate = 1, value, total = 0;
    /* zeros cannot grow by a factor: start with a little of everything */
    for (int i = 0; i < n; i++) total += weights[i] = weights[i] > 1e-6 ? weights[i] : 1e-6;
    for (int i = 0; i < n; i++) weights[i] /= total;
    mde__simplex_nearest(n, s->low, s->high, weights);
    value = mde__search_value(s, weights, gradient);
    if (value == (double)INFINITY) return value;
    for (int iteration = 0; iteration < s->iterations; iteration++) {
        double found = (double)INFINITY, slope = 0, *swap;
        int tries;
        for (int i = 0; i < n; i++) if (!(fabs(gradient[i]) < (double)INFINITY)) return value;
        if (mde__simplex_gap(n, gradient, weights, s->low, s->high, room) <= s->tolerance) break;
        for (tries = 0; tries < 60 && !mde__bad(s->meter->context); tries++, rate *= 0.5) {
            mde__search_step(s, weights, gradient, rate, trial);
            found = mde__search_value(s, trial, next_gradient);
            slope = 0;
            for (int i = 0; i < n; i++) slope += gradient[i] * (trial[i] - weights[i]);
            /* a third of what the gradient promises: less would let steps leap to and fro across a valley */
            if (found < (double)INFINITY && found <= value + 0.33 * slope) break;
        }
        if (tries == 60 || mde__bad(s->meter->context)) break;
        quiet = value - found <= 1e-3 * s->tolerance * (1.0 + fabs(found)) ? quiet + 1 : 0;
        mde__copy(n, trial, weights);
        value = found;
        swap = gradient;
        gradient = next_gradient;
        next_gradient = swap;
        if (quiet >= 10) break;
        rate *= 2.0;
        if (rate > 1e12) rate = 1e12;
    }
    return value;
}

/* Each mixture of the population is challenged by one that adds the difference of two others to a third. points
   [count, n] and their values; returns the index of the best. */
static int mde__evolve(const mde__search *s, int count, double *points, double *values, mde_random *random)
{
    int n = s->n, q, best = 0;
    double *trial = s->work;
    for (int generation = 0; generation < s->iterations && count >= 4 && !mde__bad(s->meter->context); generation++) {
        for (int i = 0; i < count; i++) {
            const double *from[3];
            double *own = points + mde__cell(i, n, 0), factor = 0.4 + 0.5 * mde_random_uniform(random), value;
            int always = (int)mde_random_below(random, (uint64_t)n);
            for (q = 0; q < 3; q++) from[q] = points + mde__cell((int)mde_random_below(random, (uint64_t)count), n, 0);
            for (q = 0; q < n; q++) {
                int cross = q == always || mde_random_uniform(random) < 0.7;
                trial[q] = cross ? from[0][q] + factor * (from[1][q] - from[2][q]) : own[q];
            }
            mde__simplex_nearest(n, s->low, s->high, trial);
            value = mde__search_value(s, trial, NULL);
            if (value > values[i]) continue;
            mde__copy(n, trial, own);
            values[i] = value;
        }
    }
    for (int i = 1; i < count; i++) if (values[i] < values[best]) best = i;
    return best;
}

/* A random mixture inside the bounds: what the lower bounds leave is shared out by a Dirichlet distribution, even on
   even draws and sparse on odd ones, so that corners are seen too. */
static void mde__search_draw(mde_random *random, int n, const double *low, const double *high, int draw, double *alpha,
                             double *weights)
{
    double rest = 1;
    for (int i = 0; i < n; i++) {
        alpha[i] = draw % 2 ? 0.3 : 1.0;
        rest -= low[i];
    }
    mde_random_dirichlet(random, n, alpha, weights);
    for (int i = 0; i < n; i++) weights[i] = low[i] + rest * weights[i];
    mde__simplex_nearest(n, low, high, weights);
}

/* A population around a start: the start itself, and random mixtures that it pulls most of the way. */
static void mde__search_around(mde_random *random, int n, const double *low, const double *high, int draw,
                               const double *start, double *alpha, double *weights)
{
    mde__search_draw(random, n, low, high, draw, alpha, weights);
    for (int i = 0; i < n; i++) weights[i] = draw == 0 ? start[i] : 0.8 * start[i] + 0.2 * weights[i];
    mde__simplex_nearest(n, low, high, weights);
}

#define MDE__MIN_POPULATION 32

MDEDEF double mde_simplex_minimize(mde_context *c, int n, mde_objective_fn *f, void *user, const mde_search_desc *desc,
                                   double *weights)
{
    mde_search_desc defaults;
    mde__search s;
    mde_random random;
    double *low, *high, *trial, *alpha, *starts, *values, best = (double)INFINITY;
    int count, samples, kept = 0, population, k;
    mde__meter meter;
    if (!c || mde__bad(c)) return (double)NAN;
    memset(&defaults, 0, sizeof defaults);
    if (!desc) desc = &defaults;
    mde__require(c, n >= 1 && f && weights, "simplex search: a function and room for %d weights are needed", n);
    mde__require(c, desc->starts >= 0 && desc->samples >= 0 && desc->iterations >= 0 && desc->tolerance >= 0 &&
                    desc->method >= MDE_EXPONENTIATED_GRADIENT && desc->method <= MDE_POPULATION,
                 "simplex search: %d starts, %d samples, %d iterations, method %d", desc->starts, desc->samples,
                 desc->iterations, (int)desc->method);
    if (mde__bad(c)) return (double)NAN;
    for (int i = 0; desc->start && i < n; i++) {
        if (!(fabs(desc->start[i]) < (double)INFINITY)) {
            mde_fail(c, MDE_NOT_FINITE, "simplex search: weight %d of the start is not finite", i);
            return (double)NAN;
        }
    }
    population = desc->method == MDE_POPULATION && n > 1;
    count = desc->start ? 1 : desc->starts > 0 ? desc->starts : 8;
    if (population && count < MDE__MIN_POPULATION) count = MDE__MIN_POPULATION;
    samples = desc->start ? 1 : desc->samples > 0 ? desc->samples : 2000;
    if (samples < count) samples = count;
    low = mde__doubles(c, 4, (size_t)n);
    starts = mde__doubles(c, (size_t)count, (size_t)n + 1);
    s.work = mde__doubles(c, 4, (size_t)n);
    if (!mde__bad(c)) {
        high = low + n;
        trial = high + n;
        alpha = trial + n;
        values = starts + (size_t)count * (size_t)n;
        s.n = n;
        s.f = f;
        s.user = user;
        s.low = low;
        s.high = high;
        s.iterations = desc->iterations > 0 ? desc->iterations : 500;
        s.tolerance = desc->tolerance > 0 ? desc->tolerance : 1e-9;
        meter = mde__new_meter(c, desc->progress, desc->user, "search");
        mde__meter_start(&meter, samples + (double)count * s.iterations);
        s.meter = &meter;
        random = mde_random_start(desc->seed, 0x73696d70);
        mde__simplex_bounds(c, n, desc->lower, desc->upper, low, high);
        for (int i = 0; i < samples && !mde__bad(c); i++) {
            double value;
            if (desc->start) mde__search_around(&random, n, low, high, i, desc->start, alpha, trial);
            else mde__search_draw(&random, n, low, high, i, alpha, trial);
            value = mde__search_value(&s, trial, NULL);
            if (value == (double)INFINITY || (kept == count && !(value < values[kept - 1]))) continue;
            /* keep the list of starts sorted */
            k = kept < count ? kept++ : kept - 1;
            for (; k > 0 && value < values[k - 1]; k--) {
                values[k] = values[k - 1];
                mde__copy_row(n, starts, k - 1, starts, k);
            }
            values[k] = value;
            mde__copy(n, trial, starts + mde__cell(k, n, 0));
        }
        if (kept == 0 && !mde__bad(c)) {
            mde_fail(c, MDE_NOT_FINITE, "simplex search: the function is not finite at any of %d mixtures", samples);
        }
        if (kept > 0 && !mde__bad(c)) {
            k = population ? mde__evolve(&s, kept, starts, values, &random) : 0;
            mde__copy(n, starts + mde__cell(k, n, 0), weights);
            best = values[k];
        }
        for (k = 0; k < kept && n > 1 && !population && !mde__bad(c); k++) {
            double value, end = samples + (double)k * s.iterations;
            if (meter.done < end) meter.done = end;
            mde__copy(n, starts + mde__cell(k, n, 0), trial);
            value = mde__exponentiated_gradient(&s, trial);
            if (!(value < best)) continue;
            best = value;
            mde__copy(n, trial, weights);
        }
    }
    MDE__RELEASE(c, s.work, starts, low);
    return mde__bad(c) ? (double)NAN : best;
}

/* ======================================================================
   13. MIXTURES OF DATA EXPERTS
   ====================================================================== */

/* Each expert has said once how probable it found each validation token; from then on a mixture costs a weighted sum
   and a logarithm a token (Belenki et al. 2025, section 3.1). What is stored of token t are the ratios
   r_i = P_i / max_l P_l in float32 and the logarithms of the maxima, so that even very improbable tokens keep their
   precision. The loss is convex in the weights, which makes its minimum certain and its distance known. */

typedef struct mde__validation {
    char *name;
    size_t tokens;
    size_t held, stride;    /* tokens whose ratios are in memory, from the first on: all, or whole windows */
    float *ratios;          /* [experts, stride] */
    struct mde__npy_file *columns;  /* [experts] files of the log-probabilities, for the others; NULL: from memory */
    uint64_t *marks;        /* [windows, experts] to know that the files of those have not changed */
    int64_t known;   /* documents that were given; 0: unknown */
    size_t block;    /* tokens of the blocks that stand for documents; 0: they are documents */
    int64_t documents;
    int64_t *starts; /* [documents + 1] first token of each document */
    double *peaks;   /* [documents] sum of log max_l P_l over the document */
    double peak;     /* of all of them */
    double bytes;
    size_t rounded;  /* log-probabilities just above 0 */
    const char *folder; /* while it is added: where the numbers come from; NULL: from memory */
} mde__validation;

/* What the passes over the tokens share. */
typedef struct mde__passes {
    size_t window;          /* tokens that are read at one time, a multiple of the kernels' blocks */
    size_t room;            /* bytes for the ratios of further texts */
    int nll;
    unsigned char *raw;     /* a window of a file, */
    float *ratios, *best;   /* of all files, [experts, window], and the logarithms of the maxima */
    mde__meter meter;       /* in tokens, those of each mixture */
    char figures[80];
} mde__passes;

struct mde_experts {
    mde_context *context;
    int count;
    char **names;
    int validations;
    mde__validation *validation;
    struct mde_experts *sample; /* the same texts, of the large ones a part that is in memory; NULL: none is large */
    mde__passes *passes;
};

#define MDE__WINDOW_RATIOS ((size_t)1 << 21)           /* ratios of a window: 8 MB */
#define MDE__SPAN ((size_t)1 << 20)             /* tokens in memory between two looks at the clock */
#define MDE__SAMPLE ((size_t)1 << 23)           /* ratios of a text of which more is not needed for a first guess */
#define MDE__RESAMPLED ((size_t)1 << 26)        /* documents that are counted at one time */
#define MDE__MEMORY ((size_t)1 << 30)

MDEDEF mde_experts *mde_experts_create(mde_context *c, int experts, const char *const *names)
{
    mde_experts *e;
    mde__require(c, experts >= 1 && experts <= MDE_MAX_DOMAINS && names, "experts: %d given; expected 1 to %d, with "
                 "names", experts, MDE_MAX_DOMAINS);
    e = (mde_experts *)mde_alloc(c, 1, sizeof *e);
    if (!e) return NULL;
    e->context = c;
    e->count = experts;
    e->names = (char **)mde_alloc(c, (size_t)experts, sizeof *e->names);
    e->passes = (mde__passes *)mde_alloc(c, 1, sizeof *e->passes);
    for (int i = 0; i < experts && e->names; i++) e->names[i] = mde__copy_text(c, names[i]);
    if (e->passes) {
        e->passes->window = MDE__WINDOW_RATIOS / (size_t)experts / MDE__MIXTURES_BLOCK * MDE__MIXTURES_BLOCK;
        e->passes->room = SIZE_MAX;
        e->passes->meter = mde__new_meter(c, NULL, NULL, "");
        e->passes->meter.figures = e->passes->figures;
    }
    if (!mde__bad(c)) return e;
    mde_experts_free(e);
    return NULL;
}

static void mde__validation_free(mde_context *c, mde__validation *v, int experts)
{
#ifndef MDE_NO_STDIO
    for (int i = 0; v->columns && i < experts; i++) mde__npy_forget(c, &v->columns[i]);
#endif
    (void)experts;
    MDE__RELEASE(c, v->columns, v->marks, v->name, v->ratios, v->starts, v->peaks);
}

static void mde__free_windows(mde_experts *e)
{
    MDE__RELEASE(e->context, e->passes->raw, e->passes->ratios, e->passes->best);
    e->passes->raw = NULL;
    e->passes->ratios = e->passes->best = NULL;
}

/* The texts of a sample, which has ratios of its own or those of its source. */
static void mde__sample_free(mde_experts *few, const mde_experts *source)
{
    for (int j = 0; few->validation && j < few->validations; j++) {
        if (few->validation[j].ratios != source->validation[j].ratios) {
            mde_release(few->context, few->validation[j].ratios);
        }
    }
    mde_release(few->context, few->validation);
}

MDEDEF void mde_experts_free(mde_experts *e)
{
    if (!e) return;
    if (e->sample) mde__sample_free(e->sample, e);
    mde_release(e->context, e->sample);
    for (int i = 0; i < e->validations; i++) mde__validation_free(e->context, &e->validation[i], e->count);
    mde_release(e->context, e->validation);
    for (int i = 0; e->names && i < e->count; i++) mde_release(e->context, e->names[i]);
    mde_release(e->context, e->names);
    if (e->passes) mde__free_windows(e);
    MDE__RELEASE(e->context, e->passes, e);
}

MDEDEF void mde_experts_report(mde_experts *e, mde_progress_fn *progress, void *user)
{
    if (!e) return;
    e->passes->meter.progress = progress;
    e->passes->meter.user = user;
}

MDEDEF int mde_experts_count(const mde_experts *e)
{
    return e ? e->count : 0;
}

MDEDEF const char *mde_experts_name(const mde_experts *e, int expert)
{
    return e && expert >= 0 && expert < e->count ? e->names[expert] : "";
}

MDEDEF int mde_experts_validations(const mde_experts *e)
{
    return e ? e->validations : 0;
}

static const mde__validation *mde__find_validation(const mde_experts *e, int validation)
{
    return e && validation >= 0 && validation < e->validations ? &e->validation[validation] : NULL;
}

MDEDEF const char *mde_experts_validation(const mde_experts *e, int validation)
{
    const mde__validation *v = mde__find_validation(e, validation);
    return v ? v->name : "";
}

MDEDEF int mde_experts_find_validation(const mde_experts *e, const char *name)
{
    for (int i = 0; e && i < e->validations; i++) if (strcmp(e->validation[i].name, name) == 0) return i;
    return -1;
}

MDEDEF size_t mde_experts_tokens(const mde_experts *e, int validation)
{
    const mde__validation *v = mde__find_validation(e, validation);
    return v ? v->tokens : 0;
}

MDEDEF double mde_experts_bytes(const mde_experts *e, int validation)
{
    const mde__validation *v = mde__find_validation(e, validation);
    return v ? v->bytes : 0;
}

MDEDEF size_t mde_experts_rounded(const mde_experts *e, int validation)
{
    const mde__validation *v = mde__find_validation(e, validation);
    return v ? v->rounded : 0;
}

/* ---- Passes over the tokens ---- */

/* What is found in a chunk of a window, MDE__MIXTURE_BLOCK tokens. */
typedef struct mde__findings {
    int64_t token;          /* the first wrong one, -1: none; whether its number from an expert is, or all are 0 */
    int expert;
    size_t rounded;         /* numbers just above 0 */
    uint64_t judged;        /* experts with a number below 0 */
} mde__findings;

/* A window whose log-probabilities, from memory or from files, become ratios in their place. */
typedef struct mde__window {
    int experts, nll, simd;
    size_t tokens, stride;
    float *ratios;          /* [experts, stride] */
    float *best;
    const mde__npy_reader *reader;      /* of the column that is being read */
    const unsigned char *raw;
    float *row;
    mde__findings *findings;
} mde__window;

#define MDE__ROUNDING 1e-3f         /* what float16 leaves above 0 */

static void mde__found_wrong(mde__findings *found, size_t token, int expert)
{
    if (found->token >= 0 && (size_t)found->token <= token) return;
    found->token = (int64_t)token;
    found->expert = expert;
}

MDE__WARM
static void mde__window_chunk(int64_t chunk, void *user)
{
    const double smallest = 1.1754943508222875e-38; /* normal float32 */
    const mde__window *w = (const mde__window *)user;
    size_t from = (size_t)chunk * MDE__MIXTURE_BLOCK, t;
    size_t n = w->tokens - from < MDE__MIXTURE_BLOCK ? w->tokens - from : MDE__MIXTURE_BLOCK;
    mde__findings *found = &w->findings[chunk];
    float *best = w->best + from;
    double ratio[MDE__MIXTURE_BLOCK];
    memset(found, 0, sizeof *found);
    found->token = -1;
    for (t = 0; t < n; t++) best[t] = -(float)INFINITY;
    for (int i = 0; i < w->experts; i++) {
        float *row = w->ratios + (size_t)i * w->stride + from;
        for (t = 0; t < n && row[t] <= MDE__ROUNDING; t++) {
            if (row[t] > 0) {
                found->rounded++;
                row[t] = 0;
            }
            found->judged |= (uint64_t)(row[t] < 0) << i;
            if (row[t] > best[t]) best[t] = row[t];
        }
        if (t < n) mde__found_wrong(found, from + t, i);
    }
    for (t = 0; t < n && (double)best[t] >= -1e30; t++) {}
    if (t < n) mde__found_wrong(found, from + t, -1);
    for (int i = 0; i < w->experts && found->token < 0; i++) {
        float *row = w->ratios + (size_t)i * w->stride + from;
        for (t = 0; t < n; t++) ratio[t] = (double)row[t] - (double)best[t];
        mde__kernel_dense_exp(w->simd)((int64_t)n, ratio, ratio);
        for (t = 0; t < n; t++) {
            /* What float32 would round to 0 is very improbable (87 nats below the best), but not impossible. */
            if (ratio[t] < smallest) ratio[t] = (double)row[t] > -1e30 ? smallest : 0;
            row[t] = (float)ratio[t];
        }
    }
}

/* The block itself, or a new one where it has fewer than `bytes` bytes; what was in it is lost. */
static void *mde__enlarge(mde_context *c, void *block, size_t bytes)
{
    if (block && bytes <= mde__block_of(block)->bytes) return block;
    mde_release(c, block);
    return mde__allocate_block(c, bytes, 1);
}

/* Ratios of a window whose log-probabilities are in their place. */
static void mde__window_ratios(const mde_experts *e, mde__window *w)
{
    mde_parallel_for(e->context, (int64_t)((w->tokens - 1) / MDE__MIXTURE_BLOCK + 1), mde__window_chunk, w);
}

#ifndef MDE_NO_STDIO

/* One chunk of a column, from bytes of its file. */
static void mde__window_row(int64_t chunk, void *user)
{
    const mde__window *w = (const mde__window *)user;
    size_t from = (size_t)chunk * MDE__MIXTURE_BLOCK, t;
    size_t n = w->tokens - from < MDE__MIXTURE_BLOCK ? w->tokens - from : MDE__MIXTURE_BLOCK;
    float *row = w->row + from;
    mde__npy_fill(w->reader, w->raw + from * (size_t)w->reader->size, n, row, NULL);
    for (t = 0; w->nll && t < n; t++) row[t] = -row[t];
}

/* Tells a file from another that has its place: a product and a shift for each eight bytes. */
MDE__WARM
static uint64_t mde__digest(const unsigned char *bytes, size_t size)
{
    uint64_t digest = MDE__HASH_START ^ size, word = 0;
    for (; size >= sizeof word; size -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        digest = (digest ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        digest ^= digest >> 29;
    }
    word = 0;
    memcpy(&word, bytes, size);
    digest = (digest ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return digest ^ digest >> 29;
}

/* Fills a window from the files. The digests of their bytes go to `digests` [experts]; `again`: they must be those. */
static int mde__read_window(const mde_experts *e, const mde__validation *v, size_t first, mde__window *w,
                            uint64_t *digests, int again)
{
    mde__passes *p = e->passes;
    mde_context *c = e->context;
    for (int i = 0; i < e->count; i++) {
        const mde__npy_file *file = &v->columns[i];
        size_t bytes = w->tokens * (size_t)file->reader.size;
        uint64_t digest;
        p->raw = (unsigned char *)mde__enlarge(c, p->raw, bytes);
        if (!p->raw || mde__npy_block(file, first, w->tokens, p->raw)) return 0;
        digest = mde__digest(p->raw, bytes);
        if (again && digest != digests[i]) {
            mde_fail(c, MDE_BAD_FILE, "%s: has changed while it was in use: tokens %zu to %zu are not those that were "
                     "read first", file->path, first, first + w->tokens - 1);
            return 0;
        }
        digests[i] = digest;
        w->nll = p->nll;
        w->reader = &file->reader;
        w->raw = p->raw;
        w->row = w->ratios + (size_t)i * w->stride;
        mde_parallel_for(c, (int64_t)((w->tokens - 1) / MDE__MIXTURE_BLOCK + 1), mde__window_row, w);
    }
    return 1;
}

static void mde__close_columns(const mde_experts *e, const mde__validation *v)
{
    for (int i = 0; v->columns && i < e->count; i++) mde__npy_close(&v->columns[i]);
}

#endif

/* Room for `tokens` tokens of a window: in place, or in memory of its own, [experts, tokens]. Takes scratch. */
static int mde__window_start(const mde_experts *e, size_t tokens, float *ratios, size_t stride, mde__window *w)
{
    mde__passes *p = e->passes;
    mde_context *c = e->context;
    size_t chunks = (tokens - 1) / MDE__MIXTURE_BLOCK + 1;
    memset(w, 0, sizeof *w);
    w->experts = e->count;
    w->simd = c->simd;
    w->tokens = tokens;
    w->ratios = ratios;
    w->stride = stride;
    w->findings = (mde__findings *)mde_scratch(c, chunks, sizeof *w->findings);
    p->best = (float *)mde__enlarge(c, p->best, tokens * sizeof *p->best);
    w->best = p->best;
    if (!ratios) {
        p->ratios = (float *)mde__enlarge(c, p->ratios, tokens * (size_t)e->count * sizeof *ratios);
        w->ratios = p->ratios;
        w->stride = tokens;
    }
    return !mde__bad(c);
}

/* A part of a text whose ratios are at hand. */
typedef struct mde__span {
    size_t first, tokens, stride;
    const float *ratios;            /* [experts, stride] */
} mde__span;

/* The next part, after a span of zeros the first; 0 at the end of the text, and after an error, with the files closed.
   All parts but the last are whole blocks of the kernels. */
static int mde__next_span(const mde_experts *e, const mde__validation *v, mde__span *s)
{
    mde_context *c = e->context;
    s->first += s->tokens;
    if (s->first < v->held && !mde__bad(c)) {
        s->tokens = v->held - s->first < MDE__SPAN ? v->held - s->first : MDE__SPAN;
        s->ratios = v->ratios + s->first;
        s->stride = v->stride;
        return 1;
    }
#ifndef MDE_NO_STDIO
    if (s->first < v->tokens && !mde__bad(c)) {
        mde_mark mark = mde_arena_mark(c);
        mde__window w;
        size_t left = v->tokens - s->first, window = e->passes->window, n = left < window ? left : window;
        int i, good = mde__window_start(e, n, NULL, 0, &w);
        for (i = 0; s->first == v->held && i < e->count && good; i++) good = mde__npy_reopen(&v->columns[i]) == MDE_OK;
        good = good && mde__read_window(e, v, s->first, &w,
                                        v->marks + (s->first - v->held) / window * (size_t)e->count, 1);
        if (good) mde__window_ratios(e, &w);
        mde_arena_rewind(c, mark);
        s->tokens = n;
        s->ratios = w.ratios;
        s->stride = w.stride;
        if (good) return 1;
    }
    mde__close_columns(e, v);
#endif
    return 0;
}

/* ---- Samples ---- */

#define MDE__SAMPLE_RUN 16              /* tokens together, a cache line */

/* How many tokens a sample of one run out of each `span` tokens has. */
static size_t mde__sample_size(size_t tokens, size_t span)
{
    size_t rest = tokens % span;
    return tokens / span * MDE__SAMPLE_RUN + (rest < MDE__SAMPLE_RUN ? rest : MDE__SAMPLE_RUN);
}

/* Copies the runs of a part of a text, and adds the logarithms of their maxima, where given. */
static void mde__sample_part(int experts, size_t span, const mde__span *part, const float *best, mde__validation *to)
{
    size_t t = (part->first + span - 1) / span * span, n, at, i;
    for (; t < part->first + part->tokens; t += span) {
        at = t / span * MDE__SAMPLE_RUN;
        n = to->tokens - at < MDE__SAMPLE_RUN ? to->tokens - at : MDE__SAMPLE_RUN;
        for (int k = 0; k < experts; k++) {
            memcpy(to->ratios + (size_t)k * to->stride + at,
                   part->ratios + (size_t)k * part->stride + (t - part->first), n * sizeof *to->ratios);
        }
        for (i = 0; best && i < n; i++) to->peak += (double)best[t - part->first + i];
    }
}

/* ---- Adding a text ---- */

/* "FOLDER/FILE.npy: " when the numbers come from a file, for messages. */
static char *mde__column_name(const mde__validation *v, const char *file, char buffer[600])
{
    buffer[0] = 0;
    if (v->folder) snprintf(buffer, 600, "%.400s/%.150s.npy: ", v->folder, file);
    return buffer;
}

#define MDE__FEWEST_DOCUMENTS 10    /* that a bootstrap can draw from, */
#define MDE__SHORTEST_BLOCK 32      /* and tokens of blocks in place of them: at least, */
#define MDE__LONGEST_BLOCK 256      /* at most */

static void mde__start_document(mde_context *c, mde__validation *v, size_t token)
{
    int64_t *starts = (int64_t *)mde__room(c, v->starts, (size_t)v->documents + 2, sizeof *starts);
    if (!starts) return;
    v->starts = starts;
    v->starts[v->documents++] = (int64_t)token;
}

/* Without enough of the documents that were found, blocks. */
static mde_status mde__end_documents(mde_context *c, mde__validation *v)
{
    const size_t tenth = (v->tokens + MDE__FEWEST_DOCUMENTS - 1) / MDE__FEWEST_DOCUMENTS;
    v->known = v->documents;
    if (v->documents < MDE__FEWEST_DOCUMENTS && tenth >= MDE__SHORTEST_BLOCK) {
        v->block = tenth < MDE__LONGEST_BLOCK ? tenth : MDE__LONGEST_BLOCK;
        v->documents = 0;
        for (size_t t = 0; t < v->tokens && !mde__bad(c); t += v->block) mde__start_document(c, v, t);
    } else if (v->documents == 0) {
        mde__start_document(c, v, 0);
    }
    if (mde__bad(c)) return c->status;
    v->starts[v->documents] = (int64_t)v->tokens;
    v->peaks = (double *)mde_alloc(c, (size_t)v->documents, sizeof *v->peaks);
    return c->status;
}

/* Where each document starts: at each change of the number in `documents`. */
static void mde__find_documents(mde_context *c, mde__validation *v, const double *documents)
{
    for (size_t t = 0; documents && t < v->tokens && !mde__bad(c); t++) {
        if (t == 0 || documents[t] > documents[t - 1]) {
            mde__start_document(c, v, t);
        } else if (!(documents[t] >= documents[t - 1])) {
            mde_fail(c, MDE_BAD_ARGUMENT, "validation %s: document of token %zu is %.9g, less than the one before",
                     v->name, t, documents[t]);
        }
    }
}

/* What the first pass over a text gathers. */
typedef struct mde__first_pass {
    uint64_t judged;            /* experts that have found a token less than certain */
    int64_t document;
    float implausible;          /* what half of the tokens cannot be less probable than, even by the best expert */
    size_t below;               /* tokens that are */
    size_t step, shown;         /* each `step`-th token's maximum stands in */
    double *maxima;             /* [shown], for the median */
    size_t span;                /* of the sample that stays in memory; 0: the text is small enough */
} mde__first_pass;

#define MDE__MEDIAN 65536       /* maxima that a median is taken of */

/* The number that a window of the first pass has found to be wrong. */
static void mde__wrong_token(const mde_experts *e, const mde__validation *v, const mde__window *w,
                             const mde__findings *found, size_t first)
{
    size_t token = first + (size_t)found->token;
    char where[600];
    const char *name = found->expert < 0 ? "" : e->names[found->expert];
    if (found->expert < 0) {
        mde_fail(e->context, MDE_BAD_ARGUMENT, "%s%svalidation %s, token %zu: every expert gives it probability 0",
                 v->folder ? v->folder : "", v->folder ? ": " : "", v->name, token);
        return;
    }
    mde_fail(e->context, MDE_BAD_ARGUMENT, "%svalidation %s, expert %s, token %zu: log-probability is %.9g; expected "
             "at most 0 (natural log)", mde__column_name(v, name, where), v->name, name, token,
             (double)w->ratios[(size_t)found->expert * w->stride + (size_t)found->token]);
}

/* Takes in what a window has shown, in the order of its tokens. */
static void mde__gather_window(const mde_experts *e, mde__validation *v, const mde__window *w, size_t first,
                               mde__first_pass *pass, mde__validation *sample)
{
    const mde__span part = { first, w->tokens, w->stride, w->ratios };
    for (size_t chunk = 0; chunk * MDE__MIXTURE_BLOCK < w->tokens; chunk++) {
        const mde__findings *found = &w->findings[chunk];
        if (found->token >= 0) {
            mde__wrong_token(e, v, w, found, first);
            return;
        }
        v->rounded += found->rounded;
        pass->judged |= found->judged;
    }
    for (size_t t = 0; t < w->tokens; t++) {
        if ((int64_t)(first + t) == v->starts[pass->document + 1]) pass->document++;
        v->peaks[pass->document] += (double)w->best[t];
        pass->below += w->best[t] < pass->implausible;
        if ((first + t) % pass->step == 0) pass->maxima[pass->shown++] = (double)w->best[t];
    }
    if (pass->span) mde__sample_part(e->count, pass->span, &part, w->best, sample);
}

static int mde__compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The q-quantile of n values, linear between order statistics; sorts them. */
static double mde__quantile(double *values, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;
    qsort(values, n, sizeof *values, mde__compare_doubles);
    if (low >= n - 1) return values[n - 1];
    return values[low] + (at - (double)low) * (values[low + 1] - values[low]);
}

/* Logarithms of another base, or of something else. No text is known that a model needs less than a hundredth of a bit
   a byte for; and where each token is one byte, a guess among 256 costs log 256, which the best of the experts must
   beat to be of use. */
static mde_status mde__check_base(const mde_experts *e, const mde__validation *v)
{
    double bits = -v->peak / (v->bytes * 0.6931471805599453);
    int low = bits < 0.01;
    if (!(v->bytes > 0) || v->tokens < 8 || (!low && (v->bytes != (double)v->tokens || bits <= 8))) return MDE_OK;
    return mde_fail(e->context, v->folder ? MDE_BAD_FILE : MDE_BAD_ARGUMENT, "%s%svalidation %s: %.9g bits a byte by "
                    "the best expert of each token is %s; these cannot be natural logarithms of the tokens' "
                    "probabilities, or the bytes are not those of the tokens", v->folder ? v->folder : "",
                    v->folder ? ": " : "", v->name, bits,
                    low ? "less than any text takes" : "worse than a guess among 256 bytes");
}

/* Sums over sequences look like tokens that all experts find very improbable. A blind guess among a billion, more than
   any vocabulary has, costs log 1e9 = 20.7 nats: no half of all tokens costs more, least of all by the best of several
   experts (one alone may be useless). Where every row is a document of its own, a median below -20 therefore settles
   it; elsewhere -40, as experts may be made for the purpose and know nothing of the text. Nor has any tokenizer 64
   bytes a token: large ones have 3 to 6. Fewer than 8 rows prove nothing. */
static mde_status mde__check_rows(const mde_experts *e, const mde__validation *v, const mde__first_pass *pass)
{
    const char *folder = v->folder;
    int alone = v->known == (int64_t)v->tokens;
    double bytes = v->bytes / (double)v->tokens, median;
    char size[48] = "";
    if (v->tokens < 8 || (pass->below <= v->tokens / 2 && !(bytes > 64))) return MDE_OK;
    median = mde__quantile(pass->maxima, pass->shown, 0.5);
    if (bytes > 0) mde__sentence(size, sizeof size, " and %.9g bytes", floor(bytes + 0.5));
    return mde_fail(e->context, folder ? MDE_BAD_FILE : MDE_BAD_ARGUMENT,
                    "%s%s%s%s: these are sums over sequences, not tokens (median %.9g nats%s a row%s); MDE averages "
                    "the experts' probabilities token by token, so one number a sequence cannot be used: write the "
                    "natural logarithm of the probability of every token, [tokens], all sequences end to end without "
                    "padding, as examples/export_logprobs.py does",
                    folder ? folder : "validation", folder ? "/" : " ", folder ? e->names[0] : v->name,
                    folder ? ".npy" : "", floor(median * 10 + 0.5) / 10, size, alone ? ", 1 row a document" : "");
}

/* Reads all log-probabilities once, from memory or, logp NULL, from the open files; keeps the ratios as far as there is
   room for them. */
static void mde__first_look(mde_experts *e, mde__validation *v, const float *const *logp, mde__validation *sample)
{
    mde_context *c = e->context;
    mde__passes *p = e->passes;
    size_t experts = (size_t)e->count, fit = p->room / (experts * sizeof *v->ratios), limit = MDE__SAMPLE / experts;
    size_t size = 0, rest;
    uint64_t unwanted[MDE_MAX_DOMAINS];
    char where[600];
    mde__first_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.implausible = v->known == (int64_t)v->tokens ? -20.0f : -40.0f;
    pass.step = (v->tokens - 1) / MDE__MEDIAN + 1;
    if (v->tokens > limit) pass.span = MDE__SAMPLE_RUN * ((v->tokens - 1) / limit + 1);
    v->held = logp || fit >= v->tokens ? v->tokens : fit / p->window * p->window;
    v->stride = (v->held + 15) / 16 * 16;
    if (v->stride < v->held || !mde__mul_size(v->stride, experts, &size)) size = SIZE_MAX;
    if (v->held) v->ratios = (float *)mde_alloc(c, size, sizeof *v->ratios);
    if (!logp) p->room -= v->held * experts * sizeof *v->ratios;
    rest = (v->tokens - v->held + p->window - 1) / p->window;
    if (rest) v->marks = (uint64_t *)mde_alloc(c, rest * experts, sizeof *v->marks);
    if (pass.span) {
        sample->tokens = sample->held = sample->stride = mde__sample_size(v->tokens, pass.span);
        sample->ratios = (float *)mde_alloc(c, sample->tokens * experts, sizeof *sample->ratios);
    }
    pass.maxima = (double *)mde_alloc(c, v->tokens / pass.step + 1, sizeof *pass.maxima);
    p->meter.stage = "read";
    snprintf(p->figures, sizeof p->figures, "%.70s", v->name);
    mde__meter_start(&p->meter, (double)v->tokens);
    for (size_t first = 0; first < v->tokens && !mde__bad(c); first += p->window) {
        size_t n = v->tokens - first < p->window ? v->tokens - first : p->window;
        mde_mark mark = mde_arena_mark(c);
        mde__window w;
        int good = mde__window_start(e, n, first < v->held ? v->ratios + first : NULL, v->stride, &w);
        for (size_t i = 0; logp && i < experts && good; i++) {
            memcpy(w.ratios + i * w.stride, logp[i] + first, n * sizeof *w.ratios);
        }
#ifndef MDE_NO_STDIO
        if (!logp && good) {
            good = mde__read_window(e, v, first, &w,
                                    first < v->held ? unwanted : v->marks + (first - v->held) / p->window * experts, 0);
        }
#endif
        if (good) {
            mde__window_ratios(e, &w);
            mde__gather_window(e, v, &w, first, &pass, sample);
            mde__meter_add(&p->meter, (double)n);
        }
        mde_arena_rewind(c, mark);
    }
#ifndef MDE_NO_STDIO
    mde__close_columns(e, v);
#endif
    (void)unwanted;
    for (size_t i = 0; i < experts && v->tokens >= 8 && !mde__bad(c); i++) {
        if (pass.judged >> i & 1) continue;
        mde_fail(c, MDE_BAD_ARGUMENT, "%svalidation %s, expert %s: every log-probability is 0; no model is certain of "
                 "every token", mde__column_name(v, e->names[i], where), v->name, e->names[i]);
    }
    for (size_t i = 0; i < (size_t)v->documents && !mde__bad(c); i++) v->peak += v->peaks[i];
    if (!mde__bad(c) && mde__check_rows(e, v, &pass) == MDE_OK) mde__check_base(e, v);
    mde_release(c, pass.maxima);
}

static int mde__grow_validations(mde_experts *e)
{
    size_t count = (size_t)e->validations + 1;
    mde__validation *larger = (mde__validation *)mde__room(e->context, e->validation, count, sizeof *larger);
    if (larger) e->validation = larger;
    return larger != NULL;
}

/* The sample's texts follow those of the experts: the first large one is what it begins with. */
static void mde__extend_sample(mde_experts *e, const mde__validation *v, const mde__validation *sample)
{
    mde_experts *few = e->sample;
    if (!few && !sample->ratios) return;
    if (!few) {
        few = (mde_experts *)mde_alloc(e->context, 1, sizeof *few);
        if (!few) return;
        *few = *e;
        few->validation = NULL;
        few->validations = 0;
        e->sample = few;
        for (int i = 0; i < e->validations && mde__grow_validations(few); i++) {
            few->validation[few->validations++] = e->validation[i];
        }
    }
    if (!mde__grow_validations(few)) return;
    few->validation[few->validations] = *v;
    if (sample->ratios) {
        few->validation[few->validations] = *sample;
        few->validation[few->validations].name = v->name;
    }
    few->validations++;
}

/* Adds a text whose documents are known, from memory or from its files; what it owns is the experts' or freed. */
static mde_status mde__add_validation(mde_experts *e, mde__validation *v, const float *const *logp)
{
    mde_context *c = e->context;
    mde__validation sample;
    memset(&sample, 0, sizeof sample);
    if (!mde__bad(c) && mde__end_documents(c, v) == MDE_OK) mde__first_look(e, v, logp, &sample);
    v->folder = NULL;
    if (!mde__bad(c) && mde__grow_validations(e)) mde__extend_sample(e, v, &sample);
    if (mde__bad(c)) {
        mde_release(c, sample.ratios);
        mde__validation_free(c, v, e->count);
    } else {
        e->validation[e->validations++] = *v;
    }
    return c->status;
}

MDEDEF mde_status mde_experts_add(mde_experts *e, const char *validation, size_t tokens, const float *const *logp,
                                  const double *documents, double bytes)
{
    mde_context *c = e ? e->context : NULL;
    mde__validation v;
    mde__require(c, validation && *validation && tokens > 0 && logp, "validation %s: %zu tokens; expected a name and "
                 "at least one token", validation ? validation : "?", tokens);
    if (mde__bad(c)) return mde_context_status(c);
    if (mde_experts_find_validation(e, validation) >= 0) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "validation %s: is there already", validation);
    }
    memset(&v, 0, sizeof v);
    v.tokens = tokens;
    v.bytes = bytes > 0 ? bytes : 0;
    v.name = mde__copy_text(c, validation);
    if (v.name) mde__find_documents(c, &v, documents);
    return mde__add_validation(e, &v, logp);
}

#ifndef MDE_NO_STDIO

/* A column of a validation folder, of `tokens` numbers (0: as many as there are). Returns 0 when the file is absent and
   not needed, or on error; mde__npy_forget is due in any case. */
static int mde__open_column(mde_context *c, const char *folder, const char *name, int needed, size_t tokens,
                            mde__npy_file *file)
{
    char *path = mde__print(c, "%s/%s.npy", folder, name);
    memset(file, 0, sizeof *file);
    if (path && (needed || mde_is_file(path)) && mde__npy_begin(c, path, file) == MDE_OK) {
        const mde__npy_reader *r = &file->reader;
        if (r->rank != 1) {
            char shape[64] = "";
            if (r->rank == 2) {
                snprintf(shape, sizeof shape, " (%lld x %lld)", (long long)r->shape[0], (long long)r->shape[1]);
            }
            mde_fail(c, MDE_BAD_SHAPE, "%s: has %d dimensions%s; expected 1, [tokens]: one number for each token, all "
                     "sequences end to end without their padding (in numpy logp[mask], which is flat), and in doc.npy "
                     "the number of the sequence that each token is in", path, r->rank, shape);
        } else if (tokens && file->count != tokens) {
            mde_fail(c, MDE_BAD_SHAPE, "%s: has %zu numbers; expected one for each of the %zu tokens", path,
                     file->count, tokens);
        }
    }
    mde_release(c, path);
    return file->path && !mde__bad(c);
}

/* Calls take(file, token, element, user) for each element of a column, if it is there, until an error. */
static void mde__each_element(mde_context *c, const char *folder, const char *name, size_t tokens,
                              void (*take)(const mde__npy_reader *r, size_t token, const unsigned char *p, void *user),
                              void *user)
{
    const size_t block = 65536;
    size_t n;
    unsigned char *bytes = (unsigned char *)mde__allocate_block(c, block, sizeof(double));
    mde__npy_file file;
    if (!bytes) return;
    if (!mde__open_column(c, folder, name, 0, tokens, &file)) tokens = 0;
    for (size_t first = 0; first < tokens && !mde__bad(c); first += n) {
        n = tokens - first < block ? tokens - first : block;
        if (mde__npy_block(&file, first, n, bytes)) break;
        for (size_t i = 0; i < n && !mde__bad(c); i++) {
            take(&file.reader, first + i, bytes + i * (size_t)file.reader.size, user);
        }
    }
    mde__npy_forget(c, &file);
    mde_release(c, bytes);
}

/* The documents of a text, and the last number in doc.npy. */
typedef struct mde__documents {
    mde__validation *v;
    uint64_t number;
    double real;
} mde__documents;

/* Numbers of documents are compared as they are: integers of 64 bits do not fit into a double. */
static void mde__take_document(const mde__npy_reader *r, size_t token, const unsigned char *p, void *user)
{
    mde__documents *d = (mde__documents *)user;
    uint64_t number = mde__get_bytes(p, r->size, r->big_endian);
    double real = r->kind == 'f' ? mde__npy_element(r, p) : 0;
    if (r->kind == 'i') number ^= (uint64_t)1 << (8 * r->size - 1);         /* in the order of unsigned numbers */
    if (token == 0 || (r->kind == 'f' ? real > d->real : number > d->number)) {
        mde__start_document(r->context, d->v, token);
    } else if (r->kind == 'f' ? !(real >= d->real) : number < d->number) {
        mde_fail(r->context, MDE_BAD_FILE, "%s: the document of token %zu is less than the one before", r->name, token);
    }
    d->number = number;
    d->real = real;
}

static void mde__take_bytes(const mde__npy_reader *r, size_t token, const unsigned char *p, void *user)
{
    double bytes = mde__npy_element(r, p);
    *(double *)user += bytes;
    if (bytes >= 0 && bytes <= 1e9) return;
    mde_fail(r->context, MDE_BAD_FILE, "%s: token %zu has %.9g bytes", r->name, token, bytes);
}

/* Names of the experts: the .npy files of a folder but for the two that describe the tokens. */
static mde_status mde__list_experts(mde_context *c, const char *folder, mde_names *experts)
{
    mde_names files;
    memset(experts, 0, sizeof *experts);
    mde_folder_list(c, folder, &files);
    for (int i = 0; i < files.count; i++) {
        char *name = files.items[i];
        size_t length = strlen(name), stem = length > 4 ? length - 4 : 0;
        if (mde__same_word(name + stem, length - stem, ".npz") ||
            (mde__same_word(name + stem, length - stem, ".npy") && !mde__ends_with(name, ".npy"))) {
            mde_fail(c, MDE_BAD_FILE, "%s/%s: would be left out; expected one .npy file an expert, with the ending in "
                     "small letters", folder, name);
        }
        if (!mde__ends_with(name, ".npy") || strcmp(name, "bytes.npy") == 0 || strcmp(name, "doc.npy") == 0) continue;
        name[strlen(name) - 4] = 0;
        mde_names_add(c, experts, name);
    }
    mde_names_free(c, &files);
    return c->status;
}

static void mde__open_validation(mde_experts *e, const char *path, const char *validation)
{
    mde_context *c = e->context;
    char *folder = mde__join_path(c, path, validation);
    mde__documents documents;
    mde__validation v;
    memset(&v, 0, sizeof v);
    memset(&documents, 0, sizeof documents);
    documents.v = &v;
    v.name = mde__copy_text(c, validation);
    v.folder = folder;
    v.columns = (mde__npy_file *)mde_alloc(c, (size_t)e->count, sizeof *v.columns);
    for (int i = 0; i < e->count && !mde__bad(c); i++) {
        if (!mde__open_column(c, folder, e->names[i], 1, 0, &v.columns[i])) break;
        if (i == 0) v.tokens = v.columns[i].count;
        if (v.columns[i].count != v.tokens) {
            mde_fail(c, MDE_BAD_SHAPE, "%s/%s.npy: has %zu tokens, %s.npy has %zu", folder, e->names[i],
                     v.columns[i].count, e->names[0], v.tokens);
        }
    }
    if (!mde__bad(c) && v.tokens == 0) mde_fail(c, MDE_BAD_SHAPE, "%s: the validation text has no tokens", folder);
    mde__each_element(c, folder, "doc", v.tokens, mde__take_document, &documents);
    mde__each_element(c, folder, "bytes", v.tokens, mde__take_bytes, &v.bytes);
    mde__add_validation(e, &v, NULL);
    mde_release(c, folder);
}

/* Every expert must have judged every validation text: one that the first folder lacks must not go unnoticed. */
static mde_status mde__check_experts(const mde_experts *e, const char *folder)
{
    mde_context *c = e->context;
    mde_names experts;
    int j;
    mde__list_experts(c, folder, &experts);
    for (int i = 0; i < experts.count && !mde__bad(c); i++) {
        for (j = 0; j < e->count && strcmp(experts.items[i], e->names[j]) != 0; j++) {}
        if (j == e->count) {
            mde_fail(c, MDE_BAD_FILE, "%s/%s.npy: the validation folders before it have no such expert", folder,
                     experts.items[i]);
        }
    }
    mde_names_free(c, &experts);
    return c->status;
}

MDEDEF mde_experts *mde_experts_open(mde_context *c, const char *path, const mde_experts_desc *desc)
{
    static const mde_experts_desc defaults = { 0, 0, NULL, NULL };
    mde_names validations, experts;
    mde_experts *e = NULL;
    if (mde__bad(c)) return NULL;
    if (!path || !mde_is_folder(path)) {
        mde_fail(c, MDE_IO, "%s: no such folder; expected <folder>/<validation>/<expert>.npy", path ? path : "?");
        return NULL;
    }
    if (!desc) desc = &defaults;
    memset(&experts, 0, sizeof experts);
    mde_folder_list(c, path, &validations);
    for (int i = 0; i < validations.count && !mde__bad(c); i++) {
        char *folder = mde__join_path(c, path, validations.items[i]);
        if (folder && mde_is_folder(folder)) {
            if (!e) {
                mde__list_experts(c, folder, &experts);
                if (!mde__bad(c) && experts.count == 0) {
                    mde_fail(c, MDE_BAD_FILE, "%s: has no expert's .npy file", folder);
                }
                e = mde_experts_create(c, experts.count, (const char *const *)experts.items);
                mde_experts_report(e, desc->progress, desc->user);
                if (e) e->passes->room = desc->memory ? desc->memory : MDE__MEMORY;
                if (e) e->passes->nll = desc->nll;
            }
            if (e && mde__check_experts(e, folder) == MDE_OK) mde__open_validation(e, path, validations.items[i]);
        }
        mde_release(c, folder);
    }
    if (!mde__bad(c) && !e) mde_fail(c, MDE_BAD_FILE, "%s: has no folder of a validation text", path);
    mde_names_free(c, &validations);
    mde_names_free(c, &experts);
    if (mde__bad(c)) {
        mde_experts_free(e);
        e = NULL;
    }
    if (e) mde__free_windows(e);
    return e;
}

#endif /* MDE_NO_STDIO */

/* ---- Loss ---- */

static mde_status mde__check_mixture(const mde_experts *e, const char *who, int64_t n, const double *weights)
{
    return mde__check_mixtures(e->context, who, n, e->count, e->names, 1, weights);
}

/* What is asked at one mixture: the objective's loss, its gradient and its Hessian. */
typedef struct mde__query {
    const double *weights;
    unsigned char *const *counts;   /* [validations][documents] how often each document counts; NULL: once, in all
                                       queries of a pass */
    double loss;
    double *gradient, *hessian;     /* [experts], [experts, experts]; NULL: not wanted */
} mde__query;

/* How often each token of a part counts, in floats as the kernel takes them. */
static void mde__token_counts(const mde__validation *v, const mde__span *part, const unsigned char *counts, float *out)
{
    int64_t first = (int64_t)part->first, end = first + (int64_t)part->tokens, low = 0, high = v->documents, d, t;
    while (high - low > 1) {        /* the document that the part begins in */
        int64_t middle = low + (high - low) / 2;
        if (v->starts[middle] <= first) low = middle;
        else high = middle;
    }
    for (d = low, t = first; t < end; d++) {
        float count = (float)counts[d];
        for (; t < v->starts[d + 1] && t < end; t++) *out++ = count;
    }
}

/* Adds to the answers of n queries what a text gives to them, `share` times, in one pass over its tokens. */
static void mde__ask_text(const mde_experts *e, int index, double share, int n, mde__query *query)
{
    const mde__validation *v = &e->validation[index];
    mde_context *c = e->context;
    mde_mark mark = mde_arena_mark(c);
    size_t k = (size_t)e->count, i;
    mde__mixture_sums *sums = (mde__mixture_sums *)mde_scratch(c, (size_t)n, sizeof *sums);
    double *derivatives = (double *)mde_scratch(c, (size_t)n * k * (k + 1), sizeof *derivatives);
    float *counts = NULL;
    mde__span part = { 0, 0, 0, NULL };
    if (query->counts) counts = (float *)mde_scratch(c, v->tokens < MDE__SPAN ? v->tokens : MDE__SPAN, sizeof *counts);
    for (int q = 0; q < n && !mde__bad(c); q++) {
        sums[q].experts = e->count;
        sums[q].weights = query[q].weights;
        sums[q].gradient = query[q].gradient ? derivatives + (size_t)q * k * (k + 1) : NULL;
        sums[q].hessian = query[q].hessian ? derivatives + (size_t)q * k * (k + 1) + k : NULL;
        mde__mixture_clear(&sums[q]);
    }
    while (mde__next_span(e, v, &part)) {
        for (int q = 0; q < n; q++) {
            if (counts) mde__token_counts(v, &part, query[q].counts[index], counts);
            if (!mde__mixture_add(c, &sums[q], (int64_t)part.tokens, part.ratios, (int64_t)part.stride, counts) ||
                mde__meter_add(&e->passes->meter, (double)part.tokens))
                break;
        }
    }
    for (int q = 0; q < n && !mde__bad(c); q++) {
        double peak = v->peak, tokens = (double)v->tokens;
        if (query[q].counts) {
            const unsigned char *times = query[q].counts[index];
            peak = tokens = 0;
            for (int64_t d = 0; d < v->documents; d++) {
                peak += (double)times[d] * v->peaks[d];
                tokens += (double)times[d] * (double)(v->starts[d + 1] - v->starts[d]);
            }
        }
        query[q].loss += share * (-(peak + sums[q].sum) / tokens);
        for (i = 0; query[q].gradient && i < k; i++) query[q].gradient[i] -= share * sums[q].gradient[i] / tokens;
        for (i = 0; query[q].hessian && i < k * k; i++) {
            size_t row = i / k, column = i % k, lower = row > column ? i : column * k + row;
            query[q].hessian[i] += share * sums[q].hessian[lower] / tokens;
        }
    }
    mde_arena_rewind(c, mark);
}

/* Answers n queries in one pass over the texts that have a share; NaN after an error. */
static void mde__ask(const mde_experts *e, const double *shares, int n, mde__query *query)
{
    size_t k = (size_t)e->count;
    double tokens = 0;
    for (int q = 0; q < n; q++) {
        query[q].loss = 0;
        if (query[q].gradient) memset(query[q].gradient, 0, k * sizeof(double));
        if (query[q].hessian) memset(query[q].hessian, 0, k * k * sizeof(double));
    }
    for (int j = 0; j < e->validations; j++) if (shares[j] != 0) tokens += (double)e->validation[j].tokens;
    mde__meter_start(&e->passes->meter, tokens * n);
    for (int j = 0; j < e->validations; j++) if (shares[j] != 0) mde__ask_text(e, j, shares[j], n, query);
    for (int q = 0; q < n && mde__bad(e->context); q++) query[q].loss = (double)NAN;
}

/* What the next passes are for, as their reports say. */
static void mde__set_stage(const mde_experts *e, const char *stage)
{
    e->passes->meter.stage = stage;
    e->passes->figures[0] = 0;
}

MDEDEF double mde_validation_loss(const mde_experts *e, int validation, const double *weights, double *gradient)
{
    mde__query query = { weights, NULL, 0, gradient, NULL };
    if (!e) return (double)NAN;
    mde__require(e->context, validation >= 0 && validation < e->validations, "validation loss: validation is %d; "
                 "expected 0 to %d", validation, e->validations - 1);
    if (mde__bad(e->context) || mde__check_mixture(e, "validation loss", 1, weights)) return (double)NAN;
    for (int i = 0; gradient && i < e->count; i++) gradient[i] = 0;
    mde__set_stage(e, "loss");
    mde__meter_start(&e->passes->meter, (double)e->validation[validation].tokens);
    mde__ask_text(e, validation, 1, 1, &query);
    return mde__bad(e->context) ? (double)NAN : query.loss;
}

/* Shares of the validation texts, sum 1, to be released; NULL after an error. */
static double *mde__objective_shares(const mde_experts *e, const double *objective)
{
    mde_context *c = e->context;
    double sum = 0, *shares = (double *)mde_alloc(c, (size_t)e->validations + 1, sizeof *shares);
    for (int j = 0; shares && j < e->validations; j++) {
        shares[j] = objective ? objective[j] : 1;
        mde__require(c, shares[j] >= 0 && shares[j] < 1e300, "objective: weight of %s is %.9g; expected 0 or more",
                     e->validation[j].name, shares[j]);
        sum += shares[j];
    }
    mde__require(c, sum > 0, "objective: no validation text has a weight above 0");
    if (!mde__bad(c)) {
        for (int j = 0; j < e->validations; j++) shares[j] /= sum;
        return shares;
    }
    mde_release(c, shares);
    return NULL;
}

MDEDEF double mde_mixture_loss(const mde_experts *e, const double *objective, const double *weights, double *gradient)
{
    double *shares;
    mde__query query = { weights, NULL, (double)NAN, gradient, NULL };
    if (!e || mde__bad(e->context)) return (double)NAN;
    shares = mde__objective_shares(e, objective);
    if (shares && mde__check_mixture(e, "mixture loss", 1, weights) == MDE_OK) {
        mde__set_stage(e, "loss");
        mde__ask(e, shares, 1, &query);
    }
    mde_release(e->context, shares);
    return query.loss;
}

MDEDEF mde_status mde_mixture_losses(const mde_experts *e, int64_t mixtures, const double *weights, double *out)
{
    mde_context *c = e ? e->context : NULL;
    double *sums, tokens = 0;
    if (mde__bad(c)) return mde_context_status(c);
    if (mde__check_mixture(e, "mixture losses", mixtures, weights)) return c->status;
    sums = (double *)mde_alloc(c, (size_t)mixtures + 1, sizeof *sums);
    mde__set_stage(e, "losses");
    for (int j = 0; j < e->validations; j++) tokens += (double)e->validation[j].tokens;
    mde__meter_start(&e->passes->meter, tokens);
    for (int j = 0; j < e->validations && !mde__bad(c); j++) {
        const mde__validation *v = &e->validation[j];
        mde_mark mark = mde_arena_mark(c);
        mde__span part = { 0, 0, 0, NULL };
        mde__mixtures m;
        memset(&m, 0, sizeof m);
        m.experts = e->count;
        m.mixtures = mixtures;
        m.tokens = (int64_t)v->tokens;
        m.weights = weights;
        m.sums = sums;
        if (mde__mixtures_start(c, &m)) {
            while (mde__next_span(e, v, &part)) {
                mde__mixtures_add(c, &m, (int64_t)part.tokens, part.ratios, (int64_t)part.stride);
                mde__meter_add(&e->passes->meter, (double)part.tokens);
            }
        }
        if (!mde__bad(c)) mde__mixtures_end(c, &m);
        for (int64_t n = 0; n < mixtures && !mde__bad(c); n++) {
            out[n * e->validations + j] = -(v->peak + sums[n]) / (double)v->tokens;
        }
        mde_arena_rewind(c, mark);
    }
    mde_release(c, sums);
    return c->status;
}

MDEDEF double mde_bits_per_byte(const mde_experts *e, int validation, double loss)
{
    const double ln2 = 0.6931471805599453;
    const mde__validation *v = mde__find_validation(e, validation);
    if (!e || mde__bad(e->context)) return (double)NAN;
    mde__require(e->context, v != NULL, "bits per byte: validation is %d; expected 0 to %d", validation,
                 e->validations - 1);
    return v && v->bytes > 0 ? loss * (double)v->tokens / (ln2 * v->bytes) : (double)NAN;
}

/* ---- Prices ---- */

/* Moving the mixture from w to (1 - s) w + s e_i changes the loss by s (g_i - g.w), and g.w = -1. */
static void mde__prices_of_gradient(int k, const double *gradient, double *prices)
{
    for (int i = 0; i < k; i++) prices[i] = gradient[i] + 1;
}

MDEDEF mde_status mde_mixture_prices(const mde_experts *e, const double *objective, const double *weights,
                                     double *prices)
{
    mde_context *c = e ? e->context : NULL;
    double gradient[MDE_MAX_DOMAINS], loss = mde_mixture_loss(e, objective, weights, gradient);
    if (mde__bad(c)) return mde_context_status(c);
    if (!(fabs(loss) < 1e300)) {
        return mde_fail(c, MDE_NOT_FINITE, "prices: a token has probability 0 under the mixture");
    }
    mde__prices_of_gradient(e->count, gradient, prices);
    return MDE_OK;
}

/* ---- Exact minimum ---- */

/* Adds the matrix of rank one to h after which the step d explains the change of the gradient (the symmetric update of
   rank one): where a sample misjudges the curvature is mostly along few experts, those with little weight. */
static void mde__learn_curvature(int k, const double *d, const double *before, const double *after, double *h)
{
    double residual[MDE_MAX_DOMAINS], along = 0, residuals = 0, length = 0;
    for (int i = 0; i < k; i++) {
        residual[i] = after[i] - before[i];
        for (int j = 0; j < k; j++) residual[i] -= h[i * k + j] * d[j];
        along += residual[i] * d[i];
        residuals += residual[i] * residual[i];
        length += d[i] * d[i];
    }
    if (!(fabs(along) > 1e-3 * sqrt(residuals * length))) return;
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++) h[i * k + j] += residual[i] * residual[j] / along;
    }
}

/* Projected Newton steps from out's weights, halved until the loss falls. The Hessian of a sample serves as long as
   each step leaves half of the gap or less: a pass over all tokens without their Hessian takes a fraction of the time.
   Many descents go on side by side, so that one pass over the tokens answers all of them. */
typedef enum mde__descent_phase { MDE__START, MDE__LOOK, MDE__STEP, MDE__DONE } mde__descent_phase;
typedef struct mde__descent {
    mde_optimum *out;
    mde__query query;
    mde__descent_phase phase;       /* what the query asks for: the start, its Hessian, the end of a step */
    int sampled;                    /* h is of a sample */
    int halvings;
    double slope, step, g[MDE_MAX_DOMAINS], d[MDE_MAX_DOMAINS], trial[MDE_MAX_DOMAINS], trial_g[MDE_MAX_DOMAINS];
    double *h;                      /* [experts, experts] */
} mde__descent;
typedef struct mde__descents {
    const mde_experts *experts, *few;   /* few: a sample; NULL: none */
    const double *shares, *lower, *upper;
    double tolerance;
    int iterations;
    int count;
    mde__descent *one;
    mde__query *query;              /* [count] */
} mde__descents;

static void mde__ask_at(mde__descent *s, mde__descent_phase phase, const double *weights, double *gradient)
{
    s->phase = phase;
    s->query.weights = weights;
    s->query.gradient = gradient;
    s->query.hessian = s->sampled ? NULL : s->h;
}

static void mde__try_step(const mde__descents *all, mde__descent *s)
{
    int k = all->experts->count;
    for (int i = 0; i < k; i++) {
        s->trial[i] = mde__clamp(s->out->weights[i] + s->step * s->d[i], all->lower[i], all->upper[i]);
    }
    mde__simplex_correct(k, all->lower, all->upper, s->trial);
    /* A step is seldom halved, so that the derivatives at its end are mostly wanted. */
    mde__ask_at(s, MDE__STEP, s->trial, s->trial_g);
}

/* With loss and gradient at hand, and a Hessian, which may not serve any more. */
static void mde__next_step(const mde__descents *all, mde__descent *s, int serves)
{
    int k = all->experts->count;
    if (!(s->out->gap > all->tolerance && s->out->iterations < all->iterations)) {
        s->phase = MDE__DONE;
        return;
    }
    if (!serves) {
        s->sampled = 0;
        mde__ask_at(s, MDE__LOOK, s->out->weights, s->g);
        return;
    }
    mde__copy(k, s->out->weights, s->trial);
    mde__copy(k, s->g, s->trial_g);
    mde__simplex_quadratic(k, s->h, all->lower, all->upper, s->trial, s->trial_g);
    s->slope = 0;
    for (int i = 0; i < k; i++) {
        s->d[i] = s->trial[i] - s->out->weights[i];
        s->slope += s->g[i] * s->d[i];
    }
    s->step = 1;
    s->halvings = 0;
    mde__try_step(all, s);
}

static void mde__end_step(const mde__descents *all, mde__descent *s)
{
    int k = all->experts->count, serves;
    double gap;
    if (!(s->query.loss <= s->out->loss + 1e-4 * s->step * s->slope + 1e-15 * fabs(s->out->loss))) {
        s->step *= 0.5;
        if (s->sampled) mde__next_step(all, s, 0);
        else if (++s->halvings == 60) s->phase = MDE__DONE;
        else mde__try_step(all, s);
        return;
    }
    gap = mde__simplex_gap(k, s->trial_g, s->trial, all->lower, all->upper, s->d);
    serves = !s->sampled || gap <= 0.5 * s->out->gap;
    for (int i = 0; i < k; i++) s->d[i] = s->trial[i] - s->out->weights[i];
    if (s->sampled && serves) mde__learn_curvature(k, s->d, s->g, s->trial_g, s->h);
    mde__copy(k, s->trial, s->out->weights);
    mde__copy(k, s->trial_g, s->g);
    s->out->loss = s->query.loss;
    s->out->gap = gap;
    s->out->iterations++;
    mde__next_step(all, s, serves);
}

/* Goes on from the answer to the query. */
static void mde__descend(const mde__descents *all, mde__descent *s)
{
    if (s->phase == MDE__STEP) {
        mde__end_step(all, s);
        return;
    }
    if (s->phase == MDE__START) {
        s->out->loss = s->query.loss;
        if (!(fabs(s->out->loss) < 1e300)) {
            mde_fail(all->experts->context, MDE_NOT_FINITE,
                     "minimize: a token has probability 0 under every expert that the bounds allow");
            return;
        }
        s->out->gap = mde__simplex_gap(all->experts->count, s->g, s->out->weights, all->lower, all->upper, s->d);
        s->out->iterations = 0;
    }
    mde__next_step(all, s, 1);
}

static void mde__minimize(const mde__descents *all)
{
    mde_context *c = all->experts->context;
    mde__passes *passes = all->experts->passes;
    int active = all->count;
    double gap = -1;
    for (int i = 0; i < all->count; i++) {
        mde__descent *s = &all->one[i];
        s->sampled = 0;
        if (all->few) {
            mde__ask_at(s, MDE__START, s->out->weights, s->g);
            mde__ask(all->few, all->shares, 1, &s->query);
            s->sampled = 1;
        }
        mde__ask_at(s, MDE__START, s->out->weights, s->g);
    }
    for (int pass = 1; active > 0 && !mde__bad(c); pass++) {
        char number[32];
        for (int i = active = 0; i < all->count; i++) {
            if (all->one[i].phase != MDE__DONE) all->query[active++] = all->one[i].query;
        }
        if (all->count > 1) {
            snprintf(passes->figures, sizeof passes->figures, "step %d of %d replicates", pass, active);
        } else if (gap >= 0) {
            mde__sentence(number, sizeof number, "%.1e", gap);
            snprintf(passes->figures, sizeof passes->figures, "pass %d, gap %s", pass, number);
        }
        if (active) mde__ask(all->experts, all->shares, active, all->query);
        for (int i = active = 0; i < all->count && !mde__bad(c); i++) {
            mde__descent *s = &all->one[i];
            if (s->phase == MDE__DONE) continue;
            s->query.loss = all->query[active++].loss;
            mde__descend(all, s);
            gap = s->out->gap;
        }
    }
    for (int i = 0; i < all->count && !mde__bad(c); i++) {
        mde_optimum *out = all->one[i].out;
        mde__shadow_prices(all->experts->count, all->one[i].g, out->weights, all->lower, all->upper, out->active,
                           out->price);
    }
}

/* Memory for descents; what is there is kept. */
static int mde__descents_start(mde__descents *all, int count)
{
    mde_context *c = all->experts->context;
    size_t k = (size_t)all->experts->count;
    all->count = count;
    all->one = (mde__descent *)mde_alloc(c, (size_t)count, sizeof *all->one);
    all->query = (mde__query *)mde_alloc(c, (size_t)count, sizeof *all->query);
    for (int i = 0; i < count && all->one; i++) all->one[i].h = (double *)mde_alloc(c, k * k, sizeof(double));
    return !mde__bad(c);
}

static void mde__descents_end(mde__descents *all)
{
    mde_context *c = all->experts->context;
    for (int i = 0; i < all->count && all->one; i++) mde_release(c, all->one[i].h);
    MDE__RELEASE(c, all->one, all->query);
}

#define MDE__SAMPLE_MINIMUM 16384       /* tokens of a text of which a sample is taken: */
#define MDE__SAMPLE_PART 8              /* one token out of so many or of more, from the kept sample if there is one */

/* A sample of the large texts and all of the small ones, from a source that has all of them or a sample already; what
   it takes whole from memory is not copied. 0 and *few empty when no text is large, or on error. */
static int mde__sample_experts(const mde_experts *e, const mde_experts *source, mde_experts *few)
{
    mde_context *c = e->context;
    int large = 0;
    *few = *e;
    few->sample = NULL;
    few->validation = NULL;
    for (int j = 0; j < e->validations; j++) large |= e->validation[j].tokens >= MDE__SAMPLE_MINIMUM;
    if (large) few->validation = (mde__validation *)mde_alloc(c, (size_t)e->validations, sizeof *few->validation);
    for (int j = 0; few->validation && j < e->validations; j++) {
        const mde__validation *from = &source->validation[j];
        mde__validation *v = &few->validation[j];
        size_t all = e->validation[j].tokens, part = all < MDE__SAMPLE_MINIMUM ? 1 : MDE__SAMPLE_PART;
        size_t span = MDE__SAMPLE_RUN * ((part * from->tokens + all - 1) / all);
        mde__span of = { 0, 0, 0, NULL };
        if (span == MDE__SAMPLE_RUN && from->held == from->tokens) {
            *v = *from;
            continue;
        }
        v->tokens = v->held = v->stride = mde__sample_size(from->tokens, span);
        v->ratios = (float *)mde_alloc(c, v->stride * (size_t)e->count, sizeof *v->ratios);
        while (v->ratios && mde__next_span(source, from, &of)) mde__sample_part(e->count, span, &of, NULL, v);
    }
    return few->validation && !mde__bad(c);
}

/* The minimum from all->one's weights by way of that over a sample, found in the same way from a smaller one: each is
   near the next, and its Hessian serves there. A sample is no better than its noise, of some 1 / sqrt(tokens). */
static void mde__minimize_by_samples(mde__descents *all)
{
    const mde_experts *e = all->experts, *source = e->sample ? e->sample : e;
    mde_context *c = e->context;
    mde_experts made;
    mde_optimum *out = all->one->out;
    int i, j, sampled = mde__sample_experts(e, source, &made);
    all->few = sampled ? &made : NULL;
    if (sampled) {
        double tolerance = all->tolerance, noise = 0;
        mde_optimum guess = *out;
        mde__descents first = *all;
        for (j = 0; j < made.validations; j++) {
            noise += all->shares[j] * all->shares[j] / (double)made.validation[j].tokens;
        }
        noise = 0.1 * sqrt(noise);
        first.experts = &made;
        first.tolerance = tolerance > noise ? tolerance : noise;
        first.iterations = 50;
        first.one->out = &guess;
        mde__minimize_by_samples(&first);
        all->one->out = out;
        /* A little inside, because a weight that is zero there may not be zero here. */
        for (i = 0; i < e->count; i++) out->weights[i] = 0.9999 * guess.weights[i] + 0.0001 * out->weights[i];
    }
    if (!mde__bad(c)) mde__minimize(all);
    mde__sample_free(&made, source);
}

static const mde_minimize_desc mde__minimize_defaults = { NULL, NULL, NULL, 0, 0 };

MDEDEF mde_status mde_mixture_minimize(const mde_experts *e, const mde_minimize_desc *desc, mde_optimum *out)
{
    mde_context *c = e ? e->context : NULL;
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS], *shares, tolerance;
    memset(out, 0, sizeof *out);
    out->loss = out->gap = (double)NAN;
    if (mde__bad(c)) return mde_context_status(c);
    if (!desc) desc = &mde__minimize_defaults;
    tolerance = desc->gap > 0 ? desc->gap : 1e-6;
    out->count = e->count;
    shares = mde__objective_shares(e, desc->objective);
    if (shares && mde__simplex_bounds(c, e->count, desc->lower, desc->upper, lower, upper) == MDE_OK) {
        mde__descents all;
        memset(&all, 0, sizeof all);
        all.experts = e;
        all.shares = shares;
        all.lower = lower;
        all.upper = upper;
        all.tolerance = tolerance;
        all.iterations = desc->iterations > 0 ? desc->iterations : 200;
        mde__middle_of_bounds(e->count, lower, upper, out->weights);
        mde__set_stage(e, "minimum");
        if (mde__descents_start(&all, 1)) {
            all.one->out = out;
            mde__minimize_by_samples(&all);
        }
        mde__descents_end(&all);
        if (!mde__bad(c) && !(out->gap <= tolerance)) {
            mde_fail(c, MDE_NOT_FINITE, "minimize: after %d steps the loss may still be %.9g nats above the minimum; "
                     "%.9g was asked for", out->iterations, out->gap, tolerance);
        }
    }
    mde_release(c, shares);
    return c->status;
}

/* ---- Bootstrap ---- */

/* What a bootstrap works with: its settings, the shares of the validation texts, and of so many replicates as go
   through the tokens together how often each document counts. */
typedef struct mde__resampling {
    int replicates; /* 0: a text has too little for an interval */
    double tail;    /* probability beyond each end of an interval */
    double *shares; /* [validations] */
    int together;
    unsigned char **counts; /* [together, validations][documents]; NULL for a text without share */
    uint64_t seed;
} mde__resampling;

static void mde__resampling_end(const mde_experts *e, mde__resampling *r)
{
    for (int j = 0; r->counts && j < r->together * e->validations; j++) mde_release(e->context, r->counts[j]);
    MDE__RELEASE(e->context, r->counts, r->shares);
}

/* Draws the replicates from number `first` on, of each text as many documents as there are, with replacement; returns
   how many. */
static int mde__resample(const mde_experts *e, const mde__resampling *r, int first)
{
    int n = r->replicates - first < r->together ? r->replicates - first : r->together;
    for (int i = 0; i < n * e->validations; i++) {
        uint64_t replicate = (uint64_t)(first + i / e->validations), text = (uint64_t)(i % e->validations);
        uint64_t documents = (uint64_t)e->validation[text].documents;
        mde_random stream = mde_random_start(r->seed, replicate * 65536u + text);
        if (!r->counts[i]) continue;
        memset(r->counts[i], 0, (size_t)documents);
        for (uint64_t d = 0; d < documents; d++) {
            unsigned char *count = &r->counts[i][mde_random_below(&stream, documents)];
            *count = (unsigned char)(*count + (*count < 255));  /* which is as good as impossible: 1 / 255! */
        }
    }
    snprintf(e->passes->figures, sizeof e->passes->figures, "replicates %d to %d of %d", first + 1, first + n,
             r->replicates);
    return n;
}

/* What a bootstrap draws, if not documents everywhere: of the first text that has too few even of blocks, or else of
   the first that has blocks. Returns whether there is an interval. */
static int mde__resampling_note(const mde_experts *e, const double *shares, char note[320])
{
    const mde__validation *shown = NULL;
    int others = -1, possible = 1;
    char documents[40], more[48] = "";
    for (int j = 0; j < e->validations; j++) {
        const mde__validation *v = &e->validation[j];
        int enough = v->documents >= MDE__FEWEST_DOCUMENTS;
        if (shares[j] == 0 || (enough && (v->block == 0 || !possible))) continue;
        if (possible && !enough) {
            possible = 0;
            shown = NULL;
            others = -1;
        }
        if (!shown) shown = v;
        others++;
    }
    note[0] = 0;
    if (!shown) return 1;
    snprintf(documents, sizeof documents, shown->known ? "%lld document%s" : "no known documents",
             (long long)shown->known, shown->known == 1 ? "" : "s");
    if (others > 0) snprintf(more, sizeof more, ", and %d other text%s like it", others, others == 1 ? "" : "s");
    if (possible) {
        snprintf(note, 320, "blocks of %zu tokens stand for documents: %.100s has %s%s", shown->block, shown->name,
                 documents, more);
    } else {
        snprintf(note, 320, "no interval: %.100s has %zu tokens and %s; %d documents or %d tokens would do%s",
                 shown->name, shown->tokens, documents, MDE__FEWEST_DOCUMENTS,
                 MDE__FEWEST_DOCUMENTS * (MDE__SHORTEST_BLOCK - 1) + 1, more);
    }
    return possible;
}

/* Returns 0 after an error; mde__resampling_end is due either way. */
static int mde__resampling_start(const mde_experts *e, const double *objective, int replicates, double level,
                                 uint64_t seed, mde__resampling *r, char note[320])
{
    mde_context *c = e->context;
    double documents = 1;
    memset(r, 0, sizeof *r);
    r->replicates = replicates > 0 ? replicates : 200;
    r->seed = seed;
    if (!(level < 1)) return !mde_fail(c, MDE_BAD_ARGUMENT, "bootstrap: level must be below 1");
    r->tail = (1 - (level > 0 ? level : 0.9)) / 2;
    r->shares = mde__objective_shares(e, objective);
    if (!r->shares) return 0;
    if (!mde__resampling_note(e, r->shares, note)) r->replicates = 0;
    for (int j = 0; j < e->validations; j++) if (r->shares[j] != 0) documents += (double)e->validation[j].documents;
    r->together = r->replicates * documents > (double)MDE__RESAMPLED ? 1 + (int)((double)MDE__RESAMPLED / documents)
                                                                     : r->replicates;
    r->counts = (unsigned char **)mde_alloc(c, (size_t)r->together * (size_t)e->validations + 1, sizeof *r->counts);
    for (int j = 0; r->counts && j < r->together * e->validations; j++) {
        int text = j % e->validations;
        if (r->shares[text] == 0) continue;
        r->counts[j] = (unsigned char *)mde_alloc(c, (size_t)e->validation[text].documents, 1);
    }
    return !mde__bad(c);
}

/* Ends of the interval of each of k quantities, whose values [k, replicates] it sorts; NaN without any. */
static void mde__intervals(const mde__resampling *r, int k, double *values, double *low, double *high)
{
    size_t n = (size_t)r->replicates;
    for (int i = 0; i < k; i++) {
        low[i] = n > 0 ? mde__quantile(values + (size_t)i * n, n, r->tail) : mde__quiet_nan();
        high[i] = n > 0 ? mde__quantile(values + (size_t)i * n, n, 1 - r->tail) : mde__quiet_nan();
    }
}

MDEDEF mde_status mde_mixture_bootstrap(const mde_experts *e, const mde_bootstrap_desc *desc, mde_bootstrap *out)
{
    static const mde_bootstrap_desc defaults = { NULL, NULL, 0, 0, 0 };
    mde_context *c = e ? e->context : NULL;
    const mde_minimize_desc *minimize;
    mde__resampling r;
    mde__descents all;
    mde_optimum *best = &out->optimum, *optimum = NULL;
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS], middle[MDE_MAX_DOMAINS];
    double *losses = NULL, *weights = NULL;
    int k, n;
    memset(out, 0, sizeof *out);
    if (mde__bad(c)) return mde_context_status(c);
    if (!desc) desc = &defaults;
    minimize = desc->minimize ? desc->minimize : &mde__minimize_defaults;
    k = e->count;
    memset(&all, 0, sizeof all);
    all.experts = e;
    if (desc->weights && mde__check_mixture(e, "bootstrap", 1, desc->weights)) return c->status;
    if (mde__resampling_start(e, minimize->objective, desc->replicates, desc->level, desc->seed, &r, out->note) &&
        mde_mixture_minimize(e, minimize, best) == MDE_OK) {
        mde__simplex_bounds(c, k, minimize->lower, minimize->upper, lower, upper);
        mde__middle_of_bounds(k, lower, upper, middle);
        losses = (double *)mde_alloc(c, (size_t)r.replicates, sizeof *losses);
        weights = (double *)mde_alloc(c, (size_t)r.replicates * (size_t)k, sizeof *weights);
        optimum = (mde_optimum *)mde_alloc(c, (size_t)r.together, sizeof *optimum);
        mde__descents_start(&all, r.together);
        mde__set_stage(e, "bootstrap");
    }
    all.shares = r.shares;
    all.lower = lower;
    all.upper = upper;
    all.tolerance = 1e-5;
    all.iterations = 100;
    for (int first = 0; first < r.replicates && !mde__bad(c); first += n) {
        n = mde__resample(e, &r, first);
        for (int b = 0; b < n; b++) {
            all.query[b].weights = desc->weights ? desc->weights : best->weights;
            all.query[b].counts = r.counts + b * e->validations;
            all.query[b].gradient = all.query[b].hessian = NULL;
        }
        mde__ask(e, r.shares, n, all.query);
        for (int b = 0; b < n; b++) {
            mde__descent *s = &all.one[b];
            losses[first + b] = all.query[b].loss;
            optimum[b] = *best;
            /* A little inside, because a weight that is zero here may not be zero there. */
            for (int i = 0; i < k; i++) optimum[b].weights[i] = 0.95 * best->weights[i] + 0.05 * middle[i];
            s->out = &optimum[b];
            s->query.counts = r.counts + b * e->validations;
        }
        all.count = n;
        if (!mde__bad(c)) mde__minimize(&all);
        for (int b = 0; b < n; b++) {
            for (int i = 0; i < k; i++) weights[mde__cell(i, r.replicates, first + b)] = optimum[b].weights[i];
        }
    }
    if (!mde__bad(c)) {
        out->replicates = r.replicates;
        mde__intervals(&r, 1, losses, &out->loss[0], &out->loss[1]);
        mde__intervals(&r, k, weights, out->lower, out->upper);
    }
    all.count = r.together;
    mde__descents_end(&all);
    mde__resampling_end(e, &r);
    MDE__RELEASE(c, optimum, losses, weights);
    return c->status;
}

MDEDEF mde_status mde_mixture_price_intervals(const mde_experts *e, const double *objective, const double *weights,
                                              const mde_price_desc *desc, double *low, double *high)
{
    static const mde_price_desc defaults = { 0, 0, 0 };
    mde_context *c = e ? e->context : NULL;
    mde__resampling r;
    mde__query *query = NULL;
    double prices[MDE_MAX_DOMAINS], *values = NULL, *gradients = NULL;
    char note[320];
    int n;
    if (!desc) desc = &defaults;
    /* Also finds what is wrong with the mixture; a token of probability 0 would make NaN of a replicate without it. */
    if (mde_mixture_prices(e, objective, weights, prices) != MDE_OK) return mde_context_status(c);
    if (mde__resampling_start(e, objective, desc->replicates, desc->level, desc->seed, &r, note)) {
        values = (double *)mde_alloc(c, (size_t)r.replicates * (size_t)e->count, sizeof *values);
        query = (mde__query *)mde_alloc(c, (size_t)r.together, sizeof *query);
        gradients = (double *)mde_alloc(c, (size_t)r.together, (size_t)e->count * sizeof *gradients);
    }
    mde__set_stage(e, "prices");
    for (int first = 0; first < r.replicates && !mde__bad(c); first += n) {
        n = mde__resample(e, &r, first);
        for (int b = 0; b < n; b++) {
            query[b].weights = weights;
            query[b].counts = r.counts + b * e->validations;
            query[b].gradient = gradients + b * e->count;
        }
        mde__ask(e, r.shares, n, query);
        for (int b = 0; b < n; b++) {
            mde__prices_of_gradient(e->count, query[b].gradient, prices);
            for (int i = 0; i < e->count; i++) values[mde__cell(i, r.replicates, first + b)] = prices[i];
        }
    }
    if (!mde__bad(c)) mde__intervals(&r, e->count, values, low, high);
    mde__resampling_end(e, &r);
    MDE__RELEASE(c, query, gradients, values);
    return c->status;
}

/* ======================================================================
   14. DENSE LINEAR ALGEBRA AND SMOOTH MINIMISATION
   ====================================================================== */

/* Double precision, small and dense: products, Cholesky factors and their inverses, eigenvectors, L-BFGS. Each output
   of a matrix product is one chain of sums in order, so that the instruction set does not show. */

/* ---- Products ---- */

/* Element (i, j) of a matrix is at[i * row + j * column]. */
typedef struct mde__matrix { const double *at; int rows, columns; size_t row, column; } mde__matrix;

/* Rows `stride` doubles apart. */
static mde__matrix mde__strided(const double *at, int rows, int columns, size_t stride)
{
    mde__matrix a;
    a.at = at;
    a.rows = rows;
    a.columns = columns;
    a.row = stride;
    a.column = 1;
    return a;
}

static mde__matrix mde__dense(const double *at, int rows, int columns)
{
    return mde__strided(at, rows, columns, (size_t)columns);
}

static mde__matrix mde__transposed(mde__matrix a)
{
    mde__matrix t = a;
    t.rows = a.columns;
    t.columns = a.rows;
    t.row = a.column;
    t.column = a.row;
    return t;
}

/* Which parts of a product's matrices count as zeros and are not read but in the blocks on their diagonal, or are not
   wanted; and whether it is added to what is there. */
enum {
    MDE__LEFT_LOWER = 1, MDE__LEFT_UPPER = 2, MDE__RIGHT_LOWER = 4, MDE__RIGHT_UPPER = 8, MDE__OUT_LOWER = 16,
    MDE__OUT_ADDED = 32
};

#define MDE__DENSE_ALIGN 64              /* bytes: of a vector of AVX-512, and of a line of the cache */

/* Numbers of workspace of a product with so many rows and such a depth. */
static size_t mde__dense_work(int rows, int depth)
{
    uint64_t count = (uint64_t)depth * ((uint64_t)rows + MDE__DENSE_ROWS + MDE__DENSE_COLUMNS);
    return count > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)count + MDE__DENSE_ALIGN / sizeof(double);
}

/* count <= width vectors of length `depth` as a panel [depth][width], zeros after the last. Element p of vector i is
   x[i * vector + p * step]. */
static void mde__dense_pack(int width, int count, int depth, const double *x, size_t vector, size_t step, double *panel)
{
    int i;
    if (count < width) memset(panel, 0, (size_t)depth * (size_t)width * sizeof(double));
    if (vector == 1) {
        for (int p = 0; p < depth; p++, x += step, panel += width) {
            if (count == MDE__DENSE_ROWS) memcpy(panel, x, MDE__DENSE_ROWS * sizeof(double));
            else if (count == MDE__DENSE_COLUMNS) memcpy(panel, x, MDE__DENSE_COLUMNS * sizeof(double));
            else memcpy(panel, x, (size_t)count * sizeof(double));
        }
        return;
    }
    for (i = 0; i + 4 <= count; i += 4) {
        const double *from = x + (size_t)i * vector;
        double *to = panel + i;
        for (int p = 0; p < depth; p++, from += step, to += width) {
            to[0] = from[0];
            to[1] = from[vector];
            to[2] = from[2 * vector];
            to[3] = from[3 * vector];
        }
    }
    for (; i < count; i++) {
        const double *from = x + (size_t)i * vector;
        for (int p = 0; p < depth; p++) panel[p * width + i] = from[(size_t)p * step];
    }
}

/* out [rows, columns] = sign a b with a [rows, depth], b [depth, columns] and rows of out `stride` doubles apart; sign
   is 1 or -1 (or any factor). Each element of a b is one chain of sums in order of depth. shape: MDE__LEFT_LOWER and so
   on. work: mde__dense_work(rows, depth), here and below of the largest product. */
static void mde__dense_product(int simd, int shape, double sign, mde__matrix a, mde__matrix b,
                               double *out, size_t stride, double *work)
{
    int rows = a.rows, columns = b.columns, depth = a.columns, added = (shape & MDE__OUT_ADDED) != 0, i, j, r;
    double edge[MDE__DENSE_ROWS * MDE__DENSE_COLUMNS];
    double *panel = work + (MDE__DENSE_ALIGN - (uintptr_t)work % MDE__DENSE_ALIGN) / sizeof(double);
    double *left = panel + (size_t)depth * MDE__DENSE_COLUMNS;
    for (i = 0; i < rows; i += MDE__DENSE_ROWS) {
        int high = rows - i < MDE__DENSE_ROWS ? rows - i : MDE__DENSE_ROWS, from = shape & MDE__LEFT_UPPER ? i : 0;
        int to = (shape & MDE__LEFT_LOWER) && i + MDE__DENSE_ROWS < depth ? i + MDE__DENSE_ROWS : depth;
        if (from >= to) continue;
        mde__dense_pack(MDE__DENSE_ROWS, high, to - from, a.at + (size_t)i * a.row + (size_t)from * a.column, a.row,
                        a.column, left + (size_t)i * (size_t)depth + from * MDE__DENSE_ROWS);
    }
    for (j = 0; j < columns; j += MDE__DENSE_COLUMNS) {
        int wide = columns - j < MDE__DENSE_COLUMNS ? columns - j : MDE__DENSE_COLUMNS;
        int first = shape & MDE__OUT_LOWER ? j / MDE__DENSE_ROWS * MDE__DENSE_ROWS : 0;
        int begin = shape & MDE__RIGHT_LOWER ? j : shape & MDE__LEFT_UPPER ? first : 0;
        int end = (shape & MDE__RIGHT_UPPER) && j + MDE__DENSE_COLUMNS < depth ? j + MDE__DENSE_COLUMNS : depth;
        if (begin < end) {
            mde__dense_pack(MDE__DENSE_COLUMNS, wide, end - begin,
                            b.at + (size_t)j * b.column + (size_t)begin * b.row, b.column, b.row,
                            panel + begin * MDE__DENSE_COLUMNS);
        }
        for (i = first; i < rows; i += MDE__DENSE_ROWS) {
            int high = rows - i < MDE__DENSE_ROWS ? rows - i : MDE__DENSE_ROWS, from = begin, to = end;
            double *here = out + (size_t)i * stride + j;
            const double *with = left + (size_t)i * (size_t)depth;
            if ((shape & MDE__LEFT_UPPER) && i > from) from = i;
            if ((shape & MDE__LEFT_LOWER) && i + MDE__DENSE_ROWS < to) to = i + MDE__DENSE_ROWS;
            if (from < to && high == MDE__DENSE_ROWS && wide == MDE__DENSE_COLUMNS) {
                mde__kernel_dense_tile(simd)(to - from, sign, added, with + from * MDE__DENSE_ROWS,
                                             panel + from * MDE__DENSE_COLUMNS, here, stride);
                continue;
            }
            if (from >= to && added) continue;
            if (from >= to) memset(edge, 0, sizeof edge);
            for (r = 0; r < high && added; r++) {
                memcpy(edge + r * MDE__DENSE_COLUMNS, here + (size_t)r * stride, (size_t)wide * sizeof *edge);
            }
            if (from < to) {
                mde__kernel_dense_tile(simd)(to - from, sign, added, with + from * MDE__DENSE_ROWS,
                                             panel + from * MDE__DENSE_COLUMNS, edge, MDE__DENSE_COLUMNS);
            }
            for (r = 0; r < high; r++) {
                memcpy(here + (size_t)r * stride, edge + r * MDE__DENSE_COLUMNS, (size_t)wide * sizeof *edge);
            }
        }
    }
}

MDE__WARM
static double mde__inner(int n, const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* ---- Cholesky ---- */

/* The halves one after the other, with L_21 = A_21 L_11^-T and (L^-1)_21 = -L_22^-1 L_21 L_11^-1 between them. */
static int mde__factor_halves(int simd, int n, double *a, double *inverse, size_t stride, double *work)
{
    int half = (n / 2 + MDE__DENSE_BLOCK - 1) / MDE__DENSE_BLOCK * MDE__DENSE_BLOCK, rest = n - half, i;
    double *a21, *a22, *inverse21, *product;
    if (n <= MDE__DENSE_BLOCK) return mde__kernel_dense_factor(simd)(n, a, inverse, stride);
    a21 = a + (size_t)half * stride;
    a22 = a21 + half;
    inverse21 = inverse + (size_t)half * stride;
    product = work + mde__dense_work(rest, half);
    if (!mde__factor_halves(simd, half, a, inverse, stride, work)) return 0;
    mde__dense_product(simd, MDE__RIGHT_UPPER, 1.0, mde__strided(a21, rest, half, stride),
                       mde__transposed(mde__strided(inverse, half, half, stride)), inverse21, stride, work);
    for (i = 0; i < rest; i++) {
        mde__copy(half, inverse21 + (size_t)i * stride, a21 + (size_t)i * stride);
    }
    mde__dense_product(simd, MDE__OUT_LOWER | MDE__OUT_ADDED, -1.0, mde__strided(a21, rest, half, stride),
                       mde__transposed(mde__strided(a21, rest, half, stride)), a22, stride, work);
    if (!mde__factor_halves(simd, rest, a22, inverse21 + half, stride, work)) return 0;
    mde__dense_product(simd, MDE__RIGHT_LOWER, 1.0, mde__strided(a21, rest, half, stride),
                       mde__strided(inverse, half, half, stride), product, (size_t)half, work);
    mde__dense_product(simd, MDE__LEFT_LOWER, -1.0, mde__strided(inverse21 + half, rest, rest, stride),
                       mde__dense(product, rest, half), inverse21, stride, work);
    return 1;
}

/* Lower half of inverse [n, n] = L^-1 for the symmetric a = L L', whose lower half is read and spoilt; above the
   diagonal it is zero in the blocks there, and not touched elsewhere. Returns 0 when a is not positive definite. work:
   mde__dense_work(n, n), here and below. */
static int mde__cholesky_inverse(int simd, int n, double *a, double *inverse, double *work)
{
    return mde__factor_halves(simd, n, a, inverse, (size_t)n, work);
}

/* Lower half of full [n, n] = sign inverse' inverse: the inverse of L L' from inverse = L^-1. */
static void mde__inverse_from_factor(int simd, int n, double sign, const double *inverse,
                                     double *full, double *work)
{
    mde__dense_product(simd, MDE__LEFT_UPPER | MDE__OUT_LOWER, sign, mde__transposed(mde__dense(inverse, n, n)),
                       mde__dense(inverse, n, n), full, (size_t)n, work);
}

static void mde__mirror(int n, double *a)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) a[mde__cell(j, n, i)] = a[mde__cell(i, n, j)];
    }
}

/* out = L^-T (L^-1 v) for inverse = L^-1. */
static void mde__factor_solve(int simd, int n, const double *inverse, const double *v, double *half,
                              double *out)
{
    for (int i = 0; i < n; i++) {
        const double *row = inverse + (size_t)i * (size_t)n;
        half[i] = mde__kernel_dense_dot(simd)(i + 1, row, v);
        out[i] = 0;
        mde__kernel_dense_axpy(simd)(i + 1, half[i], row, out);
    }
}

/* ---- Eigenvectors ---- */

/* Householder's tridiagonal form T = Q' a Q of the symmetric a [n, n], which is destroyed: diagonal and off-diagonal
   [n] each, and rows of `vectors` [n, n] = Q'. work [n]. */
MDE__WARM
static void mde__tridiagonalise(int n, double *a, double *diagonal, double *off_diagonal, double *vectors, double *work)
{
    size_t stride = (size_t)n;
    for (int k = 0; k < n - 2; k++) {
        double *v = a + (size_t)k * stride, norm, scale, half = 0;
        diagonal[k] = v[k];
        norm = sqrt(mde__inner(n - k - 1, v + k + 1, v + k + 1));
        off_diagonal[k] = v[k + 1] > 0 ? -norm : norm;
        v[k + 1] -= off_diagonal[k];
        scale = mde__inner(n - k - 1, v + k + 1, v + k + 1);
        scale = scale > 0 ? 2.0 / scale : 0;
        v[k] = scale;       /* free: the diagonal is copied */
        for (int i = k + 1; i < n; i++) {
            work[i] = scale * mde__inner(n - k - 1, a + (size_t)i * stride + k + 1, v + k + 1);
            half += 0.5 * scale * work[i] * v[i];
        }
        for (int i = k + 1; i < n; i++) work[i] -= half * v[i];
        for (int i = k + 1; i < n; i++) {
            double *row = a + (size_t)i * stride;
            for (int j = k + 1; j < n; j++) row[j] -= v[i] * work[j] + work[i] * v[j];
        }
    }
    if (n > 1) {
        diagonal[n - 2] = a[(size_t)(n - 2) * stride + (size_t)(n - 2)];
        off_diagonal[n - 2] = a[(size_t)(n - 2) * stride + (size_t)(n - 1)];
    }
    diagonal[n - 1] = a[(size_t)(n - 1) * stride + (size_t)(n - 1)];
    off_diagonal[n - 1] = 0;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) vectors[(size_t)i * stride + (size_t)j] = i == j;
    }
    for (int k = n - 3; k >= 0; k--) {
        const double *v = a + (size_t)k * stride;
        for (int i = k + 1; i < n; i++) {
            double *row = vectors + (size_t)i * stride, factor = v[k] * mde__inner(n - k - 1, row + k + 1, v + k + 1);
            for (int j = k + 1; j < n; j++) row[j] -= factor * v[j];
        }
    }
}

/* Eigenvalues [n] (in no order) of the symmetric a [n, n], which is destroyed; row i of vectors [n, n] is eigenvector
   i. Implicit QR steps with Wilkinson's shift (Golub and Van Loan, section 8.3). work [2 n]. Returns 0 when it does
   not converge, as for input that is not finite. */
MDE__WARM
static int mde__eigen(int n, double *a, double *values, double *vectors, double *work)
{
    double *off_diagonal = work + n, norm = 0;
    int low, high = n - 1, steps = 0;
    mde__tridiagonalise(n, a, values, off_diagonal, vectors, work);
    for (int k = 0; k < n; k++) {
        double size = fabs(values[k]) + fabs(off_diagonal[k]);
        if (!(size < (double)INFINITY)) return 0;
        if (size > norm) norm = size;
    }
    while (high > 0) {
        double delta, shift, x, z;
        low = high;
        while (low > 0 && !(fabs(off_diagonal[low - 1]) <= 1e-16 * norm)) low--;
        if (low == high) {
            high--;
            continue;
        }
        if (++steps > 60 * n) return 0;
        delta = 0.5 * (values[high - 1] - values[high]);
        x = off_diagonal[high - 1];
        z = sqrt(delta * delta + x * x);
        shift = values[high] - x * (x / (delta + (delta > 0 ? z : -z)));
        x = values[low] - shift;
        z = off_diagonal[low];
        for (int k = low; k < high; k++) {
            double r = sqrt(x * x + z * z), cosine = r > 0 ? x / r : 1, sine = r > 0 ? z / r : 0;
            double first = values[k], second = values[k + 1], between = off_diagonal[k];
            double cross = 2.0 * cosine * sine * between;
            double *upper = vectors + (size_t)k * (size_t)n, *lower = upper + n;
            if (k > low) off_diagonal[k - 1] = r;
            values[k] = cosine * cosine * first + cross + sine * sine * second;
            values[k + 1] = sine * sine * first - cross + cosine * cosine * second;
            off_diagonal[k] = cosine * sine * (second - first) + (cosine * cosine - sine * sine) * between;
            if (k < high - 1) {
                x = off_diagonal[k];
                z = sine * off_diagonal[k + 1];
                off_diagonal[k + 1] *= cosine;
            }
            for (int j = 0; j < n; j++) {
                double u = upper[j], v = lower[j];
                upper[j] = cosine * u + sine * v;
                lower[j] = cosine * v - sine * u;
            }
        }
    }
    return 1;
}

/* ---- Smooth minimisation without bounds ---- */

/* Value at theta, with its gradient; not finite where the function is not defined. */
typedef double mde__smooth_fn(const double *theta, double *gradient, void *user);

#define MDE__LBFGS_MEMORY 8
#define MDE__LBFGS_WORK(n) ((size_t)(n) * (2 * MDE__LBFGS_MEMORY + 4) + 2 * MDE__LBFGS_MEMORY)

/* Limited-memory BFGS (Nocedal 1980); the line search brackets a step that satisfies the weak Wolfe conditions. theta
   becomes the best point found; returns its value, NaN when the function is not finite at the start. kept [2]: how much
   curvature is known from an earlier call with the same work, and then from this one; NULL: none. */
MDE__WARM
static double mde__lbfgs(mde__smooth_fn *f, void *user, int n, double *theta, double *work, int *kept, int iterations,
                         double tolerance)
{
    double *gradient = work, *trial = gradient + n, *slope_at = trial + n, *direction = slope_at + n;
    double *steps = direction + n, *changes = steps + MDE__LBFGS_MEMORY * n;
    double *curvature = changes + MDE__LBFGS_MEMORY * n;
    double *share = curvature + MDE__LBFGS_MEMORY, value = f(theta, gradient, user);
    int iteration, stored = kept ? kept[0] : 0, newest = kept ? kept[1] : 0, quiet = 0, i, k;
    if (!(fabs(value) < (double)INFINITY)) return (double)NAN;
    for (iteration = 0; iteration < iterations; iteration++) {
        double slope, step = 1, low = 0, high = (double)INFINITY, found = (double)NAN, longest = 0, scale, dot;
        int accepted = 0;
        for (i = 0; i < n; i++) direction[i] = -gradient[i];
        for (k = 0; k < stored; k++) {
            int s = (newest - k + MDE__LBFGS_MEMORY) % MDE__LBFGS_MEMORY;
            share[s] = mde__inner(n, steps + s * n, direction) / curvature[s];
            for (i = 0; i < n; i++) direction[i] -= share[s] * changes[s * n + i];
        }
        if (stored > 0) {
            scale = curvature[newest] / mde__inner(n, changes + newest * n, changes + newest * n);
            for (i = 0; i < n; i++) direction[i] *= scale;
        }
        for (k = stored - 1; k >= 0; k--) {
            int s = (newest - k + MDE__LBFGS_MEMORY) % MDE__LBFGS_MEMORY;
            double back = share[s] - mde__inner(n, changes + s * n, direction) / curvature[s];
            for (i = 0; i < n; i++) direction[i] += back * steps[s * n + i];
        }
        slope = mde__inner(n, gradient, direction);
        if (!(slope < 0)) {
            if (stored == 0) break;
            stored = 0;
            continue;
        }
        /* a logarithm moves by at most 1 before curvature is known, by at most 3 later */
        for (i = 0; i < n; i++) if (fabs(direction[i]) > longest) longest = fabs(direction[i]);
        scale = stored > 0 ? 3.0 : 1.0;
        if (longest > scale) step = scale / longest;
        for (int tries = 0; tries < 25; tries++) {
            for (i = 0; i < n; i++) trial[i] = theta[i] + step * direction[i];
            found = f(trial, slope_at, user);
            if (!(fabs(found) < (double)INFINITY) || found > value + 1e-4 * step * slope) {
                high = step;
            } else {
                accepted = 1;
                if (mde__inner(n, slope_at, direction) >= 0.9 * slope) break;
                low = step;
            }
            step = high < (double)INFINITY ? 0.5 * (low + high) : 2.0 * step;
        }
        if (!accepted || !(found <= value)) break;
        dot = 0;
        newest = stored > 0 ? (newest + 1) % MDE__LBFGS_MEMORY : 0;
        for (i = 0; i < n; i++) {
            steps[newest * n + i] = trial[i] - theta[i];
            changes[newest * n + i] = slope_at[i] - gradient[i];
            dot += steps[newest * n + i] * changes[newest * n + i];
            theta[i] = trial[i];
            gradient[i] = slope_at[i];
        }
        curvature[newest] = dot;
        if (dot > 0) stored = stored < MDE__LBFGS_MEMORY ? stored + 1 : stored;
        else stored = 0;
        quiet = value - found <= tolerance * (1.0 + fabs(found)) ? quiet + 1 : 0;
        value = found;
        longest = 0;
        for (i = 0; i < n; i++) if (fabs(gradient[i]) > longest) longest = fabs(gradient[i]);
        if (quiet >= 2 || longest <= tolerance) break;
    }
    if (kept) {
        kept[0] = stored;
        kept[1] = newest;
    }
    return value;
}

/* ---- Least squares ---- */

/* Value at theta, and the lower half of normal [n + 1, n + 1]: a curvature that is nowhere below 0, and under it, as
   row n, the gradient. */
typedef double mde__squares_fn(const double *theta, double *normal, void *user);

#define MDE__MARQUARDT_STEPS 200

/* Doubles of workspace. */
static size_t mde__marquardt_work(int n)
{
    size_t square = (size_t)n * (size_t)n, normal = ((size_t)n + 1) * ((size_t)n + 1);
    return 2 * normal + 2 * square + 3 * (size_t)n + mde__dense_work(n, n);
}

/* Levenberg-Marquardt: a Newton step with that curvature, whose diagonal is raised the more the less the last step
   gained of what it promised (Nielsen 1999). theta becomes the best point found; returns its value, NaN when that is
   not finite at the start. */
static double mde__marquardt(int simd, mde__squares_fn *f, void *user, int n, double *theta, double *work)
{
    size_t square = (size_t)n * (size_t)n, row = (size_t)n + 1;
    double *normal = work, *next = normal + row * row, *damped = next + row * row, *inverse = damped + square;
    double *half = inverse + square, *step = half + n, *trial = step + n, *scratch = trial + n;
    double value = f(theta, normal, user), damping = 1e-3, growth = 2;
    int quiet = 0;
    if (!(fabs(value) < (double)INFINITY)) return (double)NAN;
    for (int iteration = 0; iteration < MDE__MARQUARDT_STEPS && quiet < 2 && damping < 1e15; iteration++) {
        const double *gradient = normal + (size_t)n * row;
        double along = 0, raised = 0, longest = 0, share, promised = 0, found = (double)NAN;
        double tolerance = 1e-10 * (1.0 + fabs(value));
        for (int i = 0; i < n; i++) {
            memcpy(damped + mde__cell(i, n, 0), normal + (size_t)i * row, ((size_t)i + 1) * sizeof(double));
            damped[mde__cell(i, n, i)] *= 1.0 + damping;
        }
        if (mde__cholesky_inverse(simd, n, damped, inverse, scratch)) {
            mde__factor_solve(simd, n, inverse, gradient, half, step);
            for (int i = 0; i < n; i++) {
                along += step[i] * gradient[i];
                raised += damping * normal[(size_t)i * row + (size_t)i] * step[i] * step[i];
                if (fabs(step[i]) > longest) longest = fabs(step[i]);
            }
            /* a logarithm moves by at most 1: exponentials that are nearly gone do not come back */
            share = longest > 1 ? 1 / longest : 1;
            for (int i = 0; i < n; i++) trial[i] = theta[i] - share * step[i];
            promised = share * along - 0.5 * share * share * (along - raised);
            found = f(trial, next, user);
        }
        if (!(found <= value)) {
            if (promised > 0 && promised <= tolerance) break;
            damping *= growth;
            growth *= 2;
            continue;
        }
        quiet = value - found <= tolerance ? quiet + 1 : 0;
        if (promised > 0) {
            double missed = 2.0 * (value - found) / promised - 1.0, factor = 1.0 - missed * missed * missed;
            damping *= factor > 1.0 / 3 ? factor : 1.0 / 3;
        }
        growth = 2;
        value = found;
        mde__copy(n, trial, theta);
        memcpy(normal, next, row * row * sizeof(double));
    }
    return value;
}

/* ---- Normal distribution ---- */

#define MDE__LEVEL_90 1.6448536269514722    /* of a normal distribution, 90 % lie within so many sds */

/* Probability that a standard normal number is below z: its series near 0, the continued fraction of Mills' ratio in
   the tails (Abramowitz and Stegun 26.2.11, 26.2.14). */
static double mde__normal_below(double z)
{
    double density = mde__exp64(-0.5 * z * z) * 0.3989422804014327, sum, term;
    int i;
    if (z > 3) return 1.0 - mde__normal_below(-z);
    if (z < -3) {
        for (i = 60, sum = -z; i > 0; i--) sum = -z + i / sum;
        return density / sum;
    }
    for (i = 1, sum = term = z; i < 60; i++) {
        term *= z * z / (2 * i + 1);
        sum += term;
    }
    return 0.5 + density * sum;
}

/* ======================================================================
   15. REGRESSORS
   ====================================================================== */

/* From mixtures to losses, with as few runs as possible. A regressor is a struct, the functions that work on it, and a
   row; each part below begins with its mathematics and ends with its row. The one idea of most: factor once, then read
   everything off the factor. Ridge takes every penalty's leave-one-out error from one eigen-decomposition; a Gaussian
   process takes likelihood, gradient and predictions from the inverse of its Cholesky factor; the joint process from
   those of single targets and of what they share.

   A constant that says "tuned on RegMix" was chosen by how well the public RegMix runs were predicted, their test runs
   among them: the figures of the README's table of these runs are to that extent not held out. */

/* ---- What all have in common ---- */

typedef struct mde__regressor_kind mde__regressor_kind;

struct mde_regressor {
    mde_context *context;
    const mde__regressor_kind *kind;
    void *state;                /* the kind's own struct, or one a target */
    double *memory;             /* what its arrays were taken from */
    int n, d, m;                /* runs, features given, targets */
    int used;                   /* features that vary */
    int noises;                 /* features that are inputs of the noise, the last ones given */
    int *index;                 /* [d] index among those used; -1: constant, or an input of the noise */
    double *shift, *scale;      /* [d] */
    double *x;                  /* [n, used] standardised */
    double *noise_x;            /* [n, noises] */
    double *target_mean, *target_sd;   /* [m]; sd 0 when a target is constant: it is predicted without a fit */
    double *y;                  /* [m, n] standardised; 0 where constant */
    double *left_out;           /* [n, m] predictions of runs by models without them and their repeats */
    int *next;                  /* [n] the next run of equal features, in a ring */
    int *fold, folds, repeated; /* [n] where repeats stay together; 1: there are any */
};

/* Doubles taken one array after the other from a block. Without a block they are only counted, so that one function
   says both how large a workspace is and where its arrays lie. */
typedef struct mde__workspace { double *start; size_t used; } mde__workspace;

/* Inputs of predictions, standardised x [rows, used] and inputs of the noise [rows, noises]. */
typedef struct mde__inputs { int rows; const double *x, *noise_x; } mde__inputs;

/* A kind of regressor is one row. Targets are fitted side by side, those of several regressors too, so only `share` may
   allocate. Constant targets come filled in and are left as they are. */
struct mde__regressor_kind {
    const char *name;
    int features, expert_features;      /* MDE_FEATURE_* when a surrogate's user names none; what experts add to them */
    int joint;                          /* 1: all targets are fitted at once, as number 0 */
    int noise_inputs;                   /* 1: features may be inputs of the noise */
    int largest_rank;                   /* of mde_fit_desc; 0: the number of targets */
    size_t state, target_state;         /* bytes of its struct: one a regressor, or one a target */
    /* Sets what the state knows from the description, and takes its arrays, which then are zeros. */
    void (*lay_out)(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory);
    /* Once, what all targets need; x [n, d] and y [n, m] as given. May be NULL. */
    mde_status (*share)(mde_regressor *r, const double *x, const double *y);
    size_t (*work)(const mde_regressor *r);             /* doubles that fit takes */
    /* One target, and its column of left_out; returns 0 when its numbers are not finite. */
    int (*fit)(mde_regressor *r, int target, double *work);
    const char *failure;                                /* what to say then */
    size_t (*predict_work)(const mde_regressor *r, int rows);       /* NULL: none */
    /* Means and sds (may be NULL) [rows, m]. */
    void (*predict)(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work);
    /* d mean / d x of a target at standardised x; slope [used] comes zeroed, work as for one row. NULL: no gradient. */
    void (*gradient)(const mde_regressor *r, int target, const double *x, double *slope, double *work);
    double (*log_likelihood)(const mde_regressor *r, int target);              /* of standardised targets, or NULL */
    double (*length_scale)(const mde_regressor *r, int target, int index);     /* or NULL */
};

static double *mde__take(mde__workspace *b, size_t rows, size_t columns)
{
    double *at = b->start ? b->start + b->used : NULL;
    size_t count;
    /* What is too large gets a size that fails. */
    if (!mde__mul_size(rows, columns, &count) || count > SIZE_MAX - b->used) count = SIZE_MAX - b->used;
    b->used += count;
    return at;
}

/* The standardised targets of one loss, [n]. */
static const double *mde__target(const mde_regressor *r, int target)
{
    return r->y + (size_t)target * (size_t)r->n;
}

/* Stores the prediction, standardised, of a run by a fit without it. */
static void mde__leave_out(mde_regressor *r, int target, int run, double value)
{
    r->left_out[mde__cell(run, r->m, target)] = r->target_mean[target] + r->target_sd[target] * value;
}

/* What mde__leave_out stored. */
static double mde__stored_left_out(const mde_regressor *r, int target, int run)
{
    return (r->left_out[mde__cell(run, r->m, target)] - r->target_mean[target]) / r->target_sd[target];
}

/* Laws leave runs out to first order from a fit with them, by y - (y - fit) / (1 - leverage). That holds for small
   leverages; where one is larger than this, and where runs are repeated, folds are left out instead. */
#define MDE__LARGEST_LEVERAGE 0.5
/* Mean squared error, in variances of the target, up to which a law leaves runs out to first order, too. */
#define MDE__LARGEST_ERRORS 0.1

/* Sum of values [n] over a run and its repeats; *count is how many they are. */
static double mde__over_repeats(const int *next, int run, const double *values, int *count)
{
    double sum = 0;
    int i = run;
    *count = 0;
    do {
        sum += values[i];
        ++*count;
        i = next[i];
    } while (i != run);
    return sum;
}

/* The first number that is not finite is an error that names its row and column, both from 0. */
static mde_status mde__check_table(mde_context *c, const char *what, int n, int columns, const double *table)
{
    size_t i, count = (size_t)n * (size_t)columns;
    for (i = 0; i < count; i++) {
        if (!(fabs(table[i]) < (double)INFINITY)) {
            return mde_fail(c, MDE_NOT_FINITE, "regression: %s row %zu, column %zu is %.9g", what,
                            i / (size_t)columns, i % (size_t)columns, table[i]);
        }
    }
    return MDE_OK;
}

/* Mean and standard deviation of a column; sd 0 when all its numbers agree to rounding. */
static void mde__moments(int n, const double *column, size_t stride, double *mean, double *sd)
{
    double low = column[0], high = column[0], sum = 0, squares = 0, largest;
    for (int i = 0; i < n; i++) {
        double v = column[(size_t)i * stride];
        if (v < low) low = v;
        if (v > high) high = v;
        sum += v;
    }
    largest = fabs(low) > fabs(high) ? fabs(low) : fabs(high);
    if (high - low <= 1e-13 * largest) {
        *mean = 0.5 * (low + high);
        *sd = 0;
        return;
    }
    *mean = sum / n;
    for (int i = 0; i < n; i++) {
        double deviation = column[(size_t)i * stride] - *mean;
        squares += deviation * deviation;
    }
    *sd = sqrt(squares / n);
}

/* Standardised features [n, used] of x [n, d], and the inputs of the noise [n, noises], each 0 or more, as they are. */
static mde_status mde__standardise(const mde_regressor *r, int n, const double *x, double *out, double *noise_x)
{
    for (int i = 0; i < n; i++) {
        for (int q = 0; q < r->d; q++) {
            double v = x[mde__cell(i, r->d, q)];
            if (r->index[q] >= 0) out[mde__cell(i, r->used, r->index[q])] = (v - r->shift[q]) / r->scale[q];
            if (q < r->d - r->noises) continue;
            if (!(v >= 0)) {
                return mde_fail(r->context, MDE_BAD_ARGUMENT, "regression: noise input %d of row %d is %.9g; expected "
                                "0 or more", q, i, v);
            }
            *noise_x++ = v;
        }
    }
    return MDE_OK;
}

/* Whether runs a and b are repeats of one mixture. */
static int mde__same_mixture(int k, const double *weights, int a, int b)
{
    for (int q = 0; q < k; q++) {
        if (fabs(weights[mde__cell(a, k, q)] - weights[mde__cell(b, k, q)]) > 1e-9) return 0;
    }
    return 1;
}

/* A run to be sorted by a number, then by weights [k], if it has any. */
typedef struct mde__keyed { double key; const double *weights; int k, run; } mde__keyed;

MDE__WARM
static int mde__by_key(const void *a, const void *b)
{
    const mde__keyed *p = (const mde__keyed *)a, *q = (const mde__keyed *)b;
    int order = mde__compare_doubles(&p->key, &q->key);
    for (int i = 0; i < p->k && order == 0; i++) order = mde__compare_doubles(p->weights + i, q->weights + i);
    return order != 0 ? order : p->run - q->run;
}

/* Sorted by a sum of their weights, with factors between 1 and 2, so that only neighbours are compared: of runs that
   are equal to the bit one stands for all. */
MDEDEF int mde_first_repeats(mde_context *c, int n, int k, const double *weights, int *first)
{
    mde__keyed *sorted;
    double largest = 0, reach;
    int count = 0, mixtures = 0;
    mde__require(c, n >= 1 && k >= 0 && weights && first, "repeats: %d runs of %d weights; expected 1 or more", n, k);
    sorted = (mde__keyed *)mde_alloc(c, (size_t)n, sizeof *sorted);
    if (!sorted) return 0;
    for (int i = 0; i < n; i++) {
        double size = 0, factor = 0;
        for (int q = 0; q < k; q++) {
            double weight = weights[mde__cell(i, k, q)];
            factor += 0.6180339887;
            if (factor >= 1) factor -= 1;
            sorted[i].key += (1 + factor) * weight;
            size += 2 * fabs(weight);
        }
        if (size > largest) largest = size;
        sorted[i].weights = weights + mde__cell(i, k, 0);
        sorted[i].k = k;
        sorted[i].run = i;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, mde__by_key);
    for (int i = 0; i < n; i++) {       /* to the bit */
        int same = count > 0;
        for (int q = 0; same && q < k; q++) same = sorted[count - 1].weights[q] == sorted[i].weights[q];
        if (!same) sorted[count++] = sorted[i];
        first[sorted[i].run] = sorted[count - 1].run;
    }
    reach = 2e-9 * k + 1e-15 * k * largest;     /* and what rounding does to a key */
    for (int i = 0, from = 0; i < count; i++) {
        int run = sorted[i].run, lowest = run;
        while (sorted[i].key - sorted[from].key > reach) from++;
        for (int j = from; j < count && sorted[j].key - sorted[i].key <= reach; j++) {
            if (sorted[j].run < lowest && mde__same_mixture(k, weights, sorted[j].run, run)) lowest = sorted[j].run;
        }
        first[run] = lowest;
    }
    for (int i = 0; i < n; i++) {
        first[i] = first[first[i]];
        mixtures += first[i] == i;
    }
    mde_release(c, sorted);
    return mixtures;
}

/* Folds of equal sizes, as far as repeated runs, which stay together, allow: each mixture goes to the smallest fold.
   weights [n, k]; NULL: no run repeats another. Returns the number of folds. */
static int mde__folds_of_runs(mde_context *c, int n, int k, const double *weights, int folds, uint64_t seed, int *fold)
{
    mde_random random = mde_random_start(seed, 0x666f6c64);
    int64_t *order = (int64_t *)mde_alloc(c, (size_t)n, sizeof(int64_t));
    int *size = (int *)mde_alloc(c, (size_t)folds + 2 * (size_t)n, sizeof(int));
    int used = 0;
    if (order && size) {
        int *repeats = size + folds;    /* of the mixture whose first run it is */
        int *first = repeats + n;
        for (int i = 0; i < n; i++) first[i] = i;
        if (weights) mde_first_repeats(c, n, k, weights, first);
        for (int i = 0; i < n; i++) repeats[first[i]]++;
        mde_random_permutation(&random, n, order);
        for (int i = 0; i < n; i++) {
            int run = (int)order[i], smallest = 0;
            if (repeats[run] == 0) continue;
            for (int f = 1; f < folds; f++) if (size[f] < size[smallest]) smallest = f;
            fold[run] = smallest;
            size[smallest] += repeats[run];
        }
        for (int i = 0; i < n; i++) fold[i] = fold[first[i]];
        for (int f = 0; f < folds; f++) used += size[f] > 0;
    }
    MDE__RELEASE(c, size, order);
    return used;
}

#define MDE__FOLDS 5

/* Rings of equal inputs, and folds. Where all inputs are equal, runs can only be held out one by one. */
static void mde__group_runs(mde_regressor *r, uint64_t seed)
{
    mde_context *c = r->context;
    int distinct;
    r->next = (int *)mde_alloc(c, 2 * (size_t)r->n, sizeof(int));
    if (!r->next) return;
    r->fold = r->next + r->n;           /* until they are dealt, the first of each run's repeats */
    distinct = mde_first_repeats(c, r->n, r->used, r->x, r->fold);
    if (mde__bad(c)) return;
    for (int i = 0; i < r->n; i++) {
        int first = r->fold[i];
        r->next[i] = first < i ? r->next[first] : i;
        r->next[first] = i;
    }
    r->repeated = distinct > 1 && distinct < r->n;
    for (int i = 0; i < r->n && distinct == 1; i++) r->next[i] = i;
    r->folds = mde__folds_of_runs(c, r->n, r->used, r->repeated ? r->x : NULL, r->n < MDE__FOLDS ? r->n : MDE__FOLDS,
                                  seed, r->fold);
}

/* The inputs [width] and targets of the runs outside of a fold; returns how many. */
static int mde__outside_fold(const mde_regressor *r, int fold, int width, const double *x, const double *y,
                             double *few_x, double *few_y)
{
    int count = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->fold[i] == fold) continue;
        mde__copy_row(width, x, i, few_x, count);
        few_y[count++] = y[i];
    }
    return count;
}

/* ---- Ridge ---- */

/* Minimises |y - X b|^2 + n p |b|^2 with X = sum_r sqrt(e_r) u_r v_r': directions v, eigenvalues e of X'X and scores
   z = X v give, for every penalty p at once, the coefficients, the leverages h_i = 1/n + sum_r z_ir^2 / (e_r + n p) and
   so the exact leave-one-out errors (y_i - fit_i) / (1 - h_i). The 1/n counts the intercept. A run that stands g times
   is left out with its repeats, whose residuals sum to R: its error is then y_i - fit_i + h_i R / (1 - g h_i). */

typedef struct mde__ridge {
    int rank;
    double given;               /* penalty of the description; 0: to be chosen */
    double *scores;             /* [n, rank] */
    double *directions;         /* [rank, used] orthonormal rows */
    double *eigenvalues;        /* [rank] of X'X */
    double *target;             /* [m, n] less their means */
    double *coefficients;       /* [m, used] */
    double *penalty;            /* [m] a run */
    double *residual;           /* [m] noise variance */
} mde__ridge;

/* What one target's errors are made of: y [n] less its mean, products [rank] of it with the scores; work [2 rank]. */
typedef struct mde__ridge_fit { const mde_regressor *r; const double *y; double *products, *work; } mde__ridge_fit;

/* Sum of the squared leave-one-out errors at one penalty; NaN where a run has leverage 1. residual, the noise variance,
   and errors [n] may be NULL. */
static double mde__ridge_leave_one_out(const mde__ridge_fit *f, double penalty, double *residual, double *errors)
{
    const mde__ridge *s = (const mde__ridge *)f->r->state;
    int simd = f->r->context->simd, n = f->r->n, rank = s->rank, repeats;
    double total = 0, noise = 0, *shrunk = f->work, *weight = shrunk + rank;
    for (int k = 0; k < rank; k++) shrunk[k] = 1.0 / (s->eigenvalues[k] + n * penalty);
    for (int i = 0; i < n; i++) {
        const double *row = s->scores + mde__cell(i, rank, 0);
        double fit, leverage, error, left;
        mde__kernel_dense_multiply(simd)(rank, 1.0, row, shrunk, weight);
        fit = mde__kernel_dense_dot(simd)(rank, weight, f->products);
        leverage = 1.0 / n + mde__kernel_dense_dot(simd)(rank, weight, row);
        error = mde__over_repeats(f->r->next, i, f->y, &repeats);
        left = 1.0 - repeats * leverage;
        if (!(left > 1e-12)) return (double)NAN;
        error = repeats > 1 ? f->y[i] - fit + leverage * (error - repeats * fit) / left : (f->y[i] - fit) / left;
        total += error * error;
        noise += error * error * (repeats > 1 ? left / (left + leverage) : left);
        if (errors) errors[i] = error;
    }
    if (residual) *residual = noise / n;    /* the variance of error_i is noise / (1 - h_i) when the model is right,
                                               and noise (1 + h_i / (1 - g h_i)) of repeats */
    return total;
}

/* Decades of the penalty a run: below, X'X may be singular to rounding; above, the fit is the mean. */
#define MDE__RIDGE_LOWEST (-6.0)
#define MDE__RIDGE_HIGHEST 4.0
#define MDE__RIDGE_STEPS 40

static double mde__ridge_error(const mde__ridge_fit *f, double decade)
{
    return mde__ridge_leave_one_out(f, mde__exp64(decade * 2.302585092994045684), NULL, NULL);
}

/* The penalty with the smallest leave-one-out error: a grid of quarter decades, then golden sections around its
   best. */
static double mde__ridge_choose(const mde__ridge_fit *f)
{
    const double golden = 0.6180339887498949, ln10 = 2.302585092994045684;
    double step = (MDE__RIDGE_HIGHEST - MDE__RIDGE_LOWEST) / MDE__RIDGE_STEPS, best = (double)INFINITY;
    double chosen = MDE__RIDGE_HIGHEST, ends[2], inside[2], error[2];
    for (int i = 0; i <= MDE__RIDGE_STEPS; i++) {
        double decade = MDE__RIDGE_LOWEST + step * i, found = mde__ridge_error(f, decade);
        if (found < best) {
            best = found;
            chosen = decade;
        }
    }
    ends[0] = chosen - step > MDE__RIDGE_LOWEST ? chosen - step : MDE__RIDGE_LOWEST;
    ends[1] = chosen + step < MDE__RIDGE_HIGHEST ? chosen + step : MDE__RIDGE_HIGHEST;
    for (int side = 0; side < 2; side++) {
        inside[side] = ends[!side] - golden * (ends[!side] - ends[side]);
        error[side] = mde__ridge_error(f, inside[side]);
    }
    for (int i = 0; i < 20; i++) {
        int better = error[0] < error[1] ? 0 : 1, worse = !better;
        for (int side = 0; side < 2; side++) {
            if (!(error[side] < best)) continue;
            best = error[side];
            chosen = inside[side];
        }
        ends[worse] = inside[worse];
        inside[worse] = inside[better];
        error[worse] = error[better];
        inside[better] = ends[worse] - golden * (ends[worse] - ends[better]);
        error[better] = mde__ridge_error(f, inside[better]);
    }
    return mde__exp64(chosen * ln10);
}

/* Directions, eigenvalues and scores from the smaller of X'X and X X'. */
static mde_status mde__ridge_decompose(mde_regressor *r, mde__ridge *s)
{
    mde_context *c = r->context;
    int n = r->n, d = r->used, wide = d > n, size = wide ? n : d, i, kept = 0;
    double *square = mde__doubles(c, (size_t)size, (size_t)size);
    double *vectors = mde__doubles(c, (size_t)size, (size_t)size);
    double *values = mde__doubles(c, (size_t)size, 1), *work = mde__doubles(c, 2, (size_t)size), largest = 0;
    double *pack = mde__doubles(c, 1, mde__dense_work(size, wide ? d : n));
    if (!mde__bad(c) && size > 0) {
        mde__matrix x = mde__dense(r->x, n, d), across = mde__transposed(x);
        mde__dense_product(c->simd, 0, 1.0, wide ? x : across, wide ? across : x, square, (size_t)size, pack);
        if (!mde__eigen(size, square, values, vectors, work)) {
            mde_fail(c, MDE_NOT_FINITE, "ridge: the eigen-decomposition of %d features did not converge", d);
        }
    }
    if (!mde__bad(c)) {
        for (int k = 0; k < size; k++) if (values[k] > largest) largest = values[k];
        for (int k = 0; k < size; k++) s->rank += values[k] > 1e-15 * largest;
        for (int k = 0; k < size; k++) {
            double *direction = s->directions + mde__cell(kept, d, 0), root;
            const double *vector = vectors + mde__cell(k, size, 0);
            if (!(values[k] > 1e-15 * largest)) continue;
            root = sqrt(values[k]);
            s->eigenvalues[kept] = values[k];
            for (i = 0; i < n; i++) {
                const double *own = r->x + mde__cell(i, d, 0);
                for (int q = 0; q < d && wide; q++) direction[q] += own[q] * vector[i];
                s->scores[mde__cell(i, s->rank, kept)] = wide ? root * vector[i] : mde__inner(d, own, vector);
            }
            for (i = 0; i < d; i++) direction[i] = wide ? direction[i] / root : vector[i];
            kept++;
        }
    }
    MDE__RELEASE(c, pack, work, values, vectors, square);
    return mde_context_status(c);
}

static void mde__ridge_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    mde__ridge *s = (mde__ridge *)r->state;
    size_t n = (size_t)r->n, m = (size_t)r->m, d = (size_t)r->used, size = d < n ? d : n;
    s->given = desc->penalty;
    s->scores = mde__take(memory, n, size);
    s->directions = mde__take(memory, size, d);
    s->eigenvalues = mde__take(memory, size, 1);
    s->target = mde__take(memory, m, n);
    s->coefficients = mde__take(memory, m, d);
    s->penalty = mde__take(memory, m, 1);
    s->residual = mde__take(memory, m, 1);
}

static mde_status mde__ridge_share(mde_regressor *r, const double *x, const double *y)
{
    mde__ridge *s = (mde__ridge *)r->state;
    (void)x;
    for (int j = 0; j < r->m; j++) {
        for (int i = 0; i < r->n; i++) s->target[mde__cell(j, r->n, i)] = y[mde__cell(i, r->m, j)] - r->target_mean[j];
    }
    return mde__ridge_decompose(r, s);
}

static size_t mde__ridge_work(const mde_regressor *r)
{
    return 3 * (size_t)r->used + (size_t)r->n;
}

static int mde__ridge_fit_target(mde_regressor *r, int target, double *work)
{
    mde__ridge *s = (mde__ridge *)r->state;
    int n = r->n, d = r->used, i;
    double *products = work, *errors = products + d;
    const mde__ridge_fit f = { r, s->target + mde__cell(target, n, 0), products, errors + n };
    for (int k = 0; k < s->rank; k++) products[k] = 0;
    for (i = 0; i < n; i++) {
        for (int k = 0; k < s->rank; k++) products[k] += s->scores[mde__cell(i, s->rank, k)] * f.y[i];
    }
    s->penalty[target] = s->given > 0 ? s->given : mde__ridge_choose(&f);
    if (!(mde__ridge_leave_one_out(&f, s->penalty[target], s->residual + target, errors) < (double)INFINITY)) return 0;
    for (i = 0; i < n; i++) r->left_out[mde__cell(i, r->m, target)] = r->target_mean[target] + f.y[i] - errors[i];
    for (int k = 0; k < s->rank; k++) {
        double weight = products[k] / (s->eigenvalues[k] + n * s->penalty[target]);
        for (i = 0; i < d; i++) s->coefficients[mde__cell(target, d, i)] += weight * s->directions[mde__cell(k, d, i)];
    }
    return 1;
}

/* The variance of a run at x is noise (1 + 1/n + x' (X'X + n penalty)^-1 x), in which a direction that no run has moved
   along has eigenvalue 0. */
static void mde__ridge_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    const mde__ridge *s = (const mde__ridge *)r->state;
    const double *x = in->x;
    int d = r->used;
    (void)work;
    for (int i = 0; i < in->rows; i++, x += d) {
        for (int j = 0; j < r->m; j++) {
            double ridge = r->n * s->penalty[j], leverage = 1.0 + 1.0 / r->n, beyond;
            if (!(r->target_sd[j] > 0)) continue;
            mean[mde__cell(i, r->m, j)] = r->target_mean[j] + mde__inner(d, s->coefficients + mde__cell(j, d, 0), x);
            if (!sd) continue;
            beyond = mde__inner(d, x, x);
            for (int k = 0; k < s->rank; k++) {
                double along = mde__inner(d, s->directions + mde__cell(k, d, 0), x);
                leverage += along * along / (s->eigenvalues[k] + ridge);
                beyond -= along * along;
            }
            if (s->rank < d && beyond > 0) leverage += beyond / ridge;
            sd[mde__cell(i, r->m, j)] = sqrt(s->residual[j] * leverage);
        }
    }
}

static void mde__ridge_gradient(const mde_regressor *r, int target, const double *x, double *slope, double *work)
{
    const mde__ridge *s = (const mde__ridge *)r->state;
    (void)x;
    (void)work;
    mde__copy(r->used, s->coefficients + mde__cell(target, r->used, 0), slope);
}

static const mde__regressor_kind mde__ridge_kind = {
    "ridge", MDE_FEATURE_LOG, MDE_FEATURE_OWN, 0, 0, 0, sizeof(mde__ridge), 0,
    mde__ridge_lay_out, mde__ridge_share, mde__ridge_work, mde__ridge_fit_target,
    "a run has leverage 1; give a larger penalty", NULL, mde__ridge_predict, mde__ridge_gradient, NULL, NULL
};

/* ---- Covariance functions, and priors of what Gaussian processes fit ---- */

/* Covariance of two inputs at squared distance `square` (in length scales), signal variance 1, and g with
   d covariance / d x_k = -g (x_k - x'_k) / length_k^2,
   d covariance / d log length_k = g (x_k - x'_k)^2 / length_k^2. */
static double mde__covariance(mde_kernel kernel, double square, double *g)
{
    double s, e;
    if (kernel == MDE_RBF) return *g = mde__exp64(-0.5 * square);
    if (kernel == MDE_MATERN32) {
        s = sqrt(3.0 * square);
        e = mde__exp64(-s);
        *g = 3.0 * e;
        return (1.0 + s) * e;
    }
    s = sqrt(5.0 * square);
    e = mde__exp64(-s);
    *g = (5.0 / 3.0) * (1.0 + s) * e;
    return (1.0 + s + s * s / 3.0) * e;
}

/* n inputs of d features in length scales exp(theta) [d], as rows z [n, d] and as columns, blocks of
   [d][MDE__INPUT_BLOCK] of which the last may be partly empty; either may be NULL. */
typedef struct mde__scaled { int n, d; double *z, *columns; } mde__scaled;

static size_t mde__column_count(int n, int d)
{
    return ((size_t)n + MDE__INPUT_BLOCK - 1) / MDE__INPUT_BLOCK * MDE__INPUT_BLOCK * (size_t)d;
}

static double *mde__take_columns(mde__workspace *b, int n, int d)
{
    return mde__take(b, mde__column_count(n, 1), (size_t)d);
}

/* Feature q of input i in the columns. */
static MDE__INLINE double *mde__column(const mde__scaled *s, int i, int q)
{
    return s->columns + mde__cell(i / MDE__INPUT_BLOCK * s->d + q, MDE__INPUT_BLOCK, i % MDE__INPUT_BLOCK);
}

static void mde__scale_inputs(const mde__scaled *s, const double *x, const double *theta)
{
    for (int q = 0; q < s->d; q++) {
        double inverse = mde__exp64(-theta[q]);
        for (int i = 0; i < s->n; i++) {
            double scaled = x[mde__cell(i, s->d, q)] * inverse;
            if (s->z) s->z[mde__cell(i, s->d, q)] = scaled;
            if (s->columns) *mde__column(s, i, q) = scaled;
        }
    }
}

/* Covariances k [a.n, b.n] of inputs a with inputs b; and their g, without the signal, unless NULL. triangle = 1: row i
   only up to column i. */
static void mde__covariances(int simd, mde_kernel kernel, double signal, const mde__scaled *a, const mde__scaled *b,
                             int triangle, double *k, double *g)
{
    for (int from = 0; from < b->n; from += MDE__INPUT_BLOCK) {
        int width = b->n - from < MDE__INPUT_BLOCK ? b->n - from : MDE__INPUT_BLOCK;
        for (int i = triangle ? from : 0; i < a->n; i++) {
            size_t at = mde__cell(i, b->n, from);
            mde__kernel_covariance(simd)(kernel, signal, triangle && i - from < width ? i - from + 1 : width, a->d,
                                         a->z + mde__cell(i, a->d, 0), mde__column(b, from, 0), k + at,
                                         g ? g + at : NULL);
        }
    }
}

/* Adds sum_i>j s_ij (z_iq - z_jq)^2 to gradient[q]: sum_i z_iq^2 (s 1 + s' 1)_i - 2 z_iq (s z)_iq, one matrix product
   with s [n, n], of which what lies below the diagonal is read (some of the rest is overwritten). sz [n, d]; sums,
   ones [n]; work of a product. */
static void mde__length_gradient(int simd, const mde__scaled *in, double *s, double *sz,
                                 double *sums, double *ones, double *work, double *gradient)
{
    int n = in->n, d = in->d;
    for (int i = 0; i < n; i++) {
        double *row = s + mde__cell(i, n, 0);
        for (int q = i; q < n && q < i + MDE__DENSE_ROWS; q++) row[q] = 0;
        ones[i] = 1;
        sums[i] = mde__kernel_dense_dot(simd)(i, row, ones);
        mde__kernel_dense_axpy(simd)(i, 1.0, row, sums);
    }
    mde__dense_product(simd, MDE__LEFT_LOWER, 1.0, mde__dense(s, n, n), mde__dense(in->z, n, d), sz, (size_t)d,
                       work);
    for (int i = 0; i < n; i++) {
        const double *at = in->z + mde__cell(i, d, 0), *other = sz + mde__cell(i, d, 0);
        for (int q = 0; q < d; q++) gradient[q] += at[q] * (at[q] * sums[i] - 2.0 * other[q]);
    }
}

/* A mean sum_i alpha_i signal k(x, x_i) of standardised x: scale d mean / d x = -scale sum_i alpha_i signal g_i
   (x - x_i) / length^2 in slope [d], which comes zeroed. x as one row in length scales, runs as columns, theta the log
   lengths. */
static void mde__covariance_slope(mde_kernel kernel, const mde__scaled *x, const mde__scaled *runs, const double *theta,
                                  const double *alpha, double signal, double scale, double *slope)
{
    int d = x->d, n = runs->n;
    for (int i = 0; i < n; i++) {
        double square = 0, g, weight;
        for (int q = 0; q < d; q++) {
            double difference = x->z[q] - *mde__column(runs, i, q);
            square += difference * difference;
        }
        mde__covariance(kernel, square, &g);
        weight = scale * alpha[i] * g * signal;
        for (int q = 0; q < d; q++) slope[q] -= weight * (x->z[q] - *mde__column(runs, i, q));
    }
    for (int q = 0; q < d; q++) slope[q] *= mde__exp64(-theta[q]);
}

/* Weak priors, all normal in the logarithm, so that a handful of runs does not fit noise. Distances between
   standardised inputs grow with sqrt(d), and so does the middle of the length scales (as in Hvarfner et al. 2024).
   Noise is 0.14 of the targets' sd, give or take a factor of 4.5: when narrower, the joint process, which has as many
   such terms as targets, prefers short length scales to noise. Tuned on RegMix. */
#define MDE__LENGTH_MIDDLE(d) (0.5 * mde__log64((double)((d) > 1 ? (d) : 1)) + 1.4)
#define MDE__LENGTH_SPREAD 1.0
#define MDE__SIGNAL_MIDDLE 0.0
#define MDE__SIGNAL_SPREAD 2.0
#define MDE__NOISE_MIDDLE (-4.0)
#define MDE__NOISE_SPREAD 3.0
#define MDE__NOISE_SLOPE_MIDDLE (-6.0)

/* Minus the logarithm of a normal prior without its constant; adds its derivative to *gradient. */
static double mde__prior(double theta, double middle, double spread, double *gradient)
{
    double deviation = (theta - middle) / spread;
    *gradient += deviation / spread;
    return 0.5 * deviation * deviation;
}

/* Start number `restart` of the maximisation: the first in the middle of the prior, the others around it. */
static double mde__prior_draw(mde_random *random, int restart, double middle, double spread)
{
    double normal = mde_random_normal(random);
    return restart == 0 ? middle : middle + 0.7 * spread * normal;
}

#define MDE__RESTARTS 2

/* ---- Gaussian process of one target ---- */

/* y = mu + f + noise, f ~ GP(0, s k(x, x')), K = s k + diag(noise). The constant mu is the generalised least squares
   estimate 1'K^-1 y / 1'K^-1 1, so its uncertainty is part of the prediction's. With alpha = K^-1 (y - mu) the log
   marginal likelihood is
     log p = -n/2 log 2 pi - 1/2 (y - mu)' alpha - 1/2 log det K,
     d log p / d theta = 1/2 tr((alpha alpha' - K^-1) dK / d theta);
   mu is at its optimum and adds nothing (Rasmussen and Williams 2006, sections 2.2 and 5.4). theta: log length scales
   [d], log signal variance s, log noise variance, log slopes of the noise variance along the noise inputs [noises]. */
typedef struct mde__gp {
    mde_kernel kernel;
    int n, d, noises, parameters;
    int normal_noise, restarts;
    uint64_t seed;
    int simd;
    const double *x, *noise_x, *y;      /* [n, d], [n, noises], [n]: the regressor's */
    double *theta;              /* [parameters] */
    double mean, ones, log_likelihood;   /* ones: 1' K^-1 1 */
    double *columns;            /* of inputs in length scales */
    double *alpha;              /* [n] K^-1 (y - mean) */
    double *flat;               /* [n] K^-1 1 */
    double *inverse;            /* [n, n] inverse of the Cholesky factor */
    double *tail;               /* [n] factor of a run's noise variance: above 1 for what looks like an outlier */
    double widening;            /* factor of the noise variance of predictions, for outliers among new runs */
} mde__gp;

/* Above this many runs the starts are tried on a sample of so many, and only the best is carried on with all: a step
   costs the cube of the runs. */
#define MDE__GP_SAMPLE 160
#define MDE__GP_STEPS 5                 /* of the best start with all runs, before their outliers are looked for */
#define MDE__GP_TOLERANCE 1e-5          /* of a log posterior of hundreds: far below what the data can tell apart */

/* Workspace of one fit. */
typedef struct mde__gp_work {
    mde__gp *gp;
    int n;                                  /* runs in use: all, or a sample of them */
    const double *x, *noise_x, *y, *tail;
    double *g, *total, *a, *adjoint, *inverse;      /* [n, n] each */
    double *z, *sz;                         /* [n, d] each */
    double *columns;
    double *work;                           /* of a product */
    double *alpha, *flat, *half, *noise;    /* [n] each */
    double *theta, *lbfgs;
    double *sample;                         /* MDE__GP_SAMPLE (d + noises + 1) */
    int kept[2];                            /* of lbfgs */
    double *at;                             /* theta of what is there: */
    int there;                              /* 0: nothing; 1: the covariances; 2: all that the likelihood takes */
    double mean, ones, log_likelihood;
} mde__gp_work;

static void mde__gp_work_take(mde__workspace *b, int n, int d, int noises, mde__gp_work *w)
{
    size_t rows = (size_t)n, wide = (size_t)d, parameters = (size_t)(d + 2 + noises);
    w->g = mde__take(b, rows, rows);
    w->total = mde__take(b, rows, rows);
    w->a = mde__take(b, rows, rows);
    w->adjoint = mde__take(b, rows, rows);
    w->inverse = mde__take(b, rows, rows);
    w->z = mde__take(b, rows, wide);
    w->sz = mde__take(b, rows, wide);
    w->columns = mde__take_columns(b, n, d);
    w->work = mde__take(b, mde__dense_work(n, n), 1);
    w->alpha = mde__take(b, rows, 1);
    w->flat = mde__take(b, rows, 1);
    w->half = mde__take(b, rows, 1);
    w->noise = mde__take(b, rows, 1);
    w->theta = mde__take(b, parameters, 1);
    w->at = mde__take(b, parameters, 1);
    w->lbfgs = mde__take(b, MDE__LBFGS_WORK(parameters), 1);
    w->sample = mde__take(b, MDE__GP_SAMPLE, (size_t)(d + noises + 1));
}

static mde__scaled mde__scaled_of(int n, int d, double *z, double *columns)
{
    mde__scaled s;
    s.n = n;
    s.d = d;
    s.z = z;
    s.columns = columns;
    return s;
}

/* Noise variances [rows] at noise inputs [rows, noises]. */
static void mde__gp_noise(const mde__gp *gp, const double *theta, int rows, const double *noise_x, double *variance)
{
    const double *noise = theta + gp->d + 1;
    double base = mde__exp64(noise[0]);
    for (int i = 0; i < rows; i++) variance[i] = base;
    for (int q = 0; q < gp->noises; q++) {
        double slope = mde__exp64(noise[1 + q]);
        for (int i = 0; i < rows; i++) variance[i] += slope * noise_x[mde__cell(i, gp->noises, q)];
    }
}

/* Factors total + noise; when that is not positive definite to rounding, with 1e-10 of the diagonal added, then ten
   times that, up to 1e-5. */
static int mde__gp_factor(mde__gp_work *w, double scale)
{
    double extra = 0;
    size_t n = (size_t)w->n, i;
    for (;;) {
        for (i = 0; i < n; i++) {
            memcpy(w->a + i * n, w->total + i * n, (i + 1) * sizeof(double));
            w->a[i * n + i] += w->noise[i] + extra;
        }
        if (mde__cholesky_inverse(w->gp->simd, w->n, w->a, w->inverse, w->work)) return 1;
        extra = extra > 0 ? 10.0 * extra : 1e-10 * scale;
        if (!(extra <= 1.01e-5 * scale)) return 0;
    }
}

/* adjoint, which comes as minus the inverse of the covariance, becomes alpha alpha' - K^-1; then its products with
   dK / d theta, for covariances total and g. */
static void mde__gp_likelihood_gradient(mde__gp_work *w, const double *theta, double *gradient)
{
    const mde__gp *gp = w->gp;
    int simd = gp->simd;
    int n = w->n, at_signal = gp->d, at_noise = gp->d + 1;
    mde__scaled in = mde__scaled_of(n, gp->d, w->z, w->columns);
    double signal = mde__exp64(theta[at_signal]);
    for (int i = 0; i < gp->parameters; i++) gradient[i] = 0;
    for (int i = 0; i < n; i++) {
        double *row = w->adjoint + mde__cell(i, n, 0), own;
        mde__kernel_dense_axpy(simd)(i + 1, w->alpha[i], w->alpha, row);
        own = 0.5 * row[i];
        gradient[at_noise] += own * w->tail[i];
        for (int q = 0; q < gp->noises; q++) {
            gradient[at_noise + 1 + q] += own * w->tail[i] * w->noise_x[mde__cell(i, gp->noises, q)];
        }
        gradient[at_signal] += mde__kernel_dense_dot(simd)(i, row, w->total + mde__cell(i, n, 0)) + own * signal;
        mde__kernel_dense_multiply(simd)(i, signal, row, w->g + mde__cell(i, n, 0), w->a + mde__cell(i, n, 0));
    }
    for (int q = 0; q <= gp->noises; q++) gradient[at_noise + q] *= mde__exp64(theta[at_noise + q]);
    if (gp->d > 0) mde__length_gradient(simd, &in, w->a, w->sz, w->adjoint, w->adjoint + n, w->work, gradient);
}

/* Covariances, without the noise, at theta. */
static void mde__gp_covariances(mde__gp_work *w, const double *theta)
{
    const mde__gp *gp = w->gp;
    mde__scaled in = mde__scaled_of(w->n, gp->d, w->z, w->columns);
    mde__scale_inputs(&in, w->x, theta);
    mde__covariances(gp->simd, gp->kernel, mde__exp64(theta[gp->d]), &in, &in, 1, w->total, w->g);
}

/* The inverse of their factor, noise included; returns 0 when there is none. */
static int mde__gp_invert(mde__gp_work *w, const double *theta)
{
    const mde__gp *gp = w->gp;
    mde__gp_noise(gp, theta, w->n, w->noise_x, w->noise);
    for (int i = 0; i < w->n; i++) w->noise[i] *= w->tail[i];
    return mde__gp_factor(w, mde__exp64(theta[gp->d]) + mde__exp64(theta[gp->d + 1]));
}

/* The factor, and what follows from it; returns 0 when the covariance cannot be factored. */
static int mde__gp_solve(mde__gp_work *w, const double *theta)
{
    const mde__gp *gp = w->gp;
    int n = w->n;
    double value;
    if (!mde__gp_invert(w, theta)) return 0;
    for (int i = 0; i < n; i++) w->alpha[i] = 1;
    mde__factor_solve(gp->simd, n, w->inverse, w->alpha, w->half, w->flat);
    w->ones = 0;
    for (int i = 0; i < n; i++) w->ones += w->flat[i];
    w->mean = mde__inner(n, w->flat, w->y) / w->ones;
    for (int i = 0; i < n; i++) w->work[i] = w->y[i] - w->mean;
    mde__factor_solve(gp->simd, n, w->inverse, w->work, w->half, w->alpha);
    value = -0.5 * n * mde__log64(2.0 * MDE__PI) - 0.5 * mde__inner(n, w->half, w->half);
    for (int i = 0; i < n; i++) value += mde__log64(w->inverse[mde__cell(i, n, i)]);
    w->log_likelihood = value;
    return 1;
}

/* Log marginal likelihood at theta and its gradient (may be NULL); NaN when the covariance cannot be factored. A search
   ends where it looked last, so what is there already is not made again. */
static double mde__gp_likelihood(mde__gp_work *w, const double *theta, double *gradient)
{
    const mde__gp *gp = w->gp;
    size_t size = (size_t)gp->parameters * sizeof *theta;
    if (!w->there || memcmp(w->at, theta, size) != 0) {
        mde__gp_covariances(w, theta);
        memcpy(w->at, theta, size);
        w->there = 1;
    }
    if (w->there == 1 && !mde__gp_solve(w, theta)) return (double)NAN;
    w->there = 2;
    if (gradient) {
        mde__inverse_from_factor(gp->simd, w->n, -1.0, w->inverse, w->adjoint, w->work);
        mde__gp_likelihood_gradient(w, theta, gradient);
    }
    return w->log_likelihood;
}

/* Middle and spread of the normal prior of parameter i. */
static void mde__gp_prior(const mde__gp *gp, int i, double *middle, double *spread)
{
    int at_noise = gp->d + 1;
    if (i < gp->d) {
        *middle = MDE__LENGTH_MIDDLE(gp->d);
        *spread = MDE__LENGTH_SPREAD;
    } else if (i < at_noise) {
        *middle = MDE__SIGNAL_MIDDLE;
        *spread = MDE__SIGNAL_SPREAD;
    } else {
        *middle = i == at_noise ? MDE__NOISE_MIDDLE : MDE__NOISE_SLOPE_MIDDLE;
        *spread = MDE__NOISE_SPREAD;
    }
}

/* Minus the log posterior of theta. */
static double mde__gp_loss(const double *theta, double *gradient, void *user)
{
    mde__gp_work *w = (mde__gp_work *)user;
    double value = -mde__gp_likelihood(w, theta, gradient), middle, spread;
    for (int i = 0; i < w->gp->parameters; i++) {
        gradient[i] = -gradient[i];
        mde__gp_prior(w->gp, i, &middle, &spread);
        value += mde__prior(theta[i], middle, spread, gradient + i);
    }
    return value;
}

/* All runs, or a random sample of them. */
static void mde__gp_use(mde__gp_work *w, int count)
{
    const mde__gp *gp = w->gp;
    mde_random random = mde_random_start(gp->seed, 0x73616d70);
    int left = gp->n, taken = 0;
    double *x = w->sample, *noise_x = x + (size_t)count * (size_t)gp->d, *y = noise_x + count * gp->noises;
    w->n = count;
    w->there = 0;
    w->x = gp->x;
    w->noise_x = gp->noise_x;
    w->y = gp->y;
    w->tail = gp->tail;
    if (count == gp->n) return;
    for (int i = 0; i < gp->n; i++, left--) {
        if (mde_random_uniform(&random) * left >= count - taken) continue;
        mde__copy_row(gp->d, gp->x, i, x, taken);
        mde__copy_row(gp->noises, gp->noise_x, i, noise_x, taken);
        y[taken++] = gp->y[i];
    }
    w->x = x;
    w->noise_x = noise_x;
    w->y = y;
}

/* The diagonal of P = K^-1 - K^-1 1 1' K^-1 / 1' K^-1 1: the left-out residual of run i is (P y)_i / P_ii and its
   variance 1 / P_ii, with the mean estimated without the run, too (Rasmussen and Williams 2006, section 5.4.2). */
static void mde__gp_precisions(int n, const double *inverse, const double *flat, double ones, double *precision)
{
    for (int i = 0; i < n; i++) {
        const double *row = inverse + mde__cell(i, n, 0);
        precision[i] = -flat[i] * flat[i] / ones;
        for (int l = 0; l <= i; l++) precision[l] += row[l] * row[l];
    }
}

/* Tuned on RegMix, where the true weights of some runs are not what the table says. */
#define MDE__OUTLIER_ROUNDS 3
#define MDE__OUTLIER_STEPS 4        /* of the search for theta, a round */
#define MDE__OUTLIER_SHARE 0.2      /* prior probability of a run to be one */
#define MDE__OUTLIER_SCALE 30.0     /* of the noise variance of an outlier */

/* Heavy tails as a mixture of two normal noises, one wide. From what the others say about it, each run has some
   probability to be an outlier; its noise becomes that of the mean precision, and theta is sought on from there.
   Returns 0 when a covariance cannot be factored. */
static int mde__gp_outliers(mde__gp_work *w)
{
    mde__gp *gp = w->gp;
    for (int round = 0; round < MDE__OUTLIER_ROUNDS; round++) {
        double share = 0, low = 0, high = 10, value;
        if (!(fabs(mde__gp_likelihood(w, gp->theta, NULL)) < (double)INFINITY)) return 0;
        mde__gp_precisions(gp->n, w->inverse, w->flat, w->ones, w->half);
        for (int i = 0; i < gp->n; i++) {
            double residual = w->alpha[i] / w->half[i], noise = w->noise[i] / gp->tail[i];
            double variance = 1.0 / w->half[i] - w->noise[i], inlier, outlier, odds;
            if (variance < 0) variance = 0;
            inlier = variance + noise;
            outlier = variance + MDE__OUTLIER_SCALE * noise;
            odds = 0.5 * residual * residual * (1.0 / inlier - 1.0 / outlier);
            odds = sqrt(inlier / outlier) * mde__exp64(odds < 50 ? odds : 50) * MDE__OUTLIER_SHARE /
                   (1.0 - MDE__OUTLIER_SHARE);
            odds /= 1.0 + odds;
            share += odds / gp->n;
            gp->tail[i] = 1.0 / (1.0 - odds + odds / MDE__OUTLIER_SCALE);
        }
        w->there = 1;
        value = mde__lbfgs(mde__gp_loss, w, gp->parameters, gp->theta, w->lbfgs, w->kept, MDE__OUTLIER_STEPS,
                           MDE__GP_TOLERANCE);
        if (!(fabs(value) < (double)INFINITY)) return 0;
        /* as far out as 90 % of the mixture lie, in units of where 90 % of a normal distribution do */
        for (int i = 0; i < 60; i++) {
            double middle = 0.5 * (low + high);
            double beyond = (1.0 - share) * mde__normal_below(-middle) +
                            share * mde__normal_below(-middle / sqrt(MDE__OUTLIER_SCALE));
            if (beyond > 0.05) low = middle;
            else high = middle;
        }
        gp->widening = low / MDE__LEVEL_90 * (low / MDE__LEVEL_90);
    }
    return 1;
}

/* What is known before the fit. */
static void mde__gp_describe(mde__gp *gp, const mde_regressor *r, int target, const mde_fit_desc *desc)
{
    gp->simd = r->context->simd;
    gp->kernel = desc->kernel;
    gp->n = r->n;
    gp->d = r->used;
    gp->noises = r->noises;
    gp->parameters = r->used + 2 + r->noises;
    gp->x = r->x;
    gp->noise_x = r->noise_x;
    gp->y = mde__target(r, target);
    gp->seed = desc->seed;
    gp->restarts = desc->restarts > 0 ? desc->restarts : MDE__RESTARTS;
    gp->normal_noise = desc->normal_noise;
    gp->widening = 1;
}

static void mde__gp_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    size_t n = (size_t)r->n;
    for (int j = 0; j < r->m; j++) {
        mde__gp *gp = (mde__gp *)r->state + j;
        mde__gp_describe(gp, r, j, desc);
        if (!(r->target_sd[j] > 0)) continue;
        gp->theta = mde__take(memory, (size_t)gp->parameters, 1);
        gp->columns = mde__take_columns(memory, gp->n, gp->d);
        gp->alpha = mde__take(memory, n, 1);
        gp->flat = mde__take(memory, n, 1);
        gp->inverse = mde__take(memory, n, n);
        gp->tail = mde__take(memory, n, 1);
        for (int i = 0; gp->tail && i < r->n; i++) gp->tail[i] = 1;
    }
}

static size_t mde__gp_work_size(const mde_regressor *r)
{
    mde__workspace count = { NULL, 0 };
    mde__gp_work w;
    mde__gp_work_take(&count, r->n, r->used, r->noises, &w);
    return count.used;
}

/* Predictions of runs without them, given the diagonal of the covariance's inverse. Runs of equal inputs share a value
   of the function, of which the others know the mean mu and the variance v; so the block of the inverse is that of
   v 1 1' + diag(noise), v comes from any of its diagonal elements, and y - mu = noise alpha + v sum(alpha). */
static void mde__gp_leave_out(mde_regressor *r, int target, const double *noise, const double *precision)
{
    const mde__gp *gp = (const mde__gp *)r->state + target;
    int l;
    for (int i = 0; i < gp->n; i++) {
        double residual = gp->alpha[i] / precision[i];
        if (r->next[i] != i) {
            double own = noise[i] - noise[i] * noise[i] * precision[i], certainty = 0, alpha = 0;
            l = i;
            do {
                certainty += 1.0 / noise[l];
                alpha += gp->alpha[l];
                l = r->next[l];
            } while (l != i);
            residual = noise[i] * gp->alpha[i] + own / (1.0 - own * certainty) * alpha;
        }
        mde__leave_out(r, target, i, gp->y[i] - residual);
    }
}

/* Finds theta, outliers and the mean. */
static int mde__gp_search(mde__gp *gp, mde__gp_work *w)
{
    mde_random random = mde_random_start(gp->seed, 0x6770);
    double best = (double)INFINITY, middle, spread;
    int p = gp->parameters, sampled = gp->n > MDE__GP_SAMPLE;
    w->gp = gp;
    mde__gp_use(w, sampled ? MDE__GP_SAMPLE : gp->n);
    for (int restart = 0; restart < gp->restarts; restart++) {
        double value;
        for (int i = 0; i < p; i++) {
            mde__gp_prior(gp, i, &middle, &spread);
            if (i == gp->d) spread *= 0.5;      /* of the signal, which the targets' scale tells well */
            w->theta[i] = mde__prior_draw(&random, restart, middle, spread);
        }
        w->kept[0] = 0;
        value = mde__lbfgs(mde__gp_loss, w, p, w->theta, w->lbfgs, w->kept, 100, MDE__GP_TOLERANCE);
        if (value < best) {
            best = value;
            mde__copy(p, w->theta, gp->theta);
        }
    }
    if (!(best < (double)INFINITY)) return 0;
    if (sampled) {
        mde__gp_use(w, gp->n);
        /* the search for outliers goes on from here */
        best = mde__lbfgs(mde__gp_loss, w, p, gp->theta, w->lbfgs, w->kept, gp->normal_noise ? 60 : MDE__GP_STEPS,
                          MDE__GP_TOLERANCE);
        if (!(fabs(best) < (double)INFINITY)) return 0;
    }
    if (!gp->normal_noise && !mde__gp_outliers(w)) return 0;
    if (!(fabs(mde__gp_likelihood(w, gp->theta, NULL)) < (double)INFINITY)) return 0;
    gp->mean = w->mean;
    return 1;
}

/* The search, and what predictions need. */
static int mde__gp_fit(mde_regressor *r, int target, double *work)
{
    mde__gp *gp = (mde__gp *)r->state + target;
    mde__workspace memory = { work, 0 };
    mde__gp_work w;
    mde__scaled in = mde__scaled_of(gp->n, gp->d, NULL, gp->columns);
    mde__gp_work_take(&memory, gp->n, gp->d, gp->noises, &w);
    if (!mde__gp_search(gp, &w)) return 0;
    gp->ones = w.ones;
    gp->log_likelihood = w.log_likelihood;
    mde__copy(gp->n, w.alpha, gp->alpha);
    mde__copy(gp->n, w.flat, gp->flat);
    mde__scale_inputs(&in, gp->x, gp->theta);
    memcpy(gp->inverse, w.inverse, (size_t)gp->n * (size_t)gp->n * sizeof(double));
    mde__gp_precisions(gp->n, gp->inverse, gp->flat, gp->ones, w.half);
    mde__gp_leave_out(r, target, w.noise, w.half);
    return 1;
}

static size_t mde__gp_predict_work(const mde_regressor *r, int rows)
{
    return (size_t)rows * ((size_t)r->used + 2 * (size_t)r->n + 1) + mde__dense_work(rows, r->n);
}

static void mde__gp_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    int simd = r->context->simd;
    int rows = in->rows, n = r->n, d = r->used;
    mde__workspace memory = { work, 0 };
    double *z, *total, *half, *noise, *pack;
    z = mde__take(&memory, (size_t)rows, (size_t)d);
    total = mde__take(&memory, (size_t)rows, (size_t)n);
    half = mde__take(&memory, (size_t)rows, (size_t)n);
    noise = mde__take(&memory, (size_t)rows, 1);
    pack = mde__take(&memory, mde__dense_work(rows, n), 1);
    for (int j = 0; j < r->m; j++) {
        const mde__gp *gp = (const mde__gp *)r->state + j;
        mde__scaled at = mde__scaled_of(rows, d, z, NULL), runs = mde__scaled_of(n, d, NULL, gp->columns);
        if (!gp->theta) continue;
        mde__scale_inputs(&at, in->x, gp->theta);
        mde__covariances(simd, gp->kernel, mde__exp64(gp->theta[d]), &at, &runs, 0, total, NULL);
        for (int i = 0; i < rows; i++) {
            mean[mde__cell(i, r->m, j)] = r->target_mean[j] + r->target_sd[j] *
                (gp->mean + mde__kernel_dense_dot(simd)(n, total + mde__cell(i, n, 0), gp->alpha));
        }
        if (!sd) continue;
        /* half [rows, n] = total L^-T */
        mde__dense_product(simd, MDE__RIGHT_UPPER, 1.0, mde__dense(total, rows, n),
                           mde__transposed(mde__dense(gp->inverse, n, n)), half, (size_t)n, pack);
        mde__gp_noise(gp, gp->theta, rows, in->noise_x, noise);
        for (int i = 0; i < rows; i++) {
            const double *row = half + mde__cell(i, n, 0);
            double uncovered = 1.0 - mde__kernel_dense_dot(simd)(n, total + mde__cell(i, n, 0), gp->flat);
            double variance = mde__exp64(gp->theta[d]) + uncovered * uncovered / gp->ones -
                              mde__kernel_dense_dot(simd)(n, row, row);
            sd[mde__cell(i, r->m, j)] = r->target_sd[j] *
                sqrt((variance > 0 ? variance : 0) + gp->widening * noise[i]);
        }
    }
}

static void mde__gp_gradient(const mde_regressor *r, int target, const double *x, double *slope, double *work)
{
    const mde__gp *gp = (const mde__gp *)r->state + target;
    mde__scaled at = mde__scaled_of(1, gp->d, work, NULL);
    mde__scaled runs = mde__scaled_of(gp->n, gp->d, NULL, gp->columns);
    mde__scale_inputs(&at, x, gp->theta);
    mde__covariance_slope(gp->kernel, &at, &runs, gp->theta, gp->alpha, mde__exp64(gp->theta[gp->d]),
                          r->target_sd[target], slope);
}

static double mde__gp_log_likelihood(const mde_regressor *r, int target)
{
    return ((const mde__gp *)r->state + target)->log_likelihood;
}

static double mde__gp_length_scale(const mde_regressor *r, int target, int index)
{
    return mde__exp64(((const mde__gp *)r->state + target)->theta[index]);
}

static const mde__regressor_kind mde__gp_kind = {
    "GP", MDE_FEATURE_CHOSEN | MDE_FEATURE_SCARCE, MDE_FEATURE_OWN, 0, 1, 0, 0, sizeof(mde__gp),
    mde__gp_lay_out, NULL, mde__gp_work_size, mde__gp_fit, "the covariance is not positive definite",
    mde__gp_predict_work, mde__gp_predict, mde__gp_gradient, mde__gp_log_likelihood, mde__gp_length_scale
};

/* ---- Gaussian process of all targets ---- */

/* Coregionalisation (Bonilla et al. 2007), with a process for what a target does not share (Teh et al. 2005): target j
   is y_j = mu_j + sum_r F_jr g_r + h_j + noise. The `rank` common processes g_r have unit variance; h_j has covariance,
   noise and outliers as a process of that target alone; each process has its own length scales. mu_j is that of the
   target's process alone, and taken as known.

   With C_j the covariance of h_j and the noise, C = blockdiag(C_j), K = blockdiag(K_r) that of the common processes and
   W = F (x) I, all targets one after the other have the covariance C + W K W'. No factor of it is larger than
   N = rank n: with K = L L', blocks A_rs = sum_j F_jr F_js C_j^-1 of A = W' C^-1 W, y less the means, and
     I + L' A L = V^-1 V^-T,  Z = V L',  P = Z' Z = (K^-1 + A)^-1 (that of the g_r, given the targets),
     u = W' C^-1 y,  v = P u (their mean),  alpha_j = C_j^-1 (y_j - sum_r F_jr v_r),  b = W' alpha = K^-1 v:
     log p = -nm/2 log 2 pi - 1/2 sum_j log det C_j + log det V - 1/2 (y' C^-1 y - u' P u).
   Its derivatives, 1/2 alpha' dC alpha - 1/2 tr C^-1 dC of all, are
     dK_r     1/2 (b_r b_r' - H_rr)              with H = A - A P A = A - Y' Y and Y = V L' A
     dC_j     1/2 (alpha_j alpha_j' - G_j)       with G_j = C_j^-1 - C_j^-1 P_j C_j^-1 and P_j = sum_rs F_jr F_js P_rs
     dF_jr    alpha_j . v_r - sum_s F_js tr C_j^-1 P_rs. */
typedef struct mde__joint {
    int simd;
    mde_kernel kernel;
    int n, d, m, rank, restarts, parameters;
    uint64_t seed;
    int *task;                  /* [targets of the regressor] number among these m; -1: constant */
    mde__gp *own;               /* [m] of h_j; theta and alpha of each are parts of those here */
    double *theta;              /* of the own ones [m, d + 2], log lengths of the common ones [rank, d], F [m, rank] */
    double log_likelihood;
    double *alpha, *tail;       /* [m, n] each */
    double *own_columns, *columns;      /* [m], [rank] inputs in length scales */
    double *precision;          /* [m, n, n] C_j^-1 */
    double *common;             /* [rank, n, n] K_r^-1 */
    double *g;                  /* [rank, n, n] of their covariances */
    double *factor, *a, *y, *v, *root, *p;      /* [N, N] each: L, A, Y, V, Z, P */
    double *u, *mean, *beta;    /* [N] each: u, v, b */
    double *targets;            /* [2 m + 3, m] workspace: correlations, their eigenvectors and -values */
    double *sample;             /* inputs, targets, tails of MDE__GP_SAMPLE runs */
    double *alone;              /* [m, d + 2] theta of the targets' processes alone */
    double *trial, *lbfgs, *work;
    mde__gp_work one;           /* of a single process */
} mde__joint;

/* Added to the common processes' variances, which runs close by would make singular. */
#define MDE__NUGGET 1e-8

static void mde__joint_take(mde__workspace *memory, mde__joint *s)
{
    size_t n = (size_t)s->n, m = (size_t)s->m, rank = (size_t)s->rank, all = rank * n, p = (size_t)s->parameters;
    s->own = (mde__gp *)mde__take(memory, m, sizeof(mde__gp) / sizeof(double) + 1);
    s->theta = mde__take(memory, p, 1);
    s->alpha = mde__take(memory, m, n);
    s->tail = mde__take(memory, m, n);
    s->own_columns = mde__take_columns(memory, s->n, s->m * s->d);
    s->columns = mde__take_columns(memory, s->n, s->rank * s->d);
    s->precision = mde__take(memory, m * n, n);
    s->common = mde__take(memory, all, n);
    s->g = mde__take(memory, all, n);
    s->factor = mde__take(memory, all, all);
    s->a = mde__take(memory, all, all);
    s->y = mde__take(memory, all, all);
    s->v = mde__take(memory, all, all);
    s->root = mde__take(memory, all, all);
    s->p = mde__take(memory, all, all);
    s->u = mde__take(memory, all, 1);
    s->mean = mde__take(memory, all, 1);
    s->beta = mde__take(memory, all, 1);
    s->targets = mde__take(memory, 2 * m + 3, m);
    s->sample = mde__take(memory, MDE__GP_SAMPLE, (size_t)s->d + 2 * m);
    s->alone = mde__take(memory, m, (size_t)s->d + 2);
    s->trial = mde__take(memory, p, 1);
    s->lbfgs = mde__take(memory, MDE__LBFGS_WORK(p), 1);
    s->work = mde__take(memory, mde__dense_work(s->rank * s->n, s->rank * s->n), 1);
    mde__gp_work_take(memory, s->n, s->d, 0, &s->one);
}

/* Works on all runs, or on a sample of so many, evenly spaced. */
static void mde__joint_use(mde_regressor *r, int count)
{
    mde__joint *s = (mde__joint *)r->state;
    int d = s->d, m = s->m, whole = count == r->n;
    double *x = s->sample, *y = x + mde__cell(count, d, 0), *tail = y + mde__cell(count, m, 0);
    s->n = count;
    for (int i = 0; i < count && !whole; i++) {
        int row = (int)((int64_t)i * r->n / count);
        mde__copy_row(d, r->x, row, x, i);
        for (int j = 0; j < m; j++) {
            y[mde__cell(j, count, i)] = s->own[j].y[row];
            tail[mde__cell(j, count, i)] = s->own[j].tail[row];
        }
    }
    for (int target = 0; target < r->m; target++) {
        int j = s->task[target];
        mde__gp *gp;
        if (j < 0) continue;
        gp = s->own + j;
        gp->n = count;
        gp->x = whole ? r->x : x;
        gp->y = whole ? mde__target(r, target) : y + mde__cell(j, count, 0);
        gp->tail = (whole ? s->tail : tail) + mde__cell(j, count, 0);
        gp->theta = s->theta + j * (d + 2);
        gp->alpha = s->alpha + mde__cell(j, count, 0);
        gp->columns = s->own_columns + (size_t)j * mde__column_count(count, d);
    }
}

/* Inputs in the length scales of common process r, whose rows go to z. */
static mde__scaled mde__joint_inputs(const mde__joint *s, int r, double *z)
{
    return mde__scaled_of(s->n, s->d, z, s->columns + (size_t)r * mde__column_count(s->n, s->d));
}

/* Of target j with its F f [rank]: C_j^-1, alpha = C_j^-1 y_j, and what they add to A and u. Returns its part of log p,
   NaN without a factor. */
static double mde__joint_add_own(mde__joint *s, int j, const double *theta, const double *f)
{
    mde__gp *gp = s->own + j;
    mde__gp_work *w = &s->one;
    int n = s->n;
    double *precision = s->precision + mde__cell(j, n * n, 0), value = -0.5 * n * mde__log64(2.0 * MDE__PI);
    w->gp = gp;
    mde__gp_use(w, n);
    mde__gp_covariances(w, theta);
    if (!mde__gp_invert(w, theta)) return (double)NAN;
    mde__inverse_from_factor(s->simd, n, 1.0, w->inverse, precision, s->work);
    mde__mirror(n, precision);
    for (int i = 0; i < n; i++) w->alpha[i] = gp->y[i] - gp->mean;
    mde__factor_solve(s->simd, n, w->inverse, w->alpha, w->half, gp->alpha);
    value -= 0.5 * mde__inner(n, w->half, w->half);
    for (int i = 0; i < n; i++) value += mde__log64(w->inverse[mde__cell(i, n, i)]);
    for (int r = 0; r < s->rank; r++) {
        mde__kernel_dense_axpy(s->simd)(n, f[r], gp->alpha, s->u + r * n);
        for (int q = 0; q < s->rank; q++) {
            for (int i = 0; i < n; i++) {
                mde__kernel_dense_axpy(s->simd)(n, f[r] * f[q], precision + mde__cell(i, n, 0),
                                                s->a + mde__cell(r * n + i, s->rank * n, q * n));
            }
        }
    }
    return value;
}

/* K_r^-1, L and g of common process r; returns 0 without a factor. */
static int mde__joint_factor(mde__joint *s, int r, const double *lengths)
{
    mde__gp_work *w = &s->one;
    mde__scaled in = mde__joint_inputs(s, r, w->z);
    int n = s->n;
    size_t at = mde__cell(r, n * n, 0);
    mde__scale_inputs(&in, s->own[0].x, lengths);
    mde__covariances(s->simd, s->kernel, 1.0, &in, &in, 1, w->total, s->g + at);
    mde__mirror(n, w->total);
    for (int i = 0; i < n; i++) w->total[mde__cell(i, n, i)] += MDE__NUGGET;
    memcpy(w->a, w->total, (size_t)n * (size_t)n * sizeof(double));
    if (!mde__cholesky_inverse(s->simd, n, w->a, w->inverse, s->work)) return 0;
    mde__inverse_from_factor(s->simd, n, 1.0, w->inverse, s->common + at, s->work);
    mde__mirror(n, s->common + at);
    /* L = K L^-T */
    mde__dense_product(s->simd, MDE__RIGHT_UPPER, 1.0, mde__dense(w->total, n, n),
                       mde__transposed(mde__dense(w->inverse, n, n)), s->factor + mde__cell(r * n, s->rank * n, r * n),
                       (size_t)s->rank * (size_t)n, s->work);
    return 1;
}

/* L' A, where Y will be, then V and Z; returns log det V, NaN without a factor. */
static double mde__joint_condition(mde__joint *s)
{
    int all = s->rank * s->n;
    mde__matrix l = mde__dense(s->factor, all, all);
    double value = 0;
    mde__dense_product(s->simd, MDE__LEFT_UPPER, 1.0, mde__transposed(l), mde__dense(s->a, all, all), s->y, (size_t)all,
                       s->work);
    mde__dense_product(s->simd, MDE__RIGHT_LOWER, 1.0, mde__dense(s->y, all, all), l, s->p, (size_t)all, s->work);
    for (int i = 0; i < all; i++) s->p[mde__cell(i, all, i)] += 1;
    memset(s->v, 0, (size_t)all * (size_t)all * sizeof(double));
    if (!mde__cholesky_inverse(s->simd, all, s->p, s->v, s->work)) return (double)NAN;
    mde__dense_product(s->simd, MDE__LEFT_LOWER | MDE__RIGHT_UPPER, 1.0, mde__dense(s->v, all, all),
                       mde__transposed(l), s->root, (size_t)all, s->work);
    for (int i = 0; i < all; i++) value += mde__log64(s->v[mde__cell(i, all, i)]);
    return value;
}

/* v; alpha less what the common processes explain; b. Returns u' P u. */
static double mde__joint_share(mde__joint *s, const double *factor)
{
    int n = s->n, all = s->rank * n;
    double value = 0;
    for (int i = 0; i < all; i++) s->mean[i] = s->beta[i] = 0;
    for (int i = 0; i < all; i++) {
        const double *row = s->root + mde__cell(i, all, 0);
        double along = mde__kernel_dense_dot(s->simd)(all, row, s->u);
        value += along * along;
        mde__kernel_dense_axpy(s->simd)(all, along, row, s->mean);
    }
    for (int j = 0; j < s->m; j++) {
        const double *precision = s->precision + mde__cell(j, n * n, 0), *f = factor + j * s->rank;
        double *alpha = s->own[j].alpha, *shared = s->one.half;
        for (int i = 0; i < n; i++) shared[i] = 0;
        for (int r = 0; r < s->rank; r++) mde__kernel_dense_axpy(s->simd)(n, f[r], s->mean + r * n, shared);
        for (int i = 0; i < n; i++, precision += n) alpha[i] -= mde__kernel_dense_dot(s->simd)(n, precision, shared);
        for (int r = 0; r < s->rank; r++) mde__kernel_dense_axpy(s->simd)(n, f[r], alpha, s->beta + r * n);
    }
    return value;
}

/* Y, and the derivatives by the length scales of the common processes. */
static void mde__joint_common_gradient(mde__joint *s, const double *lengths, double *gradient)
{
    int n = s->n, all = s->rank * n;
    mde__gp_work *w = &s->one;
    mde__dense_product(s->simd, MDE__LEFT_LOWER, 1.0, mde__dense(s->v, all, all), mde__dense(s->y, all, all), s->p,
                       (size_t)all, s->work);
    memcpy(s->y, s->p, (size_t)all * (size_t)all * sizeof(double));
    for (int r = 0; r < s->rank; r++) {
        mde__scaled in = mde__joint_inputs(s, r, w->z);
        mde__matrix y = mde__strided(s->y + r * n, all, n, (size_t)all);
        const double *g = s->g + mde__cell(r, n * n, 0);
        mde__dense_product(s->simd, MDE__OUT_LOWER, 1.0, mde__transposed(y), y, w->adjoint, (size_t)n, s->work);
        for (int i = 0; i < n; i++) {
            double *row = w->adjoint + mde__cell(i, n, 0);
            const double *a = s->a + mde__cell(r * n + i, all, r * n);
            for (int q = 0; q < i; q++) row[q] += s->beta[r * n + i] * s->beta[r * n + q] - a[q];
            mde__kernel_dense_multiply(s->simd)(i, 1.0, row, g + mde__cell(i, n, 0), row);
        }
        mde__scale_inputs(&in, s->own[0].x, lengths + r * s->d);
        if (s->d == 0) continue;
        mde__length_gradient(s->simd, &in, w->adjoint, w->sz, w->half, w->flat, s->work, gradient + r * s->d);
    }
}

/* The derivatives by what target j has alone, and by its F. P is there. */
static void mde__joint_own_gradient(mde__joint *s, int j, const double *theta, const double *f, double *gradient,
                                       double *slope)
{
    int n = s->n, rank = s->rank;
    const double *precision = s->precision + mde__cell(j, n * n, 0);
    mde__gp_work *w = &s->one;
    w->gp = s->own + j;
    mde__gp_use(w, n);
    mde__gp_covariances(w, theta);
    mde__copy(n, s->own[j].alpha, w->alpha);
    memset(w->inverse, 0, (size_t)n * (size_t)n * sizeof(double));
    for (int r = 0; r < rank; r++) {
        slope[r] = mde__inner(n, w->alpha, s->mean + r * n);
        for (int q = 0; q < rank; q++) {
            for (int i = 0; i < n; i++) {
                const double *row = s->p + mde__cell(r * n + i, rank * n, q * n);
                slope[r] -= f[q] * mde__kernel_dense_dot(s->simd)(n, precision + mde__cell(i, n, 0), row);
                mde__kernel_dense_axpy(s->simd)(n, f[r] * f[q], row, w->inverse + mde__cell(i, n, 0));
            }
        }
    }
    mde__dense_product(s->simd, 0, 1.0, mde__dense(precision, n, n), mde__dense(w->inverse, n, n), w->a, (size_t)n,
                       s->work);
    mde__dense_product(s->simd, MDE__OUT_LOWER, 1.0, mde__dense(w->a, n, n), mde__dense(precision, n, n),
                       w->adjoint, (size_t)n, s->work);
    for (int i = 0; i < n; i++) {
        mde__kernel_dense_axpy(s->simd)(i + 1, -1.0, precision + mde__cell(i, n, 0), w->adjoint + mde__cell(i, n, 0));
    }
    mde__gp_likelihood_gradient(w, theta, gradient);
}

/* Log marginal likelihood at theta and its gradient (may be NULL), and what predictions need; NaN when a covariance
   cannot be factored. */
static double mde__joint_likelihood(mde__joint *s, const double *theta, double *gradient)
{
    int own = s->d + 2, rank = s->rank, at_lengths = s->m * own, at_factor = at_lengths + rank * s->d;
    int all = rank * s->n;
    const double *lengths = theta + at_lengths, *factor = theta + at_factor;
    double value = 0;
    memset(s->a, 0, (size_t)all * (size_t)all * sizeof(double));
    memset(s->factor, 0, (size_t)all * (size_t)all * sizeof(double));
    for (int i = 0; i < all; i++) s->u[i] = 0;
    for (int j = 0; j < s->m; j++) value += mde__joint_add_own(s, j, theta + j * own, factor + j * rank);
    if (!(value == value)) return value;
    for (int r = 0; r < rank; r++) if (!mde__joint_factor(s, r, lengths + r * s->d)) return (double)NAN;
    value += mde__joint_condition(s);
    if (!(value == value)) return value;
    value += 0.5 * mde__joint_share(s, factor);
    s->log_likelihood = value;
    if (!gradient) return value;
    for (int i = 0; i < s->parameters; i++) gradient[i] = 0;
    mde__joint_common_gradient(s, lengths, gradient + at_lengths);
    mde__dense_product(s->simd, MDE__OUT_LOWER, 1.0, mde__transposed(mde__dense(s->root, all, all)),
                       mde__dense(s->root, all, all), s->p, (size_t)all, s->work);
    mde__mirror(all, s->p);
    for (int j = 0; j < s->m; j++) {
        mde__joint_own_gradient(s, j, theta + j * own, factor + j * rank, gradient + j * own,
                                   gradient + at_factor + j * rank);
    }
    return value;
}

#define MDE__FACTOR_SCALE 0.2        /* 0.15 to 0.35 do alike on RegMix and the runs of bench/study */
#define MDE__COREGION_STEPS 100     /* of a search */

/* Minus the log posterior of theta. Own processes and length scales have the priors of processes alone; a column of F
   has Cauchy's in all its dimensions: few runs keep a common process out, and once it is in, its elements are free. */
static double mde__joint_loss(const double *theta, double *gradient, void *user)
{
    mde__joint *s = (mde__joint *)user;
    int own = s->d + 2, at_lengths = s->m * own, at_factor = at_lengths + s->rank * s->d;
    double value = -mde__joint_likelihood(s, theta, gradient), middle, spread, square;
    for (int i = 0; i < s->parameters; i++) gradient[i] = -gradient[i];
    for (int i = 0; i < at_factor; i++) {
        mde__gp_prior(s->own, i < at_lengths ? i % own : 0, &middle, &spread);
        value += mde__prior(theta[i], middle, spread, gradient + i);
    }
    for (int r = 0; r < s->rank; r++) {
        square = MDE__FACTOR_SCALE * MDE__FACTOR_SCALE;
        for (int i = at_factor + r; i < s->parameters; i += s->rank) square += theta[i] * theta[i];
        value += 0.5 * (s->m + 1) * mde__log64(square / (MDE__FACTOR_SCALE * MDE__FACTOR_SCALE));
        for (int i = at_factor + r; i < s->parameters; i += s->rank) gradient[i] += (s->m + 1) * theta[i] / square;
    }
    return value;
}

/* F in trial, from the leading eigenvectors of the targets' correlations, so much of each; returns 0 without them. */
static int mde__joint_start_factor(mde__joint *s, double share, double noise, mde_random *random)
{
    int m = s->m;
    double *vectors = s->targets + m * m, *values = vectors + m * m, *factor = s->trial + s->parameters - m * s->rank;
    for (int j = 0; j < m; j++) {
        for (int l = 0; l < m; l++) s->targets[j * m + l] = mde__inner(s->n, s->own[j].y, s->own[l].y) / s->n;
    }
    if (!mde__eigen(m, s->targets, values, vectors, values + m)) return 0;
    for (int r = 0; r < s->rank; r++) {
        int largest = 0;
        double size;
        for (int j = 1; j < m; j++) if (values[j] > values[largest]) largest = j;
        size = share * sqrt(values[largest] > 0 ? values[largest] : 0);
        values[largest] = -1;
        for (int j = 0; j < m; j++) {
            factor[j * s->rank + r] = size * vectors[largest * m + j] + noise * mde_random_normal(random);
        }
    }
    return 1;
}

/* From the processes of single targets, at theta. The first start ties them loosely, the next takes most for common,
   later ones lie around it. Returns the smallest value found, at theta. */
static double mde__joint_search(mde__joint *s)
{
    mde_random random = mde_random_start(s->seed, 0x696d);
    int own = s->d + 2, at_lengths = s->m * own, restart;
    double best = (double)INFINITY;
    mde__copy(at_lengths, s->theta, s->alone);
    for (restart = 0; restart < s->restarts; restart++) {
        double value;
        mde__copy(at_lengths, s->alone, s->trial);
        for (int j = 0; j < s->m && restart > 0; j++) s->trial[j * own + s->d] = -2.0;
        for (int i = 0; i < s->rank * s->d; i++) {
            s->trial[at_lengths + i] = mde__prior_draw(&random, restart > 1, MDE__LENGTH_MIDDLE(s->d),
                                                       MDE__LENGTH_SPREAD);
        }
        if (!mde__joint_start_factor(s, restart == 0 ? 0.5 : 0.9, restart > 1 ? 0.3 : 0.01, &random)) break;
        value = mde__lbfgs(mde__joint_loss, s, s->parameters, s->trial, s->lbfgs, NULL, MDE__COREGION_STEPS,
                           MDE__GP_TOLERANCE);
        if (!(value < best)) continue;
        best = value;
        mde__copy(s->parameters, s->trial, s->theta);
    }
    return best;
}

static void mde__joint_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    mde__joint *s = (mde__joint *)r->state;
    int j, found = 0, rank = desc->rank > 0 ? desc->rank : 2;
    s->m = 0;
    for (j = 0; j < r->m; j++) s->m += r->target_sd[j] > 0;
    s->simd = r->context->simd;
    s->kernel = desc->kernel;
    s->n = r->n;
    s->d = r->used;
    s->rank = rank > s->m ? s->m : rank;
    s->task = (int *)mde__take(memory, (size_t)r->m, 1);
    if (s->m > 2e4 || s->d > 2e4 || (double)rank * s->n > 4e4) {    /* squares of these are ints */
        mde__take(memory, SIZE_MAX, 2);
        return;
    }
    s->parameters = s->m * (s->d + 2) + s->rank * (s->d + s->m);
    s->restarts = desc->restarts > 0 ? desc->restarts : MDE__RESTARTS;
    s->seed = desc->seed;
    mde__joint_take(memory, s);
    if (!memory->start) return;
    for (j = 0; j < r->m; j++) {
        s->task[j] = r->target_sd[j] > 0 ? found : -1;
        if (s->task[j] >= 0) mde__gp_describe(s->own + found++, r, j, desc);
    }
    mde__joint_use(r, r->n);
    for (size_t i = 0; i < (size_t)s->m * (size_t)s->n; i++) s->tail[i] = 1;
}

static double mde__joint_noise(const mde__joint *s, int j, int i)
{
    return mde__exp64(s->own[j].theta[s->d + 1]) * s->own[j].tail[i];
}

/* A run i left out with its repeats, which share the values of the targets' functions [m]. Of these the others know the
   mean mu and the covariance B; with D_l the noise of run l, diagonal, the block of run i in the inverse of the
   covariance of all is Q = D_i^-1 - D_i^-1 M D_i^-1 with M = (B^-1 + sum_l D_l^-1)^-1, and y_i - mu = D_i alpha_i +
   B sum_l alpha_l, or Q^-1 alpha_i without repeats. Returns 0 when something cannot be factored. */
static int mde__joint_leave_out(mde_regressor *r, int run, double *work)
{
    mde__joint *s = (mde__joint *)r->state;
    int n = s->n, m = s->m, all = s->rank * n, l = run;
    double *block = work, *inverse = block + m * m, *sum = inverse + m * m, *half = sum + m, *residual = half + m;
    double *along = residual + m;
    const double *factor = s->theta + s->parameters - m * s->rank;
    for (int j = 0; j < m; j++) {       /* along: the run's columns of Z W' C^-1 */
        const double *row = s->precision + mde__cell(j, n * n, 0) + mde__cell(run, n, 0);
        for (int i = 0; i < all; i++) {
            along[mde__cell(j, all, i)] = 0;
            for (int q = 0; q < s->rank; q++) {
                along[mde__cell(j, all, i)] += factor[j * s->rank + q] * mde__kernel_dense_dot(s->simd)(
                    n, s->root + mde__cell(i, all, q * n), row);
            }
        }
        for (int q = 0; q <= j; q++) {
            block[j * m + q] = (q == j ? row[run] : 0) - mde__kernel_dense_dot(s->simd)(
                all, along + mde__cell(j, all, 0), along + mde__cell(q, all, 0));
        }
        sum[j] = s->own[j].alpha[run];
    }
    if (r->next[run] != run) {
        for (int j = 0; j < m; j++) {
            double noise = mde__joint_noise(s, j, run);
            for (int q = 0; q <= j; q++) block[j * m + q] *= -noise * mde__joint_noise(s, q, run);
            block[j * m + j] += noise;
        }
        if (!mde__cholesky_inverse(s->simd, m, block, inverse, s->work)) return 0;
        mde__inverse_from_factor(s->simd, m, 1.0, inverse, block, s->work);
        do {
            for (int j = 0; j < m; j++) {
                block[j * m + j] -= 1.0 / mde__joint_noise(s, j, l);
                if (l != run) sum[j] += s->own[j].alpha[l];
            }
            l = r->next[l];
        } while (l != run);
    }
    if (!mde__cholesky_inverse(s->simd, m, block, inverse, s->work)) return 0;
    mde__factor_solve(s->simd, m, inverse, sum, half, residual);
    for (int j = 0; j < r->m; j++) {
        int task = s->task[j];
        if (task < 0) continue;
        if (r->next[run] != run) residual[task] += mde__joint_noise(s, task, run) * s->own[task].alpha[run];
        mde__leave_out(r, j, run, s->own[task].y[run] - residual[task]);
    }
    return 1;
}

static size_t mde__joint_work(const mde_regressor *r)
{
    const mde__joint *s = (const mde__joint *)r->state;
    return (size_t)s->m * (2 * (size_t)s->m + 3 + (size_t)s->rank * (size_t)s->n);
}

static int mde__joint_fit(mde_regressor *r, int target, double *work)
{
    mde__joint *s = (mde__joint *)r->state;
    double value;
    (void)target;
    for (int j = 0; j < s->m; j++) if (!mde__gp_search(s->own + j, &s->one)) return 0;
    mde__joint_use(r, r->n < MDE__GP_SAMPLE ? r->n : MDE__GP_SAMPLE);
    value = mde__joint_search(s);
    mde__joint_use(r, r->n);
    if (!(value < (double)INFINITY)) return 0;
    if (!(fabs(mde__joint_likelihood(s, s->theta, NULL)) < (double)INFINITY)) return 0;
    for (int j = 0; j < s->m; j++) {
        mde__scaled in = mde__scaled_of(s->n, s->d, NULL, s->own[j].columns);
        mde__scale_inputs(&in, s->own[j].x, s->own[j].theta);
    }
    for (int i = 0; i < s->n; i++) if (!mde__joint_leave_out(r, i, work)) return 0;
    return 1;
}

static size_t mde__joint_predict_work(const mde_regressor *r, int rows)
{
    const mde__joint *s = (const mde__joint *)r->state;
    size_t n = (size_t)s->n, all = (size_t)s->rank * n;
    return (size_t)rows * ((size_t)s->d + 2 * n + 2 * (size_t)s->rank + 3 * all) + (size_t)s->d +
           mde__dense_work(rows, s->rank * s->n);
}

/* Given the common processes of the runs, the variance of target j's function is
     s_j - c' h + sum_r F_jr^2 (1 - q_r' k_r) with c = C_j^-1 h and q_r = K_r^-1 k_r
   for covariances h, k_r with the runs; that these are not known adds |Z w|^2, w_r = F_jr (q_r - c). */
static void mde__joint_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    const mde__joint *s = (const mde__joint *)r->state;
    int simd = s->simd, rows = in->rows, n = s->n, d = s->d, rank = s->rank, all = rank * n;
    const double *factor = s->theta + s->parameters - s->m * rank, *lengths = factor - rank * d;
    mde__workspace memory = { work, 0 };
    double *z, *k, *c, *shared, *rest, *q, *w, *along, *pack;
    z = mde__take(&memory, (size_t)rows, (size_t)d);
    k = mde__take(&memory, (size_t)rows, (size_t)n);
    c = mde__take(&memory, (size_t)rows, (size_t)n);
    shared = mde__take(&memory, (size_t)rows, (size_t)rank);    /* means of the common processes */
    rest = mde__take(&memory, (size_t)rows, (size_t)rank);      /* 1 - q' k */
    q = mde__take(&memory, (size_t)rows, (size_t)all);
    w = mde__take(&memory, (size_t)rows, (size_t)all);
    along = mde__take(&memory, (size_t)rows, (size_t)all);
    pack = mde__take(&memory, mde__dense_work(rows, all), 1);
    for (int o = 0; o < rank; o++) {
        mde__scaled at = mde__scaled_of(rows, d, z, NULL), runs = mde__joint_inputs(s, o, NULL);
        mde__scale_inputs(&at, in->x, lengths + o * d);
        mde__covariances(simd, s->kernel, 1.0, &at, &runs, 0, k, NULL);
        if (sd) {
            mde__dense_product(simd, 0, 1.0, mde__dense(k, rows, n),
                               mde__dense(s->common + mde__cell(o, n * n, 0), n, n), q + o * n, (size_t)all, pack);
        }
        for (int i = 0; i < rows; i++) {
            const double *row = k + mde__cell(i, n, 0);
            shared[i * rank + o] = mde__kernel_dense_dot(simd)(n, row, s->beta + o * n);
            if (sd) rest[i * rank + o] = 1.0 - mde__kernel_dense_dot(simd)(n, row, q + mde__cell(i, all, o * n));
        }
    }
    for (int j = 0; j < r->m; j++) {
        const mde__gp *gp = s->task[j] >= 0 ? s->own + s->task[j] : NULL;
        const double *f = factor + s->task[j] * rank;
        mde__scaled at = mde__scaled_of(rows, d, z, NULL), runs = mde__scaled_of(n, d, NULL, gp ? gp->columns : NULL);
        if (!gp) continue;
        mde__scale_inputs(&at, in->x, gp->theta);
        mde__covariances(simd, s->kernel, mde__exp64(gp->theta[d]), &at, &runs, 0, k, NULL);
        for (int i = 0; i < rows; i++) {
            double value = gp->mean + mde__kernel_dense_dot(simd)(n, k + mde__cell(i, n, 0), gp->alpha);
            value += mde__inner(rank, f, shared + i * rank);
            mean[mde__cell(i, r->m, j)] = r->target_mean[j] + r->target_sd[j] * value;
        }
        if (!sd) continue;
        mde__dense_product(simd, 0, 1.0, mde__dense(k, rows, n),
                           mde__dense(s->precision + mde__cell(s->task[j], n * n, 0), n, n), c, (size_t)n, pack);
        for (int i = 0; i < rows * rank; i++) {
            for (int l = 0; l < n; l++) {
                w[mde__cell(i, n, l)] = f[i % rank] * (q[mde__cell(i, n, l)] - c[mde__cell(i / rank, n, l)]);
            }
        }
        mde__dense_product(simd, 0, 1.0, mde__dense(w, rows, all), mde__transposed(mde__dense(s->root, all, all)),
                           along, (size_t)all, pack);
        for (int i = 0; i < rows; i++) {
            const double *row = along + mde__cell(i, all, 0);
            double variance = mde__exp64(gp->theta[d]) -
                              mde__kernel_dense_dot(simd)(n, k + mde__cell(i, n, 0), c + mde__cell(i, n, 0));
            for (int o = 0; o < rank; o++) variance += f[o] * f[o] * rest[i * rank + o];
            variance = (variance > 0 ? variance : 0) + mde__kernel_dense_dot(simd)(all, row, row);
            sd[mde__cell(i, r->m, j)] = r->target_sd[j] * sqrt(variance + gp->widening * mde__exp64(gp->theta[d + 1]));
        }
    }
}

static void mde__joint_gradient(const mde_regressor *r, int target, const double *x, double *slope, double *work)
{
    const mde__joint *s = (const mde__joint *)r->state;
    const mde__gp *gp = s->own + s->task[target];
    int d = s->d;
    const double *f = s->theta + s->parameters - (s->m - s->task[target]) * s->rank;
    const double *lengths = s->theta + s->parameters - s->m * s->rank - s->rank * d;
    double *part = work + d;
    mde__scaled at = mde__scaled_of(1, d, work, NULL), runs = mde__scaled_of(s->n, d, NULL, gp->columns);
    mde__scale_inputs(&at, x, gp->theta);
    mde__covariance_slope(s->kernel, &at, &runs, gp->theta, gp->alpha, mde__exp64(gp->theta[d]), r->target_sd[target],
                          slope);
    for (int q = 0; q < s->rank; q++) {
        runs = mde__joint_inputs(s, q, NULL);
        for (int i = 0; i < d; i++) part[i] = 0;
        mde__scale_inputs(&at, x, lengths + q * d);
        mde__covariance_slope(s->kernel, &at, &runs, lengths + q * d, s->beta + q * s->n, f[q], r->target_sd[target],
                              part);
        for (int i = 0; i < d; i++) slope[i] += part[i];
    }
}

static double mde__joint_log_likelihood(const mde_regressor *r, int target)
{
    (void)target;
    return ((const mde__joint *)r->state)->log_likelihood;
}

static double mde__joint_length_scale(const mde_regressor *r, int target, int index)
{
    const mde__joint *s = (const mde__joint *)r->state;
    return mde__exp64(s->own[s->task[target]].theta[index]);
}

static const mde__regressor_kind mde__joint_kind = {
    "multi-task GP", MDE_FEATURE_POWER, MDE_FEATURE_MDE, 1, 0, 0, sizeof(mde__joint), 0,
    mde__joint_lay_out, NULL, mde__joint_work, mde__joint_fit, "the likelihood is not finite at any start",
    mde__joint_predict_work, mde__joint_predict, mde__joint_gradient, mde__joint_log_likelihood,
    mde__joint_length_scale
};

/* ---- Laws ---- */

/* Of a mixture w (Ye et al. 2025), and of models of N parameters that saw D tokens of it (the additive and the joint
   form of Shukor et al. 2025):
     y = E + T_0 + T_1 + T_2,   T_0 = exp(b_0 + t_0.w),   T_r = exp(b_r + t_r.w - a_r l_r),   l_1 = log N, l_2 = log D,
   so that A(w) = exp(b_1 + t_1.w) and alpha = a_1. The mixing law is E + T_0. The additive law across sizes has
   t_1 = t_2 = 0; with interactions they are fitted, drawn to 0. theta is E, then for each term b_r, log a_r, t_r;
   dT_r = T_r (db_r + w.dt_r - a_r l_r d log a_r).

   They are fitted by the sum over runs of h^2 (sqrt(1 + (residual / h)^2) - 1): squares that bend into distances, so
   that a run that went wrong bends the curve little. Two sizes do not tell E from alpha, nor do checkpoints of short
   runs tell it from beta: across sizes, log a_r and b_r have priors, so that what the data leave open becomes part of
   the predicted sd. The curvature J'J / v + P at the optimum gives the covariance of theta, P being the priors'
   precision; v is the variance of a residual, across sizes times the runs that stand for one mixture, since the
   checkpoints of a run, and its equals, err together. */

#define MDE__LAW_TERMS 3
#define MDE__LAW_STARTS 4
#define MDE__LAW_BLOCK 64           /* runs whose slopes are looked at together */
#define MDE__LAW_BEND 0.5           /* h, in standard deviations of the target */
#define MDE__LAW_VARIANCE 0.05      /* v at first, in variances of the target, until a fit says what it is */
#define MDE__LAW_PENALTY 1e-2       /* on t_0 t_0 / 2: weights sum to 1, so that data alone leave one direction open */
#define MDE__LAW_INTERACTION 1.0    /* on t_r t_r / 2 */
#define MDE__LAW_DOUBT 0.01         /* a square added to those of the residuals for the second v: a dozen runs, fitted
                                       exactly, do not know their noise, and priors would vanish */
#define MDE__LAW_LEVEL_SD 3.0       /* of b_r across sizes, where a dozen runs could be fitted by one term, far above
                                       an E far below */
#define MDE__LAW_PRIOR_SD 0.9       /* of log a_r: N may count embeddings or not, which changes alpha; set so that
                                       intervals hold at sizes of the RedPajama runs of Ye et al. left out */
#define MDE__LAW_STEEPEST 30.0      /* largest exponent of a prediction */
#define MDE__LAW_REACH 12.0         /* standard deviations from the target's mean: no prediction lies further */
static const double mde__law_exponent[MDE__LAW_TERMS] = { 1, 0.34, 0.28 };     /* medians: Hoffmann et al. 2022 */

typedef struct mde__law {
    int d, terms, parameters;       /* weights that vary; 1, or all; 1 + terms (d + 2) */
    int interactions;
    int column[MDE__LAW_TERMS];     /* of x, with l_r; -1: none, or constant, then the term is not there */
    double unit[MDE__LAW_TERMS];    /* that times the column is log N, less its mean */
    double *theta;                  /* [m, parameters] of the standardised target */
    double *covariance;             /* [m, parameters, parameters] */
    double *residual;               /* [m] noise variance */
    double together;                /* runs that err together */
} mde__law;

/* The law at standardised inputs x, rows `stride` doubles apart, and its slopes by theta unless NULL, rows `apart`
   doubles apart; those that the form does not have are 0. */
MDE__WARM
static void mde__law_values(const mde__law *s, const double *theta, int rows, const double *x, int stride,
                            double *value, double *slope, int apart)
{
    double a[MDE__LAW_TERMS];
    for (int r = 1; r < s->terms; r++) a[r] = mde__exp64(theta[2 + r * (s->d + 2)]);
    for (int i = 0; i < rows; i++, x += stride) {
        value[i] = theta[0];
        if (slope) {
            memset(slope, 0, (size_t)s->parameters * sizeof *slope);
            slope[0] = 1;
        }
        for (int r = 0; r < s->terms; r++) {
            const double *own = theta + 1 + r * (s->d + 2);
            double fall = r > 0 && s->column[r] >= 0 ? a[r] * s->unit[r] * x[s->column[r]] : 0;
            double exponent = own[0] - fall, term;
            int mixed = r == 0 || s->interactions;
            if (r > 0 && s->column[r] < 0) continue;
            if (mixed) exponent += mde__inner(s->d, own + 2, x);
            term = mde__exp64(exponent < MDE__LAW_STEEPEST ? exponent : MDE__LAW_STEEPEST);
            value[i] += term;
            if (slope) {
                double *along = slope + 1 + r * (s->d + 2);
                along[0] = term;
                along[1] = -term * fall;
                for (int q = 0; q < s->d && mixed; q++) along[2 + q] = term * x[q];
            }
        }
        if (slope) slope += apart;
    }
}

/* The priors: precision of parameter i, times v, and its centre. What the form does not have stays there. */
static double mde__law_prior(const mde__law *s, int i, double variance, double *centre)
{
    int r = (i - 1) / (s->d + 2), at = (i - 1) % (s->d + 2);
    *centre = 0;
    if (i == 0 || (at == 0 && s->terms == 1)) return 1e-9;
    if (at == 0) return variance / (MDE__LAW_LEVEL_SD * MDE__LAW_LEVEL_SD);
    if (at > 1) return r == 0 ? MDE__LAW_PENALTY : MDE__LAW_INTERACTION;
    *centre = mde__log64(mde__law_exponent[r]);
    return variance / (MDE__LAW_PRIOR_SD * MDE__LAW_PRIOR_SD);
}

/* work: mde__law_block_work. robust 0: plain squares, whose sum is the last of the normal equations. doubted: the
   variance of the residuals with MDE__LAW_DOUBT as one more. */
typedef struct mde__law_fit {
    const mde__law *s;
    int simd, n, stride, robust;
    const double *x, *y;
    double variance, doubted, *work;
} mde__law_fit;

static size_t mde__law_block_work(int parameters)
{
    return MDE__LAW_BLOCK * ((size_t)parameters + 2) + mde__dense_work(parameters + 1, MDE__LAW_BLOCK);
}

/* An mde__squares_fn: each run's slopes and residual times the root of its weight, so that their products are the
   normal equations. */
MDE__WARM
static double mde__law_loss(const double *theta, double *normal, void *user)
{
    const mde__law_fit *f = (const mde__law_fit *)user;
    int p = f->s->parameters, row = p + 1;
    double *value = f->work, *slope = value + MDE__LAW_BLOCK, *scratch = slope + MDE__LAW_BLOCK * row, loss = 0, centre;
    memset(normal, 0, (size_t)row * (size_t)row * sizeof *normal);
    for (int i = 0; i < p; i++) {
        double precision = mde__law_prior(f->s, i, f->variance, &centre), *gradient = normal + mde__cell(p, row, i);
        normal[mde__cell(i, row, i)] = precision;
        *gradient = precision * (theta[i] - centre);
        loss += 0.5 * *gradient * (theta[i] - centre);
    }
    for (int from = 0; from < f->n; from += MDE__LAW_BLOCK) {
        int rows = f->n - from < MDE__LAW_BLOCK ? f->n - from : MDE__LAW_BLOCK;
        mde__law_values(f->s, theta, rows, f->x + mde__cell(from, f->stride, 0), f->stride, value, slope, row);
        for (int i = 0; i < rows; i++) {
            double residual = value[i] - f->y[from + i], bent = residual / MDE__LAW_BEND;
            double root = sqrt(1.0 + bent * bent), weight = f->robust ? sqrt(1.0 / root) : 1.0;
            double *own = slope + mde__cell(i, row, 0);
            loss += MDE__LAW_BEND * MDE__LAW_BEND * (root - 1.0);
            own[p] = residual;
            for (int j = 0; j < row; j++) own[j] *= weight;
        }
        mde__dense_product(f->simd, MDE__OUT_LOWER | MDE__OUT_ADDED, 1.0, mde__transposed(mde__dense(slope, rows, row)),
                           mde__dense(slope, rows, row), normal, (size_t)row, scratch);
    }
    return loss;
}

/* For a known E the mixing law is linear in log(y - E): starts differ in E, as far below the smallest loss as seen from
   near and from afar, and begin flat; the terms share the rest. From theta alone where `start` is 0: the many runs of
   several sizes have their optima near one another. */
static double mde__law_search(mde__law_fit *f, int start, double *theta, double *work)
{
    static const double below[MDE__LAW_STARTS] = { 0.1, 0.5, 2.0, 6.0 };
    const mde__law *s = f->s;
    double best = (double)INFINITY, minimum = 0, value, *trial = work;
    int p = s->parameters;
    if (!start) return mde__marquardt(f->simd, mde__law_loss, f, p, theta, work);
    for (int i = 0; i < f->n; i++) if (f->y[i] < minimum) minimum = f->y[i];
    for (int q = 0; q < MDE__LAW_STARTS; q++) {
        for (int i = 0; i < p; i++) mde__law_prior(s, i, f->variance, trial + i);
        trial[0] = minimum - below[q];
        for (int i = 0; i < s->terms; i++) trial[1 + i * (s->d + 2)] = mde__log64(-trial[0] / s->terms);
        value = mde__marquardt(f->simd, mde__law_loss, f, p, trial, work + p);
        if (!(value < best)) continue;
        best = value;
        mde__copy(p, trial, theta);
    }
    return best;
}

/* Covariance of theta and the variance of the residuals, over the degrees of freedom that are left. work: as that of a
   search. */
static int mde__law_spread(const mde_regressor *r, mde__law_fit *f, int target, double *work)
{
    mde__law *s = (mde__law *)r->state;
    int p = s->parameters, row = p + 1, i;
    double *covariance = s->covariance + (size_t)target * (size_t)p * (size_t)p;
    double used = 0, squares, scale, centre, freedom;
    double *normal = work, *curvature = normal + (size_t)row * (size_t)row;
    double *inverse = curvature + (size_t)p * (size_t)p, *scratch = inverse + (size_t)p * (size_t)p;
    f->robust = 0;
    mde__law_loss(s->theta + mde__cell(target, p, 0), normal, f);
    f->robust = 1;
    squares = normal[mde__cell(p, row, p)];
    for (i = 0; i < p; i++) {
        mde__copy(p, normal + mde__cell(i, row, 0), curvature + mde__cell(i, p, 0));
    }
    if (!mde__cholesky_inverse(f->simd, p, curvature, inverse, scratch)) return 0;
    mde__inverse_from_factor(f->simd, p, 1.0, inverse, covariance, scratch);
    mde__mirror(p, covariance);
    for (i = 0; i < p; i++) used += 1.0 - mde__law_prior(s, i, f->variance, &centre) * covariance[mde__cell(i, p, i)];
    freedom = f->n - used > 1 ? f->n - used : 1;
    s->residual[target] = squares / freedom;
    f->doubted = (squares + MDE__LAW_DOUBT) / (freedom + 1);
    scale = s->terms > 1 ? f->variance : s->residual[target];
    for (i = 0; i < p * p; i++) covariance[i] *= scale;
    return 1;
}

static void mde__law_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    mde__law *s = (mde__law *)r->state;
    size_t m = (size_t)r->m, p;
    s->d = r->used;
    s->terms = desc->model == MDE_SCALE_LAW ? MDE__LAW_TERMS : 1;
    s->interactions = desc->interactions;
    for (int i = 1; i < s->terms; i++) {
        s->column[i] = r->index[r->d - s->terms + i];
        s->unit[i] = r->scale[r->d - s->terms + i];
        s->d -= s->column[i] >= 0;
    }
    s->parameters = 1 + s->terms * (s->d + 2);
    p = (size_t)s->parameters;
    s->theta = mde__take(memory, m, p);
    s->covariance = mde__take(memory, m, p * p);
    s->residual = mde__take(memory, m, 1);
}

/* Folds of mixtures, in r->fold: the checkpoints of a run, and runs of equal mixtures at other sizes, stay together. */
static mde_status mde__scale_share(mde_regressor *r, const double *x, const double *y)
{
    mde__law *s = (mde__law *)r->state;
    double *weights = mde__doubles(r->context, (size_t)r->n, (size_t)s->d + 1);
    int distinct = 0;
    (void)x;
    (void)y;
    for (int i = 0; i < r->n && weights; i++) {
        mde__copy(s->d, r->x + mde__cell(i, r->used, 0), weights + mde__cell(i, s->d, 0));
    }
    if (weights) distinct = mde_first_repeats(r->context, r->n, s->d, weights, r->fold);
    s->together = distinct > 0 ? (double)r->n / distinct : 1;
    if (distinct > 1) {
        r->folds = mde__folds_of_runs(r->context, r->n, s->d, weights, distinct < MDE__FOLDS ? distinct : MDE__FOLDS, 0,
                                      r->fold);
    }
    mde_release(r->context, weights);
    return mde_context_status(r->context);
}

/* Parameters of a fold, the runs outside of it, blocks of slopes, and what a search or the spread takes. */
static size_t mde__law_work(const mde_regressor *r)
{
    int p = ((const mde__law *)r->state)->parameters;
    return 2 * (size_t)p + (size_t)r->n * (size_t)(r->used + 1) + mde__law_block_work(p) + mde__marquardt_work(p);
}

/* Runs left out to first order, from the fit to all. Returns the largest leverage. */
static double mde__law_leave_out(mde_regressor *r, const mde__law_fit *f, int target, double *slope)
{
    const mde__law *s = f->s;
    int p = s->parameters;
    const double *theta = s->theta + mde__cell(target, p, 0);
    const double *covariance = s->covariance + (size_t)target * (size_t)p * (size_t)p;
    double largest = 0, value;
    for (int i = 0; i < f->n; i++) {
        double leverage = 0;
        mde__law_values(s, theta, 1, f->x + mde__cell(i, f->stride, 0), 0, &value, slope, 0);
        for (int j = 0; j < p; j++) leverage += slope[j] * mde__inner(p, covariance + mde__cell(j, p, 0), slope);
        if (leverage > 0) leverage /= s->residual[target];
        mde__leave_out(r, target, i, f->y[i] - (f->y[i] - value) / (1.0 - leverage));
        if (leverage > largest) largest = leverage;
    }
    return largest;
}

static int mde__law_fit_target(mde_regressor *r, int target, double *work)
{
    mde__law *s = (mde__law *)r->state;
    int p = s->parameters;
    double *theta = s->theta + mde__cell(target, p, 0), *few_theta = work, *few_x = few_theta + p;
    double *few_y = few_x + mde__cell(r->n, r->used, 0);
    mde__law_fit f;
    memset(&f, 0, sizeof f);
    f.s = s;
    f.simd = r->context->simd;
    f.n = r->n;
    f.stride = r->used;
    f.robust = 1;
    f.x = r->x;
    f.y = mde__target(r, target);
    f.variance = MDE__LAW_VARIANCE;
    f.work = few_y + r->n;
    work = f.work + mde__law_block_work(p);
    if (!(mde__law_search(&f, 1, theta, work) < (double)INFINITY)) return 0;
    if (!mde__law_spread(r, &f, target, work)) return 0;
    if (s->terms > 1) {
        f.variance = mde__clamp(f.doubted * s->together, 1e-6, 1.0);
        if (!(mde__law_search(&f, 0, theta, work) < (double)INFINITY)) return 0;
        if (!mde__law_spread(r, &f, target, work)) return 0;
    } else if (mde__law_leave_out(r, &f, target, work) < MDE__LARGEST_LEVERAGE && !r->repeated) {
        return 1;
    }
    for (int k = 0; k < r->folds; k++) {
        f.n = mde__outside_fold(r, k, r->used, r->x, mde__target(r, target), few_x, few_y);
        f.x = few_x;
        f.y = few_y;
        mde__copy(p, theta, few_theta);
        if (!(mde__law_search(&f, s->terms == 1, few_theta, work) < (double)INFINITY)) return 0;
        for (int i = 0; i < r->n; i++) {
            double value;
            if (r->fold[i] != k) continue;
            mde__law_values(s, few_theta, 1, r->x + mde__cell(i, r->used, 0), 0, &value, NULL, 0);
            mde__leave_out(r, target, i, mde__clamp(value, -MDE__LAW_REACH, MDE__LAW_REACH));
        }
    }
    return 1;
}

static size_t mde__law_predict_work(const mde_regressor *r, int rows)
{
    (void)rows;
    return (size_t)((const mde__law *)r->state)->parameters;
}

static void mde__law_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *slope)
{
    const mde__law *s = (const mde__law *)r->state;
    const double *x = in->x;
    int p = s->parameters;
    for (int rows = in->rows; rows > 0; rows--, x += r->used, mean += r->m, sd = sd ? sd + r->m : NULL) {
        for (int j = 0; j < r->m; j++) {
            const double *covariance = s->covariance + (size_t)j * (size_t)p * (size_t)p;
            double variance = s->residual[j], value;
            if (!(r->target_sd[j] > 0)) continue;
            mde__law_values(s, s->theta + mde__cell(j, p, 0), 1, x, 0, &value, sd ? slope : NULL, 0);
            mean[j] = r->target_mean[j] + r->target_sd[j] * mde__clamp(value, -MDE__LAW_REACH, MDE__LAW_REACH);
            if (!sd) continue;
            for (int i = 0; i < p; i++) variance += slope[i] * mde__inner(p, covariance + mde__cell(i, p, 0), slope);
            sd[j] = r->target_sd[j] * sqrt(variance);
        }
    }
}

/* J C J' at standardised inputs x [n, used]; work: 2 n parameters. */
static void mde__law_covariance(const mde_regressor *r, int target, int n, const double *x, double *work, double *out)
{
    const mde__law *s = (const mde__law *)r->state;
    int p = s->parameters;
    const double *covariance = s->covariance + (size_t)target * (size_t)p * (size_t)p;
    double *slope = work, *along = work + mde__cell(n, p, 0), value;
    double square = r->target_sd[target] * r->target_sd[target];
    for (int i = 0; i < n; i++, slope += p, along += p) {
        mde__law_values(s, s->theta + mde__cell(target, p, 0), 1, x + mde__cell(i, r->used, 0), 0, &value, slope, 0);
        for (int j = 0; j < p; j++) along[j] = square * mde__inner(p, covariance + mde__cell(j, p, 0), slope);
        for (int j = 0; j <= i; j++) out[mde__cell(i, n, j)] = mde__inner(p, along, work + mde__cell(j, p, 0));
    }
    mde__mirror(n, out);
}

/* dT_r / dx is T_r t_r along the weights and -T_r a_r along l_r; the slope by b_r is T_r. */
static void mde__law_gradient(const mde_regressor *r, int target, const double *x, double *slope, double *work)
{
    const mde__law *s = (const mde__law *)r->state;
    const double *theta = s->theta + mde__cell(target, s->parameters, 0);
    double value;
    mde__law_values(s, theta, 1, x, 0, &value, work, 0);
    for (int i = 0; i < s->terms; i++) {
        const double *own = theta + 1 + i * (s->d + 2);
        double along = r->target_sd[target] * work[1 + i * (s->d + 2)];
        if (i > 0 && s->column[i] >= 0) slope[s->column[i]] -= along * mde__exp64(own[1]) * s->unit[i];
        for (int q = 0; q < s->d && (i == 0 || s->interactions); q++) slope[q] += along * own[2 + q];
    }
}

static const mde__regressor_kind mde__mixing_kind = {
    "mixing law", MDE_FEATURE_RAW, 0, 0, 0, 0, sizeof(mde__law), 0,
    mde__law_lay_out, NULL, mde__law_work, mde__law_fit_target, "it is finite at no start",
    mde__law_predict_work, mde__law_predict, mde__law_gradient, NULL, NULL
};

static const mde__regressor_kind mde__scale_kind = {
    "law across sizes", 0, 0, 0, 0, 0, sizeof(mde__law), 0,
    mde__law_lay_out, mde__scale_share, mde__law_work, mde__law_fit_target, "it is finite at no start",
    mde__law_predict_work, mde__law_predict, mde__law_gradient, NULL, NULL
};

/* ---- Pooled law ---- */

/* y = c + sum_p b_p (e_p + T_p.w)^-a_p: loss falls as a power of the data there are, and data of other domains count,
   too, each at a rate of its own (compare Hernandez et al. 2021): token by token, domain i is worth T_i of a main
   domain, the one that the loss falls with most. Several pools make a sum of several skills. Weights that are known to
   three decimals say little near zero, where the loss is steepest: there the noise variance has a second part, of the
   scarcity of the main domain. theta: c; a pool: log b, log a, log e, log T [d]; then the logarithms of the two parts
   of the noise variance. */

#define MDE__LARGEST_POOLS 4
#define MDE__POOL_STARTS 3
#define MDE__POOL_TRIED 40          /* steps of each start; the best is carried on */
#define MDE__POOL_CARRIED(n) ((n) < 200 ? 60 + (n) : 260)  /* few with few runs: their optimum fits noise. Tuned on
                                                              RegMix */
#define MDE__POOL_HEAD 3            /* parameters of a pool before its transfers: log b, log a, log e */
#define MDE__TRANSFER_SPREAD 1.5
#define MDE__LOG_OFFSET 1e-3        /* weights are rarely known to more than three decimals */

/* Of one target. */
typedef struct mde__pools {
    int pools, main;
    uint64_t seed;
    double *theta;              /* [parameters]; NULL: not fitted, the target or all features being constant */
    double *exponential;        /* [parameters] of theta */
    double *covariance;         /* of theta but for the noise */
    double excess;              /* squared errors of runs left out in predicted variances, too small with few runs */
    int folded;                 /* 1: runs were left out by folds */
} mde__pools;

typedef struct mde__pool_fit {
    int simd, n, d, pools, main;
    const double *x, *y;            /* [n, d] weights, [n] */
} mde__pool_fit;

static int mde__pool_size(int d, int pools)
{
    return 1 + pools * (MDE__POOL_HEAD + d);
}

/* How much rounding blurs a weight: 1 at zero, 1/4 at the last decimal. */
static double mde__scarcity(double weight)
{
    double share = MDE__LOG_OFFSET / (weight + MDE__LOG_OFFSET);
    return share * share;
}

/* Weak, of the loss in standard deviations: c a little below it, a of 0.3, e at the last decimal of a weight, and
   transfers that are small but for the main domain's in the first pool. Tuned on RegMix. */
static void mde__pool_prior(const mde__pool_fit *f, int i, double *middle, double *spread)
{
    static const double head[MDE__POOL_HEAD][2] = { { 0, 3.0 }, { -1.2, 0.7 }, { -6.9, 1.0 } };
    int each = MDE__POOL_HEAD + f->d, pool = (i - 1) / each, at = (i - 1) % each;
    if (i == 0) {
        *middle = -2.0;
        *spread = 2.0;
    } else if (i >= mde__pool_size(f->d, f->pools)) {
        *middle = -4.0;
        *spread = 3.0;
    } else if (at < MDE__POOL_HEAD) {
        *middle = head[at][0];
        *spread = head[at][1];
    } else {
        *middle = pool > 0 ? -2.0 : at - MDE__POOL_HEAD == f->main ? 0 : -5.0;
        *spread = MDE__TRANSFER_SPREAD;
    }
}

/* Prediction at weights w [d], and its slope [mde__pool_size] along the parameters. exponential: of theta. */
MDE__WARM
static double mde__pool_value(int d, int pools, const double *theta, const double *exponential, const double *w,
                              double *slope)
{
    double value = theta[0];
    slope[0] = 1;
    for (int r = 0; r < pools; r++) {
        int first = 1 + r * (MDE__POOL_HEAD + d);
        const double *e = exponential + first, *transfer = e + MDE__POOL_HEAD;
        double *s = slope + first, data = e[2] + mde__inner(d, transfer, w), fall = e[1] * mde__log64(data);
        double power = theta[first] - fall, share;
        s[0] = mde__exp64(power < MDE__LAW_STEEPEST ? power : MDE__LAW_STEEPEST);
        value += s[0];
        share = -e[1] * s[0] / data;
        s[1] = -fall * s[0];
        s[2] = share * e[2];
        for (int q = 0; q < d; q++) s[MDE__POOL_HEAD + q] = share * transfer[q] * w[q];
    }
    return value;
}

static void mde__exponentials(int n, const double *theta, double *exponential)
{
    for (int i = 0; i < n; i++) exponential[i] = mde__exp64(theta[i]);
}

/* slope, exponential: [mde__pool_size], [mde__pool_size + 2]; columns [d, n]; runs [6 + 3 pools, n]. */
typedef struct mde__pool_work { const mde__pool_fit *f; double *slope, *exponential, *columns, *runs; } mde__pool_work;

/* Minus the log posterior. */
MDE__WARM
static double mde__pool_loss(const double *theta, double *gradient, void *user)
{
    const mde__pool_work *w = (const mde__pool_work *)user;
    const mde__pool_fit *f = w->f;
    int n = f->n, d = f->d, simd = f->simd, size = mde__pool_size(d, f->pools), i, r, q;
    const double *noise = w->exponential + size;
    double loss = 0, middle, spread, *ones = w->runs, *blur = ones + n, *variance = blur + n, *residual = variance + n;
    double *weight = residual + n, *about = weight + n, *data = about + n, *fall = data + n, *term = fall + n;
    mde__exponentials(size + 2, theta, w->exponential);
    for (i = 0; i < size + 2; i++) {
        gradient[i] = 0;
        mde__pool_prior(f, i, &middle, &spread);
        loss += mde__prior(theta[i], middle, spread, gradient + i);
    }
    for (i = 0; i < n; i++) {
        ones[i] = 1;
        blur[i] = mde__scarcity(w->columns[mde__cell(f->main, n, i)]);
        variance[i] = noise[0] + noise[1] * blur[i];
        residual[i] = theta[0] - f->y[i];
    }
    for (r = 0; r < f->pools; r++, data += 3 * n, fall += 3 * n, term += 3 * n) {
        int first = 1 + r * (MDE__POOL_HEAD + d);
        const double *e = w->exponential + first;
        for (i = 0; i < n; i++) data[i] = e[2];
        for (q = 0; q < d; q++) {
            mde__kernel_dense_axpy(simd)(n, e[MDE__POOL_HEAD + q], w->columns + mde__cell(q, n, 0), data);
        }
        mde__kernel_dense_log(simd)(n, data, fall);
        for (i = 0; i < n; i++) {
            fall[i] *= e[1];
            term[i] = theta[first] - fall[i] < MDE__LAW_STEEPEST ? theta[first] - fall[i] : MDE__LAW_STEEPEST;
        }
        mde__kernel_dense_exp(simd)(n, term, term);
        mde__kernel_dense_axpy(simd)(n, 1.0, term, residual);
    }
    mde__kernel_dense_log(simd)(n, variance, about);
    loss += 0.5 * mde__kernel_dense_dot(simd)(n, ones, about);
    for (i = 0; i < n; i++) {
        weight[i] = residual[i] / variance[i];
        about[i] = 0.5 * (1.0 - residual[i] * weight[i]) / variance[i];
    }
    loss += 0.5 * mde__kernel_dense_dot(simd)(n, residual, weight);
    gradient[0] += mde__kernel_dense_dot(simd)(n, ones, weight);
    while (r-- > 0) {
        int first = 1 + r * (MDE__POOL_HEAD + d);
        const double *e = w->exponential + first;
        double *slope = gradient + first;
        data -= 3 * n, fall -= 3 * n, term -= 3 * n;
        mde__kernel_dense_multiply(simd)(n, 1.0, weight, term, term);
        slope[0] += mde__kernel_dense_dot(simd)(n, ones, term);
        slope[1] -= mde__kernel_dense_dot(simd)(n, fall, term);
        for (i = 0; i < n; i++) term[i] *= -e[1] / data[i];
        slope[2] += e[2] * mde__kernel_dense_dot(simd)(n, ones, term);
        for (q = 0; q < d; q++) {
            slope[MDE__POOL_HEAD + q] +=
                e[MDE__POOL_HEAD + q] * mde__kernel_dense_dot(simd)(n, term, w->columns + mde__cell(q, n, 0));
        }
    }
    gradient[size] += noise[0] * mde__kernel_dense_dot(simd)(n, ones, about);
    gradient[size + 1] += noise[1] * mde__kernel_dense_dot(simd)(n, blur, about);
    return loss;
}

/* The domains whose logarithm goes down with the loss most, the first guesses of the main one. */
static void mde__pool_mains(const mde__pool_fit *f, int count, int *mains)
{
    double best[MDE__POOL_STARTS];
    for (int k = 0; k < count; k++) {
        mains[k] = 0;
        best[k] = (double)INFINITY;
    }
    for (int q = 0; q < f->d; q++) {
        double mean = 0, cross = 0, square = 0, value;
        for (int i = 0; i < f->n; i++) mean += mde__log64(f->x[mde__cell(i, f->d, q)] + MDE__LOG_OFFSET) / f->n;
        for (int i = 0; i < f->n; i++) {
            double deviation = mde__log64(f->x[mde__cell(i, f->d, q)] + MDE__LOG_OFFSET) - mean;
            cross += deviation * f->y[i];
            square += deviation * deviation;
        }
        value = square > 0 ? cross / sqrt(square) : 0;
        for (int k = count - 1; k >= 0 && value < best[k]; k--) {
            if (k + 1 < count) {
                best[k + 1] = best[k];
                mains[k + 1] = mains[k];
            }
            best[k] = value;
            mains[k] = q;
        }
    }
}

/* Covariance of the parameters from the curvature at the optimum, and runs left out, to first order unless `folded`:
   then they are there already. Returns 0 when the curvature cannot be inverted; *first_order is whether that served. */
static int mde__pool_spread(mde_regressor *r, const mde__pool_fit *f, int target, double *work, int *first_order)
{
    mde__pools *pools = (mde__pools *)r->state + target;
    int p = mde__pool_size(f->d, f->pools), i, j, k;
    double *slope = work, *curvature = slope + p, *inverse = curvature + (size_t)p * (size_t)p;
    double *scratch = inverse + (size_t)p * (size_t)p, middle, spread, largest = 0, squares = 0;
    double noise = pools->exponential[p], scarce = pools->exponential[p + 1];
    memset(curvature, 0, (size_t)p * (size_t)p * sizeof(double));
    for (j = 0; j < p; j++) {
        mde__pool_prior(f, j, &middle, &spread);
        curvature[mde__cell(j, p, j)] = 1.0 / (spread * spread);
    }
    for (i = 0; i < f->n; i++) {
        const double *x = f->x + (size_t)i * (size_t)f->d;
        double variance = noise + scarce * mde__scarcity(x[f->main]);
        mde__pool_value(f->d, f->pools, pools->theta, pools->exponential, x, slope);
        for (j = 0; j < p; j++) {
            for (k = 0; k <= j; k++) curvature[mde__cell(j, p, k)] += slope[j] * slope[k] / variance;
        }
    }
    if (!mde__cholesky_inverse(r->context->simd, p, curvature, inverse, scratch)) return 0;
    mde__inverse_from_factor(r->context->simd, p, 1.0, inverse, pools->covariance, scratch);
    mde__mirror(p, pools->covariance);
    pools->excess = 0;
    for (i = 0; i < f->n; i++) {
        const double *x = f->x + (size_t)i * (size_t)f->d;
        double variance = noise + scarce * mde__scarcity(x[f->main]), leverage = 0;
        double fit = mde__pool_value(f->d, f->pools, pools->theta, pools->exponential, x, slope);
        double alone = mde__stored_left_out(r, target, i);
        for (j = 0; j < p; j++) leverage += slope[j] * mde__inner(p, pools->covariance + (size_t)j * (size_t)p, slope);
        if (leverage / variance > largest) largest = leverage / variance;
        if (!pools->folded) {
            alone = f->y[i] - (f->y[i] - fit) / (1.0 - leverage / variance);
            mde__leave_out(r, target, i, alone);
        }
        squares += (alone - f->y[i]) * (alone - f->y[i]) / f->n;
        pools->excess += (alone - f->y[i]) * (alone - f->y[i]) / (variance + leverage) / f->n;
    }
    if (pools->excess < 1) pools->excess = 1;
    *first_order = !r->repeated && largest < MDE__LARGEST_LEVERAGE && squares < MDE__LARGEST_ERRORS;
    return 1;
}

/* Weights [used] of one standardised input. */
static void mde__pool_weights(const mde_regressor *r, const double *standardised, double *weights)
{
    for (int q = 0; q < r->d; q++) {
        double w;
        if (r->index[q] < 0) continue;
        w = standardised[r->index[q]] * r->scale[q] + r->shift[q];
        weights[r->index[q]] = w > 0 ? w : 0;
    }
}

static void mde__pools_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    for (int j = 0; j < r->m; j++) {
        mde__pools *fit = (mde__pools *)r->state + j;
        size_t size;
        fit->pools = desc->rank > 0 ? desc->rank : 2;
        fit->seed = desc->seed;
        size = (size_t)mde__pool_size(r->used, fit->pools);
        if (!(r->target_sd[j] > 0) || r->used == 0) continue;
        fit->theta = mde__take(memory, size + 2, 1);
        fit->exponential = mde__take(memory, size + 2, 1);
        fit->covariance = mde__take(memory, size, size);
    }
}

static mde_status mde__pools_share(mde_regressor *r, const double *x, const double *y)
{
    (void)y;
    for (int i = 0; i < r->n; i++) {
        for (int q = 0; q < r->d; q++) {
            double v = x[mde__cell(i, r->d, q)];
            mde__require(r->context, v >= 0, "pooled law: weight %d of run %d is %.9g; expected 0 or more", q, i, v);
        }
    }
    return mde_context_status(r->context);
}

/* Workspace of one fit: the runs' weights, trial parameters, shared exponentials, what L-BFGS or the curvature take,
   and the runs outside of a fold with their parameters. */
typedef struct mde__pool_memory { double *weights, *trial, *work, *few_x, *few_y, *few_theta; } mde__pool_memory;

static void mde__pool_take(mde__workspace *b, const mde_regressor *r, mde__pool_memory *memory, mde__pool_work *w)
{
    size_t n = (size_t)r->n, d = (size_t)r->used;
    size_t size = (size_t)mde__pool_size(r->used, ((const mde__pools *)r->state)->pools);
    memory->weights = mde__take(b, n, d);
    memory->trial = mde__take(b, size + 2, 1);
    w->exponential = mde__take(b, size + 2, 1);
    w->slope = mde__take(b, size, 1);
    w->columns = mde__take(b, n, d);
    w->runs = mde__take(b, n, 6 + 3 * MDE__LARGEST_POOLS);
    memory->work = mde__take(b, size + 2 * size * size + mde__dense_work((int)size, (int)size) +
                                    MDE__LBFGS_WORK(size + 2), 1);
    memory->few_x = mde__take(b, n, d);
    memory->few_y = mde__take(b, n, 1);
    memory->few_theta = mde__take(b, size + 2, 1);
}

static size_t mde__pools_work(const mde_regressor *r)
{
    mde__workspace count = { NULL, 0 };
    mde__pool_memory memory;
    mde__pool_work w;
    mde__pool_take(&count, r, &memory, &w);
    return count.used;
}

/* Theta from the best of the starts, and the main domain that goes with it. */
static double mde__pool_search(mde__pool_fit *f, uint64_t seed, double *theta, const mde__pool_memory *memory,
                               mde__pool_work *w)
{
    int size = mde__pool_size(f->d, f->pools), p = size + 2, start, i, q, main = 0;
    int mains[MDE__POOL_STARTS], starts = f->d < MDE__POOL_STARTS ? f->d : MDE__POOL_STARTS;
    double best = (double)INFINITY, value, middle, spread;
    mde_random random = mde_random_start(seed, 0x706f6f6c);
    w->f = f;
    for (i = 0; i < f->n; i++) {
        for (q = 0; q < f->d; q++) w->columns[mde__cell(q, f->n, i)] = f->x[mde__cell(i, f->d, q)];
    }
    mde__pool_mains(f, starts, mains);
    for (start = 0; start < starts; start++) {
        f->main = mains[start];
        for (i = 0; i < p; i++) {
            mde__pool_prior(f, i, &middle, &spread);
            memory->trial[i] = middle;
            if (i > MDE__POOL_HEAD + f->d && i < size) memory->trial[i] += 0.2 * mde_random_normal(&random);
        }
        value = mde__lbfgs(mde__pool_loss, w, p, memory->trial, memory->work, NULL, MDE__POOL_TRIED, 1e-7);
        if (!(value < best)) continue;
        best = value;
        main = f->main;
        mde__copy(p, memory->trial, theta);
    }
    f->main = main;
    if (!(best < (double)INFINITY)) return best;
    return mde__lbfgs(mde__pool_loss, w, p, theta, memory->work, NULL, MDE__POOL_CARRIED(f->n), 1e-7);
}

static int mde__pools_fit(mde_regressor *r, int target, double *work)
{
    mde__pools *fit = (mde__pools *)r->state + target;
    int d = r->used, first_order;
    mde__workspace block = { work, 0 };
    mde__pool_memory memory;
    mde__pool_fit f, few;
    mde__pool_work w;
    if (!fit->theta) return 1;
    mde__pool_take(&block, r, &memory, &w);
    for (int i = 0; i < r->n; i++) mde__pool_weights(r, r->x + mde__cell(i, d, 0), memory.weights + mde__cell(i, d, 0));
    f.simd = r->context->simd;
    f.n = r->n;
    f.d = d;
    f.pools = fit->pools;
    f.x = memory.weights;
    f.y = mde__target(r, target);
    if (!(mde__pool_search(&f, fit->seed, fit->theta, &memory, &w) < (double)INFINITY)) return 0;
    fit->main = f.main;
    mde__exponentials(mde__pool_size(d, f.pools) + 2, fit->theta, fit->exponential);
    if (!mde__pool_spread(r, &f, target, memory.work, &first_order)) return 0;
    if (first_order) return 1;
    fit->folded = 1;
    few = f;
    few.x = memory.few_x;
    few.y = memory.few_y;
    for (int k = 0; k < r->folds; k++) {
        few.n = mde__outside_fold(r, k, d, f.x, f.y, memory.few_x, memory.few_y);
        if (!(mde__pool_search(&few, fit->seed, memory.few_theta, &memory, &w) < (double)INFINITY)) return 0;
        mde__exponentials(mde__pool_size(d, f.pools), memory.few_theta, w.exponential);
        for (int i = 0; i < r->n; i++) {
            const double *x = f.x + mde__cell(i, d, 0);
            double value = mde__pool_value(d, f.pools, memory.few_theta, w.exponential, x, w.slope);
            if (r->fold[i] == k) mde__leave_out(r, target, i, mde__clamp(value, -MDE__LAW_REACH, MDE__LAW_REACH));
        }
    }
    return mde__pool_spread(r, &f, target, memory.work, &first_order);
}

static size_t mde__pools_predict_work(const mde_regressor *r, int rows)
{
    (void)rows;
    return (size_t)r->used + (size_t)mde__pool_size(r->used, ((const mde__pools *)r->state)->pools);
}

static void mde__pools_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    double *weights = work, *slope = weights + r->used, value, variance;
    const double *x = in->x;
    int i;
    for (int rows = in->rows; rows > 0; rows--, x += r->used, mean += r->m, sd = sd ? sd + r->m : NULL) {
        mde__pool_weights(r, x, weights);
        for (int j = 0; j < r->m; j++) {
            const mde__pools *fit = (const mde__pools *)r->state + j;
            int p = mde__pool_size(r->used, fit->pools);
            if (!fit->theta) continue;
            value = mde__pool_value(r->used, fit->pools, fit->theta, fit->exponential, weights, slope);
            mean[j] = r->target_mean[j] + r->target_sd[j] * mde__clamp(value, -MDE__LAW_REACH, MDE__LAW_REACH);
            if (!sd) continue;
            variance = fit->exponential[p] + fit->exponential[p + 1] * mde__scarcity(weights[fit->main]);
            for (i = 0; i < p; i++) variance += slope[i] * mde__inner(p, fit->covariance + mde__cell(i, p, 0), slope);
            sd[j] = r->target_sd[j] * sqrt(fit->excess * variance);
        }
    }
}

static void mde__pools_gradient(const mde_regressor *r, int target, const double *x, double *slope, double *weights)
{
    const mde__pools *fit = (const mde__pools *)r->state + target;
    int d = r->used;
    if (!fit->theta) return;
    mde__pool_weights(r, x, weights);
    for (int pool = 0; pool < fit->pools; pool++) {
        int first = 1 + pool * (MDE__POOL_HEAD + d);
        const double *e = fit->exponential + first, *transfer = e + MDE__POOL_HEAD;
        double data = e[2] + mde__inner(d, transfer, weights), power = fit->theta[first] - e[1] * mde__log64(data);
        double term = mde__exp64(power < MDE__LAW_STEEPEST ? power : MDE__LAW_STEEPEST);
        for (int q = 0; q < d; q++) slope[q] -= r->target_sd[target] * e[1] * term * (transfer[q] / data);
    }
    for (int q = 0; q < r->d; q++) if (r->index[q] >= 0) slope[r->index[q]] *= r->scale[q];
}

static const mde__regressor_kind mde__pools_kind = {
    "pooled law", MDE_FEATURE_RAW, 0, 0, 0, MDE__LARGEST_POOLS, 0, sizeof(mde__pools),
    mde__pools_lay_out, mde__pools_share, mde__pools_work, mde__pools_fit, "it is finite at no start",
    mde__pools_predict_work, mde__pools_predict, mde__pools_gradient, NULL, NULL
};

/* ---- Boosted trees ---- */

/* Each tree is fitted to the residuals of the trees before it, and takes away a share of what it explains (Friedman
   2001). A tree of depth p has 2^p - 1 splits, level by level, and 2^p leaves. */

#define MDE__SMALLEST_LEAF 3        /* runs */
#define MDE__LARGEST_DEPTH 10

typedef struct mde__branch { int feature; double threshold; } mde__branch;    /* x[feature] > threshold goes right */
typedef struct mde__forest { int trees, depth; mde__branch *splits; double *leaves, residual; } mde__forest;

typedef struct mde__forests {
    double rate;
    int depth;
    double *columns;                /* [used, n] standardised features */
    int *order;                     /* [used, n] runs above a feature's lowest value, descending, */
    int *above;                     /* [used] how many they are: many weights are 0 */
    mde__forest *forest;            /* [m] */
} mde__forests;

/* Where the runs lie while the trees of a target grow. */
typedef struct mde__growth {
    int n, d;
    const mde__forests *s;
    const double *target;
    double *share;                  /* [n + 1] 1 / i */
    double *residual;               /* [n] */
    int *node;                      /* [n] node of the run's level; -1: the run is held out */
    int *count;                     /* [2^depth] runs of a node */
    double *sum, *gain;             /* [2^depth] */
    int *grown, *kept;              /* [d, n] as order, without what is held out; [d] how many they are */
    int *runs, *end;                /* [d, n] the same node by node; [2^depth, d] where a node's end */
    int *spare;                     /* [n] */
} mde__growth;

/* Splits node k between two neighbouring values of feature q if that is better than the best so far: one pass over its
   runs above the feature's lowest value, downwards; what has that is the rest. The squares of a node with sum S of c
   runs are less than without it by S^2 / c. */
MDE__WARM
static void mde__split_node(const mde__growth *w, int k, int q, const int *runs, int above, mde__branch *splits)
{
    const double *column = w->s->columns + mde__cell(q, w->n, 0), *residual = w->residual, *share = w->share;
    double sum = 0, all = w->sum[k], best = w->gain[k], last = 0, value;
    int count = w->count[k], right;
    if (above < MDE__SMALLEST_LEAF) return;
    for (right = 0; right < MDE__SMALLEST_LEAF; right++) {
        last = column[runs[right]];
        sum += residual[runs[right]];
    }
    for (; right <= count - MDE__SMALLEST_LEAF; right++) {
        int run = right < above ? runs[right] : w->s->order[mde__cell(q, w->n, w->n - 1)], left = count - right;
        double rest = all - sum, gain = sum * sum * share[right] + rest * rest * share[left];
        value = column[run];
        if (gain > best && value < last) {
            best = gain;
            splits[k].feature = q;
            splits[k].threshold = 0.5 * (value + last);
        }
        if (right >= above) break;
        sum += residual[run];
        last = value;
    }
    w->gain[k] = best;
}

/* Splits the `nodes` nodes of a level where the squares get smallest. */
MDE__WARM
static void mde__grow_level(const mde__growth *w, int nodes, mde__branch *splits)
{
    int i, k;
    for (k = 0; k < nodes; k++) {
        w->count[k] = 0;
        w->sum[k] = 0;
        splits[k].feature = 0;
        splits[k].threshold = (double)INFINITY;
    }
    for (i = 0; i < w->n; i++) {
        if (w->node[i] < 0) continue;
        w->count[w->node[i]]++;
        w->sum[w->node[i]] += w->residual[i];
    }
    for (k = 0; k < nodes; k++) w->gain[k] = w->sum[k] * w->sum[k] * w->share[w->count[k]] + 1e-12;
    for (int q = 0; q < w->d; q++) {
        for (k = 0, i = 0; k < nodes; k++) {
            int end = w->end[mde__cell(k, w->d, q)];
            mde__split_node(w, k, q, w->runs + mde__cell(q, w->n, i), end - i, splits);
            i = end;
        }
    }
    for (i = 0; i < w->n; i++) {
        const mde__branch *s;
        if (w->node[i] < 0) continue;
        s = splits + w->node[i];
        w->node[i] = 2 * w->node[i] + (w->s->columns[mde__cell(s->feature, w->n, i)] > s->threshold);
    }
}

/* The runs of each node by those of its two, in the same order. */
MDE__WARM
static void mde__part_nodes(const mde__growth *w, int nodes)
{
    for (int k = nodes - 1; k >= 0; k--) {      /* downwards, so that no end is needed after it is overwritten */
        for (int q = 0; q < w->d; q++) {
            int *runs = w->runs + mde__cell(q, w->n, 0), *end = w->end + q, to = end[mde__cell(k, w->d, 0)];
            int from = k > 0 ? end[mde__cell(k - 1, w->d, 0)] : 0, left = from, right = 0;
            for (int i = from; i < to; i++) {
                int run = runs[i], above = w->node[run] & 1;
                runs[left] = run;
                w->spare[right] = run;
                left += 1 - above;
                right += above;
            }
            memcpy(runs + left, w->spare, (size_t)right * sizeof(int));
            end[mde__cell(2 * k, w->d, 0)] = left;
            end[mde__cell(2 * k + 1, w->d, 0)] = to;
        }
    }
}

/* At standardised x. */
MDE__WARM
static double mde__forest_value(const mde__forest *f, const double *x)
{
    int leaves = 1 << f->depth;
    double value = 0;
    for (int t = 0; t < f->trees; t++) {
        const mde__branch *splits = f->splits + (size_t)t * (size_t)(leaves - 1);
        int node = 0;
        for (int level = 0; level < f->depth; level++) {
            const mde__branch *s = splits + (1 << level) - 1 + node;
            node = 2 * node + (x[s->feature] > s->threshold);
        }
        value += f->leaves[(size_t)t * (size_t)leaves + (size_t)node];
    }
    return value;
}

/* Each tree is fitted to what the trees before it left over. fold [n]: runs of fold `out` stay out; NULL: none does. */
static void mde__forest_grow(mde__forest *f, const mde__growth *w, double rate, const int *fold, int out)
{
    int leaves = 1 << f->depth;
    mde__copy(w->n, w->target, w->residual);
    for (int q = 0; q < w->d; q++) {
        w->kept[q] = 0;
        for (int i = 0; i < w->s->above[q]; i++) {
            int run = w->s->order[mde__cell(q, w->n, i)];
            if (!fold || fold[run] != out) w->grown[mde__cell(q, w->n, w->kept[q]++)] = run;
        }
    }
    for (int t = 0; t < f->trees; t++) {
        mde__branch *splits = f->splits + (size_t)t * (size_t)(leaves - 1);
        double *values = f->leaves + (size_t)t * (size_t)leaves;
        for (int i = 0; i < w->n; i++) w->node[i] = fold && fold[i] == out ? -1 : 0;
        memcpy(w->runs, w->grown, (size_t)w->d * (size_t)w->n * sizeof(int));
        memcpy(w->end, w->kept, (size_t)w->d * sizeof(int));
        for (int level = 0; level < f->depth; level++) {
            if (level > 0) mde__part_nodes(w, 1 << (level - 1));
            mde__grow_level(w, 1 << level, splits + (1 << level) - 1);
        }
        for (int k = 0; k < leaves; k++) {
            values[k] = 0;
            w->count[k] = 0;
        }
        for (int i = 0; i < w->n; i++) {
            if (w->node[i] < 0) continue;
            values[w->node[i]] += w->residual[i];
            w->count[w->node[i]]++;
        }
        for (int k = 0; k < leaves; k++) if (w->count[k]) values[k] *= rate / w->count[k];
        for (int i = 0; i < w->n; i++) if (w->node[i] >= 0) w->residual[i] -= values[w->node[i]];
    }
}

static void mde__forests_lay_out(mde_regressor *r, const mde_fit_desc *desc, mde__workspace *memory)
{
    mde__forests *s = (mde__forests *)r->state;
    size_t n = (size_t)r->n, trees = desc->trees ? (size_t)desc->trees : 250, leaves;
    s->depth = desc->depth ? desc->depth : 4;
    s->rate = desc->rate > 0 ? desc->rate : 0.1;
    leaves = (size_t)1 << s->depth;
    s->columns = mde__take(memory, n, (size_t)r->used);
    s->order = (int *)mde__take(memory, n, (size_t)r->used);       /* a double has room for an int */
    s->above = (int *)mde__take(memory, (size_t)r->used, 1);
    s->forest = (mde__forest *)mde__take(memory, (size_t)r->m, (sizeof *s->forest + 7) / 8);
    for (int j = 0; j < r->m; j++) {
        mde__forest unfit = { 0, 0, NULL, NULL, 1 }, *f = s->forest ? s->forest + j : &unfit;
        *f = unfit;             /* its residual is the target's own where there is no feature to split by */
        if (!(r->target_sd[j] > 0) || r->used == 0) continue;
        f->trees = (int)trees;
        f->depth = s->depth;
        f->splits = (mde__branch *)mde__take(memory, trees * (leaves - 1), (sizeof *f->splits + 7) / 8);
        f->leaves = mde__take(memory, trees, leaves);
    }
}

static mde_status mde__forests_share(mde_regressor *r, const double *x, const double *y)
{
    mde__forests *s = (mde__forests *)r->state;
    int n = r->n;
    mde__keyed *sorted = (mde__keyed *)mde_alloc(r->context, (size_t)n, sizeof *sorted);
    (void)x;
    (void)y;
    for (int q = 0; q < r->used && sorted; q++) {
        for (int i = 0; i < n; i++) {
            s->columns[mde__cell(q, n, i)] = sorted[i].key = r->x[mde__cell(i, r->used, q)];
            sorted[i].run = i;
        }
        qsort(sorted, (size_t)n, sizeof *sorted, mde__by_key);
        for (int i = 0; i < n; i++) {
            s->order[mde__cell(q, n, i)] = sorted[n - 1 - i].run;
            s->above[q] += sorted[i].key > sorted[0].key;
        }
    }
    mde_release(r->context, sorted);
    return mde_context_status(r->context);
}

static void mde__growth_take(mde__workspace *b, const mde_regressor *r, mde__growth *w)
{
    size_t n = (size_t)r->n, d = (size_t)r->used, leaves;
    w->s = (const mde__forests *)r->state;
    w->n = r->n;
    w->d = r->used;
    leaves = (size_t)1 << w->s->depth;
    w->share = mde__take(b, n + 1, 1);
    w->residual = mde__take(b, n, 1);
    w->sum = mde__take(b, leaves, 1);
    w->gain = mde__take(b, leaves, 1);
    w->node = (int *)mde__take(b, n, 1);
    w->count = (int *)mde__take(b, leaves, 1);
    w->grown = (int *)mde__take(b, n, d);
    w->kept = (int *)mde__take(b, d, 1);
    w->runs = (int *)mde__take(b, n, d);
    w->end = (int *)mde__take(b, leaves, d);
    w->spare = (int *)mde__take(b, n, 1);
}

static size_t mde__forests_work(const mde_regressor *r)
{
    mde__workspace count = { NULL, 0 };
    mde__growth w;
    mde__growth_take(&count, r, &w);
    return count.used;
}

/* A forest, and the spread of its predictions from runs that it was grown without. */
static int mde__forests_fit(mde_regressor *r, int target, double *work)
{
    const mde__forests *s = (const mde__forests *)r->state;
    mde__forest *f = s->forest + target;
    int n = r->n;
    mde__workspace memory = { work, 0 };
    mde__growth w;
    double squares = 0;
    if (f->trees == 0) return 1;
    mde__growth_take(&memory, r, &w);
    w.target = mde__target(r, target);
    w.share[0] = 0;
    for (int i = 1; i <= n; i++) w.share[i] = 1.0 / i;
    for (int k = 0; k < r->folds; k++) {
        mde__forest_grow(f, &w, s->rate, r->fold, k);
        for (int i = 0; i < n; i++) {
            double residual;
            if (r->fold[i] != k) continue;
            residual = w.target[i] - mde__forest_value(f, r->x + mde__cell(i, r->used, 0));
            squares += residual * residual;
            mde__leave_out(r, target, i, w.target[i] - residual);
        }
    }
    f->residual = squares / n;
    mde__forest_grow(f, &w, s->rate, NULL, 0);
    return 1;
}

static void mde__forests_predict(const mde_regressor *r, const mde__inputs *in, double *mean, double *sd, double *work)
{
    (void)work;
    for (int i = 0; i < in->rows; i++) {
        for (int j = 0; j < r->m; j++) {
            const mde__forest *f = ((const mde__forests *)r->state)->forest + j;
            double value = mde__forest_value(f, in->x + mde__cell(i, r->used, 0));
            mean[mde__cell(i, r->m, j)] = r->target_mean[j] + r->target_sd[j] * value;
            if (sd) sd[mde__cell(i, r->m, j)] = r->target_sd[j] * sqrt(f->residual);
        }
    }
}

static const mde__regressor_kind mde__forests_kind = {
    "trees", MDE_FEATURE_RAW, MDE_FEATURE_OWN, 0, 0, 0, sizeof(mde__forests), 0,
    mde__forests_lay_out, mde__forests_share, mde__forests_work, mde__forests_fit, "", NULL, mde__forests_predict, NULL,
    NULL, NULL
};

/* ---- Fitting and predicting ---- */

static const mde__regressor_kind *mde__kind(mde_model model)
{
    static const struct { mde_model model; const mde__regressor_kind *kind; } kinds[] = {
        { MDE_RIDGE, &mde__ridge_kind }, { MDE_GP, &mde__gp_kind }, { MDE_MULTITASK_GP, &mde__joint_kind },
        { MDE_MIXING_LAW, &mde__mixing_kind }, { MDE_POOLED_LAW, &mde__pools_kind }, { MDE_TREES, &mde__forests_kind },
        { MDE_SCALE_LAW, &mde__scale_kind }
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) if (kinds[i].model == model) return kinds[i].kind;
    return NULL;
}

MDEDEF void mde_regressor_free(mde_regressor *r)
{
    mde_context *c;
    if (!r) return;
    c = r->context;
    MDE__RELEASE(c, r->memory, r->state, r->left_out, r->next, r->y, r->noise_x, r->x, r->target_sd, r->target_mean,
                 r->scale, r->shift, r->index, r);
}

static mde_status mde__check_fit(mde_context *c, int n, int d, int m, const double *x, const double *y,
                                 const mde_fit_desc *desc)
{
    double side;
    const mde__regressor_kind *kind = mde__kind(desc->model);
    int largest_rank = kind && kind->largest_rank ? kind->largest_rank : m;
    mde__require(c, x && y, "regression: x and y are needed");
    mde__require(c, n >= 2 && d >= 1 && m >= 1, "regression: %d runs, %d features, %d targets; at least 2, 1 and 1 are "
                 "needed", n, d, m);
    mde__require(c, desc->penalty >= 0 && desc->penalty < (double)INFINITY, "regression: the penalty is %.9g; expected "
                 "0 or more", desc->penalty);
    mde__require(c, kind && desc->kernel >= MDE_MATERN32 && desc->kernel <= MDE_RBF, "regression: there is no model %d "
                 "with kernel %d", (int)desc->model, (int)desc->kernel);
    mde__require(c, desc->rank >= 0 && desc->rank <= largest_rank && desc->restarts >= 0, "regression: rank %d and %d "
                 "restarts; expected a rank of at most %d", desc->rank, desc->restarts, largest_rank);
    mde__require(c, desc->model != MDE_SCALE_LAW || d >= 3, "regression: the law across sizes takes weights, log N and "
                 "log D, but there are %d features", d);
    mde__require(c, desc->noises == 0 || (desc->noises > 0 && desc->noises < d && kind && kind->noise_inputs),
                 "regression: %d noise inputs of %d features; only a gaussian process has them, besides others",
                 desc->noises, d);
    mde__require(c, desc->trees >= 0 && desc->trees <= 100000 && desc->depth >= 0 &&
                    desc->depth <= MDE__LARGEST_DEPTH && desc->rate >= 0 && desc->rate <= 1,
                 "regression: %d trees of depth %d, rate %.9g; expected at most 100000, %d and 1", desc->trees,
                 desc->depth, desc->rate, MDE__LARGEST_DEPTH);
    if (mde__bad(c)) return mde_context_status(c);
    /* Tables, and the squares that some models make of features and targets; those of runs are counted as they are
       taken. */
    side = (double)d + m;
    if ((double)n * (d > m ? d : m) + 256 * side * side > (double)SIZE_MAX / sizeof(double)) {
        return mde_fail(c, MDE_OUT_OF_MEMORY, "regression: %d runs with %d features are too many", n, d);
    }
    if (mde__check_table(c, "x", n, d, x)) return mde_context_status(c);
    return mde__check_table(c, "y", n, m, y);
}

/* Checks, standardises and starts; what is left is mde__regressors_finish, so that a surrogate can fit the targets of
   many regressors side by side. */
static mde_regressor *mde__regressor_prepare(mde_context *c, int n, int d, int m, const double *x, const double *y,
                                             const mde_fit_desc *desc)
{
    mde__workspace memory = { NULL, 0 };
    mde_regressor *r;
    if (mde__check_fit(c, n, d, m, x, y, desc)) return NULL;
    r = (mde_regressor *)mde_alloc(c, 1, sizeof(mde_regressor));
    if (!r) return NULL;
    r->context = c;
    r->kind = mde__kind(desc->model);
    r->n = n;
    r->d = d;
    r->m = m;
    r->noises = desc->noises;
    r->index = (int *)mde_alloc(c, (size_t)d, sizeof(int));
    r->shift = mde__doubles(c, (size_t)d, 1);
    r->scale = mde__doubles(c, (size_t)d, 1);
    r->target_mean = mde__doubles(c, (size_t)m, 1);
    r->target_sd = mde__doubles(c, (size_t)m, 1);
    r->y = mde__doubles(c, (size_t)m, (size_t)n);
    r->noise_x = mde__doubles(c, (size_t)n, (size_t)r->noises);
    r->left_out = mde__doubles(c, (size_t)n, (size_t)m);
    for (int q = 0; q < d && !mde__bad(c); q++) {
        mde__moments(n, x + q, (size_t)d, r->shift + q, r->scale + q);
        r->index[q] = q < d - r->noises && r->scale[q] > 0 ? r->used++ : -1;
    }
    r->x = mde__doubles(c, (size_t)n, (size_t)r->used);
    if (!mde__bad(c) && mde__standardise(r, n, x, r->x, r->noise_x) == MDE_OK) {
        for (int j = 0; j < m; j++) {
            mde__moments(n, y + j, (size_t)m, r->target_mean + j, r->target_sd + j);
            for (int i = 0; i < n; i++) {
                double deviation = y[mde__cell(i, m, j)] - r->target_mean[j];
                r->y[mde__cell(j, n, i)] = r->target_sd[j] > 0 ? deviation / r->target_sd[j] : 0;
                r->left_out[mde__cell(i, m, j)] = r->target_mean[j];
            }
        }
        mde__group_runs(r, desc->seed);
        r->state = mde_alloc(c, r->kind->state ? 1 : (size_t)m, r->kind->state + r->kind->target_state);
    }
    if (!mde__bad(c)) {
        r->kind->lay_out(r, desc, &memory);
        r->memory = memory.start = mde__doubles(c, memory.used, 1);
    }
    if (!mde__bad(c)) {
        memory.used = 0;
        r->kind->lay_out(r, desc, &memory);
        if (r->kind->share) r->kind->share(r, x, y);
    }
    if (!mde__bad(c)) return r;
    mde_regressor_free(r);
    return NULL;
}

/* One target to fit, and what it takes. */
typedef struct mde__fit_job { mde_regressor *r; int target, failed; double *work; } mde__fit_job;

static void mde__fit_one(int64_t index, void *user)
{
    mde__fit_job *job = (mde__fit_job *)user + index;
    job->failed = !job->r->kind->fit(job->r, job->target, job->work);
}

/* Fits all targets of some regressors, as many at a time as there are threads, so that workspace is needed for as many
   only. */
static mde_status mde__regressors_finish(mde_context *c, int count, mde_regressor *const *regressors)
{
    mde__fit_job *jobs;
    double *memory = NULL;
    size_t size = 0, targets = 0;
    int found = 0, slots;
    for (int i = 0; i < count; i++) targets += (size_t)regressors[i]->m;
    jobs = (mde__fit_job *)mde_alloc(c, targets + 1, sizeof *jobs);
    for (int i = 0; i < count && jobs; i++) {
        mde_regressor *r = regressors[i];
        size_t need = r->kind->work(r);
        int begun = 0;
        if (need > size) size = need;
        for (int j = 0; j < r->m; j++) {
            if (!(r->target_sd[j] > 0) || (r->kind->joint && begun)) continue;
            begun = 1;
            jobs[found].r = r;
            jobs[found++].target = r->kind->joint ? 0 : j;
        }
    }
    slots = found < c->threads ? found : c->threads;
    if (jobs) memory = mde__doubles(c, size < SIZE_MAX ? size + 1 : size, (size_t)slots);
    for (int first = 0; first < found && memory; first += slots) {
        int now = found - first < slots ? found - first : slots;
        for (int i = 0; i < now; i++) jobs[first + i].work = memory + (size_t)i * (size + 1);
        mde_parallel_for(c, now, mde__fit_one, jobs + first);
    }
    for (int i = 0; i < found && !mde__bad(c); i++) {
        if (!jobs[i].failed) continue;
        mde_fail(c, MDE_NOT_FINITE, "%s, target %d: %s", jobs[i].r->kind->name, jobs[i].target,
                 jobs[i].r->kind->failure);
    }
    MDE__RELEASE(c, memory, jobs);
    return mde_context_status(c);
}

MDEDEF mde_regressor *mde_regressor_fit(mde_context *c, int n, int d, int m, const double *x, const double *y,
                                        const mde_fit_desc *desc)
{
    mde_fit_desc defaults;
    mde_regressor *r;
    if (!c || mde__bad(c)) return NULL;
    memset(&defaults, 0, sizeof defaults);
    r = mde__regressor_prepare(c, n, d, m, x, y, desc ? desc : &defaults);
    if (r && mde__regressors_finish(c, 1, &r)) {
        mde_regressor_free(r);
        return NULL;
    }
    return r;
}

/* Predictions work on blocks of this many inputs. */
#define MDE__PREDICT_BLOCK 64

MDEDEF mde_status mde_regressor_predict(const mde_regressor *r, int n, const double *x, double *mean, double *sd)
{
    mde_context *c = r ? r->context : NULL;
    double *block, *work, *noise_x;
    mde__inputs in;
    int m, largest;
    mde__require(c, n >= 0 && x && mean, "regression: predictions need inputs, and room for the means");
    if (mde__bad(c) || mde__check_table(c, "x", n, r->d, x)) return mde__object_status(c);
    m = r->m;
    largest = n < MDE__PREDICT_BLOCK ? n : MDE__PREDICT_BLOCK;
    block = mde__doubles(c, (size_t)largest, (size_t)r->used);
    noise_x = mde__doubles(c, (size_t)largest, (size_t)r->noises);
    work = mde__doubles(c, 1, r->kind->predict_work ? r->kind->predict_work(r, largest) : 0);
    in.x = block;
    in.noise_x = noise_x;
    for (int first = 0; first < n && !mde__bad(c); first += largest) {
        double *to = mean + mde__cell(first, m, 0), *to_sd = sd ? sd + mde__cell(first, m, 0) : NULL;
        in.rows = n - first < largest ? n - first : largest;
        if (mde__standardise(r, in.rows, x + mde__cell(first, r->d, 0), block, noise_x)) break;
        for (int i = 0; i < in.rows; i++) {
            for (int j = 0; j < m; j++) {
                to[mde__cell(i, m, j)] = r->target_mean[j];
                if (to_sd) to_sd[mde__cell(i, m, j)] = r->target_sd[j];
            }
        }
        r->kind->predict(r, &in, to, to_sd, work);
    }
    MDE__RELEASE(c, work, noise_x, block);
    return mde_context_status(c);
}

MDEDEF mde_status mde_regressor_gradient(const mde_regressor *r, const double *x, double *mean, double *gradient)
{
    mde_context *c = r ? r->context : NULL;
    double *at, *work, *slope, *noise_x;
    if (mde__bad(c)) return mde__object_status(c);
    if (!gradient) return mde_fail(c, MDE_BAD_ARGUMENT, "regression: room for the gradient is needed");
    if (!r->kind->gradient) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "regression: %s are steps and have no gradient", r->kind->name);
    }
    if (mde_regressor_predict(r, 1, x, mean, NULL)) return mde_context_status(c);
    at = mde__doubles(c, 2, (size_t)r->used);
    noise_x = mde__doubles(c, (size_t)r->noises, 1);
    work = mde__doubles(c, 1, r->kind->predict_work ? r->kind->predict_work(r, 1) : 0);
    if (!mde__bad(c) && mde__standardise(r, 1, x, at, noise_x) == MDE_OK) {
        slope = at + r->used;
        for (int j = 0; j < r->m; j++) {
            for (int q = 0; q < r->used; q++) slope[q] = 0;
            if (r->target_sd[j] > 0) r->kind->gradient(r, j, at, slope, work);
            for (int q = 0; q < r->d; q++) {
                gradient[mde__cell(j, r->d, q)] = r->index[q] < 0 ? 0 : slope[r->index[q]] / r->scale[q];
            }
        }
    }
    MDE__RELEASE(c, work, noise_x, at);
    return mde_context_status(c);
}

MDEDEF mde_status mde_regressor_covariance(const mde_regressor *r, int target, int n, const double *x, double *out)
{
    mde_context *c = r ? r->context : NULL;
    double *at, *work;
    mde__require(c, r && r->kind->fit == mde__law_fit_target && target >= 0 && target < r->m && n >= 0 && x && out,
                 "regression: a covariance needs a law, a target, inputs, and room");
    if (mde__bad(c) || mde__check_table(c, "x", n, r->d, x)) return mde__object_status(c);
    at = mde__doubles(c, (size_t)n, (size_t)r->used);
    work = mde__doubles(c, (size_t)n, 2 * (size_t)((const mde__law *)r->state)->parameters);
    for (int i = 0; i < n * n; i++) out[i] = 0;
    if (!mde__bad(c) && r->target_sd[target] > 0 && mde__standardise(r, n, x, at, NULL) == MDE_OK) {
        mde__law_covariance(r, target, n, at, work, out);
    }
    MDE__RELEASE(c, work, at);
    return mde_context_status(c);
}

MDEDEF mde_status mde_regressor_left_out(const mde_regressor *r, double *predicted)
{
    if (!r || !predicted) return MDE_BAD_ARGUMENT;
    if (mde__bad(r->context)) return mde_context_status(r->context);
    memcpy(predicted, r->left_out, (size_t)r->n * (size_t)r->m * sizeof(double));
    return MDE_OK;
}

/* Of the targets as they were given, hence the sds. A joint process has one for all targets together. */
MDEDEF double mde_regressor_log_likelihood(const mde_regressor *r, int target)
{
    double value;
    if (!r || target < 0 || target >= r->m || !r->kind->log_likelihood) return (double)NAN;
    if (!r->kind->joint && !(r->target_sd[target] > 0)) return (double)NAN;
    value = r->kind->log_likelihood(r, target);
    for (int j = 0; j < r->m; j++) {
        if ((r->kind->joint || j == target) && r->target_sd[j] > 0) value -= r->n * mde__log64(r->target_sd[j]);
    }
    return value;
}

/* Infinite for a feature that is constant, and so has no influence. */
MDEDEF double mde_regressor_length_scale(const mde_regressor *r, int target, int feature)
{
    if (!r || !r->kind->length_scale) return (double)NAN;
    if (target < 0 || target >= r->m || feature < 0 || feature >= r->d) return (double)NAN;
    if (r->index[feature] < 0 || !(r->target_sd[target] > 0)) return (double)INFINITY;
    return r->kind->length_scale(r, target, r->index[feature]);
}

/* ======================================================================
   16. EVALUATION AND SEARCH
   ====================================================================== */

/* From tables of runs to a mixture: what a regression sees, one regression a loss or one for all, models by name and
   stacks of them, how well they predict runs that they have not seen, the best mixture, and the runs to make next. */

/* ---- Measures of agreement ---- */

MDEDEF double mde_mse(int n, const double *predicted, const double *truth)
{
    double sum = 0;
    if (n < 1 || !predicted || !truth) return (double)NAN;
    for (int i = 0; i < n; i++) sum += (predicted[i] - truth[i]) * (predicted[i] - truth[i]);
    return sum / n;
}

/* Twice the mean ranks, less the middle: how many are smaller less how many are larger. */
static void mde__centred_ranks(int n, const double *a, mde__keyed *sorted, double *rank)
{
    int to;
    for (int i = 0; i < n; i++) {
        sorted[i].key = a[i];
        sorted[i].run = i;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, mde__by_key);
    for (int from = 0; from < n; from = to) {
        for (to = from; to < n && sorted[to].key == sorted[from].key; to++) {}
        for (int i = from; i < to; i++) rank[sorted[i].run] = (double)from - (n - to);
    }
}

MDEDEF double mde_spearman(mde_context *c, int n, const double *a, const double *b)
{
    double aa = 0, bb = 0, ab = 0, *rank;
    mde__keyed *sorted;
    if (n < 2 || !a || !b || mde__bad(c)) return (double)NAN;
    for (int i = 0; i < n; i++) if (a[i] != a[i] || b[i] != b[i]) return (double)NAN;
    rank = mde__doubles(c, 2, (size_t)n);
    sorted = (mde__keyed *)mde_alloc(c, (size_t)n, sizeof *sorted);
    if (rank && sorted) {
        mde__centred_ranks(n, a, sorted, rank);
        mde__centred_ranks(n, b, sorted, rank + n);
        for (int i = 0; i < n; i++) {
            aa += rank[i] * rank[i];
            bb += rank[n + i] * rank[n + i];
            ab += rank[i] * rank[n + i];
        }
    }
    MDE__RELEASE(c, sorted, rank);
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (double)NAN;
}

/* The mean of values [m] by weights; NULL: equal ones. */
static double mde__weigh(int m, const double *objective, const double *values)
{
    double sum = 0, total = 0;
    for (int j = 0; j < m; j++) {
        double weight = objective ? objective[j] : 1;
        if (weight > 0) sum += weight * values[j];
        total += weight;
    }
    return sum / total;
}

/* ---- Features ---- */

#define MDE__FEATURE_ALL 511
#define MDE__FEATURE_EXPERTS (MDE_FEATURE_MDE | MDE_FEATURE_OWN)
#define MDE__POWER 0.3              /* tuned on RegMix, as is what scarcity adds to the noise */
#define MDE__POWER_OFFSET 1e-6      /* keeps the slope at zero finite */

MDEDEF int mde_feature_count(int set, int k, int m)
{
    int count = 0;
    if (set & MDE_FEATURE_RAW) count += k;
    if (set & MDE_FEATURE_LOG) count += k;
    if (set & MDE_FEATURE_MDE) count += m;
    if (set & MDE_FEATURE_OWN) count += 1;
    if (set & MDE_FEATURE_SQRT) count += k;
    if (set & MDE_FEATURE_PRODUCTS) count += k * (k + 1) / 2;
    if (set & MDE_FEATURE_POWER) count += k;
    if (set & MDE_FEATURE_POOLED) count += 1;
    if (set & MDE_FEATURE_SCARCE) count += k;
    return count;
}

/* What the features of one mixture are made of. */
typedef struct mde__feature_source { int set, k, m, target; } mde__feature_source;

static double mde__power(double w)
{
    return mde__exp64(MDE__POWER * mde__log64(w + MDE__POWER_OFFSET));
}

/* Features of mixture w [k] with the experts' losses mde [m] and the loss by the pooled law. */
static void mde__feature_row(const mde__feature_source *f, const double *w, const double *mde, double pooled,
                             double *out)
{
    int k = f->k, set = f->set;
    if (set & MDE_FEATURE_RAW) for (int j = 0; j < k; j++) *out++ = w[j];
    if (set & MDE_FEATURE_LOG) for (int j = 0; j < k; j++) *out++ = mde__log64(w[j] + MDE__LOG_OFFSET);
    if (set & MDE_FEATURE_MDE) for (int j = 0; j < f->m; j++) *out++ = mde[j];
    if (set & MDE_FEATURE_OWN) *out++ = mde[f->target];
    if (set & MDE_FEATURE_SQRT) for (int j = 0; j < k; j++) *out++ = sqrt(w[j]);
    for (int j = 0; (set & MDE_FEATURE_PRODUCTS) && j < k; j++) {
        double log_j = mde__log64(w[j] + MDE__LOG_OFFSET);
        for (int l = 0; l <= j; l++) *out++ = log_j * mde__log64(w[l] + MDE__LOG_OFFSET);
    }
    if (set & MDE_FEATURE_POWER) for (int j = 0; j < k; j++) *out++ = mde__power(w[j]);
    if (set & MDE_FEATURE_POOLED) *out++ = pooled;
    if (set & MDE_FEATURE_SCARCE) for (int j = 0; j < k; j++) *out++ = mde__scarcity(w[j]);
}

/* Adds to gradient [k] the adjoints [features] of the features times their derivatives; slopes [m, k] are those of the
   experts' losses, along [k] that of the pooled law. Inputs of the noise have none. */
static void mde__feature_vjp(const mde__feature_source *f, const double *w, const double *slopes, const double *along,
                             const double *adjoint, double *gradient)
{
    int k = f->k, set = f->set, j;
    if (set & MDE_FEATURE_RAW) for (j = 0; j < k; j++) gradient[j] += *adjoint++;
    if (set & MDE_FEATURE_LOG) for (j = 0; j < k; j++) gradient[j] += *adjoint++ / (w[j] + MDE__LOG_OFFSET);
    for (int l = 0; (set & MDE_FEATURE_MDE) && l < f->m; l++, adjoint++) {
        for (j = 0; j < k; j++) gradient[j] += *adjoint * slopes[mde__cell(l, k, j)];
    }
    if (set & MDE_FEATURE_OWN) {
        for (j = 0; j < k; j++) gradient[j] += *adjoint * slopes[mde__cell(f->target, k, j)];
        adjoint++;
    }
    if (set & MDE_FEATURE_SQRT) {
        for (j = 0; j < k; j++) {
            gradient[j] += *adjoint++ * 0.5 / sqrt(w[j] > MDE__POWER_OFFSET ? w[j] : MDE__POWER_OFFSET);
        }
    }
    for (j = 0; (set & MDE_FEATURE_PRODUCTS) && j < k; j++) {
        double at_j = w[j] + MDE__LOG_OFFSET, log_j = mde__log64(at_j);
        for (int l = 0; l <= j; l++, adjoint++) {
            double at_l = w[l] + MDE__LOG_OFFSET;
            gradient[j] += *adjoint * mde__log64(at_l) / at_j;
            gradient[l] += *adjoint * log_j / at_l;
        }
    }
    if (set & MDE_FEATURE_POWER) {
        for (j = 0; j < k; j++) gradient[j] += *adjoint++ * MDE__POWER * mde__power(w[j]) / (w[j] + MDE__POWER_OFFSET);
    }
    if (set & MDE_FEATURE_POOLED) for (j = 0; j < k; j++) gradient[j] += *adjoint * along[j];
}

MDEDEF mde_status mde_features(mde_context *c, int set, int n, int k, const double *weights, int m, const double *mde,
                               int target, double *out)
{
    const mde__feature_source f = { set, k, m, target };
    int i, width = mde_feature_count(set, k, m);
    mde__require(c, set > 0 && !(set & ~MDE__FEATURE_ALL), "features: there is no set %d; expected a sum of "
                 "MDE_FEATURE_*", set);
    mde__require(c, !(set & MDE_FEATURE_POOLED), "features: pooled data come from a law that a surrogate fits first");
    mde__require(c, n >= 0 && k >= 1 && weights && out, "features: %d mixtures of %d weights", n, k);
    mde__require(c, !(set & MDE__FEATURE_EXPERTS) || (mde && m >= 1), "features: the mixture losses of the experts are "
                 "needed");
    mde__require(c, !(set & MDE_FEATURE_OWN) || (target >= 0 && target < m), "features: there is no target %d among %d",
                 target, m);
    if (mde__bad(c) || mde__check_mixtures(c, "features", n, k, NULL, 0, weights)) return mde_context_status(c);
    for (i = 0; i < n; i++) {
        mde__feature_row(&f, weights + mde__cell(i, k, 0), mde ? mde + mde__cell(i, m, 0) : NULL, 0,
                         out + mde__cell(i, width, 0));
    }
    return MDE_OK;
}

/* ---- Surrogates ---- */

/* One regressor for all targets; or one a target, when each sees its own expert loss or pooled data, or when losses are
   missing. The joint process has one set of inputs for all targets, so there the own losses become all of them. A stack
   has members instead. */
struct mde_surrogate {
    mde_context *context;
    const mde_experts *experts;
    int features, k, m, n;
    int count;                      /* of regressors: 1 or m; target l of regressor j is number j + l of all */
    mde_regressor **regressors;
    mde_surrogate *own_law;
    const mde_surrogate *law;       /* the pooled law whose losses are a feature: the own one, or a stack's; or NULL */
    double *left_out;               /* [n, m] */
    int members;
    mde_surrogate **member;
    const char **member_names;
    double *share;                  /* [m, members] */
    double *lowest, *highest;       /* [m] as far as a member's prediction counts */
    double spread;                  /* factor of the predicted sds */
};

MDEDEF void mde_surrogate_free(mde_surrogate *s)
{
    if (!s) return;
    for (int i = 0; s->regressors && i < s->count; i++) mde_regressor_free(s->regressors[i]);
    mde_surrogate_free(s->own_law);
    for (int i = 0; s->member && i < s->members; i++) mde_surrogate_free(s->member[i]);
    MDE__RELEASE(s->context, s->regressors, s->member, s->member_names, s->share, s->lowest, s->left_out, s);
}

/* The experts' losses [n, m] of n mixtures where the features need them; NULL otherwise and on error. */
static double *mde__surrogate_losses(const mde_surrogate *s, int n, const double *weights)
{
    double *mde;
    if (!(s->features & MDE__FEATURE_EXPERTS)) return NULL;
    mde = mde__doubles(s->context, (size_t)n, (size_t)s->m);
    if (mde) mde_mixture_losses(s->experts, n, weights, mde);
    return mde;
}

/* Features when the user asked for none; for a stack, which has its own, none. */
static int mde__default_features(const mde_surrogate_desc *desc)
{
    const mde__regressor_kind *kind = mde__kind(desc->fit.model);
    return kind ? kind->features | (desc->experts ? kind->expert_features : 0) : 0;
}

static void mde__surrogate_check(const mde_surrogate *s, const mde_surrogate_desc *desc)
{
    mde_context *c = s->context;
    const mde__regressor_kind *kind = mde__kind(desc->fit.model);
    mde__require(c, kind != NULL, "surrogate: there is no model %d", (int)desc->fit.model);
    if (mde__bad(c)) return;
    mde__require(c, kind->features != 0, "surrogate: a %s takes sizes and tokens, too; it is of regressors only",
                 kind->name);
    mde__require(c, s->features > 0 && !(s->features & ~MDE__FEATURE_ALL), "surrogate: there is no set %d of features; "
                 "expected a sum of MDE_FEATURE_*", s->features);
    mde__require(c, !(s->features & MDE_FEATURE_SCARCE) || kind->noise_inputs, "surrogate: scarcity is an input of "
                 "noise, which only a gaussian process has");
    mde__require(c, !(s->features & MDE_FEATURE_POOLED) || !kind->joint, "surrogate: pooled data differ by target; a "
                 "multi-task process has one input for all");
    if (!(s->features & MDE__FEATURE_EXPERTS)) return;
    if (!desc->experts) {
        mde_fail(c, MDE_BAD_ARGUMENT, "surrogate: MDE features need experts");
    } else if (mde_experts_count(desc->experts) != s->k) {
        mde_fail(c, MDE_BAD_SHAPE, "surrogate: %d experts for mixtures of %d weights",
                 mde_experts_count(desc->experts), s->k);
    } else if (mde_experts_validations(desc->experts) != s->m) {
        mde_fail(c, MDE_BAD_SHAPE, "surrogate: the experts have %d validation texts for %d losses a run",
                 mde_experts_validations(desc->experts), s->m);
    }
}

/* Numbers of the runs that have target j, or all targets when j < 0; returns how many. */
static int mde__complete_runs(int n, int m, const double *losses, int target, int *rows)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        int complete = 1;
        for (int j = target < 0 ? 0 : target; j < (target < 0 ? m : target + 1); j++) {
            if (losses[mde__cell(i, m, j)] != losses[mde__cell(i, m, j)]) complete = 0;
        }
        if (complete) rows[count++] = i;
    }
    return count;
}

/* A run's loss y by the law without it. A law that finds nothing predicts the mean of the others, from which the run's
   own loss could be read off: so it is moved by what the fold that was left out lowered that mean. */
static double mde__pooled_feature(const mde_surrogate *law, int target, const double *y, int run)
{
    const mde_regressor *r = law->regressors[law->count == 1 ? 0 : target];
    int column = law->count == 1 ? target : 0, folded = ((const mde__pools *)r->state)[column].folded, i, count = 0;
    double all = 0, others = 0;
    for (i = 0; i < r->n; i++) {
        all += y[i] / r->n;
        if (folded ? r->fold[i] == r->fold[run] : i == run) continue;
        others += y[i];
        count++;
    }
    return r->left_out[mde__cell(run, r->m, column)] + all - others / count;
}

/* Prepares regressor number j on the runs it can use, whose numbers rows [n] then holds, repeats by that of the first
   one. */
static void mde__surrogate_prepare(mde_surrogate *s, const mde_fit_desc *desc, int j, const double *weights,
                                   const double *mde, const double *losses, int *rows)
{
    mde_context *c = s->context;
    int n = s->n, k = s->k, m = s->m, each = m / s->count, count, *first, i, l;
    int width = mde_feature_count(s->features, k, m);
    double *x, *y, *w;
    mde_fit_desc fit = *desc;
    const mde__feature_source f = { s->features, k, m, j };
    count = mde__complete_runs(n, m, losses, s->count == 1 ? -1 : j, rows);
    if (count < 3) {
        if (s->count == 1) mde_fail(c, MDE_BAD_ARGUMENT, "surrogate: %d runs have all losses; 3 are needed", count);
        else mde_fail(c, MDE_BAD_ARGUMENT, "surrogate: loss %d is there in %d runs; 3 are needed", j, count);
        return;
    }
    if (s->features & MDE_FEATURE_SCARCE) fit.noises = k;
    x = mde__doubles(c, (size_t)count, (size_t)width);
    y = mde__doubles(c, (size_t)count, (size_t)each);
    w = mde__doubles(c, (size_t)count, (size_t)k);
    first = (int *)mde_alloc(c, (size_t)count, sizeof *first);
    for (i = 0; i < count && !mde__bad(c); i++) {
        for (l = 0; l < each; l++) y[mde__cell(i, each, l)] = losses[mde__cell(rows[i], m, j + l)];
        mde__copy_row(k, weights, rows[i], w, i);
    }
    if (!mde__bad(c)) mde_first_repeats(c, count, k, w, first);
    for (i = 0; i < count && !mde__bad(c); i++) {
        if (first[i] == i) continue;
        /* to the bit, so that regressors know it for a repeat */
        mde__copy_row(k, w, first[i], w, i);
        rows[i] = rows[first[i]];
    }
    mde_release(c, first);
    for (i = 0; i < count && !mde__bad(c); i++) {
        mde__feature_row(&f, w + mde__cell(i, k, 0), mde ? mde + mde__cell(rows[i], m, 0) : NULL,
                         s->law ? mde__pooled_feature(s->law, j, y, i) : 0, x + mde__cell(i, width, 0));
    }
    if (!mde__bad(c)) s->regressors[j] = mde__regressor_prepare(c, count, width, each, x, y, &fit);
    MDE__RELEASE(c, w, y, x);
}

static void mde__gather_left_out(mde_surrogate *s, const double *losses, int *rows)
{
    int each = s->m / s->count;
    for (int j = 0; j < s->count; j++) {
        int count = mde__complete_runs(s->n, s->m, losses, s->count == 1 ? -1 : j, rows);
        for (int i = 0; i < count; i++) {
            for (int l = 0; l < each; l++) {
                s->left_out[mde__cell(rows[i], s->m, j + l)] = s->regressors[j]->left_out[mde__cell(i, each, l)];
            }
        }
    }
}

static void mde__stack_fit(mde_surrogate *s, const mde_surrogate_desc *desc, const double *weights,
                           const double *losses);

/* One model, no stack: its regressors side by side. */
static void mde__single_fit(mde_surrogate *s, const mde_surrogate_desc *desc, const double *weights,
                            const double *losses)
{
    mde_context *c = s->context;
    const mde__regressor_kind *kind = mde__kind(desc->fit.model);
    int *rows = (int *)mde_alloc(c, (size_t)s->n, sizeof(int)), j, missing;
    double *mde = NULL;
    if (!rows) return;
    missing = mde__complete_runs(s->n, s->m, losses, -1, rows) < s->n;
    if (kind && kind->joint && (s->features & MDE_FEATURE_OWN)) {
        s->features = (s->features & ~MDE_FEATURE_OWN) | MDE_FEATURE_MDE;
    }
    mde__surrogate_check(s, desc);
    if (!mde__bad(c)) {
        s->count = ((s->features & (MDE_FEATURE_OWN | MDE_FEATURE_POOLED)) || missing) && !kind->joint ? s->m : 1;
        s->regressors = (mde_regressor **)mde_alloc(c, (size_t)s->count, sizeof(mde_regressor *));
    }
    if (!(s->features & MDE_FEATURE_POOLED)) s->law = NULL;
    else if (!mde__bad(c) && !s->law) {
        mde_surrogate_desc law;
        memset(&law, 0, sizeof law);
        law.fit.model = MDE_POOLED_LAW;
        law.fit.seed = desc->fit.seed;
        s->law = s->own_law = mde_surrogate_fit(c, s->n, s->k, s->m, weights, losses, &law);
    }
    if (!mde__bad(c)) mde = mde__surrogate_losses(s, s->n, weights);
    for (j = 0; j < s->count && !mde__bad(c); j++) mde__surrogate_prepare(s, &desc->fit, j, weights, mde, losses, rows);
    if (!mde__bad(c)) mde__regressors_finish(c, s->count, s->regressors);
    /* where a run has no loss it was not seen: its prediction is one without it */
    if (!mde__bad(c) && missing) mde_surrogate_predict(s, s->n, weights, s->left_out, NULL);
    if (!mde__bad(c)) mde__gather_left_out(s, losses, rows);
    MDE__RELEASE(c, mde, rows);
}

/* Variance of a target over the runs that have it; 0 when it is constant to rounding. */
static double mde__target_variance(int n, int m, const double *losses, int target)
{
    double mean = 0, squares = 0, variance;
    int count = 0;
    for (int i = 0; i < n; i++) {
        double y = losses[mde__cell(i, m, target)];
        if (y != y) continue;
        mean += y;
        count++;
    }
    mean /= count > 0 ? count : 1;
    for (int i = 0; i < n; i++) {
        double y = losses[mde__cell(i, m, target)];
        if (y == y) squares += (y - mean) * (y - mean);
    }
    variance = count > 0 ? squares / count : 0;
    return variance > 1e-24 * (1.0 + mean * mean) ? variance : 0;
}

/* Mean over the losses of the squared error of runs left out, in variances of the loss. */
static double mde__left_out_error(const mde_surrogate *s, const double *losses)
{
    double error = 0;
    for (int j = 0; j < s->m; j++) {
        double squares = 0, variance = mde__target_variance(s->n, s->m, losses, j);
        int count = 0;
        for (int i = 0; i < s->n; i++) {
            double residual = s->left_out[mde__cell(i, s->m, j)] - losses[mde__cell(i, s->m, j)];
            if (residual != residual) continue;
            squares += residual * residual;
            count++;
        }
        if (variance > 0) error += squares / count / variance / s->m;
    }
    return error;
}

static mde_surrogate *mde__fit_with_law(const mde_surrogate *law, mde_context *c, int n, int k, int m,
                                        const double *weights, const double *losses, const mde_surrogate_desc *desc);

#define MDE__FORM_RUNS 10       /* with fewer, the form of the inputs is not chosen */
#define MDE__FORM_BETTER 0.8    /* of the usual form's error */

/* MDE_FEATURE_CHOSEN in the set of features. */
static mde_surrogate *mde__fit_either_form(const mde_surrogate *law, mde_context *c, int n, int k, int m,
                                           const double *weights, const double *losses, mde_surrogate_desc form,
                                           int set)
{
    mde_surrogate *s, *other = NULL;
    set &= ~MDE_FEATURE_CHOSEN;
    form.features = set | MDE_FEATURE_LOG | MDE_FEATURE_POWER;
    s = mde__fit_with_law(law, c, n, k, m, weights, losses, &form);
    if (s && n >= MDE__FORM_RUNS && n <= MDE__GP_SAMPLE) {
        form.features = set | MDE_FEATURE_RAW | MDE_FEATURE_SQRT;
        other = mde__fit_with_law(law, c, n, k, m, weights, losses, &form);
    }
    if (other && mde__left_out_error(other, losses) < MDE__FORM_BETTER * mde__left_out_error(s, losses)) {
        mde_surrogate *worse = s;
        s = other;
        other = worse;
    }
    mde_surrogate_free(other);
    if (!mde__bad(c)) return s;
    mde_surrogate_free(s);
    return NULL;
}

/* law: a stack's, fitted to the same runs, for the members that its losses are a feature of; or NULL. */
static mde_surrogate *mde__fit_with_law(const mde_surrogate *law, mde_context *c, int n, int k, int m,
                                        const double *weights, const double *losses, const mde_surrogate_desc *desc)
{
    mde_surrogate_desc defaults;
    mde_surrogate *s;
    int set;
    if (!c || mde__bad(c)) return NULL;
    memset(&defaults, 0, sizeof defaults);
    if (!desc) desc = &defaults;
    set = desc->features ? desc->features : mde__default_features(desc);
    mde__require(c, n >= 2 && k >= 1 && m >= 1 && weights && losses, "surrogate: %d runs of %d weights and %d losses; "
                 "at least 2, 1 and 1 are needed", n, k, m);
    if (mde__bad(c) || mde__check_mixtures(c, "surrogate", n, k, NULL, 0, weights)) return NULL;
    if (desc->fit.model == MDE_AUTO) {
        mde_evaluation *e = mde_evaluate(c, n, k, m, weights, losses, desc, NULL);
        s = mde_evaluation_fit(e, weights, losses);
        mde_evaluation_free(e);
        return s;
    }
    if ((set & MDE_FEATURE_CHOSEN) && desc->fit.model != MDE_STACK) {
        return mde__fit_either_form(law, c, n, k, m, weights, losses, *desc, set);
    }
    s = (mde_surrogate *)mde_alloc(c, 1, sizeof(mde_surrogate));
    if (!s) return NULL;
    s->context = c;
    s->experts = desc->experts && desc->experts->sample ? desc->experts->sample : desc->experts;
    s->features = set;
    s->k = k;
    s->m = m;
    s->n = n;
    s->law = law;
    s->spread = 1;
    s->left_out = mde__doubles(c, (size_t)n, (size_t)m);
    if (!mde__bad(c)) (desc->fit.model == MDE_STACK ? mde__stack_fit : mde__single_fit)(s, desc, weights, losses);
    if (!mde__bad(c)) return s;
    mde_surrogate_free(s);
    return NULL;
}

/* Whether runs are too many for a model that is, or has, a Gaussian process. */
static mde_status mde__check_cube(mde_context *c, int n, mde_model model)
{
    int cubic = model == MDE_GP || model == MDE_MULTITASK_GP || model == MDE_STACK || model == MDE_AUTO;
    if (!cubic || n <= MDE_MAX_GP_RUNS) return MDE_OK;
    return mde_fail(c, MDE_BAD_ARGUMENT, "%d runs: a Gaussian process, as a stack has them, too, takes at most %d, as "
                    "its time grows with their cube; name a model without one (ridge, products, law, pooled, trees) or "
                    "give fewer runs", n, MDE_MAX_GP_RUNS);
}

MDEDEF mde_surrogate *mde_surrogate_fit(mde_context *c, int n, int k, int m, const double *weights,
                                        const double *losses, const mde_surrogate_desc *desc)
{
    if (!mde__bad(c) && desc && mde__check_cube(c, n, desc->fit.model)) return NULL;
    return mde__fit_with_law(NULL, c, n, k, m, weights, losses, desc);
}

/* The largest share of a stack's member in any target. */
static double mde__largest_share(const mde_surrogate *s, int member)
{
    double largest = 0;
    for (int j = 0; j < s->m; j++) {
        double share = s->share[mde__cell(j, s->members, member)];
        if (share > largest) largest = share;
    }
    return largest;
}

static mde_status mde__stack_predict(const mde_surrogate *s, int n, const double *weights, double *mean, double *sd)
{
    mde_context *c = s->context;
    size_t count = (size_t)n * (size_t)s->m;
    double *each = mde__doubles(c, count, 2);
    memset(mean, 0, count * sizeof(double));
    if (sd) memset(sd, 0, count * sizeof(double));
    for (int q = 0; q < s->members && each; q++) {
        if (!(mde__largest_share(s, q) > 0)) continue;
        if (mde_surrogate_predict(s->member[q], n, weights, each, sd ? each + count : NULL)) break;
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < s->m; j++) {
                double share = s->share[mde__cell(j, s->members, q)];
                mean[mde__cell(i, s->m, j)] +=
                    share * mde__clamp(each[mde__cell(i, s->m, j)], s->lowest[j], s->highest[j]);
                if (sd) sd[mde__cell(i, s->m, j)] += s->spread * share * each[count + mde__cell(i, s->m, j)];
            }
        }
    }
    mde_release(c, each);
    return mde_context_status(c);
}

MDEDEF mde_status mde_surrogate_predict(const mde_surrogate *s, int n, const double *weights, double *mean, double *sd)
{
    mde_context *c = s ? s->context : NULL;
    double *mde, *x = NULL, *out = NULL, *pooled = NULL;
    int width, each;
    mde__require(c, n >= 0 && weights && mean, "surrogate: predictions need mixtures, and room for the means");
    if (mde__bad(c) || mde__check_mixtures(c, "surrogate", n, s->k, NULL, 0, weights)) return mde__object_status(c);
    if (s->members > 0) return mde__stack_predict(s, n, weights, mean, sd);
    width = mde_feature_count(s->features, s->k, s->m);
    each = s->m / s->count;
    mde = mde__surrogate_losses(s, n, weights);
    if (!mde__bad(c)) {
        x = mde__doubles(c, (size_t)n, (size_t)width);
        out = mde__doubles(c, 2 * (size_t)n, (size_t)each);
        if (s->law) pooled = mde__doubles(c, (size_t)n, (size_t)s->m);
    }
    if (pooled) mde_surrogate_predict(s->law, n, weights, pooled, NULL);
    for (int j = 0; j < s->count && !mde__bad(c); j++) {
        double *out_sd = sd ? out + (size_t)n * (size_t)each : NULL;
        const mde__feature_source f = { s->features, s->k, s->m, j };
        for (int i = 0; i < n; i++) {
            mde__feature_row(&f, weights + mde__cell(i, s->k, 0), mde ? mde + mde__cell(i, s->m, 0) : NULL,
                             pooled ? pooled[mde__cell(i, s->m, j)] : 0, x + mde__cell(i, width, 0));
        }
        if (mde_regressor_predict(s->regressors[j], n, x, out, out_sd)) break;
        for (int i = 0; i < n * each; i++) {
            size_t to = mde__cell(i / each, s->m, j + i % each);
            mean[to] = out[i];
            if (sd) sd[to] = s->spread * out_sd[i];
        }
    }
    MDE__RELEASE(c, pooled, out, x, mde);
    return mde_context_status(c);
}

MDEDEF int mde_surrogate_smooth(const mde_surrogate *s)
{
    int q;
    if (!s) return 0;
    if (s->members == 0) return s->regressors[0]->kind->gradient != NULL;
    for (q = 0; q < s->members; q++) if (mde__largest_share(s, q) > 0 && !mde_surrogate_smooth(s->member[q])) return 0;
    return 1;
}

static mde_status mde__stack_gradient(const mde_surrogate *s, const double *weights, double *mean, double *gradient)
{
    mde_context *c = s->context;
    int k = s->k, m = s->m;
    double *each = mde__doubles(c, (size_t)m, (size_t)k + 1);
    memset(mean, 0, (size_t)m * sizeof(double));
    memset(gradient, 0, (size_t)m * (size_t)k * sizeof(double));
    for (int q = 0; q < s->members && each; q++) {
        if (!(mde__largest_share(s, q) > 0)) continue;
        if (mde_surrogate_gradient(s->member[q], weights, each, each + m)) break;
        for (int j = 0; j < m; j++) {
            double share = s->share[mde__cell(j, s->members, q)];
            mean[j] += share * each[j];
            for (int l = 0; l < k; l++) gradient[mde__cell(j, k, l)] += share * each[m + j * k + l];
        }
    }
    mde_release(c, each);
    return mde_context_status(c);
}

MDEDEF mde_status mde_surrogate_gradient(const mde_surrogate *s, const double *weights, double *mean, double *gradient)
{
    mde_context *c = s ? s->context : NULL;
    double *mde = NULL, *slopes = NULL, *x = NULL, *adjoint = NULL, *out = NULL, *pooled = NULL, *along = NULL;
    int k, m, width, each;
    mde__require(c, weights && mean && gradient, "surrogate: a gradient needs a mixture, and room for mean and "
                 "gradient");
    if (mde__bad(c) || mde__check_mixtures(c, "surrogate", 1, s->k, NULL, 0, weights)) return mde__object_status(c);
    k = s->k;
    m = s->m;
    if (s->members > 0) return mde__stack_gradient(s, weights, mean, gradient);
    width = mde_feature_count(s->features, k, m);
    each = m / s->count;
    if (s->features & MDE__FEATURE_EXPERTS) {
        mde = mde__doubles(c, (size_t)m, 1);
        slopes = mde__doubles(c, (size_t)m, (size_t)k);
        for (int j = 0; j < m && !mde__bad(c); j++) {
            mde[j] = mde_validation_loss(s->experts, j, weights, slopes + mde__cell(j, k, 0));
        }
    }
    if (s->law) {
        pooled = mde__doubles(c, (size_t)m, (size_t)k + 1);
        along = pooled ? pooled + m : NULL;
        if (pooled) mde_surrogate_gradient(s->law, weights, pooled, along);
    }
    x = mde__doubles(c, 1, (size_t)width);
    adjoint = mde__doubles(c, (size_t)each, (size_t)width);
    out = mde__doubles(c, (size_t)each, 1);
    for (int j = 0; j < s->count && !mde__bad(c); j++) {
        const mde__feature_source f = { s->features, k, m, j };
        mde__feature_row(&f, weights, mde, pooled ? pooled[j] : 0, x);
        if (mde_regressor_gradient(s->regressors[j], x, out, adjoint)) break;
        for (int l = 0; l < each; l++) {
            double *to = gradient + mde__cell(j + l, k, 0);
            mean[j + l] = out[l];
            memset(to, 0, (size_t)k * sizeof(double));
            mde__feature_vjp(&f, weights, slopes, along ? along + mde__cell(j, k, 0) : NULL,
                             adjoint + mde__cell(l, width, 0), to);
        }
    }
    MDE__RELEASE(c, out, adjoint, x, pooled, slopes, mde);
    return mde_context_status(c);
}

MDEDEF mde_status mde_surrogate_left_out(const mde_surrogate *s, double *predicted)
{
    if (!s || !predicted) return MDE_BAD_ARGUMENT;
    if (mde__bad(s->context)) return mde_context_status(s->context);
    memcpy(predicted, s->left_out, (size_t)s->n * (size_t)s->m * sizeof(double));
    return MDE_OK;
}

/* ---- Models by name ---- */

/* One recipe a name. The stack is made of the members, in order from the stiffest, which is best with few runs, to the
   loosest; MDE_AUTO chooses among all from the stack to the last before itself. features 0: the model's own. */
static const mde_recipe mde__recipes[] = {
    { "stack", "stack", MDE_STACK, 0, 0 },
    { "pooled", "pooled law", MDE_POOLED_LAW, 0, 1 },
    { "law", "mixing law", MDE_MIXING_LAW, 0, 1 },
    { "products", "ridge on logs and products", MDE_RIDGE, MDE_FEATURE_LOG | MDE_FEATURE_PRODUCTS, 1 },
    { "gp", "GP", MDE_GP, 0, 1 },
    { "gp-pooled", "GP with pooled data", MDE_GP, MDE_FEATURE_CHOSEN | MDE_FEATURE_SCARCE | MDE_FEATURE_POOLED, 1 },
    { "trees", "trees", MDE_TREES, 0, 1 },
    { "ridge", "ridge on logs", MDE_RIDGE, 0, 0 },
    { "mtgp", "multi-task GP", MDE_MULTITASK_GP, 0, 0 },
    { "auto", "auto", MDE_AUTO, 0, 0 }
};
#define MDE__MEMBERS 6          /* of the stack, from number 1 */
/* Of MDE_AUTO, from number 0; the last, which takes longest, may be left out. */
#define MDE__CANDIDATES ((int)(sizeof mde__recipes / sizeof *mde__recipes) - 1)

MDEDEF const mde_recipe *mde_recipe_row(int index)
{
    int count = (int)(sizeof mde__recipes / sizeof *mde__recipes);
    return index >= 0 && index < count ? mde__recipes + index : NULL;
}

static void mde__use_recipe(const mde_recipe *recipe, mde_surrogate_desc *desc)
{
    desc->fit.model = recipe->model;
    desc->features = recipe->features;
    if (recipe->features && desc->experts) desc->features |= mde__kind(recipe->model)->expert_features;
}

MDEDEF mde_status mde_surrogate_recipe(mde_context *c, const char *name, mde_surrogate_desc *desc)
{
    char known[200] = "";
    const mde_recipe *recipe;
    if (!c || !desc) return MDE_BAD_ARGUMENT;
    if (mde__bad(c)) return mde_context_status(c);
    for (int i = 0; (recipe = mde_recipe_row(i)) != NULL; i++) {
        if (name && strcmp(name, recipe->name) == 0) {
            mde__use_recipe(recipe, desc);
            return MDE_OK;
        }
        strncat(known, i > 0 ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, recipe->name, sizeof known - strlen(known) - 1);
    }
    return mde_fail(c, MDE_BAD_ARGUMENT, "model: \"%s\" is none of %s", name ? name : "", known);
}

/* What a stack or MDE_AUTO makes a candidate of: the recipe, with the seed, restarts and experts of its own. */
static void mde__recipe_desc(const mde_recipe *recipe, const mde_surrogate_desc *desc, mde_surrogate_desc *out)
{
    memset(out, 0, sizeof *out);
    out->fit.seed = desc->fit.seed;
    out->fit.restarts = desc->fit.restarts;
    out->experts = desc->experts;
    mde__use_recipe(recipe, out);
}

/* ---- Stack ---- */

/* A prediction is the mean of the members' by shares >= 0 that sum to 1, those with the smallest squared error on the
   runs left out, where the errors of all targets count, too, as far as the target's own are few. Laws and products run
   away far from the runs, so a member's prediction counts to one range of the losses beyond them, no further. The
   constants were tuned on RegMix. */

#define MDE__SHARE_RUNS 30.0    /* as many own mixtures weigh as much as all targets together */
#define MDE__FEW_MIXTURES 10    /* with fewer, errors choose by luck: a stack is then of Gaussian
                                   processes alone */
#define MDE__SMALLEST_SHARE 0.02    /* less is left out */
#define MDE__STEPS_SHARE 0.2    /* trees are left out with less: they cost the stack its gradient */
#define MDE__LARGEST_ERROR 2.0  /* a member with more than so many times the smallest error of a member is left out:
                                   with few runs it may cancel errors of others by chance, and be far off elsewhere */

/* Shares [count] of the members in use that make share' q share smallest. */
static void mde__smallest_error(int count, const double *q, const int *use, double *share)
{
    double h[MDE__MEMBERS * MDE__MEMBERS], gradient[MDE__MEMBERS], low[MDE__MEMBERS], high[MDE__MEMBERS];
    int used = 0;
    for (int i = 0; i < count; i++) used += use[i];
    for (int i = 0; i < count; i++) {
        low[i] = 0;
        high[i] = use[i];
        share[i] = use[i] ? 1.0 / used : 0;
    }
    for (int i = 0; i < count; i++) {
        gradient[i] = 0;
        for (int j = 0; j < count; j++) {
            h[i * count + j] = 2.0 * q[i * count + j];
            gradient[i] += h[i * count + j] * share[j];
        }
    }
    mde__simplex_quadratic(count, h, low, high, share, gradient);
}

static void mde__stack_shares(mde_surrogate *s, const double *weights, const double *losses)
{
    mde_context *c = s->context;
    int n = s->n, m = s->m, count = s->members, use[MDE__MEMBERS] = { 0 }, best = -1, mixtures = 0, i, j, a, b;
    size_t square = (size_t)count * (size_t)count;
    double *errors = mde__doubles(c, (size_t)m + 1, square), *all = errors ? errors + (size_t)m * square : NULL;
    int *first = (int *)mde_alloc(c, (size_t)n, sizeof *first);
    for (j = 0; j < m && errors; j++) {
        double *own = errors + (size_t)j * square, trace = 0;
        for (i = 0; i < n; i++) {
            double y = losses[mde__cell(i, m, j)];
            if (y != y) continue;
            for (a = 0; a < count; a++) {
                double residual = s->member[a]->left_out[mde__cell(i, m, j)] - y;
                for (b = 0; b < count; b++) {
                    own[a * count + b] += residual * (s->member[b]->left_out[mde__cell(i, m, j)] - y);
                }
            }
        }
        for (a = 0; a < count; a++) trace += own[a * count + a];
        for (i = 0; i < (int)square; i++) {
            if (trace > 0) own[i] /= trace;
            all[i] += own[i] / m;
        }
    }
    if (first) mixtures = mde_first_repeats(c, n, s->k, weights, first);
    mde_release(c, first);
    for (a = 0; a < count; a++) use[a] = mixtures >= MDE__FEW_MIXTURES || mde__recipes[1 + a].model == MDE_GP;
    for (a = 0; all && a < count; a++) {
        if (use[a] && (best < 0 || all[a * count + a] < all[best * count + best])) best = a;
    }
    for (a = 0; all && a < count; a++) {
        if (all[a * count + a] > MDE__LARGEST_ERROR * all[best * count + best]) use[a] = 0;
    }
    if (errors) mde__smallest_error(count, all, use, s->share);
    for (a = 0; errors && a < count; a++) {
        if (s->share[a] < MDE__STEPS_SHARE && !mde_surrogate_smooth(s->member[a])) use[a] = 0;
    }
    for (j = 0; j < m && errors; j++) {
        double *own = errors + (size_t)j * square, *share = s->share + (size_t)j * (size_t)count, sum = 0;
        double weight = mixtures / (mixtures + MDE__SHARE_RUNS);
        for (i = 0; i < (int)square; i++) own[i] = weight * own[i] + (1.0 - weight) * all[i];
        mde__smallest_error(count, own, use, share);
        for (a = 0; a < count; a++) {
            if (share[a] < MDE__SMALLEST_SHARE) share[a] = 0;
            sum += share[a];
        }
        for (a = 0; a < count; a++) share[a] /= sum;
    }
    mde_release(c, errors);
}

static void mde__stack_fit(mde_surrogate *s, const mde_surrogate_desc *desc, const double *weights,
                           const double *losses)
{
    mde_context *c = s->context;
    s->member = (mde_surrogate **)mde_alloc(c, MDE__MEMBERS, sizeof *s->member);
    s->member_names = (const char **)mde_alloc(c, MDE__MEMBERS, sizeof *s->member_names);
    s->share = mde__doubles(c, (size_t)s->m, MDE__MEMBERS);
    s->lowest = mde__doubles(c, 2, (size_t)s->m);
    if (mde__bad(c)) return;
    s->highest = s->lowest + s->m;
    for (int j = 0; j < s->m; j++) {
        double low = (double)INFINITY, high = -(double)INFINITY;
        for (int i = 0; i < s->n; i++) {
            double y = losses[mde__cell(i, s->m, j)];
            if (y < low) low = y;
            if (y > high) high = y;
        }
        s->lowest[j] = low - (high - low);
        s->highest[j] = high + (high - low);
    }
    for (int q = 0; q < MDE__MEMBERS && !mde__bad(c); q++) {
        mde_surrogate_desc each;
        mde__recipe_desc(&mde__recipes[1 + q], desc, &each);
        s->member_names[q] = mde__recipes[1 + q].title;
        /* the pooled law is member 0 */
        s->member[q] = mde__fit_with_law(q > 0 ? s->member[0] : NULL, c, s->n, s->k, s->m, weights, losses, &each);
        s->members = q + 1;
    }
    if (!mde__bad(c)) mde__stack_shares(s, weights, losses);
    for (int q = 0; q < s->members && !mde__bad(c); q++) {
        for (int i = 0; i < s->n; i++) {
            for (int j = 0; j < s->m; j++) {
                s->left_out[mde__cell(i, s->m, j)] +=
                    s->share[mde__cell(j, s->members, q)] * s->member[q]->left_out[mde__cell(i, s->m, j)];
            }
        }
    }
}

MDEDEF int mde_surrogate_members(const mde_surrogate *s)
{
    return s ? s->members : 0;
}

MDEDEF const char *mde_surrogate_member(const mde_surrogate *s, int member)
{
    return s && member >= 0 && member < s->members ? s->member_names[member] : NULL;
}

MDEDEF double mde_surrogate_share(const mde_surrogate *s, int target, int member)
{
    if (!s || target < 0 || target >= s->m || member < 0 || member >= s->members) return (double)NAN;
    return s->share[mde__cell(target, s->members, member)];
}

/* ---- Evaluation, and choice of a model ---- */

/* One idea: all that a procedure chooses, it chooses without the runs that judge it. In each fold every candidate is
   fitted anew (with its length scales, penalties and shares of a stack), and which candidate is best for a fold is
   decided by the other folds. */

#define MDE__CLEARLY 2.0        /* standard errors that a model must be better by than the one that is usual */
#define MDE__JOINT_RUNS 160     /* beyond, the multi-task process takes longer than all others together */

static int mde__report_step(mde_progress_fn *progress, void *user, const char *stage, int step, int steps)
{
    mde_progress p;
    if (!progress) return 0;
    memset(&p, 0, sizeof p);
    p.stage = stage;
    p.step = step;
    p.steps = steps;
    p.loss = (double)NAN;
    p.reported = step - 1;
    return progress(&p, user);
}

MDEDEF int mde_deal_folds(mde_context *c, int n, int k, const double *weights, int folds, uint64_t seed, int *fold)
{
    if (folds == 0) folds = MDE__FOLDS;
    mde__require(c, n >= 1 && k >= 1 && folds >= 1 && weights && fold, "folds: %d runs of %d weights to %d folds; "
                 "expected 1 or more of each", n, k, folds);
    return mde__bad(c) ? 0 : mde__folds_of_runs(c, n, k, weights, folds < n ? folds : n, seed, fold);
}

/* How many losses the target that has fewest is fitted to when a fold is left out. */
static int mde__fewest_losses(int n, int m, const double *losses, int folds, const int *fold, int *target)
{
    int fewest = n;
    *target = 0;
    for (int j = 0; j < m; j++) {
        for (int f = 0; f < folds; f++) {
            int count = 0;
            for (int i = 0; i < n; i++) {
                double y = losses[mde__cell(i, m, j)];
                count += fold[i] != f && y == y;
            }
            if (count >= fewest) continue;
            fewest = count;
            *target = j;
        }
    }
    return fewest;
}

/* A set of runs taken out of a table. */
typedef struct mde__subset {
    int count;
    double *weights, *losses;   /* [count, k], [count, m] */
} mde__subset;

static void mde__take_run(mde__subset *s, int k, int m, const double *weights, const double *losses, int run)
{
    mde__copy_row(k, weights, run, s->weights, s->count);
    mde__copy_row(m, losses, run, s->losses, s->count);
    s->count++;
}

static void mde__candidate_desc(const mde_surrogate_desc *desc, int candidate, mde_surrogate_desc *out)
{
    *out = *desc;
    if (desc->fit.model != MDE_AUTO) return;
    if (candidate == 0) out->fit.model = MDE_STACK;
    else mde__recipe_desc(&mde__recipes[candidate], desc, out);
}

static const char *mde__candidate_name(const mde_surrogate_desc *desc, int candidate)
{
    if (desc->fit.model == MDE_AUTO) return mde__recipes[candidate].title;
    return desc->fit.model == MDE_STACK ? mde__recipes[0].title : mde__kind(desc->fit.model)->name;
}

/* Predicts the runs of a fold by one surrogate, into the rows of the table. */
static void mde__predict_fold(const mde_surrogate *s, const mde__subset *test, const int *fold, int f, double *mean,
                              double *sd, double *predicted, double *spread)
{
    int n = s->m, row = 0;
    if (mde_surrogate_predict(s, test->count, test->weights, mean, sd)) return;
    for (int i = 0; row < test->count; i++) {
        if (fold[i] != f) continue;
        for (int j = 0; j < n; j++) {
            predicted[mde__cell(i, n, j)] = mean[mde__cell(row, n, j)];
            spread[mde__cell(i, n, j)] = sd[mde__cell(row, n, j)];
        }
        row++;
    }
}

/* Fits every candidate to the runs outside of fold f and predicts those inside. */
static void mde__evaluate_fold(mde_evaluation *e, const double *weights, const double *losses, const int *fold, int f,
                               double *work)
{
    mde_context *c = e->context;
    int n = e->runs, k = e->domains, m = e->targets;
    mde__subset train = { 0, NULL, NULL }, test = { 0, NULL, NULL };
    double *mean = work, *sd = mean + (size_t)n * (size_t)m;
    train.weights = sd + (size_t)n * (size_t)m;
    train.losses = train.weights + (size_t)n * (size_t)k;
    test.weights = train.losses + (size_t)n * (size_t)m;
    test.losses = test.weights + (size_t)n * (size_t)k;
    for (int i = 0; i < n; i++) mde__take_run(fold[i] == f ? &test : &train, k, m, weights, losses, i);
    for (int q = 0; q < e->candidates && !mde__bad(c); q++) {
        mde_surrogate_desc desc;
        mde_surrogate *s;
        if (e->desc.fit.model == MDE_AUTO && q >= 1 && q <= MDE__MEMBERS) continue;     /* comes with the stack */
        mde__candidate_desc(&e->desc, q, &desc);
        s = mde_surrogate_fit(c, train.count, k, m, train.weights, train.losses, &desc);
        if (s) mde__predict_fold(s, &test, fold, f, mean, sd, e->candidate[q].predicted, e->candidate[q].sd);
        if (s && e->desc.fit.model == MDE_AUTO && q == 0) {
            for (int i = 0; i < s->members && !mde__bad(c); i++) {
                mde_candidate *member = &e->candidate[1 + i];
                mde__predict_fold(s->member[i], &test, fold, f, mean, sd, member->predicted, member->sd);
            }
        }
        mde_surrogate_free(s);
    }
}

/* Held-out predictions, and what they are judged by. */
typedef struct mde__judging {
    mde_evaluation *e;
    const double *losses;
    double *variance;           /* [targets] of the losses; 0: constant */
    int *fold;                  /* [runs] */
    int few;                    /* 1: with MDE_AUTO, fewer than MDE__FEW_MIXTURES */
} mde__judging;

/* Squared error of a candidate in run i, each target in units of its variance; NaN when the run has no loss. */
static double mde__run_error(const mde__judging *g, int candidate, int i)
{
    const mde_evaluation *e = g->e;
    double sum = 0;
    int count = 0;
    for (int j = 0; j < e->targets; j++) {
        double y = g->losses[mde__cell(i, e->targets, j)], residual;
        if (y != y || !(g->variance[j] > 0)) continue;
        residual = e->candidate[candidate].predicted[mde__cell(i, e->targets, j)] - y;
        sum += residual * residual / g->variance[j];
        count++;
    }
    return count > 0 ? sum / count : (double)NAN;
}

/* Mean over runs of the error of candidate a less that of b (none: b < 0), and the standard error of the mean. Runs of
   fold `without` are left out. */
static double mde__compare_errors(const mde__judging *g, int a, int b, int without, double *standard_error)
{
    double sum = 0, squares = 0, mean;
    int count = 0;
    for (int i = 0; i < g->e->runs; i++) {
        double error = mde__run_error(g, a, i);
        if (g->fold[i] == without || error != error) continue;
        if (b >= 0) error -= mde__run_error(g, b, i);
        sum += error;
        squares += error * error;
        count++;
    }
    mean = count > 0 ? sum / count : 0;
    squares = count > 1 ? (squares - count * mean * mean) / (count - 1) : 0;
    if (standard_error) *standard_error = count > 0 ? sqrt((squares > 0 ? squares : 0) / count) : 0;
    return mean;
}

/* What MDE_AUTO takes where nothing is clearly better: the stack, which is safer outside of what was tried, or with few
   mixtures the plain process. */
static int mde__usual_candidate(const mde__judging *g)
{
    int q = 0;
    while (g->few && mde__recipes[q].model != MDE_GP) q++;
    return q;
}

/* Laws have too many parameters for few mixtures. */
static int mde__may_choose(const mde__judging *g, int candidate)
{
    mde_model model = mde__recipes[candidate].model;
    return !g->few || (model != MDE_MIXING_LAW && model != MDE_POOLED_LAW);
}

/* Of those that may be chosen but for one, the candidate with the smallest error; -1: none. */
static int mde__smallest_candidate(const mde__judging *g, int but, int without)
{
    double smallest = (double)INFINITY;
    int best = -1;
    for (int q = 0; q < g->e->candidates; q++) {
        double error = mde__compare_errors(g, q, -1, without, NULL);
        if (q == but || !mde__may_choose(g, q) || !(error < smallest)) continue;
        smallest = error;
        best = q;
    }
    return best;
}

/* The candidate with the smallest error, if that is more than MDE__CLEARLY standard errors below the usual one's. */
static int mde__choose_candidate(const mde__judging *g, int without)
{
    double se;
    int usual = mde__usual_candidate(g), best = mde__smallest_candidate(g, usual, without);
    if (best < 0 || mde__compare_errors(g, usual, best, without, &se) <= MDE__CLEARLY * se) return usual;
    return best;
}

/* Factor of the sds so that 90 % of new residuals lie within 1.645 of them: of n old ones, in units of sds, sorted, the
   one of rank 0.9 (n + 1), which a new one is below with a probability of 0.9. */
static double mde__spread_factor(size_t count, double *z)
{
    double factor, at = (0.9 * (double)(count + 1) - 1) / (double)(count - 1);
    if (count < 10) return 1;
    factor = mde__quantile(z, count, at < 1 ? at : 1) / MDE__LEVEL_90;
    return factor > 0.2 ? factor < 5 ? factor : 5 : 0.2;
}

/* Mean over the targets of Spearman's correlation, where there are losses; a, b [n] are workspace. */
static double mde__mean_spearman(mde_context *c, int n, int m, const double *predicted, const double *losses, double *a,
                                 double *b)
{
    int ranked = 0;
    double sum = 0;
    for (int j = 0; j < m; j++) {
        double rank;
        int count = 0;
        for (int i = 0; i < n; i++) {
            if (losses[mde__cell(i, m, j)] != losses[mde__cell(i, m, j)]) continue;
            a[count] = predicted[mde__cell(i, m, j)];
            b[count++] = losses[mde__cell(i, m, j)];
        }
        rank = mde_spearman(c, count, a, b);
        if (rank != rank) continue;
        sum += rank;
        ranked++;
    }
    return ranked > 0 ? sum / ranked : (double)NAN;
}

static void mde__score_candidates(const mde__judging *g, double *a, double *b)
{
    mde_evaluation *e = g->e;
    for (int q = 0; q < e->candidates; q++) {
        mde_candidate *candidate = &e->candidate[q];
        candidate->error = mde__compare_errors(g, q, -1, -1, NULL);
        candidate->behind = mde__compare_errors(g, q, e->chosen, -1, &candidate->behind_se);
        candidate->spearman = mde__mean_spearman(e->context, e->runs, e->targets, candidate->predicted, g->losses, a,
                                                 b);
    }
}

static void mde__explain_choice(const mde__judging *g)
{
    mde_evaluation *e = g->e;
    const mde_candidate *chosen = &e->candidate[e->chosen], *next;
    int other = mde__smallest_candidate(g, e->chosen, -1);
    char why[160] = "";
    if (g->few) {
        mde__sentence(why, sizeof why, "with fewer than %d mixtures the plain GP unless another is clearly better, "
                      "laws and the multi-task GP left out; ", MDE__FEW_MIXTURES);
    }
    next = other < 0 ? NULL : &e->candidate[other];
    if (!next) {
        mde__sentence(e->reason, sizeof e->reason, "%s, as asked for: held-out error %.4f of the losses' variance",
                      chosen->name, chosen->error);
    } else if (next->error < chosen->error) {
        mde__sentence(e->reason, sizeof e->reason,
                      "%s: %sheld-out error %.4f of the losses' variance; %s has %.4f, which is less by no more "
                      "than two standard errors of the comparison%s", chosen->name, why, chosen->error, next->name,
                      next->error, g->few ? "" : ", and a stack is safer far from what was tried");
    } else {
        mde__sentence(e->reason, sizeof e->reason,
                      "%s: %ssmallest held-out error, %.4f of the losses' variance; the next, %s, has %.4f (+%.4f, "
                      "standard error %.4f)", chosen->name, why, chosen->error, next->name, next->error, next->behind,
                      next->behind_se);
    }
}

/* Residual of a candidate in units of its sd; NaN where there is none. */
static double mde__residual_in_sds(const mde__judging *g, const mde_candidate *candidate, int cell)
{
    double residual = fabs(candidate->predicted[cell] - g->losses[cell]), sd = candidate->sd[cell];
    return g->variance[cell % g->e->targets] > 0 && sd > 0 ? residual / sd : (double)NAN;
}

/* What the procedure predicts of each fold: the candidate that the other folds choose, its sds times the factor that
   makes its intervals hold there. Then the factor for new runs, from all folds. work [2 runs, targets]. */
static void mde__evaluate_procedure(const mde__judging *g, double *work)
{
    mde_evaluation *e = g->e;
    int f, i, cells = e->runs * e->targets;
    double *all = work, *others = all + cells;
    size_t found = 0, count;
    e->chosen = mde__choose_candidate(g, -1);
    for (f = 0; f < e->folds; f++) {
        const mde_candidate *chosen = &e->candidate[mde__choose_candidate(g, f)];
        double factor;
        for (i = 0, count = 0; i < cells; i++) {
            double z = mde__residual_in_sds(g, chosen, i);
            if (z == z && g->fold[i / e->targets] == f) all[found++] = z;
            else if (z == z) others[count++] = z;
        }
        factor = mde__spread_factor(count, others);
        for (i = 0; i < cells; i++) {
            if (g->fold[i / e->targets] != f) continue;
            e->predicted[i] = chosen->predicted[i];
            e->sd[i] = factor * chosen->sd[i];
        }
    }
    e->spread = mde__spread_factor(found, all);
}

/* joint: whether the last candidate, the multi-task process, takes part. */
static mde_evaluation *mde__evaluation_create(mde_context *c, int n, int k, int m, const mde_surrogate_desc *desc,
                                              int joint)
{
    size_t cells = (size_t)n * (size_t)m;
    mde_evaluation *e = (mde_evaluation *)mde_alloc(c, 1, sizeof *e);
    if (!e) return NULL;
    e->context = c;
    e->runs = n;
    e->domains = k;
    e->targets = m;
    e->desc = *desc;
    e->spread = 1;
    e->candidates = desc->fit.model != MDE_AUTO ? 1 : joint ? MDE__CANDIDATES : MDE__CANDIDATES - 1;
    e->candidate = (mde_candidate *)mde_alloc(c, (size_t)e->candidates, sizeof *e->candidate);
    e->predicted = mde__doubles(c, 2 * (size_t)e->candidates + 2, cells);
    if (mde__bad(c)) {
        mde_evaluation_free(e);
        return NULL;
    }
    e->sd = e->predicted + cells;
    for (int q = 0; q < e->candidates; q++) {
        e->candidate[q].name = mde__candidate_name(desc, q);
        e->candidate[q].predicted = e->predicted + (2 + 2 * (size_t)q) * cells;
        e->candidate[q].sd = e->candidate[q].predicted + cells;
    }
    return e;
}

MDEDEF void mde_evaluation_free(mde_evaluation *e)
{
    mde_context *c = e ? e->context : NULL;
    if (!e) return;
    MDE__RELEASE(c, e->candidate, e->predicted, e);
}

MDEDEF mde_evaluation *mde_evaluate(mde_context *c, int n, int k, int m, const double *weights, const double *losses,
                                    const mde_surrogate_desc *desc, const mde_evaluate_desc *how)
{
    mde_surrogate_desc defaults;
    mde_evaluate_desc plain;
    mde_evaluation *e;
    double *variance, *work;
    int *fold, folds, f, i, missing, mixtures, few;
    if (!c || mde__bad(c)) return NULL;
    memset(&defaults, 0, sizeof defaults);
    memset(&plain, 0, sizeof plain);
    if (!desc) desc = &defaults;
    if (!how) how = &plain;
    folds = how->folds > 0 ? how->folds : MDE__FOLDS;
    mde__require(c, n >= 5 && k >= 1 && m >= 1 && weights && losses && folds >= 2, "evaluation: %d runs of %d weights "
                 "and %d losses in %d folds; at least 5, 1, 1 and 2 are needed", n, k, m, folds);
    mde__require(c, mde__kind(desc->fit.model) || desc->fit.model == MDE_STACK || desc->fit.model == MDE_AUTO,
                 "evaluation: there is no model %d", (int)desc->fit.model);
    if (mde__bad(c) || mde__check_mixtures(c, "evaluation", n, k, NULL, 0, weights)) return NULL;
    if (mde__check_cube(c, n, desc->fit.model)) return NULL;
    fold = (int *)mde_alloc(c, (size_t)n, sizeof(int));
    if (!fold) return NULL;
    missing = mde__complete_runs(n, m, losses, -1, fold) < n;
    mixtures = mde_first_repeats(c, n, k, weights, fold);
    few = desc->fit.model == MDE_AUTO && mixtures < MDE__FEW_MIXTURES;
    e = mde__evaluation_create(c, n, k, m, desc, n <= MDE__JOINT_RUNS && !missing && !few);
    variance = mde__doubles(c, (size_t)m, 1);
    work = mde__doubles(c, (size_t)n, 2 * (size_t)k + 5 * (size_t)m + 2);
    if (!mde__bad(c)) {
        for (i = 0; i < m; i++) variance[i] = mde__target_variance(n, m, losses, i);
        e->folds = mde__folds_of_runs(c, n, k, weights, folds < n ? folds : n, how->seed, fold);
        mde__require(c, e->folds >= 2, "evaluation: all %d runs have the same weights", n);
        i = mde__fewest_losses(n, m, losses, e->folds, fold, &f);
        mde__require(c, i >= 3, "evaluation: without a fold, loss %d is there in %d runs; 3 are needed", f, i);
    }
    for (f = 0; !mde__bad(c) && f <= e->folds; f++) {
        if (mde__report_step(how->progress, how->user, "evaluate", f, e->folds)) {
            mde_fail(c, MDE_STOPPED, "evaluation: stopped");
        } else if (f < e->folds) {
            mde__evaluate_fold(e, weights, losses, fold, f, work);
        }
    }
    if (!mde__bad(c)) {
        const mde__judging judging = { e, losses, variance, fold, few };
        mde__evaluate_procedure(&judging, work);
        mde__score_candidates(&judging, work, work + n);
        mde__explain_choice(&judging);
    }
    MDE__RELEASE(c, fold, work, variance);
    if (!mde__bad(c)) return e;
    mde_evaluation_free(e);
    return NULL;
}

MDEDEF mde_surrogate_desc mde_evaluation_choice(const mde_evaluation *e)
{
    mde_surrogate_desc desc;
    memset(&desc, 0, sizeof desc);
    if (e) mde__candidate_desc(&e->desc, e->chosen, &desc);
    return desc;
}

MDEDEF mde_surrogate *mde_evaluation_fit(const mde_evaluation *e, const double *weights, const double *losses)
{
    mde_surrogate_desc desc = mde_evaluation_choice(e);
    mde_surrogate *s;
    if (!e) return NULL;
    s = mde_surrogate_fit(e->context, e->runs, e->domains, e->targets, weights, losses, &desc);
    if (s) s->spread = e->spread;
    return s;
}

MDEDEF double mde_evaluation_spread(const mde_evaluation *e, const double *losses, const double *objective)
{
    double *z, spread = (double)NAN;
    int count = 0;
    if (!e || !losses || mde__bad(e->context)) return spread;
    z = mde__doubles(e->context, (size_t)e->runs, 1);
    for (int i = 0; i < e->runs && z; i++) {
        size_t at = mde__cell(i, e->targets, 0);
        double sd = mde__weigh(e->targets, objective, e->sd + at);
        double residual = mde__weigh(e->targets, objective, e->predicted + at) -
                          mde__weigh(e->targets, objective, losses + at);
        if (residual == residual) z[count++] = sd > 0 ? fabs(residual) / sd : 0;
    }
    if (z) spread = mde__spread_factor((size_t)count, z);
    mde_release(e->context, z);
    return spread;
}

/* ---- Tables of runs ---- */

MDEDEF void mde_runs_free(mde_runs *runs)
{
    mde_context *c = runs ? runs->context : NULL;
    int i;
    if (!runs) return;
    for (i = 0; runs->names && i < runs->count; i++) mde_release(c, (void *)(uintptr_t)runs->names[i]);
    for (i = 0; runs->domain_names && i < runs->domains; i++) mde_release(c, (void *)(uintptr_t)runs->domain_names[i]);
    for (i = 0; runs->metric_names && i < runs->metrics; i++) mde_release(c, (void *)(uintptr_t)runs->metric_names[i]);
    MDE__RELEASE(c, runs->names, runs->domain_names, runs->metric_names, runs->weights, runs->losses, runs);
}

/* Rows of a table by the names of their runs: a hash table of row + 1, whose slots are a power of 2. */
typedef struct mde__run_index { const mde_run_columns *table; size_t slots; int *rows; } mde__run_index;

static const char *mde__run_name(const mde_run_columns *t, int row, char number[16])
{
    if (t->run >= 0) return t->csv->cells[(size_t)row * (size_t)t->csv->columns + (size_t)t->run];
    snprintf(number, 16, "%d", row + 1);
    return number;
}

/* Where a run stands in the index, or would. */
static int *mde__run_slot(const mde__run_index *index, const char *name)
{
    size_t at = (size_t)mde__hash(MDE__HASH_START, name, strlen(name));
    char number[16];
    for (;; at++) {
        int *slot = index->rows + (at & (index->slots - 1));
        if (*slot == 0 || strcmp(mde__run_name(index->table, *slot - 1, number), name) == 0) return slot;
    }
}

/* A run that stands twice, or has no name, is an error. */
static void mde__index_runs(mde_context *c, const mde_run_columns *table, mde__run_index *index)
{
    char number[16];
    index->table = table;
    for (index->slots = 16; index->slots / 2 < (size_t)table->csv->rows;) index->slots *= 2;
    index->rows = (int *)mde_alloc(c, index->slots, sizeof *index->rows);
    for (int row = 0; row < table->csv->rows && !mde__bad(c); row++) {
        const char *name = mde__run_name(table, row, number);
        int *slot = mde__run_slot(index, name);
        if (*slot > 0) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: run %.100s stands already in line %d", table->csv->path,
                     table->csv->lines[row], name, table->csv->lines[*slot - 1]);
        } else if (!*name) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d: the run has no name", table->csv->path, table->csv->lines[row]);
        }
        *slot = row + 1;
    }
}

/* Copies of the names of the columns. */
static const char **mde__value_names(mde_context *c, const mde_run_columns *t)
{
    const char **names = (const char **)mde_alloc(c, (size_t)t->count, sizeof *names);
    for (int i = 0; names && i < t->count; i++) names[i] = mde__copy_text(c, t->csv->names[t->columns[i]]);
    return names;
}

static void mde__row_values(const mde_run_columns *t, int row, double *values)
{
    for (int i = 0; i < t->count; i++) values[i] = mde_csv_number(t->csv, row, t->columns[i]);
}

/* unit: what they sum to, 1 or 100. */
static void mde__scale_weights(mde_context *c, const mde_run_columns *t, int row, double unit, const char *run,
                               double *weights)
{
    double sum = 0;
    for (int i = 0; i < t->count; i++) {
        if (!(weights[i] >= 0)) {
            mde_fail(c, MDE_BAD_FILE, "%s line %d (run %.100s), column %.100s: a weight is %.9g; expected 0 or more",
                     t->csv->path, t->csv->lines[row], run, t->csv->names[t->columns[i]], weights[i]);
            return;
        }
        sum += weights[i];
    }
    if (!(fabs(sum - unit) <= 0.01 * unit)) {
        mde_fail(c, MDE_BAD_FILE, "%s line %d (run %.100s): weights sum to %.9g; expected %g within %g", t->csv->path,
                 t->csv->lines[row], run, sum, unit, 0.01 * unit);
    }
    for (int i = 0; i < t->count; i++) weights[i] /= sum;
}

static void mde__check_losses(mde_context *c, const mde_run_columns *t, int row, const char *run, const double *losses)
{
    for (int j = 0; j < t->count; j++) {
        if (losses[j] != losses[j] || fabs(losses[j]) < 1e30) continue;
        mde_fail(c, MDE_BAD_FILE, "%s line %d (run %.100s), column %.100s: a loss is %.9g; expected a number below "
                 "1e30, or nothing where it is missing", t->csv->path, t->csv->lines[row], run,
                 t->csv->names[t->columns[j]], losses[j]);
    }
}

/* A run without a row in the other table. */
static void mde__unmatched(mde_context *c, const mde_run_columns *t, int row, const mde_run_columns *other,
                           int *skipped)
{
    char number[16];
    if (skipped) ++*skipped;
    else {
        mde_fail(c, MDE_BAD_FILE, "%s line %d: run %.100s is not in %s", t->csv->path, t->csv->lines[row],
                 mde__run_name(t, row, number), other->csv->path);
    }
}

/* index: of the weights and of the losses. row_of [rows of the weights]: that of each run, filled here. */
static void mde__join_rows(mde_context *c, mde_runs *runs, const mde__run_index *index, int *row_of, int *skipped)
{
    const mde_run_columns *weights = index[0].table, *losses = index[1].table;
    char number[16];
    int percents = 0, shares = 0;
    for (int row = 0; row < weights->csv->rows && !mde__bad(c); row++) {
        const char *name = mde__run_name(weights, row, number);
        int other = *mde__run_slot(&index[1], name) - 1;
        double *w = runs->weights + mde__cell(runs->count, runs->domains, 0), sum = 0;
        double *y = runs->losses + mde__cell(runs->count, runs->metrics, 0);
        if (other < 0) {
            mde__unmatched(c, weights, row, losses, skipped);
            continue;
        }
        mde__row_values(weights, row, w);
        mde__row_values(losses, other, y);
        mde__check_losses(c, losses, other, name, y);
        for (int i = 0; i < runs->domains; i++) sum += w[i];
        shares += fabs(sum - 1) <= 0.01;
        percents += fabs(sum - 100) <= 1;
        row_of[runs->count] = row;
        runs->names[runs->count++] = mde__copy_text(c, name);
    }
    for (int row = 0; row < losses->csv->rows && !mde__bad(c); row++) {
        if (*mde__run_slot(&index[0], mde__run_name(losses, row, number)) > 0) continue;
        mde__unmatched(c, losses, row, weights, skipped ? skipped + 1 : NULL);
    }
    runs->percent = percents > shares;
    for (int i = 0; i < runs->count && !mde__bad(c); i++) {
        mde__scale_weights(c, weights, row_of[i], runs->percent ? 100 : 1, runs->names[i],
                           runs->weights + mde__cell(i, runs->domains, 0));
    }
    if (runs->count == 0) {
        mde_fail(c, MDE_BAD_FILE, "%s and %s: no run is in both", weights->csv->path, losses->csv->path);
    }
}

MDEDEF mde_runs *mde_runs_join(mde_context *c, const mde_run_columns *weights, const mde_run_columns *losses,
                               int *skipped)
{
    mde__run_index index[2];
    mde_runs *runs = NULL;
    int *row_of;
    mde__require(c, weights && losses && weights->csv && losses->csv, "runs: a table is missing");
    if (mde__bad(c)) return NULL;
    memset(index, 0, sizeof index);
    if (skipped) skipped[0] = skipped[1] = 0;
    if (weights->count < 1 || losses->count < 1 || weights->csv->rows < 1) {
        mde_fail(c, MDE_BAD_FILE, "%s: expected a column that names the run, at least one other, and a row",
                 weights->count < 1 || weights->csv->rows < 1 ? weights->csv->path : losses->csv->path);
    }
    row_of = (int *)mde_alloc(c, (size_t)weights->csv->rows, sizeof *row_of);
    if (!mde__bad(c)) runs = (mde_runs *)mde_alloc(c, 1, sizeof *runs);
    if (runs) {
        runs->context = c;
        runs->domains = weights->count;
        runs->metrics = losses->count;
        runs->names = (const char **)mde_alloc(c, (size_t)weights->csv->rows, sizeof *runs->names);
        runs->domain_names = mde__value_names(c, weights);
        runs->metric_names = mde__value_names(c, losses);
        runs->weights = mde__doubles(c, (size_t)weights->csv->rows, (size_t)runs->domains);
        runs->losses = mde__doubles(c, (size_t)weights->csv->rows, (size_t)runs->metrics);
        mde__index_runs(c, weights, &index[0]);
        mde__index_runs(c, losses, &index[1]);
    }
    if (!mde__bad(c)) mde__join_rows(c, runs, index, row_of, skipped);
    MDE__RELEASE(c, index[0].rows, index[1].rows, row_of);
    if (!mde__bad(c)) return runs;
    mde_runs_free(runs);
    return NULL;
}

#ifndef MDE_NO_STDIO

/* All columns but the one that names the runs, in columns [csv->columns]. */
static mde_run_columns mde__all_columns(const mde_csv *csv, int *columns)
{
    mde_run_columns t;
    t.csv = csv;
    t.columns = columns;
    t.count = 0;
    t.run = mde_csv_column(csv, "run");
    if (t.run < 0) t.run = mde_csv_column(csv, "index");
    if (t.run < 0) t.run = 0;
    for (int i = 0; i < csv->columns; i++) if (i != t.run) columns[t.count++] = i;
    return t;
}

MDEDEF mde_runs *mde_runs_open(mde_context *c, const char *ratios_path, const char *losses_path)
{
    mde_csv *ratios = mde_csv_read(c, ratios_path), *losses = ratios ? mde_csv_read(c, losses_path) : NULL;
    int *columns = losses ? (int *)mde_alloc(c, (size_t)ratios->columns + (size_t)losses->columns, sizeof(int)) : NULL;
    mde_runs *runs = NULL;
    if (columns) {
        mde_run_columns weights = mde__all_columns(ratios, columns);
        mde_run_columns values = mde__all_columns(losses, columns + ratios->columns);
        runs = mde_runs_join(c, &weights, &values, NULL);
    }
    mde_release(c, columns);
    mde_csv_free(ratios);
    mde_csv_free(losses);
    return runs;
}

#endif /* MDE_NO_STDIO */

/* ---- The best mixture of a surrogate ---- */

/* A surrogate's objective, and what it needs at one mixture. */
typedef struct mde__goal {
    const mde_surrogate *surrogate;
    const mde_choose_desc *desc;
    double spread;
    int k, m, smooth;
    double *mean, *sd;          /* [k + 1, m] */
    double *slopes;             /* [m, k] */
    double *around;             /* [k + 1, k] */
} mde__goal;

/* Derivatives of the summed sds, by differences of 1e-4 against the largest weight, whose own is 0; all mixtures are
   predicted together. Adds them to the gradient; returns the sum at w. */
static double mde__goal_caution(const mde__goal *g, const double *w, double *gradient)
{
    const double step = 1e-4;
    double base, caution = g->desc->caution * g->spread;
    int k = g->k, partner = 0;
    for (int i = 1; i < k; i++) if (w[i] > w[partner]) partner = i;
    mde__copy(k, w, g->around);
    for (int i = 0; gradient && i < k; i++) {
        double *row = g->around + mde__cell(i + 1, k, 0);
        mde__copy(k, w, row);
        if (i == partner) continue;
        row[i] += step;
        row[partner] = row[partner] > step ? row[partner] - step : 0;
    }
    if (mde_surrogate_predict(g->surrogate, gradient ? k + 1 : 1, g->around, g->mean, g->sd)) return (double)NAN;
    base = mde__weigh(g->m, g->desc->objective, g->sd);
    for (int i = 0; gradient && i < k; i++) {
        double moved = mde__weigh(g->m, g->desc->objective, g->sd + mde__cell(i + 1, g->m, 0));
        gradient[i] += caution * (moved - base) / step;
    }
    return base;
}

/* Kullback-Leibler divergence of w from the prior, times the strength; adds its gradient (may be NULL). */
static double mde__goal_prior(const mde_choose_desc *d, int k, const double *w, double *gradient)
{
    double sum = 0;
    for (int i = 0; i < k; i++) {
        double ratio = (w[i] > 1e-12 ? w[i] : 1e-12) / (d->prior ? d->prior[i] > 1e-12 ? d->prior[i] : 1e-12 : 1.0 / k);
        sum += w[i] * mde__log64(ratio);
        if (gradient) gradient[i] += d->kl * (mde__log64(ratio) + 1.0);
    }
    return d->kl * sum;
}

static double mde__goal_value(int n, const double *w, double *gradient, void *user)
{
    mde__goal *g = (mde__goal *)user;
    double value;
    if (gradient) {
        if (mde_surrogate_gradient(g->surrogate, w, g->mean, g->slopes)) return (double)NAN;
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < g->m; j++) g->around[j] = g->slopes[mde__cell(j, n, i)];
            gradient[i] = mde__weigh(g->m, g->desc->objective, g->around);
        }
    } else if (mde_surrogate_predict(g->surrogate, 1, w, g->mean, NULL)) {
        return (double)NAN;
    }
    value = mde__weigh(g->m, g->desc->objective, g->mean);
    if (g->desc->caution > 0) value += g->desc->caution * g->spread * mde__goal_caution(g, w, gradient);
    if (g->desc->kl > 0) value += mde__goal_prior(g->desc, n, w, gradient);
    return value;
}

static mde_status mde__check_objective(mde_context *c, int m, const double *objective)
{
    double total = 0;
    for (int j = 0; objective && j < m; j++) {
        if (!(objective[j] >= 0)) return mde_fail(c, MDE_BAD_ARGUMENT, "choice: objective weight %d is below 0", j);
        total += objective[j];
    }
    if (objective && !(total > 0)) return mde_fail(c, MDE_BAD_ARGUMENT, "choice: all objective weights are 0");
    return MDE_OK;
}

static mde_status mde__check_choice(const mde_surrogate *s, const mde_choose_desc *d)
{
    mde_context *c = s->context;
    mde__require(c, s->k <= MDE_MAX_DOMAINS, "choice: %d domains; at most %d", s->k, MDE_MAX_DOMAINS);
    mde__require(c, d->kl >= 0 && d->kl < 1e30 && d->caution >= 0 && d->caution < 1e30 && d->spread >= 0 &&
                    d->starts >= 0, "choice: kl, caution, spread and starts must be finite and 0 or more");
    return mde__bad(c) ? c->status : mde__check_objective(c, s->m, d->objective);
}

/* Searches on from a start; what is better than *out takes its place. */
static void mde__goal_try(mde__goal *g, mde_search_desc *search, const double *start, mde_choice *out)
{
    double weights[MDE_MAX_DOMAINS], value;
    search->start = start;
    value = mde_simplex_minimize(g->surrogate->context, g->k, mde__goal_value, g, search, weights);
    search->start = NULL;
    if (!(value < out->value)) return;
    out->value = value;
    mde__copy(g->k, weights, out->weights);
}

/* The run with the smallest value inside the bounds, at start [k]; its value, infinite without runs. */
static double mde__goal_best_run(mde__goal *g, const double *low, const double *high, double *start)
{
    mde__meter meter = mde__new_meter(g->surrogate->context, g->desc->progress, g->desc->user, "runs");
    double weights[MDE_MAX_DOMAINS], best = (double)INFINITY;
    mde__meter_start(&meter, g->desc->runs);
    for (int run = 0; run < g->desc->runs && g->desc->tried; run++) {
        double value;
        mde__copy(g->k, g->desc->tried + mde__cell(run, g->k, 0), weights);
        mde__simplex_nearest(g->k, low, high, weights);
        value = mde__goal_value(g->k, weights, NULL, g);
        if (mde__meter_add(&meter, 1) || mde__bad(meter.context)) break;
        if (!(value < best)) continue;
        best = value;
        mde__copy(g->k, weights, start);
    }
    return best;
}

/* sds take many times as long as means: the search goes by means first, and with caution from what it found and from
   the best run. */
static void mde__goal_search(mde__goal *g, const mde_choose_desc *desc, const double *low, const double *high,
                             mde_choice *out)
{
    double start[MDE_MAX_DOMAINS], found[MDE_MAX_DOMAINS], run;
    mde_choose_desc calm = *desc;
    mde_search_desc search;
    memset(&search, 0, sizeof search);
    calm.caution = 0;
    g->desc = &calm;
    search.lower = low;
    search.upper = high;
    search.seed = desc->seed;
    search.method = g->smooth ? MDE_EXPONENTIATED_GRADIENT : MDE_POPULATION;
    search.starts = desc->starts;
    search.iterations = g->smooth ? 500 : 200;
    search.tolerance = 1e-7;
    search.progress = desc->progress;
    search.user = desc->user;
    out->value = mde_simplex_minimize(g->surrogate->context, g->k, mde__goal_value, g, &search, out->weights);
    run = mde__goal_best_run(g, low, high, start);
    if (run < out->value) mde__goal_try(g, &search, start, out);
    g->desc = desc;
    if (!(desc->caution > 0) || mde__bad(g->surrogate->context)) return;
    search.iterations = 60;
    mde__copy(g->k, out->weights, found);
    out->value = mde__goal_value(g->k, found, NULL, g);
    mde__goal_try(g, &search, found, out);
    if (run < (double)INFINITY) mde__goal_try(g, &search, start, out);
}

MDEDEF mde_status mde_surrogate_minimize(const mde_surrogate *s, const mde_choose_desc *desc, mde_choice *out)
{
    mde_context *c = s ? s->context : NULL;
    double low[MDE_MAX_DOMAINS], high[MDE_MAX_DOMAINS], gradient[MDE_MAX_DOMAINS];
    mde_choose_desc defaults;
    mde__goal g;
    if (!out || mde__bad(c)) return out ? mde__object_status(c) : MDE_BAD_ARGUMENT;
    memset(&defaults, 0, sizeof defaults);
    memset(out, 0, sizeof *out);
    if (!desc) desc = &defaults;
    if (mde__check_choice(s, desc)) return mde_context_status(c);
    memset(&g, 0, sizeof g);
    g.surrogate = s;
    g.desc = desc;
    g.spread = desc->spread > 0 ? desc->spread : 1;
    g.k = s->k;
    g.m = s->m;
    g.smooth = mde_surrogate_smooth(s);
    if (mde__simplex_bounds(c, g.k, desc->lower, desc->upper, low, high)) return mde_context_status(c);
    g.mean = mde__doubles(c, 2 * (size_t)g.k + 2, (size_t)g.m);
    g.slopes = mde__doubles(c, (size_t)g.m, (size_t)g.k);
    g.around = mde__doubles(c, (size_t)g.k + 1, (size_t)(g.k > g.m ? g.k : g.m));
    if (!mde__bad(c)) {
        g.sd = g.mean + (size_t)(g.k + 1) * (size_t)g.m;
        out->count = g.k;
        mde__goal_search(&g, desc, low, high, out);
    }
    if (!mde__bad(c)) {
        for (int i = 0; i < g.k; i++) if (out->weights[i] < 1e-5 && low[i] <= 0) out->weights[i] = 0;
        mde__simplex_nearest(g.k, low, high, out->weights);
        if (g.smooth) mde__goal_value(g.k, out->weights, gradient, &g);
        mde__shadow_prices(g.k, g.smooth ? gradient : NULL, out->weights, low, high, out->active, out->price);
        if (mde_surrogate_predict(s, 1, out->weights, g.mean, g.sd) == MDE_OK) {
            out->loss = mde__weigh(g.m, desc->objective, g.mean);
            out->sd = g.spread * mde__weigh(g.m, desc->objective, g.sd);
        }
    }
    MDE__RELEASE(c, g.around, g.slopes, g.mean);
    return mde_context_status(c);
}

/* ---- The runs to make next ---- */

/* From a pool of random mixtures, one after the other, the one that promises most. What a run that was chosen will tell
   about others counts at once. For bounds and improvements their sds shrink as if its loss were known, with a
   correlation that falls with the distance between the mixtures. */

#define MDE__DRAWS 3000
#define MDE__DRAWS_NEAR 1000         /* further ones around the best mixture known */
#define MDE__RUN_REACH 0.25         /* Hellinger distance at which a run's correlation is exp(-1/2) */

/* Hellinger distance of two mixtures, by the roots of their weights: 0 for equal ones, 1 for ones that share
   nothing. */
static double mde__hellinger(int k, const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < k; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(0.5 * sum);
}

/* E max(best - y, 0) of y normal with mean and sd. */
static double mde__expected_improvement(double best, double mean, double sd)
{
    double z, density;
    if (!(sd > 0)) return best > mean ? best - mean : 0;
    z = (best - mean) / sd;
    density = mde__exp64(-0.5 * z * z) * 0.3989422804014327;
    return sd * (z * mde__normal_below(z) + density);
}

typedef struct mde__draws {
    int count, k;
    double *weights;        /* [count, k] */
    double *mean, *sd;      /* [count] of the objective */
    double *distance;       /* [count] to the nearest run, made or chosen */
    double *roots;          /* [count, k] square roots of the weights */
} mde__draws;

/* Random mixtures inside the bounds; with a centre, the last ones around it, every other one closely (nearer = 1) where
   good mixtures are to be told apart. */
static void mde__draws_fill(mde__draws *p, const double *low, const double *high, const double *centre, int nearer,
                            uint64_t seed)
{
    double alpha[MDE_MAX_DOMAINS];
    mde_random random = mde_random_start(seed, 0x6e657874);
    for (int i = 0; i < p->count; i++) {
        double *w = p->weights + mde__cell(i, p->k, 0);
        if (centre && i >= MDE__DRAWS) {
            for (int q = 0; q < p->k; q++) alpha[q] = (nearer && i % 2 == 0 ? 100.0 : 30.0) * centre[q] + 0.3;
            mde_random_dirichlet(&random, p->k, alpha, w);
            mde__simplex_nearest(p->k, low, high, w);
        } else {
            mde__search_draw(&random, p->k, low, high, i, alpha, w);
        }
        for (int q = 0; q < p->k; q++) p->roots[mde__cell(i, p->k, q)] = sqrt(w[q]);
        p->distance[i] = 2;
    }
}

#define MDE__DRAWS_PART 250         /* predicted between two looks at the clock */

static void mde__draws_predict(mde__draws *p, const mde_surrogate *s, const mde_suggest_desc *d, mde__meter *meter)
{
    mde_context *c = s->context;
    double *mean = mde__doubles(c, 2 * MDE__DRAWS_PART, (size_t)s->m);
    double *sd = mean ? mean + mde__cell(MDE__DRAWS_PART, s->m, 0) : NULL;
    for (int from = 0; from < p->count && !mde__bad(c); from += MDE__DRAWS_PART) {
        int n = p->count - from < MDE__DRAWS_PART ? p->count - from : MDE__DRAWS_PART;
        if (mde_surrogate_predict(s, n, p->weights + mde__cell(from, p->k, 0), mean, sd)) break;
        for (int i = 0; i < n; i++) {
            p->mean[from + i] = mde__weigh(s->m, d->objective, mean + mde__cell(i, s->m, 0));
            p->sd[from + i] = (d->spread > 0 ? d->spread : 1) *
                              mde__weigh(s->m, d->objective, sd + mde__cell(i, s->m, 0));
        }
        mde__meter_add(meter, n);
    }
    mde_release(c, mean);
}

/* What runs would tell. The objective at mixtures v and w is taken to be uncertain with the covariance
     k(v, w) = s^2 v' (sum_r w_r w_r' + ridge)^-1 w + sd(v) sd(w) exp(-h^2 / 2 reach^2):
   what the n runs, each with noise s^2, leave open of a trend along the weights, and what a surrogate leaves open in
   each neighbourhood, h being the Hellinger distance. A run at x moves the difference of mixture q to the best one, b,
   by (k(q, x) - k(b, x)) z / sqrt(k(x, x) + s^2) with z standard normal. Of the variance of that difference it takes
   the square of that factor; what it promises is the sum of the shares that it takes over the good mixtures, and k is
   then that given the run. The form and the constants were chosen by bench/regret.c, on fitted truths. */
typedef struct mde__learning {
    int count, good, k;
    double noise;               /* s^2 */
    int *which;                 /* [good] draws of the lowest means, in order */
    double *open;               /* [good] variance of the difference to the best one */
    double *trend;              /* [count, k] s^2 (sum_r w_r w_r' + ridge)^-1 w */
    double *covariance;         /* [count, good] with the good ones */
    double *variance;           /* [count] */
    double *chosen;             /* [runs, count] covariance with each run that was chosen, over the root of its own */
} mde__learning;

#define MDE__GOOD_DRAWS 200
#define MDE__TREND_RIDGE 0.01   /* in runs of one domain alone: with few runs no direction is without bound */
#define MDE__OPEN_FLOOR 0.05    /* of s^2: differences that are known better than that count for less */

static double mde__learning_covariance(const mde__learning *l, const mde__draws *p, int i, int j)
{
    size_t a = mde__cell(i, l->k, 0), b = mde__cell(j, l->k, 0);
    double reach = mde__hellinger(l->k, p->roots + a, p->roots + b) / MDE__RUN_REACH;
    return mde__inner(l->k, l->trend + a, p->weights + b) + p->sd[i] * p->sd[j] * mde__exp64(-0.5 * reach * reach);
}

/* The draws with the lowest means. */
static void mde__learning_good(mde__learning *l, const mde__draws *p)
{
    int found = 0;
    for (int i = 0; i < p->count; i++) {
        int at = found < l->good ? found++ : l->good;
        for (; at > 0 && p->mean[i] < p->mean[l->which[at - 1]]; at--) {
            if (at < l->good) l->which[at] = l->which[at - 1];
        }
        if (at < l->good) l->which[at] = i;
    }
}

static void mde__learning_open(mde__learning *l)
{
    int best = l->which[0];
    for (int q = 0; q < l->good; q++) {
        int i = l->which[q];
        double left = l->variance[i] + l->variance[best] - 2.0 * l->covariance[mde__cell(i, l->good, 0)];
        l->open[q] = left > 0 ? left : 0;
    }
}

/* s^2: the mean square of the objective's sd at the runs. */
static double mde__learning_noise(const mde_surrogate *s, const mde_suggest_desc *d, int n, const double *tried,
                                  mde__meter *meter)
{
    mde__draws runs;
    double squares = 0;
    memset(&runs, 0, sizeof runs);
    runs.count = n;
    runs.k = s->k;
    runs.weights = mde__doubles(s->context, (size_t)n, (size_t)s->k + 2);
    if (runs.weights && n > 0) {
        runs.mean = runs.weights + mde__cell(n, s->k, 0);
        runs.sd = runs.mean + n;
        memcpy(runs.weights, tried, mde__cell(n, s->k, 0) * sizeof(double));
        mde__draws_predict(&runs, s, d, meter);
        for (int i = 0; i < n; i++) squares += runs.sd[i] * runs.sd[i] / n;
    }
    mde_release(s->context, runs.weights);
    return squares > 0 ? squares : 1;       /* where sds say nothing, the trend alone counts, in any unit */
}

/* work: 2 k^2 + k, and the work of a product. */
static void mde__learning_trend(mde__learning *l, const mde__draws *p, int simd, int n, const double *tried,
                                double *work)
{
    int k = l->k;
    double *design = work, *inverse = design + k * k, *half = inverse + k * k;
    for (int q = 0; q < k; q++) {
        for (int i = 0; i < n; i++) {
            mde__kernel_dense_axpy(simd)(q + 1, tried[mde__cell(i, k, q)], tried + mde__cell(i, k, 0),
                                         design + mde__cell(q, k, 0));
        }
        design[mde__cell(q, k, q)] += MDE__TREND_RIDGE;
    }
    mde__cholesky_inverse(simd, k, design, inverse, half + k);
    for (int i = 0; i < l->count; i++) {
        double *trend = l->trend + mde__cell(i, k, 0);
        mde__factor_solve(simd, k, inverse, p->weights + mde__cell(i, k, 0), half, trend);
        for (int q = 0; q < k; q++) trend[q] *= l->noise;
    }
}

static void mde__learning_start(mde__learning *l, const mde_surrogate *s, const mde_suggest_desc *d,
                                const mde__draws *p, int n, const double *tried, int runs, mde__meter *meter)
{
    mde_context *c = s->context;
    size_t k = (size_t)p->k, count = (size_t)p->count;
    double *work = mde__doubles(c, 2 * k * k + k + mde__dense_work(p->k, p->k), 1);
    l->count = p->count;
    l->k = p->k;
    l->good = MDE__GOOD_DRAWS;
    l->which = (int *)mde_alloc(c, MDE__GOOD_DRAWS, sizeof *l->which);
    l->open = mde__doubles(c, MDE__GOOD_DRAWS, 1);
    l->trend = mde__doubles(c, count, k + 1 + MDE__GOOD_DRAWS + (size_t)runs);
    if (!mde__bad(c)) l->noise = mde__learning_noise(s, d, n, tried, meter);
    if (!mde__bad(c)) {
        l->variance = l->trend + count * k;
        l->covariance = l->variance + count;
        l->chosen = l->covariance + count * MDE__GOOD_DRAWS;
        mde__learning_good(l, p);
        mde__learning_trend(l, p, c->simd, n, tried, work);
        for (int i = 0; i < l->count; i++) {
            l->variance[i] = mde__learning_covariance(l, p, i, i);
            for (int q = 0; q < l->good; q++) {
                l->covariance[mde__cell(i, l->good, q)] = mde__learning_covariance(l, p, i, l->which[q]);
            }
        }
        mde__learning_open(l);
    }
    mde_release(c, work);
}

static double mde__learning_promise(const mde__learning *l, int i)
{
    const double *row = l->covariance + mde__cell(i, l->good, 0);
    double sum = 0;
    for (int q = 1; q < l->good; q++) {
        sum += (row[q] - row[0]) * (row[q] - row[0]) / (l->open[q] + MDE__OPEN_FLOOR * l->noise);
    }
    return sum / ((l->variance[i] > 0 ? l->variance[i] : 0) + l->noise);
}

/* Run number `run` is made at draw `at`. */
static void mde__learning_choose(mde__learning *l, const mde__draws *p, int run, int at)
{
    double *own = l->chosen + mde__cell(run, l->count, 0);
    double scale = 1.0 / sqrt((l->variance[at] > 0 ? l->variance[at] : 0) + l->noise);
    for (int i = 0; i < l->count; i++) own[i] = mde__learning_covariance(l, p, at, i);
    for (int r = 0; r < run; r++) {
        const double *before = l->chosen + mde__cell(r, l->count, 0);
        double factor = before[at];
        for (int i = 0; i < l->count; i++) own[i] -= factor * before[i];
    }
    for (int i = 0; i < l->count; i++) own[i] *= scale;
    for (int i = 0; i < l->count; i++) {
        double *row = l->covariance + mde__cell(i, l->good, 0);
        l->variance[i] -= own[i] * own[i];
        for (int q = 0; q < l->good; q++) row[q] -= own[i] * own[l->which[q]];
    }
    mde__learning_open(l);
}

/* How much mixture i promises: more is better. */
static double mde__draws_promise(const mde__draws *p, const mde__learning *l, const mde_suggest_desc *d, int smart,
                                 int i)
{
    if (!smart || d->acquisition == MDE_SPACE_FILLING) return p->distance[i];
    if (d->acquisition == MDE_VARIANCE_REDUCTION) return mde__learning_promise(l, i);
    if (d->acquisition == MDE_CONFIDENCE_BOUND) {
        return (d->exploration > 0 ? d->exploration : 2.0) * p->sd[i] - p->mean[i];
    }
    return mde__expected_improvement(d->best, p->mean[i], p->sd[i]);
}

#define MDE__NEAREST_RUN 0.05       /* Hellinger distance of a suggestion to any run, at least */

/* How far beyond what was tried one round goes. With the truths of bench/regret.c (7 domains, noise of .01, expected
   improvement) two rounds left a regret of .031 nats inside of what was tried, .005 half way to the user's bounds,
   .0004 with these two numbers, and .0003 with the user's bounds alone, where nothing keeps a regression from running
   off. */
#define MDE__REACH 2.0
#define MDE__REACH_STEP 0.05

/* Narrows bounds to what a surrogate of the runs is followed to. They stay as they are where no mixture would be left,
   which is when the runs themselves broke them. */
static void mde__reach_bounds(int n, int k, const double *tried, double reach, double *low, double *high)
{
    double lower[MDE_MAX_DOMAINS], upper[MDE_MAX_DOMAINS], lowest = 0, highest = 0;
    mde_bounds_of_runs(n, k, tried, 0, lower, upper);
    for (int i = 0; i < k; i++) {
        lower[i] = mde__clamp(lower[i] / reach - MDE__REACH_STEP, low[i], high[i]);
        upper[i] = mde__clamp(upper[i] * reach + MDE__REACH_STEP, low[i], high[i]);
        lowest += lower[i];
        highest += upper[i];
    }
    if (lowest > 1 || highest < 1) return;
    mde__copy(k, lower, low);
    mde__copy(k, upper, high);
}

/* Distances of the draws to their nearest run, once the one with these weights is one. */
static void mde__draws_near(mde__draws *p, const double *run)
{
    double roots[MDE_MAX_DOMAINS];
    for (int i = 0; i < p->k; i++) roots[i] = sqrt(run[i]);
    for (int i = 0; i < p->count; i++) {
        double distance = mde__hellinger(p->k, p->roots + mde__cell(i, p->k, 0), roots);
        if (distance < p->distance[i]) p->distance[i] = distance;
    }
}

/* Sds once the loss of the one with number `run` is known. */
static void mde__draws_shrink(mde__draws *p, int run)
{
    for (int i = 0; i < p->count; i++) {
        double reach = mde__hellinger(p->k, p->roots + mde__cell(i, p->k, 0), p->roots + mde__cell(run, p->k, 0)) /
                       MDE__RUN_REACH;
        double left = 1.0 - mde__exp64(-reach * reach);
        p->sd[i] *= sqrt(left > 0 ? left : 0);
    }
}

MDEDEF mde_status mde_suggest_runs(mde_context *c, const mde_surrogate *s, int n, int k, const double *tried,
                                   const mde_suggest_desc *desc, int count, double *out)
{
    double low[MDE_MAX_DOMAINS], high[MDE_MAX_DOMAINS], nearest;
    mde_suggest_desc defaults;
    mde__draws p;
    mde__learning learning;
    mde__meter meter;
    int chosen, learns;
    if (mde__bad(c)) return mde_context_status(c);
    memset(&defaults, 0, sizeof defaults);
    memset(&learning, 0, sizeof learning);
    if (!desc) desc = &defaults;
    learns = s && desc->acquisition == MDE_VARIANCE_REDUCTION;
    if (desc->made) *desc->made = 0;
    nearest = desc->distance > 0 ? desc->distance : MDE__NEAREST_RUN;
    mde__require(c, n >= 0 && k >= 2 && k <= MDE_MAX_DOMAINS && count >= 0 && (n == 0 || tried) &&
                    (count == 0 || out) && (!s || s->k == k),
                 "next runs: %d besides %d runs of %d weights; expected 2 to %d weights", count, n, k, MDE_MAX_DOMAINS);
    mde__require(c, desc->reach == 0 || desc->reach >= 1, "next runs: the reach is %.9g; expected 1 or more, or 0 for "
                 "%g", desc->reach, MDE__REACH);
    mde__require(c, !s || fabs(desc->best) < (double)INFINITY, "next runs: the best objective so far is not finite");
    if (mde__bad(c) || mde__simplex_bounds(c, k, desc->lower, desc->upper, low, high) ||
        mde__check_mixtures(c, "next runs", n, k, NULL, 0, tried) ||
        mde__check_mixtures(c, "centre of the next runs", desc->centre ? 1 : 0, k, NULL, 0, desc->centre) ||
        (s && mde__check_objective(c, s->m, desc->objective))) return mde_context_status(c);
    if (s && n > 0 && desc->acquisition != MDE_SPACE_FILLING) {
        mde__reach_bounds(n, k, tried, desc->reach > 0 ? desc->reach : MDE__REACH, low, high);
    }
    p.k = k;
    p.count = MDE__DRAWS + (desc->centre ? MDE__DRAWS_NEAR : 0);
    p.weights = mde__doubles(c, (size_t)p.count, 2 * (size_t)k + 3);
    if (!p.weights) return mde_context_status(c);
    p.mean = p.weights + (size_t)p.count * (size_t)k;
    p.sd = p.mean + p.count;
    p.distance = p.sd + p.count;
    p.roots = p.distance + p.count;
    meter = mde__new_meter(c, desc->progress, desc->user, "suggest");
    mde__meter_start(&meter, (s ? p.count : 0) + (learns ? 2.0 : 1.0) * n + count);
    mde__draws_fill(&p, low, high, desc->centre, learns, desc->seed);
    if (s) mde__draws_predict(&p, s, desc, &meter);
    for (int i = 0; i < n && !mde__bad(c); i++) {
        mde__draws_near(&p, tried + mde__cell(i, k, 0));
        mde__meter_add(&meter, 1);
    }
    if (learns && !mde__bad(c)) {
        mde__learning_start(&learning, s, desc, &p, n, tried, count < p.count ? count : p.count, &meter);
    }
    for (chosen = 0; chosen < count && !mde__bad(c); chosen++) {
        double highest = -(double)INFINITY, *w = out + mde__cell(chosen, k, 0);
        int best = -1;
        for (int i = 0; i < p.count; i++) {
            double promise = mde__draws_promise(&p, &learning, desc, s != NULL, i);
            if (p.distance[i] < nearest || !(promise > highest)) continue;
            highest = promise;
            best = i;
        }
        if (best < 0) break;
        mde__copy(k, p.weights + mde__cell(best, k, 0), w);
        mde__draws_near(&p, w);
        if (learns) mde__learning_choose(&learning, &p, chosen, best);
        else mde__draws_shrink(&p, best);
        mde__meter_add(&meter, 1);
    }
    MDE__RELEASE(c, learning.which, learning.open, learning.trend, p.weights);
    if (desc->made) *desc->made = chosen;
    mde__require(c, chosen >= count || desc->made, "next runs: after %d there is no mixture inside the bounds that is "
                 "at least %.9g away from all runs", chosen, nearest);
    return mde_context_status(c);
}

/* ======================================================================
   17. PICTURES
   ====================================================================== */

/* PNG is written with our own deflate: fixed Huffman codes behind a search for repeats. */

/* Deflate (RFC 1951) puts bits into bytes from the low end. */
typedef struct mde__bits {
    unsigned char *bytes;
    size_t count;
    uint32_t held;
    int bits;
} mde__bits;

static void mde__bits_put(mde__bits *w, uint32_t value, int bits)
{
    w->held |= value << w->bits;
    w->bits += bits;
    while (w->bits >= 8) {
        w->bytes[w->count++] = (unsigned char)(w->held & 0xFFu);
        w->held >>= 8;
        w->bits -= 8;
    }
}

/* Huffman codes alone go high end first. */
static void mde__bits_put_code(mde__bits *w, uint32_t code, int bits)
{
    uint32_t turned = 0;
    for (int i = 0; i < bits; i++) turned |= (code >> i & 1u) << (bits - 1 - i);
    mde__bits_put(w, turned, bits);
}

/* The fixed code of a byte, of the end (256) or of a length (257 to 285). */
static void mde__deflate_symbol(mde__bits *w, int symbol)
{
    if (symbol < 144) mde__bits_put_code(w, (uint32_t)(0x30 + symbol), 8);
    else if (symbol < 256) mde__bits_put_code(w, (uint32_t)(0x190 + symbol - 144), 9);
    else if (symbol < 280) mde__bits_put_code(w, (uint32_t)(symbol - 256), 7);
    else mde__bits_put_code(w, (uint32_t)(0xC0 + symbol - 280), 8);
}

/* A repeat of `length` bytes (3 to 258) from `distance` (1 to 32768) back. Codes come in groups that cover twice the
   range of the group before. */
static void mde__deflate_repeat(mde__bits *w, int length, int distance)
{
    int extra = 0, at = length - 3;
    if (length == 258) {
        mde__deflate_symbol(w, 285);
    } else {
        while (at >> extra >= 8) extra++;
        mde__deflate_symbol(w, 257 + 4 * extra + (at >> extra));
        mde__bits_put(w, (uint32_t)at & ((1u << extra) - 1), extra);
    }
    extra = 0;
    at = distance - 1;
    while (at >> extra >= 4) extra++;
    mde__bits_put_code(w, (uint32_t)(2 * extra + (at >> extra)), 5);
    mde__bits_put(w, (uint32_t)at & ((1u << extra) - 1), extra);
}

#define MDE__WINDOW 32768           /* how far back repeats may lie; fixed by the format */
#define MDE__CHAIN 64               /* places that are tried for a repeat */

static uint32_t mde__deflate_hash(const unsigned char *p)
{
    return ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16) * UINT32_C(2654435761) >> 17;
}

/* table: 2 * MDE__WINDOW numbers: the latest place of each hash, and the one before it of each place; 0 is none, so
   places count from 1. No symbol takes more than 9 bits a byte, which bounds the output. */
MDE__WARM
static void mde__deflate(mde__bits *w, const unsigned char *in, size_t size, uint32_t *table)
{
    uint32_t *latest = table, *before = table + MDE__WINDOW;
    size_t at = 0;
    mde__bits_put(w, 1, 1);         /* the last block */
    mde__bits_put(w, 1, 2);         /* fixed codes */
    while (at < size) {
        size_t most = size - at < 258 ? size - at : 258, best = 0, distance = 0, place, step;
        int tries = MDE__CHAIN;
        if (most >= 3) {
            for (place = latest[mde__deflate_hash(in + at)]; place && tries--; place = before[place % MDE__WINDOW]) {
                size_t from = place - 1, length = 0;
                if (from >= at || at - from > MDE__WINDOW - 1) break;
                while (length < most && in[from + length] == in[at + length]) length++;
                if (length > best) {
                    best = length;
                    distance = at - from;
                }
                if (best == most) break;
            }
        }
        if (best >= 3) mde__deflate_repeat(w, (int)best, (int)distance);
        else mde__deflate_symbol(w, in[at]);
        step = best >= 3 ? best : 1;
        for (size_t k = 0; k < step; k++, at++) {
            uint32_t hash;
            if (size - at < 3) continue;
            hash = mde__deflate_hash(in + at);
            before[(at + 1) % MDE__WINDOW] = latest[hash];
            latest[hash] = (uint32_t)(at + 1);
        }
    }
    mde__deflate_symbol(w, 256);
    if (w->bits) mde__bits_put(w, 0, 8 - w->bits);
}

static void mde__put_big(unsigned char *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(value >> (24 - 8 * i) & 0xFFu);
}

MDE__WARM
static uint32_t mde__adler32(const unsigned char *p, size_t size)
{
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < size; i++) {
        a = (a + p[i]) % 65521u;
        b = (b + a) % 65521u;
    }
    return b << 16 | a;
}

MDE__WARM
static uint32_t mde__crc32(const unsigned char *p, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1u ? 0xEDB88320u ^ crc >> 1 : crc >> 1;
    }
    return crc ^ 0xFFFFFFFFu;
}

/* Length, name, data and checksum at p, where the data stands already; returns what comes behind. */
static unsigned char *mde__png_chunk(unsigned char *p, const char *name, size_t size)
{
    mde__put_big(p, (uint32_t)size);
    memcpy(p + 4, name, 4);
    mde__put_big(p + 8 + size, mde__crc32(p + 4, size + 4));
    return p + 12 + size;
}

/* What filter `type` of the format predicts from the pixel to the left, above, and above that one. */
static MDE__INLINE int mde__png_predict(int type, int left, int up, int corner)
{
    int by_left, by_up, by_corner;
    switch (type) {
    case 1: return left;
    case 2: return up;
    case 3: return (left + up) / 2;
    case 4:
        by_left = abs(up - corner);
        by_up = abs(left - corner);
        by_corner = abs(left + up - 2 * corner);
        if (by_left <= by_up && by_left <= by_corner) return left;
        return by_up <= by_corner ? up : corner;
    default: return 0;
    }
}

/* Filters one row into out, type byte first; returns the sum of absolute differences. `above` is NULL for the first. */
MDE__WARM
static uint64_t mde__png_filter(int type, const unsigned char *row, const unsigned char *above, size_t bytes,
                                size_t channels, unsigned char *out)
{
    uint64_t sum = 0;
    out[0] = (unsigned char)type;
    for (size_t i = 0; i < bytes; i++) {
        int left = i >= channels ? row[i - channels] : 0, up = above ? above[i] : 0;
        int corner = above && i >= channels ? above[i - channels] : 0;
        unsigned difference = (unsigned)(row[i] - mde__png_predict(type, left, up, corner)) & 0xFFu;
        out[i + 1] = (unsigned char)difference;
        sum += difference < 128 ? difference : 256 - difference;
    }
    return sum;
}

static void mde__png_filter_all(const unsigned char *pixels, size_t rows, size_t bytes, size_t channels,
                                unsigned char *out)
{
    for (size_t y = 0; y < rows; y++, out += bytes + 1) {
        const unsigned char *row = pixels + y * bytes, *above = y ? row - bytes : NULL;
        uint64_t least = UINT64_MAX;
        int best = 0;
        for (int type = 0; type < 5; type++) {
            uint64_t sum = mde__png_filter(type, row, above, bytes, channels, out);
            if (sum < least) {
                least = sum;
                best = type;
            }
        }
        mde__png_filter(best, row, above, bytes, channels, out);
    }
}

MDEDEF unsigned char *mde_png_encode(mde_context *c, int width, int height, int channels, const unsigned char *pixels,
                                     size_t *size)
{
    unsigned char *filtered, *out, *p;
    uint32_t *table;
    mde__bits bits;
    size_t row = 0, raw = 0;
    if (size) *size = 0;
    if (mde__bad(c)) return NULL;
    if (width < 1 || height < 1 || (channels != 1 && channels != 3 && channels != 4) || !pixels || !size ||
        !mde__mul_size((size_t)width, (size_t)channels, &row) || !mde__mul_size(row + 1, (size_t)height, &raw) ||
        raw > (size_t)1 << 30) {
        mde_fail(c, MDE_BAD_ARGUMENT, "png: %d by %d pixels of %d channels; expected pixels, 1, 3 or 4 channels and "
                 "at most 1 GB", width, height, channels);
        return NULL;
    }
    filtered = (unsigned char *)mde_alloc(c, raw, 1);
    table = (uint32_t *)mde_alloc(c, 2 * MDE__WINDOW, sizeof *table);
    out = (unsigned char *)mde_alloc(c, raw + raw / 8 + 96, 1);
    if (out) {
        mde__png_filter_all(pixels, (size_t)height, row, (size_t)channels, filtered);
        memcpy(out, "\x89PNG\r\n\x1A\n", 8);
        p = out + 8;
        mde__put_big(p + 8, (uint32_t)width);
        mde__put_big(p + 12, (uint32_t)height);
        p[16] = 8;                                          /* bits a channel */
        p[17] = (unsigned char)(channels == 1 ? 0 : channels == 3 ? 2 : 6);
        p = mde__png_chunk(p, "IHDR", 13);
        memcpy(p + 8, "\x78\x01", 2);                       /* zlib: deflate, window of 32 KB */
        memset(&bits, 0, sizeof bits);
        bits.bytes = p + 10;
        mde__deflate(&bits, filtered, raw, table);
        mde__put_big(p + 10 + bits.count, mde__adler32(filtered, raw));
        p = mde__png_chunk(p, "IDAT", bits.count + 6);
        p = mde__png_chunk(p, "IEND", 0);
        *size = (size_t)(p - out);
    }
    MDE__RELEASE(c, table, filtered);
    return out;
}

#ifndef MDE_NO_STDIO
MDEDEF mde_status mde_png_write(mde_context *c, const char *path, int width, int height, int channels,
                                const unsigned char *pixels)
{
    size_t size = 0;
    unsigned char *bytes = mde_png_encode(c, width, height, channels, pixels, &size);
    if (bytes) {
        mde_file_write(c, path, bytes, size);
        mde_release(c, bytes);
    }
    return mde_context_status(c);
}
#endif

MDE__COLD_END

#if defined(__MINGW32__) && defined(__SSE2__)
#undef sqrt
#endif
#ifdef __cplusplus
}
#endif

#if defined(__GNUC__) && defined(MDE__OWN_LINKAGE)
#pragma GCC diagnostic pop
#endif
#if defined(__clang__)
#pragma float_control(pop)
#pragma clang diagnostic pop
#elif defined(_MSC_VER)
#pragma warning(pop)
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif /* MDEMIX_IMPLEMENTATION */
