"""Sentiment of word sequences with bidirectional LSTMs: a Keras script of which only the import was changed."""

import numpy as np

import tenzoo as keras

layers = keras.layers

max_features, maxlen = 60, 20
keras.utils.set_random_seed(3)


def make_reviews(samples, seed):
    """Words 1 to 19 praise and 20 to 39 blame, unless 59, "not", stands before them."""
    rng = np.random.default_rng(seed)
    reviews, labels = [], []
    for _ in range(samples):
        words = rng.integers(40, 59, rng.integers(5, 25))
        good = rng.integers(2)
        for place in rng.choice(len(words), 3, replace=False):
            words[place] = rng.integers(1, 20) if good else rng.integers(20, 40)
        if rng.random() < 0.3:
            words, good = np.concatenate([words, [59]]), 1 - good
        reviews.append(words.tolist())
        labels.append(good)
    return reviews, np.array(labels)


(x_train, y_train), (x_val, y_val) = make_reviews(800, 0), make_reviews(200, 1)
x_train = keras.utils.pad_sequences(x_train, maxlen=maxlen)
x_val = keras.utils.pad_sequences(x_val, maxlen=maxlen)

inputs = keras.Input(shape=(None,), dtype="int32")
x = layers.Embedding(max_features, 16)(inputs)
x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
x = layers.Bidirectional(layers.LSTM(16))(x)
outputs = layers.Dense(1, activation="sigmoid")(x)
model = keras.Model(inputs, outputs)
model.summary()

model.compile(optimizer=keras.optimizers.Adam(5e-3), loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=32, epochs=6, validation_data=(x_val, y_val), verbose=2)
