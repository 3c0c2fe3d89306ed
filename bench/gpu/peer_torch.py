"""Measures the models of bench/gpu/generate.cc in PyTorch: random weights of the same shapes, a static KV cache, CUDA
graphs and torch.compile. Also measures PyTorch's ceilings (copy, matrix product). Prints JSON with the same fields.

    python3 bench/gpu/peer_torch.py [--shapes 8b|1b|tiny] [--batches 1,2,4,8,16,32,64] [--context 1024] [--steps 64]
                                    [--prefill 512,2048]

Weights and cache are bf16. Needs only torch 2.5 or newer.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {
    # vocab, hidden, layers, heads, KV heads, ffn
    "8b": (128256, 4096, 32, 32, 8, 14336),
    "1b": (128256, 2048, 16, 32, 8, 8192),
    "tiny": (512, 256, 2, 4, 2, 512),
}


class Layer(torch.nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn, device, dtype):
        super().__init__()
        self.heads, self.kv_heads, self.dim = heads, kv_heads, hidden // heads
        make = lambda rows, cols: torch.nn.Parameter(
            torch.randn(rows, cols, device=device, dtype=dtype) * 0.02, requires_grad=False
        )
        self.qkv = make((heads + 2 * kv_heads) * self.dim, hidden)
        self.out = make(hidden, heads * self.dim)
        self.gate_up = make(2 * ffn, hidden)
        self.down = make(hidden, ffn)
        self.norms = torch.nn.Parameter(torch.ones(2, hidden, device=device, dtype=dtype), requires_grad=False)

    def forward(self, x, cache_k, cache_v, positions, cos, sin, mask):
        batch, n, hidden = x.shape
        h = F.rms_norm(x, (hidden,), self.norms[0], 1e-5)
        qkv = F.linear(h, self.qkv).view(batch, n, -1, self.dim)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=2)

        def rotate(t):
            a, b = t.float().unflatten(-1, (-1, 2)).unbind(-1)
            return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(t.dtype)

        q, k = rotate(q), rotate(k)
        cache_k.index_copy_(2, positions, k.transpose(1, 2))
        cache_v.index_copy_(2, positions, v.transpose(1, 2))
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2), cache_k, cache_v, attn_mask=mask, enable_gqa=True
        )
        x = x + F.linear(y.transpose(1, 2).flatten(2), self.out)
        h = F.rms_norm(x, (hidden,), self.norms[1], 1e-5)
        gate, up = F.linear(h, self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Model(torch.nn.Module):
    def __init__(self, shapes, device, dtype):
        super().__init__()
        vocab, hidden, layers, heads, kv_heads, ffn = SHAPES[shapes]
        self.embedding = torch.nn.Parameter(
            torch.randn(vocab, hidden, device=device, dtype=dtype) * 0.02, requires_grad=False
        )
        self.output = torch.nn.Parameter(self.embedding.detach().clone(), requires_grad=False)
        self.norm = torch.nn.Parameter(torch.ones(hidden, device=device, dtype=dtype), requires_grad=False)
        self.layers = torch.nn.ModuleList(
            Layer(hidden, heads, kv_heads, ffn, device, dtype) for _ in range(layers)
        )
        self.kv_heads, self.dim = kv_heads, hidden // heads
        frequencies = 500000.0 ** (-torch.arange(0, self.dim, 2, device=device).float() / self.dim)
        self.register_buffer("frequencies", frequencies)

    def make_cache(self, batch, length):
        shape = (batch, self.kv_heads, length, self.dim)
        make = lambda: torch.zeros(shape, device=self.embedding.device, dtype=self.embedding.dtype)
        return [(make(), make()) for _ in self.layers]

    def forward(self, ids, positions, cache):
        length = cache[0][0].shape[2]
        angles = positions.float()[:, None] * self.frequencies
        cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
        mask = torch.arange(length, device=ids.device)[None, :] <= positions[:, None]
        x = F.embedding(ids, self.embedding)
        for layer, (k, v) in zip(self.layers, cache):
            x = layer(x, k, v, positions, cos, sin, mask)
        x = F.rms_norm(x[:, -1], (x.shape[-1],), self.norm, 1e-5)
        return F.linear(x, self.output).argmax(-1)


def timed(run, repeat, warm=3):
    times = []
    for i in range(-warm, repeat):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if i >= 0:
            times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def ceilings(device):
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() / timed(lambda: target.copy_(source), 20) / 1e6
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    product = 2 * 8192**3 / timed(lambda: a @ a, 20) / 1e9
    return {"copyGBs": copy, "matmulTflops": product}


def compiled(model):
    return torch.compile(model, mode="max-autotune-no-cudagraphs", fullgraph=True)


def measure_decode(model, batch, context, steps, weight_bytes):
    """One decode step for `batch` sequences of `context` tokens, as a CUDA graph."""
    device = torch.device("cuda")
    cache = model.make_cache(batch, context + steps + 8)
    step = compiled(model)
    ids = torch.full((batch, 1), 17, device=device)
    positions = torch.full((1,), context, device=device)
    for _ in range(3):
        step(ids, positions, cache)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(ids, positions, cache)
    ms = timed(graph.replay, steps)
    torch._dynamo.reset()
    return {
        "measure": "decode",
        "batch": batch,
        "context": context,
        "msPerStep": ms,
        "tokensPerSecond": batch * 1e3 / ms,
        "weightGBs": weight_bytes / ms / 1e6,
    }


def measure_prefill(model, tokens):
    """A prompt of `tokens` tokens."""
    device = torch.device("cuda")
    cache = model.make_cache(1, tokens)
    step = compiled(model)
    ids = torch.full((1, tokens), 17, device=device)
    positions = torch.arange(tokens, device=device)
    ms = timed(lambda: step(ids, positions, cache), 5)
    torch._dynamo.reset()
    return {"measure": "prefill", "tokens": tokens, "ms": ms, "tokensPerSecond": tokens * 1e3 / ms}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", choices=SHAPES, default="8b")
    parser.add_argument("--batches", default="1,2,4,8,16,32,64")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--prefill", default="512,2048")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: PyTorch finds no CUDA device", file=sys.stderr)
        return 77
    device = torch.device("cuda")
    model = Model(options.shapes, device, torch.bfloat16)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    results = [
        measure_decode(model, batch, options.context, options.steps, weight_bytes)
        for batch in map(int, options.batches.split(","))
    ]
    results += [measure_prefill(model, tokens) for tokens in map(int, options.prefill.split(","))]
    report = {
        "machine": {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        },
        "ceilings": ceilings(device),
        "model": options.shapes + " BF16",
        "weightBytes": weight_bytes,
        "results": results,
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
