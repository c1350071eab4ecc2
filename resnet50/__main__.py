"""Runs a command: ``python -m resnet50 NAME``, installed also as ``resnet50``."""

import sys

COMMANDS = {
    "init": "writes a configuration for a folder of images",
    "evaluate": "top-1 and top-5 accuracy of a run's checkpoints",
    "predict": "the five most probable classes of any images",
    "plot": "learning curves of one or more runs, or what one run confuses",
    "compare": "settings and results of two or more runs, where they differ",
    "log": "copies settings and tables of runs into MLflow",
    "status": "speed, buffer, time left and disk use of running programs",
    "preview": "what the network sees: a batch, or one image in many epochs",
    "doctor": "checks the machine, the settings and the images before a training",
    "weights": "exports and imports weights in torchvision's and timm's layout",
    "export": "a SavedModel or ONNX file that takes decoded images",
    "demo": "the whole pipeline on generated images, in some minutes on a CPU",
}


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        is_help = name in ("-h", "--help")
        if name and not is_help:
            print(f"python -m resnet50: unknown command {name!r}", file=sys.stderr)
        print("usage: python -m resnet50 COMMAND [--help]\n", file=sys.stderr)
        for command, meaning in COMMANDS.items():
            print(f"  {command:10} {meaning}", file=sys.stderr)
        sys.exit(0 if is_help else 2)
    sys.argv = [f"resnet50 {name}", *sys.argv[2:]]
    try:
        from resnet50 import command_line

        # Loads only this command: some need TensorFlow, which takes seconds.
        command_line.run_command(name)
    except ModuleNotFoundError as error:
        if (error.name or "resnet50").startswith("resnet50"):
            raise
        sys.exit(
            f"{error.name}: this Python package is not installed (python3 -m pip "
            "install -e . in the project's folder)"
        )


if __name__ == "__main__":
    main()
