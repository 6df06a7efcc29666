/* dagan_report.h - what the steps found, as a page with its pictures and as one JSON file. For dagan_lab.c, which
   includes it once all steps are defined. */
#ifndef DAGAN_REPORT_H
#define DAGAN_REPORT_H

static void add_base64(mde_text *t, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[5] = "";
    size_t i;
    for (i = 0; i < size; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16;
        if (i + 1 < size) v |= (unsigned)bytes[i + 1] << 8;
        if (i + 2 < size) v |= (unsigned)bytes[i + 2];
        line[0] = digits[v >> 18];
        line[1] = digits[v >> 12 & 63];
        line[2] = i + 1 < size ? digits[v >> 6 & 63] : '=';
        line[3] = i + 2 < size ? digits[v & 63] : '=';
        mde_text_add(t, line);
    }
}

/* A picture of the folder inside the page, or a sentence that it is missing. */
static void add_picture(lab *l, mde_text *t, const char *name, const char *note)
{
    char path[4096];
    size_t size;
    unsigned char *bytes;
    in_out(l, name, path, sizeof path);
    if (!mde_is_file(path)) {
        mde_text_format_html(t, "<p class=\"note\">%s is not there yet.</p>\n", name);
        return;
    }
    bytes = mde_file_read(l->c, path, (size_t)1 << 26, &size);
    if (!bytes) return;
    mde_text_format(t, "<p><img alt=\"%s\" src=\"data:image/png;base64,", name);
    add_base64(t, bytes, size);
    mde_text_format(t, "\"></p>\n<p class=\"note\">%s</p>\n", note);
    mde_release(l->c, bytes);
}

static mde_json *read_json(lab *l, const char *name)
{
    char path[4096];
    in_out(l, name, path, sizeof path);
    return mde_is_file(path) ? mde_json_read(l->c, path) : NULL;
}

#define MAX_POINTS 256

static int numbers(const mde_json *array, double *out)
{
    const mde_json *p;
    int n = 0;
    for (p = array ? array->child : NULL; p && n < MAX_POINTS; p = p->next) {
        out[n++] = p->kind == MDE_JSON_NUMBER ? p->number : (double)NAN;
    }
    return n;
}

/* What the generator was worth on the way. */
static void add_looks(mde_text *t, const mde_json *j)
{
    static const char *const names[3] = { "made images recognised", "real images recognised",
                                          "diversity of made images" };
    double x[MAX_POINTS], y[3][MAX_POINTS];
    plot_series s[3];
    plot_desc p;
    int n = numbers(mde_json_get(j, look_names[LOOK_STEP]), x), k;
    if (n < 1) return;
    memset(s, 0, sizeof s);
    memset(&p, 0, sizeof p);
    for (k = 0; k < 3; k++) {
        s[k].name = names[k];
        s[k].count = numbers(mde_json_get(j, look_names[1 + k]), y[k]);
        s[k].x = x;
        s[k].y = y[k];
    }
    p.title = "Validation classes: 1-shot accuracy of the matcher that screens, and diversity";
    p.x_label = "generator steps";
    p.width = 1000;
    p.height = 300;
    p.count = 3;
    p.series = s;
    plot_xy(t, &p);
}

static void add_training(mde_text *t, const mde_json *j)
{
    static const char *const keys[4] = { "distance", "generator_loss", "gradient_norm", "penalty" };
    static const char *const titles[4] = { "Critic's distance, real against made", "Generator loss",
                                           "Mean gradient norm of the critic", "Gradient penalty" };
    double x[MAX_POINTS], y[MAX_POINTS];
    int k;
    mde_text_format(t, "<p>%d source, %d validation and %d target classes; generator of %d and critic of %d "
                    "parameters; %lld steps with %d critic steps each.</p>\n",
                    program_int(j, "source_classes"),
                    program_int(j, "validation_classes"), program_int(j, "target_classes"),
                    program_int(j, "generator_parameters"), program_int(j, "critic_parameters"),
                    (long long)program_integer(j, "steps"), program_int(j, "critic_steps"));
    mde_text_add(t, "<div class=\"wide\">");
    add_looks(t, j);
    for (k = 0; k < 4; k++) {
        plot_series s;
        plot_desc p;
        memset(&s, 0, sizeof s);
        memset(&p, 0, sizeof p);
        s.count = numbers(mde_json_get(j, "step"), x);
        numbers(mde_json_get(j, keys[k]), y);
        s.x = x;
        s.y = y;
        p.title = titles[k];
        p.x_label = "generator steps";
        p.width = 500;
        p.height = 260;
        p.count = 1;
        p.series = &s;
        plot_xy(t, &p);
    }
    mde_text_add(t, "</div>\n");
}

static void add_percent(mde_text *t, const mde_json *j, const char *mean, const char *spread, int best)
{
    double value = mde_json_number(j, mean, (double)NAN), error = mde_json_number(j, spread, (double)NAN);
    if (value != value || error != error) {
        program_page_number(t, 100 * value, 2, best);
        return;
    }
    mde_text_add(t, best ? "<td class=\"best\">" : "<td>");
    mde_text_add_fixed(t, 100 * value, 2);
    mde_text_add(t, " &plusmn; ");
    mde_text_add_fixed(t, 100 * error, 2);
    mde_text_add(t, "</td>");
}

/* 1 and a sentence if a step was left out. */
static int add_left_out(mde_text *t, const mde_json *j)
{
    const char *why = mde_json_string(j, "left_out", NULL);
    if (why) mde_text_format_html(t, "<p class=\"note\">Left out: %s.</p>\n", why);
    return why != NULL;
}

/* Accuracy on validation classes by the number of made images, taken as they come. */
static void add_by_number(mde_text *t, const mde_json *rows)
{
    const mde_json *row, *tried;
    double x[PROGRAM_MAX_INTS][MAX_POINTS], y[PROGRAM_MAX_INTS][MAX_POINTS];
    char names[PROGRAM_MAX_INTS][40];
    plot_series s[PROGRAM_MAX_INTS];
    plot_desc p;
    int n = 0;
    memset(s, 0, sizeof s);
    memset(&p, 0, sizeof p);
    for (row = rows ? rows->child : NULL; row && n < PROGRAM_MAX_INTS; row = row->next) {
        tried = mde_json_get(row, "chosen_on_validation_classes");
        for (tried = tried ? tried->child : NULL; tried && s[n].count < MAX_POINTS; tried = tried->next) {
            const char *arm = mde_json_string(tried, "arm", "");
            if (strcmp(arm, arm_names[NONE]) != 0 && strcmp(arm, arm_names[RAW]) != 0) continue;
            x[n][s[n].count] = program_int(tried, "made");
            y[n][s[n].count++] = 100 * mde_json_number(tried, "accuracy", (double)NAN);
        }
        snprintf(names[n], sizeof names[n], "%d real images a class", program_int(row, "samples"));
        s[n].name = names[n];
        s[n].x = x[n];
        s[n].y = y[n];
        n += s[n].count > 1;
    }
    if (n == 0) return;
    p.title = "Accuracy on validation classes, no augmentation, by made images a real one";
    p.x_label = "made images a real one, half of every batch";
    p.y_label = "%";
    p.width = 500;
    p.height = 300;
    p.count = n;
    p.series = s;
    plot_xy(t, &p);
}

static void add_classify(mde_text *t, const mde_json *j)
{
    const mde_json *row, *arm;
    double values[PROGRAM_MAX_INTS * ARMS];
    char names[PROGRAM_MAX_INTS][32];
    const char *groups[PROGRAM_MAX_INTS];
    int n = 0, k;
    if (add_left_out(t, j)) return;
    mde_text_format_html(t, "<p>Set: %s", mde_json_string(j, "set", ""));
    mde_text_format(t, ". %d classes, %d test images of each, %d runs with a split of their own; every arm trains "
                    "for %lld steps, in proportion more if there are over a thousand real images.</p>\n<table><tr>"
                    "<th>real samples a class</th>",
                    program_int(j, "classes"), program_int(j, "test_samples"), program_int(j, "runs"),
                    (long long)program_integer(j, "steps"));
    for (k = 0; k < ARMS; k++) mde_text_format(t, "<th>%s</th>", arm_names[k]);
    mde_text_add(t, "<th>screened &minus; none</th><th>both &minus; classic</th></tr>\n");
    row = mde_json_get(j, "rows") ? mde_json_get(j, "rows")->child : NULL;
    for (; row && n < PROGRAM_MAX_INTS; row = row->next) {
        double best = -1;
        const mde_json *arms = mde_json_get(row, "arms");
        snprintf(names[n], sizeof names[n], "%d a class", program_int(row, "samples"));
        groups[n] = names[n];
        for (k = 0, arm = arms ? arms->child : NULL; arm && k < ARMS; arm = arm->next, k++) {
            values[n * ARMS + k] = 100 * mde_json_number(arm, "mean", (double)NAN);
            if (values[n * ARMS + k] > best) best = values[n * ARMS + k];
        }
        mde_text_format(t, "<tr><td>%d</td>", program_int(row, "samples"));
        for (k = 0, arm = arms ? arms->child : NULL; arm && k < ARMS; arm = arm->next, k++) {
            add_percent(t, arm, "mean", "spread", values[n * ARMS + k] >= best);
        }
        add_percent(t, mde_json_get(row, "screened_minus_none"), "mean", "standard_error", 0);
        add_percent(t, mde_json_get(row, "both_minus_classic"), "mean", "standard_error", 0);
        mde_text_add(t, "</tr>\n<tr class=\"note\"><td>steps</td>");
        for (k = 0, arm = arms ? arms->child : NULL; arm && k < ARMS; arm = arm->next, k++) {
            mde_text_format(t, "<td>%lld</td>", (long long)program_integer(arm, "steps"));
        }
        mde_text_add(t, "<td></td><td></td></tr>\n");
        n++;
    }
    mde_text_add(t, "</table>\n<p class=\"note\">Accuracy in %, mean &plusmn; standard deviation over runs; the "
                    "differences are of runs on the same split, &plusmn; standard error. How many made images an arm "
                    "has, which of them and how many of a batch was chosen on validation classes, where "
                    "classify.csv also has the accuracy after a quarter and half of the steps.</p>\n");
    mde_text_add(t, "<div class=\"wide\">");
    if (n) plot_bars(t, "Accuracy on held-out images of target classes", "%", n, groups, ARMS, arm_names, values);
    add_by_number(t, mde_json_get(j, "rows"));
    mde_text_add(t, "</div>\n");
}

/* How near made images are to those of the training, and what becomes of classes. */
static void add_sample(lab *l, mde_text *t, const mde_json *j)
{
    double made = mde_json_number(j, "made_to_source", (double)NAN);
    double real = mde_json_number(j, "real_to_source", (double)NAN), right = mde_json_number(j, "right", (double)NAN);
    if (right == right) {
        mde_text_add(t, "<h2>Made images that look like another class</h2>\n<p>Of ");
        mde_text_format(t, "%d images made of the target classes ", program_int(j, "made"));
        mde_text_add_fixed(t, 100 * (1 - right), 1);
        mde_text_add(t, " % are given to another class by the Matching Network that screens, when it compares them "
                        "with up to five real images of every class.</p>\n");
        add_picture(l, t, "failures.png", "In threes: the real image, what was made of it, and an image of the class "
                                          "that it is taken for; the most mistaken ones first, one a class.");
    }
    if (made != made || real != real) return;
    mde_text_add(t, "<h2>No copies of the training</h2>\n<p>The nearest source image lies, in the median, ");
    mde_text_add_number(t, made, 3);
    mde_text_add(t, " from a made image and ");
    mde_text_add_number(t, real, 3);
    mde_text_add(t, " from the real image that it was made from (Euclidean, by pixels). Copies would lie at 0.</p>\n");
    add_picture(l, t, "nearest.png", "In threes: the real image of a class never seen, what was made of it, and the "
                                     "image of the training that is nearest to what was made.");
}

/* What made images give, in a sentence for each number of real ones. */
static void add_headline(mde_text *t, const mde_json *j)
{
    static const char *const words[2][3] = { { "screened_minus_none", "without made images", "with made ones" },
                                             { "both_minus_classic", "with classic augmentation", "with both" } };
    static const int arms_of[2][2] = { { NONE, MADE }, { CLASSIC, BOTH } };
    const mde_json *row = mde_json_get(j, "rows");
    for (row = row ? row->child : NULL; row; row = row->next) {
        int k, i;
        mde_text_format(t, "<p><b>%d real image%s a class</b>: ", program_int(row, "samples"),
                        program_int(row, "samples") == 1 ? "" : "s");
        for (k = 0; k < 2; k++) {
            const mde_json *gain = mde_json_get(row, words[k][0]), *arm;
            double value[2] = { (double)NAN, (double)NAN }, error;
            for (i = 0, arm = mde_json_get(row, "arms"), arm = arm ? arm->child : NULL; arm; arm = arm->next, i++) {
                if (i == arms_of[k][0]) value[0] = mde_json_number(arm, "mean", (double)NAN);
                if (i == arms_of[k][1]) value[1] = mde_json_number(arm, "mean", (double)NAN);
            }
            mde_text_add(t, k ? "; " : "");
            mde_text_add_fixed(t, 100 * value[0], 1);
            mde_text_format(t, " %% of the test images right %s, ", words[k][1]);
            mde_text_add_fixed(t, 100 * value[1], 1);
            mde_text_format(t, " %% %s (difference ", words[k][2]);
            mde_text_add_fixed(t, 100 * mde_json_number(gain, "mean", (double)NAN), 1);
            error = mde_json_number(gain, "standard_error", (double)NAN);
            if (error == error) {               /* of one run there is none */
                mde_text_add(t, " &plusmn; ");
                mde_text_add_fixed(t, 100 * error, 1);
            }
            mde_text_add(t, ")");
        }
        mde_text_add(t, ".</p>\n");
    }
}

static void add_match(mde_text *t, const mde_json *j)
{
    static const char *const rows[7][3] = {
        { "diversity", "distance of two made images of one real image, over that of two real images of a class",
          "1 is as varied as real ones, 0 says that z is ignored" },
        { "copy", "distance of a made image to the image it was made from, over that of two real images of a class",
          "0 is a copy" },
        { "recognisability", "1-shot accuracy of the Matching Network on made images, 20-way or all classes", "" },
        { "real_recognisability", "the same on real images", "" },
        { "embedded_diversity", "diversity in the embedding of the Matching Network", "" },
        { "embedded_copy", "copy ratio in that embedding", "" },
        { "z_share", "share of z in the variance of made images", "the rest is due to the image" } };
    const mde_json *row, *cell, *quality = mde_json_get(j, "quality"), *pixels = mde_json_get(j, "pixels");
    int k;
    if (add_left_out(t, j)) return;
    row = mde_json_get(j, "matchers") ? mde_json_get(j, "matchers")->child : NULL;
    cell = row ? mde_json_get(row, "accuracy") : NULL;
    mde_text_add(t, "<table><tr><th>support set</th>");
    for (cell = cell ? cell->child : NULL; cell; cell = cell->next) {
        mde_text_format(t, "<th>%d-way %d-shot</th>", program_int(cell, "way"),
                        program_int(cell, "shot"));
    }
    mde_text_add(t, "</tr>\n");
    for (; row; row = row->next) {
        mde_text_format_html(t, "<tr><td>%s</td>", mde_json_string(row, "matcher", ""));
        cell = mde_json_get(row, "accuracy");
        for (cell = cell ? cell->child : NULL; cell; cell = cell->next) {
            add_percent(t, cell, "mean", "standard_error", 0);
        }
        mde_text_add(t, "</tr>\n");
    }
    mde_text_format(t, "</table>\n<p class=\"note\">Accuracy in %% on %d target classes, &plusmn; standard error over "
                    "%d episodes; each network was trained on source classes for %d episodes.</p>\n",
                    program_int(j, "classes"), program_int(j, "test_episodes"),
                    program_int(j, "episodes"));
    if (pixels) {
        static const char *const names[3][2] = { { "real", "" }, { "with_made", " %; with ten made images beside each "
                                                 "support image " }, { "with_100_made", " %; with a hundred " } };
        double episodes = program_int(j, "test_episodes");
        mde_text_format(t, "<p>Nearest neighbour by pixels, %d-way 1-shot: ", program_int(pixels, "way"));
        for (k = 0; k < 3; k++) {
            double right = mde_json_number(pixels, names[k][0], (double)NAN);
            if (!(right == right)) continue;
            mde_text_add(t, names[k][1]);
            mde_text_add_fixed(t, 100 * right, 2);
            mde_text_add(t, " &plusmn; ");
            mde_text_add_fixed(t, 100 * sqrt(right * (1 - right) / episodes), 2);
        }
        mde_text_add(t, " %.</p>\n");
    }
    mde_text_add(t, "<h2>The made images in numbers</h2>\n<table><tr><th>measure</th><th>value</th>"
                    "<th style=\"text-align:left\">meaning</th></tr>\n");
    for (k = 0; k < 7; k++) {
        mde_text_format(t, "<tr><td>%s</td>", rows[k][0]);
        program_page_number(t, mde_json_number(quality, rows[k][0], (double)NAN), 3, 0);
        mde_text_format(t, "<td style=\"text-align:left\">%s%s%s</td></tr>\n", rows[k][1], *rows[k][2] ? "; " : "",
                        rows[k][2]);
    }
    mde_text_add(t, "</table>\n");
    if (mde_json_string(quality, "why_null", NULL)) {
        mde_text_format_html(t, "<p class=\"note\">A dash: %s.</p>\n", mde_json_string(quality, "why_null", ""));
    }
}

/* report.json: the other files, word for word, under their names. */
static void write_report_json(lab *l)
{
    static const char *const files[5] = { "train", "sample", "classify", "match", "transfer" };
    mde_text *t = mde_text_create(l->c);
    mde_json_writer w = mde_json_start(t, 1);
    int k;
    mde_json_open(&w, NULL, '{');
    for (k = 0; k < 5; k++) {
        char name[64], path[4096];
        size_t size;
        unsigned char *bytes;
        snprintf(name, sizeof name, "%s.json", files[k]);
        if (!mde_is_file(in_out(l, name, path, sizeof path))) continue;
        bytes = mde_file_read(l->c, path, (size_t)1 << 26, &size);
        while (bytes && size > 0 && bytes[size - 1] == '\n') bytes[--size] = 0;
        if (bytes) mde_json_write_raw(&w, files[k], (const char *)bytes);
        mde_release(l->c, bytes);
    }
    mde_json_close(&w);
    mde_json_end(&w);
    write_file(l, t, "report.json");
}

static void report(lab *l)
{
    static const char *const parts[] = { "train.json", "classify.json", "match.json", "transfer.json", "sample.json",
                                         "samples.png", "interpolation.png", "training.png", "failures.png",
                                         "nearest.png" };
    mde_json *training, *classes, *matches, *other, *shown;
    mde_text *t;
    char path[4096];
    program_work w = program_work_start(&l->p, l->c, l->s.out, "report");
    size_t i;
    int found = 0;
    program_work_output(&w, "report.html");
    program_work_output(&w, "report.json");
    for (i = 0; i < sizeof parts / sizeof *parts; i++) {
        found += mde_is_file(in_out(l, parts[i], path, sizeof path));
        program_work_input(&w, path);
    }
    if (!found) {
        mde_fail(l->c, MDE_IO, "%s: has nothing to report on; train, sample, classify and match make it", l->s.out);
        return;
    }
    if (program_work_is_done(&w, 0)) return;
    training = read_json(l, "train.json");
    classes = read_json(l, "classify.json");
    matches = read_json(l, "match.json");
    other = read_json(l, "transfer.json");
    shown = read_json(l, "sample.json");
    t = mde_text_create(l->c);
    program_page_open(t, "DAGAN report", "Images made for classes never seen");
    if (l->s.weights) {
        mde_text_format_html(t, "<p>The generator comes from %s. Whether it has seen these classes cannot be told from "
                             "the file.</p>\n", l->s.weights);
    } else mde_text_format_html(t, "<p>Data: %s; target: %s; preset %s, seed %s.</p>\n",
                         mde_json_string(training, "data", "unknown"), mde_json_string(training, "target", "unknown"),
                         mde_json_string(training, "preset", "unknown"), mde_json_string(training, "seed", "?"));
    add_picture(l, t, "samples.png", "Target classes, one a row: a real image first, then images made from it, each "
                                     "with a z of its own. They should be of the same class, and differ.");
    if (classes) add_headline(t, classes);
    add_picture(l, t, "interpolation.png", "The same with z going from one point to another along a row.");
    mde_text_add(t, "<h2>Classifiers with few real samples</h2>\n");
    if (classes) add_classify(t, classes);
    else mde_text_add(t, "<p class=\"note\">classify.json is not there yet.</p>\n");
    mde_text_add(t, "<h2>Matching Networks</h2>\n");
    if (matches) add_match(t, matches);
    else mde_text_add(t, "<p class=\"note\">match.json is not there yet.</p>\n");
    if (shown) add_sample(l, t, shown);
    mde_text_add(t, "<h2>On another set</h2>\n");
    if (other) add_classify(t, other);
    else mde_text_add(t, "<p class=\"note\">transfer.json is not there yet.</p>\n");
    mde_text_add(t, "<h2>Training</h2>\n");
    if (training) add_training(t, training);
    else mde_text_add(t, "<p class=\"note\">train.json is not there yet.</p>\n");
    add_picture(l, t, "training.png", "Validation classes at the end of the training.");
    program_page_close(t);
    write_file(l, t, "report.html");
    mde_json_free(l->c, training);
    mde_json_free(l->c, classes);
    mde_json_free(l->c, matches);
    mde_json_free(l->c, other);
    mde_json_free(l->c, shown);
    write_report_json(l);
    program_work_finish(&w, NULL);
    if (!bad(l) && !l->p.json) printf("report: %s\n", in_out(l, "report.html", path, sizeof path));
}

#endif /* DAGAN_REPORT_H */
