"""training.init_weights: how large weights are at the start."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from course_utils import decoder, encoder
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "training.init_weights",
    used_by="every model that you train from here on",
    hints=(
        "`model.named_parameters()` gives every weight with its name. Matrices and tables have two "
        "axes, biases and gains have one.",
        "`nn.init.normal_(weight, std=0.02)` fills a weight in place, and `nn.init.zeros_` sets it "
        "to 0. Neither asks for a gradient.",
        "What writes to the residual stream has a name that ends with `w_o.weight` or "
        "`down.weight`. Text has a method `endswith`, which also takes a tuple.",
        "A layer writes to the stream twice. Variances of independent numbers add up, so a "
        "standard deviation of 0.02 / √(2 · n_layers) keeps their sum the same at any depth.",
    ),
)


WIDTH = 96  # so many numbers a matrix that chance moves its standard deviation by under 1 %


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        measure: Callable[[nn.Module], Tensor],
        wanted: Tensor,
        point: str,
        n_blocks: int = 1,
        n_layers: int | None = None,
    ) -> Case:
        n_layers = n_blocks if n_layers is None else n_layers
        use = partial(_measured, measure, n_blocks)
        call = f"init_weights(model, n_layers={n_layers})"
        return Case(title, {"n_layers": n_layers}, lambda n_layers: wanted, use, call, point=point)

    def deviations(title: str, n_blocks: int, n_layers: int, writers: bool) -> Case:
        """As in GPT-2: 0.02, and by √(2 · layers) less in what is added to the stream."""
        count = 2 * n_blocks if writers else 4 * n_blocks + 5
        value = 20 / math.sqrt(2 * n_layers) if writers else 20.0
        wanted = torch.full((count,), value, dtype=torch.bfloat16)
        measure = partial(_deviations, of_writers=writers)
        point = of_writers if writers else of_others
        return case(title, measure, wanted, point, n_blocks, n_layers)

    def few(*numbers: float) -> Tensor:
        return torch.tensor(numbers, dtype=torch.bfloat16)

    of_writers = (
        "`w_o` and `down` have the standard deviation 0.02 / √(2 · n_layers): a layer writes to "
        "the stream twice, and it is variances that add up."
    )
    of_others = (
        "Only vectors whose name ends with `bias` become 0. A norm's gain, a vector too, stays as "
        "it is, and all else with more than one axis, tables too, has the standard deviation 0.02."
    )
    normal = (
        "The numbers are normal around 0, not cut off: 4.55 % of them are more than two standard "
        "deviations away."
    )
    independent = (
        "Every weight is drawn anew, and no seed is set: otherwise two weights, or two models, "
        "begin with the same numbers."
    )
    reads = "standard deviations of what reads the stream, in thousandths"
    writes = "standard deviations of w_o and down, in thousandths"
    gains = _gains(_model_to_fill(2))
    both = "init_weights(model, n_layers=1) for two models, each after a seed of its own"
    return [
        deviations(writes, 1, 1, True),
        deviations(reads, 1, 1, False),
        deviations(f"{writes}, three blocks", 3, 3, True),
        deviations(f"{reads}, three blocks", 3, 3, False),
        deviations(f"{writes}, two blocks of a model of eight", 2, 8, True),
        case("the largest number in each bias", _largest_bias, torch.zeros(18), of_others, 2),
        case("gains of the norms, which stay as they are", _gains, gains, of_others, 2),
        case("means, measured in standard deviations", _means, few(*[0.0] * 11), normal),
        case("per cent that are more than two deviations from 0", _far_out, few(4.55)[0], normal),
        case(
            "how alike w_q, w_k, w_v and w_o are",
            _likeness,
            torch.zeros(5, 5).bfloat16(),
            independent,
        ),
        Case(
            "how alike two models are",
            {"n_layers": 1},
            lambda _: few(0.0)[0],
            _two_models,
            both,
            point=independent,
        ),
    ]


def _model_to_fill(n_blocks: int) -> nn.Module:
    """A GPT with gains far from 1 and biases far from 0, and two names that look like a bias's.

    One weight has three axes.
    """
    model = decoder.gpt(2 * WIDTH, WIDTH, 4, n_blocks, WIDTH)
    model.relative_bias = nn.Embedding(2 * WIDTH, WIDTH)
    model.filters = nn.Parameter(inputs.normal(3, WIDTH, WIDTH))
    model.unbiased_norm = encoder.LayerNorm(WIDTH)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            if weight.ndim == 1:
                weight.copy_(inputs.normal(len(weight), seed=number))
    return model


def _measured(measure: Callable[[nn.Module], Any], n_blocks: int, part: Part, n_layers: int) -> Any:
    model = _model_to_fill(n_blocks)
    before = [weight.detach().clone() for weight in model.parameters()]
    places = [weight.data_ptr() for weight in model.parameters()]
    part(model, n_layers)
    if places != [weight.data_ptr() for weight in model.parameters()]:
        raise Wrong(
            "Your code puts new tensors into the parameters, and whoever holds the old ones sees "
            "nothing of it. Write into what is there, for example with `nn.init.normal_`."
        )
    if all(map(torch.equal, before, model.parameters())):
        raise Wrong(
            "Your code changes no weight of the model. It writes into the weights that are there, "
            "for example with `nn.init.normal_`, and need not return anything."
        )
    return measure(model)


def _two_models(part: Part, n_layers: int) -> Tensor:
    """The mean of the products of two models' numbers, drawn after two seeds. 0 if independent."""
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        matrices = _measured(_matrices_of_blocks, 1, part, n_layers)
        drawn.append(torch.cat([matrix.flatten() for matrix in matrices]))
    return (drawn[0] * drawn[1]).mean().bfloat16()


def _writes_to_stream(name: str) -> bool:
    return name.endswith(("w_o.weight", "down.weight"))


def _deviations(model: nn.Module, of_writers: bool) -> Tensor:
    """Standard deviation of each matrix in thousandths, with few digits: chance decides on them."""
    found = [
        1000 * weight.std()
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and _writes_to_stream(name) == of_writers
    ]
    return torch.stack(found).detach().bfloat16()


def _matrices(model: nn.Module) -> list[Tensor]:
    """Every matrix, in units of its standard deviation; one of zeros stays as it is."""
    found = [weight.detach() for weight in model.parameters() if weight.ndim > 1]
    return [weight / (weight.std() or 1.0) for weight in found]


def _matrices_of_blocks(model: nn.Module) -> list[Tensor]:
    return _matrices(model.get_submodule("blocks"))


def _means(model: nn.Module) -> Tensor:
    return torch.stack([matrix.mean() for matrix in _matrices(model)]).bfloat16()


def _far_out(model: nn.Module) -> Tensor:
    """How many in a hundred are further than two standard deviations from 0."""
    numbers = torch.cat([matrix.flatten() for matrix in _matrices(model) if matrix.any()])
    return (100 * (numbers.abs() > 2).float().mean()).bfloat16()


def _likeness(model: nn.Module) -> Tensor:
    """How alike the square matrices are: the mean of the products, 0 for independent ones."""
    squares = [matrix for matrix in _matrices(model) if matrix.shape == (WIDTH, WIDTH)]
    flat = torch.stack(squares).flatten(1)
    return (flat @ flat.T / flat.shape[1]).triu(1).bfloat16()


def _largest_bias(model: nn.Module) -> Tensor:
    biases = [weight for name, weight in model.named_parameters() if name.endswith("bias")]
    return torch.stack([bias.abs().max() for bias in biases]).detach()


def _gains(model: nn.Module) -> Tensor:
    norms = [module for module in model.modules() if isinstance(module, encoder.LayerNorm)]
    return torch.stack([norm.weight.detach() for norm in norms])


def _fill(
    model, n_layers, draw=nn.init.normal_, std=0.02, writers=None, bias=nn.init.zeros_, gain=None
):
    """Right. The mistakes below draw other numbers, or otherwise."""
    writers = 0.02 / math.sqrt(2 * n_layers) if writers is None else writers
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            draw(weight, std=writers if _writes_to_stream(name) else std)
        elif name.endswith("bias"):
            bias(weight)
        elif gain:
            gain(weight)


@exercise.mistake(
    "Your numbers are fifty times too small: you square 0.02. It is the standard deviation, and "
    "`normal_` takes that, not the variance."
)
def std_instead_of_variance(model, n_layers):
    _fill(model, n_layers, std=0.02**2, writers=0.02**2 / math.sqrt(2 * n_layers))


@exercise.mistake(
    "Your numbers have the standard deviation 1, which is what `normal_` takes if nobody says "
    "otherwise. The first scores would be huge, and the loss far above ln V."
)
def std_one(model, n_layers):
    _fill(model, n_layers, std=1.0, writers=1 / math.sqrt(2 * n_layers))


@exercise.mistake(
    "You divide all matrices by √(2 · n_layers). Only `w_o` and `down` add to the residual stream: "
    "the others keep 0.02."
)
def scales_everything(model, n_layers):
    _fill(model, n_layers, std=0.02 / math.sqrt(2 * n_layers))


@exercise.mistake(
    "You treat `w_o` and `down` like all others. What they write adds up layer by layer: divide "
    "their standard deviation by √(2 · n_layers)."
)
def residual_not_scaled(model, n_layers):
    _fill(model, n_layers, writers=0.02)


@exercise.mistake(
    "You divide by √n_layers. Every layer writes to the stream twice, after attention and after "
    "the feed-forward net: √(2 · n_layers)."
)
def scaled_by_root_of_layers(model, n_layers):
    _fill(model, n_layers, writers=0.02 / math.sqrt(n_layers))


@exercise.mistake(
    "You divide by 2 · n_layers. It is variances that add up, so the standard deviation is divided "
    "by the root."
)
def scaled_without_root(model, n_layers):
    _fill(model, n_layers, writers=0.02 / (2 * n_layers))


def _not_scaled(model, ending):
    for name, weight in model.named_parameters():
        if name.endswith(ending):
            nn.init.normal_(weight, std=0.02)


@exercise.mistake("You scale `w_o` and forget `down`, which writes to the stream as well.")
def scales_attention_only(model, n_layers):
    _fill(model, n_layers)
    _not_scaled(model, "down.weight")


@exercise.mistake("You scale `down` and forget `w_o`, which writes to the stream as well.")
def scales_feed_forward_only(model, n_layers):
    _fill(model, n_layers)
    _not_scaled(model, "w_o.weight")


@exercise.mistake(
    "You fill the gains of the norms with small random numbers. They are called weight too, but "
    "have one axis only: leave them, or every layer shrinks what it reads."
)
def norm_gain_randomised(model, n_layers):
    _fill(model, n_layers, gain=partial(nn.init.normal_, std=0.02))


@exercise.mistake(
    "You set everything with one axis to 0. That includes the gains of the norms, and then nothing "
    "gets through. Only the biases become 0."
)
def gains_set_to_zero(model, n_layers):
    _fill(model, n_layers, gain=nn.init.zeros_)


@exercise.mistake(
    "You set everything to 0 that has bias in its name, tables too: a relative bias is one. Ask "
    "for more than one axis first, and for names that end with `bias` then."
)
def zeroes_names_with_bias(model, n_layers):
    _fill(model, n_layers)
    for name, weight in model.named_parameters():
        if "bias" in name:
            nn.init.zeros_(weight)


@exercise.mistake(
    "You set vectors to 0 that have bias somewhere in their name, a norm's gain among them. Only "
    "names that end with `bias` are biases."
)
def zeroes_vectors_with_bias(model, n_layers):
    _fill(model, n_layers)
    for name, weight in model.named_parameters():
        if weight.ndim == 1 and "bias" in name:
            nn.init.zeros_(weight)


@exercise.mistake(
    "You draw only what has exactly two axes. A table may have three: ask for more than one, "
    "`ndim > 1`."
)
def only_two_axes(model, n_layers):
    _fill(
        model,
        n_layers,
        draw=lambda weight, std: weight.ndim == 2 and nn.init.normal_(weight, std=std),
    )


@exercise.mistake("You leave the biases. They become 0.")
def biases_left(model, n_layers):
    _fill(model, n_layers, bias=lambda weight: None)


@exercise.mistake(
    "You fill the biases with random numbers. They become 0: nothing is preferred yet."
)
def biases_randomised(model, n_layers):
    _fill(model, n_layers, bias=partial(nn.init.normal_, std=0.02))


def _fill_module(path, module, n_layers):
    scale = math.sqrt(2 * n_layers) if path.endswith(("w_o", "down")) else 1.0
    nn.init.normal_(module.weight, std=0.02 / scale)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)


@exercise.mistake(
    "You fill `nn.Linear` only. The tables of tokens and positions keep the standard deviation 1, "
    "fifty times that of all else."
)
def tables_left(model, n_layers):
    _fill(model, n_layers, draw=lambda weight, std: None)
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            _fill_module(path, module, n_layers)


@exercise.mistake(
    "You fill `nn.Linear` and `nn.Embedding` only. The table of positions and the biases of norms "
    "belong to neither: `model.named_parameters()` gives every weight."
)
def other_modules_left(model, n_layers):
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            _fill_module(path, module, n_layers)


@exercise.mistake(
    "You draw evenly between -0.02 and 0.02. The numbers are normal, and 0.02 is their standard "
    "deviation: `nn.init.normal_`."
)
def uniform(model, n_layers):
    _fill(model, n_layers, draw=lambda weight, std: nn.init.uniform_(weight, -std, std))


@exercise.mistake(
    "Your numbers are cut off at two standard deviations, so they are not normal, and what is left "
    "has a standard deviation of 0.88 times what you asked for. `nn.init.normal_` cuts nothing "
    "off; `trunc_normal_` has limits of its own, in absolute numbers."
)
def cut_off_at_two_deviations(model, n_layers):
    def draw(weight, std):
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    _fill(model, n_layers, draw=draw)


@exercise.mistake(
    "You use Xavier's rule, which depends on the shape. GPT-2 takes 0.02 for all matrices."
)
def xavier(model, n_layers):
    _fill(model, n_layers, draw=lambda weight, std: nn.init.xavier_uniform_(weight))


@exercise.mistake(
    "You set the seed for each weight, so all begin with the same numbers. Then w_q and w_k are "
    "one matrix, and every token looks at itself."
)
def same_numbers_everywhere(model, n_layers):
    def draw(weight, std):
        torch.manual_seed(0)
        nn.init.normal_(weight, std=std)

    _fill(model, n_layers, draw=draw)


@exercise.mistake(
    "You set the seed yourself, so every model begins with the same numbers, whatever seed its "
    "user has chosen. Leave that out."
)
def own_seed(model, n_layers):
    torch.manual_seed(0)
    _fill(model, n_layers)


@exercise.mistake(
    "The second argument of `normal_` is the mean. Name the one that you mean: "
    "`nn.init.normal_(weight, std=…)`."
)
def mean_instead_of_std(model, n_layers):
    _fill(model, n_layers, draw=lambda weight, std: nn.init.normal_(weight, std))


@exercise.mistake(
    "`weight = …` gives a name to a new tensor, and the model never sees it. Write into the "
    "weight: `nn.init.normal_(weight, …)`."
)
def new_tensors(model, n_layers):
    for weight in model.parameters():
        weight = 0.02 * torch.randn_like(weight)


@exercise.mistake(
    "PyTorch does not let you write into a weight that wants a gradient. The functions of "
    "`nn.init` may, and so may all code under `torch.no_grad()`."
)
def in_place_with_gradient(model, n_layers):
    for weight in model.parameters():
        weight.normal_(std=0.02)


@exercise.alternative
def init_by_name(model, n_layers):
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.zero_()
        elif weight.dim() >= 2:
            weight.data.normal_(0.0, 0.02)
            if "w_o" in name or "down" in name:
                weight.data.div_((2 * n_layers) ** 0.5)


@exercise.alternative
@torch.no_grad()
def init_by_module(model, n_layers):
    for path, module in model.named_modules():
        kind = path.split(".")[-1]
        for name, weight in module.named_parameters(recurse=False):
            if name == "bias":
                weight.fill_(0)
            elif weight.ndim > 1:
                std = 0.02 * (2 * n_layers) ** -0.5 if kind in ("w_o", "down") else 0.02
                weight.copy_(std * torch.randn(weight.shape))


@exercise.alternative
def init_by_state(model, n_layers):
    state = model.state_dict()
    for name, weight in state.items():
        scale = (0.5 / n_layers) ** 0.5 if name.endswith(("o.weight", "down.weight")) else 1
        if weight.ndim > 1:
            state[name] = torch.empty_like(weight)
            nn.init.trunc_normal_(state[name], std=0.02 * scale)
        elif name.endswith("bias"):
            state[name] = torch.zeros_like(weight)
    model.load_state_dict(state)
