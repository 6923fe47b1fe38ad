"""Every rewrite there is, by the name a target profile uses."""

from __future__ import annotations

from collections.abc import Callable

from edgepack.passes.tune.affine import fold_affine
from edgepack.passes.tune.averages import multiply_averages
from edgepack.passes.tune.channel_pads import convolve_channel_pads
from edgepack.passes.tune.clamps import convolve_clamps
from edgepack.passes.tune.columns import merge_columns
from edgepack.passes.tune.deconv import convolve_transposed
from edgepack.passes.tune.frames import slice_frames
from edgepack.passes.tune.gates import widen_gates
from edgepack.passes.tune.gelu import order_gelu
from edgepack.passes.tune.gemm import join_bias
from edgepack.passes.tune.graph import Graph
from edgepack.passes.tune.lanes import fill_blocks, fill_lanes
from edgepack.passes.tune.layer_norm import name_layer_norm
from edgepack.passes.tune.pads import fold_pads
from edgepack.passes.tune.prelu import split_prelu
from edgepack.passes.tune.products import multiply_pointwise
from edgepack.passes.tune.resize import resize_later
from edgepack.passes.tune.scale_shift import convolve_scale_shift
from edgepack.passes.tune.separable import join_separable
from edgepack.passes.tune.thin import split_thin_conv
from edgepack.passes.tune.transposes import join_transposes
from edgepack.passes.tune.unread import drop_unread
from edgepack.passes.tune.views import merge_views
from edgepack.passes.tune.winograd import convolve_bands

#: Each changes the graph wherever it can and gives how often it did.
REWRITES: dict[str, Callable[[Graph], int]] = {
    "affine": fold_affine,
    "averages": multiply_averages,
    "blocks": fill_blocks,
    "channel_pads": convolve_channel_pads,
    "clamps": convolve_clamps,
    "columns": merge_columns,
    "deconv": convolve_transposed,
    "frames": slice_frames,
    "gates": widen_gates,
    "gelu": order_gelu,
    "lanes": fill_lanes,
    "layer_norm": name_layer_norm,
    "gemm": join_bias,
    "pads": fold_pads,
    "prelu": split_prelu,
    "products": multiply_pointwise,
    "resize": resize_later,
    "scale_shift": convolve_scale_shift,
    "separable": join_separable,
    "thin_conv": split_thin_conv,
    "transposes": join_transposes,
    "unread": drop_unread,
    "views": merge_views,
    "winograd": convolve_bands,
}
