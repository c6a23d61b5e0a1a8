"""Image classifiers and the features inside them."""
