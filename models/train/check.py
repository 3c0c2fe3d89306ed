"""Runs the demo model from its file with numpy alone, as an independent check of the file.

    python3 check.py ../demo.gguf                                   # greedy text for the golden prompts
    python3 check.py ../demo.gguf --prompt "Once upon a time" --temperature 0.8 --seed 4
    python3 check.py ../demo.gguf --chat "Tell me a story about a fox called Pip."
    python3 check.py ../demo.gguf --golden ../demo.golden.json      # write the reference for the tests

It shares no code with the training: the GGUF reader, the tokenizer and the forward pass are
written again, from the specifications of the formats.
"""

import argparse
import json
import struct

import numpy as np

GOLDEN_PROMPTS = ["Once upon a time", "The little dragon was called",
                  "One sunny morning, a curious rabbit named Clover"]
GOLDEN_CHAT = "Tell me a story about a fox called Pip."
GOLDEN_TOKENS = 96

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
F32, Q8_0 = 0, 8
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


# ---------------------------------------------------------------- the file

class Reader:
    """A cursor over the bytes of a GGUF file."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.scalar("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8")

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            item, count = self.scalar("I"), self.scalar("Q")
            return [self.value(item) for _ in range(count)]
        return self.scalar(SCALARS[kind])


def read_gguf(path):
    """Returns (metadata, tensors as float32 arrays)."""
    with open(path, "rb") as file:
        data = file.read()
    reader = Reader(data)
    if data[:4] != b"GGUF":
        raise ValueError("%s is not a GGUF file" % path)
    reader.at = 4
    version, tensor_count, entries = reader.scalar("I"), reader.scalar("Q"), reader.scalar("Q")
    if version != 3:
        raise ValueError("GGUF version %d, expected 3" % version)
    metadata = {}
    for _ in range(entries):
        key = reader.string()
        metadata[key] = reader.value(reader.scalar("I"))
    infos = []
    for _ in range(tensor_count):
        name = reader.string()
        shape = [reader.scalar("Q") for _ in range(reader.scalar("I"))][::-1]
        infos.append((name, shape, reader.scalar("I"), reader.scalar("Q")))
    alignment = metadata.get("general.alignment", 32)
    start = reader.at + -reader.at % alignment
    tensors = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        if kind == F32:
            values = np.frombuffer(data, "<f4", count, start + offset)
        elif kind == Q8_0:
            blocks = np.frombuffer(data, [("d", "<f2"), ("qs", "i1", 32)], count // 32, start + offset)
            values = blocks["d"].astype(np.float32)[:, None] * blocks["qs"].astype(np.float32)
        else:
            raise ValueError("%s has type %d; only F32 and Q8_0 are supported" % (name, kind))
        tensors[name] = values.reshape(shape)
    return metadata, tensors


# ---------------------------------------------------------------- the tokenizer

class Tokenizer:
    """SentencePiece BPE built from the arrays of a GGUF file."""

    def __init__(self, metadata):
        self.pieces = metadata["tokenizer.ggml.tokens"]
        self.scores = metadata["tokenizer.ggml.scores"]
        self.kinds = metadata["tokenizer.ggml.token_type"]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.special = [p for p, k in zip(self.pieces, self.kinds) if k == CONTROL]
        self.bos = metadata["tokenizer.ggml.bos_token_id"]
        self.eos = metadata["tokenizer.ggml.eos_token_id"]
        self.end = metadata["tokenizer.ggml.eot_token_id"]
        self.space_prefix = metadata["tokenizer.ggml.add_space_prefix"]

    def encode_text(self, text):
        """Ids of plain text: merges the adjacent pair with the best score until no pair is left."""
        symbols = list(("\u2581" if self.space_prefix else "") + text.replace(" ", "\u2581"))
        while True:
            best, where = None, None
            for i in range(len(symbols) - 1):
                piece = self.ids.get(symbols[i] + symbols[i + 1])
                if piece is not None and self.kinds[piece] == NORMAL and (best is None or self.scores[piece] > best):
                    best, where = self.scores[piece], i
            if where is None:
                break
            symbols[where:where + 2] = [symbols[where] + symbols[where + 1]]
        ids = []
        for symbol in symbols:
            if symbol in self.ids:
                ids.append(self.ids[symbol])
            else:
                ids += [self.ids["<0x%02X>" % byte] for byte in symbol.encode("utf-8")]
        return ids

    def encode(self, text):
        """Ids of a rendered template, in which special tokens are recognised."""
        ids = []
        while text:
            found = [(text.find(p), p) for p in self.special if p in text]
            at, piece = min(found) if found else (len(text), "")
            if at:
                ids += self.encode_text(text[:at])
            if piece:
                ids.append(self.ids[piece])
            text = text[at + len(piece):]
        return ids

    def decode(self, ids):
        """Text of ids, without control tokens."""
        out = b""
        for i in ids:
            if self.kinds[i] == BYTE:
                out += bytes([int(self.pieces[i][3:5], 16)])
            elif self.kinds[i] == NORMAL:
                out += self.pieces[i].replace("\u2581", " ").encode("utf-8")
        return out.decode("utf-8", "replace")


def render_chat(messages):
    """Renders messages like tokenizer.chat_template, with the generation prompt."""
    text, system = "<s>", ""
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "system":
            system = content + "\n\n"
        elif message["role"] == "user":
            text += "<|user|>\n" + system + content + "<|end|>"
            system = ""
        else:
            text += "<|assistant|>\n" + content + "<|end|>"
    return text + "<|assistant|>\n"


# ---------------------------------------------------------------- the forward pass

class Llama:
    """A Llama forward pass, one token at a time, with a KV cache."""

    def __init__(self, metadata, tensors, dtype=np.float64):
        get = lambda key: metadata["llama." + key]
        self.layers, self.heads = get("block_count"), get("attention.head_count")
        self.kv_heads, self.dim = get("attention.head_count_kv"), get("embedding_length")
        self.eps = get("attention.layer_norm_rms_epsilon")
        self.size = self.dim // self.heads
        rotated = get("rope.dimension_count")
        self.frequencies = get("rope.freq_base") ** (-np.arange(0, rotated, 2) / rotated)
        self.w = {name: array.astype(dtype) for name, array in tensors.items()}
        self.dtype = dtype
        self.reset()

    def reset(self):
        """Clears the KV cache."""
        self.keys = [[] for _ in range(self.layers)]
        self.values = [[] for _ in range(self.layers)]
        self.position = 0

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x) + self.eps) * self.w[name]

    def rotate(self, x):
        """RoPE on the pairs (0, 1), (2, 3), ... of each head."""
        angles = self.position * self.frequencies
        cos, sin = np.cos(angles), np.sin(angles)
        out = np.empty_like(x)
        out[:, 0::2] = x[:, 0::2] * cos - x[:, 1::2] * sin
        out[:, 1::2] = x[:, 0::2] * sin + x[:, 1::2] * cos
        return out

    def step(self, token):
        """Appends a token and returns the logits."""
        w = self.w
        x = w["token_embd.weight"][token].copy()
        for layer in range(self.layers):
            name = "blk.%d." % layer
            h = self.norm(x, name + "attn_norm.weight")
            q = self.rotate((w[name + "attn_q.weight"] @ h).reshape(self.heads, self.size))
            k = self.rotate((w[name + "attn_k.weight"] @ h).reshape(self.kv_heads, self.size))
            self.keys[layer].append(k)
            self.values[layer].append((w[name + "attn_v.weight"] @ h).reshape(self.kv_heads, self.size))
            keys, values = np.array(self.keys[layer]), np.array(self.values[layer])
            group = self.heads // self.kv_heads
            scores = np.einsum("gqd,tgd->gqt", q.reshape(self.kv_heads, group, self.size), keys)
            scores = np.exp((scores - scores.max(-1, keepdims=True)) / np.sqrt(self.size))
            scores /= scores.sum(-1, keepdims=True)
            attended = np.einsum("gqt,tgd->gqd", scores, values).reshape(-1)
            x = x + w[name + "attn_output.weight"] @ attended
            h = self.norm(x, name + "ffn_norm.weight")
            gate = w[name + "ffn_gate.weight"] @ h
            x = x + w[name + "ffn_down.weight"] @ (gate / (1 + np.exp(-gate)) * (w[name + "ffn_up.weight"] @ h))
        self.position += 1
        return w.get("output.weight", w["token_embd.weight"]) @ self.norm(x, "output_norm.weight")

    def feed(self, ids):
        """Runs a prompt from position 0 and returns the logits after it."""
        self.reset()
        for token in ids:
            logits = self.step(token)
        return logits


def generate(model, tokenizer, prompt_ids, limit, temperature=0.0, seed=0):
    """Returns (ids, margins, logits after the prompt). A margin is the best logit minus the second best."""
    rng = np.random.default_rng(seed)
    first = logits = model.feed(prompt_ids)
    ids, margins = [], []
    while len(ids) < limit:
        second, best = np.partition(logits, -2)[-2:]
        if temperature:
            p = np.exp((logits - logits.max()) / temperature)
            token = int(rng.choice(len(p), p=p / p.sum()))
        else:
            token = int(np.argmax(logits))
        ids.append(token)
        margins.append(float(best - second))
        if token in (tokenizer.eos, tokenizer.end):
            break
        logits = model.step(token)
    return ids, margins, first


def rounded(values, digits=5):
    return [round(float(v), digits) for v in values]


def golden(model, tokenizer):
    """The reference: prompts, greedy ids, margins and the logits after each prompt, in float64."""
    cases = []
    chat = {"role": "user", "content": GOLDEN_CHAT}
    for prompt in [*GOLDEN_PROMPTS, chat]:
        if prompt is chat:
            text = render_chat([chat])
            ids = tokenizer.encode(text)
            case = {"messages": [chat], "prompt": text, "promptIds": ids}
        else:
            ids = [tokenizer.bos, *tokenizer.encode_text(prompt)]
            case = {"prompt": prompt, "promptIds": ids}
        greedy, margins, logits = generate(model, tokenizer, ids, GOLDEN_TOKENS)
        case.update(greedyIds=greedy, greedyText=tokenizer.decode(greedy), margins=rounded(margins),
                    logitsAfterPrompt=rounded(logits))
        cases.append(case)
    return {
        "source": "models/train/check.py: numpy, float64, weights dequantized from demo.gguf",
        "note": "Activations are not quantized here. An engine that quantizes them (Q8_0) may part from "
                "greedyIds where two tokens are nearly equal: margins[i] is the best logit minus the second "
                "best at step i. promptIds include BOS; the chat prompt's text after a special token is "
                "encoded with SentencePiece's space prefix. greedyIds may end with EOS or <|end|>.",
        "prompts": cases,
    }


def dump(data):
    """JSON with one line per array of numbers."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    out, depth = [], 0
    for line in text.splitlines():
        bare = line.strip()
        number = bare.rstrip(",").lstrip("-").replace(".", "", 1).replace("e-", "", 1).isdigit()
        if number or (bare in ("]", "],") and out and out[-1].rstrip()[-1:].isdigit()):
            out[-1] += bare if out[-1].endswith("[") or bare[0] == "]" else " " + bare
        else:
            out.append(line)
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--prompt", help="plain text to continue")
    parser.add_argument("--chat", action="append", help="a user message; repeat for a conversation")
    parser.add_argument("--system", help="a system message for --chat")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--golden", metavar="FILE", help="write the golden reference")
    args = parser.parse_args()

    metadata, tensors = read_gguf(args.model)
    tokenizer = Tokenizer(metadata)
    print("%s: %d parameters, %d tokens" % (metadata["general.name"], sum(t.size for t in tensors.values()),
                                            len(tokenizer.pieces)))
    if args.golden:
        data = golden(Llama(metadata, tensors), tokenizer)
        with open(args.golden, "w", encoding="utf-8") as file:
            file.write(dump(data))
        for case in data["prompts"]:
            print("\n%r ->\n%s\n(smallest margin %.4f)" % (case["prompt"], case["greedyText"], min(case["margins"])))
        return
    model = Llama(metadata, tensors, np.float32)
    run = lambda ids: generate(model, tokenizer, ids, min(args.tokens, metadata["llama.context_length"] - len(ids)),
                               args.temperature, args.seed)[0]
    if args.chat:
        messages = [{"role": "system", "content": args.system}] if args.system else []
        for words in args.chat:
            messages.append({"role": "user", "content": words})
            answer = tokenizer.decode(run(tokenizer.encode(render_chat(messages))))
            messages.append({"role": "assistant", "content": answer})
            print("\n> %s\n%s" % (words, answer))
        return
    for prompt in [args.prompt] if args.prompt else GOLDEN_PROMPTS:
        ids = [tokenizer.bos, *tokenizer.encode_text(prompt)]
        print("\n" + prompt + tokenizer.decode(run(ids)))


if __name__ == "__main__":
    main()
