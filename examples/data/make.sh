#!/bin/sh
# make.sh FOLDER: the sample tables of this folder, made up by a law with noise from a seed, so that they can be made again:
#   ratios.csv, losses.csv   24 runs on five domains, their losses in nats a token, the accuracy on a test of questions
#   runs.csv                 the same as one wide table, as an export of a tracking tool may look
#   test_*.csv               8 further runs, to judge on
#   domains.csv              how many tokens there are of each domain
#   mixtures.csv             mixtures to compare
# A loss is c + sum_i a_i exp(-b_i w_i) over the weights w of the domains that help with it, plus noise of sd .004.
cd "${1:-.}" || exit 1
awk -v seed=20251128 '
function uniform() { seed = (seed * 16807) % 2147483647; return seed / 2147483647 }
function noise(  i, sum) { for (i = 0; i < 12; i++) sum += uniform(); return .004 * (sum - 6) }
function run(id, ratios, losses, wide,   i, sum, rest, w, y, acc) {
    for (i = 1; i <= 5; i++) sum += w[i] = -log(uniform()) * share[i]
    for (i = 1; i < 5; i++) rest += w[i] = int(1000 * w[i] / sum) / 1000
    w[5] = 1 - rest
    y[1] = 1.05 + .95 * exp(-6 * w[1]) + .12 * exp(-3 * w[5]) + noise()
    y[2] = 2.60 + .70 * exp(-3 * w[2]) + .15 * exp(-8 * w[4]) + noise()
    y[3] = 2.75 + .80 * exp(-7 * w[3]) + .25 * exp(-2 * w[2]) + noise()
    y[4] = 1.90 + .40 * exp(-9 * w[4]) + .35 * exp(-5 * w[5]) + .20 * exp(-2 * w[2]) + noise()
    acc = .62 - .22 * (y[4] - 1.9) + noise()
    printf "%s,%.3f,%.3f,%.3f,%.3f,%.3f\n", id, w[1], w[2], w[3], w[4], w[5] > ratios
    printf "%s,2e9,1.6e8,%.4f,%.4f,%.4f,%.4f,%.4f\n", id, y[1], y[2], y[3], y[4], acc > losses
    if (wide) {
        printf "%s,4000,%.3f,%.3f,%.3f,%.3f,%.3f,", id, w[1], w[2], w[3], w[4], w[5] > wide
        printf "%.4f,%.4f,%.4f,%.4f,%.4f,2e9,1.6e8\n", y[1], y[2], y[3], y[4], acc > wide
    }
}
BEGIN {
    split("1.2 2 .8 .5 .8", share, " ")
    heads = "run,code,web,books,wiki,papers"
    print heads > "ratios.csv"
    print heads > "test_ratios.csv"
    print "run,tokens,params,code,web,books,questions,questions_accuracy" > "losses.csv"
    print "run,tokens,params,code,web,books,questions,questions_accuracy" > "test_losses.csv"
    printf "run,step,weight_code,weight_web,weight_books,weight_wiki,weight_papers," > "runs.csv"
    print "loss/code,loss/web,loss/books,loss/questions,questions_accuracy,tokens,params" > "runs.csv"
    for (n = 1; n <= 24; n++) run("a" n, "ratios.csv", "losses.csv", "runs.csv")
    for (n = 1; n <= 8; n++) run("t" n, "test_ratios.csv", "test_losses.csv", "")
}' </dev/null
printf '%s\n' domain,tokens code,120e9 web,900e9 books,25e9 wiki,15e9 papers,60e9 >domains.csv
printf '%s\n' mixture,code,web,books,wiki,papers 'mostly web,.1,.7,.1,.05,.05' 'more code,.4,.35,.1,.05,.1' \
    'no books,.3,.5,0,.1,.1' >mixtures.csv
