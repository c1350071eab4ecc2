"""Judges the results of the trials of a card."""

from resnet50.checks.gpu_trials import Verdict

# The largest relative error of one operation. That of float32 is 2^-24, here times 256
# for sums of thousands of terms, which each device computes by another algorithm. The
# types below float32 have such sums in float32, too.
_ROUNDOFF = {
    "float32": 2.0**-16,
    "float32 with TF32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}

# The largest relative differences from the CPU's float32 step, in roundoffs u. With 16
# images of 96 pixels on a CPU, bfloat16's loss differed by 0.04 u and the gradients of
# the smooth network by 11 u; with 8 of 32 pixels, float16's by 0.01 u and 57 u.
_LOSS_ROUNDOFFS = 4
_SMOOTH_ROUNDOFFS = 64
# An error of u moves a share of the real network's activations over the kink of a ReLU
# that is proportional to u, and the gradient by its root. On a CPU it moved by 0.5
# sqrt(u) in float32 with XLA against without, 1.5 in bfloat16, 2.2 in float16.
_KINK_ROOTS = 4

# From the trainings through files, over those with a batch that stays on the card.
_LEAST_RATIO = 0.97

# From step 100 to step 2,000. One batch of the trial takes 0.4 MB, so a step that kept
# its batch would take 747 MB.
_MAX_CARD_GROWTH = 1e6
_MAX_PROCESS_GROWTH = 64e6
GROWTH_STEPS = (100, 2000)


def judge_difference(mode: str, is_smooth: bool, result: dict) -> Verdict:
    """Compares a step with the CPU's in float32."""
    roundoff = _ROUNDOFF[mode]
    loss_bound = _LOSS_ROUNDOFFS * roundoff
    gradient_bound = _KINK_ROOTS * roundoff**0.5
    if is_smooth:
        gradient_bound = _SMOOTH_ROUNDOFFS * roundoff
    what = (
        f"loss differs from the CPU's by {result['loss_difference']:.1e} (at most "
        f"{loss_bound:.1e}), {result['num_gradients']} gradients by "
        f"{result['gradient_difference']:.1e} (at most {gradient_bound:.1e}), the "
        f"worst by {result['worst_difference']:.1e}: {result['worst_variable']}"
    )
    # NaN is not within.
    is_within = (
        result["loss_difference"] <= loss_bound
        and result["gradient_difference"] <= gradient_bound
    )
    return Verdict(what, is_within)


def judge_hashes(first: dict, second: dict) -> Verdict:
    """Compares two deterministic trainings."""
    same = first["sha256"] == second["sha256"]
    digits = " and ".join(sorted({run["sha256"][:16] for run in (first, second)}))
    word = "bitwise equal" if same else "different"
    return Verdict(f"weights of two runs are {word}, SHA-256 {digits}", same)


def judge_placement(result: dict) -> Verdict:
    """Demands that no op of the step ran elsewhere."""
    elsewhere = result["elsewhere"]
    names = f" ({', '.join(elsewhere)})" if elsewhere else ""
    total = sum(elsewhere.values())
    what = f"{total} of {result['num_ops']} ops run on the CPU{names}"
    return Verdict(what, total == 0 and result["num_ops"] > 0)


def judge_speed(result: dict) -> Verdict:
    """Has no bound."""
    speed, peak = result["images_per_second"], result["peak_bytes"]
    return Verdict(f"{speed:.0f} images/s, peak {peak / 1e9:.2f} GB")


def judge_copy(result: dict) -> Verdict:
    """Has no bound."""
    copy, step, both = (
        1e3 * result[f"{name}_seconds"] for name in ("copy", "step", "both")
    )
    speed = result["batch_bytes"] / 1e6 / copy
    return Verdict(
        f"copy {copy:.1f} ms ({speed:.1f} GB/s), step {step:.1f} ms, both at once "
        f"{both:.1f} ms: {result['hidden']:.0%} of the copy is hidden"
    )


def judge_files(result: dict) -> Verdict:
    """Demands that files, reader and copies cost hardly any speed."""
    what = (
        f"{result['file_images_per_second']:.0f} images/s, "
        f"{result['resident_images_per_second']:.0f} with a batch on the card: ratio "
        f"{result['ratio']:.3f} (at least {_LEAST_RATIO})"
    )
    return Verdict(what, result["ratio"] >= _LEAST_RATIO)


def judge_growth(result: dict) -> Verdict:
    """Demands that memory does not grow from step to step."""
    first, last = result["memory"]
    card, process = (
        last[name] - first[name] for name in ("card_bytes", "process_bytes")
    )
    what = (
        f"from step {first['steps']:,} to {last['steps']:,} the card's memory grew by "
        f"{card / 1e6:.1f} MB (at most {_MAX_CARD_GROWTH / 1e6:g}), the process's by "
        f"{process / 1e6:.1f} MB (at most {_MAX_PROCESS_GROWTH / 1e6:g})"
    )
    return Verdict(what, card <= _MAX_CARD_GROWTH and process <= _MAX_PROCESS_GROWTH)


def judge_overfill(result: dict) -> Verdict:
    """Demands one line about the memory."""
    error = result["error"]
    if not error:
        return Verdict("fits into a part of the memory where it should not", False)
    return Verdict(f"one line: {error}", "\n" not in error)
