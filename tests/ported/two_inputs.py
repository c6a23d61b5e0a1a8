"""A functional model with two inputs and outputs: a Keras script of which only the import was changed."""

import numpy as np

import tenzoo as keras

num_tags, num_words, num_departments, title_length = 12, 50, 4, 10

keras.utils.set_random_seed(2)
title_input = keras.Input(shape=(title_length,), name="title")
tags_input = keras.Input(shape=(num_tags,), name="tags")

title_features = keras.layers.Embedding(num_words, 16)(title_input)
title_features = keras.layers.GlobalAveragePooling1D()(title_features)
x = keras.layers.concatenate([title_features, tags_input])
x = keras.layers.Dense(32, activation="relu")(x)

priority_pred = keras.layers.Dense(1, name="priority")(x)
department_pred = keras.layers.Dense(num_departments, name="department")(x)

model = keras.Model(
    inputs=[title_input, tags_input],
    outputs={"priority": priority_pred, "department": department_pred},
)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-2),
    loss={
        "priority": keras.losses.BinaryCrossentropy(from_logits=True),
        "department": keras.losses.CategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"priority": 1.0, "department": 0.2},
    metrics={"department": ["accuracy"]},
)

rng = np.random.default_rng(0)
title_data = rng.integers(num_words, size=(400, title_length))
tags_data = rng.integers(2, size=(400, num_tags)).astype("float32")
priority_targets = (tags_data[:, :1] + tags_data[:, 1:2] > 1).astype("float32")
department_targets = keras.utils.to_categorical(tags_data[:, 2] * 2 + tags_data[:, 3], num_departments)

history = model.fit(
    {"title": title_data, "tags": tags_data},
    {"priority": priority_targets, "department": department_targets},
    epochs=6,
    batch_size=32,
    verbose=0,
)
results = model.evaluate(
    {"title": title_data, "tags": tags_data},
    {"priority": priority_targets, "department": department_targets},
    return_dict=True,
    verbose=0,
)
predictions = model.predict({"title": title_data[:5], "tags": tags_data[:5]}, verbose=0)
print(results)
