"""A checkpoint is refused by any other fit, and every value that is written can be read back."""

import enum
import os
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_lfm as lfm

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(3))


def declared(scale=0.5, activation="relu", min_scale=0.1, latents=2):
    torch.manual_seed(0)
    covariance = lfm.Isotropic(lfm.Fixed(scale), min_scale=min_scale)
    model = lfm.Model(
        z=lfm.StandardNormal(latents),
        x=lfm.Gaussian(4, mean=lfm.MLP(5, activation=activation), covariance=covariance),
    )
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def starting(value):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(bias=lfm.Learned(value))))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def with_wide_guide():
    model, _ = declared()
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(5)))


def with_other_guide():
    model, _ = declared()
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5, activation="tanh")))


class Edited(lfm.PyroModel):
    """A program whose numbers stand in attributes, in its code and in what it reads."""

    def __init__(self, width=1.0, shift=0.0):
        super().__init__()
        self.width = width
        self.register_buffer("shift", torch.tensor(shift))
        self.weight = nn.Parameter(torch.ones(2, 4))

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            distribution = dist.Normal(z @ self.weight + self.shift, self.width)
            pyro.sample("x", distribution.to_event(1), obs=batch["x"])


def by_hand(**values):
    torch.manual_seed(0)
    model = Edited(**values)
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def scaled(rate):
    return lambda done: rate


def run(path, make=declared, data=X, validation=None, seed=0, callbacks=(), **options):
    model, guide = make()
    svi = lfm.SVI(guide, **{"epochs": 2, "batch_size": 16, "engine": "eager", **options})
    return lfm.fit(
        model,
        data,
        svi,
        validation=validation,
        seed=seed,
        callbacks=callbacks,
        checkpoint=path,
        progress=False,
    )


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def changed(rows, value):
    rows = rows.clone()
    rows[7, 2] += value
    return rows


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": X + 1}, "data was '40 rows of x, .*', now it is '40 rows of x"),
        ({"data": changed(X, 1e-6)}, "data was"),
        ({"data": X[:39]}, "now it is '39 rows of x"),
        ({"data": X.flip(0)}, "data was"),
        ({"validation": X[:5]}, "validation was None, now it is '5 rows of x"),
        ({"seed": 1}, "seed was 0, now it is 1"),
        ({"learning_rate": 2e-3}, "learning_rate was 0.001, now it is 0.002"),
        ({"batch_size": 8}, "batch_size was 16, now it is 8"),
        ({"drop_last": True}, "drop_last was False, now it is True"),
        ({"alternate": 2}, "alternate was None, now it is 2"),
        ({"schedule": scaled(1.0)}, "schedule was None"),
        ({"patience": 3}, "patience was not there, now it is 3 .*best weights"),
        (
            {"epochs": 1},
            r"longer fit: it has done 2 epochs \(.* steps\), and this fit is to do 1 epochs \(.*in all",
        ),
        (
            {"optimizer": torch.optim.SGD},
            "optimizer was torch.optim.adam.Adam, now it is torch.optim.sgd.SGD",
        ),
        ({"optimizer": partial(torch.optim.Adam, betas=(0.8, 0.9))}, "optimizer was"),
        ({"clip_norm": 1.0}, "clip_norm was None, now it is 1.0"),
        ({"objective": lfm.ELBO(particles=2)}, "objective.num_particles was 1, now it is 2"),
        ({"objective": lfm.ELBO(kl_weight=0.5)}, "objective.kl_weight was 1.0, now it is 0.5"),
        ({"objective": lfm.ELBO(free_bits=0.5)}, "objective.free_bits"),
        ({"objective": lfm.ELBO(gradient="sticking-the-landing")}, "objective.gradient"),
        (
            {"objective": lfm.ImportanceWeightedELBO(1)},
            "objective was ELBO, now it is ImportanceWeightedELBO",
        ),
        ({"objective": lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(2.0))}, "objective was ELBO"),
        (
            {"make": partial(declared, scale=0.6)},
            "model.declared.x.sources.covariance.value was 0.5, now it is 0.6",
        ),
        (
            {"make": partial(declared, activation="tanh")},
            "model.declared.x.*activation was 'relu', now it is 'tanh'",
        ),
        ({"make": partial(declared, min_scale=0.2)}, "min_scale was 0.1, now it is 0.2"),
        ({"make": partial(declared, latents=3)}, "another model"),
        ({"make": with_wide_guide}, "another guide"),
        ({"make": with_other_guide}, "guide.declared.z.*activation was 'relu', now it is 'tanh'"),
    ],
)
def test_another_fit_is_refused_with_the_difference_named(tmp_path, other, words):
    path = tmp_path / "state"
    run(path)
    before = content(path)
    with pytest.raises(lfm.CheckpointError, match=words) as caught:
        run(path, **other)
    assert isinstance(caught.value, lfm.DeclarationError) and str(path) in str(caught.value)
    assert content(path) == before


def test_declared_starts_of_parameters_belong_to_the_declaration(tmp_path):
    run(tmp_path / "state", partial(starting, 0.0))
    with pytest.raises(
        lfm.CheckpointError, match=r"model.declared.x.sources.mean.bias.init was 0.0, now it is 1.0"
    ):
        run(tmp_path / "state", partial(starting, 1.0))
    run(tmp_path / "state", partial(starting, 0.0), epochs=3)


@pytest.mark.parametrize("name", ["learning_rate", "objective", "schedule", "seed"])
def test_a_refused_checkpoint_changes_no_weight(tmp_path, name):
    run(tmp_path / "state", schedule=scaled(1.0))
    other = {"learning_rate": 0.1, "objective": lfm.ELBO(particles=2), "schedule": scaled(0.5), "seed": 4}
    model, guide = declared()
    before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
    with pytest.raises(lfm.CheckpointError, match=name):
        run(tmp_path / "state", lambda: (model, guide), **{"schedule": scaled(1.0), name: other[name]})
    assert all(
        torch.equal(a, b) for a, b in zip(before, (*model.parameters(), *guide.parameters()), strict=True)
    )


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        ({"width": 1.0}, {"width": 2.0}, "model.width was 1.0, now it is 2.0"),
        # A buffer that training does not change is a part of the declaration, though the checkpoint holds it.
        ({"shift": 0.0}, {"shift": 1.0}, "model.shift was"),
    ],
)
def test_programs_by_hand_are_compared_by_the_values_that_they_hold(tmp_path, first, other, words):
    run(tmp_path / "state", partial(by_hand, **first))
    with pytest.raises(lfm.CheckpointError, match=words):
        run(tmp_path / "state", partial(by_hand, **other))


def test_edited_code_is_another_program(tmp_path):
    def make(text):
        here = {"lfm": lfm, "pyro": pyro, "dist": dist, "torch": torch, "__name__": "mine"}
        exec(
            "class Mine(lfm.PyroModel):\n"
            "    def forward(self, batch):\n"
            "        with batch.plate():\n"
            "            z = pyro.sample('z', dist.Normal(torch.zeros(4), 1.0).to_event(1))\n"
            f"            pyro.sample('x', dist.Normal({text}, 1.0).to_event(1), obs=batch['x'])\n",
            here,
        )
        model = here["Mine"]()
        torch.manual_seed(0)
        return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))

    run(tmp_path / "state", lambda: make("z"))
    run(tmp_path / "state", lambda: make("z"), epochs=3)
    with pytest.raises(lfm.CheckpointError, match="model.*forward"):
        run(tmp_path / "state", lambda: make("2 * z"))


def test_a_schedule_fixes_the_length_of_the_fit(tmp_path):
    for k, options in enumerate(
        [{"schedule": scaled(1.0)}, {"objective": lfm.ELBO(kl_weight=lfm.schedules.linear())}]
    ):
        run(tmp_path / str(k), **options)
        with pytest.raises(lfm.CheckpointError, match="steps was 6, now it is 9 .*fraction done"):
            run(tmp_path / str(k), epochs=3, **options)
        run(tmp_path / str(k), steps=6, epochs=None, **options)


def test_arguments_that_may_change(tmp_path):
    """Epochs, callbacks, progress, the container of the rows, the engine; a seed that is not given is the one kept."""
    path = tmp_path / "state"
    run(path, seed=None)
    calls = []
    assert (
        len(run(path, epochs=3, seed=None, data=X.numpy(), callbacks=[lambda r, f: calls.append(r)]).history)
        == 3
    )
    assert len(calls) == 1
    assert len(run(path, epochs=4, seed=None, engine="auto").history) == 4
    assert len(run(path, epochs=None, steps=15, seed=None, data={"x": X.double()}).history) == 5


def with_priors():
    """After a fit the points of its weights are their posterior means."""
    torch.manual_seed(0)
    mean, covariance = (
        lfm.Linear(prior=lfm.parameter_priors.ARD(1.0, 1.0)),
        lfm.Isotropic(prior=lfm.parameter_priors.Gamma(2.0, 2.0)),
    )
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=mean, covariance=covariance))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


@pytest.mark.parametrize("make", [declared, with_priors])
def test_a_fit_goes_on_with_the_very_objects_that_it_trained(tmp_path, make):
    model, guide = make()
    for epochs in (1, 2, 3):
        assert len(run(tmp_path / "state", lambda: (model, guide), epochs=epochs).history) == epochs


def test_running_statistics_may_differ(tmp_path):
    def network(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))

    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=network))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=network))
    for epochs in (1, 2):
        run(tmp_path / "state", lambda: (model, guide), epochs=epochs)


class Augmented(torch.utils.data.Dataset):
    """Rows that are others at every reading."""

    def __len__(self):
        return 40

    def __getitem__(self, k):
        return X[k] + 0.1 * torch.randn(4)


def test_rows_that_differ_at_every_reading_are_not_compared(tmp_path):
    for epochs in (1, 2):
        done = run(tmp_path / "state", data=Augmented(), epochs=epochs)
    assert len(done.history) == 2 and done.posterior().mean.shape == (40, 2)


# What is written ---------------------------------------------------------------------------------------------


class Colour(enum.StrEnum):
    RED = "red"


def add_much(record, fit):
    record.update(
        number=np.float64(0.5),
        half=np.float16(0.5),
        long=np.longdouble(0.5),
        whole=np.int64(3),
        truth=np.bool_(True),
        array=np.arange(3),
        tensor=torch.ones(2, requires_grad=True) * 2,
        part=torch.zeros(10_000)[:2],
        named={"deep": [np.float32(2.0), (None, b"x")]},
        colour=Colour.RED,
        text=np.str_("words"),
    )


def test_entries_that_callbacks_add_are_read_back_plain(tmp_path):
    run(tmp_path / "state", epochs=1, callbacks=[add_much], schedule=lambda done: np.float64(1.0), steps=None)
    done = run(tmp_path / "state", epochs=1, schedule=lambda done: np.float64(1.0))
    record = done.history[0]
    assert record["number"] == record["half"] == record["long"] == 0.5 and type(record["number"]) is float
    assert record["whole"] == 3 and type(record["whole"]) is int and record["truth"] is True
    assert record["array"].tolist() == [0, 1, 2] and record["tensor"].tolist() == [2.0, 2.0]
    assert record["named"] == {"deep": [2.0, (None, b"x")]}
    assert (record["colour"], record["text"]) == ("red", "words")
    assert sum(map(len, content(tmp_path / "state").values())) < 40_000  # of the large tensor only the part


@pytest.mark.parametrize(
    "value",
    [
        object(),
        lambda: 1,
        np.array([object()]),
        np.datetime64("2020-01-01"),
        nn.Linear(1, 1),
        {(): {1: object}},
    ],
)
def test_an_entry_that_no_file_can_hold_is_refused_and_the_last_good_file_stays(tmp_path, value):
    run(tmp_path / "state", epochs=1)
    with pytest.raises(lfm.DeclarationError, match=r"history\[1\]\['bad'\].* is of type .*keep it elsewhere"):
        run(tmp_path / "state", epochs=3, callbacks=[lambda record, fit: record.update(bad=value)])
    assert len(run(tmp_path / "state", epochs=1).history) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_a_comparison_with_entries_of_callbacks_is_read_back(tmp_path):
    model, _ = declared()
    options = {"epochs": 1, "progress": False, "draws": 5, "folder": tmp_path}
    ways = {"one": lfm.Gaussian(network=lfm.MLP(4))}
    first = lfm.compare(model, X, ways, callbacks=[add_much], **options)
    again = lfm.compare(model, X, ways, **options)
    assert again.histories["one"][0][0]["number"] == 0.5 == first.histories["one"][0][0]["number"]
    linear = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear()))
    bad = [lambda record, fit: record.update(bad=object())]
    calls = []
    with pytest.raises(lfm.DeclarationError, match="bad.*keep it elsewhere"):
        lfm.compare(
            linear,
            X,
            {"em": lfm.EM(iterations=50)},
            callbacks=[*bad, lambda record, fit: calls.append(1)],
            progress=False,
            folder=tmp_path / "other",
        )
    assert len(calls) == 1  # said at the first iteration, not after the last


class Failing(nn.Module):
    """A network that runs out of memory in training, as long as it does."""

    full = True

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        if self.training and len(x) == 16 and Failing.full:
            raise torch.OutOfMemoryError("out of memory")
        return self.layer(x)


def test_a_comparison_that_an_error_stopped_is_not_taken_as_done(tmp_path, monkeypatch):
    model, _ = declared()
    # Known by its name, so that the switch is no part of what it is.
    monkeypatch.setattr(Failing, "__module__", "torch")
    ways = {"one": lfm.Gaussian(network=Failing)}
    options = {"epochs": 1, "batch_size": 16, "progress": False, "draws": 5, "folder": tmp_path}
    assert "out of memory" in lfm.compare(model, X, ways, **options).failed["one"][0]
    Failing.full = False
    assert not lfm.compare(model, X, ways, **options).failed


@pytest.mark.parametrize("bytes_there", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_file_is_no_checkpoint(tmp_path, bytes_there):
    (tmp_path / "state").write_bytes(bytes_there)
    with pytest.raises(lfm.DataError, match="must be a folder; it is a file: name another path"):
        run(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == bytes_there
    with pytest.raises(lfm.DeclarationError, match="checkpoint must be the path of a folder.*got 3"):
        run(3)


FILES = ("state.json", "state.safetensors")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["changed", "cut", "empty", "removed", "of another moment", "a folder"])
def test_a_folder_that_is_not_as_it_was_written_is_refused(tmp_path, name, harm):
    path = tmp_path / "state"
    run(path, epochs=1)
    other = (path / name).read_bytes()
    run(path, epochs=2)
    file, whole = path / name, (path / name).read_bytes()
    if harm in ("removed", "a folder"):
        file.unlink()
    if harm == "a folder":
        file.mkdir()
    elif harm != "removed":
        middle = len(whole) // 2
        turned = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes(
            {"changed": turned, "cut": whole[:-1], "empty": b"", "of another moment": other}[harm]
        )
    before = {f.name: f.read_bytes() for f in path.iterdir() if f.is_file()}
    for seed in (0, None):
        with pytest.raises(
            lfm.DataError, match=r"checkpoint .*cannot be read: .*name another folder"
        ) as caught:
            run(path, epochs=3, seed=seed)
        assert caught.value.__cause__ is None
    assert {f.name: f.read_bytes() for f in path.iterdir() if f.is_file()} == before


def test_a_state_of_another_form_is_refused_and_changes_no_weight(tmp_path):
    """Digests notice an accident. A state that was written with others, digests included, is refused all the same."""
    from pyro_lfm.storage.folder import Folder
    from pyro_lfm.storage.states import State, read_state, state_files

    run(tmp_path / "state", epochs=1)
    good = read_state(Folder(tmp_path / "state", "checkpoint"), "state")
    for name in (*good.values, None):
        for wrong in (None, 3, [], {"a": [1]}):
            values = {**good.values, name: wrong} if name else {"a": wrong}
            programs = good.programs if name else {"model": {}, "guide": {"a": wrong}}
            folder = Folder(tmp_path / "bad", "checkpoint")
            folder.commit(state_files("state", State(programs, values), "checkpoint"))
            model, guide = declared()
            before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
            try:
                run(folder.path, lambda here=(model, guide): here, epochs=1)
            except lfm.DataError:
                after = (*model.parameters(), *guide.parameters())
                assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), (name, wrong)


def test_a_saved_fit_is_not_replaced_by_a_checkpoint(tmp_path):
    run(tmp_path / "state", epochs=1)
    for name in FILES[:2]:
        (tmp_path / "state" / name).unlink()
    before = content(tmp_path / "state")
    with pytest.raises(lfm.DataError, match="holds a fit that was saved.*name another folder"):
        run(tmp_path / "state")
    assert content(tmp_path / "state") == before


def test_an_interrupted_write_leaves_the_state_before_it(tmp_path, monkeypatch):
    run(tmp_path / "state", epochs=1)
    before = content(tmp_path / "state")

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", stop)
        run(tmp_path / "state", epochs=2)
    assert content(tmp_path / "state") == before
    assert len(run(tmp_path / "state", epochs=1).history) == 1


def test_the_weights_are_a_file_that_other_tools_read(tmp_path):
    from safetensors.torch import load_file

    done = run(tmp_path / "state", epochs=1)
    weights = load_file(tmp_path / "state" / "weights.safetensors")
    state = {**done.model.state_dict(prefix="model."), **done.guide.state_dict(prefix="guide.")}
    programs = {name: value for name, value in weights.items() if not name.startswith("rows.")}
    assert programs.keys() == state.keys() and all(torch.equal(weights[n], state[n]) for n in state)
    of_fit = ("declaration.toml", "fit.json", "history.csv", "weights.safetensors")
    assert sorted(content(tmp_path / "state")) == sorted([*FILES, *of_fit])


def test_a_checkpoint_is_a_fit_that_can_be_loaded_and_saved_over(tmp_path):
    done = run(tmp_path / "state", epochs=1)
    assert torch.equal(lfm.load(tmp_path / "state").posterior(X).mean, done.posterior(X).mean)
    done.save(tmp_path / "state")
    longer, whole = run(tmp_path / "state", epochs=3), run(tmp_path / "other", epochs=3)
    assert torch.equal(longer.posterior(X).mean, whole.posterior(X).mean)
    assert len(lfm.load(tmp_path / "state").history) == 3


def test_arguments_of_a_checkpoint_are_checked():
    for arguments, words in [
        ({"path": 3}, "must be the path of a folder"),
        ({"path": ""}, "empty string"),
        ({"path": "run", "epochs": 0}, "epochs must be a positive int"),
        ({"path": "run", "epochs": 1.5}, "epochs must be a positive int"),
        ({"path": "run", "seconds": -1}, "seconds must be"),
        ({"path": "run", "seconds": float("nan")}, "seconds must be"),
        ({"path": "run", "epochs": None}, "give epochs or seconds"),
    ]:
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.Checkpoint(**arguments)
    one = lfm.Checkpoint("run/", epochs=None, seconds=5)
    assert one == lfm.Checkpoint("run/", epochs=None, seconds=5) != lfm.Checkpoint("run/")
    with pytest.raises(lfm.DeclarationError, match="cannot change"):
        one.epochs = 3
