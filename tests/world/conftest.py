import pytest


@pytest.fixture(scope="session")
def in_pixels():
    """Boxes of a sample in the pixels of the world's frames."""
    import numpy as np

    from lit_vdistill.pool.text_units import in_text_units
    from lit_vdistill.types import Medium
    from lit_vdistill.world.scenes import FRAME_PX

    frames = np.zeros((1, FRAME_PX, FRAME_PX, 3), dtype=np.uint8)
    return lambda sample: in_text_units(sample, Medium("video", frames, (0.0,)), "pixels")
