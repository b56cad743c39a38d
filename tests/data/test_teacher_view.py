from dataclasses import replace

import pytest

from lit_vdistill.data.teacher_view import NoEvidence, ViewConfig
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.types import BoxAt, Evidence

BOX = (0.0, 0.0, 1.0, 1.0)


def seen(make_sample, spans=(), moments=()):
    boxes = tuple(BoxAt(time_s, "dog", BOX) for time_s in moments)
    return ViewConfig().window(make_sample(evidence=Evidence(spans, boxes)))


def test_the_evidence_is_all_that_is_annotated(make_sample):
    assert seen(make_sample, ((2.0, 5.0), (8.0, 9.0)), (1.0,)) == (1.0, 9.0)
    # A moment and a short segment get two seconds, as far as the video has them.
    assert seen(make_sample, moments=(4.0,)) == (3.0, 5.0)
    assert seen(make_sample, ((4.0, 4.5),)) == (3.25, 5.25)
    assert seen(make_sample, moments=(0.2,)) == (0.0, 1.2)


def test_a_sample_without_evidence_has_no_such_part(make_sample):
    with pytest.raises(NoEvidence):
        seen(make_sample)
    # The box of an image has no time.
    with pytest.raises(NoEvidence):
        seen(make_sample, moments=(None,))
    assert ViewConfig(span="video").window(make_sample(evidence=Evidence())) is None


def test_what_is_not_said_is_as_the_student_has_it():
    student = FrameConfig(max_frames=8, max_pixels=5000, min_pixels=100)
    assert ViewConfig().frames(student) == student
    view = ViewConfig(fps=2.0, max_frames=32, max_pixels=9000).frames(student)
    assert view == replace(student, fps=2.0, max_frames=32, max_pixels=9000)
