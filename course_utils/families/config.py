"""The numbers of a config.json: what must be there, and what our parts do not build."""

from typing import Any

Config = dict[str, Any]  # a model's config.json

_FRACTIONS = ("layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps", "rope_theta")


def need(config: Config, *names: str) -> None:
    """See that the numbers are there. Some may be fractions, all others are sizes."""
    for name in names:
        is_size = name not in _FRACTIONS
        value = config.get(name)
        if not isinstance(value, int if is_size else (int, float)) or value <= 0:
            there = f"says {name} = {value!r}" if name in config else f"has no {name}"
            kind = "a whole number" if is_size else "a number"
            raise ValueError(f"config.json {there}; {kind} above 0 is needed")


def require(config: Config, **wanted: object) -> None:
    """Refuse a variant that our parts would compute wrongly."""
    if config.get("quantization_config"):
        raise ValueError("config.json says that the weights are quantised; take the original ones")
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"config.json says {name} = {config[name]!r}; only {value!r} is built here"
            )


def rope(config: Config) -> Config:
    """What a config.json says of its rotary positions: `rope_theta`, and perhaps more.

    transformers 5 keeps them together in rope_parameters. Older files have rope_theta beside the
    other numbers, and rope_scaling where positions are stretched, which is not built here.
    """
    key = next((key for key in ("rope_parameters", "rope_scaling") if config.get(key)), "")
    said = config.get(key, {})
    kind = said.get("rope_type", said.get("type", "default"))
    if kind != "default":
        raise ValueError(
            f"config.json says {key} of the type {kind!r}; only 'default' is built here"
        )
    found = {"rope_theta": config.get("rope_theta", 10000.0)} | said
    need(found, "rope_theta")
    return found
