"""What the embedded world is made of: size, seed, and how good its simulated teacher is."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BeliefNoise:
    """How often the teacher is wrong about what is right or wrong as a whole: a colour, a digit.

    A belief is known (every sample has it right), contested (three samples of four have it right)
    or missed (none has). So the best of many samples has all but the missed right, the worst only
    the known: R-MSD §4.4's quality spans are [known, known + contested].
    """

    contested: float
    """Share of beliefs on which samples of one question differ."""
    missed: float = 0.0
    """Share of beliefs that no sample has right."""


@dataclass(frozen=True)
class OverlapNoise:
    """How well the teacher's segments and boxes overlap the true ones, as IoU."""

    mean: float
    """Mean over all segments or boxes."""
    across: float
    """Standard deviation across questions."""
    within: float
    """Standard deviation across samples of one question."""


@dataclass(frozen=True)
class TeacherNoise:
    """Noise by task; the defaults give the spreads of R-MSD §4.4 (`experiments/spreads.py`).

    The paper gives MCQ, visual QA (here the boxes), OCR, numerical and the rate of malformed
    responses; the others are chosen so that all tasks together have its mean and deviation.
    """

    mcq: BeliefNoise = BeliefNoise(0.16)
    binary: BeliefNoise = BeliefNoise(0.25, 0.08)
    numerical: BeliefNoise = BeliefNoise(0.35)
    ocr: BeliefNoise = BeliefNoise(0.46, 0.15)
    temporal_mcq: BeliefNoise = BeliefNoise(0.25, 0.05)
    """Its option; its segment is one of `times`."""
    spatio_temporal_qa: BeliefNoise = BeliefNoise(0.25, 0.18)
    open_ended: BeliefNoise = BeliefNoise(0.25, 0.18)
    times: OverlapNoise = OverlapNoise(0.60, 0.22, 0.12)
    boxes: OverlapNoise = OverlapNoise(0.67, 0.27, 0.17)
    malformed: float = 0.002
    """Share of responses whose format is broken."""
    malformed_temporal: float = 0.10
    """The same for questions about times."""
    disagreement: float = 0.03
    """Share of responses whose answer comes from another look than their reasoning."""


@dataclass(frozen=True)
class TeacherConfig:
    """The simulated teacher of the embedded world."""

    pool_size: int = 8
    """Responses a question in the pool; K of R-MSD Eq. 1 are its first ones."""
    noise: TeacherNoise = field(default_factory=TeacherNoise)
    noise_free: bool = False
    """It sees everything as it is, whatever `noise` says: all responses are right."""
    short: float = 0.25
    """Share of responses whose reasoning says no more than the answer needs."""
    long: float = 0.25
    """Share of responses whose reasoning is in whole sentences. Style says nothing about quality: a
    discriminator that pays for it has learnt the wrong thing."""


@dataclass(frozen=True)
class WorldConfig:
    """Size and seed of the embedded world."""

    train_videos: int = 3000
    """Videos of the training split, levels in turn; each carries nine questions."""
    val_videos: int = 60
    """Videos of the split on which settings and checkpoints are chosen."""
    test_videos: int = 402
    """Videos of the split that is only reported."""
    seed: int = 0
    """Seed of scenes, questions and of the simulated teacher."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Whose responses go with the training split."""
