# One process per core, one thread each: oversubscribed OpenMP threads cost 10 to 30 times.
export OMP_NUM_THREADS = 1
PY = .venv/bin/python

.PHONY: quickstart test check
.venv/installed: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q torch==2.13.0
	$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

quickstart: .venv/installed
	.venv/bin/distill-resist run quickstart

test: .venv/installed
	$(PY) -m pytest -q

check: .venv/installed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
