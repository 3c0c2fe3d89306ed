"""Trains the demo model and writes it as a GGUF file.

    python3 train.py --minutes 40 --out ../demo.gguf

It trains a SentencePiece tokenizer on generated stories, trains a small Llama on an endless
stream of new ones, and writes the weights as Q8_0. `stories.py` generates the text; nothing
is downloaded. Matrix products run in bfloat16.
"""

import argparse
import bisect
import io
import math
import random
import time

import numpy as np
import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F

import check
import stories
from gguf_writer import (F32, Q8_0, TOKEN_BYTE, TOKEN_CONTROL, TOKEN_NORMAL, TOKEN_UNKNOWN, GgufWriter,
                         dequantize_q8_0, quantize_q8_0)

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
CONTEXT_LENGTH = 512
ROPE_BASE = 10000.0
NORM_EPS = 1e-5

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% set system = '' %}"
    "{% if messages and messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim + '\\n\\n' %}"
    "{% set messages = messages[1:] %}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '<|user|>\\n' + (system if loop.first else '') + message['content'] | trim + '<|end|>' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' + message['content'] | trim + '<|end|>' }}"
    "{% else %}"
    "{{ raise_exception('This model knows the roles user and assistant, and one system message at the start.') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


# ---------------------------------------------------------------- tokenizer

def train_tokenizer(vocab_size, seed, count=12000):
    """Trains a SentencePiece BPE model on generated text and returns it as bytes."""
    rng = random.Random(seed)
    lines = []
    for i in range(count):
        if i % 4:
            texts = [stories.write_story(rng).text]
        else:
            texts = [text for _, text in stories.write_chat(rng)]
        for text in texts:
            for paragraph in text.split("\n\n"):
                # The first word of a paragraph follows a newline, not a space. The bracket before half of the
                # paragraphs lets the tokenizer learn such words too.
                lines.append("(" + paragraph if len(lines) % 2 else paragraph)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=vocab_size,
        byte_fallback=True, split_digits=True, add_dummy_prefix=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=1.0, num_threads=2,
        control_symbols=[USER, ASSISTANT, END], unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        max_sentence_length=10000, minloglevel=1)
    return model.getvalue()


class Encoder:
    """Turns stories and chats into token ids."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.user, self.assistant, self.end = (tokenizer.piece_to_id(p) for p in (USER, ASSISTANT, END))
        assert self.tokenizer.encode("\n") == [tokenizer.piece_to_id("\u2581"), tokenizer.piece_to_id("<0x0A>")]

    def story(self, text):
        """BOS, the story, EOS."""
        return [self.tokenizer.bos_id(), *self.tokenizer.encode(text), self.tokenizer.eos_id()]

    def weights(self, ids, words, weight):
        """The weight of each token in the loss: `weight` where one of `words` is repeated, otherwise 1."""
        weights = [1.0] * len(ids)
        for word in set(words):
            piece = self.tokenizer.encode(word)
            found = [i for i in range(len(ids)) if ids[i] == piece[0] and ids[i:i + len(piece)] == piece]
            for at in found[1:]:
                weights[at:at + len(piece)] = [weight] * len(piece)
        return weights

    def chat(self, turns, space):
        """The ids of a conversation, in the form of the chat template.

        Tokenizers differ in whether text after a special token gets SentencePiece's leading
        space (`space`). The model is trained on both, so either works.
        """
        ids, system = [self.tokenizer.bos_id()], ""
        for role, text in turns:
            if role == "system":
                system = text + "\n\n"
                continue
            if role == "user":
                text, system = system + text, ""
            body = self.tokenizer.encode("\n" + text)
            ids += [self.user if role == "user" else self.assistant, *body[0 if space else 1:], self.end]
        return ids


def documents(encoder, seed, copy_weight):
    """Yields stories and chats without end, as (token ids, weights in the loss).

    Repeated names and things weigh more: they are few tokens, but a story makes no sense
    when they are wrong.
    """
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.42:
            story = stories.write_story(rng)
            ids, words = encoder.story(story.text), story.words()
        else:
            turns, words = stories.write_chat_with_words(rng)
            ids = encoder.chat(turns, space=rng.random() < 0.75)
        yield ids, encoder.weights(ids, words, copy_weight)


def batches(stream, tokens, seed):
    """Packs documents into rows: (inputs, targets, weights, document numbers), each [rows, length].

    One batch in five has rows of the full context length, the others have short rows. A row
    begins with a random waiting document, followed by the longest ones that fit, so little is
    padding (weight 0). Tokens do not attend to other documents in the row.
    """
    rng = random.Random(seed)
    size_of = lambda document: len(document[0])
    waiting = sorted((next(stream) for _ in range(300)), key=size_of)
    while True:
        length = CONTEXT_LENGTH if rng.random() < 0.2 else 288
        rows = max(1, tokens // length)
        inputs, targets, numbers = (np.zeros((rows, length), dtype=np.int64) for _ in range(3))
        weights = np.zeros((rows, length), dtype=np.float32)
        for row in range(rows):
            position, number = 0, 0
            while position < length - 16:
                room = length - position
                fitting = [i for i in range(len(waiting)) if size_of(waiting[i]) - 1 <= room] if number else []
                # A random document may be cut off at the end of the row.
                index = fitting[-1] if fitting else rng.randrange(len(waiting))
                ids, weight = waiting.pop(index)
                bisect.insort(waiting, next(stream), key=size_of)
                size = min(len(ids) - 1, room)
                number += 1
                here = slice(position, position + size)
                inputs[row, here], targets[row, here] = ids[:size], ids[1:size + 1]
                weights[row, here], numbers[row, here] = weight[1:size + 1], number
                position += size
        yield tuple(torch.from_numpy(a) for a in (inputs, targets, weights, numbers))


# ---------------------------------------------------------------- model

class RmsNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS) * self.weight


def linear(x, weight):
    """x @ weight.T in bfloat16."""
    return F.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16))


def rotate(x, cos, sin):
    """RoPE on adjacent pairs; x is [rows, length, heads, head size]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    """A decoder layer: attention and SwiGLU, each with RMSNorm before it and a residual addition after it."""

    def __init__(self, config):
        super().__init__()
        dim, ffn = config["dim"], config["ffn"]
        self.heads, self.kv_heads, self.size = config["heads"], config["kv_heads"], dim // config["heads"]
        self.attn_norm, self.ffn_norm = RmsNorm(dim), RmsNorm(dim)

        def matrix(rows, columns, scale=1.0):
            return nn.Parameter(torch.randn(rows, columns) * scale / math.sqrt(columns))

        residual = 1 / math.sqrt(2 * config["layers"])
        self.attn_q = matrix(dim, dim)
        self.attn_k = matrix(self.kv_heads * self.size, dim)
        self.attn_v = matrix(self.kv_heads * self.size, dim)
        self.attn_output = matrix(dim, dim, residual)
        self.ffn_gate, self.ffn_up = matrix(ffn, dim), matrix(ffn, dim)
        self.ffn_down = matrix(dim, ffn, residual)

    def forward(self, x, cos, sin, mask):
        rows, length, dim = x.shape
        h = self.attn_norm(x).to(torch.bfloat16)
        qkv = linear(h, torch.cat((self.attn_q, self.attn_k, self.attn_v)))
        q, k, v = qkv.split((dim, self.kv_heads * self.size, self.kv_heads * self.size), -1)
        group = self.heads // self.kv_heads
        q = rotate(q.view(rows, length, self.heads, self.size), cos, sin) / math.sqrt(self.size)
        k = rotate(k.view(rows, length, self.kv_heads, self.size), cos, sin)
        v = v.view(rows, length, self.kv_heads, self.size)
        # Stacks the query heads of each KV head as rows of one product.
        q = q.to(torch.bfloat16).view(rows, length, self.kv_heads, group, self.size)
        q = q.permute(0, 2, 3, 1, 4).reshape(rows * self.kv_heads, group * length, self.size)
        k = k.to(torch.bfloat16).permute(0, 2, 3, 1).reshape(rows * self.kv_heads, self.size, length)
        v = v.permute(0, 2, 1, 3).reshape(rows * self.kv_heads, length, self.size)
        scores = torch.bmm(q, k).view(rows, self.kv_heads, group, length, length) + mask
        weights = F.softmax(scores, -1).view(rows * self.kv_heads, group * length, length)
        h = torch.bmm(weights, v).view(rows, self.kv_heads, group, length, self.size)
        h = h.permute(0, 3, 1, 2, 4).reshape(rows, length, dim)
        x = x + linear(h, self.attn_output)
        h = self.ffn_norm(x).to(torch.bfloat16)
        gate, up = linear(h, torch.cat((self.ffn_gate, self.ffn_up))).chunk(2, -1)
        return x + linear(F.silu(gate) * up, self.ffn_down)


class Llama(nn.Module):
    """A Llama with tied embeddings."""

    def __init__(self, config):
        super().__init__()
        self.token_embd = nn.Parameter(torch.randn(config["vocab"], config["dim"]) * config["dim"] ** -0.5)
        self.blk = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.output_norm = RmsNorm(config["dim"])
        size = config["dim"] // config["heads"]
        angles = torch.outer(torch.arange(CONTEXT_LENGTH).float(),
                             ROPE_BASE ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, inputs, numbers):
        """Logits [rows, length, vocab]. Tokens attend to earlier tokens of the same document."""
        rows, length = inputs.shape
        # Positions count from the start of the row, not of the document; RoPE depends on differences only.
        cos, sin = self.cos[:length, None, :], self.sin[:length, None, :]
        allowed = (numbers[:, :, None] == numbers[:, None, :]).tril()
        mask = torch.zeros(rows, 1, 1, length, length, dtype=torch.bfloat16)
        mask.masked_fill_(~allowed[:, None, None], -1e4)
        x = self.token_embd[inputs]
        for block in self.blk:
            x = block(x, cos, sin, mask)
        return linear(self.output_norm(x), self.token_embd)


def loss_of(model, batch):
    """Weighted mean cross entropy per token, in nats."""
    inputs, targets, weights, numbers = batch
    logits = model(inputs, numbers).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def orthogonalize(x):
    """The nearest matrices whose singular values are about 1, by five Newton-Schulz steps."""
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).to(torch.bfloat16)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(torch.bfloat16) + 1e-7)
    for _ in range(5):
        a = torch.bmm(x, x.mT)
        x = 3.4445 * x + torch.bmm(-4.7750 * a + 2.0315 * torch.bmm(a, a), x)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Muon), which needs fewer tokens than AdamW.

    Matrices of the same shape are updated together.
    """

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.02):
        by_shape = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        super().__init__([{"params": same} for same in by_shape.values()],
                         {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            parameters = group["params"]
            gradients = torch.stack([p.grad for p in parameters])
            state = self.state[parameters[0]]
            average = state.setdefault("average", torch.zeros_like(gradients))
            average.lerp_(gradients, 1 - group["momentum"])
            rows, columns = parameters[0].shape
            updates = orthogonalize(gradients.lerp(average, group["momentum"])) * max(1, rows / columns) ** 0.5
            for parameter, update in zip(parameters, updates):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])


def optimizers_of(model, muon_rate, adam_rate):
    """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "token_embd"]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or n == "token_embd"]
    return [Muon(matrices, muon_rate),
            torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.97), eps=1e-8, weight_decay=0.0)]


# ---------------------------------------------------------------- file

def tensors_of(model):
    """Yields (GGUF name, array, type) of every weight."""
    for name, parameter in model.named_parameters():
        array = parameter.detach().float().numpy()
        gguf_name = name if name.endswith(".weight") else name + ".weight"
        yield gguf_name, array, F32 if array.ndim == 1 else Q8_0


def write_gguf(path, model, config, tokenizer):
    """Writes weights, configuration, vocabulary and chat template."""
    out = GgufWriter()
    for key, value in [
            ("general.architecture", "llama"), ("general.name", "cria demo"), ("general.license", "MIT"),
            ("general.description", "A tiny story teller, trained on text written by models/train/stories.py."),
            ("llama.context_length", CONTEXT_LENGTH), ("llama.embedding_length", config["dim"]),
            ("llama.block_count", config["layers"]), ("llama.feed_forward_length", config["ffn"]),
            ("llama.attention.head_count", config["heads"]),
            ("llama.attention.head_count_kv", config["kv_heads"]),
            ("llama.rope.freq_base", ROPE_BASE),
            ("llama.rope.dimension_count", config["dim"] // config["heads"]),
            ("llama.attention.layer_norm_rms_epsilon", NORM_EPS),
            ("llama.vocab_size", config["vocab"]),
            ("general.file_type", 7), ("general.quantization_version", 2)]:
        out.add(key, value)
    pieces, scores, kinds = [], [], []
    for i in range(config["vocab"]):
        pieces.append(tokenizer.id_to_piece(i))
        scores.append(float(tokenizer.get_score(i)))
        kinds.append(TOKEN_UNKNOWN if tokenizer.is_unknown(i) else TOKEN_CONTROL if tokenizer.is_control(i)
                     else TOKEN_BYTE if tokenizer.is_byte(i) else TOKEN_NORMAL)
    out.add("tokenizer.ggml.model", "llama")
    out.add("tokenizer.ggml.tokens", pieces)
    out.add("tokenizer.ggml.scores", scores)
    out.add("tokenizer.ggml.token_type", kinds)
    out.add("tokenizer.ggml.bos_token_id", tokenizer.bos_id())
    out.add("tokenizer.ggml.eos_token_id", tokenizer.eos_id())
    out.add("tokenizer.ggml.eot_token_id", tokenizer.piece_to_id(END))
    out.add("tokenizer.ggml.unknown_token_id", tokenizer.unk_id())
    out.add("tokenizer.ggml.add_bos_token", True)
    out.add("tokenizer.ggml.add_eos_token", False)
    out.add("tokenizer.ggml.add_space_prefix", True)
    out.add("tokenizer.chat_template", CHAT_TEMPLATE)
    for name, array, kind in tensors_of(model):
        out.add_tensor(name, array, kind)
    out.write(path)


def load_gguf(path, model):
    """Loads the weights of a file with the same configuration and tokenizer."""
    _, tensors = check.read_gguf(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(tensors[name if name.endswith(".weight") else name + ".weight"]))


def round_weights(model):
    """Rounds the weights to Q8_0, as in the file."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                array = parameter.numpy()
                parameter.copy_(torch.from_numpy(dequantize_q8_0(quantize_q8_0(array), array.shape)))


# ---------------------------------------------------------------- training

def evaluate(model, held_out):
    """Mean loss over held-out batches."""
    with torch.no_grad():
        return sum(loss_of(model, batch).item() for batch in held_out) / len(held_out)


class Team:
    """Processes that share the weights and sum their gradients.

    Each process has one thread. On a busy machine, threads that synchronize after every
    operation mostly wait for each other; these processes synchronize twice per step.
    """

    def __init__(self, context, model, args, tokenizer):
        self.args, self.tokenizer = args, tokenizer
        self.model = model.share_memory()
        size = sum(p.numel() for p in model.parameters())
        self.gradients = torch.zeros(args.workers, size).share_memory_()
        self.losses = torch.zeros(args.workers).share_memory_()
        self.running = torch.ones(1).share_memory_()
        self.barrier = context.Barrier(args.workers)

    def stream(self, rank):
        """The batches of one worker."""
        encoder = Encoder(sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer))
        seed = (self.args.stream_seed or self.args.seed) * 1000 + rank
        return batches(documents(encoder, seed, self.args.copy_weight), self.args.batch // self.args.workers, seed)

    def compute(self, rank, batch):
        """Computes one worker's gradients into the shared memory."""
        for parameter in self.model.parameters():
            parameter.grad = None
        loss = loss_of(self.model, batch)
        loss.backward()
        torch.cat([p.grad.flatten() for p in self.model.parameters()], out=self.gradients[rank])
        self.losses[rank] = loss.item()
        self.barrier.wait()

    def collect(self):
        """Sets the parameters' gradients to the mean of all workers; returns the mean loss."""
        mean, at = self.gradients.mean(0), 0
        for parameter in self.model.parameters():
            parameter.grad = mean[at:at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
        return self.losses.mean().item()


def work(team, rank):
    """The loop of every worker but the first, which runs `main`."""
    torch.set_num_threads(1)
    stream = team.stream(rank)
    while True:
        batch = next(stream)
        # Waits until the weights are updated.
        team.barrier.wait()
        if not team.running.item():
            break
        team.compute(rank, batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=40, help="training time; the learning rate is scheduled over it")
    parser.add_argument("--steps", type=int, help="number of steps, instead of --minutes, for reproducible runs")
    parser.add_argument("--out", default="demo.gguf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stream-seed", type=int, help="seed of the training text (default: --seed), to --resume with new text")
    parser.add_argument("--workers", type=int, default=2, help="number of processes; use one per core")
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--ffn", type=int, default=512)
    parser.add_argument("--batch", type=int, default=3072, help="tokens per step, over all workers")
    parser.add_argument("--rate", type=float, default=0.02, help="peak learning rate of the matrices (Muon)")
    parser.add_argument("--adam-rate", type=float, default=3e-3, help="the same for embeddings and norms (AdamW)")
    parser.add_argument("--copy-weight", type=float, default=5.0, help="weight of repeated names and things in the loss")
    parser.add_argument("--resume", metavar="GGUF", help="start from the weights of a file that this script wrote")
    args = parser.parse_args()
    config = {k: getattr(args, k) for k in ("vocab", "dim", "layers", "heads", "kv_heads", "ffn")}

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    proto = train_tokenizer(args.vocab, args.seed)
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=proto)
    model = Llama(config)
    if args.resume:
        load_gguf(args.resume, model)
    optimizers = optimizers_of(model, args.rate, args.adam_rate)
    peaks = [args.rate, args.adam_rate]
    print("%d parameters" % sum(p.numel() for p in model.parameters()), flush=True)
    held_out_stream = batches(documents(Encoder(tokenizer), args.seed, 1.0), args.batch, args.seed)
    held_out = [next(held_out_stream) for _ in range(6)]

    context = torch.multiprocessing.get_context("spawn")
    team = Team(context, model, args, proto)
    others = [context.Process(target=work, args=(team, rank)) for rank in range(1, args.workers)]
    for other in others:
        other.start()
    stream = team.stream(0)

    began = time.time()
    step, running, warmup = 0, 0.0, 60
    while True:
        minutes = (time.time() - began) / 60
        progress = step / args.steps if args.steps else minutes / args.minutes
        team.running[0] = progress < 1
        batch = next(stream)
        team.barrier.wait()
        if progress >= 1:
            break
        factor = min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * progress) + 0.002)
        for optimizer, peak in zip(optimizers, peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        team.compute(0, batch)
        running += team.collect()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if step % 50 == 0:
            print("step %d  loss %.4f  rate %.5f  %.1f min  %.0f tokens/s" % (
                step, running / 50, args.rate * factor, minutes, step * args.batch / (time.time() - began)), flush=True)
            running = 0.0
        if step % 500 == 0:
            print("held-out loss %.4f" % evaluate(model, held_out), flush=True)
            write_gguf(args.out, model, config, tokenizer)
    for other in others:
        other.join()

    print("%d steps, %.1f million tokens, %.1f min" % (step, step * args.batch / 1e6, minutes))
    print("held-out loss %.4f" % evaluate(model, held_out), flush=True)
    write_gguf(args.out, model, config, tokenizer)
    round_weights(model)
    print("held-out loss with Q8_0 weights %.4f" % evaluate(model, held_out), flush=True)


if __name__ == "__main__":
    main()
