"""What many cases ask beyond the plain ones: the `point` of a `Case`, where it is a usual one."""

AXIS_OF_ONE = "An axis of size 1 stays: `squeeze` without an axis takes every one of them away."
OTHER_ORDER = (
    "The numbers may lie in memory in another order, as after a transpose: `reshape` takes them "
    "so, `view` does not."
)
BFLOAT16 = "bfloat16 comes back as bfloat16, and as exact as it can hold: compute in float32."
FLOAT64 = "float64 comes back as float64, with all its digits: nothing on the way is float32."
SAME_DTYPE = (
    "The dtype stays: float64 comes back as float64, bfloat16 as bfloat16. `.float()`, and a new "
    "tensor for which nobody names a dtype, are float32."
)
EQUAL_SIZES = (
    "Two sizes may be equal, and then a wrong axis fits as well as the right one: tell axes apart "
    "by their place, not by their size."
)
