/* Lesson 8: a GAN on points of the plane. A generator makes points from noise. A critic learns to score real points
   above made ones, the generator to make what scores high. For scores to mean a distance, the critic's slope is held
   near 1 between real and made points by a penalty on the norm of its gradient: training differentiates a derivative,
   as in lesson 2. Nobody tells the generator that there are eight spots, or where.

     cc -O2 examples/course/8_gan.c -o 8_gan -lm && ./8_gan

   Exercise: of the 300 made points, count those within 0.4 of each spot. How many spots get at least 15? */
#include "course.h"
#define BATCH 64
#define SHOWN 300
#define STEPS 6000

typedef struct gan { mde_context *c; course_network generator, critic; mde_random random; } gan;

/* n points around eight spots of a circle: real ones; with radius 0 and sd 1, the noise that points are made from. */
static mde_tensor *draw(gan *g, int64_t n, double radius, double sd)
{
    const int64_t shape[2] = { n, 2 };
    mde_tensor *points = mde_tensor_create(g->c, 2, shape);
    for (int64_t i = 0; points && i < n; i++) {
        double angle = 0.7853981634 * (double)mde_random_below(&g->random, 8);
        points->data[2 * i] = (float)(radius * cos(angle) + sd * mde_random_normal(&g->random));
        points->data[2 * i + 1] = (float)(radius * sin(angle) + sd * mde_random_normal(&g->random));
    }
    return points;
}

/* The mean of (|gradient of the score| - 1)^2 halfway between real and made points. */
static mde_tensor *penalty(gan *g, mde_tensor *real, mde_tensor *made)
{
    const int64_t column[2] = { BATCH, 1 };
    mde_tensor *between = mde_affine(g->c, mde_add(g->c, real, made), 0.5, 0), *slope;
    if (between) between->requires_grad = 1;
    mde_grad(g->c, course_network_apply(g->c, &g->critic, between), 1, &between, &slope, 1);
    mde_tensor *norm = mde_sqrt(g->c, mde_sum_to(g->c, mde_mul(g->c, slope, slope), 2, column));
    mde_tensor *excess = mde_affine(g->c, norm, 1, -1);
    return mde_mean(g->c, mde_mul(g->c, excess, excess));
}

static double critic_score(double x, double y, void *user)
{
    gan *g = (gan *)user;
    return mde_item(course_network_apply(g->c, &g->critic, course_point(g->c, x, y)));
}

int main(int argc, char **argv)
{
    static double x[2][SHOWN], y[2][SHOWN];
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);
    gan g = { c, course_network_create(c, 2, 48, 2, 1), course_network_create(c, 2, 48, 1, 2), mde_random_start(3, 0) };
    mde_adamw_desc adam = { .learning_rate = 1e-3, .beta1 = 0.5, .beta2 = 0.9 };

    printf("%6s %10s %10s\n", "step", "distance", "penalty");
    for (int i = 1; i <= 6 * STEPS; i++) {          /* five steps of the critic, then one of the generator */
        mde_mark mark = mde_arena_mark(c);
        mde_params *learner = i % 6 ? g.critic.params : g.generator.params;
        mde_tensor *real = draw(&g, BATCH, 2, 0.1);
        mde_tensor *made = course_network_apply(c, &g.generator, draw(&g, BATCH, 0, 1));
        mde_tensor *distance = mde_sub(c, mde_mean(c, course_network_apply(c, &g.critic, real)),
                                       mde_mean(c, course_network_apply(c, &g.critic, made)));
        mde_tensor *uneven = penalty(&g, real, made);
        mde_params_zero_grad(learner);
        mde_backward(c, i % 6 ? mde_sub(c, uneven, distance) : distance);
        mde_adamw_step(learner, &adam);
        if (i % 3000 == 0) printf("%6d %10.3f %10.3f\n", i / 6, mde_item(distance), mde_item(uneven));
        mde_arena_rewind(c, mark);
    }

    course_columns(draw(&g, SHOWN, 2, 0.1), x[0], y[0]);
    course_columns(course_network_apply(c, &g.generator, draw(&g, SHOWN, 0, 1)), x[1], y[1]);
    plot_series series[2] = { { .name = "real", .count = SHOWN, .x = x[0], .y = y[0], .points = 1, .color = 7 },
                              { .name = "made", .count = SHOWN, .x = x[1], .y = y[1], .points = 1, .color = 2 } };
    plot_desc plot = { .title = "Real and made points on the critic's score", .height = 540, .count = 2,
                       .series = series, .field = critic_score, .user = &g };
    plot_xy(picture, &plot);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/8_gan.svg");
}
