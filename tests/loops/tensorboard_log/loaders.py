"""What TensorBoard's two loaders make of a folder of logs."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.context import RequestContext
from tensorboard.data import provider, server_ingester
from tensorboard.util.grpc_util import ChannelCredsType

# run -> tag -> [(step, value), ...]
Points: TypeAlias = dict[str, dict[str, list[tuple[int, float]]]]


def by_python(folder: str | Path) -> Points:
    """As with `--load_fast=false`."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"scalars": 0})
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    return _points(MultiplexerDataProvider(multiplexer, str(folder)))


def by_server(folder: str | Path) -> Points:
    """As with `--load_fast=true`: the server that is written in Rust. Each run must have a scalar."""
    runs = {str(file.parent.relative_to(Path(folder))) for file in Path(folder).rglob("*tfevents*")}
    with tempfile.TemporaryDirectory() as own:
        port = Path(own) / "port"
        command = [
            server_ingester.get_server_binary().path,
            *(f"--logdir={folder}", "--reload=once", "--samples-per-plugin=scalars=all"),
            *("--port=0", f"--port-file={port}", "--die-after-stdin"),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            try:
                _wait(lambda: port.exists() and port.read_text().endswith("\n"))
                address = f"localhost:{int(port.read_text())}"
                data = server_ingester.ExistingServerDataIngester(
                    address, channel_creds_type=ChannelCredsType.LOCAL
                ).data_provider
                _wait(lambda: set(_points(data)) == runs)  # it reads one after another
                return _points(data)
            finally:
                process.kill()


LOADERS: list[Callable[[str | Path], Points]] = [by_python, by_server]


def _points(data: provider.DataProvider) -> Points:
    found = data.read_scalars(RequestContext(), experiment_id="", plugin_name="scalars", downsample=10**7)
    return {
        run: {
            tag: [(point.step, np.float32(point.value).item()) for point in points]
            for tag, points in tags.items()
        }
        for run, tags in found.items()
    }


def _wait(until: Callable[[], bool]) -> None:
    ended = time.monotonic() + 60
    while not until():
        assert time.monotonic() < ended
        time.sleep(0.02)
