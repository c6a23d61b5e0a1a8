"""profile: kernels with their time, work and layer, as a table and as a trace."""

import json

import numpy as np

from tenzoo import core
from tenzoo.core import ops


def test_rows_table_and_trace(tmp_path, capsys):
    weight = core.Variable(np.ones((64, 32), "float32"))
    path = tmp_path / "trace.json"
    found = core.profile(lambda x: ops.softmax(x @ weight), np.ones((16, 64), "float32"), runs=3, path=path)
    product, softmax = found.rows
    assert product.name.startswith("contract")
    assert product.gigaflops == 2 * 16 * 64 * 32 / 1e9
    assert softmax.gigaflops == 0 and softmax.gigabytes == 2 * 16 * 32 * 4 / 1e9
    assert all(row.milliseconds > 0 for row in found.rows)
    assert capsys.readouterr().out == f"{found}\n"
    events = json.loads(path.read_text())["traceEvents"]
    assert [event["name"] for event in events] == [row.name for row in found.rows]
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]
