# Set-up and every command of the README. Python 3.11-3.13; PYTHON=python3.12 chooses another one.
PYTHON ?= python3
JOBS ?= 2  # test processes, one torch thread each
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS := 1
export MUJOCO_GL ?= osmesa

.PHONY: crossing zoo zoo-table demo mt10 quality foresight table robustness augmentation mixture world_model test quick check bench mutants kill setup clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py

table: $(VENV)/.ready
	$(BIN)/python examples/table.py
	$(BIN)/python docs/generate.py

# Ten tasks, one model; `MT10="--tasks mt50"` takes all fifty, `--minutes 30` ends a sitting, the next one goes on.
mt10: $(VENV)/.ready
	$(BIN)/python examples/mt10.py $(MT10)
	$(BIN)/python docs/generate.py

# What helps on hard tasks, one change at a time; `QUALITY="--minutes 30"` ends a sitting, the next one goes on.
quality: $(VENV)/.ready
	$(BIN)/python examples/quality.py $(QUALITY)
	$(BIN)/python docs/generate.py

# Policies with and without a future, with 10 to 100 demonstrations; FORESIGHT as QUALITY.
foresight: $(VENV)/.ready
	$(BIN)/python examples/foresight.py $(FORESIGHT)
	$(BIN)/python docs/generate.py

robustness: $(VENV)/.ready
	$(BIN)/python examples/robustness.py
	$(BIN)/python docs/generate.py

# One model on two robots, beside models of each alone; resumable as zoo-table is.
mixture: $(VENV)/.ready
	$(BIN)/python examples/mixture.py $(MIXTURE)
	$(BIN)/python docs/generate.py

# Twelve trainings; `AUGMENTATION="--minutes 30"` ends a sitting, the next one goes on.
augmentation: $(VENV)/.ready
	$(BIN)/python examples/augmentation.py $(AUGMENTATION)
	$(BIN)/python docs/generate.py

world_model: $(VENV)/.ready
	$(BIN)/python examples/world_model.py
	$(BIN)/python docs/generate.py

# Systems of the field, trained for the same time; `ZOO="--minutes 30"` ends a sitting, the next one goes on.
zoo-table: $(VENV)/.ready
	$(BIN)/python examples/zoo_table.py $(ZOO)
	$(BIN)/python docs/generate.py

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Without simulators, long trainings and whole processes: an answer in a coffee break.
quick: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not sim and not learns and not whole"

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

# 2,000 broken datasets and checkpoints, each read as the original or refused (docs/checks.md).
mutants: $(VENV)/.ready
	$(BIN)/python tests/mutants.py 2000

# Verbs killed at 100 random moments; each goes on to the results of an undisturbed run.
kill: $(VENV)/.ready
	$(BIN)/python -m benchmarks.kill

# Every substrate x estimator x coupling; `make test` tries every pair of parts.
crossing: $(VENV)/.ready
	WAMKIT_WHOLE=1 $(BIN)/python -m pytest tests/zoo/test_cross_product.py

# Every check of every system of the field; records what `wamkit zoo` shows.
zoo: $(VENV)/.ready
	JOBS=$(JOBS) $(BIN)/python tests/zoo/record.py

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash scripts/setup.sh
	touch $@

clean:
	rm -rf $(VENV) runs
