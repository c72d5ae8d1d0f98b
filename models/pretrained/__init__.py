"""Transfer learning on keras.applications."""
