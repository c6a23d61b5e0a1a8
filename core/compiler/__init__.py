"""From the graph of a step to native code: loop IR, its LLVM emission, kernels, and the runtime that runs them."""
