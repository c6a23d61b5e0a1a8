"""A forecast of a series with an LSTM, as in weather forecasting: only the import was changed."""

import numpy as np

import tenzoo as keras

past, future, split = 24, 3, 900
keras.utils.set_random_seed(10)

hours = np.arange(1200)
rng = np.random.default_rng(0)
temperature = 10 + 6 * np.sin(2 * np.pi * hours / 24) + 3 * np.sin(2 * np.pi * hours / 300)
pressure = 1000 - 4 * np.cos(2 * np.pi * hours / 24)
features = np.stack([temperature, pressure], axis=1) + rng.normal(0, 0.3, (1200, 2))


def normalize(data, train_split):
    data_mean = data[:train_split].mean(axis=0)
    data_std = data[:train_split].std(axis=0)
    return (data - data_mean) / data_std


features = normalize(features, split).astype("float32")
windows = np.lib.stride_tricks.sliding_window_view(features, past, axis=0).transpose(0, 2, 1)
windows, targets = windows[:-future], features[past + future - 1 :, 0]
x_train, y_train = windows[: split - past], targets[: split - past]
x_val, y_val = windows[split:], targets[split:]

inputs = keras.layers.Input(shape=(x_train.shape[1], x_train.shape[2]))
lstm_out = keras.layers.LSTM(16)(inputs)
outputs = keras.layers.Dense(1)(lstm_out)

model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
model.summary()

es_callback = keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=0, patience=5)
reduce_lr = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=2)
history = model.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=10,
    validation_data=(x_val, y_val),
    callbacks=[es_callback, reduce_lr],
    verbose=0,
)
predictions = model.predict(x_val, verbose=0)[:, 0]
error = np.mean((predictions - y_val) ** 2)
naive_error = np.mean((x_val[:, -1, 0] - y_val) ** 2)
print("Squared error:", error, "that of repeating the last value:", naive_error)
