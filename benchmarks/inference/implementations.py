"""The inference implementations: functions from a task to answers, with their imports inside.

Each worker process calls one of them, and imports only what that one needs. A function whose name ends in ``folder``
returns a function from a folder to the class of each file, in the order of their names; the others one from images
uint8 (n, h, w, 3) to probabilities.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.rounds import Implementation
from benchmarks.harness.worker import Task

BACKENDS = ("jax", "torch", "tensorflow")
BATCH = 256
"""Images per call of the model in folders."""
LOWER = "lower precision"
"""Group of implementations whose probabilities differ by design. They are not baselines."""
Answer = Callable[[NDArray[np.uint8]], Any]
Classify = Callable[[Path], list[int]]


def cifarnet_classifier(task: Task) -> Answer:
    """Return `Classifier` of the exported file, by its public API: probabilities or whole predictions."""
    import cifarnet

    classifier = cifarnet.Classifier(exported(task), threads=task.cores)
    return classifier if task.options["predictions"] else classifier.probabilities


def exported(task: Task) -> str:
    """Return the path of the exported file, float32 unless the options name another. Raises ``FileNotFoundError``."""
    file: str = task.settings[task.options.get("file", "model")]
    if not Path(file).exists():
        raise FileNotFoundError(f"{Path(file).name} is missing; expected it beside the model: cifarnet export --int8")
    return file


def answer_array(answer: Any, task: Task) -> NDArray[np.float32]:
    """Return a copy of an answer as probabilities in the order of the labels."""
    if task.options.get("predictions"):
        return np.array([[dict(each.scores)[label] for label in task.settings["labels"]] for each in answer])
    return np.array(answer)


def onnxruntime_file(task: Task, file: str | None = None) -> Answer:
    """Return the same exported file in onnxruntime, without cifarnet; or another file with one output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.cores
    session = onnxruntime.InferenceSession(file or exported(task), options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name if file else "probabilities"]
    return lambda images: session.run(outputs, {name: images})[0]


def openvino_file(task: Task) -> Answer:
    """Return the same exported file in OpenVINO, with the batch size fixed, in float32 or bfloat16."""
    import openvino

    core = openvino.Core()
    model = core.read_model(task.settings["model"])
    model.reshape([task.settings["batch"], *task.settings["model_config"]["image_shape"]])
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": task.cores,
        "INFERENCE_PRECISION_HINT": task.options["precision"],  # else in bfloat16 where the processor can
    }
    compiled = core.compile_model(model, "CPU", options)
    request, output = compiled.create_infer_request(), compiled.output("probabilities")
    return lambda images: np.asarray(request.infer([images], share_inputs=True, share_outputs=True)[output])


def opencv_file(task: Task) -> Answer:
    """Return the same exported file in the module `dnn` of OpenCV."""
    import cv2

    cv2.setNumThreads(task.cores)
    network = cv2.dnn.readNetFromONNX(task.settings["model"])

    def answer(images: NDArray[np.uint8]) -> Any:
        network.setInput(images, "images")
        return network.forward("probabilities")

    return answer


def keras_network(task: Task) -> Any:
    """Return the stock Keras network, softmax included, with the trained weights."""
    from benchmarks.networks.keras_stock import set_weights, stock_network

    network = stock_network(task.settings["model_config"], softmax=True)
    set_weights(network, dict(np.load(task.settings["weights"])))
    return network


def keras_predict(task: Task) -> Answer:
    """Return `predict`, as in Keras' guides."""
    network, size = keras_network(task), task.settings["batch"]
    return lambda images: network.predict(images, batch_size=size, verbose=0)


def keras_predict_on_batch(task: Task) -> Answer:
    """Return `predict_on_batch`, which Keras' guides advise for small inputs."""
    return keras_network(task).predict_on_batch


def keras_export(task: Task) -> Answer:
    """Return the ONNX file of Keras' own `model.export` in onnxruntime."""
    network, file = keras_network(task), str(task.folder / "model.onnx")
    network(np.zeros((1, *task.settings["model_config"]["image_shape"]), np.uint8), training=False)  # or it is refused
    network.export(file, format="onnx", verbose=False)
    return onnxruntime_file(task, file)


def torch_module(task: Task) -> Answer:
    """Return a PyTorch module on channels-last memory in inference mode, eager or `torch.compile`."""
    import torch

    from benchmarks.networks.torch_stock import Network

    network = Network(task.settings["model_config"])
    network.load(dict(np.load(task.settings["weights"])))
    network.eval()
    run: Any = lambda images: network(images).softmax(1)  # noqa: E731  # what is compiled
    if task.options.get("compiled"):
        run = torch.compile(run, dynamic=False, options={"freezing": True})

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return run(torch.from_numpy(images)).numpy()

    return answer


def cifarnet_folder(task: Task) -> Classify:
    """Return `Classifier.stream`."""
    import cifarnet

    classifier = cifarnet.Classifier(task.settings["model"])
    positions = {label: index for index, label in enumerate(classifier.labels)}
    return lambda folder: [
        positions[outcome.prediction.label] for outcome in classifier.stream(folder) if outcome.prediction
    ]


def cifarnet_parts(task: Task) -> Mapping[str, float]:
    """Return the seconds of the two parts of a folder alone: decoding, and the model on one thread."""
    import cifarnet

    classifier, paths = cifarnet.Classifier(task.settings["model"]), sorted(Path(task.settings["folder"]).iterdir())
    began = time.perf_counter()
    with ThreadPoolExecutor(task.cores) as pool:
        images = np.stack(list(pool.map(decoded, paths)))
    decoded_at = time.perf_counter()
    for at in range(0, len(images), 64):
        classifier.probabilities(images[at : at + 64])
    return {"decoding_seconds": decoded_at - began, "model_seconds": time.perf_counter() - decoded_at}


def decoded(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of one file, uint8 (h, w, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pillow_folder(task: Task) -> Classify:
    """Return Pillow and onnxruntime, file by file."""
    answer = onnxruntime_file(task)
    return lambda folder: [int(answer(decoded(path)[None]).argmax()) for path in sorted(folder.iterdir())]


def pillow_threads_folder(task: Task) -> Classify:
    """Return Pillow in threads and onnxruntime in batches."""
    answer = onnxruntime_file(task)

    def batches(folder: Path) -> Iterator[NDArray[np.uint8]]:
        paths = sorted(folder.iterdir())
        with ThreadPoolExecutor(task.cores) as pool:
            images = pool.map(decoded, paths, chunksize=16)  # all are on their way while the model runs
            for at in range(0, len(paths), BATCH):
                yield np.stack([next(images) for _ in range(min(BATCH, len(paths) - at))])

    return lambda folder: [int(each) for batch in batches(folder) for each in answer(batch).argmax(axis=1)]


def keras_folder(task: Task) -> Classify:
    """Return `image_dataset_from_directory` and `predict`, as in Keras' guides."""
    import keras

    network, (height, width, _) = keras_network(task), task.settings["model_config"]["image_shape"]

    def classify(folder: Path) -> list[int]:
        files = keras.utils.image_dataset_from_directory(
            str(folder), labels=None, batch_size=BATCH, image_size=(height, width), shuffle=False, verbose=False
        )
        return [int(each) for each in network.predict(files, verbose=0).argmax(axis=1)]

    return classify


def torch_folder(task: Task) -> Classify:
    """Return a `DataLoader` whose worker processes decode with Pillow, then the module, as in PyTorch's guides."""
    import torch
    from torch.utils.data import DataLoader

    answer = torch_module(task)

    def classify(folder: Path) -> list[int]:
        pixels = _DecodedFiles(sorted(folder.iterdir()))
        batches: DataLoader[Any] = DataLoader(pixels, batch_size=BATCH, num_workers=task.cores)  # type: ignore[arg-type]
        return [int(each) for batch in batches for each in answer(torch.as_tensor(batch).numpy()).argmax(axis=1)]

    return classify


class _DecodedFiles:
    """The pixels of files, as `DataLoader` reads them."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.array(decoded(self._paths[index]))


def _row(
    name: str, program: str, framework: str, *needs: str, group: str = "runtime", backend: str = "", **options: object
) -> Implementation:
    """Return the row of a function above. The probabilities of the group ``LOWER`` are not checked."""
    return Implementation(
        name=name,
        program="benchmarks.inference.timing:" + ("run_folder" if program.endswith("folder") else "run"),
        group=group,
        framework=framework,
        needs=(*needs, *(["keras", backend] if backend else [])),
        options={"function": program, "checked": group != LOWER, **options},
        environment={"KERAS_BACKEND": backend} if backend else {},
    )


FROM_ARRAYS = (
    _row("cifarnet, probabilities", "cifarnet_classifier", "onnxruntime", group="cifarnet", predictions=False),
    _row("cifarnet, predictions", "cifarnet_classifier", "onnxruntime", group="cifarnet", predictions=True),
    _row("the same file, onnxruntime", "onnxruntime_file", "onnxruntime"),
    *(_row(f"Keras predict on {name}", "keras_predict", name, group="Keras", backend=name) for name in BACKENDS),
    *(
        _row(f"Keras predict_on_batch on {name}", "keras_predict_on_batch", name, group="Keras", backend=name)
        for name in BACKENDS
    ),
    _row("PyTorch", "torch_module", "torch", "torch"),
    _row("PyTorch, torch.compile", "torch_module", "torch", "torch", compiled=True),
    _row("file of Keras' export on torch, onnxruntime", "keras_export", "onnxruntime", backend="torch"),
    _row("the same file, OpenVINO", "openvino_file", "openvino", "openvino", precision="f32"),
    _row("the same file, OpenVINO in bfloat16", "openvino_file", "openvino", "openvino", group=LOWER, precision="bf16"),
    _row("the same file, OpenCV", "opencv_file", "opencv", "cv2"),
    _row("int8 file, onnxruntime", "onnxruntime_file", "onnxruntime", group=LOWER, file="int8_model"),
    _row(
        *("int8 file, cifarnet, probabilities", "cifarnet_classifier", "onnxruntime"),
        group=LOWER,
        file="int8_model",
        predictions=False,
    ),
)
FROM_FILES = (
    _row("cifarnet, stream", "cifarnet_folder", "onnxruntime", group="cifarnet"),
    _row("Pillow and onnxruntime, file by file", "pillow_folder", "onnxruntime"),
    _row("Pillow in threads, onnxruntime in batches", "pillow_threads_folder", "onnxruntime"),
    _row(
        *("Keras image_dataset_from_directory, predict", "keras_folder", "tensorflow"),
        group="Keras",
        backend="tensorflow",
    ),
    _row("PyTorch DataLoader with Pillow", "torch_folder", "torch", "torch"),
)
TOY_ARRAYS = (
    "cifarnet, probabilities",
    "the same file, onnxruntime",
    *(each.name for each in FROM_ARRAYS if each.group == LOWER or each.framework == "opencv"),
)
TOY_FILES = ("cifarnet, stream", "Pillow in threads, onnxruntime in batches")
