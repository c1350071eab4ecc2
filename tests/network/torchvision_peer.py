"""torchvision's ResNet-50 on our weights: logits, gradients, twenty steps. Needs torch.

    python -m tests.network.torchvision_peer

writes torchvision_reference.json, which guards where torch is absent. The numbers are
of float64, so that they are no one's rounding.
"""

import json
import os

import numpy as np
import tensorflow as tf

from benchmarks.peers.torchvision_programs import import_torchvision
from resnet50.network.model import ResNet50
from resnet50.network.torchvision_names import to_state_dict
from tests.network import parity

torch, torchvision = import_torchvision()


def create_peer(model: ResNet50, dtype=torch.float32):
    """The network of torchvision with our weights; every tensor must find its place."""
    state = {k: torch.tensor(v) for k, v in to_state_dict(model).items()}
    peer = torchvision.models.resnet50(num_classes=len(state["fc.bias"]))
    peer.load_state_dict(state, strict=True)
    return peer.to(dtype)


def to_torch(images: np.ndarray, dtype):
    return torch.tensor(images.transpose(0, 3, 1, 2).copy()).to(dtype)


def record_pieces(peer, pieces: parity.Pieces) -> None:
    """Lets the network's next call record the sides of its kinks."""

    def note_relu(module, inputs, output):
        pieces.inputs.append(inputs[0].detach().numpy().transpose(0, 2, 3, 1))

    def note_max_pool(module, inputs, output):
        pooled, places = output
        places, width = places.numpy().transpose(0, 2, 3, 1), inputs[0].shape[-1]
        # Ours has a margin of 1 around the image.
        pieces.largest = (places // width + 1) * (width + 2) + places % width + 1
        return pooled

    for module in peer.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
            module.register_forward_hook(note_relu)
    peer.maxpool.return_indices = True
    peer.maxpool.register_forward_hook(note_max_pool)


def logits_and_gradients(peer, images, labels, is_training, dtype=torch.float32):
    """Logits, and the gradients of the mean cross-entropy by name."""
    peer.train(is_training)
    logits = peer(to_torch(images, dtype))
    labels = torch.tensor(labels.astype(np.int64))
    torch.nn.functional.cross_entropy(logits, labels).backward()
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    return logits.detach().numpy(), gradients


def train_steps(dtype=torch.float32) -> tuple[list[float], float]:
    """What parity.train_steps does, by torchvision and torch.optim.SGD."""
    peer = create_peer(parity.create_training().model, dtype).train()
    images, labels = parity.create_batch(*parity.STEP_BATCH)
    images, labels = to_torch(images, dtype), torch.tensor(labels.astype(np.int64))
    kernels = [p for p in peer.parameters() if p.ndim > 1]
    others = [p for p in peer.parameters() if p.ndim == 1]
    groups = [
        {"params": kernels, "weight_decay": parity.L2_PENALTY},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        groups, lr=parity.STEP_LEARNING_RATE, momentum=parity.MOMENTUM
    )
    losses = []
    for _ in range(parity.NUM_STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(images), labels)
        squares = sum(float((p.detach().double() ** 2).sum()) for p in kernels)
        losses.append(loss.item() + parity.L2_PENALTY / 2 * squares)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = peer.eval()(images)
        return losses, float(torch.nn.functional.cross_entropy(logits, labels))


def make_reference() -> dict:
    model = parity.create_network("v1.5", 1e-5)
    images, labels = parity.create_batch(*parity.GRADIENT_BATCH)
    step_images, _ = parity.create_batch(*parity.STEP_BATCH)
    reference = {
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
        },
        "inputs": parity.fingerprint([images, labels, step_images]),
        "weights": parity.fingerprint(model.variables),
        "first_weights": parity.fingerprint(parity.create_training().model.variables),
    }
    for mode, is_training in (("training", True), ("inference", False)):
        peer = create_peer(model, torch.float64)
        logits, gradients = logits_and_gradients(
            peer, images, labels, is_training, torch.float64
        )
        reference[mode] = {
            "logits": logits.tolist(),
            "gradient_norms": {
                name: float(np.linalg.norm(g)) for name, g in gradients.items()
            },
        }
    losses, inference_loss = train_steps(torch.float64)
    return {**reference, "losses": losses, "inference_loss": inference_loss}


if __name__ == "__main__":
    os.nice(5)
    text = json.dumps(make_reference(), indent=1) + "\n"
    parity.REFERENCE_PATH.write_text(text)
