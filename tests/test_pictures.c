/* Pictures: PNG images, and the SVG plots of examples/plot.h. */
#include "../mdemix.h"
#include "../examples/plot.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- Reading SVG ---- */

/* How often a part occurs in a text. */
static int occurrences(const char *text, const char *part)
{
    int count = 0;
    for (text = text ? strstr(text, part) : NULL; text; text = strstr(text + strlen(part), part)) count++;
    return count;
}

/* Well-formed, as far as these pictures go: every tag closed in order, attributes quoted and without "<", "&" only in
   the entities that are used. Returns NULL, or what is wrong. */
static const char *xml_fault(const char *p)
{
    char open[64][16];
    int depth = 0, roots = 0;
    while (*p) {
        if (*p == '&') {
            if (strncmp(p, "&amp;", 5) && strncmp(p, "&lt;", 4) && strncmp(p, "&gt;", 4) && strncmp(p, "&quot;", 6)) {
                return "an entity that is not known";
            }
            p++;
        } else if (*p != '<') {
            if (depth == 0 && *p != '\n' && *p != ' ') return "text outside the root";
            if (*p == '>') return "a bare >";
            p++;
        } else if (p[1] == '/') {
            size_t length = strcspn(p + 2, ">");
            if (depth == 0) return "a closing tag too many";
            depth--;
            if (strlen(open[depth]) != length || strncmp(open[depth], p + 2, length) != 0) return "tags cross";
            p += 2 + length + 1;
        } else {
            size_t length = strcspn(p + 1, " />");
            char name[16] = "";
            if (length == 0 || length >= sizeof name || depth == 64) return "a tag without a name, or too deep";
            if (depth == 0 && roots++) return "a second root";
            memcpy(name, p + 1, length);
            p += 1 + length;
            while (*p == ' ') {
                size_t key = strspn(++p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-123456789");
                if (key == 0 || p[key] != '=' || p[key + 1] != '"') return "an attribute without a value";
                p += key + 2;
                for (; *p && *p != '"'; p++) if (*p == '<') return "a < in an attribute";
                if (!*p) return "an attribute without an end";
                p++;
            }
            if (strncmp(p, "/>", 2) == 0) p += 2;
            else if (*p == '>') {
                memcpy(open[depth++], name, sizeof name);
                p++;
            } else return "a tag without an end";
        }
    }
    return depth ? "a tag is not closed" : roots == 1 ? NULL : "no root";
}

/* Every number behind the attribute lies between low and high. */
static int attributes_within(const char *svg, const char *attribute, double low, double high)
{
    char part[32];
    snprintf(part, sizeof part, " %s=\"", attribute);
    for (svg = strstr(svg, part); svg; svg = strstr(svg + 1, part)) {
        double value = strtod(svg + strlen(part), NULL);
        if (!(value >= low && value <= high)) return 0;
    }
    return 1;
}

/* What all pictures promise. */
static void check_svg(const mde_text *t)
{
    const char *fault = t ? xml_fault(t->bytes) : "no text", *box;
    double width = 0, height = 0;
    if (fault) printf("    not well-formed: %s\n", fault);
    CHECK(fault == NULL);
    if (!t) return;
    CHECK(strncmp(t->bytes, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", 52) == 0);
    CHECK(occurrences(t->bytes, "role=\"img\"") == 1 && occurrences(t->bytes, "<title>") == 1);
    CHECK(occurrences(t->bytes, " id=") == 0 && occurrences(t->bytes, "href") == 0);
    CHECK(!strstr(t->bytes, "nan") && !strstr(t->bytes, "inf") && !strstr(t->bytes, "e+"));
    box = strstr(t->bytes, "viewBox=\"0 0 ");
    if (box) {
        char *end;
        width = strtod(box + 13, &end);
        height = strtod(end, NULL);
    }
    CHECK(width >= 100 && height >= 60);
    CHECK(attributes_within(t->bytes, "x", 0, width) && attributes_within(t->bytes, "y", 0, height));
    CHECK(attributes_within(t->bytes, "x1", 0, width) && attributes_within(t->bytes, "x2", 0, width));
    CHECK(attributes_within(t->bytes, "y1", 0, height) && attributes_within(t->bytes, "y2", 0, height));
    CHECK(attributes_within(t->bytes, "cx", 0, width) && attributes_within(t->bytes, "cy", 0, height));
    CHECK(attributes_within(t->bytes, "width", 0, width) && attributes_within(t->bytes, "height", 0, height));
}

static void fill_series(plot_series *s, const char *name, int count, const double *x, const double *y, int points)
{
    memset(s, 0, sizeof *s);
    s->name = name;
    s->count = count;
    s->x = x;
    s->y = y;
    s->points = points;
}

static mde_text *draw(mde_context *c, const plot_desc *plot)
{
    mde_text *t = mde_text_create(c);
    plot_xy(t, plot);
    CHECK(mde_context_status(c) == MDE_OK);
    check_svg(t);
    return t;
}

/* ---- Plots ---- */

static void a_plot_shows_each_finite_point_once(void)
{
    double x[10], y[10], low[10], high[10];
    mde_context *c = mde_context_create(NULL);
    plot_series s[2];
    plot_desc plot;
    mde_text *t;
    int i;
    for (i = 0; i < 10; i++) {
        x[i] = i;
        y[i] = i * i;
        low[i] = y[i] - 1;
        high[i] = y[i] + 2;
    }
    y[3] = (double)NAN;
    x[5] = (double)INFINITY;
    high[7] = (double)NAN;
    memset(&plot, 0, sizeof plot);
    fill_series(&s[0], "points", 10, x, y, 1);
    s[0].low = low;
    s[0].high = high;
    fill_series(&s[1], "line", 10, x, y, 0);
    plot.title = "a < b & \"c\"";
    plot.x_label = "x";
    plot.y_label = "y";
    plot.count = 2;
    plot.series = s;
    t = draw(c, &plot);
    CHECK(occurrences(t->bytes, "<circle") == 8 + 1);                   /* and one in the legend */
    CHECK(occurrences(t->bytes, "stroke-width=\"1.2\"") == 7);          /* error bars */
    CHECK(occurrences(t->bytes, "stroke-linejoin=\"round\"") == 3);     /* the line is broken twice */
    CHECK_TEXT(t->bytes, "<title>a &lt; b &amp; &quot;c&quot;</title>");
    CHECK_TEXT(t->bytes, ">points</text>");
    CHECK_TEXT(t->bytes, "viewBox=\"0 0 640 400\"");
    mde_context_free(c);
}

static void a_band_is_shaded_where_both_ends_are_known(void)
{
    static const double x[6] = { 0, 1, 2, 3, 4, 5 }, y[6] = { 1, 1, 1, 1, 1, 1 }, high[6] = { 2, 2, 2, 9, 2, 2 };
    double low[6] = { 0, 0, 0, 0, 0, 0 };
    mde_context *c = mde_context_create(NULL);
    plot_series s[2];
    plot_desc plot;
    mde_text *t;
    const char *band;
    low[4] = (double)NAN;
    memset(&plot, 0, sizeof plot);
    fill_series(&s[0], "line", 6, x, y, 0);
    fill_series(&s[1], "mean", 6, x, y, 0);
    s[1].low = low;
    s[1].high = high;
    s[1].band = 1;
    plot.count = 2;
    plot.series = s;
    t = draw(c, &plot);
    CHECK(occurrences(t->bytes, "fill-opacity=\"0.2\"") == 2 + 1);      /* broken once; and one in the legend */
    CHECK(occurrences(t->bytes, "stroke-width=\"1.2\"") == 0);          /* no error bars */
    band = strstr(t->bytes, "fill-opacity");
    CHECK(band && band < strstr(t->bytes, "stroke-linejoin"));          /* behind both lines */
    CHECK(band && strcspn(band, "Z") < strcspn(band, "\n"));
    CHECK_TEXT(t->bytes, ">8</text>");                                  /* the axis goes up to the upper ends */
    mde_context_free(c);
}

static double slope(double x, double y, void *user)
{
    ++*(int *)user;
    return x > 0.9 ? (double)NAN : x + 2 * y;
}

/* Between corners the function is linear, so its level lines are exact but for the rounding of pixels. */
static void level_lines_of_a_field_lie_on_their_level(void)
{
    const double ends[2] = { 0, 1 }, levels[2] = { 0.75, 1.5 };
    mde_context *c = mde_context_create(NULL);
    double left = 0, top = 0, bottom = 0, right = 0;
    plot_series s;
    plot_desc plot;
    mde_text *t;
    const char *p;
    int calls = 0, points = 0, wrong = 0, level;
    memset(&plot, 0, sizeof plot);
    fill_series(&s, NULL, 2, ends, ends, 1);
    plot.count = 1;
    plot.series = &s;
    plot.field = slope;
    plot.user = &calls;
    plot.levels = 2;
    plot.level = levels;
    t = draw(c, &plot);
    CHECK(calls == 65 * 65);
    p = strstr(t->bytes, "<path fill=\"none\" stroke=\"#666666\" d=\"M");    /* the axes, which go from -0.04 to 1.04 */
    CHECK(p && sscanf(strstr(p, "d=\"M"), "d=\"M%lf %lfV%lfH%lf", &left, &top, &bottom, &right) == 4);
    p = t->bytes;
    for (level = 0; level < 2 && p; level++) {
        p = strstr(p, "stroke-width=\"1.5\" d=\"");
        CHECK(p != NULL);
        for (p = p ? strstr(p, " d=\"") + 4 : NULL; p && *p != '"';) {
            char *end;
            double x = strtod(p + 1, &end), y = strtod(end, &end);
            x = -0.04 + 1.08 * (x - left) / (right - left);
            y = -0.04 + 1.08 * (bottom - y) / (bottom - top);
            wrong += fabs(x + 2 * y - levels[level]) > 0.05 * 1.08 * (1 / (right - left) + 2 / (bottom - top)) + 1e-9;
            wrong += x > 0.9 + 1.08 / 64;
            p = end;
            points++;
        }
    }
    CHECK(points > 100 && wrong == 0);
    mde_context_free(c);
}

static void long_titles_break_and_series_differ_in_shape(void)
{
    static const double x[2] = { 1, 2 };
    static const char *const columns[2] = { "MSE", "\xFF R2" };
    mde_context *c = mde_context_create(NULL);
    plot_series s[9];
    plot_desc plot;
    mde_text *t;
    int i;
    memset(&plot, 0, sizeof plot);
    for (i = 0; i < 9; i++) fill_series(&s[i], i % 2 ? "odd" : "even", 2, x, x, i < 4);
    plot.title = "a title of so many words that one line of the usual size cannot hold it, and which is therefore "
                 "broken";
    plot.count = 9;
    plot.series = s;
    t = draw(c, &plot);
    CHECK(occurrences(t->bytes, "font-weight=\"bold\"") == 2);
    CHECK_TEXT(t->bytes, "a title of so many words that one line of the usual</text>");
    CHECK(occurrences(t->bytes, "<circle") == 3);
    CHECK(occurrences(t->bytes, "h6.48v6.48h-6.48z") == 2);             /* squares, */
    CHECK(occurrences(t->bytes, "l3.96 7.2h-7.92z") == 2);              /* triangles */
    CHECK(occurrences(t->bytes, "l4.68 4.68l-4.68 4.68") == 2);         /* and diamonds */
    CHECK(occurrences(t->bytes, "stroke-dasharray=\"6 3\"") == 2);      /* the ninth line and its legend */
    t = mde_text_create(c);
    plot_heat(t, "level names", 1, NULL, 2, columns, x, 0);
    check_svg(t);
    CHECK_TEXT(t->bytes, "\xEF\xBF\xBD R2");
    CHECK(occurrences(t->bytes, "rotate") == 0);
    mde_context_free(c);
}

static void logarithmic_axes_leave_out_what_they_cannot_show(void)
{
    static const double x[6] = { -1, 0, 1, 10, 100, 1000 }, y[6] = { 1, 1, 1e-5, 0, 1e3, 1e7 };
    mde_context *c = mde_context_create(NULL);
    plot_series s;
    plot_desc plot;
    mde_text *t;
    memset(&plot, 0, sizeof plot);
    fill_series(&s, "a", 6, x, y, 1);
    plot.count = 1;
    plot.series = &s;
    plot.log_x = plot.log_y = 1;
    t = draw(c, &plot);
    CHECK(occurrences(t->bytes, "<circle") == 3 + 1);
    CHECK_TEXT(t->bytes, ">100</text>");
    CHECK_TEXT(t->bytes, ">1e-5</text>");
    mde_context_free(c);
}

static void empty_plots_say_so(void)
{
    static const double bad[2] = { (double)NAN, (double)INFINITY };
    mde_context *c = mde_context_create(NULL);
    plot_series s;
    plot_desc plot;
    mde_text *t;
    memset(&plot, 0, sizeof plot);
    t = draw(c, &plot);
    CHECK_TEXT(t->bytes, "no data");
    fill_series(&s, "a", 2, bad, bad, 1);
    plot.count = 1;
    plot.series = &s;
    plot.diagonal = 1;
    t = draw(c, &plot);
    CHECK_TEXT(t->bytes, "no data");
    fill_series(&s, "a", 2, NULL, NULL, 0);
    t = draw(c, &plot);
    CHECK_TEXT(t->bytes, "no data");
    t = mde_text_create(c);
    plot_bars(t, "t", "y", 0, NULL, 3, NULL, NULL);
    check_svg(t);
    CHECK_TEXT(t->bytes, "no data");
    t = mde_text_create(c);
    plot_bars(t, NULL, NULL, 2, NULL, 1, NULL, bad);
    check_svg(t);
    CHECK_TEXT(t->bytes, "no data");
    t = mde_text_create(c);
    plot_heat(t, "t", 1, NULL, 2, NULL, bad, 1);
    check_svg(t);
    CHECK_TEXT(t->bytes, "no data");
    t = mde_text_create(c);
    plot_heat(t, "t", 0, NULL, 2, NULL, NULL, 1);
    check_svg(t);
    plot_xy(NULL, &plot);
    plot_xy(t, NULL);
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* Any range gives a picture whose coordinates stay inside it. */
static void extreme_ranges_stay_inside_the_picture(void)
{
    static const double ranges[][2] = { { 0, 0 }, { 1, 1 }, { -5, -5 }, { 1e300, 1e300 }, { -1e300, 1e300 },
                                        { 1e-300, 2e-300 }, { 1e6, 1e6 + 1e-6 }, { 1e308, -1e308 }, { 0, 1e15 },
                                        { 3.001, 3.002 }, { -1e-9, 1e9 }, { 5e-324, 1 } };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    int kind;
    for (i = 0; i < COUNT(ranges); i++) {
        for (kind = 0; kind < 8; kind++) {
            plot_series s;
            plot_desc plot;
            memset(&plot, 0, sizeof plot);
            fill_series(&s, "a", 2, ranges[i], ranges[i], kind & 1);
            plot.count = 1;
            plot.series = &s;
            plot.log_x = kind >> 1 & 1;
            plot.log_y = kind >> 2;
            plot.diagonal = kind == 7;
            plot.width = kind == 3 ? 50 : 0;
            plot.height = kind == 4 ? 10 : 0;
            draw(c, &plot);
        }
        {
            mde_text *t = mde_text_create(c);
            plot_bars(t, "bars", "y", 2, NULL, 1, NULL, ranges[i]);
            check_svg(t);
            t = mde_text_create(c);
            plot_heat(t, "heat", 1, NULL, 2, NULL, ranges[i], 0);
            check_svg(t);
        }
    }
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* The ticks of an axis are 1, 2 or 5 times a power of ten apart, and inside. */
static void ticks_are_round_numbers(void)
{
    uint64_t seed = 1;
    int i, k;
    for (i = 0; i < 2000; i++) {
        plot_axis a;
        double low, span, step, mantissa;
        memset(&a, 0, sizeof a);
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        low = ((double)(seed >> 40) / 16777216.0 - 0.5) * pow(10, (double)(seed >> 20 & 15) - 7);
        span = (0.01 + (double)(seed & 0xFFFF) / 65536.0) * pow(10, (double)(seed >> 16 & 15) - 7);
        if (span < 1e-6 * fabs(low)) continue;
        plot_axis_range(&a, low, low + span, 0.04);
        plot_axis_ticks(&a, 2 + (double)(seed >> 33 & 7));
        CHECK(a.count >= 1 && a.count <= 12);
        for (k = 0; k < a.count; k++) CHECK(a.ticks[k] >= a.low - 1e-9 * span && a.ticks[k] <= a.high + 1e-9 * span);
        if (a.count < 2) continue;
        step = a.ticks[1] - a.ticks[0];
        mantissa = step / pow(10, floor(log10(step * 1.000001)));
        CHECK(fabs(mantissa - 1) < 1e-4 || fabs(mantissa - 2) < 1e-4 || fabs(mantissa - 5) < 1e-4);
    }
}

/* ---- Bars, heat maps, triangles ---- */

static void bars_have_one_rectangle_a_finite_value(void)
{
    static const char *const groups[3] = { "web", "code & co", "a name that is much too long to stand level below" };
    static const char *const many[6] = { "a", "b", "a name that is much too long to stand level below", "d", "e", "f" };
    static const char *const bars[2] = { "one", "two" };
    double values[6] = { 1, -2, 3, (double)NAN, 0.5, 0 };
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    plot_bars(t, "bars", "loss", 3, groups, 2, bars, values);
    check_svg(t);
    CHECK(occurrences(t->bytes, "<rect") == 1 + 5 + 2);                 /* background, bars, legend */
    CHECK_TEXT(t->bytes, "code &amp; co");
    CHECK_TEXT(t->bytes, ">-2.00</text>");
    CHECK(occurrences(t->bytes, "rotate(-40") == 0);
    CHECK_TEXT(t->bytes, "a name that is much too lon\xE2\x80\xA6");
    t = mde_text_create(c);
    plot_bars(t, "bars", "loss", 6, many, 1, NULL, values);
    check_svg(t);
    CHECK(occurrences(t->bytes, "rotate(-40") == 6);                    /* one long name turns them all */
    t = mde_text_create(c);
    plot_bars(t, "bars", "loss", 2, groups, 1, NULL, values);
    check_svg(t);
    CHECK(occurrences(t->bytes, "<rect") == 1 + 2 && occurrences(t->bytes, "rotate(-40") == 0);
    mde_context_free(c);
}

static void a_heat_map_has_a_cell_a_value_and_outlines_the_least(void)
{
    static const char *const rows[3] = { "ridge", "GP", "<b>" };
    static const char *const columns[2] = { "MSE", "a longer name of a column" };
    double values[6] = { 0.5, 12, 0.25, (double)NAN, 0.75, 12 };
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    plot_heat(t, "heat", 3, rows, 2, columns, values, 1);
    check_svg(t);
    CHECK(occurrences(t->bytes, "<rect") == 1 + 6 + 3 + 32);            /* background, cells, outlines (a tie), scale */
    CHECK(occurrences(t->bytes, "stroke=\"#d55e00\"") == 3);
    CHECK_TEXT(t->bytes, "font-weight=\"bold\">0.250</text>");
    CHECK_TEXT(t->bytes, "&lt;b&gt;");
    t = mde_text_create(c);
    plot_heat(t, "heat", 3, rows, 2, columns, values, 0);
    check_svg(t);
    CHECK(occurrences(t->bytes, "stroke=\"#d55e00\"") == 0);
    CHECK_TEXT(t->bytes, ">12.0</text>");
    mde_context_free(c);
}

/* Text on any colour of the scale has a contrast of at least 4.5 to 1 (WCAG 2.1). */
static void text_on_the_color_scale_is_readable(void)
{
    int i, k;
    for (i = 0; i <= 1000; i++) {
        char color[8];
        int dark = plot_ramp_color(i / 1000.0, color);
        double light = 0, ink = dark ? 1 : 0, contrast;
        static const double weight[3] = { 0.2126, 0.7152, 0.0722 };
        for (k = 0; k < 3; k++) {
            char hex[3] = { color[1 + 2 * k], color[2 + 2 * k], 0 };
            double v = (double)strtol(hex, NULL, 16) / 255;
            light += weight[k] * (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
        }
        contrast = ink > light ? (ink + 0.05) / (light + 0.05) : (light + 0.05) / (ink + 0.05);
        CHECK(contrast >= 4.5);
        if (contrast < 4.5) {
            printf("    %s: %.2f\n", color, contrast);
            break;
        }
    }
}

static double bowl(const double *w, void *user)
{
    int *calls = (int *)user;
    ++*calls;
    return (w[0] - 0.2) * (w[0] - 0.2) + (w[1] - 0.5) * (w[1] - 0.5) + (w[2] - 0.3) * (w[2] - 0.3);
}

static double flat(const double *w, void *user)
{
    (void)w;
    (void)user;
    return 3;
}

static double half_known(const double *w, void *user)
{
    (void)user;
    return w[0] > 0.5 ? (double)NAN : w[1];
}

static double unknown(const double *w, void *user)
{
    (void)w;
    (void)user;
    return (double)NAN;
}

static void a_triangle_shows_a_function_its_levels_and_marks(void)
{
    static const char *const corners[3] = { "web", "code", "a rather long name of a corner, longer than fits" };
    static const char *const names[4] = { "uniform", "optimum", "corner", "not there" };
    static const double marks[12] = { 0.3333, 0.3333, 0.3334, 0.2, 0.5, 0.3, 0, 0, 2, -1, 1, 1 };
    test_heap heap;
    mde_context *c = test_heap_context(&heap, 0);
    mde_text *t = mde_text_create(c);
    int calls = 0;
    plot_ternary(t, "triangle", corners, bowl, &calls, 4, marks, names);
    check_svg(t);
    CHECK(calls == 61 * 62 / 2);
    CHECK_TEXT(t->bytes, ">optimum</text>");
    CHECK(!strstr(t->bytes, "not there"));                              /* a negative weight has no place */
    CHECK(occurrences(t->bytes, "stroke-width=\"1.5\"") == 3);
    CHECK(occurrences(t->bytes, "%</text>") == 12);
    CHECK(test_blocks() == 2);                                          /* the text and its bytes */
    t = mde_text_create(c);
    plot_ternary(t, NULL, NULL, flat, NULL, 0, NULL, NULL);
    check_svg(t);
    t = mde_text_create(c);
    plot_ternary(t, "half", corners, half_known, NULL, 4, marks, NULL);
    check_svg(t);
    t = mde_text_create(c);
    plot_ternary(t, "none", corners, unknown, NULL, 4, marks, names);
    check_svg(t);
    CHECK_TEXT(t->bytes, "no data");
    CHECK(mde_context_status(c) == MDE_OK);
    mde_context_free(c);
}

/* Level lines of the bowl are circles around its minimum: all their points have the value of a level. */
static void level_lines_lie_on_their_level(void)
{
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    const char *p;
    int calls = 0, points = 0, wrong = 0, level;
    double low = 1e9, high = 0;
    int a, b;
    for (a = 0; a <= 60; a++) {
        for (b = 0; a + b <= 60; b++) {
            double w[3], v;
            w[0] = a / 60.0;
            w[1] = (60 - a - b) / 60.0;
            w[2] = b / 60.0;
            v = bowl(w, &calls);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    plot_ternary(t, "triangle", NULL, bowl, &calls, 0, NULL, NULL);
    p = strstr(t->bytes, "stroke-opacity=\"0.75\" stroke-width=\"1\" d=\"");
    CHECK(p != NULL);
    if (!p) return;
    for (p = strstr(p, " d=\"") + 4; *p && *p != '"';) {
        char *end;
        double x = strtod(p + 1, &end), y = strtod(end, &end), w[3], v, nearest = 1e9;
        double side = 400, bottom = 62 + side * sqrt(3) / 2;
        p = end;
        points++;
        w[0] = (bottom - y) / (side * sqrt(3) / 2);
        w[2] = (x - 100) / side - w[0] / 2;
        w[1] = 1 - w[0] - w[2];
        v = bowl(w, &calls);
        for (level = 1; level < 8; level++) {
            double distance = fabs(v - (low + level * level / 64.0 * (high - low)));
            if (distance < nearest) nearest = distance;
        }
        /* Linear interpolation over a step h of a function with second derivatives of at most 2 errs by h^2 / 4; the
           rounding to tenths of pixels by 0.07 / 400 times the gradient (< 2). */
        wrong += nearest > 2.0 / (4 * 60 * 60) * 2 + 2 * 0.1 / 400 * 2;
    }
    CHECK(points > 500 && wrong == 0);
    mde_context_free(c);
}

/* One number for the bytes of one picture of each kind. It changes when their design does, and with nothing else: not
   with machine, compiler or options. */
static void pictures_are_the_same_bytes_everywhere(void)
{
    static const double x[4] = { 1, 20, 300, 4000 }, y[4] = { 0.1, 0.4, 0.2, 0.9 };
    static const unsigned char pixels[12] = { 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6 };
    mde_context *c = mde_context_create(NULL);
    mde_text *t = mde_text_create(c);
    plot_series s;
    plot_desc plot;
    uint64_t hash = 0;
    unsigned char *png, *both;
    size_t size = 0;
    int calls = 0;
    memset(&plot, 0, sizeof plot);
    fill_series(&s, "name", 4, x, y, 0);
    plot.title = "title";
    plot.log_x = 1;
    plot.count = 1;
    plot.series = &s;
    plot_xy(t, &plot);
    plot_bars(t, "bars", "y", 4, NULL, 1, NULL, y);
    plot_heat(t, "heat", 2, NULL, 2, NULL, y, 0);
    plot_ternary(t, "triangle", NULL, bowl, &calls, 0, NULL, NULL);
    png = mde_png_encode(c, 2, 2, 3, pixels, &size);
    both = (unsigned char *)mde_alloc(c, t->length + size, 1);
    if (png && both) {
        memcpy(both, t->bytes, t->length);
        memcpy(both + t->length, png, size);
        hash = mde_fingerprint(both, t->length + size);
    }
    CHECK(hash == UINT64_C(0xcd896fb01514f85c));
    if (hash != UINT64_C(0xcd896fb01514f85c)) printf("    0x%016llx\n", (unsigned long long)hash);
    mde_context_free(c);
}

/* ---- PNG ---- */

/* A reader of deflate, written for these tests: stored blocks are not needed, fixed Huffman codes are. */
typedef struct inflater { const unsigned char *p; size_t size, bit; int failed; } inflater;

static unsigned take(inflater *f, int bits)
{
    unsigned value = 0;
    int i;
    for (i = 0; i < bits; i++, f->bit++) {
        if (f->bit / 8 >= f->size) {
            f->failed = 1;
            return 0;
        }
        value |= (unsigned)(f->p[f->bit / 8] >> (f->bit % 8) & 1) << i;
    }
    return value;
}

/* RFC 1951, 3.2.6: the code grows bit by bit until it falls into one of the four ranges. */
static int take_symbol(inflater *f)
{
    unsigned code = 0;
    int length;
    for (length = 1; length <= 9 && !f->failed; length++) {
        code = code << 1 | take(f, 1);
        if (length == 7 && code <= 0x17) return 256 + (int)code;
        if (length == 8 && code >= 0x30 && code <= 0xBF) return (int)code - 0x30;
        if (length == 8 && code >= 0xC0 && code <= 0xC7) return 280 + (int)code - 0xC0;
        if (length == 9 && code >= 0x190) return 144 + (int)code - 0x190;
    }
    f->failed = 1;
    return -1;
}

static size_t inflate(const unsigned char *in, size_t size, unsigned char *out, size_t capacity, size_t *used)
{
    static const int base[29] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99,
                                  115, 131, 163, 195, 227, 258 };
    static const int extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5,
                                   0 };
    static const int far_base[30] = { 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769,
                                      1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577 };
    inflater f;
    size_t count = 0;
    f.p = in;
    f.size = size;
    f.bit = 0;
    f.failed = 0;
    if (take(&f, 1) != 1 || take(&f, 2) != 1) return 0;
    while (!f.failed) {
        int symbol = take_symbol(&f), i, length, bits;
        unsigned code;
        size_t distance;
        if (symbol == 256) break;
        if (symbol < 0) return 0;
        if (symbol < 256) {
            if (count == capacity) return 0;
            out[count++] = (unsigned char)symbol;
            continue;
        }
        symbol -= 257;
        if (symbol >= 29) return 0;
        length = base[symbol] + (int)take(&f, extra[symbol]);
        for (code = 0, i = 0; i < 5; i++) code = code << 1 | take(&f, 1);
        if (code >= 30) return 0;
        bits = code < 4 ? 0 : (int)code / 2 - 1;
        distance = (size_t)far_base[code] + take(&f, bits);
        if (distance > count || (size_t)length > capacity - count) return 0;
        for (i = 0; i < length; i++, count++) out[count] = out[count - distance];
    }
    *used = (f.bit + 7) / 8;
    return f.failed ? 0 : count;
}

static uint32_t big(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Bit by bit, another way than the table of the library. */
static uint32_t plain_crc(const unsigned char *p, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    size_t i;
    int k;
    for (i = 0; i < size * 8; i++) {
        uint32_t bit = (uint32_t)(p[i / 8] >> (i % 8) & 1);
        k = (int)((crc ^ bit) & 1u);
        crc = crc >> 1 ^ (k ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* Decodes what mde_png_encode wrote; 1 when the pixels are the same. */
static int png_holds(const unsigned char *png, size_t size, int width, int height, int channels,
                     const unsigned char *pixels)
{
    size_t row = (size_t)(width * channels), raw = (row + 1) * (size_t)height, at = 8, used = 0, y, i;
    unsigned char *filtered = (unsigned char *)malloc(raw), *decoded = (unsigned char *)calloc(raw + row, 1);
    const unsigned char *data = NULL;
    size_t data_size = 0;
    uint32_t a = 1, b = 0;
    int good = filtered && decoded && size > 8 && memcmp(png, "\x89PNG\r\n\x1A\n", 8) == 0, chunks = 0;
    while (good && at + 12 <= size) {
        size_t length = big(png + at);
        good = length <= size - at - 12 && big(png + at + 8 + length) == plain_crc(png + at + 4, length + 4);
        if (chunks == 0) {
            good = good && length == 13 && memcmp(png + at + 4, "IHDR", 4) == 0 &&
                   big(png + at + 8) == (uint32_t)width && big(png + at + 12) == (uint32_t)height &&
                   png[at + 16] == 8 && png[at + 18] == 0 && png[at + 19] == 0 &&
                   png[at + 17] == (channels == 1 ? 0 : channels == 3 ? 2 : 6) && png[at + 20] == 0;
        } else if (chunks == 1) {
            good = good && memcmp(png + at + 4, "IDAT", 4) == 0;
            data = png + at + 8;
            data_size = length;
        } else {
            good = good && memcmp(png + at + 4, "IEND", 4) == 0 && length == 0;
        }
        at += 12 + length;
        chunks++;
    }
    good = good && chunks == 3 && at == size && data_size > 6 && (data[0] & 15) == 8;
    good = good && (data[0] * 256 + data[1]) % 31 == 0;
    good = good && inflate(data + 2, data_size - 6, filtered, raw, &used) == raw && used == data_size - 6;
    for (i = 0; good && i < raw; i++) {
        a = (a + filtered[i]) % 65521;
        b = (b + a) % 65521;
    }
    good = good && big(data + 2 + used) == (b << 16 | a);
    for (y = 0; good && y < (size_t)height; y++) {
        const unsigned char *in = filtered + y * (row + 1);
        unsigned char *out = decoded + (y + 1) * row, *above = decoded + y * row;       /* row 0 stays zero */
        for (i = 0; i < row; i++) {
            int left = i >= (size_t)channels ? out[i - (size_t)channels] : 0, up = above[i];
            int corner = i >= (size_t)channels ? above[i - (size_t)channels] : 0, guess = 0, p = left + up - corner;
            if (in[0] == 1) guess = left;
            if (in[0] == 2) guess = up;
            if (in[0] == 3) guess = (left + up) / 2;
            if (in[0] == 4) {
                guess = abs(p - left) <= abs(p - up) && abs(p - left) <= abs(p - corner) ? left
                        : abs(p - up) <= abs(p - corner) ? up : corner;
            }
            if (in[0] > 4) good = 0;
            out[i] = (unsigned char)(in[1 + i] + guess);
        }
    }
    good = good && memcmp(decoded + row, pixels, row * (size_t)height) == 0;
    free(filtered);
    free(decoded);
    return good;
}

static void check_png(mde_context *c, int width, int height, int channels, const unsigned char *pixels, size_t most)
{
    size_t size = 0;
    unsigned char *png = mde_png_encode(c, width, height, channels, pixels, &size);
    CHECK(png != NULL && size <= most);
    if (size > most) printf("    %zu bytes, at most %zu\n", size, most);
    if (png) CHECK(png_holds(png, size, width, height, channels, pixels));
    mde_release(c, png);
    CHECK(test_blocks() == 0);
}

static void png_images_decode_to_their_pixels(void)
{
    static const int sizes[][2] = { { 1, 1 }, { 2, 1 }, { 1, 7 }, { 3, 3 }, { 64, 33 }, { 300, 200 } };
    static const int kinds[3] = { 1, 3, 4 };
    test_heap heap;
    mde_context *c = test_heap_context(&heap, 0);
    unsigned char *pixels = (unsigned char *)malloc(300 * 200 * 4);
    size_t i, k, s;
    int pattern;
    for (s = 0; pixels && s < COUNT(sizes); s++) {
        for (k = 0; k < 3; k++) {
            size_t count = (size_t)(sizes[s][0] * sizes[s][1] * kinds[k]), row = (size_t)(sizes[s][0] * kinds[k]);
            for (pattern = 0; pattern < 5; pattern++) {
                uint64_t seed = 5;
                size_t raw = count + (size_t)sizes[s][1], most = raw + raw / 8 + 96;
                for (i = 0; i < count; i++) {
                    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
                    if (pattern == 0) pixels[i] = 200;
                    if (pattern == 1) pixels[i] = (unsigned char)(seed >> 56);
                    if (pattern == 2) pixels[i] = (unsigned char)(i % row + i / row * 3);
                    if (pattern == 3) pixels[i] = (unsigned char)(i / 16 % 2 * 255);
                    if (pattern == 4) pixels[i] = (unsigned char)(seed >> 62 ? i * i >> 7 : i);
                }
                if (pattern == 0 || pattern == 2) most = 300 + raw / 40;    /* repeats must be found */
                check_png(c, sizes[s][0], sizes[s][1], kinds[k], pixels, most);
            }
        }
    }
    free(pixels);
    mde_context_free(c);
}

/* Noise of 2 ^ 15 bytes twice: repeats exactly at, and one past, the far end of the window. */
static void png_repeats_reach_to_the_end_of_the_window(void)
{
    test_heap heap;
    mde_context *c = test_heap_context(&heap, 0);
    unsigned char *pixels = (unsigned char *)malloc(2 * 32800);
    int width;
    for (width = 32760; pixels && width < 32775; width++) {
        uint64_t seed = 9;
        int i;
        for (i = 0; i < width; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            pixels[i] = pixels[width + i] = (unsigned char)(seed >> 56);
        }
        check_png(c, 2 * width, 1, 1, pixels, 80000);
    }
    free(pixels);
    mde_context_free(c);
}

static void wrong_images_are_refused(void)
{
    static const int cases[][3] = { { 0, 1, 1 }, { 1, 0, 1 }, { -1, 1, 1 }, { 1, 1, 2 }, { 1, 1, 5 },
                                    { 2147483647, 2147483647, 4 } };
    static const unsigned char pixels[4] = { 0 };
    test_heap heap;
    mde_context *c = test_heap_context(&heap, 0);
    size_t i, size = 1;
    for (i = 0; i < COUNT(cases); i++) {
        CHECK(mde_png_encode(c, cases[i][0], cases[i][1], cases[i][2], pixels, &size) == NULL && size == 0);
        CHECK(mde_context_status(c) == MDE_BAD_ARGUMENT);
        CHECK_TEXT(mde_error(c), "png: ");
        mde_clear_error(c);
    }
    CHECK(mde_png_encode(c, 1, 1, 1, NULL, &size) == NULL && mde_context_status(c) == MDE_BAD_ARGUMENT);
    mde_clear_error(c);
    CHECK(mde_png_write(c, "test_pictures_tmp.png", 2, 2, 1, pixels) == MDE_OK);
    {
        unsigned char *bytes = mde_file_read(c, "test_pictures_tmp.png", 1000, &size);
        CHECK(bytes && png_holds(bytes, size, 2, 2, 1, pixels));
        mde_release(c, bytes);
    }
    remove("test_pictures_tmp.png");
    CHECK(test_blocks() == 0);
    mde_context_free(c);
}

/* ---- Memory ---- */

static void draw_one(mde_context *c, void *user)
{
    static const double values[6] = { 1, 2, 3, 4, 5, 6 };
    static const unsigned char pixels[4] = { 0 };
    int kind = *(const int *)user, calls = 0;
    mde_text *t;
    plot_series s;
    plot_desc plot;
    size_t size;
    if (!c) return;
    t = mde_text_create(c);
    memset(&plot, 0, sizeof plot);
    fill_series(&s, "a", 6, values, values, 1);
    plot.count = 1;
    plot.series = &s;
    if (kind == 5) plot.field = slope;
    plot.user = &calls;
    if (kind == 0 || kind == 5) plot_xy(t, &plot);
    if (kind == 1) plot_bars(t, "t", "y", 3, NULL, 2, NULL, values);
    if (kind == 2) plot_heat(t, "t", 3, NULL, 2, NULL, values, 1);
    if (kind == 3) plot_ternary(t, "t", NULL, bowl, &calls, 2, values, NULL);
    if (kind == 4) mde_release(c, mde_png_encode(c, 2, 2, 1, pixels, &size));
    mde_text_free(t);
    CHECK(test_blocks() == 0);
}

static void every_failed_allocation_is_an_error_and_leaks_nothing(void)
{
    int kind;
    for (kind = 0; kind < 6; kind++) CHECK(test_failing_allocations(draw_one, &kind, 100) > 4);
}

int main(void)
{
    TEST(a_plot_shows_each_finite_point_once);
    TEST(a_band_is_shaded_where_both_ends_are_known);
    TEST(level_lines_of_a_field_lie_on_their_level);
    TEST(long_titles_break_and_series_differ_in_shape);
    TEST(logarithmic_axes_leave_out_what_they_cannot_show);
    TEST(empty_plots_say_so);
    TEST(extreme_ranges_stay_inside_the_picture);
    TEST(ticks_are_round_numbers);
    TEST(bars_have_one_rectangle_a_finite_value);
    TEST(a_heat_map_has_a_cell_a_value_and_outlines_the_least);
    TEST(text_on_the_color_scale_is_readable);
    TEST(a_triangle_shows_a_function_its_levels_and_marks);
    TEST(level_lines_lie_on_their_level);
    TEST(pictures_are_the_same_bytes_everywhere);
    TEST(png_images_decode_to_their_pixels);
    TEST(png_repeats_reach_to_the_end_of_the_window);
    TEST(wrong_images_are_refused);
    TEST(every_failed_allocation_is_an_error_and_leaks_nothing);
    return test_end();
}
