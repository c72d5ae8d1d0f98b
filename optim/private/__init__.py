"""Keras' and TensorFlow's private names."""
