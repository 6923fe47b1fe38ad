"""The nets of nets.py, trained; kept in the test cache by the digest of what they were made with."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tests.benchmarks.pictures import SIZE, Pictures
from tests.conftest import CACHE

_EPOCHS, _BATCH, _RATE, _SEED = 15, 32, 2e-3, 7


def trained(name: str, net: str, pictures: Pictures) -> Path:
    """The .onnx of a net trained on the set called `name`: free batch, converted once for all targets.

    Training takes about a minute a net on one core.
    """
    here = Path(__file__).parent
    sources = b"".join((here / f).read_bytes() for f in ("nets.py", "pictures.py", "training.py"))
    digest = hashlib.sha256(sources).hexdigest()[:16]
    path = CACHE / "accuracy" / digest / f"{name}-{net.replace(' ', '-')}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _train(net, pictures, path)
    return path


def _train(net: str, pictures: Pictures, path: Path) -> None:
    import keras

    import edgepack
    from tests.benchmarks.nets import NETS

    start = time.perf_counter()
    keras.utils.set_random_seed(_SEED)
    x, y = pictures.train.x, pictures.train.y
    model = NETS[net](SIZE, x.shape[-1], pictures.classes)
    steps = _EPOCHS * -(-len(x) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(_RATE, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=_EPOCHS, batch_size=_BATCH, verbose=0)
    file = path.with_suffix(".keras")
    # Without the optimizer's state.
    keras.Model(model.inputs, model.outputs, name=model.name).save(file)
    edgepack.convert(file, path)
    print(f"{path.stem}: trained in {time.perf_counter() - start:.0f} s", flush=True)
