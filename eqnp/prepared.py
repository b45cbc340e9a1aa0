"""A network with its weights and input fixed: its step, the step's adjoint, and the derivatives by parameters.

    F^n(s) = d_{n-1}(s^{n-1}) + f_n(s^{n+1})         drive from below, feedback from above
    s^n   <- m^n sigma(F^n(s) - beta dl/ds^n)

F is dPhi/ds where a Phi exists. Weights and input stand still during a relaxation, so a network is first *prepared*
with them: the drive of the static input is computed once, and all buffers are made once. Then it is stepped.

Dropout: ``masks`` hold, for every state or None, zeros and ones m (N, ...) that stay as they are through all phases of
a batch. A unit that is masked is not there. Its layer keeps a share q of its units; what makes up for the others is
``Architecture.dropout_scaling``:

    weights    s <- m sigma(F), and the weights that leave the layer upwards are divided by q, both ways
    states     s <- (m / q) sigma(F), and no weight is scaled

Either way the layer above is driven as strongly as by all units. With ``weights`` the feedback that the masked layer
sends down is weaker (by q) and the one that it gets from above is stronger (by 1 / q) than without dropout; with
``states`` both have their size without dropout. Evaluation has no masks and divides by nothing.

Both have a Phi where the whole network has one. With ``states`` s is the scaled state, and the energy of a unit that
is kept is q / 2 |s|^2 instead of 1 / 2 |s|^2 (for a clip), which is stationary where s / (1 / q) = dPhi/ds.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from eqnp.architecture import Architecture
from eqnp.backends.backend import Array, array_module
from eqnp.backends.workspace import Workspace
from eqnp.connections.contract import Winner
from eqnp.inputs import require_input, require_masks, require_parameters, require_states, require_target
from eqnp.networks import Gradient, Network, Parameters, States, accumulate
from eqnp.ops.moves import Move

Beta = float | Array  # a number, or one per sample (N, 1)
Masks = Sequence[Array | None]  # of s^1 .. s^L


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
        self.scales = _scales(network.architecture) if dropout else {}
        self.parameters = {k: w * self.scales[k] if k in self.scales else w for k, w in parameters.items()}
        prepared = {}
        for n, connection in enumerate(network.connections):
            for name in {f"forward.{n}.weight", network.feedback_name(n) if n else f"forward.{n}.weight"}:
                prepared[name] = connection.prepare(self.parameters[name])
        numbers = range(len(network.connections))
        self.upward = [prepared[f"forward.{n}.weight"] for n in numbers]
        self.downward = [prepared[network.feedback_name(n)] if n else None for n in numbers]


class PreparedNetwork:
    """A network with its weights and input fixed, and the buffers of its steps. For one thread.

    ``parameters`` may have been prepared already; then whether there are ``masks`` must be what they were prepared for.

    Raises:
        ValueError: x, masks or parameters do not fit the network or each other; the message names the shapes.
    """

    def __init__(
        self, network: Network, parameters: Parameters | PreparedWeights, x: Array, masks: Masks | None = None
    ) -> None:
        self.network = network
        self.x = x
        self.masks = None if masks is None else _scaled(masks, network.architecture)
        if not isinstance(parameters, PreparedWeights):
            parameters = PreparedWeights(network, parameters, dropout=masks is not None)
        if parameters.network is not network:
            raise ValueError("the weights were prepared for another network; prepare them for this one")
        if parameters.dropout != (masks is not None):
            given = "no masks" if masks is None else "masks"
            raise ValueError(f"the weights were prepared with dropout={parameters.dropout}, but there are {given}")
        self.parameters, self._scales = parameters.parameters, parameters.scales
        self._upward, self._downward = parameters.upward, parameters.downward
        require_input(x, network.architecture.input_shape, self.parameters["forward.0.weight"])
        require_masks(masks, network.architecture.state_shapes, x)
        self._make_buffers()
        # The input does not move: neither do its drive and the winners of its windows. No other call uses this
        # workspace.
        self.input_drive, self.input_winner = self._drive(0, x, Workspace())

    def zero_states(self) -> list[Array]:
        """Return zeros for every state."""
        return self.network.zero_states(self.x)

    def repeated(self, times: int) -> PreparedNetwork:
        """Return the same network with its samples repeated ``times`` times, one set after the other."""
        twin = copy(self)
        twin.x, twin.input_drive, twin.input_winner = (
            _repeat(a, times) for a in (self.x, self.input_drive, self.input_winner)
        )
        twin.masks = None if self.masks is None else [_repeat(mask, times) for mask in self.masks]
        twin._make_buffers()
        return twin

    def require_target(self, target: Array) -> None:
        """Check that ``target`` is (N, K) for the samples of x.

        Raises:
            ValueError: it has another shape, dtype or array module, or, on the host, a number that is not finite.
        """
        require_target(target, len(self.x), self.network.architecture.classes, self.x)

    def require_states(self, states: States) -> None:
        """Check that ``states`` are s^1 .. s^L for the samples of x.

        Raises:
            ValueError: their number, a shape, a dtype or an array module is another.
        """
        require_states(states, self.network.architecture.state_shapes, self.x)

    # ---- the step

    def drives(self, states: States) -> tuple[list[Array], list[Winner]]:
        """Return d_n(s^n) for every connection n, and the winners found on the way. Valid until the next call."""
        drives, winners = [self.input_drive], [self.input_winner]
        for n, s in enumerate(states[:-1], start=1):
            d, winner = self._drive(n, s, self._spaces[n])
            drives.append(d)
            winners.append(winner)
        return drives, winners

    def feedback_winners(self, states: States, winners: Sequence[Winner]) -> list[Winner]:
        """Return the places at which the feedback of every connection puts its values: ``winners``, or its own."""
        return [None, *(self._place(n, s, winners) for n, s in enumerate(states[:-1], start=1))]

    def vector_field(self, states: States, beta: Beta = 0.0, target: Array | None = None) -> list[Array]:
        """Return F - beta dl/ds, drive + feedback - nudging, for every state. Buffers: valid until the next call.

        ``target`` (N, K) is needed where beta is not 0.
        """
        drives, winners = self.drives(states)
        u = self._vector_field(states, drives, self.feedback_winners(states, winners))
        if target is not None:
            u[-1] -= self._nudging(states, beta, target)
        return u

    def step(
        self,
        states: States,
        beta: Beta = 0.0,
        target: Array | None = None,
        out: States | None = None,
        moves: list[Array] | None = None,
        omega: float = 1.0,
    ) -> list[Array]:
        """Return m sigma(F - beta dl/ds): one synchronous step of all layers, or relaxed by ``omega`` (``Move``).

        ``out`` are arrays to write to, none of them among ``states``. How far each layer moved, max |s' - s|, is added
        to ``moves`` as an array with no axes.
        """
        drives, winners = self.drives(states)
        above = (*self.feedback_winners(states, winners)[1:], None)
        out = [None] * len(states) if out is None else out
        return [self._update(n, d, states, above[n], beta, target, out[n], moves, omega) for n, d in enumerate(drives)]

    def sweep(
        self,
        winners: list[Winner],
        states: States,
        beta: Beta = 0.0,
        target: Array | None = None,
        out: States | None = None,
        moves: list[Array] | None = None,
        omega: float = 1.0,
    ) -> list[Array]:
        """Return the states after one even/odd sweep: s^2, s^4, ... from their neighbours, then s^1, s^3, ....

        ``winners`` hold those of every connection at ``states``, as ``drives`` gives them, and are brought up to date.
        A connection's drive is computed once a sweep, when the layer above it moves; the winners that it finds serve
        the feedback until the layer below it moves. So a sweep costs what a synchronous step does.
        """
        new: list[Array] = list(states)
        out = [None] * len(new) if out is None else out
        for first in (1, 0):
            for n in range(first, len(new), 2):
                d = self._renewed_drive(n, new, winners)
                is_last = n + 1 == len(new)
                place = None if is_last else self._place(n + 1, new[n], winners)
                new[n] = self._update(n, d, new, place, beta, target, out[n], moves, omega)
        return new

    # ---- derivatives

    def step_vjp(self, states: States, cotangent: States, by_parameters: bool = True) -> tuple[list[Array], Gradient]:
        """Return the adjoint of a free step at ``states``: J^T cotangent, and (ds'/dtheta)^T cotangent over samples.

        Without ``by_parameters`` the second is left out.

        With delta = sigma'(F) m cotangent, each of the two paths is differentiated by swapping the roles of its maps:

            drive    d_n(s^n):       by s^n       feedback of delta^{n+1} through the forward weights
                                     by w_f       weight_gradient(s^n, delta^{n+1})
            feedback f_n(s^{n+1}):   by s^{n+1}   drive_at_winners of delta^n through the feedback's weights
                                     by w_b       weight_gradient(delta^n, s^{n+1})
        """
        drives, winners = self.drives(states)
        places = self.feedback_winners(states, winners)
        u = self._vector_field(states, drives, places)
        delta = [sigma.derivative(un) * c for sigma, un, c in zip(self.network.activations, u, cotangent, strict=True)]
        self._mask(delta)
        back = [array_module(s).zeros_like(s) for s in states]
        gradient = self.input_gradient(delta[0]) if by_parameters else {}
        for n in range(1, len(states)):
            connection, space = self.network.connections[n], self._spaces[n]
            back[n - 1] += connection.feedback(self._upward[n], delta[n], winners[n], space)
            back[n] += connection.drive_at_winners(self._downward[n], delta[n - 1], places[n], space)
            if by_parameters:
                gradient |= self.forward_gradient(n, states[n - 1], delta[n], winners[n])
                dw = self.feedback_gradient(n, delta[n - 1], states[n], places[n])
                accumulate(gradient, {self.network.feedback_name(n): dw})
        return back, gradient

    def dphi_dtheta(self, states: States, connections: Sequence[int] | None = None) -> Gradient:
        """Return dPhi/dw and dPhi/db at ``states``, summed over samples, for all or the given ``connections``."""
        _, winners = self.drives(states)
        numbers = range(len(states)) if connections is None else connections
        gradient = {}
        for n in numbers:
            gradient |= self.forward_gradient(n, self.below(n, states), states[n], winners[n])
        return gradient

    def below(self, n: int, states: States) -> Array:
        """Return s^n, what connection n starts from."""
        return states[n - 1] if n else self.x

    def input_gradient(self, s1: Array) -> Gradient:
        """Return dPhi/dw and dPhi/db of connection 0, which are linear in s^1 since the input stands still."""
        return self.forward_gradient(0, self.x, s1, self.input_winner)

    def forward_gradient(self, n: int, s: Array, v: Array, winner: Winner) -> Gradient:
        """Return the derivatives of v . d_n(s) by the forward weights and the bias, summed over samples."""
        dw, db = self.network.connections[n].weight_gradient(s, v, winner, self._spaces[n])
        return {f"forward.{n}.weight": dw, f"forward.{n}.bias": db}

    def feedback_gradient(self, n: int, s: Array, v: Array, winner: Winner) -> Array:
        """Return the derivative of s . f_n(v) by the weights of the feedback, summed over samples."""
        return self.network.connections[n].weight_gradient(s, v, winner, self._spaces[n])[0]

    def unscaled(self, gradient: Gradient) -> Gradient:
        """Return a gradient by the weights in use as one by the parameters: divided by keep-probabilities, if masked.

        The arrays are changed in place.
        """
        for name, scale in self._scales.items():
            if name in gradient:
                gradient[name] *= scale
        return gradient

    # ---- inside

    def _make_buffers(self) -> None:
        scratch = Workspace()
        self._spaces = [Workspace(scratch) for _ in self.network.connections]
        self._own_spaces = [Workspace(scratch) for _ in self.network.connections]
        self._space = Workspace()

    def _renewed_drive(self, n: int, states: States, winners: list[Winner]) -> Array:
        """Return the drive of connection n and put its winners among ``winners``."""
        if n == 0:
            return self.input_drive
        d, winners[n] = self._drive(n, states[n - 1], self._spaces[n])
        return d

    def _nudging(self, states: States, beta: Beta, target: Array) -> Array:
        """Return beta dl/ds^L (N, ...). A buffer: valid until the next call."""
        nudging = self.network.dl_ds(self.parameters, states, target, self._space)
        if getattr(beta, "ndim", 0):
            beta = beta.reshape(-1, *[1] * (nudging.ndim - 1))  # (N, 1) -> (N, 1, 1, 1) on a state with places
        nudging *= beta
        return nudging

    def _place(self, n: int, s: Array, winners: Sequence[Winner]) -> Winner:
        """Return where the feedback of connection n puts its values: the drive's winners, or its own at s^n."""
        if not self.network.own_winners:
            return winners[n]
        return self.network.connections[n].winners(self._downward[n], s, self._own_spaces[n])

    def _drive(self, n: int, s: Array, space: Workspace) -> tuple[Array, Winner]:
        return self.network.connections[n].drive(self._upward[n], self.parameters[f"forward.{n}.bias"], s, space)

    def _vector_field(self, states: States, drives: States, places: Sequence[Winner]) -> list[Array]:
        above = (*places[1:], None)
        return [self._layer_field(n, d, states, place) for n, (d, place) in enumerate(zip(drives, above, strict=True))]

    def _layer_field(self, n: int, d: Array, states: States, place: Winner) -> Array:
        """Return the drive ``d`` of s^{n+1} plus the feedback from above, put at ``place``; the last layer has none."""
        u = self._space.take(n, d.shape, d)
        if n + 1 == len(states):
            u[...] = d
            return u
        connection, w = self.network.connections[n + 1], self._downward[n + 1]
        for block, f in connection.feedback_blocks(w, states[n + 1], place, self._spaces[n + 1]):
            array_module(d).add(d[block], f, out=u[block])
        return u

    def _update(
        self,
        n: int,
        d: Array,
        states: States,
        place: Winner,
        beta: Beta,
        target: Array | None,
        out: Array | None,
        moves: list[Array] | None,
        omega: float,
    ) -> Array:
        """Return s^{n+1} moved by its drive ``d``, the feedback, its values put at ``place``, and the nudge.

        A state that is nudged is never over-relaxed: the loss adds its curvature to that of the energy.
        """
        connections, is_last = self.network.connections, n + 1 == len(states)
        nudged = is_last and target is not None
        out = array_module(d).empty_like(d) if out is None else out
        measured = moves is not None and self._mask_of(n) is None
        old = states[n] if omega == 1 else self._before_mask(n, states[n])
        move = Move(self.network.activations[n], old, out, min(omega, 1.0) if nudged else omega, measured)
        if is_last:
            nudge = self._nudging(states, beta, target) if nudged else None
            moved = connections[n].update_last(d, nudge, move, self._space)
        else:
            w, space = self._downward[n + 1], self._spaces[n + 1]
            moved = connections[n + 1].update(w, states[n + 1], place, d, move, space)
        self._mask_layer(n, out)
        if moves is not None:
            moves.append(abs(out - states[n]).max() if moved is None else moved)
        return out

    def _before_mask(self, n: int, s: Array) -> Array:
        """Return sigma's own value of a state s^{n+1} that its mask has scaled."""
        architecture = self.network.architecture
        if self._mask_of(n) is None or architecture.dropout_scaling != "states":
            return s
        out = self._space.take(("before mask", n), s.shape, s)
        return array_module(s).multiply(s, architecture.keep[n], out=out)

    def _mask(self, arrays: Sequence[Array]) -> None:
        """Multiply by the masks, in place: zeros where units are masked."""
        for n, a in enumerate(arrays):
            self._mask_layer(n, a)

    def _mask_layer(self, n: int, a: Array) -> None:
        if (mask := self._mask_of(n)) is not None:
            a *= mask

    def _mask_of(self, n: int) -> Array | None:
        return None if self.masks is None else self.masks[n]


def _scales(architecture: Architecture) -> dict[str, float]:
    """Return 1 / keep by name for the weights that leave a layer with dropout upwards, both ways."""
    scales: dict[str, float] = {}
    if architecture.dropout_scaling == "states":
        return scales
    for n, keep in enumerate(architecture.keep, start=1):
        is_last = n == len(architecture.keep)  # of the states: a readout stands above it, or it has no dropout
        names = ("readout.weight",) if is_last else (f"forward.{n}.weight", f"backward.{n}.weight")
        if keep < 1:
            scales |= dict.fromkeys(names, 1 / keep)
    return scales


def _scaled(masks: Masks, architecture: Architecture) -> list[Array | None]:
    """Return the masks m, or m / keep where states are scaled."""
    if architecture.dropout_scaling == "weights":
        return list(masks)
    return [m if m is None else m / keep for m, keep in zip(masks, architecture.keep, strict=True)]


def _repeat(a: Array | None, times: int) -> Array | None:
    return None if a is None else array_module(a).concatenate([a] * times)
