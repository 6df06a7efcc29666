/* A DAGAN in a minute: learns from drawn characters how samples of one class differ, then makes further samples of
   characters that it has never seen, each from a single image.
     cc -O2 -fopenmp examples/dagan_tour.c -o dagan_tour -lm && ./dagan_tour        writes dagan.png               */
#include <stdio.h>
#include <string.h>
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#define DAGAN_IMPLEMENTATION
#if __has_include("../dagan.h") /* in the repository; copies beside this file do as well */
#include "../dagan.h"
#else
#include "dagan.h"
#endif
#include "program.h"

int main(int argc, char **argv)
{
    program p;
    mde_context *c;
    dagan_images *all, *seen, *unseen;
    dagan_desc desc;
    dagan_train_desc train;
    dagan_grid_desc grid;
    dagan *g;
    const dagan_step *curve;
    const int64_t *ends;
    int points, i;

    program_start(&p, "dagan_tour", "dagan_tour: trains a DAGAN on drawn characters; writes dagan.png anew\n", NULL, 0);
    if (!program_parse(&p, argc, argv)) return p.code;
    c = program_context(&p);
    program_try_file(c, "dagan.png");

    /* 200 characters, each drawn 20 times with strokes, slant and pen of its own. The split is by class: what the
       networks are judged on has never been trained on. */
    all = dagan_images_open(c, NULL);
    seen = dagan_images_classes(all, 0.0, 0.9);
    unseen = dagan_images_classes(all, 0.9, 1.0);

    /* The generator G(x, z) takes an image x and a random vector z. The critic D sees pairs: x with another real image
       of its class, or x with G(x, z). It never sees a class's name, so all of this works for new classes as well. */
    memset(&desc, 0, sizeof desc);
    desc.preset = DAGAN_QUICK;
    desc.seed = p.seed;
    g = dagan_create(c, all, &desc);

    /* Wasserstein GAN with gradient penalty: the penalty asks for the critic's gradient with respect to the image, and
       its own gradient with respect to the critic's weights is a second derivative. */
    memset(&train, 0, sizeof train);
    train.steps = 300;
    train.critic_steps = 2;
    train.learning_rate = 1e-3;
    train.seed = p.seed;
    train.progress = program_progress;
    train.user = &p;
    dagan_train(g, seen, &train);

    /* The critic's distance rises while it learns what to look at, then falls as the made images get better. */
    curve = dagan_curve(g, &points, &ends);
    printf("%8s %10s %14s\n", "step", "distance", "gradient norm");
    for (i = 0; i < points; i += 1 + points / 12) {
        printf("%8lld %10.3f %14.3f\n", (long long)ends[i], curve[i].distance, curve[i].gradient_norm);
    }

    memset(&grid, 0, sizeof grid);
    grid.rows = 8;
    grid.columns = 12;
    dagan_write_grid(g, unseen, &grid, "dagan.png");

    if (!program_failed(c)) puts("dagan.png: a class a row; the first image is real, the others were made from it");
    return program_end(&p, c);
}
