"""Collecting a pool: what is on disk counts, and nothing that came is lost."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from lit_vdistill import jsonl
from lit_vdistill.__main__ import main
from lit_vdistill.media.video import MediaError
from lit_vdistill.pool.collect import Collector, Teacher
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import read_records, write_records
from lit_vdistill.served.errors import BudgetReached, CallFailed, EndpointFailed
from lit_vdistill.types import TeacherResponse
from tests.served.misbehaving_server import (
    Server,
    answers,
    cuts,
    drips,
    fails,
    raw,
    says,
    slow,
    stalls,
)


class Scripted:
    """A teacher in this process; `says` gives texts or raises."""

    concurrency, spent = 3, None

    def __init__(self, says=lambda sample, first, count: ["t"] * count):
        self.says, self.asked = says, []

    async def aclose(self):
        pass

    async def respond(self, sample, first, count):
        self.asked.append((sample.id, first, count))
        await asyncio.sleep(0)
        texts = self.says(sample, first, count)
        return [
            TeacherResponse(sample.id, first + i, t, "m", 1.0, 0.9) for i, t in enumerate(texts)
        ]


@pytest.fixture
def samples(make_sample):
    return [make_sample("mcq", "B", id=f"s{i}", media=f"s{i}.mp4") for i in range(12)]


@pytest.fixture
def collected(tmp_path, samples):
    """Collects into one pool; gives the outcome and the pool."""

    def run(teacher, size=3, **options):
        assert isinstance(teacher, Teacher)
        store = PoolStore(tmp_path / "pool.jsonl")
        collector = Collector(teacher, store, size, **options)

        async def go():
            async with collector.opened():
                return await collector.run(samples)

        outcome = asyncio.run(go())
        return outcome, store.load() if store.path.is_file() else {}

    return run


def test_every_sample_gets_its_pool_and_what_is_there_is_not_asked_for(collected, tmp_path):
    teacher = Scripted()
    outcome, pools = collected(teacher)
    assert (outcome.had, outcome.added, outcome.failed, outcome.stopped) == (0, 36, [], None)
    assert {key: len(pool) for key, pool in pools.items()} == {f"s{i}": 3 for i in range(12)}
    assert len(teacher.asked) == 12
    again = Scripted()
    outcome, _ = collected(again, size=5)
    assert (outcome.had, outcome.added) == (36, 24)
    assert {call[1:] for call in again.asked} == {(3, 2)}
    assert not (tmp_path / "pool.jsonl.calls").exists()


def test_gaps_are_filled_and_calls_are_as_small_as_told(collected, tmp_path):
    given = [TeacherResponse("s0", index, "t", "m", 1.0, 0.9) for index in (0, 2, 5)]
    PoolStore(tmp_path / "pool.jsonl").append(given)
    teacher = Scripted()
    _, pools = collected(teacher, size=6, choices=2)
    assert [call[1:] for call in teacher.asked if call[0] == "s0"] == [(1, 1), (3, 2)]
    assert [r.index for r in pools["s0"]] == [*range(6)]


def test_fewer_texts_than_asked_for_are_kept_and_the_rest_is_asked_for_again(collected):
    teacher = Scripted(lambda sample, first, count: ["t"])
    outcome, pools = collected(teacher)
    assert outcome.added == 36
    assert all(len(pool) == 3 for pool in pools.values())
    assert [call for call in teacher.asked if call[0] == "s4"] == [
        ("s4", 0, 3), ("s4", 1, 2), ("s4", 2, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [CallFailed("too long"), MediaError("no such file")])
def test_a_sample_that_fails_is_named_and_all_others_go_on(collected, error):
    def says(sample, first, count):
        if sample.id == "s5":
            raise error
        return ["t"] * count

    outcome, pools = collected(Scripted(says))
    (bad,) = outcome.failed
    assert (bad.id, bad.place, bad.reason) == ("s5", "s5.mp4", str(error))
    assert (outcome.added, outcome.stopped, "s5" in pools) == (33, None, False)
    outcome, pools = collected(Scripted())
    assert (outcome.added, outcome.asked_again, len(pools["s5"])) == (3, 0, 3)


@pytest.mark.parametrize("error", [EndpointFailed("wrong key"), BudgetReached("spent all")])
def test_what_no_call_can_pass_ends_the_asking(collected, error):
    def says(sample, first, count):
        raise error

    teacher = Scripted(says)
    outcome, _ = collected(teacher)
    assert outcome.stopped == str(error)
    assert outcome.failed == []
    assert len(teacher.asked) == teacher.concurrency


def test_a_teacher_that_is_down_is_not_asked_about_every_sample(collected, samples):
    def says(sample, first, count):
        raise CallFailed("connection refused")

    samples *= 4
    teacher = Scripted(says)
    outcome, _ = collected(teacher)
    assert outcome.stopped == "11 calls one after another have failed, the last: connection refused"
    assert 11 <= len(teacher.asked) <= 13


def test_any_other_error_is_not_hidden(collected):
    def says(sample, first, count):
        raise ZeroDivisionError("a mistake of ours")

    with pytest.raises(ZeroDivisionError):
        collected(Scripted(says))


def test_more_are_asked_for_while_they_disagree(collected):
    teacher = Scripted()

    def more(sample, known):
        return sample.id in ("s1", "s2") and len(known) < 6

    outcome, pools = collected(teacher, more=more)
    assert {key: len(pool) for key, pool in pools.items() if len(pool) > 3} == {"s1": 6, "s2": 6}
    assert outcome.added == 36 + 6
    # In another run what is there counts as extra too.
    _, pools = collected(Scripted(), more=lambda sample, known: len(known) < 9, most_extra=8)
    assert sum(map(len, pools.values())) == 36 + 8


def test_two_processes_do_not_collect_one_pool(collected, tmp_path):
    with (
        FileLock(tmp_path / "pool.jsonl.lock"),
        pytest.raises(ValueError, match="another process is collecting it"),
    ):
        collected(Scripted())


def test_a_medium_that_cannot_be_judged_by_is_named_and_its_responses_stay(collected):
    def more(sample, known):
        if sample.id == "s3":
            raise MediaError("no size")
        return False

    outcome, pools = collected(Scripted(), more=more)
    (bad,) = outcome.failed
    assert (bad.id, bad.reason) == ("s3", "no size")
    assert {len(pool) for pool in pools.values()} == {3}


@pytest.mark.parametrize("line", ["[]", '{"sample_id": "s0"}', '{"sample_id": 3, "first": 0}'])
def test_a_journal_that_is_none_is_refused(collected, tmp_path, line):
    (tmp_path / "pool.jsonl.calls").write_text(line + "\n")
    with pytest.raises(ValueError, match="pool.jsonl.calls, line 1: no line of a journal"):
        collected(Scripted())


def test_a_call_that_was_open_counts_unless_its_responses_are_there(collected, tmp_path):
    """Killed between the pool's line and the journal's, nothing is asked for again."""
    calls = [("s0", "begun"), ("s1", "begun"), ("s2", "begun"), ("s2", "failed"), ("s3", "stored")]
    journal = [{"sample_id": n, "first": 0, "count": 3, "state": state} for n, state in calls]
    jsonl.write(tmp_path / "pool.jsonl.calls", journal)
    have = [TeacherResponse("s0", index, "t", "m", 1.0, 0.9) for index in range(3)]
    PoolStore(tmp_path / "pool.jsonl").append(have)
    outcome, _ = collected(Scripted())
    assert outcome.asked_again == 1  # s1


@pytest.fixture
def asked_of(tmp_path, world):
    """A config of `pool collect` on 24 questions of a small world, and how to run it."""
    samples, _ = read_records(world / "train.jsonl")
    write_records(tmp_path / "train.jsonl", samples[:24])

    def write(server, size=4, **endpoint):
        endpoint = {"attempt_s": 1.0, "deadline_s": 6.0, "concurrency": 4, **endpoint}
        teacher = {
            "class_path": "lit_vdistill.pool.served_teacher.ServedTeacher",
            "init_args": {
                "endpoint": {"base_url": server.url, "model": "m", **endpoint},
                "media_root": str(world),
                "prompt": {"frames": {"max_frames": 2, "max_pixels": 4096}},
            },
        }
        config = {"teacher": teacher, "pool_size": size, "pool_path": str(tmp_path / "pool.jsonl")}
        config["train_path"] = str(tmp_path / "train.jsonl")
        (tmp_path / "collect.yaml").write_text(yaml.safe_dump(config))
        return ["pool", "collect", "--config", str(tmp_path / "collect.yaml")]

    return write


def started(arguments, **environment):
    command = [sys.executable, "-m", "lit_vdistill", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment,
    )  # fmt: skip


def calls_asked(server):
    """How often each question was asked, by its seed, which is a function of sample and index."""
    return Counter(asked["seed"] for asked in server.asked)


def test_killed_five_times_it_ends_with_every_response_once(asked_of, tmp_path):
    """What is asked again was in flight, and its number is said."""
    rng = random.Random(0)
    with Server(slow(0.1)) as server:
        arguments = asked_of(server)
        told = []
        for kill in range(6):
            before = len(server.asked)
            run = started(arguments)
            if kill < 5:
                deadline = time.monotonic() + 30
                while len(server.asked) < before + 2 and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.15))
                run.kill()
            out, error = run.communicate(timeout=60)
            told += [int(line.split()[0]) for line in out.splitlines() if "in flight" in line]
        assert run.returncode == 0, (out, error)
        again = sum(calls_asked(server).values()) - 24
    pools = PoolStore(tmp_path / "pool.jsonl").load()
    assert {len(pool) for pool in pools.values()} == {4}
    assert len(pools) == 24
    lines = (tmp_path / "pool.jsonl").read_text().splitlines()
    assert len(lines) == 96
    # A call may have been killed before it reached the server.
    assert 0 < again <= sum(told) <= 5 * 4


def test_ctrl_c_lets_calls_come_to_their_end(asked_of, tmp_path):
    with Server(slow(0.2)) as server:
        arguments = asked_of(server)
        run = started(arguments)
        while len(server.asked) < 6:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        out, error = run.communicate(timeout=60)
        assert run.returncode == 1
        assert "stopped: SIGINT: calls in flight come to their end" in out
        assert "Traceback" not in error
        begun = len(server.asked)
        assert begun < 24
        assert len(PoolStore(tmp_path / "pool.jsonl").load()) == begun
        main(arguments)
        assert max(calls_asked(server).values()) == 1
        assert len(server.asked) == 24


def test_under_all_kinds_of_trouble_nothing_is_lost(asked_of, tmp_path, capsys, monkeypatch):
    """And nothing that was written holds the key, which the server sends back."""
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    rng = random.Random(1)
    echo = fails(503, body=b'{"error": {"message": "Bearer sk-very-secret"}}')
    trouble = [
        fails(429), fails(429, ("Retry-After", "0.2")), fails(500), cuts, raw(b'{"choi'),
        raw(b"\xff"), raw(b'{"choices": []}'), says("only one"), says(*"abcdefg"), echo,
        stalls(1.3), drips,
    ]  # fmt: skip
    script = [answers] * 30 + trouble * 2
    rng.shuffle(script)
    with Server(*script, answers) as server:
        main(asked_of(server, api_key_env="TEACHER_KEY", deadline_s=60.0))
        assert server.most_in_flight <= 4
    pools = PoolStore(tmp_path / "pool.jsonl").load()
    assert {len(pool) for pool in pools.values()} == {4}
    assert len(pools) == 24
    said = capsys.readouterr()
    assert "96 responses, 96 new" in said.out
    written = b"".join(p.read_bytes() for p in Path(tmp_path).rglob("*") if p.is_file())
    assert b"sk-very-secret" not in written + (said.out + said.err).encode()
    response = pools[next(iter(pools))][0]
    assert response.call is not None
    assert response.call.prompt.startswith("grounded/")


def test_what_failed_is_said_with_an_exit_code(asked_of, capsys):
    with Server(fails(401)) as server, pytest.raises(SystemExit) as stop:
        main(asked_of(server))
    assert stop.value.code == 1
    assert "HTTP 401" in capsys.readouterr().out
    with (
        Server(*[answers] * 5, fails(400), answers) as server,
        pytest.raises(SystemExit) as stop,
    ):
        main(asked_of(server))
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "1 samples lack responses; the same command asks again" in said
    assert "HTTP 400" in said


def test_the_teacher_sees_the_students_frames_with_their_times(asked_of, world):
    with Server(answers) as server:
        main(asked_of(server, size=1))
    turns = server.asked[0]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user"]
    kinds = [part["type"] for part in turns[1]["content"]]
    assert kinds == ["text", "image_url", "text"] * 2 + ["text", "text"]
    assert turns[1]["content"][0]["text"].startswith("Frame 1, 0.0s")
    address = turns[1]["content"][1]["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")


def test_the_simulated_teacher_gives_the_worlds_own_pool(world, tmp_path, capsys):
    config = json.loads((world / "world.json").read_text())
    pool = tmp_path / "pool.jsonl"
    teacher = "lit_vdistill.world.in_process_teacher.InProcessTeacher"
    arguments = [f"--teacher={teacher}", f"--pool_path={pool}", "--pool_size=8"]
    size = f"--teacher.world.train_videos={config['train_videos']}"
    main(["pool", "collect", *arguments, size, f"--train_path={world}/train.jsonl"])
    ours, theirs = (PoolStore(path).load() for path in (pool, world / "pool.jsonl"))
    assert ours == theirs
