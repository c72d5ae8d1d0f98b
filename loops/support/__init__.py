"""Keras' private names, and folders."""
