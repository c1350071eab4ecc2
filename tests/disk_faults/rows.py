"""The rows of the table, but those that change whole folders."""

import os
import shutil

from tests.disk_faults.disturbances import Row, failing
from tests.disk_faults.scenes import PREPROCESSOR, TRAINER, Scene

# For the tables: programs, and patterns of paths.
P, T = PREPROCESSOR, TRAINER
BUFFER, RUN = "*/buffer", "*/saved_models/run"
IMAGES = "*/images/train"
CACHE = "*/disk-faults-*/numba*"
BATCH = f"{BUFFER}/*_0*.npy"
ANY_TEMPORARY = f"{BUFFER}/.writing-*.npy.tmp"


def empty_cache(scene: Scene) -> None:
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


AT_PREPROCESSOR_START = [
    *failing("config.txt", P, "open", "*/config.txt", "EIO EACCES", "ended"),
    *failing("config.txt", P, "read", "*/config.txt", "EIO", "ended"),
    *failing("image folder", P, "open", IMAGES, "EIO", "ended", is_cold=True),
    *failing("image folder", P, "list", IMAGES, "EIO", "ended", is_cold=True),
    *failing(
        "class folder", P, "list", f"{IMAGES}/*", "EIO", "ended", is_cold=True
    ),
    *failing("all images", P, "open", f"{IMAGES}/*.JPEG", "EIO ESTALE ENOENT",
             "said"),
    *failing("all images", P, "read", f"{IMAGES}/*.JPEG", "EIO", "said"),
    *failing("buffer folder", P, "mkdir", BUFFER, "EROFS EIO ENOSPC EDQUOT",
             "ended", is_cold=True),
    *failing("buffer folder", P, "list", BUFFER, "EIO", "ended"),
    *failing("lock", P, "create", f"{BUFFER}/runtime_*.lock",
             "EIO EROFS ENOSPC EDQUOT", "ended"),
    *failing("lock", P, "lock", f"{BUFFER}/runtime_*.lock",
             "EIO ENOLCK EOPNOTSUPP", "ended"),
    *failing("lock", P, "write", f"{BUFFER}/runtime_*.lock", "EIO ENOSPC",
             "silent"),
    *failing("index", P, "read", f"{BUFFER}/dataset_index*", "EIO", "silent"),
    *failing("index", P, "create write", f"{BUFFER}/.writing-*.npz.tmp",
             "EIO ENOSPC", "silent", is_cold=True),
    *failing("index", P, "rename", f"{BUFFER}/dataset_index*", "EIO",
             "silent", is_cold=True),
    *failing("stale temporaries", P, "unlink", f"{BUFFER}/.writing-0*",
             "EIO EROFS", "ended"),
    *failing("manifest", P, "open", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", P, "read", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", P, "create", f"{BUFFER}/.writing-*.json.tmp",
             "EROFS EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "write", f"{BUFFER}/.writing-*.json.tmp",
             "EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "fsync", f"{BUFFER}/.writing-*.json.tmp",
             "EIO ENOSPC EDQUOT", "ended", is_cold=True),
    *failing("manifest", P, "rename", f"{BUFFER}/manifest.json",
             "EIO", "ended", is_cold=True),
    *failing("unreadable_images.txt", P, "open",
             f"{BUFFER}/unreadable_images.txt", "EIO", "ended"),
    *failing("unreadable_images.txt", P, "read",
             f"{BUFFER}/unreadable_images.txt", "EIO", "ended"),
    *failing("progress", P, "open", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("progress", P, "read", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("batch", P, "create", ANY_TEMPORARY, "EIO EROFS ENOSPC EDQUOT",
             "said"),
    *failing("batch", P, "write", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "fsync", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "rename", BATCH, "EIO EROFS", "said"),
    *failing("whole buffer folder", P, "stat", "*[0-9]/buffer*", "EIO", "ended"),
    *failing("numba's cache", P, "open", CACHE, "EIO", "silent"),
    *failing("numba's cache", P, "read", CACHE, "EIO", "silent"),
    *failing("numba's cache", P, "create write mkdir", CACHE,
             "EIO ENOSPC EROFS EDQUOT", "silent", begin=empty_cache),
]  # fmt: skip

CHECKPOINT = f"{RUN}/1"

AT_TRAINER_START = [
    *failing("config.txt", T, "read", "*/config.txt", "EIO", "ended"),
    *failing("image folder", T, "stat", IMAGES, "EIO", "ended"),
    *failing("index", T, "read", f"{BUFFER}/dataset_index*", "EIO", "silent"),
    *failing("lock of the buffer", T, "create", f"{BUFFER}/train.lock",
             "EIO EROFS", "ended"),
    *failing("lock of the buffer", T, "lock", f"{BUFFER}/train.lock",
             "ENOLCK EOPNOTSUPP", "ended"),
    *failing("lock of the run", T, "create", f"{RUN}/train.lock", "EROFS EDQUOT",
             "ended"),
    *failing("lock of the run", T, "lock", f"{RUN}/train.lock",
             "ENOLCK", "ended"),
    *failing("stale temporaries", T, "unlink", f"{BUFFER}/.writing-0.txt.tmp",
             "EIO", "ended"),
    *failing("manifest", T, "open", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("manifest", T, "read", f"{BUFFER}/manifest.json", "EIO", "ended"),
    *failing("run folder", T, "list", RUN, "EIO", "ended"),
    *failing("stale checkpoint", T, "unlink", f"{RUN}/.writing-0*", "EIO",
             "silent"),
    *failing("checkpoint, state.json", T, "open", f"{CHECKPOINT}/state.json",
             "EIO", "ended"),
    *failing("checkpoint, state.json", T, "read", f"{CHECKPOINT}/state.json",
             "EIO", "ended"),
    *failing("checkpoint, checksum", T, "read", f"{CHECKPOINT}/variables.data*",
             "EIO", "ended"),
    *failing("checkpoint, index by TensorFlow", T, "open",
             f"{CHECKPOINT}/variables.index", "EIO", "ended", first=3),
    *failing("checkpoint, variables by TensorFlow", T, "open",
             f"{CHECKPOINT}/variables.data*", "EIO", "ended", first=3),
    *failing("setting checkpoints aside", T, "mkdir rename",
             f"{RUN}/superseded-1*", "EIO ENOSPC", "ended", flags=("--epoch_start=1",)),
    *failing("starts.jsonl", T, "create", f"{RUN}/.writing-*.jsonl.tmp",
             "EIO ENOSPC EROFS", "said"),
    *failing("progress", T, "create", f"{BUFFER}/*.txt*", "EIO EROFS ENOSPC",
             "ended"),
    *failing("progress", T, "rename", f"{BUFFER}/training_progress.txt", "EIO",
             "ended"),
    *failing("saved_models_folder", T, "stat", f"{RUN}*", "EIO", "ended"),
]  # fmt: skip

WHILE_RUNNING = [
    *failing("all images", P, "open", f"{IMAGES}/*.JPEG", "EIO ENOENT",
             "said"),
    *failing("all images", P, "read", f"{IMAGES}/*.JPEG", "EIO", "said"),
    *failing("batch", P, "create", ANY_TEMPORARY, "EIO EROFS ENOSPC EDQUOT",
             "said"),
    *failing("batch", P, "write", ANY_TEMPORARY, "EIO ENOSPC EDQUOT", "said"),
    *failing("batch", P, "fsync", ANY_TEMPORARY, "EIO EDQUOT", "said"),
    *failing("batch", P, "rename", BATCH, "EIO EROFS", "said"),
    *failing("used batch", P, "unlink", BATCH, "EIO EROFS", "said"),
    *failing("buffer folder", P, "list", BUFFER, "EIO ESTALE", "said"),
    *failing("manifest", P, "stat", f"{BUFFER}/manifest.json", "EIO", "silent"),
    *failing("lock", P, "stat", f"{BUFFER}/runtime_preprocessing.lock", "EIO",
             "silent"),
    *failing("trainer's lock", P, "lock open", f"{BUFFER}/train.lock", "EIO",
             "silent"),
    *failing("progress", P, "open", f"{BUFFER}/training_progress.txt",
             "EIO ESTALE", "said"),
    *failing("progress", P, "read", f"{BUFFER}/training_progress.txt", "EIO",
             "said"),
    *failing("whole buffer folder", P, "stat", "*[0-9]/buffer*", "EIO", "said"),
    *failing("batch", T, "open", BATCH, "EIO ESTALE EACCES", "said"),
    *failing("batch", T, "read", BATCH, "EIO", "said", "trying again"),
    *failing("batch", T, "read", BATCH, "hang", "silent"),
    *failing("manifest", T, "open", f"{BUFFER}/manifest.json", "EIO", "said"),
    *failing("progress", T, "create", f"{BUFFER}/*.txt*", "EIO ENOSPC EROFS EDQUOT",
             "said"),
    *failing("progress", T, "write", f"{BUFFER}/*.txt*", "EIO ENOSPC", "said"),
    *failing("progress", T, "rename", f"{BUFFER}/training_progress.txt", "EIO",
             "silent"),
    *failing("buffer folder", T, "list", BUFFER, "EIO", "silent"),
    *failing("locks", T, "stat", "*/train.lock", "EIO", "silent"),
    *failing("preprocessor's lock", T, "lock open", f"{BUFFER}/runtime*.lock",
             "EIO", "silent"),
    *failing("checkpoint", T, "mkdir", f"{RUN}/.writing-*", "EIO EROFS", "said"),
    *failing("checkpoint", T, "create", f"{RUN}/.writing-*/*", "EIO ENOSPC",
             "said"),
    *failing("checkpoint", T, "write", f"{RUN}/.writing-*/*", "EIO ENOSPC EDQUOT",
             "said"),
    *failing("checkpoint", T, "read", f"{RUN}/.writing-*/*", "EIO", "said"),
    *failing("checkpoint", T, "fsync", f"{RUN}/.writing-*", "EIO", "said"),
    *failing("checkpoint", T, "rename", f"{RUN}/[0-9]*", "EIO EROFS", "said"),
    *failing("old checkpoint", T, "rename", f"{RUN}/.writing-*", "EIO", "said"),
    *failing("old checkpoint", T, "unlink", f"{RUN}/.writing-*/*", "EIO", "silent"),
    *failing("metrics.csv", T, "open", f"{RUN}/metrics.csv", "EIO", "said"),
    *failing("metrics.csv", T, "create", f"{RUN}/.writing-*.csv.tmp",
             "EIO ENOSPC EDQUOT EROFS", "said"),
    *failing("metrics.csv", T, "fsync", f"{RUN}/.writing-*.csv.tmp", "EIO", "said"),
    *failing("metrics.csv", T, "rename", f"{RUN}/metrics.csv", "EIO", "said"),
]  # fmt: skip

# Two hosts, or two terminals, that start the same.

_RUNS = "already runs here"
_ANY_LOCK = "*/*.lock"

STARTED_TWICE = [
    Row("a second trainer", T, None, "ended", _RUNS),
    Row("a second preprocessor", P, None, "ended", _RUNS),
    Row("two trainers at once", T, None, "ended", _RUNS, is_cold=True),
    Row("two preprocessors at once", P, None, "ended", _RUNS, is_cold=True),
    *failing("a second trainer, locks do not reach it", T, "lock", _ANY_LOCK,
             "PRETEND", "silent"),
    *failing("a second preprocessor, locks do not reach it", P, "lock",
             _ANY_LOCK, "PRETEND", "silent"),
]  # fmt: skip

EVALUATE = "-m resnet50 evaluate --run_folder=run --epoch_end=1"
STATISTICS = "compute_channel_stats.py --write"
PLOT = "-m resnet50 plot run"
PREVIEW = "-m resnet50 preview --epoch=0 --batch=0 --check"

COMMANDS = [
    *failing("evaluation.csv", EVALUATE, "read", f"{RUN}/evaluation.csv", "EIO",
             "ended"),
    *failing("evaluation.csv", EVALUATE, "create write",
                          f"{RUN}/.writing-*.csv.tmp", "ENOSPC EROFS", "ended"),
    *failing("evaluation.csv", EVALUATE, "rename", f"{RUN}/evaluation.csv", "EIO",
             "ended"),
    *failing("predictions.csv", EVALUATE, "rename", f"{RUN}/predictions.csv", "EIO",
             "ended"),
    *failing("checkpoint", EVALUATE, "read", f"{RUN}/0/*", "EIO", "ended"),
    *failing("evaluator's lock", EVALUATE, "lock", f"{RUN}/evaluate.lock", "ENOLCK",
             "ended"),
    *failing("config.txt", STATISTICS, "create write fsync", "*/.writing-*.txt.tmp",
             "EIO ENOSPC EDQUOT EROFS", "ended"),
    *failing("config.txt", STATISTICS, "rename", "*/config.txt", "EIO", "ended"),
    *failing("all images", STATISTICS, "open", f"{IMAGES}/*.JPEG", "ENOENT EACCES",
             "ended"),
    *failing("metrics.csv", PLOT, "read", f"{RUN}/metrics.csv", "EIO", "ended"),
    *failing("batch", PREVIEW, "read", BATCH, "EIO", "ended"),
]  # fmt: skip
