"""The simulated teacher as a source of `pool collect`, in the same process and without waiting."""

from functools import cached_property

from lit_vdistill.types import TeacherResponse, VideoSample
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.scenes import Scene, scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher


class InProcessTeacher:
    """Answers training questions of the embedded world as its own pool has it, and beyond."""

    concurrency: int = 1
    spent: float | None = None

    def __init__(self, world: WorldConfig = WorldConfig()) -> None:
        """Nothing is rendered.

        Args:
            world: The world that the questions are of.
        """
        self.world = world
        self.teacher = SimulatedTeacher(world)

    async def aclose(self) -> None:
        """There is nothing to close."""

    @cached_property
    def scenes(self) -> dict[str, Scene]:
        """By id."""
        return {scene.id: scene for scene in scenes("train", self.world)}

    async def respond(self, sample: VideoSample, first: int, count: int) -> list[TeacherResponse]:
        """See `Teacher`.

        Raises:
            ValueError: For a question about no scene of this world.
        """
        scene = self.scenes.get(str(sample.meta.get("scene")))
        if scene is None:
            raise ValueError(
                f"sample {sample.id}: about no scene of an embedded world of "
                f"{self.world.train_videos} training videos and seed {self.world.seed}; the "
                "simulated teacher knows no other (teacher.world)"
            )
        return self.teacher.respond(sample, scene, count, first)
