"""How tests compile, where compiling is nearly all of their time."""

QUICK = {"xla_backend_optimization_level": 0}
