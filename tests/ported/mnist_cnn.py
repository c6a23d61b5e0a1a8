"""A convolutional network on MNIST-like images: a Keras script of which only the import was changed."""

import numpy as np

import tenzoo as keras

layers = keras.layers

num_classes = 10
input_shape = (28, 28, 1)


def make_digits(samples, seed):
    """Bars at one of ten places, in noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, num_classes, samples)
    x = rng.integers(0, 60, (samples, 28, 28)).astype("uint8")
    for image, label in zip(x, y):
        image[4:24, 2 * label + 3 : 2 * label + 6] += 150
    return x, y


keras.utils.set_random_seed(1)
(x_train, y_train), (x_test, y_test) = make_digits(600, 0), make_digits(200, 1)
x_train = np.expand_dims(x_train.astype("float32") / 255, -1)
x_test = np.expand_dims(x_test.astype("float32") / 255, -1)
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

model = keras.Sequential(
    [
        keras.Input(shape=input_shape),
        layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(16, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
model.summary()

model.compile(
    loss="categorical_crossentropy",
    optimizer=keras.optimizers.Adam(learning_rate=3e-3),
    metrics=["accuracy"],
)
stopping = keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=3, restore_best_weights=True)
history = model.fit(x_train, y_train, batch_size=32, epochs=5, validation_split=0.1, callbacks=[stopping], verbose=2)

score = model.evaluate(x_test, y_test, verbose=0)
print("Test loss:", score[0])
print("Test accuracy:", score[1])
