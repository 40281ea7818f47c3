"""Who takes part. Each module has one function, ``contend(task, turns)``; a row here is a module with its options."""

from benchmarks.harness.contest import Contender

HERE = "benchmarks.inference.contenders"
BACKENDS = ("jax", "torch", "tensorflow")


def _cifarnet(name: str, module: str, **options: object) -> Contender:
    return Contender(name=name, module=f"{HERE}.{module}", group="cifarnet", framework="onnxruntime", options=options)


def _keras(method: str, backend: str) -> Contender:
    return Contender(
        name=f"Keras {method} on {backend}",
        module=f"{HERE}.keras_predict",
        group="Keras",
        framework=backend,
        needs=("keras", backend),
        options={"method": method},
        environment={"KERAS_BACKEND": backend},
    )


def _export(backend: str, *needs: str) -> Contender:
    return Contender(
        name=f"file of Keras' export on {backend}, onnxruntime",
        module=f"{HERE}.keras_export",
        group="runtime",
        framework="onnxruntime",
        needs=("keras", backend, *needs),
        environment={"KERAS_BACKEND": backend},
    )


def _other(name: str, module: str, framework: str, *needs: str, group: str = "runtime", **options: object) -> Contender:
    environment = {"KERAS_BACKEND": "tensorflow"} if "keras" in needs else {}
    return Contender(
        name=name,
        module=f"{HERE}.{module}",
        group=group,
        framework=framework,
        needs=needs,
        options=options,
        environment=environment,
    )


FROM_ARRAYS = (
    _cifarnet("cifarnet, probabilities", "cifarnet_classifier", predictions=False),
    _cifarnet("cifarnet, predictions", "cifarnet_classifier", predictions=True),
    _other("the same file, onnxruntime", "onnxruntime_file", "onnxruntime"),
    *(_keras("predict", backend) for backend in BACKENDS),
    *(_keras("predict_on_batch", backend) for backend in BACKENDS),
    _other("PyTorch", "torch_module", "torch", "torch"),
    _other("PyTorch, torch.compile", "torch_module", "torch", "torch", compiled=True),
    _export("tensorflow", "tf2onnx"),
    _export("torch"),
    _other("the same file, OpenVINO", "openvino_file", "openvino", "openvino"),
    _other("file of Keras' export, LiteRT", "litert_file", "litert", "keras", "tensorflow", "ai_edge_litert"),
)
FROM_FILES = (
    _cifarnet("cifarnet, stream", "cifarnet_folder"),
    _other("Pillow and onnxruntime, file by file", "pillow_folder", "onnxruntime", threads=False),
    _other("Pillow in threads, onnxruntime in batches", "pillow_folder", "onnxruntime", threads=True),
    _other(
        *("Keras image_dataset_from_directory, predict", "keras_folder", "tensorflow", "keras", "tensorflow"),
        group="Keras",
    ),
    _other("PyTorch DataLoader with Pillow", "torch_folder", "torch", "torch"),
)
TOY = ("cifarnet, probabilities", "the same file, onnxruntime")
TOY_FILES = ("cifarnet, stream", "Pillow in threads, onnxruntime in batches")
