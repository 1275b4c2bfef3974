"""interpretability.fit_probe: what can be read out of vectors by a linear map?"""

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "interpretability.fit_probe",
    used_by="what each layer knows, beside labels that nobody can know",
    hints=(
        "Three steps: fit W on the training rows, let W say a class for each test row, compare "
        "with `y_test`.",
        "X is `x_train` with a column of ones behind it, Y is one-hot: "
        "`F.one_hot(y_train)` as floating-point numbers.",
        "The minimum solves (XᵀX + penalty · I) W = XᵀY: `torch.linalg.solve(squares, products)`.",
        "The test rows get a column of ones, too. What W says is `(x @ W).argmax(-1)`; the share "
        "that is right is a mean, and `.item()` makes a float of it.",
    ),
)


def _by_numpy(
    x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor, penalty: float = 1.0
) -> float:
    """Least squares with rows for the penalty, in double precision."""
    rows = x_train.detach().double().numpy()
    x = np.hstack([rows, np.ones((len(rows), 1))])
    n_classes = int(y_train.max()) + 1
    more = np.sqrt(penalty) * np.eye(x.shape[1])
    wanted = np.vstack([np.eye(n_classes)[y_train.numpy()], np.zeros((x.shape[1], n_classes))])
    weights = np.linalg.lstsq(np.vstack([x, more]), wanted, rcond=None)[0]
    tested = x_test.detach().double().numpy()
    said = (np.hstack([tested, np.ones((len(tested), 1))]) @ weights).argmax(1)
    return float((said == y_test.numpy()).mean())


def _blobs(n_rows: int, d: int, n_classes: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows around a centre for each class."""
    centres = 2 * inputs.normal(n_classes, d, seed=100)
    labels = inputs.integers(n_rows, below=n_classes, seed=seed)
    return centres[labels] + spread * inputs.normal(n_rows, d, seed=seed + 1) + 1.5, labels


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        sizes: tuple[int, int, int],
        n_classes: int,
        spread: float,
        penalty: float | None = None,
        seed: int = 0,
        point: str = "",
    ) -> Case:
        n_train, n_test, d = sizes
        x, y = _blobs(n_train, d, n_classes, spread, seed)
        x_test, y_test = _blobs(n_test, d, n_classes, spread, seed + 50)
        arguments = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
        given = {} if penalty is None else {"penalty": penalty}
        return Case(title, {**arguments, **given}, _by_numpy, point=point)

    strong = (
        "The penalty decides where rows are few: it stands on the diagonal once for each column "
        "of X, that of the ones too, and it is what the caller says."
    )
    held_out = "What counts are the test rows: the training rows are known by heart here."
    line = {
        "x_train": torch.tensor([[0.0], [1.0], [5.0], [6.0]]),
        "y_train": torch.tensor([0, 0, 1, 1]),
        "x_test": torch.tensor([[0.5], [5.5], [4.0]]),
        "y_test": torch.tensor([0, 1, 0]),
    }
    far = {
        "x_train": torch.tensor([[10.0], [11.0], [15.0], [16.0]]),
        "y_train": torch.tensor([0, 0, 1, 1]),
        "x_test": torch.tensor([[10.5], [15.5], [12.0], [14.0], [13.4]]),
        "y_test": torch.tensor([0, 1, 0, 1, 0]),
        "penalty": 0.01,
    }
    unseen = {
        "x_train": torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [2.0, 0.0]]),
        "y_train": torch.tensor([0, 1, 0, 1]),
        "x_test": torch.tensor([[0.0, 3.0], [3.0, 0.0], [1.0, 5.0]]),
        "y_test": torch.tensor([0, 1, 3]),
    }
    gap = {**unseen, "y_train": torch.tensor([0, 4, 0, 4]), "y_test": torch.tensor([0, 4, 4])}
    few = {**gap, "y_train": torch.tensor([1, 2, 1, 2]), "y_test": torch.tensor([1, 2, 2])}
    skipped = {
        "x_train": torch.tensor([[0.0], [5.0], [9.0], [0.5], [5.5], [9.5]]).repeat(1, 2) ** 2,
        "y_train": torch.tensor([0, 1, 2, 0, 1, 2]),
        "x_test": torch.tensor([[0.2], [9.2], [9.8]]).repeat(1, 2) ** 2,
        "y_test": torch.tensor([0, 2, 2]),
    }
    double = case("float64", (40, 21, 5), 3, 2.5, seed=7, point=points.FLOAT64)
    as_double = {
        name: each.double() if isinstance(each, Tensor) and each.is_floating_point() else each
        for name, each in double.arguments.items()
    }
    return [
        Case("two classes on a line", line, _by_numpy),
        case("three classes", (60, 25, 4), 3, 2.5),
        case("five classes", (90, 35, 6), 5, 2.0, seed=1),
        Case(
            "far from 0",
            far,
            _by_numpy,
            point="Without the column of ones a probe can only cut through 0: both sets have one.",
        ),
        case("few rows, many columns", (9, 40, 12), 3, 3.0, seed=2, point=held_out),
        case("a strong penalty", (30, 41, 5), 3, 2.0, 50.0, seed=3, point=strong),
        case("a weak penalty", (12, 41, 9), 3, 3.0, 0.01, seed=4, point=strong),
        case("a very strong penalty", (33, 52, 4), 4, 2.0, 2000.0, seed=5, point=strong),
        Case(
            "a class that only the test rows have",
            unseen,
            _by_numpy,
            point="A test row may have a class that no training row has: it is counted as wrong.",
        ),
        Case(
            "classes 0 and 4",
            gap,
            _by_numpy,
            point="Numbers of classes may be missing in between: a class is its column.",
        ),
        Case(
            "a class that no test row has",
            skipped,
            _by_numpy,
            point="The test rows may lack a class: labels are those numbers that they are, and "
            "are not counted anew.",
        ),
        Case("no row of class 0", few, _by_numpy, point="It may be that no row has class 0."),
        case(
            "as many rows to train as to test",
            (24, 24, 3),
            3,
            3.0,
            seed=6,
            point=points.EQUAL_SIZES,
        ),
        case("two classes, noise", (50, 61, 3), 2, 4.0, seed=8),
        Case("float64", as_double, _by_numpy, point=points.FLOAT64),
    ]


# --- Mistakes ------------------------------------------------------------------------------------


def _with_ones(x):
    return torch.cat((x, x.new_ones(len(x), 1)), -1)


def _weights(x, y, n_classes, penalty, eye=None):
    wanted = torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
    eye = torch.eye(x.shape[1], dtype=x.dtype) if eye is None else eye
    return torch.linalg.solve(x.T @ x + penalty * eye, x.T @ wanted)


def _probe(x_train, y_train, x_test, y_test, penalty, widen=_with_ones, eye=None):
    n_classes = int(max(y_train.max(), y_test.max())) + 1
    weights = _weights(widen(x_train), y_train, n_classes, penalty, eye)
    said = (widen(x_test) @ weights).argmax(-1)
    return (said == y_test).double().mean().item()


@exercise.mistake(
    "You return how many of the training rows are right. A probe with many columns knows those by "
    "heart: what it reads is seen on the test rows."
)
def train_accuracy(x_train, y_train, x_test, y_test, penalty=1.0):
    return _probe(x_train, y_train, x_train, y_train, penalty)


@exercise.mistake(
    "You fit the probe on the test rows, too. They are there to see what it says of rows that it "
    "has not learned from."
)
def fits_on_everything(x_train, y_train, x_test, y_test, penalty=1.0):
    x, y = torch.cat((x_train, x_test)), torch.cat((y_train, y_test))
    return _probe(x, y, x_test, y_test, penalty)


@exercise.mistake(
    "You leave out the column of ones: your probe can only cut through 0. It belongs behind the "
    "training rows and the test rows."
)
def no_ones(x_train, y_train, x_test, y_test, penalty=1.0):
    return _probe(x_train, y_train, x_test, y_test, penalty, widen=lambda x: x)


@exercise.mistake("You leave out the penalty. It is added to the diagonal of XᵀX.")
def no_penalty(x_train, y_train, x_test, y_test, penalty=1.0):
    return _probe(x_train, y_train, x_test, y_test, 1e-6)


@exercise.mistake("You always use a penalty of 1. It is an argument: use `penalty`.")
def penalty_of_one(x_train, y_train, x_test, y_test, penalty=1.0):
    return _probe(x_train, y_train, x_test, y_test, 1.0)


@exercise.mistake(
    "Your penalty grows with the number of rows: it is multiplied by it, or the sums are means. It "
    "is added as it is, to a sum over all rows."
)
def penalty_times_rows(x_train, y_train, x_test, y_test, penalty=1.0):
    return _probe(x_train, y_train, x_test, y_test, penalty * len(x_train))


@exercise.mistake(
    "You add the penalty to every number of XᵀX. It stands on the diagonal alone: penalty · I."
)
def penalty_everywhere(x_train, y_train, x_test, y_test, penalty=1.0):
    every = torch.ones(x_train.shape[1] + 1, x_train.shape[1] + 1, dtype=x_train.dtype)
    tiny = 1e-6 * torch.eye(x_train.shape[1] + 1, dtype=x_train.dtype)
    return _probe(x_train, y_train, x_test, y_test, 1.0, eye=penalty * every + tiny)


@exercise.mistake(
    "The column of ones has no penalty with you, or you take the columns' means away, which is the "
    "same. Here |W|² has all of W: the diagonal is `penalty` everywhere."
)
def ones_without_penalty(x_train, y_train, x_test, y_test, penalty=1.0):
    eye = torch.eye(x_train.shape[1] + 1, dtype=x_train.dtype)
    eye[-1, -1] = 0
    return _probe(x_train, y_train, x_test, y_test, penalty, eye=eye)


@exercise.mistake(
    "You fit one column to the numbers of the classes and round what it says. That takes class 2 "
    "for a mean of 1 and 3: give every class a column of its own."
)
def regression_on_numbers(x_train, y_train, x_test, y_test, penalty=1.0):
    x = _with_ones(x_train)
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + penalty * eye, x.T @ y_train.to(x.dtype))
    said = (_with_ones(x_test) @ weights).round()
    return (said == y_test).double().mean().item()


@exercise.mistake(
    "You return how many are right, not which share: divide by the number of test rows."
)
def number_not_share(x_train, y_train, x_test, y_test, penalty=1.0):
    return len(x_test) * _probe(x_train, y_train, x_test, y_test, penalty)


@exercise.mistake("You return the share that is wrong. It is the share that is right.")
def share_of_errors(x_train, y_train, x_test, y_test, penalty=1.0):
    return 1 - _probe(x_train, y_train, x_test, y_test, penalty)


# --- Right alternatives --------------------------------------------------------------------------


@exercise.alternative
def by_lstsq(x_train, y_train, x_test, y_test, penalty=1.0):
    n, d = x_train.shape
    classes = int(torch.cat((y_train, y_test)).max()) + 1
    x = torch.cat((x_train, torch.ones(n, 1, dtype=x_train.dtype)), dim=1)
    y = torch.zeros(n, classes, dtype=x.dtype)
    y[torch.arange(n), y_train] = 1
    more = penalty**0.5 * torch.eye(d + 1, dtype=x.dtype)
    nothing = torch.zeros(d + 1, classes, dtype=x.dtype)
    w = torch.linalg.lstsq(torch.cat((x, more)), torch.cat((y, nothing))).solution
    said = (x_test @ w[:-1] + w[-1]).argmax(dim=1)
    return float((said == y_test).sum() / len(y_test))


@exercise.alternative
def by_inverse(x_train, y_train, x_test, y_test, penalty=1.0):
    x = torch.nn.functional.pad(x_train.double(), (0, 1), value=1.0)
    test = torch.nn.functional.pad(x_test.double(), (0, 1), value=1.0)
    y = torch.eye(int(y_train.max()) + 1, dtype=torch.float64)[y_train]
    w = torch.inverse(x.T @ x + penalty * torch.eye(x.shape[1]).double()) @ x.T @ y
    hits = [
        int(torch.argmax(row @ w)) == int(label) for row, label in zip(test, y_test, strict=True)
    ]
    return sum(hits) / len(hits)


@exercise.alternative
def by_kernel(x_train, y_train, x_test, y_test, penalty=1.0):
    """Ridge regression by the rows' products with each other."""
    x, test = _with_ones(x_train).double(), _with_ones(x_test).double()
    y = torch.nn.functional.one_hot(y_train).double()
    dual = torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x)).double(), y)
    return ((test @ x.T @ dual).argmax(-1) == y_test).float().mean().item()
