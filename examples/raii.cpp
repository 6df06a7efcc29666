/* C++ on top of the C functions: owners that free themselves, errors as exceptions, vectors and strings. Two experts
   have judged the same tokens; which mixture of their training texts suits them best?

     c++ -std=c++17 -O2 examples/raii.cpp -o raii -lm && ./raii */
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h") /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif

namespace
{

/* Owns the context, and so all that is made from it. */
class Session
{
  public:
    Session() : context(mde_context_create(nullptr), mde_context_free)
    {
        if (!context) throw std::bad_alloc();
    }
    mde_context *get() const
    {
        return context.get();
    }
    /* To be called after anything that can fail: the first error stays until it is asked for. */
    void check() const
    {
        if (mde_context_status(get()) == MDE_OK) return;
        std::string text = std::string(mde_status_name(mde_context_status(get()))) + ": " + mde_error(get());
        mde_clear_error(get());
        throw std::runtime_error(text);
    }

  private:
    std::unique_ptr<mde_context, void (*)(mde_context *)> context;
};

class Mixture
{
  public:
    Mixture(const Session &owner, const std::vector<const char *> &names)
        : session(owner),
          experts(mde_experts_create(owner.get(), static_cast<int>(names.size()), names.data()), mde_experts_free)
    {
        owner.check();
    }
    void add(const char *text, const std::vector<std::vector<float>> &logp)
    {
        std::vector<const float *> rows;
        for (const std::vector<float> &row : logp) {
            if (row.size() != logp[0].size()) throw std::invalid_argument(std::string(text) + ": lengths differ");
            rows.push_back(row.data());
        }
        mde_experts_add(experts.get(), text, logp[0].size(), rows.data(), nullptr, 0);
        session.check();
    }
    mde_optimum minimize() const
    {
        mde_optimum best;
        mde_mixture_minimize(experts.get(), nullptr, &best);
        session.check();
        return best;
    }

  private:
    const Session &session;
    std::unique_ptr<mde_experts, void (*)(mde_experts *)> experts;
};

} // namespace

int main()
{
    try {
        Session session;
        std::vector<const char *> names = { "stories", "manuals" };
        Mixture mixture(session, names);
        std::vector<std::vector<float>> logp(2);
        for (int t = 0; t < 64; t++) { // yours come from real models: mde_experts_open reads .npy files
            logp[0].push_back(t % 3 ? -0.5f : -3.0f);
            logp[1].push_back(t % 3 ? -2.5f : -0.2f);
        }
        mixture.add("validation", logp);
        mde_optimum best = mixture.minimize();
        for (std::size_t i = 0; i < names.size(); i++) std::printf("%6.3f  %s\n", best.weights[i], names[i]);
        std::printf("loss %.4f nats a token, at most %.1e above the minimum\n", best.loss, best.gap);

        try {
            logp[1][5] = 0.5f; // no probability is above 1
            mixture.add("wrong", logp);
        } catch (const std::runtime_error &error) {
            std::printf("refused: %s\n", error.what());
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
