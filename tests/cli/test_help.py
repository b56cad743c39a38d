import re
import subprocess
import sys

import pytest

from lit_vdistill.__main__ import TRAINING_COMMANDS, main
from lit_vdistill.cli.help import DATA, TRAINER, help_page, stages
from lit_vdistill.cli.options import option_names


@pytest.mark.parametrize("command", TRAINING_COMMANDS)
def test_help_names_everything_that_can_be_set(command, capsys):
    main([command, "--help"])
    page = capsys.readouterr().out
    shown = set(re.findall(r"^ +--([\w.]+)", page, re.M))
    assert shown >= {"config", "run_dir", "ckpt_path", "stage1_config", "seed_everything"}
    below = {n for path in stages() for n in option_names(path)} - {"rewards", "judge"}
    assert shown >= {f"model.{name}" for name in below}
    assert shown >= {f"data.{name}" for name in option_names(DATA)}
    assert shown >= {f"trainer.{name}" for name in option_names(TRAINER)}
    assert TRAINING_COMMANDS[command] in page
    assert max(map(len, page.splitlines())) <= 120


def test_help_says_where_stages_differ():
    page = " ".join(help_page("fit", "train").split())
    assert "--model.disc, of RMSDModule" in page
    assert "[0.001; 0.0 in OPDModule, SelfDistillationModule, VISDModule]" in page or (
        "[0.0; 0.001 in OnPolicyModule, RMSDModule]" in page
    )


def test_a_config_narrows_help_to_its_stage(capsys):
    main(["fit", "--config", "configs/rmsd.yaml", "--help"])
    page = capsys.readouterr().out
    assert "--model.disc.lr" in page
    assert "VISDModule" not in page
    main(["fit", "--model", "VISDModule", "-h"])
    assert "--model.credit.mix" in capsys.readouterr().out


def test_help_is_quick_as_it_imports_no_framework():
    code = (
        "import sys\nfrom lit_vdistill.__main__ import main\nmain(['fit', '--help'])\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=20)
