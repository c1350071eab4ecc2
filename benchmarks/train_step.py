"""The training step's images/s and peak memory against a Keras ResNet-50's.

    python3 -m benchmarks.train_step [--batch_sizes 16 32] [--crop_size 224]

Keras' ResNet50 has the stride in the first 1x1 ("v1"), so this project's has it there
too. Both use the same loss with the l2 penalty on all kernels and the same SGD with
momentum, each in one tf.function; this project's also counts top-1 and top-5. Every
variant is a fresh process, which measures its own peak memory. On a CPU both variants
take turns; a GPU has one after the other. The result is the median of the rounds'
ratios.

On a GPU the benchmark also measures every precision, the share of the card's peak (see
``arithmetic``), and the network's convolutions in NHWC against NCHW.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys

import resnet50.training  # noqa: F401, which makes TensorFlow quiet.

# isort: split
import tensorflow as tf

from benchmarks.arithmetic import operations_per_image, peak_tflops
from resnet50.network.model import PRECISIONS
from resnet50.training.devices.selection import prepare_device

NETWORKS = ("ours", "keras")


class Variant:
    """One network's training in a process of its own."""

    def __init__(self, network: str, batch_size: int, precision: str, xla: bool, args):
        command = [sys.executable, "-m", "benchmarks.train_step_variants", network]
        command += [f"--batch_size={batch_size}", f"--crop_size={args.crop_size}"]
        command += [f"--precision={precision}", *(["--xla"] if xla else [])]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if args.verbose else subprocess.DEVNULL,
            text=True,
        )
        if self._process.stdout.readline() != "ready\n":
            self.end()
            raise ChildProcessError(f"{' '.join(command[1:])} failed (see --verbose)")

    def run(self, num_steps: int) -> dict[str, float]:
        """Wall and processor seconds of some steps, and the peak memory so far."""
        print(num_steps, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def run_rounds(networks, batch_size: int, precision: str, xla: bool, args) -> dict:
    """Runs some networks by turns; returns a list of results for each."""
    with contextlib.ExitStack() as stack:
        variants, results = {}, {network: [] for network in networks}
        for network in networks:
            variants[network] = Variant(network, batch_size, precision, xla, args)
            stack.callback(variants[network].end)
        for number in range(args.rounds):
            for network in networks if number % 2 == 0 else networks[::-1]:
                results[network].append(variants[network].run(args.steps))
    return results


def compare(
    batch_size: int, precision: str, xla: bool, has_gpu: bool, args
) -> dict[str, float]:
    """Prints both networks' figures; returns images/s by network."""
    variant = batch_size, precision, xla, args
    if has_gpu:  # Alone on the card: a second network would take memory from the first.
        results = {}
        for network in NETWORKS:
            results |= run_rounds([network], *variant)
    else:  # By turns, as other programs use the processor too.
        results = run_rounds(NETWORKS, *variant)
    speeds = {
        network: [args.steps * batch_size / run[args.clock] for run in runs]
        for network, runs in results.items()
    }
    ratios = [ours / keras for ours, keras in zip(*speeds.values())]
    gigabytes = {name: runs[-1]["bytes"] / 1e9 for name, runs in results.items()}
    print(
        f"{batch_size:5d}  {precision:9} {'XLA' if xla else 'graph':6}"
        f"{statistics.median(speeds['ours']):9.2f}"
        f"{statistics.median(speeds['keras']):9.2f}"
        f"{statistics.median(ratios):8.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        f"{gigabytes['ours']:8.2f}{gigabytes['keras']:8.2f}"
        f"{gigabytes['ours'] / gigabytes['keras']:7.2f}",
        flush=True,
    )
    return {name: statistics.median(values) for name, values in speeds.items()}


def print_share_of_peak(images_per_second, precision: str, peak, args) -> None:
    """Prints what share of a card's peak this project's step reaches."""
    tflops = images_per_second * operations_per_image(args.crop_size, "v1") / 1e12
    share = f", {tflops / peak:.0%} of the card's {peak:g}" if peak else ""
    print(f"       ours: {tflops:.2f} TFLOP/s in {precision}{share}")


def print_layouts(batch_size: int, precision: str, args) -> None:
    """Prints the time of the network's convolutions in both layouts."""
    # In its own process, because TensorFlow keeps a card's memory until a process ends.
    code = (
        "from benchmarks.layouts import measure_layouts as m; import json; "
        f"print(json.dumps(m({batch_size}, {args.crop_size}, {precision!r}, 5)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    seconds = json.loads(output.splitlines()[-1])
    print(
        f"       all convolutions of a step, {precision}: NHWC "
        f"{1e3 * seconds['NHWC']:.1f} ms, NCHW {1e3 * seconds['NCHW']:.1f} ms"
    )


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="in each round")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="default: all that help"
    )
    parser.add_argument(
        "--modes", nargs="+", choices=["graph", "xla"], default=["graph", "xla"]
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time of all threads, for a busy machine without a GPU",
    )
    parser.add_argument("--peak_tflops", type=float, help="of a card that is not known")
    parser.add_argument("--verbose", action="store_true", help="TensorFlow's messages")
    return parser.parse_args()


def main() -> None:
    """Compares all variants and prints a table."""
    args = parse_arguments()
    device = prepare_device(deterministic=False, notify=print)
    has_gpu = device.compute_capability is not None
    precisions = args.precision or (PRECISIONS if has_gpu else PRECISIONS[:1])
    print(
        f"TensorFlow {tf.__version__}, {args.crop_size} pixels, medians of "
        f"{args.rounds} rounds of {args.steps} steps, {args.clock} time\n"
        "                          images/s                              peak GB\n"
        "batch  precision mode       ours    Keras   ratio (all)          ours   Keras"
        "  ratio"
    )
    for batch_size in args.batch_sizes:
        for precision in precisions:
            peak = args.peak_tflops or peak_tflops(device.name, precision)
            for mode in args.modes:
                speeds = compare(batch_size, precision, mode == "xla", has_gpu, args)
                if has_gpu:
                    print_share_of_peak(speeds["ours"], precision, peak, args)
            if has_gpu:
                print_layouts(batch_size, precision, args)


if __name__ == "__main__":
    main()
