"""The side door: ``python -m resnet50 NAME``, installed also as ``resnet50``."""

import sys

from resnet50 import command_line

COMMANDS = {
    "evaluate": "top-1 and top-5 accuracy of a run's checkpoints",
    "weights": "to and from the names and layouts of torchvision and timm",
    "export": "a SavedModel or ONNX file that takes images as they are",
    "preview": "draws the images of a batch, rebuilt from its address",
    "demo": "the whole pipeline on generated images, in some minutes on a CPU",
}


def main() -> None:
    """Hands over to the module of the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        print("usage: python -m resnet50 COMMAND [--help]\n", file=sys.stderr)
        for command, meaning in COMMANDS.items():
            print(f"  {command:10} {meaning}", file=sys.stderr)
        sys.exit(0 if name in ("-h", "--help") else 2)
    sys.argv = [f"resnet50 {name}", *sys.argv[2:]]
    # Loads the chosen one only: some need TensorFlow, which takes seconds.
    command_line.run_command(name)


if __name__ == "__main__":
    main()
