"""`strategy` takes logical devices that are there already."""

import tensorflow as tf

from gradloop import loops

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
assert loops.strategy("mirrored:cpu:3").num_replicas_in_sync == 3
