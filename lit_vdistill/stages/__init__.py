"""The training stages, one `LightningModule` each."""

from lit_vdistill.stages.improbable_tokens import ImprobableTokensModule
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.opd import OPDModule
from lit_vdistill.stages.rmsd import RMSDModule
from lit_vdistill.stages.self_distillation import SelfDistillationModule
from lit_vdistill.stages.sft import PrivilegedSFTModule, SFTModule
from lit_vdistill.stages.visd import VISDModule

__all__ = [
    "ImprobableTokensModule",
    "OPDModule",
    "OnPolicyModule",
    "PrivilegedSFTModule",
    "RMSDModule",
    "SFTModule",
    "SelfDistillationModule",
    "VISDModule",
]
