"""The ResNet-50: layers, model, and its weights in other programs' formats.

Imports TensorFlow.
"""
