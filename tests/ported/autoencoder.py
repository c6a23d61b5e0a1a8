"""A convolutional autoencoder that takes noise out of pictures: only the import was changed."""

import numpy as np

import tenzoo as keras

layers = keras.layers
keras.utils.set_random_seed(6)


def make_pictures(samples, seed):
    """Bright rectangles."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((samples, 16, 16, 1), "float32")
    for picture in pictures:
        (top, left), (height, width) = rng.integers(0, 9, 2), rng.integers(3, 8, 2)
        picture[top : top + height, left : left + width] = 1.0
    return pictures


def noise(array):
    rng = np.random.default_rng(7)
    return np.clip(array + rng.normal(0.0, 0.4, array.shape), 0.0, 1.0).astype("float32")


train_data, test_data = make_pictures(400, 0), make_pictures(100, 1)
noisy_train_data, noisy_test_data = noise(train_data), noise(test_data)

inputs = layers.Input(shape=(16, 16, 1))
x = layers.Conv2D(16, (3, 3), activation="relu", padding="same")(inputs)
x = layers.MaxPooling2D((2, 2), padding="same")(x)
x = layers.Conv2D(16, (3, 3), activation="relu", padding="same")(x)
x = layers.MaxPooling2D((2, 2), padding="same")(x)
x = layers.Conv2DTranspose(16, (3, 3), strides=2, activation="relu", padding="same")(x)
x = layers.Conv2DTranspose(16, (3, 3), strides=2, activation="relu", padding="same")(x)
x = layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x)
autoencoder = keras.Model(inputs, x)
autoencoder.compile(optimizer=keras.optimizers.Adam(5e-3), loss="binary_crossentropy")
autoencoder.summary()

history = autoencoder.fit(
    x=noisy_train_data,
    y=train_data,
    epochs=14,
    batch_size=32,
    shuffle=True,
    validation_data=(noisy_test_data, test_data),
    verbose=0,
)
predictions = autoencoder.predict(noisy_test_data, verbose=0)
error_before = np.mean((noisy_test_data - test_data) ** 2)
error_after = np.mean((predictions - test_data) ** 2)
print("Squared error:", error_before, "->", error_after)
