#!/bin/sh
# Python beside the headers: the shared library and its binding, models read by PyTorch, log-probabilities of other
# programs. What Python lacks is skipped. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
. tests/try.sh

# The library is built in a tree of its own, where the binding finds it.
mkdir -p "$work/tree/examples" "$work/tree/build"
cp Makefile ./*.h "$work/tree" && cp -r examples/python "$work/tree/examples"
try make_shared_builds_the_library make -C "$work/tree" shared CC="$CC" CFLAGS="-std=c99 -O1" OPENMP=
library=$work/tree/build/libmdemix.so
if command -v nm > /dev/null 2>&1; then
    cat ./*.h | sed -n 's/^MDEDEF .*[ *]\(mde_[a-z0-9_]*\)(.*/\1/p; s/^MDEDEF .*[ *]\(dagan_[a-z0-9_]*\)(.*/\1/p' |
        sort -u > "$work/declared"
    nm -D --defined-only "$library" | awk '{ print $3 }' | grep -E '^(mde|dagan)_' | sort -u > "$work/exported"
    try the_library_has_every_public_function diff "$work/declared" "$work/exported"
else
    skip the_library_has_every_public_function "nm is not installed"
fi

python=$(python_with ctypes)
if [ -z "$python" ]; then
    skip python "no Python 3 was found"
    finish
fi

# Writes C that compiles only if every function takes and returns what the binding says, and that prints where the
# fields of every structure are.
cat > "$work/header.py" <<'END'
import ctypes, sys
from mdemix import functions, mde_optimum, mde_minimize_desc, mde_lm_desc, mde_lm_state
structs = [mde_optimum, mde_minimize_desc, mde_lm_desc, mde_lm_state]
def c_type(t):
    if t is None: return "void"
    if t is ctypes.c_void_p: return "void *"
    if t is ctypes.c_char_p: return "const char *"
    if issubclass(t, ctypes._Pointer):
        inner = c_type(t._type_)
        return inner + ("const *" if inner.endswith("*") else " *")
    return t.__name__ if issubclass(t, ctypes.Structure) else {
        ctypes.c_int: "int", ctypes.c_int32: "int32_t", ctypes.c_int64: "int64_t", ctypes.c_size_t: "size_t",
        ctypes.c_uint64: "uint64_t", ctypes.c_float: "float", ctypes.c_double: "double"}[t]
def argument(t):
    if t is not None and issubclass(t, ctypes._Pointer) and issubclass(t._type_, ctypes._Pointer):
        return f"(const {c_type(t._type_)}const *)0"
    return f"({c_type(t)})0"
if sys.argv[1] == "write":
    print('#include <stdio.h>\n#include "mdemix.h"\nint main(void)\n{')
    for name, (result, *arguments) in functions.items():
        call = f"{name}({', '.join(argument(t) for t in arguments)})"
        print(f"    if (0) {call};" if result is None else f"    (void)sizeof(1 ? {call} : ({c_type(result)})0);")
    for t in structs:
        print(f'    printf("{t.__name__} %zu\\n", sizeof({t.__name__}));')
        for field, kind in t._fields_:
            print(f'    printf("{t.__name__} {field} %zu %zu\\n", offsetof({t.__name__}, {field}), '
                  f'sizeof ((({t.__name__} *)0)->{field}));')
    print("    return 0;\n}")
else:
    for t in structs:
        print(t.__name__, ctypes.sizeof(t))
        for field, kind in t._fields_:
            print(t.__name__, field, getattr(t, field).offset, getattr(t, field).size)
END
binding() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$work/tree/examples/python "$python" "$@"
}
binding "$work/header.py" write > "$work/header.c"
try the_binding_calls_functions_as_the_header_declares_them \
    "$CC" -std=c99 -Wall -Wextra -Werror -Wno-unused-value -I. "$work/header.c" -o "$work/header"
"$work/header" > "$work/header.txt" 2> /dev/null
binding "$work/header.py" read > "$work/binding.txt"
try the_binding_has_the_structures_of_the_header cmp "$work/header.txt" "$work/binding.txt"

cat > "$work/use.py" <<'END'
import math, mdemix
experts = mdemix.Experts(names=["stories", "manuals"])
experts.add("validation", {"stories": [-0.5 if t % 3 else -3.0 for t in range(64)],
                           "manuals": [-2.5 if t % 3 else -0.2 for t in range(64)]})
weights, loss, gap = experts.minimize()
mixed = lambda w: -sum(math.log(w * math.exp(-0.5 if t % 3 else -3) + (1 - w) * math.exp(-2.5 if t % 3 else -0.2))
                       for t in range(64)) / 64
assert abs(sum(weights.values()) - 1) < 1e-9 and gap <= 1e-6
assert abs(loss - mixed(weights["stories"])) < 1e-6
assert all(mixed(k / 1000) >= loss - gap for k in range(1001))
for wrong in ({"stories": [0.5], "manuals": [-1]}, {"stories": [-1, -1], "manuals": [-1]}):
    try:
        experts.add("wrong", wrong)
    except (RuntimeError, ValueError) as error:
        assert "wrong" in str(error), error
    else:
        raise AssertionError("wrong numbers were taken")
END
try the_binding_finds_the_minimum_and_raises_errors binding "$work/use.py"

# ---- Models in PyTorch ----

python=$(python_with torch)
cat > "$work/models.py" <<'END'
import ctypes, json, os, sys
import torch
import load_torch, mdemix
from mdemix import library
torch.manual_seed(1)
ids = [84, 104, 101, 32, 99, 97, 116, 0, 255, 32]
forms = {
    "llama": dict(),
    "qwen2": dict(kv_heads=2, untied=1, biases=3, rope_base=500.0),
    "llama of wide heads": dict(kv_heads=1, head_dim=12, biases=1),
    "gpt2": dict(layer_norm=1, learned_positions=1, gelu=1, biases=1),
}
for name, fields in forms.items():
    call, folder = mdemix.Context(), os.path.join(sys.argv[1], name)
    file = os.path.join(folder, "model.safetensors")
    os.mkdir(folder)
    desc = mdemix.mde_lm_desc(layers=2, width=32, heads=4, context=16, vocabulary=256, **fields)
    call("mde_lm_write", call("mde_lm_create", call.pointer, None, ctypes.byref(desc)), os.fsencode(file))
    # Weights and biases of all sizes, in the same file.
    data = bytearray(open(file, "rb").read())
    start = 8 + int.from_bytes(data[:8], "little")
    values = torch.frombuffer(data[start:], dtype=torch.float32)
    values += 0.3 * torch.randn_like(values)
    data[start:] = values.numpy().tobytes()
    open(file, "wb").write(data)
    expected = load_torch.logits(folder, ids)
    state = call("mde_lm_state_create", call("mde_lm_open", call.pointer, os.fsencode(folder)))
    out = (ctypes.c_float * 256)()
    for position, token in enumerate(ids):
        call("mde_lm_step", state, 1, (ctypes.c_int32 * 1)(token), out)
        error = (torch.tensor(list(out)) - expected[position]).abs().max()
        assert error < 1e-4, f"{name}, position {position}: logits differ by {error}"
    assert expected.abs().max() > 1
    library.mde_lm_state_free(state)
config = json.load(open(os.path.join(folder, "config.json")))
config["model_type"] = "mamba"
json.dump(config, open(os.path.join(folder, "config.json"), "w"))
try:
    load_torch.logits(folder, ids)
except ValueError as error:
    assert "model_type is mamba" in str(error)
else:
    raise AssertionError("an unknown form was read")
END
mkdir "$work/models"
if [ -n "$python" ]; then
    try models_have_the_same_logits_in_torch_and_here binding "$work/models.py" "$work/models"
else
    skip models_have_the_same_logits_in_torch_and_here "torch is not installed"
fi

# ---- Log-probabilities of other programs ----

python=$(python_with numpy)
cat > "$work/convert.py" <<'END'
import json, os, struct, subprocess, sys
import numpy as np
import mdemix
program, folder = sys.argv[1:]
os.chdir(folder)
random = np.random.default_rng(1)
window, vocabulary, windows = 9, 31, 4
tokens = random.integers(vocabulary, size=(windows, window))

def write(path, logits):
    """As llama.cpp does: 16 bits between the largest logit and, at most, 16 below."""
    with open(path, "wb") as file:
        file.write(b"_logits_" + struct.pack("<3i", window, vocabulary, windows) + tokens.astype("<i4").tobytes())
        for chunk in logits:
            for row in chunk[window // 2:window - 1]:
                low = max(row.min(), row.max() - 16)
                scale = (row.max() - low) / 65535
                levels = np.rint(np.maximum(row - low, 0) / scale).astype("<u2") if scale else np.zeros(vocabulary, "<u2")
                total = row.max() + np.log(np.exp(row - row.max()).sum())
                file.write(struct.pack("<2f", scale, low - total) + levels.tobytes() + b"\0\0" * (vocabulary % 2))

def run(*arguments, says=None):
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
    if says is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and says in done.stderr, done.stderr
    return done.stdout

scored = np.s_[:, window // 2 + 1:]
for name in ("code", "web"):
    logits = random.normal(size=(windows, window, vocabulary)) * 2
    if name == "web":
        logits[1, window // 2, tokens[1, window // 2 + 1]] = -40       # below the floor
        logits[2, window // 2] = 0.25                                  # all alike: no scale
    write(name + ".kld", logits)
    exact = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    exact = np.take_along_axis(exact[:, window // 2:-1], tokens[scored][..., None], 2).ravel()
    said = run("logprobs/wiki", f"{name}={name}.kld")
    found = np.load(f"logprobs/wiki/{name}.npy")
    close = np.abs(found - exact) < 2e-4
    assert found.dtype == np.float32 and len(found) == windows * 4
    assert close.all() if name == "code" else (~close).sum() == 1 and found[~close] > exact[~close]
    assert ("0 % of them" if name == "code" else "6.25 % of them") in said, said
run("logprobs/wiki", "code=code.kld", "web=web.kld")
weights, loss, gap = mdemix.Experts("logprobs").minimize()
assert set(weights) == {"code", "web"} and abs(sum(weights.values()) - 1) < 1e-9

data = open("code.kld", "rb").read()
open("short.kld", "wb").write(data[:-1])
run("logprobs/bad", "code=short.kld", says="was it written to its end?")
open("header.kld", "wb").write(data[:15])
run("logprobs/bad", "code=header.kld", says="its header says")
open("huge.kld", "wb").write(data[:8] + struct.pack("<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1) + data[20:])
run("logprobs/bad", "code=huge.kld", says="expected")
tokens[0, -1] = (tokens[0, -1] + 1) % vocabulary
write("other.kld", random.normal(size=(windows, window, vocabulary)))
run("logprobs/bad", "code=code.kld", "web=other.kld", says="other.kld: its tokens are not those of code.kld")
open("text.txt", "w").write("text")
run("logprobs/bad", "code=text.txt", says="neither a file of llama.cpp's")

def samples(path, *answers):
    with open(path, "w") as file:
        for number, answer in answers:
            file.write(json.dumps({"doc_id": number, "doc": {"text": "a b"}, "resps": answer}) + "\n")

samples("sums.jsonl", (0, [[[-41.9, False]]]), (1, [[[-3.5, True]]]))
run("logprobs/bad", "code=sums.jsonl", says="sums.jsonl: line 1 has the response [-41.9, false], a sum")
samples("rolling.jsonl", (0, [[-413.25]]))
run("logprobs/bad", "code=rolling.jsonl", says="line 1 has the response -413.25, a sum")
samples("generated.jsonl", (0, [["some text"]]))
run("logprobs/bad", "code=generated.jsonl", says="a sum or a text")
open("broken.jsonl", "w").write('{"doc_id": 0}\n')
run("logprobs/bad", "code=broken.jsonl", says="line 1 is no record of a sample")
assert not os.path.exists("logprobs/bad")
samples("tokens.jsonl", (1, [[[[-1.5, -0.25], False]]]), (0, [[[-2, -0.5, -1.0]]]))
run("logprobs/lambada", "code=tokens.jsonl")
assert np.load("logprobs/lambada/code.npy").tolist() == [-2, -0.5, -1, -1.5, -0.25]
assert np.load("logprobs/lambada/doc.npy").tolist() == [0, 0, 0, 1, 1]
samples("more.jsonl", (1, [[[[-1.5, -0.25, -3], False]]]), (0, [[[-2, -0.5, -1.0]]]))
run("logprobs/more", "code=tokens.jsonl", "web=more.jsonl", says="its tokens are not those of tokens.jsonl")
END
if [ -n "$python" ]; then
    try log_probabilities_of_llama_cpp_and_the_harness_are_read_or_refused \
        binding "$work/convert.py" "$PWD/examples/python/convert_logprobs.py" "$work"
else
    skip log_probabilities_of_llama_cpp_and_the_harness_are_read_or_refused "numpy is not installed"
fi

finish
