"""How weights get to a server, without one."""

import base64
import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.models.weights import checkpoint_weights, whole_weights
from lit_vdistill.rollouts.weight_transport import FileTransport, NCCLTransport
from lit_vdistill.served.vllm_client import RolloutServer

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


class Told(RolloutServer):
    """Notes what a server is told."""

    def __init__(self):
        super().__init__("http://nobody", 1.0)
        self.updates = []

    def send_update(self, told):
        self.updates.append(told)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_file_is_replaced_whole_and_goes_with_its_transport(tmp_path, is_named):
    transport, server = FileTransport(str(tmp_path / "shared") if is_named else None), Told()
    transport.take(WEIGHTS)
    transport.send(server)
    transport.take({name: tensor + 1 for name, tensor in WEIGHTS.items()})
    transport.send(server)
    first, path = (Path(update["path"]) for update in server.updates)
    assert first == path
    assert path.is_absolute()
    assert (path.parent.parent == tmp_path / "shared") is is_named
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
    found = load_file(path)
    assert all(torch.equal(found[name], WEIGHTS[name] + 1) for name in WEIGHTS)
    del transport
    assert not path.parent.exists()


def test_sent_weights_are_a_checkpoint_of_the_family(families, tmp_path):
    """Transformers reads them, and nothing but Qwen3-VL's experts differs from what it writes."""
    for name, (model, _) in families.items():
        sent = checkpoint_weights(model)
        model.save_pretrained(tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        written = load_file(file)
        assert sent.keys() == written.keys()
        turned = {key for key, weight in written.items() if weight.shape != sent[key].shape}
        assert bool(turned) is (name == "qwen3-vl-moe")
        assert all(".mlp.experts." in key for key in turned)
        save_file(sent, file, {"format": "pt"})
        read = load_model(VLMConfig(str(tmp_path / name))).state_dict()
        assert all(torch.equal(weight, read[key]) for key, weight in model.state_dict().items())
        assert checkpoint_weights(model, is_kept=False) == {}
        assert not any(tensor.requires_grad for _, tensor in whole_weights(model))


def _receive(told, inbox, outbox):
    """A vLLM worker's side, on the second GPU."""
    from torch.cuda import nccl

    torch.cuda.set_device(1)
    group = nccl.init_rank(told["world_size"], base64.b64decode(told["nccl_unique_id_b64"]), 1)
    nccl.all_reduce([torch.ones(1, device="cuda:1")], comms=[group])
    while (update := inbox.get()) is not None:
        found = {}
        for name, dtype, shape in zip(
            update["names"], update["dtype_names"], update["shapes"], strict=True
        ):
            found[name] = torch.empty(shape, dtype=getattr(torch, dtype), device="cuda:1")
            nccl.broadcast([found[name]], comms=[group])
        torch.cuda.synchronize()
        outbox.put({name: tensor.cpu() for name, tensor in found.items()})


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_nccl_brings_every_weight_to_another_gpu():
    context = multiprocessing.get_context("spawn")
    inbox, outbox = context.Queue(), context.Queue()

    class Worker(Told):
        def num_workers(self):
            return 1

        def begin_transfer(self, agreed):
            context.Process(target=_receive, args=(agreed, inbox, outbox), daemon=True).start()

        def send_update(self, told):
            inbox.put(told)
            self.updates.append(outbox.get())

    transport, server = NCCLTransport(), Worker()
    for more in (0, 1):
        transport.take({name: tensor + more for name, tensor in WEIGHTS.items()})
        transport.send(server)
        assert all(torch.equal(server.updates[-1][n], WEIGHTS[n] + more) for n in WEIGHTS)
    inbox.put(None)
