"""PyTorch's images/s for the same training step, for comparison on a GPU.

    python3 -m benchmarks.train_step_torch [--batch_size 256] [--precision bfloat16]

torchvision's ResNet-50 (stride in the 3x3, as this project's default), channels last,
automatic mixed precision, cuDNN's benchmark mode, cross-entropy, SGD with momentum in
one fused kernel; the batch stays on the device. ``--compile`` adds torch.compile. Needs
torch and torchvision, no TensorFlow.
"""

import argparse
import contextlib
import time

PRECISIONS = ("float32", "float16", "bfloat16")


def make_step(args: argparse.Namespace, device: str):
    """Creates the network and a batch; returns a function that makes a step."""
    import torch
    import torchvision

    network = torchvision.models.resnet50().to(device)
    network = network.to(memory_format=torch.channels_last)
    forward = torch.compile(network, mode=args.compile) if args.compile else network
    optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True
    )
    size = args.batch_size, 3, args.crop_size, args.crop_size
    images = torch.randn(size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (args.batch_size,), device=device)
    precision = getattr(torch, args.precision)
    is_half = precision is not torch.float32
    cast = torch.autocast(device, precision) if is_half else contextlib.nullcontext()
    scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)
    compute_loss = torch.nn.functional.cross_entropy

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            loss = compute_loss(forward(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def measure(step, seconds: float) -> float:
    """Steps per second, the best of three rounds."""

    def run(num_steps: int) -> float:
        started = time.perf_counter()
        for _ in range(num_steps):
            loss = step()
        loss.item()  # Waits for the device.
        return time.perf_counter() - started

    run(5)  # Compiles, and chooses algorithms.
    num_steps = max(1, round(seconds / (run(3) / 3)))
    return num_steps / min(run(num_steps) for _ in range(3))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    modes = ["default", "reduce-overhead", "max-autotune"]
    parser.add_argument("--compile", choices=modes, help="mode of torch.compile")
    parser.add_argument("--seconds", type=float, default=3, help="of each round")
    return parser.parse_args()


def main() -> None:
    """Prints images/s and peak memory."""
    args = parse_arguments()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")  # TF32
    speed = measure(make_step(args, device), args.seconds) * args.batch_size
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(
        f"PyTorch {torch.__version__}, {name}, {args.precision}, "
        f"{f'compile ({args.compile})' if args.compile else 'eager'}, batches of "
        f"{args.batch_size}: {speed:.0f} images/s, peak {peak / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
