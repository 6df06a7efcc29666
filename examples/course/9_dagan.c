/* Lesson 9: a DAGAN makes more of one image. The generator of lesson 8 made points from noise; this one, G(x, z), gets
   an image x besides, and its critic sees pairs: x with another real image of the same character, or x with G(x, z). To
   deceive it, G must learn in which ways drawings of one character differ, whichever it is. So it can be shown one that
   it has never seen: from a single drawing it makes others, one for every z.

     cc -O2 examples/course/9_dagan.c -o 9_dagan -lm && ./9_dagan

   Exercise: let z go in equal steps from one random vector to another, and draw what becomes of a character on the way.
   (dagan_generate takes z [n, noise]; dagan_describe knows how many numbers z has.) */
#define DAGAN_IMPLEMENTATION
#include "course.h"
#define SIZE 16             /* pixels of an image, in height and width */
#define CHARACTERS 6        /* that are shown */
#define MADE 8
#define REAL 3              /* others to compare with */
#define PIXEL 3.0

/* Mean of the absolute differences of two images. */
static double difference(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < SIZE * SIZE; i++) sum += fabs((double)(a[i] - b[i]));
    return sum / (SIZE * SIZE);
}

int main(int argc, char **argv)
{
    static float given[MADE][SIZE * SIZE], made[MADE][SIZE * SIZE];
    const double step = PIXEL * SIZE + 8, left = 20, second = left + step + 16, third = second + MADE * step + 16;
    double by_z = 0, by_hand = 0;
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);

    /* Characters drawn by a program, 20 drawings of each. The last tenth is never trained on. */
    dagan_images *all = dagan_images_draw(c, 200, 20, SIZE, 1);
    dagan_images *seen = dagan_images_classes(all, 0, 0.9), *unseen = dagan_images_classes(all, 0.9, 1);
    dagan_desc sizes = { .preset = DAGAN_QUICK, .levels = 2, .critic = { 12, 24 }, .seed = 1 };
    dagan_train_desc train = { .steps = 800, .batch = 16, .critic_steps = 2, .learning_rate = 2e-3, .seed = 1,
                               .progress = mde_print_progress };
    dagan *g = dagan_create(c, all, &sizes);
    if (dagan_train(g, seen, &train) != MDE_OK) return course_end(c, NULL, "");

    plot_open(picture, third + REAL * step + 12, 84 + CHARACTERS * step, "Unseen characters, each from one drawing");
    plot_text(picture, left, 54, "start", 12, "", "given");
    plot_text(picture, second, 54, "start", 12, "", "made from it");
    plot_text(picture, third, 54, "start", 12, "", "real ones, to compare");
    for (int k = 0; k < CHARACTERS; k++) {
        const double y = 66 + k * step;
        for (int i = 0; i < MADE; i++) memcpy(given[i], dagan_images_pixels(unseen, k, 0), sizeof given[i]);
        if (dagan_generate(g, MADE, given[0], NULL, (uint64_t)k, made[0]) != MDE_OK) break;
        course_image(picture, left, y, PIXEL, SIZE, given[0]);
        for (int i = 0; i < MADE; i++) course_image(picture, second + i * step, y, PIXEL, SIZE, made[i]);
        for (int i = 0; i < REAL; i++) {
            course_image(picture, third + i * step, y, PIXEL, SIZE, dagan_images_pixels(unseen, k, i + 1));
        }
        for (int i = 1; i < MADE; i++) {
            by_z += difference(made[i], made[0]) / ((MADE - 1) * CHARACTERS);
            by_hand += difference(dagan_images_pixels(unseen, k, i), given[0]) / ((MADE - 1) * CHARACTERS);
        }
    }
    plot_close(picture);
    printf("Made images of a character differ from each other by %.2f a pixel, real ones by %.2f.\n", by_z, by_hand);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/9_dagan.svg");
}
