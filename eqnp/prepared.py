"""A network with its weights and its input fixed: what a step needs, computed in place.

Weights and input do not change during a relaxation, so a network is first *prepared* with them: the drive of the static
input is computed once, and all buffers are made once. ``eqnp.step`` then steps it and ``eqnp.derivatives``
differentiates a step. ``eqnp.dropout`` explains the masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from eqnp.backends.backend import Array, array_module
from eqnp.backends.blocks import part_of
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Winner
from eqnp.dropout import Masks, scaled_masks, weight_scales
from eqnp.graph import Edge
from eqnp.inputs import require_input, require_masks, require_parameters, require_states, require_target
from eqnp.links import Link
from eqnp.networks import Gradient, Network, Parameters, States
from eqnp.ops.moves import Move

Beta = complex | Array  # a number, or one per sample (N, 1)


@dataclass(frozen=True)
class Moves:
    """How a step moves the layers: ``omega`` times as far (``eqnp.ops.moves``), to the arrays ``out`` if given.

    ``out`` are s^1 .. s^L to write to, each (N, ...), none of them among the states that the step reads. How far each
    layer moved, max |s' - s|, is added to ``sizes`` as an array with no axes.
    """

    omega: float = 1.0
    out: States | None = None
    sizes: list[Array] | None = None


class PreparedWeights:
    """A network's parameters as its connections take them. They are only read: all shards of a batch share them.

    With ``dropout`` the weights that leave a masked layer are divided by its keep-probability, if weights are scaled.

    Raises:
        ValueError: names, shapes, dtypes or array modules are not those that the network needs.
    """

    def __init__(self, network: Network, parameters: Parameters, dropout: bool = False) -> None:
        require_parameters(parameters, network.architecture.parameter_shapes())
        self.network = network
        self.dropout = dropout
        self.scales = weight_scales(network.architecture) if dropout else {}
        self.parameters = {k: w * self.scales[k] if k in self.scales else w for k, w in parameters.items()}
        self._prepared = {}
        for edge, connection in zip(network.edges, network.connections, strict=True):
            for name in {f"{edge.name}.weight", self._down(edge)}:
                self._prepared[name] = connection.prepare(self.parameters[name])

    def links(self) -> list[Link]:
        """Return every connection with its weights, and with buffers of its own."""
        scratch = Workspace()
        return [
            Link(
                connection,
                self._prepared[f"{edge.name}.weight"],
                self.parameters[edge.bias] if edge.bias else None,
                self._prepared[self._down(edge)] if edge.lower else None,
                scratch,
                self.network.own_winners and edge.lower > 0,
                down_factor=self.network.architecture.weakening(edge),
            )
            for edge, connection in zip(self.network.edges, self.network.connections, strict=True)
        ]

    def _down(self, edge: Edge) -> str:
        """Return the name of the weights that feed back along an edge: nothing is fed back to the input."""
        return self.network.feedback_name(edge) if edge.lower else f"{edge.name}.weight"


class PreparedNetwork:
    """A network with its weights and input x (N, ...) fixed, and the buffers of its steps. For one thread.

    ``parameters`` may be prepared already; then they must be prepared for ``masks`` if there are any, and only then.

    Raises:
        ValueError: x, masks or parameters do not fit the network or each other; the message names the shapes.
    """

    def __init__(
        self, network: Network, parameters: Parameters | PreparedWeights, x: Array, masks: Masks | None = None
    ) -> None:
        self.network = network
        self.x = x
        self.masks = None if masks is None else scaled_masks(masks, network.architecture)
        if not isinstance(parameters, PreparedWeights):
            parameters = PreparedWeights(network, parameters, dropout=masks is not None)
        if parameters.network is not network:
            raise ValueError("the weights were prepared for another network; prepare them for this one")
        if parameters.dropout != (masks is not None):
            given = "no masks" if masks is None else "masks"
            raise ValueError(f"the weights were prepared with dropout={parameters.dropout}, but there are {given}")
        self._weights, self.parameters = parameters, parameters.parameters
        require_input(x, network.architecture.input_shape, self.parameters[f"{network.edges[0].name}.weight"])
        require_masks(masks, network.architecture.state_shapes, x)
        self.colours = network.colours  # the order in which a sweep moves the states
        self._make_buffers()
        # The input does not move: neither do its drives and the winners of its windows. No other link uses these
        # workspaces.
        links = parameters.links()
        self.from_input = {e: links[e].drive(x) for e in network.from_input}

    def zero_states(self) -> list[Array]:
        """Return zeros (N, ...) for every state."""
        return self.network.zero_states(self.x)

    def repeated(self, times: int) -> PreparedNetwork:
        """Return the same network with its samples repeated ``times`` times, one set after the other."""
        twin = copy(self)
        twin.x = _repeat(self.x, times)
        twin.from_input = {
            e: (_repeat(d, times), None if winner is None else _repeat(winner, times))
            for e, (d, winner) in self.from_input.items()
        }
        twin.masks = self.masks and [None if mask is None else _repeat(mask, times) for mask in self.masks]
        twin._make_buffers()
        return twin

    def with_links(
        self,
        links: list[Link],
        from_input: dict[int, tuple[Array, Winner]],
        colours: tuple[tuple[int, ...], ...],
    ) -> PreparedNetwork:
        """Return the same samples with other links, other constant drives and another order of sweeps."""
        twin = copy(self)
        twin.links, twin.from_input, twin.colours = links, from_input, colours
        return twin

    def require_target(self, target: Array) -> None:
        """Check that ``target`` is (N, K) for the samples of x.

        Raises:
            ValueError: it has another shape, dtype or array module, or, on the host, a number that is not finite.
        """
        require_target(target, len(self.x), self.network.architecture.classes, self.x)

    def require_states(self, states: States) -> None:
        """Check that ``states`` are s^1 .. s^L, each (N, ...), for the samples of x.

        Raises:
            ValueError: their number, a shape, a dtype or an array module is another.
        """
        require_states(states, self.network.architecture.state_shapes, self.x)

    def below(self, e: int, states: States) -> Array:
        """Return what edge ``e`` starts from, (N, ...): a state or the input."""
        lower = self.network.edges[e].lower
        return states[lower - 1] if lower else self.x

    def above(self, e: int, states: States) -> Array:
        """Return the state that edge ``e`` leads to, (N, ...)."""
        return states[self.network.edges[e].upper - 1]

    def unscaled(self, gradient: Gradient) -> Gradient:
        """Return a gradient by the weights in use as one by the parameters: divided by keep-probabilities, if masked.

        The arrays are changed in place.
        """
        for name, scale in self._weights.scales.items():
            if name in gradient:
                gradient[name] *= scale
        return gradient

    # ---- the parts of a step; what they return are buffers, valid until the next call

    def drive(self, e: int, states: States, unchanged: bool = False) -> tuple[Array, Winner]:
        """Return the drive along edge ``e``, of the shape of the state above (N, ...), and its winners.

        ``unchanged``: no array of the states has changed since a drive was computed from it (``Link.drive``).
        """
        return self.from_input[e] if e in self.from_input else self.links[e].drive(self.below(e, states), unchanged)

    def drives(self, states: States) -> tuple[list[Array], list[Winner]]:
        """Return the drive along every edge, each (N, ...), and the winners found on the way."""
        found = [self.drive(e, states) for e in range(len(self.links))]
        return [d for d, _ in found], [winner for _, winner in found]

    def winner(self, e: int, states: States) -> Winner:
        """Return the winners of the drive along edge ``e`` (N, ...), None if it has no maximum."""
        return self.from_input[e][1] if e in self.from_input else self.links[e].winners(self.below(e, states))

    def winners(self, states: States) -> list[Winner]:
        """Return the winners of the drive along every edge, without the drives that no winner needs."""
        return [self.winner(e, states) for e in range(len(self.links))]

    def feedback_winner(self, e: int, states: States, winners: Sequence[Winner]) -> Winner:
        """Return where the feedback along ``e`` puts its values: at the drive's ``winners``, or at its own."""
        if e in self.from_input:
            return None  # nothing is fed back to x
        return self.links[e].feedback_winners(self.below(e, states)) if self.network.own_winners else winners[e]

    def feedback_winners(self, states: States, winners: Sequence[Winner]) -> list[Winner]:
        """Return the winners of the feedback along every edge; None for those from the input."""
        return [self.feedback_winner(e, states, winners) for e in range(len(self.links))]

    def nudge(self, states: States, beta: Beta, target: Array | None) -> Array | None:
        """Return beta dl/ds^L (N, ...) for a target (N, K), None in a free phase."""
        if target is None:
            return None
        nudge = self.network.dl_ds(self.parameters, states, target, self._space)
        scale: Array = beta
        if getattr(scale, "ndim", 0):
            scale = scale.reshape(-1, *[1] * (nudge.ndim - 1))  # (N, 1) -> (N, 1, 1, 1) on a state with places
        nudge *= scale
        return nudge

    def field(self, n: int, states: States, drives: Sequence[Array], places: Sequence[Winner]) -> Array:
        """Return F of state n (N, ...), its drives plus its feedbacks; ``drives`` and winners ``places`` by edge."""
        into, out_of = self.network.into[n], self.network.out_of[n]
        return self._sum(n, states, [drives[e] for e in into], {e: places[e] for e in out_of})

    def move(
        self,
        n: int,
        states: States,
        drives: Sequence[Array],
        places: Mapping[int, Winner],
        nudge: Array | None,
        moves: Moves,
    ) -> Array:
        """Return state n (N, ...) moved by its drives, its feedbacks and the ``nudge``.

        ``drives`` are those of the edges into it; ``places`` has the edges out of it that feed something back, and the
        winners of this feedback. The sum and sigma are taken block by block, while the feedback of one edge is in the
        cache. A state that is nudged is never over-relaxed: the loss adds its curvature to that of the energy.
        """
        omega, is_last = self._omega(n, moves, nudge), n + 1 == len(states)
        out = array_module(states[n]).empty_like(states[n]) if moves.out is None else moves.out[n]
        old = states[n] if moves.omega == 1 else self._before_mask(n, states[n])
        measured = moves.sizes is not None and self._mask_of(n) is None
        move = Move(self.network.activations[n], old, out, omega, measured)
        addends, heard = list(drives), list(places)
        for e in heard[1:]:
            addends.append(self.links[e].feedback(self.above(e, states), places[e]))
        if heard:
            e = heard[0]
            size = self.links[e].move_below(self.above(e, states), places[e], addends, move)
        else:
            size = self.links[self.network.into[n][0]].move_above(addends, nudge if is_last else None, move)
        self._mask_layer(n, out)
        if moves.sizes is not None:
            moves.sizes.append(abs(out - states[n]).max() if size is None else size)
        return out

    def mask(self, arrays: Sequence[Array]) -> None:
        """Multiply arrays of the states' shapes by the masks, in place: zeros where units are masked."""
        for n, a in enumerate(arrays):
            self._mask_layer(n, a)

    # ---- inside

    def _make_buffers(self) -> None:
        self.links = self._weights.links()
        self._space = Workspace()

    def _sum(self, n: int, states: States, drives: Sequence[Array], places: Mapping[int, Winner]) -> Array:
        """Return the ``drives`` of the edges into state n plus the feedbacks along the edges of ``places``, there."""
        xp = array_module(states[n])
        u = self._space.take(n, states[n].shape, states[n])
        u[...] = drives[0]
        for d in drives[1:]:
            u += d
        for e, place in places.items():
            for block, f in self.links[e].feedback_blocks(self.above(e, states), place):
                part = part_of(u, block)  # one object: CuPy copies an input that only shares its memory with the output
                xp.add(part, f, out=part)
        return u

    def _omega(self, n: int, moves: Moves, nudge: Array | None) -> float:
        """Return how far state n moves: a state that is nudged is never over-relaxed."""
        is_nudged = nudge is not None and n + 1 == len(self.network.activations)
        return min(moves.omega, 1.0) if is_nudged else moves.omega

    def _before_mask(self, n: int, s: Array) -> Array:
        """Return sigma's own value (N, ...) of a state s^{n+1} that its mask has scaled."""
        architecture = self.network.architecture
        if self._mask_of(n) is None or architecture.dropout_scaling != "states":
            return s
        out = self._space.take(("before mask", n), s.shape, s)
        return array_module(s).multiply(s, architecture.keep[n], out=out)

    def _mask_layer(self, n: int, a: Array) -> None:
        if (mask := self._mask_of(n)) is not None:
            a *= mask

    def _mask_of(self, n: int) -> Array | None:
        return None if self.masks is None else self.masks[n]


def _repeat(a: Array, times: int) -> Array:
    return array_module(a).concatenate([a] * times)
