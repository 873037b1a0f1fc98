"""Pictures drawn from known factors: each factor changes what it says, by as much as it says, and nothing else."""

import math

import pytest
import torch

import pyro_lfm as lfm

DRAW = {"sprites": (lfm.data.sprites, lfm.data.draw_sprites), "faces": (lfm.data.faces, lfm.data.draw_faces)}
SHAPES = ("square", "ellipse", "heart")
# The least and the most of each attribute, and the box (u from, u to, v from, v to) that alone may change, -1 to 1.
REGIONS = {
    "hair_length": ((0, 1), (-0.85, 0.85, -0.3, 1)),
    "hair_colour": ((0, 1), (-0.9, 0.9, -0.95, 1)),
    "eye_colour": ((0, 1), (-0.4, 0.4, -0.1, 0.25)),
    "skin_tone": ((0, 1), (-0.75, 0.75, -0.55, 1)),
    "mouth": ((-1, 1), (-0.3, 0.3, 0.3, 0.75)),
    "face_width": ((0, 1), (-0.95, 0.95, -1, 1)),
    "glasses": ((0, 1), (-0.68, 0.68, -0.2, 0.33)),
}


def moments(rows, size):
    """Area, centre (x, y) and covariance of pictures, in units of a side."""
    picture = rows.reshape(-1, size, size).double()
    centres = (torch.arange(size).double() + 0.5) / size
    area = picture.sum((1, 2)) / size**2
    weights = picture / picture.sum((1, 2), keepdim=True)
    x, y = (weights * centres).sum((1, 2)), (weights * centres[:, None]).sum((1, 2))
    right, down = centres - x[:, None, None], centres[:, None] - y[:, None, None]
    cov = torch.stack(
        [(weights * a * b).sum((1, 2)) for a, b in ((right, right), (right, down), (down, down))], 1
    )
    return area, x, y, cov


@pytest.mark.parametrize("name", DRAW)
def test_pictures_come_with_the_factors_that_draw_them_again(name):
    make, draw = DRAW[name]
    data = make(n=50, seed=3, size=32)
    channels = 3 if name == "faces" else 1
    assert data.shape == (channels, 32, 32) and data.name == name and len(data) == 50
    assert data.x.shape == (50, channels * 32 * 32) and data.x.dtype == torch.float32
    assert 0 <= data.x.min() and data.x.max() <= 1
    assert all(values.shape == (50,) for values in data.factors.values())
    assert all(data.factors[key].max() < len(names) for key, names in data.labels.items())
    assert torch.equal(draw(**data.factors, size=32), data.x)
    assert make(n=2, size=64).x.shape == (2, channels * 64 * 64)


@pytest.mark.parametrize("name", DRAW)
def test_the_seed_alone_decides(name):
    make, _ = DRAW[name]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    data = make(n=300, seed=5)  # more rows than are painted at once
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(make(n=300, seed=5).x, data.x)
    assert torch.equal(make(n=150, seed=5).x, data.x[:150])
    assert not torch.equal(make(n=300, seed=6).x, data.x)


@pytest.mark.parametrize("name", DRAW)
def test_factors_are_uniform_and_independent(name):
    """A standard error of a mean in units of the range is 0.0065 at most here, of a correlation 0.016: 5 of each."""
    data = DRAW[name][0](n=4000, seed=0, size=8)
    columns = torch.stack([values.double() for values in data.factors.values()], 1)
    low, high = columns.min(0).values, columns.max(0).values
    assert (((columns - low) / (high - low)).mean(0) - 0.5).abs().max() < 5 * 0.0065
    assert (torch.corrcoef(columns.T) - torch.eye(columns.shape[1])).abs().max() < 5 * 0.016


@pytest.mark.parametrize("name", DRAW)
def test_a_split_keeps_rows_and_factors_together_and_the_data_can_be_read(name):
    data = DRAW[name][0](n=40)
    for part in data.split(test=0.25, seed=1):
        assert torch.equal(DRAW[name][1](**part.factors), part.x) and part.shape == data.shape
    assert [len(part) for part in data.split(0.25)] == [30, 10]
    assert torch.equal(lfm.data.read(data, ["x"]).take(torch.tensor([5]))["x"], data.x[5:6])
    with pytest.raises(lfm.DataError, match="leaves rows on both sides"):
        data.split(1.0)


# Sprites ---------------------------------------------------------------------------------------------------


def test_area_and_centre_are_those_of_the_factors():
    data = lfm.data.sprites(n=600, seed=1)
    area, x, y, _ = moments(data.x, 32)
    assert (area / data.factors["scale"] ** 2 - 1).abs().max() < 0.01
    assert (x - data.factors["x"]).abs().max() < 0.05 / 32  # a twentieth of a pixel
    assert (y - data.factors["y"]).abs().max() < 0.05 / 32
    border = data.x.reshape(-1, 32, 32).clone()
    border[:, 1:-1, 1:-1] = 0
    assert border.max() == 0  # every shape is whole


def test_twice_the_scale_is_four_times_the_area_and_y_goes_down():
    for shape in SHAPES:
        area, x, y, _ = moments(lfm.data.draw_sprites(shape, torch.tensor([0.2, 0.4]), 0.4, 0.45, 0.6), 32)
        assert area[1] / area[0] == pytest.approx(4, rel=0.01)
        assert x.tolist() == pytest.approx([0.45, 0.45], abs=2e-3)
        assert y.tolist() == pytest.approx([0.6, 0.6], abs=2e-3)


def test_rotation_turns_the_ellipse_counter_clockwise():
    angle = torch.arange(0, math.pi, 0.1)
    _, _, _, cov = moments(lfm.data.draw_sprites("ellipse", 0.36, angle, size=64), 64)
    xx, xy, yy = cov.T
    measured = 0.5 * torch.atan2(-2 * xy, xx - yy)  # rows are counted down
    apart = (measured - angle + math.pi / 2) % math.pi - math.pi / 2
    assert apart.abs().max() < 0.01
    # Second moments of half-axes a = 2b: a² / 4 and b² / 4 with π a b = scale².
    b2 = 0.36**2 / (2 * math.pi)
    assert xx[0].item() == pytest.approx(b2, rel=0.02) and yy[0].item() == pytest.approx(b2 / 4, rel=0.03)


def test_what_a_turn_leaves_as_it_is():
    turn = torch.tensor([0.0, 0.5, 1.0, 2.0]) * math.pi
    square, ellipse, heart = (lfm.data.draw_sprites(shape, rotation=turn + 0.3) for shape in SHAPES)
    assert torch.allclose(square, square[:1], atol=1e-4)
    assert torch.allclose(ellipse[2:], ellipse[:1], atol=1e-4) and (ellipse[1] - ellipse[0]).abs().max() > 0.9
    assert (heart[1:3] - heart[:1]).abs().amax(1).min() > 0.9 and torch.allclose(
        heart[3], heart[0], atol=1e-4
    )


def test_a_heart_stands_on_its_tip():
    heart = lfm.data.draw_sprites("heart", scale=0.6, size=64).reshape(64, 64)
    assert torch.allclose(heart, heart.flip(1), atol=1e-5)
    width = (heart > 0.5).sum(1)
    tall = width.nonzero().flatten()
    assert width[tall[-1]] <= 3 < width[tall[0]]
    assert heart[tall[0], 31] == 0 and heart[tall[0] + 6, 31] == 1  # the cleft


def test_a_shape_is_named_or_indexed():
    by_name = torch.cat([lfm.data.draw_sprites(shape) for shape in SHAPES])
    assert torch.equal(lfm.data.draw_sprites(torch.arange(3)), by_name)
    assert by_name.diff(dim=0).abs().amax(1).min() > 0.9


# Faces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", REGIONS)
def test_an_attribute_changes_its_part_of_the_face_alone(name, size):
    (low, high), (left, right, top, bottom) = REGIONS[name]
    others = lfm.data.faces(n=64, seed=2).factors
    pictures = [
        lfm.data.draw_faces(**{**others, name: torch.full((64,), value)}, size=size).reshape(
            64, 3, size, size
        )
        for value in (low, high)
    ]
    change = (pictures[1] - pictures[0]).abs().amax(1)
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    inside = ((centres > left) & (centres < right)) & ((centres > top) & (centres < bottom))[:, None]
    assert change[:, ~inside].sum() == 0
    assert change.amax((1, 2)).min() > 0.1  # it is seen in every face


def test_colours_are_those_of_their_attribute_only():
    for name, (u, v) in {
        "hair_colour": (0, -0.75),
        "skin_tone": (0, 0.2),
        "eye_colour": (0.31, 0.08),
    }.items():
        values = torch.linspace(0, 1, 9)
        faces = lfm.data.draw_faces(**{name: values}, size=64).reshape(9, 3, 64, 64)
        pixel = faces[:, :, int((v + 1) * 32), int((u + 1) * 32)]
        assert (pixel[1:] - pixel[:-1]).abs().amax(1).min() > 0.01, name  # no two values look the same
    skin = lfm.data.draw_faces(skin_tone=torch.linspace(0, 1, 9)).sum(1)
    assert (skin.diff() > 0).all()


def test_a_smile_bends_up_at_its_ends():
    plain = lfm.data.draw_faces(mouth=0.0, size=64).reshape(3, 64, 64)
    heights = []
    for mouth in (-1.0, -0.5, 0.5, 1.0):
        change = (lfm.data.draw_faces(mouth=mouth, size=64).reshape(3, 64, 64) - plain)[
            1
        ] < -0.1  # lips on skin
        rows = change.nonzero()[:, 0].double()
        columns = change.nonzero()[:, 1].double()
        outer, inner = (columns - 31.5).abs() > 5, (columns - 31.5).abs() < 2
        heights.append((rows[inner].mean() - rows[outer].mean()).item())
    assert heights[0] < heights[1] < 0 < heights[2] < heights[3]


def test_hair_grows_steadily_and_faces_widen():
    black = {"hair_colour": 0.0, "skin_tone": 1.0, "size": 64}
    hair = lfm.data.draw_faces(hair_length=torch.linspace(0, 1, 9), **black).reshape(9, 3, 64, 64)
    dark = (hair.amax(1) < 0.3).sum((1, 2))
    assert (dark.diff() > 20).all()
    wide = lfm.data.draw_faces(hair_length=0.0, face_width=torch.linspace(0, 1, 5), size=64).reshape(
        5, 3, 64, 64
    )
    bluish = wide[:, 2, 38] > wide[:, 0, 38]  # the wall, at the height of the nose
    assert (bluish[:, :10].all(1) & bluish[:, -10:].all(1)).all()
    assert ((~bluish).sum(1).diff() > 0).all()


def test_glasses_are_a_name_an_index_or_a_truth():
    for worn in (1, 1.0, True, torch.tensor([True])):
        assert torch.equal(lfm.data.draw_faces(glasses=worn), lfm.data.draw_faces(glasses="with"))
    both = lfm.data.draw_faces(glasses=torch.tensor([0.0, 1.0]))
    assert torch.equal(both[:1], lfm.data.draw_faces(glasses="without"))


def test_pictures_are_shown_in_colour():
    plots = pytest.importorskip("pyro_lfm.plots")
    data = lfm.data.faces(n=4)
    shown = plots.reconstructions(data.x, {"again": data.x}, shape=data.shape).axes[0].images[0].get_array()
    assert abs(shown[..., 0] - shown[..., 2]).max() > 0.3


# What cannot be drawn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAW)
def test_bad_counts_and_sizes(name):
    make, draw = DRAW[name]
    for n in (0, -3, 2.5):
        with pytest.raises(lfm.DataError, match="n must be a whole number"):
            make(n=n)
    for size in (4, 32.0):
        with pytest.raises(lfm.DataError, match="size must be the whole number"):
            make(n=2, size=size)
        with pytest.raises(lfm.DataError, match="size must be the whole number"):
            draw(size=size)


@pytest.mark.parametrize(
    ("draw", "given", "error", "words"),
    [
        ("sprites", {"shape": "circle"}, lfm.DataError, "shape must be one of 'square', 'ellipse', 'heart'"),
        ("sprites", {"shape": 3}, lfm.DataError, "shape must be one of.*from 3 to 3"),
        ("sprites", {"shape": 0.5}, lfm.DataError, "shape must be one of.*float"),
        ("sprites", {"shape": math.nan}, lfm.DataError, "shape must be one of.*float"),
        ("sprites", {"shape": 1j}, lfm.DataError, "shape must be one of.*complex"),
        ("sprites", {"scale": 0.0}, lfm.DataError, "scale must be from 0.01 to 2"),
        ("sprites", {"rotation": math.nan}, lfm.DataError, "rotation must be"),
        ("sprites", {"rotation": math.inf}, lfm.DataError, "rotation must be"),
        ("sprites", {"x": 1j}, lfm.DataError, "x must be from -1 to 2"),
        ("sprites", {"x": torch.zeros(2, 2)}, lfm.ShapeError, r"x must be a number or .*\(2, 2\)"),
        ("sprites", {"x": torch.zeros(0)}, lfm.ShapeError, "x must be a number or"),
        ("sprites", {"x": torch.zeros(2), "y": torch.zeros(3)}, lfm.ShapeError, "'x': 2, 'y': 3"),
        ("faces", {"mouth": -1.5}, lfm.DataError, "mouth must be from -1 to 1"),
        ("faces", {"hair_length": "long"}, lfm.DataError, "hair_length must be from 0 to 1"),
        ("faces", {"glasses": 2}, lfm.DataError, "glasses must be one of 'without', 'with'"),
    ],
)
def test_bad_values_are_named(draw, given, error, words):
    with pytest.raises(error, match=words):
        DRAW[draw][1](**given)
