"""docs/weights.md: its files and hashes are those in the libraries' sources, its networks fit."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import tinynet.models
from tests.oracles import keras_or_skip, timm_or_skip, torchvision_or_skip
from tinynet.interop import imagenet_preprocess
from tinynet.interop.convert import settings_mismatch
from tinynet.interop.names import NAMES, names_of
from tinynet.interop.preprocess import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
SECTIONS = {"torchvision": "torch", "timm": "torch", "Keras": "keras"}


def rows(source):
    """(network as a call, its settings with the defaults, the other cells) of a section's table."""
    section = PAGE.split(f"## From {source}\n")[1].split("\n## ")[0]
    for line in re.findall(r"^\| `(.*)\|$", section, re.M):
        code, *cells = (cell.strip() for cell in ("`" + line).split("|"))
        call = ast.parse(code.strip("`"), mode="eval").body
        builder = getattr(tinynet.models, call.func.id)
        settings = {k: p.default for k, p in inspect.signature(builder).parameters.items()}
        for keyword in call.keywords:
            assert keyword.arg in settings, code
            if keyword.arg != "rng":
                settings[keyword.arg] = ast.literal_eval(keyword.value)
        yield call.func.id, ast.literal_eval(call.args[1]), settings, cells


ROWS = [(source, *row) for source in SECTIONS for row in rows(source)]


def test_every_architecture_is_there_from_every_library_that_has_it():
    listed = [(name, SECTIONS[source]) for source, name, *_ in ROWS]
    known = [(name, names.library) for name in NAMES for names in NAMES[name]]
    assert sorted(listed) == sorted(known)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_the_networks_settings_are_those_that_the_weights_need(row):
    source, name, shape, settings, cells = row
    names = names_of(name, SECTIONS[source])
    assert names.source.lower().startswith(source.lower())
    assert settings_mismatch(settings, names) is None
    assert cells[-1].strip('`"') in KINDS
    assert shape == ((299, 299, 3) if name.startswith("inception") else (224, 224, 3))


@pytest.mark.slow
def test_torchvisions_files_are_those_in_its_sources():
    models = torchvision_or_skip().models
    for source, name, _, _, cells in ROWS:
        if source == "torchvision":
            builder = {"shufflenet_v2": "shufflenet_v2_x1_0"}.get(name, name)
            weights = [w for w in models.get_model_weights(builder) if "IMAGENET1K_V" in w.name]
            files = {w.url.rpartition("/")[2] for w in weights}
            listed = set(re.findall(r"`([^`]+\.pth)`", cells[0]))
            assert listed == files
            for w in weights:
                assert w.url.startswith("https://download.pytorch.org/models/")
                kind = w.transforms()
                assert (kind.mean, kind.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
                side = 256 if w.name.endswith("V1") else 232
                assert (kind.crop_size, kind.resize_size) == ([224], [side])
    source = inspect.getsource(models.googlenet)
    assert '_ovewrite_named_param(kwargs, "transform_input", True)' in source


@pytest.mark.slow
def test_timms_models_are_those_in_its_sources():
    timm = timm_or_skip()
    inception = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for source, _, shape, _, cells in ROWS:
        if source == "timm":
            model, crop = re.fullmatch(r"`(.*)`, crop ([\d.]+)", cells[0]).groups()
            about = timm.get_pretrained_cfg(model)
            assert about.hf_hub_id == f"timm/{model}" or about.hf_hub_id == "timm/"
            assert about.crop_pct == float(crop)
            assert about.input_size == (3, *shape[:2])
            kind = "tf" if (about.mean, about.std) == inception else "torch"
            assert cells[-1].strip('`"') == kind
    assert "seresnet50_a1_0-ffa00869.pth" in timm.get_pretrained_cfg("seresnet50.a1_in1k").url
    assert timm.get_pretrained_cfg("seresnet50.a1_in1k").url.rpartition("/")[0] in PAGE


@pytest.mark.slow
def test_kerass_files_are_those_in_its_sources():
    applications = keras_or_skip().applications
    modules = {"vgg16": "vgg16", "vgg19": "vgg19", "mobilenet": "mobilenet"}
    modules |= {"inception_resnet_v2": "inception_resnet_v2"}
    for source, name, _, _, cells in ROWS:
        if source != "Keras":
            continue
        module = modules.get(name, name.rstrip("0123456789"))
        public = getattr(applications, module)
        text = inspect.getsource(inspect.getmodule(inspect.unwrap(public.preprocess_input)))
        joined = re.sub(r'"\s*f?"', "", text)
        folder, file = cells[0].strip("`").split("/")
        assert f"tensorflow/keras-applications/{folder}/" in joined
        if name == "mobilenet":
            assert "mobilenet_%s_%d_tf.h5" in joined
            assert file == "mobilenet_1_0_224_tf.h5"
            assert "file_hash" not in joined
        else:
            assert cells[1].strip("`") in text
            assert file in joined or "_weights_tf_dim_ordering_tf_kernels.h5" in joined
        assert f'mode="{cells[-1].strip(chr(96) + chr(34))}"' in text


def test_the_pages_programs_are_python():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    names = set()
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "tinynet.interop":
                names |= {alias.name for alias in node.names}
    assert names == {
        "export_onnx",
        *("imagenet_preprocess", "load_torch", "load_weights", "save_weights"),
    }
    assert all(hasattr(tinynet.interop, name) for name in names)
    assert inspect.signature(imagenet_preprocess).parameters["kind"].default == "torch"
