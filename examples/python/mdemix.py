#!/usr/bin/env python3
"""mdemix from Python: its C functions by ctypes, as `make shared` builds them, with two classes on top.

  make shared && python3 examples/python/mdemix.py logprobs       # the best mixture of the experts in a folder

Any other function of mdemix.h is called the same way: give its types, as below. MDEMIX_LIBRARY names the library if it
is elsewhere than in build/."""
import ctypes, os, sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p

def struct(name, fields):
    return type(name, (ctypes.Structure,), {"_fields_": fields})

mde_optimum = struct("mde_optimum", [
    ("count", c_int), ("weights", c_double * 64), ("loss", c_double), ("gap", c_double), ("iterations", c_int),
    ("active", c_int * 64), ("price", c_double * 64)])
mde_minimize_desc = struct("mde_minimize_desc", [
    ("objective", POINTER(c_double)), ("lower", POINTER(c_double)), ("upper", POINTER(c_double)), ("gap", c_double),
    ("iterations", c_int)])
mde_lm_desc = struct("mde_lm_desc", [(name, c_int) for name in (
    "layers", "width", "heads", "kv_heads", "hidden", "context", "vocabulary", "layer_norm", "learned_positions",
    "gelu", "biases", "untied")] + [
    ("rope_base", c_double), ("norm_epsilon", c_double), ("dropout", c_double), ("seed", c_uint64),
    ("head_dim", c_int), ("rope_factor", c_double), ("rope_context", c_int), ("rope_low", c_double),
    ("rope_high", c_double)])
mde_lm_state = struct("mde_lm_state", [
    ("lm", c_void_p), ("keys", POINTER(c_float)), ("values", POINTER(c_float)), ("length", c_int64)])
functions = {       # what it returns, what it takes; an opaque object is a c_void_p, an mde_status a c_int
    "mde_version": (c_char_p,),
    "mde_context_create": (c_void_p, c_void_p),
    "mde_context_free": (None, c_void_p),
    "mde_context_status": (c_int, c_void_p),
    "mde_error": (c_char_p, c_void_p),
    "mde_experts_create": (c_void_p, c_void_p, c_int, POINTER(c_char_p)),
    "mde_experts_add": (c_int, c_void_p, c_char_p, c_size_t, POINTER(POINTER(c_float)), POINTER(c_double), c_double),
    "mde_experts_open": (c_void_p, c_void_p, c_char_p, c_void_p),
    "mde_experts_count": (c_int, c_void_p),
    "mde_experts_name": (c_char_p, c_void_p, c_int),
    "mde_mixture_minimize": (c_int, c_void_p, POINTER(mde_minimize_desc), POINTER(mde_optimum)),
    "mde_lm_create": (c_void_p, c_void_p, c_void_p, POINTER(mde_lm_desc)),
    "mde_lm_open": (c_void_p, c_void_p, c_char_p),
    "mde_lm_write": (c_int, c_void_p, c_char_p),
    "mde_lm_state_create": (POINTER(mde_lm_state), c_void_p),
    "mde_lm_state_free": (None, POINTER(mde_lm_state)),
    "mde_lm_step": (c_int, POINTER(mde_lm_state), c_int64, POINTER(c_int32), POINTER(c_float)),
}
library = ctypes.CDLL(os.environ.get("MDEMIX_LIBRARY") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "libmdemix.so"))
for name, (result, *arguments) in functions.items():
    getattr(library, name).restype, getattr(library, name).argtypes = result, arguments

class Context:
    """Owns what is made from it; an error of the library is a RuntimeError with its sentence."""
    def __init__(self):
        self.pointer = library.mde_context_create(None)
    def __del__(self):
        library.mde_context_free(self.pointer)
    def __call__(self, name, *arguments):
        result = getattr(library, name)(*arguments)
        if library.mde_context_status(self.pointer):
            raise RuntimeError(library.mde_error(self.pointer).decode())
        return result

class Experts:
    """Experts by their log-probabilities in a folder, or by add(text, {expert: natural logs, one a token})."""
    def __init__(self, folder=None, names=()):
        self.call = Context()
        array = (c_char_p * len(names))(*(name.encode() for name in names))
        self.pointer = (self.call("mde_experts_open", self.call.pointer, os.fsencode(folder), None) if folder else
                        self.call("mde_experts_create", self.call.pointer, len(names), array))
        self.names = [library.mde_experts_name(self.pointer, i).decode()
                      for i in range(library.mde_experts_count(self.pointer))]
    def add(self, text, logp):
        rows = [(c_float * len(logp[name]))(*logp[name]) for name in self.names]
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"{text}: experts have {sorted({len(row) for row in rows})} tokens; expected as many each")
        pointers = (POINTER(c_float) * len(rows))(*(ctypes.cast(row, POINTER(c_float)) for row in rows))
        self.call("mde_experts_add", self.pointer, text.encode(), len(rows[0]), pointers, None, 0)
    def minimize(self):
        """The weights, the loss in nats a token, and how far at most it is above the minimum."""
        best = mde_optimum()
        self.call("mde_mixture_minimize", self.pointer, None, ctypes.byref(best))
        return dict(zip(self.names, best.weights)), best.loss, best.gap

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    weights, loss, gap = Experts(sys.argv[1]).minimize()
    for name, weight in weights.items():
        print(f"{weight:6.3f}  {name}")
    print(f"loss {loss:.4f} nats a token, at most {gap:.1e} above the minimum")
