"""Model files: written whole or not at all, on the hub's terms, read without running anything, and still read later."""

import errno
import json
import math
import os
import pickle
import re
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, PyTorchModelHubMixin
from run_helpers import SCRIPTS, SIZE, make_run, refused, until
from safetensors.torch import load_file, save_file

import condflows
import evaluate
import sample
import transfer
from condflows import ActNorm, AffineCoupling, Chain, Flow, PairedFlow, conditioners, glow_step, multiscale
from condflows.testing import perturb
from models import MODELS
from models import weights as foreign
from models.full_glow import full_glow
from models.published import load_published
from streets.config.kinds import OF_LABEL_IDS, WITHOUT_LIKELIHOOD
from streets.judging.judges import load_judge
from streets.judging.judges.pspnet import PSPNet
from streets.runs import configuration, directory, pictures, weights
from streets.runs.pretrained import CONFIG, DEFAULTS, Pretrained
from streets.runs.run import Run
from streets.system import files

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Fail where the hub is asked for something."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "full_glow", seed=0)


def images(*shape):
    """Make numbers in [0, 1) that no generator of random numbers has a part in."""
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64) * (5**0.5 - 1) / 2 % 1).view(shape)


def change_config(directory, **values):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# Files that are whole or not there


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    happened = []
    sync, replace = os.fsync, os.replace

    def spy(descriptor):
        happened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "replace", lambda *paths: (happened.append("replace"), replace(*paths)))
    with files.written(tmp_path / "file.txt") as partial:
        partial.write_text("new")
    assert happened == ["file.txt.partial", "replace", tmp_path.name]
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.EIO, "broken", "another")])
def test_what_fails_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with files.written(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file.txt", "old")]


def test_nothing_written_is_an_error_and_not_the_partial_of_another(tmp_path):
    path = tmp_path / "file.txt"
    (tmp_path / "file.txt.partial").write_text("of a process that was killed")
    with pytest.raises(FileNotFoundError, match=r"file\.txt\.partial"), files.written(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_write_does_no_harm(tmp_path):
    """Kill a write: the old weights stay, the run is read as before, and the next write succeeds."""
    run = make_run(tmp_path / "run")
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from streets.system import files
        with files.written(Path(sys.argv[1])) as partial:
            partial.write_bytes(b"half")
            time.sleep(60)
    """)
    for name in ("model.safetensors", "config.json", "best.safetensors"):
        before = (run / name).read_bytes()
        process = subprocess.Popen([sys.executable, "-c", script, run / name], cwd=SCRIPTS)
        partial = run / f"{name}.partial"
        until(lambda partial=partial: partial.exists() and partial.read_bytes() == b"half", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert partial.read_bytes() == b"half"
        assert (run / name).read_bytes() == before
    model = Run(run).model
    weights.save_weights(model, run / "model.safetensors")
    weights.save_weights(model, run / "best.safetensors")
    files.write_json(run / "config.json", configuration.read_config(run))
    assert not list(run.glob("*.partial"))
    for weights_name in weights.WEIGHTS:
        assert all(torch.equal(a, b) for a, b in zip(Run(run, weights_name).model.parameters(),
                                                     model.parameters(), strict=True))


@pytest.mark.parametrize(("name", "write"), [
    ("model.safetensors", lambda path: weights.save_weights(torch.nn.Linear(99, 99), path)),
    ("config.json", lambda path: files.write_json(path, list(range(9999)))),
    ("image.png", lambda path: pictures.save_picture(torch.randint(256, (3, 99, 99)).byte(), path)),
    ("other.safetensors", lambda path: write_with_safetensors(path)),
])  # fmt: skip
def test_a_disk_that_is_full_is_named_and_the_old_file_stays(tmp_path, name, write):
    """Limit the size of a file, which stands for the disk."""
    (tmp_path / name).write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with refused(OSError, tmp_path / name, "File too large"):
            write(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


def write_with_safetensors(path):
    with files.written(path) as partial:
        save_file({"a": torch.ones(9999)}, partial)


def test_weights_are_as_readable_as_other_files(tmp_path):
    (tmp_path / "plain").touch()
    weights.save_weights(torch.nn.Linear(2, 2), tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Model files on the hub's terms


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_exported_and_comes_back(name, tmp_path):
    run = make_run(tmp_path / "run", name, data_statistics={"pairs": {"train": 3}, "mean": [0.5, 0.25, 0.125]})
    exported, again = tmp_path / "exported", tmp_path / "again"
    pretrained = Pretrained.from_run(run)
    assert pretrained.save_pretrained(exported) is None
    assert {path.name for path in exported.iterdir()} == {"config.json", "model.safetensors", "README.md"}

    config, whole = json.loads((exported / "config.json").read_text()), configuration.read_config(run)
    assert tuple(config) == CONFIG
    assert config == {key: whole.get(key) for key in CONFIG} | DEFAULTS
    state, best = load_file(exported / "model.safetensors"), load_file(run / "best.safetensors")
    assert state.keys() == best.keys()
    assert all(torch.equal(state[key], best[key]) for key in best)

    loaded = Pretrained.from_pretrained(str(exported))
    loaded.save_pretrained(again)
    for file in exported.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()
    x_a, x_b = images(2, 1, 3, *SIZE).float()
    if name in OF_LABEL_IDS:
        x_a = torch.randint(34, (1, 1, *SIZE))
        assert "maps of label ids of Cityscapes, integers" in (exported / "README.md").read_text()
    seeds = [torch.Generator().manual_seed(0) for _ in range(3)]
    models = [loaded, Pretrained.from_pretrained(again), Run(run).model]
    one, two, three = (model.sample(2, x_a, 1.0, seed) for model, seed in zip(models, seeds, strict=True))
    assert torch.equal(one, two)
    assert torch.equal(one, three)
    if name not in WITHOUT_LIKELIHOOD:
        assert torch.equal(loaded.log_prob(x_b, x_a), models[2].log_prob(x_b, x_a))
    assert not any(module.training for module in loaded.modules())


def test_tuples_and_paths_are_what_json_makes_of_them(tmp_path):
    config = {"model": "glow", "model_arguments": {"steps": (1, 2), "width": 4}, "image_size": (8, 8),
              "data_statistics": {"data": Path("photos"), "size": (1, 2)}}
    made = Pretrained(config)
    made.save_pretrained(tmp_path)
    loaded = Pretrained.from_pretrained(tmp_path)
    assert loaded.config == made.config | {"versions": configuration.versions()}
    assert loaded.config["model_arguments"]["steps"] == [1, 2]
    assert loaded.config["data_statistics"] == {"data": "photos", "size": [1, 2]}
    x = images(1, 3, 8, 8).float()
    assert torch.equal(loaded.log_prob(x), made.log_prob(x))
    assert torch.equal(loaded(x), made(x))


def test_runs_are_read_as_they_are(run):
    """Take the best weights by default, as the scripts do; an exported model has one file for both."""
    x = images(1, 3, *SIZE).float()
    best, last = (Run(run, kind).model.log_prob(x, x) for kind in ("best", "last"))
    assert best != last
    assert Pretrained.from_pretrained(run).log_prob(x, x) == Pretrained.from_run(run).log_prob(x, x) == best
    assert Pretrained.from_pretrained(run, weights="last").log_prob(x, x) == last
    assert Pretrained.from_run(run, "last").log_prob(x, x) == last
    assert Pretrained.from_pretrained(run, map_location="meta").model.source.transform is not None


def test_the_best_weights_of_a_training_are_never_the_last(tmp_path):
    """Take the last weights of a run that was stopped before its first validation; an exported model has one file."""
    run = make_run(tmp_path / "run")
    (run / "best.safetensors").unlink()
    with refused(ValueError, run / "best.safetensors", "found model.safetensors"):
        Run(run)
    (run / "metrics.csv").unlink()
    assert Run(run).weights == Run(run, "last").weights == run / "model.safetensors"
    (run / "checkpoints").mkdir()
    with refused(ValueError, run / "best.safetensors", "found model.safetensors"):
        Run(run)


def test_a_training_is_not_written_over(run):
    config = (run / "config.json").read_bytes()
    with refused(ValueError, run, "holds a training"):
        Pretrained.from_run(run).save_pretrained(run)
    assert (run / "config.json").read_bytes() == config
    assert not (run / "README.md").exists()


def test_the_scripts_take_an_exported_model(run, tmp_path):
    exported = tmp_path / "exported"
    Pretrained.from_run(run).save_pretrained(exported)
    pictures = {}
    for path, name in ((run, "of the run"), (exported, "of the export")):
        sample.main([str(path), "--scenes", "1", "--samples", "1", "--out", str(tmp_path / name)])
        pictures[name] = (tmp_path / name / "grid.png").read_bytes()
    assert pictures["of the run"] == pictures["of the export"]
    transfer.main([str(exported), "--content", "0", "--structure", "1", "--out", str(tmp_path / "transfer")])
    assert (tmp_path / "transfer" / "grid.png").exists()


def test_the_measurements_take_an_exported_model(tmp_path):
    run = make_run(tmp_path / "run", "c_glow_v2", direction="photo2label")
    Pretrained.from_run(run, "last").save_pretrained(tmp_path / "exported")
    evaluate.main([str(run), str(tmp_path / "exported"), "--weights", "last", "--generated", "8", "--repeats", "1",
                   "--out", str(tmp_path / "out")])
    one, two = (json.loads((tmp_path / "out" / name).read_text()) for name in ("run.json", "exported.json"))
    assert one == two
    evaluate.main([str(tmp_path / "exported"), "--generated", "8", "--repeats", "1", "--out", str(tmp_path / "best")])
    assert json.loads((tmp_path / "best" / "c_glow_v2.json").read_text()) == two


def test_in_a_new_process_and_offline(run, tmp_path):
    """Run in any directory, with everything that the hub's own switch forbids forbidden."""
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from streets.runs.pretrained import Pretrained
Pretrained.from_run(Path(sys.argv[2]), weights="last").save_pretrained("exported")
x = Pretrained.from_pretrained("exported").sample(1, Pretrained.from_pretrained(Path("exported")).model.sample(
    1, __import__("torch").rand(1, 3, 32, 64))[0])
print(tuple(x.shape))
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script, SCRIPTS, run], cwd=tmp_path, capture_output=True, text=True,
                          env=environment, check=True)
    assert done.stdout == "(1, 1, 3, 32, 64)\n"


def cached(cache, source, *names):
    """Make a cache of the hub that holds files of a directory as those of the model ``user/model``."""
    snapshot = cache / "models--user--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    for name in names:
        (snapshot / name).write_bytes((source / name).read_bytes())
    return {"cache_dir": cache, "local_files_only": True}


def test_a_name_on_the_hub(run, tmp_path):
    """Read from the hub's cache what was downloaded once: an exported model, and a run uploaded whole."""
    x = images(1, 3, *SIZE).float()
    best, last = (Run(run, kind).model.log_prob(x, x) for kind in ("best", "last"))
    Pretrained.from_run(run).save_pretrained(tmp_path / "exported")
    options = cached(tmp_path / "one", tmp_path / "exported", "config.json", "model.safetensors")
    assert Pretrained.from_pretrained("user/model", **options).log_prob(x, x) == best
    options = cached(tmp_path / "two", run, "config.json", "metrics.csv", *weights.WEIGHTS.values())
    assert Pretrained.from_pretrained("user/model", **options).log_prob(x, x) == best
    assert Pretrained.from_pretrained("user/model", weights="last", **options).log_prob(x, x) == last


def test_what_is_pushed_to_the_hub(run, tmp_path, monkeypatch):
    sent = {}

    def upload(self, *, repo_id, folder_path, **_):
        sent[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: type("Url", (), {"repo_id": repo_id}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    pretrained = Pretrained.from_run(run)
    pretrained.push_to_hub("user/model")
    pretrained.save_pretrained(tmp_path)
    assert sent == {"user/model": {path.name: path.read_bytes() for path in tmp_path.iterdir()}}


@pytest.mark.parametrize("name", ["full_glow", "pix2pix"])
def test_the_model_card(name, tmp_path):
    boundaries = name == "full_glow"
    pretrained = Pretrained.from_run(make_run(tmp_path / "run", name, boundaries=boundaries))
    pretrained.save_pretrained(tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    for expected in ("library_name: condflows", "- normalizing-flows", f"# {name}, label2photo, 32x64", "Pretrained",
                     condflows.__version__, "label maps in the colours"):
        assert expected in card
    assert ("(x_a, side)" in card) == boundaries
    assert ("temperature" in card) == (name == "full_glow")
    assert "More Information Needed" not in card
    assert "{" not in card
    (tmp_path / "exported" / "README.md").write_text("mine")
    pretrained.save_pretrained(tmp_path / "exported")
    assert (tmp_path / "exported" / "README.md").read_text() == "mine"


def test_directories_without_a_model_are_named(run, tmp_path):
    with refused(FileNotFoundError, tmp_path / "nowhere", "check the path"):
        Pretrained.from_pretrained(tmp_path / "nowhere")
    with refused(ValueError, tmp_path, "expected a run of train.py"):
        Pretrained.from_pretrained(tmp_path)
    Pretrained.from_run(run).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="got weigths, which it does not take"):
        Pretrained.from_pretrained(tmp_path, weigths="last")
    (tmp_path / "model.safetensors").unlink()
    with refused(ValueError, tmp_path / "model.safetensors", "found no weights"):
        Pretrained.from_pretrained(tmp_path)
    for content in ("", "[]", "{", "null", "{}", '{"model": ["full_glow"]}'):
        (tmp_path / "config.json").write_text(content)
        with refused(ValueError, tmp_path / "config.json" if content[-1:] in ("]", "l", "}") else tmp_path):
            Pretrained.from_pretrained(tmp_path)


@pytest.mark.parametrize(("values", "fragment"), [
    ({"model_arguments": [1]}, "no model_arguments"),
    ({"model_arguments": None}, "no model_arguments"),
    ({"image_size": [32]}, "the image size [32]"),
    ({"image_size": [32, "64"]}, "the image size"),
    ({"direction": "sideways"}, "the direction 'sideways'"),
    ({"direction": ["label2photo"]}, "the direction"),
    ({"model_arguments": {"steps": "ab"}}, "full_glow cannot be built with"),
    ({"model_arguments": {"width": -4}}, "full_glow cannot be built with"),
])  # fmt: skip
def test_configurations_of_something_else_are_named(run, tmp_path, values, fragment):
    Pretrained.from_run(run).save_pretrained(tmp_path)
    change_config(tmp_path, **values)
    for read in (weights.load_model, Run, Pretrained.from_run, Pretrained.from_pretrained):
        with refused(ValueError, fragment, "give a run of train.py"):
            read(tmp_path)


def test_the_scripts_do_not_need_the_hub():
    script = ("import sys; sys.modules['huggingface_hub'] = None\n"
              "import train, sample, evaluate, transfer, train_classifier\n"
              "from streets import judging, training, using\n"
              "from streets.judging import classifier, evaluation\nfrom streets.training import costs, loop\n"
              "from streets.using import sampling, transfer\n"
              "try:\n    from streets.runs import pretrained\nexcept ImportError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", script], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert done.stdout == "streets.runs.pretrained needs huggingface_hub: pip install 'condflows[hub]'\n"


# The mixin as it is, on a flow of one's own


class MyFlow(Flow, PyTorchModelHubMixin, library_name="condflows", tags=["normalizing-flows"]):
    def __init__(self, channels: int = 3, steps: tuple[int, ...] = (1, 1), width: int = 4):
        def step(c):
            return glow_step(c, conditioners.CouplingConditioner(c, width, context_channels=1))

        def prior(c):
            return AffineCoupling(c, conditioners.ConvConditioner(c))

        super().__init__(multiscale(channels, steps, step, prior, ActNorm), (channels, None, None))


class MyPairedFlow(PairedFlow, PyTorchModelHubMixin):
    def __init__(self, channels: int, depth: int = 2):
        def glow(context):
            def net(num_outputs):
                return conditioners.GlobalConditioner(channels, num_outputs) if context else None

            return Chain([
                glow_step(channels, conditioners.CouplingConditioner(channels, 4, context), net(2 * channels),
                          net(2 * channels**2 + channels)) for _ in range(depth)])

        super().__init__(glow(0), Flow(glow(channels), (channels, None, None)))


@pytest.mark.parametrize(("make", "context"), [
    (lambda: MyFlow(2, steps=(2, 1)), images(3, 1, 8, 8)),
    (lambda: MyPairedFlow(4, depth=3), images(3, 4, 8, 8)),
])  # fmt: skip
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_flow_of_ones_own_with_the_mixin_as_it_is(make, context, memory, tmp_path):
    flow = perturb(make(), 0.05).to(memory_format=memory)
    x, context = images(3, 2 if isinstance(flow, MyFlow) else 4, 8, 8).float(), context.float()
    condflows.initialize(flow, x, context=context)
    for name, buffer in flow.named_buffers():
        assert buffer.is_contiguous(), name
    storages = [value.untyped_storage().data_ptr() for value in flow.state_dict().values()]
    assert len(set(storages)) == len(storages), "safetensors refuses tensors that share their memory"

    flow.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert load_file(tmp_path / "model.safetensors").keys() == flow.state_dict().keys()
    loaded = type(flow).from_pretrained(tmp_path, strict=True)
    loaded.to(memory_format=memory)  # which changes the order of sums
    assert torch.equal(loaded.log_prob(x, context), flow.eval().log_prob(x, context))
    again = [each.sample(2, context, generator=torch.Generator().manual_seed(0)) for each in (flow, loaded)]
    assert torch.equal(*again)


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text()
    code, = re.findall(r"```python\n(.*?)```", page.split("## Model files")[1], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    x = images(1, 3, 8, 8).float()
    assert torch.equal(names["flow"].log_prob(x), names["loaded"].log_prob(x))
    assert json.loads(Path("my_flow", "config.json").read_text()) == {"channels": 3, "steps": [4, 4], "width": 16}


# Nothing is unpickled


class Malicious:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


PICKLES = {
    "pickle": lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
    "torch": torch.save,
    "old torch": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
}


@pytest.fixture(params=PICKLES)
def plant(request, tmp_path):
    """Write a malicious file; that it did not run is checked at the end."""
    def write(path, content=None):
        PICKLES[request.param](content or {"state_dict": Malicious(tmp_path / "it ran")}, path)
        return path

    yield write
    assert not (tmp_path / "it ran").exists()


def test_the_malicious_files_do_run_where_they_are_unpickled(plant, request, tmp_path):
    path = plant(tmp_path / "weights.pt")
    try:
        torch.load(path, weights_only=False)
    except RuntimeError:  # too late
        assert request.node.callspec.params["plant"] == "pickle"
    (tmp_path / "it ran").unlink()


@pytest.mark.parametrize("file", weights.WEIGHTS.values())
def test_runs_unpickle_nothing(plant, file, tmp_path, capfd):
    path = make_run(tmp_path / "run")
    plant(path / file)
    kind = next(kind for kind, name in weights.WEIGHTS.items() if name == file)
    for read in (lambda: weights.load_model(path, file), lambda: Run(path, kind),
                 lambda: Pretrained.from_run(path, kind), lambda: Pretrained.from_pretrained(path, weights=kind)):
        with refused(ValueError, path / file, "fetch the file again"):
            read()
    out = ["--weights", kind, "--out", str(tmp_path / "out")]
    for script, options in ((sample, []), (transfer, ["--content", "0", "--structure", "1"]),
                            (evaluate, ["--judge", "colors"])):
        with pytest.raises(SystemExit) as stop:
            script.main([str(path), *options, *out])
        assert stop.value.code == 2
        said = capfd.readouterr().err
        assert str(path / file) in said
        assert said.count("\n") == 1


def test_exported_models_unpickle_nothing(plant, run, tmp_path):
    exported = tmp_path / "exported"
    Pretrained.from_run(run).save_pretrained(exported)
    plant(exported / "model.safetensors")
    for read in (weights.load_model, Run, Pretrained.from_run, Pretrained.from_pretrained):
        with refused(ValueError, exported / "model.safetensors", "fetch the file again"):
            read(exported)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_other_weights_of_a_directory_are_not_read(plant, run, name, tmp_path, monkeypatch):
    """Refuse ``pytorch_model.bin``, to which the mixin falls back for models on the hub."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    exported = tmp_path / "exported"
    Pretrained.from_run(run).save_pretrained(exported)
    (exported / "model.safetensors").unlink()
    plant(exported / name)
    for read in (weights.load_model, Run, Pretrained.from_run, Pretrained.from_pretrained):
        with refused(ValueError, exported / "model.safetensors", "found no weights"):
            read(exported)
    options = cached(tmp_path / "cache", exported, "config.json", name)
    with refused(ValueError, "model.safetensors", "found no weights"):
        Pretrained.from_pretrained("user/model", **options)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin", ".pkl", ""])
def test_judges_and_published_models_unpickle_nothing(plant, suffix, tmp_path):
    path = plant(tmp_path / f"weights{suffix}")
    for read in (lambda: load_judge("espnet-camvid", path), lambda: load_judge("pspnet", path),
                 lambda: load_published(path, (32, 32), (2, 2)), lambda: load_published(str(path), (32, 32), (2, 2)),
                 lambda: foreign.read_state(path)):
        with refused(ValueError, path, "fetch the file again"):
            read()


def test_a_directory_of_a_judge_unpickles_nothing(plant, tmp_path):
    plant(tmp_path / "model.safetensors")
    network = {"layers": [1, 1, 1, 1], "width": 4}
    files.write_json(tmp_path / "config.json", {"network": network, "classes": {"road": 7}, "size": None,
                                                "crop": [9, 9]})
    with refused(ValueError, tmp_path / "model.safetensors", "fetch the file again"):
        load_judge("pspnet", tmp_path)


@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cu124", "2.6.0.dev20241112"])
def test_torch_files_are_refused_where_torch_cannot_read_them_safely(version, plant, tmp_path, monkeypatch):
    """Refuse them before torch 2.6, whose torch.load could run code also with weights_only (CVE-2025-32434)."""
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a torch file was opened"))
    net = PSPNet((1, 1, 1, 1), width=4)
    torch.save(net.state_dict(), tmp_path / "harmless.pth")
    for path in (plant(tmp_path / "weights.pth"), tmp_path / "harmless.pth"):
        for read in (lambda path=path: load_judge("pspnet", path), lambda path=path: load_judge("espnet-camvid", path),
                     lambda path=path: load_published(path, (32, 32), (2, 2))):
            with refused(ValueError, path, f"torch {version}", "pip install 'torch>=2.6'", "safetensors"):
                read()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    assert foreign.read_state(tmp_path / "weights.safetensors").keys() == net.state_dict().keys()


def test_no_code_opens_pickles():
    """Find a call of torch.load in the scripts and one in fit, for tensors alone, and nothing else of the kind."""
    calls = re.compile(r"(?:import|from) (?:pickle|joblib|dill|shelve|marshal|cloudpickle)\b|allow_pickle|read_pickle|"
                       r"(?:yaml|pickle|joblib|dill|torch|torch\.jit|torch\.hub|np|numpy)\.(?:unsafe_)?loads?\b|"
                       r"torch\.(?:hub|package)\b|_object(?:_list)?\(")
    sources = [*SCRIPTS.rglob("*.py"), *Path(condflows.__file__).parent.glob("*.py")]
    found = [(path.name, call) for path in sources for call in calls.findall(path.read_text())]
    assert sorted(found) == [("training.py", "torch.load"), ("weights.py", "torch.load")]
    for path in sources:
        assert path.read_text().count("torch.load(") == path.read_text().count("weights_only=True)")


# Files of other versions


ARGUMENTS = {"channels": 1, "condition_channels": 3, "side_channels": 1, "steps": (1, 1), "width": 4,
             "context_width": 4, "grid": 2}


def make_golden(path):
    """Make the files of golden/, each by the condflows that it is named after. They are never made again."""
    x_b, context = golden_inputs(torch.float32)
    model = full_glow(**ARGUMENTS)
    condflows.initialize(model, x_b, context=context)
    model = perturb(model)
    config = {"model": "full_glow", "model_arguments": ARGUMENTS, "image_size": SIZE, "direction": "label2photo",
              "boundaries": True}
    directory.create(path, config)
    (path / "samples").rmdir()
    weights.save_weights(model, path / "model.safetensors")
    files.write_json(path / "expected.json", golden_outputs(model))


def golden_inputs(dtype):
    x_a, x_b, side = images(4, 3, 32, 64).to(dtype), images(4, 1, 32, 64).to(dtype), images(4, 1, 32, 64).to(dtype)
    return x_b, (x_a, side.round())


@torch.no_grad()
def golden_outputs(model):
    model = model.double()
    x_b, context = golden_inputs(torch.float64)
    log_p_a, log_p_b = model.log_probs(context[0], x_b, context[1])
    sampled = model.sample(1, context, temperature=0.0)
    return {"log_p_a": log_p_a.tolist(), "log_p_b": log_p_b.tolist(), "sample": sampled[:, 0, 0, 0, :2].tolist()}


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_files_of_earlier_versions_give_what_they_gave(version, tmp_path):
    path = GOLDEN / version
    assert json.loads((path / "config.json").read_text())["versions"]["condflows"] == version
    expected = json.loads((path / "expected.json").read_text())
    Pretrained.from_pretrained(path).save_pretrained(tmp_path)
    for model in (weights.load_model(path), Run(path).model, Pretrained.from_pretrained(tmp_path).model):
        got = golden_outputs(model)
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(torch.tensor(got[key]), torch.tensor(value), rtol=1e-9, atol=1e-9, msg=key)


def test_this_version_has_golden_files(tmp_path):
    """Ask for the files of a new version: ``make_golden(GOLDEN / version)`` makes them."""
    make_golden(tmp_path / "golden")
    assert {file.name for file in (tmp_path / "golden").iterdir()} == {
        file.name for file in (GOLDEN / condflows.__version__).iterdir()}
    assert sum(file.stat().st_size for file in (GOLDEN / condflows.__version__).iterdir()) < 300_000


READERS = [weights.load_model, Run, Pretrained.from_run, Pretrained.from_pretrained]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("installed", ["0.0.9", "0.1.0.dev3", "0.1.0rc1"])
def test_files_of_a_newer_version_say_so(read, installed, monkeypatch):
    monkeypatch.setattr(condflows, "__version__", installed)
    with refused(ValueError, GOLDEN / "0.1.0" / "config.json", "condflows 0.1.0 wrote it", f"this is {installed}",
                 "pip install condflows==0.1.0"):
        read(GOLDEN / "0.1.0")


@pytest.mark.parametrize(("option", "value"), [
    ("tile", "yes"), ("boundaries", "no"), ("noise", -1.0), ("noise", math.nan),
])
def test_options_that_no_run_has_are_named(option, value, run, tmp_path):
    config = configuration.read_config(run) | {option: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(ValueError, tmp_path / "config.json", f"the {option} {value!r}"):
        configuration.read_config(tmp_path)


def test_a_newer_version_may_have_changed_everything(tmp_path):
    for config in ({}, {"model": "transformer"}, {"model": {"name": "full_glow"}}):
        files.write_json(tmp_path / "config.json", config | {"versions": {"condflows": "99.1"}})
        with refused(ValueError, "pip install condflows==99.1"):
            configuration.read_config(tmp_path)


@pytest.mark.parametrize("read", READERS)
def test_files_that_no_longer_fit_name_the_version_that_wrote_them(read, run, tmp_path):
    Pretrained.from_run(run).save_pretrained(tmp_path)
    advice = f"condflows 0.0.7 wrote it, and this is {condflows.__version__}: pip install condflows==0.0.7"
    change_config(tmp_path, versions={"condflows": "0.0.7"})
    read(tmp_path)  # which is read where it fits
    change_config(tmp_path, model_arguments={"steps": [1, 1], "width": 8})
    with refused(ValueError, tmp_path / "model.safetensors", "expected (8,", "got (4,", advice):
        read(tmp_path)
    for values in ({"model_arguments": {"shapes": [1, 1]}}, {"model": "half_glow"},
                   {"model_arguments": {"steps": "one"}}):
        change_config(tmp_path, **values)
        with refused(ValueError, advice):
            read(tmp_path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("versions", [None, {}, [], "0.1.0", {"condflows": None}, {"condflows": "a fork"},
                                      {"condflows": [0, 1]}, {"condflows": 0.1}, {"torch": "2.13"}])
def test_strange_versions_do_no_harm(read, versions, run, tmp_path):
    Pretrained.from_run(run).save_pretrained(tmp_path)
    change_config(tmp_path, versions=versions)
    read(tmp_path)
    change_config(tmp_path, model_arguments={"steps": [1, 1], "width": 8})
    with refused(ValueError, "belongs to another model than the full_glow of config.json"):
        read(tmp_path)


def test_a_configuration_without_versions(run, tmp_path):
    Pretrained.from_run(run).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["versions"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = images(1, 3, *SIZE).float()
    loaded = Pretrained.from_pretrained(tmp_path)
    assert loaded.log_prob(x, x) == Run(tmp_path).model.log_prob(x, x) == Run(run).model.log_prob(x, x)
    loaded.save_pretrained(tmp_path / "again")
    assert configuration.read_config(tmp_path / "again")["versions"] == configuration.versions()
