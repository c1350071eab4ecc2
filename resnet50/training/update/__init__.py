"""One training step: loss, gradients, and the update of the weights."""
