"""Makes the folders and tables of runs, for other tests."""

from pathlib import Path

from resnet50.reports.tables import EVALUATION_FILE, METRICS_FILE, write_table


def metrics_row(epoch: int, **changes) -> dict:
    """A row of metrics.csv; each epoch the loss falls and the top-1 rises by 1 %."""
    return {
        "epoch": epoch,
        "steps": 10 * (epoch + 1),
        "loss": 7 - 0.05 * epoch,
        "l2_loss": 1,
        "top1": 0.01 * epoch,
        "top5": 0.01 * epoch + 0.05,
        "learning_rate": 0.1 / (epoch + 1),
        "images_per_second": 200,
        "waiting": 0.2,
        "seconds": 60,
        **changes,
    }


def make_run(folder: Path, num_epochs: int, evaluated=(), *, weights=None) -> Path:
    """Makes a run; evaluates some of its epochs with 1 and 10 crops."""
    folder.mkdir(parents=True)
    write_table(folder / METRICS_FILE, [metrics_row(e) for e in range(num_epochs)])
    rows = [
        {
            "epoch": epoch,
            "crops": crops,
            "top1": 0.01 * epoch + 0.001 * crops,
            "top5": 0.01 * epoch + 0.06,
            "loss": 6.5,
            "num_images": 100,
            **({"weights": weights} if weights else {}),
        }
        for epoch in evaluated
        for crops in (1, 10)
    ]
    if rows:
        write_table(folder / EVALUATION_FILE, rows)
    return folder
