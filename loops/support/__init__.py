"""The ground: Keras' private names, folders, hints."""
