"""What a Hugging Face folder says about an image classifier: how images are fed, its labels.

The image processor is the one that transformers makes of `preprocessor_config.json` where Pillow
does the work. What it would do to an image is told as an `ImageForm`, which a worker follows
without transformers. An option that can't be told so is refused by name: nothing is left out in
silence.
"""

from pathlib import Path
from typing import Any

import msgspec

from forebay.build.heads import function_of
from forebay.build.tracing import quiet
from forebay.contract.errors import BuildFailed
from forebay.contract.image import Channels, Fit, ImageForm, Resample
from forebay.contract.manifest import Head

CONFIG = "preprocessor_config.json"

AUTO_CLASS = "AutoModelForImageClassification"

_CONVNEXT = "ConvNextImageProcessor"
_LEVIT = "LevitImageProcessor"
_KINDS = frozenset(
    {"BeitImageProcessor", "BitImageProcessor", "CLIPImageProcessor", _CONVNEXT,
     "DeiTImageProcessor", _LEVIT, "MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor",
     "MobileViTImageProcessor", "SiglipImageProcessor", "ViTImageProcessor"}
)  # fmt: skip
"""Image processors whose steps are known, and compared with ours in tests."""

_FOLLOWED = frozenset(
    {"crop_pct", "crop_size", "do_center_crop", "do_convert_rgb", "do_flip_channel_order",
     "do_normalize", "do_rescale", "do_resize", "image_mean", "image_std", "resample",
     "rescale_factor", "size"}
)  # fmt: skip
_MEANINGLESS = frozenset(
    {"data_format", "default_to_square", "device", "disable_grouping",
     "feature_extractor_type", "image_processor_type", "input_data_format", "pad_size",
     "processor_class", "return_tensors", "use_fast"}
)  # fmt: skip
"""Options that change nothing here: images come as RGB, one by one, and are laid out one way."""

_FILTERS = (
    Resample.NEAREST,
    Resample.LANCZOS,
    Resample.BILINEAR,
    Resample.BICUBIC,
    Resample.BOX,
    Resample.HAMMING,
)
"""By Pillow's numbers."""

_WARPS_FROM = 384
"""ConvNeXT's processor cuts nothing out of images of this size and more."""


class ImageSource(msgspec.Struct, frozen=True):
    """An image classifier's folder, read.

    Attributes:
        form: what becomes of an image.
        head: the labels, and what makes scores of logits.
        processor: transformers' image processor.
    """

    form: ImageForm
    head: Head
    processor: Any


def read(folder: Path) -> ImageSource:
    """Read config.json and preprocessor_config.json, as transformers' pipeline would.

    Raises:
        BuildFailed: a file is missing or broken, the model is no image classifier, or an image
            would have to be treated in a way that isn't known here.
    """
    import transformers

    known: Any = transformers
    settings = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = known.AutoConfig.from_pretrained(str(folder), **settings)
            processor = known.AutoImageProcessor.from_pretrained(
                str(folder), backend="pil", **settings
            )
    except (OSError, ValueError, ImportError, KeyError, TypeError, RuntimeError) as error:
        raise BuildFailed(f"The model in {folder} can't be loaded: {error}") from error
    wanted = "ForImageClassification"
    made: tuple[str, ...] = tuple(config.architectures or [])
    if made and not any(wanted in name for name in made):
        raise BuildFailed(
            f"{folder / 'config.json'} is of a {made[0]}, and the task 'image-classification' "
            f"takes a model made {wanted}."
        )
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    head = Head(labels, function=function_of(config.problem_type, len(labels)))
    return ImageSource(form_of(processor, path=folder / CONFIG), head, processor)


def form_of(processor: Any, *, path: Path) -> ImageForm:
    """What an image processor of transformers does to an image.

    Args:
        processor: where Pillow does the work.
        path: the file it was made of, for errors.

    Raises:
        BuildFailed: it is of a kind, or has an option, that isn't known here.
    """
    options: dict[str, Any] = processor.to_dict()
    kind = str(options["image_processor_type"]).removesuffix("Fast")
    if kind not in _KINDS:
        raise BuildFailed(
            f"{path} has the image processor {kind!r}, which isn't supported; these are: "
            f"{', '.join(sorted(_KINDS))}."
        )
    for name in sorted(options.keys() - _FOLLOWED - _MEANINGLESS):
        if options[name] and not name.startswith("_"):
            raise _unsupported(path, name, options[name])
    if not options.get("do_resize"):
        raise _unsupported(path, "do_resize", options.get("do_resize"))
    flipped, normalised = options.get("do_flip_channel_order"), options.get("do_normalize")
    if flipped and normalised:
        raise _unsupported(path, "do_flip_channel_order with do_normalize", True)
    fields = _sizes(kind, options, path)
    resample = int(options["resample"]) if options.get("resample") is not None else 2
    if not 0 <= resample < len(_FILTERS):
        raise _unsupported(path, "resample", resample)
    form = ImageForm(
        **fields,
        resample=_FILTERS[resample],
        rescale=float(options["rescale_factor"]) if options.get("do_rescale") else 1.0,
        mean=_per_channel(options["image_mean"]) if normalised else (),
        std=_per_channel(options["image_std"]) if normalised else (),
        channels=Channels.BGR if flipped else Channels.RGB,
        on_white=bool(options.get("do_convert_rgb")),
    )
    wrong = form.wrong()
    if wrong:
        raise BuildFailed(f"{path} makes of images what can't be: {wrong[0]} must be {wrong[1]}.")
    return form


def _sizes(kind: str, options: dict[str, Any], path: Path) -> dict[str, Any]:
    """The form's fields on sizes."""
    size: dict[str, int] = {k: v for k, v in dict(options["size"]).items() if v is not None}
    crop: dict[str, int] | None = None
    if options.get("do_center_crop"):
        crop = {k: v for k, v in dict(options["crop_size"]).items() if v is not None}
        if set(crop) != {"height", "width"}:
            raise _unsupported(path, "crop_size", crop)
    if set(size) == {"height", "width"} and kind != _CONVNEXT:
        final = crop or size
        whole = (size["height"], size["width"])
        fields: dict[str, Any] = {"fit": Fit.STRETCH, "resize": whole if crop else ()}
    elif set(size) == {"shortest_edge"}:
        edge = size["shortest_edge"]
        if kind == _CONVNEXT:
            # It cuts out a square by itself; a second cut would be one of another size.
            if crop:
                raise _unsupported(path, "do_center_crop", True)
            final = {"height": edge, "width": edge}
            if edge >= _WARPS_FROM:
                return {"fit": Fit.STRETCH, **final}
            edge = int(edge / options["crop_pct"])
        elif crop is None:
            raise BuildFailed(
                f"{path} has `size` {size} and no `do_center_crop`, so that images would differ in "
                "size: give `size` a height and a width, or turn `do_center_crop` on."
            )
        else:
            final = crop
            edge = int((256 / 224) * edge) if kind == _LEVIT else edge
        fields = {"fit": Fit.SHORTEST, "resize": (edge,)}
    else:
        raise _unsupported(path, "size", size)
    return {**fields, "height": final["height"], "width": final["width"]}


def _per_channel(values: Any) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(map(float, values))


def _unsupported(path: Path, option: str, value: Any) -> BuildFailed:
    return BuildFailed(
        f"{path} has `{option}` {value!r}, which isn't supported: images would be treated in "
        "another way than the model was trained with."
    )
