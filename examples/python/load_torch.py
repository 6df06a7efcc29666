#!/usr/bin/env python3
"""A model that mdemix wrote, or a published one of the form of Llama, Mistral, Qwen2 or GPT-2, in plain PyTorch:

  python3 load_torch.py library.safetensors 84 104 101        # the most probable tokens after these

config.json has to be in the same folder; of a folder, model.safetensors is read. Where transformers is installed,
AutoModelForCausalLM.from_pretrained reads the same files; this needs neither it nor the safetensors package."""
import json, os, sys
import torch
from torch.nn.functional import gelu, layer_norm, linear, silu

def read_safetensors(path):
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    def tensor(entry):
        first, last = entry["data_offsets"]
        block = bytearray(data[start + first:start + last])
        return torch.frombuffer(block, dtype=types[entry["dtype"]]).reshape(entry["shape"]).float()
    return {name: tensor(entry) for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}

def attend(q, k, v):
    """Causal; q, k, v [heads, time, dim] to [time, heads * dim]."""
    hidden = torch.full((q.shape[1], q.shape[1]), float("-inf")).triu(1)
    out = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5 + hidden).softmax(-1) @ v
    return out.transpose(0, 1).reshape(q.shape[1], -1)

def llama(w, c, ids):
    time, heads, kv_heads = len(ids), c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim") or c["hidden_size"] // heads
    apply = lambda name, x: linear(x, w[name + ".weight"], w.get(name + ".bias"))
    norm = lambda name, x: x * (x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"]).rsqrt() * w[name + ".weight"]
    slow = c.get("rope_theta", 10000.0) ** -(torch.arange(0, dim, 2).double() / dim)
    angles = torch.outer(torch.arange(time).double(), slow).repeat(1, 2)
    cos, sin = angles.cos().float(), angles.sin().float()
    rotate = lambda x: x * cos + torch.cat((-x[..., dim // 2:], x[..., :dim // 2]), -1) * sin
    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        h = norm(at + "input_layernorm", x)
        q, k, v = (apply(f"{at}self_attn.{part}_proj", h).view(time, -1, dim).transpose(0, 1) for part in "qkv")
        k, v = (part.repeat_interleave(heads // kv_heads, 0) for part in (rotate(k), v))
        x = x + apply(at + "self_attn.o_proj", attend(rotate(q), k, v))
        h = norm(at + "post_attention_layernorm", x)
        h = silu(apply(at + "mlp.gate_proj", h)) * apply(at + "mlp.up_proj", h)
        x = x + apply(at + "mlp.down_proj", h)
    return linear(norm("model.norm", x), w.get("lm_head.weight", w["model.embed_tokens.weight"]))

def gpt2(w, c, ids):
    w = {name.replace("transformer.", "", 1): tensor for name, tensor in w.items()}
    time, heads, width = len(ids), c["n_head"], c["n_embd"]
    apply = lambda name, x: x @ w[name + ".weight"] + w[name + ".bias"]
    norm = lambda name, x: layer_norm(x, (width,), w[name + ".weight"], w[name + ".bias"], c["layer_norm_epsilon"])
    x = w["wte.weight"][ids] + w["wpe.weight"][:time]
    for i in range(c["n_layer"]):
        qkv = apply(f"h.{i}.attn.c_attn", norm(f"h.{i}.ln_1", x)).view(time, 3, heads, -1).permute(1, 2, 0, 3)
        x = x + apply(f"h.{i}.attn.c_proj", attend(*qkv))
        h = gelu(apply(f"h.{i}.mlp.c_fc", norm(f"h.{i}.ln_2", x)), approximate="tanh")
        x = x + apply(f"h.{i}.mlp.c_proj", h)
    return linear(norm("ln_f", x), w.get("lm_head.weight", w["wte.weight"]))

@torch.no_grad()
def logits(path, ids):
    """[len(ids), vocabulary]"""
    file = os.path.join(path, "model.safetensors") if os.path.isdir(path) else path
    config = json.load(open(os.path.join(os.path.dirname(file), "config.json"), encoding="utf-8"))
    form = {"llama": llama, "mistral": llama, "qwen2": llama, "gpt2": gpt2}.get(config["model_type"])
    if not form:
        raise ValueError(f"{path}: its model_type is {config['model_type']}, which is not read here")
    if config.get("rope_scaling"):
        raise ValueError(f"{path}: it has rope_scaling, which is not read here")
    return form(read_safetensors(file), config, torch.tensor(ids))

if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    probabilities = logits(sys.argv[1], [int(number) for number in sys.argv[2:]])[-1].softmax(-1)
    for probability, token in zip(*probabilities.topk(5)):
        print(f"{int(token):6d}  {float(probability):.4f}")
