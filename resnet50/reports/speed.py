"""The speed of a training, which of the two programs limits it, and what helps.

The trainer's time is the sum of three phases:

    waiting     no batch is there
    saving      a checkpoint is written
    computing   everything else

Meanwhile its reading thread reads batch files ahead, or waits for one that is missing,
and another thread copies them to the device. These overlap with the phases; only
waiting slows the training.
"""

from typing import NamedTuple

from resnet50.config.settings import Config, TrainConfig

# A smaller share of the time is not worth changing a setting for.
_WORTH_A_CHANGE = 0.05

# Below this share of the time, nobody hears which host the others wait for.
_WORTH_A_NAME = 0.01

# The name of this host among those of a training.
THIS_WORKER = "this worker"


class Speed(NamedTuple):
    """What a trainer did in a period of time."""

    num_images: int
    seconds: float
    waiting: float  # seconds of the trainer
    saving: float
    reading: float  # seconds of the reading thread: reads batch files
    absent: float  # the same: the next batch is missing
    unattended: float  # the same, and no preprocessor runs
    slowest: str = ""  # of several hosts with local folders, the one that was late

    @property
    def images_per_second(self) -> float:
        """Trained images per second."""
        return self.num_images / max(self.seconds, 1e-9)

    @property
    def unhindered_images_per_second(self) -> float:
        """Trained images per second, without the time spent waiting."""
        return self.num_images / max(self.seconds - self.waiting, 1e-9)

    def share(self, phase_seconds: float) -> float:
        """A phase's share of the whole time, 0..1."""
        return phase_seconds / max(self.seconds, 1e-9)

    def waiting_for(self) -> str:
        """Such as "31.0% for worker 1, host1:4711"; "" if no host was late."""
        share = self.share(self.waiting)
        is_named = self.slowest and share >= _WORTH_A_NAME
        return f"{share:.1%} for {self.slowest}" if is_named else ""

    def waiting_text(self) -> str:
        """Such as "waiting 31.0%"; of several hosts, also which one was late."""
        return f"waiting {self.waiting_for() or f'{self.share(self.waiting):.1%}'}"

    def line(self) -> str:
        """All figures, for the user."""
        waiting, saving = self.share(self.waiting), self.share(self.saving)
        return (
            f"{self.images_per_second:.1f} images/s, "
            f"{self.unhindered_images_per_second:.1f} if batches were never late; "
            f"{self.waiting_text()}, computing {max(0, 1 - waiting - saving):.1%}, "
            f"saving {saving:.1%} of the time; "
            f"reading {self.share(self.reading):.1%}, in parallel"
        )


def limit(speed: Speed, config: Config, num_cores: int) -> str:
    """One sentence: which program limits, and which key of config.txt to change.

    The speed should cover a long period, such as an epoch.
    """
    if speed.share(speed.waiting) > _WORTH_A_CHANGE:
        if speed.slowest not in ("", THIS_WORKER):
            return (
                f"The preprocessing of {speed.slowest}, limits; its own train.py says "
                "which key helps."
            )
        return _limit_of_preprocessing(speed, config, num_cores)
    return _limit_of_trainer(speed, config.train)


def _limit_of_trainer(speed: Speed, train: TrainConfig) -> str:
    share = speed.share(speed.saving)
    if share > _WORTH_A_CHANGE:
        start = f"The trainer limits: {share:.0%} of its time goes into checkpoints"
        minutes = train.checkpoint_minutes
        if 0 < 60 * minutes < speed.seconds:
            return f"{start}; raise [train] checkpoint_minutes (it is {minutes:g})."
        remedy = "put [train] saved_models_folder on a faster disk"
        return f"{start}, and each epoch must have one; {remedy}."
    start = "The trainer limits, batches are there in time"
    if train.deterministic:
        return f"{start}; [train] deterministic = false makes a GPU faster."
    remedy = f"a larger [train] batch_size (it is {train.batch_size}) uses a GPU better"
    if train.precision == "float32":
        remedy = '[train] precision = "auto" makes a GPU with Tensor Cores faster'
    return f"{start}; {remedy}, more num_workers would not help."


def _limit_of_preprocessing(speed: Speed, config: Config, num_cores: int) -> str:
    train, preprocessing = config.train, config.runtime_preprocessing
    cause = max(speed.absent, speed.unattended, speed.reading)
    if cause == speed.unattended:
        return (
            "The preprocessing limits: runtime_preprocessing.py was not running for "
            f"{speed.unattended:.0f} s; no key changes that, keep it running."
        )
    if cause == speed.reading:
        smaller = "" if train.dtype == "uint8" else ' or set dtype = "uint8"'
        return (
            "The hand-off limits: batches are there, but reading them is slow; put "
            f"[train] buffer_folder on a faster disk{smaller}."
        )
    # The preprocessor sleeps as long as more batches than this are left.
    spare = preprocessing.refill_below * train.buffer_size
    batches_per_second = speed.unhindered_images_per_second / train.batch_size
    if batches_per_second * preprocessing.sleep_time > spare:
        return (
            "The preprocessing limits: it may sleep longer than the buffer lasts; "
            f"raise [train] buffer_size (it is {train.buffer_size}) or lower "
            "[runtime_preprocessing] sleep_time "
            f"(it is {preprocessing.sleep_time:g} s)."
        )
    workers = f"[runtime_preprocessing] num_workers is {preprocessing.num_workers}"
    if preprocessing.num_workers < num_cores - 1:
        return (
            f"The preprocessing limits: {workers} and this machine has {num_cores} "
            f"cores; raise it, up to {num_cores - 1}."
        )
    return (
        f"The preprocessing limits: {workers} on {num_cores} cores, so more would not "
        "help; put [dataset] training_images on a faster disk, or use more cores."
    )
