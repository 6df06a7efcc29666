/* dagan.h - data augmentation GANs: from one image of a class, further ones, also for classes never seen.

   One header on top of mdemix.h, C99 or C++17, libc and libm, OpenMP if you like. In one source file of your program:

       #define MDEMIX_IMPLEMENTATION
       #define DAGAN_IMPLEMENTATION
       #include "dagan.h"

   and plain #include "dagan.h" in the others. Build with `cc -O2 file.c -lm`, or add -fopenmp for threads. Only the
   public part of mdemix.h is used, so the two implementations may also stand in two source files.

   A whole program. It trains on drawn characters and makes new images of characters that it has never seen:

       #include <stdio.h>
       #define MDEMIX_IMPLEMENTATION
       #define DAGAN_IMPLEMENTATION
       #include "dagan.h"

       int main(void)
       {
           mde_context *c = mde_context_create(NULL);
           dagan_images *all = dagan_images_open(c, NULL);             // drawn characters; or a folder, IDX, .npy
           dagan_images *seen = dagan_images_classes(all, 0.0, 0.8);
           dagan_images *unseen = dagan_images_classes(all, 0.8, 1.0);
           dagan_desc desc = { DAGAN_QUICK };
           dagan_train_desc train = { 300 };
           dagan *g = dagan_create(c, all, &desc);
           train.progress = mde_print_progress;
           dagan_train(g, seen, &train);
           dagan_write_grid(g, unseen, NULL, "dagan.png");             // one row a class: a real image, then made ones
           if (mde_context_status(c) != MDE_OK) fprintf(stderr, "%s\n", mde_error(c));
           mde_context_free(c);
           return 0;
       }

   CONTENTS
     2. CONFIGURATION
     3. PUBLIC API
     4. OPS OVER IMAGES
     5. IMAGE SETS
     6. NETWORKS
     7. TRAINING AND SAMPLING
     8. STUDIES
   A section uses only those above it, and of mdemix.h only what is public.

   WHERE TO ADD
     An op: shape, forward and VJP functions and a row in section 4, the row in the table (4.5), a function in 3.1; a
       case in tests/test_dagan_ops.c, without which the suite fails. A linear op comes with its adjoint, each the
       other's VJP.
     An image format: a reader that fills a dagan__picture, its call in dagan__read_picture, its ending in
       dagan__picture_kind (5.6); a file of many images fills a dagan__source (5.5).
     A network: a pass as those of 6.4 if it is trained as pairs are, units as those of 8.2 and 8.3 if it learns labels;
       all layers are made by dagan__layer_make (6.2).

   PAPERS
     A. Antoniou, A. Storkey, H. Edwards: Data Augmentation Generative Adversarial Networks. 2018 (arXiv 1711.04340).
     I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville: Improved Training of Wasserstein GANs. NIPS 2017.
     O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: Matching Networks for One Shot Learning.
       NIPS 2016.
     S. Ioffe: Batch Renormalization. NIPS 2017.
     E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville: FiLM: Visual Reasoning with a General Conditioning
       Layer. AAAI 2018.
     S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele, H. Lee: Generative Adversarial Text to Image Synthesis. ICML
       2016. The critic's mismatched pairs.
     Q. Mao, H. Lee, H. Tseng, S. Ma, M. Yang: Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis.
       CVPR 2019.
     B. Lake, R. Salakhutdinov, J. Tenenbaum: Human-level concept learning through probabilistic program induction.
       Science 2015. Omniglot.

   LICENCE
     Public domain or MIT-0, as you choose; see the file LICENSE. */

#ifndef DAGAN_H
#define DAGAN_H

/* ======================================================================
   2. CONFIGURATION
   ====================================================================== */

/* Macros that a user may define before the include:
     DAGAN_IMPLEMENTATION   in one translation unit: turns the code on
     DAGAN_MDEMIX           the file to include for mdemix.h, in quotes, if it lies elsewhere; default "mdemix.h"
   and those of mdemix.h (MDEDEF, MDE_NO_STDIO, ...). PNG and JPEG files are read if stb_image.h was included before. */

#ifndef DAGAN_MDEMIX
#define DAGAN_MDEMIX "mdemix.h"
#endif
#include DAGAN_MDEMIX

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================================================
   3. PUBLIC API
   ====================================================================== */

/* Errors, memory and threads are those of the mde_context that everything here is made from: the first error sticks,
   later calls do nothing, mde_error tells. */

/* ---- 3.1 Ops over images ------------------------------------------------
   Tensors are [batch, height, width, channels]. Every op can be differentiated any number of times. */

/* Cross-correlation with zero padding on all four sides: x [n, h, w, in], weight [kh, kw, in, out]
   -> [n, (h + 2 padding - kh) / stride + 1, .., out]. */
MDEDEF mde_tensor *dagan_conv2d(mde_context *c, mde_tensor *x, mde_tensor *weight, int stride, int padding);
/* Its adjoint in x, also known as transposed convolution: g [n, oh, ow, out] -> [n, height, width, in]. height and
   width must be sizes that dagan_conv2d maps to oh and ow. */
MDEDEF mde_tensor *dagan_conv2d_transpose(mde_context *c, mde_tensor *g, mde_tensor *weight, int stride, int padding,
                                          int64_t height, int64_t width);
/* Its adjoint in the weight: x [n, h, w, in], g [n, oh, ow, out] -> [kernel_height, kernel_width, in, out]. */
MDEDEF mde_tensor *dagan_conv2d_weight(mde_context *c, mde_tensor *x, mde_tensor *g, int stride, int padding,
                                       int64_t kernel_height, int64_t kernel_width);
/* Means and maxima of size x size windows at steps of size; a rest at the right or bottom edge is left out. */
MDEDEF mde_tensor *dagan_avg_pool(mde_context *c, mde_tensor *x, int size);
MDEDEF mde_tensor *dagan_max_pool(mde_context *c, mde_tensor *x, int size);
/* Mean over height and width: [n, h, w, c] -> [n, c]. */
MDEDEF mde_tensor *dagan_global_pool(mde_context *c, mde_tensor *x);
/* Nearest neighbour to any larger size: output row i is input row floor(i h / height). */
MDEDEF mde_tensor *dagan_upsample(mde_context *c, mde_tensor *x, int64_t height, int64_t width);
MDEDEF mde_tensor *dagan_leaky_relu(mde_context *c, mde_tensor *x, double slope);      /* slope x where x < 0 */
/* leaky_relu(conv2d(x, weight) + bias) at once and in the memory of one of them: bias [channels], slope 0 or more. */
MDEDEF mde_tensor *dagan_conv2d_leaky(mde_context *c, mde_tensor *x, mde_tensor *weight, mde_tensor *bias, int stride,
                                      int padding, double slope);
/* x gain + bias, channel by channel: gain and bias [channels]; either may be NULL. x of any rank, channels last. */
MDEDEF mde_tensor *dagan_scale_channels(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *bias);
/* The same with numbers for each image: x [n, h, w, channels], gain [n, channels], shift [n, channels] or NULL. */
MDEDEF mde_tensor *dagan_modulate(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *shift);
/* (x - mean) / sqrt(variance + epsilon) with the statistics of each channel over the batch (batch norm), of each image
   over all its channels (layer norm), or of each channel of each image (instance norm). Gain and bias are separate. */
MDEDEF mde_tensor *dagan_batch_normalize(mde_context *c, mde_tensor *x, double epsilon);
MDEDEF mde_tensor *dagan_image_normalize(mde_context *c, mde_tensor *x, double epsilon);
MDEDEF mde_tensor *dagan_instance_normalize(mde_context *c, mde_tensor *x, double epsilon);
/* Mean and variance (divided by n) of each channel, [channels] each; not recorded on the tape. */
MDEDEF mde_status dagan_channel_moments(mde_context *c, const mde_tensor *x, float *mean, float *variance);
/* Batch normalization with running statistics. */
typedef struct dagan_batch_norm_desc {
    mde_tensor *gain, *bias;    /* [channels]; NULL: none */
    mde_tensor *running_mean, *running_variance;   /* [channels] */
    double momentum;            /* in training the running ones move by 1 - momentum */
    double epsilon;             /* added to variances */
    int training;               /* 1: normalizes with the batch's statistics; 0: with the running ones */
    int renorm;                 /* 1 (Ioffe 2017): in training, too, the result is that of the running statistics,
                                   corrected by factors that the gradient does not see, r in [1/3, 3], d in [-5, 5] */
} dagan_batch_norm_desc;
MDEDEF mde_tensor *dagan_batch_norm(mde_context *c, mde_tensor *x, const dagan_batch_norm_desc *desc);
/* The rows of this header, for tests and docs. */
MDEDEF int dagan_op_count(void);
MDEDEF const mde_op *dagan_op_row(int index);

/* ---- 3.2 Image sets -------------------------------------------------------
   Images of one size, grouped into classes. Pixels are float, [height, width, channels], from -1 (black, paper) to 1
   (white, ink). */

typedef struct dagan_images dagan_images;   /* of one size, by class */
typedef struct dagan_images_desc {
    const char *path;       /* NULL: the drawn set. A file: IDX images of any type, [N, H, W], or .npy, [N, H, W],
                               [N, H, W, C] or [class, sample, H, W, C]. A folder: a class each folder that holds
                               images (PBM, PGM, PPM; PNG, JPEG, BMP, GIF with stb_image.h), at any depth, where train/a
                               and test/a are one class; without any image, its one IDX or .npy file. Files of .gz are
                               not read */
    const char *labels;     /* IDX or .npy labels [N], 8 or 16 bit or int; NULL: found by the name of path, in which
                               `images` is replaced by `labels` and idx3-ubyte by idx1-ubyte or idx1-short. None: an
                               error, but for 5-d */
    double low, high;       /* the numbers of an array that are black and white. Both 0: bytes 0 to 255, bool 0 and 1,
                               wider integers 0 to 255 or, if there are larger ones, to the largest; floats that lie, up
                               to a thousandth, in [0, 1], [-1, 1] or [0, 255]; anything else is an error */
    int size;               /* height and width wanted, by area average; 0: as they are (a folder: 28) */
    int channels;           /* 1: grey, 3: colour; 0: as they are */
    int invert;             /* 1: dark ink on white paper becomes light on dark */
    int transpose;          /* 1: rows and columns change places, as EMNIST needs it */
    int classes, samples;   /* of the drawn set: 0: 200 and 20. Of a file or folder: at most so many; 0: all */
    uint64_t seed;          /* of the drawn set */
} dagan_images_desc;
#ifndef MDE_NO_STDIO
MDEDEF dagan_images *dagan_images_open(mde_context *c, const dagan_images_desc *desc);   /* NULL desc: the drawn set */
#endif
/* Few-shot characters without any file: a class is a random program of strokes, a sample its own perturbation, affine
   map and pen, anti-aliased. Class i depends on seed and i alone. */
MDEDEF dagan_images *dagan_images_draw(mde_context *c, int classes, int samples, int size, uint64_t seed);
/* From memory: pixels [count, height, width, channels] in [-1, 1], label[i] >= 0 the class of image i. Copied. */
MDEDEF dagan_images *dagan_images_from(mde_context *c, int64_t count, int height, int width, int channels,
                                       const float *pixels, const int *label);
MDEDEF void dagan_images_free(dagan_images *set);

/* Subsets. They share the pixels of the set they come from, which must live as long. */
MDEDEF dagan_images *dagan_images_classes(const dagan_images *set, double from, double to);    /* shares of the list */
MDEDEF dagan_images *dagan_images_pick(const dagan_images *set, int count, const int *classes);   /* by index */
MDEDEF dagan_images *dagan_images_shuffle(const dagan_images *set, uint64_t seed);           /* order of the classes */
/* Of each class, at most `count` samples (0: all) after `first` others, in an order drawn by seed (0: as they are). */
MDEDEF dagan_images *dagan_images_samples(const dagan_images *set, int first, int count, uint64_t seed);

/* What a set holds; 0, NULL or "" for a class or sample that it has not. */
MDEDEF int dagan_images_class_count(const dagan_images *set);
MDEDEF int dagan_images_sample_count(const dagan_images *set, int class_index);
MDEDEF int64_t dagan_images_count(const dagan_images *set);                     /* over all classes */
MDEDEF void dagan_images_shape(const dagan_images *set, int *height, int *width, int *channels);   /* of an image */
MDEDEF const float *dagan_images_pixels(const dagan_images *set, int class_index, int sample);   /* the set's own */
/* Name of a class: its folder, or "class 12" by its index in the file. */
MDEDEF const char *dagan_images_name(const dagan_images *set, int class_index);
MDEDEF uint64_t dagan_images_hash(const dagan_images *set);                   /* of shapes and pixels: a fingerprint */
/* How many images of a folder are of formats that are not read, and the path of the first. */
MDEDEF int64_t dagan_images_left_out(const dagan_images *set, const char **first);

/* Classic augmentation of one image: a random affine map, then noise. All zero: none. in and out must not overlap. */
typedef struct dagan_augment_desc {
    double shift;           /* pixels, uniform to each side, in x and y */
    double rotate;          /* degrees, uniform to each side */
    double scale;           /* 0.1: factors from 1/1.1 to 1.1 */
    double noise;           /* standard deviation of added Gaussian noise; clipped to [-1, 1] */
    int flip;               /* 1: mirror left and right half of the time */
    int quarter_turns;      /* 1: also a random multiple of 90 degrees (square images) */
} dagan_augment_desc;
MDEDEF void dagan_augment(const dagan_augment_desc *desc, mde_random *r, int height, int width, int channels,
                          const float *in, float *out);

/* A picture of rows x columns images, [rows * columns, height, width, channels], each magnified `zoom` times (0: so
   that a row has about 900 pixels), with a thin frame; NULL among `images` leaves a gap. Grey images that are mostly
   black, as characters are, are shown as ink on paper, 1 black; photographs and colour as they are. */
MDEDEF unsigned char *dagan_grid_png(mde_context *c, int rows, int columns, int height, int width, int channels,
                                     const float *const *images, int zoom, size_t *size);

/* ---- 3.3 Generator and critic ----------------------------------------------
   Antoniou et al. 2018, sections 3 and 4. */

typedef enum dagan_preset {
    DAGAN_COMPACT = 0,      /* a laptop's: 16, 32, 48 filters; an hour gives good characters */
    DAGAN_QUICK,            /* for a demonstration of a minute or two */
    DAGAN_PAPER             /* the authors' sizes: 64, 64, 128, 128 filters, 10.5 and 7 million parameters */
} dagan_preset;
/* Normalisation by dagan_batch_norm, without or with renorm, or dagan_instance_normalize. */
typedef enum dagan_norm { DAGAN_BATCH_NORM = 0, DAGAN_BATCH_RENORM, DAGAN_INSTANCE_NORM } dagan_norm;
#define DAGAN_MAX_LEVELS 6   /* times that an image may be halved */
typedef struct dagan_desc {
    dagan_preset preset;    /* gives every field below that is 0 */
    int noise;              /* dimensions of z ~ N(0, I); the presets have 32, 16 and 100 */
    int levels;             /* times the image is halved */
    int generator[DAGAN_MAX_LEVELS];   /* filters at each level, finest first */
    int critic[DAGAN_MAX_LEVELS];
    int generator_layers;   /* inner convolutions of a block */
    int critic_layers;
    double dropout;         /* in training, after the scaling convolution of a block; MDE_ZERO: none */
    dagan_norm norm;        /* of the generator */
    int z_concatenated;     /* 1: z enters as further channels, as in the paper, not by scale and shift (FiLM) */
    int no_input_skip;      /* 1: the image itself is not handed to the last block */
    uint64_t seed;
} dagan_desc;

typedef struct dagan dagan;   /* generator and critic, with the state of their training */
/* like: a set whose image size and channels the networks take. */
MDEDEF dagan *dagan_create(mde_context *c, const dagan_images *like, const dagan_desc *desc);
MDEDEF void dagan_free(dagan *g);
MDEDEF const dagan_desc *dagan_describe(const dagan *g);                /* with the defaults filled in */
/* The context, and the size of the images; any may be NULL. */
MDEDEF void dagan_shape(const dagan *g, mde_context **c, int *height, int *width, int *channels);
MDEDEF mde_params *dagan_generator_params(const dagan *g);
MDEDEF mde_params *dagan_critic_params(const dagan *g);
/* The networks as recorded ops. x [n, h, w, c], z [n, noise] -> [n, h, w, c] in (-1, 1). training: batch statistics
   and dropout, whose masks depend on `stream`. */
MDEDEF mde_tensor *dagan_generator_apply(dagan *g, mde_tensor *x, mde_tensor *z, int training, uint64_t stream);
/* Scores [n] of pairs: is `candidate` another real image of the class of `condition`? */
MDEDEF mde_tensor *dagan_critic_apply(dagan *g, mde_tensor *candidate, mde_tensor *condition);

/* ---- 3.4 Training and sampling ---------------------------------------------- */

/* Looks at a generator after so many steps, with the weights that would be kept if they were the last; it changes none.
   Returns 0; anything else stops the training. */
typedef int dagan_look_fn(dagan *g, int64_t step, void *user);
/* A further term of the generator's loss, a scalar: made of ops from what it made of images x_i [n, h, w, c] and from
   their partners x_j. NULL: an error. */
typedef mde_tensor *dagan_term_fn(dagan *g, mde_tensor *partner, mde_tensor *made, void *user);
typedef struct dagan_train_desc {
    int64_t steps;          /* of the generator; 0: 5000 */
    int batch;              /* pairs a step; 0: 32 */
    int critic_steps;       /* a generator step; 0: 5 */
    double penalty;         /* weight of the gradient penalty; 0: 10; MDE_ZERO: none */
    double learning_rate;   /* 0: the paper's 1e-4 for DAGAN_PAPER, 5e-4 for DAGAN_COMPACT, 1e-3 for DAGAN_QUICK */
    double beta1, beta2;    /* of Adam; 0: MDE_ZERO (a real 0) and 0.9 */
    double mismatch;        /* share of real images of other classes among those that the critic learns to reject, at
                               most 0.9 (Reed et al. 2016); 0: 0.5, with DAGAN_PAPER none; MDE_ZERO: none */
    double diversity;       /* weight of the mode-seeking term (Mao et al. 2019) that rewards images that differ when z
                               does; 0: none */
    int same_allowed;       /* 1: x_j may be x_i itself, as in the authors' code */
    int quarter_turns;      /* 1: half of the pairs are rotated by a random multiple of 90 degrees, both images alike;
                               2: all of them, so that a class counts as four */
    double average;         /* 0.999: what is kept in the end, shown in grids and read by dagan_open is the exponential
                               moving average of the generator's weights over about 1000 steps; 0: the last weights */
    double anneal;          /* share of the steps, at the end, in which the learning rate falls to 0; 0: none. A run
                               with it is continued with the same number of steps only */
    uint64_t seed;
    const char *checkpoint; /* file to continue from if it is there, written every checkpoint_steps and at the end, also
                               of a stopped run; NULL: none */
    int64_t checkpoint_steps;  /* 0: a twentieth of the steps */
    int pairs;              /* further facts about the run, at most 16, that are kept in the checkpoint and must be */
    const char *const *metadata;    /* the same for it to be continued; [2 pairs]: name, value, .. */
    const char *grid;       /* PNG of fixed inputs, written again with each checkpoint or as often; NULL: none */
    const dagan_images *grid_set;   /* classes shown in it; NULL: those trained on */
    dagan_term_fn *term;    /* added to the generator's loss; NULL: none. Checkpoints know it by metadata alone */
    dagan_look_fn *look;    /* called every checkpoint_steps and at the end; NULL: none */
    mde_progress_fn *progress;  /* loss: the critic's distance; figures: this and further ones in words */
    void *user;
} dagan_train_desc;
/* WGAN-GP on pairs (x_i, x_j) of one class against (x_i, G(x_i, z)): L_D = E[D(x_i, x_g)] - E[D(x_i, x_j)] + penalty
   E[(|grad_x D(x_i, x)| - 1)^2] at x between x_g and x_j (Gulrajani et al. 2017), L_G = -E[D(x_i, x_g)]. */
MDEDEF mde_status dagan_train(dagan *g, const dagan_images *set, const dagan_train_desc *desc);

/* What one training step did. */
typedef struct dagan_step {
    double distance;        /* E[D(x_i, x_j)] - E[D(x_i, x_g)], last critic step */
    double penalty;         /* mean (|grad| - 1)^2 */
    double gradient_norm;   /* mean |grad_x D| */
    double generator_loss;
} dagan_step;
/* Curve of the last training: means over spans of steps, *points of them; steps[i] is the end of span i. Owned by g. */
MDEDEF const dagan_step *dagan_curve(const dagan *g, int *points, const int64_t **steps);
/* One critic and one generator step on given pairs, for those who write their own loop. x, partner: tensors
   [n, h, w, c]; a term has x for partner. The step's z, mixing factors and masks come from (desc->seed, step). */
MDEDEF mde_status dagan_critic_step(dagan *g, mde_tensor *x, mde_tensor *partner, const dagan_train_desc *desc,
                                    int64_t step, dagan_step *out);
MDEDEF mde_status dagan_generator_step(dagan *g, mde_tensor *x, const dagan_train_desc *desc, int64_t step,
                                       dagan_step *out);

/* out [n, h, w, c] from x [n, h, w, c] and z [n, noise] (NULL: drawn from seed), with running statistics. */
MDEDEF mde_status dagan_generate(dagan *g, int64_t n, const float *x, const float *z, uint64_t seed, float *out);
/* A new set of the same classes: `each` made images for every image of `set`, in order. */
MDEDEF dagan_images *dagan_make(dagan *g, const dagan_images *set, int each, uint64_t seed);
#ifndef MDE_NO_STDIO
typedef struct dagan_grid_desc {
    int rows, columns;      /* 0: 8 and 12; the first column is the real image */
    int interpolate;        /* 1: a row goes from one z to another, keeping to the lengths they have */
    uint64_t seed;          /* of the classes and samples shown and of z */
} dagan_grid_desc;
/* A PNG: each row a real image of a class, drawn by the seed, and images made from it. NULL desc: defaults. */
MDEDEF mde_status dagan_write_grid(dagan *g, const dagan_images *set, const dagan_grid_desc *desc, const char *path);
/* Weights of both networks and, as metadata, their shape: safetensors. */
MDEDEF mde_status dagan_write(const dagan *g, const char *path);
MDEDEF dagan *dagan_open(mde_context *c, const char *path);            /* weights or a checkpoint */
#endif

/* ---- 3.5 Classifiers, Matching Networks, metrics -------------------------------- */

typedef struct dagan_classifier dagan_classifier;   /* a network that names the class of an image */
typedef struct dagan_classifier_desc {
    int classes;            /* 0: those of the set given to dagan_classifier_create */
    int growth_rate;        /* filters a convolution of the DenseNet adds; 0: 16 (the paper: 64) */
    int layers;             /* convolutions a block; 0: 3 */
    int blocks;             /* 0: 3 */
    double dropout;         /* at the end of a block; 0: 0.3; MDE_ZERO: none */
    int no_flag;            /* 1: the network is not told which images are made */
    uint64_t seed;
} dagan_classifier_desc;
typedef struct dagan_fit_desc {
    int64_t steps;          /* 0: 1500 */
    int batch;              /* 0: 32 */
    double learning_rate;   /* 0: 3e-3, cosine to a tenth */
    const dagan_images *made;   /* made images of the same classes; NULL: none */
    double made_share;      /* of a batch; 0: 0.5 */
    dagan_augment_desc augment; /* applied to real and made images */
    uint64_t seed;
    mde_progress_fn *progress;
    void *user;
} dagan_fit_desc;
/* DenseNet with the real/made flag joined to the pooled features (Antoniou et al. 2018, section 5). */
MDEDEF dagan_classifier *dagan_classifier_create(mde_context *c, const dagan_images *like,
                                                 const dagan_classifier_desc *desc);
MDEDEF void dagan_classifier_free(dagan_classifier *k);
MDEDEF mde_params *dagan_classifier_params(const dagan_classifier *k);
MDEDEF mde_status dagan_classifier_train(dagan_classifier *k, const dagan_images *real, const dagan_fit_desc *desc);
MDEDEF double dagan_classifier_accuracy(dagan_classifier *k, const dagan_images *test);     /* in [0, 1] */

typedef struct dagan_matcher dagan_matcher;   /* a network that compares images with those of a support set */
typedef struct dagan_matcher_desc {
    int filters;            /* of each of the four convolutions of the embedding; 0: 32 (the paper: 64) */
    int full_context;       /* 1: full-context embeddings, a bidirectional LSTM over the support set */
    uint64_t seed;
} dagan_matcher_desc;
typedef struct dagan_episode_desc {
    int64_t episodes;       /* training: 0: 2000; testing: 0: 1000 */
    int way, shot;          /* 0: 20 and 1 */
    int queries;            /* a class; 0: 1 */
    double learning_rate;   /* 0: 3e-3, cosine to a tenth */
    dagan *generator;       /* NULL: no made images */
    int made;               /* made images added to each support image; 0: 2 if there is a generator */
    int selector;           /* 1: z comes from a trained network that sees the support image's embedding, not from
                               N(0, I) */
    int quarter_turns;      /* training: 1: rotated classes are further classes */
    uint64_t seed;
    mde_progress_fn *progress;
    void *user;
} dagan_episode_desc;
/* Cosine attention over the embedded support set (Vinyals et al. 2016). */
MDEDEF dagan_matcher *dagan_matcher_create(mde_context *c, const dagan_images *like, const dagan_matcher_desc *desc);
MDEDEF void dagan_matcher_free(dagan_matcher *m);
MDEDEF mde_params *dagan_matcher_params(const dagan_matcher *m);
MDEDEF mde_status dagan_matcher_train(dagan_matcher *m, const dagan_images *set, const dagan_episode_desc *desc);
/* Share of queries put into the right class; *error its standard error, may be NULL. */
MDEDEF double dagan_matcher_accuracy(dagan_matcher *m, const dagan_images *set, const dagan_episode_desc *desc,
                                     double *error);
/* Embeddings [count, width] of images; out has count * dagan_matcher_width(m) floats. */
MDEDEF int dagan_matcher_width(const dagan_matcher *m);
MDEDEF mde_status dagan_matcher_embed(dagan_matcher *m, int64_t count, const float *pixels, float *out);
/* The same on the tape, of x [n, h, w, c]: [n, width]. Gradients reach those parameters that have requires_grad. */
MDEDEF mde_tensor *dagan_matcher_apply(dagan_matcher *m, mde_tensor *x);
/* Logits [n, way] whose softmax is each class's share of the attention, from embeddings: support [way items, width],
   class by class, and queries [n, width]. */
MDEDEF mde_tensor *dagan_matcher_logits(dagan_matcher *m, mde_tensor *support, mde_tensor *queries, int64_t way);
MDEDEF void dagan_matcher_shape(const dagan_matcher *m, mde_context **c, int *height, int *width, int *channels);


#ifdef __cplusplus
}
#endif

#endif /* DAGAN_H */

#if defined(DAGAN_IMPLEMENTATION) && !defined(DAGAN__IMPLEMENTED)
#define DAGAN__IMPLEMENTED

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Same bits everywhere: nothing is fused here but what the kernels of mdemix.h fuse. */
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
#pragma GCC optimize("fp-contract=off")
/* Plain -O2 leaves most loops scalar before gcc 13. None of these options changes a result. */
#pragma GCC optimize("tree-vectorize", "vect-cost-model=dynamic", "no-trapping-math")
#endif

/* Around parts whose time does not matter: -O2 takes twice as long to compile as -O1. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define DAGAN__COLD_BEGIN \
    _Pragma("GCC push_options") \
    _Pragma("GCC optimize(\"O1\", \"no-tree-dominator-opts\", \"no-tree-vectorize\", \"fp-contract=off\")")
#define DAGAN__COLD_END _Pragma("GCC pop_options")
#else
#define DAGAN__COLD_BEGIN
#define DAGAN__COLD_END
#endif

#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"     /* MDEDEF may be static */
#define DAGAN__UNUSED __attribute__((unused))
#else
#define DAGAN__UNUSED
#endif

#if defined(__MINGW32__) && defined(__SSE2__)
#include <emmintrin.h>
/* That of MinGW's library is the x87's, which rounds twice. */
static inline double dagan__sqrt64(double x)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x)));
}
#define sqrt(x) dagan__sqrt64(x)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================================================
   4. OPS OVER IMAGES
   ====================================================================== */

/* What a convolutional network needs, as rows of the op table of mdemix.h. The one idea: linear ops come in closed
   families, in which the derivative of each member is made of the others, so that derivatives of every order exist
   without further code. A convolution runs as one matrix product for each row of the kernel over a strip of output
   rows: the patch of a pixel is a stretch of a padded image row, so that patches are read where they lie. */

/* Parameters of the functions of an op's row, in every one of them. */
#define DAGAN__SHAPE mde_context *c, mde_tensor *const *in, DAGAN__UNUSED const mde_args *args, mde_tensor *out
#define DAGAN__VJP mde_context *c, const mde_node *node, mde_tensor *g, DAGAN__UNUSED unsigned want, mde_tensor **din

/* The numbers of an op that are no tensors. */
static mde_args dagan__args(int64_t first, int64_t second, int64_t third, int64_t fourth, double number)
{
    mde_args args;
    memset(&args, 0, sizeof args);
    args.i[0] = first;
    args.i[1] = second;
    args.i[2] = third;
    args.i[3] = fourth;
    args.f[0] = number;
    return args;
}

static mde_tensor *dagan__apply(mde_context *c, const mde_op *op, mde_tensor *x, mde_tensor *second, mde_tensor *third,
                                const mde_args *args)
{
    mde_tensor *in[3];
    in[0] = x;
    in[1] = second;
    in[2] = third;
    return mde_apply(c, op, in, args);
}

static int dagan__check_rank(mde_context *c, const char *name, const mde_tensor *x)
{
    if (x->rank == 4) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: a tensor of rank %d; expected [batch, height, width, channels]", name,
                     x->rank);
}

/* 1, as what the shape function of an op returns. */
static int dagan__set_shape(mde_tensor *out, int64_t n, int64_t h, int64_t w, int64_t channels)
{
    out->rank = 4;
    out->shape[0] = n;
    out->shape[1] = h;
    out->shape[2] = w;
    out->shape[3] = channels;
    return 1;
}

static int64_t dagan__minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t dagan__blocks(int64_t count, int64_t block)
{
    return (count + block - 1) / block;
}

#define DAGAN__THREAD_FLOATS 32768     /* of input and output, for which it pays to wake a thread */

typedef struct dagan__shares { mde_parallel_fn *fn; void *user; int64_t count, shares; } dagan__shares;

static void dagan__share(int64_t index, void *user)
{
    const dagan__shares *s = (const dagan__shares *)user;
    for (; index < s->count; index += s->shares) s->fn(index, s->user);
}

/* mde_parallel_for on no more threads than so many floats are worth. */
static void dagan__parallel(mde_context *c, int64_t count, size_t floats, mde_parallel_fn *fn, void *user)
{
    dagan__shares s;
    s.fn = fn;
    s.user = user;
    s.count = count;
    s.shares = dagan__minimum(count, dagan__minimum(mde_threads(c), 1 + (int64_t)(floats / DAGAN__THREAD_FLOATS)));
    mde_parallel_for(c, s.shares, dagan__share, &s);
}

/* ---- 4.1 Convolution ---- */

#define DAGAN__STRIP 480                /* output pixels of a strip, whose input fits the second cache */
#define DAGAN__PATCHES 240              /* the same where each pixel's patch is written down */
#define DAGAN__GROUPS 8                 /* of images, for the partial sums of a weight's gradient */
#define DAGAN__THREAD_WORK 500000       /* multiply-adds for which it pays to wake a thread */

/* All three members of the family speak of the same convolution, x [n, h, w, in] * weight [kh, kw, in, out]
   -> y [n, oh, ow, out]: its inputs are x and weight, y and weight (the adjoint in x), x and y (that in the weight). */
enum { DAGAN__OF_X_AND_WEIGHT, DAGAN__OF_Y_AND_WEIGHT, DAGAN__OF_X_AND_Y };

typedef struct dagan__convolution {
    mde_context *context;
    int64_t n, h, w, in, kh, kw, out, oh, ow, stride, padding;
    const float *x, *weight, *y;
    const float *bias;                  /* NULL: none, and no leaky ReLU */
    float slope;
    float *result, *scratch;
    int64_t *offsets;                   /* of the patches of a strip, for each job */
    int64_t pitch;                      /* floats from a padded image row to the next */
    int64_t strip;                      /* output rows, counted over all images */
    size_t gathered, scratch_floats;    /* of one job: before the workspace of the product, and in all */
    int64_t jobs;
} dagan__convolution;

/* Fills in the sizes; 0 and an error unless there is such a convolution. args: stride, padding, and the two sizes that
   the inputs do not tell, those of x or of the kernel. */
static int dagan__conv_sizes(mde_context *c, int member, mde_tensor *const *in, const mde_args *args,
                             dagan__convolution *v)
{
    static const char *const names[3] = { "conv2d", "conv2d_transpose", "conv2d_weight" };
    const char *name = names[member];
    const int64_t *a = in[0]->shape, *b = in[1]->shape, *y = member == DAGAN__OF_Y_AND_WEIGHT ? a : b;
    memset(v, 0, sizeof *v);
    if (!dagan__check_rank(c, name, in[0]) || !dagan__check_rank(c, name, in[1])) return 0;
    v->context = c;
    v->n = a[0];
    v->h = member == DAGAN__OF_Y_AND_WEIGHT ? args->i[2] : a[1];
    v->w = member == DAGAN__OF_Y_AND_WEIGHT ? args->i[3] : a[2];
    v->in = member == DAGAN__OF_Y_AND_WEIGHT ? b[2] : a[3];
    v->kh = member == DAGAN__OF_X_AND_Y ? args->i[2] : b[0];
    v->kw = member == DAGAN__OF_X_AND_Y ? args->i[3] : b[1];
    v->out = b[3];
    v->stride = args->i[0];
    v->padding = args->i[1];
    if (v->stride < 1 || v->padding < 0 || v->stride > 64 || v->padding > 64) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: stride %lld, padding %lld; expected 1 to 64, 0 to 64", name,
                         (long long)v->stride, (long long)v->padding);
    }
    if (member == DAGAN__OF_X_AND_WEIGHT && b[2] != v->in) {
        return !mde_fail(c, MDE_BAD_SHAPE, "%s: x has %lld channels, the weight [%lld, %lld, %lld, %lld] takes %lld",
                         name, (long long)v->in, (long long)b[0], (long long)b[1], (long long)b[2], (long long)b[3],
                         (long long)b[2]);
    }
    if (v->kh < 1 || v->kw < 1 || v->h + 2 * v->padding < v->kh || v->w + 2 * v->padding < v->kw) {
        return !mde_fail(c, MDE_BAD_SHAPE, "%s: a kernel of %lld x %lld on images of %lld x %lld with padding %lld",
                         name, (long long)v->kh, (long long)v->kw, (long long)v->h, (long long)v->w,
                         (long long)v->padding);
    }
    v->oh = (v->h + 2 * v->padding - v->kh) / v->stride + 1;
    v->ow = (v->w + 2 * v->padding - v->kw) / v->stride + 1;
    v->pitch = (v->w + 2 * v->padding) * v->in;
    if (member == DAGAN__OF_X_AND_WEIGHT) return 1;
    if (y[0] == v->n && y[1] == v->oh && y[2] == v->ow && y[3] == v->out) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: g is [%lld, %lld, %lld, %lld]; the convolution gives [%lld, %lld, %lld, "
                     "%lld]", name, (long long)y[0], (long long)y[1], (long long)y[2], (long long)y[3], (long long)v->n,
                     (long long)v->oh, (long long)v->ow, (long long)v->out);
}

static int64_t dagan__conv_strip(const dagan__convolution *v, int64_t pixels)
{
    return v->ow < pixels ? pixels / v->ow : 1;
}

/* As many jobs as there are threads, but none with less than a thread is worth. */
static int64_t dagan__conv_jobs(const dagan__convolution *v)
{
    double work = (double)(v->n * v->oh * v->ow) * (double)(v->kh * v->kw * v->in * v->out) / DAGAN__THREAD_WORK;
    int64_t threads = mde_threads(v->context);
    return work < 2 ? 1 : work < (double)threads ? (int64_t)work : threads;
}

/* Memory for `jobs` jobs: `gathered` floats of input and the workspace of a product. */
static int dagan__conv_scratch(dagan__convolution *v, int64_t jobs, int64_t gathered, int64_t m, int64_t n, int64_t k)
{
    v->jobs = jobs;
    if (gathered < 0 || (uint64_t)gathered > SIZE_MAX / 64) {
        return !mde_fail(v->context, MDE_OUT_OF_MEMORY, "convolution: patches of %lld numbers are more than can be "
                         "addressed", (long long)gathered);
    }
    v->gathered = (size_t)(gathered + 15) / 16 * 16;
    v->scratch_floats = (v->gathered + mde_gemm_floats(v->context, m, n, k) + 15) / 16 * 16;
    v->scratch = (float *)mde_scratch(v->context, (size_t)jobs * v->scratch_floats, sizeof *v->scratch);
    return v->scratch != NULL;
}

/* One row of one image with zeros on both sides, or all zeros above and below the image. */
static void dagan__conv_pad_row(const dagan__convolution *v, int64_t image, int64_t y, float *to)
{
    int64_t side = (v->pitch - v->w * v->in) / 2;
    if (y < 0 || y >= v->h) {
        memset(to, 0, (size_t)v->pitch * sizeof *to);
        return;
    }
    memset(to, 0, (size_t)side * sizeof *to);
    memcpy(to + side, v->x + (image * v->h + y) * v->w * v->in, (size_t)(v->w * v->in) * sizeof *to);
    memset(to + side + v->w * v->in, 0, (size_t)side * sizeof *to);
}

/* Padded input of `rows` output rows from number `first` on, and where in it the first row of each pixel's patch
   stands. Rows of one image share their input rows. */
static void dagan__conv_pad(const dagan__convolution *v, int64_t first, int64_t rows, float *padded, int64_t *offsets)
{
    int64_t at = 0, next = 0;
    for (int64_t r = first; r < first + rows; r++, at += v->stride * v->pitch) {
        int64_t y = r % v->oh, together = dagan__minimum(v->oh - y, first + rows - r);
        if (r == first || y == 0) {
            at = next;
            for (int64_t i = 0; i < (together - 1) * v->stride + v->kh; i++, next += v->pitch) {
                dagan__conv_pad_row(v, r / v->oh, y * v->stride - v->padding + i, padded + next);
            }
        }
        for (int64_t column = 0; column < v->ow; column++) *offsets++ = at + column * v->stride * v->in;
    }
}

/* Of `rows` output rows of one image from row y on: for each input row that they see and each output column the kw
   pixels under the kernel, [kw in]. Input rows that differ by the stride stand one after the other, so that for each
   row of the kernel the patches of all pixels lie evenly. */
static void dagan__conv_spread(const dagan__convolution *v, int64_t image, int64_t y, int64_t rows, float *padded,
                               float *spread)
{
    int64_t width = v->kw * v->in, phase, i, column;
    for (phase = 0; phase < v->stride && phase < v->kh; phase++) {
        for (i = 0; i < rows + (v->kh - 1) / v->stride; i++) {
            dagan__conv_pad_row(v, image, (y + i) * v->stride + phase - v->padding, padded);
            for (column = 0; column < v->ow; column++, spread += width) {
                memcpy(spread, padded + column * v->stride * v->in, (size_t)width * sizeof *spread);
            }
        }
    }
}

/* Adds patches of `count` output pixels, rows [kh kw in], to the image of v->result that they were taken from. */
static void dagan__conv_scatter(const dagan__convolution *v, int64_t image, int64_t first, int64_t count,
                                const float *patches)
{
    float *to = v->result + image * v->h * v->w * v->in;
    int64_t width = v->kw * v->in, p, k;
    for (p = first; p < first + count; p++) {
        int64_t top = p / v->ow * v->stride - v->padding, left = p % v->ow * v->stride - v->padding, i;
        int64_t skip = left < 0 ? -left : 0, end = dagan__minimum(v->kw, v->w - left);
        for (i = 0; i < v->kh; i++, patches += width) {
            int64_t y = top + i;
            float *row = to + (y * v->w + left) * v->in;
            if (y < 0 || y >= v->h) continue;
            for (k = skip * v->in; k < end * v->in; k++) row[k] += patches[k];
        }
    }
}

/* y + bias through leaky ReLU, in place. */
static void dagan__conv_finish(const dagan__convolution *v, int64_t pixels, float *y)
{
    const float *bias = v->bias;
    float slope = v->slope;
    int64_t n = v->out;
    for (; pixels > 0; pixels--, y += n) {
        for (int64_t k = 0; k < n; k++) {
            float value = y[k] + bias[k], less = slope * value;
            y[k] = value > 0 ? value : less;
        }
    }
}

/* A job takes every jobs-th strip, so that all end at about the same time. */
static void dagan__conv_job(int64_t job, void *user)
{
    const dagan__convolution *v = (const dagan__convolution *)user;
    int64_t rows = v->n * v->oh, k = v->kw * v->in, first, i;
    float *padded = v->scratch + (size_t)job * v->scratch_floats;
    int64_t *offsets = v->offsets + job * v->strip * v->ow;
    for (first = job * v->strip; first < rows; first += v->jobs * v->strip) {
        int64_t count = dagan__minimum(v->strip, rows - first);
        mde_product product = mde_product_of(0, 0, count * v->ow, v->out, k, NULL, NULL);
        product.row = offsets;
        product.out = v->result + first * v->ow * v->out;
        dagan__conv_pad(v, first, count, padded, offsets);
        for (i = 0; i < v->kh; i++) {
            product.a = padded + i * v->pitch;
            product.b = v->weight + i * k * v->out;
            product.accumulate = i > 0;
            mde_gemm(v->context, &product, padded + v->gathered);
        }
        if (v->bias) dagan__conv_finish(v, count * v->ow, v->result + first * v->ow * v->out);
    }
}

static void dagan__conv_run(dagan__convolution *v)
{
    int64_t jobs = dagan__conv_jobs(v), rows = v->n * v->oh, strips, pixels;
    /* As many strips for each job. */
    strips = dagan__blocks(rows, jobs * dagan__conv_strip(v, DAGAN__STRIP));
    v->strip = dagan__blocks(rows, jobs * strips);
    pixels = v->strip * v->ow;
    v->offsets = (int64_t *)mde_scratch(v->context, (size_t)(jobs * pixels), sizeof *v->offsets);
    if (v->offsets && dagan__conv_scratch(v, jobs, (v->strip * v->stride + (v->strip / v->oh + 2) * v->kh) * v->pitch,
                                         pixels, v->out, v->kw * v->in)) {
        mde_parallel_for(v->context, v->jobs, dagan__conv_job, v);
    }
}

static void dagan__conv_transpose_job(int64_t job, void *user)
{
    const dagan__convolution *v = (const dagan__convolution *)user;
    int64_t pixels = v->oh * v->ow, k = v->kh * v->kw * v->in, strips = dagan__blocks(pixels, DAGAN__PATCHES);
    float *patches = v->scratch + (size_t)job * v->scratch_floats;
    for (int64_t image = job; image < v->n; image += v->jobs) {
        memset(v->result + image * v->h * v->w * v->in, 0, (size_t)(v->h * v->w * v->in) * sizeof *v->result);
        for (int64_t strip = 0; strip < strips; strip++) {
            int64_t first = pixels * strip / strips, count = pixels * (strip + 1) / strips - first;
            mde_product product = mde_product_of(0, 1, count, k, v->out, v->y + (image * pixels + first) * v->out,
                                                 v->weight);
            product.out = patches;
            mde_gemm(v->context, &product, patches + v->gathered);
            dagan__conv_scatter(v, image, first, count, patches);
        }
    }
}

/* The rows of the patches' transpose, [kh kw in], in what dagan__conv_spread makes of so many output rows. */
static void dagan__conv_weight_offsets(const dagan__convolution *v, int64_t rows, int64_t *offsets)
{
    int64_t k = v->kw * v->in, i, p;
    for (i = 0; i < v->kh; i++) {
        int64_t row = i % v->stride * (rows + (v->kh - 1) / v->stride) + i / v->stride;
        for (p = 0; p < k; p++) *offsets++ = row * v->ow * k + p;
    }
}

/* One group of images. */
static void dagan__conv_weight_job(int64_t job, void *user)
{
    const dagan__convolution *v = (const dagan__convolution *)user;
    int64_t k = v->kw * v->in, first = v->n * job / v->jobs, known = 0, image, y;
    int64_t *offsets = v->offsets + job * v->kh * k;
    float *padded = v->scratch + (size_t)job * v->scratch_floats, *spread = padded + v->pitch;
    for (image = first; image < v->n * (job + 1) / v->jobs; image++) {
        for (y = 0; y < v->oh; y += v->strip) {
            int64_t rows = dagan__minimum(v->strip, v->oh - y);
            mde_product product = mde_product_of(0, 0, v->kh * k, v->out, rows * v->ow, spread,
                                                 v->y + (image * v->oh + y) * v->ow * v->out);
            if (rows != known) dagan__conv_weight_offsets(v, rows, offsets);
            known = rows;
            dagan__conv_spread(v, image, y, rows, padded, spread);
            product.row = offsets;
            product.step = k;
            product.accumulate = image > first || y > 0;
            product.out = v->result + job * v->kh * k * v->out;
            mde_gemm(v->context, &product, padded + v->gathered);
        }
    }
}

static int dagan__conv2d_shape(DAGAN__SHAPE)
{
    dagan__convolution v;
    return dagan__conv_sizes(c, DAGAN__OF_X_AND_WEIGHT, in, args, &v) && dagan__set_shape(out, v.n, v.oh, v.ow, v.out);
}

static void dagan__conv2d_forward(mde_context *c, mde_node *node)
{
    dagan__convolution v;
    mde_mark mark = mde_arena_mark(c);
    dagan__conv_sizes(c, DAGAN__OF_X_AND_WEIGHT, node->in, &node->args, &v);
    v.x = node->in[0]->data;
    v.weight = node->in[1]->data;
    v.bias = node->op->inputs == 3 ? node->in[2]->data : NULL;
    v.slope = (float)node->args.f[0];
    v.result = node->out->data;
    dagan__conv_run(&v);
    mde_arena_rewind(c, mark);
}

static void dagan__conv2d_vjp(DAGAN__VJP)
{
    const mde_tensor *x = node->in[0], *weight = node->in[1];
    int stride = (int)node->args.i[0], padding = (int)node->args.i[1];
    if (want & 1) din[0] = dagan_conv2d_transpose(c, g, node->in[1], stride, padding, x->shape[1], x->shape[2]);
    if (want & 2) din[1] = dagan_conv2d_weight(c, node->in[0], g, stride, padding, weight->shape[0], weight->shape[1]);
}

static const mde_op dagan__op_conv2d = { "conv2d", 2, dagan__conv2d_shape, dagan__conv2d_forward, dagan__conv2d_vjp,
                                         NULL };

static int dagan__conv_transpose_shape(DAGAN__SHAPE)
{
    dagan__convolution v;
    return dagan__conv_sizes(c, DAGAN__OF_Y_AND_WEIGHT, in, args, &v) && dagan__set_shape(out, v.n, v.h, v.w, v.in);
}

/* With stride 1 the adjoint is itself a convolution, of y with the weight rotated by half a turn: [kh, kw, out, in]. */
static void dagan__conv_rotated(const dagan__convolution *v)
{
    dagan__convolution rotated = *v;
    int64_t taps = v->kh * v->kw, tap, i, o;
    float *to = (float *)mde_scratch(v->context, (size_t)(taps * v->in * v->out), sizeof *to);
    if (!to) return;
    for (tap = 0; tap < taps; tap++) {
        const float *from = v->weight + (taps - 1 - tap) * v->in * v->out;
        for (o = 0; o < v->out; o++) {
            for (i = 0; i < v->in; i++) to[(tap * v->out + o) * v->in + i] = from[i * v->out + o];
        }
    }
    rotated.h = v->oh;
    rotated.w = v->ow;
    rotated.oh = v->h;
    rotated.ow = v->w;
    rotated.in = v->out;
    rotated.out = v->in;
    rotated.padding = v->kh - 1 - v->padding;
    rotated.pitch = (rotated.w + 2 * rotated.padding) * rotated.in;
    rotated.x = v->y;
    rotated.weight = to;
    dagan__conv_run(&rotated);
}

static void dagan__conv_transpose_forward(mde_context *c, mde_node *node)
{
    dagan__convolution v;
    mde_mark mark = mde_arena_mark(c);
    dagan__conv_sizes(c, DAGAN__OF_Y_AND_WEIGHT, node->in, &node->args, &v);
    v.y = node->in[0]->data;
    v.weight = node->in[1]->data;
    v.result = node->out->data;
    if (v.stride == 1 && v.kh == v.kw && v.padding < v.kh && v.in >= 8) {
        dagan__conv_rotated(&v);
    } else if (dagan__conv_scratch(&v, dagan__conv_jobs(&v), DAGAN__PATCHES * v.kh * v.kw * v.in, DAGAN__PATCHES,
                                   v.kh * v.kw * v.in, v.out)) {
        mde_parallel_for(c, v.jobs, dagan__conv_transpose_job, &v);
    }
    mde_arena_rewind(c, mark);
}

static void dagan__conv_transpose_vjp(DAGAN__VJP)
{
    const mde_tensor *weight = node->in[1];
    int stride = (int)node->args.i[0], padding = (int)node->args.i[1];
    if (want & 1) din[0] = dagan_conv2d(c, g, node->in[1], stride, padding);
    if (want & 2) din[1] = dagan_conv2d_weight(c, g, node->in[0], stride, padding, weight->shape[0], weight->shape[1]);
}

static const mde_op dagan__op_conv_transpose = { "conv2d_transpose", 2, dagan__conv_transpose_shape,
                                                 dagan__conv_transpose_forward, dagan__conv_transpose_vjp, NULL };

static int dagan__conv_weight_shape(DAGAN__SHAPE)
{
    dagan__convolution v;
    return dagan__conv_sizes(c, DAGAN__OF_X_AND_Y, in, args, &v) && dagan__set_shape(out, v.kh, v.kw, v.in, v.out);
}

/* The partial sums of a fixed number of groups are added in order, so the number of threads does not show. */
static void dagan__conv_weight_forward(mde_context *c, mde_node *node)
{
    dagan__convolution v;
    size_t size = node->out->count;
    int64_t groups, gathered;
    mde_mark mark = mde_arena_mark(c);
    dagan__conv_sizes(c, DAGAN__OF_X_AND_Y, node->in, &node->args, &v);
    groups = dagan__minimum(v.n, DAGAN__GROUPS);
    v.x = node->in[0]->data;
    v.y = node->in[1]->data;
    v.result = (float *)mde_scratch(c, (size_t)groups * size, sizeof *v.result);
    v.strip = dagan__minimum(dagan__conv_strip(&v, DAGAN__PATCHES), v.oh);
    gathered = v.pitch + dagan__minimum(v.stride, v.kh) * (v.strip + (v.kh - 1) / v.stride) * v.ow * v.kw * v.in;
    v.offsets = (int64_t *)mde_scratch(c, (size_t)(groups * v.kh * v.kw * v.in), sizeof *v.offsets);
    if (v.result && v.offsets && dagan__conv_scratch(&v, groups, gathered, v.kh * v.kw * v.in, v.out, v.strip * v.ow)) {
        float *sum = node->out->data;
        dagan__parallel(c, groups, (size_t)(dagan__conv_jobs(&v) - 1) * DAGAN__THREAD_FLOATS, dagan__conv_weight_job,
                        &v);
        memcpy(sum, v.result, size * sizeof *sum);
        for (int64_t group = 1; group < groups; group++) {
            const float *part = v.result + (size_t)group * size;
            for (size_t i = 0; i < size; i++) sum[i] += part[i];
        }
    }
    mde_arena_rewind(c, mark);
}

static void dagan__conv_weight_vjp(DAGAN__VJP)
{
    const mde_tensor *x = node->in[0];
    int stride = (int)node->args.i[0], padding = (int)node->args.i[1];
    if (want & 1) din[0] = dagan_conv2d_transpose(c, node->in[1], g, stride, padding, x->shape[1], x->shape[2]);
    if (want & 2) din[1] = dagan_conv2d(c, node->in[0], g, stride, padding);
}

static const mde_op dagan__op_conv_weight = { "conv2d_weight", 2, dagan__conv_weight_shape, dagan__conv_weight_forward,
                                              dagan__conv_weight_vjp, NULL };

MDEDEF mde_tensor *dagan_conv2d(mde_context *c, mde_tensor *x, mde_tensor *weight, int stride, int padding)
{
    mde_args args = dagan__args(stride, padding, 0, 0, 0);
    return dagan__apply(c, &dagan__op_conv2d, x, weight, NULL, &args);
}

MDEDEF mde_tensor *dagan_conv2d_transpose(mde_context *c, mde_tensor *g, mde_tensor *weight, int stride, int padding,
                                          int64_t height, int64_t width)
{
    mde_args args = dagan__args(stride, padding, height, width, 0);
    return dagan__apply(c, &dagan__op_conv_transpose, g, weight, NULL, &args);
}

MDEDEF mde_tensor *dagan_conv2d_weight(mde_context *c, mde_tensor *x, mde_tensor *g, int stride, int padding,
                                       int64_t kernel_height, int64_t kernel_width)
{
    mde_args args = dagan__args(stride, padding, kernel_height, kernel_width, 0);
    return dagan__apply(c, &dagan__op_conv_weight, x, g, NULL, &args);
}

/* ---- 4.2 Pooling and upsampling ---- */

/* A fine image [h, w] and a coarse one [oh, ow]. Pixel i of a fine row belongs to pixel i / size of the coarse one, the
   rest at the edge to none; with size 0, to its nearest neighbour i ow / w. Two kernels serve both kinds: one spreads
   the coarse image over the fine, the other sums up the fine one. Work is shared out by image. */
typedef struct dagan__pooling {
    int64_t h, w, channels, oh, ow, size;
    int to_fine;                        /* the result is the fine image */
    float scale;
    const float *x, *y;
    float *result;
} dagan__pooling;

static void dagan__pooling_run(mde_context *c, mde_parallel_fn *fn, const mde_node *node, int to_fine)
{
    const mde_tensor *fine = to_fine ? node->out : node->in[0], *coarse = to_fine ? node->in[0] : node->out;
    dagan__pooling m;
    if (node->op->inputs == 2) {        /* of max pooling: the fine image is that of the maxima */
        fine = node->in[0];
        coarse = to_fine ? node->in[1] : node->out;
    }
    m.h = fine->shape[1];
    m.w = fine->shape[2];
    m.channels = fine->shape[3];
    m.oh = coarse->shape[1];
    m.ow = coarse->shape[2];
    m.size = node->args.i[0];
    m.to_fine = to_fine;
    m.scale = m.size ? 1.0f / (float)(m.size * m.size) : 1.0f;
    m.x = node->in[0]->data;
    m.y = node->op->inputs == 2 ? node->in[1]->data : NULL;
    m.result = node->out->data;
    dagan__parallel(c, fine->shape[0], fine->count + coarse->count, fn, &m);
}

/* Index in a coarse row of pixel i of the fine one; -1: none. */
static int64_t dagan__coarse_index(int64_t i, int64_t fine, int64_t coarse, int64_t size)
{
    int64_t at = size ? i / size : i * coarse / fine;
    return at < coarse ? at : -1;
}

static void dagan__spread_image(int64_t image, void *user)
{
    const dagan__pooling *m = (const dagan__pooling *)user;
    int64_t channels = m->channels;
    const float *from = m->x + image * m->oh * m->ow * channels;
    float *to = m->result + image * m->h * m->w * channels, scale = m->scale;
    for (int64_t row = 0; row < m->h; row++) {
        int64_t y = dagan__coarse_index(row, m->h, m->oh, m->size);
        for (int64_t column = 0; column < m->w; column++, to += channels) {
            int64_t x = dagan__coarse_index(column, m->w, m->ow, m->size);
            const float *pixel = from + (y * m->ow + x) * channels;
            if (y < 0 || x < 0) memset(to, 0, (size_t)channels * sizeof *to);
            else for (int64_t k = 0; k < channels; k++) to[k] = pixel[k] * scale;
        }
    }
}

static void dagan__gather_image(int64_t image, void *user)
{
    const dagan__pooling *m = (const dagan__pooling *)user;
    int64_t row, column, k, channels = m->channels, total = m->oh * m->ow * channels;
    const float *from = m->x + image * m->h * m->w * channels;
    float *start = m->result + image * total;
    memset(start, 0, (size_t)total * sizeof *start);
    for (row = 0; row < m->h; row++) {
        int64_t y = dagan__coarse_index(row, m->h, m->oh, m->size);
        for (column = 0; column < m->w; column++, from += channels) {
            int64_t x = dagan__coarse_index(column, m->w, m->ow, m->size);
            float *to = start + (y * m->ow + x) * channels;
            for (k = 0; y >= 0 && x >= 0 && k < channels; k++) to[k] += from[k];
        }
    }
    for (k = 0; m->size && k < total; k++) start[k] *= m->scale;
}

static void dagan__spread_forward(mde_context *c, mde_node *node)
{
    dagan__pooling_run(c, dagan__spread_image, node, 1);
}

static void dagan__gather_forward(mde_context *c, mde_node *node)
{
    dagan__pooling_run(c, dagan__gather_image, node, 0);
}

static int dagan__pool_shape(mde_context *c, const char *name, const mde_tensor *x, int64_t size, mde_tensor *out)
{
    if (!dagan__check_rank(c, name, x)) return 0;
    if (size >= 1 && x->shape[1] >= size && x->shape[2] >= size) {
        return dagan__set_shape(out, x->shape[0], x->shape[1] / size, x->shape[2] / size, x->shape[3]);
    }
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: windows of %lld x %lld in images of %lld x %lld", name, (long long)size,
                     (long long)size, (long long)x->shape[1], (long long)x->shape[2]);
}

/* The ops whose args give the result's height and width; if they do not fit, the rest of the sentence says why. */
static int dagan__sized_shape(mde_context *c, const char *name, const mde_tensor *x, const mde_args *args, int fits,
                              const char *why, mde_tensor *out)
{
    if (!dagan__check_rank(c, name, x)) return 0;
    if (fits) return dagan__set_shape(out, x->shape[0], args->i[1], args->i[2], x->shape[3]);
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: %lld x %lld to %lld x %lld, %s", name, (long long)x->shape[1],
                     (long long)x->shape[2], (long long)args->i[1], (long long)args->i[2], why);
}

static int dagan__avg_pool_shape(DAGAN__SHAPE)
{
    return dagan__pool_shape(c, "avg_pool", in[0], args->i[0], out);
}

static int dagan__avg_pool_adjoint_shape(DAGAN__SHAPE)
{
    int64_t size = args->i[0];
    int fits = size >= 1 && args->i[1] / size == in[0]->shape[1] && args->i[2] / size == in[0]->shape[2];
    return dagan__sized_shape(c, "avg_pool_adjoint", in[0], args, fits, "which does not pool to it", out);
}

static int dagan__upsample_shape(DAGAN__SHAPE)
{
    int fits = args->i[1] >= in[0]->shape[1] && args->i[2] >= in[0]->shape[2];
    return dagan__sized_shape(c, "upsample", in[0], args, fits, "which is smaller", out);
}

static int dagan__upsample_adjoint_shape(DAGAN__SHAPE)
{
    int fits = args->i[1] >= 1 && args->i[2] >= 1 && args->i[1] <= in[0]->shape[1] && args->i[2] <= in[0]->shape[2];
    return dagan__sized_shape(c, "upsample_adjoint", in[0], args, fits, "which is larger, or nothing", out);
}

static void dagan__avg_pool_vjp(DAGAN__VJP);
static void dagan__upsample_vjp(DAGAN__VJP);

static void dagan__avg_pool_adjoint_vjp(DAGAN__VJP)
{
    if (want & 1) din[0] = dagan_avg_pool(c, g, (int)node->args.i[0]);
}

static void dagan__upsample_adjoint_vjp(DAGAN__VJP)
{
    if (want & 1) din[0] = dagan_upsample(c, g, node->in[0]->shape[1], node->in[0]->shape[2]);
}

static const mde_op dagan__op_avg_pool = { "avg_pool", 1, dagan__avg_pool_shape, dagan__gather_forward,
                                           dagan__avg_pool_vjp, NULL };
static const mde_op dagan__op_avg_pool_adjoint = { "avg_pool_adjoint", 1, dagan__avg_pool_adjoint_shape,
                                                   dagan__spread_forward, dagan__avg_pool_adjoint_vjp, NULL };
static const mde_op dagan__op_upsample = { "upsample", 1, dagan__upsample_shape, dagan__spread_forward,
                                           dagan__upsample_vjp, NULL };
static const mde_op dagan__op_upsample_adjoint = { "upsample_adjoint", 1, dagan__upsample_adjoint_shape,
                                                   dagan__gather_forward, dagan__upsample_adjoint_vjp, NULL };

static void dagan__avg_pool_vjp(DAGAN__VJP)
{
    mde_args args = dagan__args(node->args.i[0], node->in[0]->shape[1], node->in[0]->shape[2], 0, 0);
    if (want & 1) din[0] = dagan__apply(c, &dagan__op_avg_pool_adjoint, g, NULL, NULL, &args);
}

static void dagan__upsample_vjp(DAGAN__VJP)
{
    mde_args args = dagan__args(0, node->in[0]->shape[1], node->in[0]->shape[2], 0, 0);
    if (want & 1) din[0] = dagan__apply(c, &dagan__op_upsample_adjoint, g, NULL, NULL, &args);
}

MDEDEF mde_tensor *dagan_avg_pool(mde_context *c, mde_tensor *x, int size)
{
    mde_args args = dagan__args(size, 0, 0, 0, 0);
    return dagan__apply(c, &dagan__op_avg_pool, x, NULL, NULL, &args);
}

MDEDEF mde_tensor *dagan_upsample(mde_context *c, mde_tensor *x, int64_t height, int64_t width)
{
    mde_args args = dagan__args(0, height, width, 0, 0);
    return dagan__apply(c, &dagan__op_upsample, x, NULL, NULL, &args);
}

MDEDEF mde_tensor *dagan_global_pool(mde_context *c, mde_tensor *x)
{
    int64_t shape[4];
    mde_tensor *sum;
    if (mde_context_status(c) != MDE_OK || !x || !dagan__check_rank(c, "global_pool", x)) return NULL;
    shape[0] = x->shape[0];
    shape[1] = shape[2] = 1;
    shape[3] = x->shape[3];
    sum = mde_affine(c, mde_sum_to(c, x, 4, shape), 1 / (double)(x->shape[1] * x->shape[2]), 0);
    shape[1] = shape[3];
    return mde_reshape(c, sum, 2, shape);
}

/* Max pooling takes from its second input the values where the first has the first maximum of each window; its adjoint
   puts them back there. */
static int dagan__max_pool_shape(DAGAN__SHAPE)
{
    int i;
    for (i = 0; i < 4 && in[0]->rank == in[1]->rank && in[0]->shape[i] == in[1]->shape[i]; i++) {}
    if (!dagan__pool_shape(c, "max_pool", in[0], args->i[0], out)) return 0;
    if (i == 4) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "max_pool: the maxima and the values are of tensors that differ in shape");
}

static int dagan__max_pool_adjoint_shape(DAGAN__SHAPE)
{
    mde_tensor pooled;
    int i;
    if (!dagan__pool_shape(c, "max_pool_adjoint", in[0], args->i[0], &pooled)) return 0;
    for (i = 0; i < 4 && in[1]->rank == 4 && in[1]->shape[i] == pooled.shape[i]; i++) {}
    if (i == 4) return dagan__set_shape(out, in[0]->shape[0], in[0]->shape[1], in[0]->shape[2], in[0]->shape[3]);
    return !mde_fail(c, MDE_BAD_SHAPE, "max_pool_adjoint: %lld x %lld does not pool to the values' shape",
                     (long long)in[0]->shape[1], (long long)in[0]->shape[2]);
}

enum { DAGAN__POOL_CHANNELS = 64 };     /* that are looked at side by side */

/* Offset of place 0 .. size^2 - 1 of a window from its first place. */
static int64_t dagan__window_offset(const dagan__pooling *m, int place)
{
    return (place / m->size * m->w + place % m->size) * m->channels;
}

/* In which place of the window that begins at x each of `count` channels has its first maximum. */
static void dagan__window_maxima(const dagan__pooling *m, const float *x, int count, int32_t *places)
{
    float best[DAGAN__POOL_CHANNELS];
    memcpy(best, x, (size_t)count * sizeof *best);
    memset(places, 0, (size_t)count * sizeof *places);
    for (int place = 1; place < m->size * m->size; place++) {
        const float *at = x + dagan__window_offset(m, place);
        for (int k = 0; k < count; k++) {
            int32_t before = places[k];
            places[k] = at[k] > best[k] ? place : before;
        }
        for (int k = 0; k < count; k++) {
            float value = at[k], until = best[k];
            best[k] = value > until ? value : until;
        }
    }
}

/* One window's channels from `corner` on, an offset in x: the values y there at the maxima of x, or their adjoint. */
static void dagan__window_pool(const dagan__pooling *m, const float *x, int64_t corner, int count, const float *y,
                               float *to)
{
    int32_t places[DAGAN__POOL_CHANNELS];
    dagan__window_maxima(m, x + corner, count, places);
    if (!m->to_fine) memcpy(to, y + corner, (size_t)count * sizeof *to);
    for (int place = 0; place < m->size * m->size; place++) {
        int64_t at = corner + dagan__window_offset(m, place);
        if (m->to_fine) {
            for (int k = 0; k < count; k++) {
                float value = y[k];
                to[at + k] = places[k] == place ? value : 0.0f;
            }
        } else {
            for (int k = 0; k < count; k++) {
                float value = y[at + k], until = to[k];
                to[k] = places[k] == place ? value : until;
            }
        }
    }
}

static void dagan__max_pool_image(int64_t image, void *user)
{
    const dagan__pooling *m = (const dagan__pooling *)user;
    int64_t fine = m->h * m->w * m->channels, coarse = m->oh * m->ow * m->channels;
    const float *x = m->x + image * fine, *y = m->y + image * (m->to_fine ? coarse : fine);
    float *to = m->result + image * (m->to_fine ? fine : coarse);
    if (m->to_fine) memset(to, 0, (size_t)fine * sizeof *to);
    for (int64_t window = 0; window < m->oh * m->ow; window++) {
        int64_t corner = (window / m->ow * m->size * m->w + window % m->ow * m->size) * m->channels;
        for (int64_t k = 0; k < m->channels; k += DAGAN__POOL_CHANNELS) {
            int count = m->channels - k < DAGAN__POOL_CHANNELS ? (int)(m->channels - k) : DAGAN__POOL_CHANNELS;
            dagan__window_pool(m, x, corner + k, count, y, to);
            if (m->to_fine) y += count;
            else to += count;
        }
    }
}

static void dagan__max_pool_forward(mde_context *c, mde_node *node)
{
    dagan__pooling_run(c, dagan__max_pool_image, node, 0);
}

static void dagan__max_pool_adjoint_forward(mde_context *c, mde_node *node)
{
    dagan__pooling_run(c, dagan__max_pool_image, node, 1);
}

static void dagan__max_pool_vjp(DAGAN__VJP);
static const mde_op dagan__op_max_pool = { "max_pool", 2, dagan__max_pool_shape, dagan__max_pool_forward,
                                           dagan__max_pool_vjp, NULL };

static void dagan__max_pool_adjoint_vjp(DAGAN__VJP)
{
    if (want & 2) din[1] = dagan__apply(c, &dagan__op_max_pool, node->in[0], g, NULL, &node->args);
}

static const mde_op dagan__op_max_pool_adjoint = { "max_pool_adjoint", 2, dagan__max_pool_adjoint_shape,
                                                   dagan__max_pool_adjoint_forward, dagan__max_pool_adjoint_vjp, NULL };

static void dagan__max_pool_vjp(DAGAN__VJP)
{
    if (want & 2) din[1] = dagan__apply(c, &dagan__op_max_pool_adjoint, node->in[0], g, NULL, &node->args);
}

MDEDEF mde_tensor *dagan_max_pool(mde_context *c, mde_tensor *x, int size)
{
    mde_args args = dagan__args(size, 0, 0, 0, 0);
    return dagan__apply(c, &dagan__op_max_pool, x, x, NULL, &args);
}

/* ---- 4.3 Elements and channels ---- */

/* Elements are shared out in blocks, rows of channels in blocks of rows, which do not depend on the threads. */
#define DAGAN__ELEMENTS 16384
#define DAGAN__ROWS 256

typedef struct dagan__rows {
    int64_t rows, channels, block;      /* block: rows of one job */
    int each;                           /* 1: a block is an image, with gain and bias of its own */
    const float *x, *y, *gain, *bias;
    float *result;
    double *sum;                        /* [jobs, 2, channels] */
    float slope;
} dagan__rows;

static int dagan__same_shape(const mde_tensor *x, mde_tensor *out)
{
    out->rank = x->rank;
    memcpy(out->shape, x->shape, sizeof out->shape);
    return 1;
}

/* y where x > 0, slope y elsewhere; with y = x, leaky ReLU. */
static int dagan__leaky_shape(DAGAN__SHAPE)
{
    if (in[0]->count == in[1]->count) return dagan__same_shape(in[0], out);
    return !mde_fail(c, MDE_BAD_SHAPE, "leaky_relu: %zu signs for %zu values", in[0]->count, in[1]->count);
}

static void dagan__leaky_job(int64_t job, void *user)
{
    const dagan__rows *r = (const dagan__rows *)user;
    int64_t i = job * DAGAN__ELEMENTS, end = dagan__minimum(i + DAGAN__ELEMENTS, r->rows);
    const float *x = r->x, *y = r->y;
    float *to = r->result, slope = r->slope;
    for (; i < end; i++) {
        float as_it_is = y[i], less = slope * y[i];
        to[i] = x[i] > 0 ? as_it_is : less;
    }
}

static void dagan__leaky_forward(mde_context *c, mde_node *node)
{
    dagan__rows r;
    memset(&r, 0, sizeof r);
    r.rows = (int64_t)node->out->count;
    r.x = node->in[0]->data;
    r.y = node->in[1]->data;
    r.result = node->out->data;
    r.slope = (float)node->args.f[0];
    dagan__parallel(c, dagan__blocks(r.rows, DAGAN__ELEMENTS), 2 * node->out->count, dagan__leaky_job, &r);
}

static void dagan__leaky_vjp(DAGAN__VJP);
static const mde_op dagan__op_leaky = { "leaky_relu", 2, dagan__leaky_shape, dagan__leaky_forward, dagan__leaky_vjp,
                                        NULL };

static void dagan__leaky_vjp(DAGAN__VJP)
{
    if (want & 2) din[1] = dagan__apply(c, &dagan__op_leaky, node->in[0], g, NULL, &node->args);
}

MDEDEF mde_tensor *dagan_leaky_relu(mde_context *c, mde_tensor *x, double slope)
{
    mde_args args = dagan__args(0, 0, 0, 0, slope);
    return dagan__apply(c, &dagan__op_leaky, x, x, NULL, &args);
}

static int dagan__check_channels(mde_context *c, const char *name, const mde_tensor *x, const mde_tensor *row)
{
    if (x->rank >= 1 && row->rank == 1 && row->shape[0] == x->shape[x->rank - 1]) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: x has %lld channels, the other one %zu", name,
                     (long long)(x->rank ? x->shape[x->rank - 1] : 0), row->count);
}

/* leaky_relu(conv2d(x, weight) + bias) as one op, which keeps nothing but its result: its sign is that of the sum. */
static int dagan__conv2d_leaky_shape(DAGAN__SHAPE)
{
    return dagan__conv2d_shape(c, in, args, out) && dagan__check_channels(c, "conv2d_leaky", out, in[2]);
}

static void dagan__conv2d_leaky_vjp(DAGAN__VJP)
{
    if (!(g = dagan__apply(c, &dagan__op_leaky, node->out, g, NULL, &node->args))) return;
    dagan__conv2d_vjp(c, node, g, want, din);
    if (want & 4) din[2] = mde_sum_to(c, g, 1, node->in[2]->shape);
}

static const mde_op dagan__op_conv2d_leaky = { "conv2d_leaky", 3, dagan__conv2d_leaky_shape, dagan__conv2d_forward,
                                               dagan__conv2d_leaky_vjp, NULL };

MDEDEF mde_tensor *dagan_conv2d_leaky(mde_context *c, mde_tensor *x, mde_tensor *weight, mde_tensor *bias, int stride,
                                      int padding, double slope)
{
    mde_args args = dagan__args(stride, padding, 0, 0, slope);
    if (slope >= 0) return dagan__apply(c, &dagan__op_conv2d_leaky, x, weight, bias, &args);
    mde_fail(c, MDE_BAD_ARGUMENT, "conv2d_leaky: slope %g; expected 0 or more", slope);
    return NULL;
}

/* x gain + bias in three ops: gain and bias are [channels], or [n, channels] with a bias or without. */
static void dagan__scale_job(int64_t job, void *user)
{
    const dagan__rows *r = (const dagan__rows *)user;
    int64_t row = job * r->block, end = dagan__minimum(row + r->block, r->rows), k, n = r->channels;
    const float *gain = r->gain + (r->each ? job * n : 0), *bias = r->bias;
    if (bias && r->each) bias += job * n;
    for (; row < end; row++) {
        const float *x = r->x + row * n;
        float *to = r->result + row * n;
        if (bias) for (k = 0; k < n; k++) to[k] = x[k] * gain[k] + bias[k];
        else for (k = 0; k < n; k++) to[k] = x[k] * gain[k];
    }
}

static dagan__rows dagan__rows_of(const mde_tensor *x)
{
    dagan__rows r;
    memset(&r, 0, sizeof r);
    r.channels = x->shape[x->rank - 1];
    r.rows = (int64_t)x->count / r.channels;
    r.block = DAGAN__ROWS;
    return r;
}

static void dagan__scale_forward(mde_context *c, mde_node *node)
{
    dagan__rows r = dagan__rows_of(node->in[0]);
    r.each = node->in[1]->rank == 2;
    if (r.each) r.block = r.rows / node->in[0]->shape[0];
    r.x = node->in[0]->data;
    r.gain = node->in[1]->data;
    r.bias = node->op->inputs == 3 ? node->in[2]->data : NULL;
    r.result = node->out->data;
    dagan__parallel(c, dagan__blocks(r.rows, r.block), 2 * node->out->count, dagan__scale_job, &r);
}

static int dagan__scale_channels_shape(DAGAN__SHAPE)
{
    return dagan__check_channels(c, "scale_channels", in[0], in[1]) &&
           dagan__check_channels(c, "scale_channels", in[0], in[2]) && dagan__same_shape(in[0], out);
}

static void dagan__scale_channels_vjp(DAGAN__VJP)
{
    mde_tensor *x = node->in[0], *gain = node->in[1];
    if (want & 1) din[0] = mde_mul(c, g, gain);
    if (want & 2) din[1] = mde_sum_to(c, mde_mul(c, g, x), 1, gain->shape);
    if (want & 4) din[2] = mde_sum_to(c, g, 1, gain->shape);
}

/* Of one block of rows: the sums of g x and of g, channel by channel, and g gain. */
static void dagan__scale_vjp_job(int64_t job, void *user)
{
    const dagan__rows *r = (const dagan__rows *)user;
    int64_t row = job * r->block, end = dagan__minimum(row + r->block, r->rows), k, n = r->channels;
    double *along = r->sum + 2 * job * n, *plain = along + n;
    memset(along, 0, (size_t)(2 * n) * sizeof *along);
    for (; row < end; row++) {
        const float *x = r->x + row * n, *g = r->y + row * n;
        float *to = r->result + row * n;
        for (k = 0; k < n; k++) along[k] += (double)(g[k] * x[k]);
        for (k = 0; k < n; k++) plain[k] += (double)g[k];
        for (k = 0; k < n; k++) to[k] = g[k] * r->gain[k];
    }
}

/* What the jobs left is added in order: two rows of channels. */
static void dagan__scale_channels_vjp_fast(DAGAN__VJP)
{
    dagan__rows r = dagan__rows_of(g);
    int64_t jobs = dagan__blocks(r.rows, r.block), n = r.channels, job, k;
    mde_tensor *dx = mde_tensor_create(c, g->rank, g->shape);
    mde_tensor *dgain = mde_tensor_create(c, 1, node->in[1]->shape);
    mde_tensor *dbias = mde_tensor_create(c, 1, node->in[1]->shape);
    double *total = (double *)mde_scratch(c, (size_t)(2 * n), sizeof *total);
    r.sum = (double *)mde_scratch(c, (size_t)(2 * jobs * n), sizeof *r.sum);
    if (!dx || !dgain || !dbias || !total || !r.sum) return;
    r.x = node->in[0]->data;
    r.y = g->data;
    r.gain = node->in[1]->data;
    r.result = dx->data;
    dagan__parallel(c, jobs, 3 * g->count, dagan__scale_vjp_job, &r);
    memset(total, 0, (size_t)(2 * n) * sizeof *total);
    for (job = 0; job < jobs; job++) {
        for (k = 0; k < 2 * n; k++) total[k] += r.sum[2 * job * n + k];
    }
    for (k = 0; k < n; k++) {
        dgain->data[k] = (float)total[k];
        dbias->data[k] = (float)total[n + k];
    }
    din[0] = dx;
    din[1] = dgain;
    din[2] = dbias;
}

static const mde_op dagan__op_scale_channels = { "scale_channels", 3, dagan__scale_channels_shape, dagan__scale_forward,
                                                 dagan__scale_channels_vjp, dagan__scale_channels_vjp_fast };

MDEDEF mde_tensor *dagan_scale_channels(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *bias)
{
    int64_t channels;
    if (mde_context_status(c) != MDE_OK || !x) return NULL;
    if (!gain && !bias) return x;
    channels = x->shape[x->rank - 1];
    if (!bias) return mde_mul(c, x, gain);
    if (!gain) {
        gain = mde_tensor_create(c, 1, &channels);
        for (int64_t k = 0; gain && k < channels; k++) gain->data[k] = 1;
    }
    return dagan__apply(c, &dagan__op_scale_channels, x, gain, bias, NULL);
}

/* Of both ops: the one without a shift has no third input. */
static int dagan__modulate_shape(DAGAN__SHAPE)
{
    const mde_tensor *x = in[0];
    int inputs = in[2] ? 3 : 2, k;
    for (k = 1; k < inputs && x->rank == 4; k++) {
        if (in[k]->rank != 2 || in[k]->shape[0] != x->shape[0] || in[k]->shape[1] != x->shape[3]) break;
    }
    if (x->rank == 4 && k == inputs) return dagan__same_shape(x, out);
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: expected x [n, h, w, c] and a number for each channel of each image, [n, "
                     "c]", in[2] ? "modulate" : "scale_images");
}

/* Sum over height and width. */
static mde_tensor *dagan__pixel_sum(mde_context *c, mde_tensor *x)
{
    return mde_affine(c, dagan_global_pool(c, x), x ? (double)(x->shape[1] * x->shape[2]) : 0, 0);
}

static void dagan__modulate_vjp(DAGAN__VJP)
{
    if (want & 1) din[0] = dagan_modulate(c, g, node->in[1], NULL);
    if (want & 2) din[1] = dagan__pixel_sum(c, mde_mul(c, g, node->in[0]));
    if (want & 4) din[2] = dagan__pixel_sum(c, g);
}

static const mde_op dagan__op_scale_images = { "scale_images", 2, dagan__modulate_shape, dagan__scale_forward,
                                               dagan__modulate_vjp, NULL };
static const mde_op dagan__op_modulate = { "modulate", 3, dagan__modulate_shape, dagan__scale_forward,
                                           dagan__modulate_vjp, NULL };

MDEDEF mde_tensor *dagan_modulate(mde_context *c, mde_tensor *x, mde_tensor *gain, mde_tensor *shift)
{
    return dagan__apply(c, shift ? &dagan__op_modulate : &dagan__op_scale_images, x, gain, shift, NULL);
}

/* ---- 4.4 Normalization ---- */

/* The three differ only in what shares a mean and a variance: a group is [rows, channels], either channel by channel or
   all channels together (`joint`). Statistics are taken in double in two passes, in fixed blocks of rows. */
enum { DAGAN__OVER_BATCH, DAGAN__OVER_IMAGE, DAGAN__OVER_INSTANCE };

typedef struct dagan__group {
    int64_t groups, rows, channels, blocks; /* blocks of rows a group */
    int joint;
    const float *x, *g;                 /* with g: sums of g and of g y, y the normalized x */
    double *sum;                        /* [groups * blocks, 2, channels] */
    double *mean, *scale;               /* [groups, channels]; scale: 1 / sd */
    double *along;                      /* [groups, channels]: mean of g y */
    float *result;
    int pass;
} dagan__group;

static void dagan__group_of(const mde_tensor *x, int kind, dagan__group *v)
{
    memset(v, 0, sizeof *v);
    v->channels = x->shape[3];
    v->groups = kind == DAGAN__OVER_BATCH ? 1 : x->shape[0];
    v->rows = (int64_t)x->count / v->channels / v->groups;
    v->joint = kind == DAGAN__OVER_IMAGE;
    v->blocks = dagan__blocks(v->rows, kind == DAGAN__OVER_BATCH ? DAGAN__ROWS : v->rows);
}

static int64_t dagan__group_end(const dagan__group *v, int64_t block)
{
    return v->rows * (block + 1) / v->blocks;
}

/* Pass 0: sums of x. Pass 1: of (x - mean)^2. Pass 2: of g and of g (x - mean) scale. Rows are added in order, two of
   them for each time that the sums are brought from memory and back. */
static void dagan__group_job(int64_t job, void *user)
{
    const dagan__group *v = (const dagan__group *)user;
    int64_t group = job / v->blocks, block = job % v->blocks, n = v->channels, k;
    int64_t row = group * v->rows + v->rows * block / v->blocks, end = group * v->rows + dagan__group_end(v, block);
    double *first = v->sum + 2 * job * n, *second = first + n;
    const double *mean = v->mean + group * n, *scale = v->scale + group * n;
    memset(first, 0, (size_t)(2 * n) * sizeof *first);
    for (; row < end; row += 2) {
        const float *x = v->x + row * n, *g = v->g ? v->g + row * n : NULL;
        int64_t more = row + 1 < end ? n : 0;
        if (v->pass == 0) {
            for (k = 0; more && k < n; k++) first[k] = first[k] + (double)x[k] + (double)x[n + k];
            for (k = 0; !more && k < n; k++) first[k] += (double)x[k];
        } else if (v->pass == 1) {
            for (k = 0; more && k < n; k++) {
                double a = (double)x[k] - mean[k], b = (double)x[n + k] - mean[k];
                first[k] = first[k] + a * a + b * b;
            }
            for (k = 0; !more && k < n; k++) first[k] += ((double)x[k] - mean[k]) * ((double)x[k] - mean[k]);
        } else {
            for (k = 0; k < n; k++) first[k] += (double)g[k];
            for (k = 0; k < n; k++) second[k] += (double)g[k] * (((double)x[k] - mean[k]) * scale[k]);
            for (k = 0; k < more; k++) first[k] += (double)g[n + k];
            for (k = 0; k < more; k++) second[k] += (double)g[n + k] * (((double)x[n + k] - mean[k]) * scale[k]);
        }
    }
}

/* Runs one pass and leaves its means in first and, if not NULL, second [groups, channels]. */
static void dagan__group_pass(mde_context *c, dagan__group *v, int pass, double *first, double *second)
{
    int64_t n = v->channels;
    v->pass = pass;
    dagan__parallel(c, v->groups * v->blocks, 2 * (size_t)(v->groups * v->rows * n), dagan__group_job, v);
    for (int64_t group = 0; group < v->groups; group++) {
        for (int which = 0; which < (second ? 2 : 1); which++) {
            double *to = (which ? second : first) + group * n, all = 0;
            const double *from = v->sum + 2 * group * v->blocks * n + which * n;
            memset(to, 0, (size_t)n * sizeof *to);
            for (int64_t block = 0; block < v->blocks; block++, from += 2 * n) {
                for (int64_t k = 0; k < n; k++) to[k] += from[k];
            }
            for (int64_t k = 0; k < n; k++) all += to[k];
            for (int64_t k = 0; k < n; k++) to[k] = v->joint ? all / (double)(v->rows * n) : to[k] / (double)v->rows;
        }
    }
}

static int dagan__group_statistics(mde_context *c, dagan__group *v, double epsilon)
{
    int64_t count = v->groups * v->channels, k;
    v->sum = (double *)mde_scratch(c, (size_t)(2 * count * v->blocks), sizeof *v->sum);
    v->mean = (double *)mde_scratch(c, (size_t)(3 * count), sizeof *v->mean);
    if (!v->sum || !v->mean) return 0;
    v->scale = v->mean + count;
    v->along = v->scale + count;
    dagan__group_pass(c, v, 0, v->mean, NULL);
    dagan__group_pass(c, v, 1, v->scale, NULL);
    for (k = 0; k < count; k++) v->scale[k] = 1.0 / sqrt(v->scale[k] + epsilon);
    return 1;
}

static void dagan__normalize_job(int64_t job, void *user)
{
    const dagan__group *v = (const dagan__group *)user;
    int64_t group = job / v->blocks, block = job % v->blocks, n = v->channels;
    int64_t row = group * v->rows + v->rows * block / v->blocks, end = group * v->rows + dagan__group_end(v, block);
    const double *mean = v->mean + group * n, *scale = v->scale + group * n;
    for (; row < end; row++) {
        const float *x = v->x + row * n;
        float *to = v->result + row * n;
        for (int64_t k = 0; k < n; k++) to[k] = (float)(((double)x[k] - mean[k]) * scale[k]);
    }
}

static int dagan__normalize_shape(DAGAN__SHAPE)
{
    return dagan__check_rank(c, "normalize", in[0]) && dagan__same_shape(in[0], out);
}

/* Keeps the statistics for the first derivative: mean and 1 / sd of each group and channel, as doubles. */
static void dagan__normalize_forward(mde_context *c, mde_node *node)
{
    dagan__group v;
    dagan__group_of(node->in[0], (int)node->args.i[0], &v);
    v.x = node->in[0]->data;
    v.result = node->out->data;
    if (!dagan__group_statistics(c, &v, node->args.f[0])) return;
    node->saved = (float *)(void *)v.mean;
    dagan__parallel(c, v.groups * v.blocks, 2 * node->out->count, dagan__normalize_job, &v);
}

/* 1 / sd of each group: [1, 1, 1, c], [n, 1, 1, 1] or [n, 1, 1, c]. */
static int dagan__deviation_shape(DAGAN__SHAPE)
{
    int64_t kind = args->i[0];
    if (!dagan__check_rank(c, "inverse_deviation", in[0])) return 0;
    dagan__set_shape(out, kind == DAGAN__OVER_BATCH ? 1 : in[0]->shape[0], 1, 1,
                     kind == DAGAN__OVER_IMAGE ? 1 : in[0]->shape[3]);
    return 1;
}

static void dagan__deviation_forward(mde_context *c, mde_node *node)
{
    dagan__group v;
    size_t step;
    mde_mark mark = mde_arena_mark(c);
    dagan__group_of(node->in[0], (int)node->args.i[0], &v);
    v.x = node->in[0]->data;
    step = v.joint ? (size_t)v.channels : 1;
    if (dagan__group_statistics(c, &v, node->args.f[0])) {
        for (size_t i = 0; i < node->out->count; i++) node->out->data[i] = (float)v.scale[i * step];
    }
    mde_arena_rewind(c, mark);
}

static mde_tensor *dagan__normalize(mde_context *c, mde_tensor *x, const mde_args *args);
static void dagan__deviation_vjp(DAGAN__VJP);
static const mde_op dagan__op_deviation = { "inverse_deviation", 1, dagan__deviation_shape, dagan__deviation_forward,
                                            dagan__deviation_vjp, NULL };

/* d s / d x = -s^2 y / count, with s = 1 / sd and y the normalized x. */
static void dagan__deviation_vjp(DAGAN__VJP)
{
    mde_tensor *x = node->in[0], *s, *y;
    if (!(want & 1)) return;
    s = dagan__apply(c, &dagan__op_deviation, x, NULL, NULL, &node->args);
    y = dagan__normalize(c, x, &node->args);
    s = mde_affine(c, mde_mul(c, mde_mul(c, s, s), g), -(double)g->count / (double)x->count, 0);
    din[0] = mde_mul(c, y, s);
}

/* s (g - mean(g) - y mean(g y)) */
static void dagan__normalize_vjp(DAGAN__VJP)
{
    mde_tensor *x = node->in[0], *s, *y, *plain, *along;
    double share;
    if (!(want & 1)) return;
    s = dagan__apply(c, &dagan__op_deviation, x, NULL, NULL, &node->args);
    y = dagan__normalize(c, x, &node->args);
    if (!s || !y) return;
    share = (double)s->count / (double)x->count;
    plain = mde_affine(c, mde_sum_to(c, g, 4, s->shape), share, 0);
    along = mde_affine(c, mde_sum_to(c, mde_mul(c, g, y), 4, s->shape), share, 0);
    din[0] = mde_mul(c, mde_sub(c, mde_sub(c, g, plain), mde_mul(c, y, along)), s);
}

static void dagan__normalize_vjp_job(int64_t job, void *user)
{
    const dagan__group *v = (const dagan__group *)user;
    int64_t group = job / v->blocks, block = job % v->blocks, n = v->channels;
    int64_t row = group * v->rows + v->rows * block / v->blocks, end = group * v->rows + dagan__group_end(v, block);
    const double *mean = v->mean + group * n, *scale = v->scale + group * n, *along = v->along + group * n;
    const double *plain = v->along + (v->groups + group) * n;
    for (; row < end; row++) {
        const float *x = v->x + row * n, *g = v->g + row * n;
        float *to = v->result + row * n;
        for (int64_t k = 0; k < n; k++) {
            double y = ((double)x[k] - mean[k]) * scale[k];
            to[k] = (float)(scale[k] * ((double)g[k] - plain[k] - y * along[k]));
        }
    }
}

static void dagan__normalize_vjp_fast(DAGAN__VJP)
{
    dagan__group v;
    mde_tensor *dx = mde_tensor_create(c, g->rank, g->shape);
    int64_t count;
    dagan__group_of(node->in[0], (int)node->args.i[0], &v);
    count = v.groups * v.channels;
    v.sum = (double *)mde_scratch(c, (size_t)(2 * count * v.blocks), sizeof *v.sum);
    v.along = (double *)mde_scratch(c, (size_t)(2 * count), sizeof *v.along);
    if (!dx || !v.sum || !v.along || !node->saved) return;
    v.mean = (double *)(void *)node->saved;
    v.scale = v.mean + count;
    v.x = node->in[0]->data;
    v.g = g->data;
    v.result = dx->data;
    dagan__group_pass(c, &v, 2, v.along + count, v.along);
    dagan__parallel(c, v.groups * v.blocks, 3 * g->count, dagan__normalize_vjp_job, &v);
    din[0] = dx;
}

static const mde_op dagan__op_normalize = { "normalize", 1, dagan__normalize_shape, dagan__normalize_forward,
                                            dagan__normalize_vjp, dagan__normalize_vjp_fast };

static mde_tensor *dagan__normalize(mde_context *c, mde_tensor *x, const mde_args *args)
{
    return dagan__apply(c, &dagan__op_normalize, x, NULL, NULL, args);
}

static mde_tensor *dagan__normalize_over(mde_context *c, mde_tensor *x, int kind, double epsilon)
{
    mde_args args = dagan__args(kind, 0, 0, 0, epsilon);
    return dagan__normalize(c, x, &args);
}

MDEDEF mde_tensor *dagan_batch_normalize(mde_context *c, mde_tensor *x, double epsilon)
{
    return dagan__normalize_over(c, x, DAGAN__OVER_BATCH, epsilon);
}

MDEDEF mde_tensor *dagan_image_normalize(mde_context *c, mde_tensor *x, double epsilon)
{
    return dagan__normalize_over(c, x, DAGAN__OVER_IMAGE, epsilon);
}

MDEDEF mde_tensor *dagan_instance_normalize(mde_context *c, mde_tensor *x, double epsilon)
{
    return dagan__normalize_over(c, x, DAGAN__OVER_INSTANCE, epsilon);
}

MDEDEF mde_status dagan_channel_moments(mde_context *c, const mde_tensor *x, float *mean, float *variance)
{
    dagan__group v;
    mde_mark mark;
    if (mde_context_status(c) != MDE_OK) return mde_context_status(c);
    if (!x || !mean || !variance) return mde_fail(c, MDE_BAD_ARGUMENT, "channel_moments: an argument is NULL");
    if (!dagan__check_rank(c, "channel_moments", x)) return mde_context_status(c);
    mark = mde_arena_mark(c);
    dagan__group_of(x, DAGAN__OVER_BATCH, &v);
    v.x = x->data;
    if (dagan__group_statistics(c, &v, 0)) {
        for (int64_t k = 0; k < v.channels; k++) {
            mean[k] = (float)v.mean[k];
            variance[k] = (float)(1.0 / (v.scale[k] * v.scale[k]));
        }
    }
    mde_arena_rewind(c, mark);
    return mde_context_status(c);
}

/* r and d of batch renormalization (Ioffe 2017, algorithm 1), as constants. */
static mde_tensor *dagan__renormalize(mde_context *c, mde_tensor *normed, const float *mean, const float *variance,
                                      const dagan_batch_norm_desc *d)
{
    mde_tensor *ratio = mde_tensor_create(c, 1, d->running_mean->shape);
    mde_tensor *shift = mde_tensor_create(c, 1, d->running_mean->shape);
    for (size_t k = 0; ratio && shift && k < ratio->count; k++) {
        double sd = sqrt((double)d->running_variance->data[k] + d->epsilon);
        double of_sd = sqrt((double)variance[k] + d->epsilon) / sd;
        double of_mean = ((double)mean[k] - (double)d->running_mean->data[k]) / sd;
        ratio->data[k] = (float)(of_sd < 1.0 / 3.0 ? 1.0 / 3.0 : of_sd > 3 ? 3 : of_sd);
        shift->data[k] = (float)(of_mean < -5 ? -5 : of_mean > 5 ? 5 : of_mean);
    }
    return dagan_scale_channels(c, normed, ratio, shift);
}

static mde_tensor *dagan__batch_norm_training(mde_context *c, mde_tensor *x, const dagan_batch_norm_desc *d)
{
    size_t channels = d->running_mean->count;
    float *mean = (float *)mde_scratch(c, 2 * channels, sizeof *mean), *variance = mean + channels;
    mde_tensor *y = dagan_batch_normalize(c, x, d->epsilon);
    if (!y || !mean || dagan_channel_moments(c, x, mean, variance) != MDE_OK) return NULL;
    if (d->renorm) y = dagan__renormalize(c, y, mean, variance, d);
    for (size_t k = 0; k < channels; k++) {
        double m = (double)d->running_mean->data[k], v = (double)d->running_variance->data[k];
        d->running_mean->data[k] = (float)(m + (1 - d->momentum) * ((double)mean[k] - m));
        d->running_variance->data[k] = (float)(v + (1 - d->momentum) * ((double)variance[k] - v));
    }
    return dagan_scale_channels(c, y, d->gain, d->bias);
}

MDEDEF mde_tensor *dagan_batch_norm(mde_context *c, mde_tensor *x, const dagan_batch_norm_desc *desc)
{
    mde_tensor *scale, *shift;
    if (mde_context_status(c) != MDE_OK || !x) return NULL;
    if (!desc || !desc->running_mean || !desc->running_variance) {
        mde_fail(c, MDE_BAD_ARGUMENT, "batch_norm: the running statistics must be given");
        return NULL;
    }
    if (!dagan__check_rank(c, "batch_norm", x) || !dagan__check_channels(c, "batch_norm", x, desc->running_mean) ||
        !dagan__check_channels(c, "batch_norm", x, desc->running_variance)) return NULL;
    if (desc->training) return dagan__batch_norm_training(c, x, desc);
    scale = mde_tensor_create(c, 1, desc->running_mean->shape);
    shift = mde_tensor_create(c, 1, desc->running_mean->shape);
    for (size_t k = 0; scale && shift && k < scale->count; k++) {
        double s = 1.0 / sqrt((double)desc->running_variance->data[k] + desc->epsilon);
        scale->data[k] = (float)s;
        shift->data[k] = (float)(-s * (double)desc->running_mean->data[k]);
    }
    if (!scale || !shift) return NULL;
    if (desc->gain) {
        scale = mde_mul(c, desc->gain, scale);
        shift = mde_mul(c, desc->gain, shift);
    }
    if (desc->bias) shift = mde_add(c, shift, desc->bias);
    return dagan_scale_channels(c, x, scale, shift);
}

/* ---- 4.5 The table ---- */

static const mde_op *const dagan__ops[] = {
    &dagan__op_conv2d, &dagan__op_conv2d_leaky, &dagan__op_conv_transpose, &dagan__op_conv_weight,
    &dagan__op_avg_pool, &dagan__op_avg_pool_adjoint, &dagan__op_max_pool, &dagan__op_max_pool_adjoint,
    &dagan__op_upsample, &dagan__op_upsample_adjoint, &dagan__op_leaky, &dagan__op_scale_channels,
    &dagan__op_scale_images, &dagan__op_modulate, &dagan__op_normalize, &dagan__op_deviation
};

MDEDEF int dagan_op_count(void)
{
    return (int)(sizeof dagan__ops / sizeof *dagan__ops);
}

MDEDEF const mde_op *dagan_op_row(int index)
{
    return index >= 0 && index < dagan_op_count() ? dagan__ops[index] : NULL;
}

/* ======================================================================
   5. IMAGE SETS
   ====================================================================== */

/* Few-shot data: images of one size, class by class. A set is a list of pointers to images; a subset is another list
   into the same pixels, so cutting classes and samples costs nothing. Every reader ends in the same two steps: labels
   are turned into such a list, and each image is brought to the set's size and channels. */

#define DAGAN__MAX_SIDE 4096            /* of an image of a set */
#define DAGAN__MAX_PICTURE ((size_t)1 << 26)    /* pixels of an image file before it is made smaller */
#define DAGAN__MAX_PACKED 8192          /* pixels in a byte of a file: deflate and LZW make 1032 to 2730 bytes of one */
#define DAGAN__MAX_DEPTH 8              /* folders within folders; more are a loop of links */

typedef struct dagan__size { int height, width, channels; } dagan__size;

static size_t dagan__size_floats(dagan__size s)
{
    return (size_t)s.height * (size_t)s.width * (size_t)s.channels;
}

static dagan__size dagan__size_from(int height, int width, int channels)
{
    dagan__size s;
    s.height = height;
    s.width = width;
    s.channels = channels;
    return s;
}

static int dagan__same_size(dagan__size a, dagan__size b)
{
    return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

typedef struct dagan__image_class {
    int64_t first;                      /* index of its first image in the list */
    int samples;
    int origin;                         /* its number in the set that owns the pixels: subsets keep their luck */
    const char *name;
} dagan__image_class;

struct dagan_images {
    mde_context *context;
    dagan__size size;
    int classes;
    int64_t count;
    dagan__image_class *rows;           /* [classes] */
    const float **images;               /* [count], class by class */
    float *pixels;                      /* NULL in a subset, as are the names */
    char *names;
    int64_t left_out;                   /* images of a folder that are not read, and */
    char *left_out_first;
};

DAGAN__COLD_BEGIN

/* ---- 5.1 Making, cutting, asking ---- */

static dagan_images *dagan__images_new(mde_context *c, dagan__size size, int classes, int64_t count)
{
    dagan_images *set = (dagan_images *)mde_alloc(c, 1, sizeof *set);
    if (!set) return NULL;
    set->context = c;
    set->size = size;
    set->classes = classes;
    set->count = count;
    set->rows = (dagan__image_class *)mde_alloc(c, (size_t)classes, sizeof *set->rows);
    set->images = (const float **)mde_alloc(c, (size_t)count, sizeof *set->images);
    if (mde_context_status(c) == MDE_OK) return set;
    dagan_images_free(set);
    return NULL;
}

/* Pixels of its own for every image of the list, one after the other. */
static int dagan__images_own(dagan_images *set)
{
    size_t size = dagan__size_floats(set->size);
    set->pixels = (float *)mde_alloc(set->context, (size_t)set->count, size * sizeof *set->pixels);
    for (int64_t i = 0; set->pixels && i < set->count; i++) set->images[i] = set->pixels + (size_t)i * size;
    return set->pixels != NULL;
}

static float *dagan__images_at(const dagan_images *set, int64_t index)
{
    return set->pixels + (size_t)index * dagan__size_floats(set->size);
}

/* Names of the classes: those of the list, or without one "class 0", "class 1", ... */
static int dagan__images_label(dagan_images *set, const char *const *names)
{
    enum { NUMBERED = 24 };
    size_t total = 0, size;
    int k;
    for (k = 0; k < set->classes; k++) total += names ? strlen(names[k]) + 1 : (size_t)NUMBERED;
    set->names = (char *)mde_alloc(set->context, total, 1);
    if (!set->names) return 0;
    for (total = 0, k = 0; k < set->classes; k++, total += size) {
        char *name = set->names + total;
        size = names ? strlen(names[k]) + 1 : (size_t)NUMBERED;
        if (names) memcpy(name, names[k], size);
        else snprintf(name, size, "class %d", k);
        set->rows[k].name = name;
        set->rows[k].origin = k;
    }
    return 1;
}

MDEDEF void dagan_images_free(dagan_images *set)
{
    mde_context *c = set ? set->context : NULL;
    if (!set) return;
    mde_release(c, set->rows);
    mde_release(c, (void *)set->images);
    mde_release(c, set->pixels);
    mde_release(c, set->names);
    mde_release(c, set->left_out_first);
    mde_release(c, set);
}

typedef struct dagan__labelled { int label; int64_t index; } dagan__labelled;

static int dagan__compare_labelled(const void *a, const void *b)
{
    const dagan__labelled *x = (const dagan__labelled *)a, *y = (const dagan__labelled *)b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The list of a labelled set: the distinct labels, ascending, are its classes, of which the first max_classes are kept,
   with their first max_samples images each (0: all). names: of the labels, or NULL. *order: each listed image's number
   in the source, in the arena. */
static dagan_images *dagan__images_group(mde_context *c, int64_t count, const int *label, dagan__size size,
                                         int max_classes, int max_samples, const char *const *names, int64_t **order)
{
    dagan__labelled *all = (dagan__labelled *)mde_scratch(c, (size_t)count, sizeof *all);
    dagan_images *set;
    int64_t kept = 0;
    int classes = 0, samples = 0, last = -1;
    *order = (int64_t *)mde_scratch(c, (size_t)count, sizeof **order);
    if (!all || !*order) return NULL;
    for (int64_t i = 0; i < count; i++) {
        all[i].label = label[i];
        all[i].index = i;
    }
    qsort(all, (size_t)count, sizeof *all, dagan__compare_labelled);
    for (int64_t i = 0; i < count; i++) {
        dagan__labelled next = all[i];
        if (next.label != last) {
            if (max_classes && classes == max_classes) break;
            classes++;
            samples = 0;
            last = next.label;
        }
        if (samples == (max_samples ? max_samples : INT_MAX)) continue;
        samples++;
        (*order)[kept] = next.index;
        all[kept++].label = classes - 1;
    }
    set = dagan__images_new(c, size, classes, kept);
    if (!set) return NULL;
    for (int64_t i = 0; i < kept; i++) {
        dagan__image_class *row = set->rows + all[i].label;
        if (row->samples++ == 0) row->first = i;
    }
    if (dagan__images_own(set) && dagan__images_label(set, names)) return set;
    dagan_images_free(set);
    return NULL;
}

static int dagan__check_shape(mde_context *c, const char *name, int64_t height, int64_t width, int64_t channels)
{
    if (height < 1 || width < 1 || height > DAGAN__MAX_SIDE || width > DAGAN__MAX_SIDE) {
        return !mde_fail(c, MDE_BAD_SHAPE, "%s: images of %lld x %lld; expected sides from 1 to %d", name,
                         (long long)height, (long long)width, DAGAN__MAX_SIDE);
    }
    if (channels == 1 || channels == 3) return 1;
    return !mde_fail(c, MDE_BAD_SHAPE, "%s: images of %lld channels; expected 1 (grey) or 3 (colour)", name,
                     (long long)channels);
}

MDEDEF dagan_images *dagan_images_from(mde_context *c, int64_t count, int height, int width, int channels,
                                       const float *pixels, const int *label)
{
    dagan_images *set;
    mde_mark mark;
    int64_t *order, i;
    size_t size, k;
    if (mde_context_status(c) != MDE_OK) return NULL;
    if (count < 1 || !pixels || !label) {
        mde_fail(c, MDE_BAD_ARGUMENT, "images from memory: %lld images%s%s; expected at least one, pixels and labels",
                 (long long)count, pixels ? "" : ", no pixels", label ? "" : ", no labels");
        return NULL;
    }
    if (!dagan__check_shape(c, "images from memory", height, width, channels)) return NULL;
    size = (size_t)height * (size_t)width * (size_t)channels;
    for (i = 0; i < count; i++) {
        const float *image = pixels + (size_t)i * size;
        if (label[i] < 0) {
            mde_fail(c, MDE_BAD_ARGUMENT, "images from memory: label %d of image %lld; expected 0 or more", label[i],
                     (long long)i);
            return NULL;
        }
        for (k = 0; k < size && image[k] >= -1 && image[k] <= 1; k++) {}
        if (k < size) {
            mde_fail(c, image[k] - image[k] == 0 ? MDE_BAD_ARGUMENT : MDE_NOT_FINITE,
                     "images from memory: pixel %zu of image %lld is %g; expected -1 to 1", k, (long long)i,
                     (double)image[k]);
            return NULL;
        }
    }
    mark = mde_arena_mark(c);
    set = dagan__images_group(c, count, label, dagan__size_from(height, width, channels), 0, 0, NULL, &order);
    for (i = 0; set && i < set->count; i++) {
        memcpy(dagan__images_at(set, i), pixels + (size_t)order[i] * size, size * sizeof *pixels);
    }
    mde_arena_rewind(c, mark);
    return set;
}

/* A subset of `count` classes: those of the list, or without one those from number `first` on. */
static dagan_images *dagan__images_subset(const dagan_images *set, int count, int first, const int *classes)
{
    dagan_images *out;
    int64_t images = 0;
    for (int i = 0; i < count; i++) images += set->rows[classes ? classes[i] : first + i].samples;
    out = dagan__images_new(set->context, set->size, count, images);
    images = 0;
    for (int i = 0; out && i < count; i++) {
        const dagan__image_class *row = set->rows + (classes ? classes[i] : first + i);
        out->rows[i] = *row;
        out->rows[i].first = images;
        memcpy(out->images + images, set->images + row->first, (size_t)row->samples * sizeof *out->images);
        images += row->samples;
    }
    return out;
}

MDEDEF dagan_images *dagan_images_pick(const dagan_images *set, int count, const int *classes)
{
    if (!set || mde_context_status(set->context) != MDE_OK) return NULL;
    if (count < 1 || !classes) {
        mde_fail(set->context, MDE_BAD_ARGUMENT, "pick classes: %d of them; expected at least one", count);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        if (classes[i] >= 0 && classes[i] < set->classes) continue;
        mde_fail(set->context, MDE_BAD_ARGUMENT, "pick classes: number %d; expected 0 to %d", classes[i],
                 set->classes - 1);
        return NULL;
    }
    return dagan__images_subset(set, count, 0, classes);
}

MDEDEF dagan_images *dagan_images_classes(const dagan_images *set, double from, double to)
{
    int first, end;
    if (!set || mde_context_status(set->context) != MDE_OK) return NULL;
    if (!(from >= 0 && to <= 1 && from < to)) {
        mde_fail(set->context, MDE_BAD_ARGUMENT, "classes: shares from %g to %g; expected 0 <= from < to <= 1",
                 from, to);
        return NULL;
    }
    first = (int)floor(from * set->classes + 0.5);
    end = (int)floor(to * set->classes + 0.5);
    if (first == end) {
        mde_fail(set->context, MDE_BAD_ARGUMENT, "classes: shares from %g to %g of %d classes hold none", from, to,
                 set->classes);
        return NULL;
    }
    return dagan__images_subset(set, end - first, first, NULL);
}

/* Streams of the random numbers of this section; a class or sample is added to the first number. */
#define DAGAN__STREAM_SHUFFLE UINT64_C(0x5348554600000000)
#define DAGAN__STREAM_SAMPLES UINT64_C(0x53414D5000000000)

MDEDEF dagan_images *dagan_images_shuffle(const dagan_images *set, uint64_t seed)
{
    dagan_images *out = NULL;
    int64_t *permutation;
    int *classes, i;
    mde_random r = mde_random_start(seed, DAGAN__STREAM_SHUFFLE);
    mde_mark mark;
    if (!set || mde_context_status(set->context) != MDE_OK) return NULL;
    mark = mde_arena_mark(set->context);
    permutation = (int64_t *)mde_scratch(set->context, (size_t)set->classes, sizeof *permutation);
    classes = (int *)mde_scratch(set->context, (size_t)set->classes, sizeof *classes);
    if (permutation && classes) {
        mde_random_permutation(&r, set->classes, permutation);
        for (i = 0; i < set->classes; i++) classes[i] = (int)permutation[i];
        out = dagan_images_pick(set, set->classes, classes);
    }
    mde_arena_rewind(set->context, mark);
    return out;
}

/* The order of a class depends on seed and the class alone, so that with one seed the first five and the rest have no
   image in common, whatever else the sets are made of. */
MDEDEF dagan_images *dagan_images_samples(const dagan_images *set, int first, int count, uint64_t seed)
{
    dagan_images *out;
    int64_t images = 0, *permutation;
    int maximum = 0;
    mde_mark mark;
    if (!set || mde_context_status(set->context) != MDE_OK) return NULL;
    if (first < 0 || count < 0) {
        mde_fail(set->context, MDE_BAD_ARGUMENT, "samples: %d after the first %d; expected 0 or more", count, first);
        return NULL;
    }
    for (int k = 0; k < set->classes; k++) {
        int samples = set->rows[k].samples, rest = samples - first;
        if (rest < 1) {
            mde_fail(set->context, MDE_BAD_ARGUMENT, "samples: %s has %d; none is left after the first %d",
                     set->rows[k].name, samples, first);
            return NULL;
        }
        if (samples > maximum) maximum = samples;
        images += count && count < rest ? count : rest;
    }
    mark = mde_arena_mark(set->context);
    permutation = (int64_t *)mde_scratch(set->context, (size_t)maximum, sizeof *permutation);
    out = permutation ? dagan__images_new(set->context, set->size, set->classes, images) : NULL;
    images = 0;
    for (int k = 0; out && k < set->classes; k++) {
        const dagan__image_class *from = set->rows + k;
        dagan__image_class *row = out->rows + k;
        int rest = from->samples - first;
        mde_random r = mde_random_start(seed, DAGAN__STREAM_SAMPLES + (uint64_t)from->origin);
        *row = *from;
        row->first = images;
        row->samples = count && count < rest ? count : rest;
        if (seed) mde_random_permutation(&r, from->samples, permutation);
        for (int i = 0; i < row->samples; i++) {
            out->images[images++] = set->images[from->first + (seed ? permutation[first + i] : first + i)];
        }
    }
    mde_arena_rewind(set->context, mark);
    return out;
}

MDEDEF int dagan_images_class_count(const dagan_images *set)
{
    return set ? set->classes : 0;
}

MDEDEF int dagan_images_sample_count(const dagan_images *set, int class_index)
{
    return set && class_index >= 0 && class_index < set->classes ? set->rows[class_index].samples : 0;
}

MDEDEF int64_t dagan_images_count(const dagan_images *set)
{
    return set ? set->count : 0;
}

MDEDEF void dagan_images_shape(const dagan_images *set, int *height, int *width, int *channels)
{
    if (height) *height = set ? set->size.height : 0;
    if (width) *width = set ? set->size.width : 0;
    if (channels) *channels = set ? set->size.channels : 0;
}

MDEDEF const float *dagan_images_pixels(const dagan_images *set, int class_index, int sample)
{
    if (sample < 0 || sample >= dagan_images_sample_count(set, class_index)) return NULL;
    return set->images[set->rows[class_index].first + sample];
}

MDEDEF const char *dagan_images_name(const dagan_images *set, int class_index)
{
    return set && class_index >= 0 && class_index < set->classes ? set->rows[class_index].name : "";
}

static dagan__size dagan__size_of(const dagan_images *set)
{
    return set ? set->size : dagan__size_from(0, 0, 0);
}

static uint64_t dagan__hash(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

MDEDEF uint64_t dagan_images_hash(const dagan_images *set)
{
    uint64_t hash = UINT64_C(0x646167616E) /* "dagan" */;
    size_t size;
    if (!set) return 0;
    size = dagan__size_floats(set->size);
    hash = dagan__hash(dagan__hash(hash, (uint64_t)set->size.height), (uint64_t)set->size.width);
    hash = dagan__hash(dagan__hash(hash, (uint64_t)set->size.channels), (uint64_t)set->classes);
    for (int64_t i = 0; i < set->classes; i++) hash = dagan__hash(hash, (uint64_t)set->rows[i].samples);
    for (int64_t i = 0; i < set->count; i++) {
        for (size_t k = 0; k < size; k++) {
            uint32_t bits;
            memcpy(&bits, set->images[i] + k, sizeof bits);
            hash = dagan__hash(hash, bits);
        }
    }
    return hash;
}

MDEDEF int64_t dagan_images_left_out(const dagan_images *set, const char **first)
{
    if (first) *first = set && set->left_out_first ? set->left_out_first : "";
    return set ? set->left_out : 0;
}

/* ---- 5.2 Drawn characters ---- */

/* A class is a program of one to four strokes, as in Omniglot: each a chain of Bezier curves (lines, arcs, waves,
   loops) that begins anywhere, at the end of an earlier stroke, or on it. A sample moves the knots of the curves,
   bends, rotates and shears the whole and has a pen of its own; strokes that were joined stay joined. Rotations are of
   the form (1 - t^2, 2 t) / (1 + t^2), so that no pixel depends on a libm. The image is [-1, 1]^2, x to the right, y
   down. */

#define DAGAN__STROKES 4
#define DAGAN__CURVES 12                /* of a stroke: three moves of at most four */
#define DAGAN__PIECES 10                /* straight pieces that a curve is drawn as */
#define DAGAN__STREAM_GLYPH UINT64_C(0xFFFFFFFF)    /* no sample: their numbers are smaller */

typedef struct dagan__point { double x, y; } dagan__point;

typedef struct dagan__stroke {
    int curves;
    dagan__point p[3 * DAGAN__CURVES + 1];  /* curve k has the control points 3k .. 3k + 3 */
    int parent;                         /* stroke that it is joined to; -1: none */
    double along, own;                  /* joined at these parameters, in [0, 1], of the parent and of itself */
    dagan__point origin;                /* of the start of a stroke without parent */
} dagan__stroke;

typedef struct dagan__glyph { int strokes; dagan__stroke stroke[DAGAN__STROKES]; } dagan__glyph;

static dagan__point dagan__point_of(double x, double y)
{
    dagan__point p;
    p.x = x;
    p.y = y;
    return p;
}

/* a + s b */
static dagan__point dagan__point_add(dagan__point a, double s, dagan__point b)
{
    return dagan__point_of(a.x + s * b.x, a.y + s * b.y);
}

/* p rotated by the angle whose half has the tangent t. */
static dagan__point dagan__point_rotate(dagan__point p, double t)
{
    double scale = 1.0 / (1.0 + t * t), cosine = (1.0 - t * t) * scale, sine = 2.0 * t * scale;
    return dagan__point_of(cosine * p.x - sine * p.y, sine * p.x + cosine * p.y);
}

static double dagan__between(mde_random *r, double low, double high)
{
    return low + (high - low) * mde_random_uniform(r);
}

/* x first: the order of arguments is up to the compiler. */
static dagan__point dagan__between_point(mde_random *r, double low, double high)
{
    double x = dagan__between(r, low, high);
    return dagan__point_of(x, dagan__between(r, low, high));
}

static double dagan__sign(mde_random *r)
{
    return mde_random_uniform(r) < 0.5 ? -1.0 : 1.0;
}

/* Normal without its tails, which would be scribbles. */
static double dagan__wobble(mde_random *r, double deviation)
{
    double x = mde_random_normal(r);
    return deviation * (x > 2 ? 2 : x < -2 ? -2 : x);
}

static dagan__point dagan__wobble_point(mde_random *r, double deviation)
{
    double x = dagan__wobble(r, deviation);
    return dagan__point_of(x, dagan__wobble(r, deviation));
}

static dagan__point dagan__bezier(const dagan__point *p, double t)
{
    double s = 1.0 - t, a = s * s * s, b = 3.0 * s * s * t, c = 3.0 * s * t * t, d = t * t * t;
    return dagan__point_of(a * p[0].x + b * p[1].x + c * p[2].x + d * p[3].x,
                           a * p[0].y + b * p[1].y + c * p[2].y + d * p[3].y);
}

static dagan__point dagan__stroke_at(const dagan__stroke *s, double along)
{
    int k = (int)(along * s->curves);
    if (k >= s->curves) k = s->curves - 1;
    return dagan__bezier(s->p + 3 * k, along * s->curves - k);
}

static void dagan__stroke_add(dagan__stroke *s, dagan__point a, dagan__point b, dagan__point end)
{
    dagan__point *p = s->p + 3 * s->curves;
    p[1] = a;
    p[2] = b;
    p[3] = end;
    s->curves++;
}

/* Goes on from the end of the stroke: `way` is the direction and length of the move. */
static void dagan__stroke_move(mde_random *r, dagan__stroke *s, dagan__point way)
{
    dagan__point from = s->p[3 * s->curves], side = dagan__point_of(-way.y, way.x);
    double kind = mde_random_uniform(r), sign = dagan__sign(r), bend = dagan__between(r, 0.25, 0.75);
    dagan__point to = dagan__point_add(from, 1, way);
    if (kind < 0.40) {                  /* line */
        dagan__stroke_add(s, dagan__point_add(from, 1.0 / 3.0, way), dagan__point_add(from, 2.0 / 3.0, way), to);
    } else if (kind < 0.72) {           /* arc */
        double reach = dagan__between(r, 0.05, 0.25);
        dagan__stroke_add(s, dagan__point_add(dagan__point_add(from, reach, way), sign * bend, side),
                          dagan__point_add(dagan__point_add(from, 1 - reach, way), sign * bend, side), to);
    } else if (kind < 0.84) {           /* wave */
        dagan__stroke_add(s, dagan__point_add(dagan__point_add(from, 0.4, way), sign * bend, side),
                          dagan__point_add(dagan__point_add(from, 0.6, way), -sign * bend, side), to);
    } else {                            /* loop: an ellipse, or three quarters of one */
        const double circle = 0.5522847498;     /* handles that make a Bezier curve a quarter of a circle */
        dagan__point middle = dagan__point_add(from, 0.4, way), axis[2];
        int quarters = mde_random_uniform(r) < 0.7 ? 4 : 3, k;
        axis[0] = dagan__point_of(-0.4 * way.x, -0.4 * way.y);
        axis[1] = dagan__point_of(sign * bend * 0.7 * side.x, sign * bend * 0.7 * side.y);
        for (k = 0; k < quarters; k++) {        /* from axis u to axis v, then on from v to -u */
            dagan__point u = axis[0], v = axis[1];
            dagan__stroke_add(s, dagan__point_add(dagan__point_add(middle, 1, u), circle, v),
                              dagan__point_add(dagan__point_add(middle, circle, u), 1, v),
                              dagan__point_add(middle, 1, v));
            axis[0] = v;
            axis[1] = dagan__point_of(-u.x, -u.y);
        }
    }
}

/* Where each stroke begins, after those that it is joined to. */
static void dagan__glyph_starts(const dagan__glyph *g, dagan__point *start)
{
    for (int k = 0; k < g->strokes; k++) {
        const dagan__stroke *s = g->stroke + k;
        start[k] = s->origin;
        if (s->parent >= 0) {
            dagan__point on = dagan__stroke_at(g->stroke + s->parent, s->along), own = dagan__stroke_at(s, s->own);
            start[k] = dagan__point_add(dagan__point_add(dagan__point_add(s->origin, 1, start[s->parent]), 1, on), -1,
                                        own);
        }
    }
}

typedef struct dagan__box { double left, right, top, bottom; } dagan__box;
static const dagan__box dagan__no_box = { DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX };

static void dagan__box_add(dagan__box *box, dagan__point p)
{
    if (p.x < box->left) box->left = p.x;
    if (p.x > box->right) box->right = p.x;
    if (p.y < box->top) box->top = p.y;
    if (p.y > box->bottom) box->bottom = p.y;
}

static void dagan__glyph_draw(dagan__glyph *g, uint64_t seed, int number)
{
    mde_random r = mde_random_start(seed, (uint64_t)number << 32 | DAGAN__STREAM_GLYPH);
    dagan__point start[DAGAN__STROKES], middle;
    dagan__box box = dagan__no_box;
    double u = mde_random_uniform(&r), scale, extent, wide, high;
    memset(g, 0, sizeof *g);
    g->strokes = u < 0.20 ? 1 : u < 0.55 ? 2 : u < 0.85 ? 3 : 4;
    for (int k = 0; k < g->strokes; k++) {
        dagan__stroke *s = g->stroke + k;
        int moves = g->strokes == 1 ? 2 + (int)mde_random_below(&r, 2) : mde_random_uniform(&r) < 0.7 ? 1 : 2;
        double joint = mde_random_uniform(&r), length = k == 0 ? 1.0 : dagan__between(&r, 0.45, 1.0);
        dagan__point way = dagan__point_of(0, length);
        way = dagan__point_rotate(way, dagan__between(&r, -1, 1));
        if (mde_random_uniform(&r) < 0.4) way = dagan__point_of(way.y, way.x);
        s->parent = -1;
        for (int i = 0; i < moves; i++) {
            double tangent = dagan__sign(&r);
            dagan__stroke_move(&r, s, way);
            tangent *= dagan__between(&r, 0.4, 1.6);
            scale = dagan__between(&r, 0.5, 1.0);
            way = dagan__point_rotate(way, tangent);
            way = dagan__point_of(scale * way.x, scale * way.y);
        }
        s->origin = dagan__between_point(&r, -0.5, 0.5);
        if (k > 0 && joint < 0.85) {
            s->origin = dagan__point_of(0, 0);
            s->parent = (int)mde_random_below(&r, (uint64_t)k);
            s->along = joint < 0.25 ? (joint < 0.12 ? 0.0 : 1.0) : dagan__between(&r, 0.15, 0.85);
            s->own = joint > 0.60 ? dagan__between(&r, 0.3, 0.7) : 0.0;
        }
    }
    /* In the middle of the image, most of which it fills; a flat or narrow one is stretched a little. */
    dagan__glyph_starts(g, start);
    for (int k = 0; k < g->strokes; k++) {
        for (int i = 0; i <= 40; i++) {
            dagan__box_add(&box, dagan__point_add(start[k], 1, dagan__stroke_at(g->stroke + k, i / 40.0)));
        }
    }
    middle = dagan__point_of(0.5 * (box.left + box.right), 0.5 * (box.top + box.bottom));
    extent = dagan__between(&r, 1.25, 1.65);
    wide = extent / (box.right - box.left + 1e-9);
    high = extent / (box.bottom - box.top + 1e-9);
    if (wide > 1.4 * high) wide = 1.4 * high;
    else if (high > 1.4 * wide) high = 1.4 * wide;
    for (int k = 0; k < g->strokes; k++) {
        dagan__stroke *s = g->stroke + k;
        for (int i = 0; i <= 3 * s->curves; i++) s->p[i] = dagan__point_of(wide * s->p[i].x, high * s->p[i].y);
        if (s->parent < 0) {
            s->origin = dagan__point_of(wide * (s->origin.x - middle.x), high * (s->origin.y - middle.y));
        }
    }
}

/* One drawer's version of a stroke: knots move and take their handles along, so that smooth joints stay smooth; then
   the stroke as a whole is rotated and scaled. */
static void dagan__stroke_vary(mde_random *r, dagan__stroke *s)
{
    double tangent = dagan__wobble(r, 0.04), scale = 1.0 + dagan__wobble(r, 0.07);
    int last = 3 * s->curves, k;
    for (k = 0; k <= last; k += 3) {
        dagan__point knot = dagan__wobble_point(r, 0.045), handle = dagan__wobble_point(r, 0.03);
        s->p[k] = dagan__point_add(s->p[k], 1, knot);
        if (k > 0) s->p[k - 1] = dagan__point_add(dagan__point_add(s->p[k - 1], 1, knot), -1, handle);
        if (k < last) s->p[k + 1] = dagan__point_add(dagan__point_add(s->p[k + 1], 1, knot), 1, handle);
    }
    for (k = 0; k <= last; k++) {
        s->p[k] = dagan__point_rotate(dagan__point_of(scale * s->p[k].x, scale * s->p[k].y), tangent);
    }
    if (s->parent < 0) {
        s->origin = dagan__point_add(s->origin, 1, dagan__wobble_point(r, 0.06));
    } else {
        s->origin = dagan__wobble_point(r, 0.02);
        if (s->along > 0 && s->along < 1) s->along += dagan__wobble(r, 0.04);
        if (s->own > 0) s->own += dagan__wobble(r, 0.04);
    }
}

/* Squares of the distances of pixel centres from the line a - b, where less than `reach`, if smaller than before. */
static void dagan__draw_line(int size, float *square, dagan__point a, dagan__point b, double reach)
{
    double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    double left = (a.x < b.x ? a.x : b.x) - reach, right = (a.x > b.x ? a.x : b.x) + reach;
    double top = (a.y < b.y ? a.y : b.y) - reach, bottom = (a.y > b.y ? a.y : b.y) + reach;
    int x0 = left > 0 ? (int)left : 0, x1 = right < size - 1 ? (int)right : size - 1;
    int y0 = top > 0 ? (int)top : 0, y1 = bottom < size - 1 ? (int)bottom : size - 1, x, y;
    for (y = y0; y <= y1; y++) {
        float *row = square + (size_t)y * (size_t)size;
        for (x = x0; x <= x1; x++) {
            double px = x + 0.5 - a.x, py = y + 0.5 - a.y, t = px * dx + py * dy;
            t = t <= 0 ? 0 : t >= length ? 1 : t / length;
            px -= t * dx;
            py -= t * dy;
            px = px * px + py * py;
            if (px < (double)row[x]) row[x] = (float)px;
        }
    }
}

static void dagan__glyph_sample(const dagan__glyph *glyph, uint64_t seed, int number, int sample, int size, float *out)
{
    mde_random r = mde_random_start(seed, (uint64_t)number << 32 | (uint64_t)sample);
    dagan__glyph g = *glyph;
    dagan__point start[DAGAN__STROKES], line[DAGAN__STROKES][DAGAN__CURVES * DAGAN__PIECES + 1], shift;
    dagan__box box = dagan__no_box;
    double tangent = dagan__between(&r, -0.09, 0.09), shear = dagan__between(&r, -0.2, 0.2);
    double wide = dagan__between(&r, 0.85, 1.15), high = dagan__between(&r, 0.85, 1.15);
    double bend_x = dagan__wobble(&r, 0.05), bend_y = dagan__wobble(&r, 0.05);
    double skew_x = dagan__wobble(&r, 0.05), skew_y = dagan__wobble(&r, 0.05);
    double pen = dagan__between(&r, 0.6, 1.1) / 28.0 * size, soft = dagan__between(&r, 0.45, 0.75) / 28.0 * size;
    double reach = pen + soft, limit = 1.0 - 2.0 * reach / size, half = 0.5 * size, fit;
    size_t pixels = (size_t)size * (size_t)size, n;
    shift = dagan__between_point(&r, -0.08, 0.08);
    for (int k = 0; k < g.strokes; k++) dagan__stroke_vary(&r, g.stroke + k);
    dagan__glyph_starts(&g, start);
    for (int k = 0; k < g.strokes; k++) {
        int pieces = g.stroke[k].curves * DAGAN__PIECES;
        for (int i = 0; i <= pieces; i++) {
            dagan__point p = dagan__stroke_at(g.stroke + k, (double)i / pieces);
            p = dagan__point_add(start[k], 1, p);
            p = dagan__point_of(p.x + bend_x * p.y * p.y + skew_x * p.x * p.y,
                                p.y + bend_y * p.x * p.x + skew_y * p.x * p.y);
            p = dagan__point_rotate(dagan__point_of(wide * p.x + shear * p.y, high * p.y), tangent);
            line[k][i] = dagan__point_add(p, 1, shift);
            dagan__box_add(&box, line[k][i]);
        }
    }
    /* What would leave the paper is moved back, and made smaller if need be. */
    fit = box.right - box.left > box.bottom - box.top ? box.right - box.left : box.bottom - box.top;
    fit = fit > 2 * limit ? 2 * limit / fit : 1;
    shift = dagan__point_of(0, 0);
    if (fit * box.left < -limit) shift.x = -limit - fit * box.left;
    else if (fit * box.right > limit) shift.x = limit - fit * box.right;
    if (fit * box.top < -limit) shift.y = -limit - fit * box.top;
    else if (fit * box.bottom > limit) shift.y = limit - fit * box.bottom;
    for (n = 0; n < pixels; n++) out[n] = FLT_MAX;
    for (int k = 0; k < g.strokes; k++) {
        int pieces = g.stroke[k].curves * DAGAN__PIECES;
        for (int i = 0; i <= pieces; i++) {
            dagan__point p = dagan__point_add(shift, fit, line[k][i]);
            line[k][i] = dagan__point_of((p.x + 1) * half, (p.y + 1) * half);
            if (i > 0) dagan__draw_line(size, out, line[k][i - 1], line[k][i], reach);
        }
    }
    for (n = 0; n < pixels; n++) {
        double ink = (double)out[n] < reach * reach ? (reach - sqrt((double)out[n])) / (2 * soft) : 0;
        out[n] = (float)(ink >= 1 ? 1 : 2 * ink - 1);
    }
}

typedef struct dagan__drawing { dagan_images *set; uint64_t seed; } dagan__drawing;

static void dagan__draw_class(int64_t index, void *user)
{
    const dagan__drawing *d = (const dagan__drawing *)user;
    const dagan__image_class *row = d->set->rows + index;
    dagan__glyph glyph;
    dagan__glyph_draw(&glyph, d->seed, (int)index);
    for (int j = 0; j < row->samples; j++) {
        dagan__glyph_sample(&glyph, d->seed, (int)index, j, d->set->size.height,
                            dagan__images_at(d->set, row->first + j));
    }
}

MDEDEF dagan_images *dagan_images_draw(mde_context *c, int classes, int samples, int size, uint64_t seed)
{
    dagan_images *set;
    dagan__drawing drawing;
    if (mde_context_status(c) != MDE_OK) return NULL;
    if (classes < 1 || samples < 1 || size < 1 || size > DAGAN__MAX_SIDE) {
        mde_fail(c, MDE_BAD_ARGUMENT, "drawn images: %d classes of %d samples, %d x %d pixels; expected at least one "
                 "of each and sides of at most %d", classes, samples, size, size, DAGAN__MAX_SIDE);
        return NULL;
    }
    set = dagan__images_new(c, dagan__size_from(size, size, 1), classes, (int64_t)classes * samples);
    if (!set) return NULL;
    for (int k = 0; k < classes; k++) {
        set->rows[k].first = (int64_t)k * samples;
        set->rows[k].samples = samples;
    }
    if (!dagan__images_own(set) || !dagan__images_label(set, NULL)) {
        dagan_images_free(set);
        return NULL;
    }
    drawing.set = set;
    drawing.seed = seed;
    mde_parallel_for(c, classes, dagan__draw_class, &drawing);
    return set;
}

DAGAN__COLD_END

/* ---- 5.3 Augmentation and pictures ---- */

/* Cosine and sine of an angle in degrees. Quarter turns are taken off first, exactly; what is left, at most pi/4, goes
   through the Taylor series to x^17, whose rest is below 1e-17. NaN for angles that have lost their digits. */
static void dagan__cosine_sine(double degrees, double *cosine, double *sine)
{
    double turns = floor(degrees / 90.0 + 0.5), x = (degrees - 90.0 * turns) * (3.14159265358979323846 / 180.0);
    double square = x * x, a = 1, b = 1, swap;
    int quarters;
    *cosine = *sine = (double)NAN;
    if (!(degrees >= -1e9 && degrees <= 1e9)) return;
    quarters = (int)(turns - 4.0 * floor(turns / 4.0));
    for (int k = 16; k >= 2; k -= 2) {
        a = 1 - a * square / (k * (k - 1));
        b = 1 - b * square / (k * (k + 1));
    }
    b *= x;
    for (int k = 0; k < quarters; k++) {
        swap = a;
        a = -b;
        b = swap;
    }
    *cosine = a;
    *sine = b;
}

/* Bilinear; black outside. A coordinate that is NaN is outside, too. */
static double dagan__image_at(const float *in, int height, int width, int channels, int channel, double y, double x)
{
    double value = 0, fy, fx;
    int y0, x0;
    if (!(y > -1 && y < height && x > -1 && x < width)) return -1;
    y0 = (int)floor(y);
    x0 = (int)floor(x);
    fy = y - y0;
    fx = x - x0;
    for (int k = 0; k < 4; k++) {
        int yk = y0 + k / 2, xk = x0 + k % 2;
        double weight = (k / 2 ? fy : 1 - fy) * (k % 2 ? fx : 1 - fx), pixel = -1;
        if (yk >= 0 && yk < height && xk >= 0 && xk < width) {
            pixel = (double)in[((size_t)yk * (size_t)width + (size_t)xk) * (size_t)channels + (size_t)channel];
        }
        value += weight * pixel;
    }
    return value;
}

MDEDEF void dagan_augment(const dagan_augment_desc *desc, mde_random *r, int height, int width, int channels,
                          const float *in, float *out)
{
    double shift_x = 0, shift_y = 0, degrees = 0, scale = 1, cosine, sine, flip = 1;
    double middle_x = 0.5 * (width - 1), middle_y = 0.5 * (height - 1);
    size_t total;
    if (!r || !in || !out || height < 1 || width < 1 || channels < 1) return;
    total = (size_t)height * (size_t)width * (size_t)channels;
    if (desc && desc->shift != 0) {
        shift_x = dagan__between(r, -desc->shift, desc->shift);
        shift_y = dagan__between(r, -desc->shift, desc->shift);
    }
    if (desc && desc->rotate != 0) degrees = dagan__between(r, -desc->rotate, desc->rotate);
    if (desc && desc->scale != 0) {
        double u = dagan__between(r, -desc->scale, desc->scale);
        scale = u < 0 ? 1 / (1 - u) : 1 + u;
    }
    if (desc && desc->flip) flip = dagan__sign(r);
    if (desc && desc->quarter_turns) {          /* of an image that is not square: half turns */
        degrees += height == width ? 90.0 * (double)mde_random_below(r, 4) : 180.0 * (double)mde_random_below(r, 2);
    }
    if (shift_x == 0 && shift_y == 0 && degrees == 0 && scale == 1 && flip > 0) {
        memcpy(out, in, total * sizeof *out);
    } else {
        /* The inverse map, from a pixel of the result to a point of the image, about the middle. With quarter turns
           alone all its numbers are 0, 1 and halves, and pixels are copied exactly. */
        dagan__cosine_sine(degrees, &cosine, &sine);
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                double dx = (x - middle_x - shift_x) / scale, dy = (y - middle_y - shift_y) / scale;
                double from_x = middle_x + flip * (cosine * dx + sine * dy);
                double from_y = middle_y + cosine * dy - sine * dx;
                for (int k = 0; k < channels; k++) {
                    *out++ = (float)dagan__image_at(in, height, width, channels, k, from_y, from_x);
                }
            }
        }
        out -= total;
    }
    if (!desc || desc->noise == 0) return;
    for (size_t n = 0; n < total; n++) {
        double value = (double)out[n] + desc->noise * mde_random_normal(r);
        out[n] = (float)(value > 1 ? 1 : value < -1 ? -1 : value);
    }
}

static unsigned char dagan__shade(float value, int ink)
{
    double shade = 0.5 + 0.5 * (ink ? -(double)value : (double)value);
    return (unsigned char)(shade > 0 ? (shade < 1 ? 255.0 * shade + 0.5 : 255.0) : 0.0);
}

/* Is the mean of grey images less than a quarter of white, so that what they show is ink? */
static int dagan__is_ink(int64_t count, int64_t size, const float *const *images)
{
    double sum = 0;
    for (int64_t i = 0; i < count * size; i++) {
        if (images[i / size]) sum += (double)dagan__shade(images[i / size][i % size], 0) - 63.75;
    }
    return sum < 0;
}

MDEDEF unsigned char *dagan_grid_png(mde_context *c, int rows, int columns, int height, int width, int channels,
                                     const float *const *images, int zoom, size_t *size)
{
    enum { ROW = 900, FRAME = 208, GAP = 255, MAXIMUM = 1 << 15 };
    unsigned char *pixels, *png;
    int64_t wide, high;
    int ink;
    if (size) *size = 0;
    if (mde_context_status(c) != MDE_OK || !dagan__check_shape(c, "grid", height, width, channels)) return NULL;
    if (rows < 1 || columns < 1 || rows > MAXIMUM || columns > MAXIMUM || zoom < 0 || zoom > MAXIMUM || !images ||
        !size) {
        mde_fail(c, MDE_BAD_ARGUMENT, "grid: %d rows of %d images%s, magnified %d times; expected at least one, and "
                 "somewhere to put the size", rows, columns, images ? "" : " (none given)", zoom);
        return NULL;
    }
    if (zoom == 0) zoom = (int)((ROW + (int64_t)columns * width / 2) / ((int64_t)columns * width));
    if (zoom == 0) zoom = 1;
    wide = columns * ((int64_t)width * zoom + 1) + 1;
    high = rows * ((int64_t)height * zoom + 1) + 1;
    if (wide > MAXIMUM || high > MAXIMUM) {
        mde_fail(c, MDE_BAD_ARGUMENT, "grid: the picture would have %lld x %lld pixels; expected sides of at most %d",
                 (long long)wide, (long long)high, MAXIMUM);
        return NULL;
    }
    pixels = (unsigned char *)mde_alloc(c, (size_t)high, (size_t)(wide * channels));
    if (!pixels) return NULL;
    memset(pixels, FRAME, (size_t)(wide * high * channels));
    ink = channels == 1 && dagan__is_ink((int64_t)rows * columns, (int64_t)height * width, images);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            const float *image = images[(size_t)i * (size_t)columns + (size_t)j];
            for (int y = 0; y < height * zoom; y++) {
                int64_t row = 1 + i * ((int64_t)height * zoom + 1) + y, column = 1 + j * ((int64_t)width * zoom + 1);
                unsigned char *out = pixels + (row * wide + column) * channels;
                const float *in = image ? image + (size_t)(y / zoom) * (size_t)width * (size_t)channels : NULL;
                for (int x = 0; x < width * zoom; x++) {
                    for (int k = 0; k < channels; k++) {
                        *out++ = in ? dagan__shade(in[x / zoom * channels + k], ink) : (unsigned char)GAP;
                    }
                }
            }
        }
    }
    png = mde_png_encode(c, (int)wide, (int)high, channels, pixels, size);
    mde_release(c, pixels);
    return png;
}

DAGAN__COLD_BEGIN     /* what calls ops, to the end of this file */

/* ---- 5.4 Size and channels ---- */

/* Grey from colour: luma of Rec. 601. Colour from grey: three times the same. */
static void dagan__convert_channels(const float *in, size_t pixels, int from, int to, float *out)
{
    if (from == to) memcpy(out, in, pixels * (size_t)to * sizeof *out);
    for (size_t i = 0; i < pixels && from == 1 && to == 3; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = in[i];
    for (size_t i = 0; i < pixels && from == 3 && to == 1; i++) {
        const float *p = in + 3 * i;
        out[i] = (float)((299.0 * (double)p[0] + 587.0 * (double)p[1] + 114.0 * (double)p[2]) / 1000.0);
    }
}

/* out[j] = sum over i of in[i] times the share of out[j]'s span that in[i] covers, on rows of `width` numbers. Lengths
   are whole numbers when an input row is `to` long and an output row `from`. */
static void dagan__resize_rows(const double *in, int from, size_t width, double *out, int to)
{
    for (int j = 0; j < to; j++) {
        int64_t begin = (int64_t)j * from, end = begin + from;
        double *row = out + (size_t)j * width;
        for (size_t k = 0; k < width; k++) row[k] = 0;
        for (int i = (int)(begin / to); i < from && (int64_t)i * to < end; i++) {
            int64_t low = (int64_t)i * to, high = low + to;
            double length = (double)((high < end ? high : end) - (low > begin ? low : begin));
            const double *source = in + (size_t)i * width;
            for (size_t k = 0; k < width; k++) row[k] += length * source[k];
        }
        for (size_t k = 0; k < width; k++) row[k] /= from;
    }
}

static void dagan__transpose(const double *in, size_t rows, size_t columns, size_t channels, double *out)
{
    size_t k;
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            for (k = 0; k < channels; k++) out[(j * rows + i) * channels + k] = in[(i * columns + j) * channels + k];
        }
    }
}

/* Each pixel of the result, of the same channels, is the mean of the input over the pixel's area. */
static void dagan__resize(mde_context *c, const float *in, dagan__size from, float *out, dagan__size to)
{
    size_t tall = (size_t)(from.height > to.height ? from.height : to.height);
    size_t wide = (size_t)(from.width > to.width ? from.width : to.width);
    size_t depth = (size_t)to.channels, i, total = (size_t)from.height * (size_t)from.width * depth;
    double *a, *b;
    if (from.height == to.height && from.width == to.width) {
        memcpy(out, in, total * sizeof *out);
        return;
    }
    a = (double *)mde_scratch(c, tall, wide * depth * sizeof *a);
    b = (double *)mde_scratch(c, tall, wide * depth * sizeof *b);
    if (!a || !b) return;
    for (i = 0; i < total; i++) a[i] = (double)in[i];
    dagan__resize_rows(a, from.height, (size_t)from.width * depth, b, to.height);
    dagan__transpose(b, (size_t)to.height, (size_t)from.width, depth, a);
    dagan__resize_rows(a, from.width, (size_t)to.height * depth, b, to.width);
    dagan__transpose(b, (size_t)to.width, (size_t)to.height, depth, a);
    total = dagan__size_floats(to);
    for (i = 0; i < total; i++) out[i] = (float)(a[i] > 1 ? 1 : a[i] < -1 ? -1 : a[i]);
}

/* An image as it is to be seen, by the numbers of EXIF: from 5 on rows and columns change places, then the rows are
   mirrored for 3, 4, 6, 7, the columns for 2, 3, 7, 8. Returns the size that it then has. */
static dagan__size dagan__orient(int orientation, dagan__size from, const float *in, float *out)
{
    int swap = orientation >= 5;
    int mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    int mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    dagan__size size = swap ? dagan__size_from(from.width, from.height, from.channels) : from;
    for (int y = 0; y < size.height; y++) {
        for (int x = 0; x < size.width; x++) {
            size_t row = (size_t)(swap ? x : y), column = (size_t)(swap ? y : x);
            if (mirror_y) row = (size_t)from.height - 1 - row;
            if (mirror_x) column = (size_t)from.width - 1 - column;
            for (int k = 0; k < from.channels; k++) {
                *out++ = in[(row * (size_t)from.width + column) * (size_t)from.channels + (size_t)k];
            }
        }
    }
    return size;
}

/* The same into the arena. */
static const float *dagan__oriented(mde_context *c, const float *in, dagan__size *size, int orientation)
{
    float *out;
    if (orientation < 2 || orientation > 8) return in;
    out = (float *)mde_scratch(c, dagan__size_floats(*size), sizeof *out);
    if (out) *size = dagan__orient(orientation, *size, in, out);
    return out;
}

/* An image of any size and channels becomes number `index` of a set. */
static void dagan__images_put(dagan_images *set, int64_t index, const float *in, dagan__size size,
                              const dagan_images_desc *desc)
{
    mde_context *c = set->context;
    size_t pixels = (size_t)size.height * (size_t)size.width, total = dagan__size_floats(set->size), i;
    float *out = dagan__images_at(set, index);
    mde_mark mark = mde_arena_mark(c);
    if (desc->transpose) in = dagan__oriented(c, in, &size, 5);
    if (in && size.channels != set->size.channels) {
        float *converted = (float *)mde_scratch(c, pixels, (size_t)set->size.channels * sizeof *converted);
        if (converted) dagan__convert_channels(in, pixels, size.channels, set->size.channels, converted);
        in = converted;
    }
    if (in) dagan__resize(c, in, size, out, set->size);
    for (i = 0; desc->invert && i < total; i++) out[i] = -out[i];
    mde_arena_rewind(c, mark);
}

#ifndef MDE_NO_STDIO

/* ---- 5.5 IDX and .npy files ---- */

/* A whole file; compressed and empty ones are told apart here. */
static unsigned char *dagan__file(mde_context *c, const char *path, size_t *size)
{
    unsigned char *bytes = mde_file_read(c, path, SIZE_MAX / 4, size);
    if (!bytes) return NULL;
    if (*size == 0) {
        mde_fail(c, MDE_BAD_FILE, "%s: is empty", path);
    } else if (*size >= 2 && bytes[0] == 0x1F && bytes[1] == 0x8B) {
        mde_fail(c, MDE_BAD_FILE, "%s: is compressed, which is not read here; run gunzip on it first", path);
    } else {
        return bytes;
    }
    mde_release(c, bytes);
    return NULL;
}

static int dagan__is_npy(const unsigned char *bytes, size_t size)
{
    return size >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0;
}

/* What an IDX file holds: big-endian numbers behind a header of 4 + 4 rank bytes. */
typedef struct dagan__idx {
    int type, bytes, rank;              /* 0x08, 0x09: bytes without and with sign; 0x0B, 0x0C: 16 and 32 bits; 0x0D,
                                           0x0E: float and double */
    int64_t shape[4];
    const unsigned char *data;
} dagan__idx;

static int dagan__idx_parse(mde_context *c, const char *name, const unsigned char *bytes, size_t size, dagan__idx *out)
{
    static const int sizes[7] = { 1, 1, 0, 2, 4, 4, 8 };
    size_t total = 1, header;           /* total: numbers, at most one more than the file has bytes */
    memset(out, 0, sizeof *out);
    if (size < 4 || bytes[0] != 0 || bytes[1] != 0) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: is neither an IDX nor a .npy file: it begins with other bytes", name);
    }
    out->type = bytes[2];
    out->rank = bytes[3];
    if (out->type >= 0x08 && out->type <= 0x0E) out->bytes = sizes[out->type - 0x08];
    if (out->bytes == 0) return !mde_fail(c, MDE_BAD_FILE, "%s: IDX numbers of type 0x%02X; expected 0x08, 0x09, 0x0B "
                                          "to 0x0E", name, (unsigned)out->type);
    if (out->rank < 1 || out->rank > 4) return !mde_fail(c, MDE_BAD_FILE, "%s: IDX array of %d dimensions; expected 1 "
                                                         "to 4", name, out->rank);
    header = 4 + 4 * (size_t)out->rank;
    if (size < header) return !mde_fail(c, MDE_BAD_FILE, "%s: ends within its IDX header of %zu bytes", name, header);
    for (int k = 0; k < out->rank; k++) {
        const unsigned char *p = bytes + 4 + 4 * k;
        uint32_t length = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        out->shape[k] = (int64_t)length;
        if (total <= size) total = length == 0 || total <= size / length ? total * length : size + 1;
    }
    if (total > size || total * (size_t)out->bytes != size - header) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: the file has %zu bytes of data, which is not what its IDX header "
                         "announces (%lld x ... of %d bytes); is it cut off?", name, size - header,
                         (long long)out->shape[0], out->bytes);
    }
    out->data = bytes + header;
    return 1;
}

static double dagan__idx_number(const dagan__idx *x, size_t index)
{
    const unsigned char *p = x->data + index * (size_t)x->bytes;
    uint64_t bits = 0, sign = (uint64_t)1 << (8 * x->bytes - 1);
    uint32_t half;
    float single;
    double number;
    for (int k = 0; k < x->bytes; k++) bits = bits << 8 | p[k];
    if (x->type == 0x0E) {
        memcpy(&number, &bits, sizeof number);
        return number;
    }
    if (x->type == 0x0D) {
        half = (uint32_t)bits;
        memcpy(&single, &half, sizeof single);
        return (double)single;
    }
    number = (double)bits;
    return x->type != 0x08 && (bits & sign) ? number - 2.0 * (double)sign : number;
}

/* Images of a file, one after the other; pixel = scale value + shift, clipped to [-1, 1]. */
typedef struct dagan__source {
    int64_t count, each;                /* each: images a class, of a 5-d array; 0: labels tell */
    dagan__size size;
    double scale, shift;
    char type;                          /* of the numbers: b (bool), c (byte), i (other integers), f (floats) */
    unsigned char *bytes;               /* of the file, or */
    dagan__idx idx;
    mde_array *array;
} dagan__source;

/* [N, H, W], [N, H, W, C] or [class, sample, H, W, C]. */
static int dagan__source_shape(mde_context *c, const char *name, int rank, const int64_t *shape, dagan__source *s)
{
    int at = rank == 5 ? 2 : 1;
    if (rank < 3) return !mde_fail(c, MDE_BAD_SHAPE, "%s: an array of %d dimensions; expected images: [N, H, W], [N, "
                                   "H, W, C] or [class, sample, H, W, C]", name, rank);
    for (int k = 0; k < at; k++) {
        if (shape[k] < 1 || shape[k] > INT_MAX) {
            return !mde_fail(c, MDE_BAD_SHAPE, "%s: holds %s", name, shape[k] < 1 ? "no images" : "more than 2^31 "
                             "images");
        }
    }
    if (!dagan__check_shape(c, name, shape[at], shape[at + 1], rank == 3 ? 1 : shape[at + 2])) return 0;
    s->count = rank == 5 ? shape[0] * shape[1] : shape[0];
    s->each = rank == 5 ? shape[1] : 0;
    s->size = dagan__size_from((int)shape[at], (int)shape[at + 1], rank == 3 ? 1 : (int)shape[at + 2]);
    return 1;
}

static double dagan__source_number(const dagan__source *s, size_t index)
{
    return s->array ? (double)s->array->f32[index] : dagan__idx_number(&s->idx, index);
}

/* What is black and what is white: as the descriptor says, by the type, or by the values, which may go beyond by a
   thousandth. Floats of a dark [0, 255] could be a wrong [0, 1], so there has to be one of 16 or more. */
static int dagan__source_range(mde_context *c, const char *name, const dagan_images_desc *desc, dagan__source *s)
{
    size_t total = (size_t)s->count * dagan__size_floats(s->size), i;
    double low = DBL_MAX, high = -DBL_MAX, black = desc->low, white = desc->high, beyond;
    int given = black != 0 || white != 0;
    for (i = 0; i < total && (given || s->type != 'c'); i++) {
        double value = dagan__source_number(s, i);
        if (!(value - value == 0)) return !mde_fail(c, MDE_NOT_FINITE, "%s: value %zu is %s", name, i,
                                                    value == value ? "infinite" : "not a number");
        if (value < low) low = value;
        if (value > high) high = value;
    }
    if (!given) {
        white = s->type == 'c' || high >= 16 ? 255 : 1;
        if (s->type == 'i' && high > 1) white = high <= 255 ? 255 : high;
        if (s->type == 'f' && low < -0.001 && low >= -1.002 && high <= 1.002) black = -1;
        if (s->type == 'c') low = high = 0;
    }
    beyond = 0.001 * (white - black);
    if (!(beyond > 0 && low >= black - beyond && high <= white + beyond)) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: values from %g to %g; expected %g to %g. Say with desc.low and "
                         "desc.high (--range LOW,HIGH) which numbers are black and white", name, low, high, black,
                         white);
    }
    s->scale = 2 / (white - black);
    s->shift = -1 - black * s->scale;
    return 1;
}

/* The kind of the numbers of a .npy file that has been parsed without error. */
static char dagan__npy_type(const unsigned char *bytes)
{
    const char *at = strstr((const char *)bytes + 10, "descr");
    at = at ? strchr(at, ':') : NULL;
    while (at && *at && !(*at >= 'a' && *at <= 'z')) at++;
    if (!at || *at == 'f' || *at == 0) return 'f';
    return *at == 'b' ? 'b' : *at == 'u' && at[1] == '1' ? 'c' : 'i';
}

static int dagan__source_open(mde_context *c, const char *path, const dagan_images_desc *desc, dagan__source *s)
{
    size_t size;
    int good;
    memset(s, 0, sizeof *s);
    s->bytes = dagan__file(c, path, &size);
    if (!s->bytes) return 0;
    if (dagan__is_npy(s->bytes, size)) {
        s->array = mde_npy_parse(c, path, s->bytes, size, 0);
        if (s->array) s->type = dagan__npy_type(s->bytes);
        mde_release(c, s->bytes);
        s->bytes = NULL;
        good = s->array && dagan__source_shape(c, path, s->array->rank, s->array->shape, s);
    } else {
        good = dagan__idx_parse(c, path, s->bytes, size, &s->idx) &&
               dagan__source_shape(c, path, s->idx.rank, s->idx.shape, s);
        s->type = s->idx.type == 0x08 ? 'c' : s->idx.type < 0x0D ? 'i' : 'f';
    }
    return good && dagan__source_range(c, path, desc, s);
}

static void dagan__source_get(const dagan__source *s, int64_t index, float *out)
{
    size_t size = dagan__size_floats(s->size), from = (size_t)index * size, k;
    for (k = 0; k < size; k++) {
        double value = dagan__source_number(s, from + k) * s->scale + s->shift;
        out[k] = (float)(value > 1 ? 1 : value < -1 ? -1 : value);
    }
}

/* Labels of `count` images, IDX or .npy, into label. */
static int dagan__read_labels(mde_context *c, const char *path, int64_t count, int *label)
{
    size_t size;
    unsigned char *bytes = dagan__file(c, path, &size);
    mde_array *array = NULL;
    dagan__idx idx;
    int64_t found;
    int rank;
    if (!bytes) return 0;
    if (dagan__is_npy(bytes, size)) array = mde_npy_parse(c, path, bytes, size, 1);
    else dagan__idx_parse(c, path, bytes, size, &idx);
    if (mde_context_status(c) == MDE_OK) {
        rank = array ? array->rank : idx.rank;
        found = array ? array->shape[0] : idx.shape[0];
        if (rank != 1) {
            mde_fail(c, MDE_BAD_SHAPE, "%s: labels of %d dimensions; expected one label an image", path, rank);
        } else if (found != count) {
            mde_fail(c, MDE_BAD_SHAPE, "%s: %lld labels for %lld images", path, (long long)found, (long long)count);
        }
        for (int64_t i = 0; mde_context_status(c) == MDE_OK && i < count; i++) {
            double value = array ? array->f64[i] : dagan__idx_number(&idx, (size_t)i);
            if (value >= 0 && value <= INT_MAX && floor(value) == value) label[i] = (int)value;
            else mde_fail(c, MDE_BAD_FILE, "%s: label %g of image %lld; expected a whole number of 0 or more", path,
                          value, (long long)i);
        }
    }
    mde_array_free(c, array);
    mde_release(c, bytes);
    return mde_context_status(c) == MDE_OK;
}

/* folder/name in the arena; a folder of no length is the one that the program runs in. */
static char *dagan__join(mde_context *c, const char *folder, size_t length, const char *name)
{
    size_t tail = strlen(name);
    char *path = (char *)mde_scratch(c, length + tail + 2, 1);
    if (!path) return NULL;
    memcpy(path, folder, length);
    if (length && path[length - 1] != '/') path[length++] = '/';
    memcpy(path + length, name, tail + 1);
    return path;
}

/* The path of a file of labels, in the arena, or NULL; *packed: that of a .gz file in its stead. */
static char *dagan__labels_at(mde_context *c, const char *path, int folder, const char *name, char **packed)
{
    size_t size = (size_t)folder + strlen(name) + 4;
    char *full = (char *)mde_scratch(c, size, 1);
    if (!full) return NULL;
    snprintf(full, size, "%.*s%s", folder, path, name);
    if (mde_is_file(full)) return full;
    snprintf(full, size, "%.*s%s.gz", folder, path, name);
    if (mde_is_file(full)) *packed = full;
    return NULL;
}

/* The labels that belong to a file of images, in the arena: `images` in its name becomes `labels`, and idx3-ubyte the
   name of some type of labels. NULL and an error when there are none. */
static char *dagan__labels_path(mde_context *c, const char *path)
{
    static const char *const types[] = { "idx1-ubyte", "idx1-short", "idx1-int" };
    size_t size;
    const char *name = mde_path_name(path, &size), *at = NULL, *next, *idx;
    int folder = (int)(name - path), k;
    char *wanted = (char *)mde_scratch(c, size + 16, 1), *found = NULL, *packed = NULL;
    size += 16;
    for (next = strstr(name, "images"); next; next = strstr(next + 1, "images")) at = next;
    if (!wanted) return NULL;
    if (!at) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: needs labels: give desc.labels (the name has no `images` that would be "
                 "`labels` in that of the labels)", path);
        return NULL;
    }
    snprintf(wanted, size, "%.*slabels%s", (int)(at - name), name, at + 6);
    idx = strstr(at, "idx");
    if (idx && (strlen(idx) < 10 || idx[4] != '-' || idx[3] < '3' || idx[3] > '4')) idx = NULL;
    for (k = 0; k < (idx ? 3 : 1) && !found; k++) {
        if (idx) {
            snprintf(wanted, size, "%.*slabels%.*s%s%s", (int)(at - name), name, (int)(idx - at) - 6, at + 6, types[k],
                     idx + 10);
        }
        found = dagan__labels_at(c, path, folder, wanted, &packed);
    }
    if (!found && packed) {
        mde_fail(c, MDE_BAD_FILE, "%s: its labels are compressed; run gunzip on %s first", path, packed);
    } else if (!found) {
        mde_fail(c, MDE_IO, "%s: there are no labels %s beside it; give desc.labels", path, wanted);
    }
    return found;
}

static dagan_images *dagan__open_file(mde_context *c, const char *path, const dagan_images_desc *desc)
{
    dagan__source s;
    dagan_images *set = NULL;
    mde_mark mark = mde_arena_mark(c);
    int64_t *order, i;
    if (dagan__source_open(c, path, desc, &s)) {
        int *label = (int *)mde_scratch(c, (size_t)s.count, sizeof *label), good = label != NULL;
        float *image = (float *)mde_scratch(c, dagan__size_floats(s.size), sizeof *image);
        dagan__size size = s.size;
        if (desc->transpose) size = dagan__size_from(size.width, size.height, size.channels);
        if (desc->size) size.height = size.width = desc->size;
        if (desc->channels) size.channels = desc->channels;
        if (good && s.each && !desc->labels) {
            for (i = 0; i < s.count; i++) label[i] = (int)(i / s.each);
        } else if (good) {
            const char *labels = desc->labels ? desc->labels : dagan__labels_path(c, path);
            good = labels && dagan__read_labels(c, labels, s.count, label);
        }
        if (good && image) {
            set = dagan__images_group(c, s.count, label, size, desc->classes, desc->samples, NULL, &order);
        }
        for (i = 0; set && i < set->count; i++) {
            dagan__source_get(&s, order[i], image);
            dagan__images_put(set, i, image, s.size, desc);
        }
    }
    mde_release(c, s.bytes);
    mde_array_free(c, s.array);
    mde_arena_rewind(c, mark);
    return set;
}

/* ---- 5.6 Image files and folders ---- */

typedef struct dagan__picture { dagan__size size; float *pixels; } dagan__picture;     /* in the arena */

static int dagan__picture_new(mde_context *c, const char *path, int64_t height, int64_t width, int channels,
                              size_t file_size, dagan__picture *out)
{
    if (height < 1 || width < 1 || height > INT_MAX / 4 || width > INT_MAX / 4 ||
        (uint64_t)height * (uint64_t)width > DAGAN__MAX_PICTURE) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: an image of %lld x %lld pixels; expected at least one and at most 2^26",
                         path, (long long)height, (long long)width);
    }
    if ((uint64_t)height * (uint64_t)width / DAGAN__MAX_PACKED > file_size) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: %zu bytes cannot hold the %lld x %lld pixels that it claims", path,
                         file_size, (long long)height, (long long)width);
    }
    out->size = dagan__size_from((int)height, (int)width, channels);
    out->pixels = (float *)mde_scratch(c, dagan__size_floats(out->size), sizeof *out->pixels);
    return out->pixels != NULL;
}

/* The next number of a PGM or PPM header, or of the plain forms' pixels: -1 at the end, or when it is none. */
static int64_t dagan__pnm_number(const unsigned char *bytes, size_t size, size_t *at)
{
    int64_t value = -1;
    size_t i = *at;
    while (i < size && (bytes[i] == '#' || bytes[i] == ' ' || (bytes[i] >= '\t' && bytes[i] <= '\r'))) {
        if (bytes[i++] == '#') while (i < size && bytes[i] != '\n' && bytes[i] != '\r') i++;
    }
    for (; i < size && bytes[i] >= '0' && bytes[i] <= '9'; i++) {
        value = (value < 0 ? 0 : value) * 10 + (bytes[i] - '0');
        if (value > INT_MAX) return -1;
    }
    *at = i;
    return value;
}

/* PBM, PGM, PPM (P1 to P6). In PBM 1 is black, a plain digit needs no blank after it, and rows end at whole bytes. */
static int dagan__read_pnm(mde_context *c, const char *path, const unsigned char *bytes, size_t size,
                           dagan__picture *out)
{
    int kind = (bytes[1] - '1') % 3, plain = bytes[1] <= '3', bitmap = kind == 0;
    size_t at = 2, total, wide, row;
    int64_t width = dagan__pnm_number(bytes, size, &at), height = dagan__pnm_number(bytes, size, &at);
    int64_t maximum = bitmap ? 1 : dagan__pnm_number(bytes, size, &at), value;
    if (width < 0 || height < 0 || maximum < 1 || maximum > 65535 || at == size) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: a PBM, PGM or PPM header of width %lld, height %lld and largest value "
                         "%lld; expected numbers, the last from 1 to 65535", path, (long long)width, (long long)height,
                         (long long)maximum);
    }
    if (!plain) at++;                           /* one white space, then the pixels */
    wide = maximum > 255 ? 2 : 1;
    row = bitmap && !plain ? ((size_t)width + 7) / 8 : (size_t)width * (kind == 2 ? 3 : 1);   /* numbers, or bytes */
    total = plain && !bitmap ? (size - at + 1) / 2 : (size - at) / wide;        /* as many can there be */
    if (height > 0 && row > total / (size_t)height) {
        return !mde_fail(c, MDE_BAD_FILE, "%s: ends before its %lld x %lld pixels do", path, (long long)width,
                         (long long)height);
    }
    if (!dagan__picture_new(c, path, height, width, kind == 2 ? 3 : 1, size, out)) return 0;
    total = dagan__size_floats(out->size);
    for (size_t i = 0; i < total; i++) {
        if (bitmap && plain) {
            while (at < size && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r'))) at++;
            value = at < size ? bytes[at++] - '0' : -1;
        } else if (bitmap) {
            size_t x = i % (size_t)width;
            value = bytes[at + i / (size_t)width * row + x / 8] >> (7 - x % 8) & 1;
        } else if (plain) {
            value = dagan__pnm_number(bytes, size, &at);
        } else {
            value = wide == 1 ? bytes[at + i] : bytes[at + 2 * i] << 8 | bytes[at + 2 * i + 1];
        }
        if (value < 0 || value > maximum) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: value %zu is %s", path, i,
                             value < 0 ? "missing or no number" : "more than the largest that the header allows");
        }
        out->pixels[i] = (float)(2.0 * (double)(bitmap ? 1 - value : value) / (double)maximum - 1.0);
    }
    return 1;
}

/* ---- 5.7 Pictures by stb_image.h ---- */

#ifdef STBI_INCLUDE_STB_IMAGE_H

static uint32_t dagan__big(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The orientation that a TIFF header with its first directory tells, as EXIF data do; 1 if none. */
static int dagan__tiff_orientation(const unsigned char *p, size_t size)
{
    int little = size > 0 && p[0] == 'I', high = !little;
    size_t at, count;
    if (size < 14) return 1;
    at = little ? (size_t)p[4] | (size_t)p[5] << 8 : (size_t)p[6] << 8 | p[7];      /* directories lie near */
    if (at > size - 2) return 1;
    for (count = (size_t)(p[at + (size_t)little] << 8 | p[at + (size_t)high]), at += 2; count > 0; count--, at += 12) {
        if (at + 12 > size) return 1;
        if ((p[at + (size_t)little] << 8 | p[at + (size_t)high]) == 0x0112) return p[at + 8 + (size_t)high];
    }
    return 1;
}

/* The orientation in the first EXIF segment of a JPEG file. */
static int dagan__jpeg_orientation(const unsigned char *bytes, size_t size)
{
    size_t at = 2;
    while (at + 10 < size && bytes[at] == 0xFF && bytes[at + 1] != 0xDA) {
        size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length < 2 || length > size - at - 2) break;
        if (bytes[at + 1] == 0xE1 && length > 8 && memcmp(bytes + at + 4, "Exif\0", 6) == 0) {
            return dagan__tiff_orientation(bytes + at + 10, length - 8);
        }
        at += 2 + length;
    }
    return 1;
}

/* Goes through the chunks of a PNG file: 0 and an error if one is damaged. *palette: where the palette stands if it has
   fewer colours than its indices can name. */
static int dagan__png_check(mde_context *c, const char *path, const unsigned char *bytes, size_t size, size_t *palette,
                            int *orientation)
{
    size_t at = 8;
    while (at + 12 <= size && dagan__big(bytes + at) <= size - at - 12) {
        size_t length = dagan__big(bytes + at);
        uint32_t crc = 0xFFFFFFFFu;
        for (size_t i = at + 4; i < at + 8 + length; i++) {
            crc ^= bytes[i];
            for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        }
        if (~crc != dagan__big(bytes + at + 8 + length)) {
            return !mde_fail(c, MDE_BAD_FILE, "%s: is damaged: the checksum of the chunk at byte %zu is wrong", path,
                             at);
        }
        if (memcmp(bytes + at + 4, "eXIf", 4) == 0) *orientation = dagan__tiff_orientation(bytes + at + 8, length);
        if (memcmp(bytes + at + 4, "PLTE", 4) == 0 && bytes[25] == 3 && length / 3 < (size_t)1 << bytes[24] % 16) {
            *palette = at;
        }
        if (memcmp(bytes + at + 4, "IEND", 4) == 0) return 1;
        at += 12 + length;
    }
    return !mde_fail(c, MDE_BAD_FILE, "%s: is damaged: it ends within a chunk", path);
}

/* An index beyond the palette would be read as whatever stands behind it in memory: so the palette is filled up, once
   with zeros and once with others, and the picture must not depend on it. */
static int dagan__palette_suffices(mde_context *c, const char *path, const unsigned char *bytes, size_t size,
                                   size_t palette, const stbi_uc *data, size_t total)
{
    size_t old = dagan__big(bytes + palette), full = 768, tail = size - palette - 8 - old;
    unsigned char *copy = (unsigned char *)mde_scratch(c, size + full, 1);
    int differ = 0, width, height, channels;
    if (!copy) return 0;
    memcpy(copy, bytes, palette + 8 + old);
    copy[palette + 2] = 3;                      /* 768 bytes */
    copy[palette + 3] = 0;
    memcpy(copy + palette + 8 + full, bytes + palette + 8 + old, tail);
    for (int fill = 0; fill < 2 && !differ; fill++) {
        stbi_uc *again;
        memset(copy + palette + 8 + old, fill ? 255 : 0, full - old);
        again = stbi_load_from_memory(copy, (int)(size + full - old), &width, &height, &channels, 0);
        differ = !again || memcmp(again, data, total) != 0;
        stbi_image_free(again);
    }
    return !differ || !mde_fail(c, MDE_BAD_FILE, "%s: is damaged: a pixel names a colour beyond its palette of %zu",
                                path, old / 3);
}

/* PNG, JPEG, BMP, GIF. Where there is alpha, the image lies on white paper. */
static int dagan__read_stb(mde_context *c, const char *path, const unsigned char *bytes, size_t size,
                           dagan__picture *out)
{
    int width = 0, height = 0, channels = 0, colours, orientation = 1;
    int png = size >= 33 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0;
    size_t pixels, palette = 0;
    stbi_uc *data = NULL;
    const char *reason;
    if (size >= 2 && bytes[0] == 0xFF && bytes[1] == 0xD8) orientation = dagan__jpeg_orientation(bytes, size);
    if (png && !dagan__png_check(c, path, bytes, size, &palette, &orientation)) return 0;
    if (size <= INT_MAX - 768 && stbi_info_from_memory(bytes, (int)size, &width, &height, &channels) &&
        dagan__picture_new(c, path, height, width, channels <= 2 ? 1 : 3, size, out)) {
        data = stbi_load_from_memory(bytes, (int)size, &width, &height, &channels, 0);
    }
    if (mde_context_status(c) != MDE_OK) return 0;
    if (!data || width != out->size.width || height != out->size.height ||
        (channels <= 2 ? 1 : 3) != out->size.channels) {
        reason = stbi_failure_reason();
        mde_fail(c, MDE_BAD_FILE, "%s: cannot be read as an image: %s", path, reason ? reason : "it is damaged");
    }
    pixels = (size_t)width * (size_t)height;
    if (palette && data) dagan__palette_suffices(c, path, bytes, size, palette, data, pixels * (size_t)channels);
    if (mde_context_status(c) != MDE_OK) {
        stbi_image_free(data);
        return 0;
    }
    colours = out->size.channels;
    for (size_t i = 0; i < pixels; i++) {
        const stbi_uc *p = data + i * (size_t)channels;
        double alpha = channels > colours ? (double)p[colours] / 255.0 : 1.0;
        for (int k = 0; k < colours; k++) {
            out->pixels[i * (size_t)colours + (size_t)k] = (float)(1.0 - alpha * (1.0 - (2.0 * p[k] / 255.0 - 1.0)));
        }
    }
    stbi_image_free(data);
    out->pixels = (float *)dagan__oriented(c, out->pixels, &out->size, orientation);
    return out->pixels != NULL;
}

#endif

static int dagan__read_picture(mde_context *c, const char *path, dagan__picture *out)
{
    size_t size;
    unsigned char *bytes = dagan__file(c, path, &size);
    int good = 0;
    if (!bytes) return 0;
    if (size >= 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6') {
        good = dagan__read_pnm(c, path, bytes, size, out);
    } else {
#ifdef STBI_INCLUDE_STB_IMAGE_H
        good = dagan__read_stb(c, path, bytes, size, out);
#else
        mde_fail(c, MDE_BAD_FILE, "%s: is neither PBM, PGM nor PPM; for PNG, JPEG, BMP and GIF include stb_image.h "
                 "before dagan.h", path);
#endif
    }
    mde_release(c, bytes);
    return good;
}

/* The name ends in this, in small letters or capitals. */
static int dagan__ends_in(const char *name, const char *ending)
{
    size_t a = strlen(name), b = strlen(ending), i;
    if (a < b) return 0;
    for (i = 0; i < b; i++) {
        char x = name[a - b + i];
        if (x >= 'A' && x <= 'Z') x = (char)(x - 'A' + 'a');
        if (x != ending[i]) return 0;
    }
    return 1;
}

enum { DAGAN__NO_PICTURE, DAGAN__PICTURE, DAGAN__OTHER_PICTURE };   /* the last: of a format that is not read */

static int dagan__picture_kind(const char *name)
{
    static const char *const endings[] = { ".pbm", ".pgm", ".ppm", ".pnm", ".png", ".jpg", ".jpeg", ".bmp", ".gif",
                                           ".tif", ".tiff", ".webp", ".jp2", ".jxl", ".heic", ".heif", ".avif", ".svg",
                                           ".tga" };
    enum { READ = 9 };
    for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
        if (dagan__ends_in(name, endings[k])) return k < READ ? DAGAN__PICTURE : DAGAN__OTHER_PICTURE;
    }
    return DAGAN__NO_PICTURE;
}

/* Images of a folder as they are met, a list in the arena; name: of the class. */
typedef struct dagan__entry { const char *path, *name; struct dagan__entry *next; } dagan__entry;

typedef struct dagan__walk {
    mde_context *context;
    const char *root;                   /* name of the outermost folder, */
    size_t skip;                        /* whose path and slash are that long */
    dagan__entry *first, **last;
    int64_t count, left_out;            /* left_out: of formats that are not read, */
    const char *left_out_first;         /* the path of one */
} dagan__walk;

/* A grey set that meets its first colour image becomes a colour one. */
static void dagan__images_colour(dagan_images *set)
{
    mde_context *c = set->context;
    float *grey = set->pixels;
    size_t pixels = (size_t)set->count * dagan__size_floats(set->size);
    set->size.channels = 3;
    if (dagan__images_own(set)) {
        dagan__convert_channels(grey, pixels, 1, 3, set->pixels);
        mde_release(c, grey);
    } else {
        set->pixels = grey;
    }
}

static void dagan__walk_folder(dagan__walk *w, const char *path, int depth)
{
    mde_context *c = w->context;
    mde_names names;
    if (depth > DAGAN__MAX_DEPTH) {
        mde_fail(c, MDE_BAD_FILE, "%s: folders are more than %d deep; is there a loop of links?", path,
                 DAGAN__MAX_DEPTH);
        return;
    }
    if (mde_folder_list(c, path, &names) != MDE_OK) return;
    for (int folders = 0; folders < 2; folders++) {         /* images first, then what lies deeper */
        for (int i = 0; i < names.count && mde_context_status(c) == MDE_OK; i++) {
            dagan__entry *entry;
            char *full;
            int kind = dagan__picture_kind(names.items[i]);
            if ((kind == DAGAN__PICTURE) == folders) continue;
            full = dagan__join(c, path, strlen(path), names.items[i]);
            if (full && folders && mde_is_folder(full)) dagan__walk_folder(w, full, depth + 1);
            else if (full && kind == DAGAN__OTHER_PICTURE && w->left_out++ == 0) w->left_out_first = full;
            if (!full || folders) continue;
            entry = (dagan__entry *)mde_scratch(c, 1, sizeof *entry);
            if (!entry) break;
            entry->path = full;
            entry->name = depth ? path + w->skip : w->root;
            entry->next = NULL;
            *w->last = entry;
            w->last = &entry->next;
            w->count++;
        }
    }
    mde_names_free(c, &names);
}

/* What follows a folder that names a part of a set, as in train/a and test/a; NULL: it is none. */
static const char *dagan__behind_split(const char *name)
{
    static const char *const splits[] = { "train", "training", "test", "testing", "val", "valid", "validation", "dev",
                                          "eval", "evaluation" };
    size_t length = strcspn(name, "/"), k, i;
    for (k = 0; name[length] && k < sizeof splits / sizeof *splits; k++) {
        for (i = 0; i < length && (name[i] | 0x20) == splits[k][i]; i++) {}
        if (i == length && splits[k][i] == 0) return name + length + 1;
    }
    return NULL;
}

/* Labels of the images by the names of their classes, in order of appearance; names[label], for as many as there are
   images. If all outermost folders name parts of a set, classes of one name are one class. */
static void dagan__walk_label(const dagan__walk *w, int *label, const char **names)
{
    const dagan__entry *e;
    int classes = 0, merge = 1, k = 0;
    int64_t i = 0;
    for (e = w->first; e && merge; e = e->next) merge = dagan__behind_split(e->name) != NULL;
    for (e = w->first; e; e = e->next) {
        const char *name = merge ? dagan__behind_split(e->name) : e->name;
        if (e == w->first || name != names[k]) {
            for (k = merge ? 0 : classes; k < classes && strcmp(names[k], name) != 0; k++) {}
            if (k == classes) names[classes++] = name;
        }
        label[i++] = k;
    }
}

/* A folder without images may hold them in one file, which is known by its name. */
static dagan_images *dagan__open_array_in(mde_context *c, const char *path, const dagan_images_desc *desc)
{
    const char *first = NULL, *second = NULL, *packed = NULL;
    dagan_images *set = NULL;
    mde_names names;
    if (mde_folder_list(c, path, &names) != MDE_OK) return NULL;
    for (int i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        int array = strstr(name, "idx3") || strstr(name, "idx4") || dagan__ends_in(name, ".npy");
        if (strstr(name, "labels")) continue;
        if (array && dagan__ends_in(name, ".gz")) {
            packed = name;
        } else if (array && first) {
            second = name;
        } else if (array) {
            first = name;
        }
    }
    if (second) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: holds several files of images, %s and %s; give the path of one", path, first,
                 second);
    } else if (first) {
        mde_mark mark = mde_arena_mark(c);
        char *file = dagan__join(c, path, strlen(path), first);
        if (file) set = dagan__open_file(c, file, desc);
        mde_arena_rewind(c, mark);
    } else if (packed) {
        mde_fail(c, MDE_BAD_FILE, "%s: %s is compressed, which is not read here; run gunzip on it first", path, packed);
    } else {
        mde_fail(c, MDE_BAD_FILE, "%s: neither the folder nor those in it hold images: .pgm, .ppm, .png, .jpg, .npy or "
                 "IDX files", path);
    }
    mde_names_free(c, &names);
    return set;
}

static dagan_images *dagan__walk_read(const dagan__walk *w, const dagan_images_desc *desc)
{
    mde_context *c = w->context;
    int side = desc->size ? desc->size : 28;
    int *label = (int *)mde_scratch(c, (size_t)w->count, sizeof *label);
    const char **names = (const char **)mde_scratch(c, (size_t)w->count, sizeof *names);
    const char **paths = (const char **)mde_scratch(c, (size_t)w->count, sizeof *paths);
    const dagan__entry *e;
    dagan_images *set = NULL;
    int64_t *order, i = 0;
    if (label && names && paths) {
        for (e = w->first; e; e = e->next) paths[i++] = e->path;
        dagan__walk_label(w, label, names);
        set = dagan__images_group(c, w->count, label, dagan__size_from(side, side, desc->channels ? desc->channels : 1),
                                  desc->classes, desc->samples, names, &order);
    }
    for (i = 0; set && i < set->count && mde_context_status(c) == MDE_OK; i++) {
        mde_mark mark = mde_arena_mark(c);
        dagan__picture picture;
        picture.pixels = NULL;
        if (dagan__read_picture(c, paths[order[i]], &picture)) {
            if (desc->channels == 0 && picture.size.channels > set->size.channels) dagan__images_colour(set);
            if (mde_context_status(c) == MDE_OK) dagan__images_put(set, i, picture.pixels, picture.size, desc);
        }
        mde_arena_rewind(c, mark);
    }
    if (set && w->left_out) {
        size_t length = strlen(w->left_out_first);
        set->left_out = w->left_out;
        set->left_out_first = (char *)mde_alloc(c, length + 1, 1);
        if (set->left_out_first) memcpy(set->left_out_first, w->left_out_first, length);
    }
    if (mde_context_status(c) == MDE_OK) return set;
    dagan_images_free(set);
    return NULL;
}

static dagan_images *dagan__open_folder(mde_context *c, const char *path, const dagan_images_desc *desc)
{
    dagan__walk w;
    dagan_images *set = NULL;
    size_t length;
    mde_mark mark = mde_arena_mark(c);
    char *root = dagan__join(c, path, strlen(path), "");
    if (!root) return NULL;
    memset(&w, 0, sizeof w);
    w.context = c;
    w.last = &w.first;
    w.skip = strlen(root);
    w.root = mde_path_name(root, &length);
    root[(size_t)(w.root - root) + length] = 0;
    dagan__walk_folder(&w, path, 0);
    if (mde_context_status(c) == MDE_OK && w.count == 0 && w.left_out) {
        mde_fail(c, MDE_BAD_FILE, "%s: holds only images of formats that are not read, such as %s", path,
                 w.left_out_first);
    } else if (mde_context_status(c) == MDE_OK && w.count == 0) {
        set = dagan__open_array_in(c, path, desc);
    } else if (mde_context_status(c) == MDE_OK && desc->labels) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: labels %s are given, but the folders of images are the classes", path,
                 desc->labels);
    } else if (mde_context_status(c) == MDE_OK && (desc->low != 0 || desc->high != 0)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: a range is given, but files of images tell their own", path);
    } else if (mde_context_status(c) == MDE_OK) {
        set = dagan__walk_read(&w, desc);
    }
    mde_arena_rewind(c, mark);
    return set;
}

MDEDEF dagan_images *dagan_images_open(mde_context *c, const dagan_images_desc *desc)
{
    dagan_images_desc defaults;
    dagan_images *set;
    if (mde_context_status(c) != MDE_OK) return NULL;
    memset(&defaults, 0, sizeof defaults);
    if (!desc) desc = &defaults;
    if (desc->size < 0 || desc->size > DAGAN__MAX_SIDE || desc->classes < 0 || desc->samples < 0) {
        mde_fail(c, MDE_BAD_ARGUMENT, "images: size %d, classes %d, samples %d; expected 0 or more, and a size of at "
                 "most %d", desc->size, desc->classes, desc->samples, DAGAN__MAX_SIDE);
        return NULL;
    }
    if (desc->channels != 0 && desc->channels != 1 && desc->channels != 3) {
        mde_fail(c, MDE_BAD_ARGUMENT, "images: channels is %d; expected 0 (as they are), 1 (grey) or 3 (colour)",
                 desc->channels);
        return NULL;
    }
    if (desc->path) {
        return mde_is_folder(desc->path) ? dagan__open_folder(c, desc->path, desc)
                                         : dagan__open_file(c, desc->path, desc);
    }
    set = dagan_images_draw(c, desc->classes ? desc->classes : 200, desc->samples ? desc->samples : 20,
                            desc->size ? desc->size : 28, desc->seed);
    if (set && desc->invert) {
        int64_t total = set->count * (int64_t)dagan__size_floats(set->size);
        for (int64_t i = 0; i < total; i++) set->pixels[i] = -set->pixels[i];
    }
    if (set && desc->channels == 3) dagan__images_colour(set);
    if (mde_context_status(c) == MDE_OK) return set;
    dagan_images_free(set);
    return NULL;
}

#endif /* MDE_NO_STDIO */

/* ======================================================================
   6. NETWORKS
   ====================================================================== */

/* Generator and critic of Antoniou et al. 2018, section 4. Each network is written down once, as a pass along its
   layers. The first pass sees sizes only and makes the parameters; every later one carries tensors and takes the
   parameters in the same order. */

#define DAGAN__MAX_FILTERS 1024
#define DAGAN__MAX_INNER 16             /* inner convolutions of a block */
#define DAGAN__MAX_NOISE 4096
#define DAGAN__SLOPE 0.2                /* of every leaky ReLU */
/* The critic's five passes a step move the running statistics, too: an average over about 17 generator steps. */
#define DAGAN__MOMENTUM 0.99
#define DAGAN__BATCH_EPSILON 1e-3
#define DAGAN__FILM_DEVIATION 0.5       /* of what z first adds to gain and shift */
#define DAGAN__IMAGE_EPSILON 1e-5

/* ---- 6.1 What all networks share ---- */

/* A set with images of the networks' size, at least one in each class. who: "the network takes". */
static int dagan__check_images(mde_context *c, const char *what, const dagan_images *set, dagan__size want,
                               const char *who)
{
    dagan__size have = dagan__size_of(set);
    if (mde_context_status(c) != MDE_OK) return 0;
    if (!set || dagan_images_count(set) < 1) return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: %s", what, set ? "the set has "
                                                              "no images" : "no set of images was given");
    if (!dagan__same_size(have, want)) {
        return !mde_fail(c, MDE_BAD_SHAPE, "%s: images of %d x %d x %d; %s %d x %d x %d", what, have.height, have.width,
                         have.channels, who, want.height, want.width, want.channels);
    }
    for (int k = 0; k < dagan_images_class_count(set); k++) {
        if (dagan_images_sample_count(set, k) > 0) continue;
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: %s has no images", what, dagan_images_name(set, k));
    }
    return 1;
}

/* A batch of n images; those of the list are copied into it, without a list it is blank. */
static mde_tensor *dagan__batch(mde_context *c, dagan__size size, int64_t n, const float *const *images)
{
    int64_t shape[4], i;
    mde_tensor *x;
    shape[0] = n;
    shape[1] = size.height;
    shape[2] = size.width;
    shape[3] = size.channels;
    x = mde_tensor_create(c, 4, shape);
    for (i = 0; x && images && i < n; i++) {
        memcpy(x->data + (size_t)i * dagan__size_floats(size), images[i], dagan__size_floats(size) * sizeof **images);
    }
    return x;
}

static mde_tensor *dagan__matrix(mde_context *c, int64_t rows, int64_t columns)
{
    int64_t shape[2];
    shape[0] = rows;
    shape[1] = columns;
    return mde_tensor_create(c, 2, shape);
}

static mde_tensor *dagan__as_matrix(mde_context *c, mde_tensor *x, int64_t rows, int64_t columns)
{
    int64_t shape[2];
    shape[0] = rows;
    shape[1] = columns;
    return mde_reshape(c, x, 2, shape);
}

/* A list, in the arena, of images that stand one after the other. */
static const float **dagan__listed(mde_context *c, int64_t count, const float *pixels, size_t size)
{
    const float **list = (const float **)mde_scratch(c, (size_t)count, sizeof *list);
    for (int64_t i = 0; list && i < count; i++) list[i] = pixels + (size_t)i * size;
    return list;
}

/* All images of a set in one list, with the class of each. */
typedef struct dagan__list { int64_t count; const float **images; int32_t *labels; } dagan__list;

/* In the arena, each image `each` times. */
static int dagan__list_open(mde_context *c, const dagan_images *set, int each, dagan__list *list)
{
    int64_t at = 0;
    list->count = dagan_images_count(set) * each;
    list->images = (const float **)mde_scratch(c, (size_t)list->count, sizeof *list->images);
    list->labels = (int32_t *)mde_scratch(c, (size_t)list->count, sizeof *list->labels);
    for (int k = 0; list->images && list->labels && k < dagan_images_class_count(set); k++) {
        for (int i = 0; i < dagan_images_sample_count(set, k); i++) {
            for (int copy = 0; copy < each; copy++, at++) {
                list->images[at] = dagan_images_pixels(set, k, i);
                list->labels[at] = k;
            }
        }
    }
    return mde_context_status(c) == MDE_OK;
}

/* ---- 6.2 Layers ---- */

typedef struct dagan__layer {
    mde_tensor *weight, *bias;          /* [kernel, kernel, in, out] or [in, out]; [out] */
    mde_tensor *gain, *shift;           /* of the normalization, [out] */
    mde_tensor *mean, *variance;        /* running statistics, [out] */
    mde_tensor *film;                   /* [noise, 2 out]: what z adds to gain and shift */
} dagan__layer;

static mde_tensor *dagan__param(mde_params *p, const char *layer, const char *what, int rank, const int64_t *shape,
                                mde_init init, double scale)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    return mde_param(p, name, rank, shape, init, scale);
}

enum { DAGAN__BIAS = 1, DAGAN__GAIN = 2, DAGAN__RUNNING = 4 };  /* parts besides the weight; gain and shift */

/* All layers are made here: a convolution with a square kernel, or with kernel 0 a matrix, whose weights have that
   standard deviation. */
static void dagan__layer_make(mde_params *p, const char *name, int kernel, int64_t in, int64_t out, int parts,
                              double deviation, dagan__layer *layer)
{
    int64_t shape[4];
    shape[0] = shape[1] = kernel;
    shape[2] = in;
    shape[3] = out;
    layer->weight = kernel ? dagan__param(p, name, "weight", 4, shape, MDE_INIT_NORMAL, deviation)
                           : dagan__param(p, name, "weight", 2, shape + 2, MDE_INIT_NORMAL, deviation);
    if (parts & DAGAN__BIAS) layer->bias = dagan__param(p, name, "bias", 1, &out, MDE_INIT_ZEROS, 0);
    if (parts & DAGAN__GAIN) {
        layer->gain = dagan__param(p, name, "norm.gain", 1, &out, MDE_INIT_ONES, 0);
        layer->shift = dagan__param(p, name, "norm.bias", 1, &out, MDE_INIT_ZEROS, 0);
    }
    if (parts & DAGAN__RUNNING) {
        layer->mean = dagan__param(p, name, "norm.running_mean", 1, &out, MDE_INIT_ZEROS, 0);
        layer->variance = dagan__param(p, name, "norm.running_variance", 1, &out, MDE_INIT_ONES, 0);
        if (layer->mean) layer->mean->requires_grad = 0;
        if (layer->variance) layer->variance->requires_grad = 0;
    }
}

/* x weight + bias: x [n, in]. */
static mde_tensor *dagan__layer_linear(mde_context *c, const dagan__layer *layer, mde_tensor *x)
{
    return mde_add(c, mde_matmul(c, x, layer->weight), layer->bias);
}

/* Descriptor of a batch norm with the layer's statistics and, if asked for, gain and shift. */
static dagan_batch_norm_desc dagan__layer_norm(const dagan__layer *layer, int with_gain, double momentum,
                                               double epsilon, int training)
{
    dagan_batch_norm_desc d;
    d.gain = with_gain ? layer->gain : NULL;
    d.bias = with_gain ? layer->shift : NULL;
    d.running_mean = layer->mean;
    d.running_variance = layer->variance;
    d.momentum = momentum;
    d.epsilon = epsilon;
    d.training = training;
    d.renorm = 0;
    return d;
}

/* ---- 6.3 A pass along the layers ---- */

#define DAGAN__SPANS 64                 /* of the curve */

struct dagan {
    mde_context *context;
    dagan__size size;
    dagan_desc desc;
    mde_params *params[2];              /* generator, critic */
    dagan__layer *layers[2];
    int layer_count[2];
    /* Curve of the last training: sums over spans of span_steps steps; a full list is folded in two. */
    double sums[DAGAN__SPANS][4];
    int64_t span_steps, steps;
    dagan_step curve[DAGAN__SPANS];
    int64_t curve_steps[DAGAN__SPANS];
    int points;
};

/* What goes from layer to layer. */
typedef struct dagan__map { mde_tensor *t; int64_t height, width; int channels; } dagan__map;

typedef struct dagan__pass {
    dagan *g;
    mde_context *context;
    int net;                            /* 0: generator, 1: critic */
    int making;                         /* the first pass: parameters are made, there are no tensors */
    int next;                           /* layer */
    int full;                           /* of the paper's form: all outputs of a block joined, blocks bypassed */
    mde_tensor *z;                      /* [n, noise] */
    int training;
    uint64_t stream;                    /* of the masks of dropout */
} dagan__pass;

enum { DAGAN__GENERATOR = 0, DAGAN__CRITIC = 1 };
static const char *const dagan__net_names[2] = { "generator", "critic" };

static dagan__pass dagan__pass_start(dagan *g, int net, int making)
{
    dagan__pass k;
    memset(&k, 0, sizeof k);
    k.g = g;
    k.context = g->context;
    k.net = net;
    k.making = making;
    k.full = g->desc.preset == DAGAN_PAPER;
    return k;
}

/* The next layer; in the first pass a new one. */
static dagan__layer *dagan__take(dagan__pass *k)
{
    if (k->making) k->g->layer_count[k->net] = k->next + 1;
    return k->g->layers[k->net] + k->next++;
}

enum { DAGAN__RAW = 0, DAGAN__NORM = 1, DAGAN__FILM = 3 };   /* convolution alone, + leaky ReLU and norm, + z */

/* Of the pass's network. */
static void dagan__conv_make(dagan__pass *k, dagan__layer *layer, const char *name, int in, int filters, int kind)
{
    mde_params *p = k->g->params[k->net];
    char full[96];
    int64_t shape[2];
    int parts = kind == DAGAN__RAW ? DAGAN__BIAS : DAGAN__BIAS | DAGAN__GAIN;
    if (parts & DAGAN__GAIN && k->net == DAGAN__GENERATOR && k->g->desc.norm != DAGAN_INSTANCE_NORM) {
        parts |= DAGAN__RUNNING;
    }
    snprintf(full, sizeof full, "%s.%s", dagan__net_names[k->net], name);
    dagan__layer_make(p, full, 3, in, filters, parts, sqrt((kind == DAGAN__RAW ? 1.0 : 2.0) / (9.0 * in)), layer);
    if (kind != DAGAN__FILM) return;
    shape[0] = k->g->desc.noise;
    shape[1] = 2 * filters;
    layer->film = dagan__param(p, full, "film.weight", 2, shape, MDE_INIT_NORMAL,
                               DAGAN__FILM_DEVIATION / sqrt((double)shape[0]));
}

/* Normalization with gain and shift, to which z may add. */
static mde_tensor *dagan__norm_apply(dagan__pass *k, const dagan__layer *layer, mde_tensor *x)
{
    mde_context *c = k->context;
    int64_t filters = layer->gain->shape[0];
    mde_tensor *gain = layer->film ? NULL : layer->gain, *shift = layer->film ? NULL : layer->shift, *m;
    if (k->net == DAGAN__CRITIC) {
        return dagan_scale_channels(c, dagan_image_normalize(c, x, DAGAN__IMAGE_EPSILON), gain, shift);
    }
    if (k->g->desc.norm == DAGAN_INSTANCE_NORM) {
        x = dagan_instance_normalize(c, x, DAGAN__IMAGE_EPSILON);
        if (gain) x = dagan_scale_channels(c, x, gain, shift);
    } else {
        dagan_batch_norm_desc d = dagan__layer_norm(layer, gain != NULL, DAGAN__MOMENTUM, DAGAN__BATCH_EPSILON,
                                                    k->training);
        d.renorm = k->g->desc.norm == DAGAN_BATCH_RENORM;
        x = dagan_batch_norm(c, x, &d);
    }
    if (!layer->film) return x;
    m = mde_matmul(c, k->z, layer->film);
    gain = mde_add(c, mde_slice(c, m, 1, 0, filters), layer->gain);
    shift = mde_add(c, mde_slice(c, m, 1, filters, filters), layer->shift);
    return dagan_modulate(c, x, gain, shift);
}

/* A 3x3 convolution with padding; unless it is raw, leaky ReLU and normalization follow, in the authors' order. */
static dagan__map dagan__conv(dagan__pass *k, dagan__map x, const char *name, int filters, int stride, int kind)
{
    dagan__layer *layer = dagan__take(k);
    dagan__map y;
    y.t = NULL;
    y.height = (x.height - 1) / stride + 1;
    y.width = (x.width - 1) / stride + 1;
    y.channels = filters;
    if (k->making) {
        dagan__conv_make(k, layer, name, x.channels, filters, kind);
        return y;
    }
    if (kind == DAGAN__RAW) {
        y.t = dagan_conv2d(k->context, x.t, layer->weight, stride, 1);
        y.t = dagan_scale_channels(k->context, y.t, NULL, layer->bias);
    } else {
        y.t = dagan_conv2d_leaky(k->context, x.t, layer->weight, layer->bias, stride, 1, DAGAN__SLOPE);
        y.t = dagan__norm_apply(k, layer, y.t);
    }
    return y;
}

/* x [n, in] -> [n, out]; variance: of a weight, times in. */
static mde_tensor *dagan__linear(dagan__pass *k, mde_tensor *x, const char *name, int64_t in, int64_t out,
                                 double variance)
{
    dagan__layer *layer = dagan__take(k);
    char full[96];
    if (!k->making) return dagan__layer_linear(k->context, layer, x);
    snprintf(full, sizeof full, "%s.%s", dagan__net_names[k->net], name);
    dagan__layer_make(k->g->params[k->net], full, 0, in, out, DAGAN__BIAS, sqrt(variance / (double)in), layer);
    return NULL;
}

static dagan__map dagan__joined(dagan__pass *k, dagan__map a, dagan__map b)
{
    if (!k->making) a.t = mde_concat(k->context, a.t, b.t, 3);
    a.channels += b.channels;
    return a;
}

static dagan__map dagan__upsampled(dagan__pass *k, dagan__map x, int64_t height, int64_t width)
{
    if (!k->making) x.t = dagan_upsample(k->context, x.t, height, width);
    x.height = height;
    x.width = width;
    return x;
}

static dagan__map dagan__dropped(dagan__pass *k, dagan__map x)
{
    double rate = k->g->desc.dropout;
    if (k->making || !k->training || rate <= 0) return x;
    x.t = mde_dropout(k->context, x.t, rate, k->g->desc.seed, k->stream + (uint64_t)k->next);
    return x;
}

/* ---- 6.4 Blocks ---- */

/* What a block has to offer to its next convolution: its input and the outputs of its convolutions. */
typedef struct dagan__block { dagan__map members[DAGAN__MAX_INNER + 1]; int count; } dagan__block;

/* Input of a convolution with so many filters: the newest member, joined with older ones. In the paper's form with all
   of them; otherwise as long as there are at most half as many channels again as filters, so that cost stays low. */
static dagan__map dagan__offer(dagan__pass *k, const dagan__block *block, int filters)
{
    int i = block->count - 1;
    dagan__map x = block->members[i];
    while (--i >= 0 && (k->full || 2 * (x.channels + block->members[i].channels) <= 3 * filters)) {
        x = dagan__joined(k, x, block->members[i]);
    }
    return x;
}

/* Inner convolutions. bypass: the last inner output of the block before, of another size; with the paper's form it
   reaches the first convolution of a shrinking block, each of a growing one, through a raw convolution. */
static void dagan__inner(dagan__pass *k, dagan__block *block, const char *name, const dagan__map *bypass, int layers,
                         int filters, int growing, int kind)
{
    char full[64];
    for (int i = 0; i < layers; i++) {
        dagan__map x = dagan__offer(k, block, filters);
        if (k->full && bypass && (growing || i == 0)) {
            dagan__map y = growing ? dagan__upsampled(k, *bypass, x.height, x.width) : *bypass;
            snprintf(full, sizeof full, "%s.bypass%d", name, i);
            x = dagan__joined(k, x, dagan__conv(k, y, full, y.channels, growing ? 1 : 2, DAGAN__RAW));
        }
        snprintf(full, sizeof full, "%s.conv%d", name, i);
        block->members[block->count++] = dagan__conv(k, x, full, filters, 1, kind);
    }
}

/* The encoder, also the critic's body: level l halves the size and leaves filters[l] channels in out[l]. */
static void dagan__encode(dagan__pass *k, dagan__map x, const char *prefix, int levels, const int *filters, int layers,
                          dagan__map *out)
{
    dagan__map bypass = x;
    char name[32], full[64];
    for (int l = 0; l < levels; l++) {
        dagan__block block;
        block.members[0] = l == 0 ? x : out[l - 1];
        block.count = 1;
        snprintf(name, sizeof name, "%s%d", prefix, l);
        if (l > 0) dagan__inner(k, &block, name, &bypass, layers, filters[l], 0, DAGAN__NORM);
        if (l > 0) bypass = block.members[block.count - 1];
        snprintf(full, sizeof full, "%s.down", name);
        out[l] = dagan__conv(k, dagan__offer(k, &block, filters[l]), full, filters[l], 2, DAGAN__NORM);
        out[l] = dagan__dropped(k, out[l]);
    }
}

/* z as `channels` further ones. */
static dagan__map dagan__noise_map(dagan__pass *k, const char *name, dagan__map like, int channels)
{
    int64_t width = like.height * like.width * channels, shape[4];
    like.channels = channels;
    like.t = dagan__linear(k, k->z, name, k->g->desc.noise, width, 1.0);
    if (!like.t) return like;
    shape[0] = like.t->shape[0];
    shape[1] = like.height;
    shape[2] = like.width;
    shape[3] = channels;
    like.t = mde_reshape(k->context, like.t, 4, shape);
    return like;
}

#define DAGAN__NOISE_BLOCKS 3           /* that z is joined to, with 8, 4 and 2 channels */

static mde_tensor *dagan__generator_pass(dagan__pass *k, mde_tensor *x)
{
    const dagan_desc *d = &k->g->desc;
    /* At full size a layer costs the most and has the least to do. */
    int levels = d->levels, finest = k->full ? d->generator[0] : (d->generator[0] + 1) / 2, b, i;
    int kind = d->z_concatenated ? DAGAN__NORM : DAGAN__FILM;
    dagan__map image, level[DAGAN_MAX_LEVELS], current, bypass;
    const dagan__map *skip;
    dagan__block block;
    char name[32], full[64];
    image.t = x;
    image.height = k->g->size.height;
    image.width = k->g->size.width;
    image.channels = k->g->size.channels;
    dagan__encode(k, image, "enc", levels, d->generator, d->generator_layers, level);
    current = bypass = level[levels - 1];
    for (b = 0; b <= levels; b++) {
        int l = levels - 1 - b, filters = l >= 0 ? d->generator[l] : finest;
        snprintf(name, sizeof name, "dec%d", b);
        if (d->z_concatenated && b < DAGAN__NOISE_BLOCKS) {
            snprintf(full, sizeof full, "%s.noise", name);
            current = dagan__joined(k, current, dagan__noise_map(k, full, current, 8 >> b));
        }
        block.members[0] = current;
        block.count = 1;
        dagan__inner(k, &block, name, b > 0 ? &bypass : NULL, d->generator_layers, filters, 1, kind);
        bypass = block.members[block.count - 1];
        if (l < 0) break;
        skip = l > 0 ? &level[l - 1] : &image;
        if (l == 0) filters = finest;
        current = dagan__upsampled(k, dagan__offer(k, &block, filters), skip->height, skip->width);
        snprintf(full, sizeof full, "%s.up", name);
        current = dagan__dropped(k, dagan__conv(k, current, full, filters, 1, kind));
        if (l > 0 || !d->no_input_skip) current = dagan__joined(k, current, *skip);
    }
    current = bypass;
    for (i = 0; k->full && i < 2; i++) {
        snprintf(full, sizeof full, "last%d", i);
        current = dagan__conv(k, current, full, finest, 1, DAGAN__NORM);
    }
    current = dagan__conv(k, current, "image", image.channels, 1, DAGAN__RAW);
    return k->making ? NULL : mde_tanh(k->context, current.t);
}

/* Body as the encoder's, then a linear score of the last maps and of a hidden layer over their means. */
static mde_tensor *dagan__critic_pass(dagan__pass *k, mde_tensor *candidate, mde_tensor *condition)
{
    const dagan_desc *d = &k->g->desc;
    mde_context *c = k->context;
    dagan__map pair, level[DAGAN_MAX_LEVELS], last;
    mde_tensor *hidden = NULL, *flat = NULL;
    int64_t pixels;
    int wide = 8 * d->critic[d->levels - 1];
    pair.t = k->making ? NULL : mde_concat(c, candidate, condition, 3);
    pair.height = k->g->size.height;
    pair.width = k->g->size.width;
    pair.channels = 2 * k->g->size.channels;
    dagan__encode(k, pair, "block", d->levels, d->critic, d->critic_layers, level);
    last = level[d->levels - 1];
    pixels = last.height * last.width * last.channels;
    hidden = dagan__linear(k, k->making ? NULL : dagan_global_pool(c, last.t), "hidden", last.channels, wide, 2.0);
    if (!k->making) {
        hidden = dagan_leaky_relu(c, hidden, DAGAN__SLOPE);
        flat = mde_concat(c, hidden, dagan__as_matrix(c, last.t, candidate->shape[0], pixels), 1);
    }
    flat = dagan__linear(k, flat, "score", wide + pixels, 1, 1.0);
    return k->making ? NULL : mde_reshape(c, flat, 1, candidate->shape);
}

/* ---- 6.5 Public functions ---- */

static const dagan_desc dagan__presets[3] = {
    { DAGAN_COMPACT, 32, 3, { 16, 32, 48, 48, 48, 48 }, { 16, 32, 48, 48, 48, 48 }, 1, 1, MDE_ZERO,
      DAGAN_BATCH_NORM, 0, 0, 0 },
    { DAGAN_QUICK, 16, 3, { 12, 16, 24, 24, 24, 24 }, { 12, 24, 32, 32, 32, 32 }, 1, 1, MDE_ZERO,
      DAGAN_BATCH_NORM, 0, 0, 0 },
    { DAGAN_PAPER, 100, 4, { 64, 64, 128, 128, 128, 128 }, { 64, 64, 128, 128, 128, 128 }, 3, 5, 0.5,
      DAGAN_BATCH_RENORM, 1, 0, 0 }
};

static int dagan__maximum_levels(int height, int width)
{
    int levels = 0;
    while (levels < DAGAN_MAX_LEVELS && height > 1 && width > 1) {
        height = (height + 1) / 2;
        width = (width + 1) / 2;
        levels++;
    }
    return levels;
}

/* Fills in the preset's numbers and checks all. */
static int dagan__desc_resolve(mde_context *c, dagan_desc *d, int height, int width)
{
    int maximum = dagan__maximum_levels(height, width), l;
    const dagan_desc *preset;
    if ((int)d->preset < 0 || (int)d->preset > 2 || (int)d->norm < 0 || (int)d->norm > 2) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: preset %d, norm %d; expected values of dagan_preset and "
                         "dagan_norm", (int)d->preset, (int)d->norm);
    }
    preset = &dagan__presets[d->preset];
    if (d->noise == 0) d->noise = preset->noise;
    if (d->levels == 0) d->levels = preset->levels < maximum ? preset->levels : maximum;
    if (d->generator_layers == 0) d->generator_layers = preset->generator_layers;
    if (d->critic_layers == 0) d->critic_layers = preset->critic_layers;
    if (d->dropout == 0) d->dropout = preset->dropout;
    if (d->norm == 0) d->norm = preset->norm;
    if (d->z_concatenated == 0) d->z_concatenated = preset->z_concatenated;
    if (d->levels < 1 || d->levels > maximum) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: %d levels; images of %d x %d can be halved %d times, at most %d "
                         "are possible", d->levels, height, width, maximum, DAGAN_MAX_LEVELS);
    }
    for (l = 0; l < d->levels; l++) {
        if (d->generator[l] == 0) d->generator[l] = preset->generator[l];
        if (d->critic[l] == 0) d->critic[l] = preset->critic[l];
        if (d->generator[l] < 1 || d->generator[l] > DAGAN__MAX_FILTERS || d->critic[l] < 1 ||
            d->critic[l] > DAGAN__MAX_FILTERS) {
            return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: %d and %d filters at level %d; expected 1 to %d",
                             d->generator[l], d->critic[l], l, DAGAN__MAX_FILTERS);
        }
    }
    if (d->noise < 1 || d->noise > DAGAN__MAX_NOISE) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: noise of %d dimensions; expected 1 to %d", d->noise,
                         DAGAN__MAX_NOISE);
    }
    if (d->generator_layers < 1 || d->generator_layers > DAGAN__MAX_INNER || d->critic_layers < 1 ||
        d->critic_layers > DAGAN__MAX_INNER) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: %d and %d inner convolutions a block; expected 1 to %d",
                         d->generator_layers, d->critic_layers, DAGAN__MAX_INNER);
    }
    if (d->dropout != MDE_ZERO && !(d->dropout >= 0 && d->dropout < 1)) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "dagan: dropout %g; expected 0 or more and less than 1", d->dropout);
    }
    return 1;
}

static dagan *dagan__create_for(mde_context *c, dagan__size size, const dagan_desc *desc)
{
    dagan_desc d;
    dagan *g;
    if (mde_context_status(c) != MDE_OK) return NULL;
    if (desc) d = *desc;
    else memset(&d, 0, sizeof d);
    if (!dagan__desc_resolve(c, &d, size.height, size.width)) return NULL;
    g = (dagan *)mde_alloc(c, 1, sizeof *g);
    if (!g) return NULL;
    g->context = c;
    g->size = size;
    g->desc = d;
    for (int net = 0; net < 2; net++) {
        /* At most a bypass for each inner convolution, the scaling one and z of each block, and the last layers. */
        size_t maximum = (size_t)(2 * d.levels + 1) *
                          (size_t)(2 * (net ? d.critic_layers : d.generator_layers) + 2) + 3;
        g->params[net] = mde_params_create(c, d.seed);
        g->layers[net] = (dagan__layer *)mde_alloc(c, maximum, sizeof *g->layers[net]);
        if (g->params[net] && g->layers[net]) {
            dagan__pass pass = dagan__pass_start(g, net, 1);
            if (net == DAGAN__GENERATOR) dagan__generator_pass(&pass, NULL);
            else dagan__critic_pass(&pass, NULL, NULL);
        }
    }
    if (mde_context_status(c) == MDE_OK) return g;
    dagan_free(g);
    return NULL;
}

MDEDEF dagan *dagan_create(mde_context *c, const dagan_images *like, const dagan_desc *desc)
{
    if (mde_context_status(c) != MDE_OK) return NULL;
    if (like) return dagan__create_for(c, dagan__size_of(like), desc);
    mde_fail(c, MDE_BAD_ARGUMENT, "dagan: no set of images whose size the networks should take");
    return NULL;
}

MDEDEF void dagan_free(dagan *g)
{
    if (!g) return;
    for (int net = 0; net < 2; net++) {
        mde_params_free(g->params[net]);
        mde_release(g->context, g->layers[net]);
    }
    mde_release(g->context, g);
}

MDEDEF const dagan_desc *dagan_describe(const dagan *g)
{
    return g ? &g->desc : NULL;
}

static void dagan__tell(dagan__size size, mde_context *from, mde_context **c, int *height, int *width, int *channels)
{
    if (c) *c = from;
    if (height) *height = size.height;
    if (width) *width = size.width;
    if (channels) *channels = size.channels;
}

MDEDEF void dagan_shape(const dagan *g, mde_context **c, int *height, int *width, int *channels)
{
    dagan__tell(g ? g->size : dagan__size_from(0, 0, 0), g ? g->context : NULL, c, height, width, channels);
}

MDEDEF mde_params *dagan_generator_params(const dagan *g)
{
    return g ? g->params[DAGAN__GENERATOR] : NULL;
}

MDEDEF mde_params *dagan_critic_params(const dagan *g)
{
    return g ? g->params[DAGAN__CRITIC] : NULL;
}

/* A batch of images of the right size; n < 0: of any number. */
static int dagan__check_batch(mde_context *c, dagan__size size, const char *what, const mde_tensor *x, int64_t n)
{
    int fits = x && x->rank == 4 && (n < 0 || x->shape[0] == n) && x->shape[1] == size.height &&
               x->shape[2] == size.width && x->shape[3] == size.channels;
    return fits || !mde_fail(c, MDE_BAD_SHAPE, "dagan: %s is no batch of %s images of %d x %d x %d", what,
                             n < 0 ? "any number of" : "as many", size.height, size.width, size.channels);
}

MDEDEF mde_tensor *dagan_generator_apply(dagan *g, mde_tensor *x, mde_tensor *z, int training, uint64_t stream)
{
    dagan__pass pass;
    if (!g || mde_context_status(g->context) != MDE_OK) return NULL;
    if (!dagan__check_batch(g->context, g->size, "x", x, -1)) return NULL;
    if (!z || z->rank != 2 || z->shape[0] != x->shape[0] || z->shape[1] != g->desc.noise) {
        mde_fail(g->context, MDE_BAD_SHAPE, "dagan: z is not [%lld, %d], a row for each image", (long long)x->shape[0],
                 g->desc.noise);
        return NULL;
    }
    pass = dagan__pass_start(g, DAGAN__GENERATOR, 0);
    pass.z = z;
    pass.training = training;
    pass.stream = stream << 16;
    return dagan__generator_pass(&pass, x);
}

/* With dropout, if the descriptor asks for it: its masks are those of `stream`. */
static mde_tensor *dagan__critic_scores(dagan *g, mde_tensor *candidate, mde_tensor *condition, int training,
                                        uint64_t stream)
{
    dagan__pass pass;
    if (!g || mde_context_status(g->context) != MDE_OK) return NULL;
    if (!dagan__check_batch(g->context, g->size, "the candidate", candidate, -1)) return NULL;
    if (!dagan__check_batch(g->context, g->size, "the condition", condition, candidate->shape[0])) return NULL;
    pass = dagan__pass_start(g, DAGAN__CRITIC, 0);
    pass.training = training;
    pass.stream = stream << 16 | 0x8000;
    return dagan__critic_pass(&pass, candidate, condition);
}

MDEDEF mde_tensor *dagan_critic_apply(dagan *g, mde_tensor *candidate, mde_tensor *condition)
{
    return dagan__critic_scores(g, candidate, condition, 0, 0);
}

/* ======================================================================
   7. TRAINING AND SAMPLING
   ====================================================================== */

/* WGAN-GP (Gulrajani et al. 2017) on pairs of a class. Every random choice of a step comes from the seed and the
   step's number, so that what a run depends on is its settings, its step and its parameters with their moments; that is
   what a checkpoint holds. */

#define DAGAN__SAMPLE_BATCH 64          /* images made at a time */
#define DAGAN__NORM_EPSILON 1e-12       /* under the root of the gradient's norm, whose derivative at 0 is infinite */
#define DAGAN__RATIO_EPSILON 1e-5       /* of the mode-seeking term, as in Mao et al. 2019 */
#define DAGAN__MAX_BATCH 4096
#define DAGAN__MAX_FACTS 16             /* that a caller may have compared and kept with a checkpoint */

/* Streams of random numbers: what they are for, and which step or image. */
enum { DAGAN__OF_CRITIC_PAIRS = 1, DAGAN__OF_CRITIC_NOISE, DAGAN__OF_MIXING, DAGAN__OF_GENERATOR_PAIRS,
       DAGAN__OF_GENERATOR_NOISE, DAGAN__OF_SAMPLES, DAGAN__OF_GRID };

static mde_random dagan__random(uint64_t seed, int what, int64_t index)
{
    return mde_random_start(seed, (uint64_t)what << 56 | (uint64_t)index);
}

static void dagan__normals(mde_random r, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) out[i] = (float)mde_random_normal(&r);
}

static double dagan__or_default(double value, double absent)
{
    return value == 0 ? absent : value == MDE_ZERO ? 0 : value;
}

/* What is reported while a network learns or is tested. */
typedef struct dagan__meter {
    const char *stage;
    mde_progress_fn *progress;
    void *user;
    int64_t steps, began_step;
    double images;                      /* a step; 0: no rate is shown */
    double began, told;                 /* seconds */
    int64_t told_step;
    double loss;                        /* sum since the last report */
    int64_t losses;
} dagan__meter;

static dagan__meter dagan__meter_start(const char *stage, mde_progress_fn *progress, void *user, int64_t steps,
                                       double images)
{
    dagan__meter m;
    memset(&m, 0, sizeof m);
    m.stage = stage;
    m.progress = progress;
    m.user = user;
    m.steps = steps;
    m.images = images;
    m.began = mde_seconds();
    return m;
}

/* After the first step, then about twice a second, and at the end; figures: further ones in words, or NULL. Not 0:
   stop. */
static int dagan__meter_step(dagan__meter *m, int64_t step, double loss, const char *figures)
{
    double seconds, done = (double)(step - m->began_step), now;
    mde_progress p;
    if (!m->progress) return 0;
    now = mde_seconds();
    m->loss += loss;
    m->losses++;
    if (m->told > 0 && now >= m->told && now - m->told < 0.5 && step < m->steps) return 0;
    seconds = now - m->began;
    memset(&p, 0, sizeof p);
    p.stage = m->stage;
    p.step = step;
    p.steps = m->steps;
    p.loss = m->loss / (double)m->losses;
    p.rate = seconds > 0 ? done * m->images / seconds : 0;
    p.seconds_left = done > 0 ? seconds / done * (double)(m->steps - step) : 0;
    p.reported = m->told_step;
    p.unit = "images";
    p.figures = figures;
    m->told = now;
    m->told_step = step;
    m->loss = 0;
    m->losses = 0;
    return m->progress(&p, m->user);
}

/* ---- 7.1 Steps ---- */

/* Learning rates of the presets: the authors' is for a hundred thousand steps, ours for some thousand and hundred. */
static const double dagan__rates[3] = { 5e-4, 1e-3, 1e-4 };

/* Fills in what is 0 and checks all. */
static int dagan__train_resolve(const dagan *g, dagan_train_desc *d)
{
    mde_context *c = g->context;
    if (d->steps == 0) d->steps = 5000;
    if (d->batch == 0) d->batch = 32;
    if (d->critic_steps == 0) d->critic_steps = 5;
    if (d->penalty == 0) d->penalty = 10;
    if (d->learning_rate == 0) d->learning_rate = dagan__rates[g->desc.preset];
    if (d->mismatch == 0) d->mismatch = g->desc.preset == DAGAN_PAPER ? MDE_ZERO : 0.5;
    if (d->beta1 == 0) d->beta1 = MDE_ZERO;
    if (d->beta2 == 0) d->beta2 = 0.9;
    if (d->checkpoint_steps == 0) d->checkpoint_steps = (d->steps + 19) / 20;
    if (d->steps < 1 || d->steps > (int64_t)1 << 40 || d->batch < 1 || d->batch > DAGAN__MAX_BATCH ||
        d->critic_steps < 1 || d->critic_steps > 1000) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: %lld steps of %d pairs with %d critic steps each; expected 1 or more, at "
                 "most %d pairs and 1000 critic steps", (long long)d->steps, d->batch, d->critic_steps,
                 DAGAN__MAX_BATCH);
    } else if (!(d->learning_rate > 0 && d->learning_rate < 1)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: learning_rate %g; expected more than 0 and less than 1",
                 d->learning_rate);
    } else if ((d->beta1 != MDE_ZERO && !(d->beta1 > 0 && d->beta1 < 1)) ||
               (d->beta2 != MDE_ZERO && !(d->beta2 > 0 && d->beta2 < 1))) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: beta1 %g, beta2 %g; expected values in (0, 1), or MDE_ZERO", d->beta1,
                 d->beta2);
    } else if ((d->penalty != MDE_ZERO && !(d->penalty > 0 && d->penalty < 1e9)) ||
               !(d->diversity >= 0 && d->diversity < 1e9)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: penalty %g, diversity %g; expected finite weights of 0 or more",
                 d->penalty, d->diversity);
    } else if (d->mismatch != MDE_ZERO && !(d->mismatch > 0 && d->mismatch <= 0.9)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: mismatch %g; expected at most 0.9, or MDE_ZERO", d->mismatch);
    } else if (d->quarter_turns < 0 || d->quarter_turns > 2 || !(d->average >= 0 && d->average < 1) ||
               !(d->anneal >= 0 && d->anneal <= 1)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: quarter_turns %d, average %g, anneal %g; expected 0 to 2, 0 or more and "
                 "less than 1, 0 to 1", d->quarter_turns, d->average, d->anneal);
    } else if (d->pairs < 0 || d->pairs > DAGAN__MAX_FACTS || (d->pairs && !d->metadata)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: %d pairs of metadata; expected 0 to %d", d->pairs, DAGAN__MAX_FACTS);
    } else if (d->checkpoint_steps < 1) {
        mde_fail(c, MDE_BAD_ARGUMENT, "train: a checkpoint each %lld steps; expected 1 or more",
                 (long long)d->checkpoint_steps);
    }
    return mde_context_status(c) == MDE_OK;
}

static mde_tensor *dagan__noise_new(const dagan *g, int64_t n, mde_random r)
{
    mde_tensor *z = dagan__matrix(g->context, n, g->desc.noise);
    if (z) dagan__normals(r, z->count, z->data);
    return z;
}

/* A number for each image: sum of x over all but the first dimension, [n]. */
static mde_tensor *dagan__image_sum(mde_context *c, mde_tensor *x)
{
    int64_t n = x ? x->shape[0] : 0;
    if (!x) return NULL;
    return mde_reshape(c, mde_sum_axis(c, dagan__as_matrix(c, x, n, (int64_t)x->count / n), 1), 1, &n);
}

/* Takes parameters off the tape; the result, in the arena, holds what they were, for the way back. */
static unsigned char *dagan__freeze(mde_context *c, mde_params *p)
{
    int i, count = mde_params_count(p);
    unsigned char *were = (unsigned char *)mde_scratch(c, (size_t)count + 1, 1);
    for (i = 0; were && i < count; i++) {
        were[i] = mde_params_tensor(p, i)->requires_grad != 0;
        mde_params_tensor(p, i)->requires_grad = 0;
    }
    return were;
}

static void dagan__unfreeze(mde_params *p, const unsigned char *were)
{
    for (int i = 0; were && i < mde_params_count(p); i++) mde_params_tensor(p, i)->requires_grad = were[i];
}

/* Adam's step; an error says whose and which. */
static void dagan__adam(mde_context *c, mde_params *params, const mde_adamw_desc *adam, const char *what,
                        const char *of_whom, int64_t step)
{
    if (mde_context_status(c) != MDE_OK) return;
    mde_adamw_step(params, adam);
    if (mde_context_status(c) != MDE_NOT_FINITE) return;
    mde_clear_error(c);
    mde_fail(c, MDE_NOT_FINITE, "%s: the gradient of the %s is not finite in its step %lld; a smaller learning_rate "
             "may help", what, of_whom, (long long)step);
}

static void dagan__optimize(dagan *g, int net, const dagan_train_desc *d, int64_t step)
{
    mde_adamw_desc adam;
    memset(&adam, 0, sizeof adam);
    adam.learning_rate = d->learning_rate;
    adam.beta1 = d->beta1;
    adam.beta2 = d->beta2;
    dagan__adam(g->context, g->params[net], &adam, "train", dagan__net_names[net], step);
}

/* t with its images moved by one, so that each meets that of another pair: mismatched, if not by chance. */
static mde_tensor *dagan__moved_on(mde_context *c, mde_tensor *t)
{
    int64_t rest = t->shape[0] - 1;
    if (rest == 0) return t;
    return mde_concat(c, mde_slice(c, t, 0, 1, rest), mde_slice(c, t, 0, 0, 1), 0);
}

/* What is to be minimised by the critic, with the parts of it in *out; the images are constants. */
static mde_tensor *dagan__critic_loss(dagan *g, mde_tensor *x, mde_tensor *partner, mde_tensor *made,
                                      const dagan_train_desc *d, int64_t step, dagan_step *out)
{
    mde_context *c = g->context;
    mde_random r = dagan__random(d->seed, DAGAN__OF_MIXING, step);
    int64_t n = x->shape[0], i, k, size;
    mde_tensor *between = dagan__batch(g->context, g->size, n, NULL), *both = mde_concat(c, partner, made, 0);
    mde_tensor *conditions = mde_concat(c, x, x, 0), *mismatched = NULL;
    mde_tensor *weights, *scores, *slope, *norm, *excess, *penalty, *loss;
    double sum = 0, real = 0, of_made = 0, mismatch = dagan__or_default(d->mismatch, 0);
    if (!between || !both || !conditions) return NULL;
    if (mismatch > 0) {
        mismatched = dagan__moved_on(c, partner);
        if (!mismatched) return NULL;
        both = mde_concat(c, both, mismatched, 0);
        conditions = mde_concat(c, conditions, x, 0);
    }
    size = (int64_t)x->count / n;
    for (i = 0; i < n; i++) {
        float share = (float)mde_random_uniform(&r);
        int is_mismatched = mismatched && mde_random_uniform(&r) < mismatch;
        const float *from = partner->data + i * size, *to = (is_mismatched ? mismatched : made)->data + i * size;
        float *at = between->data + i * size;
        for (k = 0; k < size; k++) at[k] = from[k] + share * (to[k] - from[k]);
    }
    between->requires_grad = 1;
    /* Real and made pairs go through as one batch: no statistic crosses images. */
    scores = dagan__critic_scores(g, both, conditions, 1, (uint64_t)step << 1);
    weights = scores ? mde_tensor_create(c, 1, scores->shape) : NULL;
    for (i = 0; weights && i < scores->shape[0]; i++) {
        double weight = i < n ? -1 : i < 2 * n ? 1 - mismatch : mismatch;
        weights->data[i] = (float)(weight / (double)n);
        if (i < n) real += (double)scores->data[i];
        else if (i < 2 * n) of_made += (double)scores->data[i];
    }
    loss = mde_sum(c, mde_mul(c, scores, weights));
    scores = dagan__critic_scores(g, between, x, 1, (uint64_t)step << 1 | 1);
    mde_grad(c, scores, 1, &between, &slope, 1);
    norm = mde_sqrt(c, mde_affine(c, dagan__image_sum(c, mde_mul(c, slope, slope)), 1, DAGAN__NORM_EPSILON));
    excess = mde_affine(c, norm, 1, -1);
    penalty = mde_mean(c, mde_mul(c, excess, excess));
    if (mde_context_status(c) != MDE_OK) return NULL;
    for (i = 0; i < n; i++) sum += (double)norm->data[i];
    out->distance = (real - of_made) / (double)n;
    out->penalty = mde_item(penalty);
    out->gradient_norm = sum / (double)n;
    return mde_add(c, loss, mde_affine(c, penalty, dagan__or_default(d->penalty, 10), 0));
}

/* The made images are a constant for the critic, so the generator runs off the tape. */
static void dagan__critic_learn(dagan *g, mde_tensor *x, mde_tensor *partner, const dagan_train_desc *d, int64_t step,
                                dagan_step *out)
{
    mde_context *c = g->context;
    mde_tensor *z = dagan__noise_new(g, x->shape[0], dagan__random(d->seed, DAGAN__OF_CRITIC_NOISE, step));
    mde_tensor *made, *loss;
    mde_set_recording(c, 0);
    made = dagan_generator_apply(g, x, z, 1, (uint64_t)step << 1);
    mde_set_recording(c, 1);
    if (!made) return;
    mde_params_zero_grad(g->params[DAGAN__CRITIC]);
    loss = dagan__critic_loss(g, x, partner, made, d, step, out);
    mde_backward(c, loss);
    dagan__optimize(g, DAGAN__CRITIC, d, step);
}

/* weight / (|G(x, z1) - G(x, z2)| / |z1 - z2|), mean over the batch, both distances as means over elements. */
static mde_tensor *dagan__diversity(dagan *g, mde_tensor *made, const mde_tensor *z, double weight)
{
    mde_context *c = g->context;
    int64_t n = made->shape[0] / 2, i, k, noise = z->shape[1];
    mde_tensor *apart = mde_sub(c, mde_slice(c, made, 0, 0, n), mde_slice(c, made, 0, n, n)), *scale, *weights;
    apart = dagan__image_sum(c, mde_abs(c, apart));
    scale = apart ? mde_tensor_create(c, 1, apart->shape) : NULL;
    weights = scale ? mde_tensor_create(c, 1, scale->shape) : NULL;
    if (!weights) return NULL;
    for (i = 0; i < n; i++) {
        double sum = 0;
        for (k = 0; k < noise; k++) sum += fabs((double)z->data[i * noise + k] - (double)z->data[(i + n) * noise + k]);
        scale->data[i] = (float)((double)noise / (sum * (double)(made->count / (size_t)(2 * n))));
        weights->data[i] = (float)(weight / (double)n);
    }
    apart = mde_affine(c, mde_mul(c, apart, scale), 1, DAGAN__RATIO_EPSILON);
    return mde_sum(c, mde_div(c, weights, apart));
}

static mde_tensor *dagan__generator_loss(dagan *g, mde_tensor *x, mde_tensor *partner, const dagan_train_desc *d,
                                         int64_t step, dagan_step *out)
{
    mde_context *c = g->context;
    int64_t n = x->shape[0];
    mde_tensor *z, *made, *loss;
    if (d->diversity > 0) {             /* each image twice, with a z for each */
        x = mde_concat(c, x, x, 0);
        partner = mde_concat(c, partner, partner, 0);
        n *= 2;
    }
    z = dagan__noise_new(g, n, dagan__random(d->seed, DAGAN__OF_GENERATOR_NOISE, step));
    if (!x || !partner || !z) return NULL;
    made = dagan_generator_apply(g, x, z, 1, (uint64_t)step << 1 | 1);
    loss = mde_affine(c, mde_mean(c, dagan__critic_scores(g, made, x, 1, UINT64_C(1) << 40 | (uint64_t)step)), -1, 0);
    out->generator_loss = mde_item(loss);
    if (made && d->diversity > 0) loss = mde_add(c, loss, dagan__diversity(g, made, z, d->diversity));
    if (made && d->term) loss = mde_add(c, loss, d->term(g, partner, made, d->user));
    return loss;
}

static void dagan__generator_learn(dagan *g, mde_tensor *x, mde_tensor *partner, const dagan_train_desc *d,
                                   int64_t step, dagan_step *out)
{
    unsigned char *were = dagan__freeze(g->context, g->params[DAGAN__CRITIC]);
    mde_set_recording(g->context, 1);
    mde_params_zero_grad(g->params[DAGAN__GENERATOR]);
    mde_backward(g->context, dagan__generator_loss(g, x, partner, d, step, out));
    dagan__unfreeze(g->params[DAGAN__CRITIC], were);
    dagan__optimize(g, DAGAN__GENERATOR, d, step);
}

static const dagan_step dagan__no_step = { (double)NAN, (double)NAN, (double)NAN, (double)NAN };

/* Both public steps: x, and for the critic its partner. */
static mde_status dagan__public_step(dagan *g, int net, mde_tensor *x, mde_tensor *partner,
                                     const dagan_train_desc *desc, int64_t step, dagan_step *out)
{
    dagan_train_desc d;
    dagan_step result = dagan__no_step;
    mde_context *c;
    mde_mark mark;
    int recording;
    if (out) *out = result;
    if (!g) return MDE_BAD_ARGUMENT;
    c = g->context;
    if (mde_context_status(c) != MDE_OK) return mde_context_status(c);
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (step < 0) return mde_fail(c, MDE_BAD_ARGUMENT, "train: step %lld; expected 0 or more", (long long)step);
    if (!dagan__train_resolve(g, &d) || !dagan__check_batch(c, g->size, "x", x, -1)) return mde_context_status(c);
    if (net == DAGAN__CRITIC && !dagan__check_batch(c, g->size, "the partner", partner, x->shape[0])) {
        return mde_context_status(c);
    }
    mark = mde_arena_mark(c);
    recording = mde_set_recording(c, 1);
    x = mde_detach(c, x);
    if (net == DAGAN__CRITIC) partner = mde_detach(c, partner);
    if (mde_context_status(c) == MDE_OK && net == DAGAN__CRITIC) dagan__critic_learn(g, x, partner, &d, step, &result);
    else if (mde_context_status(c) == MDE_OK) dagan__generator_learn(g, x, x, &d, step, &result);
    mde_set_recording(c, recording);
    mde_arena_rewind(c, mark);
    if (out) *out = result;
    return mde_context_status(c);
}

MDEDEF mde_status dagan_critic_step(dagan *g, mde_tensor *x, mde_tensor *partner, const dagan_train_desc *desc,
                                    int64_t step, dagan_step *out)
{
    return dagan__public_step(g, DAGAN__CRITIC, x, partner, desc, step, out);
}

MDEDEF mde_status dagan_generator_step(dagan *g, mde_tensor *x, const dagan_train_desc *desc, int64_t step,
                                       dagan_step *out)
{
    return dagan__public_step(g, DAGAN__GENERATOR, x, NULL, desc, step, out);
}

/* ---- 7.2 Pairs ---- */

typedef struct dagan__training {
    dagan *g;
    const dagan_images *set;
    dagan_train_desc desc;
    int *classes, eligible;             /* those with enough samples */
    int64_t step;                       /* generator steps done */
    mde_params *sets[3];                /* of a checkpoint: both networks, the generator's average if there is one */
    int set_count;
} dagan__training;

/* An image rotated by quarters of a circle; odd ones for squares only. */
static void dagan__rotate(int quarters, dagan__size size, const float *in, float *out)
{
    static const int orientations[4] = { 1, 8, 3, 6 };
    dagan__orient(orientations[quarters], size, in, out);
}

/* A class, then i and j of it, independently of all other pairs; fresh ones each step. */
static void dagan__draw_pairs(const dagan__training *run, int what, int64_t index, mde_tensor *x, mde_tensor *partner)
{
    const dagan *g = run->g;
    mde_random r = dagan__random(run->desc.seed, what, index);
    size_t size = x->count / (size_t)x->shape[0];
    for (int64_t n = 0; n < x->shape[0]; n++) {
        int class_index = run->classes[mde_random_below(&r, (uint64_t)run->eligible)];
        int samples = dagan_images_sample_count(run->set, class_index);
        int same = run->desc.same_allowed != 0, quarters = 0;
        int i = (int)mde_random_below(&r, (uint64_t)samples);
        int j = (int)mde_random_below(&r, (uint64_t)(samples - !same));
        if (!same && j >= i) j++;
        if (run->desc.quarter_turns == 2 || (run->desc.quarter_turns && mde_random_uniform(&r) < 0.5)) {
            quarters = (int)mde_random_below(&r, 4);
            if (g->size.height != g->size.width) quarters = quarters / 2 * 2;
        }
        dagan__rotate(quarters, g->size, dagan_images_pixels(run->set, class_index, i), x->data + (size_t)n * size);
        dagan__rotate(quarters, g->size, dagan_images_pixels(run->set, class_index, j),
                      partner->data + (size_t)n * size);
    }
}

/* ---- 7.3 Sampling ---- */

/* Average of all weights and running statistics of the generator, as one list. */
static mde_params *dagan__average_create(const dagan *g)
{
    mde_params *p = mde_params_create(g->context, 0);
    int64_t count = (int64_t)mde_params_elements(g->params[DAGAN__GENERATOR]);
    if (p) mde_param(p, "generator.average", 1, &count, MDE_INIT_ZEROS, 0);
    return p;
}

enum { DAGAN__AVERAGE_MOVE, DAGAN__AVERAGE_TAKE, DAGAN__AVERAGE_SWAP };

/* Moves the average towards the generator by `share`, or takes it for the generator, or swaps the two. */
static void dagan__average_do(const dagan *g, mde_params *average, int what, double share)
{
    const mde_params *p = g->params[DAGAN__GENERATOR];
    float *mean = average && mde_params_count(average) ? mde_params_tensor(average, 0)->data : NULL;
    for (int i = 0; mean && i < mde_params_count(p); i++) {
        mde_tensor *t = mde_params_tensor(p, i);
        for (size_t k = 0; k < t->count; k++, mean++) {
            float weight = t->data[k];
            if (what != DAGAN__AVERAGE_MOVE) t->data[k] = *mean;
            if (what == DAGAN__AVERAGE_MOVE) *mean += (float)share * (weight - *mean);
            else if (what == DAGAN__AVERAGE_SWAP) *mean = weight;
        }
    }
}

/* n images from the list x; z NULL: that of image number `first` and the next ones is drawn. */
static mde_status dagan__generate_list(dagan *g, int64_t n, const float *const *x, const float *z, uint64_t seed,
                                       int64_t first, float *out)
{
    mde_context *c = g->context;
    int recording = mde_set_recording(c, 0);
    size_t noise = (size_t)g->desc.noise;
    for (int64_t at = 0; at < n && mde_context_status(c) == MDE_OK; at += DAGAN__SAMPLE_BATCH) {
        mde_mark mark = mde_arena_mark(c);
        int64_t count = dagan__minimum(n - at, DAGAN__SAMPLE_BATCH);
        mde_tensor *images = dagan__batch(c, g->size, count, x + at), *codes = dagan__matrix(c, count, g->desc.noise);
        mde_tensor *made;
        for (int64_t i = 0; codes && i < count; i++) {
            float *code = codes->data + (size_t)i * noise;
            if (z) memcpy(code, z + (size_t)(at + i) * noise, noise * sizeof *z);
            else dagan__normals(dagan__random(seed, DAGAN__OF_SAMPLES, first + at + i), noise, code);
        }
        made = dagan_generator_apply(g, images, codes, 0, 0);
        if (made) memcpy(out + (size_t)at * dagan__size_floats(g->size), made->data, made->count * sizeof *out);
        mde_arena_rewind(c, mark);
    }
    mde_set_recording(c, recording);
    return mde_context_status(c);
}

MDEDEF mde_status dagan_generate(dagan *g, int64_t n, const float *x, const float *z, uint64_t seed, float *out)
{
    const float **list;
    mde_mark mark;
    if (!g) return MDE_BAD_ARGUMENT;
    if (mde_context_status(g->context) != MDE_OK) return mde_context_status(g->context);
    if (n < 0 || !x || !out) {
        return mde_fail(g->context, MDE_BAD_ARGUMENT, "generate: %lld images%s%s", (long long)n,
                        x ? "" : ", none to start from", out ? "" : ", no place for them");
    }
    mark = mde_arena_mark(g->context);
    list = dagan__listed(g->context, n, x, dagan__size_floats(g->size));
    if (list) dagan__generate_list(g, n, list, z, seed, 0, out);
    mde_arena_rewind(g->context, mark);
    return mde_context_status(g->context);
}

static int dagan__check_set(const dagan *g, const char *what, const dagan_images *set)
{
    return dagan__check_images(g->context, what, set, g->size, "the networks take");
}

MDEDEF dagan_images *dagan_make(dagan *g, const dagan_images *set, int each, uint64_t seed)
{
    mde_context *c;
    dagan_images *made = NULL;
    dagan__list from;
    float *pixels;
    size_t size;
    mde_mark mark;
    if (!g || mde_context_status(g->context) != MDE_OK || !dagan__check_set(g, "make", set)) return NULL;
    c = g->context;
    size = dagan__size_floats(g->size);
    if (each < 1 || dagan_images_count(set) > INT64_MAX / each / (int64_t)sizeof *pixels / (int64_t)size) {
        mde_fail(c, MDE_BAD_ARGUMENT, "make: %d images for each of %lld; expected 1 or more, as many as fit into "
                 "memory", each, (long long)dagan_images_count(set));
        return NULL;
    }
    mark = mde_arena_mark(c);
    dagan__list_open(c, set, each, &from);
    pixels = (float *)mde_alloc(c, (size_t)from.count, size * sizeof *pixels);
    if (mde_context_status(c) == MDE_OK) {
        dagan__generate_list(g, from.count, from.images, NULL, seed, 0, pixels);
        made = dagan_images_from(c, from.count, g->size.height, g->size.width, g->size.channels, pixels, from.labels);
    }
    mde_release(c, pixels);
    mde_arena_rewind(c, mark);
    return made;
}

#ifndef MDE_NO_STDIO

/* The point at `share` of the way from a to b. The straight line between two normal random z is shorter in the middle
   than any z the generator has seen, so it is stretched: lengths go evenly from a's to b's. */
static void dagan__along(int n, const float *a, const float *b, double share, float *out)
{
    double aa = 0, bb = 0, oo = 0, length;
    for (int i = 0; i < n; i++) {
        double here = (1 - share) * (double)a[i] + share * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        oo += here * here;
        out[i] = (float)here;
    }
    if (oo == 0) return;
    length = ((1 - share) * sqrt(aa) + share * sqrt(bb)) / sqrt(oo);
    for (int i = 0; i < n; i++) out[i] = (float)(length * (double)out[i]);
}

MDEDEF mde_status dagan_write_grid(dagan *g, const dagan_images *set, const dagan_grid_desc *desc, const char *path)
{
    enum { ROWS = 8, COLUMNS = 12, MAXIMUM = 4096 };
    int rows = desc && desc->rows ? desc->rows : ROWS, columns = desc && desc->columns ? desc->columns : COLUMNS;
    uint64_t seed = desc ? desc->seed : 0;
    mde_random r = dagan__random(seed, DAGAN__OF_GRID, 0);
    mde_context *c;
    mde_mark mark;
    int64_t *order;
    float *made, *z;
    const float **images;
    unsigned char *png;
    int ways = columns - 1, classes;
    size_t size, noise, bytes;
    if (!g) return MDE_BAD_ARGUMENT;
    c = g->context;
    if (mde_context_status(c) != MDE_OK || !dagan__check_set(g, "grid", set)) return mde_context_status(c);
    if (rows < 1 || rows > MAXIMUM || columns < 2 || columns > MAXIMUM || !path) {
        return mde_fail(c, MDE_BAD_ARGUMENT, "grid: %d rows of %d images%s; expected at least one row of a real and a "
                        "made image, at most %d", rows, columns, path ? "" : ", no path", MAXIMUM);
    }
    classes = dagan_images_class_count(set);
    noise = (size_t)g->desc.noise;
    size = dagan__size_floats(g->size);
    mark = mde_arena_mark(c);
    order = (int64_t *)mde_scratch(c, (size_t)classes, sizeof *order);
    made = (float *)mde_scratch(c, (size_t)rows * (size_t)ways, size * sizeof *made);
    z = (float *)mde_scratch(c, (size_t)ways, noise * sizeof *z);
    images = (const float **)mde_scratch(c, (size_t)rows * (size_t)columns, sizeof *images);
    if (mde_context_status(c) == MDE_OK) mde_random_permutation(&r, classes, order);
    for (int row = 0; row < rows && mde_context_status(c) == MDE_OK; row++, made += (size_t)ways * size) {
        int class_index = (int)order[row % classes];
        int sample = (int)mde_random_below(&r, (uint64_t)dagan_images_sample_count(set, class_index));
        const float **cells = images + (size_t)row * (size_t)columns;
        dagan__normals(dagan__random(seed, DAGAN__OF_GRID, 1 + row), (size_t)ways * noise, z);
        for (int k = 0; k < ways; k++) {
            cells[k] = dagan_images_pixels(set, class_index, sample);
            if (desc && desc->interpolate && k > 0 && k < ways - 1) {
                dagan__along((int)noise, z, z + (size_t)(ways - 1) * noise, (double)k / (double)(ways - 1),
                             z + (size_t)k * noise);
            }
        }
        dagan__generate_list(g, ways, cells, z, 0, 0, made);
        for (int k = 0; k < ways; k++) cells[1 + k] = made + (size_t)k * size;
    }
    png = dagan_grid_png(c, rows, columns, g->size.height, g->size.width, g->size.channels, images, 0, &bytes);
    if (png) mde_file_write(c, path, png, bytes);
    mde_release(c, png);
    mde_arena_rewind(c, mark);
    return mde_context_status(c);
}

/* ---- 7.4 Files ---- */

/* Names and values for the metadata of a file, in the order in which they are compared. */
#define DAGAN__MAX_PAIRS 48
typedef struct dagan__pairs {
    char names[DAGAN__MAX_PAIRS][40], values[DAGAN__MAX_PAIRS][40];
    const char *curve;                  /* a value too long for the table, of the pair of that number */
    int curve_at;
    const char *list[2 * (DAGAN__MAX_PAIRS + DAGAN__MAX_FACTS)];
    int count;
} dagan__pairs;

/* The kinds of a pair: a whole number, one with a fraction, a hash. */
static void dagan__pair(dagan__pairs *p, const char *name, long long value)
{
    snprintf(p->names[p->count], sizeof p->names[0], "dagan.%s", name);
    snprintf(p->values[p->count++], sizeof p->values[0], "%lld", value);
}

static void dagan__pair_real(mde_context *c, dagan__pairs *p, const char *name, double value)
{
    mde_text *t = mde_text_create(c);
    mde_text_add_number(t, value, 17);
    dagan__pair(p, name, 0);
    if (t && t->bytes) snprintf(p->values[p->count - 1], sizeof p->values[0], "%.39s", t->bytes);
    mde_text_free(t);
}

static void dagan__pair_hash(dagan__pairs *p, const char *name, uint64_t value)
{
    dagan__pair(p, name, 0);
    snprintf(p->values[p->count - 1], sizeof p->values[0], "%016llx", (unsigned long long)value);
}

/* Ends the table; pairs of the caller's may follow. */
static void dagan__pairs_list(dagan__pairs *p, int pairs, const char *const *metadata)
{
    for (int i = 0; i < p->count; i++) {
        p->list[2 * i] = p->names[i];
        p->list[2 * i + 1] = p->values[i];
    }
    if (p->curve) p->list[2 * p->curve_at + 1] = p->curve;
    for (int i = 0; i < 2 * pairs; i++) p->list[2 * p->count + i] = metadata[i];
    p->count += pairs;
}

/* Everything that the networks' form depends on. */
static void dagan__shape_pairs(const dagan *g, dagan__pairs *p)
{
    const dagan_desc *d = &g->desc;
    char name[32];
    memset(p, 0, sizeof *p);
    dagan__pair(p, "height", g->size.height);
    dagan__pair(p, "width", g->size.width);
    dagan__pair(p, "channels", g->size.channels);
    dagan__pair(p, "preset", (long long)d->preset);
    dagan__pair(p, "noise", d->noise);
    dagan__pair(p, "levels", d->levels);
    for (int l = 0; l < d->levels; l++) {
        snprintf(name, sizeof name, "generator%d", l);
        dagan__pair(p, name, d->generator[l]);
        snprintf(name, sizeof name, "critic%d", l);
        dagan__pair(p, name, d->critic[l]);
    }
    dagan__pair(p, "generator_layers", d->generator_layers);
    dagan__pair(p, "critic_layers", d->critic_layers);
    dagan__pair_real(g->context, p, "dropout", d->dropout);
    dagan__pair(p, "norm", (long long)d->norm);
    dagan__pair(p, "z_concatenated", d->z_concatenated != 0);
    dagan__pair(p, "no_input_skip", d->no_input_skip != 0);
    dagan__pair_hash(p, "seed", d->seed);
}

MDEDEF mde_status dagan_write(const dagan *g, const char *path)
{
    dagan__pairs pairs;
    if (!g) return MDE_BAD_ARGUMENT;
    if (mde_context_status(g->context) != MDE_OK) return mde_context_status(g->context);
    if (!path) return mde_fail(g->context, MDE_BAD_ARGUMENT, "write: no path");
    dagan__shape_pairs(g, &pairs);
    dagan__pairs_list(&pairs, 0, NULL);
    return mde_params_write_sets(2, g->params, path, pairs.count, pairs.list);
}

/* A whole number from the metadata. */
static long long dagan__file_integer(mde_context *c, const char *path, const mde_safetensors *file, const char *name,
                                     long long low, long long high)
{
    char full[48];
    const char *text;
    char *end = NULL;
    long long value;
    snprintf(full, sizeof full, "dagan.%s", name);
    text = mde_safetensors_metadata(file, full);
    value = text ? strtoll(text, &end, 10) : 0;
    if (text && end != text && *end == 0 && value >= low && value <= high) return value;
    if (text) {
        mde_fail(c, MDE_BAD_FILE, "%s: %s is \"%.40s\"; expected %lld to %lld", path, full, text, low, high);
    } else {
        mde_fail(c, MDE_BAD_FILE, "%s: holds no DAGAN: its metadata have no %s", path, full);
    }
    return low;
}

/* The number of filters that the file's tensors have, so that a false descriptor makes no large networks. */
static int dagan__file_filters(mde_context *c, const char *path, const mde_safetensors *file, int net, int l)
{
    char name[64];
    const mde_safetensor *t;
    long long filters;
    snprintf(name, sizeof name, "%s%d", dagan__net_names[net], l);
    filters = dagan__file_integer(c, path, file, name, 1, DAGAN__MAX_FILTERS);
    snprintf(name, sizeof name, "%s.%s%d.down.weight", dagan__net_names[net], net ? "block" : "enc", l);
    t = mde_safetensors_find(file, name);
    if (t && t->rank == 4 && t->shape[3] == filters) return (int)filters;
    mde_fail(c, MDE_BAD_FILE, "%s: tensor %s is missing or has not %lld filters", path, name, filters);
    return 1;
}

static dagan *dagan__open_shape(mde_context *c, const char *path, const mde_safetensors *file)
{
    dagan_desc d;
    dagan__size size;
    const char *dropout = mde_safetensors_metadata(file, "dagan.dropout");
    const char *seed = mde_safetensors_metadata(file, "dagan.seed");
    mde_json *number;
    memset(&d, 0, sizeof d);
    size.height = (int)dagan__file_integer(c, path, file, "height", 1, DAGAN__MAX_SIDE);
    size.width = (int)dagan__file_integer(c, path, file, "width", 1, DAGAN__MAX_SIDE);
    size.channels = (int)dagan__file_integer(c, path, file, "channels", 1, 3);
    d.preset = (dagan_preset)dagan__file_integer(c, path, file, "preset", 0, 2);
    d.noise = (int)dagan__file_integer(c, path, file, "noise", 1, DAGAN__MAX_NOISE);
    d.levels = (int)dagan__file_integer(c, path, file, "levels", 1, DAGAN_MAX_LEVELS);
    for (int l = 0; l < d.levels && mde_context_status(c) == MDE_OK; l++) {
        d.generator[l] = dagan__file_filters(c, path, file, DAGAN__GENERATOR, l);
        d.critic[l] = dagan__file_filters(c, path, file, DAGAN__CRITIC, l);
    }
    d.generator_layers = (int)dagan__file_integer(c, path, file, "generator_layers", 1, DAGAN__MAX_INNER);
    d.critic_layers = (int)dagan__file_integer(c, path, file, "critic_layers", 1, DAGAN__MAX_INNER);
    d.norm = (dagan_norm)dagan__file_integer(c, path, file, "norm", 0, 2);
    d.z_concatenated = (int)dagan__file_integer(c, path, file, "z_concatenated", 0, 1);
    d.no_input_skip = (int)dagan__file_integer(c, path, file, "no_input_skip", 0, 1);
    d.seed = seed ? strtoull(seed, NULL, 16) : 0;
    if (mde_context_status(c) != MDE_OK) return NULL;
    number = dropout ? mde_json_parse(c, path, dropout, strlen(dropout)) : NULL;
    d.dropout = number && number->kind == MDE_JSON_NUMBER ? number->number : MDE_ZERO;
    mde_json_free(c, number);
    return dagan__create_for(c, size, &d);
}

MDEDEF dagan *dagan_open(mde_context *c, const char *path)
{
    mde_safetensors *file;
    dagan *g;
    if (mde_context_status(c) != MDE_OK) return NULL;
    file = mde_safetensors_read(c, path);
    g = file ? dagan__open_shape(c, path, file) : NULL;
    if (g) mde_params_read(g->params[DAGAN__GENERATOR], path);
    if (g) mde_params_read(g->params[DAGAN__CRITIC], path);
    if (g && mde_safetensors_find(file, "generator.average")) {
        mde_params *average = dagan__average_create(g);
        if (average && mde_params_read(average, path) == MDE_OK) dagan__average_do(g, average, DAGAN__AVERAGE_TAKE, 0);
        mde_params_free(average);
    }
    mde_safetensors_free(c, file);
    if (mde_context_status(c) == MDE_OK) return g;
    dagan_free(g);
    return NULL;
}

#endif /* MDE_NO_STDIO */

/* ---- 7.5 Training ---- */

static int dagan__training_start(dagan__training *run, dagan *g, const dagan_images *set, const dagan_train_desc *desc)
{
    mde_context *c = g->context;
    int classes, minimum;
    memset(run, 0, sizeof *run);
    run->g = g;
    run->set = set;
    if (desc) run->desc = *desc;
    if (!dagan__check_set(g, "train", set) || !dagan__train_resolve(g, &run->desc)) return 0;
    if (run->desc.grid_set && !dagan__check_set(g, "grid", run->desc.grid_set)) return 0;
    classes = dagan_images_class_count(set);
    minimum = run->desc.same_allowed ? 1 : 2;
    run->classes = (int *)mde_alloc(c, (size_t)classes, sizeof *run->classes);
    if (!run->classes) return 0;
    for (int k = 0; k < classes; k++) {
        if (dagan_images_sample_count(set, k) >= minimum) run->classes[run->eligible++] = k;
    }
    if (run->eligible == 0) return !mde_fail(c, MDE_BAD_ARGUMENT, "train: none of the %d classes has %d images, which "
                                             "a pair needs", classes, minimum);
    run->sets[0] = g->params[DAGAN__GENERATOR];
    run->sets[1] = g->params[DAGAN__CRITIC];
    run->set_count = 2;
    if (run->desc.average > 0) {
        run->sets[run->set_count++] = dagan__average_create(g);
        dagan__average_do(g, run->sets[2], DAGAN__AVERAGE_MOVE, 1);
    }
    memset(g->sums, 0, sizeof g->sums);
    g->span_steps = 1;
    g->steps = 0;
    g->points = 0;
    return 1;
}

/* A curve of at most DAGAN__SPANS points that does not depend on how many steps are still to come. */
static void dagan__curve_add(dagan *g, const dagan_step *s)
{
    int64_t at = g->steps / g->span_steps;
    if (at == DAGAN__SPANS) {
        for (int i = 0; i < DAGAN__SPANS; i++) {
            for (int k = 0; k < 4; k++) {
                g->sums[i][k] = i < DAGAN__SPANS / 2 ? g->sums[2 * i][k] + g->sums[2 * i + 1][k] : 0;
            }
        }
        g->span_steps *= 2;
        at /= 2;
    }
    g->sums[at][0] += s->distance;
    g->sums[at][1] += s->penalty;
    g->sums[at][2] += s->gradient_norm;
    g->sums[at][3] += s->generator_loss;
    g->steps++;
}

static void dagan__curve_finish(dagan *g)
{
    int64_t start = 0;
    for (g->points = 0; start < g->steps; g->points++) {
        int64_t end = start + g->span_steps < g->steps ? start + g->span_steps : g->steps;
        const double *sums = g->sums[g->points];
        dagan_step *mean = &g->curve[g->points];
        double share = 1.0 / (double)(end - start);
        mean->distance = share * sums[0];
        mean->penalty = share * sums[1];
        mean->gradient_norm = share * sums[2];
        mean->generator_loss = share * sums[3];
        g->curve_steps[g->points] = end;
        start = end;
    }
}

#ifndef MDE_NO_STDIO

/* What must be the same for a run to be continued; only the number of steps may grow. */
static void dagan__training_pairs(const dagan__training *run, dagan__pairs *p)
{
    const dagan_train_desc *d = &run->desc;
    mde_context *c = run->g->context;
    dagan__shape_pairs(run->g, p);
    dagan__pair(p, "train.batch", d->batch);
    dagan__pair(p, "train.critic_steps", d->critic_steps);
    dagan__pair_real(c, p, "train.penalty", d->penalty);
    dagan__pair_real(c, p, "train.learning_rate", d->learning_rate);
    dagan__pair_real(c, p, "train.beta1", d->beta1);
    dagan__pair_real(c, p, "train.beta2", d->beta2);
    dagan__pair_real(c, p, "train.mismatch", d->mismatch);
    dagan__pair_real(c, p, "train.diversity", d->diversity);
    dagan__pair(p, "train.same_allowed", d->same_allowed != 0);
    dagan__pair(p, "train.quarter_turns", d->quarter_turns);
    dagan__pair_real(c, p, "train.average", d->average);
    dagan__pair_real(c, p, "train.anneal", d->anneal);
    dagan__pair(p, "train.anneal_steps", d->anneal > 0 ? d->steps : 0);
    dagan__pair_hash(p, "train.seed", d->seed);
    dagan__pair_hash(p, "train.images", dagan_images_hash(run->set));
}

static mde_status dagan__training_save(const dagan__training *run)
{
    const dagan *g = run->g;
    mde_text *state = mde_text_create(g->context);
    dagan__pairs pairs;
    if (!state) return mde_context_status(g->context);
    dagan__training_pairs(run, &pairs);
    mde_text_format(state, "%lld", (long long)g->span_steps);
    for (int i = 0; i < 4 * DAGAN__SPANS; i++) {
        unsigned long long bits;
        memcpy(&bits, &g->sums[i / 4][i % 4], sizeof bits);
        mde_text_format(state, " %llx", bits);
    }
    dagan__pair(&pairs, "step", run->step);
    pairs.curve_at = pairs.count;
    pairs.curve = state->bytes;
    dagan__pair(&pairs, "curve", 0);
    dagan__pairs_list(&pairs, run->desc.pairs, run->desc.metadata);
    if (mde_context_status(g->context) == MDE_OK) {
        mde_checkpoint_write_sets(run->set_count, run->sets, run->desc.checkpoint, pairs.count, pairs.list);
    }
    mde_text_free(state);
    return mde_context_status(g->context);
}

static int dagan__curve_parse(dagan *g, const char *text)
{
    char *end;
    if (!text) return 0;
    g->span_steps = strtoll(text, &end, 10);
    if (end == text || g->span_steps < 1 || g->steps > g->span_steps * DAGAN__SPANS) return 0;
    for (int i = 0; i < 4 * DAGAN__SPANS; i++) {
        unsigned long long bits;
        text = end;
        bits = strtoull(text, &end, 16);
        if (end == text) return 0;
        memcpy(&g->sums[i / 4][i % 4], &bits, sizeof bits);
    }
    return *end == 0;
}

/* Continues from the checkpoint if it is there and made with the same settings. */
static void dagan__training_continue(dagan__training *run)
{
    dagan *g = run->g;
    mde_context *c = g->context;
    const char *path = run->desc.checkpoint;
    mde_safetensors *file;
    dagan__pairs pairs;
    if (!mde_is_file(path)) return;
    file = mde_safetensors_read(c, path);
    if (!file) return;
    dagan__training_pairs(run, &pairs);
    dagan__pairs_list(&pairs, run->desc.pairs, run->desc.metadata);
    for (int i = 0; i < pairs.count && mde_context_status(c) == MDE_OK; i++) {
        const char *name = pairs.list[2 * i], *was = mde_safetensors_metadata(file, name);
        if (!was) {
            mde_fail(c, MDE_BAD_FILE, "%s: is no checkpoint of a training: it does not hold %s", path, name);
        } else if (strcmp(was, pairs.list[2 * i + 1]) != 0) {
            mde_fail(c, MDE_BAD_FILE, "%s: was made with %s %.80s, this run has %.80s", path,
                     name + (strncmp(name, "dagan.", 6) == 0 ? 6 : 0), was, pairs.list[2 * i + 1]);
        }
    }
    if (mde_context_status(c) == MDE_OK) {
        run->step = g->steps = dagan__file_integer(c, path, file, "step", 0, run->desc.steps);
    }
    if (mde_context_status(c) == MDE_OK && !dagan__curve_parse(g, mde_safetensors_metadata(file, "dagan.curve"))) {
        mde_fail(c, MDE_BAD_FILE, "%s: the curve in it is damaged", path);
    }
    if (mde_context_status(c) == MDE_OK) mde_checkpoint_load_sets(run->set_count, run->sets, path, file);
    mde_safetensors_free(c, file);
}

static void dagan__training_grid(const dagan__training *run)
{
    dagan_grid_desc grid;
    memset(&grid, 0, sizeof grid);
    grid.seed = run->desc.seed;
    dagan_write_grid(run->g, run->desc.grid_set ? run->desc.grid_set : run->set, &grid, run->desc.grid);
}

#endif /* MDE_NO_STDIO */

/* When it is time, grid, look and checkpoint: the checkpoint last, so that a step's grid is there if it is. */
static mde_status dagan__training_keep(const dagan__training *run, int *stopped)
{
    const dagan_train_desc *d = &run->desc;
    int due = run->step == d->steps || run->step % d->checkpoint_steps == 0;
    if (!due && !*stopped) return MDE_OK;
    dagan__average_do(run->g, run->sets[2], DAGAN__AVERAGE_SWAP, 0);
#ifndef MDE_NO_STDIO
    if (d->grid) dagan__training_grid(run);
#endif
    if (d->look && due && mde_context_status(run->g->context) == MDE_OK) {
        *stopped |= d->look(run->g, run->step, d->user) != 0;
    }
    dagan__average_do(run->g, run->sets[2], DAGAN__AVERAGE_SWAP, 0);
#ifndef MDE_NO_STDIO
    if (d->checkpoint) dagan__training_save(run);
#endif
    return mde_context_status(run->g->context);
}

/* One step of the generator with those of the critic before it. */
static mde_status dagan__training_step(dagan__training *run, dagan_step *out)
{
    dagan *g = run->g;
    dagan_train_desc d = run->desc;
    int64_t step = run->step;
    double left = (double)(d.steps - step), span = d.anneal * (double)d.steps, share = 9.0 / (double)(10 + step);
    *out = dagan__no_step;
    if (left < span) d.learning_rate *= left / span;
    for (int k = 0; k <= d.critic_steps && mde_context_status(g->context) == MDE_OK; k++) {
        int of_critic = k < d.critic_steps;
        int64_t index = of_critic ? step * d.critic_steps + k : step;
        mde_mark mark = mde_arena_mark(g->context);
        mde_tensor *x = dagan__batch(g->context, g->size, d.batch, NULL);
        mde_tensor *partner = dagan__batch(g->context, g->size, d.batch, NULL);
        if (x && partner) {
            dagan__draw_pairs(run, of_critic ? DAGAN__OF_CRITIC_PAIRS : DAGAN__OF_GENERATOR_PAIRS, index, x, partner);
            if (of_critic) dagan__critic_learn(g, x, partner, &d, index, out);
            else dagan__generator_learn(g, x, partner, &d, index, out);
        }
        mde_arena_rewind(g->context, mark);
    }
    /* At first the average is over fewer steps, so that the initial weights are soon forgotten. */
    dagan__average_do(g, run->sets[2], DAGAN__AVERAGE_MOVE, share > 1 - d.average ? share : 1 - d.average);
    return mde_context_status(g->context);
}

static int dagan__training_progress(dagan__meter *meter, int64_t step, const dagan_step *s)
{
    char figures[160];
    if (meter->progress) {
        snprintf(figures, sizeof figures, "critic distance %.3f, generator loss %.3f, gradient norm %.3f", s->distance,
                 s->generator_loss, s->gradient_norm);
    }
    return dagan__meter_step(meter, step, s->distance, figures);
}

static mde_status dagan__training_run(dagan__training *run)
{
    dagan *g = run->g;
    const dagan_train_desc *d = &run->desc;
    dagan__meter meter = dagan__meter_start("train", d->progress, d->user, d->steps,
                                            (double)d->batch * (double)(d->critic_steps + 1));
    int stopped = 0;
    meter.began_step = meter.told_step = run->step;
    while (run->step < d->steps && !stopped) {
        dagan_step s;
        if (dagan__training_step(run, &s) != MDE_OK) break;
        dagan__curve_add(g, &s);
        run->step++;
        stopped = dagan__training_progress(&meter, run->step, &s) != 0;
        if (dagan__training_keep(run, &stopped) != MDE_OK) break;
    }
    dagan__curve_finish(g);
    dagan__average_do(g, run->sets[2], DAGAN__AVERAGE_TAKE, 0);
    if (mde_context_status(g->context) != MDE_OK) return mde_context_status(g->context);
    return run->step < d->steps ? MDE_STOPPED : MDE_OK;
}

MDEDEF mde_status dagan_train(dagan *g, const dagan_images *set, const dagan_train_desc *desc)
{
    dagan__training run;
    mde_context *c;
    mde_status status;
    int recording;
    if (!g) return MDE_BAD_ARGUMENT;
    c = g->context;
    if (mde_context_status(c) != MDE_OK) return mde_context_status(c);
    recording = mde_set_recording(c, 1);
    if (dagan__training_start(&run, g, set, desc)) {
#ifndef MDE_NO_STDIO
        if (run.desc.checkpoint) dagan__training_continue(&run);
#endif
    }
    status = mde_context_status(c) == MDE_OK ? dagan__training_run(&run) : mde_context_status(c);
    mde_release(c, run.classes);
    mde_params_free(run.sets[2]);
    mde_set_recording(c, recording);
    return status;
}

MDEDEF const dagan_step *dagan_curve(const dagan *g, int *points, const int64_t **steps)
{
    if (points) *points = g ? g->points : 0;
    if (steps) *steps = g ? g->curve_steps : NULL;
    return g ? g->curve : NULL;
}

/* ======================================================================
   8. STUDIES
   ====================================================================== */

/* What made images are worth: to a classifier that learns classes from a few real samples, to a Matching Network that
   sees one. Both networks are chains of one unit, convolution, batch norm, leaky ReLU, and each
   training step draws all that it needs from its seed and number. */

#define DAGAN__STUDY_BATCH 64           /* images at a time where nothing is learned */
#define DAGAN__STUDY_MOMENTUM 0.95      /* of the running statistics: an average over about 20 steps */
#define DAGAN__STUDY_EPSILON 1e-5
#define DAGAN__STUDY_BETA2 0.99
#define DAGAN__STUDY_FINAL 0.1          /* of the learning rate at the end */

/* Streams of random numbers, further to those of section 7. */
enum { DAGAN__OF_REAL_ORDER = 32, DAGAN__OF_MADE_ORDER, DAGAN__OF_AUGMENTATION, DAGAN__OF_DROPOUT, DAGAN__OF_EPISODE,
       DAGAN__OF_EPISODE_NOISE, DAGAN__OF_TEST_EPISODE, DAGAN__OF_TEST_NOISE };

/* ---- 8.1 What both networks share ---- */

/* A convolution without bias, for which the norm's shift stands. */
static void dagan__unit_make(mde_params *p, const char *name, int kernel, int in, int out, dagan__layer *unit)
{
    dagan__layer_make(p, name, kernel, in, out, DAGAN__GAIN | DAGAN__RUNNING,
                      sqrt(2.0 / ((double)(kernel * kernel) * in)), unit);
}

static mde_tensor *dagan__unit_norm(mde_context *c, const dagan__layer *unit, mde_tensor *x, int training)
{
    dagan_batch_norm_desc d = dagan__layer_norm(unit, 1, DAGAN__STUDY_MOMENTUM, DAGAN__STUDY_EPSILON, training);
    return dagan_batch_norm(c, x, &d);
}

/* Sizes stay as they are; pool: the greatest of each 2x2, before the leaky ReLU, which is monotonous and so has less to
   do. */
static mde_tensor *dagan__unit_apply(mde_context *c, const dagan__layer *unit, mde_tensor *x, int pool, int training)
{
    int padding = unit->weight && unit->weight->shape[0] == 3;
    x = dagan__unit_norm(c, unit, dagan_conv2d(c, x, unit->weight, 1, padding), training);
    if (pool && x && x->shape[1] > 1 && x->shape[2] > 1) x = dagan_max_pool(c, x, 2);
    return dagan_leaky_relu(c, x, DAGAN__SLOPE);
}

/* Goes back from the loss and takes a step of Adam; returns the loss. */
static double dagan__study_learn(mde_context *c, mde_params *params, mde_tensor *loss, const char *what, double peak,
                                 int64_t step, int64_t steps)
{
    mde_schedule schedule;
    mde_adamw_desc adam;
    if (mde_context_status(c) != MDE_OK) return (double)NAN;
    memset(&schedule, 0, sizeof schedule);
    schedule.kind = MDE_COSINE;
    schedule.peak = peak;
    schedule.steps = steps;
    schedule.final = DAGAN__STUDY_FINAL;
    memset(&adam, 0, sizeof adam);
    adam.learning_rate = mde_schedule_rate(&schedule, step);
    adam.beta1 = 0.9;
    adam.beta2 = DAGAN__STUDY_BETA2;
    mde_params_zero_grad(params);
    mde_backward(c, loss);
    dagan__adam(c, params, &adam, what, "network", step);
    return mde_item(loss);
}

static int dagan__study_rate(mde_context *c, const char *what, double *rate)
{
    if (*rate == 0) *rate = 3e-3;
    if (*rate > 0 && *rate < 1) return 1;
    return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: learning_rate %g; expected more than 0 and less than 1", what, *rate);
}

/* ---- 8.2 Classifier ---- */

/* Sizes are halved by pooling, not by stride, and not often: from a few samples a class, strided convolutions and small
   maps are learned by heart. */

#define DAGAN__HIDDEN 128               /* width of its hidden layer */
#define DAGAN__MAX_BLOCKS 8

struct dagan_classifier {
    mde_context *context;
    dagan_classifier_desc desc;
    dagan__size size;
    mde_params *params;
    dagan__layer *units;                 /* stem, then block by block its layers and the transition to the next */
    int unit_count;
    dagan__layer hidden, output;        /* matrices: [features, hidden], [hidden, classes] */
};

static int dagan__classifier_resolve(mde_context *c, dagan_classifier_desc *d, int classes)
{
    if (d->classes == 0) d->classes = classes;
    if (d->growth_rate == 0) d->growth_rate = 16;
    if (d->layers == 0) d->layers = 3;
    if (d->blocks == 0) d->blocks = 3;
    if (d->dropout == MDE_ZERO) d->dropout = 0;
    if (d->classes < 2) {
        mde_fail(c, MDE_BAD_ARGUMENT, "classifier: %d classes; expected 2 or more", d->classes);
    } else if (d->growth_rate < 1 || d->growth_rate > 256 || d->layers < 1 || d->layers > 16 || d->blocks < 1 ||
               d->blocks > DAGAN__MAX_BLOCKS) {
        mde_fail(c, MDE_BAD_ARGUMENT, "classifier: growth_rate %d, %d layers, %d blocks; expected 1 to 256, 1 to 16, 1 "
                 "to %d", d->growth_rate, d->layers, d->blocks, DAGAN__MAX_BLOCKS);
    } else if (!(d->dropout >= 0 && d->dropout < 1)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "classifier: dropout %g; expected 0 or more and less than 1", d->dropout);
    }
    return mde_context_status(c) == MDE_OK;
}

static void dagan__classifier_make(dagan_classifier *k)
{
    const dagan_classifier_desc *d = &k->desc;
    int channels = 2 * d->growth_rate, b, l;
    dagan__layer *unit = k->units;
    char name[48];
    dagan__unit_make(k->params, "stem", 3, k->size.channels, channels, unit++);
    for (b = 0; b < d->blocks; b++) {
        for (l = 0; l < d->layers; l++) {
            snprintf(name, sizeof name, "block%d.conv%d", b, l);
            dagan__unit_make(k->params, name, 3, channels, d->growth_rate, unit++);
            channels += d->growth_rate;
        }
        if (b + 1 == d->blocks) break;
        snprintf(name, sizeof name, "block%d.down", b);
        dagan__unit_make(k->params, name, 1, channels, (channels + 1) / 2, unit++);
        channels = (channels + 1) / 2;
    }
    k->unit_count = (int)(unit - k->units);
    channels += d->no_flag ? 0 : 2;
    dagan__layer_make(k->params, "hidden", 0, channels, DAGAN__HIDDEN, DAGAN__GAIN | DAGAN__RUNNING,
                      sqrt(2.0 / channels), &k->hidden);
    dagan__layer_make(k->params, "output", 0, DAGAN__HIDDEN, d->classes, DAGAN__BIAS, sqrt(1.0 / DAGAN__HIDDEN),
                      &k->output);
}

MDEDEF dagan_classifier *dagan_classifier_create(mde_context *c, const dagan_images *like,
                                                 const dagan_classifier_desc *desc)
{
    dagan_classifier_desc d;
    dagan_classifier *k;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (!dagan__check_images(c, "classifier", like, dagan__size_of(like), "the network takes")) return NULL;
    if (!dagan__classifier_resolve(c, &d, dagan_images_class_count(like))) return NULL;
    k = (dagan_classifier *)mde_alloc(c, 1, sizeof *k);
    if (!k) return NULL;
    k->context = c;
    k->desc = d;
    k->size = dagan__size_of(like);
    k->units = (dagan__layer *)mde_alloc(c, (size_t)(d.blocks * (d.layers + 1)), sizeof *k->units);
    k->params = mde_params_create(c, d.seed);
    if (k->units && k->params) dagan__classifier_make(k);
    if (mde_context_status(c) == MDE_OK) return k;
    dagan_classifier_free(k);
    return NULL;
}

MDEDEF void dagan_classifier_free(dagan_classifier *k)
{
    if (!k) return;
    mde_params_free(k->params);
    mde_release(k->context, k->units);
    mde_release(k->context, k);
}

MDEDEF mde_params *dagan_classifier_params(const dagan_classifier *k)
{
    return k ? k->params : NULL;
}

/* Dropout of whole channels of each image: neighbouring pixels are too alike for a loss of single ones to matter, and
   it takes a random number a channel only. */
static mde_tensor *dagan__drop_channels(mde_context *c, mde_tensor *x, double rate, uint64_t seed, int64_t index)
{
    mde_tensor *kept = x ? dagan__matrix(c, x->shape[0], x->shape[3]) : NULL;
    if (!kept) return NULL;
    for (size_t i = 0; i < kept->count; i++) kept->data[i] = 1;
    kept = mde_dropout(c, kept, rate, seed, (uint64_t)DAGAN__OF_DROPOUT << 56 | (uint64_t)index);
    return dagan_modulate(c, x, kept, NULL);
}

/* Logits [n, classes] of x [n, h, w, c], whose first `reals` images are real. step: whose masks of dropout. */
static mde_tensor *dagan__classifier_apply(const dagan_classifier *k, mde_tensor *x, int64_t reals, int training,
                                           uint64_t seed, int64_t step)
{
    mde_context *c = k->context;
    const dagan_classifier_desc *d = &k->desc;
    const dagan__layer *unit = k->units;
    int64_t n = x ? x->shape[0] : 0, i, shape[4];
    x = dagan__unit_apply(c, unit++, x, 1, training);
    for (int b = 0; b < d->blocks; b++) {
        for (int l = 0; l < d->layers; l++) x = mde_concat(c, x, dagan__unit_apply(c, unit++, x, 0, training), 3);
        if (training && d->dropout > 0) {
            x = dagan__drop_channels(c, x, d->dropout, seed, step * DAGAN__MAX_BLOCKS + b);
        }
        if (b + 1 == d->blocks) break;
        x = dagan__unit_apply(c, unit++, x, 0, training);
        if (x && x->shape[1] > 1 && x->shape[2] > 1) x = dagan_avg_pool(c, x, 2);
    }
    x = dagan_global_pool(c, x);
    if (!d->no_flag) {
        mde_tensor *flag = dagan__matrix(c, n, 2);
        for (i = 0; flag && i < n; i++) flag->data[2 * i + (i >= reals)] = 1;
        x = mde_concat(c, x, flag, 1);
    }
    x = mde_matmul(c, x, k->hidden.weight);
    shape[0] = n;
    shape[1] = shape[2] = 1;
    shape[3] = DAGAN__HIDDEN;
    x = dagan_leaky_relu(c, dagan__unit_norm(c, &k->hidden, mde_reshape(c, x, 4, shape), training), DAGAN__SLOPE);
    return dagan__layer_linear(c, &k->output, dagan__as_matrix(c, x, n, DAGAN__HIDDEN));
}

/* Goes through a list in a new order each time: position p is image p % count of pass p / count. */
typedef struct dagan__deck {
    dagan__list list;
    int64_t *order, pass;
    uint64_t seed;
    int what;
} dagan__deck;

static int dagan__deck_open(mde_context *c, const dagan_images *set, uint64_t seed, int what, dagan__deck *deck)
{
    deck->pass = -1;
    deck->seed = seed;
    deck->what = what;
    if (!dagan__list_open(c, set, 1, &deck->list)) return 0;
    deck->order = (int64_t *)mde_scratch(c, (size_t)deck->list.count, sizeof *deck->order);
    return deck->order != NULL;
}

static int64_t dagan__deck_at(dagan__deck *deck, int64_t position)
{
    int64_t pass = position / deck->list.count;
    if (pass != deck->pass) {
        mde_random r = dagan__random(deck->seed, deck->what, pass);
        mde_random_permutation(&r, deck->list.count, deck->order);
        deck->pass = pass;
    }
    return deck->order[position % deck->list.count];
}

/* One training of a classifier. The batch's real images come first. */
typedef struct dagan__fit {
    dagan_classifier *k;
    dagan_fit_desc desc;
    dagan__deck real, made;
    int reals;                          /* in a batch */
    int64_t step;
    const float **images;               /* [batch], those drawn for the step */
    int32_t *labels;
    float *pixels;                      /* of the batch */
} dagan__fit;

static void dagan__fit_augment(int64_t index, void *user)
{
    const dagan__fit *f = (const dagan__fit *)user;
    dagan__size s = f->k->size;
    mde_random r = dagan__random(f->desc.seed, DAGAN__OF_AUGMENTATION, f->step * f->desc.batch + index);
    dagan_augment(&f->desc.augment, &r, s.height, s.width, s.channels, f->images[index],
                  f->pixels + (size_t)index * dagan__size_floats(s));
}

static void dagan__fit_draw(dagan__fit *f)
{
    int64_t batch = f->desc.batch, reals = f->reals;
    for (int64_t i = 0; i < batch; i++) {
        int is_real = i < reals;
        dagan__deck *deck = is_real ? &f->real : &f->made;
        int64_t at = dagan__deck_at(deck, is_real ? f->step * reals + i : f->step * (batch - reals) + i - reals);
        f->images[i] = deck->list.images[at];
        f->labels[i] = deck->list.labels[at];
    }
    mde_parallel_for(f->k->context, batch, dagan__fit_augment, f);
}

static double dagan__fit_step(dagan__fit *f)
{
    dagan_classifier *k = f->k;
    mde_context *c = k->context;
    mde_mark mark = mde_arena_mark(c);
    mde_tensor *x = dagan__batch(c, k->size, f->desc.batch, NULL), *loss;
    double value = (double)NAN;
    if (x) {
        f->pixels = x->data;
        dagan__fit_draw(f);
        loss = dagan__classifier_apply(k, x, f->reals, 1, f->desc.seed, f->step);
        loss = mde_mean(c, mde_cross_entropy(c, loss, f->labels));
        value = dagan__study_learn(c, k->params, loss, "classifier", f->desc.learning_rate, f->step, f->desc.steps);
    }
    mde_arena_rewind(c, mark);
    return value;
}

static int dagan__classifier_set(const dagan_classifier *k, const char *what, const dagan_images *set)
{
    if (!dagan__check_images(k->context, what, set, k->size, "the network takes")) return 0;
    if (dagan_images_class_count(set) == k->desc.classes) return 1;
    return !mde_fail(k->context, MDE_BAD_ARGUMENT, "%s: a set of %d classes; the network tells %d apart", what,
                     dagan_images_class_count(set), k->desc.classes);
}

static int dagan__fit_resolve(dagan__fit *f)
{
    mde_context *c = f->k->context;
    dagan_fit_desc *d = &f->desc;
    if (d->steps == 0) d->steps = 1500;
    if (d->batch == 0) d->batch = 32;
    if (d->made_share == 0) d->made_share = 0.5;
    if (!dagan__study_rate(c, "classifier", &d->learning_rate)) return 0;
    if (d->steps < 1 || d->steps > (int64_t)1 << 32 || d->batch < 2 || d->batch > DAGAN__MAX_BATCH) {
        mde_fail(c, MDE_BAD_ARGUMENT, "classifier: %lld steps of %d images; expected 1 or more steps of 2 to %d images",
                 (long long)d->steps, d->batch, DAGAN__MAX_BATCH);
    } else if (!(d->made_share > 0 && d->made_share <= 1)) {
        mde_fail(c, MDE_BAD_ARGUMENT, "classifier: made_share %g; expected more than 0, at most 1", d->made_share);
    }
    f->reals = d->made ? d->batch - (int)floor(d->made_share * d->batch + 0.5) : d->batch;
    return mde_context_status(c) == MDE_OK;
}

MDEDEF mde_status dagan_classifier_train(dagan_classifier *k, const dagan_images *real, const dagan_fit_desc *desc)
{
    dagan__fit f;
    dagan__meter meter;
    mde_context *c;
    mde_mark mark;
    int recording, stopped = 0;
    if (!k) return MDE_BAD_ARGUMENT;
    c = k->context;
    memset(&f, 0, sizeof f);
    f.k = k;
    if (desc) f.desc = *desc;
    if (!dagan__classifier_set(k, "classifier", real) || !dagan__fit_resolve(&f)) return mde_context_status(c);
    if (f.desc.made && !dagan__classifier_set(k, "classifier, made images", f.desc.made)) return mde_context_status(c);
    mark = mde_arena_mark(c);
    recording = mde_set_recording(c, 1);
    if (dagan__deck_open(c, real, f.desc.seed, DAGAN__OF_REAL_ORDER, &f.real) && f.desc.made) {
        dagan__deck_open(c, f.desc.made, f.desc.seed, DAGAN__OF_MADE_ORDER, &f.made);
    }
    f.images = (const float **)mde_scratch(c, (size_t)f.desc.batch, sizeof *f.images);
    f.labels = (int32_t *)mde_scratch(c, (size_t)f.desc.batch, sizeof *f.labels);
    meter = dagan__meter_start("classifier", f.desc.progress, f.desc.user, f.desc.steps, f.desc.batch);
    while (f.step < f.desc.steps && !stopped && mde_context_status(c) == MDE_OK) {
        double loss = dagan__fit_step(&f);
        if (mde_context_status(c) == MDE_OK) stopped = dagan__meter_step(&meter, ++f.step, loss, NULL) != 0;
    }
    mde_set_recording(c, recording);
    mde_arena_rewind(c, mark);
    if (mde_context_status(c) != MDE_OK) return mde_context_status(c);
    return f.step < f.desc.steps ? MDE_STOPPED : MDE_OK;
}

MDEDEF double dagan_classifier_accuracy(dagan_classifier *k, const dagan_images *test)
{
    dagan__list list;
    mde_context *c;
    mde_mark start;
    int64_t right = 0;
    int recording;
    if (!k || !dagan__classifier_set(k, "classifier test", test)) return (double)NAN;
    c = k->context;
    start = mde_arena_mark(c);
    recording = mde_set_recording(c, 0);
    dagan__list_open(c, test, 1, &list);
    for (int64_t first = 0; first < list.count && mde_context_status(c) == MDE_OK; first += DAGAN__STUDY_BATCH) {
        int64_t n = dagan__minimum(list.count - first, DAGAN__STUDY_BATCH);
        mde_mark mark = mde_arena_mark(c);
        mde_tensor *x = dagan__batch(c, k->size, n, list.images + first);
        mde_tensor *logits = dagan__classifier_apply(k, x, n, 0, 0, 0);
        for (int64_t i = 0; logits && i < n; i++) {
            right += mde_argmax(logits, i) == list.labels[first + i];
        }
        mde_arena_rewind(c, mark);
    }
    mde_set_recording(c, recording);
    mde_arena_rewind(c, start);
    return mde_context_status(c) == MDE_OK ? (double)right / (double)list.count : (double)NAN;
}

/* ---- 8.3 Matching Network ---- */

#define DAGAN__EMBEDDINGS 4             /* convolutions of the embedding */
#define DAGAN__SELECTOR_HIDDEN 64
#define DAGAN__SELECTOR_RANGE 2.0       /* a selector's z lies within this of 0 */
#define DAGAN__MAX_EPISODE (1 << 20)    /* images of an episode */

typedef struct dagan__lstm { mde_tensor *input, *state, *bias; } dagan__lstm;   /* [w, 4 w], [w, 4 w], [4 w] */

struct dagan_matcher {
    mde_context *context;
    dagan_matcher_desc desc;
    dagan__size size;
    int width;                          /* of an embedding */
    mde_params *params;
    dagan__layer units[DAGAN__EMBEDDINGS];
    mde_tensor *log_scale;              /* [1] */
    dagan__lstm context_lstm[2];        /* full context: forward and backward */
    int noise;                          /* dimensions of the selector's z; 0: there is none yet */
    dagan__layer selector[2];           /* hidden layer and output */
};

static void dagan__lstm_make(mde_params *p, const char *name, int64_t width, dagan__lstm *lstm)
{
    int64_t shape[2];
    shape[0] = width;
    shape[1] = 4 * width;
    lstm->input = dagan__param(p, name, "input", 2, shape, MDE_INIT_NORMAL, sqrt(1.0 / (double)width));
    lstm->state = dagan__param(p, name, "state", 2, shape, MDE_INIT_NORMAL, sqrt(1.0 / (double)width));
    lstm->bias = dagan__param(p, name, "bias", 1, shape + 1, MDE_INIT_ZEROS, 0);
}

MDEDEF dagan_matcher *dagan_matcher_create(mde_context *c, const dagan_images *like, const dagan_matcher_desc *desc)
{
    static const char *const directions[2] = { "context.forward", "context.backward" };
    dagan_matcher_desc d;
    dagan_matcher *m;
    int64_t one = 1;
    int height, width, in;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (d.filters == 0) d.filters = 32;
    if (!dagan__check_images(c, "matcher", like, dagan__size_of(like), "the network takes")) return NULL;
    if (d.filters < 1 || d.filters > DAGAN__MAX_FILTERS) {
        mde_fail(c, MDE_BAD_ARGUMENT, "matcher: %d filters; expected 1 to %d", d.filters, DAGAN__MAX_FILTERS);
        return NULL;
    }
    m = (dagan_matcher *)mde_alloc(c, 1, sizeof *m);
    if (!m) return NULL;
    m->context = c;
    m->desc = d;
    m->size = dagan__size_of(like);
    m->params = mde_params_create(c, d.seed);
    height = m->size.height;
    width = m->size.width;
    in = m->size.channels;
    for (int i = 0; i < DAGAN__EMBEDDINGS && m->params; i++) {
        char name[24];
        snprintf(name, sizeof name, "conv%d", i);
        dagan__unit_make(m->params, name, 3, in, d.filters, &m->units[i]);
        in = d.filters;
        if (height < 2 || width < 2) continue;
        height /= 2;
        width /= 2;
    }
    m->width = height * width * d.filters;
    if (m->params) {
        m->log_scale = mde_param(m->params, "log_scale", 1, &one, MDE_INIT_ZEROS, 0);
        if (m->log_scale) m->log_scale->data[0] = (float)2.302585092994046;     /* log 10, the scale before training */
        for (int i = 0; i < 2 && d.full_context; i++) {
            dagan__lstm_make(m->params, directions[i], m->width, &m->context_lstm[i]);
        }
    }
    if (mde_context_status(c) == MDE_OK) return m;
    dagan_matcher_free(m);
    return NULL;
}

MDEDEF void dagan_matcher_free(dagan_matcher *m)
{
    if (!m) return;
    mde_params_free(m->params);
    mde_release(m->context, m);
}

MDEDEF mde_params *dagan_matcher_params(const dagan_matcher *m)
{
    return m ? m->params : NULL;
}

MDEDEF void dagan_matcher_shape(const dagan_matcher *m, mde_context **c, int *height, int *width, int *channels)
{
    dagan__tell(m ? m->size : dagan__size_from(0, 0, 0), m ? m->context : NULL, c, height, width, channels);
}

MDEDEF int dagan_matcher_width(const dagan_matcher *m)
{
    return m ? m->width : 0;
}

/* x [n, h, w, c] -> [n, width]. */
static mde_tensor *dagan__embed(const dagan_matcher *m, mde_tensor *x, int training)
{
    mde_context *c = m->context;
    for (int i = 0; i < DAGAN__EMBEDDINGS; i++) x = dagan__unit_apply(c, &m->units[i], x, 1, training);
    return x ? dagan__as_matrix(c, x, x->shape[0], m->width) : NULL;
}

/* Embeddings of a list of images with running statistics; out [count, width]. */
static mde_status dagan__embed_list(const dagan_matcher *m, int64_t count, const float *const *images, float *out)
{
    mde_context *c = m->context;
    int recording = mde_set_recording(c, 0);
    for (int64_t first = 0; first < count && mde_context_status(c) == MDE_OK; first += DAGAN__STUDY_BATCH) {
        int64_t n = count - first < DAGAN__STUDY_BATCH ? count - first : DAGAN__STUDY_BATCH;
        mde_mark mark = mde_arena_mark(c);
        mde_tensor *e = dagan__embed(m, dagan__batch(c, m->size, n, images + first), 0);
        if (e) memcpy(out + (size_t)first * (size_t)m->width, e->data, e->count * sizeof *out);
        mde_arena_rewind(c, mark);
    }
    mde_set_recording(c, recording);
    return mde_context_status(c);
}

MDEDEF mde_status dagan_matcher_embed(dagan_matcher *m, int64_t count, const float *pixels, float *out)
{
    const float **list;
    mde_mark mark;
    if (!m) return MDE_BAD_ARGUMENT;
    if (mde_context_status(m->context) != MDE_OK) return mde_context_status(m->context);
    if (count < 0 || (count > 0 && (!pixels || !out))) {
        return mde_fail(m->context, MDE_BAD_ARGUMENT, "matcher: %lld images to embed%s%s", (long long)count,
                        pixels ? "" : ", none given", out ? "" : ", no place for the result");
    }
    mark = mde_arena_mark(m->context);
    list = dagan__listed(m->context, count, pixels, dagan__size_floats(m->size));
    if (list) dagan__embed_list(m, count, list, out);
    mde_arena_rewind(m->context, mark);
    return mde_context_status(m->context);
}

MDEDEF mde_tensor *dagan_matcher_apply(dagan_matcher *m, mde_tensor *x)
{
    if (!m || mde_context_status(m->context) != MDE_OK) return NULL;
    return dagan__check_batch(m->context, m->size, "x", x, -1) ? dagan__embed(m, x, 0) : NULL;
}

/* Rows [1, width] -> [count, width], by halves so that the copying stays in proportion. */
static mde_tensor *dagan__stack_rows(mde_context *c, mde_tensor **rows, int64_t count)
{
    mde_tensor *upper, *lower;
    if (count == 1) return rows[0];
    upper = dagan__stack_rows(c, rows, count / 2);
    lower = dagan__stack_rows(c, rows + count / 2, count - count / 2);
    return mde_concat(c, upper, lower, 0);
}

/* States [n, w] after each row of x [n, w], read from the first or from the last. */
static mde_tensor *dagan__lstm_apply(mde_context *c, const dagan__lstm *lstm, mde_tensor *x, int backward)
{
    int64_t n = x->shape[0], w = x->shape[1], i;
    mde_tensor **rows = (mde_tensor **)mde_scratch(c, (size_t)n, sizeof *rows);
    mde_tensor *drive = mde_add(c, mde_matmul(c, x, lstm->input), lstm->bias), *state = NULL, *cell = NULL;
    for (i = 0; rows && i < n && mde_context_status(c) == MDE_OK; i++) {
        int64_t at = backward ? n - 1 - i : i;
        mde_tensor *a = mde_slice(c, drive, 0, at, 1), *gates, *fresh;
        if (state) a = mde_add(c, a, mde_matmul(c, state, lstm->state));
        gates = mde_sigmoid(c, mde_slice(c, a, 1, 0, 3 * w));
        fresh = mde_mul(c, mde_slice(c, gates, 1, 0, w), mde_tanh(c, mde_slice(c, a, 1, 3 * w, w)));
        cell = cell ? mde_add(c, mde_mul(c, mde_slice(c, gates, 1, w, w), cell), fresh) : fresh;
        state = mde_mul(c, mde_slice(c, gates, 1, 2 * w, w), mde_tanh(c, cell));
        rows[at] = state;
    }
    return mde_context_status(c) == MDE_OK ? dagan__stack_rows(c, rows, n) : NULL;
}

/* Rows at length 1. */
static mde_tensor *dagan__unit_rows(mde_context *c, mde_tensor *x)
{
    mde_tensor *squares = mde_sum_axis(c, mde_mul(c, x, x), 1);
    return mde_div(c, x, mde_sqrt(c, mde_affine(c, squares, 1, 1e-12)));
}

/* log sum exp over the last axis: x [rows, classes, items] -> [rows, classes]. The maximum that is taken off first is a
   constant: it drops out of the derivative. */
static mde_tensor *dagan__log_sum_exp(mde_context *c, mde_tensor *x)
{
    int64_t shape[3], items, i;
    mde_tensor *maximum, *sum;
    if (!x) return NULL;
    items = x->shape[2];
    if (items == 1) return dagan__as_matrix(c, x, x->shape[0], x->shape[1]);
    shape[0] = x->shape[0];
    shape[1] = x->shape[1];
    shape[2] = 1;
    maximum = mde_tensor_create(c, 3, shape);
    if (!maximum) return NULL;
    for (i = 0; i < shape[0] * shape[1]; i++) {
        maximum->data[i] = x->data[i * items + mde_argmax(x, i)];
    }
    sum = mde_sum_axis(c, mde_exp(c, mde_sub(c, x, maximum)), 2);
    return dagan__as_matrix(c, mde_add(c, mde_log(c, sum), maximum), shape[0], shape[1]);
}

/* Attention is softmax(scale cosine) over the support set. */
MDEDEF mde_tensor *dagan_matcher_logits(dagan_matcher *m, mde_tensor *support, mde_tensor *queries, int64_t way)
{
    mde_context *c = m ? m->context : NULL;
    int64_t shape[3];
    mde_tensor *cosines;
    if (!support || !queries || mde_context_status(c) != MDE_OK) return NULL;
    if (support->rank != 2 || support->shape[1] != m->width || way < 1 || support->shape[0] % way ||
        queries->rank != 2 || queries->shape[1] != m->width) {
        mde_fail(c, MDE_BAD_SHAPE, "matcher: a support set of %lld rows for %lld ways; expected embeddings [.., %d]",
                 (long long)support->shape[0], (long long)way, m->width);
        return NULL;
    }
    if (m->desc.full_context) {
        mde_tensor *forth = dagan__lstm_apply(c, &m->context_lstm[0], support, 0);
        mde_tensor *back = dagan__lstm_apply(c, &m->context_lstm[1], support, 1);
        support = mde_add(c, support, mde_add(c, forth, back));
    }
    cosines = mde_matmul_t(c, dagan__unit_rows(c, queries), dagan__unit_rows(c, support), 0, 1);
    if (!cosines) return NULL;
    shape[0] = cosines->shape[0];
    shape[1] = way;
    shape[2] = cosines->shape[1] / way;
    return dagan__log_sum_exp(c, mde_reshape(c, mde_mul(c, cosines, mde_exp(c, m->log_scale)), 3, shape));
}

/* ---- Selector of z ---- */

static int dagan__selector_make(dagan_matcher *m, int noise)
{
    mde_params *p = m->params;
    if (m->noise == noise) return 1;
    if (m->noise) return !mde_fail(m->context, MDE_BAD_ARGUMENT, "matcher: the selector gives z of %d dimensions; the "
                                   "generator takes %d", m->noise, noise);
    dagan__layer_make(p, "selector.hidden", 0, m->width, DAGAN__SELECTOR_HIDDEN, DAGAN__BIAS, sqrt(2.0 / m->width),
                      &m->selector[0]);
    /* Small: before training, z is nearly that of no selector. */
    dagan__layer_make(p, "selector.output", 0, DAGAN__SELECTOR_HIDDEN, 2 * noise, DAGAN__BIAS, 0.01, &m->selector[1]);
    if (mde_context_status(m->context) == MDE_OK) m->noise = noise;
    return m->noise == noise;
}

/* z [n each, noise] for the embeddings e [n, width] of the support images, `each` of them one after the other, from
   normal numbers of that shape: 2 tanh((mean + deviation normal) / 2), where a small network gives mean and log
   deviation, the latter in (-1, 1), of an embedding. */
static mde_tensor *dagan__select(const dagan_matcher *m, mde_tensor *e, mde_tensor *normals, int64_t each)
{
    mde_context *c = m->context;
    mde_tensor *x, *mean, *deviation;
    int32_t *ids;
    if (!e || !normals) return NULL;
    ids = (int32_t *)mde_scratch(c, (size_t)normals->shape[0], sizeof *ids);
    for (int64_t i = 0; ids && i < normals->shape[0]; i++) ids[i] = (int32_t)(i / each);
    x = dagan_leaky_relu(c, dagan__layer_linear(c, &m->selector[0], e), DAGAN__SLOPE);
    x = dagan__layer_linear(c, &m->selector[1], x);
    if (!ids || !x) return NULL;
    x = mde_gather(c, x, normals->shape[0], ids);
    mean = mde_slice(c, x, 1, 0, m->noise);
    deviation = mde_exp(c, mde_tanh(c, mde_slice(c, x, 1, m->noise, m->noise)));
    x = mde_add(c, mean, mde_mul(c, deviation, normals));
    x = mde_tanh(c, mde_affine(c, x, 1 / DAGAN__SELECTOR_RANGE, 0));
    return mde_affine(c, x, DAGAN__SELECTOR_RANGE, 0);
}

/* ---- Episodes ---- */

/* Classes of an episode with their samples, the `shot` of the support set first. */
typedef struct dagan__episode {
    const dagan_images *set;
    int way, shot, queries, rotations;  /* rotations: 1, 2 or 4, each with classes of its own */
    int *classes, *quarters, *samples;  /* [way], [way], [way * (shot + queries)] */
    int *urn, urn_size;
} dagan__episode;

static void dagan__episode_draw(dagan__episode *e, mde_random r)
{
    int classes = dagan_images_class_count(e->set), each = e->shot + e->queries, i;
    mde_random_draw(&r, classes * e->rotations, e->way, e->urn);
    for (i = 0; i < e->way; i++) {
        e->classes[i] = e->urn[i] % classes;
        e->quarters[i] = e->urn[i] / classes * (4 / e->rotations);
    }
    for (i = 0; i < e->way; i++) {
        mde_random_draw(&r, dagan_images_sample_count(e->set, e->classes[i]), each, e->urn);
        memcpy(e->samples + (size_t)i * (size_t)each, e->urn, (size_t)each * sizeof *e->urn);
    }
}

/* Fills in what is 0 and checks all; what is said of `what`. */
static int dagan__episode_resolve(const dagan_matcher *m, const char *what, const dagan_images *set, int64_t episodes,
                                  dagan_episode_desc *d)
{
    mde_context *c = m->context;
    const dagan *g = d->generator;
    int64_t images;
    if (!dagan__check_images(c, what, set, m->size, "the network takes")) return 0;
    if (d->episodes == 0) d->episodes = episodes;
    if (d->way == 0) d->way = 20;
    if (d->shot == 0) d->shot = 1;
    if (d->queries == 0) d->queries = 1;
    if (!g) d->made = 0;
    else if (d->made == 0) d->made = 2;
    if (!dagan__study_rate(c, what, &d->learning_rate)) return 0;
    if (d->episodes < 1 || d->episodes > (int64_t)1 << 40 || d->way < 2 || d->shot < 1 || d->queries < 1 ||
        d->made < 0 || d->way > DAGAN__MAX_EPISODE || d->shot > DAGAN__MAX_EPISODE ||
        d->queries > DAGAN__MAX_EPISODE || d->made > DAGAN__MAX_EPISODE) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: %lld episodes, way %d, shot %d, %d queries, %d made; expected 1 or "
                         "more of each, 2 or more ways, at most %d", what, (long long)d->episodes, d->way, d->shot,
                         d->queries, d->made, DAGAN__MAX_EPISODE);
    }
    if (d->way > dagan_images_class_count(set)) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: way %d, but the set has %d classes", what, d->way,
                         dagan_images_class_count(set));
    }
    for (int k = 0; k < dagan_images_class_count(set); k++) {
        if (dagan_images_sample_count(set, k) >= d->shot + d->queries) continue;
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: shot %d and %d queries need %d samples, but %s has %d", what,
                         d->shot, d->queries, d->shot + d->queries, dagan_images_name(set, k),
                         dagan_images_sample_count(set, k));
    }
    images = (int64_t)d->shot * (1 + d->made) + d->queries;
    if (images > DAGAN__MAX_EPISODE / d->way) {
        return !mde_fail(c, MDE_BAD_ARGUMENT, "%s: an episode of %lld images; expected at most %d", what,
                         (long long)d->way * (long long)images, DAGAN__MAX_EPISODE);
    }
    if (g && g->context != c) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: the generator belongs to another context", what);
    } else if (g && !dagan__same_size(g->size, m->size)) {
        mde_fail(c, MDE_BAD_SHAPE, "%s: the generator makes images of %d x %d x %d; the matcher takes %d x %d x %d",
                 what, g->size.height, g->size.width, g->size.channels, m->size.height, m->size.width,
                 m->size.channels);
    } else if (d->selector && !g) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%s: a selector without a generator", what);
    }
    return mde_context_status(c) == MDE_OK;
}

static int dagan__episode_open(mde_context *c, const dagan_images *set, const dagan_episode_desc *d, int rotated,
                               dagan__episode *e)
{
    dagan__size size = dagan__size_of(set);
    int k, classes = dagan_images_class_count(set);
    memset(e, 0, sizeof *e);
    e->set = set;
    e->way = d->way;
    e->shot = d->shot;
    e->queries = d->queries;
    e->rotations = !rotated ? 1 : size.height == size.width ? 4 : 2;
    e->urn_size = classes * e->rotations;
    for (k = 0; k < classes; k++) {
        int samples = dagan_images_sample_count(set, k);
        if (samples > e->urn_size) e->urn_size = samples;
    }
    e->classes = (int *)mde_scratch(c, (size_t)d->way, sizeof *e->classes);
    e->quarters = (int *)mde_scratch(c, (size_t)d->way, sizeof *e->quarters);
    e->samples = (int *)mde_scratch(c, (size_t)d->way * (size_t)(d->shot + d->queries), sizeof *e->samples);
    e->urn = (int *)mde_scratch(c, (size_t)e->urn_size, sizeof *e->urn);
    return mde_context_status(c) == MDE_OK;
}

/* ---- Training ---- */

typedef struct dagan__matching {
    dagan_matcher *m;
    dagan_episode_desc desc;
    dagan__episode episode;
    int32_t *targets;                   /* of the queries */
} dagan__matching;

/* Images of the episode, the support set first, then the queries, both class by class. */
static mde_tensor *dagan__episode_images(const dagan__matching *run)
{
    const dagan__episode *e = &run->episode;
    dagan__size s = run->m->size;
    int each = e->shot + e->queries;
    size_t size = dagan__size_floats(s);
    mde_tensor *x = dagan__batch(run->m->context, s, (int64_t)e->way * each, NULL);
    for (int i = 0; x && i < e->way; i++) {
        for (int j = 0; j < each; j++) {
            int row = j < e->shot ? i * e->shot + j : e->way * e->shot + i * e->queries + j - e->shot;
            dagan__rotate(e->quarters[i], s, dagan_images_pixels(e->set, e->classes[i], e->samples[i * each + j]),
                          x->data + (size_t)row * size);
        }
    }
    return x;
}

/* `made` images for each of the support set, as the generator gives them to z of the episode. With a selector they
   depend on its parameters, through the generator; otherwise they are constants. */
static mde_tensor *dagan__episode_made(const dagan__matching *run, const mde_tensor *x, int64_t episode)
{
    const dagan_episode_desc *d = &run->desc;
    dagan_matcher *m = run->m;
    mde_context *c = m->context;
    int64_t supports = (int64_t)d->way * d->shot, count = supports * d->made, i;
    size_t size = dagan__size_floats(m->size);
    mde_tensor *from = dagan__batch(c, m->size, count, NULL), *support, *z, *made;
    int recording;
    z = dagan__noise_new(d->generator, count, dagan__random(d->seed, DAGAN__OF_EPISODE_NOISE, episode));
    if (!from || !z) return NULL;
    for (i = 0; i < count; i++) {
        memcpy(from->data + (size_t)i * size, x->data + (size_t)(i / d->made) * size, size * sizeof *x->data);
    }
    recording = mde_set_recording(c, 0);
    if (d->selector) {
        support = dagan__batch(c, m->size, supports, NULL);
        if (support) memcpy(support->data, x->data, support->count * sizeof *x->data);
        support = dagan__embed(m, support, 0);
        mde_set_recording(c, recording);
        z = dagan__select(m, support, z, d->made);
    }
    made = z ? dagan_generator_apply(d->generator, from, z, 0, 0) : NULL;
    mde_set_recording(c, recording);
    return made;
}

/* Mean cross-entropy of the episode's queries. */
static mde_tensor *dagan__episode_loss(dagan__matching *run, int64_t episode)
{
    const dagan_episode_desc *d = &run->desc;
    dagan_matcher *m = run->m;
    mde_context *c = m->context;
    int64_t supports = (int64_t)d->way * d->shot, queries = (int64_t)d->way * d->queries, shape[3], i;
    mde_tensor *x, *support, *query;
    dagan__episode_draw(&run->episode, dagan__random(d->seed, DAGAN__OF_EPISODE, episode));
    for (i = 0; i < queries; i++) run->targets[i] = (int32_t)(i / d->queries);
    x = dagan__episode_images(run);
    if (x && d->made) x = mde_concat(c, x, dagan__episode_made(run, x, episode), 0);
    x = dagan__embed(m, x, 1);
    support = mde_slice(c, x, 0, 0, supports);
    query = mde_slice(c, x, 0, supports, queries);
    if (d->made) {
        mde_tensor *made = mde_slice(c, x, 0, supports + queries, supports * d->made);
        shape[0] = d->way;
        shape[1] = d->shot;
        shape[2] = m->width;
        support = mde_reshape(c, support, 3, shape);
        shape[1] = (int64_t)d->shot * d->made;
        support = mde_concat(c, support, mde_reshape(c, made, 3, shape), 1);
        support = dagan__as_matrix(c, support, supports * (1 + d->made), m->width);
    }
    return mde_mean(c, mde_cross_entropy(c, dagan_matcher_logits(m, support, query, d->way), run->targets));
}

MDEDEF mde_status dagan_matcher_train(dagan_matcher *m, const dagan_images *set, const dagan_episode_desc *desc)
{
    dagan__matching run;
    dagan__meter meter;
    mde_context *c;
    unsigned char *were = NULL;
    int recording, stopped = 0;
    mde_mark start;
    int64_t episode = 0;
    if (!m) return MDE_BAD_ARGUMENT;
    c = m->context;
    memset(&run, 0, sizeof run);
    run.m = m;
    if (desc) run.desc = *desc;
    if (!dagan__episode_resolve(m, "matcher", set, 2000, &run.desc)) return mde_context_status(c);
    if (run.desc.selector && !dagan__selector_make(m, run.desc.generator->desc.noise)) return mde_context_status(c);
    start = mde_arena_mark(c);
    dagan__episode_open(c, set, &run.desc, run.desc.quarter_turns, &run.episode);
    run.targets = (int32_t *)mde_scratch(c, (size_t)run.desc.way * (size_t)run.desc.queries, sizeof *run.targets);
    if (run.desc.generator) were = dagan__freeze(c, dagan_generator_params(run.desc.generator));
    recording = mde_set_recording(c, 1);
    meter = dagan__meter_start("matcher", run.desc.progress, run.desc.user, run.desc.episodes,
                       (double)run.desc.way * (run.desc.shot * (1.0 + run.desc.made) + run.desc.queries));
    while (episode < run.desc.episodes && !stopped && mde_context_status(c) == MDE_OK) {
        mde_mark mark = mde_arena_mark(c);
        mde_tensor *loss = dagan__episode_loss(&run, episode);
        double value = dagan__study_learn(c, m->params, loss, "matcher", run.desc.learning_rate, episode,
                                          run.desc.episodes);
        mde_arena_rewind(c, mark);
        if (mde_context_status(c) == MDE_OK) stopped = dagan__meter_step(&meter, ++episode, value, NULL) != 0;
    }
    mde_set_recording(c, recording);
    if (run.desc.generator) dagan__unfreeze(dagan_generator_params(run.desc.generator), were);
    mde_arena_rewind(c, start);
    if (mde_context_status(c) != MDE_OK) return mde_context_status(c);
    return episode < run.desc.episodes ? MDE_STOPPED : MDE_OK;
}

/* ---- Testing ---- */

#define DAGAN__POOL 4                   /* made images kept for an image, which its episodes choose from */

/* Embeddings of all images that the episodes of a test use, made once. */
typedef struct dagan__gallery {
    dagan__list list;
    int64_t *first;                     /* index of a class's first image in the list */
    int32_t *slot, *support_slot;       /* of each image: its row among the embeddings, -1: not used */
    int64_t used, supports;
    int pool;
    mde_tensor *rows;                   /* embeddings [used, width], then of the made ones [supports * pool, width] */
} dagan__gallery;

/* Goes through all episodes to see which images they use. */
static int dagan__gallery_open(const dagan_matcher *m, dagan__matching *run, dagan__gallery *g)
{
    mde_context *c = m->context;
    const dagan_episode_desc *d = &run->desc;
    dagan__episode *e = &run->episode;
    int classes = dagan_images_class_count(e->set), each = d->shot + d->queries, i;
    int64_t at = 0;
    memset(g, 0, sizeof *g);
    g->pool = d->made > DAGAN__POOL ? d->made : DAGAN__POOL;
    if (!dagan__list_open(c, e->set, 1, &g->list)) return 0;
    g->first = (int64_t *)mde_scratch(c, (size_t)classes, sizeof *g->first);
    g->slot = (int32_t *)mde_scratch(c, (size_t)g->list.count, sizeof *g->slot);
    g->support_slot = (int32_t *)mde_scratch(c, (size_t)g->list.count, sizeof *g->support_slot);
    if (mde_context_status(c) != MDE_OK) return 0;
    memset(g->slot, 0, (size_t)g->list.count * sizeof *g->slot);
    memset(g->support_slot, 0, (size_t)g->list.count * sizeof *g->support_slot);
    for (i = 0; i < classes; i++) {
        g->first[i] = at;
        at += dagan_images_sample_count(e->set, i);
    }
    for (int64_t episode = 0; episode < d->episodes; episode++) {
        dagan__episode_draw(e, dagan__random(d->seed, DAGAN__OF_TEST_EPISODE, episode));
        for (i = 0; i < d->way * each; i++) {
            int64_t image = g->first[e->classes[i / each]] + e->samples[i];
            g->slot[image] = 1;
            if (i % each < d->shot) g->support_slot[image] = 1;
        }
    }
    for (int64_t k = 0; k < g->list.count; k++) {
        g->slot[k] = g->slot[k] ? (int32_t)g->used++ : -1;
        g->support_slot[k] = g->support_slot[k] && d->made ? (int32_t)g->supports++ : -1;
    }
    g->rows = dagan__matrix(c, g->used + g->supports * g->pool, m->width);
    return mde_context_status(c) == MDE_OK;
}

/* The pools of the images `numbers` of the gallery: made, embedded. */
static mde_status dagan__gallery_make(const dagan_matcher *m, const dagan_episode_desc *d, const dagan__gallery *g,
                                      int64_t count, const int64_t *numbers)
{
    mde_context *c = m->context;
    mde_mark mark = mde_arena_mark(c);
    size_t width = (size_t)m->width, size = dagan__size_floats(m->size), pool = (size_t)g->pool;
    size_t noise = (size_t)d->generator->desc.noise, i, j;
    mde_tensor *z = dagan__matrix(c, count * g->pool, d->generator->desc.noise), *e = dagan__matrix(c, count, m->width);
    mde_tensor *x = dagan__batch(c, m->size, count * g->pool, NULL), *made = NULL;
    for (i = 0; x && e && z && i < (size_t)count; i++) {
        memcpy(e->data + i * width, g->rows->data + (size_t)g->slot[numbers[i]] * width, width * sizeof *e->data);
        dagan__normals(dagan__random(d->seed, DAGAN__OF_TEST_NOISE, numbers[i]), pool * noise,
                       z->data + i * pool * noise);
        for (j = 0; j < pool; j++) {
            memcpy(x->data + (i * pool + j) * size, g->list.images[numbers[i]], size * sizeof *x->data);
        }
    }
    if (d->selector) z = dagan__select(m, e, z, g->pool);
    if (x && z) made = dagan__embed(m, dagan_generator_apply(d->generator, x, z, 0, 0), 0);
    if (made) {
        memcpy(g->rows->data + ((size_t)g->used + (size_t)g->support_slot[numbers[0]] * pool) * width, made->data,
               made->count * sizeof *made->data);
    }
    mde_arena_rewind(c, mark);
    return mde_context_status(c);
}

/* Fills the gallery; not 0: stopped. Slots ascend, so what is made together stands together. */
static int dagan__gallery_fill(const dagan_matcher *m, const dagan_episode_desc *d, dagan__gallery *g)
{
    const float *images[DAGAN__STUDY_BATCH];
    int64_t numbers[DAGAN__STUDY_BATCH], k = 0, i, n, supports;
    int64_t maximum = g->pool < DAGAN__STUDY_BATCH ? DAGAN__STUDY_BATCH / g->pool : 1;
    dagan__meter meter;
    int stopped = 0;
    meter = dagan__meter_start("embed", d->progress, d->user, g->list.count, 1);
    while (k < g->list.count && !stopped && mde_context_status(m->context) == MDE_OK) {
        int64_t first = k;
        for (n = 0; k < g->list.count && n < DAGAN__STUDY_BATCH; k++) {
            if (g->slot[k] >= 0) images[n++] = g->list.images[k];
        }
        for (i = first; i < k && g->slot[i] < 0; i++) {}
        if (n) dagan__embed_list(m, n, images, g->rows->data + (size_t)g->slot[i] * (size_t)m->width);
        for (supports = 0, i = first; i < k; i++) {
            if (g->support_slot[i] >= 0) numbers[supports++] = i;
        }
        for (i = 0; i < supports && mde_context_status(m->context) == MDE_OK; i += maximum) {
            dagan__gallery_make(m, d, g, supports - i < maximum ? supports - i : maximum, numbers + i);
        }
        if (mde_context_status(m->context) == MDE_OK) stopped = dagan__meter_step(&meter, k, (double)NAN, NULL) != 0;
    }
    return stopped;
}

/* Queries of one episode that are put into the right class. */
static int64_t dagan__trial(const dagan__matching *run, const dagan__gallery *g, int64_t episode)
{
    const dagan_episode_desc *d = &run->desc;
    dagan_matcher *m = run->m;
    const dagan__episode *e = &run->episode;
    mde_context *c = m->context;
    mde_mark mark = mde_arena_mark(c);
    mde_random r = dagan__random(d->seed, DAGAN__OF_TEST_NOISE, ((int64_t)1 << 48) + episode);
    int each = d->shot + d->queries;
    int64_t supports = 0, queries = 0, right = 0;
    int32_t *support = (int32_t *)mde_scratch(c, (size_t)d->way * (size_t)(d->shot * (1 + d->made)), sizeof *support);
    int32_t *query = (int32_t *)mde_scratch(c, (size_t)d->way * (size_t)d->queries, sizeof *query);
    mde_tensor *logits;
    for (int i = 0; support && query && i < d->way * each; i++) {
        int64_t image = g->first[e->classes[i / each]] + e->samples[i];
        int start;
        if (i % each >= d->shot) {
            query[queries++] = g->slot[image];
            continue;
        }
        support[supports++] = g->slot[image];
        start = d->made ? (int)mde_random_below(&r, (uint64_t)g->pool) : 0;
        for (int k = 0; k < d->made; k++) {
            int64_t pool = g->used + (int64_t)g->support_slot[image] * g->pool;
            support[supports++] = (int32_t)(pool + (start + k) % g->pool);
        }
    }
    logits = dagan_matcher_logits(m, mde_gather(c, g->rows, supports, support),
                                  mde_gather(c, g->rows, queries, query), d->way);
    for (int i = 0; logits && i < d->way * d->queries; i++) {
        right += mde_argmax(logits, i) == i / d->queries;
    }
    mde_arena_rewind(c, mark);
    return right;
}

MDEDEF double dagan_matcher_accuracy(dagan_matcher *m, const dagan_images *set, const dagan_episode_desc *desc,
                                     double *error)
{
    dagan__matching run;
    dagan__gallery gallery;
    dagan__meter meter;
    mde_context *c;
    int recording, stopped = 0;
    mde_mark mark;
    int64_t episode = 0;
    double sum = 0, squares = 0, mean, variance;
    if (error) *error = (double)NAN;
    if (!m) return (double)NAN;
    c = m->context;
    memset(&run, 0, sizeof run);
    memset(&gallery, 0, sizeof gallery);
    run.m = m;
    if (desc) run.desc = *desc;
    if (!dagan__episode_resolve(m, "matcher test", set, 1000, &run.desc)) return (double)NAN;
    if (run.desc.selector && m->noise != run.desc.generator->desc.noise) {
        mde_fail(c, MDE_BAD_ARGUMENT, "matcher test: no selector was trained for z of %d dimensions",
                 run.desc.generator->desc.noise);
        return (double)NAN;
    }
    mark = mde_arena_mark(c);
    recording = mde_set_recording(c, 0);
    if (dagan__episode_open(c, set, &run.desc, 0, &run.episode) && dagan__gallery_open(m, &run, &gallery)) {
        stopped = dagan__gallery_fill(m, &run.desc, &gallery);
    }
    meter = dagan__meter_start("episodes", run.desc.progress, run.desc.user, run.desc.episodes, 0);
    while (episode < run.desc.episodes && !stopped && mde_context_status(c) == MDE_OK) {
        double share;
        dagan__episode_draw(&run.episode, dagan__random(run.desc.seed, DAGAN__OF_TEST_EPISODE, episode));
        share = (double)dagan__trial(&run, &gallery, episode) / ((double)run.desc.way * run.desc.queries);
        sum += share;
        squares += share * share;
        stopped = dagan__meter_step(&meter, ++episode, (double)NAN, NULL) != 0;
    }
    mde_set_recording(c, recording);
    mde_arena_rewind(c, mark);
    if (mde_context_status(c) != MDE_OK || episode == 0) return (double)NAN;
    mean = sum / (double)episode;
    variance = episode > 1 ? (squares - sum * mean) / (double)(episode - 1) : 0;
    if (error) *error = sqrt((variance > 0 ? variance : 0) / (double)episode);
    return mean;
}

DAGAN__COLD_END

#if defined(__MINGW32__) && defined(__SSE2__)
#undef sqrt
#endif
#ifdef __cplusplus
}
#endif

#if defined(__GNUC__) || defined(__clang__)
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

#endif /* DAGAN_IMPLEMENTATION */
