"""Sequence to sequence: an LSTM reads digits, another spells them backwards; only the import was changed."""

import numpy as np

import tenzoo as keras

tokens, length, latent_dim, start = 6, 4, 48, 5  # digits 0 to 4, and a start sign
keras.utils.set_random_seed(4)

rng = np.random.default_rng(0)
digits = rng.integers(0, start, (1500, length))
targets = digits[:, ::-1]
encoder_input_data = np.eye(tokens, dtype="float32")[digits]
decoder_target_data = np.eye(tokens, dtype="float32")[targets]
shifted = np.concatenate([np.full((len(digits), 1), start), targets[:, :-1]], axis=1)
decoder_input_data = np.eye(tokens, dtype="float32")[shifted]

encoder_inputs = keras.Input(shape=(None, tokens))
encoder_outputs, state_h, state_c = keras.layers.LSTM(latent_dim, return_state=True)(encoder_inputs)
encoder_states = [state_h, state_c]

decoder_inputs = keras.Input(shape=(None, tokens))
decoder_lstm = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True)
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
decoder_dense = keras.layers.Dense(tokens, activation="softmax")
decoder_outputs = decoder_dense(decoder_outputs)

model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    [encoder_input_data, decoder_input_data],
    decoder_target_data,
    batch_size=64,
    epochs=10,
    validation_split=0.1,
    verbose=0,
)

# For inference the two halves become models of their own.
encoder_model = keras.Model(encoder_inputs, encoder_states)
decoder_state_inputs = [keras.Input(shape=(latent_dim,)), keras.Input(shape=(latent_dim,))]
decoder_outputs, state_h, state_c = decoder_lstm(decoder_inputs, initial_state=decoder_state_inputs)
decoder_model = keras.Model([decoder_inputs, *decoder_state_inputs], [decoder_dense(decoder_outputs), state_h, state_c])


def decode_sequence(input_seq):
    states = encoder_model.predict(input_seq, verbose=0)
    target_seq = np.zeros((len(input_seq), 1, tokens), "float32")
    target_seq[:, 0, start] = 1.0
    decoded = []
    for _ in range(length):
        output_tokens, h, c = decoder_model.predict([target_seq, *states], verbose=0)
        decoded.append(np.argmax(output_tokens[:, -1, :], axis=-1))
        target_seq = np.eye(tokens, dtype="float32")[decoded[-1]][:, None]
        states = [h, c]
    return np.stack(decoded, axis=1)


decoded = decode_sequence(encoder_input_data[:100])
right = np.mean(decoded == targets[:100])
print("Digits spelled right:", right)
