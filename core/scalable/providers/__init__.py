"""How workers are got: one module a provider, and the registry that finds them."""
