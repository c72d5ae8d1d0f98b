"""Private names of Keras and TensorFlow, and helpers for the other rooms."""
