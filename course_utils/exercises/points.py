"""What many cases ask beyond the plain ones: the `point` of a `Case`, where it is a usual one."""

# --- of tensors ----------------------------------------------------------------------------------

AXIS_OF_ONE = "An axis of size 1 stays: `squeeze` without an axis takes every one of them away."
OTHER_ORDER = (
    "The numbers may lie in memory in another order, as after a transpose: `reshape` takes them "
    "so, `view` does not."
)
FLOAT64 = "float64 comes back as float64, with all its digits: nothing on the way is float32."
SAME_DTYPE = (
    "The dtype stays: float64 comes back as float64, bfloat16 as bfloat16. `.float()`, and a new "
    "tensor for which nobody names a dtype, are float32."
)
EQUAL_SIZES = (
    "Two sizes may be equal, and then a wrong axis fits as well as the right one: tell axes apart "
    "by their place, not by their size."
)

# --- of blocks and models ------------------------------------------------------------------------

POST_NORM = (
    "In a post-norm block every step is norm(x + f(x)), in a pre-norm block x + f(norm(x)). "
    "`encoder.residual_step` takes `self.norm_first` as its last argument, in each step."
)
SAME_MASK = (
    "Every attention gets the mask of this call as it is, however many axes it has, and None where "
    "there is none. Nothing is kept from an earlier call."
)
BLOCKS_AS_GIVEN = (
    "Blocks and norm are called as they were given: a post-norm block, or a norm that does "
    "nothing, is no case of its own."
)
NO_BLOCKS = (
    "There may be no blocks at all: what comes before and after the loop does not depend on it."
)
