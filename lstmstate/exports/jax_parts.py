"""Common parts of the programs for the libraries of JAX."""

from __future__ import annotations

from lstmstate.engines.canonical_network import Network

# By the names of `cells.activations`.
FUNCTIONS = {
    "tanh": "jax.numpy.tanh",
    "sigmoid": "jax.nn.sigmoid",
    "hard_sigmoid": "lambda z: jax.numpy.clip(0.2 * z + 0.5, 0, 1)",
    "keras3_hard_sigmoid": "jax.nn.hard_sigmoid",
    "identity": "lambda z: z",
    "relu": "jax.nn.relu",
    "relu6": "jax.nn.relu6",
    "leaky_relu": "lambda z: jax.nn.leaky_relu(z, 0.2)",
    "elu": "jax.nn.elu",
    "selu": "jax.nn.selu",
    "softplus": "jax.nn.softplus",
    "softsign": "jax.nn.soft_sign",
    "sin": "jax.numpy.sin",
    "erf": "jax.lax.erf",
}


def settings(network: Network) -> str:
    """Return the line that JAX needs to compute in float64."""
    is_double = network.dtype.name == "float64"
    return 'jax.config.update("jax_enable_x64", True)\n' if is_double else ""
