"""The same work timed in tenzoo and in other frameworks, side by side in one run: ``python -m benchmarks``.

``workloads`` says what is computed, ``keras_models`` and ``torch_models`` build it, ``frameworks`` takes its
steps. A ``worker`` is a process that times one workload in one framework; ``measure`` lets the workers take
turns, and ``report`` makes the table. ``check`` sees to it that the same work is compared, ``kernels`` shows
where tenzoo's time goes.
"""
