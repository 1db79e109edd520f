"""Results of the released classes of TensorFlow 0.5 to 1.15, reproduced without flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import SHARED
from writers import cells

from lstmstate.cells import Cell
from lstmstate.cells.cell import Value
from lstmstate.engines import load
from lstmstate.engines.network import Network
from lstmstate.engines.options import Settled, settle
from lstmstate.engines.weights import Read, arithmetic
from lstmstate.errors import UnsupportedError
from lstmstate.model.checkpoint import open_checkpoint

Array = Any

CASES = sorted(path.parent for path in (SHARED / "golden").glob("*/case.json"))
NOT_RUN = ("NASCell", "PhasedLSTMCell", "TimeFreqLSTMCell")
# Keras 3 has no graph, and its files do not distinguish its gates from those of tf_keras.
UNTOLD = "Keras3LSTM__hard_sigmoid"
# The names of kept arrays in a case, and our names.
KEPT = {
    "c_steps": "c",
    "m_steps": "m",
    **{
        f"{op}_{theirs}": ours
        for op in ("cell", "block")
        for theirs, ours in zip(("i", "f", "o", "ci", "cs", "h"), "ifojcm", strict=True)
    },
}


class Ran(NamedTuple):
    """The results of a cell, sequence by sequence `[batch, time, …]`."""

    outputs: Array
    c: Array
    m: Array
    kept: Mapping[str, Array]


def run(
    cell: Cell, read: Read, given: Mapping[str, Value], x: Array, c: Array, m: Array
) -> tuple[Ran, Settled]:
    """Run a cell over x `[batch, time, inputs]` and keep everything."""
    settled = settle(cell, given)
    one = arithmetic(cell, read, settled.values)
    assert x.shape[2] == one.input_size or one.takes_wider
    by_step = np.ascontiguousarray(x.swapaxes(0, 1)[..., : one.input_size])
    ran = load("numpy", Network((((one,),),))).run(by_step, [(c, m)], None, "cmijfo")
    kept = {letter: steps.swapaxes(0, 1) for letter, steps in ran.kept[0].items()}
    return Ran(ran.outputs.swapaxes(0, 1), *ran.states[0], kept), settled


def named(cases: Any) -> Any:
    """Parametrize a test with the cases, skipped if there are none."""
    reason = "the golden answers are not available"
    cases = cases or [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return pytest.mark.parametrize("folder", cases, ids=lambda folder: getattr(folder, "name", ""))


def golden(folder: Path, given: Mapping[str, Value]) -> tuple[dict[str, float], Settled]:
    """Return the error of each array in a case, and the options."""
    ckpt = open_checkpoint(folder / "model.ckpt")
    (cell,) = ckpt.cells.values()
    assert cell.state is not None
    with np.load(folder / "state.npz") as state, np.load(folder / "expected.npz") as expected:
        start, theirs = parted(state, cell.state.c), parted(expected, cell.state.c)
    x = np.load(folder / "x.npy")
    read: Read = lambda name: ckpt.variables[name].read()  # noqa: E731
    ran, settled = run(cell, read, given, x, start["c"], start["m"])
    ours = {"outputs": ran.outputs, "c": ran.c, "m": ran.m}
    ours |= {name: ran.kept[letter] for name, letter in KEPT.items() if name in theirs}
    assert {array.dtype for array in ours.values()} == {np.dtype(np.float32)}
    return {
        name: float(np.abs(array - theirs[name]).max()) for name, array in ours.items()
    }, settled


def parted(arrays: Mapping[str, Array], units: int) -> dict[str, Array]:
    """Return arrays with c and m, also if they are in one."""
    found = dict(arrays)
    if "state" in found:
        found |= {"c": found["state"][:, :units], "m": found["state"][:, units:]}
    return found


def tolerance(folder: Path) -> float:
    """Layer norm over four units enlarges rounding."""
    return 5e-6 if folder.name.endswith("layer_norm") and "no_" not in folder.name else 2e-6


RUN = [case for case in CASES if not case.name.startswith(NOT_RUN) and case.name != UNTOLD]


@named(RUN)
def test_a_released_class_is_reproduced_without_flags(folder: Path) -> None:
    found, settled = golden(folder, {})
    assert {name: far for name, far in found.items() if not far <= tolerance(folder)} == {}
    assert len(found) > 3 or "tf0p" in folder.name
    assert "recurrent_activation" not in settled.assumed or "Keras" not in settled.cell.family


@named([case for case in CASES if case.name == UNTOLD])
def test_a_hard_sigmoid_of_keras_3_is_reproduced_with_a_flag(folder: Path) -> None:
    found, settled = golden(folder, {"recurrent_activation": "keras3_hard_sigmoid"})
    assert max(found.values()) <= 2e-6
    assert "recurrent_activation" not in settled.assumed


@named([case for case in CASES if case.name == UNTOLD])
def test_an_unrecorded_hard_sigmoid_is_assumed_if_accepted(folder: Path) -> None:
    found, settled = golden(folder, {"assume_defaults": True})
    assert max(found.values()) > 1e-3
    assert "recurrent_activation" in settled.assumed
    (cell,) = open_checkpoint(folder / "model.ckpt").cells.values()
    assert list(settle(cell, {}).unknown) == ["recurrent_activation"]


@named([case for case in CASES if case.name.startswith(NOT_RUN)])
def test_cells_with_other_equations_are_refused(folder: Path) -> None:
    ckpt = open_checkpoint(folder / "model.ckpt")
    (cell,) = ckpt.cells.values()
    with pytest.raises(UnsupportedError, match=rf"a {cell.family} is not run: it"):
        arithmetic(cell, lambda name: ckpt.variables[name].read(), settle(cell, {}).values)


# ---- values of three cases, which do not need the golden folder


class Figures(NamedTuple):
    """A cell of 4 units over 4 steps of 2 sequences of 3 inputs.

    Attributes:
        variables: leaf → shape and numbers.
        m: as wide as the outputs.
        given: the options of its constructor that no variable shows.
    """

    scope: str
    family: str
    variables: dict[str, tuple[tuple[int, ...], str]]
    given: dict[str, Value]
    x: str
    c: str
    m: str
    outputs: str
    last_c: str


# TensorFlow 1.15.0, contrib/rnn/python/ops/rnn_cell.py: CoupledInputForgetGateLSTMCell(4,
# use_peepholes=True, forget_bias=1.0, activation=tanh) in dynamic_rnn.
COUPLED = Figures(
    scope="rnn/coupled_input_forget_gate_lstm_cell",
    family="CoupledInputForgetGateLSTMCell",
    variables={
        "B": (
            (12,),
            """
            0.4468487 0.59167933 -0.53499067 -0.074473284 -0.59166527 -0.49037308 -0.36017424
            0.49326316 0.58836955 -0.04836943 -0.021097137 -0.3052096
        """,
        ),
        "W_0": (
            (7, 12),
            """
            -0.33896264 -0.14891265 0.47782052 0.108901 -0.17817102 -0.25626194 -0.03889328
            0.5733592 -0.4678334 0.23276335 -0.30679822 -0.09744964 0.5667541 0.18948428
            -0.40480703 -0.029426984 -0.458673 -0.09739904 0.35217726 0.0891357 -0.5228795
            -0.27174476 -0.07283261 -0.22216478 0.194918 -0.24391888 0.46922565 -0.115620494
            0.5034971 -0.04734193 0.057241626 0.58242005 0.2268231 0.33034936 -0.1258585
            0.46479782 -0.45750803 0.46666205 -0.051985953 0.3904236 -0.03533362 -0.013029415
            -0.4447769 -0.062969595 -0.30784366 -0.48340827 -0.27503842 -0.5099258 -0.3267839
            0.41449505 -0.34073937 0.4139173 0.4723043 -0.3600217 0.4603511 -0.058230914
            0.14619228 0.04447549 -0.29561925 -0.41554135 0.09677586 0.59103537 -0.5685522
            -0.40256736 0.30827564 -0.427333 -0.3957258 0.58974093 0.41184095 -0.1965511
            -0.028217735 0.0057258075 0.53444284 0.013472307 0.5591106 -0.18646641 0.31984818
            -0.3890445 -0.36482087 0.27638444 -0.22372821 0.29754698 0.57245445 0.012565004
        """,
        ),
        "W_F_diag": ((4,), "-0.08883753 0.2971288 0.049547818 -0.3434483"),
        "W_O_diag": ((4,), "0.04630246 0.39850548 0.10093269 -0.08048174"),
    },
    given={"forget_bias": 1.0, "activation": "tanh", "recurrent_activation": "sigmoid"},
    x="""
        0.43543187 -1.1442442 1.0360938 -1.447412 -0.48610047 -1.4439834 0.9749126 -0.34821978
        0.9633258 -0.24108838 0.19215477 -1.4359466 0.8748766 -1.4187394 1.067138 0.08886506
        -1.3238802 -0.93178654 1.2236161 0.68676656 -0.7984787 -0.54888994 0.9545224 -1.3639076
    """,
    c="""
        0.43739322 -0.13330625 -0.24433967 -0.14235651 -0.36002862 -0.14668807 -0.59269994
        -0.11533018
    """,
    m="0.612869 0.40128505 0.28350607 0.16816857 0.54058427 -0.7062267 -0.5994377 0.28354773",
    outputs="""
        0.2227428 0.13165097 0.02460967 -0.057094105 0.19184554 0.12055948 -0.20136566
        -0.0010125198 0.09982883 0.18869187 -0.009725459 0.00376172 0.11900919 0.16847257
        -0.16276403 0.017468784 -0.21918534 -0.15708557 0.1331297 -0.06083004 -0.26113513
        -0.0013839127 -0.02462461 -0.044441003 0.031121492 0.11748982 -0.076613724 -0.025207547
        0.22329417 0.13546726 -0.20069508 -0.0033116352
    """,
    last_c="""
        0.2123774 0.47295177 -0.31952697 0.071500786 0.46951604 0.43807432 -0.39153546
        -0.013898119
    """,
)

# TensorFlow 1.15.0, contrib/rnn/python/ops/rnn_cell.py: LayerNormBasicLSTMCell(4, forget_bias=1.0,
# activation=tanh, layer_norm=True) in dynamic_rnn.
LAYER_NORM_BASIC = Figures(
    scope="rnn/layer_norm_basic_lstm_cell",
    family="LayerNormBasicLSTMCell",
    variables={
        "forget/beta": ((4,), "-0.16370308 -0.020418016 0.106394954 0.29909956"),
        "forget/gamma": ((4,), "1.1884364 0.81259876 0.75382316 0.8566526"),
        "input/beta": ((4,), "0.16245277 -0.17665923 -0.12324856 -0.06878708"),
        "input/gamma": ((4,), "0.72937864 1.1728578 0.72552186 1.2233049"),
        "kernel": (
            (7, 16),
            """
            -0.29957783 -0.024329642 -0.17934287 -0.41038966 -0.36703014 -0.5988215 0.022636442
            0.11757028 -0.42448923 -0.59697485 0.072486684 0.052369796 -0.0480251 -0.22161292
            0.5851939 -0.5066891 0.3640292 -0.14772874 0.5676272 0.5044952 0.116671726 0.021780126
            0.2262423 0.4121672 0.3858857 -0.17885529 0.077440985 -0.37343037 -0.5689145
            -0.3961191 -0.014375618 0.3347401 -0.10720883 0.091738895 0.045259494 0.33857724
            -0.4126075 -0.238074 -0.3434209 -0.09679797 -0.3958509 0.42072448 0.4320406 -0.3320818
            0.54414225 -0.1928276 -0.32214043 0.14625494 -0.46126762 0.14069869 -0.44829038
            -0.034580283 -0.43249398 -0.21747741 0.32045233 -0.13942054 0.07452299 -0.2994805
            0.44528535 -0.19176498 -0.41435578 -0.25436667 0.40122026 -0.35361436 0.45173973
            0.086916745 0.020063248 0.4934751 -0.22791511 0.22073655 0.21995278 0.54363555
            -0.54642063 0.5060079 0.43761688 -0.59903485 0.049174905 0.4966673 -0.32911167
            0.3961651 0.011957697 0.30428734 0.17245995 -0.29668495 -0.40152016 -0.17152719
            0.590298 -0.0073899976 0.23641884 -0.59250176 0.066207126 -0.25014725 0.5955137
            -0.5099089 -0.014427647 0.06576501 0.47006676 -0.45821357 0.5618202 -0.46673337
            -0.31371263 -0.37729114 -0.5564198 0.4021954 0.44075555 0.062340047 0.32305655
            0.54368496 0.08955023 -0.47643954 -0.38333297 0.20951104
        """,
        ),
        "output/beta": ((4,), "0.2993507 0.14446479 0.240749 -0.17727762"),
        "output/gamma": ((4,), "1.094344 0.71376604 0.9590135 1.2671527"),
        "state/beta": ((4,), "-0.04680573 0.2717639 -0.07496143 0.012401171"),
        "state/gamma": ((4,), "0.7337281 1.1145911 0.7130502 1.2794871"),
        "transform/beta": ((4,), "-0.18372272 0.1398062 0.010377303 -0.109749"),
        "transform/gamma": ((4,), "0.96597946 0.94034183 0.953923 1.1589407"),
    },
    given={"forget_bias": 1.0, "activation": "tanh", "recurrent_activation": "sigmoid"},
    x="""
        -0.59935945 -0.7620049 1.267103 -0.63199824 0.19032294 -1.2655404 -0.44343275 -0.15677968
        0.9532272 -0.9781888 1.0535412 -0.46192378 0.20096342 -1.3529087 -0.5132281 0.1037997
        0.031561367 0.7946041 -0.9378029 -0.4122477 0.9535264 0.06774975 1.2135036 1.1208229
    """,
    c="""
        0.53805554 -0.12468334 0.15625675 -0.37934205 -0.9673804 0.184882 -0.40602556 -0.35877094
    """,
    m="-0.8188211 0.5695235 -0.17468102 0.9289221 -0.67879206 -0.4072877 0.33339912 0.30112103",
    outputs="""
        0.31965247 0.30775082 -0.18235388 0.46815148 0.06735817 0.41484976 -0.48919252 0.52012396
        -0.13689551 0.42128894 -0.16615637 0.64316195 -0.12149018 0.42755204 -0.2771306 0.7796297
        0.040080473 0.5341383 -0.32305083 -0.098600835 -0.30601314 0.6384609 -0.13226493
        0.027969168 -0.3031142 0.5891278 -0.126478 -0.124530375 -0.32805976 0.44132257 -0.19856507
        0.4289671
    """,
    last_c="-0.3443656 1.0373653 -1.0945412 1.4819436 -0.6619479 1.8795168 -0.8030272 0.5459181",
)

# TensorFlow 1.15.0, lite/experimental/examples/lstm/rnn_cell.py: TFLiteLSTMCell(4, num_proj=2,
# use_peepholes=True, activation=None, which is tanh) in dynamic_rnn.
TFLITE = Figures(
    scope="rnn/tf_lite_lstm_cell",
    family="TFLiteLSTMCell",
    variables={
        "cell_bias": ((4,), "0.1438017 0.4075548 -0.30934957 -0.56043625"),
        "cell_to_cell_w": (
            (4, 2),
            """
            0.20041488 0.38407427 -0.27994892 -0.04751107 0.31129968 0.0003987641 -0.15895388
            0.2893229
        """,
        ),
        "cell_to_forget_w": (
            (4, 2),
            """
            -0.042774905 -0.49432442 -0.5095174 -0.3907662 -0.5299503 0.31739807 -0.36477295
            0.06345144
        """,
        ),
        "cell_to_input_w": (
            (4, 2),
            """
            -0.5163015 0.38850713 0.0035264897 -0.574089 -0.35612252 0.128189 -0.49562246
            0.20322756
        """,
        ),
        "cell_to_output_w": (
            (4, 2),
            """
            0.5181289 0.21559767 -0.049038973 -0.05390599 0.031273223 -0.5626382 0.45507768
            0.34862164
        """,
        ),
        "forget_bias": ((4,), "0.4178739 -0.45813343 0.48098743 -0.045714103"),
        "input_bias": ((4,), "0.5093824 -0.3894678 -0.51022315 -0.38550967"),
        "input_to_cell_w": (
            (4, 3),
            """
            -0.034284424 -0.41046053 0.14573154 -0.4172968 -0.4751374 0.25863707 0.3002872
            -0.49357852 0.28519905 0.32689452 0.07907163 0.5943798
        """,
        ),
        "input_to_forget_w": (
            (4, 3),
            """
            0.46387646 -0.33310407 0.03829721 -0.2632797 0.4393513 -0.53764385 0.060235374
            0.024332717 0.36578706 0.050793055 0.113461286 0.1465394
        """,
        ),
        "input_to_input_w": (
            (4, 3),
            """
            -0.013468463 -0.5980282 0.02705651 -0.38936517 -0.25636175 -0.08448421 -0.042463135
            -0.16741972 0.42136392 -0.5759514 0.41417125 -0.34540913
        """,
        ),
        "input_to_output_w": (
            (4, 3),
            """
            -0.10703282 0.14240915 -0.06008434 -0.020355886 -0.17101455 0.42409217 -0.5030102
            0.06289165 -0.39274496 -0.39837742 0.114612326 -0.07196794
        """,
        ),
        "output_bias": ((4,), "-0.07978761 -0.44456676 -0.22084963 0.09983751"),
        "projection/kernel": (
            (2, 4),
            """
            -0.2578603 -0.33975133 0.12462738 0.3871753 -0.011858001 0.22413501 0.4563897
            -0.05031459
        """,
        ),
        "w_f_diag": ((4,), "0.39339375 0.47285426 -0.4382542 0.54828936"),
        "w_i_diag": ((4,), "-0.0027205655 0.2735751 0.55599517 0.10703669"),
        "w_o_diag": ((4,), "0.3031045 -0.3425434 -0.5921234 -0.3694169"),
    },
    given={
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "cell_clip": None,
        "proj_clip": None,
    },
    x="""
        1.301942 -0.5053419 1.3385797 0.90498763 -0.14202845 0.40483326 0.3984685 0.22500393
        0.3643244 -0.99334514 0.31257716 -0.08535885 -1.4496366 0.464956 -1.3467698 -0.78797376
        -0.6653906 -1.3077568 1.168165 -0.44325322 1.4637101 -1.295128 0.9525959 -0.63398814
    """,
    c="0.4395277 -0.8049173 0.82855505 0.49881458 -0.34482777 0.33372152 0.40402323 -0.32861722",
    m="-0.72466344 -0.63581055 -0.45845392 0.8373789",
    outputs="""
        0.0037994157 0.053150676 -0.017397672 0.054792225 -0.041079585 0.04303072 -0.17255557
        0.004285551 -0.24239337 0.021192066 -0.25079337 -0.013535947 -0.1306963 0.04911028
        -0.23445171 -0.022556009
    """,
    last_c="""
        0.22475272 0.33216158 -0.1178101 -0.39110783 0.007913798 0.39577198 -0.21957296
        -0.74819356
    """,
)


def numbers(text: str, *shape: int) -> Array:
    return np.array(text.split(), np.float32).reshape(shape)


@pytest.mark.parametrize("figures", [COUPLED, LAYER_NORM_BASIC, TFLITE], ids=lambda f: f.family)
def test_golden_answers_of_a_released_class(figures: Figures) -> None:
    shapes = {f"{figures.scope}/{leaf}": shape for leaf, (shape, _) in figures.variables.items()}
    cell = cells(shapes)[figures.scope]
    assert cell.family == figures.family

    def read(name: str) -> Array:
        shape, text = figures.variables[name.removeprefix(f"{figures.scope}/")]
        return numbers(text, *shape)

    x, c, m = numbers(figures.x, 2, 4, 3), numbers(figures.c, 2, 4), numbers(figures.m, 2, -1)
    ran, settled = run(cell, read, figures.given, x, c, m)
    assert settled.assumed == {}
    far = 5e-6 if cell.layer_norm else 2e-6
    outputs = numbers(figures.outputs, 2, 4, -1)
    assert np.abs(ran.outputs - outputs).max() <= far
    assert np.abs(ran.m - outputs[:, -1]).max() <= far
    assert np.abs(ran.c - numbers(figures.last_c, 2, 4)).max() <= far
