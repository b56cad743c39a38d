from concurrent.futures import ThreadPoolExecutor

from lit_vdistill.world import build
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig


def test_many_scenes_on_all_processors_are_the_same_world(tmp_path, monkeypatch):
    config = WorldConfig(train_videos=20, val_videos=1, test_videos=2)
    build_world(tmp_path / "one", config)
    monkeypatch.setattr(build, "MANY", 2)
    build_world(tmp_path / "many", config)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*"))
    assert names == sorted(p.relative_to(tmp_path / "many") for p in (tmp_path / "many").rglob("*"))
    for name in names:
        one, many = tmp_path / "one" / name, tmp_path / "many" / name
        assert one.is_dir() or one.read_bytes() == many.read_bytes(), name


def test_only_what_is_trained_on_has_a_pool(world):
    from lit_vdistill.pool.store import PoolStore

    pools = PoolStore(world / "pool.jsonl").load()
    assert all(key.startswith("train") for key in pools)
    assert {len(pool) for pool in pools.values()} == {8}


def test_two_at_once_render_one_world(tmp_path):
    config = WorldConfig(train_videos=3, val_videos=1, test_videos=1)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: build_world(tmp_path / "world", config), range(2)))
    assert (tmp_path / "world" / "world.json").is_file()
    assert not (tmp_path / "world.partial").exists()
