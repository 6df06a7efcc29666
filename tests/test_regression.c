/* Regression: against refitting, dense inverses, closed forms, finite differences, and the public RegMix runs. */
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#include "../mdemix.h"
#include "test.h"

/* ---- Plain references ---- */

/* Solves a x = b for many right sides by Gauss-Jordan elimination with pivots; b becomes x. Returns log |det a|. */
static double solve(int n, double *a, int columns, double *b)
{
    double log_det = 0;
    int i, j, k;
    for (k = 0; k < n; k++) {
        int pivot = k;
        for (i = k + 1; i < n; i++) if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
        for (j = 0; j < n; j++) {
            double swap = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = swap;
        }
        for (j = 0; j < columns; j++) {
            double swap = b[k * columns + j];
            b[k * columns + j] = b[pivot * columns + j];
            b[pivot * columns + j] = swap;
        }
        log_det += log(fabs(a[k * n + k]));
        for (i = 0; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            if (i == k) continue;
            for (j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
            for (j = 0; j < columns; j++) b[i * columns + j] -= factor * b[k * columns + j];
        }
    }
    for (i = 0; i < n; i++) {
        for (j = 0; j < columns; j++) b[i * columns + j] /= a[i * n + i];
    }
    return log_det;
}

static double plain_covariance(mde_kernel kernel, int d, const double *a, const double *b, const double *length)
{
    double square = 0, r;
    int q;
    for (q = 0; q < d; q++) square += (a[q] - b[q]) * (a[q] - b[q]) / (length[q] * length[q]);
    r = sqrt(square);
    if (kernel == MDE_RBF) return exp(-square / 2);
    if (kernel == MDE_MATERN32) return (1 + sqrt(3.0) * r) * exp(-sqrt(3.0) * r);
    return (1 + sqrt(5.0) * r + 5 * square / 3) * exp(-sqrt(5.0) * r);
}

static void standardise(int n, int d, const double *x, double *z)
{
    int i, q;
    for (q = 0; q < d; q++) {
        double mean = 0, variance = 0;
        for (i = 0; i < n; i++) mean += x[i * d + q] / n;
        for (i = 0; i < n; i++) variance += (x[i * d + q] - mean) * (x[i * d + q] - mean) / n;
        for (i = 0; i < n; i++) z[i * d + q] = (x[i * d + q] - mean) / sqrt(variance);
    }
}

static void fill_normal(uint64_t seed, int count, double *out)
{
    mde_random random = mde_random_start(seed, 7);
    int i;
    for (i = 0; i < count; i++) out[i] = mde_random_normal(&random);
}

/* A smooth function of d features for target j, with noise of sd `noise`. */
static void make_data(uint64_t seed, int n, int d, int m, double noise, double *x, double *y)
{
    mde_random random = mde_random_start(seed, 8);
    int i, j, q;
    fill_normal(seed, n * d, x);
    for (i = 0; i < n; i++) {
        for (j = 0; j < m; j++) {
            double value = 3 + j;
            for (q = 0; q < d; q++) value += sin((1.0 + 0.3 * j) * x[i * d + q] + q) / (1 + q);
            y[i * m + j] = value + noise * mde_random_normal(&random);
        }
    }
}

static void make_positive(uint64_t seed, int n, double *a)
{
    double *b = (double *)malloc((size_t)(n * n) * sizeof(double));
    int i, j, k;
    fill_normal(seed, n * n, b);
    for (i = 0; i < n; i++) {
        for (j = 0; j < n; j++) {
            a[i * n + j] = i == j ? 0.5 : 0;
            for (k = 0; k < n; k++) a[i * n + j] += b[i * n + k] * b[j * n + k] / n;
        }
    }
    free(b);
}

/* ---- Dense algebra ---- */

static const int instruction_sets[] = { MDE_SIMD_PORTABLE, MDE_SIMD_AVX2, MDE_SIMD_AVX512 };

static void dense_product_is_one_chain_an_element_on_every_instruction_set(void)
{
    enum { ROWS = 21, COLUMNS = 37, DEPTH = 23 };
    double a[ROWS * DEPTH], b[DEPTH * COLUMNS], start[ROWS * COLUMNS], out[ROWS * COLUMNS], plain[ROWS * COLUMNS];
    double left[ROWS * DEPTH], right[DEPTH * COLUMNS], across[DEPTH * COLUMNS], work[DEPTH * (ROWS + 32)];
    int rows, columns, depth, shape, i, j, p, s, across_it;
    fill_normal(1, ROWS * DEPTH, a);
    fill_normal(2, DEPTH * COLUMNS, b);
    fill_normal(3, ROWS * COLUMNS, start);
    for (shape = 0; shape < 64; shape++) {
        for (i = 0; i < ROWS * DEPTH; i++) {
            int row = i / DEPTH, at = i % DEPTH;
            left[i] = ((shape & MDE__LEFT_LOWER) && at > row) || ((shape & MDE__LEFT_UPPER) && at < row) ? 0 : a[i];
        }
        for (i = 0; i < DEPTH * COLUMNS; i++) {
            int at = i / COLUMNS, column = i % COLUMNS;
            right[i] = b[i];
            if (((shape & MDE__RIGHT_LOWER) && column > at) || ((shape & MDE__RIGHT_UPPER) && column < at)) right[i] = 0;
            across[column * DEPTH + at] = right[i];
        }
        for (columns = 1; columns <= COLUMNS; columns += 3) {
            rows = 1 + columns * 5 % ROWS;
            depth = shape % 2 ? DEPTH : DEPTH - columns % 7;
            memcpy(plain, start, sizeof plain);
            for (i = 0; i < rows; i++) {
                for (j = 0; j < columns; j++) {
                    volatile double sum = 0, term;
                    for (p = 0; p < depth; p++) {
                        term = left[i * DEPTH + p] * right[p * COLUMNS + j];
                        sum = sum + term;
                    }
                    plain[i * COLUMNS + j] = (shape & MDE__OUT_ADDED ? start[i * COLUMNS + j] : 0) - sum;
                }
            }
            for (s = 0; s < 6; s++) {
                int simd = mde__simd_choose(instruction_sets[s % 3]);
                int same = 1;
                mde__matrix factor = mde__strided(right, depth, columns, COLUMNS);
                across_it = s / 3;
                if (across_it) factor = mde__transposed(mde__strided(across, columns, depth, DEPTH));
                if (!simd) continue;
                memcpy(out, start, sizeof out);
                mde__dense_product(simd, shape, -1.0, mde__strided(left, rows, depth, DEPTH), factor, out, COLUMNS,
                                   work);
                for (i = 0; i < ROWS * COLUMNS; i++) {
                    int wanted = !(shape & MDE__OUT_LOWER) || i % COLUMNS <= i / COLUMNS;
                    if (wanted && (out[i] < plain[i] || out[i] > plain[i])) same = 0;
                }
                CHECK(same);
            }
        }
    }
}

static void dense_rows_follow_their_formulas_on_every_instruction_set(void)
{
    double x[70], y[70], at[3], columns[3][MDE__INPUT_BLOCK], bits[3][7][70], dots[3], plain, slope;
    int n, i, s, q, kernel, count;
    fill_normal(4, 70, x);
    fill_normal(5, 70, y);
    fill_normal(6, 3 * MDE__INPUT_BLOCK, columns[0]);
    fill_normal(7, 3, at);
    for (n = 1; n <= 70; n += n < 20 ? 1 : 7) {
        for (kernel = MDE_MATERN32; kernel <= MDE_RBF; kernel++) {
            memset(bits, 0, sizeof bits);
            for (s = 0; s < 3; s++) {
                int simd = mde__simd_choose(instruction_sets[s]);
                if (!simd) continue;
                dots[s] = mde__kernel_dense_dot(simd)(n, x, y);
                for (plain = 0, i = 0; i < n; i++) plain += x[i] * y[i];
                CLOSE(dots[s], plain, 1e-13);
                CHECK(memcmp(dots + s, dots, sizeof *dots) == 0);
                mde__kernel_dense_multiply(simd)(n, 0.7, x, y, bits[s][0]);
                memcpy(bits[s][1], y, (size_t)n * sizeof *y);
                mde__kernel_dense_axpy(simd)(n, 0.7, x, bits[s][1]);
                mde__kernel_dense_exp(simd)(n, x, bits[s][5]);
                mde__kernel_dense_log(simd)(n, bits[s][5], bits[s][6]);
                for (i = 0; i < n; i++) {
                    double size = fabs(x[i]) + fabs(y[i]);
                    CLOSE(bits[s][0][i], 0.7 * x[i] * y[i], 1e-15 * size * size);
                    CLOSE(bits[s][1][i], y[i] + 0.7 * x[i], 1e-15 * size);
                    CLOSE(bits[s][5][i], mde__exp64(x[i]), 1e-15 * mde__exp64(x[i]));
                    CLOSE(bits[s][6][i], x[i], 1e-15 * (1 + size));
                }
                count = n < MDE__INPUT_BLOCK ? n : MDE__INPUT_BLOCK;
                mde__kernel_covariance(simd)((mde_kernel)kernel, 2, count, 3, at, columns[0], bits[s][2], bits[s][3]);
                mde__kernel_covariance(simd)((mde_kernel)kernel, 2, count, 3, at, columns[0], bits[s][4], NULL);
                for (i = 0; i < count; i++) {
                    double square = 0;
                    for (q = 0; q < 3; q++) square += (at[q] - columns[q][i]) * (at[q] - columns[q][i]);
                    plain = mde__covariance((mde_kernel)kernel, square, &slope);
                    CLOSE(bits[s][2][i], 2 * plain, 2e-14);
                    CLOSE(bits[s][3][i], slope, 1e-14);
                }
                CHECK(memcmp(bits[s][2], bits[s][4], sizeof bits[s][2]) == 0);
                CHECK(memcmp(bits[s], bits[0], sizeof bits[0]) == 0);
            }
        }
    }
}

static void cholesky_factor_and_inverse_multiply_back(void)
{
    static const int sizes[] = { 1, 2, 7, 31, 32, 33, 64, 97, 130 };
    mde_context *c = mde_context_create(NULL);
    size_t s;
    for (s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int n = sizes[s], i, j, k;
        double *a = mde__doubles(c, (size_t)n, (size_t)n), *copy = mde__doubles(c, (size_t)n, (size_t)n);
        double *inverse = mde__doubles(c, (size_t)n, (size_t)n), *full = mde__doubles(c, (size_t)n, (size_t)n);
        double *work = mde__doubles(c, 1, mde__dense_work(n, n)), worst = 0, worst_full = 0;
        make_positive(40 + s, n, a);
        memcpy(copy, a, (size_t)(n * n) * sizeof(double));
        CHECK(mde__cholesky_inverse(c->simd, n, copy, inverse, work));
        mde__inverse_from_factor(c->simd, n, 1.0, inverse, full, work);
        mde__mirror(n, full);
        for (i = 0; i < n; i++) {
            for (j = 0; j < n; j++) {
                double product = -(i == j), back = -full[i * n + j];
                for (k = 0; k < n; k++) product += a[i * n + k] * full[k * n + j];
                for (k = i > j ? i : j; k < n; k++) back += inverse[k * n + i] * inverse[k * n + j];
                if (fabs(product) > worst_full) worst_full = fabs(product);
                if (fabs(back) > worst) worst = fabs(back);
                if (j > i) CHECK(inverse[i * n + j] == 0);
            }
        }
        /* eps times n times a condition number below 20 */
        CLOSE(worst, 0, 1e-13);
        CLOSE(worst_full, 0, 1e-12);
        a[0] = -1;
        CHECK(!mde__cholesky_inverse(c->simd, n, a, inverse, work));
    }
    mde_context_free(c);
}

static void eigenvectors_are_orthonormal_and_diagonalise(void)
{
    static const int sizes[] = { 1, 2, 3, 10, 65 };
    mde_context *c = mde_context_create(NULL);
    size_t s;
    int kind;
    for (s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (kind = 0; kind < 3; kind++) {
            int n = sizes[s], i, j, k;
            double *a = mde__doubles(c, (size_t)n, (size_t)n), *copy = mde__doubles(c, (size_t)n, (size_t)n);
            double *v = mde__doubles(c, (size_t)n, (size_t)n), *values = mde__doubles(c, (size_t)n, 1);
            double *work = mde__doubles(c, 2, (size_t)n), worst = 0, worst_dot = 0;
            make_positive(60 + s, n, a);
            for (i = 0; i < n && kind == 1; i++) for (j = 0; j < n; j++) a[i * n + j] = 1;          /* rank one */
            for (i = 0; i < n && kind == 2; i++) for (j = 0; j < n; j++) a[i * n + j] = i == j ? 2 : 0;
            memcpy(copy, a, (size_t)(n * n) * sizeof(double));
            CHECK(mde__eigen(n, copy, values, v, work));
            for (i = 0; i < n; i++) {
                for (j = 0; j < n; j++) {
                    double moved = -values[i] * v[i * n + j], dot = -(i == j);
                    for (k = 0; k < n; k++) {
                        moved += a[j * n + k] * v[i * n + k];
                        dot += v[i * n + k] * v[j * n + k];
                    }
                    if (fabs(moved) > worst) worst = fabs(moved);
                    if (fabs(dot) > worst_dot) worst_dot = fabs(dot);
                }
            }
            CLOSE(worst, 0, 1e-14 * (n + 10));
            CLOSE(worst_dot, 0, 1e-14 * (n + 10));
        }
    }
    mde_context_free(c);
}

/* ---- Ridge ---- */

static int equal_rows(int d, const double *x, int a, int b)
{
    return memcmp(x + a * d, x + b * d, (size_t)d * sizeof *x) == 0;
}

/* Rows 3, 4 and 7 become repeats of row 0, row 6 one of row 5. */
static void repeat_rows(int d, double *x)
{
    static const int copies[4][2] = { { 3, 0 }, { 4, 0 }, { 7, 0 }, { 6, 5 } };
    int i;
    for (i = 0; i < 4; i++) memcpy(x + copies[i][0] * d, x + copies[i][1] * d, (size_t)d * sizeof *x);
}

/* Weights [d] and intercept (last) of min sum_i (y_i - b - w z_i)^2 + total |w|^2 over the rows but `without` and those
   equal to it. */
static void plain_ridge(int n, int d, const double *z, const double *y, double total, int without, double *out)
{
    int size = d + 1, i, p, q;
    double *a = (double *)calloc((size_t)(size * size), sizeof(double));
    for (p = 0; p < size; p++) out[p] = 0;
    for (i = 0; i < n; i++) {
        if (without >= 0 && equal_rows(d, z, i, without)) continue;
        for (p = 0; p < size; p++) {
            double zp = p < d ? z[i * d + p] : 1;
            out[p] += zp * y[i];
            for (q = 0; q < size; q++) a[p * size + q] += zp * (q < d ? z[i * d + q] : 1);
        }
    }
    for (p = 0; p < d; p++) a[p * size + p] += total;
    solve(size, a, 1, out);
    free(a);
}

static double plain_leave_one_out(int n, int d, const double *z, const double *y, double total)
{
    double w[41], sum = 0;
    int i, q;
    for (i = 0; i < n; i++) {
        double fit;
        plain_ridge(n, d, z, y, total, i, w);
        fit = w[d];
        for (q = 0; q < d; q++) fit += w[q] * z[i * d + q];
        sum += (y[i] - fit) * (y[i] - fit);
    }
    return sum;
}

static void ridge_leave_one_out_equals_refitting(void)
{
    static const int shapes[5][2] = { { 20, 5 }, { 12, 40 }, { 7, 7 }, { 20, 5 }, { 12, 40 } };
    int s, i, k;
    for (s = 0; s < 5; s++) {
        int n = shapes[s][0], d = shapes[s][1];
        double x[12 * 40], z[12 * 40], y[20], centred[20], mean = 0, penalty = 0.03;
        double products[20], work[40], error;
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        mde_regressor *r;
        const mde__ridge *ridge;
        mde__ridge_fit fit;
        memset(&desc, 0, sizeof desc);
        desc.penalty = penalty;
        make_data(90 + (uint64_t)s, n, d, 1, 0.3, x, y);
        if (s >= 3) repeat_rows(d, x);
        standardise(n, d, x, z);
        r = mde_regressor_fit(c, n, d, 1, x, y, &desc);
        CHECK(r != NULL);
        ridge = (const mde__ridge *)r->state;
        CHECK(ridge->penalty[0] == penalty);
        for (i = 0; i < n; i++) mean += y[i] / n;
        for (i = 0; i < n; i++) centred[i] = y[i] - mean;
        fit.r = r;
        fit.y = centred;
        fit.products = products;
        fit.work = work;
        for (k = 0; k < ridge->rank; k++) {
            products[k] = 0;
            for (i = 0; i < n; i++) products[k] += ridge->scores[i * ridge->rank + k] * centred[i];
        }
        error = mde__ridge_leave_one_out(&fit, penalty, NULL, NULL);
        CLOSE(error, plain_leave_one_out(n, d, z, y, n * penalty), 1e-10);
        mde_context_free(c);
    }
}

static void ridge_chooses_the_penalty_with_the_least_refitted_error(void)
{
    double x[25 * 6], z[25 * 6], y[25], step;
    mde_context *c = mde_context_create(NULL);
    mde_regressor *r;
    double chosen, best;
    make_data(5, 25, 6, 1, 0.5, x, y);
    standardise(25, 6, x, z);
    r = mde_regressor_fit(c, 25, 6, 1, x, y, NULL);
    chosen = ((const mde__ridge *)r->state)->penalty[0];
    best = plain_leave_one_out(25, 6, z, y, 25 * chosen);
    for (step = -6; step <= 4; step += 0.05) {
        CHECK(best <= plain_leave_one_out(25, 6, z, y, 25 * pow(10, step)) * (1 + 1e-9));
    }
    CHECK(chosen > 1e-5 && chosen < 1e3);
    mde_context_free(c);
}

static void ridge_predicts_what_the_normal_equations_say(void)
{
    static const int shapes[2][2] = { { 20, 5 }, { 12, 40 } };
    int s, i, j, q;
    for (s = 0; s < 2; s++) {
        int n = shapes[s][0], d = shapes[s][1];
        double x[12 * 40], z[12 * 40], y[40], one[20], mean[40], sd[40], w[41], solved[40], a[1600];
        mde_context *c = mde_context_create(NULL);
        mde_regressor *r;
        make_data(20 + (uint64_t)s, n, d, 2, 0.3, x, y);
        standardise(n, d, x, z);
        r = mde_regressor_fit(c, n, d, 2, x, y, NULL);
        CHECK(mde_regressor_predict(r, n, x, mean, sd) == MDE_OK);
        for (j = 0; j < 2; j++) {
            double total = n * ((const mde__ridge *)r->state)->penalty[j];
            for (i = 0; i < n; i++) one[i] = y[i * 2 + j];
            plain_ridge(n, d, z, one, total, -1, w);
            for (i = 0; i < n; i++) {
                double fit = w[d], leverage = 1 + 1.0 / n;
                int p, t;
                for (q = 0; q < d; q++) fit += w[q] * z[i * d + q];
                CLOSE(mean[i * 2 + j], fit, 1e-9);
                for (p = 0; p < d; p++) {
                    solved[p] = z[i * d + p];
                    for (q = 0; q < d; q++) {
                        a[p * d + q] = p == q ? total : 0;
                        for (t = 0; t < n; t++) a[p * d + q] += z[t * d + p] * z[t * d + q];
                    }
                }
                solve(d, a, 1, solved);
                for (q = 0; q < d; q++) leverage += z[i * d + q] * solved[q];
                CLOSE(sd[i * 2 + j] * sd[i * 2 + j] / ((const mde__ridge *)r->state)->residual[j], leverage, 1e-8);
            }
        }
        mde_context_free(c);
    }
}

static void ridge_sd_is_the_error_of_new_runs(void)
{
    double x[400 * 3], y[400], mean[300], sd[300], squares = 0;
    int i, q;
    mde_context *c = mde_context_create(NULL);
    mde_regressor *r;
    fill_normal(77, 400 * 3, x);
    fill_normal(78, 400, y);
    for (i = 0; i < 400; i++) for (q = 0; q < 3; q++) y[i] += (q + 1) * x[i * 3 + q];
    r = mde_regressor_fit(c, 100, 3, 1, x, y, NULL);
    CHECK(mde_regressor_predict(r, 300, x + 300, mean, sd) == MDE_OK);
    for (i = 0; i < 300; i++) squares += (mean[i] - y[100 + i]) * (mean[i] - y[100 + i]) / (sd[i] * sd[i]);
    /* squares / 300 is about 1; its sd is sqrt(2 / 300) from the new runs and sqrt(2 / 100) from the estimate: 0.16 */
    CLOSE(squares / 300, 1, 0.5);
    mde_context_free(c);
}

/* ---- Gaussian processes ---- */

/* A process that is made but not fitted, and a workspace for it. */
static mde_regressor *prepare_gp(mde_context *c, int n, int d, const double *x, const double *y,
                                 const mde_fit_desc *desc, mde__gp_work *w)
{
    mde_regressor *r = mde__regressor_prepare(c, n, d, 1, x, y, desc);
    mde__workspace memory = { NULL, 0 };
    if (!r) return NULL;
    w->gp = (mde__gp *)r->state;
    memory.start = mde__doubles(c, mde__gp_work_size(r), 1);
    mde__gp_work_take(&memory, n, w->gp->d, w->gp->noises, w);
    mde__gp_use(w, n);
    return r;
}

/* Kernels one by one, without and with inputs of the noise. */
#define GP_FORMS 6
static mde_fit_desc gp_form(int form)
{
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_GP;
    desc.kernel = (mde_kernel)(form % 3);
    desc.normal_noise = 1;
    desc.noises = form >= 3 ? 2 : 0;
    return desc;
}

static void gp_likelihood_gradient_equals_finite_differences(void)
{
    int form, i, k;
    for (form = 0; form < GP_FORMS; form++) {
        enum { N = 40, D = 4, MOST = 12 };
        double x[N * D], y[N], theta[MOST], gradient[MOST], unused[MOST];
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc = gp_form(form);
        mde__gp_work w;
        make_data(11, N, D, 1, 0.2, x, y);
        for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
        CHECK(prepare_gp(c, N, D, x, y, &desc, &w) != NULL);
        CHECK(w.gp->parameters <= MOST);
        for (i = 0; i < N; i++) w.gp->tail[i] = i % 7 == 3 ? 9 : 1;
        for (i = 0; i < w.gp->parameters; i++) theta[i] = 0.3 * (i % 5) - 0.5;
        for (i = w.gp->d + 1; i < w.gp->parameters; i++) theta[i] = -2.5 + 0.4 * (i % 3);
        for (k = 0; k < 2; k++) {       /* the likelihood, then with its priors */
            if (k == 0) mde__gp_likelihood(&w, theta, gradient);
            else mde__gp_loss(theta, gradient, &w);
            for (i = 0; i < w.gp->parameters; i++) {
                double h = 1e-3, t = theta[i], f[4];
                int p;
                for (p = 0; p < 4; p++) {
                    theta[i] = t + h * (p < 2 ? p - 2 : p - 1);
                    f[p] = k == 0 ? mde__gp_likelihood(&w, theta, NULL) : mde__gp_loss(theta, unused, &w);
                }
                theta[i] = t;
                /* five points: h^4 f^(5) / 30 about 1e-12, rounding 1e-13 / h */
                CLOSE(gradient[i], (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), 1e-8);
            }
        }
        mde_context_free(c);
    }
}

/* Each run in turn is left out, with its repeats, of a process whose covariance stays as it was. */
static void gp_left_out_equals_refitting_with_the_same_covariance(void)
{
    int form, i, j, q;
    for (form = 0; form < 2 * GP_FORMS; form++) {
        enum { N = 14, D = 4 };
        double x[N * D], y[N], left[N];
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc = gp_form(form % GP_FORMS);
        mde_regressor *r;
        const mde__gp *gp;
        make_data(17, N, D, 1, 0.2, x, y);
        for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
        if (form >= GP_FORMS) repeat_rows(D, x);
        r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
        CHECK(mde_regressor_left_out(r, left) == MDE_OK);
        gp = (const mde__gp *)r->state;
        for (q = 0; q < N; q++) {
            double z[N * D], columns[MDE__INPUT_BLOCK * D], k[N * N], a[N * N], right[N * 2], noise[N], mu;
            mde__scaled in = mde__scaled_of(N, gp->d, z, columns);
            double ones = 0, ones_y = 0, value;
            int row = 0, kept = 0;
            for (i = 0; i < N; i++) kept += !equal_rows(D, x, i, q);
            mde__scale_inputs(&in, gp->x, gp->theta);
            mde__covariances(gp->simd, gp->kernel, mde__exp64(gp->theta[gp->d]), &in, &in, 0, k, NULL);
            mde__gp_noise(gp, gp->theta, N, gp->noise_x, noise);
            for (i = 0; i < N; i++) {
                int column = 0;
                if (equal_rows(D, x, i, q)) continue;
                for (j = 0; j < N; j++) {
                    if (equal_rows(D, x, j, q)) continue;
                    a[row * kept + column++] = k[i * N + j] + (i == j ? noise[i] : 0);
                }
                right[row * 2] = 1;
                right[row * 2 + 1] = gp->y[i];
                row++;
            }
            solve(kept, a, 2, right);
            for (i = 0; i < kept; i++) {
                ones += right[i * 2];
                ones_y += right[i * 2 + 1];
            }
            value = mu = ones_y / ones;
            for (i = 0, row = 0; i < N; i++) {
                if (equal_rows(D, x, i, q)) continue;
                value += k[q * N + i] * (right[row * 2 + 1] - mu * right[row * 2]);
                row++;
            }
            CLOSE(left[q], r->target_mean[0] + r->target_sd[0] * value, 1e-7);
        }
        mde_context_free(c);
    }
}

static void gp_likelihood_of_two_runs_equals_the_closed_form(void)
{
    /* K = [[a, b], [b, a]] has eigenvalues a + b (along the mean) and a - b (along the difference) */
    double x[2] = { 0, 2 }, y[2] = { 1, 4 }, theta[3], length = 1.3, signal = 0.7, noise = 0.05, a, b, expected;
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc = gp_form(MDE_RBF);
    mde__gp_work w;
    CHECK(prepare_gp(c, 2, 1, x, y, &desc, &w) != NULL);
    theta[0] = log(length);
    theta[1] = log(signal);
    theta[2] = log(noise);
    a = signal + noise;
    b = signal * exp(-0.5 * 4 / (length * length));     /* standardised inputs are -1 and 1, targets too */
    expected = -0.5 * 2 / (a - b) - 0.5 * log((a + b) * (a - b)) - log(2 * 3.14159265358979323846);
    CLOSE(mde__gp_likelihood(&w, theta, NULL), expected, 1e-13);
    CLOSE(w.mean, 0, 1e-15);
    mde_context_free(c);
}

static void gp_predicts_what_the_dense_inverse_says(void)
{
    int kernel;
    for (kernel = 0; kernel < 3; kernel++) {
        enum { N = 35, D = 2, NEW = 70 };
        double x[(N + NEW) * D], y[N], mean[NEW], sd[NEW], z[(N + NEW) * D], length[D], right[N * 2], k[N * N];
        double y_mean = 0, y_sd = 0, signal, noise, mu, ones = 0, ones_y = 0, log_det;
        int i, j, q, t;
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        mde_regressor *r;
        memset(&desc, 0, sizeof desc);
        desc.model = MDE_GP;
        desc.kernel = (mde_kernel)kernel;
        desc.normal_noise = 1;
        make_data(31, N, D, 1, 0.2, x, y);
        fill_normal(32, NEW * D, x + N * D);
        r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
        CHECK(mde_regressor_predict(r, NEW, x + N * D, mean, sd) == MDE_OK);
        for (i = 0; i < N; i++) y_mean += y[i] / N;
        for (i = 0; i < N; i++) y_sd += (y[i] - y_mean) * (y[i] - y_mean) / N;
        y_sd = sqrt(y_sd);
        for (i = 0; i < N + NEW; i++) {
            for (q = 0; q < D; q++) z[i * D + q] = (x[i * D + q] - r->shift[q]) / r->scale[q];
        }
        for (q = 0; q < D; q++) length[q] = mde_regressor_length_scale(r, 0, q);
        signal = exp(((const mde__gp *)r->state)->theta[D]);
        noise = exp(((const mde__gp *)r->state)->theta[D + 1]);
        for (i = 0; i < N; i++) {
            right[i * 2] = 1;
            right[i * 2 + 1] = (y[i] - y_mean) / y_sd;
            for (j = 0; j < N; j++) {
                k[i * N + j] = (i == j) * noise +
                    signal * plain_covariance(desc.kernel, D, z + i * D, z + j * D, length);
            }
        }
        log_det = solve(N, k, 2, right);
        for (i = 0; i < N; i++) {
            ones += right[i * 2];
            ones_y += right[i * 2 + 1];
        }
        mu = ones_y / ones;
        {
            double likelihood = -0.5 * log_det - 0.5 * N * log(2 * 3.14159265358979323846) - N * log(y_sd);
            for (i = 0; i < N; i++) {
                likelihood -= 0.5 * ((y[i] - y_mean) / y_sd - mu) * (right[i * 2 + 1] - mu * right[i * 2]);
            }
            CLOSE(mde_regressor_log_likelihood(r, 0), likelihood, 1e-10);
        }
        for (t = 0; t < NEW; t++) {
            double own[N], solved[N], value = mu, variance = signal + noise, beyond = 1;
            for (i = 0; i < N; i++) {
                own[i] = solved[i] = signal * plain_covariance(desc.kernel, D, z + (N + t) * D, z + i * D, length);
                for (j = 0; j < N; j++) {
                    k[i * N + j] = (i == j) * noise +
                    signal * plain_covariance(desc.kernel, D, z + i * D, z + j * D, length);
                }
            }
            solve(N, k, 1, solved);
            for (i = 0; i < N; i++) {
                value += own[i] * (right[i * 2 + 1] - mu * right[i * 2]);
                variance -= own[i] * solved[i];
                beyond -= solved[i];
            }
            variance += beyond * beyond / ones;
            CLOSE(mean[t], y_mean + y_sd * value, 1e-9);
            CLOSE(sd[t] * sd[t], y_sd * y_sd * variance, 1e-9);
        }
        mde_context_free(c);
    }
}

static void gp_recovers_the_noise_and_covers_new_runs(void)
{
    enum { N = 150, NEW = 300 };
    static double x[N + NEW], y[N + NEW], mean[NEW], sd[NEW];
    mde_random random = mde_random_start(3, 3);
    int i, inside = 0;
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_GP;
    desc.normal_noise = 1;
    for (i = 0; i < N + NEW; i++) {
        x[i] = 6 * mde_random_uniform(&random);
        y[i] = sin(2 * x[i]) + 0.1 * mde_random_normal(&random);
    }
    r = mde_regressor_fit(c, N, 1, 1, x, y, &desc);
    CHECK(r != NULL);
    /* an estimate of sd from 150 runs is good to 1 / sqrt(300): within four of those */
    CLOSE(r->target_sd[0] * sqrt(exp(((const mde__gp *)r->state)->theta[2])), 0.1, 0.023);
    CHECK(mde_regressor_predict(r, NEW, x + N, mean, sd) == MDE_OK);
    for (i = 0; i < NEW; i++) inside += fabs(y[N + i] - mean[i]) < 1.6449 * sd[i];
    /* 90 % of 300, four binomial sds */
    CHECK(inside > 270 - 21 && inside < 270 + 21);
    mde_context_free(c);
}

/* One run in ten is far off: with heavy tails it bends the mean less, and intervals hold what a normal noise of that
   variance would. */
static void gp_with_heavy_tails_learns_what_outliers_hide(void)
{
    enum { N = 90, NEW = 300, D = 2 };
    static double x[(N + NEW) * D], y[N + NEW], truth[N + NEW], mean[NEW], sd[NEW], normal[NEW], left[N];
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(17, 0);
    mde_fit_desc desc;
    mde_regressor *r;
    int i, inside = 0;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_GP;
    desc.normal_noise = 1;
    for (i = 0; i < N + NEW; i++) {
        x[2 * i] = mde_random_normal(&random);
        x[2 * i + 1] = mde_random_normal(&random);
        truth[i] = sin(1.3 * x[2 * i]) + 0.5 * x[2 * i + 1];
        y[i] = truth[i] + 0.03 * mde_random_normal(&random) + (i % 10 == 3 ? 1.5 : 0);
    }
    r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
    CHECK(mde_regressor_predict(r, NEW, x + N * D, normal, NULL) == MDE_OK);
    desc.normal_noise = 0;
    r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
    CHECK(mde_regressor_predict(r, NEW, x + N * D, mean, sd) == MDE_OK);
    CHECK(mde_mse(NEW, mean, truth + N) < 0.25 * mde_mse(NEW, normal, truth + N));
    for (i = 0; i < NEW; i++) inside += fabs(mean[i] - y[N + i]) < 1.645 * sd[i];
    CHECK(inside > 0.84 * NEW && inside < 0.97 * NEW);
    for (i = 0; i < N && r; i++) CHECK((((const mde__gp *)r->state)->tail[i] > 10) == (i % 10 == 3));
    CHECK(mde_regressor_left_out(r, left) == MDE_OK);
    for (i = 0; i < N; i++) CHECK(fabs(left[i] - truth[i]) < 0.5);
    mde_context_free(c);
}

static void gp_does_not_fit_noise_with_few_runs(void)
{
    /* nothing can be learnt from these: the mean has error 13 / 12 on new runs, a fit through all runs has about 2 */
    double ratio = 0;
    int trial, i;
    for (trial = 0; trial < 10; trial++) {
        double x[212 * 6], y[212], mean[200], total = 0, plain = 0, average = 0;
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.model = MDE_GP;
        fill_normal(500 + (uint64_t)trial, 212 * 6, x);
        fill_normal(600 + (uint64_t)trial, 212, y);
        CHECK(mde_regressor_predict(mde_regressor_fit(c, 12, 6, 1, x, y, &desc), 200, x + 72, mean, NULL) == MDE_OK);
        for (i = 0; i < 12; i++) average += y[i] / 12;
        for (i = 0; i < 200; i++) {
            total += (mean[i] - y[12 + i]) * (mean[i] - y[12 + i]);
            plain += (average - y[12 + i]) * (average - y[12 + i]);
        }
        ratio += total / plain / 10;
        mde_context_free(c);
    }
    CHECK(ratio < 1.5);
}

/* ---- The joint process ---- */

/* Covariance of target j at x with target l at y, both standardised, by its definition; without the noise. */
static double joint_covariance(const mde__joint *s, const double *x, int j, const double *y, int l)
{
    const double *lengths = s->theta + s->m * (s->d + 2), *factor = lengths + s->rank * s->d;
    const double *own = s->theta + j * (s->d + 2);
    double length[8], sum = 0;
    int r, q;
    for (r = 0; r < s->rank; r++) {
        for (q = 0; q < s->d; q++) length[q] = exp(lengths[r * s->d + q]);
        sum += factor[j * s->rank + r] * factor[l * s->rank + r] * plain_covariance(s->kernel, s->d, x, y, length);
    }
    for (q = 0; q < s->d; q++) length[q] = exp(own[q]);
    return j == l ? sum + exp(own[s->d]) * plain_covariance(s->kernel, s->d, x, y, length) : sum;
}

/* What is added to it where both are run i: the common processes' nugget, and the noise of one target. */
static double joint_noise(const mde__joint *s, int j, int l, int i)
{
    const double *factor = s->theta + s->m * (s->d + 2) + s->rank * s->d;
    double sum = 0;
    int r;
    for (r = 0; r < s->rank; r++) sum += MDE__NUGGET * factor[j * s->rank + r] * factor[l * s->rank + r];
    return j == l ? sum + exp(s->theta[j * (s->d + 2) + s->d + 1]) * s->own[j].tail[i] : sum;
}

/* Of runs [count], each with its number of a run and target run * m + target; inputs z [runs, d]. */
static void joint_matrix(const mde__joint *s, int count, const int *kept, const double *z, double *k)
{
    int i, j;
    for (i = 0; i < count; i++) {
        for (j = 0; j < count; j++) {
            int a = kept[i] / s->m, b = kept[j] / s->m, target = kept[i] % s->m, other = kept[j] % s->m;
            k[i * count + j] = joint_covariance(s, z + a * s->d, target, z + b * s->d, other) +
                               (a == b ? joint_noise(s, target, other, a) : 0);
        }
    }
}

static mde_fit_desc joint_form(mde_kernel kernel, int rank, int restarts)
{
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_MULTITASK_GP;
    desc.kernel = kernel;
    desc.rank = rank;
    desc.restarts = restarts;
    return desc;
}

/* What a fitted process saw: runs x, standardised, and their targets less the means that it takes as known. */
static void joint_data(const mde_regressor *r, int rows, const double *x, double *z, const double *y, double *s)
{
    int i;
    for (i = 0; i < rows * r->d; i++) z[i] = (x[i] - r->shift[i % r->d]) / r->scale[i % r->d];
    standardise(r->n, r->m, y, s);
    for (i = 0; i < r->n * r->m; i++) s[i] -= ((const mde__joint *)r->state)->own[i % r->m].mean;
}

static void joint_likelihood_and_predictions_equal_the_dense_ones(void)
{
    enum { N = 14, D = 2, M = 3, NM = N * M, NEW = 5 };
    int form;
    for (form = 0; form < 3; form++) {      /* rank 2, rank 1 with outliers, another kernel */
        double x[(N + NEW) * D], y[NM], z[(N + NEW) * D], s[NM], k[NM * NM], right[NM], mean[NEW * M], sd[NEW * M];
        double likelihood;
        int kept[NM], i, j, l, t, q, p;
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc = joint_form(form == 2 ? MDE_MATERN52 : MDE_MATERN32, form == 1 ? 1 : 0, form == 0 ? 2 : 1);
        mde_regressor *r;
        const mde__joint *joint;
        make_data(51, N, D, M, 0.2, x, y);
        if (form == 1) y[4 * M + 1] += 5;
        fill_normal(52, NEW * D, x + N * D);
        r = mde_regressor_fit(c, N, D, M, x, y, &desc);
        CHECK(r && mde_regressor_predict(r, NEW, x + N * D, mean, sd) == MDE_OK);
        joint = (const mde__joint *)r->state;
        CHECK(joint->rank == (form == 1 ? 1 : 2));
        CHECK(form != 1 || joint->own[1].tail[4] > 2);
        joint_data(r, N + NEW, x, z, y, s);
        for (q = 0; q < D; q++) {
            CLOSE(mde_regressor_length_scale(r, 1, q), exp(joint->theta[D + 2 + q]), 1e-12);
        }
        for (i = 0; i < NM; i++) kept[i] = i;
        joint_matrix(joint, NM, kept, z, k);
        memcpy(right, s, sizeof s);
        likelihood = -0.5 * solve(NM, k, 1, right) - 0.5 * NM * log(2 * 3.14159265358979323846);
        for (i = 0; i < NM; i++) likelihood -= 0.5 * s[i] * right[i];
        for (j = 0; j < M; j++) likelihood -= N * log(r->target_sd[j]);
        CLOSE(mde_regressor_log_likelihood(r, 1), likelihood, 1e-9);
        for (t = 0; t < NEW; t++) {
            for (l = 0; l < M; l++) {
                const double *at = z + (N + t) * D;
                double own[NM], solved[NM], value = joint->own[l].mean, variance = joint_covariance(joint, at, l, at, l);
                variance += joint->own[l].widening * exp(joint->theta[l * (D + 2) + D + 1]);
                for (i = 0; i < NM; i++) {
                    own[i] = solved[i] = joint_covariance(joint, at, l, z + i / M * D, i % M);
                }
                joint_matrix(joint, NM, kept, z, k);
                solve(NM, k, 1, solved);
                for (p = 0; p < NM; p++) {
                    value += own[p] * right[p];
                    variance -= own[p] * solved[p];
                }
                CLOSE(mean[t * M + l], r->target_mean[l] + r->target_sd[l] * value, 1e-8);
                CLOSE(sd[t * M + l], r->target_sd[l] * sqrt(variance), 1e-6);
            }
        }
        mde_context_free(c);
    }
}

/* All losses of a run and of its repeats are left out of a process whose covariance stays as it was. */
static void joint_left_out_equals_refitting_with_the_same_covariance(void)
{
    enum { N = 12, D = 2, M = 3, NM = N * M };
    double x[N * D], y[NM], z[N * D], s[NM], left[NM], k[NM * NM], right[NM];
    int form, i, q, l;
    for (form = 0; form < 2; form++) {
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc = joint_form(MDE_MATERN32, 0, 1);
        mde_regressor *r;
        const mde__joint *joint;
        make_data(53, N, D, M, 0.2, x, y);
        if (form) repeat_rows(D, x);
        r = mde_regressor_fit(c, N, D, M, x, y, &desc);
        CHECK(r && mde_regressor_left_out(r, left) == MDE_OK);
        joint = (const mde__joint *)r->state;
        joint_data(r, N, x, z, y, s);
        for (q = 0; q < N; q++) {
            int kept[NM], count = 0;
            for (i = 0; i < NM; i++) if (!equal_rows(D, x, i / M, q)) kept[count++] = i;
            joint_matrix(joint, count, kept, z, k);
            for (i = 0; i < count; i++) right[i] = s[kept[i]];
            solve(count, k, 1, right);
            for (l = 0; l < M; l++) {
                double value = joint->own[l].mean;
                for (i = 0; i < count; i++) {
                    value += right[i] * joint_covariance(joint, z + q * D, l, z + kept[i] / M * D, kept[i] % M);
                }
                CLOSE(left[q * M + l], r->target_mean[l] + r->target_sd[l] * value, 1e-6);
            }
        }
        mde_context_free(c);
    }
}

static void joint_likelihood_gradient_equals_finite_differences(void)
{
    int kernel, i, k;
    for (kernel = 0; kernel < 3; kernel++) {
        enum { N = 20, D = 3, M = 4 };
        double x[N * D], y[N * M], theta[40], gradient[40], unused[40];
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc = joint_form((mde_kernel)kernel, 0, 1);
        mde_regressor *r;
        mde__joint *q;
        make_data(71, N, D, M, 0.2, x, y);
        r = mde_regressor_fit(c, N, D, M, x, y, &desc);
        CHECK(r != NULL);
        q = (mde__joint *)r->state;
        CHECK(q->parameters == M * (D + 2) + 2 * (D + M) && q->parameters <= 40);
        fill_normal(72, q->parameters, theta);
        for (i = 0; i < q->parameters; i++) theta[i] = 0.5 * theta[i];
        for (i = 0; i < M; i++) theta[i * (D + 2) + D + 1] -= 2;
        for (i = 0; i < N; i++) q->own[i % M].tail[i] = 1 + i % 3;
        for (k = 0; k < 2; k++) {
            if (k == 0) mde__joint_likelihood(q, theta, gradient);
            else mde__joint_loss(theta, gradient, q);
            for (i = 0; i < q->parameters; i++) {
                double h = 1e-3, t = theta[i], f[4];
                int p;
                for (p = 0; p < 4; p++) {
                    theta[i] = t + h * (p < 2 ? p - 2 : p - 1);
                    f[p] = k == 0 ? mde__joint_likelihood(q, theta, NULL) : mde__joint_loss(theta, unused, q);
                }
                theta[i] = t;
                CLOSE(gradient[i], (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), 1e-7);
            }
        }
        mde_context_free(c);
    }
}

static void joint_process_beats_independent_ones_on_correlated_targets(void)
{
    /* eight targets are noisy sums of two functions */
    enum { N = 25, NEW = 150, D = 3, M = 8, ALL = N + NEW };
    double error[2] = { 0, 0 };
    int trial, i, j, model;
    for (trial = 0; trial < 3; trial++) {
        static double x[ALL * D], y[ALL * M], truth[ALL * M], mean[NEW * M];
        mde_random random = mde_random_start(900 + (uint64_t)trial, 1);
        double share[M][2];
        fill_normal(800 + (uint64_t)trial, ALL * D, x);
        for (j = 0; j < M; j++) {
            share[j][0] = mde_random_normal(&random);
            share[j][1] = mde_random_normal(&random);
        }
        for (i = 0; i < ALL; i++) {
            const double *at = x + i * D;
            double f = sin(1.5 * at[0]) + at[1], g = cos(at[2] + at[0]);
            for (j = 0; j < M; j++) {
                truth[i * M + j] = share[j][0] * f + share[j][1] * g;
                y[i * M + j] = truth[i * M + j] + 0.5 * mde_random_normal(&random);
            }
        }
        for (model = 0; model < 2; model++) {
            mde_context *c = mde_context_create(NULL);
            mde_fit_desc desc;
            memset(&desc, 0, sizeof desc);
            desc.model = model ? MDE_MULTITASK_GP : MDE_GP;
            mde_regressor_predict(mde_regressor_fit(c, N, D, M, x, y, &desc), NEW, x + N * D, mean, NULL);
            CHECK(mde_context_status(c) == MDE_OK);
            error[model] += mde_mse(NEW * M, mean, truth + N * M);
            mde_context_free(c);
        }
    }
    printf("    joint process: %.3f of the error of single ones\n", error[1] / error[0]);
    CHECK(error[1] < 0.8 * error[0]);
}

/* Where the first steps are taken on a sample of the runs; a last feature, of the one, says how noisy a run is. */
static void processes_of_many_runs_learn_a_smooth_function(void)
{
    enum { N = 200, NEW = 200, ALL = N + NEW, D = 2, M = 2 };
    static double x[ALL * D], noisy_x[ALL * (D + 1)], y[ALL * M], noisy_y[ALL * M], mean[NEW * M], sd[NEW * M];
    mde_random random = mde_random_start(31, 9);
    double variance = 0, middle[M] = { 0, 0 };
    int i, model;
    make_data(31, ALL, D, M, 0.05, x, y);
    for (i = 0; i < ALL * M; i++) {
        double noise = i / M % 4 ? 0 : 0.3;
        memcpy(noisy_x + i / M * (D + 1), x + i / M * D, D * sizeof *x);
        noisy_x[i / M * (D + 1) + D] = noise;
        noisy_y[i] = y[i] + noise * mde_random_normal(&random);
    }
    for (i = 0; i < NEW * M; i++) middle[i % M] += y[N * M + i] / NEW;
    for (i = 0; i < NEW * M; i++) variance += pow(y[N * M + i] - middle[i % M], 2) / (NEW * M);
    for (model = 0; model < 2; model++) {
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        int width = model ? D : D + 1, inside = 0;
        const double *at = model ? x : noisy_x, *target = model ? y : noisy_y;
        memset(&desc, 0, sizeof desc);
        desc.model = model ? MDE_MULTITASK_GP : MDE_GP;
        desc.noises = width - D;
        CHECK(mde_regressor_predict(mde_regressor_fit(c, N, width, M, at, target, &desc), NEW, at + N * width, mean,
                                    sd) == MDE_OK);
        CHECK(mde_mse(NEW * M, mean, y + N * M) < 0.02 * variance);
        for (i = 0; i < NEW * M; i++) inside += fabs(mean[i] - target[N * M + i]) < 1.645 * sd[i];
        printf("    %.4f of the variance, %d of %d inside\n", mde_mse(NEW * M, mean, y + N * M) / variance, inside, NEW * M);
        CHECK(inside > 0.82 * NEW * M && inside < 0.97 * NEW * M);
        mde_context_free(c);
    }
}

/* ---- All models ---- */

/* Where searches start, and folds, are the seed's: the same one gives the same bits, another one others. */
static void a_seed_decides_where_searches_start(void)
{
    enum { N = 24, D = 3, M = 2, NEW = 5 };
    static const mde_model models[] = { MDE_GP, MDE_MULTITASK_GP, MDE_POOLED_LAW };
    double x[(N + NEW) * D], y[(N + NEW) * M], mean[3][NEW * M];
    size_t model;
    int i, k;
    make_data(17, N + NEW, D, M, 0.3, x, y);
    for (i = 0; i < (N + NEW) * D; i++) x[i] = fabs(x[i]);
    for (model = 0; model < sizeof models / sizeof *models; model++) {
        mde_context *c = mde_context_create(NULL);
        for (k = 0; k < 3; k++) {
            mde_fit_desc desc;
            memset(&desc, 0, sizeof desc);
            desc.model = models[model];
            desc.seed = k < 2 ? 7 : 8;
            mde_regressor_predict(mde_regressor_fit(c, N, D, M, x, y, &desc), NEW, x + N * D, mean[k], NULL);
        }
        CHECK(mde_context_status(c) == MDE_OK);
        CHECK(memcmp(mean[0], mean[1], sizeof mean[0]) == 0);
        CHECK(memcmp(mean[0], mean[2], sizeof mean[0]) != 0);
        mde_context_free(c);
    }
}

static void gradients_of_predictions_equal_finite_differences(void)
{
    int model, i, j, q;
    for (model = 0; model <= 7; model++) {
        enum { N = 24, D = 4, M = 3 };
        double x[N * D], y[N * M], at[D], mean[M], gradient[M * D], up[M], down[M];
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        mde_regressor *r;
        memset(&desc, 0, sizeof desc);
        if (model == 7) desc = gp_form(3);
        else desc.model = model == 0 ? MDE_RIDGE : model <= 2 ? MDE_GP : model <= 4 ? MDE_MULTITASK_GP :
            model == 5 ? MDE_MIXING_LAW : MDE_POOLED_LAW;
        desc.kernel = model % 2 ? MDE_RBF : MDE_MATERN52;
        desc.restarts = 1;
        make_data(15, N, D, M, 0.1, x, y);
        for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
        for (i = 0; i < N; i++) x[i * D + 1] = 0.25;     /* a constant feature */
        r = mde_regressor_fit(c, N, D, M, x, y, &desc);
        for (q = 0; q < D; q++) at[q] = 0.1 + 0.2 * q;
        CHECK(mde_regressor_gradient(r, at, mean, gradient) == MDE_OK);
        for (q = 0; q < D; q++) {
            double h = 1e-5, t = at[q];
            at[q] = t + h;
            CHECK(mde_regressor_predict(r, 1, at, up, NULL) == MDE_OK);
            at[q] = t - h;
            CHECK(mde_regressor_predict(r, 1, at, down, NULL) == MDE_OK);
            at[q] = t;
            for (j = 0; j < M; j++) CLOSE(gradient[j * D + q], (up[j] - down[j]) / (2 * h), 1e-7);
            for (j = 0; j < M; j++) if (q == 1) CHECK(gradient[j * D + q] == 0);
        }
        mde_context_free(c);
    }
}

/* Loss of target j that a mixing law gives, with one run in `every` far off. */
static void make_law(int n, int d, int m, double noise, int every, double *w, double *y, double *truth)
{
    static const double floors[3] = { 2.0, 1.4, 3.1 };
    mde_random random = mde_random_start(31, 1);
    int i, j, q;
    for (i = 0; i < n; i++) {
        double sum = 0;
        for (q = 0; q < d; q++) sum += w[i * d + q] = -log(1 - mde_random_uniform(&random));
        for (q = 0; q < d; q++) w[i * d + q] /= sum;
        for (j = 0; j < m; j++) {
            double exponent = 0.3;
            for (q = 0; q < d; q++) exponent -= (q == j ? 3.0 : 0.4 * q) * w[i * d + q];
            truth[i * m + j] = floors[j] + exp(exponent);
            y[i * m + j] = truth[i * m + j] + noise * mde_random_normal(&random);
            if (every && i % every == 3) y[i * m + j] += 2;
        }
    }
}

static void mixing_law_is_found_again(void)
{
    enum { N = 60, NEW = 200, D = 5, M = 3, ALL = N + NEW };
    static double w[ALL * D], y[ALL * M], truth[ALL * M], mean[NEW * M], sd[NEW * M];
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    int i, inside = 0;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_MIXING_LAW;
    make_law(ALL, D, M, 0.02, 0, w, y, truth);
    r = mde_regressor_fit(c, N, D, M, w, y, &desc);
    CHECK(mde_regressor_predict(r, NEW, w + N * D, mean, sd) == MDE_OK);
    CHECK(mde_mse(NEW * M, mean, truth + N * M) < 0.02 * 0.02);
    for (i = 0; i < NEW * M; i++) inside += fabs(mean[i] - y[N * M + i]) < 1.645 * sd[i];
    CHECK(inside > 0.85 * NEW * M && inside < 0.95 * NEW * M);
    CHECK(mde_regressor_log_likelihood(r, 0) != mde_regressor_log_likelihood(r, 0));
    CHECK(mde_regressor_length_scale(r, 0, 0) != mde_regressor_length_scale(r, 0, 0));
    /* Every tenth run went wrong; least squares would be off by a tenth of that everywhere. */
    make_law(ALL, D, M, 0.02, 10, w, y, truth);
    r = mde_regressor_fit(c, N, D, M, w, y, &desc);
    CHECK(mde_regressor_predict(r, NEW, w + N * D, mean, NULL) == MDE_OK);
    CHECK(mde_mse(NEW * M, mean, truth + N * M) < 0.1 * 0.1);
    mde_context_free(c);
}

/* The gradient of a law's loss is the last row of its normal equations. */
static void check_gradient_of_law(const mde_regressor *r, uint64_t seed, double variance)
{
    enum { LARGEST = 48 };
    double theta[LARGEST] = { 0 }, normal[(LARGEST + 1) * (LARGEST + 1)], gradient[LARGEST];
    mde__law_fit f;
    int i, p = ((const mde__law *)r->state)->parameters;
    const double h = 1e-5;
    CHECK(p <= LARGEST);
    if (p > LARGEST) return;
    memset(&f, 0, sizeof f);
    f.s = (const mde__law *)r->state;
    f.simd = r->context->simd;
    f.n = r->n;
    f.stride = r->used;
    f.robust = 1;
    f.x = r->x;
    f.y = r->y;
    f.variance = variance;
    f.work = mde__doubles(r->context, mde__law_block_work(p), 1);
    CHECK(f.work != NULL);
    if (!f.work) return;
    fill_normal(seed, p, theta);
    for (i = 0; i < p; i++) theta[i] = 0.4 * theta[i] - 0.5;
    mde__law_loss(theta, normal, &f);
    memcpy(gradient, normal + p * (p + 1), (size_t)p * sizeof *gradient);
    for (i = 0; i < p; i++) {
        double keep = theta[i], up;
        theta[i] = keep + h;
        up = mde__law_loss(theta, normal, &f);
        theta[i] = keep - h;
        CLOSE(gradient[i], (up - mde__law_loss(theta, normal, &f)) / (2 * h), 1e-6);
        theta[i] = keep;
    }
    mde_release(r->context, f.work);
}

static void gradient_of_the_mixing_laws_loss_equals_finite_differences(void)
{
    enum { N = 20, D = 4 };
    double x[N * D], y[N];
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_MIXING_LAW;
    make_data(21, N, D, 1, 0.1, x, y);
    r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
    CHECK(r != NULL);
    if (r) check_gradient_of_law(r, 22, 0.05);
    mde_regressor_free(r);
    mde_context_free(c);
}

/* A curve that bends, from a start where a full step overshoots; and a run that is not finite at the start. */
typedef struct marquardt_case { int calls; double scale; } marquardt_case;

static double rosenbrock_squares(const double *theta, double *normal, void *user)
{
    marquardt_case *at = (marquardt_case *)user;
    double a = 1 - theta[0], b = at->scale * (theta[1] - theta[0] * theta[0]), slope = -2 * at->scale * theta[0];
    at->calls++;
    memset(normal, 0, 9 * sizeof *normal);
    normal[0] = 1 + slope * slope;                  /* J'J, lower half, then J'r */
    normal[3] = slope * at->scale;
    normal[4] = at->scale * at->scale;
    normal[6] = -a + slope * b;
    normal[7] = at->scale * b;
    return 0.5 * (a * a + b * b);
}

static void levenberg_marquardt_follows_a_curved_valley(void)
{
    double theta[2] = { -1.2, 1.0 }, *work;
    mde_context *c = mde_context_create(NULL);
    marquardt_case at = { 0, 10 };
    CHECK(c != NULL);
    if (!c) return;
    work = mde__doubles(c, mde__marquardt_work(2), 1);
    CLOSE(mde__marquardt(c->simd, rosenbrock_squares, &at, 2, theta, work), 0, 1e-12);
    CLOSE(theta[0], 1, 1e-6);
    CLOSE(theta[1], 1, 1e-6);
    CHECK(at.calls < 60);                           /* a step along the gradient takes thousands */
    theta[0] = (double)NAN;
    CHECK(isnan(mde__marquardt(c->simd, rosenbrock_squares, &at, 2, theta, work)));
    mde_release(c, work);
    mde_context_free(c);
}

/* Targets whose loss is a power of what the domains are worth to them. */
static void make_pools(int n, int d, int m, double noise, double *w, double *y, double *truth)
{
    mde_random random = mde_random_start(37, 1);
    double alpha[8];
    int i, j, q;
    for (q = 0; q < d; q++) alpha[q] = 0.5;
    for (i = 0; i < n; i++) {
        mde_random_dirichlet(&random, d, alpha, w + i * d);
        for (j = 0; j < m; j++) {
            double data = 1e-3;
            for (q = 0; q < d; q++) data += w[i * d + q] * (q == j ? 1.0 : q == j + 1 ? 0.2 : 0.004);
            truth[i * m + j] = 1.5 + 0.2 * j + 0.6 * pow(data, -0.3);
            y[i * m + j] = truth[i * m + j] + noise * mde_random_normal(&random);
        }
    }
}

static void pooled_law_is_found_again(void)
{
    enum { N = 80, NEW = 200, D = 5, M = 3, ALL = N + NEW };
    static double w[ALL * D], y[ALL * M], truth[ALL * M], mean[NEW * M], sd[NEW * M], left[N * M];
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    int pools, i, j, inside = 0;
    for (pools = 1; pools <= 2; pools++) {
        memset(&desc, 0, sizeof desc);
        desc.model = MDE_POOLED_LAW;
        desc.rank = pools;
        make_pools(ALL, D, M, 0.02, w, y, truth);
        r = mde_regressor_fit(c, N, D, M, w, y, &desc);
        CHECK(mde_regressor_predict(r, NEW, w + N * D, mean, sd) == MDE_OK);
        CHECK(mde_mse(NEW * M, mean, truth + N * M) < 0.02 * 0.02);
        for (i = 0, inside = 0; i < NEW * M; i++) inside += fabs(mean[i] - y[N * M + i]) < 1.645 * sd[i];
        CHECK(inside > 0.85 * NEW * M && inside < 0.95 * NEW * M);
        CHECK(mde_regressor_left_out(r, left) == MDE_OK);
        CHECK(mde_mse(N * M, left, y) > 0.6 * mde_mse(NEW * M, mean, y + N * M));
        CHECK(mde_mse(N * M, left, y) < 2 * mde_mse(NEW * M, mean, y + N * M));
        for (j = 0; j < M; j++) {
            const mde__pools *law = (const mde__pools *)r->state + j;
            const double *worth = law->theta + 1 + MDE__POOL_HEAD;      /* logarithms, of a token of each domain */
            if (pools > 1) break;
            CHECK(law->main == j);
            CHECK(exp(worth[j + 1] - worth[j]) > 0.1 && exp(worth[j + 1] - worth[j]) < 0.4);
            CHECK(exp(worth[(j + 3) % D] - worth[j]) < 0.05);
        }
    }
    w[3] = -0.1;
    CHECK(mde_regressor_fit(c, N, D, M, w, y, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "weight 3 of run 0 is -0.1");
    mde_context_free(c);
}

static void gradient_of_the_pooled_laws_loss_equals_finite_differences(void)
{
    enum { N = 20, D = 4, POOLS = 2, P = 1 + POOLS * (MDE__POOL_HEAD + D) + 2 };
    double x[N * D], y[N], theta[P], gradient[P], unused[P], work[P], columns[D * N], runs[(6 + 3 * POOLS) * N];
    mde__pool_fit f;
    mde__pool_work w;
    int i;
    make_data(21, N, D, 1, 0.1, x, y);
    for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
    fill_normal(22, P, theta);
    for (i = 0; i < P; i++) theta[i] *= 0.5;
    for (i = 0; i < N * D; i++) columns[i % D * N + i / D] = x[i];
    f.simd = mde__simd_choose(MDE_SIMD_BEST);
    f.n = N;
    f.d = D;
    f.pools = POOLS;
    f.main = 1;
    f.x = x;
    f.y = y;
    w.f = &f;
    w.slope = NULL;
    w.exponential = work;
    w.columns = columns;
    w.runs = runs;
    mde__pool_loss(theta, gradient, &w);
    for (i = 0; i < P; i++) {
        double h = 1e-5, t = theta[i], up;
        theta[i] = t + h;
        up = mde__pool_loss(theta, unused, &w);
        theta[i] = t - h;
        CLOSE(gradient[i], (up - mde__pool_loss(theta, unused, &w)) / (2 * h), 1e-6);
        theta[i] = t;
    }
}

/* ---- Law across sizes ---- */

enum { SCALE_D = 5, SCALE_MIXTURES = 20, SCALE_RUNS = SCALE_MIXTURES * 9 };

/* Mixtures of three domains at three sizes, three checkpoints a run: weights, log N, log D. */
static double scale_truth(const double *x)
{
    return 1.7 + exp(0.2 - 1.5 * x[0] + 0.4 * x[1]) + 250 * exp(-0.31 * x[3]) + 900 * exp(-0.36 * x[4]);
}

static void make_scales(double noise, double *x, double *y)
{
    static const double alpha[3] = { 1, 1, 1 };
    mde_random random = mde_random_start(7, 1);
    int i;
    for (i = 0; i < SCALE_RUNS; i++) {
        double *row = x + i * SCALE_D;
        if (i < SCALE_MIXTURES) mde_random_dirichlet(&random, 3, alpha, row);
        else memcpy(row, x + i % SCALE_MIXTURES * SCALE_D, 3 * sizeof(double));
        row[3] = log(2e7) + i / SCALE_MIXTURES % 3 * log(2.5);
        row[4] = log(1e9) + i / SCALE_MIXTURES / 3 * log(2.0);
        y[i] = scale_truth(row) + noise * mde_random_normal(&random);
    }
}

static void law_across_sizes_is_found_again(void)
{
    double x[SCALE_RUNS * SCALE_D], y[SCALE_RUNS], left[SCALE_RUNS], mean, sd, squares = 0;
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    int form, i, covered = 0;
    make_scales(0.005, x, y);
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_SCALE_LAW;
    for (form = 0; form < 2; form++) {
        desc.interactions = form;
        r = mde_regressor_fit(c, SCALE_RUNS, SCALE_D, 1, x, y, &desc);
        CHECK(r != NULL);
        if (!r) break;
        for (i = 0; i < SCALE_MIXTURES; i++) {     /* ten times larger than the largest, four times longer */
            double at[SCALE_D];
            memcpy(at, x + i * SCALE_D, sizeof at);
            at[3] = log(1.25e9);
            at[4] = log(1.6e10);
            CHECK(mde_regressor_predict(r, 1, at, &mean, &sd) == MDE_OK);
            CLOSE(mean / scale_truth(at), 1, 0.03);
            covered += fabs(mean - scale_truth(at)) < 1.645 * sd;
            /* what extrapolation adds is part of the sd, which near the runs is that of the noise */
            CHECK(sd > 0.015);
            CHECK(mde_regressor_predict(r, 1, x + (i + 80) * SCALE_D, &mean, &sd) == MDE_OK);
            CHECK(sd > 0.004 && sd < 0.01);
        }
        CHECK(mde_regressor_left_out(r, left) == MDE_OK);
        for (i = 0; i < SCALE_RUNS; i++) {
            squares += (left[i] - y[i]) * (left[i] - y[i]);
            CHECK(r->fold[i] == r->fold[i % SCALE_MIXTURES]);   /* a mixture is in one fold, whatever its sizes */
        }
        mde_regressor_free(r);
    }
    CHECK(covered >= 36);
    CLOSE(sqrt(squares / (2 * SCALE_RUNS)), 0.006, 0.002);
    CHECK(mde_regressor_fit(c, SCALE_RUNS, 2, 1, x, y, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "log N and log D, but there are 2 features");
    mde_context_free(c);
}

/* Also where all runs have the same size, or tokens: then that term is not there, and nothing changes with it. */
static void gradients_of_the_law_across_sizes_equal_finite_differences(void)
{
    double x[SCALE_RUNS * SCALE_D], y[SCALE_RUNS], slope[SCALE_D], mean, up;
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    int form, i;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_SCALE_LAW;
    for (form = 0; form < 4; form++) {
        mde_regressor *r;
        const double h = 1e-5;
        make_scales(0.005, x, y);
        for (i = 0; i < SCALE_RUNS && form > 1; i++) x[i * SCALE_D + 1 + form] = log(1e9);
        desc.interactions = form % 2;
        r = mde_regressor_fit(c, SCALE_RUNS, SCALE_D, 1, x, y, &desc);
        CHECK(r != NULL);
        if (!r) break;
        check_gradient_of_law(r, 40 + (uint64_t)form, 0.05);
        CHECK(mde_regressor_gradient(r, x, &mean, slope) == MDE_OK);
        for (i = 0; i < SCALE_D; i++) {
            double keep = x[i], down;
            x[i] = keep + h;
            CHECK(mde_regressor_predict(r, 1, x, &up, NULL) == MDE_OK);
            x[i] = keep - h;
            CHECK(mde_regressor_predict(r, 1, x, &down, NULL) == MDE_OK);
            x[i] = keep;
            CLOSE(slope[i], (up - down) / (2 * h), 1e-6);
            if (form > 1 && i == 1 + form) CHECK(slope[i] == 0);
        }
        mde_regressor_free(r);
    }
    mde_context_free(c);
}

/* J C J' with derivatives of the predicted means by the parameters; its diagonal is the variance without the noise. */
static void covariances_of_the_law_across_sizes_are_those_of_its_parameters(void)
{
    enum { AT = 5, TARGET = 0 };
    double x[SCALE_RUNS * SCALE_D], y[SCALE_RUNS], out[AT * AT], slope[AT][40], mean[AT], up[AT], sd[AT];
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    mde__law *s;
    int i, j, a, b;
    const double h = 1e-5;
    make_scales(0.005, x, y);
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_SCALE_LAW;
    desc.interactions = 1;
    r = mde_regressor_fit(c, SCALE_RUNS, SCALE_D, 1, x, y, &desc);
    CHECK(r != NULL);
    if (!r) return;
    s = (mde__law *)r->state;
    CHECK(mde_regressor_covariance(r, TARGET, AT, x, out) == MDE_OK);
    CHECK(mde_regressor_predict(r, AT, x, mean, sd) == MDE_OK);
    for (j = 0; j < s->parameters; j++) {
        double keep = s->theta[j];
        s->theta[j] = keep + h;
        CHECK(mde_regressor_predict(r, AT, x, up, NULL) == MDE_OK);
        s->theta[j] = keep - h;
        CHECK(mde_regressor_predict(r, AT, x, mean, NULL) == MDE_OK);
        s->theta[j] = keep;
        for (i = 0; i < AT; i++) slope[i][j] = (up[i] - mean[i]) / (2 * h);
    }
    for (a = 0; a < AT; a++) {
        double noise = r->target_sd[TARGET] * r->target_sd[TARGET] * s->residual[TARGET];
        CLOSE(out[a * AT + a] + noise, sd[a] * sd[a], 1e-12);
        for (b = 0; b < AT; b++) {
            double sum = 0;
            for (i = 0; i < s->parameters; i++) {
                for (j = 0; j < s->parameters; j++) {
                    sum += slope[a][i] * s->covariance[i * s->parameters + j] * slope[b][j];
                }
            }
            CLOSE(out[a * AT + b], sum, 1e-6 * fabs(sum) + 1e-12);
            CHECK(out[a * AT + b] == out[b * AT + a]);
        }
    }
    CHECK(mde_regressor_covariance(r, 1, AT, x, out) != MDE_OK);
    CHECK_TEXT(mde_error(c), "needs a law, a target");
    mde_regressor_free(r);
    mde_context_free(c);
}

/* One tree of depth 1 against a search through all splits; in every second table many runs share the lowest value. */
static void a_tree_splits_where_the_squares_get_least(void)
{
    enum { N = 30, D = 3 };
    mde_context *c = mde_context_create(NULL);
    int table, i, k, q, above_lowest = 0;
    for (table = 0; table < 20; table++) {
        double x[N * D], y[N], mean[N], best = HUGE_VAL, expected[N] = { 0 }, total = 0;
        mde_fit_desc desc;
        int lowest = 0;
        memset(&desc, 0, sizeof desc);
        desc.model = MDE_TREES;
        desc.trees = desc.depth = 1;
        desc.rate = 1;
        make_data(77 + (uint64_t)table, N, D, 1, 0.3, x, y);
        for (i = 0; i < N * D && table % 2 == 1; i++) if (x[i] < 0) x[i] = 0;
        for (q = 0; q < D; q++) {
            for (k = 0; k < N; k++) {
                double sum[2] = { 0, 0 }, squares = 0;
                int count[2] = { 0, 0 };
                for (i = 0; i < N; i++) {
                    sum[x[i * D + q] > x[k * D + q]] += y[i];
                    count[x[i * D + q] > x[k * D + q]]++;
                }
                if (count[0] < MDE__SMALLEST_LEAF || count[1] < MDE__SMALLEST_LEAF) continue;
                for (i = 0; i < N; i++) {
                    int side = x[i * D + q] > x[k * D + q];
                    squares += (y[i] - sum[side] / count[side]) * (y[i] - sum[side] / count[side]);
                }
                if (squares >= best) continue;
                best = squares;
                lowest = table % 2 == 1 && x[k * D + q] <= 0;
                for (i = 0; i < N; i++) {
                    int side = x[i * D + q] > x[k * D + q];
                    expected[i] = sum[side] / count[side];
                }
            }
        }
        CHECK(mde_regressor_predict(mde_regressor_fit(c, N, D, 1, x, y, &desc), N, x, mean, NULL) == MDE_OK);
        for (i = 0; i < N; i++) {
            CLOSE(mean[i], expected[i], 1e-12);
            total += mean[i] - y[i];
        }
        CLOSE(total, 0, 1e-10);
        above_lowest += lowest;
    }
    CHECK(above_lowest > 2);
    mde_context_free(c);
}

/* Share of the variance. */
static double explained(int n, const double *predicted, const double *truth)
{
    double mean, sd;
    mde__moments(n, truth, 1, &mean, &sd);
    return 1 - mde_mse(n, predicted, truth) / (sd * sd);
}

static void trees_learn_steps_and_know_their_spread(void)
{
    enum { N = 300, NEW = 300, D = 3, ALL = N + NEW };
    static double x[ALL * D], y[ALL], truth[ALL], mean[NEW], sd[NEW];
    mde_random random = mde_random_start(5, 5);
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    double gradient[D];
    int i, inside = 0;
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_TREES;
    fill_normal(6, ALL * D, x);
    for (i = 0; i < ALL; i++) {
        truth[i] = (x[i * D] > 0.2 ? 1 : -1) * (x[i * D + 1] > -0.4 ? 2 : 0.5);
        y[i] = truth[i] + 0.2 * mde_random_normal(&random);
    }
    r = mde_regressor_fit(c, N, D, 1, x, y, &desc);
    CHECK(mde_regressor_predict(r, NEW, x + N * D, mean, sd) == MDE_OK);
    CHECK(explained(NEW, mean, truth + N) > 0.97);
    for (i = 0; i < NEW; i++) inside += fabs(mean[i] - y[N + i]) < 1.645 * sd[i];
    CHECK(inside > 0.84 * NEW && inside < 0.96 * NEW);
    CHECK(mde_regressor_gradient(r, x, mean, gradient) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "no gradient");
    mde_context_free(c);
}

static void constant_targets_and_features_are_fine(void)
{
    int model, i;
    for (model = 0; model <= MDE_TREES; model++) {
        enum { N = 9, M = 2 };
        double x[N * 2], y[N * M], mean[N * M], sd[N * M];
        mde_context *c = mde_context_create(NULL);
        mde_fit_desc desc;
        mde_regressor *r;
        memset(&desc, 0, sizeof desc);
        desc.model = (mde_model)model;
        for (i = 0; i < N; i++) {
            x[i * 2] = 0.1;
            x[i * 2 + 1] = 0.3 * i;
            y[i * M] = 2.7;
            y[i * M + 1] = i;
        }
        r = mde_regressor_fit(c, N, 2, M, x, y, &desc);
        CHECK(mde_regressor_predict(r, N, x, mean, sd) == MDE_OK);
        for (i = 0; i < N; i++) {
            CLOSE(mean[i * M], 2.7, 1e-15);
            CLOSE(sd[i * M], 0, 0);
            if (model == MDE_POOLED_LAW) continue;      /* more data never make its loss greater */
            CLOSE(mean[i * M + 1], i, model == MDE_TREES ? 1.1 : 0.3);      /* a leaf has three runs */
        }
        if (model == MDE_GP || model == MDE_MULTITASK_GP) {
            CHECK(mde_regressor_length_scale(r, 1, 0) == (double)INFINITY);
        }
        for (i = 0; i < N; i++) x[i * 2 + 1] = 4;        /* no feature is left: the mean */
        r = mde_regressor_fit(c, N, 2, M, x, y, &desc);
        CHECK(mde_regressor_predict(r, 1, x, mean, sd) == MDE_OK);
        CLOSE(mean[1], 4, 1e-9);
        CHECK(sd[1] > 1.5 && sd[1] < 5);
        CHECK(mde_context_status(c) == MDE_OK);
        mde_context_free(c);
    }
}

static void bad_input_is_named(void)
{
    double x[6] = { 1, 2, 3, 4, 5, 7 }, y[3] = { 1, 2, 4 }, out[3];
    mde_context *c = mde_context_create(NULL);
    mde_fit_desc desc;
    mde_regressor *r;
    memset(&desc, 0, sizeof desc);
    x[3] = (double)NAN;
    CHECK(mde_regressor_fit(c, 3, 2, 1, x, y, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "x row 1, column 1 is nan");
    CHECK(mde_context_status(c) == MDE_NOT_FINITE);
    CHECK(mde_regressor_predict(NULL, 1, x, out, NULL) != MDE_OK);
    mde_clear_error(c);
    x[3] = 4;
    y[2] = (double)INFINITY;
    CHECK(mde_regressor_fit(c, 3, 2, 1, x, y, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "y row 2, column 0 is inf");
    mde_clear_error(c);
    y[2] = 4;
    CHECK(mde_regressor_fit(c, 1, 2, 1, x, y, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "1 runs");
    mde_clear_error(c);
    desc.penalty = -1;
    CHECK(mde_regressor_fit(c, 3, 2, 1, x, y, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "penalty is -1");
    mde_clear_error(c);
    memset(&desc, 0, sizeof desc);
    desc.model = MDE_TREES;
    desc.depth = 40;
    CHECK(mde_regressor_fit(c, 3, 2, 1, x, y, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "depth 40");
    mde_clear_error(c);
    r = mde_regressor_fit(c, 3, 2, 1, x, y, NULL);
    CHECK(r != NULL);
    x[1] = (double)NAN;
    CHECK(mde_regressor_predict(r, 3, x, out, NULL) == MDE_NOT_FINITE);
    CHECK_TEXT(mde_error(c), "x row 0, column 1 is nan");
    mde_context_free(c);
}

static void measures_equal_their_definitions(void)
{
    mde_context *c = mde_context_create(NULL);
    double truth[5] = { 1, 2, 3, 4, 6 }, predicted[5] = { 1, 2, 2, 5, 5 }, same[3] = { 2, 2, 2 };
    CLOSE(mde_mse(5, predicted, truth), 3.0 / 5, 1e-15);
    /* ranks 1 2 3 4 5 and 1 2.5 2.5 4.5 4.5: covariance 9 / 5, variances 2 and 9 / 5 */
    CLOSE(mde_spearman(c, 5, truth, predicted), 1.8 / sqrt(2 * 1.8), 1e-14);
    CLOSE(mde_spearman(c, 5, truth, truth), 1, 1e-15);
    CHECK(mde_spearman(c, 3, truth, same) != mde_spearman(c, 3, truth, same));
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* How many are smaller less how many are larger, counted one by one. */
static double plain_rank(int n, const double *a, int i)
{
    double rank = 0;
    int j;
    for (j = 0; j < n; j++) rank += (a[j] < a[i]) - (a[j] > a[i]);
    return rank;
}

static void a_rank_correlation_with_ties_is_that_of_counted_ranks(void)
{
    enum { N = 300, MANY = 200000 };
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(2, 8);
    double a[N], b[N], aa = 0, bb = 0, ab = 0, *many = mde__doubles(c, 2, MANY);
    int i;
    for (i = 0; i < N; i++) {
        a[i] = (double)mde_random_below(&random, 40);
        b[i] = a[i] + (double)mde_random_below(&random, 40);
    }
    for (i = 0; i < N; i++) {
        double u = plain_rank(N, a, i), v = plain_rank(N, b, i);
        aa += u * u;
        bb += v * v;
        ab += u * v;
    }
    CHECK(mde_spearman(c, N, a, b) == ab / sqrt(aa * bb));
    a[7] = (double)NAN;
    CHECK(isnan(mde_spearman(c, N, a, b)));
    for (i = 0; i < 2 * MANY; i++) many[i] = mde_random_normal(&random);
    /* counted one by one, minutes */
    CHECK(fabs(mde_spearman(c, MANY, many, many + MANY)) < 0.02);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void too_many_runs_for_a_process_are_refused_before_any_work(void)
{
    static const mde_model models[] = { MDE_GP, MDE_MULTITASK_GP, MDE_STACK, MDE_AUTO };
    enum { N = MDE_MAX_GP_RUNS + 1, K = 3 };
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(5, 8);
    double *w = mde__doubles(c, N, K), *y = mde__doubles(c, N, 1);
    mde_surrogate_desc desc;
    mde_surrogate *s;
    int i;
    for (i = 0; i < N; i++) {
        mde_random_mixture(&random, K, w + i * K);
        y[i] = w[i * K] + 0.1 * mde_random_normal(&random);
    }
    memset(&desc, 0, sizeof desc);
    for (i = 0; i < 4; i++) {
        desc.fit.model = models[i];
        CHECK(mde_surrogate_fit(c, N, K, 1, w, y, &desc) == NULL);
        CHECK_TEXT(mde_error(c), "2001 runs: a Gaussian process, as a stack has them, too, takes at most 2000");
        mde_clear_error(c);
        CHECK(mde_evaluate(c, N, K, 1, w, y, &desc, NULL) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
        mde_clear_error(c);
    }
    desc.fit.model = MDE_RIDGE;
    s = mde_surrogate_fit(c, N, K, 1, w, y, &desc);
    CHECK(s && mde_surrogate_predict(s, 1, w, y, NULL) == MDE_OK);
    mde_context_free(c);
}

/* Repeats to the bit, repeats to 1e-9 and runs that are none, in a table that pairwise comparisons take minutes for. */
static void repeated_runs_are_found_among_many(void)
{
    enum { N = 50000, K = 5, SMALL = 400 };
    static const double pair[] = { 0.5 + 4e-10, 0.5 - 4e-10, 0.5, 0.5 };
    static const double bound[] = { 1e-9, 1, 0, 1 }, beyond[] = { 1.000001e-9, 1, 0, 1 };
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(3, 8);
    double *w = mde__doubles(c, N, K);
    int *first = (int *)mde_alloc(c, N, sizeof *first), i, j, q, mixtures, wrong = 0;
    for (i = 0; i < N; i++) {
        int of = i % 3 ? 3 * (int)mde_random_below(&random, (uint64_t)(i / 3 + 1)) : i;
        if (of == i) mde_random_mixture(&random, K, w + i * K);
        else memcpy(w + i * K, w + of * K, K * sizeof *w);
        if (i % 3 == 2) w[i * K] += 4e-10, w[i * K + 1] -= 4e-10;
    }
    for (i = 0; i < K; i++) w[(N - 1) * K + i] = w[i] + (i == 2 ? 2e-9 : 0);
    CHECK(mde_first_repeats(c, 2, 2, pair, first) == 1 && first[0] == 0 && first[1] == 0);
    CHECK(mde_first_repeats(c, 2, 2, bound, first) == 1 && mde_first_repeats(c, 2, 2, beyond, first) == 2);
    CHECK(mde_first_repeats(c, SMALL, K, w, first) > SMALL / 4);
    for (i = 0; i < SMALL; i++) {
        for (j = 0; j < i; j++) {
            for (q = 0; q < K && fabs(w[i * K + q] - w[j * K + q]) <= 1e-9; q++) {}
            wrong += (q == K) != (first[i] == first[j]);
        }
    }
    CHECK(wrong == 0);
    mixtures = mde_first_repeats(c, N, K, w, first);
    CHECK(mixtures > N / 4 && mixtures < N / 2 && first[N - 1] == N - 1);
    for (i = 0; i < N; i++) wrong += first[first[i]] != first[i] || first[i] > i;
    for (i = 0; i < N * K; i++) w[i] = 1.0 / K;
    CHECK(mde_first_repeats(c, N, K, w, first) == 1 && first[N - 1] == 0);
    CHECK(wrong == 0 && mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void results_do_not_depend_on_threads_or_instruction_set(void)
{
    enum { N = 30, D = 4, M = 5 };
    static double x[N * D], y[N * M], first[N * M], first_sd[N * M], mean[N * M], sd[N * M];
    int model, variant, i;
    make_data(44, N, D, M, 0.1, x, y);
    for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
    for (model = 0; model <= MDE_TREES; model++) {
        for (variant = 0; variant < 3; variant++) {
            mde_context_desc desc;
            mde_fit_desc fit;
            mde_context *c;
            memset(&desc, 0, sizeof desc);
            memset(&fit, 0, sizeof fit);
            fit.model = (mde_model)model;
            desc.threads = variant == 1 ? 3 : 1;
            desc.simd = variant == 2 ? MDE_SIMD_PORTABLE : MDE_SIMD_BEST;
            c = mde_context_create(&desc);
            CHECK(mde_regressor_predict(mde_regressor_fit(c, N, D, M, x, y, &fit), N, x, mean, sd) == MDE_OK);
            if (variant == 0) {
                memcpy(first, mean, sizeof mean);
                memcpy(first_sd, sd, sizeof sd);
            }
            CHECK(memcmp(mean, first, sizeof mean) == 0);
            CHECK(memcmp(sd, first_sd, sizeof sd) == 0);
            mde_context_free(c);
        }
    }
}

/* ---- Features and surrogates ---- */

static void features_stand_in_the_order_of_their_names(void)
{
    double weights[4] = { 0.25, 0.75, 1, 0 }, mde[6] = { 1, 2, 3, 4, 5, 6 }, out[26];
    mde_context *c = mde_context_create(NULL);
    int set = MDE_FEATURE_RAW | MDE_FEATURE_LOG | MDE_FEATURE_MDE | MDE_FEATURE_OWN;
    CHECK(mde_feature_count(set, 2, 3) == 8);
    CHECK(mde_feature_count(MDE_FEATURE_LOG, 2, 3) == 2);
    CHECK(mde_features(c, set, 2, 2, weights, 3, mde, 1, out) == MDE_OK);
    CLOSE(out[1], 0.75, 0);
    CLOSE(out[2], log(0.251), 1e-15);
    CLOSE(out[6], 3, 0);
    CLOSE(out[7], 2, 0);
    CLOSE(out[11], log(0.001), 1e-15);
    CLOSE(out[15], 5, 0);
    set |= MDE_FEATURE_SQRT | MDE_FEATURE_PRODUCTS;
    CHECK(mde_feature_count(set, 2, 3) == 13);
    CHECK(mde_features(c, set, 2, 2, weights, 3, mde, 1, out) == MDE_OK);
    CLOSE(out[8], 0.5, 0);
    CLOSE(out[9], sqrt(0.75), 1e-15);
    CLOSE(out[10], log(0.251) * log(0.251), 1e-14);
    CLOSE(out[11], log(0.751) * log(0.251), 1e-14);
    CLOSE(out[12], log(0.751) * log(0.751), 1e-14);
    CLOSE(out[25], log(0.001) * log(0.001), 1e-13);
    CHECK(mde_features(c, 512, 2, 2, weights, 3, mde, 1, out) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_features(c, MDE_FEATURE_POOLED, 2, 2, weights, 3, mde, 1, out) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_features(c, MDE_FEATURE_POWER | MDE_FEATURE_SCARCE, 2, 2, weights, 3, mde, 1, out) == MDE_OK);
    CLOSE(out[0], pow(0.25 + 1e-6, 0.3), 1e-14);
    CLOSE(out[2], pow(1e-3 / 0.251, 2), 1e-14);
    CHECK(mde_features(c, MDE_FEATURE_OWN, 2, 2, weights, 3, NULL, 1, out) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "mixture losses");
    mde_clear_error(c);
    weights[1] = -0.5;
    CHECK(mde_features(c, MDE_FEATURE_LOG, 2, 2, weights, 3, NULL, 1, out) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "weight 1 of mixture 0 is -0.5");
    mde_context_free(c);
}

enum { TOKENS = 200, EXPERTS = 3, TEXTS = 2, RUNS = 14 };

static mde_experts *make_experts(mde_context *c)
{
    static const char *names[EXPERTS] = { "a", "b", "c" };
    static const char *texts[TEXTS] = { "u", "v" };
    static float logp[EXPERTS][TOKENS];
    const float *rows[EXPERTS];
    mde_random random = mde_random_start(12, 0);
    mde_experts *e = mde_experts_create(c, EXPERTS, names);
    int i, j, t;
    for (j = 0; j < TEXTS; j++) {
        for (i = 0; i < EXPERTS; i++) {
            for (t = 0; t < TOKENS; t++) logp[i][t] = (float)(-0.1 - (i == j ? 1 : 3) * mde_random_uniform(&random));
            rows[i] = logp[i];
        }
        mde_experts_add(e, texts[j], TOKENS, rows, NULL, 0);
    }
    return e;
}

static void surrogate_sees_each_targets_own_expert_loss(void)
{
    double weights[RUNS * EXPERTS], losses[RUNS * TEXTS], mde[RUNS * TEXTS], mean[RUNS * TEXTS], sd[RUNS * TEXTS];
    double x[RUNS * (EXPERTS + 1)], y[RUNS], expected[RUNS], expected_sd[RUNS], alpha[EXPERTS] = { 1, 1, 1 };
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(4, 4);
    mde_experts *e = make_experts(c);
    mde_surrogate_desc desc;
    mde_surrogate *s;
    int i, j, model;
    for (i = 0; i < RUNS; i++) mde_random_dirichlet(&random, EXPERTS, alpha, weights + i * EXPERTS);
    CHECK(mde_mixture_losses(e, RUNS, weights, mde) == MDE_OK);
    for (i = 0; i < RUNS * TEXTS; i++) losses[i] = 0.8 * mde[i] + 0.1 + 0.01 * mde_random_normal(&random);
    for (model = 0; model <= 1; model++) {
        memset(&desc, 0, sizeof desc);
        desc.experts = e;
        desc.fit.model = (mde_model)model;
        desc.features = MDE_FEATURE_LOG | MDE_FEATURE_OWN;
        s = mde_surrogate_fit(c, RUNS, EXPERTS, TEXTS, weights, losses, &desc);
        CHECK(mde_surrogate_predict(s, RUNS, weights, mean, sd) == MDE_OK);
        for (j = 0; j < TEXTS; j++) {
            mde_regressor *r;
            mde_features(c, MDE_FEATURE_LOG | MDE_FEATURE_OWN, RUNS, EXPERTS, weights, TEXTS, mde, j, x);
            for (i = 0; i < RUNS; i++) y[i] = losses[i * TEXTS + j];
            r = mde_regressor_fit(c, RUNS, EXPERTS + 1, 1, x, y, &desc.fit);
            CHECK(mde_regressor_predict(r, RUNS, x, expected, expected_sd) == MDE_OK);
            for (i = 0; i < RUNS; i++) {
                CHECK(mean[i * TEXTS + j] == expected[i]);
                CHECK(sd[i * TEXTS + j] == expected_sd[i]);
            }
        }
        mde_surrogate_free(s);
    }
    /* one process for all targets sees all expert losses */
    desc.fit.model = MDE_MULTITASK_GP;
    s = mde_surrogate_fit(c, RUNS, EXPERTS, TEXTS, weights, losses, &desc);
    CHECK(s && s->features == (MDE_FEATURE_LOG | MDE_FEATURE_MDE) && s->count == 1);
    CHECK(mde_surrogate_predict(s, RUNS, weights, mean, sd) == MDE_OK);
    CHECK(explained(RUNS * TEXTS, mean, losses) > 0.9);

    CHECK(mde_surrogate_fit(c, RUNS / 2, EXPERTS * 2, TEXTS, weights, losses, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "3 experts for mixtures of 6 weights");
    mde_clear_error(c);
    CHECK(mde_surrogate_fit(c, RUNS, EXPERTS, 1, weights, losses, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "2 validation texts for 1 losses");
    mde_clear_error(c);
    desc.experts = NULL;
    desc.features = MDE_FEATURE_OWN;
    CHECK(mde_surrogate_fit(c, RUNS, EXPERTS, TEXTS, weights, losses, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "need experts");
    mde_clear_error(c);
    desc.features = 0;
    desc.fit.model = MDE_RIDGE;
    s = mde_surrogate_fit(c, RUNS, EXPERTS, TEXTS, weights, losses, &desc);
    CHECK(s && s->features == MDE_FEATURE_LOG && s->count == 1);
    mde_context_free(c);
}

/* Every feature at once, and every model, by its weights. */
static void surrogate_gradients_equal_finite_differences(void)
{
    static const int sets[7] = {
        MDE_FEATURE_RAW | MDE_FEATURE_LOG | MDE_FEATURE_MDE | MDE_FEATURE_OWN | MDE_FEATURE_SQRT,
        MDE_FEATURE_PRODUCTS | MDE_FEATURE_POWER, MDE_FEATURE_POWER | MDE_FEATURE_POOLED | MDE_FEATURE_SCARCE, 0, 0, 0, 0
    };
    static const mde_model models[7] = { MDE_RIDGE, MDE_RIDGE, MDE_GP, MDE_GP, MDE_MULTITASK_GP, MDE_POOLED_LAW,
                                         MDE_MIXING_LAW };
    double weights[RUNS * EXPERTS], losses[RUNS * TEXTS], mde[RUNS * TEXTS], alpha[EXPERTS] = { 1, 1, 1 };
    mde_context *c = mde_context_create(NULL);
    mde_random random = mde_random_start(4, 5);
    mde_experts *e = make_experts(c);
    int i, j, q, form;
    for (i = 0; i < RUNS; i++) mde_random_dirichlet(&random, EXPERTS, alpha, weights + i * EXPERTS);
    mde_mixture_losses(e, RUNS, weights, mde);
    for (i = 0; i < RUNS * TEXTS; i++) losses[i] = 0.8 * mde[i] + 0.1 + 0.01 * mde_random_normal(&random);
    for (form = 0; form < 7; form++) {
        double w[EXPERTS] = { 0.2, 0.5, 0.3 }, mean[TEXTS], gradient[TEXTS * EXPERTS], up[TEXTS], down[TEXTS];
        mde_surrogate_desc desc;
        mde_surrogate *s;
        memset(&desc, 0, sizeof desc);
        desc.fit.model = models[form];
        desc.features = sets[form];
        desc.experts = form == 5 || form == 6 ? NULL : e;
        s = mde_surrogate_fit(c, RUNS, EXPERTS, TEXTS, weights, losses, &desc);
        CHECK(mde_surrogate_smooth(s));
        CHECK(mde_surrogate_gradient(s, w, mean, gradient) == MDE_OK);
        for (q = 1; q < EXPERTS; q++) {         /* along the simplex: the experts' loss is defined there only */
            double h = 1e-5;
            w[q] += h;
            w[0] -= h;
            CHECK(mde_surrogate_predict(s, 1, w, up, NULL) == MDE_OK);
            w[q] -= 2 * h;
            w[0] += 2 * h;
            CHECK(mde_surrogate_predict(s, 1, w, down, NULL) == MDE_OK);
            w[q] += h;
            w[0] -= h;
            for (j = 0; j < TEXTS; j++) {
                CLOSE(gradient[j * EXPERTS + q] - gradient[j * EXPERTS], (up[j] - down[j]) / (2 * h), 1e-6);
            }
        }
        mde_surrogate_free(s);
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

static void missing_losses_are_left_out_of_their_target_alone(void)
{
    enum { N = 40, D = 4, M = 3 };
    static const mde_model models[4] = { MDE_RIDGE, MDE_GP, MDE_POOLED_LAW, MDE_TREES };
    double w[N * D], y[N * M], truth[N * M], few_w[N * D], few_y[N], mean[N * M], expected[N], left[N * M];
    mde_context *c = mde_context_create(NULL);
    mde_surrogate_desc desc;
    mde_surrogate *s, *alone;
    int form, i, count = 0;
    make_pools(N, D, M, 0.02, w, y, truth);
    for (i = 0; i < N; i++) {
        if (i % 3 == 1) {
            y[i * M + 1] = (double)NAN;
        } else {
            memcpy(few_w + count * D, w + i * D, D * sizeof(double));
            few_y[count++] = y[i * M + 1];
        }
    }
    for (form = 0; form < 4; form++) {
        memset(&desc, 0, sizeof desc);
        desc.fit.model = models[form];
        desc.fit.trees = 50;
        s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
        alone = mde_surrogate_fit(c, count, D, 1, few_w, few_y, &desc);
        CHECK(mde_surrogate_predict(s, N, w, mean, NULL) == MDE_OK);
        CHECK(mde_surrogate_predict(alone, N, w, expected, NULL) == MDE_OK);
        for (i = 0; i < N; i++) CHECK(mean[i * M + 1] == expected[i]);
        CHECK(mde_surrogate_left_out(s, left) == MDE_OK);
        for (i = 0; i < N; i++) CHECK((left[i * M + 1] == mean[i * M + 1]) == (i % 3 == 1) || models[form] == MDE_TREES);
        mde_surrogate_free(s);
        mde_surrogate_free(alone);
    }
    desc.fit.model = MDE_MULTITASK_GP;
    s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
    CHECK(s && s->regressors[0]->n == count);
    for (i = 0; i < N; i++) if (i > 4) y[i * M] = (double)NAN;
    for (i = 0; i < N; i++) if (i > 1) y[i * M + 1] = (double)NAN;
    desc.fit.model = MDE_GP;
    CHECK(mde_surrogate_fit(c, N, D, M, w, y, &desc) == NULL);
    CHECK_TEXT(mde_error(c), "loss 1 is there in 1 runs");
    mde_context_free(c);
}

static void stack_weighs_its_members_by_their_errors(void)
{
    enum { N = 100, NEW = 200, D = 4, M = 3 };
    static double w[(N + NEW) * D], y[(N + NEW) * M], truth[(N + NEW) * M], mean[NEW * M], sd[NEW * M], left[N * M];
    mde_context *c = mde_context_create(NULL);
    mde_surrogate_desc desc;
    mde_surrogate *s;
    int i, j, q, inside = 0;
    memset(&desc, 0, sizeof desc);
    desc.fit.model = MDE_STACK;
    desc.fit.trees = 50;
    make_pools(N + NEW, D, M, 0.02, w, y, truth);
    s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
    CHECK(mde_surrogate_predict(s, NEW, w + N * D, mean, sd) == MDE_OK);
    CHECK(mde_mse(NEW * M, mean, truth + N * M) < 0.02 * 0.02);
    for (i = 0; i < NEW * M; i++) inside += fabs(mean[i] - y[N * M + i]) < 1.645 * sd[i];
    CHECK(inside > 0.85 * NEW * M && inside < 0.97 * NEW * M);
    for (j = 0; j < M; j++) {
        double sum = 0;
        for (q = 0; q < mde_surrogate_members(s); q++) sum += mde_surrogate_share(s, j, q);
        CLOSE(sum, 1, 1e-12);
        /* the law that made the runs is the best of them */
        CHECK(strcmp(mde_surrogate_member(s, 0), "pooled law") == 0);
        CHECK(mde_surrogate_share(s, j, 0) > 0.3);
    }
    CHECK(mde_surrogate_left_out(s, left) == MDE_OK);
    CHECK(mde_mse(N * M, left, y) < 2 * mde_mse(NEW * M, mean, y + N * M));
    CHECK(mde_surrogate_member(s, 99) == NULL && mde_surrogate_share(s, 0, 99) != mde_surrogate_share(s, 0, 99));
    mde_context_free(c);
}

/* Losses that are exponentials of the weights, or powers of them. */
static void a_process_takes_the_inputs_that_suit_its_losses(void)
{
    enum { N = 30, D = 4, M = 2 };
    mde_context *c = mde_context_create(NULL);
    int exponentials, i, j;
    for (exponentials = 0; exponentials < 2; exponentials++) {
        const double alpha[D] = { 1, 1, 1, 1 };
        double w[N * D], y[N * M];
        int inputs = exponentials ? MDE_FEATURE_RAW | MDE_FEATURE_SQRT : MDE_FEATURE_LOG | MDE_FEATURE_POWER;
        mde_random random = mde_random_start(31, 7);
        mde_surrogate_desc desc;
        mde_surrogate *s;
        memset(&desc, 0, sizeof desc);
        desc.fit.model = MDE_GP;
        for (i = 0; i < N; i++) {
            const double *at = w + i * D;
            mde_random_dirichlet(&random, D, alpha, w + i * D);
            for (j = 0; j < M; j++) {
                y[i * M + j] = 2 + 0.001 * mde_random_normal(&random);
                if (exponentials) y[i * M + j] += exp(-6 * at[j]) + 0.2 * exp(-3 * at[j + 1]);
                else y[i * M + j] += 0.2 * pow(at[j] + 0.001, -0.3) + 0.05 * pow(at[j + 1] + 0.001, -0.4);
            }
        }
        s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
        CHECK(s && s->features == (inputs | MDE_FEATURE_SCARCE));
        mde_surrogate_free(s);
        s = mde_surrogate_fit(c, 9, D, M, w, y, &desc);
        CHECK(s && s->features == (MDE_FEATURE_LOG | MDE_FEATURE_POWER | MDE_FEATURE_SCARCE));
        mde_surrogate_free(s);
        desc.features = MDE_FEATURE_RAW;
        s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
        CHECK(s && s->features == MDE_FEATURE_RAW);
        mde_surrogate_free(s);
    }
    mde_context_free(c);
}

/* A name means one model: alone, in a stack, and by default. */
static void models_by_name_are_what_stacks_and_defaults_are_made_of(void)
{
    enum { N = 30, NEW = 40, D = 3, M = 2 };
    double w[(N + NEW) * D], y[(N + NEW) * M], truth[(N + NEW) * M], mean[NEW * M], other[NEW * M];
    mde_context *c = mde_context_create(NULL);
    const mde_recipe *recipe;
    mde_surrogate_desc desc;
    mde_surrogate *stack, *s;
    int i, q = 0;
    make_pools(N + NEW, D, M, 0.02, w, y, truth);
    memset(&desc, 0, sizeof desc);
    CHECK(mde_surrogate_recipe(c, "stack", &desc) == MDE_OK && desc.fit.model == MDE_STACK);
    stack = mde_surrogate_fit(c, N, D, M, w, y, &desc);
    for (i = 0; (recipe = mde_recipe_row(i)) != NULL; i++) {
        memset(&desc, 0, sizeof desc);
        CHECK(mde_surrogate_recipe(c, recipe->name, &desc) == MDE_OK && desc.fit.model == recipe->model);
        if (!recipe->member) continue;
        CHECK(strcmp(mde_surrogate_member(stack, q), recipe->title) == 0);
        s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
        CHECK(mde_surrogate_predict(s, NEW, w + N * D, mean, NULL) == MDE_OK);
        CHECK(mde_surrogate_predict(stack->member[q++], NEW, w + N * D, other, NULL) == MDE_OK);
        CHECK(memcmp(mean, other, sizeof mean) == 0);
        mde_surrogate_free(s);
    }
    CHECK(q == mde_surrogate_members(stack));
    memset(&desc, 0, sizeof desc);
    desc.fit.model = MDE_GP;
    s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
    CHECK(mde_surrogate_predict(s, NEW, w + N * D, mean, NULL) == MDE_OK);
    CHECK(mde_surrogate_recipe(c, "gp", &desc) == MDE_OK);
    s = mde_surrogate_fit(c, N, D, M, w, y, &desc);
    CHECK(mde_surrogate_predict(s, NEW, w + N * D, other, NULL) == MDE_OK);
    CHECK(memcmp(mean, other, sizeof mean) == 0);
    CHECK(mde_surrogate_recipe(c, "bert", &desc) == MDE_BAD_ARGUMENT);
    CHECK_TEXT(mde_error(c), "\"bert\" is none of stack, pooled, law, products, gp, gp-pooled, trees, ridge, mtgp, auto");
    mde_context_free(c);
}

/* ---- Memory ---- */

static void fit_and_predict(mde_context *c, void *user)
{
    enum { N = 6, D = 3, M = 2 };
    double x[N * D], y[N * M], mean[N * M], sd[N * M], gradient[M * D];
    mde_model model = *(const mde_model *)user;
    mde_fit_desc fit;
    mde_regressor *r;
    int i;
    memset(&fit, 0, sizeof fit);
    fit.model = model;
    fit.restarts = 1;
    make_data(44, N, D, M, 0.1, x, y);
    for (i = 0; i < N * D; i++) x[i] = fabs(x[i]);
    r = mde_regressor_fit(c, N, D, M, x, y, &fit);
    mde_regressor_predict(r, N, x, mean, sd);
    if (model != MDE_TREES) mde_regressor_gradient(r, x, mean, gradient);
    if (model == MDE_TREES) {
        mde_surrogate_desc stack;
        memset(&stack, 0, sizeof stack);
        stack.fit.model = MDE_STACK;
        stack.fit.restarts = 1;
        mde_surrogate_predict(mde_surrogate_fit(c, N, D, M, x, y, &stack), N, x, mean, sd);
    }
}

static void every_failed_allocation_is_an_error_and_nothing_leaks(void)
{
    static const mde_model models[7] = { MDE_RIDGE, MDE_GP, MDE_MULTITASK_GP, MDE_MIXING_LAW, MDE_POOLED_LAW, MDE_TREES,
                                         MDE_SCALE_LAW };
    int i;
    for (i = 0; i < 7; i++) {
        mde_model model = models[i];
        CHECK(test_failing_allocations(fit_and_predict, &model, 1000) > 0);
    }
}

/* ---- Real runs ---- */

/* A table of RegMix without its index column, rows in order of the index from 1. */
static double *read_table(mde_context *c, const char *name, int *rows, int *columns)
{
    const char *shared = getenv("MDEMIX_SHARED");
    char path[1024];
    double *table;
    mde_csv *csv;
    int i, j;
    snprintf(path, sizeof path, "%s/data/regmix/%s", shared && shared[0] ? shared : "../shared", name);
    csv = mde_csv_read(c, path);
    if (!csv) return NULL;
    *rows = csv->rows;
    *columns = csv->columns - 1;
    table = mde__doubles(c, (size_t)*rows, (size_t)*columns);
    for (i = 0; table && i < *rows; i++) {
        int row = (int)mde_csv_number(csv, i, 0) - 1;
        if (row < 0 || row >= *rows) return NULL;
        for (j = 0; j < *columns; j++) table[row * *columns + j] = mde_csv_number(csv, i, j + 1);
    }
    mde_csv_free(csv);
    return table;
}

typedef struct real_runs {
    mde_context *c;
    double *train_w, *train_y, *test_w, *test_y;
    int k, m, train, test;
} real_runs;
static real_runs real;

/* Mean rank correlation over the test domains, in per cent. */
static double real_spearman(mde_model model, int set, int n)
{
    int width = mde_feature_count(set, real.k, 0);
    double *x = mde__doubles(real.c, (size_t)n, (size_t)width);
    double *at = mde__doubles(real.c, (size_t)real.test, (size_t)width);
    double *mean = mde__doubles(real.c, (size_t)real.test, (size_t)real.m), total = 0;
    double *a = mde__doubles(real.c, 2, (size_t)real.test), *b = a + real.test;
    int i, j;
    mde_fit_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = model;
    mde_features(real.c, set, n, real.k, real.train_w, 0, NULL, 0, x);
    mde_features(real.c, set, real.test, real.k, real.test_w, 0, NULL, 0, at);
    mde_regressor_predict(mde_regressor_fit(real.c, n, width, real.m, x, real.train_y, &desc), real.test, at, mean,
                          NULL);
    for (j = 0; j < real.m; j++) {
        for (i = 0; i < real.test; i++) {
            a[i] = mean[i * real.m + j];
            b[i] = real.test_y[i * real.m + j];
        }
        total += mde_spearman(real.c, real.test, a, b);
    }
    return 100 * total / real.m;
}

static void ridge_ranks_the_regmix_runs_as_published_tables_do(void)
{
    double raw = real_spearman(MDE_RIDGE, MDE_FEATURE_RAW, 128), logs = real_spearman(MDE_RIDGE, MDE_FEATURE_LOG, 128);
    printf("    ridge, 128 runs: weights %.2f %%, logarithms %.2f %%\n", raw, logs);
    CHECK(raw > 78 && raw < 80);
    CHECK(logs > 94.5);
}

static void gaussian_process_ranks_the_regmix_runs_best(void)
{
    double few = real_spearman(MDE_GP, MDE_FEATURE_LOG, 64), more = real_spearman(MDE_GP, MDE_FEATURE_LOG, 128);
    printf("    Gaussian process, logarithms: 64 runs %.2f %%, 128 runs %.2f %%\n", few, more);
    CHECK(few > 97.5);
    CHECK(more > 98.0);
}

static void law_and_trees_rank_the_regmix_runs_as_published_tables_do(void)
{
    double law = real_spearman(MDE_MIXING_LAW, MDE_FEATURE_RAW, 128);
    double trees = real_spearman(MDE_TREES, MDE_FEATURE_RAW, 64);
    double products = real_spearman(MDE_RIDGE, MDE_FEATURE_LOG | MDE_FEATURE_PRODUCTS, 128);
    printf("    mixing law, 128 runs: %.2f %%; trees, 64 runs: %.2f %%; ridge on products, 128 runs: %.2f %%\n", law, trees,
           products);
    CHECK(law > 95.5);
    CHECK(trees > 95.5);
    CHECK(products > 96.5);
}

/* Mean rank correlation of a surrogate with its own features, in per cent, and the share of runs inside their intervals. */
static double real_surrogate(mde_model model, int n, double *covered)
{
    double *mean = mde__doubles(real.c, (size_t)real.test, (size_t)real.m);
    double *sd = mde__doubles(real.c, (size_t)real.test, (size_t)real.m);
    double *a = mde__doubles(real.c, 2, (size_t)real.test), *b = a + real.test, total = 0;
    mde_surrogate_desc desc;
    int i, j;
    memset(&desc, 0, sizeof desc);
    desc.fit.model = model;
    desc.fit.kernel = MDE_MATERN32;
    mde_surrogate_predict(mde_surrogate_fit(real.c, n, real.k, real.m, real.train_w, real.train_y, &desc), real.test,
                          real.test_w, mean, sd);
    *covered = 0;
    for (j = 0; j < real.m; j++) {
        for (i = 0; i < real.test; i++) {
            a[i] = mean[i * real.m + j];
            b[i] = real.test_y[i * real.m + j];
            *covered += (fabs(a[i] - b[i]) < 1.645 * sd[i * real.m + j]) / (double)(real.test * real.m);
        }
        total += mde_spearman(real.c, real.test, a, b);
    }
    return 100 * total / real.m;
}

static void surrogates_rank_the_regmix_runs_better_than_published_tables(void)
{
    double covered[4], pooled = real_surrogate(MDE_POOLED_LAW, 64, covered), gp = real_surrogate(MDE_GP, 64, covered + 1);
    double few = real_surrogate(MDE_STACK, 32, covered + 2), stack = real_surrogate(MDE_STACK, 64, covered + 3);
    printf("    pooled law, 64 runs: %.2f %%; GP %.2f %% (%.0f %% inside); stack %.2f %% (%.0f %%), 32 runs %.2f %% (%.0f %%)\n",
           pooled, gp, 100 * covered[1], stack, 100 * covered[3], few, 100 * covered[2]);
    CHECK(pooled > 97.0);
    CHECK(gp > 98.4);
    CHECK(stack > 98.4);
    CHECK(few > 97.0);
    CHECK(covered[1] > 0.85 && covered[2] > 0.85 && covered[3] > 0.85);
}

static void joint_process_ranks_the_regmix_runs_well(void)
{
    double few = real_spearman(MDE_MULTITASK_GP, MDE_FEATURE_LOG, 64);
    printf("    joint process, logarithms: 64 runs %.2f %%\n", few);
    CHECK(few > 94.5);
}

/* ---- Tables of runs ---- */

static void write_table(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    fwrite(text, 1, strlen(text), file);
    fclose(file);
}

static void tables_of_runs_are_joined_by_name_and_scaled(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_runs *runs;
    write_table("build/runs_w.csv", "run,a,b\nx,0.5,0.501\ny,1,0\n");
    write_table("build/runs_l.csv", "loss,run,other\n2,y,\n1,x,nan\n");
    runs = mde_runs_open(c, "build/runs_w.csv", "build/runs_l.csv");
    CHECK(runs && runs->count == 2 && runs->domains == 2 && runs->metrics == 2);
    if (runs) {
        CHECK(strcmp(runs->names[0], "x") == 0 && strcmp(runs->metric_names[1], "other") == 0);
        CLOSE(runs->weights[0], 0.5 / 1.001, 1e-15);
        CLOSE(runs->losses[0], 1, 0);
        CLOSE(runs->losses[2], 2, 0);
        CHECK(runs->losses[1] != runs->losses[1] && runs->losses[3] != runs->losses[3]);
    }
    write_table("build/runs_w.csv", "run;a;b\nx;24,9;75\ny ;100;0\n");
    runs = mde_runs_open(c, "build/runs_w.csv", "build/runs_l.csv");
    CHECK(runs && runs->percent && runs->weights[2] == 1 && runs->losses[2] == 2);
    if (runs) CLOSE(runs->weights[0], 24.9 / 99.9, 1e-15);
    mde_context_free(c);
}

static void runs_of_one_table_are_joined_by_chosen_columns(void)
{
    static const int domains[2] = { 3, 1 }, losses[1] = { 2 };
    static const char wide[] = "run,a,l,b\nx,0.25,7,0.75\ny,1,8,0\n", other[] = "id,q,l\ny,0,1\nz,0,2\nv,0,3\n";
    mde_context *c = mde_context_create(NULL);
    mde_csv *csv = mde_csv_parse(c, "wide.csv", wide, sizeof wide - 1);
    mde_csv *more = mde_csv_parse(c, "more.csv", other, sizeof other - 1);
    mde_run_columns weights, values;
    mde_runs *runs;
    int skipped[2];
    weights.csv = values.csv = csv;
    weights.run = values.run = -1;
    weights.count = 2;
    weights.columns = domains;
    values.count = 1;
    values.columns = losses;
    runs = mde_runs_join(c, &weights, &values, NULL);
    CHECK(runs && runs->count == 2 && strcmp(runs->names[1], "2") == 0 && strcmp(runs->domain_names[0], "b") == 0);
    CHECK(runs && runs->weights[0] == 0.75 && runs->weights[3] == 1 && runs->losses[1] == 8);
    weights.run = values.run = 0;
    values.csv = more;
    runs = mde_runs_join(c, &weights, &values, skipped);
    CHECK(runs && runs->count == 1 && strcmp(runs->names[0], "y") == 0 && runs->losses[0] == 1);
    CHECK(skipped[0] == 1 && skipped[1] == 2);
    CHECK(mde_runs_join(c, &weights, &values, NULL) == NULL);
    CHECK_TEXT(mde_error(c), "wide.csv line 2: run x is not in more.csv");
    mde_context_free(c);
}

static void twenty_thousand_runs_are_joined(void)
{
    enum { MANY = 20000 };
    mde_context *c = mde_context_create(NULL);
    mde_text *w = mde_text_create(c), *y = mde_text_create(c);
    mde_runs *runs;
    int i;
    mde_text_add(w, "run,a,b\n");
    mde_text_add(y, "run,l\n");
    for (i = 0; i < MANY; i++) {
        mde_text_format(w, "run%d,0.5,0.5\n", i);
        mde_text_format(y, "run%d,%d\n", MANY - 1 - i, MANY - 1 - i);
    }
    write_table("build/runs_w.csv", w->bytes);
    write_table("build/runs_l.csv", y->bytes);
    runs = mde_runs_open(c, "build/runs_w.csv", "build/runs_l.csv");
    CHECK(runs && runs->count == MANY);
    for (i = 0; runs && i < MANY; i++) CHECK(runs->losses[i] == i);
    mde_context_free(c);
}

static void wrong_tables_of_runs_name_file_and_line(void)
{
    static const struct { const char *ratios, *losses, *says; } wrong[] = {
        { "run,a,b\nx,0.5,0.7\n", "run,l\nx,1\n", "line 2 (run x): weights sum to 1.2" },
        { "run,a,b\nx,-0.5,1.5\n", "run,l\nx,1\n", "weight is -0.5" },
        { "run,a,b\nx,0.5,abc\n", "run,l\nx,1\n", "abc" },
        { "run,a,b\nx,0.5\n", "run,l\nx,1\n", "line 2" },
        { "run,a,b\nx,0.5,0.5\n", "run,l\ny,1\n", "run x is not in" },
        { "run,a,b\nx,0.5,0.5\n", "run,l\nx,1\ny,2\n", "run y is not in" },
        { "run,a,b\nx,0.5,0.5\nx,1,0\n", "run,l\nx,1\n", "stands already in line 2" },
        { "run,a,b\nx,0.5,0.5\n", "run,l\nx,1\nx,2\n", "stands already in line 2" },
        { "run\nx\n", "run,l\nx,1\n", "expected a column" },
        { "run,a,b\nx,50,50\ny,20,30\nz,100,0\n", "run,l\nx,1\ny,2\nz,3\n",
          "line 3 (run y): weights sum to 50; expected 100 within 1" },
        { "run,a,b\nx,1e300,1e300\n", "run,l\nx,1\n", "line 2 (run x): weights sum to 2e+300; expected 1 within 0.01" },
        { "run,a,b\nx,0.5,\n", "run,l\nx,1\n", "line 2 (run x), column b: a weight is nan" },
        { "run,a,b\nx,0.5,0.5\n,0.5,0.5\n", "run,l\nx,1\n", "line 3: the run has no name" },
        { "run,a,b\nx,0.5,0.5\n", "run,l\nx,inf\n", "line 2 (run x), column l: a loss is inf" },
        { "run,a,b\nx,0.5,0.5\n", "run,l\nx,-1e300\n", "a loss is -1e+300; expected a number below 1e30, or nothing" },
    };
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mde_context *c = mde_context_create(NULL);
        write_table("build/runs_w.csv", wrong[i].ratios);
        write_table("build/runs_l.csv", wrong[i].losses);
        CHECK(mde_runs_open(c, "build/runs_w.csv", "build/runs_l.csv") == NULL);
        CHECK_TEXT(mde_error(c), wrong[i].says);
        mde_context_free(c);
    }
    remove("build/runs_w.csv");
    remove("build/runs_l.csv");
}

int main(void)
{
    int columns = 0, rows = 0;
    TEST(tables_of_runs_are_joined_by_name_and_scaled);
    TEST(runs_of_one_table_are_joined_by_chosen_columns);
    TEST(twenty_thousand_runs_are_joined);
    TEST(wrong_tables_of_runs_name_file_and_line);
    TEST(dense_product_is_one_chain_an_element_on_every_instruction_set);
    TEST(dense_rows_follow_their_formulas_on_every_instruction_set);
    TEST(cholesky_factor_and_inverse_multiply_back);
    TEST(eigenvectors_are_orthonormal_and_diagonalise);
    TEST(ridge_leave_one_out_equals_refitting);
    TEST(ridge_chooses_the_penalty_with_the_least_refitted_error);
    TEST(ridge_predicts_what_the_normal_equations_say);
    TEST(ridge_sd_is_the_error_of_new_runs);
    TEST(gp_likelihood_gradient_equals_finite_differences);
    TEST(gp_left_out_equals_refitting_with_the_same_covariance);
    TEST(gp_likelihood_of_two_runs_equals_the_closed_form);
    TEST(gp_predicts_what_the_dense_inverse_says);
    TEST(gp_recovers_the_noise_and_covers_new_runs);
    TEST(gp_with_heavy_tails_learns_what_outliers_hide);
    TEST(gp_does_not_fit_noise_with_few_runs);
    TEST(joint_likelihood_and_predictions_equal_the_dense_ones);
    TEST(joint_left_out_equals_refitting_with_the_same_covariance);
    TEST(joint_likelihood_gradient_equals_finite_differences);
    TEST(joint_process_beats_independent_ones_on_correlated_targets);
    TEST(processes_of_many_runs_learn_a_smooth_function);
    TEST(mixing_law_is_found_again);
    TEST(gradient_of_the_mixing_laws_loss_equals_finite_differences);
    TEST(levenberg_marquardt_follows_a_curved_valley);
    TEST(pooled_law_is_found_again);
    TEST(gradient_of_the_pooled_laws_loss_equals_finite_differences);
    TEST(law_across_sizes_is_found_again);
    TEST(gradients_of_the_law_across_sizes_equal_finite_differences);
    TEST(covariances_of_the_law_across_sizes_are_those_of_its_parameters);
    TEST(a_tree_splits_where_the_squares_get_least);
    TEST(trees_learn_steps_and_know_their_spread);
    TEST(a_seed_decides_where_searches_start);
    TEST(gradients_of_predictions_equal_finite_differences);
    TEST(constant_targets_and_features_are_fine);
    TEST(bad_input_is_named);
    TEST(measures_equal_their_definitions);
    TEST(a_rank_correlation_with_ties_is_that_of_counted_ranks);
    TEST(repeated_runs_are_found_among_many);
    TEST(too_many_runs_for_a_process_are_refused_before_any_work);
    TEST(results_do_not_depend_on_threads_or_instruction_set);
    TEST(features_stand_in_the_order_of_their_names);
    TEST(surrogate_sees_each_targets_own_expert_loss);
    TEST(surrogate_gradients_equal_finite_differences);
    TEST(missing_losses_are_left_out_of_their_target_alone);
    TEST(stack_weighs_its_members_by_their_errors);
    TEST(a_process_takes_the_inputs_that_suit_its_losses);
    TEST(models_by_name_are_what_stacks_and_defaults_are_made_of);
    TEST(every_failed_allocation_is_an_error_and_nothing_leaks);

    real.c = mde_context_create(NULL);
    real.train_w = read_table(real.c, "train_mixture_1m.csv", &real.train, &real.k);
    if (real.train_w) real.train_y = read_table(real.c, "train_pile_loss_1m.csv", &rows, &real.m);
    if (real.train_y) real.test_w = read_table(real.c, "test_mixture_1m.csv", &real.test, &columns);
    if (real.test_w) real.test_y = read_table(real.c, "test_pile_loss_1m.csv", &rows, &columns);
    if (real.test_y) {
        TEST(ridge_ranks_the_regmix_runs_as_published_tables_do);
        TEST(gaussian_process_ranks_the_regmix_runs_best);
        TEST(joint_process_ranks_the_regmix_runs_well);
        TEST(surrogates_rank_the_regmix_runs_better_than_published_tables);
        TEST(law_and_trees_rank_the_regmix_runs_as_published_tables_do);
    } else {
        test_skip("regmix", "../shared/data/regmix is not there; MDEMIX_SHARED may name the folder that holds data");
    }
    mde_context_free(real.c);
    return test_end();
}
