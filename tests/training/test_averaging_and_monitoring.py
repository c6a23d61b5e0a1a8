"""Callbacks that average weights and that watch a training."""

import http.server
import json
import threading
import time
import urllib.parse

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.training import callbacks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "float32")


def make(optimizer=None):
    tz.random.seed(0)
    model = tz.Sequential([tz.layers.Dense(4, activation="relu"), tz.layers.Dense(1)])
    model.compile(optimizer or tz.optimizers.SGD(0.05), "mse")
    return model


def fit(model, *added, epochs=3, **options):
    return model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(added), **options)


class Recorder(callbacks.Callback):
    """Keeps the weights after each batch and epoch, and while testing."""

    def __init__(self):
        self.batches, self.epochs, self.tests = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.model.get_weights())

    def on_test_batch_begin(self, batch, logs=None):
        self.tests.append(self.model.get_weights())


def same(a, b, **options):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, **({"rtol": 1e-5, "atol": 1e-6} | options))


def averages(batches, momentum):
    average = batches[0]
    for weights in batches[1:]:
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, weights)]
    return average


@pytest.mark.parametrize("share", [0.5, lambda steps: steps / 24])
def test_lookahead(share):
    class Weights(callbacks.Callback):
        """What the batches make of the weights: before the slow weights take over, and after."""

        def __init__(self):
            self.begin, self.end = [], []

        def on_train_batch_begin(self, batch, logs=None):
            self.begin.append(self.model.get_weights())

        def on_train_batch_end(self, batch, logs=None):
            self.end.append(self.model.get_weights())

    seen = Weights()
    model = make()
    fit(model, seen, callbacks.Lookahead(share, sync_period=3, start=2))  # 12 batches
    slow = seen.end[1]
    for number, fast in enumerate(seen.end, 1):
        if number == 12:
            break
        after = seen.begin[number]
        if number > 2 and (number - 2) % 3 == 0:
            part = share(number) if callable(share) else share
            slow = [s + part * (f - s) for s, f in zip(slow, fast)]
            same(after, slow)
        else:
            same(after, fast)
    same(model.get_weights(), slow)


def test_lookahead_refuses_nonsense():
    with pytest.raises(ValueError, match="slow_step_size in"):
        callbacks.Lookahead(1.5)


def test_fit_ends_with_the_averages_of_the_optimizer():
    recorder = Recorder()
    model = make(tz.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
    fit(model, recorder)
    same(model.get_weights(), averages(recorder.batches, 0.8))


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swap_ema_weights(swap_on_epoch):
    recorder = Recorder()
    model = make(tz.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
    swap = callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    fit(model, swap, recorder, validation_data=(X, Y))
    after_first = averages(recorder.batches[:4], 0.8)
    same(recorder.tests[0], after_first)
    same(recorder.epochs[0], after_first if swap_on_epoch else recorder.batches[3])
    same(model.get_weights(), averages(recorder.batches, 0.8))
    plain = Recorder()  # training itself goes on from the weights, not from the averages
    fit(make(tz.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8)), plain)
    same(recorder.batches[-1], plain.batches[-1])
    with pytest.raises(ValueError, match="use_ema=True"):
        fit(make(), callbacks.SwapEMAWeights(True))


def test_stochastic_weight_averaging():
    recorder, model = Recorder(), make()
    fit(model, callbacks.StochasticWeightAveraging(start_epoch=1, frequency=2), recorder, epochs=6)
    same(model.get_weights(), [np.mean(w, axis=0) for w in zip(*(recorder.epochs[i] for i in (1, 3, 5)))])


def test_model_ema():
    recorder, model = Recorder(), make()
    model.build((None, 3))
    average = model.get_weights()
    fit(model, callbacks.ModelEMA(momentum=0.3), recorder, epochs=2, validation_data=(X, Y))
    for step, weights in enumerate(recorder.batches):
        share = min(0.3, (1 + step) / (10 + step))
        average = [share * a + (1 - share) * w for a, w in zip(average, weights)]
        if step == 3:
            same(recorder.tests[0], average)
    same(model.get_weights(), average)


def test_time_limit():
    slow = callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs=None: time.sleep(0.02))
    limit = callbacks.TimeLimit(0.05)
    history = fit(make(), slow, limit, epochs=50)
    assert len(history.epoch) == 1 and 0.05 < limit.elapsed < 5
    with pytest.raises(ValueError, match="positive"):
        callbacks.TimeLimit(0)


def test_gradient_statistics():
    model, watch = make(), callbacks.GradientStatistics(X, Y)
    history = fit(model, watch, epochs=2)
    norms = history.history["gradient_norm"]
    entries = watch.statistics[model.trainable_variables[0].path]
    assert len(norms) == len(entries) == 2
    total = sum(epochs[0]["norm"] ** 2 for epochs in watch.statistics.values()) ** 0.5
    assert norms[0] == pytest.approx(total)
    plain = fit(make(), epochs=2)
    assert plain.history["loss"] == history.history["loss"]  # looking changes nothing


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    board = callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq="batch", write_steps_per_second=True)
    model = make()
    fit(model, board, validation_data=(X, Y), epochs=2)
    model.evaluate(X, Y, verbose=0, callbacks=[board])
    train = b"".join(path.read_bytes() for path in (tmp_path / "train").iterdir())
    validation = b"".join(path.read_bytes() for path in (tmp_path / "validation").iterdir())
    for name in (b"epoch_loss", b"epoch_learning_rate", b"batch_loss", b"kernel", b"epoch_steps_per_second"):
        assert name in train
    assert b"epoch_loss" in validation and b"evaluation_loss" in validation


def test_tensorboard_images_embeddings_and_profile(tmp_path):
    pytest.importorskip("tensorboardX")
    pytest.importorskip("PIL")
    labels = tmp_path / "labels.tsv"
    labels.write_text("a\nb\nc\nd\n")
    options = {"histogram_freq": 1, "write_images": True, "embeddings_freq": 1, "profile_batch": (1, 2)}
    board = callbacks.TensorBoard(tmp_path / "logs", embeddings_metadata={"table": labels}, **options)
    model = tz.Sequential([tz.layers.Embedding(4, 2, name="table"), tz.layers.Flatten(), tz.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.arange(12).reshape(4, 3) % 4, np.ones(4), verbose=0, callbacks=[board])
    train = tmp_path / "logs" / "train"
    events = b"".join(path.read_bytes() for path in train.iterdir() if path.is_file())
    assert b"kernel/image" in events and b"PNG" in events
    (table,) = train.rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(table), model.layers[0].embeddings, rtol=1e-5)
    assert table.with_name("metadata.tsv").read_text().split() == ["a", "b", "c", "d"]
    assert (tmp_path / "logs" / "profile" / "trace.json").exists()


def test_averages_survive_an_interruption(tmp_path):
    def run(stop_after, folder):
        model = make(tz.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
        added = [
            callbacks.SwapEMAWeights(swap_on_epoch=True),
            callbacks.StochasticWeightAveraging(1),
            callbacks.BackupAndRestore(folder),
        ]
        if stop_after is not None:

            def stop(epoch, logs=None):
                if epoch == stop_after:
                    raise KeyboardInterrupt

            added.append(callbacks.LambdaCallback(on_epoch_begin=stop))
        fit(model, *added, epochs=4)
        return model.get_weights()

    whole = run(None, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(2, tmp_path / "b")
    for a, b in zip(whole, run(None, tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_profiler(tmp_path, capsys):
    one = make()
    fit(one)
    two = make()
    profiler = callbacks.Profiler(batch=2, path=tmp_path / "p", runs=2)
    fit(two, profiler)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert profiler.profile.rows and "kernels" in (tmp_path / "p" / "profile.txt").read_text()
    assert json.loads((tmp_path / "p" / "trace.json").read_text())["traceEvents"]
    assert not capsys.readouterr().out
    fit(two, callbacks.Profiler(batch=1, runs=2), epochs=1)
    assert "in all" in capsys.readouterr().out
    with pytest.raises(ValueError, match="positive"):
        callbacks.Profiler(0)


def test_remote_monitor():
    received = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((self.path, self.headers["Content-Type"], self.headers["X-Key"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monitors = [
        callbacks.RemoteMonitor(address, "/form/", "log"),
        callbacks.RemoteMonitor(address, "/json/", headers={"X-Key": "k"}, send_as_json=True),
    ]
    history = fit(make(), *monitors, epochs=2).history
    server.shutdown()
    server.server_close()
    assert [path for path, *_ in received] == ["/form/", "/json/"] * 2
    assert received[0][1] == "application/x-www-form-urlencoded" and received[1][1:3] == ("application/json", "k")
    (form,) = urllib.parse.parse_qs(received[2][3])["log"]
    assert json.loads(form) == json.loads(received[3][3]) == {"epoch": 1, "loss": history["loss"][1]}
    with pytest.warns(UserWarning, match="could not reach"):
        fit(make(), monitors[0], epochs=1)
    with pytest.raises(ValueError, match="http://"):
        callbacks.RemoteMonitor("ftp://x")
